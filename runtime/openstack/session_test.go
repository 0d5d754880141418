package openstack

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"staffeln/functions/backup"
)

func quotaOf(ctx context.Context, c *Cloud, project string) error {
	_, err := c.Quota(ctx, project)
	return err
}

// quotas answers the quota of any project.
func quotas(t *testing.T) func(request) reply {
	r := load(t, "cinder-quota-usage-as-tenant").reply()
	return func(request) reply { return r }
}

func project(i int) string { return fmt.Sprintf("%032x", i+1) }

func TestTokensAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.life = time.Hour
		c := f.connect(f.options(Admin))
		f.answer = quotas(t)
		start := f.tokensGiven()
		ask := func(want int, why string) {
			t.Helper()
			for range 3 {
				if err := quotaOf(t.Context(), c, alphaProject); err != nil {
					t.Fatal(err)
				}
			}
			if got := f.tokensGiven() - start; got != want {
				t.Errorf("%s: %d tokens, want %d", why, got, want)
			}
		}
		ask(1, "the first call of a project")
		time.Sleep(54 * time.Minute)
		ask(1, "six minutes before its end, though Keystone's clock is seven behind")
		time.Sleep(2 * time.Minute)
		ask(2, "four minutes before its end")
		if err := quotaOf(t.Context(), c, gammaProject); err != nil {
			t.Fatal(err)
		}
		if got := f.tokensGiven() - start; got != 3 {
			t.Errorf("another project has %d tokens, want one of its own", got-2)
		}
		if err := quotaOf(t.Context(), c, serviceProject); err != nil {
			t.Fatal(err)
		}
		if got := f.tokensGiven() - start; got != 4 {
			t.Errorf("%d tokens: the home project's is the own session's, renewed", got)
		}
	})
}

// A token that lasts no longer than the margin is still used more than once.
func TestTokensThatAreShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.life = 5 * time.Minute
		c := f.connect(f.options(Admin))
		f.answer = quotas(t)
		start := f.tokensGiven()
		for range 10 {
			if err := quotaOf(t.Context(), c, alphaProject); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Second)
		}
		if got := f.tokensGiven() - start; got != 1 {
			t.Errorf("%d tokens within 200 s", got)
		}
	})
}

func TestARefusedTokenIsReplacedOnce(t *testing.T) {
	t.Run("and the call made again, a write too", func(t *testing.T) {
		f := newFake(t).on("backup-create-202")
		c := f.connect(f.options(Admin))
		for range 2 {
			f.revoke()
			if id, err := c.CreateBackup(t.Context(), alphaProject, backup.Request{Volume: web1Data}); err != nil || id != fullBackup {
				t.Fatalf("%q, %v", id, err)
			}
		}
		line := load(t, "backup-create-202").asks()
		wantLines(t, f.lines(), line, line, line) // the first of the two had no token yet
	})
	t.Run("but not for ever", func(t *testing.T) {
		f := newFake(t)
		c := f.connect(f.options(Admin))
		f.answer = func(request) reply { return load(t, "cinder-bad-token-401").reply() }
		start := f.tokensGiven()
		e := wantFault(t, quotaOf(t.Context(), c, alphaProject), backup.Operator)
		if e.Status != 401 || len(f.lines()) != 2 || f.tokensGiven()-start != 2 {
			t.Errorf("%v after %d tokens", e, f.tokensGiven()-start)
		}
	})
	t.Run("by one of many that were refused it", func(t *testing.T) {
		f := newFake(t)
		c := f.connect(f.options(Admin))
		f.answer = quotas(t)
		if err := quotaOf(t.Context(), c, alphaProject); err != nil {
			t.Fatal(err)
		}
		start := f.tokensGiven()
		f.revoke()
		inParallel(50, func(int) {
			if err := quotaOf(t.Context(), c, alphaProject); err != nil {
				t.Error(err)
			}
		})
		if got := f.tokensGiven() - start; got != 1 {
			t.Errorf("%d new tokens, want 1", got)
		}
	})
}

func inParallel(n int, do func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { do(i) })
	}
	wg.Wait()
}

func TestOneAuthenticationForMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c := f.connect(f.options(Admin))
		f.answer = quotas(t)
		f.authenticate = func(string) reply { time.Sleep(time.Second); return reply{} }
		start := f.tokensGiven()
		inParallel(200, func(i int) {
			if err := quotaOf(t.Context(), c, project(i%4)); err != nil {
				t.Error(err)
			}
		})
		if got := f.tokensGiven() - start; got != 4 {
			t.Errorf("%d tokens for 4 projects", got)
		}
	})
}

// One caller's end is not the others': the authentication goes on while anyone
// waits for it.
func TestACallerThatGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c := f.connect(f.options(Admin))
		f.answer = quotas(t)
		f.authenticate = func(string) reply { time.Sleep(10 * time.Second); return reply{} }
		start := f.tokensGiven()
		hasty, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			e := wantFault(t, quotaOf(hasty, c, alphaProject), backup.Retry)
			if e.Op != "authenticate" || e.Status != 0 {
				t.Errorf("%+v", e)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if err := quotaOf(t.Context(), c, alphaProject); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		if got := f.tokensGiven() - start; got != 1 {
			t.Errorf("%d tokens", got)
		}
	})
}

// blocking holds every call until its context ends.
type blocking struct{ ended chan struct{} }

func (b blocking) Wait(ctx context.Context) error {
	<-ctx.Done()
	close(b.ended)
	return ctx.Err()
}

