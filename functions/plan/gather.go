package plan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"staffeln/functions/backup"
)

// Cloud is what a plan needs of OpenStack. Nothing in it changes anything.
type Cloud interface {
	// Scopes are what the complete lists are asked for: "" alone with an admin's
	// rights, else the projects one by one.
	Scopes(ctx context.Context) ([]string, error)
	// Servers, Volumes and Backups are complete lists, or errors.
	Servers(ctx context.Context, scope string) ([]backup.Server, error)
	Volumes(ctx context.Context, scope string) ([]backup.Volume, error)
	Backups(ctx context.Context, scope string) ([]backup.CinderBackup, error)
	Quota(ctx context.Context, project string) (backup.Quota, error)
	Services(ctx context.Context) (backup.Services, error)
	Project(ctx context.Context, id string) (p backup.Project, included bool, err error)
	// Clock is what time it is by the cloud's own clock; ok is false where that is not
	// known.
	Clock() (at time.Time, ok bool)
}

// Ledger is what a plan asks of our own memory, where there is one. Nothing in it
// changes anything.
type Ledger interface {
	Shards() int
	Shard(project string) int
	Ready(ctx context.Context, shard int) (bool, error)
	Volumes(ctx context.Context, shard int) ([]backup.Protected, error)
	Runs(ctx context.Context, shard int) ([]backup.Run, error)
	Records(ctx context.Context, project string) ([]backup.Record, error)
	InFlight(ctx context.Context, now time.Time) (backup.InFlight, error)
	Retentions(ctx context.Context, shard int) ([]backup.Retention, error)
	Outlook(ctx context.Context) (backup.Outlook, error)
	CloudRelease(ctx context.Context) (until time.Time, most int, err error)
}

// Facts are everything that a plan is decided from.
type Facts struct {
	// Read is when the lists were read, Clock what the cloud's own clock said then;
	// zero where that is not known.
	Read, Clock time.Time
	// Only is the id of the one project that the lists are about; "" for all.
	Only string
	// Servers, Volumes and Backups are complete lists but for the projects in Unread.
	Servers []backup.Server
	Volumes []backup.Volume
	Backups []backup.CinderBackup
	// Unread are the projects whose lists could not be read, and why. They are left
	// out of everything else.
	Unread map[string]string
	// Projects are those that are known by name; Gone those that Keystone says do not
	// exist.
	Projects map[string]backup.Project
	Gone     map[string]bool
	Services backup.Services
	// Quotas are those of the projects with something due, QuotaErrors why one could
	// not be read.
	Quotas      map[string]backup.Quota
	QuotaErrors map[string]string
	// Memory is the ledger's; nil where there is none, with NoMemory saying why.
	Memory   *Memory
	NoMemory string
}

// Memory is what the ledger says.
type Memory struct {
	// Ready says of which projects' shards it knows everything.
	Ready map[string]bool
	// Volumes are the protected ones, Runs the open ones, both by volume.
	Volumes map[string]backup.Protected
	Runs    map[string]backup.Run
	// Records and Retention are by project.
	Records   map[string][]backup.Record
	Retention map[string]backup.Retention
	// Flight is what is under way at the moment judged.
	Flight backup.InFlight
	// Outlook is the whole cloud's; Released and Most are the release of its brake.
	Outlook  backup.Outlook
	Released time.Time
	Most     int
}

// A Reader reads what plans are made of.
type Reader struct {
	Cloud Cloud
	// Ledger may be nil.
	Ledger   Ledger
	Settings backup.Settings
}

// ErrNoProject says that the one project asked for is not to be seen.
var ErrNoProject = errors.New("there is no such project, it is excluded, or the service user has no role in it")

// atOnce is how many questions are under way: many small questions about many projects.
const atOnce = 8

