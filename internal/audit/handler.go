package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"

	"github.com/google/uuid"
)

// A Request is what the service knows of a request without its route's help.
type Request struct {
	Caller              Caller
	Operation, Resource string
}

// An Entry is the record of a request on its way. A nil Entry, of a request that is not recorded, takes everything and
// keeps nothing.
type Entry struct {
	before []byte
	after  []byte
}

type entryKey struct{}

// From returns the record of the request whose context it is.
func From(ctx context.Context) *Entry {
	e, _ := ctx.Value(entryKey{}).(*Entry)
	return e
}

// Before says what the resource was, as the JSON object that its GET answers. Its secrets are elided.
func (e *Entry) Before(doc any) {
	if e != nil && doc != nil {
		e.before, _ = json.Marshal(doc)
	}
}

// After says what the resource is now, where the answer to the request does not.
func (e *Entry) After(doc any) {
	if e != nil && doc != nil {
		e.after, _ = json.Marshal(doc)
	}
}

// Handler records requests to next that change something. describe tells about a request before it is served; nil for
// one that changes nothing. GET, HEAD and OPTIONS are not even described.
func (l *Log) Handler(next http.Handler, describe func(*http.Request) *Request) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodGet, http.MethodHead, http.MethodOptions:
			next.ServeHTTP(w, r)
			return
		}
		about := describe(r)
		if about == nil {
			next.ServeHTTP(w, r)
			return
		}
		entry := &Entry{}
		a := &answer{ResponseWriter: w, log: l, r: r, about: about, entry: entry}
		defer a.broken()
		next.ServeHTTP(a, r.WithContext(context.WithValue(r.Context(), entryKey{}, entry)))
		a.commit()
	})
}

// maxHeld is how much of an answer is held back until the record is written; a longer one, or one that is flushed, is a
// stream, and recorded when it begins.
const maxHeld = 1 << 20

// An answer holds back what the handler answers until the record of it is on disk.
type answer struct {
	http.ResponseWriter
	log       *Log
	r         *http.Request
	about     *Request
	entry     *Entry
	status    int
	body      bytes.Buffer
	committed bool
}

func (a *answer) WriteHeader(status int) {
	if status >= 100 && status < 200 { // not yet the answer
		a.ResponseWriter.WriteHeader(status)
		return
	}
	if a.status == 0 {
		a.status = status
	}
}

func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	if !a.committed && a.body.Len()+len(b) <= maxHeld {
		return a.body.Write(b)
	}
	a.commit()
	return a.ResponseWriter.Write(b)
}

// FlushError makes http.ResponseController flush through here.
func (a *answer) FlushError() error {
	a.commit()
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// Flush is FlushError for those who look for http.Flusher.
func (a *answer) Flush() { _ = a.FlushError() }

// Unwrap serves http.ResponseController's other wishes.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// commit records, then sends what was held back. A change that is made cannot be taken back because its record cannot
// be written; the log then says so.
func (a *answer) commit() {
	if a.committed {
		return
	}
	a.committed = true
	if a.status == 0 {
		a.status = http.StatusOK
	}
	a.write()
	a.ResponseWriter.WriteHeader(a.status)
	_, _ = a.ResponseWriter.Write(a.body.Bytes()) // a client that has gone is no one's error
	a.body.Reset()
}

// write writes the record.
func (a *answer) write() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.r.Context()), appendTimeout)
	defer cancel()
	rec := a.record()
	if err := a.log.add(ctx, rec); err != nil {
		a.log.opt.Log.ErrorContext(ctx, "a change has no record", "operation", rec.Operation, "resource", rec.Resource, "status", rec.Status, "error", err)
	}
}

// broken records a request whose handler did not come to its end; there is no answer then.
func (a *answer) broken() {
	if a.committed {
		return
	}
	a.committed, a.status = true, http.StatusInternalServerError
	a.body.Reset()
	a.write()
}

func (a *answer) record() *Record {
	h, r := a.Header(), a.r
	rec := &Record{
		Caller: a.about.Caller, Operation: a.about.Operation, Resource: a.about.Resource, Status: a.status,
		Method: r.Method, Path: r.URL.EscapedPath(), Address: host(r.RemoteAddr),
		RequestID: h.Get("X-Ms-Request-Id"), CorrelationID: h.Get("X-Ms-Correlation-Request-Id"), ClientID: r.Header.Get("X-Ms-Client-Request-Id"),
	}
	if rec.CorrelationID == "" {
		rec.CorrelationID = r.Header.Get("X-Ms-Correlation-Request-Id")
	}
	if rec.CorrelationID == "" {
		rec.CorrelationID = uuid.NewString()
	}
	if a.status >= 400 {
		var e struct{ Error struct{ Code string } }
		_ = json.Unmarshal(a.body.Bytes(), &e) // an answer that is none of ours has no code
		rec.Code = e.Error.Code
		return rec
	}
	rec.Before = elide(a.entry.before)
	after := a.entry.after
	// The answer to an action is not what the resource is, and may be a secret whose members nobody foresaw.
	if after == nil && (r.Method == http.MethodPut || r.Method == http.MethodPatch || a.status == http.StatusCreated) {
		after = a.body.Bytes()
	}
	rec.After = elide(after)
	return rec
}

func host(address string) string {
	if h, _, err := net.SplitHostPort(address); err == nil {
		return h
	}
	return address
}
