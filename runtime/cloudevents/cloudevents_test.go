package cloudevents

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	ce "github.com/cloudevents/sdk-go/v2"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"staffeln/events"
	"staffeln/events/oslo"
	"staffeln/runtime"
)

var (
	noon    = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	errBoom = errors.New("boom")
	quiet   = slog.New(slog.DiscardHandler)
)

// A heard remembers the events that reached a function.
type heard struct {
	mu  sync.Mutex
	all []events.Event
}

func (h *heard) handler(answer func(events.Event) error) events.Handler {
	return func(_ context.Context, e events.Event) error {
		h.mu.Lock()
		h.all = append(h.all, e)
		h.mu.Unlock()
		return answer(e)
	}
}

func (h *heard) ids() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ids []string
	for _, e := range h.all {
		ids = append(ids, e.ID)
	}
	slices.Sort(ids)
	return ids
}

// track is a function that takes a notification and a tick.
func track(h *heard, answer func(events.Event) error) runtime.Function {
	f := h.handler(answer)
	return runtime.Function{Name: "track", On: map[string]events.Handler{"backup.create.end": f, "tick.track": f}}
}

func done(events.Event) error { return nil }

// post sends a request as "Header: value" lines, a blank one, and a body.
func post(t *testing.T, h http.Handler, request string) *httptest.ResponseRecorder {
	t.Helper()
	head, body, _ := strings.Cut(request, "\n\n")
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	for line := range strings.Lines(head) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			r.Header.Set(name, value)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const envelope = `{"oslo.version": "2.0", "oslo.message": "{\"message_id\": \"m-1\", \"event_type\": \"backup.create.end\", \"timestamp\": \"2026-11-22 12:00:00\", \"payload\": {\"backup_id\": \"b\"}}"}`

var notification = events.Event{ID: "m-1", Type: "backup.create.end", At: noon, Data: []byte(`{"backup_id": "b"}`)}

// Whatever it comes as, the function gets the same event.
func TestModes(t *testing.T) {
	tick := func(shard int) events.Event { return events.NewTick("track", shard, noon) }
	all := []events.Event{tick(0), tick(1), tick(2), tick(3)}
	for _, tc := range []struct {
		name, request string
		want          []events.Event
	}{
		{"Knative's RabbitMQ source: identity is oslo's, not Ce-Id",
			"Ce-Specversion: 1.0\nCe-Type: dev.knative.rabbitmq.event\nCe-Id: random\nCe-Source: /apis/v1/rabbit\nContent-Type: application/json\n\n" + envelope,
			[]events.Event{notification}},
		{"the same, in structured mode",
			"Content-Type: application/cloudevents+json; charset=UTF-8\n\n" + `{"specversion":"1.0","type":"dev.knative.rabbitmq.event","id":"random","source":"/x","data":` + envelope + `}`,
			[]events.Event{notification}},
		{"the same, as base64",
			"Content-Type: application/cloudevents+json\n\n" + `{"specversion":"1.0","type":"dev.knative.rabbitmq.event","id":"random","source":"/x","data_base64":"` + base64.StdEncoding.EncodeToString([]byte(envelope)) + `"}`,
			[]events.Event{notification}},
		{"the same, as base64 beside data that is null",
			"Content-Type: application/cloudevents+json\n\n" + `{"specversion":"1.0","type":"dev.knative.rabbitmq.event",` +
				`"id":"random","source":"/x","data":null,"data_base64":"` + base64.StdEncoding.EncodeToString([]byte(envelope)) + `"}`,
			[]events.Event{notification}},
		{"the same, as text in a string",
			"Content-Type: application/cloudevents+json\n\n" + `{"specversion":"1.0","type":"dev.knative.rabbitmq.event","id":"random","source":"/x","datacontenttype":"text/plain","data":` + quote(envelope) + `}`,
			[]events.Event{notification}},
		{"the bare envelope", "Content-Type: application/json\n\n" + envelope, []events.Event{notification}},
		{"the bare envelope without a content type", "\n\n" + envelope, []events.Event{notification}},
		{"an event of our own client's",
			"Ce-Specversion: 1.0\nCe-Type: backup.create.end\nCe-Id: m-1\nCe-Source: staffeln\nCe-Time: 2026-11-22T13:00:00+01:00\n\n" + `{"backup_id": "b"}`,
			[]events.Event{notification}},
		{"an event that names no time happened now",
			"Ce-Specversion: 1.0\nCe-Type: backup.create.end\nCe-Id: m-1\nCe-Source: staffeln\n\n" + `{"backup_id": "b"}`,
			[]events.Event{notification}},
		{"a tick of our timer's",
			"Ce-Specversion: 1.0\nCe-Type: tick.track\nCe-Id: track/02@2026-11-22T12:00:00Z\nCe-Source: staffeln\nCe-Time: 2026-11-22T12:00:00Z\n\n",
			[]events.Event{tick(2)}},
		{"a cron source knows no shards: all get a tick",
			"Ce-Specversion: 1.0\nCe-Type: tick.track\nCe-Id: 4711\nCe-Source: cron\nCe-Time: 2026-11-22T12:00:00.123Z\n\n", all},
		{"Knative's ping: all shards",
			"Ce-Specversion: 1.0\nCe-Type: dev.knative.sources.ping\nCe-Id: x\nCe-Source: /apis/ping\nCe-Time: 2026-11-22T12:00:00.5Z\nContent-Type: application/json\n\n" + `{"tick":"track"}`, all},
		{"Knative's ping for one shard",
			"Ce-Specversion: 1.0\nCe-Type: dev.knative.sources.ping\nCe-Id: x\nCe-Source: /apis/ping\n\n" + `{"tick":"track","shard":3}`, []events.Event{tick(3)}},
		{"a tick of a clock that is a little ahead",
			"Ce-Specversion: 1.0\nCe-Type: tick.track\nCe-Id: track/02@2026-11-22T12:05:00Z\nCe-Source: staffeln\nCe-Time: 2026-11-22T12:05:00Z\n\n",
			[]events.Event{events.NewTick("track", 2, noon.Add(5*time.Minute))}},
		{"a tick that has waited long",
			"Ce-Specversion: 1.0\nCe-Type: tick.track\nCe-Id: track/02@2026-11-22T10:00:00Z\nCe-Source: staffeln\nCe-Time: 2026-11-22T10:00:00Z\n\n",
			[]events.Event{events.NewTick("track", 2, noon.Add(-2*time.Hour))}},
		{"a notification that is to have happened in a hundred years happened now",
			"\n\n" + strings.ReplaceAll(envelope, "2026-", "2126-"), []events.Event{notification}},
		{"the same, from Knative's source",
			"Ce-Specversion: 1.0\nCe-Type: dev.knative.rabbitmq.event\nCe-Id: x\nCe-Source: y\n\n" + strings.ReplaceAll(envelope, "2026-", "2126-"), []events.Event{notification}},
		{"the same, by our own client's words",
			"Ce-Specversion: 1.0\nCe-Type: backup.create.end\nCe-Id: m-1\nCe-Source: staffeln\nCe-Time: 2126-11-22T12:00:00Z\n\n" + `{"backup_id": "b"}`,
			[]events.Event{notification}},
		{"what the function does not take is nothing to it",
			"Ce-Specversion: 1.0\nCe-Type: port.create.end\nCe-Id: x\nCe-Source: y\n\n{}", nil},
		{"nor is another function's tick",
			"Ce-Specversion: 1.0\nCe-Type: dev.knative.sources.ping\nCe-Id: x\nCe-Source: y\n\n" + `{"tick":"dispatch"}`, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got heard
			h := Handler(track(&got, done), Options{Log: quiet, Shards: 4, Now: func() time.Time { return noon }})
			if w := post(t, h, tc.request); w.Code != http.StatusNoContent || w.Body.Len() > 0 {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			slices.SortFunc(got.all, func(a, b events.Event) int { return strings.Compare(a.ID, b.ID) })
			if d := cmp.Diff(tc.want, got.all); d != "" {
				t.Error(d)
			}
		})
	}
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// A notification captured from a real cloud passes through unchanged.
func TestCapture(t *testing.T) {
	body, err := os.ReadFile("testdata/backup.create.end.json")
	if err != nil {
		t.Fatal(err)
	}
	want, err := oslo.Decode(body)
	if err != nil {
		t.Fatal(err)
	}
	var got heard
	h := Handler(track(&got, done), Options{Log: quiet})
	if w := post(t, h, "Ce-Specversion: 1.0\nCe-Type: dev.knative.rabbitmq.event\nCe-Id: r\nCe-Source: s\n\n"+string(body)); w.Code != http.StatusNoContent {
		t.Fatal(w.Code, w.Body)
	}
	if d := cmp.Diff([]events.Event{want}, got.all); d != "" {
		t.Error(d)
	}
}

// What cannot be an event is refused for good, without telling what was in it.
func TestRefused(t *testing.T) {
	const secret = "token-of-a-tenant"
	for _, tc := range []struct {
		name, request string
		code          int
	}{
		{"no body", "\n\n", 422},
		{"not JSON", "\n\n" + secret, 422},
		{"an envelope without a type", "\n\n" + `{"oslo.message": "{\"payload\": \"` + secret + `\"}"}`, 422},
		{"structured, not JSON", "Content-Type: application/cloudevents+json\n\n{" + secret, 422},
		{"structured, an array", "Content-Type: application/cloudevents+json\n\n[]", 422},
		{"a batch", "Content-Type: application/cloudevents-batch+json\n\n[]", 422},
		{"structured, of another format", "Content-Type: application/cloudevents+avro\n\nx", 422},
		{"structured, without a type", "Content-Type: application/cloudevents+json\n\n" + `{"specversion":"1.0","id":"x"}`, 422},
		{"structured, with two kinds of data", "Content-Type: application/cloudevents+json\n\n" + `{"specversion":"1.0","type":"x","id":"x","data":1,"data_base64":"MQ=="}`, 422},
		{"structured, with data that is not base64", "Content-Type: application/cloudevents+json\n\n" + `{"specversion":"1.0","type":"x","id":"x","data_base64":"` + secret + `!"}`, 422},
		{"of a version to come", "Ce-Specversion: 2.0\nCe-Type: backup.create.end\nCe-Id: x\n\n{}", 422},
		{"without a version", "Ce-Type: backup.create.end\nCe-Id: x\n\n{}", 422},
		{"without an id", "Ce-Specversion: 1.0\nCe-Type: backup.create.end\n\n{}", 422},
		{"with a time that is none", "Ce-Specversion: 1.0\nCe-Type: backup.create.end\nCe-Id: x\nCe-Time: noon\n\n{}", 422},
		{"with data that is not JSON", "Ce-Specversion: 1.0\nCe-Type: backup.create.end\nCe-Id: x\n\n" + secret, 422},
		{"a message that is no notification", "Ce-Specversion: 1.0\nCe-Type: dev.knative.rabbitmq.event\nCe-Id: x\n\n{}", 422},
		{"a ping for nothing", "Ce-Specversion: 1.0\nCe-Type: dev.knative.sources.ping\nCe-Id: x\n\n{}", 422},
		{"a ping for a shard that there is not", "Ce-Specversion: 1.0\nCe-Type: dev.knative.sources.ping\nCe-Id: x\n\n" + `{"tick":"track","shard":4}`, 422},
		{"a tick of next year: rules would take it for now",
			"Ce-Specversion: 1.0\nCe-Type: tick.track\nCe-Id: track/02@2027-11-22T12:00:00Z\nCe-Time: 2027-11-22T12:00:00Z\n\n", 422},
		{"a tick too far ahead for two clocks", "Ce-Specversion: 1.0\nCe-Type: tick.track\nCe-Id: cron\nCe-Time: 2026-11-22T12:05:01Z\n\n", 422},
		{"a ping of next year", "Ce-Specversion: 1.0\nCe-Type: dev.knative.sources.ping\nCe-Id: x\nCe-Time: 2027-11-22T12:00:00Z\n\n" + `{"tick":"track"}`, 422},
		{"a tick of last year: a volume would be gone since then",
			"Ce-Specversion: 1.0\nCe-Type: tick.track\nCe-Id: track/02@2025-11-22T12:00:00Z\nCe-Time: 2025-11-22T12:00:00Z\n\n", 422},
		{"a tick too old to have waited", "Ce-Specversion: 1.0\nCe-Type: tick.track\nCe-Id: cron\nCe-Time: 2026-11-22T09:59:59Z\n\n", 422},
		{"a notification that claims to be a tick",
			"\n\n" + `{"message_id": "track/02@2026-11-22T12:00:00Z", "event_type": "tick.track", "timestamp": "2026-11-22 12:00:00"}`, 422},
		{"the same, from Knative's source",
			"Ce-Specversion: 1.0\nCe-Type: dev.knative.rabbitmq.event\nCe-Id: x\n\n" + `{"message_id": "track/02@2026-11-22T12:00:00Z", "event_type": "tick.track", "timestamp": "2026-11-22 12:00:00"}`, 422},
		{"too large a body", "\n\n" + strings.Repeat("x", 2001), 413},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got heard
			var log bytes.Buffer
			w := post(t, Handler(track(&got, done), Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Shards: 4, MaxBody: 2000, Now: func() time.Time { return noon }}), tc.request)
			if w.Code != tc.code || len(got.all) != 0 {
				t.Errorf("%d %s, %d events", w.Code, w.Body, len(got.all))
			}
			if w.Body.Len() < 5 {
				t.Error("it does not say why")
			}
			if strings.Contains(w.Body.String()+log.String(), secret) {
				t.Errorf("the body got out: %s %s", w.Body, log.String())
			}
		})
	}
}