// Read reads everything for a plan at at: of all projects, or of one, named by its
// id or its name. now is the time of reading. What one project does not answer is
// noted in the facts; an error is only what leaves no plan to make.
func (r *Reader) Read(ctx context.Context, only string, at, now time.Time) (Facts, error) {
	f := Facts{Read: now, Unread: map[string]string{}, Projects: map[string]backup.Project{}, Gone: map[string]bool{},
		Quotas: map[string]backup.Quota{}, QuotaErrors: map[string]string{}}
	scopes, err := r.Cloud.Scopes(ctx)
	if err != nil {
		return f, fmt.Errorf("which projects there are: %w", err)
	}
	if only != "" {
		if scopes, f.Only, err = r.narrow(ctx, scopes, only); err != nil {
			return f, err
		}
	}
	if err := r.lists(ctx, &f, scopes); err != nil {
		return f, err
	}
	if only != "" && f.Only == "" {
		if err := r.choose(ctx, &f, only); err != nil {
			return f, err
		}
	}
	if clock, ok := r.Cloud.Clock(); ok {
		f.Clock = clock
	}
	if f.Services, err = r.Cloud.Services(ctx); err != nil {
		return f, fmt.Errorf("cinder-backup services: %w", err)
	}
	if err := r.memory(ctx, &f, at); err != nil {
		// A plan without it is still one.
		f.Memory, f.NoMemory = nil, err.Error()
	}
	if err := r.names(ctx, &f, at); err != nil {
		return f, err
	}
	return f, r.quotas(ctx, &f, at)
}

// narrow finds the project and the one scope to ask, where they can be told
// without reading everything; else the id is "".
func (r *Reader) narrow(ctx context.Context, scopes []string, only string) (narrowed []string, id string, err error) {
	none := fmt.Errorf("project %s: %w", only, ErrNoProject)
	if len(scopes) == 1 && scopes[0] == "" {
		p, included, err := r.Cloud.Project(ctx, only)
		switch {
		case err != nil && (backup.FaultOf(err) == backup.Gone || backup.FaultOf(err) == backup.Operator):
			return scopes, "", nil // no id, but perhaps a name
		case err != nil:
			return nil, "", fmt.Errorf("project %s: %w", only, err)
		case !included:
			return nil, "", none
		}
		return []string{p.ID}, p.ID, nil
	}
	found, err := r.named(ctx, scopes, only)
	if err != nil {
		return nil, "", err
	}
	if found == "" {
		return nil, "", none
	}
	return []string{found}, found, nil
}

// named is the one of the projects with that id or name; "" for none.
func (r *Reader) named(ctx context.Context, ids []string, only string) (string, error) {
	var mu sync.Mutex
	var found []string
	var errs []error
	each(len(ids), func(i int) {
		p, _, err := r.Cloud.Project(ctx, ids[i])
		mu.Lock()
		defer mu.Unlock()
		switch {
		case ids[i] == only || err == nil && p.Name == only:
			found = append(found, ids[i])
		case err != nil && backup.FaultOf(err) != backup.Gone:
			errs = append(errs, fmt.Errorf("project %s: %w", ids[i], err))
		}
	})
	slices.Sort(found)
	switch {
	case len(errs) > 0:
		return "", errors.Join(errs...)
	case len(found) > 1:
		return "", fmt.Errorf("project %s: there are several of that name, which have to be named by id: %s", only, strings.Join(found, ", "))
	case len(found) == 1:
		return found[0], nil
	}
	return "", nil
}

// lists reads the complete lists of the scopes.
func (r *Reader) lists(ctx context.Context, f *Facts, scopes []string) error {
	type part struct {
		servers []backup.Server
		volumes []backup.Volume
		backups []backup.CinderBackup
	}
	parts, errs := make([]part, len(scopes)), make([]error, len(scopes))
	each(len(scopes), func(i int) {
		var p part
		var err error
		if p.servers, err = r.Cloud.Servers(ctx, scopes[i]); err == nil {
			if p.volumes, err = r.Cloud.Volumes(ctx, scopes[i]); err == nil {
				p.backups, err = r.Cloud.Backups(ctx, scopes[i])
			}
		}
		parts[i], errs[i] = p, err
	})
	if err := ctx.Err(); err != nil {
		return err
	}
	failed := 0
	for i, p := range parts {
		if errs[i] != nil {
			f.Unread[scopes[i]] = errs[i].Error()
			failed++
			continue
		}
		f.Servers = append(f.Servers, p.servers...)
		f.Volumes = append(f.Volumes, p.volumes...)
		f.Backups = append(f.Backups, p.backups...)
	}
	if failed > 0 && failed == len(scopes) {
		return errors.Join(errs...)
	}
	return nil
}

// choose leaves out everything but one project's.
func (r *Reader) choose(ctx context.Context, f *Facts, only string) error {
	found, err := r.named(ctx, f.ids(), only)
	if err != nil {
		return err
	}
	if found == "" {
		return fmt.Errorf("project %s: %w, or it has neither servers nor volumes nor backups", only, ErrNoProject)
	}
	f.Only = found
	f.Servers = chosen(f.Servers, func(s backup.Server) bool { return s.Project == found })
	f.Volumes = chosen(f.Volumes, func(v backup.Volume) bool { return v.Project == found })
	f.Backups = chosen(f.Backups, func(b backup.CinderBackup) bool { return b.Project == found })
	return nil
}

