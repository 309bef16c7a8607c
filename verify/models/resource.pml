/*
 * CapacityResource, as it is in resource.go. run.sh says which instances and
 * which broken variants are run.
 *
 * NA goroutines (Caller) acquire N0, N1, N2 permits of CAPACITY, ROUNDS times,
 * by AcquireN or, with TRY, by either that or TryAcquireN, and release them or
 * keep them for ever. Besides them, at any time: NC contexts end (Canceler),
 * Resize sets the capacity to 0, 1, 2 or 3, NR times (Resizer), the resource is
 * closed (CLOSE, by Closer) or closed and drained (CLOSE and DRAIN). FIFO is the
 * option; STATS has Stats look (Reader); HUGE stands for a capacity that has no
 * room in the word.
 *
 *   AcquireN, acquireSlow, TryAcquireN, ReleaseN, Resize, Close, Drain, lock,
 *   unlock, enterLocked, joinLocked, removeLocked, turnAwayLocked
 *               the functions of these names; serveLocked is part of unlock, and
 *               admitLocked is admit or hand
 *   commit      that of a request's own Cond, of which cond.pml shows that it
 *               does what this one step does
 *   end_parked  wait and cancel of that Cond, likewise
 *   Clock       time: it makes the head of the line old, that is, it has waited
 *               for longer than patience, and then the next, at any moment
 *
 * Granularity. Loads and compare-and-swaps of the word are steps of their own,
 * and so are looks at a context before the lock is taken. What is done under mu
 * changes only what mu guards, until unlock stores the word; so lock is a step,
 * what follows is one or several, and unlock is one, after which each wake-up is
 * another. A loop over the line, as in Resize and Close, is one step for each
 * request. As with Go's atomics and locks, memory is sequentially consistent.
 *
 * Left out: n = 0, which never waits; statistics; panics of misuse; the free
 * list: a wake-up that comes late may hit a later wait of the same caller,
 * which is all that reuse can do.
 *
 * Properties, by the names that stand in the assertions:
 *   LostWakeup   at rest, the head of the line does not fit, but would fit if all
 *                were released, or the capacity is 0; nobody is in line if it is
 *                closed, nor waits in Drain if nothing is held
 *   Asleep       when mu is taken, a head that fits is awake: so who only looks
 *                wakes nobody
 *   Books        when mu is unlocked, held is what callers hold; at rest too, and
 *                free + held = capacity; there is room for every token
 *   Flags        the line flag says whether somebody is in line, starving
 *                implies that there is a head, and that it is old
 *   OverAdmitted nobody gets permits beyond the capacity of the moment
 *   Overtaken    no newcomer gets in once a release has come after the head was
 *                old; or, with FIFO, while somebody is in line
 *   OutOfOrder   those in line get in in order
 *   AfterClose   nobody gets in after Close has returned
 *   AfterEnd     nobody gets in whose context had ended when the call began, or,
 *                for one who waits, when it took the lock
 * and, with LIVE, that whoever is in line gets in, if those who hold release
 * ("acceptance cycle" if not). In addition spin finds every state in which
 * somebody is stuck elsewhere than in line ("invalid end state").
 *
 * With LIVE callers 0 and 1 go on for ever, and caller 2 acquires N2 once; it is
 * shown for caller SERVED. There a section under mu, with the wake-up after it,
 * is a single step, so that weak fairness (each who can always go on, does) is
 * enough to get mu, as it is with sync.Mutex, which is fair in the end. That offLimits may be seen while others hold mu, is kept:
 * whoever calls may find it at any time and take the slow path.
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
#ifndef SERVED
#define SERVED 2
#endif

#define BIT(w) (1 << (w))
#define SIZE(w) (w == 0 -> N0 : (w == 1 -> N1 : N2))

/* The word: 3 bits of held permits, 3 bits of free ones, and the flags. */
#define HELD(word) ((word) & 7)
#define FREE(word) (((word) >> 3) & 7)
#define LINE_FLAG 64
#define OFF_LIMITS 128

/* The names of the properties. Always 0, and no part of the state. */
hidden byte LostWakeup, Asleep, Books, Flags, OverAdmitted, Overtaken, OutOfOrder, AfterClose, AfterEnd;

byte word = OFF_LIMITS;
bool mu;
byte capacity = CAPACITY;
byte held;
bool closed, starving;
byte line[NA], size; /* the requests in line; line[0] is the head */
byte old;            /* how many of them, from the head on, have lost patience */
bool inLine[NA], admitted[NA], parked[NA], notified[NA], token[NA], done[NA];
bool drainParked, drainToken; /* of Drain's waiter */

