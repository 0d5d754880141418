package ledger

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"

	"staffeln/functions/backup"
)

// FinishedKept is how many finished runs of a project are kept for its next digest;
// the oldest go.
const FinishedKept = 10_000

// Ready says whether the shard was reconciled since it was last empty. Until then
// it may know nothing of volumes, runs and records, and nothing is to be removed.
func (l *Ledger) Ready(ctx context.Context, shard int) (bool, error) {
	n, err := l.rdb.Exists(ctx, l.keys.shard(shard).reconciled()).Result()
	if err != nil {
		return false, fmt.Errorf("ledger: ready: %w", err)
	}
	return n == 1, nil
}

// Due is the volumes whose time has come, the longest due first, at most max,
// with their enrolments and state.
func (l *Ledger) Due(ctx context.Context, shard int, now time.Time, max int) ([]backup.Protected, error) {
	s := l.keys.shard(shard)
	answer, err := dueScript.Run(ctx, l.rdb, []string{s.due(), s.volumes(), s.servers()}, micros(now), max).Slice()
	if err != nil {
		return nil, fmt.Errorf("ledger: due: %w", err)
	}
	var due []backup.Protected
	var bad error
	for _, a := range answer {
		v, err := readDue(a)
		if err != nil {
			bad = errors.Join(bad, fmt.Errorf("ledger: due: %w", err))
			continue
		}
		due = append(due, v)
	}
	return due, bad
}

// readDue reads {VOLUME, SCORE, ROW, {SERVER, ROW, SERVER, ROW...}}.
func readDue(answer any) (backup.Protected, error) {
	parts, _ := answer.([]any)
	if len(parts) != 4 {
		return backup.Protected{}, fmt.Errorf("answer of %d parts", len(parts))
	}
	head := texts(parts[:3])
	if len(head) != 3 {
		return backup.Protected{}, errors.New("answer is not text")
	}
	v, _, err := readVolume(head[0], head[2])
	if err != nil {
		return v, err
	}
	score, err := strconv.ParseFloat(head[1], 64)
	if err != nil {
		return v, fmt.Errorf("volume %s: %w", head[0], err)
	}
	v.State.Due = scoreTime(score)
	servers := texts(parts[3])
	for i := 0; i+1 < len(servers); i += 2 {
		e, _, err := readServer(servers[i], servers[i+1])
		if err != nil {
			return v, err
		}
		v.Enrolments = append(v.Enrolments, e)
	}
	sortEnrolments(v.Enrolments)
	return v, nil
}

// Begin opens a run: the volume is no longer due, and the run is looked at next
// at look. It is false if the volume is not protected, a run of it is open, or
// the slot (or this attempt at it) is over already. Of two that begin at once,
// one is told true.
func (l *Ledger) Begin(ctx context.Context, run backup.Run, look time.Time) (bool, error) {
	ok, err := l.begin(ctx, "begin", run, look)
	if err != nil {
		return false, fmt.Errorf("ledger: begin %s: %w", run.ID(), err)
	}
	return ok, nil
}

// Restore opens a run that was found under way in Cinder and is not in the
// ledger; the volume need not be protected. It is false if a run of the volume is
// open, the slot (or this attempt) is over, or the backup is watched or to be
// removed.
func (l *Ledger) Restore(ctx context.Context, run backup.Run, look time.Time) (bool, error) {
	ok, err := l.begin(ctx, "restore", run, look)
	if err != nil {
		return false, fmt.Errorf("ledger: restore %s: %w", run.ID(), err)
	}
	return ok, nil
}

func (l *Ledger) begin(ctx context.Context, how string, run backup.Run, look time.Time) (bool, error) {
	if err := badRun(run); err != nil {
		return false, err
	}
	s := l.of(run.Project)
	// Should the answer be lost, the client asks again by itself: the nonce tells
	// that from somebody else's Begin of the same run.
	return l.yes(ctx, beginScript, []string{s.volumes(), s.due(), s.runs(), s.open(), s.tracked(), s.watching(),
		s.discarding(), s.records(), s.backups(), s.holding(run.Project), s.projects()},
		how, run.Volume, slotOf(run), micros(look), watchName(run),
		toJSON(argOfRun(run, rand.Text()[:12])), runRow(run), toJSON(recordOfRun(run)))
}

func badRun(run backup.Run) error {
	err := errors.Join(badID("project", run.Project), badID("volume", run.Volume))
	if run.Backup != "" {
		err = errors.Join(err, badID("backup", run.Backup))
	}
	if run.Slot.IsZero() {
		err = errors.Join(err, errors.New("ledger: a run without a slot"))
	}
	return err
}

// Advance stores how far an open run has come; it is false if the open run of the
// volume is another slot's or attempt's, or there is none. A backup's id is
// remembered as ours from now on (see [Ledger.Record]) and found by
// [Ledger.Look].
func (l *Ledger) Advance(ctx context.Context, run backup.Run, look time.Time) (bool, error) {
	err := badRun(run)
	var ok bool
	if err == nil {
		s := l.of(run.Project)
		ok, err = l.yes(ctx, advanceScript, []string{s.runs(), s.open(), s.tracked(), s.records(),
			s.backups(), s.holding(run.Project), s.projects()},
			run.Volume, micros(look), toJSON(argOfRun(run, "")), runRow(run), toJSON(recordOfRun(run)))
	}
	if err != nil {
		return false, fmt.Errorf("ledger: advance %s: %w", run.ID(), err)
	}
	return ok, nil
}

