// Package home makes the functions feel at home in a process: it reads the
// settings, connects to Redis and OpenStack, and wires the functions. Both mains
// share it: the local runtime, which has all of them, and the container, which
// serves one.
package home

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"staffeln/functions"
	"staffeln/functions/backup"
	"staffeln/functions/report"
	"staffeln/functions/report/words"
	"staffeln/runtime"
	"staffeln/runtime/config"
	"staffeln/runtime/ledger"
	"staffeln/runtime/mail"
	"staffeln/runtime/metrics"
	"staffeln/runtime/openstack"
)

// Settings are everything the environment says.
type Settings struct {
	config.Config
	// Cloud is what OS_* or clouds.yaml say.
	Cloud openstack.Options
}

// Read reads STAFFELN_*, OS_* and clouds.yaml. The error names everything that is
// wrong at once.
func Read(environ []string) (Settings, error) {
	values := map[string]string{}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		values[name] = value
	}
	c, err1 := config.Load(environ)
	cloud, err2 := openstack.FromEnv(func(name string) (string, bool) { v, ok := values[name]; return v, ok })
	if err2 == nil {
		err2 = cloud.Check()
	}
	var err3 error
	if err1 == nil && c.RedisURL != "" {
		client, err := ledger.Open(c.RedisURL.Reveal(), nil)
		if err != nil {
			err3 = fmt.Errorf("STAFFELN_REDIS_URL: %w", err)
		} else {
			_ = client.Close() // it was never connected
		}
	}
	return Settings{Config: c, Cloud: cloud}, errors.Join(err1, err3, err2)
}

// Functions are the settings as the functions need them.
func (s Settings) Functions() functions.Settings {
	return functions.Settings{
		Classes: s.Policies(),
		Keys: backup.Keys{OptIn: s.FilterTag, Skip: s.SkipTag, Schedule: s.ScheduleKey,
			Retention: s.RetentionKey, Overrides: s.Overrides, MinPeriod: s.OverrideMinPeriod,
			MaxPeriod: s.OverrideMaxPeriod, MinRetention: s.OverrideMinRetention},
		Template:   s.NameTemplate,
		Limits:     backup.Limits{Cloud: s.MaxRunning, Project: s.MaxRunningPerProject, Backend: s.MaxRunningPerBackend},
		PerService: s.RunningPerService, VolumeLimit: s.VolumeLimit, VolumeLimits: s.VolumeLimits,
		DeadlineBase: s.DeadlineBase, DeadlinePerGiB: s.DeadlinePerGiB, APITimeout: s.APITimeout,
		Period: s.ReconcilePeriod, BackupsPeriod: s.BackupsPeriod,
		Orphan: s.OrphanRetention, Brake: backup.Brake{Percent: s.BrakePercent, From: s.BrakeFrom},
		Report: report.Settings{Schedule: s.ReportPeriod, Patience: s.ReportPatience, Recipients: s.ReportRecipients,
			Domain: s.ReportDomain, Blind: s.ReportAddressing == config.Blind, Operators: s.ReportOperators, LockMail: s.LockMail},
	}
}

// Policies are the classes, the default one among them.
func (s Settings) Policies() backup.Classes {
	policy := func(name string, c config.Class) backup.Policy {
		return backup.Policy{
			Class: name, Schedule: c.Period.In(c.TimeZone.Location()), Spread: s.SpreadWindow, Retention: c.Retention,
			Depth: c.Depth, ChainAge: c.ChainAge, Container: c.Container, Blackouts: c.Blackout,
			Rules: c.ArchiveRules, Archive: c.Archive(), Lock: c.Lock, OverrideKept: s.OverrideMinKept,
		}
	}
	all := backup.Classes{backup.Default: policy(backup.Default, s.General())}
	for name, c := range s.Classes {
		all[name] = policy(name, c)
	}
	return all
}

// Logger writes lines as the settings say.
func (s Settings) Logger(to *os.File) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(s.LogLevel)) // one of four words, checked
	o := &slog.HandlerOptions{Level: level}
	if s.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(to, o))
	}
	return slog.New(slog.NewTextHandler(to, o))
}

