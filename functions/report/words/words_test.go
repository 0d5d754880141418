package words

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"staffeln/functions/backup"
)

var update = flag.Bool("update", false, "write the golden files, and the pictures in docs")

// situations are what digests can be about, each with a golden file of its HTML
// and of its text.
func situations() map[string]backup.Digest {
	well := Example()
	well.Runs, well.Failed = well.Runs[2:], 0
	well.Overdue, well.Recovered, well.Locked, well.Skipped, well.Empty, well.Invalid, well.Outside, well.Removed, well.Removals = nil, nil, nil, nil, nil, nil, nil, nil, 0
	well.Foreign = nil
	well.Backups = backup.QuotaFact{Limit: 100, Used: 12, Percent: 12, Level: backup.Low, Needs: 62}
	well.Gigabytes = backup.QuotaFact{Limit: -1, Used: 1900, Level: backup.Low, Needs: 2100}

	failed := Example()
	failed.Runs, failed.Complete = failed.Runs[:2], 0
	failed.QuotaUnknown = "OpenStack did not answer: 503 Service Unavailable"
	failed.Held = "75 % of the backups would go at once"

	nothing := backup.Digest{ID: "p@20261122T060000Z", Project: "p", Name: "empty", From: well.From, To: well.To, Zone: "UTC",
		Backups: backup.QuotaFact{Limit: 10, Level: backup.Low}, Gigabytes: backup.QuotaFact{Limit: 1000, Level: backup.Low},
		Empty: []backup.DigestNote{{Server: "bastion", Why: "no volumes attached"}}, Outside: []backup.DigestNote{{Server: "web", Why: "no backup metadata nor tag"}}}

	zero := well
	zero.Backups = backup.QuotaFact{Limit: 0, Percent: 100, Level: backup.High, Needs: 8, Full: well.To}
	zero.Gigabytes = backup.QuotaFact{Limit: 100, Used: 150, Percent: 150, Level: backup.High, Needs: 150, Full: well.To}

	many := well
	many.Runs, many.Failed, many.Complete, many.Protected = nil, 100, 400, 500
	for i := range 500 {
		r := Example().Runs[2]
		r.Server, r.Volume = fmt.Sprintf("server-%03d", i/2), fmt.Sprintf("volume-%03d", i)
		if i < 100 {
			r.OK, r.Why, r.Theirs = false, "quota exceeded: 100 of 100 backups", true
		}
		many.Runs = append(many.Runs, r)
	}

	nasty := Example()
	nasty.Name = `<b onload="x">alpha</b> & "co" 'x'`
	nasty.Runs[0].Server, nasty.Runs[0].Volume = "<script>alert(1)</script>", `"><img src=http://evil.example/x.png>`
	nasty.Runs[0].Why = "{{.Secret}} <a href='http://evil.example'>click</a>"
	nasty.Runs[1].Server, nasty.Runs[1].Volume = "two\r\nlines\tand\x00nul", "\u202egro.elpmaxe\u202c"
	nasty.Runs[2].Server = strings.Repeat("ü", 255)
	nasty.Runs[3].Server, nasty.Runs[3].Volume = "שלום", "مرحبا 👍"
	nasty.Removed[0].Name = "javascript:alert(1)"
	nasty.Invalid[0].Why = strings.Repeat("long words ", 200)
	nasty.Foreign[0].Name, nasty.Foreign[0].Volume = "<script>alert(2)</script>\r\n\u202e", `"><img src=http://evil.example/y.png>`

	forged := nothing
	for i := range 30 {
		forged.Foreign = append(forged.Foreign, backup.DigestForeign{Backup: fmt.Sprintf("2a6a1d43-6c1e-4f35-9d6a-3f1f5e0f9c%02d", i), Name: fmt.Sprintf("copy-%d", i),
			Volume: "7e0e5c1e-8f54-4f4b-9a6c-2f5a7f1f0a11", Origin: backup.OriginForged, New: i < 2})
	}
	return map[string]backup.Digest{"copies-of-our-marks": forged, "something-of-everything": Example(), "all-well": well, "all-failed": failed, "nothing-protected": nothing, "zero-and-overrun-quotas": zero, "500-volumes": many, "nasty-names": nasty}
}

func TestEverySituation(t *testing.T) {
	for name, d := range situations() {
		w, err := Builtin().Write(d)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(w.HTML) >= MaxHTML {
			t.Errorf("%s: %d bytes of HTML", name, len(w.HTML))
		}
		for ending, got := range map[string]string{".html": w.HTML, ".txt": "Subject: " + w.Subject + "\n\n" + w.Text} {
			golden(t, name+ending, got)
		}
		if strings.ContainsAny(w.Subject, "\r\n") {
			t.Errorf("%s: subject %q", name, w.Subject)
		}
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s differs; look at it, and run go test -update if it is right (-want +got):\n%s", path, diff)
	}
}

