package backup

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// What lies right at the edge of a rule, and just beyond.

func TestAgesAtTheirEdges(t *testing.T) {
	// Read without a complaint: an error quotes what it complains of.
	for _, in := range []string{
		"10h", "90h19min", "99y11mon", "100y", "1200mon", "36525d", "876600h", "52596000min", "3155760000s", "5217w",
	} {
		if a, err := ParseAge(in); err != nil || a.String() != in {
			t.Errorf("%q: %v, %v", in, a, err)
		}
	}
	for _, c := range []struct{ name, in, why string }{
		{"a character before the digits", "/h", "is not a span"},
		{"one after them", ":h", "is not a span"},
		{"a character before the letters", "3`", "is not a span"},
		{"one after them", "3{", "is not a span"},
		{"letters and then something else", "3h{4min", "is not a span"},
		{"a number alone", "14", "is not a span"},
		{"zero", "0d", "is no time at all"},
		{"a second more than a hundred years", "100y1s", "is longer than 100 years"},
		{"a hundred years and a month", "1201mon", "is longer than 100 years"},
	} {
		if a, err := ParseAge(c.in); err == nil || !strings.Contains(err.Error(), `" `+c.why) {
			t.Errorf("%s: %q: %v, %v", c.name, c.in, a, err)
		}
	}
}

func TestBlackoutsAtTheirEdges(t *testing.T) {
	for _, c := range []struct{ name, in, from, until string }{
		{"every day has a name: Wednesday", "wed 08:00-09:00", "25T08:00", "25T09:00"},
		{"Thursday", "thu 08:00-09:00", "26T08:00", "26T09:00"},
		{"Friday and Saturday", "fri,sat 08:00-09:00", "28T08:00", "28T09:00"},
		{"the end of the week comes before its beginning", "sat,sun 08:00-09:00", "22T08:00", "22T09:00"},
		{"a day in capitals", "SUN 08:00-09:00", "22T08:00", "22T09:00"},
		{"gone past midnight", "sat 23:00-01:00", "22T00:59", "22T01:00"},
		{"one that ends last is told, not one that ends together with it", "sun 07:00-09:00; sun 08:00-09:00", "22T08:00",
			"22T09:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bs, err := ParseBlackouts(c.in)
			if err != nil {
				t.Fatal(err)
			}
			end, why, in := bs.Until(on(c.from), time.UTC)
			if !in || !end.Equal(on(c.until)) {
				t.Errorf("at %s: %v until %s (%s)", c.from, in, day(end), why)
			}
			if end, _, in := bs.Until(on(c.until), time.UTC); in {
				t.Errorf("at its end %s it lasts until %s", c.until, day(end))
			}
		})
	}
	t.Run("of two that end together the first is told of", func(t *testing.T) {
		bs, err := ParseBlackouts("sun 07:00-09:00; sun 08:00-09:00")
		if err != nil {
			t.Fatal(err)
		}
		if _, why, _ := bs.Until(on("22T08:30"), time.UTC); why != "blackout sun 07:00-09:00" {
			t.Errorf("got %s", why)
		}
	})
	t.Run("a range that begins or ends with no day is none", func(t *testing.T) {
		for _, in := range []string{"-fri 08:00-09:00", "x-fri 08:00-09:00", "fri-x 08:00-09:00", "08:00 09:00",
			"sun 08:00"} {
			if bs, err := ParseBlackouts(in); err == nil {
				t.Errorf("%q is read as %s", in, bs)
			}
		}
	})
}

func TestLimitsAtTheirEdges(t *testing.T) {
	due := []Protected{{Volume: "v1", Project: "a", Backend: "ceph"}, {Volume: "v2", Project: "a", Backend: "ceph"}}
	for _, c := range []struct {
		name string
		l    Limits
		now  InFlight
		want string
	}{
		{"one less than the limit is room for one", Limits{Cloud: 4}, InFlight{Total: 3}, "+-"},
		{"a limit of none starts none, also where nothing is under way", Limits{}, InFlight{}, "--"},
		{"a backend's limit counts", Limits{Cloud: 9, Backend: 1}, InFlight{}, "+-"},
		{"no limit of a backend", Limits{Cloud: 9}, InFlight{ByBackend: map[string]int{"ceph": 7}}, "++"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			for _, p := range pick(c.l, due, c.now) {
				got += map[bool]string{true: "+", false: "-"}[p.full == ""]
			}
			same(t, got, c.want)
		})
	}
}

