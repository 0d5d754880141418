package functions_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"staffeln/functions/backup"
	"staffeln/testutil/simcloud"
	"staffeln/testutil/world"
)

// archiving is a world with daily backups, whose first of each month goes to
// container archive, from the evening of a day on.
func archiving(t *testing.T, day string, environ ...string) *tale {
	t.Helper()
	start, err := time.Parse(time.DateOnly, day)
	if err != nil {
		t.Fatal(err)
	}
	s := tell(t, world.Options{Start: start.Add(18 * time.Hour), Environ: append([]string{
		"STAFFELN_BACKUP_PERIOD=daily@02:00", "STAFFELN_RETENTION_TIME=1y", "STAFFELN_RECONCILE_PERIOD=6h",
		"STAFFELN_ARCHIVE_CONTAINER=archive"}, environ...)}).quiet()
	s.Cloud.SetQuota(s.Seeded.Projects["alpha"], simcloud.Quota{Volumes: 10, Gigabytes: 1000, Backups: -1, BackupGigabytes: -1})
	return s
}

// days lets days pass, coarsely but for the hour of the slot.
func (s *tale) days(n int) {
	s.Helper()
	for range n {
		next := s.Now().Truncate(24 * time.Hour).Add(26 * time.Hour)
		s.pass(next.Sub(s.Now()), 6*time.Hour)
		s.pass(16*time.Minute, time.Minute)
	}
}

// archive tells web-1-data's backups, oldest first: "11-28 full backups", the day,
// the kind and the container, with "archived" for those marked so, and the status
// where it is not available.
func (s *tale) archive() (out []string) {
	for _, b := range s.backupsOf("web-1-data") {
		words := []string{b.Created.Format("01-02"), "full"}
		if b.Parent != "" {
			words[1] = "inc"
		}
		words = append(words, b.Container)
		if b.Metadata[backup.MetaArchived] != "" {
			words = append(words, "archived")
		}
		if b.Status != "available" {
			words = append(words, b.Status)
		}
		out = append(out, strings.Join(words, " "))
	}
	return out
}

// everyDay checks that each of the last n days has a restore point.
func (s *tale) everyDay(n int) {
	s.Helper()
	have := map[string]bool{}
	for _, b := range s.backupsOf("web-1-data") {
		have[b.Created.Format(time.DateOnly)] = have[b.Created.Format(time.DateOnly)] || b.Status == "available"
	}
	for i := range n {
		if day := s.Now().AddDate(0, 0, -i).Format(time.DateOnly); !have[day] {
			s.Errorf("no restore point of %s", day)
		}
	}
	s.want("failures", s.failures("alpha"))
	s.once()
}

func TestTheFirstOfAMonthIsArchived(t *testing.T) {
	s := archiving(t, "2026-11-28")
	s.optIn("web-1")
	s.pass(10*time.Minute, time.Minute)
	s.days(6)
	s.want("a week", s.archive(),
		"11-28 full archive archived", // the first of all is November's
		"11-29 full backups", "11-30 inc backups",
		"12-01 full archive archived",
		"12-02 full backups", "12-03 inc backups", "12-04 inc backups")
	s.empty()
	s.days(3)
	s.want("Redis emptied", s.archive()[7:], "12-05 inc backups", "12-06 inc backups", "12-07 inc backups")
	s.days(28)
	s.want("the turn of the year", s.archive()[30:35], "12-28 inc backups", "12-29 inc backups", "12-30 full backups", "12-31 inc backups", "01-01 full archive archived")
	s.everyDay(30)
	ours := map[string]simcloud.Backup{}
	for _, b := range s.backupsOf("web-1-data") {
		if ours[b.Parent].Container == "archive" {
			t.Errorf("%s builds on an archived one", b.ID)
		}
		ours[b.ID] = b
	}
}

func TestTheFirstOfAYearIsArchivedByTheClockOfTheZone(t *testing.T) {
	s := archiving(t, "2026-12-29", "STAFFELN_CLASS_GOLD_ARCHIVE_EVERY=year", "STAFFELN_CLASS_GOLD_TIME_ZONE=Pacific/Auckland")
	s.Cloud.SetServerMetadata(s.Seeded.Servers["web-1"], map[string]string{"backup": "gold"})
	// 02:00 in Auckland is 13:00 UTC of the day before.
	s.pass(4*24*time.Hour, 20*time.Minute)
	s.want("four days", s.archive(), "12-29 full archive archived", "12-30 full backups", "12-31 full archive archived", "01-01 full backups", "01-02 inc backups")
}

// An archive container that does not work costs one attempt a month, and no slot.
func TestABrokenArchive(t *testing.T) {
	for _, tc := range []struct {
		name string
		pool simcloud.Pool
	}{
		{"there is no such pool", simcloud.Missing},
		{"the service may not use it, and what failed cannot be deleted", simcloud.Denied},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := archiving(t, "2026-11-28")
			s.Cloud.SetPool("archive", tc.pool)
			s.optIn("web-1")
			s.pass(30*time.Minute, time.Minute)
			s.days(10)
			s.everyDay(11)
			tries, kinds := []string{}, map[string]int{}
			for _, b := range s.backupsOf("web-1-data") {
				switch {
				case b.Container == "archive":
					tries = append(tries, b.Created.Format("01-02"))
				case b.Parent != "":
					kinds["incremental"]++
				}
			}
			s.want("tried", tries, "11-28", "12-01") // opted in on the first
			if kinds["incremental"] < 7 {
				t.Errorf("%d incrementals in ten days: %q", kinds["incremental"], s.archive())
			}
			s.Cloud.SetPool("archive", simcloud.Usable)
			s.days(25)
			s.everyDay(26)
			archived := []string{}
			for _, b := range s.backupsOf("web-1-data") {
				switch {
				case b.Container == "archive" && b.Status == "available":
					archived = append(archived, b.Created.Format("01-02"))
				case b.Status != "available" && b.Status != "deleted":
					t.Errorf("%s is still there, %s", b.ID, b.Status)
				}
			}
			s.want("archived once the pool works", archived, "01-01")
		})
	}
}

// What Cinder refuses at once because of its container is asked for again at once.
func TestAnArchiveThatIsRefused(t *testing.T) {
	s := archiving(t, "2026-11-28")
	s.Cloud.SetInject(func(r *http.Request, op string) *simcloud.Fault {
		if op != "POST /volume/backups" {
			return nil
		}
		body, err := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		var in struct{ Backup struct{ Container string } }
		if err == nil && json.Unmarshal(body, &in) == nil && in.Backup.Container == "archive" {
			return simcloud.Refused(400, "Invalid input for field/attribute container. Value: archive. 'archive' is reserved")
		}
		return nil
	})
	s.optIn("web-1")
	s.pass(10*time.Minute, time.Minute)
	s.days(2)
	s.want("the first days", s.archive(), "11-28 full backups", "11-29 inc backups", "11-30 inc backups")
	s.everyDay(3)
}
