package functions_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"staffeln/events"
	"staffeln/functions/backup"
	"staffeln/functions/report/words"
	"staffeln/testutil/simcloud"
	"staffeln/testutil/world"
)

// A correspondence is a tale in which somebody is told.
type correspondence struct {
	*tale
	box *world.Mailbox
}

// facts is a template that tells runs by what they are, so that they can be counted.
const facts = `{{range .Digest.Runs}}run {{.VolumeID}}@{{.Slot.UTC.Format "20060102T150405Z"}} {{.Server}} {{if .OK}}ok{{else}}failed: {{.Why}}{{end}}
{{end}}{{range .Digest.Removed}}removed {{.Backup}}
{{end}}`

func write(t *testing.T, o world.Options) *correspondence {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "digest.txt"), []byte(facts), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Mail = &world.Mailbox{}
	if o.Cloud.Quota == nil {
		o.Cloud.Quota = &simcloud.Quota{Volumes: -1, Gigabytes: -1, Backups: -1, BackupGigabytes: -1}
	}
	o.Environ = append([]string{"STAFFELN_TEMPLATES=" + dir}, o.Environ...)
	c := &correspondence{tell(t, o), o.Mail}
	// Who may do everything everywhere is a member of every project, too.
	c.Cloud.SetEmail(c.Seeded.Users["backup-svc"], "")
	return c
}

// email changes a user's address, which is seen at once.
func (c *correspondence) email(user, address string) {
	c.Helper()
	c.Cloud.SetEmail(c.Seeded.Users[user], address)
	c.check(c.Reconnect(c.ctx))
}

// to are the letters that somebody has, oldest first.
func (c *correspondence) to(address string) (out []world.Handed) {
	for _, l := range c.box.Letters() {
		if l.To == address {
			out = append(out, l)
		}
	}
	return out
}

// subjects tell them in short: "Mon 06:00 subject".
func (c *correspondence) subjects(address string) (out []string) {
	for _, l := range c.to(address) {
		out = append(out, l.At.Format("Mon 15:04")+" "+l.Subject)
	}
	return out
}

// report delivers nothing but the ticks of report.
func (c *correspondence) report() {
	for shard := range c.Home.Ledger.Shards() {
		_ = c.Deliver(c.ctx, events.NewTick("report", shard, c.Now())) // kept in Errors
	}
}

// ended are the runs that ended for good, by the log.
func (c *correspondence) ended() map[string]bool {
	c.said.mu.Lock()
	defer c.said.mu.Unlock()
	ended := map[string]bool{}
	for _, line := range c.said.all {
		if strings.Contains(line, `msg="backup complete"`) || strings.Contains(line, `msg="run failed"`) {
			ended[regexp.MustCompile(`run=(\S+)`).FindStringSubmatch(line)[1]] = true
		}
	}
	return ended
}

var runLine = regexp.MustCompile(`(?m)^run (\S+) `)

// accounts checks that every run that ended is in exactly one digest of each of the
// addresses, and that a letter that came again is the very same.
func (c *correspondence) accounts(addresses ...string) {
	c.Helper()
	same := map[string]backup.Letter{}
	for _, l := range c.box.Handed() {
		first, again := same[l.Key]
		if again && (first.Text != l.Text || first.HTML != l.HTML || first.Subject != l.Subject || !first.At.Equal(l.Letter.At)) {
			c.Errorf("letter %s came in other words:\n%s\nthen\n%s", l.Key, first.Text, l.Text)
		}
		same[l.Key] = l.Letter
	}
	ended := c.ended()
	for _, a := range addresses {
		in := map[string][]string{}
		for _, l := range c.to(a) {
			for _, m := range runLine.FindAllStringSubmatch(l.Text, -1) {
				in[m[1]] = append(in[m[1]], l.Key)
			}
		}
		for run := range ended {
			if len(in[run]) != 1 {
				c.Errorf("%s: run %s is in %d digests: %q", a, run, len(in[run]), in[run])
			}
		}
		for run := range in {
			if !ended[run] {
				c.Errorf("%s was told of %s, which has not ended", a, run)
			}
		}
	}
}

