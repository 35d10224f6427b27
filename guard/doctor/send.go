package doctor

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// An event is a user event as the service sends it (event-handlers.md 4).
type event struct {
	token, origin, connection, body string
}

func (x *examination) event(token string) event {
	return event{token: token, origin: x.opt.Origin, connection: "doctor-" + randomID(), body: "examined by tabard doctor"}
}

// send delivers an event once; nothing is repeated and no redirect followed.
func (x *examination) send(ctx context.Context, e event) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, x.handler, strings.NewReader(e.body))
	if err != nil {
		return answer{}, err
	}
	for name, value := range map[string]string{
		"WebHook-Request-Origin": e.origin, "Content-Type": "text/plain; charset=utf-8",
		"ce-specversion": "1.0", "ce-awpsversion": "1.0", "ce-type": "azure.webpubsub.user." + x.opt.Event, "ce-eventName": x.opt.Event,
		"ce-hub": x.opt.Hub, "ce-connectionId": e.connection, "ce-userId": "doctor", "ce-id": "1",
		"ce-source": "/hubs/" + x.opt.Hub + "/client/" + e.connection, "ce-time": time.Now().UTC().Format("2006-01-02T15:04:05Z"),
	} {
		r.Header.Set(name, value)
	}
	if x.opt.AccessKey != "" {
		h := hmac.New(sha256.New, []byte(x.opt.AccessKey))
		h.Write([]byte(e.connection))
		r.Header.Set("ce-signature", "sha256="+hex.EncodeToString(h.Sum(nil)))
	}
	if e.token != "" {
		r.Header.Set("Authorization", "Bearer "+e.token)
	}
	if len(e.body) > 1<<20 {
		r.Header.Set("Expect", "100-continue") // a handler that refuses need not take it all
	}
	return x.do(r)
}

// validate asks as a service does whether it may send events. An answer that does
// not allow the origin counts as a refusal.
func (x *examination) validate(ctx context.Context, origin string) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodOptions, x.handler, nil)
	if err != nil {
		return answer{}, err
	}
	r.Header.Set("WebHook-Request-Origin", origin)
	r.Header.Set("ce-awpsversion", "1.0")
	a, err := x.do(r)
	for _, allowed := range a.origins {
		if allowed == "*" || strings.EqualFold(allowed, origin) {
			return a, err
		}
	}
	a.denied = true
	return a, err
}

func (x *examination) do(r *http.Request) (answer, error) {
	res, err := x.opt.Client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 1<<20)) // all of it, so that the connection serves again
	var body struct{ Error struct{ Code string } }
	_ = json.Unmarshal(text, &body) // most answers are none of the guard's refusals
	return answer{
		code:      body.Error.Code,
		status:    res.StatusCode,
		challenge: res.Header.Get("WWW-Authenticate"),
		replayed:  res.Header.Get("Idempotent-Replayed") == "true",
		origins:   res.Header.Values("WebHook-Allowed-Origin"),
	}, nil
}

// An answer is what the handler made of one request.
type answer struct {
	status    int
	code      string // of a refusal in the guard's form
	challenge string
	replayed  bool     // it came from memory, the application was not called
	origins   []string // of a validation
	denied    bool     // a validation that does not allow the origin
	detail    string   // instead of what the answer says
}

// accepted reports whether the application was reached. A redirect, to a page to
// sign in on, is none; nor is a status of 500, which says only that something
// went wrong before or after that.
func (a answer) accepted() bool {
	return a.status >= 200 && a.status < 300 && !a.replayed && !a.denied
}

// reason is what the answer says about a refusal, in a few words.
func (a answer) reason() string {
	switch {
	case a.detail != "":
		return a.detail
	case a.replayed:
		return "answered from memory, the application was not called"
	case a.denied:
		return "the origin is not allowed"
	}
	_, rest, ok := strings.Cut(a.challenge, `error_description="`)
	if ok {
		rest, _, _ = strings.Cut(rest, `"`)
		return bounded(rest)
	}
	return bounded(orDefault(a.challenge, a.code))
}

func bounded(s string) string {
	if len(s) > 300 {
		return s[:300] + "..."
	}
	return s
}

func (a answer) String() string {
	if r := a.reason(); r != "" {
		return fmt.Sprintf("%d, %s", a.status, r)
	}
	return fmt.Sprint(a.status)
}
