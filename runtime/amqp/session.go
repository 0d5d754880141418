package amqp

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"staffeln/events"
	"staffeln/events/oslo"
)

// consumerTag names our consumer on its channel.
const consumerTag = "staffeln"

// A session is one connection to one broker, from dialling to its end. Delivery
// tags mean something within a session only.
type session struct {
	*Consumer
	broker     *broker
	conn       *amqp091.Connection
	deliveries <-chan amqp091.Delivery
	acks       *acks
	retries    *Publisher
	stop       chan struct{} // closed: take no more deliveries
	gone       chan struct{} // closed: the connection is lost, nothing can be acknowledged
	failed     chan error    // what ends the session from within; holds one
}

// session connects, consumes until the connection is lost or ctx ends, and says
// whether it had come so far as to consume.
func (c *Consumer) session(ctx context.Context, b *broker) (connected bool, err error) {
	conn, err := dial(ctx, b.url, c.cfg.TLS, "staffeln consumer of "+c.cfg.Queue)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	lost := conn.NotifyClose(make(chan *amqp091.Error, 1))

	s := &session{
		Consumer: c, broker: b, conn: conn,
		stop: make(chan struct{}), gone: make(chan struct{}), failed: make(chan error, 1),
	}
	if err := s.declareQueues(); err != nil {
		return false, err
	}
	if err := s.bindAll(); err != nil {
		return false, err
	}
	ch, err := conn.Channel()
	if err != nil {
		return false, plain(err)
	}
	closed := ch.NotifyClose(make(chan *amqp091.Error, 1))
	if err := ch.Qos(c.cfg.Prefetch, 0, false); err != nil {
		return false, fmt.Errorf("prefetch: %w", plain(err))
	}
	if s.deliveries, err = ch.Consume(c.cfg.Queue, consumerTag, false, false, false, false, nil); err != nil {
		return false, fmt.Errorf("consume queue %s: %w", c.cfg.Queue, plain(err))
	}
	s.acks = newAcks(c.cfg.Prefetch, func(tag uint64, multiple bool) error { return ch.Ack(tag, multiple) })
	if s.retries, err = NewPublisher(b.url, c.cfg.TLS); err != nil {
		return false, err
	}
	// On a connection of its own: a broker that is short of memory stops reading
	// from connections that publish, and acknowledgements must still reach it.
	defer s.retries.Close()

	b.connected()
	bound, awaited := b.exchanges()
	c.log.Info("consuming notifications", "broker", b.name, "queue", c.cfg.Queue, "bound", bound, "awaited", awaited)
	if len(bound) > 0 {
		c.hooks.Connected()
	}

	var workers, others sync.WaitGroup
	for range c.cfg.Workers {
		workers.Add(1)
		b.workers.Go(func() {
			defer workers.Done()
			s.work(b.under)
		})
	}
	others.Go(s.rebind)

	err = s.watch(ctx, lost, closed)

	if ctx.Err() == nil {
		b.lost(err.Error())
		close(s.gone)
		close(s.stop)
		// Events under way go on; that they come again as well does no harm.
		within(&workers, time.Second)
	} else {
		close(s.stop)
		s.giveBack(ch)
		c.drain(b)
		_ = s.acks.settle()
		_ = ch.Close() // waits for the broker, so that the acknowledgements have arrived
	}
	conn.Close()
	within(&others, handshake)
	return true, err
}

// giveBack stops the deliveries and returns those that nobody has begun, for
// another process to take: the broker itself would hold them for us until the
// events under way are done.
func (s *session) giveBack(ch *amqp091.Channel) {
	if ch.Cancel(consumerTag, false) != nil {
		return // the connection is lost, and they go back with it
	}
	for d := range s.deliveries { // closed by Cancel, after what has been sent
		if d.Nack(false, true) != nil {
			return
		}
	}
}

// watch returns why the session is to end.
func (s *session) watch(ctx context.Context, lost, closed <-chan *amqp091.Error) error {
	// Acknowledging whenever there is nothing to do would cost a frame for each
	// message: the next is mostly on its way. And deliveries that were done behind
	// an unfinished one must not fill the prefetch window.
	settle := time.NewTicker(20 * time.Millisecond)
	defer settle.Stop()
	why := func(e *amqp091.Error, what string) error {
		if e == nil {
			return errors.New(what)
		}
		return fmt.Errorf("%s: %w", what, plain(e))
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-lost:
			return why(e, "connection closed")
		case e := <-closed:
			return why(e, "channel closed")
		case err := <-s.failed:
			return err
		case <-settle.C:
			if err := s.acks.settle(); err != nil {
				return fmt.Errorf("acknowledge: %w", plain(err))
			}
		}
	}
}

