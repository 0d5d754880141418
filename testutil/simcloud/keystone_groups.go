package simcloud

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// A group is users that have roles together.
type group struct {
	id, name, description string
	domain                *domain
	users                 []*user
	grants                []Grant
}

// groups are Keystone's, in the order they were made.
type groups []*group

func (gs groups) find(id string) *group {
	for _, g := range gs {
		if g.id == id {
			return g
		}
	}
	return nil
}

// AddGroup makes a group of the domain Default with roles, which its members have
// then, and returns its id.
func (c *Cloud) AddGroup(name string, grants ...Grant) (id string) {
	c.do(func(s *state, _ time.Time) { id = s.group(name, grants).id })
	return id
}

func (s *state) group(name string, grants []Grant) *group {
	g := &group{id: s.hex(), name: name, domain: s.domains[DefaultDomain], grants: slices.Clone(grants)}
	s.groups = append(s.groups, g)
	return g
}

// AddToGroup makes users members of a group, all named by their ids.
func (c *Cloud) AddToGroup(group string, users ...string) {
	c.do(func(s *state, _ time.Time) {
		for _, u := range users {
			s.join(mustGroup(s, group), must(s.users, "user", u))
		}
	})
}

// RemoveFromGroup ends that.
func (c *Cloud) RemoveFromGroup(group string, users ...string) {
	c.do(func(s *state, _ time.Time) {
		for _, u := range users {
			s.leave(mustGroup(s, group), must(s.users, "user", u))
		}
	})
}

// SetUserEnabled disables a user, named by its id, or enables it again. It keeps its
// roles; its tokens are void while it is disabled.
func (c *Cloud) SetUserEnabled(user string, enabled bool) {
	c.do(func(s *state, _ time.Time) { must(s.users, "user", user).enabled = enabled })
}

func mustGroup(s *state, id string) *group {
	g := s.groups.find(id)
	if g == nil {
		panic("simcloud: no group " + id)
	}
	return g
}

func (s *state) join(g *group, u *user) {
	if !slices.Contains(g.users, u) {
		g.users = append(g.users, u)
		u.groups = append(u.groups, g)
	}
}

// leave says whether the user was in the group.
func (s *state) leave(g *group, u *user) bool {
	i := slices.Index(g.users, u)
	if i < 0 {
		return false
	}
	g.users = slices.Delete(g.users, i, i+1)
	u.groups = slices.DeleteFunc(u.groups, func(x *group) bool { return x == g })
	return true
}

// held are a user's roles, those of its groups among them.
func (u *user) held() []Grant {
	if len(u.groups) == 0 {
		return u.grants
	}
	all := slices.Clone(u.grants)
	for _, g := range u.groups {
		all = append(all, g.grants...)
	}
	return all
}

func (s *state) groupBody(g *group) any {
	return map[string]any{"id": g.id, "name": g.name, "domain_id": g.domain.id, "description": g.description,
		"links": map[string]string{"self": s.o.Base + identityPath + "/groups/" + g.id}}
}

func (s *state) listGroups(q *request, _ time.Time) answer {
	if !q.token.allowed(false) {
		return forbiddenBy("list_groups")
	}
	out := []any{}
	for _, g := range s.groups {
		if q.asked("name", g.name) && q.asked("domain_id", g.domain.id) {
			out = append(out, s.groupBody(g))
		}
	}
	return s.collection(q, "groups", out)
}

// groupOf finds the group that a request is about; nil with an answer.
func (s *state) groupOf(q *request, write bool, rule, id string) (*group, answer) {
	if !q.token.allowed(write) {
		return nil, forbiddenBy(rule)
	}
	g := s.groups.find(id)
	if g == nil {
		return nil, keystoneFail(404, "Could not find group: %s.", id)
	}
	return g, answer{}
}

