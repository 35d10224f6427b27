# make demo   builds what is missing, then runs the narrated demo
# make test   everything that CI runs, installing what it needs
# make bench  the figures of docs/performance.md

GO ?= go
STATICCHECK = honnef.co/go/tools/cmd/staticcheck
FUZZTIME ?= 5s

.PHONY: build demo test check unit fuzz conformance bench clean

build: bin/tabard

bin/tabard: $(shell find . -name '*.go' -not -path './conformance/*' -not -path './bench/*' -not -path './examples/*' -not -name '*_test.go') go.mod go.sum
	CGO_ENABLED=0 $(GO) build -trimpath -o $@ ./cmd/tabard

# Serves on after the story when somebody is there to end it.
demo: build
	@if [ -t 0 ]; then bin/tabard demo; else bin/tabard demo --once; fi

test: check unit fuzz conformance

check:
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) tool $(STATICCHECK) ./...
	sh ./scripts/protogen.sh && git diff --exit-code -- internal/subprotocol/webpubsubpb # what is generated is up to date

unit:
	$(GO) test -race -shuffle=on ./...
	cd examples && $(GO) vet ./... && $(GO) test -race ./...

fuzz:
	FUZZTIME=$(FUZZTIME) sh ./scripts/fuzz.sh

conformance: build
	cd conformance/go && $(GO) test -count=1 ./...
	cd conformance/deploy && $(GO) vet ./... && $(GO) test -count=1 ./...
	cd conformance/js && npm ci --no-audit --no-fund --loglevel=error && npm test
	@if command -v apt-get dpkg-deb >/dev/null; then conformance/python/packages.sh && /usr/bin/python3 conformance/python/vault.py; \
	else echo "conformance/python needs Debian's packages"; fi

bench:
	sh ./scripts/bench.sh

clean:
	rm -rf bin conformance/js/node_modules conformance/python/.packages
