// Package enroll keeps the ledger's picture of what is protected up to date: when
// something happens to a server or a volume it reads the server again, and a newly
// protected volume becomes due at once.
//
// Set off by: Nova's notifications about instances, legacy and versioned, and
// Cinder's about volumes. They say what to look at, never what to believe.
package enroll

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"staffeln/events"
	"staffeln/events/cinder"
	"staffeln/events/nova"
	"staffeln/functions/backup"
)

// Ledger is what enroll needs of our own memory.
type Ledger interface {
	// Ticket is taken before the cloud is read: what is written with an older ticket
	// never replaces what was written with a newer one.
	Ticket(ctx context.Context, project string) (int64, error)
	Enrolment(ctx context.Context, project, server string) (e backup.Enrolment, lastStamp time.Time, ok bool, err error)
	ServersOf(ctx context.Context, project, volume string) ([]string, error)
	// VolumesOf are those of the ids that are protected, by id, with their enrolments.
	VolumesOf(ctx context.Context, project string, ids []string) (map[string]backup.Protected, error)
	// LastReconciled is when all servers were last looked at; ok is false where they
	// were not since the ledger was empty.
	LastReconciled(ctx context.Context) (at time.Time, ok bool, err error)
	Enroll(ctx context.Context, ticket int64, e backup.Enrolment, volumes []backup.Protected, now time.Time) (backup.Change, error)
	Withdraw(ctx context.Context, ticket int64, project, server string, now time.Time) (backup.Change, error)
}

// Cloud is what enroll needs of OpenStack.
type Cloud interface {
	Project(ctx context.Context, id string) (p backup.Project, included bool, err error)
	Server(ctx context.Context, project, id string) (backup.Server, error)
	Volume(ctx context.Context, project, id string) (backup.Volume, error)
	Volumes(ctx context.Context, project string) ([]backup.Volume, error)
}

// Settings are the operator's.
type Settings struct {
	Classes backup.Classes
	Keys    backup.Keys
	// StampKey is the server metadata key that the service itself writes.
	StampKey string
}

// Function is enroll, ready to run.
type Function struct {
	Ledger   Ledger
	Cloud    Cloud
	Settings Settings
	Log      *slog.Logger
	// Count counts what happened; see the metrics.
	Count func(name string, n float64, labels ...string)
}

// Instance handles Nova's notifications.
func (f *Function) Instance(ctx context.Context, n nova.Instance) error {
	if n.Project == "" {
		// Of no use without the project, whose token it takes to look; reconcile sees it.
		return events.Drop(errors.New("the notification does not tell the project of server " + n.ID))
	}
	known, stamp, enrolled, err := f.Ledger.Enrolment(ctx, n.Project, n.ID)
	if err != nil {
		return err
	}
	g := backup.Glance{
		Name: n.Name, Metadata: n.Metadata, HasMetadata: n.HasMetadata, Tags: n.Tags, HasTags: n.HasTags,
		Deleted: n.Deleted, StateOnly: n.StateOnly, Opaque: n.Opaque, Stamp: n.Metadata[f.Settings.StampKey],
		// A volume that came is news until the ledger has it, one that went until it has not.
		VolumeChange: n.VolumeChange && (n.Volume == "" || attaches(n.Event) != slices.Contains(known.Volumes, n.Volume)),
	}
	if n.VolumeChange && !g.VolumeChange {
		return nil
	}
	if look, _ := backup.WorthLooking(g, known, enrolled, stamp.UTC().Format(time.RFC3339), f.Settings.Keys); !look {
		return nil
	}
	return f.look(ctx, n.Project, n.ID, enrolled, n.At)
}

func attaches(event string) bool {
	return event == "compute.instance.volume.attach" || event == "instance.volume_attach.end" || event == "instance.volume_swap.end"
}

