package backup

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// A Schedule is a sequence of planned moments, the slots. It is a value, compared
// by [Schedule.Equal].
//
// Slots are anchored to the wall clock of the zone, so that "daily@02:30" is
// half past two in summer and in winter. A wall clock time that does not exist
// (clocks put forward) is taken as many minutes after the gap began as it would
// have been; one that comes twice (clocks put back) counts the first time only.
// Periods of an hour or less are anchored to UTC instead, where no hour is ever
// missing or doubled.
type Schedule struct {
	words string
	zone  *time.Location
	every time.Duration // a period, or
	spec  cron.Schedule // wall clock moments
}

const scheduleGrammar = `want a period from 1s to 366d such as 24h or 7d, daily@HH:MM, or cron's five fields such as "30 2 * * 1-5"`

// ParseSchedule reads a backup period: a duration ("24h", "90m", "7d"), a time of
// day ("daily@02:30"), or cron's five fields. The zone is UTC until [Schedule.In].
func ParseSchedule(s string) (Schedule, error) {
	words := strings.Join(strings.Fields(s), " ")
	sched := Schedule{words: words, zone: time.UTC}
	bad := fmt.Errorf("%.60q is not a schedule: %s", s, scheduleGrammar)
	if at, ok := strings.CutPrefix(words, "daily@"); ok {
		t, err := time.Parse("15:04", at)
		if err != nil {
			return Schedule{}, bad
		}
		sched.spec, err = cron.ParseStandard(fmt.Sprintf("%d %d * * *", t.Minute(), t.Hour()))
		return sched, err
	}
	if strings.Contains(words, " ") {
		// Descriptors (@every, @daily) and zones in the spec are cron's own
		// extensions; one way to say a thing is enough.
		if len(words) > 100 || strings.ContainsAny(words, "@=") || len(strings.Fields(words)) != 5 {
			return Schedule{}, bad
		}
		spec, err := cron.ParseStandard(sundays(words))
		if err != nil {
			return Schedule{}, fmt.Errorf("%w (cron: %w)", bad, err)
		}
		// cron looks five years ahead and no further, so a schedule that can be away for
		// longer (29 February, eight years around 2100) would end without a word. Every
		// other day of the calendar comes within a year of any 1 March.
		march := time.Date(2001, 3, 1, 0, 0, 0, 0, time.UTC)
		if next := spec.Next(march); next.IsZero() || next.Sub(march) > 366*24*time.Hour {
			return Schedule{}, fmt.Errorf("%.60q does not come every year: %s", s, scheduleGrammar)
		}
		sched.spec = spec
		return sched, nil
	}
	every, err := parsePeriod(words)
	if err != nil || every < time.Second || every > 366*24*time.Hour || every%time.Second != 0 {
		return Schedule{}, bad // a second is the least that the names of slots tell apart
	}
	sched.every = every
	return sched, nil
}

// sundays writes the 7 of the day of the week as 0: users of Vixie cron know both for Sunday,
// and the library knows 0 only. It leaves everything else in the five fields as it is.
func sundays(words string) string {
	fields := strings.Fields(words)
	var days []string
	for part := range strings.SplitSeq(fields[4], ",") {
		span, by, _ := strings.Cut(part, "/")
		first, isRange := strings.CutSuffix(span, "-7")
		from, err1 := strconv.ParseUint(first, 10, 3)
		step, err2 := strconv.ParseUint(cmp.Or(by, "1"), 10, 3)
		switch {
		case part == "7":
			days = append(days, "0")
		case !isRange || err1 != nil || err2 != nil || step == 0:
			days = append(days, part)
		default:
			for day := from; day <= 7; day += step {
				days = append(days, strconv.FormatUint(day%7, 10))
			}
		}
	}
	fields[4] = strings.Join(days, ",")
	return strings.Join(fields, " ")
}

// parsePeriod reads Go's durations and, since nobody counts a week in hours, whole
// days and weeks ("7d", "2w") on their own.
func parsePeriod(s string) (time.Duration, error) {
	for unit, length := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if digits, ok := strings.CutSuffix(s, unit); ok {
			n, err := strconv.ParseUint(digits, 10, 9) // no more than 511, far from an overflow
			return time.Duration(n) * length, err
		}
	}
	return time.ParseDuration(s)
}

// In is the same schedule by the wall clock of another zone.
func (s Schedule) In(zone *time.Location) Schedule {
	s.zone = zone
	return s
}

// String is the schedule as it was written.
func (s Schedule) String() string { return s.words }

// IsZero says whether there is no schedule at all.
func (s Schedule) IsZero() bool { return s.words == "" }

// Equal says whether two schedules are of the same words and zone.
func (s Schedule) Equal(o Schedule) bool {
	return s.words == o.words && s.Zone().String() == o.Zone().String()
}

// Zone is the zone whose wall clock counts.
func (s Schedule) Zone() *time.Location {
	if s.zone == nil {
		return time.UTC
	}
	return s.zone
}

// inUTC says whether the slots are anchored to UTC whatever the zone.
func (s Schedule) inUTC() bool { return s.spec == nil && s.every <= time.Hour }

