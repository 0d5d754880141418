package ledger

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"staffeln/functions/backup"
)

// report is what is remembered of project p's digests.
func (w *world) report() backup.Reporting {
	w.t.Helper()
	all, err := w.l.Reports(w.ctx, w.l.Shard("p"))
	w.check(err)
	r := all["p"]
	r.Project = "p"
	return r
}

// cut says what is put aside: volumes of runs, then backups that were removed.
func (w *world) cut() string {
	w.t.Helper()
	runs, removals, err := w.l.CutDigest(w.ctx, "p")
	w.check(err)
	var out []string
	for _, r := range runs {
		out = append(out, r.Volume)
	}
	for _, g := range removals {
		out = append(out, g.Backup)
	}
	return strings.Join(out, " ")
}

// ended says "v1 v2": a run of each has failed for good, in that order.
func (w *world) ended(volumes ...string) {
	w.t.Helper()
	for _, v := range volumes {
		w.check(w.l.Watch(w.ctx, run(v+"@0#1"), minute(5)))
		c := fail(4, v+"@0#1", true)
		c.Remove = false
		w.must(w.finishLate(c))
	}
}

// pend is r with a digest on its way.
func pend(r backup.Reporting) backup.Reporting {
	r.Pending = &backup.Pending{Digest: backup.Digest{ID: "p@" + minute(240).Format(backup.Stamp), Project: "p", To: minute(240)}}
	return r
}

func (w *world) write(r backup.Reporting, told bool) bool {
	w.t.Helper()
	ok, err := w.l.SaveReport(w.ctx, r, told)
	w.check(err)
	return ok
}

// told saves that the digest on its way was told, as of that minute.
func (w *world) told(r backup.Reporting, m int) bool {
	w.t.Helper()
	r.Last, r.Pending = minute(m), nil
	return w.write(r, true)
}

// fullReport is one that says everything it can.
func fullReport(r backup.Reporting) backup.Reporting {
	r.Last, r.Guessed = minute(-1200), true
	r.Failing = map[string]time.Time{"v1": minute(-3000), "v2": minute(-1300)}
	r.Errors = []backup.DigestRun{{Server: "db", Slot: minute(-1300), Why: "500"}}
	r.Alarms = map[string]backup.Alarm{"s1": {Since: minute(-30), Note: backup.DigestNote{Server: "db", Why: "locked"}, Told: []string{"a@example.org"}, Done: minute(-20), Tries: 2, Again: minute(-10)}}
	r.Pending = &backup.Pending{
		Digest: backup.Digest{ID: "p@20261122T060000Z", Project: "p", Name: "Prüfung \"<b>\"\n", From: minute(-1200), To: minute(240), Zone: "Europe/Berlin",
			Runs: []backup.DigestRun{{Server: "web", Volume: "data", VolumeID: "v1", Kind: backup.Full, Size: 3, Slot: minute(0),
				Started: minute(1), Ended: minute(2).Add(123456 * time.Microsecond), Why: "it broke", FailingSince: minute(-3000)}},
			Failed: 1, Backups: backup.QuotaFact{Limit: 10, Used: 9, Percent: 90, Level: backup.High, Full: minute(9999)},
			Gigabytes: backup.QuotaFact{Limit: -1, Level: backup.Low}, Removed: []backup.Removal{{Backup: "b1", Volume: "v1", Ended: minute(3)}},
			Removals: 1, Held: "the brake", Empty: []backup.DigestNote{{Server: "db", Why: "no volumes attached"}}, Protected: 2},
		Failing: map[string]time.Time{"v1": minute(-3000)}, Told: []string{"a@example.org"}, Tries: 3, Again: minute(300), Why: "greylisted"}
	return r
}

