package track

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"staffeln/events"
	"staffeln/events/cinder"
	"staffeln/functions/backup"
)

// on reads "22T02:00", of November 2026.
func on(s string) time.Time {
	t, err := time.Parse("2006-01-02T15:04", "2026-11-"+s)
	if err != nil {
		panic(err)
	}
	return t
}

func when(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("02T15:04:05")
}

// run reads "1 incremental b1": the attempt at the slot of 22 November 02:00, the kind, and the
// backup's id if it is known.
func run(s string) backup.Run {
	f := append(strings.Fields(s), "")
	return backup.Run{Volume: "v1", Project: "p1", Slot: on("22T02:00"), Started: on("22T02:00"), Deadline: on("22T04:00"),
		Attempt: int(f[0][0] - '0'), Kind: backup.Kind(f[1]), Backup: f[2], State: backup.Running, VolumeName: "data",
		Servers: []string{"s1"}}
}

// made reads "b1 full available because REASON", a backup of attempt 1 made at 02:05; "forged"
// before the status makes it somebody else's, "attempt=2" that of attempt 2.
func made(s string) backup.CinderBackup {
	s, reason, _ := strings.Cut(s, " because ")
	f := strings.Fields(s)
	b := backup.CinderBackup{ID: f[0], Name: "data-20261122T020000Z", Project: "p1", Volume: "v1",
		Incremental: f[1] == "incremental", Status: f[len(f)-1], FailReason: reason, Created: on("22T02:05"),
		Origin: backup.OriginService, Metadata: map[string]string{
			backup.MetaRun: "v1@20261122T020000Z", backup.MetaAttempt: "1"}}
	if slices.Contains(f, "forged") {
		b.Origin = backup.OriginForged
	}
	if slices.Contains(f, "attempt=2") {
		b.Metadata[backup.MetaAttempt] = "2"
	}
	return b
}

// A stand-in is ledger and cloud at once, and writes down what is done.
type standIn struct {
	open, watched []backup.Run
	stamps        []backup.StampDue
	discards      []backup.Discard
	// backups are what Cinder has, unlisted ones only if asked for by their ids.
	backups, unlisted []backup.CinderBackup
	cinder, nova      error
	behind            bool // our clock is, by the cloud's
	done              []string
}