// unreachable is trouble that passes, refused is trouble that does not.
func unreachable(backup.Letter) world.Trouble {
	return world.Trouble{Err: &backup.MailError{Err: errors.New("connection refused")}}
}

func refusedFor(address string) func(backup.Letter) world.Trouble {
	return func(l backup.Letter) world.Trouble {
		if l.To[0].Address != address {
			return world.Trouble{}
		}
		return world.Trouble{Err: &backup.MailError{Permanent: true, Refused: map[string]string{address: "550"}, Err: errors.New("550 no such user")}}
	}
}

const (
	alice = "alice@alpha.example.test"
	bob   = "bob@beta.example.test"
	carol = "carol@gamma.example.test"
)

func TestADigestAfterEachPeriod(t *testing.T) {
	for _, user := range []string{"backup-svc", "backup-min"} {
		t.Run(user, func(t *testing.T) {
			c := write(t, world.Options{User: user})
			c.pass(30*time.Minute, time.Minute)
			c.pass(2*24*time.Hour, 10*time.Minute)
			c.want("alice", c.subjects(alice), "Mon 06:00 alpha: 4 backups complete", "Tue 06:00 alpha: 2 backups complete")
			c.want("bob", c.subjects(bob), "Mon 06:00 beta: 8 backups complete", "Tue 06:00 beta: 4 backups complete")
			if got := c.subjects(carol); len(got) != 2 || !strings.Contains(got[0], "failed") || !strings.Contains(got[1], "all 4 backups failed") {
				t.Errorf("carol, whose quota is two: %q", got)
			}
			for _, l := range c.to(alice) {
				if got := l.Letter.At.Format("15:04"); got != "06:00" {
					t.Errorf("dated %s", got)
				}
				if !strings.Contains(l.HTML, "web-1-data") || l.List != c.Seeded.Projects["alpha"] {
					t.Errorf("letter %s of %s:\n%s", l.Key, l.List, l.HTML)
				}
			}
			if n := len(c.box.Handed()); n != 6 {
				t.Errorf("%d letters, want 6", n)
			}
			told := c.ended()
			for _, who := range []string{alice, bob, carol} {
				for _, l := range c.to(who) {
					for _, m := range runLine.FindAllStringSubmatch(l.Text, -1) {
						delete(told, m[1])
					}
				}
			}
			if len(told) > 0 {
				t.Errorf("nobody was told of %v", told)
			}
		})
	}
}

func TestAProjectWithNothingToTellGetsNoDigest(t *testing.T) {
	c := write(t, world.Options{})
	c.quiet()
	c.optIn("web-1")
	c.pass(2*24*time.Hour, 10*time.Minute)
	if a, b, g := len(c.to(alice)), len(c.to(bob)), len(c.to(carol)); a != 2 || b+g != 0 {
		t.Errorf("alice has %d letters, bob %d, carol %d; want 2, 0, 0", a, b, g)
	}
}

func TestEverythingFailed(t *testing.T) {
	c := write(t, world.Options{Environ: []string{"STAFFELN_REPORT_RECIPIENTS=owner@example.org"}})
	c.quiet()
	for range 4 {
		c.Cloud.FailNextBackup(c.Seeded.Volumes["app-1-data"], "rados: no space left on device")
		c.Cloud.FailNextBackup(c.Seeded.Volumes["app-1-logs"], "rados: no space left on device")
	}
	c.optIn("app-1")
	c.pass(21*time.Hour, 5*time.Minute)
	c.want("the subject", c.subjects("owner@example.org"), "Mon 06:00 beta: all 4 backups failed, 2 volumes overdue")
	c.pass(24*time.Hour, 5*time.Minute)
	got := c.to("owner@example.org")
	if len(got) != 2 || !strings.Contains(got[1].HTML, "had been failing since 2026-11-22 00:00") {
		t.Errorf("the day after, when all is well again: %q", c.subjects("owner@example.org"))
	}
	c.accounts("owner@example.org")
}

