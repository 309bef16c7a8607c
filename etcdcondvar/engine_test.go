package etcdcondvar_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"example.com/condvar/etcdcondvar"
)

// An engine is a fake etcd in this process, with revisions, leases and watches.
// It runs in a bubble of testing/synctest. faults, script and rng decide what
// happens to each request.
type engine struct {
	ctx    context.Context // of the clients
	cancel context.CancelFunc

	mu          sync.Mutex
	rng         *rand.Rand
	revision    int64
	keys        map[string]*mvccpb.KeyValue
	history     []change
	changed     chan struct{} // closed at the next change
	leases      map[clientv3.LeaseID]*time.Timer
	ttls        map[clientv3.LeaseID]time.Duration
	lastID      clientv3.LeaseID
	faults      faults
	script      map[string][]step // for the next requests, by kind
	count       map[string]int    // of requests, by kind
	watches     int               // open now
	streams     map[string]int    // Watch calls, by their metadata
	drop        chan struct{}     // closed when the open watches are to end
	progress    func()            // if not nil, RequestProgress calls it, and does nothing else
	minTTL      int64             // of leases
	refuseWatch string            // if not empty, watches fail with it
	renewTTL    int64             // in answers to renewals, if not 0
	compact     int64
	noSpace     bool
}

// A change is an event and its time.
type change struct {
	event *clientv3.Event
	at    time.Time
}

// faults has probabilities in percent, and durations. A lost request is applied
// up to 20 s later, and not answered. A mute watch sends no events. delay is
// the maximum delay of a request, and of its answer.
type faults struct {
	loseRequest, loseAnswer, muteWatch int
	delay                              time.Duration
	answer                             time.Duration // added to the delay of an answer
	events                             time.Duration // added to the delay of events
}

// A step is what happens to one request.
type step struct {
	before     func()        // runs before it is applied
	err        error         // returned, and the request is not applied
	loseAnswer bool          // it is applied, and not answered
	hold       time.Duration // it is applied after hold, and not answered
}

func newEngine(seed uint64) *engine {
	ctx, cancel := context.WithCancel(context.Background())
	return &engine{
		ctx: ctx, cancel: cancel,
		rng: rand.New(rand.NewPCG(seed, 0)), revision: 1, keys: map[string]*mvccpb.KeyValue{}, changed: make(chan struct{}),
		leases: map[clientv3.LeaseID]*time.Timer{}, ttls: map[clientv3.LeaseID]time.Duration{}, count: map[string]int{},
		script: map[string][]step{}, drop: make(chan struct{}), streams: map[string]int{},
	}
}

// A link connects one process to the engine. mu of the engine guards it.
type link struct{ cutUntil time.Time }

// client returns a client of the engine.
func (e *engine) client() (*clientv3.Client, *link) {
	c, l := clientv3.NewCtxClient(e.ctx), &link{}
	c.KV = clientv3.NewKVFromKVClient(&engineKV{e: e, link: l}, nil)
	c.Lease = &engineLease{e: e, link: l}
	c.Watcher = &engineWatcher{e: e, link: l}
	return c, l
}

// cut stops all traffic on the link for d.
func (e *engine) cut(l *link, d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l.cutUntil = time.Now().Add(d)
}

// setNoSpace sets whether puts fail as if etcd had no space.
func (e *engine) setNoSpace(noSpace bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.noSpace = noSpace
}

func (e *engine) set(f faults) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults = f
}

// then adds steps for the next requests of a kind.
func (e *engine) then(kind string, steps ...step) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.script[kind] = append(e.script[kind], steps...)
}

// restore sets the revision and the capacity back, as the restore of a backup
// does. Other clients may have written since the restore.
func (e *engine) restore(revision int64) {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.revision, e.history = revision, nil
	cap := e.keys[etcdcondvar.KeysOf("r")+"cap"]
	cap.Value, cap.CreateRevision, cap.ModRevision = []byte("5 0 0"), 3, 3
}

// backup returns a copy of all keys.
func (e *engine) backup() map[string]*mvccpb.KeyValue {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	keys := map[string]*mvccpb.KeyValue{}
	for k, kv := range e.keys {
		keys[k] = clone(kv)
	}
	return keys
}

