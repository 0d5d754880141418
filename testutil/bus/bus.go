// Package bus is a message broker in memory, for one process that needs none
// outside: it acknowledges, repeats and sets aside as the consumer in runtime/amqp
// does.
package bus

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"staffeln/events"
	"staffeln/events/oslo"
)

// Options set up a [Bus]. Deliver is needed, the rest has defaults.
type Options struct {
	// Deliver takes the events, as [staffeln/runtime.Router.Deliver] does.
	Deliver func(ctx context.Context, e events.Event) error
	// Limit is how many messages wait at most; above it the oldest goes, as with
	// x-overflow=drop-head. 0 is 10,000.
	Limit int
	// Attempts is how often a message is delivered before it is set aside. 0 is 10.
	Attempts int
	// Backoff is how long a message waits after its nth failed delivery, from 1,
	// where the function did not ask for a time of its own; nil doubles from 1s to 5m.
	Backoff func(n int) time.Duration
	// Workers is how many deliveries [Bus.Run] has under way at once. 0 is 4.
	Workers int
	// Now is the clock of the backoff; nil is the real one.
	Now func() time.Time
	// Count is told what became of each message: "done", "retry", "dead" or
	// "overflow". May be nil.
	Count func(outcome string)
	// Log is told of dead letters and overflow; nil is slog.Default.
	Log *slog.Logger
}

// A Letter is a message that was set aside.
type Letter struct {
	// Event is the decoded message; zero where it could not be decoded.
	Event events.Event
	// Body is what was published; nil for [Bus.PublishEvent].
	Body []byte
	// Attempts is how often it was delivered.
	Attempts int
	// Why is the last answer, or what is wrong with the body.
	Why error
}

// ErrDrained is the answer to whoever publishes to a bus that is drained.
var ErrDrained = errors.New("the bus takes no more messages")

// A Bus is a queue of messages with their retries and dead letters. Make one
// with [New].
type Bus struct {
	o Options

	mu       sync.Mutex
	ready    []*message // first come first served
	retries  retries    // the earliest due on top
	dead     []Letter
	seq      uint64 // of the newest message
	underWay int
	lost     int // to overflow, since there was last room
	drained  bool
	over     bool          // Run is to return
	changed  chan struct{} // closed, and made anew, at every change
}

type message struct {
	Letter
	seq uint64
	due time.Time // of a retry
}

// retries is a heap of messages by the time they are due.
type retries []*message

func (r retries) Len() int { return len(r) }
func (r retries) Less(i, j int) bool {
	if c := r[i].due.Compare(r[j].due); c != 0 {
		return c < 0
	}
	return r[i].seq < r[j].seq
}
func (r retries) Swap(i, j int) { r[i], r[j] = r[j], r[i] }
func (r *retries) Push(m any)   { *r = append(*r, m.(*message)) }
func (r *retries) Pop() any {
	last := len(*r) - 1
	m := (*r)[last]
	(*r)[last] = nil
	*r = (*r)[:last]
	return m
}

