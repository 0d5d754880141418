package behaviour

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"staffeln/runtime/ledger"
)

// guarded are what the scenarios about the policy check have in common: a program,
// and Cinder with the policy file that asks it.
type guarded struct {
	*scene
	p     *project
	run   *process
	relay *relay
	gate  *gate
	env   map[string]string
	// restore takes the policy file away.
	restore func()
}

func (s *scene) guard(p *project) *guarded {
	s.t.Helper()
	g := &guarded{scene: s, p: p, gate: openGate(s.t, s.cloud.broker)}
	g.env = s.settings(map[string]string{
		"STAFFELN_REDIS_URL": s.ledger(), "STAFFELN_INCLUDE_PROJECTS": only(p), "STAFFELN_AMQP_URLS": g.gate.url,
	})
	g.run = s.start(g.env)
	g.relay = s.openRelay(g.run.addr)
	user, err := p.service().userID()
	p.must(err)
	g.restore = s.cloud.policy(s.t, policyFile(s.t, g.relay.URL, user))
	return g
}

// refused tries something as a tenant, and wants Cinder's status for it and the
// backup as it was.
func (g *guarded) refused(say string, b backupRow, want int, try func() error) {
	g.t.Helper()
	err := try()
	if got := status(err); got != want {
		g.t.Errorf("%s: Cinder said %v, want %d", say, err, want)
	}
	g.untouched(say, b)
}

// untouched wants the backup as it was.
func (g *guarded) untouched(say string, b backupRow) {
	g.t.Helper()
	var now struct{ Backup backupRow }
	if err := g.p.user.call("GET", "volumev3", "/backups/"+b.ID, nil, &now); err != nil {
		g.t.Errorf("%s: the backup is not there as it was: %v", say, err)
		return
	}
	if now.Backup.Name != b.Name || now.Backup.Status != b.Status || !maps.Equal(now.Backup.Metadata, b.Metadata) {
		g.t.Errorf("%s: the backup was %+v and is now %+v", say, b, now.Backup)
	}
}

func (p *project) deleteBackup(id string) error {
	return p.user.call("DELETE", "volumev3", "/backups/"+id, nil, nil)
}

func (p *project) updateBackup(id string, with object) error {
	return p.user.call("PUT", "volumev3", "/backups/"+id, object{"backup": with}, nil)
}

// manual makes a backup as its owner does, and waits until it is there.
func (p *project) manual(volume string, with object) string {
	p.t.Helper()
	in := object{"volume_id": volume, "force": true, "name": "manual"}
	maps.Copy(in, with)
	var out struct{ Backup struct{ ID string } }
	p.must(p.user.call("POST", "volumev3", "/backups", object{"backup": in}, &out))
	p.until(2*time.Minute, "the owner's own backup is there", func() string {
		return wants("available", p.backup(out.Backup.ID).Status)
	})
	return out.Backup.ID
}

func (p *project) backup(id string) backupRow {
	p.t.Helper()
	var out struct{ Backup backupRow }
	p.must(p.user.call("GET", "volumev3", "/backups/"+id, nil, &out))
	return out.Backup
}

// gone waits until a backup is no more.
func (p *project) gone(id string) {
	p.t.Helper()
	p.until(time.Minute, "backup "+id+" is gone", func() string {
		err := p.user.call("GET", "volumev3", "/backups/"+id, nil, nil)
		if status(err) == 404 {
			return ""
		}
		return fmt.Sprintf("it is not: %v", err)
	})
}

// service is the program's own user in the project.
func (p *project) service() *session {
	return &session{auth: p.s.cloud.auth, user: p.s.rights.env["OS_USERNAME"], password: password, project: p.name}
}

