// Package apply makes a service be what files of resources say.
//
// Whoever keeps resources in files wants to apply them as often as he likes: what is as it should be is not written
// again, what differs is shown before it is changed, and each fault names the resource, its file and its line. [Run]
// puts the resources in an order in which each finds what it needs, reads each one from the service, compares, and
// writes what differs. [Export] is the way back.
//
// Both speak to the service as any other client does, through its control plane, its directory and its vaults; how a
// request gets there is the caller's business. What the files say is package template's.
package apply

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
)

// A Service takes requests. An error means that no answer came; a refusal is an answer.
type Service interface {
	Do(ctx context.Context, r Request) (*Response, error)
}

// A Request to the admin address.
type Request struct {
	Method, Path string // escaped
	Query        url.Values
	Vault        string // the vault whose secrets it is about; empty otherwise
	Body         any    // becomes JSON unless nil
}

// A Response of any status.
type Response struct {
	Status   int
	Body     []byte
	Warnings []string
}

// A RefusedError is an answer that says no.
type RefusedError struct {
	Status        int
	Code, Message string
}

func (e *RefusedError) Error() string { return e.Message }

// refusal reads an error's envelope. ARM's, the directory's and the vaults' have the same.
func refusal(r *Response) error {
	var envelope struct {
		Error struct {
			Code, Message string
			Details       []struct{ Target, Message string }
		}
	}
	_ = json.Unmarshal(r.Body, &envelope) // what is no envelope has no message
	e := &RefusedError{r.Status, envelope.Error.Code, envelope.Error.Message}
	if e.Message == "" {
		e.Message = fmt.Sprintf("the service answered %d %s", r.Status, http.StatusText(r.Status))
	}
	return e
}

// api-versions that are asked for when a resource names none, by namespace in lower case.
var versions = map[string]string{
	"microsoft.signalrservice": "2024-03-01", "microsoft.managedidentity": "2023-01-31", "microsoft.keyvault": "2024-11-01",
	"microsoft.authorization": "2022-04-01", "microsoft.resources": "2022-12-01",
}

const secretsVersion = "2026-04-01"

// versionFor is the api-version for an id.
func versionFor(id, given string) url.Values {
	if given == "" {
		_, rest, _ := cutLast(id, "/providers/")
		namespace, _, _ := strings.Cut(rest, "/")
		if given = versions[strings.ToLower(namespace)]; given == "" {
			given = versions["microsoft.resources"]
		}
	}
	return url.Values{"api-version": {given}}
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(strings.ToLower(s), sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// escape makes a path of an id.
func escape(id string) string { return (&url.URL{Path: id}).EscapedPath() }

// A client asks a service and reads its answers.
type client struct{ Service }

// object asks for an object; nil if there is none. Numbers become int64 where they are whole.
func (c client) object(ctx context.Context, r Request) (map[string]any, error) {
	resp, err := c.Do(ctx, r)
	if err != nil {
		return nil, err
	}
	if resp.Status == http.StatusNotFound {
		return nil, nil
	}
	if resp.Status >= 300 {
		return nil, refusal(resp)
	}
	return decode(resp.Body)
}

// send makes a change and returns the answer's warnings.
func (c client) send(ctx context.Context, r Request) (*Response, error) {
	resp, err := c.Do(ctx, r)
	if err != nil {
		return nil, err
	}
	if resp.Status >= 300 {
		return nil, refusal(resp)
	}
	return resp, nil
}

// list asks for all pages of a list.
func (c client) list(ctx context.Context, r Request) (all []map[string]any, err error) {
	const maxPages = 1000
	for range maxPages {
		page, err := c.object(ctx, r)
		if err != nil {
			return nil, err
		}
		value, _ := page["value"].([]any)
		for _, v := range value {
			if o, ok := v.(map[string]any); ok {
				all = append(all, o)
			}
		}
		next, _ := page["nextLink"].(string)
		if more, ok := page["@odata.nextLink"].(string); ok {
			next = more
		}
		if next == "" {
			return all, nil
		}
		u, err := url.Parse(next)
		if err != nil {
			return nil, err
		}
		r.Path, r.Query = u.EscapedPath(), u.Query() // of the same service, whatever host the link names
	}
	return nil, errors.New("a list of the service has no end")
}

func decode(text []byte) (map[string]any, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return map[string]any{}, nil
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var o map[string]any
	if err := dec.Decode(&o); err != nil {
		return nil, errors.New("the service answered something that is not its API")
	}
	return whole(o).(map[string]any), nil
}

// whole makes numbers what package template makes of them.
func whole(v any) any {
	switch v := v.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i
		}
		f, _ := v.Float64()
		return f
	case []any:
		for i := range v {
			v[i] = whole(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = whole(v[name])
		}
	}
	return v
}

// state is the service as template's expressions see it.
type state struct{ client }

func (s state) Resource(ctx context.Context, id, version string) (map[string]any, error) {
	return s.object(ctx, Request{Method: http.MethodGet, Path: escape(id), Query: versionFor(id, version)})
}

func (s state) List(ctx context.Context, id, action, version string) (map[string]any, error) {
	return s.object(ctx, Request{Method: http.MethodPost, Path: escape(id) + "/" + url.PathEscape(action), Query: versionFor(id, version)})
}

// get finds a member ignoring case.
func get(o map[string]any, name string) any {
	if v, ok := o[name]; ok {
		return v
	}
	for n, v := range o {
		if strings.EqualFold(n, name) {
			return v
		}
	}
	return nil
}

// drop removes a member ignoring case.
func drop(o map[string]any, name string) {
	maps.DeleteFunc(o, func(n string, _ any) bool { return strings.EqualFold(n, name) })
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func object(v any) map[string]any {
	o, _ := v.(map[string]any)
	return o
}

func items(v any) []any {
	l, _ := v.([]any)
	return l
}
