package keep

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"staffeln/functions/backup"
)

// A smallCinder holds one volume's backups and refuses what Cinder refuses.
type smallCinder struct {
	backups []backup.CinderBackup
	parent  map[string]string
}

// create makes a backup the way Cinder does: an incremental builds on the newest
// available one, and is a full one where there is none.
func (c *smallCinder) create(b backup.CinderBackup) {
	if b.Incremental {
		newest := -1
		for i, o := range c.backups {
			if o.Status == "available" && (newest < 0 || !o.Created.Before(c.backups[newest].Created)) {
				newest = i
			}
		}
		if b.Incremental = newest >= 0; b.Incremental {
			c.parent[b.ID] = c.backups[newest].ID
			c.backups[newest].Dependents = true
		}
	}
	c.backups = append(c.backups, b)
}

func (c *smallCinder) children(id string) (out []string) {
	for _, b := range c.backups {
		if c.parent[b.ID] == id {
			out = append(out, b.ID)
		}
	}
	return out
}

func (c *smallCinder) delete(id string) error {
	i := slices.IndexFunc(c.backups, func(b backup.CinderBackup) bool { return b.ID == id })
	switch {
	case i < 0:
		return fmt.Errorf("404 backup %s could not be found", id)
	case c.backups[i].Status != "available" && c.backups[i].Status != "error":
		return fmt.Errorf("400 backup %s is %s", id, c.backups[i].Status)
	case len(c.children(id)) > 0:
		return fmt.Errorf("400 incremental backups exist for backup %s: %v", id, c.children(id))
	}
	c.backups[i].Status = "deleting"
	return nil
}

// finish ends one deletion.
func (c *smallCinder) finish(id string) {
	parent := c.parent[id]
	c.backups = slices.DeleteFunc(c.backups, func(b backup.CinderBackup) bool { return b.ID == id })
	for i, b := range c.backups {
		if b.ID == parent {
			c.backups[i].Dependents = len(c.children(parent)) > 0
		}
	}
}

func chance(t *rapid.T, percent int, of string) bool {
	return rapid.IntRange(1, 100).Draw(t, of) <= percent
}

// A wild history has everything: manual backups, failures, several policies, holds,
// metadata that somebody spoilt, backups made within one second.
func wildHistory(t *rapid.T) (*smallCinder, Holding) {
	policies := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) map[string]string {
		return map[string]string{
			backup.MetaAutomated: "True",
			backup.MetaRetention: rapid.SampledFrom([]string{"1h", "2d", "1w", "2w3d", "1mon", "6mon"}).Draw(t, "keep"),
			backup.MetaZone:      rapid.SampledFrom(someZones).Draw(t, "zone"),
			backup.MetaRules:     anyRules().Draw(t, "rules").String(),
		}
	}), 1, 3).Draw(t, "policies")
	return historyOf(t, policies)
}