// The answer is a status that gateways act on.
func TestAnswers(t *testing.T) {
	for _, tc := range []struct {
		name       string
		answer     error
		code       int
		retryAfter string
	}{
		{"done", nil, 204, ""},
		{"retry", errBoom, 502, ""},
		{"retry later", events.Later(90*time.Second, errBoom), 429, "90"},
		{"a part of a second is a whole one, for it may not be sooner", events.Later(1500*time.Millisecond, errBoom), 429, "2"},
		{"later is bounded", events.Later(time.Duration(1<<63-1), errBoom), 429, "86400"},
		{"dropped", events.Drop(errBoom), 422, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got heard
			w := post(t, Handler(track(&got, func(events.Event) error { return tc.answer }), Options{Log: quiet}), "\n\n"+envelope)
			if w.Code != tc.code || w.Header().Get("Retry-After") != tc.retryAfter {
				t.Errorf("%d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
			}
			if tc.answer != nil && w.Body.String() != "boom\n" {
				t.Errorf("it says %q", w.Body)
			}
		})
	}
}

// One shard's answer is not another's: all run, and the longest wait counts.
func TestShardsTogether(t *testing.T) {
	var got heard
	h := Handler(track(&got, func(e events.Event) error {
		switch tick, _ := events.DecodeTick(e); tick.Shard {
		case 1:
			return events.Drop(errBoom)
		case 2:
			return events.Later(time.Minute, errBoom)
		}
		return nil
	}), Options{Log: quiet, Shards: 16})
	w := post(t, h, "Ce-Specversion: 1.0\nCe-Type: tick.track\nCe-Id: cron\nCe-Source: s\n\n")
	if w.Code != 429 || w.Header().Get("Retry-After") != "60" || len(got.ids()) != 16 {
		t.Error(w.Code, w.Header(), got.ids())
	}
}

