package simcloud

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// A Grant is a role that a user has: on a project, on a domain, inherited by all
// projects of a domain, or on the system.
type Grant struct {
	// Role is admin, member, reader or service. admin implies member, member
	// implies reader.
	Role string
	// Project and Domain are ids. A grant on a domain that is Inherited counts for
	// its projects and not for the domain.
	Project, Domain string
	Inherited       bool
	System          bool
}

// On is a role on one project.
func On(project, role string) Grant { return Grant{Role: role, Project: project} }

// Inherited is a role inherited by every project of the domain Default.
func Inherited(role string) Grant { return Grant{Role: role, Domain: DefaultDomain, Inherited: true} }

// System is a role on the system.
func System(role string) Grant { return Grant{Role: role, System: true} }

// DefaultDomain is the id of the domain Default.
const DefaultDomain = "default"

// Password is that of every user of [Cloud.Seed], and of admin.
const Password = "devcloud"

// bootstrap makes what every cloud has: the domain Default, the roles, the
// projects admin and service, the user admin and one cinder-backup service.
func (c *Cloud) bootstrap() {
	s := &c.state
	s.sendFn = func(m message) {
		c.outMu.Lock()
		c.out = append(c.out, m)
		c.outMu.Unlock()
	}
	s.domains[DefaultDomain] = &domain{DefaultDomain, "Default"}
	for _, role := range []string{"admin", "member", "reader", "service"} {
		s.roles[role] = s.hex()
	}
	now := c.now()
	for _, host := range []struct{ binary, host string }{
		{"cinder-backup", "sim"}, {"cinder-scheduler", "sim"}, {"cinder-volume", "sim@ceph"},
	} {
		s.services = append(s.services, &service{binary: host.binary, host: host.host, up: true, updated: now})
	}
	admin := s.project("admin", DefaultDomain)
	admin.description = "Bootstrap project for initializing the cloud."
	s.project("service", DefaultDomain)
	s.user("admin", Password, []Grant{On(admin.id, "admin"), System("admin")})
}

func (s *state) project(name, domain string) *project {
	p := &project{id: s.hex(), name: name, domain: s.domains[domain], enabled: true}
	s.projects[p.id], s.tenants[p.id] = p, p
	s.projectOrder = append(s.projectOrder, p)
	return p
}

func (s *state) user(name, password string, grants []Grant) *user {
	u := &user{id: s.hex(), name: name, password: password, domain: s.domains[DefaultDomain], enabled: true,
		grants: slices.Clone(grants)}
	s.users[u.id] = u
	s.userOrder = append(s.userOrder, u)
	return u
}

// must panics: the caller builds a cloud with an id that is not in it.
func must[T any](m map[string]*T, what, id string) *T {
	v := m[id]
	if v == nil {
		panic(fmt.Sprintf("simcloud: no %s %q", what, id))
	}
	return v
}

// AddDomain makes a domain and returns its id.
func (c *Cloud) AddDomain(name string) (id string) {
	c.do(func(s *state, _ time.Time) {
		id = s.hex()
		s.domains[id] = &domain{id, name}
	})
	return id
}

// AddProject makes a project in the domain Default and returns its id.
func (c *Cloud) AddProject(name string) string { return c.AddProjectIn(DefaultDomain, name) }

// AddProjectIn makes a project in a domain, named by its id. Names are not
// checked for being unique. It panics where there is no such domain.
func (c *Cloud) AddProjectIn(domain, name string) (id string) {
	c.do(func(s *state, _ time.Time) {
		must(s.domains, "domain", domain)
		id = s.project(name, domain).id
	})
	return id
}

// AddUser makes a user of the domain Default and returns its id.
func (c *Cloud) AddUser(name, password string, grants ...Grant) (id string) {
	c.do(func(s *state, _ time.Time) { id = s.user(name, password, grants).id })
	return id
}

// SetEmail gives a user, named by its id, a mail address.
func (c *Cloud) SetEmail(user, email string) {
	c.do(func(s *state, _ time.Time) { must(s.users, "user", user).email = email })
}

