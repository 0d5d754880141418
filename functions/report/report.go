// Package report tells the owners of a project what became of their backups: one
// letter for each period, also where everything failed, and each finished run in
// exactly one of them.
//
// Set off by: the tick "report", for each shard. That of shard 0 also tells the
// operators, once in a period and only where there is something for them to do.
package report

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"staffeln/events"
	"staffeln/functions/backup"
	"staffeln/functions/report/words"
)

// Ledger is what report needs of our own memory.
type Ledger interface {
	// Ready says that a reconcile has ended since the shard was found empty.
	Ready(ctx context.Context, shard int) (bool, error)
	Projects(ctx context.Context, shard int) ([]string, error)
	// Reports are what is remembered of the digests of a shard's projects, by project.
	Reports(ctx context.Context, shard int) (map[string]backup.Reporting, error)
	// CutDigest puts the finished runs and removals that no digest has told of aside,
	// and returns them; while there are some aside already, it returns those alone.
	CutDigest(ctx context.Context, project string) ([]backup.Run, []backup.Removal, error)
	// Finished are the runs that no digest has told of and that are not aside, the
	// newest max of them.
	Finished(ctx context.Context, project string, max int) ([]backup.Run, error)
	// SaveReport writes what is remembered of a project's digests. told drops what was
	// put aside, in the same step. saved is false where somebody else has written since.
	SaveReport(ctx context.Context, r backup.Reporting, told bool) (saved bool, err error)
	Runs(ctx context.Context, shard int) ([]backup.Run, error)
	Volumes(ctx context.Context, shard int) ([]backup.Protected, error)
	Enrolments(ctx context.Context, shard int) ([]backup.Enrolment, error)
	Records(ctx context.Context, project string) ([]backup.Record, error)
	Retention(ctx context.Context, project string) (backup.Retention, error)
	// Foreign are the project's backups that carry our metadata and are not ours.
	Foreign(ctx context.Context, project string) ([]backup.Foreign, error)

	// Shards is in how many parts the work is split.
	Shards() int
	// Mark and Marked remember when something of the whole cloud was last done.
	Mark(ctx context.Context, what string, at time.Time) error
	Marked(ctx context.Context, what string) (at time.Time, ok bool, err error)
	// Held are the projects of the whole cloud where something holds removals back.
	Held(ctx context.Context) ([]backup.Retention, error)
	// Totals are the numbers of the whole cloud as last counted.
	Totals(ctx context.Context) (map[string]int, error)
}

// Cloud is what report needs of OpenStack.
type Cloud interface {
	Project(ctx context.Context, id string) (p backup.Project, included bool, err error)
	// Servers of a scope that is a project are all of it.
	Servers(ctx context.Context, scope string) ([]backup.Server, error)
	BackupsOf(ctx context.Context, project, volume string, since time.Time) ([]backup.CinderBackup, error)
	Quota(ctx context.Context, project string) (backup.Quota, error)
	// Members are the people with a role in the project, by groups and inheritance,
	// too, who have an address and are not disabled.
	Members(ctx context.Context, project string) ([]backup.Person, error)
	// Clock is what time it is by the cloud's own clock; ok is false where that is not
	// known.
	Clock() (at time.Time, ok bool)
}

// Mail sends letters. An error is a [*backup.MailError].
type Mail interface {
	Send(ctx context.Context, l backup.Letter) error
}

// Settings are the operator's.
type Settings struct {
	Classes backup.Classes
	Keys    backup.Keys
	// Schedule says when a period ends, in its own zone, in which digests tell times.
	Schedule backup.Schedule
	// Patience is how long after that a digest waits for runs and removals.
	Patience time.Duration
	// Recipients are the addresses for all digests; else {project}@Domain; else the
	// project's members.
	Recipients []string
	Domain     string
	// Blind sends one letter to all, as blind copies, instead of one to each.
	Blind bool
	// Operators are told of errors, once in a period; nobody where it is empty.
	Operators []string
	// LockMail tells owners and operators of an attempt on a locked class at once.
	LockMail bool
	// Deadline is how long a backup may run.
	Deadline backup.TimeLimit
}

