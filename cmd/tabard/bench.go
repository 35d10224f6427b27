package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"tabard/internal/bench"
	"tabard/internal/wire"
)

type benchCmd struct {
	endpointFlags
	jsonFlag
	Scenario string        `arg:"" enum:"fanout,groups,idle,rest,echo,event" help:"fanout, groups, idle, rest, echo or event."`
	Hub      string        `help:"Hub to load." default:"bench" placeholder:"HUB"`
	PID      int           `name:"pid" help:"Process of the server on this machine: adds its CPU and memory to the result." placeholder:"PID"`
	Clients  int           `help:"Connections; 1000, or 64 for echo and event." placeholder:"N"`
	GroupOf  int           `name:"group-size" help:"Members of a group in the groups scenario; 10." placeholder:"N"`
	Stalled  int           `help:"Further members of the fan-out's group that never read: what they cost the others." placeholder:"N"`
	Payload  int           `help:"Bytes of a message." default:"128" placeholder:"BYTES"`
	InFlight int           `help:"Publications (or requests) under way at once." default:"1" placeholder:"N"`
	Rate     float64       `help:"Publications per second whatever comes back, latency counted from when each was due; 0 publishes as --in-flight allows." placeholder:"N"`
	Duration time.Duration `help:"Length of the measured part." default:"5s"`
	Warmup   time.Duration `help:"Time before it." default:"1s"`
	Floor    bool          `help:"Put the same load on a bare epoll loop too and say how many times as much this server costs; Linux, for fanout, groups, idle and echo."`
}

// floorCmd is the server of --floor, a process of its own so that its CPU can be told.
type floorCmd struct{}

func (floorCmd) Run(s *stdio) error {
	stop, ok := s.in.(*os.File)
	if !ok {
		return errors.New("standard input is not a file")
	}
	return bench.Floor(stop, func(addr string) { fmt.Fprintln(s.out, addr) })
}

// Validate refuses what the bare loop cannot answer.
func (c *benchCmd) Validate() error {
	if c.Floor && (c.Scenario == "rest" || c.Scenario == "event") {
		return fmt.Errorf("--floor does not go with %s", c.Scenario)
	}
	return nil
}

func (benchCmd) Help() string {
	var b strings.Builder
	b.WriteString("Loads a Web PubSub endpoint, any one, with json.webpubsub.azure.v1 clients and access-key tokens. Every message carries its number and when it was due: the result counts what was lost, repeated or out of order, and anything but zero ends with 1. Quote CPU per delivery and ratios, which drift less than times.\n\nScenarios:\n\n")
	for _, s := range bench.Scenarios {
		fmt.Fprintf(&b, "    %-7s %s\n", s.Name, s.About)
	}
	b.WriteString(`
Example:

    tabard bench fanout --pid 4711
    tabard bench fanout --in-flight 64
    tabard bench fanout --rate 50
    tabard bench echo --pid 4711 --floor
    tabard bench idle --clients 9000
    tabard bench event --connection-string 'Endpoint=http://127.0.0.1:8080;AccessKey=KEY;Version=1.0;'

For event, this command is the handler: it sets the hub's settings through the admin address, or with --connection-string expects them to name its address already.

Words: hub, group and connection are Azure Web PubSub's; single and saturated fan-out are --in-flight 1 and 64.`)
	return b.String()
}

