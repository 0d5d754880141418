package cloudevents

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"staffeln/events"
	"staffeln/runtime"
)

// Who sends a body that does not come is not waited for; a function that takes long
// after its body has come is.
func TestABodyThatDoesNotCome(t *testing.T) {
	slow := make(chan bool)
	f := runtime.Function{Name: "enroll", On: map[string]events.Handler{"x": func(ctx context.Context, _ events.Event) error {
		select {
		case <-slow:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}}
	server := httptest.NewServer(Handler(f, Options{Log: slog.New(slog.DiscardHandler), BodyTime: 300 * time.Millisecond}))
	defer server.Close()
	ask := func(length int, body string) string {
		c, err := net.Dial("tcp", strings.TrimPrefix(server.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: h\r\nCe-Specversion: 1.0\r\nCe-Id: 1\r\nCe-Type: x\r\nCe-Source: s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", length, body)
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err.Error()
		}
		defer res.Body.Close()
		said, _ := io.ReadAll(res.Body)
		return fmt.Sprint(res.StatusCode, " ", string(said))
	}
	if got := ask(100, "{"); !strings.Contains(got, "400") {
		t.Errorf("a body that does not come: %s", got)
	}
	answer := make(chan string)
	go func() { answer <- ask(2, "{}") }()
	time.AfterFunc(time.Second, func() { close(slow) })
	if got := <-answer; !strings.HasPrefix(got, "204") {
		t.Errorf("a function that takes longer than its body may: %s", got)
	}
}

// Large bodies are taken a few at a time: whoever sends many of them gets no more
// memory for it, and those of the usual size go by.
func TestLargeBodiesAreFewAtATime(t *testing.T) {
	full, leave := make(chan bool, largeBodies), make(chan bool)
	f := runtime.Function{Name: "enroll", On: map[string]events.Handler{"x": func(_ context.Context, e events.Event) error {
		if len(e.Data) > usualBody {
			full <- true
			<-leave
		}
		return nil
	}}}
	h := Handler(f, Options{Log: slog.New(slog.DiscardHandler)})
	ask := func(size int) *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", "/", strings.NewReader(`"`+strings.Repeat("x", size-2)+`"`))
		for name, value := range map[string]string{"Ce-Specversion": "1.0", "Ce-Id": "1", "Ce-Type": "x", "Ce-Source": "s"} {
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	answers := make(chan int, largeBodies)
	for range largeBodies {
		go func() { answers <- ask(usualBody + 1).Code }()
	}
	for range largeBodies {
		<-full
	}
	more := make(chan *httptest.ResponseRecorder, 1)
	go func() { more <- ask(usualBody + 1) }()
	select {
	case w := <-more:
		if w.Code != 429 || w.Header().Get("Retry-After") != "1" {
			t.Errorf("one more large body: %d %s", w.Code, w.Body)
		}
	case <-full:
		t.Error("one more large body was taken")
	}
	if w := ask(usualBody); w.Code != 204 {
		t.Errorf("one of the usual size: %d %s", w.Code, w.Body)
	}
	close(leave)
	for range largeBodies {
		if code := <-answers; code != 204 {
			t.Errorf("a large body that had a place: %d", code)
		}
	}
	if w := ask(usualBody + 1); w.Code != 204 {
		t.Errorf("when there is room again: %d %s", w.Code, w.Body)
	}
}
