package tokenservice

// tenantPlaceholder stands literally in the tenant-independent documents and in the issuer of keys; a
// receiver puts the token's tid in its place.
const tenantPlaceholder = "{tenantid}"

// A document is an OpenID discovery document; the fields that only one version has are empty in the other.
// Order and content follow identity.md 2.2 and 2.3, with every address and host pointing here.
type document struct {
	TokenEndpoint                     string   `json:"token_endpoint"`
	TokenEndpointAuthMethodsSupported []string `json:"token_endpoint_auth_methods_supported"`
	JwksURI                           string   `json:"jwks_uri"`
	ResponseModesSupported            []string `json:"response_modes_supported"`
	SubjectTypesSupported             []string `json:"subject_types_supported"`
	IDTokenSigningAlgValuesSupported  []string `json:"id_token_signing_alg_values_supported"`
	ResponseTypesSupported            []string `json:"response_types_supported"`
	ScopesSupported                   []string `json:"scopes_supported"`
	Issuer                            string   `json:"issuer"`
	MicrosoftMultiRefreshToken        bool     `json:"microsoft_multi_refresh_token,omitempty"` // v1
	RequestURIParameterSupported      bool     `json:"request_uri_parameter_supported"`
	UserinfoEndpoint                  string   `json:"userinfo_endpoint"`
	AuthorizationEndpoint             string   `json:"authorization_endpoint"`
	DeviceAuthorizationEndpoint       string   `json:"device_authorization_endpoint"`
	HTTPLogoutSupported               bool     `json:"http_logout_supported"`
	FrontchannelLogoutSupported       bool     `json:"frontchannel_logout_supported"`
	EndSessionEndpoint                string   `json:"end_session_endpoint"`
	ClaimsSupported                   []string `json:"claims_supported"`
	CheckSessionIframe                string   `json:"check_session_iframe,omitempty"` // v1
	KerberosEndpoint                  string   `json:"kerberos_endpoint"`
	TenantRegionScope                 *string  `json:"tenant_region_scope"` // null on tenant-independent documents
	CloudInstanceName                 string   `json:"cloud_instance_name"`
	CloudGraphHostName                string   `json:"cloud_graph_host_name"`
	MsgraphHost                       string   `json:"msgraph_host"`
	RbacURL                           string   `json:"rbac_url"`
}

// discovery builds the document of a tenant, or, if tenant is empty, the tenant-independent one, whose
// addresses say common. The endpoints that interactive flows would need are named because MSAL refuses a
// document without them.
func (a authority) discovery(version int, tenant string) document {
	segment, issuer := tenant, a.issuer(version, tenant)
	var region *string
	if tenant == "" {
		segment, issuer = common, a.issuer(version, tenantPlaceholder)
	} else {
		worldwide := "WW"
		region = &worldwide
	}
	base, oauth := a.origin+"/"+segment, a.origin+"/"+segment+"/oauth2"
	if version == 2 {
		oauth += "/v2.0"
	}
	d := document{
		TokenEndpoint:                     oauth + "/token",
		TokenEndpointAuthMethodsSupported: []string{"client_secret_post", "private_key_jwt", "client_secret_basic"},
		ResponseModesSupported:            []string{"query", "fragment", "form_post"},
		SubjectTypesSupported:             []string{"pairwise"},
		IDTokenSigningAlgValuesSupported:  []string{"RS256"},
		Issuer:                            issuer,
		AuthorizationEndpoint:             oauth + "/authorize",
		DeviceAuthorizationEndpoint:       oauth + "/devicecode",
		HTTPLogoutSupported:               true,
		FrontchannelLogoutSupported:       true,
		EndSessionEndpoint:                oauth + "/logout",
		KerberosEndpoint:                  base + "/kerberos",
		TenantRegionScope:                 region,
		CloudInstanceName:                 a.host,
		CloudGraphHostName:                a.host,
		MsgraphHost:                       a.host,
		RbacURL:                           a.origin,
	}
	if version == 2 {
		d.JwksURI = base + "/discovery/v2.0/keys"
		d.ResponseTypesSupported = []string{"code", "id_token", "code id_token", "id_token token"}
		d.ScopesSupported = []string{"openid", "profile", "email", "offline_access"}
		d.UserinfoEndpoint = a.origin + "/oidc/userinfo"
		d.ClaimsSupported = []string{"sub", "iss", "cloud_instance_name", "cloud_instance_host_name", "cloud_graph_host_name", "msgraph_host", "aud", "exp", "iat", "auth_time", "acr", "nonce", "preferred_username", "name", "tid", "ver", "at_hash", "c_hash", "email"}
		return d
	}
	d.JwksURI = a.origin + "/" + common + "/discovery/keys" // on tenant documents too
	d.ResponseTypesSupported = []string{"code", "id_token", "code id_token", "token id_token", "token"}
	d.ScopesSupported = []string{"openid"}
	d.MicrosoftMultiRefreshToken = true
	d.UserinfoEndpoint = base + "/openid/userinfo"
	d.CheckSessionIframe = base + "/oauth2/checksession"
	d.ClaimsSupported = []string{"sub", "iss", "cloud_instance_name", "cloud_instance_host_name", "cloud_graph_host_name", "msgraph_host", "aud", "exp", "iat", "auth_time", "acr", "nonce", "amr", "given_name", "family_name", "nickname", "at_hash", "c_hash", "email"}
	return d
}

// An instanceDocument answers instance discovery (identity.md 2.4).
type instanceDocument struct {
	TenantDiscoveryEndpoint string             `json:"tenant_discovery_endpoint"`
	APIVersion              string             `json:"api-version"`
	Metadata                []instanceMetadata `json:"metadata"`
}

type instanceMetadata struct {
	PreferredNetwork string   `json:"preferred_network"`
	PreferredCache   string   `json:"preferred_cache"`
	Aliases          []string `json:"aliases"`
}

func (a authority) instance(segment string) instanceDocument {
	return instanceDocument{
		TenantDiscoveryEndpoint: a.origin + "/" + segment + "/v2.0/.well-known/openid-configuration",
		APIVersion:              "1.1",
		Metadata:                []instanceMetadata{{a.host, a.host, []string{a.host}}},
	}
}
