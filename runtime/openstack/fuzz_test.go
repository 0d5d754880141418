package openstack

import (
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"staffeln/functions/backup"
)

// Whatever any service answers to any call: what is believed is whole and has ids
// that fit into a path, and everything else is an error of one line, which never says
// that a thing is gone where only a proxy, or a list, was not found.
func FuzzCalls(f *testing.F) {
	for _, name := range []string{"nova-server", "nova-servers-detail-page-1", "cinder-volume", "cinder-volumes-detail-page-1", "backup-show-full", "backups-detail-page-1",
		"cinder-quota-usage-as-tenant", "keystone-auth-projects", "backup-create-quota-exceeded-413", "nova-server-404", "keystone-token-401"} {
		r := load(f, name).reply()
		f.Add(r.status, "application/json", "", []byte(r.body))
	}
	for _, body := range []string{
		`{"quota_set": {"backups": {"limit": 10, "in_use": -1, "reserved": 0}, "backup_gigabytes": {"limit": -1, "in_use": 99999999999999999999999999999, "reserved": 0}}}`,
		`{"role_assignments": [{"user": {"id": "u/../x"}}, {"user": {"id": "u"}}], "links": {"next": null}}`,
		`{"user": {"id": "u", "name": "A\r\nBcc: eve", "email": "ada@example.org", "enabled": true}}`,
		`{"services": [{"status": "enabled", "state": "up"}, {"status": "", "state": null}]}`,
		`{"volumes": [], "volumes_links": [{"rel": "next", "href": "http://x/?marker=../.."}]}`,
		`{"backup": {"id": "x/y"}}`, `{"servers": null}`, `{"error": {"message": "<b>no</b>\n` + strings.Repeat("x", 400) + `"}}`, ``, `[]`, `<html><title>Bad Gateway</title>`,
		strings.Repeat(`{"volumes":`, 11_000), `{"volumes": [{"id": "` + web1Data + `", "size": 1e400}]}`,
		`{"quota_set": {"backups": {"limit": 10, "in_use": 9223372036854775807, "reserved": 9}, "backup_gigabytes": {"limit": -1, "in_use": 0, "reserved": 0}}}`,
		`{"backups": [{"id": "b", "volume_id": "v", "status": "available", "size": 9223372036854775807, "metadata": {}, "created_at": "2026-11-22T11:04:09.000000"}]}`,
	} {
		f.Add(200, "application/json", "5", []byte(body))
	}
	f.Add(503, "text/html", "Sun, 22 Nov 2026 12:00:20 GMT", []byte("<html>"))
	f.Add(429, "", "NaN", []byte(`{"overLimit": {"message": "slow"}}`))
	f.Add(302, "", "http://127.0.0.1/\r\n", []byte(""))
	fake := newFake(f)
	var given reply
	asked := fake.answer
	fake.answer = func(r request) reply {
		if name, ok := probes[r.line]; ok && given.status == 0 {
			return load(fake.t, name).reply()
		}
		if given.status == 0 {
			return asked(r)
		}
		return given
	}
	o := fake.options(Admin)
	o.Log = slog.New(slog.DiscardHandler)
	c, err := Connect(f.Context(), o)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, status int, contentType, after string, body []byte) {
		c.projects, c.services, c.users.byID = newProjects(), newServices(), nil // nothing of the last one
		fake.t, fake.asked = t, nil
		given = reply{status: 200 + (status%400+400)%400, header: map[string]string{"Content-Type": contentType, "Retry-After": after, "Location": after}, body: string(body)}
		check := func(what string, err error, write bool) {
			t.Helper()
			if err == nil {
				return
			}
			if text := err.Error(); utf8.RuneCountInString(text) > maxWords+200 || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) || strings.Contains(text, "hidden-secret") {
				t.Fatalf("%s: %d bytes of error: %q", what, len(text), text)
			}
			var e *backup.CloudError
			if e, _ = err.(*backup.CloudError); e == nil {
				t.Fatalf("%s: %T %v", what, err, err)
			}
			if e.After < 0 || e.After > maxAfter || e.Fault == backup.Doubt && !write {
				t.Fatalf("%s: %+v", what, e)
			}
			if write && given.status < 300 && e.Fault == backup.Retry {
				t.Fatalf("%s was taken with %d, and would be asked for again: %+v", what, given.status, e)
			}
		}
		list := func(what string, err error) {
			t.Helper()
			check(what, err, false)
			if err != nil && backup.FaultOf(err) == backup.Gone {
				t.Fatalf("%s: a list is gone: %v", what, err)
			}
		}
		ids := func(what string, ids ...string) {
			t.Helper()
			for _, id := range ids {
				if !validID(id) {
					t.Fatalf("%s with the id %q", what, id)
				}
			}
		}
		ctx := t.Context()

		servers, err := c.Servers(ctx, alphaProject)
		list("servers", err)
		for _, s := range servers {
			ids("a server", append(s.Volumes, s.ID, s.Project)...)
		}
		volumes, err := c.Volumes(ctx, "")
		list("volumes", err)
		for _, v := range volumes {
			ids("a volume", append(v.Servers, v.ID, v.Project)...)
			if v.Size < 0 || v.Size > math.MaxInt32 || v.Metadata == nil || v.Created.IsZero() && !strings.Contains(string(body), "0001-01-01") {
				t.Fatalf("%+v", v)
			}
		}
		all, err := c.BackupsOf(ctx, alphaProject, "", time.Time{})
		list("backups", err)
		for _, b := range all {
			ids("a backup", b.ID, b.Project, b.Volume)
			if b.Size < 0 || b.Size > math.MaxInt32 || b.Metadata == nil || b.Status == "" {
				t.Fatalf("%+v", b)
			}
		}
		if err != nil && all != nil {
			t.Fatal("a part of a list, and an error")
		}
		v, err := c.Volume(ctx, alphaProject, web1Data)
		check("volume", err, false)
		if err == nil && v.ID != web1Data {
			t.Fatalf("volume %q was not asked for", v.ID)
		}
		b, err := c.Backup(ctx, alphaProject, fullBackup)
		check("backup", err, false)
		if err == nil && b.ID != fullBackup {
			t.Fatalf("backup %q was not asked for", b.ID)
		}
		_, err = c.Server(ctx, alphaProject, web1Data)
		check("server", err, false)
		q, err := c.Quota(ctx, alphaProject)
		check("quota", err, false)
		for _, n := range []int{q.Backups.Limit, q.Backups.Used, q.Backups.Reserved, q.Gigabytes.Limit, q.Gigabytes.Used, q.Gigabytes.Reserved} {
			if err != nil && n != 0 || n < -math.MaxInt32 || n > math.MaxInt32 {
				t.Fatalf("%+v and %v", q, err)
			}
		}
		id, err := c.CreateBackup(ctx, alphaProject, backup.Request{Volume: web1Data})
		check("create", err, true)
		if err == nil {
			ids("a new backup", id)
		}
		check("delete", c.DeleteBackup(ctx, alphaProject, fullBackup), true)
		check("metadata", c.SetServerMetadata(ctx, alphaProject, web1Data, "k", "v"), true)
		services, err := c.Services(ctx)
		check("services", err, false)
		if services.Up < 0 || services.Up > 0 && !services.Known {
			t.Fatalf("%+v", services)
		}
		p, _, err := c.Project(ctx, alphaProject)
		check("project", err, false)
		if err == nil && p.ID != alphaProject {
			t.Fatalf("project %q was not asked for", p.ID)
		}
		people, err := c.Members(ctx, alphaProject)
		check("members", err, false) // of one project, which can be gone
		for _, p := range people {
			if !isAddress(p.Address) || strings.ContainsFunc(p.Name, unicode.IsControl) {
				t.Fatalf("%+q", p)
			}
		}
	})
}

