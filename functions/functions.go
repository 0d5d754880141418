// Package functions is the catalogue: every function there is, what sets it off,
// and what it is made of. Read this file first.
package functions

import (
	"log/slog"
	"time"

	"staffeln/events"
	"staffeln/events/cinder"
	"staffeln/events/nova"
	"staffeln/functions/backup"
	"staffeln/functions/dispatch"
	"staffeln/functions/enroll"
	"staffeln/functions/reconcile"
	"staffeln/functions/track"
	"staffeln/runtime"
)

// Ledger is the ledger as all functions see it together.
type Ledger interface {
	enroll.Ledger
	reconcile.Ledger
	dispatch.Ledger
	track.Ledger
}

// Cloud is OpenStack as all functions see it together.
type Cloud interface {
	enroll.Cloud
	reconcile.Cloud
	dispatch.Cloud
	track.Cloud
}

// Settings are the operator's, as the functions need them.
type Settings struct {
	Classes  backup.Classes
	Keys     backup.Keys
	Template string
	// Limits, PerService, VolumeLimit and VolumeLimits bound what runs and what is
	// protected; see [dispatch.Settings].
	Limits       backup.Limits
	PerService   int
	VolumeLimit  int
	VolumeLimits map[string]int
	// DeadlineBase and DeadlinePerGiB say when a backup is given up on.
	DeadlineBase, DeadlinePerGiB time.Duration
	// APITimeout is how long an answer of OpenStack's is waited for.
	APITimeout time.Duration
	// Period and BackupsPeriod are reconcile's.
	Period, BackupsPeriod time.Duration
	// Orphan and Brake are retention's; see functions/retention.
	Orphan backup.Age
	Brake  backup.Brake
}

// StampKey is the server metadata key for the time of the newest backup.
const StampKey = "last-backup-time"

// Needs is the outside world, as the functions see it.
type Needs struct {
	Ledger   Ledger
	Cloud    Cloud
	Settings Settings
	Log      *slog.Logger
	// Count counts what happened; see runtime/metrics.
	Count func(name string, n float64, labels ...string)
}

// All returns the functions, wired.
func All(n Needs) []runtime.Function {
	s := n.Settings
	log := func(function string) *slog.Logger { return n.Log.With("function", function) }
	// Longer than any client of ours waits for an answer: a request that is not seen
	// in Cinder after that never got there.
	grace := s.APITimeout + 30*time.Second

	en := &enroll.Function{Ledger: n.Ledger, Cloud: n.Cloud, Log: log("enroll"),
		Settings: enroll.Settings{Classes: s.Classes, Keys: s.Keys, StampKey: StampKey}}
	re := &reconcile.Function{Ledger: n.Ledger, Cloud: n.Cloud, Log: log("reconcile"), Count: n.Count,
		Settings: reconcile.Settings{Classes: s.Classes, Keys: s.Keys, Period: s.Period, BackupsPeriod: s.BackupsPeriod, StampKey: StampKey,
			DeadlineBase: s.DeadlineBase, DeadlinePerGiB: s.DeadlinePerGiB}}
	di := &dispatch.Function{Ledger: n.Ledger, Cloud: n.Cloud, Log: log("dispatch"), Count: n.Count,
		Settings: dispatch.Settings{Classes: s.Classes, Keys: s.Keys, Template: s.Template, Limits: s.Limits, PerService: s.PerService,
			VolumeLimit: s.VolumeLimit, VolumeLimits: s.VolumeLimits, DeadlineBase: s.DeadlineBase, DeadlinePerGiB: s.DeadlinePerGiB, Grace: grace}}
	tr := &track.Function{Ledger: n.Ledger, Cloud: n.Cloud, Log: log("track"), Count: n.Count,
		Settings: track.Settings{Classes: s.Classes, Grace: grace, StampKey: StampKey}}

	return []runtime.Function{
		{Name: "enroll", On: join(
			on(nova.Types, events.On(nova.DecodeInstance, en.Instance)),
			on(cinder.VolumeTypes, events.On(cinder.DecodeVolume, en.Volume)))},
		{Name: "reconcile", On: on([]string{"tick.reconcile"}, events.On(events.DecodeTick, re.Reconcile))},
		{Name: "dispatch", On: on([]string{"tick.dispatch"}, events.On(events.DecodeTick, di.Dispatch))},
		{Name: "track", On: join(
			on(cinder.BackupTypes, events.On(cinder.DecodeBackup, tr.Told)),
			on([]string{"tick.track"}, events.On(events.DecodeTick, tr.Track)))},
	}
}

// A Tick is a timer that a function needs.
type Tick struct {
	Function string
	Every    time.Duration
	// Sharded says that every shard gets a tick of its own.
	Sharded bool
}

// Ticks are the timers that the functions need. Reconcile's comes often, and finds
// by itself that it is too early.
func Ticks(dispatch, track, reconcile time.Duration) []Tick {
	return []Tick{
		{Function: "dispatch", Every: dispatch, Sharded: true},
		{Function: "track", Every: track, Sharded: true},
		{Function: "reconcile", Every: reconcile},
	}
}

func on(types []string, h events.Handler) map[string]events.Handler {
	m := map[string]events.Handler{}
	for _, t := range types {
		m[t] = h
	}
	return m
}

func join(all ...map[string]events.Handler) map[string]events.Handler {
	m := map[string]events.Handler{}
	for _, one := range all {
		for t, h := range one {
			m[t] = h
		}
	}
	return m
}
