package services

import (
	"context"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestARabbitMQInTrouble(t *testing.T) {
	b := RabbitMQServer(t)
	if b == RabbitMQ(t) {
		t.Fatal("it is not a server of its own")
	}
	vhost := b.Vhost(t)
	b.AckTimeout(t, time.Second)
	dial := func(name string) (*amqp.Connection, *amqp.Channel) {
		t.Helper()
		conn, err := amqp.DialConfig(vhost, amqp.Config{Properties: amqp.Table{"connection_name": name}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		ch, err := conn.Channel()
		if err != nil {
			t.Fatal(err)
		}
		return conn, ch
	}
	one, ch := dial("one")
	other, _ := dial("other")
	if n := b.CloseConnection(t, vhost, "other"); n != 1 {
		t.Errorf("%d connections of that name were closed", n)
	}
	waitFor(t, "the other connection is closed", other.IsClosed)
	if one.IsClosed() {
		t.Error("the one that was not meant is closed")
	}

	if _, err := ch.QueueDeclare("q", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	blocked := one.NotifyBlocked(make(chan amqp.Blocking, 10))
	for name, alarm := range map[string]func(testing.TB, bool){"disk": b.DiskAlarm, "memory": b.MemoryAlarm} {
		alarm(t, true)
		if err := ch.PublishWithContext(context.Background(), "", "q", false, false,
			amqp.Publishing{Body: []byte(name)}); err != nil {
			t.Fatal(err)
		}
		if got := <-blocked; !got.Active {
			t.Errorf("a publisher is told %+v", got)
		}
		alarm(t, false)
		if got := <-blocked; got.Active {
			t.Errorf("when the alarm is over a publisher is told %+v", got)
		}
	}

	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	if _, err := ch.Consume("q", "", false, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-closed: // nothing is acknowledged
		if err.Code != amqp.PreconditionFailed {
			t.Errorf("the channel was closed with %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("a channel with a late acknowledgement is not closed")
	}
	if one.IsClosed() {
		t.Error("its connection is closed, too")
	}
}