var reportStories = []story{
	{"what a report says is what comes back", func(w *world) {
		w.diff("at first", w.report(), backup.Reporting{Project: "p"})
		r := fullReport(w.report())
		w.must(w.write(r, false))
		r.Version = 1
		w.diff("report", w.report(), r)
		q := sibling(w.l, "p")
		w.must(w.write(backup.Reporting{Project: q, Last: minute(7)}, false))
		all, err := w.l.Reports(w.ctx, w.l.Shard("p"))
		w.check(err)
		w.diff("reports", all, map[string]backup.Reporting{"p": r, q: {Project: q, Version: 1, Last: minute(7)}})
		all, err = w.l.Reports(w.ctx, (w.l.Shard("p")+1)%w.l.Shards())
		w.check(err)
		w.diff("of another shard", len(all), 0)
	}},
	{"a digest is made of what has ended, oldest first, as it was", func(w *world) {
		w.diff("nothing", w.cut(), "")
		w.must(w.told(w.report(), 1))
		w.enroll(0, "s1 v1")
		w.begin("v1@0#1/b1")
		c := complete(4, "v1@0#1/b1")
		c.Run.Why, c.Run.VolumeName = "full: the chain was broken", "data \"<ü>\""
		w.finish(c)
		w.ended("v3", "v2")
		g := full(backup.Retention{}).Removals["b1"]
		ok, err := w.l.SaveRetention(w.ctx, w.retention("p"), []backup.Removal{{Backup: "b9"}, g}, time.Time{})
		w.check(err)
		w.must(ok)
		runs, removals, err := w.l.CutDigest(w.ctx, "p")
		w.check(err)
		w.diff("runs", len(runs), 3)
		w.diff("the first", runs[0], c.Run)
		w.diff("the others", runs[1].Volume+" "+runs[2].Volume, "v3 v2")
		w.diff("removals", removals, []backup.Removal{{Backup: "b9"}, g})
		left, err := w.l.Finished(w.ctx, "p", 10)
		w.check(err)
		w.diff("left", fmt.Sprint(len(left), w.removed()), "0")
		w.diff("of another project of the shard", w.rdb.Exists(w.ctx, w.l.of("p").cut(sibling(w.l, "p"))).Val(), int64(0))
	}},
	{"what ends while a digest is on its way waits for the next", func(w *world) {
		w.ended("v1", "v2")
		w.must(w.save(w.retention("p"), 5, time.Time{}, "b1"))
		w.diff("cut", w.cut(), "v1 v2 b1")
		w.must(w.write(pend(w.report()), false))
		w.ended("v3")
		w.must(w.save(w.retention("p"), 6, time.Time{}, "b2"))
		w.diff("on its way", w.cut(), "v1 v2 b1")
		r := w.report()
		r.Pending.Told = []string{"a@example.org"}
		w.must(w.write(r, false))
		w.ended("v4")
		w.diff("one has it", w.cut(), "v1 v2 b1")
		w.must(w.told(w.report(), 240))
		w.diff("the next", w.cut(), "v3 v4 b2")
		w.must(w.told(w.report(), 1680))
		w.diff("all told", w.cut(), "")
	}},
	{"a digest without runs stays so, whatever ends while it is on its way", func(w *world) {
		w.diff("cut", w.cut(), "")
		w.must(w.write(pend(w.report()), false))
		w.ended("v1")
		w.diff("on its way", w.cut(), "")
		w.must(w.told(w.report(), 240))
		w.diff("the next", w.cut(), "v1")
	}},
	{"after a crash between cut and save the same comes again", func(w *world) {
		w.ended("v1", "v2")
		for range 3 {
			w.diff("cut", w.cut(), "v1 v2")
		}
		w.must(w.write(pend(w.report()), false))
		w.must(w.told(w.report(), 240))
		w.diff("told", w.cut(), "")
	}},
	{"what has ended since a crash is in the digest, too, and one that was made of less is not saved", func(w *world) {
		w.must(w.write(backup.Reporting{Project: "p", Last: minute(-1200)}, false))
		w.ended("v1")
		dead := w.report()
		w.diff("cut, and the process dies", w.cut(), "v1")
		w.ended("v2")
		next := w.report()
		w.diff("the next process", w.cut(), "v1 v2")
		w.mustNot(w.write(pend(dead), false))
		w.mustNot(w.told(dead, 240))
		w.mustNot(w.write(pend(next), false)) // the same version: nobody can tell the two apart
		w.ended("v3")
		next = w.report()
		w.diff("once only", w.cut(), "v1 v2")
		w.must(w.write(pend(next), false))
		w.must(w.told(w.report(), 240))
		w.diff("then the rest", w.cut(), "v3")
	}},
	{"nothing is dropped that the digest was not made of", func(w *world) {
		w.must(w.write(backup.Reporting{Project: "p", Last: minute(-1200)}, false))
		one, other := w.report(), w.report()
		w.diff("one finds nothing", w.cut(), "")
		w.ended("v1")
		w.diff("the other a run", w.cut(), "v1")
		w.mustNot(w.told(one, 240))
		w.mustNot(w.write(pend(other), false))
		other = w.report()
		w.diff("again", w.cut(), "v1")
		w.must(w.write(pend(other), false))
	}},
	{"somebody who comes late and cuts for nothing does not make the next digest poorer", func(w *world) {
		w.ended("v1")
		late := w.report()
		w.cut()
		w.must(w.write(pend(w.report()), false))
		w.must(w.told(w.report(), 240))
		w.ended("v2")
		w.diff("late", w.cut(), "v2")
		w.mustNot(w.write(pend(late), false))
		w.ended("v3", "v4") // all day
		w.cut()
		next := w.report()
		w.diff("the next", w.cut(), "v2 v3 v4")
		w.must(w.write(pend(next), false))
	}},
	{"a digest that is given up on leaves its runs to the next", func(w *world) {
		w.ended("v1")
		w.cut()
		w.must(w.write(pend(w.report()), false))
		w.ended("v2")
		r := w.report()
		r.Pending = nil
		w.must(w.write(r, false))
		w.diff("the next", w.cut(), "v1 v2")
	}},
	{"of two that save at once, one is written and the other changes nothing", func(w *world) {
		w.ended("v1")
		w.cut()
		r := w.report()
		w.must(w.write(pend(r), false))
		want := w.report()
		w.mustNot(w.write(fullReport(r), false))
		w.mustNot(w.told(r, 240))
		w.diff("report", w.report(), want)
		w.diff("aside", w.cut(), "v1")
		newer := want
		newer.Version = 7
		w.mustNot(w.told(newer, 240))
		w.diff("one that nobody has written", w.report(), want)
	}},
	{"of many that save the same at once, one has", func(w *world) {
		r := w.report()
		if yes := race(w, 8, func() (bool, error) { return w.l.SaveReport(w.ctx, pend(r), false) }); yes != 1 {
			w.t.Errorf("%d of 8 were written", yes)
		}
	}},
	{"of many that cut at once, all see the same", func(w *world) {
		w.ended("v1", "v2", "v3")
		yes := race(w, 8, func() (bool, error) {
			runs, _, err := w.l.CutDigest(w.ctx, "p")
			return len(runs) == 3, err
		})
		w.diff("of 8", yes, 8)
	}},
	{"a save goes on from what it wrote", func(w *world) {
		w.ended("v1")
		r := w.report()
		w.cut()
		r = pend(r)
		w.must(w.write(r, false))
		r.Version++
		r.Pending.Told = []string{"a@example.org"}
		w.must(w.write(r, false))
		r.Version++
		w.must(w.told(r, 240))
		w.diff("report", w.report(), backup.Reporting{Project: "p", Version: 3, Last: minute(240)})
	}},
	{"a save whose answer was lost is told the same when the client asks again", func(w *world) {
		save := func(r backup.Reporting, told bool, nonce string) bool {
			w.t.Helper()
			ok, err := w.l.saveReport(w.ctx, r, told, nonce)
			w.check(err)
			return ok
		}
		w.ended("v1")
		w.cut()
		r := w.report()
		w.must(save(pend(r), false, "mine"))
		w.must(save(pend(r), false, "mine"))
		w.mustNot(save(pend(r), false, "another's"))
		r = w.report()
		r.Last, r.Pending = minute(240), nil
		w.must(save(r, true, "mine"))
		w.ended("v2")
		w.diff("somebody cuts meanwhile", w.cut(), "v2")
		w.must(save(r, true, "mine"))
		w.diff("which is not told", w.cut(), "v2")
		w.must(w.write(pend(w.report()), false))
		w.mustNot(save(r, true, "mine")) // much too late
		w.diff("still", w.cut(), "v2")
	}},
	{"that nothing is known is not written down", func(w *world) {
		rows := func() int64 { return w.rdb.HLen(w.ctx, w.l.of("p").reports()).Val() }
		w.must(w.write(w.report(), false))
		w.must(w.write(w.report(), false))
		w.diff("rows", rows(), int64(0))
		w.must(w.write(backup.Reporting{Project: "p", Last: minute(1)}, false))
		w.diff("that something is", rows(), int64(1))
		w.must(w.write(backup.Reporting{Project: "p", Version: 1}, false))
		w.diff("that no longer", w.report(), backup.Reporting{Project: "p", Version: 2})
		w.mustNot(w.write(backup.Reporting{Project: "p"}, false))
	}},
	{"a report of before Redis was emptied is not written", func(w *world) {
		w.ended("v1")
		w.cut()
		w.must(w.write(pend(w.report()), false))
		r := w.report()
		w.empty()
		w.ended("v2")
		w.mustNot(w.told(r, 240))
		w.mustNot(w.write(r, false))
		w.diff("aside", w.cut(), "v2")
	}},
	{"what is aside is told even if what was remembered of it is lost", func(w *world) {
		w.ended("v1")
		w.cut()
		w.must(w.write(pend(w.report()), false))
		w.check(w.rdb.Del(w.ctx, w.l.of("p").reports()).Err())
		all, err := w.l.Projects(w.ctx, w.l.Shard("p"))
		w.check(err)
		w.diff("projects", all, []string{"p"})
		w.ended("v2")
		w.diff("the next", w.cut(), "v1 v2")
	}},
	{"what is aside is bounded, the newest stay", func(w *world) {
		s := w.l.of("p")
		add := func(key string, n int, row string) {
			w.t.Helper()
			_, err := w.rdb.Pipelined(w.ctx, func(p redis.Pipeliner) error {
				for range n {
					p.RPush(w.ctx, key, row)
				}
				return nil
			})
			w.check(err)
		}
		add(s.finished("p"), FinishedKept, `{"v":"old"}`)
		add(s.removed("p"), RemovedKept, `{"b":"old"}`)
		runs, removals, err := w.l.CutDigest(w.ctx, "p")
		w.check(err)
		w.diff("all", fmt.Sprint(len(runs), len(removals)), fmt.Sprint(FinishedKept, RemovedKept))
		w.ended("v1")
		w.must(w.save(w.retention("p"), 5, time.Time{}, "b1"))
		runs, removals, err = w.l.CutDigest(w.ctx, "p")
		w.check(err)
		w.diff("with more", fmt.Sprint(len(runs), len(removals)), fmt.Sprint(FinishedKept, RemovedKept))
		w.diff("the last", runs[FinishedKept-1].Volume+" "+removals[RemovedKept-1].Backup, "v1 b1")
	}},
	{"a large digest waits as it is", func(w *world) {
		r := pend(w.report())
		for i := range 500 {
			r.Pending.Digest.Runs = append(r.Pending.Digest.Runs, backup.DigestRun{Server: fmt.Sprintf("web-frontend-%04d", i), Slot: minute(i),
				Volume: strings.Repeat("ü", 100), VolumeID: fmt.Sprintf("0b3ae3c5-2b1f-4c6b-8ea4-5d7d5f1e%04d", i), Kind: backup.Incremental, Size: i})
		}
		w.must(w.write(r, false))
		r.Version = 1
		w.diff("report", w.report(), r)
	}},
	{"a project is not forgotten as long as there is something to tell of it, and then with all its keys", func(w *world) {
		projects := func() string {
			w.t.Helper()
			all, err := w.l.Projects(w.ctx, w.l.Shard("p"))
			w.check(err)
			return strings.Join(all, " ")
		}
		w.ended("v1")
		w.must(w.write(backup.Reporting{Project: "p", Last: minute(-1200)}, false))
		w.diff("a run to tell of", projects(), "p")
		w.cut()
		w.diff("put aside", projects(), "p")
		w.must(w.write(pend(w.report()), false))
		w.diff("on its way", projects(), "p")
		w.must(w.told(w.report(), 240))
		r := w.report()
		w.diff("told", projects(), "")
		w.diff("its row", w.report(), backup.Reporting{Project: "p"})
		w.mustNot(w.write(pend(r), false))
		w.diff("nothing brings it back", projects(), "")

		w.must(w.save(w.retention("p"), 5, time.Time{}, "b1"))
		w.cut()
		w.diff("a removal put aside", projects(), "p")
		w.must(w.told(w.report(), 1680))
		w.diff("told", projects(), "")
		w.must(w.write(pend(w.report()), false))
		w.diff("a digest without runs on its way", projects(), "p")
		w.must(w.told(w.report(), 3000))
		w.diff("told", projects(), "")
		one := w.report()
		w.diff("nothing", w.cut(), "")
		w.diff("put aside", projects(), "p")
		w.ended("v2")
		w.diff("nor forgotten by another", w.cut(), "v2")
		w.mustNot(w.told(one, 3000))
		w.cut()
		w.must(w.told(w.report(), 3000))
		w.diff("told", projects(), "")

		w.must(w.write(backup.Reporting{Project: "p", Last: minute(3000), Errors: []backup.DigestRun{{Volume: "v1"}}}, false))
		w.diff("errors for the operator", projects(), "p")
		r = w.report()
		r.Errors = nil
		w.must(w.told(r, 4440))
		w.diff("of the next period none", projects(), "")

		w.enroll(0, "s1")
		w.must(w.told(w.report(), 240))
		w.diff("a server", projects()+" "+at(w.report().Last), "p 240m")
		w.withdraw(1, "s1")
		w.diff("none", projects()+at(w.report().Last), "never")
	}},
	{"ids that are none are refused, and nothing is kept of them", func(w *world) {
		for _, id := range []string{"", "-", "a b", "{a}", "a\nb", strings.Repeat("a", 256)} {
			_, saved := w.l.SaveReport(w.ctx, backup.Reporting{Project: id, Last: minute(1)}, true)
			_, _, cut := w.l.CutDigest(w.ctx, id)
			if saved == nil || cut == nil {
				w.t.Errorf("project %.9q: saved: %v, cut: %v", id, saved, cut)
			}
		}
	}},
}

