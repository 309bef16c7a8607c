/*
 * Cond, as it is in cond.go and line.go: Wait, WaitFor, Listen, Notify, NotifyN,
 * NotifyAll. run.sh says which instances and which broken variants are run.
 *
 * NW goroutines (Waiter) wait for data > 0 and take one, each by one of the
 * KINDS of wait, ROUNDS times; NP goroutines (Producer) may add data and notify
 * by one of the OPS; at most NC contexts end, anybody's, at any time (Canceler).
 *
 *   WAITFOR    WaitFor; pred may panic, if PANICS is defined
 *   WAIT       the loop in the documentation of Wait
 *   LISTEN     the loop in the documentation of Listen; Stop
 *   MISUSE     Wait without L, so that L.Unlock panics
 *   join, park appendLocked, parkLocked, and where wait sleeps
 *   notify     commitLocked and send
 *   parkLocked also busyLocked; unparkLocked, also idleLocked
 *   cancel, leave, appendLocked, unlink
 *              the functions of these names
 *
 * A token is in a channel of size 1, or as good as: a waiter that no context can
 * end sleeps on a sync.Cond, which it has joined before it unlocks mu, so that
 * a Signal is for it from then on, and there is one Signal for each commit. That
 * those of Wait share one sync.Cond, whose order is that of the line, and what
 * becomes of a ticket if L panics, is not in here: explore has it.
 *
 * Granularity. A critical section of mu with at most one effect that is seen
 * without mu (the store to idle) is one step: it begins with a step that others
 * cannot disturb, and ends with one that cannot disturb others. That of
 * commitLocked has several and holds mu from step to step. Loads, stores, channel
 * operations and looks at a context outside mu are steps of their own. As with
 * Go's atomics and locks, memory is sequentially consistent.
 *
 * Left out: the free list. A waiter belongs to its goroutine, and whenever it
 * would go to the list the model checks that no token lies in it or is under
 * way (Recycled), so that it makes no difference who gets it. Copies of a Cond,
 * bubbles, and the texts of errors are left out, too.
 *
 * Properties, by the names that stand in the assertions:
 *   LostWakeup  at rest, nobody is parked while there is data
 *   Books       at rest, no lock is held, no token or notification is left over,
 *               waiting and idle agree with the line
 *   Overlooked  Notify returns 0 only if nobody waited, with a live context, from
 *               before the call until its end, but for those whom another call
 *               wakes
 *   OutOfOrder  a notification goes to the one who came first, of those who are
 *               parked and alive; WaitFor keeps its place
 *   Dead        nobody is notified whose context ended before the call
 *   NotAtOnce   a call wakes nobody who joined after the first was woken
 *   Recycled    see above
 *   Spurious    a token comes to those who were notified only, and there is
 *               room for it; who parks again or leaves was not parked twice
 * In addition spin finds every state in which somebody is stuck elsewhere than
 * in line ("invalid end state").
 */
#define WAITFOR 1
#define WAIT 2
#define LISTEN 4
#define MISUSE 8

#define NOTIFY 1     /* one datum, Notify without L */
#define NOTIFY_L 2   /* one datum, Notify with L held */
#define NOTIFY_N 4   /* two data, NotifyN(2) */
#define NOTIFY_ALL 8 /* one datum, NotifyAll */

#ifndef NW
#define NW 3
#endif
#ifndef NP
#define NP 2
#endif
#ifndef NC
#define NC 2
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef KINDS
#define KINDS WAITFOR
#endif
#ifndef OPS
#define OPS (NOTIFY | NOTIFY_L)
#endif

#define ROOT NW
#define BIT(w) (1 << (w))

/* The names of the properties. Always 0, and no part of the state. */
hidden byte LostWakeup, Books, Overlooked, OutOfOrder, Dead, NotAtOnce, Recycled, Spurious;

bool L;
byte data;

/* Cond */
bool mu;
bool idle = true;
byte line[NW], size; /* the ring in order of place */
byte first = ROOT;
byte waiting;

