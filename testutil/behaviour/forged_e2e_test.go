//go:build e2e

package behaviour

import (
	"maps"
	"testing"
)

// The same on a real Cinder: all at once, each in a project of its own, with one policy
// file for all.
func TestForgedBackupsOnARealCloud(t *testing.T) {
	t.Cleanup(func() { removeQueues(t) })
	c, b := devcloud(t), openBoard(t)
	blind := likeTheLeast(t, c)
	b.police(t, c, []rights{adminRights, leastRights, blind}, []rights{leastRights})
	forgedBackups(t, func(_ *testing.T, f forging) (*cloud, rights, *board) {
		if f.shown {
			return c, f.rights, b
		}
		return c, blind, b
	})
}

// likeTheLeast makes another service user with the least rights, whom no line of a
// policy file names.
func likeTheLeast(t *testing.T, c *cloud) rights {
	t.Helper()
	admin := &session{auth: c.auth, user: "admin", password: password, project: "admin"}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	r := rights{"the least rights, blind", maps.Clone(leastRights.env)}
	r.env["OS_USERNAME"] = "behaviour-blind-" + randomID()
	var user struct{ User struct{ ID string } }
	must(admin.call("POST", "identity", "/users",
		object{"user": object{"name": r.env["OS_USERNAME"], "domain_id": "default", "password": password}}, &user))
	t.Cleanup(func() {
		if err := admin.call("DELETE", "identity", "/users/"+user.User.ID, nil, nil); err != nil {
			t.Logf("user %s cannot be removed: %v", r.env["OS_USERNAME"], err)
		}
	})
	var roles struct{ Roles []struct{ ID, Name string } }
	must(admin.call("GET", "identity", "/roles", nil, &roles))
	for _, role := range roles.Roles {
		switch role.Name {
		case "member":
			must(admin.call("PUT", "identity",
				"/OS-INHERIT/domains/default/users/"+user.User.ID+"/roles/"+role.ID+"/inherited_to_projects", nil, nil))
		case "reader":
			must(admin.call("PUT", "identity", "/system/users/"+user.User.ID+"/roles/"+role.ID, nil, nil))
		}
	}
	return r
}
