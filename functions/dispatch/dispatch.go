// Package dispatch starts backups: it takes the volumes whose slot has come,
// chooses those that limits and quotas leave room for, and asks Cinder.
//
// Set off by: the tick "dispatch", for each shard.
package dispatch

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"staffeln/events"
	"staffeln/functions/backup"
)

// Ledger is what dispatch needs of our own memory.
type Ledger interface {
	// Ready says whether the shard has been reconciled since it was last empty.
	Ready(ctx context.Context, shard int) (bool, error)
	// Due are the volumes to look at, the longest due first.
	Due(ctx context.Context, shard int, now time.Time, max int) ([]backup.Protected, error)
	Postpone(ctx context.Context, project, volume string, s backup.State) (bool, error)
	Ranks(ctx context.Context, project string, volumes []string) (rank map[string]int, total int, err error)
	// RecordsOf are the backups of ours that are remembered of a volume.
	RecordsOf(ctx context.Context, project, volume string) ([]backup.Record, error)
	Runs
	Admission
}

// Runs is the part of the ledger in which a run begins and ends.
type Runs interface {
	// Begin claims the volume for a run; false where another one is open or the
	// volume is no longer protected.
	Begin(ctx context.Context, run backup.Run, look time.Time) (bool, error)
	Advance(ctx context.Context, run backup.Run, look time.Time) (bool, error)
	Finish(ctx context.Context, c backup.Closing) (bool, error)
	Discard(ctx context.Context, d backup.Discard, at time.Time) error
}

// Admission is the part of the ledger that all shards share.
type Admission interface {
	InFlight(ctx context.Context, now time.Time) (backup.InFlight, error)
	Admit(ctx context.Context, run backup.Run, lim backup.Limits, now, until time.Time) (bool, string, error)
	Release(ctx context.Context, run backup.Run) error
	Strain(ctx context.Context, now time.Time) error
	Pause(ctx context.Context, until time.Time, why string) error
}

// Cloud is what dispatch needs of OpenStack.
type Cloud interface {
	Services(ctx context.Context) (backup.Services, error)
	Project(ctx context.Context, id string) (p backup.Project, included bool, err error)
	Quota(ctx context.Context, project string) (backup.Quota, error)
	Volume(ctx context.Context, project, id string) (backup.Volume, error)
	// Volumes is the complete list of a project.
	Volumes(ctx context.Context, project string) ([]backup.Volume, error)
	Backup(ctx context.Context, project, id string) (backup.CinderBackup, error)
	// BackupsOf is the list of a project's or a volume's backups, newest first.
	BackupsOf(ctx context.Context, project, volume string, since time.Time) ([]backup.CinderBackup, error)
	CreateBackup(ctx context.Context, project string, r backup.Request) (id string, err error)
}

// Settings are the operator's.
type Settings struct {
	Classes  backup.Classes
	Keys     backup.Keys
	Template string // of backup names
	// Limits are those set; zero ones are derived. PerService is how many backups one
	// cinder-backup service is given at a time.
	Limits     backup.Limits
	PerService int
	// VolumeLimit is how many volumes of a project may be protected, 0 for any
	// number; VolumeLimits overrules it by project id or name.
	VolumeLimit  int
	VolumeLimits map[string]int
	// DeadlineBase and DeadlinePerGiB say when a backup is given up on.
	DeadlineBase, DeadlinePerGiB time.Duration
	// Grace is how long a request may be under way to Cinder: longer than any
	// client waits for an answer.
	Grace time.Duration
}

// Function is dispatch, ready to run.
type Function struct {
	Ledger   Ledger
	Cloud    Cloud
	Settings Settings
	Log      *slog.Logger
	// Count counts what happened; see the metrics.
	Count func(name string, n float64, labels ...string)
}

// batch is how many due volumes of a shard one tick looks at.
const batch = 500

// candidate is a volume whose turn it is.
type candidate struct {
	backup.Protected
	policy backup.Policy
	turn   backup.Turn
}

