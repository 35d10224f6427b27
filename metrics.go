package tabard

import (
	"context"
	"net/http"
	"time"

	"tabard/guard/reason"
	"tabard/internal/identity"
	"tabard/internal/keyvault"
	"tabard/internal/keyvault/reference"
	"tabard/internal/metrics"
)

func (s *Server) newMetrics() *metrics.Metrics {
	return metrics.New(metrics.Sources{
		Trace: s.trace, Hubs: s.hubs, Pending: s.events.Pending, Version: release(),
		// What is made later:
		VaultCalls:  func() []keyvault.Count { return s.vaults.Counts() },
		VaultExtent: func() (vaults, versions int) { return s.vaults.Extent() },
		Secrets:     func() reference.Stats { return s.secrets.Stats() },
		Refusals:    func() map[reason.Code]uint64 { return s.clients.Stats().Refused },
	})
}

func (s *Server) tokenTook(source string, err error, took time.Duration) {
	s.metrics.Token(source, err, took)
}

// timed is a source of tokens whose acquisitions are counted.
type timed struct {
	identity.ClaimsSource
	count func(source string, err error, took time.Duration)
}

// Token implements identity.Source.
func (t timed) Token(ctx context.Context, p identity.Principal, resource string) (*identity.Token, error) {
	return t.TokenFor(ctx, p, resource, "")
}

// TokenFor implements identity.ClaimsSource.
func (t timed) TokenFor(ctx context.Context, p identity.Principal, resource, claims string) (*identity.Token, error) {
	start := time.Now()
	tok, err := t.ClaimsSource.TokenFor(ctx, p, resource, claims)
	t.count(p.Source, err, time.Since(start))
	return tok, err
}

// metricsRead is what a role must allow at the subscription for its holder to read the metrics of everything; Reader
// does.
const metricsRead = "Microsoft.Insights/metrics/read"

// serveMetrics answers whoever may read the metrics of everything.
func (s *Server) serveMetrics(w http.ResponseWriter, r *http.Request) {
	if err := s.authorize(r); err != nil {
		unauthorized(w, err)
		return
	}
	s.metrics.Handler().ServeHTTP(w, r)
}
