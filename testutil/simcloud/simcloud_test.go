package simcloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/backups"
	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"staffeln/testutil/simcloud/api"
)

// A clock is virtual time.
type clock struct{ passed atomic.Int64 }

var epoch = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func (c *clock) now() time.Time { return epoch.Add(time.Duration(c.passed.Load())) }

func (c *clock) pass(d time.Duration) { c.passed.Add(int64(d)) }

func always(d time.Duration) backupTime { return func(Volume, bool) time.Duration { return d } }

type backupTime = func(Volume, bool) time.Duration

// A rig is a cloud without a network, with one project and two users of it.
type rig struct {
	t *testing.T
	*Cloud
	clock   *clock
	project string
	member  *caller
	admin   *caller
	mail    *mail
}

// mail keeps notifications.
type mail struct {
	mu  sync.Mutex
	got []notification
}

type notification struct {
	exchange, key string
	event         string
	payload       map[string]any
}

func (m *mail) put(exchange, key string, body []byte) {
	event, payload := open(body)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.got = append(m.got, notification{exchange, key, event, payload})
}

func (m *mail) events() (out []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.got {
		out = append(out, n.event)
	}
	m.got = nil
	return out
}

// open reads an envelope.
func open(body []byte) (string, map[string]any) {
	var outer map[string]string
	var inner struct {
		Event   string         `json:"event_type"`
		Payload map[string]any `json:"payload"`
	}
	if err := json.Unmarshal(body, &outer); err != nil {
		panic(err)
	}
	if err := json.Unmarshal([]byte(outer["oslo.message"]), &inner); err != nil {
		panic(err)
	}
	return inner.Event, inner.Payload
}

func newRig(t *testing.T, o Options) *rig {
	t.Helper()
	r := &rig{t: t, clock: &clock{}, mail: &mail{}}
	o.Now, o.Notify = r.clock.now, r.mail.put
	r.Cloud = New(o)
	t.Cleanup(r.Close)
	r.project = r.AddProject("p")
	r.AddUser("tenant", "secret", On(r.project, "member"))
	r.AddUser("service", "secret", On(r.project, "admin"))
	r.member, r.admin = r.login("tenant"), r.login("service")
	return r
}

// A caller makes requests with a token.
type caller struct {
	r     *rig
	token string
	http  http.Client
}

func (r *rig) login(user string) *caller {
	r.t.Helper()
	c := &caller{r: r, http: http.Client{Transport: r.Transport()}}
	body := fmt.Sprintf(`{"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": %q, `+
		`"domain": {"id": "default"}, "password": "secret"}}}, "scope": {"project": {"id": %q}}}}`, user, r.project)
	a, err := c.http.Post(r.AuthURL()+"/auth/tokens", "application/json", strings.NewReader(body))
	if err != nil || a.StatusCode != 201 {
		r.t.Fatalf("login of %s: %v %v", user, a, err)
	}
	a.Body.Close()
	c.token = a.Header.Get("X-Subject-Token")
	return c
}