// Timeouts and panics inside a function are answers, too, and are observed.
func TestAround(t *testing.T) {
	var seen []string
	f := runtime.Function{Name: "track", On: map[string]events.Handler{
		"slow":  func(ctx context.Context, _ events.Event) error { <-ctx.Done(); return ctx.Err() },
		"panic": func(context.Context, events.Event) error { panic("oh") },
	}}
	h := Handler(f, Options{Log: quiet, Timeout: time.Millisecond, Observe: func(function, eventType string, o events.Outcome, _ time.Duration, err error) {
		seen = append(seen, fmt.Sprint(function, " ", eventType, " ", runtime.OutcomeName(o)))
	}})
	for eventType, code := range map[string]int{"slow": 502, "panic": 422, "unknown": 204} {
		if w := post(t, h, "Ce-Specversion: 1.0\nCe-Type: "+eventType+"\nCe-Id: x\n\n"); w.Code != code {
			t.Errorf("%s: %d %s", eventType, w.Code, w.Body)
		}
	}
	slices.Sort(seen)
	if d := cmp.Diff([]string{"track panic dropped", "track slow retry"}, seen); d != "" {
		t.Error(d)
	}
}

// The official SDK is understood, in both of its modes.
func TestSDKPeer(t *testing.T) {
	var got heard
	server := httptest.NewServer(Handler(track(&got, done), Options{Log: quiet, Now: func() time.Time { return noon }}))
	defer server.Close()
	client, err := ce.NewClientHTTP(ce.WithTarget(server.URL))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		ctx  context.Context
	}{
		{"binary", ce.WithEncodingBinary(t.Context())},
		{"structured", ce.WithEncodingStructured(t.Context())},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got.all = nil
			e := ce.NewEvent()
			e.SetID("m-1")
			e.SetType("backup.create.end")
			e.SetSource("peer")
			e.SetTime(noon)
			if err := e.SetData(ce.ApplicationJSON, json.RawMessage(`{"backup_id":"b"}`)); err != nil {
				t.Fatal(err)
			}
			if res := client.Send(tc.ctx, e); !ce.IsACK(res) {
				t.Fatal(res)
			}
			want := []events.Event{{ID: "m-1", Type: "backup.create.end", At: noon, Data: []byte(`{"backup_id":"b"}`)}}
			if d := cmp.Diff(want, got.all); d != "" {
				t.Error(d)
			}
		})
	}
}

