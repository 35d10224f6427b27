//go:build !unix

package clientws

import (
	"errors"
	"net"
	"syscall"
)

func rawConn(net.Conn) syscall.RawConn { return nil }

func receiveRaw(syscall.RawConn, func(*scratch, []byte) error) error { return errors.ErrUnsupported }
