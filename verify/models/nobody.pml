/*
 * "Is anybody there?": the three places where the package finds out without a
 * mutex that there is nothing to do, every load and store a step of its own.
 * cond.pml and resource.pml have the first and the third in their places, but
 * with larger steps. One of these is to be defined:
 *
 *   IDLE    Cond.idle: Notify (Notifier) returns if it says that nobody waits.
 *           Waiter is a loop around Wait; parkLocked and busyLocked, unparkLocked and
 *           commitLocked, those of line.go.
 *   EVENT   Event.set: Wait (EventWaiter) returns if it is true. Setter calls
 *           Set and perhaps Clear, which makes a pulse; Clearer calls Clear.
 *   WORD    CapacityResource.word: Release returns if it had no lineFlag.
 *           Caller acquires one of CAPACITY permits and releases it. The flag is
 *           part of the word, so that to look at both is one step. With
 *           SEPARATE, those who wait are counted in a variable of their own,
 *           as most libraries do it: that is harder to get right, but works if
 *           the waiter counts itself first and then looks again, and the
 *           releaser adds first and then looks, and takes the mutex.
 *
 * Left out: contexts, and the order of the line, which is a set of bits here.
 * As with Go's atomics and locks, memory is sequentially consistent.
 *
 * Properties, by the names that stand in the assertions:
 *   LostWakeup  at rest, nobody is parked while there is data, the event is set,
 *               or a permit is free
 *   LostPulse   at rest, nobody is parked who was in line at a Set
 *   Agree       the line is released while the event is set, not before or after
 * In addition spin finds every state in which somebody is stuck elsewhere than
 * in line ("invalid end state").
 */
#ifndef CAPACITY
#define CAPACITY 1
#endif

#define BIT(w) (1 << (w))

/* The names of the properties. Always 0, and no part of the state. */
hidden byte LostWakeup, LostPulse, Agree;

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

/* wakeOne takes one out of the line, anybody, and leaves its number in k. */
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
byte released; /* those who were in line at a Set */

proctype EventWaiter(byte w) {
	do
	:: set -> break
	:: !set ->
		acquire(mu);
		if
#ifndef NO_SECOND_LOOK
		:: set -> mu = false; break
#endif
		:: else ->
			parked = parked | BIT(w);
			mu = false;
			await(w)
#ifndef LOOKS_AGAIN
			; break
#endif
		fi
	od;
	released = released & ~BIT(w)
}

inline release() {
	d_step {
		assert(Agree || set || parked == 0);
		released = released | parked;
		token[0] = (parked & 1) || token[0];
		token[1] = (parked & 2) || token[1];
		token[2] = (parked & 4) || token[2];
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
#ifdef STORE_OUTSIDE_MU
	set = true;
	acquire(mu);
	release();
	mu = false;
#else
	acquire(mu);
#ifdef STORE_LAST
	released = released | parked;
	token[0] = (parked & 1) || token[0];
	token[1] = (parked & 2) || token[1];
	token[2] = (parked & 4) || token[2];
	parked = 0;
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

#define PROCESSES run EventWaiter(0); run EventWaiter(1); run EventWaiter(2); run Setter(); run Setter(); run Clearer()
#define LOST (parked && set)
#define LOST_PULSE (released & parked)
#endif

#ifdef WORD
byte room = CAPACITY; /* the word: free permits, */
bool lineFlag;        /* and the flag */
byte waiting;         /* with SEPARATE, in place of the flag */

proctype Caller(byte w) {
	byte k;
	bool looked;

	do
	:: d_step { room > 0 -> room-- } break
	:: room == 0 ->
#ifdef SEPARATE
#ifdef CHECK_THEN_JOIN
		acquire(mu);
		if
		:: d_step { room > 0 -> room-- } mu = false; break
		:: room == 0 -> waiting++
		fi;
#else
		acquire(mu);
		waiting++;
		if
		:: d_step { room > 0 -> room-- } waiting--; mu = false; break
		:: room == 0
		fi;
#endif
		parked = parked | BIT(w);
#else
		acquire(mu);
		if
		:: d_step { room > 0 -> room-- } mu = false; break
		:: d_step { room == 0 -> lineFlag = true; parked = parked | BIT(w) }
		fi;
#endif
		mu = false;
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
	if
	:: d_step { !lineFlag -> room++ }
	:: lineFlag -> looked = true
	fi;
#endif
	if
	:: looked ->
#ifndef NO_MUTEX
		acquire(mu);
#endif
#ifndef SEPARATE
		room++;
#endif
		if
		:: parked -> wakeOne(); token[k] = true
#ifdef SEPARATE
			; waiting--
#endif
		:: else
		fi;
#ifndef SEPARATE
		lineFlag = (parked != 0);
#endif
#ifndef NO_MUTEX
		mu = false
#else
		skip
#endif
	:: else
	fi
}

#define PROCESSES run Caller(0); run Caller(1); run Caller(2)
#define LOST (parked && room > 0)
#endif

/* AtRest runs when nobody else can. */
proctype AtRest() {
	timeout;
	assert(LostWakeup || !LOST);
#ifdef LOST_PULSE
	assert(LostPulse || !LOST_PULSE)
#endif
}

init { atomic { PROCESSES; run AtRest() } }
