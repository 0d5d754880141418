package retention

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"staffeln/events"
	"staffeln/events/cinder"
	"staffeln/functions/backup"
)

// What is here is what a simulated cloud on a real ledger cannot bring about: two
// that look at once, a clock that nobody knows, more than one look may do. All else
// is told as histories, in the package above.

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// small is a ledger and a cloud of a few values.
type small struct {
	due      []string
	memory   map[string]backup.Retention
	records  map[string][]backup.Record
	runs     []backup.Run
	saved    []string // "p1 next=22T12:00 gone=2"
	elsewise bool     // somebody else writes between reading and writing

	backups map[string][]backup.CinderBackup // by project
	hidden  map[string]bool                  // there, and not in a list
	refuse  map[string]error                 // what a DELETE answers
	clock   time.Time
	calls   []string
}

func (s *small) Shard(string) int                         { return 0 }
func (s *small) Ready(context.Context, int) (bool, error) { return true, nil }
func (s *small) RetentionDue(context.Context, int, time.Time, int) ([]string, error) {
	return s.due, nil
}
func (s *small) Retention(_ context.Context, project string) (backup.Retention, error) {
	r := s.memory[project]
	r.Project, r.Removals = project, maps.Clone(r.Removals)
	return r, nil
}
func (s *small) SaveRetention(_ context.Context, r backup.Retention, gone []backup.Removal, next time.Time) (bool, error) {
	if s.elsewise {
		return false, nil
	}
	s.memory[r.Project] = r
	s.saved = append(s.saved, fmt.Sprintf("%s next=%s gone=%d", r.Project, next.Format("02T15:04:05"), len(gone)))
	for _, g := range gone {
		s.records[r.Project] = slices.DeleteFunc(s.records[r.Project], func(x backup.Record) bool { return x.ID == g.Backup })
	}
	return true, nil
}
func (s *small) Outlook(context.Context) (o backup.Outlook, err error) {
	for _, r := range s.memory {
		o = o.Add(r.Outlook)
	}
	return o, nil
}
func (s *small) CloudRelease(context.Context) (time.Time, int, error) { return time.Time{}, 0, nil }
func (s *small) Runs(context.Context, int) ([]backup.Run, error)      { return s.runs, nil }
func (s *small) Records(_ context.Context, project string) ([]backup.Record, error) {
	return slices.Clone(s.records[project]), nil
}
func (s *small) VolumesOf(context.Context, string, []string) (map[string]backup.Protected, error) {
	return nil, nil
}
func (s *small) Project(_ context.Context, id string) (backup.Project, bool, error) {
	return backup.Project{ID: id}, !strings.HasPrefix(id, "excluded"), nil
}
func (s *small) BackupsOf(_ context.Context, project, volume string, _ time.Time) (out []backup.CinderBackup, err error) {
	s.calls = append(s.calls, strings.TrimSpace("list "+project+" "+volume))
	for _, b := range s.backups[project] {
		if !s.hidden[b.ID] && (volume == "" || b.Volume == volume) {
			out = append(out, b)
		}
	}
	return out, nil
}
func (s *small) Backup(_ context.Context, project, id string) (backup.CinderBackup, error) {
	s.calls = append(s.calls, "show "+id)
	for _, b := range s.backups[project] {
		if b.ID == id {
			return b, nil
		}
	}
	return backup.CinderBackup{}, &backup.CloudError{Fault: backup.Gone, Status: 404}
}
func (s *small) Volume(_ context.Context, project, id string) (backup.Volume, error) {
	return backup.Volume{ID: id, Project: project}, nil
}
func (s *small) DeleteBackup(_ context.Context, project, id string) error {
	s.calls = append(s.calls, "delete "+id)
	if err := s.refuse[id]; err != nil {
		return err
	}
	s.backups[project] = slices.DeleteFunc(s.backups[project], func(b backup.CinderBackup) bool { return b.ID == id })
	return nil
}
func (s *small) Clock() (time.Time, bool) { return s.clock, !s.clock.IsZero() }

func (s *small) deletes() (out []string) {
	for _, c := range s.calls {
		if id, ok := strings.CutPrefix(c, "delete "); ok {
			out = append(out, id)
		}
	}
	return out
}

