package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
)

// A Limiter limits the rate of requests to OpenStack of all processes together. It may be used
// by several goroutines.
type Limiter struct {
	rate      *redis_rate.Limiter
	perSecond int

	mu sync.Mutex
	// next is when the local pace lets the next one go; down is until when Redis
	// is not asked, because it did not answer.
	next, down time.Time
}

const (
	// paceAnswer is how long Redis may take to answer before the local pace counts.
	paceAnswer = time.Second
	// paceDown is how long Redis is left alone after that.
	paceDown = 5 * time.Second
)

// NewLimiter allows perSecond calls in any second, shared by all processes on this
// Redis; zero or less is no limit.
func NewLimiter(rdb redis.UniversalClient, perSecond int) *Limiter {
	return &Limiter{rate: redis_rate.NewLimiter(rdb), perSecond: perSecond}
}

// Wait returns when the next call may be made; the only error is that ctx ended
// first. While Redis does not answer, this process goes on by itself at half the
// pace: calls are what the cloud is there for, and the number of the other
// processes is not known.
func (l *Limiter) Wait(ctx context.Context) error {
	if l.perSecond <= 0 {
		return ctx.Err()
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		wait, local := l.ask(ctx)
		if wait > 0 {
			if err := sleep(ctx, wait); err != nil {
				return err
			}
		} else if !local {
			return ctx.Err()
		}
		if local {
			return ctx.Err()
		}
	}
}

// ask says how long to wait, and whether that is the local pace's word, which is
// final, or Redis's, which is to be asked again. A wait of 0 from Redis is a yes.
func (l *Limiter) ask(ctx context.Context) (wait time.Duration, local bool) {
	if l.isDown() {
		return l.local(), true
	}
	c, cancel := context.WithTimeout(ctx, paceAnswer)
	defer cancel()
	r, err := l.rate.Allow(c, pace(), redis_rate.PerSecond(l.perSecond))
	switch {
	case err != nil && ctx.Err() != nil:
		return 0, true // the caller gave up, not Redis
	case err != nil:
		l.leave()
		return l.local(), true
	case r.Allowed > 0:
		return 0, false
	}
	return max(r.RetryAfter, time.Millisecond), false
}

// Allow says whether something else than a call may be done now, at most perSecond
// times in any second by all processes on this Redis; zero or less is no limit. It
// does not wait. An error says that Redis did not answer, now or a moment ago, and
// comes with a yes.
func (l *Limiter) Allow(ctx context.Context, what string, perSecond int) (bool, error) {
	if perSecond <= 0 {
		return true, nil
	}
	if l.isDown() {
		return true, errors.New("limit: redis did not answer a moment ago")
	}
	c, cancel := context.WithTimeout(ctx, paceAnswer)
	defer cancel()
	r, err := l.rate.Allow(c, limit(what), redis_rate.PerSecond(perSecond))
	if err != nil {
		if ctx.Err() == nil {
			l.leave()
		}
		return true, fmt.Errorf("limit: %w", err)
	}
	return r.Allowed > 0, nil
}

// leave opens the circuit breaker: Redis is not asked for paceDown.
func (l *Limiter) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = time.Now().Add(paceDown)
}

func (l *Limiter) isDown() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Before(l.down)
}

// local takes the next place at half the pace.
func (l *Limiter) local() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.next.Before(now) {
		l.next = now
	}
	wait := l.next.Sub(now)
	l.next = l.next.Add(2 * time.Second / time.Duration(l.perSecond))
	return wait
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
