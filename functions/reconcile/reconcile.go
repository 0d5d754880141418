// Package reconcile makes the ledger equal to what Nova and Cinder say, by complete
// lists: what notifications had missed, and everything after Redis was lost. It is
// what correctness rests on; notifications only make things faster.
//
// Set off by: the tick "reconcile", which comes often and mostly finds that it is
// too early: the work is done once in a period, at once after the ledger was found
// empty, and at once when asked for.
package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"staffeln/events"
	"staffeln/functions/backup"
)

// Ledger is what reconcile needs of our own memory.
type Ledger interface {
	Shards() int
	Shard(project string) int
	Claim(ctx context.Context, name string, ttl time.Duration) (bool, error)
	// LastReconciled is when the last pass ended; ok is false where a shard has none.
	LastReconciled(ctx context.Context) (at time.Time, ok bool, err error)
	Reconciled(ctx context.Context, at time.Time) error
	// AskReconcile asks for another pass at once; Asked counts how often that was done.
	AskReconcile(ctx context.Context) error
	Asked(ctx context.Context) (int64, error)
	// Mark and Marked remember when something was last done.
	Mark(ctx context.Context, what string, at time.Time) error
	Marked(ctx context.Context, what string) (at time.Time, ok bool, err error)
	// Total remembers a number for the metrics of every process.
	Total(ctx context.Context, what string, n int) error
	Servers
	Backups
}

// Servers is the part of the ledger about what is protected.
type Servers interface {
	TicketsAll(ctx context.Context) ([]int64, error)
	Enrolments(ctx context.Context, shard int) ([]backup.Enrolment, error)
	Volumes(ctx context.Context, shard int) ([]backup.Protected, error)
	Enroll(ctx context.Context, ticket int64, e backup.Enrolment, volumes []backup.Protected, now time.Time) (backup.Change, error)
	Withdraw(ctx context.Context, ticket int64, project, server string, now time.Time) (backup.Change, error)
	// Missing counts how often in a row something was confirmed to be gone.
	Missing(ctx context.Context, project, what string, now time.Time) (times int, err error)
	Present(ctx context.Context, project, what string) error
	// OweStamp notes a time of a backup that a server has not been told.
	OweStamp(ctx context.Context, d backup.StampDue, at time.Time) error
	SetDue(ctx context.Context, project, volume string, at time.Time) error
}

// Backups is the part of the ledger about runs and what came of them.
type Backups interface {
	Runs(ctx context.Context, shard int) ([]backup.Run, error)
	Restore(ctx context.Context, run backup.Run, look time.Time) (bool, error)
	Raise(ctx context.Context, project, volume string, s backup.State) error
	KeepLeases(ctx context.Context, runs []backup.Run) error
	PutRecords(ctx context.Context, project string, records []backup.Record) error
	Records(ctx context.Context, project string) ([]backup.Record, error)
	DropRecords(ctx context.Context, project string, ids []string) error
	Projects(ctx context.Context, shard int) ([]string, error)
	Discard(ctx context.Context, d backup.Discard, at time.Time) error
	Watch(ctx context.Context, run backup.Run, at time.Time) error
	// Retention is what is being removed in a project, and was meant to be.
	Retention(ctx context.Context, project string) (backup.Retention, error)
	// SetForeign remembers the backups of a project that carry our metadata and do not
	// count as ours; Foreigns are those of a shard's projects.
	SetForeign(ctx context.Context, project string, all []backup.Foreign) error
	Foreigns(ctx context.Context, shard int) (map[string][]backup.Foreign, error)
}

// Cloud is what reconcile needs of OpenStack.
type Cloud interface {
	// Scopes are what the complete lists are asked for: "" alone with an admin's
	// rights, else the projects one by one.
	Scopes(ctx context.Context) ([]string, error)
	// Servers, Volumes and Backups are complete lists, or errors.
	Servers(ctx context.Context, scope string) ([]backup.Server, error)
	Volumes(ctx context.Context, scope string) ([]backup.Volume, error)
	Backups(ctx context.Context, scope string) ([]backup.CinderBackup, error)
	Server(ctx context.Context, project, id string) (backup.Server, error)
	Volume(ctx context.Context, project, id string) (backup.Volume, error)
	Backup(ctx context.Context, project, id string) (backup.CinderBackup, error)
	Project(ctx context.Context, id string) (p backup.Project, included bool, err error)
}