// Next is the first slot after t, in UTC.
func (s Schedule) Next(t time.Time) time.Time {
	if s.inUTC() {
		return t.UTC().Truncate(s.every).Add(s.every)
	}
	w := wallClock(t, s.Zone())
	if at, by := shifted(t.In(s.Zone())); by > 0 && t.Before(at.Add(by)) {
		w = w.Add(-by) // what the clock was put forward over is still to come
	}
	for first := (time.Time{}); ; {
		if s.spec != nil {
			w = s.spec.Next(w)
		} else {
			w = w.Truncate(s.every).Add(s.every)
		}
		if !first.IsZero() && w.After(wallClock(first, s.Zone())) {
			return first.UTC()
		}
		at, skipped := moment(w, s.Zone())
		if !at.After(t) {
			continue
		}
		if first.IsZero() || at.Before(first) {
			first = at
		}
		// 02:30 that is skipped becomes 03:30, before which 03:15 comes yet. But nothing
		// later by the wall clock comes before a moment that the clock does show.
		if !skipped {
			return first.UTC()
		}
	}
}

// Slot is the newest slot at or before t, in UTC: the one that a volume should
// have a backup for.
func (s Schedule) Slot(t time.Time) time.Time {
	if s.inUTC() {
		return t.UTC().Truncate(s.every)
	}
	back := max(s.every, time.Hour)
	at := s.Next(t.Add(-back))
	for at.After(t) {
		back *= 5
		at = s.Next(t.Add(-back))
	}
	// Mostly that is the one already. Where there are many, as of a cron that means
	// every minute of January, what may be left is halved each time.
	for none := t; ; { // between none and t there is no slot
		next := s.Next(at)
		if next.After(t) {
			return at
		}
		at = next
		middle := at.Add(none.Sub(at) / 2)
		if next := s.Next(middle); next.After(t) {
			none = middle
		} else {
			at = next
		}
	}
}

// Interval is the shortest time between the next slots after t by a clock that is
// never put forward or back: what tells the stricter of two schedules.
func (s Schedule) Interval(t time.Time) time.Duration {
	if s.spec == nil {
		return s.every
	}
	s = s.In(time.UTC)
	least := time.Duration(0)
	for range 10 {
		next := s.Next(t)
		after := s.Next(next)
		if d := after.Sub(next); least == 0 || d < least {
			least = d
		}
		t = next
	}
	return least
}

// star is cron's mark of a field that was written as *: of the two fields of days, one
// that is so does not count (cron/spec.go, dayMatches).
const star = 1 << 63

// Longest is the longest time between two slots by a clock that is never put forward
// or back, in any year of the calendar: what tells a schedule that hardly ever comes.
func (s Schedule) Longest() time.Duration {
	spec, ok := s.spec.(*cron.SpecSchedule)
	if !ok {
		return s.every
	}
	first, last, longest := -1, -1, 0 // minutes of a day
	for minute := range 24 * 60 {
		if spec.Hour>>(minute/60)&1 == 0 || spec.Minute>>(minute%60)&1 == 0 {
			continue
		}
		if first < 0 {
			first = minute
		} else {
			longest = max(longest, minute-last)
		}
		last = minute
	}
	// Dates and weekdays come together anew every 28 years.
	before := -1
	begin := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	for day, date := 0, begin; date.Year() < 2030; day, date = day+1, date.AddDate(0, 0, 1) {
		of, week := spec.Dom>>date.Day()&1 == 1, spec.Dow>>date.Weekday()&1 == 1
		both := (spec.Dom|spec.Dow)&star != 0
		if spec.Month>>date.Month()&1 == 0 || both && !(of && week) || !of && !week {
			continue
		}
		if before >= 0 {
			longest = max(longest, (day-before)*24*60+first-last)
		}
		before = day
	}
	return time.Duration(longest) * time.Minute
}

// wallClock is what the clock of the zone shows at t: a time without a zone, for
// which UTC stands here.
func wallClock(t time.Time, zone *time.Location) time.Time {
	l := t.In(zone)
	y, m, d := l.Date()
	hh, mm, ss := l.Clock()
	return time.Date(y, m, d, hh, mm, ss, l.Nanosecond(), time.UTC)
}

// moment is when the clock of the zone shows w: the first time of two. A w that the
// clock is put forward over is skipped, and taken as long after that as it lies
// inside the gap.
func moment(w time.Time, zone *time.Location) (t time.Time, skipped bool) {
	y, m, d := w.Date()
	hh, mm, ss := w.Clock()
	t = time.Date(y, m, d, hh, mm, ss, 0, zone)
	// At a change time.Date may choose either side.
	if late := w.Sub(wallClock(t, zone)); late != 0 {
		return t.Add(max(late, 0)), true
	}
	if at, by := shifted(t); by < 0 && t.Before(at.Add(-by)) {
		t = t.Add(by)
	}
	return t, false
}

// shifted is the newest change of the clock of t's zone: when it was, and by how
// much the clock was put forward, or back where that is negative.
func shifted(t time.Time) (at time.Time, by time.Duration) {
	at, _ = t.ZoneBounds()
	if at.IsZero() {
		return at, 0
	}
	_, before := at.Add(-time.Second).Zone()
	_, after := at.Zone()
	return at, time.Duration(after-before) * time.Second
}

// spreadSteps is how many moments a window is divided into: few enough that the
// volumes of a project start together and share the lists read for them.
const spreadSteps = 12

// Offset is how long after its slot a volume starts, so that not everybody starts
// at once: always the same for a volume, in one of twelve equal steps of the
// window.
func Offset(volume string, window time.Duration) time.Duration {
	if window <= 0 {
		return 0
	}
	h := fnv.New32a()
	h.Write([]byte(volume))
	return window / spreadSteps * time.Duration(h.Sum32()%spreadSteps)
}

// spread is the window to use for a schedule: never more than half of the way to
// the next slot.
func spread(s Schedule, slot time.Time, window time.Duration) time.Duration {
	return min(window, s.Next(slot).Sub(slot)/2)
}
