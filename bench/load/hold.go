package load

import "time"

// A pause is the time of a goroutine between two calls: it sleeps, waits for
// something outside the process, or uses the CPU.
type pause struct{ asleep, blocked, cpu time.Duration }

// A pauser makes the pauses of one goroutine.
type pauser struct {
	spins float64 // per nanosecond
	state uint32
	alarm *alarm
}

// newPauser returns a pauser. Only one with an alarm can block.
func newPauser(spins float64, blocks bool) *pauser {
	p := &pauser{spins: spins}
	if blocks {
		p.alarm = newAlarm()
	}
	return p
}

func (p *pauser) close() {
	if p.alarm != nil {
		p.alarm.close()
	}
}

func (p *pauser) pause(d pause) {
	if d.asleep > 0 {
		time.Sleep(d.asleep)
	}
	if d.blocked > 0 {
		p.alarm.wait(d.blocked)
	}
	if d.cpu > 0 {
		p.spin(int(p.spins * float64(d.cpu)))
	}
}

// spin is a fixed amount of CPU work, not a time by the clock. A goroutine that
// loses its processor meanwhile still has to do the rest.
func (p *pauser) spin(n int) {
	x := p.state | 1
	for range n {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
	}
	p.state = x // so that the compiler does not remove the loop
}

// calibrate returns the number of spins in a nanosecond on an idle machine.
func calibrate() float64 {
	const n = 100_000
	best, p := time.Hour, &pauser{}
	for range 30 {
		start := time.Now()
		p.spin(n)
		best = min(best, time.Since(start))
	}
	return n / float64(best)
}
