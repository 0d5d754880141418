package ledger

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"staffeln/functions/backup"
	"staffeln/testutil/services"
)

// lookDue is the projects of p's shard that are to be looked at, and since when.
func (w *world) lookDue(m int) string {
	w.t.Helper()
	due, err := w.l.RetentionDue(w.ctx, w.l.Shard("p"), minute(m), 100)
	w.check(err)
	var out []string
	for _, project := range due {
		out = append(out, project+" "+at(w.retention(project).Due.Round(time.Second)))
	}
	return strings.Join(out, "; ")
}

func (w *world) retention(project string) backup.Retention {
	w.t.Helper()
	r, err := w.l.Retention(w.ctx, project)
	w.check(err)
	return r
}

// save says "gone b1 b2": those were seen to be gone at that minute, at the look
// that r is of. next may be never.
func (w *world) save(r backup.Retention, m int, next time.Time, gone ...string) bool {
	w.t.Helper()
	r.Looked = minute(m)
	var all []backup.Removal
	for _, id := range gone {
		all = append(all, backup.Removal{Backup: id, Volume: "v1", Project: r.Project, Ended: minute(m)})
	}
	ok, err := w.l.SaveRetention(w.ctx, r, all, next)
	w.check(err)
	return ok
}

// removed is the backups of project p that are told to be gone.
func (w *world) removed() string {
	w.t.Helper()
	all, err := w.l.Removals(w.ctx, "p", 10_000)
	w.check(err)
	var ids []string
	for _, g := range all {
		ids = append(ids, g.Backup)
	}
	return strings.Join(ids, " ")
}

func (w *world) look(m int, project string) {
	w.t.Helper()
	w.check(w.l.LookRetention(w.ctx, project, minute(m)))
}

func (w *world) put(ids ...string) {
	w.t.Helper()
	var all []backup.Record
	for i, id := range ids {
		all = append(all, backup.Record{ID: id, Volume: "v1", Status: "available", Created: minute(i)})
	}
	w.check(w.l.PutRecords(w.ctx, "p", all))
}

func (w *world) outlook() backup.Outlook {
	w.t.Helper()
	o, err := w.l.Outlook(w.ctx)
	w.check(err)
	return o
}

func (w *world) held() string {
	w.t.Helper()
	all, err := w.l.Held(w.ctx)
	w.check(err)
	var out []string
	for _, r := range all {
		out = append(out, r.Project+": "+r.Held)
	}
	return strings.Join(out, "; ")
}

// full is a retention that says everything it can.
func full(r backup.Retention) backup.Retention {
	r.Outlook = backup.Outlook{Backups: 10, Removals: 3, Chains: 2000, Losses: 1500}
	r.Announced, r.Held = minute(1), "the brake: \"75 %\" <of> 2 chains\n"
	r.Released, r.Most = minute(1440), 3
	r.Looked = minute(5).Add(123456 * time.Microsecond)
	r.Removals = map[string]backup.Removal{
		"b1": {Backup: "b1", Volume: "v1", Project: "p", Name: "v1-ü", Kind: backup.Incremental, Size: 7, Created: minute(-9),
			Why: "older than 2w", Asked: minute(2), Tries: 3, Again: minute(9), Trouble: "a child that is not ours: b7"},
		"b2": {Backup: "b2", Volume: "v2", Project: "p"}}
	r.Gone = map[string]backup.Absence{"v3": {Since: minute(-1), Times: 2}}
	return r
}

