package behaviour

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"staffeln/functions/backup"
	"staffeln/runtime/ledger"
)

// scenarios are the promises.
var scenarios = []scenario{
	{name: "Tenants cannot delete or change automated backups by any way there is, and can their own", alone: true,
		play: tenantsCannotDelete},
	{name: "RabbitMQ may be restarted: what happened meanwhile is found, and notifications arrive again", alone: true,
		play: brokerRestarted},
	{name: "A server that opts in has its volumes backed up, told, restored and backed up again", alone: true,
		play: mainJob},
	{name: "What a policy no longer keeps is removed as the plan said, children first, and the rest restores",
		play: removesAsPlanned},
	{name: "Backups outlive their server and its volume until their time is over; the first of a month is in the " +
		"archive", play: deletedServer},
	{name: "Nothing is removed for an emptied list of Nova's, ledger, policy file or settings, and the operator is " +
		"told", play: emptied},
	{name: "Nothing is removed by a clock that is a year ahead, and the operator is told", play: yearAhead},
	{name: "Without notifications all is done the same, a reconcile period later at most", play: withoutNotifications},
	{name: "Every owner gets one mail for each period, and every figure in it is what the API says",
		play: digestsAreRight},
	{name: "Each run is in one digest to each owner, whatever the mail server does, killed while sending or not",
		play: digestsOnce},
	{name: "A project over its quota is told so, not asked for again and again, and others go on", play: overQuota},
	{name: "A backup that Cinder fails without a word is noticed, tried once more as full and recorded",
		play: failsInCinder},
	{name: "What a tenant does while the program is still connecting to RabbitMQ is found", play: whileConnecting},
	{name: "Redis may be emptied at any time: no slot is backed up twice and nothing is forgotten", play: redisEmptied},
	{name: "The program may be killed at any step of a backup", play: killedAtAnyStep},
	{name: "Answers that are lost, broken or nonsense start nothing twice and lose nothing", play: answersLost},
	{name: "Lists and looks that are answered with nonsense are asked for again", play: nonsense},
	{name: "Two processes together do each thing once, though one is killed now and then", play: twoProcesses},
	{name: "When told to stop the program ends what it has begun", play: drains},
	{name: "Messages that nobody can read are set aside and stop nothing", play: brokenMessages},
	{name: "With nothing configured but credentials it runs, and says what more would add", play: onlyCredentials},
	{name: "Wrong settings are all complained of at once, and nothing starts", play: wrongSettings},
}

// soon is how soon after the opting in a backup has been asked for where there is
// enough else going on.
const soon = time.Minute

// within is how soon that is as promised, where nothing else is going on.
func (s *scene) within() time.Duration {
	if s.quiet {
		return 10 * time.Second
	}
	return soon
}

