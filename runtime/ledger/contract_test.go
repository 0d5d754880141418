package ledger

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"staffeln/functions/backup"
	"staffeln/testutil/services"
)

// t0 is minute 0 of every story.
var t0 = time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)

func minute(m int) time.Time { return t0.Add(time.Duration(m) * time.Minute) }

// homes are the kinds of Redis that the ledger must work the same on.
var homes = []struct {
	name string
	open func(t *testing.T) redis.UniversalClient
}{
	{"one Redis", func(t *testing.T) redis.UniversalClient { return services.Redis(t) }},
	{"a cluster of three", func(t *testing.T) redis.UniversalClient { return services.RedisCluster(t) }},
	{"the embedded one", func(t *testing.T) redis.UniversalClient {
		e, err := Embedded()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(e.Close)
		rdb := e.Client()
		t.Cleanup(func() { rdb.Close() })
		return rdb
	}},
}

// A world is a ledger and short ways to say what happens to it. Everything is in
// project p unless said; times are minutes.
type world struct {
	t      tester
	ctx    context.Context
	l      *Ledger
	rdb    redis.UniversalClient
	ticket int64
}

// A tester is a test, or one history of a property's.
type tester interface {
	Helper()
	Error(...any)
	Errorf(string, ...any)
	Fatal(...any)
	Fatalf(string, ...any)
	Context() context.Context
}

func newWorld(t tester, rdb redis.UniversalClient) *world {
	return &world{t: t, ctx: t.Context(), l: New(rdb, Options{}), rdb: rdb}
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// now takes the ticket of a reading of the cloud.
func (w *world) now(project string) int64 {
	w.t.Helper()
	n, err := w.l.Ticket(w.ctx, project)
	w.check(err)
	return n
}

// enroll says "s1 v1 v2": server s1 has the volumes v1 and v2, read just now. The
// words of the server may follow a slash ("s1/gold v1"), and a volume that is to
// be skipped carries an x ("s1 v1x").
func (w *world) enroll(m int, what string) backup.Change {
	w.t.Helper()
	return w.enrollWith(w.now("p"), m, what)
}

func (w *world) enrollWith(ticket int64, m int, what string) backup.Change {
	w.t.Helper()
	f := strings.Fields(what)
	server, class, _ := strings.Cut(f[0], "/")
	e := backup.Enrolment{Server: server, Name: "name of " + server, Project: "p", Class: class, Words: "backup=" + class}
	var vols []backup.Protected
	for _, v := range f[1:] {
		id, skip := strings.CutSuffix(v, "x")
		p := backup.Protected{Volume: id, Project: "p", Name: "name of " + id, Size: 1, Backend: "host@" + id, Created: minute(-60)}
		if skip {
			p.Skip = "skip-volume-backup=yes"
		}
		e.Volumes = append(e.Volumes, id)
		vols = append(vols, p)
	}
	c, err := w.l.Enroll(w.ctx, ticket, e, vols, minute(m))
	w.check(err)
	return c
}

func (w *world) withdraw(m int, server string) backup.Change {
	w.t.Helper()
	c, err := w.l.Withdraw(w.ctx, w.now("p"), "p", server, minute(m))
	w.check(err)
	return c
}

// run says "v1@0#1": the first attempt at volume v1's slot of minute 0. A backup
// may follow a slash: "v1@0#1/b1".
func run(what string) backup.Run {
	var slot, attempt int
	head, id, _ := strings.Cut(what, "/")
	volume, rest, _ := strings.Cut(head, "@")
	if _, err := fmt.Sscanf(rest, "%d#%d", &slot, &attempt); err != nil {
		panic(what + ": " + err.Error())
	}
	r := backup.Run{Volume: volume, Project: "p", Slot: minute(slot), Attempt: attempt, Kind: backup.Full,
		State: backup.Requested, Backup: id, Started: minute(slot), Deadline: minute(slot + 600),
		Servers: []string{"s1"}, Size: 1, Backend: "host@" + volume}
	if id != "" {
		r.State = backup.Running
	}
	return r
}

func (w *world) begin(what string) bool {
	w.t.Helper()
	r := run(what)
	ok, err := w.l.Begin(w.ctx, r, r.Slot.Add(time.Minute))
	w.check(err)
	return ok
}

func (w *world) advance(m int, what string) bool {
	w.t.Helper()
	ok, err := w.l.Advance(w.ctx, run(what), minute(m))
	w.check(err)
	return ok
}

func (w *world) restore(m int, what string) bool {
	w.t.Helper()
	ok, err := w.l.Restore(w.ctx, run(what), minute(m))
	w.check(err)
	return ok
}

// complete closes a run as complete at m, with a stamp and a record.
func complete(m int, what string) backup.Closing {
	r := run(what)
	r.State, r.Ended = backup.Complete, minute(m)
	return backup.Closing{Run: r, Final: true, Stamp: minute(m),
		State: backup.State{LastSlot: r.Slot, LastComplete: minute(m), Due: r.Slot.Add(24 * time.Hour)},
		Record: &backup.Record{ID: r.Backup, Slot: r.Slot, Kind: r.Kind, Status: "available", Created: r.Started,
			Size: 1, Policy: "1w"}}
}

// fail closes a run as failed at m; final or to be tried again at once.
func fail(m int, what string, final bool) backup.Closing {
	r := run(what)
	r.State, r.Ended, r.Why = backup.Failed, minute(m), "it broke"
	c := backup.Closing{Run: r, Final: final, Remove: true}
	if final {
		c.State = backup.State{LastSlot: r.Slot, Due: r.Slot.Add(24 * time.Hour)}
	} else {
		c.State = backup.State{Retry: r.Slot, Why: "it broke", Due: minute(m)}
	}
	return c
}

func (w *world) finish(c backup.Closing) bool {
	w.t.Helper()
	ok, err := w.l.Finish(w.ctx, c)
	w.check(err)
	return ok
}

func (w *world) finishLate(c backup.Closing) bool {
	w.t.Helper()
	ok, err := w.l.FinishLate(w.ctx, c)
	w.check(err)
	return ok
}

func (w *world) postpone(volume string, s backup.State) bool {
	w.t.Helper()
	ok, err := w.l.Postpone(w.ctx, "p", volume, s)
	w.check(err)
	return ok
}

func (w *world) due(m int) []string {
	w.t.Helper()
	all, err := w.l.Due(w.ctx, w.l.Shard("p"), minute(m), 100)
	w.check(err)
	var ids []string
	for _, v := range all {
		ids = append(ids, v.Volume)
	}
	return ids
}

func (w *world) empty() {
	w.t.Helper()
	if c, ok := w.rdb.(*redis.ClusterClient); ok {
		w.check(c.ForEachMaster(w.ctx, func(ctx context.Context, n *redis.Client) error { return n.FlushDB(ctx).Err() }))
		return
	}
	w.check(w.rdb.FlushDB(w.ctx).Err())
}

// at says a time as its minute.
func at(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return fmt.Sprintf("%gm", t.Sub(t0).Minutes())
}

// see is all of project p's shard in words.
func (w *world) see() string {
	w.t.Helper()
	shard, far := w.l.Shard("p"), minute(1e6)
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }

	vols, err := w.l.Volumes(w.ctx, shard)
	w.check(err)
	for _, v := range vols {
		s := v.Volume
		for _, e := range v.Enrolments {
			s += " " + e.Server
		}
		if !v.State.LastSlot.IsZero() {
			s += " done " + at(v.State.LastSlot)
		}
		if !v.State.LastComplete.IsZero() {
			s += " complete " + at(v.State.LastComplete)
		}
		if !v.State.Retry.IsZero() {
			s += " retry " + at(v.State.Retry)
		}
		if v.State.Waits > 0 {
			s += fmt.Sprintf(" waited %d for %s", v.State.Waits, at(v.State.Waiting))
		}
		if !v.State.Due.IsZero() {
			s += " due " + at(v.State.Due)
		}
		say("%s", s)
	}
	runs, err := w.l.Open(w.ctx, shard, far, 1000)
	w.check(err)
	for _, r := range runs {
		say("open %s", short(r))
	}
	watched, err := w.l.Watched(w.ctx, shard, far, 1000)
	w.check(err)
	for _, r := range watched {
		say("watched %s", short(r))
	}
	stamps, err := w.l.Stamps(w.ctx, shard, far, 1000)
	w.check(err)
	for _, s := range stamps {
		say("stamp %s %s tries %d", s.Server, at(s.At), s.Tries)
	}
	discards, err := w.l.Discards(w.ctx, shard, far, 1000)
	w.check(err)
	for _, d := range discards {
		say("discard %s tries %d", d.Backup, d.Tries)
	}
	records, err := w.l.Records(w.ctx, "p")
	w.check(err)
	for _, r := range records {
		s := fmt.Sprintf("record %s of %s %s", r.ID, r.Volume, r.Status)
		if r.Parent != "" {
			s += " on " + r.Parent
		}
		say("%s", s)
	}
	finished, err := w.l.Finished(w.ctx, "p", 1000)
	w.check(err)
	for _, r := range finished {
		say("finished %s %s", short(r), r.State)
	}
	return strings.Join(out, "; ")
}

