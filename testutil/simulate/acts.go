package simulate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"staffeln/functions/backup"
	"staffeln/testutil/simcloud"
)

// acts are what can happen. Where there is nothing to do it to, nothing happens.
var acts map[string]func(p *play, a Act)

func init() {
	acts = map[string]func(p *play, a Act){
		// Time passes, for=.
		"pass": func(p *play, a Act) { p.pass(a.For, p.history.Pace) },

		// A server's metadata are set: "nothing" takes them away.
		"wish": func(p *play, a Act) {
			p.changes++
			if s, ok := one(p.servers(), a.Which); ok {
				p.Cloud.SetServerMetadata(s.ID, wish(a.What))
				p.soon()
			}
		},
		// A server's only tag.
		"tag": func(p *play, a Act) {
			p.changes++
			if s, ok := one(p.servers(), a.Which); ok {
				p.Cloud.SetServerTags(s.ID, a.What)
				p.soon()
			}
		},
		// A volume is left out, or not any more. Cinder tells nobody.
		"skip": func(p *play, a Act) {
			p.changes++
			if v, ok := one(p.volumes(), a.Which); ok {
				m := map[string]string{}
				if a.What == "true" {
					m["skip-volume-backup"] = "true"
				}
				p.Cloud.SetVolumeMetadata(v.ID, m)
			}
		},
		// A volume that is free, or a new one, is attached to a server of its project.
		"attach": func(p *play, a Act) {
			p.changes++
			s, ok := one(p.servers(), a.Which)
			if !ok {
				return
			}
			if a.What == "new" {
				p.Cloud.Attach(s.ID, p.Cloud.AddVolume(s.Project, p.name("volume"), 1+a.Which%4, nil))
			} else if v, ok := one(p.free(s.Project), a.N); ok {
				p.Cloud.Attach(s.ID, v.ID)
			}
			p.soon()
		},
		"detach": func(p *play, a Act) {
			p.changes++
			if v, ok := one(p.volumes(), a.Which); ok && len(v.Servers) > 0 && v.Status == "in-use" {
				p.Cloud.Detach(v.Servers[0], v.ID)
				p.soon()
			}
		},
		"extend": func(p *play, a Act) {
			if v, ok := one(p.volumes(), a.Which); ok && (v.Status == "in-use" || v.Status == "available") {
				p.Cloud.Extend(v.ID, v.Size+1)
				p.soon()
			}
		},
		// A new server with n volumes.
		"server": func(p *play, a Act) {
			p.changes++
			if len(p.servers()) >= 20 {
				return
			}
			project := p.tenants()[a.Which%3]
			var volumes []string
			for range a.N {
				volumes = append(volumes, p.Cloud.AddVolume(project, p.name("volume"), 1, nil))
			}
			p.Cloud.AddServer(project, p.name("server"), wish(a.What), volumes...)
			p.soon()
		},
		// A server, a volume, or a server with its volumes is deleted.
		"delete": func(p *play, a Act) {
			p.changes++
			var volumes []string
			if a.What != "volume" {
				s, ok := one(p.servers(), a.Which)
				if !ok {
					return
				}
				volumes = s.Volumes
				p.Cloud.DeleteServer(s.ID)
			} else if v, ok := one(p.volumes(), a.Which); ok {
				volumes = []string{v.ID}
			}
			if a.What != "server" {
				for _, id := range volumes {
					if v, there := p.Cloud.Volume(id); there && v.Status != "backing-up" {
						p.Cloud.DeleteVolume(id)
						p.left[id] = p.Now()
					}
				}
			}
			p.soon()
		},
		// A free volume goes to the next project.
		"transfer": func(p *play, a Act) {
			p.changes++
			from := a.Which % 3
			v, ok := one(p.free(p.tenants()[from]), a.Which/3)
			if !ok {
				return
			}
			given := map[string]map[string]any{}
			status := p.ask(from, "POST", "os-volume-transfer",
				map[string]any{"transfer": map[string]any{"volume_id": v.ID, "name": "gift"}}, &given)
			if status != http.StatusAccepted {
				return
			}
			p.ask((from+1)%3, "POST", fmt.Sprint("os-volume-transfer/", given["transfer"]["id"], "/accept"),
				map[string]any{"accept": map[string]any{"auth_key": given["transfer"]["auth_key"]}}, nil)
			p.left[v.ID] = p.Now()
			p.soon()
		},
		// A tenant's own backups: "full", "incremental", or the newest "removed".
		"manual": func(p *play, a Act) {
			if a.What == "removed" {
				all := slices.DeleteFunc(p.backups(false), marked)
				slices.Reverse(all)
				if b, ok := one(all, 0); ok {
					p.ask(p.whose(b.Project), "DELETE", "backups/"+b.ID, nil, nil)
				}
				return
			}
			if v, ok := one(p.volumes(), a.Which); ok {
				p.ask(p.whose(v.Project), "POST", "backups", map[string]any{"backup": map[string]any{
					"volume_id": v.ID, "name": "by hand", "incremental": a.What == "incremental", "force": true}}, nil)
			}
		},
		// A tenant tries to get rid of a backup of ours.
		"attack": attack,
		// A tenant makes a backup of which the metadata say that it is ours; n=1 for an
		// incremental one. What else they say is in the table of forgeries. "answer" copies
		// those of a backup whose answer the service has not received, if there is one. "changed"
		// gives such metadata to the newest backup by hand, "removed" removes the newest forged one.
		"forge": func(p *play, a Act) {
			p.forge(a)
			p.soon()
		},
		// A tenant does so before every nth look from now on: "on", or "off".
		"hostile": func(p *play, a Act) {
			if p.hostile = nil; a.What == "on" {
				p.hostile = &a
			}
		},
		// An operator adopts what nobody knows the maker of, in one project, and is right.
		"adopt": func(p *play, a Act) {
			p.adopt(p.tenants()[a.Which%3], p.unverified)
			p.must(p.ledger.AskReconcile(p.ctx))
			p.soon()
		},
		// A project's quota: "none", what is "used", a "few" more, or "unlimited".
		"quota": func(p *play, a Act) {
			project := p.tenants()[a.Which%3]
			most := map[string]int{"none": 0, "few": 2, "unlimited": -1}[a.What]
			if a.What != "none" && a.What != "unlimited" {
				for _, b := range p.Cloud.Backups() {
					if b.Project == project && b.Status != "deleted" {
						most++
					}
				}
			}
			p.Cloud.SetQuota(project, simcloud.Quota{Volumes: -1, Gigabytes: -1, Backups: most, BackupGigabytes: -1})
		},
		// A server is locked, so that its metadata cannot be written, or not any more.
		"lock": func(p *play, a Act) {
			if s, ok := one(p.servers(), a.Which); ok {
				p.Cloud.SetServerLocked(s.ID, a.What == "on")
			}
		},
		// An operator puts a hold on a backup of ours, or lifts it.
		"hold": func(p *play, a Act) {
			if b, ok := one(p.backups(true), a.Which); ok {
				b.Metadata[backup.MetaHold] = a.What
				p.Cloud.SetBackupMetadata(b.ID, b.Metadata)
			}
		},

		// The operator changes a setting and starts the service anew.
		"reconfigure": func(p *play, a Act) {
			p.changes++
			p.must(p.Reconfigure(a.What))
			p.remember()
		},
		// A project is disabled, or the service user has no role in it, for=.
		"project": func(p *play, a Act) {
			name := []string{"alpha", "beta", "gamma"}[a.Which%3]
			p.count("project " + a.What)
			if a.What == "disabled" {
				p.Cloud.SetProjectEnabled(p.Seeded.Projects[name], false)
				p.pass(a.For, p.history.Pace)
				p.Cloud.SetProjectEnabled(p.Seeded.Projects[name], true)
				return
			}
			role := simcloud.Inherited(map[string]string{"backup-svc": "admin", "backup-min": "member"}[p.history.User])
			p.Cloud.Revoke(p.Seeded.Users[p.history.User], role)
			p.pass(a.For, p.history.Pace)
			p.Cloud.Grant(p.Seeded.Users[p.history.User], role)
			p.must(p.Reconnect(p.ctx))
		},
		// Cinder counts one child too many of a backup of ours.
		"drift": func(p *play, a Act) {
			if b, ok := one(p.backups(true), a.Which); ok {
				p.Cloud.DriftDependents(b.ID, 1)
				p.drifted = append(p.drifted, b.ID)
			}
		},
		// What is just being deleted is stuck in error_deleting.
		"stuck": func(p *play, _ Act) {
			for _, b := range p.backups(true) {
				if b.Status == "deleting" {
					p.Cloud.SetBackupStatus(b.ID, "error_deleting")
				}
			}
		},

		"fault":         func(p *play, a Act) { p.during(a, &p.request) },
		"notifications": func(p *play, a Act) { p.during(a, &p.letters); p.bring() },
		"mail":          func(p *play, a Act) { p.during(a, &p.mail) },
		"redis":         redisAct,
		"kill":          kill,
		"stall":         stall,
		"cinder-backup": func(p *play, a Act) {
			p.count("cinder-backup " + a.What)
			if a.What == "restarted" {
				p.Cloud.CinderRestarted()
				p.soon()
				return
			}
			p.Cloud.SetBackupService("", false)
			p.mu.Lock()
			p.unserved = append(p.unserved, span{p.Now(), p.Now().Add(a.For)})
			p.mu.Unlock()
			p.pass(a.For, p.history.Pace)
			p.promised()
			p.Cloud.SetBackupService("", true)
		},
		// The next n backups of a volume fail.
		"fail": func(p *play, a Act) {
			if v, ok := one(p.volumes(), a.Which); ok && p.failing[v.ID] < 3 {
				for range a.N {
					p.failing[v.ID]++
					p.count("backup failed")
					p.Cloud.FailNextBackup(v.ID, "rados: timed out")
				}
			}
		},
		// The service's clock is off by What, for=.
		"clock": func(p *play, a Act) {
			by, err := time.ParseDuration(a.What)
			p.must(err)
			p.count("clock jumped")
			p.skewed = true
			p.jumped = p.jumped || by.Abs() >= p.history.Period
			p.changes++
			p.Skew(by)
			p.pass(a.For, p.history.Pace)
			p.Skew(0)
			p.step(p.history.Pace)
			p.skewed = false
		},
		"tokens": func(p *play, _ Act) {
			p.count("tokens revoked")
			p.Cloud.RevokeTokens(p.Seeded.Users[p.history.User])
			p.soon()
		},
		// n messages that are no notifications.
		"garbage": func(p *play, a Act) {
			for n := range a.N {
				p.count("garbage message")
				p.Publish(rubbish(a.Which + n))
			}
			p.soon()
		},
	}
}

