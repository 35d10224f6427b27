package listen

import (
	"bytes"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// A head is read here if it is plain: if there is only one way to read it, and net/http reads it in the same. Whatever
// is odd about a request is net/http's to judge, so nothing is refused here.

// maxBrief bounds the bodies that are read here, in bytes; larger ones are left to net/http.
const maxBrief = 64 << 10

// requestLine takes the request line apart. It is not ok unless the method is one of REST's, the target a path of
// visible ASCII characters and the version HTTP/1.1.
func requestLine(head []byte) (method string, target, headers []byte, ok bool) {
	line, headers, _ := bytes.Cut(head, []byte("\r\n"))
	name, rest, _ := bytes.Cut(line, []byte(" "))
	target, version, _ := bytes.Cut(rest, []byte(" "))
	if string(version) != "HTTP/1.1" || len(target) == 0 || target[0] != '/' {
		return "", nil, nil, false
	}
	for _, c := range target {
		if c <= ' ' || c > '~' {
			return "", nil, nil, false
		}
	}
	for _, method := range methods {
		if string(name) == method {
			return method, target, headers, true
		}
	}
	return "", nil, nil, false
}

var methods = [...]string{http.MethodPost, http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete}

// parseTarget is url.ParseRequestURI, with a short way for paths that need no escapes. It is nil unless the escaped path
// of the URL is the target's.
func parseTarget(target string) *url.URL {
	path, query, found := strings.Cut(target, "?")
	for i := range len(path) {
		if !plainInPath[path[i]] {
			u, err := url.ParseRequestURI(target)
			if err != nil || u.EscapedPath() != path {
				return nil
			}
			return u
		}
	}
	return &url.URL{Path: path, RawQuery: query, ForceQuery: found && query == ""}
}

// plainInPath are the characters that url.URL leaves alone in a path.
var plainInPath = func() (plain [256]bool) {
	for c := range plain {
		plain[c] = c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("-_.~$&+,/:;=@", byte(c)) >= 0
	}
	return plain
}()

// What a connection remembers of a request.
const (
	maxLines = 16      // header lines
	maxLine  = 2 << 10 // bytes of one
)

// lines are the header lines of a connection's latest request; nil ones remember nothing. Clients repeat most of theirs
// with each request, and what was read once need not be read again.
type lines [maxLines]line

// A line is a header line and what it says. Nothing in it is changed once it was read.
type line struct {
	text   string // without its end
	key    string
	values []string // one
}

// headers reads the lines of a head after the first into r. It reports false if they are not plain.
func (seen *lines) headers(r *http.Request, head []byte) bool {
	n := bytes.Count(head, []byte("\n")) - 1 // the last one is empty
	r.Header = make(http.Header, max(n-1, 0))
	var once line
	for i := range n {
		end := bytes.IndexByte(head, '\n')
		text := head[:end-1]
		head = head[end+1:]
		l := &once
		remember := seen != nil && i < maxLines && len(text) <= maxLine
		if remember {
			l = &seen[i]
		}
		if !remember || l.key == "" || l.text != string(text) {
			if !l.read(text) {
				return false
			}
			if remember {
				l.text = string(text)
			}
		}
		if l.key == "Host" {
			if r.Host != "" {
				return false
			}
			r.Host = l.values[0]
			continue
		}
		r.Header[l.key] = l.values
	}
	h := r.Header
	if r.Host == "" || len(h) != n-1 { // a name that is there twice
		return false
	}
	if length, there := h["Content-Length"]; there {
		if r.ContentLength, there = briefLength(length[0]); !there {
			return false
		}
	}
	if p := h["Pragma"]; p != nil && p[0] == "no-cache" && h["Cache-Control"] == nil { // as net/http does
		h["Cache-Control"] = p
	}
	return true
}

// read reads a line, but does not keep its text. It reports false if it is not plain.
func (l *line) read(text []byte) bool {
	*l = line{}
	colon := bytes.IndexByte(text, ':')
	if colon <= 0 {
		return false
	}
	for _, c := range text[:colon] {
		if !httpguts.IsTokenRune(rune(c)) {
			return false
		}
	}
	for _, c := range text[colon:] {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	key := textproto.CanonicalMIMEHeaderKey(string(text[:colon]))
	value := string(bytes.Trim(text[colon+1:], " \t")) // a text of its own: who keeps it keeps nothing else alive
	switch key {
	case "Transfer-Encoding", "Trailer", "Expect":
		return false
	case "Host":
		if value == "" || !httpguts.ValidHostHeader(value) {
			return false
		}
	}
	*l = line{key: key, values: []string{value}}
	return true
}

// briefLength reads the length of a body that is read here.
func briefLength(text string) (n int64, ok bool) {
	if text == "" || len(text) > 5 {
		return 0, false
	}
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
		n = 10*n + int64(text[i]-'0')
	}
	return n, n <= maxBrief
}
