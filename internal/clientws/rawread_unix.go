//go:build unix

package clientws

import (
	"io"
	"net"
	"syscall"
)

// rawConn returns what allows to wait for bytes without a buffer, for a plain TCP socket.
func rawConn(conn net.Conn) syscall.RawConn {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// receiveRaw is receive for a socket of which the system tells when it has something.
func receiveRaw(raw syscall.RawConn, feed func(*scratch, []byte) error, busy func() bool) error {
	var s *scratch
	var n int
	var failed error
	try := func(fd uintptr) bool {
		s = scratches.Get().(*scratch)
		for {
			n, failed = syscall.Read(int(fd), s.buf[:])
			if failed != syscall.EINTR {
				break
			}
		}
		if failed == syscall.EAGAIN {
			if busy != nil && !busy() {
				failed = errAtRest
				return true
			}
			scratches.Put(s)
			return false // wait, without a buffer
		}
		return true
	}
	for {
		if err := raw.Read(try); err != nil {
			return err // closed
		}
		switch {
		case failed == nil && n == 0:
			failed = io.EOF
		case failed == nil:
			failed = feed(s, s.buf[:n])
		}
		scratches.Put(s)
		if failed != nil {
			return failed
		}
	}
}
