package plan

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"staffeln/functions/backup"
)

// Whatever names and reasons there are: the table is lines of printable characters,
// none wider than it may be, and the JSON is read back as it was.
func FuzzTable(f *testing.F) {
	f.Add("alpha", "web-1", "data", "data-20261122T020000Z", "older than 2w", "the brake", "short list", "none", int64(1795345200), 3)
	f.Add("\x1b[2J", "two\nlines", "\u202egro", strings.Repeat("ü", 255), strings.Repeat("word ", 300), strings.Repeat("x", 300), "\xff\xfe", "", int64(-1), -1)
	f.Add("", "", "", "", "", "", "", "x\ny", int64(0), 1<<40)
	f.Add("字字字", "a b", "c/d", "8bd2b617-daa5-4aa3-b199-e5d6bad361fb", "of 8bd2b617-daa5-4aa3-b199-e5d6bad361fb", "", "", "asked", int64(1<<33), 0)
	f.Fuzz(func(t *testing.T, project, server, volume, name, why, held, heldNow, ledger string, unix int64, n int) {
		const millennia = 7000 * 365 * 24 * 3600
		at := time.Unix((unix%millennia+millennia)%millennia, 0).UTC()
		p := Plan{At: at, Read: at, Ledger: ledger, Cloud: Sum{Brake: held, Removals: n},
			Projects:  []Project{{ID: "p", Name: project, Sum: Sum{Brake: why, Released: at, ReleasedFor: n, Removals: n}, Held: held, HeldNow: heldNow, Quota: &Quota{Backups: n, BackupsUsed: n, Gigabytes: -n}}},
			Backups:   []Backup{{Project: "p", ServerName: server, VolumeName: volume, Do: Start, Kind: backup.Incremental, Due: at, Why: why}, {Project: "p", Server: name, Volume: name, Do: Do(""), Kind: backup.Full}},
			Retention: []Fate{{Project: "p", Backup: "b", Name: name, Verdict: Remove, Why: why, Blocked: held, Step: n, Created: at}, {Project: "p", Backup: volume, Verdict: Keep, Until: at, Why: name}},
			Warnings:  []Warning{{Project: "p", ProjectName: project, Server: server, Volume: volume, Why: why}},
		}
		var out bytes.Buffer
		if err := p.Table(&out); err != nil {
			t.Fatal(err)
		}
		if !utf8.Valid(out.Bytes()) || !strings.HasSuffix(out.String(), "\n") {
			t.Fatalf("%.200q", out.String())
		}
		for line := range strings.Lines(out.String()) {
			line = strings.TrimSuffix(line, "\n")
			if utf8.RuneCountInString(line) > Width {
				t.Fatalf("%d columns: %q", utf8.RuneCountInString(line), line)
			}
			if i := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
				t.Fatalf("%q is not printable", line)
			}
		}
		if n := len(regexp.MustCompile(`(?m)^WARNINGS$`).FindAllString(out.String(), -1)); n != 1 {
			t.Fatalf("%d headings of warnings", n)
		}
		doc, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var once, twice Plan
		if err := json.Unmarshal(doc, &once); err != nil {
			t.Fatal(err)
		}
		doc, err = json.Marshal(once)
		if err == nil {
			err = json.Unmarshal(doc, &twice)
		}
		if d := cmp.Diff(once, twice); d != "" || err != nil {
			t.Fatalf("%v (-once +twice):\n%s", err, d)
		}
		if utf8.ValidString(project + server + volume + name + why + held + heldNow + ledger) {
			if d := cmp.Diff(p, once); d != "" {
				t.Fatalf("(-want +got):\n%s", d)
			}
		}
	})
}
