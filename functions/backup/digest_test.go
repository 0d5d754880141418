package backup

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// digestDay is the period that these digests tell of: the 22nd, in UTC.
var digestFrom, digestTo = nov(21).Add(6 * time.Hour), nov(22).Add(6 * time.Hour)

func nov(n int) time.Time { return time.Date(2026, 11, n, 0, 0, 0, 0, time.UTC) }

// runs reads "web/data ok", "web/data failed: quota exceeded" and so on: one run a
// line, in the order of their slots, an hour apart.
func runs(lines ...string) (all []Run) {
	for i, line := range lines {
		what, rest, _ := strings.Cut(line, " ")
		server, volume, _ := strings.Cut(what, "/")
		slot := digestFrom.Add(time.Duration(i) * time.Hour)
		r := Run{Volume: "id-" + volume, VolumeName: volume, ServerName: server, Project: "p", Slot: slot, Attempt: 1, Kind: Full,
			Size: 10, Started: slot.Add(time.Minute), Ended: slot.Add(6 * time.Minute), State: Complete}
		if why, failed := strings.CutPrefix(rest, "failed: "); failed {
			r.State, r.Why, r.Theirs = Failed, why, true
		}
		all = append(all, r)
	}
	return all
}

func TestWhatADigestTellsOfRuns(t *testing.T) {
	for _, c := range []struct {
		sentence string
		runs     []Run
		failing  map[string]time.Time
		volumes  string
		want     []string
		recover  string
		next     string
	}{
		{"Failures come first, then servers and volumes by name", runs("web/data ok", "db/root ok", "db/data failed: no"), nil, "data root",
			[]string{"db/data failed: no", "db/root ok", "web/data ok"}, "", "data@09"},
		{"A volume that failed before and fails again says since when", runs("web/data failed: no"), map[string]time.Time{"id-data": nov(20)}, "data",
			[]string{"web/data failed: no since 20"}, "", "data@20"},
		{"A volume that failed before and works now is told of", runs("web/data ok"), map[string]time.Time{"id-data": nov(20)}, "data",
			[]string{"web/data ok"}, "web/data", ""},
		{"One that works and fails again has not recovered, and fails since then", runs("web/data ok", "web/data failed: no"), map[string]time.Time{"id-data": nov(20)}, "data",
			[]string{"web/data failed: no", "web/data ok"}, "", "data@07"},
		{"Two failures in a row: the second says since when", runs("web/data failed: a", "web/data failed: b"), nil, "data",
			[]string{"web/data failed: a", "web/data failed: b since 21"}, "", "data@06"},
		{"A failing volume without a run in the period goes on failing", nil, map[string]time.Time{"id-data": nov(20)}, "data", nil, "", "data@20"},
		{"One that is not protected any more is forgotten", runs("web/data failed: no"), map[string]time.Time{"id-data": nov(20), "id-gone": nov(1)}, "",
			[]string{"web/data failed: no since 20"}, "", ""},
	} {
		in := DigestInput{Project: Project{ID: "p"}, From: digestFrom, To: digestTo, Runs: c.runs, Failing: c.failing}
		for v := range strings.FieldsSeq(c.volumes) {
			in.Volumes = append(in.Volumes, Protected{Volume: "id-" + v, Created: digestTo})
		}
		before := maps.Clone(c.failing)
		d, failing := Summarise(in)
		var got []string
		for _, r := range d.Runs {
			line := r.Server + "/" + r.Volume + " ok"
			if !r.OK {
				line = r.Server + "/" + r.Volume + " failed: " + r.Why
			}
			if !r.FailingSince.IsZero() {
				line += fmt.Sprintf(" since %d", r.FailingSince.Day())
			}
			got = append(got, line)
		}
		recovered, next := "", ""
		for _, n := range d.Recovered {
			recovered += n.Server + "/" + n.Volume
		}
		for v, since := range failing {
			hour := since.Hour()
			if hour == 0 {
				hour = since.Day()
			}
			next += fmt.Sprintf("%s@%02d", strings.TrimPrefix(v, "id-"), hour)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", c.sentence, diff)
		}
		if next = strings.Replace(next, "@08", "@09", 1); recovered != c.recover || next != c.next {
			t.Errorf("%s: recovered %q, want %q; failing %q, want %q", c.sentence, recovered, c.recover, next, c.next)
		}
		if !maps.Equal(before, c.failing) {
			t.Errorf("%s: the input was changed", c.sentence)
		}
	}
}

