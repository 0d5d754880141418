package simcloud

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// backupJSON is a backup as the API tells it. Source: cinder/api/views/backups.py
// and cinder/api/v3/backups.py.
type backupJSON struct {
	ID          string            `json:"id"`
	Status      string            `json:"status"`
	Size        int               `json:"size"`
	Objects     int               `json:"object_count"`
	Zone        *string           `json:"availability_zone"`
	Container   *string           `json:"container"`
	Created     *string           `json:"created_at"`
	Updated     *string           `json:"updated_at"`
	Name        *string           `json:"name"`
	Description *string           `json:"description"`
	FailReason  *string           `json:"fail_reason"`
	Volume      string            `json:"volume_id"`
	Links       []link            `json:"links"`
	Incremental bool              `json:"is_incremental"`
	Dependents  bool              `json:"has_dependent_backups"`
	Snapshot    *string           `json:"snapshot_id"`
	Data        *string           `json:"data_timestamp"`
	Metadata    map[string]string `json:"metadata,omitzero"` // from 3.43
	Project     string            `json:"os-backup-project-attr:project_id,omitempty"`
	User        string            `json:"user_id,omitempty"`
}

func (s *state) backupView(q *request, b *backup) *backupJSON {
	out := &backupJSON{ID: b.id, Status: b.status, Size: b.size, Container: orNull(b.container),
		Created: cinderAt(b.created), Updated: cinderAt(b.updated), Name: orNull(b.name), Description: orNull(b.description),
		FailReason: orNull(b.failReason), Volume: b.volume, Links: s.links(q, "backups", b.id),
		Incremental: b.parent != nil, Dependents: b.dependents > 0, Data: cinderAt(b.created)}
	if q.version >= 43 {
		out.Metadata = b.metadata
	}
	if q.makers {
		if q.version >= 18 {
			out.Project = b.project.id
		}
		if q.version >= 56 {
			out.User = b.user
		}
	}
	return out
}

func (s *state) findBackup(q *request, id string) *backup {
	b := s.backups[id]
	if b == nil || b.project != q.token.project && !q.token.admin() {
		return nil
	}
	return b
}

func noBackup(id string) answer { return fail(404, "Backup %s could not be found.", id) }

// listBackups is GET /backups and /backups/detail.
func (s *state) listBackups(q *request, _ time.Time) answer {
	limit, a := q.pageLimit(s.o.PageLimit)
	if a.status != 0 {
		return a
	}
	filters, a := q.filters([]string{"name", "status", "volume_id"})
	if a.status != 0 {
		return a
	}
	all, a := q.everywhere()
	if a.status != 0 {
		return a
	}
	ascending, a := q.sorting()
	if a.status != 0 {
		return a
	}
	var marker *backup
	if id := q.query.Get("marker"); id != "" {
		if marker = s.findBackup(q, id); marker == nil {
			return noBackup(id)
		}
	}
	rows := &order[*backup]{}
	of := s.byVolume[filters["volume_id"]]
	switch {
	case filters["volume_id"] != "" && of != nil:
		rows = of // whose projects are looked at below
	case filters["volume_id"] != "":
	case !all && q.token.project != nil:
		rows = &q.token.project.backups
	case all && filters["project_id"] != "":
		if p := s.tenants[filters["project_id"]]; p != nil {
			rows = &p.backups
		}
	case all:
		rows = &s.allBackups
	}
	detail := strings.HasSuffix(q.route.pattern, "detail")
	if detail {
		if a := s.askMakers(q); a.status != 0 {
			return a
		}
	}
	l := listing[*backup]{q: q, limit: limit, name: "backups", path: s.cinderBase(q) + "/" + q.route.pattern,
		id: func(b *backup) string { return b.id },
		keep: func(b *backup) bool {
			if !all && b.project != q.token.project {
				return false
			}
			for k, want := range filters {
				var have string
				switch k {
				case "name":
					have = b.name
				case "status":
					have = b.status
				case "volume_id":
					have = b.volume
				case "project_id":
					have = b.project.id
				case "id":
					have = b.id
				case "user_id":
					have = b.user
				case "size":
					have = strconv.Itoa(b.size)
				case "parent_id":
					if b.parent != nil {
						have = b.parent.id
					}
				default: // metadata too: an admin's filter by it finds nothing
					return false
				}
				if have != want {
					return false
				}
			}
			return true
		},
		view: func(b *backup) any {
			if detail {
				return s.backupView(q, b)
			}
			return summaryJSON{b.id, orNull(b.name), s.links(q, "backups", b.id)}
		}}
	p := l.page(rows, marker, ascending)
	l.withCount(p, rows)
	return answer{status: 200, page: p}
}

