package directory

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// TokenExchange is the audience of assertions that are exchanged for a token, unless a credential names another.
const TokenExchange = "api://AzureADTokenExchange"

// MaxFederatedCredentials of one application or user-assigned identity.
const MaxFederatedCredentials = 20

const maxFederatedText = 600 // characters of issuer, subject, audience and description

// A FederatedCredential lets an application or a user-assigned identity be spoken for by whoever holds a token of
// another issuer (identity.md 4.4). Issuer, subject and audience are compared byte for byte.
type FederatedCredential struct {
	ID          string   `json:"id"`   // GUID, given by the directory
	Name        string   `json:"name"` // unique in its owner, never changes
	Issuer      string   `json:"issuer"`
	Subject     string   `json:"subject"`
	Audiences   []string `json:"audiences"` // exactly one; default TokenExchange
	Description string   `json:"description,omitempty"`
}

var federatedName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{2,119}$`)

// FederatedCredentials lists those of an application (by object id or appId) or of a user-assigned identity (by ARM
// id), in the order of their creation. ErrNotFound: there is no such owner.
func (d *Directory) FederatedCredentials(owner string) ([]FederatedCredential, error) {
	if strings.HasPrefix(owner, "/") {
		if u, ok := d.UserAssignedIdentity(owner); ok {
			return u.FederatedCredentials, nil
		}
	} else if a, ok := d.Application(owner); ok {
		return a.FederatedCredentials, nil
	}
	return nil, fmt.Errorf("%.300q: %w", owner, ErrNotFound)
}

// CreateFederatedCredential adds f to its owner, named as in FederatedCredentials. ErrConflict: it has one of this
// name, or one of this issuer and subject.
func (d *Directory) CreateFederatedCredential(ctx context.Context, owner string, f FederatedCredential) (FederatedCredential, error) {
	f, _, err := d.putFederated(ctx, owner, f, false)
	return f, err
}

// PutFederatedCredential is CreateFederatedCredential, but replaces the credential of the same name; created tells
// which it was.
func (d *Directory) PutFederatedCredential(ctx context.Context, owner string, f FederatedCredential) (_ FederatedCredential, created bool, err error) {
	return d.putFederated(ctx, owner, f, true)
}

func (d *Directory) putFederated(ctx context.Context, owner string, f FederatedCredential, replace bool) (_ FederatedCredential, created bool, err error) {
	if len(f.Audiences) == 0 {
		f.Audiences = []string{TokenExchange}
	}
	f.Audiences = slices.Clone(f.Audiences)
	if err := f.check(); err != nil {
		return FederatedCredential{}, false, fmt.Errorf("federated credential %.120q: %w", f.Name, err)
	}
	err = d.editFederated(ctx, owner, func(list []FederatedCredential) ([]FederatedCredential, error) {
		at := slices.IndexFunc(list, func(old FederatedCredential) bool { return strings.EqualFold(old.Name, f.Name) })
		if at >= 0 && !replace {
			return nil, fmt.Errorf("federated credential %q: %w", list[at].Name, ErrConflict)
		}
		for i, old := range list {
			if i != at && old.Issuer == f.Issuer && old.Subject == f.Subject {
				return nil, fmt.Errorf("federated credential %q has this issuer and subject: %w", old.Name, ErrConflict)
			}
		}
		created = at < 0
		if created {
			if len(list) >= MaxFederatedCredentials {
				return nil, &ValidationError{"federatedIdentityCredentials", fmt.Sprintf("has %d entries, at most %d", len(list), MaxFederatedCredentials)}
			}
			f.ID = uuid.NewString()
			return append(list, f), nil
		}
		f.ID, f.Name = list[at].ID, list[at].Name
		list[at] = f
		return list, nil
	})
	if err != nil {
		return FederatedCredential{}, false, err
	}
	f.Audiences = slices.Clone(f.Audiences)
	return f, created, nil
}

// DeleteFederatedCredential removes the credential with this id or name from its owner. ErrNotFound: it has none.
func (d *Directory) DeleteFederatedCredential(ctx context.Context, owner, idOrName string) error {
	return d.editFederated(ctx, owner, func(list []FederatedCredential) ([]FederatedCredential, error) {
		left := slices.DeleteFunc(list, func(f FederatedCredential) bool {
			return strings.EqualFold(f.ID, idOrName) || strings.EqualFold(f.Name, idOrName)
		})
		if len(left) == len(list) {
			return nil, fmt.Errorf("federated credential %.120q: %w", idOrName, ErrNotFound)
		}
		return left, nil
	})
}

// editFederated replaces the credentials of an owner by what edit makes of a copy.
func (d *Directory) editFederated(ctx context.Context, owner string, edit func([]FederatedCredential) ([]FederatedCredential, error)) error {
	if !strings.HasPrefix(owner, "/") {
		return d.editApplication(ctx, owner, func(a *Application) (err error) {
			a.FederatedCredentials, err = edit(a.FederatedCredentials)
			return err
		})
	}
	err := d.write(ctx, func() error {
		_, err := update(ctx, d.identities, lower(owner), func(u UserAssignedIdentity) (_ UserAssignedIdentity, err error) {
			u = u.clone()
			u.FederatedCredentials, err = edit(u.FederatedCredentials)
			return u, err
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("user-assigned identity %.300q: %w", owner, err)
	}
	return nil
}

// check reports every fault at once.
func (f *FederatedCredential) check() error {
	var faults []error
	fault := func(field, format string, args ...any) {
		faults = append(faults, &ValidationError{field, fmt.Sprintf(format, args...)})
	}
	text := func(field, value string) bool {
		switch {
		case value == "":
			fault(field, "is required")
		case utf8.RuneCountInString(value) > maxFederatedText:
			fault(field, "has more than %d characters", maxFederatedText)
		case !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl):
			fault(field, "holds control characters or is not UTF-8")
		case strings.TrimSpace(value) != value:
			fault(field, "begins or ends with white space, and would never match")
		default:
			return true
		}
		return false
	}
	if !federatedName.MatchString(f.Name) {
		fault("name", "%.130q must have 3 to 120 letters, digits, dashes and underscores, and begin with a letter or digit", f.Name)
	}
	if text("issuer", f.Issuer) {
		if problem := checkIssuer(f.Issuer); problem != "" {
			fault("issuer", "%q %s", f.Issuer, problem)
		}
	}
	text("subject", f.Subject)
	if len(f.Audiences) != 1 {
		fault("audiences", "has %d entries, must have exactly one", len(f.Audiences))
	} else {
		text("audiences[0]", f.Audiences[0])
	}
	if f.Description != "" {
		text("description", f.Description)
	}
	return errors.Join(faults...)
}

// checkIssuer says what keeps keys from being fetched for an issuer, or "". Whether its address may be reached is
// decided when it is dialled.
func checkIssuer(issuer string) string {
	u, err := url.Parse(issuer)
	switch {
	case err != nil || u.Opaque != "" || u.Hostname() == "":
		return "is not a URL such as https://issuer.example"
	case u.Scheme != "https":
		return "does not begin with https:// : keys that travel in the clear prove nothing"
	case u.User != nil:
		return "holds a user name"
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(issuer, "#"):
		return "has a query or a fragment"
	}
	return ""
}

func cloneFederated(list []FederatedCredential) []FederatedCredential {
	list = slices.Clone(list)
	for i := range list {
		list[i].Audiences = slices.Clone(list[i].Audiences)
	}
	return list
}
