package trace

import (
	"testing"
	"time"

	"tabard/guard/reason"
)

func record(instance, hub string, code reason.Code) Record {
	return Record{Kind: Delivery, Instance: instance, Hub: hub, Code: code}
}

func TestTheNewestRecordsStayInOrder(t *testing.T) {
	r := New(Options{Records: 3, Now: func() time.Time { return time.Unix(7, 0) }})
	for range 5 {
		r.Record(record("default", "chat", reason.Delivered))
	}
	got := r.Records(Filter{Instance: "default"})
	if len(got) != 3 || got[0].ID != 3 || got[2].ID != 5 || !got[0].Time.Equal(time.Unix(7, 0)) {
		t.Errorf("got %+v, want records 3 to 5", got)
	}
}

func TestAnInstanceSeesOnlyItsOwnRecords(t *testing.T) {
	r := New(Options{})
	r.Record(record("a", "chat", reason.Delivered))
	r.Record(record("b", "chat", reason.Delivered))
	if got := r.Records(Filter{Instance: "a"}); len(got) != 1 || got[0].Instance != "a" {
		t.Errorf("got %+v", got)
	}
	r.Forget("a")
	if got := r.Records(Filter{Instance: "a"}); len(got) != 0 {
		t.Errorf("a forgotten instance still has %+v", got)
	}
}

func TestTheOldestInstanceMakesRoom(t *testing.T) {
	r := New(Options{Instances: 2})
	for _, in := range []string{"a", "b", "c"} {
		r.Record(record(in, "chat", reason.Delivered))
	}
	if len(r.Records(Filter{Instance: "a"})) != 0 || len(r.Records(Filter{Instance: "c"})) != 1 {
		t.Error("want the ring of a gone and that of c kept")
	}
}

func TestRecordsAreFiltered(t *testing.T) {
	r := New(Options{})
	r.Record(Record{Kind: Delivery, Instance: "i", Hub: "chat", Event: "message", User: "u", Connection: "c", Code: reason.Delivered})
	r.Record(Record{Kind: Request, Instance: "i", Hub: "other", Code: reason.NoToken})
	for _, tc := range []struct {
		name   string
		filter Filter
		want   int
	}{
		{"everything", Filter{}, 2},
		{"hub in any case", Filter{Hub: "CHAT"}, 1},
		{"event in any case", Filter{Event: "Message"}, 1},
		{"user exactly", Filter{User: "U"}, 0},
		{"connection", Filter{Connection: "c"}, 1},
		{"kind", Filter{Kind: Request}, 1},
		{"code", Filter{Code: reason.NoToken}, 1},
		{"after an id", Filter{After: 1}, 1},
		{"only the last", Filter{Last: 1}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.filter.Instance = "i"
			if got := len(r.Records(tc.filter)); got != tc.want {
				t.Errorf("got %d records, want %d", got, tc.want)
			}
		})
	}
}

func TestAFollowerGetsWhatIsKeptThenWhatHappens(t *testing.T) {
	r := New(Options{})
	r.Record(record("i", "a", reason.Delivered))
	r.Record(record("i", "b", reason.Delivered))
	kept, s := r.Follow(Filter{Instance: "i", Hub: "a"})
	defer s.Close()
	r.Record(record("i", "b", reason.Delivered))
	r.Record(record("i", "a", reason.Timeout))
	if len(kept) != 1 || kept[0].ID != 1 {
		t.Errorf("kept %+v, want the first record", kept)
	}
	if next := <-s.C(); next.ID != 4 || next.Code != reason.Timeout {
		t.Errorf("next %+v, want the fourth record", next)
	}
}

func TestASlowFollowerLosesRecordsAndBlocksNobody(t *testing.T) {
	r := New(Options{})
	_, s := r.Follow(Filter{Instance: "i"})
	for range followBuffer + 5 {
		r.Record(record("i", "a", reason.Delivered))
	}
	if s.Lost() != 5 {
		t.Errorf("lost %d, want 5", s.Lost())
	}
	s.Close()
	r.Record(record("i", "a", reason.Delivered))
	if s.Lost() != 5 {
		t.Error("a closed subscription still takes records")
	}
}

func TestLongAnswersAreCut(t *testing.T) {
	r := New(Options{})
	r.Record(Record{Instance: "i", Answer: string(make([]byte, MaxAnswer+1))})
	if got := len(r.Records(Filter{Instance: "i"})[0].Answer); got != MaxAnswer {
		t.Errorf("kept %d bytes, want %d", got, MaxAnswer)
	}
}

func TestANilRecorderKeepsNothing(t *testing.T) {
	var r *Recorder
	r.Record(Record{})
	r.Forget("i")
	if r.Records(Filter{}) != nil {
		t.Error("want nothing")
	}
}

func BenchmarkRecord(b *testing.B) {
	r := New(Options{})
	rec := record("i", "a", reason.Delivered)
	b.ReportAllocs()
	for b.Loop() {
		r.Record(rec)
	}
}
