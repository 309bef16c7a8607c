/*
 * CapacityResource, as it is in resource.go. run.sh lists the instances and the
 * broken variants.
 *
 * NA goroutines (Caller) acquire N0, N1, N2 permits of CAPACITY, ROUNDS times
 * (callers 0 and 1 OTHERS times), by AcquireN or, with TRY, by either that or
 * TryAcquireN, and release them or keep them for ever. Concurrently NC contexts end
 * (Canceler), Resize sets the capacity to 0, 1, 2 or 3, NR times (Resizer), and the
 * resource is closed (CLOSE, by Closer) or closed and drained (CLOSE and DRAIN).
 * FIFO is the option; PLACES is MaxWaiting; with MAXWAIT the timer of a wait fires
 * at any time; OVERSIZED is AdmitOversized; with STATS a process calls Stats
 * (Reader); HUGE is a capacity that does not fit in the packed state, or hooks that
 * see every call.
 *
 *   AcquireN, acquireSlow, cancel, lookAgain, TryAcquireN, ReleaseN, releaseSlow,
 *   Resize, Close, Drain, lock, unlock, joinLocked, removeLocked, turnAwayLocked,
 *   markStarvingLocked
 *               the functions of these names; serveLocked is part of unlock
 *   hand        serveLocked for a head that no call may overtake
 *   admit       a call takes its permits itself
 *   end_parked  sleep
 *   Clock       time. Calls that join are numbered, by place. time is how many of
 *               them have waited 1 ms, in this order. So the call with
 *               place p has waited too long from time p on, in line or not
 *
 * Granularity. Loads and compare-and-swaps of the packed state are separate steps,
 * and so are checks of a context before the call locks mu, and reading the clock
 * before a release locks it. Code under mu changes only the state that mu guards,
 * until unlock stores the packed state. So lock is a step, the code after it is one
 * or several, unlock is two, and then each token is another. A loop over the line,
 * as in Resize and Close, is one step for each waiter. As with Go's atomics and
 * locks, memory is sequentially consistent.
 *
 * Left out: n = 0, which never waits; statistics; hooks; panics of misuse; the
 * pool, which is in pool.pml: whenever a waiter would go to the pool, the model
 * checks that no other process uses it (Recycled). Drain's Event is a flag;
 * nobody.pml has its steps.
 *
 * Properties, by their names in the assertions:
 *   LostWakeup   at rest, the head of the line does not fit, but would fit if all
 *                were released, or the capacity is 0; no call is in line if the
 *                resource is closed, or waits in Drain if nothing is held
 *   Asleep       when mu is locked, a head that fits is awake: so a call that only
 *                reads wakes no waiter
 *   Books        when mu is unlocked, and at rest, held is the sum of the callers'
 *                permits; at rest, free + held = capacity
 *   Flags        at rest, slow is set if and only if a call is in line or every
 *                call has to lock mu; starving implies that there is a head, and
 *                that it has waited too long
 *   OverAdmitted no call gets permits beyond the current capacity, except for a
 *                request for more than that, which gets them if nothing is held
 *   TooMany      no more than PLACES calls are in line
 *   Overtaken    no new call is admitted after a release or a growth that, when it
 *                read the clock, found that the head had waited too long, until a
 *                head has not; or, with FIFO, while a call is in line
 *   OutOfOrder   calls in line are admitted in order
 *   AfterClose   after Close has returned, no call is admitted or in line
 *   AfterEnd     no call is admitted whose context had ended when it began or, for
 *                a call that waits, when it took the lock
 *   Recycled     a waiter that goes to the pool is not in line, has no token, and
 *                is sent none; there is room for every token
 * and, with LIVE, that every call in line is admitted, if the holders release
 * ("acceptance cycle" if not). In addition spin finds every state in which a
 * process is stuck outside the line ("invalid end state"). With ONLY=P, only P is
 * checked.
 *
 * With LIVE callers 0 and 1 loop for ever, and caller 2 acquires N2 once; the
 * property is checked for caller SERVED. There a section under mu, with the tokens
 * after it, is a single step, and so is a release with all its checks, so that weak
 * fairness (each process that can always go on does) is enough to get mu, as it is
 * with sync.Mutex, which is eventually fair. A call may still see slow alone at any
 * time, as if others held mu, and take the slow path.
 */
