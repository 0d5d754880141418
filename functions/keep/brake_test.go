package keep

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"staffeln/functions/backup"
)

func TestOutlookOf(t *testing.T) {
	now := on(today)
	for _, c := range []struct {
		name, backups string
		want          backup.Outlook
	}{
		{"nothing there", "", backup.Outlook{}},
		{"nothing to go", "F1@1d I1@1h", backup.Outlook{Backups: 2, Chains: 1000}},
		{"a chain counts as one, however long", "F1@10d I1@9d I2@8d I3@7d F2@1h", backup.Outlook{Backups: 5, Removals: 4, Chains: 2000, Losses: 1000}},
		{"a part of one as its share", "F1@10d{hold} I1@9d I2@8d F2@1h", backup.Outlook{Backups: 4, Removals: 2, Chains: 2000, Losses: 666}},
		{"a full one without any is a chain", "F1@10d F2@9d F3@8d F4@1h", backup.Outlook{Backups: 4, Removals: 3, Chains: 4000, Losses: 3000}},
		{"broken ones, others' and those on their way do not count", "F1@10d:error f2@9d F3@8d:deleting F4@7d:creating F5@1h", backup.Outlook{Backups: 1, Chains: 1000}},
	} {
		t.Run(c.name, func(t *testing.T) {
			same(t, OutlookOf(Decide(held(t, c.backups, "keep=2d", now), now)), c.want)
		})
	}
}

// trips says why a brake trips; "" if it does not.
func trips(b backup.Brake, o backup.Outlook) string {
	return OfProject(b, backup.Retention{}, o).Trips()
}

func TestBrake(t *testing.T) {
	b := backup.Brake{Percent: 50, From: 10}
	for _, c := range []struct {
		name    string
		brake   backup.Brake
		outlook backup.Outlook
		want    string // why it trips; "" where it does not
	}{
		{"nothing to go", b, backup.Outlook{Backups: 100, Chains: 20000}, ""},
		{"half of all may go", b, backup.Outlook{Backups: 140, Removals: 70, Chains: 20000, Losses: 10000}, ""},
		{"a thousandth of a chain more may not", b, backup.Outlook{Backups: 140, Removals: 71, Chains: 20000, Losses: 10001},
			"71 of 140 backups would be removed, 51 % of all chains: the brake allows 50 %"},
		{"many backups of few chains", b, backup.Outlook{Backups: 200, Removals: 120, Chains: 20000, Losses: 9000}, ""},
		{"all of them", b, backup.Outlook{Backups: 10, Removals: 10, Chains: 10000, Losses: 10000},
			"10 of 10 backups would be removed, 100 % of all chains: the brake allows 50 %"},
		{"a few are not asked about", b, backup.Outlook{Backups: 9, Removals: 9, Chains: 9000, Losses: 9000}, ""},
		{"a stricter one", backup.Brake{Percent: 5, From: 1}, backup.Outlook{Backups: 100, Removals: 6, Chains: 100000, Losses: 6000},
			"6 of 100 backups would be removed, 6 % of all chains: the brake allows 5 %"},
		{"100 is none", backup.Brake{Percent: 100}, backup.Outlook{Backups: 10, Removals: 10, Chains: 10000, Losses: 10000}, ""},
		{"one that nobody has set lets nothing go", backup.Brake{}, backup.Outlook{Backups: 10, Removals: 1, Chains: 10000, Losses: 1000},
			"1 of 10 backups would be removed, 10 % of all chains: the brake allows 0 %"},
		{"and takes nothing for nothing", backup.Brake{}, backup.Outlook{Backups: 10, Chains: 10000}, ""},
		{"two projects together", b, backup.Outlook{Backups: 20, Removals: 15, Chains: 20000, Losses: 15000}.Add(backup.Outlook{Backups: 40, Chains: 40000}), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if why := trips(c.brake, c.outlook); why != c.want {
				t.Errorf("got %q, want %q", why, c.want)
			}
		})
	}
}