// restoreAll restores a backup with a higher revision, as etcdutl does with
// --bump-revision and --mark-compacted.
func (e *engine) restoreAll(backup map[string]*mvccpb.KeyValue) {
	synctest.Wait()
	e.mu.Lock()
	e.keys, e.revision, e.history = backup, e.revision+1_000_000, nil
	e.mu.Unlock()
	e.dropWatches()
}

// dropWatches ends all watches that are open.
func (e *engine) dropWatches() {
	e.mu.Lock()
	defer e.mu.Unlock()
	close(e.drop)
	e.drop = make(chan struct{})
}

// putsByName returns how many times a ticket of each name was put.
func (e *engine) putsByName() map[string]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	puts := map[string]int{}
	for _, c := range e.history {
		key := string(c.event.Kv.Key)
		if c.event.Type == clientv3.EventTypePut && strings.Contains(key, "/p/") {
			puts[key]++
		}
	}
	return puts
}

// tickets returns the number of tickets.
func (e *engine) tickets() int { return e.keysWith("/p/") }

// keysWith returns the number of keys that contain part.
func (e *engine) keysWith(part string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for key := range e.keys {
		if strings.Contains(key, part) {
			n++
		}
	}
	return n
}

func (e *engine) requests(kind string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.count[kind]
}

// do runs apply, with mu held, as a request that takes time and may be lost.
func do[T any](ctx context.Context, e *engine, l *link, kind string, apply func() (T, error)) (none T, _ error) {
	e.mu.Lock()
	e.count[kind]++
	f := e.faults
	var st step
	if steps := e.script[kind]; len(steps) > 0 {
		st, e.script[kind] = steps[0], steps[1:]
	}
	there, back := e.delayLocked(), e.delayLocked()+f.answer
	loseRequest, loseAnswer := e.rng.IntN(100) < f.loseRequest, e.rng.IntN(100) < f.loseAnswer
	late := time.Duration(e.rng.Int64N(int64(20 * time.Second)))
	cut := time.Until(l.cutUntil)
	e.mu.Unlock()
	if st.before != nil {
		st.before()
	}
	if e.ctx.Err() != nil {
		return none, status.Error(codes.Canceled, "grpc: the client connection is closing")
	}
	if st.err != nil {
		return none, st.err
	}
	loseAnswer = loseAnswer || st.loseAnswer
	if st.hold > 0 {
		loseRequest, late = true, st.hold
	}
	if cut > 0 && sleep(ctx, cut) != nil {
		loseRequest = true
	}
	if !loseRequest && sleep(ctx, there) != nil {
		return none, ctx.Err()
	}
	if loseRequest { // it may arrive much later
		go func() {
			time.Sleep(late)
			e.mu.Lock()
			defer e.mu.Unlock()
			_, _ = apply()
		}()
		<-ctx.Done()
		return none, ctx.Err()
	}
	e.mu.Lock()
	out, err := apply()
	e.mu.Unlock()
	if loseAnswer {
		if late%2 == 0 && !st.loseAnswer {
			return none, status.Error(codes.Unavailable, "connection reset")
		}
		<-ctx.Done()
		return none, ctx.Err()
	}
	e.mu.Lock()
	back += max(0, time.Until(l.cutUntil))
	e.mu.Unlock()
	if sleep(ctx, back) != nil {
		return none, ctx.Err()
	}
	return out, err
}

func (e *engine) delayLocked() time.Duration {
	if e.faults.delay == 0 {
		return 0
	}
	return time.Duration(e.rng.Int64N(int64(e.faults.delay)))
}

