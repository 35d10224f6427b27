package arm

import (
	"tabard/internal/settings"
)

// Private endpoints and links, and replicas, have no meaning for a service on one's own machines (control-plane.md 7):
// shared private links are kept and count as approved, since the service reaches whatever the network lets it reach;
// private endpoint connections are made by a network that does not exist here, so there are none; a replica would be
// another node, which is refused by name rather than promised.

const (
	connectionType = instanceType + "/privateEndpointConnections"
	replicaType    = instanceType + "/replicas"
)

var sharedLinks = &subresource[settings.SharedPrivateLink]{
	kind:   "sharedPrivateLinkResources",
	of:     func(in *settings.Instance) map[string]*settings.SharedPrivateLink { return in.SharedPrivateLinks },
	sorted: (*settings.Instance).SortedLinks,
	name:   func(l *settings.SharedPrivateLink) string { return l.Name },
	decode: func(d *reader, name string, doc object, old *settings.SharedPrivateLink) *settings.SharedPrivateLink {
		p := d.properties(doc, "groupId", "privateLinkResourceId", "requestMessage", "fqdns")
		if old == nil {
			old = &settings.SharedPrivateLink{Name: name}
		}
		return &settings.SharedPrivateLink{
			Name: old.Name, GroupID: d.fixed("properties.groupId", p["groupId"], old.GroupID),
			ResourceID:     d.fixed("properties.privateLinkResourceId", p["privateLinkResourceId"], old.ResourceID),
			RequestMessage: d.text("properties.requestMessage", p["requestMessage"]), FQDNs: d.texts("properties.fqdns", p["fqdns"]),
		}
	},
	properties: func(_ *settings.Instance, l *settings.SharedPrivateLink) map[string]any {
		p := map[string]any{"groupId": l.GroupID, "privateLinkResourceId": l.ResourceID, "provisioningState": "Succeeded", "status": "Approved"}
		if l.RequestMessage != "" {
			p["requestMessage"] = l.RequestMessage
		}
		if len(l.FQDNs) > 0 {
			p["fqdns"] = l.FQDNs
		}
		return p
	},
}

const linkWarning = "a shared private link is stored and returned, but has no effect: what the network lets the service reach, it reaches"

// none serves the list of something that no instance has.
func (s *server) none(kind string) handler {
	return func(c *call) (reply, error) {
		if _, err := s.findParent(c, kind); err != nil {
			return reply{}, err
		}
		return values([]any{}), nil
	}
}

// missing serves what is asked of something that no instance has; its deletion is done.
func (s *server) missing(kind string) handler {
	return func(c *call) (reply, error) {
		in, err := s.findParent(c, kind)
		if err != nil {
			return reply{}, err
		}
		if c.r.Method == "DELETE" {
			return reply{status: 204}, nil
		}
		return reply{}, resourceNotFound(kind, in.Name+"/"+c.params["child"], in.ResourceGroup)
	}
}

func (s *server) putReplica(c *call) (reply, error) {
	if _, err := c.readJSON(); err != nil {
		return reply{}, err
	}
	if _, err := s.findParent(c, replicaType); err != nil {
		return reply{}, err
	}
	return reply{}, notSupported("Replicas of a resource in other regions are not supported by this service.")
}

func (s *server) listPrivateLinks(c *call) (reply, error) {
	const kind = instanceType + "/privateLinkResources"
	in, err := s.findParent(c, kind)
	if err != nil {
		return reply{}, err
	}
	return values([]any{map[string]any{
		"id": in.ResourceID() + "/privateLinkResources/webpubsub", "name": "webpubsub", "type": kind,
		"properties": map[string]any{
			"groupId": "webpubsub", "requiredMembers": []string{"webpubsub"}, "requiredZoneNames": []string{"privatelink.webpubsub.azure.com"},
			"shareablePrivateLinkResourceTypes": []any{},
		},
	}}), nil
}
