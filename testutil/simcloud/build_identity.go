package simcloud

import (
	"maps"
	"slices"
	"time"

	"staffeln/testutil/simcloud/model"
)

// AddDomain makes a domain and returns its id.
func (c *Cloud) AddDomain(name string) (id string) {
	c.do(func(s *model.State, _ time.Time) {
		id = s.Hex()
		s.Domains[id] = &model.Domain{ID: id, Name: name}
	})
	return id
}

// AddProject makes a project in the domain Default and returns its id.
func (c *Cloud) AddProject(name string) string { return c.AddProjectIn(DefaultDomain, name) }

// AddProjectIn makes a project in a domain, named by its id. Names are not
// checked for being unique. It panics where there is no such domain.
func (c *Cloud) AddProjectIn(domain, name string) (id string) {
	c.do(func(s *model.State, _ time.Time) {
		must(s.Domains, "domain", domain)
		id = s.NewProject(name, domain).ID
	})
	return id
}

// AddUser makes a user of the domain Default and returns its id.
func (c *Cloud) AddUser(name, password string, grants ...model.Grant) (id string) {
	c.do(func(s *model.State, _ time.Time) { id = s.NewUser(name, password, grants).ID })
	return id
}

// SetEmail gives a user, named by its id, a mail address.
func (c *Cloud) SetEmail(user, email string) {
	c.do(func(s *model.State, _ time.Time) { must(s.Users, "user", user).Email = email })
}

// Grant gives a user, named by its id, more roles.
func (c *Cloud) Grant(user string, grants ...model.Grant) {
	c.do(func(s *model.State, _ time.Time) {
		u := must(s.Users, "user", user)
		u.Grants = append(u.Grants, grants...)
	})
}

// Revoke takes roles away from a user. Tokens for what it has no role on any more
// are void at once.
func (c *Cloud) Revoke(user string, grants ...model.Grant) {
	c.do(func(s *model.State, _ time.Time) {
		u := must(s.Users, "user", user)
		u.Grants = slices.DeleteFunc(u.Grants, func(g Grant) bool { return slices.Contains(grants, g) })
	})
}

// SetProjectEnabled disables a project, or enables it again. Tokens for a
// disabled one are void.
func (c *Cloud) SetProjectEnabled(project string, enabled bool) {
	c.do(func(s *model.State, _ time.Time) { must(s.Projects, "project", project).Enabled = enabled })
}

// DeleteProject removes a project from Keystone. As in reality its servers,
// volumes and backups stay where they are.
func (c *Cloud) DeleteProject(project string) {
	c.do(func(s *model.State, _ time.Time) { s.DeleteProject(must(s.Projects, "project", project)) })
}

// RevokeTokens makes every token of a user, named by its id, void; "" is
// everybody's.
func (c *Cloud) RevokeTokens(user string) {
	c.do(func(s *model.State, _ time.Time) {
		maps.DeleteFunc(s.Tokens, func(_ string, t *model.Token) bool { return user == "" || t.User.ID == user })
	})
}

// SetQuota gives a project a quota of its own.
func (c *Cloud) SetQuota(project string, q Quota) {
	c.do(func(s *model.State, _ time.Time) { must(s.Projects, "project", project).Quota = &q })
}

// AddGroup makes a group of the domain Default with roles, which its members have
// then, and returns its id.
func (c *Cloud) AddGroup(name string, grants ...model.Grant) (id string) {
	c.do(func(s *model.State, _ time.Time) { id = s.NewGroup(name, grants).ID })
	return id
}

// AddToGroup makes users members of a group, all named by their ids.
func (c *Cloud) AddToGroup(group string, users ...string) {
	c.do(func(s *model.State, _ time.Time) {
		for _, u := range users {
			s.Join(mustGroup(s, group), must(s.Users, "user", u))
		}
	})
}

// RemoveFromGroup ends that.
func (c *Cloud) RemoveFromGroup(group string, users ...string) {
	c.do(func(s *model.State, _ time.Time) {
		for _, u := range users {
			s.Leave(mustGroup(s, group), must(s.Users, "user", u))
		}
	})
}

// SetUserEnabled disables a user, named by its id, or enables it again. It keeps its
// roles; its tokens are void while it is disabled.
func (c *Cloud) SetUserEnabled(user string, enabled bool) {
	c.do(func(s *model.State, _ time.Time) { must(s.Users, "user", user).Enabled = enabled })
}

func mustGroup(s *model.State, id string) *model.Group {
	g := s.Groups.Find(id)
	if g == nil {
		panic("simcloud: no group " + id)
	}
	return g
}
