package customdomain

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"software.sslmate.com/src/go-pkcs12"
)

// Limits on the secret that a certificate is made of. A vault takes 25 KiB; OpenSSL asks for 2048 rounds.
const (
	maxSecret = 64 << 10 // bytes
	maxRounds = 1_000_000
)

// parse makes a certificate of a secret as Azure Key Vault keeps certificates: PEM with key and chain
// (application/x-pem-file), or PKCS #12 without a password as base64 text (application/x-pkcs12). Which one it is, the
// value itself says: whoever stores a secret by hand often leaves the content type out. Errors hold none of it.
func parse(value string) (*tls.Certificate, error) {
	if len(value) > maxSecret {
		return nil, fmt.Errorf("the secret is larger than %d bytes", maxSecret)
	}
	var cert *tls.Certificate
	var err error
	if strings.Contains(value, "-----BEGIN ") {
		cert, err = parsePEM(value)
	} else {
		cert, err = parsePKCS12(value)
	}
	if err != nil {
		return nil, err
	}
	if cert.Leaf.IsCA && len(cert.Leaf.DNSNames) == 0 {
		return nil, errors.New("the certificate is an authority's, not a server's")
	}
	return cert, nil
}

func parsePEM(value string) (*tls.Certificate, error) {
	cert, err := tls.X509KeyPair([]byte(value), []byte(value))
	if err != nil {
		return nil, fmt.Errorf("the PEM text is not a certificate with its key: %w", err) // crypto/tls names no contents
	}
	return &cert, nil
}

func parsePKCS12(value string) (*tls.Certificate, error) {
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(value), ""))
	if err != nil {
		return nil, errors.New("the secret is neither PEM text nor PKCS #12 as base64 text")
	}
	if demandsTooMuch(der) {
		return nil, fmt.Errorf("the PKCS #12 data demands more than %d rounds of hashing", maxRounds)
	}
	key, leaf, more, err := pkcs12.DecodeChain(der, "")
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword):
		return nil, errors.New("the PKCS #12 data has a password; a certificate in a key vault has none")
	case err != nil:
		return nil, fmt.Errorf("the PKCS #12 data cannot be read: %w", err)
	}
	if err := belongs(key, leaf); err != nil {
		return nil, err
	}
	cert := &tls.Certificate{PrivateKey: key, Leaf: leaf, Certificate: [][]byte{leaf.Raw}}
	for at := leaf; ; {
		i := slices.IndexFunc(more, func(c *x509.Certificate) bool {
			return bytes.Equal(c.RawSubject, at.RawIssuer) && at.CheckSignatureFrom(c) == nil
		})
		if i < 0 {
			return cert, nil
		}
		at = more[i]
		more = slices.Delete(more, i, i+1)
		cert.Certificate = append(cert.Certificate, at.Raw)
	}
}

// demandsTooMuch tells whether a count of rounds in the data, an INTEGER right behind the OCTET STRING of its salt, is
// above the limit: whoever may write a secret must not keep the service busy for hours.
func demandsTooMuch(der []byte) bool {
	afterSalt := false
	for len(der) > 0 {
		var v asn1.RawValue
		rest, err := asn1.Unmarshal(der, &v)
		if err != nil {
			return false // not for us to judge
		}
		octets := v.Class == asn1.ClassUniversal && v.Tag == asn1.TagOctetString
		switch {
		case afterSalt && v.Class == asn1.ClassUniversal && v.Tag == asn1.TagInteger:
			if new(big.Int).SetBytes(v.Bytes).Cmp(big.NewInt(maxRounds)) > 0 {
				return true
			}
		case v.IsCompound || octets:
			if demandsTooMuch(v.Bytes) {
				return true
			}
		}
		afterSalt, der = octets, rest
	}
	return false
}

// belongs tells whether the key is that of the certificate, and one that TLS can use.
func belongs(key any, leaf *x509.Certificate) error {
	signer, ok := key.(crypto.Signer)
	if !ok {
		return errors.New("the private key cannot sign")
	}
	var same bool
	switch public := signer.Public().(type) {
	case *rsa.PublicKey:
		same = public.Equal(leaf.PublicKey)
	case *ecdsa.PublicKey:
		same = public.Equal(leaf.PublicKey)
	case ed25519.PublicKey:
		same = public.Equal(leaf.PublicKey)
	}
	if !same {
		return errors.New("the private key is not that of the certificate")
	}
	return nil
}