// within waits for a group, but not for ever.
func within(group *sync.WaitGroup, patience time.Duration) bool {
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	select {
	case <-done:
		return true
	case <-time.After(patience):
		return false
	}
}

// fail ends the session.
func (s *session) fail(err error) {
	select {
	case s.failed <- err:
	default: // it is ending already
	}
}

// declareQueues makes our queues.
func (s *session) declareQueues() error {
	cfg := &s.cfg
	queue := func(length int, ttl time.Duration, more amqp091.Table) amqp091.Table {
		args := amqp091.Table{
			"x-queue-type":  "quorum",
			"x-max-length":  int64(length),
			"x-overflow":    "drop-head",
			"x-message-ttl": ttl.Milliseconds(),
		}
		for k, v := range more {
			args[k] = v
		}
		return args
	}
	if err := s.declare(cfg.Queue, queue(cfg.MaxLength, cfg.TTL, amqp091.Table{
		// Where we set a message aside at the limit, the broker's own comes into play
		// only if even that kills us.
		"x-delivery-limit": int64(cfg.DeliveryLimit) + 5,
	})); err != nil {
		return err
	}
	for _, delay := range cfg.RetryDelays {
		// What does not fit goes back early, for drop-head dead-letters too.
		if err := s.declare(cfg.retryQueue(delay), queue(cfg.MaxLength, delay, amqp091.Table{
			"x-dead-letter-exchange":    "",
			"x-dead-letter-routing-key": cfg.Queue,
		})); err != nil {
			return err
		}
	}
	return s.declare(cfg.deadQueue(), queue(cfg.DeadLength, cfg.DeadTTL, nil))
}

// deadQueue is where messages are set aside.
func (c *Config) deadQueue() string { return c.Queue + ".dead" }

