// Package cinder reads Cinder's notifications about volumes and backups.
//
// A notification is a hint, and its name proves nothing: backup.create.end is
// also sent for a backup that was aborted, and a failed one sends no
// notification at all. Read the status, and ask the API before anything is done.
package cinder

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"staffeln/events"
	"staffeln/events/wire"
)

// VolumeTypes are the event types after which a volume's protection can be
// another: what it is attached to, its metadata and name, its size, its project,
// whether it exists. Metadata changed through /volumes/ID/metadata sends none.
var VolumeTypes = []string{
	"volume.attach.end",
	"volume.detach.end",
	"volume.update.end",
	"volume.resize.end",
	"volume.delete.end",
	"volume.transfer.accept.end",
}

// BackupTypes are the event types after which a backup may have come to its end,
// or can be deleted or has been.
var BackupTypes = []string{
	"backup.create.end",
	"backup.delete.end",
	"backup.restore.end",
	"backup.reset_status.end",
}

// A Volume is what a notification says of one volume
// (cinder/volume/volume_utils.py, _usage_from_volume).
type Volume struct {
	// ID is the volume's UUID and Project the owning project's id (a UUID with or
	// without hyphens), in lower case.
	ID, Project string
	Name        string
	// Status is Cinder's: available, in-use, backing-up, deleted, error...
	Status string
	// Size is in GiB.
	Size int
	// Backend is the host and backend the volume lives on ("host@backend", the
	// pool cut off), "" where it has none yet.
	Backend string
	// Metadata is the volume's whole metadata if HasMetadata.
	Metadata    map[string]string
	HasMetadata bool
	// Servers are the UUIDs of the servers that have it attached, if HasServers.
	Servers    []string
	HasServers bool

	// Event is the event type, At when it happened, in UTC.
	Event string
	At    time.Time
	// Deleted says that the volume is gone.
	Deleted bool

	// Opaque says that a value has another type than expected. Only ID, Project,
	// Event, At and Deleted (by the event type) are set: ask the API.
	Opaque bool
}

// DecodeVolume is the decoder for [events.On] of [VolumeTypes]; it reads every
// "volume.*" of Cinder's. It fails without an id and a project. Errors do not
// quote the payload.
func DecodeVolume(e events.Event) (Volume, error) {
	if !strings.HasPrefix(e.Type, "volume.") {
		return Volume{}, errors.New("not a notification about a volume")
	}
	var id, tenant, name, status, size, host, metadata, attachments wire.Value
	s := wire.Scan(e.Data)
	for s.Object(); s.Next(); {
		switch string(s.Key) {
		case "volume_id":
			id = s.Value()
		case "tenant_id":
			tenant = s.Value()
		case "display_name":
			name = s.Value()
		case "status":
			status = s.Value()
		case "size":
			size = s.Value()
		case "host":
			host = s.Value()
		case "metadata":
			metadata = s.Value()
		case "volume_attachment":
			attachments = s.Value()
		default:
			s.Skip()
		}
	}
	var is wire.Optional
	v := Volume{Name: is.Text(name), Status: is.Text(status), Size: is.Int(size), Event: e.Type, At: e.At}
	v.Backend, _, _ = strings.Cut(is.Text(host), "#")
	v.Deleted = e.Type == "volume.delete.end" || v.Status == "deleted"
	v.Metadata, v.HasMetadata = wire.Metadata(metadata)
	v.Servers, v.HasServers = readAttachments(&is, attachments)
	volume, project := is.Text(id), is.Text(tenant)
	if s.End() != nil {
		return Volume{}, errors.New("the payload is not a volume's")
	}
	var ok bool
	if v.ID, ok = wire.ResourceID(volume); !ok {
		return Volume{}, errors.New("no volume_id")
	}
	if v.Project, ok = wire.ProjectID(project); !ok {
		return Volume{}, fmt.Errorf("volume %s: no id of its project", v.ID)
	}
	if is.Odd() {
		return Volume{ID: v.ID, Project: v.Project, Event: e.Type, At: e.At,
			Deleted: e.Type == "volume.delete.end", Opaque: true}, nil
	}
	return v, nil
}

