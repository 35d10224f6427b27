#!/bin/sh
# The browser tests: Playwright drives Debian's Chromium against the built binary. Installs the browser if it is missing
# and can be; Playwright downloads none of its own. Arguments go to Playwright.
set -eu
cd "$(dirname "$0")/../conformance/portal"
if [ -z "${CHROMIUM:-}" ] && ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null && ! command -v google-chrome >/dev/null; then
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; } ||
		{ echo "the browser tests need Chromium: install it, or set CHROMIUM to its path" >&2; exit 1; }
fi
command -v openssl >/dev/null || apt-get install -y -qq --no-install-recommends openssl >/dev/null # makes a certificate for a test's issuer
npm ci --no-audit --no-fund --loglevel=error
exec npx playwright test "$@"
