#!/bin/sh
# Runs every fuzz target of the module for FUZZTIME (default 5s) each, two packages at a time. A target's found inputs
# land in its package's testdata/fuzz and fail the ordinary tests from then on. Coverage guides the fuzzer unless BLIND=1:
# instrumenting all dependencies takes minutes, which is not worth it for a second of each target.
set -eu
FUZZTIME=${FUZZTIME:-5s}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export FUZZTIME work

# A package's test binary is built once for all of its targets.
cat >"$work/package" <<'END'
set -eu
dir=$1
name=$(echo "$dir" | tr / _)
if [ "${BLIND:-0}" = 1 ]; then go test -c -o "$work/$name.test" "$dir"; else go test -c -fuzz . -o "$work/$name.test" "$dir"; fi
cd "$dir"
fuzz() {
	"$work/$name.test" -test.run '^$' -test.fuzz "^$1\$" -test.fuzztime "$FUZZTIME" -test.fuzzcachedir "$work/$name.cache" -test.parallel 1 >"$work/$name.out" 2>&1
}
for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' ./*_test.go); do
	echo "fuzz $dir $target $FUZZTIME"
	fuzz "$target" && continue
	# Go's fuzzer sometimes reports its own deadline as a failure, without an input that fails: ask again.
	if grep -q 'context deadline exceeded' "$work/$name.out" && ! grep -q 'Failing input' "$work/$name.out"; then
		fuzz "$target" && continue
	fi
	cat "$work/$name.out"
	exit 255 # which ends xargs
done
END
grep -rl --include='*_test.go' '^func Fuzz' . | grep -v -e '^./conformance/' -e '^./bench/' -e '^./examples/' | xargs -n 1 dirname | sort -u | xargs -n 1 -P 2 sh "$work/package"
