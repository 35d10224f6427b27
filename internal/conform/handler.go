package conform

import (
	"io"
	"net/http"
	"sync"
)

// A Handler answers the events of clients as the lines need it: serve it where the hub's settings send all user
// events of the hub (event pattern *, no system events). By the event's name:
//
//	echo      200 with the event's own data and content type
//	fail      500
//	once      400 for the first event of a connection, then as echo
//	message   as echo; what simple clients send
//	others    204
type Handler struct {
	mu   sync.Mutex             // guards seen
	seen map[string][]userEvent // by connection id, the last of them
}

type userEvent struct{ name, contentType, body string }

// Bounds of what a handler keeps.
const (
	maxEvent       = 1 << 20
	maxConnections = 1000
	maxPerConn     = 16
)

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("WebHook-Allowed-Origin", "*")
	if r.Method != http.MethodPost {
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEvent))
	if err != nil {
		http.Error(w, "the event cannot be read", http.StatusBadRequest)
		return
	}
	e := userEvent{r.Header.Get("Ce-Eventname"), r.Header.Get("Content-Type"), string(body)}
	earlier := h.note(r.Header.Get("Ce-Connectionid"), e)
	switch {
	case e.name == "fail":
		http.Error(w, "as the checklist wants it", http.StatusInternalServerError)
	case e.name == "once" && earlier == 0: // which no service repeats by itself
		http.Error(w, "as the checklist wants it", http.StatusBadRequest)
	case e.name == "echo", e.name == "once", e.name == "message":
		w.Header().Set("Content-Type", e.contentType)
		_, _ = w.Write(body) // a service that hung up gets no answer
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// note remembers an event and returns how many of the connection there were before.
func (h *Handler) note(connection string, e userEvent) (earlier int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seen == nil || len(h.seen) > maxConnections {
		h.seen = make(map[string][]userEvent)
	}
	list := h.seen[connection]
	if len(list) < maxPerConn {
		h.seen[connection] = append(list, e)
	}
	return len(list)
}

// find returns the event whose data is body.
func (h *Handler) find(body string) (userEvent, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, list := range h.seen {
		for _, e := range list {
			if e.body == body {
				return e, true
			}
		}
	}
	return userEvent{}, false
}
