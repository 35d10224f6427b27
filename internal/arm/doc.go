// Package arm is the control plane: what an operator's tools ask the service to be.
//
// Someone who manages Azure Web PubSub already has tools for it: SDKs, Terraform, az, scripts against the REST API.
// The same requests work here, at the same paths and with the same bodies (ARM): Microsoft.SignalRService/webPubSub with
// its hubs, keys, managed identity, custom domains and links; Microsoft.ManagedIdentity's user-assigned identities with
// federated credentials; Microsoft.KeyVault's vaults; Microsoft.Authorization's role assignments at any of these; the
// subscriptions, resource groups and providers around them; and the endpoints of the cloud. Applications and service
// principals are Microsoft Graph's (v1.0). The command line and the portal use nothing else. Extensions lie below an
// instance, and in properties.tabard.
//
// There are two surfaces, each with its own envelope of errors: ARM's in errors.go, Graph's in grapherrors.go. Every route
// is in table.go. A path is matched segment by segment in its escaped form, ignoring case; the casing that a name was
// created with stays. Every request is authorised first, whatever its path, but for the endpoints of the cloud, by which
// clients find out where to get a token. Nothing here polls or runs in the background: a write is done when it is
// answered, and its context does not end when the client goes away, so that no half of it is left behind.
//
// What it leaves to others: what happens to connections and caches when settings change (whoever listens to settings
// and directory), what instances and hubs may look like (settings), the tenant's objects (directory), who
// may call (the authorize function), listeners and TLS (root package). The handler has no state of its own but the
// number of trace followers, which end when Options.Done is closed, and the record of operations.
package arm
