package backup

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseBlackouts(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"nothing means none", "", ""},
		{"blanks and semicolons alone mean none", " ; ;", ""},
		{"every day", "08:00-18:00", "08:00-18:00"},
		{"a range of days", "mon-fri 08:00-18:00", "mon-fri 08:00-18:00"},
		{"a range of one", "mon-mon 08:00-18:00", "mon-mon 08:00-18:00"},
		{"a range over the week's end", "sat-mon 08:00-18:00", "sat-mon 08:00-18:00"},
		{"single days and ranges", "mon,wed-fri,sun 08:00-18:00", "mon,wed-fri,sun 08:00-18:00"},
		{"several", "mon-fri 08:00-18:00;23:30-00:30", "mon-fri 08:00-18:00; 23:30-00:30"},
		{"any case and any blanks", "  MON-Fri \t 08:00-18:00 ;", "mon-fri 08:00-18:00"},

		{"no hours", "mon-fri", "is not a blackout"},
		{"no end", "08:00", "is not a blackout"},
		{"an open end", "08:00-", "is not a blackout"},
		{"no length", "08:00-08:00", "is not a blackout"},
		{"no such hour to begin", "25:00-08:00", "is not a blackout"},
		{"the end of the day is no beginning", "24:00-08:00", "is not a blackout"},
		{"an end after midnight is not counted on", "08:00-24:01", "is not a blackout"},
		{"no such day", "montag 08:00-18:00", "is not a blackout"},
		{"no such day in a range", "mon-freitag 08:00-18:00", "is not a blackout"},
		{"three ends of a range", "mon-wed-fri 08:00-18:00", "is not a blackout"},
		{"an empty day", "mon,,tue 08:00-18:00", "is not a blackout"},
		{"hours before days", "08:00-18:00 mon", "is not a blackout"},
		{"one bad among good", "08:00-18:00; x", `"x" is not a blackout`},
	} {
		t.Run(c.name, func(t *testing.T) {
			bs, err := ParseBlackouts(c.in)
			got := bs.String()
			if err != nil {
				if got = err.Error(); bs != nil {
					t.Errorf("an error and blackouts: %v", bs)
				}
			}
			if got != c.want && (err == nil || !strings.Contains(got, c.want) || !strings.Contains(got, "HH:MM-HH:MM")) {
				t.Errorf("%q: got %s, want %s", c.in, got, c.want)
			}
		})
	}
}

