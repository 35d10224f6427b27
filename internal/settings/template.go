package settings

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// A URLTemplate is a parsed event handler address. Parameters are {hub}, {event} and Key Vault references
// {@Microsoft.KeyVault(SecretUri=<uri>)}; their names ignore case. None may stand in the scheme or the host, so
// that neither an event's name nor a secret can choose where a request goes.
type URLTemplate struct {
	text     string
	redacted string
	parts    []part
	secrets  []string // URIs of the references, in order
	encode   bool     // secrets are inserted percent-encoded
}

type part struct {
	kind partKind
	text string // a literal, or the secret's URI
}

type partKind uint8

const (
	literal partKind = iota
	hubParam
	eventParam
	secretParam
)

const (
	secretPrefix   = "@microsoft.keyvault(secreturi="
	secretSuffix   = ")}"
	secretExample  = "{@Microsoft.KeyVault(SecretUri=https://<vault>/secrets/<name>)}"
	maxURLTemplate = 8 << 10 // bytes
)

// ParseURLTemplate checks a template and splits it into parts. The error says what is wrong and where.
func ParseURLTemplate(text string) (*URLTemplate, error) {
	switch {
	case text == "":
		return nil, errors.New("is required")
	case len(text) > maxURLTemplate:
		return nil, fmt.Errorf("is longer than %d bytes", maxURLTemplate)
	}
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
		return nil, errors.New("must be an absolute http or https URL")
	}
	authority := len(scheme) + len("://") // offset where the path, query or fragment begins
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority += i
	} else {
		authority = len(text)
	}
	t := &URLTemplate{text: text, redacted: redact(text)}
	for at := 0; at < len(text); {
		i := strings.IndexAny(text[at:], "{}")
		if i < 0 {
			t.literal(text[at:])
			break
		}
		t.literal(text[at : at+i])
		at += i
		if at < authority {
			return nil, errors.New("parameters and braces are not allowed in the scheme or the host")
		}
		p, width, err := parseParameter(text[at:])
		if err != nil {
			return nil, err
		}
		t.parts = append(t.parts, p)
		if p.kind == secretParam {
			t.secrets = append(t.secrets, p.text)
		}
		at += width
	}
	for _, p := range t.parts {
		if p.kind == literal && strings.Contains(strings.ToLower(p.text), "@microsoft.keyvault(") {
			return nil, errors.New("a Key Vault reference needs braces around it: " + secretExample)
		}
	}
	if _, err := t.Expand("hub", "event", func(string) (string, error) { return "secret", nil }); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *URLTemplate) literal(s string) {
	if s != "" {
		t.parts = append(t.parts, part{literal, s})
	}
}

// parseParameter reads the parameter that s begins with and returns its width in bytes.
func parseParameter(s string) (part, int, error) {
	if s[0] == '}' {
		return part{}, 0, errors.New(`has a "}" without a "{"; percent-encode a literal brace as %7D`)
	}
	lower := strings.ToLower(s)
	if strings.HasPrefix(lower[1:], secretPrefix) {
		end := strings.Index(s, secretSuffix)
		if end < 0 {
			return part{}, 0, errors.New("has a Key Vault reference that does not end; write " + secretExample)
		}
		uri := strings.TrimSpace(s[1+len(secretPrefix) : end])
		if _, err := ParseSecretURI(uri); err != nil {
			return part{}, 0, fmt.Errorf("has a Key Vault reference to %.300q, which %w; write %s", uri, err, secretExample)
		}
		return part{secretParam, uri}, end + len(secretSuffix), nil
	}
	end := strings.IndexByte(s, '}')
	if end < 0 {
		return part{}, 0, errors.New(`has a "{" without a "}"; percent-encode a literal brace as %7B`)
	}
	switch name := lower[1:end]; name {
	case "hub":
		return part{kind: hubParam}, end + 1, nil
	case "event":
		return part{kind: eventParam}, end + 1, nil
	default:
		return part{}, 0, fmt.Errorf("has an unknown parameter %q; known are {hub}, {event} and %s", s[:end+1], secretExample)
	}
}

