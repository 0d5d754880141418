package amqp

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	amqp091 "github.com/rabbitmq/amqp091-go"

	"staffeln/events"
	"staffeln/events/oslo"
	"staffeln/testutil/services"
)

func TestMain(m *testing.M) {
	code := m.Run()
	services.StopRabbitMQ()
	os.Exit(code)
}

// A running consumer and what it was seen to do.
type running struct {
	*Consumer
	t    *testing.T
	log  *logbook
	stop func() // ends it and waits

	mu        sync.Mutex
	handled   []string // ids, in the order they came
	ignored   int
	connected int
	outcomes  map[events.Outcome]int
	refused   int
}

// start runs a consumer against a vhost. Types that begin with "backup." are
// wanted. handle may be nil, for done.
func start(t *testing.T, cfg Config, handle events.Handler) *running {
	t.Helper()
	r := &running{t: t, log: &logbook{}, outcomes: map[events.Outcome]int{}}
	cfg.Await, cfg.Reconnect = 50*time.Millisecond, 20*time.Millisecond
	deliver := func(ctx context.Context, e events.Event) error {
		r.mu.Lock()
		r.handled = append(r.handled, e.ID)
		r.mu.Unlock()
		if handle == nil {
			return nil
		}
		return handle(ctx, e)
	}
	count := func(n *int) func() {
		return func() { r.mu.Lock(); *n++; r.mu.Unlock() }
	}
	var err error
	r.Consumer, err = New(cfg, deliver, wantBackups, slog.New(slog.NewJSONHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Hooks{
		Connected: count(&r.connected), Ignored: count(&r.ignored), Undecodable: count(&r.refused),
		Handled: func(_ string, o events.Outcome, _ time.Duration) { r.mu.Lock(); r.outcomes[o]++; r.mu.Unlock() },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(60 * time.Second):
			t.Error("Run does not end")
		}
	})
	t.Cleanup(r.stop)
	return r
}

func wantBackups(eventType string) bool { return strings.HasPrefix(eventType, "backup.") }

func (r *running) until(what string, ok func() bool) {
	r.t.Helper()
	eventually(r.t, what, func() bool { r.mu.Lock(); defer r.mu.Unlock(); return ok() })
}

// times is how often an event was handled.
func (r *running) times(id string) (n int) {
	for _, h := range r.handled {
		if h == id {
			n++
		}
	}
	return n
}

func (r *running) bound(exchange string) func() bool {
	return func() bool { return slices.Contains(r.Healthy()[0].Bound, exchange) }
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// A logbook keeps what was logged.
type logbook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A cloud publishes as OpenStack does.
type cloud struct {
	*Publisher
	t *testing.T
}

func newCloud(t *testing.T, url string) cloud {
	t.Helper()
	p, err := NewPublisher(url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return cloud{p, t}
}

func (c cloud) declare(exchange string) {
	c.t.Helper()
	if err := c.DeclareAsOslo(c.t.Context(), exchange, "notifications"); err != nil {
		c.t.Fatal(err)
	}
}

func (c cloud) say(exchange, eventType string, ids ...string) {
	c.t.Helper()
	var bodies [][]byte
	for _, id := range ids {
		bodies = append(bodies, notification(id, eventType))
	}
	if err := c.Publish(c.t.Context(), exchange, "notifications.info", bodies...); err != nil {
		c.t.Fatal(err)
	}
}

func notification(id, eventType string) []byte {
	return oslo.Encode(events.Event{ID: id, Type: eventType, At: time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC),
		Data: json.RawMessage(`{"secret": "gAAAAABsecret"}`)}, "backup.host-1")
}

func ids(prefix string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("%s-%d", prefix, i))
	}
	return all
}

// channel is a plain channel into a vhost, for looking.
func channel(t *testing.T, url string) *amqp091.Channel {
	t.Helper()
	conn, err := amqp091.Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// waiting is how many messages a queue holds ready.
func waiting(t *testing.T, ch *amqp091.Channel, queue string) int {
	t.Helper()
	q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	return q.Messages
}

// take reads all messages of a queue.
func take(t *testing.T, ch *amqp091.Channel, queue string) (all []amqp091.Delivery) {
	t.Helper()
	for {
		d, ok, err := ch.Get(queue, true)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return all
		}
		all = append(all, d)
	}
}

