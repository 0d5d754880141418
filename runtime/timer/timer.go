// Package timer turns the passing of time into events.
package timer

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"staffeln/events"
)

// A Timer sets a function off at every whole multiple of an interval.
type Timer struct {
	// Name is that of the function: its ticks have the type "tick.NAME".
	Name string
	// Every is the interval, at least a second. Ticks are at its whole multiples in
	// UTC, whenever the process started: 10m means :00, :10, :20.
	Every time.Duration
	// Shards is how many parts the work has; each gets a tick of its own. 0 is 1.
	Shards int
	// AtStart says that the multiple just gone is delivered when the runner starts,
	// instead of waiting for the next one.
	AtStart bool
}

// A Claimer lets one of many processes go on.
type Claimer interface {
	// Claim is true for the first process that asks for the name, and false for all
	// others until ttl is over. With an error nobody knows.
	Claim(ctx context.Context, name string, ttl time.Duration) (bool, error)
}

// A Runner delivers the ticks of timers. Fill it in and call [Runner.Run] once.
type Runner struct {
	Timers []Timer
	// Claims lets one replica go on with a tick; nil where there is one process.
	Claims Claimer
	// Deliver takes the ticks, as [staffeln/runtime.Router.Deliver] does. Its answer
	// is not looked at, for a tick is never repeated: the next one sees the same
	// work. Whoever invokes functions observes and logs.
	Deliver func(ctx context.Context, e events.Event) error
	Log     *slog.Logger
	// Skipped is told of every tick that was not delivered though it was this
	// process's turn: why is [Busy] or [Unclaimed]. May be nil.
	Skipped func(timer string, shard int, why string)
	// Parallel is how many shards of one timer are under way at once; 0 is 4.
	Parallel int
	// Drain is how long deliveries under way may go on when the context of Run has
	// ended; after that their own context ends too.
	Drain time.Duration
	// Order returns the order in which this process starts the n shards of a timer;
	// nil for a random one, so that replicas take different shards first.
	Order func(n int) []int
}

// Why a tick was skipped.
const (
	Busy      = "busy"      // the tick before is still under way, or still waiting to be
	Unclaimed = "unclaimed" // the claim could not be made: Redis is out of reach
)

// Run delivers ticks until ctx ends, and returns when the last delivery is over.
// It errs at once, delivering nothing, when a timer cannot be.
//
// A multiple that goes by unseen (the machine slept, the clock was put forward)
// is not made up for. One timer and shard is never delivered twice at once by this
// process: while a tick waits or is under way, the next one replaces it or is
// skipped.
func (r *Runner) Run(ctx context.Context) error {
	for _, t := range r.Timers {
		if t.Name == "" || t.Every < time.Second || t.Every%time.Second != 0 || t.Shards < 0 {
			return fmt.Errorf("timer %.80q every %s in %d shards: want a name, whole seconds, and no negative shards", t.Name, t.Every, t.Shards)
		}
	}
	// Deliveries outlive ctx, by Drain at most.
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var all sync.WaitGroup
	for _, t := range r.Timers {
		q := r.queue(t)
		all.Go(func() { q.plan(ctx) })
		for range min(q.shards(), positive(r.Parallel, 4)) {
			all.Go(func() { q.work(ctx, working) })
		}
	}
	<-ctx.Done()
	giveUp := time.AfterFunc(r.Drain, stop)
	defer giveUp.Stop()
	all.Wait()
	return nil
}

func positive(n, otherwise int) int {
	if n > 0 {
		return n
	}
	return otherwise
}

// A queue holds the ticks of one timer that wait to be delivered: at most one of
// each shard.
type queue struct {
	r     *Runner
	timer Timer
	order []int

	mu      sync.Mutex
	waiting []int             // shards, first come first served
	slot    map[int]time.Time // of the waiting ones
	busy    map[int]bool      // shards under way
	lost    bool              // the last claim could not be made
	more    chan struct{}     // has room for one; closed by nobody
}

