// Package audit keeps the record of who changed what.
//
// Whoever operates the service wants to know afterwards who did what, when, from where and with what result, and
// wants to rely on it: a record is on disk before the caller gets the answer, nobody can change or remove one, and
// none holds a secret. [Log.Handler] stands in front of everything that changes something, so that a new route is
// recorded without doing anything for it; what it knows of a change by itself it reads from request and answer, and
// what only the route knows (what was there before) the route adds to the [Entry] in the request's context.
//
// Records are kept in two journals of the store, bounded by age, number and size, the oldest making room. Requests of
// those who were not let in have one of their own and are limited in number per minute: however many there are, they
// displace no record of a change.
//
// What the records look like to a caller is the business of package arm.
package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"tabard/internal/store"
)

// A Record is one request that changed something, or was refused or failed when it wanted to.
type Record struct {
	ID            string          `json:"id"`
	Time          time.Time       `json:"time"`
	Caller        Caller          `json:"caller"`
	Address       string          `json:"address,omitempty"`   // of the caller, without port
	Method        string          `json:"method"`              // of HTTP
	Path          string          `json:"path"`                // without the query
	Operation     string          `json:"operation,omitempty"` // "Microsoft.SignalRService/WebPubSub/write"
	Resource      string          `json:"resource,omitempty"`  // id of what was changed
	Status        int             `json:"status"`              // of HTTP
	Code          string          `json:"code,omitempty"`      // of the error
	CorrelationID string          `json:"correlationId,omitempty"`
	RequestID     string          `json:"requestId,omitempty"`
	ClientID      string          `json:"clientRequestId,omitempty"` // as the caller named the request
	Before        json.RawMessage `json:"before,omitempty"`          // the resource, secrets elided; absent: there was none, or it is not known
	After         json.RawMessage `json:"after,omitempty"`
	// Unlisted is set in the one record that stands for that many refused requests of a minute beyond those that were
	// recorded one by one. It has no other details.
	Unlisted int `json:"unlisted,omitempty"`
}

// A Caller is who made a request, as far as it was proved.
type Caller struct {
	Admin    bool   `json:"admin,omitempty"` // the holder of the admin token
	TenantID string `json:"tenantId,omitempty"`
	ObjectID string `json:"objectId,omitempty"`
	AppID    string `json:"appId,omitempty"`
}

// Known tells whether anything was proved.
func (c Caller) Known() bool { return c.Admin || c.ObjectID != "" }

// Options of [Open]. The zero value has all defaults.
type Options struct {
	MaxAge     time.Duration // of a record; default 90 days, as in Azure
	MaxRecords int64         // of changes; default 100,000
	Log        *slog.Logger  // receives what cannot be recorded. Default: discarded.
	Now        func() time.Time
}

// Limits that have no option.
const (
	DefaultMaxAge     = 90 * 24 * time.Hour
	DefaultMaxRecords = 100_000

	maxBytes        = 256 << 20        // of all records of changes
	maxRefused      = 10_000           // records of refused requests
	maxRefusedBytes = 32 << 20         // of all of them
	refusedPerTick  = 60               // recorded one by one
	tick            = time.Minute      // after which counting begins anew
	maxState        = 96 << 10         // of what was there before, and after
	maxText         = 2 << 10          // of a path or name
	appendTimeout   = 15 * time.Second // for the store
)

// A Log records and finds. It is safe for concurrent use.
type Log struct {
	opt     Options
	changes *store.Journal
	refused *store.Journal

	mu       sync.Mutex // guards all below
	since    time.Time  // begin of the minute
	recorded int        // refused requests in it, one by one
	unlisted int        // and beyond
}

// Open opens the records that the store keeps.
func Open(ctx context.Context, st *store.Store, opt Options) (*Log, error) {
	if opt.MaxAge == 0 {
		opt.MaxAge = DefaultMaxAge
	}
	if opt.MaxRecords == 0 {
		opt.MaxRecords = DefaultMaxRecords
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	l := &Log{opt: opt}
	var err error
	if l.changes, err = store.OpenJournal(ctx, st, "audit", store.JournalOptions{MaxAge: opt.MaxAge, MaxEntries: opt.MaxRecords, MaxBytes: maxBytes}); err != nil {
		return nil, err
	}
	l.refused, err = store.OpenJournal(ctx, st, "audit-refused", store.JournalOptions{MaxAge: opt.MaxAge, MaxEntries: maxRefused, MaxBytes: maxRefusedBytes})
	return l, err
}

// Close records how many refused requests were not recorded one by one. It comes before the store's Close.
func (l *Log) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), appendTimeout)
	defer cancel()
	l.mu.Lock()
	n := l.unlisted
	l.unlisted = 0
	l.mu.Unlock()
	return l.sum(ctx, n)
}

// add records. Requests of callers who are not known, or may not, go where they displace nothing.
func (l *Log) add(ctx context.Context, r *Record) error {
	r.ID, r.Time = uuid.NewString(), l.opt.Now().UTC()
	r.bound()
	if r.Caller.Known() && r.Status != 401 && r.Status != 403 {
		return write(ctx, l.changes, r)
	}
	r.Before, r.After = nil, nil // it changed nothing, and is not entitled to the space
	alone, before := l.admit(r.Time)
	err := l.sum(ctx, before)
	if alone {
		err = errors.Join(err, write(ctx, l.refused, r))
	}
	return err
}

// admit tells whether a refused request is recorded by itself, and how many of the minute before were not.
func (l *Log) admit(now time.Time) (alone bool, before int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if since := now.Sub(l.since); since >= tick || since < 0 {
		before = l.unlisted
		l.since, l.recorded, l.unlisted = now, 0, 0
	}
	if l.recorded < refusedPerTick {
		l.recorded++
		return true, before
	}
	l.unlisted++
	return false, before
}

// sum records that n requests were refused of which there is no record.
func (l *Log) sum(ctx context.Context, n int) error {
	if n == 0 {
		return nil
	}
	return write(ctx, l.refused, &Record{ID: uuid.NewString(), Time: l.opt.Now().UTC(), Unlisted: n})
}

func write(ctx context.Context, j *store.Journal, r *Record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	_, err = j.Append(ctx, data)
	return err
}

// bound cuts what callers can make long.
func (r *Record) bound() {
	for _, text := range []*string{&r.Path, &r.Operation, &r.Resource, &r.Code, &r.CorrelationID, &r.RequestID, &r.ClientID, &r.Method, &r.Address} {
		if len(*text) > maxText {
			*text = (*text)[:maxText]
		}
	}
	for _, state := range []*json.RawMessage{&r.Before, &r.After} {
		if len(*state) > maxState {
			*state, _ = json.Marshal(map[string]any{"omitted": fmt.Sprintf("%d bytes, more than %d", len(*state), maxState)})
		}
	}
}
