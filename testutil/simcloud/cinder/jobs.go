package cinder

import (
	"maps"
	"slices"
	"strings"
	"time"

	"staffeln/testutil/simcloud/model"
)

// believed says whether Cinder takes a service for up.
func believed(s *model.State, v *model.Service, now time.Time) bool {
	return v.Up || now.Sub(v.Down) < s.Options.DownTime
}

// pick chooses the cinder-backup service for a job; nil for none.
func pick(s *model.State, now time.Time) *model.Service {
	var best *model.Service
	for _, v := range s.Services {
		if v.Binary == "cinder-backup" && !v.Disabled && believed(s, v, now) &&
			(best == nil || v.Busy+len(v.Queue) < best.Busy+len(best.Queue)) {
			best = v
		}
	}
	return best
}

// schedule gives a new backup to a cinder-backup service. Source:
// cinder/scheduler/manager.py and cinder/backup/manager.py.
func schedule(s *model.State, b *model.BackupRow, v *model.VolumeRow, now time.Time, w model.Who) {
	host := pick(s, now)
	if host == nil {
		failedBackup(s, b, v, "Service not found for creating backup.", now)
		return
	}
	b.Host = host.Host
	enqueue(s, host, now, func(at time.Time) { runBackup(s, host, b, v, at, w) })
}

// enqueue starts a job when the service has a hand free, or when it is up again.
func enqueue(s *model.State, host *model.Service, now time.Time, job func(at time.Time)) {
	host.Queue = append(host.Queue, job)
	work(s, host, now)
}

func work(s *model.State, host *model.Service, now time.Time) {
	for host.Up && len(host.Queue) > 0 && (s.Options.Workers < 0 || host.Busy < s.Options.Workers) {
		job := host.Queue[0]
		host.Queue = host.Queue[1:]
		host.Busy++
		job(now)
	}
}

// free gives a hand back.
func free(s *model.State, host *model.Service, now time.Time) {
	host.Busy--
	work(s, host, now)
}

// after does a step of a job when its time has come, unless the service was
// stopped or restarted meanwhile, which began a new job number.
func after(s *model.State, host *model.Service, b *model.BackupRow, at time.Time, step func(at time.Time)) {
	job := b.Job
	s.At(at, func(at time.Time) {
		if b.Job == job {
			step(at)
			free(s, host, at)
		}
	})
}

func runBackup(s *model.State, host *model.Service, b *model.BackupRow, v *model.VolumeRow, now time.Time,
	w model.Who) {
	if s.Backups[b.ID] != b {
		free(s, host, now)
		return
	}
	s.NotifyBackup("create.start", b, now, w)
	why := ""
	switch {
	case v.Status != "backing-up":
		why = "Create backup aborted, expected volume status backing-up but got " + v.Status + "."
	case b.Status != "creating":
		why = "Create backup aborted, expected backup status creating but got " + b.Status + "."
	}
	if why != "" {
		b.Status, b.FailReason, b.Updated, b.Ended = "error", why, now, now
		free(s, host, now)
		return
	}
	b.ServiceName = true
	var takes time.Duration
	if s.Options.BackupTime != nil {
		takes = s.Options.BackupTime(v.Truth(), b.Parent != nil)
	}
	after(s, host, b, now.Add(takes), func(at time.Time) {
		if why := reason(s, b); why != "" {
			failedBackup(s, b, v, why, at)
			return
		}
		if b.Container == "" {
			b.Container = defaultPool
		}
		if why := poolTrouble(s, b); why != "" {
			failedBackup(s, b, v, why, at)
			return
		}
		if s.FullNext[b.Volume] > 0 && b.Parent != nil {
			s.FullNext[b.Volume]--
			b.Parent = nil
		}
		if s.Volumes[v.ID] == v && v.Status == "backing-up" {
			v.Status, v.Updated = v.Previous, at
		}
		b.Status, b.Updated, b.Ended = "available", at, at
		if b.Parent != nil {
			b.Parent.Dependents, b.Parent.Updated = b.Parent.Dependents+1, at
		}
		s.NotifyBackup("create.end", b, at, w)
	})
}

const defaultPool = "backups"

// poolTrouble is why a backup cannot be made in its container, "" for no reason.
// Source: cinder/backup/drivers/ceph.py, _backup_rbd: the parent is looked for in
// the container of the child.
func poolTrouble(s *model.State, b *model.BackupRow) string {
	switch {
	case s.Options.Chunked:
	case s.Pools[b.Container] == model.Missing:
		return "[errno 2] RADOS object not found (error opening pool '" + b.Container + "')"
	case s.Pools[b.Container] == model.Denied:
		return "[errno 1] RBD permission error (error creating image)"
	case b.Parent != nil && b.Parent.Container != b.Container:
		full := b.Parent
		for full.Parent != nil {
			full = full.Parent
		}
		return "[errno 2] RBD image not found (error opening image b'volume-" + b.Volume + ".backup." + full.ID +
			"' at snapshot None)"
	}
	return ""
}

