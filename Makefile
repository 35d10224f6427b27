# make demo   builds what is missing, then runs the narrated demo
# make test   everything that CI runs, installing what it needs
# make release  static binaries, bills of materials and checksums in dist/
# make bench  the figures of docs/performance.md

GO ?= go
STATICCHECK = honnef.co/go/tools/cmd/staticcheck
FUZZTIME ?= 5s

.PHONY: build demo test check cross unit fuzz conformance release bench clean

build: bin/tabard

bin/tabard: $(shell find . -name '*.go' -not -path './conformance/*' -not -path './bench/*' -not -path './examples/*' -not -name '*_test.go') go.mod go.sum
	CGO_ENABLED=0 $(GO) build -trimpath -o $@ ./cmd/tabard

# Serves on after the story when somebody is there to end it.
demo: build
	@if [ -t 0 ]; then bin/tabard demo; else bin/tabard demo --once; fi

test: check cross unit fuzz conformance

check:
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) tool $(STATICCHECK) ./...
	sh ./scripts/protogen.sh && git diff --exit-code -- internal/subprotocol/webpubsubpb # what is generated is up to date

# What a release holds for other systems compiles.
cross:
	GOOS=windows GOARCH=amd64 CGO_ENABLED=0 $(GO) build -o /dev/null ./cmd/tabard
	GOOS=darwin GOARCH=arm64 CGO_ENABLED=0 $(GO) build -o /dev/null ./cmd/tabard

unit:
	$(GO) test -race -shuffle=on ./...
	cd examples && $(GO) vet ./... && $(GO) test -race ./...

fuzz:
	FUZZTIME=$(FUZZTIME) sh ./scripts/fuzz.sh

conformance: build
	cd conformance/go && $(GO) test -count=1 ./...
	@command -v nginx >/dev/null || if command -v apt-get >/dev/null; then apt-get update -qq && apt-get install -y -qq --no-install-recommends nginx-light >/dev/null; fi
	cd conformance/deploy && $(GO) vet ./... && $(GO) test -count=1 ./...
	cd conformance/js && npm ci --no-audit --no-fund --loglevel=error && npm test
	@if command -v apt-get dpkg-deb >/dev/null; then conformance/python/packages.sh && /usr/bin/python3 conformance/python/vault.py; \
	else echo "conformance/python needs Debian's packages"; fi

release:
	GO=$(GO) sh ./scripts/release.sh

bench:
	sh ./scripts/bench.sh

clean:
	rm -rf bin dist conformance/js/node_modules conformance/python/.packages
