package simcloud

import (
	"time"

	"staffeln/testutil/simcloud/model"
)

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
	c.do(func(s *model.State, _ time.Time) {
		for _, p := range s.ProjectOrder {
			out.Projects[p.Name] = p.ID
		}
		admin, service = out.Projects["admin"], out.Projects["service"]
		out.Users["admin"] = s.UserOrder[0].ID
	})
	_ = admin
	out.Users["backup-svc"] = c.AddUser("backup-svc", Password, On(service, "admin"), On(service, "service"),
		Inherited("admin"))
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
