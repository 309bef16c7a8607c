package promcondvar_test

import (
	"context"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"example.com/condvar"
	"example.com/condvar/promcondvar"
)

// BenchmarkDo measures calls that do not wait.
func BenchmarkDo(b *testing.B) {
	for _, bm := range []struct {
		name string
		opts []condvar.Option
	}{
		{"none", nil},
		{"watch", []condvar.Option{promcondvar.New(promcondvar.Opts{}).Watch("db")}},
		{"holdtime", []condvar.Option{promcondvar.New(promcondvar.Opts{HoldTime: true}).Watch("db")}},
	} {
		b.Run("metrics="+bm.name, func(b *testing.B) {
			r := condvar.NewCapacityResource(1, bm.opts...)
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				_ = r.Do(ctx, func(context.Context) error { return nil })
			}
		})
	}
}

// BenchmarkWaitDone measures the additional cost of a call that waits.
func BenchmarkWaitDone(b *testing.B) {
	hooks := promcondvar.New(promcondvar.Opts{}).Hooks("db")
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		hooks.WaitDone(ctx, 1, time.Millisecond, nil)
	}
}

func BenchmarkGather(b *testing.B) {
	for _, names := range []int{1, 1000} {
		b.Run("names="+strconv.Itoa(names), func(b *testing.B) {
			p := promcondvar.New(promcondvar.Opts{})
			registry := prometheus.NewRegistry()
			registry.MustRegister(p)
			resources := make([]*condvar.CapacityResource, names)
			for i := range resources {
				resources[i] = condvar.NewCapacityResource(1, p.Watch(strconv.Itoa(i)))
			}
			for b.Loop() {
				_, err := registry.Gather()
				require.NoError(b, err)
			}
			runtime.KeepAlive(resources)
		})
	}
}
