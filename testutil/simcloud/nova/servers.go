package nova

import (
	"encoding/json"
	"fmt"
	"time"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
)

func showServer(s *model.State, q *api.Request, _ time.Time) api.Answer {
	v := findServer(s, q)
	if v == nil {
		return noServer(q.Args[0])
	}
	return api.OK(map[string]any{"server": serverView(s, q, v, true)})
}

// makeServer is POST /servers. A boot volume and further volumes come by
// block_device_mapping_v2. Networks are not looked at.
func makeServer(s *model.State, q *api.Request, now time.Time) api.Answer {
	in, a := q.BodyOf("server", nil, "name", "flavorRef")
	if a.Status != 0 {
		return a
	}
	name, a := api.Text(in, "name")
	if a.Status != 0 {
		return a
	}
	if q.Token.Project == nil {
		return api.Fail(403, "Policy doesn't allow os_compute_api:servers:create to be performed.")
	}
	metadata, a := api.MetadataIn(in, "metadata")
	if a.Status != 0 {
		return a
	}
	if len(metadata) > 128 {
		return api.Fail(403, "Maximum number of metadata items exceeds 128")
	}
	var tags []string
	if raw := in["tags"]; raw != nil && q.Version >= 52 {
		if tags, a = readTags(raw); a.Status != 0 {
			return a
		}
	}
	var devices []struct {
		UUID        string `json:"uuid"`
		Source      string `json:"source_type"`
		Destination string `json:"destination_type"`
		Size        int    `json:"volume_size"`
		BootIndex   *int   `json:"boot_index"`
		DeleteOnEnd bool   `json:"delete_on_termination"`
	}
	if raw := in["block_device_mapping_v2"]; raw != nil {
		if err := json.Unmarshal(raw, &devices); err != nil {
			return api.Fail(400, "Invalid input for field/attribute block_device_mapping_v2. Value: %s.", api.Python(raw))
		}
	}
	gb, n := 0, 0
	for _, d := range devices {
		switch {
		case d.Source == "volume":
			v := s.VolumeFor(q.Token, d.UUID)
			if v == nil {
				return api.Fail(400, "Block Device Mapping is Invalid: failed to get volume %s.", d.UUID)
			}
			if v.Status != "available" {
				return api.Fail(400, "Block Device Mapping is Invalid: failed to get volume %s.", d.UUID)
			}
		case d.Destination == "volume":
			n, gb = n+1, gb+max(1, d.Size)
		}
	}
	if s.OverVolumes(q.Token.Project, n, gb) != "" && n > 0 {
		return api.Fail(403, "Quota exceeded for resources: volumes")
	}
	v := s.NewServer(q.Token.Project, q.Token.User.ID, name, now)
	v.Metadata, v.Tags = model.Clone(metadata), tags
	if raw := in["imageRef"]; raw != nil && api.Bare(raw) != "" {
		v.Image = api.Bare(raw)
	} else if len(devices) > 0 {
		v.Image = ""
	}
	s.AddServer(v)
	w := q.Who()
	s.Legacy("create.start", v, map[string]any{"image_name": "tiny"}, now, w)
	s.Versioned("create.start", "InstanceCreatePayload", "1.12", v, createExtra(v), now, w)
	var roots []*model.Attachment
	for _, d := range devices {
		var x *model.VolumeRow
		switch {
		case d.Source == "volume":
			x = s.Volumes[d.UUID]
		case d.Destination == "volume":
			x = &model.VolumeRow{ID: s.UUID(), Project: v.Project, User: v.User, Status: "creating",
				Size: max(1, d.Size), Metadata: map[string]string{},
				Bootable: true, Scheduled: true, Created: now, Updated: now}
			s.AddVolume(x)
			s.NotifyVolume("create.start", x, now, w)
			x.Status = "available"
			s.NotifyVolume("create.end", x, now, w)
		default:
			continue
		}
		a := s.Reserve(v, x, d.BootIndex != nil && *d.BootIndex == 0, now)
		a.DeleteOnEnd = d.DeleteOnEnd
		roots = append(roots, a)
	}
	s.At(now.Add(s.Options.SettleTime), func(at time.Time) {
		if s.Servers[v.ID] != v || v.Status != "BUILD" {
			return
		}
		before := *v
		for _, a := range roots {
			s.NotifyVolume("attach.start", a.Volume, at, w)
			a.Finish(at)
			s.NotifyVolume("attach.end", a.Volume, at, w)
		}
		v.Status, v.Task, v.Launched, v.Updated = "ACTIVE", "", at, at
		s.NotifyServerUpdate(v, &before, at, w)
		s.Legacy("create.end", v, map[string]any{"fixed_ips": []any{}, "message": "Success"}, at, w)
		s.Versioned("create.end", "InstanceCreatePayload", "1.12", v, createExtra(v), at, w)
	})
	return api.Answer{Status: 202, Header: map[string]string{"Location": s.Options.Base + api.ComputePath +
		"/servers/" + v.ID},
		Body: map[string]any{"server": map[string]any{"id": v.ID, "links": serverLinks(s, q, v.ID),
			"OS-DCF:diskConfig": "MANUAL",
			"security_groups":   []any{map[string]string{"name": "default"}},
			"adminPass":         fmt.Sprintf("%012x", s.Rand.Uint64()&0xffffffffffff)}}}
}

func createExtra(v *model.ServerRow) map[string]any {
	return map[string]any{"keypairs": []any{}, "tags": model.TagsOf(v), "trusted_image_certificates": nil,
		"instance_name": fmt.Sprintf("instance-%08x", v.Seq)}
}

// renameServer is PUT /servers/ID, of the name only.
func renameServer(s *model.State, q *api.Request, now time.Time) api.Answer {
	in, a := q.BodyOf("server", []string{"name", "description", "accessIPv4", "accessIPv6", "OS-DCF:diskConfig",
		"hostname"})
	if a.Status != 0 {
		return a
	}
	name, a := api.Text(in, "name")
	if a.Status != 0 {
		return a
	}
	v := findServer(s, q)
	if v == nil {
		return noServer(q.Args[0])
	}
	before := *v
	if name != "" {
		v.Name, v.Updated = name, now
	}
	s.NotifyServerUpdate(v, &before, now, q.Who())
	return api.OK(map[string]any{"server": serverView(s, q, v, true)})
}

// deleteServer is DELETE /servers/ID.
func deleteServer(s *model.State, q *api.Request, now time.Time) api.Answer {
	v := findServer(s, q)
	if v == nil {
		return noServer(q.Args[0])
	}
	if a := lockedFor(v, q); a.Status != 0 {
		return a
	}
	w := q.Who()
	before := *v
	v.Task, v.Updated = "deleting", now
	s.NotifyServerUpdate(v, &before, now, w)
	s.At(now.Add(s.Options.SettleTime), func(at time.Time) { s.EndServer(v, at, w) })
	return api.Done(204)
}
