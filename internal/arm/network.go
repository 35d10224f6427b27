package arm

import (
	"encoding/json"
	"fmt"

	"tabard/internal/settings"
)

// networkACLs decodes network rules; settings judges their values. A name that is not known is a fault: a misspelt
// rule would not protect.
func (d *reader) networkACLs(at string, raw json.RawMessage) *settings.NetworkACLs {
	if absent(raw) {
		return nil
	}
	o := d.strict(at, raw, "defaultAction", "publicNetwork", "privateEndpoints", "ipRules")
	acl := &settings.NetworkACLs{DefaultAction: d.text(at+".defaultAction", o["defaultAction"])}
	if raw, ok := o["publicNetwork"]; ok {
		rule := d.strict(at+".publicNetwork", raw, "allow", "deny")
		acl.PublicNetwork = &settings.NetworkACL{
			Allow: d.requestTypes(at+".publicNetwork.allow", rule["allow"]), Deny: d.requestTypes(at+".publicNetwork.deny", rule["deny"]),
		}
	}
	if raw, ok := o["privateEndpoints"]; ok {
		for i, item := range d.array(at+".privateEndpoints", raw) {
			d.object(fmt.Sprintf("%s.privateEndpoints[%d]", at, i), item)
		}
		acl.PrivateEndpoints = raw
	}
	if raw, ok := o["ipRules"]; ok {
		acl.IPRules = []settings.IPRule{}
		for i, item := range d.array(at+".ipRules", raw) {
			at := fmt.Sprintf("%s.ipRules[%d]", at, i)
			rule := d.strict(at, item, "value", "action")
			acl.IPRules = append(acl.IPRules, settings.IPRule{Value: d.text(at+".value", rule["value"]), Action: d.text(at+".action", rule["action"])})
		}
	}
	return acl
}

func (d *reader) requestTypes(at string, raw json.RawMessage) []settings.RequestType {
	if absent(raw) {
		return nil
	}
	list := []settings.RequestType{}
	for _, given := range d.texts(at, raw) {
		list = append(list, settings.RequestType(given))
	}
	return list
}

// writableNetwork adds what a client may set about the network to an instance's properties.
func writableNetwork(in *settings.Instance, p map[string]any) {
	p["publicNetworkAccess"] = "Enabled"
	if in.PublicNetworkDisabled {
		p["publicNetworkAccess"] = "Disabled"
	}
	if in.NetworkACLs != nil {
		p["networkACLs"] = in.NetworkACLs
	}
}
