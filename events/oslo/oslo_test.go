package oslo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"staffeln/events"
	"staffeln/events/wire"
)

// captures are bodies as they were on a real cloud's wire, by file name.
func captures(tb testing.TB) map[string][]byte {
	tb.Helper()
	bodies := map[string][]byte{}
	for _, pattern := range []string{"testdata/*.json", "../nova/testdata/*.json", "../cinder/testdata/*.json"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			tb.Fatal(err)
		}
		for _, file := range files {
			if bodies[filepath.Base(file)], err = os.ReadFile(file); err != nil {
				tb.Fatal(err)
			}
		}
	}
	if len(bodies) < 90 {
		tb.Fatalf("%d captures, want the lot", len(bodies))
	}
	return bodies
}

// reference decodes with encoding/json, which Decode must agree with.
func reference(body []byte) (events.Event, error) {
	var top map[string]json.RawMessage
	if err := json.Unmarshal(body, &top); err != nil {
		return events.Event{}, err
	}
	if top == nil {
		return events.Event{}, errors.New("null")
	}
	if raw, ok := top["oslo.message"]; ok && string(raw) != "null" {
		var inner string
		if err := json.Unmarshal(raw, &inner); err != nil {
			return events.Event{}, err
		}
		top = nil
		if err := json.Unmarshal([]byte(inner), &top); err != nil {
			return events.Event{}, err
		}
		if top == nil {
			return events.Event{}, errors.New("null")
		}
	}
	text := func(key string) (s string) {
		if json.Unmarshal(top[key], &s) != nil {
			return ""
		}
		return s
	}
	e := events.Event{ID: text("message_id"), Type: text("event_type"), Data: bytes.Clone(top["payload"])}
	at, ok := parseTime(text("timestamp"))
	if !ok || !validName(e.ID) || !validName(e.Type) || events.IsTick(e.Type) {
		return events.Event{}, errors.New("not a notification")
	}
	e.At = at
	return e, nil
}

func TestDecodeReadsWhatWasOnTheWire(t *testing.T) {
	for name, body := range captures(t) {
		got, err := Decode(body)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want, err := reference(body)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: decoded otherwise than encoding/json would (-want +got):\n%s", name, d)
		}
		if peeked, ok := Peek(body); !ok || peeked != got.Type {
			t.Errorf("%s: Peek says %q, %t; it is %q", name, peeked, ok, got.Type)
		}
		if strings.Contains(string(got.Data), "_context_") || strings.Contains(string(got.Data[:cap(got.Data)]), "_context_") {
			t.Errorf("%s: the event keeps the context", name)
		}
	}
}