func TestNobodyToTell(t *testing.T) {
	c := write(t, world.Options{})
	c.quiet()
	c.optIn("web-1")
	c.email("alice", "")
	c.pass(30*time.Hour, 10*time.Minute)
	c.want("letters", c.subjects(alice))
	if n := c.said.times("level=ERROR", "digest not told", "there is nobody to tell"); n == 0 {
		t.Error("the operator was not told")
	}
	if n := c.said.times("digest not told"); n < 3 || n > 10 {
		t.Errorf("tried %d times in ten hours, want growing intervals", n)
	}
	c.email("alice", alice)
	c.pass(24*time.Hour, 10*time.Minute)
	if got := c.to(alice); len(got) != 2 || !got[0].Letter.At.Equal(sunday.Add(20*time.Hour)) || !got[1].Letter.At.Equal(sunday.Add(44*time.Hour)) {
		t.Errorf("alice got %q, want each period's", c.subjects(alice))
	}
	c.accounts(alice)
}

const three = "STAFFELN_REPORT_RECIPIENTS=a@example.org,b@example.org,c@example.org"

func TestOneAddressOfThreeIsRefused(t *testing.T) {
	c := write(t, world.Options{Environ: []string{three}})
	c.quiet()
	c.optIn("web-1")
	c.box.SetTrouble(refusedFor("b@example.org"))
	c.pass(2*24*time.Hour, 10*time.Minute)
	for who, want := range map[string]int{"a@example.org": 2, "b@example.org": 0, "c@example.org": 2} {
		if got := len(c.to(who)); got != want {
			t.Errorf("%s has %d letters, want %d", who, got, want)
		}
	}
	if n := len(c.box.Handed()); n != 4 {
		t.Errorf("%d letters were handed over, want 4", n)
	}
	if n := c.said.times("level=ERROR", "digest refused", "550 no such user"); n != 2 {
		t.Errorf("the operator was told %d times, want once for each digest", n)
	}
	if told, refused := c.metric("digests_total", `"told"`), c.metric("digests_total", `"refused"`); told != 2 || refused != 2 {
		t.Errorf("told %v, refused %v; want 2 and 2", told, refused)
	}
	c.accounts("a@example.org", "c@example.org")
}

func TestMailThatDoesNotGoAtOnce(t *testing.T) {
	c := write(t, world.Options{Environ: []string{three}})
	c.quiet()
	c.optIn("web-1")
	c.pass(19*time.Hour+55*time.Minute, 5*time.Minute)
	// b is greylisted, and nobody else is told twice for it.
	c.box.SetTrouble(func(l backup.Letter) world.Trouble {
		if l.To[0].Address == "b@example.org" && c.Now().Before(sunday.Add(20*time.Hour+20*time.Minute)) {
			return unreachable(l)
		}
		return world.Trouble{}
	})
	c.pass(6*time.Minute, 30*time.Second)
	if a, b := len(c.to("a@example.org")), len(c.to("b@example.org")); a != 1 || b != 0 {
		t.Errorf("a has %d, b %d; want 1 and 0", a, b)
	}
	c.pass(time.Hour, 30*time.Second)
	if n := c.said.times("digest not told", "connection refused"); n != 5 {
		t.Errorf("tried in vain %d times in 20 minutes, want after 0, 1, 3, 7 and 15 minutes", n)
	}
	if n := len(c.box.Handed()); n != 3 || len(c.to("b@example.org")) != 1 {
		t.Errorf("%d letters handed over, want one to each", n)
	}
	c.pass(24*time.Hour, 10*time.Minute)
	c.accounts("a@example.org", "b@example.org", "c@example.org")
}