func (s *state) makeGroup(q *request, _ time.Time) answer {
	if !q.token.allowed(true) {
		return forbiddenBy("create_group")
	}
	var in struct {
		Group struct {
			Name        string `json:"name"`
			Description string `json:"description"`
		} `json:"group"`
	}
	if err := json.Unmarshal(q.body, &in); err != nil || in.Group.Name == "" {
		return keystoneFail(400, "'name' is a required property")
	}
	for _, g := range s.groups {
		if g.name == in.Group.Name {
			return keystoneFail(409, "Conflict occurred attempting to store group - Duplicate entry found with name %s at domain ID %s.", g.name, g.domain.id)
		}
	}
	g := s.group(in.Group.Name, nil)
	g.description = in.Group.Description
	return answer{status: 201, body: map[string]any{"group": s.groupBody(g)}}
}

func (s *state) showGroup(q *request, _ time.Time) answer {
	g, a := s.groupOf(q, false, "get_group", q.args[0])
	if g == nil {
		return a
	}
	return ok(map[string]any{"group": s.groupBody(g)})
}

func (s *state) removeGroup(q *request, _ time.Time) answer {
	g, a := s.groupOf(q, true, "delete_group", q.args[0])
	if g == nil {
		return a
	}
	for _, u := range slices.Clone(g.users) {
		s.leave(g, u)
	}
	s.groups = slices.DeleteFunc(s.groups, func(x *group) bool { return x == g })
	return done(204)
}

func (s *state) groupUsers(q *request, _ time.Time) answer {
	g, a := s.groupOf(q, false, "list_users_in_group", q.args[0])
	if g == nil {
		return a
	}
	out := []any{}
	for _, u := range g.users {
		out = append(out, s.userBody(u))
	}
	return s.collection(q, "users", out)
}

func (s *state) joinGroup(q *request, _ time.Time) answer {
	g, a := s.groupOf(q, true, "add_user_to_group", q.args[0])
	if g == nil {
		return a
	}
	u := s.users[q.args[1]]
	if u == nil {
		return keystoneFail(404, "Could not find user: %s.", q.args[1])
	}
	s.join(g, u)
	return done(204)
}

func (s *state) leaveGroup(q *request, _ time.Time) answer {
	g, a := s.groupOf(q, true, "remove_user_from_group", q.args[0])
	if g == nil {
		return a
	}
	u := s.users[q.args[1]]
	if u == nil {
		return keystoneFail(404, "Could not find user: %s.", q.args[1])
	}
	if !s.leave(g, u) {
		return keystoneFail(404, "User '%s' not found in group '%s'", u.id, g.id)
	}
	return done(204)
}

// A roleRow is one row of GET /v3/role_assignments.
type roleRow struct {
	user  *user
	group *group // whose role it is, or by which the user has it
	grant Grant
	// project is where it counts, where that is a project.
	project *project
	// role is the one in effect, prior the one that implies it, "" for the one granted.
	role, prior string
}

// listAssignments is GET /v3/role_assignments, with and without effective,
// include_names, scope.project.id, user.id, group.id and role.id. In effect, groups
// are their members, inherited roles are on projects, and what a role implies is
// listed, too. Source: keystone/api/role_assignments.py, keystone/assignment/core.py.
func (s *state) listAssignments(q *request, _ time.Time) answer {
	if !q.token.allowed(false) {
		return forbiddenBy("list_role_assignments")
	}
	flag := func(name string) bool { return q.query.Has(name) && q.query.Get(name) != "0" }
	effective := flag("effective")
	of := s.projects[q.query.Get("scope.project.id")]
	if id := q.query.Get("scope.project.id"); id != "" && of == nil {
		return keystoneFail(404, "Could not find project: %s.", id)
	}
	if id := q.query.Get("user.id"); effective && id != "" && s.users[id] == nil {
		return keystoneFail(404, "Could not find user: %s.", id) // it looks for its groups
	}
	wants := func(name, id string) bool { return q.query.Get(name) == "" || q.query.Get(name) == id }

	var direct, inherited []roleRow
	each := func(u *user, g *group, grants []Grant) {
		for _, grant := range grants {
			row := roleRow{user: u, group: g, grant: grant, role: grant.Role}
			switch {
			case grant.Project != "":
				if row.project = s.projects[grant.Project]; row.project != nil && (of == nil || of == row.project) {
					direct = append(direct, row)
				}
			case grant.Inherited && effective:
				for _, p := range s.projectOrder {
					if row.project = p; p.domain.id == grant.Domain && (of == nil || of == p) {
						inherited = append(inherited, row)
					}
				}
			case of == nil:
				direct = append(direct, row)
			}
		}
	}
	for _, u := range s.userOrder {
		if wants("user.id", u.id) && !q.query.Has("group.id") {
			each(u, nil, u.grants)
		}
	}
	for _, g := range s.groups {
		switch {
		case !effective && wants("group.id", g.id) && !q.query.Has("user.id"):
			each(nil, g, g.grants)
		case effective:
			for _, grant := range g.grants {
				for _, u := range g.users {
					if wants("user.id", u.id) {
						each(u, g, []Grant{grant})
					}
				}
			}
		}
	}
	rows := append(direct, inherited...)
	if effective {
		rows = withImplied(rows)
	}
	out := []any{}
	for _, row := range rows {
		if wants("role.id", s.roles[row.role]) {
			out = append(out, s.roleBody(row, effective, flag("include_names")))
		}
	}
	return s.collection(q, "role_assignments", out)
}

