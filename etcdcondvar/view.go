package etcdcondvar

import "container/list"

// A view is the line of the fleet as of one revision. It is exact: it starts
// from a snapshot, and every later change of a key below the prefix is applied
// in the order of the revisions.
//
// The tickets that have passed are granted. They are the first of the line.
// Each ticket passes when the weights of all tickets up to it sum up to at most
// the capacity, or when it is at or before limit.granted. It never goes back,
// so a shrink revokes nothing. passed is the sum of the live ones, and next is
// the first that has not passed.
type view struct {
	revision int64
	limit    limit
	line     list.List                // of *ticket, by token
	byKey    map[string]*list.Element // the same
	next     *list.Element            // nil if all have passed
	passed   int64
}

func newView(s snapshot) *view {
	byKey := make(map[string]*list.Element, len(s.tickets))
	v := &view{revision: s.revision, limit: s.limit, byKey: byKey}
	for _, t := range s.tickets {
		v.append(t)
	}
	return v
}

// append adds a ticket, which is the youngest.
func (v *view) append(t *ticket) {
	e := v.line.PushBack(t)
	v.byKey[t.key] = e
	if v.next == nil {
		v.next = e
	}
}

// remove takes out the ticket with that key, if there is one.
func (v *view) remove(key string) {
	e := v.byKey[key]
	if e == nil {
		return
	}
	delete(v.byKey, key)
	if t := e.Value.(*ticket); t.passed {
		v.passed -= t.n
	}
	if v.next == e {
		v.next = e.Next()
	}
	v.line.Remove(e)
}

// advance lets tickets pass as far as the limit allows, and calls each for
// them.
func (v *view) advance(each func(t *ticket)) {
	for v.next != nil {
		t := v.next.Value.(*ticket)
		if t.token > v.limit.granted && t.n > v.limit.capacity-v.passed {
			return
		}
		t.passed = true
		v.passed += t.n
		v.next = v.next.Next()
		each(t)
	}
}

// get returns the ticket with that key, or nil.
func (v *view) get(key string) *ticket {
	if e := v.byKey[key]; e != nil {
		return e.Value.(*ticket)
	}
	return nil
}