// A Retry-After of any form is a wait between nothing and an hour.
func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "3", "0.5", "-1", "1e9", "NaN", "Inf", "-Inf", "0x10p3", " 7 ", "Sun, 22 Nov 2026 12:00:20 GMT", "Sunday, 22-Nov-26 12:00:20 GMT", "Sun Nov 22 12:00:20 2026", "Thu, 01 Jan 1970 00:00:00 GMT", "１"} {
		f.Add(s, int64(1795348800))
	}
	f.Fuzz(func(t *testing.T, s string, unix int64) {
		if got := retryAfter(s, time.Unix(unix%(1<<40), 0)); got < 0 || got > maxAfter {
			t.Fatalf("%q at %d: %s", s, unix, got)
		}
	})
}

// Whatever the OS_* variables hold: the options are as good as [Options.Check] says,
// or what is wrong is told in a few words, with the variable's name and no password.
func FuzzFromEnv(f *testing.F) {
	f.Add("http://127.0.0.1:5000/v3", "backup-svc", "service", "OS_USER_DOMAIN_NAME", "Default")
	f.Add("https://u:k3yring@h/v3", "u", "", "OS_INSECURE", "maybe")
	f.Add("http://h/v2.0/", "", "p", "OS_AUTH_TYPE", strings.Repeat("x", 3000))
	f.Add("k3yring://\x00", "\xff", "p", "OS_SYSTEM_SCOPE", "none")
	f.Add("http://h?x=k3yring#k3yring", "u", "p", "OS_TOKEN", "k3yring")
	f.Add("http://h:99999999/", "u", "p", "OS_IDENTITY_API_VERSION", "2.0")
	f.Add("http://[::1", "u", "p", "OS_INTERFACE", "publicURLURL")
	f.Add("http://h", "u", "p", "OS_APPLICATION_CREDENTIAL_SECRET", "k3yring")
	f.Fuzz(func(t *testing.T, address, user, project, name, value string) {
		if name == "OS_CLOUD" || name == "OS_CACERT" || name == "OS_CERT" || name == "OS_KEY" {
			t.Skip("reads files")
		}
		const secret = "k3yring"
		env := map[string]string{"OS_AUTH_URL": address, "OS_USERNAME": user, "OS_PASSWORD": secret, "OS_PROJECT_NAME": project, name: value}
		o, err := FromEnv(func(name string) (string, bool) { v, ok := env[name]; return v, ok })
		if err == nil {
			err = o.Check()
		}
		if err == nil {
			if o.Auth.Scope == nil || o.Auth.Password == "" || o.Auth.Username == "" && o.Auth.UserID == "" || !strings.HasPrefix(strings.ToLower(o.Auth.IdentityEndpoint), "http") || o.TLS == nil || o.TLS.MinVersion == 0 {
				t.Fatalf("%+v", o)
			}
			return
		}
		text := err.Error()
		if len(text) > 3000 || !strings.Contains(text, "OS_") && !strings.Contains(text, "rights") && !strings.Contains(text, "credential") || strings.ContainsAny(text, "\r\n\x00") {
			t.Fatalf("%d bytes of error: %.500q", len(text), text)
		}
		if strings.Contains(text, secret) && !strings.Contains(user+project+name, secret) && !(strings.Contains(value, secret) && !strings.Contains(name, "TOKEN") && !strings.Contains(name, "SECRET")) && !strings.Contains(address, "/"+secret) {
			t.Fatalf("the error has the password: %q", text)
		}
	})
}