#ifndef NA
#define NA 3
#endif
#ifndef NC
#define NC 1
#endif
#ifndef NR
#define NR 0
#endif
#ifndef CAPACITY
#define CAPACITY 2
#endif
#ifndef N0
#define N0 1
#endif
#ifndef N1
#define N1 1
#endif
#ifndef N2
#define N2 2
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef OTHERS
#define OTHERS ROUNDS
#endif
#ifndef SERVED
#define SERVED 2
#endif

#define BIT(w) (1 << (w))
#define SIZE(w) (w == 0 -> N0 : (w == 1 -> N1 : N2))

/* The packed state: 3 bits of held permits, 3 bits of free ones, and slow. */
#define HELD(s) ((s) & 7)
#define FREE(s) (((s) >> 3) & 7)
#define SLOW 64

/* The states of a waiter. */
#define AWAY 0
#define PARKED 1
#define NOTIFIED 2
#define DECIDED 3

/* The names of the properties. Always 0, except with ONLY, and not part of the state. */
hidden byte LostWakeup, Asleep, Books, Flags, OverAdmitted, Overtaken, OutOfOrder;
hidden byte AfterClose, AfterEnd, Recycled, TooMany;

byte packed;
bool mu;
byte capacity = CAPACITY;
byte held;
bool closed, starving, drained;
byte line[NA], size; /* the waiters in line; line[0] is the head */
byte arrivals, time, place[NA];
byte state[NA];
bool admitted[NA]; /* the error of a waiter is nil */
bool token[NA], done[NA];

/* for the properties */
byte inUse;      /* the permits that callers hold */
byte inLine;     /* the calls in line */
byte before[NA]; /* the calls that were in line when this one joined, and still are */
byte inFlight;   /* the waiters that will be sent a token */
bool due;        /* permits were added for a head that had waited too long */
bool closeReturned;

hidden byte i, h; /* scratch of single steps */
hidden short room;

#ifdef LIVE
#define SECTION atomic
#else
#define SECTION
#endif

#if defined(BARGING)
#define MAY_BARGE true
#elif defined(FIFO)
#define MAY_BARGE (size == 0)
#else
#define MAY_BARGE (size == 0 || !starving)
#endif

#define STARVED(now) (size > 0 && place[line[0]] <= now)
#ifndef OVERSIZED
#define TOO_LARGE(n) (n > capacity && capacity > 0)
#define FITS_BESIDE(n, used) (n <= capacity - used)
#else
#define TOO_LARGE(n) false
#define FITS_BESIDE(n, used) (n <= capacity - used || (used == 0 && capacity > 0))
#endif
#ifdef NOT_ALONE
#define FITS(n) (n <= capacity - held || (n > capacity && capacity > 0))
#else
#define FITS(n) FITS_BESIDE(n, held)
#endif
#ifdef MAXWAIT
#define LATE true
#else
#define LATE false
#endif
#ifdef PLACES
#ifdef LOOKS_EARLY
#define NO_PLACE noPlace
#else
#define NO_PLACE (size >= PLACES)
#endif
#else
#define NO_PLACE false
#define PLACES NA
#endif

/* The progress of a call of Caller, its result. */
#define CALLING 0
#define GOT 1
#define FAILED 2
#define WAITING 3
#define RELEASING 4

/* The parts that the broken variants of unlock leave out; see Caller and Resizer. */
#ifdef NO_LOOK_AFTER_CANCEL
#define AFTER_CANCEL (result == FAILED)
#else
#define AFTER_CANCEL false
#endif
#ifdef NO_LOOK_AFTER_HEAD
#define AFTER_GRANT (result == GOT)
#else
#define AFTER_GRANT false
#endif
#ifdef NO_LOOK_AFTER_GROWTH
#define AFTER_RESIZE true
#else
#define AFTER_RESIZE false
#endif

/* wake is a variable of the caller, the set of waiters to which it will send a
 * token; it is empty before lock and after unlock. */
inline wakeUp(q, how) {
	state[q] = how;
	wake = wake | BIT(q);
	inFlight = inFlight | BIT(q)
}

inline send(q) {
	d_step {
		assert(Recycled || !token[q]);
		token[q] = true;
		wake = wake & ~BIT(q);
		inFlight = inFlight & ~BIT(q)
	}
}