// historyOf is a history of backups under these policies, one after the other.
func historyOf(t *rapid.T, policies []map[string]string) (*smallCinder, Holding) {
	c := &smallCinder{parent: map[string]string{}}
	at := anyMoment(t).UTC().Truncate(time.Second)
	step := time.Duration(rapid.SampledFrom([]int{1, 24, 24 * 7, 24 * 30}).Draw(t, "step")) * time.Hour
	n := rapid.IntRange(0, 30).Draw(t, "backups")
	for i := range n {
		if !chance(t, 10, "same second") {
			at = at.Add(time.Duration(rapid.Int64Range(1, int64(step/time.Second)).Draw(t, "after")) * time.Second)
		}
		b := backup.CinderBackup{
			ID: fmt.Sprintf("b%02d", i), Volume: theVolume, Project: "p1", Status: "available", Created: at, Updated: at,
			Incremental: chance(t, 70, "incremental"), Metadata: map[string]string{},
		}
		if !chance(t, 10, "manual") {
			b.Metadata = maps.Clone(policies[min(i*len(policies)/n, len(policies)-1)])
			b.Metadata[backup.MetaKeepUntil] = age(b.Metadata[backup.MetaRetention]).After(at.In(zone(b.Metadata[backup.MetaZone]))).UTC().Format(time.RFC3339)
			switch rapid.IntRange(0, 30).Draw(t, "special") {
			case 0:
				b.Metadata[backup.MetaHold] = "yes"
			case 1:
				delete(b.Metadata, backup.MetaRetention)
			case 2:
				b.Metadata[backup.MetaRules] = "some"
			case 3:
				b.Metadata[backup.MetaKeepUntil] = at.AddDate(0, 0, 40).Format(time.RFC3339)
			case 4, 5:
				b.Metadata[backup.MetaArchived], b.Incremental = "month", false
			case 6:
				b.Metadata[backup.MetaArchived], b.Incremental = "year", false
			}
		}
		b.Status = rapid.SampledFrom([]string{"available", "available", "available", "available", "available", "available", "available", "error", "creating"}).Draw(t, "status")
		c.create(judged(b))
	}
	for i := range c.backups {
		b := &c.backups[i]
		if b.Status == "available" && chance(t, 5, "later") {
			b.Status = "restoring"
			if b.Ours() && len(c.children(b.ID)) == 0 {
				b.Status = rapid.SampledFrom([]string{"restoring", "deleting", "error_deleting", "frozen"}).Draw(t, "became")
			}
		}
	}
	h := Holding{Project: "p1", Volume: theVolume, Backups: slices.Clone(c.backups), Parents: map[string]string{}}
	for child, parent := range c.parent {
		if chance(t, 30, "told") {
			h.Parents[child] = parent
		}
	}
	if chance(t, 60, "protected") {
		p := somePolicy(t)
		p.Retention, p.Rules = age(rapid.SampledFrom([]string{"1h", "3d", "2w", "2mon"}).Draw(t, "current")), anyRules().Draw(t, "current rules")
		if chance(t, 50, "the same rules") {
			same := rapid.SampledFrom(policies).Draw(t, "as")
			p.Rules, p.Schedule = mustRules(same[backup.MetaRules]), p.Schedule.In(zone(same[backup.MetaZone]))
		}
		h.Policy = &p
	}
	if chance(t, 20, "gone") {
		h.Gone = at.Add(time.Duration(rapid.IntRange(-1000, 1000).Draw(t, "since")) * time.Hour)
		if chance(t, 50, "orphan") {
			h.Orphan = age(rapid.SampledFrom([]string{"1d", "2w", "1y"}).Draw(t, "orphan"))
		}
	}
	return c, h
}

// aMoment draws a now around a history: mostly near its end, sometimes years away,
// often when something is just over.
func aMoment(t *rapid.T, h Holding, label string) time.Time {
	at := on(today)
	if n := len(h.Backups); n > 0 {
		at = h.Backups[n-1].Created
		b := h.Backups[rapid.IntRange(0, n-1).Draw(t, label+" by")]
		if f, unread := frozenIn(b, map[string]*time.Location{}); unread == "" && b.Ours() && chance(t, 50, label+" at an end") {
			rule := rapid.IntRange(ruleHourly, ruleYearly).Draw(t, label+" of rule")
			end := time.Time{}
			if n := of(f.rules, rule); n > 0 {
				end = endOf(rule, n, b.Created.In(f.zone))
			}
			if end.IsZero() || chance(t, 30, label+" of its time") {
				end = f.end()
			}
			return end.Add(time.Duration(rapid.IntRange(-1, 1).Draw(t, label+" off")))
		}
	}
	far := rapid.SampledFrom([]int64{3600, 3600 * 24 * 20, 3600 * 24 * 400, 3600 * 24 * 365 * 20}).Draw(t, label+" far")
	return at.Add(time.Duration(rapid.Int64Range(-far/4, far).Draw(t, label)) * time.Second)
}

func byID(fates []Fate) map[string]Fate {
	m := map[string]Fate{}
	for _, f := range fates {
		m[f.Backup.ID] = f
	}
	return m
}