var retentionStories = []story{
	{"what a retention says is what comes back", func(w *world) {
		w.put("b1")
		w.diff("at first", w.retention("p"), backup.Retention{Project: "p", Due: minute(0)})
		r := full(w.retention("p"))
		ok, err := w.l.SaveRetention(w.ctx, r, nil, minute(7))
		w.check(err)
		w.must(ok)
		want := r
		want.Version, want.Due = 1, minute(7)
		w.diff("retention", w.retention("p"), want)
		all, err := w.l.Retentions(w.ctx, w.l.Shard("p"))
		w.check(err)
		w.diff("retentions", all, []backup.Retention{want})
		w.diff("of a project that nobody knows", w.retention("nobody"), backup.Retention{Project: "nobody"})
		w.diff("of none", w.retention("not an id"), backup.Retention{Project: "not an id"})
	}},
	{"a removal says in the end what it said", func(w *world) {
		g := full(backup.Retention{}).Removals["b1"]
		g.Ended = minute(5)
		ok, err := w.l.SaveRetention(w.ctx, backup.Retention{Project: "p"}, []backup.Removal{g}, time.Time{})
		w.check(err)
		w.must(ok)
		all, err := w.l.Removals(w.ctx, "p", 9)
		w.check(err)
		w.diff("removals", all, []backup.Removal{g})
	}},
	{"a project is looked at when a run of its has ended, however it ended", func(w *world) {
		w.enroll(0, "s1 v1 v2")
		w.begin("v1@0#1/b1")
		w.begin("v2@0#1/b2")
		w.advance(1, "v1@0#1/b1")
		w.diff("with open runs", w.lookDue(1e6), "")
		w.finish(fail(4, "v1@0#1/b1", false))
		w.diff("a first attempt that failed", w.lookDue(1e6), "p 4m")
		w.must(w.save(w.retention("p"), 4, time.Time{}))
		w.diff("looked at", w.lookDue(1e6), "")
		w.finish(complete(5, "v2@0#1/b2"))
		w.diff("a complete one", w.lookDue(1e6), "p 5m")
		w.diff("not before", w.lookDue(4), "")
		w.must(w.save(w.retention("p"), 5, minute(100)))
		w.check(w.l.Watch(w.ctx, run("v3@0#1/b3"), minute(5)))
		w.finishLate(fail(50, "v3@0#1/b3", true))
		w.diff("one that ended late", w.lookDue(1e6), "p 50m")
	}},
	{"a project that is due stays so since when it is, whatever ends later", func(w *world) {
		w.enroll(0, "s1 v1 v2")
		w.begin("v1@0#1")
		w.begin("v2@0#1")
		w.finish(fail(4, "v1@0#1", true))
		w.finish(fail(9, "v2@0#1", true))
		w.look(11, "p")
		w.put("b1")
		w.diff("due", w.lookDue(1e6), "p 4m")
		w.look(2, "p")
		w.diff("and sooner, if something says so", w.lookDue(1e6), "p 2m")
	}},
	{"the longest due project comes first, and no more than asked for", func(w *world) {
		q := sibling(w.l, "p")
		w.check(w.l.PutRecords(w.ctx, q, []backup.Record{{ID: "b9", Volume: "v9", Created: minute(1)}}))
		w.put("b1", "b2", "b3")
		w.diff("due", w.lookDue(9), q+" 1m; p 2m")
		for max, want := range map[int]int{-1: 0, 0: 0, 1: 1, 2: 2} {
			due, err := w.l.RetentionDue(w.ctx, w.l.Shard("p"), minute(9), max)
			w.check(err)
			w.diff(fmt.Sprint("of ", max), len(due), want)
		}
	}},
	{"a look that was planned by a clock gone wrong is not waited for", func(w *world) {
		w.put("b1")
		year := 365 * 24 * 60
		w.must(w.save(w.retention("p"), year, minute(year+1440)))
		w.diff("with the right clock again", w.lookDue(5), fmt.Sprintf("p %dm", year+1440))
		w.must(w.save(w.retention("p"), 5, minute(5+1440)))
		w.diff("looked at with that", w.lookDue(6), "")
		w.diff("and again a day later", w.lookDue(5+1440), "p 1445m")
		w.must(w.save(w.retention("p"), 1445, minute(1445+48*60)))
		w.diff("as far ahead as can be", w.lookDue(1445), "")
		w.diff("by a clock that is behind, too early rather than never", w.lookDue(1444), "p 4325m")
	}},
	{"records make a project due that nobody would look at, and leave others to their time", func(w *world) {
		w.put("b1", "b2")
		w.diff("newly known, by the newest of them", w.lookDue(1e6), "p 1m")
		w.must(w.save(w.retention("p"), 9, minute(1440)))
		w.put("b1", "b2", "b3")
		w.diff("to be looked at anyhow", w.lookDue(1e6), "p 1440m")
		w.must(w.save(w.retention("p"), 9, time.Time{}))
		w.put("b1")
		w.diff("nobody would", w.lookDue(1e6), "p 0m")
		w.check(w.l.PutRecords(w.ctx, sibling(w.l, "p"), []backup.Record{{ID: "b9", Volume: "v9"}}))
		if due := w.lookDue(-1e6); !strings.HasPrefix(due, sibling(w.l, "p")) {
			w.t.Errorf("of no time, due long ago: %s", due)
		}
		w.look(5, sibling(w.l, "p"))
		w.look(6, sibling(w.l, "p"))
	}},
	{"whatever makes a project due while it is looked at is not lost when that is written", func(w *world) {
		w.enroll(0, "s1 v1 v2 v3 v4")
		for _, v := range []string{"v1", "v2", "v3", "v4"} {
			w.begin(v + "@0#1")
		}
		w.finish(fail(4, "v1@0#1", true))
		r := w.retention("p")
		w.finish(fail(5, "v2@0#1", true))
		w.must(w.save(r, 6, minute(1440)))
		w.diff("it was due already, and is so from this look on", w.lookDue(6), "p 6m")

		r = w.retention("p")
		w.finish(fail(6, "v3@0#1", true))
		w.must(w.save(r, 6, minute(1440)))
		w.diff("of the same moment", w.lookDue(6), "p 6m")

		w.must(w.save(w.retention("p"), 7, minute(1440)))
		w.diff("then nothing", w.lookDue(1439), "")
		r = w.retention("p")
		w.finish(fail(9, "v4@0#1", true))
		w.must(w.save(r, 8, minute(1440)))
		w.diff("it was not due", w.lookDue(1439), "p 9m")

		w.must(w.save(w.retention("p"), 10, minute(1440)))
		r = w.retention("p")
		w.look(11, "p")
		w.must(w.save(r, 10, time.Time{}))
		w.diff("a notification", w.lookDue(1439), "p 11m")

		w.must(w.save(w.retention("p"), 12, time.Time{}))
		r = w.retention("p")
		w.put("b1")
		w.must(w.save(r, 13, minute(1440)))
		w.diff("records of one that nobody would have looked at", w.lookDue(1439), "p 13m")

		r = w.retention("p")
		w.look(14, "p")
		w.must(w.save(r, 20, minute(15)))
		w.diff("no later than the look itself wants", w.lookDue(1439), "p 15m")
	}},
	{"a look writes twice, if it goes on from what it wrote", func(w *world) {
		w.put("b1", "b2")
		r := w.retention("p")
		r.Held = "once"
		w.must(w.save(r, 5, minute(9), "b1"))
		r.Version, r.Due, r.Held = r.Version+1, minute(9), "twice"
		w.must(w.save(r, 5, minute(20), "b2"))
		got := w.retention("p")
		w.diff("retention", got, backup.Retention{Project: "p", Version: 2, Due: minute(20), Held: "twice", Looked: minute(5)})
		w.diff("removed", w.removed(), "b1 b2")
	}},
	{"a notification makes due what is known here, and nothing else", func(w *world) {
		w.look(5, "p")
		w.look(5, "nobody")
		w.diff("due", w.lookDue(1e6), "")
		w.enroll(0, "s1")
		w.look(5, "p")
		w.diff("known", w.lookDue(1e6), "p 5m")
		w.look(7, "p")
		w.diff("not put off", w.lookDue(1e6), "p 5m")
		w.look(3, "p")
		w.diff("brought forward", w.lookDue(1e6), "p 3m")
	}},
	{"what is gone takes its record along and is told of, in one step", func(w *world) {
		w.put("b1", "b2", "b3")
		r := w.retention("p")
		r.Removals = map[string]backup.Removal{"b3": {Backup: "b3", Asked: minute(5)}}
		w.must(w.save(r, 5, minute(6), "b1", "b2", "b0")) // of b0 there was no record
		w.diff("ledger", w.see(), "record b3 of v1 available")
		w.diff("removed", w.removed(), "b1 b2 b0")
		r = w.retention("p")
		r.Removals = nil
		w.must(w.save(r, 6, minute(1440), "b3"))
		w.diff("ledger", w.see(), "")
		w.diff("removed", w.removed(), "b1 b2 b0 b3")
		last, err := w.l.Removals(w.ctx, "p", 1)
		w.check(err)
		w.diff("the last", last, []backup.Removal{{Backup: "b3", Volume: "v1", Project: "p", Ended: minute(6)}})
		for _, none := range []string{"nobody", "not an id"} {
			all, err := w.l.Removals(w.ctx, none, 9)
			w.check(err)
			w.diff("of "+none, len(all), 0)
		}
	}},
	{"the backups of another project are not dropped by this one's look", func(w *world) {
		q := sibling(w.l, "p")
		w.check(w.l.PutRecords(w.ctx, q, []backup.Record{{ID: "b1", Volume: "v1"}}))
		w.must(w.save(w.retention("p"), 5, time.Time{}, "b1"))
		all, err := w.l.Records(w.ctx, q)
		w.check(err)
		w.diff("still there", len(all), 1)
	}},
	{"of two that look at a project at once, one is written and the other changes nothing", func(w *world) {
		w.put("b1", "b2")
		one := w.retention("p")
		other := one
		one.Held, other.Held = "", "the brake"
		w.must(w.save(one, 5, minute(9), "b1"))
		before := w.retention("p")
		w.mustNot(w.save(other, 6, minute(7), "b2"))
		w.diff("retention", w.retention("p"), before)
		w.diff("ledger", w.see(), "record b2 of v1 available")
		w.diff("removed", w.removed(), "b1")
	}},
	{"of many that write the same look at once, one has", func(w *world) {
		w.put("b1")
		r := w.retention("p")
		n := make(chan int, 8)
		for i := range 8 {
			n <- i
		}
		yes := race(w, 8, func() (bool, error) {
			r, i := r, <-n
			r.Outlook.Backups = 1 + i
			return w.l.SaveRetention(w.ctx, r, []backup.Removal{{Backup: fmt.Sprint("b", i)}}, minute(9))
		})
		if told := w.removed(); yes != 1 || len(strings.Fields(told)) != 1 {
			w.t.Errorf("%d of 8 were written, told is: %s", yes, told)
		}
	}},
	{"a look whose answer was lost is told the same when the client asks again", func(w *world) {
		w.put("b1", "b2")
		for i, held := range []string{"", "the brake"} {
			r := w.retention("p")
			r.Held = held
			save := func(nonce string) bool {
				ok, err := w.l.saveRetention(w.ctx, r, []backup.Removal{{Backup: fmt.Sprint("b", i+1)}}, minute(9), nonce)
				w.check(err)
				return ok
			}
			w.must(save("mine"))
			w.must(save("mine"))
			w.mustNot(save("another's"))
			w.check(w.l.ReleaseBrake(w.ctx, "p", minute(1440), 3))
			w.mustNot(save("mine")) // much too late
		}
		w.diff("told once", w.removed(), "b1 b2")
	}},
	{"a look of before Redis was emptied is not written", func(w *world) {
		w.put("b1")
		w.must(w.save(full(w.retention("p")), 5, minute(6)))
		r := w.retention("p")
		w.empty()
		w.mustNot(w.save(r, 6, minute(9), "b1"))
		w.diff("due", w.lookDue(1e6), "")
		w.diff("removed", w.removed(), "")
	}},
	{"that nothing is removed is not written down, but when that was seen", func(w *world) {
		w.put("b1")
		rows := func() string {
			s := w.l.of("p")
			return fmt.Sprint(w.rdb.HLen(w.ctx, s.outlook()).Val(), w.rdb.HLen(w.ctx, s.removals()).Val())
		}
		w.must(w.save(w.retention("p"), 5, minute(9)))
		w.diff("nothing to remove", rows(), "1 0")
		w.must(w.save(full(w.retention("p")), 7, minute(9)))
		w.diff("something", rows(), "1 1")
		w.must(w.save(backup.Retention{Project: "p", Version: 2, Due: minute(9)}, 8, minute(10)))
		w.diff("nothing again", rows(), "1 0")
		w.diff("retention", w.retention("p"), backup.Retention{Project: "p", Version: 3, Due: minute(10), Looked: minute(8)})
	}},
	{"the list of what was removed is bounded, the newest stay", func(w *world) {
		var all []backup.Removal
		for i := range RemovedKept + 5 {
			all = append(all, backup.Removal{Backup: fmt.Sprint("b", i)})
		}
		ok, err := w.l.SaveRetention(w.ctx, w.retention("p"), all, time.Time{})
		w.check(err)
		w.must(ok)
		ids := strings.Fields(w.removed())
		if len(ids) != RemovedKept || ids[0] != "b5" || ids[RemovedKept-1] != fmt.Sprint("b", RemovedKept+4) {
			w.t.Errorf("%d are kept, from %s to %s", len(ids), ids[0], ids[len(ids)-1])
		}
	}},
	{"the outlook is that of the whole cloud, each project's as last looked at", func(w *world) {
		w.diff("at first", w.outlook(), backup.Outlook{})
		for i := range 40 { // of many shards
			r := w.retention(fmt.Sprint("p", i))
			r.Outlook = backup.Outlook{Backups: 10, Chains: 2000}
			w.must(w.save(r, 5, minute(9)))
		}
		w.diff("all", w.outlook(), backup.Outlook{Backups: 400, Chains: 80_000})
		r := w.retention("p7")
		r.Outlook = backup.Outlook{Backups: 10, Removals: 7, Chains: 2000, Losses: 1200}
		w.must(w.save(r, 6, minute(9)))
		w.diff("one has something to remove", w.outlook(), backup.Outlook{Backups: 400, Removals: 7, Chains: 80_000, Losses: 1200})
		r = w.retention("p7")
		r.Outlook = backup.Outlook{}
		w.must(w.save(r, 7, minute(9)))
		w.diff("it has nothing left", w.outlook(), backup.Outlook{Backups: 390, Chains: 78_000})
	}},
	{"what is held is listed, of all shards", func(w *world) {
		w.diff("at first", w.held(), "")
		for i := range 40 {
			r := w.retention(fmt.Sprintf("p%02d", i))
			r.Outlook.Backups = 1
			if i%20 == 3 {
				r.Held = fmt.Sprint("the brake ", i)
			}
			w.must(w.save(r, 5, minute(9)))
		}
		w.diff("held", w.held(), "p03: the brake 3; p23: the brake 23")
		r := w.retention("p03")
		r.Held = ""
		w.must(w.save(r, 6, minute(9)))
		w.diff("one is not any more", w.held(), "p23: the brake 23")
	}},
	{"the operator lifts the brake on a project, whatever is going on", func(w *world) {
		err := w.l.ReleaseBrake(w.ctx, "p", minute(1440), 3)
		if err == nil || !strings.Contains(err.Error(), "nothing is known") {
			w.t.Errorf("a project that nobody knows: %v", err)
		}
		w.put("b1")
		w.check(w.l.ReleaseBrake(w.ctx, "p", minute(1440), 3))
		w.diff("never looked at", w.retention("p"), backup.Retention{Project: "p", Version: 1, Due: minute(0), Released: minute(1440), Most: 3})

		before := full(w.retention("p"))
		w.must(w.save(before, 5, minute(9)))
		r := w.retention("p")
		w.check(w.l.ReleaseBrake(w.ctx, "p", minute(2000), 30))
		w.mustNot(w.save(r, 6, minute(9)))
		want := before
		want.Version, want.Due, want.Looked, want.Released, want.Most = 3, minute(9), minute(5), minute(2000), 30
		w.diff("released during a look", w.retention("p"), want)
		w.must(w.save(w.retention("p"), 1999, minute(9)))
		w.diff("still", w.retention("p").Most, 30)
		w.must(w.save(w.retention("p"), 2000, minute(9)))
		r = w.retention("p")
		w.must(r.Released.IsZero() && r.Most == 0)

		w.check(w.l.ReleaseBrake(w.ctx, "p", minute(3000), 30))
		w.check(w.l.ReleaseBrake(w.ctx, "p", time.Time{}, 30))
		r = w.retention("p")
		w.must(r.Released.IsZero() && r.Most == 0 && r.Version == 7)
		w.diff("nothing else has changed", r.Removals, before.Removals)
	}},
	{"the operator lifts the brake on the cloud", func(w *world) {
		release := func() string {
			w.t.Helper()
			until, most, err := w.l.CloudRelease(w.ctx)
			w.check(err)
			return fmt.Sprint(at(until), " ", most)
		}
		w.diff("at first", release(), "never 0")
		w.check(w.l.ReleaseCloud(w.ctx, minute(1440), 70))
		w.diff("released", release(), "1440m 70")
		w.check(w.l.ReleaseCloud(w.ctx, minute(1500), 0))
		w.diff("anew", release(), "1500m 0")
		w.check(w.l.ReleaseCloud(w.ctx, time.Time{}, 70))
		w.diff("taken back", release(), "never 0")
	}},
	{"several volumes at once are as each of them by itself", func(w *world) {
		w.enroll(0, "s1/gold v1 v2")
		w.enroll(0, "s2 v2 v3x")
		w.enroll(0, "s3")
		w.begin("v1@0#1")
		w.due(0)
		w.must(w.postpone("v2", backup.State{LastSlot: minute(-5), Why: "why", Due: minute(9)}))
		ids := []string{"v3", "v2", "v9", "not an id", "", "v1", "v2"}
		got, err := w.l.VolumesOf(w.ctx, "p", ids)
		w.check(err)
		want := map[string]backup.Protected{}
		for _, id := range ids {
			if v, ok, err := w.l.Volume(w.ctx, "p", id); err != nil {
				w.t.Error(err)
			} else if ok {
				want[id] = v
			}
		}
		w.diff("volumes", got, want)
		if len(got) != 3 || len(got["v2"].Enrolments) != 2 || !got["v1"].State.Due.IsZero() || got["v3"].Skip == "" {
			w.t.Errorf("volumes: %+v", got)
		}
		for _, project := range []string{sibling(w.l, "p"), "not an id"} {
			got, err = w.l.VolumesOf(w.ctx, project, ids)
			w.check(err)
			w.diff("of "+project, len(got), 0)
		}
		got, err = w.l.VolumesOf(w.ctx, "p", nil)
		w.check(err)
		w.diff("of none", len(got), 0)
	}},
	{"hundreds of volumes are asked for at once", func(w *world) {
		e := backup.Enrolment{Server: "s1", Project: "p"}
		for i := range 1200 {
			e.Volumes = append(e.Volumes, fmt.Sprint("v", i))
		}
		_, err := w.l.Enroll(w.ctx, w.now("p"), e, nil, minute(0))
		w.check(err)
		got, err := w.l.VolumesOf(w.ctx, "p", e.Volumes)
		w.check(err)
		if len(got) != 1200 || len(got["v1199"].Enrolments) != 1 {
			w.t.Errorf("%d volumes", len(got))
		}
	}},
	{"a project is not forgotten as long as there is something to remove, or to tell of it", func(w *world) {
		projects := func() string {
			w.t.Helper()
			all, err := w.l.Projects(w.ctx, w.l.Shard("p"))
			w.check(err)
			return strings.Join(all, " ")
		}
		keys := func() int {
			n, s := 0, w.l.of("p")
			for _, key := range []string{s.outlook(), s.removals(), s.retention()} {
				n += int(w.rdb.Exists(w.ctx, key).Val())
			}
			return n
		}
		w.put("b1")
		r := w.retention("p")
		r.Outlook, r.Removals = backup.Outlook{Backups: 1, Removals: 1}, map[string]backup.Removal{"b1": {Backup: "b1"}}
		w.must(w.save(r, 5, minute(6)))
		w.check(w.l.DropRecords(w.ctx, "p", []string{"b1"}))
		w.diff("a removal under way", projects(), "p")
		w.diff("its keys", keys(), 3)
		r = w.retention("p")
		r.Outlook, r.Removals, r.Held = backup.Outlook{}, nil, "no list"
		w.must(w.save(r, 6, minute(1440), "b1"))
		w.diff("a removal to tell of", projects(), "p")
		w.check(w.rdb.Del(w.ctx, w.l.of("p").removed("p")).Err()) // it was told
		w.diff("nothing but a look, and what held it", keys(), 3)
		w.diff("forgotten", projects(), "")
		w.diff("with all its keys", keys(), 0)
		w.mustNot(w.save(r, 7, minute(9)))
		w.diff("a look under way does not bring it back", keys(), 0)
		w.put("b2")
		w.diff("known anew", projects()+" "+w.lookDue(1e6), "p p 0m")
	}},
	{"a project that was only to be looked at is forgotten with that", func(w *world) {
		w.enroll(0, "s1")
		w.look(5, "p")
		w.withdraw(1, "s1")
		all, err := w.l.Projects(w.ctx, w.l.Shard("p"))
		w.check(err)
		w.diff("projects", len(all), 0)
		w.diff("due", w.lookDue(1e6), "")
	}},
	{"ids that are none are refused, and nothing is kept of them", func(w *world) {
		for _, id := range []string{"", "-", "a b", "{a}", "a\nb", strings.Repeat("a", 256)} {
			_, none := w.l.SaveRetention(w.ctx, full(backup.Retention{Project: id}), nil, minute(1))
			_, gone := w.l.SaveRetention(w.ctx, full(backup.Retention{Project: "p"}), []backup.Removal{{Backup: id}}, minute(1))
			for what, err := range map[string]error{"project": none, "backup": gone,
				"project to look at": w.l.LookRetention(w.ctx, id, minute(1)), "project to release": w.l.ReleaseBrake(w.ctx, id, minute(1), 1)} {
				if err == nil {
					w.t.Errorf("%s %.9q", what, id)
				}
			}
		}
		w.diff("outlook", w.outlook(), backup.Outlook{})
		w.diff("due", w.lookDue(1e6), "")
	}},
}

