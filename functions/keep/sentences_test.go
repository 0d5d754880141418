package keep

import (
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"staffeln/functions/backup"
	"staffeln/testutil/sentences"
)

// Decide keeps exactly what the four sentences of docs/operators.md say, whatever the history. They
// say nothing of chains.
func TestTheFourSentences(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, h := wildHistory(t)
		for i := range h.Backups {
			h.Backups[i].Incremental, h.Backups[i].Dependents = false, false
		}
		h.Parents = nil
		now := aMoment(t, h, "now")
		facts := sentences.Facts{Backups: h.Backups, Policy: h.Policy, Gone: h.Gone, Orphan: h.Orphan, Busy: h.Busy}
		want := facts.Stay(now)
		for _, f := range Decide(h, now) {
			b := f.Backup
			if b.Ours() && (b.Status == "available" || b.Status == "restoring") && f.Keep != want[b.ID] {
				t.Fatalf("at %s, gone %s, by the sentences it stays: %v\n%s", now, h.Gone, want[b.ID], tellFates(Decide(h, now)))
			}
		}
	})
}

// The example of docs/operators.md.
func TestTheExampleOfTheManual(t *testing.T) {
	now := on("18T12:00")
	h := Holding{Project: "p", Volume: theVolume}
	for at := on("2026-09-01T02:00"); at.Before(now); at = at.AddDate(0, 0, 1) {
		p := policy("keep=2d, rules=daily=7 monthly=3")
		if at.After(on("15T12:00")) {
			p = policy("keep=2d, rules=daily=3")
		}
		run := backup.Run{Volume: theVolume, Slot: at, Attempt: 1, Kind: backup.Full}
		h.Backups = append(h.Backups, judged(backup.CinderBackup{ID: at.Format(time.DateOnly), Volume: theVolume, Project: "p",
			Status: "available", Created: at, Metadata: backup.Metadata(run, p, backup.Enrolment{}, at)}))
		h.Policy = &p
	}
	want := "    made         stays because\n"
	for _, f := range Decide(h, now) {
		if f.Keep {
			want += "    " + f.Backup.ID + "   " + f.Why + "\n"
		}
	}
	if page, err := os.ReadFile("../../docs/operators.md"); err != nil || !strings.Contains(string(page), want) {
		t.Errorf("operators.md does not have it: %v\n%s", err, want)
	}
}
