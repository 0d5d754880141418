// Package metrics holds the metrics for Prometheus. [Table] lists all of them. Series whose labels
// are known begin at zero, so that rate() works from the first event on.
package metrics

import (
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"staffeln/events"
	"staffeln/runtime"
)

// Prefix begins the name of every metric.
const Prefix = "staffeln_"

// Kind is a metric's type.
type Kind string

// The kinds of metrics.
const (
	Counter   Kind = "counter"   // see [Metrics.Count]
	Gauge     Kind = "gauge"     // see [Metrics.Gauge]
	Histogram Kind = "histogram" // see [Metrics.Seconds]
)

// A Metric is one line of [Table].
type Metric struct {
	// Name is without [Prefix].
	Name string
	Kind Kind
	Help string
	// Labels are the names of its labels, in the order in which values are passed.
	Labels []string
	// Start are the label values of the series that begin at zero. A metric without labels begins
	// at zero anyway.
	Start [][]string
	// Buckets are a histogram's upper bounds, in seconds.
	Buckets []float64
}

// buckets suit what should take milliseconds and may take a minute.
var buckets = []float64{.001, .005, .025, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// Table lists every metric.
var Table = []Metric{
	{Name: "events_total", Kind: Counter, Labels: []string{"function", "type", "outcome"},
		Help: "Events given to functions: done, retry or dropped."},
	{Name: "event_seconds", Kind: Histogram, Labels: []string{"function"}, Buckets: buckets,
		Help: "How long a function took for an event."},
	{Name: "ticks_skipped_total", Kind: Counter, Labels: []string{"function", "why"},
		Start: product([]string{"dispatch", "track", "retention", "report", "reconcile"},
			[]string{"busy", "unclaimed"}),
		Help: "Ticks not delivered: the one before was not over (busy), or Redis did not answer (unclaimed)."},

	{Name: "openstack_requests_total", Kind: Counter, Labels: []string{"op", "status"},
		Help: "Requests to OpenStack, by operation and HTTP status; 0 means no answer."},
	{Name: "openstack_seconds", Kind: Histogram, Labels: []string{"op"}, Buckets: buckets,
		Help: "How long OpenStack took to answer."},

	{Name: "backups_started_total", Kind: Counter, Labels: []string{"kind"}, Start: one("full", "incremental"),
		Help: "Requests for backups that Cinder accepted."},
	{Name: "backups_adopted_total", Kind: Counter,
		Help: "Runs whose backup was found in Cinder after an answer was lost or a process crashed."},
	{Name: "runs_finished_total", Kind: Counter, Labels: []string{"outcome", "theirs"},
		Start: [][]string{{"complete", "false"}, {"failed", "false"}, {"failed", "true"}, {"late", "false"}},
		Help: "Ended runs; late: complete after its deadline; theirs is true if the project's owner " +
			"must act."},
	{Name: "volumes_protected", Kind: Gauge,
		Help: "Volumes of servers that opted in."},
	{Name: "volumes_overdue", Kind: Gauge,
		Help: "Protected volumes without a restore point as young as their schedule promises."},
	{Name: "backups_forged", Kind: Gauge,
		Help: "Backups with our metadata that somebody else made. They count for nothing. Alert on more than 0."},
	{Name: "backups_unverified", Kind: Gauge,
		Help: "Backups with our metadata and an unknown maker. They are kept and count for nothing. " +
			"Alert on more than 0."},
	{Name: "runs_open", Kind: Gauge,
		Help: "Open runs."},
	{Name: "runs_waiting", Kind: Gauge,
		Help: "Volumes that are due and whose run has not started."},

	{Name: "lock_attempts_total", Kind: Counter, Labels: []string{"what"}, Start: one("server", "volume"),
		Help: "Attempts to weaken the protection of a server or a volume whose class is locked."},

	{Name: "reconcile_missed_total", Kind: Counter, Labels: []string{"what"},
		Help: "Changes in OpenStack that reconcile found and no notification reported."},
	{Name: "reconcile_last_timestamp", Kind: Gauge,
		Help: "When the last complete reconcile ended, in seconds since 1970."},
	{Name: "admission_paused", Kind: Gauge,
		Help: "1 while nothing starts because no cinder-backup service is up."},
	{Name: "stamps_total", Kind: Counter, Labels: []string{"outcome"},
		Help: "Attempts to write last-backup-time to a server."},
	{Name: "discards_total", Kind: Counter, Labels: []string{"outcome"},
		Help: "Attempts to remove a broken backup of a failed run."},
	{Name: "removals_total", Kind: Counter, Labels: []string{"what"},
		Start: one("asked", "removed", "refused", "stuck"),
		Help:  "Removals of backups that no policy keeps; the log says why one is refused or stuck."},
	{Name: "retention_held_total", Kind: Counter, Labels: []string{"why"},
		Start: one("brake", "cloud brake", "clock", "list", "short list", "service"),
		Help:  "How often retention removed nothing in a project, and why."},
	{Name: "backups_lost_total", Kind: Counter,
		Help: "Restore points that somebody else removed."},
	{Name: "digests_total", Kind: Counter, Labels: []string{"outcome"},
		Start: one("told", "later", "refused", "template"),
		Help: "Digests: sent (told), to be tried again (later), refused for good by an address, or written " +
			"with the built-in template because the operator's failed (template)."},
	{Name: "letters_total", Kind: Counter, Labels: []string{"channel", "outcome"},
		Start: product([]string{"resend", "smtp", "log"}, []string{"sent", "later", "refused", "partly"}),
		Help:  "Letters given to a channel; partly: only some of the addresses took it."},
	{Name: "policy_verdicts_total", Kind: Counter, Labels: []string{"verdict", "source", "why"},
		Start: [][]string{{"allow", "body", "service"}, {"allow", "body", "operator"}, {"allow", "body", "manual"},
			{"deny", "body", "marked"}, {"deny", "body", "creator"}, {"deny", "ledger", "known"},
			{"deny", "none", "doubt"}},
		Help: "Answers to Cinder's policy check, by source of the answer and by reason; " +
			"doubt: no source could answer."},

	{Name: "amqp_messages_total", Kind: Counter, Labels: []string{"outcome"},
		Help: "Received notifications, by outcome."},
	{Name: "amqp_connected", Kind: Gauge, Labels: []string{"broker"},
		Help: "1 while connected to the broker, which is named by its URL without user and password."},
}

func one(values ...string) [][]string {
	var out [][]string
	for _, v := range values {
		out = append(out, []string{v})
	}
	return out
}

func product(a, b []string) [][]string {
	var out [][]string
	for _, x := range a {
		for _, y := range b {
			out = append(out, []string{x, y})
		}
	}
	return out
}

// Metrics are all metrics of one process. Its methods may be called from any goroutine. A name, kind
// or number of labels that differs from the table is a bug: it panics in tests, and is logged once in
// production.
type Metrics struct {
	registry   *prometheus.Registry
	counters   map[string]*prometheus.CounterVec
	gauges     map[string]*prometheus.GaugeVec
	histograms map[string]*prometheus.HistogramVec
	all        map[string]*prometheus.MetricVec
	mistakes   sync.Map // the logged ones
}

// New returns all metrics, and those of the Go runtime and of the process.
func New() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(), counters: map[string]*prometheus.CounterVec{},
		gauges: map[string]*prometheus.GaugeVec{}, histograms: map[string]*prometheus.HistogramVec{},
		all: map[string]*prometheus.MetricVec{},
	}
	m.registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, t := range Table {
		switch name := Prefix + t.Name; t.Kind {
		case Counter:
			v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: t.Help}, t.Labels)
			m.counters[t.Name], m.all[t.Name] = v, v.MetricVec
		case Gauge:
			v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: t.Help}, t.Labels)
			m.gauges[t.Name], m.all[t.Name] = v, v.MetricVec
		case Histogram:
			o := prometheus.HistogramOpts{Name: name, Help: t.Help, Buckets: t.Buckets}
			v := prometheus.NewHistogramVec(o, t.Labels)
			m.histograms[t.Name], m.all[t.Name] = v, v.MetricVec
		}
		m.registry.MustRegister(m.all[t.Name])
		if len(t.Labels) == 0 {
			m.Start(t.Name)
		}
		for _, labels := range t.Start {
			m.Start(t.Name, labels...)
		}
	}
	return m
}

