package reconcile

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"staffeln/events"
	"staffeln/functions/backup"
)

// books is a ledger of projects with one protected server each, listed one by one. It
// counts the calls. What it does not have is not to be called.
type books struct {
	Ledger
	projects int
	calls    map[string]int
	wish     string
	change   backup.Change
}

func (b *books) of(i int) (Known, Seen) {
	const web = "server web v1 last-backup-time=2026-11-22T02:31:00Z backup="
	k, s := story(web+"yes; volume v1 slot=22T02:30 point=22T02:31; record b1 v1 22T02:30 available",
		web+b.wish+"; backup b1 v1 22T02:30 available")
	e, v := k.Enrolments["web"], k.Volumes["v1"]
	e.Server, e.Project, v.Project = fmt.Sprint("web", i), fmt.Sprint("p", i), fmt.Sprint("p", i)
	v.Enrolments, v.State.Due = []backup.Enrolment{e}, noon
	s.Servers[0].ID, s.Servers[0].Project, s.Backups[0].Project = e.Server, e.Project, e.Project
	volume := s.Volumes["v1"]
	volume.Project = e.Project
	return Known{Enrolments: map[string]backup.Enrolment{"": e}, Volumes: map[string]backup.Protected{"": v}},
		Seen{Servers: s.Servers, Volumes: map[string]backup.Volume{"": volume}, Backups: s.Backups}
}

func (b *books) project(scope string) (i int) { _, _ = fmt.Sscanf(scope, "p%d", &i); return i }

func (b *books) Shards() int      { return 4 }
func (b *books) Shard(string) int { return 0 }
func (b *books) Claim(context.Context, string, time.Duration) (bool, error) {
	return true, nil
}
func (b *books) LastReconciled(context.Context) (time.Time, bool, error) {
	return time.Time{}, true, nil
}
func (b *books) Reconciled(context.Context, time.Time) error   { return nil }
func (b *books) Asked(context.Context) (int64, error)          { return 0, nil }
func (b *books) Mark(context.Context, string, time.Time) error { return nil }
func (b *books) Marked(context.Context, string) (time.Time, bool, error) {
	return time.Time{}, false, nil
}
func (b *books) Total(context.Context, string, int) error { return nil }
func (b *books) TicketsAll(context.Context) ([]int64, error) {
	return make([]int64, 4), nil
}
func (b *books) KeepLeases(context.Context, []backup.Run) error { return nil }

func (b *books) Enrolments(_ context.Context, shard int) (all []backup.Enrolment, _ error) {
	b.calls["shard"]++
	for i := range b.projects {
		if k, _ := b.of(i); shard == 0 {
			all = append(all, k.Enrolments[""])
		}
	}
	return all, nil
}
func (b *books) Volumes(ctx context.Context, shard int) (all []backup.Protected, _ error) {
	b.calls["shard"]++
	for i := range b.projects {
		if k, _ := b.of(i); shard == 0 {
			all = append(all, k.Volumes[""])
		}
	}
	return all, nil
}
func (b *books) Runs(context.Context, int) ([]backup.Run, error) {
	b.calls["shard"]++
	return nil, nil
}
func (b *books) Foreigns(context.Context, int) (map[string][]backup.Foreign, error) {
	b.calls["shard"]++
	return nil, nil
}
func (b *books) Records(_ context.Context, project string) ([]backup.Record, error) {
	b.calls["project"]++
	_, s := b.of(b.project(project))
	return []backup.Record{backup.RecordOf(s.Backups[0])}, nil
}
func (b *books) Retention(context.Context, string) (backup.Retention, error) {
	b.calls["project"]++
	return backup.Retention{Due: noon}, nil
}
func (b *books) Enroll(context.Context, int64, backup.Enrolment, []backup.Protected, time.Time) (backup.Change, error) {
	b.calls["enroll"]++
	return b.change, nil
}

// cloud is what OpenStack shows of the same projects.
type cloud struct {
	Cloud
	*books
}

func (c cloud) Scopes(context.Context) (all []string, _ error) {
	for i := range c.projects {
		all = append(all, fmt.Sprint("p", i))
	}
	return all, nil
}
func (c cloud) Servers(_ context.Context, scope string) ([]backup.Server, error) {
	c.calls["project"]++
	_, s := c.of(c.project(scope))
	return s.Servers, nil
}
func (c cloud) Volumes(_ context.Context, scope string) ([]backup.Volume, error) {
	c.calls["project"]++
	_, s := c.of(c.project(scope))
	return []backup.Volume{s.Volumes[""]}, nil
}
func (c cloud) Backups(_ context.Context, scope string) ([]backup.CinderBackup, error) {
	c.calls["project"]++
	_, s := c.of(c.project(scope))
	return s.Backups, nil
}

func (b *books) reconcile(t *testing.T) (log string) {
	t.Helper()
	var out bytes.Buffer
	b.calls = map[string]int{}
	f := &Function{Ledger: b, Cloud: cloud{books: b}, Settings: set, Log: slog.New(slog.NewTextHandler(&out, nil)),
		Count: func(string, float64, ...string) {}}
	if err := f.Reconcile(t.Context(), events.Tick{At: noon}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// A project costs five calls where nothing is new, and looks at nothing of another's,
// however many projects there are.
func TestWhatAPassCosts(t *testing.T) {
	for _, n := range []int{1, 10, 300} {
		b := &books{projects: n, wish: "yes"}
		if log := b.reconcile(t); log != "" {
			t.Errorf("%d projects: nothing is new, and the log says %s", n, log)
		}
		if b.calls["shard"] != 4*6 || b.calls["project"] != 5*n || b.calls["enroll"] != 0 {
			t.Errorf("%d projects: the calls are %v", n, b.calls)
		}
		p, err := (&Function{Ledger: b}).begin(t.Context(), true, false, noon)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range p.known {
			if len(k.Enrolments) != 1 || len(k.Volumes) != 1 || len(p.known) != n {
				t.Fatalf("%d projects: a project is given %d servers and %d volumes", n, len(k.Enrolments), len(k.Volumes))
			}
		}
	}
}

// The log tells of an enrolment when its owner would notice, and only then.
func TestTheLogTellsWhatChanged(t *testing.T) {
	for _, c := range []struct {
		sentence, wish string
		change         backup.Change
		want           string
	}{
		{"another class", "gold", backup.Change{}, "enrolment changed"},
		{"the same, and a volume more", "1", backup.Change{Protected: []string{"v2"}}, "enrolment changed"},
		{"the same in other words", "1", backup.Change{}, ""},
		{"it was written already", "gold", backup.Change{Same: true}, ""},
		{"a notification was there first", "gold", backup.Change{Stale: true}, ""},
	} {
		b := &books{projects: 1, wish: c.wish, change: c.change}
		log := b.reconcile(t)
		if b.calls["enroll"] != 1 || strings.Contains(log, "enrolment changed") != (c.want != "") ||
			c.want != "" && !strings.Contains(log, "server_name=web ") {
			t.Errorf("%s: enrolled %d times, and the log says %q", c.sentence, b.calls["enroll"], log)
		}
	}
}
