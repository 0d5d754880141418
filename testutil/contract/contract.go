// Package contract is what a backup service relies on in OpenStack, as steps that
// can be tried: a request, the status it is answered with, and what matters of
// the answer. The same steps run against the simulated cloud and against a real
// one; what the real one answered is kept in testdata and compared with in full.
//
// On the real cloud: STAFFELN_DEVCLOUD=http://127.0.0.1:5000/v3 go test -tags e2e
// ./testutil/contract -update
package contract

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A Target is a cloud to try the steps on. It has been seeded: backup-svc has
// admin inherited by every project, backup-min member, and reader on the system.
type Target struct {
	// AuthURL is Keystone's, ending in /v3.
	AuthURL string
	// Password is that of admin, backup-svc and backup-min.
	Password string
	Client   *http.Client
	// Tick passes time between two looks at something that is under way, a fifth of
	// a second or more.
	Tick func()
	// Policy puts a file in force as Cinder's policy until what it returns is called.
	Policy func(t *testing.T, file string) (restore func())
	// MayBeLate says that time passes by itself there: what is under way can be over
	// before it has been looked at. Such a step is then put down as not tried.
	MayBeLate bool
	// Host is the name of the machine that services are on, which records do not
	// hold.
	Host string
}

// A step is one request and what is to become of it.
type step struct {
	// say is what it shows, as a sentence.
	say string
	// as is who asks: member (of the suite's project), other (of another), svc
	// (backup-svc on the project), min (backup-min on the project), system
	// (backup-min on the system), unscoped (member without a project), admin (on
	// project admin), garbage (no good token), nobody (none at all).
	as string
	// ask is "METHOD SERVICE PATH", with {names} of what was kept; the service is
	// identity, compute or volume (with the project in the URL), or root, Cinder
	// without a project.
	ask string
	// version is the microversion, "" the usual one of the service, "-" none.
	version string
	// body is JSON, with {names}.
	body string
	// policy is a file, with {names}, that is in force as Cinder's policy from this step
	// on, in place of the one before; "default" is none.
	policy string
	// want is the status.
	want int
	// says is the message of a refusal. "…" stands for anything.
	says string
	// has is JSON that is to be found in the answer: each member of an object that
	// is named, each element of a list.
	has string
	// lacks are paths that must not be in the answer.
	lacks []string
	// keep keeps values of the answer: "name=path".
	keep string
	// until repeats a GET until the answer has this, or, "gone", is 404. The
	// statuses met on the way must be among those of via.
	until string
	via   string
	// during names a backup and its status: "full creating". The step is only worth
	// something as long as that lasts.
	during string
	// later lets more than a second pass before: lists are in the order of creation
	// by whole seconds only, and within one by id.
	later bool
	// loose leaves the answer out of the comparison with the record, for why.
	loose string
}

type suite struct {
	t      *testing.T
	target Target
	names  map[string]string
	tokens map[string]string
	urls   map[string]map[string]string // of whom, by service
	// unset takes Cinder's policy back; nil where there is none but Cinder's own.
	unset func()
	// Seen is what each step was answered, normalised.
	seen map[string]any
	tail string
}

// Run tries all steps and returns what was answered, normalised: by sentence,
// the status and the body.
func Run(t *testing.T, target Target) map[string]any {
	t.Helper()
	s := &suite{t: t, target: target, names: map[string]string{"none": "00000000-0000-0000-0000-00000000dead"},
		tokens: map[string]string{"garbage": "expired-or-garbage", "nobody": ""},
		urls:   map[string]map[string]string{}, seen: map[string]any{}}
	s.tail = strconv.FormatInt(time.Now().UnixNano()%1e9, 36)
	defer s.cleanUp()
	s.prepare()
	for i, st := range steps {
		if _, twice := s.seen[st.say]; twice {
			t.Fatalf("two steps say %q", st.say)
		}
		for i := 0; st.later && i < 6; i++ {
			target.Tick()
		}
		if !s.lasts(st) {
			if !s.target.MayBeLate {
				t.Errorf("step %d: %s: it is not %s", i, st.say, st.during)
			}
			t.Logf("not tried, since it was over already: %s", st.say)
			continue
		}
		if !s.try(i, st) && (st.keep != "" || st.until != "") {
			t.Fatalf("what follows rests on %q", st.say)
		}
	}
	return s.seen
}

// govern puts a policy file in force, or none.
func (s *suite) govern(file string) {
	if s.unset != nil {
		s.unset()
		s.unset = nil
	}
	if file != "default" {
		s.unset = s.target.Policy(s.t, file)
	}
}

// prepare makes two projects with a user each, and logs everybody in.
func (s *suite) prepare() {
	s.login("admin", "admin", s.target.Password,
		map[string]any{"project": map[string]any{"name": "admin", "domain": map[string]string{"id": "default"}}})
	role := s.must("GET", "/roles?name=member", nil, "roles", 0, "id")
	for _, who := range []string{"member", "other"} {
		project := s.must("POST", "/projects",
			map[string]any{"project": map[string]any{"name": "contract-" + who + "-" + s.tail,
				"domain_id": "default"}}, "project", "id")
		user := s.must("POST", "/users", map[string]any{"user": map[string]any{"name": "contract-" + who + "-" +
			s.tail, "domain_id": "default", "password": "pw-" + s.tail}}, "user", "id")
		s.must("PUT", "/projects/"+project+"/users/"+user+"/roles/"+role, nil)
		s.names[who+"-project"], s.names[who+"-user"] = project, user
		s.login(who, "contract-"+who+"-"+s.tail, "pw-"+s.tail, onProject(project))
	}
	s.names["project"], s.names["name"] = s.names["member-project"], "contract-member-"+s.tail
	s.names["password"], s.names["wrong"] = "pw-"+s.tail, "no-such-password"
	s.login("svc", "backup-svc", s.target.Password, onProject(s.names["project"]))
	s.login("min", "backup-min", s.target.Password, onProject(s.names["project"]))
	s.login("system", "backup-min", s.target.Password, map[string]any{"system": map[string]bool{"all": true}})
	s.login("unscoped", "contract-member-"+s.tail, "pw-"+s.tail, "unscoped")
	flavor, image := s.firstFlavor()
	s.names["flavor"], s.names["image"] = flavor, image
}

