// Package clientws serves WebSocket clients: it lets them in or says why not, reads what they ask for, and does it.
//
// A developer whose client is refused sees the reason in the answer; one whose frame is refused sees it in the
// close frame or the ack. A client whose application is slow to answer an event waits for that answer and nobody
// else does. An idle client costs no buffer, and over plain TCP on Linux no goroutine either.
//
// A client's life: handshake (handshake.go, door.go), then [hub.Hub.Connect] takes the socket in, and from there on
// frames are written by the hub and read here (read.go), taken apart (parse.go) and acted upon (request.go). The
// connected and disconnected events enclose everything else that the application hears of a connection; the
// latter comes exactly once, also if the connection ends in a way that nobody planned.
//
// What is in frames is subprotocol's business, who receives what hub's, who may come in access's, and talking to
// the application eventhandler's. [Server.Close] waits for the goroutines of all clients; they end when the hub has
// closed their sockets.
package clientws

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"tabard/guard/reason"
	"tabard/internal/access"
	"tabard/internal/eventhandler"
	"tabard/internal/hub"
	"tabard/internal/settings"
	"tabard/internal/trace"
)

// MaxMessage is the size limit of a client's message in bytes (client protocol, section 15).
const MaxMessage = 1 << 20

// Options of [New]. Instance, Access, Events and Hubs are required.
type Options struct {
	// Instance chooses the instance that a request is for; nil answers 404.
	Instance func(*http.Request) *settings.Instance
	// Settings is the present configuration, which decides about each event of a live connection.
	Settings func() *settings.Snapshot
	// Access verifies client access tokens.
	Access *access.Verifier
	// Events talks to the applications.
	Events *eventhandler.Dispatcher
	// Hubs takes connections in. Whoever closes this server closes it first.
	Hubs *hub.Registry
	// Trace gets a record of every connection that begins, ends or is refused, and of every publication; nil keeps none.
	Trace *trace.Recorder
	// Log gets what clients did wrong, at debug level. Default: discarded.
	Log *slog.Logger
	// MaxMessage is the size limit of a message in bytes. Default: MaxMessage.
	MaxMessage int64
	// ReconnectionKey signs the tokens with which reliable clients recover their connections. Keep it as long as
	// connections are to be recovered; without one, a random key serves this process.
	ReconnectionKey []byte
	// Counters, if given, count for several servers together.
	Counters *Counters
	// Now is the clock of reconnection tokens. Default: time.Now.
	Now func() time.Time
}

// A Server serves clients.
type Server struct {
	opt Options

	mu     sync.Mutex // guards closed, and wg against a start after Close
	closed bool
	wg     sync.WaitGroup // handshakes and clients

	started time.Time // zero of the clock of paces

	loops   loops
	reading sync.WaitGroup // goroutines of loops
}

// New returns a Server. It has no goroutine of its own until a client connects.
func New(opt Options) *Server {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.MaxMessage <= 0 {
		opt.MaxMessage = MaxMessage
	}
	if len(opt.ReconnectionKey) == 0 {
		opt.ReconnectionKey = make([]byte, 32)
		rand.Read(opt.ReconnectionKey) // never fails
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Counters == nil {
		opt.Counters = &Counters{}
	}
	return &Server{opt: opt, started: time.Now()}
}

// Close admits no more clients and waits until the last one is gone or ctx ends. It closes no connection: that is
// done by [hub.Registry.Close].
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		s.wg.Wait()
		s.stopLoops()
		close(gone)
	}()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// begin counts a goroutine in; false after Close.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.wg.Add(1)
	}
	return !s.closed
}

// ServeHTTP handles a handshake that came through net/http. It returns when the client is let in or refused.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.serve(&door{w: w}, r) }

// ServeConn handles a handshake whose request head was read from conn by the caller. It returns when the client is
// let in or refused; the connection belongs to the server from now on. conn must be the *net.TCPConn itself for the
// short way of reading and writing, and must still hold whatever followed the head.
func (s *Server) ServeConn(conn net.Conn, r *http.Request) { s.serve(&door{conn: conn}, r) }

// A refusal is why a handshake fails, and the answer to it.
type refusal struct {
	quoted      bool // the body is the application's own words, which are for the client alone
	status      int
	code        reason.Code // empty: the body says it all
	contentType string      // empty: plain text
	body        []byte
}

func refuse(status int, code reason.Code, text string) *refusal {
	return &refusal{status: status, code: code, body: []byte(text + "\n")}
}

