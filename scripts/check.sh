#!/usr/bin/env bash
# Runs every check on every module of the repository, and fails if one fails. It
# looks for tools on PATH and in GOPATH/bin. At the end it names the checks that
# it could not run because a tool is missing.
#
#   scripts/check.sh                      everything, in its short form
#   scripts/check.sh root bench           only these: root, the folder of a module, release
#   CONDVAR_VERIFY=long scripts/check.sh  the long forms of verify/ and etcdtest: hours
#   STRICT=1 scripts/check.sh             a missing tool is a failure
#   JOBS=1 scripts/check.sh               one step at a time
#
# Most steps leave a processor idle at times, while they link or wait. So JOBS
# rows of steps run concurrently, one more than there are processors if it is
# not set, the root's first. A test that fails only because the machine is busy
# is a bug of the test.
#
# Each step prints how long it took, and its processor time.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:$(go env GOPATH)/bin"

timeout=-timeout=10m short=-short mutants="-quick -bugs" soak=20s chaos=
if [ "${CONDVAR_VERIFY:-}" = long ]; then
	timeout=-timeout=0 short= mutants= soak=10m chaos=30m
fi
# The newest Go release. The machine has the oldest supported one.
newest=go1.27.4
# For each method of verify/, a mutant that it has to find: explore and linear,
# props, matrix, soak, leaks, 32 bits.
planted=(acquire-checks-then-takes listener-token-too-late slow-only-if-full bubble-keeps-waiter
	overtakers-are-forgotten helper-stays-behind int-of-32-bits)
# The numbers of processors that tests run with. They include that of the
# machine.
cpus=1,2,4
case $(getconf _NPROCESSORS_ONLN) in
1 | 2 | 4) ;;
*) cpus+=,$(getconf _NPROCESSORS_ONLN) ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Background jobs do not get the signal.
trap 'trap - INT TERM; echo "interrupted: not every check has ended"; kill -INT 0' INT TERM
touch "$work/failed" "$work/missing"
TIMEFORMAT='%R %U %S'

# step NAME COMMAND...: runs a check, and prints how long it took. Status 3
# means that the check cannot run here. While planning is set, it only prints
# the name.
step() {
	local name=$1 log status=0 took
	if [ -n "${planning:-}" ]; then
		echo "$name"
		return
	fi
	shift
	log=$(mktemp "$work/log.XXXXXX")
	{ time { ("$@") >"$log" 2>&1; }; } 2>"$log.time" || status=$?
	took=$(awk 'END {printf "%4.0f s  %4.0f s of processor time", $1, $2 + $3}' "$log.time")
	if [ $status -eq 0 ]; then
		printf 'ok    %-50s %s\n' "$name" "$took"
	elif [ $status -eq 3 ]; then
		skip "$name" "$(tail -n 1 "$log")"
	else
		printf 'FAIL  %-50s %s\n%s\n' "$name" "$took" "$(sed 's/^/      /' "$log")"
		echo "$name" >>"$work/failed"
		{ echo "$name ended with:"; tail -n 8 "$log" | sed 's/^/      /'; } >>"$work/ends"
	fi
}

# fails SAYING COMMAND...: succeeds if the command fails and prints SAYING.
fails() {
	local saying=$1 out
	shift
	if out=$("$@" 2>&1); then
		echo "it should have failed"
		return 1
	fi
	grep -E "$saying" <<<"$out" || { echo "it should have said: $saying"; echo "$out"; return 1; }
}

# skip NAME WHY: reports that a check was not run.
skip() {
	if [ -n "${planning:-}" ]; then
		echo "$1"
		return
	fi
	printf 'SKIP  %s: %s\n' "$1" "$2"
	echo "$1" >>"$work/missing"
}

formatted() {
	local files
	files=$(git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0 gofmt -l)
	[ -z "$files" ] || { echo "not formatted by gofmt:"; echo "$files"; return 1; }
}

