package simcloud

import "staffeln/testutil/simcloud/model"

// The types of package model that a [Cloud] is built with and tells the truth in.
type (
	Options = model.Options
	Format  = model.Format
	Quota   = model.Quota
	Volume  = model.Volume
	Server  = model.Server
	Backup  = model.Backup
	Fault   = model.Fault
	Grant   = model.Grant
	Pool    = model.Pool
)

// Which notifications are sent; see [model.Format].
const (
	Both      = model.Both
	Legacy    = model.Legacy
	Versioned = model.Versioned
	Silent    = model.Silent
)

// What becomes of backups in a container; see [model.Pool].
const (
	Missing = model.Missing
	Usable  = model.Usable
	Denied  = model.Denied
)

const (
	// DefaultDomain is the id of the domain Default.
	DefaultDomain = model.DefaultDomain
	// Password is that of every user of [Cloud.Seed], and of admin.
	Password = model.Password
)

// DefaultQuota is Cinder's.
var DefaultQuota = model.DefaultQuota

// On is a role on one project.
func On(project, role string) Grant { return model.On(project, role) }

// Inherited is a role inherited by every project of the domain Default.
func Inherited(role string) Grant { return model.Inherited(role) }

// System is a role on the system.
func System(role string) Grant { return model.System(role) }