func short(r backup.Run) string {
	s := fmt.Sprintf("%s@%d#%d", r.Volume, int(r.Slot.Sub(t0).Minutes()), r.Attempt)
	if r.Backup != "" {
		s += "/" + r.Backup
	}
	return s
}

// must and mustNot keep the stories short.
func (w *world) must(ok bool) {
	w.t.Helper()
	if !ok {
		w.t.Error("answered false")
	}
}

func (w *world) mustNot(ok bool) {
	w.t.Helper()
	if ok {
		w.t.Error("answered true")
	}
}

var transitions = []struct {
	name string
	do   func(w *world)
	want string
}{
	// Enroll
	{"nothing has happened", func(w *world) {}, ""},
	{"a newly protected volume is due now, with an empty state",
		func(w *world) { w.enroll(3, "s1 v1") }, "v1 s1 due 3m"},
	{"a server without volumes protects none",
		func(w *world) { w.enroll(0, "s1") }, ""},
	{"a server enrolled again as it is changes nothing",
		func(w *world) {
			w.enroll(3, "s1 v1")
			w.postpone("v1", backup.State{Due: minute(9)})
			w.enroll(4, "s1 v1")
		}, "v1 s1 due 9m"},
	{"a new class makes its volumes due, no later than now",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.due(0)
			w.postpone("v1", backup.State{Due: minute(99)})
			w.enroll(5, "s1/gold v1")
		},
		"v1 s1 due 5m"},
	{"a new class does not put off what is due sooner",
		func(w *world) { w.enroll(0, "s1 v1"); w.enroll(5, "s1/gold v1") }, "v1 s1 due 0m"},
	{"a volume that is no longer skipped is due now",
		func(w *world) {
			w.enroll(0, "s1 v1x")
			w.due(0)
			w.postpone("v1", backup.State{Due: minute(99)})
			w.enroll(5, "s1 v1")
		},
		"v1 s1 due 5m"},
	{"a volume that is skipped from now on stays as it is",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.due(0)
			w.postpone("v1", backup.State{Due: minute(99)})
			w.enroll(5, "s1 v1x")
		},
		"v1 s1 due 99m"},
	{"another server with the same volume makes it due: the policy may be stricter",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.due(0)
			w.postpone("v1", backup.State{Due: minute(99)})
			w.enroll(5, "s2 v1")
		},
		"v1 s1 s2 due 5m"},
	{"a volume that one of two servers no longer has stays protected",
		func(w *world) { w.enroll(0, "s1 v1"); w.enroll(0, "s2 v1"); w.enroll(1, "s1") }, "v1 s2 due 0m"},
	{"a volume that its last server no longer has is unprotected",
		func(w *world) { w.enroll(0, "s1 v1 v2"); w.enroll(1, "s1 v2") }, "v2 s1 due 0m"},
	{"a change while a run is open makes the volume due when the run ends",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.due(0)
			w.begin("v1@0#1")
			w.enroll(7, "s1/gold v1")
			c := complete(9, "v1@0#1/b1")
			c.Stamp, c.Record, c.Final = time.Time{}, nil, false
			w.must(w.finish(c))
		},
		"v1 s1 done 0m complete 9m due 7m"},
	{"a change after dispatch has read the volume is not lost when dispatch puts it off",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.due(0)
			w.enroll(7, "s1/gold v1")
			w.must(w.postpone("v1", backup.State{Due: minute(99)}))
		},
		"v1 s1 due 7m"},
	{"a change before dispatch has read the volume has been met",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.enroll(7, "s1/gold v1")
			w.due(7)
			w.must(w.postpone("v1", backup.State{Due: minute(99)}))
		},
		"v1 s1 due 99m"},

	// Stale
	{"an older reading does not overwrite a newer one",
		func(w *world) {
			old := w.now("p")
			w.enroll(1, "s1 v1")
			if c := w.enrollWith(old, 2, "s1 v1 v2"); !c.Stale {
				w.t.Error("not stale")
			}
		}, "v1 s1 due 1m"},
	{"an older reading does not bring a withdrawn server back",
		func(w *world) {
			w.enroll(0, "s1 v1")
			old := w.now("p")
			w.withdraw(1, "s1")
			if c := w.enrollWith(old, 2, "s1 v1"); !c.Stale {
				w.t.Error("not stale")
			}
		}, ""},
	{"an older reading does not bring a server that never was here",
		func(w *world) {
			old := w.now("p")
			w.withdraw(1, "s1")
			w.enrollWith(old, 2, "s1 v1")
		}, ""},
	{"an older withdrawal does not remove a server enrolled since",
		func(w *world) {
			old := w.now("p")
			w.enroll(0, "s1 v1")
			c, err := w.l.Withdraw(w.ctx, old, "p", "s1", minute(1))
			w.check(err)
			if !c.Stale {
				w.t.Error("not stale")
			}
		}, "v1 s1 due 0m"},
	{"a newer reading brings a withdrawn server back",
		func(w *world) { w.enroll(0, "s1 v1"); w.withdraw(1, "s1"); w.enroll(2, "s1 v1") }, "v1 s1 due 2m"},
	{"a ticket of a Redis that was lost refuses nobody",
		func(w *world) {
			for range 9 {
				w.ticket = w.now("p")
			}
			w.empty()
			w.enrollWith(w.ticket, 0, "s1 v1")
			if c := w.enroll(1, "s1 v1 v2"); c.Stale {
				w.t.Error("stale")
			}
		}, "v1 s1 due 0m; v2 s1 due 1m"},
	{"two servers read at the same time are both stored",
		func(w *world) {
			n := w.now("p")
			w.enrollWith(n, 0, "s1 v1")
			w.enrollWith(n, 0, "s2 v2")
		}, "v1 s1 due 0m; v2 s2 due 0m"},

	// Withdraw
	{"a withdrawn server takes the protection of its volumes along",
		func(w *world) { w.enroll(0, "s1 v1 v2"); w.enroll(0, "s2 v2"); w.withdraw(1, "s1") }, "v2 s2 due 0m"},
	{"withdrawn and enrolled again, a volume starts over",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.postpone("v1", backup.State{LastSlot: minute(-5), LastComplete: minute(-5), Due: minute(99)})
			w.withdraw(1, "s1")
			w.enroll(2, "s1 v1")
		}, "v1 s1 due 2m"},
	{"a withdrawal leaves the open run and the records alone",
		func(w *world) { w.enroll(0, "s1 v1"); w.begin("v1@0#1/b1"); w.withdraw(1, "s1") },
		"open v1@0#1/b1; record b1 of v1 creating"},

	// Begin
	{"a run that begins takes the volume out of due",
		func(w *world) { w.enroll(0, "s1 v1"); w.must(w.begin("v1@0#1")) }, "v1 s1; open v1@0#1"},
	{"a volume that is not protected gets no run",
		func(w *world) { w.mustNot(w.begin("v1@0#1")) }, ""},
	{"a volume with an open run gets no second one",
		func(w *world) { w.enroll(0, "s1 v1"); w.begin("v1@0#1"); w.mustNot(w.begin("v1@5#1")) }, "v1 s1; open v1@0#1"},
	{"a slot that is over does not begin again, whatever dispatch had read",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.postpone("v1", backup.State{LastSlot: minute(0), Due: minute(99)})
			w.mustNot(w.begin("v1@0#1"))
		}, "v1 s1 done 0m due 99m"},
	{"a first attempt that failed does not begin again as the first",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.begin("v1@0#1")
			w.finish(fail(4, "v1@0#1", false))
			w.mustNot(w.begin("v1@0#1"))
			w.must(w.begin("v1@0#2"))
		}, "v1 s1 retry 0m; open v1@0#2"},

	{"a slot that a wrong clock had planned far ahead does not hold up those of the right time",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.postpone("v1", backup.State{LastSlot: minute(1e6), Due: minute(0)})
			w.must(w.begin("v1@0#1"))
		}, "v1 s1 done 1e+06m; open v1@0#1"},

	// Advance
	{"a backup is known as ours as soon as Cinder has named it",
		func(w *world) { w.enroll(0, "s1 v1"); w.begin("v1@0#1"); w.must(w.advance(2, "v1@0#1/b1")) },
		"v1 s1; open v1@0#1/b1; record b1 of v1 creating"},
	{"the run of another slot does not advance",
		func(w *world) { w.enroll(0, "s1 v1"); w.begin("v1@5#1"); w.mustNot(w.advance(2, "v1@0#1/b1")) }, "v1 s1; open v1@5#1"},
	{"another attempt does not advance",
		func(w *world) { w.enroll(0, "s1 v1"); w.begin("v1@0#2"); w.mustNot(w.advance(2, "v1@0#1/b1")) }, "v1 s1; open v1@0#2"},
	{"a run that is over does not advance",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.begin("v1@0#1")
			w.finish(fail(4, "v1@0#1", true))
			w.mustNot(w.advance(5, "v1@0#1/b1"))
		}, "v1 s1 done 0m due 1440m; finished v1@0#1 failed"},

	// Postpone
	{"a volume is put off, with its whole state",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.due(0)
			w.must(w.postpone("v1", backup.State{Waiting: minute(0), Waits: 2, Why: "quota", Due: minute(5)}))
		}, "v1 s1 waited 2 for 0m due 5m"},
	{"a volume that is put off for good is not due",
		func(w *world) { w.enroll(0, "s1 v1"); w.due(0); w.must(w.postpone("v1", backup.State{})) }, "v1 s1"},
	{"a volume with an open run is not put off",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.begin("v1@0#1")
			w.mustNot(w.postpone("v1", backup.State{Due: minute(5)}))
		}, "v1 s1; open v1@0#1"},
	{"a volume that is not protected is not put off",
		func(w *world) { w.mustNot(w.postpone("v1", backup.State{Due: minute(5)})) }, ""},

	// Finish
	{"a complete run: state, due, record, stamp and the finished list, in one step",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.begin("v1@0#1")
			w.advance(2, "v1@0#1/b1")
			w.must(w.finish(complete(4, "v1@0#1/b1")))
		},
		"v1 s1 done 0m complete 4m due 1440m; stamp s1 4m tries 0; record b1 of v1 available; finished v1@0#1/b1 complete"},
	{"a failed first attempt is not finished, and its broken backup is discarded",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.begin("v1@0#1/b1")
			w.must(w.finish(fail(4, "v1@0#1/b1", false)))
		},
		"v1 s1 retry 0m due 4m; discard b1 tries 0; record b1 of v1 creating"},
	{"a second attempt that fails is final",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.begin("v1@0#2")
			w.must(w.finish(fail(4, "v1@0#2", true)))
		},
		"v1 s1 done 0m due 1440m; finished v1@0#2 failed"},
	{"a run finishes once",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.begin("v1@0#1")
			w.must(w.finish(fail(4, "v1@0#1", true)))
			w.mustNot(w.finish(fail(4, "v1@0#1", true)))
		},
		"v1 s1 done 0m due 1440m; finished v1@0#1 failed"},
	{"the run of another attempt does not finish",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.begin("v1@0#2")
			w.mustNot(w.finish(fail(4, "v1@0#1", true)))
		}, "v1 s1; open v1@0#2"},
	{"the end of a run does not bring back a volume withdrawn meanwhile",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.begin("v1@0#1/b1")
			w.withdraw(1, "s1")
			w.must(w.finish(complete(4, "v1@0#1/b1")))
		},
		"stamp s1 4m tries 0; record b1 of v1 available; finished v1@0#1/b1 complete"},
	{"a volume withdrawn and enrolled again during the run is looked at when it ends",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.begin("v1@0#1")
			w.withdraw(1, "s1")
			w.enroll(2, "s1 v1")
			w.must(w.finish(fail(4, "v1@0#1", true)))
		},
		"v1 s1 done 0m due 2m; finished v1@0#1 failed"},
	{"a run that is given up on is watched",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.begin("v1@0#1/b1")
			c := fail(600, "v1@0#1/b1", false)
			c.Remove, c.Watch = false, minute(660)
			w.must(w.finish(c))
		},
		"v1 s1 retry 0m due 600m; watched v1@0#1/b1; record b1 of v1 creating"},
	{"a restore point never falls",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.begin("v1@0#1")
			w.check(w.l.Raise(w.ctx, "p", "v1", backup.State{LastComplete: minute(3)}))
			w.must(w.finish(fail(4, "v1@0#1", true)))
		},
		"v1 s1 done 0m complete 3m due 1440m; finished v1@0#1 failed"},

	// FinishLate
	{"a watched run that ends after all touches neither the open run nor due",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.begin("v1@0#1/b1")
			c := fail(600, "v1@0#1/b1", false)
			c.Remove, c.Watch = false, minute(660)
			w.finish(c)
			w.begin("v1@0#2")
			late := complete(700, "v1@0#1/b1")
			late.Stamp = time.Time{}
			w.must(w.finishLate(late))
			w.mustNot(w.finishLate(late))
		},
		"v1 s1 complete 700m retry 0m; open v1@0#2; record b1 of v1 available; finished v1@0#1/b1 complete"},
	{"a run that is not watched does not end late",
		func(w *world) { w.enroll(0, "s1 v1"); w.mustNot(w.finishLate(complete(4, "v1@0#1/b1"))) }, "v1 s1 due 0m"},
	{"the late end of an older run does not lower the restore point",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.due(0)
			w.postpone("v1", backup.State{LastComplete: minute(900), Due: minute(999)})
			w.check(w.l.Watch(w.ctx, run("v1@0#1/b1"), minute(5)))
			late := complete(700, "v1@0#1/b1")
			late.Stamp, late.Record = time.Time{}, nil
			w.must(w.finishLate(late))
		},
		"v1 s1 complete 900m due 999m; finished v1@0#1/b1 complete"},
	{"a backup that completes late is no longer to be discarded",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.begin("v1@0#1/b1")
			c := fail(600, "v1@0#1/b1", false)
			c.Watch = minute(660) // and to be removed
			w.finish(c)
			late := complete(700, "v1@0#1/b1")
			late.Stamp, late.Final = time.Time{}, false
			w.must(w.finishLate(late))
		},
		"v1 s1 complete 700m retry 0m due 600m; record b1 of v1 available"},

	// Track
	{"watching ends",
		func(w *world) {
			w.check(w.l.Watch(w.ctx, run("v1@0#1/b1"), minute(5)))
			w.check(w.l.Unwatch(w.ctx, run("v1@0#1/b1")))
			w.check(w.l.Unwatch(w.ctx, run("v1@0#1/b1")))
		}, ""},
	{"who ends the watching need not know the backup",
		func(w *world) {
			w.check(w.l.Watch(w.ctx, run("v1@0#1/b1"), minute(5)))
			w.check(w.l.Unwatch(w.ctx, run("v1@0#1")))
			known, err := w.l.Look(w.ctx, "p", "b1", minute(6))
			w.check(err)
			w.mustNot(known)
		}, ""},
	{"both attempts at a slot can be watched",
		func(w *world) {
			w.check(w.l.Watch(w.ctx, run("v1@0#1/b1"), minute(5)))
			w.check(w.l.Watch(w.ctx, run("v1@0#2/b2"), minute(6)))
		}, "watched v1@0#1/b1; watched v1@0#2/b2"},
	{"a stamp that was refused is tried again",
		func(w *world) {
			w.enroll(0, "s1")
			w.begin("v1@0#1")
			w.check(w.l.Watch(w.ctx, run("v1@0#1/b1"), minute(5)))
			c := complete(4, "v1@0#1/b1")
			c.Record, c.Final = nil, false
			w.finishLate(c)
			w.check(w.l.Stamped(w.ctx, backup.StampDue{Server: "s1", Project: "p", At: minute(4)}, minute(14)))
		}, "stamp s1 4m tries 1"},
	{"a discard that was refused is tried again",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.begin("v1@0#1/b1")
			w.finish(fail(4, "v1@0#1/b1", false))
			w.check(w.l.Discarded(w.ctx, backup.Discard{Backup: "b1", Project: "p"}, minute(14)))
		}, "v1 s1 retry 0m due 4m; discard b1 tries 1; record b1 of v1 creating"},
	{"a broken backup is noted once",
		func(w *world) {
			d := backup.Discard{Backup: "b1", Project: "p"}
			w.check(w.l.Discard(w.ctx, d, minute(4)))
			w.check(w.l.Discarded(w.ctx, d, minute(14)))
			w.check(w.l.Discard(w.ctx, d, minute(5)))
		}, "discard b1 tries 1"},
	{"a discard that was carried out is gone; the record waits for its own end",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.begin("v1@0#1/b1")
			w.finish(fail(4, "v1@0#1/b1", false))
			w.check(w.l.Discarded(w.ctx, backup.Discard{Backup: "b1", Project: "p"}, time.Time{}))
		}, "v1 s1 retry 0m due 4m; record b1 of v1 creating"},
	{"a parent is remembered through later records, which cannot know it",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.begin("v1@0#1/b1")
			w.check(w.l.SetParent(w.ctx, "p", "b1", "b0"))
			c := complete(4, "v1@0#1/b1")
			c.Stamp, c.Final = time.Time{}, false
			w.finish(c)
		}, "v1 s1 done 0m complete 4m due 1440m; record b1 of v1 available on b0"},
	{"the parent of a backup that is not ours is nothing to us",
		func(w *world) { w.check(w.l.SetParent(w.ctx, "p", "b1", "b0")) }, ""},

	// Reconcile
	{"a run found in Cinder is restored, of an unprotected volume too",
		func(w *world) { w.must(w.restore(1, "v1@0#1/b1")) }, "open v1@0#1/b1; record b1 of v1 creating"},
	{"a run is not restored beside an open one",
		func(w *world) { w.enroll(0, "s1 v1"); w.begin("v1@5#1"); w.mustNot(w.restore(6, "v1@0#1/b1")) }, "v1 s1; open v1@5#1"},
	{"a run that ended while reconcile was reading is not restored",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.begin("v1@0#1/b1")
			c := fail(4, "v1@0#1/b1", true)
			c.Remove = false
			w.finish(c)
			w.mustNot(w.restore(5, "v1@0#1/b1"))
		}, "v1 s1 done 0m due 1440m; record b1 of v1 creating; finished v1@0#1/b1 failed"},
	{"a watched run is not restored",
		func(w *world) {
			w.check(w.l.Watch(w.ctx, run("v1@0#1/b1"), minute(5)))
			w.mustNot(w.restore(5, "v1@0#1/b1"))
		}, "watched v1@0#1/b1"},
	{"a backup that is to be discarded is not restored",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.begin("v1@0#1/b1")
			w.finish(fail(4, "v1@0#1/b1", false))
			w.mustNot(w.restore(5, "v1@0#2/b1"))
		}, "v1 s1 retry 0m due 4m; discard b1 tries 0; record b1 of v1 creating"},
	{"a state is only ever raised",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.check(w.l.Raise(w.ctx, "p", "v1", backup.State{LastSlot: minute(5), LastComplete: minute(6)}))
			w.check(w.l.Raise(w.ctx, "p", "v1", backup.State{LastSlot: minute(4), LastComplete: minute(7)}))
			w.check(w.l.Raise(w.ctx, "p", "v1", backup.State{}))
			w.check(w.l.Raise(w.ctx, "p", "v2", backup.State{LastSlot: minute(4)}))
		}, "v1 s1 done 5m complete 7m due 0m"},
	{"due is only ever brought forward",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.due(0)
			w.postpone("v1", backup.State{Due: minute(9)})
			w.check(w.l.SetDue(w.ctx, "p", "v1", minute(7)))
			w.check(w.l.SetDue(w.ctx, "p", "v1", minute(8)))
			w.check(w.l.SetDue(w.ctx, "p", "v2", minute(8)))
		}, "v1 s1 due 7m"},
	{"a volume with an open run is not made due",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.begin("v1@0#1")
			w.check(w.l.SetDue(w.ctx, "p", "v1", minute(7)))
		}, "v1 s1; open v1@0#1"},
	{"records are put and dropped, of several volumes at once",
		func(w *world) {
			w.check(w.l.PutRecords(w.ctx, "p", []backup.Record{
				{ID: "b1", Volume: "v1", Status: "available", Created: minute(1)},
				{ID: "b2", Volume: "v2", Status: "available", Created: minute(2)},
				{ID: "b3", Volume: "v1", Status: "error", Created: minute(3)}}))
			w.check(w.l.DropRecords(w.ctx, "p", []string{"b2", "b3", "b4"}))
		}, "record b1 of v1 available"},
	{"Redis emptied while a run is open: it is restored and ends once",
		func(w *world) {
			w.enroll(0, "s1 v1")
			w.begin("v1@0#1/b1")
			w.empty()
			c := fail(9, "v1@0#1/b1", true)
			c.Remove = false
			w.mustNot(w.advance(3, "v1@0#1/b1"))
			w.mustNot(w.finish(c))
			w.enroll(5, "s1 v1")
			w.must(w.restore(6, "v1@0#1/b1"))
			w.must(w.finish(c))
			w.mustNot(w.finish(c))
		}, "v1 s1 done 0m due 1440m; record b1 of v1 creating; finished v1@0#1/b1 failed"},
}

