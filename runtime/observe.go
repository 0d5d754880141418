package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"staffeln/events"
)

// A Middleware does something around the invocations of an [Invoker].
type Middleware func(Invoker) Invoker

// Wrap puts middleware around an invoker; the first is the outermost.
func Wrap(invoker Invoker, around ...Middleware) Invoker {
	for i := len(around) - 1; i >= 0; i-- {
		invoker = around[i](invoker)
	}
	return invoker
}

// Timeout ends the context of each invocation after d; 0 or less leaves it alone.
// The function has to heed its context: one that does not runs on, and what it
// then answers counts.
func Timeout(d time.Duration) Middleware {
	return func(next Invoker) Invoker {
		if d <= 0 {
			return next
		}
		return InvokerFunc(func(ctx context.Context, function string, e events.Event) error {
			out := fmt.Errorf("not done within %s", d)
			ctx, cancel := context.WithTimeoutCause(ctx, d, out)
			defer cancel()
			err := next.Invoke(ctx, function, e)
			// Say whose deadline it was: "context deadline exceeded" tells nothing.
			if errors.Is(err, context.DeadlineExceeded) && context.Cause(ctx) == out {
				return fmt.Errorf("%v: %w", out, err) // one %w: a mark on err stays on
			}
			return err
		})
	}
}

// Observe is told of every invocation when it is over: how it went and how long
// it took. err is nil for [events.Done].
type Observe func(function, eventType string, outcome events.Outcome, took time.Duration, err error)

// Observed tells each observer of every invocation, in turn.
func Observed(observers ...Observe) Middleware {
	return func(next Invoker) Invoker {
		return InvokerFunc(func(ctx context.Context, function string, e events.Event) error {
			start := time.Now()
			err := next.Invoke(ctx, function, e)
			took := time.Since(start)
			outcome, _ := events.Judge(err)
			for _, observe := range observers {
				observe(function, e.Type, outcome, took, err)
			}
			return err
		})
	}
}

// Logged is an [Observe] that writes a line for each invocation that was not done:
// a warning for a retry, an error for a drop. What is done is at debug level: a
// function says itself what it changed.
func Logged(log *slog.Logger) Observe {
	return func(function, eventType string, outcome events.Outcome, took time.Duration, err error) {
		attrs := []any{"function", function, "type", eventType, "took", took.Round(time.Millisecond)}
		switch outcome {
		case events.Done:
			log.Debug("event done", attrs...)
		case events.Dropped:
			log.Error("event dropped", append(attrs, "err", err)...)
		default:
			log.Warn("event to be retried", append(attrs, "err", err)...)
		}
	}
}

// OutcomeName is the word for an outcome in logs and metric labels: "done",
// "retry" or "dropped".
func OutcomeName(o events.Outcome) string {
	switch o {
	case events.Done:
		return "done"
	case events.Retry:
		return "retry"
	case events.Dropped:
		return "dropped"
	}
	return fmt.Sprintf("outcome %d", int(o))
}
