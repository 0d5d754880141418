package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"staffeln/functions"
	"staffeln/functions/backup"
	"staffeln/functions/report"
	"staffeln/runtime/config"
	"staffeln/runtime/ledger"
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
		Settings: s.Rules(),
		Report: report.Settings{
			Schedule: s.ReportPeriod, Patience: patience(s.ReportPeriod), Recipients: s.ReportRecipients,
			Domain: s.ReportDomain, Blind: s.ReportAddressing == config.Blind, Operators: s.ReportOperators,
			LockMail: s.LockMail,
		},
	}
}

// Rules are the settings that all functions share.
func (s Settings) Rules() backup.Settings {
	return backup.Settings{
		Classes: s.Policies(),
		Keys: backup.Keys{OptIn: s.FilterTag, Skip: s.SkipTag, Schedule: s.ScheduleKey,
			Retention: s.RetentionKey, Overrides: s.Overrides, MinPeriod: s.OverrideMinPeriod,
			MaxPeriod: s.OverrideMaxPeriod, MinRetention: s.OverrideMinRetention},
		Template:    s.NameTemplate,
		Limits:      backup.Limits{Cloud: s.MaxRunning, Project: s.MaxRunningPerProject, Backend: s.MaxRunningPerBackend},
		PerService:  perService,
		VolumeLimit: s.VolumeLimit, VolumeLimits: s.VolumeLimits,
		Deadline: backup.TimeLimit{Base: s.DeadlineBase, PerGiB: s.DeadlinePerGiB},
		Grace:    s.APITimeout + 30*time.Second,
		Orphan:   s.OrphanRetention,
		Brake:    backup.Brake{Percent: s.BrakePercent, From: s.BrakeFrom},
		Period:   s.ReconcilePeriod, BackupsPeriod: s.BackupsPeriod,
	}
}

// perService is how many backups one cinder-backup service moves well at once. It takes 15
// unless its backup_max_operations says otherwise, tenants' own backups and restores among them.
const perService = 10

// patience is how long after the end of its period a digest waits for open runs and for
// retention: 2 h, or half of a short period, so that periods do not pile up.
func patience(period backup.Schedule) time.Duration {
	return min(2*time.Hour, period.Interval(time.Unix(0, 0))/2)
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
