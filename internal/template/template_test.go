package template

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
)

const sub = "11111111-2222-4333-8444-555555555555"

// expand makes a set of one file's text.
func expand(t testing.TB, name, text string, params ...string) (*Set, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := Load([]string{path}, nil)
	if err != nil {
		return nil, shorten(err, path)
	}
	env := Environment{Subscription: sub, Tenant: "t", Group: "rg", Location: "local", Parameters: Parameters{}}
	for _, p := range params {
		if err := env.Parameters.Set(p); err != nil {
			t.Fatal(err)
		}
	}
	set, err := Expand(t.Context(), files, env)
	return set, shorten(err, path)
}

// shorten takes the folder out of an error.
func shorten(err error, path string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s", strings.ReplaceAll(err.Error(), path, filepath.Base(path)))
}

// A state of resources by id.
type fakeState map[string]map[string]any

func (s fakeState) Resource(_ context.Context, id, _ string) (map[string]any, error) {
	return s[id], nil
}
func (s fakeState) List(_ context.Context, id, action, _ string) (map[string]any, error) {
	if s[id] == nil {
		return nil, nil
	}
	return map[string]any{"primaryKey": action + " of " + id}, nil
}

// show is ids and bodies, one a line.
func show(t testing.TB, s *Set, state State) string {
	t.Helper()
	var b strings.Builder
	for _, r := range s.Resources {
		body, err := r.Body(t.Context(), state)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := json.Marshal(body)
		fmt.Fprintf(&b, "%s %s %s\n", strings.TrimPrefix(r.ID, "/subscriptions/"+sub+"/resourceGroups/rg/providers/"), r.APIVersion, text)
	}
	return b.String()
}

