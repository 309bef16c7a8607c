package etcdtest

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// A stockSemaphore is what a Resource is compared with: each call puts a key,
// watches all keys, and reads the oldest ones after each deletion. A call has a
// permit when its key is among them.
type stockSemaphore struct {
	client   *clientv3.Client
	lease    clientv3.LeaseID
	prefix   string
	capacity int64
}

func newStockSemaphore(client *clientv3.Client, name string, capacity int64) (*stockSemaphore, error) {
	lease, err := client.Grant(context.Background(), 600)
	if err != nil {
		return nil, err
	}
	return &stockSemaphore{client, lease.ID, "stock/" + name + "/", capacity}, nil
}

// do calls fn while the i-th goroutine of the process has a permit.
func (s *stockSemaphore) do(ctx context.Context, i int, fn func(context.Context) error) error {
	key := fmt.Sprintf("%s%x-%d", s.prefix, s.lease, i)
	if _, err := s.client.Put(ctx, key, "", clientv3.WithLease(s.lease)); err != nil {
		return err
	}
	err := s.await(ctx, key)
	if err == nil {
		err = fn(ctx)
	}
	_, e := s.client.Delete(context.Background(), key)
	if err == nil {
		err = e
	}
	return err
}

func (s *stockSemaphore) await(ctx context.Context, key string) error {
	if ok, err := s.admitted(ctx, key); ok || err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for range s.client.Watch(ctx, s.prefix, clientv3.WithPrefix(), clientv3.WithFilterPut(), clientv3.WithCreatedNotify()) {
		if ok, err := s.admitted(ctx, key); ok || err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (s *stockSemaphore) admitted(ctx context.Context, key string) (bool, error) {
	oldest, err := s.client.Get(ctx, s.prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly(),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend), clientv3.WithLimit(s.capacity))
	if err != nil {
		return false, err
	}
	for _, kv := range oldest.Kvs {
		if string(kv.Key) == key {
			return true, nil
		}
	}
	return false, nil
}
