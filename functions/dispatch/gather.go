package dispatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"staffeln/functions/backup"
)

// A gathering is what a tick reads to decide by.
type gathering struct {
	*Function
	ctx   context.Context
	facts Facts
	// due are the ids of the volumes whose turn has come, by project.
	due map[string][]string
	// projects are those that were asked about so far.
	projects map[string]*project
	// errs are those of the projects that could not be asked about.
	errs []error
}

// A project is what was read of one.
type project struct {
	err      error
	quota    backup.Quota
	limit    int // of volumes
	rank     map[string]int
	total    int
	unserved string
	// listed says that volumes and backups are complete lists; otherwise each volume is
	// asked for when its turn comes.
	listed  bool
	volumes map[string]backup.Volume
	backups map[string][]backup.CinderBackup // by volume
}

// gather reads what holds for the whole cloud. A project is read when the first of its
// volumes is asked about.
func (f *Function) gather(ctx context.Context, turns []*Decision, now time.Time) (*gathering, error) {
	services, err := f.Cloud.Services(ctx)
	if err != nil {
		return nil, errors.Join(err, f.strain(ctx, now, err))
	}
	flight, err := f.Ledger.InFlight(ctx, now)
	if err != nil {
		return nil, err
	}
	g := &gathering{Function: f, ctx: ctx, due: map[string][]string{}, projects: map[string]*project{}}
	g.facts = Facts{Now: now, Keys: f.Settings.Keys, Flight: flight, Paused: Paused(services, flight, now), Ask: g.ask}
	if services.Known && services.Up == 0 {
		const why = "no cinder-backup service is up"
		if flight.PausedWhy == "" {
			f.Log.ErrorContext(ctx, "paused: nothing starts", "why", why)
		}
		return g, f.Ledger.Pause(ctx, now.Add(30*time.Second), why)
	}
	limits := backup.Bounds(f.Settings.Limits, services, f.Settings.PerService, flight.Halvings)
	g.facts.Room = backup.NewRoom(limits, flight)
	for _, d := range turns {
		g.due[d.Project] = append(g.due[d.Project], d.Volume)
	}
	return g, nil
}

// ask answers for [Choose].
func (g *gathering) ask(d *Decision) Answer {
	p, known := g.projects[d.Project]
	if !known {
		p = &project{volumes: map[string]backup.Volume{}, backups: map[string][]backup.CinderBackup{}}
		g.projects[d.Project] = p
		p.err = g.readProject(p, d.Project)
	}
	if p.err != nil && known {
		return unanswered(p.err)
	}
	a := Answer{}
	if p.err == nil {
		a, p.err = g.readVolume(p, d)
	}
	if p.err != nil {
		// Its other volumes wait as well, and nothing more is asked about it in this tick.
		g.errs = append(g.errs, fmt.Errorf("project %s: %w", d.Project, p.err), g.strain(g.ctx, g.facts.Now, p.err))
		return unanswered(p.err)
	}
	return a
}

func unanswered(err error) Answer {
	return Answer{Why: "OpenStack did not answer: " + backup.Said(err), Least: leastWait(err)}
}

// leastWait is how long to leave alone what answered with an error.
func leastWait(err error) time.Duration {
	least := backup.RetryAfter(err)
	if backup.FaultOf(err) == backup.Operator {
		least = max(least, 5*time.Minute)
	}
	return least
}

// readProject reads what holds for all volumes of a project. With more than one volume to
// ask about it reads the lists.
func (g *gathering) readProject(p *project, id string) (err error) {
	due, expected := g.due[id], min(len(g.due[id]), g.facts.Room.Left(id))
	if p.quota, err = g.Cloud.Quota(g.ctx, id); err != nil {
		return err
	}
	if expected > 1 {
		if err := g.readLists(p, id, expected > 2); err != nil {
			return err
		}
	}
	of := backup.Project{ID: id}
	if len(g.Settings.VolumeLimits) > 0 {
		if of, _, err = g.Cloud.Project(g.ctx, id); err != nil {
			return err
		}
	}
	if p.limit = backup.VolumeLimit(g.Settings.VolumeLimit, g.Settings.VolumeLimits, of); p.limit > 0 {
		p.rank, p.total, err = g.Ledger.Ranks(g.ctx, id, due)
	}
	return err
}

