package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"staffeln/events"
	"staffeln/events/oslo"
)

var (
	noon    = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	errBoom = errors.New("boom")
	quiet   = slog.New(slog.DiscardHandler)
)

func event(id string) events.Event {
	return events.Event{ID: id, Type: "backup.create.end", At: noon}
}

// A driven bus has a clock of its own and is moved on by hand.
type driven struct {
	*Bus
	now time.Time
	log []string
}

func drive(answer func(id string, n int) error, o Options) *driven {
	d := &driven{now: noon}
	tries := map[string]int{}
	o.Deliver = func(_ context.Context, e events.Event) error {
		tries[e.ID]++
		err := answer(e.ID, tries[e.ID])
		outcome, _ := events.Judge(err)
		d.log = append(d.log, fmt.Sprintf("%s %s %v", d.now.Sub(noon), e.ID, outcome == events.Done))
		return err
	}
	o.Now = func() time.Time { return d.now }
	o.Log = quiet
	d.Bus = New(o)
	return d
}

// goOn delivers all there is, at the time each is due.
func (d *driven) goOn(t *testing.T) {
	t.Helper()
	for {
		next, ok := d.Next()
		if !ok {
			return
		}
		if next.After(d.now) {
			d.now = next
		}
		if n, err := d.Flush(t.Context()); err != nil || n == 0 {
			t.Fatal(n, err)
		}
	}
}

// An answer means what it means to the AMQP consumer.
func TestAnswers(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer func(n int) error
		log    string
		dead   string
	}{
		{"done: never again", func(int) error { return nil }, "0s", ""},
		{"retry: with backoff, until it is done",
			func(n int) error { return map[bool]error{true: errBoom}[n < 4] }, "0s 1s 3s 7s", ""},
		{"later: no sooner than asked", func(n int) error {
			return map[bool]error{true: events.Later(time.Hour, errBoom)}[n < 3]
		}, "0s 1h0m0s 2h0m0s", ""},
		{"retry for ever: set aside after all attempts",
			func(int) error { return errBoom }, "0s 1s 3s 7s 15s", "given up after 5 attempts: boom"},
		{"drop: set aside at once", func(int) error { return events.Drop(errBoom) }, "0s", "boom"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := drive(func(_ string, n int) error { return tc.answer(n) }, Options{Attempts: 5})
			if err := d.PublishEvent(event("a")); err != nil {
				t.Fatal(err)
			}
			d.goOn(t)
			var at []string
			for _, line := range d.log {
				at = append(at, strings.Fields(line)[0])
			}
			if got := strings.Join(at, " "); got != tc.log {
				t.Errorf("delivered at %s, want %s", got, tc.log)
			}
			dead := ""
			for _, letter := range d.Dead() {
				dead += letter.Why.Error()
				if letter.Event.ID != "a" || letter.Attempts != len(at) {
					t.Errorf("%+v", letter)
				}
			}
			if dead != tc.dead {
				t.Errorf("dead: %q, want %q", dead, tc.dead)
			}
		})
	}
}

// The backoff doubles and has an end.
func TestDoubling(t *testing.T) {
	for n, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 9: 256 * time.Second,
		10: 5 * time.Minute, 1000: 5 * time.Minute} {
		if got := doubling(n); got != want {
			t.Errorf("after %d: %s, want %s", n, got, want)
		}
	}
}

// A failing message does not hold up the others.
func TestOrder(t *testing.T) {
	d := drive(func(id string, n int) error {
		if id == "b" && n == 1 {
			return errBoom
		}
		return nil
	}, Options{})
	for _, id := range []string{"a", "b", "c"} {
		if err := d.PublishEvent(event(id)); err != nil {
			t.Fatal(err)
		}
	}
	d.goOn(t)
	if diff := cmp.Diff([]string{"0s a true", "0s b false", "0s c true", "1s b true"}, d.log); diff != "" {
		t.Error(diff)
	}
}

// Flush delivers what comes in meanwhile, and leaves what is due later.
func TestFlush(t *testing.T) {
	var d *driven
	d = drive(func(id string, n int) error {
		if id == "a" {
			return d.PublishEvent(event("b"))
		}
		return events.Later(time.Minute, errBoom)
	}, Options{})
	if err := d.PublishEvent(event("a")); err != nil {
		t.Fatal(err)
	}
	if n, err := d.Flush(t.Context()); n != 2 || err != nil {
		t.Error(n, err)
	}
	if n, err := d.Flush(t.Context()); n != 0 || err != nil {
		t.Error(n, err)
	}
	if all, retries := d.Pending(); all != 1 || retries != 1 {
		t.Error(all, retries)
	}
	if next, ok := d.Next(); !ok || !next.Equal(noon.Add(time.Minute)) {
		t.Error(next, ok)
	}
}

// Bodies are oslo's envelopes; what is none is set aside with its bytes, and not
// delivered.
func TestBodies(t *testing.T) {
	var got []events.Event
	b := New(Options{Log: quiet, Now: func() time.Time { return noon },
		Deliver: func(_ context.Context, e events.Event) error { got = append(got, e); return nil }})
	want := event("m-1")
	want.Data = []byte(`{"backup_id": "b-1"}`)
	body := oslo.Encode(want, "backup.host")
	ahead := event("ahead")
	ahead.At = noon.AddDate(100, 0, 0)
	for _, body := range [][]byte{body, []byte("no envelope"), nil,
		oslo.Encode(events.NewTick("retention", 0, noon), "anybody"), oslo.Encode(ahead, "anybody")} {
		if err := b.Publish(body); err != nil {
			t.Fatal(err)
		}
	}
	clear(body) // the publisher may use its buffer again
	if _, err := b.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	ahead.At = noon // what has happened has happened by now
	if d := cmp.Diff([]events.Event{want, ahead}, got); d != "" {
		t.Error(d)
	}
	dead := b.Dead()
	if len(dead) != 3 || string(dead[0].Body) != "no envelope" || dead[0].Why == nil || dead[0].Attempts != 0 {
		t.Errorf("%+v", dead)
	}
}

