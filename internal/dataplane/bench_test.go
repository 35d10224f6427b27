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
	"syscall"
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

// BenchmarkTraced publishes by turns with the trace and without it, so that both meet the same machine, and reports the
// CPU of a publication and what the trace adds: to nobody, which is the trace's own cost, and to 1000 members.
func BenchmarkTraced(b *testing.B) {
	b.Run("to nobody", func(b *testing.B) { benchTraced(b, 0, 1000) })
	b.Run("fanout to 1000", func(b *testing.B) { benchTraced(b, 1000, 1) })
}

func benchTraced(b *testing.B, members, publications int) {
	s := newService(b)
	var received, target atomic.Int64
	done := make(chan struct{}, 1)
	const frame = 2 + 2 + 128 // a text frame of 128 bytes has 4 bytes of header
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
	var used [2]time.Duration
	publish := [2]func(){s.publisher(), s.untraced().publisher()}
	rounds := 0
	for b.Loop() {
		for i, p := range publish {
			target.Store(received.Load() + int64(members*frame))
			start := cpu()
			for range publications {
				p()
			}
			if members > 0 {
				<-done
			}
			used[i] += cpu() - start
		}
		rounds++
	}
	n := float64(rounds * publications)
	b.ReportMetric(0, "ns/op") // a round is several publications
	b.ReportMetric(float64(used[0])/n, "traced-cpu-ns/publication")
	b.ReportMetric(float64(used[1])/n, "untraced-cpu-ns/publication")
	b.ReportMetric(100*(float64(used[0])/float64(used[1])-1), "%trace")
}

// cpu is what the process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
