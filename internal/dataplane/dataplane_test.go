package dataplane_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"tabard/guard/reason"
	"tabard/internal/access"
	"tabard/internal/dataplane"
	"tabard/internal/hub"
	"tabard/internal/settings"
	"tabard/internal/trace"
)

func TestPathsThatDoNotExist(t *testing.T) {
	s := newService(t)
	for _, path := range []string{
		"/api", "/api/", "/api/hubs", "/api/hubs/chat", "/api/hubs/chat/", "/api/hubs/chat/:nothing", "/api/hubs/chat/:send/", "/api/hubs/chat//:send",
		"/api/hubs/chat/groups", "/api/hubs/chat/groups/g/members", "/api/hubs/chat/rooms/r", "/api/hubs/chat/chat/rooms/r", "/api/healthy",
		"/api/hubs/chat/groups/g/connections/c/x", "/api/hubs/chat/permissions/sendToGroup/connections/c/x/y/z", "/api/v1/hubs/chat",
	} {
		resp := s.want(404, request{method: "POST", path: path, token: "-"})
		if resp.header.Get("x-ms-error-code") != "Error.NotFound" {
			t.Errorf("%s: %v", path, resp.header)
		}
	}
}

func TestMethodsThatAPathDoesNotHave(t *testing.T) {
	s := newService(t)
	for path, allow := range map[string]string{
		"/api/health":                                          "HEAD, GET",
		"/api/hubs/chat/:send":                                 "POST",
		"/api/hubs/chat/connections/c":                         "DELETE, HEAD",
		"/api/hubs/chat/groups/g":                              "HEAD",
		"/api/hubs/chat/groups/g/connections":                  "GET",
		"/api/hubs/chat/users/u/groups/g":                      "PUT, DELETE",
		"/api/hubs/chat/permissions/sendToGroup/connections/c": "PUT, DELETE, HEAD",
	} {
		for _, method := range []string{"PATCH", "OPTIONS"} {
			resp := s.want(405, request{method: method, path: path, token: "-"})
			if got := resp.header.Get("Allow"); got != allow {
				t.Errorf("%s: Allow is %q, want %q", path, got, allow)
			}
		}
	}
}

func TestLiteralsOfPathsIgnoreCase(t *testing.T) {
	s := newService(t)
	c := s.connect(who{groups: []string{"g"}})
	s.post(202, "/api/Hubs/chat/GROUPS/g/:SEND", "hi", "text/plain")
	c.getsText("hi")
}

func TestAnAddressWithoutInstance(t *testing.T) {
	s := newService(t)
	s.want(404, request{method: "POST", path: "/api/hubs/chat/:send", body: "hi", header: http.Header{"Host": {"nobody.example.com"}}})
	s.want(200, request{method: "HEAD", path: "/api/health", token: "-", header: http.Header{"Host": {"nobody.example.com"}}})
}

func TestARefusedCallerIsAnsweredAndRecorded(t *testing.T) {
	s := newService(t)
	resp := s.want(401, request{method: "POST", path: "/api/hubs/chat/users/u/:send", body: "secret payload", token: sign("some other key of some other instance", s.url)})
	if resp.header.Get("WWW-Authenticate") != `Bearer error="invalid_token", error_description="The token's signature fits neither access key of the instance."` || resp.header.Get("x-ms-error-code") != "Error.Unauthorized" {
		t.Error(resp.header)
	}
	records := s.trace.Records(trace.Filter{Instance: "default"})
	if len(records) != 1 {
		t.Fatalf("%d records", len(records))
	}
	r := records[0]
	if r.Kind != trace.Request || r.Code != reason.KeySignatureInvalid || r.Status != 401 || r.Hub != "chat" || r.User != "u" || r.Operation != "SendToUser" {
		t.Errorf("%+v", r)
	}
	for _, secret := range []string{primaryKey, "secret payload", "eyJ"} {
		if strings.Contains(fmt.Sprintf("%+v", r)+resp.body, secret) {
			t.Errorf("%q is shown in %+v or %s", secret, r, resp.body)
		}
	}
}

