package trace

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// MaxContent bounds the body of a kept event in bytes; a larger one is not kept.
const MaxContent = 64 << 10

// A Content is what was sent to a handler, without what proves who sent it: no token, no signature, no cookie. It is
// immutable. Its JSON has the body as base64.
type Content struct {
	User        bool        `json:"userEvent"` // a user event, not a system event
	Blocking    bool        `json:"blocking"`
	Time        time.Time   `json:"time"` // ce-time
	ContentType string      `json:"contentType"`
	Subprotocol string      `json:"subprotocol,omitempty"`
	State       string      `json:"connectionState,omitempty"`
	Metadata    [][2]string `json:"metadata,omitempty"`
	Body        []byte      `json:"body"`
	// Header is what the request carries, for those who look at it; set when it is shown.
	Header http.Header `json:"headers,omitempty"`
}

// Content returns what was sent, or nil if it is not kept (any more).
func (r *Record) Content() *Content {
	if r.slot == nil {
		return nil
	}
	return r.slot.content.Load()
}

// A slot is where a content is until it has to give way.
type slot struct {
	instance string
	size     int
	content  atomic.Pointer[Content]
}

// contents bounds what is kept, over all instances.
type contents struct {
	limit int

	mu    sync.Mutex // guards the following
	used  int
	queue []*slot // oldest first
}

const slotOverhead = 512 // bytes, about, beside what a client chooses the length of

func (c *contents) keep(instance string, what *Content) *slot {
	s := &slot{instance: instance, size: slotOverhead + len(what.Body) + len(what.State)}
	for i := range what.Metadata {
		s.size += int(unsafe.Sizeof(what.Metadata[i])) + len(what.Metadata[i][0]) + len(what.Metadata[i][1])
	}
	if len(what.Body) > MaxContent || s.size > c.limit {
		return nil
	}
	s.content.Store(what)
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.used+s.size > c.limit {
		old := c.queue[0]
		c.queue[0] = nil
		c.queue = c.queue[1:]
		c.used -= old.size
		old.content.Store(nil)
	}
	c.used += s.size
	c.queue = append(c.queue, s)
	return s
}

func (c *contents) forget(instance string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.queue {
		if s.instance == instance {
			s.content.Store(nil)
		}
	}
}
