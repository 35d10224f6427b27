package settings

import (
	"errors"
	"net/url"
	"regexp"
	"strings"
)

// A SecretURI names a secret of a key vault: "https://{host}/secrets/{name}/{version}". All spellings of one secret
// make the same value.
type SecretURI struct {
	Host    string // with its port unless that is 443; lower case
	Name    string // lower case: names of secrets ignore it
	Version string // 32 hex digits, or empty for the newest
}

var (
	secretURIName    = regexp.MustCompile(`^[0-9a-z-]{1,127}$`)
	secretURIVersion = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// ParseSecretURI reads a secret's identifier as people copy it from a vault: with or without version, with or without a
// slash at the end, with the usual port or without. Repeated slashes, which come from joining a vault's URI with a path,
// count as one. The error completes a sentence that begins with the URI.
func ParseSecretURI(text string) (SecretURI, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return SecretURI{}, errors.New("is not a URI like https://<vault>/secrets/<name>")
	case u.Scheme != "https":
		return SecretURI{}, errors.New("is not an https URI")
	case u.User != nil:
		return SecretURI{}, errors.New("holds a user name or password")
	case strings.ContainsAny(text, "?#"):
		return SecretURI{}, errors.New("has a query or a fragment; write the URI without it")
	case u.RawPath != "" || strings.Contains(text, "%"):
		return SecretURI{}, errors.New("has percent-encoded characters, which no name of a vault or secret needs")
	case u.Hostname() == "" || strings.HasSuffix(u.Hostname(), "."):
		return SecretURI{}, errors.New("has no proper host name")
	}
	s := SecretURI{Host: strings.ToLower(u.Host)}
	if u.Port() == "443" || strings.HasSuffix(s.Host, ":") {
		s.Host = s.Host[:strings.LastIndexByte(s.Host, ':')]
	}
	segments := strings.FieldsFunc(strings.ToLower(u.Path), func(r rune) bool { return r == '/' })
	if len(segments) < 2 || len(segments) > 3 || segments[0] != "secrets" {
		return SecretURI{}, errors.New("is not of the form https://<vault>/secrets/<name> or https://<vault>/secrets/<name>/<version>")
	}
	if s.Name = segments[1]; !secretURIName.MatchString(s.Name) {
		return SecretURI{}, errors.New("names a secret that cannot be: a name has 1 to 127 letters, digits and dashes")
	}
	if len(segments) == 3 {
		if s.Version = segments[2]; !secretURIVersion.MatchString(s.Version) {
			return SecretURI{}, errors.New("has a version that cannot be: a version has 32 hex digits")
		}
	}
	return s, nil
}

// String is the identifier in its shortest spelling.
func (s SecretURI) String() string {
	text := "https://" + s.Host + "/secrets/" + s.Name
	if s.Version != "" {
		text += "/" + s.Version
	}
	return text
}

// ErrSecretUnusable is wrapped by an error of [URLTemplate.Expand] to say that a secret's value cannot stand in a URL.
var ErrSecretUnusable = errors.New("the secret's value cannot stand in a URL")
