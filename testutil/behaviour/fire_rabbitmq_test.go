package behaviour

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"staffeln/testutil/services"
)

// RabbitMQ fails in every way a RabbitMQ fails: what nobody told of meanwhile is
// found when it is back, although the program would not come round to it for an
// hour, and notifications arrive again.
func TestFireRabbitMQ(t *testing.T) {
	long(t)
	t.Parallel()
	alongside(t, map[string]func(*testing.T){
		"It is stopped, and started again a while later":                   brokerStopped,
		"It is restarted in the middle of a flood of notifications":        brokerRestartedInFlood,
		"All connections are closed by the administrator, again and again": connectionsClosed,
		"Our connection is closed by the administrator, again and again":   ourConnectionClosed,
		"The queue is deleted, again and again":                            queueDeleted,
		// One after the other, with a broker that feels all of it.
		"It is short of something": func(t *testing.T) {
			broker := services.RabbitMQServer(t)
			t.Run("Its disk is full", func(t *testing.T) { brokerFull(t, broker, broker.DiskAlarm) })
			t.Run("Its memory is full", func(t *testing.T) { brokerFull(t, broker, broker.MemoryAlarm) })
			t.Run("It closes the consumer's channel, since an acknowledgement is late", func(t *testing.T) {
				channelClosed(t, broker)
			})
		},
	})
}

// hears waits until the program consumes, from a queue that is bound to both
// exchanges.
func (b *blaze) hears(run *process) {
	b.t.Helper()
	b.until("the program is connected to RabbitMQ", run.says("amqp", "ok"))
	b.until("notifications arrive", func() string {
		if why := run.hears(); why != "" {
			return why
		}
		conn, err := amqp.Dial(b.vhost)
		if err != nil {
			return err.Error()
		}
		defer conn.Close()
		ch, err := conn.Channel()
		if err != nil {
			return err.Error()
		}
		// A message that is only for queues that are bound comes back where none is.
		if err := ch.Confirm(false); err != nil {
			return err.Error()
		}
		for _, exchange := range exchanges {
			back := ch.NotifyReturn(make(chan amqp.Return, 1))
			said, err := ch.PublishWithDeferredConfirmWithContext(b.t.Context(), exchange, "notifications.probe", true, false,
				amqp.Publishing{Body: []byte(`{"oslo.version": "2.0", "oslo.message": "{\"event_type\": \"probe\", ` +
					`\"message_id\": \"1\", \"payload\": {}}"}`)})
			if err != nil {
				return err.Error()
			}
			if !said.Wait() {
				return "the broker does not take it"
			}
			select {
			case <-back:
				return "the queue is not bound to " + exchange
			default:
			}
		}
		return ""
	})
}

func brokerStopped(t *testing.T) {
	b := igniteAt(t, services.RabbitMQServer(t), nil)
	m := b.machines(4)
	run := b.burn(nil)
	name := b.vhost[strings.LastIndex(b.vhost, "@")+1:]
	connected := fmt.Sprintf(`amqp_connected{broker="amqp://%s"}`, name)
	metric := func(want float64) func() string {
		return func() string {
			if got := run.measure(connected); got != want {
				return fmt.Sprintf("%s is %v", connected, got)
			}
			return ""
		}
	}
	b.optIn(m[0])
	b.backedUp(m[0])
	b.optIn(m[1]) // and its notifications may be under way
	b.broker.Stop(t)
	b.optIn(m[2])
	b.until("it is told that RabbitMQ is down", run.says("amqp", "down"))
	b.until("the metrics tell that it is not connected", metric(0))
	b.broker.Start(t)
	b.backedUp(m[:3]...)
	b.hears(run)
	b.optIn(m[3])
	b.settled(m...)
	b.until("the metrics say that it is connected", metric(1))
	b.proven(m...)
	b.oneEach(m...)
}

// flood publishes what was told before, and much that is of no interest, again and
// again until stopped, on a connection of its own; it says how much that was.
func (b *blaze) flood() (stop func(), sent func() int) {
	old := b.keep.seen()
	p := newPublisher(b.t, b.vhost)
	p.connect()
	noise := []byte(strings.ReplaceAll(`{"oslo.version": "2.0", "oslo.message": "{'event_type': 'volume.usage', `+
		`'message_id': '7', 'publisher_id': 'x', 'timestamp': '2026-01-01 00:00:00.0', 'priority': 'INFO', `+
		`'payload': {}}"}`, "'", `\"`))
	return b.again(20*time.Millisecond, func() int {
		m := old[int(time.Now().UnixNano()/1000)%len(old)]
		p.notify(m.exchange, m.key, m.body)
		for range 50 {
			p.notify("openstack", "notifications.info", noise)
		}
		return 51
	})
}

func brokerRestartedInFlood(t *testing.T) {
	b := igniteAt(t, services.RabbitMQServer(t), nil)
	m := b.machines(6)
	run := b.burn(nil)
	b.optIn(m[0])
	b.settled(m[0])
	stop, sent := b.flood()
	handled := run.measure("amqp_messages_total")
	b.until("the flood has arrived", func() string {
		if now := run.measure("amqp_messages_total"); now < handled+1000 {
			return fmt.Sprintf("%v of it has", now-handled)
		}
		return ""
	})
	b.optIn(m[1])
	b.broker.Stop(t)
	b.optIn(m[2])
	b.broker.Start(t)
	b.optIn(m[3])
	b.backedUp(m[:4]...)
	b.hears(run)
	b.optIn(m[4])
	b.backedUp(m[:5]...) // in the flood as well
	stop()
	b.optIn(m[5])
	b.settled(m...)
	t.Logf("%d notifications were sent, %.0f taken in", sent(), run.measure("amqp_messages_total"))
	b.proven(m...)
	b.oneEach(m...)
}

