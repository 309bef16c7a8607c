/*
 * Two processes share one capacity, as in etcdcondvar: tickets at a server,
 * leases that end, requests and answers that are delayed and lost, and the
 * fence, the transaction that cleans up after one whose outcome is unknown.
 * run.sh has the instances and the broken variants to run.
 *
 * Two processes put NT tickets each. They hold granted tickets, release them or
 * give up at any time. They open LEASES leases each, one after another, when
 * the previous session has ended. The capacity is CAPACITY.
 *
 *   Server   applies requests in any order, after any delay
 *   Leases   renews, ends and revokes the leases of a process
 *   Clock    advances time: a lease has TTL ticks, and MARGIN is the margin
 *   endSession, send, fence, renewed   as in session.go, sender.go and keeper.go
 *
 * A process waits for the answer to a put and may stop waiting at any time.
 * Then the request is still under way, and is applied later or never. Deletes
 * and fences are repeated until they are answered, and each answer may be lost.
 * The clock of a process may lose one tick between the sending of a renewal and
 * the end of the lease period that the renewal starts. A process may learn of a
 * grant at any time after it. The information may be stale.
 *
 * Not modeled: weights, Resize, TryAcquire, transactions with several tickets,
 * requests for a lease or an epoch whose outcome is unknown (nothing refers to
 * their results), the watch itself, and keys that are deleted by hand. A
 * deletion or a fence that is applied again after its answer changes nothing,
 * so it is not modeled: a deletion compares the create revision of its ticket,
 * and no name in a fence is used again.
 *
 * Bounds: 2 processes, NT tickets each, LEASES leases each, TTL ticks. RENEWING
 * is the number of processes that renew their lease. A process has at most one
 * renewal under way.
 *
 * Properties, by their names in the assertions:
 *   Believed  while a process believes to hold a permit, by its clock, its
 *             ticket exists and is granted, so permits held by that belief
 *             never exceed the capacity
 *   Granted   the same when Acquire returns
 *   Lost      each ticket that exists is known to its process, or its lease is
 *             being revoked
 * With ONLY=P, only P is checked.
 */
#ifndef NT
#define NT 2
#endif
#ifndef LEASES
#define LEASES 2
#endif
#ifndef CAPACITY
#define CAPACITY 1
#endif
#ifndef RENEWING
#define RENEWING 2
#endif
#ifndef TTL
#define TTL 4
#endif
#ifdef NO_MARGIN
#define MARGIN 0
#else
#define MARGIN 1
#endif

#define TICKETS (2 * NT)
#define NONE 255
#define OF(t) (t / NT)                  /* the process of a ticket */
#define LEASE(p, l) (p * LEASES + l)    /* l counts from 0 */

/* The names of the properties. Always 0, except with ONLY. Not part of the state. */
hidden byte Believed, Granted, Lost;

/* The state of the server. */
bool live[2 * LEASES];
byte left[2 * LEASES];   /* ticks until the lease may end */
bool epoch[TICKETS];     /* it exists; by the first ticket that was put with it */
byte line[TICKETS];      /* tickets in the order of their creation */
byte lineLen;

/* A put under way, by ticket. The answer is YES (granted), WAIT or NO (failed). */
#define NOTHING 0
#define REQUEST 1
#define ABANDONED 2      /* a request whose process no longer waits */
#define YES 3
#define WAIT 4
#define NO 5
byte put[TICKETS];

/* A renewal under way, by process. */
byte renewal[2];         /* NOTHING, REQUEST, YES, NO */
byte age[2];             /* ticks since it was sent, by the clock of the process */
bool ageSlow[2];         /* that clock has lost a tick since */

/* What the watch has reported. */
bool heard[TICKETS];     /* the ticket is granted */

/* The state of the processes. */
#define UNUSED 0
#define SENDING 1
#define GIVENUP 2        /* sending, but its call has returned */
#define INLINE 3
#define HELD 4
#define DELETING 5
#define FENCED 6
#define ENDED 7
byte state[TICKETS];
byte leaseOf[TICKETS];   /* the lease of a ticket */
byte epochOf[TICKETS];
bool session[2];
byte lease[2];           /* of the session */
byte opened[2];          /* number of leases so far */
byte current[2];         /* epoch; NONE if none is known to exist */
byte valid[2];           /* ticks for which the session is valid, by the clock of the process */
bool slow[2];            /* that clock has lost a tick since the renewal was sent */
bool revoked[2 * LEASES]; /* the process has asked for its end */

