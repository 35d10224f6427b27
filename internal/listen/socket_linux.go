package listen

import (
	"errors"
	"net"
	"syscall"
)

// The defaults of package net.
const (
	keepAliveSeconds = 15 // of silence before a probe, and between probes
	keepAliveProbes  = 9
)

func inheritKeepAlive(lc *net.ListenConfig) {
	lc.KeepAlive = -1 // not set anew on each connection
	lc.Control = func(_, _ string, raw syscall.RawConn) (err error) {
		failed := raw.Control(func(fd uintptr) {
			set := func(level, option, value int) {
				if err == nil {
					err = syscall.SetsockoptInt(int(fd), level, option, value)
				}
			}
			set(syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1)
			set(syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, keepAliveSeconds)
			set(syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, keepAliveSeconds)
			set(syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, keepAliveProbes)
		})
		return errors.Join(err, failed)
	}
}
