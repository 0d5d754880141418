package model

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// StartVolume has a volume made.
func (s *State) StartVolume(v *VolumeRow, now time.Time, w Who) {
	s.AddVolume(v)
	s.NotifyVolume("create.start", v, now, w)
	s.At(now.Add(s.Options.SettleTime), func(at time.Time) {
		if v.Status == "creating" {
			v.Status, v.Updated, v.Scheduled = "available", at, true
			s.NotifyVolume("create.end", v, at, w)
		}
	})
}

// EndVolume removes a volume, with a notification. Its backups stay.
func (s *State) EndVolume(v *VolumeRow, at time.Time, w Who) {
	if s.Volumes[v.ID] != v {
		return
	}
	v.Status = "deleting"
	s.dropVolume(v)
	s.NotifyVolume("delete.end", v, at, w)
}

// hostname is a server's name as Nova makes a host name of it.
func hostname(name string) string {
	return strings.ToLower(strings.Map(func(r rune) rune {
		switch {
		case r == ' ' || r == '_':
			return '-'
		case r == '-' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z':
			return r
		}
		return -1
	}, name))
}

// NewServer is a row for a server that is being built; it is in no list yet.
func (s *State) NewServer(p *Project, user, name string, now time.Time) *ServerRow {
	s.ServerSeq++
	return &ServerRow{ID: s.UUID(), Name: name, Hostname: hostname(name), User: user, Project: p, Status: "BUILD",
		Task:     "scheduling",
		Metadata: map[string]string{}, Image: imageID, Flavor: FlavorID, Seq: s.ServerSeq, Created: now, Updated: now,
		Reservation: fmt.Sprintf("r-%08x", s.Rand.Uint32())}
}

// EndServer removes a server and detaches its volumes, with notifications. Volumes
// that were attached to be deleted with it are removed, too.
func (s *State) EndServer(v *ServerRow, at time.Time, w Who) {
	if s.Servers[v.ID] != v {
		return
	}
	s.Legacy("delete.start", v, nil, at, w)
	s.Versioned("delete.start", "InstanceActionPayload", "1.8", v, nil, at, w)
	attached := v.Attached
	v.Terminated, v.Status, v.Task, v.Updated = at, "DELETED", "", at
	s.Legacy("delete.end", v, map[string]any{"metadata": map[string]string{}}, at, w)
	s.Versioned("delete.end", "InstanceActionPayload", "1.8", v, map[string]any{"metadata": map[string]string{}}, at, w)
	for _, a := range slices.Clone(attached) {
		s.NotifyVolume("detach.start", a.Volume, at, w)
		a.undo(at)
		s.NotifyVolume("detach.end", a.Volume, at, w)
		if a.DeleteOnEnd {
			a.Volume.Status = "deleting"
			s.NotifyVolume("delete.start", a.Volume, at, w)
			s.EndVolume(a.Volume, at, w)
		}
	}
	v.Metadata, v.Tags = map[string]string{}, nil
	s.dropServer(v)
}

// Reserve begins an attachment; finish ends it.
func (s *State) Reserve(v *ServerRow, x *VolumeRow, boot bool, now time.Time) *Attachment {
	a := &Attachment{ID: s.UUID(), BDM: s.UUID(), Server: v, Volume: x, Boot: boot, At: now}
	if v.Status != "SHELVED_OFFLOADED" {
		letter := 'b' + rune(len(v.Attached))
		if boot {
			letter = 'a'
		}
		a.Device = "/dev/sd" + string(min(letter, 'z'))
	}
	v.Attached = append(v.Attached, a)
	x.Attached = append(x.Attached, a)
	x.Status, x.Updated = "reserved", now
	return a
}

// Finish ends what Reserve began: the volume is in use.
func (a *Attachment) Finish(at time.Time) {
	a.Done, a.At = true, at
	a.Volume.Status, a.Volume.Updated = "in-use", at
}

// undo ends an attachment the other way. A volume that is attached elsewhere too
// stays in use.
func (a *Attachment) undo(at time.Time) {
	is := func(x *Attachment) bool { return x == a }
	a.Server.Attached = slices.DeleteFunc(slices.Clone(a.Server.Attached), is)
	a.Volume.Attached = slices.DeleteFunc(slices.Clone(a.Volume.Attached), is)
	switch {
	case len(a.Volume.Attached) > 0:
		a.Volume.Status = "in-use"
	case a.Volume.Status == "backing-up":
		a.Volume.Previous = "available" // the server was deleted meanwhile
	default:
		a.Volume.Status = "available"
	}
	a.Volume.Updated = at
}

// Attach attaches a volume at once, without notifications.
func (s *State) Attach(v *ServerRow, x *VolumeRow, boot bool, now time.Time) {
	s.Reserve(v, x, boot, now).Finish(now)
}

// AttachNoisily attaches a volume at once, with notifications.
func (s *State) AttachNoisily(v *ServerRow, x *VolumeRow, boot bool, now time.Time, w Who) {
	a := s.Reserve(v, x, boot, now)
	s.Versioned("volume_attach.start", "InstanceActionVolumePayload", "1.6", v, map[string]any{"volume_id": x.ID}, now, w)
	s.FinishNoisily(a, now, w)
}

// FinishNoisily is Finish with notifications.
func (s *State) FinishNoisily(a *Attachment, at time.Time, w Who) {
	s.NotifyVolume("attach.start", a.Volume, at, w)
	a.Finish(at)
	s.NotifyVolume("attach.end", a.Volume, at, w)
	s.Legacy("volume.attach", a.Server, map[string]any{"volume_id": a.Volume.ID}, at, w)
	s.Versioned("volume_attach.end", "InstanceActionVolumePayload", "1.6", a.Server,
		map[string]any{"volume_id": a.Volume.ID}, at, w)
}

// DetachNoisily detaches a volume at once, with notifications.
func (s *State) DetachNoisily(a *Attachment, at time.Time, w Who) {
	extra := map[string]any{"volume_id": a.Volume.ID}
	v := a.Server
	s.Versioned("volume_detach.start", "InstanceActionVolumePayload", "1.6", v, extra, at, w)
	s.NotifyVolume("detach.start", a.Volume, at, w)
	// Nova tells before it forgets: the devices of detach.end still list the volume.
	s.Legacy("volume.detach", v, extra, at, w)
	s.Versioned("volume_detach.end", "InstanceActionVolumePayload", "1.6", v, extra, at, w)
	a.undo(at)
	s.NotifyVolume("detach.end", a.Volume, at, w)
}
