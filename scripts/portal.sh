#!/bin/sh
# Builds the portal's page into internal/portal/web/dist, from the lockfile. Where npm, or its registry, is missing, it
# says so and succeeds: the binary is complete but for the page, which then tells how to get it. With STRICT=1 it fails.
set -u
cd "$(dirname "$0")/../internal/portal/web" || exit 1

without() {
	echo "make: $1; the binary will be without the portal" >&2
	[ "${STRICT:-0}" = 1 ] && exit 1
	exit 0
}

command -v npm >/dev/null || without "npm is not installed"
if [ ! node_modules/.package-lock.json -nt package-lock.json ]; then
	npm ci --no-audit --no-fund --loglevel=error || without "npm ci failed"
fi
exec npm run --silent build -- --logLevel=warn
