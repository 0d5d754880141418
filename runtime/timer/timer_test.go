package timer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"staffeln/events"
)

// A record is what a test saw, from any goroutine.
type record struct {
	mu  sync.Mutex
	all []string
}

func (r *record) add(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, s)
}

func (r *record) sorted() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(slices.Values(r.all))
}

func (r *record) deliver(_ context.Context, e events.Event) error {
	r.add(e.ID)
	return nil
}

// inOrder starts shards from 0 up, so that a test can say who is next.
func inOrder(n int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	return order
}

// run runs r in the bubble for that long, from ten past midnight.
func run(t *testing.T, r *Runner, d time.Duration) {
	t.Helper()
	if r.Log == nil {
		r.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	time.Sleep(d + time.Millisecond) // past what happens at the end itself
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func bubble(t *testing.T, test func(t *testing.T)) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(10 * time.Minute) // a bubble begins at midnight UTC: start off the hour
		test(t)
	})
}

// Ticks come at whole multiples of the interval, one for each shard, however the
// process started.
func TestTicks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var got record
		run(t, &Runner{Deliver: got.deliver, Timers: []Timer{
			{Name: "reconcile", Every: time.Hour},
			{Name: "dispatch", Every: 2 * time.Hour, Shards: 3},
		}}, 2*time.Hour)
		want := []string{
			"dispatch/00@2000-01-01T02:00:00Z", "dispatch/01@2000-01-01T02:00:00Z", "dispatch/02@2000-01-01T02:00:00Z",
			"reconcile/00@2000-01-01T01:00:00Z", "reconcile/00@2000-01-01T02:00:00Z",
		}
		if d := cmp.Diff(want, got.sorted()); d != "" {
			t.Error(d)
		}
	})
}

// With AtStart the multiple just gone is not waited for again.
func TestAtStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var got record
		run(t, &Runner{Deliver: got.deliver, Timers: []Timer{{Name: "reconcile", Every: time.Hour, AtStart: true}}}, time.Hour)
		want := []string{"reconcile/00@2000-01-01T00:00:00Z", "reconcile/00@2000-01-01T01:00:00Z"}
		if d := cmp.Diff(want, got.sorted()); d != "" {
			t.Error(d)
		}
	})
}

// While a shard is slow its next ticks are skipped and counted; the other shards
// get theirs. Never are two deliveries of one shard under way.
func TestSlowShard(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var got, skipped record
		busy := map[string]bool{}
		var mu sync.Mutex
		run(t, &Runner{
			Timers: []Timer{{Name: "track", Every: time.Minute, Shards: 2}}, Order: inOrder,
			Deliver: func(_ context.Context, e events.Event) error {
				shard := e.ID[:len("track/00")]
				mu.Lock()
				if busy[shard] {
					t.Errorf("%s twice at once", shard)
				}
				busy[shard] = true
				mu.Unlock()
				got.add(e.ID[6:8] + e.ID[len(e.ID)-10:])
				if shard == "track/00" {
					time.Sleep(150 * time.Second)
				}
				mu.Lock()
				busy[shard] = false
				mu.Unlock()
				return nil
			},
			Skipped: func(timer string, shard int, why string) { skipped.add(fmt.Sprint(timer, " ", shard, " ", why)) },
		}, 5*time.Minute)
		want := []string{"00T00:11:00Z", "00T00:14:00Z", "01T00:11:00Z", "01T00:12:00Z", "01T00:13:00Z", "01T00:14:00Z", "01T00:15:00Z"}
		if d := cmp.Diff(want, got.sorted()); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]string{"track 0 busy", "track 0 busy", "track 0 busy"}, skipped.sorted()); d != "" {
			t.Error(d)
		}
	})
}

// When there are more shards than can be under way, each still gets its turn, and
// what waited is delivered with the newest time.
func TestFewWorkersManyShards(t *testing.T) {
	bubble(t, func(t *testing.T) {
		perShard := map[int]int{}
		run(t, &Runner{
			Timers: []Timer{{Name: "dispatch", Every: 10 * time.Second, Shards: 16}}, Parallel: 1, Order: inOrder,
			Deliver: func(_ context.Context, e events.Event) error {
				tick, err := events.DecodeTick(e)
				if err != nil {
					t.Error(err)
				}
				if age := time.Since(tick.At); age > 10*time.Second {
					t.Errorf("%s is %s old", e.ID, age)
				}
				perShard[tick.Shard]++ // Parallel is 1
				time.Sleep(3 * time.Second)
				return nil
			},
		}, 480*time.Second)
		for shard := range 16 {
			if n := perShard[shard]; n < 8 {
				t.Errorf("shard %d had %d turns of about 10", shard, n)
			}
		}
	})
}