// reason is why a backup is to fail, "" for not.
func reason(s *model.State, b *model.BackupRow) string {
	if next := s.FailNext[b.Volume]; len(next) > 0 {
		s.FailNext[b.Volume] = next[1:]
		return next[0]
	}
	if s.FailBackup != nil {
		if why := s.FailBackup(b.Volume); why != "" {
			return why
		}
	}
	if s.Options.Chunked && b.Parent != nil && b.Parent.Size < b.Size {
		return "Invalid backup: Since the volume size has increased, a full backup needs to be performed. volume " +
			"size increased."
	}
	return ""
}

// failedBackup puts a backup into error. Nobody is told.
func failedBackup(s *model.State, b *model.BackupRow, v *model.VolumeRow, why string, at time.Time) {
	b.Status, b.FailReason, b.Updated, b.Ended = "error", why, at, at
	if s.Volumes[v.ID] == v && v.Status == "backing-up" {
		v.Status, v.Updated = v.Previous, at
	}
}

func runDelete(s *model.State, host *model.Service, b *model.BackupRow, now time.Time, w model.Who) {
	s.NotifyBackup("delete.start", b, now, w)
	after(s, host, b, now.Add(s.Options.DeleteTime), func(at time.Time) {
		if s.Backups[b.ID] != b {
			return
		}
		if !s.Options.Chunked && s.Pools[b.Container] == model.Denied {
			b.Status, b.FailReason, b.Updated = "error", "[errno 1] RBD permission error (error listing images)", at
			return
		}
		s.DropBackup(b, at)
		if b.Parent != nil {
			b.Parent.Updated = at
		}
		s.NotifyBackup("delete.end", b, at, w)
	})
}

func runRestore(s *model.State, host *model.Service, b *model.BackupRow, v *model.VolumeRow, now time.Time,
	w model.Who) {
	s.NotifyBackup("restore.start", b, now, w)
	if v.Status != "restoring-backup" || b.Status != "restoring" { // the service was restarted before it began
		if b.Status == "restoring" {
			b.Status, b.Updated = "available", now
		}
		free(s, host, now)
		return
	}
	var takes time.Duration
	if s.Options.RestoreTime != nil {
		takes = s.Options.RestoreTime(b.Truth())
	}
	after(s, host, b, now.Add(takes), func(at time.Time) {
		b.Status, b.Updated, b.Restoring = "available", at, nil
		if !s.Options.Chunked && b.Container != defaultPool && !s.Copied[b.ID] {
			// Ceph's driver looks for the restore point in the default pool only, on Zed and
			// still on the master of 2026 (cinder/backup/drivers/ceph.py, _get_restore_point).
			v.Status, v.Updated = "error_restoring", at
			return
		}
		v.Status, v.Updated, v.Content = "available", at, b.Content
		// The volume gets the metadata of the one backed up, as it was saved with the
		// backup, and says where it comes from. It gets its name only if it has none of
		// its own.
		v.Metadata = model.Clone(v.Metadata)
		maps.Copy(v.Metadata, b.Saved.Metadata)
		if b.Saved.Name != "" && (v.Name == "" || strings.HasPrefix(v.Name, "restore_backup_")) {
			v.Name, v.Description = b.Saved.Name, b.Saved.Description
		}
		v.Metadata["src_backup_id"] = b.ID
		s.NotifyBackup("restore.end", b, at, w)
	})
}

// SetService starts or stops cinder-backup services.
func SetService(s *model.State, host string, up bool, now time.Time) {
	for _, v := range s.Services {
		if v.Binary != "cinder-backup" || host != "" && v.Host != host || v.Up == up {
			continue
		}
		v.Up = up
		if !up {
			v.Down = now
			interrupt(s, v)
			continue
		}
		cleanUp(s, v, now)
		work(s, v, now)
	}
}

// RestartServices stops and starts all that are up.
func RestartServices(s *model.State, now time.Time) {
	for _, v := range s.Services {
		if v.Binary == "cinder-backup" && v.Up {
			interrupt(s, v)
			cleanUp(s, v, now)
			work(s, v, now)
		}
	}
}

// interrupt voids what a service is doing: nothing of it ends by itself.
func interrupt(s *model.State, v *model.Service) {
	for _, b := range s.Backups {
		if b.Host == v.Host {
			b.Job++
		}
	}
	v.Busy = 0
}

// cleanUp is what a cinder-backup service does when it starts: what it was making
// is in error, what it was restoring is available, what it was deleting is
// deleted. Source: cinder/backup/manager.py, _cleanup_one_backup.
func cleanUp(s *model.State, host *model.Service, now time.Time) {
	for _, b := range slices.Clone(s.AllBackups.Rows) {
		if b.Host != host.Host {
			continue
		}
		switch b.Status {
		case "creating":
			if v := s.Volumes[b.Volume]; v != nil {
				failedBackup(s, b, v, "incomplete backup reset on manager restart", now)
			} else {
				b.Status, b.FailReason, b.Updated, b.Ended = "error", "incomplete backup reset on manager restart", now, now
			}
		case "restoring":
			b.Status, b.Updated = "available", now
			if v := b.Restoring; v != nil && v.Status == "restoring-backup" {
				v.Status, v.Updated = "error_restoring", now
			}
			b.Restoring = nil
		case "deleting":
			enqueue(s, host, now, func(at time.Time) { runDelete(s, host, b, at, s.Nobody()) })
		}
	}
}
