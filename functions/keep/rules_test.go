package keep

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"staffeln/functions/backup"
)

// points makes full backups of ours at the moments, named by them, old enough that
// nothing but rules keeps them, of a volume whose policy has these rules still.
func points(moments []string, rules, in string) Holding {
	h := Holding{Volume: theVolume, Policy: current("keep=1h, rules=" + rules + ", zone=" + in)}
	for i, m := range moments {
		at, err := time.ParseInLocation("2006-01-02T15:04:05", m, zone(in))
		if err != nil { // an hour that comes twice has the offset with it
			if at, err = time.Parse(time.RFC3339, m); err != nil {
				panic(err)
			}
		}
		h.Backups = append(h.Backups, backup.CinderBackup{Origin: backup.OriginService,
			ID: fmt.Sprintf("%s.%d", m, i), Volume: theVolume, Status: "available", Created: at.UTC(),
			Metadata: map[string]string{backup.MetaAutomated: "True", backup.MetaRetention: "1h", backup.MetaZone: in, backup.MetaRules: rules},
		})
	}
	return h
}

// keptOf names those that stay by their moments, newest first, without what all
// have in common.
func keptOf(fates []Fate, trim string) string {
	var out []string
	for _, f := range fates {
		if f.Keep {
			moment, _, _ := strings.Cut(f.Backup.ID, ".")
			out = append([]string{strings.TrimSuffix(strings.TrimSuffix(moment, ":00"), trim)}, out...)
		}
	}
	return strings.Join(out, " ")
}

