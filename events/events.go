// Package events is the contract between the cloud and the functions: what an
// event looks like, what a handler is, and what a handler may answer.
//
// It imports nothing of ours, so every other package may import it.
package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// An Event is one thing that happened: a notification or a tick.
//
// A notification is a hint that something changed, no more: it can be lost,
// repeated, late or out of order, and its name proves nothing.
type Event struct {
	// ID is the same on every redelivery: oslo's message_id, or the tick's name.
	ID string `json:"id"`
	// Type is what routes it: "backup.create.end", "tick.dispatch".
	Type string `json:"type"`
	// At is when it happened, in UTC, by the sender's clock.
	At time.Time `json:"at"`
	// Data is the payload as the sender wrote it; empty for a tick.
	Data json.RawMessage `json:"data,omitempty"`
}

// Heard is the event as it counts for who hears of it at now. Rules take an event's
// time for the present, and anybody who may send one can write any time into it: what
// has happened has happened by now.
func (e Event) Heard(now time.Time) Event {
	if e.At.After(now) {
		e.At = now.UTC()
	}
	return e
}

// A Handler answers one event. nil means done and must not happen again;
// [Drop] means never retry; [Later] means retry no sooner than that; any other
// error means retry with backoff.
type Handler func(ctx context.Context, e Event) error

// On makes a Handler from a typed function and the decoder for its type.
// An event that cannot be decoded is dropped: it will not get better.
func On[T any](decode func(Event) (T, error), handle func(context.Context, T) error) Handler {
	return func(ctx context.Context, e Event) error {
		v, err := decode(e)
		if err != nil {
			return Drop(fmt.Errorf("decode %s %s: %w", e.Type, e.ID, err))
		}
		return handle(ctx, v)
	}
}

// A Tick is a timer event. Its At is the moment every decision is taken at.
type Tick struct {
	// Name is that of the function it sets off: "dispatch".
	Name string
	// Shard is the part of the work it is for, from 0. A function whose work is
	// not split gets shard 0 only.
	Shard int
	// At is the planned moment, a whole multiple of the timer's interval, in UTC.
	At time.Time
}

const tickPrefix = "tick."

// NewTick returns the event of a timer: ID "dispatch/07@2026-08-22T02:00:00Z",
// type "tick.dispatch".
func NewTick(name string, shard int, at time.Time) Event {
	at = at.UTC()
	return Event{
		ID:   fmt.Sprintf("%s/%02d@%s", name, shard, at.Format(time.RFC3339)),
		Type: tickPrefix + name,
		At:   at,
	}
}

// DecodeTick is the decoder for [On] of what [NewTick] made. The name comes
// from the type, the shard from the ID.
func DecodeTick(e Event) (Tick, error) {
	name, ok := strings.CutPrefix(e.Type, tickPrefix)
	if !ok || name == "" {
		return Tick{}, fmt.Errorf("not a tick: type %.80q", e.Type)
	}
	rest, ok := strings.CutPrefix(e.ID, name+"/")
	digits, _, ok2 := strings.Cut(rest, "@")
	shard, err := strconv.Atoi(digits)
	if !ok || !ok2 || err != nil || shard < 0 {
		return Tick{}, fmt.Errorf("not a tick's id: %.80q, want NAME/SHARD@TIME", e.ID)
	}
	if e.At.IsZero() {
		return Tick{}, errors.New("a tick without a time")
	}
	return Tick{Name: name, Shard: shard, At: e.At}, nil
}

// IsTick says whether the type is a timer's.
func IsTick(eventType string) bool { return strings.HasPrefix(eventType, tickPrefix) }

type dropError struct{ err error }

func (d *dropError) Error() string { return d.err.Error() }
func (d *dropError) Unwrap() error { return d.err }

// Drop marks err as final: retrying cannot help.
func Drop(err error) error { return &dropError{err} }

type laterError struct {
	err  error
	wait time.Duration
}

func (l *laterError) Error() string { return l.err.Error() }
func (l *laterError) Unwrap() error { return l.err }

// Later marks err as worth retrying, no sooner than after wait.
func Later(wait time.Duration, err error) error { return &laterError{err, wait} }

// Outcome is what the runtime does with an answer.
type Outcome int

// The three outcomes of an event.
const (
	Done    Outcome = iota // acknowledged, never again
	Retry                  // delivered again, later
	Dropped                // set aside, with its reason, for a person to look at
)

// Judge reads a handler's answer: the outcome, and for [Retry] the least time to
// wait (0 = the runtime's own backoff). Only a mark around the whole error
// counts: several errors joined, one of them marked, are an ordinary failure.
func Judge(err error) (Outcome, time.Duration) {
	if err == nil {
		return Done, 0
	}
	for ; err != nil; err = errors.Unwrap(err) { // does not enter joined errors
		switch e := err.(type) {
		case *dropError:
			return Dropped, 0
		case *laterError:
			return Retry, e.wait
		}
	}
	return Retry, 0
}