func mainJob(s *scene) {
	p := s.project(nil)
	v := p.volumes("data", "scratch", "other", "late")
	data, scratch, other, late := v[0], v[1], v[2], v[3]
	p.skip(scratch)
	one, two := p.server("one", true, data, scratch), p.server("two", false, other)
	root := rootOf(p, one, v)
	run := s.start(s.settings(map[string]string{
		"STAFFELN_REDIS_URL": s.ledger(), "STAFFELN_INCLUDE_PROJECTS": only(p),
		"STAFFELN_BACKUP_PERIOD": s.cloud.slot.String(),
		// However many slots it takes to get to the end, only the first backup is full.
		"STAFFELN_FULL_BACKUP_DEPTH": "1000",
	}))

	told := p.optIn(one)
	askedWithin(p, told, s.within(), data, root)
	told = p.tag(two, "backup")
	askedWithin(p, told, s.within(), other)
	told = time.Now()
	p.attach(two, late)
	askedWithin(p, told, s.within()+soon, late) // attaching takes its own time
	complete(p, data, root, other, late)

	for _, c := range []struct{ volume, server, name string }{
		{data, one, "data"}, {root, one, root}, {other, two, "other"}, {late, two, "late"},
	} {
		b := p.backupsOf(c.volume)[0]
		if !regexp.MustCompile(`^` + c.name + `-\d{8}T\d{6}Z$`).MatchString(b.Name) {
			s.t.Errorf("a backup of %s is named %q, want VOLUME-DATE", c.name, b.Name)
		}
		for key, want := range map[string]string{
			"__automated_backup": "True", "__staffeln_kind": "full", "__staffeln_server": c.server,
			"__staffeln_retention": "30d", "__staffeln_attempt": "1",
		} {
			if got := b.Metadata[key]; got != want {
				s.t.Errorf("a backup of %s has %s=%q, want %q", c.name, key, got, want)
			}
		}
		if !strings.HasPrefix(b.run(), c.volume+"@") || b.Incremental {
			s.t.Errorf("the first backup of %s: run %q, incremental %v", c.name, b.run(), b.Incremental)
		}
	}
	stamped(p, told.Add(-5*time.Minute), one, two)
	if m := p.show(one).Metadata; m["backup"] != "yes" {
		s.t.Errorf("the server's own metadata are now %v", m)
	}

	// The next slot, with something new in the volume.
	s.cloud.write(s.t, data, "more")
	written := time.Now()
	var newest backupRow
	p.until(s.cloud.slot+2*time.Minute, "there is a backup from after the writing", func() string {
		rows := p.backupsOf(data)
		newest = rows[len(rows)-1]
		if made(p.t, newest).Before(written) || newest.Status != "available" {
			return fmt.Sprintf("the newest of %d is from %s, %s", len(rows), newest.CreatedAt, newest.Status)
		}
		return ""
	})
	if !newest.Incremental {
		s.t.Errorf("the backup after the full one is not incremental: %v", newest)
	}
	if err := run.terminate(time.Minute); err != nil {
		s.t.Errorf("told to stop, the program said: %v", err)
	}
	for _, b := range p.backups() {
		if b.VolumeID == scratch {
			s.t.Errorf("the volume to be left out has a backup: %v", b)
		}
	}
	oncePerRun(p)
	s.front.checkOnce(s.t, false)

	restored := p.restore(newest.ID)
	if a, b := s.cloud.sum(s.t, data), s.cloud.sum(s.t, restored); a != b {
		s.t.Errorf("the restored volume holds other bytes (%s) than the one backed up (%s)", b, a)
	}
}

func withoutNotifications(s *scene) {
	p := s.project(nil)
	v := p.volumes("data", "scratch", "late")
	one := p.server("one", false, v[0], v[1])
	s.start(s.settings(map[string]string{
		"STAFFELN_REDIS_URL": s.ledger(), "STAFFELN_INCLUDE_PROJECTS": only(p), "STAFFELN_AMQP_URLS": "",
	}))
	p.skip(v[1])
	// A pass may be under way when the server opts in, and takes its time.
	const later = 20*time.Second + soon
	told := p.optIn(one)
	askedWithin(p, told, later, v[0])
	p.attach(one, v[2])
	askedWithin(p, time.Now(), later, v[2])
	complete(p, v[0], v[2])
	stamped(p, told, one)
	if asked := s.front.creates(v[1]); len(asked) > 0 {
		s.t.Errorf("the volume to be left out was asked for: %v", asked)
	}
	s.front.checkOnce(s.t, false)
}

