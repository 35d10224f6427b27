package audit

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
)

// elided stands for a secret.
const elided = "***"

// secretNames are members that hold secrets, in lower case, in whatever surface's documents.
var secretNames = map[string]bool{
	"primarykey": true, "secondarykey": true, "primaryconnectionstring": true, "secondaryconnectionstring": true, "connectionstring": true,
	"accesskey": true, "clientsecret": true, "secrettext": true, "password": true, "secret": true, "admintoken": true, "accesstoken": true,
	"token": true, "certificate": true, "privatekey": true, "identity_header": true,
}

// elide returns a document without its secrets: members known to hold one, text in queries and user parts of URLs
// (but for references to a vault, which are made to be seen), and a text named value, which is what a vault's secret
// holds and, on this service, nothing else has. What is no JSON object becomes nil.
func elide(text []byte) json.RawMessage {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var doc map[string]any
	if dec.Decode(&doc) != nil || doc == nil {
		return nil
	}
	if _, ok := doc["value"].(string); ok { // whatever road the request came by
		doc["value"] = elided
	}
	raw, err := json.Marshal(without(doc))
	if err != nil {
		return nil
	}
	return raw
}

func without(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			if text, ok := member.(string); ok && text != "" && secretNames[strings.ToLower(name)] {
				v[name] = elided
				continue
			}
			v[name] = without(member)
		}
	case []any:
		for i := range v {
			v[i] = without(v[i])
		}
	case string:
		return withoutURLSecrets(v)
	}
	return v
}

var (
	userPart = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]*://)[^/?#@]*@`)
	inQuery  = regexp.MustCompile(`=(\{@[^}]*\}|[^&#]*)`)
)

// withoutURLSecrets elides what people put in URLs in place of a vault.
func withoutURLSecrets(text string) string {
	if !strings.Contains(text, "://") {
		return text
	}
	text = userPart.ReplaceAllString(text, "${1}"+elided+"@")
	head, query, ok := cutQuery(text)
	if !ok {
		return text
	}
	return head + inQuery.ReplaceAllStringFunc(query, func(value string) string {
		if strings.HasPrefix(value, "={") && strings.HasSuffix(value, "}") || value == "=" {
			return value // a reference, {hub} or {event}
		}
		return "=" + elided
	})
}

// cutQuery splits a URL template before its query; a reference's own text is none of it.
func cutQuery(text string) (head, query string, ok bool) {
	depth := 0
	for i, c := range text {
		switch {
		case c == '{':
			depth++
		case c == '}' && depth > 0:
			depth--
		case c == '?' && depth == 0:
			return text[:i], text[i:], true
		}
	}
	return text, "", false
}
