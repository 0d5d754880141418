// Package runtime delivers events to functions, here or far away. It carries
// events and has never heard of backups.
package runtime

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	goruntime "runtime"
	"runtime/debug"

	"staffeln/events"
)

// A Function is one deployable unit: a name, and what it answers to.
type Function struct {
	// Name is a short word of lower-case letters: "dispatch". It is part of URLs,
	// metric labels and log lines.
	Name string
	// On holds a handler for every event type the function takes.
	On map[string]events.Handler
	// HTTP is set for a plain HTTP function; such a one need not take events.
	HTTP http.Handler
}

// Takes says whether the function has a handler for the event type.
func (f Function) Takes(eventType string) bool {
	_, ok := f.On[eventType]
	return ok
}

// Invoke runs the handler for e's type. An event that the function does not take
// is done with: a source may send everything it has. A panic is the caller's to
// catch, as [InProcess] does.
func (f Function) Invoke(ctx context.Context, e events.Event) error {
	h, ok := f.On[e.Type]
	if !ok {
		return nil
	}
	return h(ctx, e)
}

// An Invoker runs a named function with an event, here or far away. What it
// returns is the function's answer, to be read with [events.Judge].
type Invoker interface {
	Invoke(ctx context.Context, function string, e events.Event) error
}

// An InvokerFunc is a func that is an [Invoker].
type InvokerFunc func(ctx context.Context, function string, e events.Event) error

// Invoke implements [Invoker].
func (f InvokerFunc) Invoke(ctx context.Context, function string, e events.Event) error {
	return f(ctx, function, e)
}

// InProcess invokes functions in this process. Make one with [NewInProcess].
type InProcess struct {
	byName map[string]Function
	log    *slog.Logger
}

var _ Invoker = (*InProcess)(nil)

// NewInProcess returns an [Invoker] for the given functions, whose names must
// differ: two of the same name are a mistake in the program and panic.
func NewInProcess(log *slog.Logger, functions []Function) *InProcess {
	p := &InProcess{byName: map[string]Function{}, log: log}
	for _, f := range functions {
		if _, ok := p.byName[f.Name]; ok {
			panic(fmt.Sprintf("two functions named %q", f.Name))
		}
		p.byName[f.Name] = f
	}
	return p
}

// Invoke implements [Invoker]. A panic of the function's becomes a [events.Drop]:
// the same event would only bring it about again. The stack goes to the log; what
// was panicked with does not unless Go itself made it, since it may hold payload.
func (p *InProcess) Invoke(ctx context.Context, function string, e events.Event) (err error) {
	f, ok := p.byName[function]
	if !ok {
		return events.Drop(fmt.Errorf("no function %q", function))
	}
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		why := fmt.Sprintf("a value of type %T", v)
		if re, ok := v.(goruntime.Error); ok {
			why = re.Error()
		}
		err = events.Drop(fmt.Errorf("%s panicked on %s %s: %s", function, e.Type, e.ID, why))
		p.log.ErrorContext(ctx, "function panicked", "function", function, "type", e.Type, "event", e.ID,
			"why", why, "stack", string(debug.Stack()))
	}()
	return f.Invoke(ctx, e)
}
