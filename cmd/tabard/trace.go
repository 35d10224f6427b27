package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tabard/guard/reason"
)

type traceTailCmd struct {
	instanceFlags
	Hub        string `help:"Only this hub." placeholder:"HUB"`
	Connection string `help:"Only this connection." placeholder:"ID"`
	User       string `help:"Only this user." placeholder:"USER"`
	Event      string `help:"Only this event." placeholder:"EVENT"`
	Kind       string `help:"Only this kind: delivery, validation, connection, message, request or identity." placeholder:"KIND"`
	Code       string `help:"Only this reason code." placeholder:"CODE"`
	Category   string `help:"Only this resource log: ConnectivityLogs, MessagingLogs or HttpRequestLogs." placeholder:"LOG"`
	Level      string `help:"This level and worse: Debug, Informational, Warning or Error." default:"Informational" placeholder:"LEVEL"`
	Since      string `help:"Only what happened since then: a time such as 2026-01-02T15:04:05Z, or a duration such as 10m." placeholder:"WHEN"`
	Last       int    `help:"Begin with the newest so many records that are kept." default:"10" placeholder:"N"`
	History    bool   `help:"What was written durably (--trace-durable), instead of what is in memory; does not follow."`
	Follow     bool   `help:"Go on with what happens." default:"true" negatable:""`
	Count      int    `help:"End after so many records." placeholder:"N"`
	JSON       bool   `name:"json" help:"Print each record as one JSON object on a line."`
}

func (traceTailCmd) Help() string {
	return `One line for each client that comes, goes or is refused, each event that went to a handler and each REST request; with --level Debug also for each message. What did not work is followed by its reason and what to do about it. Tokens, keys and resolved URLs are never in it; a token's claims are, with --json.

Example:

    tabard trace tail --hub chat
    tabard trace tail --level Warning --since 1h --no-follow
    tabard trace tail --code wrong_audience --no-follow --json

Words: reason codes are Tabard's, the same in the trace, in the guard's answers and in tabard token verify; event, connection, user, the names of logs, levels and operations are Azure's.`
}

func (c *traceTailCmd) query() url.Values {
	q := apiVersion(armVersion)
	for name, value := range map[string]string{"hub": c.Hub, "connectionId": c.Connection, "userId": c.User, "event": c.Event, "kind": c.Kind, "code": c.Code, "category": c.Category, "level": c.Level, "since": c.Since} {
		if value != "" {
			q.Set(name, value)
		}
	}
	q.Set("last", strconv.Itoa(c.Last))
	if c.History {
		q.Set("history", "true")
	}
	return q
}

func (c *traceTailCmd) Run(ctx context.Context, s *stdio) error {
	a, path, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	if !c.Follow || c.History {
		kept, err := a.list(ctx, path+"/trace", c.query())
		if err != nil {
			return err
		}
		if c.Count > 0 && len(kept) > c.Count {
			kept = kept[:c.Count]
		}
		for _, raw := range kept {
			if err := c.show(s, raw); err != nil {
				return err
			}
		}
		return nil
	}
	resp, err := a.do(ctx, http.MethodGet, path+"/trace", c.query(), nil, "text/event-stream")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n := 0
	err = readEvents(resp.Body, func(e serverEvent) (bool, error) {
		if e.name == "lost" { // we were too slow for some
			s.note("some records were lost: %s", e.data)
			return true, nil
		}
		n++
		return n != c.Count, c.show(s, e.data)
	})
	switch {
	case ctx.Err() != nil || n == c.Count && c.Count > 0:
		return nil
	case err != nil:
		return err
	}
	return fail(exitUnreachable, "", "the service ended the trace")
}

// maxEvent bounds one event of the stream in bytes.
const maxEvent = 1 << 20

// A serverEvent is one server-sent event. Its data is valid until the next one is read.
type serverEvent struct {
	name string
	data []byte
}

// readEvents reads a stream of server-sent events and hands each to fn until that returns false. Comments keep the
// connection alive and are not shown; an event that the end of the stream cut short is none.
func readEvents(r io.Reader, fn func(serverEvent) (bool, error)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxEvent)
	var e serverEvent
	for lines.Scan() {
		line := lines.Text()
		if line == "" { // the end of an event
			if len(e.data) > 0 {
				if more, err := fn(e); !more || err != nil {
					return err
				}
			}
			e = serverEvent{data: e.data[:0]}
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			e.name = value
		case "data":
			if len(e.data) > 0 {
				e.data = append(e.data, '\n')
			}
			if e.data = append(e.data, value...); len(e.data) > maxEvent {
				return fmt.Errorf("an event of the stream has more than %d bytes", maxEvent)
			}
		}
	}
	return lines.Err()
}