// withImplied adds the rows of implied roles, in Keystone's order: it begins at the
// end (assignment/core.py, _add_implied_roles).
func withImplied(rows []roleRow) []roleRow {
	implies := map[string]string{"admin": "member", "member": "reader"}
	for i := len(rows) - 1; i >= 0; i-- {
		row := rows[i]
		for role := implies[row.role]; role != ""; role = implies[role] {
			row.prior, row.role = row.role, role
			rows = append(rows, row)
		}
	}
	return rows
}

func (s *state) roleBody(row roleRow, effective, named bool) any {
	ref := func(id, name string, d *domain) map[string]any {
		r := map[string]any{"id": id}
		if named {
			r["name"] = name
			if d != nil {
				r["domain"] = domainRef(d)
			}
		}
		return r
	}
	address := s.o.Base + identityPath
	// The row of an implied role has the one before it in its address.
	role := row.role
	if row.prior != "" {
		role = row.prior
	}
	var holder strings.Builder
	if row.group != nil {
		holder.WriteString("/groups/" + row.group.id)
	} else {
		holder.WriteString("/users/" + row.user.id)
	}
	holder.WriteString("/roles/" + s.roles[role])
	links := map[string]string{}
	out := map[string]any{"role": ref(s.roles[row.role], row.role, nil), "links": links}
	if row.user != nil {
		out["user"] = ref(row.user.id, row.user.name, row.user.domain)
	} else {
		out["group"] = ref(row.group.id, row.group.name, row.group.domain)
	}
	if row.user != nil && row.group != nil {
		links["membership"] = address + "/groups/" + row.group.id + "/users/" + row.user.id
	}
	if row.prior != "" {
		links["prior_role"] = address + "/prior_role/" + s.roles[row.role] + "/implies/" + s.roles[row.prior]
	}
	var scope map[string]any
	switch g := row.grant; {
	case g.System:
		scope = map[string]any{"system": map[string]bool{"all": true}}
		links["assignment"] = address + "/system" + holder.String()
	case g.Project != "":
		scope = map[string]any{"project": ref(row.project.id, row.project.name, row.project.domain)}
		links["assignment"] = address + "/projects/" + row.project.id + holder.String()
	default:
		if effective && g.Inherited {
			scope = map[string]any{"project": ref(row.project.id, row.project.name, row.project.domain)}
		} else {
			scope = map[string]any{"domain": ref(g.Domain, s.domains[g.Domain].name, nil)}
		}
		links["assignment"] = address + "/domains/" + g.Domain + holder.String()
		if g.Inherited {
			scope["OS-INHERIT:inherited_to"] = "projects"
			links["assignment"] = address + "/OS-INHERIT/domains/" + g.Domain + holder.String() + "/inherited_to_projects"
		}
	}
	out["scope"] = scope
	return out
}
