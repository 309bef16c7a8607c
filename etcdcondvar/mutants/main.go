// Command mutants puts bugs into package etcdcondvar, one at a time, and runs
// the test that must find each. Run it in the folder of the package:
//
//	go run ./mutants
//	go run ./mutants no-epoch no-watchdog
//
// The exit status is 1 if a bug was not found.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// A mutant is a change of one file, and the test that must find it.
type mutant struct{ name, test, file, old, new string }

func mutants() []mutant {
	return []mutant{
		// The mutants of row 46 of the tests.
		{"no-epoch", "TestFence", "sender.go", `clientv3.Compare(clientv3.Version(s.epoch), ">", 0),`, ``},
		{"deadline-from-receipt", "TestPermit_isLostAMarginBeforeTheLeaseEnds", "keeper.go", "s.renewed, s.ttl = sent,", "s.renewed, s.ttl = r.now(),"},
		{"no-look-at-the-clock-at-a-grant", "TestResource_anOldEventDoesNotGrantAfterAStop", "resource.go", "if !r.validLocked(p.session) {\n\t\tr.endS", "if false {\n\t\tr.endS"},
		{"watch-from-a-revision", "TestOrder_aFreshWatchIsNotLate", "watch.go", "clientv3.WithCreatedNotify())", "clientv3.WithCreatedNotify(), clientv3.WithRev(1))"},
		{
			"snapshot-before-subscription", "TestOrder_nothingIsMissedBeforeTheWatch", "watch.go", `	events := r.watching.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	created, ok := <-events
	switch {
	case !timer.Stop():
		r.watchFailed(errNoAnswer)
		return false, false
	case !ok || created.Err() != nil:
		r.watchFailed(cmp.Or(created.Err(), errNoAnswer))
		return false, false
	}
	if !r.readSnapshot(s, all, prefix) {
		return false, false
	}
`, `	if !r.readSnapshot(s, all, prefix) {
		return false, false
	}
	events := r.watching.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	created, ok := <-events
	switch {
	case !timer.Stop():
		r.watchFailed(errNoAnswer)
		return false, false
	case !ok || created.Err() != nil:
		r.watchFailed(cmp.Or(created.Err(), errNoAnswer))
		return false, false
	}
`,
		},
		{"two-watches-for-cap-and-tickets", "TestResize_appliesBeforeALaterRelease", "watch.go", "\t\tr.applyLocked(s, resp)\n", `
			rest := resp
			rest.Events = nil
			for _, e := range resp.Events {
				if string(e.Kv.Key) != r.keys.cap {
					rest.Events = append(rest.Events, e)
					continue
				}
				go func() {
					time.Sleep(100 * time.Millisecond)
					r.mu.Lock()
					defer r.mu.Unlock()
					if l, err := parseLimit(e.Kv); err == nil && r.view != nil {
						r.view.limit = l
						r.setLimitLocked(l)
						r.advanceLocked()
					}
				}()
			}
			r.applyLocked(s, rest)
`},
		{"a-shrink-is-ignored-on-resync", "TestResize_isReadInASnapshot", "watch.go", "if v.limit.mod == 0 {", "if v.limit.capacity < r.limit.capacity {"},
		{"the-frontier-is-not-moved-on-a-cancel", "TestResource_aBigRequestIsNotOvertaken", "watch.go", "last && r.view == v {", "last && !deleted && r.view == v {"},
		{"ranks-off-by-one", "TestOrder_ofCallsThatShareATransaction", "sender.go", "older = add(older, p.n)", "_ = i"},
		{"releases-are-batched-with-puts", "TestResource_withoutSpace", "janitor.go", "\t\tp.deleting = true\n", "\t\tp.deleting = true\n\t\tops = append(ops, clientv3.OpPut(r.keys.root+\"x\", \"\"))\n"},
		{"try-without-its-compare", "TestTryAcquire_oneOfManyWins", "sender.go", "compares = append(compares, none.WithPrefix())", "_ = none"},
		{"granted-is-not-stored", "TestResource_aShrinkKeepsGrants", "fleet.go", "done.granted = max(done.granted, t.token)", ""},
		{"counted-is-not-stored", "TestFleet_InUseAgreesWithTheHistory", "fleet.go", "done.counted = max(done.counted, t.token)", ""},
		{
			"waiters-learn-of-the-loss", "TestOrder_ofAProcessSurvivesALoss", "session.go", "\tr.requeueLocked(r.callsLocked(inLine))",
			"for _, p := range r.callsLocked(inLine) {\n\t\tr.endLocked(p, ErrLost)\n\t}",
		},
		{"the-janitor-gives-up", "TestPermit_ReleaseReturnsWhenEtcdIsSilent", "janitor.go", "if err != nil && !p.session.ended {\n\t\t\tcontinue", "if false {\n\t\t\tcontinue"},
		{"no-watchdog", "TestResource_noticesASilentWatch", "watch.go", "silent := all && now.since(lastEvent) > r.ttl/2", "silent := all && now.since(lastEvent) > 1000*r.ttl"},
		// Other mutants.
		{"no-margin", "TestPermit_isLostAMarginBeforeTheLeaseEnds", "session.go", "return s.ttl - margin(s.ttl) -", "return 2*s.ttl -"},
		{"no-limit-in-the-compare", "TestResize_isComparedInATransaction", "sender.go", `clientv3.Compare(clientv3.ModRevision(r.keys.cap), "=", known.mod),`, ``},
		{"old-events-are-not-dropped", "TestOrder_oldEventsAreDropped", "watch.go", "if revision > v.revision {", "if true {"},
		{"a-shrink-is-not-seen", "TestResize_appliesBeforeALaterRelease", "watch.go", "\t\t\tv.limit = l\n", ""},
		{"what-is-deleted-stays-counted", "TestOrder_oldEventsAreDropped", "view.go", "v.passed -= t.n", ""},
		{"a-removed-ticket-stays-next", "TestResource_aBigRequestIsNotOvertaken", "view.go", "v.next = e.Next()\n\t}\n\tv.line", "\n\t}\n\tv.line"},
		{"no-fence", "TestFence", "sender.go", `s.epoch, s.fence = "", fence`, "_ = fence"},
		{"the-fence-keeps-the-epoch", "TestFence", "sender.go", "fence = []string{s.epoch}", "fence = []string{}"},
		{"the-fence-is-tried-once", "TestFence", "sender.go", "\tif err == nil {\n\t\ts.fence = nil", "\tif true {\n\t\ts.fence = nil"},
		{"a-lost-batch-is-given-up", "TestFence", "sender.go", "r.requeueLocked(r.dropLeftLocked(batch))\n\t\ts.epoch", "for _, p := range r.dropLeftLocked(batch) {\n\t\t\tr.endLocked(p, err)\n\t\t}\n\t\ts.epoch"},
		{"leases-are-not-revoked", "TestResource_givesBackAnIdleLease", "session.go", "r.revokes = append(r.revokes, v)\n\tr.startLocked", "_ = v\n\tr.startLocked"},
		{"a-left-ticket-stays", "TestFence_ofACanceledCall", "sender.go", "delete(r.calls, p.key)\n\t\t\tr.deleteLocked(p)", "delete(r.calls, p.key)"},
		{"the-view-is-not-asked", "TestOrder_theViewIsAheadOfTheAnswer", "sender.go", "\t\t\t\tr.checkViewLocked(p)\n", ""},
		{"the-wall-clock-is-not-asked", "TestPermit_ErrReadsBothClocks", "clock.go", "return max(i.mono-earlier.mono, i.wall-earlier.wall)", "return i.mono - earlier.mono"},
		{"renewals-spin", "TestRenewal_doesNotSpin", "keeper.go", "\t\tdefer c.cancel()\n", ""},
		{"calls-are-requeued-at-the-front", "TestOrder_ofAProcessSurvivesALoss", "resource.go", "for e != nil && e.Value.(*Permit).arrival < p.arrival {", "for false {"},
		{"a-try-waits-behind-others", "TestTryAcquire_behindACrowd", "sender.go", "\tr.updateTriesLocked(l, revision, older)\n", ""},
		{"a-try-does-not-learn-the-limit", "TestTryAcquire_seesTheCapacity", "fleet.go", "\t\tr.noteLimit(l, known)\n", ""},
		{"too-large-is-seen-at-the-head-only", "TestResource_ErrTooLargeBehindACrowd", "resource.go", "\tr.limitMayBeOld = r.limitMayBeOld || r.limit.tooLarge(p.n)\n", ""},
		{"too-large-is-older-than-the-call", "TestResource_ErrTooLargeIsNotOlderThanTheCall", "sender.go", "p.arrival <= last && r.limit", "last >= 0 && r.limit"},
		{"a-lost-lease-is-revoked-at-once", "TestPermit_aLostLeaseIsRevokedAMarginLater", "session.go", "v.since, v.after = r.now(), margin(s.ttl)", "_ = lost"},
		{"close-does-not-end-requests", "TestClose_endsCallsInEachState", "resource.go", "\tr.endCalls()\n", ""},
		{"drain-does-not-wait-for-workers", "TestDrain_waitsForRequestsUnderWay", "resource.go", "return !r.sender.runs && !r.janitor", "return r.session == nil && !r.busyLocked() && len(r.revokes) == 0 || !r.sender.runs && !r.janitor"},
		{"a-denied-watch-is-repeated", "TestDenied", "watch.go", "\tif faultOf(err).final() {\n\t\tfor", "\tif false {\n\t\tfor"},
		{"a-restored-store-is-ignored", "TestResource_longAfterARestore", "limit.go", "if l.mod < known && known == r.limit.mod {", "if false {"},
		{"a-wake-up-ends-a-pause", "TestResource_callsDoNotShortenThePauses", "worker.go", "\ttime.Sleep(d)\n", "\tselect {\n\tcase <-time.After(d):\n\tcase <-r.sender.wake:\n\t}\n"},
		{"each-malformed-capacity-leaves-an-epoch", "TestResource_aCapacityThatIsNoNumberLeavesOneEpoch", "sender.go", "s.epochs--", "_ = s"},
		{"a-closed-client-is-not-noticed", "TestResource_aClosedClientEndsCallsInLine", "watch.go", "\t\terr = errClientClosed\n", ""},
		{"drain-waits-for-a-renewal", "TestDrain_returnsWithTheLastUse", "sender.go", "\t\t\tr.keeper.wakeLocked()\n", ""},
		{"what-a-lost-history-granted-counts", "TestResource_afterARestoreWithoutCap", "limit.go", "if l.granted>>placeBits >= l.mod {", "if false {"},
		{"each-ticket-has-a-new-name", "TestResource_usesTheNamesOfTicketsAgain", "janitor.go", "\t\tp.session.free(p.seq)\n", ""},
		{"a-late-delete-finds-another-ticket", "TestResource_aLateDeleteFindsNothing", "janitor.go", "[]clientv3.Cmp{p.Guard()}", "nil"},
		{"a-ticket-overwrites-one", "TestResource_aTicketIsNewAfterARestore", "sender.go", `clientv3.Compare(clientv3.Version(p.key), "=", 0)`, `clientv3.Compare(clientv3.Version(p.key), ">", -1)`},
		{"an-old-ticket-of-the-name-is-taken", "TestResource_anOldTicketIsRestoredWhileAPermitIsHeld", "watch.go", "t == nil || t.token != p.token", "t == nil"},
		{"a-restore-is-not-noticed", "TestResource_aRestoreWhileACallWaits", "sender.go", "if revision <= seen {", "if false {"},
		{"an-older-ticket-of-the-name-passes", "TestResource_aViewBehindHasAnOlderTicketOfTheSameName", "watch.go", " && p.token == t.token", ""},
		{"an-older-ticket-of-the-name-is-missed", "TestResource_aViewBehindHasAnOlderTicketOfTheSameName", "watch.go", "if p := r.calls[key]; p != nil {\n\t\t\tr.checkViewLocked(p)", "if p := r.calls[key]; p != nil {\n\t\t\tr.missingLocked(p)"},
		{"a-wait-asks-the-context-of-the-call", "TestPermit_ContextIsThatOfACallOfTheSameResource", "resource.go", "p.cond.WaitFor(p.done, p.decided)", "p.cond.WaitFor(ctx, p.decided)"},
		{"drain-asks-the-context-of-the-call", "TestPermit_ContextEndsAWaitOfTheSameResource", "resource.go", "doneOf(ctx)\n\tr.mu.Lock()", "ctx\n\tr.mu.Lock()"},
		{"goexit-ends-the-teller", "TestHooks_goexitInReleased", "worker.go", "if !returned {", "if !returned && false {"},
		{"calls-for-too-much-go-first", "TestResource_callsForTooMuchDoNotDelayOthers", "sender.go", "(!looked || !r.mayPutLocked()", "(true || !r.mayPutLocked()"},
		{"too-large-is-seen-at-the-front-only", "TestResource_ErrTooLargeWithoutSpace", "sender.go", "(!looked || !r.mayPutLocked()", "(!r.mayPutLocked()"},
		{"a-call-for-too-much-has-a-ticket", "TestResource_callsForTooMuchDoNotDelayOthers", "sender.go", "(r.limit.tooLarge(p.n) || p.try", "(p.try"},
		{"each-try-has-its-transaction", "TestTryAcquire_ofManyAtOnce", "sender.go", "\t\t\tp.try && (p", "\t\t\tp.try && (true || p"},
		{"an-old-answer-counts-for-a-try", "TestTryAcquire_hasReadLaterThanAnAnswer", "sender.go", "!p.try || p.tryRevision >= revision", "!p.try"},
		{"a-stale-try-is-sent", "TestTryAcquire_ofManyAtOnce", "sender.go", "p.tryRevision, p.tryLimit, p.tryUsed = revision, l.mod, used", ""},
		{"tries-share-too-few-permits", "TestTryAcquire_twoForOneFreePermit", "sender.go", "!r.limit.fits(sum, used)", "!r.limit.fits(0, used)"},
		{"what-is-behind-a-try-waits", "TestTryAcquire_behindACallThatNeedNotWait", "sender.go", "if len(batch)+r.inLine == maxInLine {", "if true {"},
		{"what-is-behind-a-batch-waits", "TestTryAcquire_behindACallThatIsBehindATry", "sender.go", "if len(batch)+r.inLine == maxInLine {", "if !batch[0].try {"},
		{"a-failed-try-keeps-its-name", "TestTryAcquire_thatFailsTakesNoName", "sender.go", "\t\t\ts.free(p.seq)\n", ""},
		{"each-watch-has-a-new-stream", "TestWatch_streamsAreUsedAgain", "watch.go", "\ts.probes = s.made - 1\n", ""},
		{"stuck-streams-are-tried-first", "TestWatch_oneEndpointStaysSilent", "watch.go", "s.probes > 0 && ", ""},
		{"stuck-streams-stay", "TestWatch_oneEndpointStaysSilent", "watch.go", "s.made, s.probes = 0, 1", "s.made, s.probes = 0, 0"},
		{"a-loss-is-not-reported", "TestHooks_balanceWhenLost", "permit.go", "r.losses = append(r.losses, p)", ""},
	}
}

