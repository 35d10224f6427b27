package eventhandler

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tabard/guard/reason"
	"tabard/internal/settings"
	"tabard/internal/trace"
)

func TestAnswersToConnectThatAreInvalidRefuseTheClient(t *testing.T) {
	many := `{"groups":["g"` + strings.Repeat(`,"g"`, maxGroups) + `]}`
	for name, c := range map[string]struct {
		body  string
		state string
		code  reason.Code
	}{
		"not JSON":                           {body: `userId=bob`},
		"white space alone":                  {body: "\n"},
		"an array":                           {body: `[]`},
		"a string":                           {body: `"bob"`},
		"two values":                         {body: `{}{}`},
		"not UTF-8":                          {body: "{\"userId\":\"\xff\"}"},
		"a userId that is a number":          {body: `{"userId":1}`},
		"a userId with a line end":           {body: `{"userId":"a\r\nX: y"}`},
		"a userId that is too long":          {body: `{"userId":"` + strings.Repeat("x", maxUserID+1) + `"}`},
		"groups that are a string":           {body: `{"groups":"g"}`},
		"an empty group":                     {body: `{"groups":["g",""]}`},
		"a group of white space":             {body: `{"groups":["g"," \t"]}`},
		"a group that is null":               {body: `{"groups":["g",null]}`},
		"a group that is too long":           {body: `{"groups":["` + strings.Repeat("ü", 1025) + `"]}`},
		"too many groups":                    {body: many},
		"a role that is null":                {body: `{"roles":[null]}`},
		"a subprotocol that was not offered": {body: `{"subprotocol":"p9"}`},
		"a subprotocol in another case":      {body: `{"subprotocol":"P1"}`},
		"a state that is too large":          {state: strings.Repeat("x", MaxState+1), code: reason.StateTooLarge},
		"a state that is not ASCII":          {state: "é", code: reason.HeaderNotASCII},
	} {
		t.Run(name, func(t *testing.T) {
			w, h := oneHandler(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
				if c.state != "" {
					w.Header().Set("ce-connectionState", c.state)
				}
				w.Header().Set("Set-Cookie", "kept=1")
				io.WriteString(w, c.body)
			})
			if c.code == "" {
				c.code = reason.HandlerResponseInvalid
			}
			s := w.session()
			r, err := s.Connect(t.Context(), ConnectRequest{Subprotocols: []string{"p1", "p2"}})
			if j, ok := err.(*Rejection); r != nil || !ok || j.Status != 500 || j.Code != c.code || len(j.Body) != 0 {
				t.Errorf("%+v, %v", r, err)
			}
			if len(h.calls("POST")) != 1 || s.jar != nil || s.state != "" {
				t.Errorf("%d attempts, jar %v, state %q", len(h.calls("POST")), s.jar, s.state)
			}
		})
	}
}

func TestAnswersToConnectThatAreUnusualButValid(t *testing.T) {
	for name, c := range map[string]struct {
		body  string
		check func(*ConnectResponse) bool
	}{
		"an empty userId clears it":         {`{"userId":""}`, func(r *ConnectResponse) bool { return r.UserID != nil && *r.UserID == "" }},
		"empty groups keep the token's":     {`{"groups":[]}`, func(r *ConnectResponse) bool { return len(r.Groups) == 0 }},
		"empty roles replace the token's":   {`{"roles":[]}`, func(r *ConnectResponse) bool { return r.Roles != nil && len(r.Roles) == 0 }},
		"member names ignore case":          {`{"USERID":"x","SubProtocol":"p1"}`, func(r *ConnectResponse) bool { return *r.UserID == "x" && r.Subprotocol == "p1" }},
		"unknown members are ignored":       {`{"states":{"a":1},"subprotocols":["p9"]}`, func(r *ConnectResponse) bool { return r.Subprotocol == "" }},
		"an empty subprotocol chooses none": {`{"subprotocol":""}`, func(r *ConnectResponse) bool { return r.Subprotocol == "" }},
		"a group of 1024 characters":        {`{"groups":["` + strings.Repeat("ü", 1024) + `"]}`, func(r *ConnectResponse) bool { return len(r.Groups) == 1 }},
		"a userId of any language":          {`{"userId":"山"}`, func(r *ConnectResponse) bool { return *r.UserID == "山" }},
	} {
		t.Run(name, func(t *testing.T) {
			r, f := parseConnect([]byte(c.body), []string{"p1"})
			if f != nil || !c.check(r) {
				t.Errorf("%+v, %v", r, f)
			}
		})
	}
}