// readLists reads the list of a project's backups, and that of its volumes where asking
// for each would cost more.
func (g *gathering) readLists(p *project, id string, volumes bool) error {
	all, err := g.Cloud.BackupsOf(g.ctx, id, "", time.Time{})
	if err != nil {
		return err
	}
	p.listed, p.unserved = true, backup.Unserved(all)
	clear(p.backups)
	for _, b := range all {
		p.backups[b.Volume] = append(p.backups[b.Volume], b)
	}
	if !volumes {
		return nil
	}
	list, err := g.Cloud.Volumes(g.ctx, id)
	for _, v := range list {
		p.volumes[v.ID] = v
	}
	return err
}

// readVolume reads what is known of one volume.
func (g *gathering) readVolume(p *project, d *Decision) (Answer, error) {
	// Cinder does not tell when the skip key changes: it is read with the volume.
	v, ok := p.volumes[d.Volume]
	if !ok {
		var err error
		v, err = g.Cloud.Volume(g.ctx, d.Project, d.Volume)
		if err != nil && backup.FaultOf(err) == backup.Gone {
			return Answer{Why: "volume not found in its project", Theirs: true}, nil
		} else if err != nil {
			return Answer{}, err
		}
	}
	backups, unserved := p.backups[d.Volume], p.unserved
	if !p.listed {
		var err error
		if backups, err = g.Cloud.BackupsOf(g.ctx, d.Project, d.Volume, time.Time{}); err != nil {
			return Answer{}, err
		}
		unserved = backup.Unserved(backups)
	}
	backups, known, err := g.missed(d, backups)
	return Answer{Facts: backup.Facts{Volume: v, Backups: backups, Known: known, Quota: p.quota, Rank: p.rank[d.Volume],
		Total: p.total, Limit: p.limit, Enrolled: d.Protected, Unserved: unserved}}, err
}

// missed adds a backup of the slot that the ledger knows and the list does not show, asked
// for by its id: lists can come back short. known are the backups that the ledger has seen
// complete.
func (g *gathering) missed(d *Decision, listed []backup.CinderBackup) (
	all []backup.CinderBackup, known map[string]bool, err error,
) {
	records, err := g.Ledger.RecordsOf(g.ctx, d.Project, d.Volume)
	if err != nil {
		return nil, nil, err
	}
	known = map[string]bool{}
	for _, r := range records {
		known[r.ID] = r.Status == "available"
		isListed := slices.ContainsFunc(listed, func(b backup.CinderBackup) bool { return b.ID == r.ID })
		if isListed || !r.Slot.Equal(d.Turn.Slot) {
			continue
		}
		switch b, err := g.Cloud.Backup(g.ctx, d.Project, r.ID); {
		case err == nil && b.Volume != d.Volume: // the row is wrong
		case err == nil:
			listed = append(listed, b)
		case backup.FaultOf(err) != backup.Gone:
			return nil, nil, err
		}
	}
	return listed, known, nil
}

// strain notes in the ledger that Cinder is overloaded, if the error says so.
func (f *Function) strain(ctx context.Context, now time.Time, err error) error {
	if !strained(err) {
		return nil
	}
	return f.Ledger.Strain(context.WithoutCancel(ctx), now)
}

// strained says whether an error means that Cinder is overloaded: it asks for fewer requests
// (429), fails (5xx), or does not answer.
func strained(err error) bool {
	e, ok := errors.AsType[*backup.CloudError](err)
	return ok && (e.Status == 429 || e.Status >= 500 || e.Status == 0)
}