func (s *Server) serve(d *door, r *http.Request) {
	if !s.begin() {
		s.answer(d, r, nil, "", refuse(http.StatusServiceUnavailable, "", "The service is stopping."))
		return
	}
	defer s.wg.Done()
	in := s.opt.Instance(r)
	if in == nil {
		s.answer(d, r, nil, "", refuse(http.StatusNotFound, "", "There is no instance at this address."))
		return
	}
	if !in.Admits(settings.ClientConnection, r.RemoteAddr) { // before anything else is told
		s.answer(d, r, in, "", refuse(http.StatusForbidden, reason.NetworkDenied, "The network rules of this instance do not admit client connections from this address."))
		return
	}
	if in.Stopped {
		s.answer(d, r, in, "", refuse(http.StatusServiceUnavailable, reason.InstanceStopped, "This instance is stopped."))
		return
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		s.answer(d, r, in, "", refuse(http.StatusBadRequest, "", "The query is not escaped correctly."))
		return
	}
	name, ok := hubOf(r.URL, query)
	if !ok {
		s.answer(d, r, in, "", refuse(http.StatusNotFound, "", "Clients connect to /client/hubs/{hub}."))
		return
	}
	name = strings.Clone(name) // or whatever keeps it keeps the request line alive, a token in the query included
	if no := s.admit(d, r, in, name, query); no != nil {
		s.answer(d, r, in, name, no)
	}
}

// admit takes the client in, in the order of section 3, or says why not.
func (s *Server) admit(d *door, r *http.Request, in *settings.Instance, hubName string, query url.Values) *refusal {
	if !settings.ValidHubName(hubName) {
		return refuse(http.StatusBadRequest, reason.HubInvalid, "The hub's name is missing or not valid.")
	}
	if err := checkUpgrade(r); err != nil {
		return refuse(http.StatusBadRequest, "", "Bad handshake: "+err.Error()+".")
	}
	if no := within(in, r); no != nil {
		return no
	}
	if query.Has("awps_connection_id") {
		return s.recover(d, r, in, hubName, query)
	}
	mode, err := modeOf(query)
	if err != nil {
		return refuse(http.StatusBadRequest, "", "Bad query: "+err.Error()+".")
	}
	who, err := s.opt.Access.Client(in, r, hubName)
	if err != nil {
		var no *access.Refusal
		if errors.As(err, &no) {
			return refuse(no.Status, no.Code, no.Message)
		}
		s.opt.Log.Error("client access token not verified", "error", err)
		return refuse(http.StatusInternalServerError, "", "Internal server error.")
	}

	id := hub.NewID()
	cl := &client{
		server: s, mode: mode, pace: newPace(in.Extensions.MaxMessagesPerSecond),
		instance: in.Name, hub: s.opt.Hubs.Hub(in.Name, hubName),
		session: s.opt.Events.NewSession(in.Name, hubName, id),
	}
	offers := offered(r)
	resp, err := cl.session.Connect(r.Context(), connectRequest(r, who, query, offers))
	if err != nil {
		var no *eventhandler.Rejection
		if errors.As(err, &no) { // the delivery has left its own trace record
			return &refusal{quoted: true, status: no.Status, contentType: no.ContentType, body: no.Body}
		}
		s.opt.Log.Error("connect event failed", "hub", hubName, "conn", id, "error", err)
		return refuse(http.StatusInternalServerError, "", "Internal server error.")
	}
	o := hub.ConnOptions{
		ID: id, UserID: who.UserID, Roles: who.Roles, Groups: who.Groups, Ended: cl.ended,
		MaxGroups: in.Extensions.MaxGroupsPerConnection, MaxConnections: in.Extensions.MaxConnections,
	}
	chosen := ""
	if resp != nil {
		chosen = resp.Subprotocol
		if resp.UserID != nil {
			o.UserID = *resp.UserID
		}
		if len(resp.Groups) > 0 {
			o.Groups = resp.Groups
		}
		if resp.Roles != nil {
			o.Roles = resp.Roles
		}
	}
	no := tooManyGroups(&o)
	if no == nil {
		no = cl.open(d, r, in, o, offers, chosen)
	}
	if no != nil && resp != nil { // the application accepted a connection that now comes to nothing
		cl.session.Disconnected(no.why())
	}
	return no
}

// why is the refusal in words, for the log and the disconnected event.
func (n *refusal) why() string {
	if n.quoted {
		return "refused by the event handler"
	}
	return strings.TrimSpace(string(n.body))
}

