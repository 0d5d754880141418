package simcloud

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/oslopolicy"
)

// A listener answers policy checks, and keeps them.
type listener struct {
	*httptest.Server
	status int
	body   string
	got    []*http.Request
	bodies []string
}

func listen(t *testing.T) *listener {
	l := &listener{status: 200, body: "True"}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		l.got, l.bodies = append(l.got, r), append(l.bodies, string(body))
		w.WriteHeader(l.status)
		_, _ = io.WriteString(w, l.body)
	}))
	t.Cleanup(l.Close)
	return l
}

// rules are a policy file with the check behind a term for admins.
func (l *listener) rules() string {
	const rule = `"backup:delete": "role:admin or (rule:admin_or_owner and http:ADDRESS/v1/backup?id=%(id)s)"`
	return "# ours\n" + strings.ReplaceAll(rule+"\n"+strings.ReplaceAll(rule, "delete", "update")+"\n",
		"http:ADDRESS", l.URL)
}

func TestPolicyChecks(t *testing.T) {
	r := newRig(t, Options{})
	l := listen(t)
	id := r.member.backup(r.AddVolume(r.project, "v", 1, nil), false)
	if err := r.SetPolicy(l.rules()); err != nil {
		t.Fatal(err)
	}
	const (
		refusedDelete = "Policy doesn't allow backup:delete to be performed."
		refusedUpdate = "Policy doesn't allow backup:update to be performed."
		renamed       = `{"backup": {"name": "x"}}`
	)
	for _, tc := range []struct {
		say    string
		who    *caller
		what   string
		body   string
		status int // of the listener
		answer string
		want   int
		says   string
		asked  int
	}{
		{"no is no", r.member, "DELETE", "", 200, "False", 403, refusedDelete, 1},
		{"so is whatever is not exactly True", r.member, "DELETE", "", 200, "True\n", 403, refusedDelete, 1},
		{"small letters are not", r.member, "DELETE", "", 200, "true", 403, refusedDelete, 1},
		{"nothing is not", r.member, "DELETE", "", 200, "", 403, refusedDelete, 1},
		{"an error of the listener's is no", r.member, "DELETE", "", 500, "oops", 403, refusedDelete, 1},
		{"a change is asked about as well", r.member, "PUT", renamed, 200, "no", 403, refusedUpdate, 1},
		{"an empty one, too", r.member, "PUT", `{"backup": {}}`, 200, "no", 403, refusedUpdate, 1},
		{"not one that is wrong in itself", r.member, "PUT", `{"backup": {"bogus": 1}}`, 200, "no", 400, "", 0},
		{"the status does not count", r.member, "PUT", renamed, 403, "True", 200, "", 1},
		{"nor do quotes", r.member, "PUT", renamed, 200, `"True"`, 200, "", 1},
		{"an admin is not asked about", r.admin, "PUT", renamed, 200, "no", 200, "", 0},
		{"deleting by force is not for tenants", r.member, "FORCE", "", 200, "True", 403,
			"Policy doesn't allow volume_extension:backup_admin_actions:force_delete to be performed.", 0},
		{"nor has Ceph's driver it", r.admin, "FORCE", "", 200, "True", 405, "Operation not supported: force delete.", 0},
		{"yes is yes", r.member, "DELETE", "", 200, "True", 202, "", 1},
		{"what is gone is not asked about", r.member, "DELETE", "", 200, "True", 404, "", 0},
	} {
		t.Run(tc.say, func(t *testing.T) {
			l.status, l.body = tc.status, tc.answer
			before := len(l.got)
			method, path, _ := strings.Cut(tc.what+" volume/backups/"+id, " ")
			if method == "FORCE" {
				method, path, tc.body = "POST", path+"/action", `{"os-force_delete": {}}`
			}
			status, answer, err := tc.who.ask(t.Context(), method+" "+path, tc.body)
			if err != nil {
				t.Fatal(err)
			}
			if said := string(api.Encode(answer)); status != tc.want || !strings.Contains(said, tc.says) {
				t.Errorf("%d %s; want %d %q", status, said, tc.want, tc.says)
			}
			if n := len(l.got) - before; n != tc.asked {
				t.Errorf("the listener was asked %d times, want %d", n, tc.asked)
			}
		})
	}
}