// retryQueue is where messages wait for a delay: "staffeln.retry.30s".
func (c *Config) retryQueue(delay time.Duration) string {
	name := delay.String()
	for _, zero := range []string{"0s", "0m"} { // 10m0s, 1h0m
		if len(name) > 2 && strings.HasSuffix(name, zero) && strings.ContainsAny(name[:len(name)-2], "mh") && !isDigit(name[len(name)-3]) {
			name = name[:len(name)-2]
		}
	}
	return c.Queue + ".retry." + name
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// declare makes a queue. One that is there with other arguments, because the
// settings have changed or the operator made it, is used as it is.
func (s *session) declare(name string, args amqp091.Table) error {
	err := s.aside(func(ch *amqp091.Channel) error {
		_, err := ch.QueueDeclare(name, true, false, false, false, args)
		return err
	})
	if code(err) == amqp091.PreconditionFailed {
		refused := plain(err)
		err = s.aside(func(ch *amqp091.Channel) error {
			_, err := ch.QueueDeclarePassive(name, true, false, false, false, nil)
			return err
		})
		if err != nil { // it is not there at all: the broker does not take the arguments
			return fmt.Errorf("declare queue %s: %w", name, refused)
		}
		s.broker.mu.Lock()
		told := s.broker.told
		s.broker.told = true
		s.broker.mu.Unlock()
		if !told {
			s.log.Warn("a queue exists with other settings and is used as it is; for the new ones to count, stop the consumers and delete it",
				"broker", s.broker.name, "queue", name, "err", refused)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("declare queue %s: %w", name, plain(err))
	}
	return nil
}

// aside does something on a channel of its own: an error closes the channel.
func (s *session) aside(do func(*amqp091.Channel) error) error {
	ch, err := s.conn.Channel()
	if err != nil {
		return err
	}
	defer ch.Close()
	return do(ch)
}

// bindAll binds the queue to every exchange that is there. It fails only with
// the connection.
func (s *session) bindAll() error {
	for _, exchange := range s.cfg.Exchanges {
		if _, err := s.bind(exchange); err != nil {
			return err
		}
	}
	return nil
}

// bind binds the queue to an exchange, if it is there, and says whether it was
// not before.
func (s *session) bind(exchange string) (found bool, err error) {
	err = s.aside(func(ch *amqp091.Channel) error {
		// Passive: nothing but the name is looked at.
		if err := ch.ExchangeDeclarePassive(exchange, "topic", false, false, false, false, nil); err != nil {
			return err
		}
		for _, topic := range s.cfg.Topics {
			if err := ch.QueueBind(s.cfg.Queue, topic+".*", exchange, false, nil); err != nil {
				return err
			}
		}
		return nil
	})
	switch {
	case err == nil:
		return s.broker.exchange(exchange, true), nil
	case s.conn.IsClosed() || errors.Is(err, amqp091.ErrClosed):
		return false, fmt.Errorf("bind to exchange %s: %w", exchange, plain(err))
	}
	if s.broker.exchange(exchange, false) {
		s.log.Warn("an exchange is gone, waiting for it", "broker", s.broker.name, "exchange", exchange)
	}
	if code(err) != amqp091.NotFound && s.broker.refused(exchange, err.Error()) {
		s.log.Error("cannot bind to an exchange, trying again", "broker", s.broker.name, "exchange", exchange, "err", plain(err))
	}
	return false, nil
}

// rebind looks for awaited exchanges, and now and then makes all bindings again:
// an exchange that was deleted and made anew has lost them, and nobody says so.
func (s *session) rebind() {
	await, all := time.NewTicker(s.cfg.Await), time.NewTicker(s.cfg.Rebind)
	defer await.Stop()
	defer all.Stop()
	for {
		var again []string
		select {
		case <-s.stop:
			return
		case <-await.C:
			_, again = s.broker.exchanges()
		case <-all.C:
			again = s.cfg.Exchanges
		}
		news := false
		for _, exchange := range again {
			found, err := s.bind(exchange)
			if err != nil {
				return // the connection is lost, which ends the session
			}
			if found {
				s.log.Info("exchange found", "broker", s.broker.name, "exchange", exchange)
				news = true
			}
		}
		if news {
			s.hooks.Connected()
		}
	}
}

// work handles deliveries until there are no more.
func (s *session) work(ctx context.Context) {
	for {
		var d amqp091.Delivery
		var ok bool
		select {
		case <-s.stop:
			return
		case d, ok = <-s.deliveries:
		}
		if !ok {
			s.fail(errors.New("the broker cancelled the consumer: its queue was deleted, or its node is going"))
			return
		}
		if err := s.handle(ctx, &d); err != nil {
			s.fail(err)
			return
		}
		if err := s.acks.finish(d.DeliveryTag); err != nil {
			s.fail(fmt.Errorf("acknowledge: %w", plain(err)))
			return
		}
	}
}

// Headers of messages in the retry and dead-letter queues.
const (
	headerAttempts  = "staffeln-attempts"    // how often it was tried
	headerNotBefore = "staffeln-not-before"  // Unix milliseconds
	headerEvent     = "staffeln-event"       // the event's id
	headerType      = "staffeln-type"        // the event's type
	headerReason    = "staffeln-reason"      // why it was set aside
	headerAt        = "staffeln-at"          // when it was set aside
	headerExchange  = "staffeln-exchange"    // where it was published
	headerKey       = "staffeln-routing-key" // with which key
)

// handle brings one delivery so far that it can be acknowledged. An error is the
// session's.
func (s *session) handle(ctx context.Context, d *amqp091.Delivery) error {
	if eventType, ok := oslo.Peek(d.Body); ok && !s.wanted(eventType) {
		s.hooks.Ignored()
		return nil
	}
	e, err := oslo.Decode(d.Body)
	if err != nil {
		s.hooks.Undecodable()
		return s.setAside(ctx, d, e, 0, "not a notification", err)
	}
	if !s.wanted(e.Type) {
		s.hooks.Ignored()
		return nil
	}
	// Anybody who may publish can have written the headers: more than enough is enough.
	attempts := int(min(header(d, headerAttempts), int64(s.cfg.Attempts)))
	if returned := header(d, "x-delivery-count"); returned >= int64(s.cfg.DeliveryLimit) {
		// Quorum queues count how often a message came back without an answer.
		s.hooks.Handled(e.Type, events.Dropped, 0)
		return s.setAside(ctx, d, e, attempts, fmt.Sprintf("came back %d times without an answer", returned), nil)
	}
	if wait := time.Until(time.UnixMilli(header(d, headerNotBefore))); wait > 0 {
		return s.park(ctx, d, e, attempts, wait)
	}

	start := time.Now()
	err = s.call(ctx, e.Heard(start))
	took := time.Since(start)
	outcome, wait := events.Judge(err)
	attempts++
	if outcome == events.Retry && attempts >= s.cfg.Attempts {
		s.hooks.Handled(e.Type, events.Dropped, took)
		return s.setAside(ctx, d, e, attempts, fmt.Sprintf("tried %d times", attempts), err)
	}
	s.hooks.Handled(e.Type, outcome, took)
	switch outcome {
	case events.Dropped:
		return s.setAside(ctx, d, e, attempts, "refused by its handler", err)
	case events.Retry:
		delays := s.cfg.RetryDelays
		wait = max(wait, delays[min(attempts, len(delays))-1])
		s.log.Debug("event to be retried", "event", e.ID, "type", e.Type, "attempt", attempts, "wait", wait, "err", err)
		return s.park(ctx, d, e, attempts, wait)
	}
	return nil
}

// call hands an event out. A panic is an answer: the same event would panic again.
func (s *session) call(ctx context.Context, e events.Event) (err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = events.Drop(fmt.Errorf("the handler panicked: %v", p))
		}
	}()
	return s.deliver(ctx, e)
}

