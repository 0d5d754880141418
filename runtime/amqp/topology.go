package amqp

import (
	"errors"
	"fmt"
	"strings"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"
)

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
		if short, ok := strings.CutSuffix(name, zero); ok && len(short) > 1 &&
			strings.ContainsAny(short, "mh") && !isDigit(short[len(short)-1]) {
			name = short
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
