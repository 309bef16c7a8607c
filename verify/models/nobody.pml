/*
 * The three places where the package detects without a mutex that there is nothing
 * to do. Every load and store is a separate step. cond.pml and resource.pml have
 * the first and the third with larger steps. Define one of these:
 *
 *   IDLE    Cond.idle: Notify (Notifier) returns if it is true, that is, the line
 *           is empty. Waiter is a loop around Wait. The order of appendLocked and
 *           of notifyLocked is that of cond.go.
 *   EVENT   Event.set: Wait (EventWaiter) returns if it is true. Setter calls
 *           Set and perhaps Clear, which makes a pulse; Clearer calls Clear. There are NE
 *           waiters, and NC contexts end (Canceler).
 *   WORD    CapacityResource.state: Release returns if the flag slow was not set.
 *           Caller acquires one of CAPACITY permits and releases it. The flag is
 *           part of the word, so that one step reads both. A call that locks mu
 *           claims the permits, and puts them back before unlocking. With SEPARATE,
 *           a separate variable counts the waiters, as in most libraries. That is
 *           harder to get right. It works if the waiter counts itself first and
 *           then checks again, and the releaser adds first, then checks, and takes
 *           the mutex.
 *
 * Left out: contexts, except with EVENT, and the order of the line, which is a bit
 * set here. As with Go's atomics and locks, memory is sequentially consistent.
 *
 * Properties, by their names in the assertions:
 *   LostWakeup  at rest, no waiter is parked while there is data, the event is set,
 *               or a permit is free
 *   LostPulse   a waiter in line at a Set, with a live context, gets nil
 *   Dead        a Set releases no waiter whose context ended before the call
 *   Agree       the line is released while the event is set, not before or after
 *   Books       at rest, all permits are free
 * In addition spin finds every state in which a process is stuck outside the line
 * ("invalid end state"). With ONLY=P, only P is checked.
 */
#ifndef CAPACITY
#define CAPACITY 1
#endif

#define BIT(w) (1 << (w))

#ifndef NE
#define NE 3
#endif
#ifndef NC
#define NC 1
#endif

/* The names of the properties. Always 0, except with ONLY, and not part of the state. */
hidden byte LostWakeup, LostPulse, Dead, Agree, Books;

bool mu;
byte parked; /* the line */
bool token[3];

inline acquire(l) { atomic { !l -> l = true } }

/* await sleeps until there is a token for w. */
inline await(w) {
	skip;
end_parked:
	d_step { token[w] -> token[w] = false }
}

/* wakeOne takes any one waiter out of the line, and leaves its number in k. */
inline wakeOne() {
	if
	:: d_step { parked & 1 -> parked = parked - 1; k = 0 }
	:: d_step { parked & 2 -> parked = parked - 2; k = 1 }
	:: d_step { parked & 4 -> parked = parked - 4; k = 2 }
	fi
}

#ifdef IDLE
bool L;
bool idle = true;
byte data;

proctype Waiter(byte w) {
	bool wasFirst;

	acquire(L);
	do
	:: data > 0 -> data--; break
	:: data == 0 ->
		acquire(mu);
		wasFirst = (parked == 0);
		parked = parked | BIT(w);
#ifdef STORE_AFTER_UNLOCK
		mu = false;
		L = false;
		idle = (wasFirst -> false : idle);
#else
		if
		:: wasFirst -> idle = false
		:: else
		fi;
		mu = false;
		L = false;
#endif
		await(w);
		acquire(L)
	od;
	L = false
}

proctype Notifier() {
	bool looked, wasLast;
	byte k;

#ifdef LOOK_FIRST
	looked = idle;
#endif
	acquire(L);
	data++;
	L = false;
#ifndef LOOK_FIRST
	looked = idle;
#endif
	if
	:: looked
	:: else ->
		acquire(mu);
		if
		:: parked == 0 -> mu = false
		:: else ->
			wakeOne();
			wasLast = (parked == 0);
#ifdef STORE_OUTSIDE_MU
			mu = false;
			if
			:: wasLast -> idle = true
			:: else
			fi;
#else
			if
			:: wasLast -> idle = true
			:: else
			fi;
			mu = false;
#endif
			token[k] = true
		fi
	fi
}

#define PROCESSES run Waiter(0); run Waiter(1); run Waiter(2); run Notifier(); run Notifier(); run Notifier()
#define LOST (parked && data > 0)
#endif

#ifdef EVENT
bool set;
byte ended;    /* the waiters whose contexts have ended */
byte swept;    /* the released waiters */
byte released; /* the waiters in line at a Set, with a live context */

hidden byte alive;

proctype EventWaiter(byte w) {
	bool canceled;

	do
	:: set -> break
	:: !set ->
		acquire(mu);
		if
#ifndef NO_SECOND_LOOK
		:: set -> mu = false; break
#endif
		:: else ->
			if
			:: ended & BIT(w) -> mu = false; canceled = true; break
			:: !(ended & BIT(w))
			fi;
			parked = parked | BIT(w);
			mu = false;
end_parked:
			if
			:: d_step { token[w] -> token[w] = false; swept = swept & ~BIT(w) }
			:: ended & BIT(w) ->
				acquire(mu);
				d_step { canceled = !(swept & BIT(w)); parked = parked & ~BIT(w) }
				mu = false;
				if
				:: canceled
				:: !canceled -> d_step { token[w] -> token[w] = false; swept = swept & ~BIT(w) }
				fi
#ifdef CANCEL_WINS
				;
				canceled = true
#endif
			fi
#ifdef LOOKS_AGAIN
			;
			if
			:: canceled -> break
			:: !canceled
			fi
#else
			;
			break
#endif
		fi
	od;
	assert(LostPulse || !canceled || !(released & BIT(w)));
	released = released & ~BIT(w)
}

