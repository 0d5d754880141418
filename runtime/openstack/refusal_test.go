package openstack

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"staffeln/functions/backup"
)

// What OpenStack says, and what it means for what was asked.
func TestRefusals(t *testing.T) {
	create := func(ctx context.Context, c *Cloud) error {
		_, err := c.CreateBackup(ctx, alphaProject, backup.Request{Volume: web1Data, Name: "x"})
		return err
	}
	remove := func(ctx context.Context, c *Cloud) error { return c.DeleteBackup(ctx, alphaProject, fullBackup) }
	stamp := func(ctx context.Context, c *Cloud) error {
		return c.SetServerMetadata(ctx, alphaProject, web1, "last-backup-time", "x")
	}
	server := func(ctx context.Context, c *Cloud) error { _, err := c.Server(ctx, alphaProject, nothing); return err }
	volume := func(ctx context.Context, c *Cloud) error { _, err := c.Volume(ctx, alphaProject, nothing); return err }
	show := func(ctx context.Context, c *Cloud) error { _, err := c.Backup(ctx, alphaProject, nothing); return err }
	project := func(ctx context.Context, c *Cloud) error { _, _, err := c.Project(ctx, nothing); return err }
	servers := func(ctx context.Context, c *Cloud) error { _, err := c.Servers(ctx, ""); return err }
	volumes := func(ctx context.Context, c *Cloud) error { _, err := c.Volumes(ctx, alphaProject); return err }
	quota := func(ctx context.Context, c *Cloud) error { _, err := c.Quota(ctx, alphaProject); return err }

	for _, tc := range []struct {
		recorded string
		do       func(context.Context, *Cloud) error
		want     backup.Fault
		says     string
	}{
		{"backup-create-quota-exceeded-413", create, backup.Owner, "BackupLimitExceeded: Maximum number of backups allowed (2) exceeded"},
		{"backup-create-gigabytes-quota-exceeded-413", create, backup.Owner, "VolumeBackupSizeExceedsAvailableQuota: Requested backup exceeds allowed Backup gigabytes quota. Requested 1G, quota is 0G and 0G has been consumed."},
		{"backup-create-incremental-without-parent-400", create, backup.NeedsFull, "Invalid backup: No backups available to do an incremental backup."},
		{"backup-create-while-backing-up-400", create, backup.Busy, `Invalid volume: Volume to be backed up must be available or in-use, but the current status is "backing-up".`},
		{"backup-create-in-use-without-force-400", create, backup.Busy, "Invalid volume: Backing up an in-use volume must use the force flag."},
		{"backup-create-no-volume-404", create, backup.Gone, "Volume " + nothing + " could not be found."},
		{"cinder-project-mismatch-400", create, backup.Operator, "Malformed request url"},
		{"cinder-microversion-too-high-406", create, backup.Operator, "Version 3.99 is not supported by the API. Minimum is 3.0 and maximum is 3.70."},
		{"cinder-no-such-page-404", create, backup.Operator, "The resource could not be found."},
		{"backup-delete-404", remove, backup.Gone, "Backup " + nothing + " could not be found."},
		{"backup-delete-service-down-404", remove, backup.NoService, "Service cinder-backup could not be found."},
		{"backup-delete-while-creating-400", remove, backup.Busy, "Invalid backup: Backup status must be available or error"},
		{"backup-delete-while-restoring-400", remove, backup.Busy, "Invalid backup: Backup status must be available or error"},
		{"backup-delete-with-dependents-400", remove, backup.Dependents, "Invalid backup: Incremental backups exist for this backup."},
		{"nova-metadata-set-key-404", stamp, backup.Gone, "Instance " + nothing + " could not be found."},
		{"nova-metadata-set-key-locked-409", stamp, backup.Busy, "Instance 6adb716d-5cba-4777-ac29-a1bd6eebe61c is locked"},
		{"nova-metadata-set-key-too-many-403", stamp, backup.Operator, "Maximum number of metadata items exceeds 128"},
		{"nova-server-404", server, backup.Gone, "Instance " + nothing + " could not be found."},
		{"nova-no-such-page-404", server, backup.Operator, "The resource could not be found."},
		{"cinder-volume-404", volume, backup.Gone, "Volume " + nothing + " could not be found."},
		{"cinder-no-such-page-404", volume, backup.Operator, "The resource could not be found."},
		{"backup-show-404", show, backup.Gone, "Backup " + nothing + " could not be found."},
		{"keystone-project-404", project, backup.Gone, "Could not find project: " + nothing + "."},
		{"keystone-no-such-page-404", project, backup.Operator, `an HTML page "404 Not Found" instead of OpenStack's JSON`},
		{"nova-servers-detail-all-tenants-as-tenant-403", servers, backup.Operator, "Policy doesn't allow os_compute_api:servers:detail:get_all_tenants to be performed."},
		{"nova-server-404", servers, backup.Operator, "Instance " + nothing + " could not be found."},
		{"cinder-volume-404", volumes, backup.Operator, "Volume " + nothing + " could not be found."},
		{"cinder-quota-usage-of-other-403", quota, backup.Operator, "Policy doesn't allow volume_extension:quotas:show to be performed."},
		{"nova-bad-token-401", server, backup.Operator, "The request you have made requires authentication."},
		{"keystone-bad-token-401", project, backup.Operator, "The request you have made requires authentication."},
	} {
		t.Run(tc.recorded, func(t *testing.T) {
			f := newFake(t)
			c := f.connect(f.options(Admin))
			rec := load(t, tc.recorded)
			f.answer = func(request) reply { return rec.reply() }
			e := wantFault(t, tc.do(t.Context(), c), tc.want)
			if e.Message != tc.says || e.Status != rec.Response.Status || e.After != 0 {
				t.Errorf("said %d %q after %s, want %d %q", e.Status, e.Message, e.After, rec.Response.Status, tc.says)
			}
		})
	}
}

