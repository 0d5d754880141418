package amqp

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"staffeln/events"
	"staffeln/events/oslo"
)

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
	headers[headerReason] = fmt.Sprintf("%.1000s", strings.ToValidUTF8(reason, "?"))
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
		headerExchange: strings.ToValidUTF8(fmt.Sprintf("%.255s", exchange), "?"),
		headerKey:      strings.ToValidUTF8(fmt.Sprintf("%.255s", key), "?"),
	}
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
