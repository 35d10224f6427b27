# make demo     builds what is missing, then runs the narrated demo
# make test     everything that CI runs, installing what it needs
# make portal   the web page that the binary embeds; build and demo do it when npm is there
# make screens  the pictures in docs/screens
# make release  static binaries, bills of materials and checksums in dist/
# make bench    the figures of docs/performance.md

GO ?= go
STATICCHECK = honnef.co/go/tools/cmd/staticcheck
PORTAL = internal/portal/web

.PHONY: build demo portal portal-test screens test check cross unit fuzz conformance release bench clean

build: bin/tabard

bin/tabard: $(shell find . \( -name node_modules -o -path ./conformance -o -path ./bench -o -path ./examples \) -prune -o -name '*.go' -not -name '*_test.go' -print) go.mod go.sum $(PORTAL)/dist/index.html
	CGO_ENABLED=0 $(GO) build -trimpath -o $@ ./cmd/tabard

$(PORTAL)/dist/index.html: $(shell find $(PORTAL)/src -type f) $(addprefix $(PORTAL)/,index.html package-lock.json vite.config.ts)
	sh ./scripts/portal.sh

portal:
	STRICT=1 sh ./scripts/portal.sh

# Serves on after the story when somebody is there to end it.
demo: build
	@if [ -t 0 ]; then bin/tabard demo; else bin/tabard demo --once; fi

test: check cross unit fuzz conformance portal-test

check:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "gofmt: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) tool $(STATICCHECK) ./...
	sh ./scripts/protogen.sh && git diff --exit-code -- internal/subprotocol/webpubsubpb # what is generated is up to date

# What a release holds for other systems would compile.
cross:
	cd scripts/crosscheck && $(GO) run . ../.. ./cmd/tabard windows/amd64 darwin/arm64

unit:
	$(GO) test -race -shuffle=on -p 3 ./... # more at once than processors: many wait for the disk
	cd examples && $(GO) vet ./... && $(GO) test -race ./...

# A second of each target; `sh scripts/fuzz.sh` takes its time and is guided by coverage.
fuzz:
	FUZZTIME=1s BLIND=1 sh ./scripts/fuzz.sh

conformance: build
	cd conformance/go && $(GO) test -count=1 ./...
	@command -v nginx >/dev/null || if command -v apt-get >/dev/null; then apt-get update -qq && apt-get install -y -qq --no-install-recommends nginx-light >/dev/null; fi
	cd conformance/deploy && $(GO) vet ./... && $(GO) test -count=1 ./...
	cd conformance/js && npm ci --no-audit --no-fund --loglevel=error && npm test
	@if command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then conformance/python/packages.sh && /usr/bin/python3 conformance/python/vault.py; \
	else echo "conformance/python needs Debian's packages"; fi

release:
	GO=$(GO) sh ./scripts/release.sh

portal-test: portal build
	cd $(PORTAL) && npm run --silent check && npm test --silent
	sh ./scripts/browser-tests.sh

screens: portal build
	SCREENS=1 sh ./scripts/browser-tests.sh screens

bench:
	sh ./scripts/bench.sh

clean:
	rm -rf bin dist conformance/js/node_modules conformance/python/.packages conformance/portal/node_modules $(PORTAL)/node_modules $(PORTAL)/dist/assets $(PORTAL)/dist/index.html
