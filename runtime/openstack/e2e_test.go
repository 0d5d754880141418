//go:build e2e

package openstack

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"staffeln/functions/backup"
)

// These run on a real OpenStack, the one that testutil/devcloud starts and
// seeds: go test -tags e2e ./runtime/openstack/ -run E2E -v

func devcloud(user string, more map[string]string) func(string) (string, bool) {
	env := map[string]string{
		"OS_AUTH_URL": "http://127.0.0.1:5000/v3", "OS_REGION_NAME": "RegionOne", "OS_INTERFACE": "public",
		"OS_USER_DOMAIN_NAME": "Default", "OS_PROJECT_DOMAIN_NAME": "Default",
		"OS_USERNAME": user, "OS_PASSWORD": "devcloud",
	}
	for k, v := range more {
		env[k] = v
	}
	return func(n string) (string, bool) { v, ok := env[n]; return v, ok }
}

// calls counts what was asked, by op and status.
type calls struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *calls) see(op string, status int, _ time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	c.n[fmt.Sprintf("%s %d", op, status)]++
}

func TestE2E(t *testing.T) {
	for _, tc := range []struct {
		name, user string
		env        map[string]string
		admin      bool
	}{
		{"an admin with a home project", "backup-svc", map[string]string{"OS_PROJECT_NAME": "service"}, true},
		{"least rights with a home project", "backup-min", map[string]string{"OS_PROJECT_NAME": "alpha"}, false},
		{"least rights on the system", "backup-min", map[string]string{"OS_SYSTEM_SCOPE": "all"}, false},
		{"least rights without a scope", "backup-min", nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) { e2e(t, devcloud(tc.user, tc.env), tc.admin) })
	}
}

