package behaviour

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"staffeln/runtime/ledger"
	"staffeln/testutil/services"
	"staffeln/testutil/simcloud"
)

// The tests called TestFire... break the services that the program uses while it
// works: the real RabbitMQ, the real Redis, the program itself. What came of it is
// told by the simulated cloud, which knows the truth about every backup that ever
// was.

// patient is how long anything may take that is expected at all. Nothing here is
// about speed, and the machine may be busy.
const patient = 5 * time.Minute

// long leaves a test to `make test-long`. testutil/gotest lists what was left.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes minutes: make test-long")
	}
}

// A blaze is a scene of such a test: a cloud with one project of its own, a vhost,
// and, when asked for, a Redis.
type blaze struct {
	*scene
	sim     *simcloud.Cloud
	broker  *services.Broker
	vhost   string // its URL
	project string
	period  string // the backup period: one slot, the same for every program of the scene
	keep    *recorder
}

// A machine is a server with one volume.
type machine struct{ server, volume string }

// ignite makes a cloud where backups take a moment, and tells a vhost of what
// happens in it. change may be nil.
func ignite(t *testing.T, change func(*simcloud.Options)) *blaze {
	t.Helper()
	return igniteAt(t, services.RabbitMQ(t), change)
}

// igniteAt is the same at a given broker.
func igniteAt(t *testing.T, broker *services.Broker, change func(*simcloud.Options)) *blaze {
	t.Helper()
	if _, err := program(); err != nil {
		t.Fatal(err)
	}
	vhost := broker.Vhost(t)
	keep := &recorder{publisher: newPublisher(t, vhost)}
	keep.connect()
	o := simcloud.Options{
		BackupTime: func(simcloud.Volume, bool) time.Duration { return 400 * time.Millisecond },
		DeleteTime: 100 * time.Millisecond,
		Quota:      &simcloud.Quota{Volumes: -1, Gigabytes: -1, Backups: -1, BackupGigabytes: -1},
		Notify:     keep.notify,
	}
	if change != nil {
		change(&o)
	}
	sim := inRealTime(t, o)
	b := make([]byte, 3)
	_, _ = rand.Read(b)
	s := &scene{t: t, rights: adminRights, id: "fire-" + hex.EncodeToString(b), cloud: &cloud{
		auth: sim.AuthURL(), origins: origins(t, sim), broker: vhost,
		poll: 50 * time.Millisecond, patience: 5 * time.Second,
	}}
	s.admin = &session{auth: s.cloud.auth, user: "admin", password: password, project: "admin"}
	s.front = s.openFront()
	return &blaze{scene: s, sim: sim, broker: broker, vhost: vhost, project: sim.AddProject(s.id), keep: keep}
}

// A recorder is a publisher that remembers what it was given.
type recorder struct {
	*publisher
	mu  sync.Mutex
	all []published
}

type published struct {
	exchange, key string
	body          []byte
}

func (r *recorder) notify(exchange, key string, body []byte) {
	r.mu.Lock()
	r.all = append(r.all, published{exchange, key, body})
	r.mu.Unlock()
	r.publisher.notify(exchange, key, body)
}

