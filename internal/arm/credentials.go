package arm

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tabard/internal/directory"
)

// The secrets and certificates of applications, in Graph's shapes. A secret is in the answer to addPassword and
// nowhere else.

const (
	certificateType  = "AsymmetricX509Cert"
	certificateUsage = "Verify"
)

func password(p *directory.PasswordCredential) map[string]any {
	return map[string]any{
		"keyId": p.KeyID, "displayName": orNull(p.DisplayName), "hint": p.Hint, "startDateTime": p.StartDateTime, "endDateTime": p.EndDateTime,
		"secretText": nil, "customKeyIdentifier": nil,
	}
}

func certificate(k *directory.KeyCredential) map[string]any {
	return map[string]any{
		"keyId": k.KeyID, "displayName": k.DisplayName, "startDateTime": k.StartDateTime, "endDateTime": k.EndDateTime,
		"type": certificateType, "usage": certificateUsage, "customKeyIdentifier": base64.StdEncoding.EncodeToString(k.Thumbprint()), "key": nil,
	}
}

func wholeCertificate(k *directory.KeyCredential) map[string]any {
	m := certificate(k)
	m["key"] = base64.StdEncoding.EncodeToString(k.Certificate)
	return m
}

// selects tells whether $select names a property.
func selects(c *call, property string) bool {
	return slices.ContainsFunc(strings.Split(c.query("$select"), ","), func(name string) bool { return strings.TrimSpace(name) == property })
}

func (s *server) addPassword(c *call) (reply, error) {
	a, err := s.findApplication(c)
	if err != nil {
		return reply{}, err
	}
	doc, d, err := c.readAction("passwordCredential")
	if err != nil {
		return reply{}, err
	}
	const at = "passwordCredential"
	o := d.object(at, doc[at])
	want := directory.PasswordCredential{
		DisplayName:   d.text(at+".displayName", o["displayName"]),
		StartDateTime: d.time(at+".startDateTime", o["startDateTime"]), EndDateTime: d.time(at+".endDateTime", o["endDateTime"]),
	}
	d.refuseUnkept(at, without(o, "displayName", "startDateTime", "endDateTime"))
	if err := d.err(); err != nil {
		return reply{}, err
	}
	ctx, cancel := c.writing()
	defer cancel()
	made, secret, err := s.Directory.AddPassword(ctx, a.ID, want)
	if err != nil {
		return reply{}, err
	}
	body := password(&made)
	body["secretText"] = secret
	body["@odata.context"] = c.origin() + graph + "/$metadata#microsoft.graph.passwordCredential"
	return reply{200, body}, nil
}

func (s *server) removePassword(c *call) (reply, error) {
	a, keyID, err := s.findCredential(c)
	if err != nil {
		return reply{}, err
	}
	ctx, cancel := c.writing()
	defer cancel()
	err = s.Directory.RemovePassword(ctx, a.ID, keyID)
	if errors.Is(err, directory.ErrNotFound) {
		return reply{}, noCredential("password", keyID)
	}
	return reply{status: 204}, err
}

// addKey takes a certificate. The proof that Graph asks for shows that a caller without rights in the directory holds
// another key of the application; here every caller has those rights, and could write keyCredentials without a proof.
func (s *server) addKey(c *call) (reply, error) {
	a, err := s.findApplication(c)
	if err != nil {
		return reply{}, err
	}
	doc, d, err := c.readAction("keyCredential", "passwordCredential", "proof")
	if err != nil {
		return reply{}, err
	}
	if p, ok := doc["passwordCredential"]; ok && !saysNothing(p) {
		d.fault("passwordCredential", "is for keys that sign; only keys that verify are kept here")
	}
	want := decodeKey(d, "keyCredential", doc["keyCredential"])
	if len(want.Certificate) == 0 {
		d.fault("keyCredential.key", "is required")
	}
	if err := d.err(); err != nil {
		return reply{}, err
	}
	ctx, cancel := c.writing()
	defer cancel()
	made, err := s.Directory.AddKey(ctx, a.ID, want)
	if err != nil {
		return reply{}, err
	}
	body := certificate(&made)
	body["@odata.context"] = c.origin() + graph + "/$metadata#microsoft.graph.keyCredential"
	return reply{200, body}, nil
}