hidden byte i, j, q, rank;

/* find sets rank to the number of tickets before t, or NONE if t does not exist. */
inline find(t) {
	rank = NONE;
	j = 0;
	do
	:: j < lineLen && line[j] != t -> j++
	:: j < lineLen && line[j] == t -> rank = j; break
	:: else -> break
	od
}

/* check asserts the invariants. */
inline check() {
	i = 0;
	do
	:: i < TICKETS ->
		find(i);
		assert(Believed || !(state[i] == HELD && valid[OF(i)] > 0) || rank < CAPACITY);
		assert(Lost || rank == NONE || (state[i] != ENDED && state[i] != UNUSED) || revoked[leaseOf[i]]);
		i++
	:: else -> break
	od;
	i = 0; j = 0; rank = 0
}

/* notify is the watch: it reports granted tickets that wait. */
inline notify() {
	j = 0;
	do
	:: j < lineLen && j < CAPACITY ->
		heard[line[j]] = (state[line[j]] == SENDING || state[line[j]] == INLINE);
		j++
	:: else -> break
	od;
	j = 0
}

/* become sets the state of t to a state that is not waiting. */
inline become(t, s) {
	heard[t] = false;
	state[t] = s
}

/* drop deletes a ticket. */
inline drop(t) {
	find(t);
	if
	:: rank != NONE ->
		j = rank;
		do
		:: j + 1 < lineLen -> line[j] = line[j + 1]; j++
		:: else -> break
		od;
		lineLen--;
		line[lineLen] = 0;
		notify()
	:: else
	fi;
	rank = 0; j = 0
}

/* endLease is the end of a lease at the server, by time or by a revocation. */
inline endLease(l) {
	live[l] = false;
	left[l] = 0;
	i = 0;
	do
	:: i < TICKETS ->
		if
		:: state[i] != UNUSED && leaseOf[i] == l -> drop(i); epoch[i] = false; forget(i)
		:: else
		fi;
		i++
	:: else -> break
	od;
	i = 0
}

/* forget clears variables that are not used any more, to have fewer states. */
inline forget(t) {
	find(t);
	if
	:: state[t] == ENDED && rank == NONE && put[t] != ABANDONED -> leaseOf[t] = 0; epochOf[t] = 0
	:: else
	fi;
	rank = 0; j = 0
}

/* endSession ends the session of p. Its holders lose their permits. */
inline endSession(p) {
	session[p] = false;
	revoked[lease[p]] = true; /* the server may end it at any time from now on */
	left[lease[p]] = 0;
	current[p] = NONE;
	valid[p] = 0;
	slow[p] = false;
	renewal[p] = NOTHING;
	age[p] = 0;
	ageSlow[p] = false;
	i = p * NT;
	do
	:: i < (p + 1) * NT ->
		if
		:: state[i] != UNUSED && leaseOf[i] == lease[p] ->
			become(i, ENDED);
			put[i] = (put[i] == REQUEST -> ABANDONED : (put[i] == ABANDONED -> ABANDONED : NOTHING));
			forget(i)
		:: else
		fi;
		i++
	:: else -> break
	od;
	i = 0
}

/* grant gives t its permit, if the session is valid by the clock. */
inline grant(p, t) {
	if
#ifdef NO_LOOK
	:: true ->
#else
	:: valid[p] == 0 -> endSession(p)
	:: else ->
#endif
		find(t);
		assert(Granted || rank < CAPACITY);
		rank = 0; j = 0;
		become(t, HELD)
	fi
}

/* SENDER_BUSY reports whether the sender of p waits for an answer or has a fence to send. */
#define BUSY(t) (state[t] == SENDING || state[t] == GIVENUP || state[t] == FENCED)
#if NT == 1
#define SENDER_BUSY(p) BUSY(p)
#else
#define SENDER_BUSY(p) (BUSY(p * NT) || BUSY(p * NT + 1))
#endif