func wish(what string) map[string]string {
	if what == "nothing" {
		return map[string]string{}
	}
	return map[string]string{"backup": what}
}

// name is a name that nothing has yet.
func (p *play) name(of string) string {
	p.names++
	return fmt.Sprintf("%s-%d", of, p.names)
}

// free are a project's volumes that are attached to nothing.
func (p *play) free(project string) []simcloud.Volume {
	return slices.DeleteFunc(p.volumes(), func(v simcloud.Volume) bool {
		return v.Project != project || v.Status != "available"
	})
}

// whose is the place of a project among the tenants.
func (p *play) whose(project string) int { return max(0, slices.Index(p.tenants(), project)) }

// ask sends a request to Cinder as the user of a tenant, and says with what status
// it was answered.
func (p *play) ask(tenant int, method, path string, in, out any) (status int) {
	project, user := p.tenants()[tenant], []string{"alice", "bob", "carol"}[tenant]
	send := func(method, path, token string, in any) (*http.Response, []byte) {
		var body io.Reader = http.NoBody
		if in != nil {
			text, err := json.Marshal(in)
			p.must(err)
			body = bytes.NewReader(text)
		}
		r, err := http.NewRequestWithContext(p.ctx, method, "http://tenant.invalid"+path, body)
		p.must(err)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Auth-Token", token)
		r.Header.Set("OpenStack-API-Version", "volume 3.64")
		resp, err := p.Cloud.Transport().RoundTrip(r)
		p.must(err)
		text, err := io.ReadAll(resp.Body)
		p.must(err)
		return resp, text
	}
	p.tenant.Store(true) // faults are for the service
	defer p.tenant.Store(false)
	identity := map[string]any{"methods": []string{"password"}, "password": map[string]any{"user": map[string]any{
		"name": user, "password": simcloud.Password, "domain": map[string]any{"id": simcloud.DefaultDomain}}}}
	resp, _ := send("POST", "/identity/v3/auth/tokens", "", map[string]any{"auth": map[string]any{"identity": identity,
		"scope": map[string]any{"project": map[string]any{"id": project}}}})
	if resp.StatusCode != http.StatusCreated {
		return resp.StatusCode // the project is disabled
	}
	resp, text := send(method, "/volume/v3/"+project+"/"+path, resp.Header.Get("X-Subject-Token"), in)
	if out != nil && resp.StatusCode < 300 {
		p.must(json.Unmarshal(text, out))
	}
	return resp.StatusCode
}