func TestEveryFaultHasAName(t *testing.T) {
	for f, want := range map[Fault]string{Retry: "retry", Doubt: "doubt", Operator: "operator", Owner: "owner",
		Gone: "gone", Busy: "busy",
		NeedsFull: "needs full", NoService: "no service", Dependents: "dependents"} {
		same(t, f.String(), want)
	}
}

// What a refused incremental is refused with, each of its words.
func TestAFullBackupIsNeeded(t *testing.T) {
	for _, words := range []string{
		"No backups available to do an incremental backup", "the parent backup is gone",
		"volume size increased", "Volume size increased", "hash block size", "Hash block size differs",
	} {
		same(t, Classify(400, words, true), NeedsFull)
	}
}

// Everything that a digest lists has an order of its own, down to the last word.
func TestADigestIsInOrder(t *testing.T) {
	gone := func(id string, day int) Removal { return Removal{Backup: id, Created: nov(day)} }
	in := DigestInput{
		Project: Project{ID: "p"}, From: digestFrom, To: digestTo,
		Removed: []Removal{gone("b3", 20), gone("b2", 19), gone("b1", 20)},
		Volumes: []Protected{
			{Volume: "v2", Skip: "no"}, {Volume: "v1", Skip: "yes"}, {Volume: "v1", Skip: "no"},
		},
		Servers: []Server{{ID: "s2"}, {ID: "s1"}},
		Runs: []Run{
			{Volume: "id2", VolumeName: "data", Slot: nov(21), State: Complete, Ended: nov(21)},
			{Volume: "id1", VolumeName: "data", Slot: nov(21), State: Complete, Ended: nov(21)},
		},
		Keys: Keys{OptIn: "__automated_backup"}, Classes: Classes{Default: Policy{Class: Default,
			Schedule: mustSchedule("24h")}},
		QuotaUnknown: "Cinder is down",
	}
	d, _ := Summarise(in)
	var got []string
	for _, r := range d.Removed {
		got = append(got, r.Backup)
	}
	for _, n := range append(append([]DigestNote{}, d.Skipped...), d.Outside...) {
		got = append(got, strings.TrimSpace(n.Server+" "+n.Volume+" "+n.Why))
	}
	for _, r := range d.Runs {
		got = append(got, r.VolumeID)
	}
	want := []string{"b2", "b1", "b3", "v1 no", "v1 yes", "v2 no", "s1", "s2", "id1", "id2"}
	for i := range got[6:8] {
		got[6+i], _, _ = strings.Cut(got[6+i], " ") // why a server is left out is another table's
	}
	same(t, got, want)
}

// One thing of each sort is enough to tell of.
func TestWhatIsQuiet(t *testing.T) {
	if !(Digest{}).Quiet() {
		t.Error("nothing at all is something")
	}
	note := []DigestNote{{}}
	for what, d := range map[string]Digest{
		"a run": {Runs: make([]DigestRun, 1)}, "a removal": {Removed: make([]Removal,
			1)}, "a protected volume": {Protected: 1},
		"a skipped one": {Skipped: note}, "a server without volumes": {Empty: note}, "what was refused": {Invalid: note}, "what holds removals": {Held: "x"},
	} {
		if d.Quiet() {
			t.Errorf("%s is nothing to tell of", what)
		}
	}
}

// An empty entry in a list of users or roles is nobody, and not everybody of whom
// nothing is told.
func TestNobodyIsNoUser(t *testing.T) {
	g := CheckRules{Users: []string{""}, Roles: []string{""}}
	p := CheckRequest{Rule: RuleDelete, Backup: "b1", Shown: true, Mark: "True", Roles: []string{""}}
	if r := g.Decide(p, CheckEvidence{}); r.Allow || r.Because != BecauseMarked {
		t.Errorf("nobody may delete an automated backup: %+v", r)
	}
	p.Mark = ""
	if r := g.Decide(p, CheckEvidence{Ledger: Manual}); !r.Allow || r.Because != BecauseManual {
		t.Errorf("nobody has made a backup for the service: %+v", r)
	}
}

