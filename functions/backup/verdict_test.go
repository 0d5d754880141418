package backup

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDeadline(t *testing.T) {
	for _, c := range []struct {
		name string
		size int
		want string
	}{
		{"a volume of no size has the base", 0, "22T03:00"},
		{"each GiB adds its share", 90, "22T04:30"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Deadline(on("22T02:00"), c.size, time.Hour, time.Minute); !got.Equal(on(c.want)) {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestNextLook(t *testing.T) {
	for _, c := range []struct{ name, age, want string }{
		{"10 seconds at first", "0s", "10s"},
		{"10 seconds up to 40", "40s", "10s"},
		{"then a quarter of its age", "4m", "1m"},
		{"in whole seconds", "1m2s", "15s"},
		{"5 minutes at most", "20m", "5m"},
		{"5 minutes however long it takes", "100h", "5m"},
		{"10 seconds where a clock was set back", "-1h", "10s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := on("22T02:00")
			if got := NextLook(now.Add(-span(c.age)), now).Sub(now); got != span(c.want) {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// The run is started at 02:00 with a deadline of two hours; its slot ends in a day.
// Requests reach Cinder within two minutes or never.
func TestVerdict(t *testing.T) {
	const unserved = "error because Service not found for creating backup."
	for _, c := range []struct{ name, run, seen, now, want string }{
		{"available", "1 incremental b1", "incremental available", "22T03:00",
			"succeeded b1 incremental: incremental backup is available"},
		{"available, as full", "1 full b1", "full available", "22T03:00", "succeeded b1 full: full backup is available"},
		{"a driver made a full one of it", "1 incremental b1", "full available", "22T03:00",
			"succeeded b1 full: full backup is available, though incremental was asked for"},
		{"a run of which nobody knows what was asked for", "1 - b1", "incremental available", "22T03:00",
			"succeeded b1 incremental: incremental backup is available"},
		{"available long after its deadline", "1 full b1", "full available", "29T03:00",
			"succeeded b1 full: full backup is available"},
		{"being restored, which only what was available is", "1 full b1", "full restoring", "22T03:00",
			"succeeded b1 full: full backup is available"},
		{"found by its run, though its id was never known", "1 full", "full available", "22T03:00",
			"succeeded b1 full: full backup is available"},

		{"still being made", "1 full b1", "full creating", "22T03:59", "open b1 full: Cinder says creating"},
		{"found by its run while it is being made", "1 full", "full creating", "22T02:01",
			"open b1 full: Cinder says creating"},
		{"its deadline", "1 full b1", "full creating", "22T04:00",
			"lost, watch b1 full: not complete within 2h0m0s (Cinder says creating)"},
		{"and for good, though it is the first attempt", "1 full b1", "full creating", "22T12:00",
			"lost, watch b1 full: not complete within 2h0m0s (Cinder says creating)"},

		{"failed: once more", "1 full b1", "full error because no space", "22T03:00",
			"again, remove b1 full: cinder: no space"},
		{"failed without a reason", "1 full b1", "full error", "22T03:00",
			"again, remove b1 full: cinder: status error without a reason"},
		{"failed after its deadline, within the slot", "1 full b1", "full error because no space", "23T01:59",
			"again, remove b1 full: cinder: no space"},
		{"failed, and its slot is over", "1 full b1", "full error because no space", "23T02:00",
			"lost, remove b1 full: cinder: no space"},
		{"failed the second time", "2 full b1", "full error because no space", "22T03:00",
			"lost, remove b1 full: cinder: no space"},
		{"no service took it", "1 full b1", "full " + unserved, "22T03:00",
			"again, unserved, remove b1 full: cinder: Service not found for creating backup."},
		{"no service took the second attempt, either: it does not count", "2 full b1", "full " + unserved, "22T03:00",
			"again, unserved, remove b1 full: cinder: Service not found for creating backup."},
		{"no service took it until the slot was over: the volume has not failed", "1 full b1", "full " + unserved,
			"23T02:00", "again, unserved, remove b1 full: cinder: Service not found for creating backup."},
		{"a restart of cinder-backup", "1 full b1",
			"full error because Create backup aborted, expected volume status backing-up but got in-use.", "22T03:00",
			"again, remove b1 full: cinder: Create backup aborted, expected volume status backing-up but got in-use."},

		{"deleted by somebody while it was being made", "1 full b1", "full deleting", "22T03:00",
			"again b1 full: backup was deleted before it was complete"},
		{"deleted", "1 full b1", "full deleted", "22T03:00", "again b1 full: backup was deleted before it was complete"},
		{"deleted, but not quite", "2 full b1", "full error_deleting", "22T03:00",
			"lost b1 full: backup was deleted before it was complete"},
		{"disappeared", "1 full b1", "", "22T03:00", "again b1: backup disappeared before it was complete"},
		{"disappeared, and its slot is over", "1 full b1", "", "23T02:00",
			"lost b1: backup disappeared before it was complete"},
		{"disappeared the second time", "2 full b1", "", "22T03:00", "lost b1: backup disappeared before it was complete"},

		{"not seen yet", "1 full", "", "22T02:01", "open: not seen in Cinder yet"},
		{"never arrived", "1 full", "", "22T02:02", "unasked: the request never reached Cinder"},
		{"never arrived, and its slot is over", "2 full", "", "24T02:02", "unasked: the request never reached Cinder"},

		{"a status that nobody knows is no success", "1 full b1", "full pondering", "22T03:00",
			"open b1 full: Cinder says pondering"},
		{"and no success after the deadline", "1 full b1", "full pondering", "22T04:00",
			"lost, watch b1 full: not complete within 2h0m0s (Cinder says pondering)"},
		{"nor in capitals", "1 full b1", "full AVAILABLE", "22T04:00",
			"lost, watch b1 full: not complete within 2h0m0s (Cinder says AVAILABLE)"},
		{"nor without any status", "1 full b1", "full", "22T03:00", "open b1 full: Cinder says "},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Run{Volume: theVolume, Slot: on("22T02:00"), Started: on("22T02:00"), Deadline: on("22T04:00")}
			words := append(strings.Fields(c.run), "")
			r.Attempt, r.Kind, r.Backup = int(words[0][0]-'0'), Kind(strings.Trim(words[1], "-")), words[2]
			var seen *CinderBackup
			if c.seen != "" {
				seen = &CinderBackup{ID: "b1", Volume: theVolume, Incremental: strings.HasPrefix(c.seen, "incremental")}
				_, rest, _ := strings.Cut(c.seen, " ")
				seen.Status, seen.FailReason, _ = strings.Cut(rest, " because ")
			}
			if got := showVerdict(VerdictOn(r, seen, on("23T02:00"), on(c.now), 2*time.Minute)); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

func showVerdict(v Verdict) string {
	s := []string{"open", "succeeded", "again", "lost", "unasked"}[v.Ending]
	if v.NoService {
		s += ", unserved"
	}
	if v.Remove {
		s += ", remove"
	}
	if v.Watch {
		s += ", watch"
	}
	return strings.TrimRight(s+" "+v.Backup+" "+string(v.Kind), " ") + ": " + v.Why
}

// The statuses that Cinder has, and some that it may have one day.
var statuses = []string{"available", "restoring", "creating", "error", "deleting", "deleted", "error_deleting", "",
	"Available", "awaiting-transfer", "backing-up"}

func TestVerdictInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := on("22T02:00")
		r := Run{Volume: theVolume, Slot: start, Started: start, Deadline: start.Add(2 * time.Hour), Kind: Incremental,
			Attempt: rapid.IntRange(1, 2).Draw(t, "attempt")}
		if rapid.Bool().Draw(t, "id is known") {
			r.Backup = "b1"
		}
		now := start.Add(time.Duration(rapid.IntRange(-3600, 200000).Draw(t, "now")) * time.Second)
		var seen *CinderBackup
		if rapid.Bool().Draw(t, "seen") {
			seen = &CinderBackup{ID: "b1", Status: rapid.SampledFrom(statuses).Draw(t, "status"),
				FailReason: rapid.SampledFrom([]string{"", "no space"}).Draw(t, "reason")}
		}
		slotEnds, grace := start.Add(24*time.Hour), 90*time.Second
		v := VerdictOn(r, seen, slotEnds, now, grace)
		if v.Why == "" {
			t.Fatalf("no reason: %+v", v)
		}
		if v.Ending == Succeeded && (seen == nil || seen.Status != "available" && seen.Status != "restoring") {
			t.Fatalf("%+v is a success", seen)
		}
		if v.Remove && (seen == nil || seen.Status != "error") || v.Remove && v.Watch || v.Watch && v.Ending != Lost {
			t.Fatalf("%+v: %s", seen, showVerdict(v))
		}
		if v.Ending == Again && (r.Attempt == 2 || !now.Before(slotEnds)) {
			t.Fatalf("attempt %d at %s: %s", r.Attempt, now, showVerdict(v))
		}
		if v.Ending == Unasked && (seen != nil || r.Backup != "" || now.Before(start.Add(grace))) {
			t.Fatalf("%+v: %s", seen, showVerdict(v))
		}
		if v.Ending == Open && now.After(r.Deadline) {
			t.Fatalf("open for ever: %+v at %s", seen, now)
		}
		if seen != nil && v.Backup != seen.ID || seen == nil && v.Backup != r.Backup {
			t.Fatalf("the backup's id is lost: %s", showVerdict(v))
		}
	})
}
