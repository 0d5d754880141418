package backup

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// An Attempt is a change that somebody with the owner's rights made to what a locked
// class protects, and that is not in force yet. Whoever has stolen the owner's
// credentials has these rights, too: the lock's time is the owner's to notice.
type Attempt struct {
	// Since is when the service first saw it; zero for no attempt. Another change is
	// another attempt.
	Since time.Time `json:"t,omitzero"`
	// Why is what was changed last, in words: "metadata backup=no".
	Why string `json:"w,omitempty"`
	// Guessed says that what was there before was read from a backup's metadata, which
	// tell the class but no overrides: the class alone has to be set back.
	Guessed bool `json:"g,omitempty"`
}

// None says that there is no attempt.
func (a Attempt) None() bool { return a.Since.IsZero() }

func (a Attempt) sameAs(o Attempt) bool {
	return a.Since.Equal(o.Since) && a.Why == o.Why && a.Guessed == o.Guessed
}

// wrongClock is how far ahead an attempt's time may be before it counts as one of a
// clock that was wrong. Events come late, and so in any order, but not by more.
const wrongClock = 24 * time.Hour

// again is an attempt that goes on, or begins now. first says that it begins.
func (a Attempt) again(why string, now time.Time) (goesOn Attempt, first bool) {
	first = !a.is(why) || a.Since.After(now.Add(wrongClock))
	if first {
		a.Since = now.UTC()
	}
	a.Why = plain(why, maxValue)
	return a, first
}

// is says whether that was attempted already. Each change waits for the lock's whole
// time: a harmless one must not open the door to another in the last minute.
func (a Attempt) is(why string) bool { return !a.None() && a.Why == plain(why, maxValue) }

// LockedUntil is when what was attempted in the class takes effect.
func (p Policy) LockedUntil(a Attempt) time.Time {
	return p.Lock.After(a.Since.In(p.Schedule.Zone())).UTC()
}

// Held says that an attempt is held back, and until when.
func (p Policy) Held(a Attempt) string {
	return fmt.Sprintf("%s is not in force before %s: class %s is locked", plain(a.Why, maxValue), p.LockedUntil(a).Format(time.RFC3339), p.Class)
}

// NotYet tells the owner of an attempt, with times in that zone.
func (p Policy) NotYet(a Attempt, in *time.Location) string {
	return fmt.Sprintf("%s is not in force before %s: class %s is locked; if you did not do this, somebody else has your credentials",
		plain(a.Why, maxValue), p.LockedUntil(a).In(in).Format("2006-01-02 15:04"), p.Class)
}

// Locked says whether any class is.
func (c Classes) Locked() bool {
	for _, p := range c {
		if !p.Lock.IsZero() {
			return true
		}
	}
	return false
}

// A Trail is what the newest complete backup of a volume tells of how the volume was
// protected when it was made.
type Trail struct {
	Project, Server, Class string
	Made                   time.Time
}

// Trails reads them from complete lists of backups, by volume.
func Trails(backups []CinderBackup) map[string]Trail {
	trails := map[string]Trail{}
	for _, b := range backups {
		if !b.Ours() || b.Status != "available" && b.Status != "restoring" || !b.Created.After(trails[b.Volume].Made) {
			continue
		}
		trails[b.Volume] = Trail{Project: b.Project, Server: b.Metadata[MetaServer], Class: b.Metadata[MetaClass], Made: b.Created}
	}
	return trails
}

// hot says whether a trail shows that the volume was protected for the server in a
// locked class a short time ago: two of the class's periods, and the lock's time.
func (c Classes) hot(t Trail, s Server, now time.Time) bool {
	p, ok := c[t.Class]
	if !ok || p.Lock.IsZero() || t.Server != s.ID || t.Project != s.Project {
		return false
	}
	return now.Before(p.Lock.After(t.Made.In(p.Schedule.Zone())).Add(2 * p.Schedule.Interval(now)))
}

// hottest is the newest hot trail of a server's volumes.
func (c Classes) hottest(trails map[string]Trail, s Server, now time.Time) (newest Trail, found bool) {
	for _, v := range s.Volumes {
		if t := trails[v]; c.hot(t, s, now) && t.Made.After(newest.Made) {
			newest, found = t, true
		}
	}
	return newest, found
}

// Remembered is what was known of a server before it was looked at.
type Remembered struct {
	// Enrolment is the ledger's, if Enrolled.
	Enrolment Enrolment
	Enrolled  bool
	// Volumes are those of its volumes that are protected, by id, with their enrolments.
	Volumes map[string]Protected
	// Told says that a notification set the look off. Its time is that of somebody else's
	// clock, by which no lock ends.
	Told bool
	// Trails are those of its volumes, where the ledger was found empty: then they are
	// all that is known. nil where it was not.
	Trails map[string]Trail
}

