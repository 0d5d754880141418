package process

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"testing"
)

// Whoever comes while a load balancer has not yet noticed is answered, and what is
// under way is finished.
func TestServerAnswersWhileItLeaves(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	leaving, left := make(chan struct{}), make(chan struct{})
	begun, goOn := make(chan struct{}), make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/slow", func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-goOn
		_, _ = io.WriteString(w, "slow")
	})
	mux.HandleFunc("/quick", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "quick") })
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Server{Address: address, Handler: mux, Drain: 1 << 40, Log: slog.New(slog.DiscardHandler),
			Leave: func(context.Context) { close(leaving); <-left }}.Run(ctx, nil)
	}()
	get := func(path string) string {
		for {
			res, err := http.Get("http://" + address + path)
			if err != nil {
				select {
				case err := <-ended:
					t.Errorf("ended: %v", err)
					return ""
				default: // it is only coming up
					continue
				}
			}
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			return string(body)
		}
	}
	slow := make(chan string, 1)
	go func() { slow <- get("/slow") }()
	<-begun
	stop()
	<-leaving
	if got := get("/quick"); got != "quick" {
		t.Errorf("while leaving: %q", got)
	}
	close(left)
	close(goOn)
	if got := <-slow; got != "slow" {
		t.Errorf("under way: %q", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Draining has an end even if a request has none.
func TestDrainingHasAnEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	begun, never := make(chan struct{}), make(chan struct{})
	defer close(never)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	hangs := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(begun); <-never })
	go func() {
		ended <- Server{Address: address, Handler: hangs, Drain: 1, Log: slog.New(slog.DiscardHandler)}.Run(ctx, nil)
	}()
	cut := make(chan error, 1)
	go func() {
		for {
			_, err := http.Post("http://"+address, "", nil)
			if !errors.Is(err, syscall.ECONNREFUSED) { // else it is only coming up
				cut <- err
				return
			}
		}
	}()
	<-begun
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := <-cut; err == nil {
		t.Error("an answer was made up")
	}
}

// A process keeps files for its own connections: those who come when there is no
// room wait until somebody goes.
func TestConnectionsAreBounded(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &bounded{Listener: inner, room: make(chan struct{}, 2)}
	taken := make(chan net.Conn)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(taken)
				return
			}
			taken <- c
		}
	}()
	for range 3 {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	first, second := <-taken, <-taken
	select {
	case <-taken:
		t.Error("a third is taken")
	default:
	}
	if len(l.room) != 2 {
		t.Errorf("%d are there", len(l.room))
	}
	_ = first.Close()
	_ = first.Close() // one that is closed twice makes room once
	third := <-taken
	_ = second.Close()
	_ = third.Close()
	_ = inner.Close()
	<-taken
	if n := mostConnections(); n < 64 || n > 10_000 {
		t.Errorf("%d connections", n)
	}
}