// Every backup has one fate, with a reason, and the order that a list comes in does
// not matter, nor that one is in it twice.
func TestRetainDecidesAboutEach(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, h := wildHistory(t)
		now := aMoment(t, h, "now")
		fates := Decide(h, now)
		if len(fates) != len(h.Backups) || len(byID(fates)) != len(fates) {
			t.Fatalf("%d backups, %d fates", len(h.Backups), len(fates))
		}
		for i, f := range fates {
			if i > 0 && f.Backup.Created.Before(fates[i-1].Backup.Created) {
				t.Fatalf("not the oldest first")
			}
			if f.Why == "" || !f.Until.IsZero() && !f.Until.After(now) || f.Chain == "" {
				t.Fatalf("at %s: %+v", now, f)
			}
		}
		want := tellFates(fates)
		h.Backups = append(rapid.Permutation(h.Backups).Draw(t, "order"), h.Backups[:rapid.IntRange(0, len(h.Backups)).Draw(t, "twice")]...)
		if got := tellFates(Decide(h, now)); got != want {
			t.Fatalf("in another order\n%s\nwas\n%s", got, want)
		}
	})
}

// What must stay, whatever else there is.
func TestRetainKeepsWhatMustStay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, h := wildHistory(t)
		now := aMoment(t, h, "now")
		fates := Decide(h, now)
		kept := byID(fates)
		newest := ""
		for _, f := range fates {
			b := f.Backup
			if b.Ours() && (b.Status == "available" || b.Status == "restoring") {
				newest = b.ID
			}
			end, err := time.Parse(time.RFC3339, b.Metadata[backup.MetaKeepUntil])
			young := err == nil && now.Before(end) && b.Status == "available"
			_, bad := backup.ParseRules(b.Metadata[backup.MetaRules])
			unread := b.Status == "available" && (b.Metadata[backup.MetaRetention] == "" || bad != nil)
			if !f.Keep && b.Status != "deleting" && (!b.Ours() || b.Metadata[backup.MetaHold] != "" || b.Status == "creating" || b.Status == "restoring" || b.Status == "frozen" || young || unread) {
				t.Fatalf("at %s: %+v goes", now, f)
			}
			// Its real parent, whatever the order of the backups looks like.
			if parent, ok := kept[c.parent[b.ID]]; f.Keep && ok && !parent.Keep && parent.Backup.Status != "deleting" {
				t.Fatalf("%s stays, its parent %s goes: %s", b.ID, parent.Backup.ID, parent.Why)
			}
		}
		if newest != "" && h.Gone.IsZero() && !kept[newest].Keep {
			t.Fatalf("the newest, %s, goes: %s", newest, kept[newest].Why)
		}
		if newest != "" && !kept[newest].Newest {
			t.Fatalf("%s is not the newest", newest)
		}
	})
}

// sooner compares two times of which the zero one never comes.
func sooner(a, b time.Time) bool { return !a.IsZero() && (b.IsZero() || a.Before(b)) }

// The removals, carried out step by step against something that refuses like Cinder,
// with any of them slow, until nothing is left to do: no parent is asked for before
// its child, no other decision changes on the way (though it may hold for longer, with
// those gone that time would have brought back), and what is left is what was to stay. So it does not matter where a pass is broken off, and a second one changes
// nothing.
func TestRetainToTheEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, h := wildHistory(t)
		now := aMoment(t, h, "now")
		first := byID(Decide(h, now))
		for round := 0; ; round++ {
			if round > 200 {
				t.Fatalf("there is no end to it")
			}
			h.Backups = slices.Clone(c.backups)
			fates := Decide(h, now)
			for _, f := range fates {
				was := first[f.Backup.ID]
				if f.Keep != was.Keep || f.Keep && (f.Why != was.Why || sooner(f.Until, was.Until)) || f.Hostage != was.Hostage || h.Gone.IsZero() && f.Newest != was.Newest {
					t.Fatalf("after %d rounds %s\nwas %s", round, tellFates([]Fate{f}), tellFates([]Fate{was}))
				}
			}
			step := NextStep(fates)
			told := map[string]bool{}
			for _, f := range append(slices.Clone(step.Delete), step.Wait...) {
				if f.Keep || told[f.Backup.ID] {
					t.Fatalf("%s stays, or comes twice", f.Backup.ID)
				}
				told[f.Backup.ID] = true
			}
			for _, f := range fates {
				_, stuck := step.Stuck[f.Backup.ID]
				if !f.Keep && stuck == told[f.Backup.ID] || f.Keep && stuck != f.Hostage {
					t.Fatalf("%s: stuck %v, told %v", tellFates([]Fate{f}), stuck, told[f.Backup.ID])
				}
			}
			if len(step.Delete) == 0 && !slices.ContainsFunc(c.backups, func(b backup.CinderBackup) bool { return b.Status == "deleting" }) {
				if len(step.Wait) > 0 {
					t.Fatalf("waits for nothing: %s", ids(step.Wait))
				}
				break
			}
			for _, f := range step.Delete {
				if chance(t, 80, "asked") {
					if err := c.delete(f.Backup.ID); err != nil {
						t.Fatal(err)
					}
				}
			}
			for _, b := range slices.Clone(c.backups) {
				if b.Status == "deleting" && chance(t, 70, "done") {
					c.finish(b.ID)
				}
			}
		}
		stuck := NextStep(Decide(h, now)).Stuck
		for id, f := range first {
			left := slices.ContainsFunc(c.backups, func(b backup.CinderBackup) bool { return b.ID == id })
			if _, isStuck := stuck[id]; left != (f.Keep || isStuck) {
				t.Fatalf("%s: there %v, stuck %v", tellFates([]Fate{f}), left, isStuck)
			}
		}
	})
}