func onProject(id string) any { return map[string]any{"project": map[string]string{"id": id}} }

// firstFlavor finds a flavor, and the image of the seeded servers.
func (s *suite) firstFlavor() (string, string) {
	_, _, body := s.send("member", "GET", s.urls["member"]["compute"]+"/flavors", "compute 2.90", nil)
	flavor := text(dig(body, "flavors", 0, "id"))
	s.login("svc-alpha", "backup-svc", s.target.Password,
		map[string]any{"project": map[string]any{"name": "alpha", "domain": map[string]string{"id": "default"}}})
	_, _, body = s.send("svc-alpha", "GET", s.urls["svc-alpha"]["compute"]+"/servers/detail", "compute 2.90", nil)
	image := text(dig(body, "servers", 0, "image", "id"))
	if flavor == "" || image == "" {
		s.t.Fatal("no flavor, or no server of alpha with an image: is the cloud seeded?")
	}
	return flavor, image
}

// login gets a token and the addresses of the catalog.
func (s *suite) login(as, user, password string, scope any) {
	s.t.Helper()
	status, header, body := s.send("nobody", "POST", s.target.AuthURL+"/auth/tokens", "",
		map[string]any{"auth": map[string]any{
			"identity": map[string]any{"methods": []string{"password"}, "password": map[string]any{"user": map[string]any{
				"name": user, "domain": map[string]string{"id": "default"}, "password": password}}},
			"scope": scope}})
	if status != 201 {
		s.t.Fatalf("%s cannot log in: %d", user, status)
	}
	s.tokens[as] = header.Get("X-Subject-Token")
	s.names[as+"-user"] = text(dig(body, "token", "user", "id"))
	s.urls[as] = map[string]string{"identity": s.target.AuthURL}
	list, _ := dig(body, "token", "catalog").([]any)
	for _, service := range list {
		kind := map[string]string{"compute": "compute", "volumev3": "volume"}[text(dig(service, "type"))]
		if url := text(dig(service, "endpoints", 0, "url")); kind != "" && url != "" {
			s.urls[as][kind] = url
		}
	}
}

// must asks Keystone as admin.
func (s *suite) must(method, path string, body any, at ...any) string {
	s.t.Helper()
	status, _, answer := s.send("admin", method, s.target.AuthURL+path, "", body)
	if status >= 300 {
		s.t.Fatalf("%s %s: %d %v", method, path, status, answer)
	}
	return text(dig(answer, at...))
}

// url is where a service is for somebody. Who has no address of his own for
// Cinder uses the member's.
func (s *suite) url(as, service string) string {
	if service == "root" {
		u := s.urls["member"]["volume"]
		return u[:strings.LastIndex(u, "/")]
	}
	if u := s.urls[as][service]; u != "" {
		return u
	}
	return s.urls["member"][service]
}

// lasts says whether what a step is to happen during is still under way.
func (s *suite) lasts(st step) bool {
	if st.during == "" {
		return true
	}
	name, status, _ := strings.Cut(st.during, " ")
	_, _, body := s.send("svc", "GET", s.url("svc", "volume")+"/backups/"+s.names[name], usual["volume"], nil)
	return text(dig(body, "backup", "status")) == status
}

// cleanUp deletes what is left, in an order that works.
func (s *suite) cleanUp() {
	s.govern("default")
	for _, who := range []string{"svc", "other"} {
		if s.tokens[who] == "" {
			continue
		}
		compute, volume := s.url(who, "compute"), s.url(who, "volume")
		sweep := func(name, url, version string) {
			for range 200 {
				_, _, list := s.send(who, "GET", url, version, nil)
				rows, _ := dig(list, name).([]any)
				if len(rows) == 0 {
					return
				}
				for _, r := range rows { // refusals of what is busy or has children pass by
					s.send(who, "DELETE", strings.TrimSuffix(url, "/detail")+"/"+text(dig(r, "id")), version, nil)
				}
				s.target.Tick()
			}
			s.t.Errorf("cannot delete all %s of %s", name, who)
		}
		sweep("servers", compute+"/servers", "compute 2.90")
		sweep("transfers", volume+"/os-volume-transfer", "volume 3.64")
		sweep("backups", volume+"/backups", "volume 3.64")
		sweep("volumes", volume+"/volumes", "volume 3.64")
	}
	if g := s.names["group"]; g != "" {
		s.send("admin", "DELETE", s.target.AuthURL+"/groups/"+g, "", nil)
	}
	if u := s.names["person"]; u != "" {
		s.send("admin", "DELETE", s.target.AuthURL+"/users/"+u, "", nil)
	}
	for _, who := range []string{"member", "other"} {
		if p := s.names[who+"-project"]; p != "" {
			s.send("svc", "DELETE", s.url("svc", "volume")+"/os-quota-sets/"+p, "volume 3.64", nil)
			s.send("admin", "DELETE", s.target.AuthURL+"/projects/"+p, "", nil)
		}
		if u := s.names[who+"-user"]; u != "" {
			s.send("admin", "DELETE", s.target.AuthURL+"/users/"+u, "", nil)
		}
	}
}