/* release is notifyLocked for all waiters. */
inline release() {
	d_step {
		assert(Agree || set || parked == 0);
#ifdef NO_ENDED_CHECK
		alive = parked;
#else
		alive = parked & ~ended;
#endif
		assert(Dead || !(alive & dead));
		released = released | alive;
		swept = swept | alive;
		token[0] = (alive & 1) || token[0];
		token[1] = (alive & 2) || token[1];
		token[2] = (alive & 4) || token[2];
		parked = 0
	}
}

inline clear() {
#ifdef STORE_OUTSIDE_MU
	set = false
#else
	acquire(mu);
	set = false;
	mu = false
#endif
}

proctype Setter() {
	byte dead;

	dead = ended;
#ifdef STORE_OUTSIDE_MU
	set = true;
	acquire(mu);
	release();
	mu = false;
#else
	acquire(mu);
#ifdef STORE_LAST
	release();
	mu = false;
	set = true;
#else
	set = true;
	release();
	mu = false;
#endif
#endif
	if
	:: clear()
	:: true
	fi
}

proctype Clearer() { clear() }

proctype Canceler() {
	byte n;

	do
	:: n < NC ->
		n++;
		if
		:: ended = ended | 1
		:: ended = ended | 2
#if NE > 2
		:: ended = ended | 4
#endif
		:: break
		fi
	:: else -> break
	od
}

#define PROCESSES run EventWaiter(0); run EventWaiter(1); THIRD run Setter(); run Setter(); run Clearer(); run Canceler()
#if NE > 2
#define THIRD run EventWaiter(2);
#else
#define THIRD
#endif
#define LOST (parked && set)
#define LOST_PULSE (released & parked)
#endif

#ifdef WORD
byte room = CAPACITY; /* the packed state: free permits */
bool slow;            /* the packed state: the flag */
byte claimed;          /* the free permits, while mu is locked */
byte waiting;         /* with SEPARATE, in place of the flag */

inline lock() {
	acquire(mu);
#ifndef SEPARATE
#ifdef NO_CLAIM
	claimed = room;
#else
	d_step { claimed = room; room = 0; slow = true }
#endif
#endif
}

inline unlock() {
#ifndef SEPARATE
#ifdef STORE_AFTER_UNLOCK
	mu = false;
	d_step { room = claimed; slow = (parked != 0) }
#else
	d_step { room = claimed; slow = (parked != 0) }
	mu = false;
#endif
#else
	mu = false
#endif
}

proctype Caller(byte w) {
	byte k;
	bool looked;

	do
	:: d_step { room > 0 -> room-- } break
	:: room == 0 ->
		lock();
#ifdef SEPARATE
#ifdef CHECK_THEN_JOIN
		if
		:: d_step { room > 0 -> room-- } mu = false; break
		:: room == 0 -> waiting++
		fi;
#else
		waiting++;
		if
		:: d_step { room > 0 -> room-- } waiting--; mu = false; break
		:: room == 0
		fi;
#endif
		parked = parked | BIT(w);
#else
		if
		:: claimed > 0 -> claimed--; unlock(); break
		:: claimed == 0 -> parked = parked | BIT(w)
		fi;
#endif
		unlock();
		await(w)
	od;

#ifdef SEPARATE
#ifdef LOOK_THEN_ADD
	looked = (waiting > 0);
	room++;
#else
	room++;
	looked = (waiting > 0);
#endif
#else
#ifdef FLAG_APART
	looked = slow;
	if
	:: looked
	:: else -> room++
	fi;
#else
	if
	:: d_step { !slow -> room++ }
	:: slow -> looked = true
	fi;
#endif
#endif
	if
	:: looked ->
#ifdef NO_MUTEX
		if
		:: parked -> wakeOne(); token[k] = true; waiting--
		:: else
		fi
#else
		lock();
#ifndef SEPARATE
		claimed++;
#endif
		if
		:: parked -> wakeOne(); looked = true
#ifdef SEPARATE
			;
			waiting--
#endif
		:: else -> looked = false
		fi;
		unlock();
		if
		:: looked -> token[k] = true
		:: else
		fi
#endif
	:: else
	fi
}

#define PROCESSES run Caller(0); run Caller(1); run Caller(2)
#define LOST (parked && room > 0)
#define BOOKS (room == CAPACITY)
#endif

/* AtRest runs when no other process can. */
proctype AtRest() {
	timeout;
	assert(LostWakeup || !LOST);
#ifdef LOST_PULSE
	assert(LostPulse || !LOST_PULSE);
#endif
#ifdef BOOKS
	assert(Books || BOOKS);
#endif
	skip
}

init {
	atomic {
#ifdef ONLY
		LostWakeup = 1; LostPulse = 1; Dead = 1; Agree = 1; Books = 1;
		ONLY = 0;
#endif
		PROCESSES;
		run AtRest()
	}
}
