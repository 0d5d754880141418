package openstack

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"staffeln/functions/backup"
)

const dbBackup = "64dba47a-42a9-45aa-85ed-1486960ca0a0" // in the project service

// An admin asks once, with the own session, whosever the backup is.
func TestFindBackupAsAdmin(t *testing.T) {
	f := newFake(t).on("backup-show-from-service-project")
	c := f.connect(f.options(Admin))
	before := f.tokensGiven()
	b, err := c.FindBackup(t.Context(), dbBackup)
	if err != nil || b.ID != dbBackup || b.Project != serviceProject {
		t.Errorf("%+v, %v", b, err)
	}
	wantLines(t, f.lines(), "GET "+cinderHost+"/v3/"+serviceProject+"/backups/"+dbBackup)

	f.answer = func(request) reply { return load(t, "backup-show-404").reply() }
	_, err = c.FindBackup(t.Context(), nothing)
	wantFault(t, err, backup.Gone)
	if f.tokensGiven() != before {
		t.Error("it asked for another token")
	}

	f.answer = func(request) reply { return load(t, "backup-show-as-tenant").reply() }
	_, err = c.FindBackup(t.Context(), "e2b0cc35-64b5-4a36-ac5f-f69866c6c8be")
	if e := wantFault(t, err, backup.Retry); !strings.Contains(e.Message, backupProjectKey) {
		t.Errorf("a backup that Cinder does not say the owner of: %v", e)
	}

	_, err = c.FindBackup(t.Context(), "../volumes/x")
	wantFault(t, err, backup.Operator)
	f.lines()

	// Who is no admin any more is told that there is none, which is not so.
	f.roles = []string{"member"}
	f.revoke()
	_, _ = c.FindBackup(t.Context(), dbBackup) // this one finds the token taken back
	_, err = c.FindBackup(t.Context(), dbBackup)
	wantFault(t, err, backup.Operator)
}

// With least rights every project is asked until one has it.
func TestFindBackupWithLeastRights(t *testing.T) {
	many := func(n int) string {
		var rows []string
		for i := range n {
			rows = append(rows, `{"id": "`+project(i)+`", "name": "p", "domain_id": "default"}`)
		}
		return `{"projects": [` + strings.Join(rows, ",") + `], "links": {"next": null}}`
	}
	shown := strings.ReplaceAll(load(t, "backup-show-as-tenant").reply().body, "e2b0cc35-64b5-4a36-ac5f-f69866c6c8be", dbBackup)
	for _, tc := range []struct {
		name     string
		projects int
		// answers are those of the project with that number; all others have none.
		answers map[int]reply
		want    int // the project that has it
		fault   backup.Fault
		says    string
	}{
		{name: "the first has it", projects: 9, answers: map[int]reply{0: ok(shown)}},
		{name: "the last has it", projects: 9, answers: map[int]reply{8: ok(shown)}, want: 8},
		{name: "none has it", projects: 9, want: -1, fault: backup.Gone, says: "in none of 9 projects"},
		{name: "there is no project", projects: 0, want: -1, fault: backup.Gone, says: "in none of 0 projects"},
		{name: "one does not answer: it may be there", projects: 9, answers: map[int]reply{4: {status: 503}}, want: -1, fault: backup.Retry, says: "empty answer"},
		{name: "one does not answer, but another has it", projects: 9, answers: map[int]reply{4: {status: 503}, 7: ok(shown)}, want: 7},
		{name: "one says 404 without being Cinder", projects: 9, answers: map[int]reply{4: {status: 404}}, want: -1, fault: backup.Operator, says: "empty answer"},
		{name: "more than are asked", projects: 103, answers: map[int]reply{101: ok(shown)}, want: -1, fault: backup.Retry, says: "in none of 100 projects, and 3 more were not asked"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			f.roles = []string{"member"}
			o := f.options(Auto)
			c := f.connect(o)
			c.projects = newProjects() // those of the recordings
			f.answer = func(r request) reply {
				if strings.HasSuffix(r.line, "/v3/auth/projects") {
					return ok(many(tc.projects))
				}
				for i, a := range tc.answers {
					if strings.Contains(r.line, project(i)) {
						return a
					}
				}
				return load(t, "backup-show-404").reply()
			}
			b, err := c.FindBackup(t.Context(), dbBackup)
			if tc.want < 0 {
				if e := wantFault(t, err, tc.fault); !strings.Contains(e.Message, tc.says) {
					t.Errorf("%q, want %q", e, tc.says)
				}
			} else if err != nil || b.ID != dbBackup || b.Project != project(tc.want) {
				t.Errorf("%+v, %v", b, err)
			}
			if n := len(f.lines()); n > 1+maxFind {
				t.Errorf("%d calls", n)
			}
		})
	}
}

// A project that has been deleted since the projects were listed has no backups.
func TestFindBackupAfterAProjectIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t).on("keystone-auth-projects")
		f.roles = []string{"member"}
		c := f.connect(f.options(Auto))
		listed := f.answer
		f.answer = func(r request) reply {
			if strings.HasSuffix(r.line, "/backups/"+nothing) {
				return load(t, "backup-show-404").reply()
			}
			return listed(r)
		}
		f.authenticate = func(scope string) reply {
			if scope == gammaProject {
				return load(t, "keystone-token-unknown-project-401").reply()
			}
			return reply{}
		}
		time.Sleep(time.Minute)
		_, err := c.FindBackup(t.Context(), nothing)
		if e := wantFault(t, err, backup.Operator); e.Status != 401 {
			t.Errorf("%v, while Keystone still lists the project", e)
		}
		before := f.answer
		f.answer = func(r request) reply {
			a := before(r)
			if strings.HasSuffix(r.line, "/v3/auth/projects") {
				a.body = strings.ReplaceAll(a.body, gammaProject, alphaProject)
			}
			return a
		}
		time.Sleep(time.Minute)
		_, err = c.FindBackup(t.Context(), nothing)
		wantFault(t, err, backup.Gone)
	})
}

// Those that have a token already are asked first.
func TestFindBackupAsksWhereItIsCheapFirst(t *testing.T) {
	f := newFake(t)
	f.roles = []string{"member"}
	c := f.connect(f.options(Auto))
	f.answer = quotas(t)
	for _, p := range []string{alphaProject, gammaProject} {
		if err := quotaOf(t.Context(), c, p); err != nil {
			t.Fatal(err)
		}
	}
	mine, err := c.myProjects(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, p := range mine {
		ids = append(ids, p.ID)
	}
	got := c.sessions.openFirst(ids, c.scopeOf)
	want := []string{gammaProject, alphaProject, serviceProject} // the last used first; service is home
	if len(got) != len(ids) || !slices.Equal(got[:3], want) {
		t.Errorf("%q, want %q first", got, want)
	}
}

// Whoever asked may stop waiting: nothing is known then.
func TestFindBackupGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.roles = []string{"member"}
		c := f.connect(f.options(Auto))
		f.authenticate = func(string) reply { time.Sleep(time.Minute); return reply{} }
		f.answer = func(request) reply { return load(t, "backup-show-404").reply() }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := c.FindBackup(ctx, dbBackup)
		if e := wantFault(t, err, backup.Retry); e.Status == http.StatusNotFound {
			t.Error(e)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("it took %s", took)
		}
		time.Sleep(time.Minute) // until the fake has let go of all
	})
}
