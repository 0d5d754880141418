// Command function serves the one function that STAFFELN_FUNCTION names, for a
// container behind a FaaS gateway. It listens on STAFFELN_LISTEN, or on every
// address at $PORT where a platform sets that.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"staffeln/functions"
	"staffeln/functions/backup"
	"staffeln/runtime"
	"staffeln/runtime/cloudevents"
	"staffeln/runtime/process"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "function:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	s, err := process.Read(os.Environ())
	if err != nil {
		return fmt.Errorf("these settings are wrong, nothing was started:\n%w", err)
	}
	if port := os.Getenv("PORT"); port != "" && os.Getenv("STAFFELN_LISTEN") == "" {
		s.Listen = net.JoinHostPort("", port)
	}
	if names := functions.Names(); !slices.Contains(names, s.Function) {
		return fmt.Errorf("STAFFELN_FUNCTION=%q is no function: want one of %s", s.Function, strings.Join(names, ", "))
	}
	log := s.Logger(os.Stderr)
	process.RedisLog(log)
	p := process.New(s, log)
	defer p.Close()
	if s.Function == p.Policy.Name {
		// The policy check is ready whatever else is.
		return p.Run(ctx, func(g *process.Group) error { return p.ConnectLater(g.Context) })
	}
	if s.RedisURL == "" {
		return errors.New("STAFFELN_REDIS_URL is not set: functions in containers meet in one Redis")
	}
	p.Front.Handle(nil, true)
	return p.Run(ctx, func(g *process.Group) error { return serve(g.Context, p) })
}

// serve connects, and answers events from then on.
func serve(ctx context.Context, p *process.Process) error {
	if err := p.Connect(ctx); err != nil {
		return err
	}
	s := p.Settings
	i := slices.IndexFunc(p.Functions, func(f runtime.Function) bool { return f.Name == s.Function })
	p.Front.Handle(cloudevents.Handler(p.Functions[i], cloudevents.Options{
		Log: p.Log, Observe: p.Metrics.Observe, Shards: p.Ledger.Shards(), Timeout: 10 * time.Minute, Ahead: backup.MostAhead,
	}), true)
	p.Front.Begin(process.Check{Name: "redis", Needed: true, Err: func(ctx context.Context) error { return p.Redis.Ping(ctx).Err() }})
	p.Log.InfoContext(ctx, "serving", "function", s.Function, "listen", s.Listen)
	return nil
}
