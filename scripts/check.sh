#!/usr/bin/env bash
# Runs every check on every module of the repository, and fails if one fails.
# Tools are looked for on PATH and in GOPATH/bin. What it cannot run because a
# tool is missing it names at the end.
#
#   scripts/check.sh                      everything, in its short form
#   CONDVAR_VERIFY=long scripts/check.sh  the long forms of what is in verify/: hours
#   STRICT=1 scripts/check.sh             a missing tool is a failure
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:$(go env GOPATH)/bin"

failed=() missing=()
timeout=-timeout=10m mutants="-quick -bugs" soak=20s
if [ "${CONDVAR_VERIFY:-}" = long ]; then
	timeout=-timeout=0 mutants= soak=10m
fi
# The newest Go release, beside that of the machine, which is the oldest supported.
newest=go1.27.4
# For each method of verify/ one of the mutants that it has to find: explore and
# linear, props, matrix, soak, leaks, 32 bits.
planted=(acquire-checks-then-takes listener-token-too-late slow-only-if-full bubble-keeps-waiter
	overtakers-are-forgotten helper-stays-behind int-of-32-bits)

# step NAME COMMAND...: runs a check, and says how long it took. Status 3 means
# that the check cannot be made here.
step() {
	local name=$1 start=$SECONDS log status=0
	shift
	log=$(mktemp)
	"$@" >"$log" 2>&1 || status=$?
	if [ $status -eq 0 ]; then
		printf 'ok    %-46s %4ds\n' "$name" $((SECONDS - start))
	elif [ $status -eq 3 ]; then
		skip "$name" "$(tail -n 1 "$log")"
	else
		printf 'FAIL  %-46s %4ds\n' "$name" $((SECONDS - start))
		sed 's/^/      /' "$log"
		failed+=("$name")
	fi
	rm -f "$log"
}

# fails SAYING COMMAND...: succeeds if the command fails, and says so.
fails() {
	local saying=$1 out
	shift
	if out=$("$@" 2>&1); then
		echo "it should have failed"
		return 1
	fi
	grep -E "$saying" <<<"$out" || { echo "it should have said: $saying"; echo "$out"; return 1; }
}

# skip NAME WHY: says that a check was not run.
skip() {
	printf 'SKIP  %s: %s\n' "$1" "$2"
	missing+=("$1")
}

formatted() {
	local files
	files=$(git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0 gofmt -l)
	[ -z "$files" ] || { echo "not formatted by gofmt:"; echo "$files"; return 1; }
}

# The promises of the root module to its importers: what it requires, and what
# its package pulls in.
root_dependencies() {
	local want have heavy
	want="github.com/stretchr/testify go.uber.org/goleak golang.org/x/sync"
	have=$(go list -m -f '{{if not (or .Main .Indirect)}}{{.Path}}{{end}}' all | sort | xargs)
	[ "$have" = "$want" ] || { echo "go.mod requires $have, should be $want"; return 1; }
	heavy=$(go list -deps . ./keyed | grep -xE 'fmt|net|net/http|testing|.*\..*/.*' | grep -vxE "$(go list -m)(/keyed|/internal/(bubble|primitives))?" | xargs)
	[ -z "$heavy" ] || { echo "the package pulls in: $heavy"; return 1; }
	heavy=$(go list -deps ./condvardebug | grep -E '\..*/' | grep -vxE "$(go list -m)(/condvardebug|/internal/(bubble|primitives|watch))?|vendor/.*" | xargs)
	[ -z "$heavy" ] || { echo "condvardebug pulls in: $heavy"; return 1; }
}

tidy() { go mod tidy -diff; }

# Every row of docs/conformance.md and every bug of docs/bugs.md is named in a
# test, or in a note that says why it does not apply here.
rows() {
	local id='[CEFKMPR]?[0-9]+' named missing="" want
	named=$(git ls-files -z --cached --others --exclude-standard '*_test.go' |
		xargs -0 grep -hoE "\b(Rows?|row|rows|Bugs?) $id((,| and|, and) $id)*|\\bF[0-9]+\\b" |
		sed -E 's/\b(Bugs? |, | and )E([0-9])/\1bugE\2/g' | grep -oE '(bug)?[CEFKMPR]?[0-9]+' | sort -u)
	for want in $(seq 1 145) E{1..22} F{1..25} C{1..23} bugE{1..4} R{1..18} R{20..30} K1 M{1,2} P{1..5}; do
		grep -qx "$want" <<<"$named" || missing+=" $want"
	done
	[ -z "$missing" ] || { echo "no test names:$missing"; return 1; }
}

step gofmt formatted
step "what the root module requires" root_dependencies
step "every behaviour is named by a test" rows

