//go:build !unix

package hub

import (
	"errors"
	"net"
	"syscall"
)

// Without non-blocking writes every socket is written to by a goroutine of its own while frames are queued.

func rawConn(net.Conn) syscall.RawConn { return nil }

func writeNow(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }

func wouldBlock(error) bool { return false }
