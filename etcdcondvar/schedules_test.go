package etcdcondvar_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/condvar"
	"example.com/condvar/etcdcondvar"
)

var seedFlag = flag.Uint64("seed", 0, "run this schedule alone")

// A belief is when a call held its permits, as its process saw it.
type belief struct {
	n          int64
	token      int64
	begin, end time.Time
	lost       bool
}

// Fleet test 45. TestSchedules runs processes on an engine that delays and
// loses requests, and compares their beliefs with the history of the engine.
// -run TestSchedules -seed N runs one seed. CONDVAR_VERIFY=long runs 10,000
// seeds, and CONDVAR_SCHEDULES=N runs N.
func TestSchedules(t *testing.T) {
	t.Parallel()
	first, last := uint64(1), uint64(1000)
	if raced {
		last = 100
	}
	if n, err := strconv.ParseUint(os.Getenv("CONDVAR_SCHEDULES"), 10, 64); err == nil {
		last = n
	} else if os.Getenv("CONDVAR_VERIFY") == "long" {
		last = 10_000
	}
	if *seedFlag != 0 {
		first, last = *seedFlag, *seedFlag
	}
	var next atomic.Uint64
	next.Store(first - 1)
	var mu sync.Mutex
	var total outcome
	t.Run("seeds", func(t *testing.T) {
		for i := range runtime.GOMAXPROCS(0) {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				for seed := next.Add(1); seed <= last; seed = next.Add(1) {
					synctest.Test(t, func(t *testing.T) {
						got := runSchedule(t, seed)
						mu.Lock()
						defer mu.Unlock()
						total.granted += got.granted
						total.lost += got.lost
						total.canceled += got.canceled
					})
					require.False(t, t.Failed(), "seed %d", seed)
				}
			})
		}
	})
	t.Logf("%d granted, %d lost, %d canceled", total.granted, total.lost, total.canceled)
	require.Positive(t, total.granted)
	if first != last {
		require.Positive(t, total.lost)
		require.Positive(t, total.canceled)
	}
}

type outcome struct{ granted, lost, canceled int }

func runSchedule(t *testing.T, seed uint64) (result outcome) {
	e := newEngine(seed)
	defer e.cancel()
	rng := rand.New(rand.NewPCG(seed, 1))
	e.faults = faults{
		loseRequest: rng.IntN(8), loseAnswer: rng.IntN(8), muteWatch: rng.IntN(30),
		delay: time.Duration(1+rng.IntN(300)) * time.Millisecond,
	}
	var mu sync.Mutex
	var beliefs []*belief
	var resources []*etcdcondvar.Resource
	var wg sync.WaitGroup
	for range 3 {
		client, link := e.client()
		cuts := rand.New(rand.NewPCG(seed, rng.Uint64()))
		wg.Go(func() {
			rng := cuts
			for range 3 {
				time.Sleep(time.Duration(rng.IntN(6000)) * time.Millisecond)
				e.cut(link, time.Duration(rng.IntN(7000))*time.Millisecond)
			}
		})
		r := etcdcondvar.New(client, "r", 3, etcdcondvar.WithTTL(4*time.Second))
		resources = append(resources, r)
		for range 3 {
			rng := rand.New(rand.NewPCG(seed, rng.Uint64()))
			wg.Go(func() {
				for range 6 {
					b, err := useOnce(r, rng)
					mu.Lock()
					switch {
					case err == nil:
						beliefs = append(beliefs, b)
					case errors.Is(err, context.DeadlineExceeded):
						result.canceled++
					case !errors.Is(err, etcdcondvar.ErrFull) && !errors.Is(err, condvar.ErrTooLarge):
						t.Errorf("seed %d: %v", seed, err)
					}
					mu.Unlock()
				}
			})
		}
	}
	wg.Go(func() {
		for _, capacity := range []int64{int64(rng.IntN(5)), int64(rng.IntN(3)), 3} {
			time.Sleep(time.Duration(rng.IntN(8)) * time.Second)
			if err := resources[0].Resize(context.Background(), capacity); err != nil {
				t.Errorf("seed %d: Resize: %v", seed, err)
			}
		}
	})
	time.AfterFunc(30*time.Second, func() { e.set(faults{delay: 10 * time.Millisecond}) })
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Minute):
		for _, r := range resources {
			t.Logf("%v", r)
		}
		fleet, err := resources[0].Fleet(t.Context())
		t.Fatalf("seed %d: a call hangs: %+v %v", seed, fleet, err)
	}
	e.set(faults{})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, r := range resources {
		require.NoError(t, r.Drain(ctx), "seed %d: %v", seed, r)
		require.Zero(t, r.Stats().InUse)
		require.Zero(t, r.Stats().Waiting)
	}
	time.Sleep(40 * time.Second) // lost leases expire, and late requests arrive
	e.mu.Lock()
	defer e.mu.Unlock()
	require.Len(t, e.keys, 1, "seed %d: only cap is left", seed)
	require.Empty(t, e.leases, "seed %d", seed)
	for _, b := range beliefs {
		if b.lost {
			result.lost++
		}
	}
	result.granted = len(beliefs)
	for _, wrong := range judge(e.history, beliefs) {
		t.Errorf("seed %d: %s", seed, wrong)
	}
	return result
}

