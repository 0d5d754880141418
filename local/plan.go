package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"staffeln/functions"
	"staffeln/functions/backup"
	"staffeln/functions/plan"
	"staffeln/runtime/ledger"
	"staffeln/runtime/openstack"
)

type planCommand struct {
	At      string `placeholder:"TIME" help:"The moment to judge: RFC 3339 as in 2026-11-23T02:30:00Z, or from now as in +24h, +2w3d. Default: now."`
	Project string `placeholder:"PROJECT" help:"Only this project, by id or name."`
	JSON    bool   `name:"json" help:"Print JSON; docs/plan.md says what is in it."`
	All     bool   `help:"Also what would not be done: volumes whose turn has not come, backups that stay."`
}

// Run prints what would be backed up and removed, and does nothing of it.
func (c planCommand) Run(ctx context.Context) error {
	return c.print(ctx, os.Environ(), time.Now(), os.Stdout)
}

func (c planCommand) print(ctx context.Context, environ []string, now time.Time, out io.Writer) error {
	at, err := moment(c.At, now)
	if err != nil {
		return err
	}
	s, err := settings(environ)
	if err != nil {
		return err
	}
	r := plan.Reader{Settings: planSettings(s.Functions())}
	o, witness := s.CloudOptions(warnings()), &plan.Witness{}
	o.Witness = witness
	if s.RedisURL != "" {
		secure, err := s.RedisTLS.Config()
		if err != nil {
			return err
		}
		client, err := ledger.Open(s.RedisURL.Reveal(), secure)
		if err != nil {
			return fmt.Errorf("STAFFELN_REDIS_URL: %w", err)
		}
		defer client.Close()
		quietRedis()
		// Not checked as for running: that would write into an empty one.
		l := ledger.New(client, ledger.Options{Shards: s.Shards})
		r.Ledger, witness.Ledger = l, l
		o.Limiter = ledger.NewLimiter(client, s.APIRate)
	}
	cloud, err := openstack.Connect(ctx, o)
	if err != nil {
		return err
	}
	r.Cloud = cloud
	facts, err := r.Read(ctx, c.Project, at, now)
	if err != nil {
		return err
	}
	if lost := witness.Lost(); lost != nil {
		// It was not there to say whose the backups are: what else it said does not fit.
		facts.Memory, facts.NoMemory = nil, lost.Error()
	}
	p := r.Settings.Make(facts, at)
	if !c.All {
		p = p.Acts()
	}
	if c.JSON {
		to := json.NewEncoder(out)
		to.SetIndent("", "  ")
		to.SetEscapeHTML(false)
		err = to.Encode(p)
	} else {
		err = p.Table(out)
	}
	if err == nil && len(facts.Unread) > 0 {
		err = fmt.Errorf("the plan lacks %d projects that could not be read; its warnings name them", len(facts.Unread))
	}
	return err
}

// moment reads the moment to judge.
func moment(s string, now time.Time) (time.Time, error) {
	bad := func(why string) (time.Time, error) {
		return time.Time{}, fmt.Errorf("--at %.60q %s: want RFC 3339 as in 2026-11-23T02:30:00Z, or a time from now as in +24h or +2w3d", s, why)
	}
	if s == "" {
		return now, nil
	}
	if span, ok := strings.CutPrefix(s, "+"); ok {
		if a, err := backup.ParseAge(span); err == nil {
			return a.After(now.UTC()), nil
		}
		d, err := time.ParseDuration(span)
		if err != nil || d < 0 {
			return bad("is not a span of time")
		}
		return now.Add(d), nil
	}
	at, err := time.Parse(time.RFC3339, s)
	switch {
	case err != nil:
		return bad("is not a time")
	case at.Before(now.Add(-time.Minute)):
		return bad("is over: what the cloud was like then is not known")
	}
	return at, nil
}

func planSettings(s functions.Settings) plan.Settings {
	return plan.Settings{Classes: s.Classes, Keys: s.Keys, Limits: s.Limits, PerService: s.PerService,
		VolumeLimit: s.VolumeLimit, VolumeLimits: s.VolumeLimits, Orphan: s.Orphan, Brake: s.Brake}
}

// warnings logs to standard error what is wrong, and nothing else.
func warnings() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// quietRedis keeps the client's own lines from a command's output: what is wrong is
// in its error.
func quietRedis() { redis.SetLogger(silence{}) }

type silence struct{}

// Printf says nothing.
func (silence) Printf(context.Context, string, ...any) {}

var errNoLedger = errors.New("STAFFELN_REDIS_URL is not set: what this command reads and writes is in the ledger that the service keeps in Redis; the one inside a process cannot be reached from another")
