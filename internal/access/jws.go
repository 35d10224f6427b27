package access

import (
	"errors"

	"github.com/go-jose/go-jose/v4"

	"tabard/guard/reason"
)

var accepted = []jose.SignatureAlgorithm{jose.HS256}

// open checks a token's form and signature and returns its payload, the key that fits and the header's key id. It
// tries every key, in constant time each. Empty keys are no keys.
func open(token string, keys ...string) (payload []byte, key, kid string, refusal *Refusal) {
	if payload, key, ok := openQuickly(token, keys); ok {
		return payload, key, "", nil
	}
	return openFully(token, keys)
}

func openFully(token string, keys []string) (payload []byte, key, kid string, refusal *Refusal) {
	if len(token) > MaxToken {
		return nil, "", "", unauthorized(reason.TokenTooLarge, "The token has %d bytes, the limit is %d.", len(token), MaxToken)
	}
	for i := range len(token) {
		if c := token[i]; !isBase64URL(c) && c != '.' { // the decoder would skip line breaks
			return nil, "", "", unauthorized(reason.TokenMalformed, "The token is not a compact JWS: byte %d is not base64url.", i)
		}
	}
	jws, err := jose.ParseSignedCompact(token, accepted)
	var algorithm *jose.ErrUnexpectedSignatureAlgorithm
	switch {
	case errors.As(err, &algorithm):
		return nil, "", "", unauthorized(reason.AlgorithmNotAllowed, "The token is signed with %.16q, access-key tokens are signed with HS256.", string(algorithm.Got))
	case err != nil:
		return nil, "", "", unauthorized(reason.TokenMalformed, "The token is not a compact JWS.")
	}
	header := jws.Signatures[0].Header
	for _, name := range []jose.HeaderKey{"crit", "b64"} {
		if _, there := header.ExtraHeaders[name]; there {
			return nil, "", "", unauthorized(reason.CriticalHeader, "The token's header demands an extension (%s) that is not understood.", name)
		}
	}
	for _, k := range keys {
		if k == "" {
			continue
		}
		if payload, err := jws.Verify([]byte(k)); err == nil {
			return payload, k, header.KeyID, nil
		}
	}
	return nil, "", "", unauthorized(reason.KeySignatureInvalid, "The token's signature fits neither access key of the instance.")
}

func isBase64URL(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}
