package tabard_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestDivergencesNameTestsThatExist keeps docs/divergences.md honest.
func TestDivergencesNameTestsThatExist(t *testing.T) {
	defined := definedTests(t)
	text, err := os.ReadFile("docs/divergences.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(string(text), -1)
	if len(named) < 40 {
		t.Fatalf("only %d tests are named", len(named))
	}
	for _, m := range named {
		if !defined[m[1]] {
			t.Errorf("%s does not exist", m[1])
		}
	}
	for i, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| difference") && !strings.HasPrefix(line, "| what") && !strings.Contains(line, "`Test") {
			t.Errorf("line %d names no test: %s", i+1, line)
		}
	}
}

// TestTheChecklistsOfIdentityAreHeldRowByRow keeps docs/identity-checklists.md whole and true.
func TestTheChecklistsOfIdentityAreHeldRowByRow(t *testing.T) {
	text, err := os.ReadFile("docs/identity-checklists.md")
	if err != nil {
		t.Fatal(err)
	}
	defined := definedTests(t)
	conformance, security, ok := strings.Cut(string(text), "\n## B: ")
	if !ok {
		t.Fatal("there is no list B")
	}
	row := regexp.MustCompile(`(?m)^\| (\d+) \|.*$`)
	for list, want := range map[string]int{conformance: 60, security: 35} {
		rows := row.FindAllStringSubmatch(list, -1)
		if len(rows) != want {
			t.Errorf("%d rows, want %d", len(rows), want)
		}
		for i, m := range rows {
			if m[1] != strconv.Itoa(i+1) {
				t.Errorf("row %d is numbered %s", i+1, m[1])
			}
			held := regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(m[0], -1)
			if len(held) == 0 && !strings.Contains(m[0], "not run: ") {
				t.Errorf("nothing holds row %s", m[0])
			}
			for _, h := range held {
				_, err := os.Stat(h[1])
				if exists := err == nil && strings.Contains(h[1], "/"); !exists && !defined[h[1]] && strings.HasPrefix(h[1], "Test") {
					t.Errorf("row %s: %s does not exist", m[1], h[1])
				}
				if strings.HasPrefix(h[1], "conformance/") && err != nil {
					t.Errorf("row %s: %v", m[1], err)
				}
			}
		}
	}
}

// definedTests are the names of all Go tests of the project.
func definedTests(t *testing.T) map[string]bool {
	t.Helper()
	defined := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range function.FindAllStringSubmatch(string(text), -1) {
			defined[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return defined
}
