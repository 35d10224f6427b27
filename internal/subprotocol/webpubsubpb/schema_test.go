package webpubsubpb

import (
	"bufio"
	"os"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
)

var (
	opens = regexp.MustCompile(`^(message|oneof) (\w+) \{(\})?$`)
	field = regexp.MustCompile(`^(?:(optional|repeated) )?(map<string, string>|[\w.]+) (\w+) = (\d+);$`)
)

// A fact is what the schema says about one field.
type fact struct {
	number protoreflect.FieldNumber
	typ    string // as it is written
	label  string // optional, repeated, map, or the name of its oneof
}

// written reads the facts of the .proto by the full name of each field.
func written(t *testing.T) map[protoreflect.FullName]fact {
	f, err := os.Open("webpubsub.proto")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	facts := map[protoreflect.FullName]fact{}
	type scope struct{ kind, name string }
	var in []scope
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if m := opens.FindStringSubmatch(line); m != nil {
			if m[3] == "" {
				in = append(in, scope{m[1], m[2]})
			}
			continue
		}
		if line == "}" {
			in = in[:len(in)-1]
			continue
		}
		m := field.FindStringSubmatch(line)
		if m == nil {
			if len(in) > 0 && line != "" && !strings.HasPrefix(line, "//") {
				t.Fatalf("the test cannot read %q", line)
			}
			continue
		}
		name, label := "azure.webpubsub", m[1]
		for _, s := range in {
			if s.kind == "oneof" {
				label = s.name
				continue
			}
			name += "." + s.name
		}
		if strings.HasPrefix(m[2], "map<") {
			label = "map"
		}
		number := protoreflect.FieldNumber(0)
		for _, digit := range m[4] {
			number = number*10 + protoreflect.FieldNumber(digit-'0')
		}
		facts[protoreflect.FullName(name+"."+m[3])] = fact{number, m[2], label}
	}
	return facts
}

func TestTheGeneratedFormIsThatOfTheSchema(t *testing.T) {
	want := written(t)
	if len(want) < 100 {
		t.Fatalf("only %d fields were read", len(want))
	}
	got := 0
	var walk func(protoreflect.MessageDescriptors)
	walk = func(messages protoreflect.MessageDescriptors) {
		for i := range messages.Len() {
			m := messages.Get(i)
			if m.IsMapEntry() {
				continue
			}
			walk(m.Messages())
			for j := range m.Fields().Len() {
				f := m.Fields().Get(j)
				got++
				w, ok := want[f.FullName()]
				if !ok {
					t.Errorf("%s is not in the schema", f.FullName())
					continue
				}
				label := ""
				switch o := f.ContainingOneof(); {
				case f.IsMap():
					label = "map"
				case f.IsList():
					label = "repeated"
				case o != nil && o.IsSynthetic():
					label = "optional"
				case o != nil:
					label = string(o.Name())
				}
				typ := f.Kind().String()
				if f.Kind() == protoreflect.MessageKind && !f.IsMap() {
					if typ = string(f.Message().FullName()); typ == w.typ || strings.HasSuffix(typ, "."+w.typ) {
						typ = w.typ // written from within its scope
					}
				}
				if f.IsMap() {
					typ = "map<" + f.MapKey().Kind().String() + ", " + f.MapValue().Kind().String() + ">"
				}
				if (fact{f.Number(), typ, label}) != w {
					t.Errorf("%s is %v, want %v", f.FullName(), fact{f.Number(), typ, label}, w)
				}
			}
		}
	}
	walk(File_webpubsub_proto.Messages())
	if got != len(want) {
		t.Errorf("%d fields, the schema has %d", got, len(want))
	}
}