func FuzzParseConnect(f *testing.F) {
	for _, seed := range []string{``, `null`, `{}`, `{"userId":"a","groups":["g"],"roles":[],"subprotocol":"p1"}`, `{"groups":[null]}`, `{"userId":"\u0000"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, fault := parseConnect(body, []string{"p1", "p2"})
		if (r == nil) == (fault == nil) {
			t.Fatalf("%+v, %+v", r, fault)
		}
		if fault != nil {
			return
		}
		if r.UserID != nil && (!visible(*r.UserID, true) || len(*r.UserID) > maxUserID) {
			t.Errorf("user %q", *r.UserID)
		}
		if slices.ContainsFunc(r.Groups, func(g string) bool { return !validGroup(g) }) || len(r.Groups) > maxGroups {
			t.Errorf("groups %q", r.Groups)
		}
		if r.Subprotocol != "" && r.Subprotocol != "p1" && r.Subprotocol != "p2" {
			t.Errorf("subprotocol %q", r.Subprotocol)
		}
	})
}

func FuzzParseReply(f *testing.F) {
	f.Add("application/json", []byte(`{"a":1}`), "X-Webpubsub-Metadata-A", "1, 2")
	f.Add("", []byte("x"), "", "")
	f.Fuzz(func(t *testing.T, contentType string, body []byte, name, value string) {
		r, fault := parseReply(&answer{status: 200, header: http.Header{"Content-Type": {contentType}, name: {value}}, body: body})
		if fault != nil || r == nil {
			return
		}
		if r.Type == JSON && !json.Valid(r.Data) {
			t.Errorf("JSON %q", r.Data)
		}
		if r.Type == Text && !bytes.Equal(r.Data, bytes.ToValidUTF8(r.Data, []byte("\uFFFD"))) {
			t.Errorf("text %q", r.Data)
		}
		for _, p := range r.Metadata {
			if !isToken(p.Key) || p.Key != strings.ToLower(p.Key) || !visible(p.Value, false) {
				t.Errorf("metadata %q", p)
			}
		}
	})
}

func TestARejectionsBodyIsCutAt16KiB(t *testing.T) {
	w, _ := oneHandler(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(403)
		w.Write(make([]byte, MaxRejectionBody+1))
	})
	_, err := w.session().Connect(t.Context(), ConnectRequest{})
	if r, ok := err.(*Rejection); !ok || r.Status != 403 || len(r.Body) != MaxRejectionBody || r.ContentType != "text/plain" || r.Code != reason.HandlerForbidden {
		t.Errorf("%v", err)
	}
}

func TestARefusedValidationTellsTheClientWhatTheCloudServiceTells(t *testing.T) {
	w, h := oneHandler(t, nil)
	h.option = func(http.ResponseWriter, *http.Request) {}
	_, err := w.session().Connect(t.Context(), ConnectRequest{})
	r, ok := err.(*Rejection)
	if !ok || r.Status != 500 || string(r.Body) != "Request is denied as target server is invalid" || r.Code != reason.ValidationHeaderMissing {
		t.Errorf("%v", err)
	}
	if want := "abuse protection for '" + h.URL + "/hook/{event}' is missing allowed origins: " + host; r.Err == nil || r.Err.Error() != want {
		t.Errorf("got %v, want %s", r.Err, want)
	}
}

func TestClientCertificatesArriveAsThumbprintAndPEM(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{SerialNumber: big.NewInt(1)}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	w, h := oneHandler(t, nil)
	if _, err := w.session().Connect(t.Context(), ConnectRequest{ClientCertificates: []*x509.Certificate{cert}}); err != nil {
		t.Fatal(err)
	}
	var body struct {
		ClientCertificates []struct{ Thumbprint, Content string }
	}
	if err := json.Unmarshal([]byte(h.event(t).body), &body); err != nil || len(body.ClientCertificates) != 1 {
		t.Fatal(err, h.event(t).body)
	}
	c := body.ClientCertificates[0]
	block, _ := pem.Decode([]byte(c.Content))
	if !regexp.MustCompile(`^[0-9A-F]{40}$`).MatchString(c.Thumbprint) || block == nil || !bytes.Equal(block.Bytes, der) || strings.Count(c.Content, "\r\n") != strings.Count(c.Content, "\n") {
		t.Errorf("got %+v", c)
	}
}

func TestHandlersThatRefuseTheTokenAreReported(t *testing.T) {
	for _, code := range []int{401, 403} {
		w, h := oneHandler(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
			w.WriteHeader(code)
		})
		w.hub("chat", with(h.URL, "api://x"))
		_, err := w.send(w.session(), "hi")
		if e, ok := err.(*DeliveryError); !ok || e.Status != code || len(h.calls("POST")) != 1 {
			t.Errorf("%v, %d requests", err, len(h.calls("POST")))
		}
		rec := w.record(trace.Delivery)
		if !slices.Equal(w.refused, []string{"api://x"}) || !strings.Contains(rec.Detail, "invalid_token") || !strings.Contains(string(rec.Claims), `"aud":"api://x"`) || rec.Audience != "api://x" {
			t.Errorf("reported %v, trace %+v", w.refused, rec)
		}
		var stages []string
		for _, s := range rec.Stages {
			stages = append(stages, s.Name+" "+s.Outcome)
		}
		if want := []string{"match ok", "secret skipped", "validation ok", "token ok", "call failed"}; !slices.Equal(stages, want) {
			t.Errorf("stages %v, want %v", stages, want)
		}

		w, h = oneHandler(t, nil)
		h.option = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
		w.hub("chat", with(h.URL, "api://x"))
		w.failed(second(w.send(w.session(), "hi")), reason.ValidationUnauthorized)
		if !slices.Equal(w.refused, []string{"api://x"}) {
			t.Errorf("validation: reported %v", w.refused)
		}
	}
}

func TestAnEmptyAudienceSendsAGraphTokenAndWarns(t *testing.T) {
	w, h := oneHandler(t, nil)
	for _, auth := range []*settings.Auth{{Type: settings.AuthManagedIdentity}, {Type: settings.AuthManagedIdentity, ManagedIdentity: &settings.ManagedIdentity{}}} {
		e := all(h.URL)
		e.Auth = auth
		w.hub("chat", e)
		if _, err := w.send(w.session(), "hi"); err != nil {
			t.Fatal(err)
		}
		p := h.calls("POST")
		if aud := audOf(t, strings.TrimPrefix(p[len(p)-1].header.Get("Authorization"), "Bearer ")); aud != "https://graph.microsoft.com" {
			t.Errorf("aud %s", aud)
		}
		rec := w.record(trace.Identity)
		if rec.Code != reason.AudienceEmpty || rec.Detail == "" || w.record(trace.Delivery).Code != reason.Delivered {
			t.Errorf("trace: %+v", rec)
		}
	}
}

func TestValidateAsksOnce(t *testing.T) {
	w, h := oneHandler(t, nil)
	in, _ := w.settings.Snapshot().Instance("default")
	h.Close()
	w.failed(w.d.Validate(t.Context(), in, "chat", in.Hub("chat").EventHandlers[0]), reason.ConnectFailure)
	if rec := w.record(trace.Validation); rec.Attempts != 1 {
		t.Errorf("%d attempts", rec.Attempts)
	}
}

func TestValidateAsksNow(t *testing.T) {
	w, h := oneHandler(t, nil)
	in, _ := w.settings.Snapshot().Instance("default")
	e := in.Hub("chat").EventHandlers[0]
	consent := false
	h.option = func(w http.ResponseWriter, _ *http.Request) {
		if consent {
			w.Header().Set("WebHook-Allowed-Origin", "*")
		}
	}
	w.failed(w.d.Validate(t.Context(), in, "chat", e), reason.ValidationHeaderMissing)
	consent = true
	if _, err := w.send(w.session(), "hi"); err != nil { // asks anew: whoever configures a hub may start its handler next
		t.Errorf("an event after a validation that failed: %v", err)
	}
	if err := w.d.Validate(t.Context(), in, "chat", e); err != nil {
		t.Error(err)
	}
	if _, err := w.send(w.session(), "hi"); err != nil || len(h.calls("OPTIONS")) != 3 {
		t.Errorf("an event after it: %v, %d validations", err, len(h.calls("OPTIONS")))
	}
}

func TestOutcomesAreNotSharedBetweenCallersThatTheHandlerTellsApart(t *testing.T) {
	w, h := oneHandler(t, nil)
	h.option = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			w.WriteHeader(401) // as App Service authentication does
			return
		}
		w.Header().Set("WebHook-Allowed-Origin", "*")
	}
	w.failed(second(w.send(w.session(), "hi")), reason.ValidationUnauthorized)
	w.hub("chat", with(h.URL+"/hook/{event}", "api://x"))
	if _, err := w.send(w.session(), "hi"); err != nil {
		t.Errorf("the same URL with a token: %v", err)
	}
	// Two handlers with the same URL, and events of any name, share one.
	n := len(h.calls("OPTIONS"))
	w.hub("chat", with(h.URL+"/hook/{event}", "api://x"), with(h.URL+"/hook/{event}", "api://x"))
	for i := range 5 {
		if _, err := w.session().User(t.Context(), UserEvent{Name: fmt.Sprint("e", i)}); err != nil {
			t.Error(err)
		}
	}
	if len(h.calls("OPTIONS")) != n {
		t.Errorf("%d further validations", len(h.calls("OPTIONS"))-n)
	}
}

func TestCachesAndJarsAreBounded(t *testing.T) {
	w, h := oneHandler(t, nil)
	in, _ := w.settings.Snapshot().Instance("default")
	e := in.Hub("chat").EventHandlers[0]
	for i := range maxTargets + 10 {
		if _, f := w.d.resolve(t.Context(), in, e, "chat", fmt.Sprint("e", i), true); f != nil {
			t.Fatal(f.text())
		}
	}
	if n := len(w.d.targets.m); n > maxTargets {
		t.Errorf("%d targets", n)
	}
	for i := range maxChecks + 10 {
		w.d.checks.get(checkKey{url: fmt.Sprint(i)})
	}
	if n := len(w.d.checks.m); n > maxChecks {
		t.Errorf("%d checks", n)
	}
	u, _ := http.NewRequest("GET", h.URL, nil)
	var j jar
	for i := range 10 * maxCookies {
		if n := j.store(u.URL, []string{fmt.Sprintf("c%d=1", i)}); n != 0 {
			t.Fatalf("%d invalid", n)
		}
		if len(j.sizes) > maxCookies || !strings.Contains(j.header(u.URL), fmt.Sprintf("c%d=1", i)) {
			t.Fatalf("%d cookies, header %s", len(j.sizes), j.header(u.URL))
		}
	}
	j = jar{}
	for range 1000 { // a cookie that is set again and again does not fill it
		j.store(u.URL, []string{"affinity=" + strings.Repeat("x", 100), "other=1"})
	}
	if len(j.sizes) != 2 || j.bytes > 200 {
		t.Errorf("%d cookies of %d bytes", len(j.sizes), j.bytes)
	}
	if n := j.store(u.URL, []string{"big=" + strings.Repeat("x", maxCookieBytes)}); n != 1 {
		t.Error("a cookie beyond the bound was kept")
	}
}

func TestADeletedInstanceHasNoHandlers(t *testing.T) {
	w, h := oneHandler(t, nil)
	s := w.d.NewSession("gone", "chat", "c")
	if r, err := s.Connect(t.Context(), ConnectRequest{}); r != nil || err != nil {
		t.Errorf("%v, %v", r, err)
	}
	if _, err := w.send(s, "hi"); err != ErrNoHandler {
		t.Error(err)
	}
	s.Connected()
	s.Disconnected("")
	if len(h.got) != 0 {
		t.Errorf("got %+v", h.got)
	}
}

func TestSignatureOfTheContract(t *testing.T) {
	const want = "sha256=5df1dae6dae694d8b33f4be6e32838c9b84f1195e93eb00887ef373743b7d370,sha256=eb7e790fa9fb1313260fb06fdc0cbf1ef065f91283e0939244e92c738020d493"
	if got := sign(settings.Keys{Primary: primaryKey, Secondary: secondaryKey}, connectionID); got != want {
		t.Errorf("got %s", got)
	}
}

func TestTimeOfAnEventIsUTCWithoutFraction(t *testing.T) {
	w, _ := oneHandler(t, nil)
	at := time.Date(2026, 11, 24, 9, 30, 15, 999, time.FixedZone("x", 3600))
	if got := w.d.stamp(at)[0]; got != "2026-11-24T08:30:15Z" {
		t.Errorf("got %s", got)
	}
}
