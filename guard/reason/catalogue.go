package reason

// Access tokens that a receiver verifies (the guard, and the data plane for
// tokens of the directory).
const (
	TokenMissing                 Code = "token_missing"
	TokenMalformed               Code = "token_malformed"
	TokenTooLarge                Code = "token_too_large"
	SeveralAuthorizationHeaders  Code = "several_authorization_headers"
	AuthorizationSchemeNotBearer Code = "authorization_scheme_not_bearer"
	AlgorithmNotAllowed          Code = "algorithm_not_allowed"
	CriticalHeader               Code = "critical_header"
	EncryptedToken               Code = "encrypted_token"
	KeyIDInvalid                 Code = "key_id_invalid"
	UnknownKey                   Code = "unknown_key"
	SignatureInvalid             Code = "signature_invalid"
	KeyIssuerMismatch            Code = "key_issuer_mismatch"
	ClaimInvalid                 Code = "claim_invalid"
	WrongTenant                  Code = "wrong_tenant"
	IssuerMismatch               Code = "issuer_mismatch"
	IssuerVersion                Code = "issuer_version"
	WrongAudience                Code = "wrong_audience"
	AudienceIsGraph              Code = "audience_is_graph"
	AudienceIsList               Code = "audience_is_list"
	ExpiryMissing                Code = "expiry_missing"
	Expired                      Code = "expired"
	NotYetValid                  Code = "not_yet_valid"
	ClockSkew                    Code = "clock_skew"
	LifetimeTooLong              Code = "lifetime_too_long"
	NotAppToken                  Code = "not_app_token"
	CallerNotAllowed             Code = "caller_not_allowed"
	RoleMissing                  Code = "role_missing"
	DiscoveryFailed              Code = "discovery_failed"
	DiscoveryInvalid             Code = "discovery_invalid"
)

// Requests that reach an event handler with a good token and are refused all
// the same.
const (
	EventMalformed         Code = "event_malformed"
	EventSignatureMissing  Code = "event_signature_missing"
	EventSignatureInvalid  Code = "event_signature_invalid"
	OriginMissing          Code = "origin_missing"
	ValidationOriginDenied Code = "validation_origin_denied"
	BodyTooLarge           Code = "body_too_large"
	MethodNotAllowed       Code = "method_not_allowed"
	DuplicateStillRunning  Code = "duplicate_still_running"
	HandlerReplyInvalid    Code = "handler_reply_invalid"
	HandlerFailedOnEvent   Code = "handler_failed_on_event"
	HandlerRejectedConnect Code = "handler_rejected_connect"
	UpstreamUnreachable    Code = "upstream_unreachable"
)

// Clients and servers that the service itself refuses.
const (
	NoToken             Code = "no_token"
	AnonymousDenied     Code = "anonymous_denied"
	KeySignatureInvalid Code = "key_signature_invalid"
	AudienceMismatch    Code = "audience_mismatch"
	HubInvalid          Code = "hub_invalid"
	GroupClaimInvalid   Code = "group_claim_invalid"
	LocalAuthDisabled   Code = "local_auth_disabled"
	AADAuthDisabled     Code = "aad_auth_disabled"
	PermissionDenied    Code = "permission_denied"
	RoleUnassigned      Code = "role_unassigned"
	ConnectionLimit     Code = "connection_limit"
	GroupLimit          Code = "group_limit"
	MessageRate         Code = "message_rate"
	HeadTooLarge        Code = "head_too_large"
	OriginDenied        Code = "origin_denied"
	NetworkDenied       Code = "network_denied"
	InstanceStopped     Code = "instance_stopped"
)