// Function is report, ready to run.
type Function struct {
	Ledger   Ledger
	Cloud    Cloud
	Mail     Mail
	Theme    *words.Theme
	Settings Settings
	Log      *slog.Logger
	// Count counts what happened; see the metrics.
	Count func(name string, n float64, labels ...string)

	memory memory
}

// memory is how many backups policies come to. All digests of a period are of one
// moment and of a few policies, and each would play through years of backups.
type memory struct {
	mu     sync.Mutex
	at     time.Time
	steady map[string]int
}

func (m *memory) of(p backup.Policy, now time.Time) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.steady == nil || !m.at.Equal(now) {
		m.at, m.steady = now, map[string]int{}
	}
	n, known := m.steady[p.Words()]
	if !known {
		n = backup.Steady(p, now)
		m.steady[p.Words()] = n
	}
	return n
}

// Report handles the tick.
func (f *Function) Report(ctx context.Context, t events.Tick) error {
	ready, err := f.Ledger.Ready(ctx, t.Shard)
	if err != nil || !ready {
		return err // what is protected is not known yet
	}
	// By one that is ahead periods would be over too soon; by one that is behind, those
	// that were told would begin anew.
	if theirs, wrong := f.wrong(t.At); wrong {
		f.Log.ErrorContext(ctx, "no digests: the clock is not OpenStack's", "ours", t.At.UTC().Format(time.RFC3339), "theirs", theirs.UTC().Format(time.RFC3339))
		return nil
	}
	s := &shard{}
	if s.projects, err = f.Ledger.Projects(ctx, t.Shard); err != nil {
		return err
	}
	if s.reports, err = f.Ledger.Reports(ctx, t.Shard); err != nil {
		return err
	}
	slot := f.Settings.Schedule.Slot(t.At)
	var errs []error
	if f.Settings.LockMail && f.Settings.Classes.Locked() {
		if err := f.alarms(ctx, s, t.Shard, t.At); err != nil {
			errs = append(errs, fmt.Errorf("attempts on locked classes: %w", err))
		}
	}
	for _, project := range s.projects {
		if r := s.reports[project]; r.Pending == nil && !r.Last.Before(slot) && !f.impossible(r.Last, t.At) {
			continue // told: most looks end here, before anything is asked for
		}
		if ctx.Err() != nil {
			return errors.Join(append(errs, ctx.Err())...)
		}
		if err := f.fill(ctx, s, t.Shard); err != nil {
			return err
		}
		// One project's trouble does not delay another's.
		if err := f.project(ctx, project, s, t.At); err != nil {
			errs = append(errs, fmt.Errorf("project %s: %w", project, err))
		}
	}
	if t.Shard == 0 && len(f.Settings.Operators) > 0 {
		if err := f.operators(ctx, t.At); err != nil {
			errs = append(errs, fmt.Errorf("operators: %w", err))
		}
	}
	return errors.Join(errs...)
}

// wrong says whether a moment cannot be now, and what time it is by the cloud.
func (f *Function) wrong(now time.Time) (clouds time.Time, wrong bool) {
	clouds, known := f.Cloud.Clock()
	return clouds, known && (backup.Ahead(now, clouds) || backup.Ahead(clouds, now))
}

// impossible says whether the end of the period that was last told of is so far
// ahead that a clock was wrong then. A little ahead is a tick that comes late: what
// belongs to its period has been told meanwhile.
func (f *Function) impossible(last, now time.Time) bool {
	return last.After(f.Settings.Schedule.Next(f.Settings.Schedule.Next(now)))
}

// shard is what the ledger says of all projects of one.
type shard struct {
	projects   []string
	reports    map[string]backup.Reporting
	runs       map[string][]backup.Run
	volumes    map[string][]backup.Protected
	enrolments map[string][]backup.Enrolment
}

