//go:build e2e

package openstack

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"staffeln/functions/backup"
)

// On a real Keystone, too, the members of a project are those with a role of their
// own, by a group or by inheritance, and nobody is told who is disabled, or has no
// address; an admin and a reader of the system are told the same.
func TestE2EMembers(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	connect := func(user string, more map[string]string) *Cloud {
		t.Helper()
		o, err := FromEnv(devcloud(user, more))
		if err != nil {
			t.Fatal(err)
		}
		c, err := Connect(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	admin := connect("backup-svc", map[string]string{"OS_PROJECT_NAME": "service"})
	call := func(ctx context.Context, method, path, body string, into any) {
		t.Helper()
		a := ask{op: method + " " + path, api: keystoneAPI, method: method, path: path, ok: []int{200, 201, 204}}
		if body != "" {
			a.body = json.RawMessage(body)
		}
		got, err := admin.do(ctx, ownScope, a)
		if err == nil && into != nil {
			err = decode(got, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	name := fmt.Sprintf("ostk-%d", time.Now().UnixNano())
	create := func(kind, name, more string) string {
		t.Helper()
		var made map[string]struct{ ID string }
		call(ctx, "POST", kind+"s", fmt.Sprintf(`{%q: {"name": %q, "domain_id": "default"%s}}`, kind, name, more), &made)
		id := made[kind].ID
		t.Cleanup(func() { call(context.Background(), "DELETE", kind+"s/"+id, "", nil) })
		return id
	}
	role := func(name string) string {
		t.Helper()
		var found struct{ Roles []struct{ ID string } }
		call(ctx, "GET", "roles?name="+name, "", &found)
		return found.Roles[0].ID
	}
	project := create("project", name, "")
	group := create("group", name, "")
	member, reader := role("member"), role("reader")
	for _, who := range []struct{ name, more, where string }{
		{"own", `, "email": "own@x.example"`, "projects/" + project + "/users/USER/roles/" + member},
		{"grouped", `, "email": "grouped@x.example"`, "groups/" + group + "/users/USER"},
		{"twin", `, "email": "OWN@x.example"`, "groups/" + group + "/users/USER"},
		{"off", `, "email": "off@x.example", "enabled": false`, "groups/" + group + "/users/USER"},
		{"mute", ``, "groups/" + group + "/users/USER"},
		{"odd", `, "email": {"work": "odd@x.example"}`, "groups/" + group + "/users/USER"},
	} {
		id := create("user", name+"-"+who.name, who.more)
		call(ctx, "PUT", strings.Replace(who.where, "USER", id, 1), "", nil)
	}
	call(ctx, "PUT", "projects/"+project+"/groups/"+group+"/roles/"+reader, "", nil)

	want := []backup.Person{{Name: name + "-grouped", Address: "grouped@x.example"}, {Name: name + "-own", Address: "own@x.example"}}
	for _, tc := range []struct {
		say, user string
		env       map[string]string
	}{
		{"an admin", "backup-svc", map[string]string{"OS_PROJECT_NAME": "service"}},
		{"least rights with a home project", "backup-min", map[string]string{"OS_PROJECT_NAME": "alpha"}},
		{"least rights on the system", "backup-min", map[string]string{"OS_SYSTEM_SCOPE": "all"}},
		{"least rights without a scope", "backup-min", nil},
	} {
		t.Run(tc.say, func(t *testing.T) {
			got, err := connect(tc.user, tc.env).Members(ctx, project)
			if err != nil {
				t.Fatal(err)
			}
			// Whoever else may have a role by inheritance on this cloud is not ours.
			got = slices.DeleteFunc(got, func(p backup.Person) bool { return !strings.HasPrefix(p.Name, name) })
			slices.SortFunc(got, func(a, b backup.Person) int { return strings.Compare(a.Name, b.Name) })
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			_, err = admin.Members(ctx, "00000000000000000000000000000000")
			wantFault(t, err, backup.Gone)
		})
	}
	t.Run("a tenant's rights", func(t *testing.T) {
		_, err := connect("alice", map[string]string{"OS_PROJECT_NAME": "alpha"}).Members(ctx, project)
		if e := wantFault(t, err, backup.Operator); !strings.Contains(e.Message, "reader on the system") {
			t.Error(e)
		}
	})
}
