package keep

import (
	"fmt"
	"math"
	"testing"
	"time"

	"staffeln/functions/backup"
)

// Whatever Cinder says of a quota: what the owner is told of it is in figures that
// can be shown, and never says less than is used.
func FuzzForecast(f *testing.F) {
	f.Add(10, 3, 0, 1000, 100, 5, 20, int64(1795345200))
	f.Add(-1, 0, 0, -1, 0, 0, 0, int64(0))
	f.Add(0, 0, 0, 0, 7, 0, math.MaxInt32, int64(1))
	f.Add(1, -1, -1, -7, math.MaxInt32, math.MaxInt32, 1, int64(1<<33))
	f.Fuzz(func(t *testing.T, limit, used, reserved, limit2, used2, reserved2, size int, unix int64) {
		q := backup.Quota{Backups: backup.Usage{Limit: limit, Used: used, Reserved: reserved}, Gigabytes: backup.Usage{Limit: limit2, Used: used2, Reserved: reserved2}}
		for _, n := range []int{limit, used, reserved, limit2, used2, reserved2, size} {
			if n < -math.MaxInt32 || n > math.MaxInt32 {
				return // an answer that is refused when it is read
			}
		}
		now := time.Unix((unix%(1<<34)+1<<34)%(1<<34), 0).UTC()
		volumes := []backup.Protected{{Volume: "v1", Project: "p", Size: max(size, 0), Enrolments: []backup.Enrolment{{Server: "s1", Class: "gold"}}, State: backup.State{LastSlot: now, LastComplete: now}}}
		records := []backup.Record{{ID: "b1", Volume: "v1", Project: "p", Slot: now, Kind: backup.Full, Status: "available", Created: now, Size: max(size, 0)}}
		b, g := Forecast(q, volumes, records, backup.Classes{backup.Default: policy("every=daily@02:30, zone=Europe/Berlin, keep=2w, depth=6")}, Steady, now)
		for _, one := range []struct {
			of  backup.Usage
			got backup.QuotaFact
		}{{q.Backups, b}, {q.Gigabytes, g}} {
			u, got := one.of, one.got
			total := u.Used + u.Reserved
			switch {
			case got.Used != total, u.Limit < 0 && !got.Unlimited(), u.Limit >= 0 && got.Limit != u.Limit, got.Needs < 0:
				t.Fatalf("%+v is told as %+v", u, got)
			case u.Limit > 0 && total >= 0 && float64(got.Percent) < 100*float64(total)/float64(u.Limit)-1e-6:
				t.Fatalf("%+v: %d %%", u, got.Percent)
			case u.Limit > 0 && total > 0 && (got.Level == backup.High) != (100*total > 80*u.Limit):
				t.Fatalf("%+v is %s", u, got.Level)
			case !got.Full.IsZero() && (got.Full.Before(now.AddDate(0, 0, -1)) || got.Full.After(now.AddDate(2, 0, 0))):
				t.Fatalf("%+v is full at %s, now is %s", u, got.Full, now)
			}
		}
	})
}

func TestForecast(t *testing.T) {
	now := nov(22)
	policy := func(schedule, retention, rules string, depth int) backup.Policy {
		age, err := backup.ParseAge(retention)
		if err != nil {
			t.Fatal(err)
		}
		r, err := backup.ParseRules(rules)
		if err != nil {
			t.Fatal(err)
		}
		return backup.Policy{Class: backup.Default, Schedule: mustSchedule(schedule), Retention: age, Rules: r, Depth: depth}
	}
	for _, c := range []struct {
		sentence string
		p        backup.Policy
		volumes  int
		have     int
		quota    backup.Quota
		needs    int
		full     string
	}{
		{"a week of daily fulls is 8 at most: the new one comes before the old one goes", policy("24h", "7d", "", 0), 1, 0, backup.Quota{Backups: backup.Usage{Limit: 10}, Gigabytes: backup.Usage{Limit: -1}}, 8, ""},
		{"two volumes with ten to go run out after five days", policy("24h", "30d", "", 0), 2, 0, backup.Quota{Backups: backup.Usage{Limit: 10}, Gigabytes: backup.Usage{Limit: -1}}, 62, "2026-11-27"},
		{"what others use counts", policy("24h", "7d", "", 0), 1, 0, backup.Quota{Backups: backup.Usage{Limit: 10, Used: 3}, Gigabytes: backup.Usage{Limit: -1}}, 11, "2026-11-29"},
		{"full already", policy("24h", "7d", "", 0), 1, 2, backup.Quota{Backups: backup.Usage{Limit: 2, Used: 2}, Gigabytes: backup.Usage{Limit: -1}}, 8, "2026-11-22"},
		{"no limit is never reached", policy("1h", "30d", "", 0), 1, 0, backup.Quota{Backups: backup.Usage{Limit: -1}, Gigabytes: backup.Usage{Limit: -1}}, 721, ""},
		{"a chain of 7 stays until its last may go, when the next has begun", policy("24h", "1d", "", 6), 1, 0, backup.Quota{Backups: backup.Usage{Limit: 100}, Gigabytes: backup.Usage{Limit: -1}}, 8, ""},
		{"archive rules keep more", policy("24h", "7d", "monthly=3", 0), 1, 0, backup.Quota{Backups: backup.Usage{Limit: 100}, Gigabytes: backup.Usage{Limit: -1}}, 10, ""},
	} {
		classes := backup.Classes{backup.Default: c.p}
		var volumes []backup.Protected
		var records []backup.Record
		for i := range c.volumes {
			id := fmt.Sprint("v", i)
			volumes = append(volumes, backup.Protected{Volume: id, Size: 10, Enrolments: []backup.Enrolment{{Class: backup.Default}}})
			for j := range c.have {
				records = append(records, backup.Record{ID: fmt.Sprint(id, j), Volume: id, Size: 10})
			}
		}
		b, g := Forecast(c.quota, volumes, records, classes, Steady, now)
		full := ""
		if !b.Full.IsZero() {
			full = b.Full.Format("2006-01-02")
		}
		if b.Needs != c.needs || full != c.full {
			t.Errorf("%s: needs %d, full %q; want %d, %q", c.sentence, b.Needs, full, c.needs, c.full)
		}
		if want := 10 * (c.needs - max(0, c.quota.Backups.Used-c.have*c.volumes)); g.Needs != want && c.quota.Gigabytes.Used == 0 && c.have == 0 {
			t.Errorf("%s: needs %d GiB, want %d", c.sentence, g.Needs, want)
		}
	}
}