// Events on their way to a handler.
const (
	ClientGone              Code = "client_gone"
	Overloaded              Code = "overloaded"
	Delivered               Code = "delivered"
	NoHandler               Code = "no_handler"
	TemplateInvalid         Code = "template_invalid"
	SecretUnavailable       Code = "secret_unavailable"
	SecretHostNotAllowed    Code = "secret_host_not_allowed"
	SecretChallengeRefused  Code = "secret_challenge_refused"
	SecretDenied            Code = "secret_denied"
	SecretNotFound          Code = "secret_not_found"
	SecretDisabled          Code = "secret_disabled"
	SecretNeverResolved     Code = "secret_never_resolved"
	SecretUnusable          Code = "secret_unusable"
	IdentityMissing         Code = "identity_missing"
	ResourceUnregistered    Code = "resource_unregistered"
	AudienceEmpty           Code = "audience_empty"
	TokenUnavailable        Code = "token_unavailable"
	TokenOverPlainHTTP      Code = "token_over_plain_http"
	DestinationBlocked      Code = "destination_blocked"
	DNSFailure              Code = "dns_failure"
	ConnectFailure          Code = "connect_failure"
	TLSFailure              Code = "tls_failure"
	Timeout                 Code = "timeout"
	ValidationFailed        Code = "validation_failed"
	ValidationHeaderMissing Code = "validation_header_missing"
	ValidationUnauthorized  Code = "validation_unauthorized"
	HandlerUnauthorized     Code = "handler_unauthorized"
	HandlerForbidden        Code = "handler_forbidden"
	HandlerError            Code = "handler_error"
	HandlerRedirect         Code = "handler_redirect"
	HandlerResponseInvalid  Code = "handler_response_invalid"
	ResponseTooLarge        Code = "response_too_large"
	HeaderNotASCII          Code = "header_not_ascii"
	StateTooLarge           Code = "state_too_large"
)