func overQuota(s *scene) {
	full, refused, other := s.project(object{"backups": 1}), s.project(object{"backups": 1}), s.project(nil)
	var servers [3]string
	volumes := map[*project][]string{}
	for i, p := range []*project{full, refused} {
		volumes[p] = p.volumes("a", "b")
		servers[i] = p.server("one", false, volumes[p]...)
	}
	volumes[other] = other.volumes("a")
	servers[2] = other.server("one", false, volumes[other]...)
	// Of one project the program believes that there is room: Cinder itself refuses.
	s.front.on(func(r *request) act {
		if strings.Contains(r.Path, "/os-quota-sets/"+refused.id) {
			return act{Edit: func(body []byte) []byte { return edited(s.t, body, 100, "quota_set", "backups", "limit") }}
		}
		return act{}
	})
	env := s.settings(map[string]string{
		"STAFFELN_REDIS_URL": s.ledger(), "STAFFELN_INCLUDE_PROJECTS": only(full, refused, other),
	})
	s.start(env)
	full.optIn(servers[0])
	refused.optIn(servers[1])
	other.optIn(servers[2])
	complete(other, volumes[other]...)

	for p, reason := range map[*project]string{
		full:    "quota exceeded: 1 of 1 backups",
		refused: "Maximum number of backups allowed (1) exceeded",
	} {
		runs := finished(p, 2, time.Time{})
		var failed []backup.Run
		for _, r := range runs {
			if r.State == backup.Failed {
				failed = append(failed, r)
			}
		}
		if len(failed) != 1 || !strings.Contains(failed[0].Why, reason) || !failed[0].Theirs {
			s.t.Errorf("the runs that are over are %v; want one complete, and one failed for its owner with %q", runs, reason)
		}
	}
	// Nobody asks again: not in the following ticks, nor when all is reconciled.
	steady(full, 25*time.Second, "nothing is asked for again", func() string {
		if n := len(s.front.creates(volumes[full]...)); n != 1 {
			return fmt.Sprintf("%d backups were asked for where the quota is known", n)
		}
		if n := len(s.front.creates(volumes[refused]...)); n != 2 {
			return fmt.Sprintf("%d backups were asked for where Cinder refused one", n)
		}
		return ""
	})
	s.front.checkOnce(s.t, false)
}

func failsInCinder(s *scene) {
	p := s.project(nil)
	v := p.volumes("data")
	one := p.server("one", false, v...)
	s.start(s.settings(map[string]string{
		"STAFFELN_REDIS_URL": s.ledger(), "STAFFELN_INCLUDE_PROJECTS": only(p),
		"STAFFELN_BACKUP_PERIOD": s.cloud.period.String(),
	}))
	p.optIn(one)
	complete(p, v...)
	// A backup that is under way just then may still succeed, or fail in another way.
	p.until(time.Minute, "no backup is under way", func() string {
		for _, b := range p.backups() {
			if b.Status != "available" {
				return b.ID + " is " + b.Status
			}
		}
		return ""
	})
	s.cloud.spoil(s.t, v[0])
	spoilt := time.Now()
	runs := finished(p, 2, spoilt)
	s.cloud.mend(s.t, v[0])
	failed := runs[slices.IndexFunc(runs, func(r backup.Run) bool {
		return r.State == backup.Failed && r.Started.After(spoilt)
	})]
	if !strings.Contains(failed.Why, s.cloud.reason) || failed.Attempt != 2 || failed.Kind != backup.Full {
		s.t.Errorf("the failed run is %+v; want the second attempt, full, with Cinder's reason %q", failed, s.cloud.reason)
	}
	asked := slices.DeleteFunc(s.front.creates(v...), func(r request) bool { return r.Run != failed.ID() })
	if len(asked) < 2 || asked[0].Attempt != "1" || !asked[0].Incremental || asked[1].Attempt != "2" ||
		asked[1].Incremental {
		s.t.Errorf("asked for: %+v; want an incremental and then a full backup of run %s", asked, failed.ID())
	}
	p.until(time.Minute, "the broken backups are removed", func() string {
		for _, b := range p.backups() {
			if b.run() == failed.ID() {
				return "a backup of the failed run is still there: " + b.Status
			}
		}
		return ""
	})
	s.front.checkOnce(s.t, true)
}

func brokerRestarted(s *scene) {
	p := s.project(nil)
	servers, v := p.machines("before", "without", "after")
	s.start(s.settings(map[string]string{
		"STAFFELN_REDIS_URL": s.ledger(), "STAFFELN_INCLUDE_PROJECTS": only(p),
		// Nothing is found by coming round to it.
		"STAFFELN_RECONCILE_PERIOD": "1h",
	}))
	askedWithin(p, p.optIn(servers[0]), s.within(), v[0])
	complete(p, v[0])
	opted := make(chan error, 1)
	s.cloud.restartBroker(s.t, func() {
		// A real cloud may answer only when its broker is back.
		go func() {
			opted <- p.user.call("POST", "compute", "/servers/"+servers[1]+"/metadata",
				object{"metadata": object{"backup": "yes"}}, nil)
		}()
	})
	p.must(<-opted)
	askedWithin(p, time.Now(), 2*time.Minute, v[1]) // once the program is connected again
	p.until(2*time.Minute, "notifications arrive again", func() string {
		bindings := s.cloud.bindings(s.t)
		for _, exchange := range []string{"nova", "openstack"} {
			if !strings.Contains(bindings, exchange+"\t"+s.id+"\n") {
				return "the queue is not bound to " + exchange
			}
		}
		return ""
	})
	askedWithin(p, p.optIn(servers[2]), s.within(), v[2])
	complete(p, v...)
	stamped(p, time.Time{}, servers...)
	s.front.checkOnce(s.t, false)
}