// The official SDK understands what our client sends, and our client its answers.
func TestSDKServer(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer ce.Result
		want   events.Outcome
	}{
		{"ack", ce.ResultACK, events.Done},
		{"422", cehttp.NewResult(422, "no"), events.Dropped},
		{"502", cehttp.NewResult(502, "no"), events.Retry},
	} {
		t.Run(tc.name, func(t *testing.T) {
			protocol, err := cehttp.New()
			if err != nil {
				t.Fatal(err)
			}
			var got *ce.Event
			h, err := ce.NewHTTPReceiveHandler(t.Context(), protocol, func(e ce.Event) ce.Result { got = &e; return tc.answer })
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewServer(h)
			defer server.Close()
			outcome, _ := events.Judge((&Client{Base: server.URL}).Invoke(t.Context(), "track", notification))
			if outcome != tc.want {
				t.Errorf("%s, want %s", runtime.OutcomeName(outcome), runtime.OutcomeName(tc.want))
			}
			if got == nil || got.Validate() != nil || got.ID() != "m-1" || got.Type() != "backup.create.end" || !got.Time().Equal(noon) || string(got.Data()) != string(notification.Data) {
				t.Error(got)
			}
		})
	}
}

// Through HTTP an event arrives as it was sent, and the answer as it was given, but
// for waits, which are whole seconds: as in one process.
func TestRoundTrip(t *testing.T) {
	var answer error
	var got events.Event
	f := runtime.Function{Name: "track", On: map[string]events.Handler{"backup.create.end": func(_ context.Context, e events.Event) error {
		got = e
		return answer
	}}}
	last := time.Unix(2e11+1, 0) // nothing of what is drawn is ahead of it
	server := httptest.NewServer(Handler(f, Options{Log: quiet, Now: func() time.Time { return last }}))
	defer server.Close()
	far, near := &Client{Base: server.URL + "/?f={function}"}, runtime.NewInProcess(quiet, []runtime.Function{f})
	rapid.Check(t, func(rt *rapid.T) {
		e := events.Event{
			ID:   rapid.StringOfN(rapid.Rune(), 1, 60, 255).Draw(rt, "id"),
			Type: rapid.SampledFrom([]string{"backup.create.end", "backup.create.end", "volume.update"}).Draw(rt, "type"),
			At:   time.Unix(rapid.Int64Range(-6e10, 2e11).Draw(rt, "s"), rapid.Int64Range(0, 999999999).Draw(rt, "ns")).UTC(),
		}
		if rapid.Bool().Draw(rt, "has data") {
			b, err := json.Marshal(rapid.MapOf(rapid.String(), rapid.Float64()).Draw(rt, "data"))
			if err != nil {
				rt.Fatal(err)
			}
			e.Data = b
		}
		words := errors.New(rapid.String().Draw(rt, "words"))
		switch rapid.SampledFrom([]string{"done", "retry", "later", "drop", "joined"}).Draw(rt, "answer") {
		case "done":
			answer = nil
		case "retry":
			answer = words
		case "later":
			answer = events.Later(time.Duration(rapid.Int64Range(1, int64(24*time.Hour)).Draw(rt, "wait")), words)
		case "drop":
			answer = fmt.Errorf("around: %w", events.Drop(words))
		case "joined":
			answer = errors.Join(events.Drop(words), words)
		}
		got = events.Event{}
		here, hereWait := events.Judge(near.Invoke(t.Context(), "track", e))
		gotHere := got
		got = events.Event{}
		there, thereWait := events.Judge(far.Invoke(t.Context(), "track", e))
		if d := cmp.Diff(gotHere, got); d != "" {
			rt.Fatal(d)
		}
		if here != there || thereWait < hereWait || thereWait >= hereWait+time.Second || (hereWait == 0) != (thereWait == 0) {
			rt.Fatalf("%s after %s here, %s after %s there", runtime.OutcomeName(here), hereWait, runtime.OutcomeName(there), thereWait)
		}
	})
}

