package keep

import (
	"slices"
	"strings"
	"testing"

	"staffeln/functions/backup"
)

// now of all tables that say nothing else.
const today = "22T12:00"

type retainCase struct {
	name    string
	backups string
	frozen  string // policy of all backups; see held
	current string // policy of the volume; "" for not protected
	want    string // the fates
}

func runDecide(t *testing.T, cases []retainCase, change func(*Holding)) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := held(t, c.backups, c.frozen, on(today))
			h.Policy = current(c.current)
			if change != nil {
				change(&h)
			}
			same(t, tellFates(Decide(h, on(today))), lines(c.want))
		})
	}
}

func TestRetentionTime(t *testing.T) {
	runDecide(t, []retainCase{
		{"a backup stays for its retention time, and goes when that is over", "F1@15d F2@14d F3@13d F4@1h", "keep=2w", "keep=2w", `
			-F1 older than 2w
			-F2 older than 2w
			+F3 younger than 2w until 23T12:00
			+F4 younger than 2w, the newest complete restore point`},
		{"however old it is, the newest stays", "F1@365d", "keep=2w", "keep=2w", `
			+F1 the newest complete restore point`},
		{"also where the server is not protected any more", "F1@20d F2@19d", "keep=2w", "", `
			-F1 older than 2w
			+F2 the newest complete restore point`},
		{"the later of its retention time and its keep-until counts", "F1@20d{until=25T00:00} F2@20d{until=21T00:00} F3@20d{keep=3w until=25T00:00} F4@1h", "keep=2w", "", `
			+F1 kept until 2026-11-25T00:00:00Z until 25T00:00
			-F2 to be kept until 2026-11-21T00:00:00Z
			+F3 younger than 3w until 25T00:00
			+F4 younger than 2w, the newest complete restore point`},
		{"a month is a month, whatever its length", "F1@2026-10-22T12:00 F2@2026-10-22T12:01 F3@1h", "keep=1mon", "", `
			-F1 older than 1mon
			+F2 younger than 1mon until 22T12:01
			+F3 younger than 1mon, the newest complete restore point`},
		{"a backup from the future is young", "F1@2030-01-01T00:00 F2@20d", "keep=2w", "", `
			-F2 older than 2w
			+F1 younger than 2w, the newest complete restore point`},
		{"of a volume without backups there is nothing to say", "", "", "keep=2w", ``},
	}, nil)
}

// The end of a retention is counted by the calendar of its zone: month ends, leap
// days, changes of the clock.
func TestRetentionTimeByTheCalendar(t *testing.T) {
	for _, c := range []struct{ name, zone, keep, made, until string }{
		{"31 January and a month is the end of February", "UTC", "1mon", "2026-01-31T10:00", "2026-02-28T10:00"},
		{"in a leap year its 29th", "UTC", "1mon", "2028-01-31T10:00", "2028-02-29T10:00"},
		{"a leap day and a year", "UTC", "1y", "2028-02-29T10:00", "2029-02-28T10:00"},
		{"a month over a change of the clock", "Europe/Berlin", "1mon", "2026-10-10T00:30", "2026-11-10T01:30"},
		{"a day of 23 hours", "Europe/Berlin", "1d", "2026-03-28T11:00", "2026-03-29T10:00"},
		{"a day of 25 hours", "America/New_York", "1d", "2026-10-31T16:00", "2026-11-01T17:00"},
		{"24 hours are 24 hours", "Europe/Berlin", "24h", "2026-03-28T11:00", "2026-03-29T11:00"},
		{"a day of 23 and a half hours", "Australia/Lord_Howe", "1d", "2026-10-03T01:00", "2026-10-04T00:30"},
		{"the 31st of the zone, which is the 30th in UTC", "Asia/Kathmandu", "1mon", "2027-01-30T20:00", "2027-02-27T20:00"},
		{"a day that a country left out", "Pacific/Apia", "1d", "2011-12-29T20:00", "2011-12-30T20:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := held(t, "F1@"+c.made+" F2@2030-01-01T00:00", "keep="+c.keep+", zone="+c.zone, on(today))
			end := on(c.until)
			before, at := Decide(h, end.Add(-1))[0], Decide(h, end)[0]
			if !before.Keep || !before.Until.Equal(end) || at.Keep {
				t.Errorf("stays until %s; a moment before %v, then %v", before.Until, before.Keep, at.Keep)
			}
		})
	}
}