/* the waiters; parked has one more for root */
bool parked[NW + 1], notified[NW], broadcast[NW], keep[NW], eager[NW], token[NW];
bool done[NW]; /* the context has ended; for a Listener, that it quits */

/* for the properties */
byte before[NW];   /* those who were in line when this one joined, and still are */
byte unlocked;     /* those who have unlocked L and wait, and are not settled */
byte inFlight;     /* those to whom a token will be sent */
byte seen[NW + NP]; /* for each who notifies: who has waited since before the call */
byte passedOver;   /* those whom a call did not find, as another was about to wake them */

byte began = 0; /* Waiters are alike, and so are Producers: they begin in order */

hidden byte i, j; /* scratch of single steps */

inline acquire(l) { atomic { !l -> l = true } }

/* remove takes w out of the ring. */
inline remove(w) {
	i = 0;
	do
	:: line[i] == w -> break
	:: else -> i++
	od;
	size--;
	do
	:: i < size -> line[i] = line[i + 1]; i++
	:: else -> break
	od;
	line[size] = 0
}

inline unlink(w) {
	remove(w);
	j = 0;
	do
	:: j < NW -> before[j] = before[j] & ~BIT(w); j++
	:: else -> break
	od;
	before[w] = 0
}

inline parkLocked(w) {
	assert(Spurious || !parked[w]);
	parked[w] = true;
#ifndef STALE_FIRST
	i = 0;
	do
	:: i == size || line[i] == first -> break
	:: else ->
		if
		:: line[i] == w -> first = w; break
		:: else -> i++
		fi
	od;
#else
	if
	:: first == ROOT -> first = w
	:: else
	fi;
#endif
	waiting++;
#ifndef IDLE_LATE
	idle = false
#endif
}

inline appendLocked(w) {
	i = 0;
	do
	:: i < size -> before[w] = before[w] | BIT(line[i]); i++
	:: else -> break
	od;
	line[size] = w;
	size++;
	parkLocked(w)
}

inline unparkLocked(w) {
	assert(Spurious || parked[w]);
	parked[w] = false;
	do
	:: parked[first] -> break
	:: else ->
		i = 0;
		do
		:: line[i] == first -> break
		:: else -> i++
		od;
		first = (i + 1 < size -> line[i + 1] : ROOT)
	od;
	if
	:: keep[w]
	:: else -> unlink(w)
	fi;
	waiting--;
#ifndef IDLE_STAYS
	if
	:: waiting == 0 -> idle = true
	:: else
	fi
#else
	skip
#endif
}

/* settle: w has been notified, or its context has ended, or it has stopped. */
inline settle(w) {
	unlocked = unlocked & ~BIT(w);
	passedOver = passedOver & ~BIT(w);
	j = 0;
	do
	:: j < NW + NP -> seen[j] = seen[j] & ~BIT(w); j++
	:: else -> break
	od
}

inline join(w, k, e) {
	d_step {
		!mu;
		assert(Recycled || (!token[w] && !(inFlight & BIT(w))));
		keep[w] = k;
		eager[w] = e;
		appendLocked(w)
	}
}

/* sleep is park between L.Unlock and L.Lock. */
inline sleep(w) {
#ifdef IDLE_LATE
	idle = false;
#endif
	skip;
end_parked:
	if
	:: d_step { token[w] -> token[w] = false; assert(Spurious || notified[w]) }
	:: done[w] ->
		d_step {
			!mu;
			if
			:: parked[w] -> unparkLocked(w); settle(w)
			:: else
			fi
		}
#ifndef RECYCLE_EARLY
		if
		:: notified[w] ->
			d_step { token[w]; token[w] = false }
#ifdef DROP_TOKEN
			notified[w] = false
#endif
		:: else
		fi
#endif
	fi
}

inline unlockL(w) { d_step { L = false; unlocked = (parked[w] -> unlocked | BIT(w) : unlocked) } }

inline park(w) {
	unlockL(w);
	sleep(w);
	acquire(L)
}

