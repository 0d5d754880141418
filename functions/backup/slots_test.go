package backup

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// theVolume's place is the second of twelve: 10 minutes into a window of 2 hours.
func TestWhoseTurn(t *testing.T) {
	const daily = "every=daily@02:00, spread=2h"
	for _, c := range []struct{ name, policy, state, now, want string }{
		{"newly protected: at once, whatever its place in the window", daily, "", "22T02:01",
			"now 22T02:00, ends 23T02:00, next 23T02:10: newly protected"},
		{"newly protected at noon: at once", daily, "", "22T12:00", "now 22T02:00, ends 23T02:00, next 23T02:10: newly protected"},
		{"done", daily, "last=22T02:00 complete=22T02:20", "22T12:00", "not 22T02:00, ends 23T02:00, next 23T02:10: slot 20261122T020000Z is done"},
		{"done to the last minute", daily, "last=22T02:00 complete=22T02:20", "23T01:59", "not 22T02:00, ends 23T02:00, next 23T02:10: slot 20261122T020000Z is done"},
		{"the slot has come, its place in the window has not", daily, "last=22T02:00 complete=22T02:20", "23T02:09",
			"not 23T02:00, ends 24T02:00, next 23T02:10: its place in the window is 2026-11-23T02:10:00Z"},
		{"its place has come", daily, "last=22T02:00 complete=22T02:20", "23T02:10", "now 23T02:00, ends 24T02:00, next 24T02:10: slot 20261123T020000Z"},
		{"late, but within the slot", daily, "last=22T02:00 complete=22T02:20", "23T20:00", "now 23T02:00, ends 24T02:00, next 24T02:10: slot 20261123T020000Z"},
		{"without a window its place is the slot", "every=daily@02:00", "last=22T02:00 complete=22T02:20", "23T02:00",
			"now 23T02:00, ends 24T02:00, next 24T02:00: slot 20261123T020000Z"},
		{"a window longer than half the way is cut", "every=1h, spread=2h", "last=22T02:00 complete=22T02:20", "22T03:01",
			"not 22T03:00, ends 22T04:00, next 22T03:02: its place in the window is 2026-11-22T03:02:30Z"},

		{"one slot missed: one run, now, out of its place", daily, "last=21T02:00 complete=21T02:20", "23T02:01",
			"now 23T02:00, ends 24T02:00, next 24T02:10: slots since 20261121T020000Z were missed"},
		{"a week missed: one run", daily, "last=15T02:00 complete=15T02:20", "22T12:00",
			"now 22T02:00, ends 23T02:00, next 23T02:10: slots since 20261115T020000Z were missed"},
		{"the last slot has failed: no new volume any more, so its place counts", daily, "last=22T02:00", "23T02:01",
			"not 23T02:00, ends 24T02:00, next 23T02:10: its place in the window is 2026-11-23T02:10:00Z"},
		{"the last slot was of another schedule", daily, "last=21T14:00 complete=21T14:20", "22T02:10",
			"now 22T02:00, ends 23T02:00, next 23T02:10: slot 20261122T020000Z"},

		{"a second attempt, even before its place", daily, "last=22T02:00 complete=22T02:20 retry=23T02:00 why=rbd", "23T02:01",
			"now 23T02:00, ends 24T02:00, next 24T02:10: second attempt: rbd"},
		{"a second attempt of the first slot of all", daily, "retry=22T02:00 why=rbd", "22T12:00", "now 22T02:00, ends 23T02:00, next 23T02:10: second attempt: rbd"},
		{"a second attempt that did not come in time is lost", daily, "last=21T02:00 retry=22T02:00 why=rbd", "23T02:01",
			"now 23T02:00, ends 24T02:00, next 24T02:10, lost 22T02:00: slots since 20261121T020000Z were missed"},
		{"waited for in vain", daily, "last=21T02:00 complete=21T02:20 waiting=22T02:00 waits=40", "23T02:01",
			"now 23T02:00, ends 24T02:00, next 24T02:10, lost 22T02:00: slots since 20261121T020000Z were missed"},
		{"waited for and still to be had", daily, "last=21T02:00 complete=21T02:20 waiting=22T02:00 waits=4", "22T12:00",
			"now 22T02:00, ends 23T02:00, next 23T02:10: slot 20261122T020000Z"},
		{"waited for and had", daily, "last=22T02:00 complete=22T02:20 waiting=22T02:00", "23T12:00",
			"now 23T02:00, ends 24T02:00, next 24T02:10: slot 20261123T020000Z"},
		{"the first slot of all waited for in vain", daily, "waiting=22T02:00 waits=40", "23T02:01",
			"now 23T02:00, ends 24T02:00, next 24T02:10, lost 22T02:00: newly protected"},

		{"a slot in the future was a wrong clock's", daily, "last=2027-11-22T02:00 complete=21T02:20", "22T12:00",
			"now 22T02:00, ends 23T02:00, next 23T02:10: slot 20261122T020000Z, which slots were done is not known"},
		{"a slot of now is none of the future", "every=daily@02:00", "last=22T02:00 complete=21T02:20", "22T02:00",
			"not 22T02:00, ends 23T02:00, next 23T02:00: slot 20261122T020000Z is done"},
		{"a restore point, but no slot that is known", daily, "complete=22T02:20", "22T12:00",
			"now 22T02:00, ends 23T02:00, next 23T02:10: slot 20261122T020000Z, which slots were done is not known"},
		{"wherever the host is: a slot of a zone", "every=24h, zone=Asia/Kathmandu", "last=21T18:15 complete=21T18:20", "22T18:14",
			"not 21T18:15, ends 22T18:15, next 22T18:15: slot 20261121T181500Z is done"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := showTurn(WhoseTurn(policy(c.policy), theVolume, state(c.state), on(c.now))); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

func showTurn(turn Turn) string {
	s := "not "
	if turn.Now {
		s = "now "
	}
	s += fmt.Sprintf("%s, ends %s, next %s", day(turn.Slot), day(turn.Ends), day(turn.Next))
	if !turn.Lost.IsZero() {
		s += ", lost " + day(turn.Lost)
	}
	return s + ": " + turn.Why
}

func TestStateAfter(t *testing.T) {
	const daily = "every=daily@02:00, spread=2h"
	for _, c := range []struct{ name, policy, state, slot, now, want string }{
		{"the slot is over; the next look is at its next place", daily, "last=21T02:00 complete=22T02:20", "22T02:00", "22T03:00", "last 22T02:00, due 23T02:10"},
		{"what it waited for is forgotten", daily, "last=21T02:00 retry=22T02:00 waiting=22T02:00 waits=7 why=busy", "22T02:00", "22T03:00", "last 22T02:00, due 23T02:10"},
		{"over within the window of the next slot", daily, "last=21T02:00 complete=22T02:20", "22T02:00", "23T02:05", "last 22T02:00, due 23T02:10"},
		{"over after the next slot came: at once", daily, "last=21T02:00 complete=22T02:20", "22T02:00", "23T12:00", "last 22T02:00, due 23T12:00"},
		{"an old run that ends late takes nothing back", daily, "last=22T02:00 complete=22T02:20", "20T02:00", "22T03:00", "last 22T02:00, due 23T02:10"},
		{"a slot of a wrong clock is put right", daily, "last=2027-11-22T02:00 complete=22T02:20", "22T02:00", "22T03:00", "last 22T02:00, due 23T02:10"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := state(c.state)
			s.Theirs = true
			s = s.After(policy(c.policy), theVolume, on(c.slot), on(c.now))
			if got := fmt.Sprintf("last %s, due %s", day(s.LastSlot), day(s.Due)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if !s.Retry.IsZero() || !s.Waiting.IsZero() || s.Waits != 0 || s.Why != "" || s.Theirs {
				t.Errorf("something is left of the slot: %+v", s)
			}
			same(t, s.LastComplete, state(c.state).LastComplete)
		})
	}
}

func TestStateWait(t *testing.T) {
	p := policy("every=daily@02:00")
	for _, c := range []struct {
		name, state, atLeast, now, want string
	}{
		{"soon at first", "", "0s", "22T12:00", "waiting 22T02:00, 1 times, due 12:00:30"},
		{"then twice as long", "waiting=22T02:00 waits=1", "0s", "22T12:00", "waiting 22T02:00, 2 times, due 12:01:00"},
		{"and again", "waiting=22T02:00 waits=4", "0s", "22T12:00", "waiting 22T02:00, 5 times, due 12:08:00"},
		{"but no longer than a quarter of an hour", "waiting=22T02:00 waits=5", "0s", "22T12:00", "waiting 22T02:00, 6 times, due 12:15:00"},
		{"however often it was", "waiting=22T02:00 waits=1000000", "0s", "22T12:00", "waiting 22T02:00, 1000001 times, due 12:15:00"},
		{"as long as OpenStack asks for", "", "40m", "22T12:00", "waiting 22T02:00, 1 times, due 12:40:00"},
		{"longer than OpenStack asks for, if it was often", "waiting=22T02:00 waits=3", "2m", "22T12:00", "waiting 22T02:00, 4 times, due 12:04:00"},
		{"patience begins anew with a slot", "waiting=21T02:00 waits=9", "0s", "22T12:00", "waiting 22T02:00, 1 times, due 12:00:30"},
		{"no longer than to the end of the slot, which has to be told", "waiting=22T02:00 waits=9", "0s", "23T01:50", "waiting 22T02:00, 10 times, due 02:00:00"},
		{"even if OpenStack asks for more", "", "20h", "22T12:00", "waiting 22T02:00, 1 times, due 02:00:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, now := state(c.state), on(c.now)
			s.Retry = on("22T02:00")
			s = s.Wait(WhoseTurn(p, theVolume, s, now), "busy", true, span(c.atLeast), now)
			if got := fmt.Sprintf("waiting %s, %d times, due %s", day(s.Waiting), s.Waits, s.Due.Format(time.TimeOnly)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if s.Why != "busy" || !s.Theirs || !s.Retry.Equal(on("22T02:00")) {
				t.Errorf("got %+v", s)
			}
		})
	}
}

// A turn whose end is over already cannot bring the next look back to it.
func TestStateWaitWithATurnThatIsOver(t *testing.T) {
	now := on("22T12:00")
	s := State{}.Wait(Turn{Slot: on("21T02:00"), Ends: on("22T02:00")}, "busy", false, 0, now)
	if !s.Due.Equal(now.Add(30*time.Second)) || s.Theirs {
		t.Errorf("got %+v", s)
	}
}

func TestWaitingLooksAheadAndNotTooFar(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, now := somePolicy(t), anyMoment(t)
		s := State{Waiting: p.Schedule.Slot(now), Waits: rapid.IntRange(0, 100).Draw(t, "waits")}
		turn := WhoseTurn(p, theVolume, s, now)
		before := s.Waits
		s = s.Wait(turn, "busy", false, 0, now)
		if !s.Due.After(now) || s.Due.After(now.Add(15*time.Minute)) || s.Due.After(turn.Ends) || s.Waits != before+1 {
			t.Fatalf("at %s after %d waits: %+v", now, before, s)
		}
	})
}

func somePolicy(t *rapid.T) Policy {
	p := policy(fmt.Sprintf("every=%s, zone=%s",
		rapid.SampledFrom([]string{"24h", "6h", "1h", "7d", "daily@02:30", "30 2 * * 1-5", "*/20 1-3 * * *", "0 0 31 * *"}).Draw(t, "every"),
		rapid.SampledFrom(someZones).Draw(t, "zone")))
	p.Spread = time.Duration(rapid.IntRange(0, 8).Draw(t, "spread")) * time.Hour
	return p
}

// A volume's life, looked at when it is due or later: slots that are put off until
// they are lost, outages, runs that take days, runs that fail. No slot comes twice,
// and there is always a next look, neither in the past nor beyond the next place.
func TestWhoseTurnOverAVolumesLife(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, now := somePolicy(t), anyMoment(t)
		s := State{Due: now}
		over := map[time.Time]bool{}
		end := func(slot time.Time) {
			if over[slot] {
				t.Fatalf("at %s slot %s comes again", now, slot)
			}
			over[slot] = true
			s = s.After(p, theVolume, slot, now)
		}
		passes := func(name string, most time.Duration) {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(most)).Draw(t, name)))
		}
		for range rapid.IntRange(5, 60).Draw(t, "looks") {
			turn := WhoseTurn(p, theVolume, s, now)
			if turn.Slot.After(now) || !turn.Ends.After(now) || !turn.Next.After(now) || turn.Why == "" {
				t.Fatalf("at %s: %s", now, showTurn(turn))
			}
			switch {
			case !turn.Lost.IsZero():
				if turn.Lost != s.Waiting {
					t.Fatalf("slot %s was waited for, %s is lost", s.Waiting, turn.Lost)
				}
				end(turn.Lost)
			case !s.Waiting.IsZero() && !s.Waiting.Equal(turn.Slot):
				t.Fatalf("at %s nobody tells that slot %s was lost: %s", now, s.Waiting, showTurn(turn))
			case !turn.Now:
				s.Due = turn.Next
			case rapid.IntRange(0, 3).Draw(t, "busy") == 0:
				s = s.Wait(turn, "busy", true, 0, now)
			default:
				passes("takes", 30*time.Hour)
				if rapid.Bool().Draw(t, "succeeds") {
					s.LastComplete = now
				}
				end(turn.Slot)
				if again := WhoseTurn(p, theVolume, s, now); again.Now && !again.Slot.After(turn.Slot) {
					t.Fatalf("at %s slot %s is over and comes again: %s", now, turn.Slot, showTurn(again))
				}
			}
			next := p.Schedule.Next(now)
			if s.Due.Before(now) || s.Due.After(next.Add(spread(p.Schedule, next, p.Spread))) {
				t.Fatalf("at %s it is due at %s; the next slot is %s", now, s.Due, next)
			}
			// Nobody looks before it is due: nothing must be missed by that.
			if before := s.Due.Add(-time.Second); before.After(now) && s.Waiting.IsZero() && WhoseTurn(p, theVolume, s, before).Now {
				t.Fatalf("at %s its turn has come, but it is due only at %s", before, s.Due)
			}
			now = s.Due
			if rapid.IntRange(0, 3).Draw(t, "outage") == 0 {
				passes("for", 40*24*time.Hour)
			}
		}
	})
}

