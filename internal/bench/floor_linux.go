package bench

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/gobwas/ws"
)

// Floor serves the least that the scenarios with WebSockets alone can be run against: one thread, one epoll loop, one
// write to each member, nothing verified and nothing queued. What a service costs beyond it is the service's own. A
// client that does not read is dropped. It listens on a free port of loopback, tells it to ready, and ends with an error
// or when stop can be read.
func Floor(stop *os.File, ready func(addr string)) error {
	listener, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(listener)
	if err := errors.Join(syscall.Bind(listener, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(listener, 4096)); err != nil {
		return err
	}
	bound, err := syscall.Getsockname(listener)
	if err != nil {
		return err
	}
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	defer syscall.Close(epoll)
	f := &floor{epoll: epoll, clients: map[int]*floorClient{}, groups: map[string][]int{}}
	for _, fd := range []int{listener, int(stop.Fd())} {
		if err := f.watch(fd); err != nil {
			return err
		}
	}
	ready(net.JoinHostPort("127.0.0.1", strconv.Itoa(bound.(*syscall.SockaddrInet4).Port)))
	var events [256]syscall.EpollEvent
	for {
		n, err := syscall.EpollWait(epoll, events[:], -1)
		if err != nil && err != syscall.EINTR {
			return err
		}
		for _, e := range events[:max(n, 0)] {
			switch fd := int(e.Fd); fd {
			case int(stop.Fd()):
				return nil
			case listener:
				f.accept(listener)
			default:
				f.read(fd)
			}
		}
	}
}

type floor struct {
	epoll   int
	clients map[int]*floorClient
	groups  map[string][]int // members
	buf     [64 << 10]byte
}

type floorClient struct {
	upgraded bool
	rest     []byte // the beginning of a frame
}

func (f *floor) watch(fd int) error {
	return syscall.EpollCtl(f.epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)})
}

func (f *floor) accept(listener int) {
	for {
		fd, _, err := syscall.Accept4(listener, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		if errors.Join(syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1), f.watch(fd)) != nil {
			_ = syscall.Close(fd)
			continue
		}
		f.clients[fd] = &floorClient{}
	}
}

func (f *floor) drop(fd int) {
	delete(f.clients, fd)
	for name, members := range f.groups {
		for i, member := range members {
			if member == fd {
				f.groups[name] = append(members[:i], members[i+1:]...)
				break
			}
		}
	}
	_ = syscall.Close(fd)
}

func (f *floor) write(fd int, data []byte) {
	if n, err := syscall.Write(fd, data); err != nil || n < len(data) {
		_ = syscall.Shutdown(fd, syscall.SHUT_RDWR) // dropped when it is read
	}
}

func (f *floor) read(fd int) {
	c := f.clients[fd]
	n, err := syscall.Read(fd, f.buf[:])
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return
	case err != nil || n == 0 || c == nil:
		f.drop(fd)
		return
	}
	data := f.buf[:n]
	if len(c.rest) > 0 {
		data = append(c.rest, data...)
		c.rest = nil
	}
	if !c.upgraded {
		end := bytes.Index(data, []byte("\r\n\r\n"))
		if end < 0 {
			c.rest = bytes.Clone(data)
			return
		}
		c.upgraded = true
		f.write(fd, greeting(data[:end]))
		data = data[end+4:]
	}
	for {
		r := bytes.NewReader(data)
		h, err := ws.ReadHeader(r)
		head := len(data) - r.Len()
		if err != nil || int64(r.Len()) < h.Length {
			c.rest = bytes.Clone(data)
			return
		}
		payload := data[head : head+int(h.Length)]
		data = data[head+int(h.Length):]
		ws.Cipher(payload, h.Mask, 0)
		if h.OpCode == ws.OpText {
			f.message(fd, payload)
		}
	}
}

// message does what a request of our own client means.
func (f *floor) message(fd int, payload []byte) {
	group := member(payload, `"group":"`)
	if bytes.Contains(payload, []byte(`"type":"joinGroup"`)) {
		f.groups[string(group)] = append(f.groups[string(group)], fd)
		id, _, _ := bytes.Cut(payload[bytes.Index(payload, []byte(`"ackId":`))+len(`"ackId":`):], []byte(","))
		f.write(fd, text(`{"type":"ack","ackId":`+string(id)+`,"success":true}`))
		return
	}
	frame := text(`{"type":"message","from":"group","group":"` + string(group) + `","dataType":"text","data":"` + string(member(payload, `"data":"`)) + `"}`)
	for _, to := range f.groups[string(group)] {
		if to != fd || bytes.Contains(payload, []byte(`"noEcho":false`)) {
			f.write(to, frame)
		}
	}
}

// member returns the string behind a member's name; our own clients escape nothing.
func member(payload []byte, name string) []byte {
	_, rest, _ := bytes.Cut(payload, []byte(name))
	value, _, _ := bytes.Cut(rest, []byte(`"`))
	return value
}

// greeting lets a client in and says that it is connected.
func greeting(head []byte) []byte {
	key := ""
	for line := range strings.SplitSeq(string(head), "\r\n") {
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "Sec-WebSocket-Key") {
			key = strings.TrimSpace(value)
		}
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return append(fmt.Appendf(nil, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]), subprotocol), text(`{"type":"system","event":"connected","userId":"u","connectionId":"c"}`)...)
}

// text is a text frame.
func text(payload string) []byte {
	n := len(payload)
	switch {
	case n < 126:
		return append([]byte{0x81, byte(n)}, payload...)
	case n < 1<<16:
		return append(binary.BigEndian.AppendUint16([]byte{0x81, 126}, uint16(n)), payload...)
	}
	return append(binary.BigEndian.AppendUint64([]byte{0x81, 127}, uint64(n)), payload...)
}
