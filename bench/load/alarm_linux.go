package load

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// An alarm blocks a goroutine for some time, as the answer of another machine
// would: it waits in the network poller, for a timerfd. time.Sleep does not
// work for that, as the poller counts in milliseconds: a sleep of 100 µs takes
// 1.1 ms if no processor is busy, and 120 µs if one is. A timerfd always takes
// 160 µs.
type alarm struct {
	fd   int
	file *os.File // of fd, to wait for it
}

func newAlarm() *alarm {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	must(err)
	return &alarm{fd, os.NewFile(uintptr(fd), "timerfd")}
}

func (a *alarm) wait(d time.Duration) {
	var expirations [8]byte
	must(unix.TimerfdSettime(a.fd, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}, nil))
	_, err := a.file.Read(expirations[:])
	must(err)
}

func (a *alarm) close() { must(a.file.Close()) }
