package model

import (
	"maps"
	"slices"
	"time"
)

// Truth is a copy of a row for those outside.
func (v *VolumeRow) Truth() Volume {
	out := Volume{ID: v.ID, Name: v.Name, Project: v.Project.ID, Status: v.Status, Size: v.Size,
		Metadata: maps.Clone(v.Metadata), Bootable: v.Bootable, Created: v.Created}
	for _, a := range v.Attached {
		out.Servers = append(out.Servers, a.Server.ID)
	}
	return out
}

// Truth is a copy of a row for those outside.
func (s *ServerRow) Truth() Server {
	out := Server{ID: s.ID, Name: s.Name, Project: s.Project.ID, Status: s.Status, Metadata: maps.Clone(s.Metadata),
		Tags: slices.Clone(s.Tags), Locked: s.LockedBy != ""}
	for _, a := range s.Attached {
		out.Volumes = append(out.Volumes, a.Volume.ID)
	}
	return out
}

// Truth is a copy of a row for those outside.
func (b *BackupRow) Truth() Backup {
	out := Backup{Seq: b.seq, ID: b.ID, Name: b.Name, Project: b.Project.ID, Volume: b.Volume, Maker: b.User,
		Status:     b.Status,
		FailReason: b.FailReason, Size: b.Size, Container: b.Container, Metadata: maps.Clone(b.Metadata),
		Content: b.Content, Created: b.Created, Ended: b.Ended, Deleted: b.deleted}
	if b.Parent != nil {
		out.Parent = b.Parent.ID
	}
	return out
}

// A Volume is the truth about a volume.
type Volume struct {
	ID, Name, Project string
	// Status is Cinder's: available, in-use, backing-up...
	Status string
	// Size is in GiB.
	Size     int
	Metadata map[string]string
	// Servers are the ids of those that have it attached.
	Servers  []string
	Bootable bool
	Created  time.Time
}

// A Server is the truth about a server.
type Server struct {
	ID, Name, Project string
	// Status is Nova's: ACTIVE, SHUTOFF, SHELVED_OFFLOADED, ERROR...
	Status   string
	Metadata map[string]string
	Tags     []string
	Volumes  []string
	Locked   bool
}

// A Backup is the truth about a backup, deleted ones included.
type Backup struct {
	// Seq is its place in the order of creation, from 1.
	Seq               int
	ID, Name, Project string
	Volume            string
	// Maker is the id of the user who made it, whomever the API shows it to.
	Maker string
	// Parent is the id of the backup it builds on, "" for a full one. The API never
	// tells it.
	Parent string
	// Status is Cinder's, or "deleted".
	Status     string
	FailReason string
	// Size is that of the volume, in GiB.
	Size      int
	Container string
	Metadata  map[string]string
	// Content is what the volume held.
	Content string
	// Created is when Cinder took the request; Ended when it became available or
	// error, zero before; Deleted when it was gone, zero before.
	Created, Ended, Deleted time.Time
}
