package arm

import (
	"net/http"
	"strings"
)

// The endpoints of this cloud (control-plane.md 9): what az, Terraform and others read before they have a token, in the
// three shapes that ARM has given them over the years. Services that do not exist here are named all the same where a
// client indexes the member unasked; their names are reserved and lead nowhere.

const metadataPath = "/metadata/endpoints"

// cloudName is the name that Terraform's environment "public" expects; az asks its user for one.
const cloudName = "AzureCloud"

func isMetadata(r *http.Request) bool {
	return strings.EqualFold(strings.TrimSuffix(r.URL.Path, "/"), metadataPath) && (r.Method == http.MethodGet || r.Method == http.MethodHead)
}

func (s *server) getMetadata(c *call) (reply, error) {
	if err := metadataVersions.check(c, "metadata/endpoints"); err != nil {
		return reply{}, err
	}
	version := c.query("api-version")
	switch {
	case version < "2018-05-01":
		return reply{200, s.oldMetadata(c)}, nil
	case version < "2022-09-01":
		return reply{200, []any{s.cloud(c)}}, nil
	}
	return reply{200, s.cloud(c)}, nil
}

// here is the origin of the control plane as this caller reaches it. Clients send tokens over TLS only.
func (c *call) here() string {
	return "https://" + c.r.Host
}

func (s *server) audiences(c *call) []string {
	return []string{"https://management.core.windows.net/", "https://management.azure.com/", c.here(), c.here() + "/"}
}

func (s *server) oldMetadata(c *call) map[string]any {
	return map[string]any{
		"galleryEndpoint": c.here() + "/", "graphEndpoint": c.here() + "/", "portalEndpoint": c.here() + "/",
		"authentication": map[string]any{"loginEndpoint": s.Authority() + "/", "audiences": s.audiences(c)},
	}
}

func (s *server) cloud(c *call) map[string]any {
	const nowhere = ".invalid" // RFC 2606
	suffixes := map[string]string{"keyVaultDns": s.VaultSuffix()}
	for _, name := range []string{
		"storage", "sqlServerHostname", "acrLoginServer", "azureDataLakeStoreFileSystem", "azureDataLakeAnalyticsCatalogAndJob", "azureFrontDoorEndpointSuffix",
		"storageSyncEndpointSuffix", "mhsmDns", "mysqlServerEndpoint", "postgresqlServerEndpoint", "mariadbServerEndpoint", "synapseAnalytics", "attestationEndpoint",
	} {
		suffixes[name] = strings.ToLower(name) + nowhere
	}
	cloud := map[string]any{
		"name": cloudName, "resourceManager": c.here() + "/", "microsoftGraphResourceId": c.here() + "/", "graph": c.here() + "/", "graphAudience": c.here() + "/",
		"portal": c.here() + "/", "gallery": c.here() + "/", "suffixes": suffixes,
		"authentication": map[string]any{
			"loginEndpoint": s.Authority() + "/", "audiences": s.audiences(c), "tenant": s.Directory.TenantID(), "identityProvider": "AAD",
		},
	}
	for _, name := range []string{
		"media", "batch", "sqlManagement", "vmImageAliasDoc", "activeDirectoryDataLake", "appInsightsResourceId", "appInsightsTelemetryChannelResourceId",
		"attestationResourceId", "synapseAnalyticsResourceId", "logAnalyticsResourceId", "ossrDbmsResourceId",
	} {
		cloud[name] = "https://" + strings.ToLower(name) + nowhere + "/"
	}
	return cloud
}