// RedisLog makes the Redis client, which writes lines of its own and many while Redis
// is down, write them as debugging ones: what matters of it comes back as an error.
// It is for a process's start, before there is a client.
func RedisLog(log *slog.Logger) { redis.SetLogger(redisLog{log}) }

type redisLog struct{ log *slog.Logger }

func (r redisLog) Printf(ctx context.Context, format string, v ...any) {
	if r.log.Enabled(ctx, slog.LevelDebug) {
		r.log.DebugContext(ctx, "redis client", "says", fmt.Sprintf(format, v...))
	}
}

// A Home is a process's connections, and the functions that use them.
type Home struct {
	Settings Settings
	// Front is there from the start, the rest as soon as it is connected.
	Front  *Front
	Ledger *ledger.Ledger
	Redis  redis.UniversalClient
	Cloud  *openstack.Cloud
	// Mail is what [Home.Wire] gives to the functions; nil for what the settings say.
	Mail      report.Mail
	Metrics   *metrics.Metrics
	Functions []runtime.Function
	Log       *slog.Logger

	embedded *ledger.Embed
}

// New is a home that is connected to nothing: its front can be served.
func New(s Settings, log *slog.Logger) *Home {
	h := &Home{Settings: s, Log: log, Metrics: metrics.New()}
	h.Front = newFront(h)
	return h
}

// OpenLedger is [New] and [Home.OpenLedger].
func OpenLedger(ctx context.Context, s Settings, log *slog.Logger) (*Home, error) {
	return opened(ctx, New(s, log), (*Home).OpenLedger)
}

// Open is [New] and [Home.Open].
func Open(ctx context.Context, s Settings, log *slog.Logger) (*Home, error) {
	return opened(ctx, New(s, log), (*Home).Open)
}