func TestFrozenAndCurrentPolicy(t *testing.T) {
	runDecide(t, []retainCase{
		{"a policy that was lengthened counts at once", "F1@20d F2@1h", "keep=2w", "keep=30d", `
			+F1 younger than 30d by the current policy until 2026-12-02T12:00
			+F2 younger than 2w, the newest complete restore point`},
		{"one that was shortened counts only for what comes after", "F1@20d F2@10d{keep=1w} F3@1h{keep=1w}", "keep=30d", "keep=1w", `
			+F1 younger than 30d until 2026-12-02T12:00
			-F2 older than 1w
			+F3 younger than 1w, the newest complete restore point`},
		{"where both keep it the later end counts", "F1@1d F2@1h", "keep=2w", "keep=3w", `
			+F1 younger than 2w until 2026-12-12T12:00
			+F2 younger than 2w, the newest complete restore point`},
		{"where neither does the longer one is told", "F1@20d F2@1h", "keep=1w", "keep=2w", `
			-F1 older than 2w
			+F2 younger than 1w, the newest complete restore point`},
		{"a class that is renamed changes nothing", "F1@20d{__staffeln_class=gone} F2@1h", "keep=30d", "keep=1w, class=other", `
			+F1 younger than 30d until 2026-12-02T12:00
			+F2 younger than 30d, the newest complete restore point`},
		{"with the tag taken off the frozen policy goes on", "F1@20d F2@10d F3@1h", "keep=2w", "", `
			-F1 older than 2w
			+F2 younger than 2w until 26T12:00
			+F3 younger than 2w, the newest complete restore point`},
		{"the current policy's rules keep what was made before them", "F1@3d F2@2d F3@1d F4@1h", "keep=1h", "keep=1h, rules=daily=3", `
			-F1 older than 1h, beyond daily=3
			+F2 daily 3 of 3 by the current policy
			+F3 daily 2 of 3 by the current policy
			+F4 daily 1 of 3 by the current policy, the newest complete restore point`},
		{"frozen rules keep when the current policy has none any more, but no longer than they say", "F1@3d F2@2d F3@1d F4@1h", "keep=1h, rules=daily=3", "keep=1h", `
			-F1 older than 1h, beyond daily=3
			+F2 daily 3 of 3 until 2026-11-23 until 23T12:00
			+F3 daily 2 of 3 until 2026-11-24 until 24T12:00
			+F4 daily 1 of 3 until 2026-11-25, the newest complete restore point`},
		{"neither's rules take anything from the other's", "F1@4d F2@3d F3@2d F4@1d F5@1h", "keep=1h, rules=daily=2", "keep=1h, rules=last=3", `
			-F1 older than 1h, beyond daily=2, beyond last=3
			-F2 older than 1h, beyond daily=2, beyond last=3
			+F3 last 3 of 3 by the current policy
			+F4 last 2 of 3 by the current policy, daily 2 of 2 until 2026-11-23
			+F5 last 1 of 3 by the current policy, daily 1 of 2 until 2026-11-24, the newest complete restore point`},
		{"days are counted in the zone of each", "F1@21T22:30 F2@21T23:30 F3@22T10:00", "keep=1h, rules=daily=2", "keep=1h, rules=daily=2, zone=Europe/Berlin", `
			+F1 daily 2 of 2 by the current policy
			+F2 daily 2 of 2 until 2026-11-23 until 23T23:30
			+F3 daily 1 of 2 by the current policy, daily 1 of 2 until 2026-11-24, the newest complete restore point`},
	}, nil)
}

func TestArchiveRulesOfSeveralPolicies(t *testing.T) {
	runDecide(t, []retainCase{
		{"today's judge all of them, earlier ones those made under them",
			"F1@5d F2@4d F3@3d F4@2d{rules=daily=4} F5@1d{rules=daily=4} F6@1h{rules=daily=4}", "keep=1h, rules=daily=4", "keep=1h, rules=daily=2", `
			-F1 older than 1h, beyond daily=4, beyond daily=2
			-F2 older than 1h, beyond daily=4, beyond daily=2
			+F3 daily 4 of 4 until 2026-11-23 until 23T12:00
			+F4 daily 3 of 4 until 2026-11-24 until 24T12:00
			+F5 daily 2 of 2 by the current policy, daily 2 of 4 until 2026-11-25
			+F6 daily 1 of 2 by the current policy, daily 1 of 4 until 2026-11-26, the newest complete restore point`},
		{"those that were made under other rules take no place, each rule has its own span",
			"F1@2026-08-05T10:00 F2@2026-09-05T10:00 F3@2026-10-05T10:00{keep=2mon rules=none} F4@2026-11-05T10:00{keep=2mon rules=none} F5@1h{keep=2mon rules=none}", "keep=1h, rules=monthly=3 daily=150", "", `
			+F1 daily 2 of 150 until 2027-01-02 until 2027-01-02T10:00
			+F2 daily 1 of 150 until 2027-02-02, monthly 1 of 3 until 2026-12-05 until 2027-02-02T10:00
			+F3 younger than 2mon until 2026-12-05T10:00
			+F4 younger than 2mon until 2027-01-05T10:00
			+F5 younger than 2mon, the newest complete restore point`},
		{"whatever keeps those",
			"F0@97h F1@95h F2@72h{keep=72h30min rules=none} F3@2d{keep=1w rules=none} F4@1d{keep=1w rules=none} F5@1h{keep=1w rules=none}", "keep=1h, rules=daily=4", "", `
			-F0 older than 1h, beyond daily=4
			+F1 daily 1 of 4 until 2026-11-22 until 22T13:00
			+F2 younger than 72h30min until 22T12:30
			+F3 younger than 1w until 27T12:00
			+F4 younger than 1w until 28T12:00
			+F5 younger than 1w, the newest complete restore point`},
		{"for last=n all count that stay by themselves, a hold among them", "F1@4d F2@3d{rules=none hold} F3@2d{rules=none} I4@1h{rules=none}", "keep=1h, rules=last=2 weekly=1", "", `
			+F1 weekly 1 of 1 until 2026-11-25 until 25T12:00
			+F2 hold
			+F3 incremental I4 builds on it
			+I4 the newest complete restore point`},
		{"but neither a parent nor one that goes", "F1@4d F2@3d{rules=none} F3@2d{rules=none} I4@1h{rules=none}", "keep=1h, rules=last=2", "", `
			+F1 last 2 of 2
			-F2 older than 1h
			+F3 incremental I4 builds on it
			+I4 the newest complete restore point`},
		{"nor one that cannot be read", "F1@4d F2@3d{rules=some} F3@1h", "keep=1h, rules=last=2", "", `
			+F1 last 2 of 2
			+F2 metadata __staffeln_archive_rules="some" cannot be read
			+F3 last 1 of 2, the newest complete restore point`},
		{"while a rule has some left, the oldest of all stays", "F1@21T10:00 F2@21T12:00 F3@1h", "keep=1h, rules=daily=5", "", `
			+F1 oldest daily until 2026-11-26 until 26T10:00
			+F2 daily 2 of 5 until 2026-11-26 until 26T12:00
			+F3 daily 1 of 5 until 2026-11-27, the newest complete restore point`},
		{"the oldest of those that are not about to go", "F0@30d{rules=none} F1@21T10:00 F2@21T12:00 F3@1h", "keep=1h, rules=daily=5", "", `
			-F0 older than 1h
			+F1 oldest daily until 2026-11-26 until 26T10:00
			+F2 daily 2 of 5 until 2026-11-26 until 26T12:00
			+F3 daily 1 of 5 until 2026-11-27, the newest complete restore point`},
		{"nor past their span", "F0@30d F1@21T10:00 F2@21T12:00 F3@1h", "keep=1h, rules=daily=5", "", `
			-F0 older than 1h, beyond daily=5
			+F1 oldest daily until 2026-11-26 until 26T10:00
			+F2 daily 2 of 5 until 2026-11-26 until 26T12:00
			+F3 daily 1 of 5 until 2026-11-27, the newest complete restore point`},
		{"also where an older one of other rules stays", "F0@30d{keep=32d rules=none} F1@21T10:00 F2@21T12:00 F3@1h", "keep=1h, rules=daily=5", "", `
			+F0 younger than 32d until 24T12:00
			+F1 oldest daily until 2026-11-26 until 26T10:00
			+F2 daily 2 of 5 until 2026-11-26 until 26T12:00
			+F3 daily 1 of 5 until 2026-11-27, the newest complete restore point`},
		{"rules of one wording in two zones are two", "F1@20T23:30 F2@21T01:00{zone=America/New_York} F3@21T14:00", "keep=1h, rules=daily=2", "", `
			+F1 daily 2 of 2 until 2026-11-22 until 22T23:30
			+F2 daily 1 of 2 until 2026-11-22 until 23T01:00
			+F3 daily 1 of 2 until 2026-11-23, the newest complete restore point`},
		{"as long as there are three newer ones", "F1@5d F2@4d{until=23T00:00 rules=none} F3@3d F4@1h", "keep=1h, rules=last=3 weekly=1", "", `
			-F1 older than 1h, beyond last=3 weekly=1 until 23T00:00
			+F2 kept until 2026-11-23T00:00:00Z until 23T00:00
			+F3 last 2 of 3
			+F4 weekly 1 of 1 until 2026-11-29, last 1 of 3, the newest complete restore point`},
		{"several rules may keep one, each for its span", "F1@22T09:00 F2@1h", "keep=1h, rules=daily=3 monthly=1", "", `
			+F1 oldest daily until 2026-11-25 until 25T09:00
			+F2 daily 1 of 3 until 2026-11-25, monthly 1 of 1 until 2026-12-22, the newest complete restore point`},
	}, nil)
}

