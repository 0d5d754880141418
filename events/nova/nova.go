// Package nova reads the notifications of servers: Nova's legacy ones
// ("compute.instance.update") and its versioned ones ("instance.update").
//
// A notification is a hint. What an [Instance] says was true when Nova wrote it,
// and is good for telling cheaply that nothing of interest has changed; before
// anything is done the server is read over the API.
package nova

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"staffeln/events"
)

// Types are the event types after which a server's protection can be another:
// whether it exists, its metadata and tags, and which volumes it has. Power,
// migration, resize and shelving change none of these, for a server is
// protected in every state.
//
// A rebuild can replace the metadata (nova/compute/api.py, rebuild), and does so
// in the same save that sets its task state.
var Types = []string{
	"compute.instance.create.end",
	"compute.instance.update",
	"compute.instance.delete.end",
	"compute.instance.force_delete.end", // of one without a host; legacy only
	"compute.instance.soft_delete.end",
	"compute.instance.restore.end",
	"compute.instance.rebuild.end",
	"compute.instance.volume.attach", // the legacy ones have no start and end
	"compute.instance.volume.detach",

	"instance.create.end",
	"instance.update",
	"instance.delete.end",
	"instance.soft_delete.end",
	"instance.restore.end",
	"instance.rebuild.end",
	"instance.volume_attach.end",
	"instance.volume_detach.end",
	"instance.volume_swap.end",
}

// An Instance is what a notification says of one server.
type Instance struct {
	// ID is the server's UUID, in lower case.
	ID string
	// Project is the id of the owning project: a UUID with or without hyphens, in
	// lower case. "" only if Opaque.
	Project string
	Name    string

	// State is Nova's vm_state ("active", "stopped", "building", "soft-delete",
	// "shelved_offloaded", "deleted"), not the API's status. TaskState is what is
	// being done to it, "" for nothing. Old and new differ in updates only.
	State, OldState         string
	TaskState, OldTaskState string

	// Metadata is the server's whole metadata if HasMetadata. A value that is not
	// a string stands as its JSON text.
	Metadata    map[string]string
	HasMetadata bool
	// Tags are all of the server's tags if HasTags: of the notifications in
	// [Types], only the versioned create.end and update have them.
	Tags    []string
	HasTags bool

	// Event is the event type, At when it happened, in UTC.
	Event string
	At    time.Time

	// Deleted is Nova's claim that the server is gone; a soft-deleted one is not.
	// delete.end is also sent for a deletion that failed (a finally clause in
	// nova/compute/utils.py, notify_about_instance_delete): ask before believing it.
	Deleted bool
	// VolumeChange says that a volume was attached, detached or swapped; Volume is
	// its UUID (of a swap, the new one's), "" where it cannot be read.
	VolumeChange bool
	Volume       string

	// StateOnly marks an update that tells of states alone: the vm_state or the
	// task state is another than before, or the server is still building, of which
	// create.end will tell all. An update made through the API has the same states
	// before and after: changing metadata is allowed without a task state only
	// (nova/compute/api.py, update_instance_metadata), tags in the built states
	// (nova/api/openstack/compute/server_tags.py), and both send no states of their
	// own, so that Nova fills in the present ones on both sides
	// (nova/notifications/base.py, _compute_states_payload). With
	// notify_on_state_change=vm_state a change of the task state alone looks the
	// same and is not marked.
	StateOnly bool

	// Opaque says that the payload is of a version or a shape not known here: only
	// ID and, where it could be read, Project are set. Read the server over the API.
	Opaque bool
}

// DecodeInstance is the decoder for [events.On] of [Types]; of other types it
// reads those whose payload is an instance's. It fails for anything else, and
// where the server's id cannot be read. Errors do not quote the payload.
func DecodeInstance(e events.Event) (Instance, error) {
	name, legacy := strings.CutPrefix(e.Type, "compute.")
	if !strings.HasPrefix(name, "instance.") {
		return Instance{}, errors.New("not a notification about a server")
	}
	n := Instance{Event: e.Type, At: e.At}
	n.Deleted = name == "instance.delete.end" || name == "instance.force_delete.end"
	switch name {
	case "instance.volume.attach", "instance.volume.detach",
		"instance.volume_attach.end", "instance.volume_detach.end", "instance.volume_swap.end":
		n.VolumeChange = true
	}

	var p payload
	if err := json.Unmarshal(e.Data, &p); err != nil || (p.Data == nil && !legacy) || (p.Data != nil && !p.known()) {
		return opaque(n, e.Data)
	}
	f := &p.fields
	if p.Data != nil {
		f = p.Data
	}
	var ok bool
	if n.ID, ok = resourceID(f.UUID, f.InstanceID); !ok {
		return Instance{}, errors.New("no id of a server")
	}
	if n.Project, ok = projectID(f.Tenant); !ok {
		return Instance{}, fmt.Errorf("server %s: no id of its project", n.ID)
	}
	n.Name = f.Name
	n.Volume, _ = resourceID(f.NewVolume, f.Volume)

	// The legacy payload calls the task state state_description, "" for none.
	n.State, n.TaskState = f.State, cmp.Or(f.TaskState, f.StateDescription)
	n.OldState, n.OldTaskState = n.State, n.TaskState
	change := f.states
	change.New = f.State
	if f.StateUpdate != nil {
		change = f.StateUpdate.Data
	}
	if name == "instance.update" && change.Old != "" {
		n.State, n.OldState = change.New, change.Old
		n.TaskState, n.OldTaskState = change.NewTask, change.OldTask
		n.StateOnly = n.State != n.OldState || n.TaskState != n.OldTaskState || n.State == "building"
	}
	n.Deleted = n.Deleted || n.State == "deleted"

	n.Metadata, n.HasMetadata = readMetadata(f.Metadata)
	if f.Tags != nil {
		n.Tags, n.HasTags = *f.Tags, true
	}
	return n, nil
}

