package audit

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"tabard/internal/store"
)

// A Query selects records, the newest first.
type Query struct {
	From, To time.Time          // both included; zero: no bound
	Match    func(*Record) bool // nil: all
	Limit    int                // of records in an answer; at least 1
	After    string             // the token of the answer before
}

// ErrBadToken reports a token that no answer gave.
var ErrBadToken = errors.New("audit: the token is not one of an answer")

// maxScan bounds how many records one answer looks at; the next one goes on from there.
const maxScan = 10_000

// Find returns records and, unless there are no more, the token for the next ones. An answer may have fewer than Limit,
// even none, and a token: then many were looked at that did not match.
func (l *Log) Find(ctx context.Context, q Query) (found []Record, next string, err error) {
	at := [2]uint64{}
	if q.After != "" {
		if at, err = parseToken(q.After); err != nil {
			return nil, "", err
		}
	}
	read := [2]*cursor{{journal: l.changes, before: at[0], done: q.After != "" && at[0] == 1}, {journal: l.refused, before: at[1], done: q.After != "" && at[1] == 1}}
	for scanned := 0; ; scanned++ {
		for _, c := range read {
			if err := c.fill(ctx); err != nil {
				return nil, "", err
			}
		}
		c := newer(read[0], read[1])
		if c == nil || !q.From.IsZero() && c.ahead[0].Time.Before(q.From) {
			return found, "", nil
		}
		if len(found) == q.Limit || scanned == maxScan {
			return found, token(read[0], read[1]), nil
		}
		r := c.take()
		if (q.To.IsZero() || !r.Time.After(q.To)) && (q.Match == nil || q.Match(r)) {
			found = append(found, *r)
		}
	}
}

// A cursor walks one journal backwards.
type cursor struct {
	journal *store.Journal
	before  uint64      // all below have not been read; 0: nothing has
	ahead   []sequenced // read, and not taken yet
	done    bool        // nothing is left to read
}

type sequenced struct {
	*Record
	sequence uint64
}

// fill reads ahead unless something is there.
func (c *cursor) fill(ctx context.Context) error {
	const most = 64
	if len(c.ahead) > 0 || c.done {
		return nil
	}
	var bad error
	err := c.journal.Back(ctx, c.before, func(e store.Entry) bool {
		r := &Record{}
		if err := json.Unmarshal(e.Data, r); err != nil {
			bad = fmt.Errorf("audit: record %d does not decode", e.Sequence)
			return false
		}
		c.ahead, c.before = append(c.ahead, sequenced{r, e.Sequence}), e.Sequence
		return len(c.ahead) < most && e.Sequence > 1
	})
	c.done = len(c.ahead) == 0 || c.before == 1
	return errors.Join(err, bad)
}

func (c *cursor) take() *Record {
	r := c.ahead[0].Record
	c.ahead = c.ahead[1:]
	return r
}

// newer is the cursor whose next record is the later one, nil at the end of both.
func newer(a, b *cursor) *cursor {
	switch {
	case len(a.ahead) == 0 && len(b.ahead) == 0:
		return nil
	case len(a.ahead) == 0:
		return b
	case len(b.ahead) == 0 || !b.ahead[0].Time.After(a.ahead[0].Time):
		return a
	}
	return b
}

// position is the sequence below which to go on: 1 for nothing, 0 for everything.
func (c *cursor) position() uint64 {
	switch {
	case len(c.ahead) > 0:
		return c.ahead[0].sequence + 1
	case c.done:
		return 1
	}
	return c.before
}

func token(a, b *cursor) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d.%d", a.position(), b.position()))
}

func parseToken(text string) (at [2]uint64, err error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err == nil {
		var n int
		n, err = fmt.Sscanf(string(raw), "%d.%d", &at[0], &at[1])
		if err == nil && (n != 2 || fmt.Sprintf("%d.%d", at[0], at[1]) != string(raw)) {
			err = ErrBadToken
		}
	}
	if err != nil {
		return at, ErrBadToken
	}
	return at, nil
}
