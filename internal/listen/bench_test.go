package listen

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// briefRequest is a publication as an SDK sends it.
var briefRequest = "POST /api/hubs/chat/groups/g/:send?api-version=2024-12-01 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: azsdk-js-web-pubsub/1.2.0 core-rest-pipeline/1.22.0 Node/22.0.0 OS/x64-Linux\r\n" +
	"Content-Length: 128\r\nAuthorization: Bearer " + strings.Repeat("x", 240) + "\r\nContent-Type: text/plain\r\nAccept: application/json\r\n" +
	"x-ms-client-request-id: 0af76519-16cd-43dd-8448-eb211c80319c\r\nAccept-Encoding: gzip,deflate\r\nConnection: keep-alive\r\n\r\n"

func BenchmarkParse(b *testing.B) {
	s := New(Options{IsBrief: func(path string) bool { return strings.HasPrefix(path, "/api/") }})
	defer s.cancel()
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	buf := []byte(briefRequest)
	d := &dialogue{s: s, conn: server, stream: server, buf: &buf, lines: new(lines)}
	defer d.end()
	b.ReportAllocs()
	for b.Loop() {
		end, _ := d.readHead()
		if r, _ := d.parse(buf[:end]); r == nil {
			b.Fatal("not parsed")
		}
	}
}

// BenchmarkBrief is a request and its answer over a socket, from the client's side.
func BenchmarkBrief(b *testing.B) {
	for name, brief := range map[string]bool{"here": true, "net/http": false} {
		b.Run(name, func(b *testing.B) {
			s := serve(b, Options{IsBrief: func(string) bool { return brief }, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				w.WriteHeader(http.StatusAccepted)
			})})
			c := s.dial(b, false)
			request, answer := briefRequest+strings.Repeat("x", 128), make([]byte, 4096)
			b.ReportAllocs()
			for b.Loop() {
				io.WriteString(c, request)
				if _, err := c.Read(answer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
