// Package functions is the catalogue: every function, what sets it off, and what it is
// made of. Events set off those of [All]; Cinder calls [Policy] over HTTP. Read this file
// first.
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
	"staffeln/functions/policy"
	"staffeln/functions/reconcile"
	"staffeln/functions/report"
	"staffeln/functions/report/words"
	"staffeln/functions/retention"
	"staffeln/functions/track"
	"staffeln/runtime"
)

// Ledger is the ledger as all functions see it together.
type Ledger interface {
	enroll.Ledger
	reconcile.Ledger
	dispatch.Ledger
	track.Ledger
	retention.Ledger
	report.Ledger
}

// Cloud is OpenStack as all functions see it together.
type Cloud interface {
	enroll.Cloud
	reconcile.Cloud
	dispatch.Cloud
	track.Cloud
	retention.Cloud
	report.Cloud
}

// Settings are the operator's, as the functions need them.
type Settings struct {
	backup.Settings
	Report report.Settings // about digests
}

// Needs is the outside world, as the functions see it.
type Needs struct {
	Ledger Ledger
	Cloud  Cloud
	// Mail sends digests, written with Theme: the built-in one if nil.
	Mail     report.Mail
	Theme    *words.Theme
	Settings Settings
	Log      *slog.Logger
	// Count counts what happened; see runtime/metrics.
	Count func(name string, n float64, labels ...string)
}

// Policy is the function that Cinder asks over HTTP before each deletion. It is built apart
// from the others, because it is served before anything is connected.
func Policy(f *policy.Function) runtime.Function {
	f.Log = f.Log.With("function", "policy")
	return runtime.Function{Name: "policy", HTTP: f.Handler()}
}

// All returns the functions that events set off, wired.
func All(n Needs) []runtime.Function {
	s := n.Settings
	log := func(function string) *slog.Logger { return n.Log.With("function", function) }

	en := &enroll.Function{Ledger: n.Ledger, Cloud: n.Cloud, Log: log("enroll"), Count: n.Count,
		Settings: s.Settings}
	re := &reconcile.Function{Ledger: n.Ledger, Cloud: n.Cloud, Log: log("reconcile"), Count: n.Count,
		Settings: s.Settings}
	di := &dispatch.Function{Ledger: n.Ledger, Cloud: n.Cloud, Log: log("dispatch"), Count: n.Count,
		Settings: s.Settings}
	tr := &track.Function{Ledger: n.Ledger, Cloud: n.Cloud, Log: log("track"), Count: n.Count,
		Settings: s.Settings}
	rt := &retention.Function{Ledger: n.Ledger, Cloud: n.Cloud, Log: log("retention"), Count: n.Count,
		Settings: s.Settings}
	rp := n.Report()

	return []runtime.Function{
		{Name: "enroll", On: join(
			on(nova.Types, events.On(nova.DecodeInstance, en.Instance)),
			on(cinder.VolumeTypes, events.On(cinder.DecodeVolume, en.Volume)))},
		{Name: "reconcile", On: on([]string{"tick.reconcile"}, events.On(events.DecodeTick, re.Reconcile))},
		{Name: "dispatch", On: on([]string{"tick.dispatch"}, events.On(events.DecodeTick, di.Dispatch))},
		{Name: "track", On: join(
			on(cinder.BackupTypes, events.On(cinder.DecodeBackup, tr.Told)),
			on([]string{"tick.track"}, events.On(events.DecodeTick, tr.Track)))},
		{Name: "retention", On: join(
			on([]string{"backup.delete.end"}, events.On(cinder.DecodeBackup, rt.Told)),
			on([]string{"tick.retention"}, events.On(events.DecodeTick, rt.Retention)))},
		{Name: "report", On: on([]string{"tick.report"}, events.On(events.DecodeTick, rp.Report))},
	}
}

// Names are the names of all functions.
func Names() []string {
	names := []string{"policy"}
	for _, f := range All(Needs{Log: slog.New(slog.DiscardHandler)}) {
		names = append(names, f.Name)
	}
	return names
}

// Report is the function report alone, as [All] has it.
func (n Needs) Report() *report.Function {
	f := &report.Function{Ledger: n.Ledger, Cloud: n.Cloud, Mail: n.Mail, Theme: n.Theme,
		Log: n.Log.With("function", "report"), Count: n.Count,
		Settings: n.Settings.Settings, Digests: n.Settings.Report}
	if f.Theme == nil {
		f.Theme = words.Builtin()
	}
	return f
}

// A Tick is a timer that a function needs.
type Tick struct {
	Function string
	Every    time.Duration
	// Sharded says that every shard gets a tick of its own.
	Sharded bool
}

// Intervals are how often each function that needs a timer is looked for.
type Intervals struct{ Dispatch, Track, Retention, Report, Reconcile time.Duration }

// Ticks are the timers that the functions need. Reconcile's comes often, and finds
// by itself that it is too early.
func Ticks(every Intervals) []Tick {
	return []Tick{
		{Function: "dispatch", Every: every.Dispatch, Sharded: true},
		{Function: "track", Every: every.Track, Sharded: true},
		{Function: "retention", Every: every.Retention, Sharded: true},
		{Function: "report", Every: every.Report, Sharded: true},
		{Function: "reconcile", Every: every.Reconcile},
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