/* for the properties */
byte inUse;      /* what callers hold */
byte before[NA]; /* those who were in line when this one joined, and still are */
bool due;        /* permits have come in since the head became old */
bool closeReturned;

#ifdef LINE_FLAG_STAYS
byte lineFlag;
#endif

hidden byte i, h; /* scratch of single steps */
hidden byte woken;
hidden short room;

#ifdef LIVE
#define SECTION atomic
#else
#define SECTION
#endif

#if defined(BARGING)
#define MAY_OVERTAKE true
#elif defined(FIFO)
#define MAY_OVERTAKE false
#else
#define MAY_OVERTAKE (!starving)
#endif

#define IMPATIENT (old > 0)
#define TOO_LARGE(n) (n > capacity && capacity > 0)
#define FITS(n) (n <= capacity - held)

/* How far a call of Caller is, its result. */
#define CALLING 0
#define GOT 1
#define FAILED 2
#define WAITING 3

/* What the broken variants of unlock leave out; see Caller and Resizer. */
#ifdef NO_WAKE_AFTER_CANCEL
#define AFTER_CANCEL (result == FAILED)
#else
#define AFTER_CANCEL false
#endif
#ifdef NO_BATON
#define AFTER_GRANT (result == GOT)
#else
#define AFTER_GRANT false
#endif
#ifdef NO_WAKE_ON_RELEASE_OF_MANY
#define AFTER_RELEASE (SIZE(w) > 1)
#else
#define AFTER_RELEASE false
#endif
#ifdef NO_WAKE_ON_GROWTH
#define AFTER_RESIZE true
#else
#define AFTER_RESIZE false
#endif

/* wake is a variable of the caller, the set of those to whom it will send a
 * token; it is empty before lock and after unlock. */
#define DRAINER BIT(NA)

inline commit(q) {
	if
	:: parked[q] ->
		parked[q] = false;
		if
		:: done[q]
		:: else -> notified[q] = true; wake = wake | BIT(q)
		fi
	:: else
	fi
}

inline send(q) {
	d_step {
		assert(Books || !token[q]);
		token[q] = true;
		wake = wake & ~BIT(q)
	}
}

inline lock() {
	atomic {
		!mu -> mu = true;
		if
		:: word & OFF_LIMITS
		:: else -> held = HELD(word)
		fi;
		word = OFF_LIMITS
	}
}

/* hand gives permits to the head of the line. */
inline hand() {
	h = line[0];
	assert(OverAdmitted || inUse + SIZE(h) <= capacity);
	assert(AfterClose || !closeReturned);
	assert(AfterEnd || !done[h]);
	assert(OutOfOrder || !before[h]);
	held = held + SIZE(h);
	inUse = inUse + SIZE(h);
	admitted[h] = true;
	removeLocked(h);
	h = 0
}

/* Whether commit notifies it. */
#ifdef HANDS_TO_THE_DEAD
#define WAKES(q) true
#else
#define WAKES(q) (parked[q] && !done[q])
#endif