// Answers of proxies and of an OpenStack in trouble, to a read and to a write.
func TestRefusalsOfOthers(t *testing.T) {
	const html = "<!DOCTYPE html><html><head><title>502 Bad\nGateway</title></head><body>secret</body></html>"
	for _, tc := range []struct {
		name        string
		reply       reply
		read, write backup.Fault
		says        string
	}{
		{"a proxy has nobody to ask", reply{status: 502, body: html}, backup.Retry, backup.Doubt, `an HTML page "502 Bad Gateway" instead of OpenStack's JSON`},
		{"a proxy sheds load", reply{status: 503, body: html, header: map[string]string{"Retry-After": "7"}}, backup.Retry, backup.Retry, ""},
		{"a proxy gives up waiting", reply{status: 504, body: ""}, backup.Retry, backup.Doubt, "an empty answer"},
		{"Cinder breaks", reply{status: 500, body: `{"computeFault": {"code": 500, "message": "The server has either erred or is incapable of performing the requested operation."}}`},
			backup.Retry, backup.Doubt, "The server has either erred or is incapable of performing the requested operation."},
		{"a rate limit", reply{status: 429, body: `{"overLimit": {"code": 429, "message": "slow down"}}`}, backup.Retry, backup.Retry, "slow down"},
		{"a proxy has no such page", reply{status: 404, body: html}, backup.Operator, backup.Operator, ""},
		{"a proxy has no such page and no words", reply{status: 404}, backup.Operator, backup.Operator, "an empty answer"},
		{"a 404 of JSON from somewhere else", reply{status: 404, body: `{"message": "no Route matched with those values"}`}, backup.Operator, backup.Operator, "no Route matched with those values"},
		{"a proxy finds the request too large", reply{status: 413, body: html}, backup.Operator, backup.Operator, ""},
		{"a proxy has not got the whole request", reply{status: 408, body: html}, backup.Retry, backup.Retry, ""},
		{"a login page instead of the API", reply{status: 302, header: map[string]string{"Location": "https://sso.example/login?token=secret"}}, backup.Operator, backup.Operator,
			"redirected to https://sso.example, not followed: OS_AUTH_URL or the catalogue's address is not the right one"},
		{"a redirect to nowhere", reply{status: 307}, backup.Operator, backup.Operator,
			"redirected to another page, not followed: OS_AUTH_URL or the catalogue's address is not the right one"},
		{"part of an answer", reply{status: 206, body: `{"server`}, backup.Retry, backup.Doubt, "an unexpected success: an answer of 8 bytes that is not OpenStack's JSON"},
		{"an answer without content", reply{status: 204}, backup.Retry, 0, ""},
		{"a password that Keystone cites", reply{status: 400, body: `{"error": {"message": "Invalid input for field 'password': hidden-secret"}}`}, backup.Operator, backup.Operator,
			"Invalid input for field 'password': ***"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			c := f.connect(f.options(Admin))
			f.answer = func(request) reply { return tc.reply }
			_, err := c.Server(t.Context(), alphaProject, web1)
			e := wantFault(t, err, tc.read)
			if tc.says != "" && e.Message != tc.says {
				t.Errorf("said %q, want %q", e.Message, tc.says)
			}
			if strings.Contains(e.Error(), "secret") {
				t.Errorf("cites the body: %q", e)
			}
			_, err = c.CreateBackup(t.Context(), alphaProject, backup.Request{Volume: web1Data, Name: "x"})
			if tc.reply.status == 204 {
				wantFault(t, err, backup.Doubt)
				return
			}
			wantFault(t, err, tc.write)
			if tc.reply.header["Retry-After"] == "7" && e.After != 7*time.Second {
				t.Errorf("after %s", e.After)
			}
		})
	}
}