var catalogue = []Reason{
	// Access tokens.
	{TokenMissing, "the request carries no access token",
		"send `Authorization: Bearer <token>`; for an event handler set its authentication to ManagedIdentity with this application as the audience"},
	{TokenMalformed, "the token is not a well-formed signed JWT",
		"send the access token unchanged: three base64url parts joined by dots, without padding, quotes or white space, each JSON member once"},
	{TokenTooLarge, "the token is larger than the limit",
		"reduce the claims of the token, usually its roles; the limit is 16 KiB"},
	{SeveralAuthorizationHeaders, "the request carries more than one Authorization header",
		"send exactly one; look for a proxy that adds its own"},
	{AuthorizationSchemeNotBearer, "the Authorization header does not have the scheme Bearer with one token",
		"send `Authorization: Bearer <token>`"},
	{AlgorithmNotAllowed, "the token is signed with an algorithm that is not allowed",
		"an issuer signs access tokens with RS256, an access key signs with HS256; take the token from where it is issued, do not sign it yourself, and give it to the surface that it is for"},
	{CriticalHeader, "the token's header demands an extension (crit) that is not understood",
		"access tokens of the Microsoft identity platform carry no crit; find out who made this token"},
	{EncryptedToken, "the token is encrypted or opaque, only its audience can read it",
		"ask for a token whose audience is your own application; such a token is signed and readable"},
	{KeyIDInvalid, "the token's header names no usable signing key (kid)",
		"the issuer must set kid to a string of 1 to 256 bytes"},
	{UnknownKey, "the token is signed with a key that the issuer does not publish",
		"check that the receiver trusts the same issuer that made the token; after an emergency key change the receiver's next look at the issuer's keys cures it"},
	{SignatureInvalid, "the token's signature does not verify with the issuer's key",
		"the token was altered or signed by someone else; get a fresh one from the issuer"},
	{KeyIssuerMismatch, "the signing key belongs to another issuer than the token names",
		"the token is signed by a key of another tenant kind; get one from the tenant that the receiver expects"},
	{ClaimInvalid, "a claim of the token is missing or has the wrong type",
		"use an unmodified access token of the Microsoft identity platform or of the embedded token service"},
	{WrongTenant, "the token comes from a tenant that is not allowed",
		"add the tenant id to the receiver's allowed tenants, or use an identity of an allowed tenant"},
	{IssuerMismatch, "the token's issuer is not the expected one",
		"configure the receiver with the issuer that the token names (iss), if that is the one you trust; compare character by character, with the trailing slash"},
	{IssuerVersion, "the token's version and its issuer do not belong together, or the receiver does not accept this version",
		"the audience's application decides the version (requestedAccessTokenVersion); configure the receiver with the discovery document of that version: with /v2.0 for version 2, without for version 1"},
	{WrongAudience, "the token was issued for another audience",
		"make the event handler's audience and the receiver's audience the same string; a version 2 token always has the application id as its audience"},
	{AudienceIsGraph, "the token was issued for Microsoft Graph, nobody else can verify it",
		"name your own application as the audience of the event handler; an empty audience means Microsoft Graph"},
	{AudienceIsList, "the token has a list of audiences instead of one",
		"access tokens of the Microsoft identity platform have one audience as a string; use one of those"},
	{ExpiryMissing, "the token has no expiry time (exp)",
		"use an issuer that sets exp; a token that never expires is not accepted"},
	{Expired, "the token has expired",
		"get a fresh token; if it is fresh, compare the clocks of issuer and receiver"},
	{NotYetValid, "the token is not valid yet (nbf)",
		"compare the clocks of issuer and receiver; 5 minutes of difference are allowed"},
	{ClockSkew, "the token was issued in the future (iat), the clocks of issuer and receiver differ by more than is allowed",
		"synchronise both clocks, for example with NTP; 5 minutes of difference are allowed"},
	{LifetimeTooLong, "the token lives longer than the receiver allows",
		"shorten the issuer's token lifetime, or raise the receiver's limit (48 hours by default)"},
	{NotAppToken, "the token is not an application's access token but a user's, an id token or of another kind",
		"call as an application: with a managed identity or with client credentials"},
	{CallerNotAllowed, "the token is good, but its caller is not on the receiver's list",
		"add the caller's object id (oid) or client id (appid, azp) to the receiver's allowed callers"},
	{RoleMissing, "the token is good, but lacks a role that the receiver demands",
		"assign the application role to the calling identity, then wait for or force a fresh token"},
	{DiscoveryFailed, "the issuer's discovery document or keys cannot be fetched",
		"check that the receiver reaches the issuer over https and trusts its certificate (give it the CA file)"},
	{DiscoveryInvalid, "the issuer's discovery document or keys are not acceptable",
		"the document must name the configured issuer and an https jwks_uri on an allowed host; check the discovery address"},

	// Requests to an event handler.
	{EventMalformed, "the request is not a Web PubSub CloudEvent",
		"an event is a POST with the ce- headers that the service sends (ce-awpsversion, ce-type, ce-source, ce-id, ce-hub, ce-connectionId, ce-eventName), each once"},
	{EventSignatureMissing, "the event carries no ce-signature, and the receiver demands one",
		"the service signs events only while it has access keys (local authentication enabled); otherwise do not demand the signature and rely on the token"},
	{EventSignatureInvalid, "the event's ce-signature fits none of the receiver's access keys",
		"give the receiver the primary or secondary access key of the instance that sends the event"},
	{OriginMissing, "the validation request carries no WebHook-Request-Origin",
		"send WebHook-Request-Origin with the host name of the service"},
	{ValidationOriginDenied, "the validation request comes from a service that the receiver does not allow",
		"add the service's public host name to the receiver's allowed origins"},
	{BodyTooLarge, "the request's body is larger than the receiver allows",
		"send smaller messages, or raise the receiver's limit"},
	{MethodNotAllowed, "the request's method is not one that an event handler answers",
		"events are sent with POST, the validation with OPTIONS"},
	{DuplicateStillRunning, "the same event is still being handled, and the first answer did not come in time",
		"repeat the event later, or make the handler faster"},
	{HandlerReplyInvalid, "the handler's code returned an answer that cannot be sent",
		"correct the handler: a rejection needs a status of 400 or above, state at most 8 KiB, JSON must encode"},
	{HandlerFailedOnEvent, "the handler's code returned an error",
		"see the handler's own log; the error's text is not sent to the caller"},
	{HandlerRejectedConnect, "the handler's code rejected the client",
		"this is the application's decision; see the handler's own log"},
	{UpstreamUnreachable, "the application behind the guard does not answer",
		"check that it runs at the guard's --upstream address; the guard's own log says what went wrong"},

	// Clients and servers of the service.
	{NoToken, "the request carries no access token and no access-key token",
		"add access_token to the client URL, or `Authorization: Bearer <token>` to the request"},
	{AnonymousDenied, "the client carries no access token, and the hub does not admit anonymous clients",
		"use a client access URL with a token, or set the hub's anonymousConnectPolicy to allow"},
	{KeySignatureInvalid, "the token's signature fits neither access key of the instance",
		"sign with the current primary or secondary access key of this instance; keys may have been regenerated"},
	{AudienceMismatch, "the token's audience is not the address that is called",
		"sign the token for the address that the client really uses, or tell the service its public host name"},
	{HubInvalid, "the hub's name is missing or not valid",
		"a hub name begins with a letter and has letters, digits and a few signs only, at most 127 characters"},
	{GroupClaimInvalid, "the token names a group that is not valid",
		"a group name has 1 to 1024 characters; correct the webpubsub.group claim"},
	{LocalAuthDisabled, "access keys are switched off for this instance",
		"use a token of the directory, or set disableLocalAuth to false"},
	{AADAuthDisabled, "tokens of the directory are switched off for this instance",
		"use an access key, or set disableAadAuth to false"},
	{PermissionDenied, "the caller is known but may not do this",
		"grant the role or permission that the operation needs"},
	{RoleUnassigned, "the caller's token is good, but no role that is assigned to it allows the operation",
		"assign a role such as Web PubSub Service Owner to the caller's object id at the instance, its resource group or its subscription (tabard role assign); it counts at once"},
	{ConnectionLimit, "the instance or hub has as many connections as it may have",
		"close connections or raise the limit"},
	{GroupLimit, "the client wants to be in more groups than a connection of the instance may",
		"join fewer groups, or raise the instance's maxGroupsPerConnection"},
	{MessageRate, "the client sent messages faster than the instance allows",
		"send less often, or raise the instance's maxMessagesPerSecond"},
	{HeadTooLarge, "the address or the headers of the handshake are too long",
		"shorten the query or the token, or find out who adds so many headers"},
	{OriginDenied, "the browser page's origin is not allowed to connect",
		"add the origin to the allowed origins of the instance"},
	{NetworkDenied, "the network rules of the instance do not admit this type of request from this address",
		"see the instance's publicNetworkAccess and networkACLs; behind a reverse proxy name it by --trusted-proxy, or its address counts"},
	{InstanceStopped, "the instance was stopped by an operator: its data plane serves nobody",
		"set the instance's resourceStopped to false"},

	// Events on their way to a handler.
	{ClientGone, "the client left, or its request was given up, before the handler answered",
		"make the handler answer sooner, or hand long work over and answer at once; a client that was closed on purpose needs nothing"},
	{Overloaded, "a notification was dropped, because too many wait already or because the service is stopping",
		"find out why the hub's handler is slow to take connected and disconnected events, or give it more room"},
	{Delivered, "the event was delivered, the handler accepted it",
		"nothing to do"},
	{NoHandler, "no event handler of the hub takes this event",
		"add an event handler whose userEventPattern or systemEvents contains the event"},
	{TemplateInvalid, "the handler's URL template does not expand to an absolute http or https URL",
		"correct the URL template; parameters are {hub}, {event} and Key Vault references, none of them in the host"},
	{SecretUnavailable, "a secret that the handler's URL refers to cannot be read",
		"check that the secret exists and that the instance's identity may read it"},
	{SecretHostNotAllowed, "the Key Vault reference names a host that is no vault of this service and in no domain whose vaults it reads",
		"correct the reference, or add the vault's domain to --vault-domain; no token was asked for or sent"},
	{SecretChallengeRefused, "the vault demanded a token for another resource or of another tenant than is configured for its domain; none was sent",
		"check the vault's domain and its configured resource; a vault of another tenant needs the operator's consent"},
	{SecretDenied, "the vault refused to give the secret to the instance's identity",
		"give the identity's object id the secret permission Get in the vault's access policies, or the role Key Vault Secrets User; it counts at once"},
	{SecretNotFound, "the vault has no secret of that name or version",
		"set the secret, recover it if it was deleted, or correct the reference; a name without a version means the newest"},
	{SecretDisabled, "the secret that the handler's URL refers to is disabled",
		"enable the version, or set a new one; a disabled newest version is not replaced by an older one"},
	{SecretNeverResolved, "the secret was never read so far, and the vault cannot be asked now",
		"check that the vault is reachable from the service; it is tried again within a minute"},
	{SecretUnusable, "the value of the secret cannot stand in a URL",
		"store the value percent-encoded and without line breaks, or set encodeSecrets on the hub"},
	{IdentityMissing, "the handler wants a managed identity, and the instance has none",
		"assign a system-assigned or a user-assigned identity to the instance"},
	{ResourceUnregistered, "no application in the directory has the handler's audience as its id or identifier URI",
		"register an application with this identifier URI, or correct the audience"},
	{AudienceEmpty, "the handler wants a managed identity and names no audience; such a token is for Microsoft Graph and the handler cannot verify it",
		"set auth.managedIdentity.resource to your own application's id or identifier URI"},
	{TokenUnavailable, "no access token could be obtained for the handler's audience; nothing was sent without it",
		"see the error of the token source; the event is sent again only if the client repeats it"},
	{TokenOverPlainHTTP, "the handler's URL is plain http beyond this machine, a token is not sent over it",
		"use https, or allow plain http explicitly in the instance's settings"},
	{DestinationBlocked, "the handler's address is one that the service does not call",
		"link-local, metadata and the service's own addresses are never called; loopback is allowed in the development profile only; allow a private network explicitly"},
	{DNSFailure, "the handler's host name does not resolve",
		"check the host name and the resolver of the machine that the service runs on"},
	{ConnectFailure, "no connection to the handler",
		"check that the handler runs, and the port and firewall between it and the service"},
	{TLSFailure, "no TLS session with the handler",
		"check the handler's certificate: name, dates, issuer; give the service the CA if it is a private one"},
	{Timeout, "the handler did not answer in time",
		"answer sooner; the whole exchange with its repetitions may take 100 seconds"},
	{ValidationFailed, "the handler did not pass the endpoint validation",
		"answer OPTIONS with 200 and `WebHook-Allowed-Origin: *` or the service's host name"},
	{ValidationHeaderMissing, "the handler answered the endpoint validation without allowing this service",
		"add `WebHook-Allowed-Origin` to the answer, with * or the service's host name as the whole value, one header line for each host"},
	{ValidationUnauthorized, "the handler refused the endpoint validation as unauthorised",
		"switch managed identity on for the handler so that the validation carries the token, or let OPTIONS pass without one"},
	{HandlerUnauthorized, "the handler answered 401",
		"compare the token's iss, aud and ver with what the handler expects; its WWW-Authenticate says more"},
	{HandlerForbidden, "the handler answered 403",
		"allow this identity at the handler by its object id or client id, or assign the role that the handler demands"},
	{HandlerError, "the handler answered with a status that is not a success",
		"see the handler's own log"},
	{HandlerRedirect, "the handler answered with a redirect, which is not followed",
		"configure the final URL"},
	{HandlerResponseInvalid, "the handler's answer cannot be used",
		"answer a user event with text/plain, application/json or application/octet-stream, and connect with a JSON object as documented"},
	{ResponseTooLarge, "the handler's answer is larger than 16 MiB",
		"answer with less, or send the data through the REST API in parts"},
	{HeaderNotASCII, "a request header would hold characters that are not ASCII",
		"use ASCII in hub and event names, metadata and connection state; only the user id may be other text"},
	{StateTooLarge, "the connection state in the handler's answer is larger than 8 KiB",
		"keep less in the state, for example a key to your own store"},
}