func e2e(t *testing.T, env func(string) (string, bool), admin bool) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	o, err := FromEnv(env)
	must(err)
	seen := &calls{}
	o.Observe = seen.see
	o.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	// The seeded projects and one of our own; others may be making more.
	project, server, volume := tenant(t, ctx)
	o.IncludeProjects = []string{"alpha", "beta", "gamma", project}
	c, err := Connect(ctx, o)
	must(err)
	if c.AllTenants() != admin {
		t.Fatalf("all tenants: %v", c.AllTenants())
	}
	scopes, err := c.Scopes(ctx)
	must(err)
	if want := map[bool]int{true: 1, false: 4}[admin]; len(scopes) != want {
		t.Fatalf("%d scopes, want %d: %q", len(scopes), want, scopes)
	}

	var servers []backup.Server
	var volumes []backup.Volume
	for _, s := range scopes {
		got, err := c.Servers(ctx, s)
		must(err)
		servers = append(servers, got...)
		vs, err := c.Volumes(ctx, s)
		must(err)
		volumes = append(volumes, vs...)
		bs, err := c.Backups(ctx, s)
		must(err)
		t.Logf("scope %q: %d servers, %d volumes, %d backups", s, len(got), len(vs), len(bs))
	}
	projects := map[string]backup.Project{}
	for _, s := range servers {
		p, in, err := c.Project(ctx, s.Project)
		must(err)
		if !in {
			t.Errorf("server %s of project %s, which is not included", s.Name, p.Name)
		}
		projects[p.Name] = p
	}
	if len(projects) != 4 || len(servers) < 13 || len(volumes) < 15 {
		t.Fatalf("%d projects, %d servers, %d volumes; seeded are 3, 12 and 14, and one of ours", len(projects), len(servers), len(volumes))
	}
	services, err := c.Services(ctx)
	must(err)
	if services.Known != admin {
		t.Errorf("services: %+v", services)
	}
	for _, p := range projects {
		q, err := c.Quota(ctx, p.ID)
		must(err)
		t.Logf("quota of %s: %+v", p.Name, q)
	}
	nobody := "00000000-0000-0000-0000-00000000dead"
	_, err = c.Server(ctx, project, nobody)
	wantFault(t, err, backup.Gone)
	_, err = c.Volume(ctx, project, nobody)
	wantFault(t, err, backup.Gone)
	_, err = c.Backup(ctx, project, nobody)
	wantFault(t, err, backup.Gone)
	wantFault(t, c.SetServerMetadata(ctx, project, nobody, "a", "b"), backup.Gone)
	_, err = c.CreateBackup(ctx, project, backup.Request{Volume: nobody})
	wantFault(t, err, backup.Gone)

	s, err := c.Server(ctx, project, server)
	must(err)
	must(c.SetServerMetadata(ctx, project, server, "last-backup-time", "2026-11-22T02:00:00Z"))
	after, err := c.Server(ctx, project, server)
	must(err)
	if after.Metadata["last-backup-time"] != "2026-11-22T02:00:00Z" || len(after.Metadata) != max(len(s.Metadata), 2) {
		t.Errorf("metadata after the stamp: %v, before: %v", after.Metadata, s.Metadata)
	}

	_, err = c.CreateBackup(ctx, project, backup.Request{Volume: volume, Name: "x", Incremental: true})
	wantFault(t, err, backup.NeedsFull)
	meta := map[string]string{"__automated_backup": "True", "run": volume + "@20261122T020000Z"}
	id, err := c.CreateBackup(ctx, project, backup.Request{Volume: volume, Name: "ostk-\"<é>", Metadata: meta})
	must(err)
	wantFault(t, c.DeleteBackup(ctx, project, id), backup.Busy)
	_, err = c.CreateBackup(ctx, project, backup.Request{Volume: volume, Name: "again"})
	wantFault(t, err, backup.Busy)
	for {
		b, err := c.Backup(ctx, project, id)
		must(err)
		if b.Status == "available" {
			if b.Metadata["run"] != meta["run"] || b.Name != "ostk-\"<é>" || b.Project != project || b.Volume != volume || b.Created.IsZero() {
				t.Errorf("backup: %+v", b)
			}
			break
		}
		if b.Status != "creating" {
			t.Fatalf("backup: %+v", b)
		}
		pause(ctx)
	}
	whose, err := c.FindBackup(ctx, id)
	must(err)
	if whose.ID != id || whose.Project != project {
		t.Errorf("found without its project: %+v", whose)
	}
	if at, ok := c.Clock(); !ok || time.Since(at).Abs() > time.Minute || c.Self() == "" {
		t.Errorf("Keystone's clock says %s, %v; the user's id is %q", at, ok, c.Self())
	}
	of, err := c.BackupsOf(ctx, project, volume, time.Time{})
	must(err)
	if len(of) != 1 || of[0].ID != id {
		t.Errorf("backups of the volume: %+v", of)
	}
	recent, err := c.BackupsOf(ctx, project, "", of[0].Created.Add(-time.Minute))
	must(err)
	found := false
	for _, b := range recent {
		found = found || b.ID == id
	}
	if !found {
		t.Errorf("not among the recent backups of the project: %+v", recent)
	}
	v, err := c.Volume(ctx, project, volume)
	must(err)
	t.Logf("volume: %+v", v)
	must(c.DeleteBackup(ctx, project, id))
	for {
		b, err := c.Backup(ctx, project, id)
		if err != nil {
			wantFault(t, err, backup.Gone)
			_, err = c.FindBackup(ctx, id)
			wantFault(t, err, backup.Gone)
			break
		}
		if !strings.HasPrefix(b.Status, "deleting") {
			t.Fatalf("backup: %+v", b)
		}
		pause(ctx)
	}
	t.Logf("asked: %v", seen.n)
}