// useOnce makes one call, and holds its permits for a random time.
func useOnce(r *etcdcondvar.Resource, rng *rand.Rand) (*belief, error) {
	timeout := time.Hour
	if rng.IntN(3) == 0 {
		timeout = time.Duration(rng.IntN(6000)) * time.Millisecond
	}
	n, hold, try := int64(1+rng.IntN(3)), time.Duration(rng.IntN(2000))*time.Millisecond, rng.IntN(4) == 0
	if rng.IntN(2) == 0 {
		n = 1
	}
	switch rng.IntN(10) {
	case 0:
		hold = 0
	case 1, 2, 3:
		hold *= 5
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	acquire := r.AcquireN
	if try {
		acquire = r.TryAcquireN
	}
	p, err := acquire(ctx, n)
	if err != nil {
		return nil, err
	}
	b := &belief{n: n, token: p.Token(), begin: time.Now()}
	ended := p.Context(context.Background())
	select {
	case <-ended.Done():
	case <-time.After(hold):
	}
	b.end = time.Now()
	b.lost = p.Err() != nil
	p.Release()
	return b, nil
}

// A judged is a ticket in the history of an engine.
type judged struct {
	n, token     int64
	ahead        int // older tickets that were live when it was put
	passed, gone bool
	passedAt     time.Time
	deletedAt    time.Time
}

// replay computes from a history which tickets were granted, by the rule of the
// contract. It parses the keys itself, and calls nothing in the package.
func replay(history []change) (byToken map[int64]*judged, inUse int64) {
	var capacity int64
	var line []*judged
	byKey, byToken := map[string]*judged{}, map[int64]*judged{}
	for i, c := range history {
		key, value := string(c.event.Kv.Key), string(c.event.Kv.Value)
		first, _, _ := strings.Cut(value, " ")
		switch {
		case strings.HasSuffix(key, "/cap"):
			capacity, _ = strconv.ParseInt(first, 10, 64)
		case !strings.Contains(key, "/p/"):
		case c.event.Type == clientv3.EventTypeDelete:
			byKey[key].gone, byKey[key].deletedAt = true, c.at
		default:
			_, hex, _ := strings.Cut(key[strings.LastIndex(key, "/"):], "-")
			seq, _ := strconv.ParseInt(hex, 16, 64)
			tk := &judged{n: 1, token: c.event.Kv.CreateRevision<<7 | seq&127, ahead: len(line)}
			if strings.Contains(key, "/p/n/") {
				tk.n, _ = strconv.ParseInt(first, 10, 64)
			}
			byKey[key], byToken[tk.token] = tk, tk
			line = append(line, tk)
		}
		if i+1 < len(history) && history[i+1].event.Kv.ModRevision == c.event.Kv.ModRevision {
			continue
		}
		var sum int64
		inUse = 0
		live := line[:0]
		for _, tk := range line {
			if tk.gone {
				continue
			}
			live = append(live, tk)
			sum += tk.n
			if !tk.passed && sum <= capacity {
				tk.passed, tk.passedAt = true, c.at
			}
			if tk.passed {
				inUse += tk.n
			}
		}
		line = live
	}
	return byToken, inUse
}

// judge reports the beliefs that contradict the history.
func judge(history []change, beliefs []*belief) (wrong []string) {
	byToken, _ := replay(history)
	for _, b := range beliefs {
		switch tk := byToken[b.token]; {
		case tk == nil:
			wrong = append(wrong, fmt.Sprintf("token %d has no ticket", b.token))
		case tk.n != b.n:
			wrong = append(wrong, fmt.Sprintf("token %d: weight %d, want %d", b.token, tk.n, b.n))
		case !tk.passed || tk.passedAt.After(b.begin):
			wrong = append(wrong, fmt.Sprintf("token %d was not granted", b.token))
		case tk.gone && tk.deletedAt.Before(b.end):
			wrong = append(wrong, fmt.Sprintf("token %d: held %v after it was deleted", b.token, b.end.Sub(tk.deletedAt)))
		}
	}
	return wrong
}
