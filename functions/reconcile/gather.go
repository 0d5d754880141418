package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"staffeln/functions/backup"
)

// A pass is one reconcile: when it began, what it does, and what the ledger said then.
type pass struct {
	now time.Time
	// sweep says that the pass reads the list of backups too; rebuild is [Known.Rebuild].
	sweep, rebuild bool
	tickets        []int64 // by shard
	known          map[string]*Known
}

// of is what the ledger says of a project.
func (p *pass) of(project string) *Known {
	k := p.known[project]
	if k == nil {
		k = &Known{Project: project, Rebuild: p.rebuild, Enrolments: map[string]backup.Enrolment{},
			Volumes: map[string]backup.Protected{}, Runs: map[string]backup.Run{}}
		p.known[project] = k
	}
	return k
}

// begin reads the ledger once and sorts it by project.
func (f *Function) begin(ctx context.Context, sweep, rebuild bool, now time.Time) (*pass, error) {
	p := &pass{now: now, sweep: sweep, rebuild: rebuild, known: map[string]*Known{}}
	var err error
	// The tickets come before the lists: a notification that writes meanwhile has a later
	// ticket, and wins.
	if p.tickets, err = f.Ledger.TicketsAll(ctx); err != nil {
		return nil, err
	}
	for shard := range f.Ledger.Shards() {
		enrolments, err := f.Ledger.Enrolments(ctx, shard)
		if err != nil {
			return nil, err
		}
		for _, e := range enrolments {
			p.of(e.Project).Enrolments[e.Server] = e
		}
		volumes, err := f.Ledger.Volumes(ctx, shard)
		if err != nil {
			return nil, err
		}
		for _, v := range volumes {
			p.of(v.Project).Volumes[v.Volume] = v
		}
		runs, err := f.Ledger.Runs(ctx, shard)
		if err != nil {
			return nil, err
		}
		for _, r := range runs {
			p.of(r.Project).Runs[r.Volume] = r
		}
		foreign, err := f.Ledger.Foreigns(ctx, shard)
		if err != nil {
			return nil, err
		}
		for project, all := range foreign {
			p.of(project).Foreign = all
		}
	}
	return p, nil
}

// list reads the complete lists of a scope and sorts them by project. A project that only
// the ledger knows is in the answer, too. The error is hard where there is no answer; else
// some of those projects are missing.
func (f *Function) list(ctx context.Context, p *pass, scope string) (map[string]*Seen, error) {
	servers, err := f.Cloud.Servers(ctx, scope)
	if err != nil {
		return nil, err
	}
	listed, err := f.Cloud.Volumes(ctx, scope)
	if err != nil {
		return nil, err
	}
	var backups []backup.CinderBackup
	if p.sweep {
		if backups, err = f.Cloud.Backups(ctx, scope); err != nil {
			return nil, err
		}
	}
	volumes := make(map[string]backup.Volume, len(listed))
	for _, v := range listed {
		volumes[v.ID] = v
	}
	seen := map[string]*Seen{}
	of := func(project string) *Seen {
		if scope != "" {
			project = scope
		}
		s := seen[project]
		if s == nil {
			s = &Seen{Volumes: volumes, Swept: p.sweep, Asked: map[string]Answer{}}
			seen[project] = s
		}
		return s
	}
	known := []string{scope}
	if scope == "" {
		known, err = f.projects(ctx, p)
	}
	for _, project := range known {
		of(project)
	}
	for _, server := range servers {
		s := of(server.Project)
		s.Servers = append(s.Servers, server)
	}
	for _, b := range backups {
		s := of(b.Project)
		s.Backups = append(s.Backups, b)
	}
	return seen, err
}

// projects are those that the ledger knows. Only a pass that reads the backups needs the
// projects that have nothing but backups.
func (f *Function) projects(ctx context.Context, p *pass) ([]string, error) {
	all := slices.Collect(maps.Keys(p.known))
	for shard := range f.Ledger.Shards() {
		if !p.sweep {
			break
		}
		more, err := f.Ledger.Projects(ctx, shard)
		if err != nil {
			return all, err
		}
		all = append(all, more...)
	}
	return all, nil
}

// mostForgotten bounds the direct questions about backups for one list that lacks them.
const mostForgotten = 200

// gather reads what else the ledger knows of a project and asks the direct [Questions].
// most bounds those about backups. Where something cannot be read, it stays unknown, and
// nothing is decided by it.
func (f *Function) gather(ctx context.Context, p *pass, k *Known, s *Seen, most *int) error {
	var errs []error
	if p.sweep {
		records, err := f.Ledger.Records(ctx, k.Project)
		errs = append(errs, err)
		k.Records = make(map[string]backup.Record, len(records))
		for _, r := range records {
			k.Records[r.ID] = r
		}
		removals, err := f.Ledger.Retention(ctx, k.Project)
		if errs = append(errs, err); err == nil {
			k.Retention = &removals
		}
	}
	for {
		questions := Questions(*k, *s, f.Settings, p.now)
		if len(questions) == 0 {
			return errors.Join(errs...)
		}
		for _, q := range questions {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if q.About == AboutBackup {
				if *most--; *most < 0 {
					s.Asked[q.ID] = Answer{}
					continue
				}
			}
			answer, err := f.ask(ctx, k.Project, q, s, p.now)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s %s: %w", q.About, q.ID, err))
			}
			s.Asked[q.ID] = answer
		}
	}
}

// ask puts a direct question to OpenStack. What is there is added to what was seen. How
// often in a row something was gone is counted in the ledger, but for volumes: their
// server is enough.
func (f *Function) ask(ctx context.Context, project string, q Question, s *Seen, now time.Time) (Answer, error) {
	var err error
	switch q.About {
	case AboutServer:
		var server backup.Server
		if server, err = f.Cloud.Server(ctx, project, q.ID); err == nil {
			server.Project = project
			s.Servers = append(s.Servers, server)
			// A list lacks a project's servers also where the operator has excluded it.
			if _, included, err := f.Cloud.Project(ctx, project); err == nil && !included {
				s.Excluded = true
			}
		}
	case AboutVolume:
		var v backup.Volume
		if v, err = f.Cloud.Volume(ctx, project, q.ID); err == nil {
			s.Volumes[q.ID] = v
		}
	case AboutBackup:
		_, err = f.Cloud.Backup(ctx, project, q.ID)
	}
	switch {
	case err == nil && q.About == AboutVolume:
		return Answer{Found: true}, nil
	case err == nil:
		return Answer{Found: true}, f.Ledger.Present(ctx, project, q.ID)
	case backup.FaultOf(err) != backup.Gone:
		return Answer{}, err
	case q.About == AboutVolume:
		return Answer{Gone: 1}, nil
	}
	times, err := f.Ledger.Missing(ctx, project, q.ID, now)
	return Answer{Gone: times}, err
}
