package functions_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"staffeln/events"
	"staffeln/events/nova"
	"staffeln/events/oslo"
	"staffeln/functions"
	"staffeln/functions/backup"
	"staffeln/runtime"
	"staffeln/runtime/amqp"
	"staffeln/runtime/config"
	"staffeln/runtime/ledger"
	"staffeln/runtime/metrics"
	"staffeln/runtime/process"
	"staffeln/testutil/services"
)

// BenchmarkIntake tells how near to a bare consumer the whole way of a notification
// comes, from the broker through decoding, routing and enroll to the ledger, wired
// as "staffeln run" wires it. The bare one acknowledges each message and does
// nothing else, with the same prefetch, on the same queue and the same messages, in
// the same run: a ratio of 0.6 means three fifths of its messages a second. They
// take turns, and the ratio is the median of those of the rounds, since on a machine
// that does other things as well every round has its own speed.
//
//	relevant    updates of servers, of which one half is protected and the other
//	            has not opted in, that tell nothing new: the ledger is read for
//	            each, and the cloud is not asked
//	irrelevant  notifications that no function takes
func BenchmarkIntake(b *testing.B) {
	const prefetch, messages, rounds, servers = 300, 10_000, 7, 500
	ctx := b.Context()
	url := services.RabbitMQ(b).Vhost(b)
	p, err := amqp.NewPublisher(url, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	if err := p.DeclareAsOslo(ctx, "nova"); err != nil {
		b.Fatal(err)
	}

	c, err := config.Load(nil)
	if err != nil {
		b.Fatal(err)
	}
	settings := process.Settings{Config: c}.Functions()
	memory := ledger.New(services.Redis(b), ledger.Options{})
	log, m := slog.New(slog.NewTextHandler(os.Stderr, nil)), metrics.New()
	wired := functions.All(functions.Needs{Ledger: memory, Settings: settings, Log: log, Count: m.Count,
		Cloud: struct{ functions.Cloud }{}, // to ask it is to panic, which drops the event
	})
	m.StartFunctions(wired)
	router := runtime.NewRouter(wired, runtime.Wrap(runtime.NewInProcess(log, wired),
		runtime.Observed(runtime.Logged(log), m.Observe), runtime.Timeout(10*time.Minute)))

	var relevant, irrelevant [][]byte
	for n := range servers {
		known := captureOf(b, n, "nova/testdata/nova-versioned.instance.update.nova-metadata-set.json")
		enrollAsTold(b, memory, settings, known)
		relevant = append(relevant, known,
			captureOf(b, n, "nova/testdata/nova.compute.instance.update.nova-metadata-set.json"),
			captureOf(b, servers+n, "nova/testdata/nova-versioned.instance.update.nova-metadata-delete-204.json"),
			captureOf(b, servers+n, "nova/testdata/nova-versioned.instance.update.nova-server-delete-204.json"))
		irrelevant = append(irrelevant,
			captureOf(b, n, "nova/testdata/nova.compute.instance.power_on.end.json"),
			captureOf(b, n, "nova/testdata/nova-versioned.instance.power_off.end.json"),
			captureOf(b, n, "oslo/testdata/nova.scheduler.select_destinations.end.json"),
			captureOf(b, n, "cinder/testdata/cinder.volume.create.end.json"))
	}

	// consumer is ours; handled is told of each message it is done with.
	consumer := func(handled func(outcome string)) (*amqp.Consumer, func()) {
		c, err := amqp.New(amqp.Config{URLs: []string{url}, Exchanges: []string{"nova"}, Prefetch: prefetch},
			router.Deliver, router.Wants, slog.New(slog.DiscardHandler), amqp.Hooks{
				Ignored:     func() { handled("ignored") },
				Handled:     func(_ string, o events.Outcome, _ time.Duration) { handled(runtime.OutcomeName(o)) },
				Undecodable: func() { handled("undecodable") },
			})
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		return c, func() { cancel(); <-ended }
	}
	intake := func(want string) time.Duration {
		var seen atomic.Int64
		var start, end time.Time
		all := make(chan struct{})
		_, stop := consumer(func(outcome string) {
			if outcome != want {
				b.Errorf("a notification was %s, want %s", outcome, want)
			}
			m.Count("amqp_messages_total", 1, outcome)
			switch seen.Add(1) {
			case 1:
				start = time.Now() // connecting is not intake
			case messages:
				end = time.Now()
				close(all)
			}
		})
		<-all
		stop()
		return end.Sub(start)
	}
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

	// The queue is declared and bound by the consumer, before anything is published.
	first, stop := consumer(func(string) {})
	for len(first.Healthy()[0].Bound) == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	stop()

	kinds := []struct {
		name, want string
		bodies     [][]byte
	}{{"relevant", "done", relevant}, {"irrelevant", "ignored", irrelevant}}
	median := func(all []float64) float64 {
		slices.Sort(all)
		return all[len(all)/2]
	}
	for b.Loop() {
		rates, ratios := map[string][]float64{}, map[string][]float64{}
		for range rounds {
			for _, k := range kinds {
				fill := slices.Repeat(k.bodies, messages/len(k.bodies))
				rate := func(consume func() time.Duration) float64 {
					if err := p.Publish(ctx, "nova", "notifications.info", fill...); err != nil {
						b.Fatal(err)
					}
					return messages / consume().Seconds()
				}
				alone := rate(bare)
				ours := rate(func() time.Duration { return intake(k.want) })
				rates["bare"] = append(rates["bare"], alone)
				rates[k.name] = append(rates[k.name], ours)
				ratios[k.name] = append(ratios[k.name], ours/alone)
			}
		}
		for name, all := range rates {
			b.ReportMetric(median(all), name+"/s")
		}
		for name, all := range ratios {
			b.ReportMetric(median(all), name+"/bare")
		}
	}
}

// captureOf is what was captured of one server as it would be of the nth of many,
// which are spread over 50 projects.
func captureOf(b *testing.B, n int, file string) []byte {
	b.Helper()
	body, err := os.ReadFile("../events/" + file)
	if err != nil {
		b.Fatal(err)
	}
	e, err := oslo.Decode(body)
	if err != nil {
		b.Fatal(err)
	}
	if i, err := nova.DecodeInstance(e); err == nil {
		body = bytes.ReplaceAll(body, []byte(i.ID), fmt.Appendf(nil, "%08x-5e72-4e72-8e72-5e72e75e72e7", n))
		body = bytes.ReplaceAll(body, []byte(i.Project), fmt.Appendf(nil, "%032x", n%50))
	}
	return body
}

// enrollAsTold puts the server of a notification into the ledger as enroll would,
// with two volumes.
func enrollAsTold(b *testing.B, memory *ledger.Ledger, settings functions.Settings, body []byte) {
	b.Helper()
	e, err := oslo.Decode(body)
	if err != nil {
		b.Fatal(err)
	}
	i, err := nova.DecodeInstance(e)
	if err != nil {
		b.Fatal(err)
	}
	server := backup.Server{ID: i.ID, Name: i.Name, Project: i.Project, Metadata: i.Metadata, Tags: i.Tags}
	volumes := map[string]backup.Volume{}
	for _, letter := range []string{"a", "b"} {
		id := letter + i.ID[1:]
		server.Volumes = append(server.Volumes, id)
		volumes[id] = backup.Volume{ID: id, Project: i.Project, Size: 10, Created: sunday}
	}
	wish := backup.ReadWish(server.Metadata, server.Tags, settings.Keys, settings.Classes)
	if !wish.In {
		b.Fatalf("server %s has not opted in", i.ID)
	}
	enrolment, protected, _ := backup.Enrol(server, wish, volumes, settings.Keys)
	ticket, err := memory.Ticket(b.Context(), i.Project)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := memory.Enroll(b.Context(), ticket, enrolment, protected, sunday); err != nil {
		b.Fatal(err)
	}
}