// A full bus lets the oldest go, as the queue of a broker with drop-head does, and
// so do the dead letters.
func TestBounded(t *testing.T) {
	counts := map[string]int{}
	d := drive(func(string, int) error { return events.Drop(errBoom) },
		Options{Limit: 3, Count: func(o string) { counts[o]++ }})
	for i := range 1000 {
		if err := d.PublishEvent(event(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	d.goOn(t)
	if diff := cmp.Diff([]string{"0s 997 false", "0s 998 false", "0s 999 false"}, d.log); diff != "" {
		t.Error(diff)
	}
	for range 2 {
		if err := d.Publish([]byte("rubbish")); err != nil {
			t.Fatal(err)
		}
	}
	if dead := d.Dead(); len(dead) != 3 || dead[0].Event.ID != "999" {
		t.Errorf("%+v", dead)
	}
	if diff := cmp.Diff(map[string]int{"overflow": 997, "dead": 5}, counts); diff != "" {
		t.Error(diff)
	}
}

// Whatever the answers, each message ends: done, or among the dead letters, after
// no more attempts than allowed.
func TestEveryMessageEnds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		answers := rapid.SliceOfN(rapid.IntRange(0, 3), 1, 60).Draw(rt, "answers")
		n, ended, tries := 0, map[string]int{}, map[string]int{}
		d := drive(func(id string, _ int) error {
			tries[id]++
			n++
			switch answers[n%len(answers)] {
			case 0:
				ended[id]++
				return nil
			case 1:
				return events.Drop(errBoom)
			case 2:
				return events.Later(time.Minute, errBoom)
			}
			return errBoom
		}, Options{Attempts: 4})
		count := rapid.IntRange(1, 20).Draw(rt, "messages")
		for i := range count {
			if err := d.PublishEvent(event(fmt.Sprint(i))); err != nil {
				rt.Fatal(err)
			}
		}
		d.goOn(t)
		for _, letter := range d.Dead() {
			ended[letter.Event.ID]++
		}
		for i := range count {
			if id := fmt.Sprint(i); ended[id] != 1 || tries[id] > 4 {
				rt.Fatalf("message %s ended %d times after %d attempts", id, ended[id], tries[id])
			}
		}
	})
}

// In real time, Run delivers as messages come, several at once, and waits for
// retries by the clock.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var got []string
		var atOnce, most atomic.Int32
		start := time.Now()
		b := New(Options{Log: quiet, Workers: 2, Deliver: func(_ context.Context, e events.Event) error {
			most.Store(max(most.Load(), atOnce.Add(1)))
			defer atOnce.Add(-1)
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			got = append(got, fmt.Sprint(e.ID, " ", time.Since(start)))
			if e.ID == "a" && len(got) == 1 {
				return events.Later(time.Minute, errBoom)
			}
			return nil
		}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- b.Run(ctx) }()
		for _, id := range []string{"a", "b", "c"} {
			if err := b.PublishEvent(event(id)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(2 * time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if d := cmp.Diff([]string{"a 1s", "b 1.001s", "c 2s", "a 1m2s"}, got); d != "" {
			t.Error(d)
		}
		if most.Load() != 2 {
			t.Errorf("%d at once", most.Load())
		}
	})
}

// Draining takes nothing new, delivers what is there and ends Run; what waits for
// a retry is told of.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var done atomic.Int32
		b := New(Options{Log: quiet, Deliver: func(_ context.Context, e events.Event) error {
			time.Sleep(time.Second)
			if e.ID == "later" {
				return events.Later(time.Hour, errBoom)
			}
			done.Add(1)
			return nil
		}})
		over := make(chan error)
		go func() { over <- b.Run(t.Context()) }()
		for _, id := range []string{"a", "b", "c", "d", "e", "f", "later"} {
			if err := b.PublishEvent(event(id)); err != nil {
				t.Fatal(err)
			}
		}
		err := b.Drain(t.Context())
		if err == nil || err.Error() != "1 messages are not delivered" {
			t.Error(err)
		}
		if err := <-over; err != nil || done.Load() != 6 {
			t.Error(err, done.Load())
		}
		if err := b.PublishEvent(event("g")); !errors.Is(err, ErrDrained) {
			t.Error(err)
		}
	})
}

// Draining has an end, too, when what is under way has none.
func TestDrainTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{Log: quiet, Deliver: func(ctx context.Context, _ events.Event) error {
			<-ctx.Done()
			return ctx.Err()
		}})
		running, stop := context.WithCancel(t.Context())
		over := make(chan error)
		go func() { over <- b.Run(running) }()
		if err := b.PublishEvent(event("a")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := b.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		stop()
		if err := <-over; err != nil {
			t.Error(err)
		}
		if all, _ := b.Pending(); all != 1 {
			t.Errorf("what was cut off is gone: %d pending", all)
		}
	})
}
