package tabard

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"tabard/internal/arm"
	"tabard/internal/audit"
	"tabard/internal/keyvault"
	"tabard/internal/tokenservice"
)

// openAudit opens the record of changes.
func (s *Server) openAudit(ctx context.Context) (err error) {
	s.audit, err = audit.Open(ctx, s.store, audit.Options{MaxAge: s.cfg.AuditAge, MaxRecords: s.cfg.AuditRecords, Log: s.log})
	if err != nil {
		return fmt.Errorf("open the audit log: %w", err)
	}
	return nil
}

// audited records what changes something on the admin address. vault tells which vault a request's secrets are in.
func (s *Server) audited(next http.Handler, vault func(*http.Request) (name string, ok bool)) http.Handler {
	return s.audit.Handler(next, func(r *http.Request) *audit.Request {
		segments, ok := pathSegments(r.URL.EscapedPath())
		switch {
		case tokenservice.IsWorkloadPath(r.URL.Path) || !arm.Changes(r):
			return nil
		case !ok:
			return &audit.Request{Caller: s.auditCaller(r, s.control)}
		case keyvault.InPath(r.URL.EscapedPath()):
			name, _ := vault(r)
			return s.auditSecret(r, name, segments)
		case strings.HasPrefix(r.URL.EscapedPath(), vaultPath): // the same, beneath the admin address
			if name, inner, ok := beneath(r, vaultPath); ok {
				if within, ok := pathSegments(inner.URL.EscapedPath()); ok {
					return s.auditSecret(r, name, within)
				}
			}
		}
		about := &audit.Request{Caller: s.auditCaller(r, s.control)}
		switch {
		case strings.EqualFold(segments[0], "v1.0"):
			about.Resource, about.Operation = r.URL.Path, graphOperation(r.Method, segments[1:])
		case strings.EqualFold(segments[0], "tabard"): // the service's own
			about.Resource, about.Operation = r.URL.Path, "Tabard/"+strings.Join(segments[min(2, len(segments)):], "/")+"/action"
		default:
			about.Resource, about.Operation = armAction(r.Method, segments)
			about.Operation = asAzureSpells(about.Operation)
		}
		return about
	})
}

// spellings are the words of operations as Azure writes them, by their lower case: paths may be written in any.
var spellings = func() map[string]string {
	m := map[string]string{}
	for _, word := range strings.Fields(`Microsoft.SignalRService WebPubSub hubs customCertificates customDomains sharedPrivateLinkResources replicas
		Microsoft.ManagedIdentity userAssignedIdentities federatedIdentityCredentials Microsoft.KeyVault vaults accessPolicies secrets deletedVaults
		Microsoft.Authorization roleAssignments Microsoft.Resources subscriptions resourceGroups providers`) {
		m[strings.ToLower(word)] = word
	}
	return m
}()

func asAzureSpells(operation string) string {
	words := strings.Split(operation, "/")
	for i, word := range words {
		if spelling, ok := spellings[strings.ToLower(word)]; ok {
			words[i] = spelling
		}
	}
	return strings.Join(words, "/")
}

// auditCaller is who makes a request, as far as its credential proves it.
func (s *Server) auditCaller(r *http.Request, trusted *trust) audit.Caller {
	if s.admin.authorize(r) == nil {
		return audit.Caller{Admin: true}
	}
	token, ok := accessToken(r)
	if !ok {
		return audit.Caller{}
	}
	claims, err := trusted.verify(r.Context(), token) // remembered for whoever serves the request
	if err != nil {
		return audit.Caller{}
	}
	return audit.Caller{TenantID: claims.TenantID, ObjectID: claims.ObjectID, AppID: claims.AppID}
}

// auditSecret describes a request to a vault's secrets, by the names of Azure's data actions.
func (s *Server) auditSecret(r *http.Request, vault string, segments []string) *audit.Request {
	about := &audit.Request{Caller: s.auditCaller(r, s.vaultTrust), Resource: r.URL.Path}
	if v, ok := s.vaults.Vault(vault); ok {
		about.Resource = v.ResourceID() + "/secrets"
		if len(segments) > 1 {
			about.Resource += "/" + segments[1]
		}
	}
	verb := map[string]string{http.MethodPut: "setSecret/action", http.MethodPatch: "update/action", http.MethodDelete: "delete"}[r.Method]
	switch last := segments[len(segments)-1]; {
	case r.Method == http.MethodPost:
		verb = strings.ToLower(last) + "/action"
	case r.Method == http.MethodDelete && strings.EqualFold(segments[0], "deletedsecrets"):
		verb = "purge/action"
	}
	about.Operation = "Microsoft.KeyVault/vaults/secrets/" + verb
	return about
}

// graphOperation names a change of the directory in the way of ARM's operations: types joined, then what is done.
func graphOperation(method string, segments []string) string {
	name := "Microsoft.Graph"
	for i, segment := range segments {
		kind, _, byKey := strings.Cut(segment, "(") // applications(appId='…') is a type and a name at once
		if i%2 == 0 || byKey {
			name += "/" + kind
		}
	}
	last := segments[max(len(segments)-1, 0):]
	switch {
	case method == http.MethodDelete:
		return name + "/delete"
	case method != http.MethodPost:
		return name + "/write"
	case len(last) == 1 && (strings.HasPrefix(last[0], "add") || strings.HasPrefix(last[0], "remove")):
		if !strings.HasSuffix(name, "/"+last[0]) {
			name += "/" + last[0]
		}
		return name + "/action"
	}
	return name + "/write"
}
