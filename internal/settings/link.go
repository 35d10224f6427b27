package settings

// MaxLinks bounds the shared private links of an instance.
const MaxLinks = 64

// A SharedPrivateLink is stored and returned: whatever the network lets the service reach, it reaches.
type SharedPrivateLink struct {
	Name           string   `json:"name"` // as created; compared ignoring case
	GroupID        string   `json:"groupId"`
	ResourceID     string   `json:"privateLinkResourceId"`
	RequestMessage string   `json:"requestMessage,omitempty"`
	FQDNs          []string `json:"fqdns,omitempty"`
}

func (in *Instance) compileLinks(f *Faults) {
	if len(in.SharedPrivateLinks) > MaxLinks {
		f.add("sharedPrivateLinkResources", "are more than %d", MaxLinks)
	}
	for _, l := range sorted(in.SharedPrivateLinks) {
		if !instanceName.MatchString(l.Name) {
			f.add("name", "%q must be 3 to 63 letters, digits and dashes, beginning with a letter and not ending in a dash", l.Name)
		}
		text := func(field, value string, required bool) {
			if value == "" && required {
				f.add(field, "is required")
			}
			if len(value) > maxResource {
				f.add(field, "is longer than %d bytes", maxResource)
			}
		}
		text("properties.groupId", l.GroupID, true)
		text("properties.privateLinkResourceId", l.ResourceID, true)
		text("properties.requestMessage", l.RequestMessage, false)
		if len(l.FQDNs) > MaxLinks {
			f.add("properties.fqdns", "are more than %d", MaxLinks)
		}
		for _, name := range l.FQDNs {
			text("properties.fqdns", name, true)
		}
	}
}