/* notify is notify and commitLocked, called by process me. */
inline notify(me, limit, all) {
	d_step {
		seen[me] = unlocked;
		j = 0;
		do
		:: j < NW ->
			if
			:: done[j] -> dead = dead | BIT(j)
			:: else
			fi;
			j++
		:: else -> break
		od
	}
	if
	:: idle
	:: else ->
		atomic {
#ifndef NO_MUTEX
			!mu -> mu = true;
#endif
			d_step {
				j = 0;
				do
				:: j < size -> inLine = inLine | BIT(line[j]); j++
				:: else -> break
				od
			}
		}
		do
		:: n < limit && waiting > 0 ->
			d_step {
				assert(Spurious || first != ROOT);
				k = first;
#ifndef NO_ENDED_CHECK
				gone = done[k] && !eager[k]
#endif
			}
#ifdef LOOKS_LATE
			d_step { unparkLocked(k) }
			gone = done[k] && !eager[k];
#endif
			atomic {
#ifndef LOOKS_LATE
				d_step { unparkLocked(k) }
#endif
				if
				:: gone -> d_step { assert(Overlooked || !(passedOver & BIT(k))); settle(k); gone = false }
				:: else -> d_step {
					assert(Dead || eager[k] || !(dead & BIT(k)));
					assert(NotAtOnce || (inLine & BIT(k)));
					inLine = inLine & ~BIT(k);
					j = 0;
					do
					:: j < NW ->
						assert(OutOfOrder || !(before[k] & BIT(j)) || !parked[j] || (done[j] && !eager[j]));
						j++
					:: else -> break
					od;
					settle(k);
					notified[k] = true;
					broadcast[k] = all;
					n++;
					if
#ifndef LAZY_LISTENER
					:: eager[k] -> assert(Spurious || !token[k]); token[k] = true
#endif
					:: else -> wake = wake | BIT(k); inFlight = inFlight | BIT(k)
					fi }
				fi;
				k = 0
			}
#ifdef ALL_IN_PARTS
			mu = false;
			acquire(mu)
#endif
		:: atomic { !(n < limit && waiting > 0) -> d_step { mu = false; inLine = 0 } } break
		od;
		do
		:: wake & 1 -> send(0)
		:: wake & 2 -> send(1)
		:: wake & 4 -> send(2)
		:: !wake -> break
		od
	fi;
	atomic {
		j = 0;
		do
		:: j < NW ->
			if
			:: n == 0 && (seen[me] & BIT(j)) && !(done[j] && !eager[j]) ->
				assert(Overlooked || !parked[j]);
				passedOver = passedOver | BIT(j)
			:: else
			fi;
			j++
		:: else -> break
		od;
		seen[me] = 0;
		dead = 0;
		n = 0
	}
}

inline send(w) {
	d_step {
		assert(Spurious || !token[w]);
		token[w] = true;
		wake = wake & ~BIT(w);
		inFlight = inFlight & ~BIT(w)
	}
}

/* leave; recycle says that the waiter would go to the free list. */
inline leave(w, recycle) {
	d_step {
		!mu;
#ifndef LEFT_BEHIND
		if
		:: parked[w] -> unparkLocked(w); settle(w)
		:: else
		fi;
#endif
		if
		:: keep[w] -> unlink(w)
		:: else
		fi;
#ifdef NO_PASS
		pass = false;
#else
		pass = notified[w] && !broadcast[w];
#endif
		notified[w] = false;
		assert(Recycled || !recycle || (!token[w] && !(inFlight & BIT(w))))
	}
	if
	:: pass -> pass = false; notify(w, 1, false)
	:: else
	fi
}

