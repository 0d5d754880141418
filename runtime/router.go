package runtime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"staffeln/events"
)

// A Router hands each event to every function that takes its type. Make one with
// [NewRouter].
type Router struct {
	// Dropped is told of every event that a function gave up on, once per delivery;
	// nil for nobody. It must not hold the caller up.
	Dropped func(ctx context.Context, function string, e events.Event, err error)

	takers  map[string][]string // event type → names of functions, sorted
	invoker Invoker
}

// NewRouter routes to the given functions by what they answer to, and runs them
// with the invoker.
func NewRouter(functions []Function, invoker Invoker) *Router {
	r := &Router{takers: map[string][]string{}, invoker: invoker}
	for _, f := range functions {
		for eventType := range f.On {
			r.takers[eventType] = append(r.takers[eventType], f.Name)
		}
	}
	for _, names := range r.takers {
		slices.Sort(names)
	}
	return r
}

// Wants says whether any function takes the event type. Most notifications have
// no taker: a way in may acknowledge those without a further look.
func (r *Router) Wants(eventType string) bool { return len(r.takers[eventType]) > 0 }

// Types are the event types that have a taker, sorted.
func (r *Router) Types() []string { return slices.Sorted(maps.Keys(r.takers)) }

// Deliver hands e to all its takers, one after the other; one's answer does not
// keep the event from the next. Its own answer is for the way in:
//
//   - a retry, when at least one taker wants another try. All of them get the event
//     again, which is harmless to those already done. The wait is the longest asked
//     for, so that nobody is asked again too soon.
//   - a drop, when nobody wants another try but somebody gave up: the event is for
//     the dead letters. [Router.Dropped] has been told, function by function.
//   - nil else, also when the event has no taker.
func (r *Router) Deliver(ctx context.Context, e events.Event) error {
	var answers []error
	for _, name := range r.takers[e.Type] {
		if ctx.Err() != nil { // the rest have not seen it
			answers = append(answers, fmt.Errorf("%s: not asked: %w", name, context.Cause(ctx)))
			break
		}
		err := r.invoker.Invoke(ctx, name, e)
		if err == nil {
			continue
		}
		if outcome, _ := events.Judge(err); outcome == events.Dropped && r.Dropped != nil {
			r.Dropped(ctx, name, e, err)
		}
		answers = append(answers, fmt.Errorf("%s: %w", name, err))
	}
	return Together(answers...)
}

// Together is the one answer that stands for several answers to one event: done
// if all are, a retry with the longest wait asked for if any is to be retried,
// else a drop.
func Together(answers ...error) error {
	var retries, drops []error
	var wait time.Duration
	for _, err := range answers {
		switch outcome, after := events.Judge(err); outcome {
		case events.Dropped:
			drops = append(drops, err)
		case events.Retry:
			retries = append(retries, err)
			wait = max(wait, after)
		}
	}
	join := func(errs []error) error {
		if len(errs) == 1 {
			return errs[0]
		}
		return errors.Join(errs...) // hides the marks, so set one around it
	}
	switch {
	case len(retries) > 0 && wait > 0:
		return events.Later(wait, join(retries))
	case len(retries) > 0:
		return join(retries)
	case len(drops) > 0:
		return events.Drop(join(drops))
	}
	return nil
}
