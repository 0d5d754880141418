package world

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"staffeln/events"
)

// errKilled is what a dead process's calls would have come to.
var errKilled = errors.New("the process was killed")

// mortal lets a process die between any two effects on the outside: after so many
// calls to Redis and OpenStack none is carried out any more. A call that was
// carried out last may lose its answer.
type mortal struct {
	on    atomic.Bool
	left  atomic.Int64
	dumb  atomic.Bool // the last call's answer is lost
	calls atomic.Int64
	// stall is where the next call waits that finds that it is to.
	stall atomic.Pointer[stall]
}

// A stall is a process that stops after some more calls, and goes on when it is let.
type stall struct {
	left    atomic.Int64
	stopped chan struct{} // closed when it has
	goOn    chan struct{}
}

// may says whether one more call is carried out, and whether its answer arrives.
func (m *mortal) may() (carriedOut, answered bool) {
	m.calls.Add(1)
	if s := m.stall.Load(); s != nil && s.left.Add(-1) == -1 {
		close(s.stopped)
		<-s.goOn
	}
	if !m.on.Load() {
		return true, true
	}
	left := m.left.Add(-1)
	return left >= 0, left > 0 || left == 0 && !m.dumb.Load()
}

// DialHook implements [redis.Hook].
func (m *mortal) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook implements [redis.Hook].
func (m *mortal) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		do, answer := m.may()
		if !do {
			cmd.SetErr(errKilled)
			return errKilled
		}
		err := next(ctx, cmd)
		if !answer {
			cmd.SetErr(errKilled)
			return errKilled
		}
		return err
	}
}

// ProcessPipelineHook implements [redis.Hook].
func (m *mortal) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		do, answer := m.may()
		if !do {
			for _, c := range cmds {
				c.SetErr(errKilled)
			}
			return errKilled
		}
		err := next(ctx, cmds)
		if !answer {
			for _, c := range cmds {
				c.SetErr(errKilled)
			}
			return errKilled
		}
		return err
	}
}

// transport is the way to OpenStack of a process that may die.
type transport struct {
	m    *mortal
	next http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	do, answer := t.m.may()
	if !do {
		return nil, errKilled
	}
	res, err := t.next.RoundTrip(r)
	if !answer && err == nil {
		res.Body.Close()
		return nil, errKilled
	}
	return res, err
}

// Kill lets the process live for n more calls to Redis and OpenStack; deaf says
// that the answer to the last one is lost. What it does after that has no effect,
// until [World.Restart].
func (w *World) Kill(n int, deaf bool) {
	w.mortal.dumb.Store(deaf)
	w.mortal.left.Store(int64(n))
	w.mortal.on.Store(true)
}

// Restart lets the process live again. With an embedded ledger its data stay, as
// those of a Redis of its own would.
func (w *World) Restart() { w.mortal.on.Store(false) }

// Effects is how many calls to Redis and OpenStack there have been.
func (w *World) Effects() int { return int(w.mortal.calls.Load()) }

// Twin is a second process with the same settings, the same cloud and the same
// clock, which needs a Redis that both can reach. Close it before the world.
func (w *World) Twin(ctx context.Context) (*World, error) {
	t := &World{Cloud: w.Cloud, Seeded: w.Seeded, o: w.o, clock: w.clock, bus: w.bus, settings: w.settings,
		environ: w.environ, second: true}
	return t, t.move(ctx)
}

// Stall delivers one event and stops the process when that has made n more calls to
// Redis and OpenStack, as a long garbage collection or a frozen machine does.
// Meanwhile is called then, and has to do with the twin alone, which gets the
// notifications, too. The stalled process goes on afterwards, and what it has in
// hand is brought to its end. Stopped says whether it came to that; an event that
// needs no more than n calls is just delivered.
func (w *World) Stall(ctx context.Context, e events.Event, n int, twin *World, meanwhile func()) (stopped bool) {
	s := &stall{stopped: make(chan struct{}), goOn: make(chan struct{})}
	s.left.Store(int64(n))
	w.mortal.stall.Store(s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.deliver(ctx, e) // kept in Errors
	}()
	select {
	case <-done:
		w.mortal.stall.Store(nil)
		return false
	case <-s.stopped:
	}
	w.mortal.stall.Store(nil)
	w.twin = twin
	meanwhile()
	w.twin = nil
	close(s.goOn)
	<-done
	return true
}