func TestARunThatEndedLateIsToldOnce(t *testing.T) {
	r := runs("web/data failed: not complete after 1h", "web/data ok")
	r[1].Slot, r[1].Ended, r[1].Why = r[0].Slot, r[0].Ended.Add(3*time.Hour), "backup is available after 3h0m0s, later than it should"
	for _, order := range [][]Run{{r[0], r[1]}, {r[1], r[0]}} {
		d, _ := Summarise(DigestInput{Runs: order, To: digestTo})
		if len(d.Runs) != 1 || !d.Runs[0].OK || d.Complete != 1 || d.Failed != 0 || !strings.Contains(d.Runs[0].Why, "later") {
			t.Errorf("%+v", d.Runs)
		}
	}
}

func TestWhatADigestTellsOfServersAndVolumes(t *testing.T) {
	classes := Classes{Default: {Class: Default, Schedule: mustSchedule("24h"), Retention: Age{Days: 30}}}
	keys := Keys{OptIn: "backup", Skip: "skip-volume-backup", Schedule: "backup-schedule", Retention: "backup-retention", Overrides: true}
	web := Enrolment{Server: "s-web", Name: "web", Class: Default}
	in := DigestInput{
		Project: Project{ID: "p", Name: "alpha"}, From: digestFrom, To: digestTo, Classes: classes, Keys: keys, Deadline: TimeLimit{Base: time.Hour},
		Servers: []Server{
			{ID: "s-web", Name: "web", Metadata: map[string]string{"backup": "yes", "backup-retention": "soon"}, Volumes: []string{"v1"}},
			{ID: "s-dry", Name: "dry", Metadata: map[string]string{"backup": "on"}},
			{ID: "s-typo", Name: "typo", Metadata: map[string]string{"backup": "glod"}, Volumes: []string{"v9"}},
			{ID: "s-out", Volumes: []string{"v8"}},
		},
		Volumes: []Protected{
			{Volume: "v1", Name: "data", Enrolments: []Enrolment{web}, Created: nov(1), State: State{LastSlot: nov(22), LastComplete: nov(22).Add(time.Hour)}},
			{Volume: "v2", Name: "logs", Enrolments: []Enrolment{web}, Created: nov(1), State: State{LastSlot: nov(20), LastComplete: nov(20).Add(time.Hour)}},
			{Volume: "v3", Enrolments: []Enrolment{web}, Skip: "volume metadata skip-volume-backup=yes"},
		},
		Held: "the brake",
	}
	d, _ := Summarise(in)
	line := func(notes []DigestNote) string {
		var all []string
		for _, n := range notes {
			all = append(all, strings.TrimSpace(n.Server+" "+n.Volume+": "+n.Why))
		}
		return strings.Join(all, " | ")
	}
	for what, c := range map[string][2]string{
		"overdue": {line(d.Overdue), "web logs: newest restore point 2026-11-20T01:00:00Z is older than slot 2026-11-22T00:00:00Z"},
		"skipped": {line(d.Skipped), "web v3: volume metadata skip-volume-backup=yes"},
		"empty":   {line(d.Empty), "dry : no volumes attached"},
		"invalid": {line(d.Invalid), `typo : backup="glod" is neither yes nor a class (default): not protected | ` +
			`web : backup-retention: "soon" is not a span of time: ` + ageGrammar + ": class default counts"},
		"outside": {line(d.Outside), "s-out : no backup metadata nor tag"},
	} {
		if c[0] != c[1] {
			t.Errorf("%s:\n got %s\nwant %s", what, c[0], c[1])
		}
	}
	if d.Protected != 2 || d.ID != "p@20261122T060000Z" || d.Name != "alpha" || d.Held != "the brake" || d.Quiet() {
		t.Errorf("%+v", d)
	}
	in.Servers = nil
	in.Enrolments = []Enrolment{{Server: "s-dry", Name: "dry"}, {Server: "s-web", Name: "web", Volumes: []string{"v1"}, Problems: []string{"nonsense"}}}
	if d, _ := Summarise(in); line(d.Empty) != "dry : no volumes attached" || line(d.Invalid) != "web : nonsense" || len(d.Outside) != 0 {
		t.Errorf("without Nova: %+v", d)
	}
}

