// Package home makes the functions feel at home in a process: it reads the
// settings, connects to Redis and OpenStack, and wires the functions. Both mains
// share it: the local runtime, which has all of them, and the container, which
// serves one.
package home

import (
	"context"
	"encoding/json"
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
	"staffeln/runtime"
	"staffeln/runtime/config"
	"staffeln/runtime/ledger"
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
			Retention: s.RetentionKey, Overrides: s.Overrides, MinPeriod: s.OverrideMinPeriod},
		Template:   s.NameTemplate,
		Limits:     backup.Limits{Cloud: s.MaxRunning, Project: s.MaxRunningPerProject, Backend: s.MaxRunningPerBackend},
		PerService: s.RunningPerService, VolumeLimit: s.VolumeLimit, VolumeLimits: s.VolumeLimits,
		DeadlineBase: s.DeadlineBase, DeadlinePerGiB: s.DeadlinePerGiB, APITimeout: s.APITimeout,
		Period: s.ReconcilePeriod, BackupsPeriod: s.BackupsPeriod,
	}
}

// Policies are the classes, the default one among them.
func (s Settings) Policies() backup.Classes {
	policy := func(name string, c config.Class) backup.Policy {
		return backup.Policy{
			Class: name, Schedule: c.Period.In(c.TimeZone.Location()), Spread: s.SpreadWindow, Retention: c.Retention,
			Depth: c.Depth, ChainAge: c.ChainAge, Container: c.Container, Blackouts: c.Blackout,
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

// A Home is a process's connections, and the functions that use them.
type Home struct {
	Settings  Settings
	Ledger    *ledger.Ledger
	Redis     redis.UniversalClient
	Cloud     *openstack.Cloud
	Metrics   *metrics.Metrics
	Functions []runtime.Function
	Log       *slog.Logger

	embedded *ledger.Embed
}

// OpenLedger connects to Redis, or starts the embedded one where no address is
// set, and checks that it will do. One that is not up yet is waited for until ctx
// ends; one that is unfit is an error.
func OpenLedger(ctx context.Context, s Settings, log *slog.Logger) (*Home, error) {
	h := &Home{Settings: s, Log: log, Metrics: metrics.New()}
	if s.RedisURL == "" {
		e, err := ledger.Embedded()
		if err != nil {
			return nil, fmt.Errorf("embedded Redis: %w", err)
		}
		h.embedded, h.Redis = e, e.Client()
	} else {
		secure, err := s.RedisTLS()
		if err != nil {
			return nil, err
		}
		if h.Redis, err = ledger.Open(s.RedisURL.Reveal(), secure); err != nil {
			return nil, fmt.Errorf("STAFFELN_REDIS_URL: %w", err)
		}
	}
	h.Ledger = ledger.New(h.Redis, ledger.Options{Shards: s.Shards})
	err := patiently(ctx, log, "Redis", func() (bool, error) {
		err := h.Ledger.Check(ctx)
		return err != nil && h.Redis.Ping(ctx).Err() != nil, err
	})
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("redis %s: %w", s.RedisURL, err)
	}
	return h, nil
}

// Open connects to Redis and OpenStack and wires the functions.
func Open(ctx context.Context, s Settings, log *slog.Logger) (*Home, error) {
	h, err := OpenLedger(ctx, s, log)
	if err != nil {
		return nil, err
	}
	o := s.Cloud
	o.Rights, o.Timeout, o.Log = openstack.Rights(s.Rights), s.APITimeout, log
	o.IncludeProjects, o.ExcludeProjects = s.IncludeProjects, s.ExcludeProjects
	o.IncludeDomains, o.ExcludeDomains = s.IncludeDomains, s.ExcludeDomains
	o.UserAgent = "staffeln"
	o.Limiter = ledger.NewLimiter(h.Redis, s.APIRate)
	o.Observe = func(op string, status int, took time.Duration) {
		h.Metrics.Count("openstack_requests_total", 1, op, fmt.Sprint(status))
		h.Metrics.Seconds("openstack_seconds", took, op)
	}
	err = patiently(ctx, log, "OpenStack", func() (bool, error) {
		h.Cloud, err = openstack.Connect(ctx, o)
		return backup.FaultOf(err) == backup.Retry, err
	})
	if err != nil {
		h.Close()
		return nil, err
	}
	h.Wire(h.Cloud)
	return h, nil
}

// Wire makes the functions, on the home's ledger and the given cloud.
func (h *Home) Wire(cloud functions.Cloud) {
	h.Functions = functions.All(functions.Needs{
		Ledger: h.Ledger, Cloud: cloud, Settings: h.Settings.Functions(), Log: h.Log, Count: h.Metrics.Count,
	})
	h.Metrics.StartFunctions(h.Functions)
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

// A Check is one thing that readiness rests on.
type Check struct {
	Name string
	// Needed says that the process cannot do its work without.
	Needed bool
	// Err returns nil where it is well.
	Err func(ctx context.Context) error
}

// Health serves /healthz, which is well as long as the process answers, and
// /readyz, which is well when everything needed is, and tells of each check
// whether it is ok. Neither says more to those who ask without being known.
func Health(checks ...Check) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 3*time.Second)
		defer cancel()
		status, told := http.StatusOK, map[string]string{}
		for _, c := range checks {
			told[c.Name] = "ok"
			if c.Err(ctx) != nil {
				told[c.Name] = "down"
				if c.Needed {
					status = http.StatusServiceUnavailable
				}
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(told) // whoever asked may be gone
	})
	return mux
}