// ask makes a request: "POST volume/backups".
func (c *caller) ask(ctx context.Context, what, body string) (int, map[string]any, error) {
	method, path, _ := strings.Cut(what, " ")
	service, path, _ := strings.Cut(path, "/")
	base := map[string]string{"volume": api.VolumePath, "compute": api.ComputePath, "identity": api.IdentityPath}[service]
	r, err := http.NewRequestWithContext(ctx, method, c.r.state.Options.Base+base+"/"+path, strings.NewReader(body))
	if err != nil {
		c.r.t.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", c.token)
	r.Header.Set("OpenStack-API-Version", map[string]string{"volume": "volume 3.64", "compute": "compute 2.90",
		"identity": "identity 3"}[service])
	a, err := c.http.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer a.Body.Close()
	raw, err := io.ReadAll(a.Body)
	var out map[string]any
	if json.Unmarshal(raw, &out) != nil && len(raw) > 0 {
		out = map[string]any{"raw": string(raw)}
	}
	return a.StatusCode, out, err
}

// must asks and wants a status.
func (c *caller) must(want int, what, body string) map[string]any {
	c.r.t.Helper()
	status, out, err := c.ask(context.Background(), what, body)
	if err != nil || status != want {
		c.r.t.Fatalf("%s %s: %d %v %v, want %d", what, body, status, out, err, want)
	}
	return out
}

// backup makes one and returns its id.
func (c *caller) backup(volume string, incremental bool) string {
	c.r.t.Helper()
	out := c.must(202, "POST volume/backups",
		fmt.Sprintf(`{"backup": {"volume_id": %q, "force": true, "incremental": %t, "metadata": {"run": "1"}}}`,
			volume, incremental))
	return out["backup"].(map[string]any)["id"].(string)
}

func (r *rig) truth(id string) Backup {
	r.t.Helper()
	for _, b := range r.Backups() {
		if b.ID == id {
			return b
		}
	}
	r.t.Fatalf("no backup %s", id)
	return Backup{}
}

// gophercloud takes it for a real cloud: discovery, catalog, pages.
func TestGophercloud(t *testing.T) {
	cloud, err := Start(Options{PageLimit: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer cloud.Close()
	seed := cloud.Seed()
	ctx := t.Context()
	provider, err := openstack.AuthenticatedClient(ctx,
		gophercloud.AuthOptions{IdentityEndpoint: cloud.AuthURL(), Username: "backup-svc",
			Password: Password, DomainName: "Default", TenantName: "alpha", AllowReauth: true})
	if err != nil {
		t.Fatal(err)
	}
	cinder, err := openstack.NewBlockStorageV3(provider, gophercloud.EndpointOpts{Region: "RegionOne"})
	if err != nil {
		t.Fatal(err)
	}
	nova, err := openstack.NewComputeV2(provider, gophercloud.EndpointOpts{Region: "RegionOne"})
	if err != nil {
		t.Fatal(err)
	}
	cinder.Microversion, nova.Microversion = "3.64", "2.90"

	list := func(p pagination.Pager) (n int) {
		t.Helper()
		if err := p.EachPage(ctx, func(_ context.Context, page pagination.Page) (bool, error) {
			body := page.GetBody().(map[string]any)
			for _, k := range []string{"servers", "volumes", "backups"} {
				if rows, ok := body[k].([]any); ok {
					n += len(rows)
				}
			}
			return true, nil
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := list(volumes.List(cinder, volumes.ListOpts{AllTenants: true})); n != 14 {
		t.Errorf("%d volumes, want 14", n)
	}
	if n := list(servers.List(nova, servers.ListOpts{AllTenants: true})); n != 12 {
		t.Errorf("%d servers, want 12", n)
	}
	made, err := backups.Create(ctx, cinder, backups.CreateOpts{VolumeID: seed.Volumes["web-1-data"], Force: true,
		Metadata: map[string]string{"a": "b"}}).Extract()
	if err != nil {
		t.Fatal(err)
	}
	got, err := backups.Get(ctx, cinder, made.ID).Extract()
	if err != nil || got.Status != "available" || got.ProjectID != seed.Projects["alpha"] {
		t.Errorf("%+v %v, want it available and alpha's", got, err)
	}
	cloud.RevokeTokens("")
	if n := list(backups.List(cinder, backups.ListOpts{})); n != 1 {
		t.Errorf("after all tokens were revoked: %d backups, want 1", n)
	}
}

// A backup takes the time it is told to, by the cloud's own clock, and is told of
// when it ends.
func TestVirtualTime(t *testing.T) {
	r := newRig(t, Options{BackupTime: always(time.Hour), DeleteTime: time.Minute})
	v := r.AddVolume(r.project, "v", 1, nil)
	r.Write(v, "first")
	id := r.member.backup(v, false)
	r.Write(v, "second")
	if diff := cmp.Diff([]string{"backup.create.start"}, r.mail.events()); diff != "" {
		t.Error(diff)
	}
	r.clock.pass(59 * time.Minute)
	if next := r.Advance(); !next.Equal(epoch.Add(time.Hour)) {
		t.Errorf("the next thing happens at %v, want at one", next)
	}
	if b := r.truth(id); b.Status != "creating" || len(r.mail.events()) != 0 {
		t.Errorf("%+v before its time", b)
	}
	r.clock.pass(time.Hour) // nobody asks at one o'clock
	if next := r.Advance(); !next.IsZero() {
		t.Errorf("something is to happen at %v", next)
	}
	if diff := cmp.Diff([]string{"backup.create.end"}, r.mail.events()); diff != "" {
		t.Error(diff)
	}
	b := r.truth(id)
	if b.Status != "available" || !b.Ended.Equal(epoch.Add(time.Hour)) || b.Content != "first" {
		t.Errorf("%+v, want it available since one, with what the volume held at noon", b)
	}
	if v, _ := r.Volume(v); v.Status != "available" {
		t.Errorf("the volume is %s", v.Status)
	}
	r.member.must(202, "DELETE volume/backups/"+id, "")
	r.member.must(200, "GET volume/backups/"+id, "")
	r.clock.pass(time.Minute)
	r.member.must(404, "GET volume/backups/"+id, "")
	if b := r.truth(id); b.Status != "deleted" || b.Deleted.IsZero() {
		t.Errorf("%+v, want the truth to remember it", b)
	}
	if diff := cmp.Diff([]string{"backup.delete.start", "backup.delete.end"}, r.mail.events()); diff != "" {
		t.Error(diff)
	}
}

// What Cinder does without telling anybody.
func TestFailures(t *testing.T) {
	t.Run("a failed backup says so only to who looks, and counts until it is deleted", func(t *testing.T) {
		r := newRig(t, Options{Quota: &Quota{Volumes: 10, Gigabytes: 10, Backups: 1, BackupGigabytes: -1}})
		v := r.AddVolume(r.project, "v", 1, nil)
		r.FailNextBackup(v, "rbd: no space")
		id := r.member.backup(v, false)
		if b := r.truth(id); b.Status != "error" || b.FailReason != "rbd: no space" {
			t.Errorf("%+v", b)
		}
		if diff := cmp.Diff([]string{"backup.create.start"}, r.mail.events()); diff != "" {
			t.Error(diff)
		}
		r.member.must(413, "POST volume/backups", fmt.Sprintf(`{"backup": {"volume_id": %q}}`, v))
		r.member.must(202, "DELETE volume/backups/"+id, "")
		r.member.backup(v, false)
	})
	t.Run("no service is noticed late: the backup hangs, then fails when it is back", func(t *testing.T) {
		r := newRig(t, Options{DownTime: time.Minute})
		v := r.AddVolume(r.project, "v", 1, nil)
		old := r.member.backup(v, false)
		r.mail.events()
		r.SetBackupService("", false)
		id := r.member.backup(v, false)
		r.clock.pass(30 * time.Second)
		if b := r.truth(id); b.Status != "creating" {
			t.Errorf("%+v, want it to hang", b)
		}
		r.clock.pass(time.Minute)
		out := r.member.must(404, "DELETE volume/backups/"+old, "")
		if m := out["itemNotFound"].(map[string]any)["message"]; m != "Service cinder-backup could not be found." {
			t.Error(m)
		}
		if b := r.truth(old); b.Status != "available" {
			t.Errorf("%+v, want it untouched", b)
		}
		out = r.admin.must(200, "GET volume/os-services?binary=cinder-backup", "")
		if s := out["services"].([]any)[0].(map[string]any)["state"]; s != "down" {
			t.Errorf("the service is %s", s)
		}
		r.SetBackupService("", true)
		if b := r.truth(id); b.Status != "error" ||
			b.FailReason != "Create backup aborted, expected volume status backing-up but got available." {
			t.Errorf("%+v", b)
		}
		if diff := cmp.Diff([]string{"backup.create.start"}, r.mail.events()); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("no service that is known is an error at once", func(t *testing.T) {
		r := newRig(t, Options{})
		v := r.AddVolume(r.project, "v", 1, nil)
		r.SetBackupService("", false)
		id := r.member.backup(v, false)
		if b := r.truth(id); b.Status != "error" || b.FailReason != "Service not found for creating backup." {
			t.Errorf("%+v", b)
		}
		if v, _ := r.Volume(v); v.Status != "available" || len(r.mail.events()) != 0 {
			t.Errorf("the volume is %s", v.Status)
		}
	})
	t.Run("a restart breaks what is being made", func(t *testing.T) {
		r := newRig(t, Options{BackupTime: always(time.Hour)})
		v := r.AddVolume(r.project, "v", 1, nil)
		id := r.member.backup(v, false)
		r.mail.events()
		r.CinderRestarted()
		r.clock.pass(2 * time.Hour)
		if b := r.truth(id); b.Status != "error" || b.FailReason != "incomplete backup reset on manager restart" {
			t.Errorf("%+v", b)
		}
		if len(r.mail.events()) != 0 {
			t.Error("somebody was told")
		}
	})
	t.Run("only so many are made at a time", func(t *testing.T) {
		r := newRig(t, Options{BackupTime: always(time.Hour), Workers: 2})
		for i := range 3 {
			r.member.backup(r.AddVolume(r.project, fmt.Sprint(i), 1, nil), false)
		}
		r.clock.pass(time.Hour)
		ended := 0
		for _, b := range r.Backups() {
			if b.Status == "available" {
				ended++
			}
		}
		if ended != 2 {
			t.Errorf("%d ended in the first hour, want 2", ended)
		}
	})
	t.Run("an incremental may turn out full, or fail for a volume that grew", func(t *testing.T) {
		r := newRig(t, Options{Chunked: true})
		v := r.AddVolume(r.project, "v", 1, nil)
		r.member.backup(v, false)
		r.FullNextBackup(v)
		if b := r.truth(r.member.backup(v, true)); b.Parent != "" || b.Status != "available" {
			t.Errorf("%+v, want it full", b)
		}
		r.Extend(v, 2)
		if b := r.truth(r.member.backup(v, true)); b.Status != "error" || !strings.Contains(b.FailReason, "volume size") {
			t.Errorf("%+v", b)
		}
	})
}

// Each way an answer can be spoiled, and what became of the request.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		say    string
		fault  *Fault
		status int    // 0 for no answer
		made   int    // backups, after it
		body   string // part of it
	}{
		{"refused", Refused(503, "later"), 503, 0, "later"},
		{"too many", TooMany(30 * time.Second), 429, 0, "rate-limited"},
		{"unheard", Unheard(), 0, 0, ""},
		{"lost after acceptance", Lost(), 0, 1, ""},
		{"a proxy's page", Page(502), 502, 0, "nginx"},
		{"cut JSON", Truncated(), 202, 1, "{"},
		{"nothing", Emptied(), 200, 1, ""},
		{"slow", Delayed(time.Millisecond), 202, 1, "backup"},
		{"hung", Hung(), 0, 0, ""},
		{"carried out later", Later(time.Minute), 0, 0, ""},
	} {
		t.Run(c.say, func(t *testing.T) {
			r := newRig(t, Options{})
			v := r.AddVolume(r.project, "v", 1, nil)
			var once sync.Once
			r.SetInject(func(_ *http.Request, op string) (f *Fault) {
				if op == "POST /volume/backups" {
					once.Do(func() { f = c.fault })
				}
				return f
			})
			patience := time.Minute
			if c.fault.Hang {
				patience = 20 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			status, out, err := r.member.ask(ctx, "POST volume/backups", fmt.Sprintf(`{"backup": {"volume_id": %q}}`, v))
			if status != c.status || (err != nil) != (c.status == 0) {
				t.Errorf("%d %v %v, want %d", status, out, err, c.status)
			}
			if !strings.Contains(fmt.Sprint(out), c.body) && c.body != "{" {
				t.Errorf("%v, want %q in it", out, c.body)
			}
			if n := len(r.Backups()); n != c.made {
				t.Errorf("%d backups made, want %d", n, c.made)
			}
			if c.fault.Late > 0 {
				r.clock.pass(c.fault.Late)
				if n := len(r.Backups()); n != 1 {
					t.Errorf("%d backups made later, want 1", n)
				}
			}
			if n := r.Calls()["POST /volume/backups"]; n != 1 {
				t.Errorf("counted %d calls", n)
			}
		})
	}
	t.Run("a list that comes back short", func(t *testing.T) {
		r := newRig(t, Options{})
		for i := range 3 {
			r.AddServer(r.project, fmt.Sprint(i), nil)
		}
		r.SetInject(func(*http.Request, string) *Fault { return Short(2) })
		if n := len(r.member.must(200, "GET compute/servers/detail", "")["servers"].([]any)); n != 1 {
			t.Errorf("%d servers, want 1", n)
		}
	})
	t.Run("over the network too", func(t *testing.T) {
		cloud, err := Start(Options{Inject: func(*http.Request, string) *Fault { return Lost() }})
		if err != nil {
			t.Fatal(err)
		}
		defer cloud.Close()
		if _, err := http.Get(cloud.AuthURL()); !errors.Is(err, io.EOF) {
			t.Errorf("%v, want the connection closed", err)
		}
	})
}

// What was asked is counted, written down and compared.
func TestAccounting(t *testing.T) {
	r := newRig(t, Options{})
	v := r.AddVolume(r.project, "v", 1, nil)
	r.Reset()
	r.member.backup(v, false)
	r.member.backup(v, true)
	r.member.must(404, "DELETE volume/backups/none", "")
	if diff := cmp.Diff(map[string]int{"POST /volume/backups": 2, "DELETE /volume/backups/ID": 1}, r.Calls()); diff != "" {
		t.Error(diff)
	}
	want := []string{"POST backup vol=" + v + " incremental=false -> 202",
		"POST backup vol=" + v + " incremental=true -> 202", "DELETE /volume/backups/ID none -> 404"}
	if diff := cmp.Diff(want, r.Log()); diff != "" {
		t.Error(diff)
	}
	all := r.Backups()
	if all[1].Parent != all[0].ID || all[1].Seq != 2 {
		t.Errorf("%+v, want the first as its parent", all[1])
	}
	if d := r.Duplicates("run"); len(d) != 1 || len(d[v+" 1"]) != 2 {
		t.Errorf("%v, want the two of run 1", d)
	}
}

// Tokens end in every way they can.
func TestTokens(t *testing.T) {
	for say, end := range map[string]func(r *rig, tenant string){
		"expired":              func(r *rig, _ string) { r.clock.pass(4 * time.Hour) },
		"revoked":              func(r *rig, tenant string) { r.RevokeTokens(tenant) },
		"without a role left":  func(r *rig, tenant string) { r.Revoke(tenant, On(r.project, "member")) },
		"the project disabled": func(r *rig, _ string) { r.SetProjectEnabled(r.project, false) },
		"the project deleted":  func(r *rig, _ string) { r.DeleteProject(r.project) },
	} {
		t.Run(say, func(t *testing.T) {
			r := newRig(t, Options{})
			tenant := r.AddUser("another", "secret", On(r.project, "member"))
			c := r.login("another")
			c.must(200, "GET volume/volumes", "")
			end(r, tenant)
			c.must(401, "GET volume/volumes", "")
		})
	}
}

// What a deleted project leaves behind stays for admins to see.
func TestDeletedProjectLeavesItsBackups(t *testing.T) {
	r := newRig(t, Options{})
	gone := r.AddProject("gone")
	tenant := r.AddUser("late", "secret", On(gone, "member"), On(r.project, "admin"))
	v := r.AddVolume(gone, "v", 1, nil)
	r.DeleteProject(gone)
	if tenant == "" || len(r.login("late").must(200, "GET volume/volumes?all_tenants=1&project_id="+gone,
		"")["volumes"].([]any)) != 1 {
		t.Errorf("volume %s of a deleted project is not listed", v)
	}
}

// Every notification has the members that the real ones have.
func TestNotificationsLookReal(t *testing.T) {
	r := newRig(t, Options{})
	v := r.AddVolume(r.project, "v", 1, map[string]string{"a": "b"})
	srv := r.AddServer(r.project, "s", map[string]string{"backup": "yes"})
	r.member.must(200, "POST compute/servers/"+srv+"/os-volume_attachments",
		fmt.Sprintf(`{"volumeAttachment": {"volumeId": %q}}`, v))
	r.member.must(200, "POST compute/servers/"+srv+"/metadata", `{"metadata": {"c": "d"}}`)
	r.member.backup(v, false)
	id := r.member.backup(v, true)
	r.member.must(202, "POST volume/backups/"+id+"/restore", `{"restore": {}}`)
	r.member.must(202, "DELETE volume/backups/"+id, "")
	r.member.must(202, "DELETE compute/servers/"+srv+"/os-volume_attachments/"+v, "")
	r.member.must(202, "POST volume/volumes/"+v+"/action", `{"os-extend": {"new_size": 2}}`)
	r.member.must(200, "PUT volume/volumes/"+v, `{"volume": {"name": "w"}}`)
	r.member.must(202, "DELETE volume/volumes/"+v, "")
	r.member.must(202, "POST compute/servers",
		`{"server": {"name": "n", "flavorRef": "1", "imageRef": "2", "networks": "none"}}`)
	r.member.must(204, "DELETE compute/servers/"+srv, "")
	got := map[string]notification{}
	for _, n := range r.mail.got {
		kind := map[string]string{"openstack": "cinder.", "nova": "nova."}[n.exchange]
		if strings.HasPrefix(n.key, "versioned") {
			kind = "nova-versioned."
		}
		got[kind+n.event] = n
	}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no captures in testdata", err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		event, want := open(raw)
		name := filepath.Base(file)
		name = name[:strings.Index(name, event)+len(event)]
		n, ok := got[name]
		if !ok {
			t.Errorf("no notification like %s", name)
			continue
		}
		for _, m := range missing("", want, n.payload) {
			t.Errorf("%s: no %s", name, m)
		}
	}
}

// left out on purpose: a volume's driver details inside its attachment, and what
// an image says of itself.
var plain = []string{"/volume_attachment[]/volume", "/volume_attachment[]/connection_info",
	"/volume_attachment[]/connector",
	"/volume_attachment[]/updated_at", "/image_meta", "/image_name"}

// missing are the paths that are in want and not in got.
func missing(at string, want, got any) (out []string) {
	switch want := want.(type) {
	case map[string]any:
		have, _ := got.(map[string]any)
		for k, v := range want {
			path := at + "/" + k
			if slices.Contains(plain, path) || strings.HasSuffix(at, "/metadata") || at == "/metadata" {
				continue
			}
			if _, ok := have[k]; !ok {
				out = append(out, path)
				continue
			}
			out = append(out, missing(path, v, have[k])...)
		}
	case []any:
		have, _ := got.([]any)
		if len(want) > 0 && len(have) > 0 {
			out = append(out, missing(at+"[]", want[0], have[0])...)
		}
	}
	return out
}

// A switch chooses the formats; Notify may call the cloud.
func TestNotificationSwitch(t *testing.T) {
	for format, want := range map[Format][]string{
		Both:      {"compute.instance.update", "instance.update"},
		Legacy:    {"compute.instance.update"},
		Versioned: {"instance.update"},
		Silent:    nil,
	} {
		r := newRig(t, Options{Notifications: format})
		srv := r.AddServer(r.project, "s", nil)
		r.SetServerMetadata(srv, map[string]string{"backup": "yes"})
		if diff := cmp.Diff(want, r.mail.events()); diff != "" {
			t.Errorf("format %d: %s", format, diff)
		}
	}
	var c *Cloud
	var seen int
	c = New(Options{Notify: func(string, string, []byte) { seen += len(c.Servers()) }})
	srv := c.AddServer(c.AddProject("p"), "s", nil)
	c.SetServerTags(srv, "backup")
	if seen != 2 {
		t.Errorf("saw %d servers from two notifications, want 2", seen)
	}
}

// Many users at once find the cloud consistent; run with -race.
func TestConcurrency(t *testing.T) {
	r := newRig(t, Options{Quota: &Quota{Volumes: -1, Gigabytes: -1, Backups: 20, BackupGigabytes: -1},
		BackupTime: always(time.Second)})
	var volumes []string
	for i := range 8 {
		volumes = append(volumes, r.AddVolume(r.project, fmt.Sprint(i), 1, nil))
	}
	var all sync.WaitGroup
	for _, v := range volumes {
		all.Go(func() {
			for range 20 {
				r.member.ask(t.Context(), "POST volume/backups",
					fmt.Sprintf(`{"backup": {"volume_id": %q, "incremental": false}}`, v)) //nolint:errcheck // 400 and 413 are fine
				r.member.ask(t.Context(), "GET volume/backups/detail?limit=3", "") //nolint:errcheck // likewise
				r.clock.pass(100 * time.Millisecond)
				r.Advance()
			}
		})
	}
	all.Wait()
	if n := len(r.Backups()); n != 20 {
		t.Errorf("%d backups, want as many as the quota allows", n)
	}
}

// A year's worth of volumes is built in no time and listed page by page.
func BenchmarkList(b *testing.B) {
	c := New(Options{})
	p := c.AddProject("p")
	for i := range 10_000 {
		c.AddServer(p, fmt.Sprint("s", i), map[string]string{"backup": "yes"}, c.AddVolume(p, fmt.Sprint("v", i), 1, nil))
	}
	c.AddUser("svc", "secret", On(p, "admin"))
	r := &rig{t: &testing.T{}, Cloud: c, project: p}
	svc := r.login("svc")
	for _, what := range []string{api.VolumePath + "/" + p + "/volumes/detail?all_tenants=1",
		api.ComputePath + "/servers/detail?all_tenants=1"} {
		b.Run(strings.Split(what, "/")[1], func(b *testing.B) {
			for b.Loop() {
				q, err := http.NewRequest("GET", c.state.Options.Base+what, http.NoBody)
				if err != nil {
					b.Fatal(err)
				}
				q.Header.Set("X-Auth-Token", svc.token)
				q.Header.Set("OpenStack-API-Version", "volume 3.64, compute 2.90")
				w := &recorder{header: http.Header{}}
				if c.ServeHTTP(w, q); w.status != 200 || w.body.Len() < 1000_000 {
					b.Fatal(w.status, w.body.Len())
				}
			}
		})
	}
	b.Run("build", func(b *testing.B) {
		for b.Loop() {
			c.AddVolume(p, "v", 1, nil)
		}
	})
}
