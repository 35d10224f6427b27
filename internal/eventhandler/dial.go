package eventhandler

import (
	"crypto/tls"
	"net/http/httptrace"
	"strconv"
	"sync"
	"time"

	"tabard/guard/reason"
	"tabard/internal/trace"
)

// A dial is what becomes of the connection that a request needs: how long its name, its socket and its TLS session
// took. Transports dial on goroutines of their own, which may outlive the request; what comes late changes nothing.
type dial struct {
	mu     sync.Mutex // guards all
	begun  [3]time.Time
	took   [3]time.Duration
	detail [3]string
	used   bool // a request was about to be written
	reused bool // on a connection that was open
	over   bool
}

// The steps of a dial, in their order.
const (
	resolveStep = iota
	connectStep
	tlsStep
)

var stepNames = [3]string{"resolve", "connect", "tls"}

// watch returns the hooks that fill d in, for a new attempt.
func (d *dial) watch() *httptrace.ClientTrace {
	d.mu.Lock()
	d.begun, d.took, d.detail, d.used, d.reused = [3]time.Time{}, [3]time.Duration{}, [3]string{}, false, false
	d.mu.Unlock()
	return &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) { d.begin(resolveStep) },
		DNSDone: func(i httptrace.DNSDoneInfo) {
			d.end(resolveStep, i.Err, func() string { return strconv.Itoa(len(i.Addrs)) + " addresses" })
		},
		ConnectStart:      func(_, _ string) { d.begin(connectStep) },
		ConnectDone:       func(_, addr string, err error) { d.end(connectStep, err, func() string { return addr }) },
		TLSHandshakeStart: func() { d.begin(tlsStep) },
		TLSHandshakeDone: func(c tls.ConnectionState, err error) {
			d.end(tlsStep, err, func() string { return tls.VersionName(c.Version) + " " + c.NegotiatedProtocol })
		},
		GotConn: func(i httptrace.GotConnInfo) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.used, d.reused = true, i.Reused
		},
	}
}

func (d *dial) begin(step int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.over && d.begun[step].IsZero() { // of several addresses the first
		d.begun[step] = time.Now()
	}
}

func (d *dial) end(step int, err error, detail func() string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.over && err == nil {
		d.took[step], d.detail[step] = max(time.Since(d.begun[step]), 1), detail()
	}
}

// stages ends the dial and adds its steps to the journal, and then the call with what was left of the time. A fault is
// shown where it happened.
func (d *dial) stages(j *journal, f *fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	at := -1 // of the fault; -1: the call itself
	if f != nil && !d.used {
		switch f.code {
		case reason.DNSFailure:
			at = resolveStep
		case reason.TLSFailure:
			at = tlsStep
		case reason.ConnectFailure, reason.DestinationBlocked, reason.TokenOverPlainHTTP:
			at = connectStep
		case reason.Timeout:
			for step := range d.begun {
				if !d.begun[step].IsZero() && d.took[step] == 0 {
					at = step
				}
			}
		}
	}
	now := time.Now()
	if !d.reused {
		for step, name := range stepNames {
			switch {
			case step == at:
				from := d.begun[step]
				if from.IsZero() {
					from = j.mark
				}
				j.rec.Stages = append(j.rec.Stages, trace.Stage{Name: name, Outcome: trace.Failed, Duration: now.Sub(from), Detail: j.clean(f.text())})
				j.mark = now
				return
			case d.took[step] > 0:
				j.rec.Stages = append(j.rec.Stages, trace.Stage{Name: name, Outcome: trace.OK, Duration: d.took[step], Detail: d.detail[step]})
				j.mark = j.mark.Add(d.took[step])
			}
		}
	}
	j.stage("call", f, "")
}
