package amqp_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"staffeln/events"
	"staffeln/events/oslo"
	"staffeln/runtime/amqp"
	"staffeln/testutil/services"
	"staffeln/testutil/world"
)

// While nobody consumes, far more notifications come than the queue holds, and what
// they were about has long gone from it. When somebody does again, one reconcile
// makes the ledger what it would have been. The queue is a fraction of what it is
// by default, and so is the flood of the million that fills it ten times over.
func TestAfterAFloodThatNobodyHeardTheStateIsRight(t *testing.T) {
	const most, flood = 500, 5000
	url := services.RabbitMQ(t).Vhost(t)
	p, err := amqp.NewPublisher(url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.DeclareAsOslo(t.Context(), "nova", "notifications"); err != nil {
		t.Fatal(err)
	}
	w, err := world.New(t.Context(), world.Options{Start: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), Deaf: true,
		Environ: []string{"STAFFELN_RECONCILE_PERIOD=24h"}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range w.Seeded.Servers {
		w.Cloud.SetServerMetadata(id, map[string]string{})
	}
	check(w.Step(t.Context(), time.Minute)) // the ledger is made, of nobody

	var mu sync.Mutex // a world is for one goroutine
	var connected, handled atomic.Int64
	consume := func() (bound func() bool, stop func()) {
		c, err := amqp.New(amqp.Config{URLs: []string{url}, Exchanges: []string{"nova"}, MaxLength: most, Await: 50 * time.Millisecond},
			func(ctx context.Context, e events.Event) error {
				defer handled.Add(1)
				mu.Lock()
				defer mu.Unlock()
				return w.Deliver(ctx, e)
			},
			func(string) bool { return true }, slog.New(slog.DiscardHandler),
			amqp.Hooks{Connected: func() {
				connected.Add(1)
				if err := w.Home.Ledger.AskReconcile(context.Background()); err != nil { // as local/run.go does
					t.Error(err)
				}
			}})
		check(err)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		return func() bool { return slices.Contains(c.Healthy()[0].Bound, "nova") }, func() { cancel(); check(<-ended) }
	}
	wait := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not within a minute: %s", what)
			}
		}
	}
	bound, stop := consume()
	wait("bound", bound)
	stop()
	asked := connected.Load()

	// What happens while it is off: two servers opt in, and everybody else talks.
	for _, name := range []string{"web-1", "app-1"} {
		w.Cloud.SetServerMetadata(w.Seeded.Servers[name], map[string]string{"backup": "yes"})
	}
	var bodies [][]byte
	for i := range flood {
		id := fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
		bodies = append(bodies, oslo.Encode(events.Event{ID: id, Type: "compute.instance.update", At: w.Now(),
			Data: []byte(fmt.Sprintf(`{"instance_id": %q, "tenant_id": %q, "state": "active", "old_state": "building", "metadata": {}}`, id, w.Seeded.Projects["alpha"]))}, "compute.host"))
	}
	for part := range slices.Chunk(bodies, 1000) {
		check(p.Publish(t.Context(), "nova", "notifications.info", part...))
	}
	conn, err := amqp091.Dial(url)
	check(err)
	defer conn.Close()
	ch, err := conn.Channel()
	check(err)
	waiting := func(queue string) int {
		t.Helper()
		q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		check(err)
		return q.Messages
	}
	wait("the queue holds its most", func() bool { return waiting("staffeln") == most })
	if n := waiting("notifications.info"); n != flood {
		t.Errorf("the queue that oslo.messaging made holds %d, want all %d: that is what the bound is against", n, flood)
	}

	bound, stop = consume()
	wait("bound again", bound)
	wait("all that is left is handled", func() bool { return handled.Load() >= most && waiting("staffeln") == 0 })
	stop()
	if n := handled.Load(); n != most {
		t.Errorf("%d were handled, want %d", n, most)
	}
	if connected.Load() == asked {
		t.Error("no reconcile was asked for")
	}
	mu.Lock()
	defer mu.Unlock()
	check(w.Step(t.Context(), 5*time.Second))
	check(w.Step(t.Context(), 5*time.Second))
	var got []string
	for _, b := range w.Cloud.Backups() {
		v, _ := w.Cloud.Volume(b.Volume)
		got = append(got, v.Name)
	}
	slices.Sort(got)
	if want := []string{"app-1-data", "app-1-logs", "web-1-data"}; !slices.Equal(got, want) {
		t.Errorf("backups of %q, want %q", got, want)
	}
}
