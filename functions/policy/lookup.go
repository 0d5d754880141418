package policy

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"staffeln/functions/backup"
)

// within calls f as soon as there is room. It returns when ctx ends, even if f ignores its
// context; f keeps its room until it returns.
func within[T any](ctx context.Context, room chan struct{}, f func(context.Context) (T, error)) (T, error) {
	var none T
	select {
	case room <- struct{}{}:
	case <-ctx.Done():
		return none, errNoRoom
	}
	type answer struct {
		t   T
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		defer func() { <-room }()
		a := answer{err: errors.New("it panicked")}
		defer func() {
			_ = recover() // the error reports it, and the process goes on
			answered <- a
		}()
		a.t, a.err = f(ctx)
	}()
	select {
	case a := <-answered:
		return a.t, a.err
	case <-ctx.Done():
		return none, errLate
	}
}

var (
	errNoRoom = errors.New("too many at once")
	errLate   = errors.New("no answer in time")
)

// A breaker is a circuit breaker: after a failure nobody asks for ledgerDown, then one caller
// probes; when that works, everybody asks again.
type breaker struct {
	mu    sync.Mutex
	until time.Time // zero: closed
}

// open says whether the last call failed.
func (b *breaker) open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.until.IsZero()
}

// may says whether the caller may ask, possibly as the one that probes.
func (b *breaker) may(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.until.IsZero() {
		return true
	}
	if now.Before(b.until) {
		return false
	}
	b.until = now.Add(ledgerDown) // others wait for the result of the probe
	return true
}

// report takes the result of a call. changed says whether the breaker opened or closed.
func (b *breaker) report(now time.Time, err error) (changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.until
	if err == nil {
		b.until = time.Time{}
	} else {
		b.until = now.Add(ledgerDown)
	}
	return was.IsZero() != b.until.IsZero()
}

// askLedger looks a backup up in the ledger. It logs once when the ledger stops answering, and
// once when it answers again.
func (h *handler) askLedger(ctx context.Context, id string) backup.Lookup {
	l := call(h.Ledger)
	if l == nil || !h.ledgerBreaker.may(h.Now()) {
		return backup.NoAnswer
	}
	mine, cancel := context.WithTimeout(ctx, ledgerAnswer)
	defer cancel()
	found, err := within(mine, h.ledgerRoom, func(ctx context.Context) (bool, error) {
		_, ok, err := l.Find(ctx, id)
		return ok, err
	})
	if errors.Is(err, errNoRoom) || err != nil && ctx.Err() != nil {
		return backup.NoAnswer // not the ledger's fault
	}
	switch changed := h.ledgerBreaker.report(h.Now(), err); {
	case changed && err != nil:
		h.Log.WarnContext(ctx, "policy check goes on without the ledger", "err", err)
	case changed:
		h.Log.InfoContext(ctx, "policy check has the ledger again")
	}
	switch {
	case err != nil:
		return backup.NoAnswer
	case found:
		return backup.Automated
	}
	return backup.Manual
}

// askCinder looks a backup up in Cinder.
func (h *handler) askCinder(ctx context.Context, id string) backup.Lookup {
	c := call(h.Cloud)
	if c == nil {
		return backup.NoAnswer
	}
	ctx, cancel := context.WithTimeout(ctx, cinderAnswer)
	defer cancel()
	b, err := within(ctx, h.cinderRoom, func(ctx context.Context) (backup.CinderBackup, error) {
		return c.FindBackup(ctx, id)
	})
	shown := err == nil && b.ID == id
	switch {
	case shown && (b.Ours() || b.Origin == backup.OriginUnverified || slices.Contains(h.rules().Users, b.Maker)):
		return backup.Automated
	case shown && b.Metadata != nil:
		return backup.Manual
	case err != nil && backup.FaultOf(err) == backup.Gone:
		return backup.Unknown
	}
	if may, missed := h.warnings.may(h.Now(), "cinder"); may {
		h.Log.WarnContext(ctx, "backup not looked up for the policy check", "backup", id, "err", err, "since_last", missed)
	}
	return backup.NoAnswer
}

// mayLookUp says whether the rate limit of all processes allows another look-up. It does if
// Redis cannot be asked: the room for look-ups still bounds them.
func (h *handler) mayLookUp(ctx context.Context) bool {
	l := call(h.Limiter)
	if l == nil || h.Settings.Rate <= 0 || h.ledgerBreaker.open() {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, ledgerAnswer)
	defer cancel()
	ok, err := within(ctx, h.ledgerRoom, func(ctx context.Context) (bool, error) {
		return l.Allow(ctx, "policy", h.Settings.Rate)
	})
	return ok || err != nil
}