// What a gateway answers by itself is a retry; only the function's own no counts.
func TestClientStatuses(t *testing.T) {
	var code int
	var header http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			t.Errorf("a %s followed a redirect", r.Method)
		}
		for k := range header {
			w.Header().Set(k, header.Get(k))
		}
		w.WriteHeader(code)
		io.WriteString(w, "<html>\n<b>from the\x1b[31m gateway</b>\n"+strings.Repeat("x", 10000))
	}))
	defer server.Close()
	for _, tc := range []struct {
		code   int
		header http.Header
		want   string
	}{
		{200, nil, "done"}, {202, nil, "done"}, {204, nil, "done"},
		{301, http.Header{"Location": {"/elsewhere"}}, "retry"},
		{307, http.Header{"Location": {"/elsewhere"}}, "retry"},
		{400, nil, "retry"}, {401, nil, "retry"}, {404, nil, "retry"}, {500, nil, "retry"}, {502, nil, "retry"}, {503, nil, "retry"}, {504, nil, "retry"},
		{413, nil, "dropped"}, {422, nil, "dropped"},
		{429, nil, "retry"},
		{429, http.Header{"Retry-After": {"7"}}, "retry after 7s"},
		{503, http.Header{"Retry-After": {"1"}}, "retry after 1s"},
		{429, http.Header{"Retry-After": {"99999999"}}, "retry after 24h0m0s"},
		{429, http.Header{"Retry-After": {"-1"}}, "retry"},
		{429, http.Header{"Retry-After": {"soon"}}, "retry"},
		{429, http.Header{"Retry-After": {"Sun, 06 Nov 1994 08:49:37 GMT"}}, "retry"},
	} {
		code, header = tc.code, tc.header
		err := (&Client{Base: server.URL}).Invoke(t.Context(), "track", notification)
		outcome, wait := events.Judge(err)
		got := runtime.OutcomeName(outcome)
		if wait > 0 {
			got += " after " + wait.String()
		}
		if got != tc.want {
			t.Errorf("%d %v is %s, want %s", tc.code, tc.header, got, tc.want)
		}
		if err != nil && (strings.ContainsAny(err.Error(), "\n\x1b") || len(err.Error()) > 600 || !strings.Contains(err.Error(), "invoke track: ")) {
			t.Errorf("%q", err)
		}
	}
}