// Settings are the operator's.
type Settings struct {
	Classes backup.Classes
	Keys    backup.Keys
	// Period is how often servers and volumes are compared, BackupsPeriod how often
	// the complete list of backups is: it is the longest of all.
	Period, BackupsPeriod time.Duration
	// StampKey is the server metadata key that the time of the newest backup is
	// written to.
	StampKey string
	// DeadlineBase and DeadlinePerGiB say when a backup is given up on.
	DeadlineBase, DeadlinePerGiB time.Duration
}

// Function is reconcile, ready to run.
type Function struct {
	Ledger   Ledger
	Cloud    Cloud
	Settings Settings
	Log      *slog.Logger
	// Count counts what happened; see the metrics.
	Count func(name string, n float64, labels ...string)
}

// tryAgain is how long a pass may take before another process may begin one, and
// how soon a pass that failed is repeated.
const tryAgain = time.Minute

// The marks of reconcile: when all backups were last read, and since when the ledger is
// being rebuilt; zero where it is whole.
const (
	backupsMark = "backups"
	rebuildMark = "rebuild"
)

// Reconcile handles the tick.
func (f *Function) Reconcile(ctx context.Context, t events.Tick) error {
	last, ok, err := f.Ledger.LastReconciled(ctx)
	if err != nil {
		return err
	}
	// A last pass in the future was one of a clock that was wrong.
	if ok && t.At.Before(last.Add(f.Settings.Period)) && !last.After(t.At) {
		return nil
	}
	asked, err := f.Ledger.Asked(ctx)
	if err != nil {
		return err
	}
	claim := fmt.Sprintf("reconcile/%d/%d/%d", last.Unix(), asked, t.At.Truncate(min(tryAgain, f.Settings.Period)).Unix())
	if mine, err := f.Ledger.Claim(ctx, claim, tryAgain); err != nil || !mine {
		return err
	}
	began := t.At
	sweep, swept, err := f.backupsDue(ctx, ok, t.At)
	if err != nil {
		return err
	}
	rebuild, err := f.rebuilding(ctx, ok, began)
	if err != nil {
		return err
	}
	known, err := f.read(ctx)
	if err != nil {
		return err
	}
	scopes, err := f.Cloud.Scopes(ctx)
	if err != nil {
		return fmt.Errorf("which projects there are: %w", err)
	}
	var errs []error
	done := 0
	servers := 0
	for _, name := range scopes {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s, err := f.list(ctx, name, sweep || rebuild, rebuild)
		if err == nil {
			err = f.compare(ctx, s, known, began)
		}
		if err != nil {
			// One project's trouble is not another's.
			errs = append(errs, fmt.Errorf("scope %q: %w", name, err))
			continue
		}
		done++
		servers += len(s.servers)
	}
	if done == 0 && len(errs) > 0 {
		return errors.Join(errs...)
	}
	if err := f.after(ctx, began); err != nil {
		errs = append(errs, err)
	}
	at := began
	switch {
	case len(errs) > 0:
		// What could be compared counts; the rest is tried again soon.
		at = began.Add(min(tryAgain, f.Settings.Period) - f.Settings.Period)
	case sweep || rebuild:
		// One that was asked for since the lists were read is still to come.
		if now, _, err := f.Ledger.Marked(ctx, backupsMark); err != nil {
			errs = append(errs, err)
		} else if now.Equal(swept) {
			errs = append(errs, f.Ledger.Mark(ctx, backupsMark, began))
		}
		if rebuild {
			errs = append(errs, f.Ledger.Mark(ctx, rebuildMark, time.Time{}))
		}
	}
	if err := f.Ledger.Reconciled(ctx, at); err != nil {
		return errors.Join(append(errs, err)...)
	}
	// Asked for since the lists were read: they may lack what was asked for.
	if again, err := f.Ledger.Asked(ctx); err != nil || again != asked {
		errs = append(errs, err, f.Ledger.AskReconcile(ctx))
	}
	if !ok {
		f.Log.InfoContext(ctx, "ledger rebuilt", "scopes", done, "servers", servers)
	}
	return errors.Join(errs...)
}