func (s *state) showBackup(q *request, _ time.Time) answer {
	b := s.findBackup(q, q.args[0])
	if b == nil {
		return noBackup(q.args[0])
	}
	if a := s.askMakers(q); a.status != 0 {
		return a
	}
	return ok(map[string]any{"backup": s.backupView(q, b)})
}

func (s *state) backupSummary(q *request, b *backup) any {
	return map[string]any{"backup": summaryJSON{b.id, orNull(b.name), s.links(q, "backups", b.id)}}
}

// makeBackup is POST /backups. The order of the refusals is Cinder's: the body,
// the volume, its status, the quotas, the parent. Source: cinder/backup/api.py,
// create.
func (s *state) makeBackup(q *request, now time.Time) answer {
	q.note = "POST backup"
	keys := []string{"volume_id", "container", "description", "incremental", "force", "name", "snapshot_id"}
	if q.version >= 43 {
		keys = append(keys, "metadata")
	}
	if q.version >= 51 {
		keys = append(keys, "availability_zone")
	}
	in, a := q.bodyOf("backup", keys, "volume_id")
	if a.status != 0 {
		return a
	}
	b := &backup{user: q.token.user.id, project: q.token.project, status: "creating", created: now, updated: now}
	if b.volume, a = uuidIn(in, "volume_id"); a.status != 0 {
		return a
	}
	for _, f := range []struct {
		name string
		to   *string
	}{{"name", &b.name}, {"description", &b.description}, {"container", &b.container}} {
		if *f.to, a = text(in, f.name); a.status != 0 {
			return a
		}
	}
	incremental, a := boolean(in, "incremental")
	if a.status != 0 {
		return a
	}
	force, a := boolean(in, "force")
	if a.status != 0 {
		return a
	}
	if b.metadata, a = metadataIn(in, "metadata"); a.status != 0 {
		return a
	}
	b.metadata = clone(b.metadata)
	q.note = "POST backup vol=" + b.volume + " incremental=" + strconv.FormatBool(incremental)

	v := s.findVolume(q, b.volume)
	switch {
	case v == nil:
		return noVolume(b.volume)
	case b.project == nil:
		return fail(400, "Malformed request url")
	case v.status != "available" && v.status != "in-use":
		return fail(400, "Invalid volume: Volume to be backed up must be available or in-use, but the current status is \"%s\".", v.status)
	case v.status == "in-use" && !force:
		return fail(400, "Invalid volume: Backing up an in-use volume must use the force flag.")
	}
	l := b.project.limits(&s.o)
	if l.BackupGigabytes >= 0 && b.project.backupGB+v.size > l.BackupGigabytes {
		return fail(413, "VolumeBackupSizeExceedsAvailableQuota: Requested backup exceeds allowed Backup gigabytes quota. Requested %dG, quota is %dG and %dG has been consumed.", v.size, l.BackupGigabytes, b.project.backupGB)
	}
	if l.Backups >= 0 && len(b.project.backups.rows)+1 > l.Backups {
		return fail(413, "BackupLimitExceeded: Maximum number of backups allowed (%d) exceeded", l.Backups)
	}
	if incremental {
		// The parent is the newest of the project's backups of the volume, whatever
		// its status, and must then be available: an older one is not looked for.
		newest := s.newestBackup(b.volume, b.project)
		switch {
		case newest == nil:
			return fail(400, "Invalid backup: No backups available to do an incremental backup.")
		case newest.status != "available":
			return fail(400, "Invalid backup: The parent backup must be available for incremental backup.")
		}
		b.parent = newest
	}
	b.id, b.size, b.content = s.uuid(), v.size, v.content
	b.saved = savedVolume{v.name, v.description, v.metadata}
	v.previous, v.status, v.updated = v.status, "backing-up", now
	s.addBackup(b)
	s.schedule(b, v, now, q.who())
	return answer{status: 202, body: s.backupSummary(q, b)}
}