// Whoever asks is told why in these words.
func TestRulingsInWords(t *testing.T) {
	g := CheckRules{Users: []string{"service"}, Roles: []string{"admin"}}
	const no = "the backup is an automated one: only the backup service removes or changes it, when its retention has ended"
	for _, c := range []struct {
		p    CheckRequest
		t    CheckEvidence
		want string
	}{
		{CheckRequest{Rule: "other"}, CheckEvidence{},
			"this check is for the deletion and the update of backups, and for nothing else"},
		{CheckRequest{User: "service"}, CheckEvidence{}, "the backup service asks"},
		{CheckRequest{Roles: []string{"admin"}}, CheckEvidence{}, "an operator asks"},
		{CheckRequest{Shown: true, Mark: "true"}, CheckEvidence{}, no},
		{CheckRequest{Shown: true}, CheckEvidence{Ledger: Manual}, "the backup is not an automated one"},
		{CheckRequest{}, CheckEvidence{Ledger: Manual, Cinder: Unknown}, "there is no such backup"},
		{CheckRequest{}, CheckEvidence{Ledger: NoAnswer, Cinder: NoAnswer},
			"the request does not say whether the backup is an automated one, and neither the ledger nor Cinder can be asked now"},
	} {
		same(t, g.Decide(c.p, c.t).Why, c.want)
	}
}

// The strictest policy of several goes to its own archive where it has one, whatever
// that of the others is called.
func TestTheStrictestKeepsItsOwnArchive(t *testing.T) {
	of := func(words, container string, every Span) Policy {
		p := policy(words)
		p.Archive = Archive{container, every}
		return p
	}
	classes := Classes{"hourly": of("every=1h, keep=1w", "vault", Year),
		"daily": of("every=24h, keep=2w", "attic", Month), "none": of("every=30m, keep=1d", "", "")}
	for _, c := range []struct{ classes, want string }{
		{"hourly daily", "1h 2w vault month"},
		{"daily hourly", "1h 2w vault month"},
		{"none daily hourly", "30m 2w attic month"},
		{"none hourly", "30m 1w vault year"},
		{"hourly", "1h 1w vault year"},
	} {
		var all []Enrolment
		for class := range strings.FieldsSeq(c.classes) {
			all = append(all, Enrolment{Class: class})
		}
		p := classes.Strictest(all, on("22T00:00"))
		same(t, fmt.Sprintf("%s %s %s %s", p.Schedule, p.Retention, p.Archive.Container, p.Archive.Every), c.want)
	}
}

// What is there that nobody took keeps a volume waiting, and is named.
func TestAnUnservedBackupIsNamed(t *testing.T) {
	now := on("22T00:10")
	p := policy("every=24h")
	start := WhatToStart(p, Keys{}, State{}, WhoseTurn(p, theVolume, State{}, now), Facts{
		Volume: Volume{ID: theVolume, Status: "available", Size: 1}, Unserved: "b9",
		Quota: Quota{Backups: Usage{Limit: -1}, Gigabytes: Usage{Limit: -1}},
	}, now)
	same(t, start, Start{Do: Wait, Attempt: 1, Why: "until backup b9 is removed, which no cinder-backup service took"})
}

