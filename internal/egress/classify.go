package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
)

// A Failure is the class of an error of a transport. The texts are reason codes of the shared catalogue.
type Failure string

// The classes.
const (
	DestinationBlocked Failure = "destination_blocked"
	TokenOverPlainHTTP Failure = "token_over_plain_http" // the loopback transport met another address
	DNSFailure         Failure = "dns_failure"
	TLSFailure         Failure = "tls_failure"
	Timeout            Failure = "timeout"
	ConnectFailure     Failure = "connect_failure" // everything else: refused, unreachable, reset, cut off
)

// Classify says what kind of failure err, an error of RoundTrip or of reading an answer, is. A connection that
// takes too long to establish is a ConnectFailure; Timeout means the request's own deadline.
func Classify(err error) Failure {
	if blocked, ok := errors.AsType[*BlockedError](err); ok {
		if blocked.Rule == NotLoopback {
			return TokenOverPlainHTTP
		}
		return DestinationBlocked
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return DNSFailure
	}
	if isTLS(err) {
		return TLSFailure
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return ConnectFailure
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return Timeout
	}
	return ConnectFailure
}

// Permanent tells whether repeating the call within seconds cannot help: the policy or a certificate decided, or
// the destination does not speak TLS.
func Permanent(err error) bool {
	if _, ok := errors.AsType[*BlockedError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	// net/http puts its own words in place of that error when the destination answers with HTTP.
	if strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		return true
	}
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	return ok
}

func isTLS(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	// crypto/tls and net/http make their other handshake errors by text alone.
	text := err.Error()
	return strings.Contains(text, "tls: ") || strings.Contains(text, "server gave HTTP response to HTTPS client") || strings.Contains(text, "TLS handshake timeout")
}