func TestALetterThatWasTakenButNotAnswered(t *testing.T) {
	c := write(t, world.Options{Environ: []string{three}})
	c.quiet()
	c.optIn("web-1")
	c.pass(19*time.Hour+55*time.Minute, 5*time.Minute)
	times := 0
	c.box.SetTrouble(func(l backup.Letter) world.Trouble {
		if times++; times == 2 {
			return world.Trouble{Arrives: true, Err: &backup.MailError{Doubt: true, Err: errors.New("EOF")}}
		}
		return world.Trouble{}
	})
	c.pass(time.Hour, time.Minute)
	if n := len(c.box.Handed()); n != 4 || len(c.box.Letters()) != 3 {
		t.Errorf("%d letters handed over, want b's twice, by the same key", n)
	}
	c.accounts("a@example.org", "b@example.org", "c@example.org")
}

func TestBlindCopies(t *testing.T) {
	c := write(t, world.Options{Environ: []string{three, "STAFFELN_REPORT_ADDRESSING=blind"}})
	c.quiet()
	c.optIn("web-1")
	c.pass(19*time.Hour+55*time.Minute, 5*time.Minute)
	keys := map[string]bool{}
	c.box.SetTrouble(func(l backup.Letter) world.Trouble {
		keys[l.Key] = true
		if len(l.To) == 3 {
			return world.Trouble{Err: &backup.MailError{Sent: true, Told: []string{"A@example.org"}, Err: errors.New("451 greylisted")}}
		}
		return world.Trouble{}
	})
	c.pass(time.Hour, time.Minute)
	if a, b, third := len(c.to("a@example.org")), len(c.to("b@example.org")), len(c.to("c@example.org")); a != 0 || b != 1 || third != 1 {
		// a's was sent by the trouble itself, as it were.
		t.Errorf("a has %d, b %d, c %d; want the rest to be told together, and a not again", a, b, third)
	}
	if len(keys) != 2 {
		t.Errorf("keys %v: the letter to the rest is another one", keys)
	}
}

func TestTwoProcessesAtOnce(t *testing.T) {
	c := write(t, world.Options{})
	c.quiet()
	c.optIn("web-1")
	c.pass(19*time.Hour+59*time.Minute, time.Hour)
	c.Jump(c.Now().Add(2 * time.Minute))
	for range 3 {
		var both sync.WaitGroup
		for range 4 {
			both.Go(func() {
				for _, f := range c.Home.Functions {
					if f.Name != "report" {
						continue
					}
					for shard := range c.Home.Ledger.Shards() {
						_ = f.On["tick.report"](c.ctx, events.NewTick("report", shard, c.Now()))
					}
				}
			})
		}
		both.Wait()
	}
	if n := len(c.box.Handed()); n != 1 {
		t.Errorf("%d letters, want one", n)
	}
}

func TestRedisEmptiedInThePeriod(t *testing.T) {
	c := write(t, world.Options{Environ: []string{"STAFFELN_BACKUP_PERIOD=4h"}})
	c.quiet()
	c.optIn("web-1")
	c.pass(21*time.Hour, 5*time.Minute)
	c.pass(9*time.Hour+30*time.Minute, 5*time.Minute)
	c.empty()
	c.pass(14*time.Hour+30*time.Minute, 5*time.Minute)
	if got := c.subjects(alice); len(got) != 2 || !strings.HasSuffix(got[0], "6 backups complete") || !strings.HasSuffix(got[1], "6 backups complete") {
		t.Errorf("alice has %q, want all of each day's", got)
	}
	c.accounts(alice)
}

