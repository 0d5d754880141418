package keep

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"staffeln/functions/backup"
)

func TestTheBrakeAtItsEdges(t *testing.T) {
	for _, c := range []struct {
		name    string
		brake   backup.Brake
		outlook backup.Outlook
		want    string
	}{
		{"99 % is a brake", backup.Brake{Percent: 99}, backup.Outlook{Backups: 100, Removals: 100, Chains: 100000, Losses: 100000},
			"100 of 100 backups would be removed, 100 % of all chains: the brake allows 99 %"},
		{"100 % is none, whatever the figures", backup.Brake{Percent: 100},
			backup.Outlook{Backups: 1, Removals: 1, Chains: 1000, Losses: 1001}, ""},
		{"as many as it is asked from", backup.Brake{Percent: 10, From: 3},
			backup.Outlook{Backups: 3, Removals: 3, Chains: 3000, Losses: 3000},
			"3 of 3 backups would be removed, 100 % of all chains: the brake allows 10 %"},
		{"one less", backup.Brake{Percent: 10, From: 4}, backup.Outlook{Backups: 3, Removals: 3, Chains: 3000, Losses: 3000}, ""},
		{"a share is rounded up", backup.Brake{Percent: 10}, backup.Outlook{Backups: 10, Removals: 2, Chains: 1000, Losses: 101},
			"2 of 10 backups would be removed, 11 % of all chains: the brake allows 10 %"},
		{"but not one that is whole", backup.Brake{Percent: 10}, backup.Outlook{Backups: 10, Removals: 2, Chains: 1000, Losses: 110},
			"2 of 10 backups would be removed, 11 % of all chains: the brake allows 10 %"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if why := trips(c.brake, c.outlook); why != c.want {
				t.Errorf("got %q, want %q", why, c.want)
			}
		})
	}
	t.Run("two outlooks are one of both, in every figure", func(t *testing.T) {
		same(t, backup.Outlook{Backups: 1, Removals: 20, Chains: 300, Losses: 4000}.Add(backup.Outlook{Backups: 5, Removals: 60, Chains: 700, Losses: 8000}), backup.Outlook{Backups: 6, Removals: 80, Chains: 1000, Losses: 12000})
	})
}