func TestPolicyListenerDown(t *testing.T) {
	r := newRig(t, Options{})
	l := listen(t)
	id := r.member.backup(r.AddVolume(r.project, "v", 1, nil), false)
	if err := r.SetPolicy(l.rules()); err != nil {
		t.Fatal(err)
	}
	l.Close()
	r.member.must(500, "DELETE volume/backups/"+id, "")
	r.member.must(500, "PUT volume/backups/"+id, `{"backup": {"metadata": {}}}`)
	r.member.must(200, "GET volume/backups/"+id, "")
	r.admin.must(202, "DELETE volume/backups/"+id, "")
}

// What is sent has the fields of the real one's, of the same types.
func TestPolicyChecksLookReal(t *testing.T) {
	for _, form := range []string{"form", "json"} {
		t.Run(form, func(t *testing.T) {
			real, wanted := captured(t, "http-check-"+form+"-alice.txt")
			o := Options{PolicyContentType: "application/json"}
			if form == "form" {
				o.PolicyContentType = ""
			}
			r := newRig(t, o)
			l := listen(t)
			l.body = "no"
			volume := r.AddVolume(r.project, "v", 1, nil)
			id := r.member.backup(volume, false)
			r.member.must(200, "PUT volume/backups/"+id,
				`{"backup": {"metadata": {"retention": "1w", "backup-service": "managed"}}}`)
			if err := r.SetPolicy(l.rules()); err != nil {
				t.Fatal(err)
			}
			r.member.must(403, "DELETE volume/backups/"+id, "")
			got, sent := l.got[0], decoded(t, l.got[0].Header.Get("Content-Type"), l.bodies[0])
			for _, name := range []string{"Content-Type", "Accept", "User-Agent"} {
				if g, w := got.Header.Get(name), real.Header.Get(name); g != w {
					t.Errorf("%s: %q, the real one's is %q", name, g, w)
				}
			}
			for _, part := range []string{"target", "credentials"} {
				g, w := sent[part].(map[string]any), wanted[part].(map[string]any)
				for _, key := range slices.Sorted(mapsKeys(g, w)) {
					gv, gok := g[key]
					wv, wok := w[key]
					// A text may be none in one of them.
					if gok != wok || gv != nil && wv != nil && reflect.TypeOf(gv) != reflect.TypeOf(wv) {
						t.Errorf("%s.%s: %#v, the real one's is %#v", part, key, gv, wv)
					}
				}
			}
			if sent["rule"] != wanted["rule"] {
				t.Errorf("rule %v, the real one's is %v", sent["rule"], wanted["rule"])
			}
		})
	}
}

func TestPolicyFiles(t *testing.T) {
	e := oslopolicy.Enforcement{
		Rules:  map[string]oslopolicy.Check{"yes": oslopolicy.Fixed(true)},
		Target: map[string]any{"project_id": "p1", "id": "b1"},
		Credentials: map[string]any{"project_id": "p1", "user_id": "u1", "is_admin": false,
			"roles": []string{"member", "service"}},
	}
	for rule, want := range map[string]bool{
		"":                                    true,
		"@":                                   true,
		"!":                                   false,
		"role:member":                         true,
		"role:admin":                          false,
		"rule:yes":                            true,
		"rule:undefined":                      false,
		"not role:admin":                      true,
		"project_id:%(project_id)s":           true,
		"project_id:%(nothing)s":              false,
		"user_id:u1":                          true,
		"is_admin:True":                       false,
		"role:admin or role:service and @":    true,
		"(role:admin or role:service) and !":  false,
		"role:admin or (@ and (role:member))": true,
		"role:admin or (rule:yes and user_id:u2)": false,
	} {
		c, err := oslopolicy.Parse(rule)
		if err != nil {
			t.Errorf("%q: %v", rule, err)
			continue
		}
		if got, err := c.Passes(&e); got != want || err != nil {
			t.Errorf("%q: %v %v, want %v", rule, got, err, want)
		}
	}
	cloud := New(Options{})
	for _, file := range []string{`"a": "role:admin or"`, `"a": "(role:admin"`, `"a": "role:admin)"`,
		`"a": "field:x=y"`, `a: b`, `"a": "role:admin" x`} {
		if err := cloud.SetPolicy(file); err == nil {
			t.Errorf("%q is taken", file)
		}
	}
	if err := cloud.SetPolicy("# nothing\n"); err != nil {
		t.Error(err)
	}
}

