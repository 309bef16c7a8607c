#!/usr/bin/env bash
# Changes the path of the module in every file that names it.
#
#   scripts/rename-module.sh github.com/you/condvar
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -ne 1 ] || ! [[ $1 =~ ^[A-Za-z0-9][A-Za-z0-9._~/-]*[A-Za-z0-9]$ ]] || [[ $1 == *//* ]]; then
	echo "usage: scripts/rename-module.sh NEWPATH   (such as github.com/you/condvar)" >&2
	exit 2
fi
new=$1
old=$(go list -m -f '{{.Path}}')
if [ "$new" = "$old" ]; then
	echo "the module is called $new already"
	exit 0
fi

# The path must not match inside a longer one, such as other$old or ${old}x. It
# matches in the URL of a page of the repository.
pattern=$(printf '%s' "$old" | sed 's/[.]/\\./g')
git ls-files -z --cached --others --exclude-standard |
	{ xargs -0 grep -Ils --null "$pattern" || true; } | while IFS= read -r -d '' file; do
		from="(^|https://(pkg\.go\.dev/)?|\\\\t|[^A-Za-z0-9._/-])$pattern(\$|[^A-Za-z0-9_-])"
		sed -E -i.bak "s#$from#\1$new\3#g" "$file"
		rm "$file.bak"
		echo "$file"
	done
# Imports are sorted by path, so the order may have changed.
git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0 gofmt -w
go vet ./...
echo "the module is called $new now; run scripts/check.sh"
