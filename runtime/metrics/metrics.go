// Package metrics counts what happens, for Prometheus. Every metric there is
// stands in [Table]; all exist from the start, so that a rate over one that has not
// moved yet is zero and not nothing.
package metrics

import (
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"staffeln/events"
	"staffeln/runtime"
)

// Prefix is what the name of every metric begins with.
const Prefix = "staffeln_"

// Kind is what a metric can do.
type Kind string

// The kinds of metrics.
const (
	Counter   Kind = "counter"   // only grows: [Metrics.Count]
	Gauge     Kind = "gauge"     // is set: [Metrics.Gauge]
	Histogram Kind = "histogram" // takes durations in seconds: [Metrics.Seconds]
)

// A Metric is one line of [Table].
type Metric struct {
	// Name is without [Prefix].
	Name string
	Kind Kind
	Help string
	// Labels are their names, in the order in which values are passed.
	Labels []string
	// Start are label values to begin with at zero, a series each; a metric without
	// labels begins at zero anyway. A metric whose label values nobody knows
	// beforehand has none.
	Start [][]string
	// Buckets are a histogram's upper bounds, in seconds.
	Buckets []float64
}

var (
	// quick is for what should take milliseconds and may take a minute.
	quick = []float64{.001, .005, .025, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
)

// Table is every metric there is.
var Table = []Metric{
	{Name: "events_total", Kind: Counter, Labels: []string{"function", "type", "outcome"},
		Help: "Events handed to functions, by what became of them: done, retry or dropped."},
	{Name: "event_seconds", Kind: Histogram, Labels: []string{"function"}, Buckets: quick,
		Help: "How long functions took for an event."},
	{Name: "ticks_skipped_total", Kind: Counter, Labels: []string{"function", "why"},
		Start: product([]string{"dispatch", "track", "retention", "report", "reconcile"}, []string{"busy", "unclaimed"}),
		Help:  "Ticks not delivered: busy, since the one before was still under way, or unclaimed, since Redis was out of reach."},

	{Name: "openstack_requests_total", Kind: Counter, Labels: []string{"op", "status"},
		Help: "Requests to OpenStack, by operation and HTTP status; 0 is no answer."},
	{Name: "openstack_seconds", Kind: Histogram, Labels: []string{"op"}, Buckets: quick,
		Help: "How long OpenStack took to answer."},

	{Name: "backups_started_total", Kind: Counter, Labels: []string{"kind"}, Start: one("full", "incremental"),
		Help: "Backups asked of Cinder and accepted."},
	{Name: "backups_adopted_total", Kind: Counter,
		Help: "Backups found to be there already when about to ask: an answer lost, or a crash after asking."},
	{Name: "runs_finished_total", Kind: Counter, Labels: []string{"outcome", "theirs"},
		Start: [][]string{{"complete", "false"}, {"failed", "false"}, {"failed", "true"}, {"late", "false"}},
		Help:  "Runs that ended: complete, failed, or late, which is complete after having been given up on; theirs is true where the project's owner must act."},
	{Name: "volumes_protected", Kind: Gauge,
		Help: "Volumes of opted-in servers."},
	{Name: "volumes_overdue", Kind: Gauge,
		Help: "Protected volumes without a restore point as young as their schedule promises."},
	{Name: "backups_forged", Kind: Gauge,
		Help: "Backups that carry our metadata and that somebody else made: stolen credentials, or a script that copies metadata. They count for nothing. Alert on more than 0."},
	{Name: "backups_unverified", Kind: Gauge,
		Help: "Backups that carry our metadata and of which nobody can say who made them. They are kept and count for nothing. Alert on more than 0."},
	{Name: "runs_open", Kind: Gauge,
		Help: "Runs under way."},
	{Name: "runs_waiting", Kind: Gauge,
		Help: "Volumes that are due and have not been let start yet."},

	{Name: "lock_attempts_total", Kind: Counter, Labels: []string{"what"}, Start: one("server", "volume"),
		Help: "Attempts to take something away from what a locked class protects, when first seen: by the metadata or tags of a server, or the skip key of a volume."},

	{Name: "reconcile_missed_total", Kind: Counter, Labels: []string{"what"},
		Help: "Differences between the ledger and OpenStack that no notification had told of."},
	{Name: "reconcile_last_timestamp", Kind: Gauge,
		Help: "When the last complete reconcile ended, in seconds since 1970."},
	{Name: "admission_paused", Kind: Gauge,
		Help: "1 while nothing starts at all, since no cinder-backup service is up or Cinder is under strain."},
	{Name: "stamps_total", Kind: Counter, Labels: []string{"outcome"},
		Help: "Attempts to write last-backup-time to a server."},
	{Name: "discards_total", Kind: Counter, Labels: []string{"outcome"},
		Help: "Attempts to remove a broken backup of ours."},
	{Name: "removals_total", Kind: Counter, Labels: []string{"what"}, Start: one("asked", "removed", "refused", "stuck"),
		Help: "Backups of ours that the policies no longer keep: asked of Cinder, removed, refused by it, or stuck since something is in the way that will not pass by itself."},
	{Name: "retention_held_total", Kind: Counter, Labels: []string{"why"}, Start: one("brake", "cloud brake", "clock", "list", "short list", "service"),
		Help: "Looks at projects that removed nothing at all: the brake waits for the operator, our clock is ahead of the cloud's, Cinder's list could not be had or was short, or no cinder-backup service is up."},
	{Name: "backups_lost_total", Kind: Counter,
		Help: "Restore points of ours that are gone and that we did not remove: somebody else did."},
	{Name: "digests_total", Kind: Counter, Labels: []string{"outcome"}, Start: one("told", "later", "refused", "template"),
		Help: "Digests: told to everybody they are for; put off, since somebody could not be told or there is nobody to tell; told, but refused for good by some; and written with the built-in template, since the operator's failed."},
	{Name: "letters_total", Kind: Counter, Labels: []string{"channel", "outcome"},
		Start: product([]string{"resend", "smtp", "log"}, []string{"sent", "later", "refused", "partly"}),
		Help:  "Letters handed to a channel: sent, put off, refused for good, or taken for a part of the people."},
	{Name: "policy_verdicts_total", Kind: Counter, Labels: []string{"verdict", "source", "why"},
		Start: [][]string{{"allow", "body", "service"}, {"allow", "body", "operator"}, {"allow", "body", "manual"},
			{"deny", "body", "marked"}, {"deny", "body", "creator"}, {"deny", "ledger", "known"}, {"deny", "none", "doubt"}},
		Help: "Answers to Cinder's policy check, by who knew (the request's own body, ledger, cinder or none) and why: doubt is a refusal since nobody could say."},

	{Name: "amqp_messages_total", Kind: Counter, Labels: []string{"outcome"},
		Help: "Notifications received, by what became of them."},
	{Name: "amqp_connected", Kind: Gauge, Labels: []string{"broker"},
		Help: "1 while connected to the broker, by its URL without user and password."},
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

// Metrics are all metrics of one process. Its methods may be called from any
// goroutine. A name, a kind or a number of labels that is not the table's is a
// mistake in the program: it panics in tests, and is logged once elsewhere.
type Metrics struct {
	registry   *prometheus.Registry
	counters   map[string]*prometheus.CounterVec
	gauges     map[string]*prometheus.GaugeVec
	histograms map[string]*prometheus.HistogramVec
	mistakes   sync.Map // those logged
}

// New returns all metrics, registered and at zero, beside those of the Go runtime
// and of the process.
func New() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		counters: map[string]*prometheus.CounterVec{}, gauges: map[string]*prometheus.GaugeVec{}, histograms: map[string]*prometheus.HistogramVec{},
	}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, t := range Table {
		start := t.Start
		if len(t.Labels) == 0 {
			start = [][]string{nil}
		}
		switch t.Kind {
		case Counter:
			v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: Prefix + t.Name, Help: t.Help}, t.Labels)
			m.registry.MustRegister(v)
			m.counters[t.Name] = v
			for _, labels := range start {
				v.WithLabelValues(labels...)
			}
		case Gauge:
			v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: Prefix + t.Name, Help: t.Help}, t.Labels)
			m.registry.MustRegister(v)
			m.gauges[t.Name] = v
			for _, labels := range start {
				v.WithLabelValues(labels...)
			}
		case Histogram:
			v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: Prefix + t.Name, Help: t.Help, Buckets: t.Buckets}, t.Labels)
			m.registry.MustRegister(v)
			m.histograms[t.Name] = v
			for _, labels := range start {
				v.WithLabelValues(labels...)
			}
		}
	}
	return m
}