inline unlock(noWake) {
	atomic {
		assert(Books || held == inUse);
		assert(Flags || !starving || (size > 0 && IMPATIENT));
		do
		:: size > 0 && FITS(SIZE(line[0])) && !(noWake) ->
			woken = WAKES(line[0]);
			commit(line[0]);
			if
			:: MAY_OVERTAKE || !woken -> break
			:: else -> hand()
			fi
		:: else -> break
		od;
		room = capacity - held;
		word = OFF_LIMITS;
		if
#ifdef HUGE
		:: true
#else
#ifndef CLOSE_LEAVES_WORD
		:: closed
#endif
		:: size > 0 && !MAY_OVERTAKE
#ifndef SHRUNK_IS_FULL
		:: room < 0
#endif
		:: else ->
			word = ((room > 0 -> room : 0) << 3) | held;
#ifdef LINE_FLAG_STAYS
			lineFlag = (size > 0 -> LINE_FLAG : lineFlag);
			word = word | lineFlag;
#endif
			if
			:: size > 0 -> word = word | LINE_FLAG
			:: else
			fi
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
#ifdef DRAIN
	:: wake & DRAINER -> atomic { drainToken = true; wake = wake & ~DRAINER }
#endif
	:: !wake -> break
	od
}

inline joinLocked(w) {
	i = 0;
	do
	:: i < size -> before[w] = before[w] | BIT(line[i]); i++
	:: else -> break
	od;
	line[size] = w;
	size++;
	inLine[w] = true
}

inline removeLocked(w) {
	i = 0;
	do
	:: line[i] == w -> break
	:: else -> i++
	od;
	if
	:: i == 0 -> due = false
	:: else
	fi;
	if
	:: i < old -> old--
	:: else
	fi;
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
	inLine[w] = false;
#ifndef STARVING_STAYS
	starving = starving && IMPATIENT
#endif
}

/* permitsCameIn is what a release and a growth do for the head. */
inline permitsCameIn() {
	due = due || IMPATIENT;
#if !defined(FIFO) && !defined(BARGING) && !defined(HEAD_LOOKS)
	starving = starving || IMPATIENT
#endif
}

/* admit gives w its permits: the moment at which its call takes effect. */
inline admit(w) {
	assert(OverAdmitted || inUse + SIZE(w) <= capacity);
	assert(AfterClose || !closeReturned);
	assert(AfterEnd || !dead);
	inUse = inUse + SIZE(w);
	result = GOT
}

/* What AcquireN sees of its context before it waits; TryAcquireN has none. */
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

proctype Caller(byte w) {
	byte seen, result, round, wake;
	bool try, dead;

	do
	:: round < ROUNDS ->
#ifdef LIVE
		round = (w == 2);
#else
		round++;
#endif
#ifdef TRY
		if
		:: try = true
		:: try = false
		fi;
#endif
		/* the fast path */
		dead = done[w] && !try;
		do
		:: seen = word;
			if
#ifdef LIVE
			:: break /* the word could have been offLimits */
#endif
			:: ENDED(w) -> result = FAILED; break
			:: !ENDED(w) && (seen & OFF_LIMITS || (SIZE(w) > FREE(seen) && !try)) -> break
			:: !(seen & OFF_LIMITS) && SIZE(w) > FREE(seen) && try -> result = FAILED; break
			:: !ENDED(w) && !(seen & OFF_LIMITS) && SIZE(w) <= FREE(seen) ->
				if
#ifndef CHECK_THEN_TAKE
				:: d_step { word == seen ->
#else
				:: d_step { true ->
#endif
					word = seen - (SIZE(w) << 3) + SIZE(w);
					assert(Overtaken || !OVERTAKES);
					admit(w)
				} break
#ifndef CHECK_THEN_TAKE
				:: word != seen
#endif
				fi
			fi
		od;
		/* the slow path */
		if
		:: result != CALLING
		:: else ->
			SECTION {
				atomic { lock(); dead = done[w] && !try }
				d_step {
					if
					:: ENDED(w) || closed || (!try && TOO_LARGE(SIZE(w))) -> result = FAILED
					:: else ->
						if
						:: (size == 0 || MAY_OVERTAKE) && FITS(SIZE(w)) ->
							assert(Overtaken || !OVERTAKES);
							held = held + SIZE(w);
							admit(w)
						:: else ->
							if
							:: try -> result = FAILED
							:: else ->
								joinLocked(w);
#ifndef PARKS_LATE
								parked[w] = true;
#endif
								result = WAITING
							fi
						fi
					fi
				}
				unlock(false)
			}
		fi;
		do
		:: result == WAITING ->
#ifdef PARKS_LATE
			parked[w] = true;
#endif
			skip;
end_parked:		if
			:: d_step { token[w] -> token[w] = false; notified[w] = false }
			:: d_step { done[w] -> parked[w] = false }
				if
				:: notified[w] -> d_step { token[w] -> token[w] = false; notified[w] = false }
				:: !notified[w]
				fi
			fi;
			SECTION {
				atomic { lock(); dead = done[w] }
				d_step {
					if
#ifdef LATE_CONTEXT_WINS
					:: !inLine[w] && done[w] -> result = FAILED
					:: !inLine[w] && !done[w] -> result = (admitted[w] -> GOT : FAILED)
#else
					:: !inLine[w] -> result = (admitted[w] -> GOT : FAILED)
#endif
					:: inLine[w] && line[0] == w && FITS(SIZE(w)) ->
						if
#ifndef PREFERS_ROOM
						:: done[w] -> result = FAILED
#endif
						:: else -> assert(OutOfOrder || !before[w]); held = held + SIZE(w); admit(w)
						fi;
						removeLocked(w)
					:: else ->
						if
						:: done[w] -> result = FAILED; removeLocked(w)
						:: else ->
#ifdef HEAD_LOOKS
							starving = starving || (line[0] == w && IMPATIENT);
#endif
#ifndef PARKS_LATE
							parked[w] = true;
#endif
							skip
						fi
					fi
				}
				d_step {
					assert(Books || result == GOT || !admitted[w]);
					admitted[w] = false
				}
				unlock(AFTER_CANCEL || AFTER_GRANT)
			}
		:: else -> break
		od;
		/* ReleaseN, or not: it may keep what it has */
		do
#ifndef LIVE
		:: result == GOT -> break
#endif
		:: result == GOT ->
			seen = word;
			if
#ifdef LIVE
			:: result = FAILED
#endif
#ifdef RELEASE_IGNORES_LINE
			:: !(seen & OFF_LIMITS) ->
#else
			:: !(seen & (OFF_LIMITS | LINE_FLAG)) ->
#endif
				if
				:: d_step { word == seen ->
					word = seen + (SIZE(w) << 3) - SIZE(w);
					inUse = inUse - SIZE(w);
					result = CALLING
				}
				:: word != seen
				fi
			:: seen & (OFF_LIMITS | LINE_FLAG) ->
				result = FAILED /* it takes the slow path */
			fi;
			if
			:: result == FAILED ->
				SECTION {
					lock();
					d_step {
						held = held - SIZE(w);
						inUse = inUse - SIZE(w);
						permitsCameIn();
#ifndef NO_WORD_TO_DRAIN
						if
						:: closed && held == 0 && drainParked -> drainParked = false; wake = wake | DRAINER
						:: else
						fi
#endif
					}
					unlock(AFTER_RELEASE)
				}
			:: else
			fi
		:: else -> break
		od;
		atomic { seen = 0; result = CALLING; dead = false; try = false }
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
	:: d_step { old < size -> old++ }
	od
}

inline turnAwayLocked(n) {
	d_step {
		w = line[n];
		removeLocked(w);
		commit(w);
		w = 0
	}
}

proctype Resizer() {
	byte n, k, w, wake;
	bool grown;

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
#ifndef SHRINK_FORGETS
				:: TOO_LARGE(SIZE(line[k])) -> turnAwayLocked(k)
#endif
				:: else -> k++
				fi
			:: else -> break
			od;
			atomic {
				k = 0;
				if
				:: grown -> permitsCameIn()
				:: else
				fi
			}
			unlock(AFTER_RESIZE)
		}
	:: else -> break
	od
}

proctype Closer() {
	byte w, wake;

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
		unlock(false)
	}
	closeReturned = true
#ifdef DRAIN
	;
	lock();
	if
	:: held > 0 ->
		drainParked = true;
		unlock(false);
		skip;
end_parked:	d_step { drainToken -> drainToken = false }
		lock();
		assert(Books || held == 0)
	:: else
	fi;
	unlock(false)
#endif
}