// The same within one pass, where Cinder is quick and its list is read only once.
func TestRetainInOnePass(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, h := wildHistory(t)
		now := aMoment(t, h, "now")
		fates := Decide(h, now)
		for {
			step := NextStep(fates)
			if len(step.Delete) == 0 {
				break
			}
			for _, f := range step.Delete {
				if err := c.delete(f.Backup.ID); err != nil {
					t.Fatal(err)
				}
				c.finish(f.Backup.ID)
				fates = slices.DeleteFunc(fates, func(o Fate) bool { return o.Backup.ID == f.Backup.ID })
			}
		}
	})
}

func lessRules(t *rapid.T, r backup.Rules) backup.Rules {
	for i, n := range []*int{&r.Last, &r.Hourly, &r.Daily, &r.Weekly, &r.Monthly, &r.Yearly} {
		if *n != 0 && chance(t, 50, "less") {
			most := *n
			if most < 0 {
				most = 6
			}
			*n = rapid.IntRange(0, most).Draw(t, "less "+ruleNames[i])
		}
	}
	return r
}

// The current policy only ever adds: shortened, or taken away altogether, it takes
// nothing from what is frozen; lengthened, it keeps all that it kept. There are two exceptions, which
// are other tables' matter: backups that were made under the rules of today are judged together with
// the others, and what else stays takes the place of a backup that last=n keeps.
func TestRetainWithAShorterPolicy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, h := wildHistory(t)
		now := aMoment(t, h, "now")
		if h.Policy == nil {
			p := somePolicy(t)
			p.Rules = anyRules().Draw(t, "new rules")
			h.Policy = &p
		}
		shorter := *h.Policy
		shorter.Rules = lessRules(t, shorter.Rules)
		for _, b := range h.Backups {
			rules, err := backup.ParseRules(b.Metadata[backup.MetaRules])
			if rules.Last = 0; err == nil && b.Ours() {
				b.Metadata[backup.MetaRules] = rules.String()
			}
			if rules == shorter.Rules || rules == h.Policy.Rules {
				return
			}
		}
		long := byID(Decide(h, now))
		if a := age(rapid.SampledFrom([]string{"1h", "3d", "2w"}).Draw(t, "shorter")); a.Compare(shorter.Retention) < 0 {
			shorter.Retention = a
		}
		h.Policy = &shorter
		short := byID(Decide(h, now))
		h.Policy = nil
		none := byID(Decide(h, now))
		for id := range long {
			if none[id].Keep && !short[id].Keep || short[id].Keep && !long[id].Keep {
				t.Fatalf("none  %s\nshort %s\nlong  %s", tellFates([]Fate{none[id]}), tellFates([]Fate{short[id]}), tellFates([]Fate{long[id]}))
			}
		}
	})
}

