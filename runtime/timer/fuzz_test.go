package timer

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"staffeln/events"
)

// Whatever a timer is told: it is refused in a few words, or every tick comes at a
// whole multiple of its interval, once for each shard, and can be read again.
func FuzzTimer(f *testing.F) {
	f.Add("dispatch", int64(60), uint8(4), true, int64(610))
	f.Add("report", int64(3600), uint8(0), false, int64(7199))
	f.Add("", int64(0), uint8(1), true, int64(1))
	f.Add("a/b@c", int64(7), uint8(3), true, int64(20))
	f.Add(strings.Repeat("n", 2000), int64(-1), uint8(1), false, int64(1))
	f.Add("x", int64(1<<33), uint8(2), true, int64(5))
	f.Fuzz(func(t *testing.T, name string, every int64, shards uint8, atStart bool, seconds int64) {
		timer := Timer{Name: name, Every: time.Duration(every) * time.Second, Shards: int(shards % 8), AtStart: atStart}
		seconds = (seconds%200 + 200) % 200
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			var ticks []events.Event
			r := Runner{Timers: []Timer{timer}, Log: slog.New(slog.DiscardHandler), Drain: time.Second,
				Deliver: func(_ context.Context, e events.Event) error {
					mu.Lock()
					defer mu.Unlock()
					ticks = append(ticks, e)
					return nil
				}}
			begin := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(seconds)*time.Second+time.Millisecond)
			defer cancel()
			if err := r.Run(ctx); err != nil {
				if len(ticks) > 0 || len(err.Error()) > 500 {
					t.Fatalf("%d ticks, and an error of %d bytes: %.300s", len(ticks), len(err.Error()), err)
				}
				return
			}
			seen := map[string]bool{}
			n := 0
			for at := begin.Truncate(timer.Every); !at.After(begin.Add(time.Duration(seconds) * time.Second)); at = at.Add(timer.Every) {
				if at.After(begin) || atStart && !begin.After(at.Add(timer.Every)) {
					n++
				}
				if timer.Every <= 0 {
					break
				}
			}
			for _, e := range ticks {
				tick, err := events.DecodeTick(e)
				if err != nil || tick.Name != name || tick.Shard >= max(timer.Shards, 1) || !tick.At.Equal(tick.At.Truncate(timer.Every)) || seen[e.ID] {
					t.Fatalf("%+v, %+v, %v", e, tick, err)
				}
				seen[e.ID] = true
			}
			if begin.Truncate(timer.Every).Equal(begin) && !atStart {
				n = slices.Max([]int{n, 0})
			}
			if want := n * max(timer.Shards, 1); len(ticks) != want {
				t.Fatalf("%s every %s from %s for %d s: %d ticks, want %d", name, timer.Every, begin, seconds, len(ticks), want)
			}
		})
	})
}
