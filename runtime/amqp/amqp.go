// Package amqp takes OpenStack's notifications off RabbitMQ.
//
// The queue is our own, a durable and bounded one that is bound to the exchanges
// of the services, so that other consumers (ceilometer) go on getting
// everything. The exchanges are never declared, only looked for: they are
// OpenStack's, one declared with another durability breaks its RPC, and by
// default they vanish when the broker restarts, together with the bindings of
// even a durable queue. Therefore bindings are made on every connect and again
// every few minutes, an exchange that is not there is awaited, and the owner is
// told whenever something may have been missed ([Hooks]).
//
// What a handler answers is settled so that nothing is lost: a message is
// acknowledged after it was handled, or after the broker has confirmed that a
// copy of it lies in a retry or the dead-letter queue. A message can be handled
// twice. The queues, all quorum queues (RabbitMQ 3.10 or later):
//
//	QUEUE            bounded by length (drop-head) and age
//	QUEUE.retry.30s  one for each delay; what expires goes back to QUEUE
//	QUEUE.dead       what no retry can help, with the reason in its headers
//
// There is one retry queue for each delay because a queue expires messages only
// at its head: behind one that waits ten minutes, one that waits five seconds
// would wait as long.
//
// amqp091-go's own recovery is not used: it continues on the old channel value,
// where delivery tags start over, so that the late acknowledgement of a message
// from before acknowledges another one that nobody has handled. Here a
// connection that breaks is given up with its channel, its tags and whatever was
// not acknowledged, which the broker delivers again.
package amqp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"staffeln/events"
)

// Config is where the notifications come from. The zero value of everything but
// URLs has a good meaning, which is the one given here.
type Config struct {
	// URLs are the brokers, "amqp://user:password@host:5672/vhost" or amqps. Each
	// has a connection that lives and dies alone: one broker per service or per
	// Nova cell is common. Nodes of one cluster may all be named: they then share
	// the queue.
	URLs []string
	// TLS is for amqps URLs; nil for the system's authorities.
	TLS *tls.Config

	// Exchanges are the services' control_exchange. Default: nova, cinder, openstack
	// (which is Cinder's by default).
	Exchanges []string
	// Topics are oslo's notification topics. Default: notifications,
	// versioned_notifications. Bound as "TOPIC.*", for every priority.
	Topics []string

	// Queue is the name of our queue and the beginning of the others' names.
	// Processes with the same name share the work. Default: staffeln.
	Queue string
	// MaxLength bounds the queue, in messages; the oldest make room. Default: 100,000.
	MaxLength int
	// TTL is how old a message in the queue may become. Default: 24 h. By then reconcile has
	// found what it tells of many times over.
	TTL time.Duration

	// Prefetch is how many unacknowledged messages a connection holds. Default: 300.
	Prefetch int
	// Workers is how many events a connection handles at a time. Most of them do
	// nothing but ask the ledger one question, and those that are asked together cost
	// little more than one. Default: 64.
	Workers int
	// Timeout is how long one event may take; then its context ends. Default: 5 min.
	Timeout time.Duration

	// RetryDelays are the waits after the first, second... failure; the last one
	// repeats. Each has a queue. Default: 5 s, 30 s, 2 min, 10 min.
	RetryDelays []time.Duration
	// Attempts is how often an event is tried before it is set aside. Default: 8.
	Attempts int
	// DeliveryLimit is how often a message may come back without an answer, because
	// the process died or lost the broker, before it is set aside. Default: 20.
	DeliveryLimit int
	// DeadLength and DeadTTL bound the dead-letter queue, in messages and age.
	// Default: 10,000 and 14 days.
	DeadLength int
	DeadTTL    time.Duration

	// Await is how often a missing exchange is looked for. Default: 10 s.
	Await time.Duration
	// Rebind is how often all bindings are made anew. Default: 3 min.
	Rebind time.Duration
	// Reconnect is the first wait after a connection was lost; it doubles up to 30 s.
	// Default: 0.5 s.
	Reconnect time.Duration
	// Drain bounds how long events under way are waited for at the end. Default: 20 s.
	Drain time.Duration
}