// A forecast's figures, where they are just enough and where they are one short.
func TestForecastsAtTheirEdges(t *testing.T) {
	now := nov(22)
	p := backup.Policy{Class: backup.Default, Schedule: mustSchedule("24h"), Retention: backup.Age{Days: 7}}
	classes := backup.Classes{backup.Default: p}
	volume := func(id string, size int) backup.Protected {
		return backup.Protected{Volume: id, Size: size, Enrolments: []backup.Enrolment{{Class: backup.Default}}}
	}
	record := func(id, of string, size int) backup.Record { return backup.Record{ID: id, Volume: of, Size: size} }
	steady := func(backup.Policy, time.Time) int { return 8 }
	for _, c := range []struct {
		name              string
		q                 backup.Quota
		volumes           []backup.Protected
		records           []backup.Record
		needs, needsGiB   int
		full, fullInBytes string
	}{
		{"what is needed is just what there is", backup.Quota{Backups: backup.Usage{Limit: 8}, Gigabytes: backup.Usage{Limit: 80}}, []backup.Protected{volume("v", 10)}, nil,
			8, 80, "", ""},
		{"one more than there is", backup.Quota{Backups: backup.Usage{Limit: 7}, Gigabytes: backup.Usage{Limit: 79}}, []backup.Protected{volume("v", 10)}, nil, 8, 80,
			"2026-11-29", "2026-11-30"},
		{"what there is of it is counted once", backup.Quota{Backups: backup.Usage{Limit: 7, Used: 3}, Gigabytes: backup.Usage{Limit: 70, Used: 30}},
			[]backup.Protected{volume("v", 10)},
			[]backup.Record{record("a", "v", 10), record("b", "v", 10), record("c", "v", 10)}, 8, 80, "2026-11-26", "2026-11-26"},
		{"another's backups stay", backup.Quota{Backups: backup.Usage{Limit: 9, Used: 2}, Gigabytes: backup.Usage{Limit: -1, Used: 5}}, []backup.Protected{volume("v", 10)},
			nil, 10, 85, "2026-11-29", ""},
		{"those of a volume no longer protected go", backup.Quota{Backups: backup.Usage{Limit: 9, Used: 3}, Gigabytes: backup.Usage{Limit: -1, Used: 25}},
			[]backup.Protected{volume("v", 10)},
			[]backup.Record{record("a", "gone", 10), record("b", "gone", 10)}, 9, 85, "", ""},
		{"but no more of them than Cinder counts", backup.Quota{Backups: backup.Usage{Limit: -1, Used: 1}, Gigabytes: backup.Usage{Limit: -1, Used: 10}},
			[]backup.Protected{volume("v", 10)},
			[]backup.Record{record("a", "gone", 10), record("b", "gone", 20)}, 8, 80, "", ""},
		{"more of one than its policy needs goes", backup.Quota{Backups: backup.Usage{Limit: 20, Used: 10}, Gigabytes: backup.Usage{Limit: -1, Used: 100}},
			[]backup.Protected{volume("v", 10)},
			slices.Repeat([]backup.Record{record("a", "v", 10)}, 10), 8, 80, "", ""},
		{"one that has all it needs makes no room scarcer", backup.Quota{Backups: backup.Usage{Limit: 15, Used: 8}, Gigabytes: backup.Usage{Limit: -1, Used: 80}},
			[]backup.Protected{volume("v", 10), volume("w", 10)},
			slices.Repeat([]backup.Record{record("a", "v", 10)}, 8), 16, 160, "2026-11-29", ""},
		{"another's beside ours", backup.Quota{Backups: backup.Usage{Limit: -1, Used: 4}, Gigabytes: backup.Usage{Limit: -1, Used: 40}}, []backup.Protected{volume("v", 10)},
			[]backup.Record{record("a", "v", 10)}, 11, 110, "", ""},
		{"a volume that is left out needs nothing", backup.Quota{Backups: backup.Usage{Limit: 7}, Gigabytes: backup.Usage{Limit: -1}},
			[]backup.Protected{{Volume: "v", Size: 10, Skip: "no"}}, nil, 0, 0, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, g := Forecast(c.q, append(c.volumes, backup.Protected{Volume: "x", Size: 1, Skip: "no"}), c.records, classes,
				steady, now)
			day := func(t time.Time) string {
				if t.IsZero() {
					return ""
				}
				return t.Format(time.DateOnly)
			}
			same(t, []any{b.Needs, g.Needs, day(b.Full), day(g.Full)}, []any{c.needs, c.needsGiB, c.full, c.fullInBytes})
		})
	}
	t.Run("a policy is played once, however many volumes have it", func(t *testing.T) {
		asked := 0
		Forecast(backup.Quota{}, []backup.Protected{volume("a", 1), volume("b", 1)}, nil, classes,
			func(backup.Policy, time.Time) int { asked++; return 8 }, now)
		if asked != 1 {
			t.Errorf("it is asked %d times", asked)
		}
	})
}

// Two policies that differ in anything that counts are told apart.
func TestWordsTellPoliciesApart(t *testing.T) {
	base := backup.Policy{Schedule: mustSchedule("24h"), Retention: backup.Age{Days: 7}, Rules: backup.Rules{Daily: 1}, ChainAge: backup.Age{Days: 1},
		Depth: 2, Archive: backup.Archive{Container: "c", Every: backup.Month}}
	same(t, Words(base), "24h|7d|daily=1|1d|2|c|month")
}

// How many backups there are at most once a policy has run its course.
func TestSteadyOfEveryRule(t *testing.T) {
	now := nov(22)
	for _, c := range []struct {
		name    string
		every   string
		keep    backup.Age
		rules   backup.Rules
		depth   int
		archive backup.Archive
		want    int
	}{
		{"fulls", "24h", backup.Age{Days: 7}, backup.Rules{}, 0, backup.Archive{}, 8},
		{"hours are kept longer than days", "1h", backup.Age{Hours: 2}, backup.Rules{Hourly: 30}, 0, backup.Archive{}, 30},
		{"days, of which the newest is one", "24h", backup.Age{Days: 1}, backup.Rules{Daily: 10}, 0, backup.Archive{}, 10},
		{"weeks", "24h", backup.Age{Days: 1}, backup.Rules{Weekly: 10}, 0, backup.Archive{}, 11},
		{"months", "24h", backup.Age{Days: 1}, backup.Rules{Monthly: 10}, 0, backup.Archive{}, 11},
		{"years, further than four", "24h", backup.Age{Days: 1}, backup.Rules{Yearly: 6}, 0, backup.Archive{}, 7},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := backup.Policy{Class: backup.Default, Schedule: mustSchedule(c.every), Retention: c.keep, Rules: c.rules, Depth: c.depth,
				Archive: c.archive}
			same(t, Steady(p, now), c.want)
		})
	}
}