// Start makes series begin at zero whose labels are known only to whoever wires
// the process: Start("events_total", "track", "backup.create.end", "done").
func (m *Metrics) Start(name string, labels ...string) {
	i := slices.IndexFunc(Table, func(t Metric) bool { return t.Name == name })
	if i < 0 || len(labels) != len(Table[i].Labels) {
		m.mistake(name, "start", labels)
		return
	}
	switch Table[i].Kind {
	case Counter:
		m.counters[name].WithLabelValues(labels...)
	case Gauge:
		m.gauges[name].WithLabelValues(labels...)
	case Histogram:
		m.histograms[name].WithLabelValues(labels...)
	}
}

// StartFunctions makes the series of every function and event type it takes begin
// at zero.
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

// Count adds n, not negative, to a counter. Labels are values in the table's
// order: Count("backups_started_total", 1, "full").
func (m *Metrics) Count(name string, n float64, labels ...string) {
	v, ok := m.counters[name]
	if !ok || n < 0 {
		m.mistake(name, "count", labels)
		return
	}
	c, err := v.GetMetricWithLabelValues(labels...)
	if err != nil {
		m.mistake(name, "count", labels)
		return
	}
	c.Add(n)
}

// Gauge sets a gauge.
func (m *Metrics) Gauge(name string, value float64, labels ...string) {
	v, ok := m.gauges[name]
	if !ok {
		m.mistake(name, "gauge", labels)
		return
	}
	g, err := v.GetMetricWithLabelValues(labels...)
	if err != nil {
		m.mistake(name, "gauge", labels)
		return
	}
	g.Set(value)
}