// A regime is how one volume is backed up and kept.
type regime struct {
	name  string
	p     backup.Policy
	years int // 0 for two months
	fails int // percent of the runs
}

// simulate runs the regime from 2027 on, which has a leap year after it: a backup at
// each slot, a pass after each backup and whenever time alone may change something.
// each sees every pass.
func (r regime) simulate(t *testing.T, each func(now time.Time, fates []Fate)) {
	rng := rand.New(rand.NewPCG(1, uint64(len(r.name))))
	p := r.p
	zone := p.Schedule.Zone()
	now := time.Date(2027, 1, 15, 3, 0, 0, 0, time.UTC)
	end := now.AddDate(0, 2, 0)
	if r.years > 0 {
		end = now.AddDate(r.years, 0, 0)
	}
	h := Holding{Project: "p1", Volume: theVolume, Policy: &p}
	carried, whole, look := 0, false, time.Time{}
	for slot := p.Schedule.Next(now); now.Before(end); {
		if !look.IsZero() && look.Before(slot) {
			now = look
		} else {
			now = slot
			slot = p.Schedule.Next(slot)
			b := backup.CinderBackup{ID: now.Format(backup.Stamp), Volume: theVolume, Project: "p1", Status: "available", Created: now.Add(7 * time.Second).UTC(), Origin: backup.OriginService}
			run := backup.Run{Volume: theVolume, Slot: now, Kind: backup.Full}
			inSpan := func(o backup.CinderBackup) bool {
				return o.Metadata[backup.MetaArchived] != "" && p.Archive.Every.Key(o.Created.In(zone)) == p.Archive.Every.Key(b.Created.In(zone))
			}
			switch {
			case p.Archive.Every != "" && !slices.ContainsFunc(h.Backups, inSpan):
				run.Archived, whole = p.Archive.Every, false
			case whole && carried < p.Depth:
				b.Incremental, run.Kind = true, backup.Incremental
			default:
				carried, whole = 0, true
			}
			b.Metadata = backup.Metadata(run, p, backup.Enrolment{}, now)
			if rng.IntN(100) < r.fails {
				b.Status, b.FailReason = "error", "no space left"
				delete(b.Metadata, backup.MetaArchived)
				whole = whole && b.Incremental
			} else if b.Incremental {
				carried++
			}
			h.Backups, h.LastSlot = append(h.Backups, b), run.Slot
			now = b.Created
		}
		fates := Decide(h, now)
		each(now, fates)
		look = time.Time{}
		h.Backups = nil
		for _, f := range fates {
			if f.Keep {
				h.Backups = append(h.Backups, f.Backup)
			}
			if !f.Until.IsZero() && (look.IsZero() || f.Until.Before(look)) {
				look = f.Until
			}
		}
		if step := NextStep(fates); len(step.Stuck) > 0 {
			t.Fatalf("%s: %v", now, step.Stuck)
		}
	}
}

func regimes() []regime {
	var out []regime
	add := func(years int, words string, rules string, every backup.Span) {
		zones := []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca"}
		for _, fails := range []int{0, 15} {
			in := zones[len(out)%len(zones)]
			p := policy(words + ", zone=" + in)
			var err error
			if p.Rules, err = backup.ParseRules(rules); err != nil {
				panic(err)
			}
			p.Archive.Every = every
			name := fmt.Sprintf("%s, zone=%s, rules=%s, archive=%s, failing=%d%%", words, in, p.Rules, every, fails)
			out = append(out, regime{strings.ReplaceAll(name, "/", "-"), p, years, fails})
		}
	}
	add(2, "every=daily@02:30, keep=2w, depth=6", "none", "")
	add(2, "every=daily@02:30, keep=1w, depth=6", "none", "")
	add(1, "every=daily@02:30, keep=1d, depth=6", "none", "")
	add(1, "every=daily@02:30, keep=1d, depth=0", "none", "")
	add(1, "every=daily@00:00, keep=1mon, depth=30", "none", "")
	add(2, "every=daily@02:30, keep=2w, depth=6", "daily=7 weekly=4 monthly=12 yearly=3", "")
	add(2, "every=daily@02:30, keep=2w, depth=6", "monthly=12 yearly=3", backup.Month)
	add(2, "every=7d, keep=2mon, depth=4", "yearly=2", backup.Year)
	add(1, "every=24h, keep=1h, depth=0", "last=3", "")
	add(0, "every=1h, keep=2d, depth=23", "hourly=24 daily=7", "")
	add(0, "every=6h, keep=36h, depth=6", "none", "")
	return out
}