// Dispatch handles the tick.
func (f *Function) Dispatch(ctx context.Context, t events.Tick) error {
	ready, err := f.Ledger.Ready(ctx, t.Shard)
	if err != nil || !ready {
		// What an emptied ledger does not know, it must not decide on: reconcile first.
		return err
	}
	due, err := f.Ledger.Due(ctx, t.Shard, t.At, batch)
	if err != nil || len(due) == 0 {
		return err
	}
	turns, err := f.turns(ctx, due, t.At)
	if err != nil || len(turns) == 0 {
		return err
	}

	services, err := f.Cloud.Services(ctx)
	if err != nil {
		return f.strained(ctx, t.At, err)
	}
	flight, err := f.Ledger.InFlight(ctx, t.At)
	if err != nil {
		return err
	}
	if services.Known && services.Up == 0 {
		if flight.PausedWhy == "" {
			f.Log.ErrorContext(ctx, "paused: nothing starts", "why", "no cinder-backup service is up")
		}
		return f.Ledger.Pause(ctx, t.At.Add(30*time.Second), "no cinder-backup service is up")
	}
	if t.At.Before(flight.Paused) {
		return nil
	}
	limits := backup.Bounds(f.Settings.Limits, services, f.Settings.PerService, flight.Halvings)

	chosen, waiting := pick(turns, limits, flight)
	f.makeRoom(ctx, due, waiting, t.At)
	var errs []error
	for _, group := range backup.ByProject(chosen, func(c candidate) string { return c.Project }) {
		if ctx.Err() != nil {
			return errors.Join(append(errs, ctx.Err())...)
		}
		if err := f.project(ctx, group, limits, t.At); err != nil {
			errs = append(errs, fmt.Errorf("project %s: %w", group[0].Project, err))
		}
	}
	return errors.Join(errs...)
}

// turns keeps the volumes whose turn it is, and puts off the others.
func (f *Function) turns(ctx context.Context, due []backup.Protected, now time.Time) ([]candidate, error) {
	var out []candidate
	var errs []error
	for _, v := range due {
		c := candidate{Protected: v, policy: f.Settings.Classes.Strictest(v.Enrolments, now)}
		c.turn = backup.WhoseTurn(c.policy, v.Volume, v.State, now)
		s := v.State
		switch end, _, dark := c.policy.Blackouts.Until(now, c.policy.Schedule.Zone()); {
		case !c.turn.Lost.IsZero():
			errs = append(errs, f.lost(ctx, c, now))
		case !c.turn.Now:
			s.Due = c.turn.Next
			_, err := f.Ledger.Postpone(ctx, v.Project, v.Volume, s)
			errs = append(errs, err)
		case dark:
			s.Due = end
			_, err := f.Ledger.Postpone(ctx, v.Project, v.Volume, s)
			errs = append(errs, err)
		default:
			out = append(out, c)
		}
	}
	return out, errors.Join(errs...)
}

// lost records that a slot ended without its run ever having started.
func (f *Function) lost(ctx context.Context, c candidate, now time.Time) error {
	turn, attempt := c.turn, 1
	turn.Slot = turn.Lost
	if c.State.Retry.Equal(turn.Lost) {
		attempt = 2
	}
	run := f.run(c, turn, backup.Start{Attempt: attempt, Theirs: c.State.Theirs}, backup.Volume{Size: c.Size, Name: c.Name, ID: c.Volume}, now)
	return f.fail(ctx, c, run, "could not start within its slot: "+c.State.Why, now)
}

func pick(turns []candidate, limits backup.Limits, flight backup.InFlight) (chosen, waiting []candidate) {
	volumes, byID := make([]backup.Protected, len(turns)), make(map[string]candidate, len(turns))
	for i, c := range turns {
		volumes[i], byID[c.Volume] = c.Protected, c
	}
	for _, p := range limits.Pick(volumes, flight) {
		if p.OK {
			chosen = append(chosen, byID[p.Volume.Volume])
		} else {
			waiting = append(waiting, byID[p.Volume.Volume])
		}
	}
	return chosen, waiting
}

// makeRoom lets the volumes behind a full batch be seen: those that have to wait
// for others of their project would keep them out for ever.
func (f *Function) makeRoom(ctx context.Context, due []backup.Protected, waiting []candidate, now time.Time) {
	if len(due) < batch {
		return
	}
	for _, c := range waiting {
		s := c.State
		s.Waiting, s.Waits, s.Why = c.turn.Slot, max(s.Waits, 1), "there was no room for it"
		s.Due = now.Add(15 * time.Second)
		if _, err := f.Ledger.Postpone(ctx, c.Project, c.Volume, s); err != nil {
			f.Log.ErrorContext(ctx, "put off", "volume", c.Volume, "err", err)
			return
		}
	}
}

