/*
 * Cond, as it is in waiter.go and cond.go: Wait, WaitFor, Listen, Stop, Notify,
 * NotifyN, NotifyAll. run.sh lists the instances and the broken variants.
 *
 * NW goroutines (Waiter) wait for data > 0 and take one, each by one of the KINDS
 * of wait, ROUNDS times. NP goroutines (Producer) may add data and notify by one of
 * the OPS. At most NC contexts, of any waiter, end at any time (Canceler).
 *
 *   WAITFOR    WaitFor
 *   WAIT       the loop in the documentation of Wait
 *   LISTEN     the loop in the documentation of Listen; Stop
 *   PANICS     which of the predicate, L.Unlock and L.Lock may panic
 *   MAX_SENT   maxSentLocked: how many tokens of a call are sent with mu held
 *   notify     notify, notifyLocked, and send for the waiters with unsent tokens
 *   leave, leaveLocked, appendLocked, removeLocked
 *              the functions of these names
 *
 * Granularity. A critical section of mu with at most one effect that is visible
 * without mu (the store to idle) is one step. That of notifyLocked has several and
 * holds mu from step to step: the check of a context, the removal with the store to
 * idle, and the token are three. Loads, channel operations and checks of a context
 * outside mu are separate steps. As with Go's atomics and locks, memory is
 * sequentially consistent.
 *
 * Left out: the pool, which is in pool.pml. A waiter belongs to its goroutine.
 * Whenever it would go to the pool, the model checks that no other process uses it
 * (Recycled), so it makes no difference which call gets it. Copies of a Cond,
 * bubbles, and the texts of errors are left out, too.
 *
 * Properties, by their names in the assertions:
 *   LostWakeup  at rest, no waiter is parked while there is data
 *   Books       at rest, no lock is held, no token is unsent, and idle and the
 *               states agree with the line
 *   Exact       each notification of Notify and NotifyN is used once: by a return
 *               of nil, or by a predicate after which the waiter joins again or
 *               returns nil; or it is passed on when the line is empty. So none is
 *               invented, and none is left at rest
 *   Overlooked  Notify returns 0 only if no waiter with a live context waited from
 *               before the call until its end, except for those that another call
 *               wakes
 *   OutOfOrder  a notification goes to the waiter in line that joined first
 *   Dead        no waiter is notified whose context ended before the call
 *   NotAtOnce   a call wakes no waiter that joined after the first was woken
 *   Recycled    a waiter that goes to the pool is not in line, has no token, and is
 *               sent none
 *   Spurious    only notified waiters get a token, and there is room for it; no
 *               waiter is in line twice
 * In addition spin finds every state in which a process is stuck outside the line
 * ("invalid end state"). With ONLY=P, only P is checked.
 */
#define WAITFOR 1
#define WAIT 2
#define LISTEN 4

#define NOTIFY 1     /* one datum, Notify without L */
#define NOTIFY_L 2   /* one datum, Notify with L held */
#define NOTIFY_N 4   /* two data, NotifyN(2) */
#define NOTIFY_ALL 8 /* one datum, NotifyAll */

#define PRED 1
#define UNLOCK 2
#define LOCK 4

#ifndef NW
#define NW 3
#endif
#ifndef NP
#define NP 2
#endif
#ifndef NC
#define NC 1
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef KINDS
#define KINDS WAITFOR
#endif
#ifndef OPS
#define OPS NOTIFY
#endif
#ifndef PANICS
#define PANICS 0
#endif
#ifndef MAX_SENT
#define MAX_SENT 1
#endif

#define AWAY 0
#define PARKED 1
#define NOTIFIED 2
#define SWEPT 3

#define BIT(w) (1 << (w))

/* The names of the properties. Always 0, except with ONLY, and not part of the state. */
hidden byte LostWakeup, Books, Exact, Overlooked, OutOfOrder, Dead, NotAtOnce, Recycled, Spurious;

bool L;
byte data;

/* Cond */
bool mu;
bool idle = true;
byte line[NW], size;

/* the waiters */
byte state[NW];
bool isListener[NW], token[NW];
bool done[NW]; /* the context has ended; a Listener quits */

