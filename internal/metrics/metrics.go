// Package metrics shows what the service does as numbers, in the format that Prometheus scrapes.
//
// An operator's dashboards and alerts need to know how many clients are there, how fast handlers answer, who is refused
// and why, how long tokens take. Nearly all of it is counted where it happens and read when somebody asks: the trace
// counts its records by subject, the hubs know their connections. So the roads of messages and events carry no metric
// of their own. Labels have few values: instances, hubs, the rules of hubs, codes of the catalogue, fixed lists; never a
// user, a connection or a group.
//
// The names and what they mean are in docs/operating.md, with Azure's own names beside them. The package is the one
// owner of Prometheus' library. It leaves to others who may read.
package metrics

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"tabard/guard/reason"
	"tabard/internal/hub"
	"tabard/internal/keyvault"
	"tabard/internal/keyvault/reference"
	"tabard/internal/trace"
)

// Sources are what is read at each scrape; a nil one is left out.
type Sources struct {
	Trace *trace.Recorder
	Hubs  *hub.Registry
	// Pending is how many notifications to handlers wait or are under way.
	Pending func() int
	// VaultCalls are the calls of the embedded key vaults, VaultExtent what is in them.
	VaultCalls  func() []keyvault.Count
	VaultExtent func() (vaults, versions int)
	// Secrets is how it stands with the secrets that handlers' URLs refer to.
	Secrets func() reference.Stats
	// Refusals are what was refused to clients by reason, whose handshakes or whose requests.
	Refusals func() map[reason.Code]uint64
	// Version is what build_info says.
	Version string
}

// Metrics gathers numbers. It is safe for concurrent use.
type Metrics struct {
	handler http.Handler
	tokens  *prometheus.HistogramVec
	secrets *prometheus.HistogramVec
}

// maxScrapes bounds the scrapes under way at once; a further one is answered 503.
const maxScrapes = 4

// New makes Metrics on sources.
func New(s Sources) *Metrics {
	seconds := make([]float64, len(trace.Bounds))
	for i, b := range trace.Bounds {
		seconds[i] = b.Seconds()
	}
	m := &Metrics{
		tokens: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tabard_token_acquisition_duration_seconds", Help: "How long sources of managed-identity tokens took; cached tokens are not counted.", Buckets: seconds,
		}, []string{"source", "outcome"}),
		secrets: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tabard_vault_read_duration_seconds", Help: "How long key vaults took to give secrets that handlers' URLs refer to; held values are not counted.", Buckets: seconds,
		}, []string{"vault", "code"}),
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		m.tokens, m.secrets, &collector{s},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes})
	return m
}

// Handler serves the numbers. Who may read them is decided in front of it.
func (m *Metrics) Handler() http.Handler { return m.handler }

// Token counts one acquisition of a token. source is the kind of source, embedded or a setting's.
func (m *Metrics) Token(source string, err error, took time.Duration) {
	if source == "" {
		source = "embedded"
	}
	outcome := "ok"
	if err != nil {
		outcome = "failed"
	}
	m.tokens.WithLabelValues(source, outcome).Observe(took.Seconds())
}

// VaultRead counts one reading of a key vault; why is empty for one that succeeded.
func (m *Metrics) VaultRead(embedded bool, why reason.Code, took time.Duration) {
	vault, code := "external", "ok"
	if embedded {
		vault = "embedded"
	}
	if why != "" {
		code = string(why)
	}
	m.secrets.WithLabelValues(vault, code).Observe(took.Seconds())
}

// statusText is a status as a label: a whole one, or a class such as "2xx".
func statusText(status int) string {
	switch {
	case status == 0:
		return "none"
	case status < 10:
		return strconv.Itoa(status) + "xx"
	}
	return strconv.Itoa(status)
}
