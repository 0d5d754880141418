package plan

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"staffeln/functions/backup"
)

// Width is how many columns [Plan.Table] takes at most.
const Width = 100

// The columns besides the reason, which takes what is left.
const (
	doWidth   = 7  // "running"
	nameMost  = 36 // wider names are cut
	kindWidth = 4  // "incr"
	timeWidth = len(minutes)
	minutes   = "2006-01-02 15:04"
)

// Table writes the plan for a person, in UTC. Ids in reasons are cut to their
// first eight digits; the JSON has them whole. Names are tenants' input: what a
// terminal would take for a command is replaced.
func (p Plan) Table(to io.Writer) error {
	out := bufio.NewWriter(to)
	t := table{out, p.nameWidth()}
	t.head(p)
	backups := map[string][]Backup{}
	for _, b := range p.Backups {
		backups[b.Project] = append(backups[b.Project], b)
	}
	fates := map[string][]Fate{}
	for _, f := range p.Retention {
		fates[f.Project] = append(fates[f.Project], f)
	}
	for _, one := range p.Projects {
		if len(backups[one.ID])+len(fates[one.ID]) > 0 || one.Held != "" && one.Removals > 0 || one.HeldNow != "" {
			t.project(one, backups[one.ID], fates[one.ID])
		}
	}
	t.foreign(p.Foreign)
	t.warnings(p.Warnings)
	t.end(p)
	return out.Flush()
}

// table is a table being written.
type table struct {
	out *bufio.Writer
	// name is the width of the column for names.
	name int
}

// nameWidth is what the widest name takes.
func (p Plan) nameWidth() int {
	n := len("SERVER / VOLUME")
	for _, b := range p.Backups {
		n = max(n, utf8.RuneCountInString(b.title()))
	}
	for _, f := range p.Retention {
		n = max(n, utf8.RuneCountInString(f.title()))
	}
	return min(n, nameMost)
}

func (b Backup) title() string {
	return cmp.Or(b.ServerName, b.Server) + " / " + cmp.Or(b.VolumeName, b.Volume)
}

func (f Fate) title() string { return cmp.Or(f.Name, f.Backup) }

func (t table) head(p Plan) {
	t.text("", fmt.Sprintf("Plan for %s, by the cloud as of %s. Nothing is changed.", clock(p.At), clock(p.Read)))
	switch p.Ledger {
	case "asked":
	case "none":
		t.text("", "No ledger was asked (STAFFELN_REDIS_URL): what only it knows is left out.")
	default:
		t.text("", "The ledger was not to be read, and what only it knows is left out: "+p.Ledger)
	}
	if p.Cloud.Brake != "" {
		t.text("", "BRAKE of the cloud: "+brake(p.Cloud))
	}
}

func clock(at time.Time) string { return at.UTC().Format("2006-01-02 15:04:05") + " UTC" }

func brake(s Sum) string {
	if s.Held() {
		return s.Brake + ". Nothing is removed until it is released (staffeln brake)."
	}
	return fmt.Sprintf("%s, but released until %s for %d removals.", s.Brake, clock(s.Released), s.ReleasedFor)
}

func (t table) project(p Project, backups []Backup, fates []Fate) {
	fmt.Fprintln(t.out)
	head := "project " + cmp.Or(p.Name, p.ID)
	if q := p.Quota; q != nil {
		head += fmt.Sprintf(": quota %s backups, %s GiB", of(q.BackupsUsed, q.Backups), of(q.GigabytesUsed, q.Gigabytes))
	}
	t.text("", head)
	if p.Brake != "" {
		t.text("  ", "BRAKE: "+brake(p.Sum))
	} else if p.Held != "" && p.Removals > 0 {
		t.text("  ", "HELD: "+p.Held)
	}
	if p.HeldNow != "" && (p.Brake == "" || !strings.HasSuffix(p.HeldNow, p.Brake)) {
		t.text("  ", "When retention last looked: "+p.HeldNow)
	}
	if len(backups) > 0 {
		t.row("DO", "SERVER / VOLUME", "KIND", "DUE", "WHY")
	}
	for _, b := range backups {
		t.row(string(b.Do), b.title(), short(b.Kind), at(b.Due), b.Why)
	}
	if len(fates) > 0 {
		t.row("DO", "BACKUP", "KIND", "MADE", "WHY")
	}
	for _, f := range fates {
		why := f.Why
		if f.Step > 0 {
			why = fmt.Sprintf("%d. %s", f.Step, why)
		}
		if f.Blocked != "" && f.Blocked != p.Held {
			why += "; blocked: " + f.Blocked
		}
		if f.Verdict == Keep && !f.Until.IsZero() {
			why += ", until " + f.Until.UTC().Format("2006-01-02T15:04Z")
		}
		t.row(f.Verdict, f.title(), short(f.Kind), at(f.Created), why)
	}
}

// of is "3 of 10", with words for no limit.
func of(used, limit int) string {
	if limit < 0 {
		return fmt.Sprintf("%d of any number of", used)
	}
	return fmt.Sprintf("%d of %d", used, limit)
}

func short(k backup.Kind) string {
	if k == backup.Incremental {
		return "incr"
	}
	return string(k)
}

func at(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(minutes)
}