// Whatever comes from a tenant is text: no tag, no picture, no link, no template.
func TestNamesStayText(t *testing.T) {
	w, err := Builtin().Write(situations()["nasty-names"])
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"<script", "<img", "<a ", "<b onload", "\u202e", "\x00"} {
		if strings.Contains(w.HTML, bad) {
			t.Errorf("HTML has %q", bad)
		}
	}
	for _, good := range []string{"&lt;script&gt;", "{{.Secret}}", "שלום", "مرحبا 👍", strings.Repeat("ü", 59) + "…", "two lines and nul"} {
		if !strings.Contains(w.HTML, good) {
			t.Errorf("HTML lacks %q", good)
		}
	}
	if strings.ContainsAny(w.Text, "\r\x00\u202e") {
		t.Error("the text has control characters")
	}
}

func TestNothingIsFetched(t *testing.T) {
	for name, d := range situations() {
		w, _ := Builtin().Write(d)
		if found := regexp.MustCompile(`(?i)<[^>]*(src|href|background)\s*=|url\(|@import|<(img|link|script|iframe|object)`).FindString(w.HTML); found != "" {
			t.Errorf("%s: %s", name, found)
		}
	}
}

func TestHowManyMore(t *testing.T) {
	w, err := Builtin().Write(situations()["500-volumes"])
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"HTML": w.HTML, "text": w.Text} {
		shown := strings.Count(text, "server-")
		more := 0
		for _, m := range regexp.MustCompile(`and (\d+) more`).FindAllStringSubmatch(text, -1) {
			n := 0
			fmt.Sscan(m[1], &n)
			more += n
		}
		if shown+more != 500 || more == 0 {
			t.Errorf("%s: %d shown and %d more", what, shown, more)
		}
	}
	// A digest that was cut before it was written down still counts all of it.
	d := situations()["500-volumes"].Trimmed()
	d.Complete = 4000
	if w, _ := Builtin().Write(d); !strings.Contains(w.Text, "100 of 4100 backups failed") || !strings.Contains(w.Text, "more") {
		t.Error(w.Text[:200])
	}
}

// copies are backups that only look like ours.
func copies(n int, origin backup.Origin, fresh bool) (all []backup.DigestForeign) {
	for range n {
		all = append(all, backup.DigestForeign{Origin: origin, New: fresh})
	}
	return all
}

func TestTheSubjectSaysTheOutcome(t *testing.T) {
	note := []backup.DigestNote{{Server: "a"}}
	for _, c := range []struct {
		d    backup.Digest
		want string
		mood string
	}{
		{backup.Digest{Complete: 1}, "alpha: 1 backup complete", "good"},
		{backup.Digest{Complete: 12}, "alpha: 12 backups complete", "good"},
		{backup.Digest{Complete: 12, Overdue: note}, "alpha: 12 backups complete, 1 volume overdue", "mixed"},
		{backup.Digest{Failed: 1}, "alpha: the backup failed", "bad"},
		{backup.Digest{Failed: 3}, "alpha: all 3 backups failed", "bad"},
		{backup.Digest{Failed: 1, Complete: 4}, "alpha: 1 of 5 backups failed", "mixed"},
		{backup.Digest{Protected: 2}, "alpha: no backups were due", "good"},
		{backup.Digest{Protected: 2, Overdue: append(note, note...)}, "alpha: no backups, 2 volumes overdue", "bad"},
		{backup.Digest{}, "alpha: nothing is protected", "mixed"},
		{backup.Digest{Complete: 1, Foreign: copies(1, backup.OriginForged, true)}, "alpha: 1 backup complete, 1 forged backup", "mixed"},
		{backup.Digest{Failed: 3, Foreign: copies(2, backup.OriginForged, true)}, "alpha: all 3 backups failed, 2 forged backups", "bad"},
		{backup.Digest{Complete: 1, Foreign: copies(2, backup.OriginForged, false)}, "alpha: 1 backup complete", "good"},
		{backup.Digest{Complete: 1, Foreign: copies(2, backup.OriginUnverified, true)}, "alpha: 1 backup complete", "good"},
	} {
		c.d.Name, c.d.Zone = "alpha", "UTC"
		w, err := Builtin().Write(c.d)
		if _, mood := headline(c.d); err != nil || w.Subject != c.want || mood != c.mood {
			t.Errorf("%q, %s, %v; want %q, %s", w.Subject, mood, err, c.want, c.mood)
		}
	}
}