inline recycle(w) {
	assert(Recycled || (!token[w] && !(inFlight & BIT(w)) && !(inLine & BIT(w))));
	state[w] = AWAY
}

inline lock() {
	atomic {
		!mu -> mu = true;
		if
		:: packed == SLOW
		:: else -> held = HELD(packed)
		fi;
#ifndef NO_CLAIM
		packed = SLOW
#endif
	}
}

/* hand gives permits to the head of the line, which sleeps. */
inline hand(now) {
	assert(OverAdmitted || FITS_BESIDE(SIZE(h), inUse));
	assert(AfterClose || !closeReturned);
	assert(AfterEnd || !done[h]);
	assert(OutOfOrder || !before[h]);
	held = held + SIZE(h);
	inUse = inUse + SIZE(h);
	admitted[h] = true;
	removeLocked(h, false, now)
}

/* Whether unlock leaves slow alone. */
#ifdef CLOSE_LEAVES_PERMITS
#define CLOSED false
#else
#define CLOSED closed
#endif
#ifdef SHRUNK_IS_FULL
#define SHRUNK false
#else
#define SHRUNK (held > capacity)
#endif
#ifdef HUGE
#define SLOW_ALONE true
#else
#define SLOW_ALONE (CLOSED || SHRUNK || !MAY_BARGE)
#endif

#ifdef AWAKE_AGAIN
#define SLEEPS(q) true
#else
#define SLEEPS(q) (state[q] == PARKED)
#endif
#ifdef HANDS_TO_THE_DEAD
#define DEAD(q) false
#else
#define DEAD(q) done[q]
#endif

/* unlock gets the time now, which may have been read before lock. */
inline unlock(noServe, now) {
	atomic {
		assert(Books || held == inUse);
		assert(Flags || !starving || STARVED(time));
		do /* serveLocked */
		:: size > 0 && FITS(SIZE(line[0])) && SLEEPS(line[0]) && !(noServe) ->
			h = line[0];
			if
			:: DEAD(h) -> removeLocked(h, true, now)
			:: else ->
				if
				:: MAY_BARGE -> wakeUp(h, NOTIFIED); break
				:: else -> hand(now)
#ifdef SERVES_ONE
					break
#endif
				fi
			fi
		:: else -> break
		od;
		h = 0
	}
	atomic {
		room = capacity - held;
#ifndef NO_WORD_TO_DRAIN
		drains = closed && held == 0;
#else
		drains = closed && held == 0 && !closeReturned;
#endif
		if
		:: SLOW_ALONE -> packed = SLOW
		:: else ->
			packed = ((room > 0 -> room : 0) << 3) | held;
			held = 0; /* not valid now */
#ifdef SLOW_STAYS
			slowStays = slowStays || size > 0;
			packed = (slowStays -> packed | SLOW : packed)
#else
			packed = (size > 0 -> packed | SLOW : packed)
#endif
		fi;
		mu = false
	}
	do
	:: wake & BIT(0) -> send(0)
	:: wake & BIT(1) -> send(1)
#if NA > 2
	:: wake & BIT(2) -> send(2)
#endif
	:: !wake -> break
	od;
	if
	:: atomic { drains -> drained = true; drains = false }
	:: else
	fi
}

#ifdef SLOW_STAYS
bool slowStays;
#endif

inline joinLocked(w) {
	before[w] = inLine;
	inLine = inLine | BIT(w);
	line[size] = w;
	size++;
	assert(TooMany || size <= PLACES);
	arrivals++;
	place[w] = arrivals;
	state[w] = PARKED
}

