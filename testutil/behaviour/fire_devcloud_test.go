//go:build e2e

package behaviour

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Cinder's own daemons are killed in the middle of several backups, and started
// again: each volume ends with one complete restore point for its slot, what was
// broken by it is gone, and no slot was begun twice.
func TestFireOnARealCloud(t *testing.T) {
	t.Cleanup(func() { removeQueues(t) })
	for _, r := range []rights{adminRights, leastRights} {
		t.Run("with "+r.name, func(t *testing.T) {
			t.Run("cinder-backup is killed while it makes backups", func(t *testing.T) { daemonKilled(t, r, "cinder-backup") })
			t.Run("cinder-api is killed while it is asked for backups", func(t *testing.T) { daemonKilled(t, r, "cinder-api") })
		})
	}
}

func daemonKilled(t *testing.T, r rights, daemon string) {
	c := devcloud(t)
	b := make([]byte, 3)
	_, _ = rand.Read(b)
	s := &scene{t: t, cloud: c, rights: r, id: "behaviour-fire-" + hex.EncodeToString(b),
		admin: &session{auth: c.auth, user: "admin", password: password, project: "admin"}}
	s.front = s.openFront()
	p := s.project(nil)
	servers, v := p.machines("one", "two", "three", "four")
	s.start(s.settings(map[string]string{"STAFFELN_REDIS_URL": s.ledger(), "STAFFELN_INCLUDE_PROJECTS": only(p)}))
	// Also where the test fails the cloud is whole again for the next one.
	again := sync.OnceFunc(func() { script(t, "up") })
	t.Cleanup(again)

	broken := 0 // backups that were under way when the daemon was killed
	switch daemon {
	case "cinder-backup":
		for _, one := range servers {
			p.optIn(one)
		}
		p.until(2*time.Minute, "several backups are under way", func() string {
			if broken = p.count("creating"); broken < 2 {
				return fmt.Sprintf("%d are", broken)
			}
			return ""
		})
		killDaemon(t, daemon)
		broken = p.count("creating") // and stay so: nobody is there to go on
	case "cinder-api":
		// The answer to the second request is lost with whoever was about to give it.
		killed := make(chan struct{})
		n := 0
		s.front.on(func(r *request) act {
			if !r.create() {
				return act{}
			}
			if n++; n == 2 {
				return act{Before: func() { go func() { killDaemon(t, daemon); close(killed) }() }}
			}
			return act{}
		})
		for _, one := range servers {
			p.optIn(one)
		}
		await(p, killed, 2*time.Minute, "the daemon is killed")
	}
	again()
	if daemon == "cinder-backup" {
		t.Logf("%d backups were under way", broken)
		if broken == 0 {
			t.Error("no backup was under way when the daemon was killed")
		}
	}

	p.until(6*time.Minute, "every volume has one restore point, and nothing else is there", func() string {
		rows, err := p.list()
		if err != nil {
			return err.Error()
		}
		for _, one := range v {
			of := slices.DeleteFunc(slices.Clone(rows), func(b backupRow) bool { return b.VolumeID != one })
			if len(of) != 1 || of[0].Status != "available" {
				return fmt.Sprintf("volume %s has %+v", one, of)
			}
		}
		return ""
	})
	stamped(p, time.Time{}, servers...)
	// Nobody asks again: the slot is done.
	asked := len(s.front.creates())
	steady(p, 10*time.Second, "nothing is asked for again", func() string {
		if n := len(s.front.creates()); n != asked {
			return fmt.Sprintf("%d backups were asked for, and now %d", asked, n)
		}
		return ""
	})
	for _, one := range v {
		attempts := map[string]bool{}
		for _, r := range s.front.creates(one) {
			if r.Status == 202 {
				attempts[r.Run] = true
			}
		}
		if len(attempts) > 1 {
			t.Errorf("volume %s was asked for in several runs: %v", one, attempts)
		}
	}
	oncePerRun(p)
	s.front.checkOnce(t, true)
}

// count is how many of the project's backups have a status.
func (p *project) count(status string) (n int) {
	for _, b := range p.backups() {
		if b.Status == status {
			n++
		}
	}
	return n
}

// killDaemon is kill -9 for one of the cloud's daemons, with its children. The
// script "up" starts it again.
func killDaemon(t *testing.T, name string) {
	file, err := os.ReadFile(filepath.Join(state(), "run", name+".pid"))
	var pid, start int
	if err == nil {
		_, err = fmt.Sscan(string(file), &pid, &start)
	}
	if err == nil {
		err = syscall.Kill(-pid, syscall.SIGKILL)
	}
	if err != nil {
		t.Errorf("kill %s: %v", name, err)
	}
}
