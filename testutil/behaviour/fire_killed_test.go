package behaviour

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"staffeln/runtime/ledger"
	"staffeln/testutil/services"
	"staffeln/testutil/simcloud"
)

// The program is killed again and again, wherever it happens to be: asking for
// backups, tracking them, removing old ones, sending digests. Left alone after that
// it is as if nothing had been.
func TestFireKilled(t *testing.T) {
	long(t)
	t.Parallel()
	alongside(t, map[string]func(*testing.T){
		"One process":                       func(t *testing.T) { killedInALoop(t, 1) },
		"Two of them, one or the other":     func(t *testing.T) { killedInALoop(t, 2) },
		"A process that is never ready":     killedWhileStarting,
		"Two processes, both at one moment": killedTogether,
	})
}

// killedInALoop is a cloud of short slots and short retention, with processes that
// are killed in turn.
func killedInALoop(t *testing.T, processes int) {
	b := ignite(t, nil)
	p := &project{t: t, s: b.scene, id: b.project, name: b.id}
	m := b.machines(3)
	post := services.SMTP(t)
	templates := t.TempDir()
	if err := os.WriteFile(filepath.Join(templates, "digest.txt"), []byte(plainRuns), 0o600); err != nil {
		t.Fatal(err)
	}
	const owner = "owner@fire.example"
	env := b.digests(post.Port, map[string]string{
		"STAFFELN_RECONCILE_PERIOD": "10s", "STAFFELN_BACKUP_PERIOD": "4s", "STAFFELN_RETENTION_TIME": "8s",
		"STAFFELN_FULL_BACKUP_DEPTH": "1",
		"STAFFELN_BRAKE_PERCENT":     "100", "STAFFELN_REPORT_RECIPIENTS": owner,
		"STAFFELN_REPORT_PERIOD": "5s",
		"STAFFELN_TEMPLATES":     templates,
	})
	var all []*process
	for range processes {
		all = append(all, b.burn(env, impatient))
	}
	b.optIn(m...)
	b.backedUp(m...)
	b.until("backups are removed, too", func() string {
		if !slices.ContainsFunc(b.sim.Log(), func(line string) bool {
			return strings.HasPrefix(line, "DELETE /volume/backups")
		}) {
			return "they are not"
		}
		return ""
	})
	for i := range 12 {
		one := all[i%processes]
		time.Sleep(time.Duration(rand.IntN(1500)) * time.Millisecond) // the moment is what is random here
		one.kill()
		one.launch()
		if i%3 > 0 {
			one.ready()
		}
	}
	// A digest that a killed process was sending is its own for some minutes. Nobody
	// sends one now.
	for _, one := range all {
		one.kill()
	}
	p.hurry()
	for _, one := range all {
		one.launch()
	}
	for _, one := range all {
		one.ready()
	}
	alone := time.Now()
	b.until("every volume has a restore point of a slot after that", func() string {
		for _, one := range m {
			if of := b.of(one.volume); !slices.ContainsFunc(of, func(c simcloud.Backup) bool {
				return good(c) && c.Created.After(alone)
			}) {
				return "volume " + one.volume + " has none"
			}
		}
		return ""
	})
	b.optOut(m...)
	l := ledger.New(b.redis.Client(), ledger.Options{})
	b.until("nothing is protected any more", func() string {
		v, err := l.Volumes(t.Context(), l.Shard(b.project))
		if err != nil || len(v) > 0 {
			return fmt.Sprintf("%d volumes are, %v", len(v), err)
		}
		return ""
	})
	b.settled(m...)
	want := map[string]bool{}
	for _, c := range b.sim.Backups() {
		if good(c) {
			want[c.Metadata["__staffeln_run"]] = true
		}
	}
	b.until("everybody is told of all runs", p.impatient(func() string {
		told := ""
		for _, l := range letters(t, post)[owner] {
			told += l.text
		}
		for run := range want {
			if !strings.Contains(told, "run "+run+"\n") {
				return "nobody is told of " + run
			}
		}
		return ""
	}))
	last := p.reporting().Last
	b.until("two more periods are told", p.impatient(func() string {
		if r := p.reporting(); r.Last.Before(last.Add(10 * time.Second)) {
			return "told until " + r.Last.String()
		}
		return ""
	}))
	for _, one := range all {
		if err := one.terminate(time.Minute); err != nil {
			t.Errorf("told to stop, the program said: %v", err)
		}
	}
	b.proven(m...)
	b.toldOnce(p, want, letters(t, post)[owner])
	t.Logf("%d restore points, %d letters", len(want), len(letters(t, post)[owner]))
}

// toldOnce fails the test where a run is in none or several digests. A letter that
// came again, since the process was killed before it could note that it had been
// taken, is the same as before, by its Message-ID, too.
func (b *blaze) toldOnce(p *project, want map[string]bool, got []letter) {
	b.t.Helper()
	by, in := map[string]letter{}, map[string]string{}
	for _, l := range got {
		if first, again := by[l.id]; again {
			if !first.same(l) {
				b.t.Errorf("%s came twice, in other words:\n%s\n%s", l.id, first.text, l.text)
			}
			continue
		}
		by[l.id] = l
		if id := messageID(p, l); l.id != id {
			b.t.Errorf("the digest until %s is %s, want %s", l.date, l.id, id)
		}
		for line := range strings.Lines(l.text) {
			run, ok := strings.CutPrefix(strings.TrimSpace(line), "run ")
			if !ok {
				continue
			}
			if !want[run] {
				b.t.Errorf("it is told of %s, which has no restore point", run)
			}
			if in[run] != "" {
				b.t.Errorf("it is told of %s in %s and in %s", run, in[run], l.id)
			}
			in[run] = l.id
		}
	}
	for run := range want {
		if in[run] == "" {
			b.t.Errorf("nobody was told of %s", run)
		}
	}
}

// A process that dies before it is ready, as often as a supervisor starts it, hands
// on what it began.
func killedWhileStarting(t *testing.T) {
	b := ignite(t, nil)
	m := b.machines(4)
	run := b.burn(nil)
	for _, one := range m {
		b.optIn(one)
		for range 3 {
			run.kill()
			run.launch()
			time.Sleep(time.Duration(rand.IntN(1000)) * time.Millisecond) // the moment is what is random here
		}
	}
	run.restart()
	b.settled(m...)
	b.proven(m...)
	b.oneEach(m...)
}

// Both are gone at the moment when Cinder has been asked.
func killedTogether(t *testing.T) {
	b := ignite(t, nil)
	m := b.machines(4)
	both := []*process{b.burn(nil), b.burn(nil)}
	for _, one := range m {
		killed := make(chan struct{})
		b.front.once(func(r *request) bool { return r.create() && r.Volume == one.volume },
			act{Cut: true, After: func() {
				for _, p := range both {
					p.kill()
				}
				close(killed)
			}})
		b.optIn(one)
		b.awaits(killed, "Cinder has been asked")
		for _, p := range both {
			p.launch()
		}
		for _, p := range both {
			p.ready()
		}
	}
	b.settled(m...)
	b.proven(m...)
	b.oneEach(m...)
}