// Frozen rules that are not the current ones keep a backup for their own span.
func TestFrozenRulesLapse(t *testing.T) {
	runDecide(t, []retainCase{
		{"while they are the current ones they have restic's meaning, however old", "F1@2025-01-31T10:00 F2@2025-02-28T10:00 F3@2025-03-31T10:00", "keep=1h, rules=monthly=3", "keep=1h, rules=monthly=3", `
			+F1 monthly 3 of 3
			+F2 monthly 2 of 3
			+F3 monthly 1 of 3, the newest complete restore point`},
		{"with the server opted out they keep each for as long as they say", "F1@2025-10-31T10:00 F2@2025-11-30T10:00 F3@2026-01-31T10:00", "keep=1h, rules=monthly=12", "", `
			-F1 older than 1h, beyond monthly=12
			+F2 monthly 2 of 12 until 2026-11-30 until 30T10:00
			+F3 monthly 1 of 12 until 2027-01-31, the newest complete restore point`},
		{"nor is it more with a class that has dropped its rules", "F1@2025-10-31T10:00 F2@2025-11-30T10:00 F3@2026-01-31T10:00", "keep=1h, rules=monthly=12", "keep=1h", `
			-F1 older than 1h, beyond monthly=12
			+F2 monthly 2 of 12 until 2026-11-30 until 30T10:00
			+F3 monthly 1 of 12 until 2027-01-31, the newest complete restore point`},
		{"rules that became daily=3 keep a week of what was made under daily=7", "F1@8d F2@6d F3@5d F4@4d F5@3d F6@2d{rules=daily=3} F7@1d{rules=daily=3} F8@1h{rules=daily=3}", "keep=1h, rules=daily=7", "keep=1h, rules=daily=3", `
			-F1 older than 1h, beyond daily=7, beyond daily=3
			+F2 daily 4 of 7 until 2026-11-23 until 23T12:00
			+F3 daily 3 of 7 until 2026-11-24 until 24T12:00
			+F4 daily 2 of 7 until 2026-11-25 until 25T12:00
			+F5 daily 1 of 7 until 2026-11-26 until 26T12:00
			+F6 daily 3 of 3
			+F7 daily 2 of 3
			+F8 daily 1 of 3, the newest complete restore point`},
		{"also where nothing has been made under them yet", "F1@10d F2@9d F3@8d F4@6d F5@5d", "keep=1h, rules=daily=7", "keep=1h, rules=daily=3", `
			-F1 older than 1h, beyond daily=7, beyond daily=3
			-F2 older than 1h, beyond daily=7, beyond daily=3
			+F3 daily 3 of 3 by the current policy
			+F4 daily 2 of 3 by the current policy, daily 2 of 7 until 2026-11-23
			+F5 daily 1 of 3 by the current policy, daily 1 of 7 until 2026-11-24, the newest complete restore point`},
		{"back to the same rules, and what is still there has restic's meaning again", "F1@2025-10-31T10:00 F2@2025-11-30T10:00 F3@2026-01-31T10:00{rules=daily=3} F4@1h", "keep=1h, rules=monthly=12", "keep=1h, rules=monthly=12", `
			+F1 monthly 4 of 12
			+F2 monthly 3 of 12
			+F3 monthly 2 of 12 by the current policy
			+F4 monthly 1 of 12, the newest complete restore point`},
		{"the same rules in another zone are others", "F1@3d F2@1h{zone=Europe/Berlin}", "keep=1h, rules=daily=2 hourly=9", "keep=1h, rules=daily=1, zone=Europe/Berlin", `
			-F1 older than 1h, beyond hourly=9 daily=2, beyond daily=1
			+F2 daily 1 of 1 by the current policy, hourly 1 of 9 until 2026-11-22, daily 1 of 2 until 2026-11-24, the newest complete restore point`},
		{"unlimited never lapses", "F1@2020-01-01T00:00 F2@2021-01-01T00:00", "keep=1h, rules=last=2 yearly=unlimited", "", `
			+F1 yearly 2 of unlimited, last 2 of 2
			+F2 yearly 1 of unlimited, last 1 of 2, the newest complete restore point`},
		{"nor does what no calendar reaches", "F1@2020-01-01T00:00 F2@2021-01-01T00:00", "keep=1h, rules=yearly=9000", "", `
			+F1 yearly 2 of 9000
			+F2 yearly 1 of 9000, the newest complete restore point`},
		{"last=3 says nothing of how long: it holds for as long as the volume lives", "F1@3d F2@2d F3@1d F4@1h", "keep=30h, rules=last=3", "", `
			-F1 older than 30h, beyond last=3
			+F2 last 3 of 3
			+F3 younger than 30h, last 2 of 3
			+F4 younger than 30h, last 1 of 3, the newest complete restore point`},
		{"and the rules beside it each for their span", "F1@8d F2@3d F3@3d", "keep=30h, rules=last=3 weekly=1", "", `
			+F1 last 3 of 3
			+F2 last 2 of 3
			+F3 weekly 1 of 1 until 2026-11-26, last 1 of 3, the newest complete restore point`},
		{"the longer of its retention time and its rules counts", "F1@8d F2@7d F3@1h", "keep=10d, rules=daily=3", "", `
			+F1 younger than 10d until 24T12:00
			+F2 younger than 10d until 25T12:00
			+F3 younger than 10d, daily 1 of 3 until 2026-11-25, the newest complete restore point`},
		{"the span is of the calendar: a month of 30 days, and the day the clocks change", "F1@2026-10-21T12:30 F2@2026-10-22T12:30 F3@2026-10-23T12:30", "keep=1h, rules=daily=30 monthly=1, zone=Europe/Berlin", "", `
			-F1 older than 1h, beyond daily=30 monthly=1
			-F2 older than 1h, beyond daily=30 monthly=1
			+F3 daily 1 of 30 until 2026-11-22, monthly 1 of 1 until 2026-11-23, the newest complete restore point`},
	}, nil)
	runDecide(t, []retainCase{
		{"of a deleted volume, last=3 keeps none", "F1@3d F2@2d", "keep=1d, rules=last=3", "", `
			-F1 older than 1d, beyond last=3
			-F2 older than 1d, beyond last=3, its volume gone since 2026-11-21T12:00:00Z`},
		{"whatever the policy it would have", "F1@3d F2@25h", "keep=1d, rules=daily=2", "keep=1d, rules=daily=2", `
			-F1 older than 1d, beyond daily=2
			+F2 daily 1 of 2 until 2026-11-23 until 23T11:00`},
	}, func(h *Holding) { h.Gone = on("21T12:00") })
}

