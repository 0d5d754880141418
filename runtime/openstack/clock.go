package openstack

import (
	"sync"
	"time"
)

// own is what the tokens tell of the service user and of the time.
type own struct {
	mu sync.Mutex
	// issued is the newest token's issued_at, by Keystone's clock; at is when it came,
	// by ours.
	issued, at time.Time
	user       string
}

func (o *own) saw(user string, issued, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if user != "" {
		o.user = user
	}
	if !issued.IsZero() {
		o.issued, o.at = issued, now
	}
}

// Clock is what time it is by Keystone's clock: the newest token's issued_at, and
// what has passed since by the monotonic clock, which a jump of our own does not
// move. It may lag by the time an answer takes, and is never ahead. ok is false
// before the first token.
func (c *Cloud) Clock() (at time.Time, ok bool) {
	c.own.mu.Lock()
	defer c.own.mu.Unlock()
	if c.own.issued.IsZero() {
		return time.Time{}, false
	}
	return c.own.issued.Add(c.opts.Now().Sub(c.own.at)), true
}

// Self is the id of the service user; "" before the first token.
func (c *Cloud) Self() string {
	c.own.mu.Lock()
	defer c.own.mu.Unlock()
	return c.own.user
}
