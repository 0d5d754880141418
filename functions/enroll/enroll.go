// Package enroll keeps the ledger up to date about what is protected: when something happens
// to a server or a volume, it reads the server again. A newly protected volume is due at once.
//
// Set off by: Nova's notifications about instances, legacy and versioned, and Cinder's about
// volumes. A notification only says which server to read; its contents are not trusted.
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

// Ledger is the part of the ledger that enroll uses.
type Ledger interface {
	// Ticket is taken before the cloud is read: a write with an older ticket never replaces
	// one with a newer ticket.
	Ticket(ctx context.Context, project string) (int64, error)
	Enrolment(ctx context.Context, project, server string) (e backup.Enrolment, lastStamp time.Time, ok bool, err error)
	ServersOf(ctx context.Context, project, volume string) ([]string, error)
	// VolumesOf returns the protected volumes among the ids, by id, with their enrolments.
	VolumesOf(ctx context.Context, project string, ids []string) (map[string]backup.Protected, error)
	// LastReconciled is when all servers were last read; ok is false if they were not since the
	// ledger was found empty.
	LastReconciled(ctx context.Context) (at time.Time, ok bool, err error)
	Enroll(ctx context.Context, ticket int64, e backup.Enrolment, volumes []backup.Protected, now time.Time) (
		backup.Change, error)
	Withdraw(ctx context.Context, ticket int64, project, server string, now time.Time) (backup.Change, error)
}

// Cloud is the part of OpenStack that enroll uses.
type Cloud interface {
	Project(ctx context.Context, id string) (p backup.Project, included bool, err error)
	Server(ctx context.Context, project, id string) (backup.Server, error)
	Volume(ctx context.Context, project, id string) (backup.Volume, error)
	Volumes(ctx context.Context, project string) ([]backup.Volume, error)
}

// Function is enroll, ready to run.
type Function struct {
	Ledger   Ledger
	Cloud    Cloud
	Settings backup.Settings
	Log      *slog.Logger
	// Count adds n to a counter of runtime/metrics.
	Count func(name string, n float64, labels ...string)
}

// Instance handles Nova's notifications.
func (f *Function) Instance(ctx context.Context, n nova.Instance) error {
	if n.Project == "" {
		// Reading the server takes a token of its project. Reconcile finds the server.
		return events.Drop(fmt.Errorf("the notification names no project of server %s (%s)", n.ID, n.Name))
	}
	known, stamp, enrolled, err := f.Ledger.Enrolment(ctx, n.Project, n.ID)
	if err != nil {
		return err
	}
	g := backup.Glance{
		Name: n.Name, Metadata: n.Metadata, HasMetadata: n.HasMetadata, Tags: n.Tags, HasTags: n.HasTags,
		Deleted: n.Deleted, StateOnly: n.StateOnly, Opaque: n.Opaque, Stamp: n.Metadata[backup.StampKey],
		// An attached volume is news until the ledger has it, a detached one while it has it.
		VolumeChange: n.VolumeChange && (n.Volume == "" || attaches(n.Event) != slices.Contains(known.Volumes, n.Volume)),
	}
	if n.VolumeChange && !g.VolumeChange {
		return nil
	}
	if worth, _ := backup.WorthReading(g, known, enrolled, stamp.UTC().Format(time.RFC3339), f.Settings.Keys); !worth {
		return nil
	}
	return f.read(ctx, n.Project, n.ID, known, enrolled, n.At)
}

func attaches(event string) bool {
	return event == "compute.instance.volume.attach" || event == "instance.volume_attach.end" ||
		event == "instance.volume_swap.end"
}

