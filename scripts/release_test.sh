#!/usr/bin/env bash
# Tests scripts/release.sh: releases a copy of the tree under another path, and
# imports each of its modules from an empty module, as a user would.
#
#   scripts/release_test.sh
#
# It changes nothing outside a temporary folder. The copy is pushed to a
# repository in that folder. The git configuration replaces the host in the path
# with that repository. The go command makes the modules from the tags there.
# Its download cache is the file proxy for the imports.
set -euo pipefail
cd "$(dirname "$0")/.."

path=github.com/example/condvar
version=v0.99.0

fail() { echo "FAIL: $*"; exit 1; }

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
git config --file "$tmp/gitconfig" user.name test
git config --file "$tmp/gitconfig" user.email test@example.com
git config --file "$tmp/gitconfig" "url.$tmp/origin.git.insteadOf" "https://$path"
export GIT_CONFIG_GLOBAL=$tmp/gitconfig GIT_CONFIG_NOSYSTEM=1
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
# With -trimpath, the builds in the temporary folder of one run are in the build
# cache for the next.
export GOFLAGS="-trimpath -modcacherw -buildvcs=false"

# The tree as it is here, whether committed or not.
git init -q --bare "$tmp/origin.git"
git init -q "$tmp/clone"
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
	[ ! -e "$file" ] || printf '%s\0' "$file"
done | tar --null -T - -cf - | tar -xf - -C "$tmp/clone"
cd "$tmp/clone"
git remote add origin "$tmp/origin.git"
git add -A
git commit -qm "the tree"

# refuses SAYING ARG...: release.sh fails, prints SAYING, and changes nothing.
refuses() {
	local saying=$1 before out
	shift
	before=$(git status --porcelain)
	if out=$(scripts/release.sh "$@" 2>&1); then
		fail "release.sh $* should have failed: $saying"
	fi
	[[ $out == *"$saying"* ]] || fail "release.sh $* should have said \"$saying\", not: $out"
	[ "$(git status --porcelain)" = "$before" ] || fail "release.sh $* changed the tree"
}
refuses "usage:"
refuses "usage:" -no-checks v0.1.0 v0.2.0
case $(go list -m) in
example.com/*) refuses "is a placeholder" -no-checks $version ;;
esac

before=$(go list -m)
if [ "$before" != $path ]; then
	scripts/rename-module.sh $path >/dev/null
	! git grep -nF "$before" || fail "rename-module.sh leaves the old path"
fi
refuses "the tree is not clean" -no-checks $version
[ -z "$(git status --porcelain)" ] || git commit -qam "the path"
for bad in 0.1.0 v0.1 v2.0.0 v01.0.0 v0.1.0+x; do
	refuses "is not a version" -no-checks "$bad"
done
git tag promcondvar/$version
refuses "there is a tag $version already" -no-checks $version
git tag -d promcondvar/$version >/dev/null
sed -i.bak 's/^## Unreleased$/&\n\n## v0.0.1/' CHANGELOG.md && rm CHANGELOG.md.bak
git commit -qam "no changes"
refuses "nothing under" -no-checks $version
git reset -q --hard HEAD^
printf '#!/bin/sh\nexit 1\n' >scripts/check.sh
git commit -qam "checks that fail"
refuses "the checks fail" $version
printf '#!/bin/sh\n[ "$STRICT" = 1 ]\n' >scripts/check.sh
git commit -qam "checks that pass"

# The release, with the commands that it prints.
out=$(scripts/release.sh $version)
git diff --quiet HEAD -- ':!*go.mod' ':!CHANGELOG.md' || fail "release.sh changes other files"
grep -A2 -x '## Unreleased' CHANGELOG.md | tail -n 1 |
	grep -qE "^## $version - [0-9]{4}(-[0-9]{2}){2}\$" ||
	fail "CHANGELOG.md does not name $version below Unreleased"
commands=$(sed -n 's/^    git /git /p' <<<"$out")
bash -euc "$commands" >/dev/null 2>&1 || fail "the commands that release.sh prints: $commands"
[ -z "$(git status --porcelain)" ] || fail "the commands leave something behind"
tags=()
while IFS= read -r tag; do
	tags+=("$tag")
done < <(sed -n "s/^ *git push origin \(.*$version\)\$/\1/p" <<<"$out")
[ "${tags[0]}" = $version ] || fail "the first tag to push is ${tags[0]}, not that of the root"
[ "$(printf '%s\n' "${tags[@]}" | sort)" = "$(git -C "$tmp/origin.git" tag | sort)" ] ||
	fail "the tags pushed are not those printed"
for want in $version promcondvar/$version otelcondvar/$version; do
	grep -qxF "$want" < <(printf '%s\n' "${tags[@]}") || fail "no tag $want"
done
! grep -qE '^(examples|verify|bench)/|/.*/' < <(printf '%s\n' "${tags[@]}") ||
	fail "there are too many tags: ${tags[*]}"

# Every module of the repository still builds with its replace lines.
git ls-files 'go.mod' '**/go.mod' | while IFS= read -r mod; do
	! grep -E "$path(/[a-z/]+)? v" "$mod" | grep -vE " $version( // indirect)?\$" ||
		fail "$mod requires another version"
	(cd "$(dirname "$mod")" && go list -mod=readonly -deps -test ./... >/dev/null) ||
		fail "$mod is wrong"
done

# module TAG: prints the path of its module, and folder TAG prints its folder.
module() { case $1 in */*) echo "$path/${1%/*}" ;; *) echo $path ;; esac; }
folder() { case $1 in */*) echo "${1%/*}" ;; *) echo . ;; esac; }

cache=$(go env GOMODCACHE)/cache/download
proxies=$(go env GOPROXY)
cd "$tmp"
for tag in "${tags[@]}"; do
	GOMODCACHE=$tmp/made GOPROXY=direct GONOSUMDB=$path,$path/* \
		go mod download "$(module "$tag")@$version"
done

# Import each module as a user does, nested modules first, with only the proxy.
# Dependencies come from the module cache if they are there.
export GOPROXY="file://$tmp/made/cache/download,file://$cache,$proxies"
export GONOSUMDB=$path,$path/* GOWORK=off
for ((i = ${#tags[@]} - 1; i >= 0; i--)); do
	module=$(module "${tags[i]}")
	packages=$(cd "$tmp/clone/$(folder "${tags[i]}")" &&
		go list -f '{{if and .GoFiles (ne .Name "main")}}{{.ImportPath}}{{end}}' ./... |
		grep -v /internal/)
	mkdir "$tmp/user"
	cd "$tmp/user"
	export GOMODCACHE=$tmp/cache$i
	go mod init example.org/user 2>/dev/null
	go get "$module@$version" 2>log || { cat log; fail "go get $module@$version"; }
	{
		echo "package main"
		while IFS= read -r package; do
			echo "import _ \"$package\""
		done <<<"$packages"
		echo "func main() {}"
	} >main.go
	go build -o user . || fail "what imports $module does not build"
	./user || fail "what imports $module does not run"
	[ "$(go list -m -f '{{.Version}}{{with .Replace}} => {{.}}{{end}}' $path)" = $version ] ||
		fail "$module does not require $path $version"
	echo "$module:" $packages
	cd "$tmp"
	rm -rf "$tmp/user"
done