func TestDecodeTakesEveryForm(t *testing.T) {
	at := time.Date(2026, 11, 22, 11, 13, 56, 52145000, time.UTC)
	inner := `{"message_id": "m-1", "event_type": "a.b", "payload": {"k": "v"}, "timestamp": "2026-11-22 11:13:56.052145"}`
	want := events.Event{ID: "m-1", Type: "a.b", At: at, Data: json.RawMessage(`{"k": "v"}`)}
	quoted, _ := json.Marshal(inner)
	for sentence, body := range map[string]string{
		"the 2.0 envelope":                      `{"oslo.version": "2.0", "oslo.message": ` + string(quoted) + `}`,
		"the message before the version":        `{"oslo.message": ` + string(quoted) + `, "oslo.version": "2.0"}`,
		"a bare notification":                   inner,
		"a bare one beside a null message":      `{"oslo.message": null, ` + inner[1:],
		"the last of two messages counts":       `{"oslo.message": "no", "oslo.message": ` + string(quoted) + `}`,
		"white space anywhere":                  " {\n\t\"oslo.message\" :\r" + string(quoted) + " } \n",
		"keys and values written with escapes":  `{"oslo\u002emessage": ` + string(quoted) + `}`,
		"the fields in another order":           `{"timestamp": "2026-11-22 11:13:56.052145", "payload": {"k": "v"}, "event_type": "a.b", "message_id": "m-1"}`,
		"a name written with escapes":           strings.Replace(inner, `"a.b"`, `"\u0061.\u0062"`, 1),
		"a big context around":                  `{"_context_service_catalog": [{"x": [1, -2.5e+3, true, false, null, "ü€😀"]}], ` + inner[1:],
		"a version that is not known, the same": `{"oslo.version": "9.9", "oslo.message": ` + string(quoted) + `}`,
	} {
		got, err := Decode([]byte(body))
		if err != nil {
			t.Errorf("%s: %v", sentence, err)
		} else if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", sentence, d)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	const secret = "gAAAAABsecret"
	bare := func(id, eventType, timestamp string) string {
		return fmt.Sprintf(`{"message_id": %s, "event_type": %s, "timestamp": %s, "_context_auth_token": %q}`, id, eventType, timestamp, secret)
	}
	const now = `"2026-11-22 11:13:56"`
	for sentence, body := range map[string]string{
		"nothing":                               ``,
		"something that is not JSON":            secret,
		"null":                                  `null`,
		"a list":                                `["` + secret + `"]`,
		"a string":                              `"` + secret + `"`,
		"a body that was cut off":               `{"oslo.version": "2.0", "oslo.message": "{\"_context_auth_token\": \"` + secret,
		"an envelope around something cut off":  `{"oslo.message": "{\"_context_auth_token\": \"` + secret + `"}`,
		"an envelope around a list":             `{"oslo.message": "[]"}`,
		"an envelope around an object":          `{"oslo.message": {"a": "` + secret + `"}}`,
		"two documents":                         bare(`"i"`, `"t"`, now) + `{}`,
		"a comma too many":                      `{"message_id": "` + secret + `",}`,
		"an RPC message":                        `{"oslo.message": "{\"method\": \"` + secret + `\", \"args\": {}}"}`,
		"no id":                                 bare(`null`, `"t"`, now),
		"an id that is a number":                bare(`7`, `"t"`, now),
		"an empty type":                         bare(`"i"`, `""`, now),
		"a type with a line break":              bare(`"i"`, `"t\nlevel=error `+secret+`"`, now),
		"a type with a space":                   bare(`"i"`, `"t `+secret+`"`, now),
		"a type that is not ASCII":              bare(`"i"`, `"tü"`, now),
		"a tick: only our own timers make them": bare(`"dispatch/00@2026-11-22T11:13:56Z"`, `"tick.dispatch"`, now),
		"a type of 256 bytes":                   bare(`"i"`, `"`+strings.Repeat("t", 256)+`"`, now),
		"no timestamp":                          bare(`"i"`, `"t"`, `null`),
		"a timestamp that is none":              bare(`"i"`, `"t"`, `"`+secret+`"`),
		"a timestamp that is a number":          bare(`"i"`, `"t"`, `1795345200`),
		"a day that does not exist":             bare(`"i"`, `"t"`, `"2026-02-30 11:13:56"`),
		"a control character in a string":       "{\"message_id\": \"a\x01\"}",
		"an escape that is none":                `{"message_id": "\x41"}`,
		"more nesting than encoding/json takes": `{"payload":` + strings.Repeat("[", wire.MaxDepth) + strings.Repeat("]", wire.MaxDepth) + "}",
		"a body over the limit":                 `{"payload": "` + strings.Repeat(secret, MaxSize/len(secret)+1) + `"}`,
	} {
		e, err := Decode([]byte(body))
		if err == nil {
			t.Errorf("%s: decoded to %q %q", sentence, e.ID, e.Type)
			continue
		}
		if strings.Contains(err.Error(), secret) || len(err.Error()) > 200 {
			t.Errorf("%s: the error shows the body: %v", sentence, err)
		}
	}
}

func TestTimestamps(t *testing.T) {
	at := time.Date(2026, 11, 22, 11, 13, 56, 0, time.UTC)
	for s, want := range map[string]time.Time{
		"2026-11-22 11:13:56.052145":          at.Add(52145 * time.Microsecond),
		"2026-11-22 11:13:56":                 at,
		"2026-11-22T11:13:56.052145":          at.Add(52145 * time.Microsecond),
		"2026-11-22T11:13:56":                 at,
		"2026-11-22T11:13:56Z":                at,
		"2026-11-22T11:13:56.5Z":              at.Add(time.Second / 2),
		"2026-11-22T12:13:56+01:00":           at,
		"2026-11-22 11:13:56+00:00":           at,
		"2026-11-22T11:13:56.270147+0000":     at.Add(270147 * time.Microsecond),
		"2026-11-22T11:13:56.000000001-00:00": at.Add(1),
	} {
		got, ok := parseTime(s)
		if !ok || !got.Equal(want) || got.Location() != time.UTC {
			t.Errorf("%s: %v %t, want %v", s, got, ok, want)
		}
	}
	for _, s := range []string{"", "now", "2026-11-22", "11:13:56", "2026-13-01 00:00:00", "2026-11-22 11:13:56 UTC", "2026-11-22 11:13:56." + strings.Repeat("0", 99)} {
		if at, ok := parseTime(s); ok {
			t.Errorf("%q is read as %v", s, at)
		}
	}
}

func TestPeekLeavesToDecodeWhatItCannotTell(t *testing.T) {
	inner := func(s string) string {
		b, _ := json.Marshal(s)
		return `{"oslo.version": "2.0", "oslo.message": ` + string(b) + `}`
	}
	for sentence, c := range map[string]struct {
		body, want string
	}{
		"the type is told":                         {inner(`{"message_id": "m", "publisher_id": "p", "event_type": "a.b", "pay`), "a.b"},
		"the type after the first kilobyte is not": {inner(`{"payload": "` + strings.Repeat("x", peekSize) + `", "event_type": "a.b"}`), ""},
		"nor that of a bare notification":          {`{"event_type": "a.b"}`, ""},
		"nor one that is not valid":                {inner(`{"event_type": "a b"}`), ""},
		"nor that inside the payload":              {inner(`{"payload": {"event_type": "a.b"}}`), ""},
		"nor any of something that is not JSON":    {`event_type`, ""},
	} {
		if got, ok := Peek([]byte(c.body)); got != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q, %t", sentence, got, ok)
		}
	}
}

