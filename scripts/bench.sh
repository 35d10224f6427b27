#!/bin/sh
# Prints machine, commit and the benchmarks that docs/performance.md quotes. BENCH selects (default all), COUNT repeats.
set -eu
cd "$(dirname "$0")/.."
echo "commit $(git rev-parse --short HEAD) $(go version) $(uname -sm) cpus $(nproc 2>/dev/null || echo ?)"
grep -m1 'model name' /proc/cpuinfo 2>/dev/null || true
go test -run '^$' -bench "${BENCH:-.}" -benchmem -count "${COUNT:-1}" \
	. ./internal/hub ./internal/subprotocol ./internal/clientws ./internal/eventhandler ./internal/identity ./internal/tokenservice ./internal/access ./internal/dataplane ./internal/trace ./internal/metrics ./internal/keyvault ./internal/keyvault/reference ./guard