// backupsDue says whether this pass reads the complete list of backups too, and when
// one last did.
func (f *Function) backupsDue(ctx context.Context, whole bool, now time.Time) (due bool, last time.Time, err error) {
	last, ok, err := f.Ledger.Marked(ctx, backupsMark)
	due = !whole || f.Settings.BackupsPeriod <= f.Settings.Period ||
		!ok || !now.Before(last.Add(f.Settings.BackupsPeriod)) || last.After(now)
	return due, last, err
}

// longAgo is how far back [AskBackups] sets when the backups were last read.
const longAgo = 10 * 365 * 24 * time.Hour

// AskBackups asks for another pass at once that reads the complete list of backups too.
// The mark that it leaves names the moment of asking, though ten years early: a pass
// that is under way sees by it that it was asked for anew.
func AskBackups(ctx context.Context, l interface {
	Mark(ctx context.Context, what string, at time.Time) error
	AskReconcile(ctx context.Context) error
}, now time.Time) error {
	if err := l.Mark(ctx, backupsMark, now.Add(-longAgo)); err != nil {
		return err
	}
	return l.AskReconcile(ctx)
}

// rebuilding says whether this pass rebuilds the ledger: it was found empty, or the
// passes since then have not got everywhere. Then only backups tell which servers a
// locked class holds. What keeps failing for a day is not waited for: until then an
// owner whose opting out has come into force would be held again.
func (f *Function) rebuilding(ctx context.Context, whole bool, now time.Time) (bool, error) {
	switch {
	case !f.Settings.Classes.Locked():
		return false, nil
	case !whole:
		return true, f.Ledger.Mark(ctx, rebuildMark, now)
	}
	since, ok, err := f.Ledger.Marked(ctx, rebuildMark)
	return ok && !since.IsZero() && now.Before(since.AddDate(0, 0, 1)), err
}

// known is what the ledger says.
type known struct {
	tickets    []int64
	enrolments map[string]backup.Enrolment // by server
	volumes    map[string]backup.Protected // by volume
	runs       map[string]backup.Run       // open ones, by volume
}

func (f *Function) read(ctx context.Context) (*known, error) {
	k := &known{enrolments: map[string]backup.Enrolment{}, volumes: map[string]backup.Protected{}, runs: map[string]backup.Run{}}
	var err error
	// Before the cloud is read: what a notification writes meanwhile is newer.
	if k.tickets, err = f.Ledger.TicketsAll(ctx); err != nil {
		return nil, err
	}
	for shard := range f.Ledger.Shards() {
		enrolments, err := f.Ledger.Enrolments(ctx, shard)
		if err != nil {
			return nil, err
		}
		for _, e := range enrolments {
			k.enrolments[e.Server] = e
		}
		volumes, err := f.Ledger.Volumes(ctx, shard)
		if err != nil {
			return nil, err
		}
		for _, v := range volumes {
			k.volumes[v.Volume] = v
		}
		runs, err := f.Ledger.Runs(ctx, shard)
		if err != nil {
			return nil, err
		}
		for _, r := range runs {
			k.runs[r.Volume] = r
		}
	}
	return k, nil
}

// scope is what the cloud says of all projects or of one.
type scope struct {
	project string // "" for all
	servers []backup.Server
	volumes map[string]backup.Volume
	backups []backup.CinderBackup
	swept   bool
	// enrolled are the servers found to be opted in, newest what their volumes'
	// newest restore points are, as far as seen in this pass.
	enrolled map[string]backup.Enrolment
	newest   map[string]time.Time
	// trails are how volumes were protected, where the ledger does not know; else nil.
	trails map[string]backup.Trail
}

func (f *Function) list(ctx context.Context, project string, sweep, rebuild bool) (*scope, error) {
	s := &scope{project: project, volumes: map[string]backup.Volume{}, swept: sweep,
		enrolled: map[string]backup.Enrolment{}, newest: map[string]time.Time{}}
	var err error
	if s.servers, err = f.Cloud.Servers(ctx, project); err != nil {
		return nil, err
	}
	volumes, err := f.Cloud.Volumes(ctx, project)
	if err != nil {
		return nil, err
	}
	for _, v := range volumes {
		s.volumes[v.ID] = v
	}
	if sweep {
		s.backups, err = f.Cloud.Backups(ctx, project)
	}
	if rebuild {
		s.trails = backup.Trails(s.backups)
	}
	return s, err
}

