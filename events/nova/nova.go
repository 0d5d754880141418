// Package nova reads the notifications of servers: Nova's legacy ones
// ("compute.instance.update") and its versioned ones ("instance.update").
//
// A notification is a hint. What an [Instance] says was true when Nova wrote it,
// and is good for telling cheaply that nothing of interest has changed; before
// anything is done the server is read over the API.
package nova

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"staffeln/events"
	"staffeln/events/wire"
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

	p, err := readPayload(e.Data)
	if err != nil {
		return Instance{}, err
	}
	f, is, ok := &p.fields, wire.Optional{}, false
	if n.ID, ok = wire.ResourceID(is.Text(f.uuid), is.Text(f.instanceID)); !ok {
		return Instance{}, errors.New("no id of a server")
	}
	n.Project, ok = wire.ProjectID(is.Text(f.tenant))
	opaque := n
	opaque.Opaque = true
	if !p.known(legacy) {
		return opaque, nil
	}

	n.Name = is.Text(f.name)
	n.Volume, _ = wire.ResourceID(is.Text(f.newVolume), is.Text(f.volume))
	// The legacy payload calls the task state state_description, "" for none.
	description := is.Text(f.stateDescription)
	n.State, n.TaskState = is.Text(f.state), cmp.Or(is.Text(f.taskState), description)
	n.OldState, n.OldTaskState = n.State, n.TaskState
	change := f.states // legacy: beside the rest
	if !f.update.IsNull() {
		change = readUpdate(&is, f.update)
	}
	state, oldState, task, oldTask := is.Text(change.state), is.Text(change.oldState), is.Text(change.newTask), is.Text(change.oldTask)
	if name == "instance.update" && oldState != "" {
		n.State, n.OldState = state, oldState
		n.TaskState, n.OldTaskState = task, oldTask
		n.StateOnly = n.State != n.OldState || n.TaskState != n.OldTaskState || n.State == "building"
	}
	n.Deleted = n.Deleted || n.State == "deleted"
	n.Tags, n.HasTags = is.Texts(f.tags)
	if is.Odd() {
		return opaque, nil
	}
	if !ok {
		return Instance{}, fmt.Errorf("server %s: no id of its project", n.ID)
	}
	n.Metadata, n.HasMetadata = wire.Metadata(f.metadata)
	return n, nil
}

// A payload is either form: a versioned one has its fields in nova_object.data.
type payload struct {
	object, version wire.Value
	versioned       bool
	fields
}

// fields are the values as they are written, those of both forms.
type fields struct {
	uuid                         wire.Value // versioned
	instanceID                   wire.Value // legacy
	tenant, name, metadata, tags wire.Value
	volume, newVolume            wire.Value
	taskState                    wire.Value // versioned
	stateDescription             wire.Value // legacy
	update                       wire.Value // versioned: an object with states of its own
	states
}

type states struct{ state, oldState, oldTask, newTask wire.Value }

func readPayload(doc []byte) (payload, error) {
	var p payload
	var beside fields
	odd := false
	s := wire.Scan(doc)
	for s.Object(); s.Next(); {
		switch string(s.Key) {
		case "nova_object.name":
			p.object = s.Value()
		case "nova_object.version":
			p.version = s.Value()
		case "nova_object.data":
			p.fields, p.versioned, odd = fields{}, s.Is('{'), false
			if !p.versioned {
				odd = !s.Value().IsNull()
				continue
			}
			for s.Object(); s.Next(); {
				p.take(&s)
			}
		default:
			beside.take(&s)
		}
	}
	if s.End() != nil {
		return payload{}, errors.New("the payload is not a JSON object")
	}
	if odd {
		return payload{}, errors.New("nova_object.data is not a JSON object")
	}
	if !p.versioned {
		p.fields = beside
	}
	return p, nil
}

func (f *fields) take(s *wire.Scanner) {
	switch string(s.Key) {
	case "uuid":
		f.uuid = s.Value()
	case "instance_id":
		f.instanceID = s.Value()
	case "tenant_id":
		f.tenant = s.Value()
	case "display_name":
		f.name = s.Value()
	case "metadata":
		f.metadata = s.Value()
	case "tags":
		f.tags = s.Value()
	case "volume_id":
		f.volume = s.Value()
	case "new_volume_id":
		f.newVolume = s.Value()
	case "task_state":
		f.taskState = s.Value()
	case "state_description":
		f.stateDescription = s.Value()
	case "state_update":
		f.update = s.Value()
	default:
		f.states.take(s)
	}
}

func (c *states) take(s *wire.Scanner) {
	switch string(s.Key) {
	case "state":
		c.state = s.Value()
	case "old_state":
		c.oldState = s.Value()
	case "old_task_state":
		c.oldTask = s.Value()
	case "new_task_state":
		c.newTask = s.Value()
	default:
		s.Skip()
	}
}

// readUpdate reads state_update, an object with its fields in nova_object.data.
func readUpdate(is *wire.Optional, update wire.Value) (c states) {
	var data wire.Value
	if is.Object(update) {
		s := wire.Scan(update)
		for s.Object(); s.Next(); {
			if string(s.Key) == "nova_object.data" {
				data = s.Value()
			} else {
				s.Skip()
			}
		}
	}
	if is.Object(data) {
		s := wire.Scan(data)
		for s.Object(); s.Next(); {
			c.take(&s)
		}
	}
	return c
}

// known says whether the fields mean what is thought here. A legacy payload has no
// version. All versioned ones that derive from InstancePayload are at major version
// 1, but for InstanceUpdatePayload 2.0, which only dropped bandwidth
// (nova/notifications/objects/instance.py).
func (p *payload) known(legacy bool) bool {
	if !p.versioned {
		return legacy
	}
	object, _ := p.object.Text()
	version, _ := p.version.Text()
	major, _, _ := strings.Cut(version, ".")
	return major == "1" || (major == "2" && object == "InstanceUpdatePayload")
}
