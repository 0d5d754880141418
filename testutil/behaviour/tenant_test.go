package behaviour

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A project is one of the scenario's own, with its user: the tenant. What fails in
// its methods fails the test.
type project struct {
	t        *testing.T
	s        *scene
	id, name string
	user     *session
}

// A volume, a backup and a server, as the API tells of them.
type volume struct {
	ID, Name, Status string
	Size             int
	Bootable         string
	Metadata         map[string]string
}

type backupRow struct {
	ID, Name, Status string
	VolumeID         string            `json:"volume_id"`
	Incremental      bool              `json:"is_incremental"`
	Dependents       bool              `json:"has_dependent_backups"`
	FailReason       string            `json:"fail_reason"`
	Container        string            `json:"container"`
	CreatedAt        string            `json:"created_at"`
	Metadata         map[string]string `json:"metadata"`
}

func (b backupRow) run() string { return b.Metadata["__staffeln_run"] }

type server struct {
	ID, Name, Status string
	Metadata         map[string]string
	Tags             []string
	Volumes          []struct{ ID string } `json:"os-extended-volumes:volumes_attached"`
}

// project makes a project and its user, and has all of it removed at the end.
// quota are Cinder's, by name; what is not named is unlimited.
func (s *scene) project(quota object) *project {
	s.t.Helper()
	s.projects++
	name := fmt.Sprintf("%s-%d", s.id, s.projects)
	p := &project{t: s.t, s: s, name: name, user: &session{auth: s.cloud.auth, user: name, password: password,
		project: name}}
	var out struct{ Project struct{ ID string } }
	p.must(s.admin.call("POST", "identity", "/projects",
		object{"project": object{"name": name, "domain_id": "default"}}, &out))
	p.id = out.Project.ID
	var user struct{ User struct{ ID string } }
	p.must(s.admin.call("POST", "identity", "/users",
		object{"user": object{"name": name, "domain_id": "default", "password": password}}, &user))
	s.t.Cleanup(func() { p.remove(user.User.ID) })
	var roles struct{ Roles []struct{ ID, Name string } }
	p.must(s.admin.call("GET", "identity", "/roles", nil, &roles))
	for _, r := range roles.Roles {
		if r.Name == "member" {
			p.must(s.admin.call("PUT", "identity", "/projects/"+p.id+"/users/"+user.User.ID+"/roles/"+r.ID, nil, nil))
		}
	}
	set := object{"backups": -1, "backup_gigabytes": -1, "volumes": -1, "gigabytes": -1}
	for k, v := range quota {
		set[k] = v
	}
	p.quota(set)
	return p
}

// password is that of every user.
const password = "devcloud"

func (p *project) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatalf("project %s: %v", p.name, err)
	}
}

// quota sets the project's quota, as an operator does.
func (p *project) quota(set object) {
	p.t.Helper()
	p.must(p.s.admin.call("PUT", "volumev3", "/os-quota-sets/"+p.id, object{"quota_set": set}, nil))
}

// volume makes volumes of 1 GiB with something written to them; names in order.
func (p *project) volumes(names ...string) []string {
	p.t.Helper()
	ids := make([]string, len(names))
	for i, name := range names {
		var out struct{ Volume volume }
		p.must(p.user.call("POST", "volumev3", "/volumes", object{"volume": object{"name": name, "size": 1}}, &out))
		ids[i] = out.Volume.ID
	}
	for i, id := range ids {
		p.until(time.Minute, "volume "+names[i]+" is available", func() string {
			return wants("available", p.volume(id).Status)
		})
		p.s.cloud.write(p.t, id, names[i])
	}
	return ids
}

func (p *project) volume(id string) volume {
	p.t.Helper()
	var out struct{ Volume volume }
	p.must(p.user.call("GET", "volumev3", "/volumes/"+id, nil, &out))
	return out.Volume
}

