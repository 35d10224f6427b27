package clientws

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
)

// loops read from all plain TCP sockets with one goroutine and one buffer for each processor: a client that is silent
// costs no goroutine and no buffer.
type loops struct {
	once sync.Once
	list []*loop // empty if there can be none
}

// maxEvents is how many sockets a loop is told of at once.
const maxEvents = 128

// A loop waits for its sockets with an epoll instance of its own, level-triggered, so that one read a turn is enough and
// none is made in vain. The instance itself is waited for by the runtime's poller, so no thread sits in it.
type loop struct {
	file *os.File // of the epoll instance
	raw  syscall.RawConn

	mu      sync.Mutex // guards sockets
	sockets map[int32]*polled
}

// A polled socket is a TCP socket that a loop reads, or a goroutine while its client waits for the application. Close
// only shuts it down, which whoever reads it notices; that reader closes it. So a loop never reads from a number that
// means another socket by now.
type polled struct {
	*net.TCPConn
	raw  syscall.RawConn
	fd   int32
	loop *loop
	cl   *client
}

// poll makes a socket ready for a loop, if it is of the right kind; otherwise it returns it as it is.
func (s *Server) poll(conn net.Conn) net.Conn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn
	}
	s.loops.once.Do(s.startLoops)
	if len(s.loops.list) == 0 {
		return conn
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return conn // closed: whoever reads it notices
	}
	p := &polled{TCPConn: tcp, raw: raw}
	if raw.Control(func(fd uintptr) { p.fd = int32(fd) }) != nil {
		return conn
	}
	p.loop = s.loops.list[int(p.fd)%len(s.loops.list)]
	return p
}

func (s *Server) startLoops() {
	for range runtime.GOMAXPROCS(0) {
		l, err := newLoop()
		if err != nil {
			s.opt.Log.Error("sockets are read by a goroutine each", "error", err)
			_ = closeLoops(s.loops.list)
			s.loops.list = nil
			return
		}
		s.loops.list = append(s.loops.list, l)
	}
	for _, l := range s.loops.list {
		s.reading.Go(l.run)
	}
}

func newLoop() (*loop, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(err, syscall.Close(fd))
	}
	file := os.NewFile(uintptr(fd), "epoll")
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &loop{file: file, raw: raw, sockets: make(map[int32]*polled)}, nil
}

func closeLoops(list []*loop) (err error) {
	for _, l := range list {
		err = errors.Join(err, l.file.Close())
	}
	return err
}

// stopLoops ends the loops, whose sockets are all gone.
func (s *Server) stopLoops() {
	s.loops.once.Do(func() {})   // none will start
	_ = closeLoops(s.loops.list) // again after the first time
	s.reading.Wait()
}

// SyscallConn is the one that was made already.
func (p *polled) SyscallConn() (syscall.RawConn, error) { return p.raw, nil }

// Close shuts the socket down.
func (p *polled) Close() error {
	return p.raw.Control(func(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) }) // not connected: as good
}

// watch has a loop read the socket, if it is of the right kind. It reports false if a goroutine has to.
func watch(conn net.Conn, cl *client) bool {
	p, ok := conn.(*polled)
	if !ok {
		return false
	}
	p.cl = cl
	p.loop.mu.Lock()
	p.loop.sockets[p.fd] = p
	p.loop.mu.Unlock()
	if err := p.loop.control(syscall.EPOLL_CTL_ADD, p); err != nil {
		p.unwatch()
		return false
	}
	return true
}

// loopable tells whether watch could succeed.
func loopable(conn net.Conn) bool {
	_, ok := conn.(*polled)
	return ok
}

// release closes a socket that nobody reads any more.
func release(conn net.Conn) {
	if p, ok := conn.(*polled); ok {
		_ = p.TCPConn.Close() // it was shut down
	}
}

// unwatch takes it back.
func (p *polled) unwatch() {
	_ = p.loop.control(syscall.EPOLL_CTL_DEL, p) // what was not added need not be deleted
	p.loop.mu.Lock()
	delete(p.loop.sockets, p.fd)
	p.loop.mu.Unlock()
}

func (l *loop) control(op int, p *polled) (err error) {
	failed := l.raw.Control(func(epfd uintptr) {
		err = syscall.EpollCtl(int(epfd), op, int(p.fd), &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: p.fd})
	})
	return errors.Join(failed, err)
}

// run reads until the loop is closed.
func (l *loop) run() {
	var (
		events [maxEvents]syscall.EpollEvent
		ready  [maxEvents]*polled
		s      scratch
		n      int
		failed error
	)
	try := func(epfd uintptr) bool {
		for {
			if n, failed = syscall.EpollWait(int(epfd), events[:], 0); failed != syscall.EINTR {
				return n > 0 || failed != nil
			}
		}
	}
	for l.raw.Read(try) == nil && failed == nil {
		l.mu.Lock()
		for i, e := range events[:n] {
			ready[i] = l.sockets[e.Fd]
		}
		l.mu.Unlock()
		for _, p := range ready[:n] {
			if p != nil {
				p.read(&s)
			}
		}
		clear(ready[:n])
	}
}

// read passes on what one read gives. The socket is open, for only who reads it closes it.
func (p *polled) read(s *scratch) {
	n, err := syscall.Read(int(p.fd), s.buf[:])
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return
	case err == nil && n == 0:
		err = io.EOF
	case err == nil:
		err = p.cl.takeQuickly(s, s.buf[:n])
	}
	if err != nil {
		p.unwatch()
		go p.cl.goOn(p, err)
	}
}
