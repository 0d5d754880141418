//go:build e2e && role

package behaviour

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// ownRole is a user without any role of OpenStack's: what it may do, it may by the
// policy files in infra/.
var ownRole = rights{"a role of its own", map[string]string{"OS_USERNAME": "backup-role", "OS_SYSTEM_SCOPE": "all"}}

// The policy files for a role of its own grant enough for the whole job, and next to
// nothing else. The cloud's APIs are restarted, to enforce their new defaults, and again
// at the end.
func TestOnARealCloudWithARoleOfItsOwn(t *testing.T) {
	t.Cleanup(func() { removeQueues(t) })
	hold(t, "role")
	for _, sc := range scenarios {
		switch sc.name {
		case "A server that opts in has its volumes backed up, told, restored and backed up again",
			"What a policy no longer keeps is removed as the plan said, children first, and the rest restores",
			"Every owner gets one mail for each period, and every figure in it is what the API says",
			"Tenants cannot delete or change automated backups by any way there is, and can their own":
		default:
			continue
		}
		t.Run(sc.name, func(t *testing.T) {
			c := devcloud(t)
			more, err := os.ReadFile(filepath.Join("..", "..", "infra", "cinder", "role.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			c.policy = func(t *testing.T, file string) func() { return cinderPolicy(t, file+string(more)) }
			sc.play(newScene(t, c, ownRole))
		})
	}
	t.Run("What else there is in a project is not for it", func(t *testing.T) {
		s := newScene(t, devcloud(t), ownRole)
		p := s.project(nil)
		servers, v := p.machines("one")
		service := p.service()
		mine := p.manual(v[0], nil)
		refused := func(what string, err error, want ...int) {
			t.Helper()
			if got := status(err); !slices.Contains(want, got) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
		for what, call := range map[string]func() error{
			"delete the server": func() error { return service.call("DELETE", "compute", "/servers/"+servers[0], nil, nil) },
			"stop the server": func() error {
				return service.call("POST", "compute", "/servers/"+servers[0]+"/action", object{"os-stop": nil}, nil)
			},
			"see the server's console": func() error {
				return service.call("POST", "compute", "/servers/"+servers[0]+"/action",
					object{"os-getConsoleOutput": object{}}, nil)
			},
			"replace the server's metadata": func() error {
				return service.call("PUT", "compute", "/servers/"+servers[0]+"/metadata", object{"metadata": object{}}, nil)
			},
			"delete one of them": func() error {
				return service.call("DELETE", "compute", "/servers/"+servers[0]+"/metadata/backup", nil, nil)
			},
			"detach the volume": func() error {
				return service.call("DELETE", "compute", "/servers/"+servers[0]+"/os-volume_attachments/"+v[0], nil, nil)
			},
			"see all servers": func() error { return service.call("GET", "compute", "/servers/detail?all_tenants=1", nil, nil) },
			"make a volume": func() error {
				return service.call("POST", "volumev3", "/volumes", object{"volume": object{"size": 1}}, nil)
			},
			"delete a volume": func() error { return service.call("DELETE", "volumev3", "/volumes/"+v[0], nil, nil) },
			"extend a volume": func() error {
				return service.call("POST", "volumev3", "/volumes/"+v[0]+"/action", object{"os-extend": object{"new_size": 2}}, nil)
			},
			"make a snapshot": func() error {
				return service.call("POST", "volumev3", "/snapshots",
					object{"snapshot": object{"volume_id": v[0], "force": true}}, nil)
			},
			"give a volume away": func() error {
				return service.call("POST", "volumev3", "/os-volume-transfer", object{"transfer": object{"volume_id": v[0]}}, nil)
			},
			"restore a backup": func() error {
				return service.call("POST", "volumev3", "/backups/"+mine+"/restore",
					object{"restore": object{"name": "stolen"}}, nil)
			},
			"set a quota": func() error {
				return service.call("PUT", "volumev3", "/os-quota-sets/"+p.id, object{"quota_set": object{"backups": 1}}, nil)
			},
			"list services":  func() error { return service.call("GET", "volumev3", "/os-services", nil, nil) },
			"list all users": func() error { return service.call("GET", "identity", "/users", nil, nil) },
		} {
			refused(what, call(), 403)
		}
		system, err := systemToken(s, service)
		p.must(err)
		for what, path := range map[string]string{
			"list the users on the system": "/users", "list the projects on the system": "/projects",
			"list credentials on the system": "/credentials",
			"list roles on the system":       "/roles", "list groups on the system": "/groups",
		} {
			_, err := send("GET", s.cloud.auth+path, system, "", nil, nil)
			refused(what, err, 403)
		}
		p.must(p.deleteBackup(mine))
	})
}

// systemToken is a token of a user's for the system.
func systemToken(s *scene, user *session) (string, error) {
	header, err := send("POST", s.cloud.auth+"/auth/tokens", "", "", object{"auth": object{
		"identity": object{"methods": []string{"password"},
			"password": object{"user": object{"name": user.user, "domain": object{"id": "default"}, "password": user.password}}},
		"scope": object{"system": object{"all": true}},
	}}, nil)
	return header.Get("X-Subject-Token"), err
}
