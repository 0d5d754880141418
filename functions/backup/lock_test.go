package backup

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// lockedClasses are theClasses with a gold that is locked for a week.
func lockedClasses() Classes {
	gold := theClasses["gold"]
	gold.Lock = age("7d")
	return Classes{Default: theClasses[Default], "silver": theClasses["silver"], "gold": gold}
}

// A server is told in the words of wishes: what it is enrolled by, and what it shows
// now. Tried is since when and what was attempted before. It is the 22nd, at noon.
func TestWhatComesOfAWish(t *testing.T) {
	for _, c := range []struct{ name, was, tried, is, want string }{
		{"nothing new", "backup=gold", "", "backup=gold", "gold"},
		{"it opts in", "", "", "backup=gold", "gold"},
		{"it does not", "", "", "backup=no", "nothing"},
		{"out of a class without a lock", "backup=silver", "", "backup=no", "withdrawn"},
		{"into another from one without a lock", "backup=silver", "", "backup=gold", "gold"},

		{"out of a locked class", "backup=gold", "", "backup=no", "gold, first tried 22T12:00: metadata backup=no"},
		{"out by taking the key away", "backup=gold", "", "", "gold, first tried 22T12:00: the end of metadata or tag backup"},
		{"out by a word that is none", "backup=gold", "", "backup=glod", "gold, first tried 22T12:00: metadata backup=glod"},
		{"out by a tag", "#backup:gold", "", "#backup:no", "gold, first tried 22T12:00: tag backup:no"},
		{"another class", "backup=gold", "", "backup=silver", "gold, first tried 22T12:00: metadata backup=silver"},
		{"a shorter retention", "backup=gold", "", "backup=gold backup-retention=1d", "gold, first tried 22T12:00: metadata backup-retention=1d"},
		{"a longer one as well: it may fill the quota", "backup=gold", "", "backup=gold backup-retention=9y", "gold, first tried 22T12:00: metadata backup-retention=9y"},
		{"a rarer schedule", "backup=gold", "", "backup=gold backup-schedule=300d", "gold, first tried 22T12:00: metadata backup-schedule=300d"},
		{"all of it", "backup=gold", "", "backup=yes backup-schedule=300d backup-retention=1d",
			"gold, first tried 22T12:00: metadata backup=yes and metadata backup-schedule=300d and metadata backup-retention=1d"},
		{"an override goes", "backup=gold backup-retention=1y", "", "backup=gold", "gold 1y, first tried 22T12:00: the end of metadata backup-retention=1y"},
		{"an override becomes one that is refused", "backup=gold backup-retention=1y", "", "backup=gold backup-retention=soon", "gold 1y, first tried 22T12:00: the end of metadata backup-retention=1y"},
		{"one that is refused where there was none", "backup=gold", "", "backup=gold backup-retention=soon", "gold"},
		{"the same by a tag", "backup=gold", "", "#backup:gold", "gold"},

		{"the same attempt later", "backup=gold", "16T08:00 metadata backup=no", "backup=no", "gold, tried 16T08:00: metadata backup=no"},
		{"a moment before the end", "backup=gold", "15T12:01 metadata backup=no", "backup=no", "gold, tried 15T12:01: metadata backup=no"},
		{"at the end it counts", "backup=gold", "15T12:00 metadata backup=no", "backup=no", "withdrawn"},
		{"and so does another class", "backup=gold", "15T12:00 metadata backup=silver", "backup=silver", "silver"},
		{"another attempt begins anew", "backup=gold", "16T08:00 metadata backup=no", "backup=silver", "gold, first tried 22T12:00: metadata backup=silver"},
		{"a harmless one does not open the door at the end", "backup=gold", "15T12:00 metadata backup-retention=9y", "backup=no", "gold, first tried 22T12:00: metadata backup=no"},
		{"set back in time", "backup=gold", "16T08:00 metadata backup=no", "backup=gold", "gold"},
		{"set back with its overrides", "backup=gold backup-retention=1y", "16T08:00 metadata backup=no", "backup=gold backup-retention=1y", "gold 1y"},
		{"set back but for the overrides", "backup=gold backup-retention=1y", "16T08:00 metadata backup=no", "backup=gold", "gold 1y, first tried 22T12:00: the end of metadata backup-retention=1y"},
		{"an event that comes late does not begin anew", "backup=gold", "22T12:10 metadata backup=no", "backup=no", "gold, tried 22T12:10: metadata backup=no"},
		{"one of a clock that was wrong does", "backup=gold", "29T12:00 metadata backup=no", "backup=no", "gold, first tried 22T12:00: metadata backup=no"},
	} {
		t.Run(c.name, func(t *testing.T) {
			classes := lockedClasses()
			s := Server{ID: "s1", Project: "p1"}
			r := remembered(c.was, c.tried, classes)
			s.Metadata, s.Tags = wishes(c.is)
			d := classes.Decide(s, ReadWish(s.Metadata, s.Tags, theKeys, classes), r, theKeys, on("22T12:00"))
			if got := decision(d); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if w := ReadWish(s.Metadata, s.Tags, theKeys, classes).Words; d.Wish.Words != w {
				t.Errorf("the words are %q, not those of now, %q", d.Wish.Words, w)
			}
		})
	}
}