proctype Waiter(byte w) {
	byte k, n, wake, inLine, dead, round;
	bool pass, got, gone;

	d_step { (began & 15) == w; began++ }
	do
	:: round < ROUNDS ->
		round++;
		if
#if KINDS & WAITFOR
		:: true ->
			acquire(L);
			if
			:: data > 0 -> got = true
			:: else ->
				if
				:: done[w]
				:: else ->
#ifdef JOIN_LATE
					L = false;
					join(w, true, false);
					acquire(L);
#else
					join(w, true, false);
#endif
					do
					:: true ->
						park(w);
						if
#ifdef PREFER_CONTEXT
						:: done[w] -> notified[w] = false; break
						:: !done[w] && data > 0 -> notified[w] = false; got = true; break
#else
						:: data > 0 -> notified[w] = false; got = true; break
#endif
#ifdef PANICS
						:: break
#endif
						:: data == 0 ->
							if
							:: done[w] -> break
							:: else ->
								d_step {
									!mu;
									notified[w] = false;
#ifdef LOSE_PLACE
									remove(w);
									line[size] = w;
									size++;
#endif
									parkLocked(w)
								}
							fi
						fi
					od;
					leave(w, true)
				fi
			fi;
			d_step { data = data - got; got = false; L = false }
#endif
#if KINDS & WAIT
		:: true ->
			acquire(L);
			do
			:: data > 0 -> data--; break
			:: else ->
				if
				:: done[w] -> break
				:: else ->
#ifdef JOIN_LATE
					unlockL(w);
					join(w, false, false);
					sleep(w);
					acquire(L);
#else
					join(w, false, false);
					park(w);
#endif
					got = notified[w];
					notified[w] = false;
					leave(w, true);
					if
					:: got -> got = false
					:: else -> break
					fi
				fi
			od;
			L = false
#endif
#if KINDS & LISTEN
		:: true ->
			acquire(L);
			do
			:: data > 0 -> data--; break
			:: else ->
				join(w, false, true);
				unlockL(w);
end_listening:			if
				:: d_step { token[w] -> token[w] = false; assert(Spurious || notified[w]) }
				:: done[w] -> got = true /* here: quit */
				fi;
				d_step {
					!mu;
					if
					:: parked[w] -> unparkLocked(w); settle(w)
					:: else
					fi
				}
				d_step {
					pass = token[w] && !broadcast[w];
#ifdef STOP_NO_PASS
					pass = false;
#endif
					token[w] = false;
					notified[w] = false
				}
				if
				:: pass -> pass = false; notify(w, 1, false)
				:: else
				fi;
				acquire(L);
				if
				:: got -> got = false; break
				:: else
				fi
			od;
			L = false
#endif
#if KINDS & MISUSE
		:: true ->
			join(w, false, false);
			leave(w, false);
			break /* a token may lie in its channel for ever */
#endif
		fi
	:: else -> break
	od
}

inline produce(me, number, locked, limit, all) {
	acquire(L);
	data = data + number;
	if
	:: locked -> notify(me, limit, all); L = false
	:: else -> L = false; notify(me, limit, all)
	fi
}

proctype Producer(byte me) {
	byte k, n, wake, inLine, dead;
	bool gone;

	d_step { (began >> 4) == me - NW; began = began + 16 }
	if
	:: true /* nothing: so instances with fewer producers are part of this one */
#if OPS & NOTIFY
	:: produce(me, 1, false, 1, false)
#endif
#if OPS & NOTIFY_L
	:: produce(me, 1, true, 1, false)
#endif
#if OPS & NOTIFY_N
	:: produce(me, 2, false, 2, false)
#endif
#if OPS & NOTIFY_ALL
	:: produce(me, 1, false, 255, true)
#endif
	fi
}

proctype Canceler() {
	byte n;

	do
	:: n < NC ->
		n++;
		if
		:: done[0] = true
		:: done[1] = true
#if NW > 2
		:: done[2] = true
#endif
		:: break
		fi
	:: else -> break
	od
}

/* AtRest runs when nobody else can. */
proctype AtRest() {
	timeout;
	d_step {
		assert(LostWakeup || data == 0 || waiting == 0);
		assert(Books || (!L && !mu && inFlight == 0 && size == waiting && idle == (waiting == 0)));
		j = 0;
		do
		:: j < NW -> assert(Books || !notified[j]); j++
		:: else -> break
		od
	}
}

init {
	atomic {
		parked[ROOT] = true;
		run Waiter(0);
		run Waiter(1);
#if NW > 2
		run Waiter(2);
#endif
		run Producer(NW);
#if NP > 1
		run Producer(NW + 1);
#endif
		run Canceler();
		run AtRest()
	}
}