/* removeLocked takes w out of the line; ended says that its context has ended. */
inline removeLocked(w, ended, now) {
	i = 0;
	do
	:: line[i] == w -> break
	:: else -> i++
	od;
	room = i;
	size--;
	do
	:: i < size -> line[i] = line[i + 1]; i++
	:: else -> break
	od;
	line[size] = 0;
	i = 0;
	do
	:: i < NA -> before[i] = before[i] & ~BIT(w); i++
	:: else -> break
	od;
	before[w] = 0;
	inLine = inLine & ~BIT(w);
#if defined(STALE_CLOCK)
	starving = starving && STARVED(now);
#elif !defined(STARVING_STAYS)
	starving = starving && STARVED(time);
#endif
	due = due && (room > 0 || STARVED(time));
	room = 0;
#ifdef LIVE /* renumber, as arrivals do not end, and no call keeps an earlier time */
	i = 0;
	do
	:: i < NA -> place[i] = (place[i] > place[w] -> place[i] - 1 : place[i]); i++
	:: else -> break
	od;
	time = (time >= place[w] -> time - 1 : time);
	arrivals--;
#endif
	place[w] = 0;
	i = 0;
	if
#ifdef AWAKE_OVERWRITTEN
	:: state[w] != PARKED && me != w -> wakeUp(w, DECIDED)
	:: state[w] != PARKED && me == w
#else
	:: state[w] != PARKED /* it is awake, and will find out */
#endif
	:: state[w] == PARKED && ended -> state[w] = AWAY
	:: state[w] == PARKED && !(ended) -> wakeUp(w, DECIDED)
	fi
}

/* markStarvingLocked is called when permits are added. */
inline markStarvingLocked(now) {
	due = due || STARVED(now);
#if !defined(FIFO) && !defined(BARGING) && !defined(HEAD_LOOKS)
	starving = starving || STARVED(now)
#endif
}

/* The values that a release without mu compares and changes. */
#ifdef FLAG_APART
#define IS_STILL(seen) (packed != SLOW && (packed & 63) == (seen & 63))
#define PUT_BACK(n) packed = packed + (n << 3) - n
#else
#define IS_STILL(seen) (packed == seen)
#define PUT_BACK(n) packed = seen + (n << 3) - n
#endif

/* admit gives w its permits: the moment at which its call takes effect. */
inline admit(w) {
	assert(OverAdmitted || FITS_BESIDE(SIZE(w), inUse));
	assert(AfterClose || !closeReturned);
	assert(AfterEnd || !dead);
	inUse = inUse + SIZE(w);
	result = GOT
}

/* The check of the context in AcquireN before it waits; TryAcquireN has no context. */
#ifdef NO_LOOK_AT_CONTEXT
#define ENDED(w) false
#else
#define ENDED(w) (done[w] && !try)
#endif

#ifdef FIFO
#define OVERTAKES (size > 0)
#else
#define OVERTAKES due
#endif

#ifdef TRY_OVERTAKES
#define MAY_ENTER (MAY_BARGE || try)
#else
#define MAY_ENTER MAY_BARGE
#endif

#ifdef STALE_CLOCK
#define LOOK look
#else
#define LOOK time
#endif

