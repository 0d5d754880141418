package openstack

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gophercloud/gophercloud/v2"

	"staffeln/functions/backup"
)

func TestMicroversions(t *testing.T) {
	for _, tc := range []struct {
		name         string
		cinder, nova string
		want         string // "CINDER NOVA" in use, or what is complained of
	}{
		{"those of Zed", "3.70", "2.93", "3.70 2.93"},
		{"newer ones are not used: their answers are not known", "3.71", "2.100", "3.70 2.93"},
		{"older ones that will do", "3.64", "2.90", "3.64 2.90"},
		{"the oldest that will do", "3.43", "2.26", "3.43 2.26"},
		{"3.9 is older than 3.43", "3.9", "2.93", "microversion 3.43 of volumev3 is needed, it has 3.0 to 3.9"},
		{"a Cinder without backup metadata", "3.42", "2.93", "microversion 3.43 of volumev3 is needed, it has 3.0 to 3.42"},
		{"a Nova without tags", "3.70", "2.25", "microversion 2.26 of compute is needed, it has 2.1 to 2.25"},
		{"both too old: both are named", "3.42", "2.25", "show versions: 200: microversion 3.43 of volumev3 is needed, it has 3.0 to 3.42; show versions: 200: microversion 2.26 of compute is needed, it has 2.1 to 2.25"},
		{"another major version", "4.50", "2.93", "microversion 3.43 of volumev3 is needed, it tells of none"},
		{"nonsense", "new", "2.93", "microversion 3.43 of volumev3 is needed, it tells of none"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			f.cinder, f.nova = tc.cinder, tc.nova
			f.answer = func(r request) reply { return load(t, probes[r.line]).reply() }
			c, err := Connect(t.Context(), f.options(Admin))
			if err != nil {
				if e := wantFault(t, err, backup.Operator); e.Message != tc.want {
					t.Errorf("%q, want %q", e.Message, tc.want)
				}
				return
			}
			if got := c.cinder.String() + " " + c.nova.String(); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
}

// Who is an admin is found out by what works, not by a role's name alone.
func TestRights(t *testing.T) {
	const hidden = `{"id": "x"}`
	without := func(name, key string) reply {
		r := load(t, name).reply()
		r.body = strings.ReplaceAll(r.body, key, "gone")
		return r
	}
	volumes := "GET " + cinderHost + "/v3/" + serviceProject + "/volumes/detail?all_tenants=1&limit=1"
	backups := "GET " + cinderHost + "/v3/" + serviceProject + "/backups/detail?all_tenants=1&limit=1"
	servers := "GET " + novaHost + "/v2.1/servers/detail?all_tenants=1&limit=1"
	services := "GET " + cinderHost + "/v3/" + serviceProject + "/os-services?binary=cinder-backup"
	projects := "GET " + keystoneHost + "/v3/auth/projects"
	empty := map[string]reply{volumes: ok(`{"volumes": []}`), backups: ok(`{"backups": []}`)}
	for _, tc := range []struct {
		name    string
		rights  Rights
		roles   []string
		answers map[string]reply
		want    any // whether all tenants, or a fault
		says    string
	}{
		{"an admin", Auto, []string{"admin", "member"}, nil, true, "all-tenant lists work"},
		{"an admin who is to have least rights", Projects, []string{"admin"}, nil, false, "as configured"},
		{"a member", Auto, []string{"member", "reader"}, nil, false, "its token has no role admin"},
		{"a member set to be an admin, whom Nova refuses", Admin, []string{"member"},
			map[string]reply{servers: load(t, "nova-servers-detail-all-tenants-as-tenant-403").reply()}, backup.Operator,
			"rights are set to admin, but list servers of all tenants is refused: Policy doesn't allow os_compute_api:servers:detail:get_all_tenants to be performed."},
		{"a role of another name that does", Admin, []string{"cloud_admin"}, nil, true, "all-tenant lists work"},
		{"an admin whom Nova refuses", Auto, []string{"admin"},
			map[string]reply{servers: load(t, "nova-servers-detail-all-tenants-as-tenant-403").reply()}, false, "list servers of all tenants is refused"},
		{"an admin from whom Cinder hides whose a volume is", Auto, []string{"admin"},
			map[string]reply{volumes: without("cinder-volumes-detail-all-tenants", volumeProjectKey)}, false, "list volumes does not show os-vol-tenant-attr:tenant_id"},
		{"an admin from whom Cinder hides whose a backup is", Auto, []string{"admin"},
			map[string]reply{backups: ok(`{"backups": [` + hidden + `]}`)}, false, "list backups does not show os-backup-project-attr:project_id"},
		{"a cloud without volumes: services tell", Auto, []string{"admin"}, empty, true, ""},
		{"a cloud without volumes, and services refused", Auto, []string{"admin"},
			map[string]reply{volumes: empty[volumes], backups: empty[backups], services: load(t, "cinder-services-backup-403").reply()},
			false, "Cinder does not let it list services"},
		{"whoever is shown whose a backup is is no admin by that", Admin, []string{"member"},
			map[string]reply{volumes: without("cinder-volumes-detail-all-tenants", volumeHostKey), services: load(t, "cinder-services-backup-403").reply()},
			backup.Operator, "rights are set to admin, but Cinder does not let it list services"},
		{"a Cinder in trouble makes no one a member", Auto, []string{"admin"}, map[string]reply{volumes: {status: 503}}, backup.Retry, "an empty answer"},
		{"a Nova in trouble neither", Auto, []string{"admin"}, map[string]reply{servers: ok("<html>")}, backup.Retry, "an HTML page"},
		{"an admin needs no list of his own projects", Auto, []string{"admin"}, map[string]reply{projects: {status: 500}}, true, ""},
		{"least rights do", Projects, []string{"member"}, map[string]reply{projects: {status: 500}}, backup.Retry, "an empty answer"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			f.roles = tc.roles
			f.answer = func(r request) reply {
				if a, ok := tc.answers[r.line]; ok {
					return a
				}
				if _, ok := probes[r.line]; !ok {
					t.Errorf("asked %s", r.line)
				}
				return load(t, probes[r.line]).reply()
			}
			var log bytes.Buffer
			o := f.options(tc.rights)
			o.Log = slog.New(slog.NewTextHandler(&log, nil))
			c, err := Connect(t.Context(), o)
			if fault, ok := tc.want.(backup.Fault); ok {
				if e := wantFault(t, err, fault); !strings.Contains(e.Message, tc.says) {
					t.Errorf("%q, want %q", e.Message, tc.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.AllTenants() != tc.want {
				t.Errorf("all tenants: %v, want %v", c.AllTenants(), tc.want)
			}
			if !strings.Contains(log.String(), tc.says) {
				t.Errorf("log %q, want %q", log.String(), tc.says)
			}
			if strings.Contains(log.String(), "hidden-secret") || strings.Contains(log.String(), "token-") {
				t.Errorf("a secret in the log: %s", log.String())
			}
		})
	}
}

// Least rights work from a home project, from the system and from nowhere.
func TestLeastRights(t *testing.T) {
	for _, tc := range []struct {
		name  string
		scope gophercloud.AuthScope
	}{
		{"at home", gophercloud.AuthScope{ProjectName: "service", DomainID: "default"}},
		{"on the system", gophercloud.AuthScope{System: true}},
		{"without a scope", gophercloud.AuthScope{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			f.roles = []string{"member"}
			o := f.options(Auto)
			o.Auth.Scope = &tc.scope
			o.IncludeProjects = []string{"alpha", gammaProject}
			c := f.connect(o)
			f.on("keystone-auth-projects")
			if c.AllTenants() {
				t.Fatal("an admin")
			}
			scopes, err := c.Scopes(t.Context())
			if err != nil || !slices.Equal(scopes, []string{alphaProject, gammaProject}) {
				t.Fatalf("scopes %q, %v", scopes, err)
			}
			f.answer = func(r request) reply { return ok(`{"servers": [], "volumes": [], "backups": []}`) }
			for _, s := range scopes {
				if _, err := c.Servers(t.Context(), s); err != nil {
					t.Error(err)
				}
				if _, err := c.Volumes(t.Context(), s); err != nil {
					t.Error(err)
				}
				if _, err := c.Backups(t.Context(), s); err != nil {
					t.Error(err)
				}
			}
			wantLines(t, f.lines(),
				"GET "+novaHost+"/v2.1/servers/detail",
				"GET "+cinderHost+"/v3/"+alphaProject+"/volumes/detail",
				"GET "+cinderHost+"/v3/"+alphaProject+"/backups/detail",
				"GET "+novaHost+"/v2.1/servers/detail",
				"GET "+cinderHost+"/v3/"+gammaProject+"/volumes/detail",
				"GET "+cinderHost+"/v3/"+gammaProject+"/backups/detail")
			_, err = c.Servers(t.Context(), "")
			wantFault(t, err, backup.Operator)

			p, in, err := c.Project(t.Context(), alphaProject)
			if want := (backup.Project{ID: alphaProject, Name: "alpha", Domain: "default"}); err != nil || !in || p != want {
				t.Errorf("%+v %v %v", p, in, err)
			}
			p, in, err = c.Project(t.Context(), serviceProject)
			if err != nil || in || p.Name != "service" {
				t.Errorf("a project that is not included: %+v %v %v", p, in, err)
			}
		})
	}
	t.Run("without any project there is nothing to do", func(t *testing.T) {
		f := newFake(t)
		f.answer = func(request) reply { return ok(`{"projects": [], "links": {"next": null}}`) }
		o := f.options(Auto)
		o.Auth.Scope = nil
		_, err := Connect(t.Context(), o)
		if e := wantFault(t, err, backup.Operator); !strings.Contains(e.Message, "no role in any project") {
			t.Error(e)
		}
	})
}

// With least rights a project is known from one list of all, taken every few
// minutes, and again for one that is not in it, but not for each such.
func TestProjectsWithLeastRights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.roles = []string{"member"}
		c := f.connect(f.options(Auto))
		f.on("keystone-auth-projects")
		ask := func(id string, want bool, calls int, why string) {
			t.Helper()
			_, in, err := c.Project(t.Context(), id)
			if err != nil || in != want {
				t.Errorf("%s: included %v, %v", why, in, err)
			}
			if got := len(f.lines()); got != calls {
				t.Errorf("%s: %d calls, want %d", why, got, calls)
			}
		}
		ask(alphaProject, true, 0, "listed at connecting")
		ask(nothing, false, 0, "not in a list that is only just taken")
		time.Sleep(6 * time.Second)
		ask(nothing, false, 1, "not in a list that may be too old to have it")
		ask(project(7), false, 0, "nor another")
		ask(alphaProject, true, 0, "in the list")
		time.Sleep(6 * time.Minute)
		ask(alphaProject, true, 1, "in a list that is too old")
	})
}

func TestProjectsOfAnAdmin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c := f.connect(f.options(Admin))
		f.on("keystone-project", "keystone-project-404")
		for _, calls := range []int{1, 0} {
			if _, _, err := c.Project(t.Context(), alphaProject); err != nil {
				t.Fatal(err)
			}
			if got := len(f.lines()); got != calls {
				t.Errorf("%d calls, want %d", got, calls)
			}
		}
		time.Sleep(6 * time.Minute)
		if _, _, err := c.Project(t.Context(), alphaProject); err != nil || len(f.lines()) != 1 {
			t.Error("not asked again after six minutes", err)
		}
		_, _, err := c.Project(t.Context(), nothing)
		wantFault(t, err, backup.Gone)
	})
}