// setUp is a function on a small world in which every volume of the projects has an
// old full backup, with an incremental on it, and a young full one.
func setUp(t *testing.T, volumes int, projects ...string) (*Function, *small, *bytes.Buffer) {
	t.Helper()
	s := &small{due: projects, memory: map[string]backup.Retention{}, records: map[string][]backup.Record{}, clock: noon,
		backups: map[string][]backup.CinderBackup{}, hidden: map[string]bool{}, refuse: map[string]error{}}
	for _, p := range projects {
		for v := range volumes {
			volume := fmt.Sprintf("%s-v%d", p, v)
			for n, age := range []time.Duration{72 * time.Hour, 48 * time.Hour, time.Hour} {
				b := backup.CinderBackup{ID: fmt.Sprintf("%s-%d", volume, n), Project: p, Volume: volume, Status: "available", Size: 1,
					Incremental: n == 1, Created: noon.Add(-age), Origin: backup.OriginService, Metadata: map[string]string{backup.MetaAutomated: "True",
						backup.MetaRetention: "1d", backup.MetaZone: "UTC", backup.MetaRules: "none"}}
				s.backups[p] = append(s.backups[p], b)
				s.records[p] = append(s.records[p], backup.RecordOf(b))
			}
		}
		s.memory[p] = backup.Retention{Looked: noon.Add(-time.Hour)}
	}
	var log bytes.Buffer
	return &Function{Ledger: s, Cloud: s, Settings: backup.Settings{Brake: backup.Brake{Percent: 100}},
		Log: slog.New(slog.NewTextHandler(&log, nil)), Count: func(string, float64, ...string) {}}, s, &log
}

func (s *small) tick(t *testing.T, f *Function, at time.Time) error {
	t.Helper()
	s.calls = nil
	if !s.clock.IsZero() {
		s.clock = at
	}
	return f.Retention(t.Context(), events.Tick{Name: "retention", At: at})
}

func want(t *testing.T, what string, got any, want string) {
	t.Helper()
	if g := fmt.Sprint(got); g != want {
		t.Errorf("%s:\n got %s\nwant %s", what, g, want)
	}
}

func TestARemovalIsAnnouncedOneLookBeforeItIsCarriedOut(t *testing.T) {
	f, s, _ := setUp(t, 1, "p1")
	if err := s.tick(t, f, noon); err != nil {
		t.Fatal(err)
	}
	want(t, "at the first look", s.calls, "[list p1]")
	want(t, "the next one comes at once", s.saved, "[p1 next=22T12:00:00 gone=0]")
	if err := s.tick(t, f, noon.Add(5*time.Second)); err != nil {
		t.Fatal(err)
	}
	want(t, "at the second the whole chain goes", s.calls, "[list p1 delete p1-v0-1 show p1-v0-1 delete p1-v0-0 show p1-v0-0]")
	want(t, "and both are told", s.saved[1], "p1 next=23T12:00:05 gone=2")
}

func TestWhatCameUpSinceIsAnnouncedFirst(t *testing.T) {
	f, s, _ := setUp(t, 1, "p1")
	_ = s.tick(t, f, noon)
	late := s.backups["p1"][0]
	late.ID, late.Volume = "late", "p1-v9"
	young := s.backups["p1"][2]
	young.ID, young.Volume = "young", "p1-v9"
	s.backups["p1"] = append(s.backups["p1"], late, young)
	_ = s.tick(t, f, noon.Add(5*time.Second))
	want(t, "second look", s.deletes(), "[p1-v0-1 p1-v0-0]")
	_ = s.tick(t, f, noon.Add(10*time.Second))
	want(t, "third look", s.deletes(), "[late]")
}

func TestNobodyKnowsTheTime(t *testing.T) {
	f, s, log := setUp(t, 1, "p1")
	_ = s.tick(t, f, noon)
	s.clock = time.Time{}
	for range 3 {
		_ = s.tick(t, f, noon.Add(5*time.Second))
	}
	want(t, "removed", s.deletes(), "[]")
	want(t, "told", strings.Count(log.String(), "the cloud's own time is not known"), "1")
}

func TestALookIsBounded(t *testing.T) {
	f, s, _ := setUp(t, mostDeleted+20, "p1")
	_ = s.tick(t, f, noon)
	_ = s.tick(t, f, noon.Add(5*time.Second))
	want(t, "asked for in one look", len(s.deletes()), fmt.Sprint(mostDeleted))
	want(t, "the next look", s.saved[1][:19], "p1 next=22T12:00:05")
	total := len(s.deletes())
	for i := range 10 {
		_ = s.tick(t, f, noon.Add(time.Duration(10+5*i)*time.Second))
		total += len(s.deletes())
	}
	want(t, "asked for in all", total, fmt.Sprint(2*(mostDeleted+20)))
}

func TestManyBackupsThatAListLacks(t *testing.T) {
	f, s, log := setUp(t, 60, "p1")
	_ = s.tick(t, f, noon)
	for _, b := range s.backups["p1"][3:] {
		s.hidden[b.ID] = true
	}
	s.backups["p1"] = s.backups["p1"][:3] // gone, too: nobody knows who did that
	_ = s.tick(t, f, noon.Add(5*time.Second))
	want(t, "removed", s.deletes(), "[]")
	if len(s.calls) > mostAsked+1 {
		t.Errorf("%d calls in one look", len(s.calls))
	}
	if !strings.Contains(log.String(), "Cinder's list lacks 177 backups that are remembered") {
		t.Errorf("the log: %s", log)
	}
}