// With another policy, or none, or the volume deleted, each rule keeps what it kept for its own span
// from when that was made; last=n, which has none, for as long as the volume exists.
func TestRetainFrozenRulesForTheirSpan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		frozen := map[string]string{
			backup.MetaAutomated: "True", backup.MetaZone: rapid.SampledFrom(someZones).Draw(t, "zone"), backup.MetaRules: anyRules().Draw(t, "rules").String(),
			backup.MetaRetention: rapid.SampledFrom([]string{"1h", "2d", "1mon"}).Draw(t, "keep"),
		}
		_, h := historyOf(t, []map[string]string{frozen})
		now := aMoment(t, h, "now")
		h.Gone = time.Time{}
		h.Policy = current("keep=1s, zone=" + frozen[backup.MetaZone] + ", rules=" + frozen[backup.MetaRules])
		before := byID(Decide(h, now))
		switch rapid.IntRange(0, 2).Draw(t, "what changes") {
		case 0:
			h.Policy = nil
		case 1:
			h.Gone = now.Add(-time.Hour)
		case 2:
			h.Policy = current("keep=1s, zone=Pacific/Auckland, rules=last=1")
		}
		rules := mustRules(frozen[backup.MetaRules])
		for _, f := range Decide(h, now) {
			was := before[f.Backup.ID]
			if !f.Backup.Ours() {
				continue
			}
			for rule, name := range ruleNames {
				n := of(rules, rule)
				kept := slices.ContainsFunc(strings.Split(was.Why, ", "), func(why string) bool {
					return strings.HasPrefix(why, name+" ") || why == "oldest "+name
				})
				end := endOf(rule, n, f.Backup.Created.In(zone(frozen[backup.MetaZone])))
				ends := rule != ruleLast && !end.IsZero() && !now.Before(end) || rule == ruleLast && !h.Gone.IsZero()
				if kept && !ends && !f.Keep {
					t.Fatalf("at %s %s\nwas %s", now, tellFates([]Fate{f}), tellFates([]Fate{was}))
				}
				if still := strings.Contains(f.Why, name+" ") && !strings.Contains(f.Why, "by the current policy"); ends && f.Keep && still {
					t.Fatalf("at %s, %s after its span: %s", now, now.Sub(end), tellFates([]Fate{f}))
				}
			}
		}
	})
}

// Until is honest: as long as nothing is made or removed, a decision stays the same
// before it, and for ever where there is none.
func TestRetainUntil(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, h := wildHistory(t)
		now := aMoment(t, h, "now")
		later := now.Add(time.Duration(rapid.Int64Range(0, 3600*24*rapid.SampledFrom([]int64{1, 20, 400, 20000}).Draw(t, "far")).Draw(t, "later")) * time.Second)
		fates := Decide(h, now)
		for _, f := range fates { // the moment before one of them changes is the most telling
			if !f.Until.IsZero() && chance(t, 20, "just before") {
				later = f.Until.Add(-1)
			}
		}
		then := byID(Decide(h, later))
		for _, f := range fates {
			if g := then[f.Backup.ID]; (f.Until.IsZero() || later.Before(f.Until)) && g.Keep != f.Keep {
				t.Fatalf("at %s %s\nat %s %s", now, tellFates([]Fate{f}), later, tellFates([]Fate{g}))
			}
		}
	})
}

// A clock that is ahead removes what is kept by age or by rules that are not the
// current ones, and nothing else: current rules, holds, the newest of a living volume
// and all that those build on do not look at it. One that is behind removes nothing
// that a right one would keep. With backups of one
// policy, that is: with several, what counts in another's rules for its age alone
// may be other backups then.
func TestRetainWithAClockThatJumps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policies := []map[string]string{{
			backup.MetaAutomated: "True", backup.MetaZone: rapid.SampledFrom(someZones).Draw(t, "zone"), backup.MetaRules: anyRules().Draw(t, "rules").String(),
			backup.MetaRetention: rapid.SampledFrom([]string{"2d", "1w", "1mon"}).Draw(t, "keep"),
		}}
		_, h := historyOf(t, policies)
		now, other := aMoment(t, h, "now"), aMoment(t, h, "other")
		if other.Before(now) {
			now, other = other, now
		}
		living := h.ruledBy(frozen{rules: mustRules(policies[0][backup.MetaRules]), zone: zone(policies[0][backup.MetaZone])})
		early, late := byID(Decide(h, now)), byID(Decide(h, other))
		for id, f := range late {
			// In the place of one whose span is over by then there may be another.
			lapsed := !living && !early[id].Until.IsZero() && !other.Before(early[id].Until)
			if f.Keep && !early[id].Keep && !lapsed {
				t.Fatalf("at %s %s\nat %s %s", now, tellFates([]Fate{early[id]}), other, tellFates([]Fate{f}))
			}
			if g := early[id]; g.Keep && !f.Keep && g.Until.IsZero() {
				t.Fatalf("at %s %s\nat %s %s", now, tellFates([]Fate{g}), other, tellFates([]Fate{f}))
			}
		}
	})
}