/* A ticket of process p, and its call. t is put after ticket t-1, unless it is the first. */
proctype Ticket(byte p; byte t; bool first) {
end:	do
	/* Open a session, if there is none. */
	:: d_step { state[t] == UNUSED && !session[p] && opened[p] < LEASES && (first || state[t - 1] != UNUSED) ->
			lease[p] = LEASE(p, opened[p]);
			opened[p]++;
			session[p] = true;
			live[lease[p]] = true;
			left[lease[p]] = TTL;
			valid[p] = TTL - MARGIN
		}
	/* send: with a new epoch, if none is known to exist. */
	:: d_step { state[t] == UNUSED && session[p] && !SENDER_BUSY(p) && (first || state[t - 1] != UNUSED) ->
			if
			:: !live[lease[p]] -> endSession(p)
			:: else ->
				if
				:: current[p] == NONE -> current[p] = t; epoch[t] = true
				:: else
				fi;
				state[t] = SENDING;
				leaseOf[t] = lease[p];
				epochOf[t] = current[p];
				put[t] = REQUEST
			fi
		}
	/* The answer. */
	:: d_step { put[t] == YES && state[t] == SENDING -> put[t] = NOTHING; grant(p, t); check() }
	:: d_step { put[t] == WAIT && state[t] == SENDING -> put[t] = NOTHING; state[t] = INLINE }
	:: d_step { (put[t] == YES || put[t] == WAIT) && state[t] == GIVENUP -> put[t] = NOTHING; become(t, DELETING) }
	:: d_step { put[t] == NO && (state[t] == SENDING || state[t] == GIVENUP) -> endSession(p); check() }
	/* No answer in time: the outcome is unknown. */
	:: d_step { (state[t] == SENDING || state[t] == GIVENUP) && put[t] != NOTHING ->
			put[t] = (put[t] == REQUEST -> ABANDONED : NOTHING);
#ifndef NO_EPOCH
			current[p] = NONE;
#endif
			become(t, FENCED)
		}
	/* fence: the server applies it at once. Its answer may be lost. */
	:: atomic { state[t] == FENCED ->
			d_step {
#ifndef NO_EPOCH
				epoch[epochOf[t]] = false;
#endif
				drop(t)
			};
			if
			:: d_step { true -> become(t, ENDED); check(); forget(t) }
			:: true
			fi
		}
	/* What the watch reports may be old. */
	:: d_step { state[t] == INLINE && heard[t] -> grant(p, t); check() }
	/* The call gives up, or releases. */
	:: d_step { state[t] == SENDING -> state[t] = GIVENUP }
	:: d_step { state[t] == INLINE || state[t] == HELD -> become(t, DELETING) }
	/* The janitor deletes. The answer may be lost. */
#ifdef GIVES_UP
	:: d_step { state[t] == DELETING -> become(t, ENDED); check() }
#endif
	:: atomic { state[t] == DELETING ->
			d_step { drop(t) };
			if
			:: d_step { true -> become(t, ENDED); check(); forget(t) }
			:: true
			fi
		}
	od
}

/* Keeper renews the lease of a process, and ends its session. */
proctype Keeper(byte p; bool renews) {
end:	do
	:: d_step { renews && session[p] && renewal[p] == NOTHING -> renewal[p] = REQUEST; age[p] = 0; ageSlow[p] = false }
	/* renewed: the lease counts from the sending. */
	:: d_step { renewal[p] == YES ->
			if
			:: valid[p] == 0 -> skip
			:: else ->
#ifdef FROM_RECEIPT
				valid[p] = TTL - MARGIN;
				slow[p] = false;
#else
				valid[p] = (age[p] < TTL - MARGIN -> TTL - MARGIN - age[p] : 0);
				slow[p] = ageSlow[p];
#endif
			fi;
			renewal[p] = NOTHING;
			age[p] = 0;
			ageSlow[p] = false;
			check()
		}
	:: d_step { renewal[p] == NO -> endSession(p); check() }
	:: d_step { renewal[p] != NOTHING -> renewal[p] = NOTHING; age[p] = 0; ageSlow[p] = false } /* no answer in time */
	/* The session has ended by the clock, or by the watch. It may be noticed late. */
	:: d_step { session[p] && (valid[p] == 0 || !live[lease[p]]) -> endSession(p); check() }
	od
}

