package backup

import (
	"fmt"
	"time"
)

// A Turn says whether a volume's slot has come.
type Turn struct {
	// Now says that a run is due.
	Now bool
	// Slot is the one due, or the newest one where none is.
	Slot time.Time
	// Ends is when the next slot takes this one's place.
	Ends time.Time
	// Next is when its next turn comes: its place in this slot's window where that
	// lies ahead, else in the next one's.
	Next time.Time
	// Lost is an earlier slot that was waited for in vain, zero for none.
	Lost time.Time
	Why  string
}

// WhoseTurn decides for one volume at now. Only the newest slot counts: those that
// were missed become one run. A volume that has no restore point yet is due at
// once; any other at its own place in the slot's window.
func WhoseTurn(p Policy, volume string, s State, now time.Time) Turn {
	slot := p.Schedule.Slot(now)
	t := Turn{Slot: slot, Ends: p.Schedule.Next(now)}
	// A slot in the future was planned by a clock that was wrong: it says nothing
	// about this one.
	last := s.LastSlot
	if last.After(now) {
		last = time.Time{}
		// But a restore point that is young enough is one, whatever its slot was called.
		if !s.LastComplete.Before(slot) && !s.LastComplete.After(p.Schedule.Next(t.Ends)) {
			last = slot
		}
	}
	t.Next = t.Ends.Add(Offset(volume, spread(p.Schedule, t.Ends, p.Spread)))
	if !slot.After(last) {
		t.Why = "slot " + slot.Format(Stamp) + " is done"
		return t
	}
	for _, vain := range []time.Time{s.Waiting, s.Retry} {
		if !vain.IsZero() && vain.Before(slot) && vain.After(last) {
			t.Lost = vain
		}
	}
	start := slot.Add(Offset(volume, spread(p.Schedule, slot, p.Spread)))
	switch {
	case s.Retry.Equal(slot):
		t.Now, t.Why = true, "second attempt: "+s.Why
	case s.LastComplete.IsZero() && last.IsZero():
		t.Now, t.Why = true, "newly protected"
	case last.IsZero():
		t.Now, t.Why = true, "slot "+slot.Format(Stamp)+", which slots were done is not known"
	case p.Schedule.Next(last).Before(slot):
		// An outage or a blackout: its own place in the window has been waited for long
		// enough already.
		t.Now, t.Why = true, "slots since "+last.Format(Stamp)+" were missed"
	case start.After(now):
		t.Next, t.Why = start, "its place in the window is "+start.Format(time.RFC3339)
	default:
		t.Now, t.Why = true, "slot "+slot.Format(Stamp)
	}
	return t
}

// After is the volume's state once a run's slot is over, whatever its outcome.
func (s State) After(p Policy, volume string, slot, now time.Time) State {
	if slot.After(s.LastSlot) || s.LastSlot.After(now) {
		s.LastSlot = slot
	}
	s.Retry, s.Waiting, s.Waits, s.Why, s.Theirs = time.Time{}, time.Time{}, 0, "", false
	turn := WhoseTurn(p, volume, s, now)
	s.Due = turn.Next
	if turn.Now {
		s.Due = now
	}
	return s
}

// Wait is the volume's state when its slot cannot start for now: it is looked at
// again at growing intervals until the slot ends: soon at first, then no more than
// every 15 minutes.
func (s State) Wait(t Turn, why string, theirs bool, atLeast time.Duration, now time.Time) State {
	if !s.Waiting.Equal(t.Slot) {
		s.Waits = 0
	}
	s.Waiting, s.Why, s.Theirs = t.Slot, why, theirs
	if s.Due = now.Add(max(Growing(s.Waits, 30*time.Second, 15*time.Minute), atLeast)); s.Due.After(t.Ends) && t.Ends.After(now) {
		s.Due = t.Ends // the slot is lost then, which has to be told
	}
	s.Waits++
	return s
}

// skew is how far Cinder's clock, by which restore points are dated, may be behind
// ours, by which slots are.
const skew = time.Minute

// Overdue says whether a volume is past its promise: no restore point for the
// newest slot whose time is over. deadline is how long a backup of it may take.
func Overdue(p Policy, v Protected, deadline time.Duration, now time.Time) (bool, string) {
	if v.Skip != "" {
		return false, ""
	}
	due := p.Schedule.Slot(now)
	for now.Before(p.over(due, deadline)) {
		due = p.Schedule.Slot(due.Add(-time.Second))
	}
	point := v.State.LastComplete
	switch {
	case !point.Before(due.Add(-skew)):
		return false, ""
	case point.IsZero():
		// A volume younger than the slot has not been promised anything by it, nor has
		// one that no run was tried for and that was not due yet when the slot came.
		untried := v.State.LastSlot.IsZero() && v.State.Waits == 0
		if v.Created.After(due) || untried && (v.State.Due.IsZero() || !v.State.Due.Before(due)) {
			return false, ""
		}
		return true, "no restore point yet"
	}
	return true, fmt.Sprintf("newest restore point %s is older than slot %s", point.UTC().Format(time.RFC3339), due.Format(time.RFC3339))
}

// over is when the time of a slot is over: after the last place in its window, or
// the blackout that this lies in, plus the deadline of a backup, of which no more
// counts than one period. What takes longer than that cannot keep the promise.
func (p Policy) over(slot time.Time, deadline time.Duration) time.Time {
	starts := slot.Add(spread(p.Schedule, slot, p.Spread))
	for range p.Blackouts { // one may begin where another ends
		if end, _, dark := p.Blackouts.Until(starts, p.Schedule.Zone()); dark {
			starts = end
		}
	}
	return starts.Add(min(deadline, p.Schedule.Next(slot).Sub(slot)))
}
