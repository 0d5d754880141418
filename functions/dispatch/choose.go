package dispatch

import (
	"fmt"
	"iter"
	"time"

	"staffeln/functions/backup"
)

// A Decision is what to do about one protected volume at a moment, and why.
type Decision struct {
	// Protected is the volume as the ledger remembers it, with its state once the Lost
	// slot is recorded.
	backup.Protected
	Policy backup.Policy
	Turn   backup.Turn
	// Lost is an earlier slot that ended before it could start; nil for none. It is a
	// failed run, to be recorded first.
	Lost *Lost
	// Start says what to do. Start.Do is [backup.Go] between [Look] and [Choose], and says
	// there only that the volume's turn has come.
	Start backup.Start
	// Container is the one to ask Cinder for, "" for Cinder's default. It is set where
	// Start.Do is [backup.Go].
	Container string
	// Cinder is the volume as Cinder shows it; zero where it was not asked.
	Cinder backup.Volume
	// Next is the state to remember where nothing starts and the slot is not lost.
	Next backup.State
	// asRead is the state that the ledger gave.
	asRead backup.State
	// Refused is for the caller of [Choose] to set: Cinder did not take the request, and
	// the project's quota is as before.
	Refused bool
}

// A Lost slot ended before its run could start.
type Lost struct {
	Slot    time.Time
	Attempt int
	// Theirs says that the reason is for the owner to act on.
	Theirs bool
	Why    string
}

// Look decides by the ledger alone whether a volume's turn has come.
func Look(v backup.Protected, classes backup.Classes, now time.Time) *Decision {
	d := &Decision{Protected: v, Policy: classes.Strictest(v.Enrolments, now), asRead: v.State}
	d.Turn = backup.WhoseTurn(d.Policy, v.Volume, d.State, now)
	if slot := d.Turn.Lost; !slot.IsZero() {
		d.Lost = &Lost{Slot: slot, Attempt: 1, Theirs: d.State.Theirs, Why: "could not start within its slot: " + d.State.Why}
		if d.State.Retry.Equal(slot) {
			d.Lost.Attempt = 2
		}
		d.State = d.State.After(d.Policy, v.Volume, slot, now)
		d.Turn = backup.WhoseTurn(d.Policy, v.Volume, d.State, now)
	}
	s := d.State
	d.Next, d.Start.Why = s, d.Turn.Why
	tried := s.Waiting.Equal(d.Turn.Slot) || s.Retry.Equal(d.Turn.Slot)
	switch end, blackout, dark := d.Policy.Blackouts.Until(now, d.Policy.Schedule.Zone()); {
	case !d.Turn.Now:
		d.Start.Do, d.Next.Due = backup.Later, d.Turn.Next
	case dark:
		d.Start.Do, d.Start.Why, d.Next.Due = backup.Wait, blackout, end
	case tried && s.Due.After(now):
		d.Start.Do, d.Start.Why, d.Start.Theirs = backup.Wait, s.Why, s.Theirs
	}
	return d
}

// Facts are what [Choose] decides by, besides the volumes themselves.
type Facts struct {
	Now  time.Time
	Keys backup.Keys
	// Flight are the runs under way, Room what the limits leave room for beside them.
	Flight backup.InFlight
	Room   *backup.Room
	// Paused says why nothing starts at all; "" where that is not so. See [Paused].
	Paused string
	// Ask answers what is known of a volume. Volumes for which there is no room are not
	// asked about: that would cost OpenStack requests at every tick.
	Ask func(*Decision) Answer
}

// An Answer is what is known of one volume and its project.
type Answer struct {
	backup.Facts
	// Why says why the volume cannot be judged; "" where it can.
	Why string
	// Theirs says that the reason is for the owner to act on. Where it is not, OpenStack
	// did not answer, and Least is how long to leave it alone.
	Theirs bool
	Least  time.Duration
}

// Paused says why nothing starts at all; "" where that is not so.
func Paused(s backup.Services, flight backup.InFlight, now time.Time) string {
	switch {
	case s.Known && s.Up == 0:
		return "nothing starts: no cinder-backup service is up"
	case now.Before(flight.Paused):
		return fmt.Sprintf("nothing starts until %s: %s", flight.Paused.UTC().Format(time.RFC3339), flight.PausedWhy)
	}
	return ""
}

// Choose decides about volumes whose turn has come, given with the longest due first. It
// yields each of them once, in the order in which they may start: one of each project in
// turn. Room and quota go to those that start, each seeing what those before it have left.
// A project that cannot be asked about takes room as if it started, so that an OpenStack
// that does not answer is not asked about every other project, too.
func Choose(due []*Decision, f Facts) iter.Seq[*Decision] {
	return func(yield func(*Decision) bool) {
		charged := map[string][]int{} // sizes in GiB, by project
		for _, d := range backup.InTurn(due, func(d *Decision) string { return d.Project }, f.Flight) {
			takes := false
			if f.Paused != "" {
				d.Start = backup.Start{Do: backup.Wait, Why: f.Paused}
			} else if full := f.Room.Full(d.Protected); full != "" {
				d.Start = backup.Start{Do: backup.Queue, Why: full}
			} else {
				takes = d.decide(f.Ask(d), charged[d.Project], f)
			}
			if takes {
				f.Room.Take(d.Protected)
			}
			if !yield(d) {
				return
			}
			if d.Start.Do == backup.Go && !d.Refused {
				charged[d.Project] = append(charged[d.Project], d.Cinder.Size)
			}
		}
	}
}

// decide decides by an answer, and says whether that takes room. charged are the backups
// that were started in the project since its quota was read.
func (d *Decision) decide(a Answer, charged []int, f Facts) (takes bool) {
	if a.Why != "" {
		d.Start = backup.Start{Do: backup.Wait, Theirs: a.Theirs, Why: a.Why}
		d.Next = d.State.Wait(d.Turn, a.Why, a.Theirs, a.Least, f.Now)
		return !a.Theirs
	}
	for _, size := range charged {
		a.Quota = a.Quota.Charge(size)
	}
	d.Cinder = a.Volume
	d.Start = backup.WhatToStart(d.Policy, f.Keys, d.State, d.Turn, a.Facts, f.Now)
	switch d.Start.Do {
	case backup.Go:
		if d.Container = d.Policy.Container; d.Start.Archived != "" {
			d.Container = d.Policy.Archive.Container
		}
		return true
	case backup.Adopt:
		return true
	case backup.Wait:
		d.Next = d.State.Wait(d.Turn, d.Start.Why, d.Start.Theirs, 0, f.Now)
	case backup.Skip:
		// The slot is not over: should the owner lift it, the volume is still backed up.
		d.Next.Due = d.Turn.Next
	case backup.Done:
		d.Next = d.State.After(d.Policy, d.Volume, d.Turn.Slot, f.Now)
		if made := d.Start.Backup.Created; made.After(d.Next.LastComplete) {
			d.Next.LastComplete = made
		}
	}
	return false
}

// crowded is the state of a queued volume that steps back, so that others are looked at.
func (d *Decision) crowded(now time.Time) backup.State {
	s := d.State
	s.Waiting, s.Waits, s.Why = d.Turn.Slot, max(s.Waits, 1), d.Start.Why
	s.Due = now.Add(15 * time.Second)
	return s
}