// compare repairs what differs between a scope and the ledger.
func (f *Function) compare(ctx context.Context, s *scope, k *known, now time.Time) error {
	var errs []error
	present := map[string]bool{}
	for _, server := range s.servers {
		present[server.ID] = true
		if err := f.server(ctx, server, s, k, now); err != nil {
			errs = append(errs, fmt.Errorf("server %s: %w", server.ID, err))
		}
	}
	for id, e := range k.enrolments {
		if present[id] || s.project != "" && e.Project != s.project {
			continue
		}
		if err := f.absent(ctx, e, s, k, now); err != nil {
			errs = append(errs, fmt.Errorf("server %s: %w", id, err))
		}
	}
	if s.swept {
		errs = append(errs, f.backups(ctx, s, k, now))
	}
	for _, server := range s.servers {
		errs = append(errs, f.owed(ctx, server, s, k, now))
	}
	return errors.Join(errs...)
}

// owed notes the time of its newest backup for a server that does not show it: the
// stamp was lost with Redis, or somebody took it away.
func (f *Function) owed(ctx context.Context, server backup.Server, s *scope, k *known, now time.Time) error {
	var newest time.Time
	for _, v := range s.enrolled[server.ID].Volumes {
		for _, at := range []time.Time{k.volumes[v].State.LastComplete, s.newest[v]} {
			if at.After(newest) {
				newest = at
			}
		}
	}
	shown, err := time.Parse(time.RFC3339, server.Metadata[f.Settings.StampKey])
	if newest.IsZero() || err == nil && !shown.Before(newest.Truncate(time.Second)) {
		return nil
	}
	return f.Ledger.OweStamp(ctx, backup.StampDue{Server: server.ID, Project: server.Project, At: newest}, now)
}

func (f *Function) server(ctx context.Context, server backup.Server, s *scope, k *known, now time.Time) error {
	before, enrolled := k.enrolments[server.ID]
	wish := backup.ReadWish(server.Metadata, server.Tags, f.Settings.Keys, f.Settings.Classes)
	remembered := backup.Remembered{Enrolment: before, Enrolled: enrolled, Volumes: k.volumes, Trails: s.trails}
	decision := f.Settings.Classes.Decide(server, wish, remembered, f.Settings.Keys, now)
	if wish = decision.Wish; !wish.In {
		if !decision.Withdraw {
			return nil
		}
		return f.withdraw(ctx, before, k, wish.Why, now)
	}
	for _, id := range server.Volumes {
		if _, ok := s.volumes[id]; ok {
			continue
		}
		// Not in the list: asked for by its id, since a list can be older than the server's.
		v, err := f.Cloud.Volume(ctx, server.Project, id)
		switch {
		case err == nil:
			s.volumes[id] = v
		case backup.FaultOf(err) != backup.Gone:
			return err
		}
	}
	e, protected, missing, tried := f.Settings.Classes.Enrol(decision, server, s.volumes, remembered, f.Settings.Keys, now)
	s.enrolled[server.ID] = e
	for _, v := range missing {
		f.Log.WarnContext(ctx, "volume not protected", "project", server.Project, "server", server.ID, "volume", v, "why", "not found in the server's project")
	}
	same := enrolled && e.SameAs(before)
	for _, p := range protected {
		same = same && p.SameFacts(k.volumes[p.Volume])
	}
	if same {
		return nil
	}
	change, err := f.Ledger.Enroll(ctx, k.tickets[f.Ledger.Shard(e.Project)], e, protected, now)
	if err != nil || change.Stale {
		return err
	}
	if decision.First {
		f.Count("lock_attempts_total", 1, "server")
		f.Log.WarnContext(ctx, "attempt on a locked class", "project", e.Project, "server", e.Server, "class", e.Class, "why", wish.Why)
	}
	for _, v := range tried {
		f.Count("lock_attempts_total", 1, "volume")
		f.Log.WarnContext(ctx, "attempt on a locked class", "project", e.Project, "server", e.Server, "volume", v.Volume, "class", e.Class, "why", v.Attempt.Why)
	}
	if change.Same {
		return nil
	}
	if !enrolled {
		f.Count("reconcile_missed_total", 1, "server enrolled")
	}
	f.Log.InfoContext(ctx, "server enrolled", "project", e.Project, "server", e.Server, "class", e.Class, "volumes", len(e.Volumes),
		"protected", change.Protected, "unprotected", change.Unprotected, "problems", e.Problems, "why", "reconcile: "+wish.Why)
	return nil
}