# The promises of the root module to its importers: the modules that it
# requires, and the packages that its packages import.
root_dependencies() {
	local want have heavy
	want="github.com/stretchr/testify go.uber.org/goleak golang.org/x/sync"
	have=$(go list -m -f '{{if not (or .Main .Indirect)}}{{.Path}}{{end}}' all | sort | xargs)
	[ "$have" = "$want" ] || { echo "go.mod requires $have, should be $want"; return 1; }
	heavy=$(go list -deps . ./keyed | grep -xE 'fmt|net|net/http|testing|.*\..*/.*' |
		grep -vxE "$(go list -m)(/keyed|/internal/(bubble|primitives))?" | xargs)
	[ -z "$heavy" ] || { echo "the package pulls in: $heavy"; return 1; }
	heavy=$(go list -deps ./condvardebug | grep -E '\..*/' |
		grep -vxE "$(go list -m)(/condvardebug|/internal/(bubble|primitives|watch))?|vendor/.*" |
		xargs)
	[ -z "$heavy" ] || { echo "condvardebug pulls in: $heavy"; return 1; }
}

tidy() { go mod tidy -diff; }

# Every row of docs/conformance.md and every bug of docs/bugs.md is named in a
# test, or in a note that says why it does not apply here.
every_row() {
	local id='[CEFKMPR]?[0-9]+' absent
	git ls-files -z --cached --others --exclude-standard '*_test.go' |
		xargs -0 grep -hoE "\b(Rows?|row|rows|Bugs?) $id((,| and|, and) $id)*|\\bF[0-9]+\\b" |
		sed -E 's/\b(Bugs? |, | and )E([0-9])/\1bugE\2/g' | grep -oE '(bug)?[CEFKMPR]?[0-9]+' |
		sort -u >"$work/named"
	printf '%s\n' {1..145} E{1..22} F{1..25} \
		C{1..23} bugE{1..4} R{1..18} R{20..30} K1 M{1,2} P{1..5} |
		sort >"$work/wanted"
	absent=$(comm -13 "$work/named" "$work/wanted" | xargs)
	[ -z "$absent" ] || { echo "no test names: $absent"; return 1; }
}

lint() {
	# Its other statuses are failures, too.
	golangci-lint run --allow-parallel-runners ./... || return 1
}

