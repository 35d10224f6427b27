package store

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/tink-crypto/tink-go-hcvault/v2/integration/hcvault"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// TransitScheme begins the URI of a master key in HashiCorp Vault or OpenBao.
const TransitScheme = "hcvault://"

// transitTimeout bounds one call of the key service.
const transitTimeout = 20 * time.Second

// A TransitKey is a key of the Transit engine of HashiCorp Vault or OpenBao, of a type that knows associated data (the
// default, aes256-gcm96). The key never leaves there; the service asks it to open or seal the data key, at the start
// and when the key is rotated.
type TransitKey struct {
	// URI is hcvault://HOST[:PORT]/MOUNT/keys/NAME; the port is 443 if it is not named, and TLS is always used.
	URI string
	// Transport is the way out to it.
	Transport http.RoundTripper
	// Token returns what the service is known by there. It is called for each use. It needs update on
	// MOUNT/encrypt/NAME and MOUNT/decrypt/NAME, and nothing else.
	Token func() (string, error)
}

var transitPath = regexp.MustCompile(`^(/[A-Za-z0-9_.-]+)+/keys/[A-Za-z0-9_.-]+$`)

// CheckTransitURI tells what is wrong with the URI of a [TransitKey].
func CheckTransitURI(uri string) error {
	u, err := url.Parse(uri)
	switch {
	case err != nil || !strings.HasPrefix(uri, TransitScheme) || u.Host == "":
		return errors.New("is not hcvault://HOST/MOUNT/keys/NAME")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("has more than a host and a path; a token does not belong into it")
	case !transitPath.MatchString(u.EscapedPath()) || strings.Contains(u.Path, "/../") || strings.Contains(u.Path, "/./"):
		return errors.New("has no path like /transit/keys/tabard")
	}
	return nil
}

// MasterKeyTransit is a key that a key service keeps.
func MasterKeyTransit(key TransitKey) MasterKey { return MasterKey{transit: &key} }

func (k *TransitKey) open() (tink.AEAD, error) {
	if err := CheckTransitURI(k.URI); err != nil {
		return nil, err
	}
	token, err := k.Token()
	if err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	u, err := url.Parse(k.URI)
	if err != nil {
		return nil, err
	}
	client, err := api.NewClient(&api.Config{
		Address: "https://" + u.Host, HttpClient: &http.Client{Transport: k.Transport}, Timeout: transitTimeout, DisableRedirects: true,
	})
	if err != nil {
		return nil, err
	}
	client.SetToken(token)
	client.ClearNamespace() // nothing from the environment but what we read ourselves
	aead, err := hcvault.NewAEAD(u.EscapedPath(), client.Logical())
	if err != nil {
		return nil, err
	}
	return &transitAEAD{aead: aead}, nil
}

// A transitAEAD remembers why the key service failed, which tink does not pass on.
type transitAEAD struct {
	aead tink.AEAD
	err  error
}

// Encrypt has the key service seal plaintext.
func (a *transitAEAD) Encrypt(plaintext, associatedData []byte) (sealed []byte, err error) {
	sealed, err = a.aead.Encrypt(plaintext, associatedData)
	a.err = plainTransitError(err)
	return sealed, a.err
}

// Decrypt has the key service open what Encrypt returned.
func (a *transitAEAD) Decrypt(sealed, associatedData []byte) (plaintext []byte, err error) {
	plaintext, err = a.aead.Decrypt(sealed, associatedData)
	if answer, ok := errors.AsType[*api.ResponseError](err); ok && answer.StatusCode == http.StatusBadRequest {
		return nil, err // it is not what this key sealed: not a failure of the service
	}
	a.err = plainTransitError(err)
	return plaintext, a.err
}

// plainTransitError says what the key service answered without repeating its whole request.
func plainTransitError(err error) error {
	if answer, ok := errors.AsType[*api.ResponseError](err); ok {
		return fmt.Errorf("the key service answers %d: %s", answer.StatusCode, strings.Join(answer.Errors, "; "))
	}
	return err
}

// failure is why the key service could not be used, nil if master is another kind of key or nothing failed.
func failure(master tink.AEAD) error {
	if t, ok := master.(*transitAEAD); ok {
		return t.err
	}
	return nil
}