// absent handles a server that the list does not show: Nova can answer without a
// whole cell. It is withdrawn when it was asked for directly and not found, in two
// passes.
func (f *Function) absent(ctx context.Context, e backup.Enrolment, s *scope, k *known, now time.Time) error {
	server, err := f.Cloud.Server(ctx, e.Project, e.Server)
	switch {
	case err == nil:
		f.Log.WarnContext(ctx, "the list of servers was short", "project", e.Project, "server", e.Server)
		if err := f.Ledger.Present(ctx, e.Project, e.Server); err != nil {
			return err
		}
		if server.Project == "" {
			server.Project = e.Project
		}
		if _, included, err := f.Cloud.Project(ctx, e.Project); err == nil && !included {
			return f.withdraw(ctx, e, k, "its project is excluded", now)
		}
		return f.server(ctx, server, s, k, now)
	case backup.FaultOf(err) != backup.Gone:
		return err
	}
	times, err := f.Ledger.Missing(ctx, e.Project, e.Server, now)
	if err != nil || times < 2 {
		return err
	}
	return f.withdraw(ctx, e, k, "deleted", now)
}

func (f *Function) withdraw(ctx context.Context, e backup.Enrolment, k *known, why string, now time.Time) error {
	change, err := f.Ledger.Withdraw(ctx, k.tickets[f.Ledger.Shard(e.Project)], e.Project, e.Server, now)
	if err != nil || change.Stale || change.Same {
		return err
	}
	if e.Attempt.None() { // the end of a lock is told by nobody
		f.Count("reconcile_missed_total", 1, "server withdrawn")
	}
	f.Log.InfoContext(ctx, "server withdrawn", "project", e.Project, "server", e.Server, "unprotected", change.Unprotected, "why", "reconcile: "+why)
	return nil
}

// backups makes the ledger know what was made: from each backup's own metadata,
// which hold everything there is to know.
func (f *Function) backups(ctx context.Context, s *scope, k *known, now time.Time) error {
	records := map[string][]backup.Record{}
	listed := map[string]bool{}
	state := map[string]backup.State{}
	project := map[string]string{}
	foreign := map[string][]backup.Foreign{}
	var errs []error
	for _, b := range s.backups {
		if b.Foreign() && len(foreign[b.Project]) < mostForeign {
			foreign[b.Project] = append(foreign[b.Project], backup.ForeignOf(b))
		}
		listed[b.ID] = true
		if !b.Ours() {
			continue
		}
		records[b.Project] = append(records[b.Project], backup.RecordOf(b))
		slot, attempt, ok := b.Run()
		if !ok {
			continue
		}
		open, isOpen := k.runs[b.Volume]
		mine := isOpen && (open.Backup == b.ID || open.Backup == "" && open.Slot.Equal(slot))
		switch b.Status {
		case "available", "restoring":
			if mine {
				break // track closes it, with all that belongs to it
			}
			st := state[b.Volume]
			if slot.After(st.LastSlot) && !slot.After(now) { // not one that a wrong clock planned
				st.LastSlot = slot
			}
			if b.Created.After(st.LastComplete) {
				st.LastComplete = b.Created
			}
			state[b.Volume], project[b.Volume] = st, b.Project
		case "creating":
			if !isOpen {
				errs = append(errs, f.restore(ctx, b, slot, attempt, k, now))
			}
		case "error":
			if !mine {
				errs = append(errs, f.Ledger.Discard(ctx, backup.Discard{Backup: b.ID, Project: b.Project}, now))
			}
		}
	}
	for p, rs := range records {
		errs = append(errs, f.Ledger.PutRecords(ctx, p, rs))
	}
	for v, st := range state {
		s.newest[v] = st.LastComplete
		errs = append(errs, f.Ledger.Raise(ctx, project[v], v, st))
	}
	return errors.Join(append(errs, f.forget(ctx, s, listed, now), f.foreign(ctx, s, foreign))...)
}

// mostForeign bounds what is remembered of a project's foreign backups.
const mostForeign = 200