# module DIR NAME: the checks that each module has.
module() {
	local name=$2 raced=(./...)
	cd "$1" || exit 1
	step "$name: go mod tidy" tidy
	step "$name: go mod verify" go mod verify
	step "$name: go vet" go vet ./...
	if command -v golangci-lint >/dev/null; then
		step "$name: golangci-lint" lint
	elif command -v staticcheck >/dev/null; then
		step "$name: staticcheck" staticcheck ./...
	else
		skip "$name: lint" "neither golangci-lint nor staticcheck is installed"
	fi
	case $name in
	# The others start processes, or run one goroutine at a time.
	verify) raced=($short ./hammer ./linear ./soak) ;;
	bench) raced=(./gate) ;;
	# It runs all that the other tests run, for the picture.
	examples/overload) raced=(-skip TestTheCommandPrintsTablesAndDrawsThePictureInDocs ./...) ;;
	# It takes a minute to build, and the tests of promcondvar cover our code.
	promcondvar/promtest) raced=() ;;
	# They take minutes to build: in the long form only.
	examples/fleet) [ -n "$chaos" ] || raced=() ;;
	etcdcondvar/etcdtest) # with more at a time, etcd is too slow
		raced=()
		[ -z "$chaos" ] || raced=(-parallel 2 ./...)
		;;
	esac
	case $name in
	verify | bench | promcondvar/promtest | etcdcondvar/etcdtest | examples/fleet | examples/overload)
		step "$name: go test" go test -count=1 $timeout ./...
		;;
	*) step "$name: go test -cpu $cpus" go test -count=1 $timeout -cpu $cpus ./... ;;
	esac
	[ ${#raced[@]} -gt 0 ] || return 0
	if [ "$(go env CGO_ENABLED)" = 1 ] && command -v "$(go env CC)" >/dev/null; then
		step "$name: go test -race" go test -count=1 $timeout -race "${raced[@]}"
	else
		skip "$name: go test -race" "it needs cgo and a C compiler"
	fi
}

# 64-bit atomics need alignment where an int has 32 bits. qemu runs arm binaries
# on any machine, while not every Linux runs those of 386. A test under qemu
# cannot start its own binary as a process, and what it costs there says nothing.
bits32() {
	if command -v qemu-arm >/dev/null; then
		GOARCH=arm go test -count=1 $timeout -exec qemu-arm -short -skip CostsTheSame \
			. ./keyed ./examples/recipes &&
			(cd verify && GOARCH=arm go test -count=1 $timeout -exec qemu-arm ./hammer)
	elif [ "$(go env GOOS)/$(go env GOARCH)" = linux/amd64 ]; then
		GOARCH=386 go test -count=1 . ./keyed ./examples/recipes &&
			(cd verify && GOARCH=386 go test -count=1 ./hammer)
	else
		echo "it needs linux/amd64, or qemu-arm (Debian: apt-get install qemu-user)"
		return 3
	fi
}

newest() {
	GOTOOLCHAIN=$newest go version || { echo "$newest cannot be had"; return 3; }
	GOTOOLCHAIN=$newest "$@"
}

# with_leaks COMMAND...: runs it with the goroutine leak profile, which is an
# experiment in Go 1.26 and part of later releases.
with_leaks() {
	if GOEXPERIMENT=goroutineleakprofile go version >/dev/null 2>&1; then
		export GOEXPERIMENT=goroutineleakprofile
	fi
	"$@"
}

# The page of condvardebug, in a browser.
browser() {
	if ! command -v chromium >/dev/null; then
		echo "chromium is missing (Debian: apt-get install chromium)"
		return 3
	fi
	go vet -tags chromium ./... && go test -count=1 -tags chromium ./...
}

# The functions below are rows. The steps of a row run one after another.
row_root() {
	step "root: gofmt" formatted
	step "root: what the module requires" root_dependencies
	step "root: every behaviour is named by a test" every_row
	module . root
}

row_root_elsewhere() {
	local os
	for os in windows/amd64 darwin/arm64 js/wasm; do
		step "root: go vet for $os" env GOOS="${os%/*}" GOARCH="${os#*/}" go vet .
	done
	# With the newest Go, and with the clock in place of the probe: see
	# internal/bubble.
	step "root: go test with $newest" newest go test -count=1 ./...
	step "root: go test with the clock" go test -count=1 -tags condvar_clock \
		. ./examples/recipes
	step "root: go test with the hooks of verify/explore" go test -count=1 -tags condvar_explore \
		. ./examples/recipes
	step "root: go test for 32 bits" bits32
	step "root: condvardebug hides no leaked waiter" with_leaks \
		go test -count=1 -run TheLeakProfile ./condvardebug
}

row_release() { step "release: each module can be imported" scripts/release_test.sh; }

# The checks that are not tests of verify/: see verify/README.md. -passed skips
# the run of the methods on the original code, as other steps run that.
row_verify_mutants() {
	cd verify || exit 1
	step "verify: mutants" go run ./mutants $mutants
	step "verify: each method finds a planted bug" go run ./mutants -methods -passed "${planted[@]}"
}

row_verify_schedules() {
	cd verify || exit 1
	step "verify: schedules" go test -count=1 $timeout -tags condvar_explore ./explore
	step "verify: models" models/run.sh cond keyed nobody pool resource
}

row_verify_matrix() {
	cd verify || exit 1
	step "verify: hammer with $newest" newest go test -count=1 $timeout ./hammer
	step "verify: hammer with the clock" go test -count=1 $timeout -tags condvar_clock ./hammer
	step "verify: hammer with the hooks" go test -count=1 $timeout -tags condvar_explore ./hammer
	step "verify: hammer -cpu $cpus" go test -count=1 $timeout -cpu $cpus ./hammer
	step "verify: matrix with the clock" \
		go test -count=1 $timeout $short -tags condvar_clock ./matrix
	step "verify: matrix with $newest" newest go test -count=1 $timeout $short ./matrix
	step "verify: matrix with $newest and the clock" newest \
		go test -count=1 $timeout $short -tags condvar_clock ./matrix
	step "verify: soak" go run ./soak -duration $soak
	step "verify: soak, leak profile" with_leaks go run ./soak -duration 5s
	step "verify: the leak profile finds a leak" fails "leaked goroutines +1: FAILED" \
		with_leaks go run ./soak -duration 2s -plant leak
}

row_etcd_mutants() {
	cd etcdcondvar || exit 1
	step "etcdcondvar: mutants" go run ./mutants
	step "etcdcondvar: model" ../verify/models/run.sh fleet
}

# The short form is a test.
row_etcdtest_chaos() {
	cd etcdcondvar/etcdtest || exit 1
	step "etcdcondvar/etcdtest: chaos, leak profile" with_leaks go run ./chaos -duration $chaos
}

# rows_of NAME: prints the rows that check NAME, the longest first.
rows_of() {
	case $1 in
	root) printf '%s\n' row_root row_root_elsewhere ;;
	release) echo row_release ;;
	verify)
		printf '%s\n' row_verify_mutants row_verify_schedules row_verify_matrix \
			"module verify verify"
		;;
	etcdcondvar) printf '%s\n' row_etcd_mutants "module $1 $1" ;;
	etcdcondvar/etcdtest)
		echo "module $1 $1"
		[ -z "$chaos" ] || echo row_etcdtest_chaos
		;;
	examples/service) printf '%s\n' "module $1 $1" row_browser ;;
	*) echo "module $1 $1" ;;
	esac
}