func TestAClockThatIsAheadTellsNothing(t *testing.T) {
	c := write(t, world.Options{})
	c.quiet()
	c.optIn("web-1")
	c.pass(18*time.Hour, 10*time.Minute)
	c.Skew(4 * time.Hour)
	c.pass(time.Hour, 5*time.Minute)
	c.want("with a clock that is ahead", c.subjects(alice))
	if n := c.said.times("level=ERROR", "no digests: the clock is not OpenStack"); n == 0 {
		t.Error("the operator was not told")
	}
	c.Skew(0)
	c.pass(2*time.Hour, 10*time.Minute)
	c.want("when it is right again", c.subjects(alice), "Mon 06:00 alpha: 2 backups complete")
	c.accounts(alice)
}

func TestADigestWaitsForItsRuns(t *testing.T) {
	for _, tc := range []struct {
		name  string
		takes time.Duration
		want  []string
	}{
		{"that end soon", 40 * time.Minute, []string{"Mon 06:30 alpha: 2 backups complete"}},
		{"but not for ever", 5 * time.Hour, []string{"Mon 08:00 alpha: 1 backup complete", "Tue 06:05 alpha: 2 backups complete"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			takes := 3 * time.Minute
			c := write(t, world.Options{Environ: []string{"STAFFELN_BACKUP_PERIOD=daily@05:50", "STAFFELN_DEADLINE_BASE=10h"},
				Cloud: simcloud.Options{BackupTime: func(simcloud.Volume, bool) time.Duration { return takes }}})
			c.quiet()
			c.optIn("web-1")
			c.pass(19*time.Hour+45*time.Minute, 5*time.Minute)
			takes = tc.takes
			c.pass(3*time.Hour, time.Minute)
			takes = 3 * time.Minute
			if len(tc.want) > 1 {
				c.pass(22*time.Hour, 10*time.Minute)
			}
			c.want("alice", c.subjects(alice), tc.want...)
			c.accounts(alice)
		})
	}
}

func TestADigestWaitsForRemovals(t *testing.T) {
	for _, tc := range []struct {
		name  string
		takes time.Duration
		at    []string
	}{
		{"that end soon", 50 * time.Minute, []string{"06:23"}},
		{"but not for one that is stuck", 7 * time.Hour, []string{"06:34"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := write(t, world.Options{
				Environ: []string{"STAFFELN_FULL_BACKUP_DEPTH=0", "STAFFELN_RETENTION_TIME=1h", "STAFFELN_BACKUP_PERIOD=daily@05:30"},
				Cloud:   simcloud.Options{DeleteTime: tc.takes}})
			c.quiet()
			c.optIn("web-1")
			c.pass(19*time.Hour+20*time.Minute, 5*time.Minute)
			c.pass(3*time.Hour, time.Minute)
			got := c.to(alice)
			var at []string
			for _, l := range got {
				at = append(at, l.At.Format("15:04"))
			}
			if len(at) != 1 || at[0][:2] != tc.at[0][:2] {
				t.Errorf("told at %q, want %q or so", at, tc.at)
			}
			if removed := len(got) == 1 && strings.Contains(got[0].Text, "removed "); removed != (tc.takes < time.Hour) {
				t.Errorf("the removal is told: %v", removed)
			}
		})
	}
}

// What only one project's owner cannot be told, keeps nobody else from being told.
func TestOneProjectsTroubleIsNotAnothers(t *testing.T) {
	c := write(t, world.Options{})
	c.box.SetTrouble(func(l backup.Letter) world.Trouble {
		if l.To[0].Address == alice {
			return unreachable(l)
		}
		return world.Trouble{}
	})
	c.email("carol", "no address")
	c.pass(44*time.Hour+time.Minute, 10*time.Minute)
	if a, b, g := len(c.to(alice)), len(c.to(bob)), len(c.to(carol)); a != 0 || b != 2 || g != 0 {
		t.Errorf("alice has %d letters, bob %d, carol %d; want 0, 2, 0", a, b, g)
	}
	c.box.SetTrouble(nil)
	c.pass(8*time.Hour, 10*time.Minute)
	if n := len(c.to(alice)); n != 2 {
		t.Errorf("alice has %d letters in the end, want 2", n)
	}
}

