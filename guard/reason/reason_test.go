package reason_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"tabard/guard/reason"
)

// constants reads the declared codes from the source, so that a new constant
// without an entry cannot be forgotten here.
func constants(t *testing.T) map[reason.Code]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "catalogue.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[reason.Code]string{}
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			value, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			if other, twice := found[reason.Code(value)]; twice {
				t.Errorf("%s and %s are both %q", other, v.Names[0].Name, value)
			}
			found[reason.Code(value)] = v.Names[0].Name
		}
	}
	return found
}

func TestEveryConstantHasExactlyOneEntry(t *testing.T) {
	consts := constants(t)
	seen := map[reason.Code]bool{}
	for _, r := range reason.All() {
		if seen[r.Code] {
			t.Errorf("%s has two entries", r.Code)
		}
		seen[r.Code] = true
		if consts[r.Code] == "" {
			t.Errorf("entry %s has no constant", r.Code)
		}
		got, ok := reason.Lookup(r.Code)
		if !ok || got != r {
			t.Errorf("Lookup(%s) = %v, %v", r.Code, got, ok)
		}
	}
	for code, name := range consts {
		if !seen[code] {
			t.Errorf("%s (%s) has no entry", name, code)
		}
	}
}

func TestEntriesReadWell(t *testing.T) {
	snake := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	sentences := map[string]reason.Code{}
	for _, r := range reason.All() {
		if !snake.MatchString(string(r.Code)) {
			t.Errorf("%s is not snake_case", r.Code)
		}
		for _, text := range []string{r.Sentence, r.Fix} {
			if len(text) < 10 || strings.TrimSpace(text) != text || strings.HasSuffix(text, ".") {
				t.Errorf("%s: %q is empty, padded or ends in a full stop", r.Code, text)
			}
			for _, c := range text {
				// Sentences travel in a quoted string of WWW-Authenticate.
				if c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
					t.Errorf("%s: %q holds %q, which a header's quoted string cannot", r.Code, text, c)
				}
			}
		}
		if other, twice := sentences[r.Sentence]; twice {
			t.Errorf("%s and %s have the same sentence", other, r.Code)
		}
		sentences[r.Sentence] = r.Code
	}
}

func TestUnknownCodeIsNotFound(t *testing.T) {
	if r, ok := reason.Lookup("no_such_code"); ok {
		t.Errorf("found %v", r)
	}
}

func TestAllReturnsACopy(t *testing.T) {
	reason.All()[0].Sentence = "changed"
	if reason.All()[0].Sentence == "changed" {
		t.Error("the catalogue can be changed from outside")
	}
}
