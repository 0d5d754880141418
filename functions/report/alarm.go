package report

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"staffeln/functions/backup"
)

// quiet is the least time between two letters about the same server or volume, so that repeated
// attempts cannot bury the owner in mail.
const quiet = time.Hour

// An attempt is a change that a lock holds back now, and what the letter says of it.
type attempt struct {
	since time.Time
	note  backup.DigestNote
}

// alarms sends owners and operators a letter about each attempt on a locked class. Who has a
// letter is stored after it was sent, so a crash in between sends the same letter again, and no
// letter is lost.
func (f *Function) alarms(ctx context.Context, s *shard, number int, now time.Time) error {
	if err := f.fill(ctx, s, number); err != nil {
		return err
	}
	var errs []error
	for _, project := range s.projects {
		r := s.reports[project]
		r.Project = project
		open := f.attempts(s.enrolments[project], s.volumes[project], now)
		if len(open) == 0 && len(r.Alarms) == 0 {
			continue
		}
		if err := f.alarm(ctx, &r, open, now); err != nil {
			errs = append(errs, fmt.Errorf("project %s: %w", project, err))
		}
		s.reports[project] = r // its version has changed
	}
	return errors.Join(errs...)
}

// attempts returns the changes of a project's servers and volumes that locks hold back, by id.
func (f *Function) attempts(servers []backup.Enrolment, volumes []backup.Protected, now time.Time) map[string]attempt {
	open := map[string]attempt{}
	in := f.Digests.Schedule.Zone()
	add := func(id string, p backup.Policy, a backup.Attempt, server, volume string) {
		if !a.None() && !p.Lock.IsZero() && now.Before(p.LockedUntil(a)) {
			open[id] = attempt{a.Since, backup.DigestNote{Server: server, Volume: volume, Why: p.NotYet(a, in)}}
		}
	}
	name := func(e backup.Enrolment) string {
		if e.Name != "" {
			return e.Name
		}
		return e.Server
	}
	for _, e := range servers {
		add(e.Server, f.Settings.Classes.Of(e), e.Attempt, name(e), "")
	}
	for _, v := range volumes {
		server, volume := "", v.Name
		if len(v.Enrolments) > 0 {
			server = name(v.Enrolments[0])
		}
		if volume == "" {
			volume = v.Volume
		}
		add(v.Volume, f.Settings.Classes.Strictest(v.Enrolments, now), v.Attempt, server, volume)
	}
	return open
}

// alarm sends the letters that are due about one project.
func (f *Function) alarm(ctx context.Context, r *backup.Reporting, open map[string]attempt, now time.Time) error {
	r.Alarms = maps.Clone(r.Alarms)
	if r.Alarms == nil {
		r.Alarms = map[string]backup.Alarm{}
	}
	changed := false
	for id, a := range r.Alarms {
		if _, still := open[id]; !still && !now.Before(a.Done.Add(quiet)) {
			delete(r.Alarms, id) // undone, or in force by now: at most the next digest reports it
			changed = true
		}
	}
	var due []string
	for _, id := range slices.Sorted(maps.Keys(open)) {
		a, known := r.Alarms[id]
		if !known || !a.Since.Equal(open[id].since) {
			if known && !a.Done.IsZero() && now.Before(a.Done.Add(quiet)) {
				continue
			}
			a = backup.Alarm{Since: open[id].since, Note: open[id].note}
		}
		if !a.Done.IsZero() || now.Before(a.Again) && !a.Again.After(now.Add(mostWait)) {
			continue
		}
		// Reserved for this process.
		a.Again = now.Add(sending)
		r.Alarms[id] = a
		due, changed = append(due, id), true
	}
	if !changed {
		return nil
	}
	if saved, err := f.saveAlarms(ctx, r); err != nil || !saved || len(due) == 0 {
		return err // or another process sends them
	}
	people, missing := f.alarmed(ctx, r.Project)
	var errs []error
	for _, id := range due {
		saved, err := f.sendAlarm(ctx, r, id, people, missing, now)
		if err != nil || !saved {
			return errors.Join(append(errs, err)...)
		}
	}
	return errors.Join(errs...)
}

