package openstack

import (
	"testing"
	"testing/synctest"
	"time"
)

// The cloud's time is Keystone's: seven minutes behind ours, and it goes on
// between tokens.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		var c Cloud
		if at, ok := c.Clock(); ok || !at.IsZero() || c.Self() != "" {
			t.Errorf("%s %v %q before there is a token", at, ok, c.Self())
		}
		cloud := f.connect(f.options(Admin))
		f.answer = quotas(t)
		is := func(behind time.Duration, why string) {
			t.Helper()
			if at, ok := cloud.Clock(); !ok || !at.Equal(time.Now().Add(-behind).Truncate(time.Microsecond)) {
				t.Errorf("%s: %s by the cloud's clock at %s", why, at, time.Now())
			}
		}
		is(7*time.Minute, "after connecting")
		time.Sleep(3 * time.Hour)
		is(7*time.Minute, "three hours later, with nothing asked since")
		f.authenticate = func(string) reply { return reply{status: 503} }
		_ = quotaOf(t.Context(), cloud, alphaProject)
		is(7*time.Minute, "while Keystone is down")
		f.authenticate = func(string) reply { time.Sleep(40 * time.Second); return reply{} }
		if err := quotaOf(t.Context(), cloud, alphaProject); err != nil {
			t.Fatal(err)
		}
		is(7*time.Minute, "after a token that took long to come")
	})
}

// Without a monotonic reading, as a driven clock is, a jump of ours shows until
// the next token puts it right.
func TestClockAfterAJump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		o := f.options(Admin)
		ahead := time.Duration(0)
		o.Now = func() time.Time { return time.Now().Round(0).Add(ahead) }
		c := f.connect(o)
		f.answer = quotas(t)
		before, _ := c.Clock()
		ahead = 365 * 24 * time.Hour
		if now, _ := c.Clock(); now.Sub(before) != ahead {
			t.Errorf("%s, then %s", before, now)
		}
		time.Sleep(time.Minute)
		if err := quotaOf(t.Context(), c, gammaProject); err != nil {
			t.Fatal(err)
		}
		if now, ok := c.Clock(); !ok || now.Sub(before) != time.Minute {
			t.Errorf("%s after a new token, want a minute after %s", now, before)
		}
	})
}

// The answer's id is that of the user, however it is called.
func TestSelf(t *testing.T) {
	f := newFake(t)
	if got, want := f.connect(f.options(Admin)).Self(), "27baad14275d44d3bb3d76e511ad5724"; got != want {
		t.Errorf("%q, want the recorded user's id %q", got, want)
	}
}