// fill reads the rest, once it is needed.
func (f *Function) fill(ctx context.Context, s *shard, number int) error {
	if s.runs != nil {
		return nil
	}
	runs, err := f.Ledger.Runs(ctx, number)
	if err != nil {
		return err
	}
	volumes, err := f.Ledger.Volumes(ctx, number)
	if err != nil {
		return err
	}
	enrolments, err := f.Ledger.Enrolments(ctx, number)
	if err != nil {
		return err
	}
	s.runs, s.volumes, s.enrolments = map[string][]backup.Run{}, map[string][]backup.Protected{}, map[string][]backup.Enrolment{}
	for _, r := range runs {
		s.runs[r.Project] = append(s.runs[r.Project], r)
	}
	for _, v := range volumes {
		s.volumes[v.Project] = append(s.volumes[v.Project], v)
	}
	for _, e := range enrolments {
		s.enrolments[e.Project] = append(s.enrolments[e.Project], e)
	}
	return nil
}

// project makes the project's digest when its time has come, and sends it.
func (f *Function) project(ctx context.Context, id string, s *shard, now time.Time) error {
	r := s.reports[id]
	r.Project = id
	made := false
	if r.Pending == nil {
		var err error
		if made, err = f.make(ctx, &r, s, now); err != nil || !made {
			return err
		}
	}
	if made {
		return f.send(ctx, &r, now) // it is ours, by having been made
	}
	if now.Before(r.Pending.Again) && !r.Pending.Again.After(now.Add(mostWait)) {
		return nil
	}
	r.Pending.Again = now.Add(sending)
	saved, err := f.Ledger.SaveReport(ctx, r, false)
	if err != nil || !saved {
		return err // somebody else is at it
	}
	r.Version++
	return f.send(ctx, &r, now)
}

// sending is how long a digest belongs to whoever is about to send it: longer than a
// tick may take. Another one would not know whom this one has told, and mail servers
// do not look for letters they have seen.
const sending = 11 * time.Minute

// make freezes the digest of a period that is over; made is false where there is
// nothing to tell, or not yet.
func (f *Function) make(ctx context.Context, r *backup.Reporting, s *shard, now time.Time) (made bool, err error) {
	if r.Last.IsZero() || f.impossible(r.Last, now) {
		if _, wrong := f.wrong(now); wrong {
			return false, nil // by now: this process may have been standing still
		}
		// The first of a project, or after Redis was lost, or after a clock that was wrong:
		// the period is the one that is going on.
		r.Last, r.Guessed = f.Settings.Schedule.Slot(now), true
		_, err := f.Ledger.SaveReport(ctx, *r, false)
		return false, err
	}
	removals, err := f.Ledger.Retention(ctx, r.Project)
	if err != nil {
		return false, err
	}
	due, to, why := backup.ReportDue(f.Settings.Schedule, *r, s.runs[r.Project], s.volumes[r.Project], removals, f.Settings.Patience, now)
	if !due {
		return false, nil
	}
	digest, failing, err := f.digest(ctx, *r, s, removals, to)
	if err != nil {
		return false, err
	}
	if digest.Quiet() {
		r.Last, r.Guessed, r.Failing, r.Errors = to, false, nil, nil
		r.Foreign = digest.ForeignIDs()
		_, err := f.Ledger.SaveReport(ctx, *r, true)
		return false, err
	}
	r.Pending = &backup.Pending{Digest: digest.Trimmed(), Failing: failing, Again: now.Add(sending)}
	saved, err := f.Ledger.SaveReport(ctx, *r, false)
	if err != nil || !saved {
		return false, err
	}
	r.Version++
	f.Log.InfoContext(ctx, "digest made", "project", r.Project, "digest", digest.ID, "complete", digest.Complete, "failed", digest.Failed, "why", why)
	return true, nil
}

