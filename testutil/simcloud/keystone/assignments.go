package keystone

import (
	"slices"
	"strings"
	"time"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
)

func listRoles(s *model.State, q *api.Request, _ time.Time) api.Answer {
	if !allowed(q.Token, false) {
		return forbiddenBy("list_roles")
	}
	out := []any{}
	for _, r := range model.RoleNames {
		if q.Asked("name", r.Name) {
			out = append(out, map[string]any{"id": s.Roles[r.Name], "name": r.Name, "domain_id": nil, "description": nil,
				"options": map[string]any{}, "links": map[string]string{"self": s.Options.Base + api.IdentityPath +
					"/roles/" + s.Roles[r.Name]}})
		}
	}
	return collection(s, q, "roles", out)
}

// assignment finds what PUT and DELETE /projects/P/users/U/roles/R are about, and
// /projects/P/groups/G/roles/R: the grants of the user or group, and the one named.
func assignment(s *model.State, q *api.Request, rule string) (held *[]model.Grant, g model.Grant, a api.Answer) {
	if !allowed(q.Token, true) {
		return nil, model.Grant{}, forbiddenBy(rule)
	}
	p := s.Projects[q.Args[0]]
	if p == nil {
		return nil, model.Grant{}, api.KeystoneFail(404, "Could not find project: %s.", q.Args[0])
	}
	if q.Path[2] == "groups" {
		group := s.Groups.Find(q.Args[1])
		if group == nil {
			return nil, model.Grant{}, api.KeystoneFail(404, "Could not find group: %s.", q.Args[1])
		}
		held = &group.Grants
	} else {
		u := s.Users[q.Args[1]]
		if u == nil {
			return nil, model.Grant{}, api.KeystoneFail(404, "Could not find user: %s.", q.Args[1])
		}
		held = &u.Grants
	}
	for name, id := range s.Roles {
		if id == q.Args[2] {
			return held, model.On(p.ID, name), api.Answer{}
		}
	}
	return nil, model.Grant{}, api.KeystoneFail(404, "Could not find role: %s.", q.Args[2])
}

func grantRole(s *model.State, q *api.Request, _ time.Time) api.Answer {
	held, g, a := assignment(s, q, "create_grant")
	if held == nil {
		return a
	}
	if !slices.Contains(*held, g) {
		*held = append(*held, g)
	}
	return api.Done(204)
}

func takeRole(s *model.State, q *api.Request, _ time.Time) api.Answer {
	held, g, a := assignment(s, q, "revoke_grant")
	if held == nil {
		return a
	}
	i := slices.Index(*held, g)
	if i < 0 {
		return api.KeystoneFail(404, "Could not find role assignment with role: %s, user or group: %s, project, "+
			"domain, or system: %s.", q.Args[2], q.Args[1], q.Args[0])
	}
	*held = slices.Delete(*held, i, i+1)
	return api.Done(204)
}

// A roleRow is one row of GET /v3/role_assignments.
type roleRow struct {
	user  *model.User
	group *model.Group // whose role it is, or by which the user has it
	grant model.Grant
	// project is where it counts, where that is a project.
	project *model.Project
	// role is the one in effect, prior the one that implies it, "" for the one granted.
	role, prior string
}