// Redis says a score of this size in other words than it was given, depending on
// who asks: a time that came back otherwise would look like another's.
func TestATimeComesBackAsItWas(t *testing.T) {
	for _, home := range homes {
		t.Run(home.name, func(t *testing.T) {
			w := newWorld(t, home.open(t))
			for _, due := range []time.Time{minute(0), minute(0).Add(time.Microsecond), minute(0).Add(-time.Microsecond),
				time.Unix(1e9, 0).UTC(), time.Date(2199, 12, 31, 23, 59, 59, 999_999_000, time.UTC)} {
				w.must(w.save(w.retention("p"), 0, due))
				w.diff("due", w.retention("p").Due, due)
				w.must(w.save(w.retention("p"), 0, minute(9)))
				w.diff("taken for its own", w.retention("p").Due, minute(9))
			}
		})
	}
}

func TestALimitIsSharedByAllProcesses(t *testing.T) {
	for _, home := range homes {
		t.Run(home.name, func(t *testing.T) {
			rdb := home.open(t)
			one, other := NewLimiter(rdb, 0), NewLimiter(rdb, 0)
			allow := func(l *Limiter, what string, perSecond int) bool {
				t.Helper()
				ok, err := l.Allow(t.Context(), what, perSecond)
				if err != nil {
					t.Fatal(err)
				}
				return ok
			}
			if !allow(one, "look-up", 1) {
				t.Error("the first is refused")
			}
			// A second may pass between two questions, but not between all of them.
			refused := false
			for i := 0; i < 1000 && !refused; i++ {
				allow(one, "look-up", 1)
				refused = !allow(other, "look-up", 1)
			}
			if !refused {
				t.Error("nobody is refused")
			}
			if !allow(other, "something else", 1) {
				t.Error("what is limited by itself is refused")
			}
			if !allow(other, "look-up", 0) {
				t.Error("refused without a limit")
			}
			keysAreDocumented(t, newWorld(t, rdb))
		})
	}
}

