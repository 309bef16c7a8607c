#!/usr/bin/env bash
# Checks every interleaving of the models in this folder with spin. The models
# of the current algorithms must keep the properties that each model lists. Each
# broken variant must break the property beside its name.
#
#   verify/models/run.sh                        the short form
#   verify/models/run.sh cond resource          only these models
#   CONDVAR_VERIFY=long verify/models/run.sh    larger instances, too
#
# JOBS=n runs n at a time, instead of one for each processor. The exit status is
# 0 if all results are as expected, 1 if not, and 3 if spin, gcc or tcc is
# missing and cannot be installed. tcc compiles most models, in a twentieth of
# the time of gcc, which is longer than the search. gcc compiles the large ones.
set -euo pipefail
cd "$(dirname "$0")"

for tool in spin gcc tcc; do
	if ! command -v "$tool" >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		{
			apt-get update -qq && apt-get install -y -qq spin gcc tcc libc6-dev
		} >/dev/null 2>&1 || true
	fi
	if ! command -v "$tool" >/dev/null; then
		echo "the models cannot be checked: $tool is missing" \
			"(Debian: apt-get install spin gcc tcc libc6-dev)" >&2
		exit 3
	fi
done

models=" ${*:-$(basename -s .pml -- *.pml | xargs)} "
for model in $models; do
	[ -f "$model.pml" ] || { echo "there is no model $model" >&2; exit 2; }
done

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
jobs=${JOBS:-$(nproc)}
count=0

# check MODEL NAME EXPECTED FLAG...: runs a model, in its own folder, and prints
# a row of the table.
check() {
	local model=$1 name=$2 expected=$3 work=$dir/$count result states start elapsed
	local cc=tcc build=(-w -DSAFETY) search=(-w20 -m100000)
	shift 3
	# Liveness, under weak fairness, without assertions.
	if [[ " $* " == *" -DLIVE "* ]]; then
		build=(-w -DNOREDUCE)
		search=(-w20 -m100000 -a -f -A)
	fi
	# For the others, optimizing takes longer than it saves.
	if [[ " $* " == *" -DLARGE "* ]]; then
		cc=gcc
		build+=(-O2 -DCOLLAPSE)
		search+=(-w24)
	fi
	mkdir "$work"
	cp "$model.pml" "$work"
	cd "$work"
	start=${EPOCHREALTIME/[.,]/}
	if spin -a "$@" "$model.pml" >log 2>&1 &&
		$cc "${build[@]}" -DMEMLIM=3500 -o pan pan.c >>log 2>&1; then
		./pan "${search[@]}" >>log 2>&1 || true
	fi
	result=$(outcome <log)
	elapsed=$(((${EPOCHREALTIME/[.,]/} - start) / 100000))
	states=$(sed -nE 's/^ *([0-9]+) states, stored.*/\1/p' log)
	printf '%-9s %-34s %-18s %-18s %10s %6d.%d\n' "$model" "$name" "$expected" "$result" \
		"${states:--}" $((elapsed / 10)) $((elapsed % 10))
	if [ "$result" = "$expected" ]; then
		touch "$work.ok"
	else
		explain "$model" "$name" "$@" >"$work.wrong"
	fi
	rm -rf "$work"
}

