/*
 * CapacityResource, as it is in resource.go and books.go. run.sh says which
 * instances and which broken variants are run.
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
 *   commit      notifyLocked
 *   end_parked  the wait in acquireSlow, and cancel, which here lets go of mu in
 *               between: there is more to try, not less
 *   Clock       time. Those who join are numbered, by place; time is the number of
 *               those whose patience has run out, in this order, at any moment. So
 *               who has place p is old from time p on, whether in line or not
 *
 * Granularity. Loads and compare-and-swaps of the word are steps of their own,
 * and so are looks at a context before the lock is taken, and what a release
 * looks at: the clock, the word, and the deadline. What is done under mu
 * changes only what mu guards, until unlock stores the deadline and then the word;
 * so lock is a step, what follows is one or several, and unlock is two, after
 * which each wake-up is another. A loop over the line, as in Resize and Close, is one step for each
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
 *   Flags        at rest, the word says whether somebody is in line, and that the
 *                head sleeps; starving implies that there is a head, and that it
 *                is old
 *   OverAdmitted nobody gets permits beyond the capacity of the moment
 *   Overtaken    no newcomer gets in once a release has come that, when it looked
 *                at the clock, found that the head was old; or, with FIFO, while
 *                somebody is in line
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
 * is a single step, and so is a release with all its looks, so that weak fairness (each who can always go on, does) is
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

/* The word: 3 bits of held permits, 3 bits of free ones, and the state of the line. */
#define HELD(word) ((word) & 7)
#define FREE(word) (((word) >> 3) & 7)
#define STATE(word) ((word) & OFF_LIMITS)
#define NOBODY 0
#define HEAD_AWAKE 64
#define HEAD_ASLEEP 128
#define OFF_LIMITS 192

/* The names of the properties. Always 0, and no part of the state. */
hidden byte LostWakeup, Asleep, Books, Flags, OverAdmitted, Overtaken, OutOfOrder, AfterClose, AfterEnd;

byte word = OFF_LIMITS;
byte deadline; /* the time at which who was head when it was stored gets old */
bool mu;
byte capacity = CAPACITY;
byte held;
bool closed, starving;
byte line[NA], size; /* the requests in line; line[0] is the head */
byte arrivals, time, place[NA];
bool inLine[NA], admitted[NA], settled[NA], parked[NA], notified[NA], token[NA], done[NA];
bool drainParked, drainToken; /* of Drain's waiter */

/* for the properties */
byte inUse;      /* what callers hold */
byte before[NA]; /* those who were in line when this one joined, and still are */
bool due;        /* permits have come in for a head that was old */
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

#define IMPATIENT(now) (size > 0 && place[line[0]] <= now)
#define TOO_LARGE(n) (n > capacity && capacity > 0)
#define FITS(n) (n <= capacity - held)

/* How far a call of Caller is, its result. */
#define CALLING 0
#define GOT 1
#define FAILED 2
#define WAITING 3
#define RELEASING 4

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
		:: STATE(word) == OFF_LIMITS
		:: else -> held = HELD(word)
		fi;
		word = OFF_LIMITS
	}
}

/* hand gives permits to the head of the line. */
inline hand(now) {
	h = line[0];
	assert(OverAdmitted || inUse + SIZE(h) <= capacity);
	assert(AfterClose || !closeReturned);
	assert(AfterEnd || !done[h]);
	assert(OutOfOrder || !before[h]);
	held = held + SIZE(h);
	inUse = inUse + SIZE(h);
	admitted[h] = true;
	settled[h] = true;
	removeLocked(h, now);
	h = 0
}

/* Whether commit notifies it. */
#ifdef HANDS_TO_THE_DEAD
#define WAKES(q) true
#else
#define WAKES(q) (parked[q] && !done[q])
#endif

/* Whether unlock leaves the word closed. */
#ifdef HUGE
#define STAYS_CLOSED true
#else
#ifdef CLOSE_LEAVES_WORD
#define CLOSED false
#else
#define CLOSED closed
#endif
#ifdef SHRUNK_IS_FULL
#define SHRUNK false
#else
#define SHRUNK (held > capacity)
#endif
#define STAYS_CLOSED (CLOSED || SHRUNK || (size > 0 && !MAY_OVERTAKE))
#endif