// 22 November 2026 is a Sunday.
func TestBlackoutsUntil(t *testing.T) {
	for _, c := range []struct{ name, blackouts, in, at, want string }{
		{"none", "", "UTC", "22T09:00", ""},
		{"before", "08:00-18:00", "UTC", "22T07:59", ""},
		{"from its first minute", "08:00-18:00", "UTC", "22T08:00", "until 22T18:00: blackout 08:00-18:00"},
		{"to its last", "08:00-18:00", "UTC", "22T17:59", "until 22T18:00: blackout 08:00-18:00"},
		{"not at its end", "08:00-18:00", "UTC", "22T18:00", ""},
		{"by the clock of the zone", "08:00-18:00", "Asia/Kathmandu", "22T02:15", "until 22T12:15: blackout 08:00-18:00"},
		{"not by that of UTC", "08:00-18:00", "Asia/Kathmandu", "22T13:00", ""},
		{"on a day of the range", "fri-sun 08:00-18:00", "UTC", "22T09:00", "until 22T18:00: blackout fri-sun 08:00-18:00"},
		{"on no day of the range", "mon-sat 08:00-18:00", "UTC", "22T09:00", ""},
		{"a range over the week's end holds its Sunday", "sat-tue 08:00-18:00", "UTC", "22T09:00", "until 22T18:00: blackout sat-tue 08:00-18:00"},
		{"its Monday", "sat-tue 08:00-18:00", "UTC", "23T09:00", "until 23T18:00: blackout sat-tue 08:00-18:00"},
		{"its last day", "sat-tue 08:00-18:00", "UTC", "24T09:00", "until 24T18:00: blackout sat-tue 08:00-18:00"},
		{"and no Wednesday", "sat-tue 08:00-18:00", "UTC", "25T09:00", ""},
		{"past midnight, before it", "23:30-00:30", "UTC", "22T23:45", "until 23T00:30: blackout 23:30-00:30"},
		{"past midnight, after it", "23:30-00:30", "UTC", "22T00:15", "until 22T00:30: blackout 23:30-00:30"},
		{"to midnight", "23:30-00:00", "UTC", "22T23:45", "until 23T00:00: blackout 23:30-00:00"},
		{"to midnight, in other words", "23:30-24:00", "UTC", "22T23:45", "until 23T00:00: blackout 23:30-24:00"},
		{"a whole day begins at midnight", "sun 00:00-24:00", "UTC", "22T00:00", "until 23T00:00: blackout sun 00:00-24:00"},
		{"a whole day is not the next", "sun 00:00-24:00", "UTC", "23T00:00", ""},
		{"whole days in a row", "sat,sun 00:00-24:00", "UTC", "21T12:00", "until 22T00:00: blackout sat,sun 00:00-24:00"},
		{"the day is that on which it begins", "sat 23:30-00:30", "UTC", "22T00:15", "until 22T00:30: blackout sat 23:30-00:30"},
		{"and not that on which it ends", "sun 23:30-00:30", "UTC", "22T00:15", ""},
		{"the day is the zone's", "sun 00:00-06:00", "America/New_York", "22T04:30", ""},
		{"the day is the zone's when it comes there", "sun 00:00-06:00", "America/New_York", "22T05:30", "until 22T11:00: blackout sun 00:00-06:00"},
		{"of two, the one that ends last", "08:00-12:00; 09:00-18:00; 10:00-11:00", "UTC", "22T10:30", "until 22T18:00: blackout 09:00-18:00"},
		{"of two, the one that it lies in", "08:00-12:00; 14:00-18:00", "UTC", "22T15:00", "until 22T18:00: blackout 14:00-18:00"},
		{"over the end of a month", "23:30-00:30", "UTC", "2026-11-30T23:45", "until 01T00:30: blackout 23:30-00:30"},

		{"clocks put forward: over when the clock has jumped over its end", "01:00-02:30", "Europe/Berlin", "2026-03-29T00:30", "until 29T01:00: blackout 01:00-02:30"},
		{"not where the clock jumped to", "01:00-02:30", "Europe/Berlin", "2026-03-29T01:00", ""},
		{"all of it in the gap: not at all", "02:15-02:45", "America/New_York", "2026-03-08T06:30", ""},
		{"an hour shorter", "00:00-06:00", "Europe/Berlin", "2026-03-29T00:30", "until 29T04:00: blackout 00:00-06:00"},
		{"clocks put back: an hour longer", "00:00-06:00", "Europe/Berlin", "2026-10-25T00:30", "until 25T05:00: blackout 00:00-06:00"},
		{"in the hour that comes twice, first", "02:15-02:45", "Europe/Berlin", "2026-10-25T00:30", "until 25T01:45: blackout 02:15-02:45"},
		{"between the two", "02:15-02:45", "Europe/Berlin", "2026-10-25T01:00", "until 25T01:45: blackout 02:15-02:45"},
		{"and second", "02:15-02:45", "Europe/Berlin", "2026-10-25T01:30", "until 25T01:45: blackout 02:15-02:45"},
		{"and over", "02:15-02:45", "Europe/Berlin", "2026-10-25T01:45", ""},
		{"to the moment at which the clock is put back, which is not that hour's", "02:15-03:00", "Europe/Berlin", "2026-10-25T00:30", "until 25T02:00: blackout 02:15-03:00"},
		{"to the first minute that comes twice", "01:15-02:00", "Europe/Berlin", "2026-10-24T23:30", "until 25T01:00: blackout 01:15-02:00"},
		{"begun in the hour that comes twice, it goes on while that comes again", "01:01-06:00", "America/New_York", "2026-11-01T06:00", "until 01T11:00: blackout 01:01-06:00"},
		{"the same where the clock is behind UTC, first", "01:15-01:45", "America/New_York", "2026-11-01T05:30", "until 01T06:45: blackout 01:15-01:45"},
		{"and second there", "01:15-01:45", "America/New_York", "2026-11-01T06:30", "until 01T06:45: blackout 01:15-01:45"},
		{"a clock put back over midnight", "00:10-01:00", "Antarctica/Casey", "2010-03-04T15:30", "until 04T17:00: blackout 00:10-01:00"},
		{"half an hour in Lord Howe", "01:00-03:00", "Australia/Lord_Howe", "2026-04-04T14:30", "until 04T16:30: blackout 01:00-03:00"},
		{"a day without a midnight is still that day", "sun 00:00-06:00", "America/Santiago", "2026-09-06T04:30", "until 06T09:00: blackout sun 00:00-06:00"},
		{"and not the one before", "sat 00:00-06:00", "America/Santiago", "2026-09-06T04:30", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			bs, err := ParseBlackouts(c.blackouts)
			if err != nil {
				t.Fatal(err)
			}
			end, why, in := bs.Until(on(c.at), zone(c.in))
			got := ""
			if in {
				got = "until " + day(end) + ": " + why
			} else if why != "" || !end.IsZero() {
				t.Errorf("not in one, yet %s %q", end, why)
			}
			if got != c.want || end.Location() != time.UTC {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// Whatever the clock does: a blackout lasts until the minute that its end is told
// to be, and is over then.
func TestBlackoutsEndWhenTheySay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hours := rapid.Custom(func(t *rapid.T) string {
			return time.Unix(rapid.Int64Range(0, 1439).Draw(t, "minute")*60, 0).UTC().Format("15:04")
		})
		words := rapid.SampledFrom([]string{"", "sun ", "sat-mon ", "mon,sun "}).Draw(t, "days") + hours.Draw(t, "from") + "-" + hours.Draw(t, "to")
		bs, err := ParseBlackouts(words)
		if err != nil {
			t.Skip("no length")
		}
		l := zone(rapid.SampledFrom(append(someZones, "America/Santiago", "Asia/Beirut", "Antarctica/Troll")).Draw(t, "zone"))
		changed := rapid.SampledFrom([]string{"2026-03-08T07:00", "2026-03-29T01:00", "2026-10-25T01:00", "2026-11-01T06:00", "2026-04-04T15:00",
			"2026-10-03T15:30", "2026-02-15T02:00", "2026-03-22T02:00", "2026-09-06T04:00", "2026-04-05T03:00", "2026-03-28T22:00"}).Draw(t, "near")
		at := on(changed).Add(time.Duration(rapid.IntRange(-1500, 1500).Draw(t, "minutes")) * time.Minute)
		end, _, in := bs.Until(at, l)
		if !in {
			return
		}
		if !end.After(at) || end.Sub(at) > 27*time.Hour {
			t.Fatalf("%q at %s lasts until %s", words, at.In(l), end.In(l))
		}
		// It may be the beginning of the next one, where the clock jumps over what parts them.
		if again, _, in := bs.Until(end, l); in && again.Sub(end) < 20*time.Hour {
			t.Fatalf("%q is not over at %s", words, end.In(l))
		}
		for m := at; m.Before(end); m = m.Add(time.Minute) {
			if until, _, in := bs.Until(m, l); !in || !until.Equal(end) {
				t.Fatalf("%q at %s lasts until %s, but at %s: %v until %s", words, at.In(l), end.In(l), m.In(l), in, until.In(l))
			}
		}
	})
}

func FuzzParseBlackouts(f *testing.F) {
	for _, s := range []string{"", "mon-fri 08:00-18:00; 23:30-00:30", "sat-mon 00:00-23:59", "08:00-08:00", "mon,,tue 8:00-9:00", "-", "mon 8:00-9:00-10:00", ";\x00;"} {
		f.Add(s, int64(1790000000))
	}
	f.Fuzz(func(t *testing.T, s string, unix int64) {
		bs, err := ParseBlackouts(s)
		if err != nil {
			if bs != nil || len(err.Error()) > 600 {
				t.Fatalf("%q: %v and %.700v", s, bs, err)
			}
			return
		}
		again, err := ParseBlackouts(bs.String())
		if err != nil || again.String() != bs.String() || len(again) != len(bs) {
			t.Fatalf("%q is written %q and read %q, %v", s, bs, again, err)
		}
		at := time.Unix(unix%(100*365*24*3600), 0)
		for _, name := range []string{"UTC", "America/Santiago"} {
			end, why, in := bs.Until(at, zone(name))
			if in != end.After(at) || in != (why != "") {
				t.Fatalf("%q at %s: %v until %s (%s)", s, at, in, end, why)
			}
		}
	})
}
