#!/bin/sh
# Builds what a release consists of into dist/: static binaries for Linux, macOS and Windows, a bill of materials in
# CycloneDX each, and checksums. The same commit and Go version give the same binaries, wherever they are built.
#
#   VERSION    what the release is called (default: git describe)
#   PLATFORMS  os/arch pairs (default: all six)
set -eu
cd "$(dirname "$0")/.."
version=${VERSION:-$(git describe --tags --always --dirty)}
platforms=${PLATFORMS:-"linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64"}
go=${GO:-go}

STRICT=1 sh scripts/portal.sh # the web page that the binary embeds

rm -rf dist
mkdir -p dist
for platform in $platforms; do
	os=${platform%/*} arch=${platform#*/}
	name=tabard_${version}_${os}_${arch}
	suffix=
	if [ "$os" = windows ]; then suffix=.exe; fi
	echo "build $name"
	CGO_ENABLED=0 GOOS=$os GOARCH=$arch "$go" build -trimpath -buildvcs=true -ldflags "-s -w -buildid=" -o "dist/$name$suffix" ./cmd/tabard
	"$go" -C scripts/sbom tool cyclonedx-gomod bin -json -noserial -notimestamp -std -version "$version" -output "../../dist/$name.cdx.json" "../../dist/$name$suffix" 2> /dev/null
done
cd dist
# Two spellings of one tool; both write what `sha256sum -c` reads.
if command -v sha256sum > /dev/null; then sha256sum tabard_*; else shasum -a 256 tabard_*; fi > SHA256SUMS
cat SHA256SUMS
