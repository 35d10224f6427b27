package template

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// A node is a value of a document at its place, not yet computed. It is one of: nil, bool, int64, float64, string,
// []*node, or *object.
type node struct {
	Pos
	value any
}

// An object keeps its members in the order of the file.
type object struct {
	names   []string
	members map[string]*node
}

func (o *object) get(name string) *node {
	if o == nil {
		return nil
	}
	if n, ok := o.members[name]; ok {
		return n
	}
	for _, n := range o.names {
		if strings.EqualFold(n, name) {
			return o.members[n]
		}
	}
	return nil
}

func (n *node) object() *object {
	if n == nil {
		return nil
	}
	o, _ := n.value.(*object)
	return o
}

func (n *node) list() []*node {
	if n == nil {
		return nil
	}
	l, _ := n.value.([]*node)
	return l
}

// text is a string as it stands, without computing it.
func (n *node) text() string {
	if n == nil {
		return ""
	}
	s, _ := n.value.(string)
	return s
}

// parse reads all documents of a file: JSON if it is that, or is called that, otherwise YAML.
func parse(file string, text []byte) ([]*node, error) {
	trimmed := bytes.TrimLeft(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), " \t\r\n")
	if strings.EqualFold(filepath.Ext(file), ".json") && len(trimmed) > 0 || json.Valid(withoutComments(trimmed)) {
		n, err := parseJSON(file, text[len(text)-len(trimmed):], bytes.Count(text[:len(text)-len(trimmed)], []byte("\n")))
		if err != nil {
			return nil, err
		}
		return []*node{n}, nil
	}
	var docs []*node
	for dec := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var y yaml.Node
		err := dec.Decode(&y)
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			return nil, Pos{File: file}.errorf("%s", strings.TrimPrefix(err.Error(), "yaml: "))
		}
		if len(y.Content) == 0 || y.Content[0].Tag == "!!null" {
			continue // nothing between two separators
		}
		n, err := fromYAML(file, y.Content[0], 0)
		if err != nil {
			return nil, err
		}
		docs = append(docs, n)
	}
}

func fromYAML(file string, y *yaml.Node, depth int) (*node, error) {
	n := &node{Pos: Pos{file, y.Line}}
	if depth > maxDepth {
		return nil, n.errorf("it is nested deeper than %d levels", maxDepth)
	}
	switch y.Kind {
	case yaml.AliasNode: // a document of aliases of aliases could grow without end
		return nil, n.errorf("aliases (*%s) are not supported", y.Value)
	case yaml.MappingNode:
		o := &object{members: map[string]*node{}}
		for i := 0; i < len(y.Content); i += 2 {
			name, at := y.Content[i], Pos{file, y.Content[i].Line}
			if name.Kind != yaml.ScalarNode || name.Tag == "!!merge" {
				return nil, at.errorf("a member's name must be text")
			}
			if o.get(name.Value) != nil {
				return nil, at.errorf("%q is there twice", name.Value)
			}
			v, err := fromYAML(file, y.Content[i+1], depth+1)
			if err != nil {
				return nil, err
			}
			o.names, o.members[name.Value] = append(o.names, name.Value), v
		}
		n.value = o
	case yaml.SequenceNode:
		list := []*node{}
		for _, item := range y.Content {
			v, err := fromYAML(file, item, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		n.value = list
	case yaml.ScalarNode:
		return n, n.scalar(y)
	}
	return n, nil
}

// scalar reads a plain value. A date is text here: api-versions look like one.
func (n *node) scalar(y *yaml.Node) (err error) {
	switch y.Tag {
	case "!!null":
	case "!!bool":
		var b bool
		err = y.Decode(&b)
		n.value = b
	case "!!int":
		var i int64
		if err = y.Decode(&i); err != nil {
			err = fmt.Errorf("%s is no integer of 64 bits", y.Value)
		}
		n.value = i
	case "!!float":
		var f float64
		err = y.Decode(&f)
		n.value = f
	case "!!str", "!!timestamp":
		n.value = y.Value
	default:
		err = fmt.Errorf("values of type %s are not supported", y.Tag)
	}
	return n.at(err)
}

// parseJSON reads one document and keeps the lines. Comments, which ARM allows in templates, are skipped.
func parseJSON(file string, text []byte, skipped int) (*node, error) {
	text = withoutComments(text)
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	r := &jsonReader{file: file, text: text, dec: dec, line: skipped + 1}
	n, err := r.value(0)
	if err == nil {
		if _, more := dec.Token(); more != io.EOF {
			err = r.pos().errorf("something follows the JSON value")
		}
	}
	if err != nil {
		if _, ok := err.(*Error); !ok {
			err = r.pos().errorf("the JSON is malformed: %v", err)
		}
		return nil, err
	}
	return n, nil
}

type jsonReader struct {
	file string
	text []byte
	dec  *json.Decoder
	line int
	upTo int64 // lines are counted up to here
}

func (r *jsonReader) pos() Pos {
	at := min(r.dec.InputOffset(), int64(len(r.text)))
	r.line += bytes.Count(r.text[r.upTo:at], []byte("\n"))
	r.upTo = at
	return Pos{r.file, r.line}
}

func (r *jsonReader) value(depth int) (*node, error) {
	token, err := r.dec.Token()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	n := &node{Pos: r.pos()}
	if depth > maxDepth {
		return nil, n.errorf("it is nested deeper than %d levels", maxDepth)
	}
	switch v := token.(type) {
	case json.Delim:
		if v == '[' {
			list := []*node{}
			for r.dec.More() {
				item, err := r.value(depth + 1)
				if err != nil {
					return nil, err
				}
				list = append(list, item)
			}
			n.value = list
		} else {
			o := &object{members: map[string]*node{}}
			for r.dec.More() {
				name, err := r.dec.Token()
				if err != nil {
					return nil, err
				}
				if o.get(name.(string)) != nil { // the decoder admits nothing else here
					return nil, r.pos().errorf("%q is there twice", name)
				}
				item, err := r.value(depth + 1)
				if err != nil {
					return nil, err
				}
				o.names, o.members[name.(string)] = append(o.names, name.(string)), item
			}
			n.value = o
		}
		_, err = r.dec.Token() // the closing delimiter
		return n, err
	case json.Number:
		if i, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			n.value = i
		} else if n.value, err = v.Float64(); err != nil {
			return nil, n.errorf("%s is no number of 64 bits", v)
		}
	default:
		n.value = v
	}
	return n, nil
}

// withoutComments replaces // and /* */ outside of strings by blanks; lines stay.
func withoutComments(text []byte) []byte {
	out := bytes.Clone(text)
	for i := 0; i < len(out); i++ {
		switch {
		case out[i] == '"':
			for i++; i < len(out) && out[i] != '"'; i++ {
				if out[i] == '\\' {
					i++
				}
			}
		case out[i] == '/' && i+1 < len(out) && out[i+1] == '/':
			for ; i < len(out) && out[i] != '\n'; i++ {
				out[i] = ' '
			}
		case out[i] == '/' && i+1 < len(out) && out[i+1] == '*':
			end := bytes.Index(out[i+2:], []byte("*/"))
			if end < 0 {
				return out
			}
			for stop := i + 2 + end + 2; i < stop; i++ {
				if out[i] != '\n' {
					out[i] = ' '
				}
			}
			i--
		}
	}
	return out
}
