package backup

import (
	"fmt"
	"strings"
	"time"
)

// A Blackout is a stretch of the day in which nothing starts.
type Blackout struct {
	days     [7]bool
	from, to time.Duration // since midnight; to ≤ from goes past midnight
	words    string
}

// Blackouts are the stretches of a cloud or a class.
type Blackouts []Blackout

var weekdays = [...]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

const blackoutGrammar = "want [DAY|DAY-DAY,...] HH:MM-HH:MM, several separated by semicolons, " +
	"such as mon-fri 08:00-18:00; 23:30-00:30; sun 00:00-24:00"

// ParseBlackouts reads "mon-fri 08:00-18:00; 23:30-00:30; sun 00:00-24:00". The days are
// those on which the stretch begins; without days it begins every day. A stretch whose end
// is not after its beginning ends on the next day. An empty text means no blackouts.
func ParseBlackouts(s string) (Blackouts, error) {
	var all Blackouts
	for part := range strings.SplitSeq(s, ";") {
		part = strings.Join(strings.Fields(strings.ToLower(part)), " ")
		if part == "" {
			continue
		}
		b := Blackout{words: part}
		days, hours, ok := strings.Cut(part, " ")
		if !ok {
			days, hours = "sun-sat", part
		}
		from, to, ok := strings.Cut(hours, "-")
		var ok1, ok2 bool
		b.from, ok1 = timeOfDay(from)
		b.to, ok2 = timeOfDay(to)
		if to == "24:00" {
			b.to, ok2 = 24*time.Hour, true
		}
		if !ok || !ok1 || !ok2 || b.from == b.to || !b.on(days) {
			return nil, fmt.Errorf("%.60q is not a blackout: %s", part, blackoutGrammar)
		}
		all = append(all, b)
	}
	return all, nil
}

// timeOfDay reads HH:MM, as the time since midnight.
func timeOfDay(s string) (time.Duration, bool) {
	t, err := time.Parse("15:04", s)
	return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute, err == nil
}

func (b *Blackout) on(days string) bool {
	number := func(name string) int {
		for i, w := range weekdays {
			if w == name {
				return i
			}
		}
		return -1
	}
	for part := range strings.SplitSeq(days, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, to := number(first), number(last)
		if from < 0 || to < 0 {
			return false
		}
		for d := from; ; d = (d + 1) % 7 {
			b.days[d] = true
			if d == to {
				break
			}
		}
	}
	return true
}

// Until says whether t lies in a blackout by the wall clock of the zone, until
// when, and which. Where several overlap it is the one that ends last. A time that
// comes twice (clocks put back) counts the first time as a beginning and the second
// as an end; one that does not come (clocks put forward) is when the clock jumps.
func (bs Blackouts) Until(t time.Time, zone *time.Location) (end time.Time, why string, in bool) {
	today := wallClock(t, zone).Truncate(24 * time.Hour)
	for _, b := range bs {
		// Begun yesterday and gone past midnight, or today; or tomorrow, where a clock is
		// put back over midnight.
		for days := -1; days <= 1; days++ {
			midnight := today.AddDate(0, 0, days)
			if !b.days[midnight.Weekday()] {
				continue
			}
			ends := midnight.Add(b.to)
			if b.to <= b.from {
				ends = ends.AddDate(0, 0, 1)
			}
			from, _ := shows(midnight.Add(b.from), zone)
			_, to := shows(ends, zone)
			if !t.Before(from) && t.Before(to) && to.After(end) {
				end, why, in = to, "blackout "+b.words, true
			}
		}
	}
	return end.UTC(), why, in
}

// shows is the first and the last time that the clock of the zone shows w: mostly
// the same; where it jumps over w, that moment.
func shows(w time.Time, zone *time.Location) (first, last time.Time) {
	first, skipped := moment(w, zone)
	if skipped {
		first, _ = shifted(first)
		return first, first
	}
	last = first
	if _, change := first.ZoneBounds(); !change.IsZero() {
		if _, by := shifted(change); by < 0 && !first.Before(change.Add(by)) {
			last = first.Add(-by)
		}
	}
	return first, last
}

// String is the blackouts as they were written.
func (bs Blackouts) String() string {
	var words []string
	for _, b := range bs {
		words = append(words, b.words)
	}
	return strings.Join(words, "; ")
}