// String is the template as configured. It is what logs and answers show; an expanded URL never is.
func (t *URLTemplate) String() string { return t.text }

// Redacted is the template for logs and traces: the values of its query are hidden but for parameters, since many
// people keep a handler's key there.
func (t *URLTemplate) Redacted() string { return t.redacted }

func redact(text string) string {
	path, query, found := strings.Cut(text, "?")
	if !found {
		return text
	}
	components := strings.Split(query, "&")
	for i, c := range components {
		name, value, ok := strings.Cut(c, "=")
		switch {
		case ok:
			components[i] = name + "=" + hide(value)
		default:
			components[i] = hide(c)
		}
	}
	return path + "?" + strings.Join(components, "&")
}

// hide leaves only the parameters of a text.
func hide(text string) string {
	var b strings.Builder
	for text != "" {
		i := strings.IndexByte(text, '{')
		if i != 0 {
			b.WriteString("…")
		}
		if i < 0 {
			break
		}
		_, width, err := parseParameter(text[i:])
		if err != nil { // not possible in a parsed template, whose parameters hold no "&"
			return "…"
		}
		b.WriteString(text[i : i+width])
		text = text[i+width:]
	}
	return b.String()
}

// SecretURIs lists the Key Vault references as written, in order, repeats included. It is shared: not to be changed.
func (t *URLTemplate) SecretURIs() []string { return t.secrets }

// Expand fills the parameters in: hub and event percent-encoded as one URI component, secrets raw but for their
// trailing line ends, or encoded like the others if the hub says so. Whatever is filled in is not looked through for
// parameters. It calls secret once per reference and fails with its error, or with one that wraps [ErrSecretUnusable];
// the result is an absolute URL at the template's own host, or an error that does not contain it.
func (t *URLTemplate) Expand(hub, event string, secret func(uri string) (string, error)) (string, error) {
	var b strings.Builder
	b.Grow(len(t.text) + len(hub) + len(event))
	for _, p := range t.parts {
		switch p.kind {
		case literal:
			b.WriteString(p.text)
		case hubParam:
			escape(&b, hub)
		case eventParam:
			escape(&b, event)
		case secretParam:
			v, err := secret(p.text)
			if err != nil {
				return "", err
			}
			v = strings.TrimRight(v, "\r\n")
			if err := t.checkSecret(v); err != nil {
				return "", fmt.Errorf("%w: %s %w", ErrSecretUnusable, p.text, err)
			}
			if t.encode {
				escape(&b, v)
			} else {
				b.WriteString(v)
			}
		}
	}
	u, err := url.Parse(b.String())
	switch { // no error below quotes the URL: it may hold a secret
	case err != nil || u.Host == "" || u.Hostname() == "":
		return "", errors.New("does not make a valid URL")
	case u.User != nil:
		return "", errors.New("must not carry a user name or password")
	case u.Fragment != "" || strings.HasSuffix(b.String(), "#"):
		return "", errors.New("must not have a fragment")
	case strings.ContainsAny(b.String(), "{}"):
		return "", errors.New("makes a URL with braces in it")
	}
	return b.String(), nil
}

// checkSecret says what keeps a value from standing in the URL. It cannot move the request to another host, since
// references begin behind the host; it must not end the request line, the query or the URL either.
func (t *URLTemplate) checkSecret(v string) error {
	for i := range len(v) {
		switch c := v[i]; {
		case c < ' ' || c == 0x7f:
			return errors.New("holds a control character")
		case t.encode:
		case c == ' ' || c == '#' || c == '{' || c == '}' || c >= 0x80:
			return errors.New("holds a space, #, a brace or a letter beyond ASCII: store it percent-encoded, or set the hub's encodeSecrets")
		}
	}
	if v == "" {
		return errors.New("is empty")
	}
	return nil
}

// escape writes s as one URI component: all but RFC 3986's unreserved characters become %XX.
func escape(b *strings.Builder, s string) {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~' {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
}