func TestErrorBodies(t *testing.T) {
	for _, tc := range []struct {
		name, kind, body string
		says             string
		openstack        bool
	}{
		{"Nova and Cinder", "", `{"badRequest": {"code": 400, "message": "no"}}`, "no", true},
		{"Keystone", "", `{"error": {"code": 401, "title": "Unauthorized", "message": "no"}}`, "no", true},
		{"a version refused by a framework", "", `{"errors": [{"status": 406, "title": "Not Acceptable", "detail": "too new"}]}`, "too new", false},
		{"an API gateway", "", `{"message": "no", "request_id": "x"}`, "no", false},
		{"WSME", "", `{"faultstring": "no", "debuginfo": "Traceback"}`, "no", false},
		{"HTML by its type", "text/html; charset=UTF-8", "gone", "an HTML page instead of OpenStack's JSON", false},
		{"HTML by its look", "application/json", "<html><TITLE lang=en>A\x00 <b>title</b></TITLE>", `an HTML page "A <b>title</b>" instead of OpenStack's JSON`, false},
		{"text", "text/plain", "Authentication required", "an answer of 23 bytes that is not OpenStack's JSON", false},
		{"cut-off JSON", "", `{"badRequest": {"mess`, "an answer of 21 bytes that is not OpenStack's JSON", false},
		{"a list", "", `[1]`, "an answer of 3 bytes that is not OpenStack's JSON", false},
		{"null", "", `null`, "OpenStack's JSON without a message", false},
		{"a message of another type", "", `{"badRequest": {"message": {"a": 1}}}`, "OpenStack's JSON without a message", false},
		{"an empty message", "", `{"badRequest": {"message": ""}}`, "OpenStack's JSON without a message", false},
		{"blanks", "", " \n\t", "an empty answer", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			says, openstack := readError(tc.kind, []byte(tc.body))
			if says != tc.says || openstack != tc.openstack {
				t.Errorf("%q %v, want %q %v", says, openstack, tc.says, tc.openstack)
			}
		})
	}
}