// open upgrades the connection and starts to read from it.
func (cl *client) open(d *door, r *http.Request, in *settings.Instance, o hub.ConnOptions, offers []string, chosen string) *refusal {
	s := cl.server
	subprotocol, p, err := negotiate(offers, chosen)
	if err != nil {
		return refuse(http.StatusBadRequest, "", "Bad handshake: "+err.Error()+".")
	}
	subprotocol = strings.Clone(subprotocol) // or it keeps all of its header alive
	cl.protocol = dialect(p, in.Hub(cl.hub.Name()))
	cl.session.Bind(o.UserID, subprotocol)
	early, err := d.enter()
	if err != nil {
		s.opt.Log.Error("connection cannot be upgraded", "error", err)
		return refuse(http.StatusInternalServerError, "", "Internal server error.")
	}
	conn := s.poll(d.conn)
	o.Socket, o.Codec, o.Subprotocol = conn, cl.protocol, subprotocol
	extension := extension(in, r)
	o.Deflate = extension != ""
	o.Owner = cl
	o.First = append(o.First, hub.Verbatim(accepted(r, subprotocol, extension)))
	token := ""
	if p.Reliable() {
		token = s.token(cl.hub.Instance(), cl.hub.Name(), o.ID)
	}
	if f := p.Connected(o.ID, o.UserID, token); f != nil {
		o.First = append(o.First, f)
	}
	cl.turn.Lock() // whoever recovers the connection waits until it has begun
	c, err := cl.hub.Connect(o)
	if err != nil {
		cl.turn.Unlock()
	}
	switch {
	case errors.Is(err, hub.ErrTooManyConnections):
		return refuse(http.StatusTooManyRequests, reason.ConnectionLimit, "Connection count reaches limit.")
	case err != nil:
		return refuse(http.StatusServiceUnavailable, "", "The service is stopping.")
	}
	cl.conn = c
	s.opt.Counters.accept()
	cl.begun(r, o.UserID, o.Subprotocol)
	cl.start()
	if now, ok := s.opt.Settings().Instance(in.Name); !ok || now.Stopped || !now.Created.Equal(in.Created) {
		c.Close(hub.ClosePolicy, "The service was deleted or stopped") // by somebody who looked before we were listed
	}
	cl.serve(conn, early, o.Deflate)
	return nil
}

// answer refuses the client and leaves a record, unless the application refused it: that delivery has its own.
func (s *Server) answer(d *door, r *http.Request, in *settings.Instance, hubName string, no *refusal) {
	header := http.Header{}
	if no.contentType == "" && len(no.body) > 0 {
		no.contentType = "text/plain; charset=utf-8"
	}
	if no.contentType != "" {
		header.Set("Content-Type", no.contentType)
		header.Set("X-Content-Type-Options", "nosniff")
	}
	switch no.status {
	case http.StatusUnauthorized:
		header.Set("Www-Authenticate", "Bearer")
	case http.StatusBadRequest:
		header.Set("Sec-Websocket-Version", "13")
	}
	s.opt.Counters.refuse(no.code)
	d.refuse(no.status, header, no.body)
	s.opt.Log.Debug("client refused", "hub", hubName, "status", no.status, "code", no.code, "why", no.why())
	if in != nil && !no.quoted {
		s.refused(r, in, hubName, no)
	}
}

// connectRequest describes the client to the application, which sees neither its token nor its Authorization header.
func connectRequest(r *http.Request, who *access.Client, query url.Values, offers []string) eventhandler.ConnectRequest {
	q := eventhandler.ConnectRequest{UserID: who.UserID, Claims: who.Claims, Query: query, Header: r.Header, Host: r.Host, Subprotocols: offers}
	if r.TLS != nil {
		q.ClientCertificates = r.TLS.PeerCertificates
	}
	return q
}

// refusedRecovery is a close frame, 1008 with a reason.
var refusedRecovery = hub.CloseFrame(hub.ClosePolicy, "The connection cannot be recovered.")

// refuseRecovery answers a client that wants to go on with a connection that does not exist: it is let in and told to
// go, because clients repeat a handshake that fails (section 3). Its access token, which may have expired, is not
// looked at.
func (s *Server) refuseRecovery(d *door, r *http.Request) *refusal {
	name := ""
	if offers := offered(r); len(offers) > 0 {
		name = offers[0]
	}
	if _, err := d.enter(); err != nil {
		return refuse(http.StatusInternalServerError, "", "Internal server error.")
	}
	s.wg.Go(func() {
		defer d.conn.Close()
		d.conn.SetDeadline(time.Now().Add(refuseTimeout))
		if _, err := d.conn.Write(append(accepted(r, name, ""), refusedRecovery...)); err != nil {
			return
		}
		p := parser{limit: s.opt.MaxMessage}
		_ = receive(d.conn, func(s *scratch, data []byte) error { return p.feed(s, data, dismissed{}) }, nil)
	})
	return nil
}

// dismissed waits for the close frame of a client that was told to go.
type dismissed struct{}

func (dismissed) message(hub.Opcode, []byte) error { return nil }

func (dismissed) control(op hub.Opcode, _ []byte) error {
	if op == hub.OpClose {
		return errClosed
	}
	return nil
}
