package cinder

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
)

// makeBackup is POST /backups. The order of the refusals is Cinder's: the body,
// the volume, its status, the quotas, the parent. Source: cinder/backup/api.py,
// create.
func makeBackup(s *model.State, q *api.Request, now time.Time) api.Answer {
	q.Note = "POST backup"
	keys := []string{"volume_id", "container", "description", "incremental", "force", "name", "snapshot_id"}
	if q.Version >= 43 {
		keys = append(keys, "metadata")
	}
	if q.Version >= 51 {
		keys = append(keys, "availability_zone")
	}
	in, a := q.BodyOf("backup", keys, "volume_id")
	if a.Status != 0 {
		return a
	}
	b := &model.BackupRow{User: q.Token.User.ID, Project: q.Token.Project, Status: "creating", Created: now, Updated: now}
	if b.Volume, a = api.UUIDIn(in, "volume_id"); a.Status != 0 {
		return a
	}
	for _, f := range []struct {
		name string
		to   *string
	}{{"name", &b.Name}, {"description", &b.Description}, {"container", &b.Container}} {
		if *f.to, a = api.Text(in, f.name); a.Status != 0 {
			return a
		}
	}
	incremental, a := api.Boolean(in, "incremental")
	if a.Status != 0 {
		return a
	}
	force, a := api.Boolean(in, "force")
	if a.Status != 0 {
		return a
	}
	if b.Metadata, a = api.MetadataIn(in, "metadata"); a.Status != 0 {
		return a
	}
	b.Metadata = model.Clone(b.Metadata)
	q.Note = "POST backup vol=" + b.Volume + " incremental=" + strconv.FormatBool(incremental)

	v := s.VolumeFor(q.Token, b.Volume)
	switch {
	case v == nil:
		return api.NoVolume(b.Volume)
	case b.Project == nil:
		return api.Fail(400, "Malformed request url")
	case v.Status != "available" && v.Status != "in-use":
		return api.Fail(400, "Invalid volume: Volume to be backed up must be available or in-use, but the current "+
			"status is \"%s\".", v.Status)
	case v.Status == "in-use" && !force:
		return api.Fail(400, "Invalid volume: Backing up an in-use volume must use the force flag.")
	}
	l := b.Project.Limits(&s.Options)
	if l.BackupGigabytes >= 0 && b.Project.BackupGB+v.Size > l.BackupGigabytes {
		return api.Fail(413, "VolumeBackupSizeExceedsAvailableQuota: Requested backup exceeds allowed Backup "+
			"gigabytes quota. Requested %dG, quota is %dG and %dG has been consumed.", v.Size, l.BackupGigabytes,
			b.Project.BackupGB)
	}
	if l.Backups >= 0 && len(b.Project.Backups.Rows)+1 > l.Backups {
		return api.Fail(413, "BackupLimitExceeded: Maximum number of backups allowed (%d) exceeded", l.Backups)
	}
	if incremental {
		// The parent is the newest of the project's backups of the volume, whatever
		// its status, and must then be available: an older one is not looked for.
		newest := newestBackup(s, b.Volume, b.Project)
		switch {
		case newest == nil:
			return api.Fail(400, "Invalid backup: No backups available to do an incremental backup.")
		case newest.Status != "available":
			return api.Fail(400, "Invalid backup: The parent backup must be available for incremental backup.")
		}
		b.Parent = newest
	}
	b.ID, b.Size, b.Content = s.UUID(), v.Size, v.Content
	b.Saved = model.SavedVolume{Name: v.Name, Description: v.Description, Metadata: v.Metadata}
	v.Previous, v.Status, v.Updated = v.Status, "backing-up", now
	s.AddBackup(b)
	schedule(s, b, v, now, q.Who())
	return api.Answer{Status: 202, Body: backupSummary(s, q, b)}
}

func newestBackup(s *model.State, volume string, p *model.Project) *model.BackupRow {
	if of := s.ByVolume[volume]; of != nil {
		for i := len(of.Rows) - 1; i >= 0; i-- {
			if of.Rows[i].Project == p {
				return of.Rows[i]
			}
		}
	}
	return nil
}

// deleteBackup is DELETE /backups/ID. Source: cinder/backup/api.py, delete.
func deleteBackup(s *model.State, q *api.Request, now time.Time) api.Answer {
	b := FindBackup(s, q, q.Args[0])
	switch {
	case b == nil:
		return noBackup(q.Args[0])
	case b.Status != "available" && b.Status != "error":
		return api.Fail(400, "Invalid backup: Backup status must be available or error")
	case hasChild(s, b, q.Token):
		return api.Fail(400, "Invalid backup: Incremental backups exist for this backup.")
	}
	host := pick(s, now)
	if host == nil {
		return api.Fail(404, "Service cinder-backup could not be found.")
	}
	b.Status, b.Updated, b.Host = "deleting", now, host.Host
	w := q.Who()
	enqueue(s, host, now, func(at time.Time) { runDelete(s, host, b, at, w) })
	return api.Done(202)
}

