package tabard

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"tabard/internal/apply"
	"tabard/internal/settings"
	"tabard/internal/template"
)

// applySeed applies the configured files of resources through the service's own admin handler, as the holder of the
// admin token. Applying them at the next start changes nothing.
func (s *Server) applySeed(ctx context.Context, admin http.Handler) error {
	if len(s.cfg.Seed) == 0 {
		return nil
	}
	files, err := template.Load(s.cfg.Seed, strings.NewReader(""))
	if err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	parameters := template.Parameters{}
	for _, p := range s.cfg.SeedParameters {
		if err := parameters.Set(p); err != nil {
			return fmt.Errorf("seed: %w", err)
		}
	}
	env := template.Environment{
		Subscription: s.service.SubscriptionID, Tenant: s.directory.TenantID(), Group: settings.DefaultResourceGroup, Location: settings.DefaultLocation, Parameters: parameters,
	}
	set, err := template.Expand(ctx, files, env)
	if err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	result, err := apply.Run(ctx, set, apply.Options{
		Service: selfService{admin, s.admin.reveal()}, Subscription: env.Subscription, Tenant: env.Tenant, Group: env.Group, Set: "seed", Getenv: os.LookupEnv,
	})
	if err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	var faults []string
	for _, c := range result.Changes {
		switch c.Action {
		case apply.Failed, apply.Skipped:
			faults = append(faults, fmt.Sprintf("%s: %s %s: %s", c.Where, c.Type, c.Name, c.Error))
		case apply.Create, apply.Update:
			s.log.Info("seeded", "action", c.Action, "type", c.Type, "name", c.Name)
		}
		for _, w := range c.Warnings {
			s.log.Warn("seed", "name", c.Name, "warning", w)
		}
	}
	if len(faults) > 0 {
		return fmt.Errorf("seed: %s", strings.Join(faults, "; "))
	}
	return nil
}

// selfService is the service to itself.
type selfService struct {
	admin http.Handler
	token string
}

// Do serves a request without a network.
func (p selfService) Do(ctx context.Context, r apply.Request) (*apply.Response, error) {
	var body bytes.Buffer
	if r.Body != nil {
		if err := json.NewEncoder(&body).Encode(r.Body); err != nil {
			return nil, err
		}
	}
	host := "localhost"
	if r.Vault != "" {
		host = strings.ToLower(r.Vault) + ".localhost"
	}
	address := "https://" + host + r.Path
	if len(r.Query) > 0 {
		address += "?" + r.Query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, address, &body)
	if err != nil {
		return nil, err
	}
	req.RequestURI, req.RemoteAddr = req.URL.RequestURI(), "127.0.0.1:0"
	req.TLS = &tls.ConnectionState{HandshakeComplete: true, Version: tls.VersionTLS13} // it never leaves the process
	req.Header.Set("Authorization", "Bearer "+p.token)
	if r.Body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := inProcess{p.admin}.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(res.Body)
	return &apply.Response{Status: res.StatusCode, Body: text, Warnings: res.Header.Values("X-Tabard-Warning")}, err
}