// When a project's digest is made: at once where its period and all that belongs to
// it are over, else when patience is.
func TestWhenADigestIsDue(t *testing.T) {
	daily, now := schedule("daily@06:00", "UTC"), on("22T07:00")
	const patience = 3 * time.Hour
	end, before := on("22T06:00"), on("22T05:00")
	run := func(slot time.Time) []Run { return []Run{{Volume: "v1", Slot: slot, Attempt: 1}} }
	volume := func(due time.Time) []Protected { return []Protected{{Volume: "v1", State: State{Due: due}}} }
	going := map[string]Removal{"b1": {Backup: "b1"}}
	for _, c := range []struct {
		name     string
		r        Reporting
		runs     []Run
		volumes  []Protected
		removals Retention
		now      time.Time
		want     string
	}{
		{"nothing is left to wait for", Reporting{}, nil, nil, Retention{}, now, "true the period is over"},
		{"told already", Reporting{Last: end}, nil, nil, Retention{}, now, "false told until 2026-11-22T06:00:00Z"},
		{"told of the period before", Reporting{Last: end.AddDate(0, 0, -1)}, nil, nil, Retention{}, now,
			"true the period is over"},
		{"told until now, by another schedule", Reporting{Last: now}, nil, nil, Retention{}, now,
			"false told until 2026-11-22T07:00:00Z"},
		{"told by a clock that was ahead", Reporting{Last: now.Add(time.Second)}, nil, nil, Retention{}, now,
			"true the period is over"},
		{"a run of the period is under way", Reporting{}, run(before), nil, Retention{}, now,
			"false run v1@20261122T050000Z is under way"},
		{"one of its very end", Reporting{}, run(end), nil, Retention{}, now, "false run v1@20261122T060000Z is under way"},
		{"a run of the next", Reporting{}, run(end.Add(time.Second)), nil, Retention{}, now, "true the period is over"},
		{"a volume is due", Reporting{}, nil, volume(end), Retention{}, now, "false volume v1 is still to be backed up"},
		{"after the period", Reporting{}, nil, volume(end.Add(time.Second)), Retention{}, now, "true the period is over"},
		{"never", Reporting{}, nil, volume(time.Time{}), Retention{}, now, "true the period is over"},
		{"one that is left out", Reporting{}, nil, []Protected{{Volume: "v1", Skip: "no", State: State{Due: before}}},
			Retention{}, now, "true the period is over"},
		{"a backup is being removed", Reporting{}, nil, nil, Retention{Removals: going}, now,
			"false backup b1 is being removed"},
		{"one that is stuck", Reporting{}, nil, nil, Retention{Removals: map[string]Removal{"b1": {Backup: "b1",
			Trouble: "x"}}}, now, "true the period is over"},
		{"removals are held back", Reporting{}, nil, nil, Retention{Held: "brake", Removals: going, Due: now}, now,
			"true the period is over"},
		{"retention looks now", Reporting{}, nil, nil, Retention{Due: now}, now, "false retention is about to look"},
		{"later", Reporting{}, nil, nil, Retention{Due: now.Add(time.Second)}, now, "true the period is over"},
		{"all of it, once patience is over", Reporting{}, run(before), volume(before),
			Retention{Removals: going, Due: before}, end.Add(patience), "true overdue"},
		{"not a second before", Reporting{}, run(before), volume(before), Retention{Removals: going, Due: before},
			end.Add(patience - time.Second),
			"false run v1@20261122T050000Z is under way"},
	} {
		t.Run(c.name, func(t *testing.T) {
			due, to, why := ReportDue(daily, c.r, c.runs, c.volumes, c.removals, patience, c.now)
			same(t, fmt.Sprint(due, " ", why), c.want)
			if !to.Equal(end) {
				t.Errorf("the period ends %s", day(to))
			}
		})
	}
}

// A digest on its way holds so many rows and no more, and leaves the whole one as
// it was.
func TestATrimmedDigest(t *testing.T) {
	notes := make([]DigestNote, 201)
	d := Digest{Runs: make([]DigestRun, 501), Removed: make([]Removal, 201), Removals: 201, Complete: 501,
		Overdue: notes, Recovered: notes, Skipped: notes, Empty: notes, Invalid: notes, Outside: notes[:3]}
	got := d.Trimmed()
	same(t, []int{len(got.Runs), len(got.Removed), len(got.Overdue), len(got.Recovered), len(got.Skipped), len(got.Empty),
		len(got.Invalid), len(got.Outside)},
		[]int{500, 200, 200, 200, 200, 200, 200, 3})
	same(t, []int{got.Complete, got.Removals, len(d.Runs), len(d.Skipped)}, []int{501, 201, 501, 201})
}

