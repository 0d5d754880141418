package dispatch

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"staffeln/functions/backup"
)

// It is 22 November 2026, 03:00 UTC; backups are due daily at 02:00.
var (
	slot = time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)
	now  = slot.Add(time.Hour)
)

// classes has the default class, and "office" with a blackout until 06:00.
func classes() backup.Classes {
	daily, err := backup.ParseSchedule("daily@02:00")
	if err != nil {
		panic(err)
	}
	p := backup.Policy{Class: backup.Default, Schedule: daily, Depth: 6, Retention: backup.Age{Weeks: 1}}
	office := p
	if office.Blackouts, err = backup.ParseBlackouts("00:00-06:00"); err != nil {
		panic(err)
	}
	return backup.Classes{backup.Default: p, "office": office}
}

// volume reads "a1", a volume of project a, or "a1/ceph" with its backend. Its last slot
// was yesterday's.
func volume(word string) backup.Protected {
	id, backend, _ := strings.Cut(word, "/")
	return backup.Protected{Volume: id, Project: id[:1], Name: "name of " + id, Size: 10, Backend: backend,
		Enrolments: []backup.Enrolment{{Server: "s", Name: "web-1", Project: id[:1], Class: backup.Default}},
		State:      backup.State{LastSlot: slot.AddDate(0, 0, -1), LastComplete: slot.AddDate(0, 0, -1), Due: slot}}
}

