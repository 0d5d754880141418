// Package world is a whole cloud with the service in it, in one process and on a
// clock that is driven: the real functions on the real ledger, talking over HTTP
// to the simulated OpenStack, which sends its notifications over the in-memory
// bus. Tests tell histories with it, and the demonstration shows one.
package world

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"staffeln/events"
	"staffeln/functions"
	"staffeln/functions/backup"
	"staffeln/runtime"
	"staffeln/runtime/openstack"
	"staffeln/runtime/process"
	"staffeln/testutil/bus"
	"staffeln/testutil/simcloud"
)

// Options say what the world is like.
type Options struct {
	// Start is the time it begins at.
	Start time.Time
	// Environ are settings, as "STAFFELN_NAME=value" pairs, on top of few shards and a
	// ledger in this process.
	Environ []string
	// Cloud are the simulated cloud's options; Now and Notify are the world's.
	Cloud simcloud.Options
	// Deaf leaves all notifications unheard.
	Deaf bool
	// User is the service user, of [simcloud.Cloud.Seed]: "backup-svc" if "", an
	// admin, or "backup-min" with the least rights.
	User string
	// Log is nil for none.
	Log *slog.Logger
	// Invoker, if set, makes what invokes the functions: in this process, if nil.
	Invoker func([]runtime.Function) runtime.Invoker
	// Mail, if set, is where letters end, and has report run; without, nobody is told
	// of anything, which saves every other tale the time.
	Mail *Mailbox
	// Wrap, if set, puts something between the functions and the cloud.
	Wrap func(functions.Cloud) functions.Cloud
	// Post, if set, is the way of each notification to the broker, which publish stands
	// for: it may lose it, double it or keep it for later. It is called from any
	// goroutine.
	Post func(publish func(body []byte), body []byte)
}

// A World is a cloud with the service in it. Its methods are for one goroutine.
type World struct {
	Cloud  *simcloud.Cloud
	Seeded simcloud.Seeded
	Home   *process.Process
	// Settings are what the functions go by.
	Settings functions.Settings
	// Errors are what the functions answered that was not nil, the newest last.
	Errors []error

	o        Options
	clock    *clock
	bus      *bus.Bus
	router   *runtime.Router
	settings process.Settings
	environ  []string
	mortal   mortal
	// twin is the process that takes the notifications while this one stalls; second
	// says that this is one.
	twin   *World
	second bool
}

// A clock is shared by everybody in a world.
type clock struct {
	now  atomic.Int64 // unix nanoseconds
	skew atomic.Int64 // nanoseconds
}

