package trace

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
	"unsafe"

	"tabard/guard/reason"
)

func TestAFloodOfTheRoutineLeavesFaultsAlone(t *testing.T) {
	r := New(Options{Records: 4})
	r.Record(Record{Kind: Delivery, Instance: "i", Code: reason.Timeout})
	for range 100 {
		r.Record(Record{Kind: Delivery, Instance: "i", Code: reason.Delivered})
		r.Record(Record{Kind: Message, Instance: "i"})
	}
	got := r.Records(Filter{Instance: "i"})
	if len(got) != 9 || got[0].Code != reason.Timeout {
		t.Errorf("%d records, the first is %s", len(got), got[0].Code)
	}
	for i := 1; i < len(got); i++ {
		if got[i].ID <= got[i-1].ID {
			t.Error("they are out of order")
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	const limit = 64 << 10
	r := New(Options{Bytes: limit})
	for _, instance := range []string{"a", "b", "c"} {
		for range 500 {
			r.Record(Record{Kind: Delivery, Instance: instance, Detail: strings.Repeat("x", 1<<10), Code: reason.Timeout})
		}
	}
	records, _ := r.Usage()
	if slack := int64(3 * (2 << 10)); records > limit+slack { // the newest record of each is kept whatever there is
		t.Errorf("%d bytes", records)
	}
	for _, instance := range []string{"a", "b", "c"} {
		if len(r.Records(Filter{Instance: instance})) == 0 {
			t.Errorf("%s has nothing", instance)
		}
		r.Forget(instance)
	}
	if records, _ := r.Usage(); records != 0 {
		t.Errorf("%d bytes of nothing", records)
	}
}

func TestContentsGiveWayToNewerOnes(t *testing.T) {
	r := New(Options{ContentBytes: 3 * (MaxContent + slotOverhead)})
	for range 5 {
		r.Keep(Record{Kind: Delivery, Instance: "i", Code: reason.Delivered}, &Content{Body: make([]byte, MaxContent)})
	}
	var kept []bool
	for _, rec := range r.Records(Filter{Instance: "i"}) {
		kept = append(kept, rec.Content() != nil)
	}
	for i, want := range []bool{false, false, true, true, true} {
		if kept[i] != want {
			t.Errorf("contents are kept as %v", kept)
			break
		}
	}
	if _, contents := r.Usage(); contents > 3*(MaxContent+slotOverhead) {
		t.Errorf("%d bytes", contents)
	}
	rec := r.Keep(Record{Kind: Delivery, Instance: "i"}, &Content{Body: make([]byte, MaxContent+1)})
	if rec.Content() != nil {
		t.Error("a body beyond the bound is kept")
	}
	r.Forget("i")
	if found := r.Records(Filter{Instance: "i"}); len(found) != 0 {
		t.Error("a forgotten instance has records")
	}
	none := New(Options{ContentBytes: -1})
	if rec := none.Keep(Record{Instance: "i"}, &Content{Body: []byte("x")}); rec.Content() != nil {
		t.Error("a content is kept where none may be")
	}
}

func TestManyInstancesAreBoundedAlsoWhileTheyAreFollowed(t *testing.T) {
	r := New(Options{Instances: 3})
	_, s := r.Follow(Filter{Instance: "followed"})
	defer s.Close()
	for _, in := range []string{"a", "b", "c", "d", "e"} {
		r.Record(Record{Instance: in})
	}
	r.Record(Record{Instance: "followed"})
	if len(r.books) > 3 || len(r.order) > 3 {
		t.Errorf("%d books", len(r.books))
	}
	if rec := <-s.C(); rec.Instance != "followed" {
		t.Errorf("got %+v", rec)
	}
}

func TestLevelsCategoriesAndTimesFilter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r := New(Options{Now: func() time.Time { return now }})
	r.Record(Record{Kind: Message, Instance: "i"})                                                     // 1
	r.Record(Record{Kind: Connection, Operation: ConnectionStarted, Instance: "i"})                    // 2
	r.Record(Record{Kind: Connection, Operation: ConnectionAborted, Instance: "i"})                    // 3
	r.Record(Record{Kind: Request, Status: 404, Instance: "i"})                                        // 4
	r.Record(Record{Kind: Request, Status: 400, Instance: "i"})                                        // 5
	r.Record(Record{Kind: Delivery, Code: reason.Delivered, Instance: "i", Time: now.Add(-time.Hour)}) // 6
	r.Record(Record{Kind: Delivery, Code: reason.Timeout, Instance: "i"})                              // 7
	r.Record(Record{Kind: Identity, Code: reason.AudienceEmpty, Instance: "i"})                        // 8
	for _, tc := range []struct {
		name   string
		filter Filter
		want   string
	}{
		{"all", Filter{}, "12345678"},
		{"debug", Filter{Level: Debug}, "12345678"},
		{"informational", Filter{Level: Informational}, "2345678"},
		{"warning", Filter{Level: Warning}, "3578"},
		{"error", Filter{Level: Error}, "7"},
		{"connectivity", Filter{Category: ConnectivityLogs}, "23"},
		{"messaging", Filter{Category: MessagingLogs}, "1"},
		{"requests", Filter{Category: HTTPRequestLogs}, "45678"},
		{"since", Filter{Since: now}, "1234578"},
	} {
		tc.filter.Instance = "i"
		got := ""
		for _, rec := range r.Records(tc.filter) {
			got += string('0' + rune(rec.ID))
		}
		if got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

// The columns of Azure's resource logs and live trace are there under their names (control plane, 12.2 and 12.3).
func TestARecordAsJSONHasAzuresColumns(t *testing.T) {
	text, err := json.Marshal(Record{
		Time: time.Unix(1, 0).UTC(), Kind: Connection, Operation: ConnectionLimit, Instance: "i", Hub: "chat", Connection: "c", User: "u", CallerIP: "10.0.0.1",
		Method: "GET", Route: "/r", URL: "/client/hubs/chat", TraceID: "t", Status: 429, Duration: time.Second, Code: reason.ConnectionLimit,
	})
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	why, _ := reason.Lookup(reason.ConnectionLimit)
	for name, want := range map[string]any{
		"time": "1970-01-01T00:00:01Z", "level": "Warning", "category": "ConnectivityLogs", "operationName": "ConnectionCountLimitReached", "callerIpAddress": "10.0.0.1",
		"collection": "Throttling", "connectionId": "c", "userId": "u", "hub": "chat", "routeTemplate": "/r", "httpMethod": "GET", "url": "/client/hubs/chat", "traceId": "t",
		"status": 429.0, "durationNs": 1e9, "code": "connection_limit", "sentence": why.Sentence, "fix": why.Fix, "message": why.Sentence, "hasContent": false,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}

func TestTraceIDs(t *testing.T) {
	const id = "0af7651916cd43dd8448eb211c80319c"
	for header, want := range map[string]string{
		"00-" + id + "-b7ad6b7169203331-01":                      id,
		"01-" + id + "-b7ad6b7169203331-01-later":                id,
		"00-" + id + "-b7ad6b7169203331-01-later":                "",
		"ff-" + id + "-b7ad6b7169203331-01":                      "",
		"00-" + strings.ToUpper(id) + "-b7ad6b7169203331-01":     "",
		"00-" + strings.Repeat("0", 32) + "-b7ad6b7169203331-01": "",
		"00-" + id + "-0000000000000000-01":                      "",
		"00-" + id + "-b7ad6b7169203331":                         "",
		"":                                                       "", "x": "",
	} {
		if got := ID(http.Header{"Traceparent": {header}}); got != want {
			t.Errorf("%s: %q", header, got)
		}
	}
	if ID(http.Header{"Traceparent": {"00-" + id + "-b7ad6b7169203331-01", "x"}}) != "" {
		t.Error("two headers are no trace")
	}
}

func FuzzTraceIDs(f *testing.F) {
	f.Add("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	f.Fuzz(func(t *testing.T, header string) {
		if id := ID(http.Header{"Traceparent": {header}}); id != "" && (len(id) != 32 || !isHex(id)) {
			t.Errorf("%q", id)
		}
	})
}

func TestARecordKeepsNothingAroundItsTextsAlive(t *testing.T) {
	r := New(Options{})
	line, parent := "/client/hubs/chat?access_token="+strings.Repeat("x", 1<<10), "01-"+strings.Repeat("a", 32)+"-"+strings.Repeat("b", 16)+"-00-"+strings.Repeat("x", 1<<10)
	rec := r.Keep(Record{Instance: "i", URL: line[:17], TraceID: parent[3:35]}, nil)
	if rec.URL != "/client/hubs/chat" || unsafe.StringData(rec.URL) == unsafe.StringData(line) {
		t.Errorf("%q is a part of the request line", rec.URL)
	}
	if rec.TraceID != strings.Repeat("a", 32) || unsafe.StringData(rec.TraceID) == unsafe.StringData(parent[3:]) {
		t.Errorf("%q is a part of the header", rec.TraceID)
	}
}

func TestTheMetadataOfAContentCount(t *testing.T) {
	r := New(Options{ContentBytes: 64 << 10})
	for range 100 {
		r.Keep(Record{Instance: "i"}, &Content{Metadata: [][2]string{{"k", strings.Repeat("v", 8<<10)}}})
	}
	kept := 0
	for _, rec := range r.Records(Filter{Instance: "i"}) {
		if rec.Content() != nil {
			kept++
		}
	}
	if kept != 7 {
		t.Errorf("%d contents of over 8 KiB are kept within 64 KiB", kept)
	}
}