func TestIncludeAndExclude(t *testing.T) {
	for _, tc := range []struct {
		name string
		set  func(*Options)
		want string // the projects of which volumes are listed
	}{
		{"a project by its name", func(o *Options) { o.IncludeProjects = []string{"alpha"} }, "alpha"},
		{"and one by its id", func(o *Options) { o.IncludeProjects = []string{"alpha", gammaProject} }, "alpha gamma"},
		{"names are exact", func(o *Options) { o.IncludeProjects = []string{"Alpha"} }, ""},
		{"one left out", func(o *Options) { o.ExcludeProjects = []string{"alpha"} }, "beta gamma"},
		{"leaving out wins", func(o *Options) {
			o.IncludeProjects = []string{"alpha", "beta"}
			o.ExcludeProjects = []string{alphaProject}
		}, "beta"},
		{"a domain by its name", func(o *Options) { o.IncludeDomains = []string{"Default"} }, "alpha beta gamma"},
		{"a domain by its id", func(o *Options) { o.IncludeDomains = []string{"default"} }, "alpha beta gamma"},
		{"another domain", func(o *Options) { o.IncludeDomains = []string{"other"} }, ""},
		{"another domain and one project", func(o *Options) { o.IncludeDomains = []string{"other"}; o.IncludeProjects = []string{"beta"} }, "beta"},
		{"a domain left out", func(o *Options) { o.ExcludeDomains = []string{"Default"}; o.IncludeProjects = []string{"beta"} }, ""},
	} {
		for _, domain := range []string{"keystone-domain", "keystone-domain-403"} {
			t.Run(tc.name+"/"+domain, func(t *testing.T) {
				f := newFake(t)
				o := f.options(Admin)
				tc.set(&o)
				c := f.connect(o)
				f.on("cinder-volumes-detail-all-tenants", "keystone-projects", domain)
				vs, err := c.Volumes(t.Context(), "")
				if err != nil {
					t.Fatal(err)
				}
				f.lines()
				names := map[string]bool{}
				for _, v := range vs {
					p, in, err := c.Project(t.Context(), v.Project)
					if err != nil || !in {
						t.Errorf("volume of %+v, included %v, %v", p, in, err)
					}
					names[p.Name] = true
				}
				if got := strings.Join(sortedKeys(names), " "); got != tc.want {
					t.Errorf("volumes of %q, want %q", got, tc.want)
				}
				wantLines(t, f.lines()) // all was known from one list
			})
		}
	}
	t.Run("a project that is deleted while its volumes are not can only be named by id", func(t *testing.T) {
		for include, want := range map[string]int{alphaProject: 5, "alpha": 0} {
			f := newFake(t)
			o := f.options(Admin)
			o.IncludeProjects = []string{include}
			c := f.connect(o)
			f.answer = func(r request) reply {
				switch {
				case strings.Contains(r.line, "/volumes/"):
					return load(t, "cinder-volumes-detail-all-tenants").reply()
				case strings.HasSuffix(r.line, "/v3/projects"):
					return ok(`{"projects": []}`)
				}
				return load(t, "keystone-project-404").reply()
			}
			vs, err := c.Volumes(t.Context(), "")
			if err != nil || len(vs) < want || (want == 0) != (len(vs) == 0) {
				t.Errorf("%s: %d volumes, %v", include, len(vs), err)
			}
		}
	})
	t.Run("a Keystone in trouble makes no list short", func(t *testing.T) {
		f := newFake(t)
		o := f.options(Admin)
		o.IncludeProjects = []string{"alpha"}
		c := f.connect(o)
		f.on("cinder-volumes-detail-all-tenants")
		rest := f.answer
		f.answer = func(r request) reply {
			if strings.Contains(r.line, keystoneHost) {
				return reply{status: 503}
			}
			return rest(r)
		}
		vs, err := c.Volumes(t.Context(), "")
		wantFault(t, err, backup.Retry)
		if vs != nil {
			t.Errorf("%d volumes", len(vs))
		}
	})
}

