package acme

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// requestTimeout bounds one request to the authority.
const requestTimeout = 30 * time.Second

// An issuer is an account with the authority.
type issuer struct {
	opt     Options
	storage certmagic.Storage
	solver  *solver
}

// IssuerKey tells certificates of one authority from those of another.
func (i *issuer) IssuerKey() string {
	u, err := url.Parse(i.opt.Directory)
	if err != nil {
		return "acme"
	}
	return strings.Trim(strings.NewReplacer("/", "-", ":", "-").Replace(u.Host+u.Path), "-")
}

// Issue obtains a certificate.
func (i *issuer) Issue(ctx context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	key, err := i.accountKey(ctx)
	if err != nil {
		return nil, fmt.Errorf("key of the ACME account: %w", err)
	}
	client := acmez.Client{
		Client: &acme.Client{
			Directory: i.opt.Directory, UserAgent: "tabard",
			HTTPClient: &http.Client{
				Transport: i.opt.Transport, Timeout: requestTimeout,
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			},
		},
		ChallengeSolvers: map[string]acmez.Solver{acme.ChallengeTypeTLSALPN01: overTLS{i.solver}},
	}
	if !i.opt.NoHTTP {
		client.ChallengeSolvers[acme.ChallengeTypeHTTP01] = overHTTP{i.solver}
	}
	account := acme.Account{PrivateKey: key, TermsOfServiceAgreed: true} // the configuration says so
	if i.opt.Email != "" {
		account.Contact = []string{"mailto:" + i.opt.Email}
	}
	if account, err = client.NewAccount(ctx, account); err != nil { // the same key is the same account
		return nil, fmt.Errorf("ACME account: %w", err)
	}
	params, err := acmez.OrderParametersFromCSR(account, csr)
	if err != nil {
		return nil, err
	}
	chains, err := client.ObtainCertificate(ctx, params)
	if err != nil {
		return nil, err
	}
	if len(chains) == 0 {
		return nil, errors.New("the authority issued nothing")
	}
	return &certmagic.IssuedCertificate{Certificate: chains[0].ChainPEM}, nil
}

// accountKey is the key that the account is known by, made when there is none.
func (i *issuer) accountKey(ctx context.Context) (crypto.Signer, error) {
	at := "account/" + i.IssuerKey() + ".pem"
	if err := i.storage.Lock(ctx, at); err != nil {
		return nil, err
	}
	defer func() { _ = i.storage.Unlock(context.WithoutCancel(ctx), at) }() // a lock that stays is stale after a while
	text, err := i.storage.Load(ctx, at)
	if errors.Is(err, fs.ErrNotExist) {
		return i.makeAccountKey(ctx, at)
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no key", at)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s holds no key", at)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s holds no key that signs", at)
	}
	return signer, nil
}

func (i *issuer) makeAccountKey(ctx context.Context, at string) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, i.storage.Store(ctx, at, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}