// New makes a world. Close it when done.
func New(ctx context.Context, o Options) (*World, error) {
	w := &World{o: o, clock: &clock{}}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	w.clock.now.Store(o.Start.UnixNano())
	sim := o.Cloud
	sim.Now = w.Now
	publish := func(body []byte) { _ = w.bus.Publish(body) } // a broker that is gone has no subscribers either
	sim.Notify = func(_, _ string, body []byte) {
		switch {
		case o.Deaf:
		case o.Post != nil:
			o.Post(publish, body)
		default:
			publish(body)
		}
	}
	w.bus = bus.New(bus.Options{Deliver: func(ctx context.Context, e events.Event) error {
		if w.twin != nil {
			return w.twin.deliver(ctx, e)
		}
		return w.deliver(ctx, e)
	}, Log: o.Log, Now: w.Now})
	cloud, err := simcloud.Start(sim)
	if err != nil {
		return nil, err
	}
	w.Cloud, w.Seeded = cloud, cloud.Seed()

	user, project := o.User, "service"
	if user == "" {
		user = "backup-svc"
	}
	environ := append([]string{
		"OS_AUTH_URL=" + cloud.AuthURL(), "OS_USERNAME=" + user, "OS_PASSWORD=devcloud", "OS_USER_DOMAIN_NAME=Default",
		"OS_PROJECT_DOMAIN_NAME=Default", "STAFFELN_SHARDS=2", "STAFFELN_API_RATE=100000", "STAFFELN_SPREAD_WINDOW=0s",
	}, o.Environ...)
	if user == "backup-svc" {
		environ = append(environ, "OS_PROJECT_NAME="+project)
	}
	w.environ = environ
	if w.settings, err = process.Read(environ); err != nil {
		w.Close()
		return nil, err
	}
	if err := w.move(ctx); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// move connects the functions as a starting process does.
func (w *World) move(ctx context.Context) error {
	h, err := process.Opened(ctx, w.settings, w.log())
	if err != nil {
		return err
	}
	w.Home, w.Settings = h, w.settings.Functions()
	if w.o.Mail != nil {
		h.Mail = carrier{&w.mortal, w.o.Mail, w.Now}
	}
	h.Redis.AddHook(&w.mortal)
	return w.Reconnect(ctx)
}

// Reconnect connects to OpenStack anew: what is remembered there for minutes, which
// are real ones, is asked for again.
func (w *World) Reconnect(ctx context.Context) error {
	o := w.settings.CloudOptions(w.log())
	o.Witness, o.Now = w.Home.Ledger, w.Now
	o.Transport = transport{&w.mortal, w.Cloud.Transport()}
	cloud, err := openstack.Connect(ctx, o)
	if err != nil {
		return err
	}
	w.Home.Use(cloud)
	w.wire()
	return nil
}

// wire makes the functions, and what delivers to them.
func (w *World) wire() {
	h := w.Home
	if w.o.Wrap != nil {
		h.Build(w.o.Wrap(h.Cloud))
	} else {
		h.Build(h.Cloud)
	}
	var invoker runtime.Invoker = runtime.NewInProcess(w.log(), h.Functions)
	if w.o.Invoker != nil {
		invoker = w.o.Invoker(h.Functions)
	}
	w.router = runtime.NewRouter(h.Functions, invoker)
}

func (w *World) log() *slog.Logger {
	if w.o.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return w.o.Log
}

// Close ends the world.
func (w *World) Close() {
	if w.Home != nil {
		w.Home.Close()
	}
	if w.Cloud != nil && !w.second {
		w.Cloud.Close()
	}
}

// Now is the world's time.
func (w *World) Now() time.Time { return time.Unix(0, w.clock.now.Load()).UTC() }

// Policies are the classes in force.
func (w *World) Policies() backup.Classes { return w.Settings.Classes }

func (w *World) deliver(ctx context.Context, e events.Event) error {
	err := w.router.Deliver(ctx, e)
	if err != nil {
		w.Errors = append(w.Errors, fmt.Errorf("%s %s: %w", e.Type, e.ID, err))
	}
	return err
}

// Deliver hands one event to the functions.
func (w *World) Deliver(ctx context.Context, e events.Event) error { return w.deliver(ctx, e) }

// Publish puts a message on the bus, as anybody can who reaches the broker.
func (w *World) Publish(body []byte) { _ = w.bus.Publish(body) } // only a drained bus refuses

// Hear delivers the notifications that have come.
func (w *World) Hear(ctx context.Context) error {
	w.Cloud.Advance()
	_, err := w.bus.Flush(ctx)
	return err
}

// Tick delivers every function's tick for now.
func (w *World) Tick(ctx context.Context) error {
	if err := w.Hear(ctx); err != nil {
		return err
	}
	for _, e := range w.Ticks() {
		_ = w.deliver(ctx, e) // kept in Errors
	}
	return errors.Join(ctx.Err(), w.Hear(ctx))
}

// Ticks are every function's ticks for now, by the service's clock.
func (w *World) Ticks() (all []events.Event) {
	for _, t := range functions.Ticks(functions.Intervals{Dispatch: time.Second, Track: time.Second,
		Retention: time.Second, Report: time.Second, Reconcile: time.Second}) {
		if t.Function == "report" && w.o.Mail == nil {
			continue
		}
		shards := 1
		if t.Sharded {
			shards = w.Home.Ledger.Shards()
		}
		for shard := range shards {
			all = append(all, events.NewTick(t.Function, shard, w.Now().Add(time.Duration(w.clock.skew.Load()))))
		}
	}
	return all
}

// Step lets time pass, and then delivers what it brings.
func (w *World) Step(ctx context.Context, d time.Duration) error {
	w.clock.now.Add(int64(d))
	return w.Tick(ctx)
}

// Pass lets time pass in steps.
func (w *World) Pass(ctx context.Context, d, step time.Duration) error {
	for end := w.Now().Add(d); w.Now().Before(end); {
		if err := w.Step(ctx, min(step, end.Sub(w.Now()))); err != nil {
			return err
		}
	}
	return nil
}

// Skew sets how far the service's clock is ahead of the cloud's; below zero it is
// behind. Ticks come by it, and what has passed since is measured without it, as a
// monotonic clock does.
func (w *World) Skew(by time.Duration) { w.clock.skew.Store(int64(by)) }

// Jump sets the clock, and delivers nothing.
func (w *World) Jump(to time.Time) { w.clock.now.Store(to.UnixNano()) }

// Reconfigure adds settings, as a restart with another environment does. Redis and
// what connects to OpenStack stay as they are.
func (w *World) Reconfigure(environ ...string) error {
	settings, err := process.Read(append(slices.Clone(w.environ), environ...))
	if err != nil {
		return err
	}
	w.environ = append(w.environ, environ...)
	w.settings, w.Settings, w.Home.Settings = settings, settings.Functions(), settings
	w.wire()
	return nil
}

// Empty empties the world's database in Redis.
func (w *World) Empty(ctx context.Context) error { return w.Home.Redis.FlushDB(ctx).Err() }