func (r *Runner) queue(t Timer) *queue {
	q := &queue{r: r, timer: t, slot: map[int]time.Time{}, busy: map[int]bool{}}
	if r.Order != nil {
		q.order = r.Order(q.shards())
	} else {
		q.order = rand.Perm(q.shards())
	}
	q.more = make(chan struct{}, q.shards())
	return q
}

func (q *queue) shards() int { return positive(q.timer.Shards, 1) }

// plan puts ticks into the queue as their time comes.
func (q *queue) plan(ctx context.Context) {
	// Waking at least this often notices a clock that was put forward.
	const nap = 30 * time.Second
	every := q.timer.Every
	next := time.Now().Truncate(every)
	if !q.timer.AtStart {
		next = next.Add(every)
	}
	for {
		now := time.Now().Round(0) // without the monotonic clock: ticks go by the wall
		switch {
		case !now.Before(next):
			slot := now.Truncate(every)
			q.add(slot)
			next = slot.Add(every)
			continue
		case next.Sub(now) > every: // the clock was put back
			next = now.Truncate(every).Add(every)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(min(next.Sub(now), nap)):
		}
	}
}

// add makes slot the tick to deliver for every shard that is not under way.
func (q *queue) add(slot time.Time) {
	q.mu.Lock()
	var skipped []int
	for _, shard := range q.order {
		_, waits := q.slot[shard]
		if q.busy[shard] || waits {
			skipped = append(skipped, shard)
		}
		switch {
		case q.busy[shard]:
		case waits: // keeps its place, so that nobody's turn never comes
			q.slot[shard] = slot
		default:
			q.slot[shard] = slot
			q.waiting = append(q.waiting, shard)
			q.more <- struct{}{} // a token for each that waits: there is room
		}
	}
	q.mu.Unlock()
	for _, shard := range skipped {
		q.skip(shard, Busy)
	}
	// Another one comes first next time: where the cloud has room for few, whoever is
	// asked first takes it.
	q.order = append(q.order[1:], q.order[0])
}

// work delivers what waits until ctx ends.
func (q *queue) work(ctx, working context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.more:
		}
		if ctx.Err() != nil {
			return
		}
		q.mu.Lock()
		shard := q.waiting[0]
		q.waiting = q.waiting[1:]
		slot := q.slot[shard]
		delete(q.slot, shard)
		q.busy[shard] = true
		q.mu.Unlock()

		e := events.NewTick(q.timer.Name, shard, slot)
		if q.claim(working, shard, e.ID) {
			_ = q.r.Deliver(working, e) // see Runner.Deliver
		}

		q.mu.Lock()
		delete(q.busy, shard)
		q.mu.Unlock()
	}
}

// claim says whether this process is to deliver the tick.
func (q *queue) claim(ctx context.Context, shard int, id string) bool {
	if q.r.Claims == nil {
		return true
	}
	// A replica may come to the tick as late as the one after it, and its clock may
	// be off; within this time it finds the claim still there.
	ours, err := q.r.Claims.Claim(ctx, id, max(2*q.timer.Every, time.Minute))
	q.mu.Lock()
	was := q.lost
	q.lost = err != nil
	q.mu.Unlock()
	switch {
	case err != nil && !was: // and not again for every tick to come
		q.r.Log.ErrorContext(ctx, "ticks are not delivered while they cannot be claimed", "function", q.timer.Name, "event", id, "err", err)
	case err == nil && was:
		q.r.Log.InfoContext(ctx, "ticks can be claimed again", "function", q.timer.Name, "event", id)
	}
	if err != nil {
		q.skip(shard, Unclaimed)
	}
	return ours && err == nil
}

func (q *queue) skip(shard int, why string) {
	if q.r.Skipped != nil {
		q.r.Skipped(q.timer.Name, shard, why)
	}
}
