package words

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode"

	"staffeln/functions/backup"
)

// maxRows is how many rows a table has before the first try to make it fit.
const maxRows = 200

// A View is what templates are given: the facts, cut down to what fits into a
// mail. Lists hold at most as many rows as there is room for; the number of those
// left out stands in More.
type View struct {
	backup.Digest
	// Failures and Successes are Runs, parted.
	Failures, Successes []backup.DigestRun
	// More is how many rows are missing, by the name of the list: "Failures",
	// "Successes", "Removed", "Overdue", "Recovered", "Locked", "Skipped", "Empty", "Invalid",
	// "Outside".
	More map[string]int
	// Failing counts all failures that their owner must act on.
	Failing int
	// Mood is "good", "bad" or "mixed": how the whole went.
	Mood string
	// Headline is the outcome in a sentence without a full stop.
	Headline string
	// Forged and Unverified are Foreign, parted; "Forged" and "Unverified" in More.
	Forged, Unverified []backup.DigestForeign
}

func view(d backup.Digest, rows int) View {
	v := View{Digest: d, More: map[string]int{}}
	for _, r := range d.Runs {
		r.Server, r.Volume, r.Why = short(r.Server), short(r.Volume), backup.Line(r.Why, 300)
		r.Kind = backup.Kind(short(string(r.Kind)))
		if r.OK {
			v.Successes = append(v.Successes, r)
			continue
		}
		v.Failures = append(v.Failures, r)
		if r.Theirs {
			v.Failing++
		}
	}
	v.Failures = most(v.Failures, rows, d.Failed, v.More, "Failures")
	v.Successes = most(v.Successes, rows, d.Complete, v.More, "Successes")
	v.Removed = most(v.Removed, max(rows/4, 1), d.Removals, v.More, "Removed")
	for i, r := range v.Removed {
		r.Name, r.Why = short(cmp.Or(r.Name, r.Backup)), backup.Line(r.Why, 300)
		r.Kind = backup.Kind(short(string(r.Kind)))
		v.Removed[i] = r
	}
	for name, list := range map[string]*[]backup.DigestNote{
		"Overdue": &v.Overdue, "Recovered": &v.Recovered, "Locked": &v.Locked, "Skipped": &v.Skipped, "Empty": &v.Empty, "Invalid": &v.Invalid, "Outside": &v.Outside,
	} {
		*list = most(*list, max(rows/4, 1), 0, v.More, name)
		for i, n := range *list {
			(*list)[i] = backup.DigestNote{Server: short(n.Server), Volume: short(n.Volume), Why: backup.Line(n.Why, 300)}
		}
	}
	v.partForeign(rows)
	v.Name, v.Zone = short(v.Name), short(v.Zone)
	v.QuotaUnknown, v.Held = backup.Line(v.QuotaUnknown, 300), backup.Line(v.Held, 300)
	v.Headline, v.Mood = headline(d)
	return v
}

// most cuts a list, of which it makes a copy, and notes how many of all are missing.
func most[T any](list []T, rows, all int, more map[string]int, name string) []T {
	all = max(all, len(list))
	list = list[:min(len(list), rows)]
	if all > len(list) {
		more[name] = all - len(list)
	}
	return append([]T(nil), list...)
}

// mostForeign is how many backups of one kind that only look like ours are shown.
const mostForeign = 20

// partForeign parts the backups that only look like ours.
func (v *View) partForeign(rows int) {
	for _, f := range v.Foreign {
		f.Name, f.Volume, f.Backup = short(f.Name), short(f.Volume), short(f.Backup)
		if f.Origin == backup.OriginForged {
			v.Forged = append(v.Forged, f)
		} else {
			v.Unverified = append(v.Unverified, f)
		}
	}
	rows = min(max(rows/4, 1), mostForeign)
	v.Forged = most(v.Forged, rows, 0, v.More, "Forged")
	v.Unverified = most(v.Unverified, rows, 0, v.More, "Unverified")
}

// headline is the outcome, and how many forged backups are new: somebody may have the
// owner's credentials.
func headline(d backup.Digest) (words, mood string) {
	words, mood = outcome(d)
	forged := 0
	for _, f := range d.Foreign {
		if f.New && f.Origin == backup.OriginForged {
			forged++
		}
	}
	if forged == 0 {
		return words, mood
	}
	if mood == "good" {
		mood = "mixed"
	}
	return words + ", " + plural(forged, "forged backup"), mood
}