// Whom the policy lets is shown who made a backup. The rule is asked for once, however
// long a list is: Cinder holds it against whoever asks.
func TestWhoMadeABackup(t *testing.T) {
	r := newRig(t, Options{})
	for range 3 {
		r.member.backup(r.AddVolume(r.project, "v", 1, nil), false)
	}
	shown := func(who *caller) (rows, users int) {
		for _, row := range who.must(200, "GET volume/backups/detail", "")["backups"].([]any) {
			rows++
			if row.(map[string]any)["user_id"] != nil {
				users++
			}
		}
		return rows, users
	}
	for _, tc := range []struct {
		file          string
		member, admin int // how many users are shown
	}{
		{"", 0, 3},
		{`"backup:delete": "!"`, 0, 3},
		{`"backup:backup_project_attribute": "rule:admin_api or role:member"`, 3, 3},
		{`"backup:backup_project_attribute": "project_id:%(project_id)s"`, 3, 3},
		{`"backup:backup_project_attribute": "!"`, 0, 0},
		{`"admin_api": "role:chief"`, 0, 0},
	} {
		if err := r.SetPolicy(tc.file); err != nil {
			t.Fatal(err)
		}
		for who, want := range map[*caller]int{r.member: tc.member, r.admin: tc.admin} {
			if rows, users := shown(who); rows != 3 || users != want {
				t.Errorf("%q: %d rows with %d users, want 3 with %d", tc.file, rows, users, want)
			}
		}
	}

	var asked counted
	r.state.Policy = map[string]oslopolicy.Check{oslopolicy.MakersRule: &asked}
	if _, users := shown(r.member); users != 3 || asked != 1 {
		t.Errorf("the rule was asked for %d times, and %d users shown, want 1 and 3", asked, users)
	}

	if err := r.SetPolicy(`"backup:backup_project_attribute": "http://127.0.0.1:1/"`); err != nil {
		t.Fatal(err)
	}
	r.member.must(501, "GET volume/backups/detail", "")
	r.member.must(200, "GET volume/backups", "")
}

// counted lets everybody pass, and counts.
type counted int

func (c *counted) Passes(*oslopolicy.Enforcement) (bool, error) { *c++; return true, nil }

func mapsKeys(all ...map[string]any) func(func(string) bool) {
	return func(yield func(string) bool) {
		seen := map[string]bool{}
		for _, m := range all {
			for key := range m {
				if seen[key] {
					continue
				}
				seen[key] = true
				if !yield(key) {
					return
				}
			}
		}
	}
}

// captured reads the capture of a check that the real Cinder sent.
func captured(t *testing.T, name string) (*http.Request, map[string]any) {
	t.Helper()
	file, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(file)))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, decoded(t, r.Header.Get("Content-Type"), string(body))
}

func decoded(t *testing.T, contentType, body string) map[string]any {
	t.Helper()
	out := map[string]any{}
	if contentType == "application/json" {
		if err := json.Unmarshal([]byte(body), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	form, err := url.ParseQuery(body)
	if err != nil {
		t.Fatal(err)
	}
	for name := range form {
		var v any
		if err := json.Unmarshal([]byte(form.Get(name)), &v); err != nil {
			t.Fatal(err)
		}
		out[name] = v
	}
	return out
}
