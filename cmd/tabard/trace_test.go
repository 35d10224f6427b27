package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"tabard/guard/reason"
)

func TestEventsOfAStream(t *testing.T) {
	for _, c := range []struct {
		name, stream string
		want         []string
	}{
		{"one event", "data: {}\n\n", []string{"{}"}},
		{"comments, ids and names between them", ": hello\n\nid: 1\nevent: record\ndata: a\n\n:\n\ndata: b\n\n", []string{"recorda", "b"}},
		{"data without a space, on several lines, with carriage returns", "data:a\r\ndata:  b\r\n\r\n", []string{"a\n b"}},
		{"an event that was cut short is none", "data: a\n\ndata: b\n", []string{"a"}},
		{"no data", "\n\n\n", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			err := readEvents(strings.NewReader(c.stream), func(e serverEvent) (bool, error) {
				got = append(got, e.name+string(e.data))
				return true, nil
			})
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func TestAStreamEndsWhenEnoughWasRead(t *testing.T) {
	n := 0
	err := readEvents(strings.NewReader("data: a\n\ndata: b\n\ndata: c\n\n"), func(serverEvent) (bool, error) { n++; return n < 2, nil })
	if err != nil || n != 2 {
		t.Errorf("%d events, %v", n, err)
	}
}

func TestAStreamIsBounded(t *testing.T) {
	none := func(serverEvent) (bool, error) { return true, nil }
	if err := readEvents(strings.NewReader("data: "+strings.Repeat("x", maxEvent)+"\n\n"), none); err == nil {
		t.Error("a line without end was read")
	}
	if err := readEvents(strings.NewReader(strings.Repeat("data: "+strings.Repeat("x", 1000)+"\n", 1100)), none); err == nil {
		t.Error("an event without end was read")
	}
}

func FuzzEvents(f *testing.F) {
	f.Add("data: {}\n\n: c\nid: 1\ndata: a\ndata:b\r\n\n")
	f.Fuzz(func(t *testing.T, stream string) {
		_ = readEvents(strings.NewReader(stream), func(e serverEvent) (bool, error) {
			if len(e.data) == 0 {
				t.Error("an event without data")
			}
			return true, nil
		})
	})
}

func TestRecordsForPeople(t *testing.T) {
	at := time.Date(2026, 11, 24, 9, 0, 0, 0, time.Local)
	for _, c := range []struct {
		name string
		r    record
		want string
	}{
		{"what went well takes one line",
			record{ID: 7, Time: at, Kind: "delivery", Code: reason.Delivered, Hub: "chat", Event: "message", User: "ann", Connection: "c1", Status: 200, Attempts: 1, Duration: 1234567},
			"09:00:00.000 delivery delivered hub=chat event=message user=ann connection=c1 status=200 took=1.23ms id=7\n"},
		{"a message, and what needs no reason",
			record{Time: at, Kind: "message", Operation: "SendToGroup", Hub: "chat", Group: "g", User: "ann", Bytes: 5, Receivers: 2},
			"09:00:00.000 message SendToGroup hub=chat group=g user=ann bytes=5 receivers=2\n"},
		{"a connection",
			record{Time: at, Kind: "connection", Operation: "ConnectionEnded", Hub: "chat", Connection: "c1", Caller: "127.0.0.1", Duration: time.Second, Detail: "Closed by the client"},
			"09:00:00.000 connection ConnectionEnded hub=chat connection=c1 from=127.0.0.1 took=1s\n         Closed by the client\n"},
		{"what went wrong says why and what to do",
			record{Time: at, Kind: "delivery", Code: reason.Timeout, Hub: "chat", Attempts: 4, Detail: "no answer\x1b[2J", Stages: []stageRecord{{"token", "ok", ""}, {"call", "failed", "deadline"}}},
			"09:00:00.000 delivery timeout hub=chat attempts=4\n" +
				"    what the handler did not answer in time\n" +
				"         " + `"no answer\x1b[2J"` + "\n" +
				"    at   call: deadline\n" +
				"    fix  answer sooner; the whole exchange with its repetitions may take 100 seconds\n"},
		{"a code of a later version",
			record{Time: at, Kind: "request", Code: "some_new_code"},
			"09:00:00.000 request some_new_code\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.r.String(); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestARecordAsJSONIsOneLine(t *testing.T) {
	var out bytes.Buffer
	c := &traceTailCmd{JSON: true}
	if err := c.show(&stdio{out: &out}, []byte("{\n  \"a\": 1\n}")); err != nil || out.String() != "{\"a\":1}\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}
