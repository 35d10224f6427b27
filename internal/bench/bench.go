// Package bench loads a Web PubSub endpoint, any one, and says what it cost.
//
// An operator wants to know what a machine carries, a maintainer whether a change made it slower, a doubter how this
// service compares. So the same scenarios run against any endpoint with an access key, every message carries its
// number and the moment it was due, and a result counts what was lost, repeated or out of order along with latency
// percentiles. Given the server's process id it reports the server's CPU and memory too, which drift less than times
// on a shared machine.
//
// What it leaves to others: flags and printing (the command line), and the servers that one compares with.
package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tabard/internal/wire"
)

// A Target is the endpoint under load.
type Target struct {
	wire.Endpoint     // the hub's settings matter to the event scenario only
	PID           int // the server's process on this machine; 0 reports no CPU or memory
}

// Options shape a load. The zero value of each field stands for its default.
type Options struct {
	Clients  int           // connections; default 1000, for echo and event 64
	Group    int           // members of a group in the groups scenario; default 10
	Stalled  int           // further members of the fan-out's group that never read
	Payload  int           // bytes of a message; default 128, at least 32
	InFlight int           // publications that are not yet received by everybody; default 1
	Rate     float64       // publications per second in open loop; 0 publishes as InFlight allows
	Duration time.Duration // of the measured part; default 5 s
	Warmup   time.Duration // before it; default 1 s
	Settle   time.Duration // how long late messages are waited for; default 5 s
}

// Limits of a load: a generator that is out of breath measures itself.
const (
	MaxClients  = 100_000
	MaxInFlight = 4096
	minPayload  = 32
	maxPayload  = 512 << 10
	dialers     = 64 // connections that are being opened at once
)

func (o *Options) complete(clients int) error {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	last := func(p *time.Duration, v time.Duration) {
		if *p == 0 {
			*p = v
		}
	}
	def(&o.Clients, clients)
	def(&o.Group, min(10, o.Clients))
	def(&o.Payload, 128)
	def(&o.InFlight, 1)
	last(&o.Duration, 5*time.Second)
	last(&o.Warmup, time.Second)
	last(&o.Settle, 5*time.Second)
	var faults []error
	check := func(name string, v, low, high int) {
		if v < low || v > high {
			faults = append(faults, fmt.Errorf("%s: %d is not between %d and %d", name, v, low, high))
		}
	}
	check("clients", o.Clients, 1, MaxClients)
	check("group", o.Group, 1, o.Clients)
	check("stalled", o.Stalled, 0, MaxClients)
	check("payload", o.Payload, minPayload, maxPayload)
	check("in-flight", o.InFlight, 1, MaxInFlight)
	if o.Rate < 0 || o.Duration < 0 || o.Warmup < 0 || o.Settle < 0 {
		faults = append(faults, errors.New("rate, duration, warmup and settle cannot be negative"))
	}
	return errors.Join(faults...)
}

// A Result is what a load cost. Absent figures are zero.
type Result struct {
	Scenario string  `json:"scenario"`
	Options  Options `json:"options"`
	Seconds  float64 `json:"seconds"` // of the measured part

	Operations uint64 `json:"operations"` // publications, echoes, events, requests or connections
	Deliveries uint64 `json:"deliveries"` // messages that arrived
	Lost       uint64 `json:"lost"`
	Repeated   uint64 `json:"repeated"`
	Misordered uint64 `json:"misordered"`
	Errors     uint64 `json:"errors"`

	Latency Percentiles `json:"latency"` // from the moment a message was due

	ServerCPU       float64 `json:"serverCpuMicrosPerDelivery,omitempty"` // per operation where nothing is delivered
	ServerRSS       int64   `json:"serverRssBytes,omitempty"`             // at the end
	RSSPerClient    int64   `json:"serverRssBytesPerClient,omitempty"`    // idle scenario; true of a server that was just started
	ConnectCPU      float64 `json:"serverCpuMicrosPerConnect,omitempty"`
	OperationsPerS  float64 `json:"operationsPerSecond"`
	DeliveriesPerS  float64 `json:"deliveriesPerSecond"`
	GeneratorCPUSec float64 `json:"generatorCpuSeconds"`
}

// Percentiles in microseconds.
type Percentiles struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// Faultless tells whether every message arrived once and in order.
func (r *Result) Faultless() bool { return r.Lost+r.Repeated+r.Misordered+r.Errors == 0 }

// A Scenario is one kind of load.
type Scenario struct {
	Name, About string
	run         func(context.Context, *load) error
	clients     int
}

// Scenarios in the order in which people look at them.
var Scenarios = []Scenario{
	{"fanout", "one group of all clients, one publisher over WebSocket", fanout, 1000},
	{"groups", "many small groups, a publication to each in turn", groups, 1000},
	{"idle", "clients that connect, join a group and stay silent", idle, 1000},
	{"rest", "publications over REST to a group of one member", rest, 1},
	{"echo", "clients that publish to a group of their own and receive it", echo, 64},
	{"event", "clients that send an event and await the handler's answer", event, 64},
}

// Run puts a load on the target. The error says why there is no result.
func Run(ctx context.Context, scenario string, t Target, o Options) (*Result, error) {
	for i := range Scenarios {
		s := &Scenarios[i]
		if s.Name != scenario {
			continue
		}
		if err := o.complete(s.clients); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		l := &load{target: t, opt: o, result: &Result{Scenario: scenario, Options: o}, process: process(t.PID)}
		defer l.close()
		if err := s.run(ctx, l); err != nil {
			return nil, err
		}
		return l.result, ctx.Err()
	}
	return nil, fmt.Errorf("there is no scenario %q", scenario)
}
