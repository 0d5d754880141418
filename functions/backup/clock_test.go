package backup

import (
	"testing"
	"time"
)

func TestAhead(t *testing.T) {
	for _, c := range []struct {
		name, ours, clouds string
		want               bool
	}{
		{"the same time", "22T12:00", "22T12:00", false},
		{"five minutes are borne", "22T12:05", "22T12:00", false},
		{"a minute more is not", "22T12:06", "22T12:00", true},
		{"nor is a day", "23T12:00", "22T12:00", true},
		{"a clock that is behind is believed", "21T12:00", "22T12:00", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Ahead(on(c.ours), on(c.clouds)); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
	if noon := on("22T12:00"); !Ahead(noon.Add(MostAhead+1), noon) || Ahead(noon.Add(MostAhead), noon) || MostAhead != 5*time.Minute {
		t.Error("the edge is not at five minutes, as docs/operators.md has it")
	}
}

func TestARunThatBeginsInTheFuture(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name    string
		started time.Duration
		begins  time.Duration // after now
		right   bool
	}{
		{"begun an hour ago", -time.Hour, -time.Hour, true},
		{"a little ahead: two processes' clocks", MostAhead, MostAhead, true},
		{"a year ahead: it has begun now, and has all of its time", 365 * 24 * time.Hour, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := now.Add(c.started)
			r, wrong := Rebase(Run{Volume: "v", Started: start, Deadline: start.Add(2 * time.Hour)}, now)
			if want := now.Add(c.begins); wrong == c.right || !r.Started.Equal(want) || !r.Deadline.Equal(want.Add(2*time.Hour)) || r.Volume != "v" {
				t.Errorf("wrong is %v, begins %s, ends %s", wrong, r.Started, r.Deadline)
			}
		})
	}
}
