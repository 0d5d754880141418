package events

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Whatever an event says: a tick that is read is one that [NewTick] could have made,
// and the complaint about another is short enough for a log.
func FuzzTick(f *testing.F) {
	f.Add("tick.dispatch", "dispatch/07@2026-08-22T02:00:00Z", int64(1787364000))
	f.Add("tick.track", "track/00@", int64(0))
	f.Add("tick.", "/0@", int64(1))
	f.Add("tick.a/b", "a/b/9223372036854775808@x", int64(1))
	f.Add("tick.x", "x/-1@2026-08-22T02:00:00Z", int64(1))
	f.Add("tick."+strings.Repeat("n", 5000), strings.Repeat("n", 5000), int64(1))
	f.Add("backup.create.end", "\n", int64(-62135596800))
	f.Fuzz(func(t *testing.T, eventType, id string, unix int64) {
		const millennium = 1000 * 365 * 24 * 3600
		e := Event{ID: id, Type: eventType, At: time.Unix(unix%millennium, 0).UTC()}
		tick, err := DecodeTick(e)
		if err != nil {
			if text := err.Error(); len(text) > 800 || strings.Contains(text, "\n") || !tick.At.IsZero() {
				t.Fatalf("%+v and an error of %d bytes: %.300s", tick, len(text), text)
			}
			return
		}
		if !IsTick(e.Type) || tick.Name == "" || tick.Shard < 0 || tick.At.IsZero() {
			t.Fatalf("%q %q is read %+v", eventType, id, tick)
		}
		again, err := DecodeTick(NewTick(tick.Name, tick.Shard, tick.At))
		if d := cmp.Diff(tick, again); d != "" || err != nil {
			t.Fatalf("%v (-want +got):\n%s", err, d)
		}
	})
}