// digest puts what is to be told aside, and makes the facts of it.
func (f *Function) digest(ctx context.Context, r backup.Reporting, s *shard, removals backup.Retention, to time.Time) (backup.Digest, map[string]time.Time, error) {
	runs, removed, err := f.Ledger.CutDigest(ctx, r.Project)
	if err != nil {
		return backup.Digest{}, nil, err
	}
	return f.summarise(ctx, r, s, removals, to, runs, removed)
}

// summarise gathers the rest of the facts, and changes nothing.
func (f *Function) summarise(ctx context.Context, r backup.Reporting, s *shard, removals backup.Retention, to time.Time, runs []backup.Run, removed []backup.Removal) (backup.Digest, map[string]time.Time, error) {
	in := backup.DigestInput{
		Runs: runs, Removed: removed,
		Project: backup.Project{ID: r.Project}, From: r.Last, To: to, Zone: f.Settings.Schedule.Zone(), Held: removals.Held, Failing: r.Failing,
		Volumes: s.volumes[r.Project], Enrolments: s.enrolments[r.Project],
		Classes: f.Settings.Classes, Keys: f.Settings.Keys, Deadline: f.Settings.Deadline,
	}
	var err error
	if in.Records, err = f.Ledger.Records(ctx, r.Project); err != nil {
		return backup.Digest{}, nil, err
	}
	in.ForeignTold = r.Foreign
	if in.Foreign, err = f.Ledger.Foreign(ctx, r.Project); err != nil {
		return backup.Digest{}, nil, err
	}
	if r.Guessed {
		// What is forgotten here is forgotten for good: rather no digest for a while.
		if err := f.readBack(ctx, &in, s.runs[r.Project]); err != nil && !f.gone(ctx, r.Project) {
			return backup.Digest{}, nil, err
		}
	}
	// What OpenStack cannot say now is told as unknown: the digest does not wait for it.
	project, _, err := f.Cloud.Project(ctx, r.Project)
	if err != nil {
		f.Log.WarnContext(ctx, "digest without the project's name", "project", r.Project, "err", err)
	}
	in.Project = backup.Project{ID: r.Project, Name: project.Name}
	if in.Quota, err = f.Cloud.Quota(ctx, r.Project); err != nil {
		in.QuotaUnknown = "OpenStack did not answer: " + backup.Said(err)
	}
	if in.Servers, err = f.Cloud.Servers(ctx, r.Project); err != nil {
		in.Servers = nil
		f.Log.WarnContext(ctx, "digest without a look at the servers", "project", r.Project, "err", err)
	}
	in.Steady = f.memory.of
	digest, failing := backup.Summarise(in)
	return digest, failing, nil
}

// readBack adds the complete runs of the period that the ledger does not know of,
// since Redis was lost in it: their backups tell. Of those that were open before the
// finished ones were put aside, this digest or the next one tells anyway, though
// Cinder may have finished with them by now.
func (f *Function) readBack(ctx context.Context, in *backup.DigestInput, open []backup.Run) error {
	// Those that are finished and were not put aside are the next digest's: what is
	// aside may be from an earlier look, whose digest came to nothing.
	later, err := f.Ledger.Finished(ctx, in.Project.ID, mostUntold)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, r := range slices.Concat(in.Runs, open, later) {
		known[r.ID()] = true
	}
	all, err := f.Cloud.BackupsOf(ctx, in.Project.ID, "", time.Time{})
	if err != nil {
		return fmt.Errorf("which backups there are: %w", err)
	}
	names := map[string]string{}
	for _, v := range in.Volumes {
		names[v.Volume] = v.Name
	}
	for _, b := range all {
		slot, attempt, ok := b.Run()
		if !ok || b.Status != "available" || b.Created.Before(in.From) || !b.Created.Before(in.To) || known[backup.RunID(b.Volume, slot)] {
			continue
		}
		record := backup.RecordOf(b)
		in.Runs = append(in.Runs, backup.Run{
			Volume: b.Volume, Project: b.Project, Slot: slot, Attempt: attempt, Kind: record.Kind, State: backup.Complete, Backup: b.ID,
			Started: b.Created, Ended: b.Updated, VolumeName: names[b.Volume], ServerName: b.Metadata[backup.MetaServerName],
			Class: b.Metadata[backup.MetaClass], Size: b.Size, Why: "read back from Cinder",
		})
	}
	return nil
}

