package eventhandler

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
)

// Bounds of one connection's cookies: what browsers keep for a site, or less.
const (
	maxCookies     = 64
	maxCookieBytes = 16 << 10
)

// A jar keeps the cookies that handlers set on one connection, which is how a load balancer in front of them
// recognises it. A nil jar is empty. When a bound is reached the jar is emptied and begins again: affinity is lost
// once, memory is not.
type jar struct {
	mu    sync.Mutex // guards all
	jar   *cookiejar.Jar
	sizes map[string]int // bytes of each, by name, domain and path
	bytes int            // of all
}

// header is the value of Cookie for a request to u, or "".
func (j *jar) header(u *url.URL) string {
	if j == nil {
		return ""
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.jar == nil {
		return ""
	}
	var r http.Request
	r.Header = make(http.Header)
	for _, c := range j.jar.Cookies(u) {
		r.AddCookie(c)
	}
	return r.Header.Get("Cookie")
}

// store keeps the cookies of an answer from u and returns how many lines were no cookies.
func (j *jar) store(u *url.URL, lines []string) (invalid int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, line := range lines {
		c, err := http.ParseSetCookie(line)
		if err != nil || len(line) > maxCookieBytes {
			invalid++
			continue
		}
		key := c.Name + "\x00" + strings.ToLower(c.Domain) + "\x00" + c.Path
		_, known := j.sizes[key]
		total := j.bytes - j.sizes[key] + len(line)
		if j.jar == nil || !known && len(j.sizes) >= maxCookies || total > maxCookieBytes {
			j.jar, _ = cookiejar.New(nil) // fails never
			j.sizes, total = make(map[string]int), len(line)
		}
		j.sizes[key], j.bytes = len(line), total
		j.jar.SetCookies(u, []*http.Cookie{c})
	}
	return invalid
}
