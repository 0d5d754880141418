package openstack

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"staffeln/functions/backup"
	"staffeln/runtime/mail"
	"staffeln/testutil/simcloud"
)

const (
	alice   = "afc9ff6708a04854a2d8da6aebabea92" // of the recordings
	another = "27baad14275d44d3bb3d76e511ad5724" // the service user of the recordings
	third   = "d7161325732b48da97b65ba3e4bfd438"

	asksMembers = "GET " + keystoneHost + "/v3/role_assignments?effective=True&scope.project.id=" + alphaProject
	asksUser    = "GET " + keystoneHost + "/v3/users/"
)

// people answers for the users of the recordings: a document by id, or "" for a 404.
func people(t *testing.T, f *fake, users map[string]string) {
	f.answer = func(r request) reply {
		if r.line == asksMembers {
			return load(t, "keystone-role-assignments-effective").reply()
		}
		id, ok := strings.CutPrefix(r.line, asksUser)
		if !ok {
			t.Errorf("asked %s", r.line)
		}
		if users[id] == "" {
			return load(t, "keystone-user-404").reply()
		}
		return reply{status: 200, header: map[string]string{"Content-Type": "application/json"}, body: users[id]}
	}
}

func somebody(id, rest string) string { return `{"user": {"id": "` + id + `", ` + rest + `}}` }

// An admin asks with the own session, and for each person once.
func TestMembersAsAdmin(t *testing.T) {
	f := newFake(t)
	c := f.connect(f.options(Admin))
	people(t, f, map[string]string{alice: load(t, "keystone-user").reply().body, third: somebody(third, `"name": "third", "enabled": true`)})
	before := f.tokensGiven()
	got, err := c.Members(t.Context(), alphaProject)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]backup.Person{{Name: "alice", Address: "alice@alpha.example.test"}}, got); d != "" {
		t.Error(d)
	}
	// The service user, who is in the list by inheritance, is not asked for.
	wantLines(t, f.lines(), asksMembers, asksUser+alice, asksUser+third)
	if f.tokensGiven() != before {
		t.Error("it asked for another token")
	}
}

