package behaviour

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"staffeln/runtime/ledger"
)

// What else somebody with a tenant's password can set off: wild values wherever a tenant
// can write, volumes that move, grow and go, backups of the tenant's own among ours. It
// costs the tenant what is the tenant's; all else is backed up and kept as before.
func TestWhatATenantCanTryOnTheSimulatedCloud(t *testing.T) {
	t.Parallel()
	tenantTries(t, func(t *testing.T, r rights) (*cloud, *board) {
		c, b := simulated(t), openBoard(t)
		b.police(t, c, []rights{r}, []rights{r})
		return c, b
	})
}

// tenantTries plays it with all rights side by side. stage is where, with Cinder's policy
// in place.
func tenantTries(t *testing.T, stage func(*testing.T, rights) (*cloud, *board)) {
	if _, err := program(); err != nil {
		t.Fatal(err)
	}
	tests := map[string]func(*testing.T){}
	for _, r := range []rights{adminRights, leastRights} {
		tests["with "+r.name] = func(t *testing.T) {
			c, b := stage(t, r)
			tries(newScene(t, c, r), b)
		}
	}
	alongside(t, tests)
}

// wild are values that nobody has foreseen.
var wild = []string{
	"", " ", "\x00", "yes\n", "no\r\nlevel=ERROR msg=forged", "<script>alert(1)</script>", "{{.Secret}}", "💾💥",
	"$(reboot)", "' OR 1=1 --",
	"-1d", "0", "9999y", "1e9999", "NaN", "NULL", "../../etc/passwd", "daily@99:99", "* * * * * *",
	strings.Repeat("9", 255), "\u202eon",
}

// uncouth are names as a tenant may choose them, as far as Nova and Cinder take them.
var uncouth = []string{
	"</td><script>x</script>\n\rBcc: a@b\n💾 {{.}} %s '\"; level=ERROR",
	"</td><script>x</script> Bcc: a@b 💾 {{.}} %s '\"; level=ERROR",
	"</td><script>x</script> Bcc: a@b ☠ {{.}} %s '\"; level=ERROR",
}