#ifdef SAYS_AWAKE
#define HEAD_SLEEPS false
#else
#define HEAD_SLEEPS parked[line[0]]
#endif
#ifdef DEADLINE_OF_THE_LAST
#define DEADLINE place[line[size - 1]]
#else
#define DEADLINE place[line[0]]
#endif

inline storeDeadline() {
	if
	:: size > 0 && !STAYS_CLOSED && !HEAD_SLEEPS -> deadline = DEADLINE
	:: else
	fi
}

/* unlock has the time now if it hands over permits. */
inline unlock(noWake, now) {
	atomic {
		assert(Books || held == inUse);
		assert(Flags || !starving || IMPATIENT(time));
		do
		:: size > 0 && FITS(SIZE(line[0])) && !(noWake) ->
			woken = WAKES(line[0]);
			commit(line[0]);
			if
			:: MAY_OVERTAKE || !woken -> break
			:: else -> hand(now)
			fi
		:: else -> break
		od;
#ifndef DEADLINE_AFTER_WORD
		storeDeadline()
#endif
	}
	atomic {
		room = capacity - held;
		word = OFF_LIMITS;
		if
		:: STAYS_CLOSED
		:: else ->
			word = ((room > 0 -> room : 0) << 3) | held;
			if
			:: size > 0 -> word = word | (HEAD_SLEEPS -> HEAD_ASLEEP : HEAD_AWAKE)
			:: else
			fi;
#ifdef LINE_FLAG_STAYS
			lineFlag = (size > 0 -> HEAD_ASLEEP : lineFlag);
			word = (size > 0 -> word : word | lineFlag)
#endif
		fi;
#ifndef DEADLINE_AFTER_WORD
		mu = false
#endif
	}
#ifdef DEADLINE_AFTER_WORD
	atomic { storeDeadline(); mu = false }
#endif
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
	arrivals++;
	place[w] = arrivals;
	inLine[w] = true
}

inline removeLocked(w, now) {
	i = 0;
	do
	:: line[i] == w -> break
	:: else -> i++
	od;
	if
	:: i == 0 -> due = false
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
	starving = starving && IMPATIENT(now);
#endif
#ifdef LIVE /* numbers anew, as there is no end of arrivals, and nobody keeps a look at the clock */
	i = 0;
	do
	:: i < NA -> place[i] = (place[i] > place[w] -> place[i] - 1 : place[i]); i++
	:: else -> break
	od;
	time = (time >= place[w] -> time - 1 : time);
	deadline = 0;
	arrivals--;
#endif
	place[w] = 0
}

/* permitsCameIn is what a release and a growth do for the head. */
inline permitsCameIn(now) {
	due = due || IMPATIENT(now);
#if !defined(FIFO) && !defined(BARGING) && !defined(HEAD_LOOKS)
	starving = starving || IMPATIENT(now)
#endif
}

/* What a release in the word compares and changes. */
#ifdef FLAG_APART
#define IS_STILL(seen) (STATE(word) != OFF_LIMITS && (word & 63) == (seen & 63))
#define PUT_BACK(n) word = word + (n << 3) - n
#else
#define IS_STILL(seen) (word == seen)
#define PUT_BACK(n) word = seen + (n << 3) - n
#endif
#ifdef PATIENCE_IGNORED
#define PATIENT true
#else
#define PATIENT (look < deadline)
#endif

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
	byte seen, look, result, round, wake;
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
			:: !ENDED(w) && (STATE(seen) == OFF_LIMITS || (SIZE(w) > FREE(seen) && !try)) -> break
			:: STATE(seen) != OFF_LIMITS && SIZE(w) > FREE(seen) && try -> result = FAILED; break
			:: !ENDED(w) && STATE(seen) != OFF_LIMITS && SIZE(w) <= FREE(seen) ->
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
				unlock(false, time)
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
			:: d_step { done[w] && !mu -> parked[w] = false }
				if
				:: notified[w] -> d_step { token[w] -> token[w] = false; notified[w] = false }
				:: !notified[w]
				fi
			fi;
			if
			:: settled[w] -> d_step {
#ifdef LATE_CONTEXT_WINS
				result = (admitted[w] && !done[w] -> GOT : FAILED);
#else
				result = (admitted[w] -> GOT : FAILED);
#endif
				assert(Books || result == GOT || !admitted[w]);
				settled[w] = false;
				admitted[w] = false
			}
			:: else -> SECTION {
				atomic { lock(); dead = done[w] }
				d_step {
					assert(Books || !admitted[w]);
					if
					:: !inLine[w] -> result = FAILED
					:: inLine[w] && line[0] == w && FITS(SIZE(w)) ->
						if
#ifndef PREFERS_ROOM
						:: done[w] -> result = FAILED
#endif
						:: else -> assert(OutOfOrder || !before[w]); held = held + SIZE(w); admit(w)
						fi;
						removeLocked(w, time)
					:: else ->
						if
						:: done[w] -> result = FAILED; removeLocked(w, time)
						:: else ->
#ifdef HEAD_LOOKS
							starving = starving || (line[0] == w && IMPATIENT(time));
#endif
#ifndef PARKS_LATE
							parked[w] = true;
#endif
							skip
						fi
					fi
				}
				unlock(AFTER_CANCEL || AFTER_GRANT, time)
			}
			fi
		:: else -> break
		od;
		/* ReleaseN, or not: it may keep what it has. The fast path */
		do
