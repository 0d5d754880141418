package keep

import (
	"strconv"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the zones of these tests are the same on every machine

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"staffeln/functions/backup"
)

// The tiny languages of the tables.
//
// A moment "22T02:30" is of November 2026, "2026-03-29T01:30" any other; both are
// UTC. 22 November 2026 is a Sunday.

func on(s string) time.Time {
	if len(s) == len("22T02:30") {
		s = "2026-11-" + s
	}
	t, err := time.Parse("2006-01-02T15:04", s)
	if err != nil {
		panic(err)
	}
	return t
}

func day(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("02T15:04")
}

func zone(name string) *time.Location {
	l, err := time.LoadLocation(name)
	if err != nil {
		panic(err)
	}
	return l
}

func span(s string) time.Duration {
	if n, ok := strings.CutSuffix(s, "d"); ok {
		days, err := strconv.Atoi(n)
		if err != nil {
			panic(err)
		}
		return time.Duration(days) * 24 * time.Hour
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		panic(err)
	}
	return d
}

func schedule(words, in string) backup.Schedule {
	s, err := backup.ParseSchedule(words)
	if err != nil {
		panic(err)
	}
	return s.In(zone(in))
}

func age(s string) backup.Age {
	a, err := backup.ParseAge(s)
	if err != nil {
		panic(err)
	}
	return a
}

// theVolume is what the backups of made are of.
const theVolume = "0a6ec31e-4d5b-4d1e-8a54-5a9bb5dc2d4d"

// theService is the user that our backups are made by.
const theService = "0123456789abcdef0123456789abcdef"

// judged has Cinder say that the service made a backup: it is ours where it carries our
// mark.
func judged(b backup.CinderBackup) backup.CinderBackup {
	b.Maker = theService
	one := []backup.CinderBackup{b}
	backup.Makers{theService}.Judge(one, backup.Evidence{})
	return one[0]
}

// same compares and shows the difference.
func same[T any](t testing.TB, got, want T) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func nov(n int) time.Time { return time.Date(2026, 11, n, 0, 0, 0, 0, time.UTC) }

func mustSchedule(words string) backup.Schedule { return schedule(words, "UTC") }

func mustRules(s string) backup.Rules {
	r, err := backup.ParseRules(s)
	if err != nil {
		panic(err)
	}
	return r
}

// policy reads "every=daily@02:30, zone=Europe/Berlin, keep=2w, depth=6, class=gold,
// rules=daily=7 monthly=12".
func policy(s string) backup.Policy {
	p := backup.Policy{Class: backup.Default, Retention: age("2w")}
	every, in := "24h", "UTC"
	for part := range strings.SplitSeq(s, ", ") {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "every":
			every = value
		case "zone":
			in = value
		case "keep":
			p.Retention = age(value)
		case "depth":
			depth, err := strconv.Atoi(value)
			if err != nil {
				panic(err)
			}
			p.Depth = depth
		case "class":
			p.Class = value
		case "rules":
			p.Rules = mustRules(value)
		default:
			panic("policy: " + part)
		}
	}
	p.Schedule = schedule(every, in)
	return p
}

var someZones = []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kathmandu"}

// anyMoment draws a moment of the years 2025 to 2032, by the clock of some zone.
func anyMoment(t *rapid.T) time.Time {
	from := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	s := rapid.Int64Range(0, 7*365*24*3600).Draw(t, "moment")
	return from.Add(time.Duration(s) * time.Second).In(zone(rapid.SampledFrom(someZones).Draw(t, "zone")))
}

func somePolicy(t *rapid.T) backup.Policy {
	return policy("every=" + rapid.SampledFrom([]string{"24h", "6h", "7d", "daily@02:30", "0 0 31 * *"}).Draw(t, "every") +
		", zone=" + rapid.SampledFrom(someZones).Draw(t, "zone"))
}

// anyRules draws rules, mostly small numbers of few.
func anyRules() *rapid.Generator[backup.Rules] {
	return rapid.Custom(func(t *rapid.T) backup.Rules {
		var r backup.Rules
		for i, n := range []*int{&r.Last, &r.Hourly, &r.Daily, &r.Weekly, &r.Monthly, &r.Yearly} {
			if rapid.IntRange(0, 2).Draw(t, "has "+ruleNames[i]) == 0 {
				*n = rapid.IntRange(-1, 5).Draw(t, ruleNames[i])
			}
		}
		return r
	})
}