func opened(ctx context.Context, h *Home, open func(*Home, context.Context) error) (*Home, error) {
	if err := open(h, ctx); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// redis makes the client of Redis, which connects to nothing yet, or starts the
// embedded one where no address is set. The front has the ledger from then on: while
// Redis is not up, it goes on without.
func (h *Home) redis() error {
	s := h.Settings
	if s.RedisURL == "" {
		e, err := ledger.Embedded()
		if err != nil {
			return fmt.Errorf("embedded Redis: %w", err)
		}
		h.embedded, h.Redis = e, e.Client()
	} else {
		secure, err := s.RedisTLS()
		if err != nil {
			return err
		}
		if h.Redis, err = ledger.Open(s.RedisURL.Reveal(), secure); err != nil {
			return fmt.Errorf("STAFFELN_REDIS_URL: %w", err)
		}
	}
	h.Ledger = ledger.New(h.Redis, ledger.Options{Shards: s.Shards})
	h.Front.ledger.Store(h.Ledger)
	h.Front.limiter.Store(ledger.NewLimiter(h.Redis, s.APIRate))
	return nil
}

// OpenLedger connects to Redis, or starts the embedded one where no address is
// set, and checks that it will do. One that is not up yet is waited for until ctx
// ends; one that is unfit is an error.
func (h *Home) OpenLedger(ctx context.Context) error {
	if err := h.redis(); err != nil {
		return err
	}
	err := patiently(ctx, h.Log, "Redis", func() (bool, error) {
		err := h.Ledger.Check(ctx)
		return err != nil && h.Redis.Ping(ctx).Err() != nil, err
	})
	if err != nil {
		return fmt.Errorf("redis %s: %w", h.Settings.RedisURL, err)
	}
	return nil
}

// Open connects to Redis and OpenStack and wires the functions.
func (h *Home) Open(ctx context.Context) error {
	if err := h.OpenLedger(ctx); err != nil {
		return err
	}
	err := patiently(ctx, h.Log, "OpenStack", func() (again bool, err error) {
		h.Cloud, err = openstack.Connect(ctx, h.cloudOptions())
		return backup.FaultOf(err) == backup.Retry, err
	})
	if err != nil {
		return err
	}
	h.Front.cloud.Store(h.Cloud)
	h.Wire(h.Cloud)
	return nil
}

// Reach is for a process that serves nothing but its front, which is ready at once:
// it looks for Redis, where an address is set, and for OpenStack, until ctx ends, and
// goes on without. The error is one of the settings.
func (h *Home) Reach(ctx context.Context) error {
	if h.Settings.RedisURL == "" {
		h.Log.WarnContext(ctx, "running with less", "why", "STAFFELN_REDIS_URL is not set: a backup whose metadata was stripped is known by its maker alone")
	} else if err := h.redis(); err != nil {
		return err
	}
	h.Front.Begin(
		Check{Name: "redis", Err: func(ctx context.Context) error {
			if h.Redis == nil {
				return errors.New("none is set")
			}
			return h.Redis.Ping(ctx).Err()
		}},
		Check{Name: "openstack", Err: func(context.Context) error {
			if h.Front.cloud.Load() == nil {
				return errors.New("not connected yet")
			}
			return nil
		}})
	go func() {
		for {
			var cloud *openstack.Cloud
			err := patiently(ctx, h.Log, "OpenStack", func() (again bool, err error) {
				cloud, err = openstack.Connect(ctx, h.cloudOptions())
				return backup.FaultOf(err) == backup.Retry, err
			})
			if err == nil {
				h.Front.cloud.Store(cloud)
				return
			}
			if ctx.Err() == nil {
				h.Log.ErrorContext(ctx, "OpenStack refuses us: the policy check goes on without", "err", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(5 * time.Minute): // more often would be an attack on the account
			}
		}
	}()
	return nil
}

// Wire makes the functions, on the home's ledger and the given cloud.
func (h *Home) Wire(cloud functions.Cloud) {
	h.Functions = functions.All(h.Needs(cloud))
	h.Metrics.StartFunctions(h.Functions)
}

// Needs is the outside world, with the given cloud in it.
func (h *Home) Needs(cloud functions.Cloud) functions.Needs {
	n := functions.Needs{
		Ledger: h.Ledger, Cloud: cloud, Mail: h.Mail, Settings: h.Settings.Functions(), Log: h.Log, Count: h.Metrics.Count,
	}
	if n.Mail == nil {
		n.Mail = h.Post()
	}
	var err error
	if n.Theme, err = words.Load(h.Settings.Templates); err != nil {
		h.Log.Error("digests are written with built-in templates", "err", err)
		h.Metrics.Count("digests_total", 1, "template")
	}
	return n
}

// Post sends letters as the settings say.
func (h *Home) Post() *mail.Post {
	s := h.Settings
	p := &mail.Post{Log: h.Log.With("function", "report"), Count: h.Metrics.Count}
	from := mail.Sender{From: s.MailFrom, ReplyTo: s.MailReplyTo}
	for _, name := range s.MailChannels {
		switch name {
		case config.ChannelResend:
			secure, err := s.ResendTLS()
			if err != nil {
				h.Log.Error("STAFFELN_RESEND_CA", "err", err) // as below
			}
			var transport http.RoundTripper // the usual one
			if secure != nil {
				t := http.DefaultTransport.(*http.Transport).Clone()
				t.TLSClientConfig = secure
				transport = t
			}
			p.Channels = append(p.Channels, mail.Resend{Sender: from, Key: s.ResendAPIKey.Reveal(), URL: s.ResendURL.Reveal(), Timeout: s.MailTimeout, Transport: transport})
		case config.ChannelSMTP:
			secure, err := s.SMTPTLS()
			if err != nil {
				// It was readable at the start. Without it, the system's certificates have to do.
				h.Log.Error("TLS to the mail server", "err", err)
			}
			p.Channels = append(p.Channels, mail.SMTP{Sender: from, Host: s.SMTPHost, Port: s.SMTPPort, Security: s.SMTPSecurity,
				User: s.SMTPUser, Password: s.SMTPPassword.Reveal(), TLS: secure, Timeout: s.MailTimeout})
		default:
			p.Channels = append(p.Channels, mail.Log{Log: p.Log})
		}
	}
	return p
}

// patiently tries until it works, fails for good, or ctx ends: at boot, services
// come up in any order.
func patiently(ctx context.Context, log *slog.Logger, what string, try func() (again bool, err error)) error {
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

// Close lets go of Redis.
func (h *Home) Close() {
	if h.Redis != nil {
		_ = h.Redis.Close() // nothing is left to be lost
	}
	if h.embedded != nil {
		h.embedded.Close()
	}
}
