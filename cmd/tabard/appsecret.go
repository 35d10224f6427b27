package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"
)

const credentialWords = `

Words: client secret (passwordCredentials), certificate (keyCredentials), key id and hint are Microsoft Entra's, as in Microsoft Graph. In AZURE_CLIENT_ID belongs the application id, in AZURE_CLIENT_SECRET the secret.`

// appFlags name an application in commands about something of it.
type appFlags struct {
	adminFlags
	App string `arg:"" help:"Application: display name, application id, object id or identifier URI."`
}

// connect finds the service and, in it, the application and its path in Graph.
func (f appFlags) connect(ctx context.Context, s *stdio) (*admin, string, application, error) {
	a, err := f.open(s)
	if err != nil {
		return nil, "", application{}, err
	}
	app, err := a.application(ctx, f.App)
	return a, "/v1.0/applications/" + url.PathEscape(app.ObjectID), app, err
}

// A secretInfo is a client secret as app secret list prints it. The secret itself is nowhere but in the answer that made it.
type secretInfo struct {
	KeyID         string    `json:"keyId"`
	DisplayName   string    `json:"displayName"`
	Hint          string    `json:"hint"`
	StartDateTime time.Time `json:"startDateTime"`
	EndDateTime   time.Time `json:"endDateTime"`
}

// newCredential is what both secrets and certificates can be given.
type newCredential struct {
	DisplayName string `json:"displayName,omitempty"`
	EndDateTime string `json:"endDateTime,omitempty"`
}

type appSecretCreateCmd struct {
	appFlags
	jsonFlag
	Name string        `help:"What it is for; shown in lists." placeholder:"TEXT"`
	Life time.Duration `help:"How long it is valid, such as 720h; two years without it." placeholder:"DURATION"`
}

func (appSecretCreateCmd) Help() string {
	return `The secret is printed this once; only its hash is kept. An application has up to 20, so that a new one can be in use everywhere before the old one is deleted.

Example:

    tabard app create worker
    tabard app secret create worker --name ci --life 720h
    export AZURE_CLIENT_SECRET=$(tabard app secret create worker --json | jq -r .secretText)` + credentialWords
}

// Validate finds a life that is none.
func (c *appSecretCreateCmd) Validate() error {
	if c.Life < 0 {
		return fmt.Errorf("--life must be a time to come, not %v", c.Life)
	}
	return nil
}

func (c *appSecretCreateCmd) Run(ctx context.Context, s *stdio) error {
	a, path, _, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	want := newCredential{DisplayName: c.Name}
	if c.Life > 0 {
		want.EndDateTime = time.Now().Add(c.Life).UTC().Format(time.RFC3339)
	}
	var made struct {
		SecretText  string    `json:"secretText"`
		KeyID       string    `json:"keyId"`
		EndDateTime time.Time `json:"endDateTime"`
	}
	if _, err := a.call(ctx, http.MethodPost, path+"/addPassword", nil, map[string]any{"passwordCredential": want}, &made); err != nil {
		return err
	}
	return s.print(c.JSON, made, func(w io.Writer) {
		row(w, "secret", made.SecretText)
		row(w, "key id", made.KeyID)
		row(w, "valid until", made.EndDateTime.Format(time.RFC3339))
	})
}

type appSecretListCmd struct {
	appFlags
	jsonFlag
}

func (appSecretListCmd) Help() string {
	return `The hint is the first three characters of a secret.

Example:

    tabard app secret list worker` + credentialWords
}

func (c *appSecretListCmd) Run(ctx context.Context, s *stdio) error {
	var app struct {
		PasswordCredentials []secretInfo `json:"passwordCredentials"`
	}
	if err := c.get(ctx, s, &app); err != nil {
		return err
	}
	return s.print(c.JSON, map[string]any{"value": app.PasswordCredentials}, func(w io.Writer) {
		row(w, "KEY ID", "HINT", "VALID UNTIL", "NAME")
		for _, p := range app.PasswordCredentials {
			row(w, p.KeyID, p.Hint, p.EndDateTime.Format(time.RFC3339), orDash(p.DisplayName))
		}
	})
}

// get reads the application's document.
func (f appFlags) get(ctx context.Context, s *stdio, out any) error {
	a, path, _, err := f.connect(ctx, s)
	if err != nil {
		return err
	}
	_, err = a.call(ctx, http.MethodGet, path, nil, nil, out)
	return err
}

type appSecretDeleteCmd struct {
	appFlags
	KeyID string `arg:"" name:"key-id" help:"Key id of the secret."`
}

func (appSecretDeleteCmd) Help() string {
	return `From now on no token is issued for the secret; tokens that were go on until they expire, within 90 minutes.

Example:

    tabard app secret delete worker 5f9b6c1e-1111-4222-8333-444444444444` + credentialWords
}

func (c *appSecretDeleteCmd) Run(ctx context.Context, s *stdio) error {
	return c.removeKey(ctx, s, "removePassword", "secret", c.KeyID)
}