func whileConnecting(s *scene) {
	p := s.project(nil)
	servers, v := p.machines("one")
	gate := openGate(s.t, s.cloud.broker)
	gate.close()
	listed, goOn := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	s.t.Cleanup(release)
	s.front.once(func(r *request) bool {
		return r.Method == "GET" && strings.HasSuffix(r.Path, "/servers/detail") &&
			!slices.Contains(strings.Split(r.Query, "&"), "limit=1")
	},
		act{After: func() { close(listed); <-goOn }})
	run := s.prepare(s.settings(map[string]string{
		"STAFFELN_REDIS_URL": s.ledger(), "STAFFELN_INCLUDE_PROJECTS": only(p), "STAFFELN_AMQP_URLS": gate.url,
		"STAFFELN_RECONCILE_PERIOD": "1h", "STAFFELN_API_TIMEOUT": "1m",
	}), "run")
	run.launch()
	await(p, listed, time.Minute, "the servers are listed")
	// Too late for the list, too early for a notification.
	p.optIn(servers[0])
	gate.open()
	p.until(time.Minute, "the program is connected to RabbitMQ", run.hears)
	release()
	askedWithin(p, time.Now(), time.Minute, v...)
	complete(p, v...)
	s.front.checkOnce(s.t, false)
}

func redisEmptied(s *scene) {
	p := s.project(nil)
	servers, v := p.machines("running", "asked", "opted", "told", "last")
	s.start(s.settings(map[string]string{
		"STAFFELN_REDIS_URL": s.ledger(), "STAFFELN_INCLUDE_PROJECTS": only(p),
	}))
	const later = 20*time.Second + soon // it is reconciled first

	// While a backup is under way.
	told := p.optIn(servers[0])
	askedWithin(p, told, soon, v[0])
	s.redis.FlushAll()
	complete(p, v[0])
	stamped(p, told, servers[0])

	// While Cinder is being asked.
	emptied := make(chan struct{})
	s.front.once(func(r *request) bool { return r.create() && r.Volume == v[1] },
		act{After: func() { s.redis.FlushAll(); close(emptied) }})
	p.optIn(servers[1])
	await(p, emptied, 2*later, "Cinder is asked")
	complete(p, v[1])

	// Between the opting in and everything else.
	p.optIn(servers[2])
	s.redis.FlushAll()
	askedWithin(p, time.Now(), later, v[2])
	complete(p, v[2])

	// Between the end of the backup and the word to the server.
	lost := make(chan struct{})
	s.front.once(func(r *request) bool { return r.Method != "GET" && strings.Contains(r.Path, servers[3]+"/metadata") },
		act{Before: func() { s.redis.FlushAll(); close(lost) }, Drop: true})
	p.optIn(servers[3])
	await(p, lost, 2*later, "the server is told")
	stamped(p, told, servers[3])

	// With nothing under way: it comes to know all that it knew, and starts nothing.
	s.redis.FlushAll()
	l := ledger.New(s.redis.Client(), ledger.Options{})
	p.until(2*later, "the ledger knows what it knew", func() string {
		vols, err := l.Volumes(s.t.Context(), l.Shard(p.id))
		if err != nil {
			return err.Error()
		}
		records, err := l.Records(s.t.Context(), p.id)
		if err != nil {
			return err.Error()
		}
		if len(vols) != 4 || len(records) != 4 {
			return fmt.Sprintf("it knows %d volumes and %d backups of 4", len(vols), len(records))
		}
		for _, vol := range vols {
			if vol.State.LastSlot.IsZero() || vol.State.LastComplete.IsZero() {
				return fmt.Sprintf("it does not know how far volume %s has come", vol.Volume)
			}
		}
		return ""
	})
	askedWithin(p, p.optIn(servers[4]), later, v[4])
	complete(p, v...)
	stamped(p, told, servers...)
	for _, one := range v {
		if n := len(s.front.creates(one)); n != 1 {
			s.t.Errorf("%d backups of volume %s were asked for in one slot", n, one)
		}
	}
	s.front.checkOnce(s.t, false)
}

