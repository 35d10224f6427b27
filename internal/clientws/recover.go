package clientws

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"net/url"
	"strings"
	"time"

	"tabard/internal/hub"
	"tabard/internal/settings"
)

// reconnectionLife is how long a reconnection token is valid (section 9.3: about a week). Its connection lives much
// shorter without a socket, but may live longer with one.
const reconnectionLife = 7 * 24 * time.Hour

// token makes a reconnection token: it recovers this one connection and nothing else. It is signed with a key of the
// service's own, so that a regenerated access key costs no client its connection.
func (s *Server) token(instance, hubName, id string) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(s.opt.Now().Add(reconnectionLife).Unix()))
	return base64.RawURLEncoding.EncodeToString(append(b, s.mac(b, instance, hubName, id)...))
}

func (s *Server) mac(expiry []byte, instance, hubName, id string) []byte {
	h := hmac.New(sha256.New, s.opt.ReconnectionKey)
	h.Write([]byte("reconnection\x00"))
	h.Write(expiry)
	for _, part := range []string{instance, hubName, id} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write([]byte(part))
	}
	return h.Sum(nil)
}

// proves tells whether the token is for this connection, and not too old.
func (s *Server) proves(token, instance, hubName, id string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) != 8+sha256.Size || strings.ContainsAny(token, "\r\n") { // which the decoder skips
		return false
	}
	if !hmac.Equal(b[8:], s.mac(b[:8], instance, hubName, id)) {
		return false
	}
	return s.opt.Now().Unix() < int64(binary.BigEndian.Uint64(b))
}

// recover lets a reliable client go on with the connection that it names, over this socket. Its access token, which
// may have expired, is not looked at, and there is no event: it is the same logical connection. A client that cannot
// go on is let in and told to start anew (1008), for it repeats a handshake that fails.
func (s *Server) recover(d *door, r *http.Request, in *settings.Instance, hubName string, query url.Values) *refusal {
	id := last(query, "awps_connection_id")
	h := s.opt.Hubs.Lookup(in.Name, hubName)
	c, ok := h.Connection(id)
	if !ok || !c.Reliable() || !s.proves(last(query, "awps_reconnection_token"), h.Instance(), h.Name(), id) {
		return s.refuseRecovery(d, r)
	}
	cl, ok := c.Owner().(*client)
	if !ok {
		return s.refuseRecovery(d, r)
	}
	early, err := d.enter()
	if err != nil {
		s.opt.Log.Error("connection cannot be upgraded", "error", err)
		return refuse(http.StatusInternalServerError, "", "Internal server error.")
	}
	name := "" // the connection's, whatever else the client offers
	for _, offer := range offered(r) {
		if strings.EqualFold(offer, c.Subprotocol()) {
			name = offer
		}
	}
	extension := extension(in, r)
	answer := hub.Verbatim(accepted(r, name, extension))
	conn := s.poll(d.conn)
	if c.Resume(conn, extension != "", answer, cl.protocol.Connected(id, c.UserID(), s.token(h.Instance(), h.Name(), id))) != nil {
		return s.refuseRecovery(d, r) // it ended a moment ago
	}
	s.wg.Go(func() { // serve is counted itself, so the count is not zero
		cl.turn.Lock()
		cl.serve(conn, early, extension != "")
	})
	return nil
}