// No answer at all is a retry, and the error holds no password.
func TestClientNoAnswer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that the client has gone
		<-r.Context().Done()
	}))
	defer server.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for _, base := range []string{
		strings.Replace(server.URL, "http://", "http://me:hunter2@", 1) + "/?key=hunter2",
		strings.Replace(gone.URL, "http://", "http://me:hunter2@", 1),
		"http://hunter2 not a url", "ftp://me:hunter2@127.0.0.1/", "",
	} {
		err := (&Client{Base: base}).Invoke(ctx, "track", notification)
		if outcome, _ := events.Judge(err); outcome != events.Retry || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", base, err)
		}
	}
}

// {function} may stand anywhere in the URL.
func TestClientBase(t *testing.T) {
	var hosts, paths []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hosts, paths = append(hosts, r.Host), append(paths, r.URL.Path)
	}))
	defer server.Close()
	here := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(must(server.URL))}}
	for _, base := range []string{"http://gateway/function/{function}", "http://{function}.staffeln.svc", "http://alone/"} {
		if err := (&Client{Base: base, HTTP: here}).Invoke(t.Context(), "track", notification); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff([]string{"gateway", "track.staffeln.svc", "alone"}, hosts); d != "" {
		t.Error(d)
	}
	if paths[0] != "/function/track" {
		t.Error(paths)
	}
}

