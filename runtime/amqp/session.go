package amqp

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"
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
