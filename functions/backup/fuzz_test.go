package backup

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// What a backup is stamped with is read back from it as it was, whatever the policy
// and the names, and fits into Cinder's metadata.
func FuzzMetadata(f *testing.F) {
	f.Add("gold", "daily@02:30", "2w", "daily=7 weekly=4", "web-1", "Europe/Berlin", int64(1795345200), 1, "month")
	f.Add("", "7d", "9999y", "last=unlimited hourly=unlimited daily=unlimited weekly=unlimited monthly=unlimited yearly=unlimited", strings.Repeat("🚀", 300), "UTC", int64(1), 2, "year")
	f.Add("x\x00", "30 2 * * 1-5", "1y2mon3w4d5h6min7s", "none", "\xff\n", "Antarctica/Troll", int64(253402300799), -1, "century")
	f.Add(strings.Repeat("c", 300), "1s", "1s", "", "", "Not/AZone", int64(-1), 3, "")
	f.Fuzz(func(t *testing.T, class, schedule, keep, rules, name, in string, unix int64, attempt int, archived string) {
		s, err1 := ParseSchedule(schedule)
		a, err2 := ParseAge(keep)
		r, err3 := ParseRules(rules)
		l, err4 := time.LoadLocation(in)
		const fiveMillennia = 5000 * 365 * 24 * 3600
		if err1 != nil || err2 != nil || err3 != nil || err4 != nil || in == "Local" || in == "" || len(class) > maxValue {
			return // the settings' to refuse
		}
		slot := time.Unix((unix%fiveMillennia+fiveMillennia)%fiveMillennia, 0).UTC()
		run := Run{Volume: theVolume, Slot: slot, Attempt: 1 + max(attempt%2, 0), Kind: Full}
		if archived == string(Month) || archived == string(Year) {
			run.Archived = Span(archived)
		}
		p := Policy{Class: class, Schedule: s.In(l), Retention: a, Rules: r}
		m := Metadata(run, p, Enrolment{Server: "s1", Name: name}, slot)
		for key, value := range m {
			if utf8.RuneCountInString(value) > maxValue || key != MetaClass && (!utf8.ValidString(value) || strings.ContainsAny(value, "\x00\n")) {
				t.Fatalf("%s=%q", key, value)
			}
		}
		b := judged(CinderBackup{ID: "b1", Volume: theVolume, Status: "available", Created: slot, Metadata: m})
		got, n, ok := b.Run()
		if !ok || !got.Equal(slot) || n != run.Attempt || !b.Ours() || b.Archived() != run.Archived {
			t.Fatalf("%+v is read %s %d %t, %q", m, got, n, ok, b.Archived())
		}
		kept, err := ParseAge(m[MetaRetention])
		again, err2 := ParseRules(m[MetaRules])
		until, err3 := time.Parse(time.RFC3339, m[MetaKeepUntil])
		if err != nil || kept != a || err2 != nil || again != r {
			t.Fatalf("%+v: %v %v, %v %v", m, kept, err, again, err2)
		}
		if end := a.After(slot.In(l)); err3 == nil && !until.Equal(end.Truncate(time.Second)) || err3 != nil && end.UTC().Year() <= 9999 {
			t.Fatalf("keep until %q, want %s: %v", m[MetaKeepUntil], end, err3)
		}
	})
}
