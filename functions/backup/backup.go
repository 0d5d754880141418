// Package backup holds the vocabulary and the rules of the backup regime.
//
// Everything here is arithmetic on values: no clock, no network, no storage.
// Callers pass the time in and carry the decisions out. Every decision comes
// with a reason that a person can read; the same words go to the log, the
// ledger, the plan and the digest.
package backup

import "time"

// A Server is what Nova says of one server (instance).
type Server struct {
	ID, Name string
	// Project is the id of the owning project.
	Project string
	// Status is Nova's: ACTIVE, SHUTOFF, SHELVED_OFFLOADED, ERROR...
	Status   string
	Metadata map[string]string
	// Tags are the server's tags (microversion 2.26 and later).
	Tags []string
	// Volumes are the ids of the attached volumes, boot volume included, in
	// Nova's order (os-extended-volumes:volumes_attached).
	Volumes []string
}

// A Volume is what Cinder says of one volume.
type Volume struct {
	ID, Name string
	// Project is the id of the owning project.
	Project string
	// Status is Cinder's: available, in-use, backing-up, error...
	Status string
	// Size is in GiB.
	Size     int
	Metadata map[string]string
	// Backend is the host and backend the volume lives on ("host@backend", the
	// pool cut off); "" where the rights do not show it.
	Backend string
	// Created is when Cinder made it, in UTC.
	Created time.Time
	// Servers are the ids of the servers that have it attached.
	Servers []string
}

// A CinderBackup is what Cinder says of one backup, ours or a tenant's own.
type CinderBackup struct {
	ID, Name string
	// Project is the id of the owning project; Volume that of the volume backed up.
	Project, Volume string
	// Status is Cinder's: creating, available, deleting, error, restoring,
	// error_deleting.
	Status     string
	FailReason string
	// Size is that of the volume, in GiB: Cinder does not tell what is stored.
	Size int
	// Incremental is is_incremental. Drivers may turn an incremental into a full
	// by themselves, so it counts only once the backup is available.
	Incremental bool
	// Dependents is has_dependent_backups. It can drift from the truth.
	Dependents bool
	Container  string
	// Created is when Cinder took the request, Updated its last change, in UTC.
	Created, Updated time.Time
	// Metadata is never nil for an answer of microversion 3.43 or later.
	Metadata map[string]string
	// Maker is the id of the user who made it; "" where Cinder does not show it.
	Maker string
	// Origin is set by [Makers.Judge].
	Origin Origin
}

// A Quota is a project's Cinder backup quota. A limit of -1 is none, and 0 is
// nothing at all.
type Quota struct {
	Backups   Usage
	Gigabytes Usage
}

// Usage is one quota: its limit, and what is used and reserved of it.
type Usage struct {
	Limit, Used, Reserved int
}

// A Project is what Keystone says of one project.
type Project struct {
	ID, Name string
	// Domain is the id of the project's domain.
	Domain string
}

// Services is what Cinder says of its cinder-backup services.
type Services struct {
	// Known is false where the rights do not allow asking.
	Known bool
	// Up counts the services that are enabled and up.
	Up int
}

// A Request asks Cinder for a backup. It is always sent with force, since
// protected volumes are mostly in use.
type Request struct {
	Volume, Name string
	Incremental  bool
	// Container is "" for Cinder's default.
	Container string
	Metadata  map[string]string
}

// Kind says whether a backup stands on its own.
type Kind string

// The two kinds of backup.
const (
	Full        Kind = "full"
	Incremental Kind = "incremental"
)
