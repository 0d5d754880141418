package process

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func aProcess(t *testing.T, environ ...string) *Process {
	t.Helper()
	s, err := Read(append(environ, credentials...))
	if err != nil {
		t.Fatal(err)
	}
	return New(s, slog.New(slog.DiscardHandler))
}

func get(h http.Handler, method, path string) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	body, _ := io.ReadAll(w.Result().Body)
	return w.Code, strings.TrimSpace(string(body))
}

func TestReadiness(t *testing.T) {
	well := func(context.Context) error { return nil }
	ill := func(context.Context) error { return errors.New("marked-secret") }
	hangs := func(context.Context) error { select {} }
	for _, tc := range []struct {
		name   string
		begin  func(*Front)
		status int
		want   string
	}{
		{"not connected yet", func(*Front) {}, 503, `{"process":"starting"}`},
		{"nothing is needed", func(f *Front) { f.Begin() }, 200, `{}`},
		{"all well", func(f *Front) { f.Begin(Check{"redis", true, well}) }, 200, `{"redis":"ok"}`},
		{"something needed is down", func(f *Front) { f.Begin(Check{"redis", true, ill}) }, 503, `{"redis":"down"}`},
		{"something that helps is down", func(f *Front) { f.Begin(Check{"redis", true, well}, Check{"amqp", false, ill}) }, 200, `{"amqp":"down","redis":"ok"}`},
		{"something that helps hangs", func(f *Front) { f.Begin(Check{"redis", false, hangs}) }, 200, `{"redis":"down"}`},
		{"draining", func(f *Front) { f.Begin(Check{"redis", true, well}); f.Leave(t.Context(), 0) }, 503, `{"process":"draining","redis":"ok"}`},
		{"draining before it began", func(f *Front) { f.Leave(t.Context(), 1<<62) }, 503, `{"process":"draining"}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := aProcess(t).Front
			tc.begin(f)
			for _, path := range []string{"/readyz", "/_/ready"} {
				if status, body := get(f, "GET", path); status != tc.status || body != tc.want {
					t.Errorf("%s: %d %s, want %d %s", path, status, body, tc.status, tc.want)
				}
			}
			if status, body := get(f, "GET", "/healthz"); status != 200 || body != "ok" {
				t.Errorf("health: %d %s", status, body)
			}
		})
	}
}

// The log says once which checks fail, and once that they pass again.
func TestReadinessIsLoggedWhenItChanges(t *testing.T) {
	var log bytes.Buffer
	f := &Front{log: slog.New(slog.NewTextHandler(&log, nil))}
	var err error
	f.Begin(Check{"redis", true, func(context.Context) error { return err }})
	for _, err = range []error{nil, errors.New("dial tcp: refused"), errors.New("dial tcp: timeout"), nil, nil} {
		get(f, "GET", "/readyz")
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "redis: dial tcp: refused") || !strings.Contains(lines[1], "pass again") {
		t.Errorf("%q", lines)
	}
}

// What comes before a function is connected is to come again.
func TestTheFrontWithoutAFunctionAsksToComeAgain(t *testing.T) {
	f := aProcess(t).Front
	f.Handle(nil, true)
	w := httptest.NewRecorder()
	f.ServeHTTP(w, httptest.NewRequest("POST", "/", nil))
	if w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Error(w.Code, w.Header())
	}
	if status, _ := get(f, "GET", "/healthz"); status != 200 {
		t.Error(status)
	}
}

// oslo.policy follows redirects, and reads nothing but the body: there are none, and
// nothing but the check answers with True.
func TestTheFrontTakesPathsAsTheyAre(t *testing.T) {
	f := aProcess(t).Front
	for _, tc := range []struct {
		method, path string
		status       int
	}{
		{"POST", "/v1/backup", 401},
		{"POST", "//v1/backup", 404},
		{"POST", "/v1/backup/", 404},
		{"GET", "/v1/backup", 405},
		{"GET", "//healthz", 404},
		{"GET", "/healthz/", 404},
		{"GET", "/./readyz", 404},
		{"POST", "/healthz", 404},
		{"GET", "/metrics", 404},
		{"GET", "/", 404},
	} {
		if status, body := get(f, tc.method, tc.path); status != tc.status || strings.Contains(body, "True") {
			t.Errorf("%s %s: %d %s, want %d", tc.method, tc.path, status, body, tc.status)
		}
	}
}
