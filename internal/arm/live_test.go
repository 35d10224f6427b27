package arm

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"tabard/guard/reason"
	"tabard/internal/settings"
)

// A crowd is who is connected, as the test says.
type crowd struct{ asked []string }

func (c *crowd) Hubs(in *settings.Instance) []LiveHub {
	return []LiveHub{{Name: "chat", Connections: 2, UserCount: 1, Users: []Crowd{{"u", 2}}, Groups: []Crowd{}}}
}

func (c *crowd) Connections(in *settings.Instance, hub, group, user, after string, limit int) ([]LiveConnection, bool) {
	c.asked = append(c.asked, strings.Join([]string{in.Name, hub, group, user, after}, "/"))
	return []LiveConnection{{ID: "c1", User: "u", Groups: []string{}}}, limit == 1
}

func TestWhoIsConnectedIsShown(t *testing.T) {
	live := &crowd{}
	p := start(t, func(o *Options) { o.Live = live })
	p.do("GET", theDefault+"/live"+version, "").want(200).is("connections", 2.0).is("users", 1.0).is("endpoint", "http://127.0.0.1:8080")
	p.do("GET", theDefault+"/hubs/chat/connections"+version, "").want(200).is("after", nil)
	p.do("GET", theDefault+"/hubs/Chat/connections"+version+"&group=g&userId=u&after=c0&top=1", "").want(200).is("after", "c1")
	if got := strings.Join(live.asked, " "); got != "default/chat/// default/Chat/g/u/c0" {
		t.Errorf("asked %q", got)
	}
	for _, top := range []string{"0", "201", "x"} {
		p.do("GET", theDefault+"/hubs/chat/connections"+version+"&top="+top, "").refused(400, "BadRequest").is("error.target", "top")
	}
	p.do("GET", webPubSubs+"/nobody/live"+version, "").refused(404, "ResourceNotFound")
	p.do("GET", webPubSubs+"/nobody/hubs/chat/connections"+version, "").refused(404, "ResourceNotFound")
	nobody := start(t)
	nobody.do("GET", theDefault+"/live"+version, "").want(200).is("connections", 0.0).is("hubs", []any{})
	nobody.do("GET", theDefault+"/hubs/chat/connections"+version, "").want(200).is("value", []any{})
}

func TestAHandlerIsJudgedAndAskedWithoutBeingStored(t *testing.T) {
	asked := 0
	p := start(t, func(o *Options) {
		o.CheckHandler = func(_ context.Context, in *settings.Instance, hub string, h *settings.EventHandler) HandlerCheck {
			asked++
			if in.Name != "default" || hub != "chat" || h.Template() == nil || h.Resource() != "api://a" {
				t.Errorf("asked %s, %s, %+v", in.Name, hub, h)
			}
			return HandlerCheck{Code: reason.ValidationUnauthorized, Status: 401, Detail: "why", Claims: json.RawMessage(`{"aud":"api://a"}`)}
		}
	})
	path := theDefault + "/hubs/chat/checkEventHandler" + version
	const secretURI = "https://default.kv.example:8081/secrets/code"
	const handler = `{"urlTemplate":"http://127.0.0.1:7070/{hub}/{event}?code={@Microsoft.KeyVault(SecretUri=` + secretURI + `)}","auth":{"type":"ManagedIdentity","managedIdentity":{"resource":"api://a"}}}`
	answer := p.do("POST", path, `{"handler":`+handler+`,"event":"a b"}`).want(200).is("url", "http://127.0.0.1:7070/chat/a%20b?code=[secret]").is("secretUris", []any{secretURI}).is("check", nil)
	if warnings := answer.body["warnings"].([]any); len(warnings) != 1 || !strings.Contains(warnings[0].(string), "identity_missing") {
		t.Errorf("warnings: %v", warnings)
	}
	if asked != 0 {
		t.Error("the handler was asked though nobody wanted that")
	}
	p.do("POST", path, `{"handler":`+handler+`,"ask":true}`).want(200).is("check.passed", false).is("check.code", "validation_unauthorized").is("check.status", 401.0).
		is("check.detail", "why").is("check.claims.aud", "api://a")
	if asked != 1 {
		t.Errorf("the handler was asked %d times", asked)
	}
	for body, target := range map[string]string{
		`{"handler":{"urlTemplate":"ftp://a"}}`:                                             "handler.urlTemplate",
		`{"handler":{"urlTemplate":"http://a/{x}"}}`:                                        "handler.urlTemplate",
		`{"handler":{"urlTemplate":"http://a","systemEvents":["x"]}}`:                       "handler.systemEvents[0]",
		`{"handler":{"urlTemplate":"http://a"},"ask":"yes"}`:                                "ask",
		`{"handler":{"urlTemplate":"http://a"},"event":"` + strings.Repeat("e", 256) + `"}`: "event",
		`{}`: "handler",
	} {
		p.do("POST", path, body).refused(400, "BadRequest").is("error.target", target)
	}
	p.do("GET", theDefault+"/hubs/chat"+version, "").refused(404, "ResourceNotFound")
	p.do("POST", webPubSubs+"/nobody/hubs/chat/checkEventHandler"+version, `{"handler":`+handler+`}`).refused(404, "ResourceNotFound")
}