// A caller who may not do anything learns nothing about what would be wrong with the request otherwise.
func TestAuthorizationComesBeforeValidation(t *testing.T) {
	s := newService(t)
	for _, path := range []string{"/api/hubs/1bad/:send", "/api/hubs/chat/:send?api-version=1", "/api/hubs/chat/:send?filter=x", "/api/hubs/chat/groups/%20/:send"} {
		s.want(401, request{method: "POST", path: path, body: "<x/>", contentType: "application/xml", token: "-"})
	}
}

func TestNamesThatAreNotValid(t *testing.T) {
	s := newService(t)
	for _, path := range []string{
		"HEAD /api/hubs/chat/groups/", "HEAD /api/hubs/chat/groups/%20%09", "HEAD /api/hubs/chat/groups/" + strings.Repeat("x", 1025), "HEAD /api/hubs/chat/groups/%FF",
		"HEAD /api/hubs/chat/users/", "HEAD /api/hubs/chat/users/%FF", "HEAD /api/hubs/chat/connections/", "HEAD /api/hubs/chat/connections/%20",
		"PUT /api/hubs/chat/groups/%20/connections/c", "DELETE /api/hubs/chat/connections/%20/groups", "GET /api/hubs/chat/groups//connections",
	} {
		method, path, _ := strings.Cut(path, " ")
		s.call(400, method, path)
	}
	s.call(404, "HEAD", "/api/hubs/chat/groups/"+strings.Repeat("%C3%A9", 1024))
}

func TestTextInOtherCharsets(t *testing.T) {
	s := newService(t)
	c := s.connect(who{})
	for _, tc := range []struct{ contentType, body, want string }{
		{"text/plain; charset=UTF-8", "é", "é"},
		{"text/plain; charset=us-ascii", "hi", "hi"},
		{"text/plain; charset=iso-8859-1", "\xe9", "é"},
		{"TEXT/PLAIN; charset=utf-16", "\xe9\x00", "é"},
		{"text/plain; charset=utf-16le", "\xe9\x00", "é"},
		{"text/plain; charset=\"UTF-16BE\"", "\x00\xe9", "é"},
		{"application/json; charset=utf-16", "\"\x00\xe9\x00\"\x00", "é"},
		{"text/plain", "", ""},
	} {
		s.post(202, "/api/hubs/chat/:send", tc.body, tc.contentType)
		c.getsText(tc.want)
	}
	for _, contentType := range []string{"text/plain", "text/plain; charset=us-ascii"} {
		s.post(400, "/api/hubs/chat/:send", "\xe9", contentType)
	}
	c.getsNothing()
}

func TestJSONArrivesAsItWasWritten(t *testing.T) {
	s := newService(t)
	c := s.connect(who{raw: true})
	for _, body := range []string{`12345678901234567890.1000`, ` { "b" : 1e2, "a":"\u00e9" , "a":null } `, `null`} {
		s.post(202, "/api/hubs/chat/:send", body, "application/json")
		if _, got := c.frame(); got != body {
			t.Errorf("got %q, want %q", got, body)
		}
	}
}

func TestABodyThatIsShorterThanItsLength(t *testing.T) {
	s := newService(t)
	c := s.connect(who{})
	r := httptest.NewRequest("POST", s.url+"/api/hubs/chat/:send", strings.NewReader("hi"))
	r.ContentLength = 10
	r.Header.Set("Authorization", "Bearer "+sign(primaryKey, s.url+"/api/hubs/chat/:send"))
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	if w.Code != 400 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	c.getsNothing()
}

