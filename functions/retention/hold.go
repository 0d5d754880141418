package retention

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"staffeln/functions/backup"
	"staffeln/functions/keep"
)

// A hold is why nothing at all is removed in a project.
type hold struct {
	// what is the sort of reason, for the metric: "clock", "list", "short list",
	// "brake", "cloud brake", "service".
	what string
	why  string
	// wait is how long until the next look; 0 leaves the project due.
	wait time.Duration
	// err is the error to be answered, if it is one.
	err error
}

func (h *hold) Error() string { return h.what + ": " + h.why }

func (h *hold) Unwrap() error { return h.err }

// held writes down that nothing is removed, and says so when it begins. Any error
// that is not a hold is answered as it is.
func (l *look) held(ctx context.Context, err error) error {
	h, ok := errors.AsType[*hold](err)
	if !ok {
		return err
	}
	f := l.f
	f.Count("retention_held_total", 1, h.what)
	if what, _, _ := strings.Cut(l.before.Held, ":"); what != h.what {
		f.Log.ErrorContext(ctx, "nothing is removed", "project", l.r.Project, "why", h.Error())
	}
	l.r.Held = h.Error()
	switch {
	case h.what != "clock" || h.wait > 0:
		return errors.Join(h.err, l.save(ctx, l.now.Add(h.wait)))
	case l.before.Held == l.r.Held:
		return nil
	}
	// A time that is wrong is not written down: when it is right again, the project is
	// as due as it was.
	return l.write(ctx, l.before.Due)
}

// clock says whether our own time can be believed: one that is ahead would make
// everything too old.
func (f *Function) clock(now time.Time, must bool) error {
	at, ok := f.Cloud.Clock()
	switch {
	case !ok && must:
		return &hold{what: "clock", why: "the cloud's own time is not known", wait: unserved}
	case ok && backup.Ahead(now, at):
		// In words that stay the same from tick to tick.
		return &hold{what: "clock", why: fmt.Sprintf("our clock is ahead of the cloud's by more than %s", backup.MostAhead)}
	}
	return nil
}

// A sum is the whole cloud's outlook, read once in a tick where it is needed.
type sum struct {
	ledger  Ledger
	read    bool
	outlook backup.Outlook
	until   time.Time
	most    int
}

// with is the whole cloud's outlook with a project's of now instead of its last.
func (s *sum) with(ctx context.Context, was, is backup.Outlook) (backup.Outlook, error) {
	if !s.read {
		var err error
		if s.outlook, err = s.ledger.Outlook(ctx); err != nil {
			return backup.Outlook{}, err
		}
		if s.until, s.most, err = s.ledger.CloudRelease(ctx); err != nil {
			return backup.Outlook{}, err
		}
		s.read = true
	}
	s.outlook = s.outlook.Less(was).Add(is)
	return s.outlook, nil
}

// mayGo asks the brake, the project's and the whole cloud's.
func (l *look) mayGo(ctx context.Context, s *sum) error {
	// Also a project without removals counts: it is part of the whole.
	if l.r.Outlook.Removals == 0 {
		return nil
	}
	cloud, err := s.with(ctx, l.before.Outlook, l.r.Outlook)
	if err != nil {
		return err
	}
	brake := l.f.Settings.Brake
	name, why := keep.Braked(keep.OfProject(brake, l.before, l.r.Outlook), keep.OfCloud(brake, cloud, s.until, s.most),
		l.before.Held, l.now)
	if name == "" {
		return nil
	}
	return &hold{what: name, why: why, wait: braked}
}

const (
	// braked is how long until a project under the brake is looked at again; the
	// operator's release brings it sooner.
	braked = 10 * time.Minute
	// unserved is how long nothing is asked for after there was no cinder-backup
	// service to do it.
	unserved = 5 * time.Minute
)
