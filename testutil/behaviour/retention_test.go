package behaviour

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"staffeln/events"
	"staffeln/functions/backup"
	"staffeln/runtime/ledger"
	wiring "staffeln/runtime/process"
)

// choose opts a server in to a class.
func (p *project) choose(server, class string) {
	p.t.Helper()
	p.must(p.user.call("POST", "compute", "/servers/"+server+"/metadata", object{"metadata": object{"backup": class}},
		nil))
}

// A planned is what `staffeln plan --json` says of one backup.
type planned struct {
	Backup, Volume, Kind, Verdict, Why, Blocked string
	Step                                        int
}

// plan is what `staffeln plan --all --json` says with these settings, by backup.
func (s *scene) plan(env map[string]string, args ...string) map[string]planned {
	s.t.Helper()
	out := s.says(env, append([]string{"plan", "--all", "--json"}, args...)...)
	var told struct{ Retention []planned }
	if err := json.Unmarshal([]byte(out), &told); err != nil {
		s.t.Fatalf("staffeln plan: %v\n%s", err, out)
	}
	all := map[string]planned{}
	for _, one := range told.Retention {
		all[one.Backup] = one
	}
	return all
}

// says is what a command of the program prints with these settings.
func (s *scene) says(env map[string]string, args ...string) string {
	s.t.Helper()
	path, err := program()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Dir(path)}
	for name, value := range env {
		if value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		s.t.Fatalf("staffeln %s: %v\n%s", strings.Join(args, " "), err, complaints.String())
	}
	return out.String()
}