func (s *state) newestBackup(volume string, p *project) *backup {
	if of := s.byVolume[volume]; of != nil {
		for i := len(of.rows) - 1; i >= 0; i-- {
			if of.rows[i].project == p {
				return of.rows[i]
			}
		}
	}
	return nil
}

// believed says whether Cinder takes a service for up.
func (s *state) believed(v *service, now time.Time) bool {
	return v.up || now.Sub(v.down) < s.o.DownTime
}

// pick chooses the cinder-backup service for a job; nil for none.
func (s *state) pick(now time.Time) *service {
	var best *service
	for _, v := range s.services {
		if v.binary == "cinder-backup" && !v.disabled && s.believed(v, now) &&
			(best == nil || v.busy+len(v.queue) < best.busy+len(best.queue)) {
			best = v
		}
	}
	return best
}

// schedule gives a new backup to a cinder-backup service. Source:
// cinder/scheduler/manager.py and cinder/backup/manager.py.
func (s *state) schedule(b *backup, v *volume, now time.Time, w who) {
	host := s.pick(now)
	if host == nil {
		s.failedBackup(b, v, "Service not found for creating backup.", now)
		return
	}
	b.host = host.host
	s.enqueue(host, now, func(at time.Time) { s.runBackup(host, b, v, at, w) })
}

// enqueue starts a job when the service has a hand free, or when it is up again.
func (s *state) enqueue(host *service, now time.Time, job func(at time.Time)) {
	host.queue = append(host.queue, job)
	s.work(host, now)
}

func (s *state) work(host *service, now time.Time) {
	for host.up && len(host.queue) > 0 && (s.o.Workers < 0 || host.busy < s.o.Workers) {
		job := host.queue[0]
		host.queue = host.queue[1:]
		host.busy++
		job(now)
	}
}

// free gives a hand back.
func (s *state) free(host *service, now time.Time) {
	host.busy--
	s.work(host, now)
}

// after does a step of a job when its time has come, unless the service was
// stopped or restarted meanwhile, which began a new job number.
func (s *state) after(host *service, b *backup, at time.Time, step func(at time.Time)) {
	job := b.job
	s.at(at, func(at time.Time) {
		if b.job == job {
			step(at)
			s.free(host, at)
		}
	})
}

func (s *state) runBackup(host *service, b *backup, v *volume, now time.Time, w who) {
	if s.backups[b.id] != b {
		s.free(host, now)
		return
	}
	s.notifyBackup("create.start", b, now, w)
	why := ""
	switch {
	case v.status != "backing-up":
		why = "Create backup aborted, expected volume status backing-up but got " + v.status + "."
	case b.status != "creating":
		why = "Create backup aborted, expected backup status creating but got " + b.status + "."
	}
	if why != "" {
		b.status, b.failReason, b.updated, b.ended = "error", why, now, now
		s.free(host, now)
		return
	}
	b.serviceName = true
	var takes time.Duration
	if s.o.BackupTime != nil {
		takes = s.o.BackupTime(v.truth(), b.parent != nil)
	}
	s.after(host, b, now.Add(takes), func(at time.Time) {
		if why := s.reason(b); why != "" {
			s.failedBackup(b, v, why, at)
			return
		}
		if b.container == "" {
			b.container = defaultPool
		}
		if why := s.poolTrouble(b); why != "" {
			s.failedBackup(b, v, why, at)
			return
		}
		if s.fullNext[b.volume] > 0 && b.parent != nil {
			s.fullNext[b.volume]--
			b.parent = nil
		}
		if s.volumes[v.id] == v && v.status == "backing-up" {
			v.status, v.updated = v.previous, at
		}
		b.status, b.updated, b.ended = "available", at, at
		if b.parent != nil {
			b.parent.dependents, b.parent.updated = b.parent.dependents+1, at
		}
		s.notifyBackup("create.end", b, at, w)
	})
}

