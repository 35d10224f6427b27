//go:build !unix

package clientws

import (
	"errors"
	"net"
	"syscall"
)

func rawConn(net.Conn) syscall.RawConn { return nil }

func receiveRaw(syscall.RawConn, func(*scratch, []byte) error, func() bool) error {
	return errors.ErrUnsupported
}
