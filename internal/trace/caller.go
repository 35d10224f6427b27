package trace

import (
	"net"
	"net/http"
	"strings"
)

// Caller is the address of a request's peer without its port.
func Caller(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

// ID is the trace id that a request's traceparent names (W3C Trace Context, version 00 and those that begin like it),
// or "".
func ID(h http.Header) string {
	const width = len("00-") + 32 + len("-") + 16 + len("-00")
	values := h["Traceparent"]
	if len(values) != 1 {
		return ""
	}
	v := values[0]
	if len(v) < width || len(v) > width && (v[:2] == "00" || v[width] != '-') || v[:2] == "ff" || v[2] != '-' || v[35] != '-' || v[52] != '-' {
		return ""
	}
	id, parent := v[3:35], v[36:52]
	if !isHex(v[:2]+id+parent+v[53:55]) || strings.Trim(id, "0") == "" || strings.Trim(parent, "0") == "" {
		return ""
	}
	return id
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