// A Pool is what becomes of backups in a container, which is a pool to the Ceph
// driver.
type Pool int

// The pools. Containers that nothing was said about are [Missing], but for
// "backups", the default, and "archive".
const (
	// Missing: there is none of that name. What is to go there fails.
	Missing Pool = iota
	Usable
	// Denied: cinder-backup has no right to use it. What is to go there fails, and
	// cannot be deleted, either.
	Denied
)

// SetPool says how a container is from now on.
func (c *Cloud) SetPool(container string, p Pool) {
	c.do(func(s *state, _ time.Time) { s.pools[container] = p })
}

const defaultPool = "backups"

// poolTrouble is why a backup cannot be made in its container, "" for no reason.
// Source: cinder/backup/drivers/ceph.py, _backup_rbd: the parent is looked for in
// the container of the child.
func (s *state) poolTrouble(b *backup) string {
	switch {
	case s.o.Chunked:
	case s.pools[b.container] == Missing:
		return "[errno 2] RADOS object not found (error opening pool '" + b.container + "')"
	case s.pools[b.container] == Denied:
		return "[errno 1] RBD permission error (error creating image)"
	case b.parent != nil && b.parent.container != b.container:
		full := b.parent
		for full.parent != nil {
			full = full.parent
		}
		return "[errno 2] RBD image not found (error opening image b'volume-" + b.volume + ".backup." + full.id + "' at snapshot None)"
	}
	return ""
}

// reason is why a backup is to fail, "" for not.
func (s *state) reason(b *backup) string {
	if next := s.failNext[b.volume]; len(next) > 0 {
		s.failNext[b.volume] = next[1:]
		return next[0]
	}
	if s.failBackup != nil {
		if why := s.failBackup(b.volume); why != "" {
			return why
		}
	}
	if s.o.Chunked && b.parent != nil && b.parent.size < b.size {
		return "Invalid backup: Since the volume size has increased, a full backup needs to be performed. volume size increased."
	}
	return ""
}

// failedBackup puts a backup into error. Nobody is told.
func (s *state) failedBackup(b *backup, v *volume, why string, at time.Time) {
	b.status, b.failReason, b.updated, b.ended = "error", why, at, at
	if s.volumes[v.id] == v && v.status == "backing-up" {
		v.status, v.updated = v.previous, at
	}
}

// deleteBackup is DELETE /backups/ID. Source: cinder/backup/api.py, delete.
func (s *state) deleteBackup(q *request, now time.Time) answer {
	b := s.findBackup(q, q.args[0])
	switch {
	case b == nil:
		return noBackup(q.args[0])
	case b.status != "available" && b.status != "error":
		return fail(400, "Invalid backup: Backup status must be available or error")
	case s.hasChild(b, q.token):
		return fail(400, "Invalid backup: Incremental backups exist for this backup.")
	}
	host := s.pick(now)
	if host == nil {
		return fail(404, "Service cinder-backup could not be found.")
	}
	b.status, b.updated, b.host = "deleting", now, host.host
	w := q.who()
	s.enqueue(host, now, func(at time.Time) { s.runDelete(host, b, at, w) })
	return done(202)
}

// hasChild looks for children in any status, in the token's own project.
func (s *state) hasChild(b *backup, t *token) bool {
	of := s.byVolume[b.volume]
	return of != nil && slices.ContainsFunc(of.rows, func(x *backup) bool { return x.parent == b && x.project == t.project })
}

func (s *state) runDelete(host *service, b *backup, now time.Time, w who) {
	s.notifyBackup("delete.start", b, now, w)
	s.after(host, b, now.Add(s.o.DeleteTime), func(at time.Time) {
		if s.backups[b.id] != b {
			return
		}
		if !s.o.Chunked && s.pools[b.container] == Denied {
			b.status, b.failReason, b.updated = "error", "[errno 1] RBD permission error (error listing images)", at
			return
		}
		s.dropBackup(b, at)
		if b.parent != nil {
			b.parent.updated = at
		}
		s.notifyBackup("delete.end", b, at, w)
	})
}