/* Server applies puts that are under way. */
proctype Server() {
	byte t;

end:	do
	:: atomic {
			t = 0;
			do
			:: t < TICKETS - 1 -> t++
			:: break
			od;
			d_step {
				if
				:: put[t] == REQUEST || put[t] == ABANDONED ->
					if
					:: live[leaseOf[t]] && epoch[epochOf[t]] ->
						line[lineLen] = t;
						lineLen++;
						notify();
						put[t] = (put[t] == ABANDONED -> NOTHING : (lineLen <= CAPACITY -> YES : WAIT))
					:: else -> put[t] = (put[t] == ABANDONED -> NOTHING : NO)
					fi;
					check();
					forget(t)
				:: else
				fi;
				t = 0
			}
		}
	od
}

/* Link loses abandoned requests. Requests with a waiting process are abandoned first. */
proctype Link() {
	byte t;

end:	do
	:: atomic {
			t = 0;
			do
			:: t < TICKETS - 1 -> t++
			:: break
			od;
			d_step {
				if
				:: put[t] == ABANDONED -> put[t] = NOTHING; forget(t)
				:: else
				fi;
				t = 0
			}
		}
	od
}

/* Leases: the server renews, ends or revokes a lease of a process. */
proctype Leases(byte p) {
end:	do
	:: d_step { renewal[p] == REQUEST ->
			if
			:: live[lease[p]] -> left[lease[p]] = TTL; renewal[p] = YES
			:: else -> renewal[p] = NO
			fi
		}
	:: d_step { live[LEASE(p, 0)] && (left[LEASE(p, 0)] == 0 || revoked[LEASE(p, 0)]) -> endLease(LEASE(p, 0)); check() }
#if LEASES > 1
	:: d_step { live[LEASE(p, 1)] && (left[LEASE(p, 1)] == 0 || revoked[LEASE(p, 1)]) -> endLease(LEASE(p, 1)); check() }
#endif
	od
}

/* Clock advances time by a tick. The clock of a process may lose one tick. */
proctype Clock() {
	bool loses[2];

end:	do
	:: atomic {
			if
			:: !slow[0] && !ageSlow[0] && session[0] -> loses[0] = true
			:: loses[0] = false
			fi;
			if
			:: !slow[1] && !ageSlow[1] && session[1] -> loses[1] = true
			:: loses[1] = false
			fi;
			d_step {
				q = 0;
				do
				:: q < 2 * LEASES ->
					if
					:: left[q] > 0 -> left[q]--
					:: else
					fi;
					q++
				:: else -> break
				od;
				q = 0;
				do
				:: q < 2 && session[q] && loses[q] ->
					slow[q] = true;
					ageSlow[q] = (renewal[q] != NOTHING);
					q++
				:: q < 2 && !(session[q] && loses[q]) ->
					if
					:: valid[q] > 0 -> valid[q]--
					:: else
					fi;
					if
					:: renewal[q] != NOTHING && age[q] < TTL - MARGIN -> age[q]++
					:: else
					fi;
					q++
				:: else -> break
				od;
				q = 0;
				loses[0] = false;
				loses[1] = false
			}
		}
	od
}

init {
	atomic {
#ifdef ONLY
		Believed = 1; Granted = 1; Lost = 1;
		ONLY = 0;
#endif
		current[0] = NONE;
		current[1] = NONE;
		run Ticket(0, 0, true);
		run Ticket(1, NT, true);
#if NT > 1
		run Ticket(0, 1, false);
		run Ticket(1, NT + 1, false);
#endif
		run Keeper(0, RENEWING > 0);
		run Keeper(1, RENEWING > 1);
		run Server();
		run Link();
		run Leases(0);
		run Leases(1);
		run Clock()
	}
}
