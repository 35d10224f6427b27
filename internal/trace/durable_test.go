package trace

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"tabard/guard/reason"
)

// A shelf is a journal in memory, with faults; the store's own is used by the root package's tests.
type shelf struct {
	mu      sync.Mutex
	batches [][]byte
	err     error
	wait    chan struct{} // not nil: Append waits for it
}

func (s *shelf) Append(_ context.Context, batch []byte) error {
	if s.wait != nil {
		<-s.wait
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.batches = append(s.batches, batch)
	return nil
}

func (s *shelf) Back(_ context.Context, visit func([]byte) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.batches) - 1; i >= 0; i-- {
		if !visit(s.batches[i]) {
			return nil
		}
	}
	return nil
}

func durable(t *testing.T, s *shelf, opt Options) *Recorder {
	t.Helper()
	r := New(opt)
	if err := r.Restore(t.Context(), Durable{Journal: s, Interval: time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRecordsOutlastTheProcess(t *testing.T) {
	s := &shelf{}
	r := durable(t, s, Options{})
	for i := range 5 {
		r.Record(Record{Kind: Delivery, Instance: "i", Hub: "chat", Code: reason.Delivered, Claims: json.RawMessage(`{"aud":"x"}`), Stages: []Stage{{Name: "match", Outcome: OK, Duration: time.Duration(i)}}})
	}
	r.Keep(Record{Kind: Delivery, Instance: "i", Code: reason.Timeout, Detail: "late"}, &Content{Body: []byte("canary-body")})
	r.Record(Record{Kind: Message, Instance: "i"}) // Debug: in memory alone
	before := r.Records(Filter{Instance: "i", Kind: Delivery})
	r.Close()
	for _, b := range s.batches {
		if strings.Contains(string(b), "canary") {
			t.Error("a content was written")
		}
	}
	again := durable(t, s, Options{})
	defer again.Close()
	after := again.Records(Filter{Instance: "i"})
	if len(after) != 6 || len(before) != 6 {
		t.Fatalf("%d of %d records came back", len(after), len(before))
	}
	for i := range after {
		a, b := before[i], after[i]
		a.slot = nil // contents stay behind
		if fmt.Sprintf("%+v", a) != fmt.Sprintf("%+v", b) {
			t.Errorf("record %d was\n%+v, is\n%+v", i, a, b)
		}
	}
	if next := again.Keep(Record{Instance: "i"}, nil); next.ID <= after[5].ID {
		t.Errorf("the id %d was given before", next.ID)
	}
}

func TestTheHistoryIsLongerThanTheMemory(t *testing.T) {
	s := &shelf{}
	r := durable(t, s, Options{Records: 2})
	for i := range 10 {
		r.Record(Record{Kind: Delivery, Instance: "i", Event: fmt.Sprint(i % 2), Code: reason.Delivered})
	}
	r.Record(Record{Kind: Delivery, Instance: "other", Code: reason.Delivered})
	r.Close()
	r = durable(t, s, Options{Records: 2})
	defer r.Close()
	if n := len(r.Records(Filter{Instance: "i"})); n != 2 {
		t.Errorf("%d records in memory", n)
	}
	list, ok, err := r.History(t.Context(), Filter{Instance: "i", Event: "1", Last: 3})
	if err != nil || !ok || len(list) != 3 || list[2].ID != 10 || list[0].ID != 6 {
		t.Errorf("%+v %v %v", list, ok, err)
	}
	if _, ok, _ := New(Options{}).History(t.Context(), Filter{Instance: "i"}); ok {
		t.Error("there is a history without a journal")
	}
}

func TestRecordsOfAnInstanceThatIsGoneStayAway(t *testing.T) {
	s := &shelf{}
	r := durable(t, s, Options{})
	r.Record(Record{Kind: Delivery, Instance: "i", Code: reason.Delivered})
	r.Close()
	r = New(Options{})
	if err := r.Restore(t.Context(), Durable{Journal: s, Belongs: func(string, time.Time) bool { return false }}); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	list, _, _ := r.History(t.Context(), Filter{Instance: "i"})
	if len(list)+len(r.Records(Filter{Instance: "i"})) != 0 {
		t.Error("they are shown")
	}
}

func TestAJournalThatFailsOrIsSlowCostsRecordsOnly(t *testing.T) {
	s := &shelf{err: errors.New("disk full")}
	r := durable(t, s, Options{})
	for range 3 {
		r.Record(Record{Kind: Delivery, Instance: "i", Code: reason.Delivered})
	}
	r.Close()
	if r.Lost() != 3 || len(r.Records(Filter{Instance: "i"})) != 3 {
		t.Errorf("lost %d", r.Lost())
	}
	slow := &shelf{wait: make(chan struct{})}
	r = durable(t, slow, Options{})
	const n = 3 * keepBuffer
	for range n { // nobody takes them: whoever records must not wait
		r.Record(Record{Kind: Delivery, Instance: "i", Code: reason.Delivered})
	}
	close(slow.wait)
	r.Close()
	written := 0
	for _, b := range slow.batches {
		var recs []Record
		if err := json.Unmarshal(b, &recs); err != nil {
			t.Fatal(err)
		}
		written += len(recs)
	}
	if written+int(r.Lost()) != n || r.Lost() == 0 {
		t.Errorf("%d written, %d lost, of %d", written, r.Lost(), n)
	}
}

func TestBatchesAreBounded(t *testing.T) {
	s := &shelf{}
	r := New(Options{})
	if err := r.Restore(t.Context(), Durable{Journal: s, Interval: time.Hour}); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		r.Record(Record{Kind: Delivery, Instance: "i", Code: reason.Delivered, Detail: strings.Repeat("x", 8<<10)})
	}
	r.Close()
	if len(s.batches) < 3 {
		t.Errorf("%d batches", len(s.batches))
	}
	for _, b := range s.batches {
		if len(b) > maxBatch+1024 {
			t.Errorf("a batch of %d bytes", len(b))
		}
	}
}

func TestAJournalThatIsNoneStopsTheStart(t *testing.T) {
	if err := New(Options{}).Restore(t.Context(), Durable{Journal: &shelf{batches: [][]byte{[]byte("nonsense")}}}); err == nil {
		t.Error("it was taken for records")
	}
}
