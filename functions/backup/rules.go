package backup

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Rules are archive rules: how many restore points are kept whatever their age,
// with the meaning that restic gives them. -1 is all of them, 0 none by that rule.
type Rules struct {
	Last, Hourly, Daily, Weekly, Monthly, Yearly int
}

// The rules, in the order they are written in.
const (
	ruleLast = iota
	ruleHourly
	ruleDaily
	ruleWeekly
	ruleMonthly
	ruleYearly
	ruleCount
)

var ruleNames = [ruleCount]string{"last", "hourly", "daily", "weekly", "monthly", "yearly"}

// maxRule bounds a rule: beyond it a value is taken for a slip, and "unlimited" is
// the word for what was meant.
const maxRule = 100000

const (
	unlimited    = "unlimited"
	rulesGrammar = `want none, or each of last hourly daily weekly monthly yearly at most once, such as "daily=7 monthly=12", with a number up to 100000 or unlimited`
)

// ParseRules reads "last=3 hourly=24 daily=7 weekly=4 monthly=12 yearly=3", in any
// order, any of them left out; "none" and "" are no rules at all. As with restic,
// "unlimited" or -1 keeps all of that sort, and 0 is the same as left out.
func ParseRules(s string) (Rules, error) {
	words := strings.Fields(s)
	if len(words) == 0 || len(words) == 1 && words[0] == "none" {
		return Rules{}, nil
	}
	var r Rules
	var seen [ruleCount]bool
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		rule := 0
		for rule < ruleCount && ruleNames[rule] != name {
			rule++
		}
		if rule == ruleCount {
			return Rules{}, fmt.Errorf("%.60q are no archive rules: %.40q is not one: %s", s, name, rulesGrammar)
		}
		if seen[rule] {
			return Rules{}, fmt.Errorf("%.60q are no archive rules: %s comes twice: %s", s, name, rulesGrammar)
		}
		seen[rule] = true
		n, err := strconv.Atoi(value)
		if value == unlimited {
			n, err = -1, nil
		}
		if err != nil || n < -1 || n > maxRule || value[0] == '+' {
			return Rules{}, fmt.Errorf("%.60q are no archive rules: %s cannot be %.40q: %s", s, name, value, rulesGrammar)
		}
		*r.of(rule) = n
	}
	return r, nil
}

// of is the number of one rule.
func (r *Rules) of(rule int) *int {
	return [ruleCount]*int{&r.Last, &r.Hourly, &r.Daily, &r.Weekly, &r.Monthly, &r.Yearly}[rule]
}

// UnmarshalText reads what [ParseRules] reads.
func (r *Rules) UnmarshalText(text []byte) error {
	got, err := ParseRules(string(text))
	if err == nil {
		*r = got
	}
	return err
}

// IsZero says whether there are none.
func (r Rules) IsZero() bool { return r == Rules{} }

// lapse is when a backup made at created, counted in the calendar of created's
// location, is past the span of each of the rules: twelve months for monthly=12. It
// is zero where none of them has one, which is so of last=3. lasting says that one
// keeps all of its sort, or for longer than a date can be written.
func (r Rules) lapse(created time.Time) (end time.Time, lasting bool) {
	for rule := range ruleCount {
		n := *r.of(rule)
		var span Age
		switch rule {
		case ruleHourly:
			span.Hours = n
		case ruleDaily:
			span.Days = n
		case ruleWeekly:
			span.Weeks = n
		case ruleMonthly:
			span.Months = n
		case ruleYearly:
			span.Years = n
		}
		if n < 0 {
			return time.Time{}, true
		}
		if at := span.After(created); !span.IsZero() && at.After(end) {
			end = at
		}
	}
	if end.Year() >= 9999 { // RFC 3339, and so JSON, has four digits
		return time.Time{}, true
	}
	return end, false
}