// Start makes a series begin at zero: Start("events_total", "track", "backup.create.end", "done").
func (m *Metrics) Start(name string, labels ...string) {
	if v, ok := m.all[name]; ok {
		if _, err := v.GetMetricWithLabelValues(labels...); err == nil {
			return
		}
	}
	m.mistake(name, "start", labels)
}

// StartFunctions makes the series of every function and of its event types begin at zero.
func (m *Metrics) StartFunctions(functions []runtime.Function) {
	for _, f := range functions {
		for eventType := range f.On {
			for _, o := range []events.Outcome{events.Done, events.Retry, events.Dropped} {
				m.Start("events_total", f.Name, eventType, runtime.OutcomeName(o))
			}
		}
		if len(f.On) > 0 {
			m.Start("event_seconds", f.Name)
		}
	}
}

// Count adds n, which is not negative, to a counter. Labels are values in the table's order:
// Count("backups_started_total", 1, "full").
func (m *Metrics) Count(name string, n float64, labels ...string) {
	if v, ok := m.counters[name]; ok && n >= 0 {
		if c, err := v.GetMetricWithLabelValues(labels...); err == nil {
			c.Add(n)
			return
		}
	}
	m.mistake(name, "count", labels)
}

// Gauge sets a gauge.
func (m *Metrics) Gauge(name string, value float64, labels ...string) {
	if v, ok := m.gauges[name]; ok {
		if g, err := v.GetMetricWithLabelValues(labels...); err == nil {
			g.Set(value)
			return
		}
	}
	m.mistake(name, "gauge", labels)
}

// Seconds adds a duration to a histogram.
func (m *Metrics) Seconds(name string, took time.Duration, labels ...string) {
	if v, ok := m.histograms[name]; ok {
		if h, err := v.GetMetricWithLabelValues(labels...); err == nil {
			h.Observe(took.Seconds())
			return
		}
	}
	m.mistake(name, "seconds", labels)
}

// Observe is a [runtime.Observe].
func (m *Metrics) Observe(function, eventType string, outcome events.Outcome, took time.Duration, _ error) {
	m.Count("events_total", 1, function, eventType, runtime.OutcomeName(outcome))
	m.Seconds("event_seconds", took, function)
}

// Skipped counts a tick that runtime/timer did not deliver.
func (m *Metrics) Skipped(timer string, _ int, why string) {
	m.Count("ticks_skipped_total", 1, timer, why)
}

func (m *Metrics) mistake(name, use string, labels []string) {
	what := fmt.Sprintf("metric %s cannot be used like this: %s with %d labels", name, use, len(labels))
	if testing.Testing() {
		panic(what)
	}
	if _, known := m.mistakes.LoadOrStore(what, true); !known {
		slog.Error(what)
	}
}

// Registry holds the metrics; others can be added.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// Handler serves the metrics at any path.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}
