package clientws

import (
	"maps"
	"net/http"
	"sync"
	"time"

	"tabard/guard/reason"
	"tabard/internal/hub"
	"tabard/internal/settings"
)

// Bounds of a handshake in bytes. An address holds a token, of which 16 KiB are read.
const (
	MaxURL     = 24 << 10
	MaxHeaders = 32 << 10 // names and values
)

// within refuses a handshake that is too long, or comes from a page that may not connect.
func within(in *settings.Instance, r *http.Request) *refusal {
	if len(r.RequestURI) > MaxURL {
		return refuse(http.StatusRequestURITooLong, reason.HeadTooLarge, "The address is longer than 24 KiB.")
	}
	size := 0
	for name, values := range r.Header {
		for _, v := range values {
			size += len(name) + len(v)
		}
	}
	if size > MaxHeaders {
		return refuse(http.StatusRequestHeaderFieldsTooLarge, reason.HeadTooLarge, "The headers are longer than 32 KiB.")
	}
	if !in.Extensions.AllowsOrigin(r.Header["Origin"]) {
		return refuse(http.StatusForbidden, reason.OriginDenied, "The page's origin is not allowed to connect.")
	}
	return nil
}

// tooManyGroups refuses a client that its token or the application would put into more groups than it may be in.
func tooManyGroups(o *hub.ConnOptions) *refusal {
	if o.MaxGroups == 0 || len(o.Groups) <= o.MaxGroups {
		return nil
	}
	distinct := make(map[string]bool, len(o.Groups))
	for _, g := range o.Groups {
		distinct[g] = true
	}
	if len(distinct) <= o.MaxGroups {
		return nil
	}
	return refuse(http.StatusBadRequest, reason.GroupLimit, "The client would be in more groups than a connection may.")
}

// A pace bounds how many messages come in a second, with as many at once (the generic cell rate algorithm). A nil pace
// bounds nothing.
type pace struct {
	interval, burst time.Duration
	full            time.Duration // when the next message would be on time, on the server's clock
}

func newPace(perSecond int) *pace {
	if perSecond <= 0 {
		return nil
	}
	interval := max(time.Second/time.Duration(perSecond), 1)
	return &pace{interval: interval, burst: time.Second - interval}
}

// allows counts a message that comes now.
func (p *pace) allows(now time.Duration) bool {
	if p == nil {
		return true
	}
	p.full = max(p.full, now)
	if p.full-now > p.burst {
		return false
	}
	p.full += p.interval
	return true
}

// Counters count what happened to clients. The zero value counts from 0.
type Counters struct {
	mu    sync.Mutex // guards stats
	stats Stats
}

// Stats are what [Counters] have counted.
type Stats struct {
	// Connected clients, over sockets that were let in; recoveries are not counted.
	Connected uint64
	// Refused handshakes, and what was refused to clients that are connected, by reason. Refusals without a reason of
	// the catalogue, such as those of an event handler, are under the empty one.
	Refused map[reason.Code]uint64
}

func (c *Counters) accept() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Connected++
}

func (c *Counters) refuse(code reason.Code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stats.Refused == nil {
		c.stats.Refused = make(map[reason.Code]uint64)
	}
	c.stats.Refused[code]++
}

// Stats returns the counts as they are now.
func (c *Counters) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Refused = maps.Clone(s.Refused)
	return s
}
