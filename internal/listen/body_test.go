package listen

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// Each chunk of a body has the timeout for itself, and after its end there is none.
func TestABodyHasTimeForEachMebibyte(t *testing.T) {
	for _, tc := range []struct {
		name      string
		size      int
		deadlines int // beside the last, which is none
	}{
		{"a byte", 1, 1},
		{"a byte less than a mebibyte", bodyChunk - 1, 1},
		{"a mebibyte", bodyChunk, 2},
		{"three and a bit", 3*bodyChunk + 1, 4},
	} {
		var set []time.Time
		b := &timedBody{ReadCloser: io.NopCloser(bytes.NewReader(make([]byte, tc.size))), timeout: time.Minute, deadline: func(at time.Time) error {
			set = append(set, at)
			return nil
		}}
		b.extend()
		if n, err := io.Copy(io.Discard, struct{ io.Reader }{b}); err != nil || n != int64(tc.size) {
			t.Errorf("%s: read %d, %v", tc.name, n, err)
		}
		if len(set) != tc.deadlines+1 || !set[len(set)-1].IsZero() {
			t.Errorf("%s: deadlines %v, want %d and then none", tc.name, set, tc.deadlines)
		}
		for _, at := range set[:len(set)-1] {
			if at.IsZero() {
				t.Errorf("%s: a deadline was lifted before the end", tc.name)
			}
		}
	}
}

// slowBody is a body whose end never comes.
type slowBody struct {
	first io.Reader
	ended <-chan struct{}
}

func (b *slowBody) Read(p []byte) (int, error) {
	if n, err := b.first.Read(p); err == nil {
		return n, nil
	}
	<-b.ended
	return 0, io.ErrUnexpectedEOF
}

func TestASlowBodyEndsTheReading(t *testing.T) {
	got := make(chan error, 1)
	s := serve(t, Options{BodyTimeout: 50 * time.Millisecond, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		got <- err
		w.WriteHeader(http.StatusRequestTimeout)
	})})
	for _, tc := range []struct {
		scheme string
		h2     bool
	}{{"http", false}, {"https", false}, {"https", true}} {
		t.Run(fmt.Sprint(tc.scheme, " h2=", tc.h2), func(t *testing.T) {
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.pool}, ForceAttemptHTTP2: tc.h2}
			defer transport.CloseIdleConnections()
			ended := make(chan struct{})
			defer close(ended)
			req, err := http.NewRequestWithContext(t.Context(), "POST", tc.scheme+"://"+s.addr+"/", &slowBody{strings.NewReader("half"), ended})
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = 8
			res, err := transport.RoundTrip(req)
			if err == nil {
				res.Body.Close()
				if res.StatusCode != http.StatusRequestTimeout {
					t.Errorf("status %d", res.StatusCode)
				}
			}
			if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the handler's reading ended with %v", err)
			}
		})
	}
}

// What a handler does not read, net/http skips before the next request: that may not take for ever either.
func TestABodyThatNobodyReadsIsNotWaitedFor(t *testing.T) {
	s := serve(t, Options{BodyTimeout: 50 * time.Millisecond, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {})})
	c := s.dial(t, false)
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf")
	closed(t, c)
}

// Answers may be long streams: the time for a body ends with the body.
func TestALongAnswerOutlivesTheTimeForItsBody(t *testing.T) {
	const timeout = 250 * time.Millisecond
	s := serve(t, Options{BodyTimeout: timeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("reading: %v", err)
		}
		w.WriteHeader(http.StatusOK)
		http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			t.Errorf("the request was given up: %v", context.Cause(r.Context()))
		case <-time.After(2 * timeout): // the deadline would have struck by now
		}
		fmt.Fprintf(w, "%s at last", body)
	})})
	for _, tc := range []struct {
		scheme, method, body string
		h2                   bool
	}{{"http", "POST", "text", false}, {"https", "POST", "text", false}, {"https", "POST", "text", true}, {"http", "GET", "", false}} {
		t.Run(fmt.Sprint(tc.scheme, " ", tc.method, " h2=", tc.h2), func(t *testing.T) {
			t.Parallel()
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.pool}, ForceAttemptHTTP2: tc.h2}
			defer transport.CloseIdleConnections()
			for range 2 { // the second on the same connection
				req, err := http.NewRequestWithContext(t.Context(), tc.method, tc.scheme+"://"+s.addr+"/", strings.NewReader(tc.body))
				if err != nil {
					t.Fatal(err)
				}
				res, err := transport.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				text, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || string(text) != tc.body+" at last" {
					t.Errorf("%q, %v", text, err)
				}
			}
		})
	}
}

// A refusal reaches a client that is still sending: a connection closed over unread bytes is reset.
func TestTheRefusalOfPlainHTTPReachesWhoSendsMuch(t *testing.T) {
	s := serve(t, Options{TLSOnly: true})
	for range 20 {
		c := s.dial(t, false)
		if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("x", 100_000)); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil || !strings.Contains(string(body), "use https://") {
			t.Fatalf("%q %v", body, err)
		}
		c.Close()
	}
}