func sleep(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return ctx.Err()
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// commitLocked applies events at one revision.
func (e *engine) commitLocked(events []*clientv3.Event) {
	if len(events) == 0 {
		return
	}
	e.revision++
	for _, ev := range events {
		ev.Kv.ModRevision = e.revision
		if ev.Type == clientv3.EventTypePut {
			ev.Kv.CreateRevision, ev.Kv.Version = e.revision, 1
			if old := e.keys[string(ev.Kv.Key)]; old != nil {
				ev.Kv.CreateRevision, ev.Kv.Version = old.CreateRevision, old.Version+1
			}
			e.keys[string(ev.Kv.Key)] = ev.Kv
		} else {
			delete(e.keys, string(ev.Kv.Key))
		}
		e.history = append(e.history, change{ev, time.Now()})
	}
	close(e.changed)
	e.changed = make(chan struct{})
}

func (e *engine) rangeLocked(key, end []byte) []*mvccpb.KeyValue {
	var kvs []*mvccpb.KeyValue
	for k, kv := range e.keys {
		if k == string(key) || len(end) > 0 && k >= string(key) && k < string(end) {
			kvs = append(kvs, kv)
		}
	}
	slices.SortFunc(kvs, func(a, b *mvccpb.KeyValue) int { return bytes.Compare(a.Key, b.Key) })
	return kvs
}

type engineKV struct {
	pb.KVClient
	e    *engine
	link *link
}

func (c *engineKV) Range(ctx context.Context, in *pb.RangeRequest, _ ...grpc.CallOption) (*pb.RangeResponse, error) {
	return do(ctx, c.e, c.link, "range", func() (*pb.RangeResponse, error) {
		if in.Revision > 0 {
			return c.e.rangeAtLocked(in)
		}
		return c.e.rangeRequestLocked(in), nil
	})
}

func (e *engine) headerLocked() *pb.ResponseHeader { return &pb.ResponseHeader{Revision: e.revision} }

func (e *engine) rangeRequestLocked(in *pb.RangeRequest) *pb.RangeResponse {
	kvs := e.rangeLocked(in.Key, in.RangeEnd)
	out := &pb.RangeResponse{Header: e.headerLocked(), Count: int64(len(kvs))}
	for _, kv := range kvs {
		if !in.CountOnly {
			out.Kvs = append(out.Kvs, clone(kv))
		}
	}
	return out
}

// clone copies kv: package namespace changes keys in place.
func clone(kv *mvccpb.KeyValue) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{
		Key: kv.Key, Value: kv.Value, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision,
		Version: kv.Version, Lease: kv.Lease,
	}
}

// rangeAtLocked reads at an older revision.
func (e *engine) rangeAtLocked(in *pb.RangeRequest) (*pb.RangeResponse, error) {
	if in.Revision < e.compact {
		return nil, rpctypes.ErrGRPCCompacted
	}
	past := &engine{keys: map[string]*mvccpb.KeyValue{}, revision: e.revision}
	for _, c := range e.history {
		switch key := string(c.event.Kv.Key); {
		case c.event.Kv.ModRevision > in.Revision:
		case c.event.Type == clientv3.EventTypePut:
			past.keys[key] = c.event.Kv
		default:
			delete(past.keys, key)
		}
	}
	return past.rangeRequestLocked(in), nil
}

func (c *engineKV) Txn(ctx context.Context, in *pb.TxnRequest, _ ...grpc.CallOption) (*pb.TxnResponse, error) {
	kind := "read"
	for _, op := range in.Success {
		if put := op.GetRequestPut(); put != nil {
			kind = "put"
			if strings.Contains(string(put.Key), "/e/") {
				kind = "epoch"
			}
		} else if op.GetRequestTxn() != nil || op.GetRequestDeleteRange() != nil {
			kind = "delete"
		}
	}
	return do(ctx, c.e, c.link, kind, func() (*pb.TxnResponse, error) { return c.e.txnLocked(in) })
}

func (c *engineKV) Put(ctx context.Context, in *pb.PutRequest, _ ...grpc.CallOption) (*pb.PutResponse, error) {
	op := &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: in}}
	_, err := c.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{op}})
	return &pb.PutResponse{}, err
}