// New returns a bus that delivers nothing until it is run, flushed or drained.
func New(o Options) *Bus {
	if o.Limit <= 0 {
		o.Limit = 10_000
	}
	if o.Attempts <= 0 {
		o.Attempts = 10
	}
	if o.Workers <= 0 {
		o.Workers = 4
	}
	if o.Backoff == nil {
		o.Backoff = doubling
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Count == nil {
		o.Count = func(string) {}
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Bus{o: o, changed: make(chan struct{})}
}

// doubling waits 1s, 2s, 4s and so on up to 5m.
func doubling(n int) time.Duration {
	const most = 5 * time.Minute
	if n > 9 { // 2^9 s is more than that
		return most
	}
	return min(time.Second<<(n-1), most)
}

// Publish takes a message body as it would come from a broker: an oslo envelope.
// One that cannot be decoded becomes a dead letter. It errs with [ErrDrained],
// never because the bus is full.
func (b *Bus) Publish(body []byte) error {
	e, err := oslo.Decode(body)
	return b.publish(Letter{Event: e, Body: slices.Clone(body)}, err)
}

// PublishEvent takes an event that needs no decoding.
func (b *Bus) PublishEvent(e events.Event) error { return b.publish(Letter{Event: e}, nil) }

func (b *Bus) publish(letter Letter, undecodable error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.drained {
		return ErrDrained
	}
	if undecodable != nil {
		letter.Why = undecodable
		b.bury(letter)
		return nil
	}
	b.seq++
	b.ready = append(b.ready, &message{Letter: letter, seq: b.seq})
	b.trim()
	b.wake()
	return nil
}

// trim drops the oldest messages above the limit.
func (b *Bus) trim() {
	if len(b.ready)+len(b.retries) <= b.o.Limit {
		b.lost = 0
		return
	}
	for len(b.ready)+len(b.retries) > b.o.Limit {
		if len(b.ready) > 0 {
			b.ready[0] = nil
			b.ready = b.ready[1:]
		} else {
			heap.Pop(&b.retries)
		}
		if b.lost == 0 { // once, not for every message of a flood
			b.o.Log.Error("bus is full: the oldest messages go", "limit", b.o.Limit)
		}
		b.lost++
		b.o.Count("overflow")
	}
}

// bury sets a message aside.
func (b *Bus) bury(letter Letter) {
	b.o.Log.Error("message set aside", "event", letter.Event.ID, "type", letter.Event.Type, "attempts",
		letter.Attempts, "err", letter.Why)
	b.o.Count("dead")
	b.dead = append(b.dead, letter)
	if over := len(b.dead) - b.o.Limit; over > 0 {
		b.dead = slices.Delete(b.dead, 0, over)
	}
}

func (b *Bus) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// take removes the next message that is due and counts it as under way; nil where
// there is none.
func (b *Bus) take() *message {
	var m *message
	switch {
	case len(b.retries) > 0 && !b.retries[0].due.After(b.o.Now()):
		m = heap.Pop(&b.retries).(*message)
	case len(b.ready) > 0:
		m, b.ready[0] = b.ready[0], nil
		b.ready = b.ready[1:]
	default:
		return nil
	}
	b.underWay++
	return m
}

// deliver delivers one message and does what its answer says.
func (b *Bus) deliver(ctx context.Context, m *message) {
	m.Attempts++
	m.Why = b.o.Deliver(ctx, m.Event.Heard(b.o.Now()))
	outcome, wait := events.Judge(m.Why)

	b.mu.Lock()
	defer b.mu.Unlock()
	b.underWay--
	switch {
	case outcome == events.Done:
		b.o.Count("done")
	case outcome == events.Retry && ctx.Err() != nil: // not its fault
		m.Attempts--
		b.retry(m, 0)
	case outcome == events.Retry && m.Attempts < b.o.Attempts:
		if wait <= 0 {
			wait = b.o.Backoff(m.Attempts)
		}
		b.o.Count("retry")
		b.retry(m, wait)
	case outcome == events.Retry:
		m.Why = fmt.Errorf("given up after %d attempts: %w", m.Attempts, m.Why)
		b.bury(m.Letter)
	default:
		b.bury(m.Letter)
	}
	b.wake()
}

func (b *Bus) retry(m *message, wait time.Duration) {
	m.due = b.o.Now().Add(wait)
	heap.Push(&b.retries, m)
	b.trim()
}

// Run delivers messages until ctx ends or the bus is drained, and returns when
// the last delivery is over. The end of ctx is that of the deliveries' context,
// too: to let them finish, call [Bus.Drain] first.
func (b *Bus) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for range b.o.Workers {
		all.Go(func() {
			for b.next(ctx) {
			}
		})
	}
	all.Wait()
	return nil
}

// next delivers one message, or waits until there may be one; false when it is
// time to go.
func (b *Bus) next(ctx context.Context) bool {
	b.mu.Lock()
	if ctx.Err() != nil || b.over {
		b.mu.Unlock()
		return false
	}
	if m := b.take(); m != nil {
		b.mu.Unlock()
		b.deliver(ctx, m)
		return true
	}
	changed := b.changed
	var due <-chan time.Time
	if len(b.retries) > 0 {
		due = time.After(b.retries[0].due.Sub(b.o.Now()))
	}
	b.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-changed:
	case <-due:
	}
	return true
}

// Flush delivers, on the caller's goroutine and in order, everything that is due
// now, also what comes in meanwhile, and returns how many deliveries that were.
// What waits for a retry later than now stays: see [Bus.Next]. It errs only when
// ctx ends.
func (b *Bus) Flush(ctx context.Context) (int, error) {
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		b.mu.Lock()
		m := b.take()
		b.mu.Unlock()
		if m == nil {
			return n, nil
		}
		b.deliver(ctx, m)
	}
}

// Drain takes no more messages, delivers what is due, waits for what is under way,
// and makes [Bus.Run] return. What waits for a retry is lost, as is what is left
// when ctx ends; it says how much that was.
func (b *Bus) Drain(ctx context.Context) error {
	b.mu.Lock()
	b.drained = true
	b.mu.Unlock()
	_, err := b.Flush(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	for err == nil && b.underWay > 0 {
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-changed:
		}
		b.mu.Lock()
	}
	b.over = true
	b.wake()
	if left := len(b.ready) + len(b.retries) + b.underWay; left > 0 {
		return errors.Join(fmt.Errorf("%d messages are not delivered", left), err)
	}
	return err
}

// Pending is how many messages wait for delivery, and how many of those for a retry.
func (b *Bus) Pending() (all, retries int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.ready) + len(b.retries), len(b.retries)
}

// Next is when the earliest waiting message is due, which is now for one that was
// never tried; false where none waits. A clock that is driven goes there.
func (b *Bus) Next() (time.Time, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch now := b.o.Now(); {
	case len(b.ready) > 0:
		return now, true
	case len(b.retries) > 0:
		return b.retries[0].due, true
	}
	return time.Time{}, false
}

// Dead returns the dead letters, oldest first; at most Limit are kept.
func (b *Bus) Dead() []Letter {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.dead)
}