// foreign remembers the backups that carry our metadata and do not count as ours, and
// tells the operator of each project where one has come.
func (f *Function) foreign(ctx context.Context, s *scope, found map[string][]backup.Foreign) error {
	known := map[string][]backup.Foreign{}
	for shard := range f.Ledger.Shards() {
		if s.project != "" && shard != f.Ledger.Shard(s.project) {
			continue
		}
		all, err := f.Ledger.Foreigns(ctx, shard)
		if err != nil {
			return err
		}
		for project, backups := range all {
			if s.project == "" || project == s.project {
				known[project] = backups
			}
		}
	}
	var errs []error
	for project := range known {
		if len(found[project]) == 0 {
			errs = append(errs, f.Ledger.SetForeign(ctx, project, nil))
		}
	}
	for project, backups := range found {
		slices.SortFunc(backups, func(a, b backup.Foreign) int { return cmp.Compare(a.Backup, b.Backup) })
		if slices.Equal(backups, known[project]) {
			continue
		}
		errs = append(errs, f.Ledger.SetForeign(ctx, project, backups))
		for _, b := range backups {
			if slices.ContainsFunc(known[project], func(k backup.Foreign) bool { return k.Backup == b.Backup && k.Origin == b.Origin }) {
				continue
			}
			todo := "somebody uses the credentials of a member of the project, or copies backups with their metadata"
			if b.Origin == backup.OriginUnverified {
				todo = "let the service user see who made backups (infra/cinder), or run: staffeln adopt"
			}
			f.Log.WarnContext(ctx, "a backup with our metadata does not count as ours", "project", project, "volume", b.Volume, "backup", b.Backup,
				"origin", b.Origin, "maker", b.Maker, "why", b.Why(), "todo", todo)
		}
	}
	return errors.Join(errs...)
}

// restore makes a run of a backup that is under way and that the ledger has lost.
func (f *Function) restore(ctx context.Context, b backup.CinderBackup, slot time.Time, attempt int, k *known, now time.Time) error {
	kind := backup.Full
	if b.Incremental {
		kind = backup.Incremental
	}
	r := backup.Run{
		Volume: b.Volume, Project: b.Project, Slot: slot, Attempt: attempt, Kind: kind, State: backup.Running, Backup: b.ID,
		Started: b.Created, Deadline: backup.Deadline(b.Created, b.Size, f.Settings.DeadlineBase, f.Settings.DeadlinePerGiB),
		Size: b.Size, Class: b.Metadata[backup.MetaClass], ServerName: b.Metadata[backup.MetaServerName],
		VolumeName: k.volumes[b.Volume].Name, Why: "found in Cinder",
	}
	if server := b.Metadata[backup.MetaServer]; server != "" {
		r.Servers = []string{server}
	}
	restored, err := f.Ledger.Restore(ctx, r, now)
	if err == nil && restored {
		f.Count("backups_adopted_total", 1)
		f.Log.InfoContext(ctx, "backup adopted", "project", r.Project, "volume", r.Volume, "backup", r.Backup, "run", r.ID(), "why", "reconcile: "+r.Why)
	}
	return err
}

// mostForgotten bounds the direct questions of one pass about backups that a list
// no longer shows.
const mostForgotten = 200

// forget drops the records of backups that are gone: not in a complete list, and
// not found by their id, in two passes. It tells of restore points that somebody
// else removed.
func (f *Function) forget(ctx context.Context, s *scope, listed map[string]bool, now time.Time) error {
	projects := []string{s.project}
	if s.project == "" {
		projects = nil
		for shard := range f.Ledger.Shards() {
			more, err := f.Ledger.Projects(ctx, shard)
			if err != nil {
				return err
			}
			projects = append(projects, more...)
		}
	}
	asked := 0
	var errs []error
	for _, p := range projects {
		records, err := f.Ledger.Records(ctx, p)
		if err != nil {
			return err
		}
		var gone []backup.Record
		for _, r := range records {
			if listed[r.ID] || asked >= mostForgotten {
				continue
			}
			asked++
			switch _, err := f.Cloud.Backup(ctx, p, r.ID); {
			case err == nil:
			case backup.FaultOf(err) != backup.Gone:
				errs = append(errs, err)
			default:
				if times, err := f.Ledger.Missing(ctx, p, r.ID, now); err != nil {
					errs = append(errs, err)
				} else if times >= 2 {
					gone = append(gone, r)
				}
			}
		}
		if len(gone) > 0 {
			errs = append(errs, f.drop(ctx, p, gone))
		}
	}
	return errors.Join(errs...)
}

