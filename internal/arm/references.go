package arm

import (
	"context"
	"fmt"

	"tabard/internal/settings"
)

// References tells how it stands with the Key Vault secrets that handlers' URLs refer to. What it returns becomes JSON
// and holds no value of a secret.
type References interface {
	// Statuses lists what an instance's hubs refer to.
	Statuses(in *settings.Instance) []any
	// Refresh reads all of it again.
	Refresh(in *settings.Instance)
	// Explain reads a secret as the instance's identity and says step by step what came of it.
	Explain(ctx context.Context, in *settings.Instance, uri string) []any
}

func (s *server) listReferences(c *call) (reply, error) {
	in, err := s.find(c)
	if err != nil {
		return reply{}, err
	}
	return reply{200, map[string]any{"value": s.References.Statuses(in)}}, nil
}

func (s *server) refreshReferences(c *call) (reply, error) {
	in, err := s.find(c)
	if err != nil {
		return reply{}, err
	}
	s.References.Refresh(in)
	return reply{status: 202}, nil
}

// maxSecretURI bounds the identifier in a question, in bytes.
const maxSecretURI = 1 << 10

func (s *server) explainReference(c *call) (reply, error) {
	raw, err := c.readJSON()
	if err != nil {
		return reply{}, err
	}
	in, err := s.find(c)
	if err != nil {
		return reply{}, err
	}
	var d reader
	o := d.strict("", raw, "secretUri")
	uri := d.text("secretUri", o["secretUri"])
	if uri == "" || len(uri) > maxSecretURI {
		d.fault("secretUri", "%s", fmt.Sprintf("is required, at most %d bytes", maxSecretURI))
	}
	if err := d.err(); err != nil {
		return reply{}, err
	}
	return reply{200, map[string]any{"value": s.References.Explain(c.r.Context(), in, uri)}}, nil
}
