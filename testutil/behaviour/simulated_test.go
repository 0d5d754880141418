package behaviour

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"staffeln/testutil/services"
	"staffeln/testutil/simcloud"
)

func TestOnTheSimulatedCloud(t *testing.T) {
	services.RabbitMQ(t)
	var all sync.WaitGroup
	for _, r := range []rights{adminRights, leastRights} {
		open := simulated
		if r.name == leastRights.name {
			open = func(t *testing.T) *cloud {
				c := simulated(t)
				c.policy(t, showsMakers(t, c, r))
				return c
			}
		}
		all.Go(func() { t.Run("with "+r.name, func(t *testing.T) { run(t, r, 0, open) }) })
	}
	all.Wait()
}

// inRealTime starts a simulated cloud whose clock goes on by itself, as the real
// one's does: what is over is told of when it is.
func inRealTime(t *testing.T, o simcloud.Options) *simcloud.Cloud {
	t.Helper()
	sim, err := simcloud.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	sim.Seed()
	ctx, stop := context.WithCancel(context.Background())
	var ticking sync.WaitGroup
	ticking.Go(func() {
		for tick := time.NewTicker(50 * time.Millisecond); ; {
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
				sim.Advance()
			}
		}
	})
	t.Cleanup(func() { stop(); ticking.Wait() })
	return sim
}

// origins is where a simulated cloud may be asked.
func origins(t *testing.T, sim *simcloud.Cloud) []string {
	t.Helper()
	auth, err := url.Parse(sim.AuthURL())
	if err != nil {
		t.Fatal(err)
	}
	return []string{auth.Scheme + "://" + auth.Host}
}

// simulated opens a simulated cloud of the scenario's own, in real time, with a
// vhost of its own on a real broker.
func simulated(t *testing.T) *cloud {
	broker := services.RabbitMQ(t)
	vhost := broker.Vhost(t)
	gate := openGate(t, vhost)
	publish := newPublisher(t, gate.url)
	publish.connect()

	var mu sync.Mutex
	spoilt := map[string]bool{}
	const reason = "the image of the volume cannot be read"
	sim := inRealTime(t, simcloud.Options{
		BackupTime:  func(simcloud.Volume, bool) time.Duration { return time.Second },
		RestoreTime: func(simcloud.Backup) time.Duration { return 300 * time.Millisecond },
		DeleteTime:  200 * time.Millisecond,
		SettleTime:  200 * time.Millisecond,
		Notify:      publish.notify,
	})
	sim.FailBackups(func(volume string) string {
		mu.Lock()
		defer mu.Unlock()
		if spoilt[volume] {
			return reason
		}
		return ""
	})
	spoil := func(yes bool) func(*testing.T, string) {
		return func(_ *testing.T, volume string) {
			mu.Lock()
			defer mu.Unlock()
			spoilt[volume] = yes
		}
	}
	inForce := "" // Cinder's policy file
	return &cloud{
		auth: sim.AuthURL(), origins: origins(t, sim), broker: gate.url,
		flavor: "1", image: "00000000-0000-0000-0000-000000000001",
		poll: 100 * time.Millisecond, patience: 5 * time.Second, slot: 20 * time.Second, period: 40 * time.Second,
		beat: 6 * time.Second, life: 40 * time.Second, archive: "archive",
		fetch: func(_ *testing.T, _, backup string) func() { return sim.CopyBackup(backup) },
		write: func(_ *testing.T, volume, seed string) { sim.Write(volume, sim.Content(volume)+seed) },
		sum: func(_ *testing.T, volume string) string {
			sum := sha256.Sum256([]byte(sim.Content(volume)))
			return hex.EncodeToString(sum[:])
		},
		spoil: spoil(true), mend: spoil(false), reason: reason,
		policy: func(t *testing.T, file string) func() {
			if err := sim.SetPolicy(file); err != nil {
				t.Fatal(err)
			}
			before := inForce
			inForce = file
			restore := sync.OnceFunc(func() {
				inForce = before
				_ = sim.SetPolicy(before)
			})
			t.Cleanup(restore)
			return restore
		},
		bindings: func(t *testing.T) string {
			return broker.Ctl(t, "list_bindings", "--vhost", vhost[strings.LastIndex(vhost, "/")+1:], "source_name",
				"destination_name")
		},
		// A restart as seen from outside, so that other scenarios can go on: nobody can
		// connect, and the exchanges, which are not durable, are gone with their bindings.
		restartBroker: func(t *testing.T, without func()) {
			gate.close()
			conn, err := amqp.Dial(vhost)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			ch, err := conn.Channel()
			if err != nil {
				t.Fatal(err)
			}
			for _, exchange := range exchanges {
				if err := ch.ExchangeDelete(exchange, false, false); err != nil {
					t.Fatal(err)
				}
			}
			without()
			gate.open()
		},
	}
}

var exchanges = []string{"nova", "openstack"}

// A publisher sends notifications as oslo.messaging does: to topic exchanges that
// it declares neither durable nor auto-deleted. What it cannot send is lost. As
// the services do for their own calls among one another, it connects again by
// itself, and declares the exchanges again.
type publisher struct {
	url  string
	stop chan struct{}

	mu   sync.Mutex
	conn *amqp.Connection
	ch   *amqp.Channel
}

func newPublisher(t *testing.T, url string) *publisher {
	p := &publisher{url: url, stop: make(chan struct{})}
	var again sync.WaitGroup
	again.Go(func() {
		for {
			p.connect()
			select {
			case <-p.stop:
				return
			case <-time.After(500 * time.Millisecond):
			}
		}
	})
	t.Cleanup(func() {
		close(p.stop)
		again.Wait()
		if p.conn != nil {
			_ = p.conn.Close()
		}
	})
	return p
}

func (p *publisher) connect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ch != nil && !p.ch.IsClosed() {
		return
	}
	if p.conn != nil {
		_ = p.conn.Close()
	}
	p.ch = nil
	var err error
	if p.conn, err = amqp.Dial(p.url); err != nil {
		p.conn = nil
		return
	}
	ch, err := p.conn.Channel()
	if err != nil {
		return
	}
	for _, exchange := range exchanges {
		if ch.ExchangeDeclare(exchange, "topic", false, false, false, false, nil) != nil {
			return
		}
	}
	p.ch = ch
}

func (p *publisher) notify(exchange, key string, body []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ch == nil {
		return
	}
	_ = p.ch.PublishWithContext(context.Background(), exchange, key, false, false,
		amqp.Publishing{ContentType: "application/json", ContentEncoding: "utf-8", DeliveryMode: amqp.Persistent, Body: body})
}
