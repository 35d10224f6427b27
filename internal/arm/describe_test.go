package arm

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// notProduced are the documented statuses that this service never answers, by operation.
var notProduced = func() map[string]map[string]string {
	const (
		noConnections = "there are no private endpoints"
		noReplicas    = "replicas are refused"
	)
	m := map[string]map[string]string{
		"WebPubSub_RegenerateKey": {"202": "keys are answered at once and never kept for a later question"},
	}
	for why, operations := range map[string]map[string][]string{
		noConnections: {
			"WebPubSubPrivateEndpointConnections_Get": {"200"}, "WebPubSubPrivateEndpointConnections_Update": {"200"}, "WebPubSubPrivateEndpointConnections_Delete": {"200", "202"},
		},
		noReplicas: {
			"WebPubSubReplicas_Get": {"200"}, "WebPubSubReplicas_CreateOrUpdate": {"200", "201"}, "WebPubSubReplicas_Delete": {"200"}, "WebPubSubReplicas_Update": {"200", "202"},
			"WebPubSubReplicas_Restart": {"202", "204"}, "WebPubSub_ListReplicaSkus": {"200"}, "WebPubSubReplicaSharedPrivateLinkResources_List": {"200"},
			"WebPubSubReplicaSharedPrivateLinkResources_Get": {"200"}, "WebPubSubReplicaSharedPrivateLinkResources_CreateOrUpdate": {"200", "201"},
		},
	} {
		for id, statuses := range operations {
			m[id] = map[string]string{}
			for _, status := range statuses {
				m[id][status] = why
			}
		}
	}
	return m
}()

// A description is as much of a swagger document as the walk needs.
type description struct {
	Paths       map[string]map[string]json.RawMessage
	Definitions map[string]schema
}

type operationSpec struct {
	OperationID string `json:"operationId"`
	Responses   map[string]struct{ Schema schema }
}

type schema struct {
	Ref        string `json:"$ref"`
	Type       string
	Items      *schema
	Properties map[string]schema
	Additional *schema  `json:"additionalProperties"`
	AllOf      []schema `json:"allOf"`
	Enum       []string
}

