//go:build !linux

package load

import "time"

// An alarm blocks a goroutine for some time, as exactly as the platform can.
type alarm struct{}

func newAlarm() *alarm { return &alarm{} }

func (*alarm) wait(d time.Duration) { time.Sleep(d) }

func (*alarm) close() {}
