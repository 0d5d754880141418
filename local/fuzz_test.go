package main

import (
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/alecthomas/kong"

	"staffeln/functions/backup"
	"staffeln/functions/keep"
)

// oneShortLine fails for an error that does not fit on a terminal.
func oneShortLine(t *testing.T, err error) {
	t.Helper()
	if text := err.Error(); len(text) > 700 || strings.ContainsAny(text, "\r\n\x00\x1b") {
		t.Fatalf("%d bytes of error: %.300q", len(text), text)
	}
}

// Whatever --at is: a moment that is not over, and that JSON can hold, or a word on
// what it may be.
func FuzzMoment(f *testing.F) {
	for _, s := range []string{"", "2026-11-23T02:30:00Z", "+24h", "+2w3d", "+1h30m", "+", "+-1h", "2026-11-21T02:30:00Z", "+9999y", "+2562047h", "9999-12-31T23:59:59-23:59",
		"0000-01-01T00:00:00Z", "+1e3h", "tomorrow", strings.Repeat("9", 5000), "\x1b[2J", "+１d", "-24h"} {
		f.Add(s)
	}
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, s string) {
		at, err := moment(s, now)
		if err != nil {
			oneShortLine(t, err)
			if !at.IsZero() || !strings.Contains(err.Error(), "--at") || !strings.Contains(err.Error(), "want") {
				t.Fatalf("%s, %v", at, err)
			}
			return
		}
		if at.Before(now.Add(-time.Minute)) {
			t.Fatalf("%q is %s, which is over", s, at)
		}
		if _, err := json.Marshal(at); err != nil {
			t.Fatalf("%q is %s: %v", s, at, err)
		}
	})
}

// Whatever follows the program's name: it is understood as one of the commands, or
// refused; nothing panics.
func FuzzArguments(f *testing.F) {
	for _, s := range []string{"run", "check", "plan --at +24h --json --all --project alpha", "brake", "brake release cloud", "brake release", "report preview --project p --send-to a@b.example --text",
		"report preview", "--help", "plan --json=no", "plan -- --at", "brake release a b", "", "version x", "--", "-", "report preview --project= --out=", "plan --at=\x00", "report preview --project p --send-to x,y@b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		var c commands
		k, err := kong.New(&c, kong.Name("staffeln"), kong.Writers(io.Discard, io.Discard), kong.Exit(func(int) { panic(leaves{}) }))
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if p := recover(); p != nil && p != (leaves{}) {
				panic(p)
			}
		}()
		parsed, err := k.Parse(strings.Split(line, " "))
		if err != nil {
			return
		}
		what := parsed.Command()
		switch {
		case strings.HasPrefix(what, "brake release") && c.Brake.Release.What == "" && !strings.Contains(line, "  ") && !strings.HasSuffix(line, " "):
			t.Fatalf("%q releases nothing", line)
		case strings.HasPrefix(what, "report preview") && !strings.Contains(line, "--project"):
			t.Fatalf("%q previews no project's", line)
		case what == "":
			t.Fatalf("%q is no command", line)
		}
		// What is wrong with the address is told before anything is asked or sent.
		if to := c.Report.Preview.SendTo; to != "" && strings.ContainsAny(to, " ,<>\r\n") {
			err := c.Report.Preview.print(t.Context(), nil, time.Now(), io.Discard)
			if err == nil || !strings.Contains(err.Error(), "--send-to") {
				t.Fatalf("%q: %v", to, err)
			}
			oneShortLine(t, err)
		}
	})
}

// leaves is the panic that stands for leaving the process, as --help does.
type leaves struct{}

// Whatever a project is called: the brake's release names it in a few words, and
// takes nothing for it that is not held.
func FuzzHeld(f *testing.F) {
	f.Add("1176721179d74e6b9f16b23e2bb580a3", "alpha", 5, 10, 2000, 500)
	f.Add("cloud", "cl\x1b[2Joud\n", -1, 0, -1, 1)
	f.Add("", "", 1<<40, 1, 1<<40, 1<<40)
	f.Add(strings.Repeat("x", 4000), "\xff", 1, 1, 0, 1)
	f.Fuzz(func(t *testing.T, what, name string, removals, backups, chains, losses int) {
		b := &brakes{}
		r, _, err := b.find(t.Context(), what, nil)
		if err == nil || r.Project != "" {
			t.Fatalf("%q is held: %+v", what, r)
		}
		oneShortLine(t, err)
		// What is told of a project keeps to one line, whatever its name.
		o := backup.Outlook{Backups: backups, Removals: removals, Chains: chains, Losses: losses}
		said := title("1176721179d74e6b9f16b23e2bb580a3", map[string]string{"1176721179d74e6b9f16b23e2bb580a3": name}) + amount(o)
		if strings.ContainsAny(said, "\r\n\x00\x1b") || !utf8.ValidString(said) {
			t.Fatalf("%q", said)
		}
		const most = 1 << 40 // the ledger reads no more
		if min(removals, backups, chains, losses) >= 0 && max(removals, backups, chains, losses) <= most {
			for _, brake := range []backup.Brake{{Percent: 30, From: 10}, {Percent: 0, From: 0}, {Percent: 100}} {
				why := keep.OfProject(brake, backup.Retention{}, o).Trips()
				if trips := why != ""; trips != (removals >= brake.From && brake.Percent < 100 && float64(losses)*100 > float64(brake.Percent)*float64(chains)) {
					t.Fatalf("%+v of %+v: %q", brake, o, why)
				}
			}
		}
	})
}