func TestWhatFilesBecome(t *testing.T) {
	const wps = "Microsoft.SignalRService/webPubSub/"
	for _, tc := range []struct{ name, file, text, want string }{
		{"a list in YAML", "a.yaml", `
- type: Microsoft.SignalRService/webPubSub
  apiVersion: 2024-03-01
  name: one
  location: local
- type: Microsoft.SignalRService/webPubSub/hubs
  name: one/chat
  properties: {webSocketKeepAliveIntervalInSeconds: 30, x: "[[not an expression]", on: true}
`, wps + "one 2024-03-01 {\"location\":\"local\"}\n" + wps + "one/hubs/chat  {\"properties\":{\"on\":true,\"webSocketKeepAliveIntervalInSeconds\":30,\"x\":\"[not an expression]\"}}\n"},
		{"several documents, one resource each", "a.yaml", "type: A.B/c\nname: x\n---\n---\nid: /subscriptions/s/resourceGroups/g/providers/A.B/c/y\nname: y\n", "A.B/c/x  {}\n/subscriptions/s/resourceGroups/g/providers/A.B/c/y  {}\n"},
		{"a list in JSON, with comments", "a.json", "// first\n[{\"type\":\"A.B/c\",/* why */\"name\":\"x//y\"}]", ""},
		{"nested children", "a.json", `{"resources":[{"type":"A.B/c","name":"x","resources":[{"type":"d","name":"y","resources":[{"type":"A.B/c/d/e","name":"x/y/z"}]}]}]}`, "A.B/c/x  {}\nA.B/c/x/d/y  {}\nA.B/c/x/d/y/e/z  {}\n"},
		{"other groups and scopes", "a.yaml", `
- {type: A.B/c, name: x, resourceGroup: other}
- {type: Microsoft.Authorization/roleAssignments, name: n1, scope: A.B/c/x}
- {type: Microsoft.Authorization/roleAssignments, name: n2, scope: /}
- {type: Microsoft.Authorization/roleAssignments, name: n3, scope: "[subscription().id]"}
- {type: Microsoft.Authorization/roleAssignments, name: n4}
- {type: A.B/c/providers/roleAssignments, name: x/Microsoft.Authorization/n5}
- {id: /resourceGroups/z/providers/A.B/c/x}
- {type: Microsoft.Resources/resourceGroups, name: made}
`, "/subscriptions/" + sub + "/resourceGroups/other/providers/A.B/c/x  {}\nA.B/c/x/providers/Microsoft.Authorization/roleAssignments/n1  {}\n/providers/Microsoft.Authorization/roleAssignments/n2  {}\n/subscriptions/" + sub + "/providers/Microsoft.Authorization/roleAssignments/n3  {}\nMicrosoft.Authorization/roleAssignments/n4  {}\nA.B/c/x/providers/Microsoft.Authorization/roleAssignments/n5  {}\n/subscriptions/" + sub + "/resourceGroups/z/providers/A.B/c/x  {}\n/subscriptions/" + sub + "/resourceGroups/made  {}\n"},
		{"the directory", "a.yaml", "- {type: Microsoft.Graph/applications@v1.0, properties: {displayName: Orders API}}\n- {type: Microsoft.Graph/applications/federatedIdentityCredentials, name: Orders API/gh}\n", "Microsoft.Graph/applications/Orders API v1.0 {\"properties\":{\"displayName\":\"Orders API\"}}\nMicrosoft.Graph/applications/Orders API/federatedIdentityCredentials/gh  {}\n"},
		{"loops and conditions", "a.yaml", `
parameters: {names: {type: array, defaultValue: [a, b]}, on: {type: bool, defaultValue: false}}
variables: {copy: [{name: doubled, count: 2, input: "[mul(copyIndex('doubled'),2)]"}]}
resources:
- type: A.B/c
  name: "[concat(parameters('names')[copyIndex()], copyIndex(1))]"
  copy: {name: each, count: "[length(parameters('names'))]"}
  properties:
    copy: [{name: list, count: 2, input: {i: "[copyIndex('list')]", outer: "[copyIndex('each')]", d: "[variables('doubled')[copyIndex('list')]]"}}]
- {type: A.B/c, name: left, condition: "[parameters('on')]"}
`, `A.B/c/a1  {"properties":{"list":[{"d":0,"i":0,"outer":0},{"d":2,"i":1,"outer":0}]}}` + "\n" + `A.B/c/b2  {"properties":{"list":[{"d":0,"i":0,"outer":1},{"d":2,"i":1,"outer":1}]}}` + "\n"},
		{"symbolic names", "a.json", `{"languageVersion":"2.0","resources":{"w":{"type":"A.B/c","name":"x"},"old":{"existing":true,"type":"A.B/c","name":"o"},"h":{"type":"A.B/c/d","name":"[format('{0}/{1}','x','h')]","properties":{"o":"[resourceId('A.B/c','o')]"},"dependsOn":["w"]}}}`,
			"A.B/c/x  {}\nA.B/c/x/d/h  {\"properties\":{\"o\":\"/subscriptions/" + sub + "/resourceGroups/rg/providers/A.B/c/o\"}}\n"},
		{"nested deployments and functions", "a.json", `{"functions":[{"namespace":"ns","members":{"f":{"parameters":[{"name":"p","type":"string"}],"output":{"type":"string","value":"[toUpper(parameters('p'))]"}}}}],
			"variables":{"v":"outer"},"resources":[{"type":"Microsoft.Resources/deployments","name":"inner","resourceGroup":"g2","properties":{"expressionEvaluationOptions":{"scope":"inner"},"mode":"Incremental","parameters":{"p":{"value":"[ns.f(variables('v'))]"}},
			"template":{"parameters":{"p":{"type":"string"},"q":{"type":"string","defaultValue":"[parameters('p')]"}},"resources":[{"type":"A.B/c","name":"x","tags":{"q":"[parameters('q')]"}}],"outputs":{"o":{"type":"string","value":"[reference('x').z]"}}}}},
			{"type":"Microsoft.Resources/deployments","name":"outer","properties":{"template":{"resources":[{"type":"A.B/c","name":"[variables('v')]"}]}}}]}`,
			"/subscriptions/" + sub + "/resourceGroups/g2/providers/A.B/c/x  {\"tags\":{\"q\":\"OUTER\"}}\nA.B/c/outer  {}\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			set, err := expand(t, tc.file, tc.text)
			if tc.want == "" {
				if err == nil || !strings.Contains(err.Error(), "takes 1 names") {
					t.Fatal(err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := show(t, set, fakeState{}); got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

func TestExpressions(t *testing.T) {
	id := "/subscriptions/" + sub + "/resourceGroups/rg/providers/"
	state := fakeState{
		id + "A.B/c/x":  {"identity": map[string]any{"principalId": "p1"}, "properties": map[string]any{"hostName": "h"}},
		id + "A.B/c/me": {"properties": map[string]any{"principalId": "p2"}},
	}
	for expression, want := range map[string]string{
		"[concat('a', 1, true(), '''q''')]":                               `"a1True'q'"`,
		"[concat(createArray(1), createArray('b'))]":                      `[1,"b"]`,
		"[format('{0}-{1:D3} {{x}} {0}', 'a', 7)]":                        `"a-007 {x} a"`,
		"[toLower(replace(trim(' A-B '), '-', '_'))]":                     `"a_b"`,
		"[take(skip('abcdef', 1), 3)]":                                    `"bcd"`,
		"[take(createArray(1,2,3), 9)]":                                   `[1,2,3]`,
		"[join(split('a,b;c', createArray(',', ';')), '+')]":              `"a+b+c"`,
		"[substring('hello', 1, 3)]":                                      `"ell"`,
		"[padLeft(7, 3, '0')]":                                            `"007"`,
		"[base64ToString(base64('x y'))]":                                 `"x y"`,
		"[uriComponent('a b&c')]":                                         `"a%20b%26c"`,
		"[uri('https://h/a/', 'b?c=d')]":                                  `"https://h/a/b?c=d"`,
		"[string(createObject('a', createArray(1)))]":                     `"{\"a\":[1]}"`,
		"[json('{\"a\":[1,null]}').a[0]]":                                 `1`,
		"[int('42')]":                                                     `42`,
		"[bool('True')]":                                                  `true`,
		"[guid('a', 'b')]":                                                `"` + mustGUID("a-b") + `"`,
		"[length(uniqueString(resourceGroup().id))]":                      `13`,
		"[if(equals(1, 2), reference('nowhere'), coalesce(null(), 'x'))]": `"x"`,
		"[and(true(), not(false()), or(false(), less(1, 2)))]":            `true`,
		"[or(true(), reference('nowhere'))]":                              `true`,
		"[contains(createObject('Key', 1), 'key')]":                       `true`,
		"[contains('abc', 'bc')]":                                         `true`,
		"[empty('')]":                                                     `true`,
		"[div(add(mul(3, 4), sub(1, 2)), 2)]":                             `5`,
		"[mod(7, 3)]":                                                     `1`,
		"[max(createArray(1, 9, 3))]":                                     `9`,
		"[union(createObject('a', createObject('b', 1)), createObject('a', createObject('c', 2)))]": `{"a":{"b":1,"c":2}}`,
		"[union(createArray(1, 2), createArray(2, 3))]":                                             `[1,2,3]`,
		"[intersection(createArray(1, 2), createArray(2, 3))]":                                      `[2]`,
		"[range(2, 3)]": `[2,3,4]`,
		"[items(createObject('b', 1, 'a', 2))[0].key]":                                     `"a"`,
		"[flatten(createArray(createArray(1), createArray(2)))]":                           `[1,2]`,
		"[first(createArray('x', 'y'))]":                                                   `"x"`,
		"[last('abc')]":                                                                    `"c"`,
		"[indexOf('aBc', 'b')]":                                                            `1`,
		"[startsWith('Abc', 'aB')]":                                                        `true`,
		"[resourceId('A.B/c/d', 'x', 'y')]":                                                `"` + id + `A.B/c/x/d/y"`,
		"[resourceId('g', 'A.B/c', 'x')]":                                                  `"/subscriptions/` + sub + `/resourceGroups/g/providers/A.B/c/x"`,
		"[subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'r')]":         `"/subscriptions/` + sub + `/providers/Microsoft.Authorization/roleDefinitions/r"`,
		"[tenantResourceId('A.B/c', 'x')]":                                                 `"/providers/A.B/c/x"`,
		"[extensionResourceId(resourceId('A.B/c', 'x'), 'D.E/f', 'y')]":                    `"` + id + `A.B/c/x/providers/D.E/f/y"`,
		"[subscription().tenantId]":                                                        `"t"`,
		"[tenant().tenantId]":                                                              `"t"`,
		"[resourceGroup().location]":                                                       `"local"`,
		"[reference(resourceId('A.B/c', 'x'), '2024-03-01', 'Full').identity.principalId]": `"p1"`,
		"[reference('me').principalId]":                                                    `"p2"`,
		"[reference('A.B/c/me').PrincipalID]":                                              `"p2"`,
		"[listKeys('A.B/c/x', '2024-03-01').primaryKey]":                                   `"listKeys of ` + id + `A.B/c/x"`,
		"[reference('soon').principalId]":                                                  `{"Of":"A.B/c/soon"}`,
		"[concat('a', reference('soon').x)]":                                               `{"Of":"A.B/c/soon"}`,
		"[createObject('a', 1).?b]":                                                        `null`,
		"[createArray(1)[?3]]":                                                             `null`,
		"[environment().suffixes.keyvaultDns]":                                             `".vault.azure.net"`,
	} {
		set, err := expand(t, "a.yaml", "- {type: A.B/c, name: me}\n- {type: A.B/c, name: soon}\n- type: A.B/c\n  name: z\n  v: "+quote(expression)+"\n")
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		body, err := set.Resources[2].Body(t.Context(), state)
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		if got, _ := json.Marshal(body["v"]); string(got) != want && !(want == "null" && body["v"] == nil) {
			t.Errorf("%s is %s, want %s", expression, got, want)
		}
	}
}

func mustGUID(args ...string) string {
	v, _ := guid(&call{args: anys(args)})
	return v.(string)
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// guid() is a version 5 UUID of the arguments, joined by dashes, in the namespace that Azure's is known for.
func TestGUIDIsAVersion5UUID(t *testing.T) {
	want := uuid.NewSHA1(uuid.MustParse("11fb06fb-712d-4ddd-98c7-e71bbd588830"), []byte("a-b")).String()
	if got := mustGUID("a-b"); got != want || mustGUID("a", "b") != want || mustGUID("a-c") == want || want[14] != '5' {
		t.Error(got)
	}
}

func TestFaultsNameTheirPlace(t *testing.T) {
	for _, tc := range []struct{ name, file, text, want string }{
		{"a function that is none", "a.yaml", "- type: A.B/c\n  name: x\n  v: \"[nope()]\"\n", "a.yaml:3: nope() is not supported"},
		{"a function that is refused", "a.yaml", "- type: A.B/c\n  name: \"[newGuid()]\"\n", "a.yaml:2: newGuid() is not supported: it gives another value each time"},
		{"a lambda", "a.yaml", "- type: A.B/c\n  name: x\n  v: \"[map(createArray(1), lambda('x', 1))]\"\n", "a.yaml:3: "},
		{"a name that is known late", "a.yaml", "- type: A.B/c\n  name: \"[reference('y').a]\"\n", "a.yaml:2: reference() is known only after deployment began"},
		{"a reference to nothing", "a.yaml", "- type: A.B/c\n  name: x\n  v: \"[reference('y').a]\"\n", "a.yaml:3: reference(): \"y\" is neither the id nor the name"},
		{"an expression without an end", "a.yaml", "- type: A.B/c\n  name: x\n  v: \"[concat('a'\"\n", ""},
		{"a broken expression", "a.yaml", "- type: A.B/c\n  name: x\n  v: \"[concat('a' 'b')]\"\n", "a.yaml:3: the expression [concat('a' 'b')] lacks a comma or parenthesis"},
		{"a division by zero", "a.yaml", "- type: A.B/c\n  name: x\n  v: \"[div(1, 0)]\"\n", "a.yaml:3: div(): a division by 0"},
		{"a member that is not there", "a.yaml", "- type: A.B/c\n  name: x\n  v: \"[createObject('a', 1).b]\"\n", "a.yaml:3: there is no \"b\" in the object"},
		{"no type", "a.yaml", "- name: x\n- {}\n", "a.yaml:1: a resource needs a type"},
		{"no name", "a.yaml", "- type: A.B/c\n", "a.yaml:1: a resource of type A.B/c needs a name"},
		{"too few names", "a.yaml", "- type: A.B/c/d\n  name: x\n", "a.yaml:1: the type A.B/c/d takes 2 names joined by /, not \"x\""},
		{"an id that is none", "a.yaml", "- id: /subscriptions/s\n", "a.yaml:1: \"/subscriptions/s\" is not the id of a resource"},
		{"twice the same", "a.yaml", "- {type: A.B/c, name: x}\n- {type: a.b/C, name: X}\n", "a.yaml:2: a.b/C/X is there already, at a.yaml:1"},
		{"a member twice", "a.yaml", "- type: A.B/c\n  type: A.B/d\n", "a.yaml:2: \"type\" is there twice"},
		{"an alias", "a.yaml", "- &a {type: A.B/c, name: x}\n- *a\n", "a.yaml:2: aliases (*a) are not supported"},
		{"no YAML", "a.yaml", "a: [\n", "a.yaml: line 1"},
		{"no JSON", "a.json", "{\"resources\":[\n{\"type\":}]}", "a.json:2: the JSON is malformed"},
		{"JSON and more", "a.json", "{\"resources\":[]} x", "a.json:1: "},
		{"empty", "a.yaml", "# nothing\n", "a.yaml: it is empty"},
		{"text", "a.yaml", "hello\n", "a.yaml:1: it is text, neither a template nor resources"},
		{"neither", "a.yaml", "a: b\n", "a.yaml:1: it is neither a template (resources) nor a resource (type)"},
		{"a part that templates lack", "a.yaml", "resources: []\nressources: []\n", "a.yaml:2: \"ressources\" is no part of a template"},
		{"a parameter without a value", "a.yaml", "parameters:\n  p: {type: string}\nresources: []\n", "a.yaml:2: parameter p has no value and no default: give --parameters p="},
		{"an unknown parameter", "a.yaml", "- {type: A.B/c, name: \"[parameters('p')]\"}\n", "a.yaml:1: the template has no parameter \"p\""},
		{"a variable of itself", "a.yaml", "variables: {a: \"[variables('b')]\", b: \"[variables('a')]\"}\nresources:\n- {type: A.B/c, name: \"[variables('a')]\"}\n", "refers to itself"},
		{"a variable's loop of itself", "a.yaml", "variables: {copy: [{name: a, count: 1, input: \"[variables('a')]\"}]}\nresources:\n- {type: A.B/c, name: \"[variables('a')[0]]\"}\n", "refers to itself"},
		{"a parameter of itself", "a.yaml", "parameters: {a: {type: string, defaultValue: \"[parameters('a')]\"}}\nresources:\n- {type: A.B/c, name: \"[parameters('a')]\"}\n", "refer to each other too deeply"},
		{"mode Complete", "a.yaml", "- {type: Microsoft.Resources/deployments, name: d, properties: {mode: Complete, template: {resources: []}}}\n", "a.yaml:1: mode Complete is not supported"},
		{"a linked template", "a.yaml", "- {type: Microsoft.Resources/deployments, name: d, properties: {templateLink: {uri: x}}}\n", "a.yaml:1: templateLink is not supported"},
		{"too many rounds", "a.yaml", "- {type: A.B/c, name: x, copy: {name: l, count: 801}}\n", "a.yaml:1: copy.count is not a number from 0 to 800"},
		{"a dependency on nothing", "a.yaml", "- {type: A.B/c, name: x, dependsOn: [y]}\n", "a.yaml:1: dependsOn: there is no resource \"y\""},
		{"a condition that is none", "a.yaml", "- {type: A.B/c, name: x, condition: maybe}\n", "a.yaml:1: the condition is text"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			set, err := expand(t, tc.file, tc.text)
			if err == nil && len(set.Resources) > 0 {
				if _, err = set.Resources[0].Needs(t.Context()); err == nil {
					_, err = set.Resources[0].Body(t.Context(), fakeState{})
				}
				if err != nil {
					err = shorten(err, filepath.Dir(set.Resources[0].File)+"/a.yaml")
				}
			}
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
		})
	}
}

func TestParameters(t *testing.T) {
	const file = `
parameters:
  s: {type: string, defaultValue: d}
  i: {type: int, defaultValue: 1}
  l: {type: array, defaultValue: []}
  c: {type: string, defaultValue: a, allowedValues: [a, b]}
  k: {type: securestring, defaultValue: k}
  n: {type: string, nullable: true}
resources:
- {type: A.B/c, name: x, v: "[createArray(parameters('s'), parameters('i'), parameters('l'), parameters('c'), parameters('k'), parameters('n'))]"}
`
	dir := t.TempDir()
	azure, plain, vault := filepath.Join(dir, "p.json"), filepath.Join(dir, "p.yaml"), filepath.Join(dir, "v.json")
	for path, text := range map[string]string{
		azure: `{"$schema":"https://schema.management.azure.com/schemas/2019-04-01/deploymentParameters.json#","parameters":{"s":{"value":"file"},"i":{"value":5}}}`,
		plain: "s: yaml\nl: [1]\n", vault: `{"parameters":{"k":{"reference":{"secretName":"x"}}}}`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		args []string
		want string
	}{
		{nil, `["d",1,[],"a","k",null]`},
		{[]string{"s=5", "i=5", "l=[1,\"x\"]", "C=b", "k=a=b", "n=x"}, `["5",5,[1,"x"],"b","a=b","x"]`},
		{[]string{azure, "i=6"}, `["file",6,[],"a","k",null]`},
		{[]string{"@" + plain}, `["yaml",1,[1],"a","k",null]`},
	} {
		set, err := expand(t, "a.yaml", file, tc.args...)
		if err != nil {
			t.Errorf("%v: %v", tc.args, err)
			continue
		}
		body, err := set.Resources[0].Body(t.Context(), fakeState{})
		if got, _ := json.Marshal(body["v"]); err != nil || string(got) != tc.want {
			t.Errorf("%v gives %s, %v", tc.args, got, err)
		}
	}
	for arg, want := range map[string]string{
		"i=canary": "parameter i: the value is not int", "l=5": "is a number, not array", "c=canary": "none of the allowed", "other=1": `no template has a parameter "other"`,
	} {
		if _, err := expand(t, "a.yaml", file, arg); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", arg, err)
		}
	}
	if err := (Parameters{}).Set(vault); err == nil || !strings.Contains(err.Error(), "use valueFrom") {
		t.Error(err)
	}
	if err := (Parameters{}).Set(filepath.Join(dir, "none.json")); err == nil {
		t.Error("a missing file")
	}
}

func TestNeeds(t *testing.T) {
	set, err := expand(t, "a.yaml", `
parameters: {who: {type: string, defaultValue: "[reference(resourceId('A.B/id', 'me')).p]"}}
variables: {v: "[parameters('who')]", copy: [{name: all, count: 1, input: "[reference('me').q]"}]}
resources:
- {type: A.B/c/d, name: x/y}
- {type: A.B/e, name: of a loop, tags: {k: "[variables('all')[0]]"}}
- {type: A.B/c, name: x, tags: {k: "[variables('v')]"}}
- {type: A.B/id, name: me}
- {type: Microsoft.Authorization/roleAssignments, name: r, scope: A.B/c/x, properties: {principalId: "[reference('me').p]"}}
- {type: A.B/c, name: named, dependsOn: [loop, gone, "[resourceId('A.B/c', 'x')]"]}
- {type: A.B/e, name: "[concat('l', copyIndex())]", copy: {name: loop, count: 2}}
- {type: A.B/e, name: gone, condition: false}
`)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"x/y": {"x"}, "of a loop": {"me"}, "x": {"me"}, "me": nil, "r": {"me", "x"}, "named": {"l0", "l1", "x"}, "l0": nil, "l1": nil,
	}
	for _, r := range set.Resources {
		needs, err := r.Needs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, n := range needs {
			got = append(got, n.Name)
		}
		slices.Sort(got)
		if !slices.Equal(got, want[r.Name]) {
			t.Errorf("%s needs %v, want %v", r.Name, got, want[r.Name])
		}
	}
}

func TestARoleAssignmentWithoutANameGetsALastingOne(t *testing.T) {
	name := func(role string) string {
		set, err := expand(t, "a.yaml", "- {type: Microsoft.Authorization/roleAssignments, properties: {role: "+role+", principalId: \"[reference('x').p]\"}}\n- {type: A.B/c, name: x}\n")
		if err != nil {
			t.Fatal(err)
		}
		return set.Resources[0].Name
	}
	if a := name("Reader"); len(a) != 36 || a != name("Reader") || a == name("Owner") {
		t.Error(a)
	}
}

func TestFolders(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"b.yaml": "{type: A.B/c, name: b}", "a.json": `{"type":"A.B/c","name":"a"}`, "notes.txt": "no", "sub/c.yaml": "{type: A.B/c, name: c}"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := Load([]string{dir, "-"}, strings.NewReader("{type: A.B/c, name: stdin}"))
	if err != nil || len(files) != 3 || !strings.HasSuffix(files[0].Name, "a.json") || files[2].Name != "stdin" {
		t.Errorf("%v %v", files, err)
	}
	if _, err := Load([]string{t.TempDir()}, nil); err == nil {
		t.Error("an empty folder")
	}
	if _, err := Load([]string{"-"}, strings.NewReader(strings.Repeat("x", MaxFile+1))); err == nil {
		t.Error("a file that is too long")
	}
}

func FuzzExpression(f *testing.F) {
	for _, seed := range []string{"[concat('a', 1)]", "[a.b('''').c[?-1].?d]", "[[x]", "[", "[]", "[reference(resourceId('A.B/c','x')).y]"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !isExpression(text) {
			return
		}
		e, err := parseExpression(text)
		if err != nil {
			return
		}
		r := &run{env: Environment{Subscription: "s", Group: "g"}, byID: map[string]*Resource{}}
		_, _ = r.evaluator(t.Context()).expression(e, &scope{tpl: &templ{}, group: "g"})
	})
}

func TestTypeOfAnID(t *testing.T) {
	for id, want := range map[string]string{
		"/subscriptions/s/resourceGroups/g/providers/A.B/c/x/d/y":                                    "A.B/c/d",
		"/subscriptions/s/resourceGroups/g/providers/A.B/c/x/providers/Microsoft.Authorization/r/id": "Microsoft.Authorization/r",
		"Microsoft.Graph/applications/Orders API":                                                    "Microsoft.Graph/applications",
	} {
		if got, _ := SplitID(id); got != want {
			t.Errorf("%s is of type %s", id, got)
		}
	}
}
