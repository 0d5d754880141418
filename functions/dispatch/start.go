package dispatch

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"staffeln/functions/backup"
)

// act carries a decision out. taken says that the project's quota is one backup less.
func (f *Function) act(ctx context.Context, d *Decision, limits backup.Limits, now time.Time) (taken bool, err error) {
	// What has begun is written down to its end, even while the process is told to stop.
	keep := context.WithoutCancel(ctx)
	for _, b := range d.Start.Broken {
		if err := f.Ledger.Discard(keep, backup.Discard{Backup: b.ID, Project: d.Project}, now); err != nil {
			return false, err
		}
	}
	run := f.run(d, now)
	log := f.logOf(d).With("why", d.Start.Why)
	switch d.Start.Do {
	case backup.Queue:
		return false, nil // it stays due
	case backup.Skip:
		log.InfoContext(ctx, "volume left out")
	case backup.Done:
		log.InfoContext(ctx, "slot done already", "run", run.ID())
	case backup.Wait:
		log.InfoContext(ctx, "volume has to wait")
	case backup.Fail:
		claimed, err := f.claim(keep, d, run, now)
		if err != nil || !claimed {
			return false, err
		}
		return false, f.close(keep, d, run, failure{why: run.Why, theirs: run.Theirs}, now)
	case backup.Go, backup.Adopt:
		return f.start(ctx, d, run, limits, now)
	}
	_, err = f.Ledger.Postpone(keep, d.Project, d.Volume, d.Next)
	return false, err
}

// lose records that a slot ended without its run ever having started. It is false where
// somebody else has the volume.
func (f *Function) lose(ctx context.Context, d *Decision, now time.Time) (recorded bool, err error) {
	run := f.run(d, now)
	run.Slot, run.Attempt, run.Why, run.Theirs = d.Lost.Slot, d.Lost.Attempt, d.Lost.Why, d.Lost.Theirs
	claimed, err := f.claim(ctx, d, run, now)
	if err != nil || !claimed {
		return false, err
	}
	return true, f.close(ctx, d, run, failure{why: run.Why, theirs: run.Theirs}, now)
}

// run is the run of a decision, before anybody is asked.
func (f *Function) run(d *Decision, now time.Time) backup.Run {
	v := d.Cinder
	if v.ID == "" {
		v = backup.Volume{ID: d.Volume, Name: d.Name, Size: d.Size}
	}
	r := backup.Run{
		Volume: d.Volume, Project: d.Project, Slot: d.Turn.Slot, Attempt: d.Start.Attempt, Kind: d.Start.Kind,
		Archived: d.Start.Archived, State: backup.Requested, Started: now, Why: d.Start.Why, Theirs: d.Start.Theirs,
		Deadline:   now.Add(f.Settings.Deadline.Of(v.Size)),
		VolumeName: v.Name, Class: d.Policy.Class, Size: v.Size, Backend: v.Backend,
		Nonce: rand.Text(),
	}
	for _, e := range d.Enrolments {
		r.Servers = append(r.Servers, e.Server)
	}
	r.ServerName = d.server().Name
	return r
}

// server is the first of the opted-in servers that the volume is attached to.
func (d *Decision) server() backup.Enrolment {
	if len(d.Enrolments) == 0 {
		return backup.Enrolment{}
	}
	return d.Enrolments[0]
}

func (f *Function) logOf(d *Decision) *slog.Logger {
	return f.Log.With("project", d.Project, "volume", d.Volume, "volume_name", d.Name)
}

// claim opens the run in the ledger. Where the ledger refuses, somebody else has the
// volume, or knows more: it is looked at again, but not at every tick.
func (f *Function) claim(ctx context.Context, d *Decision, run backup.Run, now time.Time) (claimed bool, err error) {
	claimed, err = f.Ledger.Begin(ctx, run, now.Add(f.Settings.Grace))
	if err != nil || claimed {
		return claimed, err
	}
	s := d.asRead
	s.Due = now.Add(30 * time.Second)
	_, err = f.Ledger.Postpone(ctx, d.Project, d.Volume, s)
	return false, err
}

// start takes a place among the runs under way, claims the run, and asks Cinder or adopts
// the backup that is there.
func (f *Function) start(
	ctx context.Context, d *Decision, run backup.Run, limits backup.Limits, now time.Time,
) (taken bool, err error) {
	keep := context.WithoutCancel(ctx)
	ok, why, err := f.Ledger.Admit(keep, run, limits, now, now.Add(f.Settings.Grace))
	if err != nil || !ok {
		f.logOf(d).DebugContext(ctx, "no room after all", "why", why)
		return false, err
	}
	claimed, err := f.claim(keep, d, run, now)
	if err != nil || !claimed {
		// The place is not given up: it goes by the run's name, and another process may
		// have claimed the very run. If nobody has, it lapses by itself.
		return false, err
	}
	if d.Start.Do == backup.Adopt {
		run.Backup = d.Start.Backup.ID
		f.logOf(d).InfoContext(ctx, "backup adopted", "backup", run.Backup, "run", run.ID(), "why", run.Why)
		f.Count("backups_adopted_total", 1)
		return false, f.running(keep, run, limits, now, now) // looked at by the next track
	}
	return f.request(ctx, d, run, limits, now)
}

