package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"staffeln/events"
	"staffeln/functions"
	"staffeln/functions/backup"
	"staffeln/runtime"
	"staffeln/runtime/amqp"
	"staffeln/runtime/cloudevents"
	"staffeln/runtime/process"
	"staffeln/runtime/timer"
)

type runCommand struct {
	// These are for tests, which have no time to wait. Zero is what is in force otherwise.
	EveryDispatch  time.Duration `hidden:""`
	EveryTrack     time.Duration `hidden:""`
	EveryRetention time.Duration `hidden:""`
	EveryReport    time.Duration `hidden:""`
	MailTimeout    time.Duration `hidden:""`
	Patience       time.Duration `hidden:""`
}

// invocationTimeout bounds one invocation: far above what any takes, so that a
// stuck one is noticed.
const invocationTimeout = 10 * time.Minute

// look is how often each function looks whether anything is due. Such a look costs a few
// reads of Redis; a server that opts in is to have its backup requested within ten seconds.
// A digest is not urgent.
const (
	look       = 5 * time.Second
	lookReport = 30 * time.Second
)

// every returns the intervals of the ticks.
func (c runCommand) every() functions.Intervals {
	return functions.Intervals{Dispatch: cmp.Or(c.EveryDispatch, look), Track: cmp.Or(c.EveryTrack, look),
		Retention: cmp.Or(c.EveryRetention, look), Report: cmp.Or(c.EveryReport, lookReport), Reconcile: look}
}

// Run runs until ctx ends, then drains.
func (c runCommand) Run(ctx context.Context) error {
	s, err := settings(os.Environ())
	if err != nil {
		return err
	}
	log := s.Logger(os.Stderr)
	process.RedisLog(log)
	p := process.New(s, log)
	defer p.Close()
	p.MailTimeout, p.Patience = c.MailTimeout, c.Patience
	return p.Run(ctx, func(g *process.Group) error { return work(g, p, c.every(), log) })
}

// settings reads and checks the environment. It connects to nothing.
func settings(environ []string) (process.Settings, error) {
	s, err := process.Read(environ)
	if err == nil {
		_, err = newConsumer(s, nil, nil, nil, amqp.Hooks{})
	}
	if err != nil {
		return s, fmt.Errorf("these settings are wrong:\n%w", err)
	}
	return s, nil
}

// work connects to what the functions need, and starts what sets them off.
func work(g *process.Group, p *process.Process, every functions.Intervals, log *slog.Logger) error {
	s := p.Settings
	connector := s.FunctionURL != ""
	connect := p.Connect
	if connector {
		connect = p.ConnectRedis // the functions run elsewhere, and connect to OpenStack there
	}
	if err := connect(g.Context); err != nil {
		return err
	}
	if !connector {
		g.Go("makers", func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, s.APITimeout)
			defer cancel()
			warnOfMakers(ctx, p.Cloud, log)
			return nil
		})
	}
	if s.RedisURL == "" || len(s.AMQPURLs) == 0 {
		log.InfoContext(g.Context, "running with less", "why", lacks(s))
	}
	return deliver(g, p, connector, every, log)
}

// lacks says in one line what more settings would add.
func lacks(s process.Settings) string {
	why := ""
	if s.RedisURL == "" {
		why = "STAFFELN_REDIS_URL is not set: one process only, whose ledger a restart empties and one reconcile rebuilds"
	}
	if len(s.AMQPURLs) == 0 {
		if why != "" {
			why += "; "
		}
		why += fmt.Sprintf("STAFFELN_AMQP_URLS is not set: without notifications, "+
			"changes are seen after up to %s instead of seconds", s.ReconcilePeriod)
	}
	return why
}

// deliver starts to deliver ticks and notifications to the functions.
func deliver(g *process.Group, p *process.Process, connector bool, every functions.Intervals, log *slog.Logger) error {
	ctx, s := g.Context, p.Settings
	wired := p.Functions
	var invoker runtime.Invoker = runtime.NewInProcess(log, wired)
	if connector {
		// Routes are the catalogue's; what they lead to is the containers' business.
		wired = functions.All(functions.Needs{Settings: s.Functions(), Log: log, Count: p.Metrics.Count})
		secure, err := s.FunctionTLS.Config()
		if err != nil {
			return err
		}
		invoker = &cloudevents.Client{Base: s.FunctionURL.Reveal(), HTTP: cloudevents.HTTP(secure)}
	}
	invoker = runtime.Wrap(invoker, runtime.Observed(runtime.Logged(log), p.Metrics.Observe),
		runtime.Timeout(invocationTimeout))
	router := runtime.NewRouter(wired, invoker)

	// A ledger that is out of reach for a while does not make the process unready:
	// that would take the policy check away, too, which goes on.
	checks := []process.Check{{Name: "redis", Err: func(ctx context.Context) error { return p.Redis.Ping(ctx).Err() }}}
	consumer, err := newConsumer(s, router.Deliver, router.Wants, log, hooks(ctx, p))
	if err != nil {
		return err
	}
	if consumer != nil {
		checks = append(checks, process.Check{Name: "amqp", Err: func(context.Context) error { return brokersUp(consumer) }})
		g.Go("notifications", consumer.Run)
	}
	runner := &timer.Runner{
		Claims: p.Ledger, Deliver: router.Deliver, Log: log, Drain: s.DrainTimeout,
		Skipped: p.Metrics.Skipped,
	}
	for _, t := range functions.Ticks(every) {
		shards := 1
		if t.Sharded {
			shards = p.Ledger.Shards()
		}
		runner.Timers = append(runner.Timers, timer.Timer{
			Name: t.Function, Every: t.Every, Shards: shards, AtStart: t.Function == "reconcile",
		})
	}
	g.Go("timers", runner.Run)
	g.Go("gauges", func(ctx context.Context) error { return watch(ctx, p, consumer) })
	p.Front.Begin(checks...)
	log.InfoContext(ctx, "running", "version", version(), "functions", names(wired), "listen", s.Listen)
	return nil
}