// memory reads the ledger.
func (r *Reader) memory(ctx context.Context, f *Facts, at time.Time) error {
	if r.Ledger == nil {
		f.NoMemory = "none"
		return nil
	}
	m := &Memory{Ready: map[string]bool{}, Volumes: map[string]backup.Protected{}, Runs: map[string]backup.Run{},
		Records: map[string][]backup.Record{}, Retention: map[string]backup.Retention{}}
	var err error
	if m.Flight, err = r.Ledger.InFlight(ctx, at); err != nil {
		return err
	}
	if m.Outlook, err = r.Ledger.Outlook(ctx); err != nil {
		return err
	}
	if m.Released, m.Most, err = r.Ledger.CloudRelease(ctx); err != nil {
		return err
	}
	ready := map[int]bool{}
	for shard := range r.Ledger.Shards() {
		if f.Only != "" && r.Ledger.Shard(f.Only) != shard {
			continue
		}
		if ready[shard], err = r.Ledger.Ready(ctx, shard); err != nil {
			return err
		}
		volumes, err := r.Ledger.Volumes(ctx, shard)
		if err != nil {
			return err
		}
		for _, v := range volumes {
			if r.Ledger.Shard(v.Project) != shard {
				return errors.New("it is laid out for another number of shards (STAFFELN_SHARDS)")
			}
			m.Volumes[v.Volume] = v
		}
		runs, err := r.Ledger.Runs(ctx, shard)
		if err != nil {
			return err
		}
		for _, one := range runs {
			m.Runs[one.Volume] = one
		}
		retentions, err := r.Ledger.Retentions(ctx, shard)
		if err != nil {
			return err
		}
		for _, one := range retentions {
			m.Retention[one.Project] = one
		}
	}
	for _, id := range f.ids() {
		m.Ready[id] = ready[r.Ledger.Shard(id)]
		if m.Records[id], err = r.Ledger.Records(ctx, id); err != nil {
			return err
		}
	}
	f.Memory = m
	return nil
}

// names asks for the names of the projects that the plan is about.
func (r *Reader) names(ctx context.Context, f *Facts, at time.Time) error {
	ids := about(r.Settings, f, at)
	var mu sync.Mutex
	var errs []error
	each(len(ids), func(i int) {
		p, _, err := r.Cloud.Project(ctx, ids[i])
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			f.Projects[ids[i]] = p
		case backup.FaultOf(err) == backup.Gone:
			f.Gone[ids[i]] = true
		default:
			errs = append(errs, fmt.Errorf("project %s: %w", ids[i], err))
		}
	})
	return errors.Join(errs...)
}

// quotas asks for those of the projects in which something is due at at.
func (r *Reader) quotas(ctx context.Context, f *Facts, at time.Time) error {
	ids := due(r.Settings, f, at)
	var mu sync.Mutex
	each(len(ids), func(i int) {
		if f.Gone[ids[i]] {
			return
		}
		q, err := r.Cloud.Quota(ctx, ids[i])
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			f.QuotaErrors[ids[i]] = backup.Said(err)
			return
		}
		f.Quotas[ids[i]] = q
	})
	return ctx.Err()
}

// ids are the projects that have anything, in the order of the lists.
func (f *Facts) ids() []string {
	var out []string
	seen := map[string]bool{}
	add := func(id string) {
		if !seen[id] {
			seen[id] = true
			out = append(out, id)
		}
	}
	for _, s := range f.Servers {
		add(s.Project)
	}
	for _, v := range f.Volumes {
		add(v.Project)
	}
	for _, b := range f.Backups {
		add(b.Project)
	}
	return out
}

// each calls do for 0 to n-1, a few at a time, and waits for all.
func each(n int, do func(i int)) {
	var all sync.WaitGroup
	turn := make(chan struct{}, atOnce)
	for i := range n {
		turn <- struct{}{}
		all.Go(func() {
			defer func() { <-turn }()
			do(i)
		})
	}
	all.Wait()
}

func chosen[T any](all []T, want func(T) bool) []T {
	out := all[:0]
	for _, v := range all {
		if want(v) {
			out = append(out, v)
		}
	}
	return out
}