// readAttachments reads volume_attachment, a list of objects: the servers that
// have the volume. While one is being attached or detached it has a row already,
// or still.
func readAttachments(is *wire.Optional, list wire.Value) (servers []string, has bool) {
	rows, has := is.List(list)
	for _, row := range rows {
		var server, status, deleted wire.Value
		if is.Object(row) {
			s := wire.Scan(row)
			for s.Object(); s.Next(); {
				switch string(s.Key) {
				case "instance_uuid":
					server = s.Value()
				case "attach_status":
					status = s.Value()
				case "deleted":
					deleted = s.Value()
				default:
					s.Skip()
				}
			}
		}
		id, ok := wire.ResourceID(is.Text(server))
		attached, gone := is.Text(status) == "attached", is.Bool(deleted)
		if ok && attached && !gone && !slices.Contains(servers, id) {
			servers = append(servers, id)
		}
	}
	return servers, has
}

// A Backup is what a notification says of one backup, ours or a tenant's own
// (cinder/volume/volume_utils.py, _usage_from_backup). It has no metadata.
type Backup struct {
	// ID and Volume are UUIDs, Project the id of the project that owns the backup
	// (a UUID with or without hyphens), in lower case. Volume is "" where it cannot
	// be read.
	ID, Volume, Project string
	Name                string
	// Status is Cinder's: creating, available, deleting, deleted, error...
	Status string
	// FailReason is why Status is error; tenants and drivers can have any text in it.
	FailReason string
	// Parent is the id of the backup it builds on, "" for a full one. It is not yet
	// known in .start.
	Parent string
	// Size is that of the volume, in GiB.
	Size int
	// Host is the cinder-backup host that has it, "" before one was chosen.
	Host string
	// Dependents is num_dependent_backups; it can drift from the truth.
	Dependents int

	// Event is the event type, At when it happened, in UTC.
	Event string
	At    time.Time
	// Deleted says that the backup is gone.
	Deleted bool

	// Opaque says that a value has another type than expected. Only the ids,
	// Event and At are set: ask the API.
	Opaque bool
}

// DecodeBackup is the decoder for [events.On] of [BackupTypes]; it reads every
// "backup.*". It fails without an id and a project. Errors do not quote the
// payload.
func DecodeBackup(e events.Event) (Backup, error) {
	if !strings.HasPrefix(e.Type, "backup.") {
		return Backup{}, errors.New("not a notification about a backup")
	}
	var id, volume, tenant, name, status, reason, parent, size, host, dependents wire.Value
	s := wire.Scan(e.Data)
	for s.Object(); s.Next(); {
		switch string(s.Key) {
		case "backup_id":
			id = s.Value()
		case "volume_id":
			volume = s.Value()
		case "tenant_id":
			tenant = s.Value()
		case "display_name":
			name = s.Value()
		case "status":
			status = s.Value()
		case "fail_reason":
			reason = s.Value()
		case "parent_id":
			parent = s.Value()
		case "size":
			size = s.Value()
		case "host":
			host = s.Value()
		case "num_dependent_backups":
			dependents = s.Value()
		default:
			s.Skip()
		}
	}
	var is wire.Optional
	b := Backup{
		Name: is.Text(name), Status: is.Text(status), FailReason: is.Text(reason), Size: is.Int(size),
		Host: is.Text(host), Dependents: is.Int(dependents), Event: e.Type, At: e.At,
	}
	b.Deleted = e.Type == "backup.delete.end" && b.Status == "deleted"
	b.Volume, _ = wire.ResourceID(is.Text(volume))
	b.Parent, _ = wire.ResourceID(is.Text(parent))
	backup, project := is.Text(id), is.Text(tenant)
	if s.End() != nil {
		return Backup{}, errors.New("the payload is not a backup's")
	}
	var ok bool
	if b.ID, ok = wire.ResourceID(backup); !ok {
		return Backup{}, errors.New("no backup_id")
	}
	if b.Project, ok = wire.ProjectID(project); !ok {
		return Backup{}, fmt.Errorf("backup %s: no id of its project", b.ID)
	}
	if is.Odd() {
		return Backup{ID: b.ID, Project: b.Project, Volume: b.Volume, Parent: b.Parent,
			Event: e.Type, At: e.At, Opaque: true}, nil
	}
	return b, nil
}
