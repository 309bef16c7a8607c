package condvar_test

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"example.com/condvar/internal/fuzz"
)

// F6. F7.
func FuzzCapacityResource(f *testing.F) {
	for _, seed := range fuzz.ResourceSeeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		synctest.Test(t, func(t *testing.T) { fuzz.Resource(t, data) })
	})
}

// F5.
func FuzzCond(f *testing.F) {
	for _, seed := range fuzz.CondSeeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		synctest.Test(t, func(t *testing.T) { fuzz.Cond(t, data) })
	})
}

// F5. F6. F7.
func TestFuzz_RandomOperations(t *testing.T) {
	const ops = 40
	inputs := 3000
	if testing.Short() { // an emulator takes 20 times as long
		inputs = 500
	}
	run := func(f func(*testing.T, []byte)) func(*testing.T) {
		return func(t *testing.T) {
			for seed := range uint64(inputs) {
				rng := rand.New(rand.NewPCG(seed, 0))
				data := make([]byte, 1+2*ops)
				for i := range data {
					data[i] = byte(rng.Uint32())
				}
				synctest.Test(t, func(t *testing.T) { f(t, data) })
			}
		}
	}
	t.Run("CapacityResource", run(fuzz.Resource))
	t.Run("Cond", run(fuzz.Cond))
}
