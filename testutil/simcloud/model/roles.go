package model

import (
	"time"
)

// Roles are a set of them.
type Roles int

// The roles, each a bit.
const (
	RoleReader Roles = 1 << iota
	roleMember
	roleAdmin
	roleService
)

// RoleNames are the roles in the order in which Keystone tells them.
var RoleNames = []struct {
	Bit  Roles
	Name string
}{{roleAdmin, "admin"}, {roleMember, "member"}, {RoleReader, "reader"}, {roleService, "service"}}

// implied is a role with what it implies: admin, member, reader.
func implied(name string) Roles {
	switch name {
	case "admin":
		return roleAdmin | roleMember | RoleReader
	case "member":
		return roleMember | RoleReader
	case "reader":
		return RoleReader
	case "service":
		return roleService
	}
	return 0
}

// RolesOn are a user's roles on a project.
func (u *User) RolesOn(p *Project) (out Roles) {
	for _, g := range u.held() {
		if g.Project != "" && g.Project == p.ID || g.Inherited && g.Domain == p.Domain.ID {
			out |= implied(g.Role)
		}
	}
	return out
}

// RolesOnDomain are a user's roles on a domain itself, not on its projects.
func (u *User) RolesOnDomain(d *Domain) (out Roles) {
	for _, g := range u.held() {
		if g.Domain == d.ID && !g.Inherited {
			out |= implied(g.Role)
		}
	}
	return out
}

// RolesOnSystem are a user's roles on the system.
func (u *User) RolesOnSystem() (out Roles) {
	for _, g := range u.held() {
		if g.System {
			out |= implied(g.Role)
		}
	}
	return out
}

// Scoped says whether a token is for anything.
func (t *Token) Scoped() bool { return t.Project != nil || t.Domain != nil || t.System }

// Roles are those a token has now: Keystone looks them up each time.
func (t *Token) Roles() Roles {
	switch {
	case t.Project != nil:
		return t.User.RolesOn(t.Project)
	case t.Domain != nil:
		return t.User.RolesOnDomain(t.Domain)
	case t.System:
		return t.User.RolesOnSystem()
	}
	return 0
}

// Admin is what Nova and Cinder take for an administrator.
func (t *Token) Admin() bool { return t.Roles()&roleAdmin != 0 }

// Authenticate finds a token that is good; nil for none.
func (s *State) Authenticate(id string, now time.Time) *Token {
	t := s.Tokens[id]
	if t == nil || !now.Before(t.Expires) || !t.User.Enabled || s.Users[t.User.ID] == nil {
		return nil
	}
	if t.Project != nil && (!t.Project.Enabled || s.Projects[t.Project.ID] == nil) {
		return nil
	}
	if t.Scoped() && t.Roles() == 0 {
		return nil
	}
	return t
}
