// Package cinder reads Cinder's notifications about volumes and backups.
//
// A notification is a hint, and its name proves nothing: backup.create.end is
// also sent for a backup that was aborted, and a failed one sends no
// notification at all. Read the status, and ask the API before anything is done.
package cinder

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"staffeln/events"
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
}

// DecodeVolume is the decoder for [events.On] of [VolumeTypes]; it reads every
// "volume.*" of Cinder's. It fails without an id and a project. Errors do not
// quote the payload.
func DecodeVolume(e events.Event) (Volume, error) {
	if !strings.HasPrefix(e.Type, "volume.") {
		return Volume{}, errors.New("not a notification about a volume")
	}
	var p struct {
		ID          string          `json:"volume_id"`
		Tenant      string          `json:"tenant_id"`
		Name        string          `json:"display_name"`
		Status      string          `json:"status"`
		Size        int             `json:"size"`
		Host        string          `json:"host"`
		Metadata    json.RawMessage `json:"metadata"`
		Attachments *[]struct {
			Server  string `json:"instance_uuid"`
			Status  string `json:"attach_status"`
			Deleted bool   `json:"deleted"`
		} `json:"volume_attachment"`
	}
	if json.Unmarshal(e.Data, &p) != nil {
		return Volume{}, errors.New("the payload is not a volume's")
	}
	v := Volume{Name: p.Name, Status: p.Status, Size: p.Size, Event: e.Type, At: e.At}
	var ok bool
	if v.ID, ok = resourceID(p.ID); !ok {
		return Volume{}, errors.New("no volume_id")
	}
	if v.Project, ok = projectID(p.Tenant); !ok {
		return Volume{}, fmt.Errorf("volume %s: no id of its project", v.ID)
	}
	v.Backend, _, _ = strings.Cut(p.Host, "#")
	v.Deleted = e.Type == "volume.delete.end" || p.Status == "deleted"
	v.Metadata, v.HasMetadata = readMetadata(p.Metadata)
	if p.Attachments != nil {
		v.HasServers = true
		for _, a := range *p.Attachments {
			// While a volume is being attached or detached it has a row already, or still.
			server, ok := resourceID(a.Server)
			if ok && a.Status == "attached" && !a.Deleted && !slices.Contains(v.Servers, server) {
				v.Servers = append(v.Servers, server)
			}
		}
	}
	return v, nil
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
}

// DecodeBackup is the decoder for [events.On] of [BackupTypes]; it reads every
// "backup.*". It fails without an id and a project. Errors do not quote the
// payload.
func DecodeBackup(e events.Event) (Backup, error) {
	if !strings.HasPrefix(e.Type, "backup.") {
		return Backup{}, errors.New("not a notification about a backup")
	}
	var p struct {
		ID         string `json:"backup_id"`
		Volume     string `json:"volume_id"`
		Tenant     string `json:"tenant_id"`
		Name       string `json:"display_name"`
		Status     string `json:"status"`
		FailReason string `json:"fail_reason"`
		Parent     string `json:"parent_id"`
		Size       int    `json:"size"`
		Host       string `json:"host"`
		Dependents int    `json:"num_dependent_backups"`
	}
	if json.Unmarshal(e.Data, &p) != nil {
		return Backup{}, errors.New("the payload is not a backup's")
	}
	b := Backup{
		Name: p.Name, Status: p.Status, FailReason: p.FailReason, Size: p.Size,
		Host: p.Host, Dependents: p.Dependents, Event: e.Type, At: e.At,
		Deleted: e.Type == "backup.delete.end" && p.Status == "deleted",
	}
	var ok bool
	if b.ID, ok = resourceID(p.ID); !ok {
		return Backup{}, errors.New("no backup_id")
	}
	if b.Project, ok = projectID(p.Tenant); !ok {
		return Backup{}, fmt.Errorf("backup %s: no id of its project", b.ID)
	}
	b.Volume, _ = resourceID(p.Volume)
	b.Parent, _ = resourceID(p.Parent)
	return b, nil
}

// readMetadata reads metadata as Cinder writes a volume's, a list of
// {"key":, "value":}, or an object. false means that there is none to be read
// (a snapshot's is a string), which is not the same as empty.
func readMetadata(raw json.RawMessage) (map[string]string, bool) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return nil, false
	}
	switch raw[0] {
	case '[':
		var pairs []struct {
			Key   *string         `json:"key"`
			Value json.RawMessage `json:"value"`
		}
		if json.Unmarshal(raw, &pairs) != nil {
			return nil, false
		}
		m := make(map[string]string, len(pairs))
		for _, p := range pairs {
			if p.Key == nil {
				return nil, false
			}
			m[*p.Key] = valueText(p.Value)
		}
		return m, true
	case '{':
		var values map[string]json.RawMessage
		if json.Unmarshal(raw, &values) != nil {
			return nil, false
		}
		m := make(map[string]string, len(values))
		for k, v := range values {
			m[k] = valueText(v)
		}
		return m, true
	}
	return nil, false
}

// valueText is a metadata value: Cinder's are strings, and anything else stands
// as its JSON text.
func valueText(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) != nil {
		return string(v)
	}
	return s // "" for null
}

// resourceID returns id in lower case if it is a UUID with hyphens. Ids reach
// URLs and keys: nothing else passes.
func resourceID(id string) (string, bool) {
	if !isUUID(id) {
		return "", false
	}
	return strings.ToLower(id), true
}

// projectID returns id in lower case if it is one that Keystone makes: the 32
// hexadecimal digits of a UUID, with hyphens where it came from elsewhere.
func projectID(id string) (string, bool) {
	if !(len(id) == 32 && isHex(id)) && !isUUID(id) {
		return "", false
	}
	return strings.ToLower(id), true
}

func isUUID(s string) bool {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return false
	}
	return isHex(s[:8]) && isHex(s[9:13]) && isHex(s[14:18]) && isHex(s[19:23]) && isHex(s[24:])
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i] | 0x20; !('0' <= s[i] && s[i] <= '9') && !('a' <= c && c <= 'f') {
			return false
		}
	}
	return true
}
