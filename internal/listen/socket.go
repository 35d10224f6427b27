package listen

import (
	"context"
	"net"
)

// Listen binds a TCP address. Its connections are kept alive as package net would have it: after 15 seconds of silence
// the peer is probed every 15 seconds, and lost after 9 probes. Where connections inherit that from the listener, four
// system calls for each are saved.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	inheritKeepAlive(&lc)
	return lc.Listen(ctx, "tcp", addr)
}
