package report

import (
	"cmp"
	"context"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"time"

	"staffeln/functions/backup"
)

const (
	// mostErrors is how many failures of a project are kept for the operators.
	mostErrors = 20
	// mostLines is how many lines each part of the operators' letter has.
	mostLines = 100
	// slack is how long the operators' digest waits at most after the patience of the projects'
	// digests, for problems that pass by themselves, such as greylisting.
	slack = 15 * time.Minute
)

// The marks of the operators' digest: the end of the last reported period, and when to try
// again. There is one more for each operator: toldMark followed by the address.
const (
	operatorsMark = "operators"
	againMark     = "operators-again"
	toldMark      = "operators-told:"
)

// ours returns the newest failures that only an operator can mend.
func ours(d backup.Digest) (errs []backup.DigestRun) {
	for _, r := range d.Runs {
		if !r.OK && !r.Theirs {
			errs = append(errs, r)
		}
	}
	slices.SortStableFunc(errs, func(a, b backup.DigestRun) int { return b.Ended.Compare(a.Ended) })
	return errs[:min(len(errs), mostErrors)]
}

// operators sends the operators' digest of a period. Its facts are not stored: after a crash
// between sending and storing, the letter comes again with the same key, possibly with newer
// facts.
func (f *Function) operators(ctx context.Context, now time.Time) error {
	slot := f.Digests.Schedule.Slot(now)
	last, known, err := f.Ledger.Marked(ctx, operatorsMark)
	switch {
	case err != nil:
		return err
	case !known, last.After(now):
		// This is the first time, or Redis was lost, or a clock was wrong.
		return f.Ledger.Mark(ctx, operatorsMark, slot)
	case !last.Before(slot):
		return nil
	}
	again, known, err := f.Ledger.Marked(ctx, againMark)
	if err != nil || known && now.Before(again) && !again.After(now.Add(mostWait)) {
		return err
	}
	t, err := f.troubles(ctx, slot)
	if err != nil {
		return err
	}
	if t.open > 0 && now.Before(slot.Add(f.Digests.Patience+slack)) {
		return nil // other projects' digests may still add problems or solve them
	}
	if t.nothing() {
		return f.Ledger.Mark(ctx, operatorsMark, slot)
	}
	// Reserved for this process.
	if err := f.Ledger.Mark(ctx, againMark, now.Add(sending)); err != nil {
		return err
	}
	return f.tellOperators(ctx, f.letter(ctx, t, slot), slot, now)
}

// tellOperators sends the letter to every operator who does not have it.
func (f *Function) tellOperators(ctx context.Context, letter backup.Letter, slot, now time.Time) error {
	late := now.Sub(slot)
	letter.Tries = bits.Len64(uint64(max(late,
		0) / time.Minute)) // the number of tries that the backoff makes in that time
	id := "operators@" + slot.UTC().Format(backup.Stamp)
	var missed []error
	for _, address := range f.Digests.Operators {
		mark := toldMark + strings.ToLower(address)
		until, known, err := f.Ledger.Marked(ctx, mark)
		if err != nil {
			return err
		}
		if known && !until.Before(slot) && !until.After(now) {
			continue
		}
		letter.To = []backup.Person{{Address: address}}
		letter.Key = key(id, letter.To)
		_, gone, err := f.tell(ctx, letter)
		if err != nil {
			f.Log.ErrorContext(ctx, "operator not told", "digest", id, "to", address, "for_good", gone > 0, "err", err)
			if gone == 0 {
				missed = append(missed, err)
				continue
			}
		}
		if err := f.Ledger.Mark(context.WithoutCancel(ctx), mark, slot); err != nil {
			return err
		}
	}
	if len(missed) > 0 {
		wait := min(max(late, time.Minute), mostWait)
		return f.Ledger.Mark(context.WithoutCancel(ctx), againMark, now.Add(wait))
	}
	f.Log.InfoContext(ctx, "operators told", "digest", id, "subject", letter.Subject)
	return f.Ledger.Mark(context.WithoutCancel(ctx), operatorsMark, slot)
}

// troubles are the problems of a period that operators must solve.
type troubles struct {
	// open counts the projects that do not have the digest of the period yet.
	open int
	// untold are the digests that could not be sent, failed the ones with failures.
	untold, failed []backup.Reporting
	held           []backup.Retention
	overdue        int
	// forged and unverified are backups with our metadata that do not count as ours.
	forged, unverified int
}

func (t troubles) nothing() bool {
	return len(t.untold) == 0 && len(t.failed) == 0 && len(t.held) == 0 && t.overdue == 0 && t.forged == 0 &&
		t.unverified == 0
}

