// Package process is what both mains share: it reads the settings, connects to Redis and
// OpenStack, builds the functions on them, and serves HTTP until it is told to stop. The
// local runtime has all functions, a container serves one.
package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"staffeln/functions"
	"staffeln/functions/backup"
	"staffeln/functions/policy"
	"staffeln/functions/report"
	"staffeln/functions/report/words"
	"staffeln/runtime"
	"staffeln/runtime/ledger"
	"staffeln/runtime/metrics"
	"staffeln/runtime/openstack"
)

// A Process has the connections, and the functions that use them. Make one with [New].
type Process struct {
	Settings Settings
	// Front and Policy are there from the start, the rest as soon as it is connected.
	Front   *Front
	Policy  runtime.Function
	Ledger  *ledger.Ledger
	Redis   redis.UniversalClient
	Cloud   *openstack.Cloud
	Metrics *metrics.Metrics
	// Mail is what [Process.Build] gives to the functions; nil for what the settings say.
	Mail report.Mail
	// MailTimeout is how long sending one mail may take; zero is 30 s. Patience is how long a
	// digest waits for open runs; zero is 2 h.
	MailTimeout, Patience time.Duration

	Functions []runtime.Function
	Log       *slog.Logger

	embedded *ledger.Embed
	// What the policy check may ask, as soon as it is connected.
	late struct {
		ledger  atomic.Pointer[ledger.Ledger]
		limiter atomic.Pointer[ledger.Limiter]
		cloud   atomic.Pointer[openstack.Cloud]
	}
}

// New returns a process that is connected to nothing. Its front, and behind it the policy
// check, can be served at once.
func New(s Settings, log *slog.Logger) *Process {
	p := &Process{Settings: s, Log: log, Metrics: metrics.New()}
	p.Policy = p.policy()
	p.Front = &Front{next: p.Policy.HTTP, log: log}
	return p
}

