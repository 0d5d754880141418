// Command function serves the one function that STAFFELN_FUNCTION names, for a
// container behind a FaaS gateway. It listens on STAFFELN_LISTEN, or on every
// address at $PORT where a platform sets that.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"staffeln/functions/backup"
	"staffeln/home"
	"staffeln/runtime"
	"staffeln/runtime/cloudevents"
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
	s, err := home.Read(os.Environ())
	if err != nil {
		return fmt.Errorf("these settings are wrong, nothing was started:\n%w", err)
	}
	if port := os.Getenv("PORT"); port != "" && os.Getenv("STAFFELN_LISTEN") == "" {
		s.Listen = net.JoinHostPort("", port)
	}
	log := s.Logger(os.Stderr)
	home.RedisLog(log)
	if s.Function == "policy" {
		return check(ctx, home.New(s, log), log)
	}
	if s.RedisURL == "" {
		return errors.New("STAFFELN_REDIS_URL is not set: functions in containers meet in one Redis")
	}
	h, err := home.Open(ctx, s, log)
	if err != nil {
		return err
	}
	defer h.Close()
	i := slices.IndexFunc(h.Functions, func(f runtime.Function) bool { return f.Name == s.Function })
	if i < 0 {
		names := []string{"policy"}
		for _, f := range h.Functions {
			names = append(names, f.Name)
		}
		return fmt.Errorf("STAFFELN_FUNCTION=%q is no function: want one of %s", s.Function, strings.Join(names, ", "))
	}
	handler := cloudevents.Handler(h.Functions[i], cloudevents.Options{
		Log: log, Observe: h.Metrics.Observe, Shards: h.Ledger.Shards(), Timeout: 10 * time.Minute,
		Ready: func(ctx context.Context) error { return h.Redis.Ping(ctx).Err() },
		Grace: s.Grace(), Ahead: backup.MostAhead,
	})
	secure, err := s.ServeTLS(log)
	if err != nil {
		return err
	}
	go metrics(ctx, h, log)
	log.Info("serving", "function", s.Function, "listen", s.Listen)
	return home.Serving{
		Address: s.Listen, Handler: handler, Slow: true, Drain: s.DrainTimeout, Log: log,
		Leave: func(ctx context.Context) { _ = handler.Drain(ctx) }, // what is still under way then is repeated by whoever sent it
	}.Run(ctx, secure)
}

// check serves the policy check, which is ready whatever else is: it looks for Redis
// and OpenStack while it serves, and goes on without.
func check(ctx context.Context, h *home.Home, log *slog.Logger) error {
	defer h.Close()
	if err := h.Reach(ctx); err != nil {
		return err
	}
	go metrics(ctx, h, log)
	log.Info("serving", "function", "policy", "listen", h.Settings.Listen)
	return h.Serve(ctx)
}

// metrics serves metrics. That they cannot be, as where two containers share an
// address, keeps no function from its work.
func metrics(ctx context.Context, h *home.Home, log *slog.Logger) {
	if err := h.ServeMetrics(ctx); err != nil {
		log.ErrorContext(ctx, "metrics are not served", "err", err)
	}
}