// What keeps completing within half a period has, whenever it has been looked at,
// the newest slot or the one before.
func TestAVolumeThatKeepsCompletingIsNeverMoreThanASlotBehind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, now := somePolicy(t), anyMoment(t)
		s := State{Due: now}
		for range 60 {
			now = now.Add(time.Duration(rapid.Int64Range(0, 5*24*3600).Draw(t, "later")) * time.Second)
			if now.Before(s.Due) {
				now = s.Due
			}
			turn := WhoseTurn(p, theVolume, s, now)
			if turn.Now {
				s.LastComplete = now
				s = s.After(p, theVolume, turn.Slot, now)
			} else {
				s.Due = turn.Next
			}
			if newest := p.Schedule.Slot(now); !s.LastSlot.Equal(newest) && !p.Schedule.Next(s.LastSlot).Equal(newest) {
				t.Fatalf("at %s: last %s, newest %s", now, s.LastSlot, newest)
			}
			if !s.Due.After(now) {
				t.Fatalf("at %s nothing is due, yet it is looked at at %s", now, s.Due)
			}
		}
	})
}

// Whatever clock wrote the state: a true one gets the volume going again within
// one slot.
func TestAWrongClockIsForgotten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, now := somePolicy(t), anyMoment(t)
		wrong := now.Add(time.Duration(rapid.Int64Range(-400, 400).Draw(t, "days")) * 24 * time.Hour)
		s := State{LastComplete: wrong}.After(p, theVolume, p.Schedule.Slot(wrong), wrong)
		turn := WhoseTurn(p, theVolume, s, now)
		if !turn.Now && turn.Next.After(turn.Ends.Add(spread(p.Schedule, turn.Ends, p.Spread))) {
			t.Fatalf("state of %s at %s: %s", wrong, now, showTurn(turn))
		}
		young := !s.LastComplete.Before(turn.Slot) && !s.LastComplete.After(p.Schedule.Next(turn.Ends))
		if s.LastSlot.After(now) && !turn.Now && !young {
			t.Fatalf("state of %s at %s: %s", wrong, now, showTurn(turn))
		}
	})
}

