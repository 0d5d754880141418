package behaviour

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"staffeln/functions/backup"
	"staffeln/runtime/ledger"
)

// A member of a project makes backups with our metadata, which anybody can copy. They
// count for nothing: no restore point of ours goes for one, no slot is taken for done by
// one, nothing of ours builds on one. Whoever made one can delete it.
func TestForgedBackupsOnTheSimulatedCloud(t *testing.T) {
	t.Parallel()
	forgedBackups(t, func(t *testing.T, f forging) (*cloud, rights, *board) {
		c, b := simulated(t), openBoard(t)
		shown := []rights{f.rights}
		if !f.shown {
			shown = nil
		}
		b.police(t, c, []rights{f.rights}, shown)
		return c, f.rights, b
	})
}

// A forging is one way in which the service may see who made a backup.
type forging struct {
	name   string
	rights rights
	// shown says that Cinder shows the service who made a backup.
	shown bool
}

var forgings = []forging{
	{"as an admin", adminRights, true},
	{"with the least rights and the line of Cinder's policy", leastRights, true},
	{"with the least rights and without the line", leastRights, false},
}

// police has Cinder ask the board, and shows some of the service users who made a backup.
func (b *board) police(t *testing.T, c *cloud, services, shown []rights) {
	t.Helper()
	ids := func(users []rights) (out []string) {
		for _, r := range users {
			out = append(out, userOf(t, c, r))
		}
		return out
	}
	c.policy(t, withMakers(policyFile(t, b.URL, orUser(ids(services))), ids(shown)))
}

// orUser is what stands after "user_id:" for any of several users.
func orUser(ids []string) string { return strings.Join(ids, " or user_id:") }