func TestALimitLetsThroughWithoutRedis(t *testing.T) {
	s := services.RedisServer(t)
	l := NewLimiter(s.Client(), 0)
	if ok, err := l.Allow(t.Context(), "look-up", 5); !ok || err != nil {
		t.Fatalf("with Redis: %v, %v", ok, err)
	}
	s.Stop()
	for range 3 {
		if ok, err := l.Allow(t.Context(), "look-up", 5); !ok || err == nil {
			t.Fatalf("without Redis: %v, %v", ok, err)
		}
	}
	if l.down.IsZero() {
		t.Error("Redis is asked every time, though it does not answer")
	}
}

// inHistory does what retention does, beside all else that happens in a history.
type inHistory struct {
	w *world
	// read is what a look has read and not yet written, since when triggers counts
	// what has made the project due.
	read     *backup.Retention
	triggers int
}

// save writes the look that is under way, if there is one.
func (h *inHistory) save(now int, next time.Time, held string, gone []backup.Removal) {
	w := h.w
	if h.read == nil {
		return
	}
	r := *h.read
	before := w.retention("p")
	r.Held, r.Looked = held, minute(now)
	ok, err := w.l.SaveRetention(w.ctx, r, gone, next)
	w.check(err)
	h.read = nil
	if ok != (before.Version == r.Version) {
		w.t.Errorf("a look at version %d was written over version %d: %v", r.Version, before.Version, ok)
	}
	after := w.retention("p")
	switch {
	case !ok:
		if d := cmp.Diff(before, after); d != "" {
			w.t.Errorf("a look that was not written has changed (-before +after):\n%s", d)
		}
	case h.triggers > 0:
		if after.Due.IsZero() || after.Due.After(minute(now)) && after.Due.After(before.Due) {
			w.t.Errorf("made due %d times during a look at minute %d, and due at %s", h.triggers, now, at(after.Due))
		}
	case !after.Due.Equal(next):
		w.t.Errorf("to be looked at %s, and due %s", at(next), at(after.Due))
	}
}