// project starts what was chosen of one project: its lists are read once for all.
func (f *Function) project(ctx context.Context, chosen []candidate, limits backup.Limits, now time.Time) error {
	g, err := f.gather(ctx, chosen)
	if err != nil {
		return errors.Join(f.strained(ctx, now, err), f.putOff(ctx, chosen, err, now))
	}
	var errs []error
	for _, c := range chosen {
		facts, why := g.of(c)
		if why != "" {
			errs = append(errs, f.wait(ctx, c, why, true, 0, now))
			continue
		}
		start := backup.WhatToStart(c.policy, f.Settings.Keys, c.State, c.turn, facts, now)
		charged, err := f.act(ctx, c, start, facts, limits, now)
		if err != nil {
			errs = append(errs, fmt.Errorf("volume %s: %w", c.Volume, err))
		}
		if charged {
			g.quota = g.quota.Charge(facts.Volume.Size)
		}
	}
	return errors.Join(errs...)
}

// putOff makes the volumes of a project that could not be asked about wait.
func (f *Function) putOff(ctx context.Context, chosen []candidate, cause error, now time.Time) error {
	var errs []error
	for _, c := range chosen {
		errs = append(errs, f.wait(ctx, c, "OpenStack did not answer: "+backup.Said(cause), false, leastWait(cause), now))
	}
	return errors.Join(errs...)
}

// leastWait is how long to leave alone what answered with an error.
func leastWait(err error) time.Duration {
	least := backup.RetryAfter(err)
	if backup.FaultOf(err) == backup.Operator {
		least = max(least, 5*time.Minute)
	}
	return least
}

func (f *Function) wait(ctx context.Context, c candidate, why string, theirs bool, least time.Duration, now time.Time) error {
	f.Log.InfoContext(ctx, "volume has to wait", "project", c.Project, "volume", c.Volume, "why", why)
	_, err := f.Ledger.Postpone(ctx, c.Project, c.Volume, c.State.Wait(c.turn, why, theirs, least, now))
	return err
}

// strained tells the admission of answers that mean too much is asked of Cinder.
func (f *Function) strained(ctx context.Context, now time.Time, err error) error {
	e, ok := errors.AsType[*backup.CloudError](err)
	if ok && (e.Status == 429 || e.Status >= 500 || e.Status == 0) {
		return errors.Join(err, f.Ledger.Strain(context.WithoutCancel(ctx), now))
	}
	return err
}

// gathered is what one look at a project told.
type gathered struct {
	quota   backup.Quota
	volumes map[string]backup.Volume
	backups map[string][]backup.CinderBackup
	known   map[string]bool
	rank    map[string]int
	total   int
	limit   int
	// unserved is a backup that no cinder-backup service took and that is still there.
	unserved string
}

