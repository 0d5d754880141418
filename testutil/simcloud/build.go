package simcloud

import (
	"fmt"
	"slices"
	"time"

	"staffeln/testutil/simcloud/model"
)

// must panics: the caller builds a cloud with an id that is not in it.
func must[T any](m map[string]*T, what, id string) *T {
	v := m[id]
	if v == nil {
		panic(fmt.Sprintf("simcloud: no %s %q", what, id))
	}
	return v
}

// AddVolume makes a volume that is available at once, of a size in GiB, whatever
// the quota, and returns its id. Nobody is notified of what is built with Add.
func (c *Cloud) AddVolume(project, name string, size int, metadata map[string]string) (id string) {
	c.do(func(s *model.State, now time.Time) {
		p := must(s.Projects, "project", project)
		v := &model.VolumeRow{ID: s.UUID(), Name: name, Project: p, User: anyUser(s, p), Status: "available", Size: size,
			Metadata: model.Clone(metadata), Scheduled: true, Created: now, Updated: now}
		s.AddVolume(v)
		id = v.ID
	})
	return id
}

// AddServer makes a server that is ACTIVE at once, with volumes attached, and
// returns its id.
func (c *Cloud) AddServer(project, name string, metadata map[string]string, volumes ...string) (id string) {
	c.do(func(s *model.State, now time.Time) {
		p := must(s.Projects, "project", project)
		v := s.NewServer(p, anyUser(s, p), name, now)
		v.Status, v.Task, v.Metadata, v.Launched = "ACTIVE", "", model.Clone(metadata), now
		s.AddServer(v)
		for _, volume := range volumes {
			s.Attach(v, must(s.Volumes, "volume", volume), false, now)
		}
		id = v.ID
	})
	return id
}

// anyUser is somebody with a role on a project, to be the owner of what is built
// in it.
func anyUser(s *model.State, p *model.Project) string {
	for i := len(s.UserOrder) - 1; i >= 0 && i > len(s.UserOrder)-50; i-- {
		for _, g := range s.UserOrder[i].Grants {
			if g.Project == p.ID {
				return s.UserOrder[i].ID
			}
		}
	}
	return s.UserOrder[0].ID
}

// Attach attaches a volume to a server at once, with notifications.
func (c *Cloud) Attach(server, volume string) {
	c.do(func(s *model.State, now time.Time) {
		s.AttachNoisily(must(s.Servers, "server", server), must(s.Volumes, "volume", volume), false, now, s.Nobody())
	})
}

// Detach detaches a volume from a server at once, with notifications.
func (c *Cloud) Detach(server, volume string) {
	c.do(func(s *model.State, now time.Time) {
		if a := must(s.Servers, "server", server).Attachment(volume); a != nil {
			s.DetachNoisily(a, now, s.Nobody())
		}
	})
}

// SetServerMetadata replaces a server's metadata, with notifications.
func (c *Cloud) SetServerMetadata(server string, metadata map[string]string) {
	c.do(func(s *model.State, now time.Time) {
		v := must(s.Servers, "server", server)
		v.Metadata, v.Updated = model.Clone(metadata), now
		s.NotifyServerUpdate(v, v, now, s.Nobody())
	})
}

// SetServerTags replaces a server's tags, with notifications.
func (c *Cloud) SetServerTags(server string, tags ...string) {
	c.do(func(s *model.State, now time.Time) {
		v := must(s.Servers, "server", server)
		v.Tags = slices.Sorted(slices.Values(tags))
		s.NotifyServerUpdate(v, v, now, s.Nobody())
	})
}

// SetServerStatus puts a server into a status, as an operator or a crash would,
// without notifications.
func (c *Cloud) SetServerStatus(server, status string) {
	c.do(func(s *model.State, now time.Time) {
		v := must(s.Servers, "server", server)
		v.Status, v.Updated = status, now
	})
}

// SetServerLocked locks a server, as its owner would, or unlocks it, without
// notifications.
func (c *Cloud) SetServerLocked(server string, locked bool) {
	c.do(func(s *model.State, now time.Time) {
		v := must(s.Servers, "server", server)
		v.LockedBy, v.LockedReason, v.Updated = "", "", now
		if locked {
			v.LockedBy = "owner"
		}
	})
}

// DeleteServer deletes a server at once, with notifications.
func (c *Cloud) DeleteServer(server string) {
	c.do(func(s *model.State, now time.Time) { s.EndServer(must(s.Servers, "server", server), now, s.Nobody()) })
}

// SetVolumeMetadata replaces a volume's metadata, as /volumes/ID/metadata does:
// without a notification.
func (c *Cloud) SetVolumeMetadata(volume string, metadata map[string]string) {
	c.do(func(s *model.State, now time.Time) {
		must(s.Volumes, "volume", volume).Metadata = model.Clone(metadata)
	})
}

// SetVolumeStatus puts a volume into a status, without notifications.
func (c *Cloud) SetVolumeStatus(volume, status string) {
	c.do(func(s *model.State, now time.Time) {
		v := must(s.Volumes, "volume", volume)
		v.Status, v.Updated = status, now
	})
}

// Extend makes a volume larger at once, with notifications.
func (c *Cloud) Extend(volume string, size int) {
	c.do(func(s *model.State, now time.Time) {
		v := must(s.Volumes, "volume", volume)
		s.NotifyVolume("resize.start", v, now, s.Nobody())
		v.Project.Gigabytes += size - v.Size
		v.Size, v.Updated = size, now
		s.NotifyVolume("resize.end", v, now, s.Nobody())
	})
}

// DeleteVolume deletes a volume at once, detaching it before, with notifications.
// Its backups stay.
func (c *Cloud) DeleteVolume(volume string) {
	c.do(func(s *model.State, now time.Time) {
		v := must(s.Volumes, "volume", volume)
		for _, a := range slices.Clone(v.Attached) {
			s.DetachNoisily(a, now, s.Nobody())
		}
		s.NotifyVolume("delete.start", v, now, s.Nobody())
		s.EndVolume(v, now, s.Nobody())
	})
}

// SetBackupStatus sets a backup's status, as a service that fails or an operator in
// the database does. It panics where there is no such backup.
func (c *Cloud) SetBackupStatus(backup, status string) {
	c.do(func(s *model.State, now time.Time) {
		b := must(s.Backups, "backup", backup)
		b.Status, b.Updated = status, now
	})
}

// SetBackupMetadata replaces a backup's metadata.
func (c *Cloud) SetBackupMetadata(backup string, metadata map[string]string) {
	c.do(func(s *model.State, now time.Time) {
		b := must(s.Backups, "backup", backup)
		b.Metadata, b.Updated = model.Clone(metadata), now
	})
}

// CopyBackup copies the image of a backup to the default pool, where Ceph's driver
// looks for it when it restores, until it is undone.
func (c *Cloud) CopyBackup(backup string) (undo func()) {
	set := func(yes bool) {
		c.do(func(s *model.State, _ time.Time) {
			if s.Copied == nil {
				s.Copied = map[string]bool{}
			}
			s.Copied[backup] = yes
		})
	}
	set(true)
	return func() { set(false) }
}

// DriftDependents changes what Cinder believes to be the number of a backup's
// incrementals, and not what they are.
func (c *Cloud) DriftDependents(backup string, by int) {
	c.do(func(s *model.State, _ time.Time) { must(s.Backups, "backup", backup).Dependents += by })
}

// SetNotifications changes which notifications are sent from now on.
func (c *Cloud) SetNotifications(f Format) {
	c.do(func(s *model.State, _ time.Time) { s.Format = f })
}