// Grant gives a user, named by its id, more roles.
func (c *Cloud) Grant(user string, grants ...Grant) {
	c.do(func(s *state, _ time.Time) {
		u := must(s.users, "user", user)
		u.grants = append(u.grants, grants...)
	})
}

// Revoke takes roles away from a user. Tokens for what it has no role on any more
// are void at once.
func (c *Cloud) Revoke(user string, grants ...Grant) {
	c.do(func(s *state, _ time.Time) {
		u := must(s.users, "user", user)
		u.grants = slices.DeleteFunc(u.grants, func(g Grant) bool { return slices.Contains(grants, g) })
	})
}

// SetProjectEnabled disables a project, or enables it again. Tokens for a
// disabled one are void.
func (c *Cloud) SetProjectEnabled(project string, enabled bool) {
	c.do(func(s *state, _ time.Time) { must(s.projects, "project", project).enabled = enabled })
}

// DeleteProject removes a project from Keystone. As in reality its servers,
// volumes and backups stay where they are.
func (c *Cloud) DeleteProject(project string) {
	c.do(func(s *state, _ time.Time) { s.deleteProject(must(s.projects, "project", project)) })
}

// RevokeTokens makes every token of a user, named by its id, void; "" is
// everybody's.
func (c *Cloud) RevokeTokens(user string) {
	c.do(func(s *state, _ time.Time) {
		maps.DeleteFunc(s.tokens, func(_ string, t *token) bool { return user == "" || t.user.id == user })
	})
}

// SetQuota gives a project a quota of its own.
func (c *Cloud) SetQuota(project string, q Quota) {
	c.do(func(s *state, _ time.Time) { must(s.projects, "project", project).quota = &q })
}

// AddVolume makes a volume that is available at once, of a size in GiB, whatever
// the quota, and returns its id. Nobody is notified of what is built with Add.
func (c *Cloud) AddVolume(project, name string, size int, metadata map[string]string) (id string) {
	c.do(func(s *state, now time.Time) {
		p := must(s.projects, "project", project)
		v := &volume{id: s.uuid(), name: name, project: p, user: s.anyUser(p), status: "available", size: size,
			metadata: clone(metadata), scheduled: true, created: now, updated: now}
		s.addVolume(v)
		id = v.id
	})
	return id
}

// AddServer makes a server that is ACTIVE at once, with volumes attached, and
// returns its id.
func (c *Cloud) AddServer(project, name string, metadata map[string]string, volumes ...string) (id string) {
	c.do(func(s *state, now time.Time) {
		p := must(s.projects, "project", project)
		v := s.newServer(p, s.anyUser(p), name, now)
		v.status, v.task, v.metadata, v.launched = "ACTIVE", "", clone(metadata), now
		s.addServer(v)
		for _, volume := range volumes {
			s.attach(v, must(s.volumes, "volume", volume), false, now)
		}
		id = v.id
	})
	return id
}

// anyUser is somebody with a role on a project, to be the owner of what is built
// in it.
func (s *state) anyUser(p *project) string {
	for i := len(s.userOrder) - 1; i >= 0 && i > len(s.userOrder)-50; i-- {
		for _, g := range s.userOrder[i].grants {
			if g.Project == p.id {
				return s.userOrder[i].id
			}
		}
	}
	return s.userOrder[0].id
}

// Attach attaches a volume to a server at once, with notifications.
func (c *Cloud) Attach(server, volume string) {
	c.do(func(s *state, now time.Time) {
		s.attachNoisily(must(s.servers, "server", server), must(s.volumes, "volume", volume), false, now, s.nobody())
	})
}

// Detach detaches a volume from a server at once, with notifications.
func (c *Cloud) Detach(server, volume string) {
	c.do(func(s *state, now time.Time) {
		if a := must(s.servers, "server", server).attachment(volume); a != nil {
			s.detachNoisily(a, now, s.nobody())
		}
	})
}

