package apply

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// YAML writes resources as a file for apply, notes as comments in front.
func (e *Exported) YAML() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("# Written by `tabard export`; `tabard apply -f` reads it.\n")
	for _, note := range e.Notes {
		b.WriteString("# Note: " + strings.ReplaceAll(note, "\n", " ") + ".\n")
	}
	if len(e.Resources) == 0 {
		b.WriteString("resources: []\n")
		return b.Bytes(), nil
	}
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for _, r := range e.Resources {
		list.Content = append(list.Content, asYAML(r, members))
	}
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(list); err != nil {
		return nil, err
	}
	return b.Bytes(), enc.Close()
}

// members are those of a resource in the order in which people expect them.
var members = []string{"type", "name", "resourceGroup", "scope", "location", "kind", "tags", "sku", "identity", "properties"}

func asYAML(v any, first []string) *yaml.Node {
	switch v := v.(type) {
	case map[string]any:
		n := &yaml.Node{Kind: yaml.MappingNode}
		names := slices.Sorted(maps.Keys(v))
		slices.SortStableFunc(names, func(a, b string) int { return place(first, a) - place(first, b) })
		for _, name := range names {
			n.Content = append(n.Content, scalar(name), asYAML(v[name], nil))
		}
		return n
	case []any:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for _, item := range v {
			n.Content = append(n.Content, asYAML(item, nil))
		}
		return n
	}
	return scalar(v)
}

func place(first []string, name string) int {
	if i := slices.Index(first, name); i >= 0 {
		return i
	}
	return len(first)
}

func scalar(v any) *yaml.Node {
	n := &yaml.Node{}
	if err := n.Encode(v); err != nil { // text, numbers and truth values always can be
		panic(err)
	}
	return n
}
