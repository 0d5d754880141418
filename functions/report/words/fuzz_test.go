package words

import (
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"staffeln/functions/backup"
)

// Whatever a cloud's names, reasons and figures are, the letter is one that can be
// sent: a subject of one line, HTML below the limit that is well formed and has no
// element but those of the template, and a text without commands to a terminal.
func FuzzWrite(f *testing.F) {
	add := func(d backup.Digest) {
		r, n := d.Runs[0], d.Invalid[0]
		f.Add(d.Name, r.Server, r.Volume, r.Why, n.Server, n.Why, d.QuotaUnknown, d.Held, string(r.Kind), d.Zone, d.Backups.Used, d.Backups.Limit, d.Backups.Percent, r.Size, len(d.Runs), int64(3600))
	}
	for name, d := range situations() {
		if name == "something-of-everything" || name == "nasty-names" || name == "all-failed" {
			add(d)
		}
	}
	f.Add("=?utf-8?q?=0D=0A?=", "</td></table><b>", "&amp;", "<!--", "]]>", "</style><script>", strings.Repeat("<", 100_000), strings.Repeat("ü", 70_000), "<img src=x>", "Mars/Olympus", -1, -2, 1<<62, -1<<62, 5000, int64(-1<<62))
	f.Add("", "", "", "", "", "", "two\nlines", "three\r\nand\x1b[2Jmore", "\u202ellun", "", 1<<62, 0, -1<<62, 1<<62, 0, int64(1<<62))
	f.Fuzz(func(t *testing.T, name, server, volume, why, server2, why2, unknown, held, kind, zone string, used, limit, percent, size, runs int, seconds int64) {
		d := Example()
		d.Name, d.QuotaUnknown, d.Held, d.Zone = name, unknown, held, zone
		d.Backups.Used, d.Backups.Limit, d.Backups.Percent = used, limit, percent
		d.Gigabytes.Used, d.Gigabytes.Limit, d.Gigabytes.Percent, d.Gigabytes.Needs = size, used, limit, percent
		run := d.Runs[0]
		run.Server, run.Volume, run.Why, run.Kind, run.Size, run.Ended = server, volume, why, backup.Kind(kind), size, run.Started.Add(time.Duration(seconds))
		note := backup.DigestNote{Server: server2, Volume: volume, Why: why2}
		gone := d.Removed[0]
		gone.Name, gone.Why, gone.Kind = volume, why2, backup.Kind(kind)
		copied := backup.DigestForeign{Backup: server, Name: volume, Volume: server2, Origin: backup.Origin(kind), New: used > 0}
		forged := copied
		forged.Origin = backup.OriginForged
		d.Foreign = nil
		d.Runs, d.Removed, d.Invalid, d.Overdue, d.Locked, d.Skipped = nil, nil, nil, nil, nil, nil
		for i := range (runs%64 + 64) % 64 {
			run.OK = i%2 == 0
			d.Foreign = append(d.Foreign, copied, forged)
			d.Runs, d.Removed = append(d.Runs, run), append(d.Removed, gone)
			d.Invalid, d.Overdue, d.Locked, d.Skipped = append(d.Invalid, note), append(d.Overdue, note), append(d.Locked, note), append(d.Skipped, note)
		}
		w, err := Builtin().Write(d)
		if err != nil {
			t.Fatalf("no letter: %.500s", err)
		}
		if strings.ContainsAny(w.Subject, "\r\n\x00") || !utf8.ValidString(w.Subject) || utf8.RuneCountInString(w.Subject) > 200 {
			t.Fatalf("subject of %d bytes: %.300q", len(w.Subject), w.Subject)
		}
		if len(w.HTML) >= MaxHTML || len(w.Text) >= MaxHTML {
			t.Fatalf("%d bytes of HTML, %d of text", len(w.HTML), len(w.Text))
		}
		if i := strings.IndexFunc(w.Text, func(r rune) bool { return r != '\n' && unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }); i >= 0 {
			t.Fatalf("the text has %q", w.Text[i:min(len(w.Text), i+20)])
		}
		for _, line := range strings.Split(w.Text, "\n") {
			if line == strings.ToUpper(line) && regexp.MustCompile(`^[A-Z]`).MatchString(line) && !slices.Contains(headlines, line) {
				t.Fatalf("a heading that is not the template's: %.200q", line)
			}
		}
		wellFormed(t, w.HTML)
	})
}

