package keyvault

// Shapes of the API's answers. Ids are made of the vault's origin as it is now: only names and versions are stored.

type attributes struct {
	Enabled         bool   `json:"enabled"`
	NotBefore       *int64 `json:"nbf,omitempty"`
	Expires         *int64 `json:"exp,omitempty"`
	Created         int64  `json:"created"`
	Updated         int64  `json:"updated"`
	RecoveryLevel   string `json:"recoveryLevel"`
	RecoverableDays int    `json:"recoverableDays"`
}

type bundle struct {
	Value       *string           `json:"value,omitempty"`
	ID          string            `json:"id"`
	ContentType string            `json:"contentType,omitempty"`
	Attributes  attributes        `json:"attributes"`
	Tags        map[string]string `json:"tags,omitempty"`
}

type deletedBundle struct {
	RecoveryID         string `json:"recoveryId"`
	DeletedDate        int64  `json:"deletedDate"`
	ScheduledPurgeDate int64  `json:"scheduledPurgeDate"`
	bundle
}

func (c *call) baseID(s *stored) string { return c.v.opt.Origin(c.vault.Name) + "/secrets/" + s.Name }

// item describes a secret in a list: no version in its id, no value.
func (c *call) item(s *stored) bundle {
	return bundle{
		ID: c.baseID(s), ContentType: s.ContentType, Tags: s.Tags,
		Attributes: attributes{
			Enabled: !s.Disabled, NotBefore: s.NotBefore, Expires: s.Expires, Created: s.Created, Updated: s.Updated,
			RecoveryLevel: c.vault.recoveryLevel(), RecoverableDays: c.vault.RetentionDays,
		},
	}
}

func (c *call) versionItem(s *stored) bundle {
	b := c.item(s)
	b.ID += "/" + s.ID
	return b
}

// bundle describes a version; get and set add the value.
func (c *call) bundle(s *stored) bundle { return c.versionItem(s) }

func (c *call) deletedItem(s *stored, m *mark) deletedBundle {
	return deletedBundle{
		RecoveryID:  c.v.opt.Origin(c.vault.Name) + "/deletedsecrets/" + s.Name,
		DeletedDate: m.Since, ScheduledPurgeDate: m.Purge, bundle: c.item(s),
	}
}

func (c *call) deletedBundle(s *stored, m *mark) deletedBundle {
	b := c.deletedItem(s, m)
	b.ID += "/" + s.ID
	return b
}
