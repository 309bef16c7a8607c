/*
 * keyed.Resource, as it is in keyed/keyed.go: the entries of keys, which are added
 * and removed and used again for other keys. run.sh lists the instances and the
 * broken variants.
 *
 * NA goroutines acquire one of CAPACITY permits of a key, ROUNDS times, or fail,
 * and release it. The first two use key 0, the others key 1.
 *
 *   enter         lookup: with mu held, get the entry of the key, or an idle one,
 *                 and count the call that uses it
 *   leave         the function of this name
 *   startRelease  the function of this name
 *
 * The resource of an entry is a number, inUse. An acquisition is one step, which
 * either succeeds or fails: a call that waits takes this step later.
 *
 * Left out: weights, Resize, hooks; the allocation of entries and the limit of idle
 * ones: there are always enough.
 *
 * Properties, by their names in the assertions:
 *   OverLimit   never more than CAPACITY permits of a key are held
 *   Mixed       an entry that is used for another key has nothing in use
 *   Left        at rest no key has an entry
 * With ONLY=P, only P is checked.
 */
#ifndef NA
#define NA 3
#endif
#ifndef CAPACITY
#define CAPACITY 1
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#define KEYS 2
#define ENTRIES 4
#define NONE 9
#define KEY(w) (w < 2 -> 0 : 1)

hidden byte OverLimit, Mixed, Left;

byte entry[KEYS] = NONE; /* the map */
bool used[ENTRIES];      /* by a key; otherwise it is idle */
byte calls[ENTRIES], held[ENTRIES], inUse[ENTRIES];
byte holders[KEYS]; /* for the properties */
byte atRest;

inline enter() {
	d_step {
		if
		:: entry[KEY(me)] != NONE -> e = entry[KEY(me)]
		:: else ->
			e = 0;
			do
			:: used[e] -> e++
			:: else -> break
			od;
			assert(Mixed || inUse[e] == 0);
			used[e] = true;
			entry[KEY(me)] = e
		fi;
		calls[e]++
	}
}

#ifdef DROPS_IN_USE
#define IDLE (held[e] == 0)
#else
#ifdef DROPS_HELD
#define IDLE (calls[e] == 0)
#else
#define IDLE (calls[e] == 0 && held[e] == 0)
#endif
#endif

inline leave(acquired) {
	d_step {
		held[e] = held[e] + acquired;
		calls[e]--;
		if
		:: IDLE && entry[KEY(me)] == e -> entry[KEY(me)] = NONE; used[e] = false
		:: else
		fi
	}
}

proctype Caller(byte me) {
	byte e, round;
	bool got;

	do
	:: round < ROUNDS ->
		round++;
		enter();
		if
		:: d_step { inUse[e] < CAPACITY -> inUse[e]++; got = true }
		:: skip /* it fails, as a call whose context ends */
		fi;
		leave((got -> 1 : 0));
		if
		:: got ->
			d_step {
				holders[KEY(me)]++;
				assert(OverLimit || holders[KEY(me)] <= CAPACITY)
			}
			d_step { got = false; holders[KEY(me)]-- }
			d_step { /* startRelease */
				held[e]--;
				calls[e]++
			}
#ifdef RELEASE_IS_NO_CALL
			leave(0);
			inUse[e]--
#else
			inUse[e]--;
			leave(0)
#endif
		:: else
		fi
	:: else -> break
	od;
	skip;
	d_step {
		atRest++;
		assert(Left || atRest < NA || (entry[0] == NONE && entry[1] == NONE))
	}
}

init {
	atomic {
#ifdef ONLY
		OverLimit = 1; Mixed = 1; Left = 1;
		ONLY = 0;
#endif
		run Caller(0);
		run Caller(1);
#if NA > 2
		run Caller(2);
#endif
		skip
	}
}
