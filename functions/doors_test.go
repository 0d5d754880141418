package functions_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"staffeln/events"
	"staffeln/events/oslo"
	"staffeln/testutil/world"
)

// hears has a notification published as anybody can who reaches the broker, and
// delivered.
func (s *tale) hears(e events.Event, payload map[string]any) {
	s.Helper()
	e.ID = fmt.Sprintf("forged-%s-%d", e.Type, e.At.UnixNano())
	var err error
	e.Data, err = json.Marshal(payload)
	s.check(err)
	s.Publish(oslo.Encode(e, "anybody"))
	s.check(s.Hear(s.ctx))
}

// enrolled tells the project in whose name a server is enrolled, as far as the two
// know of it.
func (s *tale) enrolled(server string, projects ...string) (in []string) {
	s.Helper()
	for _, p := range projects {
		_, _, ok, err := s.Home.Ledger.Enrolment(s.ctx, p, server)
		s.check(err)
		if ok {
			in = append(in, p)
		}
	}
	return in
}

// A notification says what to look at, and its project is a word like the others: with
// an admin's token, Nova shows the servers of all projects.
func TestANotificationThatNamesAnotherProjectsServer(t *testing.T) {
	for _, user := range []string{"backup-svc", "backup-min"} {
		t.Run(user, func(t *testing.T) {
			s := tell(t, world.Options{User: user, Deaf: true, Environ: []string{"STAFFELN_EXCLUDE_PROJECTS=beta"}}).quiet()
			s.step(5 * time.Second)
			alpha, beta := s.Seeded.Projects["alpha"], s.Seeded.Projects["beta"]
			left, mine := s.Seeded.Servers["app-1"], s.Seeded.Servers["web-1"]
			s.optIn("app-1")
			s.optIn("web-1")
			say := func(project, server string) {
				t.Helper()
				s.hears(events.Event{Type: "compute.instance.update", At: s.Now()}, map[string]any{
					"tenant_id": project, "instance_id": server, "display_name": "x", "metadata": map[string]string{"backup": "yes"}})
			}
			say(alpha, left)
			s.want("a server of a project that the operator left out, by another's name", s.enrolled(left, alpha, beta))
			say(beta, mine)
			s.want("a server by the name of a project that is left out", s.enrolled(mine, alpha, beta))
			say(alpha, mine)
			s.want("a server by the name of its own", s.enrolled(mine, alpha, beta), alpha)
			// What was known of it in its own project stays.
			say(beta, mine)
			s.want("after one more lie", s.enrolled(mine, alpha, beta), alpha)
			s.pass(10*time.Minute, time.Minute)
			for _, b := range s.Cloud.Backups() {
				if b.Project != alpha {
					t.Errorf("a backup of %s in project %s", b.Volume, b.Project)
				}
			}
			if n := len(s.Errors); n > 0 {
				t.Errorf("%d events were not taken, the first: %v", n, s.Errors[0])
			}
		})
	}
}

// Rules take an event's time for the present: that of a notification may be anything.
func TestANotificationFromAnotherTime(t *testing.T) {
	for name, at := range map[string]time.Duration{"in a hundred years": 100 * 365 * 24 * time.Hour, "a hundred years ago": -100 * 365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			s := tell(t, world.Options{Deaf: true, Environ: []string{"STAFFELN_RECONCILE_PERIOD=24h"}}).quiet()
			s.step(5 * time.Second)
			s.optIn("web-1")
			s.hears(events.Event{Type: "compute.instance.update", At: s.Now().Add(at)}, map[string]any{
				"tenant_id": s.Seeded.Projects["alpha"], "instance_id": s.Seeded.Servers["web-1"], "display_name": "web-1", "metadata": map[string]string{"backup": "yes"}})
			s.step(10 * time.Second)
			s.want("the first backup starts at once all the same", s.backups("web-1-data"), "full creating")
			s.pass(10*time.Minute, time.Minute)
			made := s.backupsOf("web-1-data")[0].ID
			// Told that it is gone, and of what it builds on.
			for _, about := range []string{"backup.delete.end", "backup.create.end"} {
				s.hears(events.Event{Type: about, At: s.Now().Add(at)}, map[string]any{"tenant_id": s.Seeded.Projects["alpha"], "backup_id": made,
					"volume_id": s.Seeded.Volumes["web-1-data"], "status": "deleted", "parent_id": s.Seeded.Volumes["web-1-root"]})
			}
			s.pass(2*24*time.Hour, 6*time.Hour)
			s.want("and the slots follow", s.backups("web-1-data"), "full available", "incremental available", "incremental available")
			s.once()
		})
	}
}

// Ticks are our own timers' alone: whoever may publish sets nothing off, at no time of
// his choosing.
func TestATickFromTheBroker(t *testing.T) {
	for name, ahead := range map[string]int{"now": 0, "in ten years": 10} {
		t.Run(name, func(t *testing.T) {
			s := tell(t, world.Options{}).quiet()
			s.optIn("web-1")
			s.pass(10*time.Minute, time.Minute)
			s.Jump(s.Now().Add(25 * time.Hour)) // there is a slot to be done
			before := fmt.Sprint(s.Cloud.Calls())
			for _, name := range []string{"reconcile", "dispatch", "track", "retention", "report"} {
				for shard := range s.Home.Ledger.Shards() {
					s.Publish(oslo.Encode(events.NewTick(name, shard, s.Now().AddDate(ahead, 0, 0)), "anybody"))
				}
			}
			s.check(s.Hear(s.ctx))
			if after := fmt.Sprint(s.Cloud.Calls()); after != before {
				t.Errorf("something was done: %v, before %v", after, before)
			}
		})
	}
}
