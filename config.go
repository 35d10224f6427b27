package tabard

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"tabard/guard"
	"tabard/internal/acme"
	"tabard/internal/audit"
	"tabard/internal/settings"
)

// Config is everything that can be set from outside: command-line flags, TABARD_… environment variables and the
// YAML file are three spellings of this struct (the tags are kong's). The zero value, completed by its defaults,
// serves on loopback with data in ./.tabard.
type Config struct {
	// Data is the directory of everything durable. One process holds it at a time.
	Data string `help:"Directory of everything durable; one process holds it at a time." default:".tabard" env:"TABARD_DATA" placeholder:"DIR"`

	// Listen is the public address: clients, REST, token issuer. Port 0 picks a free one.
	Listen string `help:"Public address: clients, REST data plane, token issuer. Port 0 picks a free one." default:"127.0.0.1:8080" env:"TABARD_LISTEN" placeholder:"ADDR"`
	// AdminListen is the operators' address: control plane, directory, trace, health.
	AdminListen string `help:"Operators' address: control plane, directory, trace, health." default:"127.0.0.1:8081" env:"TABARD_ADMIN_LISTEN" placeholder:"ADDR"`
	// InstanceListen gives instances public addresses of their own, where {name}.<host> does not resolve.
	InstanceListen map[string]string `help:"A public address of its own for an instance, where NAME.<host> does not resolve." env:"TABARD_INSTANCE_LISTEN" placeholder:"NAME=ADDR" mapsep:","`

	// VaultListen gives key vaults addresses of their own, where {vault}.<admin host> does not resolve.
	VaultListen map[string]string `help:"An address of its own for a key vault, where VAULT.<admin host> does not resolve." env:"TABARD_VAULT_LISTEN" placeholder:"VAULT=ADDR" mapsep:","`

	// TLSOnly turns plain HTTP off on every address.
	TLSOnly bool `name:"tls-only" help:"Turn plain HTTP off on every address." env:"TABARD_TLS_ONLY"`
	// TLSCert and TLSKey are PEM files, reloaded when they change. Without them a local CA in Data signs.
	TLSCert string `name:"tls-cert" help:"Certificate chain (PEM), reloaded when it changes; without it a local CA signs." env:"TABARD_TLS_CERT" placeholder:"FILE"`
	TLSKey  string `name:"tls-key" help:"Private key of --tls-cert (PEM)." env:"TABARD_TLS_KEY" placeholder:"FILE"`

	// ACMEDomain lists DNS names whose certificates an ACME authority issues, once ACMEAgreeTOS is set. The authority must
	// reach the public address at port 443 of each name over TLS, or at port 80 over plain HTTP.
	ACMEDomain []string `name:"acme-domain" help:"DNS name whose certificate is obtained and renewed by ACME; it must lead to the public address at port 443 (or 80). Repeatable." env:"TABARD_ACME_DOMAIN" placeholder:"NAME"`
	// ACMEEmail is where the authority writes if something is wrong.
	ACMEEmail string `name:"acme-email" help:"Where the ACME authority writes if something is wrong." env:"TABARD_ACME_EMAIL" placeholder:"ADDRESS"`
	// ACMECA is the authority's directory. One that is not publicly trusted is trusted by HandlerCA.
	ACMECA string `name:"acme-ca" help:"Directory of the ACME authority; --handler-ca trusts a private one." default:"https://acme-v02.api.letsencrypt.org/directory" env:"TABARD_ACME_CA" placeholder:"URL"`
	// ACMEAgreeTOS agrees to the terms of service of the authority.
	ACMEAgreeTOS bool `name:"acme-agree-tos" help:"Agree to the terms of service of the ACME authority." env:"TABARD_ACME_AGREE_TOS"`

	// PublicURL are the origins under which clients reach the service, the first one preferred. They are in
	// certificates, audiences, WebHook-Request-Origin, the token issuer's name and connection strings.
	PublicURL []string `name:"public-url" help:"Origin under which the service is reached, for example https://wps.example.com; the first is used in connection strings and as issuer. Repeatable." env:"TABARD_PUBLIC_URL" placeholder:"URL"`

	// TrustedProxy lists reverse proxies, addresses or networks, whose X-Forwarded-For and X-Forwarded-Proto are believed.
	// Each must set both and keep the Host header. Dangerous: whoever can send from there can pretend to have any address
	// and to use TLS.
	TrustedProxy []string `name:"trusted-proxy" help:"Address or network (CIDR) of a reverse proxy whose X-Forwarded-For and X-Forwarded-Proto are believed; it must set both and keep Host. Repeatable." env:"TABARD_TRUSTED_PROXY" placeholder:"CIDR"`

	// VaultURL are the origins under which the key vaults of the admin address are reached, the first one preferred.
	// They are in certificates, in ids of secrets and in what a vault's challenge names: VAULT.<host> is a vault, the bare
	// host the default one.
	VaultURL []string `name:"vault-url" help:"Origin under which the key vaults of the admin address are reached, for example https://kv.example.com, whose VAULT.<host> is a vault. Repeatable." env:"TABARD_VAULT_URL" placeholder:"URL"`
	// ARMURL are further origins under which the control plane of the admin address is reached. They are in certificates,
	// and tokens may be for them.
	ARMURL []string `name:"arm-url" help:"Origin under which the control plane of the admin address is reached, for example https://arm.example.com: in certificates, and as audience of its callers' tokens. Repeatable." env:"TABARD_ARM_URL" placeholder:"URL"`
	// VaultDomain lists DNS domains, besides Azure's, whose key vaults may be read for handlers' URLs. Whoever may edit a
	// hub can have the instance's token for that resource sent to any host VAULT.<domain>.
	VaultDomain []string `help:"DNS domain, besides Azure's, whose key vaults handlers' URLs may refer to, with the resource of its tokens if that is not https://DOMAIN. Repeatable." env:"TABARD_VAULT_DOMAIN" placeholder:"DOMAIN[=RESOURCE]"`
	// VaultOtherTenants lets vaults of other tenants than the identity's be read.
	VaultOtherTenants bool `help:"Let handlers' URLs refer to key vaults of other tenants than the identity's." env:"TABARD_VAULT_OTHER_TENANTS"`

	// NATSURL names an external NATS cluster with JetStream instead of the embedded one.
	NATSURL         string `name:"nats-url" help:"External NATS with JetStream instead of the embedded one." env:"TABARD_NATS_URL" placeholder:"URL"`
	NATSCredentials string `name:"nats-credentials" help:"Credentials file for --nats-url." env:"TABARD_NATS_CREDENTIALS" placeholder:"FILE"`
	// NATSReplicas is how many servers of an external cluster keep each bucket that is created from now on, 1 to 5.
	NATSReplicas int `name:"nats-replicas" help:"Servers of the cluster of --nats-url that keep each bucket, 1 to 5; counts for buckets that are made from now on." default:"1" env:"TABARD_NATS_REPLICAS"`

	// MasterKey seals everything stored: 32 bytes as base64. It has no flag, so that it never shows in a process list.
	MasterKey string `kong:"-" yaml:"-" json:"-"`
	// MasterKeyFile holds the master key when MasterKey is empty; default DATA/master.key, made on the first start.
	MasterKeyFile string `help:"File of the master key (default DATA/master.key, made on the first start); TABARD_MASTER_KEY gives the key itself." env:"TABARD_MASTER_KEY_FILE" placeholder:"FILE"`

	// MasterKeyURI names the master key instead: file:///PATH, env://NAME, or a key of the Transit engine of HashiCorp
	// Vault or OpenBao, hcvault://HOST[:PORT]/MOUNT/keys/NAME, which never leaves there. A store that is sealed under
	// DATA/master.key is sealed under it at the next start.
	MasterKeyURI string `name:"master-key-uri" help:"Where the master key is instead: file:///PATH, env://NAME, or hcvault://HOST[:PORT]/MOUNT/keys/NAME (Transit engine of HashiCorp Vault or OpenBao, over TLS)." env:"TABARD_MASTER_KEY_URI" placeholder:"URI"`
	// MasterKeyTokenFile holds the token for hcvault, read anew for each use; otherwise MasterKeyToken is the token.
	MasterKeyTokenFile string `help:"File with the token for hcvault, as an agent writes it; VAULT_TOKEN gives the token itself." env:"TABARD_MASTER_KEY_TOKEN_FILE" placeholder:"FILE"`
	// MasterKeyToken has no flag, so that it never shows in a process list.
	MasterKeyToken string `kong:"-" yaml:"-" json:"-"`

	// ReadyFile receives one JSON object, mode 0600, once every listener answers.
	ReadyFile string `help:"File that receives one JSON object with endpoints and secrets (0600) once every listener answers." env:"TABARD_READY_FILE" placeholder:"FILE"`

	// AllowLoopbackHandlers lets event handlers live on this machine's loopback. On in dev and demo.
	AllowLoopbackHandlers bool `help:"Let event handlers live on this machine's loopback (dev and demo always do)." env:"TABARD_ALLOW_LOOPBACK_HANDLERS"`
	// DenyPrivateHandlers refuses handlers in private networks unless AllowHandlerNetworks lists them.
	DenyPrivateHandlers  bool     `help:"Refuse event handlers in private networks but for --allow-handler-networks." env:"TABARD_DENY_PRIVATE_HANDLERS"`
	AllowHandlerNetworks []string `help:"Networks (CIDR) that handlers may live in even when private ones are refused." env:"TABARD_ALLOW_HANDLER_NETWORKS" placeholder:"CIDR"`
	DenyHandlerNetworks  []string `help:"Networks (CIDR) that handlers may never live in." env:"TABARD_DENY_HANDLER_NETWORKS" placeholder:"CIDR"`
	// HandlerCA is a PEM bundle trusted for handlers in addition to the system's roots.
	HandlerCA string `name:"handler-ca" help:"PEM bundle trusted for event handlers in addition to the system's." env:"TABARD_HANDLER_CA" placeholder:"FILE"`

	// TrustIssuer are further issuers, beside the embedded one, whose tokens are accepted on the data plane and the
	// control plane. Whoever runs such an issuer can be every principal that has a role here and is not in the embedded
	// directory.
	TrustIssuer []string `help:"Address of a further issuer whose access tokens are accepted, for example https://login.microsoftonline.com/TENANT/v2.0; reached like event handlers are. Repeatable." env:"TABARD_TRUST_ISSUER" placeholder:"URL"`

	// TokenLifetime is the life of managed-identity tokens, 5 minutes to 24 hours.
	TokenLifetime time.Duration `help:"Life of managed-identity access tokens, 5m to 24h." default:"24h" env:"TABARD_TOKEN_LIFETIME"`
	// ClientTokenLifetime is the life of the tokens that the token endpoint issues to applications, 5 minutes to 24 hours.
	// 0 means 60 to 90 minutes, spread so that a fleet that started together does not come back together.
	ClientTokenLifetime time.Duration `help:"Life of the access tokens that applications get, 5m to 24h; without it 60 to 90 minutes, spread." env:"TABARD_CLIENT_TOKEN_LIFETIME"`
	// IMDSIdentity lists the user-assigned identities that the IMDS endpoint hands out. Dangerous: every program on this
	// host gets their tokens. Empty: the endpoint is off.
	IMDSIdentity []string `name:"imds-identity" help:"User-assigned identity (name, client id or ARM id) whose tokens every program on this host gets at the IMDS endpoint, which is off without one. Repeatable." env:"TABARD_IMDS_IDENTITY" placeholder:"NAME"`
	// AzureIdentity lists the identities of the platform (Azure, Arc, Kubernetes) that instances may choose as their own:
	// "system", "workload", or the client id of a user-assigned one. Whoever may edit an instance can then use them.
	AzureIdentity []string `name:"azure-identity" help:"Identity of the platform that instances may use as their own: system, workload, or a user-assigned client id. Repeatable." env:"TABARD_AZURE_IDENTITY" placeholder:"ID"`
	// AllowLoopbackTokenHTTP lets programs on this machine use the token endpoint over plain http.
	AllowLoopbackTokenHTTP bool `name:"allow-loopback-token-http" help:"Let this machine, for example a proxy that ends TLS, use the token endpoint over plain http." env:"TABARD_ALLOW_LOOPBACK_TOKEN_HTTP"`
	// RevokedSigningKey lists ids of signing keys that are revoked on start: after a backup from before their revocation
	// was restored.
	RevokedSigningKey []string `name:"revoked-signing-key" help:"Id of a signing key to revoke on start, should a restored backup have brought it back. Repeatable." env:"TABARD_REVOKED_SIGNING_KEY" placeholder:"KID"`

	// PortalOIDC* let operators sign in to the portal at an issuer, whose host has to be that of a TrustIssuer as well; what they
	// may do is decided by roles of their object ids. Without them the portal takes the admin token only.
	PortalOIDCIssuer   string `name:"portal-oidc-issuer" help:"Issuer at which operators sign in to the portal, for example https://login.microsoftonline.com/TENANT/v2.0. A --trust-issuer of the same host has to accept its tokens." env:"TABARD_PORTAL_OIDC_ISSUER" placeholder:"URL"`
	PortalOIDCClientID string `name:"portal-oidc-client-id" help:"Client id of the portal at that issuer: a single-page application whose redirect address is that of the portal." env:"TABARD_PORTAL_OIDC_CLIENT_ID" placeholder:"ID"`
	PortalOIDCScope    string `name:"portal-oidc-scope" help:"Scope that gives an access token for the control plane." default:"openid https://management.azure.com/user_impersonation" env:"TABARD_PORTAL_OIDC_SCOPE" placeholder:"SCOPE"`
	PortalOIDCResource string `name:"portal-oidc-resource" help:"Resource to ask for beside the scope (RFC 8707), at issuers that want it." env:"TABARD_PORTAL_OIDC_RESOURCE" placeholder:"URL"`
	// Sample is an event handler that whoever starts the service runs beside it, for newcomers; nil: none. It is for
	// those who embed the package.
	Sample *SampleHandler `kong:"-" yaml:"-" json:"-"`

	// Seed are files of resources, as "tabard apply" takes them, that are applied at each start before the service says that
	// it is ready; what fails ends it. SeedParameters are values of templates' parameters among them.
	Seed           []string `help:"File or folder of resources to apply at each start, before the service is ready. Repeatable." env:"TABARD_SEED" placeholder:"FILE"`
	SeedParameters []string `help:"Value of a parameter of a seed that is a template, or a file of them. Repeatable." env:"TABARD_SEED_PARAMETERS" placeholder:"NAME=VALUE"`

	// AuditAge and AuditRecords bound what is kept of changes: the oldest records go when one of them is reached.
	AuditAge     time.Duration `help:"How long records of changes are kept, at least 1h." default:"2160h" env:"TABARD_AUDIT_AGE"`
	AuditRecords int64         `help:"How many records of changes are kept, at least 100." default:"100000" env:"TABARD_AUDIT_RECORDS"`

	// MaxConnections bounds the client connections of the whole process.
	MaxConnections int `help:"Client connections of the whole process at most." default:"100000" env:"TABARD_MAX_CONNECTIONS"`
	// OTLPEndpoint is an OpenTelemetry collector that gets spans by OTLP over HTTP. Without it, and without
	// OpenTelemetry's own variables, there are none.
	OTLPEndpoint string `name:"otlp-endpoint" help:"OpenTelemetry collector that gets spans by OTLP over HTTP, for example http://localhost:4318; OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_ENDPOINT …) work too." env:"TABARD_OTLP_ENDPOINT" placeholder:"URL"`
	// TraceRecords, TraceMemory and TraceContents bound the trace; see package trace.
	TraceRecords  int `name:"trace-records" help:"Trace records of one kind that are kept for each instance, faults and the routine apart." default:"1024" env:"TABARD_TRACE_RECORDS"`
	TraceMemory   int `name:"trace-memory" help:"Memory of all trace records together, MiB." default:"64" env:"TABARD_TRACE_MEMORY" placeholder:"MIB"`
	TraceContents int `name:"trace-contents" help:"Memory of the events' data that trace replay and listen need, MiB; -1 keeps none." default:"32" env:"TABARD_TRACE_CONTENTS" placeholder:"MIB"`
	// TraceDurable writes records to the data directory, sealed, so that they outlast the process; contents never are.
	TraceDurable     bool          `name:"trace-durable" help:"Write trace records to the data directory too, so that they outlast the process." env:"TABARD_TRACE_DURABLE"`
	TraceDurableAge  time.Duration `name:"trace-durable-age" help:"How long they are kept there." default:"168h" env:"TABARD_TRACE_DURABLE_AGE"`
	TraceDurableSize int           `name:"trace-durable-size" help:"How much of them is kept there, MiB; the oldest make room." default:"64" env:"TABARD_TRACE_DURABLE_SIZE" placeholder:"MIB"`
	// ShutdownTimeout bounds how long a stop waits for clients, deliveries and requests.
	ShutdownTimeout time.Duration `help:"How long a stop waits for clients, deliveries and requests." default:"20s" env:"TABARD_SHUTDOWN_TIMEOUT"`
}