func (s *standIn) did(format string, args ...any) {
	s.done = append(s.done, strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (s *standIn) Open(context.Context, int, time.Time, int) ([]backup.Run, error) {
	return s.open, nil
}

func (s *standIn) Look(_ context.Context, _, id string, at time.Time) (bool, error) {
	s.did("look at %s by %s", id, when(at))
	return id != "other", nil
}

func (s *standIn) SetParent(_ context.Context, _, id, parent string) error {
	s.did("%s builds on %s", id, parent)
	return nil
}

func (s *standIn) Advance(_ context.Context, r backup.Run, look time.Time) (bool, error) {
	s.did("%s %s, next look %s", r.Backup, r.State, when(look))
	return true, nil
}

func (s *standIn) Finish(_ context.Context, c backup.Closing) (bool, error) {
	s.did("%s", showClosing(c))
	return true, nil
}

func (s *standIn) FinishLate(_ context.Context, c backup.Closing) (bool, error) {
	s.did("late %s", showClosing(c))
	return true, nil
}

func (s *standIn) Release(context.Context, backup.Run) error { s.did("release"); return nil }

func (s *standIn) Pause(_ context.Context, until time.Time, _ string) error {
	s.did("pause until %s", when(until))
	return nil
}

func (s *standIn) Volume(_ context.Context, project, volume string) (backup.Protected, bool, error) {
	e := backup.Enrolment{Server: "s1", Project: project, Class: backup.Default}
	return backup.Protected{Volume: volume, Project: project, Enrolments: []backup.Enrolment{e}}, true, nil
}

func (s *standIn) Stamps(context.Context, int, time.Time, int) ([]backup.StampDue, error) {
	return s.stamps, nil
}

func (s *standIn) Stamped(_ context.Context, d backup.StampDue, again time.Time) error {
	s.did("stamp of %s again %s", d.Server, when(again))
	return nil
}

func (s *standIn) Discards(context.Context, int, time.Time, int) ([]backup.Discard, error) {
	return s.discards, nil
}

func (s *standIn) Discarded(_ context.Context, d backup.Discard, again time.Time) error {
	s.did("discard of %s again %s", d.Backup, when(again))
	return nil
}

func (s *standIn) Watched(context.Context, int, time.Time, int) ([]backup.Run, error) {
	return s.watched, nil
}

func (s *standIn) Watch(_ context.Context, r backup.Run, at time.Time) error {
	s.did("watch %s at %s", r.Backup, when(at))
	return nil
}

func (s *standIn) Unwatch(_ context.Context, r backup.Run) error {
	s.did("unwatch %s", r.Backup)
	return nil
}

func (s *standIn) Backup(_ context.Context, _, id string) (backup.CinderBackup, error) {
	for _, b := range slices.Concat(s.backups, s.unlisted) {
		if b.ID == id && s.cinder == nil {
			return b, nil
		}
	}
	if s.cinder != nil {
		return backup.CinderBackup{}, s.cinder
	}
	return backup.CinderBackup{}, &backup.CloudError{Fault: backup.Gone}
}

func (s *standIn) BackupsOf(context.Context, string, string, time.Time) ([]backup.CinderBackup, error) {
	return s.backups, s.cinder
}

func (s *standIn) DeleteBackup(_ context.Context, _, id string) error {
	s.did("DELETE %s", id)
	return nil
}

func (s *standIn) SetServerMetadata(_ context.Context, _, server, key, value string) error {
	s.did("%s %s=%s", server, key, value)
	return s.nova
}

func (s *standIn) Clock() (time.Time, bool) { return on("30T00:00"), s.behind }

// showClosing is what a closing says, in words.
func showClosing(c backup.Closing) string {
	words := []string{string(c.Run.State), string(c.Run.Kind), c.Run.Backup}
	add := func(yes bool, word string) {
		if yes {
			words = append(words, word)
		}
	}
	add(c.Final, "final")
	add(!c.Stamp.IsZero(), "stamp "+when(c.Stamp))
	add(c.Remove, "remove")
	add(!c.Watch.IsZero(), "watch "+when(c.Watch))
	add(c.Record != nil, "recorded")
	add(!c.State.LastSlot.IsZero(), "slot done")
	add(!c.State.LastComplete.IsZero(), "point "+when(c.State.LastComplete))
	add(!c.State.Retry.IsZero(), "retry")
	add(!c.State.Waiting.IsZero(), "waiting")
	add(!c.State.Due.IsZero(), "due "+when(c.State.Due))
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " ")
}

// tick runs one tick and returns what was done, and what was logged.
func tick(t *testing.T, s *standIn, now time.Time) (done, logged string) {
	t.Helper()
	daily, err := backup.ParseSchedule("daily@02:00")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	f := &Function{Ledger: s, Cloud: s, Log: slog.New(slog.NewTextHandler(&log, nil)),
		Count: func(string, float64, ...string) {},
		Settings: backup.Settings{Grace: 2 * time.Minute,
			Classes: backup.Classes{backup.Default: {Class: backup.Default, Schedule: daily}}}}
	if err := f.Track(context.Background(), events.Tick{At: now}); err != nil && s.cinder == nil {
		t.Error(err)
	}
	return strings.Join(s.done, "; "), log.String()
}

// What is written about a run, by what Cinder says of its backup. What each status means is
// tested in functions/backup.
func TestRun(t *testing.T) {
	for _, c := range []struct{ sentence, run, made, now, want string }{
		{"A complete backup ends the run, and its server is told the time", "1 incremental b1", "b1 incremental available",
			"22T03:00",
			"complete incremental b1 final stamp 22T02:05:00 recorded slot done point 22T02:05:00 due 23T02:00:00; release"},
		{"The kind is what Cinder has made", "1 incremental b1", "b1 full available",
			"22T03:00",
			"complete full b1 final stamp 22T02:05:00 recorded slot done point 22T02:05:00 due 23T02:00:00; release"},
		{"A run without an id is found by its name", "1 full", "b9 full available",
			"22T03:00",
			"complete full b9 final stamp 22T02:05:00 recorded slot done point 22T02:05:00 due 23T02:00:00; release"},
		{"One under way is adopted", "1 full", "b9 full creating", "22T02:04", "b9 running, next look 22T02:05:00"},
		{"One under way is looked at again", "1 full b1", "b1 full creating", "22T02:20",
			"b1 running, next look 22T02:25:00"},
		{"A failed attempt is followed by another, and its backup is removed", "1 full b1", "b1 full error because no space",
			"22T03:00", "failed full b1 remove recorded retry due 22T03:00:10; release"},
		{"A second failure is the end of the slot", "2 full b1", "b1 full attempt=2 error because no space",
			"22T03:00", "failed full b1 final remove recorded slot done due 23T02:00:00; release"},
		{"Without a cinder-backup service nothing starts, and the attempt does not count", "1 full b1",
			"b1 full error because Service not found for creating backup.",
			"22T03:00", "pause until 22T03:05:00; failed full b1 remove recorded waiting due 22T03:05:00; release"},
		{"A run past its deadline fails, and its backup is watched", "1 full b1", "b1 full creating",
			"22T04:00", "failed full b1 final watch 22T04:15:00 recorded slot done due 23T02:00:00; release"},
		{"A request that never reached Cinder gives the turn back", "1 full", "", "22T02:03",
			"failed full waiting due 22T02:03:00; release"},
		{"A backup that is gone has failed", "1 full b1", "", "22T03:00", "failed full b1 retry due 22T03:00:10; release"},
		{"Somebody else's backup does not end the run", "1 full", "b9 full forged available", "22T02:01",
			"requested?, next look 22T02:01:15"},
		{"Nor does the other attempt's", "2 full", "b9 full available", "22T02:01", "requested?, next look 22T02:01:15"},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			s := &standIn{open: []backup.Run{run(c.run)}}
			if c.made != "" {
				s.backups = []backup.CinderBackup{made(c.made)}
			}
			if done, _ := tick(t, s, on(c.now)); done != strings.Replace(c.want, "requested?", "running", 1) {
				t.Errorf("\n got %s\nwant %s", done, c.want)
			}
		})
	}
}

