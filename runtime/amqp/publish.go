package amqp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"

	amqp091 "github.com/rabbitmq/amqp091-go"
)

// A Publisher sends messages and waits for the broker's word that it has them. It
// connects when it is first used and again after it was cut off. It is safe for
// concurrent use.
type Publisher struct {
	url string
	tls *tls.Config

	mu       sync.Mutex
	conn     *amqp091.Connection
	ch       *amqp091.Channel
	closed   chan *amqp091.Error
	returned chan amqp091.Return
}

// NewPublisher makes a publisher for a broker's URL; config is nil for amqp URLs
// or the system's authorities. It does not connect yet.
func NewPublisher(brokerURL string, config *tls.Config) (*Publisher, error) {
	if err := checkURL(brokerURL, config); err != nil {
		return nil, fmt.Errorf("broker URL: %w", err)
	}
	return &Publisher{url: brokerURL, tls: config}, nil
}

// Publish sends message bodies (see oslo.Encode) as oslo's publisher would,
// persistent and in JSON, and returns when the broker has all of them. With an
// error, some may have got there.
func (p *Publisher) Publish(ctx context.Context, exchange, key string, bodies ...[]byte) error {
	messages := make([]amqp091.Publishing, len(bodies))
	for i, body := range bodies {
		messages[i] = amqp091.Publishing{
			ContentType: "application/json", ContentEncoding: "utf-8",
			DeliveryMode: amqp091.Persistent, Body: body,
		}
	}
	return p.send(ctx, exchange, key, false, messages...)
}

// DeclareAsOslo declares an exchange with its notification queues as OpenStack's
// own publishers do: a topic exchange that is not durable, and for each topic a
// queue "TOPIC.info" that nobody need read. For simulated clouds only: a real
// one's exchanges are its own.
func (p *Publisher) DeclareAsOslo(ctx context.Context, exchange string, topics ...string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.connect(ctx); err != nil {
		return err
	}
	ch, err := p.conn.Channel()
	if err != nil {
		return plain(err)
	}
	defer ch.Close()
	if err := ch.ExchangeDeclare(exchange, "topic", false, false, false, false, nil); err != nil {
		return fmt.Errorf("exchange %s: %w", exchange, plain(err))
	}
	for _, topic := range topics {
		queue := topic + ".info"
		if _, err := ch.QueueDeclare(queue, false, false, false, false, nil); err != nil {
			return fmt.Errorf("queue %s: %w", queue, plain(err))
		}
		if err := ch.QueueBind(queue, queue, exchange, false, nil); err != nil {
			return fmt.Errorf("bind queue %s: %w", queue, plain(err))
		}
	}
	return nil
}

// Close closes the connection, if there is one.
func (p *Publisher) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == nil {
		return nil
	}
	err := p.conn.Close()
	p.conn, p.ch = nil, nil
	if errors.Is(err, amqp091.ErrClosed) {
		return nil
	}
	return err
}

// atOnce is how many messages may be on their way without the broker's word.
const atOnce = 1000

// connect makes sure of a channel; the caller holds the lock.
func (p *Publisher) connect(ctx context.Context) error {
	if p.conn != nil && !p.conn.IsClosed() && !p.ch.IsClosed() {
		return nil
	}
	if p.conn != nil {
		p.conn.Close()
		p.conn = nil
	}
	conn, err := dial(ctx, p.url, p.tls, "staffeln publisher")
	if err != nil {
		return fmt.Errorf("connect to %s: %w", Redact(p.url), err)
	}
	ch, err := conn.Channel()
	if err == nil {
		err = ch.Confirm(false)
	}
	if err != nil {
		conn.Close()
		return fmt.Errorf("channel on %s: %w", Redact(p.url), plain(err))
	}
	p.conn, p.ch = conn, ch
	p.closed = ch.NotifyClose(make(chan *amqp091.Error, 1))
	// A message that no queue takes comes back before it is confirmed, and amqp091
	// waits until it is taken: there is room for all that can be on their way.
	p.returned = ch.NotifyReturn(make(chan amqp091.Return, atOnce))
	return nil
}

// send publishes and waits. With mandatory it fails when no queue took a message.
//
// The lock is held throughout: what is returned then belongs to this call. Those
// who need more at a time pass more messages.
func (p *Publisher) send(ctx context.Context, exchange, key string, mandatory bool, messages ...amqp091.Publishing) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.connect(ctx); err != nil {
		return err
	}
	for len(messages) > 0 {
		n := min(len(messages), atOnce)
		if err := p.sendSome(ctx, exchange, key, mandatory, messages[:n]); err != nil {
			// What is still on its way must not be taken for a later message's answer.
			p.conn.Close()
			p.conn, p.ch = nil, nil
			return err
		}
		messages = messages[n:]
	}
	return nil
}

func (p *Publisher) sendSome(ctx context.Context, exchange, key string, mandatory bool, messages []amqp091.Publishing) error {
	where := fmt.Sprintf("publish to exchange %q, key %q", exchange, key)
	pending := make([]*amqp091.DeferredConfirmation, len(messages))
	for i, m := range messages {
		confirmation, err := p.ch.PublishWithDeferredConfirm(exchange, key, mandatory, false, m)
		if err != nil {
			return fmt.Errorf("%s: %w", where, p.why(err))
		}
		pending[i] = confirmation
	}
	for _, confirmation := range pending {
		ok, err := confirmation.WaitContext(ctx)
		if err != nil {
			return fmt.Errorf("%s: no word from the broker: %w", where, err)
		}
		if !ok {
			return fmt.Errorf("%s: %w", where, p.why(errors.New("refused by the broker")))
		}
	}
	select {
	case r, ok := <-p.returned:
		if !ok {
			return nil // the channel has closed since: all was confirmed before
		}
		return fmt.Errorf("%s: %w (%d %s)", where, errNoQueue, r.ReplyCode, r.ReplyText)
	default:
		return nil
	}
}

// errNoQueue: the broker has thrown a message away because no queue takes it.
var errNoQueue = errors.New("no queue takes it")

// why prefers the reason the channel was closed for.
func (p *Publisher) why(err error) error {
	select {
	case closed := <-p.closed:
		if closed != nil {
			return plain(closed)
		}
	default:
	}
	return plain(err)
}