func killedAtAnyStep(s *scene) {
	p := s.project(nil)
	stamps := func(r *request) bool { return r.Method != "GET" && strings.Contains(r.Path, "/metadata") }
	looks := func(r *request) bool { return r.Method == "GET" && strings.HasSuffix(r.Path, "/backups/detail") }
	steps := []struct {
		name  string
		match func(r *request) bool
		after bool
	}{
		{"quota", func(r *request) bool { return strings.Contains(r.Path, "/os-quota-sets/") }, false},
		{"look", looks, false},
		{"looked", looks, true},
		{"ask", nil, false},
		{"asked", nil, true},
		{"heard", nil, false}, // at the first request after the answer was heard
		{"stamp", stamps, false},
		{"stamped", stamps, true},
	}
	var names []string
	for _, step := range steps {
		names = append(names, step.name)
	}
	servers, v := p.machines(append(names, "any-1", "any-2")...)
	run := s.start(s.settings(map[string]string{
		"STAFFELN_REDIS_URL": s.ledger(), "STAFFELN_INCLUDE_PROJECTS": only(p),
	}))
	began := time.Now()
	for i, step := range steps {
		match := step.match
		switch {
		case step.name == "heard":
			match = func(*request) bool {
				return slices.ContainsFunc(s.front.seen, func(r *request) bool {
					return r.create() && r.Volume == v[i] && r.Delivered
				})
			}
		case match == nil:
			match = func(r *request) bool { return r.create() && r.Volume == v[i] }
		}
		killed := make(chan struct{})
		kill := func() { run.kill(); close(killed) }
		if step.after {
			s.front.once(match, act{After: kill, Cut: true})
		} else {
			s.front.once(match, act{Before: kill, Drop: true})
		}
		p.optIn(servers[i])
		await(p, killed, 2*time.Minute, "step "+step.name)
		run.restart()
	}
	// And wherever it happens to be.
	for _, server := range servers[len(steps):] {
		p.optIn(server)
		for range 3 {
			time.Sleep(time.Duration(rand.IntN(1500)) * time.Millisecond) // the moment is what is random here
			run.restart()
		}
	}
	complete(p, v...)
	stamped(p, began, servers...)
	oncePerRun(p)
	s.front.checkOnce(s.t, false)
}

func answersLost(s *scene) {
	p := s.project(nil)
	const page = "<html><body><h1>Bad Gateway</h1></body></html>"
	ways := []struct {
		name string
		act  act
	}{
		{"cut after it was accepted", act{Cut: true}},
		{"cut before it arrived", act{Drop: true}},
		{"an error page after it was accepted", act{Status: 504, Body: page, Done: true}},
		{"an error page instead", act{Status: 502, Body: page}},
		{"half of an answer", act{Edit: func(b []byte) []byte { return b[:len(b)/2] }}},
		{"an answer of the wrong types", act{Edit: func([]byte) []byte { return []byte(`{"backup": ["id"]}`) }}},
	}
	var names []string
	for i := range ways {
		names = append(names, fmt.Sprintf("way-%d", i))
	}
	servers, v := p.machines(names...)
	spoilt := map[string]bool{}
	s.front.on(func(r *request) act {
		if i := slices.Index(v, r.Volume); r.create() && i >= 0 && !spoilt[r.Volume] {
			spoilt[r.Volume] = true
			return ways[i].act
		}
		return act{}
	})
	s.start(s.settings(map[string]string{
		"STAFFELN_REDIS_URL": s.ledger(), "STAFFELN_INCLUDE_PROJECTS": only(p),
	}))
	for i := range ways {
		p.optIn(servers[i])
	}
	complete(p, v...)
	for i, way := range ways {
		accepted := 0
		for _, r := range s.front.creates(v[i]) {
			if r.Status == 202 {
				accepted++
			}
		}
		if accepted != 1 {
			s.t.Errorf("%s: Cinder accepted %d backups", way.name, accepted)
		}
	}
	oncePerRun(p)
	s.front.checkOnce(s.t, false)
}