func TestHowFarRulesReach(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		name string
		r    backup.Rules
		age  time.Duration
		want bool
	}{
		{"no rules reach nowhere", backup.Rules{}, 367 * day, false},
		{"hours", backup.Rules{Hourly: 2}, 3 * time.Hour, true},
		{"days", backup.Rules{Daily: 2}, 3 * day, true},
		{"weeks", backup.Rules{Weekly: 2}, 21 * day, true},
		{"months", backup.Rules{Monthly: 2}, 93 * day, true},
		{"years", backup.Rules{Yearly: 2}, 3 * 366 * day, true},
		{"and a little more is beyond", backup.Rules{Yearly: 2}, 3*366*day + 1, false},
		{"all of a sort reach as far as one likes", backup.Rules{Monthly: -1}, 90 * 366 * day, true},
	} {
		if got := reaches(c.r, c.age); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// Two moments are of one hour, day, week, month or year exactly if the
// calendar says so.
func TestBucketsAreTheCalendars(t *testing.T) {
	berlin := zone("Europe/Berlin")
	year, week := func(at time.Time) int { y, _ := at.ISOWeek(); return y }, func(at time.Time) int {
		_,
			w := at.ISOWeek()
		return w
	}
	for rule, key := range map[int]func(time.Time) string{
		// An hour that comes twice is one.
		ruleHourly:  func(at time.Time) string { return at.Format("2006-01-02 15") },
		ruleDaily:   func(at time.Time) string { return at.Format("2006-01-02") },
		ruleWeekly:  func(at time.Time) string { return fmt.Sprint(year(at), " week ", week(at)) },
		ruleMonthly: func(at time.Time) string { return at.Format("2006-01") },
		ruleYearly:  func(at time.Time) string { return at.Format("2006") },
	} {
		of, named := map[int]string{}, map[string]int{}
		for at := on("2023-12-30T00:30"); at.Before(on("2026-01-05T00:00")); at = at.Add(time.Hour) {
			bucket, name := bucketOf(rule, 7, at.In(berlin)), key(at.In(berlin))
			if was, ok := of[bucket]; ok && was != name {
				t.Fatalf("%s: %s and %s are one", ruleNames[rule], was, name)
			}
			if was, ok := named[name]; ok && was != bucket {
				t.Fatalf("%s: %s is two", ruleNames[rule], name)
			}
			of[bucket], named[name] = name, bucket
		}
	}
	same(t, bucketOf(ruleLast, 7, nov(22)), 7)
}

// Which backups may build on which, and of which chain they are.
func TestWhoMayBuildOnWhom(t *testing.T) {
	now := on(today)
	for _, c := range []struct{ name, backups, want string }{
		{"each on all that are older", "F1@10d I1@9d I2@8d", "F1: I1 I2; I1 of F1: I2; I2 of F1:"},
		{"none beyond the next full one", "F1@10d I1@9d F2@8d I2@7d", "F1: I1; I1 of F1:; F2: I2; I2 of F2:"},
		{"one that is being restored from is a full one, too", "F1@10d F2@9d:restoring I1@8d", "F1:; F2: I1; I1 of F2:"},
		{"one that failed is none", "F1@10d F2@9d:error I1@8d", "F1: I1; F2:; I1 of F1:"},
		{"but may be, where Cinder says that something builds on it", "F1@10d F2@9d:error{dependents} I1@8d",
			"F1: I1; F2: I1; I1 of F1:"},
		{"nothing builds on what is being made", "F1@10d I1@9d:creating I2@8d", "F1: I1 I2; I1 of F1:; I2 of F1:"},
		{"of those of one second each may on each", "F1@10d I1@9d I2@9d I3@9d I4@8d",
			"F1: I1 I2 I3 I4; I1 of F1: I2 I3 I4; I2 of F1: I1 I3 I4; I3 of F1: I1 I2 I4; I4 of F1:"},
		{"and on that before a full one of their second", "F1@10d F2@9d I1@9d I2@8d",
			"F1: I1; F2: I1 I2; I1 of F2: I2; I2 of F2:"},
		{"without a full one the first is that of the chain", "I1@9d I2@8d", "I1 of I1: I2; I2 of I1:"},
		{"a tenant's count as well", "f1@10d I1@9d i2@8d", "f1: I1 i2; I1 of f1: i2; i2 of f1:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, f := range Decide(held(t, c.backups, "keep=2w", now), now) {
				s := f.Backup.ID
				if f.Chain != s || f.Backup.Incremental {
					s += " of " + f.Chain
				}
				got = append(got, strings.TrimSpace(s+": "+strings.Join(f.Children, " ")))
			}
			same(t, strings.Join(got, "; "), c.want)
		})
	}
}