// String writes them as [ParseRules] reads them; "none" for none.
func (r Rules) String() string {
	var parts []string
	for rule, name := range ruleNames {
		if n := *r.of(rule); n != 0 {
			parts = append(parts, name+"="+ruleNumber(n))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, " ")
}

func ruleNumber(n int) string {
	if n < 0 {
		return unlimited
	}
	return strconv.Itoa(n)
}

// An Archive is where the first restore point of every month or year goes, made as
// a full backup; zero for nowhere.
type Archive struct {
	// Container is Cinder's backup container.
	Container string
	// Every is [Month] or [Year].
	Every Span
}

// Span is a part of the calendar.
type Span string

// The spans of an [Archive].
const (
	Month Span = "month"
	Year  Span = "year"
)

// Key names the span that t lies in, by the clock of t's location: "2026-11" or
// "2026".
func (s Span) Key(t time.Time) string {
	if s == Year {
		return t.Format("2006")
	}
	return t.Format("2006-01")
}

// A point is a complete restore point as the archive rules see it.
type point struct {
	created  time.Time
	archived Span
	// by is the tally of the rules it was made under; nil for none.
	by *tally
	// stays says that its retention time keeps it.
	stays bool
	// apart says that it counts for its own tally only.
	apart bool

	// kept are the rules that keep it, in words.
	kept []string
	// shifts is when that may change though nothing is made or removed; zero for never.
	shifts time.Time
}

// keeps are the rules that keep it, in words; "" for none.
func (p *point) keeps() string {
	if p == nil {
		return ""
	}
	return strings.Join(p.kept, ", ")
}

// A tally counts restore points, newest first, for one set of rules by the wall
// clock of one zone. What it counts are hours, days, weeks (from Monday), months
// and years that have at least one; restic does the same (its
// internal/data/snapshot_policy.go and doc/060_forget.rst).
//
// Every backup that stays counts, whatever policy it was made under; but what an
// hour or a month is kept by is one of the tally's own. So the backups of an
// earlier policy make way for those that come after, and none makes way for one
// that goes before it.
type tally struct {
	rules Rules
	zone  *time.Location
	// left is how many more may be counted, used how many were; bucket is the newest
	// hour, day... counted so far; taken says that one of the tally's own is kept for it.
	left, used, bucket [ruleCount]int
	taken              [ruleCount]bool
	// archived are the points that lie in the archive, by month and by year: there
	// the rule keeps them rather than the newest.
	archived [ruleCount]map[int]*point
}

func newTally(rules Rules, zone *time.Location) *tally {
	t := &tally{rules: rules, zone: zone}
	for rule := range ruleCount {
		t.left[rule], t.bucket[rule] = *rules.of(rule), -1
	}
	return t
}

// bucketOf numbers the hour, day... that the nth point lies in.
func (t *tally) bucketOf(rule, nth int, created time.Time) int {
	at := created.In(t.zone)
	switch rule {
	case ruleHourly:
		return ((at.Year()*12+int(at.Month()))*31+at.Day())*24 + at.Hour()
	case ruleDaily:
		return (at.Year()*12+int(at.Month()))*31 + at.Day()
	case ruleWeekly:
		year, week := at.ISOWeek()
		return year*100 + week
	case ruleMonthly:
		return at.Year()*12 + int(at.Month()) - 1
	case ruleYearly:
		return at.Year()
	}
	return nth
}

// prefer notes a point of the tally's own that lies in the archive; they come
// newest first.
func (t *tally) prefer(p *point) {
	note := func(rule int) {
		if *t.rules.of(rule) == 0 {
			return
		}
		if t.archived[rule] == nil {
			t.archived[rule] = map[int]*point{}
		}
		bucket := t.bucketOf(rule, 0, p.created)
		// Where there are archived months and an archived year, the year's own is the year's.
		if have := t.archived[rule][bucket]; have == nil || rule == ruleYearly && p.archived == Year && have.archived != Year {
			t.archived[rule][bucket] = p
		}
	}
	switch p.archived {
	case Month:
		note(ruleMonthly)
		note(ruleYearly)
	case Year:
		note(ruleYearly)
	}
}

// keeps says which rules keep the nth point, one of the tally's own.
func (t *tally) keeps(nth int, p *point) (by [ruleCount]bool, any bool) {
	for rule := range ruleCount {
		if *t.rules.of(rule) == 0 {
			continue
		}
		bucket := t.bucketOf(rule, nth, p.created)
		if open := bucket == t.bucket[rule]; open && t.taken[rule] || !open && t.left[rule] == 0 {
			continue
		}
		if better := t.archived[rule][bucket]; better != nil && better != p {
			continue
		}
		by[rule], any = true, true
	}
	return by, any
}

// count counts a point that stays, by the rules of the tally or otherwise.
func (t *tally) count(nth int, p *point, by [ruleCount]bool) {
	for rule := range ruleCount {
		if *t.rules.of(rule) == 0 {
			continue
		}
		if bucket := t.bucketOf(rule, nth, p.created); bucket != t.bucket[rule] {
			if t.left[rule] == 0 {
				continue
			}
			t.bucket[rule], t.taken[rule] = bucket, false
			t.used[rule]++
			if t.left[rule] > 0 {
				t.left[rule]--
			}
		}
		if by[rule] {
			t.taken[rule] = true
			p.kept = append(p.kept, fmt.Sprintf("%s %d of %s", ruleNames[rule], t.used[rule], ruleNumber(*t.rules.of(rule))))
		}
	}
}

// applyRules decides which of the points, newest first, archive rules keep.
//
// One that nothing keeps counts nowhere: whether it is still there or gone already
// makes no difference to the others.
func applyRules(points []*point, tallies []*tally) {
	if len(tallies) == 0 {
		return
	}
	for _, p := range points {
		if p.by != nil && p.archived != "" {
			p.by.prefer(p)
		}
	}
	for nth, p := range points {
		var by [ruleCount]bool
		stays := p.stays
		if p.by != nil {
			var any bool
			by, any = p.by.keeps(nth, p)
			stays = stays || any
		}
		if !stays {
			continue
		}
		for _, t := range tallies {
			if t == p.by {
				t.count(nth, p, by)
			} else if !p.apart {
				t.count(nth, p, [ruleCount]bool{})
			}
		}
	}
	// While a rule has some left, the oldest of all stays as well, so that the history
	// reaches as far back as it can. One that is apart is the oldest of its own only.
	reached := map[*tally]bool{}
	for _, p := range slices.Backward(points) {
		if t := p.by; t != nil && len(p.kept) == 0 && !reached[t] {
			for rule := range ruleCount {
				if t.left[rule] != 0 {
					p.kept = append(p.kept, "oldest "+ruleNames[rule])
				}
			}
		}
		if stays := len(p.kept) > 0 || p.stays; stays && p.apart {
			reached[p.by] = true
		} else if stays {
			break
		}
	}
}