// drop forgets backups of a project that are gone.
func (f *Function) drop(ctx context.Context, project string, gone []backup.Record) error {
	removals, err := f.Ledger.Retention(ctx, project)
	if err != nil {
		return err
	}
	var ids []string
	lost := 0
	for _, r := range gone {
		ids = append(ids, r.ID)
		if !whole(r.Status) || meant(removals, r.ID) {
			continue
		}
		lost++
		f.Log.ErrorContext(ctx, "a restore point is gone that we did not remove", "project", project, "volume", r.Volume, "backup", r.ID,
			"why", fmt.Sprintf("somebody else has removed the backup of %s", r.Created.UTC().Format(time.RFC3339)))
	}
	if err := f.Ledger.DropRecords(ctx, project, ids); err != nil {
		return err
	}
	f.Count("backups_lost_total", float64(lost))
	f.Log.InfoContext(ctx, "backups are gone", "project", project, "backups", len(gone), "lost", lost)
	return nil
}

// whole says whether a backup last seen so was a restore point: broken ones are
// removed by track, too, and one seen being deleted when the ledger was rebuilt may
// have been so by us.
func whole(status string) bool { return status == "available" || status == "restoring" }

// meant says whether retention was removing a backup, or about to.
func meant(r backup.Retention, id string) bool {
	removal, ok := r.Removals[id]
	return ok && (!removal.Asked.IsZero() || r.Held == "" && removal.Trouble == "")
}

// after puts right what follows from the whole: when each volume is due by the
// policies of now, who holds a place among the runs under way, and who is past its
// promise.
func (f *Function) after(ctx context.Context, now time.Time) error {
	var open []backup.Run
	protected, overdue := 0, 0
	var errs []error
	for shard := range f.Ledger.Shards() {
		runs, err := f.Ledger.Runs(ctx, shard)
		if err != nil {
			return err
		}
		open = append(open, runs...)
		volumes, err := f.Ledger.Volumes(ctx, shard)
		if err != nil {
			return err
		}
		busy := map[string]bool{}
		for _, r := range runs {
			busy[r.Volume] = true
		}
		for _, v := range volumes {
			protected++
			p := f.Settings.Classes.Strictest(v.Enrolments, now)
			deadline := f.Settings.DeadlineBase + time.Duration(v.Size)*f.Settings.DeadlinePerGiB
			if late, why := backup.Overdue(p, v, deadline, now); late {
				overdue++
				f.Log.WarnContext(ctx, "volume overdue", "project", v.Project, "volume", v.Volume, "why", why)
			}
			turn := backup.WhoseTurn(p, v.Volume, v.State, now)
			at := turn.Next
			if turn.Now {
				at = now
			}
			waiting := v.State.Waiting.Equal(turn.Slot) || v.State.Retry.Equal(turn.Slot)
			if !busy[v.Volume] && !waiting && v.Skip == "" && (v.State.Due.IsZero() || v.State.Due.After(at)) {
				errs = append(errs, f.Ledger.SetDue(ctx, v.Project, v.Volume, at))
			}
		}
	}
	errs = append(errs, f.Ledger.Total(ctx, "protected", protected), f.Ledger.Total(ctx, "overdue", overdue), f.countForeign(ctx))
	slices.SortFunc(open, func(a, b backup.Run) int { return a.Started.Compare(b.Started) })
	return errors.Join(append(errs, f.Ledger.KeepLeases(ctx, open))...)
}

// countForeign counts the backups of the whole cloud that do not count as ours.
func (f *Function) countForeign(ctx context.Context) error {
	count := map[backup.Origin]int{}
	for shard := range f.Ledger.Shards() {
		all, err := f.Ledger.Foreigns(ctx, shard)
		if err != nil {
			return err
		}
		for _, backups := range all {
			for _, b := range backups {
				count[b.Origin]++
			}
		}
	}
	return errors.Join(
		f.Ledger.Total(ctx, string(backup.OriginForged), count[backup.OriginForged]),
		f.Ledger.Total(ctx, string(backup.OriginUnverified), count[backup.OriginUnverified]))
}