// hasChild looks for children in any status, in the token's own project.
func hasChild(s *model.State, b *model.BackupRow, t *model.Token) bool {
	of := s.ByVolume[b.Volume]
	return of != nil && slices.ContainsFunc(of.Rows, func(x *model.BackupRow) bool {
		return x.Parent == b && x.Project == t.Project
	})
}

// updateBackup is PUT /backups/ID, which replaces all metadata.
func updateBackup(s *model.State, q *api.Request, now time.Time) api.Answer {
	if q.Version < 9 {
		return api.Fail(404, "The resource could not be found.")
	}
	keys := []string{"name", "description"}
	if q.Version >= 43 {
		keys = append(keys, "metadata")
	}
	in, a := q.BodyOf("backup", keys)
	if a.Status != 0 {
		return a
	}
	metadata, a := api.MetadataIn(in, "metadata")
	if a.Status != 0 {
		return a
	}
	b := FindBackup(s, q, q.Args[0])
	if b == nil {
		return noBackup(q.Args[0])
	}
	for k, to := range map[string]*string{"name": &b.Name, "description": &b.Description} {
		if _, given := in[k]; given {
			if *to, a = api.Text(in, k); a.Status != 0 {
				return a
			}
		}
	}
	if metadata != nil {
		b.Metadata = metadata
	}
	b.Updated = now
	return api.OK(backupSummary(s, q, b))
}

// restoreBackup is POST /backups/ID/restore. Source: cinder/backup/api.py,
// restore.
func restoreBackup(s *model.State, q *api.Request, now time.Time) api.Answer {
	in, a := q.BodyOf("restore", []string{"name", "volume_id"})
	if a.Status != 0 {
		return a
	}
	name, a := api.Text(in, "name")
	if a.Status != 0 {
		return a
	}
	id, a := api.UUIDIn(in, "volume_id")
	if a.Status != 0 {
		return a
	}
	b := FindBackup(s, q, q.Args[0])
	switch {
	case b == nil:
		return noBackup(q.Args[0])
	case b.Status != "available":
		return api.Fail(400, "Invalid backup: Backup status must be available")
	}
	v := s.VolumeFor(q.Token, id)
	if id == "" {
		if q.Token.Project == nil {
			return api.Fail(400, "Malformed request url")
		}
		if over := s.OverVolumes(q.Token.Project, 1, b.Size); over != "" {
			return api.Fail(413, "%s", over)
		}
		if name == "" {
			name = "restore_backup_" + b.ID
		}
		v = &model.VolumeRow{ID: s.UUID(), Name: name, Description: "auto-created_from_restore_from_backup",
			Project: q.Token.Project,
			User:    q.Token.User.ID, Status: "available", Size: b.Size, Metadata: map[string]string{},
			Scheduled: true, Created: now, Updated: now}
		s.AddVolume(v)
		s.NotifyVolume("create.start", v, now, q.Who())
		s.NotifyVolume("create.end", v, now, q.Who())
	}
	switch {
	case v == nil:
		return api.NoVolume(id)
	case v.Status != "available":
		return api.Fail(400, "Invalid volume: Volume to be restored to must be available")
	case b.Size > v.Size:
		return api.Fail(400, "Invalid volume: volume size %d is too small to restore backup of size %d.", v.Size, b.Size)
	}
	host := pick(s, now)
	if host == nil {
		return api.Fail(404, "Service cinder-backup could not be found.")
	}
	b.Status, b.Updated, b.Host, b.Restoring = "restoring", now, host.Host, v
	v.Status, v.Updated = "restoring-backup", now
	w := q.Who()
	enqueue(s, host, now, func(at time.Time) { runRestore(s, host, b, v, at, w) })
	return api.Answer{Status: 202, Body: map[string]any{"restore": map[string]any{"backup_id": b.ID,
		"volume_id": v.ID, "volume_name": model.Null(v.Name)}}}
}

// backupAction is POST /backups/ID/action: os-reset_status.
func backupAction(s *model.State, q *api.Request, now time.Time) api.Answer {
	var in map[string]json.RawMessage
	if err := json.Unmarshal(q.Body, &in); err != nil || len(in) != 1 {
		return api.Fail(400, "Malformed request body")
	}
	if in["os-force_delete"] != nil {
		return forceDelete(s, q)
	}
	if in["os-reset_status"] == nil {
		return api.Fail(400, "There is no such action: %s", model.SortedKeys(in)[0])
	}
	var e struct {
		Status string `json:"status"`
	}
	if json.Unmarshal(in["os-reset_status"], &e) != nil {
		return api.Fail(400, "Malformed request body")
	}
	b := FindBackup(s, q, q.Args[0])
	switch {
	case b == nil:
		return noBackup(q.Args[0])
	case !q.Token.Admin():
		return api.Fail(403, "Policy doesn't allow volume_extension:backup_admin_actions:reset_status to be performed.")
	case e.Status != "available" && e.Status != "error":
		return api.Fail(400, "Backup status: %s is invalid, valid statuses are: ['available', 'error'].", e.Status)
	}
	s.NotifyBackup("reset_status.start", b, now, q.Who())
	if b.ServiceName { // without a driver's name on it nothing happens, as in reality
		b.Status, b.Updated = e.Status, now
		s.NotifyBackup("reset_status.end", b, now, q.Who())
	}
	return api.Done(202)
}