// A year or two of healthy regimes: in summer and winter time, with leap days, with
// and without failures. The brake never trips, not even where it is asked about
// every single backup; the retention time is kept to the second; nothing is lost
// that the rules keep, and nothing stays for ever that they do not.
func TestAYearOfRetention(t *testing.T) {
	for _, r := range regimes() {
		t.Run(r.name, func(t *testing.T) {
			worst, most := backup.Outlook{Chains: 1}, 0
			var kept []Fate
			r.simulate(t, func(now time.Time, fates []Fate) {
				o := OutlookOf(fates)
				if why := trips(backup.Brake{Percent: 50, From: 1}, o); why != "" {
					t.Fatalf("%s: %s\n%s", now, why, tellFates(fates))
				}
				if o.Losses*worst.Chains > worst.Losses*o.Chains {
					worst = o
				}
				kept = slices.DeleteFunc(slices.Clone(fates), func(f Fate) bool { return !f.Keep })
				for _, f := range fates {
					b := f.Backup
					young := now.Before(r.p.Retention.After(b.Created.In(r.p.Schedule.Zone())))
					if !f.Keep && !f.Broken && young {
						t.Fatalf("%s: %s", now, tellFates([]Fate{f}))
					}
					if f.Broken && f.Keep {
						t.Fatalf("%s: a broken one stays: %s", now, tellFates([]Fate{f}))
					}
				}
				most = max(most, len(kept))
			})
			t.Logf("at most %d backups, in the end %d; at worst %.1f %% go at once", most, len(kept), float64(worst.Losses)*100/float64(worst.Chains))
			// No more than the rules, the retention time and whole chains of those can need.
			bound := 2 * (r.p.Depth + 1)
			for rule := range ruleCount {
				bound += of(r.p.Rules, rule) * (r.p.Depth + 1)
			}
			day := r.p.Schedule.Interval(on(today))
			epoch := on("2028-01-31T00:00")
			bound += int(r.p.Retention.After(epoch).Sub(epoch)/day) + 2
			if most > bound {
				t.Errorf("%d backups at most, no more than %d were to be expected", most, bound)
			}
		})
	}
}

// After two years a policy of all rules leaves what one would look for.
func TestTwoYearsOfRetention(t *testing.T) {
	for _, every := range []backup.Span{"", backup.Month} {
		p := policy("every=daily@02:30, keep=2w, depth=0, zone=Europe/Berlin")
		p.Rules, p.Archive.Every = backup.Rules{Weekly: 6, Monthly: 12, Yearly: 3}, every
		var got []string
		regime{"", p, 2, 0}.simulate(t, func(now time.Time, fates []Fate) {
			got = got[:0]
			for _, f := range fates {
				if f.Keep {
					got = append(got, f.Backup.Created.In(p.Schedule.Zone()).Format("2006-01-02"))
				}
			}
		})
		// The end of the year before, month ends (or firsts), Sundays, and every day of the
		// last two weeks.
		want := "2027-12-31 2028-02-29 2028-03-31 2028-04-30 2028-05-31 2028-06-30 2028-07-31 2028-08-31 2028-09-30 2028-10-31 2028-11-30 " +
			"2028-12-17 2028-12-24 2028-12-31 " +
			"2029-01-03 2029-01-04 2029-01-05 2029-01-06 2029-01-07 2029-01-08 2029-01-09 2029-01-10 2029-01-11 2029-01-12 2029-01-13 2029-01-14 2029-01-15 2029-01-16"
		if every == backup.Month {
			want = "2027-12-01 2028-02-01 2028-03-01 2028-04-01 2028-05-01 2028-06-01 2028-07-01 2028-08-01 2028-09-01 2028-10-01 2028-11-01 2028-12-01 " +
				"2028-12-17 2028-12-24 2028-12-31 " +
				"2029-01-01 2029-01-03 2029-01-04 2029-01-05 2029-01-06 2029-01-07 2029-01-08 2029-01-09 2029-01-10 2029-01-11 2029-01-12 2029-01-13 2029-01-14 2029-01-15 2029-01-16"
		}
		same(t, strings.Join(got, " "), want)
	}
}

