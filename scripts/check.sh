#!/usr/bin/env bash
# Runs every check on every module of the repository, and fails if one fails.
# Tools are looked for on PATH and in GOPATH/bin. What it cannot run because a
# tool is missing it names at the end.
#
#   scripts/check.sh           everything
#   STRICT=1 scripts/check.sh  a missing tool is a failure
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:$(go env GOPATH)/bin"

failed=() missing=()

# step NAME COMMAND...: runs a check, and says how long it took.
step() {
	local name=$1 start=$SECONDS log
	shift
	log=$(mktemp)
	if "$@" >"$log" 2>&1; then
		printf 'ok    %-46s %4ds\n' "$name" $((SECONDS - start))
	else
		printf 'FAIL  %-46s %4ds\n' "$name" $((SECONDS - start))
		sed 's/^/      /' "$log"
		failed+=("$name")
	fi
	rm -f "$log"
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
	heavy=$(go list -deps . | grep -xE 'fmt|net|net/http|testing|.*\..*/.*' | grep -vx "$(go list -m)" | xargs)
	[ -z "$heavy" ] || { echo "the package pulls in: $heavy"; return 1; }
}

tidy() { go mod tidy -diff; }

# Every row of docs/conformance.md and every bug of docs/bugs.md is named in a
# test, or in a note that says why it does not apply here.
rows() {
	local id='[CEFR]?[0-9]+' named missing="" want
	named=$(git ls-files -z --cached --others --exclude-standard '*_test.go' |
		xargs -0 grep -hoE "\b(Rows?|row|rows|Bugs?) $id((,| and|, and) $id)*|\\bF[0-9]+\\b" |
		sed -E 's/\b(Bugs? |, | and )E([0-9])/\1bugE\2/g' | grep -oE '(bug)?[CEFR]?[0-9]+' | sort -u)
	for want in $(seq 1 145) E{1..22} F{1..25} C{1..18} bugE{1..4} R{1..18} R20; do
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
	step "$name: go test" go test -count=1 ./...
	step "$name: go test -cpu 1,2,4" go test -count=1 -cpu 1,2,4 ./...
	if [ "$(go env CGO_ENABLED)" = 1 ] && command -v "$(go env CC)" >/dev/null; then
		step "$name: go test -race" go test -count=1 -race ./...
	else
		skip "$name: go test -race" "it needs cgo and a C compiler"
	fi
	popd >/dev/null || exit 1
done < <(git ls-files --cached --others --exclude-standard 'go.mod' '**/go.mod' | sort)

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