func describe(t *testing.T, file string) description {
	t.Helper()
	text, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var d description
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// A walk calls the operations of a description and notes the statuses that they answer.
type walk struct {
	*plane
	description
	t        *testing.T
	version  string
	values   map[string]string // of path parameters; "any" for others
	bodies   map[string]string // by operation
	produced map[string]map[string]bool
}

// An exercise is one operation of a description at a path.
type exercise struct {
	method, path string
	operationSpec
}

var pathParameter = regexp.MustCompile(`\{[^}]*\}`)

// exercises lists the operations: creation first, parents before children; deletion last, the other way round.
func (w *walk) exercises() []exercise {
	var list []exercise
	for path, methods := range w.Paths {
		for method, raw := range methods {
			if method == "parameters" {
				continue
			}
			e := exercise{method: strings.ToUpper(method)}
			if err := json.Unmarshal(raw, &e.operationSpec); err != nil {
				w.t.Fatal(err)
			}
			e.path = pathParameter.ReplaceAllStringFunc(path, func(name string) string {
				if v, ok := w.values[name]; ok {
					return v
				}
				return "any"
			})
			list = append(list, e)
		}
	}
	rank := func(e exercise) int {
		switch e.method {
		case "PUT":
			return 1
		case "DELETE":
			return 3
		}
		return 2
	}
	slices.SortFunc(list, func(a, b exercise) int {
		order := cmp.Or(strings.Count(a.path, "/")-strings.Count(b.path, "/"), strings.Compare(a.OperationID, b.OperationID))
		if a.method == "DELETE" {
			order = -order
		}
		return cmp.Or(rank(a)-rank(b), order)
	})
	return list
}

// call does the operation once and holds the answer against its description.
func (w *walk) call(e exercise, headers ...string) {
	w.t.Helper()
	a := w.do(e.method, e.path+"?api-version="+w.version, w.bodies[e.OperationID], headers...)
	status := fmt.Sprint(a.status)
	response, documented := e.Responses[status]
	if !documented {
		if _, ok := e.Responses["default"]; !ok || a.status < 400 || a.str("error.code") == "" || a.str("error.message") == "" {
			w.t.Errorf("%s %s answers %d, which is not among %v: %s", e.method, e.path, a.status, slices.Sorted(maps.Keys(e.Responses)), a.text)
		}
		status = "default"
	} else if a.body != nil {
		w.check(w.t, "", response.Schema, a.body)
	}
	if a.status == 202 {
		w.poll(a)
	}
	if w.produced[e.OperationID] == nil {
		w.produced[e.OperationID] = map[string]bool{}
	}
	w.produced[e.OperationID][status] = true
}

// poll asks what an answer of 202 says to ask.
func (w *walk) poll(a *answer) {
	w.t.Helper()
	for _, header := range []string{"Azure-AsyncOperation", "Location"} {
		path, ok := strings.CutPrefix(a.header.Get(header), w.url)
		if !ok {
			w.t.Errorf("%s is %q", header, a.header.Get(header))
			continue
		}
		if status := w.do("GET", path, ""); status.status != 200 || header == "Azure-AsyncOperation" && status.str("status") != "Succeeded" {
			w.t.Errorf("%s: %d %s", header, status.status, status.text)
		}
	}
}

// TestEveryPublishedOperationAnswersEveryDocumentedStatus does each operation in every way that it knows, and once
// without an api-version, which is the documented default: an error.
func TestEveryPublishedOperationAnswersEveryDocumentedStatus(t *testing.T) {
	p := start(t)
	thing := sub + "/resourceGroups/walk/providers/Microsoft.SignalRService/webPubSub/thing"
	w := &walk{plane: p, produced: map[string]map[string]bool{}}
	w.values = map[string]string{
		"{subscriptionId}": testSubscription, "{resourceGroupName}": "walk", "{resourceName}": "thing", "{hubName}": "chat", "{location}": "local",
		"{scope}": strings.TrimPrefix(thing, "/"),
	}
	w.bodies = map[string]string{
		"WebPubSub_CheckNameAvailability":                           `{"type":"Microsoft.SignalRService/WebPubSub","name":"free"}`,
		"WebPubSub_CreateOrUpdate":                                  `{"location":"local","identity":{"type":"SystemAssigned"},"properties":{"liveTraceConfiguration":{"enabled":"true"},"networkACLs":{"defaultAction":"Allow","ipRules":[{"value":"10.0.0.0/8","action":"Deny"}]}}}`,
		"WebPubSub_Update":                                          `{"tags":{"a":"b"}}`,
		"WebPubSub_RegenerateKey":                                   `{"keyType":"Primary"}`,
		"WebPubSubHubs_CreateOrUpdate":                              `{"properties":{"eventHandlers":[{"urlTemplate":"http://h.example/","auth":{"type":"ManagedIdentity","managedIdentity":{"resource":"api://x"}}}]}}`,
		"WebPubSubCustomCertificates_CreateOrUpdate":                `{"properties":{"keyVaultBaseUri":"https://v.vault.azure.net/","keyVaultSecretName":"cert"}}`,
		"WebPubSubCustomDomains_CreateOrUpdate":                     `{"properties":{"domainName":"wps.example.com","customCertificate":{"id":"` + strings.Replace(thing, "webPubSub", "WebPubSub", 1) + `/customCertificates/any"}}}`,
		"WebPubSubSharedPrivateLinkResources_CreateOrUpdate":        `{"properties":{"groupId":"sites","privateLinkResourceId":"/subscriptions/x","requestMessage":"please"}}`,
		"WebPubSubReplicas_CreateOrUpdate":                          `{"location":"local"}`,
		"WebPubSubReplicas_Update":                                  `{}`,
		"WebPubSubReplicaSharedPrivateLinkResources_CreateOrUpdate": `{}`,
		"WebPubSubPrivateEndpointConnections_Update":                `{}`,
		"UserAssignedIdentities_CreateOrUpdate":                     `{"location":"local"}`,
		"UserAssignedIdentities_Update":                             `{"tags":{"a":"b"}}`,
		"FederatedIdentityCredentials_CreateOrUpdate":               `{"properties":{"issuer":"https://issuer.example","subject":"s","audiences":["api://AzureADTokenExchange"]}}`,
	}
	for _, doc := range []struct{ file, version string }{{"webpubsub-arm.json", "2024-03-01"}, {"managedidentity-arm.json", "2026-05-31"}} {
		w.description, w.version, w.t = describe(t, doc.file), doc.version, t
		if doc.file != "webpubsub-arm.json" { // what an operation of a scope is asked about; the walk before has deleted its own
			p.do("PUT", thing+version, w.bodies["WebPubSub_CreateOrUpdate"]).want(201)
		}
		list := w.exercises()
		for _, e := range list {
			if _, _, err := p.handler.routes.find(e.method, e.path); err != nil {
				t.Errorf("%s (%s %s) is not routed", e.OperationID, e.method, e.path)
				continue
			}
			t.Run(e.OperationID, func(t *testing.T) {
				w.t = t
				_, slow := e.Responses["202"]
				w.call(e)
				if slow {
					w.call(e, "Prefer", "wait=10, respond-async")
				}
				w.call(e)
				if e.method == "DELETE" { // once more, after it was there again
					for _, put := range list {
						if put.method == "PUT" && put.path == e.path {
							w.call(put)
						}
					}
					w.call(e, "Prefer", "respond-async")
				}
				if e.method == "PUT" {
					w.call(e)
				}
				p.do(e.method, e.path, w.bodies[e.OperationID]).refused(400, "MissingApiVersionParameter")
				if _, ok := e.Responses["default"]; ok {
					w.produced[e.OperationID]["default"] = true
				}
				for status := range e.Responses {
					why, listed := notProduced[e.OperationID][status]
					switch got := w.produced[e.OperationID][status]; {
					case !got && !listed:
						t.Errorf("%s is documented, but neither answered nor listed", status)
					case got && listed:
						t.Errorf("%s is answered, but listed as never answered: %s", status, why)
					}
				}
			})
		}
	}
	for id, statuses := range notProduced {
		if w.produced[id] == nil {
			t.Errorf("%s is listed (%v) but not published", id, statuses)
		}
	}
}

// fromElsewhere are members that the description takes from a file that it refers to, or that are ours.
var fromElsewhere = []string{"id", "name", "type", "location", "tags", "properties.tabard", "].id", "].name", "].type"}

func (d *description) check(t *testing.T, at string, s schema, v any) {
	t.Helper()
	s = d.resolve(s)
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			at := strings.TrimPrefix(at+"."+name, ".")
			switch property, ok := s.Properties[name]; {
			case ok:
				d.check(t, at, property, member)
			case s.Additional != nil:
				d.check(t, at, *s.Additional, member)
			case len(s.Properties) > 0 && !slices.Contains(fromElsewhere, at[strings.LastIndex(at, "[].")+1:]) && !slices.Contains(fromElsewhere, strings.TrimPrefix(at, "value[].")):
				t.Errorf("%s is not described", at)
			}
		}
	case []any:
		if s.Type != "array" && s.Type != "" {
			t.Errorf("%s is a list, want %s", at, s.Type)
		}
		for _, item := range v {
			if s.Items != nil {
				d.check(t, at+"[]", *s.Items, item)
			}
		}
	case string:
		if s.Type != "string" && s.Type != "" || len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
			t.Errorf("%s is %q, want %s %v", at, v, s.Type, s.Enum)
		}
	case bool:
		if s.Type != "boolean" && s.Type != "" {
			t.Errorf("%s is %v, want %s", at, v, s.Type)
		}
	case float64:
		if s.Type != "integer" && s.Type != "number" && s.Type != "" {
			t.Errorf("%s is %v, want %s", at, v, s.Type)
		}
	}
}

func (d *description) resolve(s schema) schema {
	if name, ok := strings.CutPrefix(s.Ref, "#/definitions/"); ok {
		return d.resolve(d.Definitions[name])
	}
	for _, part := range s.AllOf {
		part = d.resolve(part)
		if s.Properties == nil {
			s.Properties = map[string]schema{}
		}
		maps.Copy(s.Properties, part.Properties)
	}
	return s
}
