package listen

import (
	"net"
	"syscall"
	"testing"
)

func TestConnectionsAreKeptAliveAsPackageNetWould(t *testing.T) {
	options := func(l net.Listener, err error) (got [5]int) {
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		raw, err := conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Control(func(fd uintptr) {
			for i, o := range [][2]int{
				{syscall.SOL_SOCKET, syscall.SO_KEEPALIVE}, {syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE}, {syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL},
				{syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT}, {syscall.IPPROTO_TCP, syscall.TCP_NODELAY},
			} {
				if got[i], err = syscall.GetsockoptInt(int(fd), o[0], o[1]); err != nil {
					t.Error(err)
				}
			}
		}); err != nil {
			t.Fatal(err)
		}
		return got
	}
	if ours, nets := options(Listen(t.Context(), "127.0.0.1:0")), options(net.Listen("tcp", "127.0.0.1:0")); ours != nets {
		t.Errorf("options are %v, want %v", ours, nets)
	}
}
