package backup

import (
	"testing"
)

// A slot that the ledger holds for done lies ahead: the clock was ahead then, or is
// behind now.
func TestASlotDoneInTheFuture(t *testing.T) {
	for _, c := range []struct{ name, state, now, want string }{
		{"the clock was ahead, and the slot of now has its restore point: it is done",
			"last=24T02:00 complete=22T02:20", "22T12:00", "done"},
		{"a restore point of the slot's very beginning", "last=24T02:00 complete=22T02:00", "22T12:00", "done"},
		{"an older restore point: the slot is due", "last=24T02:00 complete=22T01:59", "22T12:00", "due"},
		{"none at all", "last=24T02:00", "22T12:00", "due"},
		{"the clock is some hours behind: the slot before is not done again", "last=23T02:00 complete=23T02:20", "22T23:00", "done"},
		{"not for more than a period: who knows which clock is right", "last=25T02:00 complete=25T02:20", "22T12:00", "due"},
		{"a slot that does not lie ahead is what it was", "last=22T02:00 complete=20T02:20", "22T12:00", "done"},
	} {
		t.Run(c.name, func(t *testing.T) {
			turn := WhoseTurn(policy("every=daily@02:00"), theVolume, state(c.state), on(c.now))
			if got := map[bool]string{true: "due", false: "done"}[turn.Now]; got != c.want {
				t.Errorf("%s (%s), want %s", got, turn.Why, c.want)
			}
		})
	}
}

// The run's backup is there when its turn comes.
func TestABackupOfTheRunIsThere(t *testing.T) {
	slot := on("22T02:00")
	backups := made("F1@3h", slot, on("22T12:00"))
	for i := range backups {
		backups[i].Metadata[MetaRun] = RunID(theVolume, slot)
	}
	for _, c := range []struct {
		name, status string
		known        bool
		want         Action
	}{
		{"complete, and nobody has seen it: it is taken on, and told", "available", false, Adopt},
		{"complete, and seen so before: it was told", "available", true, Done},
		{"under way, whatever the ledger says", "creating", true, Adopt},
		{"being restored", "restoring", true, Adopt},
		{"broken", "error", true, Go},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := backups[0]
			b.Status = c.status
			f := Facts{Volume: Volume{ID: theVolume, Size: 10, Status: "in-use"}, Backups: []CinderBackup{b}, Known: map[string]bool{b.ID: c.known},
				Quota: Quota{Backups: Usage{Limit: -1}, Gigabytes: Usage{Limit: -1}}}
			p := policy("every=daily@02:00")
			start := WhatToStart(p, Keys{}, State{}, Turn{Slot: slot, Now: true}, f, on("22T12:00"))
			if start.Do != c.want {
				t.Errorf("%v (%s), want %v", start.Do, start.Why, c.want)
			}
			if c.want == Done && (start.Backup.ID != b.ID || start.Why == "") {
				t.Errorf("backup %q, why %q", start.Backup.ID, start.Why)
			}
		})
	}
}