// The examples of restic's manual (doc/060_forget.rst, "Removing snapshots according
// to a policy").
func TestRulesOfResticsManual(t *testing.T) {
	weekdays := []string{
		"2025-04-21T11:00:00", "2025-04-22T11:00:00", "2025-04-23T11:00:00", "2025-04-24T11:00:00", "2025-04-25T11:00:00", "2025-04-25T23:00:00",
		"2025-04-28T11:00:00", "2025-04-29T11:00:00", "2025-05-01T11:00:00", "2025-05-02T11:00:00", "2025-05-02T23:00:00",
	}
	now := on("22T12:00")
	t.Run("daily=5 keeps one a day of the last five days that have any", func(t *testing.T) {
		got := keptOf(Decide(points(weekdays, "daily=5", "UTC"), now), "")
		if want := "2025-05-02T23:00 2025-05-01T11:00 2025-04-29T11:00 2025-04-28T11:00 2025-04-25T23:00"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
	t.Run("a backup a day for a hundred years", func(t *testing.T) {
		var days []string
		for at := on("1926-11-23T12:00"); !at.After(on("22T12:00")); at = at.AddDate(0, 0, 1) {
			days = append(days, at.Format("2006-01-02T15:04:05"))
		}
		// 7 daily; 4 of 5 weekly; 11 or 12 of 12 monthly; 74 or 75 of 75 yearly, which
		// restic counts beside the others. 22 November 2026 is a Sunday.
		fates := Decide(points(days, "daily=7 weekly=5 monthly=12 yearly=75", "UTC"), now)
		got := keptOf(fates, "T12:00")
		want := "2026-11-22 2026-11-21 2026-11-20 2026-11-19 2026-11-18 2026-11-17 2026-11-16 2026-11-15 2026-11-08 2026-11-01 2026-10-31 2026-10-25 2026-09-30 2026-08-31 2026-07-31 2026-06-30 2026-05-31 2026-04-30 2026-03-31 2026-02-28 2026-01-31 2025-12-31"
		for year := 2024; year > 2026-75; year-- {
			want += fmt.Sprintf(" %d-12-31", year)
		}
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
	t.Run("an empty policy keeps nothing by rule", func(t *testing.T) {
		h := points(weekdays, "none", "UTC")
		h.Gone = on("2025-05-03T00:00") // else the newest stays
		if got := keptOf(Decide(h, now), ""); got != "" {
			t.Errorf("got %s", got)
		}
	})
}

// restic's answers to some of the policies of its own test (TestApplyPolicy), for
// the same moments.
func TestRulesOfResticsTests(t *testing.T) {
	var moments []string
	add := func(month string, days ...string) {
		for _, d := range days {
			if !strings.Contains(d, "T") {
				d += "T10:20:30"
			}
			moments = append(moments, month+"-"+d)
		}
	}
	days := []string{"01", "02", "05", "06", "08", "09", "10", "11", "20", "22"}
	summer := []string{"08", "10", "12", "13", "13T10:20:30.1", "15", "18", "20", "21", "22"}
	add("2014-09", days...)
	add("2014-08", summer...)
	add("2014-10", days...)
	add("2014-11", summer...)
	add("2015-09", days...)
	add("2015-08", summer...)
	add("2015-10", append(days, "22", "22", "22", "22")...)
	add("2015-11", summer...)
	add("2016-01", "01T01:02:03", "01T01:03:03", "01T07:08:03", "03T07:02:03", "04T10:23:03", "04T11:23:03", "04T12:23:03", "04T12:24:03", "04T12:28:03",
		"04T12:30:03", "04T16:23:03", "05T09:02:03", "06T08:02:03", "07T10:02:03", "08T20:02:03", "09T21:02:03", "12T21:02:03", "12T21:08:03", "18T12:02:03")
	days2016 := "2016-01-18T12:02:03 2016-01-12T21:08:03 2016-01-09T21:02:03 "
	for _, c := range []struct{ rules, want string }{
		{"last=5", "2016-01-18T12:02:03 2016-01-12T21:08:03 2016-01-12T21:02:03 2016-01-09T21:02:03 2016-01-08T20:02:03"},
		{"daily=3", days2016},
		{"last=5 daily=5", "2016-01-18T12:02:03 2016-01-12T21:08:03 2016-01-12T21:02:03 2016-01-09T21:02:03 2016-01-08T20:02:03 2016-01-07T10:02:03"},
		{"last=2 daily=10", days2016 + "2016-01-08T20:02:03 2016-01-07T10:02:03 2016-01-06T08:02:03 2016-01-05T09:02:03 2016-01-04T16:23:03 2016-01-03T07:02:03 2016-01-01T07:08:03"},
		{"hourly=20", days2016 + "2016-01-08T20:02:03 2016-01-07T10:02:03 2016-01-06T08:02:03 2016-01-05T09:02:03 2016-01-04T16:23:03 2016-01-04T12:30:03 2016-01-04T11:23:03 " +
			"2016-01-04T10:23:03 2016-01-03T07:02:03 2016-01-01T07:08:03 2016-01-01T01:03:03 2015-11-22 2015-11-21 2015-11-20 2015-11-18 2015-11-15 2015-11-13"},
		{"weekly=2", "2016-01-18T12:02:03 2016-01-12T21:08:03"},
		{"weekly=4", days2016 + "2016-01-03T07:02:03"},
		{"daily=3 weekly=4", days2016 + "2016-01-03T07:02:03"},
		{"monthly=6", "2016-01-18T12:02:03 2015-11-22 2015-10-22 2015-09-22 2015-08-22 2014-11-22"},
		{"daily=2 weekly=2 monthly=6", "2016-01-18T12:02:03 2016-01-12T21:08:03 2015-11-22 2015-10-22 2015-09-22 2015-08-22 2014-11-22"},
		// As there are fewer than ten years, the oldest of all stays, too.
		{"yearly=10", "2016-01-18T12:02:03 2015-11-22 2014-11-22 2014-08-08"},
		{"daily=7 weekly=2 monthly=3 yearly=10", days2016 + "2016-01-08T20:02:03 2016-01-07T10:02:03 2016-01-06T08:02:03 2016-01-05T09:02:03 2015-11-22 2015-10-22 2014-11-22 2014-08-08"},
		{"daily=3 weekly=2 monthly=-1 yearly=-1", days2016 + "2015-11-22 2015-10-22 2015-09-22 2015-08-22 2014-11-22 2014-10-22 2014-09-22 2014-08-22 2014-08-08"},
	} {
		t.Run(c.rules, func(t *testing.T) {
			got := keptOf(Decide(points(moments, c.rules, "UTC"), on("22T12:00")), "T10:20:30")
			// Of five made in one second it does not matter which.
			if want := strings.TrimSpace(c.want); strings.ReplaceAll(got, "2015-10-22T10:20:30", "2015-10-22") != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
	for rules, want := range map[string]int{"last=99": 99, "last=-1": len(moments), "last=200": len(moments), "last=-1 hourly=-1": len(moments), "hourly=-1": 90} {
		if got := len(strings.Fields(keptOf(Decide(points(moments, rules, "UTC"), on("22T12:00")), ""))); got != want {
			t.Errorf("%s keeps %d, restic %d", rules, got, want)
		}
	}
}

// Hours, days, weeks... are those of the zone's calendar.
func TestRulesByTheCalendarOfAZone(t *testing.T) {
	for _, c := range []struct{ name, zone, rules, moments, want string }{
		{"a day ends at the zone's midnight", "Europe/Berlin", "daily=1", "2026-11-21T23:59 2026-11-22T00:00 2026-11-22T00:30", "2026-11-22T00:30"},
		{"and UTC's midnight is nothing", "Asia/Kathmandu", "daily=2", "2026-11-22T05:30 2026-11-22T06:00 2026-11-23T05:00", "2026-11-23T05:00 2026-11-22T06:00"},
		{"a week begins on Monday", "UTC", "weekly=2", "2026-11-15T12:00 2026-11-16T12:00 2026-11-22T12:00", "2026-11-22T12:00 2026-11-15T12:00"},
		{"the last days of a year can be in the next one's first week", "UTC", "weekly=2", "2025-12-28T12:00 2025-12-29T12:00 2026-01-04T12:00", "2026-01-04T12:00 2025-12-28T12:00"},
		{"the last of a month", "UTC", "monthly=3", "2026-08-31T12:00 2026-09-29T12:00 2026-09-30T12:00 2026-10-01T12:00", "2026-10-01T12:00 2026-09-30T12:00 2026-08-31T12:00"},
		{"29 February is a day of its month", "UTC", "monthly=2", "2028-02-28T12:00 2028-02-29T12:00 2028-03-01T00:00", "2028-03-01T00:00 2028-02-29T12:00"},
		{"an hour that the clock shows twice is one", "Europe/Berlin", "hourly=3", "2026-10-25T01:30 2026-10-25T02:10+02:00 2026-10-25T02:50+02:00 2026-10-25T02:05+01:00 2026-10-25T02:50+01:00 2026-10-25T03:10", "2026-10-25T03:10 2026-10-25T02:50+01 2026-10-25T01:30"},
		{"an hour that the clock leaves out is none", "Europe/Berlin", "hourly=2", "2026-03-29T01:10 2026-03-29T01:50 2026-03-29T03:10", "2026-03-29T03:10 2026-03-29T01:50"},
		{"a day of 25 hours is one", "America/New_York", "daily=1", "2026-11-01T00:10 2026-11-01T23:50", "2026-11-01T23:50"},
		{"the year of the zone", "America/New_York", "yearly=1", "2026-12-31T23:30 2026-12-31T18:30", "2026-12-31T23:30"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var moments []string
			for m := range strings.FieldsSeq(c.moments) {
				moments = append(moments, m[:len("2026-10-25T02:10")]+":00"+m[len("2026-10-25T02:10"):])
			}
			h := points(moments, c.rules, c.zone)
			// Without the special rule for the oldest of all: it would keep one more.
			h.Backups = append(h.Backups, backup.CinderBackup{Origin: backup.OriginService, ID: "2000-01-01T00:00:00.x", Volume: theVolume, Status: "available", Created: on("2000-01-01T00:00"),
				Metadata: map[string]string{backup.MetaAutomated: "True", backup.MetaRetention: "99y", backup.MetaZone: "UTC"}})
			got := strings.ReplaceAll(strings.TrimSuffix(keptOf(Decide(h, on("2029-11-22T12:00")), ""), " 2000-01-01T00:00"), ":00+", "+")
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}