func TestSomebodyElseLookedMeanwhile(t *testing.T) {
	f, s, log := setUp(t, 1, "p1")
	counted := 0
	f.Count = func(name string, _ float64, labels ...string) {
		if name == "removals_total" && labels[0] == "removed" {
			counted++
		}
	}
	_ = s.tick(t, f, noon)
	s.elsewise = true
	_ = s.tick(t, f, noon.Add(5*time.Second)) // removed, and not written down
	s.elsewise = false
	_ = s.tick(t, f, noon.Add(10*time.Second))
	want(t, "each is told once, and counted once", fmt.Sprint(strings.Count(log.String(), `"backup removed"`), counted), "2 2")
	want(t, "nothing is asked for twice", s.deletes(), "[]")
	want(t, "and what is gone is told", s.saved[len(s.saved)-1], "p1 next=23T12:00:10 gone=2")
}

func TestOneProjectsTroubleIsNotAnothers(t *testing.T) {
	boom := &backup.CloudError{Fault: backup.Retry, Op: "delete backup", Status: 503, Message: "boom", After: 20 * time.Minute}
	f, s, _ := setUp(t, 1, "p1", "p2")
	s.refuse["p1-v0-1"] = boom
	_ = s.tick(t, f, noon)
	err := s.tick(t, f, noon.Add(5*time.Second))
	if !errors.Is(err, boom) || !strings.Contains(err.Error(), "project p1") {
		t.Errorf("answered %v", err)
	}
	want(t, "asked for", s.deletes(), "[p1-v0-1 p2-v0-1 p2-v0-0]")
	want(t, "Cinder is left alone for as long as it asked for", s.saved[2], "p1 next=22T12:20:05 gone=0")
}

func TestNoServiceEndsTheTick(t *testing.T) {
	f, s, log := setUp(t, 1, "p1", "p2")
	for _, id := range []string{"p1-v0-1", "p2-v0-1"} {
		s.refuse[id] = &backup.CloudError{Fault: backup.NoService, Status: 404, Message: "Service cinder-backup could not be found."}
	}
	_ = s.tick(t, f, noon)
	if err := s.tick(t, f, noon.Add(5*time.Second)); err != nil {
		t.Error(err)
	}
	want(t, "asked for", s.deletes(), "[p1-v0-1]")
	want(t, "told", strings.Count(log.String(), "Service cinder-backup could not be found"), "1")
	want(t, "the next look", s.saved[2], "p1 next=22T12:05:05 gone=0")
}

func TestAnExcludedProjectIsLeftAlone(t *testing.T) {
	f, s, _ := setUp(t, 1, "excluded")
	_ = s.tick(t, f, noon)
	_ = s.tick(t, f, noon.Add(5*time.Second))
	want(t, "asked for", s.deletes(), "[]")
}

func TestAProjectWaitsForItsRunsForAWhile(t *testing.T) {
	f, s, _ := setUp(t, 2, "p1")
	s.runs = []backup.Run{{Project: "p1", Volume: "p1-v0"}}
	r := s.memory["p1"]
	r.Due = noon
	s.memory["p1"] = r
	_ = s.tick(t, f, noon.Add(patience-time.Second))
	want(t, "while it waits", s.calls, "[]")
	_ = s.tick(t, f, noon.Add(patience))
	_ = s.tick(t, f, noon.Add(patience+5*time.Second))
	want(t, "then the volumes without a run are seen to", s.deletes(), "[p1-v1-1 p1-v1-0]")
}

func TestTold(t *testing.T) {
	tell := func(f *Function, s *small, project, id string) {
		t.Helper()
		s.calls = nil
		if err := f.Told(t.Context(), cinder.Backup{Project: project, ID: id, At: noon.Add(20 * time.Second), Event: "backup.delete.end"}); err != nil {
			t.Error(err)
		}
	}
	f, s, _ := setUp(t, 2, "p1")
	tell(f, s, "p1", "p1-v0-1")
	want(t, "nothing follows what is not on its way out", s.calls, "[]")
	_ = s.tick(t, f, noon)
	// The leaf goes later than the look that asked for it.
	s.backups["p1"] = slices.DeleteFunc(s.backups["p1"], func(b backup.CinderBackup) bool { return b.ID == "p1-v0-1" })
	tell(f, s, "p1", "p1-v0-1")
	want(t, "its parent follows, and no other volume", s.calls, "[list p1 p1-v0 delete p1-v0-0 show p1-v0-0]")
	want(t, "the rest is for the tick", len(s.memory["p1"].Removals), "2")
	tell(f, s, "p1", "p1-v0-0")
	want(t, "nothing follows the last one", s.calls, "[]")
	r := s.memory["p1"]
	r.Held = "brake: so it is"
	s.memory["p1"] = r
	s.backups["p1"] = slices.DeleteFunc(s.backups["p1"], func(b backup.CinderBackup) bool { return b.ID == "p1-v1-1" })
	tell(f, s, "p1", "p1-v1-1")
	want(t, "what is held stays so", s.calls, "[]")
}
