package metrics

import (
	"cmp"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"tabard/internal/hub"
	"tabard/internal/trace"
)

// maxHubs bounds the hubs of one instance that have series of their own; the rest are added up as one.
const maxHubs = 256

const otherHubs = "(other)"

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("tabard_"+name, help, labels, nil)
}

var (
	buildInfo = desc("build_info", "Always 1; the label has the version.", "version")

	connections = desc("connections", "Client connections at the moment.", "instance", "hub")
	queued      = desc("queued_frames", "Frames that wait in the queues of client connections.", "instance", "hub")
	queuedBytes = desc("queued_bytes", "Bytes that wait in the queues of client connections.", "instance", "hub")
	deepest     = desc("deepest_queue_frames", "Frames in the longest queue of a client connection.", "instance", "hub")
	pending     = desc("notifications_pending", "Notifications to event handlers that wait or are under way.")

	opened   = desc("connections_opened_total", "Client connections that were let in.", "instance", "hub")
	closed   = desc("connections_closed_total", "Client connections that ended, by Azure's ConnectionCloseCategory.", "instance", "hub", "category")
	refused  = desc("connections_refused_total", "Client handshakes that were refused, by reason.", "instance", "code")
	messages = desc("messages_total", "Publications, by REST or by clients.", "instance", "hub", "operation")
	inBytes  = desc("message_bytes_total", "Bytes of the payloads of publications.", "instance", "hub", "operation")
	received = desc("message_deliveries_total", "Deliveries of publications to the queue of a connection.", "instance", "hub", "operation")

	events      = desc("event_duration_seconds", "How long an event took from the match of its rule to the end of the answer, repetitions included.", "instance", "hub", "rule", "code", "status")
	validations = desc("validation_duration_seconds", "How long an endpoint validation took.", "instance", "hub", "rule", "code", "status")
	requests    = desc("rest_request_duration_seconds", "How long a REST request took.", "instance", "operation", "status")
	denied      = desc("rest_requests_refused_total", "REST requests that were refused, by reason.", "instance", "code")

	refusals = desc("client_refusals_total", "What was refused to clients, by reason: handshakes, and what connected clients asked for beyond a limit.", "code")

	traceBytes = desc("trace_bytes", "Bytes that the trace uses, about.", "part")
)

// A collector reads the sources when it is scraped.
type collector struct{ Sources }

// Describe says nothing: which series there are depends on what happened.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the sources.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, valid(labels)...)
	}
	gauge(buildInfo, 1, cmp.Or(c.Version, "unknown"))
	if c.Hubs != nil {
		for _, n := range summed(c.Hubs.Counts()) {
			gauge(connections, float64(n.Connections), n.Instance, n.Hub)
			gauge(queued, float64(n.QueuedFrames), n.Instance, n.Hub)
			gauge(queuedBytes, float64(n.QueuedBytes), n.Instance, n.Hub)
			gauge(deepest, float64(n.Deepest), n.Instance, n.Hub)
		}
	}
	if c.Pending != nil {
		gauge(pending, float64(c.Pending()))
	}
	c.collectVaults(out, gauge)
	if c.Refusals != nil {
		for code, n := range c.Refusals() {
			out <- prometheus.MustNewConstMetric(refusals, prometheus.CounterValue, float64(n), cmp.Or(string(code), "other"))
		}
	}
	if c.Trace != nil {
		records, contents := c.Trace.Usage()
		gauge(traceBytes, float64(records), "records")
		gauge(traceBytes, float64(contents), "contents")
		c.collectTallies(out)
	}
}

// summed leaves the busiest hubs of each instance as they are and adds the others up.
func summed(counts []hub.Count) []hub.Count {
	slices.SortFunc(counts, func(a, b hub.Count) int {
		return cmp.Or(cmp.Compare(a.Instance, b.Instance), cmp.Compare(b.Connections, a.Connections), cmp.Compare(a.Hub, b.Hub))
	})
	var list []hub.Count
	seen := 0
	for _, n := range counts {
		if len(list) == 0 || list[len(list)-1].Instance != n.Instance {
			seen = 0
		}
		switch seen++; {
		case seen <= maxHubs:
			list = append(list, n)
		case seen == maxHubs+1:
			n.Hub = otherHubs
			list = append(list, n)
		default:
			sum := &list[len(list)-1]
			sum.Connections += n.Connections
			sum.QueuedFrames += n.QueuedFrames
			sum.QueuedBytes += n.QueuedBytes
			sum.Deepest = max(sum.Deepest, n.Deepest)
		}
	}
	return list
}

