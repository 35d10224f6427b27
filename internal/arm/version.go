package arm

import "regexp"

// versions are the api-versions that a provider's routes accept. All of them get the same superset model: no client
// is known that breaks on a field it does not know.
type versions struct {
	namespace string
	list      []string // the known ones, newest first; named in errors and by the providers list
	since     string   // if set, every later well-formed version is accepted too
}

var apiVersion = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}(-preview)?$`)

var (
	webPubSubVersions = &versions{namespace: "Microsoft.SignalRService", list: []string{
		"2026-03-01-preview", "2025-12-01-preview", "2025-08-01-preview", "2025-01-01-preview", "2024-10-01-preview", "2024-08-01-preview",
		"2024-04-01-preview", "2024-03-01", "2024-01-01-preview", "2023-08-01-preview", "2023-06-01-preview", "2023-03-01-preview",
		"2023-02-01", "2022-08-01-preview", "2021-10-01",
	}}
	identityVersions = &versions{namespace: "Microsoft.ManagedIdentity", since: "2018-11-30", list: []string{
		"2026-05-31", "2026-04-30", "2024-11-30", "2023-07-31-preview", "2023-01-31", "2022-01-31-preview", "2021-09-30-preview", "2018-11-30",
	}}
	authorizationVersions = &versions{namespace: "Microsoft.Authorization", since: "2015-07-01", list: []string{
		"2022-05-01-preview", "2022-04-01", "2020-10-01-preview", "2020-08-01-preview", "2020-04-01-preview", "2018-09-01-preview", "2018-07-01", "2018-01-01-preview", "2015-07-01",
	}}
	vaultVersions = &versions{namespace: "Microsoft.KeyVault", since: "2016-10-01", list: []string{
		"2025-05-01", "2024-11-01", "2024-04-01-preview", "2023-07-01", "2023-02-01", "2022-07-01", "2021-10-01", "2019-09-01", "2018-02-14", "2016-10-01",
	}}
	metadataVersions = &versions{namespace: "Microsoft.Resources", since: "2015-01-01", list: []string{"2022-09-01", "2020-06-01", "2019-05-01", "2018-05-01", "2015-01-01"}}
	resourceVersions = &versions{namespace: "Microsoft.Resources", since: "2014-04-01", list: []string{
		"2024-11-01", "2023-07-01", "2022-12-01", "2022-09-01", "2021-04-01", "2020-06-01", "2019-05-01", "2018-05-01", "2016-06-01", "2015-01-01", "2014-04-01",
	}}
)

func (v *versions) check(c *call, kind string) error {
	given := c.query("api-version")
	switch {
	case given == "":
		return missingVersion()
	case !apiVersion.MatchString(given):
		return malformedVersion(given)
	case v.since != "" && given >= v.since:
		return nil
	}
	for _, known := range v.list {
		if known == given {
			return nil
		}
	}
	return unknownVersion(v, kind, given)
}