func nonsense(s *scene) {
	p := s.project(nil)
	servers, v := p.machines("one")
	run := s.start(s.settings(map[string]string{
		"STAFFELN_REDIS_URL": s.ledger(), "STAFFELN_INCLUDE_PROJECTS": only(p),
	}))
	edit := func(to func([]byte) []byte) act { return act{Edit: to} }
	firsts := map[string]act{
		"/servers/" + servers[0]: edit(func([]byte) []byte { return nil }),
		"/volumes/":              edit(func(b []byte) []byte { return b[:len(b)/2] }),
		"/backups/detail":        edit(func([]byte) []byte { return []byte(`{"backups": {"id": 1}}`) }),
	}
	answered := map[string]bool{}
	s.front.on(func(r *request) act {
		for kind, a := range firsts {
			if r.Method == "GET" && strings.Contains(r.Path, kind) && !answered[kind] {
				answered[kind] = true
				return a
			}
		}
		return act{}
	})
	p.optIn(servers[0])
	complete(p, v...)
	stamped(p, time.Time{}, servers...)
	s.front.mu.Lock()
	defer s.front.mu.Unlock()
	for kind := range firsts {
		if !answered[kind] {
			s.t.Errorf("nobody asked for %s", kind)
		}
	}
	if len(run.log.lines("err=")) == 0 {
		s.t.Error("nothing is said of it")
	}
}

func twoProcesses(s *scene) {
	p := s.project(nil)
	servers, v := p.machines("one", "two", "three")
	env := s.settings(map[string]string{
		"STAFFELN_REDIS_URL": s.ledger(), "STAFFELN_INCLUDE_PROJECTS": only(p),
		"STAFFELN_BACKUP_PERIOD": s.cloud.slot.String(),
	})
	both := []*process{s.start(env), s.start(env)}
	for i, server := range servers {
		askedWithin(p, p.optIn(server), soon, v[i])
		both[0].restart()
	}
	p.until(s.cloud.slot+3*time.Minute, "every volume has two complete backups", func() string {
		for _, one := range v {
			n := 0
			for _, b := range p.backupsOf(one) {
				if b.Status == "available" {
					n++
				}
			}
			if n < 2 {
				return fmt.Sprintf("volume %s has %d", one, n)
			}
		}
		return ""
	})
	for _, one := range both {
		if err := one.terminate(time.Minute); err != nil {
			s.t.Errorf("told to stop, the program said: %v", err)
		}
	}
	oncePerRun(p)
	s.front.checkOnce(s.t, false)
}

func drains(s *scene) {
	p := s.project(nil)
	v := p.volumes("data")
	one := p.server("one", false, v...)
	env := s.settings(map[string]string{
		"STAFFELN_REDIS_URL": s.ledger(), "STAFFELN_INCLUDE_PROJECTS": only(p),
	})
	run := s.start(env)
	asking, answer := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(answer) })
	s.t.Cleanup(release)
	s.front.once((*request).create, act{Before: func() { close(asking); <-answer }})
	p.optIn(one)
	await(p, asking, time.Minute, "Cinder is asked")
	ended := make(chan error, 1)
	go func() { ended <- run.terminate(time.Minute) }()
	p.until(10*time.Second, "the program knows that it is to stop", func() string {
		if len(run.log.lines("draining")) == 0 {
			return "it has not said so"
		}
		return ""
	})
	select {
	case err := <-ended:
		s.t.Errorf("it did not wait for Cinder's answer: %v", err)
	default:
	}
	release()
	if err := <-ended; err != nil {
		s.t.Errorf("told to stop, the program said: %v", err)
	}
	l := ledger.New(s.redis.Client(), ledger.Options{})
	runs, err := l.Runs(s.t.Context(), l.Shard(p.id))
	p.must(err)
	rows := p.backups()
	if len(runs) != 1 || len(rows) != 1 || runs[0].Backup != rows[0].ID {
		s.t.Errorf("when it had stopped the ledger had %+v, and Cinder %+v: want one run with the id of the one "+
			"backup", runs, rows)
	}
	s.start(env)
	complete(p, v...)
	stamped(p, time.Time{}, one)
	if n := len(s.front.creates(v...)); n != 1 {
		s.t.Errorf("%d backups were asked for", n)
	}
}