// Of several policies, too, what goes at one time does not depend on what time it
// was before: a clock that jumped and came back leaves no trace.
func TestRetainRemembersNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, h := wildHistory(t)
		now := aMoment(t, h, "now")
		want := tellFates(Decide(h, now))
		Decide(h, aMoment(t, h, "jump"))
		if got := tellFates(Decide(h, now)); got != want {
			t.Fatalf("%s\nwas\n%s", got, want)
		}
	})
}

func FuzzRetainMetadata(f *testing.F) {
	f.Add("True", "2w", "UTC", "2026-12-06T02:00:00Z", "daily=7", "month", "no", "available")
	f.Add("true", "9999y", "Local", "x", "daily=-1", "year", "", "error")
	f.Add("TRUE", "100y", "Europe/Berlin", "9999-12-31T23:59:59Z", "last=unlimited", "century", "\x00", "error_deleting")
	f.Add("True", "1s", "../..", "0000-01-01T00:00:00Z", "none", "month", "off", "")
	f.Fuzz(func(t *testing.T, automated, keep, in, until, rules, archived, hold, status string) {
		h := held(t, "F1@730d{dependents} I2@729d F3@1h", "keep=1d, rules=monthly=2", on(today))
		h.Backups[0].Metadata = map[string]string{backup.MetaAutomated: automated, backup.MetaRetention: keep, backup.MetaZone: in, backup.MetaKeepUntil: until, backup.MetaRules: rules, backup.MetaArchived: archived, backup.MetaHold: hold}
		h.Backups[0].Status = status
		h.Backups[0] = judged(h.Backups[0])
		fates := Decide(h, on(today))
		if len(fates) != 3 || fates[0].Why == "" || len(fates[0].Why) > 1000 {
			t.Fatalf("%+v", fates)
		}
		if _, err := backup.ParseAge(keep); err != nil && !fates[0].Keep && status != "deleting" && status != "deleted" && status != "error" {
			t.Fatalf("retention %q, and it goes: %s", keep, fates[0].Why)
		}
		NextStep(fates)
		OutlookOf(fates)
	})
}

// A project of ten thousand backups, a thousand volumes over two policies.
func BenchmarkRetain(b *testing.B) {
	frozen := "keep=2w, rules=daily=7 weekly=4 monthly=12, zone=Europe/Berlin"
	now := on(today)
	volumes := make([]Holding, 1000)
	for i := range volumes {
		volumes[i] = held(b, "F1@400d F2@300d I2@299d I3@298d F4@10d I5@9d I6@8d I7@7d I8@6d I9@1d", frozen, now)
	}
	for b.Loop() {
		for _, h := range volumes {
			fates := Decide(h, now)
			NextStep(fates)
			OutlookOf(fates)
		}
	}
}

// One volume with ten thousand backups in one chain.
func BenchmarkRetainOneChain(b *testing.B) {
	var words strings.Builder
	words.WriteString("F1@20000h ")
	for i := range 9999 {
		fmt.Fprintf(&words, "I%d@%dh ", i, 19999-i)
	}
	h := held(b, words.String(), "keep=2w, rules=daily=7 weekly=4 monthly=12, zone=Europe/Berlin", on(today))
	for b.Loop() {
		fates := Decide(h, on(today))
		NextStep(fates)
		OutlookOf(fates)
	}
}
