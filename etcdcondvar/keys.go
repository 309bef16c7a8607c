package etcdcondvar

import (
	"cmp"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// The keys of a resource, below condvar1/<name>/. The 1 is the version of this
// format.
//
//	cap                  a limit; no lease
//	e/<lease>-<k>        an epoch of a session; its value is the label
//	p/1/<lease>-<seq>    a ticket of weight 1; its value is a time
//	p/n/<lease>-<seq>    a ticket of another weight; its value: that and a time
//
// An epoch is never made again under the same name. The last placeBits of seq
// are the place of the ticket in its transaction. A ticket may have the name of
// one that was deleted: their create revisions differ.
type keys struct {
	root, cap, epochs, tickets, ones, others string
}

const placeBits = 7

func keysOf(name string) keys {
	root := "condvar1/" + url.PathEscape(name) + "/"
	return keys{root, root + "cap", root + "e/", root + "p/", root + "p/1/", root + "p/n/"}
}

// ofLease returns what the epochs of a lease begin with.
func (k *keys) ofLease(lease clientv3.LeaseID) string {
	return k.epochs + strconv.FormatInt(int64(lease), 16) + "-"
}

// ticket returns key and value of a new ticket.
func (k *keys) ticket(
	n int64, lease clientv3.LeaseID, seq int64, now time.Time,
) (key, value string) {
	id := strconv.FormatInt(int64(lease), 16) + "-" + strconv.FormatInt(seq, 16)
	value = strconv.FormatInt(now.UnixMilli(), 10)
	if n == 1 {
		return k.ones + id, value
	}
	return k.others + id, strconv.FormatInt(n, 10) + " " + value
}

// A ticket is a place in the line of the fleet.
type ticket struct {
	key    string
	lease  string // in hexadecimal
	n      int64
	token  int64 // orders the tickets: the create revision, and the place in its transaction
	since  int64 // Unix time in milliseconds, by the clock of its process
	passed bool  // see view
}

func tokenOf(revision, place int64) int64 { return revision<<placeBits | place }

// parseTicket returns the ticket of a key below p/. What this package did not
// write counts as weight 1.
func (k *keys) parseTicket(kv *mvccpb.KeyValue) *ticket {
	t := &ticket{key: string(kv.Key), n: 1}
	id, text := strings.TrimPrefix(t.key, k.ones), string(kv.Value)
	if isOther := strings.HasPrefix(t.key, k.others); isOther {
		t.n = weight(kv.Value)
		id = t.key[len(k.others):]
		_, text, _ = strings.Cut(text, " ")
	}
	lease, hex, _ := strings.Cut(id, "-")
	seq, _ := strconv.ParseInt(hex, 16, 64)
	t.lease = lease
	t.token = tokenOf(kv.CreateRevision, seq&(1<<placeBits-1))
	t.since, _ = strconv.ParseInt(text, 10, 64)
	return t
}

// weight returns the weight in the value of a key below p/n/.
func weight(value []byte) int64 {
	text, _, _ := strings.Cut(string(value), " ")
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		return 1
	}
	return n
}

// add returns a + b, at most math.MaxInt64, of numbers that are not negative.
func add(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// A snapshot is the keys of a resource at one revision.
type snapshot struct {
	revision int64
	limit    limit // mod is 0 if there is none
	epochs   map[string]string
	tickets  []*ticket // in order
}

func (k *keys) parseSnapshot(resp *clientv3.GetResponse) (snapshot, error) {
	s := snapshot{revision: resp.Header.GetRevision(), epochs: map[string]string{}}
	for _, kv := range resp.Kvs {
		switch key := string(kv.Key); {
		case key == k.cap:
			var err error
			if s.limit, err = parseLimit(kv); err != nil {
				return s, err
			}
		case strings.HasPrefix(key, k.epochs):
			s.epochs[key] = string(kv.Value)
		case strings.HasPrefix(key, k.tickets):
			s.tickets = append(s.tickets, k.parseTicket(kv))
		}
	}
	slices.SortFunc(s.tickets, func(a, b *ticket) int { return cmp.Compare(a.token, b.token) })
	return s, nil
}
