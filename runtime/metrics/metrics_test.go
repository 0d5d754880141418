package metrics

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"staffeln/events"
	"staffeln/runtime"
)

func scrape(m *Metrics) string {
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

// has says whether the scrape holds the line.
func has(t *testing.T, text, line string) {
	t.Helper()
	if !slices.Contains(strings.Split(text, "\n"), line) {
		t.Errorf("no line %q", line)
	}
}

// Before anything has happened, everything that can be known is there, at zero.
func TestStartsAtZero(t *testing.T) {
	text := scrape(New())
	for _, line := range []string{
		"staffeln_backups_adopted_total 0",
		`staffeln_backups_started_total{kind="full"} 0`,
		`staffeln_backups_started_total{kind="incremental"} 0`,
		`staffeln_runs_finished_total{outcome="failed",theirs="true"} 0`,
		`staffeln_ticks_skipped_total{function="dispatch",why="busy"} 0`,
		"staffeln_volumes_protected 0", "staffeln_volumes_overdue 0", "staffeln_runs_open 0",
		"staffeln_runs_waiting 0",
		"staffeln_admission_paused 0", "staffeln_reconcile_last_timestamp 0",
	} {
		has(t, text, line)
	}
	if !strings.Contains(text, "go_goroutines") {
		t.Error("nothing of the Go runtime")
	}
}

func TestStartFunctions(t *testing.T) {
	m := New()
	m.StartFunctions([]runtime.Function{
		{Name: "track", On: map[string]events.Handler{"tick.track": nil, "backup.create.end": nil}},
		{Name: "policy"},
	})
	text := scrape(m)
	for _, outcome := range []string{"done", "retry", "dropped"} {
		has(t, text, fmt.Sprintf(`staffeln_events_total{function="track",outcome=%q,type="backup.create.end"} 0`, outcome))
	}
	if strings.Contains(text, `function="policy"`) {
		t.Error("policy takes no events")
	}
}

func TestCounting(t *testing.T) {
	m := New()
	m.Count("openstack_requests_total", 1, "create backup", "202")
	m.Count("openstack_requests_total", 2, "create backup", "202")
	m.Gauge("amqp_connected", 1, "127.0.0.1:5672")
	m.Gauge("runs_open", 7)
	m.Seconds("openstack_seconds", 300*time.Millisecond, "create backup")
	m.Skipped("dispatch", 3, "busy")
	var observe runtime.Observe = m.Observe
	observe("track", "backup.create.end", events.Dropped, 3*time.Second, errors.New("boom"))
	text := scrape(m)
	for _, line := range []string{
		`staffeln_openstack_requests_total{op="create backup",status="202"} 3`,
		`staffeln_amqp_connected{broker="127.0.0.1:5672"} 1`,
		"staffeln_runs_open 7",
		`staffeln_openstack_seconds_bucket{op="create backup",le="0.25"} 0`,
		`staffeln_openstack_seconds_bucket{op="create backup",le="0.5"} 1`,
		`staffeln_ticks_skipped_total{function="dispatch",why="busy"} 1`,
		`staffeln_events_total{function="track",outcome="dropped",type="backup.create.end"} 1`,
		`staffeln_event_seconds_sum{function="track"} 3`,
	} {
		has(t, text, line)
	}
}

// A slip in a name does not count silently into nothing.
func TestMistakes(t *testing.T) {
	m := New()
	for name, use := range map[string]func(){
		"no such name":     func() { m.Count("backups_startd_total", 1, "full") },
		"a label too few":  func() { m.Count("backups_started_total", 1) },
		"a label too many": func() { m.Gauge("runs_open", 1, "x") },
		"not a counter":    func() { m.Count("runs_open", 1) },
		"not a gauge":      func() { m.Gauge("backups_adopted_total", 1) },
		"not a histogram":  func() { m.Seconds("runs_open", time.Second) },
		"backwards":        func() { m.Count("backups_adopted_total", -1) },
		"no such start":    func() { m.Start("nothing") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: taken", name)
				}
			}()
			use()
		}()
	}
}

// The table keeps to Prometheus' customs.
func TestTable(t *testing.T) {
	var names []string
	for _, metric := range Table {
		names = append(names, metric.Name)
		if !regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`).MatchString(metric.Name) ||
			!strings.HasSuffix(metric.Help, ".") {
			t.Errorf("%+v", metric)
		}
		if (metric.Kind == Counter) != strings.HasSuffix(metric.Name, "_total") {
			t.Errorf("%s is a %s", metric.Name, metric.Kind)
		}
		if (metric.Kind == Histogram) != (len(metric.Buckets) > 0) || !slices.IsSorted(metric.Buckets) {
			t.Errorf("%s has buckets %v", metric.Name, metric.Buckets)
		}
		for _, labels := range metric.Start {
			if len(labels) != len(metric.Labels) {
				t.Errorf("%s starts with %v", metric.Name, labels)
			}
		}
	}
	slices.Sort(names)
	if len(slices.Compact(names)) != len(Table) {
		t.Error("a name comes twice")
	}
	families, err := New().Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, Prefix) {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}