func outcome(d backup.Digest) (words, mood string) {
	late := ""
	if n := len(d.Overdue); n > 0 {
		late = fmt.Sprintf(", %s overdue", plural(n, "volume"))
	}
	switch {
	case d.Failed > 0 && d.Complete == 0 && d.Failed == 1:
		return "the backup failed" + late, "bad"
	case d.Failed > 0 && d.Complete == 0:
		return fmt.Sprintf("all %s failed", plural(d.Failed, "backup")) + late, "bad"
	case d.Failed > 0:
		return fmt.Sprintf("%d of %s failed", d.Failed, plural(d.Failed+d.Complete, "backup")) + late, "mixed"
	case d.Complete > 0:
		mood = "good"
		if late != "" {
			mood = "mixed"
		}
		return plural(d.Complete, "backup") + " complete" + late, mood
	case late != "":
		return "no backups" + late, "bad"
	case d.Protected > 0:
		return "no backups were due", "good"
	}
	return "nothing is protected", "mixed"
}

// short fits a name into a row.
func short(s string) string { return backup.Line(s, 60) }

// functions are those that templates can call, besides Go's own.
var functions = map[string]any{
	// plural is a count with its word: plural 1 "backup" is "1 backup".
	"plural": plural,
	// size writes GiB: "10 GiB", "1.5 TiB".
	"size": size,
	// took is how long a run went: "4 min".
	"took": took,
	// at writes a time in the digest's zone: at .To .Zone.
	"at": at,
	// day is the same without the time of day.
	"day": day,
	// days counts whole days between two times.
	"days": func(from, to time.Time) int { return int(to.Sub(from) / (24 * time.Hour)) },
	// level puts a quota's level into a word: "plenty left".
	"level": level,
	// bar is how many of 20 parts of a quota's bar are full.
	"bar": bar,
	// rest is what is left of the bar.
	"rest": func(q backup.QuotaFact) int { return 20 - bar(q) },
	// repeat writes a text n times.
	"repeat": func(n int, s string) string { return strings.Repeat(s, max(n, 0)) },
	// pad fills a text up to n characters.
	"pad": func(n int, s string) string {
		return s + strings.Repeat(" ", max(0, n-len([]rune(s))))
	},
	// upper begins a sentence.
	"upper": func(s string) string {
		r := []rune(s)
		if len(r) > 0 {
			r[0] = unicode.ToUpper(r[0])
		}
		return string(r)
	},
	// quota makes one of the two quotas ready to be shown: quota "Backups" .Backups .Zone.
	// It has What, Q (the facts), Used, Limit, Needs and When in words, Colour and Width.
	"quota": quota,
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

func size(gib int) string {
	if gib < 1024 {
		return fmt.Sprintf("%d GiB", gib)
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(gib)/1024), ".0") + " TiB"
}

func took(r backup.DigestRun) string {
	d := r.Ended.Sub(r.Started).Round(time.Second)
	switch {
	case d < 0 || r.Started.IsZero():
		return "unknown"
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Round(time.Minute).Minutes()))
	}
	d = d.Round(time.Minute)
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}

func zone(name string) *time.Location {
	if l, err := time.LoadLocation(name); err == nil {
		return l
	}
	return time.UTC
}

func at(t time.Time, in string) string {
	if t.IsZero() {
		return "unknown"
	}
	return t.In(zone(in)).Format("2 Jan 2006 15:04 MST")
}

func day(t time.Time, in string) string { return t.In(zone(in)).Format("2 Jan 2006") }

func level(q backup.QuotaFact) string {
	switch {
	case q.Unlimited():
		return "no limit"
	case q.Used > q.Limit:
		return "over the limit"
	case q.Used >= q.Limit:
		return "full"
	case q.Level == backup.High:
		return "nearly full"
	case q.Level == backup.Middle:
		return "filling up"
	}
	return "plenty left"
}

func bar(q backup.QuotaFact) int {
	n := (max(min(q.Percent, 100), 0) + 4) / 5
	if q.Unlimited() {
		return 0
	}
	return n
}

// A quotaView is a quota ready to be shown.
type quotaView struct {
	What                     string
	Q                        backup.QuotaFact
	Used, Limit, Needs, When string
	// Colour is that of the bar, Width its length in percent.
	Colour string
	Width  int
}

func quota(what string, q backup.QuotaFact, in string) quotaView {
	count := func(n int) string { return fmt.Sprint(n) }
	if what != "Backups" {
		count = size
	}
	v := quotaView{What: what, Q: q, Used: count(q.Used), Limit: count(q.Limit), Needs: count(q.Needs), Width: bar(q) * 5}
	if !q.Full.IsZero() {
		v.When = "on " + day(q.Full, in)
		if q.Used >= q.Limit {
			v.When = "now"
		}
	}
	v.Colour = map[backup.Level]string{backup.Low: "#2da44e", backup.Middle: "#d4a72c", backup.High: "#cf222e"}[q.Level]
	return v
}
