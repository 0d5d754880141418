package backup

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseAge(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"two weeks and three days", "2w3d", "2w3d"},
		{"every unit, in order", "1y2mon3w4d5h6min7s", "1y2mon3w4d5h6min7s"},
		{"a month is mon", "3mon", "3mon"},
		{"a minute is min", "90min", "90min"},
		{"units need not be adjacent", "1y30s", "1y30s"},
		{"a zero part says nothing", "0y3d", "3d"},
		{"leading zeros say nothing", "007d", "7d"},
		{"a hundred years in years", "100y", "100y"},
		{"a hundred years in months", "1200mon", "1200mon"},
		{"a hundred years in days, leap days and all", "36525d", "36525d"},
		{"a hundred years in seconds", "3155760000s", "3155760000s"},

		{"nothing is not a span", "", "no time at all"},
		{"zero is no time at all", "0d", "no time at all"},
		{"zero twice is no time at all", "0y0s", "no time at all"},
		{"a number needs a unit", "14", "not a span"},
		{"a unit needs a number", "d", "not a span"},
		{"m could be either and is neither", "5m", "not a span"},
		{"units are in lower case", "2W", "not a span"},
		{"days do not come before weeks", "3d2w", "not a span"},
		{"a unit does not come twice", "1d1d", "not a span"},
		{"no blanks between", "2w 3d", "not a span"},
		{"no blanks around", " 2w", "not a span"},
		{"no minus", "-2w", "not a span"},
		{"no fractions", "1.5d", "not a span"},
		{"no other digits than ASCII's", "٣d", "not a span"},
		{"a word", "forever", "not a span"},
		{"a number too large for any machine", "99999999999999999999d", "not a span"},
		{"what stopped retention for a whole cloud once", "9999y", "longer than 100 years"},
		{"a day more than a hundred years", "100y1d", "longer than 100 years"},
		{"a day more than a hundred years, in days", "36526d", "longer than 100 years"},
		{"a second more than a hundred years", "3155760001s", "longer than 100 years"},
		{"more than a hundred years of any one unit", "36601d", "longer than 100 years"},
		{"so many hours that they would overflow to half an hour", "5124096h", "longer than 100 years"},
		{"a hundred years as a sum of halves", "50y600mon1d", "longer than 100 years"},
		{"a hundred years of each unit", "100y1200mon5200w36500d876000h52560000min3153600000s", "longer than 100 years"},
		{"a hundred years each of the units that pass", "876000h52560000min3153600000s", "longer than 100 years"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := ParseAge(c.in)
			got := a.String()
			if err != nil {
				if got = err.Error(); !a.IsZero() {
					t.Errorf("an error and an age: %v", a)
				}
			}
			if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
				t.Errorf("%q: got %s, want %s", c.in, got, c.want)
			}
		})
	}
}

func TestAgeErrorsAreShort(t *testing.T) {
	if _, err := ParseAge(strings.Repeat("<script>\n", 1000)); len(err.Error()) > 300 || strings.Contains(err.Error(), "\n") {
		t.Errorf("an owner's value makes a long or broken line: %.400q", err)
	}
}

func TestAgeUnmarshalText(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"an age", "2w", "2w"},
		{"0 is none", "0", "0"},
		{"nothing is none", "", "0"},
		{"an error leaves what was there", "x", "1y"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := Age{Years: 1}
			err := a.UnmarshalText([]byte(c.in))
			if a.String() != c.want || (err != nil) != (c.in == "x") {
				t.Errorf("got %v, %v", a, err)
			}
		})
	}
}

func TestAgeAfter(t *testing.T) {
	for _, c := range []struct{ name, in, from, age, want string }{
		{"31 January and a month is the last of February", "UTC", "2026-01-31 10:00", "1mon", "2026-02-28 10:00"},
		{"in a leap year the 29th", "UTC", "2028-01-31 10:00", "1mon", "2028-02-29 10:00"},
		{"31 August and a month is 30 September", "UTC", "2026-08-31 10:00", "1mon", "2026-09-30 10:00"},
		{"a day that the month has stays", "UTC", "2026-01-30 10:00", "2mon", "2026-03-30 10:00"},
		{"a leap day and a year is 28 February", "UTC", "2028-02-29 10:00", "1y", "2029-02-28 10:00"},
		{"a leap day and four years is a leap day", "UTC", "2028-02-29 10:00", "4y", "2032-02-29 10:00"},
		{"2100 has no leap day", "UTC", "2096-02-29 10:00", "4y", "2100-02-28 10:00"},
		{"months go over the year's end", "UTC", "2026-11-15 10:00", "3mon", "2027-02-15 10:00"},
		{"December and a month is January", "UTC", "2026-12-15 10:00", "1mon", "2027-01-15 10:00"},
		{"November and a month is December", "UTC", "2026-11-30 10:00", "1mon", "2026-12-30 10:00"},
		{"years and months come before days", "UTC", "2026-01-31 10:00", "1mon1d", "2026-03-01 10:00"},
		{"weeks are seven days", "UTC", "2026-11-22 10:00", "2w3d", "2026-12-09 10:00"},
		{"hours, minutes and seconds add up", "UTC", "2026-11-22 10:00", "1h29min60s", "2026-11-22 11:30"},
		{"a day over the change to summer time is one by the wall clock", "Europe/Berlin", "2026-03-28 12:00", "1d", "2026-03-29 12:00"},
		{"24 hours over the change to summer time are an hour later on it", "Europe/Berlin", "2026-03-28 12:00", "24h", "2026-03-29 13:00"},
		{"a week over the change back", "Europe/Berlin", "2026-10-24 12:00", "1w", "2026-10-31 12:00"},
		{"24 hours over the change back are an hour earlier on it", "Europe/Berlin", "2026-10-24 12:00", "24h", "2026-10-25 11:00"},
		{"half an hour of summer time in Lord Howe", "Australia/Lord_Howe", "2026-04-04 12:00", "24h", "2026-04-05 11:30"},
	} {
		t.Run(c.name, func(t *testing.T) {
			from, err := time.ParseInLocation("2006-01-02 15:04", c.from, zone(c.in))
			if err != nil {
				t.Fatal(err)
			}
			if got := age(c.age).After(from); got.Format("2006-01-02 15:04") != c.want || got.Location() != from.Location() {
				t.Errorf("%s + %s: got %s, want %s", from, c.age, got, c.want)
			}
		})
	}
}