func (f *Function) gather(ctx context.Context, chosen []candidate) (*gathered, error) {
	project := chosen[0].Project
	g := &gathered{volumes: map[string]backup.Volume{}, backups: map[string][]backup.CinderBackup{}, known: map[string]bool{}, limit: f.Settings.VolumeLimit}
	var err error
	if g.quota, err = f.Cloud.Quota(ctx, project); err != nil {
		return nil, err
	}
	// One list, or one look each where that is less. The skip key is read with it:
	// Cinder does not tell when it changes.
	if len(chosen) > 2 {
		all, err := f.Cloud.Volumes(ctx, project)
		if err != nil {
			return nil, err
		}
		for _, v := range all {
			g.volumes[v.ID] = v
		}
	}
	for _, c := range chosen {
		if _, ok := g.volumes[c.Volume]; ok {
			continue
		}
		v, err := f.Cloud.Volume(ctx, project, c.Volume)
		if backup.FaultOf(err) == backup.Gone && err != nil {
			continue
		} else if err != nil {
			return nil, err
		}
		g.volumes[v.ID] = v
	}
	only := ""
	if len(chosen) == 1 {
		only = chosen[0].Volume
	}
	all, err := f.Cloud.BackupsOf(ctx, project, only, time.Time{})
	if err != nil {
		return nil, err
	}
	g.unserved = backup.Unserved(all)
	for _, b := range all {
		g.backups[b.Volume] = append(g.backups[b.Volume], b)
	}
	for _, c := range chosen {
		if err := f.missed(ctx, g, c); err != nil {
			return nil, err
		}
	}
	if len(f.Settings.VolumeLimits) > 0 {
		p, _, err := f.Cloud.Project(ctx, project)
		if err != nil {
			return nil, err
		}
		for _, key := range []string{p.Name, p.ID} {
			if n, ok := f.Settings.VolumeLimits[key]; ok {
				g.limit = n
			}
		}
	}
	if g.limit > 0 {
		ids := make([]string, len(chosen))
		for i, c := range chosen {
			ids[i] = c.Volume
		}
		if g.rank, g.total, err = f.Ledger.Ranks(ctx, project, ids); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// missed asks by its id for a backup of the slot that is remembered and that the
// list does not show: lists can come back short.
func (f *Function) missed(ctx context.Context, g *gathered, c candidate) error {
	records, err := f.Ledger.RecordsOf(ctx, c.Project, c.Volume)
	if err != nil {
		return err
	}
	for _, r := range records {
		g.known[r.ID] = r.Status == "available"
		listed := slices.ContainsFunc(g.backups[c.Volume], func(b backup.CinderBackup) bool { return b.ID == r.ID })
		if listed || !r.Slot.Equal(c.turn.Slot) {
			continue
		}
		switch b, err := f.Cloud.Backup(ctx, c.Project, r.ID); {
		case err == nil && b.Volume != c.Volume: // the row is wrong
		case err == nil:
			g.backups[c.Volume] = append(g.backups[c.Volume], b)
		case backup.FaultOf(err) != backup.Gone:
			return err
		}
	}
	return nil
}

func (g *gathered) of(c candidate) (backup.Facts, string) {
	v, ok := g.volumes[c.Volume]
	if !ok {
		return backup.Facts{}, "volume not found in its project"
	}
	return backup.Facts{Volume: v, Backups: g.backups[c.Volume], Known: g.known, Quota: g.quota, Rank: g.rank[c.Volume], Total: g.total, Limit: g.limit, Enrolled: c.Protected, Unserved: g.unserved}, ""
}

// act carries a decision out. charged says that the quota is one backup less.
func (f *Function) act(ctx context.Context, c candidate, start backup.Start, facts backup.Facts, limits backup.Limits, now time.Time) (charged bool, err error) {
	// What has begun is written down to its end, even while the process is told to stop.
	keep := context.WithoutCancel(ctx)
	for _, b := range start.Broken {
		if err := f.Ledger.Discard(keep, backup.Discard{Backup: b.ID, Project: c.Project}, now); err != nil {
			return false, err
		}
	}
	run := f.run(c, c.turn, start, facts.Volume, now)
	switch start.Do {
	case backup.Skip:
		// Not the slot's end: should the owner lift it, the slot is still to be had.
		s := c.State
		s.Due = c.turn.Next
		f.Log.InfoContext(ctx, "volume left out", "project", c.Project, "volume", c.Volume, "why", start.Why)
		_, err := f.Ledger.Postpone(keep, c.Project, c.Volume, s)
		return false, err
	case backup.Done:
		f.Log.InfoContext(ctx, "slot done already", "project", c.Project, "volume", c.Volume, "run", run.ID(), "why", start.Why)
		s := c.State.After(c.policy, c.Volume, c.turn.Slot, now)
		if start.Backup.Created.After(s.LastComplete) {
			s.LastComplete = start.Backup.Created
		}
		_, err := f.Ledger.Postpone(keep, c.Project, c.Volume, s)
		return false, err
	case backup.Wait:
		return false, f.wait(keep, c, start.Why, start.Theirs, 0, now)
	case backup.Fail:
		return false, f.fail(keep, c, run, start.Why, now)
	}
	ok, why, err := f.Ledger.Admit(keep, run, limits, now, now.Add(f.Settings.Grace))
	if err != nil || !ok {
		f.Log.DebugContext(ctx, "no room after all", "volume", c.Volume, "why", why)
		return false, err
	}
	began, err := f.begin(keep, c, run, now)
	if err != nil || !began {
		// The place is not given up: it goes by the run's name, and another process may
		// have begun the very run. If nobody has, it lapses by itself.
		return false, err
	}
	if start.Do == backup.Adopt {
		run.Backup, run.State = start.Backup.ID, backup.Running
		f.Log.InfoContext(ctx, "backup adopted", "project", c.Project, "volume", c.Volume, "backup", run.Backup, "run", run.ID(), "why", start.Why)
		f.Count("backups_adopted_total", 1)
		err := f.renew(keep, run, limits, now)
		_, aerr := f.Ledger.Advance(keep, run, now) // looked at by the next track
		return false, errors.Join(err, aerr)
	}
	return f.create(ctx, c, run, facts.Volume, limits, now)
}

// create asks Cinder. Whatever it answers, the run is somewhere afterwards: open
// with an id, open and in doubt, or closed with a reason.
func (f *Function) create(ctx context.Context, c candidate, run backup.Run, v backup.Volume, limits backup.Limits, now time.Time) (charged bool, err error) {
	keep := context.WithoutCancel(ctx)
	id, err := f.ask(ctx, c, run, v, now)
	again := true
	switch fault := backup.FaultOf(err); {
	case err != nil && run.Kind == backup.Incremental && fault == backup.NeedsFull:
		run.Kind, run.Why = backup.Full, "full: Cinder refused an incremental: "+backup.Said(err)
	case err != nil && run.Archived != "" && fault == backup.Operator:
		// Whatever is wrong with that container, the slot is not to be lost by it.
		run.Why = "not archived: Cinder refused container " + c.policy.Archive.Container + ": " + backup.Said(err)
		run.Archived = ""
		f.Log.WarnContext(ctx, "archive container refused", "project", c.Project, "volume", c.Volume, "run", run.ID(), "err", err)
	default:
		again = false
	}
	if again {
		if ok, err := f.Ledger.Advance(keep, run, now.Add(f.Settings.Grace)); err != nil || !ok {
			return false, err
		}
		id, err = f.ask(ctx, c, run, v, now)
	}
	if err == nil {
		run.Backup, run.State = id, backup.Running
		f.Log.InfoContext(ctx, "backup started", "project", c.Project, "volume", c.Volume, "backup", id, "run", run.ID(), "kind", run.Kind, "why", run.Why)
		f.Count("backups_started_total", 1, string(run.Kind))
		err := f.renew(keep, run, limits, now)
		_, aerr := f.Ledger.Advance(keep, run, backup.NextLook(now, now))
		return true, errors.Join(err, aerr)
	}

	said := backup.Said(err)
	switch backup.FaultOf(err) {
	case backup.Doubt:
		// Cinder may have it. Track looks for this run's metadata before anything else
		// is asked for.
		f.Log.WarnContext(ctx, "no clear answer: looking for the backup", "project", c.Project, "volume", c.Volume, "run", run.ID(), "err", err)
		_, lerr := f.Ledger.Advance(keep, run, now.Add(15*time.Second))
		return true, errors.Join(lerr, f.strainOnly(keep, now, err))
	case backup.Owner:
		return false, f.close(keep, c, run, "quota exceeded: "+said, true, now)
	case backup.NoService:
		f.Log.ErrorContext(ctx, "paused: nothing starts", "why", said)
		return false, errors.Join(f.Ledger.Pause(keep, now.Add(time.Minute), said), f.unbegin(keep, c, run, said, false, 0, now))
	case backup.Busy, backup.Gone, backup.Dependents, backup.NeedsFull:
		return false, f.unbegin(keep, c, run, said, true, 0, now)
	default: // Retry, Operator
		return false, errors.Join(f.strained(keep, now, err), f.unbegin(keep, c, run, said, false, leastWait(err), now))
	}
}

// strainOnly counts the strain of a doubtful answer, whose error is told already.
func (f *Function) strainOnly(ctx context.Context, now time.Time, err error) error {
	if e, ok := errors.AsType[*backup.CloudError](err); ok && e.Status >= 500 {
		return f.Ledger.Strain(ctx, now)
	}
	return nil
}

func (f *Function) ask(ctx context.Context, c candidate, run backup.Run, v backup.Volume, now time.Time) (string, error) {
	server := backup.Enrolment{}
	if len(c.Enrolments) > 0 {
		server = c.Enrolments[0]
	}
	r := backup.Request{
		Volume:      c.Volume,
		Name:        backup.Name(f.Settings.Template, v, server.Name, now),
		Incremental: run.Kind == backup.Incremental,
		Container:   c.policy.Container,
		Metadata:    backup.Metadata(run, c.policy, server, now),
	}
	if run.Archived != "" {
		r.Container = c.policy.Archive.Container
	}
	return f.Cloud.CreateBackup(ctx, c.Project, r)
}

// renew keeps the run's place among those under way until its deadline. It comes
// before the ledger says what track is to look at: a run that track has ended
// meanwhile would take its place again.
func (f *Function) renew(ctx context.Context, run backup.Run, limits backup.Limits, now time.Time) error {
	_, _, err := f.Ledger.Admit(ctx, run, limits, now, run.Deadline)
	return err
}

func (f *Function) run(c candidate, t backup.Turn, start backup.Start, v backup.Volume, now time.Time) backup.Run {
	r := backup.Run{
		Volume: c.Volume, Project: c.Project, Slot: t.Slot, Attempt: start.Attempt, Kind: start.Kind,
		Archived: start.Archived, State: backup.Requested, Started: now, Why: start.Why, Theirs: start.Theirs,
		Deadline:   backup.Deadline(now, v.Size, f.Settings.DeadlineBase, f.Settings.DeadlinePerGiB),
		VolumeName: v.Name, Class: c.policy.Class, Size: v.Size, Backend: v.Backend,
		Nonce: rand.Text(),
	}
	for _, e := range c.Enrolments {
		r.Servers = append(r.Servers, e.Server)
	}
	if len(c.Enrolments) > 0 {
		r.ServerName = c.Enrolments[0].Name
	}
	return r
}

// begin claims the volume. Where the ledger refuses, somebody else has it, or knows
// more: it is looked at again, but not at every tick.
func (f *Function) begin(ctx context.Context, c candidate, run backup.Run, now time.Time) (bool, error) {
	began, err := f.Ledger.Begin(ctx, run, now.Add(f.Settings.Grace))
	if err != nil || began {
		return began, err
	}
	s := c.State
	s.Due = now.Add(30 * time.Second)
	_, err = f.Ledger.Postpone(ctx, c.Project, c.Volume, s)
	return false, err
}

// fail records a run that never got as far as Cinder.
func (f *Function) fail(ctx context.Context, c candidate, run backup.Run, why string, now time.Time) error {
	if began, err := f.begin(ctx, c, run, now); err != nil || !began {
		return err
	}
	return f.close(ctx, c, run, why, run.Theirs, now)
}

// close ends a begun run for good.
func (f *Function) close(ctx context.Context, c candidate, run backup.Run, why string, theirs bool, now time.Time) error {
	run.State, run.Ended, run.Why, run.Theirs = backup.Failed, now, why, theirs
	f.Log.WarnContext(ctx, "run failed", "project", c.Project, "volume", c.Volume, "run", run.ID(), "why", why)
	f.Count("runs_finished_total", 1, "failed", strconv.FormatBool(theirs))
	_, err := f.Ledger.Finish(ctx, backup.Closing{Run: run, Final: true, State: c.State.After(c.policy, c.Volume, run.Slot, now)})
	return errors.Join(err, f.Ledger.Release(ctx, run))
}

// unbegin gives a begun run back: the volume is looked at again within the slot.
func (f *Function) unbegin(ctx context.Context, c candidate, run backup.Run, why string, theirs bool, least time.Duration, now time.Time) error {
	run.State, run.Ended, run.Why = backup.Failed, now, why
	f.Log.InfoContext(ctx, "volume has to wait", "project", c.Project, "volume", c.Volume, "why", why)
	_, err := f.Ledger.Finish(ctx, backup.Closing{Run: run, State: c.State.Wait(c.turn, why, theirs, least, now)})
	return errors.Join(err, f.Ledger.Release(ctx, run))
}