// saneReports looks whether what must always hold of the digests does.
func saneReports(t tester, w *world) {
	t.Helper()
	s := w.l.of("p")
	var rows, projects *redis.MapStringStringCmd
	var cut, cutRemoved *redis.IntCmd
	_, err := w.rdb.TxPipelined(w.ctx, func(p redis.Pipeliner) error {
		rows, projects = p.HGetAll(w.ctx, s.reports()), p.HGetAll(w.ctx, s.projects())
		cut, cutRemoved = p.LLen(w.ctx, s.cut("p")), p.LLen(w.ctx, s.cutRemoved("p"))
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	for project, row := range rows.Val() {
		r, err := readReporting(project, row)
		if err != nil {
			t.Error(err)
		}
		if _, ok := projects.Val()[project]; !ok {
			t.Errorf("project %s has a report and is not listed", project)
		}
		head, _, _ := strings.Cut(row, "\n")
		_, aside, _ := strings.Cut(head, " ")
		if !slices.Contains([]string{"-", "cut", "again", "pending"}, aside) || (r.Pending != nil) != (aside == "pending") {
			t.Errorf("project %s: aside is %q, a digest on its way: %v", project, aside, r.Pending != nil)
		}
		if n := cut.Val() + cutRemoved.Val(); project == "p" && aside == "-" && n > 0 {
			t.Errorf("nothing is said to be aside, and %d rows are", n)
		}
	}
	if n := cut.Val() + cutRemoved.Val(); n > 0 && rows.Val()["p"] == "" {
		t.Errorf("%d rows are aside and nothing says so", n)
	}
}

// TestEveryRunIsToldOfOnce lets several processes make digests of one project at
// once, in any order of their steps, any of which they may repeat or not live to do,
// while runs end and backups are removed. What was told, what is aside and what
// waits is at every moment all there was, each once and in order.
func TestEveryRunIsToldOfOnce(t *testing.T) {
	for _, home := range homes {
		t.Run(home.name, func(t *testing.T) {
			rdb := home.open(t)
			rapid.Check(t, func(rt *rapid.T) { digests(rt, newWorld(rt, rdb)) })
		})
	}
}

// A reporter is a process that makes digests.
type reporter struct {
	// r is what it has read, as far as it knows; nil before it has.
	r *backup.Reporting
	// has is what it has found aside; seen that it has looked.
	has  rows
	seen bool
}

// rows are the numbers of runs and of removals.
type rows struct{ Runs, Removals []int }

func (a rows) and(b rows) rows {
	return rows{slices.Concat(a.Runs, b.Runs), slices.Concat(a.Removals, b.Removals)}
}

func rowsOf(runs []backup.Run, removals []backup.Removal) (out rows) {
	for _, r := range runs {
		out.Runs = append(out.Runs, atoi(r.Why))
	}
	for _, g := range removals {
		out.Removals = append(out.Removals, atoi(g.Why))
	}
	return out
}

// digestOf is a digest that tells of these, and of nothing else.
func digestOf(has rows) (d backup.Digest) {
	for _, n := range has.Runs {
		d.Runs = append(d.Runs, backup.DigestRun{Why: strconv.Itoa(n)})
	}
	for _, n := range has.Removals {
		d.Removed = append(d.Removed, backup.Removal{Why: strconv.Itoa(n)})
	}
	return d
}

func toldBy(d backup.Digest) (out rows) {
	for _, r := range d.Runs {
		out.Runs = append(out.Runs, atoi(r.Why))
	}
	for _, g := range d.Removed {
		out.Removals = append(out.Removals, atoi(g.Why))
	}
	return out
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

func digests(rt *rapid.T, w *world) {
	w.empty()
	s := w.l.of("p")
	var all, told rows
	processes := make([]reporter, 3)
	any := func() *reporter { return &processes[rapid.IntRange(0, len(processes)-1).Draw(rt, "process")] }

	// save says whether it was written; the client may ask twice. Every attempt has a
	// nonce of its own: with another's, the ledger takes it for a repetition.
	saves := 0
	save := func(p *reporter, r backup.Reporting, isTold bool) bool {
		saves++
		nonce := strconv.Itoa(saves)
		ok, err := w.l.saveReport(w.ctx, r, isTold, nonce)
		w.check(err)
		if rapid.Bool().Draw(rt, "answer lost") {
			again, err := w.l.saveReport(w.ctx, r, isTold, nonce)
			w.check(err)
			if again != ok {
				rt.Errorf("saved: %v, and when asked again: %v", ok, again)
			}
		}
		if !ok {
			*p = reporter{} // somebody else is at it
			return false
		}
		r.Version++
		p.r, p.has, p.seen = &r, rows{}, false
		return true
	}
	cut := func() rows {
		runs, removals, err := w.l.CutDigest(w.ctx, "p")
		w.check(err)
		return rowsOf(runs, removals)
	}
	read := func() *backup.Reporting { r := w.report(); return &r }
	slot := 0
	step := map[string]func(*rapid.T){
		"a run ends": func(*rapid.T) {
			n := len(all.Runs)
			slot++
			r := run(fmt.Sprintf("v%d@%d#1", n%3, slot))
			c := fail(slot, fmt.Sprintf("v%d@%d#1", n%3, slot), true)
			c.Run.Why, c.Remove = strconv.Itoa(n), false
			if n%3 == 0 {
				w.check(w.l.Watch(w.ctx, r, minute(slot)))
				w.must(w.finishLate(c))
			} else {
				ok, err := w.l.Restore(w.ctx, r, minute(slot))
				w.check(err)
				w.must(ok)
				w.must(w.finish(c))
			}
			all.Runs = append(all.Runs, n)
		},
		"a backup is removed": func(*rapid.T) {
			n := len(all.Removals)
			ok, err := w.l.SaveRetention(w.ctx, w.retention("p"), []backup.Removal{{Backup: fmt.Sprint("b", n), Why: strconv.Itoa(n)}}, time.Time{})
			w.check(err)
			w.must(ok)
			all.Removals = append(all.Removals, n)
		},
		"a process reads": func(*rapid.T) { *any() = reporter{r: read()} },
		"a process cuts": func(*rapid.T) {
			p := any()
			if p.r == nil || p.r.Pending != nil {
				return
			}
			p.has, p.seen = cut(), true
			if rapid.Bool().Draw(rt, "twice") {
				p.has = cut()
			}
		},
		"a process makes the digest": func(*rapid.T) {
			p := any()
			if !p.seen || p.r.Pending != nil {
				return
			}
			r := *p.r
			r.Pending = &backup.Pending{Digest: digestOf(p.has)}
			save(p, r, false)
		},
		"a process tells without further ado": func(*rapid.T) {
			p := any()
			if !p.seen || p.r.Pending != nil {
				return
			}
			r, has := *p.r, p.has
			r.Last = minute(slot)
			if save(p, r, true) {
				told = told.and(has)
			}
		},
		"a process notes that somebody has it": func(*rapid.T) {
			p := any()
			if p.r == nil || p.r.Pending == nil {
				return
			}
			r, pending := *p.r, *p.r.Pending
			pending.Tries++
			r.Pending = &pending
			save(p, r, false)
		},
		"a process has told": func(*rapid.T) {
			p := any()
			if p.r == nil || p.r.Pending == nil {
				return
			}
			r := *p.r
			has := toldBy(r.Pending.Digest)
			r.Last, r.Pending = minute(slot), nil
			if save(p, r, true) {
				told = told.and(has)
			}
		},
		"a process gives the digest up": func(*rapid.T) {
			p := any()
			if p.r == nil || p.r.Pending == nil {
				return
			}
			r := *p.r
			r.Pending = nil
			save(p, r, false)
		},
		"a process dies": func(*rapid.T) { *any() = reporter{} },
		"projects are listed": func(*rapid.T) {
			known := w.report().Version > 0
			_, err := w.l.Projects(w.ctx, w.l.Shard("p"))
			w.check(err)
			if known && w.report().Version == 0 {
				// Forgotten, and its versions begin anew. Until there is a digest again a
				// period goes by; nobody takes as long over one.
				processes = make([]reporter, len(processes))
			}
		},
		"": func(*rapid.T) {
			saneReports(rt, w)
			list := func(runs, removals string) rows {
				var out rows
				for _, row := range w.rdb.LRange(w.ctx, runs, 0, -1).Val() {
					r, err := readRun(row)
					w.check(err)
					out.Runs = append(out.Runs, atoi(r.Why))
				}
				for _, row := range w.rdb.LRange(w.ctx, removals, 0, -1).Val() {
					g, err := readRemoval(row)
					w.check(err)
					out.Removals = append(out.Removals, atoi(g.Why))
				}
				return out
			}
			aside, waiting := list(s.cut("p"), s.cutRemoved("p")), list(s.finished("p"), s.removed("p"))
			if d := cmp.Diff(all, told.and(aside).and(waiting), cmpopts.EquateEmpty()); d != "" {
				rt.Fatalf("told %v, aside %v, waiting %v (-ended +held):\n%s", told, aside, waiting, d)
			}
			if r := w.report(); r.Pending != nil {
				if d := cmp.Diff(aside, toldBy(r.Pending.Digest), cmpopts.EquateEmpty()); d != "" {
					rt.Fatalf("the digest on its way (-aside +tells):\n%s", d)
				}
			}
		},
	}
	rt.Repeat(step)

	// In the end one process that nobody disturbs tells all.
	p := reporter{r: read()}
	for try := 0; !cmp.Equal(told, all, cmpopts.EquateEmpty()); try++ {
		if try == 3 {
			rt.Fatalf("told %v of %v, and no more is", told, all)
		}
		if p.r == nil {
			p.r = read()
		}
		has := rows{}
		if p.r.Pending != nil {
			has = toldBy(p.r.Pending.Digest)
		} else {
			has = cut()
		}
		r := *p.r
		r.Last, r.Pending = minute(slot), nil
		if save(&p, r, true) {
			told = told.and(has)
		}
	}
	step[""](rt)
}