// mostWait is how long a letter that did not go is left alone at most.
const mostWait = 6 * time.Hour

// send tells everybody who has not been told yet, and writes down each who has at
// once: whatever happens in between, nobody gets another letter, at worst the very
// same one again.
func (f *Function) send(ctx context.Context, r *backup.Reporting, now time.Time) error {
	p := r.Pending
	people, err := f.recipients(ctx, r.Project, p.Digest.Name)
	if err == nil && len(people) == 0 {
		err = errors.New("there is nobody to tell: no recipients are configured, and no member of the project has an e-mail address")
	}
	if backup.FaultOf(err) == backup.Gone && f.gone(ctx, r.Project) {
		f.Log.WarnContext(ctx, "digest dropped", "project", r.Project, "digest", p.Digest.ID, "why", "the project has been deleted")
		r.Last, r.Guessed, r.Failing, r.Errors, r.Pending = p.Digest.To, false, nil, nil, nil
		_, err := f.Ledger.SaveReport(ctx, *r, true)
		return err
	}
	if err != nil {
		return f.later(ctx, r, err, now)
	}
	written, err := f.Theme.Write(p.Digest)
	if err != nil {
		f.Log.ErrorContext(ctx, "digest template", "project", r.Project, "err", err)
		f.Count("digests_total", 1, "template")
		if written.Text == "" {
			return f.later(ctx, r, err, now)
		}
	}
	letter := backup.Letter{Key: p.Digest.ID, At: p.Digest.To, Subject: written.Subject, HTML: written.HTML, Text: written.Text, List: r.Project, Tries: p.Tries}
	var missed []error
	refused := 0
	for _, to := range f.rounds(people, p.Told) {
		letter.To, letter.Key = to, key(p.Digest.ID, to)
		told, gone, err := f.tell(ctx, letter)
		if err != nil {
			missed = append(missed, err)
		}
		refused += gone
		if len(told) == 0 {
			continue
		}
		p.Told = append(p.Told, told...)
		// Written down even while the process is told to stop.
		saved, err := f.Ledger.SaveReport(context.WithoutCancel(ctx), *r, false)
		if err != nil || !saved {
			return err // somebody else is at it
		}
		r.Version++
	}
	if len(p.Told) == 0 || refused < len(missed) {
		return f.later(ctx, r, errors.Join(missed...), now)
	}
	if len(missed) > 0 {
		// The others have it; these will never take it.
		f.Log.ErrorContext(ctx, "digest refused", "project", r.Project, "digest", p.Digest.ID, "err", errors.Join(missed...))
		f.Count("digests_total", 1, "refused")
	}
	f.Log.InfoContext(ctx, "digest told", "project", r.Project, "digest", p.Digest.ID, "people", len(p.Told), "subject", written.Subject)
	f.Count("digests_total", 1, "told")
	r.Last, r.Guessed, r.Failing, r.Errors, r.Pending = p.Digest.To, false, p.Failing, ours(p.Digest), nil
	r.Foreign = p.Digest.ForeignIDs()
	_, err = f.Ledger.SaveReport(context.WithoutCancel(ctx), *r, true)
	return err
}

// gone says that Keystone itself says that there is no such project.
func (f *Function) gone(ctx context.Context, project string) bool {
	_, _, err := f.Cloud.Project(ctx, project)
	return backup.FaultOf(err) == backup.Gone
}

