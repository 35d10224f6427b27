package apply

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// secretKind is a secret of a vault, in ARM's form of one: properties.value, attributes and contentType, tags. Its value
// should come from elsewhere: properties.valueFrom.
type secretKind struct {
	armKind
	keep bool // what is stored, since there is no value
	open bool // the value stands in the file
}

const secretsSegment = "/secrets/"

func (k *secretKind) request(method string) Request {
	id, name, _ := cutLast(k.res.ID, secretsSegment)
	return Request{Method: method, Path: secretsSegment + url.PathEscape(name), Query: url.Values{"api-version": {secretsVersion}}, Vault: id[strings.LastIndexByte(id, '/')+1:]}
}

func (k *secretKind) prepare(_ context.Context, body map[string]any) (map[string]any, error) {
	p := object(get(body, "properties"))
	from := object(get(p, "valueFrom"))
	if inner := object(get(p, "value")); inner != nil {
		from = object(get(inner, "valueFrom"))
	}
	out := map[string]any{}
	switch value, given := get(p, "value").(string); {
	case from != nil && given:
		return nil, errors.New("properties: give value or valueFrom, not both")
	case from != nil:
		v, there, err := k.valueFrom(from)
		if err != nil {
			return nil, err
		}
		keep, _ := get(from, "keepExisting").(bool)
		if !there && !keep {
			return nil, fmt.Errorf("valueFrom: %s", missing(from))
		}
		if k.keep = !there; there {
			out["value"] = v
		}
	case given:
		k.open = k.res.Literal("properties", "value")
		out["value"] = secret(value)
	default:
		if get(p, "value") != nil { // not known yet, or something else
			out["value"] = get(p, "value")
			break
		}
		return nil, errors.New("properties.valueFrom is required: {env: NAME} or {file: NAME}")
	}
	out["contentType"] = text(get(p, "contentType"))
	tags := object(get(body, "tags"))
	if tags == nil {
		tags = map[string]any{}
	}
	out["tags"] = tags
	attributes := map[string]any{"enabled": true}
	for name, v := range object(get(p, "attributes")) {
		switch n := strings.ToLower(name); n {
		case "enabled", "nbf", "exp":
			attributes[n] = v
		case "created", "updated": // only told
		default:
			return nil, fmt.Errorf("properties.attributes: %q is none of enabled, nbf and exp", name)
		}
	}
	out["attributes"] = attributes
	return out, nil
}

func (k *secretKind) read(ctx context.Context) (map[string]any, error) {
	resp, err := k.client.Do(ctx, k.request(http.MethodGet))
	if err != nil {
		return nil, err
	}
	switch {
	case resp.Status == http.StatusNotFound:
		if k.keep {
			return nil, errors.New("properties.valueFrom: there is no value, and nothing stored that could be kept")
		}
		return nil, nil
	case resp.Status == http.StatusForbidden && strings.Contains(string(resp.Body), "SecretDisabled"):
		// Its value cannot be read: it is written again if it shall be enabled, and else left.
		return map[string]any{"attributes": map[string]any{"enabled": false}, "value": hidden}, nil
	case resp.Status >= 300:
		return nil, refusal(resp)
	}
	return decode(resp.Body)
}

func (k *secretKind) compare(wanted, current map[string]any) []Difference {
	var found []Difference
	differ := func(path string, before, after any) {
		found = append(found, Difference{path, before, after})
	}
	disabled := current != nil && at(current, "attributes.enabled") == false
	if value, ok := wanted["value"]; ok && !(disabled && at(wanted, "attributes.enabled") == false) {
		s, known := value.(secret)
		if !known || current == nil || string(s) != text(get(current, "value")) {
			before := any(nil)
			if current != nil {
				before = hidden
			}
			differ("properties.value", before, shown("value", value))
		}
	}
	if disabled && get(current, "id") == nil { // nothing else is known of it
		if at(wanted, "attributes.enabled") != false {
			differ("properties.attributes.enabled", false, true)
		}
		return found
	}
	if a, b := text(get(wanted, "contentType")), text(get(current, "contentType")); a != b {
		differ("properties.contentType", b, a)
	}
	for _, name := range []string{"enabled", "nbf", "exp"} {
		a, b := at(wanted, "attributes."+name), at(current, "attributes."+name)
		if a != nil && fmt.Sprint(a) != fmt.Sprint(b) && current != nil {
			differ("properties.attributes."+name, b, a)
		}
	}
	c := &comparison{}
	c.value("tags", wanted["tags"], get(current, "tags"))
	return append(found, c.found...)
}

// write makes a new version for a new value; what else changes is changed in the newest one.
func (k *secretKind) write(ctx context.Context, wanted, current map[string]any) ([]string, error) {
	request := k.request(http.MethodPut)
	s, given := wanted["value"].(secret)
	if !given || current != nil && string(s) == text(get(current, "value")) {
		request.Method = http.MethodPatch
		request.Path += "/"
		delete(wanted, "value")
	}
	request.Body = wanted
	_, err := k.client.send(ctx, request)
	var refused *RefusedError
	if errors.As(err, &refused) && refused.Status == http.StatusConflict {
		refused.Message += " (`tabard secret recover` or `tabard secret purge`)"
	}
	if err == nil && k.open {
		return []string{"the value stands in the file: properties.valueFrom takes it from the environment or from a file of its own"}, nil
	}
	return nil, err
}

func (k *secretKind) place(context.Context) (path, vault string, err error) {
	r := k.request("")
	return r.Path, r.Vault, nil
}
