package policy

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"staffeln/functions/backup"
)

// within calls f as soon as there is room, and does not wait for it longer than
// until ctx ends, whatever f makes of its context. One that is not waited for any
// more keeps its room until it is over.
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
			_ = recover() // it is told by the error; the process is not to end by it
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

// A rest is what somebody gets who did not answer: it is asked again, once, when
// the rest is over, and by all only when that went well.
type rest struct {
	mu    sync.Mutex
	until time.Time // zero: it answers
}

// rests says whether it did not answer the last time.
func (r *rest) rests() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.until.IsZero()
}

// over says whether it is to be asked.
func (r *rest) over(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.until.IsZero() {
		return true
	}
	if now.Before(r.until) {
		return false
	}
	r.until = now.Add(ledgerDown) // whoever comes meanwhile does not ask
	return true
}

// heard says how that went, and whether anything is new with it.
func (r *rest) heard(now time.Time, err error) (changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.until
	if err == nil {
		r.until = time.Time{}
	} else {
		r.until = now.Add(ledgerDown)
	}
	return was.IsZero() != r.until.IsZero()
}

// askLedger hears the ledger. It says so once when it falls silent, and once when it
// is back.
func (h *handler) askLedger(ctx context.Context, id string) backup.Testimony {
	l := call(h.Ledger)
	if l == nil || !h.ledgerRest.over(h.Now()) {
		return backup.Silent
	}
	mine, cancel := context.WithTimeout(ctx, ledgerAnswer)
	defer cancel()
	found, err := within(mine, h.ledgerRoom, func(ctx context.Context) (bool, error) {
		_, ok, err := l.Find(ctx, id)
		return ok, err
	})
	if errors.Is(err, errNoRoom) || err != nil && ctx.Err() != nil {
		return backup.Silent // which says nothing of the ledger
	}
	switch changed := h.ledgerRest.heard(h.Now(), err); {
	case changed && err != nil:
		h.Log.WarnContext(ctx, "policy check goes on without the ledger", "err", err)
	case changed:
		h.Log.InfoContext(ctx, "policy check has the ledger again")
	}
	switch {
	case err != nil:
		return backup.Silent
	case found:
		return backup.Automated
	}
	return backup.Manual
}

// askCinder hears Cinder.
func (h *handler) askCinder(ctx context.Context, id string) backup.Testimony {
	c := call(h.Cloud)
	if c == nil {
		return backup.Silent
	}
	ctx, cancel := context.WithTimeout(ctx, cinderAnswer)
	defer cancel()
	b, err := within(ctx, h.cinderRoom, func(ctx context.Context) (backup.CinderBackup, error) { return c.FindBackup(ctx, id) })
	switch {
	case err == nil && b.ID == id && (b.Ours() || b.Origin == backup.OriginUnverified || slices.Contains(h.guardsNow().Users, b.Maker)):
		return backup.Automated
	case err == nil && b.ID == id && b.Metadata != nil:
		return backup.Manual
	case err != nil && backup.FaultOf(err) == backup.Gone:
		return backup.Unknown
	}
	if may, missed := h.told.may(h.Now(), "cinder"); may {
		h.Log.WarnContext(ctx, "backup not looked up for the policy check", "backup", id, "err", err, "since_last", missed)
	}
	return backup.Silent
}

// mayLookUp says whether a look-up more is within what all processes together may
// make. Where that cannot be known it is: the room for look-ups still bounds them.
func (h *handler) mayLookUp(ctx context.Context) bool {
	l := call(h.Limiter)
	if l == nil || h.Settings.Rate <= 0 || h.ledgerRest.rests() {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, ledgerAnswer)
	defer cancel()
	ok, err := within(ctx, h.ledgerRoom, func(ctx context.Context) (bool, error) { return l.Allow(ctx, "policy", h.Settings.Rate) })
	return ok || err != nil
}