// userOf is the id of a service user.
func userOf(t *testing.T, c *cloud, r rights) string {
	t.Helper()
	s := &session{auth: c.auth, user: r.env["OS_USERNAME"], password: password, project: r.env["OS_PROJECT_NAME"]}
	if s.project == "" {
		s.project = "alpha" // any: the least rights are inherited by all
	}
	id, err := s.userID()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// withMakers is a policy file in which these users, and admins, are shown who made a
// backup.
func withMakers(file string, users []string) string {
	const rule = `"backup:backup_project_attribute": `
	var out strings.Builder
	for line := range strings.Lines(file) {
		if !strings.HasPrefix(line, rule) {
			out.WriteString(line)
		}
	}
	if len(users) > 0 {
		fmt.Fprintf(&out, "%s\"rule:admin_api or user_id:%s\"\n", rule, orUser(users))
	}
	return out.String()
}

// showsMakers is the least of Cinder's policy with which a service user sees who made a
// backup, as is recommended.
func showsMakers(t *testing.T, c *cloud, r rights) string {
	return withMakers("", []string{userOf(t, c, r)})
}

// A board passes on the checks of one Cinder to the programs of several scenes, each to
// the one whose project the backup is in.
type board struct {
	*httptest.Server

	mu sync.Mutex
	to map[string]string // addresses, by project
}

func openBoard(t *testing.T) *board {
	b := &board{to: map[string]string{}}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, in *http.Request) {
		body, err := io.ReadAll(in.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		form, _ := url.ParseQuery(string(body))
		var target struct {
			Project string `json:"project_id"`
		}
		_ = json.Unmarshal([]byte(form.Get("target")), &target)
		b.mu.Lock()
		to := b.to[target.Project]
		b.mu.Unlock()
		c := policyCheck{uri: in.RequestURI, contentType: in.Header.Get("Content-Type"), body: string(body)}
		if to == "" || c.ask(to) != nil {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(c.status)
		_, _ = io.WriteString(w, c.answer)
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *board) connect(p *project, address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.to[p.id] = address
}

// forgedBackups plays all forgings side by side. stage is where one is played, with
// Cinder's policy in place.
func forgedBackups(t *testing.T, stage func(t *testing.T, f forging) (*cloud, rights, *board)) {
	if _, err := program(); err != nil {
		t.Fatal(err)
	}
	tests := map[string]func(*testing.T){}
	for _, f := range forgings {
		tests[f.name] = func(t *testing.T) {
			c, r, b := stage(t, f)
			forge(newScene(t, c, r), b, f.shown)
		}
	}
	alongside(t, tests)
}

// A forgery is a project whose member forges backups.
type forgery struct {
	*scene
	p       *project
	run     *process
	service string // the id of the service's user
	every   time.Duration
	// spare is how long before a slot nothing is begun that keeps Cinder busy.
	spare time.Duration

	mu    sync.Mutex
	all   map[string]traced // every backup that was ever seen, as last seen
	whole map[string]bool   // those that were once complete
	// forged are the backups that a member made, by id, and what they claim to be.
	forged map[string]string
	// lost are those of ours that nobody can tell from forged ones any more; at is since
	// when.
	lost map[string]bool
	at   time.Time
}

// A traced is a backup as an admin sees it: with who made it.
type traced struct {
	backupRow
	User string `json:"user_id"`
}

func forge(s *scene, b *board, shown bool) {
	p := s.project(nil)
	servers, v := p.machines("posted", "changed")
	id, err := p.service().userID()
	p.must(err)
	g := &forgery{scene: s, p: p, service: id, every: 10 * time.Second, spare: 3 * time.Second,
		all: map[string]traced{}, whole: map[string]bool{}, forged: map[string]string{}, lost: map[string]bool{}}
	s.t.Cleanup(p.clear)
	if s.cloud.shared {
		g.every, g.spare = 30*time.Second, 10*time.Second
	}
	env := s.settings(map[string]string{
		"STAFFELN_REDIS_URL": s.ledger(), "STAFFELN_INCLUDE_PROJECTS": only(p),
		"STAFFELN_BACKUP_PERIOD": g.every.String(), "STAFFELN_FULL_BACKUP_DEPTH": "1",
		"STAFFELN_RETENTION_TIME": "5s", "STAFFELN_ARCHIVE_RULES": "last=2", "STAFFELN_BRAKE_PERCENT": "100",
		"STAFFELN_RECONCILE_PERIOD": "10s", "STAFFELN_METRICS_LISTEN": freeAddress(s.t), "STAFFELN_LISTEN": freeAddress(s.t),
	})
	b.connect(p, env["STAFFELN_LISTEN"])
	// Two of the member's own, to be changed later.
	own := []string{p.manual(v[1], nil), p.manual(v[1], nil)}

	g.run = s.start(env)
	for _, server := range servers {
		p.optIn(server)
	}
	p.until(2*time.Minute, "each volume has a restore point", func() string { return g.have(1, time.Time{}, v...) })

	far := object{"__staffeln_keep_until": "2099-01-01T00:00:00Z", "__staffeln_hold": "yes", "hold": "yes"}
	claimed := map[string]string{} // run names, by volume
	both(p, func() {
		g.post("a copy to be held for ever", v[0], nil, func() object { return g.copied(v[0], far) })
		g.post("a copy that claims the next slot", v[0], nil, func() object {
			claimed[v[0]] = g.next(v[0])
			return g.copied(v[0], object{"__staffeln_run": claimed[v[0]]})
		})
	}, func() {
		g.change("only the mark", own[0], object{"__automated_backup": "True"})
		id := g.post("", v[1], nil, func() object { return object{} })
		g.change("the whole copy", id, g.copied(v[1], nil))
	})
	claimed[v[1]] = g.next(v[1])
	g.change("a copy that claims the next slot", own[1], g.copied(v[1], object{"__staffeln_run": claimed[v[1]]}))
	forged := time.Now()

	p.until(4*g.every+2*time.Minute, "the claimed slots are the service's, and its own backups beyond last=2 are "+
		"gone", func() string {
		if why := g.have(2, forged, v...); why != "" {
			return why
		}
		for _, one := range v {
			if !g.served(claimed[one]) {
				return "no backup of ours is of run " + claimed[one]
			}
			if g.removed(one) == 0 {
				return "none of ours of volume " + one + " is removed"
			}
		}
		return ""
	})
	g.counted(shown)
	s.t.Logf("the claimed slots were made, and %d of ours removed", len(s.front.deletes()))
	// The member deletes what he forged, and nothing of ours.
	gone := own[0]
	p.must(p.deleteBackup(gone))
	p.gone(gone)
	g.mu.Lock()
	delete(g.forged, gone)
	g.mu.Unlock()
	g.refusals(v...)

	if err := g.run.terminate(time.Minute); err != nil {
		s.t.Errorf("told to stop, the program said: %v", err)
	}
	p.settled()
	g.digest(env)

	// The ledger forgets everything. Where Cinder does not show who made them, nobody
	// knows our own from forged ones any more.
	s.redis.FlushAll()
	g.look()
	if !shown {
		g.at = time.Now()
		for id, row := range g.all {
			if row.User == g.service && row.Status == "available" && g.present(id) {
				g.lost[id] = true
			}
		}
	}
	both(p, func() {
		g.post("an incremental copy", v[0], object{"incremental": true}, func() object { return g.copied(v[0], far) })
	}, func() {
		g.post("a copy that claims the next slot", v[1], nil, func() object {
			claimed[v[1]] = g.next(v[1])
			return g.copied(v[1], object{"__staffeln_run": claimed[v[1]]})
		})
	})
	again := time.Now()
	g.run = s.start(env)
	p.until(4*g.every+2*time.Minute, "there are new restore points, of the claimed slot as well", func() string {
		if why := g.have(2, again, v...); why != "" {
			return why
		}
		if !g.served(claimed[v[1]]) {
			return "no backup of ours is of run " + claimed[v[1]]
		}
		return ""
	})
	g.counted(shown)
	g.refusals(v...)
	g.removals()
	g.chains()

	for id, what := range g.forged {
		if err := p.deleteBackup(id); err != nil {
			s.t.Errorf("the member deletes what he forged, %s: %v", what, err)
		}
	}
	for id := range g.forged {
		p.gone(id)
	}
	clear(g.forged)
	g.look()
}

// clear removes all backups at the end: while the policy is in place, a member cannot.
func (p *project) clear() {
	service := p.service()
	if why := tried(p.s.cloud.poll, 2*time.Minute, func() string {
		rows, err := p.list()
		if err != nil {
			return err.Error()
		}
		for _, b := range slices.Backward(rows) { // children first
			_ = service.call("DELETE", "volumev3", "/backups/"+b.ID, nil, nil)
		}
		if len(rows) > 0 {
			return fmt.Sprintf("%d are left", len(rows))
		}
		return ""
	}); why != "" {
		p.t.Logf("the backups of project %s cannot be removed: %s", p.name, why)
	}
}

// both does two things at a time.
func both(p *project, do ...func()) {
	p.t.Helper()
	var all sync.WaitGroup
	for _, one := range do {
		all.Go(one)
	}
	all.Wait()
	if p.t.Failed() {
		p.t.FailNow()
	}
}

// look sees all backups of the project, oldest first, and fails the test where one of
// ours is gone that its policy keeps: of each volume the newest two that were complete.
func (g *forgery) look() (now []traced) {
	g.t.Helper()
	var out struct{ Backups []traced }
	g.p.must(g.admin.call("GET", "volumev3", "/backups/detail?all_tenants=1&project_id="+g.p.id, nil, &out))
	g.mu.Lock()
	defer g.mu.Unlock()
	there := map[string]string{}
	for _, b := range out.Backups {
		g.all[b.ID], there[b.ID] = b, b.Status
		if b.Status == "available" {
			g.whole[b.ID] = true
		}
		if _, forged := g.forged[b.ID]; forged && b.Dependents {
			g.t.Fatalf("something builds on a forged backup: %+v", b)
		}
	}
	seen := map[string]int{}
	for _, b := range slices.Backward(g.history()) {
		if b.User != g.service || !g.whole[b.ID] {
			continue
		}
		seen[b.VolumeID]++
		if seen[b.VolumeID] <= 2 && there[b.ID] != "available" {
			g.t.Fatalf("number %d of our restore points of volume %s, counted from the newest, is %q: %+v",
				seen[b.VolumeID], b.VolumeID, there[b.ID], b)
		}
		if g.lost[b.ID] && there[b.ID] != "available" {
			g.t.Fatalf("a backup that nobody can verify is %q: %+v", there[b.ID], b)
		}
	}
	for id, what := range g.forged {
		if there[id] != "available" {
			g.t.Fatalf("the forged backup %s, %s, is %q", id, what, there[id])
		}
	}
	return out.Backups
}

// history are all backups that were ever seen, oldest first. g.mu is held.
func (g *forgery) history() []traced {
	return slices.SortedFunc(maps.Values(g.all), func(a, b traced) int {
		return strings.Compare(a.CreatedAt+a.run(), b.CreatedAt+b.run())
	})
}

func (g *forgery) present(id string) bool {
	return slices.ContainsFunc(g.p.backups(), func(b backupRow) bool { return b.ID == id && b.Status == "available" })
}

// have looks, has retention look as well, and says "" if each volume has so many
// complete backups of ours that were made after a time.
func (g *forgery) have(n int, after time.Time, volumes ...string) string {
	g.t.Helper()
	g.p.must(ledger.New(g.redis.Client(), ledger.Options{}).LookRetention(g.t.Context(), g.p.id, time.Now()))
	count := map[string]int{}
	for _, b := range g.look() {
		// Cinder's times are whole seconds.
		if b.User == g.service && b.Status == "available" && made(g.t, b.backupRow).After(after.Add(-time.Second)) {
			count[b.VolumeID]++
		}
	}
	for _, v := range volumes {
		if count[v] < n {
			return fmt.Sprintf("volume %s has %d restore points of ours from after %s", v, count[v],
				after.UTC().Format(time.TimeOnly))
		}
	}
	return ""
}

// served says whether a complete backup of the service's own is of a run.
func (g *forgery) served(run string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, b := range g.all {
		if b.User == g.service && b.run() == run && g.whole[b.ID] {
			return true
		}
	}
	return false
}

// removed counts the backups of a volume that the program has removed.
func (g *forgery) removed(volume string) (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.front.deletes() {
		if r.Status == 202 && g.all[r.backup()].VolumeID == volume {
			n++
		}
	}
	return n
}

// removals fails the test where the program asked to remove what is not its own, or
// what nobody can verify.
func (g *forgery) removals() {
	g.t.Helper()
	for _, r := range g.front.deletes() {
		b := g.all[r.backup()]
		if b.User != g.service {
			g.t.Errorf("the program asked to delete what it has not made: %+v", b)
		}
		if g.lost[b.ID] {
			g.t.Errorf("the program asked to delete what nobody can verify: %+v", b)
		}
	}
}

// chains fails the test where a backup of ours is an incremental one and Cinder took
// another's for its parent, which is the newest that there was.
func (g *forgery) chains() {
	g.t.Helper()
	before := map[string]traced{}
	fulls, incrementals := 0, 0
	for _, b := range g.history() {
		parent := before[b.VolumeID]
		if b.Status == "error" {
			continue
		}
		before[b.VolumeID] = b
		switch {
		case b.User != g.service:
		case !b.Incremental:
			fulls++
		case parent.User != g.service:
			g.t.Errorf("an incremental of ours builds on what is not: %+v on %+v", b, parent)
		default:
			incrementals++
		}
	}
	g.t.Logf("ours were %d full and %d incremental backups", fulls, incrementals)
	if fulls == 0 || incrementals == 0 {
		g.t.Error("of ours there were not both, full and incremental")
	}
}

// copied are the metadata of the newest restore point of ours, as a member sees them,
// with changes.
func (g *forgery) copied(volume string, with object) object {
	out := object{}
	for k, v := range g.newest(volume).Metadata {
		out[k] = v
	}
	maps.Copy(out, with)
	return out
}

func (g *forgery) newest(volume string) traced {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, b := range slices.Backward(g.history()) {
		if b.VolumeID == volume && b.User == g.service && g.whole[b.ID] {
			return b
		}
	}
	g.t.Errorf("volume %s has no restore point of ours", volume)
	return traced{}
}

// next is the name of the run that comes next for a volume, after the forger is done.
func (g *forgery) next(volume string) string {
	_, stamp, _ := strings.Cut(g.newest(volume).run(), "@")
	slot, err := time.Parse(backup.Stamp, stamp)
	if err != nil {
		g.t.Errorf("a run without a slot: %v", err)
	}
	for end := time.Now().Add(g.spare); !slot.After(end); {
		slot = slot.Add(g.every)
	}
	return volume + "@" + slot.UTC().Format(backup.Stamp)
}

// post makes a backup as a member, at a moment when it keeps nobody from the next slot,
// and notes it as forged where what it claims to be is given.
func (g *forgery) post(what, volume string, with object, metadata func() object) string {
	g.t.Helper()
	in := object{"volume_id": volume, "force": true, "name": g.newest(volume).Name}
	maps.Copy(in, with)
	var out struct{ Backup struct{ ID string } }
	g.p.until(2*time.Minute, "a member makes a backup", func() string {
		in["metadata"] = metadata()
		_, stamp, _ := strings.Cut(g.newest(volume).run(), "@")
		slot, _ := time.Parse(backup.Stamp, stamp)
		if left := g.every - time.Since(slot)%g.every; left < g.spare && g.run.cmd.ProcessState == nil {
			return "the next slot is near"
		}
		if err := g.p.user.call("POST", "volumev3", "/backups", object{"backup": in}, &out); err != nil {
			return err.Error()
		}
		return ""
	})
	id := out.Backup.ID
	g.p.until(time.Minute, "the member's backup is there", func() string {
		return wants("available", g.p.backup(id).Status)
	})
	if what != "" {
		g.mu.Lock()
		g.forged[id] = what
		g.mu.Unlock()
	}
	return id
}

// change gives a backup of a member's own other metadata.
func (g *forgery) change(what, id string, metadata object) {
	g.t.Helper()
	g.p.must(g.p.updateBackup(id, object{"metadata": metadata}))
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forged[id] = what
}

// counted waits until the metrics say how many backups do not count as ours, and why.
func (g *forgery) counted(shown bool) {
	g.t.Helper()
	want := map[string]int{"backups_forged": len(g.forged)}
	if !shown {
		want = map[string]int{"backups_unverified": len(g.forged) + len(g.lost)}
	}
	// All backups are looked at once a minute at most, and the operator's figures follow
	// a quarter of a minute later.
	g.p.must(ledger.New(g.redis.Client(), ledger.Options{}).Mark(g.t.Context(), "backups", time.Now().Add(-time.Hour)))
	g.p.until(2*time.Minute, "the metrics say what does not count", func() string {
		g.look()
		for _, name := range []string{"backups_forged", "backups_unverified"} {
			if got := g.run.measure(name); got != float64(want[name]) {
				return fmt.Sprintf("%s is %v, want %d", name, got, want[name])
			}
		}
		return ""
	})
	if told := g.run.log.lines("a backup with our metadata does not count as ours"); len(told) == 0 {
		g.t.Error("the operator is not told")
	}
}

// refusals are what a member tries with the newest restore point of ours.
func (g *forgery) refusals(volumes ...string) {
	g.t.Helper()
	for _, v := range volumes {
		b := g.newest(v)
		if err := g.p.deleteBackup(b.ID); status(err) != 403 {
			g.t.Errorf("a member deletes a backup of ours: %v, want 403", err)
		}
		if err := g.p.updateBackup(b.ID, object{"metadata": object{}}); status(err) != 403 {
			g.t.Errorf("a member strips a backup of ours: %v, want 403", err)
		}
	}
}

// digest fails the test where the project's digest counts another number of complete
// backups than the service made.
func (g *forgery) digest(env map[string]string) {
	g.t.Helper()
	out := g.preview(g.p, env, "--text")
	told := letter{text: out}.section("COMPLETE")
	l := ledger.New(g.redis.Client(), ledger.Options{})
	open, err := l.Runs(g.t.Context(), l.Shard(g.p.id))
	g.p.must(err)
	g.look()
	ours := 0
	for id, b := range g.all {
		if b.User == g.service && g.whole[id] {
			ours++
		}
	}
	// Those that were under way when the program was told to stop are told of later.
	if len(told) > ours || len(told) < ours-len(open) {
		g.t.Errorf("the digest tells of %d complete backups; the service made %d, of which %d were not known to be "+
			"over:\n%s", len(told), ours, len(open), out)
	}
}