func must(raw string) *url.URL {
	u, err := url.Parse(raw)
	if err != nil {
		panic(err)
	}
	return u
}

// Whatever comes in, the answer is one of the table, and what reaches the function
// is an event.
func FuzzHandler(f *testing.F) {
	f.Add("application/json", "", "", "", "", []byte(envelope))
	f.Add("application/cloudevents+json", "", "", "", "", []byte(`{"specversion":"1.0","type":"tick.track","id":"x","source":"y","data":{"a":1}}`))
	f.Add("application/cloudevents+json", "", "", "", "", []byte(`{"specversion":"1.0","type":"dev.knative.rabbitmq.event","id":"x","data_base64":"e30="}`))
	f.Add("", "1.0", "dev.knative.sources.ping", "x", "2026-11-22T12:00:00Z", []byte(`{"tick":"track","shard":1}`))
	f.Add("text/plain", "1.0", "tick.track", "track/01@2026-11-22T12:00:00Z", "", []byte{})
	captured, err := os.ReadFile("testdata/backup.create.end.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add("", "", "", "", "", captured)
	f.Add("", "1.0", "dev.knative.rabbitmq.event", "x", "", captured)
	f.Add("application/cloudevents+json", "", "", "", "", []byte(`{"specversion":"`+strings.Repeat("9", 2000)+`","type":"`+strings.Repeat("t", 2000)+`","id":"`+strings.Repeat("i", 2000)+`"}`))
	f.Add("", "1.0", "backup.create.end", "%", "", []byte("null"))
	f.Fuzz(func(t *testing.T, contentType, version, eventType, id, at string, body []byte) {
		check := func(_ context.Context, e events.Event) error {
			if e.ID == "" || e.Type == "" || e.At.Location() != time.UTC || (len(e.Data) > 0 && !json.Valid(e.Data)) {
				t.Errorf("%+v", e)
			}
			return nil
		}
		fn := runtime.Function{Name: "track", On: map[string]events.Handler{"backup.create.end": check, "tick.track": func(ctx context.Context, e events.Event) error {
			if _, err := events.DecodeTick(e); err != nil && !e.At.IsZero() {
				t.Error(err)
			}
			return check(ctx, e)
		}}}
		h := Handler(fn, Options{Log: quiet, Shards: 3, MaxBody: 1 << 16, Now: func() time.Time { return noon }})
		r := httptest.NewRequest("POST", "/", bytes.NewReader(body))
		for k, v := range map[string]string{"Content-Type": contentType, "Ce-Specversion": version, "Ce-Type": eventType, "Ce-Id": id, "Ce-Time": at} {
			if v != "" {
				r.Header.Set(k, v)
			}
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 204 && w.Code != 413 && w.Code != 422 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if said := strings.TrimSuffix(w.Body.String(), "\n"); len(said) > 600 || strings.ContainsFunc(said, unicode.IsControl) || (said == "") != (w.Code == 204) {
			t.Errorf("%d with %d bytes of answer: %.300q", w.Code, len(said), said)
		}
	})
}