// Seconds adds a duration to a histogram.
func (m *Metrics) Seconds(name string, took time.Duration, labels ...string) {
	v, ok := m.histograms[name]
	if !ok {
		m.mistake(name, "seconds", labels)
		return
	}
	h, err := v.GetMetricWithLabelValues(labels...)
	if err != nil {
		m.mistake(name, "seconds", labels)
		return
	}
	h.Observe(took.Seconds())
}

// Observe is a [runtime.Observe].
func (m *Metrics) Observe(function, eventType string, outcome events.Outcome, took time.Duration, _ error) {
	m.Count("events_total", 1, function, eventType, runtime.OutcomeName(outcome))
	m.Seconds("event_seconds", took, function)
}

// Skipped is for the Skipped of a timer's runner.
func (m *Metrics) Skipped(timer string, _ int, why string) {
	m.Count("ticks_skipped_total", 1, timer, why)
}

func (m *Metrics) mistake(name, use string, labels []string) {
	what := fmt.Sprintf("metric %s cannot be used so: %s with %d labels", name, use, len(labels))
	if testing.Testing() {
		panic(what)
	}
	if _, known := m.mistakes.LoadOrStore(what, true); !known {
		slog.Error(what)
	}
}

// Registry is where the metrics are, for others to be added.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// Handler serves the metrics at any path.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}
