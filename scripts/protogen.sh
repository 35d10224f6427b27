#!/bin/sh
# Regenerates the Go form of the protobuf subprotocols' schema; see `go generate`.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root/scripts/protogen"
go run . "$root/internal/subprotocol/webpubsubpb/webpubsub.proto"