// listAssignments is GET /v3/role_assignments, with and without effective,
// include_names, scope.project.id, user.id, group.id and role.id. In effect, groups
// are their members, inherited roles are on projects, and what a role implies is
// listed, too. Source: keystone/api/role_assignments.py, keystone/assignment/core.py.
func listAssignments(s *model.State, q *api.Request, _ time.Time) api.Answer {
	if !allowed(q.Token, false) {
		return forbiddenBy("list_role_assignments")
	}
	flag := func(name string) bool { return q.Query.Has(name) && q.Query.Get(name) != "0" }
	effective := flag("effective")
	of := s.Projects[q.Query.Get("scope.project.id")]
	if id := q.Query.Get("scope.project.id"); id != "" && of == nil {
		return api.KeystoneFail(404, "Could not find project: %s.", id)
	}
	if id := q.Query.Get("user.id"); effective && id != "" && s.Users[id] == nil {
		return api.KeystoneFail(404, "Could not find user: %s.", id) // it looks for its groups
	}
	wants := func(name, id string) bool { return q.Query.Get(name) == "" || q.Query.Get(name) == id }

	var direct, inherited []roleRow
	each := func(u *model.User, g *model.Group, grants []model.Grant) {
		for _, grant := range grants {
			row := roleRow{user: u, group: g, grant: grant, role: grant.Role}
			switch {
			case grant.Project != "":
				if row.project = s.Projects[grant.Project]; row.project != nil && (of == nil || of == row.project) {
					direct = append(direct, row)
				}
			case grant.Inherited && effective:
				for _, p := range s.ProjectOrder {
					if row.project = p; p.Domain.ID == grant.Domain && (of == nil || of == p) {
						inherited = append(inherited, row)
					}
				}
			case of == nil:
				direct = append(direct, row)
			}
		}
	}
	for _, u := range s.UserOrder {
		if wants("user.id", u.ID) && !q.Query.Has("group.id") {
			each(u, nil, u.Grants)
		}
	}
	for _, g := range s.Groups {
		switch {
		case !effective && wants("group.id", g.ID) && !q.Query.Has("user.id"):
			each(nil, g, g.Grants)
		case effective:
			for _, grant := range g.Grants {
				for _, u := range g.Users {
					if wants("user.id", u.ID) {
						each(u, g, []model.Grant{grant})
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
		if wants("role.id", s.Roles[row.role]) {
			out = append(out, roleBody(s, row, effective, flag("include_names")))
		}
	}
	return collection(s, q, "role_assignments", out)
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

func roleBody(s *model.State, row roleRow, effective, named bool) any {
	ref := func(id, name string, d *model.Domain) map[string]any {
		r := map[string]any{"id": id}
		if named {
			r["name"] = name
			if d != nil {
				r["domain"] = domainRef(d)
			}
		}
		return r
	}
	address := s.Options.Base + api.IdentityPath
	// The row of an implied role has the one before it in its address.
	role := row.role
	if row.prior != "" {
		role = row.prior
	}
	var holder strings.Builder
	if row.group != nil {
		holder.WriteString("/groups/" + row.group.ID)
	} else {
		holder.WriteString("/users/" + row.user.ID)
	}
	holder.WriteString("/roles/" + s.Roles[role])
	links := map[string]string{}
	out := map[string]any{"role": ref(s.Roles[row.role], row.role, nil), "links": links}
	if row.user != nil {
		out["user"] = ref(row.user.ID, row.user.Name, row.user.Domain)
	} else {
		out["group"] = ref(row.group.ID, row.group.Name, row.group.Domain)
	}
	if row.user != nil && row.group != nil {
		links["membership"] = address + "/groups/" + row.group.ID + "/users/" + row.user.ID
	}
	if row.prior != "" {
		links["prior_role"] = address + "/prior_role/" + s.Roles[row.role] + "/implies/" + s.Roles[row.prior]
	}
	var scope map[string]any
	switch g := row.grant; {
	case g.System:
		scope = map[string]any{"system": map[string]bool{"all": true}}
		links["assignment"] = address + "/system" + holder.String()
	case g.Project != "":
		scope = map[string]any{"project": ref(row.project.ID, row.project.Name, row.project.Domain)}
		links["assignment"] = address + "/projects/" + row.project.ID + holder.String()
	default:
		if effective && g.Inherited {
			scope = map[string]any{"project": ref(row.project.ID, row.project.Name, row.project.Domain)}
		} else {
			scope = map[string]any{"domain": ref(g.Domain, s.Domains[g.Domain].Name, nil)}
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
