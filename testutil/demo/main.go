// Command demo shows the main job on a simulated cloud, live on the terminal: a few
// accelerated days of a small cloud. It needs nothing but Go.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"staffeln/functions/backup"
	"staffeln/testutil/simcloud"
	"staffeln/testutil/world"
)

type demo struct {
	Plain bool   `help:"Plain lines, also on a terminal."`
	Out   string `placeholder:"DIR" help:"Write the digests to this directory. Default: a new one for temporary files."`
}

// demoStart is a Sunday, so that the days count from one that people know.
var demoStart = time.Date(2026, 11, 22, 1, 0, 0, 0, time.UTC)

func main() {
	var d demo
	kong.Parse(&d, kong.Name("demo"), kong.Description("Show the main job on a simulated cloud: nothing to set up, "+
		"under a minute."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := d.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run tells the story, and then shows what is protected.
func (d demo) run(ctx context.Context) error {
	show := newShow(os.Stdout, !d.Plain && term.IsTerminal(int(os.Stdout.Fd())))
	began := time.Now()
	box := &world.Mailbox{}
	w, err := world.New(ctx, world.Options{
		Start: demoStart,
		Environ: []string{
			"STAFFELN_BACKUP_PERIOD=daily@02:30", "STAFFELN_CLASS_GOLD_PERIOD=6h", "STAFFELN_CLASS_GOLD_RETENTION_TIME=4w",
			"STAFFELN_RETENTION_TIME=2d", "STAFFELN_FULL_BACKUP_DEPTH=1", "STAFFELN_RECONCILE_PERIOD=10m",
			"STAFFELN_BACKUPS_PERIOD=1h",
		},
		Cloud: simcloud.Options{
			BackupTime: func(v simcloud.Volume, incremental bool) time.Duration {
				if incremental {
					return 4 * time.Minute
				}
				return time.Duration(10+5*v.Size) * time.Minute
			},
			Quota: &simcloud.Quota{Volumes: 100, Gigabytes: 10000, Backups: 60, BackupGigabytes: 10000},
		},
		Log:  slog.New(show),
		Mail: box,
	})
	if err != nil {
		return err
	}
	defer w.Close()
	show.world = w
	s := story{ctx: ctx, w: w, show: show}

	s.say("A small cloud: projects alpha, beta and gamma, twelve servers, fourteen volumes. Nine servers have backup=yes.")
	s.say("Backups stay for two days, those of class gold for four weeks. At six, each owner gets a digest.")
	s.say("gamma may have two backups, and has four volumes to protect. db-1-scratch has skip-volume-backup=true.")
	s.pass(40 * time.Minute)
	s.say("alice sets backup=yes on batch-1, and bob tags test-1 with backup:gold.")
	w.Cloud.SetServerMetadata(w.Seeded.Servers["batch-1"], map[string]string{"backup": "yes"})
	w.Cloud.SetServerTags(w.Seeded.Servers["test-1"], "backup:gold")
	s.pass(30 * time.Minute)
	s.say("alice attaches a new volume to web-1.")
	fresh := w.Cloud.AddVolume(w.Seeded.Projects["alpha"], "web-1-uploads", 2, nil)
	w.Cloud.Attach(w.Seeded.Servers["web-1"], fresh)
	s.pass(5 * time.Hour)

	s.say("Tonight Cinder will fail a backup of app-1-logs once, and two of mail-1-data. It tells nobody of failures.")
	w.Cloud.FailNextBackup(w.Seeded.Volumes["app-1-logs"], "rados: connection timed out")
	for range 2 {
		w.Cloud.FailNextBackup(w.Seeded.Volumes["mail-1-data"], "rados: no space left on device")
	}
	s.pass(24 * time.Hour)

	s.say("Redis loses everything.")
	if err := w.Empty(ctx); err != nil {
		return err
	}
	s.pass(time.Hour)
	s.say("Notifications are switched off. carol's quota is raised to fifty, and bob takes backup:gold off test-1.")
	w.Cloud.SetNotifications(simcloud.Silent)
	w.Cloud.SetQuota(w.Seeded.Projects["gamma"],
		simcloud.Quota{Volumes: 100, Gigabytes: 10000, Backups: 50, BackupGigabytes: 10000})
	w.Cloud.SetServerTags(w.Seeded.Servers["test-1"])
	s.pass(3 * 24 * time.Hour)
	if s.err != nil {
		return s.err
	}
	show.end()
	fmt.Fprintf(os.Stdout, "\n%s in %s. What is protected, and how:\n\n", "Five days",
		time.Since(began).Round(100*time.Millisecond))
	if err := table(ctx, os.Stdout, w); err != nil {
		return err
	}
	dir, n, err := digests(box, d.Out)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "\nThe owners were sent %d digests. They are in %s, to be looked at in a browser.\n", n, dir)
	return nil
}

// digests writes the letters' HTML into a directory, "" for a new one, a file for
// each project and day.
func digests(box *world.Mailbox, dir string) (string, int, error) {
	var err error
	if dir == "" {
		dir, err = os.MkdirTemp("", "staffeln-digests-")
	} else {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return "", 0, err
	}
	written := map[string]bool{}
	for _, l := range box.Letters() {
		project, _, _ := strings.Cut(l.Subject, ":")
		file := fmt.Sprintf("%s-%s.html", project, l.Letter.At.Format("2006-01-02"))
		if written[file] {
			continue // several people got the same
		}
		written[file] = true
		if err := os.WriteFile(filepath.Join(dir, file), []byte(l.HTML), 0o644); err != nil {
			return "", 0, err
		}
	}
	return dir, len(written), nil
}

// A story moves the demonstration on, until something goes wrong.
type story struct {
	ctx  context.Context
	w    *world.World
	show *show
	err  error
}

func (s *story) say(words string) {
	if s.err == nil {
		s.show.say(words)
	}
}

// pass lets time pass, in short steps while anything is under way.
func (s *story) pass(d time.Duration) {
	end := s.w.Now().Add(d)
	for s.err == nil && s.w.Now().Before(end) {
		step := 2 * time.Minute
		if s.show.idle() {
			step = 5 * time.Minute
		}
		s.err = s.w.Step(s.ctx, min(step, end.Sub(s.w.Now())))
		s.show.draw()
	}
}

// A show tells what the functions log, in the names of things.
type show struct {
	mu    sync.Mutex
	out   io.Writer
	live  bool
	world *world.World
	open  map[string]string // under way: run to a line about it
	drawn int
}

func newShow(out io.Writer, live bool) *show {
	return &show{out: out, live: live, open: map[string]string{}}
}

// Enabled implements [slog.Handler].
func (s *show) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

// WithAttrs implements [slog.Handler]; the function's name is not shown.
func (s *show) WithAttrs([]slog.Attr) slog.Handler { return s }

// WithGroup implements [slog.Handler].
func (s *show) WithGroup(string) slog.Handler { return s }

// Handle implements [slog.Handler].
func (s *show) Handle(_ context.Context, r slog.Record) error {
	if s.world == nil {
		return nil // connecting
	}
	a := map[string]string{}
	r.Attrs(func(at slog.Attr) bool { a[at.Key] = at.Value.String(); return true })
	volume, server := a["volume"], a["server"]
	if v, ok := s.world.Cloud.Volume(volume); ok {
		volume = v.Name
	}
	if v, ok := s.world.Cloud.Server(server); ok {
		server = v.Name
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	mark, what := "·", r.Message
	switch r.Message {
	case "backup started":
		s.open[a["run"]] = fmt.Sprintf("%s (%s)", volume, a["kind"])
		mark, what = "▸", a["kind"]+" backup started"
	case "backup complete":
		delete(s.open, a["run"])
		mark = "✔"
	case "run failed":
		delete(s.open, a["run"])
		mark = "✘"
	case "attempt failed, another follows":
		delete(s.open, a["run"])
		mark = "↻"
	case "digest told":
		s.line(fmt.Sprintf("%s ✉ digest to %s: %s", s.world.Now().Format("Mon 15:04"), people(a["people"]), a["subject"]))
		return nil
	case "digest made":
		return nil
	case "volume overdue", "last-backup-time not written":
		return nil
	}
	subject, why := volume, a["why"]
	if subject == "" {
		subject = server
	}
	if r.Message == "ledger rebuilt" {
		why = "reconcile read everything again from Nova and Cinder"
	}
	if why == "" {
		return nil
	}
	s.line(fmt.Sprintf("%s %s %-15s %s: %s", s.world.Now().Format("Mon 15:04"), mark, subject, what, why))
	return nil
}

func people(n string) string {
	if n == "1" {
		return "one person"
	}
	return n + " people"
}

func (s *show) say(words string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line("")
	s.line("── " + words)
}

// line writes above the live part.
func (s *show) line(text string) {
	s.erase()
	fmt.Fprintln(s.out, text)
}

func (s *show) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open) == 0
}

// draw writes the live part: the time, and what is under way.
func (s *show) draw() {
	if !s.live {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	var under []string
	for _, what := range s.open {
		under = append(under, what)
	}
	slices.Sort(under)
	bar := strings.Repeat("█", min(len(under), 30))
	text := fmt.Sprintf("%s  %d under way %s %s", s.world.Now().Format("Mon 15:04"), len(under), bar,
		strings.Join(under, ", "))
	if width, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil {
		text = backup.Line(text, width-1)
	}
	fmt.Fprint(s.out, text)
	s.drawn = 1
	time.Sleep(8 * time.Millisecond) // for the eye
}

func (s *show) erase() {
	if s.drawn > 0 {
		fmt.Fprint(s.out, "\r\x1b[K")
		s.drawn = 0
	}
}

func (s *show) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
}

// table writes what is protected and how, from Cinder's truth and the ledger's.
func table(ctx context.Context, out io.Writer, w *world.World) error {
	backups := map[string][]simcloud.Backup{}
	for _, b := range w.Cloud.Backups() {
		if b.Deleted.IsZero() && b.Status == "available" {
			backups[b.Volume] = append(backups[b.Volume], b)
		}
	}
	protected := map[string]backup.Protected{}
	failed := map[string]backup.Run{}
	for shard := range w.Home.Ledger.Shards() {
		volumes, err := w.Home.Ledger.Volumes(ctx, shard)
		if err != nil {
			return err
		}
		for _, v := range volumes {
			protected[v.Volume] = v
		}
	}
	projects := map[string]string{}
	for name, id := range w.Seeded.Projects {
		projects[id] = name
		runs, err := w.Home.Ledger.Finished(ctx, id, 1000)
		if err != nil {
			return err
		}
		for _, r := range runs {
			if r.State == backup.Failed && r.Ended.After(failed[r.Volume].Ended) {
				failed[r.Volume] = r
			}
		}
	}
	row := func(cells ...any) { fmt.Fprintf(out, "%-7s %-9s %-14s %-9s %5s %5s  %-16s %s\n", cells...) }
	row("PROJECT", "SERVER", "VOLUME", "POLICY", "FULL", "INCR", "NEWEST", "REMARK")
	volumes := w.Cloud.Volumes()
	slices.SortFunc(volumes, func(a, b simcloud.Volume) int {
		return strings.Compare(projects[a.Project]+a.Name, projects[b.Project]+b.Name)
	})
	for _, v := range volumes {
		server, policy, newest, remark := "", "-", "-", ""
		for _, id := range v.Servers {
			if s, ok := w.Cloud.Server(id); ok {
				server = s.Name
			}
		}
		full, incremental := 0, 0
		var last time.Time
		for _, b := range backups[v.ID] {
			if b.Parent == "" {
				full++
			} else {
				incremental++
			}
			if b.Created.After(last) {
				last, newest = b.Created, b.Created.Format("Mon 02 Jan 15:04")
			}
		}
		if p, ok := protected[v.ID]; ok {
			policy = w.Policies().Strictest(p.Enrolments, w.Now()).Class
			remark = p.Skip
			if f, ok := failed[v.ID]; ok && f.Ended.After(last) {
				remark = f.Why
			} else if ok && remark == "" {
				remark = "failed " + f.Ended.Format("Mon 15:04") + ": " + f.Why
			}
		} else {
			remark = "not protected"
		}
		row(projects[v.Project], server, v.Name, policy, fmt.Sprint(full), fmt.Sprint(incremental), newest, remark)
	}
	if len(w.Errors) > 0 {
		return errors.Join(w.Errors[max(0, len(w.Errors)-5):]...)
	}
	return nil
}
