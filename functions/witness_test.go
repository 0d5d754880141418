package functions_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"staffeln/functions"
	"staffeln/functions/backup"
	"staffeln/functions/keep"
	"staffeln/testutil/simcloud"
)

// lines is a log that is remembered.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(bytes.TrimSpace(line)))
	if os.Getenv("STAFFELN_TALES") != "" {
		return os.Stderr.Write(line)
	}
	return len(line), nil
}

// times is how many lines have all of the words.
func (l *lines) times(words ...string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.all {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			n++
		}
	}
	return n
}

// A witness stands between the functions and the cloud, and sees that nothing is
// removed that the rules would keep, by the truth instead of by what was listed.
type witness struct {
	functions.Cloud
	tale *tale
	// asked are the backups that were to be deleted, in order.
	asked []string
	// blind passes over children: a list that is short can hide them, and then Cinder
	// refuses.
	blind bool
	// moved says that the volumes belong to another project now.
	moved bool
}

func (w *witness) DeleteBackup(ctx context.Context, project, id string) error {
	w.asked = append(w.asked, id)
	s := w.tale
	at := s.Now().Format(time.RFC3339)
	b, same, _ := s.Cloud.Backup(id)
	for _, child := range same {
		if child.Parent == id && !w.blind {
			s.Errorf("%s: backup %s was to be deleted before its child %s (%s)", at, id, child.ID, child.Status)
		}
	}
	// Whether the ledger knows of the server's wish already is a matter of time: what
	// is kept with a policy of now and without is kept in any case.
	with, without := s.fates(s.holdingOf(b.Volume, same), s.Now())
	for i, f := range with {
		if f.Backup.ID == id && f.Keep && without[i].Keep && !(w.blind && (f.Hostage || without[i].Hostage)) {
			s.Errorf("%s: backup %s (%s) was to be deleted: %s", at, id, b.Name, f.Why)
		}
	}
	return w.Cloud.DeleteBackup(ctx, project, id)
}

// holding is the truth about a volume's backups.
func (s *tale) holding(volume string) keep.Holding { return s.holdingOf(volume, s.Cloud.Backups()) }

func (s *tale) holdingOf(volume string, all []simcloud.Backup) keep.Holding {
	h := keep.Holding{Volume: volume, Orphan: s.Settings.Orphan, LastSlot: time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)}
	if _, there := s.Cloud.Volume(volume); !there || s.removing.moved {
		h.Gone = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	children := map[string]bool{}
	for _, b := range all {
		children[b.Parent] = children[b.Parent] || b.Status != "deleted"
	}
	for _, b := range all {
		if b.Volume == volume && b.Status != "deleted" {
			h.Backups = append(h.Backups, backup.CinderBackup{ID: b.ID, Name: b.Name, Project: b.Project, Volume: b.Volume, Status: b.Status,
				FailReason: b.FailReason, Size: b.Size, Incremental: b.Parent != "", Dependents: children[b.ID], Container: b.Container,
				Created: b.Created, Metadata: b.Metadata, Maker: b.Maker, Origin: s.origin(b)})
		}
	}
	return h
}

// origin is whose a backup is by the truth, whatever its metadata say.
func (s *tale) origin(b simcloud.Backup) backup.Origin {
	switch {
	case b.Metadata[backup.MetaAutomated] == "":
		return backup.OriginTenant
	case s.made(b):
		return backup.OriginService
	}
	return backup.OriginForged
}

// fates are what the rules say of a volume that is protected by the default policy,
// and of the same where it is not.
func (s *tale) fates(h keep.Holding, at time.Time) (with, without []keep.Fate) {
	without = keep.Decide(h, at)
	policy := s.Policies()[backup.Default]
	h.Policy = &policy
	return keep.Decide(h, at), without
}

// idle checks that nothing is left to be removed.
func (s *tale) idle() { s.Helper(); s.late(2 * time.Minute) }

// late checks that nothing is left that should have been removed before that time,
// but for what Cinder is just deleting if it has more of it.
func (s *tale) late(by time.Duration) {
	s.Helper()
	volumes := map[string]bool{}
	for _, b := range s.Cloud.Backups() {
		volumes[b.Volume] = true
	}
	for v := range volumes {
		with, without := s.fates(s.holding(v), s.Now().Add(-by))
		for i, f := range with {
			if !f.Keep && !without[i].Keep && !(by > 2*time.Minute && f.Backup.Status == "deleting") {
				s.Errorf("%s: backup %s of %s is still there (%s): %s", s.Now().Format(time.RFC3339), f.Backup.ID, f.Backup.Created.Format(time.RFC3339), f.Backup.Status, f.Why)
			}
		}
	}
}

// points checks I3: a volume that is there and ever had a complete restore point of
// ours has one.
func (s *tale) points() {
	s.Helper()
	had, have := map[string]bool{}, map[string]bool{}
	for _, b := range s.Cloud.Backups() {
		if b.Metadata[backup.MetaRun] == "" || !s.made(b) {
			continue
		}
		have[b.Volume] = have[b.Volume] || b.Status == "available" || b.Status == "restoring"
		had[b.Volume] = had[b.Volume] || have[b.Volume] || b.Status == "deleted" && b.FailReason == "" && !b.Ended.IsZero()
	}
	for v := range had {
		if _, there := s.Cloud.Volume(v); there && had[v] && !have[v] {
			s.Fatalf("%s: volume %s has lost its last restore point", s.Now().Format(time.RFC3339), v)
		}
	}
}

// metric is the sum of a counter's series that have all of the words.
func (s *tale) metric(name string, words ...string) (sum float64) {
	s.Helper()
	families, err := s.Home.Metrics.Registry().Gather()
	s.check(err)
	for _, f := range families {
		if f.GetName() != "staffeln_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(fmt.Sprint(m.GetLabel()), w) }) {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// deleted is what was deleted of a volume, in the order in which it went: "full
// 10:00", "incremental 11:00".
func (s *tale) deleted(volume string) (out []string) {
	s.Helper()
	var gone []simcloud.Backup
	for _, b := range s.backupsOf(volume) {
		if b.Status == "deleted" {
			gone = append(gone, b)
		}
	}
	place := map[string]int{}
	for i, id := range s.removing.asked {
		place[id] = i
	}
	slices.SortStableFunc(gone, func(a, b simcloud.Backup) int { return place[a.ID] - place[b.ID] })
	for _, b := range gone {
		kind := "full"
		if b.Parent != "" {
			kind = "incremental"
		}
		out = append(out, kind+b.Created.Format(" 15:04"))
	}
	return out
}