func TestUnitsAndTimes(t *testing.T) {
	begin := time.Date(2026, 3, 29, 0, 30, 0, 0, time.UTC)
	run := func(d time.Duration) backup.DigestRun {
		return backup.DigestRun{Started: begin, Ended: begin.Add(d)}
	}
	for got, want := range map[string]string{
		size(0): "0 GiB", size(1): "1 GiB", size(1023): "1023 GiB", size(1024): "1 TiB", size(1536): "1.5 TiB",
		took(run(0)): "0 s", took(run(59 * time.Second)): "59 s", took(run(4 * time.Minute)): "4 min", took(run(60 * time.Minute)): "1 h 0 min", took(run(26*time.Hour + 5*time.Minute)): "26 h 5 min",
		took(backup.DigestRun{}): "unknown", took(run(-time.Hour)): "unknown",
		at(begin, "Europe/Berlin"): "29 Mar 2026 01:30 CET", at(begin.Add(time.Hour), "Europe/Berlin"): "29 Mar 2026 03:30 CEST", at(begin, "Not/AZone"): "29 Mar 2026 00:30 UTC", at(time.Time{}, "UTC"): "unknown",
		plural(0, "volume"): "0 volumes", plural(1, "volume"): "1 volume",
		level(backup.QuotaFact{Limit: -1}): "no limit", level(backup.QuotaFact{Limit: 10, Used: 10}): "full", level(backup.QuotaFact{Limit: 10, Used: 11}): "over the limit",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestTemplatesOfTheOperators(t *testing.T) {
	write := func(files map[string]string) string {
		dir := t.TempDir()
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	builtin, _ := Builtin().Write(Example())
	for _, c := range []struct {
		sentence string
		files    map[string]string
		problem  string
		subject  string
	}{
		{"Each file may be replaced alone", map[string]string{"subject.txt": "[backup] {{.Name}} {{plural .Failed \"failure\"}}"}, "", "[backup] alpha 2 failures"},
		{"A slip in the grammar: the built-in one, and what is wrong", map[string]string{"subject.txt": "{{.Name"}, "subject.txt:1: unclosed action", builtin.Subject},
		{"A field that there is not", map[string]string{"subject.txt": "{{.Nmae}}"}, "can't evaluate field Nmae", builtin.Subject},
		{"Too long, or without an end", map[string]string{"subject.txt": `{{repeat 900000 "x"}}`}, "more than 102400 bytes", builtin.Subject},
		{"A directory without templates", map[string]string{"readme": ""}, "no template in", builtin.Subject},
	} {
		theme, err := Load(write(c.files))
		if (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%s: %v", c.sentence, err)
		}
		w, err := theme.Write(Example())
		if err != nil || w.Subject != c.subject || w.HTML != builtin.HTML || w.Text != builtin.Text {
			t.Errorf("%s: %q, %v", c.sentence, w.Subject, err)
		}
	}
	if theme, err := Load(""); err != nil || theme == nil {
		t.Error(err)
	}
	// One that works for the example and fails for others: told, and the letter is good.
	theme, err := Load(write(map[string]string{"digest.txt": "{{(index .Failures 0).Server}}"}))
	if err != nil {
		t.Fatal(err)
	}
	w, err := theme.Write(situations()["all-well"])
	if err == nil || !strings.Contains(w.Text, "3 backups complete") || w.HTML == "" {
		t.Errorf("%v: %q", err, w.Text)
	}
}

// Whatever the facts, there are words, and they are small enough.
func TestThereAreAlwaysWords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String()
		d := backup.Digest{Name: text.Draw(t, "name"), Zone: text.Draw(t, "zone"), Held: text.Draw(t, "held"),
			Complete: rapid.IntRange(0, 1e6).Draw(t, "complete"), Failed: rapid.IntRange(0, 1e6).Draw(t, "failed"),
			Backups: backup.QuotaFact{Limit: rapid.IntRange(-1, 1e9).Draw(t, "limit"), Used: rapid.IntRange(0, 1e9).Draw(t, "used"), Percent: rapid.IntRange(0, 1e9).Draw(t, "percent")}}
		for range rapid.IntRange(0, 50).Draw(t, "runs") {
			d.Runs = append(d.Runs, backup.DigestRun{Server: text.Draw(t, "server"), Volume: text.Draw(t, "volume"), Why: text.Draw(t, "why"), OK: rapid.Bool().Draw(t, "ok"), Size: rapid.Int().Draw(t, "size")})
		}
		w, err := Builtin().Write(d)
		if err != nil || len(w.HTML) > MaxHTML || w.Text == "" || strings.ContainsAny(w.Subject, "\r\n") {
			t.Fatalf("%v, %d bytes, subject %q", err, len(w.HTML), w.Subject)
		}
	})
}
