package ledger

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
)

// A gate holds up what goes to Redis until it is opened, and notes it.
type gate struct {
	asked chan int // how many commands
	open  chan error
}

func (g gate) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (g gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		g.asked <- 1
		if err := <-g.open; err != nil {
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}

func (g gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		g.asked <- len(cmds)
		if err := <-g.open; err != nil {
			for _, c := range cmds {
				c.SetErr(err)
			}
			return err
		}
		return next(ctx, cmds)
	}
}

// What is asked for while a read is on its way goes together afterwards, and
// everybody gets the answer to their own question.
func TestLookupsShareARoundTrip(t *testing.T) {
	for _, home := range homes {
		t.Run(home.name, func(t *testing.T) {
			rdb, ctx := home.open(t), t.Context()
			for n := range 40 { // keys of several slots
				if err := rdb.HSet(ctx, fmt.Sprint("k", n), "f", n).Err(); err != nil {
					t.Fatal(err)
				}
			}
			l := &lookup{rdb: rdb}
			var all sync.WaitGroup
			for n := range 40 {
				all.Go(func() {
					for range 50 {
						if got, err := l.get(ctx, fmt.Sprint("k", n), "f"); err != nil || got != fmt.Sprint(n) {
							t.Errorf("k%d is %q, %v", n, got, err)
						}
						if _, err := l.get(ctx, fmt.Sprint("k", n), "none"); !errors.Is(err, redis.Nil) {
							t.Errorf("a field that is not there: %v", err)
						}
					}
				})
			}
			all.Wait()
			if len(l.next()) > 0 {
				t.Error("somebody is left waiting")
			}
		})
	}
}

func TestLookupsThatWait(t *testing.T) {
	e, err := Embedded()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	rdb, g := e.Client(), gate{make(chan int), make(chan error)}
	defer rdb.Close()
	if err := rdb.HSet(t.Context(), "k", "f", "v").Err(); err != nil {
		t.Fatal(err)
	}
	rdb.AddHook(g)
	l := &lookup{rdb: rdb}
	answers := make(chan error)
	get := func(ctx context.Context) {
		value, err := l.get(ctx, "k", "f")
		if err == nil && value != "v" {
			err = fmt.Errorf("value %q", value)
		}
		answers <- err
	}
	waiting := func(n int) {
		t.Helper()
		for {
			l.mu.Lock()
			got := len(l.waiting)
			l.mu.Unlock()
			if got == n {
				return
			}
			if t.Context().Err() != nil {
				t.Fatalf("%d wait, want %d", got, n)
			}
		}
	}

	go get(t.Context())
	if n := <-g.asked; n != 1 {
		t.Fatalf("the first asks for %d", n)
	}
	impatient, leave := context.WithCancel(t.Context())
	go get(impatient)
	waiting(1)
	leave()
	if err := <-answers; !errors.Is(err, context.Canceled) {
		t.Errorf("one whose context ended does not wait: %v", err)
	}
	go get(t.Context())
	go get(t.Context())
	waiting(3)
	g.open <- nil
	if err := <-answers; err != nil {
		t.Errorf("the first: %v", err)
	}
	if n := <-g.asked; n != 3 {
		t.Errorf("%d of those that waited go together, want all 3", n)
	}
	trouble := errors.New("trouble")
	g.open <- trouble
	for range 2 {
		if err := <-answers; !errors.Is(err, trouble) {
			t.Errorf("the trouble of a round trip is everybody's: %v", err)
		}
	}
	go get(t.Context())
	<-g.asked
	g.open <- nil
	if err := <-answers; err != nil {
		t.Errorf("the next begins anew: %v", err)
	}
}
