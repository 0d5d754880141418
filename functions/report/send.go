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
	"time"

	"staffeln/functions/backup"
)

// mostWait is the longest backoff of a letter.
const mostWait = 6 * time.Hour

var errNobody = errors.New(
	"there is nobody to tell: no recipients are configured, and no member of the project has an e-mail address")

// send sends the digest to everybody who does not have it yet, and stores each recipient who has
// it at once. So nobody gets a different letter, and after a crash at worst the same one again.
func (f *Function) send(ctx context.Context, r *backup.Reporting, now time.Time) error {
	p := r.Pending
	people, err := f.recipients(ctx, r.Project, p.Digest.Name)
	if err == nil && len(people) == 0 {
		err = errNobody
	}
	if backup.FaultOf(err) == backup.Gone && f.gone(ctx, r.Project) {
		f.Log.WarnContext(ctx, "digest dropped", "project", r.Project, "project_name", p.Digest.Name,
			"digest", p.Digest.ID, "why", "the project has been deleted")
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
	letter := backup.Letter{Key: p.Digest.ID, At: p.Digest.To, Subject: written.Subject, HTML: written.HTML,
		Text: written.Text, List: r.Project, Tries: p.Tries}
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
		// Stored even while the process stops.
		saved, err := f.Ledger.SaveReport(context.WithoutCancel(ctx), *r, false)
		if err != nil || !saved {
			return err // another process sends it
		}
		r.Version++
	}
	if len(p.Told) == 0 || refused < len(missed) {
		return f.later(ctx, r, errors.Join(missed...), now)
	}
	if len(missed) > 0 {
		// Everybody else has it; these addresses refuse it for good.
		f.Log.ErrorContext(ctx, "digest refused", "project", r.Project, "project_name", p.Digest.Name,
			"digest", p.Digest.ID, "err", errors.Join(missed...))
		f.Count("digests_total", 1, "refused")
	}
	f.Log.InfoContext(ctx, "digest told", "project", r.Project, "project_name", p.Digest.Name,
		"digest", p.Digest.ID, "people", len(p.Told), "subject", written.Subject)
	f.Count("digests_total", 1, "told")
	r.Last, r.Guessed, r.Failing, r.Errors, r.Pending = p.Digest.To, false, p.Failing, ours(p.Digest), nil
	r.Foreign = p.Digest.ForeignIDs()
	_, err = f.Ledger.SaveReport(context.WithoutCancel(ctx), *r, true)
	return err
}

// gone says whether Keystone itself has no such project.
func (f *Function) gone(ctx context.Context, project string) bool {
	_, _, err := f.Cloud.Project(ctx, project)
	return backup.FaultOf(err) == backup.Gone
}

// key names the letter with a digest to these people. If some of them get it later than the
// others, theirs has another key: a mail service that compares keys would drop it otherwise.
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

// rounds returns the people of each letter: one each, or all at once with Blind.
func (f *Function) rounds(people []backup.Person, told []string) [][]backup.Person {
	var left []backup.Person
	for _, p := range people {
		if !slices.Contains(told, strings.ToLower(p.Address)) {
			left = append(left, p)
		}
	}
	if f.Digests.Blind && len(left) > 0 {
		return [][]backup.Person{left}
	}
	var rounds [][]backup.Person
	for _, p := range left {
		rounds = append(rounds, []backup.Person{p})
	}
	return rounds
}

// tell sends one letter. told are the addresses that have it; gone is 1 if everybody else has
// refused it for good.
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

// later stores when to try a digest again that did not reach everybody.
func (f *Function) later(ctx context.Context, r *backup.Reporting, cause error, now time.Time) error {
	p := r.Pending
	level := slog.LevelWarn
	if p.Tries == 0 || p.Tries%8 == 0 {
		level = slog.LevelError // the operator has to know
	}
	p.Again, p.Why = now.Add(backup.Growing(p.Tries, time.Minute, mostWait)), backup.Line(cause.Error(), 500)
	p.Tries++
	f.Log.Log(ctx, level, "digest not told", "project", r.Project, "project_name", p.Digest.Name,
		"digest", p.Digest.ID, "tries", p.Tries, "again", p.Again.UTC().Format(time.RFC3339), "why", p.Why)
	f.Count("digests_total", 1, "later")
	_, err := f.Ledger.SaveReport(context.WithoutCancel(ctx), *r, false)
	return err
}

// recipients returns who a project's letters go to, each address once. name is the project's.
func (f *Function) recipients(ctx context.Context, project, name string) ([]backup.Person, error) {
	var people []backup.Person
	switch {
	case len(f.Digests.Recipients) > 0:
		for _, a := range f.Digests.Recipients {
			people = append(people, backup.Person{Address: a})
		}
	case f.Digests.Domain != "":
		if strings.ContainsFunc(name, func(c rune) bool {
			return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._+-", c))
		}) {
			return nil, fmt.Errorf("the project's name %.60q cannot stand in an address", name)
		}
		people = []backup.Person{{Address: name + "@" + f.Digests.Domain}}
	default:
		var err error
		if people, err = f.Cloud.Members(ctx, project); err != nil {
			return nil, fmt.Errorf("members of the project: %w", err)
		}
	}
	slices.SortStableFunc(people, func(a, b backup.Person) int {
		return cmp.Compare(strings.ToLower(a.Address), strings.ToLower(b.Address))
	})
	return slices.CompactFunc(people, func(a, b backup.Person) bool {
		return strings.EqualFold(a.Address,
			b.Address)
	}), nil
}