func TestOneBoundedLine(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"lines and tabs become blanks", "a\r\n\tb  c\u2028d", "a b c d"},
		{"control characters go", "a\x1b[31mred\x00\u202eb", "a [31mred b"},
		{"tags go", "The resource could not be found.<br /><br />\n\n\n", "The resource could not be found."},
		{"less than is no tag", "1 < 2 and 3 > 2", "1 < 2 and 3 > 2"},
		{"what is not UTF-8 goes", "a\xffb", "a b"},
		{"other letters stay", "größer 字 ✓", "größer 字 ✓"},
	} {
		if got := clean(tc.in); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
	for _, s := range []string{strings.Repeat("ab ", 5000), strings.Repeat("字", 5000), strings.Repeat("\x00", 5000), strings.Repeat("a\xff", 5000)} {
		got := clean(s)
		if utf8.RuneCountInString(got) > maxWords || !utf8.ValidString(got) {
			t.Errorf("%d bytes: valid %v: %q", len(got), utf8.ValidString(got), got)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := at("2026-11-22T12:00:00Z")
	for in, want := range map[string]time.Duration{
		"": 0, "0": 0, "-5": 0, "soon": 0, "NaN": 0, "Inf": maxAfter, "1e300": maxAfter,
		"7": 7 * time.Second, " 30 ": 30 * time.Second, "1.5": 1500 * time.Millisecond, "86400": maxAfter,
		"Sun, 22 Nov 2026 12:00:20 GMT": 20 * time.Second,
		"Sun, 22 Nov 2026 11:00:00 GMT": 0,
		"Sun, 22 Nov 2099 11:00:00 GMT": maxAfter,
	} {
		if got := retryAfter(in, now); got != want {
			t.Errorf("Retry-After %q: %s, want %s", in, got, want)
		}
	}
}

// An answer that says success and is not one: an error for each, and never an
// empty list or a half-read thing.
func TestBadAnswers(t *testing.T) {
	type call struct {
		name string
		// good is a recording, or a body, that the bad ones are made from.
		good  string
		write bool
		do    func(context.Context, *Cloud) error
	}
	calls := []call{
		{"list servers", "nova-servers-detail-all-tenants", false, func(ctx context.Context, c *Cloud) error { _, err := c.Servers(ctx, ""); return err }},
		{"list volumes", "cinder-volumes-detail-all-tenants", false, func(ctx context.Context, c *Cloud) error { _, err := c.Volumes(ctx, ""); return err }},
		{"list backups", "backups-detail-all-tenants", false, func(ctx context.Context, c *Cloud) error { _, err := c.Backups(ctx, ""); return err }},
		{"list a project's backups", "backups-detail-of-volume", false, func(ctx context.Context, c *Cloud) error {
			_, err := c.BackupsOf(ctx, alphaProject, "", time.Time{})
			return err
		}},
		{"show server", "nova-server", false, func(ctx context.Context, c *Cloud) error { _, err := c.Server(ctx, alphaProject, web1); return err }},
		{"show volume", "cinder-volume", false, func(ctx context.Context, c *Cloud) error { _, err := c.Volume(ctx, alphaProject, web1Data); return err }},
		{"show backup", "backup-show-full", false, func(ctx context.Context, c *Cloud) error {
			_, err := c.Backup(ctx, alphaProject, fullBackup)
			return err
		}},
		{"show quota", "cinder-quota-usage-as-tenant", false, func(ctx context.Context, c *Cloud) error { _, err := c.Quota(ctx, alphaProject); return err }},
		{"show project", "keystone-project", false, func(ctx context.Context, c *Cloud) error { _, _, err := c.Project(ctx, alphaProject); return err }},
		{"list services", "cinder-services-backup", false, func(ctx context.Context, c *Cloud) error { _, err := c.Services(ctx); return err }},
		{"create backup", "backup-create-202", true, func(ctx context.Context, c *Cloud) error {
			_, err := c.CreateBackup(ctx, alphaProject, backup.Request{Volume: web1Data, Name: "x"})
			return err
		}},
		{"set server metadata", "nova-metadata-set-key", true, func(ctx context.Context, c *Cloud) error {
			return c.SetServerMetadata(ctx, alphaProject, web1, "last-backup-time", "2026-11-22T02:00:00Z")
		}},
	}
	bad := []struct{ name, kind, body string }{
		{"nothing", "", ""},
		{"blanks", "", "\n\n"},
		{"HTML", "text/html", "<html><title>Welcome</title></html>"},
		{"text", "text/plain", "OK"},
		{"null", "", "null"},
		{"true", "", "true"},
		{"a string", "", `"x"`},
		{"a list", "", "[]"},
		{"an empty object", "", "{}"},
		{"cut off", "", "\x00half"},
		{"more than one document", "", "\x00twice"},
		{"null rows", "", `{"servers": null, "volumes": null, "backups": null, "services": null, "server": null, "volume": null, "backup": null, "quota_set": null, "project": null, "meta": null}`},
		{"rows of another type", "", `{"servers": {}, "volumes": "", "backups": 1, "services": true, "server": [], "volume": "", "backup": 1, "quota_set": [], "project": true, "meta": []}`},
		{"empty rows", "", `{"servers": [{}], "volumes": [{}], "backups": [{}], "services": [{}], "server": {}, "volume": {}, "backup": {}, "quota_set": {}, "project": {}, "meta": {}}`},
		{"rows that are null", "", `{"servers": [null], "volumes": [null], "backups": [null], "services": [null]}`},
		{"ids that are none", "", `{"servers": [{"id": "../x"}], "volumes": [{"id": "a b"}], "backups": [{"id": 7}], "services": [{"status": 1}], "server": {"id": ""}, "volume": {"id": []}, "backup": {"id": "a/b"}, "project": {"id": "?"}, "quota_set": {"backups": {"limit": "10"}}, "meta": {"last-backup-time": 1}}`},
		{"a broken link to the next page", "", `{"servers": [], "volumes": [], "backups": [], "services": [], "servers_links": 1, "volumes_links": 1, "backups_links": 1, "services_links": 1}`},
		{"a link to the next page without marker", "", `{"servers": [], "volumes": [], "backups": [], "services": [], "servers_links": [{"rel": "next", "href": "http://x/y"}], "volumes_links": [{"rel": "next", "href": ""}], "backups_links": [{"rel": "next", "href": "http://x/?marker=../y"}], "services_links": [{"rel": "next"}]}`},
	}
	for _, cl := range calls {
		for _, b := range bad {
			t.Run(cl.name+"/"+b.name, func(t *testing.T) {
				f := newFake(t)
				c := f.connect(f.options(Admin))
				good := load(t, cl.good).reply()
				body := b.body
				switch body {
				case "\x00half":
					body = good.body[:len(good.body)/2]
				case "\x00twice":
					body = good.body + good.body
				}
				f.answer = func(request) reply {
					return reply{status: good.status, header: map[string]string{"Content-Type": or(b.kind, "application/json")}, body: body}
				}
				want := backup.Retry
				if cl.write {
					want = backup.Doubt
				}
				e := wantFault(t, cl.do(t.Context(), c), want)
				if e.Status != good.status || e.Message == "" || e.Op == "" {
					t.Errorf("%+v", e)
				}
			})
		}
	}
}

// What must be in an answer and is not, one at a time.
func TestMissingFields(t *testing.T) {
	for _, tc := range []struct {
		recorded, cut string
	}{
		{"nova-server", `"metadata"`}, {"nova-server", `"tags"`}, {"nova-server", `"tenant_id"`},
		{"nova-server", `"status"`}, {"nova-server", `"os-extended-volumes:volumes_attached"`},
		{"cinder-volume", `"metadata"`}, {"cinder-volume", `"size"`}, {"cinder-volume", `"status"`},
		{"cinder-volume", `"attachments"`}, {"cinder-volume", `"created_at"`},
		{"backup-show-full", `"metadata"`}, {"backup-show-full", `"volume_id"`}, {"backup-show-full", `"status"`},
		{"backup-show-full", `"created_at"`},
	} {
		t.Run(tc.recorded+" without "+tc.cut, func(t *testing.T) {
			f := newFake(t)
			c := f.connect(f.options(Admin))
			r := load(t, tc.recorded).reply()
			cut := strings.Replace(r.body, tc.cut, `"gone"`, 1)
			if cut == r.body {
				t.Fatal("nothing cut")
			}
			f.answer = func(request) reply { return ok(cut) }
			var err error
			switch tc.recorded {
			case "nova-server":
				_, err = c.Server(t.Context(), alphaProject, web1)
			case "cinder-volume":
				_, err = c.Volume(t.Context(), alphaProject, web1Data)
			default:
				_, err = c.Backup(t.Context(), alphaProject, fullBackup)
			}
			wantFault(t, err, backup.Retry)
		})
	}
}

func TestAnAnswerAboutAnotherThing(t *testing.T) {
	f := newFake(t)
	c := f.connect(f.options(Admin))
	for _, name := range []string{"nova-server", "cinder-volume", "backup-show-full", "keystone-project"} {
		f.answer = func(request) reply { return ok(string(load(t, name).Response.Body)) }
		var err error
		switch name {
		case "nova-server":
			_, err = c.Server(t.Context(), alphaProject, nothing)
		case "cinder-volume":
			_, err = c.Volume(t.Context(), alphaProject, nothing)
		case "backup-show-full":
			_, err = c.Backup(t.Context(), alphaProject, nothing)
		default:
			_, _, err = c.Project(t.Context(), nothing)
		}
		e := wantFault(t, err, backup.Retry)
		if !strings.Contains(e.Message, "another") {
			t.Errorf("%s: %q", name, e.Message)
		}
	}
}

// From 2.69 on Nova shows a stub of a server whose cell does not answer.
func TestACellThatDoesNotAnswer(t *testing.T) {
	stub := `{"id": "` + nothing + `", "status": "UNKNOWN", "tenant_id": "` + alphaProject + `", "created": "2026-11-22T11:24:30Z", "links": []}`
	f := newFake(t)
	c := f.connect(f.options(Admin))
	f.answer = func(r request) reply {
		if strings.Contains(r.line, "/detail") {
			return ok(`{"servers": [` + stub + `]}`)
		}
		return ok(`{"server": ` + stub + `}`)
	}
	_, err := c.Servers(t.Context(), "")
	if e := wantFault(t, err, backup.Retry); !strings.Contains(e.Message, "a cell of Nova's does not answer") {
		t.Error(e)
	}
	_, err = c.Server(t.Context(), alphaProject, nothing)
	wantFault(t, err, backup.Retry)
}

func TestErrorsNameWhatWasAsked(t *testing.T) {
	f := newFake(t)
	c := f.connect(f.options(Admin))
	f.answer = func(request) reply { return load(t, "nova-server-404").reply() }
	_, err := c.Server(t.Context(), alphaProject, nothing)
	want := fmt.Sprintf("show server: 404: Instance %s could not be found.", nothing)
	if err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
	f.answer = func(request) reply { return reply{err: errors.New("cut")} }
	_, err = c.Server(t.Context(), alphaProject, nothing)
	if err.Error() != "show server: cut" {
		t.Errorf("%q", err)
	}
}
