package template

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A File is a template, or what counts as one: a list of resources is a template without parameters.
type File struct {
	Name string
	tpl  *templ
}

// A templ is the parts of a template that are looked at.
type templ struct {
	Pos
	parameters, variables, outputs *object
	functions, resources           *node
}

// Load reads files: a path of a file, of a folder (all its .yaml, .yml and .json files, not what is below) or "-" for
// stdin. A file may hold several YAML documents.
func Load(paths []string, stdin io.Reader) ([]*File, error) {
	var files []*File
	for _, path := range paths {
		names := []string{path}
		if path != "-" {
			info, err := os.Stat(path)
			if err != nil {
				return nil, err
			}
			if info.IsDir() {
				if names, err = inFolder(path); err != nil {
					return nil, err
				}
			}
		}
		for _, name := range names {
			loaded, err := loadFile(name, stdin)
			if err != nil {
				return nil, err
			}
			if files = append(files, loaded...); len(files) > MaxFiles {
				return nil, fmt.Errorf("there are more than %d documents", MaxFiles)
			}
		}
	}
	return files, nil
}

func inFolder(dir string) (names []string, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != dir:
			return fs.SkipDir
		case !d.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(path))):
			names = append(names, path)
		}
		return nil
	})
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("%s has no .yaml, .yml or .json file", dir)
	}
	slices.Sort(names)
	return names, err
}

func loadFile(name string, stdin io.Reader) ([]*File, error) {
	in, shown := stdin, "stdin"
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in, shown = f, name
	}
	text, err := io.ReadAll(io.LimitReader(in, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", shown, err)
	}
	if len(text) > MaxFile {
		return nil, fmt.Errorf("%s has more than %d bytes", shown, MaxFile)
	}
	docs, err := parse(shown, text)
	if err != nil {
		return nil, err
	}
	var files []*File
	for _, doc := range docs {
		tpl, err := asTemplate(doc)
		if err != nil {
			return nil, err
		}
		files = append(files, &File{shown, tpl})
	}
	if len(files) == 0 {
		return nil, Pos{File: shown}.errorf("it is empty")
	}
	return files, nil
}

// templateMembers are those that a template has.
var templateMembers = []string{"$schema", "contentVersion", "languageVersion", "apiProfile", "metadata", "definitions", "extensions", "imports", "parameters", "variables", "functions", "resources", "outputs"}

// asTemplate tells a template, a list of resources and a single resource apart.
func asTemplate(n *node) (*templ, error) {
	o := n.object()
	switch {
	case n.list() != nil:
		return &templ{Pos: n.Pos, resources: n}, nil
	case o == nil:
		return nil, n.errorf("it is %s, neither a template nor resources", kindOf(n.plain()))
	case o.get("resources") != nil && o.get("type") == nil || o.get("$schema") != nil:
		for _, name := range o.names {
			if !slices.ContainsFunc(templateMembers, func(m string) bool { return strings.EqualFold(m, name) }) {
				return nil, o.members[name].errorf("%q is no part of a template", name)
			}
		}
		tpl := &templ{Pos: n.Pos, parameters: o.get("parameters").object(), variables: o.get("variables").object(), outputs: o.get("outputs").object(), functions: o.get("functions"), resources: o.get("resources")}
		if strings.Contains(o.get("$schema").text(), "deploymentParameters.json") {
			return nil, n.errorf("it is a file of parameters: name it with --parameters")
		}
		if tpl.resources == nil {
			tpl.resources = &node{n.Pos, []*node{}}
		}
		return tpl, nil
	case o.get("type") != nil || o.get("id") != nil:
		return &templ{Pos: n.Pos, resources: &node{n.Pos, []*node{n}}}, nil
	}
	return nil, n.errorf("it is neither a template (resources) nor a resource (type)")
}

// Parameters are values for templates' parameters, by name in lower case.
type Parameters map[string]Parameter

// A Parameter is a value; one that was written as text on a command line becomes what the template wants.
type Parameter struct {
	Value  any
	Typed  bool // as in a file: its type is its own
	Origin string
}

// Set adds "name=value", or a file of parameters as Azure's tools take it.
func (p Parameters) Set(arg string) error {
	name, value, ok := strings.Cut(arg, "=")
	if ok && !strings.ContainsAny(name, "/\\. ") {
		p[strings.ToLower(name)] = Parameter{Value: value, Origin: name}
		return nil
	}
	arg = strings.TrimPrefix(arg, "@")
	text, err := os.ReadFile(arg)
	if err != nil {
		return err
	}
	docs, err := parse(arg, text)
	if err != nil {
		return err
	}
	if len(docs) != 1 || docs[0].object() == nil {
		return errors.New(arg + " is no file of parameters")
	}
	o := docs[0].object()
	if inner := o.get("parameters"); inner != nil {
		o = inner.object()
	}
	if o == nil {
		return errors.New(arg + " is no file of parameters")
	}
	for _, name := range o.names {
		n := o.members[name]
		v := n.object().get("value")
		switch {
		case n.object().get("reference") != nil:
			return n.errorf("parameter %s refers to a key vault, which is not supported here: use valueFrom in the resource", name)
		case n.object() == nil || v == nil:
			v = n // a plain file of names and values
		}
		p[strings.ToLower(name)] = Parameter{Value: v.plain(), Typed: true, Origin: name}
	}
	return nil
}