// A Decision is what comes of a server's wish.
type Decision struct {
	// Wish is what counts: the server is enrolled by it if it is In. Its Why is the
	// reason.
	Wish Wish
	// Withdraw says that the server was enrolled and is not any more.
	Withdraw bool
	// Attempt is what the server wishes instead and a lock holds back; zero for nothing.
	// First says that it was not known before.
	Attempt Attempt
	First   bool
}

// Decide says what comes of a server's wish: it counts at once, unless the class that
// the server is enrolled in is locked. Then a server that opts out, chooses another
// class, or overrides schedule or retention otherwise, stays enrolled as it was until
// the lock's time has passed since that very wish was first seen. Who wishes again what
// is in force has attempted nothing.
func (c Classes) Decide(s Server, w Wish, r Remembered, keys Keys, now time.Time) Decision {
	before, enrolled := r.Enrolment, r.Enrolled
	plain := Decision{Wish: w, Withdraw: r.Enrolled && !w.In}
	// An attempt is remembered: whoever has written it down knew more than trails tell.
	if t, hot := c.hottest(r.Trails, s, now); hot && w.Class != t.Class && (!enrolled || before.Attempt.None()) {
		before, enrolled = Enrolment{Class: t.Class, Attempt: Attempt{Guessed: true}}, true
	}
	p := c.Of(before)
	if !enrolled || p.Lock.IsZero() {
		return plain
	}
	guessed := before.Attempt.Guessed
	if w.In && w.Class == before.Class && (guessed || w.Schedule == before.Schedule && w.Retention == before.Retention) {
		return plain
	}
	if before.Attempt.None() && !guessed && w.Words == before.Words {
		return plain // the owner has changed nothing: the operator's settings have
	}
	why := w.against(before, keys)
	if r.Told && before.Attempt.is(why) {
		now = before.Attempt.Since
	}
	a, first := before.Attempt.again(why, now)
	if !now.Before(p.LockedUntil(a)) {
		plain.Wish.Why += fmt.Sprintf(", as of %s; the lock of class %s is over", a.Since.Format(time.RFC3339), p.Class)
		return plain
	}
	return Decision{Attempt: a, First: first, Wish: Wish{
		In: true, Class: before.Class, Schedule: before.Schedule, Retention: before.Retention, Problems: before.Problems,
		// Those of now: the next notification is compared with them.
		Words: w.Words,
		Why:   p.Held(a),
	}}
}

// against says in words what a wish would change of an enrolment.
func (w Wish) against(before Enrolment, keys Keys) string {
	switch {
	case !w.In && w.Silent:
		return "the end of metadata or tag " + keys.OptIn
	case !w.In:
		return w.Why
	}
	var changes []string
	if w.Class != before.Class {
		changes = append(changes, w.Why)
	}
	for _, o := range []struct{ key, was, is string }{{keys.Schedule, before.Schedule, w.Schedule}, {keys.Retention, before.Retention, w.Retention}} {
		switch {
		case o.was == o.is:
		case o.is == "": // taken away, or refused
			changes = append(changes, fmt.Sprintf("the end of metadata %s=%.40s", o.key, o.was))
		default:
			changes = append(changes, fmt.Sprintf("metadata %s=%.40s", o.key, o.is))
		}
	}
	return strings.Join(changes, " and ")
}

// LeaveOut decides whether a volume is left out, as its skip key wishes: wish is what
// [Skips] says, before what the ledger remembers of the volume. One that was protected
// so far under a locked policy is left out only after the lock's time.
func (p Policy) LeaveOut(wish string, before Protected, now time.Time) (why string, a Attempt) {
	if wish == "" || p.Lock.IsZero() || before.Volume == "" || before.Skip != "" {
		return wish, Attempt{}
	}
	a, _ = before.Attempt.again(wish, now)
	if !now.Before(p.LockedUntil(a)) {
		return wish, Attempt{}
	}
	return "", a
}

// Enrol is [Enrol] by a decision, with what locks hold back. tried are the volumes
// of which an attempt was seen for the first time.
func (c Classes) Enrol(d Decision, s Server, volumes map[string]Volume, r Remembered, keys Keys, now time.Time) (e Enrolment, protected []Protected, missing []string, tried []Protected) {
	e, protected, missing = Enrol(s, d.Wish, volumes, keys)
	e.Attempt = d.Attempt
	for i := range protected {
		v := &protected[i]
		before, known := r.Volumes[v.Volume]
		if !known && c.hot(r.Trails[v.Volume], s, now) {
			before.Volume = v.Volume
		}
		all := append(slices.DeleteFunc(slices.Clone(before.Enrolments), func(o Enrolment) bool { return o.Server == e.Server }), e)
		moment := now
		if r.Told && before.Attempt.is(v.Skip) {
			moment = before.Attempt.Since
		}
		v.Skip, v.Attempt = c.Strictest(all, now).LeaveOut(v.Skip, before, moment)
		if !v.Attempt.None() && before.Attempt.None() {
			tried = append(tried, *v)
		}
	}
	return e, protected, missing, tried
}