// A SampleHandler is where the portal's first steps send events.
type SampleHandler struct {
	URL      string // template of its address
	Audience string // whose tokens it accepts
}

// A ConfigError lists everything that is wrong with a Config, at once.
type ConfigError []string

func (e ConfigError) Error() string { return strings.Join(e, "\n") }

// complete fills defaults in that kong would have set, for those who embed the package.
func (c *Config) complete() {
	set := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	set(&c.Data, ".tabard")
	set(&c.Listen, "127.0.0.1:8080")
	set(&c.AdminListen, "127.0.0.1:8081")
	set(&c.ACMECA, acme.LetsEncrypt)
	set(&c.PortalOIDCScope, "openid https://management.azure.com/user_impersonation")
	if c.NATSReplicas == 0 {
		c.NATSReplicas = 1
	}
	if c.TokenLifetime == 0 {
		c.TokenLifetime = 24 * time.Hour
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 100_000
	}
	if c.AuditAge == 0 {
		c.AuditAge = audit.DefaultMaxAge
	}
	if c.AuditRecords == 0 {
		c.AuditRecords = audit.DefaultMaxRecords
	}
	for v, d := range map[*int]int{&c.TraceRecords: 1024, &c.TraceMemory: 64, &c.TraceContents: 32, &c.TraceDurableSize: 64} {
		if *v == 0 {
			*v = d
		}
	}
	if c.TraceDurableAge == 0 {
		c.TraceDurableAge = 7 * 24 * time.Hour
	}
	if c.ShutdownTimeout == 0 {
		c.ShutdownTimeout = 20 * time.Second
	}
}

