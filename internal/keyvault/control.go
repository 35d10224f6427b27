package keyvault

import (
	"context"
	"crypto/subtle"
	"strings"
	"unicode/utf8"
)

// A Description is what the control plane tells of a secret's newest version: everything but the value.
type Description struct {
	Name, Version, ContentType string
	Enabled                    bool
	NotBefore, Expires         *int64 // Unix seconds, like the next
	Created, Updated           int64
	Tags                       map[string]string // shared; not to be changed
}

func describeStored(s *stored) *Description {
	return &Description{Name: s.Name, Version: s.ID, ContentType: s.ContentType, Enabled: !s.Disabled, NotBefore: s.NotBefore, Expires: s.Expires,
		Created: s.Created, Updated: s.Updated, Tags: s.Tags}
}

// A Setting is what the control plane, and so a template, says about a secret. What is nil is not spoken of.
type Setting struct {
	Value              *string
	ContentType        *string
	Enabled            *bool
	NotBefore, Expires *int64
	Tags               map[string]string
}

// Describe returns a secret's newest version. Errors are *Error.
func (v *Vaults) Describe(vault, name string) (*Description, error) {
	s, w, err := v.get(strings.ToLower(vault), strings.ToLower(name), "")
	if err != nil {
		return nil, err
	}
	if w.vault == nil || w.vault.Deleted != nil {
		return nil, vaultNotFound()
	}
	return describeStored(s), nil
}

// DescribeAll returns at most limit secrets of a vault with names after the given one, in order, and tells whether
// there are more.
func (v *Vaults) DescribeAll(vault, after string, limit int) (list []*Description, more bool) {
	found, more := v.index.page(strings.ToLower(vault), strings.ToLower(after), limit, func(m *mark) bool { return m == nil })
	for _, n := range found {
		list = append(list, describeStored(n.newest))
	}
	return list, more
}

// Put makes a secret be what s says, as often as it is asked: a value that is already the newest version's makes no
// other one, and is then only described anew where it differs. Nothing tells the caller a value that it does not know. With a new
// value, what s does not speak of has its default; without one, it stays, and a secret that does not exist is refused.
// Errors are *Error.
func (v *Vaults) Put(ctx context.Context, vault, name string, s Setting) (*Description, bool, error) {
	vault = strings.ToLower(vault)
	if !secretName.MatchString(name) {
		return nil, false, badParameter("The secret name is invalid: %.200s", printable(name))
	}
	b := secretBody{Value: s.Value, ContentType: s.ContentType, Attributes: &attributesBody{s.Enabled, s.NotBefore, s.Expires}, Tags: s.Tags}
	e, err := b.edit()
	switch {
	case err != nil:
		return nil, false, err
	case s.Value != nil && len(*s.Value) > MaxValue:
		return nil, false, badParameter("Property \"value\" is longer than %d bytes.", MaxValue)
	case s.Value != nil && !utf8.ValidString(*s.Value):
		return nil, false, badParameter("Property \"value\" is not UTF-8.")
	}
	old, w, err := v.get(vault, strings.ToLower(name), "")
	if err == nil && s.Value != nil {
		value, err := v.open(&w, vault, strings.ToLower(name), old)
		if err != nil {
			return nil, false, err
		}
		same := subtle.ConstantTimeCompare(value, []byte(*s.Value)) == 1
		clear(value)
		if !same {
			old = nil
		}
	}
	switch {
	case old == nil && s.Value == nil:
		return nil, false, secretNotFound(name)
	case old == nil:
		made, err := v.set(ctx, vault, name, []byte(*s.Value), e)
		if err != nil {
			return nil, false, err
		}
		return describeStored(made), true, nil
	case !e.changes(old):
		return describeStored(old), false, nil
	}
	next, err := v.update(ctx, vault, strings.ToLower(name), old.ID, e)
	if err != nil {
		return nil, false, err
	}
	return describeStored(next), false, nil
}
