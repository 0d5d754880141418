package backup

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the zones of these tests are the same on every machine

	"github.com/google/go-cmp/cmp"
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

func schedule(words, in string) Schedule {
	s, err := ParseSchedule(words)
	if err != nil {
		panic(err)
	}
	return s.In(zone(in))
}

func age(s string) Age {
	a, err := ParseAge(s)
	if err != nil {
		panic(err)
	}
	return a
}

// policy reads "every=daily@02:30, zone=Europe/Berlin, spread=2h, keep=2w, depth=6,
// chain=30d, container=x, dark=08:00-18:00, class=gold".
func policy(s string) Policy {
	p := Policy{Class: Default, Retention: age("2w")}
	every, in := "24h", "UTC"
	for part := range strings.SplitSeq(s, ", ") {
		key, value, _ := strings.Cut(part, "=")
		var err error
		switch key {
		case "every":
			every = value
		case "zone":
			in = value
		case "spread":
			p.Spread = span(value)
		case "keep":
			p.Retention = age(value)
		case "depth":
			p.Depth, err = strconv.Atoi(value)
		case "chain":
			p.ChainAge = age(value)
		case "container":
			p.Container = value
		case "dark":
			p.Blackouts, err = ParseBlackouts(value)
		case "class":
			p.Class = value
		default:
			panic("policy: " + part)
		}
		if err != nil {
			panic(err)
		}
	}
	p.Schedule = schedule(every, in)
	return p
}

// state reads "last=21T00:00 complete=21T00:10 retry=22T00:00 waiting=22T00:00
// waits=3 due=22T00:05 why=busy".
func state(s string) State {
	var out State
	for part := range strings.FieldsSeq(s) {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "last":
			out.LastSlot = on(value)
		case "complete":
			out.LastComplete = on(value)
		case "retry":
			out.Retry = on(value)
		case "waiting":
			out.Waiting = on(value)
		case "waits":
			n, err := strconv.Atoi(value)
			if err != nil {
				panic(err)
			}
			out.Waits = n
		case "due":
			out.Due = on(value)
		case "why":
			out.Why = value
		default:
			panic("state: " + part)
		}
	}
	return out
}

// theVolume is what the backups of made are of.
const theVolume = "0a6ec31e-4d5b-4d1e-8a54-5a9bb5dc2d4d"

// made reads backups of theVolume as they are at now: "F1@3d I1@2d i2@1h:creating"
// is a full backup three days old, an incremental, and one more that is a
// tenant's own and still being made. "F1@1h#2" is that of the second attempt of
// slot's run, "##2" of the run a day earlier, "=20" its size (10 unless told),
// "/pool" its container.
func made(s string, slot, now time.Time) (out []CinderBackup) {
	for word := range strings.FieldsSeq(s) {
		b := CinderBackup{Volume: theVolume, Status: "available", Size: 10, Container: "backups", Metadata: map[string]string{}}
		word, status, ok := strings.Cut(word, ":")
		if ok {
			b.Status = status
		}
		if before, attempt, ok := strings.Cut(word, "#"); ok {
			of := slot
			if earlier, ok := strings.CutPrefix(attempt, "#"); ok {
				attempt, of = earlier, slot.AddDate(0, 0, -1)
			}
			b.Metadata[MetaRun], b.Metadata[MetaAttempt], word = RunID(theVolume, of), attempt, before
		}
		if before, container, ok := strings.Cut(word, "/"); ok {
			b.Container, word = container, before
		}
		if before, size, ok := strings.Cut(word, "="); ok {
			if _, err := fmt.Sscan(size, &b.Size); err != nil {
				panic(err)
			}
			word = before
		}
		name, ago, _ := strings.Cut(word, "@")
		b.ID, b.Created = name, now.Add(-span(ago))
		b.Incremental = strings.ContainsAny(name[:1], "Ii")
		if strings.ContainsAny(name[:1], "FI") {
			b.Metadata[MetaAutomated] = "True"
		}
		out = append(out, judged(b))
	}
	return out
}

// judged has Cinder say that the service made a backup: it is ours where it carries our
// mark.
func judged(b CinderBackup) CinderBackup {
	b.Maker = theService
	one := []CinderBackup{b}
	Makers{theService}.Judge(one, Evidence{})
	return one[0]
}

// same compares and shows the difference.
func same[T any](t testing.TB, got, want T) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}
