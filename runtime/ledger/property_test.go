package ledger

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"staffeln/functions/backup"
)

// sane looks whether what must always hold of the shard of project p does.
func sane(t tester, w *world) {
	t.Helper()
	s := w.l.of("p")
	var due, open, watched, stamps, discards *redis.StringSliceCmd
	var runs, volumes, servers, watching, stamping, discarding, tracked, records, projects *redis.MapStringStringCmd
	_, err := w.rdb.TxPipelined(w.ctx, func(p redis.Pipeliner) error {
		all := func(key string) *redis.StringSliceCmd { return p.ZRange(w.ctx, key, 0, -1) }
		due, open, watched, stamps, discards = all(s.due()), all(s.open()), all(s.watched()), all(s.stamps()), all(s.discards())
		hash := func(key string) *redis.MapStringStringCmd { return p.HGetAll(w.ctx, key) }
		runs, volumes, servers, watching = hash(s.runs()), hash(s.volumes()), hash(s.servers()), hash(s.watching())
		stamping, discarding, tracked = hash(s.stamping()), hash(s.discarding()), hash(s.tracked())
		records, projects = hash(s.records()), hash(s.projects())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range due.Val() {
		if _, ok := runs.Val()[v]; ok {
			t.Errorf("volume %s is due and open", v)
		}
		if _, ok := volumes.Val()[v]; !ok {
			t.Errorf("volume %s is due and not protected", v)
		}
	}
	for _, pair := range []struct {
		set  *redis.StringSliceCmd
		rows *redis.MapStringStringCmd
		what string
	}{{open, runs, "open runs"}, {watched, watching, "watched runs"}, {stamps, stamping, "stamps"}, {discards, discarding, "discards"}} {
		if len(pair.set.Val()) != len(pair.rows.Val()) {
			t.Errorf("%s: %d have a time, %d a row", pair.what, len(pair.set.Val()), len(pair.rows.Val()))
		}
		for _, id := range pair.set.Val() {
			if _, ok := pair.rows.Val()[id]; !ok {
				t.Errorf("%s: %s has a time and no row", pair.what, id)
			}
		}
	}
	for id, where := range tracked.Val() {
		kind, what, _ := strings.Cut(where, " ")
		rows := runs
		if kind == "watched" {
			rows = watching
		}
		if row, ok := rows.Val()[what]; !ok || !strings.Contains(row, `"b":"`+id+`"`) {
			t.Errorf("backup %s is tracked as %s, which is not its run", id, where)
		}
	}

	// Servers and volumes say the same of one another.
	has := map[string]bool{}
	for id, row := range servers.Val() {
		e, _, err := readServer(id, row)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range e.Volumes {
			has[v+" "+id+" "+e.Project] = true
		}
	}
	counts := map[string]int{}
	for id, row := range volumes.Val() {
		v, of, err := readVolume(id, row)
		if err != nil {
			t.Fatal(err)
		}
		if len(of) == 0 {
			t.Errorf("volume %s is protected by nobody", id)
		}
		for _, server := range of {
			if !has[id+" "+server+" "+v.Project] {
				t.Errorf("volume %s says it is on server %s, which says otherwise", id, server)
			}
			counts[id+" "+server]++
		}
		if counts[id+" "+of[0]] != 1 {
			t.Errorf("volume %s names a server twice: %v", id, of)
		}
		ranked := w.rdb.ZScore(w.ctx, s.ranks(v.Project), id).Err() == nil
		if ranked == (v.Skip != "") {
			t.Errorf("volume %s counts for the limit: %v, skipped: %q", id, ranked, v.Skip)
		}
	}
	ranks := w.rdb.ZRange(w.ctx, s.ranks("p"), 0, -1).Val()
	for _, id := range ranks {
		if !strings.HasPrefix(volumes.Val()[id], "p ") {
			t.Errorf("volume %s counts for the limit and is not protected in the project", id)
		}
	}

	// The count of what a project has is right.
	want := map[string]int{}
	for _, rows := range []*redis.MapStringStringCmd{servers, runs, stamping, discarding} {
		for _, row := range rows.Val() {
			project, _, _ := strings.Cut(row, " ")
			want[project]++
		}
	}
	for _, row := range watching.Val() {
		r, err := readRun(row)
		if err != nil {
			t.Fatal(err)
		}
		want[r.Project]++
	}
	for project, n := range projects.Val() {
		if fmt.Sprint(want[project]) != n {
			t.Errorf("project %s is counted to have %s, and has %d", project, n, want[project])
		}
		delete(want, project)
	}
	for project, n := range want {
		t.Errorf("project %s has %d and is not counted", project, n)
	}

	saneRetention(t, w)
	saneReports(t, w)

	// Every record is found through its volume.
	for id, row := range records.Val() {
		r, err := readRecord(id, row)
		if err != nil {
			t.Fatal(err)
		}
		of, err := w.l.RecordsOf(w.ctx, r.Project, r.Volume)
		if err != nil || !slices.ContainsFunc(of, func(o backup.Record) bool { return o.ID == id }) {
			t.Errorf("record %s is not found through volume %s: %v", id, r.Volume, err)
		}
	}
	for volume, ids := range w.rdb.HGetAll(w.ctx, s.backups()).Val() {
		for id := range strings.FieldsSeq(ids) {
			r, err := readRecord(id, records.Val()[id])
			if err != nil || r.Volume != volume || w.rdb.ZScore(w.ctx, s.holding(r.Project), volume).Err() != nil {
				t.Errorf("volume %s names backup %s, which has no such record: %v", volume, id, err)
			}
		}
	}
	for _, volume := range w.rdb.ZRange(w.ctx, s.holding("p"), 0, -1).Val() {
		if of, err := w.l.RecordsOf(w.ctx, "p", volume); err != nil || len(of) == 0 {
			t.Errorf("project p is said to have backups of volume %s, and has none: %v", volume, err)
		}
	}
	for _, run := range runs.Val() {
		if r, err := readOpenRun(run); err != nil || r.Slot.IsZero() || r.Started.After(minute(1e7)) {
			t.Errorf("open run %+v: %v", r, err)
		}
	}
}

// TestWhateverHappens lets random histories happen, Redis emptied among them, and
// looks after every step whether what must hold does.
func TestWhateverHappens(t *testing.T) {
	for _, home := range homes {
		t.Run(home.name, func(t *testing.T) {
			rdb := home.open(t)
			rapid.Check(t, func(rt *rapid.T) { history(rt, newWorld(rt, rdb)) })
		})
	}
}

func history(rt *rapid.T, w *world) {
	w.empty()
	volumes, servers := []string{"v1", "v2", "v3"}, []string{"s1", "s2"}
	// What the ledger should know, as told by its own answers.
	open, ended := map[string]backup.Run{}, []string{}
	var given []backup.Run // whatever was asked for, to be asked for again out of turn
	leased := map[string]bool{}
	lim := backup.Limits{Cloud: 3, Project: 2, Backend: 1}

	volume := rapid.SampledFrom(volumes)
	some := func(all []string) []string {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(all), 0, len(all), rapid.ID).Draw(rt, "some")
	}
	now := 0
	aRun := func() backup.Run {
		if len(given) > 0 && rapid.Bool().Draw(rt, "seen before") {
			r := rapid.SampledFrom(given).Draw(rt, "run")
			if r.Backup == "" && rapid.Bool().Draw(rt, "named by now") {
				r.Backup = fmt.Sprintf("b-%s-%d-%d", r.Volume, r.Slot.Unix(), r.Attempt)
			}
			return r
		}
		r := run(fmt.Sprintf("%s@%d#%d", volume.Draw(rt, "volume"), now/5*5, rapid.IntRange(1, 2).Draw(rt, "attempt")))
		given = append(given, r)
		return r
	}
	closing := func() backup.Closing {
		c := backup.Closing{Run: aRun(), Final: rapid.Bool().Draw(rt, "final")}
		c.Run.Ended, c.Run.State = minute(now), backup.Failed
		c.State = backup.State{Due: minute(now + 5)}
		if c.Final {
			c.State.LastSlot = c.Run.Slot
		} else {
			c.State.Retry = c.Run.Slot
		}
		switch rapid.IntRange(0, 2).Draw(rt, "end") {
		case 0:
			c.Run.State, c.Stamp, c.State.LastComplete = backup.Complete, minute(now), minute(now)
			if c.Run.Backup != "" {
				c.Record = &backup.Record{ID: c.Run.Backup, Slot: c.Run.Slot, Status: "available", Created: minute(now)}
			}
		case 1:
			c.Remove = true
		case 2:
			c.Watch = minute(now + 5)
		}
		return c
	}
	looks := &inHistory{w: w}
	same := func(a, b backup.Run) bool { return a.Slot.Equal(b.Slot) && a.Attempt == b.Attempt }
	backupID := func() string { return aRun().Backup }

	rt.Repeat(map[string]func(*rapid.T){
		"time passes": func(*rapid.T) { now += rapid.IntRange(0, 7).Draw(rt, "minutes") },
		"enroll": func(*rapid.T) {
			n := w.now("p") - int64(rapid.IntRange(0, 2).Draw(rt, "late"))
			server := rapid.SampledFrom(servers).Draw(rt, "server")
			class := rapid.SampledFrom([]string{"", "/gold"}).Draw(rt, "class")
			what := server + class
			for _, v := range some(volumes) {
				what += " " + v + rapid.SampledFrom([]string{"", "x"}).Draw(rt, "skip")
			}
			w.enrollWith(n, now, what)
		},
		"withdraw": func(*rapid.T) { w.withdraw(now, rapid.SampledFrom(servers).Draw(rt, "server")) },
		"due":      func(*rapid.T) { w.due(now) },
		"begin": func(*rapid.T) {
			r := aRun()
			ok, err := w.l.Begin(w.ctx, r, minute(now+1))
			w.check(err)
			if _, had := open[r.Volume]; ok && had {
				rt.Errorf("%s has begun beside %s", r.ID(), open[r.Volume].ID())
			}
			if ok {
				open[r.Volume] = r
			}
		},
		"restore": func(*rapid.T) {
			r := aRun()
			ok, err := w.l.Restore(w.ctx, r, minute(now+1))
			w.check(err)
			if _, had := open[r.Volume]; ok && had {
				rt.Errorf("%s was restored beside %s", r.ID(), open[r.Volume].ID())
			}
			if ok {
				open[r.Volume] = r
			}
		},
		"advance": func(*rapid.T) {
			r := aRun()
			ok, err := w.l.Advance(w.ctx, r, minute(now+1))
			w.check(err)
			if o, had := open[r.Volume]; ok != (had && same(o, r)) {
				rt.Errorf("advance %s: %v; open: %v %s", short(r), ok, had, short(o))
			}
		},
		"finish": func(*rapid.T) {
			c := closing()
			ok := w.finish(c)
			if o, had := open[c.Run.Volume]; ok != (had && same(o, c.Run)) {
				rt.Errorf("finish %s: %v; open: %v %s", short(c.Run), ok, had, short(o))
			}
			if ok {
				looks.triggers++
				delete(open, c.Run.Volume)
				if c.Final {
					ended = append(ended, c.Run.ID())
				}
			}
		},
		"finish late": func(*rapid.T) {
			c := closing()
			c.Watch = time.Time{}
			if w.finishLate(c) {
				looks.triggers++
				if c.Final {
					ended = append(ended, c.Run.ID())
				}
			}
		},
		"postpone": func(*rapid.T) {
			v := volume.Draw(rt, "volume")
			ok := w.postpone(v, backup.State{LastSlot: minute(now / 5 * 5), Waits: 1, Due: minute(now + 3)})
			if _, had := open[v]; ok && had {
				rt.Errorf("%s was put off during its run", v)
			}
		},
		"set due": func(*rapid.T) { w.check(w.l.SetDue(w.ctx, "p", volume.Draw(rt, "volume"), minute(now))) },
		"raise": func(*rapid.T) {
			w.check(w.l.Raise(w.ctx, "p", volume.Draw(rt, "volume"), backup.State{LastSlot: minute(now / 5 * 5), LastComplete: minute(now)}))
		},
		"watch":   func(*rapid.T) { w.check(w.l.Watch(w.ctx, aRun(), minute(now+1))) },
		"unwatch": func(*rapid.T) { w.check(w.l.Unwatch(w.ctx, aRun())) },
		"look": func(*rapid.T) {
			_, err := w.l.Look(w.ctx, "p", backupID(), minute(now))
			w.check(err)
		},
		"stamped": func(*rapid.T) {
			again := rapid.SampledFrom([]time.Time{{}, minute(now + 3)}).Draw(rt, "again")
			stamps, err := w.l.Stamps(w.ctx, w.l.Shard("p"), minute(now), 1)
			w.check(err)
			for _, s := range stamps {
				w.check(w.l.Stamped(w.ctx, s, again))
			}
		},
		"discarded": func(*rapid.T) {
			again := rapid.SampledFrom([]time.Time{{}, minute(now + 3)}).Draw(rt, "again")
			if id := backupID(); id != "" {
				w.check(w.l.Discarded(w.ctx, backup.Discard{Backup: id, Project: "p"}, again))
			}
		},
		"drop records": func(*rapid.T) {
			if id := backupID(); id != "" {
				w.check(w.l.DropRecords(w.ctx, "p", []string{id}))
			}
		},
		"put records": func(*rapid.T) {
			if id := backupID(); id != "" {
				if w.retention("p").Due.IsZero() {
					looks.triggers++
				}
				w.check(w.l.PutRecords(w.ctx, "p", []backup.Record{{ID: id, Volume: id[2:4], Created: minute(now)}}))
			}
		},
		"look at retention": func(*rapid.T) {
			if looks.known() {
				looks.triggers++
			}
			w.check(w.l.LookRetention(w.ctx, "p", minute(now)))
		},
		"a look begins": func(*rapid.T) {
			r := w.retention("p")
			looks.read, looks.triggers = &r, 0
		},
		"a look ends": func(*rapid.T) {
			next := rapid.SampledFrom([]time.Time{{}, minute(now), minute(now + 9)}).Draw(rt, "next")
			var gone []backup.Removal
			if id := backupID(); id != "" {
				gone = []backup.Removal{{Backup: id}}
			}
			looks.save(now, next, rapid.SampledFrom([]string{"", "the brake"}).Draw(rt, "held"), gone)
		},
		"release the brake": func(*rapid.T) {
			if err := w.l.ReleaseBrake(w.ctx, "p", minute(now+9), 3); looks.known() != (err == nil) {
				rt.Error(err)
			}
		},
		"projects are listed": func(*rapid.T) {
			all, err := w.l.Projects(w.ctx, w.l.Shard("p"))
			w.check(err)
			if slices.Contains(all, "p") != looks.known() {
				rt.Errorf("listed: %v, known: %v", all, looks.known())
			}
			if !looks.known() {
				looks.read = nil
			}
		},
		"admit": func(*rapid.T) {
			r := run(fmt.Sprintf("%s@%d#1", rapid.SampledFrom([]string{"v1", "v2", "v3", "v4", "v5"}).Draw(rt, "volume"), now/5*5))
			r.Project = rapid.SampledFrom([]string{"p", "q"}).Draw(rt, "project")
			r.Backend = rapid.SampledFrom([]string{"", "h@a", "h@b"}).Draw(rt, "backend")
			if leased[r.ID()] {
				return // a renewal may move it; the limits are about new ones
			}
			ok, why, err := w.l.Admit(w.ctx, r, lim, minute(now), minute(now+9))
			w.check(err)
			if ok != (why == "") {
				rt.Errorf("admitted: %v, why: %q", ok, why)
			}
			leased[r.ID()] = true
		},
		"release": func(*rapid.T) {
			for _, id := range slices.Sorted(maps.Keys(leased)) {
				v, slot, _ := strings.Cut(id, "@")
				at, err := time.Parse(backup.Stamp, slot)
				w.check(err)
				w.check(w.l.Release(w.ctx, backup.Run{Volume: v, Slot: at}))
				delete(leased, id)
				return
			}
		},
		"redis is emptied": func(*rapid.T) {
			if rapid.IntRange(0, 9).Draw(rt, "seldom") > 0 {
				return
			}
			w.empty()
			open, ended, leased = map[string]backup.Run{}, []string{}, map[string]bool{}
			looks.read = nil
		},
		"": func(*rapid.T) {
			sane(rt, w)
			runs, err := w.l.Runs(w.ctx, w.l.Shard("p"))
			w.check(err)
			var has, want []string
			for _, r := range runs {
				has = append(has, short(backup.Run{Volume: r.Volume, Slot: r.Slot, Attempt: r.Attempt}))
			}
			for _, v := range slices.Sorted(maps.Keys(open)) {
				o := open[v]
				want = append(want, short(backup.Run{Volume: o.Volume, Slot: o.Slot, Attempt: o.Attempt}))
			}
			if d := cmp.Diff(want, has); d != "" {
				rt.Errorf("open runs (-told +held):\n%s", d)
			}
			finished, err := w.l.Finished(w.ctx, "p", 1000)
			w.check(err)
			ids := []string{}
			for _, r := range finished {
				ids = append(ids, r.ID())
			}
			if d := cmp.Diff(ended, ids); d != "" {
				rt.Errorf("finished runs (-told +held):\n%s", d)
			}
			f, err := w.l.InFlight(w.ctx, minute(now))
			w.check(err)
			if f.Total > lim.Cloud {
				rt.Errorf("%d leases of %d", f.Total, lim.Cloud)
			}
			for p, n := range f.ByProject {
				if n > lim.Project {
					rt.Errorf("project %s has %d leases of %d", p, n, lim.Project)
				}
			}
			for b, n := range f.ByBackend {
				if n > lim.Backend {
					rt.Errorf("backend %s has %d leases of %d", b, n, lim.Backend)
				}
			}
		},
	})
}
