package conformance_test

import (
	"encoding/json"
	"testing"

	"github.com/lestrrat-go/jwx/v3/jws"
)

var inferAlgorithm = jws.WithInferAlgorithmFromKey(true)

// field reads one string member of a JSON document.
func field(t *testing.T, document []byte, name string) string {
	t.Helper()
	var members map[string]any
	if err := json.Unmarshal(document, &members); err != nil {
		t.Fatalf("%v in %s", err, document)
	}
	value, _ := members[name].(string)
	if value == "" {
		t.Fatalf("no %s in %s", name, document)
	}
	return value
}
