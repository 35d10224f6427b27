// Package webpubsubpb is the generated form of webpubsub.proto: the messages of the protobuf subprotocols. Nothing in
// it is written by hand but the .proto, whose facts are the published schema.
package webpubsubpb

//go:generate sh ../../../scripts/protogen.sh
