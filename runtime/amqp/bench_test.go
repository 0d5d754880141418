package amqp

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"staffeln/events"
	"staffeln/events/oslo"
	"staffeln/testutil/services"
)

// BenchmarkConsumer tells how near to a bare consumer ours comes: one that
// acknowledges each message and does nothing else, with the same prefetch, on the
// same queue, in the same run. A ratio of 0.8 means four fifths of its messages a
// second. The kinds take turns, and the ratio is the median of those of the rounds,
// since on a machine that does other things as well every round has its own speed.
//
//	irrelevant  notifications nobody wants
//	relevant    wanted, decoded, and a handler that does nothing
//
// BenchmarkIntake in functions measures the whole way, with a real function behind.
func BenchmarkConsumer(b *testing.B) {
	const prefetch, messages, rounds = 300, 10_000, 7
	broker := services.RabbitMQ(b)
	body, err := os.ReadFile("../../events/nova/testdata/nova.compute.instance.update.nova-metadata-set.json")
	if err != nil {
		b.Fatal(err)
	}
	url := broker.Vhost(b)
	p, err := NewPublisher(url, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	if err := p.DeclareAsOslo(b.Context(), "nova"); err != nil {
		b.Fatal(err)
	}

	// intake consumes all messages with our consumer and tells how long it took.
	intake := func(wanted bool, handle func(context.Context, events.Event) error) func() time.Duration {
		return func() time.Duration {
			var seen atomic.Int64
			var start, end time.Time
			done := make(chan struct{})
			count := func() {
				switch seen.Add(1) {
				case 1:
					start = time.Now() // connecting is not intake
				case messages:
					end = time.Now()
					close(done)
				}
			}
			c, err := New(Config{URLs: []string{url}, Exchanges: []string{"nova"}, Prefetch: prefetch},
				func(ctx context.Context, e events.Event) error { return handle(ctx, e) },
				func(string) bool { return wanted },
				slog.New(slog.DiscardHandler),
				Hooks{Ignored: count, Handled: func(string, events.Outcome, time.Duration) { count() }})
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- c.Run(ctx) }()
			<-done
			cancel()
			<-ended
			return end.Sub(start)
		}
	}
	nothing := func(context.Context, events.Event) error { return nil }
	bare := func() time.Duration {
		conn, err := amqp091.Dial(url)
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		ch, err := conn.Channel()
		if err != nil {
			b.Fatal(err)
		}
		if err := ch.Qos(prefetch, 0, false); err != nil {
			b.Fatal(err)
		}
		deliveries, err := ch.Consume("staffeln", "", false, false, false, false, nil)
		if err != nil {
			b.Fatal(err)
		}
		var start time.Time
		for i := range messages {
			d := <-deliveries
			if i == 0 {
				start = time.Now()
			}
			if err := d.Ack(false); err != nil {
				b.Fatal(err)
			}
		}
		return time.Since(start)
	}
	kinds := []struct {
		name string
		run  func() time.Duration
	}{
		{"bare", bare},
		{"irrelevant", intake(false, nothing)},
		{"relevant", intake(true, nothing)},
	}

	// The consumer declares and binds the queue once before anything is published.
	c, err := New(Config{URLs: []string{url}, Exchanges: []string{"nova"}}, nothing, func(string) bool { return false }, slog.New(slog.DiscardHandler), Hooks{})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	for len(c.Healthy()[0].Bound) == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	<-ended

	if _, err := oslo.Decode(body); err != nil {
		b.Fatal(err)
	}
	fill := slices.Repeat([][]byte{body}, messages)
	for b.Loop() {
		rates, ratios := map[string][]float64{}, map[string][]float64{}
		for range rounds {
			var bare float64
			for _, k := range kinds {
				if err := p.Publish(b.Context(), "nova", "notifications.info", fill...); err != nil {
					b.Fatal(err)
				}
				rate := messages / k.run().Seconds()
				if k.name == "bare" {
					bare = rate
				}
				rates[k.name] = append(rates[k.name], rate)
				ratios[k.name] = append(ratios[k.name], rate/bare)
			}
		}
		median := func(all []float64) float64 {
			slices.Sort(all)
			return all[len(all)/2]
		}
		for _, k := range kinds {
			b.ReportMetric(median(rates[k.name]), k.name+"/s")
			if k.name != "bare" {
				b.ReportMetric(median(ratios[k.name]), k.name+"/bare")
			}
		}
	}
}