// The points of a deleted volume go one by one, each as its twelve months are over,
// and in the end there is none.
func TestRulesOfADeletedVolume(t *testing.T) {
	h := held(t, "F1@2025-12-31T02:00 F2@2026-01-31T02:00 F3@2026-02-28T02:00 I4@2026-03-01T02:00 I5@2026-03-31T02:00", "keep=1w, rules=daily=7 monthly=12", on(today))
	h.Gone = on("2026-04-01T12:00")
	now, got := h.Gone, []string{}
	for {
		// What goes is gone at once, and time passes to when something changes.
		next := now
		var left []backup.CinderBackup
		for _, f := range Decide(h, now) {
			if f.Keep {
				left = append(left, f.Backup)
				if next.Equal(now) || f.Until.Before(next) {
					next = f.Until
				}
			}
		}
		h.Backups = left
		got = append(got, now.Format("2006-01-02 ")+kept(Decide(h, now)))
		if len(left) == 0 {
			break
		}
		now = next
	}
	same(t, strings.Join(got, "\n"), strings.Join([]string{
		"2026-04-01 F1 F2 F3 I4 I5",
		"2026-12-31 F2 F3 I4 I5",
		"2027-01-31 F3 I4 I5",
		"2027-03-31 ",
	}, "\n"))
}

