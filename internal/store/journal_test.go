package store

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var wide = JournalOptions{MaxAge: time.Hour, MaxEntries: 1000, MaxBytes: 1 << 20}

func journal(t testing.TB, s *Store, opt JournalOptions) *Journal {
	t.Helper()
	return must(OpenJournal(t.Context(), s, "log", opt))(t)
}

// back reads all that is below a sequence, newest first.
func back(t testing.TB, j *Journal, before uint64) (entries []string) {
	t.Helper()
	if err := j.Back(t.Context(), before, func(e Entry) bool {
		entries = append(entries, fmt.Sprintf("%d %s", e.Sequence, e.Data))
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return entries
}

func TestAJournalIsReadBackwardsAlsoAfterReopening(t *testing.T) {
	dir := t.TempDir()
	s, stop := open(t, dir)
	j := journal(t, s, wide)
	if got := back(t, j, 0); len(got) != 0 {
		t.Fatalf("a new journal has %v", got)
	}
	for i, text := range []string{"one", "two", "three"} {
		if seq := must(j.Append(t.Context(), []byte(text)))(t); seq != uint64(i+1) {
			t.Errorf("%s has sequence %d", text, seq)
		}
	}
	stop()
	if _, err := j.Append(t.Context(), []byte("late")); err == nil {
		t.Error("a closed store took an entry")
	}
	s, _ = open(t, dir)
	j = journal(t, s, wide)
	if got, want := back(t, j, 0), []string{"3 three", "2 two", "1 one"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := back(t, j, 3), []string{"2 two", "1 one"}; !slices.Equal(got, want) {
		t.Errorf("below 3: %v, want %v", got, want)
	}
	if got := back(t, j, 1); len(got) != 0 {
		t.Errorf("below 1: %v", got)
	}
	var first []uint64
	if err := j.Back(t.Context(), 0, func(e Entry) bool { first = append(first, e.Sequence); return false }); err != nil || len(first) != 1 {
		t.Errorf("a reader who has enough got %v, %v", first, err)
	}
}

func TestAFullJournalMakesRoomByItsOldestEntriesOnly(t *testing.T) {
	for _, tc := range []struct {
		name string
		opt  JournalOptions
		size int
		keep int // of ten
	}{
		{"as many entries as fit", JournalOptions{MaxAge: time.Hour, MaxEntries: 10, MaxBytes: 1 << 20}, 10, 10},
		{"one entry too many", JournalOptions{MaxAge: time.Hour, MaxEntries: 9, MaxBytes: 1 << 20}, 10, 9},
		{"too many bytes", JournalOptions{MaxAge: time.Hour, MaxEntries: 100, MaxBytes: 1 << 20}, 200 << 10, 5},
	} {
		s, _ := open(t, t.TempDir())
		j := journal(t, s, tc.opt)
		for i := range 10 {
			must(j.Append(t.Context(), fmt.Appendf(nil, "%d%s", i, strings.Repeat(" ", tc.size))))(t)
		}
		var got []uint64
		if err := j.Back(t.Context(), 0, func(e Entry) bool { got = append(got, e.Sequence); return true }); err != nil {
			t.Fatal(err)
		}
		if len(got) != tc.keep || got[0] != 10 || got[len(got)-1] != uint64(10-tc.keep+1) {
			t.Errorf("%s: left are %v, want the newest %d", tc.name, got, tc.keep)
		}
	}
}

func TestEntriesOfAJournalGoWithAge(t *testing.T) {
	s, _ := open(t, t.TempDir())
	j := journal(t, s, JournalOptions{MaxAge: time.Second, MaxEntries: 10, MaxBytes: 1 << 20})
	must(j.Append(t.Context(), []byte("old")))(t)
	eventually(t, "the old entry goes", func() bool { return len(back(t, j, 0)) == 0 })
	if seq := must(j.Append(t.Context(), []byte("new")))(t); seq != 2 {
		t.Errorf("the next sequence is %d: sequences are never used again", seq)
	}
}

func TestAJournalRefusesWhatItCannotKeep(t *testing.T) {
	s, _ := open(t, t.TempDir())
	for name, opt := range map[string]JournalOptions{
		"no bounds": {}, "no age": {MaxEntries: 1, MaxBytes: 1 << 20}, "no entries": {MaxAge: time.Hour, MaxBytes: 1 << 20}, "few bytes": {MaxAge: time.Hour, MaxEntries: 1, MaxBytes: 1<<20 - 1},
	} {
		if _, err := OpenJournal(t.Context(), s, "log", opt); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	j := journal(t, s, JournalOptions{MaxAge: time.Hour, MaxEntries: 10, MaxBytes: 8 << 20})
	must(j.Append(t.Context(), make([]byte, MaxValue)))(t)
	_, err := j.Append(t.Context(), make([]byte, MaxValue+1))
	wantErr(t, err, ErrTooLarge)
}

func TestAnEntryIsSealedAndBoundToItsJournal(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir)
	j := journal(t, s, wide)
	const canary = "entry-canary-8c1f"
	must(j.Append(t.Context(), []byte(canary)))(t)
	other := must(OpenJournal(t.Context(), s, "other", wide))(t)
	msg := must(j.stream.GetMsg(t.Context(), 1))(t)
	must(s.fabric.JetStream().Publish(t.Context(), other.subject, msg.Data))(t)
	if err := other.Back(t.Context(), 0, func(Entry) bool { return true }); err == nil || !strings.Contains(err.Error(), "entry 1 was damaged or moved") {
		t.Errorf("an entry of another journal: %v", err)
	}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte(canary)) {
			t.Errorf("%s shows the entry", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
