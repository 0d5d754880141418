package cloudevents

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"staffeln/events"
	"staffeln/runtime"
)

// roundTrip answers requests in this process.
type roundTrip func(r *http.Request) *http.Response

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

// Whatever event one process has, the other gets: the client's words and the
// handler's are the same.
func FuzzInvoke(f *testing.F) {
	f.Add("m-1", "backup.create.end", int64(1795345200123456789), []byte(`{"a": 1}`))
	f.Add(`"quoted\"`, "backup.create.end", int64(0), []byte(nil))
	f.Add("%41%zz\r\nCe-Type: x", "backup.create.end", int64(-1), []byte(" [ 1 ]\n"))
	f.Add("ü\x00", `a"b\`, int64(1<<62), []byte(`"\ud800"`))
	f.Add("x", "tick.track", int64(1795345200000000000), []byte(nil))
	f.Add("x", typePing, int64(1), []byte(`{"tick": "x"}`))
	f.Fuzz(func(t *testing.T, id, eventType string, nanos int64, data []byte) {
		if id == "" || eventType == "" || len(id) > maxName || len(eventType) > maxName || len(data) > 0 && !json.Valid(data) ||
			!utf8.ValidString(id+eventType) || strings.HasPrefix(eventType, "dev.knative.") || strings.HasPrefix(eventType, tickPrefix) {
			return // no event of ours; knative's and others' ticks are translated
		}
		want := events.Event{ID: id, Type: eventType, At: time.Unix(0, nanos).UTC(), Data: data}
		var got []events.Event
		h := Handler(runtime.Function{Name: "track", On: map[string]events.Handler{eventType: func(_ context.Context, e events.Event) error {
			got = append(got, e)
			return nil
		}}}, Options{Log: quiet, Shards: 3, MaxBody: 1 << 20, Now: func() time.Time { return noon }})
		c := Client{Base: "http://h/{function}", HTTP: &http.Client{Transport: roundTrip(func(r *http.Request) *http.Response {
			w := httptest.NewRecorder()
			served := httptest.NewRequest("POST", "/", r.Body)
			served.Header = r.Header
			h.ServeHTTP(w, served)
			return w.Result()
		})}}
		if err := c.Invoke(t.Context(), "track", want); err != nil {
			t.Fatal(err)
		}
		if len(data) == 0 {
			want.Data = nil
		}
		want = want.Heard(noon)
		if d := cmp.Diff([]events.Event{want}, got); d != "" {
			t.Fatalf("(-sent +got):\n%s", d)
		}
	})
}

// Whatever a gateway answers: done only for a success, dropped only for the two
// statuses that say so, and a wait is never longer than a day. Its words are told in
// one line.
func FuzzGateway(f *testing.F) {
	f.Add(204, "", []byte(""))
	f.Add(422, "", []byte("refused\r\nlevel=ERROR msg=forged"))
	f.Add(429, "7", []byte("later"))
	f.Add(503, "Sun, 22 Nov 2099 12:00:20 GMT", []byte("\xff\x00"))
	f.Add(429, "-9223372036854775808", []byte(strings.Repeat("x", 10_000)))
	f.Add(429, "9223372036854775807", []byte("{}"))
	f.Add(302, "1e9", []byte(""))
	f.Fuzz(func(t *testing.T, status int, after string, said []byte) {
		status = 200 + (status%400+400)%400
		c := Client{Base: "http://u:pa55word@h/{function}", HTTP: &http.Client{CheckRedirect: HTTP(nil).CheckRedirect, Transport: roundTrip(func(r *http.Request) *http.Response {
			return &http.Response{StatusCode: status, Header: http.Header{"Retry-After": {after}}, Body: io.NopCloser(strings.NewReader(string(said))), Request: r}
		})}}
		err := c.Invoke(t.Context(), "track", events.Event{ID: "m", Type: "backup.create.end", At: noon})
		outcome, wait := events.Judge(err)
		if (outcome == events.Done) != (status < 300) || (outcome == events.Dropped) != (status == 422 || status == 413) || wait < 0 || wait > 24*time.Hour {
			t.Fatalf("%d, %q: %v after %s", status, after, outcome, wait)
		}
		if err != nil {
			text := err.Error()
			if len(text) > 700 || strings.ContainsFunc(text, unicode.IsControl) || !utf8.ValidString(text) || strings.Contains(text, "pa55word") && !strings.Contains(string(said), "pa55word") {
				t.Fatalf("%d bytes of error: %.300q", len(text), text)
			}
			if errors.Is(err, context.Canceled) {
				t.Fatal("nobody gave up")
			}
		}
	})
}