func TestTheRequestIDIsSentBack(t *testing.T) {
	s := newService(t)
	for id, want := range map[string]string{"abc-1": "abc-1", strings.Repeat("x", 2000): ""} {
		resp := s.want(404, request{method: "HEAD", path: "/api/hubs/chat/groups/g", header: http.Header{"X-Ms-Client-Request-Id": {id}}})
		if got := resp.header.Get("x-ms-client-request-id"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestCodesOfMissingThings(t *testing.T) {
	s := newService(t)
	for path, code := range map[string]string{
		"HEAD /api/hubs/chat/connections/x":         "Info.Connection.NotExisted",
		"HEAD /api/hubs/chat/groups/x":              "Warning.Group.NotExisted",
		"HEAD /api/hubs/chat/users/x":               "Warning.User.NotExisted",
		"PUT /api/hubs/chat/users/x/groups/g":       "Warning.User.NotExisted",
		"PUT /api/hubs/chat/groups/g/connections/x": "Info.Connection.NotExisted",
	} {
		method, path, _ := strings.Cut(path, " ")
		if got := s.call(404, method, path).header.Get("x-ms-error-code"); got != code {
			t.Errorf("%s %s: %s, want %s", method, path, got, code)
		}
	}
}

func TestALimitOfTheConnectionIsAConflict(t *testing.T) {
	s := newService(t)
	full := s.connect(who{id: "full", user: "u"})
	empty := s.connect(who{id: "empty"})
	for i := range 50 { // the limit of groups in these tests
		if err := full.conn.Hub().Join(full.conn, fmt.Sprint("g", i)); err != nil {
			t.Fatal(err)
		}
	}
	s.call(409, "PUT", "/api/hubs/chat/groups/more/connections/full")
	s.call(409, "PUT", "/api/hubs/chat/users/u/groups/more")
	s.post(409, "/api/hubs/chat/:addToGroups", `{"groups":["more"]}`, "application/json")
	if !empty.conn.InGroup("more") || full.conn.InGroup("more") {
		t.Error("the wrong connections are in the group")
	}
	s.call(200, "PUT", "/api/hubs/chat/groups/g1/connections/full")

	for i := range hub.MaxLiterals {
		if err := full.conn.Grant(hub.SendToGroup, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	for _, method := range []string{"PUT", "DELETE"} {
		resp := s.call(409, method, "/api/hubs/chat/permissions/sendToGroup/connections/full?targetName=more")
		if resp.header.Get("x-ms-error-code") != "Error.Connection.Conflict" {
			t.Error(resp.header)
		}
		s.call(map[string]int{"PUT": 200, "DELETE": 204}[method], method, "/api/hubs/chat/permissions/sendToGroup/connections/full?targetName=1")
	}
}

func TestPagesSurviveComingAndGoing(t *testing.T) {
	s := newService(t)
	s.members("b", "d", "f", "h")
	first, next := s.page("/api/hubs/chat/groups/g/connections?maxpagesize=2")
	h := s.hubs.Lookup("default", "chat")
	for _, id := range []string{"b", "d", "f"} { // the cursor is gone, too
		c, _ := h.Connection(id)
		h.Leave(c, "g")
	}
	s.members("a", "e", "z")
	second, last := s.page(next)
	third, end := s.page(last)
	if fmt.Sprint(first, second, third) != "[b d] [e h] [z]" || end != "" {
		t.Error(first, second, third, end)
	}

	u, _ := url.Parse(next)
	token := u.Query().Get("continuationToken")
	for _, bad := range []string{
		strings.Replace(next, token, token[:len(token)-1], 1), strings.Replace(next, token, "A"+token[1:], 1), strings.Replace(next, "/g/", "/other/", 1),
		strings.Replace(next, "/chat/", "/other/", 1), strings.Replace(next, token, strings.Repeat("z", 2049), 1), next + "&continuationToken=" + token,
	} {
		s.call(400, "GET", bad)
	}
	if again, _ := s.page(strings.Replace(next, "/chat/", "/CHAT/", 1)); fmt.Sprint(again) != "[e h]" {
		t.Errorf("the hub in other letters: %v", again)
	}
}

func TestLinksBeginWhereTheCallerSaysHeIs(t *testing.T) {
	s := newService(t)
	s.members("a", "b")
	behind := dataplane.New(dataplane.Options{
		Instance: func(*http.Request) *settings.Instance { return s.instance },
		Hubs:     s.hubs,
		Access:   access.New(access.Options{}),
		Origin:   func(*http.Request) string { return publicOrigin },
	})
	get := func(h http.Handler, method, target string) string {
		r := httptest.NewRequest(method, target, nil) // https has a TLS state
		r.Header.Set("Authorization", "Bearer "+sign(primaryKey, target))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Body.String()
	}
	if body := get(behind, "GET", "http://10.0.0.1/api/hubs/chat/groups/g/connections?maxpagesize=1"); !strings.Contains(body, `"nextLink":"`+publicOrigin+`/api/hubs/chat/groups/g/connections?`) {
		t.Error(body)
	}
	if body := get(s.handler, "GET", "https://example.com/api/hubs/chat/groups/g/connections?maxpagesize=1"); !strings.Contains(body, `"nextLink":"https://example.com/api/hubs/chat/groups/g/connections?`) {
		t.Error(body)
	}
}

func TestTheFilterIsCheckedBeforeTheBodyIsRead(t *testing.T) {
	s := newService(t)
	body := &countingReader{}
	r := httptest.NewRequest("POST", s.url+"/api/hubs/chat/:send?filter=userId%20lt%201", body)
	r.Header.Set("Authorization", "Bearer "+sign(primaryKey, s.url+"/api/hubs/chat/:send"))
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	if w.Code != 400 || body.read != 0 {
		t.Errorf("%d after %d bytes", w.Code, body.read)
	}
}

type countingReader struct{ read int }

func (c *countingReader) Read(p []byte) (int, error) {
	c.read += len(p)
	return len(p), nil
}

func TestAnEndlessBodyIsReadUpToTheLimit(t *testing.T) {
	s := newService(t)
	body := &countingReader{}
	r := httptest.NewRequest("POST", s.url+"/api/hubs/chat/:send", body)
	r.ContentLength = -1
	r.Header.Set("Authorization", "Bearer "+sign(primaryKey, s.url+"/api/hubs/chat/:send"))
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	if w.Code != 400 || body.read > 2*dataplane.MaxBody {
		t.Errorf("%d after %d bytes", w.Code, body.read)
	}
}

// FuzzRequest sends what a known caller might: whatever comes, the answer is one of this API and the service lives.
func FuzzRequest(f *testing.F) {
	f.Add("POST", "/api/hubs/chat/groups/g%2F1/:send?excluded=a&filter=userId%20eq%20null&messageTtlSeconds=1", "text/plain; charset=utf-16", "hi", "X-Webpubsub-Metadata-A", "b")
	f.Add("POST", "/api/hubs/chat/:addToGroups?api-version=2024-12-01", "application/json", `{"groups":["a"],"filter":"'a' in groups"}`, "X-Ms-Client-Request-Id", "1")
	f.Add("GET", "/api/hubs/chat/groups/g/connections?maxpagesize=1&top=2&continuationToken=AAAAAAAAAAAA", "", "", "", "")
	f.Add("HEAD", "/api/hubs/chat/permissions/1/connections/c1?targetName=%FF%zz", "", "", "", "")
	f.Add("POST", "/api/hubs/ch%41t/:generateToken?role=a&role=b&minutesToExpire=5&clientType=mqtt&userId=%E7", "", "", "", "")
	f.Add("DELETE", "/api/hubs/chat/connections/c%2e?reason=%00%FF", "", "", "", "")
	s := newService(f)
	s.connect(who{id: "c1", user: "u1", groups: []string{"g"}, raw: true})
	statuses := []int{200, 202, 204, 400, 404, 405, 409, 415}
	f.Fuzz(func(t *testing.T, method, target, contentType, body, header, value string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Host != "" || strings.Contains(target, ":closeC") || method == "DELETE" {
			return // what no server hands over, and what ends the connection
		}
		r := httptest.NewRequest("POST", s.url, strings.NewReader(body))
		r.Method, r.URL = method, u
		r.Header.Set("Content-Type", contentType)
		if header != "" {
			r.Header[http.CanonicalHeaderKey(header)] = []string{value}
		}
		aud := s.url + u.EscapedPath()
		if len(aud) > access.MaxToken/2 {
			return
		}
		r.Header["Authorization"] = []string{"Bearer " + sign(primaryKey, aud)}
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		if !slices.Contains(statuses, w.Code) && !(w.Code == 401 && strings.ContainsAny(aud, "#\x00")) {
			t.Fatalf("%s %q: %d %s", method, target, w.Code, w.Body)
		}
		if w.Code >= 400 {
			checkShape(t, request{method: method, path: target}, response{w.Code, w.Result().Header, w.Body.String()})
		}
	})
}
