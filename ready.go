package tabard

import (
	"context"
	"encoding/json"
	"path/filepath"

	"tabard/internal/settings"
)

// Ready is what a started service tells those who will use it; --ready-file holds it as JSON.
type Ready struct {
	Endpoint         string `json:"endpoint"`         // public origin; the https one with --tls-only
	HTTPSEndpoint    string `json:"httpsEndpoint"`    // public origin over TLS
	ConnectionString string `json:"connectionString"` // of the default instance, on Endpoint
	AdminURL         string `json:"adminUrl"`         // the https one with --tls-only
	AdminHTTPSURL    string `json:"adminHttpsUrl"`
	AdminToken       string `json:"adminToken"`
	Issuer           string `json:"issuer"`   // of v1 tokens: {authority}/{tenant}/
	IssuerV2         string `json:"issuerV2"` // of v2 tokens: {authority}/{tenant}/v2.0
	TenantID         string `json:"tenantId"`
	SubscriptionID   string `json:"subscriptionId"`
	CAFile           string `json:"caFile,omitempty"` // the local CA's certificate; empty with given certificate files
}

// Ready waits until every listener answers.
func (s *Server) Ready(ctx context.Context) (Ready, error) {
	select {
	case <-s.ready:
		return s.readyNow(), nil
	case <-ctx.Done():
		return Ready{}, ctx.Err()
	}
}

// readyNow is the ready object as of now: the admin token and the default instance's key may have changed since
// the start.
func (s *Server) readyNow() Ready {
	b := s.origins.bound.Load()
	scheme := "http://"
	if s.cfg.TLSOnly {
		scheme = "https://"
	}
	r := Ready{
		Endpoint:       s.origins.endpoint(&settings.Instance{Name: settings.DefaultInstance}),
		HTTPSEndpoint:  s.origins.httpsEndpoint(&settings.Instance{Name: settings.DefaultInstance}),
		AdminURL:       scheme + b.admin,
		AdminHTTPSURL:  "https://" + b.admin,
		AdminToken:     s.admin.reveal(),
		Issuer:         s.tokens.Issuer(),
		IssuerV2:       s.tokens.IssuerV2(),
		TenantID:       s.directory.TenantID(),
		SubscriptionID: s.service.SubscriptionID,
		CAFile:         s.caFile,
	}
	if in, ok := s.settings.Snapshot().Instance(settings.DefaultInstance); ok {
		r.ConnectionString = "Endpoint=" + r.Endpoint + ";AccessKey=" + in.Keys.Primary + ";Version=1.0;"
	}
	return r
}

// writeReady puts the ready object where scripts wait for it and where the command line finds the service.
func (s *Server) writeReady() error {
	text, err := json.MarshalIndent(s.readyNow(), "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if err := writePrivate(filepath.Join(s.cfg.Data, "ready.json"), text); err != nil {
		return err
	}
	if s.cfg.ReadyFile == "" {
		return nil
	}
	return writePrivate(s.cfg.ReadyFile, text)
}
