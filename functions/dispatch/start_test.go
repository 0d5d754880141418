package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"staffeln/functions/backup"
)

// What Cinder refuses is asked for once more at once where the refusal is about what was
// special, and in no other case.
func TestPlainer(t *testing.T) {
	refused := func(f backup.Fault) error { return &backup.CloudError{Fault: f, Message: "no"} }
	inc := backup.Run{Kind: backup.Incremental, Why: "why"}
	full := backup.Run{Kind: backup.Full, Why: "why"}
	archived := backup.Run{Kind: backup.Full, Archived: backup.Month, Why: "why"}
	for _, c := range []struct {
		name string
		run  backup.Run
		err  error
		want string
	}{
		{"Cinder took it", inc, nil, ""},
		{"an incremental that has to be full", inc, refused(backup.NeedsFull),
			"full: full: Cinder refused an incremental: no"},
		{"a full one cannot be more so", full, refused(backup.NeedsFull), ""},
		{"an archive container that Cinder does not like", archived, refused(backup.Operator),
			"full: not archived: Cinder refused the archive container: no"},
		{"the usual container", full, refused(backup.Operator), ""},
		{"an archived one that is over quota", archived, refused(backup.Owner), ""},
		{"no clear answer: it may have been taken", archived, refused(backup.Doubt), ""},
		{"nor is any other error one", inc, errors.New("no"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			again, ok := plainer(c.run, c.err)
			if ok {
				got = fmt.Sprintf("%s: %s", again.Kind, again.Why)
			} else if again.Kind != c.run.Kind || again.Archived != c.run.Archived {
				t.Errorf("changed: %+v", again)
			}
			if got != c.want || again.Archived != "" && ok {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestWhenCinderIsOverloaded(t *testing.T) {
	answer := func(status int) error {
		return fmt.Errorf("volume: %w", &backup.CloudError{Status: status, Fault: backup.Doubt})
	}
	for _, c := range []struct {
		name string
		err  error
		want bool
	}{
		{"all is well", nil, false},
		{"fewer requests, it says", answer(429), true},
		{"it fails", answer(500), true},
		{"its proxy fails", answer(503), true},
		{"no answer", answer(0), true},
		{"a full quota", answer(413), false},
		{"a timeout of the request that it sent", answer(408), false},
		{"Redis's error", errors.New("redis is down"), false},
	} {
		if got := strained(c.err); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// A request for a backup without an answer is a sign of strain, as one that fails.
func TestARequestWithoutAnAnswerIsStrain(t *testing.T) {
	for _, status := range []int{0, 503} {
		l := &ledger{}
		f := &Function{Ledger: l, Cloud: silent{status: status}, Log: slog.New(slog.DiscardHandler),
			Count: func(string, float64, ...string) {}}
		taken, err := f.request(t.Context(), &Decision{}, backup.Run{Volume: "v"}, backup.Limits{}, time.Time{})
		if err != nil || !taken || l.strains != 1 {
			t.Errorf("status %d: taken %v, strained %d times, %v", status, taken, l.strains, err)
		}
	}
}

// ledger counts the signs of strain.
type ledger struct {
	Ledger
	strains int
}

func (l *ledger) Strain(context.Context, time.Time) error { l.strains++; return nil }

func (l *ledger) Advance(context.Context, backup.Run, time.Time) (bool, error) { return true, nil }

// silent may have taken each request, and does not say so.
type silent struct {
	Cloud
	status int
}

func (s silent) CreateBackup(context.Context, string, backup.Request) (string, error) {
	return "", &backup.CloudError{Fault: backup.Doubt, Status: s.status}
}