// attack checks I2 on one backup of ours.
func attack(p *play, a Act) {
	b, ok := one(p.backups(true), a.Which)
	if !ok {
		return
	}
	who := p.whose(b.Project)
	var status int
	switch a.What {
	case "delete":
		status = p.ask(who, "DELETE", "backups/"+b.ID, nil, nil)
	case "strip":
		status = p.ask(who, "PUT", "backups/"+b.ID,
			map[string]any{"backup": map[string]any{"metadata": map[string]string{}}}, nil)
	case "rename":
		status = p.ask(who, "PUT", "backups/"+b.ID, map[string]any{"backup": map[string]any{"name": "mine"}}, nil)
	case "reset":
		status = p.ask(who, "POST", "backups/"+b.ID+"/action",
			map[string]any{"os-reset_status": map[string]any{"status": "error"}}, nil)
	case "force":
		status = p.ask(who, "POST", "backups/"+b.ID+"/action", map[string]any{"os-force_delete": map[string]any{}}, nil)
	}
	p.count("attack")
	if status < 300 {
		p.fail("I2", "a tenant's %s of backup %s (%s, %s) was answered %d", a.What, b.ID, b.Name, b.Status, status)
	}
}

// rubbish is a body that no notification has.
func rubbish(which int) []byte {
	all := []string{
		"", "{}", "null", "[]", "\x00\xff\xfe", `{"oslo.version":"2.0","oslo.message":""}`,
		`{"oslo.version":"2.0","oslo.message":"{"}`,
		`{"oslo.version":"9.9","oslo.message":"{}"}`,
		`{"oslo.version":"2.0","oslo.message":"{\"event_type\":\"backup.delete.end\",` +
			`\"payload\":{\"backup_id\":[]},\"message_id\":\"m\",\"timestamp\":\"never\"}"}`,
		`{"oslo.version":"2.0","oslo.message":"{\"event_type\":\"instance.update\",\"payload\":null,` +
			`\"message_id\":\"m\",\"timestamp\":\"2026-11-22 10:00:00.000000\"}"}`,
		strings.Repeat("[", 20_000), `{"oslo.version":"2.0","oslo.message":"` + strings.Repeat("x", 50_000) + `"}`,
	}
	return []byte(all[which%len(all)])
}