/* for the properties */
byte inLine;        /* the waiters in line */
byte before[NW];    /* the waiters that were in line when this one joined, and still are */
byte unlocked;      /* the waiters that have unlocked L and wait, and are not settled */
byte inFlight;      /* the waiters that will be sent a token */
byte unused;        /* notifications of Notify and NotifyN that are not used */
byte seen[NW + NP]; /* for each notifier: the waiters since before the call */
byte passedOver;    /* waiters that a call did not find, as another was about to wake them */

byte began = 0; /* all Waiters are alike, and all Producers: they begin in order */

hidden byte i, j; /* scratch of single steps */

inline acquire(l) { atomic { !l -> l = true } }

inline appendLocked(w) {
	state[w] = PARKED;
	assert(Spurious || !(inLine & BIT(w)));
	before[w] = inLine;
#ifdef JOINS_AT_HEAD
	i = size;
	do
	:: i > 0 -> line[i] = line[i - 1]; i--
	:: else -> break
	od;
	line[0] = w;
#else
	line[size] = w;
#endif
	size++;
	inLine = inLine | BIT(w);
#ifndef IDLE_LATE
	idle = false
#endif
}

inline removeLocked(w) {
	assert(Spurious || (inLine & BIT(w)));
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
	line[size] = 0;
	inLine = inLine & ~BIT(w);
	i = 0;
	do
	:: i < NW -> before[i] = before[i] & ~BIT(w); i++
	:: else -> break
	od;
	before[w] = 0;
	i = 0;
#ifndef IDLE_STAYS
	if
	:: size == 0 -> idle = true
	:: else
	fi
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
	od;
	j = 0
}

inline leaveLocked(w) {
	if
	:: state[w] == PARKED -> removeLocked(w); settle(w); state[w] = AWAY
	:: else
	fi
}

inline join(w, listener) {
	d_step {
		!mu;
		isListener[w] = listener;
		appendLocked(w)
	}
}

inline receive(w) {
	d_step {
		token[w] -> token[w] = false;
		assert(Spurious || state[w] == NOTIFIED || state[w] == SWEPT)
	}
}

inline recycle(w) {
	assert(Recycled || (!token[w] && !(inFlight & BIT(w)) && !(inLine & BIT(w))))
}

/* use: a notification is used, or passed on when the line is empty. */
inline use() {
	assert(Exact || unused > 0);
	unused = (unused > 0 -> unused - 1 : 0)
}

inline send(w) {
	assert(Spurious || !token[w]);
	token[w] = true
}

/* notify is notify and notifyLocked, called by process me. */
inline notify(me, limit, how) {
	d_step {
		seen[me] = unlocked;
		j = 0;
		do
		:: j < NW -> dead = dead | (done[j] -> BIT(j) : 0); j++
		:: else -> break
		od;
		j = 0
	}
	if
	:: idle
	:: else ->
		atomic {
#ifndef NO_MUTEX
			!mu -> mu = true;
#endif
			were = inLine
		}
		do
		:: n < limit && size > from ->
			d_step {
				k = line[from];
#ifndef NO_ENDED_CHECK
				gone = done[k] && !isListener[k]
#endif
			}
#ifdef LOOKS_LATE
			d_step { removeLocked(k) }
			gone = done[k] && !isListener[k];
#endif
			d_step {
				if
				:: gone ->
					assert(Overlooked || !(passedOver & BIT(k)));
#ifdef PASSED_OVER_STAYS
					from++;
#else
#ifndef LOOKS_LATE
					removeLocked(k);
#endif
#endif
					settle(k);
					state[k] = AWAY;
					gone = false
				:: else ->
					assert(Dead || isListener[k] || !(dead & BIT(k)));
					assert(NotAtOnce || (were & BIT(k)));
					assert(OutOfOrder || !before[k]);
					were = were & ~BIT(k);
#ifndef LOOKS_LATE
					removeLocked(k);
#endif
					settle(k);
					state[k] = how;
					n++;
					unused = unused + (me >= NW && how == NOTIFIED);
					inFlight = inFlight | BIT(k);
#ifdef LAZY_LISTENER
					now = (n <= MAX_SENT);
#else
					now = (n <= MAX_SENT || isListener[k]);
#endif
					wake = (now -> wake : wake | BIT(k))
				fi
			}
			if
			:: d_step { now -> send(k); inFlight = inFlight & ~BIT(k); now = false }
			:: else
			fi;
			k = 0
#ifdef ALL_IN_PARTS
			;
			mu = false;
			acquire(mu)
#endif
		:: atomic { !(n < limit && size > from) -> d_step { mu = false; were = 0; from = 0 } } break
		od;
		do
		:: wake & 1 -> sendUnsent(0)
		:: wake & 2 -> sendUnsent(1)
		:: wake & 4 -> sendUnsent(2)
		:: !wake -> break
		od
	fi;
	atomic {
		j = 0;
		do
		:: j < NW ->
			if
			:: n == 0 && (seen[me] & BIT(j)) && !(done[j] && !isListener[j]) ->
				assert(Overlooked || !(inLine & BIT(j)));
				passedOver = passedOver | BIT(j)
			:: else
			fi;
			j++
		:: else -> break
		od;
		if
		:: n == 0 && me < NW -> use()
		:: else
		fi;
		j = 0;
		seen[me] = 0;
		dead = 0;
		n = 0
	}
}