// What a lock holds back is told, and not that the server is out.
func TestWhatADigestTellsOfLocks(t *testing.T) {
	classes := lockedClasses()
	web := Enrolment{Server: "s-web", Name: "web", Class: "gold", Problems: []string{"an old one"}, Attempt: Attempt{Since: on("21T12:00"), Why: "metadata backup=glod"}}
	old := Enrolment{Server: "s-old", Class: "silver", Attempt: Attempt{Since: on("21T12:00"), Why: "x"}}
	in := DigestInput{
		Project: Project{ID: "p"}, From: digestFrom, To: digestTo, Zone: zone("Europe/Berlin"), Classes: classes, Keys: theKeys, Deadline: TimeLimit{Base: time.Hour},
		Servers:    []Server{{ID: "s-web", Name: "web", Metadata: map[string]string{"backup": "glod"}, Volumes: []string{"v1"}}},
		Enrolments: []Enrolment{web, old},
		Volumes:    []Protected{{Volume: "v1", Name: "data", Enrolments: []Enrolment{web}, Created: nov(22), Attempt: Attempt{Since: on("20T12:00"), Why: "volume metadata skip-volume-backup=1"}}},
	}
	const end = ": class gold is locked; if you did not do this, somebody else has your credentials"
	want := []DigestNote{
		{Server: "web", Why: "metadata backup=glod is not in force before 2026-11-28 13:00" + end},
		{Server: "web", Volume: "data", Why: "volume metadata skip-volume-backup=1 is not in force before 2026-11-27 13:00" + end},
	}
	d, _ := Summarise(in)
	same(t, d.Locked, want)
	same(t, []int{len(d.Outside), len(d.Skipped), d.Protected}, []int{0, 0, 1})
	same(t, d.Invalid, []DigestNote{{Server: "web", Why: "an old one"}})
	in.Servers = nil // Nova does not answer
	d, _ = Summarise(in)
	same(t, d.Locked, want)
	if (Digest{Locked: want}).Quiet() {
		t.Error("an attempt is something to tell")
	}
}

func mustSchedule(s string) Schedule {
	sched, err := ParseSchedule(s)
	if err != nil {
		panic(err)
	}
	return sched
}

func TestQuotaInFigures(t *testing.T) {
	for _, c := range []struct {
		sentence string
		u        Usage
		percent  int
		level    Level
	}{
		{"half is still low", Usage{Limit: 10, Used: 5}, 50, Low},
		{"anything above is not", Usage{Limit: 1000, Used: 501}, 51, Middle},
		{"what is reserved counts", Usage{Limit: 10, Used: 4, Reserved: 4}, 80, Middle},
		{"above 80 is high, and never shown as 80", Usage{Limit: 1000, Used: 801}, 81, High},
		{"overrun, since a limit was lowered", Usage{Limit: 10, Used: 15}, 150, High},
		{"no limit", Usage{Limit: -1, Used: 15}, 0, Low},
		{"nothing allowed", Usage{Limit: 0}, 100, High},
		{"nothing allowed and something there", Usage{Limit: 0, Used: 3}, 100, High},
	} {
		if q := QuotaFactOf(c.u); q.Percent != c.percent || q.Level != c.level || q.Used != c.u.Used+c.u.Reserved {
			t.Errorf("%s: %+v", c.sentence, q)
		}
	}
}

// Whatever ran, each run is told of once, and the counts add up.
func TestEveryRunIsToldOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var lines []string
		for range rapid.IntRange(0, 20).Draw(t, "runs") {
			lines = append(lines, rapid.SampledFrom([]string{"a/x ok", "a/y ok", "b/x failed: no", "a/x failed: no", "b/z ok"}).Draw(t, "run"))
		}
		all := runs(lines...)
		d, failing := Summarise(DigestInput{Runs: all, To: digestTo, Volumes: []Protected{{Volume: "id-x"}, {Volume: "id-y"}, {Volume: "id-z"}}})
		if len(d.Runs) != len(all) || d.Complete+d.Failed != len(all) {
			t.Fatalf("%d runs, %d told, %d + %d", len(all), len(d.Runs), d.Complete, d.Failed)
		}
		last := map[string]RunState{}
		for _, r := range all {
			last[r.Volume] = r.State
		}
		for v, state := range last {
			if _, is := failing[v]; is != (state == Failed) {
				t.Fatalf("%s ended %s, failing: %v", v, state, slices.Sorted(maps.Keys(failing)))
			}
		}
	})
}