func TestALettersErrorIsWhatWentWrong(t *testing.T) {
	broken := errors.New("550 no such user")
	err := fmt.Errorf("report: %w", &MailError{Err: broken})
	if !errors.Is(err, broken) || err.Error() != "report: mail: 550 no such user" {
		t.Errorf("got %v", err)
	}
}

// A schedule that cannot be read is not one that is too frequent.
func TestWhyATenantsScheduleIsRefused(t *testing.T) {
	k := Keys{MinPeriod: time.Hour}
	for words, want := range map[string]string{
		"sometimes": `"sometimes" is not a schedule`, "30m": "is more frequent than every 1h0m0s", "59m59s": "is more frequent than every 1h0m0s", "1h": "",
	} {
		err := k.schedule(words)
		if got := fmt.Sprint(err); want == "" && err != nil || !strings.Contains(got, want) {
			t.Errorf("%s: %v", words, err)
		}
	}
}

// What a digest says in words and in whose name, down to a letter.
func TestADigestInItsOwnWords(t *testing.T) {
	in := DigestInput{
		Project: Project{ID: "p"}, From: digestFrom, To: digestTo.In(zone("Asia/Tokyo")), Zone: zone("Europe/Berlin"),
		Volumes: []Protected{{Volume: "id-data"}},
		Runs:    []Run{{Volume: "id-data", Slot: nov(21), State: Complete, Theirs: true, Ended: nov(21)}},
		Failing: map[string]time.Time{"id-data": nov(20)}, QuotaUnknown: "x",
		Enrolments: []Enrolment{{Server: "s2"}, {Server: "s1"}},
		Servers:    []Server{{ID: "s9", Metadata: map[string]string{"backup": "yes"}}},
		Keys:       Keys{OptIn: "backup"}, Classes: Classes{Default: Policy{Class: Default, Schedule: mustSchedule("24h")}},
	}
	d, _ := Summarise(in)
	same(t, d.ID, "p@20261122T060000Z")
	same(t, d.Recovered, []DigestNote{{Volume: "id-data", Why: "had been failing since 2026-11-20 01:00"}})
	if d.Runs[0].Theirs {
		t.Error("a success is for the owner to act on")
	}
	same(t, d.Empty, []DigestNote{{Server: "s9", Why: "no volumes attached"}})
	in.Servers = nil
	d, _ = Summarise(in)
	same(t, d.Empty, []DigestNote{{Server: "s1", Why: "no volumes attached"}, {Server: "s2", Why: "no volumes attached"}})
}

// Small things that a digest says of what it was given.
func TestADigestOfSmallThings(t *testing.T) {
	same(t, QuotaFactOf(Usage{Limit: -5}), QuotaFact{Limit: -1, Level: Low})
	d, _ := Summarise(DigestInput{
		Project: Project{ID: "p"}, From: digestFrom, To: digestTo,
		Runs:    []Run{{Volume: "id1", Slot: nov(21), Servers: []string{"s1", "s2"}, State: Failed}},
		Servers: []Server{{ID: "s3", Metadata: map[string]string{"backup": "yes, please"}}},
		Keys:    Keys{OptIn: "backup"}, Classes: Classes{Default: Policy{Class: Default, Schedule: mustSchedule("24h")}},
	})
	same(t, d.Runs[0].Server, "s1")
	if len(d.Invalid) == 0 || len(d.Outside) != 0 {
		t.Errorf("a wish that was refused: invalid %v, outside %v", d.Invalid, d.Outside)
	}
}

func TestNamesAtTheirEdges(t *testing.T) {
	same(t, plain("a\x1f\x20\x7e\x7f\u009f\u00a0z", 64), "a\uFFFD\x20\x7e\uFFFD\uFFFD\u00a0z")
	for _, word := range []string{"{VOLUME_NAME}", "{VOLUME_ID}", "{SERVER_NAME}", "{BACKUP_DATE}"} {
		if err := CheckTemplate(strings.Repeat("x", 100) + word); err != nil {
			t.Errorf("100 characters beside %s: %v", word, err)
		}
		if err := CheckTemplate(strings.Repeat("x", 101) + word); err == nil {
			t.Errorf("101 characters beside %s pass", word)
		}
	}
}
