package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"time"

	"github.com/alecthomas/kong"
	"gopkg.in/yaml.v3"
)

type configCheckCmd struct{ serviceFlags }

func (configCheckCmd) Help() string {
	return `Reads flags, environment and file exactly as serve does, starts nothing, and lists every fault with its field and value. Ends with 2 if there is one.

Example:

    tabard config check --config tabard.yaml

Words: settings are the flags of tabard serve; in a file they stand without the dashes in front.`
}

// Run is reached only with a configuration that parsed; what is left is the master key.
func (c *configCheckCmd) Run(s *stdio) error {
	if err := c.config().Validate(); err != nil {
		return err
	}
	return s.print(false, nil, func(w io.Writer) { row(w, "the configuration is good") })
}

type configPrintCmd struct {
	serviceFlags
	JSON bool `name:"json" help:"Print one JSON object instead of YAML."`
}

func (configPrintCmd) Help() string {
	return `Prints what serve would run with, as a YAML file that --config accepts. A comment behind each value says where it comes from: a flag, an environment variable, the file or the default. Secrets are redacted.

Example:

    TABARD_LISTEN=0.0.0.0:8080 tabard config print --config tabard.yaml

Words: settings are the flags of tabard serve; in a file they stand without the dashes in front.`
}

func (c *configPrintCmd) Run(ctx *kong.Context, s *stdio) error {
	if c.JSON {
		values := map[string]any{"master-key-from-environment": c.config().MasterKey != ""}
		for _, f := range settingsOf(ctx) {
			values[f.Name] = plain(f)
		}
		return s.print(true, values, nil)
	}
	doc := yaml.Node{Kind: yaml.MappingNode}
	for _, f := range settingsOf(ctx) {
		value := &yaml.Node{}
		if err := value.Encode(plain(f)); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		key := &yaml.Node{Kind: yaml.ScalarNode, Value: f.Name}
		if value.Kind == yaml.ScalarNode || len(value.Content) == 0 {
			value.LineComment = origin(ctx, f)
		} else {
			key.LineComment = origin(ctx, f)
		}
		doc.Content = append(doc.Content, key, value)
	}
	enc := yaml.NewEncoder(s.out)
	if err := enc.Encode(&doc); err != nil {
		return err
	}
	if c.config().MasterKey != "" {
		fmt.Fprintln(s.out, "# the master key comes from $TABARD_MASTER_KEY and is not shown")
	}
	return enc.Close()
}

// settingsOf are the command's flags that a file may set.
func settingsOf(ctx *kong.Context) []*kong.Flag {
	keys := fileKeys(ctx.Selected())
	return slices.DeleteFunc(slices.Clone(ctx.Selected().Flags), func(f *kong.Flag) bool { return !slices.Contains(keys, f.Name) })
}

// userInfo is what stands before the host of a URL, for example a NATS password.
var userInfo = regexp.MustCompile(`//[^/@,]*@`)

// plain is a flag's value as the file would have it, secrets redacted.
func plain(f *kong.Flag) any {
	switch v := f.Target.Interface().(type) {
	case time.Duration:
		return v.String()
	case string:
		return userInfo.ReplaceAllString(v, "//REDACTED@")
	case []string:
		return append([]string{}, v...) // an empty list, not null
	case map[string]string:
		if v == nil {
			return map[string]string{}
		}
		return v
	default:
		return v
	}
}

// origin says where a flag's value comes from.
func origin(ctx *kong.Context, f *kong.Flag) string {
	for _, p := range ctx.Path {
		if p.Flag == f && p.Resolved {
			return "file"
		}
		if p.Flag == f {
			return "flag"
		}
	}
	for _, name := range f.Envs {
		if _, set := os.LookupEnv(name); set {
			return "$" + name
		}
	}
	return "default"
}