func TestEventsAreHandedOutAndOthersLeftAlone(t *testing.T) {
	url := services.RabbitMQ(t).Vhost(t)
	c := newCloud(t, url)
	c.declare("openstack")
	r := start(t, Config{URLs: []string{url}}, nil)
	r.until("bound", r.bound("openstack"))

	wanted, others := ids("wanted", 500), ids("other", 700)
	for i := range max(len(wanted), len(others)) {
		if i < len(others) {
			c.say("openstack", "volume.usage", others[i])
		}
		if i < len(wanted) {
			c.say("openstack", "backup.create.end", wanted[i])
		}
	}
	r.until("all handled", func() bool { return len(r.handled) >= len(wanted) && r.ignored >= len(others) })
	r.stop()

	slices.Sort(r.handled)
	slices.Sort(wanted)
	if d := cmp.Diff(wanted, r.handled); d != "" {
		t.Errorf("handled (-want +got):\n%s", d)
	}
	if r.ignored != len(others) || r.outcomes[events.Done] != len(wanted) {
		t.Errorf("%d ignored, outcomes %v", r.ignored, r.outcomes)
	}
	ch := channel(t, url)
	if n := waiting(t, ch, "staffeln"); n != 0 {
		t.Errorf("%d messages are left: not acknowledged", n)
	}
	// P2: a consumer beside us still gets everything.
	q, err := ch.QueueDeclarePassive("notifications.info", false, false, false, false, nil)
	if err != nil || q.Messages != len(wanted)+len(others) {
		t.Errorf("the queue of the others has %d messages, %v; want %d", q.Messages, err, len(wanted)+len(others))
	}
}

func TestEveryPriorityAndTopicIsBoundAndNothingElse(t *testing.T) {
	url := services.RabbitMQ(t).Vhost(t)
	c := newCloud(t, url)
	c.declare("nova")
	r := start(t, Config{URLs: []string{url}}, nil)
	r.until("bound", r.bound("nova"))
	for _, key := range []string{"notifications.info", "notifications.error", "versioned_notifications.info", "versioned_notifications.error"} {
		if err := c.Publish(t.Context(), "nova", key, notification(key, "backup.x")); err != nil {
			t.Fatal(err)
		}
	}
	for _, rpc := range []string{"compute.host-1", "conductor", "notifications", "reply_1", "notifications.info.more"} {
		if err := c.Publish(t.Context(), "nova", rpc, notification(rpc, "backup.x")); err != nil {
			t.Fatal(err)
		}
	}
	c.say("nova", "backup.x", "last")
	r.until("the last", func() bool { return slices.Contains(r.handled, "last") })
	r.stop()
	slices.Sort(r.handled)
	want := []string{"last", "notifications.error", "notifications.info", "versioned_notifications.error", "versioned_notifications.info"}
	if d := cmp.Diff(want, r.handled); d != "" {
		t.Errorf("handled (-want +got):\n%s", d)
	}
}

