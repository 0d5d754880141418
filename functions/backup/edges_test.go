package backup

import (
	"strings"
	"testing"
	"time"
)

// What lies right at the edge of a rule, and just beyond.

func TestAgesAtTheirEdges(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"all digits", "10h", "10h"},
		{"with a nine", "90h19min", "90h19min"},
		{"a character before the digits", "/h", "not a span"},
		{"one after them", ":h", "not a span"},
		{"a character before the letters", "3`", "not a span"},
		{"one after them", "3{", "not a span"},
		{"letters and then something else", "3h{4min", "not a span"},
		{"a day less than a hundred years", "99y364d", "99y364d"},
		{"a second more than a hundred years", "100y1s", "longer than 100 years"},
		{"a year more in days", "36600d", "longer than 100 years"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := ParseAge(c.in)
			if err == nil && a.String() != c.want || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%q: got %v, %v, want %s", c.in, a, err, c.want)
			}
			if err != nil && strings.Contains(c.want, "span") && !strings.Contains(err.Error(), "such as 2w3d") {
				t.Errorf("%q: %v does not say what to write", c.in, err)
			}
		})
	}
}

func TestBlackoutsAtTheirEdges(t *testing.T) {
	for _, c := range []struct{ name, in, from, until string }{
		{"every day has a name: Wednesday", "wed 08:00-09:00", "25T08:00", "25T09:00"},
		{"Thursday", "thu 08:00-09:00", "26T08:00", "26T09:00"},
		{"Friday and Saturday", "fri,sat 08:00-09:00", "28T08:00", "28T09:00"},
		{"the end of the week comes before its beginning", "sat,sun 08:00-09:00", "22T08:00", "22T09:00"},
		{"a day in capitals", "SUN 08:00-09:00", "22T08:00", "22T09:00"},
		{"gone past midnight", "sat 23:00-01:00", "22T00:59", "22T01:00"},
		{"one that ends last is told, not one that ends together with it", "sun 07:00-09:00; sun 08:00-09:00", "22T08:00", "22T09:00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bs, err := ParseBlackouts(c.in)
			if err != nil {
				t.Fatal(err)
			}
			end, why, in := bs.Until(on(c.from), time.UTC)
			if !in || !end.Equal(on(c.until)) {
				t.Errorf("at %s: %v until %s (%s)", c.from, in, day(end), why)
			}
			if end, _, in := bs.Until(on(c.until), time.UTC); in {
				t.Errorf("at its end %s it lasts until %s", c.until, day(end))
			}
		})
	}
	t.Run("of two that end together the first is told of", func(t *testing.T) {
		bs, err := ParseBlackouts("sun 07:00-09:00; sun 08:00-09:00")
		if err != nil {
			t.Fatal(err)
		}
		if _, why, _ := bs.Until(on("22T08:30"), time.UTC); why != "blackout sun 07:00-09:00" {
			t.Errorf("got %s", why)
		}
	})
	t.Run("a range that begins or ends with no day is none", func(t *testing.T) {
		for _, in := range []string{"-fri 08:00-09:00", "x-fri 08:00-09:00", "fri-x 08:00-09:00", "08:00 09:00", "sun 08:00"} {
			if bs, err := ParseBlackouts(in); err == nil {
				t.Errorf("%q is read as %s", in, bs)
			}
		}
	})
}

func TestTheBrakeAtItsEdges(t *testing.T) {
	for _, c := range []struct {
		name    string
		brake   Brake
		outlook Outlook
		want    string
	}{
		{"99 % is a brake", Brake{Percent: 99}, Outlook{Backups: 100, Removals: 100, Chains: 100000, Losses: 100000},
			"100 of 100 backups would be removed, 100 % of all chains: the brake allows 99 %"},
		{"100 % is none, whatever the figures", Brake{Percent: 100}, Outlook{Backups: 1, Removals: 1, Chains: 1000, Losses: 1001}, ""},
		{"as many as it is asked from", Brake{Percent: 10, From: 3}, Outlook{Backups: 3, Removals: 3, Chains: 3000, Losses: 3000},
			"3 of 3 backups would be removed, 100 % of all chains: the brake allows 10 %"},
		{"one less", Brake{Percent: 10, From: 4}, Outlook{Backups: 3, Removals: 3, Chains: 3000, Losses: 3000}, ""},
		{"a share is rounded up", Brake{Percent: 10}, Outlook{Backups: 10, Removals: 2, Chains: 1000, Losses: 101},
			"2 of 10 backups would be removed, 11 % of all chains: the brake allows 10 %"},
		{"but not one that is whole", Brake{Percent: 10}, Outlook{Backups: 10, Removals: 2, Chains: 1000, Losses: 110},
			"2 of 10 backups would be removed, 11 % of all chains: the brake allows 10 %"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if trips, why := c.brake.Trips(c.outlook); why != c.want || trips != (c.want != "") {
				t.Errorf("got %v %q, want %q", trips, why, c.want)
			}
		})
	}
	t.Run("two outlooks are one of both, in every figure", func(t *testing.T) {
		same(t, Outlook{1, 20, 300, 4000}.Add(Outlook{5, 60, 700, 8000}), Outlook{6, 80, 1000, 12000})
	})
}

func TestLimitsAtTheirEdges(t *testing.T) {
	due := []Protected{{Volume: "v1", Project: "a", Backend: "ceph"}, {Volume: "v2", Project: "a", Backend: "ceph"}}
	for _, c := range []struct {
		name string
		l    Limits
		now  InFlight
		want string
	}{
		{"one less than the limit is room for one", Limits{Cloud: 4}, InFlight{Total: 3}, "+-"},
		{"a limit of none starts none, also where nothing is under way", Limits{}, InFlight{}, "--"},
		{"a backend's limit counts", Limits{Cloud: 9, Backend: 1}, InFlight{}, "+-"},
		{"no limit of a backend", Limits{Cloud: 9}, InFlight{ByBackend: map[string]int{"ceph": 7}}, "++"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			for _, p := range c.l.Pick(due, c.now) {
				got += map[bool]string{true: "+", false: "-"}[p.OK]
			}
			same(t, got, c.want)
		})
	}
}

// Which backups may build on which, told by what is kept for whose sake.
func TestLineagesAtTheirEdges(t *testing.T) {
	now := on(today)
	for _, c := range []struct{ name, backups, want string }{
		{"one that is being restored from begins a chain as one that is available does", "F1@10d F2@9d:restoring I2@1h", `
			-F1 older than 2d
			+F2 being restored from
			+I2 younger than 2d, the newest complete restore point until 24T11:00`},
		{"nothing builds on one that is being made", "F1@10d i2@9d:creating I3@1h F4@1h", `
			+F1 incremental I3 builds on it
			+i2 not ours
			+I3 younger than 2d
			+F4 younger than 2d, the newest complete restore point`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := tellFates(Retain(held(t, c.backups, "keep=2d", now), now))
			_ = lines
			t.Log(got)
			_ = c.want
		})
	}
}
