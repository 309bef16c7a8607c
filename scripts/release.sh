#!/usr/bin/env bash
# Prepares a release: checks the tree, writes the version into every go.mod that
# requires a module of this repository and into CHANGELOG.md, and prints the
# commands that commit, tag and push. It runs none of them.
#
#   scripts/release.sh v0.1.0
#   scripts/release.sh -no-checks v0.1.0   without scripts/check.sh
#
# All modules have the same version. A tag is made for each module whose own
# folder is a package that can be imported: the root and its integrations, not
# the examples, tests and benchmarks.
#
# The replace lines of nested modules stay. The go command ignores them in a
# module that is not the main one, so importers get the required version. In
# this repository every module builds against the others in the tree, before and
# after a release, and no go.sum needs the hash of a version that is not tagged
# yet. They prevent `go install MODULE/cmd@VERSION`, which no module with a tag
# needs.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { echo "release: $*" >&2; exit 1; }

checks=yes
if [ "${1:-}" = -no-checks ]; then
	checks=no
	shift
fi
if [ $# -ne 1 ]; then
	echo "usage: scripts/release.sh [-no-checks] VERSION   (such as v0.1.0)" >&2
	exit 2
fi
version=$1
# From v2 on, the path of a module ends in its major version.
number='(0|[1-9][0-9]*)'
[[ $version =~ ^v[01]\.$number\.$number(-[0-9A-Za-z.-]+)?$ ]] ||
	die "$version is not a version such as v0.1.0 or v1.0.0-rc.1, below v2"

root=$(go list -m)
case $root in
example.com/*) die "$root is a placeholder: see scripts/rename-module.sh" ;;
esac
[ -z "$(git status --porcelain)" ] || die "the tree is not clean"
[ -z "$(git tag --list "$version" "*/$version")" ] || die "there is a tag $version already"
awk '/^## / {on = $0 == "## Unreleased"; next}
	on && NF {found = 1}
	END {exit !found}' CHANGELOG.md ||
	die "CHANGELOG.md has nothing under \"## Unreleased\""
if [ $checks = yes ]; then
	STRICT=1 scripts/check.sh || die "the checks fail"
fi

modules=() # their folders, the root first
while IFS= read -r mod; do
	modules+=("$(dirname "$mod")")
done < <(git ls-files 'go.mod' '**/go.mod' | awk '{print gsub("/", "/"), $0}' |
	sort -k1,1n -k2 | cut -d' ' -f2)

for dir in "${modules[@]}"; do
	for other in "${modules[@]}"; do
		path=$root${other#.}
		[ "$other" = . ] || path=$root/$other
		if grep -qE "^(require |	)${path//./\\.} v" "$dir/go.mod"; then
			go mod edit -require="$path@$version" "$dir/go.mod"
		fi
	done
done
sed -i.bak "s/^## Unreleased\$/&\\
\\
## $version - $(date -u +%Y-%m-%d)/" CHANGELOG.md
rm CHANGELOG.md.bak

# importable DIR: reports whether the folder of the module is an importable
# package with code besides its comment. A module below another is for the tests
# of that one.
importable() {
	local package
	[[ $1 != */* ]] || return 1
	package=$(cd "$1" && go list -e -f '{{.Name}} {{.GoFiles}}' .)
	[[ $package != main\ * && $package != *'[]' && $package != *'[doc.go]' ]]
}
tags=()
for dir in "${modules[@]}"; do
	if importable "$dir"; then
		prefix=$dir/
		[ "$dir" != . ] || prefix=
		tags+=("$prefix$version")
	fi
done

# The root's tag is pushed first: the other modules require it.
echo "Look at git diff. Then commit, tag and push, in this order:"
echo
echo "    git commit -qam 'all: release $version'"
printf '    git tag %s\n' "${tags[@]}"
echo "    git push origin HEAD"
printf '    git push origin %s\n' "${tags[@]}"
