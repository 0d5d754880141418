package runtime_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"staffeln/events"
	"staffeln/runtime"
)

var errBoom = errors.New("boom")

func answer(err error) map[string]events.Handler {
	return map[string]events.Handler{"x": func(context.Context, events.Event) error { return err }}
}

// One function's answer is not another's: each gets the event, and together they
// make one answer for the way in.
func TestDeliver(t *testing.T) {
	for _, tc := range []struct {
		name    string
		answers []error
		want    string
	}{
		{"all done", []error{nil, nil}, "done"},
		{"nobody takes it", nil, "done"},
		{"one drops, one is done: for the dead letters", []error{events.Drop(errBoom), nil}, "dropped; told: f0"},
		{"one asks again", []error{nil, errBoom}, "retry"},
		{"one drops, one asks again: all get it again", []error{events.Drop(errBoom), errBoom}, "retry; told: f0"},
		{"one asks again later", []error{events.Later(time.Minute, errBoom), nil}, "retry after 1m0s"},
		{"the longest wait counts", []error{events.Later(time.Minute, errBoom), events.Later(time.Hour, errBoom), errBoom}, "retry after 1h0m0s"},
		{"a mark stays on when wrapped", []error{fmt.Errorf("volume: %w", events.Later(time.Second, errBoom))}, "retry after 1s"},
		{"two drop", []error{events.Drop(errBoom), events.Drop(errBoom)}, "dropped; told: f0 f1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var fns []runtime.Function
			for i, err := range tc.answers {
				fns = append(fns, runtime.Function{Name: fmt.Sprintf("f%d", i), On: answer(err)})
			}
			r := runtime.NewRouter(fns, runtime.NewInProcess(slog.New(slog.DiscardHandler), fns))
			var told []string
			r.Dropped = func(_ context.Context, name string, _ events.Event, _ error) { told = append(told, name) }
			outcome, wait := events.Judge(r.Deliver(t.Context(), events.Event{Type: "x"}))
			got := runtime.OutcomeName(outcome)
			if wait > 0 {
				got += " after " + wait.String()
			}
			if len(told) > 0 {
				got += "; told: " + strings.Join(told, " ")
			}
			if got != tc.want {
				t.Errorf("\n got %s\nwant %s", got, tc.want)
			}
		})
	}
}

// Together never forgets a retry, and never waits less than anybody asked for.
func TestTogether(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var answers []error
		var want events.Outcome
		var longest time.Duration
		for range rapid.IntRange(0, 5).Draw(t, "answers") {
			switch rapid.SampledFrom([]string{"done", "drop", "retry", "later"}).Draw(t, "answer") {
			case "done":
				answers = append(answers, nil)
			case "drop":
				answers = append(answers, events.Drop(errBoom))
				if want == events.Done {
					want = events.Dropped
				}
			case "retry":
				answers, want = append(answers, errBoom), events.Retry
			case "later":
				wait := time.Duration(rapid.Int64Range(1, 1e12).Draw(t, "wait"))
				answers, want, longest = append(answers, events.Later(wait, errBoom)), events.Retry, max(longest, wait)
			}
		}
		err := runtime.Together(answers...)
		outcome, wait := events.Judge(err)
		if outcome != want || wait != longest {
			t.Fatalf("%v is %s after %s, want %s after %s", answers, runtime.OutcomeName(outcome), wait, runtime.OutcomeName(want), longest)
		}
		if err != nil && !errors.Is(err, errBoom) {
			t.Fatal("the reason got lost")
		}
	})
}

// Whoever has not seen the event when the process is told to stop gets it later.
func TestDeliverStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	fns := []runtime.Function{
		{Name: "a", On: map[string]events.Handler{"x": func(context.Context, events.Event) error { cancel(); return nil }}},
		{Name: "b", On: map[string]events.Handler{"x": func(context.Context, events.Event) error { t.Error("b was asked"); return nil }}},
	}
	err := runtime.NewRouter(fns, runtime.NewInProcess(slog.Default(), fns)).Deliver(ctx, events.Event{Type: "x"})
	if outcome, _ := events.Judge(err); outcome != events.Retry {
		t.Error(err)
	}
}

func TestWants(t *testing.T) {
	r := runtime.NewRouter([]runtime.Function{{Name: "b", On: answer(nil)}, {Name: "http"}}, nil)
	if !r.Wants("x") || r.Wants("y") || r.Wants("") || !slices.Equal(r.Types(), []string{"x"}) {
		t.Error(r.Types())
	}
}