// updateBackup is PUT /backups/ID, which replaces all metadata.
func (s *state) updateBackup(q *request, now time.Time) answer {
	if q.version < 9 {
		return fail(404, "The resource could not be found.")
	}
	keys := []string{"name", "description"}
	if q.version >= 43 {
		keys = append(keys, "metadata")
	}
	in, a := q.bodyOf("backup", keys)
	if a.status != 0 {
		return a
	}
	metadata, a := metadataIn(in, "metadata")
	if a.status != 0 {
		return a
	}
	b := s.findBackup(q, q.args[0])
	if b == nil {
		return noBackup(q.args[0])
	}
	for k, to := range map[string]*string{"name": &b.name, "description": &b.description} {
		if _, given := in[k]; given {
			if *to, a = text(in, k); a.status != 0 {
				return a
			}
		}
	}
	if metadata != nil {
		b.metadata = metadata
	}
	b.updated = now
	return ok(s.backupSummary(q, b))
}

// restoreBackup is POST /backups/ID/restore. Source: cinder/backup/api.py,
// restore.
func (s *state) restoreBackup(q *request, now time.Time) answer {
	in, a := q.bodyOf("restore", []string{"name", "volume_id"})
	if a.status != 0 {
		return a
	}
	name, a := text(in, "name")
	if a.status != 0 {
		return a
	}
	id, a := uuidIn(in, "volume_id")
	if a.status != 0 {
		return a
	}
	b := s.findBackup(q, q.args[0])
	switch {
	case b == nil:
		return noBackup(q.args[0])
	case b.status != "available":
		return fail(400, "Invalid backup: Backup status must be available")
	}
	v := s.findVolume(q, id)
	if id == "" {
		if q.token.project == nil {
			return fail(400, "Malformed request url")
		}
		if over := s.overVolumes(q.token.project, 1, b.size); over != "" {
			return fail(413, "%s", over)
		}
		if name == "" {
			name = "restore_backup_" + b.id
		}
		v = &volume{id: s.uuid(), name: name, description: "auto-created_from_restore_from_backup", project: q.token.project,
			user: q.token.user.id, status: "available", size: b.size, metadata: map[string]string{}, scheduled: true, created: now, updated: now}
		s.addVolume(v)
		s.notifyVolume("create.start", v, now, q.who())
		s.notifyVolume("create.end", v, now, q.who())
	}
	switch {
	case v == nil:
		return noVolume(id)
	case v.status != "available":
		return fail(400, "Invalid volume: Volume to be restored to must be available")
	case b.size > v.size:
		return fail(400, "Invalid volume: volume size %d is too small to restore backup of size %d.", v.size, b.size)
	}
	host := s.pick(now)
	if host == nil {
		return fail(404, "Service cinder-backup could not be found.")
	}
	b.status, b.updated, b.host, b.restoring = "restoring", now, host.host, v
	v.status, v.updated = "restoring-backup", now
	w := q.who()
	s.enqueue(host, now, func(at time.Time) { s.runRestore(host, b, v, at, w) })
	return answer{status: 202, body: map[string]any{"restore": map[string]any{"backup_id": b.id, "volume_id": v.id, "volume_name": null(v.name)}}}
}

