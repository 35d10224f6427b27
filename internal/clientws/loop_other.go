//go:build !linux

package clientws

import "net"

// loops are for systems with epoll; on others each client has a goroutine.
type loops struct{}

func (s *Server) poll(conn net.Conn) net.Conn { return conn }

func (s *Server) stopLoops() {}

func watch(net.Conn, *client) bool { return false }

func loopable(net.Conn) bool { return false }

func release(net.Conn) {}