// Opened returns a process that is connected to Redis, or an error.
func Opened(ctx context.Context, s Settings, log *slog.Logger) (*Process, error) {
	p := New(s, log)
	if err := p.ConnectRedis(ctx); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// policyRate is how many look-ups a second the policy checks of all processes make together.
// Cinder's own questions hold the whole backup and need none, so this bounds strangers.
const policyRate = 50

// policy builds the policy check, which goes on without what is not connected.
func (p *Process) policy() runtime.Function {
	s := p.Settings
	return functions.Policy(&policy.Function{
		Ledger: func() policy.Ledger {
			if l := p.late.ledger.Load(); l != nil {
				return l
			}
			return nil
		},
		Limiter: func() policy.Limiter {
			if l := p.late.limiter.Load(); l != nil {
				return l
			}
			return nil
		},
		Cloud: func() policy.Cloud {
			if c := p.late.cloud.Load(); c != nil {
				return c
			}
			return nil
		},
		Settings: policy.Settings{
			Roles: s.PolicyRoles, Users: s.PolicyUsers, Rate: policyRate,
		},
		Log: p.Log, Count: p.Metrics.Count, Now: time.Now,
	})
}

// redis makes the client of Redis, which connects to nothing yet, or starts the
// embedded one where no address is set. The policy check has the ledger from then on:
// while Redis is down, it goes on without.
func (p *Process) redis() error {
	s := p.Settings
	if s.RedisURL == "" {
		e, err := ledger.Embedded()
		if err != nil {
			return fmt.Errorf("embedded Redis: %w", err)
		}
		p.embedded, p.Redis = e, e.Client()
	} else {
		secure, err := s.RedisTLS.Config()
		if err != nil {
			return err
		}
		if p.Redis, err = ledger.Open(s.RedisURL.Reveal(), secure); err != nil {
			return fmt.Errorf("STAFFELN_REDIS_URL: %w", err)
		}
	}
	p.Ledger = ledger.New(p.Redis, ledger.Options{Shards: s.Shards})
	p.late.ledger.Store(p.Ledger)
	p.late.limiter.Store(ledger.NewLimiter(p.Redis, s.APIRate))
	return nil
}

// ConnectRedis connects to Redis, or starts the embedded one where no address is set, and
// checks that it will do. It waits until ctx ends for a Redis that is not up yet; an unfit
// one is an error.
func (p *Process) ConnectRedis(ctx context.Context) error {
	if err := p.redis(); err != nil {
		return err
	}
	err := retry(ctx, p.Log, "Redis", func() (bool, error) {
		err := p.Ledger.Check(ctx)
		return err != nil && p.Redis.Ping(ctx).Err() != nil, err
	})
	if err != nil {
		return fmt.Errorf("redis %s: %w", p.Settings.RedisURL, err)
	}
	return nil
}

// Connect connects to Redis and OpenStack, and builds the functions.
func (p *Process) Connect(ctx context.Context) error {
	if err := p.ConnectRedis(ctx); err != nil {
		return err
	}
	cloud, err := p.openstack(ctx)
	if err != nil {
		return err
	}
	p.Use(cloud)
	p.Build(cloud)
	return nil
}

// Use makes the process, its policy check included, use a connection to OpenStack.
func (p *Process) Use(cloud *openstack.Cloud) {
	p.Cloud = cloud
	p.late.cloud.Store(cloud)
}

// openstack connects to OpenStack. It waits until ctx ends for one that is not up.
func (p *Process) openstack(ctx context.Context) (cloud *openstack.Cloud, err error) {
	err = retry(ctx, p.Log, "OpenStack", func() (again bool, err error) {
		cloud, err = openstack.Connect(ctx, p.cloudOptions())
		return backup.FaultOf(err) == backup.Retry, err
	})
	return cloud, err
}

// ConnectLater is for a process that serves the policy check alone, which is ready at once:
// it connects to Redis, where an address is set, and to OpenStack in the background, until
// ctx ends. The error is one of the settings.
func (p *Process) ConnectLater(ctx context.Context) error {
	if p.Settings.RedisURL == "" {
		p.Log.WarnContext(ctx, "running with less",
			"why", "STAFFELN_REDIS_URL is not set: a backup whose metadata was stripped is known by its maker alone")
	} else if err := p.redis(); err != nil {
		return err
	}
	p.Front.Begin(
		Check{Name: "redis", Err: func(ctx context.Context) error {
			if p.Redis == nil {
				return errors.New("no address is set")
			}
			return p.Redis.Ping(ctx).Err()
		}},
		Check{Name: "openstack", Err: func(context.Context) error {
			if p.late.cloud.Load() == nil {
				return errors.New("not connected yet")
			}
			return nil
		}})
	go func() {
		for {
			cloud, err := p.openstack(ctx)
			if err == nil {
				p.late.cloud.Store(cloud)
			}
			if err == nil || ctx.Err() != nil {
				return
			}
			p.Log.ErrorContext(ctx, "OpenStack refuses the service user: the policy check goes on without", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Minute): // more often would be an attack on the account
			}
		}
	}()
	return nil
}

// Build makes the functions, on the process's ledger and the given cloud.
func (p *Process) Build(cloud functions.Cloud) {
	p.Functions = append(functions.All(p.Needs(cloud)), p.Policy)
	p.Metrics.StartFunctions(p.Functions)
}

// Needs is everything outside of the functions, with the given cloud in it.
func (p *Process) Needs(cloud functions.Cloud) functions.Needs {
	n := functions.Needs{Ledger: p.Ledger, Cloud: cloud, Mail: p.Mail, Settings: p.Settings.Functions(), Log: p.Log,
		Count: p.Metrics.Count}
	n.Settings.Report.Patience = cmp.Or(p.Patience, n.Settings.Report.Patience)
	if n.Mail == nil {
		n.Mail = p.Mailer()
	}
	var err error
	if n.Theme, err = words.Load(p.Settings.Templates); err != nil {
		p.Log.Error("digests are written with built-in templates", "err", err)
		p.Metrics.Count("digests_total", 1, "template")
	}
	return n
}

// retry tries with backoff until it works, fails for good, or ctx ends: at boot, services
// come up in any order.
func retry(ctx context.Context, log *slog.Logger, what string, try func() (again bool, err error)) error {
	for wait := time.Second; ; wait = min(2*wait, 30*time.Second) {
		again, err := try()
		if err == nil || !again || ctx.Err() != nil {
			return err
		}
		log.WarnContext(ctx, "waiting for "+what, "err", err)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

// Close closes the connections to Redis.
func (p *Process) Close() {
	if p.Redis != nil {
		_ = p.Redis.Close() // nothing is left to be lost
	}
	if p.embedded != nil {
		p.embedded.Close()
	}
}