// server makes a server on a root volume if rooted, and attaches the volumes.
func (p *project) server(name string, rooted bool, volumes ...string) string {
	p.t.Helper()
	in := object{"name": name, "flavorRef": p.s.cloud.flavor, "networks": "none"}
	if rooted {
		in["block_device_mapping_v2"] = []object{{"boot_index": 0, "uuid": p.s.cloud.image, "source_type": "image",
			"destination_type": "volume", "volume_size": 1, "delete_on_termination": true}}
	} else {
		in["imageRef"] = p.s.cloud.image
	}
	id := ""
	p.until(4*time.Minute, "server "+name+" is active", func() string {
		status := "none"
		if id != "" {
			status = p.show(id).Status
		}
		// A Nova that has just lost its broker finds no valid host for a while: made anew.
		if status == "ERROR" {
			p.must(p.user.call("DELETE", "compute", "/servers/"+id, nil, nil))
			id = ""
		}
		if id == "" {
			var out struct{ Server server }
			p.must(p.user.call("POST", "compute", "/servers", object{"server": in}, &out))
			id = out.Server.ID
			status = "BUILD"
		}
		return wants("ACTIVE", status)
	})
	for _, v := range volumes {
		p.attach(id, v)
	}
	return id
}

// machines makes servers with one volume each, several at a time, and returns
// their ids and those of their volumes.
func (p *project) machines(names ...string) (servers, volumes []string) {
	p.t.Helper()
	servers, volumes = make([]string, len(names)), make([]string, len(names))
	var all sync.WaitGroup
	slots := make(chan struct{}, 3)
	for i, name := range names {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			v := p.volumes(name + "-data")
			servers[i], volumes[i] = p.server(name, false, v...), v[0]
		})
	}
	all.Wait()
	if p.t.Failed() {
		p.t.FailNow()
	}
	return servers, volumes
}

func (p *project) attach(server, volume string) {
	p.t.Helper()
	p.must(p.user.call("POST", "compute", "/servers/"+server+"/os-volume_attachments",
		object{"volumeAttachment": object{"volumeId": volume}}, nil))
	p.until(time.Minute, "volume "+volume+" is attached", func() string {
		return wants("in-use", p.volume(volume).Status)
	})
}

func (p *project) show(id string) server {
	p.t.Helper()
	var out struct{ Server server }
	p.must(p.user.call("GET", "compute", "/servers/"+id, nil, &out))
	return out.Server
}

// optIn sets a server's metadata, and returns when that was.
func (p *project) optIn(server string) time.Time {
	p.t.Helper()
	p.must(p.user.call("POST", "compute", "/servers/"+server+"/metadata", object{"metadata": object{"backup": "yes"}},
		nil))
	return time.Now()
}

// tag gives a server a tag.
func (p *project) tag(server, tag string) time.Time {
	p.t.Helper()
	p.must(p.user.call("PUT", "compute", "/servers/"+server+"/tags/"+tag, nil, nil))
	return time.Now()
}

// skip marks a volume as not to be backed up.
func (p *project) skip(volume string) {
	p.t.Helper()
	p.must(p.user.call("POST", "volumev3", "/volumes/"+volume+"/metadata",
		object{"metadata": object{"skip-volume-backup": "true"}}, nil))
}

// backups are those the tenant sees, oldest first.
func (p *project) backups() []backupRow {
	p.t.Helper()
	rows, err := p.list()
	p.must(err)
	return rows
}

func (p *project) list() ([]backupRow, error) {
	var out struct{ Backups []backupRow }
	err := p.user.call("GET", "volumev3", "/backups/detail", nil, &out)
	slices.SortFunc(out.Backups, func(a, b backupRow) int {
		return cmp.Or(strings.Compare(a.CreatedAt, b.CreatedAt), strings.Compare(a.run(), b.run()))
	})
	return out.Backups, err
}

// backupsOf are those of one volume.
func (p *project) backupsOf(volume string) []backupRow {
	p.t.Helper()
	return slices.DeleteFunc(p.backups(), func(b backupRow) bool { return b.VolumeID != volume })
}

// restore restores a backup to a new volume, and returns its id when it is done.
func (p *project) restore(backup string) string {
	p.t.Helper()
	var out struct {
		Restore struct {
			VolumeID string `json:"volume_id"`
		}
	}
	p.must(p.user.call("POST", "volumev3", "/backups/"+backup+"/restore",
		object{"restore": object{"name": "restored"}}, &out))
	id := out.Restore.VolumeID
	p.until(2*time.Minute, "the restored volume is available", func() string {
		return wants("available", p.volume(id).Status)
	})
	return id
}