func (s *server) removeKey(c *call) (reply, error) {
	a, keyID, err := s.findCredential(c, "proof")
	if err != nil {
		return reply{}, err
	}
	ctx, cancel := c.writing()
	defer cancel()
	err = s.Directory.RemoveKey(ctx, a.ID, keyID)
	if errors.Is(err, directory.ErrNotFound) {
		return reply{}, noCredential("key", keyID)
	}
	return reply{status: 204}, err
}

// findCredential reads the body of a removal.
func (s *server) findCredential(c *call, alsoKnown ...string) (a directory.Application, keyID string, err error) {
	if a, err = s.findApplication(c); err != nil {
		return a, "", err
	}
	doc, d, err := c.readAction(append(alsoKnown, "keyId")...)
	if err != nil {
		return a, "", err
	}
	if keyID = d.text("keyId", doc["keyId"]); keyID == "" && len(d.faults) == 0 {
		d.fault("keyId", "is required")
	}
	return a, keyID, d.err()
}

// readAction reads the parameters of an action, which are the given ones alone. No body is none.
func (c *call) readAction(parameters ...string) (object, *reader, error) {
	if c.r.ContentLength == 0 {
		return object{}, &reader{}, nil
	}
	raw, err := c.readJSON()
	if err != nil {
		return nil, nil, err
	}
	d := &reader{}
	doc := d.object("", raw)
	d.refuseUnkept("", without(doc, parameters...))
	return doc, d, d.err()
}

// decodeKeys reads a list of certificates. An entry without one names a certificate that is registered.
func decodeKeys(d *reader, at string, raw json.RawMessage) []directory.KeyCredential {
	var keys []directory.KeyCredential
	for i, item := range d.array(at, raw) {
		keys = append(keys, decodeKey(d, fmt.Sprintf("%s[%d]", at, i), item))
	}
	return keys
}

func decodeKey(d *reader, at string, raw json.RawMessage) directory.KeyCredential {
	o := d.object(at, raw)
	k := directory.KeyCredential{
		KeyID: d.text(at+".keyId", o["keyId"]), DisplayName: d.text(at+".displayName", o["displayName"]),
		StartDateTime: d.time(at+".startDateTime", o["startDateTime"]), EndDateTime: d.time(at+".endDateTime", o["endDateTime"]),
	}
	if key := d.text(at+".key", o["key"]); key != "" {
		var err error
		if k.Certificate, err = base64.StdEncoding.DecodeString(key); err != nil {
			d.fault(at+".key", "is not base64 of a certificate")
		}
	}
	for name, only := range map[string]string{"type": certificateType, "usage": certificateUsage} {
		if given, ok := o[name]; ok && !strings.EqualFold(d.text(at+"."+name, given), only) {
			d.fault(at+"."+name, "must be %s", only)
		}
	}
	// The thumbprint is the certificate's, whatever a client calls it.
	d.refuseUnkept(at, without(o, "keyId", "displayName", "startDateTime", "endDateTime", "key", "type", "usage", "customKeyIdentifier"))
	return k
}

// time reads a time with a zone, RFC 3339.
func (d *reader) time(at string, raw json.RawMessage) time.Time {
	text := d.text(at, raw)
	if text == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		d.fault(at, "%.40q is not a time such as 2026-12-31T23:59:59Z", text)
	}
	return t
}

// without returns the members of an object but for some.
func without(o object, names ...string) object {
	rest := object{}
	for name, value := range o {
		if !slices.Contains(names, name) {
			rest[name] = value
		}
	}
	return rest
}