func tenantsCannotDelete(s *scene) {
	p, other := s.project(nil), s.project(nil)
	servers, v := p.machines("one", "two")
	g := s.guard(p)
	for _, server := range servers {
		p.optIn(server)
	}
	complete(p, v...)
	ours := p.backupsOf(v[0])[0]
	if ours.Metadata["__automated_backup"] != "True" {
		s.t.Fatalf("the automated backup has the metadata %v", ours.Metadata)
	}
	mine := p.manual(p.volumes("mine")[0], object{"metadata": object{"mine": "yes"}})

	// What is their own is theirs.
	p.must(p.updateBackup(mine, object{"name": "renamed", "metadata": object{"still": "mine"}}))
	if b := p.backup(mine); b.Name != "renamed" || !maps.Equal(b.Metadata, map[string]string{"still": "mine"}) {
		s.t.Errorf("their own backup is now %+v", b)
	}
	p.must(p.deleteBackup(mine))
	p.gone(mine)

	del := func() error { return p.deleteBackup(ours.ID) }
	update := func(with object) func() error { return func() error { return p.updateBackup(ours.ID, with) } }
	action := func(what object) func() error {
		return func() error { return p.user.call("POST", "volumev3", "/backups/"+ours.ID+"/action", what, nil) }
	}
	g.refused("delete it", ours, 403, del)
	g.refused("strip its metadata", ours, 403, update(object{"metadata": object{}}))
	g.refused("give it metadata of their own", ours, 403,
		update(object{"metadata": object{"__automated_backup": "False"}}))
	g.refused("rename it", ours, 403, update(object{"name": "mine"}))
	g.refused("describe it", ours, 403, update(object{"description": "mine"}))
	g.refused("and then delete it", ours, 403, del)
	g.refused("reset its state", ours, 403, action(object{"os-reset_status": object{"status": "error"}}))
	g.refused("delete it by force", ours, 403, action(object{"os-force_delete": object{}}))
	g.refused("set a quota for themselves", ours, 403, func() error {
		return p.user.call("PUT", "volumev3", "/os-quota-sets/"+p.id, object{"quota_set": object{"backups": 0}}, nil)
	})
	p.quota(object{"backups": len(p.backups())}) // Cinder takes none that is below what there is
	g.refused("delete it when the quota has no room left", ours, 403, del)
	p.quota(object{"backups": -1})

	// A backup of their own on our chain hinders nobody but themselves.
	child := p.manual(v[1], object{"incremental": true})
	p.must(p.deleteBackup(child))
	p.gone(child)
	forged := p.manual(v[1], object{"metadata": object{"__automated_backup": "True"}})
	p.must(p.deleteBackup(forged)) // our mark makes nothing ours, see forgedBackups
	p.gone(forged)

	// Out of the program's sight, step by step.
	p.must(p.user.call("PUT", "compute", "/servers/"+servers[0]+"/metadata",
		object{"metadata": object{"backup": "no"}}, nil))
	l := ledger.New(s.redis.Client(), ledger.Options{})
	p.until(time.Minute, "the server is not protected any more", func() string {
		all, err := l.VolumesOf(s.t.Context(), p.id, v[:1])
		if err != nil || len(all) > 0 {
			return fmt.Sprintf("it is: %v %v", all, err)
		}
		return ""
	})
	g.refused("drop the tag and delete it", ours, 403, del)
	p.must(p.user.call("DELETE", "compute", "/servers/"+servers[0], nil, nil))
	p.until(2*time.Minute, "the server has let go of its volume", func() string {
		return wants("available", p.volume(v[0]).Status)
	})
	g.refused("delete the server and then it", ours, 403, del)
	var transfer struct {
		Transfer struct {
			ID  string
			Key string `json:"auth_key"`
		}
	}
	p.must(p.user.call("POST", "volumev3", "/os-volume-transfer",
		object{"transfer": object{"volume_id": v[0], "name": "gift"}}, &transfer))
	p.must(other.user.call("POST", "volumev3", "/os-volume-transfer/"+transfer.Transfer.ID+"/accept",
		object{"accept": object{"auth_key": transfer.Transfer.Key}}, nil))
	g.refused("give the volume away and then delete it", ours, 403, del)
	g.refused("delete it as the volume's new owner", ours, 404, func() error { return other.deleteBackup(ours.ID) })
	p.must(other.user.call("DELETE", "volumev3", "/volumes/"+v[0], nil, nil))
	p.until(time.Minute, "the volume is gone", func() string {
		if status(other.user.call("GET", "volumev3", "/volumes/"+v[0], nil, nil)) != 404 {
			return "it is not"
		}
		return ""
	})
	g.refused("delete the volume and then it", ours, 403, del)

	whyIsTold(g, ours)
	withNothingUp(g, ours, forged)
}

// whyIsTold asks the operator's command why a backup is there.
func whyIsTold(g *guarded, b backupRow) {
	g.t.Helper()
	ask := func(args ...string) string {
		g.t.Helper()
		return g.says(g.env, append([]string{"plan", "--backup", b.ID}, args...)...)
	}
	said := strings.Join(strings.Fields(ask()), " ")
	for _, want := range []string{b.ID, "Its owner may not delete or change it", "Retention keeps it", "30d"} {
		if !strings.Contains(said, want) {
			g.t.Errorf("asked why it is there: no word of %q in %s", want, said)
		}
	}
	var told struct {
		Backup   string
		OwnerMay *bool `json:"owner_may"`
		Fate     struct{ Verdict, Why string }
	}
	said = ask("--json")
	if err := json.Unmarshal([]byte(said), &told); err != nil || told.Backup != b.ID || told.OwnerMay == nil ||
		*told.OwnerMay || told.Fate.Verdict != "keep" || told.Fate.Why == "" {
		g.t.Errorf("asked why for JSON: %v %s; want that its owner may not, that it is kept, and why", err, said)
	}
}