func (c Config) withDefaults() Config {
	or := func(p *int, d int) {
		if *p == 0 {
			*p = d
		}
	}
	orTime := func(p *time.Duration, d time.Duration) {
		if *p == 0 {
			*p = d
		}
	}
	if len(c.Exchanges) == 0 {
		c.Exchanges = []string{"nova", "cinder", "openstack"}
	}
	if len(c.Topics) == 0 {
		c.Topics = []string{"notifications", "versioned_notifications"}
	}
	if c.Queue == "" {
		c.Queue = "staffeln"
	}
	if len(c.RetryDelays) == 0 {
		c.RetryDelays = []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute}
	}
	c.RetryDelays = slices.Clone(c.RetryDelays)
	or(&c.MaxLength, 100_000)
	orTime(&c.TTL, 24*time.Hour)
	or(&c.Prefetch, 300)
	or(&c.Workers, 64)
	orTime(&c.Timeout, 5*time.Minute)
	or(&c.Attempts, 8)
	or(&c.DeliveryLimit, 20)
	or(&c.DeadLength, 10_000)
	orTime(&c.DeadTTL, 14*24*time.Hour)
	orTime(&c.Await, 10*time.Second)
	orTime(&c.Rebind, 3*time.Minute)
	orTime(&c.Reconnect, 500*time.Millisecond)
	orTime(&c.Drain, 20*time.Second)
	return c
}

// check finds everything that is wrong.
func (c Config) check() error {
	var errs []error
	complain := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.URLs) == 0 {
		complain("no broker's URL")
	}
	for i, u := range c.URLs {
		if err := checkURL(u, c.TLS); err != nil {
			complain("broker URL %d: %w", i+1, err)
		}
	}
	for _, e := range c.Exchanges {
		if e == "" || len(e) > 127 {
			complain("an exchange named %.20q", e)
		}
	}
	for _, t := range c.Topics {
		// "#" would bring all RPC of the cloud; a priority is ours to add.
		if t == "" || len(t) > 127 || strings.ContainsAny(t, "#*. \t\r\n") {
			complain("topic %.20q: want a word such as notifications", t)
		}
	}
	if len(c.Queue) > 100 || strings.HasPrefix(c.Queue, "amq.") || strings.HasSuffix(c.Queue, ".info") {
		complain("queue %.20q: want a short name that is nobody else's, not amq.* or *.info", c.Queue)
	}
	for name, n := range map[string]int{
		"max length": c.MaxLength, "prefetch": c.Prefetch, "workers": c.Workers, "attempts": c.Attempts,
		"delivery limit": c.DeliveryLimit, "dead-letter length": c.DeadLength,
	} {
		if n < 0 {
			complain("%s %d: want more than 0", name, n)
		}
	}
	if c.Prefetch > 65535 {
		complain("prefetch %d: AMQP knows no more than 65535", c.Prefetch)
	}
	for name, d := range map[string]time.Duration{
		"TTL": c.TTL, "timeout": c.Timeout, "dead-letter TTL": c.DeadTTL, "await": c.Await,
		"rebind": c.Rebind, "reconnect": c.Reconnect, "drain": c.Drain,
	} {
		if d < time.Millisecond {
			complain("%s %s: want more than 0", name, d)
		}
	}
	for i, d := range c.RetryDelays {
		if d < time.Millisecond || d > 24*time.Hour || (i > 0 && d <= c.RetryDelays[i-1]) {
			complain("retry delay %s: want delays between 1 ms and 24 h, each longer than the one before", d)
		}
	}
	return errors.Join(errs...)
}

// Hooks are told what happens; each may be nil. They are called in the path of
// the messages and must return at once.
type Hooks struct {
	// Connected is called when notifications may have been missed and come again
	// from now on: after a connection was made with at least one binding, and when
	// an exchange that was awaited has been found. Time for a reconcile.
	Connected func()
	// Ignored is called for each message whose event nobody wants.
	Ignored func()
	// Handled is called for each event that was handled, with what became of it:
	// [events.Dropped] also where the attempts were used up.
	Handled func(eventType string, outcome events.Outcome, took time.Duration)
	// Undecodable is called for each message that is no notification.
	Undecodable func()
}

