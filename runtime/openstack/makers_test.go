package openstack

import (
	"strings"
	"testing"

	"staffeln/functions/backup"
)

// An admin sees it by one backup of the whole cloud.
func TestShowsMakersToAnAdmin(t *testing.T) {
	const list = "GET " + cinderHost + "/v3/" + serviceProject + "/backups/detail?all_tenants=1&limit=1"
	recorded := load(t, "backups-detail-all-tenants").reply()
	hidden := recorded
	hidden.body = strings.ReplaceAll(hidden.body, `"user_id"`, `"gone"`)
	for _, tc := range []struct {
		name         string
		cinder       string
		answer       reply
		shown, known bool
		fault        string // "" for no error
		asked        []string
	}{
		{"it is shown", "3.70", recorded, true, true, "", []string{list}},
		{"it is shown from 3.56 on", "3.56", recorded, true, true, "", []string{list}},
		{"before, no Cinder has it, and none is asked", "3.55", recorded, false, true, "", nil},
		{"the policy hides it", "3.70", hidden, false, true, "", []string{list}},
		{"a maker that is not noted is shown as well", "3.70", ok(`{"backups": [{"id": "x", "user_id": null}]}`), true, true, "", []string{list}},
		{"a cloud without a backup", "3.70", ok(`{"backups": []}`), false, false, "", []string{list}},
		{"a Cinder in trouble", "3.70", reply{status: 503}, false, false, "retry", []string{list}},
		{"an answer that cannot be read", "3.70", ok(`{"backups": 1}`), false, false, "retry", []string{list}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			f.cinder = tc.cinder
			c := f.connect(f.options(Admin))
			f.answer = func(request) reply { return tc.answer }
			shown, known, err := c.ShowsMakers(t.Context())
			if err != nil && backup.FaultOf(err).String() != tc.fault || err == nil && tc.fault != "" {
				t.Errorf("error %v, want %q", err, tc.fault)
			}
			if shown != tc.shown || known != tc.known {
				t.Errorf("shown %v, known %v, want %v, %v", shown, known, tc.shown, tc.known)
			}
			if told := c.TellsMakers(); told != (tc.cinder != "3.55") {
				t.Errorf("Cinder %s can tell: %v", tc.cinder, told)
			}
			wantLines(t, f.lines(), tc.asked...)
		})
	}
}

// With least rights projects are asked until one has a backup, and not more than twenty.
func TestShowsMakersWithLeastRights(t *testing.T) {
	const (
		shown  = `{"id": "x", "user_id": "u", "os-backup-project-attr:project_id": "p"}`
		hidden = `{"id": "x"}`
	)
	rows := func(row string) reply { return ok(`{"backups": [` + row + `]}`) }
	denied := load(t, "cinder-quota-usage-of-other-403").reply()
	for _, tc := range []struct {
		name         string
		projects     int
		answers      map[int]reply // by project; without a backup where there is none
		shown, known bool
		fault        string
		asked        int
	}{
		{"the first has one", 3, map[int]reply{0: rows(shown)}, true, true, "", 1},
		{"the third has one", 3, map[int]reply{2: rows(shown)}, true, true, "", 3},
		{"the policy hides who made it", 3, map[int]reply{1: rows(hidden), 2: rows(shown)}, false, true, "", 2},
		{"none has one", 3, nil, false, false, "", 3},
		{"there is no project", 0, nil, false, false, "", 0},
		{"only the first twenty are asked", 25, map[int]reply{20: rows(shown)}, false, false, "", 20},
		{"the twentieth is", 25, map[int]reply{19: rows(hidden)}, false, true, "", 20},
		{"one that refuses is passed over", 3, map[int]reply{0: denied, 1: rows(shown)}, true, true, "", 2},
		{"and told of where no other has one", 3, map[int]reply{0: denied}, false, false, "operator", 3},
		{"a Cinder in trouble is not asked on", 3, map[int]reply{1: {status: 503}, 2: rows(shown)}, false, false, "retry", 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			f.roles, f.cinder = []string{"member"}, "3.70"
			c := f.connect(f.options(Projects))
			var mine, want []string
			answers := map[string]reply{}
			for i := range tc.projects {
				id := project(i)
				mine = append(mine, `{"id": "`+id+`", "name": "p", "domain_id": "default"}`)
				line := "GET " + cinderHost + "/v3/" + id + "/backups/detail?limit=1"
				answers[line] = rows("")
				if a, ok := tc.answers[i]; ok {
					answers[line] = a
				}
				if i < tc.asked {
					want = append(want, line)
				}
			}
			f.answer = func(r request) reply {
				if strings.HasSuffix(r.line, "/auth/projects") {
					return ok(`{"projects": [` + strings.Join(mine, ",") + `], "links": {"next": null}}`)
				}
				a, found := answers[r.line]
				if !found {
					t.Errorf("asked %s", r.line)
				}
				return a
			}
			c.projects = newProjects() // Connect remembers those of the recording
			shown, known, err := c.ShowsMakers(t.Context())
			if err != nil && backup.FaultOf(err).String() != tc.fault || err == nil && tc.fault != "" {
				t.Errorf("error %v, want %q", err, tc.fault)
			}
			if shown != tc.shown || known != tc.known {
				t.Errorf("shown %v, known %v, want %v, %v", shown, known, tc.shown, tc.known)
			}
			wantLines(t, f.lines(), append([]string{"GET " + keystoneHost + "/v3/auth/projects"}, want...)...)
		})
	}
}