// SetServerMetadata replaces a server's metadata, with notifications.
func (c *Cloud) SetServerMetadata(server string, metadata map[string]string) {
	c.do(func(s *state, now time.Time) {
		v := must(s.servers, "server", server)
		v.metadata, v.updated = clone(metadata), now
		s.notifyServerUpdate(v, v, now, s.nobody())
	})
}

// SetServerTags replaces a server's tags, with notifications.
func (c *Cloud) SetServerTags(server string, tags ...string) {
	c.do(func(s *state, now time.Time) {
		v := must(s.servers, "server", server)
		v.tags = slices.Sorted(slices.Values(tags))
		s.notifyServerUpdate(v, v, now, s.nobody())
	})
}

// SetServerStatus puts a server into a status, as an operator or a crash would,
// without notifications.
func (c *Cloud) SetServerStatus(server, status string) {
	c.do(func(s *state, now time.Time) {
		v := must(s.servers, "server", server)
		v.status, v.updated = status, now
	})
}

// SetServerLocked locks a server, as its owner would, or unlocks it, without
// notifications.
func (c *Cloud) SetServerLocked(server string, locked bool) {
	c.do(func(s *state, now time.Time) {
		v := must(s.servers, "server", server)
		v.lockedBy, v.lockedReason, v.updated = "", "", now
		if locked {
			v.lockedBy = "owner"
		}
	})
}

// DeleteServer deletes a server at once, with notifications.
func (c *Cloud) DeleteServer(server string) {
	c.do(func(s *state, now time.Time) { s.endServer(must(s.servers, "server", server), now, s.nobody()) })
}

// SetVolumeMetadata replaces a volume's metadata, as /volumes/ID/metadata does:
// without a notification.
func (c *Cloud) SetVolumeMetadata(volume string, metadata map[string]string) {
	c.do(func(s *state, now time.Time) {
		must(s.volumes, "volume", volume).metadata = clone(metadata)
	})
}

// SetVolumeStatus puts a volume into a status, without notifications.
func (c *Cloud) SetVolumeStatus(volume, status string) {
	c.do(func(s *state, now time.Time) {
		v := must(s.volumes, "volume", volume)
		v.status, v.updated = status, now
	})
}

// Extend makes a volume larger at once, with notifications.
func (c *Cloud) Extend(volume string, size int) {
	c.do(func(s *state, now time.Time) {
		v := must(s.volumes, "volume", volume)
		s.notifyVolume("resize.start", v, now, s.nobody())
		v.project.gigabytes += size - v.size
		v.size, v.updated = size, now
		s.notifyVolume("resize.end", v, now, s.nobody())
	})
}

// DeleteVolume deletes a volume at once, detaching it before, with notifications.
// Its backups stay.
func (c *Cloud) DeleteVolume(volume string) {
	c.do(func(s *state, now time.Time) {
		v := must(s.volumes, "volume", volume)
		for _, a := range slices.Clone(v.attached) {
			s.detachNoisily(a, now, s.nobody())
		}
		s.notifyVolume("delete.start", v, now, s.nobody())
		s.endVolume(v, now, s.nobody())
	})
}

// SetBackupStatus sets a backup's status, as a service that fails or an operator in
// the database does. It panics where there is no such backup.
func (c *Cloud) SetBackupStatus(backup, status string) {
	c.do(func(s *state, now time.Time) {
		b := must(s.backups, "backup", backup)
		b.status, b.updated = status, now
	})
}

// SetBackupMetadata replaces a backup's metadata.
func (c *Cloud) SetBackupMetadata(backup string, metadata map[string]string) {
	c.do(func(s *state, now time.Time) {
		b := must(s.backups, "backup", backup)
		b.metadata, b.updated = clone(metadata), now
	})
}

// CopyBackup copies the image of a backup to the default pool, where Ceph's driver
// looks for it when it restores, until it is undone.
func (c *Cloud) CopyBackup(backup string) (undo func()) {
	set := func(yes bool) {
		c.do(func(s *state, _ time.Time) {
			if s.copied == nil {
				s.copied = map[string]bool{}
			}
			s.copied[backup] = yes
		})
	}
	set(true)
	return func() { set(false) }
}

