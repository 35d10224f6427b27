package tabard

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"tabard/internal/rbac"
	"tabard/internal/trace"
)

func (s *served) traced(query string) []trace.Record {
	s.t.Helper()
	var out struct{ Value []trace.Record }
	if err := json.Unmarshal([]byte(s.controlPlane("GET", s.instanceID()+"/trace?api-version=2024-03-01"+query, "")), &out); err != nil {
		s.t.Fatal(err)
	}
	return out.Value
}

func TestADurableTraceOutlastsARestart(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Data: dir, AllowLoopbackHandlers: true, TraceDurable: true}
	s := serve(t, cfg)
	handler := newCodeHandler(t)
	s.fault(handler.URL+"/canary-path", "")
	if _, err := s.say(); err == nil {
		t.Fatal("an anonymous client was let in")
	}
	before := s.traced("&kind=delivery")
	s.stop()
	searchFiles(t, dir, "canary-path") // sealed

	s = serve(t, cfg)
	after := s.traced("&kind=delivery")
	if len(after) != len(before) || len(after) == 0 || after[0].ID != before[0].ID || after[0].Template != before[0].Template || len(after[0].Stages) != len(before[0].Stages) {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	if refused := s.traced("&code=anonymous_denied&history=true"); len(refused) != 1 {
		t.Errorf("%d refused clients in the history", len(refused))
	}
	// Whoever has the name next has no claim to it.
	s.controlPlane("DELETE", s.instanceID()+"?api-version=2024-03-01", "")
	s.controlPlane("PUT", s.instanceID()+"?api-version=2024-03-01", `{"location":"local"}`)
	if got := len(s.traced("")) + len(s.traced("&history=true")); got != 0 {
		t.Errorf("%d records of the former instance", got)
	}
	s.stop()
	s = serve(t, cfg)
	if got := len(s.traced("")) + len(s.traced("&history=true")); got != 0 {
		t.Errorf("after another start %d records of the former instance", got)
	}
}

func TestWithoutADurableTraceThereIsNoHistory(t *testing.T) {
	s := serve(t, Config{})
	if status, text := s.call(http.MethodGet, s.AdminURL+s.instanceID()+"/trace?api-version=2024-03-01&history=true", s.AdminToken, ""); status != 409 || !strings.Contains(text, "HistoryNotKept") {
		t.Errorf("%d %s", status, text)
	}
}

// Bodies are the clients' own: reading them, and sending events, needs more than a reader's role.
func TestAReaderSeesRecordsButNoContents(t *testing.T) {
	s := serve(t, Config{AllowLoopbackHandlers: true})
	handler := newCodeHandler(t)
	recs := s.fault(handler.URL, "")
	id := recs[len(recs)-1].ID
	reader := s.principal("reader")
	s.assign(reader, rbac.Reader, s.instanceID())
	token := s.token(reader, armResource)
	record := s.AdminURL + s.instanceID() + "/trace/" + strconv.FormatUint(id, 10)
	for path, want := range map[string]struct {
		method string
		status int
	}{
		s.AdminURL + s.instanceID() + "/trace":             {"GET", 200},
		record:                                             {"GET", 200},
		record + "/listContent":                            {"POST", 403},
		record + "/replay":                                 {"POST", 403},
		s.AdminURL + s.instanceID() + "/listen":            {"POST", 403},
		s.AdminURL + s.instanceID() + "/hubs/chat/trigger": {"POST", 403},
		s.AdminURL + s.instanceID() + "/traceReasons":      {"GET", 200},
	} {
		if status, text := s.call(want.method, path+"?api-version=2024-03-01", token, "{}"); status != want.status {
			t.Errorf("%s %s: %d %.200s", want.method, path, status, text)
		}
	}
}