// P2a: exchanges are OpenStack's, of either durability, and may come later.
func TestExchangesAreAwaitedAndNeverDeclared(t *testing.T) {
	url := services.RabbitMQ(t).Vhost(t)
	r := start(t, Config{URLs: []string{url}}, nil)
	eventually(t, "connected", func() bool { return r.Healthy()[0].Connected })
	if s := r.Healthy()[0]; len(s.Bound) != 0 || len(s.Awaited) != 3 {
		t.Errorf("before there is any exchange: %+v", s)
	}
	r.until("no word before there is anything to hear", func() bool { return r.connected == 0 })
	ch := channel(t, url)
	if err := ch.ExchangeDeclarePassive("nova", "topic", false, false, false, false, nil); code(err) != 404 {
		t.Errorf("the exchange has been declared: %v", err)
	}

	c := newCloud(t, url)
	c.declare("nova") // not durable
	r.until("nova is bound and said to be", func() bool { return r.bound("nova")() && r.connected == 1 })
	if err := channel(t, url).ExchangeDeclare("openstack", "topic", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	r.until("openstack is bound and said to be", func() bool { return r.bound("openstack")() && r.connected == 2 })
	c.say("nova", "backup.a", "from-nova")
	c.say("openstack", "backup.a", "from-openstack")
	r.until("both", func() bool { return len(r.handled) == 2 })
	if s := r.Healthy()[0]; !slices.Equal(s.Awaited, []string{"cinder"}) {
		t.Errorf("there is still no exchange cinder: %+v", s)
	}
}

func TestARemadeExchangeIsBoundAgain(t *testing.T) {
	url := services.RabbitMQ(t).Vhost(t)
	c := newCloud(t, url)
	c.declare("nova")
	r := start(t, Config{URLs: []string{url}, Exchanges: []string{"nova"}, Rebind: 100 * time.Millisecond}, nil)
	r.until("bound", r.bound("nova"))
	ch := channel(t, url)
	if err := ch.ExchangeDelete("nova", false, false); err != nil {
		t.Fatal(err)
	}
	c.declare("nova") // without our bindings
	n := 0
	r.until("heard again", func() bool {
		n++
		if err := c.Publish(t.Context(), "nova", "notifications.info", notification(fmt.Sprint(n), "backup.x")); err != nil {
			t.Fatal(err)
		}
		return len(r.handled) > 0
	})
}

func TestAMessageComesAgainWhenTheConnectionBreaksWhileItIsHandled(t *testing.T) {
	b := services.RabbitMQ(t)
	url := b.Vhost(t)
	c := newCloud(t, url)
	c.declare("nova")
	first := make(chan struct{}, 1)
	first <- struct{}{}
	began, release := make(chan struct{}), make(chan struct{})
	r := start(t, Config{URLs: []string{url}}, func(ctx context.Context, e events.Event) error {
		select {
		case <-first:
			close(began)
			<-release
		default:
		}
		return nil
	})
	r.until("bound", r.bound("nova"))
	c.say("nova", "backup.x", "one")
	<-began
	c.say("nova", "backup.x", "two")
	r.until("the other is done meanwhile", func() bool { return r.times("two") == 1 })
	b.CloseConnections(t, url)
	eventually(t, "the loss is seen", func() bool {
		return strings.Contains(r.log.String(), "broker lost") || !r.Healthy()[0].Connected || r.connections() > 1
	})
	close(release) // its late answer must acknowledge nothing of the new connection
	r.until("it comes again", func() bool { return r.times("one") == 2 })
	r.until("and a reconcile was asked for", func() bool { return r.connected == 2 })
	c.say("nova", "backup.x", "three")
	r.until("it goes on", func() bool { return r.times("three") == 1 })
	r.stop()
	if n := waiting(t, channel(t, url), "staffeln"); n != 0 {
		t.Errorf("%d messages are left", n)
	}
}

func (r *running) connections() int { r.mu.Lock(); defer r.mu.Unlock(); return r.connected }

// Connections that break all the time lose nothing.
func TestNothingIsLostWhenConnectionsBreak(t *testing.T) {
	b := services.RabbitMQ(t)
	url := b.Vhost(t)
	c := newCloud(t, url)
	if err := channel(t, url).ExchangeDeclare("nova", "topic", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	failed := map[string]bool{}
	r := start(t, Config{URLs: []string{url}, Prefetch: 50, RetryDelays: []time.Duration{20 * time.Millisecond}, DeliveryLimit: 1000},
		func(_ context.Context, e events.Event) error {
			time.Sleep(time.Millisecond) // work, so that breaks come in the middle of some
			mu.Lock()
			defer mu.Unlock()
			if strings.HasSuffix(e.ID, "7") && !failed[e.ID] { // some have to be retried
				failed[e.ID] = true
				return errors.New("once")
			}
			return nil
		})
	r.until("bound", r.bound("nova"))
	all := ids("e", 3000)
	var publish sync.WaitGroup
	publish.Go(func() {
		for part := range slices.Chunk(all, 100) {
			var bodies [][]byte
			for _, id := range part {
				bodies = append(bodies, notification(id, "backup.x"))
			}
			for c.Publish(t.Context(), "nova", "notifications.info", bodies...) != nil {
			}
		}
	})
	for range 4 {
		b.CloseConnections(t, url)
	}
	publish.Wait()
	r.until("every event has been done", func() bool {
		seen := map[string]int{}
		for _, id := range r.handled {
			seen[id]++
		}
		for _, id := range all {
			if n := seen[id]; n == 0 || (strings.HasSuffix(id, "7") && n < 2) {
				return false
			}
		}
		return true
	})
	r.stop()
	ch := channel(t, url)
	for _, queue := range []string{"staffeln", "staffeln.dead"} {
		if n := waiting(t, ch, queue); n != 0 {
			t.Errorf("%d messages in %s", n, queue)
		}
	}
}

// P2a: a restart takes the exchanges away, and with them our bindings.
func TestABrokerThatRestarts(t *testing.T) {
	b := services.RabbitMQ(t)
	url := b.Vhost(t)
	c := newCloud(t, url)
	c.declare("nova")
	r := start(t, Config{URLs: []string{url}, Exchanges: []string{"nova"}}, nil)
	r.until("bound", r.bound("nova"))
	c.say("nova", "backup.x", "before")
	r.until("heard", func() bool { return r.times("before") == 1 })

	b.Stop(t)
	eventually(t, "the loss is seen", func() bool { s := r.Healthy()[0]; return !s.Connected && s.Err != "" })
	if s := r.Healthy()[0]; len(s.Bound) != 0 || len(s.Awaited) != 1 {
		t.Errorf("without a broker: %+v", s)
	}
	b.Start(t)
	eventually(t, "connected again", func() bool { return r.Healthy()[0].Connected })
	if s := r.Healthy()[0]; len(s.Awaited) != 1 {
		t.Errorf("the exchange is gone with the restart, and the consumer thinks: %+v", s)
	}
	c.declare("nova") // as Nova does when it publishes again
	r.until("bound again", r.bound("nova"))
	c.say("nova", "backup.x", "after")
	r.until("heard again", func() bool { return r.times("after") == 1 })
	r.until("and a reconcile was asked for", func() bool { return r.connected == 2 })
	if n := strings.Count(r.log.String(), "broker lost"); n > 5 {
		t.Errorf("the same trouble was told %d times:\n%s", n, r.log)
	}
}

func TestOneBrokerThatIsDownKeepsNoOther(t *testing.T) {
	url := services.RabbitMQ(t).Vhost(t)
	c := newCloud(t, url)
	c.declare("nova")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := fmt.Sprintf("amqp://user:gAAAAABsecret@%s/vhost", l.Addr())
	l.Close()
	r := start(t, Config{URLs: []string{nobody, url}}, nil)
	eventually(t, "the living one", func() bool { return slices.Contains(r.Healthy()[1].Bound, "nova") })
	eventually(t, "the dead one", func() bool { return r.Healthy()[0].Err != "" })
	if r.Healthy()[0].Connected {
		t.Error("a broker that is not there is said to be connected")
	}
	c.say("nova", "backup.x", "one")
	r.until("handled", func() bool { return r.times("one") == 1 })
	r.stop()
	if strings.Contains(r.log.String(), "gAAAAABsecret") || strings.Contains(fmt.Sprintf("%+v", r.Healthy()), "gAAAAABsecret") {
		t.Errorf("the password shows:\n%s", r.log)
	}
}

func TestAWrongPasswordIsToldWithoutIt(t *testing.T) {
	url := services.RabbitMQ(t).Vhost(t)
	at := strings.Index(url, "@")
	r := start(t, Config{URLs: []string{"amqp://staffeln-test:gAAAAABsecret" + url[at:]}}, nil)
	eventually(t, "refused", func() bool { return strings.Contains(r.Healthy()[0].Err, "refuses the user name or password") })
	if strings.Contains(r.log.String(), "gAAAAABsecret") {
		t.Errorf("the password shows:\n%s", r.log)
	}
}

func TestAFailureIsRetriedAndThenSetAside(t *testing.T) {
	url := services.RabbitMQ(t).Vhost(t)
	c := newCloud(t, url)
	c.declare("nova")
	var mu sync.Mutex
	var times []time.Time
	delays := []time.Duration{100 * time.Millisecond, 300 * time.Millisecond}
	r := start(t, Config{URLs: []string{url}, RetryDelays: delays, Attempts: 4}, func(context.Context, events.Event) error {
		mu.Lock()
		defer mu.Unlock()
		times = append(times, time.Now())
		return errors.New("Redis is down")
	})
	r.until("bound", r.bound("nova"))
	c.say("nova", "backup.x", "one")
	ch := channel(t, url)
	eventually(t, "set aside", func() bool { return waiting(t, ch, "staffeln.dead") == 1 })
	r.stop()

	if len(times) != 4 {
		t.Fatalf("tried %d times, want 4", len(times))
	}
	for i, want := range []time.Duration{delays[0], delays[1], delays[1]} {
		if got := times[i+1].Sub(times[i]); got < want {
			t.Errorf("try %d came after %s, want no sooner than %s", i+2, got, want)
		}
	}
	d := take(t, ch, "staffeln.dead")[0]
	if !bytes.Equal(d.Body, notification("one", "backup.x")) {
		t.Error("the body is another than the one published")
	}
	delete(d.Headers, headerAt)
	delete(d.Headers, "x-delivery-count") // the broker's
	want := amqp091.Table{
		headerAttempts: int64(4), headerEvent: "one", headerType: "backup.x",
		headerReason:   "tried 4 times: Redis is down",
		headerExchange: "nova", headerKey: "notifications.info",
	}
	if diff := cmp.Diff(want, d.Headers); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if want := (map[events.Outcome]int{events.Retry: 3, events.Dropped: 1}); !maps.Equal(r.outcomes, want) {
		t.Errorf("outcomes %v, want %v", r.outcomes, want)
	}
	for _, queue := range []string{"staffeln", "staffeln.retry.100ms", "staffeln.retry.300ms"} {
		if n := waiting(t, ch, queue); n != 0 {
			t.Errorf("%d messages in %s", n, queue)
		}
	}
}

func TestLaterIsNoSoonerThanAsked(t *testing.T) {
	url := services.RabbitMQ(t).Vhost(t)
	c := newCloud(t, url)
	c.declare("nova")
	var mu sync.Mutex
	times := map[string][]time.Time{}
	waits := map[string]time.Duration{"short": 10 * time.Millisecond, "between": 120 * time.Millisecond, "longer-than-all": 700 * time.Millisecond}
	r := start(t, Config{URLs: []string{url}, RetryDelays: []time.Duration{100 * time.Millisecond, 200 * time.Millisecond}, Attempts: 2},
		func(_ context.Context, e events.Event) error {
			mu.Lock()
			defer mu.Unlock()
			times[e.ID] = append(times[e.ID], time.Now())
			if len(times[e.ID]) == 1 {
				return events.Later(waits[e.ID], errors.New("too early"))
			}
			return nil
		})
	r.until("bound", r.bound("nova"))
	c.say("nova", "backup.x", slices.Collect(maps.Keys(waits))...)
	r.until("all came again", func() bool { return len(r.handled) == 2*len(waits) })
	r.stop()
	for id, wait := range waits {
		if got := times[id][1].Sub(times[id][0]); got < wait {
			t.Errorf("%s: came again after %s, want no sooner than %s", id, got, wait)
		}
	}
	if n := waiting(t, channel(t, url), "staffeln.dead"); n != 0 {
		t.Errorf("%d messages were set aside: waiting is no attempt", n)
	}
}

func TestWhatCannotBeHelpedIsSetAside(t *testing.T) {
	url := services.RabbitMQ(t).Vhost(t)
	c := newCloud(t, url)
	c.declare("nova")
	const secret = "gAAAAABsecret"
	r := start(t, Config{URLs: []string{url}}, func(_ context.Context, e events.Event) error {
		switch e.ID {
		case "dropped":
			return events.Drop(errors.New("no id of a server"))
		case "panics":
			panic("a nil map")
		case "long":
			return events.Drop(errors.New(strings.Repeat("ü", 5000)))
		}
		return nil
	})
	r.until("bound", r.bound("nova"))
	c.say("nova", "backup.x", "dropped", "panics", "long")
	for _, body := range []string{secret, "", `{"oslo.message": "{\"_context_auth_token\": \"` + secret + `"}`, `{"oslo.message": "{\"event_type\": \"backup.x\", \"token\": \"` + secret + `\"}"}`} {
		if err := c.Publish(t.Context(), "nova", "notifications.error", []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	c.say("nova", "backup.x", "good")
	r.until("the good one", func() bool { return r.times("good") == 1 })
	ch := channel(t, url)
	eventually(t, "set aside", func() bool { return waiting(t, ch, "staffeln.dead") == 7 })
	r.stop()

	reasons := map[string]int{}
	for _, d := range take(t, ch, "staffeln.dead") {
		reason, _ := d.Headers[headerReason].(string)
		if n := len([]rune(reason)); n > 1000 {
			t.Errorf("a reason of %d characters", n)
		}
		if strings.Contains(reason, secret) {
			t.Errorf("the reason shows the body: %s", reason)
		}
		kind, detail, _ := strings.Cut(reason, ": ")
		if kind == "refused by its handler" && !strings.HasPrefix(detail, "üü") {
			kind = reason
		}
		reasons[kind]++
	}
	want := map[string]int{
		"refused by its handler: no id of a server":               1,
		"refused by its handler: the handler panicked: a nil map": 1,
		"refused by its handler":                                  1,
		"not a notification":                                      4,
	}
	if d := cmp.Diff(want, reasons); d != "" {
		t.Errorf("reasons (-want +got):\n%s", d)
	}
	if r.refused != 4 {
		t.Errorf("%d undecodable were counted, want 4", r.refused)
	}
	if log := r.log.String(); strings.Contains(log, secret) || !strings.Contains(log, `"sha256"`) {
		t.Errorf("the log shows the body, or does not tell messages apart:\n%s", log)
	}
}

// Rules take an event's time for the present. Whoever may publish is nobody to set it:
// ticks are our own timers' alone, and what has happened has happened by now.
func TestWhatTimeItIsIsNotTheBrokersToSay(t *testing.T) {
	url := services.RabbitMQ(t).Vhost(t)
	c := newCloud(t, url)
	c.declare("nova")
	var mu sync.Mutex
	at := map[string]time.Time{}
	consumer, err := New(Config{URLs: []string{url}, Exchanges: []string{"nova"}, Await: 50 * time.Millisecond},
		func(_ context.Context, e events.Event) error {
			mu.Lock()
			defer mu.Unlock()
			at[e.Type+" "+e.ID] = e.At
			return nil
		}, func(string) bool { return true }, slog.New(slog.DiscardHandler), Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- consumer.Run(ctx) }()
	eventually(t, "bound", func() bool { return slices.Contains(consumer.Healthy()[0].Bound, "nova") })

	began := time.Now()
	long := began.AddDate(100, 0, 0)
	tick := events.NewTick("retention", 0, long)
	for _, e := range []events.Event{tick, {ID: "ahead", Type: "backup.x", At: long}, {ID: "before", Type: "backup.x", At: began.Add(-time.Hour)}} {
		if err := c.Publish(t.Context(), "nova", "notifications.info", oslo.Encode(e, "anybody")); err != nil {
			t.Fatal(err)
		}
	}
	ch := channel(t, url)
	eventually(t, "all settled", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return !at["backup.x ahead"].IsZero() && !at["backup.x before"].IsZero() && waiting(t, ch, "staffeln.dead")+len(at) == 3
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got, came := at["tick.retention "+tick.ID]; came {
		t.Errorf("a tick from the broker was handed out, at %s", got)
	}
	if got := at["backup.x ahead"]; got.Before(began.Truncate(time.Second)) || got.After(time.Now()) {
		t.Errorf("a notification of in a hundred years happened at %s", got)
	}
	if got, want := at["backup.x before"], began.Add(-time.Hour); got.Sub(want).Abs() > time.Second {
		t.Errorf("one of an hour ago happened at %s", got)
	}
	dead := take(t, ch, "staffeln.dead")
	if len(dead) != 1 || !strings.Contains(fmt.Sprint(dead[0].Headers[headerReason]), "tick") {
		t.Errorf("set aside: %v", dead)
	}
}

// A message that kills the process each time is not tried for ever.
func TestAMessageThatKeepsComingBackIsSetAside(t *testing.T) {
	url := services.RabbitMQ(t).Vhost(t)
	c := newCloud(t, url)
	c.declare("nova")
	cfg := Config{URLs: []string{url}, DeliveryLimit: 3}
	r := start(t, cfg, nil)
	r.until("bound", r.bound("nova"))
	r.stop()
	c.say("nova", "backup.x", "poison")
	ch := channel(t, url)
	for range 3 { // three processes die of it
		var d amqp091.Delivery
		eventually(t, "delivered", func() bool {
			var ok bool
			var err error
			if d, ok, err = ch.Get("staffeln", false); err != nil {
				t.Fatal(err)
			}
			return ok
		})
		if err := d.Nack(false, true); err != nil {
			t.Fatal(err)
		}
	}
	r = start(t, cfg, nil)
	eventually(t, "set aside", func() bool { return waiting(t, ch, "staffeln.dead") == 1 })
	r.stop()
	if len(r.handled) != 0 {
		t.Error("it was tried again")
	}
	if reason := take(t, ch, "staffeln.dead")[0].Headers[headerReason]; reason != "came back 3 times without an answer" {
		t.Errorf("reason %q", reason)
	}
}

// P1: with the consumer off, the queue holds the newest messages and no more.
func TestTheQueueIsBounded(t *testing.T) {
	url := services.RabbitMQ(t).Vhost(t)
	c := newCloud(t, url)
	c.declare("nova")
	cfg := Config{URLs: []string{url}, MaxLength: 100}
	r := start(t, cfg, nil)
	r.until("bound", r.bound("nova"))
	r.stop()
	all := ids("e", 5000)
	c.say("nova", "backup.x", all...)
	ch := channel(t, url)
	eventually(t, "only so many are kept", func() bool { n := waiting(t, ch, "staffeln"); return 0 < n && n <= 100 })
	r = start(t, cfg, nil)
	r.until("the newest is there", func() bool { return r.times(all[len(all)-1]) == 1 })
	r.stop()
	if len(r.handled) > 100 || r.times(all[0]) != 0 {
		t.Errorf("%d events were handled, the oldest %d times", len(r.handled), r.times(all[0]))
	}
}

func TestOldMessagesExpire(t *testing.T) {
	url := services.RabbitMQ(t).Vhost(t)
	c := newCloud(t, url)
	c.declare("nova")
	r := start(t, Config{URLs: []string{url}, TTL: 200 * time.Millisecond}, nil)
	r.until("bound", r.bound("nova"))
	r.stop()
	c.say("nova", "backup.x", ids("old", 10)...)
	ch := channel(t, url)
	eventually(t, "expired", func() bool { return waiting(t, ch, "staffeln") == 0 })
	if n := waiting(t, ch, "staffeln.dead"); n != 0 {
		t.Errorf("%d expired messages crowd the dead-letter queue", n)
	}
}

func TestDrain(t *testing.T) {
	url := services.RabbitMQ(t).Vhost(t)
	c := newCloud(t, url)
	c.declare("nova")
	began, release := make(chan string, 100), make(chan struct{})
	r := start(t, Config{URLs: []string{url}, Workers: 2}, func(ctx context.Context, e events.Event) error {
		began <- e.ID
		<-release
		return ctx.Err() // nil: it may finish
	})
	r.until("bound", r.bound("nova"))
	c.say("nova", "backup.x", ids("e", 10)...)
	<-began
	<-began
	stopped := make(chan struct{})
	go func() { r.stop(); close(stopped) }()
	ch := channel(t, url)
	eventually(t, "what was not begun goes back at once", func() bool { return waiting(t, ch, "staffeln") == 8 })
	select {
	case <-stopped:
		t.Fatal("Run ended with two events under way")
	default:
	}
	close(release)
	<-stopped
	if len(r.handled) != 2 || r.outcomes[events.Done] != 2 {
		t.Errorf("%d events were begun, outcomes %v; want 2 done", len(r.handled), r.outcomes)
	}
	if n := waiting(t, ch, "staffeln"); n != 8 {
		t.Errorf("%d messages wait for the next process, want 8", n)
	}
}

func TestDrainIsBounded(t *testing.T) {
	url := services.RabbitMQ(t).Vhost(t)
	c := newCloud(t, url)
	c.declare("nova")
	began := make(chan struct{})
	r := start(t, Config{URLs: []string{url}, Drain: 50 * time.Millisecond, RetryDelays: []time.Duration{time.Minute}}, func(ctx context.Context, e events.Event) error {
		close(began)
		<-ctx.Done() // would take for ever
		return ctx.Err()
	})
	r.until("bound", r.bound("nova"))
	c.say("nova", "backup.x", "one")
	<-began
	r.stop()
	ch := channel(t, url)
	eventually(t, "it is kept for another try", func() bool {
		return waiting(t, ch, "staffeln")+waiting(t, ch, "staffeln.retry.1m") == 1
	})
}

func TestAnEventHasATimeout(t *testing.T) {
	url := services.RabbitMQ(t).Vhost(t)
	c := newCloud(t, url)
	c.declare("nova")
	r := start(t, Config{URLs: []string{url}, Timeout: 20 * time.Millisecond, Attempts: 1}, func(ctx context.Context, e events.Event) error {
		<-ctx.Done()
		return ctx.Err()
	})
	r.until("bound", r.bound("nova"))
	c.say("nova", "backup.x", "one")
	r.until("over", func() bool { return r.outcomes[events.Dropped] == 1 })
}

func TestProcessesShareTheWork(t *testing.T) {
	url := services.RabbitMQ(t).Vhost(t)
	c := newCloud(t, url)
	c.declare("nova")
	slow := func(context.Context, events.Event) error { time.Sleep(time.Millisecond); return nil }
	cfg := Config{URLs: []string{url}, Prefetch: 10, Workers: 2}
	a, b := start(t, cfg, slow), start(t, cfg, slow)
	a.until("bound", a.bound("nova"))
	b.until("bound", b.bound("nova"))
	all := ids("e", 500)
	c.say("nova", "backup.x", all...)
	ch := channel(t, url)
	eventually(t, "all handled", func() bool {
		a.mu.Lock()
		b.mu.Lock()
		defer a.mu.Unlock()
		defer b.mu.Unlock()
		return len(a.handled)+len(b.handled) >= len(all)
	})
	a.stop()
	b.stop()
	together := slices.Concat(a.handled, b.handled)
	slices.Sort(together)
	slices.Sort(all)
	if d := cmp.Diff(all, together); d != "" {
		t.Errorf("each event is handled by one of them (-want +got):\n%s", d)
	}
	if len(a.handled) == 0 || len(b.handled) == 0 {
		t.Errorf("one did %d, the other %d", len(a.handled), len(b.handled))
	}
	if n := waiting(t, ch, "staffeln"); n != 0 {
		t.Errorf("%d messages are left", n)
	}
}

func TestAQueueWithOtherSettingsIsUsedAsItIs(t *testing.T) {
	url := services.RabbitMQ(t).Vhost(t)
	c := newCloud(t, url)
	c.declare("nova")
	r := start(t, Config{URLs: []string{url}, MaxLength: 100}, nil)
	r.until("bound", r.bound("nova"))
	r.stop()
	r = start(t, Config{URLs: []string{url}, MaxLength: 200}, nil)
	r.until("bound", r.bound("nova"))
	c.say("nova", "backup.x", "one")
	r.until("handled", func() bool { return r.times("one") == 1 })
	if n := strings.Count(r.log.String(), "exists with other settings"); n != 1 {
		t.Errorf("told %d times, want once", n)
	}
}

// A queue that somebody deletes is made again.
func TestADeletedQueueIsMadeAgain(t *testing.T) {
	url := services.RabbitMQ(t).Vhost(t)
	c := newCloud(t, url)
	c.declare("nova")
	fail := true
	var mu sync.Mutex
	r := start(t, Config{URLs: []string{url}, RetryDelays: []time.Duration{50 * time.Millisecond}}, func(context.Context, events.Event) error {
		mu.Lock()
		defer mu.Unlock()
		if fail {
			fail = false
			return errors.New("once")
		}
		return nil
	})
	r.until("bound", r.bound("nova"))
	ch := channel(t, url)
	if _, err := ch.QueueDelete("staffeln.retry.50ms", false, false, false); err != nil {
		t.Fatal(err)
	}
	c.say("nova", "backup.x", "one")
	r.until("retried all the same", func() bool { return r.outcomes[events.Done] == 1 })
	if _, err := ch.QueueDelete("staffeln", false, false, false); err != nil {
		t.Fatal(err)
	}
	r.until("bound again", func() bool { return r.connected == 3 })
	c.say("nova", "backup.x", "two")
	r.until("handled", func() bool { return r.times("two") == 1 })
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	good := "amqp://user:password@127.0.0.1:5672/vhost"
	tlsURL := "amqps://user:password@127.0.0.1:5671/vhost"
	for sentence, c := range map[string]struct {
		cfg  Config
		says string
	}{
		"no broker":                       {Config{}, "no broker's URL"},
		"something that is no URL":        {Config{URLs: []string{"amqp://user:pass word%@host"}}, "not a URL"},
		"another scheme":                  {Config{URLs: []string{"http://user:gAAAAABsecret@host"}}, "want amqp or amqps"},
		"TLS asked for by an option":      {Config{URLs: []string{good + "?ssl=1"}}, `unknown option "ssl"`},
		"an option without effect":        {Config{URLs: []string{good + "?connection_timeout=5"}}, "unknown option"},
		"a misspelt option":               {Config{URLs: []string{good + "?heartbeat=5&chanel_max=9"}}, `"chanel_max"`},
		"a certificate without TLS":       {Config{URLs: []string{good + "?cacertfile=/ca.pem"}}, "write amqps://"},
		"a certificate given twice":       {Config{URLs: []string{tlsURL + "?cacertfile=/ca.pem"}, TLS: &tls.Config{}}, "cacertfile has no effect beside the TLS settings"},
		"a server's name beside settings": {Config{URLs: []string{tlsURL + "?server_name_indication=mq"}, TLS: &tls.Config{}}, "server_name_indication"},
		"options with a semicolon":        {Config{URLs: []string{good + "?heartbeat=5;ssl=1"}}, "options after ?"},
		"a topic that would bring RPC":    {Config{URLs: []string{good}, Topics: []string{"#"}}, `topic "#"`},
		"a topic with a priority":         {Config{URLs: []string{good}, Topics: []string{"notifications.info"}}, "topic"},
		"a queue of OpenStack's":          {Config{URLs: []string{good}, Queue: "notifications.info"}, "nobody else's"},
		"no exchange":                     {Config{URLs: []string{good}, Exchanges: []string{""}}, "exchange"},
		"a negative prefetch":             {Config{URLs: []string{good}, Prefetch: -1}, "prefetch -1"},
		"a prefetch that AMQP cannot say": {Config{URLs: []string{good}, Prefetch: 1 << 16}, "65535"},
		"a negative time":                 {Config{URLs: []string{good}, TTL: -1}, "TTL"},
		"delays that do not grow":         {Config{URLs: []string{good}, RetryDelays: []time.Duration{2, 1}}, "retry delay"},
	} {
		_, err := New(c.cfg, nil, nil, nil, Hooks{})
		if err == nil {
			t.Errorf("%s: taken", sentence)
		} else if !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "gAAAAABsecret") || strings.Contains(err.Error(), "pass word") {
			t.Errorf("%s: %v", sentence, err)
		}
	}
	_, err := New(Config{Prefetch: -1, Topics: []string{"#"}}, nil, nil, nil, Hooks{})
	for _, says := range []string{"no broker", "prefetch", "topic"} {
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("all complaints at once, and %q is not in: %v", says, err)
		}
	}
	for _, url := range []string{good, tlsURL + "?cacertfile=/ca.pem&heartbeat=5"} {
		if _, err := New(Config{URLs: []string{url}}, nil, nil, nil, Hooks{}); err != nil {
			t.Errorf("the defaults: %v", err)
		}
	}
}

func TestRedact(t *testing.T) {
	for url, want := range map[string]string{
		"amqp://user:secret@host:5672/nova":         "amqp://host:5672/nova",
		"amqps://user@host/":                        "amqps://host/",
		"amqps://u:p@host/%2Fcell1?password=secret": "amqps://host/%2Fcell1",
		"amqp://user:sec%ret@host":                  "(a broker's URL that cannot be read)",
		"user:secret":                               "(a broker's URL that cannot be read)",
	} {
		if got := Redact(url); got != want {
			t.Errorf("%s is shown as %s, want %s", url, got, want)
		}
	}
}

func TestRetryQueueNames(t *testing.T) {
	cfg := Config{Queue: "staffeln"}
	for delay, want := range map[time.Duration]string{
		500 * time.Millisecond: "500ms", 5 * time.Second: "5s", 30 * time.Second: "30s", 90 * time.Second: "1m30s",
		2 * time.Minute: "2m", 10 * time.Minute: "10m", time.Hour: "1h", 90 * time.Minute: "1h30m", 20 * time.Hour: "20h",
		time.Hour + 5*time.Second: "1h0m5s",
	} {
		if got := cfg.retryQueue(delay); got != "staffeln.retry."+want {
			t.Errorf("%s: %s, want staffeln.retry.%s", delay, got, want)
		}
		if again, err := time.ParseDuration(want); err != nil || again != delay {
			t.Errorf("%s does not say %s", want, delay)
		}
	}
}