func TestAProjectThatIsDeletedIsNotWrittenToForEver(t *testing.T) {
	c := write(t, world.Options{})
	c.quiet()
	c.optIn("web-1")
	c.pass(19*time.Hour, 10*time.Minute)
	c.Cloud.DeleteServer(c.Seeded.Servers["web-1"])
	c.Cloud.DeleteProject(c.Seeded.Projects["alpha"])
	c.check(c.Reconnect(c.ctx))
	c.pass(24*time.Hour, 10*time.Minute)
	if n := c.said.times("digest dropped", "the project has been deleted"); n != 1 {
		t.Errorf("dropped %d times, want once", n)
	}
	c.want("letters", c.subjects(alice))
}

// The process dies after every single one of the calls that making and sending a
// digest takes, to Redis, OpenStack and the mail server, with and without the
// answer to the last.
func TestKilledWhileADigestIsToldToItsOwners(t *testing.T) {
	for _, addressing := range []string{"each", "blind"} {
		for _, deaf := range []bool{false, true} {
			steps := 0
			for n := 0; ; n += stride() {
				c := write(t, world.Options{Environ: []string{three, "STAFFELN_REPORT_ADDRESSING=" + addressing,
					"STAFFELN_BACKUP_PERIOD=10 * * * *", "STAFFELN_REPORT_PERIOD=1h", "STAFFELN_FULL_BACKUP_DEPTH=0", "STAFFELN_RETENTION_TIME=20min"}})
				c.quiet()
				c.Cloud.FailNextBackup(c.Seeded.Volumes["web-1-data"], "rados: timed out")
				c.Cloud.FailNextBackup(c.Seeded.Volumes["web-1-data"], "rados: timed out")
				c.optIn("web-1")
				c.optIn("batch-1")
				c.pass(59*time.Minute, 4*time.Minute)
				c.Jump(sunday.Add(time.Hour + time.Minute))
				c.Kill(n, deaf)
				before := c.Effects()
				c.report()
				lived := c.Effects() - before
				c.Restart()
				c.report()
				c.pass(14*time.Minute, 2*time.Minute)
				if got := len(c.box.Letters()); got != 3 {
					t.Errorf("%d letters a quarter of an hour later, want one to each: %q", got, c.subjects("a@example.org"))
				}
				c.pass(50*time.Minute, 5*time.Minute)
				c.accounts("a@example.org", "b@example.org", "c@example.org")
				if again := len(c.box.Handed()) - len(c.box.Letters()); again > 3 || again > 1 && addressing == "each" {
					t.Errorf("%d letters came again", again)
				}
				c.Close()
				if t.Failed() {
					t.Fatalf("%s: killed after %d calls (answer lost: %v)", addressing, n, deaf)
				}
				if steps++; lived < n {
					break
				}
			}
			t.Logf("%s: killed at %d steps", addressing, steps)
		}
	}
}

// The operators are told of what is theirs to mend, once in a period, and of
// nothing else.
func TestTheOperatorsDigest(t *testing.T) {
	c := write(t, world.Options{Environ: []string{"STAFFELN_REPORT_OPERATORS=ops@example.org,night@example.org", "STAFFELN_BACKUP_PERIOD=daily@02:00"}})
	c.quiet()
	c.optIn("web-1")
	c.optIn("app-1")
	c.pass(24*time.Hour, 10*time.Minute)
	c.want("while all is well", c.subjects("ops@example.org"))
	for range 2 {
		c.Cloud.FailNextBackup(c.Seeded.Volumes["app-1-logs"], "rados: no space left on device")
	}
	c.email("alice", "")
	c.pass(24*time.Hour, 10*time.Minute)
	got := c.to("ops@example.org")
	if len(got) != 1 || got[0].Subject != "Backups: 1 digest untold, 1 failure, 1 volume overdue" {
		t.Fatalf("the operators have %q", c.subjects("ops@example.org"))
	}
	for _, want := range []string{
		"alpha (" + c.Seeded.Projects["alpha"] + "): there is nobody to tell", "app-1, volume app-1-logs", "no space left on device",
	} {
		if !strings.Contains(got[0].Text, want) {
			t.Errorf("it lacks %q:\n%s", want, got[0].Text)
		}
	}
	if n := len(c.to("night@example.org")); n != 1 {
		t.Errorf("the other operator has %d", n)
	}
	c.email("alice", alice)
	c.pass(24*time.Hour, 10*time.Minute)
	if n := len(c.to("ops@example.org")); n != 1 {
		t.Errorf("when all is well again, they have %q", c.subjects("ops@example.org"))
	}
}