// Volume handles Cinder's notifications about volumes.
func (f *Function) Volume(ctx context.Context, n cinder.Volume) error {
	servers, err := f.Ledger.ServersOf(ctx, n.Project, n.ID)
	if err != nil {
		return err
	}
	if n.Event == "volume.attach.end" && n.HasServers {
		// Only a server that the ledger does not know to have the volume is news.
		servers = slices.DeleteFunc(slices.Clone(n.Servers), func(s string) bool { return slices.Contains(servers, s) })
	}
	var errs []error
	for _, server := range servers {
		known, _, enrolled, err := f.Ledger.Enrolment(ctx, n.Project, server)
		if err == nil && enrolled {
			err = f.read(ctx, n.Project, server, known, true, n.At)
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

// read reads a server and its volumes, decides, and writes the decision down. known is what the
// ledger has of the server, if enrolled.
func (f *Function) read(ctx context.Context, project, id string, known backup.Enrolment, enrolled bool,
	now time.Time) error {
	log := f.Log.With("project", project, "server", id, "server_name", known.Name)
	// Nothing is read of a project that is excluded or deleted, or where the service user has no
	// role. Reconcile can tell these apart, and withdraws what is enrolled of it.
	_, included, err := f.Cloud.Project(ctx, project)
	switch {
	case err != nil && backup.FaultOf(err) == backup.Gone, err == nil && !included:
		return nil
	case err != nil:
		return f.unread(ctx, log, err)
	}
	ticket, err := f.Ledger.Ticket(ctx, project)
	if err != nil {
		return err
	}
	server, err := f.Cloud.Server(ctx, project, id)
	switch {
	case err != nil && backup.FaultOf(err) == backup.Gone && enrolled:
		return f.withdraw(ctx, log, ticket, project, id, "deleted", now)
	case err != nil && backup.FaultOf(err) == backup.Gone:
		return nil
	case err != nil:
		return f.unread(ctx, log, err)
	}
	log = f.Log.With("project", project, "server", id, "server_name", server.Name)
	remembered, seen, err := f.remember(ctx, project, server, enrolled, now)
	if err != nil {
		return err
	}
	wish := backup.ReadWish(server.Metadata, server.Tags, f.Settings.Keys, f.Settings.Classes)
	decision := f.Settings.Classes.Decide(server, wish, remembered, f.Settings.Keys, seen)
	if decision.First && seen.IsZero() {
		return nil // a reconcile has been asked for, and decides when the attempt began
	}
	if decision.Wish.In {
		volumes, err := f.volumes(ctx, project, server.Volumes)
		if err != nil {
			return f.unread(ctx, log, err)
		}
		e, protected, missing, tried := f.Settings.Classes.Enrol(decision, server, volumes, remembered, f.Settings.Keys, seen)
		for _, v := range missing {
			log.WarnContext(ctx, "volume not protected", "volume", v, "why", "not found in the server's project")
		}
		change, err := f.Ledger.Enroll(ctx, ticket, e, protected, now)
		if err == nil && !change.Stale {
			f.enrolled(ctx, log.With("class", e.Class), e, decision, change, tried)
		}
		return err
	}
	for _, p := range decision.Wish.Problems {
		log.WarnContext(ctx, "server not protected", "why", p)
	}
	if !decision.Withdraw {
		return nil
	}
	return f.withdraw(ctx, log, ticket, project, id, decision.Wish.Why, now)
}

// remember returns what the ledger knows of a server and its volumes, and the time to decide
// by. Both matter only if a class is locked. The time is zero if none is known: then no attempt
// on a lock may begin. A notification can be delayed, so the time is at least that of the last
// reconcile: an attempt that reconcile did not find had not been made by then.
func (f *Function) remember(ctx context.Context, project string, server backup.Server, enrolled bool, now time.Time) (
	r backup.Remembered, seen time.Time, err error) {
	if !f.Settings.Classes.Locked() {
		return backup.Remembered{Enrolled: enrolled}, now, nil
	}
	r.Told = true
	// This read comes after the ticket: if somebody writes in between, ours is stale.
	if r.Enrolment, _, r.Enrolled, err = f.Ledger.Enrolment(ctx, project, server.ID); err != nil || !r.Enrolled {
		return r, now, err
	}
	if r.Volumes, err = f.Ledger.VolumesOf(ctx, project, server.Volumes); err != nil {
		return r, now, err
	}
	last, _, err := f.Ledger.LastReconciled(ctx)
	if last.IsZero() || last.After(now) {
		return r, last, err
	}
	return r, now, err
}

// enrolled logs and counts what is new about an enrolled server.
func (f *Function) enrolled(ctx context.Context, log *slog.Logger, e backup.Enrolment, decision backup.Decision,
	change backup.Change, tried []backup.Protected) {
	if decision.First {
		f.Count("lock_attempts_total", 1, "server")
		log.WarnContext(ctx, "attempt on a locked class", "why", decision.Wish.Why)
	}
	for _, v := range tried {
		f.Count("lock_attempts_total", 1, "volume")
		log.WarnContext(ctx, "attempt on a locked class", "volume", v.Volume, "volume_name", v.Name, "why", v.Attempt.Why)
	}
	if !change.Same {
		log.InfoContext(ctx, "server enrolled", "volumes", len(e.Volumes), "protected", change.Protected,
			"unprotected", change.Unprotected, "problems", e.Problems, "why", decision.Wish.Why)
	}
}

func (f *Function) withdraw(ctx context.Context, log *slog.Logger, ticket int64, project, id, why string,
	now time.Time) error {
	change, err := f.Ledger.Withdraw(ctx, ticket, project, id, now)
	if err == nil && !change.Stale && !change.Same {
		log.InfoContext(ctx, "server withdrawn", "unprotected", change.Unprotected, "why", why)
	}
	return err
}

// volumes reads volumes by id, or all of the project in one list if there are more than two. A
// volume that Cinder does not have is left out.
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

// unread says what to do about an event when OpenStack could not be read. If an operator has to
// act first, the event is dropped, since many more may follow: reconcile finds the change.
func (f *Function) unread(ctx context.Context, log *slog.Logger, err error) error {
	e, ok := errors.AsType[*backup.CloudError](err)
	switch {
	case ok && e.Fault == backup.Operator:
		log.WarnContext(ctx, "server not read", "err", err)
		return nil
	case ok && e.After > 0:
		return events.Later(min(e.After, 10*time.Minute), err)
	}
	return err
}