// headlines are those of digest.txt.
var headlines = []string{"FAILED", "OVERDUE: NO BACKUP AS YOUNG AS PROMISED", "CHANGES THAT ARE NOT IN FORCE YET", "VALUES THAT WERE NOT UNDERSTOOD", "QUOTA", "COMPLETE", "WORKS AGAIN", "REMOVED, AS THE POLICY SAYS", "NOT PROTECTED",
	"NOT MADE BY THE BACKUP SERVICE", "NOBODY CAN SAY WHO MADE THEM"}

// void are the elements that have no end in HTML.
var void = regexp.MustCompile(`<((?:meta|br)(?: [^<>]*)?)>`)

// wellFormed reads a page as HTML that is XML but for its void elements, and fails
// for what a name could have brought in.
func wellFormed(t *testing.T, page string) {
	t.Helper()
	known := []string{"html", "head", "meta", "title", "style", "body", "table", "tr", "td", "b", "span", "br"}
	attributes := []string{"lang", "charset", "name", "content", "class", "style", "role", "width", "cellspacing", "cellpadding", "align", "valign", "height"}
	r := xml.NewDecoder(strings.NewReader(void.ReplaceAllString(page, "<$1/>")))
	r.Entity = xml.HTMLEntity
	var open []string
	for {
		token, err := r.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("not well formed: %v", err)
		}
		switch e := token.(type) {
		case xml.Comment, xml.ProcInst:
			t.Fatalf("%T in the page", e)
		case xml.StartElement:
			open = append(open, e.Name.Local)
			if !slices.Contains(known, e.Name.Local) {
				t.Fatalf("an element %q", e.Name.Local)
			}
			for _, a := range e.Attr {
				if !slices.Contains(attributes, a.Name.Local) || strings.Contains(a.Value, "ZgotmplZ") {
					t.Fatalf("an attribute %s=%.100q", a.Name.Local, a.Value)
				}
				if a.Name.Local == "width" && strings.HasPrefix(a.Value, "-") || strings.Contains(a.Value, "width:-") {
					t.Fatalf("%s=%q", a.Name.Local, a.Value)
				}
			}
		case xml.EndElement:
			if len(open) == 0 || open[len(open)-1] != e.Name.Local {
				t.Fatalf("</%s> in %v", e.Name.Local, open)
			}
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		t.Fatalf("%v are not closed", open)
	}
}

// Whatever an operator writes for templates: Load says in some words what is wrong,
// and there is always a letter.
func FuzzTemplates(f *testing.F) {
	for file := range []string{"digest.html", "digest.txt", "subject.txt"} {
		src, err := builtin.ReadFile("builtin/" + []string{"digest.html", "digest.txt", "subject.txt"}[file])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(file), string(src[:min(len(src), 1500)]))
	}
	f.Add(uint8(0), `{{range .Runs}}{{range $.Runs}}{{range $.Runs}}x{{end}}{{end}}{{end}}`)
	f.Add(uint8(1), `{{repeat 1000000 "xxxxxxxxxx"}}`)
	f.Add(uint8(2), "{{.Name}}\r\nBcc: eve\r\n")
	f.Add(uint8(2), `{{quota "x" .Backups .Zone}}{{days .From .To}}{{index .More "x"}}{{upper ""}}{{pad -5 ""}}`)
	f.Add(uint8(1), `{{define "a"}}{{template "a" .}}{{end}}{{template "a" .}}`)
	f.Fuzz(func(t *testing.T, file uint8, src string) {
		theme := Builtin()
		name := []string{htmlFile, textFile, subjectFile}[file%3]
		if regexp.MustCompile(`\d{6}|template|printf|repeat|pad|range .*range .*range .*range|break|continue`).MatchString(src) {
			t.Skip("an operator may wait for, or fill the memory with, what they asked for")
		}
		if err := theme.parse(name, src); err != nil {
			if !utf8.ValidString(err.Error()) && utf8.ValidString(src) || len(err.Error()) > len(src)+500 {
				t.Fatalf("%d bytes of error", len(err.Error()))
			}
			return
		}
		w, err := theme.Write(Example())
		if w.Text == "" && name != textFile || w.HTML == "" && name != htmlFile || strings.ContainsAny(w.Subject, "\r\n") || len(w.HTML) >= MaxHTML {
			t.Fatalf("%+.300v, %v", w, err)
		}
	})
}
