package retention

import (
	"slices"
	"testing"
	"time"

	"staffeln/events/cinder"
	"staffeln/functions/backup"
)

// A volume with an open run counts in the look at its project as one that loses
// nothing. When the run is over, and Cinder tells that a child is gone, its parent
// goes: it was never counted. A negative sum would lift the brake from others, and
// the ledger reads none.
func TestWhatWasNotCountedIsNotTakenOff(t *testing.T) {
	f, s, _ := setUp(t, 1, "p1")
	if err := s.tick(t, f, noon); err != nil {
		t.Fatal(err)
	}
	want(t, "what is announced", len(s.memory["p1"].Removals), "2")
	s.runs = []backup.Run{{Project: "p1", Volume: "p1-v0"}}
	if err := s.tick(t, f, noon.Add(5*time.Second)); err != nil {
		t.Fatal(err)
	}
	want(t, "what is asked for while a run is open", s.deletes(), "[]")
	want(t, "what counts as going meanwhile", s.memory["p1"].Outlook.Removals, "0")

	s.runs = nil
	s.backups["p1"] = slices.DeleteFunc(s.backups["p1"], func(b backup.CinderBackup) bool { return b.ID == "p1-v0-1" })
	if err := f.Told(t.Context(), cinder.Backup{Project: "p1", ID: "p1-v0-1", At: noon.Add(20 * time.Second), Event: "backup.delete.end"}); err != nil {
		t.Fatal(err)
	}
	want(t, "the parent follows", s.deletes(), "[p1-v0-0]")
	if o := s.memory["p1"].Outlook; o.Backups < 0 || o.Removals < 0 || o.Chains < 0 || o.Losses < 0 {
		t.Errorf("less than nothing is to go: %+v", o)
	}
}