func connectionsClosed(t *testing.T) {
	b := ignite(t, nil)
	m := b.machines(6)
	run := b.burn(nil)
	for i, one := range m[:5] {
		if i%2 == 0 {
			b.optIn(one)
			b.broker.CloseConnections(t, b.vhost)
			continue
		}
		b.broker.CloseConnections(t, b.vhost)
		b.optIn(one)
	}
	b.backedUp(m[:5]...)
	b.hears(run)
	b.optIn(m[5])
	b.settled(m...)
	b.proven(m...)
	b.oneEach(m...)
}

func ourConnectionClosed(t *testing.T) {
	b := ignite(t, nil)
	m := b.machines(5)
	run := b.burn(nil)
	closed := 0
	for _, one := range m[:4] {
		b.optIn(one)
		closed += b.broker.CloseConnection(t, b.vhost, "staffeln consumer of "+b.id)
		b.hears(run)
	}
	if closed != 4 {
		t.Errorf("%d connections were found to be closed", closed)
	}
	b.backedUp(m[:4]...)
	b.optIn(m[4])
	b.settled(m...)
	b.proven(m...)
	b.oneEach(m...)
}

func queueDeleted(t *testing.T) {
	b := ignite(t, nil)
	m := b.machines(4)
	run := b.burn(nil)
	for _, one := range m[:3] {
		conn, err := amqp.Dial(b.vhost)
		if err != nil {
			t.Fatal(err)
		}
		ch, err := conn.Channel()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ch.QueueDelete(b.id, false, false, false); err != nil {
			t.Fatal(err)
		}
		b.optIn(one) // nobody is there to hear of it
		conn.Close()
		b.backedUp(one)
		b.hears(run)
	}
	b.optIn(m[3])
	b.settled(m...)
	b.proven(m...)
	b.oneEach(m...)
}

// A broker that is short of something takes nothing more from anybody: neither what
// OpenStack tells, nor what the program would set aside, which it does not lose.
func brokerFull(t *testing.T, broker *services.Broker, alarm func(testing.TB, bool)) {
	b := igniteAt(t, broker, nil)
	m := b.machines(4)
	run := b.burn(map[string]string{"STAFFELN_RECONCILE_PERIOD": "10s"})
	b.optIn(m[0])
	b.backedUp(m[0])

	// What is told of the next one is to be retried, which takes the broker.
	lost := make(chan struct{})
	var once sync.Once
	b.front.on(func(r *request) act {
		if r.Method == "GET" && strings.HasSuffix(r.Path, "/servers/"+m[1].server) {
			return act{Status: 503, Body: "busy", Before: func() { once.Do(func() { close(lost) }) }}
		}
		return act{}
	})
	// The moment the notification is under way the broker stops to take more.
	b.optIn(m[1])
	b.awaits(lost, "the server is asked about")
	alarm(t, true)
	b.front.on(nil)
	b.optIn(m[2]) // the notification waits in the publisher's connection
	b.backedUp(m[:3]...)
	if got := run.readiness("redis"); got != "ok" {
		t.Errorf("it says that Redis is %q", got)
	}
	alarm(t, false)
	b.optIn(m[3])
	b.hears(run)
	b.settled(m...)
	b.proven(m...)
	b.oneEach(m...)
	if dead := b.waiting(b.id + ".dead"); dead != 0 {
		t.Errorf("%d messages were set aside for good", dead)
	}
}

// waiting is how many messages there are in a queue.
func (b *blaze) waiting(queue string) int {
	b.t.Helper()
	conn, err := amqp.Dial(b.vhost)
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		b.t.Fatal(err)
	}
	q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return q.Messages
}

func channelClosed(t *testing.T, broker *services.Broker) {
	b := igniteAt(t, broker, nil)
	m := b.machines(3)
	b.broker.AckTimeout(t, time.Second)
	run := b.burn(map[string]string{"STAFFELN_API_TIMEOUT": "1m"})
	b.optIn(m[0])
	b.backedUp(m[0])
	// What Nova is asked about the server takes until the channel is closed.
	ctx, answer := context.WithCancel(t.Context())
	defer answer()
	asked := make(chan struct{})
	b.front.once(func(r *request) bool { return r.Method == "GET" && strings.HasSuffix(r.Path, "/servers/"+m[1].server) },
		act{Before: func() { close(asked); <-ctx.Done() }})
	b.optIn(m[1])
	b.awaits(asked, "the server is asked about")
	b.until("the channel is closed, and that is told", func() string {
		if !slices.ContainsFunc(run.log.lines("broker lost"), func(line string) bool {
			return strings.Contains(line, "channel closed")
		}) {
			return "nothing is said of it"
		}
		return ""
	})
	b.backedUp(m[1]) // another connection takes it
	answer()
	b.hears(run)
	b.optIn(m[2])
	b.settled(m...)
	b.proven(m...)
	b.oneEach(m...)
}
