// Package hub knows who is connected: connections, users, groups, permissions, and the queue of frames that waits
// for each socket.
//
// A publisher wants its message on a thousand sockets now, and wants never to be slowed by the one client that
// stopped reading. So a message is encoded and framed once for each subprotocol that has a receiver, when the first
// receiver needs it; sending appends a reference to the receiver's bounded queue; one flusher per shard takes all
// that is queued for a socket and hands it to the kernel in one write. Nobody waits: a socket that is full keeps its
// rest and gets a goroutine until it is empty again, and a queue that overflows costs its own connection only.
//
// Frames are WebSocket frames (RFC 6455). What is inside is the business of a [Codec]; reading, the handshake and
// what a client may ask for belong to clientws. The package imports nothing else of ours.
//
// Order: frames that one goroutine sends to a connection arrive in that order. A message that is published after a
// join has returned reaches the new member; one that is published after a leave has returned does not.
//
// Locks, outermost first: states.mu, Conn.mu, the shard locks of the indexes, queue.mu, wheel.mu. None is held across
// a system call or a callback. [Registry.Close] says goodbye to every connection and stops every goroutine.
package hub
