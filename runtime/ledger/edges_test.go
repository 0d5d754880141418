package ledger

import (
	"fmt"
	"strings"
	"testing"

	"staffeln/functions/backup"
)

// TestContractAtItsEdges is what a single letter in a script would change.
func TestContractAtItsEdges(t *testing.T) {
	for _, home := range homes {
		t.Run(home.name, func(t *testing.T) {
			for _, s := range edges {
				t.Run(s.name, func(t *testing.T) {
					w := newWorld(t, home.open(t))
					s.tell(w)
					sane(t, w)
					keysAreDocumented(t, w)
				})
			}
		})
	}
}

// discards are the broken backups to be removed at a minute.
func (w *world) discards(m int) (ids []string) {
	w.t.Helper()
	all, err := w.l.Discards(w.ctx, w.l.Shard("p"), minute(m), 9)
	w.check(err)
	for _, d := range all {
		ids = append(ids, d.Backup)
	}
	return ids
}

var edges = []story{
	{"a broken backup waits from the moment it was first noted for", func(w *world) {
		d := backup.Discard{Backup: "b1", Project: "p"}
		w.check(w.l.Discard(w.ctx, d, minute(4)))
		w.check(w.l.Discard(w.ctx, d, minute(9)))
		w.diff("before", w.discards(3), []string(nil))
		w.diff("from then on", w.discards(4), []string{"b1"})
		w.check(w.l.Discarded(w.ctx, d, minute(7)))
		w.diff("once it was refused", w.discards(6), []string(nil))
		w.diff("later", w.discards(7), []string{"b1"})
	}},
	{"each wish that changes makes a volume due, and nothing else does", func(w *world) {
		vols := []backup.Protected{{Volume: "v1", Project: "p", Size: 1, Created: minute(-60)}}
		was := backup.Enrolment{Server: "s1", Name: "web", Project: "p", Class: "gold", Schedule: "24h", Retention: "2w", Words: "yes", Volumes: []string{"v1"}}
		change := func(do func(e *backup.Enrolment)) backup.Enrolment { e := was; do(&e); return e }
		for _, c := range []struct {
			what string
			e    backup.Enrolment
			due  []string
		}{
			{"nothing", was, nil},
			{"the name", change(func(e *backup.Enrolment) { e.Name = "db" }), nil},
			{"the class", change(func(e *backup.Enrolment) { e.Class = "" }), []string{"v1"}},
			{"the schedule", change(func(e *backup.Enrolment) { e.Schedule = "1h" }), []string{"v1"}},
			{"the retention", change(func(e *backup.Enrolment) { e.Retention = "3w" }), []string{"v1"}},
			{"the words", change(func(e *backup.Enrolment) { e.Words = "no" }), []string{"v1"}},
		} {
			w.empty()
			_, err := w.l.Enroll(w.ctx, w.now("p"), was, vols, minute(0))
			w.check(err)
			w.must(w.postpone("v1", backup.State{LastSlot: minute(0), Due: minute(1000)}))
			w.diff("before "+c.what+" changes", w.due(5), []string(nil))
			_, err = w.l.Enroll(w.ctx, w.now("p"), c.e, vols, minute(5))
			w.check(err)
			w.diff("what is due once "+c.what+" changed", w.due(5), c.due)
		}
	}},
	{"a server joins another whose name it begins with", func(w *world) {
		w.enroll(0, "s11 v1")
		w.enroll(1, "s1 v1")
		w.enroll(2, "11 v1")
		servers, err := w.l.ServersOf(w.ctx, "p", "v1")
		w.check(err)
		w.diff("servers", len(servers), 3)
	}},
	{"a volume that a server has lost is told of, with its last server", func(w *world) {
		w.enroll(0, "s1 v1 v2 v3")
		w.enroll(1, "s2 v3")
		w.diff("change", w.enroll(2, "s1 v1"), backup.Change{Unprotected: []string{"v2"}})
		w.diff("all that are left", w.withdraw(3, "s1"), backup.Change{Unprotected: []string{"v1"}})
	}},
	{"a watched run that knows no backup is not restored", func(w *world) {
		w.check(w.l.Watch(w.ctx, run("v1@0#1"), minute(5)))
		w.mustNot(w.restore(5, "v1@0#1"))
		w.must(w.restore(5, "v1@0#2"))
	}},
	{"of a volume whose records have gone nothing is left", func(w *world) {
		w.check(w.l.PutRecords(w.ctx, "p", []backup.Record{{ID: "b1", Volume: "v1", Project: "p"}, {ID: "b2", Volume: "v1", Project: "p"}}))
		key := w.l.of("p").backups()
		w.check(w.l.DropRecords(w.ctx, "p", []string{"b1"}))
		w.diff("what is listed of it", w.rdb.HGetAll(w.ctx, key).Val(), map[string]string{"v1": "b2"})
		w.check(w.l.DropRecords(w.ctx, "p", []string{"b2"}))
		w.diff("and then", w.rdb.HGetAll(w.ctx, key).Val(), map[string]string{})
	}},
	{"a server whose row is lost does not hide those after it", func(w *world) {
		w.enroll(0, "s1 v1")
		w.enroll(0, "s2 v1")
		w.check(w.rdb.HDel(w.ctx, w.l.of("p").servers(), "s1").Err())
		all, err := w.l.Due(w.ctx, w.l.Shard("p"), minute(1), 9)
		w.check(err)
		if len(all) != 1 || len(all[0].Enrolments) != 1 || all[0].Enrolments[0].Server != "s2" {
			w.t.Errorf("due: %+v", all)
		}
		// sane counts servers: the next reading of s1 puts its row back.
		w.empty()
	}},
	{"what is known now goes before what was known", func(w *world) {
		put := func(r backup.Record) {
			r.ID, r.Volume, r.Project = "b2", "v1", "p"
			w.check(w.l.PutRecords(w.ctx, "p", []backup.Record{r}))
		}
		put(backup.Record{Parent: "b0", Policy: "1w"})
		put(backup.Record{Parent: "b1", Policy: "2w"})
		put(backup.Record{})
		r, ok, err := w.l.Record(w.ctx, "p", "b2")
		w.check(err)
		w.must(ok)
		w.diff("parent and policy", []string{r.Parent, r.Policy}, []string{"b1", "2w"})
		w.diff("what is listed of the volume", w.rdb.HGetAll(w.ctx, w.l.of("p").backups()).Val(), map[string]string{"v1": "b2"})
	}},
	{"whoever tracked a backup last has it", func(w *world) {
		w.enroll(0, "s1 v1")
		w.must(w.begin("v1@5#1/b1"))
		w.check(w.l.Watch(w.ctx, run("v1@0#1/b1"), minute(50)))
		w.must(w.finish(fail(6, "v1@5#1/b1", true)))
		known, err := w.l.Look(w.ctx, "p", "b1", minute(20))
		w.check(err)
		w.must(known)
		watched, err := w.l.Watched(w.ctx, w.l.Shard("p"), minute(20), 9)
		w.check(err)
		w.diff("looked at sooner", len(watched), 1)
	}},
	{"a watched run that has found its backup is known by that one", func(w *world) {
		w.check(w.l.Watch(w.ctx, run("v1@0#1/b1"), minute(5)))
		w.check(w.l.Watch(w.ctx, run("v1@0#1/b2"), minute(5)))
		for id, want := range map[string]bool{"b1": false, "b2": true} {
			known, err := w.l.Look(w.ctx, "p", id, minute(1))
			w.check(err)
			if known != want {
				w.t.Errorf("%s is known: %v", id, known)
			}
		}
	}},
	{"the same reading may be told twice, an older one not", func(w *world) {
		older, n := w.now("p"), w.now("p")
		w.enrollWith(n, 0, "s1 v1")
		w.diff("again", w.enrollWith(n, 0, "s1 v1"), backup.Change{Same: true})
		w.diff("older", w.enrollWith(older, 0, "s1 v1"), backup.Change{Stale: true})
	}},
	{"a server that is back is no longer remembered as withdrawn", func(w *world) {
		w.enroll(0, "s1 v1")
		w.withdraw(1, "s1")
		w.diff("withdrawn", w.rdb.HLen(w.ctx, w.l.of("p").withdrawn()).Val(), int64(1))
		w.enroll(2, "s1 v1")
		w.diff("back", w.rdb.HLen(w.ctx, w.l.of("p").withdrawn()).Val(), int64(0))
	}},
	{"a server that is in another project counts there", func(w *world) {
		other := ""
		for i := 0; other == "" || w.l.Shard(other) != w.l.Shard("p"); i++ {
			other = fmt.Sprintf("q%d", i)
		}
		w.enroll(0, "s1")
		_, err := w.l.Enroll(w.ctx, w.now("p"), backup.Enrolment{Server: "s1", Project: other}, nil, minute(1))
		w.check(err)
		w.diff("servers of each", w.rdb.HGetAll(w.ctx, w.l.of("p").projects()).Val(), map[string]string{"p": "0", other: "1"})
	}},
	{"a volume that is never due again is not handed out", func(w *world) {
		w.enroll(0, "s1 v1")
		w.must(w.postpone("v1", backup.State{LastSlot: minute(0)}))
		w.diff("due", w.due(1e6), []string(nil))
	}},
	{"a parent that is told of changes nothing else of a record", func(w *world) {
		want := backup.Record{ID: "b2", Volume: "v1", Project: "p", Slot: minute(0), Kind: backup.Incremental, Status: "available", Created: minute(1), Size: 3, Policy: "1w"}
		w.check(w.l.PutRecords(w.ctx, "p", []backup.Record{want}))
		w.check(w.l.SetParent(w.ctx, "p", "b2", "b1"))
		want.Parent = "b1"
		got, _, err := w.l.Record(w.ctx, "p", "b2")
		w.check(err)
		w.diff("record", got, want)
	}},
	{"more than a limit may be running, and both are told", func(w *world) {
		for _, v := range []string{"v1@0#1", "v2@0#1"} {
			ok, _, err := w.l.Admit(w.ctx, run(v), backup.Limits{}, minute(0), minute(60))
			w.check(err)
			w.must(ok)
		}
		ok, why, err := w.l.Admit(w.ctx, run("v3@0#1"), backup.Limits{Cloud: 1}, minute(1), minute(60))
		w.check(err)
		w.mustNot(ok)
		w.diff("why", why, "cloud limit: 2 of 1 running")
	}},
	{"a server's name is no pattern", func(w *world) {
		w.enroll(0, "s-1 v1")
		w.enroll(1, "s-1 v1")
		servers, err := w.l.ServersOf(w.ctx, "p", "v1")
		w.check(err)
		w.diff("servers", servers, []string{"s-1"})
	}},
	{"a digest that is cut again with nothing new in it may still be saved by whoever has cut it first", func(w *world) {
		w.enroll(0, "s1 v1")
		w.must(w.begin("v1@0#1/b1"))
		w.must(w.finish(fail(2, "v1@0#1/b1", true)))
		for range 2 {
			_, _, err := w.l.CutDigest(w.ctx, "p")
			w.check(err)
		}
		ok, err := w.l.SaveReport(w.ctx, backup.Reporting{Project: "p"}, true)
		w.check(err)
		w.must(ok)
	}},
	{"a lease that is given back leaves nothing", func(w *world) {
		_, _, err := w.l.Admit(w.ctx, run("v1@0#1"), backup.Limits{}, minute(0), minute(60))
		w.check(err)
		w.check(w.l.Release(w.ctx, run("v1@0#1")))
		w.diff("leases and holders", w.rdb.ZCard(w.ctx, w.l.keys.leases()).Val()+w.rdb.HLen(w.ctx, w.l.keys.holders()).Val(), int64(0))
	}},
	{"a stamp that is owed is due from then on, and the newer one is owed", func(w *world) {
		owe := func(stamp, from int) {
			w.check(w.l.OweStamp(w.ctx, backup.StampDue{Server: "s1", Project: "p", At: minute(stamp)}, minute(from)))
		}
		due := func(m int) (at []string) {
			all, err := w.l.Stamps(w.ctx, w.l.Shard("p"), minute(m), 9)
			w.check(err)
			for _, s := range all {
				at = append(at, s.At.UTC().Format("15:04"))
			}
			return at
		}
		owe(1, 5)
		w.diff("before", due(4), []string(nil))
		w.diff("then", due(5), []string{"02:01"})
		owe(1, 3)
		w.diff("the same once more", due(4), []string(nil))
		owe(2, 3)
		w.diff("a newer one", due(4), []string{"02:02"})
		w.diff("what the project has", w.rdb.HGet(w.ctx, w.l.of("p").projects(), "p").Val(), "1")
	}},
	{"a server that is owed two stamps of two runs is counted once", func(w *world) {
		w.enroll(0, "s1 v1 v2")
		for _, v := range []string{"v1@0#1/b1", "v2@1#1/b2"} {
			w.must(w.begin(v))
			w.must(w.finish(complete(9, v)))
		}
		w.must(w.begin("v1@1450#1/b3"))
		w.must(w.finish(complete(1460, "v1@1450#1/b3")))
		// The server itself, and its stamp.
		w.diff("what the project has", w.rdb.HGet(w.ctx, w.l.of("p").projects(), "p").Val(), "2")
	}},
	{"a run that has its backup from the beginning is found by it", func(w *world) {
		w.enroll(0, "s1 v1")
		w.must(w.begin("v1@0#1/b1"))
		known, err := w.l.Look(w.ctx, "p", "b1", minute(0))
		w.check(err)
		w.must(known)
		w.must(w.advance(5, "v1@0#1/b2"))
		known, err = w.l.Look(w.ctx, "p", "b1", minute(0))
		w.check(err)
		w.mustNot(known)
	}},
	{"a project with a single server and nothing else is not forgotten", func(w *world) {
		w.enroll(0, "s1")
		for range 2 {
			all, err := w.l.Projects(w.ctx, w.l.Shard("p"))
			w.check(err)
			w.diff("projects", all, []string{"p"})
		}
	}},
	{"a parent is told of one's own backups only", func(w *world) {
		w.check(w.l.PutRecords(w.ctx, "p", []backup.Record{{ID: "b2", Volume: "v1", Project: "p"}}))
		other := ""
		for i := 0; other == "" || w.l.Shard(other) != w.l.Shard("p"); i++ {
			other = fmt.Sprintf("q%d", i)
		}
		w.check(w.l.SetParent(w.ctx, other, "b2", "b1"))
		r, _, err := w.l.Record(w.ctx, "p", "b2")
		w.check(err)
		w.diff("parent", r.Parent, "")
	}},
	{"a brake that is lifted for a single removal is lifted for one", func(w *world) {
		w.enroll(0, "s1 v1")
		w.check(w.l.ReleaseBrake(w.ctx, "p", minute(60), 1))
		r, err := w.l.Retention(w.ctx, "p")
		w.check(err)
		w.diff("released", []any{r.Released.Equal(minute(60)), r.Most}, []any{true, 1})
	}},
	{"a row that cannot be read is told of each time, and does not hold up the others", func(w *world) {
		w.enroll(1, "s1 v1")
		w.enroll(2, "s2 v2")
		w.enroll(3, "s3 v3")
		row := w.rdb.HGet(w.ctx, w.l.of("p").volumes(), "v1").Val()
		w.check(w.rdb.HSet(w.ctx, w.l.of("p").volumes(), "v1", "nonsense").Err())
		for range 2 {
			some, err := w.l.Due(w.ctx, w.l.Shard("p"), minute(5), 2)
			if err == nil || !strings.Contains(err.Error(), "volume v1: not a row") {
				w.t.Errorf("the error is %v", err)
			}
			if len(some) != 1 || some[0].Volume != "v2" || !some[0].State.Due.Equal(minute(2)) {
				w.t.Errorf("due: %v", some)
			}
		}
		w.check(w.rdb.HSet(w.ctx, w.l.of("p").volumes(), "v1", row).Err())
		w.diff("once it is mended", w.due(5), []string{"v1", "v2", "v3"})
	}},
}