// key names the letter with a digest to these people. Where the rest of them get it
// later than the others, theirs is another letter: a service that knows keys would
// take it for the one it has sent already.
func key(digest string, to []backup.Person) string {
	if len(to) == 1 {
		return digest + "/" + strings.ToLower(to[0].Address)
	}
	all := fnv.New64a()
	for _, p := range to {
		_, _ = all.Write([]byte(strings.ToLower(p.Address) + "\n"))
	}
	return fmt.Sprintf("%s/%016x", digest, all.Sum64())
}

// rounds are who gets a letter together: each alone, or all at once.
func (f *Function) rounds(people []backup.Person, told []string) [][]backup.Person {
	var left []backup.Person
	for _, p := range people {
		if !slices.Contains(told, strings.ToLower(p.Address)) {
			left = append(left, p)
		}
	}
	if f.Settings.Blind && len(left) > 0 {
		return [][]backup.Person{left}
	}
	var rounds [][]backup.Person
	for _, p := range left {
		rounds = append(rounds, []backup.Person{p})
	}
	return rounds
}

// tell sends one letter. told are the addresses that have it, gone counts what was
// refused for good.
func (f *Function) tell(ctx context.Context, l backup.Letter) (told []string, gone int, err error) {
	err = f.Mail.Send(ctx, l)
	failed, ok := errors.AsType[*backup.MailError](err)
	switch {
	case err == nil:
		for _, p := range l.To {
			told = append(told, strings.ToLower(p.Address))
		}
	case ok:
		for _, a := range failed.Told {
			told = append(told, strings.ToLower(a))
		}
		if failed.Permanent || len(failed.Refused) > 0 && len(failed.Refused)+len(failed.Told) == len(l.To) {
			gone = 1
		}
	}
	return told, gone, err
}

// later puts a digest off that did not reach everybody.
func (f *Function) later(ctx context.Context, r *backup.Reporting, cause error, now time.Time) error {
	p := r.Pending
	level := slog.LevelWarn
	if p.Tries == 0 || p.Tries%8 == 0 {
		level = slog.LevelError // the operator has to know
	}
	p.Again, p.Why = now.Add(backup.Growing(p.Tries, time.Minute, mostWait)), clip(cause.Error())
	p.Tries++
	f.Log.Log(ctx, level, "digest not told", "project", r.Project, "digest", p.Digest.ID, "tries", p.Tries, "again", p.Again.UTC().Format(time.RFC3339), "why", p.Why)
	f.Count("digests_total", 1, "later")
	_, err := f.Ledger.SaveReport(context.WithoutCancel(ctx), *r, false)
	return err
}

func clip(s string) string {
	if r := []rune(s); len(r) > 500 {
		return string(r[:500]) + "…"
	}
	return s
}

// recipients are who a project's letters go to, each address once. name is the
// project's.
func (f *Function) recipients(ctx context.Context, project, name string) ([]backup.Person, error) {
	var people []backup.Person
	switch {
	case len(f.Settings.Recipients) > 0:
		for _, a := range f.Settings.Recipients {
			people = append(people, backup.Person{Address: a})
		}
	case f.Settings.Domain != "":
		if strings.ContainsFunc(name, func(c rune) bool {
			return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._+-", c))
		}) {
			return nil, fmt.Errorf("the project's name %.60q cannot stand in an address", name)
		}
		people = []backup.Person{{Address: name + "@" + f.Settings.Domain}}
	default:
		var err error
		if people, err = f.Cloud.Members(ctx, project); err != nil {
			return nil, fmt.Errorf("members of the project: %w", err)
		}
	}
	slices.SortStableFunc(people, func(a, b backup.Person) int {
		return cmp.Compare(strings.ToLower(a.Address), strings.ToLower(b.Address))
	})
	return slices.CompactFunc(people, func(a, b backup.Person) bool { return strings.EqualFold(a.Address, b.Address) }), nil
}