while IFS= read -r mod; do
	dir=$(dirname "$mod")
	name=${dir#./}
	pushd "$dir" >/dev/null || exit 1
	step "$name: go mod tidy" tidy
	step "$name: go mod verify" go mod verify
	step "$name: go vet" go vet ./...
	if command -v golangci-lint >/dev/null; then
		step "$name: golangci-lint" golangci-lint run ./...
	elif command -v staticcheck >/dev/null; then
		step "$name: staticcheck" staticcheck ./...
	else
		skip "$name: lint" "neither golangci-lint nor staticcheck is installed"
	fi
	step "$name: go test" go test -count=1 $timeout ./...
	case $name in
	verify) raced=(./hammer ./linear ./soak) ;; # the others start processes, or one goroutine at a time
	bench) raced=(./gate) ;;
	promcondvar/promtest) raced=() ;; # a minute to build, and nothing of ours that promcondvar does not test
	*)
		raced=(./...)
		step "$name: go test -cpu 1,2,4" go test -count=1 -cpu 1,2,4 ./...
		;;
	esac
	if [ "$(go env CGO_ENABLED)" = 1 ] && command -v "$(go env CC)" >/dev/null; then
		[ ${#raced[@]} -eq 0 ] || step "$name: go test -race" go test -count=1 $timeout -race "${raced[@]}"
	else
		skip "$name: go test -race" "it needs cgo and a C compiler"
	fi
	popd >/dev/null || exit 1
done < <(git ls-files --cached --others --exclude-standard 'go.mod' '**/go.mod' | sort)

# Other platforms. 64-bit atomics need alignment where an int has 32 bits: on 386,
# whose binaries not every Linux runs, or on arm, which qemu runs anywhere. There
# no test can start its own binary as a process.
for os in windows/amd64 darwin/arm64 js/wasm; do
	step "go vet for $os" env GOOS="${os%/*}" GOARCH="${os#*/}" go vet .
done
bits32() {
	if command -v qemu-arm >/dev/null; then
		GOARCH=arm go test -count=1 $timeout -exec qemu-arm . ./keyed ./examples/recipes &&
			(cd verify && GOARCH=arm go test -count=1 $timeout -exec qemu-arm ./hammer)
	elif [ "$(go env GOOS)/$(go env GOARCH)" = linux/amd64 ]; then
		GOARCH=386 go test -count=1 . ./keyed ./examples/recipes && (cd verify && GOARCH=386 go test -count=1 ./hammer)
	else
		echo "it needs linux/amd64, or qemu-arm (Debian: apt-get install qemu-user)"
		return 3
	fi
}
step "go test for 32 bits" bits32

# With the newest Go, and with the clock instead of the probe: see internal/bubble.
newest() {
	GOTOOLCHAIN=$newest go version || { echo "$newest cannot be had"; return 3; }
	GOTOOLCHAIN=$newest "$@"
}
step "go test with $newest" newest go test -count=1 ./...
step "go test with the clock" go test -count=1 -tags condvar_clock . ./examples/recipes
pushd verify >/dev/null || exit 1
step "verify: hammer with $newest" newest go test -count=1 $timeout ./hammer
step "verify: hammer with the clock" go test -count=1 $timeout -tags condvar_clock ./hammer
step "verify: hammer -cpu 1,2,4" go test -count=1 $timeout -cpu 1,2,4 ./hammer
step "verify: matrix with the clock" go test -count=1 $timeout -tags condvar_clock ./matrix
step "verify: matrix with $newest" newest go test -count=1 $timeout ./matrix
step "verify: matrix with $newest and the clock" newest go test -count=1 $timeout -tags condvar_clock ./matrix
popd >/dev/null || exit 1

# The page of condvardebug, in a browser.
browser() {
	command -v chromium >/dev/null || { echo "chromium is missing (Debian: apt-get install chromium)"; return 3; }
	go vet -tags chromium ./... && go test -count=1 -tags chromium ./...
}
pushd examples/service >/dev/null || exit 1
step "examples/service: in a browser" browser
popd >/dev/null || exit 1

step "condvardebug: hides no leaked waiter" env GOEXPERIMENT=goroutineleakprofile \
	go test -count=1 -run TheLeakProfile ./condvardebug

# What the tests of verify/ do not do: see verify/README.md.
step "go test with the hooks of verify/explore" go test -count=1 -tags condvar_explore . ./examples/recipes
pushd verify >/dev/null || exit 1
step "verify: hammer with the hooks" go test -count=1 $timeout -tags condvar_explore ./hammer
step "verify: schedules" go test -count=1 $timeout -tags condvar_explore ./explore
step "verify: models" models/run.sh
step "verify: mutants" go run ./mutants $mutants
step "verify: each method finds a planted bug" go run ./mutants -methods "${planted[@]}"
step "verify: soak" go run ./soak -duration $soak
step "verify: soak, leak profile" env GOEXPERIMENT=goroutineleakprofile go run ./soak -duration 5s
step "verify: the leak profile finds a leak" fails "leaked goroutines +1: FAILED" \
	env GOEXPERIMENT=goroutineleakprofile go run ./soak -duration 2s -plant leak
popd >/dev/null || exit 1

echo
if [ ${#missing[@]} -gt 0 ]; then
	printf 'not run: %s\n' "${missing[@]}"
	if [ -n "${STRICT:-}" ]; then
		failed+=("${missing[@]}")
	fi
fi
if [ ${#failed[@]} -gt 0 ]; then
	printf 'failed: %s\n' "${failed[@]}"
	exit 1
fi
if [ ${#missing[@]} -gt 0 ]; then
	echo "all checks that could run passed"
else
	echo "all checks passed"
fi