// A Consumer takes notifications from brokers and hands them out.
type Consumer struct {
	cfg     Config
	deliver events.Handler
	wanted  func(eventType string) bool
	log     *slog.Logger
	hooks   Hooks
	brokers []*broker
}

// New makes a consumer. deliver gets every event whose type is wanted, several at
// a time. It does not connect; the only error is a bad configuration, with all
// complaints at once and no URL in it.
func New(cfg Config, deliver events.Handler, wanted func(eventType string) bool, log *slog.Logger, hooks Hooks) (*Consumer, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("amqp: %w", err)
	}
	if hooks.Connected == nil {
		hooks.Connected = func() {}
	}
	if hooks.Ignored == nil {
		hooks.Ignored = func() {}
	}
	if hooks.Handled == nil {
		hooks.Handled = func(string, events.Outcome, time.Duration) {}
	}
	if hooks.Undecodable == nil {
		hooks.Undecodable = func() {}
	}
	c := &Consumer{cfg: cfg, deliver: deliver, wanted: wanted, log: log, hooks: hooks}
	for _, u := range cfg.URLs {
		b := &broker{url: u, name: Redact(u)}
		b.state.Broker = b.name
		b.state.Awaited = slices.Clone(cfg.Exchanges)
		c.brokers = append(c.brokers, b)
	}
	return c, nil
}

// Run consumes until ctx ends, then lets the events under way finish, for
// Config.Drain at most, and returns nil. A broker that is not there is tried
// again for ever.
func (c *Consumer) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	for _, b := range c.brokers {
		loops.Go(func() { c.loop(ctx, b) })
	}
	loops.Wait()
	return nil
}

// loop keeps one broker's connection.
func (c *Consumer) loop(ctx context.Context, b *broker) {
	b.under, b.endEvents = context.WithCancel(context.WithoutCancel(ctx))
	defer b.endEvents()
	wait, said := c.cfg.Reconnect, ""
	for {
		connected, err := c.session(ctx, b)
		if ctx.Err() != nil {
			if !connected {
				c.drain(b) // events of an earlier connection
			}
			b.lost("stopped")
			return
		}
		b.lost(err.Error())
		// The same trouble is told once, not with every attempt.
		if connected || err.Error() != said {
			c.log.Warn("broker lost, trying again", "broker", b.name, "err", err)
			said = err.Error()
		}
		if connected {
			wait = c.cfg.Reconnect
		}
		// A random part, so that a broker that comes back is not met by everybody at once.
		select {
		case <-ctx.Done():
		case <-time.After(wait/2 + rand.N(wait)):
		}
		wait = min(2*wait, max(30*time.Second, c.cfg.Reconnect))
	}
}

// drain waits for the events under way, and then ends them.
func (c *Consumer) drain(b *broker) {
	if within(&b.workers, c.cfg.Drain) {
		return
	}
	b.endEvents()
	if !within(&b.workers, min(c.cfg.Drain, 5*time.Second)) {
		c.log.Warn("events did not end in time and are left behind", "broker", b.name)
	}
}

// A BrokerState is how one broker's connection is.
type BrokerState struct {
	// Broker is its URL without user name, password and parameters.
	Broker string
	// Connected says that messages are being consumed, since Since.
	Connected bool
	Since     time.Time
	// Bound are the exchanges that the queue is bound to, Awaited those that are
	// not there. That Nova and Cinder have a broker each, or that cinder's exchange
	// is called openstack, leaves some awaited for ever.
	Bound, Awaited []string
	// Err is why it is not connected.
	Err string
}