// tenant makes a project with a server and a volume attached to it, and removes
// them when the test is over.
func tenant(t *testing.T, ctx context.Context) (project, server, volume string) {
	o, err := FromEnv(devcloud("backup-svc", map[string]string{"OS_PROJECT_NAME": "service"}))
	if err != nil {
		t.Fatal(err)
	}
	c, err := Connect(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	call := func(ctx context.Context, scope string, a ask, body string) map[string]any {
		t.Helper()
		if body != "" {
			a.body = json.RawMessage(body)
		}
		a.op = a.method + " " + a.path
		a.ok = []int{200, 201, 202, 204}
		got, err := c.do(ctx, scope, a)
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]any{}
		if len(got.body) > 0 {
			if err := json.Unmarshal(got.body, &m); err != nil {
				t.Fatal(err)
			}
		}
		return m
	}
	at := func(m map[string]any, keys ...string) string {
		var v any = m
		for _, k := range keys {
			v, _ = v.(map[string]any)[k]
		}
		s, _ := v.(string)
		return s
	}
	until := func(ctx context.Context, a ask, kind, status string) {
		t.Helper()
		for {
			switch s := at(call(ctx, project, a, ""), kind, "status"); {
			case strings.EqualFold(s, status):
				return
			case strings.EqualFold(s, "error"):
				t.Fatalf("%s is in error", a.path)
			}
			pause(ctx)
		}
	}
	name := fmt.Sprintf("ostk-%d", time.Now().UnixNano())
	project = at(call(ctx, ownScope, ask{api: keystoneAPI, method: "POST", path: "projects"},
		fmt.Sprintf(`{"project": {"name": %q, "domain_id": "default"}}`, name)), "project", "id")
	t.Cleanup(func() {
		call(context.Background(), ownScope, ask{api: keystoneAPI, method: "DELETE", path: "projects/" + project}, "")
	})
	volume = at(call(ctx, project, ask{api: cinderAPI, method: "POST", path: "volumes"},
		fmt.Sprintf(`{"volume": {"name": %q, "size": 1}}`, name)), "volume", "id")
	t.Cleanup(func() {
		bg, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		until(bg, ask{api: cinderAPI, method: "GET", path: "volumes/" + volume}, "volume", "available")
		call(bg, project, ask{api: cinderAPI, method: "DELETE", path: "volumes/" + volume}, "")
	})
	until(ctx, ask{api: cinderAPI, method: "GET", path: "volumes/" + volume}, "volume", "available")
	first := func(m map[string]any, key string) string {
		for _, v := range m[key].([]any) {
			if v := v.(map[string]any); v["name"] == "m1.tiny" {
				return v["id"].(string)
			}
		}
		return ""
	}
	flavor := first(call(ctx, project, ask{api: novaAPI, method: "GET", path: "flavors"}, ""), "flavors")
	seeded, err := c.Servers(ctx, allTenantsScope)
	if err != nil || len(seeded) == 0 {
		t.Fatalf("the devcloud is not seeded: %v", err)
	}
	image := at(call(ctx, ownScope, ask{api: novaAPI, method: "GET", path: "servers/" + seeded[len(seeded)-1].ID}, ""), "server", "image", "id")
	server = at(call(ctx, project, ask{api: novaAPI, method: "POST", path: "servers"},
		fmt.Sprintf(`{"server": {"name": %q, "flavorRef": %q, "imageRef": %q, "networks": "none", "metadata": {"backup": "yes"}, "tags": ["backup:gold"]}}`,
			name, flavor, image)), "server", "id")
	t.Cleanup(func() {
		call(context.Background(), project, ask{api: novaAPI, method: "DELETE", path: "servers/" + server}, "")
	})
	until(ctx, ask{api: novaAPI, method: "GET", path: "servers/" + server}, "server", "active")
	call(ctx, project, ask{api: novaAPI, method: "POST", path: "servers/" + server + "/os-volume_attachments"},
		fmt.Sprintf(`{"volumeAttachment": {"volumeId": %q}}`, volume))
	until(ctx, ask{api: cinderAPI, method: "GET", path: "volumes/" + volume}, "volume", "in-use")
	return project, server, volume
}

// pause is between two looks at something that a real service is doing.
func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Second):
	}
}
