// Package keystone answers as Keystone: tokens, projects, users, groups and roles.
package keystone

import (
	"slices"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
)

// Routes are Keystone's.
var Routes = []api.Route{
	{Method: "POST", Pattern: "auth/tokens", Do: makeToken, Open: true},
	{Method: "GET", Pattern: "auth/tokens", Do: showToken},
	{Method: "DELETE", Pattern: "auth/tokens", Do: revokeToken},
	{Method: "GET", Pattern: "auth/projects", Do: myProjects},
	{Method: "GET", Pattern: "auth/domains", Do: myDomains},
	{Method: "GET", Pattern: "auth/system", Do: mySystem},
	{Method: "GET", Pattern: "auth/catalog", Do: showCatalog},
	{Method: "GET", Pattern: "projects", Do: listProjects},
	{Method: "POST", Pattern: "projects", Do: makeProject},
	{Method: "GET", Pattern: "projects/ID", Do: showProject},
	{Method: "PATCH", Pattern: "projects/ID", Do: updateProject},
	{Method: "DELETE", Pattern: "projects/ID", Do: removeProject},
	{Method: "GET", Pattern: "users", Do: listUsers},
	{Method: "POST", Pattern: "users", Do: makeUser},
	{Method: "GET", Pattern: "users/ID", Do: showUser},
	{Method: "PATCH", Pattern: "users/ID", Do: updateUser},
	{Method: "DELETE", Pattern: "users/ID", Do: removeUser},
	{Method: "GET", Pattern: "roles", Do: listRoles},
	{Method: "GET", Pattern: "domains", Do: listDomains},
	{Method: "GET", Pattern: "domains/ID", Do: showDomain},
	{Method: "GET", Pattern: "groups", Do: listGroups},
	{Method: "POST", Pattern: "groups", Do: makeGroup},
	{Method: "GET", Pattern: "groups/ID", Do: showGroup},
	{Method: "DELETE", Pattern: "groups/ID", Do: removeGroup},
	{Method: "GET", Pattern: "groups/ID/users", Do: groupUsers},
	{Method: "PUT", Pattern: "groups/ID/users/ID", Do: joinGroup},
	{Method: "DELETE", Pattern: "groups/ID/users/ID", Do: leaveGroup},
	{Method: "GET", Pattern: "role_assignments", Do: listAssignments},
	{Method: "PUT", Pattern: "projects/ID/users/ID/roles/ID", Do: grantRole},
	{Method: "DELETE", Pattern: "projects/ID/users/ID/roles/ID", Do: takeRole},
	{Method: "PUT", Pattern: "projects/ID/groups/ID/roles/ID", Do: grantRole},
	{Method: "DELETE", Pattern: "projects/ID/groups/ID/roles/ID", Do: takeRole},
}

// allowed says whether Keystone's default policy lets a token read (or, with
// write, change) what is not its own. Source: keystone/common/policies/base.py.
func allowed(t *model.Token, write bool) bool {
	if t.Admin() {
		return true
	}
	return !write && t.System && t.Roles()&model.RoleReader != 0
}

func forbiddenBy(rule string) api.Answer {
	if rule == "" {
		return api.KeystoneFail(403, "You are not authorized to perform the requested action.")
	}
	return api.KeystoneFail(403, "You are not authorized to perform the requested action: identity:%s.", rule)
}

// collection is a list of Keystone's: it is never cut.
func collection(s *model.State, q *api.Request, name string, items any) api.Answer {
	return api.OK(map[string]any{name: items, "links": map[string]any{"next": nil, "previous": nil,
		"self": s.Options.Base + q.Raw}})
}

func askedBool(q *api.Request, name string, value bool) bool {
	want, ok := q.Query[name]
	return !ok || !slices.Contains([]string{"false", "0", "False", "no"}, want[0]) == value
}