func main() {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var survivors []string
	next := make(chan mutant)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for m := range next {
				start := time.Now()
				found, out, err := m.run()
				if err != nil {
					out = err.Error()
				}
				if !found {
					mu.Lock()
					survivors = append(survivors, m.name)
					mu.Unlock()
				}
				fmt.Printf("%-38s found=%-5v %4.0fs %s\n", m.name, found, time.Since(start).Seconds(), out)
			}
		})
	}
	names := os.Args[1:]
	for _, m := range mutants() {
		if len(os.Args) == 1 || slices.Contains(names, m.name) {
			names = slices.DeleteFunc(names, func(name string) bool { return name == m.name })
			next <- m
		}
	}
	close(next)
	wg.Wait()
	if len(survivors) > 0 {
		fmt.Println("survived:", strings.Join(survivors, ", "))
	}
	if len(names) > 0 {
		fmt.Println("there is no", strings.Join(names, ", "))
	}
	if len(survivors)+len(names) > 0 {
		os.Exit(1)
	}
}

// run runs the test of m with the change, and reports whether it failed. out is
// a line of its output.
func (m mutant) run() (found bool, out string, err error) {
	file, err := filepath.Abs(m.file)
	if err != nil {
		return false, "", err
	}
	source, err := os.ReadFile(file)
	if err != nil {
		return false, "", err
	}
	if strings.Count(string(source), m.old) != 1 {
		return false, "", fmt.Errorf("%s does not have exactly one %q", m.file, m.old)
	}
	dir, err := os.MkdirTemp("", "condvar-mutant-")
	if err != nil {
		return false, "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	changed, overlay := filepath.Join(dir, m.file), filepath.Join(dir, "overlay.json")
	text, err := json.Marshal(map[string]map[string]string{"Replace": {file: changed}})
	if err != nil {
		return false, "", err
	}
	if err := os.WriteFile(changed, []byte(strings.Replace(string(source), m.old, m.new, 1)), 0o600); err != nil {
		return false, "", err
	}
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		return false, "", err
	}
	cmd := exec.Command("go", "test", "-count=1", "-failfast", "-timeout=30s", "-vet=off", "-ldflags=-s -w",
		"-run=^"+m.test+"$", "-overlay", overlay, ".")
	output, err := cmd.CombinedOutput()
	if s := string(output); strings.Contains(s, "[build failed]") || strings.Contains(s, "no tests to run") {
		return false, "", fmt.Errorf("%s: %s", m.test, output)
	}
	for line := range strings.Lines(string(output)) {
		if strings.Contains(line, "panic: ") || strings.Contains(line, "--- FAIL") && out == "" {
			out = strings.TrimSpace(line)
		}
	}
	return err != nil, out[:min(len(out), 120)], nil
}
