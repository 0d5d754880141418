package model

import (
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

// Password is that of every user of a seeded cloud, and of admin.
const Password = "devcloud"

// NewProject makes a project in a domain, which is named by its id.
func (s *State) NewProject(name, domain string) *Project {
	p := &Project{ID: s.Hex(), Name: name, Domain: s.Domains[domain], Enabled: true}
	s.Projects[p.ID], s.Tenants[p.ID] = p, p
	s.ProjectOrder = append(s.ProjectOrder, p)
	return p
}

// NewUser makes a user of the domain Default.
func (s *State) NewUser(name, password string, grants []Grant) *User {
	u := &User{ID: s.Hex(), Name: name, Password: password, Domain: s.Domains[DefaultDomain], Enabled: true,
		Grants: slices.Clone(grants)}
	s.Users[u.ID] = u
	s.UserOrder = append(s.UserOrder, u)
	return u
}

// DeleteProject removes a project from Keystone, and every role on it. Nova and Cinder
// keep what they have of it.
func (s *State) DeleteProject(p *Project) {
	delete(s.Projects, p.ID)
	s.ProjectOrder = slices.DeleteFunc(s.ProjectOrder, func(x *Project) bool { return x == p })
	for _, u := range s.UserOrder {
		u.Grants = slices.DeleteFunc(u.Grants, func(g Grant) bool { return g.Project == p.ID })
	}
	for _, x := range s.Groups {
		x.Grants = slices.DeleteFunc(x.Grants, func(g Grant) bool { return g.Project == p.ID })
	}
}

// A Group is users that have roles together.
type Group struct {
	ID, Name, Description string
	Domain                *Domain
	Users                 []*User
	Grants                []Grant
}

// Groups are Keystone's, in the order they were made.
type Groups []*Group

// Find is the group with an id; nil if there is none.
func (gs Groups) Find(id string) *Group {
	for _, g := range gs {
		if g.ID == id {
			return g
		}
	}
	return nil
}

// NewGroup makes a group of the domain Default.
func (s *State) NewGroup(name string, grants []Grant) *Group {
	g := &Group{ID: s.Hex(), Name: name, Domain: s.Domains[DefaultDomain], Grants: slices.Clone(grants)}
	s.Groups = append(s.Groups, g)
	return g
}

// Join makes a user a member of a group.
func (s *State) Join(g *Group, u *User) {
	if !slices.Contains(g.Users, u) {
		g.Users = append(g.Users, u)
		u.Groups = append(u.Groups, g)
	}
}

// Leave says whether the user was in the group.
func (s *State) Leave(g *Group, u *User) bool {
	i := slices.Index(g.Users, u)
	if i < 0 {
		return false
	}
	g.Users = slices.Delete(g.Users, i, i+1)
	u.Groups = slices.DeleteFunc(u.Groups, func(x *Group) bool { return x == g })
	return true
}

// held are a user's roles, those of its groups among them.
func (u *User) held() []Grant {
	if len(u.Groups) == 0 {
		return u.Grants
	}
	all := slices.Clone(u.Grants)
	for _, g := range u.Groups {
		all = append(all, g.Grants...)
	}
	return all
}

// A Domain, a project, a user: Keystone's rows.
type Domain struct{ ID, Name string }

// A Project is one of Keystone's, with what Nova and Cinder have of it.
type Project struct {
	ID, Name, Description string
	Domain                *Domain
	Enabled               bool

	Servers Order[*ServerRow]
	Volumes Order[*VolumeRow]
	Backups Order[*BackupRow]

	Quota     *Quota // nil is the default
	Gigabytes int    // of volumes
	BackupGB  int
}

// A User is one of Keystone's.
type User struct {
	ID, Name, Password, Email string
	Domain                    *Domain
	Enabled                   bool
	DefaultProject            string
	Grants                    []Grant
	Groups                    []*Group
}

// A Token is good for one user and one scope, until it expires.
type Token struct {
	ID      string
	User    *User
	Project *Project
	Domain  *Domain
	System  bool
	Methods []string
	Audit   string
	Issued  time.Time
	Expires time.Time
}
