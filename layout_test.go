package tabard_test

import (
	"go/build"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// layout is the house plan: what each package is for, which of ours it may import, and which heavy library it
// alone owns. A package that is missing here, or imports past its row, fails the test: change the plan on
// purpose, here and in docs/architecture.md, or not at all.
var layout = map[string]struct {
	why   string
	ours  []string
	heavy []string // import path prefixes that only the listed packages may use
}{
	"tabard":                            {"wires everything together; the only package that knows all others", []string{"*"}, nil},
	"tabard/cmd/tabard":                 {"the command line: a client of the admin and public surfaces that can also start the service", []string{"tabard", "tabard/guard", "tabard/guard/doctor", "tabard/guard/reason", "tabard/internal/bench", "tabard/internal/apply", "tabard/internal/backup", "tabard/internal/conform", "tabard/internal/template", "tabard/internal/wire"}, []string{"kong", "gobwas"}},
	"tabard/guard":                      {"verifies tokens and requests in front of an event handler; public, so almost free of dependencies", []string{"tabard/guard/reason"}, []string{"jose"}},
	"tabard/guard/doctor":               {"attacks an event handler that its user owns; public, the standard library and guard only", []string{"tabard/guard"}, nil},
	"tabard/guard/reason":               {"the catalogue of reason codes that guard, access and delivery share", nil, nil},
	"tabard/internal/fabric":            {"NATS, embedded or external", nil, []string{"nats"}},
	"tabard/internal/store":             {"durable, sealed state on the fabric", []string{"tabard/internal/fabric"}, []string{"nats", "tink", "hashicorp"}},
	"tabard/internal/store/transittest": {"a key service for tests", nil, nil},
	"tabard/internal/settings": {"instances, keys, identity choice and hubs: nouns and their validation",
		[]string{"tabard/internal/store"}, nil},
	"tabard/internal/directory": {"the tenant: applications, service principals, user-assigned identities",
		[]string{"tabard/internal/store"}, nil},
	"tabard/internal/rbac":           {"who may do what where: role definitions and assignments", []string{"tabard/internal/store"}, nil},
	"tabard/internal/audit":          {"who changed what: records, bounded and durable", []string{"tabard/internal/store"}, nil},
	"tabard/internal/backup":         {"everything in one sealed file, and a data directory made of it", []string{"tabard/internal/store", "tabard/internal/fabric"}, []string{"age"}},
	"tabard/internal/identity":       {"a token for an audience, cached; sources are behind an interface", nil, nil},
	"tabard/internal/identity/azure": {"tokens from the platform that the process runs on", []string{"tabard/internal/identity"}, []string{"azure"}},
	"tabard/internal/identity/oauth": {"tokens from any OAuth issuer", []string{"tabard/internal/identity"}, []string{"jose"}},
	"tabard/internal/throttle":       {"slows down who fails too often", nil, nil},
	"tabard/internal/tokenservice": {"the embedded issuer: keys, discovery, minting",
		[]string{"tabard/internal/store", "tabard/internal/throttle", "tabard/internal/directory", "tabard/internal/identity", "tabard/guard/reason"}, []string{"jose"}},
	"tabard/internal/trace":                   {"what happened and why", []string{"tabard/guard/reason"}, nil},
	"tabard/internal/metrics":                 {"what the service does as numbers, for Prometheus", []string{"tabard/internal/trace", "tabard/internal/hub", "tabard/internal/keyvault", "tabard/internal/keyvault/reference", "tabard/guard/reason"}, []string{"prometheus"}},
	"tabard/internal/telemetry":               {"spans for an OpenTelemetry collector", []string{"tabard/internal/eventhandler", "tabard/internal/trace"}, []string{"otel"}},
	"tabard/internal/egress":                  {"the only way out: pinned addresses, blocked ranges, no redirects", []string{"tabard/guard/reason"}, nil},
	"tabard/internal/localca":                 {"certificates: a local authority, or files that are reloaded", nil, nil},
	"tabard/internal/listen":                  {"one port for plain HTTP and TLS, with a short way for WebSocket upgrades and small requests", nil, nil},
	"tabard/internal/wire":                    {"the public protocols from the side of clients and servers, for those who measure or examine an endpoint", nil, []string{"gobwas"}},
	"tabard/internal/apply":                   {"resources of files, compared with a service and written to it", []string{"tabard/internal/template"}, nil},
	"tabard/internal/template":                {"files of resources and ARM templates: read, and computed", nil, nil},
	"tabard/internal/bench":                   {"a load for any endpoint, and what it cost", []string{"tabard/internal/wire"}, []string{"gobwas"}},
	"tabard/internal/conform":                 {"the checklists of the public protocols, asked of any endpoint", []string{"tabard/internal/wire"}, []string{"protobuf"}},
	"tabard/internal/filter":                  {"the OData subset of the data plane", nil, nil},
	"tabard/internal/deflate":                 {"permessage-deflate without context takeover", nil, []string{"klauspost"}},
	"tabard/internal/hub":                     {"who is connected, groups, permissions, delivery", []string{"tabard/internal/deflate"}, []string{"gobwas"}},
	"tabard/internal/subprotocol":             {"client frames: raw, JSON, protobuf", []string{"tabard/internal/hub", "tabard/internal/subprotocol/webpubsubpb"}, []string{"protobuf"}},
	"tabard/internal/subprotocol/webpubsubpb": {"the generated messages of the protobuf subprotocols", nil, []string{"protobuf"}},
	"tabard/internal/access": {"who may call: access-key JWTs, tokens of a directory, client access tokens",
		[]string{"tabard/internal/settings", "tabard/guard", "tabard/guard/reason"}, []string{"jose"}},
	"tabard/internal/keyvault": {"the embedded Key Vault: vaults, secrets, who may read them",
		[]string{"tabard/internal/store", "tabard/internal/throttle", "tabard/guard", "tabard/guard/reason"}, nil},
	"tabard/internal/keyvault/reference": {"the secrets that handlers' URLs refer to: read from embedded and real vaults, remembered, refreshed",
		[]string{"tabard/internal/keyvault", "tabard/internal/settings", "tabard/internal/identity", "tabard/internal/egress", "tabard/guard/reason"}, []string{"azure"}},
	"tabard/internal/acme": {"certificates from an ACME authority, for public host names", []string{"tabard/internal/store"}, []string{"certmagic", "acmez", "zap"}},
	"tabard/internal/customdomain": {"certificates of custom domains: secrets of a vault, served by name",
		[]string{"tabard/internal/settings"}, []string{"pkcs12"}},
	"tabard/internal/eventhandler": {"match a rule, call the handler with a token, read the answer",
		[]string{"tabard/internal/settings", "tabard/internal/identity", "tabard/internal/trace", "tabard/internal/egress", "tabard/guard/reason"}, nil},
	"tabard/internal/clientws": {"a WebSocket client's life",
		[]string{"tabard/internal/deflate", "tabard/internal/hub", "tabard/internal/subprotocol", "tabard/internal/access", "tabard/internal/eventhandler", "tabard/internal/settings", "tabard/internal/trace", "tabard/guard/reason"}, []string{"gobwas"}},
	"tabard/internal/dataplane": {"the REST API that servers call",
		[]string{"tabard/internal/hub", "tabard/internal/access", "tabard/internal/filter", "tabard/internal/settings", "tabard/internal/trace", "tabard/guard/reason"}, nil},
	"tabard/internal/portal": {"the web page for operators, embedded; it knows nothing that another client could not ask for", nil, nil},
	"tabard/internal/arm": {"the control plane: ARM- and Graph-shaped routes",
		[]string{"tabard/internal/settings", "tabard/internal/directory", "tabard/internal/rbac", "tabard/internal/keyvault", "tabard/internal/trace", "tabard/internal/audit", "tabard/guard/reason"}, nil},
}

// heavy names the libraries with one owner.
var heavy = map[string]string{
	"nats":      "github.com/nats-io/",
	"jose":      "github.com/go-jose/",
	"tink":      "github.com/tink-crypto/",
	"kong":      "github.com/alecthomas/kong",
	"gobwas":    "github.com/gobwas/ws",
	"klauspost": "github.com/klauspost/compress",
	"protobuf":  "google.golang.org/protobuf",
	"azure":     "github.com/Azure/",
	"pkcs12":    "software.sslmate.com/",
	"age":       "filippo.io/age",
	"hashicorp": "github.com/hashicorp/",
	"certmagic": "github.com/caddyserver/",
	"acmez":     "github.com/mholt/acmez",
	"zap":       "go.uber.org/zap",

	"prometheus": "github.com/prometheus/",
	"otel":       "go.opentelemetry.io/",
}

func TestPackagesImportOnlyWhatTheLayoutAllows(t *testing.T) {
	seen := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		name := d.Name()
		if path != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules" || name == "bin") {
			return fs.SkipDir
		}
		if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil && path != "." {
			return fs.SkipDir // a module of its own: conformance, bench, examples
		}
		pkg, err := build.ImportDir(path, 0)
		if _, none := err.(*build.NoGoError); none {
			return nil
		}
		if err != nil {
			return err
		}
		importPath := strings.TrimSuffix("tabard/"+filepath.ToSlash(path), "/.")
		seen[importPath] = true
		row, ok := layout[importPath]
		if !ok {
			t.Errorf("%s is not in the layout: say what it is for and what it may import", importPath)
			return nil
		}
		for _, imported := range pkg.Imports {
			if (imported == "tabard" || strings.HasPrefix(imported, "tabard/")) && !slices.Contains(row.ours, "*") && !slices.Contains(row.ours, imported) {
				t.Errorf("%s (%s) imports %s, which its row does not allow", importPath, row.why, imported)
			}
			for key, prefix := range heavy {
				if strings.HasPrefix(imported, prefix) && !slices.Contains(row.heavy, key) {
					t.Errorf("%s imports %s, which other packages own", importPath, imported)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for importPath := range layout {
		if !seen[importPath] {
			t.Errorf("%s is in the layout but not in the tree", importPath)
		}
	}
}