// withNothingUp takes away what the check does not need, then the check itself.
func withNothingUp(g *guarded, ours backupRow, forged string) {
	g.t.Helper()
	s, p := g.scene, g.p
	seen := g.relay.seen()
	yes, no := 0, 0
	for _, c := range seen {
		switch {
		case c.status == 200 && c.answer == "True":
			yes++
		case c.status == 401 && c.answer != "":
			no++
		default:
			s.t.Errorf("a check was answered %d %q", c.status, c.answer)
		}
	}
	if yes < 3 || no < 10 {
		s.t.Fatalf("Cinder asked %d times, and heard yes %d times", len(seen), yes)
	}

	s.redis.Stop()
	g.gate.close()
	s.front.on(func(*request) act { return act{Drop: true} })
	same := func(where, address string) {
		s.t.Helper()
		for _, c := range seen {
			for _, again := range []policyCheck{c, asJSON(s, c)} {
				err := again.ask(address)
				if strings.Contains(c.uri, forged) {
					// Only the ledger can say that no former user of ours made it.
					if err != nil || again.status != 401 || again.answer == "True" {
						s.t.Errorf("%s, a check of a forged backup (%s) is answered %d %q, %v", where,
							again.contentType, again.status, again.answer, err)
					}
					continue
				}
				if err != nil || again.status != c.status || again.answer != c.answer {
					s.t.Errorf("%s, a check (%s) that was answered %d %q is answered %d %q, %v: %s", where,
						again.contentType, c.status, c.answer, again.status, again.answer, err, c.body)
				}
			}
		}
	}
	same("with Redis, RabbitMQ and Cinder down", g.run.addr)
	g.refused("delete it while Redis and RabbitMQ are down", ours, 403, func() error { return p.deleteBackup(ours.ID) })
	mine := p.manual(p.volumes("late")[0], nil)
	p.must(p.deleteBackup(mine))
	p.gone(mine)

	// The function alone, started while they are down.
	path, err := container()
	p.must(err)
	env := maps.Clone(g.env)
	env["STAFFELN_FUNCTION"] = "policy"
	env["STAFFELN_LISTEN"] = freeAddress(s.t)
	alone := s.prepareAt(path, env)
	alone.launch()
	until(s.t, 50*time.Millisecond, time.Minute, "the function answers by itself", func() string {
		c := seen[0]
		if err := c.ask(alone.addr); err != nil {
			return err.Error()
		}
		return ""
	})
	same("by a function that never had a Redis, RabbitMQ or Cinder", alone.addr)
	alone.kill()

	// Nobody answers: no tenant can delete anything, but admins and the service can.
	last := p.manual(p.volumes("last")[0], nil)
	g.run.kill()
	g.relay.Close()
	g.refused("delete it while nobody answers Cinder", ours, 500, func() error { return p.deleteBackup(ours.ID) })
	if err := p.deleteBackup(last); status(err) != 500 {
		s.t.Errorf("delete their own while nobody answers Cinder: %v", err)
	}
	p.must(p.service().call("DELETE", "volumev3", "/backups/"+ours.ID, nil, nil))
	p.gone(ours.ID)
	p.must(s.admin.call("DELETE", "volumev3", "/backups/"+last, nil, nil))
	p.gone(last)
	second := slices.DeleteFunc(p.backups(), func(b backupRow) bool { return b.Metadata["__automated_backup"] != "True" })
	for _, b := range second {
		p.must(s.admin.call("DELETE", "volumev3", "/backups/"+b.ID, nil, nil))
		p.gone(b.ID)
	}
	if len(second) == 0 {
		s.t.Error("there was no automated backup left for an admin to delete")
	}
}

// asJSON is a check as Cinder sends it with remote_content_type=application/json.
func asJSON(s *scene, c policyCheck) policyCheck {
	s.t.Helper()
	form, err := url.ParseQuery(c.body)
	if err != nil {
		s.t.Fatal(err)
	}
	out := map[string]json.RawMessage{}
	for name := range form {
		out[name] = json.RawMessage(form.Get(name))
	}
	body, err := json.Marshal(out)
	if err != nil {
		s.t.Fatalf("a check holds what is no JSON: %v: %s", err, c.body)
	}
	c.contentType, c.body = "application/json", string(body)
	return c
}