func TestContract(t *testing.T) {
	for _, home := range homes {
		t.Run(home.name, func(t *testing.T) { contract(t, home.open) })
	}
}

// contract is what every kind of Redis must do.
func contract(t *testing.T, open func(t *testing.T) redis.UniversalClient) {
	t.Run("a Redis of this kind will do", func(t *testing.T) {
		w := newWorld(t, open(t))
		w.check(w.l.Check(w.ctx))
		w.check(w.l.Check(w.ctx))
		err := New(w.rdb, Options{Shards: 8}).Check(w.ctx)
		if err == nil || !strings.Contains(err.Error(), "shards=16") {
			t.Errorf("a ledger laid out otherwise passes: %v", err)
		}
	})
	t.Run("transitions", func(t *testing.T) {
		rdb := open(t)
		for _, tt := range transitions {
			t.Run(tt.name, func(t *testing.T) {
				w := newWorld(t, rdb)
				w.empty()
				tt.do(w)
				if got := w.see(); got != tt.want {
					t.Errorf("the ledger holds\n\t%s\nwant\n\t%s", got, tt.want)
				}
				sane(t, w)
				keysAreDocumented(t, w)
			})
		}
	})
	for _, s := range slices.Concat(stories, retentionStories, reportStories) {
		t.Run(s.name, func(t *testing.T) {
			w := newWorld(t, open(t))
			s.tell(w)
			sane(t, w)
			keysAreDocumented(t, w)
		})
	}
}

