package guard

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"

	"tabard/guard/reason"
)

// maxSignatures bounds the values of one ce-signature; a service sends two.
const maxSignatures = 8

// checkSignature verifies ce-signature if access keys are configured
// (event-handlers.md 4.1): one of its values must be the HMAC-SHA256 of the
// connection id under one of the keys, taken as text.
func (g *Guard) checkSignature(r *http.Request) *Error {
	if len(g.signatures) == 0 {
		return nil
	}
	header, id := r.Header["Ce-Signature"], r.Header["Ce-Connectionid"]
	if len(header) == 0 || len(id) != 1 || id[0] == "" {
		return &Error{Code: reason.EventSignatureMissing, Status: http.StatusUnauthorized,
			Message: "the request has no ce-signature of a ce-connectionId"}
	}
	if !validSignature(header, id[0], g.signatures) {
		return &Error{Code: reason.EventSignatureInvalid, Status: http.StatusUnauthorized,
			Message: "ce-signature fits none of the access keys for connection " + show(id[0])}
	}
	return nil
}

func validSignature(header []string, connectionID string, keys [][]byte) bool {
	var given [][]byte
	for value := range strings.SplitSeq(strings.Join(header, ","), ",") {
		text, ok := strings.CutPrefix(strings.TrimSpace(value), "sha256=")
		if mac, err := hex.DecodeString(text); ok && err == nil && len(given) < maxSignatures {
			given = append(given, mac)
		}
	}
	found := false
	for _, key := range keys {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(connectionID))
		want := h.Sum(nil)
		for _, mac := range given {
			found = hmac.Equal(mac, want) || found
		}
	}
	return found
}