// What lies in the archive container is what a monthly and a yearly rule keep of
// its month and year.
func TestArchivedPoints(t *testing.T) {
	runDecide(t, []retainCase{
		{"the archived one of a month rather than its newest",
			"F1@2026-10-01T02:00{archived=month} F2@2026-10-02T02:00 I3@2026-10-31T02:00 F4@01T02:00{archived=month} F5@02T02:00 I6@22T02:00", "keep=1d, rules=monthly=12", "keep=1d, rules=monthly=12", `
			+F1 monthly 2 of 12
			-F2 older than 1d, beyond monthly=12
			-I3 older than 1d, beyond monthly=12
			+F4 monthly 1 of 12
			+F5 incremental I6 builds on it
			+I6 younger than 1d, the newest complete restore point`},
		{"a month without one has its newest", "F1@2026-09-15T02:00 F2@2026-09-16T02:00 F3@2026-10-01T02:00{archived=month} F4@2026-10-16T02:00 F5@22T02:00", "keep=1d, rules=monthly=3", "keep=1d, rules=monthly=3", `
			-F1 older than 1d, beyond monthly=3
			+F2 monthly 3 of 3
			+F3 monthly 2 of 3
			-F4 older than 1d, beyond monthly=3
			+F5 younger than 1d, monthly 1 of 3, the newest complete restore point`},
		{"one that failed is none", "F1@2026-10-01T02:00:error{archived=month failed=no-space} F2@2026-10-02T02:00 F3@2026-10-16T02:00 F4@22T02:00", "keep=1d, rules=monthly=2", "keep=1d, rules=monthly=2", `
			-F1 it never became complete: cinder: no-space
			-F2 older than 1d, beyond monthly=2
			+F3 monthly 2 of 2
			+F4 younger than 1d, monthly 1 of 2, the newest complete restore point`},
		{"the yearly one of a year", "F1@2025-01-01T02:00{archived=year} F2@2025-12-01T02:00{archived=month} F3@2025-12-31T02:00 F4@22T02:00", "keep=1d, rules=yearly=2", "keep=1d, rules=yearly=2", `
			+F1 yearly 2 of 2
			-F2 older than 1d, beyond yearly=2
			-F3 older than 1d, beyond yearly=2
			+F4 younger than 1d, yearly 1 of 2, the newest complete restore point`},
		{"else the newest of its months", "F1@2025-01-01T02:00{archived=month} F2@2025-12-01T02:00{archived=month} F3@2025-12-31T02:00 F4@22T02:00", "keep=1d, rules=yearly=2", "keep=1d, rules=yearly=2", `
			-F1 older than 1d, beyond yearly=2
			+F2 yearly 2 of 2
			-F3 older than 1d, beyond yearly=2
			+F4 younger than 1d, yearly 1 of 2, the newest complete restore point`},
		{"a year's is not a month's", "F1@2025-12-01T02:00{archived=year} F2@2025-12-31T02:00 F3@22T02:00", "keep=1d, rules=monthly=2", "keep=1d, rules=monthly=2", `
			-F1 older than 1d, beyond monthly=2
			+F2 monthly 2 of 2
			+F3 younger than 1d, monthly 1 of 2, the newest complete restore point`},
		{"a span that is none says nothing", "F1@2025-12-01T02:00{archived=week} F2@2025-12-31T02:00 F3@22T02:00", "keep=1d, rules=monthly=2", "keep=1d, rules=monthly=2", `
			-F1 older than 1d, beyond monthly=2
			+F2 monthly 2 of 2
			+F3 younger than 1d, monthly 1 of 2, the newest complete restore point`},
		{"an archived one of another policy does not stand for this one's month", "F1@2026-10-01T02:00{archived=month rules=none} F2@2026-10-31T02:00 F3@22T02:00", "keep=1d, rules=monthly=2", "", `
			-F1 older than 1d
			+F2 monthly 2 of 2 until 2026-12-31 until 2026-12-31T02:00
			+F3 younger than 1d, monthly 1 of 2 until 2027-01-22, the newest complete restore point`},
		{"once its own span is over, another of its month is what the rule keeps", "F1@2026-09-01T02:00{archived=month} F2@2026-09-30T02:00 F3@2026-10-22T13:00", "keep=1d, rules=monthly=2", "", `
			-F1 older than 1d, beyond monthly=2
			+F2 monthly 2 of 2 until 2026-11-30 until 30T02:00
			+F3 monthly 1 of 2 until 2026-12-22, the newest complete restore point`},
		{"daily and weekly rules take no notice of the archive", "F1@21T02:00{archived=month} F2@21T03:00 F3@22T02:00", "keep=1h, rules=daily=2", "keep=1h, rules=daily=2", `
			-F1 older than 1h, beyond daily=2
			+F2 daily 2 of 2
			+F3 daily 1 of 2, the newest complete restore point`},
	}, nil)
}

func TestParents(t *testing.T) {
	runDecide(t, []retainCase{
		{"a chain stays for its youngest", "F1@96h I1@72h I2@30h F2@12h", "keep=2d", "", `
			+F1 incremental I2 builds on it until 23T06:00
			+I1 incremental I2 builds on it until 23T06:00
			+I2 younger than 2d until 23T06:00
			+F2 younger than 2d, the newest complete restore point`},
		{"and goes with it", "F1@96h I1@72h I2@50h F2@12h", "keep=2d", "", `
			-F1 older than 2d
			-I1 older than 2d
			-I2 older than 2d
			+F2 younger than 2d, the newest complete restore point`},
		{"the end of a chain may go alone", "F1@10d{hold} I1@9d I2@8d F2@12h", "keep=2d", "", `
			+F1 hold
			-I1 older than 2d
			-I2 older than 2d
			+F2 younger than 2d, the newest complete restore point`},
		{"one that is held holds its ancestors", "F1@10d I1@9d{hold} I2@8d F2@12h", "keep=2d", "", `
			+F1 incremental I1 builds on it
			+I1 hold
			-I2 older than 2d
			+F2 younger than 2d, the newest complete restore point`},
		{"the chain of the newest stays however old", "F0@40d F1@30d I1@29d I2@28d", "keep=2d", "", `
			-F0 older than 2d
			+F1 incremental I2 builds on it
			+I1 incremental I2 builds on it
			+I2 the newest complete restore point`},
		{"one that is being made has parents already", "F1@5d I1@4d I2@1h:creating", "keep=1d", "", `
			+F1 incremental I2 builds on it
			+I1 the newest complete restore point
			+I2 being made`},
		{"one being made or broken is nobody's parent", "F1@5d F2@4d:error I3@3d F4@2d:creating I5@1h", "keep=1d", "", `
			+F1 incremental I5 builds on it
			-F2 it never became complete: cinder: status error without a reason
			+I3 incremental I5 builds on it
			+F4 being made
			+I5 younger than 1d, the newest complete restore point`},
		{"unless Cinder says that something builds on it", "F1@5d F2@4d:error{dependents} I3@1h", "keep=1d", "", `
			+F1 incremental I3 builds on it
			+F2 incremental I3 builds on it
			+I3 younger than 1d, the newest complete restore point`},
		{"a broken one needs its parents no more", "F1@5d I1@4d:error F2@1h", "keep=1d", "", `
			-F1 older than 1d
			-I1 it never became complete: cinder: status error without a reason
			+F2 younger than 1d, the newest complete restore point`},
		{"of two in one second each may build on the other", "F1@5d I1@4d I2@4d{hold} I3@4d F2@1h", "keep=1d", "", `
			+F1 incremental I2 builds on it
			+I1 incremental I2 builds on it
			+I2 hold
			+I3 incremental I2 builds on it
			+F2 younger than 1d, the newest complete restore point`},
		{"a full one of the same second may come before or after", "F1@5d F2@4d I2@4d{hold} F3@1h", "keep=1d", "", `
			+F1 incremental I2 builds on it
			+F2 incremental I2 builds on it
			+I2 hold
			+F3 younger than 1d, the newest complete restore point`},
		{"an incremental without a full one keeps what is before it", "I1@4d I2@1h", "keep=1d", "", `
			+I1 incremental I2 builds on it
			+I2 younger than 1d, the newest complete restore point`},
		{"nothing can build on a full one that is being deleted but what was before", "F1@5d F2@4d:deleting I2@3d I3@1h", "keep=1h", "", `
			+F1 incremental I3 builds on it
			-F2 Cinder is deleting it
			+I2 incremental I3 builds on it
			+I3 the newest complete restore point`},
	}, nil)
}

