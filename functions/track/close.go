package track

import (
	"context"
	"errors"
	"time"

	"staffeln/functions/backup"
)

// unserved is how long nothing starts after a backup failed because no cinder-backup service
// was up. If the service user may list services, dispatch ends the pause sooner.
const unserved = 5 * time.Minute

// follow writes down what has become of one open run.
func (f *Function) follow(ctx context.Context, r backup.Run, seen *backup.CinderBackup, now time.Time) error {
	ctx = context.WithoutCancel(ctx) // the steps after the end of a run belong together
	// A volume that is not protected any more has no state, and the ledger stores none for it.
	v, _, err := f.Ledger.Volume(ctx, r.Project, r.Volume)
	if err != nil {
		return err
	}
	policy := f.Settings.Classes.Strictest(v.Enrolments, now)
	verdict := backup.VerdictOn(r, seen, policy.Schedule.Next(r.Slot), now, f.Settings.Grace)
	if verdict.Ending == backup.Open {
		if r.Backup == "" && verdict.Backup != "" {
			r.Backup, r.State = verdict.Backup, backup.Running
			f.Count("backups_adopted_total", 1)
			f.log(r).InfoContext(ctx, "backup adopted")
		}
		_, err := f.Ledger.Advance(ctx, r, backup.NextLook(r.Started, now))
		return err
	}
	if verdict.NoService {
		f.Log.ErrorContext(ctx, "paused: nothing starts", "why", verdict.Why)
		err = f.Ledger.Pause(ctx, now.Add(unserved), verdict.Why)
	}
	c := closing(r, v.State, policy, verdict, seen, now)
	done, ferr := f.Ledger.Finish(ctx, c)
	if done {
		f.ended(ctx, c, verdict)
	}
	return errors.Join(err, ferr, f.Ledger.Release(ctx, r))
}

// closing says what is written about a run that has ended: how it ended, and when its volume
// is due next. state is the volume's so far.
func closing(r backup.Run, state backup.State, policy backup.Policy, verdict backup.Verdict,
	seen *backup.CinderBackup, now time.Time) backup.Closing {
	r.State, r.Ended, r.Why = backup.Failed, now, verdict.Why
	if verdict.Backup != "" {
		r.Backup = verdict.Backup
	}
	c := backup.Closing{Remove: verdict.Remove}
	if seen != nil {
		record := backup.RecordOf(*seen)
		c.Record = &record
	}
	switch verdict.Ending {
	case backup.Succeeded:
		r.State, r.Kind, r.Theirs = backup.Complete, verdict.Kind, false
		c.Final, c.Stamp = true, seen.Created
		if seen.Created.After(state.LastComplete) {
			state.LastComplete = seen.Created
		}
		state = state.After(policy, r.Volume, r.Slot, now)
	case backup.Lost:
		c.Final = true
		if verdict.Watch {
			c.Watch = now.Add(watchEvery)
		}
		state = state.After(policy, r.Volume, r.Slot, now)
	case backup.Again:
		state.Why, state.Due = verdict.Why, now.Add(10*time.Second)
		if verdict.NoService {
			state.Waiting, state.Due = r.Slot, now.Add(unserved)
		} else {
			state.Retry = r.Slot
		}
	case backup.Unasked:
		state.Waiting, state.Why, state.Due = r.Slot, verdict.Why, now
	}
	c.Run, c.State = r, state
	return c
}

// ended logs and counts the end of a run.
func (f *Function) ended(ctx context.Context, c backup.Closing, v backup.Verdict) {
	log := f.log(c.Run).With("kind", c.Run.Kind, "attempt", c.Run.Attempt, "why", c.Run.Why)
	switch {
	case c.Run.State == backup.Complete:
		log.InfoContext(ctx, "backup complete")
		f.Count("runs_finished_total", 1, "complete", "false")
	case c.Final:
		log.WarnContext(ctx, "run failed")
		f.Count("runs_finished_total", 1, "failed", "false")
	case v.Ending == backup.Again:
		log.WarnContext(ctx, "attempt failed, another follows")
	default:
		log.InfoContext(ctx, "run given back")
	}
}
