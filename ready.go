package tabard

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// Ready is what a started service tells those who will use it; --ready-file holds it as JSON.
type Ready struct {
	Endpoint         string `json:"endpoint"`         // public origin; the https one with --tls-only
	HTTPSEndpoint    string `json:"httpsEndpoint"`    // public origin over TLS
	ConnectionString string `json:"connectionString"` // of the default instance, on Endpoint
	AdminURL         string `json:"adminUrl"`
	AdminHTTPSURL    string `json:"adminHttpsUrl"`
	AdminToken       string `json:"adminToken"`
	Issuer           string `json:"issuer"`   // of v1 tokens: {authority}/{tenant}/
	IssuerV2         string `json:"issuerV2"` // of v2 tokens: {authority}/{tenant}/v2.0
	TenantID         string `json:"tenantId"`
	SubscriptionID   string `json:"subscriptionId"`
	CAFile           string `json:"caFile,omitempty"` // the local CA's certificate; empty with given certificate files
}

// write replaces the file at once, so that a reader never sees half of it.
func (r Ready) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".ready-*") // CreateTemp makes it 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(append(text, '\n')); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
