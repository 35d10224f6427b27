package trace

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Journal keeps batches of records durably, within bounds of its own. It is safe for concurrent use.
type Journal interface {
	// Append returns when the batch is on disk.
	Append(ctx context.Context, batch []byte) error
	// Back reads batches from the newest to the oldest and gives each to visit until that returns false.
	Back(ctx context.Context, visit func(batch []byte) bool) error
}

// Durable says how records outlast the process.
type Durable struct {
	Journal Journal
	// Belongs tells whether a record of that instance and time is still wanted: an instance that was deleted and made
	// anew has no claim to what happened before. nil: every one is.
	Belongs func(instance string, at time.Time) bool
	// Interval is how long a record waits for others before it is written. 0 means 100 ms.
	Interval time.Duration
	Log      *slog.Logger // gets failures; nil discards
}

// Bounds of what is written durably.
const (
	maxBatch    = 512 << 10 // bytes, about
	keepBuffer  = 4096      // records that wait; further ones are in memory alone
	maxHistory  = 10_000    // records that one question is answered with
	appendLimit = 10 * time.Second
)

// A keeper writes records to the journal, beside whoever makes them.
type keeper struct {
	Durable
	c    chan Record
	stop chan struct{}
	done sync.WaitGroup
	lost atomic.Uint64 // records that found no room, or could not be written
}

// Restore reads the newest records back that the journal has, and from then on writes what is Informational or worse to
// it, in batches: a crash loses the last of them. It is called once, before the first record; [Recorder.Close] ends it.
func (r *Recorder) Restore(ctx context.Context, d Durable) error {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Interval <= 0 {
		d.Interval = 100 * time.Millisecond
	}
	k := &keeper{Durable: d, c: make(chan Record, keepBuffer), stop: make(chan struct{})}
	kept, err := k.read(ctx, &Filter{Last: maxHistory}) // of all instances
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range kept {
		rec := &kept[i]
		r.book(rec.Instance).ring(rec, r.opt.Records).add(rec, r)
		r.next.Store(max(r.next.Load(), rec.ID))
	}
	r.keeper = k
	k.done.Go(k.run)
	return nil
}

// Close writes what is still to be written durably. Records that come later are in memory alone.
func (r *Recorder) Close() {
	if r == nil || r.keeper == nil {
		return
	}
	close(r.keeper.stop)
	r.keeper.done.Wait()
}

// History lists the records that were written durably and f lets through, oldest first, at most 10,000. durable is false
// if none ever are.
func (r *Recorder) History(ctx context.Context, f Filter) (list []Record, durable bool, err error) {
	if r == nil || r.keeper == nil {
		return nil, false, nil
	}
	if f.Last == 0 || f.Last > maxHistory {
		f.Last = maxHistory
	}
	list, err = r.keeper.read(ctx, &f)
	return list, true, err
}

// Lost is how many records were not written that should have been.
func (r *Recorder) Lost() uint64 {
	if r == nil || r.keeper == nil {
		return 0
	}
	return r.keeper.lost.Load()
}

// offer hands a record over without waiting.
func (k *keeper) offer(r *Record) {
	if r.Level() == Debug {
		return
	}
	select {
	case k.c <- *r:
	default:
		k.lost.Add(1)
	}
}

func (k *keeper) run() {
	var batch []json.RawMessage
	size := 0
	write := func() {
		if len(batch) == 0 {
			return
		}
		text, err := json.Marshal(batch)
		if err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), appendLimit) // also while the process stops
			err = k.Journal.Append(ctx, text)
			cancel()
		}
		if err != nil {
			k.lost.Add(uint64(len(batch)))
			k.Log.Warn("records of the trace could not be written", "records", len(batch), "error", err)
		}
		batch, size = batch[:0], 0
	}
	add := func(r *Record) {
		text, err := json.Marshal(r)
		if err != nil {
			k.lost.Add(1)
			return
		}
		if size += len(text) + 1; size > maxBatch {
			write()
			size = len(text) + 1
		}
		batch = append(batch, text)
	}
	due := time.NewTimer(k.Interval)
	due.Stop()
	for {
		select {
		case r := <-k.c:
			if len(batch) == 0 {
				due.Reset(k.Interval)
			}
			add(&r)
		case <-due.C:
			write()
		case <-k.stop:
			for {
				select {
				case r := <-k.c:
					add(&r)
					continue
				default:
				}
				write()
				return
			}
		}
	}
}

// read collects the newest f.Last records that f lets through; without an instance, those of all.
func (k *keeper) read(ctx context.Context, f *Filter) ([]Record, error) {
	var list []Record
	var bad error
	err := k.Journal.Back(ctx, func(batch []byte) bool {
		var recs []Record
		if bad = json.Unmarshal(batch, &recs); bad != nil {
			return false
		}
		for _, r := range slices.Backward(recs) {
			if (f.Instance == "" || f.Instance == r.Instance) && f.match(&r) && (k.Belongs == nil || k.Belongs(r.Instance, r.Time)) {
				list = append(list, r)
			}
		}
		return len(list) < f.Last && (f.Since.IsZero() || len(recs) == 0 || !recs[0].Time.Before(f.Since))
	})
	if err = cmp.Or(err, bad); err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	slices.SortStableFunc(list, func(a, b Record) int { return cmp.Compare(a.ID, b.ID) })
	if len(list) > f.Last {
		list = list[len(list)-f.Last:]
	}
	return list, nil
}
