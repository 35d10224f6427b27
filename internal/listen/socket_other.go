//go:build !linux

package listen

import "net"

func inheritKeepAlive(*net.ListenConfig) {}