row_browser() {
	cd examples/service || exit 1
	step "examples/service: in a browser" browser
}

# The root is first, then the longest.
names=(root verify)
while IFS= read -r mod; do
	case $mod in
	go.mod | verify/go.mod) ;;
	*) names+=("${mod%/go.mod}") ;;
	esac
done < <(git ls-files --cached --others --exclude-standard 'go.mod' '**/go.mod' | sort)
names+=(release)

for name in "$@"; do
	if ! printf '%s\n' "${names[@]}" | grep -qxF -e "$name"; then
		echo "check: there is no \"$name\"; the names are: ${names[*]}" >&2
		exit 2
	fi
done
[ $# -gt 0 ] || set -- "${names[@]}"

jobs=${JOBS:-$(($(getconf _NPROCESSORS_ONLN) + 1))}
rows=()
echo "Runs, $jobs at a time:"
for name in "${names[@]}"; do
	printf '%s\n' "$@" | grep -qxF -e "$name" || continue
	while IFS= read -r row; do
		rows+=("$row")
		(planning=yes; $row) | sed "s#^$name: ##" |
			awk -v name="$name" '{list = list sep $0; sep = "; "} END {print "  " name ": " list}'
	done < <(rows_of "$name")
done
echo
for row in "${rows[@]}"; do
	while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do
		wait -n
	done
	# A row fails only if it could not run: steps record their own failures.
	(trap - EXIT; $row) || echo "$row" >>"$work/failed" &
done
wait

echo
echo "$SECONDS s"
if [ -s "$work/missing" ]; then
	sort "$work/missing" | sed 's/^/not run: /'
	[ -z "${STRICT:-}" ] || cat "$work/missing" >>"$work/failed"
fi
if [ -s "$work/failed" ]; then
	[ ! -e "$work/ends" ] || cat "$work/ends"
	sort "$work/failed" | sed 's/^/failed: /'
	exit 1
fi
if [ -s "$work/missing" ]; then
	echo "all checks that could run passed"
else
	echo "all checks passed"
fi
