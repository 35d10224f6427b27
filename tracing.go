package tabard

import (
	"context"
	"fmt"
	"time"

	"tabard/internal/eventhandler"
	"tabard/internal/store"
	"tabard/internal/telemetry"
	"tabard/internal/trace"
)

// openTrace makes the recorder, with what an earlier process wrote if records are durable.
func (s *Server) openTrace(ctx context.Context) error {
	s.trace = trace.New(trace.Options{Records: s.cfg.TraceRecords, Bytes: s.cfg.TraceMemory << 20, ContentBytes: s.cfg.TraceContents << 20}) // -1 stays negative
	if !s.cfg.TraceDurable {
		return nil
	}
	j, err := store.OpenJournal(ctx, s.store, "trace", store.JournalOptions{
		MaxAge: s.cfg.TraceDurableAge, MaxEntries: 1 << 40, MaxBytes: int64(s.cfg.TraceDurableSize) << 20,
	})
	if err == nil {
		err = s.trace.Restore(ctx, trace.Durable{Journal: traceJournal{j}, Belongs: s.belongs, Log: s.log})
	}
	if err != nil {
		return fmt.Errorf("open the trace's journal: %w", err)
	}
	return nil
}

// belongs tells whether a record is of an instance that exists, and not of one that had the name before.
func (s *Server) belongs(instance string, at time.Time) bool {
	in, ok := s.settings.Snapshot().Instance(instance)
	return ok && !at.Before(in.Created)
}

// traceJournal is a journal of the store as the trace sees it.
type traceJournal struct{ *store.Journal }

// Append implements trace.Journal.
func (j traceJournal) Append(ctx context.Context, batch []byte) error {
	_, err := j.Journal.Append(ctx, batch)
	return err
}

// Back implements trace.Journal.
func (j traceJournal) Back(ctx context.Context, visit func([]byte) bool) error {
	return j.Journal.Back(ctx, 0, func(e store.Entry) bool { return visit(e.Data) })
}

// openTelemetry makes spans if a collector is named; nil otherwise.
func (s *Server) openTelemetry(ctx context.Context) (*telemetry.Telemetry, error) {
	if !telemetry.Enabled(s.cfg.OTLPEndpoint) {
		return nil, nil
	}
	return telemetry.New(ctx, s.cfg.OTLPEndpoint, s.log)
}

// tracer is the telemetry, or nothing at all.
func (s *Server) tracer() eventhandler.Tracer {
	if s.telemetry == nil {
		return nil
	}
	return s.telemetry
}
