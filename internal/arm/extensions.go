package arm

import (
	"encoding/json"
	"maps"
	"slices"

	"tabard/internal/settings"
)

// extensions decodes properties.tabard of an instance. A name that is not known is a fault: nobody but this service
// reads it.
func (d *reader) extensions(at string, raw json.RawMessage) *settings.Extensions {
	o := d.strict(at, raw, "allowTokenOverPlainHttp", "skipLoopbackValidation", "refuseGraphAudience", "endpointValidation", "maxConnections",
		"maxMessagesPerSecond", "maxGroupsPerConnection", "allowedOrigins", "permessageDeflate", "identitySource")
	return &settings.Extensions{
		AllowTokenOverHTTP:     d.boolean(at+".allowTokenOverPlainHttp", o["allowTokenOverPlainHttp"]),
		SkipLoopbackValidation: d.boolean(at+".skipLoopbackValidation", o["skipLoopbackValidation"]),
		RefuseGraphAudience:    d.boolean(at+".refuseGraphAudience", o["refuseGraphAudience"]),
		EndpointValidation:     d.text(at+".endpointValidation", o["endpointValidation"]),
		MaxConnections:         d.integer(at+".maxConnections", o["maxConnections"]),
		MaxMessagesPerSecond:   d.integer(at+".maxMessagesPerSecond", o["maxMessagesPerSecond"]),
		MaxGroupsPerConnection: d.integer(at+".maxGroupsPerConnection", o["maxGroupsPerConnection"]),
		AllowedOrigins:         d.texts(at+".allowedOrigins", o["allowedOrigins"]),
		PermessageDeflate:      d.boolean(at+".permessageDeflate", o["permessageDeflate"]),
		IdentitySource:         d.identitySource(at+".identitySource", o["identitySource"]),
	}
}

func writableExtensions(in *settings.Instance) map[string]any {
	e := &in.Extensions
	m := map[string]any{
		"allowTokenOverPlainHttp": e.AllowTokenOverHTTP,
		"skipLoopbackValidation":  e.SkipLoopbackValidation,
		"refuseGraphAudience":     e.RefuseGraphAudience,
		"endpointValidation":      e.Validation(),
		"maxConnections":          e.MaxConnections,
		"maxMessagesPerSecond":    e.MaxMessagesPerSecond,
		"maxGroupsPerConnection":  e.MaxGroupsPerConnection,
		"allowedOrigins":          append([]string{}, e.AllowedOrigins...),
		"permessageDeflate":       e.PermessageDeflate,
	}
	if source := e.IdentitySource; source != nil {
		m["identitySource"] = source.Redacted()
	}
	return m
}

// identitySource decodes where the instance's tokens come from; settings judges it. Its secrets are never sent back.
func (d *reader) identitySource(at string, raw json.RawMessage) *settings.IdentitySource {
	if absent(raw) {
		return nil
	}
	var s settings.IdentitySource
	var kind string
	fields := map[string]*string{
		"type": &kind, "tenantId": &s.TenantID, "clientId": &s.ClientID, "credential": &s.Credential, "issuer": &s.Issuer, "tokenEndpoint": &s.TokenEndpoint,
		"clientSecret": &s.ClientSecret, "certificate": &s.Certificate, "resourceParameter": &s.ResourceParameter,
	}
	names := slices.Sorted(maps.Keys(fields))
	o := d.strict(at, raw, names...)
	for _, name := range names {
		*fields[name] = d.text(at+"."+name, o[name])
	}
	s.Type = settings.SourceType(kind)
	return &s
}