func TestOthersChildren(t *testing.T) {
	now := on(today)
	for _, c := range []struct{ name, backups, want, hostages string }{
		{"a tenant's own are none of our business", "f1@400d i1@399d F1@1h", "+f1 not ours|+i1 not ours|+F1 younger than 2d, the newest complete restore point", ""},
		{"his incremental on our chain keeps it, for as long as he likes", "F1@10d I1@9d i2@8d I3@7d F2@1h",
			"+F1 incremental i2, which is not ours, builds on it|+I1 incremental i2, which is not ours, builds on it|+i2 not ours|-I3 older than 2d|+F2 younger than 2d, the newest complete restore point", "F1 I1"},
		{"nobody is a hostage while the policy keeps it anyway", "F1@40h i1@39h F2@1h",
			"+F1 younger than 2d|+i1 not ours|+F2 younger than 2d, the newest complete restore point", ""},
		{"nor while one of ours needs it", "F1@10d i1@9d I2@40h F2@1h",
			"+F1 incremental I2 builds on it|+i1 not ours|+I2 younger than 2d|+F2 younger than 2d, the newest complete restore point", ""},
		{"ours on his chain is ours to remove", "f1@10d I1@9d F2@1h", "+f1 not ours|-I1 older than 2d|+F2 younger than 2d, the newest complete restore point", ""},
		{"his full backup ends our chain", "F1@10d I1@9d f2@8d i3@7d F4@1h", "-F1 older than 2d|-I1 older than 2d|+f2 not ours|+i3 not ours|+F4 younger than 2d, the newest complete restore point", ""},
		{"his are no restore points of ours", "F1@10d f2@1h", "+F1 the newest complete restore point|+f2 not ours", ""},
		{"even one of his that failed may hang on ours", "F1@10d i1@9d:error F2@1h",
			"+F1 incremental i1, which is not ours, builds on it|+i1 not ours|+F2 younger than 2d, the newest complete restore point", "F1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got, hostages []string
			for _, f := range Decide(held(t, c.backups, "keep=2d", now), now) {
				f.Until = now.AddDate(-1000, 0, 0).Add(-1)
				line, _, _ := strings.Cut(tellFates([]Fate{f}), " until ")
				got = append(got, strings.TrimSpace(line))
				if f.Hostage {
					hostages = append(hostages, f.Backup.ID)
				}
			}
			same(t, strings.Join(got, "\n"), strings.ReplaceAll(c.want, "|", "\n"))
			same(t, strings.Join(hostages, " "), c.hostages)
		})
	}
}

func TestToldParents(t *testing.T) {
	now := on(today)
	for _, c := range []struct {
		name, backups string
		parents       map[string]string
		want          string
	}{
		{"a notification may know of a parent that the order does not show", "F1@10d F2@9d I3@1h", map[string]string{"I3": "F1"}, "F1 F2 I3"},
		{"and its ancestors", "F1@10d I1@9d F2@8d I3@1h", map[string]string{"I3": "I1"}, "F1 I1 F2 I3"},
		{"without it they go", "F1@10d I1@9d F2@8d I3@1h", nil, "F2 I3"},
		{"what it tells of takes nothing away", "F1@10d I1@9d I2@1h", map[string]string{"I2": "F1"}, "F1 I1 I2"},
		{"a parent that is not there is nothing", "F1@10d F2@1h", map[string]string{"F2": "gone", "F1": "F1"}, "F2"},
		{"a circle is no reason to stay", "F1@10d F2@9d F3@1h", map[string]string{"F1": "F2", "F2": "F1"}, "F3"},
		{"nor to go", "F1@10d F2@9d{hold} F3@1h", map[string]string{"F1": "F2", "F2": "F1"}, "F1 F2 F3"},
		{"a full one that is said to have a parent keeps it", "F1@10d F2@1h", map[string]string{"F2": "F1"}, "F1 F2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := held(t, c.backups, "keep=2d", now)
			h.Parents = c.parents
			fates := Decide(h, now)
			same(t, kept(fates), c.want)
			for _, f := range fates {
				if f.Hostage {
					t.Errorf("%s is a hostage", f.Backup.ID)
				}
			}
		})
	}
	t.Run("what keeps it longest is named", func(t *testing.T) {
		h := held(t, "F1@10d I1@40h F2@9h I3@1h", "keep=2d", now)
		h.Parents = map[string]string{"I3": "F1"}
		same(t, tellFates(Decide(h, now)[:2]), "+F1 incremental I3 builds on it\n+I1 younger than 2d until 22T20:00\n")
	})
}