// Healthy tells the state of each broker, in the order of the URLs.
func (c *Consumer) Healthy() []BrokerState {
	states := make([]BrokerState, len(c.brokers))
	for i, b := range c.brokers {
		b.mu.Lock()
		states[i] = b.state
		states[i].Bound, states[i].Awaited = slices.Clone(b.state.Bound), slices.Clone(b.state.Awaited)
		b.mu.Unlock()
	}
	return states
}

// A broker is one URL and what is known of it.
type broker struct {
	url, name string

	// under is the context of events under way, which may finish when that of Run
	// ends; endEvents ends it. workers are those of all its connections.
	under     context.Context
	endEvents context.CancelFunc
	workers   sync.WaitGroup

	mu    sync.Mutex
	state BrokerState
	told  bool // that its queues exist with other arguments
	// refusals are the last errors of binding to an exchange, told once each.
	refusals map[string]string
}

func (b *broker) lost(why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state.Connected {
		b.state.Since = time.Now()
	}
	b.state.Awaited = append(b.state.Awaited, b.state.Bound...)
	b.state.Connected, b.state.Bound, b.state.Err = false, nil, why
}

func (b *broker) connected() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state.Connected, b.state.Since, b.state.Err = true, time.Now(), ""
}

// exchange notes whether an exchange is bound, and says whether that is news.
func (b *broker) exchange(name string, bound bool) (news bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	from, to := &b.state.Bound, &b.state.Awaited
	if bound {
		from, to = to, from
	}
	if slices.Contains(*to, name) {
		return false
	}
	*from = slices.DeleteFunc(*from, func(e string) bool { return e == name })
	*to = append(*to, name)
	return true
}

func (b *broker) exchanges() (bound, awaited []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.state.Bound), slices.Clone(b.state.Awaited)
}

// refused notes why an exchange cannot be bound to, and says whether that is news.
func (b *broker) refused(exchange, why string) (news bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refusals[exchange] == why {
		return false
	}
	if b.refusals == nil {
		b.refusals = map[string]string{}
	}
	b.refusals[exchange] = why
	return true
}

// Redact returns what may be shown of a broker's URL: scheme, host and vhost.
func Redact(brokerURL string) string {
	u, err := url.Parse(brokerURL)
	if err != nil || u.Host == "" {
		return "(a broker's URL that cannot be read)"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}

// The options that a broker's URL may have. amqp091 ignores all others silently, and
// connection_timeout too, because dial has a dialler of its own.
var (
	urlOptions = []string{"auth_mechanism", "channel_max", "heartbeat"}
	tlsOptions = []string{"cacertfile", "certfile", "keyfile", "server_name_indication"}
)

// checkURL checks a URL. Its errors do not quote the URL, as those of url.Parse and amqp091
// do. An option without effect is refused: an operator may believe that ?ssl=1 has turned on
// TLS. amqp091 reads the TLS options only if it is given no config.
func checkURL(s string, config *tls.Config) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "":
		return errors.New("not a URL such as amqp://user:password@host:5672/vhost (special characters in a password are written %40)")
	case u.Scheme != "amqp" && u.Scheme != "amqps":
		return fmt.Errorf("scheme %.20q: want amqp or amqps", u.Scheme)
	}
	options, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return errors.New("the options after ? cannot be read: want name=value&name=value")
	}
	for _, name := range slices.Sorted(maps.Keys(options)) {
		switch {
		case slices.Contains(tlsOptions, name):
			if u.Scheme != "amqps" {
				return fmt.Errorf("option %s has no effect without TLS: write amqps://", name)
			}
			if config != nil {
				return fmt.Errorf("option %s has no effect beside the TLS settings for brokers (CA, certificate, insecure): "+
					"use either the settings or the options %s", name, strings.Join(tlsOptions, ", "))
			}
		case !slices.Contains(urlOptions, name):
			return fmt.Errorf("unknown option %.40q: want %s, and for amqps:// %s (TLS itself: write amqps://)",
				name, strings.Join(urlOptions, ", "), strings.Join(tlsOptions, ", "))
		}
	}
	if _, err := amqp091.ParseURI(s); err != nil {
		return errors.New("not an AMQP URL")
	}
	return nil
}
