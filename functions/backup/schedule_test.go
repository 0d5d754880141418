package backup

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/robfig/cron/v3"
	"pgregory.net/rapid"
)

func TestParseSchedule(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"hours", "24h", "24h"},
		{"minutes", "90m", "90m"},
		{"hours and minutes", "1h30m", "1h30m"},
		{"days", "7d", "7d"},
		{"weeks", "2w", "2w"},
		{"a second is the least", "1s", "1s"},
		{"a leap year of days is the most", "366d", "366d"},
		{"a time of day", "daily@02:30", "daily@02:30"},
		{"midnight", "daily@00:00", "daily@00:00"},
		{"cron's five fields", "30 2 * * 1-5", "30 2 * * 1-5"},
		{"cron with lists, ranges, steps and names", "*/15 0,12 1-7 JAN-JUN sun", "*/15 0,12 1-7 JAN-JUN sun"},
		{"blanks around and between", "  30  2 *\t* * ", "30 2 * * *"},
		{"the 31st comes seven times a year", "0 0 31 * *", "0 0 31 * *"},
		{"once a year", "0 0 1 1 *", "0 0 1 1 *"},
		{"29 February or any Monday of February", "0 0 29 2 1", "0 0 29 2 1"},
		{"29 February and 1 March", "0 0 1,29 2,3 *", "0 0 1,29 2,3 *"},

		{"nothing", "", "is not a schedule"},
		{"blanks", "   ", "is not a schedule"},
		{"a word", "often", "is not a schedule"},
		{"a number alone", "24", "is not a schedule"},
		{"no time at all", "0s", "is not a schedule"},
		{"zero days", "0d", "is not a schedule"},
		{"less than a second", "500ms", "is not a schedule"},
		{"not whole seconds", "90.5s", "is not a schedule"},
		{"back in time", "-24h", "is not a schedule"},
		{"back in days", "-7d", "is not a schedule"},
		{"longer than a year", "367d", "is not a schedule"},
		{"longer than a year in hours", "8785h", "is not a schedule"},
		{"more weeks than a year has", "53w", "is not a schedule"},
		{"so many days that they would overflow", "213503982335d", "is not a schedule"},
		{"so many weeks that they would overflow", "999999w", "is not a schedule"},
		{"days go alone: 1h1d is not two days", "1h1d", "is not a schedule"},
		{"days are whole", "1.5d", "is not a schedule"},
		{"no such time of day", "daily@24:00", "is not a schedule"},
		{"no such minute", "daily@02:60", "is not a schedule"},
		{"seconds of a day", "daily@02:30:00", "is not a schedule"},
		{"a day without a time", "daily@", "is not a schedule"},
		{"a blank inside", "daily@ 02:30", "is not a schedule"},
		{"weekly is cron's to say", "weekly@02:30", "is not a schedule"},
		{"cron's descriptors are not for two ways to say a thing", "@daily", "is not a schedule"},
		{"cron's descriptors with a value", "@every 1h", "is not a schedule"},
		{"a zone in the words", "TZ=Asia/Tokyo 30 2 * * *", "is not a schedule"},
		{"a zone as one of five fields", "CRON_TZ=UTC 2 * * *", "is not a schedule"},
		{"four fields", "30 2 * *", "is not a schedule"},
		{"six fields", "0 30 2 * * *", "is not a schedule"},
		{"no such minute in cron", "60 2 * * *", "is not a schedule"},
		{"no steps at all", "*/0 2 * * *", "is not a schedule"},
		{"over a hundred characters", "0 0 * * " + strings.Repeat("1,", 50) + "1", "is not a schedule"},
		{"30 February never comes", "0 0 30 2 *", "does not come every year"},
		{"29 February does not come every year", "0 0 29 2 *", "does not come every year"},
		{"nor does every minute of it", "* * 29 2 *", "does not come every year"},
		{"nor every ten minutes of it", "*/10 * 29 2 *", "does not come every year"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := ParseSchedule(c.in)
			if err != nil {
				if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "daily@HH:MM") {
					t.Errorf("%q: got %v, want %s and the grammar", c.in, err, c.want)
				}
				if !s.IsZero() || len(err.Error()) > 400 {
					t.Errorf("%q: an error and %v; %d characters of error", c.in, s, len(err.Error()))
				}
				return
			}
			if s.String() != c.want || s.IsZero() || s.Zone() != time.UTC {
				t.Errorf("%q: got %s in %s, want %s in UTC", c.in, s, s.Zone(), c.want)
			}
		})
	}
}

