package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	kongyaml "github.com/alecthomas/kong-yaml"
	"gopkg.in/yaml.v3"
)

// configFile is the flag that names a YAML file. Its keys are the flags of the command, without dashes in front.
// Flags win over the environment, the environment over the file.
type configFile string

// notInFile are flags that make no sense in a file.
var notInFile = []string{"help", "config", "json"}

// BeforeResolve reads the file. kong calls it for every command that has the flag when the environment names the
// file, so it answers for the selected command alone.
func (configFile) BeforeResolve(ctx *kong.Context, trace *kong.Path) error {
	selected := ctx.Selected()
	if selected == nil || !slices.Contains(selected.Flags, trace.Flag) {
		return nil
	}
	name := string(ctx.FlagValue(trace.Flag).(configFile))
	if name == "" {
		return nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	resolver, err := loadConfigFile(text, fileKeys(selected))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	ctx.AddResolver(resolver)
	return nil
}

// fileKeys are the keys that a file for the command may have.
func fileKeys(command *kong.Node) []string {
	var keys []string
	for _, f := range command.Flags {
		if !slices.Contains(notInFile, f.Name) {
			keys = append(keys, f.Name)
		}
	}
	return keys
}

// loadConfigFile makes a resolver of the file's text. The YAML loader alone would ignore what it does not know, so
// unknown keys, empty values and further documents are refused first, all at once.
func loadConfigFile(text []byte, keys []string) (kong.Resolver, error) {
	if err := checkConfigFile(text, keys); err != nil {
		return nil, err
	}
	inner, err := kongyaml.Loader(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	return kong.ResolverFunc(func(ctx *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		if !slices.Contains(keys, flag.Name) || slices.ContainsFunc(flag.Envs, func(name string) bool { _, set := os.LookupEnv(name); return set }) {
			return nil, nil
		}
		// The loader would prefix the command's name; keys are the same for every command, so it sees none.
		return inner.Resolve(ctx, &kong.Path{App: ctx.Model}, flag)
	}), nil
}

func checkConfigFile(text []byte, keys []string) error {
	var doc yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&doc); errors.Is(err, io.EOF) {
		return nil // an empty file sets nothing
	} else if err != nil {
		return err
	}
	if err := decoder.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return errors.New("has more than one document")
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: is not a mapping of settings to values", root.Line)
	}
	var faults []string
	for i := 0; i < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		switch {
		case !slices.Contains(keys, key.Value):
			faults = append(faults, fmt.Sprintf("line %d: unknown setting %q", key.Line, key.Value))
		case value.Tag == "!!null":
			faults = append(faults, fmt.Sprintf("line %d: %s has no value", key.Line, key.Value))
		}
	}
	if len(faults) > 0 {
		return errors.New(strings.Join(faults, "\n"))
	}
	return nil
}