#ifndef LIVE
		:: result == GOT -> break
#endif
		:: result == GOT ->
			seen = word;
			if
#ifdef LIVE
			:: result = RELEASING
#endif
#ifdef RELEASE_IGNORES_LINE
			:: STATE(seen) != OFF_LIMITS ->
#else
			:: STATE(seen) == NOBODY ->
#endif
				if
				:: d_step { word == seen ->
					PUT_BACK(SIZE(w));
					inUse = inUse - SIZE(w);
					result = CALLING
				}
				:: word != seen
				fi
			:: STATE(seen) != NOBODY ->
				result = RELEASING
			fi
		:: else -> break
		od;
		/* releaseSlow */
		if
		:: result == RELEASING -> SECTION {
			look = time;
			do
			:: result == RELEASING ->
				seen = word;
				if
				:: STATE(seen) < HEAD_ASLEEP && PATIENT ->
					if
					:: d_step { IS_STILL(seen) ->
						PUT_BACK(SIZE(w));
						inUse = inUse - SIZE(w);
						due = due || IMPATIENT(look);
						result = CALLING
					}
					:: !IS_STILL(seen)
					fi
				:: else ->
					lock();
					d_step {
						held = held - SIZE(w);
						inUse = inUse - SIZE(w);
						permitsCameIn(look);
#ifndef NO_WORD_TO_DRAIN
						if
						:: closed && held == 0 && drainParked -> drainParked = false; wake = wake | DRAINER
						:: else
						fi
#endif
						result = CALLING
					}
					unlock(AFTER_RELEASE, look)
				fi
			:: else -> break
			od
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
		settled[w] = parked[w] && !done[w];
		commit(w);
		removeLocked(w, time);
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
				:: grown -> permitsCameIn(time)
				:: else
				fi
			}
			unlock(AFTER_RESIZE, time)
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
		unlock(false, time)
	}
	closeReturned = true
#ifdef DRAIN
	;
	lock();
	if
	:: held > 0 ->
		drainParked = true;
		unlock(false, time);
		skip;
end_parked:	d_step { drainToken -> drainToken = false }
		lock();
		assert(Books || held == 0)
	:: else
	fi;
	unlock(false, time)
#endif
}

/* Reader is Stats, which must wake nobody. */
proctype Reader() {
	byte wake;

	lock();
	assert(Asleep || size == 0 || !FITS(SIZE(line[0])) || !parked[line[0]]);
	unlock(false, time)
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
		:: STATE(word) == OFF_LIMITS -> room = capacity - held
		:: else -> room = FREE(word); held = HELD(word)
		fi;
		assert(Books || (!mu && held == inUse && room == capacity - inUse));
		assert(Flags || !starving || IMPATIENT(time));
		assert(Flags || STATE(word) == OFF_LIMITS || STATE(word) == (size == 0 -> NOBODY : HEAD_ASLEEP));
#ifndef HUGE
		assert(Flags || STATE(word) != OFF_LIMITS || closed || room < 0 || (size > 0 && !MAY_OVERTAKE))
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
