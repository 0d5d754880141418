// Command function serves the one function that STAFFELN_FUNCTION names, for a
// container behind a FaaS gateway. It listens on STAFFELN_LISTEN, or on every
// address at $PORT where a platform sets that.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

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
	if s.RedisURL == "" {
		return errors.New("STAFFELN_REDIS_URL is not set: functions in containers meet in one Redis")
	}
	log := s.Logger(os.Stderr)
	h, err := home.Open(ctx, s, log)
	if err != nil {
		return err
	}
	defer h.Close()
	i := slices.IndexFunc(h.Functions, func(f runtime.Function) bool { return f.Name == s.Function })
	if i < 0 {
		var names []string
		for _, f := range h.Functions {
			names = append(names, f.Name)
		}
		return fmt.Errorf("STAFFELN_FUNCTION=%q is no function: want one of %s", s.Function, strings.Join(names, ", "))
	}
	handler := cloudevents.Handler(h.Functions[i], cloudevents.Options{
		Log: log, Observe: h.Metrics.Observe, Shards: h.Ledger.Shards(), Timeout: 10 * time.Minute,
		Ready: func(ctx context.Context) error { return h.Redis.Ping(ctx).Err() },
		Grace: min(2*time.Second, s.DrainTimeout/4),
	})
	srv := &http.Server{Addr: s.Listen, Handler: handler, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10}
	drained := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(drained)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.DrainTimeout)
		defer cancel()
		_ = handler.Drain(last) // what is still under way then is repeated by whoever sent it
		_ = srv.Shutdown(last)
	})
	log.Info("serving", "function", s.Function, "listen", s.Listen)
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-drained
	return nil
}