func TestLook(t *testing.T) {
	yesterday := slot.AddDate(0, 0, -1)
	for _, c := range []struct {
		name string
		tell func(v *backup.Protected)
		want string
	}{
		{"its slot has come", func(*backup.Protected) {}, "go: slot 20261122T020000Z"},
		{"its slot is done", func(v *backup.Protected) { v.State.LastSlot = slot },
			"later until 23T02:00: slot 20261122T020000Z is done"},
		{"its class has a blackout", func(v *backup.Protected) { v.Enrolments[0].Class = "office" },
			"wait until 22T06:00: blackout 00:00-06:00"},
		{"it was put off, and that is not over", func(v *backup.Protected) {
			v.State.Waiting, v.State.Why, v.State.Theirs, v.State.Due = slot, "volume is reserved", true, now.Add(time.Minute)
		}, "wait until 22T03:01, theirs: volume is reserved"},
		{"it was put off, and that is over", func(v *backup.Protected) {
			v.State.Waiting, v.State.Why, v.State.Due = slot, "volume is reserved", now
		}, "go: slot 20261122T020000Z"},
		{"the second attempt's time has not come", func(v *backup.Protected) {
			v.State.Retry, v.State.Why, v.State.Due = slot, "rados", now.Add(time.Minute)
		}, "wait until 22T03:01: rados"},
		{"the second attempt's time has come",
			func(v *backup.Protected) { v.State.Retry, v.State.Why = slot, "rados" }, "go: second attempt: rados"},
		{"yesterday's slot was waited for in vain", func(v *backup.Protected) {
			v.State.LastSlot, v.State.Waiting, v.State.Why = yesterday.AddDate(0, 0, -1), yesterday, "volume is reserved"
		}, "lost 21T02:00 attempt 1: could not start within its slot: volume is reserved; go: slot 20261122T020000Z"},
		{"yesterday's second attempt was waited for in vain", func(v *backup.Protected) {
			v.State.LastSlot, v.State.Retry, v.State.Why = yesterday.AddDate(0, 0, -1), yesterday, "rados"
		}, "lost 21T02:00 attempt 2: could not start within its slot: rados; go: slot 20261122T020000Z"},
		{"a slot is lost, and the next is in a blackout", func(v *backup.Protected) {
			v.Enrolments[0].Class = "office"
			v.State.LastSlot, v.State.Waiting, v.State.Why =
				yesterday.AddDate(0, 0, -1), yesterday, "cloud limit: 3 of 3 running"
		}, "lost 21T02:00 attempt 1: could not start within its slot: cloud limit: 3 of 3 running; " +
			"wait until 22T06:00: blackout 00:00-06:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := volume("a1")
			c.tell(&v)
			d := Look(v, classes(), now)
			got := ""
			if d.Lost != nil {
				got = fmt.Sprintf("lost %s attempt %d: %s; ", d.Lost.Slot.Format("02T15:04"), d.Lost.Attempt, d.Lost.Why)
				if !d.State.LastSlot.Equal(d.Lost.Slot) || !d.State.Waiting.IsZero() || !d.State.Retry.IsZero() {
					t.Errorf("the state is not that after the lost slot: %+v", d.State)
				}
			}
			if got += show(d); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

// show tells a decision: "a1" is left to the caller.
func show(d *Decision) string {
	s := []string{"go", "adopt", "done", "skip", "wait", "fail", "queue", "later"}[d.Start.Do]
	if d.Start.Do == backup.Go && d.Start.Kind != "" {
		s = "start " + string(d.Start.Kind)
	}
	if (d.Start.Do == backup.Later || d.Start.Do == backup.Wait || d.Start.Do == backup.Skip) && d.Next.Due.After(now) {
		s += " until " + d.Next.Due.Format("02T15:04")
	}
	if d.Start.Theirs {
		s += ", theirs"
	}
	return s + ": " + d.Start.Why
}

// A cloud in words. Each word is about a project: "a=9/10" is its quota of backups, "a<2" a
// volume limit of the oldest two (a1 is the oldest), "a=silent" does not answer; or about a
// volume: "a1=error" is its status, "a1=skip" is left out by its owner, "a1=missing" is not
// there, "a1=asked" has a backup of this slot under way, "a1=known" one that is done.
func answers(words string) func(*Decision) Answer {
	say := map[string]string{}
	limit := map[string]int{}
	for w := range strings.FieldsSeq(words) {
		if what, n, ok := strings.Cut(w, "<"); ok {
			fmt.Sscan(n, new(int))
			limit[what] = int(n[0] - '0')
			continue
		}
		what, how, _ := strings.Cut(w, "=")
		say[what] = how
	}
	return func(d *Decision) Answer {
		if say[d.Project] == "silent" {
			return Answer{Why: "OpenStack did not answer: no", Least: time.Minute}
		}
		f := backup.Facts{Volume: backup.Volume{ID: d.Volume, Size: 10, Status: "in-use"}, Enrolled: d.Protected,
			Quota: backup.Quota{Backups: backup.Usage{Limit: -1}, Gigabytes: backup.Usage{Limit: -1}},
			Limit: limit[d.Project], Rank: int(d.Volume[1] - '1'), Total: 9}
		fmt.Sscanf(say[d.Project], "%d/%d", &f.Quota.Backups.Used, &f.Quota.Backups.Limit)
		run := backup.Run{Volume: d.Volume, Slot: slot, Attempt: 1}
		b := backup.CinderBackup{ID: "b-" + d.Volume, Volume: d.Volume, Origin: backup.OriginService, Created: slot,
			Metadata: backup.Metadata(run, d.Policy, backup.Enrolment{}, slot)}
		switch how := say[d.Volume]; how {
		case "":
		case "missing":
			return Answer{Why: "volume not found in its project", Theirs: true}
		case "skip":
			f.Volume.Metadata = map[string]string{"skip-volume-backup": "yes"}
		case "asked":
			b.Status = "creating"
			f.Backups = []backup.CinderBackup{b}
		case "known":
			b.Status, f.Known = "available", map[string]bool{b.ID: true}
			f.Backups = []backup.CinderBackup{b}
		default:
			f.Volume.Status = how
		}
		return Answer{Facts: f}
	}
}

func limits(words string) (l backup.Limits, running backup.InFlight) {
	l = backup.Limits{Cloud: 9, Project: 9}
	running = backup.InFlight{ByProject: map[string]int{}}
	for w := range strings.FieldsSeq(words) {
		key, value, _ := strings.Cut(w, "=")
		n := int(value[0] - '0')
		switch key {
		case "cloud":
			l.Cloud = n
		case "project":
			l.Project = n
		case "backend":
			l.Backend = n
		default:
			running.ByProject[key] = n
			running.Total += n
		}
	}
	return l, running
}

// Limits are 9 of the cloud and of each project unless told; "a=2" are two runs under way.
func TestChoose(t *testing.T) {
	const full = "start full: no earlier backup"
	for _, c := range []struct{ name, due, limits, cloud, want string }{
		{"nothing is due", "", "", "", ""},
		{"a volume is due, and there is room", "a1", "", "", "a1 " + full},
		{"two projects are due: one volume of each in turn", "a1 a2 b1", "", "",
			"a1 " + full + "; b1 " + full + "; a2 " + full},
		{"the project with fewer runs under way is first", "a1 b1", "a=1", "", "b1 " + full + "; a1 " + full},
		{"the cloud is full: it queues", "a1 b1", "cloud=1", "", "a1 " + full + "; b1 queue: cloud limit: 1 of 1 running"},
		{"the project is full: it queues, and another project starts", "a1 a2 b1", "project=1", "",
			"a1 " + full + "; b1 " + full + "; a2 queue: project limit: 1 of 1 running"},
		{"what is under way counts", "a1", "cloud=2 b=2", "", "a1 queue: cloud limit: 2 of 2 running"},
		{"the backend is full: it queues", "a1/ceph b1/ceph c1/lvm", "backend=1", "",
			"a1 " + full + "; b1 queue: limit of backend ceph: 1 of 1 running; c1 " + full},

		{"the quota is full: the slot fails", "a1", "", "a=2/2", "a1 fail, theirs: quota exceeded: 2 of 2 backups"},
		{"the quota has room for one: the next fails", "a1 a2", "", "a=1/2",
			"a1 " + full + "; a2 fail, theirs: quota exceeded: 2 of 2 backups"},
		{"another project's quota is its own", "a1 b1", "", "a=2/2 b=1/2",
			"a1 fail, theirs: quota exceeded: 2 of 2 backups; b1 " + full},
		{"the project's volume limit: the oldest are in", "a3 a2", "", "a<2",
			"a3 fail, theirs: volume limit exceeded: 9 of 2 volumes; a2 " + full},
		{"the volume is in no state for it: it waits", "a1", "", "a1=reserved",
			"a1 wait until 22T03:00, theirs: volume is reserved"},
		{"its owner wants it left out", "a1", "", "a1=skip",
			"a1 skip until 23T02:00, theirs: volume metadata skip-volume-backup=yes"},
		{"the volume is not there", "a1", "", "a1=missing",
			"a1 wait until 22T03:00, theirs: volume not found in its project"},
		{"Cinder has the slot's backup: it is adopted", "a1", "", "a1=asked",
			"a1 adopt: backup b-a1 of this run is there already (creating)"},
		{"and takes room, but nothing of the quota", "a1 a2 a3", "cloud=2", "a1=asked a=1/2",
			"a1 adopt: backup b-a1 of this run is there already (creating); a2 " + full +
				"; a3 queue: cloud limit: 2 of 2 running"},
		{"its slot is done, and the ledger forgot", "a1", "", "a1=known",
			"a1 done: backup b-a1 of this run is there already (available), and known"},

		{"a volume that does not start leaves its room to the next", "a1 b1 c1", "cloud=1", "a=2/2 b1=reserved",
			"a1 fail, theirs: quota exceeded: 2 of 2 backups; b1 wait until 22T03:00, theirs: volume is reserved; c1 " + full},
		{"also to the next of its project", "a1 a2", "project=1", "a1=skip",
			"a1 skip until 23T02:00, theirs: volume metadata skip-volume-backup=yes; a2 " + full},
		{"a project that does not answer keeps its room: the others are not asked", "a1 b1", "cloud=1", "a=silent",
			"a1 wait until 22T03:01: OpenStack did not answer: no; b1 queue: cloud limit: 1 of 1 running"},
		{"it keeps nobody else from starting where there is more", "a1 b1", "cloud=2", "a=silent",
			"a1 wait until 22T03:01: OpenStack did not answer: no; b1 " + full},
	} {
		t.Run(c.name, func(t *testing.T) {
			var due []*Decision
			for w := range strings.FieldsSeq(c.due) {
				due = append(due, Look(volume(w), classes(), now))
			}
			l, running := limits(c.limits)
			f := Facts{Now: now, Keys: backup.Keys{Skip: "skip-volume-backup"}, Flight: running,
				Room: backup.NewRoom(l, running), Ask: answers(c.cloud)}
			var got []string
			for d := range Choose(due, f) {
				got = append(got, d.Volume+" "+show(d))
			}
			if s := strings.Join(got, "; "); s != c.want {
				t.Errorf("\n got %s\nwant %s", s, c.want)
			}
		})
	}
}

// What Cinder refuses leaves the quota to the next.
func TestARefusedRequestIsNotCharged(t *testing.T) {
	due := []*Decision{Look(volume("a1"), classes(), now), Look(volume("a2"), classes(), now)}
	l, running := limits("")
	var got []backup.Action
	for d := range Choose(due, Facts{Now: now, Flight: running, Room: backup.NewRoom(l, running), Ask: answers("a=1/2")}) {
		got = append(got, d.Start.Do)
		d.Refused = true
	}
	if len(got) != 2 || got[1] != backup.Go {
		t.Errorf("%v", got)
	}
}

func TestPaused(t *testing.T) {
	up := backup.Services{Known: true, Up: 1}
	for _, c := range []struct {
		name     string
		services backup.Services
		flight   backup.InFlight
		want     string
	}{
		{"nothing holds", up, backup.InFlight{}, ""},
		{"no service is up", backup.Services{Known: true}, backup.InFlight{},
			"nothing starts: no cinder-backup service is up"},
		{"nobody may know whether one is", backup.Services{}, backup.InFlight{}, ""},
		{"a pause", up, backup.InFlight{Paused: now.Add(time.Second), PausedWhy: "no service"},
			"nothing starts until 2026-11-22T03:00:01Z: no service"},
		{"a pause that is over", up, backup.InFlight{Paused: now, PausedWhy: "no service"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			why := Paused(c.services, c.flight, now)
			if why != c.want {
				t.Errorf("got %q, want %q", why, c.want)
			}
			for d := range Choose([]*Decision{Look(volume("a1"), classes(), now)},
				Facts{Paused: why, Room: backup.NewRoom(backup.Limits{Cloud: 1}, c.flight), Ask: answers("")}) {
				if (d.Start.Do == backup.Wait) != (why != "") {
					t.Errorf("%s", show(d))
				}
			}
		})
	}
}

// Whatever there is: each volume gets one decision with a reason, no limit is exceeded, and
// nothing queues beside room that nobody takes.
func TestChooseKeepsTheLimitsAndWastesNoRoom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var due []*Decision
		var words []string
		for _, p := range []string{"a", "b", "c"} {
			if how := rapid.SampledFrom([]string{"", "silent", "1/2", "2/2"}).Draw(t, "project"); how != "" {
				words = append(words, p+"="+how)
			}
			for i := range rapid.IntRange(0, 4).Draw(t, "volumes") {
				id := fmt.Sprint(p, i+1)
				due = append(due, Look(volume(id), classes(), now))
				if how := rapid.SampledFrom([]string{"", "", "skip", "reserved", "missing", "asked", "known"}).
					Draw(t, "volume"); how != "" {
					words = append(words, id+"="+how)
				}
			}
		}
		l := backup.Limits{Cloud: rapid.IntRange(0, 6).Draw(t, "cloud"),
			Project: rapid.IntRange(1, 3).Draw(t, "of a project")}
		taken, seen := map[string]int{}, 0
		ask := answers(strings.Join(words, " "))
		f := Facts{Now: now, Keys: backup.Keys{Skip: "skip-volume-backup"},
			Room: backup.NewRoom(l, backup.InFlight{}), Ask: ask}
		for d := range Choose(due, f) {
			seen++
			a := ask(d)
			switch do := d.Start.Do; {
			case d.Start.Why == "":
				t.Fatalf("%s: no reason: %s", d.Volume, show(d))
			case do == backup.Go || do == backup.Adopt || do == backup.Wait && a.Why != "" && !a.Theirs:
				taken[d.Project]++
				taken[""]++
				if taken[""] > l.Cloud || taken[d.Project] > l.Project {
					t.Fatalf("%s is one too many: %v", d.Volume, taken)
				}
			case do == backup.Queue && taken[""] < l.Cloud && taken[d.Project] < l.Project:
				t.Fatalf("%s queues beside room: %v of %+v", d.Volume, taken, l)
			}
		}
		if seen != len(due) {
			t.Fatalf("%d decisions for %d volumes", seen, len(due))
		}
	})
}
