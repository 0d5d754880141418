package simulate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// A Soak plays one history after the other.
type Soak struct {
	// Seed is the first history's number, Histories how many there are; 0 for as many
	// as there is time for.
	Seed      uint64
	Histories int
	// Workers is how many are played at once, 1 at least.
	Workers int
	// Redis is the address of a Redis with a database for each worker; "" for an
	// embedded one each.
	Redis string
	// Out is told how it goes, every now and then.
	Out io.Writer

	mu     sync.Mutex
	next   uint64
	tally  Tally
	played int
	broken []uint64
}

// mostBroken ends a soak: whatever breaks so many histories has one cause.
const mostBroken = 20

// soakLimit is how long one history may take before it counts as one that hangs.
const soakLimit = 5 * time.Minute

// Run plays until the histories are over, or ctx ends. The error counts those that
// broke a promise; each was written to Out with its seed and as short as it goes.
func (s *Soak) Run(ctx context.Context) error {
	start := time.Now()
	done := make(chan struct{})
	var all sync.WaitGroup
	for worker := range max(s.Workers, 1) {
		all.Go(func() { s.work(ctx, worker) })
	}
	go func() { all.Wait(); close(done) }()
	ticker := time.NewTicker(time.Minute)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.mu.Lock()
			fmt.Fprintf(s.Out, "%s: %d histories, %d broke a promise\n", time.Since(start).Round(time.Second),
				s.played, len(s.broken))
			s.mu.Unlock()
			continue
		case <-done:
		}
		break
	}
	s.summary(time.Since(start))
	if len(s.broken) > 0 {
		return fmt.Errorf("%d of %d histories broke a promise: seeds %d", len(s.broken), s.played, s.broken)
	}
	return nil
}

func (s *Soak) work(ctx context.Context, worker int) {
	o := Options{}
	if s.Redis != "" {
		o.Redis = fmt.Sprintf("%s/%d", s.Redis, worker)
	}
	for ctx.Err() == nil {
		s.mu.Lock()
		seed := s.Seed + s.next
		over := s.Histories > 0 && s.next >= uint64(s.Histories) || len(s.broken) >= mostBroken
		s.next++
		s.mu.Unlock()
		if over {
			return
		}
		h := Draw(seed)
		limited, cancel := context.WithTimeout(ctx, soakLimit)
		tally, err := h.Play(limited, o)
		cancel()
		if ctx.Err() != nil {
			return // it was not played to its end
		}
		s.mu.Lock()
		s.played++
		s.tally.Add(tally)
		if err != nil {
			s.broken = append(s.broken, seed)
		}
		s.mu.Unlock()
		if err == nil {
			continue
		}
		fmt.Fprintf(s.Out, "seed %d: %s\n", seed, firstLines(err.Error(), 12))
		if b, ok := errors.AsType[*Broken](err); ok {
			limited, cancel := context.WithTimeout(ctx, soakLimit)
			fmt.Fprintf(s.Out, "seed %d, made short:\n%s\n", seed, Shrink(limited, h, b.Promise, o))
			cancel()
		}
	}
}

func (s *Soak) summary(took time.Duration) {
	t := s.tally
	fmt.Fprintf(s.Out, "%d histories in %s: %.1f years of clouds, %d looks of every function, %d backups, "+
		"%d of them removed, %d digests; %d backups of tenants that carried our metadata. "+
		"%d histories broke a promise.\nFaults:\n",
		s.played, took.Round(time.Second), t.Years, t.Ticks, t.Backups,
		t.Removals, t.Digests, t.Forged, len(s.broken))
	for _, kind := range Kinds() {
		fmt.Fprintf(s.Out, "  %-26s %8d\n", kind, t.Faults[kind])
	}
}

func firstLines(text string, n int) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[:min(n, len(lines))], "\n")
}
