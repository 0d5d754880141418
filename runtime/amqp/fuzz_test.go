package amqp

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"staffeln/events"
)

// Whatever a message is, its headers included, which anybody can write who may
// publish: it is handed out as the event it is, or put aside, and nothing panics. What
// is put aside keeps headers that AMQP can carry, and no more than a few words of them.
func FuzzDelivery(f *testing.F) {
	body := notification("m-1", "backup.create.end")
	f.Add(body, uint8(0), int64(0), int64(0), int64(0), "nova", "notifications.info", "")
	f.Add(body, uint8(1), int64(7), int64(0), int64(1795345200000), "", "staffeln", "cinder")
	f.Add(body, uint8(1), int64(1<<63-1), int64(0), int64(0), "", "", "")
	f.Add(body, uint8(2), int64(-1), int64(25), int64(1<<63-1), "e\x00", "\xff", strings.Repeat("x", 300))
	f.Add(body, uint8(3), int64(1<<40), int64(1<<63-1), int64(-1<<63), "", "", "")
	f.Add([]byte("{"), uint8(0), int64(3), int64(3), int64(3), "", "", "")
	f.Fuzz(func(t *testing.T, body []byte, answer uint8, attempts, returned, notBefore int64, exchange, key, first string) {
		var got []events.Event
		deliver := func(_ context.Context, e events.Event) error {
			got = append(got, e)
			switch answer % 5 {
			case 1:
				return errors.New("not now")
			case 2:
				return events.Drop(errors.New(strings.Repeat("long ", 1000)))
			case 3:
				return events.Later(time.Duration(attempts), errors.New("later"))
			case 4:
				panic(first)
			}
			return nil
		}
		c, err := New(Config{URLs: []string{"amqp://h/"}}, deliver, wantBackups, slog.New(slog.NewTextHandler(io.Discard, nil)), Hooks{})
		if err != nil {
			t.Fatal(err)
		}
		gone := make(chan struct{})
		close(gone) // nothing is published: the original would come again
		s := &session{Consumer: c, broker: c.brokers[0], gone: gone}
		d := &amqp091.Delivery{Body: body, Exchange: exchange, RoutingKey: key, Headers: amqp091.Table{
			headerAttempts: attempts, "x-delivery-count": returned, headerNotBefore: notBefore,
			headerExchange: first, headerKey: key, headerEvent: first, "x-death": []any{amqp091.Table{"count": attempts}},
		}}
		err = s.handle(t.Context(), d)
		for _, e := range got {
			if !wantBackups(e.Type) || e.ID == "" || e.At.IsZero() {
				t.Fatalf("%+v is handed out", e)
			}
		}
		if len(got) > 1 || answer%5 == 0 && len(got) == 1 && err != nil || answer%5 != 0 && len(got) == 1 && err == nil {
			t.Fatalf("handed out %d times, answer %d: %v", len(got), answer%5, err)
		}
		if returned >= int64(c.cfg.DeliveryLimit) && len(got) > 0 {
			t.Fatalf("handed out though it came back %d times", returned)
		}
		for _, n := range []string{headerAttempts, "x-delivery-count", headerNotBefore, headerEvent, "none"} {
			if header(d, n) < 0 {
				t.Fatalf("%s: %d", n, header(d, n))
			}
		}
		copied := origin(d, events.Event{ID: "m-1", Type: "backup.create.end"}, int(header(d, headerAttempts)))
		if err := copied.Validate(); err != nil {
			t.Fatal(err)
		}
		for name, value := range copied {
			if text, ok := value.(string); ok && len(text) > 300 {
				t.Fatalf("header %s of %d bytes", name, len(text))
			}
		}
		if _, kept := copied["x-death"]; kept {
			t.Fatal("the broker's own headers are kept")
		}
	})
}

// A list of brokers' URLs is read or refused without a word of what could be a
// password, and what is shown of one that is read has none either.
func FuzzBrokerURL(f *testing.F) {
	f.Add("amqp", "openstack", "devcloud", "127.0.0.1:5673", "/")
	f.Add("amqps", "u", "p@ss/w:rd?#", "[::1]", "/%2Fvhost?heartbeat=1")
	f.Add("AMQP", "", "%zz", "a,amqp://b", "/a/b")
	f.Add("http", "\x00", "", "", "")
	f.Add("amqp", "u", "p", "h:99999", "/\n?auth_mechanism=plain")
	f.Fuzz(func(t *testing.T, scheme, user, password, host, rest string) {
		const secret = "k3yring"
		if strings.Contains(scheme+user+host+rest, secret) {
			t.Skip("the secret stands elsewhere, too")
		}
		for _, raw := range []string{
			scheme + "://" + user + ":" + secret + password + "@" + host + rest,
			scheme + "://" + user + ":" + password + secret + "@" + host + rest,
		} {
			c, err := New(Config{URLs: []string{raw}}, nil, wantBackups, slog.New(slog.DiscardHandler), Hooks{})
			if err != nil {
				if text := err.Error(); strings.Contains(text, secret) || len(text) > 500 || !strings.Contains(text, "broker URL 1") {
					t.Fatalf("%q: %q", raw, text)
				}
				continue
			}
			shown := c.Healthy()[0].Broker
			at := strings.LastIndex(raw, "@")
			if slash := strings.IndexAny(raw[strings.Index(raw, "://")+3:], "/?#"); slash >= 0 && strings.Index(raw, "://")+3+slash < at {
				continue // an @ behind the host: what stands before it is no password to any reader of URLs
			}
			if strings.Contains(shown, secret) || strings.ContainsAny(shown, "\r\n\x00") {
				t.Fatalf("%q is shown as %q", raw, shown)
			}
		}
	})
}