func onlyCredentials(s *scene) {
	p := s.project(nil)
	servers, v := p.machines("one")
	env := maps.Clone(s.settings(nil))
	for name := range env {
		if strings.HasPrefix(name, "STAFFELN_") {
			delete(env, name)
		}
	}
	// But for the ports, which are taken by others here, and for what belongs to others.
	env["STAFFELN_METRICS_LISTEN"] = freeAddress(s.t)
	if s.cloud.shared {
		env["STAFFELN_INCLUDE_PROJECTS"] = only(p)
	}
	p.optIn(servers[0])
	run := s.start(env)
	askedWithin(p, time.Now(), soon, v...)
	complete(p, v...)
	stamped(p, time.Time{}, servers...)
	says := run.log.lines("STAFFELN_REDIS_URL")
	if len(says) != 1 || !strings.Contains(says[0], "STAFFELN_AMQP_URLS") {
		s.t.Errorf("it says %q; want one line on what a Redis and a RabbitMQ would add", says)
	}
	// The ledger is lost with the process, and made again from what Cinder knows.
	run.restart()
	restarted := time.Now()
	p.until(time.Minute, "the backups are looked at again", func() string {
		seen := s.front.requests(func(r *request) bool {
			return r.At.After(restarted) && strings.HasSuffix(r.Path, "/backups/detail") && r.Delivered
		})
		if len(seen) == 0 {
			return "they are not"
		}
		return ""
	})
	steady(p, 12*time.Second, "nothing is asked for again", func() string {
		if n := len(s.front.creates(v...)); n != 1 {
			return fmt.Sprintf("%d backups were asked for", n)
		}
		return ""
	})
}

func wrongSettings(s *scene) {
	wrong := map[string]string{
		"OS_AUTH_URL":                "keystone",
		"STAFFELN_BACKUP_PERIOD":     "sometimes",
		"STAFFELN_TIME_ZONE":         "Mars/Olympus",
		"STAFFELN_RETENTION_TIME":    "-3d",
		"STAFFELN_FULL_BACKUP_DEPTH": "six",
		"STAFFELN_RECONCILE_PERIOD":  "1ms",
		"STAFFELN_REDIS_URL":         "http://user:topsecret@127.0.0.1:1/",
		"STAFFELN_AMQP_URLS":         "amqp//nowhere",
		"STAFFELN_LISTEN":            "everywhere",
		"STAFFELN_LOG_LEVEL":         "loud",
		"STAFFELN_BACKUP_PERIODS":    "24h", // there is none of that name
	}
	p := s.prepare(s.settings(wrong), "run")
	p.launch()
	if err := p.wait(30 * time.Second); err == nil || p.cmd.ProcessState == nil {
		s.t.Errorf("it ended with %v; want a complaint and no success", err)
	}
	said := p.log.String()
	for name := range wrong {
		if !strings.Contains(said, name) {
			s.t.Errorf("nothing is said of %s=%q", name, wrong[name])
		}
	}
	if strings.Contains(said, "topsecret") {
		s.t.Error("a password is written out")
	}
	if asked := s.front.requests(nil); len(asked) > 0 {
		s.t.Errorf("something was started: %v", asked)
	}
	if s.t.Failed() {
		s.t.Logf("it said:\n%s", said)
	}
}

// rootOf is the volume of a server that is not one of those attached to it.
func rootOf(p *project, server string, attached []string) string {
	p.t.Helper()
	for _, v := range p.show(server).Volumes {
		if !slices.Contains(attached, v.ID) {
			return v.ID
		}
	}
	p.t.Fatal("the server has no root volume")
	return ""
}

