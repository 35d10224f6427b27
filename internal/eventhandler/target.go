package eventhandler

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"

	"tabard/guard/reason"
	"tabard/internal/settings"
)

// A target is where an event of one name goes: a handler's template with its parameters filled in.
type target struct {
	url        *url.URL
	validation *url.URL // the same with {event} = validate (abuse protection)
	checkURL   string   // validation as text, the key of its outcome
	plain      bool     // http, not https
	loopback   bool     // the host is a loopback address or a name that is reserved for one
	values     []string // of the template's references, as they were read: another value makes another target
	secrets    []string // what was inserted of them, and the query's own values; for redaction alone

	eventName []string // header values
	eventType []string
}

const minQuerySecret = 8 // bytes of a query's value that is hidden where the handler repeats it

type targetKey struct {
	template   *settings.URLTemplate // a change of the settings makes another
	hub, event string
	user       bool
}

// targets remembers what templates were expanded to. Event names come from clients, so it is bounded: when it is full
// it is emptied, which also drops the templates of former settings.
type targets struct {
	mu sync.RWMutex
	m  map[targetKey]*target
}

func (c *targets) get(k targetKey) *target {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.m[k]
}

func (c *targets) put(k targetKey, t *target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.m) >= maxTargets {
		clear(c.m)
	}
	c.m[k] = t
}

// targetNamed is a target that only knows its event's name.
func targetNamed(event string, user bool) *target {
	t := &target{eventName: []string{event}, eventType: []string{"azure.webpubsub.sys." + event}}
	if user {
		t.eventType[0] = "azure.webpubsub.user." + event
	}
	return t
}

// resolve expands the handler's template for an event. Its secrets are asked for each time, since they may have changed,
// and each is read once for both URLs.
func (d *Dispatcher) resolve(ctx context.Context, in *settings.Instance, h *settings.EventHandler, hub, event string, user bool) (*target, *fault) {
	k := targetKey{h.Template(), hub, event, user}
	var few [4]string // more than that is rare, and an allocation
	values, f := d.readSecrets(ctx, in, k.template, few[:0])
	if f != nil {
		return nil, f
	}
	if t := d.targets.get(k); t != nil && slices.Equal(t.values, values) {
		return t, nil
	}
	t := targetNamed(event, user)
	t.values = slices.Clone(values)
	for _, v := range t.values {
		t.secrets = append(t.secrets, strings.TrimRight(v, "\r\n"))
	}
	var err error
	if t.url, err = expand(k.template, hub, event, t.values); err == nil {
		t.validation, err = expand(k.template, hub, "validate", t.values)
	}
	switch {
	case errors.Is(err, settings.ErrSecretUnusable):
		return nil, &fault{code: reason.SecretUnusable, err: err}
	case err != nil:
		return nil, &fault{code: reason.TemplateInvalid, err: err}
	}
	for _, list := range t.url.Query() {
		for _, v := range list { // many people keep a handler's key there; a short value says nothing
			if len(v) >= minQuerySecret && v != hub && v != event {
				t.secrets = append(t.secrets, v)
			}
		}
	}
	t.checkURL = t.validation.String()
	t.plain = !strings.EqualFold(t.url.Scheme, "https")
	t.loopback = loopbackHost(t.url.Hostname())
	d.targets.put(k, t)
	return t, nil
}

// readSecrets appends the values of the template's references to into, in their order.
func (d *Dispatcher) readSecrets(ctx context.Context, in *settings.Instance, template *settings.URLTemplate, into []string) ([]string, *fault) {
	for _, uri := range template.SecretURIs() {
		if d.opt.Secrets == nil {
			return nil, &fault{code: reason.SecretUnavailable, err: errors.New("no source of Key Vault secrets is configured")}
		}
		v, err := d.opt.Secrets(ctx, in, uri)
		if err != nil {
			f := &fault{code: reason.SecretUnavailable, err: err}
			if known, ok := errors.AsType[interface {
				error
				Reason() reason.Code
			}](err); ok {
				f.code = known.Reason()
			}
			return nil, f
		}
		into = append(into, v)
	}
	return into, nil
}

// expand fills the template in. Its errors do not quote the result, which may hold a secret.
func expand(template *settings.URLTemplate, hub, event string, values []string) (*url.URL, error) {
	next := 0
	text, err := template.Expand(hub, event, func(string) (string, error) { next++; return values[next-1], nil })
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("does not make an absolute http or https URL")
	}
	return u, nil
}

// loopbackHost tells whether a host is loopback by its spelling. What is dialled is judged again by egress.
func loopbackHost(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().IsLoopback()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