// Whatever is encoded comes back the same, and as the envelope oslo writes.
func TestEncode(t *testing.T) {
	name := rapid.StringMatching(`[!-~]{1,255}`)
	rapid.Check(t, func(t *rapid.T) {
		want := events.Event{
			ID:   name.Draw(t, "id"),
			Type: name.Draw(t, "type"),
			At:   time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(t, "at")).UTC(),
		}
		if rapid.Bool().Draw(t, "has data") {
			want.Data, _ = json.Marshal(rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "data"))
		}
		body := Encode(want, rapid.String().Draw(t, "publisher"))
		got, err := Decode(body)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal(d)
		}
		var envelope struct {
			Version string `json:"oslo.version"`
			Message string `json:"oslo.message"`
		}
		if err := json.Unmarshal(body, &envelope); err != nil || envelope.Version != "2.0" || !json.Valid([]byte(envelope.Message)) {
			t.Fatalf("not the 2.0 envelope: %v", err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, body := range captures(f) {
		f.Add(body)
	}
	f.Add([]byte(`{"oslo.message": "{\"message_id\": \"\ud83d\ude00\", \"event_type\": \"\ud83d\"}"}`))
	f.Add([]byte("{\"oslo.message\": \"{\\\"payload\\\": \\\"\xff\\\"}\"}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		got, err := Decode(body)
		want, wantErr := reference(body)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("Decode says %v, encoding/json %v", err, wantErr)
		}
		if !bytes.Equal(before, body) {
			t.Fatal("the body was changed")
		}
		if err != nil {
			if len(err.Error()) > 200 {
				t.Fatalf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("otherwise than encoding/json (-want +got):\n%s", d)
		}
		// Only a type written twice can make Peek see another one.
		if peeked, ok := Peek(body); ok && peeked != got.Type && bytes.Count(body, []byte("event_type")) < 2 {
			t.Fatalf("Peek says %q, it is %q", peeked, got.Type)
		}
		again := got
		again.At = got.At.Truncate(time.Microsecond)
		again.Data = json.RawMessage(bytes.ToValidUTF8(got.Data, []byte("?")))
		if len(got.Data) == 0 {
			again.Data = nil
		}
		back, err := Decode(Encode(again, "fuzz"))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(again, back); d != "" {
			t.Fatalf("encoded and decoded again (-want +got):\n%s", d)
		}
	})
}

func BenchmarkPeek(b *testing.B) {
	body := captures(b)["nova.compute.instance.update.nova-metadata-set.json"]
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := Peek(body); !ok {
			b.Fatal("no type")
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	body := captures(b)["nova.compute.instance.update.nova-metadata-set.json"]
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(body); err != nil {
			b.Fatal(err)
		}
	}
}

// The same by encoding/json, to compare with.
func BenchmarkReference(b *testing.B) {
	body := captures(b)["nova.compute.instance.update.nova-metadata-set.json"]
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := reference(body); err != nil {
			b.Fatal(err)
		}
	}
}
