package dataplane_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const publishPath = "/api/hubs/chat/groups/g/:send?api-version=2024-12-01"

// BenchmarkPublish is the handler alone: a request in memory, a group without members.
func BenchmarkPublish(b *testing.B) {
	s := newService(b)
	publish := s.publisher()
	b.ReportAllocs()
	for b.Loop() {
		publish()
	}
}

// BenchmarkPublishUntraced is the same without records: the difference is what the trace costs a publication.
func BenchmarkPublishUntraced(b *testing.B) {
	publish := newService(b).untraced().publisher()
	b.ReportAllocs()
	for b.Loop() {
		publish()
	}
}

// BenchmarkPublishToOneMember adds a member on a real socket, which has read each message before the next is sent.
func BenchmarkPublishToOneMember(b *testing.B) {
	s := newService(b)
	c := s.connect(who{groups: []string{"g"}})
	publish := s.publisher()
	buf := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		publish()
		if _, err := c.net.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPublishOverHTTP adds the HTTP server, on a kept connection.
func BenchmarkPublishOverHTTP(b *testing.B) {
	s := newService(b)
	c := s.connect(who{groups: []string{"g"}})
	host := strings.TrimPrefix(s.url, "http://")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	body := strings.Repeat("x", 128)
	text := "POST " + publishPath + " HTTP/1.1\r\nHost: " + host + "\r\nAuthorization: Bearer " + sign(primaryKey, s.url+publishPath) +
		"\r\nContent-Type: text/plain\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	in, buf := bufio.NewReader(conn), make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		io.WriteString(conn, text)
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != 202 {
			b.Fatal(resp, err)
		}
		if _, err := c.net.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}

// publisher returns a function that publishes 128 bytes to group g, with what SDKs send.
func (s *service) publisher() func() {
	payload := bytes.Repeat([]byte("x"), 128)
	body := bytes.NewReader(nil)
	r := httptest.NewRequest("POST", s.url+publishPath, io.NopCloser(body))
	r.ContentLength = int64(len(payload))
	r.Header.Set("Authorization", "Bearer "+sign(primaryKey, s.url+publishPath))
	r.Header.Set("Content-Type", "text/plain")
	w := &discard{header: http.Header{}}
	return func() {
		body.Reset(payload)
		clear(w.header)
		s.handler.ServeHTTP(w, r)
		if w.status != 202 {
			s.t.Fatal(w.status)
		}
	}
}

type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkTracedFanout publishes to 1000 members by turns with the trace and without it, so that both meet the same
// machine, and reports what the trace adds.
func BenchmarkTracedFanout(b *testing.B) {
	const members = 1000
	s := newService(b)
	var received atomic.Int64
	done := make(chan struct{}, 1)
	var target atomic.Int64
	frame := int64(2 + 2 + 128) // a text frame of 128 bytes has 4 bytes of header
	for range members {
		c := s.connect(who{groups: []string{"g"}, raw: true})
		go func() {
			buf := make([]byte, 4096)
			for {
				n, err := c.net.Read(buf)
				if err != nil {
					return
				}
				if received.Add(int64(n)) == target.Load() {
					done <- struct{}{}
				}
			}
		}()
	}
	var took [2]time.Duration
	publish := [2]func(){s.publisher(), s.untraced().publisher()}
	for b.Loop() {
		for i, p := range publish {
			target.Store(received.Load() + members*frame)
			start := time.Now()
			p()
			<-done
			took[i] += time.Since(start)
		}
	}
	b.ReportMetric(0, "ns/op") // a round is two publications
	b.ReportMetric(float64(took[0].Nanoseconds())/float64(b.N), "traced-ns/publication")
	b.ReportMetric(float64(took[1].Nanoseconds())/float64(b.N), "untraced-ns/publication")
	b.ReportMetric(100*(float64(took[0])/float64(took[1])-1), "%trace")
}
