package eventhandler

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
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
	secrets    []string // what was inserted; for redaction alone

	eventName []string // header values
	eventType []string
}

type targetKey struct {
	template   *settings.URLTemplate // a change of the settings makes another
	hub, event string
	user       bool
}

// targets remembers those that need no secret. Event names come from clients, so it is bounded: when it is full it
// is emptied, which also drops the templates of former settings.
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

// resolve expands the handler's template for an event.
func (d *Dispatcher) resolve(ctx context.Context, in *settings.Instance, h *settings.EventHandler, hub, event string, user bool) (*target, *fault) {
	k := targetKey{h.Template(), hub, event, user}
	if t := d.targets.get(k); t != nil {
		return t, nil
	}
	t := &target{eventName: []string{event}, eventType: []string{"azure.webpubsub.sys." + event}}
	if user {
		t.eventType[0] = "azure.webpubsub.user." + event
	}
	read := map[string]string{} // one reading of each secret for both URLs
	var unavailable error
	secret := func(uri string) (string, error) {
		if v, ok := read[uri]; ok {
			return v, nil
		}
		if d.opt.Secrets == nil {
			unavailable = errors.New("no source of Key Vault secrets is configured")
			return "", unavailable
		}
		v, err := d.opt.Secrets(ctx, in, uri)
		if err == nil && strings.TrimRight(v, "\r\n") == "" {
			err = errors.New("the secret is empty")
		}
		if err != nil {
			unavailable = err
			return "", err
		}
		read[uri] = v
		t.secrets = append(t.secrets, strings.TrimRight(v, "\r\n"))
		return v, nil
	}
	var err error
	if t.url, err = expand(k.template, hub, event, secret); err == nil {
		t.validation, err = expand(k.template, hub, "validate", secret)
	}
	switch {
	case unavailable != nil:
		return nil, &fault{code: reason.SecretUnavailable, err: unavailable}
	case err != nil:
		return nil, &fault{code: reason.TemplateInvalid, err: err}
	}
	t.checkURL = t.validation.String()
	t.plain = !strings.EqualFold(t.url.Scheme, "https")
	t.loopback = loopbackHost(t.url.Hostname())
	if len(read) == 0 {
		d.targets.put(k, t)
	}
	return t, nil
}

// expand fills the template in. Its errors do not quote the result, which may hold a secret.
func expand(template *settings.URLTemplate, hub, event string, secret func(string) (string, error)) (*url.URL, error) {
	text, err := template.Expand(hub, event, secret)
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