// known says whether anything is known of the project.
func (h *inHistory) known() bool {
	ok, err := h.w.rdb.HExists(h.w.ctx, h.w.l.of("p").projects(), "p").Result()
	h.w.check(err)
	return ok
}

// saneRetention looks whether what must always hold of the removals does.
func saneRetention(t tester, w *world) {
	t.Helper()
	s := w.l.of("p")
	var due *redis.StringSliceCmd
	var outlook, removals, projects *redis.MapStringStringCmd
	_, err := w.rdb.TxPipelined(w.ctx, func(p redis.Pipeliner) error {
		due = p.ZRange(w.ctx, s.retention(), 0, -1)
		outlook, removals, projects = p.HGetAll(w.ctx, s.outlook()), p.HGetAll(w.ctx, s.removals()), p.HGetAll(w.ctx, s.projects())
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	listed := func(what, project string) {
		t.Helper()
		if _, ok := projects.Val()[project]; !ok {
			t.Errorf("project %s has %s and is not listed", project, what)
		}
	}
	for _, project := range due.Val() {
		listed("a time to be looked at", project)
	}
	for project, row := range outlook.Val() {
		listed("an outlook", project)
		if r, err := readRetention(project, row, removals.Val()[project]); err != nil || r.Version < 1 {
			t.Errorf("project %s, version %d: %v", project, r.Version, err)
		}
	}
	for project := range removals.Val() {
		if outlook.Val()[project] == "" {
			t.Errorf("project %s has removals and no version", project)
		}
	}
	if n := w.rdb.LLen(w.ctx, s.removed("p")).Val(); n > 0 {
		listed("removed backups", "p")
	}
}