func remembered(was, tried string, classes Classes) Remembered {
	if was == "" {
		return Remembered{}
	}
	w := ReadWish(pair(was, classes))
	e := Enrolment{Server: "s1", Project: "p1", Class: w.Class, Schedule: w.Schedule, Retention: w.Retention, Words: w.Words}
	if since, why, ok := strings.Cut(tried, " "); ok {
		e.Attempt, e.Words = Attempt{Since: on(since), Why: why}, "those of the attempt"
	}
	return Remembered{Enrolment: e, Enrolled: true}
}

func pair(s string, classes Classes) (map[string]string, []string, Keys, Classes) {
	metadata, tags := wishes(s)
	return metadata, tags, theKeys, classes
}

func decision(d Decision) string {
	words := "nothing"
	if d.Wish.In {
		words = strings.TrimSpace(d.Wish.Class + " " + d.Wish.Retention)
	} else if d.Withdraw {
		words = "withdrawn"
	}
	if !d.Attempt.None() {
		words += map[bool]string{true: ", first", false: ","}[d.First] + " tried " + d.Attempt.Since.Format("02T15:04") + ": " + d.Attempt.Why
	}
	return words
}

// A notification may come from a clock that is years ahead: no lock ends by it.
func TestNoLockEndsByANotification(t *testing.T) {
	classes := lockedClasses()
	s := Server{ID: "s1", Project: "p1", Metadata: map[string]string{"backup": "no"}, Volumes: []string{"v"}}
	r := remembered("backup=gold", "15T12:00 metadata backup=no", classes)
	r.Volumes = map[string]Protected{"v": {Volume: "v", Attempt: Attempt{Since: on("14T12:00"), Why: "volume metadata skip-volume-backup=yes"}}}
	volumes := map[string]Volume{"v": {ID: "v", Metadata: map[string]string{"skip-volume-backup": "yes"}}}
	for told, want := range map[bool]string{true: "gold, tried 15T12:00: metadata backup=no", false: "withdrawn"} {
		r.Told = told
		now := on("29T12:00")
		d := classes.Decide(s, ReadWish(s.Metadata, nil, theKeys, classes), r, theKeys, now)
		same(t, decision(d), want)
		if !told {
			d.Wish = Wish{In: true, Class: "gold"}
		}
		_, protected, _, tried := classes.Enrol(d, s, volumes, r, theKeys, now)
		same(t, []bool{protected[0].Skip == "", protected[0].Attempt.Since.Equal(on("14T12:00")), len(tried) == 0}, []bool{told, told, true})
	}
}

