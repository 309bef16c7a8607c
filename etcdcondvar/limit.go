package etcdcondvar

import (
	"fmt"
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"example.com/condvar"
)

// A limit is what the key cap says. Its text is "capacity granted counted",
// with " from" appended while a shrink is unfinished.
//
// A shrink must not forget what was granted by the larger capacity. It is
// written with from, the capacity before, at some revision W. Then the tickets
// at W-1 are read, and the token of the youngest that was granted then becomes
// granted and counted. If W-1 is compacted by then, granted is left as it is,
// which admits no ticket too many, and counted becomes an upper bound: it may
// count waiting tickets as held, never the reverse.
type limit struct {
	capacity int64
	granted  int64 // tickets up to this token are granted
	counted  int64 // tickets up to this token count as held; not below granted
	from     int64 // or 0
	mod      int64 // the revision of the key; 0 if it does not exist
}

func (l limit) String() string {
	s := fmt.Sprint(l.capacity, " ", l.granted, " ", l.counted)
	if l.from > 0 {
		s += fmt.Sprint(" ", l.from)
	}
	return s
}

// parseLimit returns what cap says. A number alone is a capacity.
func parseLimit(kv *mvccpb.KeyValue) (limit, error) {
	l := limit{mod: kv.ModRevision}
	fields := strings.Fields(string(kv.Value))
	into := []*int64{&l.capacity, &l.granted, &l.counted, &l.from}
	ok := len(fields) > 0 && len(fields) <= len(into)
	for i := 0; ok && i < len(fields); i++ {
		var err error
		*into[i], err = strconv.ParseInt(fields[i], 10, 64)
		ok = err == nil && *into[i] >= 0
	}
	if !ok {
		return limit{}, &formatError{string(kv.Key), string(kv.Value)}
	}
	// The tickets that granted is about are older than l. Otherwise it is of a
	// history that was lost when etcd was restored from a backup.
	if l.granted>>placeBits >= l.mod {
		l.granted = 0
	}
	l.counted = max(l.counted, l.granted)
	return l, nil
}

// tooLarge reports whether l never admits n permits. If paused it does not say.
func (l limit) tooLarge(n int64) bool { return n > l.capacity && l.capacity != 0 }

// fits reports whether l admits n permits after tickets whose weights add up to
// older.
func (l limit) fits(n, older int64) bool { return n <= l.capacity-min(older, l.capacity) }

// noteLimitLocked makes l, which is in an answer of etcd, the limit unless a
// later one is known. known is the mod of the limit that was known before the
// request. An answer is not older than that, unless etcd was restored from a
// backup. Then the limit that was known is of a history that is lost.
func (r *Resource) noteLimitLocked(l limit, known int64) {
	if l.mod < known && known == r.limit.mod {
		r.limit.mod = 0
	}
	r.setLimitLocked(l)
}

// setLimitLocked makes l the limit unless a later one is known.
func (r *Resource) setLimitLocked(l limit) {
	if l.mod <= r.limit.mod {
		return
	}
	changed := l.capacity != r.limit.capacity
	r.limit = l
	if !changed {
		return
	}
	for e := r.queue.Front(); e != nil && !r.limitMayBeOld; e = e.Next() {
		if l.tooLarge(e.Value.(*Permit).n) { // l may be older than that call
			r.limitMayBeOld = true
			r.startLocked(&r.sender)
		}
	}
	for _, p := range r.callsLocked(inLine) {
		if l.tooLarge(p.n) {
			r.endLocked(p, condvar.ErrTooLarge)
		}
	}
}

// noteLimit is noteLimitLocked without mu held.
func (r *Resource) noteLimit(l limit, known int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.noteLimitLocked(l, known)
}

// knownMod returns the mod of the limit that is known before a request.
func (r *Resource) knownMod() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.limit.mod
}

// limitWithoutCap returns the limit that a process puts if cap does not exist:
// the last one seen. What was granted before a shrink is not known then.
func (r *Resource) limitWithoutCap() limit {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.limit
	l.from, l.mod = 0, 0
	return l
}