func (e *engine) txnLocked(in *pb.TxnRequest) (*pb.TxnResponse, error) {
	out := &pb.TxnResponse{Succeeded: e.compareAllLocked(in.Compare)}
	ops := in.Success
	if !out.Succeeded {
		ops = in.Failure
	}
	for _, op := range slices.Concat(in.Success, in.Failure) {
		if op.GetRequestPut() != nil && e.noSpace {
			return nil, rpctypes.ErrGRPCNoSpace
		}
	}
	var events []*clientv3.Event
	chosen := map[*pb.TxnRequest]bool{} // which transactions in this one succeed
	flat := slices.Clone(ops)
	for _, op := range ops {
		if inner := op.GetRequestTxn(); inner != nil && e.compareAllLocked(inner.Compare) {
			chosen[inner] = true
			flat = append(flat, inner.Success...)
		}
	}
	for _, op := range flat {
		if put := op.GetRequestPut(); put != nil {
			if put.Lease != 0 && e.leases[clientv3.LeaseID(put.Lease)] == nil {
				return nil, rpctypes.ErrGRPCLeaseNotFound
			}
			events = append(events, &clientv3.Event{Type: clientv3.EventTypePut, Kv: &mvccpb.KeyValue{
				Key: put.Key, Value: put.Value, Lease: put.Lease,
			}})
		}
		if del := op.GetRequestDeleteRange(); del != nil {
			for _, kv := range e.rangeLocked(del.Key, del.RangeEnd) {
				events = append(events, &clientv3.Event{Type: clientv3.EventTypeDelete, Kv: &mvccpb.KeyValue{Key: kv.Key}})
			}
		}
	}
	deleted := map[string]bool{}
	for _, ev := range events {
		deleted[string(ev.Kv.Key)] = ev.Type == clientv3.EventTypeDelete
	}
	e.commitLocked(events)
	for _, op := range ops {
		var answer pb.ResponseOp
		switch r := op.Request.(type) {
		case *pb.RequestOp_RequestRange:
			answer.Response = &pb.ResponseOp_ResponseRange{ResponseRange: e.rangeRequestLocked(r.RequestRange)}
		case *pb.RequestOp_RequestPut:
			answer.Response = &pb.ResponseOp_ResponsePut{ResponsePut: &pb.PutResponse{}}
		case *pb.RequestOp_RequestDeleteRange:
			n := &pb.DeleteRangeResponse{}
			if deleted[string(r.RequestDeleteRange.Key)] {
				n.Deleted = 1
			}
			answer.Response = &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: n}
		case *pb.RequestOp_RequestTxn:
			answer.Response = &pb.ResponseOp_ResponseTxn{ResponseTxn: &pb.TxnResponse{Succeeded: chosen[r.RequestTxn]}}
		}
		out.Responses = append(out.Responses, &answer)
	}
	out.Header = e.headerLocked()
	return out, nil
}

func (e *engine) compareAllLocked(all []*pb.Compare) bool {
	return !slices.ContainsFunc(all, func(c *pb.Compare) bool { return !e.compareLocked(c) })
}

func (e *engine) compareLocked(c *pb.Compare) bool {
	kvs := e.rangeLocked(c.Key, c.RangeEnd)
	if len(kvs) == 0 {
		kvs = []*mvccpb.KeyValue{{}}
	}
	for _, kv := range kvs {
		var have, want int64
		switch c.Target {
		case pb.Compare_VERSION:
			have, want = kv.Version, c.GetVersion()
		case pb.Compare_CREATE:
			have, want = kv.CreateRevision, c.GetCreateRevision()
		case pb.Compare_MOD:
			have, want = kv.ModRevision, c.GetModRevision()
		default:
			panic("the engine does not have this comparison")
		}
		if c.Result == pb.Compare_EQUAL && have != want || c.Result == pb.Compare_GREATER && have <= want ||
			c.Result == pb.Compare_LESS && have >= want {
			return false
		}
	}
	return true
}

type engineLease struct {
	clientv3.Lease
	e    *engine
	link *link
}

func (c *engineLease) Grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	e := c.e
	return do(ctx, e, c.link, "grant", func() (*clientv3.LeaseGrantResponse, error) {
		e.lastID++
		id := e.lastID
		ttl := max(ttl, e.minTTL)
		e.ttls[id] = time.Duration(ttl) * time.Second
		e.leases[id] = time.AfterFunc(e.ttls[id], func() { e.revoke(id) })
		return &clientv3.LeaseGrantResponse{ID: id, TTL: ttl}, nil
	})
}

func (e *engine) revoke(id clientv3.LeaseID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.revokeLocked(id)
}

func (e *engine) revokeLocked(id clientv3.LeaseID) {
	if timer := e.leases[id]; timer != nil {
		timer.Stop()
	}
	delete(e.leases, id)
	var events []*clientv3.Event
	for _, kv := range e.rangeLocked(nil, []byte{0xff}) {
		if kv.Lease == int64(id) {
			events = append(events, &clientv3.Event{Type: clientv3.EventTypeDelete, Kv: &mvccpb.KeyValue{Key: kv.Key}})
		}
	}
	e.commitLocked(events)
}