// request asks Cinder. Whatever it answers, the run is somewhere afterwards: open with an
// id, open and in doubt, or closed with a reason.
func (f *Function) request(
	ctx context.Context, d *Decision, run backup.Run, limits backup.Limits, now time.Time,
) (taken bool, err error) {
	keep := context.WithoutCancel(ctx)
	log := f.logOf(d).With("run", run.ID())
	id, err := f.Cloud.CreateBackup(ctx, run.Project, f.body(d, run, now))
	if again, ok := plainer(run, err); ok {
		if run.Archived != "" {
			log.WarnContext(ctx, "archive container refused", "err", err)
		}
		run = again
		if ok, err := f.Ledger.Advance(keep, run, now.Add(f.Settings.Grace)); err != nil || !ok {
			return false, err
		}
		id, err = f.Cloud.CreateBackup(ctx, run.Project, f.body(d, run, now))
	}
	if err == nil {
		run.Backup = id
		log.InfoContext(ctx, "backup started", "backup", id, "kind", run.Kind, "why", run.Why)
		f.Count("backups_started_total", 1, string(run.Kind))
		return true, f.running(keep, run, limits, now, backup.NextLook(now, now))
	}

	said := backup.Said(err)
	switch backup.FaultOf(err) {
	case backup.Doubt:
		// Cinder may have it. Track looks for this run's metadata before anything else
		// is asked for.
		log.WarnContext(ctx, "no clear answer: looking for the backup", "err", err)
		_, lerr := f.Ledger.Advance(keep, run, now.Add(15*time.Second))
		return true, errors.Join(lerr, f.strain(keep, now, err))
	case backup.Owner:
		return false, f.close(keep, d, run, failure{why: "quota exceeded: " + said, theirs: true}, now)
	case backup.NoService:
		f.Log.ErrorContext(ctx, "paused: nothing starts", "why", said)
		return false, errors.Join(f.Ledger.Pause(keep, now.Add(time.Minute), said),
			f.close(keep, d, run, failure{why: said, again: true}, now))
	case backup.Busy, backup.Gone, backup.Dependents, backup.NeedsFull:
		return false, f.close(keep, d, run, failure{why: said, theirs: true, again: true}, now)
	default: // Retry, Operator
		return false, errors.Join(err, f.strain(keep, now, err),
			f.close(keep, d, run, failure{why: said, again: true, least: leastWait(err)}, now))
	}
}

// plainer is the run to ask for at once where Cinder refuses what was special about the
// first: a full one for an incremental, the usual container for the archive.
func plainer(run backup.Run, err error) (again backup.Run, ok bool) {
	switch fault := backup.FaultOf(err); {
	case err == nil:
		return run, false
	case run.Kind == backup.Incremental && fault == backup.NeedsFull:
		run.Kind, run.Why = backup.Full, "full: Cinder refused an incremental: "+backup.Said(err)
		return run, true
	case run.Archived != "" && fault == backup.Operator:
		run.Archived, run.Why = "", "not archived: Cinder refused the archive container: "+backup.Said(err)
		return run, true
	}
	return run, false
}

// body is the request for a run.
func (f *Function) body(d *Decision, run backup.Run, now time.Time) backup.Request {
	r := backup.Request{
		Volume:      run.Volume,
		Name:        backup.Name(f.Settings.Template, d.Cinder, d.server().Name, now),
		Incremental: run.Kind == backup.Incremental,
		Container:   d.Policy.Container,
		Metadata:    backup.Metadata(run, d.Policy, d.server(), now),
	}
	if run.Archived != "" {
		r.Container = d.Container
	}
	return r
}

// running writes that Cinder has the run, and when track looks at it. The place among the
// runs under way is kept until the run's deadline. That comes first: a run that track has
// ended meanwhile would take its place again.
func (f *Function) running(ctx context.Context, run backup.Run, limits backup.Limits, now, look time.Time) error {
	run.State = backup.Running
	_, _, err := f.Ledger.Admit(ctx, run, limits, now, run.Deadline)
	_, aerr := f.Ledger.Advance(ctx, run, look)
	return errors.Join(err, aerr)
}

// A failure is why a claimed run ends without a backup.
type failure struct {
	why string
	// theirs says that the reason is for the owner to act on.
	theirs bool
	// again says that the volume's turn comes again within the slot, but not before least
	// has passed.
	again bool
	least time.Duration
}

// close ends a claimed run, for good unless its turn comes again.
func (f *Function) close(ctx context.Context, d *Decision, run backup.Run, because failure, now time.Time) error {
	run.State, run.Ended, run.Why, run.Theirs = backup.Failed, now, because.why, because.theirs
	c := backup.Closing{Run: run, Final: !because.again}
	log := f.logOf(d).With("run", run.ID(), "why", run.Why)
	if because.again {
		log.InfoContext(ctx, "volume has to wait")
		c.State = d.State.Wait(d.Turn, because.why, because.theirs, because.least, now)
	} else {
		log.WarnContext(ctx, "run failed")
		f.Count("runs_finished_total", 1, "failed", strconv.FormatBool(run.Theirs))
		c.State = d.State.After(d.Policy, d.Volume, run.Slot, now)
	}
	_, err := f.Ledger.Finish(ctx, c)
	return errors.Join(err, f.Ledger.Release(ctx, run))
}