// Where hardly anything is kept, a calendar can let go of more than half at once:
// at a month's end here two of three chains. Such a regime needs another brake.
func TestBrakeOnAHandful(t *testing.T) {
	p := policy("every=24h, keep=1h, depth=3")
	p.Rules = backup.Rules{Daily: 2, Weekly: 1, Monthly: 2}
	held := map[int]bool{}
	regime{"", p, 1, 0}.simulate(t, func(now time.Time, fates []Fate) {
		for _, percent := range []int{50, 67} {
			held[percent] = held[percent] || trips(backup.Brake{Percent: percent, From: 1}, OutlookOf(fates)) != ""
		}
	})
	same(t, held, map[int]bool{50: true, 67: false})
}

// What looks like a mistake is one.
func TestBrakeInACatastrophe(t *testing.T) {
	brake := backup.Brake{Percent: 50, From: 10}
	now := on(today)
	// A project of five volumes, each with three chains of seven days.
	chains := "F1@20d I1@19d I2@18d I3@17d I4@16d I5@15d I6@14d F2@13d I7@12d I8@11d I9@10d Ia@9d Ib@8d Ic@7d F3@6d Id@5d Ie@4d If@3d Ig@2d Ih@1d"
	fulls := "F1@13d F2@12d F3@11d F4@10d F5@9d F6@8d F7@7d F8@6d F9@5d Fa@4d Fb@3d Fc@2d Fd@1d"
	for _, c := range []struct {
		name, backups string
		change        func(*Holding)
		at            time.Time
		trips         bool
	}{
		{"an ordinary day of chains", chains, nil, now, false},
		{"an ordinary day of full backups", fulls, nil, now.AddDate(0, 0, 1), false},
		{"a clock that is a year ahead, over chains", chains, nil, now.AddDate(1, 0, 0), true},
		{"and over full backups", fulls, nil, now.AddDate(1, 0, 0), true},
		{"a month without a pass", fulls, nil, now.AddDate(0, 1, 0), true},
		{"every volume taken for gone, and nothing kept of such", chains, func(h *Holding) {
			h.Gone, h.Policy = now.AddDate(0, -1, 0), nil
			for _, b := range h.Backups {
				b.Metadata[backup.MetaRetention] = "1h"
			}
		}, now, true},
		{"retention times that somebody wrote over", fulls, func(h *Holding) {
			h.Policy = nil
			for _, b := range h.Backups {
				b.Metadata[backup.MetaRetention] = "1min"
			}
		}, now, true},
		{"a policy file that was emptied takes nothing away", fulls, func(h *Holding) { h.Policy = nil }, now, false},
		{"nor does one with a minute of retention", fulls, func(h *Holding) { h.Policy = current("keep=1min") }, now, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var o backup.Outlook
			for range 5 {
				h := held(t, c.backups, "keep=2w, rules=none", now)
				h.Policy = current("keep=2w")
				if c.change != nil {
					c.change(&h)
				}
				o = o.Add(OutlookOf(Decide(h, c.at)))
			}
			if why := trips(brake, o); (why != "") != c.trips {
				t.Errorf("%+v: %q", o, why)
			}
		})
	}
}