// askedWithin waits until Cinder was asked for a backup of each volume, and fails
// the test if that was not in time.
func askedWithin(p *project, told time.Time, limit time.Duration, volumes ...string) {
	p.t.Helper()
	for _, v := range volumes {
		p.until(time.Until(told.Add(limit)), "Cinder is asked for a backup of volume "+v, func() string {
			if len(p.s.front.creates(v)) == 0 {
				return "it is not"
			}
			return ""
		})
	}
}

// complete waits until the tenant sees a backup of each volume that is available.
func complete(p *project, volumes ...string) {
	p.t.Helper()
	p.until(4*time.Minute, "every volume has a complete backup in the tenant's project", func() string {
		var why []string
		rows := p.backups()
		for _, v := range volumes {
			state := "no backup"
			for _, b := range rows {
				if b.VolumeID == v && state != "available" {
					state = b.Status
				}
			}
			if state != "available" {
				why = append(why, fmt.Sprintf("volume %s: %s", v, state))
			}
		}
		return strings.Join(why, ", ")
	})
}

// stamped waits until each server has the time of its newest backup.
func stamped(p *project, since time.Time, servers ...string) {
	p.t.Helper()
	for _, id := range servers {
		p.until(2*time.Minute, "server "+id+" has last-backup-time", func() string {
			value := p.show(id).Metadata["last-backup-time"]
			at, err := time.Parse(time.RFC3339, value)
			if err != nil || !strings.HasSuffix(value, "Z") || at.Before(since.Add(-time.Minute)) ||
				at.After(time.Now().Add(time.Minute)) {
				return fmt.Sprintf("it is %q", value)
			}
			return ""
		})
	}
}

// oncePerRun fails the test where two backups that are no failures belong to one
// run.
func oncePerRun(p *project) {
	p.t.Helper()
	runs := map[string]string{}
	for _, b := range p.backups() {
		if other := runs[b.run()]; b.Status != "error" && other != "" {
			p.t.Errorf("backups %s and %s are both of run %s", other, b.ID, b.run())
		}
		runs[b.run()] = b.ID
	}
}

// finished waits until at least n of the project's runs are over, one of them, begun
// since a time, told to have failed by the ledger.
func finished(p *project, n int, since time.Time) []backup.Run {
	p.t.Helper()
	l := ledger.New(p.s.redis.Client(), ledger.Options{})
	var runs []backup.Run
	p.until(p.s.cloud.period+3*time.Minute, fmt.Sprintf("%d runs are over, one of them failed", n), func() string {
		var err error
		if runs, err = l.Finished(p.t.Context(), p.id, 100); err != nil {
			return err.Error()
		}
		failed := slices.ContainsFunc(runs, func(r backup.Run) bool {
			return r.State == backup.Failed && r.Started.After(since)
		})
		if len(runs) < n || !failed {
			return fmt.Sprintf("%d are over", len(runs))
		}
		return ""
	})
	return runs
}

// steady fails the test as soon as ok has something to say, for a while.
func steady(p *project, while time.Duration, what string, ok func() string) {
	p.t.Helper()
	for end := time.Now().Add(while); time.Now().Before(end); time.Sleep(p.s.cloud.poll) {
		if why := ok(); why != "" {
			p.t.Fatalf("%s: %s", what, why)
		}
	}
}

func await(p *project, c <-chan struct{}, limit time.Duration, what string) {
	p.t.Helper()
	select {
	case <-c:
	case <-time.After(limit):
		p.t.Fatalf("not within %s: %s", limit, what)
	}
}

// made is when Cinder took a request for a backup.
func made(t *testing.T, b backupRow) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02T15:04:05.999999", b.CreatedAt)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// edited sets one value in a JSON document.
func edited(t *testing.T, body []byte, value any, path ...string) []byte {
	var doc object
	if err := json.Unmarshal(body, &doc); err != nil {
		t.Errorf("the answer to be changed is no JSON: %v", err)
		return body
	}
	at := doc
	for _, key := range path[:len(path)-1] {
		at, _ = at[key].(object)
	}
	if at != nil {
		at[path[len(path)-1]] = value
	}
	out, _ := json.Marshal(doc)
	return out
}