// Postpone writes the state of a volume, with the moment it is due next (zero:
// not at all until something changes); it is false if the volume is not protected
// or a run of it is open. An enrolment that has changed since the volume was
// handed out by [Ledger.Due] makes it due no later than that change, and
// LastComplete never falls.
func (l *Ledger) Postpone(ctx context.Context, project, volume string, s backup.State) (bool, error) {
	err := errors.Join(badID("project", project), badID("volume", volume))
	var ok bool
	if err == nil {
		k := l.of(project)
		ok, err = l.yes(ctx, postponeScript, []string{k.volumes(), k.due(), k.runs()},
			volume, project, stateRow(s), micros(s.Due))
	}
	if err != nil {
		return false, fmt.Errorf("ledger: postpone %s: %w", volume, err)
	}
	return ok, nil
}

// Finish ends the open run, in one step with everything the closing says; it is
// false if the open run is another slot's or attempt's, or there is none: somebody
// else has finished it. A volume that is no longer protected gets no state. What
// [Ledger.Postpone] says of the state holds here too. A complete run's backup is
// no longer to be discarded, whoever had said so. The project's removals are due to
// be looked at, see [Ledger.RetentionDue].
func (l *Ledger) Finish(ctx context.Context, c backup.Closing) (bool, error) {
	ok, err := l.yesClosing(ctx, false, c)
	if err != nil {
		return false, fmt.Errorf("ledger: finish %s: %w", c.Run.ID(), err)
	}
	return ok, nil
}

// FinishLate ends a watched run that ended after all; it is false if the run is
// not watched: somebody else has ended it. Of the state it only raises
// LastComplete; an open run of the volume, and when it is due, stay as they are.
// The rest is as the closing says: if it is final, the run joins the finished
// ones, where the same run's failure may already be: the later word counts.
func (l *Ledger) FinishLate(ctx context.Context, c backup.Closing) (bool, error) {
	ok, err := l.yesClosing(ctx, true, c)
	if err != nil {
		return false, fmt.Errorf("ledger: finish %s late: %w", c.Run.ID(), err)
	}
	return ok, nil
}

func (l *Ledger) yesClosing(ctx context.Context, late bool, c backup.Closing) (bool, error) {
	run := c.Run
	run.Nonce = "" // it proves nothing once the run is over
	err := badRun(run)
	if !c.Stamp.IsZero() {
		err = errors.Join(err, badID("server", run.Servers...))
	}
	if c.Record != nil {
		err = errors.Join(err, badID("backup", c.Record.ID))
	}
	if err != nil {
		return false, err
	}
	arg := closingArg{
		runArg: argOfRun(run, ""), Volume: run.Volume, Name: watchName(run), JSON: runRow(run),
		State: stateRow(c.State), Due: micros(c.State.Due), Ended: micros(run.Ended), Now: moment(run.Ended),
		Final: c.Final, Complete: run.State == backup.Complete, Remove: c.Remove,
		Keep: strconv.Itoa(-FinishedKept),
	}
	if !c.Stamp.IsZero() {
		arg.Stamp, arg.Servers = micros(c.Stamp), run.Servers
	}
	if !c.Watch.IsZero() {
		w := argOfWatch(run, c.Watch)
		arg.Watch = &w
	}
	if c.Record != nil {
		r := *c.Record
		r.Volume, r.Project = run.Volume, run.Project
		a := argOfRecord(r)
		arg.Record = &a
	}
	s, script := l.of(run.Project), finishScript
	if late {
		script = finishLateScript
	}
	return l.yes(ctx, script, []string{s.runs(), s.open(), s.tracked(), s.volumes(), s.due(), s.finished(run.Project),
		s.stamping(), s.stamps(), s.discarding(), s.discards(), s.watching(), s.watched(),
		s.records(), s.backups(), s.holding(run.Project), s.projects(), s.retention()}, toJSON(arg))
}

// Finished is the runs of a project that are over for good and that no digest was
// made of yet (see [Ledger.CutDigest]), the newest max of them, in the order they
// ended. [FinishedKept] are kept. A run that ended late is there a second time, and
// the later word counts.
func (l *Ledger) Finished(ctx context.Context, project string, max int) ([]backup.Run, error) {
	if !goodID(project) || max <= 0 {
		return nil, nil
	}
	rows, err := l.rdb.LRange(ctx, l.of(project).finished(project), int64(-max), -1).Result()
	if err != nil {
		return nil, fmt.Errorf("ledger: finished: %w", err)
	}
	var runs []backup.Run
	for _, row := range rows {
		r, err := readRun(row)
		if err != nil {
			return nil, fmt.Errorf("ledger: finished: %w", err)
		}
		runs = append(runs, r)
	}
	return runs, nil
}
