package reconcile_test

import (
	"context"
	"testing"
	"time"

	"staffeln/functions"
	"staffeln/functions/backup"
	"staffeln/functions/reconcile"
	"staffeln/testutil/world"
)

// listening counts how often the complete list of backups is read, and lets something
// happen meanwhile.
type listening struct {
	functions.Cloud
	lists     int
	meanwhile func()
}

func (l *listening) Backups(ctx context.Context, scope string) ([]backup.CinderBackup, error) {
	all, err := l.Cloud.Backups(ctx, scope)
	l.lists++
	if then := l.meanwhile; then != nil {
		l.meanwhile = nil
		then()
	}
	return all, err
}

// The complete list of backups is read when it is asked for, however long ago it was
// last, and again where it is asked for while it is being read.
func TestTheListOfBackupsIsReadWhenAskedFor(t *testing.T) {
	var l *listening
	w, err := world.New(t.Context(), world.Options{Start: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Deaf: true,
		Wrap: func(c functions.Cloud) functions.Cloud { l = &listening{Cloud: c}; return l }})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	step := func() int {
		t.Helper()
		before := l.lists
		if err := w.Step(t.Context(), 2*time.Minute); err != nil {
			t.Fatal(err)
		}
		return l.lists - before
	}
	ask := func() {
		t.Helper()
		if err := reconcile.AskBackups(t.Context(), w.Home.Ledger, w.Now()); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []struct {
		sentence string
		do       func()
		want     int
	}{
		{"The first pass reads everything", func() {}, 1},
		{"Minutes later nothing is due", func() {}, 0},
		{"It is asked for", ask, 1},
		{"Once", func() {}, 0},
		{"It is asked for, and again while it is read", func() { l.meanwhile = ask; ask() }, 1},
		{"That takes another pass", func() {}, 1},
		{"And no more", func() {}, 0},
		{"A pass that is asked for otherwise reads no backups", func() { _ = w.Home.Ledger.AskReconcile(t.Context()) }, 0},
	} {
		s.do()
		if got := step(); got != s.want {
			t.Errorf("%s: the list is read %d times, want %d", s.sentence, got, s.want)
		}
	}
}