// A claims is what Redis would be: first come, first served.
type claims struct {
	mu   sync.Mutex
	held map[string]time.Duration
	err  error
}

func (c *claims) Claim(_ context.Context, name string, ttl time.Duration) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return true, c.err // what goes with an error does not count
	}
	if _, ok := c.held[name]; ok {
		return false, nil
	}
	c.held[name] = ttl
	return true, nil
}

// Of several processes one delivers each tick, and they share the work, since each
// begins with other shards.
func TestReplicas(t *testing.T) {
	bubble(t, func(t *testing.T) {
		shared := &claims{held: map[string]time.Duration{}}
		var got record
		var all sync.WaitGroup
		mine := make([]int, 3)
		for i := range mine {
			all.Go(func() {
				run(t, &Runner{
					Timers: []Timer{{Name: "dispatch", Every: time.Minute, Shards: 12}}, Claims: shared, Parallel: 1,
					Order: func(n int) []int { // each begins a third further on
						order := inOrder(n)
						return append(order[4*i:], order[:4*i]...)
					},
					Deliver: func(_ context.Context, e events.Event) error {
						mine[i]++ // Parallel is 1
						got.add(e.ID)
						time.Sleep(time.Second)
						return nil
					},
				}, 90*time.Second)
			})
		}
		all.Wait()
		if d := cmp.Diff([]int{4, 4, 4}, mine); d != "" {
			t.Error(d)
		}
		if ids := got.sorted(); len(slices.Compact(ids)) != 12 {
			t.Error(ids)
		}
		for name, ttl := range shared.held {
			if ttl < 2*time.Minute {
				t.Errorf("%s is held for %s only: a late replica would run it again", name, ttl)
			}
		}
	})
}

// Without a claim nothing runs, which is said once, as is the end of it.
func TestClaimsOutOfReach(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := &claims{held: map[string]time.Duration{}, err: errors.New("redis is down")}
		var got, skipped record
		var log bytes.Buffer
		go func() {
			time.Sleep(150 * time.Second)
			c.mu.Lock()
			c.err = nil
			c.mu.Unlock()
		}()
		run(t, &Runner{
			Timers: []Timer{{Name: "track", Every: time.Minute, Shards: 2}}, Claims: c, Deliver: got.deliver, Log: slog.New(slog.NewTextHandler(&log, nil)),
			Parallel: 1, Skipped: func(_ string, _ int, why string) { skipped.add(why) },
		}, 200*time.Second)
		if d := cmp.Diff([]string{"track/00@2000-01-01T00:13:00Z", "track/01@2000-01-01T00:13:00Z"}, got.sorted()); d != "" {
			t.Error(d)
		}
		if n := len(skipped.sorted()); n != 4 || skipped.all[0] != Unclaimed {
			t.Error(skipped.all)
		}
		if strings.Count(log.String(), "level=ERROR") != 1 || strings.Count(log.String(), "level=INFO") != 1 || !strings.Contains(log.String(), "redis is down") {
			t.Error(log.String())
		}
	})
}

// Told to stop, a runner starts nothing more and lets what is under way finish,
// for as long as Drain says.
func TestDrain(t *testing.T) {
	for _, tc := range []struct {
		name         string
		takes, drain time.Duration
		want         string
		after        time.Duration
	}{
		{"time enough", 20 * time.Second, 30 * time.Second, "finished", 20 * time.Second},
		{"not enough", 50 * time.Second, 30 * time.Second, "stopped", 30 * time.Second},
		{"none at all", 50 * time.Second, 0, "stopped", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				var got record
				r := &Runner{
					Timers: []Timer{{Name: "track", Every: time.Hour, Shards: 3}}, Parallel: 1, Drain: tc.drain, Log: slog.Default(),
					Deliver: func(ctx context.Context, e events.Event) error {
						cancel()
						select {
						case <-ctx.Done():
							got.add("stopped")
						case <-time.After(tc.takes):
							got.add("finished")
						}
						return nil
					},
				}
				if err := r.Run(ctx); err != nil {
					t.Error(err)
				}
				if d := cmp.Diff([]string{tc.want}, got.all); d != "" {
					t.Error(d)
				}
				if took := time.Since(time.Date(2000, 1, 1, 1, 0, 0, 0, time.UTC)); took != tc.after {
					t.Errorf("Run returned %s after the tick", took)
				}
			})
		})
	}
}

func TestTimersThatCannotBe(t *testing.T) {
	for _, bad := range []Timer{
		{Every: time.Second}, {Name: "x"}, {Name: "x", Every: 500 * time.Millisecond},
		{Name: "x", Every: 1500 * time.Millisecond}, {Name: "x", Every: -time.Hour}, {Name: "x", Every: time.Hour, Shards: -1},
	} {
		if err := (&Runner{Timers: []Timer{bad}}).Run(t.Context()); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}