// A panic is dropped, and told with the function's name and a stack, but without
// what came in the event.
func TestPanic(t *testing.T) {
	const secret = "token-of-a-tenant"
	for _, tc := range []struct{ name, event, why string }{
		{"of Go's own", "index", "index out of range"},
		{"of the function's", "payload", "a value of type string"},
		{"with an error", "error", "a value of type *errors.errorString"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var log bytes.Buffer
			fns := []runtime.Function{{Name: "track", On: map[string]events.Handler{
				"index":   func(_ context.Context, e events.Event) error { _ = e.Data[len(e.Data)]; return nil },
				"payload": func(_ context.Context, e events.Event) error { panic(string(e.Data)) },
				"error":   func(_ context.Context, e events.Event) error { panic(errors.New(string(e.Data))) },
			}}}
			err := runtime.NewInProcess(slog.New(slog.NewTextHandler(&log, nil)), fns).
				Invoke(t.Context(), "track", events.Event{ID: "id-1", Type: tc.event, Data: []byte(secret)})
			outcome, _ := events.Judge(err)
			if outcome != events.Dropped || !strings.Contains(err.Error(), "track panicked on "+tc.event+" id-1") || !strings.Contains(err.Error(), tc.why) {
				t.Error(err)
			}
			if !strings.Contains(log.String(), "function=track") || !strings.Contains(log.String(), "runtime_test.go") {
				t.Errorf("no function or no stack: %s", log.String())
			}
			if strings.Contains(log.String()+err.Error(), secret) {
				t.Error("the payload got out")
			}
		})
	}
}

func TestInProcess(t *testing.T) {
	p := runtime.NewInProcess(slog.Default(), []runtime.Function{{Name: "a", On: answer(errBoom)}})
	if outcome, _ := events.Judge(p.Invoke(t.Context(), "b", events.Event{Type: "x"})); outcome != events.Dropped {
		t.Error("a function that there is not was found")
	}
	if err := p.Invoke(t.Context(), "a", events.Event{Type: "y"}); err != nil {
		t.Errorf("a type it does not take: %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("two functions have one name")
		}
	}()
	runtime.NewInProcess(slog.Default(), []runtime.Function{{Name: "a"}, {Name: "a"}})
}

// A function that heeds its context is stopped, and the answer says by what; the
// marks on it stay.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := runtime.InvokerFunc(func(ctx context.Context, function string, _ events.Event) error {
			if function == "quick" {
				return nil
			}
			<-ctx.Done()
			if function == "drops" {
				return events.Drop(ctx.Err())
			}
			return fmt.Errorf("list: %w", ctx.Err())
		})
		inv := runtime.Wrap(slow, runtime.Timeout(time.Minute))
		start := time.Now()
		err := inv.Invoke(t.Context(), "slow", events.Event{})
		if err == nil || err.Error() != "not done within 1m0s: list: context deadline exceeded" || time.Since(start) != time.Minute {
			t.Error(err, time.Since(start))
		}
		if outcome, _ := events.Judge(inv.Invoke(t.Context(), "drops", events.Event{})); outcome != events.Dropped {
			t.Error("the mark got lost")
		}
		if err := inv.Invoke(t.Context(), "quick", events.Event{}); err != nil {
			t.Error(err)
		}
		// The caller's own deadline is not the timeout.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := inv.Invoke(ctx, "slow", events.Event{}); err == nil || strings.Contains(err.Error(), "not done within") {
			t.Error(err)
		}
	})
}

func TestObserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		var log bytes.Buffer
		inv := runtime.Wrap(runtime.InvokerFunc(func(_ context.Context, _ string, e events.Event) error {
			time.Sleep(time.Second)
			return map[string]error{"bad": events.Drop(errBoom), "busy": errBoom}[e.Type]
		}), runtime.Observed(func(function, eventType string, o events.Outcome, took time.Duration, err error) {
			got = append(got, fmt.Sprintln(function, eventType, runtime.OutcomeName(o), took, err))
		}, runtime.Logged(slog.New(slog.NewTextHandler(&log, nil)))))
		for _, eventType := range []string{"good", "bad", "busy"} {
			_ = inv.Invoke(t.Context(), "track", events.Event{Type: eventType})
		}
		want := []string{"track good done 1s <nil>\n", "track bad dropped 1s boom\n", "track busy retry 1s boom\n"}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		if lines := strings.Count(log.String(), "\n"); lines != 2 || !strings.Contains(log.String(), "level=ERROR") {
			t.Errorf("what went well is not worth a line:\n%s", log.String())
		}
	})
}

// The first middleware is the outermost.
func TestWrapOrder(t *testing.T) {
	var got []string
	note := func(name string) runtime.Middleware {
		return func(next runtime.Invoker) runtime.Invoker {
			return runtime.InvokerFunc(func(ctx context.Context, f string, e events.Event) error {
				got = append(got, name)
				return next.Invoke(ctx, f, e)
			})
		}
	}
	inner := runtime.InvokerFunc(func(context.Context, string, events.Event) error { got = append(got, "function"); return nil })
	_ = runtime.Wrap(inner, note("outer"), note("inner")).Invoke(t.Context(), "f", events.Event{})
	if d := cmp.Diff([]string{"outer", "inner", "function"}, got); d != "" {
		t.Error(d)
	}
}
