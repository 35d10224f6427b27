package eventhandler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"time"

	"tabard/guard/reason"
	"tabard/internal/egress"
)

// A request is what is sent, unchanged, at each attempt.
type request struct {
	method string
	url    *url.URL
	header http.Header
	body   []byte
	road   http.RoundTripper
	// each bounds one attempt; 0 leaves that to the context. An attempt that runs into it is not repeated.
	each time.Duration
	once bool // it is not repeated
	// keep is how many bytes of a successful answer's body are of interest; a longer one is a fault. 0: none are.
	keep int64
	dial *dial // of the latest attempt
}

// An answer is the end of an exchange: the status and headers of the last attempt.
type answer struct {
	status int
	header http.Header
	body   []byte // of a success as asked for; of a failure the beginning
}

func (a *answer) ok() bool { return a.status >= 200 && a.status <= 299 }

// call makes the request, repeating it after 408, 5xx and network failures (EMU: 1, 3, 5 s). It returns the last
// answer, if any attempt had one, and the number of attempts. An answer without success is a fault too.
func (d *Dispatcher) call(ctx context.Context, r *request) (*answer, int, *fault) {
	for n := 0; ; n++ {
		a, again, f := d.once(ctx, r)
		if f == nil || !again || r.once || n >= len(d.opt.RetryAfter) {
			return a, n + 1, f
		}
		if !pause(ctx, d.opt.RetryAfter[n]) {
			late := d.interrupted(ctx)
			late.status = f.status
			late.err = fmt.Errorf("%w; the latest attempt: %w", late.err, f.err)
			return a, n + 1, late
		}
	}
}

// pause waits, and tells whether it could wait to the end.
func pause(ctx context.Context, t time.Duration) bool {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// once makes one attempt and tells whether another may help.
func (d *Dispatcher) once(ctx context.Context, r *request) (_ *answer, again bool, _ *fault) {
	if r.each > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.each)
		defer cancel()
	}
	q, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, r.dial.watch()), r.method, "", nil)
	if err != nil {
		return nil, false, &fault{code: reason.TemplateInvalid, err: errors.New("makes no valid request")}
	}
	q.URL, q.Host, q.Header = r.url, r.url.Host, r.header
	if len(r.body) > 0 {
		q.ContentLength = int64(len(r.body))
		q.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(r.body)), nil }
		q.Body, _ = q.GetBody()
	}
	res, err := r.road.RoundTrip(q)
	if err != nil {
		if ctx.Err() != nil {
			return nil, false, d.interrupted(ctx)
		}
		return nil, !egress.Permanent(err), &fault{code: reason.Code(egress.Classify(err)), err: err}
	}
	defer res.Body.Close()
	a := &answer{status: res.StatusCode, header: res.Header}
	if !a.ok() {
		a.body, _ = io.ReadAll(io.LimitReader(res.Body, maxErrorBody)) // as much as comes
		return a, a.status == http.StatusRequestTimeout || a.status >= 500, statusFault(a.status)
	}
	if r.keep == 0 {
		_, _ = io.CopyN(io.Discard, res.Body, maxErrorBody) // so that the connection can be reused
		return a, false, nil
	}
	a.body, err = readBody(res, r.keep)
	switch {
	case errors.Is(err, errTooLarge):
		return a, false, &fault{code: reason.ResponseTooLarge, status: a.status, err: err}
	case err != nil && ctx.Err() != nil:
		f := d.interrupted(ctx)
		f.status = a.status
		return a, false, f
	case err != nil: // the handler did its work: not a network failure that is repeated
		return a, false, &fault{code: reason.Code(egress.Classify(err)), status: a.status, err: fmt.Errorf("the answer breaks off: %w", err)}
	}
	return a, false, nil
}

var errTooLarge = errors.New("the answer is larger than 16 MiB")

func readBody(res *http.Response, limit int64) ([]byte, error) {
	switch n := res.ContentLength; {
	case n > limit:
		return nil, errTooLarge
	case n == 0:
		return nil, nil
	case 0 < n && n <= 64<<10: // beyond, memory is taken as bytes come, whatever length is promised
		b := make([]byte, n)
		_, err := io.ReadFull(res.Body, b)
		return b, err
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if int64(len(b)) > limit {
		return nil, errTooLarge
	}
	return b, err
}

// statusFault says why an answer other than 2xx is a failure.
func statusFault(status int) *fault {
	f := &fault{code: reason.HandlerError, status: status, err: fmt.Errorf("got unexpected response with status code %d", status)}
	switch {
	case status == http.StatusUnauthorized:
		f.code = reason.HandlerUnauthorized
	case status == http.StatusForbidden:
		f.code = reason.HandlerForbidden
	case status >= 300 && status <= 399:
		f.code = reason.HandlerRedirect
	}
	return f
}

// interrupted says why ctx ended a delivery.
func (d *Dispatcher) interrupted(ctx context.Context) *fault {
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return &fault{code: reason.Timeout, err: ctx.Err()}
	case d.ctx.Err() != nil:
		return &fault{code: reason.Overloaded, err: ErrClosed}
	default:
		return &fault{code: reason.ClientGone, err: ctx.Err()}
	}
}