func (c *engineLease) Revoke(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	return do(ctx, c.e, c.link, "revoke", func() (*clientv3.LeaseRevokeResponse, error) {
		if c.e.leases[id] == nil {
			return nil, rpctypes.ErrLeaseNotFound
		}
		c.e.revokeLocked(id)
		return &clientv3.LeaseRevokeResponse{}, nil
	})
}

func (c *engineLease) KeepAliveOnce(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseKeepAliveResponse, error) {
	return do(ctx, c.e, c.link, "renew", func() (*clientv3.LeaseKeepAliveResponse, error) {
		timer := c.e.leases[id]
		if timer == nil {
			return nil, rpctypes.ErrLeaseNotFound
		}
		if c.e.renewTTL > 0 {
			c.e.ttls[id] = time.Duration(c.e.renewTTL) * time.Second
		}
		timer.Reset(c.e.ttls[id])
		return &clientv3.LeaseKeepAliveResponse{ID: id, TTL: int64(c.e.ttls[id] / time.Second)}, nil
	})
}

type engineWatcher struct {
	clientv3.Watcher
	e    *engine
	link *link

	mu       sync.Mutex
	progress []chan struct{}
}

func (c *engineWatcher) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	op := clientv3.OpGet(key, opts...)
	out := make(chan clientv3.WatchResponse)
	progress := make(chan struct{}, 1)
	md, _ := metadata.FromOutgoingContext(ctx)
	c.e.mu.Lock()
	c.e.streams[fmt.Sprint(md)]++
	c.e.mu.Unlock()
	type begin struct {
		next int
		mute bool
	}
	b, err := do(ctx, c.e, c.link, "watch", func() (begin, error) {
		b := begin{len(c.e.history), c.e.rng.IntN(100) < c.e.faults.muteWatch}
		for op.Rev() > 0 && b.next > 0 && c.e.history[b.next-1].event.Kv.ModRevision >= op.Rev() {
			b.next--
		}
		return b, nil
	})
	if err != nil {
		close(out)
		return out
	}
	next := b.next
	c.mu.Lock()
	c.progress = append(c.progress, progress)
	c.mu.Unlock()
	go func() {
		c.count(1)
		defer c.count(-1)
		defer close(out)
		send := func(resp clientv3.WatchResponse) bool {
			resp.Header = &pb.ResponseHeader{Revision: 1}
			select {
			case out <- resp:
				return true
			case <-ctx.Done():
				return false
			}
		}
		c.e.mu.Lock()
		refuse, drop := c.e.refuseWatch, c.e.drop
		c.e.mu.Unlock()
		if refuse != "" {
			send(clientv3.WatchResponse{Canceled: true, CancelReason: refuse})
			return
		}
		if !send(clientv3.WatchResponse{Created: true}) {
			return
		}
		if b.mute {
			<-ctx.Done()
			return
		}
		if op.Rev() > 0 && sleep(ctx, 100*time.Millisecond) != nil { // like etcd
			return
		}
		for {
			c.e.mu.Lock()
			changed, delay := c.e.changed, c.e.delayLocked()+c.e.faults.events+max(0, time.Until(c.link.cutUntil))
			var resp clientv3.WatchResponse
			next = min(next, len(c.e.history)) // it is shorter after a restore
			for _, ch := range c.e.history[next:] {
				if strings.HasPrefix(string(ch.event.Kv.Key), key) {
					resp.Events = append(resp.Events, &clientv3.Event{Type: ch.event.Type, Kv: clone(ch.event.Kv)})
				}
			}
			next = len(c.e.history)
			c.e.mu.Unlock()
			if sleep(ctx, delay) != nil {
				return
			}
			if len(resp.Events) > 0 {
				if !send(resp) {
					return
				}
				continue
			}
			select {
			case <-changed:
			case <-progress:
				if !send(resp) {
					return
				}
			case <-drop:
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func (c *engineWatcher) count(n int) {
	c.e.mu.Lock()
	defer c.e.mu.Unlock()
	c.e.watches += n
}

func (c *engineWatcher) RequestProgress(context.Context) error {
	c.e.mu.Lock()
	progress := c.e.progress
	c.e.mu.Unlock()
	if progress != nil {
		progress()
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.progress {
		select {
		case p <- struct{}{}:
		default:
		}
	}
	return nil
}