func (c *benchCmd) Run(ctx context.Context, s *stdio) error {
	e, err := c.endpoint(ctx, s)
	if err != nil {
		return err
	}
	if c.Scenario == "event" {
		stop, err := c.handle(ctx, s)
		if err != nil {
			return err
		}
		defer stop()
	}
	r, err := bench.Run(ctx, c.Scenario, bench.Target{Endpoint: e.wire(c.Hub), PID: c.PID}, c.options())
	if err != nil {
		return err
	}
	var floor *bench.Result
	if c.Floor {
		if floor, err = c.floor(ctx, s); err != nil {
			return fmt.Errorf("floor: %w", err)
		}
	}
	machine := fmt.Sprintf("%s/%s, %d CPUs, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), ownBuild())
	err = s.print(c.JSON, struct {
		*bench.Result
		Floor   *bench.Result `json:"floor,omitempty"`
		Machine string        `json:"machine"`
	}{r, floor, machine}, func(w io.Writer) {
		printBench(w, r, machine)
		if floor != nil {
			printFloor(w, r, floor)
		}
	})
	if err == nil && !r.Faultless() {
		err = fail(exitFailure, "", "%d lost, %d repeated, %d out of order, %d errors", r.Lost, r.Repeated, r.Misordered, r.Errors)
	}
	return err
}

func (c *benchCmd) options() bench.Options {
	return bench.Options{Clients: c.Clients, Group: c.GroupOf, Stalled: c.Stalled, Payload: c.Payload, InFlight: c.InFlight, Rate: c.Rate, Duration: c.Duration, Warmup: c.Warmup}
}

// floor runs the same load against a bare loop in a process of its own.
func (c *benchCmd) floor(ctx context.Context, s *stdio) (*bench.Result, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	child := exec.CommandContext(ctx, self, "floor")
	child.Stderr = s.err
	stop, err := child.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := child.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := child.Start(); err != nil {
		return nil, err
	}
	defer child.Wait() // it has nothing more to say
	defer stop.Close()
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, err
	}
	target := bench.Target{Endpoint: wire.Endpoint{Origin: "http://" + strings.TrimSpace(addr), Key: "any", Hub: c.Hub}, PID: child.Process.Pid}
	return bench.Run(ctx, c.Scenario, target, c.options())
}

// printFloor says what a bare loop costs, and how many times as much the server does.
func printFloor(w io.Writer, r, floor *bench.Result) {
	times := func(name, unit string, server, bare float64) {
		if bare <= 0 {
			return
		}
		text := fmt.Sprintf("%.2f %s", bare, unit)
		if server > 0 {
			text += fmt.Sprintf(", of which the server costs %.2f times as much", server/bare)
		}
		row(w, name, text)
	}
	times("bare loop", "µs per delivery", r.ServerCPU, floor.ServerCPU)
	times("bare loop", "µs per connect", r.ConnectCPU, floor.ConnectCPU)
	times("bare loop", "bytes per client", float64(r.RSSPerClient), float64(floor.RSSPerClient))
}

func printBench(w io.Writer, r *bench.Result, machine string) {
	o := r.Options
	row(w, "scenario", fmt.Sprintf("%s, %d clients, %d bytes, %d in flight", r.Scenario, o.Clients, o.Payload, o.InFlight))
	row(w, "machine", machine)
	row(w, "operations", fmt.Sprintf("%d, %.0f per second", r.Operations, r.OperationsPerS))
	if r.Deliveries > 0 {
		row(w, "deliveries", fmt.Sprintf("%d, %.0f per second", r.Deliveries, r.DeliveriesPerS))
		row(w, "latency", fmt.Sprintf("p50 %.0f µs, p90 %.0f µs, p99 %.0f µs, max %.0f µs", r.Latency.P50, r.Latency.P90, r.Latency.P99, r.Latency.Max))
	}
	row(w, "faults", fmt.Sprintf("%d lost, %d repeated, %d out of order, %d errors", r.Lost, r.Repeated, r.Misordered, r.Errors))
	if r.ServerCPU > 0 {
		row(w, "server CPU", fmt.Sprintf("%.2f µs per delivery", r.ServerCPU))
	}
	if r.ConnectCPU > 0 {
		row(w, "server CPU", fmt.Sprintf("%.0f µs per connect, verify and join", r.ConnectCPU))
	}
	if r.RSSPerClient != 0 {
		row(w, "server memory", fmt.Sprintf("%d bytes per client, if it was just started", r.RSSPerClient))
	}
}

// handle serves the event scenario's handler on loopback and makes the hub use it.
func (c *benchCmd) handle(ctx context.Context, s *stdio) (stop func(), err error) {
	h, err := startServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WebHook-Allowed-Origin", "*")
		if r.Method == http.MethodPost {
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.Copy(w, io.LimitReader(r.Body, maxMessage)) // a service that hung up gets no answer
		}
	}))
	if err != nil {
		return nil, err
	}
	if c.foreign() {
		s.note("the hub %s must send its event bench to %s", c.Hub, h.URL)
		return h.Close, nil
	}
	a, path, err := c.connect(ctx, s)
	if err == nil {
		body := map[string]any{"properties": map[string]any{"eventHandlers": []any{map[string]any{"urlTemplate": h.URL, "userEventPattern": "bench"}}}}
		_, err = a.call(ctx, http.MethodPut, hubPath(path, c.Hub), apiVersion(armVersion), body, nil)
	}
	if err != nil {
		h.Close()
		return nil, err
	}
	return h.Close, nil
}