// troubles gathers them from all shards.
func (f *Function) troubles(ctx context.Context, slot time.Time) (t troubles, err error) {
	for number := range f.Ledger.Shards() {
		projects, err := f.Ledger.Projects(ctx, number)
		if err != nil {
			return t, err
		}
		reports, err := f.Ledger.Reports(ctx, number)
		if err != nil {
			return t, err
		}
		for _, id := range projects {
			r := reports[id]
			r.Project = id
			if r.Last.Before(slot) {
				t.open++
			}
			if r.Pending != nil {
				r.Errors = ours(r.Pending.Digest)
				if r.Pending.Tries > 0 {
					t.untold = append(t.untold, r)
				}
			} else if r.Last.Before(slot) {
				continue // its failures are of an earlier period
			}
			if len(r.Errors) > 0 {
				t.failed = append(t.failed, r)
			}
		}
	}
	if t.held, err = f.Ledger.Held(ctx); err != nil {
		return t, err
	}
	totals, err := f.Ledger.Totals(ctx)
	t.overdue = totals["overdue"]
	t.forged, t.unverified = totals[string(backup.OriginForged)], totals[string(backup.OriginUnverified)]
	return t, err
}

// letter writes the operators' digest.
func (f *Function) letter(ctx context.Context, t troubles, slot time.Time) backup.Letter {
	names := map[string]string{}
	name := func(id string) string {
		if _, asked := names[id]; !asked && len(names) < mostLines {
			p, _, err := f.Cloud.Project(ctx, id)
			names[id] = id
			if err == nil && p.Name != "" {
				names[id] = fmt.Sprintf("%s (%s)", backup.Line(p.Name, 200), id)
			}
		}
		return cmp.Or(names[id], id)
	}
	in := f.Digests.Schedule.Zone()
	at := func(t time.Time) string { return t.In(in).Format("2 Jan 2006 15:04 MST") }
	var b strings.Builder
	var about []string
	part := func(title, short string, lines []string) {
		if len(lines) == 0 {
			return
		}
		about = append(about, short)
		fmt.Fprintf(&b, "\n%s\n\n", title)
		for _, l := range lines[:min(len(lines), mostLines)] {
			fmt.Fprintf(&b, "  %s\n", backup.Line(l, 1000))
		}
		if more := len(lines) - mostLines; more > 0 {
			fmt.Fprintf(&b, "  and %d more\n", more)
		}
	}
	fmt.Fprintf(&b, "Problems of the period that ended %s.\n", at(slot))
	var lines []string
	for _, r := range t.untold {
		p := r.Pending
		lines = append(lines, fmt.Sprintf("%s: %s; tried %s, again %s", name(r.Project), p.Why, times(p.Tries), at(p.Again)))
	}
	part("Digests that their owners did not get:", count(len(lines), "digest")+" untold", lines)
	lines = nil
	for _, r := range t.held {
		lines = append(lines, fmt.Sprintf("%s: %s", name(r.Project), r.Held))
	}
	part("Removals that are held back (staffeln brake):", count(len(lines), "project")+" held back", lines)
	lines = nil
	for _, r := range t.failed {
		for _, e := range r.Errors {
			lines = append(lines, fmt.Sprintf("%s: %s, volume %s (%s), slot %s: %s", name(r.Project),
				cmp.Or(e.Server, "no server"), e.Volume, e.VolumeID, at(e.Slot), e.Why))
		}
	}
	part("Failed backups that their owners can do nothing about:", count(len(lines), "failure"), lines)
	if t.overdue > 0 {
		about = append(about, count(t.overdue, "volume")+" overdue")
		fmt.Fprintf(&b, "\n%s without a restore point as young as their schedule promises: the log names them.\n",
			count(t.overdue, "volume"))
	}
	if t.forged > 0 {
		about = append(about, count(t.forged, "backup")+" forged")
		fmt.Fprintf(&b, "\n%s with our metadata that somebody else made: with a tenant's credentials, or with a script\n"+
			"that copies metadata (staffeln plan names them). They count for nothing, and their owners may\n"+
			"delete them.\n", count(t.forged, "backup"))
	}
	if t.unverified > 0 {
		about = append(about, count(t.unverified, "backup")+" unverified")
		fmt.Fprintf(&b, "\n%s with our metadata and an unknown maker (staffeln plan names them). They are kept and count\n"+
			"for nothing. Let the service user see who made backups (infra/cinder), or adopt them\n"+
			"(staffeln adopt).\n", count(t.unverified, "backup"))
	}
	return backup.Letter{At: slot, Subject: "Backups: " + strings.Join(about, ", "), Text: b.String(), List: "operators"}
}

func count(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}
