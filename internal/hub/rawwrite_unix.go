//go:build unix

package hub

import (
	"errors"
	"net"
	"syscall"
)

// rawConn returns what allows a write that does not wait, for a plain TCP socket.
func rawConn(socket net.Conn) syscall.RawConn {
	tcp, ok := socket.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// writeNow writes once. The sockets of package net never block.
func writeNow(fd uintptr, data []byte) (int, error) {
	for {
		n, err := syscall.Write(int(fd), data)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

func wouldBlock(err error) bool { return errors.Is(err, syscall.EAGAIN) }