func TestAListThatLacksABackupProvesNothing(t *testing.T) {
	other := run("1 full")
	other.Volume = "v2"
	s := &standIn{open: []backup.Run{run("1 full b1"), other}, unlisted: []backup.CinderBackup{made("b1 full available")}}
	if done, _ := tick(t, s, on("22T02:01")); !strings.HasPrefix(done, "complete full b1 final") {
		t.Error(done)
	}
}

func TestABackupThatTheRunDidNotMakeIsLogged(t *testing.T) {
	s := &standIn{open: []backup.Run{run("1 full b1")}, backups: []backup.CinderBackup{made("b1 full forged available")}}
	_, log := tick(t, s, on("22T03:00"))
	if !strings.Contains(log, "did not make") || !strings.Contains(log, "volume=v1 volume_name=data") {
		t.Error(log)
	}
}

func TestARunIsLeftAloneWhileCinderIsInTrouble(t *testing.T) {
	s := &standIn{open: []backup.Run{run("1 full b1")}, cinder: &backup.CloudError{Fault: backup.Retry,
		After: time.Minute}}
	if done, _ := tick(t, s, on("22T03:00")); done != "b1 running, next look 22T03:01:00" {
		t.Error(done)
	}
}

func TestARunBegunInTheFutureBeginsNow(t *testing.T) {
	for _, c := range []struct {
		sentence string
		behind   bool
		want     string
	}{
		{"The clock was ahead then", false, "b1 running, next look 21T02:00:00; b1 running, next look 21T02:00:10"},
		{"Our clock is behind now", true, "b1 running, next look 21T02:00:10"},
	} {
		s := &standIn{open: []backup.Run{run("1 full b1")}, backups: []backup.CinderBackup{made("b1 full creating")},
			behind: c.behind}
		if done, _ := tick(t, s, on("21T02:00")); done != c.want {
			t.Errorf("%s: %s", c.sentence, done)
		}
	}
}