// removeKey ends a credential that a key id names.
func (f appFlags) removeKey(ctx context.Context, s *stdio, action, kind, keyID string) error {
	a, path, app, err := f.connect(ctx, s)
	if err != nil {
		return err
	}
	if _, err := a.call(ctx, http.MethodPost, path+"/"+action, nil, map[string]string{"keyId": keyID}, nil); err != nil {
		return hinted(err, exitRefused, "`tabard app "+kind+" list` shows what there is")
	}
	s.note("%s %s of application %s is deleted", kind, keyID, app.DisplayName)
	return nil
}

// A certificateInfo is a certificate as app certificate list prints it.
type certificateInfo struct {
	KeyID         string    `json:"keyId"`
	DisplayName   string    `json:"displayName"`
	Thumbprint    string    `json:"thumbprint"` // SHA-1, hexadecimal
	StartDateTime time.Time `json:"startDateTime"`
	EndDateTime   time.Time `json:"endDateTime"`
}

// graphKey is Graph's keyCredential.
type graphKey struct {
	KeyID         string    `json:"keyId"`
	DisplayName   string    `json:"displayName"`
	Thumbprint    []byte    `json:"customKeyIdentifier"`
	StartDateTime time.Time `json:"startDateTime"`
	EndDateTime   time.Time `json:"endDateTime"`
}

func (k *graphKey) plain() certificateInfo {
	return certificateInfo{k.KeyID, k.DisplayName, fmt.Sprintf("%X", k.Thumbprint), k.StartDateTime, k.EndDateTime}
}

type appCertificateAddCmd struct {
	appFlags
	jsonFlag
	File string `arg:"" help:"Certificate, PEM or DER, with an RSA key. A private key in the same file is not sent."`
	Name string `help:"What it is for; its subject without this." placeholder:"TEXT"`
}

func (appCertificateAddCmd) Help() string {
	return `Whoever has the certificate's private key can then get tokens as the application (private_key_jwt). The certificate counts by itself; nobody asks who issued it.

Example:

    tabard app certificate add worker worker.pem` + credentialWords
}

func (c *appCertificateAddCmd) Run(ctx context.Context, s *stdio) error {
	der, err := certificateIn(c.File)
	if err != nil {
		return err
	}
	a, path, _, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	want := struct {
		newCredential
		Type  string `json:"type"`
		Usage string `json:"usage"`
		Key   string `json:"key"`
	}{newCredential{DisplayName: c.Name}, "AsymmetricX509Cert", "Verify", base64.StdEncoding.EncodeToString(der)}
	var made graphKey
	if _, err := a.call(ctx, http.MethodPost, path+"/addKey", nil, map[string]any{"keyCredential": want}, &made); err != nil {
		return err
	}
	k := made.plain()
	return s.print(c.JSON, k, func(w io.Writer) {
		row(w, "key id", k.KeyID)
		row(w, "thumbprint", k.Thumbprint)
		row(w, "valid until", k.EndDateTime.Format(time.RFC3339))
	})
}

type appCertificateListCmd struct {
	appFlags
	jsonFlag
}

func (appCertificateListCmd) Help() string {
	return `Example:

    tabard app certificate list worker` + credentialWords
}

func (c *appCertificateListCmd) Run(ctx context.Context, s *stdio) error {
	var app struct {
		KeyCredentials []graphKey `json:"keyCredentials"`
	}
	if err := c.get(ctx, s, &app); err != nil {
		return err
	}
	list := make([]certificateInfo, len(app.KeyCredentials))
	for i, k := range app.KeyCredentials {
		list[i] = k.plain()
	}
	return s.print(c.JSON, map[string]any{"value": list}, func(w io.Writer) {
		row(w, "KEY ID", "THUMBPRINT", "VALID UNTIL", "NAME")
		for _, k := range list {
			row(w, k.KeyID, k.Thumbprint, k.EndDateTime.Format(time.RFC3339), k.DisplayName)
		}
	})
}

type appCertificateDeleteCmd struct {
	appFlags
	KeyID string `arg:"" name:"key-id" help:"Key id of the certificate."`
}

func (appCertificateDeleteCmd) Help() string {
	return `From now on no token is issued for what its key signs.

Example:

    tabard app certificate delete worker 5f9b6c1e-1111-4222-8333-444444444444` + credentialWords
}

func (c *appCertificateDeleteCmd) Run(ctx context.Context, s *stdio) error {
	return c.removeKey(ctx, s, "removeKey", "certificate", c.KeyID)
}

// certificateIn returns the first certificate of a file, and nothing else of it: keys are often beside it.
func certificateIn(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	const limit = 1 << 20
	content, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, err
	}
	return firstCertificate(content, file)
}

func firstCertificate(content []byte, file string) ([]byte, error) {
	if !bytes.Contains(content, []byte("-----BEGIN")) {
		if _, err := x509.ParseCertificate(content); err != nil { // a private key must not travel
			return nil, fail(exitUsage, "", "%s holds no certificate, PEM or DER", file)
		}
		return content, nil
	}
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			return block.Bytes, nil
		}
	}
	return nil, fail(exitUsage, "", "%s holds no certificate", file)
}
