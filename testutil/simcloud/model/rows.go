package model

import (
	"maps"
	"strings"
	"time"
)

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

// Clone is a copy of metadata, never nil.
func Clone(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return maps.Clone(m)
}

// The volume type and the flavor that there are.
const (
	VolumeType     = "8d024429-c5b3-4bac-8c57-92f2f25daaf4"
	VolumeTypeName = "ceph"
	FlavorName     = "m1.tiny"
	FlavorID       = "f2070c51-d4cf-44d6-8e35-33b3b2d61fcc"
	imageID        = "623dde96-2fe8-4bae-ae94-19494203925b"
)

// A ServerRow is a server in Nova's database.
type ServerRow struct {
	ID, Name, Hostname, User string
	Project                  *Project
	Status                   string // as the API tells it
	Task                     string
	Metadata                 map[string]string // never changed in place
	Tags                     []string          // sorted, never changed in place
	Attached                 []*Attachment     // in order of attaching
	LockedBy                 string            // "", "owner", "admin"
	LockedReason             string
	Image, Flavor            string
	Seq                      int // instance-%08x
	Created, Updated         time.Time
	Launched, Terminated     time.Time
	Reservation              string
}

// An Attachment is a volume at a server, or on its way there.
type Attachment struct {
	ID, BDM, Device string
	Server          *ServerRow
	Volume          *VolumeRow
	DeleteOnEnd     bool
	Boot            bool
	At              time.Time
	Done            bool // attached, not only reserved
}

// A VolumeRow is a volume in Cinder's database. Its size is in GiB.
type VolumeRow struct {
	ID, Name, Description, User string
	Project                     *Project
	Status, Previous            string
	Size                        int
	Metadata                    map[string]string // never changed in place
	Attached                    []*Attachment
	Bootable, Multiattach       bool
	Scheduled                   bool
	Content                     string
	Created, Updated            time.Time
}

// A BackupRow is a backup in Cinder's database. Its size is in GiB.
type BackupRow struct {
	seq                     int
	ID, Name, Description   string
	User                    string
	Project                 *Project
	Volume                  string
	Parent                  *BackupRow
	Status, FailReason      string
	Size                    int
	Container               string
	Metadata                map[string]string // never changed in place
	Content                 string
	Dependents              int
	Created, Updated, Ended time.Time
	deleted                 time.Time
	Host                    string // of the cinder-backup that has it
	ServiceName             bool   // whether a driver has touched it
	Restoring               *VolumeRow
	Job                     int // what is under way is void once this has changed
	Saved                   SavedVolume
}

// SavedVolume is what a backup keeps of its volume besides the data. Source:
// cinder/backup/driver.py, BackupMetadataAPI.
type SavedVolume struct {
	Name, Description string
	Metadata          map[string]string
}

// A Service is one of Cinder's, such as cinder-backup on a host, with the jobs that
// wait for it.
type Service struct {
	Binary, Host string
	Up           bool
	Disabled     bool
	Down         time.Time // since when, while it is down
	Updated      time.Time
	Busy         int
	Queue        []func(at time.Time)
}

// A Transfer is a volume that is offered to another project.
type Transfer struct {
	ID, Name, Key string
	Volume        *VolumeRow
	Source        *Project
	Created       time.Time
}

// TagsOf are a server's tags, never nil.
func TagsOf(v *ServerRow) []string {
	if v.Tags == nil {
		return []string{}
	}
	return v.Tags
}

// Null is nil for an empty string.
func Null(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// VMState is Nova's inner name of a status.
func (v *ServerRow) VMState() string {
	switch v.Status {
	case "BUILD":
		return "building"
	case "SHUTOFF":
		return "stopped"
	}
	return strings.ToLower(v.Status)
}

// Power is Nova's number of a power state: 0 pending, 1 running, 4 shut down.
func (v *ServerRow) Power() int {
	switch v.Status {
	case "ACTIVE":
		return 1
	case "SHUTOFF", "SHELVED", "SHELVED_OFFLOADED":
		return 4
	}
	return 0
}

func (v *ServerRow) powerName() string {
	return map[int]string{0: "pending", 1: "running", 4: "shutdown"}[v.Power()]
}

// Attachment is a volume's attachment to the server; nil if it has none.
func (v *ServerRow) Attachment(volume string) *Attachment {
	for _, a := range v.Attached {
		if a.Volume.ID == volume {
			return a
		}
	}
	return nil
}