func TestOverdue(t *testing.T) {
	const daily = "every=daily@02:00, spread=2h" // the window ends at 04:00, a backup an hour later
	for _, c := range []struct{ name, policy, volume, state, now, want string }{
		{"a restore point of the newest slot", daily, "", "last=22T02:00 complete=22T02:20", "22T12:00", ""},
		{"a restore point of the slot itself", daily, "", "last=22T02:00 complete=22T02:00", "22T12:00", ""},
		{"by a clock of Cinder's that is a little behind", daily, "", "last=22T02:00 complete=22T01:59", "22T12:00", ""},
		{"and not more than a little", daily, "", "last=22T02:00 complete=22T01:58", "22T12:00", "newest restore point 2026-11-22T01:58:00Z is older than slot 2026-11-22T02:00:00Z"},
		{"one of the slot before, while the window is open", daily, "", "last=21T02:00 complete=21T02:20", "22T03:59", ""},
		{"and while a backup begun at its end may take", daily, "", "last=21T02:00 complete=21T02:20", "22T04:59", ""},
		{"and no longer", daily, "", "last=21T02:00 complete=21T02:20", "22T05:00", "newest restore point 2026-11-21T02:20:00Z is older than slot 2026-11-22T02:00:00Z"},
		{"one of the slot before that one, in the window", daily, "", "last=20T02:00 complete=20T02:20", "22T02:30", "newest restore point 2026-11-20T02:20:00Z is older than slot 2026-11-21T02:00:00Z"},
		{"left out by its owner", daily, "skip", "last=15T02:00 complete=15T02:20", "22T12:00", ""},

		{"none, and a run has failed", daily, "created=01T00:00", "last=22T02:00", "22T12:00", "no restore point yet"},
		{"none, and it has been put off", daily, "created=01T00:00", "waiting=22T02:00 waits=1", "22T12:00", "no restore point yet"},
		{"none, of a volume made since", daily, "created=22T02:01", "last=22T02:00", "22T12:00", ""},
		{"none, of a volume made at the very slot", daily, "created=22T02:00", "last=22T02:00", "22T12:00", "no restore point yet"},
		{"none, of a volume just enrolled", daily, "created=01T00:00", "", "22T12:00", ""},
		{"none, of a volume just enrolled and due", daily, "created=01T00:00", "due=22T11:59", "22T12:00", ""},
		{"none, of a volume enrolled at the slot", daily, "created=01T00:00", "due=22T02:00", "22T12:00", ""},
		{"none, of a volume that should have been looked at before the slot and never was", daily, "created=01T00:00", "due=22T01:59", "22T12:00", "no restore point yet"},

		{"a blackout over the window's end puts the promise off", daily + ", dark=03:00-09:00", "", "last=21T02:00 complete=21T09:20", "22T09:59", ""},
		{"until a backup begun after it may take", daily + ", dark=03:00-09:00", "", "last=21T02:00 complete=21T09:20", "22T10:00", "newest restore point 2026-11-21T09:20:00Z is older than slot 2026-11-22T02:00:00Z"},
		{"two blackouts in a row do, too", daily + ", dark=03:00-06:00;06:00-09:00", "", "last=21T02:00 complete=21T09:20", "22T09:59", ""},
		{"a blackout elsewhere does not", daily + ", dark=12:00-18:00", "", "last=21T02:00 complete=21T02:20", "22T05:00", "newest restore point 2026-11-21T02:20:00Z is older than slot 2026-11-22T02:00:00Z"},
		{"all hours of a blackout are put off", "every=1h, dark=08:00-18:00", "", "last=22T07:00 complete=22T07:10", "22T17:30", ""},
		{"to the end of what comes after it", "every=1h, dark=08:00-18:00", "", "last=22T07:00 complete=22T07:10", "22T18:59", ""},
		{"and no longer", "every=1h, dark=08:00-18:00", "", "last=22T07:00 complete=22T07:10", "22T19:00", "newest restore point 2026-11-22T07:10:00Z is older than slot 2026-11-22T18:00:00Z"},
		{"blackouts all around the clock end the question, not the program", "every=1h, dark=00:00-12:00;12:00-00:00", "", "last=15T07:00 complete=15T07:10", "22T18:59", "newest restore point 2026-11-15T07:10:00Z is older than slot 2026-11-21T23:00:00Z"},
		{"a deadline longer than the period counts as the period", "every=30m", "", "last=22T10:30 complete=22T10:30", "22T11:29", ""},
		{"so that what is too slow is told", "every=30m", "", "last=22T10:30 complete=22T10:30", "22T11:30", "newest restore point 2026-11-22T10:30:00Z is older than slot 2026-11-22T11:00:00Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := Protected{Volume: theVolume, State: state(c.state)}
			if c.volume == "skip" {
				v.Skip = "volume metadata skip-volume-backup=true"
			} else if created, ok := strings.CutPrefix(c.volume, "created="); ok {
				v.Created = on(created)
			}
			late, why := Overdue(policy(c.policy), v, time.Hour, on(c.now))
			if late != (c.want != "") || why != c.want {
				t.Errorf("got %v %q, want %q", late, why, c.want)
			}
		})
	}
}