proctype Caller(byte me) {
	byte seen, look, result, round, wake;
	bool try, dead, left, drains;
#ifdef LOOKS_EARLY
	bool noPlace;
#endif

	do
	:: round < (me == 2 -> ROUNDS : OTHERS) ->
#ifdef LIVE
		round = (me == 2);
#else
		round++;
#endif
#ifdef TRY
		if
		:: try = true
		:: try = false
		fi;
#endif
		/* without mu */
		dead = done[me] && !try;
		do
		:: seen = packed;
			if
#ifdef LIVE
			:: break /* it could have been slow alone */
#endif
			:: ENDED(me) -> result = FAILED; break
			:: !ENDED(me) && SIZE(me) > FREE(seen) && (!try || (seen & SLOW)) -> break
			:: SIZE(me) > FREE(seen) && try && !(seen & SLOW) -> result = FAILED; break
			:: !ENDED(me) && SIZE(me) <= FREE(seen) ->
				if
#ifndef CHECK_THEN_TAKE
				:: d_step { packed == seen ->
#else
				:: d_step { true ->
#endif
					packed = seen - (SIZE(me) << 3) + SIZE(me);
					assert(Overtaken || !OVERTAKES);
					admit(me)
				} break
#ifndef CHECK_THEN_TAKE
				:: packed != seen
#endif
				fi
			fi
		od;
		/* acquireSlow, or TryAcquireN with mu */
		if
		:: result != CALLING
		:: else ->
			SECTION {
#ifdef LOOKS_EARLY
				noPlace = (size >= PLACES);
#endif
				atomic { lock(); dead = done[me] && !try }
				d_step {
					if
					:: ENDED(me) || closed || (!try && TOO_LARGE(SIZE(me))) -> result = FAILED
					:: else ->
						if
						:: MAY_ENTER && FITS(SIZE(me)) ->
							assert(Overtaken || !OVERTAKES);
							held = held + SIZE(me);
							admit(me)
						:: else ->
							if
							:: try || NO_PLACE -> result = FAILED
							:: else -> joinLocked(me); result = WAITING
							fi
						fi
					fi
				}
				unlock(false, time)
			}
		fi;
		do
		:: result == WAITING ->
			skip;
end_parked:		if
			:: d_step { token[me] -> token[me] = false }
			:: done[me] || LATE -> /* cancel */
#ifdef STALE_CLOCK
				look = time;
#endif
				lock();
				d_step {
					if
					:: state[me] == PARKED -> removeLocked(me, done[me], LOOK)
					:: else
					fi;
					left = (state[me] == AWAY);
#ifdef LATE_WINS
					result = FAILED
#else
					result = (left -> FAILED : result)
#endif
				}
				unlock(AFTER_CANCEL, LOOK);
				if
				:: left -> left = false
#ifdef LEAVES_WITHOUT_TOKEN
				:: !left
#else
				:: d_step { !left && token[me] -> token[me] = false }
#endif
				fi
			fi;
			if
			:: d_step { result == FAILED -> assert(Books || !admitted[me]) }
			:: result == WAITING && state[me] == DECIDED -> d_step {
#ifdef LATE_CONTEXT_WINS
				result = (admitted[me] && !done[me] -> GOT : FAILED);
#else
				result = (admitted[me] -> GOT : FAILED);
#endif
				assert(Books || result == GOT || !admitted[me]);
				admitted[me] = false
			}
			:: result == WAITING && state[me] != DECIDED -> SECTION { /* lookAgain */
#ifdef STALE_CLOCK
				look = time;
#endif
				atomic { lock(); dead = done[me] }
				d_step {
					if
					:: !(inLine & BIT(me)) -> result = FAILED
					:: (inLine & BIT(me)) && FITS(SIZE(me)) ->
						if
#ifndef PREFERS_ROOM
						:: done[me] -> result = FAILED
#endif
						:: else ->
							assert(OutOfOrder || !before[me]); held = held + SIZE(me); admit(me)
						fi;
						removeLocked(me, done[me], LOOK)
					:: (inLine & BIT(me)) && !FITS(SIZE(me)) ->
						if
						:: done[me] -> result = FAILED; removeLocked(me, true, LOOK)
						:: else ->
#ifdef HEAD_LOOKS
							starving = starving || STARVED(time);
#endif
#ifndef PARKS_LATE
							state[me] = PARKED;
#endif
							skip
						fi
					fi
				}
				unlock(AFTER_CANCEL || AFTER_GRANT, LOOK);
#ifdef PARKS_LATE
				state[me] = (result == WAITING -> PARKED : state[me]);
#endif
				skip
			}
			fi;
			if
			:: d_step { result != WAITING -> recycle(me) }
			:: else
			fi
		:: else -> break
		od;
		/* ReleaseN without mu, or it may keep its permits */
		do
#ifndef LIVE
		:: result == GOT -> break
#endif
		:: result == GOT ->
			seen = packed;
			if
#ifdef LIVE
			:: result = RELEASING
#endif
#ifdef RELEASE_IGNORES_SLOW
			:: seen != SLOW ->
#else
			:: !(seen & SLOW) ->
#endif
				if
				:: d_step { IS_STILL(seen) ->
					PUT_BACK(SIZE(me));
					inUse = inUse - SIZE(me);
					result = CALLING
				}
				:: !IS_STILL(seen)
				fi
			:: (seen & SLOW) -> result = RELEASING
			fi
		:: else -> break
		od;
		/* releaseSlow */
		if
		:: result == RELEASING -> SECTION {
			look = time;
			lock();
			d_step {
				held = held - SIZE(me);
				inUse = inUse - SIZE(me);
				markStarvingLocked(look);
				result = CALLING
			}
			unlock(false, look)
		}
		:: else
		fi;
		atomic { seen = 0; look = 0; result = CALLING; dead = false; try = false }
	:: else -> break
	od
}

proctype Canceler() {
	byte n;

	do
	:: n < NC ->
		n++;
		if
		:: done[0] = true
		:: done[1] = true
#if NA > 2
		:: done[2] = true
#endif
		:: break
		fi
	:: else -> break
	od
}

proctype Clock() {
end:	do
	:: d_step { time < arrivals -> time++ }
	od
}

inline turnAwayLocked(n) {
	d_step {
		w = line[n];
		removeLocked(w, done[w], time);
		w = 0
	}
}

#define NOBODY 255

proctype Resizer() {
	byte n, k, w, wake, me = NOBODY;
	bool grown, drains;

	do
	:: n < NR ->
		n++;
		SECTION {
			lock();
			if
			:: d_step { capacity != 0 -> capacity = 0; grown = false }
			:: d_step { capacity != 1 -> grown = (capacity < 1); capacity = 1 }
			:: d_step { capacity != 2 -> grown = (capacity < 2); capacity = 2 }
			:: d_step { capacity != 3 -> grown = (capacity < 3); capacity = 3 }
			fi;
			do
			:: k < size ->
				if
#ifdef ENDED_STAYS
				:: d_step { TOO_LARGE(SIZE(line[k])) && done[line[k]] && state[line[k]] == PARKED ->
					state[line[k]] = AWAY; k++
				   }
				:: TOO_LARGE(SIZE(line[k])) && !(done[line[k]] && state[line[k]] == PARKED) ->
					turnAwayLocked(k)
#elif !defined(SHRINK_FORGETS)
				:: TOO_LARGE(SIZE(line[k])) -> turnAwayLocked(k)
#endif
				:: else -> k++
				fi
			:: else -> break
			od;
			atomic {
				k = 0;
				if
				:: grown -> markStarvingLocked(time)
				:: else
				fi;
				grown = false
			}
			unlock(AFTER_RESIZE, time)
		}
	:: else -> break
	od
}

proctype Closer() {
	byte w, wake, me = NOBODY;
	bool drains;

	SECTION {
		lock();
		closed = true;
		do
#ifdef CLOSE_FORGETS
		:: size > 1 -> turnAwayLocked(0)
		:: size <= 1 -> break
#else
		:: size > 0 -> turnAwayLocked(0)
		:: size == 0 -> break
#endif
		od;
		unlock(false, time)
	}
	atomic { assert(AfterClose || size == 0); closeReturned = true }
#ifdef DRAIN
	;
	skip;
end_parked:
	atomic { drained -> assert(Books || inUse == 0) }
#endif
}

/* Reader is Stats, which must wake no waiter. */
proctype Reader() {
	byte wake, me = NOBODY;
	bool drains;

	lock();
	assert(Asleep || size == 0 || !FITS(SIZE(line[0])) || state[line[0]] != PARKED);
	unlock(false, time)
}

/* AtRest runs when no other process can. */
proctype AtRest() {
	timeout;
	d_step {
		if
		:: size > 0 ->
			assert(LostWakeup || (!FITS_BESIDE(SIZE(line[0]), inUse) && !TOO_LARGE(SIZE(line[0]))))
		:: else
		fi;
		assert(LostWakeup || !closed || (size == 0 && (drained || inUse > 0)));
		if
		:: packed == SLOW -> room = capacity - held
		:: else -> room = FREE(packed); held = HELD(packed)
		fi;
		assert(Books || (!mu && held == inUse && room == capacity - inUse && inFlight == 0));
		assert(Flags || !starving || STARVED(time));
		assert(Flags || ((packed & SLOW) != 0) == (size > 0 || SLOW_ALONE))
	}
}

init {
	atomic {
#ifdef ONLY
		LostWakeup = 1; Asleep = 1; Books = 1; Flags = 1; OverAdmitted = 1; Overtaken = 1;
		OutOfOrder = 1; AfterClose = 1; AfterEnd = 1; Recycled = 1; TooMany = 1;
		ONLY = 0;
#endif
#ifdef HUGE
		packed = SLOW;
#else
		packed = CAPACITY << 3;
#endif
		run Caller(0);
		run Caller(1);
#if NA > 2
		run Caller(2);
#endif
#if NC > 0
		run Canceler();
#endif
#if NR > 0
		run Resizer();
#endif
#ifdef STATS
		run Reader();
#endif
#ifdef CLOSE
		run Closer();
#endif
#ifndef FIFO
		run Clock();
#endif
#ifdef LIVE
	}
}

ltl served { [] ((inLine & BIT(SERVED)) -> <> !(inLine & BIT(SERVED))) }
#else
		run AtRest();
		skip
	}
}
#endif