func TestHold(t *testing.T) {
	now := on(today)
	for _, c := range []struct{ name, hold, want string }{
		{"a hold keeps it", "hold=yes", "F1 F2"},
		{"with any word", "hold=court-order-7", "F1 F2"},
		{"or none", "hold=", "F1 F2"},
		{"but not no", "hold=no", "F2"},
		{"nor false, in any case", "hold=False", "F2"},
		{"nor off", "hold=off", "F2"},
		{"nor 0", "hold=0", "F2"},
		{"lifted", "-hold", "F2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			same(t, kept(Decide(held(t, "F1@10d{"+c.hold+"} F2@1h", "keep=2d", now), now)), c.want)
		})
	}
	runDecide(t, []retainCase{{"a hold keeps a broken one, too", "F1@10d:error{hold} F2@1h", "keep=2d", "", `
		+F1 hold
		+F2 younger than 2d, the newest complete restore point`}}, nil)
}

func TestStatuses(t *testing.T) {
	runDecide(t, []retainCase{
		{"what Cinder is busy with is left alone", "F1@10d:restoring F2@9d:creating F3@8d:deleting F4@1h", "keep=2d", "", `
			+F1 being restored from
			+F2 being made
			-F3 Cinder is deleting it
			+F4 younger than 2d, the newest complete restore point`},
		{"one that failed is no restore point, however young", "F1@10d F2@1h:error{failed=connection lost}", "keep=2d", "", `
			+F1 the newest complete restore point
			-F2 it never became complete: cinder: connection`},
		{"one that is being restored from is a restore point", "F1@10d F2@9d:restoring", "keep=2d", "", `
			-F1 older than 2d
			+F2 being restored from, the newest complete restore point`},
		{"one that could not be deleted is none", "F1@10d F2@9d:error_deleting F3@1d:error_deleting", "keep=2d", "", `
			+F1 the newest complete restore point
			-F2 older than 2d
			+F3 younger than 2d until 23T12:00`},
		{"a status that nobody knows is left alone", "F1@10d:frozen F2@1h", "keep=2d", "", `
			+F1 status "frozen" is not known
			+F2 younger than 2d, the newest complete restore point`},
		{"a month of nothing but failures takes nothing from the last good one", "F1@40d I1@39d F2@30d:error F3@20d:error F4@10d:error F5@1d:error F6@1h:creating", "keep=2w", "keep=2w", `
			+F1 incremental I1 builds on it
			+I1 the newest complete restore point
			-F2 it never became complete: cinder: status error without a reason
			-F3 it never became complete: cinder: status error without a reason
			-F4 it never became complete: cinder: status error without a reason
			-F5 it never became complete: cinder: status error without a reason
			+F6 being made`},
	}, nil)
	runDecide(t, []retainCase{{"while a run is open nothing goes", "F1@10d F2@9d:error F3@1h", "keep=2d", "", `
		+F1 a run of its volume is under way
		+F2 a run of its volume is under way
		+F3 a run of its volume is under way, younger than 2d, the newest complete restore point`}},
		func(h *Holding) { h.Busy = true })
}