// header reads a number that the broker or we have written, 0 where there is none.
func header(d *amqp091.Delivery, name string) int64 {
	switch n := d.Headers[name].(type) {
	case int64:
		return max(n, 0)
	case int32:
		return int64(max(n, 0))
	case int16:
		return int64(max(n, 0))
	}
	return 0
}

// park puts a copy of the message into the queue of the shortest delay that is
// long enough. Where none is, it waits in the longest and is parked again.
func (s *session) park(ctx context.Context, d *amqp091.Delivery, e events.Event, attempts int, wait time.Duration) error {
	delay := s.cfg.RetryDelays[len(s.cfg.RetryDelays)-1]
	for _, longEnough := range s.cfg.RetryDelays {
		if longEnough >= wait {
			delay = longEnough
			break
		}
	}
	headers := origin(d, e, attempts)
	if wait > delay {
		headers[headerNotBefore] = time.Now().Add(wait).UnixMilli()
	}
	return s.copy(ctx, d, s.cfg.retryQueue(delay), headers)
}

// setAside puts a copy of the message into the dead-letter queue. The log line
// tells it apart without showing it: a body can hold a user's token.
func (s *session) setAside(ctx context.Context, d *amqp091.Delivery, e events.Event, attempts int, why string, cause error) error {
	reason := why
	if cause != nil {
		reason += ": " + cause.Error()
	}
	headers := origin(d, e, attempts)
	headers[headerReason] = clip(reason, 1000)
	headers[headerAt] = time.Now().UTC().Format(time.RFC3339)
	if err := s.copy(ctx, d, s.cfg.deadQueue(), headers); err != nil {
		return err
	}
	sum := sha256.Sum256(d.Body)
	s.log.Error("notification set aside", "broker", s.broker.name, "queue", s.cfg.deadQueue(),
		"event", e.ID, "type", e.Type, "why", why, "err", cause, "bytes", len(d.Body), "sha256", hex.EncodeToString(sum[:8]))
	return nil
}

// origin are the headers of a copy: ours alone, for the broker's x-death of an
// earlier round would count in the next.
func origin(d *amqp091.Delivery, e events.Event, attempts int) amqp091.Table {
	exchange, key := d.Exchange, d.RoutingKey
	if first, ok := d.Headers[headerExchange].(string); ok {
		exchange = first
	}
	if first, ok := d.Headers[headerKey].(string); ok {
		key = first
	}
	return amqp091.Table{
		headerAttempts: int64(attempts),
		headerEvent:    e.ID, headerType: e.Type,
		headerExchange: clip(exchange, 255), headerKey: clip(key, 255),
	}
}

func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}

// copyPatience bounds the wait for the broker's word on a copy.
const copyPatience = 30 * time.Second

// copy publishes the message to one of our queues and waits for the broker to
// confirm it: only then may the original be acknowledged. While the broker takes
// nothing (it is short of memory or disk) it tries again, and lets the work
// stand still meanwhile: ending the session would bring the message back at once,
// only to count against its delivery limit.
func (s *session) copy(ctx context.Context, d *amqp091.Delivery, queue string, headers amqp091.Table) error {
	// An event that was cut short at the end is still to be put where it belongs.
	ctx = context.WithoutCancel(ctx)
	select {
	case <-s.gone:
		return errors.New("the connection is lost") // the original comes again
	default:
	}
	for wait := s.cfg.Reconnect; ; wait = min(2*wait, max(copyPatience, s.cfg.Reconnect)) {
		ctx, cancel := context.WithTimeout(ctx, copyPatience)
		err := s.retries.send(ctx, "", queue, true, amqp091.Publishing{
			Headers: headers, ContentType: d.ContentType, ContentEncoding: d.ContentEncoding,
			DeliveryMode: amqp091.Persistent, Body: d.Body,
		})
		cancel()
		if err == nil || errors.Is(err, errNoQueue) { // a new session declares it again
			return err
		}
		s.log.Warn("cannot put a message aside, trying again", "broker", s.broker.name, "queue", queue, "err", err)
		select {
		case <-s.stop:
			return err // the original stays unacknowledged and comes again
		case <-time.After(wait):
		}
	}
}
