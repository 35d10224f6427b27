// Package telemetry sends spans to an OpenTelemetry collector and carries W3C trace context from those who call the
// service to the event handlers that it calls.
//
// Somebody whose request ends in an event handler wants to see both in one picture. A REST request and a client's
// handshake go on with the caller's traceparent; an event's request carries traceparent and, as CloudEvents' distributed
// tracing extension, ce-traceparent. It is off unless a collector is named, and then costs nothing: there is no
// Telemetry to be asked. Spans of deliveries say hub, event, rule, reason code and stages, those of
// REST requests method and path; no payload, no token.
//
// The package is the one owner of OpenTelemetry's library. The collector is the operator's choice, like the NATS
// cluster, so it is reached directly and not through egress, which keeps tenants from choosing such addresses. Spans
// wait in a bounded queue and are dropped when the collector is slow. [Telemetry.Close] sends what is left.
package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"

	"tabard/internal/eventhandler"
	"tabard/internal/trace"
)

// Telemetry makes spans. A nil *Telemetry makes none.
type Telemetry struct {
	provider *sdktrace.TracerProvider
	tracer   oteltrace.Tracer
	context  propagation.TraceContext
}

// Enabled tells whether a collector is named: by endpoint, or by OpenTelemetry's own environment.
func Enabled(endpoint string) bool {
	return endpoint != "" || os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}

// New begins to send spans by OTLP over HTTP. endpoint is the collector's URL, whose path is /v1/traces if it has none;
// empty leaves it to the environment, which also says everything else (OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER,
// OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES …). No connection is made yet. The caller closes it.
func New(ctx context.Context, endpoint string, log *slog.Logger) (*Telemetry, error) {
	var opts []otlptracehttp.Option
	if endpoint != "" {
		u, err := url.Parse(endpoint)
		if err != nil {
			return nil, fmt.Errorf("telemetry: %w", err)
		}
		if strings.Trim(u.Path, "/") == "" {
			u.Path = "/v1/traces"
		}
		opts = append(opts, otlptracehttp.WithEndpointURL(u.String()))
	}
	exporter, err := otlptracehttp.New(ctx, opts...)
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	about, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", "tabard")), resource.WithFromEnv(), resource.WithTelemetrySDK())
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("spans could not be sent", "error", err) }))
	t := &Telemetry{provider: sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))}
	t.tracer = t.provider.Tracer("tabard")
	return t, nil
}

// Close sends what is left, within ctx.
func (t *Telemetry) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// Serve wraps a handler of requests: each has a span, below that of its traceparent. The handler finds the span's own
// traceparent in the request.
func (t *Telemetry) Serve(name string, next http.Handler) http.Handler {
	if t == nil {
		return next
	}
	inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.context.Inject(r.Context(), propagation.HeaderCarrier(r.Header))
		next.ServeHTTP(w, r)
	})
	return otelhttp.NewHandler(inner, name, otelhttp.WithTracerProvider(t.provider), otelhttp.WithPropagators(t.context),
		otelhttp.WithSpanNameFormatter(func(name string, r *http.Request) string { return name + " " + r.Method }))
}

// Upgrade wraps what serves handshakes, so that the events of one go on with its traceparent.
func (t *Telemetry) Upgrade(next func(net.Conn, *http.Request)) func(net.Conn, *http.Request) {
	if t == nil {
		return next
	}
	return func(conn net.Conn, r *http.Request) {
		next(conn, r.WithContext(t.context.Extract(r.Context(), propagation.HeaderCarrier(r.Header))))
	}
}

// Start implements eventhandler.Tracer.
func (t *Telemetry) Start(ctx context.Context, hub, event string) eventhandler.Span {
	ctx, span := t.tracer.Start(ctx, "event "+event, oteltrace.WithSpanKind(oteltrace.SpanKindClient),
		oteltrace.WithAttributes(attribute.String("tabard.hub", hub), attribute.String("cloudevents.event_type", event)))
	return &delivery{t, ctx, span}
}

type delivery struct {
	t    *Telemetry
	ctx  context.Context
	span oteltrace.Span
}

// TraceID implements eventhandler.Span.
func (d *delivery) TraceID() string { return d.span.SpanContext().TraceID().String() }

// Inject implements eventhandler.Span.
func (d *delivery) Inject(h http.Header) {
	fields := propagation.MapCarrier{}
	d.t.context.Inject(d.ctx, fields)
	for name, value := range fields {
		h[name] = []string{value}
		h["ce-"+name] = []string{value} // CloudEvents, extensions/distributed-tracing.md
	}
}

// End implements eventhandler.Span.
func (d *delivery) End(r *trace.Record) {
	d.span.SetAttributes(attribute.String("tabard.instance", r.Instance), attribute.String("tabard.code", string(r.Code)),
		attribute.String("tabard.rule", r.Template), attribute.Int("tabard.attempts", r.Attempts), attribute.Int("http.response.status_code", r.Status))
	at := r.Time
	for _, s := range r.Stages {
		at = at.Add(s.Duration)
		d.span.AddEvent(s.Name, oteltrace.WithTimestamp(at), oteltrace.WithAttributes(attribute.String("outcome", s.Outcome), attribute.Float64("seconds", s.Duration.Seconds())))
	}
	if r.Fault() {
		d.span.SetStatus(codes.Error, string(r.Code))
	}
	d.span.End(oteltrace.WithTimestamp(r.Time.Add(max(r.Duration, time.Nanosecond))))
}