func TestScheduleEqual(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b Schedule
		want bool
	}{
		{"the same words and zone", schedule("daily@02:30", "Europe/Berlin"), schedule("daily@02:30", "Europe/Berlin"), true},
		{"other words", schedule("daily@02:30", "UTC"), schedule("daily@02:31", "UTC"), false},
		{"another zone", schedule("daily@02:30", "UTC"), schedule("daily@02:30", "Europe/Berlin"), false},
		{"no schedule is in UTC", Schedule{}, Schedule{}.In(time.UTC), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.a.Equal(c.b) != c.want || c.b.Equal(c.a) != c.want {
				t.Errorf("want %v", c.want)
			}
		})
	}
	if !(Schedule{}).IsZero() || (Schedule{}).Zone() != time.UTC {
		t.Error("no schedule at all is not zero")
	}
}

// Each case tells the slots that follow a moment, by the clock of the zone.
func TestScheduleNext(t *testing.T) {
	for _, c := range []struct{ name, schedule, in, from, want string }{
		{"a period counts from midnight", "6h", "UTC", "2026-11-22T07:00", "22 12:00Z, 22 18:00Z, 23 00:00Z"},
		{"a slot is not after itself", "6h", "UTC", "2026-11-22T12:00", "22 18:00Z"},
		{"midnight is that of the zone", "24h", "Europe/Berlin", "2026-11-22T07:00", "23 00:00+01, 24 00:00+01"},
		{"a week begins on Monday", "7d", "Asia/Kathmandu", "2026-11-22T07:00", "23 00:00+0545, 30 00:00+0545"},
		{"a time of day", "daily@02:30", "Asia/Kathmandu", "2026-11-22T07:00", "23 02:30+0545, 24 02:30+0545"},
		{"weekdays", "30 2 * * 1-5", "UTC", "2026-11-20T03:00", "23 02:30Z, 24 02:30Z"},
		{"cron's 7 is Sunday", "30 2 * * 7", "UTC", "2026-11-20T03:00", "22 02:30Z, 29 02:30Z"},
		{"a range to Sunday", "30 2 * * 5-7", "UTC", "2026-11-20T03:00", "21 02:30Z, 22 02:30Z, 27 02:30Z"},
		{"steps to Sunday", "30 2 * * 1,3-7/2", "UTC", "2026-11-20T03:00", "22 02:30Z, 23 02:30Z, 25 02:30Z"},
		{"months without a 31st are left out", "0 0 31 * *", "UTC", "2026-03-31T00:00", "31 00:00Z, 31 00:00Z, 31 00:00Z"},
		{"an hour counts from UTC's, not from a zone 45 minutes off", "1h", "Asia/Kathmandu", "2026-11-22T07:10", "22 13:45+0545"},
		{"more than an hour counts from the zone's midnight", "2h", "Asia/Kathmandu", "2026-11-22T07:10", "22 14:00+0545"},

		{"in summer and in winter", "daily@02:30", "Europe/Berlin", "2026-03-27T00:00", "27 02:30+01, 28 02:30+01, 29 03:30+02, 30 02:30+02"},
		{"clocks put forward: as many minutes after the gap began", "daily@02:00", "Europe/Berlin", "2026-03-28T12:00", "29 03:00+02, 30 02:00+02"},
		{"just behind the gap", "daily@03:00", "Europe/Berlin", "2026-03-28T12:00", "29 03:00+02, 30 03:00+02"},
		{"asked inside the hour that the gap is made up in", "daily@02:30", "Europe/Berlin", "2026-03-29T01:10", "29 03:30+02, 30 02:30+02"},
		{"asked at the very moment", "daily@02:30", "Europe/Berlin", "2026-03-29T01:30", "30 02:30+02"},
		{"what is made up may come after what is not", "45,15 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00", "29 03:15+02, 29 03:45+02, 30 02:15+02"},
		{"in a gap and behind it, in turn", "15 3 * * *", "Europe/Berlin", "2026-03-29T00:00", "29 03:15+02, 30 03:15+02"},
		{"no slot twice for a gap that falls on others", "0 * * * *", "Europe/Berlin", "2026-03-29T00:00", "29 03:00+02, 29 04:00+02"},
		{"clocks put back: the first time only", "daily@02:30", "Europe/Berlin", "2026-10-24T12:00", "25 02:30+02, 26 02:30+01"},
		{"asked between the two", "daily@02:30", "Europe/Berlin", "2026-10-25T01:10", "26 02:30+01"},
		{"more often than hourly in cron, nothing for the hour that comes again", "*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00", "25 02:30+02, 25 03:00+01"},
		{"as a period, all through it", "30m", "Europe/Berlin", "2026-10-25T00:00", "25 02:30+02, 25 02:00+01, 25 02:30+01, 25 03:00+01"},
		{"as a period, through the gap", "30m", "Europe/Berlin", "2026-03-29T00:30", "29 03:00+02, 29 03:30+02"},
		{"a longer period, through the gap", "90m", "Europe/Berlin", "2026-03-29T00:00", "29 01:30+01, 29 03:00+02, 29 04:30+02"},
		{"a longer period, through the hour that comes again", "90m", "Europe/Berlin", "2026-10-24T23:00", "25 01:30+02, 25 03:00+01, 25 04:30+01"},

		{"New York, gap", "daily@02:30", "America/New_York", "2026-03-07T12:00", "8 03:30-04, 9 02:30-04"},
		{"New York, overlap", "daily@01:30", "America/New_York", "2026-10-31T12:00", "1 01:30-04, 2 01:30-05"},
		{"Lord Howe, half an hour of gap", "daily@02:15", "Australia/Lord_Howe", "2026-10-03T00:00", "4 02:45+11, 5 02:15+11"},
		{"Lord Howe, behind the gap", "daily@02:30", "Australia/Lord_Howe", "2026-10-03T00:00", "4 02:30+11, 5 02:30+11"},
		{"Lord Howe, half an hour that comes again", "daily@01:45", "Australia/Lord_Howe", "2026-04-04T00:00", "5 01:45+11, 6 01:45+1030"},
		{"Casablanca, back for Ramadan", "daily@02:30", "Africa/Casablanca", "2026-02-14T12:00", "15 02:30+01, 16 02:30Z"},
		{"Casablanca, forward after it", "daily@02:30", "Africa/Casablanca", "2026-03-21T12:00", "22 03:30+01, 23 02:30+01"},
		{"Troll, two hours of gap", "daily@02:30", "Antarctica/Troll", "2026-03-28T12:00", "29 04:30+02, 30 02:30+02"},
		{"Troll, two hours that come again", "daily@02:30", "Antarctica/Troll", "2026-10-24T12:00", "25 02:30+02, 26 02:30Z"},
		{"Casey, three hours that come again", "daily@00:30", "Antarctica/Casey", "2010-03-04T00:00", "5 00:30+11, 6 00:30+08"},
		{"Beirut has no midnight", "daily@00:00", "Asia/Beirut", "2026-03-28T00:00", "29 01:00+03, 30 00:00+03"},
		{"Santiago has none either", "24h", "America/Santiago", "2026-09-05T12:00", "6 01:00-03, 7 00:00-03"},
		{"Samoa had no 30 December 2011", "daily@02:30", "Pacific/Apia", "2011-12-28T16:00", "29 02:30-10, 31 02:30+14, 1 02:30+14"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, at := schedule(c.schedule, c.in), on(c.from)
			var got []string
			for range strings.Split(c.want, ", ") {
				next := s.Next(at)
				if !next.After(at) || next.Location() != time.UTC {
					t.Fatalf("%s follows %s", next, at)
				}
				at = next
				got = append(got, clockShows(at, c.in))
			}
			if got := strings.Join(got, ", "); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

func clockShows(t time.Time, in string) string {
	return strings.Replace(strings.TrimSuffix(t.In(zone(in)).Format("2 15:04Z0700"), "00"), "15:Z", "15:00Z", 1)
}

func TestScheduleSlot(t *testing.T) {
	for _, c := range []struct{ name, schedule, in, at, want string }{
		{"a slot is its own", "daily@02:30", "UTC", "22T02:30", "22T02:30"},
		{"a minute before, it is the one before", "daily@02:30", "UTC", "22T02:29", "21T02:30"},
		{"all day long", "daily@02:30", "UTC", "23T02:29", "22T02:30"},
		{"midnight of the zone, not of the host or of UTC", "24h", "America/New_York", "22T04:59", "21T05:00"},
		{"and from then on", "24h", "America/New_York", "22T05:00", "22T05:00"},
		{"a month ago", "0 0 1 * *", "UTC", "22T02:30", "01T00:00"},
		{"a period of minutes", "15m", "Asia/Kathmandu", "22T02:29", "22T02:15"},
		{"half a year ago", "0 0 1 6 *", "UTC", "22T02:30", "2026-06-01T00:00"},
		{"a leap year ago but a minute", "0 0 1 3 *", "UTC", "2028-02-29T23:59", "2027-03-01T00:00"},
		{"the last of very many", "* * * 1 *", "UTC", "2026-12-31T00:00", "2026-01-31T23:59"},
		{"in the midst of very many", "* * * 1 *", "UTC", "2026-01-17T03:05", "2026-01-17T03:05"},
		{"a long period", "366d", "UTC", "22T02:30", "2026-03-12T00:00"},
		{"what a gap put off is not before its time", "daily@02:30", "Europe/Berlin", "2026-03-29T01:29", "2026-03-28T01:30"},
		{"but then", "daily@02:30", "Europe/Berlin", "2026-03-29T01:30", "2026-03-29T01:30"},
		{"an hour that comes again is not another", "daily@02:30", "Europe/Berlin", "2026-10-25T01:30", "2026-10-25T00:30"},
		{"asked an hour after a clock was put back by three", "90m", "Antarctica/Casey", "2010-03-04T17:30", "2010-03-04T14:30"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := schedule(c.schedule, c.in).Slot(on(c.at))
			if !got.Equal(on(c.want)) || got.Location() != time.UTC {
				t.Errorf("got %s, want %s", got, on(c.want))
			}
		})
	}
}

func TestScheduleInterval(t *testing.T) {
	for _, c := range []struct{ name, schedule, at, want string }{
		{"a period is itself", "7d", "22T00:00", "168h"},
		{"a day has 24 hours", "daily@02:30", "22T00:00", "24h"},
		{"even that of 23", "daily@02:30", "2026-03-27T00:00", "24h"},
		{"hours of work count by the shortest", "0 8-18 * * 1-5", "22T00:00", "1h"},
		{"the shortest is found where it is not the first", "0 0 1,15,20 * *", "02T00:00", "120h"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := schedule(c.schedule, "Europe/Berlin").Interval(on(c.at)); got != span(c.want) {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// yearly are the schedules of the simulated years, and how far apart two of their
// slots can be where no clock is changed.
var yearly = []struct {
	words  string
	most   string
	oneDay bool // exactly one slot each day
}{
	{"1h", "1h", false}, {"90m", "90m", false}, {"6h", "6h", false}, {"24h", "24h", true}, {"7d", "7d", false},
	{"daily@00:00", "24h", true}, {"daily@01:45", "24h", true}, {"daily@02:00", "24h", true}, {"daily@02:30", "24h", true}, {"daily@23:59", "24h", true},
	{"*/20 1-3 * * *", "21h40m", false}, {"30 2 * * 1-5", "72h", false}, {"0 0 31 * *", "62d", false}, {"30 2 29-31 * *", "30d", false}, {"0 3 1 1 *", "366d", false},
}

// Two years by the clock of each zone, among them a leap year.
func TestScheduleYears(t *testing.T) {
	for _, z := range []struct {
		name  string
		shift string // the most a clock is changed by
	}{
		{"UTC", "0s"}, {"Europe/Berlin", "1h"}, {"America/New_York", "1h"}, {"Australia/Lord_Howe", "30m"}, {"Africa/Casablanca", "1h"},
		{"Asia/Kathmandu", "0s"}, {"America/Santiago", "1h"}, {"Antarctica/Troll", "2h"},
	} {
		for _, y := range yearly {
			t.Run(z.name+" "+y.words, func(t *testing.T) {
				t.Parallel()
				s, most := schedule(y.words, z.name), span(y.most)+span(z.shift)
				from, to := on("2027-12-20T00:00"), on("2029-01-10T00:00")
				perDay := map[string]int{}
				for at := s.Slot(from); at.Before(to); {
					next := s.Next(at)
					if !next.After(at) || next.Sub(at) > most {
						t.Fatalf("%s is followed by %s, %s later", at, next, next.Sub(at))
					}
					if s.Slot(next) != next {
						t.Fatalf("slot %s is in slot %s", next, s.Slot(next))
					}
					for _, inside := range []time.Time{at.Add(time.Second), at.Add(next.Sub(at) / 2), next.Add(-time.Second)} {
						if inside.After(at) && inside.Before(next) && (s.Slot(inside) != at || s.Next(inside) != next) {
							t.Fatalf("at %s: slot %s, next %s; want %s, %s", inside, s.Slot(inside), s.Next(inside), at, next)
						}
					}
					at = next
					perDay[at.In(zone(z.name)).Format(time.DateOnly)]++
				}
				if !y.oneDay {
					return
				}
				for d := on("2027-12-24T00:00"); d.Before(on("2029-01-06T00:00")); d = d.AddDate(0, 0, 1) {
					if n := perDay[d.Format(time.DateOnly)]; n != 1 {
						t.Errorf("%s has %d slots", d.Format(time.DateOnly), n)
					}
				}
			})
		}
	}
}

// A clock of a zone, minute by minute, says when each time of the wall clock comes
// first; the schedule has to say the same of every minute around every change.
func TestScheduleAgreesWithTheClock(t *testing.T) {
	wanted := []struct {
		words string
		on    func(wall time.Time) bool
	}{
		{"daily@02:30", func(w time.Time) bool { return w.Hour() == 2 && w.Minute() == 30 }},
		{"daily@00:00", func(w time.Time) bool { return w.Hour() == 0 && w.Minute() == 0 }},
		{"90m", func(w time.Time) bool { return w.Truncate(90 * time.Minute).Equal(w) }},
		{"*/7 * * * *", func(w time.Time) bool { return w.Minute()%7 == 0 }},
		{"5,45 0-3 * * *", func(w time.Time) bool { return (w.Minute() == 5 || w.Minute() == 45) && w.Hour() <= 3 }},
		{"10,50 2 * * 0", func(w time.Time) bool {
			return (w.Minute() == 10 || w.Minute() == 50) && w.Hour() == 2 && w.Weekday() == time.Sunday
		}},
	}
	for _, change := range []struct{ zone, at string }{
		{"Europe/Berlin", "2026-03-29T01:00"}, {"Europe/Berlin", "2026-10-25T01:00"},
		{"America/New_York", "2026-03-08T07:00"}, {"America/New_York", "2026-11-01T06:00"},
		{"Australia/Lord_Howe", "2026-04-04T15:00"}, {"Australia/Lord_Howe", "2026-10-03T15:30"},
		{"Africa/Casablanca", "2026-02-15T02:00"}, {"Africa/Casablanca", "2026-03-22T02:00"},
		{"Asia/Beirut", "2026-03-28T22:00"}, {"Asia/Beirut", "2026-10-24T21:00"},
		{"America/Santiago", "2026-04-05T03:00"}, {"America/Santiago", "2026-09-06T04:00"},
		{"Antarctica/Troll", "2026-03-29T01:00"}, {"Antarctica/Troll", "2026-10-25T01:00"},
		{"Antarctica/Casey", "2010-03-04T15:00"}, {"Pacific/Apia", "2011-12-30T10:00"},
	} {
		l, changed := zone(change.zone), on(change.at)
		// When each minute is shown first, and where the clock was put forward over it.
		shown := map[time.Time]time.Time{}
		var walls []time.Time
		begin, end := changed.Add(-60*time.Hour), changed.Add(60*time.Hour)
		for at, last := begin, (time.Time{}); at.Before(end); at = at.Add(time.Minute) {
			local := at.In(l)
			w := time.Date(local.Year(), local.Month(), local.Day(), local.Hour(), local.Minute(), 0, 0, time.UTC)
			if !last.IsZero() {
				for i, skipped := 0, last.Add(time.Minute); skipped.Before(w); i, skipped = i+1, skipped.Add(time.Minute) {
					shown[skipped] = at.Add(time.Duration(i) * time.Minute)
					walls = append(walls, skipped)
				}
			}
			if _, twice := shown[w]; !twice {
				shown[w] = at
				walls = append(walls, w)
			}
			last = w
		}
		for _, c := range wanted {
			t.Run(fmt.Sprint(change.zone, " ", change.at, " ", c.words), func(t *testing.T) {
				s := schedule(c.words, change.zone)
				var slots []time.Time
				for _, w := range walls {
					if c.on(w) {
						slots = append(slots, shown[w])
					}
				}
				slices.SortFunc(slots, time.Time.Compare)
				slots = slices.CompactFunc(slots, time.Time.Equal)
				var step time.Duration
				for at := changed.Add(-30 * time.Hour); at.Before(changed.Add(30 * time.Hour)); at = at.Add(step) {
					if step = 13 * time.Minute; at.Sub(changed).Abs() < 4*time.Hour {
						step = time.Minute
					}
					i, exact := slices.BinarySearchFunc(slots, at, time.Time.Compare)
					next, slot := i, i-1
					if exact {
						next, slot = i+1, i
					}
					if next < len(slots) && !s.Next(at).Equal(slots[next]) {
						t.Fatalf("after %s comes %s, want %s", at, s.Next(at), slots[next])
					}
					if slot >= 0 && !s.Slot(at).Equal(slots[slot]) {
						t.Fatalf("at %s it is %s, want %s", at, s.Slot(at), slots[slot])
					}
				}
			})
		}
	}
}

func TestOffset(t *testing.T) {
	places := map[time.Duration]bool{}
	for i := range 1000 {
		id := fmt.Sprintf("volume-%d", i)
		at := Offset(id, 2*time.Hour)
		if at != Offset(id, 2*time.Hour) {
			t.Fatalf("%s has two places", id)
		}
		if at < 0 || at >= 2*time.Hour || at%(10*time.Minute) != 0 {
			t.Fatalf("%s starts %s into a window of 2h", id, at)
		}
		places[at] = true
	}
	if len(places) != 12 {
		t.Errorf("%d places are used, want 12", len(places))
	}
	for _, window := range []time.Duration{0, -time.Hour} {
		if at := Offset("volume-1", window); at != 0 {
			t.Errorf("without a window (%s) it starts %s later", window, at)
		}
	}
	if got := Offset(theVolume, 24*time.Hour); got != 2*time.Hour {
		t.Errorf("a volume has moved to another place: %s", got)
	}
}

func TestSpreadIsNeverMoreThanHalfOfTheWay(t *testing.T) {
	for _, c := range []struct{ name, schedule, window, want string }{
		{"the window where there is room", "24h", "2h", "2h"},
		{"half of the way where there is not", "1h", "2h", "30m"},
		{"half of the way exactly", "24h", "12h", "12h"},
		{"no window", "24h", "0s", "0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := spread(schedule(c.schedule, "UTC"), on("22T00:00"), span(c.window)); got != span(c.want) {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		y := rapid.SampledFrom(yearly).Draw(t, "schedule")
		s := schedule(y.words, rapid.SampledFrom(someZones).Draw(t, "zone"))
		window := time.Duration(rapid.Int64Range(0, int64(72*time.Hour)).Draw(t, "window"))
		volume := rapid.String().Draw(t, "volume")
		slot := s.Slot(anyMoment(t))
		off := Offset(volume, spread(s, slot, window))
		if off < 0 || off > 0 && off >= window || off > s.Next(slot).Sub(slot)/2 {
			t.Fatalf("%s starts %s into %s", slot, off, window)
		}
	})
}

// counted counts how often cron is asked.
type counted struct {
	cron.Schedule
	n *int
}

func (c counted) Next(t time.Time) time.Time {
	*c.n++
	return c.Schedule.Next(t)
}

func FuzzParseSchedule(f *testing.F) {
	for _, s := range []string{
		"24h", "7d", "1s", "1h1d", "daily@02:30", "30 2 * * 1-5", "* * 29 2 *", "* * * 1 *", "0 0 31 * *", "*/59 */23 */30 */11 *",
		"0 0 1 1 ?", "0 0 29 2 1", "106751991167d", "TZ=UTC 0 0 * *", "0 0 * * 1,1", "daily@2:30", "\x00 0 * * *",
	} {
		f.Add(s, int64(1790000000))
	}
	f.Fuzz(func(t *testing.T, words string, unix int64) {
		s, err := ParseSchedule(words)
		if err != nil {
			if !s.IsZero() || len(err.Error()) > 1000 {
				t.Fatalf("%q: %v and %.1000v", words, s, err)
			}
			return
		}
		if again, err := ParseSchedule(s.String()); err != nil || !again.Equal(s) {
			t.Fatalf("%q is written %q and read %v, %v", words, s, again, err)
		}
		asked := 0
		if s.spec != nil {
			s.spec = counted{s.spec, &asked}
		}
		const century = 100 * 365 * 24 * 3600
		at := time.Unix((unix%century+century)%century, 0)
		for _, name := range []string{"UTC", "Europe/Berlin", "Antarctica/Troll"} {
			s := s.In(zone(name))
			slot, next := s.Slot(at), s.Next(at)
			if slot.After(at) || !next.After(at) {
				t.Fatalf("%q in %s: at %s slot %s, next %s", words, name, at, slot, next)
			}
			if !s.Slot(next).Equal(next) || !s.Next(slot).Equal(next) || !s.Next(next.Add(-time.Second)).Equal(next) {
				t.Fatalf("%q in %s: %s is followed by %s, then %s is in %s", words, name, slot, s.Next(slot), next, s.Slot(next))
			}
			if s.Interval(at) <= 0 {
				t.Fatalf("%q: interval %s", words, s.Interval(at))
			}
		}
		if asked > 3000 {
			t.Fatalf("%q: cron was asked %d times", words, asked)
		}
	})
}