func (r *recorder) seen() []published {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

// machines makes servers that are not opted in.
func (b *blaze) machines(n int) []machine {
	var all []machine
	for i := range n {
		v := b.sim.AddVolume(b.project, fmt.Sprintf("volume-%d", i), 1, nil)
		all = append(all, machine{b.sim.AddServer(b.project, fmt.Sprintf("server-%d", i), nil, v), v})
	}
	return all
}

func (b *blaze) optIn(all ...machine) {
	for _, m := range all {
		b.sim.SetServerMetadata(m.server, map[string]string{"backup": "yes"})
	}
}

func (b *blaze) optOut(all ...machine) {
	for _, m := range all {
		b.sim.SetServerMetadata(m.server, map[string]string{})
	}
}

// env are the settings: nothing is found by coming round to it, unless with says
// otherwise.
func (b *blaze) env(with map[string]string) map[string]string {
	env := b.settings(map[string]string{
		"STAFFELN_REDIS_URL": b.ledger(), "STAFFELN_INCLUDE_PROJECTS": b.project,
		"STAFFELN_RECONCILE_PERIOD": "1h", "STAFFELN_LISTEN": services.Address(b.t),
		"STAFFELN_METRICS_LISTEN": services.Address(b.t),
		"STAFFELN_API_RATE":       "500",
	})
	if b.period == "" {
		b.period = env["STAFFELN_BACKUP_PERIOD"]
	}
	env["STAFFELN_BACKUP_PERIOD"] = b.period
	maps.Copy(env, with)
	return env
}

// burn starts the program.
func (b *blaze) burn(with map[string]string, flags ...string) *process {
	b.t.Helper()
	return b.start(b.env(with), flags...)
}

// until polls for as long as anything may take.
func (b *blaze) until(what string, ok func() string) {
	b.t.Helper()
	until(b.t, b.cloud.poll, patient, what, ok)
}

// good says whether a backup is, or was until it was removed, a restore point.
func good(c simcloud.Backup) bool { return !c.Ended.IsZero() && c.FailReason == "" }

// of are all backups there ever were of a volume.
func (b *blaze) of(volume string) []simcloud.Backup {
	return slices.DeleteFunc(b.sim.Backups(), func(c simcloud.Backup) bool { return c.Volume != volume })
}

// backedUp waits until every machine's volume has a restore point.
func (b *blaze) backedUp(all ...machine) {
	b.t.Helper()
	b.until("every volume that was opted in has a restore point", func() string {
		for _, m := range all {
			if !slices.ContainsFunc(b.of(m.volume), good) {
				return "volume " + m.volume + " has none"
			}
		}
		return ""
	})
}

// settled waits until nothing is left to be done: every volume has its restore
// point and its server has been told if it is still opted in, what is broken is gone from Cinder, and the
// ledger holds just what Cinder does, with nothing under way. A reconcile is asked
// for first: that is what everything is to be right after, at the latest.
func (b *blaze) settled(all ...machine) {
	b.t.Helper()
	b.backedUp(all...)
	l := ledger.New(b.redis.Client(), ledger.Options{})
	shard := l.Shard(b.project)
	b.until("a reconcile is asked for", func() string {
		if err := l.AskReconcile(b.t.Context()); err != nil {
			return err.Error()
		}
		return ""
	})
	b.until("nothing is left to be done", func() string {
		there := map[string]bool{}
		for _, c := range b.sim.Backups() {
			switch c.Status {
			case "deleted":
			case "available":
				there[c.ID] = true
			default:
				return fmt.Sprintf("backup %s of volume %s is %s", c.ID, c.Volume, c.Status)
			}
		}
		for _, m := range all {
			s, _ := b.sim.Server(m.server)
			if _, err := time.Parse(time.RFC3339, s.Metadata["last-backup-time"]); err != nil && s.Metadata["backup"] == "yes" {
				return fmt.Sprintf("server %s has the metadata %v", m.server, s.Metadata)
			}
		}
		ctx := b.t.Context()
		runs, err := l.Runs(ctx, shard)
		if err != nil {
			return err.Error()
		}
		if len(runs) > 0 {
			return "a run is open in the ledger: " + runs[0].ID()
		}
		flight, err := l.InFlight(ctx, time.Now())
		if err != nil {
			return err.Error()
		}
		if flight.Total != 0 {
			return fmt.Sprintf("%d runs hold a lease", flight.Total)
		}
		records, err := l.Records(ctx, b.project)
		if err != nil {
			return err.Error()
		}
		for _, r := range records {
			if !there[r.ID] {
				return "the ledger knows backup " + r.ID + ", which Cinder does not have"
			}
			delete(there, r.ID)
		}
		for id := range there {
			return "the ledger does not know backup " + id
		}
		return ""
	})
}

// proven fails the test where the truth about all backups there ever were breaks a
// promise: one restore point at most for a volume and slot, none without need asked
// for a second time, none of ours that names no run, and the newest of every
// volume kept.
func (b *blaze) proven(all ...machine) {
	b.t.Helper()
	runs, newest := map[string][]simcloud.Backup{}, map[string]simcloud.Backup{}
	for _, c := range b.sim.Backups() {
		run := c.Metadata["__staffeln_run"]
		if c.Metadata["__automated_backup"] == "" {
			continue // a tenant's own
		}
		if c.Project != b.project {
			b.t.Errorf("a backup in a project that is not included: %+v", c)
			continue
		}
		if !strings.HasPrefix(run, c.Volume+"@") {
			b.t.Errorf("backup %s of volume %s names the run %q", c.ID, c.Volume, run)
		}
		if good(c) {
			runs[run] = append(runs[run], c)
			newest[c.Volume] = c
		}
	}
	for run, same := range runs {
		if len(same) > 1 {
			b.t.Errorf("run %s has %d restore points: %+v", run, len(same), same)
		}
	}
	for _, m := range all {
		c, ok := newest[m.volume]
		if !ok || c.Status != "available" {
			b.t.Errorf("the newest restore point of volume %s is %+v", m.volume, c)
		}
	}
	b.front.checkOnce(b.t, true)
}

// oneEach fails the test where there ever were more backups of a machine's volume
// than one: without anything failing in Cinder, one slot is asked for once.
func (b *blaze) oneEach(all ...machine) {
	b.t.Helper()
	for _, m := range all {
		if of := b.of(m.volume); len(of) != 1 {
			b.t.Errorf("volume %s had %d backups in one slot: %+v", m.volume, len(of), of)
		}
	}
}

// readiness is what a process says of one of its checks: "ok", "down", or "" if it
// does not answer.
func (p *process) readiness(check string) string {
	resp, err := http.Get("http://" + p.addr + "/readyz")
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	told := map[string]string{}
	if json.NewDecoder(resp.Body).Decode(&told) != nil {
		return ""
	}
	return told[check]
}

// says is the condition that it says so.
func (p *process) says(check, want string) func() string {
	return func() string { return wants(want, p.readiness(check)) }
}

// measure is a metric, by its name without prefix and its labels as they are
// written, such as `ticks_skipped_total{function="track",why="busy"}`; all that
// begin with the name are added up. -1 is no answer.
func (p *process) measure(name string) float64 {
	resp, err := http.Get("http://" + p.env["STAFFELN_METRICS_LISTEN"] + "/metrics")
	if err != nil {
		return -1
	}
	defer resp.Body.Close()
	sum := 0.0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if series, value, ok := strings.Cut(lines.Text(), " "); ok &&
			(strings.HasPrefix(series, "staffeln_"+name) || strings.HasPrefix(series, name)) {
			n, _ := strconv.ParseFloat(value, 64)
			sum += n
		}
	}
	return sum
}

// alongside runs tests side by side: most of the time they wait.
func alongside(t *testing.T, tests map[string]func(t *testing.T)) {
	var all sync.WaitGroup
	for name, play := range tests {
		all.Go(func() {
			t.Run(name, func(t *testing.T) {
				start := time.Now()
				play(t)
				t.Logf("took %.0f s", time.Since(start).Seconds())
			})
		})
	}
	all.Wait()
}
