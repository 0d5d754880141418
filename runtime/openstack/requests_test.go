package openstack

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"staffeln/functions/backup"
)

func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}

// ids makes a list comparable.
func ids[T any](id func(T) string) func([]T, error) (any, error) {
	return func(all []T, err error) (any, error) {
		var s []string
		for _, v := range all {
			s = append(s, id(v))
		}
		return s, err
	}
}

var (
	serverIDs = ids(func(s backup.Server) string { return s.ID + " of " + s.Project })
	volumeIDs = ids(func(v backup.Volume) string { return v.Name + " of " + v.Project })
	backupIDs = ids(func(b backup.CinderBackup) string { return b.Name + " of " + b.Project })
)

// Each call is made against a recorded one: the same request goes out, headers
// and body included, and the recorded answer is read.
func TestRequests(t *testing.T) {
	first := backup.Request{Volume: web1Data, Name: "web-1-full", Metadata: map[string]string{"backup-service": "managed", "retention": "1w"}}
	show := func(id string) func(context.Context, *Cloud) (any, error) {
		return func(ctx context.Context, c *Cloud) (any, error) { return c.Backup(ctx, alphaProject, id) }
	}
	for _, tc := range []struct {
		name, recorded string
		// asks is the request where it is not the recorded one's.
		asks string
		// body is the request's where it is not the recorded one's.
		body string
		do   func(context.Context, *Cloud) (any, error)
		want any
	}{
		{
			name: "a server is shown with its metadata, tags and volumes", recorded: "nova-server",
			do: func(ctx context.Context, c *Cloud) (any, error) { return c.Server(ctx, alphaProject, web1) },
			want: backup.Server{ID: web1, Name: "web-1", Project: alphaProject, Status: "ACTIVE",
				Metadata: map[string]string{"backup": "yes"}, Tags: []string{}, Volumes: []string{web1Data}},
		}, {
			name: "all servers are listed for all tenants", recorded: "nova-servers-detail-all-tenants",
			do: func(ctx context.Context, c *Cloud) (any, error) { return serverIDs(c.Servers(ctx, "")) },
		}, {
			name: "one key of a server's metadata is set, by that key alone", recorded: "nova-metadata-set-key",
			do: func(ctx context.Context, c *Cloud) (any, error) {
				return nil, c.SetServerMetadata(ctx, alphaProject, "6adb716d-5cba-4777-ac29-a1bd6eebe61c", "last-backup-time", "2026-11-22T02:00:00Z")
			},
		}, {
			name: "a volume is shown with its backend, the pool cut off", recorded: "cinder-volume",
			asks: "GET " + cinderHost + "/v3/" + alphaProject + "/volumes/" + web1Data,
			do:   func(ctx context.Context, c *Cloud) (any, error) { return c.Volume(ctx, alphaProject, web1Data) },
			want: backup.Volume{ID: web1Data, Name: "web-1-data", Project: alphaProject, Status: "in-use", Size: 1,
				Metadata: map[string]string{}, Backend: "devcloud@ceph", Created: at("2026-11-22T11:24:30Z"), Servers: []string{web1}},
		}, {
			name: "all volumes are listed for all tenants", recorded: "cinder-volumes-detail-all-tenants",
			do: func(ctx context.Context, c *Cloud) (any, error) { return volumeIDs(c.Volumes(ctx, "")) },
		}, {
			name: "all backups are listed for all tenants", recorded: "backups-detail-all-tenants",
			do:   func(ctx context.Context, c *Cloud) (any, error) { return backupIDs(c.Backups(ctx, "")) },
			want: []string{"db-1 of " + serviceProject, "web-1-inc of " + alphaProject, "web-1-full of " + alphaProject},
		}, {
			name: "a volume's backups are asked for with the project's token, newest first", recorded: "backups-detail-of-volume",
			asks: "GET " + cinderHost + "/v3/" + alphaProject + "/backups/detail?sort=created_at%3Adesc&volume_id=" + web1Data,
			do: func(ctx context.Context, c *Cloud) (any, error) {
				return backupIDs(c.BackupsOf(ctx, alphaProject, web1Data, time.Time{}))
			},
			want: []string{"web-1-inc of " + alphaProject, "web-1-full of " + alphaProject},
		}, {
			name: "the recent backups of a project come in smaller pages", recorded: "backups-detail-of-volume",
			asks: "GET " + cinderHost + "/v3/" + alphaProject + "/backups/detail?limit=200&sort=created_at%3Adesc",
			do: func(ctx context.Context, c *Cloud) (any, error) {
				return backupIDs(c.BackupsOf(ctx, alphaProject, "", at("2026-11-22T00:00:00Z")))
			},
			want: []string{"web-1-inc of " + alphaProject, "web-1-full of " + alphaProject},
		}, {
			name: "an incremental backup", recorded: "backup-show-incremental",
			asks: "GET " + cinderHost + "/v3/" + alphaProject + "/backups/e2b0cc35-64b5-4a36-ac5f-f69866c6c8be",
			do:   show("e2b0cc35-64b5-4a36-ac5f-f69866c6c8be"),
			want: backup.CinderBackup{ID: "e2b0cc35-64b5-4a36-ac5f-f69866c6c8be", Name: "web-1-inc", Project: alphaProject, Volume: web1Data,
				Status: "available", Size: 1, Incremental: true, Container: "backups",
				Created: at("2026-11-22T11:47:38Z"), Updated: at("2026-11-22T11:47:40Z"),
				Metadata: map[string]string{"backup-service": "managed", "retention": "1w"},
				Maker:    "27baad14275d44d3bb3d76e511ad5724", Origin: backup.OriginTenant},
		}, {
			name: "a backup as a member sees it, without its project, is the project's that was asked", recorded: "backup-show-as-tenant",
			do: show("e2b0cc35-64b5-4a36-ac5f-f69866c6c8be"),
			want: backup.CinderBackup{ID: "e2b0cc35-64b5-4a36-ac5f-f69866c6c8be", Name: "web-1-inc", Project: alphaProject, Volume: web1Data,
				Status: "available", Size: 1, Incremental: true, Container: "backups",
				Created: at("2026-11-22T11:47:38Z"), Updated: at("2026-11-22T11:47:40Z"),
				Metadata: map[string]string{"backup-service": "managed", "retention": "1w"}, Origin: backup.OriginTenant},
		}, {
			name: "a failed backup has a reason and no container", recorded: "backup-show-error",
			do: show("db6ee6ef-3eac-4fdf-9190-5695c2b95368"),
			want: backup.CinderBackup{ID: "db6ee6ef-3eac-4fdf-9190-5695c2b95368", Name: "fails", Project: alphaProject,
				Volume: "d7533b63-6965-493a-81e2-0fa723b1ee21", Status: "error", Size: 1,
				FailReason: "[errno 2] RBD image not found (error opening image b'volume-d7533b63-6965-493a-81e2-0fa723b1ee21' at snapshot None)",
				Created:    at("2026-11-22T11:48:23Z"), Updated: at("2026-11-22T11:48:23Z"),
				Metadata: map[string]string{"backup-service": "managed", "retention": "1w"},
				Maker:    "27baad14275d44d3bb3d76e511ad5724", Origin: backup.OriginTenant},
		}, {
			name: "an admin's token sees a backup of another project: there is none for whoever asks in this one's name", recorded: "backup-show-from-service-project",
			asks: "GET " + cinderHost + "/v3/" + alphaProject + "/backups/64dba47a-42a9-45aa-85ed-1486960ca0a0",
			do: func(ctx context.Context, c *Cloud) (any, error) {
				_, err := c.Backup(ctx, alphaProject, "64dba47a-42a9-45aa-85ed-1486960ca0a0")
				return backup.FaultOf(err), nil
			},
			want: backup.Gone,
		}, {
			name: "a full backup is asked for with force and metadata", recorded: "backup-create-202",
			body: `{"backup": {"volume_id": "` + web1Data + `", "name": "web-1-full", "force": true,
				"metadata": {"backup-service": "managed", "retention": "1w"}}}`,
			do:   func(ctx context.Context, c *Cloud) (any, error) { return c.CreateBackup(ctx, alphaProject, first) },
			want: fullBackup,
		}, {
			name: "an incremental one to a container of its own", recorded: "backup-create-incremental-202",
			body: `{"backup": {"volume_id": "` + web1Data + `", "name": "\u0000<é>", "force": true, "incremental": true,
				"container": "archive", "metadata": {"a": "b"}}}`,
			do: func(ctx context.Context, c *Cloud) (any, error) {
				return c.CreateBackup(ctx, alphaProject, backup.Request{Volume: web1Data, Name: "\x00<é>", Incremental: true,
					Container: "archive", Metadata: map[string]string{"a": "b"}})
			},
			want: "e2b0cc35-64b5-4a36-ac5f-f69866c6c8be",
		}, {
			name: "a backup is deleted without force", recorded: "backup-delete-202",
			do: func(ctx context.Context, c *Cloud) (any, error) {
				return nil, c.DeleteBackup(ctx, alphaProject, fullBackup)
			},
		}, {
			name: "the quota and its use", recorded: "cinder-quota-usage-as-tenant",
			do:   func(ctx context.Context, c *Cloud) (any, error) { return c.Quota(ctx, alphaProject) },
			want: backup.Quota{Backups: backup.Usage{Limit: 10}, Gigabytes: backup.Usage{Limit: 1000}},
		}, {
			name: "the services that are up", recorded: "cinder-services-backup",
			do:   func(ctx context.Context, c *Cloud) (any, error) { return c.Services(ctx) },
			want: backup.Services{Known: true, Up: 1},
		}, {
			name: "a service that is down is not counted", recorded: "cinder-services-backup-down",
			asks: "GET " + cinderHost + "/v3/" + serviceProject + "/os-services?binary=cinder-backup",
			do:   func(ctx context.Context, c *Cloud) (any, error) { return c.Services(ctx) },
			want: backup.Services{Known: true},
		}, {
			name: "who may not list services is told that it is not known", recorded: "cinder-services-backup-403",
			asks: "GET " + cinderHost + "/v3/" + serviceProject + "/os-services?binary=cinder-backup",
			do:   func(ctx context.Context, c *Cloud) (any, error) { return c.Services(ctx) },
			want: backup.Services{},
		}, {
			name: "a project's name and domain", recorded: "keystone-project",
			do: func(ctx context.Context, c *Cloud) (any, error) {
				p, included, err := c.Project(ctx, alphaProject)
				if !included {
					t.Error("not included")
				}
				return p, err
			},
			want: backup.Project{ID: alphaProject, Name: "alpha", Domain: "default"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			c := f.connect(f.options(Admin))
			rec := load(t, tc.recorded)
			var got request
			f.answer = func(r request) reply { got = r; return rec.reply() }
			v, err := tc.do(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			wantLines(t, f.lines(), or(tc.asks, rec.asks()))
			for _, h := range []string{"Accept", "OpenStack-API-Version", "Content-Type"} {
				if got.header.Get(h) != rec.Request.Headers[h] {
					t.Errorf("header %s: %q, want %q", h, got.header.Get(h), rec.Request.Headers[h])
				}
			}
			body := string(rec.Request.Body)
			if tc.body != "" {
				body = tc.body
			}
			sameJSON(t, got.body, []byte(body))
			if tc.want != nil {
				if d := cmp.Diff(tc.want, v); d != "" {
					t.Errorf("(-want +got):\n%s", d)
				}
			}
			if l, ok := v.([]string); ok && tc.want == nil && len(l) < 12 {
				t.Errorf("only %d rows read: %q", len(l), l)
			}
		})
	}
}

func TestNovaIsToldTheMicroversionInBothWays(t *testing.T) {
	f := newFake(t).on("nova-server")
	f.nova = "2.26" // which knows the older header only
	c := f.connect(f.options(Admin))
	if _, err := c.Server(t.Context(), alphaProject, web1); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.asked[len(f.asked)-1].header
	if h.Get("X-OpenStack-Nova-API-Version") != "2.26" || h.Get("OpenStack-API-Version") != "compute 2.26" {
		t.Errorf("headers %v", h)
	}
}

// The own session is asked for by name, as the operator wrote it; a tenant's
// project by its id.
func TestTokensAreAskedForAsRecorded(t *testing.T) {
	f := newFake(t).on("nova-server")
	c := f.connect(f.options(Admin))
	f.on("nova-servers-detail-all-tenants")
	f.revoke()
	if _, err := c.Servers(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Server(t.Context(), alphaProject, web1); err != nil {
		t.Fatal(err)
	}
	var got []request
	for _, r := range f.asked {
		if strings.HasSuffix(r.line, "/auth/tokens") {
			got = append(got, r)
		}
	}
	recorded := []string{"keystone-token-201", "keystone-token-service-user-on-tenant-project-201"}
	if len(got) != len(recorded) {
		t.Fatalf("%d tokens asked for, want %d", len(got), len(recorded))
	}
	for i, name := range recorded {
		rec := load(t, name)
		want := strings.ReplaceAll(string(rec.Request.Body), "<password>", "hidden-secret")
		var doc map[string]map[string]any
		if err := json.Unmarshal([]byte(want), &doc); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			doc["auth"]["scope"] = map[string]any{"project": map[string]any{"id": alphaProject}}
		}
		b, _ := json.Marshal(doc)
		sameJSON(t, got[i].body, b)
		if got[i].line != rec.asks() || got[i].header.Get("X-Auth-Token") != "" {
			t.Errorf("asked %s, headers %v", got[i].line, got[i].header)
		}
	}
}

// What a function hands over may come from a notification, which anyone on the
// broker can write: it never gets into a path.
func TestIDsThatAreNone(t *testing.T) {
	f := newFake(t)
	c := f.connect(f.options(Admin))
	ctx := t.Context()
	for _, id := range []string{"", "..", "a/b", "a?b=c", "a b", "é", "%2e%2e", "a#b", strings.Repeat("a", 65), "a\n"} {
		var errs []error
		add := func(err error) { errs = append(errs, err) }
		_, err := c.Server(ctx, alphaProject, id)
		add(err)
		_, err = c.Server(ctx, id, web1)
		add(err)
		_, err = c.Volume(ctx, alphaProject, id)
		add(err)
		_, err = c.Backup(ctx, alphaProject, id)
		add(err)
		_, err = c.Quota(ctx, id)
		add(err)
		_, err = c.CreateBackup(ctx, alphaProject, backup.Request{Volume: id})
		add(err)
		_, err = c.CreateBackup(ctx, id, backup.Request{Volume: web1Data})
		add(err)
		add(c.DeleteBackup(ctx, alphaProject, id))
		add(c.SetServerMetadata(ctx, alphaProject, id, "k", "v"))
		_, _, err = c.Project(ctx, id)
		add(err)
		if id != "" {
			_, err = c.BackupsOf(ctx, alphaProject, id, time.Time{})
			add(err)
			_, err = c.Servers(ctx, id)
			add(err)
		}
		for _, err := range errs {
			wantFault(t, err, backup.Operator)
		}
	}
	for _, key := range []string{"", ".", "..", "a/b", "é", strings.Repeat("a", 256)} {
		wantFault(t, c.SetServerMetadata(ctx, alphaProject, web1, key, "v"), backup.Operator)
	}
	wantLines(t, f.lines())
}