// newConsumer returns the consumer of notifications, which connects to nothing yet; nil
// without brokers.
func newConsumer(s process.Settings, deliver events.Handler, wanted func(string) bool, log *slog.Logger,
	hooks amqp.Hooks) (*amqp.Consumer, error) {
	if len(s.AMQPURLs) == 0 {
		return nil, nil
	}
	secure, err := s.AMQPTLS.Config()
	if err != nil {
		return nil, err
	}
	var urls []string
	for _, u := range s.AMQPURLs {
		urls = append(urls, u.Reveal())
	}
	c, err := amqp.New(amqp.Config{
		URLs: urls, TLS: secure, Exchanges: s.AMQPExchanges, Topics: s.AMQPTopics, Queue: s.AMQPQueue,
		MaxLength: s.AMQPMaxLength, Drain: s.DrainTimeout,
	}, deliver, wanted, log, hooks)
	if err != nil {
		return nil, fmt.Errorf("STAFFELN_AMQP_*: %w", err)
	}
	return c, nil
}

// hooks count what the consumer does, and ask for a reconcile when notifications
// may have been missed.
func hooks(ctx context.Context, p *process.Process) amqp.Hooks {
	count := func(outcome string) { p.Metrics.Count("amqp_messages_total", 1, outcome) }
	return amqp.Hooks{
		Connected: func() {
			if err := p.Ledger.AskReconcile(ctx); err != nil {
				p.Log.WarnContext(ctx, "reconcile not asked for", "err", err)
			}
		},
		Ignored:     func() { count("ignored") },
		Handled:     func(_ string, o events.Outcome, _ time.Duration) { count(runtime.OutcomeName(o)) },
		Undecodable: func() { count("undecodable") },
	}
}

func brokersUp(c *amqp.Consumer) error {
	for _, b := range c.Healthy() {
		if !b.Connected {
			return errors.New(b.Broker + " is down")
		}
	}
	return nil
}

// watch keeps the gauges at what the ledger says, the same in every process, and
// at what this process's own connections are. consumer may be nil.
func watch(ctx context.Context, p *process.Process, consumer *amqp.Consumer) error {
	for {
		if consumer != nil {
			for _, b := range consumer.Healthy() {
				up := 0.0
				if b.Connected {
					up = 1
				}
				p.Metrics.Gauge("amqp_connected", up, b.Broker)
			}
		}
		if err := gauges(ctx, p, time.Now()); err != nil && ctx.Err() == nil {
			p.Log.WarnContext(ctx, "gauges not read", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(15 * time.Second):
		}
	}
}

func gauges(ctx context.Context, p *process.Process, now time.Time) error {
	open, due := 0, 0
	for shard := range p.Ledger.Shards() {
		c, err := p.Ledger.Count(ctx, shard, now)
		if err != nil {
			return err
		}
		open, due = open+c.Open, due+c.Due
	}
	totals, err := p.Ledger.Totals(ctx)
	if err != nil {
		return err
	}
	flight, err := p.Ledger.InFlight(ctx, now)
	if err != nil {
		return err
	}
	last, _, err := p.Ledger.LastReconciled(ctx)
	if err != nil {
		return err
	}
	paused := 0.0
	if now.Before(flight.Paused) {
		paused = 1
	}
	p.Metrics.Gauge("runs_open", float64(open))
	p.Metrics.Gauge("runs_waiting", float64(due))
	p.Metrics.Gauge("volumes_protected", float64(totals["protected"]))
	p.Metrics.Gauge("volumes_overdue", float64(totals["overdue"]))
	p.Metrics.Gauge("backups_forged", float64(totals[string(backup.OriginForged)]))
	p.Metrics.Gauge("backups_unverified", float64(totals[string(backup.OriginUnverified)]))
	p.Metrics.Gauge("admission_paused", paused)
	if !last.IsZero() {
		p.Metrics.Gauge("reconcile_last_timestamp", float64(last.Unix()))
	}
	return nil
}

func names(all []runtime.Function) []string {
	var out []string
	for _, f := range all {
		out = append(out, f.Name)
	}
	return out
}

type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run() error {
	fmt.Println(version())
	return nil
}

// version is the module's, or the commit's where it was built from a checkout.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return s.Value[:12]
		}
	}
	return info.Main.Version
}

type checkCommand struct{}

// Run checks the settings and the connections.
func (c checkCommand) Run(ctx context.Context) error {
	return c.print(ctx, os.Environ(), os.Stdout)
}

func (checkCommand) print(ctx context.Context, environ []string, out io.Writer) error {
	s, err := settings(environ)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.APITimeout)
	defer cancel()
	p := process.New(s, s.Logger(os.Stderr))
	defer p.Close()
	if err := p.Connect(ctx); err != nil {
		return err
	}
	for name, p := range s.Policies() {
		fmt.Fprintf(out, "class %s: %s in %s, next slot %s, kept %s\n", name, p.Schedule, p.Schedule.Zone(),
			p.Schedule.Next(time.Now()).Format(time.RFC3339), p.Retention)
	}
	if err := printMakers(ctx, p.Cloud, out); err != nil {
		return err
	}
	fmt.Fprintln(out, "settings and connections are well")
	return nil
}
