package arm

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"tabard/internal/settings"
)

// A tier is one of the SKUs of the cloud. None of them limits anything here.
type tier struct {
	name, tier, size string
	initial          int
	allowed          []int
	scale            string
}

var (
	units = []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100}
	tiers = []tier{
		{"Free_F1", "Free", "F1", 1, []int{1}, "None"},
		{"Standard_S1", "Standard", "S1", 1, units, "Manual"},
		{"Premium_P1", "Premium", "P1", 1, units, "Manual"},
		{"Premium_P2", "Premium", "P2", 100, []int{100, 200, 300, 400, 500, 600, 700, 800, 900, 1000}, "Manual"},
	}
)

func findTier(name string) *tier {
	for i := range tiers {
		if strings.EqualFold(tiers[i].name, name) {
			return &tiers[i]
		}
	}
	return nil
}

// decodeSKU reads a sku; without one it is that of a new instance.
func decodeSKU(d *reader, raw json.RawMessage) settings.SKU {
	if absent(raw) {
		return settings.SKU{Name: "Standard_S1", Tier: "Standard", Capacity: 1}
	}
	o := d.object("sku", raw, "name", "capacity", "tier")
	name, capacity := d.text("sku.name", o["name"]), d.integer("sku.capacity", o["capacity"])
	t := findTier(name)
	switch {
	case o == nil:
		return settings.SKU{}
	case t == nil:
		d.fault("sku.name", "%q is none of Free_F1, Standard_S1, Premium_P1, Premium_P2", name)
		return settings.SKU{}
	case absent(o["capacity"]):
		capacity = t.initial
	case !slices.Contains(t.allowed, capacity):
		d.fault("sku.capacity", "%d is not allowed for %s, which takes %s", capacity, t.name, strings.Trim(strings.Join(strings.Fields(fmt.Sprint(t.allowed)), ", "), "[]"))
	}
	return settings.SKU{Name: t.name, Tier: t.tier, Capacity: capacity}
}

// sku always has a capacity: azurerm reads it unchecked.
func sku(s settings.SKU) map[string]any {
	m := map[string]any{"name": s.Name, "tier": s.Tier, "capacity": s.Capacity}
	if t := findTier(s.Name); t != nil {
		m["tier"], m["size"] = t.tier, t.size
	}
	return m
}

func (s *server) listSKUs(c *call) (reply, error) {
	if _, err := s.find(c); err != nil {
		return reply{}, err
	}
	var list []any
	for _, t := range tiers {
		list = append(list, map[string]any{
			"resourceType": instanceType,
			"sku":          map[string]any{"name": t.name, "tier": t.tier},
			"capacity": map[string]any{
				"minimum": t.allowed[0], "maximum": t.allowed[len(t.allowed)-1], "default": t.initial, "allowedValues": t.allowed, "scaleType": t.scale,
			},
		})
	}
	return values(list), nil
}

// values is the answer of a list operation. Every list is complete, so there is no nextLink.
func values[T any](list []T) reply {
	if list == nil {
		list = []T{}
	}
	return reply{200, map[string]any{"value": list}}
}
