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
