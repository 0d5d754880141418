package keep

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"staffeln/functions/backup"
)

// The archive rules, in the order in which they are written.
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

// of is the number of one rule; -1 is all.
func of(r backup.Rules, rule int) int {
	return [ruleCount]int{r.Last, r.Hourly, r.Daily, r.Weekly, r.Monthly, r.Yearly}[rule]
}

// number writes the number of a rule.
func number(n int) string {
	if n < 0 {
		return backup.Unlimited
	}
	return strconv.Itoa(n)
}

// lapse is when a backup made at created, counted in the calendar of created's
// location, is past the span of each of the rules: twelve months for monthly=12. It
// is zero where none of them has one, which is so of last=3. lasting says that one
// keeps all of its sort, or for longer than a date can be written.
func lapse(r backup.Rules, created time.Time) (end time.Time, lasting bool) {
	for rule := range ruleCount {
		n := of(r, rule)
		var span backup.Age
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

// A point is a complete restore point as the archive rules see it.
type point struct {
	created  time.Time
	archived backup.Span
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
	rules backup.Rules
	zone  *time.Location
	// left is how many more may be counted, used how many were; bucket is the newest
	// hour, day... counted so far; taken says that one of the tally's own is kept for it.
	left, used, bucket [ruleCount]int
	taken              [ruleCount]bool
	// archived are the points that lie in the archive, by month and by year: there
	// the rule keeps them rather than the newest.
	archived [ruleCount]map[int]*point
}

func newTally(rules backup.Rules, zone *time.Location) *tally {
	t := &tally{rules: rules, zone: zone}
	for rule := range ruleCount {
		t.left[rule], t.bucket[rule] = of(rules, rule), -1
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
		if of(t.rules, rule) == 0 {
			return
		}
		if t.archived[rule] == nil {
			t.archived[rule] = map[int]*point{}
		}
		bucket := t.bucketOf(rule, 0, p.created)
		// Where there are archived months and an archived year, the year's own is the year's.
		if have := t.archived[rule][bucket]; have == nil || rule == ruleYearly && p.archived == backup.Year && have.archived != backup.Year {
			t.archived[rule][bucket] = p
		}
	}
	switch p.archived {
	case backup.Month:
		note(ruleMonthly)
		note(ruleYearly)
	case backup.Year:
		note(ruleYearly)
	}
}

// keeps says which rules keep the nth point, one of the tally's own.
func (t *tally) keeps(nth int, p *point) (by [ruleCount]bool, any bool) {
	for rule := range ruleCount {
		if of(t.rules, rule) == 0 {
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
		if of(t.rules, rule) == 0 {
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
			p.kept = append(p.kept, fmt.Sprintf("%s %d of %s", ruleNames[rule], t.used[rule], number(of(t.rules, rule))))
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
