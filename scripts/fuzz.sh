#!/bin/sh
# Runs every fuzz target of the module for FUZZTIME (default 5s) each. A target's found inputs land in its
# package's testdata/fuzz and fail the ordinary tests from then on.
set -eu
time=${FUZZTIME:-5s}
out=$(mktemp)
trap 'rm -f "$out"' EXIT

fuzz() {
	go test -run '^$' -fuzz "^$2\$" -fuzztime "$time" "$1" >"$out" 2>&1 && return
	# Go's fuzzer sometimes reports its own deadline as a failure, without an input that fails: ask again.
	if grep -q 'context deadline exceeded' "$out" && ! grep -q 'Failing input' "$out"; then
		go test -run '^$' -fuzz "^$2\$" -fuzztime "$time" "$1" >"$out" 2>&1 && return
	fi
	cat "$out"
	return 1
}

targets=$(grep -rl --include='*_test.go' '^func Fuzz' . | grep -v -e '^./conformance/' -e '^./bench/' -e '^./examples/' | sort)
for file in $targets; do
	for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
		echo "fuzz $(dirname "$file") $target $time"
		fuzz "$(dirname "$file")" "$target"
	done
done