// Volume handles Cinder's notifications about volumes.
func (f *Function) Volume(ctx context.Context, n cinder.Volume) error {
	servers, err := f.Ledger.ServersOf(ctx, n.Project, n.ID)
	if err != nil {
		return err
	}
	if n.Event == "volume.attach.end" && n.HasServers {
		var fresh []string
		for _, s := range n.Servers {
			if !slices.Contains(servers, s) {
				fresh = append(fresh, s)
			}
		}
		servers = fresh
	}
	var errs []error
	for _, server := range servers {
		_, _, enrolled, err := f.Ledger.Enrolment(ctx, n.Project, server)
		if err == nil && enrolled {
			err = f.look(ctx, n.Project, server, true, n.At)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("server %s: %w", server, err))
		}
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// look reads a server and its volumes, decides, and writes down what it came to.
func (f *Function) look(ctx context.Context, project, id string, enrolled bool, now time.Time) error {
	// A project that is excluded, deleted, or where the service user has no role, is
	// nobody's to look at. What is enrolled of it is left to reconcile, which can tell
	// those apart.
	_, included, err := f.Cloud.Project(ctx, project)
	switch {
	case err != nil && backup.FaultOf(err) == backup.Gone, err == nil && !included:
		return nil
	case err != nil:
		return f.answer(ctx, project, id, err)
	}
	ticket, err := f.Ledger.Ticket(ctx, project)
	if err != nil {
		return err
	}
	server, err := f.Cloud.Server(ctx, project, id)
	switch {
	case err != nil && backup.FaultOf(err) == backup.Gone:
		if !enrolled {
			return nil
		}
		return f.withdraw(ctx, ticket, project, id, "deleted", now)
	case err != nil:
		return f.answer(ctx, project, id, err)
	}
	remembered, seen, err := f.remember(ctx, project, server, enrolled, now)
	if err != nil {
		return err
	}
	wish := backup.ReadWish(server.Metadata, server.Tags, f.Settings.Keys, f.Settings.Classes)
	decision := f.Settings.Classes.Decide(server, wish, remembered, f.Settings.Keys, seen)
	if decision.First && seen.IsZero() {
		return nil // reconcile has been asked to look at everything, and says when
	}
	if wish = decision.Wish; !wish.In {
		for _, p := range wish.Problems {
			f.Log.WarnContext(ctx, "server not protected", "project", project, "server", id, "why", p)
		}
		if !decision.Withdraw {
			return nil
		}
		return f.withdraw(ctx, ticket, project, id, wish.Why, now)
	}
	volumes, err := f.volumes(ctx, project, server.Volumes)
	if err != nil {
		return f.answer(ctx, project, id, err)
	}
	e, protected, missing, tried := f.Settings.Classes.Enrol(decision, server, volumes, remembered, f.Settings.Keys, seen)
	for _, v := range missing {
		f.Log.WarnContext(ctx, "volume not protected", "project", project, "server", id, "volume", v, "why", "not found in the server's project")
	}
	change, err := f.Ledger.Enroll(ctx, ticket, e, protected, now)
	if err != nil {
		return err
	}
	if change.Stale {
		return nil
	}
	if decision.First {
		f.Count("lock_attempts_total", 1, "server")
		f.Log.WarnContext(ctx, "attempt on a locked class", "project", project, "server", id, "class", e.Class, "why", wish.Why)
	}
	for _, v := range tried {
		f.Count("lock_attempts_total", 1, "volume")
		f.Log.WarnContext(ctx, "attempt on a locked class", "project", project, "server", id, "volume", v.Volume, "class", e.Class, "why", v.Attempt.Why)
	}
	if !change.Same {
		f.Log.InfoContext(ctx, "server enrolled", "project", project, "server", id, "class", e.Class,
			"volumes", len(e.Volumes), "protected", change.Protected, "unprotected", change.Unprotected, "problems", e.Problems, "why", wish.Why)
	}
	return nil
}

// remember is what is known of a server, where a class is locked, and when what it
// shows was seen; zero for not to be said. A notification that was long under way tells
// of an earlier moment: what reconcile has not found since was not there then, and no
// lock begins before that.
func (f *Function) remember(ctx context.Context, project string, server backup.Server, enrolled bool, now time.Time) (r backup.Remembered, seen time.Time, err error) {
	if !f.Settings.Classes.Locked() {
		return backup.Remembered{Enrolled: enrolled}, now, nil
	}
	r.Told = true
	// After the ticket: what is written down meanwhile makes ours stale.
	if r.Enrolment, _, r.Enrolled, err = f.Ledger.Enrolment(ctx, project, server.ID); err != nil || !r.Enrolled {
		return r, now, err
	}
	if r.Volumes, err = f.Ledger.VolumesOf(ctx, project, server.Volumes); err != nil {
		return r, now, err
	}
	last, _, err := f.Ledger.LastReconciled(ctx)
	if last.IsZero() {
		return r, last, err
	}
	if last.After(now) {
		now = last
	}
	return r, now, err
}

func (f *Function) withdraw(ctx context.Context, ticket int64, project, id, why string, now time.Time) error {
	change, err := f.Ledger.Withdraw(ctx, ticket, project, id, now)
	if err == nil && !change.Stale && !change.Same {
		f.Log.InfoContext(ctx, "server withdrawn", "project", project, "server", id, "unprotected", change.Unprotected, "why", why)
	}
	return err
}

// volumes reads the volumes one by one, or in one list where that is less. One that
// is not found is missing from the answer.
func (f *Function) volumes(ctx context.Context, project string, ids []string) (map[string]backup.Volume, error) {
	found := map[string]backup.Volume{}
	if len(ids) > 2 {
		all, err := f.Cloud.Volumes(ctx, project)
		if err != nil {
			return nil, err
		}
		for _, v := range all {
			found[v.ID] = v
		}
	}
	for _, id := range ids {
		if _, ok := found[id]; ok {
			continue
		}
		v, err := f.Cloud.Volume(ctx, project, id)
		switch {
		case err == nil:
			found[id] = v
		case backup.FaultOf(err) != backup.Gone:
			return nil, err
		}
	}
	return found, nil
}

// answer is what to do about an event that OpenStack could not be asked about.
// Where the operator has to act first, the event is not kept: there may be any
// number of them, and reconcile sees what they were about.
func (f *Function) answer(ctx context.Context, project, server string, err error) error {
	e, ok := errors.AsType[*backup.CloudError](err)
	switch {
	case ok && e.Fault == backup.Operator:
		f.Log.WarnContext(ctx, "server not looked at", "project", project, "server", server, "err", err)
		return nil
	case ok && e.After > 0:
		return events.Later(min(e.After, 10*time.Minute), err)
	}
	return err
}