// record is what is shown of a trace record.
type record struct {
	Time       time.Time     `json:"time"`
	Duration   time.Duration `json:"durationNs"`
	ID         uint64        `json:"id"`
	Kind       string        `json:"kind"`
	Operation  string        `json:"operationName"`
	Method     string        `json:"httpMethod"`
	URL        string        `json:"url"`
	Group      string        `json:"group"`
	Caller     string        `json:"callerIpAddress"`
	Bytes      int           `json:"bytes"`
	Receivers  int           `json:"receivers"`
	Hub        string        `json:"hub"`
	Connection string        `json:"connectionId"`
	User       string        `json:"userId"`
	Event      string        `json:"event"`
	Template   string        `json:"urlTemplate"`
	Audience   string        `json:"audience"`
	Status     int           `json:"status"`
	Attempts   int           `json:"attempts"`
	Code       reason.Code   `json:"code"`
	Detail     string        `json:"detail"`
	Stages     []stageRecord `json:"stages"`
}

type stageRecord struct {
	Name    string `json:"name"`
	Outcome string `json:"outcome"`
	Detail  string `json:"detail"`
}

func (c *traceTailCmd) show(s *stdio, raw []byte) error {
	if c.JSON {
		var line bytes.Buffer
		if err := json.Compact(&line, raw); err != nil { // whatever lines it came on
			return err
		}
		line.WriteByte('\n')
		_, err := line.WriteTo(s.out)
		return err
	}
	var r record
	if err := json.Unmarshal(raw, &r); err != nil {
		return fmt.Errorf("the trace has something that is no record: %w", err)
	}
	_, err := io.WriteString(s.out, r.String())
	return err
}

// String is the record for people: a line, and for what went wrong its reason and remedy below.
func (r *record) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s", r.Time.Local().Format("15:04:05.000"), r.Kind, r.what())
	add := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, " %s=%s", name, printable(value))
		}
	}
	add("hub", r.Hub)
	add("event", r.Event)
	add("group", r.Group)
	add("user", r.User)
	add("connection", r.Connection)
	if r.Status != 0 {
		add("status", strconv.Itoa(r.Status))
	}
	if r.Attempts > 1 {
		add("attempts", strconv.Itoa(r.Attempts))
	}
	add("audience", r.Audience)
	add("from", r.Caller)
	if r.Kind == "message" {
		add("bytes", strconv.Itoa(r.Bytes))
		add("receivers", strconv.Itoa(r.Receivers))
	}
	if r.Duration > 0 {
		add("took", r.Duration.Round(10*time.Microsecond).String())
	}
	if r.ID != 0 && (r.fault() || r.Kind == "delivery") { // what show and replay take
		add("id", strconv.FormatUint(r.ID, 10))
	}
	b.WriteByte('\n')
	if !r.fault() {
		if r.Detail != "" {
			fmt.Fprintf(&b, "         %s\n", printable(r.Detail))
		}
		return b.String()
	}
	known, ok := reason.Lookup(r.Code) // a later version's code has no words here
	if ok {
		fmt.Fprintf(&b, "    what %s\n", known.Sentence)
	}
	if r.Detail != "" {
		fmt.Fprintf(&b, "         %s\n", printable(r.Detail))
	}
	for _, st := range r.Stages {
		if st.Outcome == "failed" {
			fmt.Fprintf(&b, "    at   %s\n", strings.TrimSuffix(st.Name+": "+printable(st.Detail), ": "))
		}
	}
	if ok {
		fmt.Fprintf(&b, "    fix  %s\n", known.Fix)
	}
	return b.String()
}

// what says in a word what happened: the reason code, or the operation where there is nothing to explain.
func (r *record) what() string {
	if r.Code != "" {
		return string(r.Code)
	}
	return r.Operation
}

// fault tells whether the record reports something that did not go as it should.
func (r *record) fault() bool { return r.Code != reason.Delivered && r.Code != "" }

// printable keeps foreign text from driving the terminal: a value with control characters is quoted.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 }) {
		return strconv.Quote(s)
	}
	return s
}