// DriftDependents changes what Cinder believes to be the number of a backup's
// incrementals, and not what they are.
func (c *Cloud) DriftDependents(backup string, by int) {
	c.do(func(s *state, _ time.Time) { must(s.backups, "backup", backup).dependents += by })
}

// SetNotifications changes which notifications are sent from now on.
func (c *Cloud) SetNotifications(f Format) {
	c.do(func(s *state, _ time.Time) { s.format = f })
}

// Seeded is what [Cloud.Seed] made, by name.
type Seeded struct {
	Projects, Users, Servers, Volumes map[string]string
}

// Seed makes what testutil/devcloud/seed makes on the real thing: the projects
// alpha, beta and gamma with their users alice, bob and carol (member), four
// servers each and fourteen volumes of 1 GiB; gamma has a quota of 2 backups. The
// service users are backup-svc (admin of project service, and inherited) and
// backup-min (member inherited, reader on the system). Every password is
// [Password].
func (c *Cloud) Seed() Seeded {
	out := Seeded{map[string]string{}, map[string]string{}, map[string]string{}, map[string]string{}}
	yes := map[string]string{"backup": "yes"}
	type vol struct {
		name     string
		metadata map[string]string
	}
	type srv struct {
		name     string
		metadata map[string]string
		volumes  []vol
	}
	var admin, service string
	c.do(func(s *state, _ time.Time) {
		for _, p := range s.projectOrder {
			out.Projects[p.name] = p.id
		}
		admin, service = out.Projects["admin"], out.Projects["service"]
		out.Users["admin"] = s.userOrder[0].id
	})
	_ = admin
	out.Users["backup-svc"] = c.AddUser("backup-svc", Password, On(service, "admin"), On(service, "service"), Inherited("admin"))
	c.SetEmail(out.Users["backup-svc"], "backup-svc@example.test")
	out.Users["backup-min"] = c.AddUser("backup-min", Password, Inherited("member"), System("reader"))
	for _, p := range []struct {
		project, user string
		servers       []srv
	}{
		{"alpha", "alice", []srv{
			{"web-1", yes, []vol{{"web-1-data", nil}}},
			{"db-1", yes, []vol{{"db-1-data", nil}, {"db-1-scratch", map[string]string{"skip-volume-backup": "true"}}}},
			{"batch-1", nil, []vol{{"batch-1-data", nil}}},
			{"cache-1", map[string]string{"backup": "no"}, []vol{{"cache-1-data", nil}}},
		}},
		{"beta", "bob", []srv{
			{"app-1", yes, []vol{{"app-1-data", nil}, {"app-1-logs", nil}}},
			{"app-2", yes, []vol{{"app-2-data", nil}}},
			{"mail-1", map[string]string{"backup": "yes", "tier": "gold"}, []vol{{"mail-1-data", nil}}},
			{"test-1", nil, []vol{{"test-1-data", nil}}},
		}},
		{"gamma", "carol", []srv{
			{"erp-1", yes, []vol{{"erp-1-data", nil}, {"erp-1-logs", nil}}},
			{"erp-2", yes, []vol{{"erp-2-data", nil}}},
			{"erp-3", yes, []vol{{"erp-3-data", nil}}},
			{"idle-1", nil, nil},
		}},
	} {
		id := c.AddProject(p.project)
		out.Projects[p.project] = id
		out.Users[p.user] = c.AddUser(p.user, Password, On(id, "member"))
		c.SetEmail(out.Users[p.user], p.user+"@"+p.project+".example.test")
		for _, v := range p.servers {
			var volumes []string
			for _, w := range v.volumes {
				out.Volumes[w.name] = c.AddVolume(id, w.name, 1, w.metadata)
				volumes = append(volumes, out.Volumes[w.name])
			}
			out.Servers[v.name] = c.AddServer(id, v.name, v.metadata, volumes...)
		}
	}
	gamma := DefaultQuota
	gamma.Backups = 2
	c.SetQuota(out.Projects["gamma"], gamma)
	return out
}

func clone(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return maps.Clone(m)
}
