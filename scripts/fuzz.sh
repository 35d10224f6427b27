#!/bin/sh
# Runs every fuzz target of the module for FUZZTIME (default 5s) each. A target's found inputs land in its
# package's testdata/fuzz and fail the ordinary tests from then on.
set -eu
time=${FUZZTIME:-5s}
grep -rl --include='*_test.go' '^func Fuzz' . | grep -v -e '/conformance/' -e '/bench/' -e '/examples/' | sort | while read -r file; do
	dir=$(dirname "$file")
	sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file" | while read -r target; do
		echo "fuzz $dir $target $time"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$dir" >/tmp/fuzz.$$ 2>&1 || { cat /tmp/fuzz.$$; rm -f /tmp/fuzz.$$; exit 1; }
	done
done
rm -f /tmp/fuzz.$$
