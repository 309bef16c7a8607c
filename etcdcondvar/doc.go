// Package etcdcondvar has a weighted semaphore that a fleet of processes
// shares, with the count in etcd. Its methods are like those of
// [condvar.CapacityResource].
//
//	r := etcdcondvar.New(client, "exports", 4)
//	err := r.Do(ctx, func(ctx context.Context) error {
//		return export(ctx) // at most 4 at a time in the whole fleet
//	})
//
// Do is the same in both packages. Here ctx ends when the permit is lost, so fn
// has to stop then.
//
// # What it protects
//
// It limits concurrency. It protects no data: a process that was stopped after
// its last look at the clock may still write when its permit belongs to
// another. To protect data in the same etcd, add [Permit.Guard] to the
// transaction that writes it. Elsewhere, with a capacity of 1, refuse a
// [Permit.Token] that is below the highest one seen.
//
// # Losing a permit
//
// All permits of a process depend on one lease, which it renews. If it cannot,
// its permits end before the server can give them to others, by a margin of a
// tenth of the lease, at least 250 ms: the contexts end with the cause
// [ErrLost], and [Permit.Err] says so. This assumes that the rates of the
// clocks differ by less than the margin. Exceptions are keys that an operator
// deletes, an etcd that is restored from a backup, and a leader that was
// stopped for longer than the lease: etcd 3.7.3 may then revoke leases that its
// successor has renewed.
//
// Time is the larger of what the monotonic and the wall clock say, as the
// monotonic clock may stand still while a machine is suspended. A wall clock
// that is set forward by most of a TTL ends permits early, never late.
//
// If etcd refuses to delete a ticket, since a permission is missing or the
// client is closed, the process loses all its permits. It deletes tickets at a
// Release, and when a call in line is canceled.
//
// A process that was stopped, or whose machine was suspended, finds out by the
// first look at the clock: Permit.Err, or Err of a context of [Permit.Context].
// Its Done channel, and contexts derived from it, end later: after a suspend,
// up to a fifth of the lease later.
//
// # When etcd is down
//
// Holders keep their permits until the lease ends. Other calls wait until their
// context ends. Their error then matches the error of etcd, too. A permanent
// error, such as a missing permission, is returned at once.
//
// # Order
//
// Calls are served in the order in which etcd commits them, whatever number of
// permits they want. No call overtakes another, TryAcquire included. At most
// 100 calls of one process stand in the line of the fleet. Its others wait in a
// line of their own.
//
// # What it costs
//
// An Acquire that finds room is one round trip, and so is a Release. Calls of a
// process that come at the same time share a transaction. Each transaction also
// reads every live ticket whose weight is not 1: with many of them use weight
// 1, or few large permits. A TryAcquire is a read, and if there is room a round
// trip more.
//
// Etcd keeps the names of deleted keys until it compacts its history, and each
// transaction that counts tickets visits them. So a process uses the names of
// its tickets again: how many it leaves depends on how many tickets it has at a
// time, not on how many calls there were.
//
// While calls of a process wait, it watches the keys of the resource: 2 events
// for each permit that is used in the fleet, and about 200 bytes for each
// ticket. While it holds permits, it renews its lease every fifth of the TTL. A
// Resource has at most 5 goroutines, beside those of the client, and none for a
// call. If etcd does not acknowledge watches for a time, the client keeps the
// streams of some of them, until later watches of the Resource have used them or
// the client is closed.
//
// # Servers
//
// The time after which a server gives up a lease starts again when its leader
// changes. Servers of etcd 3.6.16 and 3.7.3 check that they still lead before
// they renew or revoke a lease. Older ones may not.
package etcdcondvar