// opaque reads the ids out of a payload that is otherwise not understood.
func opaque(n Instance, data []byte) (Instance, error) {
	n.Opaque = true
	var top map[string]json.RawMessage
	if json.Unmarshal(data, &top) != nil {
		return Instance{}, errors.New("the payload is not a JSON object")
	}
	if inner, ok := top["nova_object.data"]; ok {
		top = nil
		if json.Unmarshal(inner, &top) != nil {
			return Instance{}, errors.New("nova_object.data is not a JSON object")
		}
	}
	text := func(key string) (s string) {
		_ = json.Unmarshal(top[key], &s) // "" for what is not a string
		return s
	}
	var ok bool
	if n.ID, ok = resourceID(text("uuid"), text("instance_id")); !ok {
		return Instance{}, errors.New("no id of a server")
	}
	n.Project, _ = projectID(text("tenant_id"))
	return n, nil
}

// A payload is either form: a versioned one has everything in Data.
type payload struct {
	Object  string  `json:"nova_object.name"`
	Version string  `json:"nova_object.version"`
	Data    *fields `json:"nova_object.data"`
	fields
}

// known says whether the versioned object is one whose fields mean what is
// thought here. All that derive from InstancePayload are at major version 1, but
// for InstanceUpdatePayload 2.0, which only dropped bandwidth
// (nova/notifications/objects/instance.py).
func (p *payload) known() bool {
	major, _, _ := strings.Cut(p.Version, ".")
	return major == "1" || (major == "2" && p.Object == "InstanceUpdatePayload")
}

type fields struct {
	UUID       string          `json:"uuid"`        // versioned
	InstanceID string          `json:"instance_id"` // legacy
	Tenant     string          `json:"tenant_id"`
	Name       string          `json:"display_name"`
	State      string          `json:"state"`
	Metadata   json.RawMessage `json:"metadata"`
	Tags       *[]string       `json:"tags"`
	Volume     string          `json:"volume_id"`
	NewVolume  string          `json:"new_volume_id"`

	TaskState        string `json:"task_state"`        // versioned
	StateDescription string `json:"state_description"` // legacy

	states                // legacy: beside the rest
	StateUpdate *struct { // versioned: an object of their own
		Data states `json:"nova_object.data"`
	} `json:"state_update"`
}

type states struct {
	Old     string `json:"old_state"`
	New     string `json:"state"` // legacy: taken by fields.State
	OldTask string `json:"old_task_state"`
	NewTask string `json:"new_task_state"`
}

// readMetadata reads metadata as Nova writes it, an object of strings, or as old
// releases did, a list of {"key":, "value":}. false means that there is none to
// be read, which is not the same as empty.
func readMetadata(raw json.RawMessage) (map[string]string, bool) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return nil, false
	}
	switch raw[0] {
	case '{':
		var plain map[string]string
		if !bytes.Contains(raw, []byte("null")) && json.Unmarshal(raw, &plain) == nil {
			return plain, true
		}
		var odd map[string]json.RawMessage
		if json.Unmarshal(raw, &odd) != nil {
			return nil, false
		}
		m := make(map[string]string, len(odd))
		for k, v := range odd {
			m[k] = valueText(v)
		}
		return m, true
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
	}
	return nil, false
}

func valueText(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) != nil {
		return string(v)
	}
	return s // "" for null
}

// resourceID returns the first of ids that is there, in lower case, if it is a
// UUID with hyphens. Ids reach URLs and keys: nothing else passes.
func resourceID(ids ...string) (string, bool) {
	i := slices.IndexFunc(ids, func(id string) bool { return id != "" })
	if i < 0 || !isUUID(ids[i]) {
		return "", false
	}
	return strings.ToLower(ids[i]), true
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
