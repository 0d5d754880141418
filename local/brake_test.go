package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"staffeln/functions/backup"
	"staffeln/functions/keep"
	"staffeln/runtime/ledger"
	"staffeln/testutil/services"
	"staffeln/testutil/simcloud"
)

// A site is a cloud, a ledger in a real Redis, and the environment that names both.
type site struct {
	*testing.T
	cloud   *simcloud.Cloud
	redis   *services.RedisProcess
	ledger  *ledger.Ledger
	seeded  simcloud.Seeded
	environ []string
}

func newSite(t *testing.T, more ...string) *site {
	t.Helper()
	cloud, err := simcloud.Start(simcloud.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	redis := services.RedisServer(t)
	client := redis.Client()
	t.Cleanup(func() { client.Close() })
	return &site{T: t, cloud: cloud, redis: redis, seeded: cloud.Seed(), ledger: ledger.New(client, ledger.Options{Shards: 2}),
		environ: append([]string{"OS_AUTH_URL=" + cloud.AuthURL(), "OS_USERNAME=backup-svc", "OS_PASSWORD=devcloud", "OS_PROJECT_NAME=service",
			"OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_DOMAIN_NAME=Default", "STAFFELN_SHARDS=2", "STAFFELN_REDIS_URL=" + redis.URL()}, more...)}
}

func (s *site) check(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// looked is what a look of retention leaves in the ledger.
func (s *site) looked(project string, o backup.Outlook, held string, now time.Time) {
	s.Helper()
	id := s.seeded.Projects[project]
	s.check(s.ledger.PutRecords(s.Context(), id, []backup.Record{{ID: project + "-1", Volume: project + "-v", Project: id, Status: "available", Created: now}}))
	r, err := s.ledger.Retention(s.Context(), id)
	s.check(err)
	r.Outlook, r.Held, r.Looked, r.Announced = o, held, now, now
	saved, err := s.ledger.SaveRetention(s.Context(), r, nil, now.Add(time.Hour))
	s.check(err)
	if !saved {
		s.Fatal("not saved")
	}
}

func (s *site) list(now time.Time) string {
	s.Helper()
	var out bytes.Buffer
	s.check(brakeList{}.print(s.Context(), s.environ, now, &out))
	return s.named(out.String())
}

func (s *site) release(what string, now time.Time) (string, error) {
	s.Helper()
	var out bytes.Buffer
	err := brakeRelease{What: what}.print(s.Context(), s.environ, now, &out)
	return s.named(out.String()), err
}

// named puts words for the ids.
func (s *site) named(text string) string {
	for name, id := range s.seeded.Projects {
		text = strings.ReplaceAll(text, id, strings.ToUpper(name))
	}
	return text
}

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// most of the backups of a project are to go, or none.
var (
	disaster = backup.Outlook{Backups: 20, Removals: 18, Chains: 4000, Losses: 3600}
	healthy  = backup.Outlook{Backups: 200, Removals: 2, Chains: 40000, Losses: 200}
)

func TestTheBrakeIsShownAndReleased(t *testing.T) {
	s := newSite(t)
	if got := s.list(noon); got != "Nothing is held back.\n" {
		t.Errorf("nothing was looked at yet: %s", got)
	}
	why := keep.OfProject(backup.Brake{Percent: 50, From: 10}, backup.Retention{}, disaster).Trips()
	s.looked("alpha", disaster, "brake: "+why, noon)
	s.looked("beta", healthy, "", noon)
	s.looked("gamma", backup.Outlook{Backups: 3}, "clock: our clock is ahead of the cloud's by more than 5m0s", noon)

	want := `project "alpha" (ALPHA): brake: ` + why + `
  18 of 20 restore points are to be removed, 3.6 of 4.0 chains, as of 2026-11-22T12:00:00Z
  to let them go: staffeln brake release ALPHA
project "gamma" (GAMMA): clock: our clock is ahead of the cloud's by more than 5m0s
  0 of 3 restore points are to be removed, 0.0 of 0.0 chains, as of 2026-11-22T12:00:00Z
`
	if diff := cmp.Diff(want, s.list(noon)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	got, err := s.release("alpha", noon.Add(time.Minute))
	s.check(err)
	want = `The brake of project "alpha" (ALPHA) is released until 2026-11-23T12:01:00Z, for at most 18 removals. It held, since: ` + why + `.
Retention looks again now.
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r, err := s.ledger.Retention(t.Context(), s.seeded.Projects["alpha"])
	s.check(err)
	if !r.Released.Equal(noon.Add(time.Minute+24*time.Hour)) || r.Most != 18 || r.Due.After(noon.Add(time.Minute)) {
		t.Errorf("released until %s for %d, due %s", r.Released, r.Most, r.Due)
	}
	if got := s.list(noon.Add(2 * time.Minute)); !strings.Contains(got, "released until 2026-11-23T12:01:00Z for at most 18 removals") {
		t.Error(got)
	}
	if got := s.list(noon.Add(25 * time.Hour)); !strings.Contains(got, "to let them go: staffeln brake release ALPHA") {
		t.Errorf("the release is over: %s", got)
	}
}

func TestTheBrakeOfTheCloud(t *testing.T) {
	s := newSite(t)
	if _, err := s.release("cloud", noon); err == nil || !strings.Contains(err.Error(), "holds nothing back") {
		t.Error(err)
	}
	why := keep.OfCloud(backup.Brake{Percent: 50, From: 10}, disaster.Add(disaster), time.Time{}, 0).Trips()
	for _, p := range []string{"alpha", "beta"} {
		s.looked(p, disaster, "cloud brake: "+why, noon)
	}
	if got := s.list(noon); !strings.HasPrefix(got, "cloud: "+why+"\n  36 of 40 restore points") || !strings.Contains(got, "staffeln brake release cloud") {
		t.Error(got)
	}
	got, err := s.release("cloud", noon.Add(time.Minute))
	s.check(err)
	if !strings.Contains(got, "The brake of the cloud is released until 2026-11-23T12:01:00Z, for at most 36 removals.") {
		t.Error(got)
	}
	until, most, err := s.ledger.CloudRelease(t.Context())
	s.check(err)
	if !until.Equal(noon.Add(time.Minute+24*time.Hour)) || most != 36 {
		t.Error(until, most)
	}
	for _, p := range []string{"alpha", "beta"} {
		r, err := s.ledger.Retention(t.Context(), s.seeded.Projects[p])
		s.check(err)
		if r.Due.After(noon.Add(time.Minute)) || !r.Released.IsZero() {
			t.Errorf("%s: due %s, released %s", p, r.Due, r.Released)
		}
	}
	if got := s.list(noon.Add(2 * time.Minute)); !strings.Contains(got, "  released until 2026-11-23T12:01:00Z for at most 36 removals\n") {
		t.Error(got)
	}
}

func TestReleasesThatAreRefused(t *testing.T) {
	s := newSite(t)
	s.looked("gamma", backup.Outlook{Backups: 3}, "clock: wrong", noon)
	for _, tc := range []struct{ name, what, want string }{
		{"a project nobody holds back", "alpha", `nothing of a project "alpha" is held back`},
		{"a project that something else holds back", "gamma", "its removals wait for another reason: clock: wrong"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := s.release(tc.what, noon); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Error(err)
			}
		})
	}
	s.environ = s.environ[:len(s.environ)-1]
	if err := (brakeList{}).print(t.Context(), s.environ, noon, nil); err == nil || !strings.Contains(err.Error(), "STAFFELN_REDIS_URL is not set") {
		t.Error(err)
	}
}

// With OpenStack down, projects go by their ids.
func TestTheBrakeWithoutOpenStack(t *testing.T) {
	s := newSite(t)
	s.looked("alpha", disaster, "brake: too many", noon)
	s.cloud.Close()
	if got := s.list(noon); !strings.HasPrefix(got, "project ALPHA: brake: too many\n") {
		t.Error(got)
	}
	if _, err := s.release(s.seeded.Projects["alpha"], noon); err != nil {
		t.Error(err)
	}
}

// The commands are there under their names.
func TestPlanCommand(t *testing.T) {
	s := newSite(t)
	now := time.Now()
	var out bytes.Buffer
	run := func(c planCommand) (string, error) {
		out.Reset()
		err := c.print(t.Context(), s.environ, now, &out)
		return s.named(out.String()), err
	}
	got, err := run(planCommand{})
	s.check(err)
	for _, want := range []string{"project alpha", "web-1 / web-1-data", "newly protected", "DO"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	got, err = run(planCommand{JSON: true, Project: "beta", At: "+1d"})
	s.check(err)
	if !strings.Contains(got, `"at": "`+now.UTC().Add(24*time.Hour).Format(time.RFC3339)) || !strings.Contains(got, `"project": "BETA"`) || strings.Contains(got, "ALPHA") {
		t.Error(got)
	}
	if _, err := run(planCommand{Project: "nobody"}); err == nil || !strings.Contains(err.Error(), "project nobody: there is no such project") {
		t.Error(err)
	}
	mine, err := backupOfAlice(t.Context(), s.cloud, s.seeded.Projects["alpha"], s.seeded.Volumes["web-1-data"], nil)
	s.check(err)
	got, err = run(planCommand{Backup: strings.ToUpper(mine)})
	s.check(err)
	if said := strings.Join(strings.Fields(got), " "); !strings.Contains(said, "Backup "+mine) ||
		!strings.Contains(said, "Its owner may delete or change it") || !strings.Contains(said, "it is the project's own") {
		t.Error(got)
	}
	got, err = run(planCommand{Backup: mine, JSON: true})
	s.check(err)
	if !strings.Contains(got, `"owner_may": true`) {
		t.Error(got)
	}
	const nowhere = "00000000-0000-4000-8000-000000000001"
	for want, c := range map[string]planCommand{
		`--backup "../x" is no id of a backup: want a UUID`:    {Backup: "../x"},
		"there is no backup " + nowhere:                        {Backup: nowhere},
		"want one of them; a backup's project is found by its": {Backup: mine, Project: "alpha"},
	} {
		if _, err := run(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", c, err, want)
		}
	}
	// What is read is left as it was.
	redis := s.redis.Client()
	defer redis.Close()
	keys, err := redis.Keys(t.Context(), "staffeln:*").Result()
	s.check(err)
	if len(keys) > 0 {
		t.Errorf("the plan wrote %v", keys)
	}
}

// A ledger that does not answer is no reason for no plan.
func TestPlanWithoutRedis(t *testing.T) {
	s := newSite(t)
	s.redis.Stop()
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s.check(planCommand{}.print(ctx, s.environ, time.Now(), &out))
	if got := strings.Join(strings.Fields(out.String()), " "); !strings.Contains(got, "The ledger was not to be read") || !strings.Contains(got, "web-1 / web-1-data") {
		t.Error(out.String())
	}
}

func TestMoment(t *testing.T) {
	for _, tc := range []struct{ at, want string }{
		{"", "2026-11-22T12:00:00Z"},
		{"+24h", "2026-11-23T12:00:00Z"},
		{"+1h30m", "2026-11-22T13:30:00Z"},
		{"+2w3d", "2026-12-09T12:00:00Z"},
		{"+1mon", "2026-12-22T12:00:00Z"},
		{"2026-11-23T02:30:00Z", "2026-11-23T02:30:00Z"},
		{"2026-11-23T02:30:00+01:00", "2026-11-23T01:30:00Z"},
		{"2026-11-22T12:00:00Z", "2026-11-22T12:00:00Z"},
		{"2026-11-21T12:00:00Z", "is over"},
		{"tomorrow", "is not a time"},
		{"+soon", "is not a span of time"},
		{"+-1h", "is not a span of time"},
		{"2026-11-23 02:30", "is not a time"},
	} {
		at, err := moment(tc.at, noon)
		got := at.UTC().Format(time.RFC3339)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, tc.want) {
			t.Errorf("--at %q: %s, want %s", tc.at, got, tc.want)
		}
	}
}