// diff reports what differs from what is wanted.
func (w *world) diff(what string, got, want any) {
	w.t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		w.t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

type story struct {
	name string
	tell func(w *world)
}

var stories = []story{
	{"a name is claimed by one, until its time is up by Redis's clock", func(w *world) {
		const name = "dispatch/07@2026-11-22T02:00:00Z"
		ok, err := w.l.Claim(w.ctx, name, time.Hour)
		w.check(err)
		w.must(ok)
		ok, err = w.l.Claim(w.ctx, name, time.Hour)
		w.check(err)
		w.mustNot(ok)
		ok, err = w.l.Claim(w.ctx, "short", 20*time.Millisecond)
		w.check(err)
		w.must(ok)
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			ok, err := w.l.Claim(w.ctx, "short", 20*time.Millisecond)
			w.check(err)
			if ok {
				return
			}
			if time.Now().After(deadline) {
				w.t.Fatal("the claim does not end")
			}
		}
	}},
	{"tickets count the readings of each shard", func(w *world) {
		all, err := w.l.TicketsAll(w.ctx)
		w.check(err)
		if len(all) != w.l.Shards() || slices.Max(all) != 1 || slices.Min(all) != 1 {
			w.t.Errorf("tickets: %v", all)
		}
		if n := w.now("p"); n != 2 {
			w.t.Errorf("the next of the shard is %d", n)
		}
	}},
	{"what an enrolment says is what comes back", func(w *world) {
		e := backup.Enrolment{Server: "s1", Name: "wéb \"1\"\n{x}", Project: "p", Class: "gold", Schedule: "daily@02:30",
			Retention: "2w3d", Problems: []string{"retention <x>: not a duration"}, Words: "backup=gold\n", Volumes: []string{"v2", "v1", "v2"}}
		vols := []backup.Protected{
			{Volume: "v1", Project: "p", Name: "boot", Size: 20, Backend: "ctl@lvm", Created: minute(-9).Add(123456 * time.Microsecond)},
			{Volume: "v2", Project: "p", Name: "ünï\ncode", Skip: "skip-volume-backup=yes", Created: minute(-8)},
		}
		c, err := w.l.Enroll(w.ctx, w.now("p"), e, vols, minute(0))
		w.check(err)
		w.diff("the first time", c, backup.Change{Protected: []string{"v2", "v1"}})
		c, err = w.l.Enroll(w.ctx, w.now("p"), e, vols, minute(1))
		w.check(err)
		w.diff("again", c, backup.Change{Same: true})

		got, stamp, ok, err := w.l.Enrolment(w.ctx, "p", "s1")
		w.check(err)
		w.must(ok && stamp.IsZero())
		w.diff("enrolment", got, e)
		all, err := w.l.Enrolments(w.ctx, w.l.Shard("p"))
		w.check(err)
		w.diff("all enrolments", all, []backup.Enrolment{e})
		due, err := w.l.Due(w.ctx, w.l.Shard("p"), minute(1), 9)
		w.check(err)
		for i := range vols {
			vols[i].Enrolments, vols[i].State.Due = []backup.Enrolment{e}, minute(0)
		}
		w.diff("due", due, vols)
		held, err := w.l.Volumes(w.ctx, w.l.Shard("p"))
		w.check(err)
		w.diff("volumes", held, vols)

		_, _, ok, err = w.l.Enrolment(w.ctx, "p", "s2")
		w.check(err)
		w.mustNot(ok)
		c, err = w.l.Withdraw(w.ctx, w.now("p"), "p", "s1", minute(2))
		w.check(err)
		w.diff("withdrawn", c, backup.Change{Unprotected: []string{"v2", "v1"}})
		c, err = w.l.Withdraw(w.ctx, w.now("p"), "p", "s1", minute(2))
		w.check(err)
		w.diff("withdrawn again", c, backup.Change{Same: true})
	}},
	{"what a state says is what comes back", func(w *world) {
		w.enroll(0, "s1 v1")
		s := backup.State{LastSlot: minute(1), LastComplete: minute(2).Add(654321 * time.Microsecond), Retry: minute(3),
			Waiting: minute(4), Waits: 5, Why: "quota exceeded:\n10 of 10 \x00 \"backups\"", Theirs: true, Due: minute(6)}
		w.due(0)
		w.must(w.postpone("v1", s))
		due, err := w.l.Due(w.ctx, w.l.Shard("p"), minute(6), 9)
		w.check(err)
		if len(due) != 1 {
			w.t.Fatalf("due: %v", due)
		}
		w.diff("state", due[0].State, s)
	}},
	{"what a run says is what comes back, open, watched and finished", func(w *world) {
		w.enroll(0, "s1 v1")
		r := backup.Run{Volume: "v1", Project: "p", Slot: minute(0), Attempt: 1, Kind: backup.Incremental, State: backup.Running,
			Backup: "b1", Started: minute(0).Add(time.Nanosecond), Deadline: minute(9), Why: "due <&> \"now\"\n", Theirs: true,
			VolumeName: "n", ServerName: "s", Servers: []string{"s1", "s2"}, Class: "gold", Size: 3, Backend: "a@b"}
		ok, err := w.l.Begin(w.ctx, r, minute(1))
		w.check(err)
		w.must(ok)
		open, err := w.l.Open(w.ctx, w.l.Shard("p"), minute(1), 9)
		w.check(err)
		w.diff("open", open, []backup.Run{r})
		runs, err := w.l.Runs(w.ctx, w.l.Shard("p"))
		w.check(err)
		w.diff("runs", runs, []backup.Run{r})
		r.State, r.Ended = backup.Failed, minute(5)
		w.must(w.finish(backup.Closing{Run: r, Final: true, Watch: minute(7)}))
		watched, err := w.l.Watched(w.ctx, w.l.Shard("p"), minute(7), 9)
		w.check(err)
		w.diff("watched", watched, []backup.Run{r})
		finished, err := w.l.Finished(w.ctx, "p", 9)
		w.check(err)
		w.diff("finished", finished, []backup.Run{r})
	}},
	{"what a record says is what comes back, with and without its project", func(w *world) {
		r := backup.Record{ID: "b1", Volume: "v1", Project: "p", Slot: minute(0), Kind: backup.Incremental, Parent: "b0",
			Status: "error_deleting", Created: minute(1).Add(123456 * time.Microsecond), Size: 7, Policy: "gold\n2w3d <last=3>"}
		w.check(w.l.PutRecords(w.ctx, "p", []backup.Record{r}))
		got, ok, err := w.l.Record(w.ctx, "p", "b1")
		w.check(err)
		w.must(ok)
		w.diff("record", got, r)
		got, ok, err = w.l.Find(w.ctx, "b1")
		w.check(err)
		w.must(ok)
		w.diff("found", got, r)
		of, err := w.l.RecordsOf(w.ctx, "p", "v1")
		w.check(err)
		w.diff("of its volume", of, []backup.Record{r})
		of, err = w.l.RecordsOf(w.ctx, "p", "v2")
		w.check(err)
		if len(of) != 0 {
			w.t.Errorf("of another volume: %v", of)
		}
		for _, id := range []string{"b2", "", "b 1", "{x}", strings.Repeat("b", 300)} {
			if _, ok, err := w.l.Record(w.ctx, "p", id); ok || err != nil {
				w.t.Errorf("record %.9q: %v, %v", id, ok, err)
			}
			if _, ok, err := w.l.Find(w.ctx, id); ok || err != nil {
				w.t.Errorf("find %.9q: %v, %v", id, ok, err)
			}
		}
		if _, ok, _ := w.l.Record(w.ctx, "q", "b1"); ok {
			w.t.Error("another project has it")
		}
	}},
	{"the backups of a transferred volume stay with the projects they are in", func(w *world) {
		q := sibling(w.l, "p")
		w.check(w.l.PutRecords(w.ctx, "p", []backup.Record{{ID: "b1", Volume: "v1"}}))
		w.check(w.l.PutRecords(w.ctx, q, []backup.Record{{ID: "b2", Volume: "v1"}, {ID: "b3", Volume: "v1"}}))
		w.check(w.l.DropRecords(w.ctx, "p", []string{"b2"})) // not theirs to drop
		for project, want := range map[string]int{"p": 1, q: 2} {
			of, err := w.l.RecordsOf(w.ctx, project, "v1")
			w.check(err)
			w.diff("backups in "+project, len(of), want)
		}
		w.check(w.l.DropRecords(w.ctx, "p", []string{"b1"}))
		projects, err := w.l.Projects(w.ctx, w.l.Shard("p"))
		w.check(err)
		w.diff("projects", projects, []string{q})
		all, err := w.l.Records(w.ctx, q)
		w.check(err)
		w.diff("still there", len(all), 2)
	}},
	{"the longest due comes first, and no more than asked for", func(w *world) {
		w.enroll(3, "s3 v3")
		w.enroll(1, "s1 v1")
		w.enroll(2, "s2 v2")
		w.enroll(9, "s9 v9")
		w.diff("due", w.due(5), []string{"v1", "v2", "v3"})
		two, err := w.l.Due(w.ctx, w.l.Shard("p"), minute(5), 2)
		w.check(err)
		if len(two) != 2 || two[0].Volume != "v1" || two[1].Volume != "v2" {
			w.t.Errorf("of two: %v", two)
		}
	}},
	{"a volume without a record is dropped from due, and does not hold up the others", func(w *world) {
		w.enroll(3, "s1 v1")
		w.check(w.rdb.ZAdd(w.ctx, w.l.of("p").due(), redis.Z{Score: 1, Member: "ghost"}, redis.Z{Score: 2, Member: "ghost2"}).Err())
		one, err := w.l.Due(w.ctx, w.l.Shard("p"), minute(5), 1)
		w.check(err)
		if len(one) != 1 || one[0].Volume != "v1" {
			w.t.Errorf("due: %v", one)
		}
		if n := w.rdb.ZCard(w.ctx, w.l.of("p").due()).Val(); n != 1 {
			w.t.Errorf("%d in due", n)
		}
	}},
	{"a volume of two servers carries both enrolments", func(w *world) {
		w.enroll(0, "s2/gold v1")
		w.enroll(0, "s1/silver v1")
		servers, err := w.l.ServersOf(w.ctx, "p", "v1")
		w.check(err)
		w.diff("servers", servers, []string{"s1", "s2"})
		none, err := w.l.ServersOf(w.ctx, "p", "v2")
		w.check(err)
		w.diff("servers of none", len(none), 0)
		due, err := w.l.Due(w.ctx, w.l.Shard("p"), minute(0), 9)
		w.check(err)
		if len(due) != 1 || len(due[0].Enrolments) != 2 || due[0].Enrolments[0].Class != "silver" || due[0].Enrolments[1].Class != "gold" {
			w.t.Errorf("due: %+v", due)
		}
	}},
	{"one volume is asked for, with its enrolments and its state", func(w *world) {
		w.enroll(0, "s2 v1")
		w.enroll(0, "s1 v1")
		w.due(0)
		s := backup.State{LastSlot: minute(-5), Why: "why", Due: minute(9)}
		w.must(w.postpone("v1", s))
		v, ok, err := w.l.Volume(w.ctx, "p", "v1")
		w.check(err)
		w.must(ok)
		if len(v.Enrolments) != 2 || v.Enrolments[0].Server != "s1" || v.Name != "name of v1" || v.Project != "p" {
			w.t.Errorf("volume: %+v", v)
		}
		w.diff("state", v.State, s)
		for _, id := range []string{"v2", "", "not an id"} {
			_, ok, err := w.l.Volume(w.ctx, "p", id)
			w.check(err)
			w.mustNot(ok)
		}
		_, ok, err = w.l.Volume(w.ctx, sibling(w.l, "p"), "v1")
		w.check(err)
		w.mustNot(ok)
	}},
	{"what was last done, and what was last counted, is remembered", func(w *world) {
		_, ok, err := w.l.Marked(w.ctx, "backups")
		w.check(err)
		w.mustNot(ok)
		w.check(w.l.Mark(w.ctx, "backups", minute(5)))
		at, ok, err := w.l.Marked(w.ctx, "backups")
		w.check(err)
		w.must(ok)
		w.diff("marked", at, minute(5))

		totals, err := w.l.Totals(w.ctx)
		w.check(err)
		w.diff("totals at first", totals, map[string]int{})
		w.check(w.l.Total(w.ctx, "overdue", 3))
		w.check(w.l.Total(w.ctx, "protected", 9))
		w.check(w.l.Total(w.ctx, "overdue", 0))
		totals, err = w.l.Totals(w.ctx)
		w.check(err)
		w.diff("totals", totals, map[string]int{"overdue": 0, "protected": 9})
	}},
	{"what a server is owed waits once, and gives way to what is newer only", func(w *world) {
		owe := func(at, due int) {
			w.check(w.l.OweStamp(w.ctx, backup.StampDue{Server: "s1", Project: "p", At: minute(at)}, minute(due)))
		}
		waits := func() []backup.StampDue {
			all, err := w.l.Stamps(w.ctx, w.l.Shard("p"), minute(60), 10)
			w.check(err)
			return all
		}
		owe(5, 6)
		w.check(w.l.Stamped(w.ctx, backup.StampDue{Server: "s1", Project: "p", At: minute(5)}, minute(20)))
		owe(5, 7)
		w.diff("owed twice, refused once", waits(), []backup.StampDue{{Server: "s1", Project: "p", At: minute(5), Tries: 1}})
		owe(4, 7)
		owe(9, 10)
		w.diff("owed a newer one", waits(), []backup.StampDue{{Server: "s1", Project: "p", At: minute(9)}})
		w.check(w.l.Stamped(w.ctx, backup.StampDue{Server: "s1", Project: "p", At: minute(9)}, time.Time{}))
		w.diff("once written", len(waits()), 0)
	}},
	{"that a reconcile was asked for is known to one that is under way", func(w *world) {
		before, err := w.l.Asked(w.ctx)
		w.check(err)
		w.check(w.l.AskReconcile(w.ctx))
		after, err := w.l.Asked(w.ctx)
		w.check(err)
		w.diff("asked", after-before, int64(1))
	}},
	{"a volume whose facts are not known is protected all the same", func(w *world) {
		e := backup.Enrolment{Server: "s1", Project: "p", Volumes: []string{"v1"}}
		_, err := w.l.Enroll(w.ctx, w.now("p"), e, nil, minute(0))
		w.check(err)
		w.diff("due", w.due(0), []string{"v1"})
		w.enroll(1, "s1 v1")
		_, err = w.l.Enroll(w.ctx, w.now("p"), e, nil, minute(2))
		w.check(err)
		vols, err := w.l.Volumes(w.ctx, w.l.Shard("p"))
		w.check(err)
		if len(vols) != 1 || vols[0].Name != "name of v1" {
			w.t.Errorf("facts known before are gone: %+v", vols)
		}
	}},
	{"the facts of a volume are not overwritten by an older reading of another server of its", func(w *world) {
		old := w.now("p")
		w.enroll(0, "s1 v1x")
		w.enrollWith(old, 1, "s2 v1")
		vols, err := w.l.Volumes(w.ctx, w.l.Shard("p"))
		w.check(err)
		if len(vols) != 1 || vols[0].Skip == "" || len(vols[0].Enrolments) != 2 {
			w.t.Errorf("volumes: %+v", vols)
		}
	}},
	{"a volume transferred to another project of the shard starts over in it", func(w *world) {
		q := sibling(w.l, "p")
		w.enroll(0, "s1 v1")
		w.postpone("v1", backup.State{LastSlot: minute(0), Due: minute(99)})
		c, err := w.l.Enroll(w.ctx, w.now(q), backup.Enrolment{Server: "s2", Project: q, Volumes: []string{"v1"}},
			[]backup.Protected{{Volume: "v1", Project: q, Created: minute(-60)}}, minute(5))
		w.check(err)
		w.diff("change", c, backup.Change{Protected: []string{"v1"}})
		w.mustNot(w.postpone("v1", backup.State{Due: minute(99)})) // p has lost it
		w.enroll(6, "s1")
		due, err := w.l.Due(w.ctx, w.l.Shard(q), minute(6), 9)
		w.check(err)
		if len(due) != 1 || due[0].Project != q || len(due[0].Enrolments) != 1 || due[0].Enrolments[0].Server != "s2" {
			w.t.Errorf("due: %+v", due)
		}
		for project, want := range map[string]int{"p": 0, q: 1} {
			_, total, err := w.l.Ranks(w.ctx, project, nil)
			w.check(err)
			w.diff("volumes that count in "+project, total, want)
		}
	}},
	{"of two that begin the same run at once, one is told to go on", func(w *world) {
		w.enroll(0, "s1 v1")
		r := run("v1@0#1")
		yes := race(w, 8, func() (bool, error) { return w.l.Begin(w.ctx, r, minute(1)) })
		if yes != 1 {
			w.t.Errorf("%d of 8 were told to go on", yes)
		}
	}},
	{"a Begin whose answer was lost is told the same when the client asks again", func(w *world) {
		w.enroll(0, "s1 v1")
		r, s := run("v1@0#1"), w.l.of("p")
		begin := func(nonce string) bool {
			ok, err := w.l.yes(w.ctx, beginScript, []string{s.volumes(), s.due(), s.runs(), s.open(), s.tracked(), s.watching(),
				s.discarding(), s.records(), s.backups(), s.holding("p"), s.projects()},
				"begin", "v1", slotOf(r), micros(minute(1)), watchName(r), toJSON(argOfRun(r, nonce)), runRow(r), toJSON(recordOfRun(r)))
			w.check(err)
			return ok
		}
		w.must(begin("mine"))
		w.must(begin("mine"))
		w.mustNot(begin("another's"))
	}},
	{"of many that finish the same run at once, one has", func(w *world) {
		w.enroll(0, "s1 v1")
		w.begin("v1@0#1/b1")
		yes := race(w, 8, func() (bool, error) { return w.l.Finish(w.ctx, complete(4, "v1@0#1/b1")) })
		runs, err := w.l.Finished(w.ctx, "p", 99)
		w.check(err)
		if yes != 1 || len(runs) != 1 {
			w.t.Errorf("%d of 8 have finished it; it is in the list %d times", yes, len(runs))
		}
	}},
	{"of many that enroll and withdraw at once, the newest reading counts", func(w *world) {
		type step struct {
			ticket int64
			on     bool
		}
		var steps []step
		for i := range 20 {
			steps = append(steps, step{w.now("p"), i%2 == 1})
		}
		rand.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
		next := make(chan step, len(steps))
		for _, s := range steps {
			next <- s
		}
		race(w, len(steps), func() (bool, error) {
			s := <-next
			if s.on {
				_, err := w.l.Enroll(w.ctx, s.ticket, backup.Enrolment{Server: "s1", Project: "p", Volumes: []string{"v1"}}, nil, minute(0))
				return true, err
			}
			_, err := w.l.Withdraw(w.ctx, s.ticket, "p", "s1", minute(0))
			return true, err
		})
		if _, _, ok, err := w.l.Enrolment(w.ctx, "p", "s1"); err != nil || !ok {
			w.t.Errorf("enrolled: %v, %v; the newest reading says it is", ok, err)
		}
		sane(w.t, w)
	}},
	{"leases: the limits of cloud, project and backend, and why", func(w *world) {
		admit := func(what, project, backend string, lim backup.Limits, m int) string {
			w.t.Helper()
			r := run(what)
			r.Project, r.Backend = project, backend
			ok, why, err := w.l.Admit(w.ctx, r, lim, minute(m), minute(m+10))
			w.check(err)
			if ok != (why == "") {
				w.t.Errorf("%v with %q", ok, why)
			}
			return why
		}
		none := backup.Limits{}
		w.diff("first", admit("v1@0#1", "p", "h@a", none, 0), "")
		w.diff("second", admit("v2@0#1", "p", "h@b", none, 0), "")
		w.diff("third", admit("v3@0#1", "q", "", none, 0), "")
		w.diff("cloud", admit("v4@0#1", "q", "", backup.Limits{Cloud: 3}, 1), "cloud limit: 3 of 3 running")
		w.diff("project", admit("v4@0#1", "p", "", backup.Limits{Cloud: 9, Project: 2}, 1), "project limit: 2 of 2 running")
		w.diff("backend", admit("v4@0#1", "q", "h@b", backup.Limits{Cloud: 9, Project: 9, Backend: 1}, 1), "backend limit: 1 of 1 running")
		w.diff("a backend that is not known has no limit", admit("v4@0#1", "q", "", backup.Limits{Backend: 1}, 1), "")
		w.diff("the same again renews, whatever the limits are by now", admit("v1@0#1", "p", "h@a", backup.Limits{Cloud: 1}, 5), "")

		f, err := w.l.InFlight(w.ctx, minute(9))
		w.check(err)
		w.diff("in flight", f, backup.InFlight{Total: 4, ByProject: map[string]int{"p": 2, "q": 2}, ByBackend: map[string]int{"h@a": 1, "h@b": 1}})
		f, err = w.l.InFlight(w.ctx, minute(12))
		w.check(err)
		w.diff("those not renewed have ended", f.Total, 1)
		w.diff("there is room again", admit("v5@0#1", "p", "", backup.Limits{Cloud: 2}, 12), "")
		w.check(w.l.Release(w.ctx, run("v5@0#1")))
		w.check(w.l.Release(w.ctx, run("v5@0#1")))
		w.diff("after a release too", admit("v6@0#1", "p", "", backup.Limits{Cloud: 2}, 12), "")

		kept := run("v7@0#1")
		w.check(w.l.KeepLeases(w.ctx, []backup.Run{kept}))
		f, err = w.l.InFlight(w.ctx, minute(12))
		w.check(err)
		w.diff("exactly those kept", f, backup.InFlight{Total: 1, ByProject: map[string]int{"p": 1}, ByBackend: map[string]int{"host@v7": 1}})
		f, err = w.l.InFlight(w.ctx, kept.Deadline)
		w.check(err)
		w.diff("until their deadline", f.Total, 0)
		w.check(w.l.KeepLeases(w.ctx, nil))
	}},
	{"leases that ended long ago are cleared away", func(w *world) {
		for i, m := range []int{0, 60, 2000} {
			_, _, err := w.l.Admit(w.ctx, run(fmt.Sprintf("v%d@0#1", i)), backup.Limits{}, minute(m), minute(m+10))
			w.check(err)
		}
		if n := w.rdb.HLen(w.ctx, w.l.keys.holders()).Val(); n != 1 {
			w.t.Errorf("%d are held", n)
		}
	}},
	{"many at once get no more leases than there are", func(w *world) {
		volume := make(chan string, 40)
		for i := range 40 {
			volume <- fmt.Sprintf("v%d@0#1", i)
		}
		yes := race(w, 40, func() (bool, error) {
			ok, _, err := w.l.Admit(w.ctx, run(<-volume), backup.Limits{Cloud: 7}, minute(0), minute(10))
			return ok, err
		})
		if yes != 7 {
			w.t.Errorf("%d of 7", yes)
		}
	}},
	{"strain halves up to four times and is forgotten after a quiet minute", func(w *world) {
		halvings := func(after time.Duration) int {
			w.t.Helper()
			f, err := w.l.InFlight(w.ctx, t0.Add(after))
			w.check(err)
			return f.Halvings
		}
		w.diff("at first", halvings(0), 0)
		for i := range 6 {
			w.check(w.l.Strain(w.ctx, t0.Add(time.Duration(i)*time.Second)))
			w.diff("then", halvings(time.Duration(i)*time.Second), min(i+1, 4))
		}
		w.diff("still", halvings(64*time.Second), 4)
		w.diff("a quiet minute", halvings(65*time.Second), 0)
		w.check(w.l.Strain(w.ctx, t0.Add(70*time.Second)))
		w.diff("from one again", halvings(70*time.Second), 1)
	}},
	{"a pause lets nothing start, until it ends or is ended", func(w *world) {
		w.check(w.l.Pause(w.ctx, minute(10), "no cinder-backup service is up"))
		f, err := w.l.InFlight(w.ctx, minute(5))
		w.check(err)
		w.diff("paused", f, backup.InFlight{ByProject: map[string]int{}, ByBackend: map[string]int{}, Paused: minute(10), PausedWhy: "no cinder-backup service is up"})
		ok, why, err := w.l.Admit(w.ctx, run("v1@0#1"), backup.Limits{}, minute(5), minute(9))
		w.check(err)
		w.mustNot(ok)
		w.diff("why", why, "paused until 2026-11-22T02:10:00Z: no cinder-backup service is up")
		ok, _, err = w.l.Admit(w.ctx, run("v1@0#1"), backup.Limits{}, minute(10), minute(12))
		w.check(err)
		w.must(ok)
		w.check(w.l.Resume(w.ctx))
		f, err = w.l.InFlight(w.ctx, minute(5))
		w.check(err)
		w.must(f.Paused.IsZero())
	}},
	{"a notification brings a look forward, and never puts it off", func(w *world) {
		look := func(id string, m int, want bool) {
			w.t.Helper()
			known, err := w.l.Look(w.ctx, "p", id, minute(m))
			w.check(err)
			if known != want {
				w.t.Errorf("%s known: %v", id, known)
			}
		}
		open := func(m int) int {
			runs, err := w.l.Open(w.ctx, w.l.Shard("p"), minute(m), 9)
			w.check(err)
			return len(runs)
		}
		w.enroll(0, "s1 v1")
		w.begin("v1@0#1")
		w.advance(30, "v1@0#1/b1")
		w.diff("too early", open(29), 0)
		look("b1", 20, true)
		w.diff("sooner", open(20), 1)
		look("b1", 40, true)
		w.diff("not later", open(20), 1)
		w.check(w.l.LookAt(w.ctx, run("v1@0#1"), minute(50)))
		w.diff("put off by track", open(49), 0)
		w.check(w.l.LookAt(w.ctx, run("v1@0#2"), minute(1)))
		w.diff("not by another attempt", open(49), 0)
		look("b2", 1, false)
		look("not an id", 1, false)

		c := fail(60, "v1@0#1/b1", false)
		c.Remove, c.Watch = false, minute(99)
		w.finish(c)
		look("b1", 70, true)
		watched, err := w.l.Watched(w.ctx, w.l.Shard("p"), minute(70), 9)
		w.check(err)
		w.diff("watched", len(watched), 1)
		w.check(w.l.Unwatch(w.ctx, run("v1@0#1/b1")))
		look("b1", 70, false)
	}},
	{"a stamp: the newest counts, and is remembered when it is written", func(w *world) {
		w.enroll(0, "s1 v1 v2")
		w.begin("v1@0#1/b1")
		w.begin("v2@0#1/b2")
		w.finish(complete(8, "v2@0#1/b2"))
		w.finish(complete(4, "v1@0#1/b1"))
		stamps, err := w.l.Stamps(w.ctx, w.l.Shard("p"), minute(99), 9)
		w.check(err)
		w.diff("stamps", stamps, []backup.StampDue{{Server: "s1", Project: "p", At: minute(8)}})

		// An older one was under way when the newer became due.
		w.check(w.l.Stamped(w.ctx, backup.StampDue{Server: "s1", Project: "p", At: minute(4)}, time.Time{}))
		w.check(w.l.Stamped(w.ctx, backup.StampDue{Server: "s1", Project: "p", At: minute(4)}, minute(50)))
		stamps, err = w.l.Stamps(w.ctx, w.l.Shard("p"), minute(9), 9)
		w.check(err)
		w.diff("the newer one stays", stamps, []backup.StampDue{{Server: "s1", Project: "p", At: minute(8)}})
		last := func() time.Time {
			_, at, _, err := w.l.Enrolment(w.ctx, "p", "s1")
			w.check(err)
			return at
		}
		w.diff("last", last(), minute(4))
		w.check(w.l.Stamped(w.ctx, stamps[0], time.Time{}))
		w.diff("last", last(), minute(8))
		w.check(w.l.Stamped(w.ctx, backup.StampDue{Server: "s1", Project: "p", At: minute(4)}, time.Time{}))
		w.diff("never falls", last(), minute(8))
		w.enroll(9, "s1/gold v1")
		w.diff("survives a change", last(), minute(8))
		stamps, err = w.l.Stamps(w.ctx, w.l.Shard("p"), minute(99), 9)
		w.check(err)
		w.diff("all done", len(stamps), 0)
	}},
	{"a stamp put off is due again then", func(w *world) {
		w.enroll(0, "s1 v1")
		w.begin("v1@0#1/b1")
		w.finish(complete(4, "v1@0#1/b1"))
		w.check(w.l.Stamped(w.ctx, backup.StampDue{Server: "s1", Project: "p", At: minute(4)}, minute(20)))
		for m, want := range map[int]int{19: 0, 20: 1} {
			stamps, err := w.l.Stamps(w.ctx, w.l.Shard("p"), minute(m), 9)
			w.check(err)
			w.diff(fmt.Sprint("at ", m), len(stamps), want)
		}
	}},
	{"ranks: the oldest volumes first, skipped ones do not count", func(w *world) {
		e := backup.Enrolment{Server: "s1", Project: "p", Volumes: []string{"v1", "v2", "v3", "v4"}}
		vols := []backup.Protected{
			{Volume: "v1", Created: minute(3)}, {Volume: "v2", Created: minute(1)},
			{Volume: "v3", Created: minute(2), Skip: "skip-volume-backup=yes"}, {Volume: "v4", Created: minute(1)}}
		_, err := w.l.Enroll(w.ctx, w.now("p"), e, vols, minute(9))
		w.check(err)
		ask := []string{"v1", "v2", "v3", "v4", "v5"}
		rank, total, err := w.l.Ranks(w.ctx, "p", ask)
		w.check(err)
		w.diff("total", total, 3)
		w.diff("ranks", rank, map[string]int{"v2": 0, "v4": 1, "v1": 2})
		vols[2].Skip = ""
		_, err = w.l.Enroll(w.ctx, w.now("p"), e, vols, minute(9))
		w.check(err)
		rank, _, err = w.l.Ranks(w.ctx, "p", ask)
		w.check(err)
		w.diff("no longer skipped", rank, map[string]int{"v2": 0, "v4": 1, "v3": 2, "v1": 3})
		w.withdraw(10, "s1")
		rank, total, err = w.l.Ranks(w.ctx, "p", ask)
		w.check(err)
		w.diff("none left", len(rank)+total, 0)
	}},
	{"an absence is counted in a row, once for a moment, and forgotten after a day", func(w *world) {
		missing := func(at time.Time) int {
			w.t.Helper()
			n, err := w.l.Missing(w.ctx, "p", "server s1", at)
			w.check(err)
			return n
		}
		w.diff("once", missing(minute(0)), 1)
		w.diff("the same look again", missing(minute(0)), 1)
		w.diff("twice", missing(minute(5)), 2)
		w.check(w.l.Present(w.ctx, "p", "server s1"))
		w.diff("there again", missing(minute(6)), 1)
		w.diff("a day later", missing(minute(6).Add(25*time.Hour)), 1)
	}},
	{"a shard is ready once it was reconciled, until Redis is emptied", func(w *world) {
		ready := func() bool {
			ok, err := w.l.Ready(w.ctx, 3)
			w.check(err)
			return ok
		}
		last := func() (time.Time, bool) {
			at, ok, err := w.l.LastReconciled(w.ctx)
			w.check(err)
			return at, ok
		}
		w.mustNot(ready())
		w.check(w.l.AskReconcile(w.ctx))
		w.mustNot(ready())
		_, ok := last()
		w.mustNot(ok)
		w.check(w.l.Reconciled(w.ctx, minute(5)))
		w.must(ready())
		at, ok := last()
		w.must(ok)
		w.diff("last", at, minute(5))
		w.check(w.l.AskReconcile(w.ctx))
		w.must(ready())
		at, ok = last()
		w.must(ok && at.IsZero())
		w.check(w.l.Reconciled(w.ctx, minute(6)))
		w.check(w.rdb.Del(w.ctx, w.l.keys.shard(7).reconciled()).Err())
		_, ok = last()
		w.mustNot(ok)
		w.empty()
		w.mustNot(ready())
	}},
	{"a reconcile clears away withdrawals and absences of more than a day", func(w *world) {
		w.withdraw(0, "s1")
		_, err := w.l.Missing(w.ctx, "p", "server s1", minute(0))
		w.check(err)
		count := func() int64 {
			return w.rdb.HLen(w.ctx, w.l.of("p").withdrawn()).Val() + w.rdb.HLen(w.ctx, w.l.of("p").missing()).Val()
		}
		w.check(w.l.Reconciled(w.ctx, minute(0).Add(23*time.Hour)))
		w.diff("kept for a day", count(), int64(2))
		w.check(w.l.Reconciled(w.ctx, minute(0).Add(25*time.Hour)))
		w.diff("then gone", count(), int64(0))
	}},
	{"a project is listed as long as there is anything of it", func(w *world) {
		projects := func() string {
			w.t.Helper()
			all, err := w.l.Projects(w.ctx, w.l.Shard("p"))
			w.check(err)
			return strings.Join(all, " ")
		}
		w.diff("at first", projects(), "")
		w.enroll(0, "s1")
		w.diff("a server without volumes", projects(), "p")
		w.enroll(0, "s1 v1")
		w.begin("v1@0#1/b1")
		w.withdraw(1, "s1")
		w.check(w.l.DropRecords(w.ctx, "p", []string{"b1"}))
		w.diff("an open run", projects(), "p")
		w.finish(fail(2, "v1@0#1/b1", false))
		w.diff("a discard", projects(), "p")
		w.check(w.l.Discarded(w.ctx, backup.Discard{Backup: "b1", Project: "p"}, time.Time{}))
		w.diff("nothing", projects(), "")
		w.check(w.l.PutRecords(w.ctx, "p", []backup.Record{{ID: "b1", Volume: "v1"}}))
		w.diff("a record", projects(), "p")
		w.check(w.l.DropRecords(w.ctx, "p", []string{"b1"}))
		w.diff("none", projects(), "")
		w.check(w.l.Watch(w.ctx, run("v1@0#1/b1"), minute(5)))
		w.diff("a watched run", projects(), "p")
		w.finishLate(backup.Closing{Run: run("v1@0#1/b1"), Final: true})
		w.diff("a finished one", projects(), "p")
	}},
	{"what there is, is counted", func(w *world) {
		w.enroll(0, "s1 v1 v2 v3 v4")
		w.begin("v1@0#1/b1")
		w.begin("v2@0#1/b2")
		w.finish(complete(4, "v2@0#1/b2"))
		w.due(0)
		w.postpone("v3", backup.State{Due: minute(100)})
		w.check(w.l.Watch(w.ctx, run("v5@0#1/b5"), minute(5)))
		count := func(m int) Count {
			c, err := w.l.Count(w.ctx, w.l.Shard("p"), minute(m))
			w.check(err)
			return c
		}
		w.diff("soon", count(5), Count{Servers: 1, Protected: 4, Due: 1, OldestDue: minute(0), Open: 1, Watched: 1, Stamps: 1, Records: 2})
		w.diff("later", count(120), Count{Servers: 1, Protected: 4, Due: 2, Overdue: 1, OldestDue: minute(0), Open: 1, Stuck: 1, Watched: 1, Stamps: 1, Records: 2})
	}},
	{"hundreds of volumes and records are listed whole", func(w *world) {
		want := 1200
		e := backup.Enrolment{Server: "s1", Project: "p"}
		var vols []backup.Protected
		var records []backup.Record
		for i := range want {
			id := fmt.Sprintf("v%04d", i)
			e.Volumes = append(e.Volumes, id)
			vols = append(vols, backup.Protected{Volume: id, Name: "n" + id, Created: minute(i)})
			records = append(records, backup.Record{ID: fmt.Sprintf("b%04d", i), Volume: id, Created: minute(i)})
		}
		_, err := w.l.Enroll(w.ctx, w.now("p"), e, vols, minute(0))
		w.check(err)
		w.check(w.l.PutRecords(w.ctx, "p", records))
		held, err := w.l.Volumes(w.ctx, w.l.Shard("p"))
		w.check(err)
		got, err := w.l.Records(w.ctx, "p")
		w.check(err)
		if len(held) != want || held[7].Name != "nv0007" || len(got) != want || got[7].ID != "b0007" {
			w.t.Errorf("%d volumes, %d records", len(held), len(got))
		}
		var ids []string
		for _, r := range got {
			ids = append(ids, r.ID)
		}
		w.check(w.l.DropRecords(w.ctx, "p", ids[1:]))
		got, err = w.l.Records(w.ctx, "p")
		w.check(err)
		w.diff("records left", len(got), 1)
	}},
	{"the finished list is bounded, the newest stay", func(w *world) {
		key := w.l.of("p").finished("p")
		_, err := w.rdb.Pipelined(w.ctx, func(p redis.Pipeliner) error {
			for range FinishedKept {
				p.RPush(w.ctx, key, `{"v":"old"}`)
			}
			return nil
		})
		w.check(err)
		w.enroll(0, "s1 v1")
		w.begin("v1@0#1")
		w.finish(fail(4, "v1@0#1", true))
		if n := w.rdb.LLen(w.ctx, key).Val(); n != FinishedKept {
			w.t.Errorf("%d are kept", n)
		}
		last, err := w.l.Finished(w.ctx, "p", 2)
		w.check(err)
		if len(last) != 2 || last[0].Volume != "old" || last[1].Volume != "v1" {
			w.t.Errorf("the last two: %v", last)
		}
	}},
	{"ids that are none are refused, and nothing is stored", func(w *world) {
		for _, id := range []string{"", "-", "a b", "a,b", "a\nb", "{a}", "ü", strings.Repeat("a", 256)} {
			if _, err := w.l.Enroll(w.ctx, 1, backup.Enrolment{Server: id, Project: "p"}, nil, minute(0)); err == nil {
				w.t.Errorf("server %q", id)
			}
			if _, err := w.l.Enroll(w.ctx, 1, backup.Enrolment{Server: "s", Project: id}, nil, minute(0)); err == nil {
				w.t.Errorf("project %q", id)
			}
			if _, err := w.l.Enroll(w.ctx, 1, backup.Enrolment{Server: "s", Project: "p", Volumes: []string{id}}, nil, minute(0)); err == nil {
				w.t.Errorf("volume %q", id)
			}
			if err := w.l.PutRecords(w.ctx, "p", []backup.Record{{ID: id, Volume: "v"}}); err == nil {
				w.t.Errorf("backup %q", id)
			}
			if _, err := w.l.Begin(w.ctx, backup.Run{Volume: id, Project: "p", Slot: t0}, t0); err == nil {
				w.t.Errorf("run of volume %q", id)
			}
		}
		w.diff("ledger", w.see(), "")
	}},
	{"the scripts are loaded again into a Redis that has lost them", func(w *world) {
		flush := func(ctx context.Context, n *redis.Client) error { return n.ScriptFlush(ctx).Err() }
		if c, ok := w.rdb.(*redis.ClusterClient); ok {
			w.check(c.ForEachMaster(w.ctx, flush))
		} else {
			w.check(w.rdb.ScriptFlush(w.ctx).Err())
		}
		w.check(w.l.PutRecords(w.ctx, "p", []backup.Record{{ID: "b1", Volume: "v1", Status: "error"}, {ID: "b2", Volume: "v2", Status: "error"}}))
		w.check(w.l.Reconciled(w.ctx, minute(0)))
		w.enroll(0, "s1 v1")
		w.diff("ledger", w.see(), "v1 s1 due 0m; record b1 of v1 error; record b2 of v2 error")
	}},
}

// sibling is another project of the same shard.
func sibling(l *Ledger, project string) string {
	for i := 0; ; i++ {
		if q := fmt.Sprint("q", i); l.Shard(q) == l.Shard(project) {
			return q
		}
	}
}

// race runs f n times at once and counts the yeses.
func race(w *world, n int, f func() (bool, error)) (yes int) {
	w.t.Helper()
	type answer struct {
		ok  bool
		err error
	}
	answers, start := make(chan answer, n), make(chan struct{})
	for range n {
		go func() {
			<-start
			ok, err := f()
			answers <- answer{ok, err}
		}()
	}
	close(start)
	for range n {
		a := <-answers
		if a.err != nil {
			w.t.Error(a.err)
		}
		if a.ok {
			yes++
		}
	}
	return yes
}