func TestAnAuthenticationNobodyWaitsForIsGivenUp(t *testing.T) {
	f := newFake(t)
	c := f.connect(f.options(Admin))
	b := blocking{make(chan struct{})}
	c.client.Transport.(*wire).limiter = b
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- quotaOf(ctx, c, alphaProject) }()
	cancel()
	wantFault(t, <-done, backup.Retry)
	<-b.ended // or the test hangs
}

func TestAuthenticationThatFails(t *testing.T) {
	for _, tc := range []struct {
		name  string
		reply reply
		want  backup.Fault
		says  string
	}{
		{"a project that is gone, disabled or without a role", load(t, "keystone-token-unknown-project-401").reply(), backup.Operator,
			"project " + alphaProject + " is deleted or disabled, or the service user has no role in it: The request you have made requires authentication."},
		{"Keystone is down", reply{status: 503}, backup.Retry, "an empty answer"},
		{"Keystone breaks: nothing was changed", reply{status: 500}, backup.Retry, "an empty answer"},
		{"no connection", reply{err: errors.New("connection refused")}, backup.Retry, "connection refused"},
		{"no token", reply{status: 201, body: `{"token": {"expires_at": "2099-01-01T00:00:00Z"}}`}, backup.Retry, "no X-Subject-Token in the answer's head"},
		{"a token that would be two header lines", reply{status: 201, header: map[string]string{"X-Subject-Token": "a\r\nb"}, body: `{"token": {}}`}, backup.Retry, "no X-Subject-Token in the answer's head"},
		{"a token without an end", reply{status: 201, header: map[string]string{"X-Subject-Token": "a"}, body: `{"token": {}}`}, backup.Retry, "the token has no end"},
		{"a token for another project", reply{status: 201, header: map[string]string{"X-Subject-Token": "a"},
			body: `{"token": {"expires_at": "2099-01-01T00:00:00Z", "project": {"id": "other"}}}`}, backup.Retry, `the token is for project "other"`},
		{"a page of a proxy", reply{status: 201, body: "<html>"}, backup.Retry, "an HTML page instead of OpenStack's JSON"},
		{"the password cited", reply{status: 400, body: `{"error": {"message": "bad hidden-secret"}}`}, backup.Operator, "bad ***"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			c := f.connect(f.options(Admin))
			f.authenticate = func(string) reply { return tc.reply }
			for range 2 { // a failure is not kept
				e := wantFault(t, quotaOf(t.Context(), c, alphaProject), tc.want)
				if e.Op != "authenticate" || e.Message != tc.says {
					t.Errorf("%q, want %q", e, tc.says)
				}
			}
			f.authenticate = nil
			f.answer = quotas(t)
			if err := quotaOf(t.Context(), c, alphaProject); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTheSessionsAreBounded(t *testing.T) {
	f := newFake(t)
	c := f.connect(f.options(Admin))
	c.sessions.max = 10
	f.answer = quotas(t)
	ask := func(i int) {
		t.Helper()
		if err := quotaOf(t.Context(), c, project(i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		ask(i)
		ask(0) // which stays, since it is in use
	}
	if n := len(c.sessions.known); n != 10 || c.sessions.used.Len() != 10 {
		t.Errorf("%d sessions kept, want 10", n)
	}
	start := f.tokensGiven()
	ask(0)
	ask(99)
	if got := f.tokensGiven() - start; got != 0 {
		t.Errorf("%d new tokens for projects that were just used", got)
	}
	f.authenticate = func(string) reply { return reply{status: 401} }
	for i := range 100 {
		wantFault(t, quotaOf(t.Context(), c, project(1000+i)), backup.Operator)
	}
	if n := len(c.sessions.known); n > 10 {
		t.Errorf("%d sessions kept after failures", n)
	}
}

func TestEveryCallIsLimitedAndSeen(t *testing.T) {
	f := newFake(t).on("nova-server", "backup-delete-404")
	o := f.options(Admin)
	var mu sync.Mutex
	var waits int
	var seen []string
	o.Limiter = limiter(func(context.Context) error { mu.Lock(); waits++; mu.Unlock(); return nil })
	o.Observe = func(op string, status int, took time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		if took < 0 {
			t.Errorf("%s took %s", op, took)
		}
		seen = append(seen, fmt.Sprintf("%s %d", op, status))
	}
	c := f.connect(o)
	atConnect := waits
	if atConnect != len(seen) || atConnect < 7 {
		t.Errorf("%d waits and %d calls seen at connecting", waits, len(seen))
	}
	seen = nil
	if _, err := c.Server(t.Context(), alphaProject, web1); err != nil {
		t.Fatal(err)
	}
	wantFault(t, c.DeleteBackup(t.Context(), alphaProject, nothing), backup.Gone)
	wantLines(t, seen, "authenticate 201", "show server 200", "delete backup 404")
	if waits-atConnect != 3 {
		t.Errorf("%d waits for 3 calls", waits-atConnect)
	}

	// A limiter that cannot say: nothing is asked, nothing in doubt.
	f.lines()
	seen = nil
	c.client.Transport.(*wire).limiter = limiter(func(context.Context) error { return errors.New("redis: connection refused") })
	_, err := c.CreateBackup(t.Context(), alphaProject, backup.Request{Volume: web1Data})
	if e := wantFault(t, err, backup.Retry); !strings.Contains(e.Message, "not asked: redis: connection refused") {
		t.Error(e)
	}
	wantLines(t, f.lines())
	wantLines(t, seen)
}

type limiter func(context.Context) error

func (l limiter) Wait(ctx context.Context) error { return l(ctx) }