func TestKilledWhileTheOperatorsAreTold(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		for n := 0; ; n += stride() {
			c := write(t, world.Options{Environ: []string{"STAFFELN_REPORT_OPERATORS=ops@example.org,night@example.org", "STAFFELN_REPORT_RECIPIENTS=owner@example.org",
				"STAFFELN_BACKUP_PERIOD=10 * * * *", "STAFFELN_REPORT_PERIOD=1h"}})
			c.quiet()
			for range 2 {
				c.Cloud.FailNextBackup(c.Seeded.Volumes["web-1-data"], "rados: timed out")
			}
			c.optIn("web-1")
			c.pass(59*time.Minute, 4*time.Minute)
			c.Jump(sunday.Add(time.Hour + time.Minute))
			c.Kill(n, deaf)
			before := c.Effects()
			c.report()
			lived := c.Effects() - before
			c.Restart()
			c.pass(40*time.Minute, 4*time.Minute)
			for _, who := range []string{"ops@example.org", "night@example.org", "owner@example.org"} {
				if got := c.to(who); len(got) != 1 {
					t.Errorf("%s has %q", who, c.subjects(who))
				}
			}
			c.Close()
			if t.Failed() {
				t.Fatalf("killed after %d calls (answer lost: %v)", n, deaf)
			}
			if lived < n {
				t.Logf("killed at %d steps", n)
				break
			}
		}
	}
}

// A preview says what the digest will, and changes nothing.
func TestAPreviewIsTheDigestToCome(t *testing.T) {
	c := write(t, world.Options{})
	c.pass(19*time.Hour+50*time.Minute, 10*time.Minute)
	f := c.Home.Needs(c.Home.Cloud).Report()
	var last words.Written
	for range 2 {
		_, written, err := f.Preview(c.ctx, c.Home.Ledger, c.Seeded.Projects["gamma"], c.Now())
		c.check(err)
		c.pass(time.Minute, time.Minute)
		c.want("before", c.subjects(carol))
		if !strings.Contains(written.Text, "quota exceeded") {
			t.Errorf("the preview:\n%s", written.Text)
		}
		last = written
	}
	c.pass(30*time.Minute, time.Minute)
	got := c.to(carol)
	if len(got) != 1 || got[0].Text != last.Text || got[0].Subject != last.Subject {
		t.Errorf("the digest is another: %q, want %q\n%+v\nwant\n%s", c.subjects(carol), last.Subject, got, last.Text)
	}
}

// At a template that fails on what a project is, the built-in one is used, the
// operator is told, and the letter goes out.
func TestATemplateThatFailsOnSomeProjects(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "subject.txt"), []byte(`{{(index .Digest.Runs 0).Server}}{{if not .Removed}}{{index .Removed 5}}{{end}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	c := write(t, world.Options{Environ: []string{"STAFFELN_TEMPLATES=" + dir}})
	c.quiet()
	c.optIn("web-1")
	c.pass(21*time.Hour, 10*time.Minute)
	c.want("alice", c.subjects(alice), "Mon 06:00 alpha: 2 backups complete")
	if n := c.said.times("level=ERROR", "digest template"); n != 1 {
		t.Errorf("the operator was told %d times", n)
	}
}