// What is not known is never removed.
func TestUnreadable(t *testing.T) {
	now := on(today)
	for _, c := range []struct{ name, metadata, want string }{
		{"all is there", "", ""},
		{"no retention time", "-" + backup.MetaRetention, "metadata __staffeln_retention is missing"},
		{"an empty one", backup.MetaRetention + "=", "metadata __staffeln_retention is missing"},
		{"one that stopped a whole cloud once", backup.MetaRetention + "=9999y", `metadata __staffeln_retention="9999y" cannot be read`},
		{"a word", backup.MetaRetention + "=forever", `metadata __staffeln_retention="forever" cannot be read`},
		{"none", backup.MetaRetention + "=0", `metadata __staffeln_retention="0" cannot be read`},
		{"no zone", "-" + backup.MetaZone, "metadata __staffeln_zone is missing"},
		{"a zone that is not on any map", backup.MetaZone + "=Europe/Atlantis", `metadata __staffeln_zone="Europe/Atlantis" cannot be read`},
		{"whichever zone this machine is in", backup.MetaZone + "=Local", `metadata __staffeln_zone="Local" cannot be read`},
		{"a file", backup.MetaZone + "=../../etc/passwd", `metadata __staffeln_zone="../../etc/passwd" cannot be read`},
		{"a date that is none", backup.MetaKeepUntil + "=tomorrow", `metadata __staffeln_keep_until="tomorrow" cannot be read`},
		{"an empty date", backup.MetaKeepUntil + "=", `metadata __staffeln_keep_until="" cannot be read`},
		{"no date at all: the retention time says it", "-" + backup.MetaKeepUntil, ""},
		{"rules that are none", backup.MetaRules + "=sometimes", `metadata __staffeln_archive_rules="sometimes" cannot be read`},
		{"no rules at all: it was made before there were any", "-" + backup.MetaRules, ""},
		{"a long value", backup.MetaRetention + "=" + strings.Repeat("x", 200), `metadata __staffeln_retention="` + strings.Repeat("x", 40) + `" cannot be read`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := Decide(held(t, "F1@730d{"+c.metadata+"} F2@1h", "keep=2d", now), now)[0]
			if f.Keep != (c.want != "") || f.Keep && f.Why != c.want || !f.Until.IsZero() {
				t.Errorf("got %v, %s, until %s", f.Keep, f.Why, f.Until)
			}
		})
	}
	t.Run("nor is what was made nobody knows when", func(t *testing.T) {
		h := held(t, "F1@730d F2@1h", "keep=2d", now)
		h.Backups[0].Created = h.Backups[0].Created.AddDate(-5000, 0, 0)
		h.Backups[0].Created = h.Gone
		if f := Decide(h, now)[0]; !f.Keep || f.Why != "nobody knows when it was made" {
			t.Errorf("got %v, %s", f.Keep, f.Why)
		}
	})
	t.Run("without metadata it is not ours", func(t *testing.T) {
		h := held(t, "F1@730d F2@1h", "keep=2d", now)
		h.Backups[0].Metadata = nil
		h.Backups[0] = judged(h.Backups[0])
		if f := Decide(h, now)[0]; !f.Keep || f.Why != "not ours" {
			t.Errorf("got %v, %s", f.Keep, f.Why)
		}
	})
	for origin, why := range map[backup.Origin]string{
		backup.OriginForged:     "not ours, though it carries our metadata",
		backup.OriginUnverified: "nobody knows who made it",
	} {
		t.Run("one that is "+string(origin)+" stays and takes no place", func(t *testing.T) {
			h := held(t, "F1@730d F2@1h F3@2d", "keep=1h, rules=last=1", now)
			h.Backups[1].Origin = origin
			fates := Decide(h, now)
			if f := fates[2]; f.Backup.ID != "F2" || !f.Keep || f.Why != why || f.Newest {
				t.Errorf("got %v, %s, newest %v", f.Keep, f.Why, f.Newest)
			}
			if f := fates[1]; f.Backup.ID != "F3" || !f.Newest || f.Why != "last 1 of 1, the newest complete restore point" {
				t.Errorf("the genuine one: %v, %s", f.Newest, f.Why)
			}
		})
	}
	t.Run("a broken one is no restore point, whatever it says", func(t *testing.T) {
		h := held(t, "F1@730d:error{-"+backup.MetaRetention+"} F2@1h", "keep=2d", now)
		if f := Decide(h, now)[0]; f.Keep || !f.Broken {
			t.Errorf("got %v, %v", f.Keep, f.Broken)
		}
	})
}

func TestNewestOfAVolumeThatIsGone(t *testing.T) {
	for _, c := range []struct{ name, backups, gone, orphan, want string }{
		{"gone: the frozen policy goes on to its end", "F1@20d F2@10d", "12T12:00", "", `
			-F1 older than 2w
			+F2 younger than 2w until 26T12:00`},
		{"and then the newest goes, too", "F1@20d F2@15d", "12T12:00", "", `
			-F1 older than 2w
			-F2 older than 2w, its volume gone since 2026-11-12T12:00:00Z`},
		{"unless orphans are kept for longer", "F1@20d F2@15d", "12T12:00", "30d", `
			-F1 older than 2w
			+F2 the newest complete restore point of a volume gone since 2026-11-12T12:00:00Z until 2026-12-12T12:00`},
		{"orphan retention is counted from when it was gone", "F1@20d F2@15d", "12T12:00", "10d", `
			-F1 older than 2w
			-F2 older than 2w, its volume gone since 2026-11-12T12:00:00Z`},
		{"it takes nothing from the frozen policy", "F1@20d F2@1d", "21T18:00", "1h", `
			-F1 older than 2w
			+F2 younger than 2w until 2026-12-05T12:00`},
		{"gone in the future is not gone yet", "F1@20d F2@15d", "23T12:00", "", `
			-F1 older than 2w
			+F2 the newest complete restore point of a volume gone since 2026-11-23T12:00:00Z until 23T12:00`},
		{"gone for longer than its newest restore point is old: somebody wrote that into the ledger", "F1@20d F2@15d", "2000-01-01T00:00", "16d", `
			-F1 older than 2w
			+F2 the newest complete restore point of a volume gone since 2026-11-07T12:00:00Z until 23T12:00`},
		{"its chain stays with the newest", "F1@20d I2@15d", "12T12:00", "30d", `
			+F1 incremental I2 builds on it until 2026-12-12T12:00
			+I2 the newest complete restore point of a volume gone since 2026-11-12T12:00:00Z until 2026-12-12T12:00`},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := held(t, c.backups, "keep=2w", on(today))
			h.Gone = on(c.gone)
			if c.orphan != "" {
				h.Orphan = age(c.orphan)
			}
			fates := Decide(h, on(today))
			same(t, tellFates(fates), lines(c.want))
			if at := slices.IndexFunc(fates, func(f Fate) bool { return f.Newest }); at != len(fates)-1 {
				t.Errorf("the newest is %d", at)
			}
		})
	}
}

func TestChainsAndChildren(t *testing.T) {
	now := on(today)
	h := held(t, "I0@11d F1@10d I1@9d i2@8d F3@7d I4@7d f5@6d I6@5d:error", "keep=2d", now)
	h.Parents = map[string]string{"f5": "F1", "I4": "F3"}
	got := map[string]string{}
	for _, f := range Decide(h, now) {
		got[f.Backup.ID] = strings.Join(append([]string{f.Chain + ":"}, f.Children...), " ")
	}
	same(t, got, map[string]string{
		"I0": "I0:",
		"F1": "F1: I1 i2 I4 f5",
		"I1": "F1: i2 I4",
		"i2": "F1: I4",
		"F3": "F3: I4",
		"I4": "F3:",
		"f5": "f5: I6",
		"I6": "f5:",
	})
}
