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

// A hold is the reason why nothing at all is removed in a project.
type hold struct {
	// what is the kind of reason, for the metric: "clock", "list", "short list", "brake",
	// "cloud brake", "service".
	what string
	why  string
	// wait is how long until the next look; 0 leaves the project due.
	wait time.Duration
	// err is the error that the handler answers; nil for none.
	err error
}

func (h *hold) Error() string { return h.what + ": " + h.why }

func (h *hold) Unwrap() error { return h.err }

// held saves that nothing is removed, and logs it when it begins. An error that is not a hold is
// returned as it is.
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
	// A wrong time is not saved: the project stays due as it was.
	return l.write(ctx, l.before.Due)
}

// clock checks our own time: a clock that is ahead would make every backup too old.
func (f *Function) clock(now time.Time, must bool) error {
	at, ok := f.Cloud.Clock()
	switch {
	case !ok && must:
		return &hold{what: "clock", why: "the cloud's own time is not known", wait: unserved}
	case ok && backup.Ahead(now, at):
		// The words must not change from tick to tick: a change would be saved.
		why := fmt.Sprintf("our clock is ahead of the cloud's by more than %s", backup.MostAhead)
		return &hold{what: "clock", why: why}
	}
	return nil
}

// A sum is the whole cloud's outlook, read at most once in a tick.
type sum struct {
	ledger  Ledger
	read    bool
	outlook backup.Outlook
	until   time.Time
	most    int
}

// with is the whole cloud's outlook with the present outlook of one project in place of its last one.
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

// mayGo asks the brakes of the project and of the whole cloud.
func (l *look) mayGo(ctx context.Context, s *sum) error {
	if l.r.Outlook.Removals == 0 { // the brakes do not ask about it
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
	// braked is how long until a project is looked at again while a brake holds; a release makes it due
	// at once.
	braked = 10 * time.Minute
	// unserved is how long to wait after no cinder-backup service was up.
	unserved = 5 * time.Minute
)