// What the operator does counts at once, whatever is locked.
func TestTheOperatorIsNotLockedOut(t *testing.T) {
	s := Server{ID: "s1", Project: "p1", Metadata: map[string]string{"backup": "gold", "backup-retention": "1y"}}
	for _, c := range []struct {
		name                  string
		keys                  Keys
		change                func(Classes)
		metadata, tried, want string
	}{
		{"overrides are no longer allowed", Keys{OptIn: "backup", Retention: "backup-retention"}, func(Classes) {}, "backup=gold backup-retention=1y", "", "gold"},
		{"the class is taken away", theKeys, func(c Classes) { delete(c, "gold") }, "backup=gold backup-retention=1y", "", "withdrawn"},
		{"the lock is taken away", theKeys, func(c Classes) { p := c["gold"]; p.Lock = Age{}; c["gold"] = p }, "backup=no", "21T12:00 metadata backup=no", "withdrawn"},
		{"the lock is made shorter", theKeys, func(c Classes) { p := c["gold"]; p.Lock = age("1d"); c["gold"] = p }, "backup=no", "21T12:00 metadata backup=no", "withdrawn"},
		{"a locked class is taken away in the middle of an attempt, and the default one has no lock", theKeys, func(c Classes) { delete(c, "gold") }, "backup=no", "21T12:00 metadata backup=no", "withdrawn"},
	} {
		t.Run(c.name, func(t *testing.T) {
			classes := lockedClasses()
			r := remembered("backup=gold backup-retention=1y", c.tried, classes)
			c.change(classes)
			s.Metadata, s.Tags = wishes(c.metadata)
			d := classes.Decide(s, ReadWish(s.Metadata, s.Tags, c.keys, classes), r, c.keys, on("22T12:00"))
			if got := decision(d); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// The class default is locked like any other, by the general setting.
func TestTheDefaultClassIsLockedToo(t *testing.T) {
	p := theClasses[Default]
	p.Lock = age("1d")
	classes := Classes{Default: p}
	s := Server{ID: "s1", Metadata: map[string]string{"backup": "no"}}
	d := classes.Decide(s, ReadWish(s.Metadata, nil, theKeys, classes), remembered("backup=yes", "", classes), theKeys, on("22T12:00"))
	same(t, decision(d), "default, first tried 22T12:00: metadata backup=no")
	same(t, d.Wish.Why, "metadata backup=no is not in force before 2026-11-23T12:00:00Z: class default is locked")
}

// After Redis was lost backups are all that is known. Gold is locked for 7 days and
// has a slot every 6 hours. A trail is the volume's newest complete backup: "class made".
func TestWhatComesOfAWishAfterTheLedgerWasLost(t *testing.T) {
	for _, c := range []struct{ name, is, trail, want string }{
		{"the owner has opted out, in the week before", "backup=no", "gold 22T06:00", "gold, first tried 22T12:00: metadata backup=no"},
		{"and by taking the key away", "", "gold 22T06:00", "gold, first tried 22T12:00: the end of metadata or tag backup"},
		{"a week and two slots ago", "backup=no", "gold 15T00:01", "gold, first tried 22T12:00: metadata backup=no"},
		{"before that", "backup=no", "gold 15T00:00", "nothing"},
		{"another class, in the week before", "backup=yes", "gold 22T06:00", "gold, first tried 22T12:00: metadata backup=yes"},
		{"the same class", "backup=gold backup-retention=1y", "gold 22T06:00", "gold 1y"},
		{"of a class that is not locked", "backup=no", "silver 22T06:00", "nothing"},
		{"of a class that is not there any more", "backup=no", "bronze 22T06:00", "nothing"},
		{"made for another server", "backup=no", "gold 22T06:00 s2", "nothing"},
		{"made in another project", "backup=no", "gold 22T06:00 s1 p2", "nothing"},
		{"of a volume that is not attached", "backup=no", "", "nothing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			classes := lockedClasses()
			r := Remembered{Trails: map[string]Trail{"other": {Project: "p1", Server: "s1", Class: "gold", Made: on("22T11:00")}}}
			if c.trail != "" {
				f := strings.Fields(c.trail)
				f = append(f, []string{"", "", "s1", "p1"}[len(f):]...)
				r.Trails["v1"] = Trail{Class: f[0], Made: on(f[1]), Server: f[2], Project: f[3]}
			}
			s := Server{ID: "s1", Project: "p1", Volumes: []string{"v0", "v1"}}
			s.Metadata, s.Tags = wishes(c.is)
			w := ReadWish(s.Metadata, s.Tags, theKeys, classes)
			d := classes.Decide(s, w, r, theKeys, on("22T12:00"))
			same(t, decision(d), c.want)
			if d.Attempt.None() {
				return
			}
			// A notification may have come before: what it enrolled is no better known.
			early, _, _ := Enrol(s, w, nil, theKeys)
			if w.In {
				again := classes.Decide(s, w, Remembered{Enrolment: early, Enrolled: true, Trails: r.Trails}, theKeys, on("22T12:00"))
				same(t, decision(again), c.want)
			}
			// With the class set back the owner's overrides count, which no backup tells.
			e, _, _, _ := classes.Enrol(d, s, nil, r, theKeys, on("22T12:00"))
			s.Metadata = map[string]string{"backup": "gold", "backup-retention": "1y"}
			back := classes.Decide(s, ReadWish(s.Metadata, nil, theKeys, classes), Remembered{Enrolment: e, Enrolled: true}, theKeys, on("23T12:00"))
			same(t, decision(back), "gold 1y")
			// Another pass over the same trails begins nothing anew.
			s.Metadata, s.Tags = wishes(c.is)
			again := classes.Decide(s, w, Remembered{Enrolment: e, Enrolled: true, Trails: r.Trails}, theKeys, on("22T13:00"))
			same(t, decision(again), strings.Replace(c.want, "first ", "", 1))
		})
	}
}

func TestTrails(t *testing.T) {
	ours := func(volume, status, made, class string) CinderBackup {
		return CinderBackup{ID: made, Project: "p", Volume: volume, Status: status, Created: on(made), Origin: OriginService, Metadata: map[string]string{MetaAutomated: "True", MetaServer: "s", MetaClass: class}}
	}
	foreign := ours("v1", "available", "22T00:00", "gold")
	foreign.Origin = OriginForged
	got := Trails([]CinderBackup{
		ours("v1", "available", "20T00:00", "silver"), ours("v1", "restoring", "21T00:00", "gold"), ours("v1", "available", "19T00:00", "bronze"),
		ours("v1", "error", "22T00:00", "x"), ours("v1", "creating", "22T00:00", "x"), foreign, ours("v2", "available", "01T00:00", "gold"),
	})
	same(t, got, map[string]Trail{
		"v1": {Project: "p", Server: "s", Class: "gold", Made: on("21T00:00")},
		"v2": {Project: "p", Server: "s", Class: "gold", Made: on("01T00:00")},
	})
}

// A volume's skip key, under a policy that is locked for a week. It is the 22nd, at noon.
func TestLeavingAVolumeOut(t *testing.T) {
	const wish = "volume metadata skip-volume-backup=true"
	for _, c := range []struct {
		name   string
		wish   string
		before Protected
		lock   string
		want   string
	}{
		{"no wish", "", Protected{Volume: "v"}, "7d", "protected"},
		{"a volume that is new", wish, Protected{}, "7d", "left out"},
		{"one that was left out before", wish, Protected{Volume: "v", Skip: wish}, "7d", "left out"},
		{"one that was protected", wish, Protected{Volume: "v"}, "7d", "protected, tried 22T12:00"},
		{"without a lock", wish, Protected{Volume: "v"}, "", "left out"},
		{"tried before", wish, Protected{Volume: "v", Attempt: Attempt{Since: on("15T12:01"), Why: wish}}, "7d", "protected, tried 15T12:01"},
		{"tried a week ago", wish, Protected{Volume: "v", Attempt: Attempt{Since: on("15T12:00"), Why: wish}}, "7d", "left out"},
		{"tried and taken back", "", Protected{Volume: "v", Attempt: Attempt{Since: on("15T12:01"), Why: wish}}, "7d", "protected"},
		{"the lock was taken away", wish, Protected{Volume: "v", Attempt: Attempt{Since: on("22T11:00"), Why: wish}}, "", "left out"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := Policy{Schedule: mustSchedule("24h")}
			if c.lock != "" {
				p.Lock = age(c.lock)
			}
			why, a := p.LeaveOut(c.wish, c.before, on("22T12:00"))
			got := map[bool]string{true: "protected", false: "left out"}[why == ""]
			if !a.None() {
				got += ", tried " + a.Since.Format("02T15:04")
			}
			same(t, got, c.want)
			// Dispatch reads the key fresh: it decides the same.
			v := Volume{ID: "v", Status: "in-use"}
			if c.wish != "" {
				v.Metadata = map[string]string{"skip-volume-backup": "true"}
			}
			start := WhatToStart(p, theKeys, State{}, Turn{Now: true}, Facts{Volume: v, Enrolled: c.before, Quota: Quota{Usage{Limit: -1}, Usage{Limit: -1}}}, on("22T12:00"))
			same(t, start.Do == Skip, why != "")
		})
	}
}

// Volumes that are attached while an attempt is held back are protected as usual.
func TestEnrolUnderALock(t *testing.T) {
	classes := lockedClasses()
	skip := map[string]string{"skip-volume-backup": "yes"}
	s := Server{ID: "s1", Project: "p1", Metadata: map[string]string{"backup": "no"}, Volumes: []string{"old", "new", "left", "shy", "lost"}}
	volumes := map[string]Volume{"old": {ID: "old", Metadata: skip}, "new": {ID: "new"}, "left": {ID: "left", Metadata: skip}, "shy": {ID: "shy", Metadata: skip}, "lost": {ID: "lost", Metadata: skip}}
	r := remembered("backup=gold", "", classes)
	r.Volumes = map[string]Protected{"old": {Volume: "old"}, "left": {Volume: "left", Skip: "x"}}
	r.Trails = map[string]Trail{"lost": {Project: "p1", Server: "s1", Class: "gold", Made: on("22T06:00")}}
	now := on("22T12:00")
	d := classes.Decide(s, ReadWish(s.Metadata, nil, theKeys, classes), r, theKeys, now)
	e, protected, missing, tried := classes.Enrol(d, s, volumes, r, theKeys, now)
	same(t, []string{e.Class, e.Attempt.Why, fmt.Sprint(e.Volumes), fmt.Sprint(missing)}, []string{"gold", "metadata backup=no", "[old new left shy lost]", "[]"})
	var got []string
	for _, v := range protected {
		got = append(got, fmt.Sprintf("%s %q %q", v.Volume, v.Skip, v.Attempt.Why))
	}
	const why = "volume metadata skip-volume-backup=yes"
	same(t, got, []string{`old "" "` + why + `"`, `new "" ""`, `left "` + why + `" ""`, `shy "` + why + `" ""`, `lost "" "` + why + `"`})
	same(t, []int{len(tried)}, []int{2})
	// A volume of a locked and of an unlocked server is under the lock.
	r.Volumes["old"] = Protected{Volume: "old", Enrolments: []Enrolment{{Server: "s2", Class: "gold"}}}
	s.Metadata["backup"] = "silver"
	_, protected, _, _ = classes.Enrol(Decision{Wish: Wish{In: true, Class: "silver"}}, s, volumes, r, theKeys, now)
	same(t, protected[0].Skip, "")
}

func TestWhatTheOwnerIsToldOfAnAttempt(t *testing.T) {
	p := lockedClasses()["gold"]
	a := Attempt{Since: on("22T12:00"), Why: "metadata backup=no\n"}
	same(t, p.NotYet(a, zone("Europe/Berlin")),
		"metadata backup=no\uFFFD is not in force before 2026-11-29 13:00: class gold is locked; if you did not do this, somebody else has your credentials")
	same(t, []bool{lockedClasses().Locked(), theClasses.Locked()}, []bool{true, false})
}

// Whatever a thief writes, and however often, nothing of it counts before it has stood
// for the lock's time.
func TestNothingCountsBeforeTheLockIsOver(t *testing.T) {
	classes := lockedClasses()
	rapid.Check(t, func(t *rapid.T) {
		r := remembered("backup=gold backup-retention=1y", "", classes)
		now := on("01T00:00")
		var since time.Time
		tried := ""
		for range rapid.IntRange(1, 20).Draw(t, "changes") {
			now = now.Add(time.Duration(rapid.IntRange(0, 48).Draw(t, "hours")) * time.Hour)
			s := Server{ID: "s1", Project: "p1"}
			s.Metadata, s.Tags = wishes(rapid.SampledFrom([]string{"backup=no", "", "backup=silver", "backup=gold", "backup=gold backup-retention=1d",
				"backup=gold backup-retention=1y", "#backup:gold", "backup=yes backup-schedule=1h"}).Draw(t, "wish"))
			w := ReadWish(s.Metadata, s.Tags, theKeys, classes)
			d := classes.Decide(s, w, r, theKeys, now)
			old := w.In && w.Class == "gold" && w.Retention == "1y" && w.Schedule == ""
			if old {
				since = time.Time{}
			} else if why := w.against(r.Enrolment, theKeys); since.IsZero() || why != tried {
				since, tried = now, why
			}
			held := d.Wish.In && d.Wish.Class == "gold" && d.Wish.Retention == "1y" && d.Wish.Schedule == ""
			if over := !since.IsZero() && !now.Before(since.AddDate(0, 0, 7)); held == over {
				t.Fatalf("at %s, since %s: %+v", now, since, d)
			} else if over {
				return
			}
			e, _, _, _ := classes.Enrol(d, s, nil, r, theKeys, now)
			r.Enrolment = e
		}
	})
}
