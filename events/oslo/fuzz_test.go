package oslo

import (
	"testing"
	"time"
)

// A timestamp of any form is a moment in UTC between the years 0 and 9999, or none;
// written as oslo does, it is read as the same.
func FuzzTimestamp(f *testing.F) {
	for _, s := range []string{"2026-11-22 11:13:56.052145", "2026-11-22 11:13:56", "2026-11-22T11:13:56Z", "2026-11-22T11:13:56+01:00", "2026-11-22T11:13:56.1+0100",
		"2026-11-22 11:13:56-23:59", "0000-01-01 00:00:00", "9999-12-31T23:59:59-23:59", "2026-02-30 00:00:00", "", "now", "2026-11-22 24:00:00", "2026-11-22 11:13:56,052145", "２026-11-22 11:13:56"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		at, ok := parseTime(s)
		if !ok {
			return
		}
		if at.Location() != time.UTC || at.Year() < 0 || at.Year() > 9999 {
			t.Fatalf("%q is %s", s, at)
		}
		again, ok := parseTime(at.Format("2006-01-02 15:04:05.000000000"))
		if !ok || !again.Equal(at) {
			t.Fatalf("%q is %s and then %s, %t", s, at, again, ok)
		}
	})
}
