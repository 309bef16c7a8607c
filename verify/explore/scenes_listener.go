//go:build condvar_explore

package explore

import (
	"errors"
	"fmt"
)

func listenerScenes() []*Scene {
	return []*Scene{
		{
			Name:      "ListenerStopRacingNotify",
			Invariant: "a notification is either received or passed on by Stop, never both",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				ctx := r.Context()
				l := s.c.Listen()
				received, stopped := false, false
				s.Go("listener", func() {
					received = r.Receive(ctx, l.C)
					stopped = l.Stop()
				})
				next := s.wait("next", nil)
				r.Settle()
				s.Go("notifier", func() { s.woken = s.one() })
				s.Go("canceller", ctx.Cancel)
				return func() error {
					switch {
					case s.woken != 1:
						return errors.New("two were in line, but none was notified")
					case received == next.returned:
						return fmt.Errorf("received: %v, passed on: %v", received, next.returned)
					case received && stopped:
						return errors.New("Stop returned true, but the listener was notified")
					}
					return s.inLine()
				}
			},
		},
		{
			Name:      "ListenerStoppedTwiceAndReceived",
			Invariant: "one of two Stops and a receive gets the notification; if a Stop does, it goes to the next in line",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				ctx := r.Context()
				l := s.c.Listen()
				var stops [2]bool
				received := false
				next := s.wait("next", nil)
				r.Settle()
				s.Go("receiver", func() { received = r.Receive(ctx, l.C) })
				s.Go("stop1", func() { stops[0] = l.Stop() })
				s.Go("stop2", func() { stops[1] = l.Stop() })
				s.Go("notifier", func() { s.woken = s.one() })
				return func() error {
					switch {
					case s.woken != 1:
						return errors.New("a waiter was in line, but none was notified")
					case received == next.returned:
						return fmt.Errorf("received: %v, passed on: %v", received, next.returned)
					case stops[0] && stops[1]:
						return errors.New("both Stops returned true")
					}
					return s.inLine()
				}
			},
		},
		{
			Name:      "ListenersBroadcast",
			Invariant: "a broadcast reaches a Listener, a Wait and a WaitFor; Stop does not pass its notification on",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				l := s.c.Listen()
				wait := s.wait("wait", nil)
				ready := false
				s.waitFor("waitFor", nil, func() bool { return ready }, nil)
				r.Settle()
				inLine := false
				s.Go("stop", func() { inLine = l.Stop() })
				s.notify("notifier", true, func() { ready = true }, s.c.NotifyAll)
				late := s.wait("late", nil)
				return func() error {
					if !wait.returned || !s.calls[1].returned {
						return errors.New("a waiter that was in line is not woken")
					}
					woken := 2
					if late.returned {
						woken++
					}
					if !inLine {
						woken++
					}
					if s.woken != woken {
						return fmt.Errorf("%d were woken, but NotifyAll says %d", woken, s.woken)
					}
					return s.inLine()
				}
			},
		},
	}
}
