package arm

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Event listeners (Event Hubs) are kept as they are given and not acted on. Their form is checked all the same, so that a
// template that is accepted here is accepted in Azure.

func (d *reader) eventListeners(at string, raw json.RawMessage) (any bool) {
	list := d.array(at, raw)
	for i, item := range list {
		at := fmt.Sprintf("%s[%d]", at, i)
		if absent(item) {
			d.fault(at, "is null")
			continue
		}
		o := d.strict(at, item, "filter", "endpoint")
		filter := d.object(at+".filter", o["filter"], "type", "systemEvents", "userEventPattern")
		d.variant(at+".filter.type", filter["type"], "EventName")
		for j, event := range d.texts(at+".filter.systemEvents", filter["systemEvents"]) {
			if !strings.EqualFold(event, "connected") && !strings.EqualFold(event, "disconnected") {
				d.fault(fmt.Sprintf("%s.filter.systemEvents[%d]", at, j), "%q is none of connected, disconnected", event)
			}
		}
		d.text(at+".filter.userEventPattern", filter["userEventPattern"])
		endpoint := d.object(at+".endpoint", o["endpoint"], "type", "fullyQualifiedNamespace", "eventHubName")
		d.variant(at+".endpoint.type", endpoint["type"], "EventHub")
		for _, name := range []string{"fullyQualifiedNamespace", "eventHubName"} {
			if d.text(at+".endpoint."+name, endpoint[name]) == "" && endpoint != nil {
				d.fault(at+".endpoint."+name, "is required")
			}
		}
	}
	return len(list) > 0
}

// variant demands the one known value of a discriminator.
func (d *reader) variant(at string, raw json.RawMessage, want string) {
	if absent(raw) {
		d.fault(at, "is required: %s", want)
		return
	}
	d.choice(at, raw, want)
}