// With least rights a session on the system is asked, and opened once.
func TestMembersWithLeastRights(t *testing.T) {
	f := newFake(t)
	f.roles = []string{"member"}
	c := f.connect(f.options(Auto))
	people(t, f, map[string]string{alice: load(t, "keystone-user").reply().body})
	before := f.tokensGiven()
	for range 2 {
		if got, err := c.Members(t.Context(), alphaProject); err != nil || len(got) != 1 || got[0].Name != "alice" {
			t.Error(got, err)
		}
	}
	if f.tokensGiven() != before+1 {
		t.Errorf("%d tokens more", f.tokensGiven()-before)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.asked {
		if strings.HasSuffix(r.line, "/auth/tokens") && !strings.Contains(string(r.body), `"scope":{"system":{"all":true}}`) {
			t.Errorf("asked for a token with %s", r.body)
		}
	}
}

// Who is told and who is not.
func TestWhoIsAMember(t *testing.T) {
	for _, tc := range []struct {
		say, alice, third string
		want              []backup.Person
	}{
		{"people with addresses are", `"name": "alice", "email": "a@x.example", "enabled": true`, `"name": "third", "email": "b@x.example", "enabled": true`,
			[]backup.Person{{Name: "alice", Address: "a@x.example"}, {Name: "third", Address: "b@x.example"}}},
		{"one that is disabled is not", `"name": "alice", "email": "a@x.example", "enabled": false`, `"name": "third", "email": "b@x.example", "enabled": true`,
			[]backup.Person{{Name: "third", Address: "b@x.example"}}},
		{"an address counts once, however it is written", `"name": "alice", "email": "Team@x.example", "enabled": true`, `"name": "third", "email": "team@X.example", "enabled": true`,
			[]backup.Person{{Name: "alice", Address: "Team@x.example"}}},
		{"but that of a disabled one does not count", `"name": "alice", "email": "team@x.example", "enabled": false`, `"name": "third", "email": "team@x.example", "enabled": true`,
			[]backup.Person{{Name: "third", Address: "team@x.example"}}},
		{"one without an address is not", `"name": "alice", "enabled": true`, `"name": "third", "email": "", "enabled": true`, []backup.Person{}},
		{"nor one whose address is something else", `"name": "alice", "email": {"a": 1}, "enabled": true`, `"name": "third", "email": null, "enabled": true`, []backup.Person{}},
		{"nor one whose address is none", `"name": "alice", "email": "alice", "enabled": true`, `"name": "third", "email": "a@x.example\r\nBcc: b@x.example", "enabled": true`, []backup.Person{}},
		{"nor two in one", `"name": "alice", "email": "a@x.example, b@x.example", "enabled": true`, `"name": "third", "email": "Third <c@x.example>", "enabled": true`, []backup.Person{}},
		{"blanks around one do not count", `"name": "alice", "email": " a@x.example\n", "enabled": true`, `"name": "third"`, []backup.Person{{Name: "alice", Address: "a@x.example"}}},
		{"a name that is the address is none", `"name": "a@x.example", "email": "a@x.example", "enabled": true`, `"name": "third"`, []backup.Person{{Address: "a@x.example"}}},
		{"a name is one line", `"name": "a\r\nBcc: b@x.example", "email": "a@x.example", "enabled": true`, `"name": "third"`, []backup.Person{{Name: "a Bcc: b@x.example", Address: "a@x.example"}}},
		{"one that is gone is not", "", `"name": "third", "email": "b@x.example"`, []backup.Person{{Name: "third", Address: "b@x.example"}}},
	} {
		t.Run(tc.say, func(t *testing.T) {
			f := newFake(t)
			c := f.connect(f.options(Admin))
			users := map[string]string{third: somebody(third, tc.third)}
			if tc.alice != "" {
				users[alice] = somebody(alice, tc.alice)
			}
			people(t, f, users)
			got, err := c.Members(t.Context(), alphaProject)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// What is known of a user is asked for again after five minutes, and not before,
// whatever the project.
func TestMembersAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c := f.connect(f.options(Admin))
		people(t, f, map[string]string{alice: somebody(alice, `"name": "alice", "email": "a@x.example"`)})
		listed := f.answer
		f.answer = func(r request) reply {
			r.line = strings.Replace(r.line, gammaProject, alphaProject, 1)
			return listed(r)
		}
		ask := func(project string, users int) {
			t.Helper()
			if got, err := c.Members(t.Context(), project); err != nil || len(got) != 1 {
				t.Fatal(got, err)
			}
			if n := len(f.lines()) - 1; n != users {
				t.Errorf("%d users were asked for, want %d", n, users)
			}
		}
		ask(alphaProject, 2)
		ask(gammaProject, 0) // the one that is gone is remembered, too
		time.Sleep(4 * time.Minute)
		ask(alphaProject, 0)
		time.Sleep(time.Minute)
		ask(alphaProject, 2)
	})
}

// A list of members is complete, or an error that says what to do.
func TestMembersRefused(t *testing.T) {
	forbidden := load(t, "keystone-users-403").reply()
	forbidden.body = strings.ReplaceAll(forbidden.body, "list_users", "list_role_assignments")
	noRole := load(t, "keystone-token-401").reply()
	assigned := load(t, "keystone-role-assignments-effective").reply()
	for _, tc := range []struct {
		say    string
		least  bool
		system reply // to who asks for a token of the system; zero gives one
		list   reply
		user   reply
		fault  backup.Fault
		says   string
	}{
		{say: "an admin who may not is helped by no role on the system", system: noRole, list: forbidden, fault: backup.Operator, says: "want the role admin, or the role reader on the system"},
		{say: "nor by one that does not do", list: forbidden, fault: backup.Operator, says: "identity:list_role_assignments"},
		{say: "who may not ask for users", list: assigned, user: forbidden, fault: backup.Operator, says: "want the role admin, or the role reader on the system"},
		{say: "least rights without a role on the system", least: true, system: noRole, fault: backup.Operator, says: "no role on the system"},
		{say: "least rights with another than reader", least: true, list: forbidden, fault: backup.Operator, says: "openstack role add --system all --user USER reader"},
		{say: "Keystone in trouble", list: reply{status: 503}, fault: backup.Retry},
		{say: "Keystone in trouble with the system", least: true, system: reply{status: 500}, fault: backup.Retry},
		{say: "with one user only", list: assigned, user: reply{status: 502}, fault: backup.Retry},
		{say: "a project that is not there", list: load(t, "keystone-project-404").reply(), fault: backup.Gone},
		{say: "a proxy that knows no such page", list: reply{status: 404}, fault: backup.Operator},
		{say: "a role of nobody", list: ok(`{"role_assignments": [{"group": {"id": "g"}}]}`), fault: backup.Retry, says: "a role of nobody"},
		{say: "a user without an id", list: ok(`{"role_assignments": [{"user": {"id": ".."}}]}`), fault: backup.Retry, says: "without a valid id"},
		{say: "no list", list: ok(`{}`), fault: backup.Retry, says: "no role_assignments"},
		{say: "another user than the one asked for", list: assigned, user: ok(somebody("x", `"name": "x"`)), fault: backup.Retry, says: "another user"},
		{say: "no user", list: assigned, user: ok(`{}`), fault: backup.Retry, says: "another user, or none"},
	} {
		t.Run(tc.say, func(t *testing.T) {
			f := newFake(t)
			o := f.options(Admin)
			if tc.least {
				f.roles, o.Rights = []string{"member"}, Projects
			}
			c := f.connect(o)
			f.authenticate = func(string) reply { return tc.system }
			f.answer = func(r request) reply {
				if r.line == asksMembers {
					return tc.list
				}
				return tc.user
			}
			got, err := c.Members(t.Context(), alphaProject)
			if e := wantFault(t, err, tc.fault); got != nil || !strings.Contains(e.Message, tc.says) {
				t.Errorf("%v and %q, want %q", got, e, tc.says)
			}
		})
	}
	c := newFake(t)
	_, err := c.connect(c.options(Admin)).Members(t.Context(), "../users")
	wantFault(t, err, backup.Operator)
}

// An admin whom a stricter policy than the default one refuses (enforce_scope) is
// helped by a role on the system.
func TestMembersByTheSystemForAnAdmin(t *testing.T) {
	f := newFake(t)
	c := f.connect(f.options(Admin))
	people(t, f, map[string]string{alice: load(t, "keystone-user").reply().body})
	rest := f.answer
	f.answer = func(r request) reply {
		f.mu.Lock()
		scope := f.tokens[r.header.Get("X-Auth-Token")]
		f.mu.Unlock()
		if scope == serviceProject {
			return load(t, "keystone-users-403").reply()
		}
		return rest(r)
	}
	if got, err := c.Members(t.Context(), alphaProject); err != nil || len(got) != 1 {
		t.Error(got, err)
	}
}

// An id that is a name from an LDAP gets into a path escaped.
func TestMembersFromAnOldLDAP(t *testing.T) {
	f := newFake(t)
	c := f.connect(f.options(Admin))
	const id = "ann lee/ops"
	f.answer = func(r request) reply {
		if r.line == asksMembers {
			return ok(fmt.Sprintf(`{"role_assignments": [{"user": {"id": %q}}]}`, id))
		}
		return ok(somebody(id, `"name": "ann", "email": "ann@x.example"`))
	}
	if got, err := c.Members(t.Context(), alphaProject); err != nil || len(got) != 1 {
		t.Error(got, err)
	}
	wantLines(t, f.lines(), asksMembers, asksUser+"ann%20lee%2Fops")
}

// What is taken for an address here is what mail is sent to.
func TestAddresses(t *testing.T) {
	for _, s := range []string{
		"a@b", "a@b.example", "a.b+c@d.example", "ä@bücher.example", "", "a", "@", "a@", "@b", "a b@c.example", "a@b.example ", "A <a@b.example>", "<a@b.example>",
		"a@b.example,c@d.example", `"a b"@c.example`, "a@[127.0.0.1]", "a@b\r\nBcc: c@d", "a\x00@b.example", strings.Repeat("a", 250) + "@b.c", "a(b)@c.example", "a@b..c",
	} {
		if got, want := isAddress(s), mail.Address(s); got != want {
			t.Errorf("%q: %v, and for mail %v", s, got, want)
		}
	}
}

// The simulated cloud, which answers as the real one does, tells the same with both
// rights: by a group, by inheritance, and not of whom not to tell.
func TestMembersOfTheSimulatedCloud(t *testing.T) {
	cloud := simcloud.New(simcloud.Options{})
	defer cloud.Close()
	seeded := cloud.Seed()
	alpha := seeded.Projects["alpha"]
	person := func(name, email string, grants ...simcloud.Grant) string {
		id := cloud.AddUser(name, "pw", grants...)
		cloud.SetEmail(id, email)
		return id
	}
	group := cloud.AddGroup("operators", simcloud.On(alpha, "reader"))
	everywhere := cloud.AddGroup("auditors", simcloud.Inherited("reader"))
	cloud.AddToGroup(group, person("grace", "grace@x.example"), seeded.Users["alice"])
	cloud.AddToGroup(everywhere, person("ian", "ian@x.example"))
	off := person("otto", "otto@x.example", simcloud.On(alpha, "member"))
	cloud.SetUserEnabled(off, false)
	person("twin", "GRACE@x.example", simcloud.On(alpha, "member"))
	cloud.AddUser("mute", "pw", simcloud.On(alpha, "member"))
	person("stranger", "s@x.example", simcloud.On(seeded.Projects["beta"], "member"))

	for _, user := range []string{"backup-svc", "backup-min"} {
		t.Run(user, func(t *testing.T) {
			o := newFake(t).options(Auto)
			o.Transport, o.Auth.IdentityEndpoint = cloud.Transport(), cloud.AuthURL()
			o.Auth.Username, o.Auth.Password = user, simcloud.Password
			want := []string{"GRACE@x.example", "alice@alpha.example.test", "ian@x.example"}
			if user == "backup-min" {
				o.Auth.Scope = nil
				want = append(want, "backup-svc@example.test") // somebody else's service
			}
			c, err := Connect(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.Members(t.Context(), alpha)
			if err != nil {
				t.Fatal(err)
			}
			var addresses []string
			for _, p := range got {
				addresses = append(addresses, p.Address)
			}
			slices.Sort(addresses)
			slices.Sort(want)
			if d := cmp.Diff(want, addresses); d != "" {
				t.Error(d)
			}
			_, err = c.Members(t.Context(), strings.ReplaceAll(nothing, "-", ""))
			if e := wantFault(t, err, backup.Gone); e.Status != http.StatusNotFound {
				t.Error(e)
			}
		})
	}
	// Without the role on the system nobody is told, and the operator is told why.
	cloud.Revoke(seeded.Users["backup-min"], simcloud.System("reader"))
	o := newFake(t).options(Auto)
	o.Transport, o.Auth.IdentityEndpoint = cloud.Transport(), cloud.AuthURL()
	o.Auth.Username, o.Auth.Password, o.Auth.Scope = "backup-min", simcloud.Password, nil
	c, err := Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Members(t.Context(), alpha)
	if e := wantFault(t, err, backup.Operator); !strings.Contains(e.Message, "reader on the system") {
		t.Error(e)
	}
}

// Whatever Keystone says of a user, nobody is told who has no address.
func FuzzUser(f *testing.F) {
	f.Add(`{"id": "u", "name": "n", "email": "a@b.example", "enabled": true}`)
	f.Add(`{"id": "u", "email": ["a@b.example"]}`)
	f.Fuzz(func(t *testing.T, body string) {
		var w keystoneUser
		if json.Unmarshal([]byte(body), &w) != nil {
			return
		}
		m := w.read()
		if m.person.Address == "" && m.person.Name != "" || m.person.Address != "" && !mail.Address(m.person.Address) || strings.ContainsAny(m.person.Name, "\r\n") {
			t.Errorf("%+v of %s", m, body)
		}
	})
}
