package main

import (
	"cmp"
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

	"staffeln/events/wire"
	"staffeln/functions/backup"
	"staffeln/functions/plan"
	"staffeln/functions/policy"
	"staffeln/runtime/ledger"
	"staffeln/runtime/openstack"
)

type planCommand struct {
	At      string `placeholder:"TIME" help:"The moment to judge: RFC 3339 as in 2026-11-23T02:30:00Z, or from now as in +24h, +2w3d. Default: now."`
	Project string `placeholder:"PROJECT" help:"Only this project, by id or name."`
	Backup  string `placeholder:"ID" help:"Only this backup: whether its owner may delete it, whether retention does, and why."`
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
	if c.Backup != "" {
		switch id, ok := wire.ResourceID(c.Backup); {
		case !ok:
			return fmt.Errorf("--backup %.60q is no id of a backup: want a UUID as `openstack volume backup list` shows it", c.Backup)
		case c.Project != "":
			return errors.New("--backup and --project: want one of them; a backup's project is found by its id")
		default:
			c.Backup = id
		}
	}
	s, err := settings(environ)
	if err != nil {
		return err
	}
	r := plan.Reader{Settings: s.Rules()}
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
	if c.Backup != "" {
		b, err := cloud.FindBackup(ctx, c.Backup)
		switch {
		case backup.FaultOf(err) == backup.Gone:
			return fmt.Errorf("there is no backup %s, or the service user has no role in its project", c.Backup)
		case err != nil:
			return err
		}
		c.Project = b.Project
	}
	facts, err := r.Read(ctx, c.Project, at, now)
	if err != nil {
		return err
	}
	if lost := witness.Lost(); lost != nil {
		// It was not there to say whose the backups are: what else it said does not fit.
		facts.Memory, facts.NoMemory = nil, lost.Error()
	}
	show := func(as any, text func(io.Writer) error) error {
		if !c.JSON {
			return text(out)
		}
		to := json.NewEncoder(out)
		to.SetIndent("", "  ")
		to.SetEscapeHTML(false)
		return to.Encode(as)
	}
	if c.Backup != "" {
		check := policy.Settings{Roles: s.PolicyRoles, Users: s.PolicyUsers}.Rules(cloud.Self())
		e, ok := plan.Explain(r.Settings, facts, at, c.Backup, check)
		if !ok {
			return fmt.Errorf("backup %s is there, and not in the list of its project's backups: %s", c.Backup,
				cmp.Or(facts.Unread[c.Project], "the list is short, so nothing can be said"))
		}
		return show(e, e.Text)
	}
	p := plan.Make(r.Settings, facts, at)
	if !c.All {
		p = p.Acts()
	}
	err = show(p, p.Table)
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
