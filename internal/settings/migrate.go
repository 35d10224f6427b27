package settings

import (
	"encoding/json"
	"strings"
)

// migrate turns a stored instance of an older version into one of today's. Version 1 knew network rules and the
// stop switch as properties without effect.
func migrate(_ int, doc []byte) ([]byte, error) {
	var in Instance
	if err := json.Unmarshal(doc, &in); err != nil {
		return nil, err
	}
	var access string
	if raw, ok := in.Inert["publicNetworkAccess"]; ok && json.Unmarshal(raw, &access) == nil {
		in.PublicNetworkDisabled = strings.EqualFold(access, "Disabled")
		delete(in.Inert, "publicNetworkAccess")
	}
	var stopped string
	if raw, ok := in.Inert["resourceStopped"]; ok && json.Unmarshal(raw, &stopped) == nil {
		in.Stopped = strings.EqualFold(stopped, "true")
		delete(in.Inert, "resourceStopped")
	}
	if raw, ok := in.Inert["networkACLs"]; ok {
		var acl NetworkACLs
		var faults Faults
		if json.Unmarshal(raw, &acl) == nil {
			if acl.compile(&faults); len(faults) == 0 { // what cannot be enforced stays without effect
				in.NetworkACLs = &acl
				delete(in.Inert, "networkACLs")
			}
		}
	}
	return json.Marshal(in)
}