func tries(s *scene, b *board) {
	p, other := s.project(nil), s.project(nil)
	servers, v := p.machines("wild", "moved", "again", "chain")
	every := 10 * time.Second
	if s.cloud.shared {
		every = 45 * time.Second
	}
	env := s.settings(map[string]string{
		"STAFFELN_REDIS_URL": s.ledger(), "STAFFELN_INCLUDE_PROJECTS": only(p), "STAFFELN_BACKUP_PERIOD": every.String(),
		"STAFFELN_FULL_BACKUP_DEPTH": "3", "STAFFELN_RETENTION_TIME": "30d", "STAFFELN_CLASS_SHORT_RETENTION_TIME": "1s",
		"STAFFELN_CLASS_SHORT_FULL_BACKUP_DEPTH": "0", "STAFFELN_BRAKE_PERCENT": "100", "STAFFELN_RECONCILE_PERIOD": "10s",
		"STAFFELN_LISTEN": freeAddress(s.t),
	})
	b.connect(p, env["STAFFELN_LISTEN"])
	s.t.Cleanup(p.clear)
	run := s.start(env)
	for _, server := range servers[:3] {
		p.optIn(server)
	}
	p.choose(servers[3], "short")
	complete(p, v...)
	before := map[string]backupRow{}
	for _, one := range v {
		before[one] = p.backupsOf(one)[0]
	}

	// busy is tried again while Cinder has a backup under way.
	busy := func(what string, try func() error) {
		s.t.Helper()
		p.until(2*time.Minute, what, func() string {
			if err := try(); err != nil {
				return err.Error()
			}
			return ""
		})
	}
	// Cinder lets go of none that is being backed up, and says so late.
	detach := func(server, volume string) {
		s.t.Helper()
		busy("the volume is detached", func() error {
			now := p.volume(volume).Status
			if now == "available" {
				return nil
			}
			if now == "in-use" {
				_ = p.user.call("DELETE", "compute", "/servers/"+server+"/os-volume_attachments/"+volume, nil, nil)
			}
			return fmt.Errorf("it is %s", now)
		})
	}
	// refused has to end in one of these.
	refused := func(what string, err error, want ...int) {
		s.t.Helper()
		if !slices.Contains(want, status(err)) {
			s.t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	hostage, mine := "", before[v[3]]
	both(p, func() { // Wild metadata, tags and names.
		said := map[int]int{}
		note := func(err error) { said[status(err)]++ }
		for i, value := range wild {
			note(p.user.call("POST", "compute", "/servers/"+servers[0]+"/metadata", object{"metadata": object{
				"backup": value, "backup-schedule": value, "backup-retention": value, "last-backup-time": value}}, nil))
			note(p.user.call("PUT", "compute",
				"/servers/"+servers[0]+"/tags/"+url.PathEscape("backup:"+value[:min(len(value), 40)]), nil, nil))
			note(p.user.call("POST", "volumev3", "/volumes/"+v[0]+"/metadata",
				object{"metadata": object{"skip-volume-backup": value, fmt.Sprintf("wild-%d", i): value}}, nil))
		}
		s.t.Logf("wild values: Nova and Cinder said %v (0 is yes)", said)
		for _, key := range []string{"backup-schedule", "backup-retention", "last-backup-time"} {
			_ = p.user.call("DELETE", "compute", "/servers/"+servers[0]+"/metadata/"+key, nil, nil)
		}
		p.must(p.user.call("DELETE", "compute", "/servers/"+servers[0]+"/tags", nil, nil))
		busy("the volume is not to be skipped any more", func() error {
			return p.user.call("POST", "volumev3", "/volumes/"+v[0]+"/metadata",
				object{"metadata": object{"skip-volume-backup": "no"}}, nil)
		})
		// The wildest name that they take.
		for what, call := range map[string]func(name string) error{
			"server": func(name string) error {
				return p.user.call("PUT", "compute", "/servers/"+servers[0], object{"server": object{"name": name}}, nil)
			},
			"volume": func(name string) error {
				return p.user.call("PUT", "volumev3", "/volumes/"+v[0],
					object{"volume": object{"name": name, "description": name}}, nil)
			},
		} {
			if i := slices.IndexFunc(uncouth, func(name string) bool { return call(name) == nil }); i < 0 {
				s.t.Errorf("a %s can have none of the names", what)
			} else {
				s.t.Logf("a %s is named %q", what, uncouth[i])
			}
		}
		p.optIn(servers[0])
	}, func() { // A volume that grows, and is then at another server.
		detach(servers[1], v[1])
		busy("the volume grows", func() error {
			return p.user.call("POST", "volumev3", "/volumes/"+v[1]+"/action", object{"os-extend": object{"new_size": 2}}, nil)
		})
		p.until(time.Minute, "the volume has grown", func() string {
			return wants("2 available", fmt.Sprint(p.volume(v[1]).Size, " ", p.volume(v[1]).Status))
		})
		busy("the volume is attached elsewhere", func() error {
			return p.user.call("POST", "compute", "/servers/"+servers[2]+"/os-volume_attachments",
				object{"volumeAttachment": object{"volumeId": v[1]}}, nil)
		})
	}, func() { // A backup of the tenant's own on our chain, and a snapshot of the volume.
		busy("the tenant's own incremental", func() error {
			var out struct{ Backup struct{ ID string } }
			err := p.user.call("POST", "volumev3", "/backups",
				object{"backup": object{"volume_id": v[3], "force": true, "incremental": true, "name": "hostage"}}, &out)
			hostage = out.Backup.ID
			return err
		})
		p.until(time.Minute, "it is there", func() string { return wants("available", p.backup(hostage).Status) })
		if s.cloud.shared { // the simulated cloud has no snapshots
			var snapshot struct{ Snapshot struct{ ID string } }
			busy("a snapshot", func() error {
				return p.user.call("POST", "volumev3", "/snapshots",
					object{"snapshot": object{"volume_id": v[3], "force": true, "name": "mine"}}, &snapshot)
			})
			s.t.Cleanup(func() {
				_ = p.user.call("DELETE", "volumev3", "/snapshots/"+snapshot.Snapshot.ID, nil, nil)
			})
		}
		chain := p.backupsOf(v[3]) // Cinder took the newest that there was
		mine = chain[slices.IndexFunc(chain, func(b backupRow) bool { return b.ID == hostage })-1]
		refused("delete what their own incremental builds on", p.deleteBackup(mine.ID), 400, 403)
		p.until(2*every+time.Minute, "the operator is told what theirs keeps, which would go", func() string {
			if lines := run.log.lines("cannot be removed now"); !slices.ContainsFunc(lines, func(line string) bool {
				return strings.Contains(line, mine.ID) && strings.Contains(line, hostage) && strings.Contains(line, "not ours")
			}) {
				return "nothing is said of it"
			}
			return ""
		})
		if b := p.backup(mine.ID); b.Status != "available" || !b.Dependents {
			s.t.Errorf("the backup that theirs builds on is not there as it was: %+v", b)
		}
		p.until(every, "the plan says what keeps it", func() string { // no run of the volume is under way then
			if one := s.plan(env)[mine.ID]; one.Verdict != "keep" || !strings.Contains(one.Why+one.Blocked, "not ours") {
				return fmt.Sprintf("it is %+v", one)
			}
			return ""
		})
		p.must(p.deleteBackup(hostage))
		p.gone(hostage)
	})
	// Given away while attached, taken in and out as a record, limited, forced.
	refused("give an attached volume away", p.user.call("POST", "volumev3", "/os-volume-transfer",
		object{"transfer": object{"volume_id": v[3]}}, nil), 400)
	refused("take a backup out as a record", p.user.call("GET", "volumev3", "/backups/"+mine.ID+"/export_record", nil,
		nil), 403, 404)
	refused("bring in a backup as a record", p.user.call("POST", "volumev3", "/backups/import_record",
		object{"backup-record": object{"backup_service": "cinder.backup.drivers.ceph.CephBackupDriver",
			"backup_url": "bm9uZQ=="}}, nil), 403, 404)
	refused("lower the quota", p.user.call("PUT", "volumev3", "/os-quota-sets/"+p.id,
		object{"quota_set": object{"backups": 0}}, nil), 403)
	refused("lower another's quota", p.user.call("PUT", "volumev3", "/os-quota-sets/"+other.id,
		object{"quota_set": object{"backups": 0}}, nil), 403)
	refused("delete it from another project", other.deleteBackup(mine.ID), 404)

	// The server is deleted, and there is another one of the same name, with its volume.
	// With a volume that is just being backed up Nova would take the server away, and
	// Cinder go on saying that it is in use.
	detach(servers[2], v[1])
	detach(servers[2], v[2])
	p.must(p.user.call("DELETE", "compute", "/servers/"+servers[2], nil, nil))
	p.until(3*time.Minute, "the server is gone", func() string {
		if err := p.user.call("GET", "compute", "/servers/"+servers[2], nil, nil); status(err) != 404 {
			return fmt.Sprintf("it is not: %v", err)
		}
		return ""
	})
	servers[2] = p.server("again", false, v[1], v[2])
	changed := p.optIn(servers[2])

	var rows []backupRow
	p.until(2*every+3*time.Minute, "each volume has a restore point from after all that", func() string {
		p.must(ledger.New(s.redis.Client(), ledger.Options{}).LookRetention(s.t.Context(), p.id, time.Now()))
		rows = p.backups()
		for i, one := range v {
			var newest backupRow
			for _, b := range rows {
				if b.VolumeID == one && b.Status == "available" && b.Metadata["__automated_backup"] == "True" {
					newest = b
				}
			}
			if newest.ID == "" || !made(s.t, newest).After(changed) {
				return fmt.Sprintf("volume %d has none", i)
			}
		}
		return ""
	})
	of := func(i int) (ours []backupRow) {
		for _, b := range rows {
			if b.VolumeID == v[i] && b.Metadata["__automated_backup"] == "True" {
				ours = append(ours, b)
			}
		}
		return ours
	}
	for i := range 3 {
		if of(i)[0].ID != before[v[i]].ID {
			s.t.Errorf("the first restore point of volume %d is gone: %+v", i, of(i))
		}
	}
	for _, i := range []int{1, 2} {
		if b := of(i)[len(of(i))-1]; b.Metadata["__staffeln_server"] != servers[2] {
			s.t.Errorf("the newest backup of volume %d is of server %s, want %s", i, b.Metadata["__staffeln_server"], servers[2])
		}
	}
	grown := slices.IndexFunc(of(1), func(b backupRow) bool { return made(s.t, b).After(changed.Add(-time.Second)) })
	if b := of(1)[grown]; b.Incremental && grown > 0 && of(1)[grown-1].ID == before[v[1]].ID {
		s.t.Errorf("the backup after the volume has grown builds on one from before: %+v", b)
	}
	for _, b := range of(0) {
		if strings.ContainsAny(b.Name, "\n\r\x00") {
			s.t.Errorf("a backup is named %q", b.Name)
		}
	}

	// It is looked at again a minute after it was in the way, and then ever later.
	p.until(3*time.Minute, "what the tenant's own incremental kept is removed", func() string {
		p.must(ledger.New(s.redis.Client(), ledger.Options{}).LookRetention(s.t.Context(), p.id, time.Now()))
		if slices.ContainsFunc(p.backups(), func(b backupRow) bool { return b.ID == mine.ID }) {
			return "it is not"
		}
		return ""
	})
	for _, r := range s.front.deletes() {
		if i := slices.IndexFunc(rows, func(b backupRow) bool { return b.ID == r.backup() }); i >= 0 &&
			rows[i].VolumeID != v[3] {
			s.t.Errorf("asked to delete backup %+v", rows[i])
		}
	}

	// Nothing of a name is HTML in the digest, a second line in the log, or a header.
	html := s.preview(p, env)
	if strings.Contains(html, "<script>") || !strings.Contains(html, "&lt;script&gt;") {
		s.t.Errorf("the digest's HTML is not that of escaped names:\n%.3000s", html)
	}
	if subject, _, _ := strings.Cut(s.preview(p, env, "--text"), "\n"); strings.Contains(subject, "Bcc") {
		s.t.Errorf("the digest's first line is %q", subject)
	}
	for _, line := range strings.Split(run.log.String(), "\n") {
		if line != "" && !strings.HasPrefix(line, "time=") {
			s.t.Errorf("a line of the log is %q", line)
		}
	}
	if err := run.terminate(time.Minute); err != nil {
		s.t.Errorf("told to stop, the program said: %v", err)
	}
}

// preview is a project's digest.
func (s *scene) preview(p *project, env map[string]string, args ...string) string {
	s.t.Helper()
	path, err := program()
	p.must(err)
	cmd := exec.Command(path, append([]string{"report", "preview", "--project", p.id}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Dir(path)}
	for name, value := range env {
		if value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		s.t.Errorf("staffeln report preview: %v\n%s", err, complaints.String())
	}
	return string(out)
}
