package keep

import (
	"fmt"
	"slices"
	"strconv"
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

// endOf is when the span of a rule is over for a backup made at created, by the calendar of
// created's location: seven days for daily=7. It is zero for never, which is so if the rule keeps
// all, or for longer than a date can be written. ruleLast has no span.
func endOf(rule, n int, created time.Time) time.Time {
	if n < 0 {
		return time.Time{}
	}
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
	end := span.After(created)
	if end.Year() >= 9999 { // RFC 3339, and so JSON, has four digits
		return time.Time{}
	}
	return end
}

// bucketOf numbers the hour, day, week (from Monday), month or year that at lies in, by the clock of
// its location. For ruleLast every backup is a bucket of its own: nth is its place.
func bucketOf(rule, nth int, at time.Time) int {
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

// pick calls tell for each restore point that one rule keeps, with the reason. Points come newest
// first. As with restic (internal/data/snapshot_policy.go, doc/060_forget.rst), the rule keeps one
// restore point of each of the newest n hours, days and so on that have one, and while it is not
// used up, the oldest of all as well.
func pick(rule, n int, zone *time.Location, points []*item, tell func(it *item, why string)) {
	var last *item
	used := 0
	for from := 0; from < len(points) && used != n; used++ {
		bucket, to := bucketOf(rule, from, points[from].b.Created.In(zone)), from+1
		for to < len(points) && bucketOf(rule, to, points[to].b.Created.In(zone)) == bucket {
			to++
		}
		last = preferred(rule, points[from:to])
		tell(last, fmt.Sprintf("%s %d of %s", ruleNames[rule], used+1, number(n)))
		from = to
	}
	if oldest := len(points) - 1; oldest >= 0 && used != n && last != points[oldest] {
		tell(points[oldest], "oldest "+ruleNames[rule])
	}
}

// preferred is the restore point that a rule keeps of one bucket: the newest, except that a month
// and a year are kept by the one that lies in the archive container.
func preferred(rule int, bucket []*item) *item {
	rank := func(it *item) int {
		switch span := it.b.Archived(); {
		case rule == ruleYearly && span == backup.Year:
			return 2
		case span == backup.Month && (rule == ruleMonthly || rule == ruleYearly):
			return 1
		}
		return 0
	}
	return slices.MaxFunc(bucket, func(a, b *item) int { return rank(a) - rank(b) }) // the first of equals
}

// A term is a rule that keeps a backup, in words, and until when; zero for ever.
type term struct {
	why string
	end time.Time
}

// applyRules notes which restore points archive rules keep, other than last=n of an earlier policy:
// that one depends on what else stays.
//
// The current rules judge all restore points together. Those made under other rules are judged by
// their own as well, among those made under the same rules. Such a rule keeps a backup no longer than
// its span, and counts only backups that are within it: then it makes no difference to the others
// when a backup is removed that no rule keeps any more.
func (h Holding) applyRules(items []*item, now time.Time) {
	type terms struct {
		rules backup.Rules
		zone  string
	}
	var points []*item // newest first
	earlier := map[terms][]*item{}
	for _, it := range slices.Backward(items) {
		if !it.complete || it.unread != "" {
			continue
		}
		points = append(points, it)
		if it.earlier = !h.ruledBy(it.frozen); it.earlier {
			key := terms{it.frozen.rules, it.frozen.zone.String()}
			earlier[key] = append(earlier[key], it)
		}
	}
	if rules := h.rules(); !rules.IsZero() {
		for rule := range ruleCount {
			pick(rule, of(rules, rule), h.Policy.Schedule.Zone(), points, func(it *item, why string) {
				if it.earlier {
					why += " by the current policy"
				}
				it.terms = append(it.terms, term{why: why})
			})
		}
	}
	for key, group := range earlier {
		for rule := ruleHourly; rule < ruleCount; rule++ {
			if n := of(key.rules, rule); n != 0 {
				pickWithin(rule, n, group, now)
			}
		}
	}
}

// pickWithin notes which restore points a rule of an earlier policy keeps, among those made under it.
func pickWithin(rule, n int, group []*item, now time.Time) {
	zone := group[0].frozen.zone
	var within []*item
	ends := map[*item]time.Time{}
	first := time.Time{} // when the first of them is past the span
	for _, it := range group {
		if end := endOf(rule, n, it.b.Created.In(zone)); end.IsZero() || now.Before(end) {
			within, ends[it] = append(within, it), end
			first = earliest(first, end)
		}
	}
	kept := map[*item]bool{}
	pick(rule, n, zone, within, func(it *item, why string) {
		kept[it] = true
		if end := ends[it]; !end.IsZero() {
			why += " until " + end.Format(time.DateOnly)
		}
		it.terms = append(it.terms, term{why, ends[it]})
	})
	for _, it := range within {
		if end := ends[it]; !kept[it] && !first.IsZero() && (end.IsZero() || first.Before(end)) {
			it.again = earliest(it.again, first) // it may become the oldest, or take another's place
		}
	}
}

// earliest is the earlier of two times, of which zero is never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
