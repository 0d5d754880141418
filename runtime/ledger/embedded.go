package ledger

import (
	"fmt"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// An Embed is a Redis inside this process, for a demo, a try or a small cloud
// without a Redis: it forgets everything with the process, and one reconcile
// rebuilds that. Claims end by the real clock, as in the real one.
type Embed struct{ m *miniredis.Miniredis }

// Embedded starts one on a free port of the loopback address.
func Embedded() (*Embed, error) {
	m := miniredis.NewMiniRedis()
	m.ClockTTL(true)
	if err := m.StartAddr("127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("embedded redis: %w", err)
	}
	return &Embed{m}, nil
}

// Addr is where it listens, host:port.
func (e *Embed) Addr() string { return e.m.Addr() }

// URL is the same for [Open], and for the processes this one starts.
func (e *Embed) URL() string { return "redis://" + e.m.Addr() }

// Client is a new client of it, for the caller to close.
func (e *Embed) Client() redis.UniversalClient {
	return redis.NewClient(&redis.Options{
		Addr:                     e.m.Addr(),
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// Close stops it; its contents are gone.
func (e *Embed) Close() { e.m.Close() }