/* inFlight is also the queue of the waiters whose tokens are unsent. */
inline sendUnsent(w) {
#ifdef SENDS_THEN_UNLINKS
	d_step { send(w); wake = wake & ~BIT(w) }
	inFlight = inFlight & ~BIT(w)
#else
	d_step { send(w); wake = wake & ~BIT(w); inFlight = inFlight & ~BIT(w) }
#endif
}

proctype Waiter(byte w) {
	byte kind, k, n, wake, were, dead, from, round, pass;
	bool unspent, held, gone, now;

	d_step { (began & 15) == w; began++ }
	do
	:: round < ROUNDS ->
		round++;
		if
#if KINDS & WAITFOR
		:: kind = WAITFOR
#endif
#if KINDS & WAIT
		:: kind = WAIT
#endif
#if KINDS & LISTEN
		:: kind = LISTEN
#endif
		fi;
		atomic { !L -> L = true; held = true }
		do
#ifdef PREFER_CONTEXT
		:: d_step { unspent && done[w] -> unspent = false; use() } break
		:: d_step { data > 0 && !(unspent && done[w]) -> data--;
#else
		:: d_step { data > 0 -> data--;
#endif
			if
			:: unspent -> use(); unspent = false
			:: else
			fi
		   } break
#if PANICS & PRED
		:: kind == WAITFOR -> break
#endif
		:: data == 0 ->
			if
			:: done[w] && kind != LISTEN -> break
			:: else
			fi;
#ifdef JOIN_LATE
			L = false;
#endif
			d_step {
				!mu;
				isListener[w] = (kind == LISTEN);
				appendLocked(w);
				if
				:: unspent -> use()
				:: else
				fi;
#ifndef UNSPENT_STAYS
				unspent = false
#endif
			}
			if
			:: d_step { true ->
				L = false;
				held = false;
				unlocked = (state[w] == PARKED -> unlocked | BIT(w) : unlocked)
			   }
#if PANICS & UNLOCK
			:: kind != LISTEN -> /* L.Unlock panics: it has unlocked L, or not */
				if
				:: d_step { true -> L = false; held = false }
				:: true
				fi;
#ifndef LEFT_BEHIND
				d_step { !mu; leaveLocked(w) }
				if
				:: state[w] == AWAY
				:: state[w] != AWAY ->
					receive(w);
#ifdef NO_PASS
					if
					:: state[w] == NOTIFIED -> d_step { use() }
					:: else
					fi
#else
					pass = (state[w] == NOTIFIED)
#endif
				fi;
#endif
				d_step { recycle(w); state[w] = AWAY }
				break
#endif
			fi;
#ifdef IDLE_LATE
			idle = false;
#endif
			skip;
end_parked:		if
			:: receive(w); gone = false
			:: done[w] && kind != LISTEN ->
#ifdef RECYCLES_EARLY
				d_step { !mu; leaveLocked(w); gone = (state[w] == AWAY); recycle(w) }
#else
				d_step { !mu; leaveLocked(w); gone = (state[w] == AWAY) }
#endif
				if
				:: gone
#ifdef LEAVES_WITHOUT_TOKEN
				:: !gone
#else
				:: !gone -> receive(w)
#endif
#ifdef DROPS_TOKEN
					d_step {
						gone = true;
						if
						:: state[w] == NOTIFIED -> use()
						:: else
						fi;
						state[w] = AWAY
					}
#endif
				fi
			:: done[w] && kind == LISTEN -> gone = true
			fi;
#if KINDS & LISTEN
			if
			:: kind == LISTEN ->
				if
				:: d_step { !gone && state[w] == NOTIFIED -> use() }
				:: else
				fi;
				/* Stop */
				d_step { !mu; leaveLocked(w) }
				d_step {
#ifdef STOP_NO_PASS
					if
					:: token[w] && state[w] == NOTIFIED -> use()
					:: else
					fi;
#else
					pass = (token[w] && state[w] == NOTIFIED);
#endif
					token[w] = false;
					state[w] = AWAY
				}
				if
				:: gone -> break
				:: !gone -> atomic { !L -> L = true; held = true }
				fi
			:: kind != LISTEN ->
#endif
				d_step { recycle(w) }
				/* lockL */
				if
				:: atomic { !L -> d_step { L = true; held = true;
					if
					:: kind == WAIT && state[w] == NOTIFIED -> use()
					:: else
					fi;
#ifdef PASSES_SWEPT
					unspent = (gone -> unspent : kind == WAITFOR);
#else
					unspent = (gone -> unspent : kind == WAITFOR && state[w] == NOTIFIED);
#endif
					state[w] = AWAY } }
#if PANICS & LOCK
				:: !gone ->
#ifdef NO_PASS
					d_step {
						if
						:: state[w] == NOTIFIED -> use()
						:: else
						fi
					}
#else
					pass = (state[w] == NOTIFIED);
#endif
					state[w] = AWAY;
					break
#endif
				fi;
				if
				:: gone -> break
				:: !gone
				fi
#if KINDS & LISTEN
			fi
#endif
		od;
		/* the deferred function of WaitFor, and the passing on in unlockL, lockL and Stop */
#ifdef NO_PASS
		atomic {
			if
			:: unspent -> use()
			:: else
			fi;
			unspent = false
		}
#endif
#ifdef NO_PASS_OF_UNSPENT
		unspent = false;
#endif
		atomic { pass = pass + unspent; unspent = false; gone = false }
		do
		:: pass > 0 -> pass--; notify(w, 1, NOTIFIED)
		:: else -> break
		od;
		if
		:: held -> d_step { L = false; held = false }
		:: else
		fi;
		kind = 0
	:: else -> break
	od
}

inline produce(me, number, locked, limit, how) {
	acquire(L);
	data = data + number;
	if
	:: locked -> notify(me, limit, how); L = false
	:: else -> L = false; notify(me, limit, how)
	fi
}

proctype Producer(byte me) {
	byte k, n, wake, were, dead, from;
	bool gone, now;

	d_step { (began >> 4) == me - NW; began = began + 16 }
	if
	:: true /* nothing: so this includes instances with fewer producers */
#if OPS & NOTIFY
	:: produce(me, 1, false, 1, NOTIFIED)
#endif
#if OPS & NOTIFY_L
	:: produce(me, 1, true, 1, NOTIFIED)
#endif
#if OPS & NOTIFY_N
	:: produce(me, 2, false, 2, NOTIFIED)
#endif
#if OPS & NOTIFY_ALL
	:: produce(me, 1, false, 255, SWEPT)
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

/* AtRest runs when no other process can. */
proctype AtRest() {
	timeout;
	d_step {
		assert(LostWakeup || data == 0 || size == 0);
		assert(Books || (!L && !mu && inFlight == 0 && idle == (size == 0)));
		assert(Exact || unused == 0);
		j = 0;
		do
		:: j < NW -> assert(Books || (state[j] == PARKED) == ((inLine & BIT(j)) != 0)); j++
		:: else -> break
		od
	}
}

init {
	atomic {
#ifdef ONLY
		LostWakeup = 1; Books = 1; Exact = 1; Overlooked = 1; OutOfOrder = 1;
		Dead = 1; NotAtOnce = 1; Recycled = 1; Spurious = 1;
		ONLY = 0;
#endif
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