// going are the ids of those that a plan wants removed.
func going(plan map[string]planned) (ids []string) {
	for id, one := range plan {
		if one.Verdict == "remove" {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// deletes are the requests to delete a backup, in the order of arrival; id is that
// of the backup.
func (f *front) deletes() []request {
	return f.requests(func(r *request) bool { return r.Method == "DELETE" && strings.Contains(r.Path, "/backups/") })
}

func (r request) backup() string { return r.Path[strings.LastIndex(r.Path, "/")+1:] }

// checkRemovals fails the test where something was removed that was not to be, or
// not in its turn. before are the backups as they were, oldest first.
func (f *front) checkRemovals(p *project, before []backupRow, want []string) {
	p.t.Helper()
	// Two that look at the same moment both ask: Cinder takes one of them, whichever of
	// the answers is written down first.
	at, first := map[string]int{}, map[string]int{}
	var got []string
	for i, r := range f.deletes() {
		if _, ok := first[r.backup()]; !ok {
			first[r.backup()] = i
		}
		if _, again := at[r.backup()]; r.Status == 202 && !again {
			at[r.backup()] = i
			got = append(got, r.backup())
		}
	}
	for id := range first {
		if _, ok := at[id]; !ok {
			p.t.Errorf("asked to delete backup %s, Cinder never said yes", id)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		p.t.Errorf("asked to delete %v, want %v", got, want)
	}
	parent := map[string]backupRow{} // by volume
	for _, b := range before {
		up := parent[b.VolumeID]
		if asked, ok := first[up.ID]; b.Incremental && ok && asked < at[b.ID] {
			p.t.Errorf("backup %s was to be deleted before %s, which builds on it", up.ID, b.ID)
		}
		parent[b.VolumeID] = b
	}
}

// settled waits until no backup of the project is under way, and returns them.
func (p *project) settled() []backupRow {
	p.t.Helper()
	var rows []backupRow
	p.until(2*time.Minute, "no backup is under way", func() string {
		rows = p.backups()
		for _, b := range rows {
			if b.Status != "available" && b.Status != "error" {
				return b.ID + " is " + b.Status
			}
		}
		return ""
	})
	return rows
}

// history has the program make backups until every volume has that many full
// ones, and stops it. Nothing is removed meanwhile. The first volume gets something
// new to hold with every full one but the last; what it holds in the end is in its
// newest backup. The others hold the same all the time.
func (s *scene) history(p *project, env map[string]string, fulls int, volumes ...string) []backupRow {
	s.t.Helper()
	env = maps.Clone(env)
	env["STAFFELN_BACKUP_PERIOD"] = s.cloud.beat.String()
	run := s.start(env, "--every-retention=1h")
	writes, written := 0, time.Now()
	p.until(6*time.Minute, fmt.Sprintf("every volume has %d full backups", fulls), func() string {
		have, newest := map[string]int{}, backupRow{}
		for _, b := range p.backups() {
			if b.Status == "error" {
				s.t.Fatalf("backup %s failed: %s", b.ID, b.FailReason)
			}
			if b.Status == "available" && !b.Incremental {
				have[b.VolumeID]++
			}
			if b.Status == "available" && b.VolumeID == volumes[0] {
				newest = b
			}
		}
		if n := have[volumes[0]]; n > writes && n < fulls {
			s.cloud.write(s.t, volumes[0], fmt.Sprint("chain ", n))
			writes, written = n, time.Now()
		}
		for _, v := range volumes {
			if have[v] < fulls {
				return fmt.Sprintf("volume %s has %d", v, have[v])
			}
		}
		if made(s.t, newest).Before(written) {
			return "there is none from after the last writing"
		}
		return ""
	})
	stop := func() {
		if err := run.terminate(time.Minute); err != nil {
			s.t.Errorf("told to stop, the program said: %v", err)
		}
	}
	stop()
	rows := p.settled()
	// A backup that was under way still has to be seen to be over.
	l := ledger.New(s.redis.Client(), ledger.Options{})
	open := func() string {
		runs, err := l.Runs(s.t.Context(), l.Shard(p.id))
		if err != nil || len(runs) > 0 {
			return fmt.Sprintf("open runs: %+v %v", runs, err)
		}
		return ""
	}
	if open() != "" {
		env["STAFFELN_BACKUP_PERIOD"] = s.settings(nil)["STAFFELN_BACKUP_PERIOD"]
		run = s.start(env, "--every-retention=1h")
		p.until(2*time.Minute, "all runs are over", open)
		stop()
		rows = p.settled()
	}
	return rows
}

// needed are the ids of the last so many backups of a volume and of those they
// build on.
func needed(rows []backupRow, volume string, last int) map[string]bool {
	keep := map[string]bool{}
	wanted := false // by the one after it
	rows = slices.DeleteFunc(slices.Clone(rows), func(b backupRow) bool { return b.VolumeID != volume })
	for i, b := range slices.Backward(rows) {
		if wanted || len(rows)-i <= last {
			keep[b.ID], wanted = true, b.Incremental
		}
	}
	return keep
}

func removesAsPlanned(s *scene) {
	p := s.project(nil)
	servers, v := p.machines("plain", "gold")
	env := s.settings(map[string]string{
		"STAFFELN_REDIS_URL": s.ledger(), "STAFFELN_INCLUDE_PROJECTS": only(p),
		"STAFFELN_FULL_BACKUP_DEPTH": "2", "STAFFELN_RETENTION_TIME": "1s",
		"STAFFELN_CLASS_GOLD_ARCHIVE_RULES": "last=2", "STAFFELN_BRAKE_PERCENT": "100",
	})
	p.optIn(servers[0])
	p.choose(servers[1], "gold")
	before := s.history(p, env, 3, v...)

	// The newest of the one is to be kept, the last two of the other, and what they
	// build on.
	keep := needed(before, v[0], 1)
	maps.Copy(keep, needed(before, v[1], 2))
	var kept []backupRow
	var goes []string
	for _, b := range before {
		if keep[b.ID] {
			kept = append(kept, b)
		} else {
			goes = append(goes, b.ID)
		}
	}
	slices.Sort(goes)
	if len(goes) < 9 {
		s.t.Fatalf("only %d of the backups %+v are to go", len(goes), before)
	}

	asked := len(s.front.requests(nil))
	plan := s.plan(env)
	if got := going(plan); !slices.Equal(got, goes) {
		s.t.Fatalf("the plan is to remove %v, want %v: %+v", got, goes, plan)
	}
	for _, r := range s.front.requests(nil)[asked:] {
		if r.Method != "GET" && !strings.HasSuffix(r.Path, "/auth/tokens") {
			s.t.Errorf("the plan asked for %s", r.String())
		}
	}
	for id, one := range plan {
		if one.Why == "" || one.Verdict == "remove" && (one.Step == 0 || one.Blocked != "") {
			s.t.Errorf("the plan for backup %s is %+v", id, one)
		}
	}

	s.start(env)
	left := func() string {
		rows := p.backups()
		if len(rows) > len(kept) {
			return fmt.Sprintf("there are %d of %d", len(rows), len(before))
		}
		for _, b := range kept {
			if !slices.ContainsFunc(rows, func(r backupRow) bool { return r.ID == b.ID && r.Status == "available" }) {
				return fmt.Sprintf("backup %s of volume %s is not there", b.ID, b.VolumeID)
			}
		}
		return ""
	}
	p.until(3*time.Minute, "all that is left is what the plan was to keep", left)
	steady(p, 5*time.Second, "what is kept stays", left)
	s.front.checkRemovals(p, before, goes)
	if got := going(s.plan(env)); len(got) > 0 {
		s.t.Errorf("when all is done the plan is still to remove %v", got)
	}

	// The newest of both, and the oldest there still is of the one that always held
	// the same.
	of := func(volume string) []backupRow { return p.backupsOf(volume) }
	plain, gold := of(v[0]), of(v[1])
	for _, b := range []backupRow{plain[len(plain)-1], gold[len(gold)-1], gold[0]} {
		restored := p.restore(b.ID)
		if want, got := s.cloud.sum(s.t, b.VolumeID), s.cloud.sum(s.t, restored); got != want {
			s.t.Errorf("restored from backup %s: other bytes (%s) than volume %s holds (%s)", b.ID, got, b.VolumeID, want)
		}
	}
}

func deletedServer(s *scene) {
	p := s.project(nil)
	servers, v := p.machines("short-lived")
	env := s.settings(map[string]string{
		"STAFFELN_REDIS_URL": s.ledger(), "STAFFELN_INCLUDE_PROJECTS": only(p),
		"STAFFELN_RETENTION_TIME":    backup.Age{Seconds: int(s.cloud.life.Seconds())}.String(),
		"STAFFELN_ARCHIVE_CONTAINER": s.cloud.archive, "STAFFELN_BRAKE_PERCENT": "100",
	})
	p.optIn(servers[0])
	first := s.cloud.sum(s.t, v[0])
	rows := s.history(p, env, 2, v...)
	s.start(env)
	p.must(p.user.call("DELETE", "compute", "/servers/"+servers[0], nil, nil))
	undo := s.cloud.fetch(s.t, v[0], rows[0].ID)
	if got := s.cloud.sum(s.t, p.restore(rows[0].ID)); got != first {
		s.t.Errorf("restored from the archived backup %s: other bytes (%s) than volume %s held then (%s)", rows[0].ID,
			got, v[0], first)
	}
	undo()
	p.until(2*time.Minute, "the server has let go of its volume", func() string {
		return wants("available", p.volume(v[0]).Status)
	})
	p.must(p.user.call("DELETE", "volumev3", "/volumes/"+v[0], nil, nil))
	p.until(time.Minute, "the volume is gone", func() string {
		if status(p.user.call("GET", "volumev3", "/volumes/"+v[0], nil, nil)) != 404 {
			return "it is not"
		}
		return ""
	})

	// The first of each month is in the archive, and nothing hangs on it.
	months := map[string]bool{}
	for i, b := range rows {
		month := b.CreatedAt[:len("2026-11")]
		first := !months[month]
		months[month] = true
		want, full := "backups", i > 0 && rows[i-1].Container == s.cloud.archive
		if first {
			want, full = s.cloud.archive, true
		}
		if b.Container != want || full && b.Incremental || (b.Metadata["__staffeln_archived"] == "month") != first {
			s.t.Errorf("backup %d of %d is %+v; want it in %s, and full: %v", i+1, len(rows), b, want, full)
		}
	}

	// Nothing goes before its time, and then everything does, children first.
	until := map[string]time.Time{}
	for _, b := range rows {
		at, err := time.Parse(time.RFC3339, b.Metadata["__staffeln_keep_until"])
		if err != nil || at.Sub(made(s.t, b)) < s.cloud.life-2*time.Second {
			s.t.Errorf("backup %+v is to be kept until %s", b, at)
		}
		until[b.ID] = made(s.t, b).Add(s.cloud.life)
	}
	// Whether the volume is still there is asked when it comes to matter, a second time
	// minutes later, and then once a day. Nobody waits for that here.
	last := until[rows[len(rows)-1].ID]
	l := ledger.New(s.redis.Client(), ledger.Options{})
	p.until(s.cloud.life+3*time.Minute, "all backups are gone", func() string {
		if time.Now().After(last) {
			p.must(l.LookRetention(s.t.Context(), p.id, time.Now()))
		}
		before := time.Now()
		have := map[string]bool{}
		left := p.backups()
		for _, b := range left {
			have[b.ID] = b.Status != "deleting"
		}
		for _, b := range rows {
			if !have[b.ID] && time.Now().Before(until[b.ID]) {
				s.t.Fatalf("backup %s is gone at %s, before its time (%s)", b.ID, before, until[b.ID])
			}
		}
		if len(left) > 0 {
			return fmt.Sprintf("there are %d of %d, the first %s", len(left), len(rows), left[0].Status)
		}
		return ""
	})
	var all []string
	for _, b := range rows {
		all = append(all, b.ID)
	}
	slices.Sort(all)
	s.front.checkRemovals(p, rows, all)
}

// keepsAll has retention look at the project again and again, and fails the test if
// anything is removed.
func (s *scene) keepsAll(p *project, what string, rows []backupRow) {
	s.t.Helper()
	l := ledger.New(s.redis.Client(), ledger.Options{})
	looks := map[time.Time]bool{}
	began := time.Now()
	// One look announces, the next one removes.
	p.until(2*time.Minute, what+": retention has looked three times", func() string {
		s.stays(p, what, rows)
		if err := l.LookRetention(s.t.Context(), p.id, time.Now()); err != nil {
			return err.Error()
		}
		r, err := l.Retention(s.t.Context(), p.id)
		if err != nil {
			return err.Error()
		}
		if r.Looked.After(began) {
			looks[r.Looked] = true
		}
		if len(looks) < 3 {
			return fmt.Sprintf("it has looked %d times, last at %s", len(looks), r.Looked)
		}
		return ""
	})
	s.stays(p, what, rows)
}

// stays fails the test where one of the backups is not there as it was, or was
// asked to be removed.
func (s *scene) stays(p *project, what string, rows []backupRow) {
	s.t.Helper()
	now := p.backups()
	for _, b := range rows {
		if !slices.ContainsFunc(now, func(n backupRow) bool { return n.ID == b.ID && n.Status == "available" }) {
			s.t.Fatalf("%s: backup %s is not there any more", what, b.ID)
		}
	}
	if asked := s.front.deletes(); len(asked) > 0 {
		s.t.Fatalf("%s: Cinder was asked for %s", what, asked[0].String())
	}
}

func emptied(s *scene) {
	p := s.project(nil)
	servers, v := p.machines("plain", "gold")
	short := s.settings(map[string]string{
		"STAFFELN_REDIS_URL": s.ledger(), "STAFFELN_INCLUDE_PROJECTS": only(p), "STAFFELN_RECONCILE_PERIOD": "10s",
		"STAFFELN_FULL_BACKUP_DEPTH": "1", "STAFFELN_BRAKE_PERCENT": "100",
		"STAFFELN_RETENTION_TIME": "1s", "STAFFELN_CLASS_GOLD_ARCHIVE_RULES": "last=9",
	})
	p.optIn(servers[0])
	p.choose(servers[1], "gold")
	rows := s.history(p, short, 2, v...)
	if plan := s.plan(short); len(going(plan)) == 0 {
		s.t.Fatalf("nothing is to go that could be kept by mistake: %+v", plan)
	}

	// By their frozen policy those of one volume may go now. What keeps them is that
	// their server is protected, by a policy that keeps longer.
	long := maps.Clone(short)
	long["STAFFELN_RETENTION_TIME"] = "30d"
	nothing := ""
	if s.rights.name == leastRights.name {
		nothing = showsMakers(s.t, s.cloud, s.rights) // what runs beside this on the same cloud counts on it
	}
	s.cloud.policy(s.t, nothing)
	run := s.start(long)
	s.keepsAll(p, "with a policy that keeps longer, and an empty policy file of Cinder's", rows)

	// Nova forgets all servers.
	lists := func(r *request) bool { return r.Method == "GET" && strings.HasSuffix(r.Path, "/servers/detail") }
	s.front.on(func(r *request) act {
		if lists(r) {
			return act{Edit: func([]byte) []byte { return []byte(`{"servers": []}`) }}
		}
		return act{}
	})
	p.until(2*time.Minute, "the operator is told that Nova's list is short", func() string {
		if told := run.log.lines("the list of servers was short"); len(told) < 2*len(servers) {
			return fmt.Sprintf("that is told %d times", len(told))
		}
		return ""
	})
	s.keepsAll(p, "with Nova's list empty", rows)

	// The ledger forgets everything, and Nova does not answer.
	s.front.on(func(r *request) act {
		if lists(r) {
			return act{Status: 503}
		}
		return act{}
	})
	rebuilt := len(run.log.lines("ledger rebuilt"))
	failing := time.Now()
	s.redis.FlushAll()
	l := ledger.New(s.redis.Client(), ledger.Options{})
	p.until(2*time.Minute, "Nova is asked again and again", func() string {
		s.stays(p, "with the ledger emptied", rows)
		if err := l.LookRetention(s.t.Context(), p.id, time.Now()); err != nil {
			return err.Error()
		}
		if asked := s.front.requests(func(r *request) bool { return lists(r) && r.At.After(failing) }); len(asked) < 3 {
			return fmt.Sprintf("it was asked %d times", len(asked))
		}
		return ""
	})
	steady(p, 5*time.Second, "nothing is looked at before the ledger is rebuilt", func() string {
		s.stays(p, "with the ledger emptied", rows)
		r, err := l.Retention(s.t.Context(), p.id)
		if err != nil || !r.Looked.IsZero() {
			return fmt.Sprintf("looked at %s, %v", r.Looked, err)
		}
		return ""
	})
	s.front.on(nil)
	p.until(2*time.Minute, "the operator is told that the ledger is rebuilt", func() string {
		if len(run.log.lines("ledger rebuilt")) == rebuilt {
			return "nothing is said of it"
		}
		return ""
	})
	s.keepsAll(p, "with the ledger rebuilt", rows)
	if err := run.terminate(time.Minute); err != nil {
		s.t.Errorf("told to stop, the program said: %v", err)
	}

	// The settings lose the class, its rules, and all that was said of retention.
	none := maps.Clone(long)
	for name := range none {
		if strings.Contains(name, "CLASS") || strings.Contains(name, "RETENTION_TIME") {
			delete(none, name)
		}
	}
	s.start(none)
	s.keepsAll(p, "with neither classes nor rules nor retention set", rows)
	for id, one := range s.plan(none) {
		if one.Verdict != "keep" || one.Why == "" {
			s.t.Errorf("the plan for backup %s is %+v", id, one)
		}
	}
	// With what is left as short as it gets, the frozen rules still count.
	none["STAFFELN_RETENTION_TIME"] = "1s"
	for id, one := range s.plan(none) {
		if one.Volume == v[1] && (one.Verdict != "keep" || !strings.Contains(one.Why, "last")) {
			s.t.Errorf("the plan for backup %s, made when its class kept the last 9, is %+v", id, one)
		}
	}
}

func yearAhead(s *scene) {
	p := s.project(nil)
	servers, v := p.machines("one")
	env := s.settings(map[string]string{
		"STAFFELN_REDIS_URL": s.ledger(), "STAFFELN_INCLUDE_PROJECTS": only(p), "STAFFELN_RECONCILE_PERIOD": "10s",
		"STAFFELN_FULL_BACKUP_DEPTH": "1", "STAFFELN_BRAKE_PERCENT": "100", "STAFFELN_AMQP_URLS": "",
	})
	p.optIn(servers[0])
	rows := s.history(p, env, 2, v...)
	if plan := s.plan(env, "--at", "+1y"); len(going(plan)) == 0 {
		s.t.Fatalf("not even in a year anything is to go: %+v", plan)
	}

	// A program cannot be lied to about the time: so its parts run in this one, on a
	// clock of ours.
	const year = 365 * 24 * time.Hour
	log := &logFile{}
	at := func(ahead time.Duration, looks int) string {
		s.t.Helper()
		now := func() time.Time { return time.Now().Add(ahead) }
		var environ []string
		for name, value := range env {
			environ = append(environ, name+"="+value)
		}
		settings, err := wiring.Read(environ)
		p.must(err)
		settings.Cloud.Now = now
		h := wiring.New(settings, slog.New(slog.NewTextHandler(log, nil)))
		defer h.Close()
		p.must(h.Connect(s.t.Context()))
		tick := func(name string, shard int) {
			s.t.Helper()
			for _, f := range h.Functions {
				if f.Name == name {
					if err := f.On["tick."+name](s.t.Context(), events.NewTick(name, shard, now())); err != nil {
						s.t.Errorf("%s: %v", name, err)
					}
				}
			}
		}
		for range looks {
			p.must(h.Ledger.LookRetention(s.t.Context(), p.id, now()))
			tick("reconcile", 0)
			tick("retention", h.Ledger.Shard(p.id))
			s.stays(p, fmt.Sprintf("with a clock %s ahead", ahead), rows)
		}
		w := httptest.NewRecorder()
		h.Metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		return w.Body.String()
	}
	metrics := at(year, 4)
	if told := log.lines("nothing is removed"); len(told) != 1 || !strings.Contains(told[0], "level=ERROR") ||
		!strings.Contains(told[0], "clock") {
		s.t.Errorf("the operator is told %q; want once, and why", told)
	}
	if held := regexp.MustCompile(`(?m)^staffeln_retention_held_total\{[^}]*"clock"[^}]*\} ` +
		`[1-9]`); !held.MatchString(metrics) {
		s.t.Errorf("no metric says that the clock holds retention:\n%s", metrics)
	}
	// And when it is right again, all is as before.
	at(0, 2)
	l := ledger.New(s.redis.Client(), ledger.Options{})
	r, err := l.Retention(s.t.Context(), p.id)
	p.must(err)
	if r.Held != "" || r.Looked.IsZero() || r.Looked.After(time.Now()) {
		s.t.Errorf("with the right time retention is held by %q, and looked at %s", r.Held, r.Looked)
	}
}