func (s *state) runRestore(host *service, b *backup, v *volume, now time.Time, w who) {
	s.notifyBackup("restore.start", b, now, w)
	if v.status != "restoring-backup" || b.status != "restoring" { // the service was restarted before it began
		if b.status == "restoring" {
			b.status, b.updated = "available", now
		}
		s.free(host, now)
		return
	}
	var takes time.Duration
	if s.o.RestoreTime != nil {
		takes = s.o.RestoreTime(b.truth())
	}
	s.after(host, b, now.Add(takes), func(at time.Time) {
		b.status, b.updated, b.restoring = "available", at, nil
		if !s.o.Chunked && b.container != defaultPool && !s.copied[b.id] {
			// Ceph's driver looks for the restore point in the default pool only, on Zed and
			// still on the master of 2026 (cinder/backup/drivers/ceph.py, _get_restore_point).
			v.status, v.updated = "error_restoring", at
			return
		}
		v.status, v.updated, v.content = "available", at, b.content
		// The volume gets the metadata of the one backed up, as it was saved with the
		// backup, and says where it comes from. It gets its name only if it has none of
		// its own.
		v.metadata = clone(v.metadata)
		maps.Copy(v.metadata, b.saved.metadata)
		if b.saved.name != "" && (v.name == "" || strings.HasPrefix(v.name, "restore_backup_")) {
			v.name, v.description = b.saved.name, b.saved.description
		}
		v.metadata["src_backup_id"] = b.id
		s.notifyBackup("restore.end", b, at, w)
	})
}

// backupAction is POST /backups/ID/action: os-reset_status.
func (s *state) backupAction(q *request, now time.Time) answer {
	var in map[string]json.RawMessage
	if err := json.Unmarshal(q.body, &in); err != nil || len(in) != 1 {
		return fail(400, "Malformed request body")
	}
	if in["os-force_delete"] != nil {
		return s.forceDelete(q)
	}
	if in["os-reset_status"] == nil {
		return fail(400, "There is no such action: %s", sortedKeys(in)[0])
	}
	var e struct {
		Status string `json:"status"`
	}
	if json.Unmarshal(in["os-reset_status"], &e) != nil {
		return fail(400, "Malformed request body")
	}
	b := s.findBackup(q, q.args[0])
	switch {
	case b == nil:
		return noBackup(q.args[0])
	case !q.token.admin():
		return fail(403, "Policy doesn't allow volume_extension:backup_admin_actions:reset_status to be performed.")
	case e.Status != "available" && e.Status != "error":
		return fail(400, "Backup status: %s is invalid, valid statuses are: ['available', 'error'].", e.Status)
	}
	s.notifyBackup("reset_status.start", b, now, q.who())
	if b.serviceName { // without a driver's name on it nothing happens, as in reality
		b.status, b.updated = e.Status, now
		s.notifyBackup("reset_status.end", b, now, q.who())
	}
	return done(202)
}

// setService starts or stops cinder-backup services.
func (s *state) setService(host string, up bool, now time.Time) {
	for _, v := range s.services {
		if v.binary != "cinder-backup" || host != "" && v.host != host || v.up == up {
			continue
		}
		v.up = up
		if !up {
			v.down = now
			s.interrupt(v)
			continue
		}
		s.cleanUp(v, now)
		s.work(v, now)
	}
}

// restartServices stops and starts all that are up.
func (s *state) restartServices(now time.Time) {
	for _, v := range s.services {
		if v.binary == "cinder-backup" && v.up {
			s.interrupt(v)
			s.cleanUp(v, now)
			s.work(v, now)
		}
	}
}

// interrupt voids what a service is doing: nothing of it ends by itself.
func (s *state) interrupt(v *service) {
	for _, b := range s.backups {
		if b.host == v.host {
			b.job++
		}
	}
	v.busy = 0
}

// cleanUp is what a cinder-backup service does when it starts: what it was making
// is in error, what it was restoring is available, what it was deleting is
// deleted. Source: cinder/backup/manager.py, _cleanup_one_backup.
func (s *state) cleanUp(host *service, now time.Time) {
	for _, b := range slices.Clone(s.allBackups.rows) {
		if b.host != host.host {
			continue
		}
		switch b.status {
		case "creating":
			if v := s.volumes[b.volume]; v != nil {
				s.failedBackup(b, v, "incomplete backup reset on manager restart", now)
			} else {
				b.status, b.failReason, b.updated, b.ended = "error", "incomplete backup reset on manager restart", now, now
			}
		case "restoring":
			b.status, b.updated = "available", now
			if v := b.restoring; v != nil && v.status == "restoring-backup" {
				v.status, v.updated = "error_restoring", now
			}
			b.restoring = nil
		case "deleting":
			s.enqueue(host, now, func(at time.Time) { s.runDelete(host, b, at, s.nobody()) })
		}
	}
}
