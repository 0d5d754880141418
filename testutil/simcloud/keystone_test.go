package simcloud

import (
	"fmt"
	"strings"
	"testing"
)

// A role on a project is given and taken by the same words for a user and a group;
// what a group has, its members have.
func TestGrants(t *testing.T) {
	for _, kind := range []string{"user", "group"} {
		t.Run(kind, func(t *testing.T) {
			r := newRig(t, Options{})
			user := r.AddUser("another", "secret")
			group := r.AddGroup("others")
			r.AddToGroup(group, user)
			holder, role := map[string]string{"user": user, "group": group}[kind], r.state.Roles["member"]
			path := func(project, holder, role string) string {
				return fmt.Sprintf("identity/projects/%s/%ss/%s/roles/%s", project, kind, holder, role)
			}
			refused := func(c *caller, what string, status int, says string) {
				t.Helper()
				if out := c.must(status, what, ""); !strings.Contains(fmt.Sprint(out), says) {
					t.Errorf("%s: %v, want %q", what, out, says)
				}
			}
			held := func() string {
				rows := r.admin.must(200, "GET identity/role_assignments?scope.project.id="+r.project+"&"+kind+".id="+
					holder, "")["role_assignments"].([]any)
				return fmt.Sprint(len(rows))
			}
			grant, take := "PUT "+path(r.project, holder, role), "DELETE "+path(r.project, holder, role)

			for _, method := range []string{"PUT ", "DELETE "} {
				refused(r.admin, method+path("nowhere", holder, role), 404, "Could not find project: nowhere.")
				refused(r.admin, method+path(r.project, "nobody", role), 404, "Could not find "+kind+": nobody.")
				refused(r.admin, method+path(r.project, holder, "nothing"), 404, "Could not find role: nothing.")
				// A user is not found among the groups, nor a group among the users.
				other := map[string]string{"user": group, "group": user}[kind]
				refused(r.admin, method+path(r.project, other, role), 404, "Could not find "+kind+": "+other)
			}
			refused(r.member, grant, 403, "identity:create_grant")
			refused(r.member, take, 403, "identity:revoke_grant")
			refused(r.admin, take, 404, "Could not find role assignment with role: "+role+", user or group: "+holder+
				", project, domain, or system: "+r.project)

			r.admin.must(204, grant, "")
			r.admin.must(204, grant, "") // once more changes nothing
			if got := held(); got != "1" {
				t.Errorf("%s assignments, want 1", got)
			}
			r.login("another").must(200, "GET volume/volumes", "")
			r.admin.must(204, take, "")
			if got := held(); got != "0" {
				t.Errorf("%s assignments after it was taken, want 0", got)
			}
			refused(r.admin, take, 404, "Could not find role assignment")
		})
	}
}