# outcome reads the output of pan, and prints the broken property.
outcome() {
	local log
	log=$(cat)
	if [[ $log =~ assertion\ violated\ [\(]*([A-Z][A-Za-z]+) ]]; then
		echo "${BASH_REMATCH[1]}"
	elif [[ $log =~ (invalid end state|acceptance cycle)\ \(at ]]; then
		echo "${BASH_REMATCH[1]}"
	elif [[ $log == *"errors: 0"* && $log != *"Search not completed"* &&
		$log != *"search depth too small"* ]]; then
		echo holds
	else
		echo "not completed"
	fi
}

# explain prints the steps to the error that pan found, or why there is no
# result. cc, build and search are those of check.
explain() {
	local model=$1 name=$2
	shift 2
	echo
	echo "$model, $name:"
	echo "  spin -a $* $model.pml && $cc ${build[*]} -o pan pan.c && ./pan ${search[*]};" \
		"spin -t -p -g $* $model.pml"
	if [ -f "$model.pml.trail" ]; then
		spin -t -p -g "$@" "$model.pml"
	else
		tail -n 20 log
	fi
}

# start runs check in the background when fewer than $jobs are running, unless
# other models were asked for.
start() {
	[[ $models == *" $1 "* ]] || return 0
	while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do
		wait -n
	done
	count=$((count + 1))
	check "$@" &
}

# holds MODEL NAME FLAG...: an instance of the current algorithm.
holds() { start "$1" "$2" holds "${@:3}"; }

# fails MODEL PROPERTY VARIANT FLAG...: a broken variant. Only this property is
# checked, so no other one can find the bug first.
fails() {
	local only=("-DONLY=$2")
	if [ "$2" = "acceptance cycle" ]; then
		only=()
	fi
	start "$1" "$3" "$2" "-D$3" "${only[@]}" "${@:4}"
}

printf '%-9s %-34s %-18s %-18s %10s %8s\n' model variant expected result states seconds

holds nobody "Cond.idle" -DIDLE
fails nobody LostWakeup STORE_AFTER_UNLOCK -DIDLE
fails nobody LostWakeup LOOK_FIRST -DIDLE
fails nobody LostWakeup STORE_OUTSIDE_MU -DIDLE
holds nobody "Event.set" -DEVENT -DNC=0
holds nobody "Event.set, 2 contexts end" -DEVENT -DNE=2 -DNC=2
fails nobody LostWakeup NO_SECOND_LOOK -DEVENT -DNC=0
fails nobody LostWakeup STORE_LAST -DEVENT -DNC=0
fails nobody LostPulse LOOKS_AGAIN -DEVENT -DNC=0
fails nobody Agree STORE_OUTSIDE_MU -DEVENT -DNC=0
fails nobody LostPulse CANCEL_WINS -DEVENT -DNE=2
fails nobody Dead NO_ENDED_CHECK -DEVENT -DNE=2
holds nobody "the flag slow" -DWORD
holds nobody "the same, 2 permits" -DWORD -DCAPACITY=2
fails nobody LostWakeup FLAG_APART -DWORD
fails nobody Books NO_CLAIM -DWORD
fails nobody Books STORE_AFTER_UNLOCK -DWORD
holds nobody "the flag apart, join, then check" -DWORD -DSEPARATE
fails nobody LostWakeup CHECK_THEN_JOIN -DWORD -DSEPARATE
fails nobody LostWakeup LOOK_THEN_ADD -DWORD -DSEPARATE
fails nobody LostWakeup NO_MUTEX -DWORD -DSEPARATE

holds pool "3 callers, twice"
holds pool "2 callers, 3 times" -DNG=2 -DROUNDS=3
fails pool Shared POPS_WITHOUT_MU
fails pool Lost POPS_WITH_STORE
fails pool Lost PUSHES_WITH_STORE
fails pool Linked KEEPS_LINK

holds keyed "3 callers, 2 keys"
holds keyed "2 permits, 3 times" -DCAPACITY=2 -DROUNDS=3
fails keyed OverLimit DROPS_IN_USE
fails keyed OverLimit DROPS_HELD
fails keyed Mixed RELEASE_IS_NO_CALL

holds fleet "2 tickets each" -DLEASES=1 -DRENEWING=0 -DTTL=2
holds fleet "leases are renewed" -DNT=1 -DLEASES=1 -DRENEWING=1
fails fleet Lost NO_EPOCH -DLEASES=1 -DRENEWING=0 -DTTL=2
fails fleet Lost GIVES_UP -DLEASES=1 -DRENEWING=0 -DTTL=2
fails fleet Believed FROM_RECEIPT -DNT=1 -DLEASES=1 -DRENEWING=1
fails fleet Believed NO_MARGIN -DNT=1 -DLEASES=1 -DRENEWING=1
fails fleet Granted NO_LOOK -DNT=1 -DLEASES=1 -DRENEWING=1

holds cond "3 WaitFor"
holds cond "3 WaitFor, NotifyN, NotifyAll" -DNP=1 -DOPS=12
holds cond "the same, tokens sent without mu" -DNP=1 -DOPS=12 -DMAX_SENT=0
holds cond "2 WaitFor, twice" -DNW=2 -DROUNDS=2
holds cond "2 WaitFor, anything panics" -DNW=2 -DPANICS=7
holds cond "2 Wait, twice" -DNW=2 -DKINDS=2 -DROUNDS=2
holds cond "2 WaitFor, Wait or Listen" -DNW=2 -DKINDS=7
holds cond "2 of any kind, NotifyAll, panics" -DNW=2 -DNP=1 -DNC=2 -DKINDS=7 -DOPS=9 -DPANICS=7
fails cond LostWakeup DROPS_TOKEN -DNW=2 -DKINDS=2
fails cond LostWakeup PREFER_CONTEXT -DNW=2
fails cond LostWakeup JOIN_LATE -DNW=2 -DNC=0
fails cond Overlooked IDLE_LATE -DNW=2 -DNC=0
fails cond Overlooked LOOKS_LATE -DNW=2
fails cond Books IDLE_STAYS -DNW=2 -DNC=0
fails cond Spurious NO_MUTEX -DNW=2 -DNC=0
fails cond NotAtOnce ALL_IN_PARTS -DNW=2 -DNC=0 -DKINDS=2 -DROUNDS=2 -DOPS=8
fails cond LostWakeup NO_PASS -DNW=2 -DNC=0 -DPANICS=1
fails cond LostWakeup NO_PASS -DNW=2 -DNC=0 -DPANICS=2
fails cond LostWakeup NO_PASS -DNW=2 -DNC=0 -DPANICS=4
fails cond Exact NO_PASS_OF_UNSPENT -DNW=2
fails cond Exact UNSPENT_STAYS -DNW=2
fails cond Exact UNSPENT_STAYS -DNW=2 -DNC=0 -DPANICS=2
fails cond Exact PASSES_SWEPT -DNW=2 -DOPS=8
fails cond LostWakeup STOP_NO_PASS -DNW=2 -DKINDS=4
fails cond LostWakeup LAZY_LISTENER -DNW=2 -DKINDS=4 -DMAX_SENT=0
fails cond Dead NO_ENDED_CHECK -DNW=2
fails cond OutOfOrder JOINS_AT_HEAD -DNW=2 -DNC=0
fails cond Recycled PASSED_OVER_STAYS -DNW=2
fails cond Recycled RECYCLES_EARLY -DNW=2
fails cond Recycled LEAVES_WITHOUT_TOKEN -DNW=2
fails cond Recycled SENDS_THEN_UNLINKS -DNW=2 -DMAX_SENT=0
fails cond LostWakeup LEFT_BEHIND -DNW=2 -DPANICS=2

holds resource "2 contexts end" -DNC=2
holds resource "Stats" -DNC=0 -DSTATS
holds resource "a context ends, TryAcquire" -DTRY
holds resource "FIFO, 2 contexts end, TryAcquire" -DFIFO -DNC=2 -DTRY
holds resource "without fast paths" -DHUGE -DNC=2
holds resource "2 callers, twice" -DNA=2 -DROUNDS=2 -DN0=2
holds resource "2 callers, 3 times" -DNA=2 -DROUNDS=3 -DCAPACITY=1 -DNC=0
holds resource "1 permit, one caller twice" -DCAPACITY=1 -DN2=1 -DROUNDS=2 -DOTHERS=1 -DNC=0
holds resource "Close and Drain" -DCLOSE -DDRAIN -DNA=2 -DN0=2
holds resource "2 Resizes" -DNR=2 -DNA=2 -DN0=2
holds resource "MaxWaiting, 2 contexts end" -DPLACES=1 -DNC=2
holds resource "MaxWaiting, Resize" -DPLACES=1 -DNR=1 -DNC=0 -DNA=2 -DN0=2
holds resource "MaxWait, a context ends" -DMAXWAIT
holds resource "MaxWait, FIFO, a context ends" -DMAXWAIT -DFIFO
holds resource "oversized, a context ends" -DOVERSIZED -DN2=3
holds resource "oversized, FIFO" -DOVERSIZED -DN2=3 -DFIFO
holds resource "oversized, 2 Resizes, Close" -DOVERSIZED -DNR=2 -DNA=2 -DN0=3 -DCLOSE -DNC=0
fails resource TooMany LOOKS_EARLY -DPLACES=1 -DNC=0
fails resource OverAdmitted NOT_ALONE -DOVERSIZED -DN2=3 -DNC=0
fails resource Books LATE_WINS -DMAXWAIT -DNC=0
fails resource Recycled LEAVES_WITHOUT_TOKEN -DMAXWAIT -DNC=0
fails resource LostWakeup NO_LOOK_AFTER_CANCEL
fails resource Asleep NO_LOOK_AFTER_CANCEL -DSTATS
fails resource LostWakeup NO_LOOK_AFTER_HEAD -DNC=0
fails resource LostWakeup NO_LOOK_AFTER_GROWTH -DNR=1 -DNC=0
fails resource LostWakeup SERVES_ONE -DFIFO -DNC=0 -DN0=2 -DN2=1
fails resource LostWakeup PARKS_LATE -DNC=0
fails resource LostWakeup RELEASE_IGNORES_SLOW -DNC=0
fails resource LostWakeup FLAG_APART -DNC=0
fails resource LostWakeup SHRINK_FORGETS -DNR=1 -DNA=2 -DN0=2 -DNC=0
fails resource LostWakeup NO_WORD_TO_DRAIN -DCLOSE -DDRAIN -DNC=0
fails resource LostWakeup CLOSE_FORGETS -DCLOSE -DNC=0
fails resource AfterClose CLOSE_FORGETS -DCLOSE -DNC=0
fails resource AfterClose CLOSE_LEAVES_PERMITS -DCLOSE -DNC=0
fails resource AfterEnd HANDS_TO_THE_DEAD -DFIFO
fails resource AfterEnd NO_LOOK_AT_CONTEXT
fails resource AfterEnd PREFERS_ROOM
fails resource Books LATE_CONTEXT_WINS -DFIFO
fails resource Books NO_CLAIM -DNC=0
fails resource Books SHRUNK_IS_FULL -DNR=1 -DNC=0
fails resource Flags SLOW_STAYS -DNC=0
fails resource Flags STARVING_STAYS
fails resource Overtaken STALE_CLOCK -DCAPACITY=1 -DN2=1 -DROUNDS=3 -DOTHERS=1
fails resource Overtaken HEAD_LOOKS -DNC=0
fails resource Overtaken BARGING -DNC=0
fails resource Overtaken BARGING -DNC=0 -DFIFO
fails resource Overtaken TRY_OVERTAKES -DNC=0 -DTRY -DFIFO
fails resource OverAdmitted CHECK_THEN_TAKE -DNC=0 -DN0=2 -DN1=2
fails resource Recycled LEAVES_WITHOUT_TOKEN -DFIFO
fails resource Recycled LEAVES_WITHOUT_TOKEN
fails resource Recycled AWAKE_OVERWRITTEN -DCLOSE -DNC=0
fails resource Recycled AWAKE_OVERWRITTEN -DNR=1 -DNA=2 -DN0=2 -DNC=0
fails resource Recycled AWAKE_AGAIN -DNC=0
fails resource Recycled ENDED_STAYS -DNR=1 -DNA=2 -DN0=2

holds resource "live, bounded overtaking" -DLIVE -DNC=0
holds resource "live, FIFO" -DLIVE -DNC=0 -DFIFO
fails resource "acceptance cycle" BARGING -DLIVE -DNC=0
fails resource "acceptance cycle" HEAD_LOOKS -DLIVE -DNC=0

if [ "${CONDVAR_VERIFY:-}" = long ]; then
	holds nobody "Event.set, 3 waiters, a context" -DLARGE -DEVENT
	holds cond "3 WaitFor, any notifier" -DLARGE -DNP=1 -DOPS=15
	holds cond "3 WaitFor, Wait or Listen" -DLARGE -DNP=1 -DKINDS=7 -DOPS=9
	holds cond "2 of any kind, any 2 notifiers" -DLARGE -DNW=2 -DKINDS=7 -DOPS=15
	holds cond "2 of any kind, 2 contexts, panics" -DLARGE \
		-DNW=2 -DNP=1 -DNC=2 -DKINDS=7 -DOPS=15 -DPANICS=7
	holds cond "2 of any kind, twice" -DLARGE -DNW=2 -DNP=1 -DKINDS=7 -DROUNDS=2 -DOPS=9
	holds resource "a context ends, Stats" -DLARGE -DSTATS
	holds resource "2 contexts end, TryAcquire" -DLARGE -DNC=2 -DTRY
	holds resource "1 permit, twice" -DLARGE -DCAPACITY=1 -DN2=1 -DROUNDS=2 -DNC=0
	holds resource "1 permit, one caller 3 times" -DLARGE -DCAPACITY=1 -DN2=1 -DROUNDS=3 -DOTHERS=1
	holds resource "a context ends, one caller twice" -DLARGE -DROUNDS=2 -DOTHERS=1
	holds resource "FIFO, a context ends, Resize" -DLARGE -DNR=1 -DFIFO
	holds resource "a context ends, Close, Drain" -DLARGE -DCLOSE -DDRAIN
	holds resource "cancel, Resize, Close, Drain" -DLARGE -DNR=1 -DCLOSE -DDRAIN -DNA=2 -DN0=2
	holds resource "the same, FIFO" -DLARGE -DNR=1 -DCLOSE -DDRAIN -DNA=2 -DN0=2 -DFIFO
	holds resource "live, the small requests" -DLIVE -DNC=0 -DSERVED=0
fi
wait

good=$(find "$dir" -name '*.ok' | wc -l)
if [ "$good" != "$count" ]; then
	find "$dir" -name '*.wrong' -exec cat {} +
	echo "$((count - good)) of $count are not as expected"
	exit 1
fi
echo "all $count are as expected, in $SECONDS s"
