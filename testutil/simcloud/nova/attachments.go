package nova

import (
	"strings"
	"time"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
)

// attachmentView is one row of os-volume_attachments.
func attachmentView(q *api.Request, a *model.Attachment) map[string]any {
	out := map[string]any{"volumeId": a.Volume.ID, "serverId": a.Server.ID}
	if a.Device != "" {
		out["device"] = a.Device
	}
	if q.Version >= 70 {
		out["tag"] = nil
	}
	if q.Version >= 79 {
		out["delete_on_termination"] = a.DeleteOnEnd
	}
	if q.Version >= 89 {
		out["attachment_id"], out["bdm_uuid"] = a.ID, a.BDM
	} else {
		out["id"] = a.Volume.ID
	}
	return out
}

func listAttachments(s *model.State, q *api.Request, _ time.Time) api.Answer {
	v := findServer(s, q)
	if v == nil {
		return noServer(q.Args[0])
	}
	out := []any{}
	for _, a := range v.Attached {
		out = append(out, attachmentView(q, a))
	}
	return api.OK(map[string]any{"volumeAttachments": out})
}

func showAttachment(s *model.State, q *api.Request, _ time.Time) api.Answer {
	v := findServer(s, q)
	if v == nil {
		return noServer(q.Args[0])
	}
	a := v.Attachment(q.Args[1])
	if a == nil {
		return api.Fail(404, "Instance %s is not attached to volume %s", v.ID, q.Args[1])
	}
	return api.OK(map[string]any{"volumeAttachment": attachmentView(q, a)})
}

// attachVolume is POST /servers/ID/os-volume_attachments.
func attachVolume(s *model.State, q *api.Request, now time.Time) api.Answer {
	in, a := q.BodyOf("volumeAttachment", nil, "volumeId")
	if a.Status != 0 {
		return a
	}
	id, a := api.UUIDIn(in, "volumeId")
	if a.Status != 0 {
		return a
	}
	v := findServer(s, q)
	if v == nil {
		return noServer(q.Args[0])
	}
	x := s.VolumeFor(q.Token, id)
	if x == nil {
		return api.NoVolume(id)
	}
	if a := lockedFor(v, q); a.Status != 0 {
		return a
	}
	if a := mustBe(v, "attach_volume", "active", "paused", "stopped", "resized", "soft-deleted", "shelved",
		"shelved_offloaded"); a.Status != 0 {
		return a
	}
	if len(x.Attached) > 0 && (!x.Multiattach || v.Attachment(x.ID) != nil) {
		var on []string
		for _, y := range x.Attached {
			on = append(on, y.Server.ID)
		}
		return api.Fail(400, "Invalid volume: volume %s is already attached to instances: %s", x.ID, strings.Join(on, ", "))
	}
	if x.Status != "available" && !(x.Multiattach && x.Status == "in-use") {
		return api.Fail(400, "Invalid input received: Invalid volume: Volume %s status must be available or "+
			"downloading to reserve, but the current status is %s. (HTTP 400) (Request-ID: req-%s)", x.ID, x.Status, s.UUID())
	}
	w := q.Who()
	made := s.Reserve(v, x, false, now)
	s.Versioned("volume_attach.start", "InstanceActionVolumePayload", "1.6", v, map[string]any{"volume_id": x.ID}, now, w)
	s.At(now.Add(s.Options.SettleTime), func(at time.Time) {
		if x.Status == "reserved" && v.Attachment(x.ID) == made {
			s.FinishNoisily(made, at, w)
		}
	})
	out := map[string]any{"id": x.ID, "serverId": v.ID, "volumeId": x.ID, "device": model.Null(made.Device)}
	if q.Version >= 70 {
		out["tag"] = nil
	}
	if q.Version >= 79 {
		out["delete_on_termination"] = false
	}
	return api.OK(map[string]any{"volumeAttachment": out})
}

// detachVolume is DELETE /servers/ID/os-volume_attachments/VOLUME.
func detachVolume(s *model.State, q *api.Request, now time.Time) api.Answer {
	v := findServer(s, q)
	if v == nil {
		return noServer(q.Args[0])
	}
	a := v.Attachment(q.Args[1])
	switch {
	case a == nil && s.VolumeFor(q.Token, q.Args[1]) == nil:
		return api.NoVolume(q.Args[1])
	case a == nil:
		return api.Fail(404, "Instance %s is not attached to volume %s", v.ID, q.Args[1])
	case a.Boot:
		return api.Fail(403, "Can't detach root device volume")
	}
	if x := lockedFor(v, q); x.Status != 0 {
		return x
	}
	if a.Volume.Status != "in-use" {
		return api.Fail(400, "Invalid volume: Invalid input received: Invalid volume: Unable to detach volume. "+
			"Volume status must be 'in-use' and attach_status must be 'attached' to detach. (HTTP 400) "+
			"(Request-ID: req-%s)", s.UUID())
	}
	w := q.Who()
	a.Volume.Status, a.Volume.Updated = "detaching", now
	s.At(now.Add(s.Options.SettleTime), func(at time.Time) {
		if v.Attachment(a.Volume.ID) == a {
			s.DetachNoisily(a, at, w)
		}
	})
	return api.Done(202)
}