// What is left to do after the end of a run.
func TestAfterwards(t *testing.T) {
	stamp := backup.StampDue{Server: "s1", Project: "p1", At: on("22T02:05"), Tries: 1}
	const written = "s1 last-backup-time=2026-11-22T02:05:00Z; stamp of s1 again "
	for _, c := range []struct{ sentence, what, made, want string }{
		{"The time of the newest backup is written", "stamp", "", written + "never"},
		{"A server that is gone needs none", "stamp gone", "", written + "never"},
		{"One that refuses is tried again, later each time", "stamp refused", "", written + "22T03:01:00"},

		{"A broken backup is removed", "discard", "b1 full error", "DELETE b1; discard of b1 again never"},
		{"One that is gone is forgotten", "discard", "", "discard of b1 again never"},
		{"One on its way is waited for", "discard", "b1 full deleting", "discard of b1 again 22T03:00:30"},
		{"One that is not broken stays", "discard", "b1 full available", "discard of b1 again never"},
		{"Somebody else's stays", "discard", "b1 full forged error", "discard of b1 again never"},

		{"A backup that becomes complete late is a restore point", "watch", "b1 full available",
			"late complete full b1 final stamp 22T02:05:00 recorded"},
		{"One that fails late is removed", "watch", "b1 full error", "late running full b1 remove recorded"},
		{"One under way is watched on", "watch", "b1 full creating", "watch b1 at 22T03:15:00"},
		{"One that is deleted is not", "watch", "b1 full deleting", "unwatch b1"},
		{"Nor one that is gone", "watch", "", "unwatch b1"},
		{"Nor somebody else's", "watch", "b1 full forged available", "unwatch b1"},
		{"Nor one that takes more than a month", "watch a month", "b1 full creating", "unwatch b1"},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			s, now := &standIn{}, on("22T03:00")
			switch c.what {
			case "stamp":
				s.stamps = []backup.StampDue{stamp}
			case "stamp gone":
				s.stamps, s.nova = []backup.StampDue{stamp}, &backup.CloudError{Fault: backup.Gone}
			case "stamp refused":
				s.stamps, s.nova = []backup.StampDue{stamp}, errors.New("locked")
			case "discard":
				s.discards = []backup.Discard{{Backup: "b1", Project: "p1"}}
			case "watch a month":
				now = on("22T03:00").AddDate(0, 0, 31)
				fallthrough
			case "watch":
				s.watched = []backup.Run{run("1 full b1")}
			}
			if c.made != "" {
				s.backups = []backup.CinderBackup{made(c.made)}
			}
			if done, _ := tick(t, s, now); done != c.want {
				t.Errorf("\n got %s\nwant %s", done, c.want)
			}
		})
	}
}

func TestTold(t *testing.T) {
	for _, c := range []struct{ sentence, id, parent, want string }{
		{"A notification brings the next look forward", "b1", "", "look at b1 by 22T03:00:00"},
		{"It alone says which backup an incremental builds on", "b2", "b1", "look at b2 by 22T03:00:00; b2 builds on b1"},
		{"A backup of no run is nothing to us", "other", "b1", "look at other by 22T03:00:00"},
	} {
		s := &standIn{}
		err := (&Function{Ledger: s}).Told(context.Background(), cinder.Backup{ID: c.id, Project: "p1", Parent: c.parent,
			At: on("22T03:00")})
		if done := strings.Join(s.done, "; "); err != nil || done != c.want {
			t.Errorf("%s: %s, %v", c.sentence, done, err)
		}
	}
}