func (t table) warnings(all []Warning) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(t.out, "\nWARNINGS\n")
	for _, w := range all {
		about := ""
		if w.Project != "" {
			about = "project " + cmp.Or(w.ProjectName, w.Project) + ": "
		}
		if w.Server != "" {
			about += "server " + cmp.Or(w.ServerName, w.Server) + ": "
		}
		if w.Volume != "" {
			about += "volume " + w.Volume + ": "
		}
		t.text("  ", about+w.Why)
	}
}

// mostForeign is how many lines about backups that are not ours the table has; the JSON
// has all.
const mostForeign = 20

// foreign tells of those of a volume of which the same is to be said at once.
func (t table) foreign(all []Foreign) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(t.out, "\nNOT OURS, BUT WITH OUR METADATA\n")
	type about struct{ project, volume, why string }
	var order []about
	groups := map[about][]Foreign{}
	for _, f := range all {
		a := about{f.Project, f.Volume, f.Why}
		if len(groups[a]) == 0 {
			order = append(order, a)
		}
		groups[a] = append(groups[a], f)
	}
	for _, a := range order[:min(len(order), mostForeign)] {
		g := groups[a]
		f, which := g[0], "backup "+g[0].Backup+", "
		if len(g) > 1 {
			which = fmt.Sprintf("%d backups of %s to %s, each ", len(g), at(f.Created), at(g[len(g)-1].Created))
		}
		t.text("  ", fmt.Sprintf("project %s: volume %s: %s%s: %s", cmp.Or(f.ProjectName, f.Project), cmp.Or(f.VolumeName, f.Volume), which, f.Origin, f.Why))
	}
	if n := len(order) - mostForeign; n > 0 {
		t.text("  ", fmt.Sprintf("and as much about %d more volumes (--json)", n))
	}
}

func (t table) end(p Plan) {
	counts := map[Do]int{}
	for _, b := range p.Backups {
		counts[b.Do]++
	}
	removals, blocked := 0, 0
	for _, f := range p.Retention {
		if f.Verdict == Remove {
			removals++
			if f.Blocked != "" {
				blocked++
			}
		}
	}
	var parts []string
	say := func(n int, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	say(counts[Start]+counts[Adopt], "to start")
	say(counts[Queue], "to start after those")
	say(counts[Wait], "to wait")
	say(counts[Fail], "to fail")
	say(removals-blocked, "to remove")
	say(blocked, "to remove that may not go now")
	fmt.Fprintln(t.out)
	if len(parts) == 0 {
		fmt.Fprintln(t.out, "Nothing to do.")
		return
	}
	t.text("", strings.Join(parts, ", ")+".")
}

// row writes one line of a table, and the rest of its reason below.
func (t table) row(do, name, kind, when, why string) {
	indent := 2 + doWidth + 2 + t.name + 2 + kindWidth + 2 + timeWidth + 2
	lines := wrap(words(why), Width-indent, Width-indent)
	fmt.Fprintf(t.out, "  %-*s  %s  %-*s  %-*s  %s\n", doWidth, do, pad(Printable(name), t.name), kindWidth, kind, timeWidth, when, lines[0])
	for _, line := range lines[1:] {
		fmt.Fprintf(t.out, "%*s%s\n", indent, "", line)
	}
}

// text writes a sentence in as many lines as it takes.
func (t table) text(indent, s string) {
	lines := wrap(words(s), Width-len(indent), Width-len(indent+more))
	fmt.Fprintln(t.out, indent+lines[0])
	for _, line := range lines[1:] {
		fmt.Fprintln(t.out, indent+more+line)
	}
}

// sentence is the same at the left margin, with whole ids.
func (t table) sentence(s string) {
	for _, line := range wrap(Printable(s), Width, Width) {
		fmt.Fprintln(t.out, line)
	}
}

// more is the indent of a sentence's further lines.
const more = "    "

var uuid = regexp.MustCompile(`\b([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`)

// words is a text as the table shows it.
func words(s string) string { return uuid.ReplaceAllString(Printable(s), "$1") }

// Printable replaces what is not: a name could hold commands to the terminal.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// pad makes a text that many characters wide, leaving out the middle of one that is
// longer: the end of a backup's name is its date.
func pad(s string, width int) string {
	r := []rune(s)
	if len(r) > width {
		head := (width - 1) / 2
		tail := width - 1 - head
		return string(r[:head]) + "…" + string(r[len(r)-tail:])
	}
	return s + strings.Repeat(" ", width-len(r))
}

// wrap parts a text at its blanks into lines of at most width characters, the first
// of at most first; a word that is longer is cut. There is at least one line.
func wrap(s string, first, width int) []string {
	lines := []string{""}
	n, most := 0, first
	for word := range strings.FieldsSeq(s) {
		r := []rune(word)
		for len(r) > 0 {
			switch last := &lines[len(lines)-1]; {
			case n == 0:
				cut := min(len(r), most)
				*last, n, r = string(r[:cut]), cut, r[cut:]
			case n+1+len(r) <= most:
				*last, n, r = *last+" "+string(r), n+1+len(r), nil
			default:
				lines, n, most = append(lines, ""), 0, width
			}
		}
	}
	return lines
}
