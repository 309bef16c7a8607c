/*
 * The pool of waiters, as it is in waiter.go: a stack that any call pushes onto
 * without a lock, and that calls pop from with mu held. Every load, store and
 * compare-and-swap is a separate step. run.sh lists the instances and the broken
 * variants.
 *
 * NG goroutines (Caller) each pop a waiter, put it into a queue and take it out
 * again, which changes its link, and push it, ROUNDS times.
 *
 *   popLocked, push   the functions of these names
 *
 * Left out: bubbles; maxPooled, since a waiter that is not pooled is never pushed.
 * As with Go's atomics, memory is sequentially consistent.
 *
 * Properties, by their names in the assertions:
 *   Shared  a waiter that is popped or made belongs to no other call
 *   Linked  a popped waiter has no link, as a queue expects
 *   Lost    at rest, every waiter that was made is in the stack, once
 * In addition spin finds every state in which a process is stuck ("invalid end
 * state"). With ONLY=P, only P is checked.
 */
#ifndef NG
#define NG 3
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif

#define NIL 0
#define BIT(w) (1 << (w))

/* The names of the properties. Always 0, except with ONLY, and not part of the state. */
hidden byte Shared, Linked, Lost;

bool mu;
byte top = NIL;
byte next[NG + 1]; /* waiters are numbered from 1 */
byte made;
byte owned; /* the waiters that belong to a call */

hidden byte n, i;

inline take() {
	assert(Shared || !(owned & BIT(w)));
	owned = owned | BIT(w)
}

proctype Caller() {
	byte w, below, round;

	do
	:: round < ROUNDS ->
		round++;
#ifndef POPS_WITHOUT_MU
		atomic { !mu -> mu = true }
#endif
		/* popLocked */
		w = top;
		do
		:: w == NIL -> d_step { made++; w = made; take() } break
		:: else ->
			below = next[w];
			if
#ifdef POPS_WITH_STORE
			:: d_step { true -> top = below; take() } break
#else
			:: d_step { top == w -> top = below; take() } break
			:: top != w -> w = top
#endif
			fi
		od;
		skip;
#ifndef KEEPS_LINK
		next[w] = NIL;
#endif
		assert(Linked || next[w] == NIL);
#ifndef POPS_WITHOUT_MU
		mu = false;
#endif
		next[w] = w; /* in a queue */
		next[w] = NIL;
		/* push */
		do
		:: below = top;
			next[w] = below;
			if
#ifdef PUSHES_WITH_STORE
			:: d_step { true -> top = w; owned = owned & ~BIT(w) } break
#else
			:: d_step { top == below -> top = w; owned = owned & ~BIT(w) } break
			:: top != below
#endif
			fi
		od;
		atomic { w = NIL; below = NIL }
	:: else -> break
	od
}

/* AtRest runs when no other process can. */
proctype AtRest() {
	timeout;
	d_step {
		i = top;
		do
		:: i != NIL && n <= NG -> n++; i = next[i]
		:: else -> break
		od;
		assert(Lost || (n == made && owned == 0));
		n = 0;
		i = 0
	}
}

init {
	atomic {
#ifdef ONLY
		Shared = 1; Linked = 1; Lost = 1;
		ONLY = 0;
#endif
		run Caller();
		run Caller();
#if NG > 2
		run Caller();
#endif
		run AtRest()
	}
}