// A series is one line of a metric: its description and labels.
type series struct {
	desc   *prometheus.Desc
	labels string // joined by a sign that no label has
}

// A total is what a series adds up to.
type total struct {
	count     float64 // of a counter
	histogram trace.Tally
}

// collectTallies adds the trace's counts up to the series: several subjects may share one, for hubs are compared
// ignoring case.
func (c *collector) collectTallies(out chan<- prometheus.Metric) {
	totals := map[series]*total{}
	at := func(d *prometheus.Desc, labels ...string) *total {
		k := series{d, strings.Join(valid(labels), "\x00")}
		if totals[k] == nil {
			totals[k] = &total{}
		}
		return totals[k]
	}
	hubs := map[string]map[string]bool{} // of each instance
	name := func(instance, hub string) string {
		hub = strings.ToLower(hub)
		if hubs[instance] == nil {
			hubs[instance] = map[string]bool{}
		}
		if known := hubs[instance]; !known[hub] && len(known) >= maxHubs {
			return otherHubs
		}
		hubs[instance][hub] = true
		return hub
	}
	for _, t := range c.Trace.Tallies() {
		n := float64(t.Count)
		switch {
		case t.Kind == trace.Connection && t.Operation == trace.ConnectionStarted:
			at(opened, t.Instance, name(t.Instance, t.Hub)).count += n
		case t.Kind == trace.Connection && t.Close != "":
			at(closed, t.Instance, name(t.Instance, t.Hub), t.Close).count += n
		case t.Kind == trace.Connection:
			at(refused, t.Instance, cmp.Or(string(t.Code), "bad_handshake")).count += n
		case t.Kind == trace.Message:
			hub := name(t.Instance, t.Hub)
			at(messages, t.Instance, hub, t.Operation).count += n
			at(inBytes, t.Instance, hub, t.Operation).count += float64(t.Bytes)
			at(received, t.Instance, hub, t.Operation).count += float64(t.Receivers)
		case t.Kind == trace.Delivery:
			at(events, t.Instance, name(t.Instance, t.Hub), t.Rule, string(t.Code), statusText(t.Status)).add(&t)
		case t.Kind == trace.Validation:
			at(validations, t.Instance, name(t.Instance, t.Hub), t.Rule, string(t.Code), statusText(t.Status)).add(&t)
		case t.Kind == trace.Request:
			at(requests, t.Instance, t.Operation, statusText(t.Status)).add(&t)
			if t.Code != "" {
				at(denied, t.Instance, string(t.Code)).count += n
			}
		}
	}
	for k, v := range totals {
		labels := strings.Split(k.labels, "\x00")
		switch k.desc {
		case events, validations, requests:
			out <- v.metric(k.desc, labels)
		default:
			out <- prometheus.MustNewConstMetric(k.desc, prometheus.CounterValue, v.count, labels...)
		}
	}
}

func (v *total) add(t *trace.Tally) {
	h := &v.histogram
	h.Count += t.Count
	h.Sum += t.Sum
	for i, n := range t.Buckets {
		h.Buckets[i] += n
	}
}

func (v *total) metric(d *prometheus.Desc, labels []string) prometheus.Metric {
	buckets := make(map[float64]uint64, len(trace.Bounds))
	sum := uint64(0)
	for i, bound := range trace.Bounds {
		sum += v.histogram.Buckets[i]
		buckets[bound.Seconds()] = sum
	}
	return prometheus.MustNewConstHistogram(d, v.histogram.Count, v.histogram.Sum.Seconds(), buckets, labels...)
}

// valid makes labels fit for a series: text without the sign that joins them.
func valid(labels []string) []string {
	for i, l := range labels {
		labels[i] = strings.ReplaceAll(strings.ToValidUTF8(l, "?"), "\x00", "?")
	}
	return labels
}