// What begins every slot at its place, and is done within its deadline and the slot,
// is never overdue.
func TestNothingThatKeepsItsPromiseIsOverdue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, now := somePolicy(t), anyMoment(t)
		if rapid.Bool().Draw(t, "dark") {
			p.Blackouts, _ = ParseBlackouts("mon-fri 08:00-11:00; 20:00-20:30")
		}
		v := Protected{Volume: theVolume, Created: now.AddDate(-1, 0, 0), State: State{Due: now}}
		s, deadline := &v.State, time.Hour
		check := func(at time.Time) {
			if late, why := Overdue(p, v, deadline, at); late {
				t.Fatalf("at %s: %s (%+v)", at, why, *s)
			}
		}
		for range 40 {
			now = s.Due
			if end, _, dark := p.Blackouts.Until(now, p.Schedule.Zone()); dark {
				now = end
			}
			turn := WhoseTurn(p, theVolume, *s, now)
			if !turn.Now {
				s.Due = turn.Next
				continue
			}
			takes := min(deadline, turn.Ends.Sub(now))
			check(now.Add(takes - time.Second))
			s.LastComplete = now // as Cinder dates it: when it began
			*s = s.After(p, theVolume, turn.Slot, now.Add(time.Duration(rapid.Int64Range(0, int64(takes)-1).Draw(t, "takes"))))
			check(s.Due)
		}
	})
}