func TestServicesAreAskedForEvery15Seconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c := f.connect(f.options(Admin))
		f.on("cinder-services-backup")
		inParallel(20, func(int) {
			if s, err := c.Services(t.Context()); err != nil || s.Up != 1 {
				t.Errorf("%+v, %v", s, err)
			}
		})
		if n := len(f.lines()); n != 1 {
			t.Errorf("%d calls for 20 callers", n)
		}
		time.Sleep(16 * time.Second)
		f.answer = func(request) reply { return reply{status: 503} }
		for range 2 { // a failure is not kept
			_, err := c.Services(t.Context())
			wantFault(t, err, backup.Retry)
		}
		if n := len(f.lines()); n != 2 {
			t.Errorf("%d calls", n)
		}
	})
}

func TestCatalogues(t *testing.T) {
	entry := func(kind, iface, region, url string) catalogEntry {
		var e catalogEntry
		e.Type = kind
		e.Endpoints = append(e.Endpoints, struct {
			Interface string `json:"interface"`
			Region    string `json:"region"`
			RegionID  string `json:"region_id"`
			URL       string `json:"url"`
		}{iface, region, region, url})
		return e
	}
	for _, tc := range []struct {
		name          string
		api           api
		iface, region string
		catalog       []catalogEntry
		want          string // or the error
	}{
		{"Cinder by its usual type", cinderAPI, "public", "R", []catalogEntry{entry("volumev3", "public", "R", "https://c/v3/p")}, "https://c/v3/p/"},
		{"Cinder by its official type", cinderAPI, "public", "R", []catalogEntry{entry("block-storage", "public", "R", "https://c/volume/v3/p/")}, "https://c/volume/v3/p/"},
		{"the API v2 is not v3", cinderAPI, "public", "R", []catalogEntry{entry("volume", "public", "R", "https://c/v2/p")}, `no volumev3 endpoint with interface public in region "R": the catalogue has none`},
		{"an address without a version", novaAPI, "public", "", []catalogEntry{entry("compute", "public", "R", "https://n/compute")}, "https://n/compute/v2.1/"},
		{"another interface", novaAPI, "internal", "", []catalogEntry{entry("compute", "public", "R", "https://n/v2.1"), entry("compute", "internal", "R", "http://n/v2.1")}, "http://n/v2.1/"},
		{"another region", novaAPI, "public", "S", []catalogEntry{entry("compute", "public", "R", "https://r/v2.1"), entry("compute", "public", "S", "https://s/v2.1")}, "https://s/v2.1/"},
		{"no region, and two to choose from", novaAPI, "public", "", []catalogEntry{entry("compute", "public", "S", "https://s/v2.1"), entry("compute", "public", "R", "https://r/v2.1")}, "OS_REGION_NAME: not set, want one of R, S"},
		{"a region that is not there", novaAPI, "public", "T", []catalogEntry{entry("compute", "public", "R", "https://r/v2.1")}, `no compute endpoint with interface public in region "T": the catalogue has public in R`},
		{"nothing", novaAPI, "public", "R", nil, `no compute endpoint with interface public in region "R": the catalogue has none`},
		{"what is no address", novaAPI, "public", "R", []catalogEntry{entry("compute", "public", "R", "ftp://x")}, "the catalogue's address of compute in R is not an address"},
		{"an address with a password", novaAPI, "public", "R", []catalogEntry{entry("compute", "public", "R", "https://u:p@x/v2.1")}, "the catalogue's address of compute in R is not an address"},
	} {
		c := &Cloud{opts: Options{Interface: tc.iface, Region: tc.region}}
		got, err := c.endpoint(tc.catalog, tc.api)
		if err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

func lookup(env map[string]string) func(string) (string, bool) {
	return func(n string) (string, bool) { v, ok := env[n]; return v, ok }
}

func TestFromEnv(t *testing.T) {
	base := map[string]string{"OS_AUTH_URL": "https://k:5000/v3", "OS_USERNAME": "u", "OS_PASSWORD": "p"}
	for _, tc := range []struct {
		name string
		env  map[string]string
		want gophercloud.AuthOptions
		more string // "REGION INTERFACE"
	}{
		{"an openrc file", map[string]string{"OS_USER_DOMAIN_NAME": "Default", "OS_PROJECT_NAME": "service", "OS_PROJECT_DOMAIN_NAME": "Ops", "OS_REGION_NAME": "R", "OS_INTERFACE": "internal"},
			gophercloud.AuthOptions{Username: "u", DomainName: "Default", Scope: &gophercloud.AuthScope{ProjectName: "service", DomainName: "Ops"}}, "R internal"},
		{"an older openrc file", map[string]string{"OS_TENANT_NAME": "service", "OS_ENDPOINT_TYPE": "internalURL"},
			gophercloud.AuthOptions{Username: "u", DomainID: "default", Scope: &gophercloud.AuthScope{ProjectName: "service", DomainID: "default"}}, " internal"},
		{"ids win over names", map[string]string{"OS_USER_ID": "uid", "OS_USER_DOMAIN_ID": "d", "OS_PROJECT_ID": "pid", "OS_PROJECT_NAME": "x"},
			gophercloud.AuthOptions{UserID: "uid", Scope: &gophercloud.AuthScope{ProjectID: "pid"}}, " public"},
		{"the system", map[string]string{"OS_SYSTEM_SCOPE": "all", "OS_DEFAULT_DOMAIN": "dd"},
			gophercloud.AuthOptions{Username: "u", DomainID: "dd", Scope: &gophercloud.AuthScope{System: true}}, " public"},
		{"no scope; empty is not set", map[string]string{"OS_PROJECT_NAME": "", "OS_REGION_NAME": ""},
			gophercloud.AuthOptions{Username: "u", DomainID: "default", Scope: &gophercloud.AuthScope{}}, " public"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			env := map[string]string{}
			for k, v := range base {
				env[k] = v
			}
			for k, v := range tc.env {
				env[k] = v
			}
			o, err := FromEnv(lookup(env))
			if err != nil {
				t.Fatal(err)
			}
			tc.want.IdentityEndpoint, tc.want.Password = "https://k:5000/v3", "p"
			if d := cmp.Diff(tc.want, o.Auth); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if got := o.Region + " " + o.Interface; got != tc.more {
				t.Errorf("%q, want %q", got, tc.more)
			}
			if err := o.Check(); err != nil {
				t.Error(err)
			}
			if _, err := o.Auth.ToTokenV3CreateMap(nil); err != nil {
				t.Errorf("gophercloud refuses it: %v", err)
			}
		})
	}
}

func TestFromEnvComplainsOfAllAtOnce(t *testing.T) {
	dir := t.TempDir()
	notPEM := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(notPEM, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := FromEnv(lookup(map[string]string{"OS_SYSTEM_SCOPE": "some", "OS_IDENTITY_API_VERSION": "2.0", "OS_AUTH_TYPE": "v3totp",
		"OS_CACERT": notPEM, "OS_CERT": "c"}))
	want := `OS_SYSTEM_SCOPE: "some", want all; OS_IDENTITY_API_VERSION: "2.0", want 3; OS_AUTH_TYPE: "v3totp", want password; ` +
		"OS_CACERT: no certificate in " + notPEM + "; OS_CERT and OS_KEY: one is set without the other"
	if err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	if _, err := FromEnv(lookup(map[string]string{"OS_INSECURE": "perhaps"})); err == nil || err.Error() != `OS_INSECURE: "perhaps", want true or false` {
		t.Error(err)
	}
	if _, err := FromEnv(lookup(map[string]string{"OS_CACERT": filepath.Join(dir, "none")})); err == nil || !strings.HasPrefix(err.Error(), "OS_CACERT: open ") {
		t.Error(err)
	}
	o, err := FromEnv(lookup(map[string]string{"OS_INSECURE": "True"}))
	if err != nil || !o.TLS.InsecureSkipVerify {
		t.Errorf("%+v %v", o.TLS, err)
	}
}

func TestCheck(t *testing.T) {
	good := func() Options {
		return Options{Auth: gophercloud.AuthOptions{IdentityEndpoint: "https://k/v3", Username: "u", Password: "p", DomainID: "default",
			Scope: &gophercloud.AuthScope{ProjectName: "service", DomainID: "default"}}}
	}
	for _, tc := range []struct {
		name string
		set  func(*Options)
		want string
	}{
		{"all is well", func(*Options) {}, ""},
		{"nothing is set", func(o *Options) { *o = Options{} },
			"OS_AUTH_URL: not set, want the address of Keystone such as https://keystone:5000/v3; OS_USERNAME: not set, want the name of the service user (or OS_USER_ID); OS_PASSWORD: not set"},
		{"an address that is none, which is not cited", func(o *Options) { o.Auth.IdentityEndpoint = "keystone:5000 secret" }, "OS_AUTH_URL: not an http or https address"},
		{"a password in the address", func(o *Options) { o.Auth.IdentityEndpoint = "https://u:secret@k/v3" }, "OS_AUTH_URL: want an address without user, query or fragment"},
		{"the API v2.0", func(o *Options) { o.Auth.IdentityEndpoint = "https://k/v2.0/" }, "OS_AUTH_URL: https://k/v2.0/ is Keystone's API v2.0, want v3"},
		{"an application credential", func(o *Options) {
			o.Auth = gophercloud.AuthOptions{IdentityEndpoint: "https://k", ApplicationCredentialID: "x", ApplicationCredentialSecret: "secret"}
		}, errAppCredential.Error()},
		{"a token", func(o *Options) { o.Auth.TokenID = "secret" }, "OS_TOKEN: a token runs out, want OS_USERNAME and OS_PASSWORD"},
		{"a trust", func(o *Options) { o.Auth.Scope.TrustID = "x" }, "OS_TRUST_ID: a trust is for one project, want none"},
		{"two scopes", func(o *Options) { o.Auth.Scope.System = true }, "OS_SYSTEM_SCOPE and OS_PROJECT_NAME or OS_PROJECT_ID: give one of them, a token has one scope"},
		{"an admin without a home", func(o *Options) { o.Auth.Scope, o.Rights = nil, Admin }, "rights: admin needs a home project (OS_PROJECT_NAME or OS_PROJECT_ID)"},
		{"words that are none", func(o *Options) { o.Interface, o.Rights, o.Timeout = "outer", "root", -time.Second },
			`OS_INTERFACE: "outer", want public, internal or admin; rights: "root", want auto, admin or projects; timeout: -1s, want more than 0`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := good()
			tc.set(&o)
			err := o.Check()
			if got := errorText(err); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
			if err != nil {
				_, err = Connect(t.Context(), o)
				e := wantFault(t, err, backup.Operator)
				if strings.Contains(e.Error(), "secret") && tc.name != "an application credential" {
					t.Errorf("cites a secret: %s", e)
				}
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestKeystonesAddress(t *testing.T) {
	for in, want := range map[string]string{
		"http://k:5000":              "http://k:5000/v3/",
		"http://k:5000/":             "http://k:5000/v3/",
		"http://k:5000/v3":           "http://k:5000/v3/",
		"https://k/identity/v3/":     "https://k/identity/v3/",
		"https://k.example/identity": "https://k.example/identity/v3/",
	} {
		if got := keystoneURL(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestCloudsYAML(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "openstack", "clouds.yaml")
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(file, `clouds:
  prod:
    auth: {auth_url: https://k:5000/v3, username: u, user_domain_name: Default, project_name: service, project_domain_name: Ops}
    region_name: R
    interface: internal
    verify: false
  system:
    auth: {auth_url: https://k, username: u, user_domain_name: Default, system_scope: all, password: q}
  app:
    auth_type: v3applicationcredential
    auth: {auth_url: https://k, application_credential_id: x, application_credential_secret: y}
`)
	write(filepath.Join(dir, "openstack", "secure.yaml"), "clouds: {prod: {auth: {password: p}}}\n")

	o, err := FromEnv(lookup(map[string]string{"OS_CLOUD": "prod", "XDG_CONFIG_HOME": dir}))
	if err != nil {
		t.Fatal(err)
	}
	want := gophercloud.AuthOptions{IdentityEndpoint: "https://k:5000/v3", Username: "u", Password: "p", DomainName: "Default",
		Scope: &gophercloud.AuthScope{ProjectName: "service", DomainName: "Ops"}}
	if d := cmp.Diff(want, o.Auth); d != "" || o.Region != "R" || o.Interface != "internal" || !o.TLS.InsecureSkipVerify {
		t.Errorf("%s %q %s (-want +got):\n%s", o.Region, o.Interface, errorText(o.Check()), d)
	}

	o, err = FromEnv(lookup(map[string]string{"OS_CLOUD": "prod", "OS_CLIENT_CONFIG_FILE": file, "OS_PASSWORD": "other", "OS_REGION_NAME": "S", "OS_INTERFACE": "public", "OS_INSECURE": "false"}))
	if err != nil || o.Auth.Password != "other" || o.Region != "S" || o.Interface != "public" || o.TLS.InsecureSkipVerify {
		t.Errorf("%+v %v: the environment wins over the file", o, err)
	}
	o, err = FromEnv(lookup(map[string]string{"OS_CLOUD": "system", "OS_CLIENT_CONFIG_FILE": file}))
	if err != nil || !o.Auth.Scope.System || o.Check() != nil {
		t.Errorf("%+v %v %v", o.Auth.Scope, err, o.Check())
	}
	o, err = FromEnv(lookup(map[string]string{"OS_CLOUD": "app", "OS_CLIENT_CONFIG_FILE": file}))
	if err != nil || errorText(o.Check()) != errAppCredential.Error() {
		t.Errorf("%v %v", err, o.Check())
	}
	if _, err = FromEnv(lookup(map[string]string{"OS_CLOUD": "none", "OS_CLIENT_CONFIG_FILE": file})); err == nil || !strings.Contains(err.Error(), `OS_CLOUD: "none"`) {
		t.Error(err)
	}
	write(file, "clouds: {prod: {auth: [secret-secret]}}")
	if _, err = FromEnv(lookup(map[string]string{"OS_CLOUD": "prod", "OS_CLIENT_CONFIG_FILE": file})); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v: want an error that does not cite the file", err)
	}
	write(file, "clouds: {prod: {auth: {password: {a: secret-secret}}, region_name: [secret-secret]}}")
	if _, err = FromEnv(lookup(map[string]string{"OS_CLOUD": "prod", "OS_CLIENT_CONFIG_FILE": file})); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v: want an error that does not cite the file", err)
	}
}