// Validate reports every fault of the configuration with its field and value.
func (c Config) Validate() error {
	c.complete()
	var faults ConfigError
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	address := func(field, v string) {
		if _, _, err := net.SplitHostPort(v); err != nil {
			fault("%s: %q is not HOST:PORT", field, v)
		}
	}
	address("listen", c.Listen)
	address("admin-listen", c.AdminListen)
	for name, addr := range c.InstanceListen {
		address("instance-listen "+name, addr)
	}
	c.vaultFaults(fault)
	c.armFaults(fault)
	if (c.TLSCert == "") != (c.TLSKey == "") {
		fault("tls-cert, tls-key: give both or neither")
	}
	if text := c.masterKeySource().fault(); text != "" {
		fault("%s", text)
	}
	c.acmeFaults(fault)
	for _, u := range c.PublicURL {
		if !isOrigin(u, "http", "https") {
			fault("public-url: %q is not an origin like https://wps.example.com", u)
		}
	}
	for _, text := range c.TrustedProxy {
		if !settings.Network(text).IsValid() {
			fault("trusted-proxy: %q is neither an address nor a network like 10.0.0.0/8", text)
		}
	}
	for field, list := range map[string][]string{"allow-handler-networks": c.AllowHandlerNetworks, "deny-handler-networks": c.DenyHandlerNetworks} {
		for _, n := range list {
			if _, err := netip.ParsePrefix(n); err != nil {
				fault("%s: %q is not a network like 10.0.0.0/8", field, n)
			}
		}
	}
	for _, address := range c.TrustIssuer {
		v, err := guard.NewVerifier(guard.Trust{Issuers: []string{address}, Audiences: []string{"any"}})
		if err != nil {
			fault("trust-issuer: %q is not the address of an issuer like https://login.microsoftonline.com/TENANT/v2.0", address)
			continue
		}
		v.Close()
	}
	c.portalFaults(fault)
	if c.NATSReplicas < 1 || c.NATSReplicas > 5 || c.NATSReplicas > 1 && c.NATSURL == "" {
		fault("nats-replicas: %d is not between 1 and 5, or there is no nats-url", c.NATSReplicas)
	}
	if c.NATSCredentials != "" && c.NATSURL == "" {
		fault("nats-credentials: needs nats-url")
	}
	if c.TokenLifetime < 5*time.Minute || c.TokenLifetime > 24*time.Hour {
		fault("token-lifetime: %v is not between 5m and 24h", c.TokenLifetime)
	}
	if c.AuditAge < time.Hour {
		fault("audit-age: %v is less than 1h", c.AuditAge)
	}
	if c.AuditRecords < 100 {
		fault("audit-records: %d is less than 100", c.AuditRecords)
	}
	if life := c.ClientTokenLifetime; life != 0 && (life < 5*time.Minute || life > 24*time.Hour) {
		fault("client-token-lifetime: %v is not between 5m and 24h", life)
	}
	if c.MaxConnections < 1 {
		fault("max-connections: %d is not positive", c.MaxConnections)
	}
	if u, err := url.Parse(c.OTLPEndpoint); c.OTLPEndpoint != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil) {
		fault("otlp-endpoint: %q is not the URL of a collector like http://localhost:4318", c.OTLPEndpoint)
	}
	for field, v := range map[string]int{"trace-records": c.TraceRecords, "trace-memory": c.TraceMemory, "trace-durable-size": c.TraceDurableSize} {
		if v < 1 || v > 1<<20 {
			fault("%s: %d is not between 1 and 1048576", field, v)
		}
	}
	if c.TraceContents < -1 || c.TraceContents > 1<<20 {
		fault("trace-contents: %d is neither -1 nor between 1 and 1048576", c.TraceContents)
	}
	if c.TraceDurableAge < time.Minute {
		fault("trace-durable-age: %v is shorter than 1m", c.TraceDurableAge)
	}
	if c.ShutdownTimeout < 0 {
		fault("shutdown-timeout: %v is negative", c.ShutdownTimeout)
	}
	if len(faults) > 0 {
		return faults
	}
	return nil
}