// alarmed returns the recipients, operators last. missing is why the owners are not among them.
func (f *Function) alarmed(ctx context.Context, project string) (people []backup.Person, missing error) {
	p, _, err := f.Cloud.Project(ctx, project)
	if err == nil {
		people, err = f.recipients(ctx, project, p.Name)
	}
	if err == nil && len(people) == 0 {
		err = errNobody
	}
	for _, address := range f.Digests.Operators {
		if !slices.ContainsFunc(people, func(p backup.Person) bool { return strings.EqualFold(p.Address, address) }) {
			people = append(people, backup.Person{Address: address})
		}
	}
	return people, err
}

// sendAlarm sends one letter to everybody who does not have it, and stores each recipient who
// has it at once.
func (f *Function) sendAlarm(ctx context.Context, r *backup.Reporting, id string, people []backup.Person,
	missing error, now time.Time) (saved bool, err error) {
	a := r.Alarms[id]
	name := "lock/" + id + "@" + a.Since.UTC().Format(backup.Stamp)
	letter := f.alarmLetter(r.Project, a)
	letter.Tries = a.Tries
	missed := []error{}
	if missing != nil {
		missed = append(missed, missing)
	}
	for _, p := range people {
		if slices.Contains(a.Told, strings.ToLower(p.Address)) {
			continue
		}
		letter.To = []backup.Person{p}
		letter.Key = key(name, letter.To)
		_, gone, err := f.tell(ctx, letter)
		if err != nil {
			f.Log.ErrorContext(ctx, "attempt not told", "project", r.Project, "letter", name, "to", p.Address, "for_good",
				gone > 0, "err", err)
			if gone == 0 {
				missed = append(missed, err)
				continue
			}
		}
		a.Told = append(slices.Clone(a.Told), strings.ToLower(p.Address))
		r.Alarms[id] = a
		if saved, err := f.saveAlarms(ctx, r); err != nil || !saved {
			return saved, err
		}
	}
	if len(missed) == 0 {
		a.Done, a.Again = now, time.Time{}
		f.Log.InfoContext(ctx, "attempt told", "project", r.Project, "letter", name, "people", len(a.Told))
	} else {
		a.Again = now.Add(backup.Growing(a.Tries, time.Minute, mostWait))
		a.Tries++
		f.Log.ErrorContext(ctx, "attempt not told to everybody", "project", r.Project, "letter", name, "tries", a.Tries,
			"again", a.Again.UTC().Format(time.RFC3339), "why", backup.Line(errors.Join(missed...).Error(), 500))
	}
	r.Alarms[id] = a
	return f.saveAlarms(ctx, r)
}

// saveAlarms stores the alarms, even while the process stops.
func (f *Function) saveAlarms(ctx context.Context, r *backup.Reporting) (bool, error) {
	saved, err := f.Ledger.SaveReport(context.WithoutCancel(ctx), *r, false)
	if err == nil && saved {
		r.Version++
	}
	return saved, err
}

// alarmLetter writes the letter about an attempt, from stored facts alone.
func (f *Function) alarmLetter(project string, a backup.Alarm) backup.Letter {
	about := backup.Line(a.Note.Server, 200)
	if a.Note.Volume != "" {
		about = strings.TrimPrefix(about+" / "+backup.Line(a.Note.Volume, 200), " / ")
	}
	return backup.Letter{
		At: a.Since, List: project, Subject: "Backups of " + about + ": a change is being held back",
		Text: fmt.Sprintf("%s: %s.\n\nSeen %s. Until the change is in force, everything is backed up as before.\n"+
			"If you made the change, there is nothing to do. If you did not, undo it, and change\n"+
			"the passwords and application credentials of this project.\n",
			about, backup.Line(a.Note.Why, 1000), a.Since.In(f.Digests.Schedule.Zone()).Format("2 Jan 2006 15:04 MST")),
	}
}