func wants(want, got string) string {
	if got == want {
		return ""
	}
	return fmt.Sprintf("it is %q", got)
}

// until polls until ok has nothing to say against it, or fails the test with its
// last words.
func (p *project) until(limit time.Duration, what string, ok func() string) {
	p.t.Helper()
	until(p.t, p.s.cloud.poll, limit, what, ok)
}

func until(t *testing.T, poll, limit time.Duration, what string, ok func() string) {
	t.Helper()
	if why := tried(poll, limit, ok); why != "" {
		t.Fatalf("not within %s: %s: %s", limit, what, why)
	}
}

func tried(poll, limit time.Duration, ok func() string) (why string) {
	for end := time.Now().Add(limit); ; time.Sleep(poll) {
		if why = ok(); why == "" || time.Now().After(end) {
			return why
		}
	}
}

// serversLeft counts the servers there are, -1 if that is not to be known.
func (p *project) serversLeft() int {
	var servers struct{ Servers []server }
	if p.user.call("GET", "compute", "/servers", nil, &servers) != nil {
		return -1
	}
	return len(servers.Servers)
}

// remove takes away everything the project has, as an administrator who finds it
// in whatever state. What cannot be removed is logged: it is not what is tested.
func (p *project) remove(user string) {
	gone := func(err error) bool { return status(err) == 404 }
	var servers struct{ Servers []server }
	if err := p.user.call("GET", "compute", "/servers/detail", nil, &servers); err != nil {
		p.t.Logf("project %s cannot be removed: %v", p.name, err)
		return
	}
	for _, s := range servers.Servers {
		_ = p.user.call("DELETE", "compute", "/servers/"+s.ID, nil, nil)
	}
	svc := &session{auth: p.user.auth, user: "backup-svc", password: password, project: p.name}
	why := tried(p.s.cloud.poll, 3*time.Minute, func() string {
		rows, err := p.list()
		if err != nil {
			return err.Error()
		}
		slices.Reverse(rows) // children first
		for _, b := range rows {
			if !b.Dependents && (b.Status == "available" || b.Status == "error") {
				_ = p.user.call("DELETE", "volumev3", "/backups/"+b.ID, nil, nil)
			}
		}
		if len(rows) > 0 {
			return fmt.Sprintf("%d backups are left, the first %s", len(rows), rows[0].Status)
		}
		var volumes struct{ Volumes []volume }
		if err := p.user.call("GET", "volumev3", "/volumes/detail", nil, &volumes); err != nil {
			return err.Error()
		}
		for _, v := range volumes.Volumes {
			switch v.Status {
			case "available", "error":
				_ = p.user.call("DELETE", "volumev3", "/volumes/"+v.ID, nil, nil)
			case "in-use":
				// Detached while it was being backed up: nothing says so any more.
				if left := p.serversLeft(); left == 0 {
					_ = svc.call("POST", "volumev3", "/volumes/"+v.ID+"/action",
						object{"os-reset_status": object{"status": "error", "attach_status": "detached"}}, nil)
				}
			case "backing-up", "restoring-backup", "error_restoring", "error_backing-up", "error_deleting":
				_ = svc.call("POST", "volumev3", "/volumes/"+v.ID+"/action",
					object{"os-reset_status": object{"status": "error"}}, nil)
			}
		}
		if len(volumes.Volumes) > 0 {
			return fmt.Sprintf("%d volumes are left, the first %s", len(volumes.Volumes), volumes.Volumes[0].Status)
		}
		return ""
	})
	if why != "" {
		p.t.Logf("project %s cannot be removed: %s", p.name, why)
		return
	}
	for _, path := range []string{"/projects/" + p.id, "/users/" + user} {
		if err := p.s.admin.call("DELETE", "identity", path, nil, nil); err != nil && !gone(err) {
			p.t.Logf("project %s: %v", p.name, err)
		}
	}
}