/* Reader is Stats, which must wake nobody. */
proctype Reader() {
	byte wake;

	lock();
	assert(Asleep || size == 0 || !FITS(SIZE(line[0])) || !parked[line[0]]);
	unlock(false)
}

/* AtRest runs when nobody else can. NO_REST leaves it out, for what else is broken. */
proctype AtRest() {
	timeout;
	d_step {
		if
		:: size > 0 -> assert(LostWakeup || (SIZE(line[0]) > capacity - inUse && !TOO_LARGE(SIZE(line[0]))))
		:: else
		fi;
		assert(LostWakeup || !closed || (size == 0 && !(drainParked && inUse == 0)));
		if
		:: word & OFF_LIMITS -> room = capacity - held
		:: else -> room = FREE(word); held = HELD(word)
		fi;
		assert(Books || (!mu && held == inUse && room == capacity - inUse));
		assert(Flags || !starving || (size > 0 && IMPATIENT));
		assert(Flags || (word & OFF_LIMITS) || !(word & LINE_FLAG) == (size == 0));
#ifndef HUGE
		assert(Flags || !(word & OFF_LIMITS) || closed || room < 0 || (size > 0 && !MAY_OVERTAKE))
#endif
	}
}

init {
	atomic {
#ifdef HUGE
		word = OFF_LIMITS;
#else
		word = CAPACITY << 3;
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

ltl served { [] (inLine[SERVED] -> <> !inLine[SERVED]) }
#else
#ifndef NO_REST
		run AtRest();
#endif
		skip
	}
}
#endif