func TestAgeAfterInAnHourThatComesTwice(t *testing.T) {
	for _, second := range []time.Time{
		on("2026-10-25T01:30").In(zone("Europe/Berlin")),    // 02:30
		on("2026-11-01T06:30").In(zone("America/New_York")), // 01:30
	} {
		if got := age("10min").After(second); !got.Equal(second.Add(10 * time.Minute)) {
			t.Errorf("time went back: %s + 10min = %s", second, got)
		}
	}
}

// anyAge draws ages that ParseAge takes.
func anyAge() *rapid.Generator[Age] {
	return rapid.Custom(func(t *rapid.T) Age {
		part := func(name string, most int) int {
			if !rapid.Bool().Draw(t, "has "+name) {
				return 0
			}
			return rapid.IntRange(0, most).Draw(t, name)
		}
		a := Age{part("y", 60), part("mon", 120), part("w", 520), part("d", 3650), part("h", 9000), part("min", 500000), part("s", 30000000)}
		if a.IsZero() {
			a.Days = 1
		}
		return a
	})
}

var someZones = []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kathmandu"}

// anyMoment draws a moment of the years 2025 to 2032, by the clock of some zone.
func anyMoment(t *rapid.T) time.Time {
	from := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	s := rapid.Int64Range(0, 7*365*24*3600).Draw(t, "moment")
	return from.Add(time.Duration(s) * time.Second).In(zone(rapid.SampledFrom(someZones).Draw(t, "zone")))
}

func TestAgeIsReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := anyAge().Draw(t, "age")
		b, err := ParseAge(a.String())
		if err != nil || a != b {
			t.Fatalf("%#v is written %s and read %#v, %v", a, a, b, err)
		}
		var c Age
		if err := c.UnmarshalText([]byte(a.String())); err != nil || c != a {
			t.Fatalf("%s is unmarshalled as %s, %v", a, c, err)
		}
	})
}

func TestAgeAlwaysLiesAhead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, from := anyAge().Draw(t, "age"), anyMoment(t)
		if to := a.After(from); !to.After(from) {
			t.Fatalf("%s + %s = %s", from, a, to)
		}
	})
}

func TestAgeCompare(t *testing.T) {
	for _, c := range []struct {
		name, a, b string
		want       int
	}{
		{"shorter", "1d", "2d", -1},
		{"longer", "3w", "2w6d", 1},
		{"the same in other words", "1w", "7d", 0},
		{"a month counts 30 days", "1mon", "30d", 0},
		{"a year counts 365 days", "1y", "365d", 0},
		{"a second decides", "1d1s", "1d", 1},
		{"a minute is 60 seconds", "1min", "60s", 0},
		{"an hour is 60 minutes", "1h", "60min", 0},
		{"a day is 24 hours", "1d", "24h", 0},
		{"many hours are more than fewer years", "788400h", "70y", 1},
		{"many seconds are more than fewer years", "3000000000s", "80y", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := age(c.a).Compare(age(c.b)); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
			if got := age(c.b).Compare(age(c.a)); got != -c.want {
				t.Errorf("the other way round: got %d, want %d", got, -c.want)
			}
		})
	}
}

func TestAgeCompareIsAnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := anyAge().Draw(t, "a"), anyAge().Draw(t, "b"), anyAge().Draw(t, "c")
		if a.Compare(a) != 0 || a.Compare(b) != -b.Compare(a) {
			t.Fatalf("not antisymmetric: %s %s", a, b)
		}
		if a.Compare(b) <= 0 && b.Compare(c) <= 0 && a.Compare(c) > 0 {
			t.Fatalf("not transitive: %s %s %s", a, b, c)
		}
	})
}

// Without months and years, and without a clock that is changed, what compares
// less ends earlier.
func TestAgeCompareAgreesWithAfter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, from := anyAge().Draw(t, "a"), anyAge().Draw(t, "b"), anyMoment(t).UTC()
		a.Years, a.Months, b.Years, b.Months = 0, 0, 0, 0
		if got, want := a.Compare(b), a.After(from).Compare(b.After(from)); got != want {
			t.Fatalf("%s and %s: compare %d, ends %d", a, b, got, want)
		}
	})
}

func FuzzParseAge(f *testing.F) {
	for _, s := range []string{"2w3d", "1y2mon3w4d5h6min7s", "9999y", "", "0", "-1d", "1m", "1mon1min", "876000h52560000min3153600000s", "1d\x00", "１d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAge(s)
		if err != nil {
			if !a.IsZero() || len(err.Error()) > 400 {
				t.Fatalf("%q: %v, %.500s", s, a, err)
			}
			return
		}
		b, err := ParseAge(a.String())
		if err != nil || a != b {
			t.Fatalf("%q is written %s and read %v, %v", s, a, b, err)
		}
		from := on("22T00:00")
		if to := a.After(from); !to.After(from) || to.After(from.AddDate(maxAgeYears, 0, 1)) {
			t.Fatalf("%q ends %s", s, to)
		}
	})
}
