package cinder

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
)

// overLimitName is the exception's name, with which Cinder begins most of its
// 413 messages.
func overLimitName(message string) string {
	if strings.HasPrefix(message, "Maximum") {
		return "VolumeLimitExceeded: " + message
	}
	return "VolumeSizeExceedsAvailableQuota: " + message
}

var volumeKeys = []string{"name", "description", "display_name", "display_description", "size", "metadata",
	"availability_zone",
	"volume_type", "source_volid", "snapshot_id", "consistencygroup_id", "imageRef", "image_id", "multiattach", "group_id",
	"backup_id", "scheduler_hints"}

// makeVolume is POST /volumes.
func makeVolume(s *model.State, q *api.Request, now time.Time) api.Answer {
	in, a := q.BodyOf("volume", nil)
	if a.Status != 0 {
		return a
	}
	if q.Version >= 53 {
		if in, a = q.BodyOf("volume", volumeKeys); a.Status != 0 {
			return a
		}
	}
	v := &model.VolumeRow{Project: q.Token.Project, User: q.Token.User.ID, Status: "creating", Created: now, Updated: now}
	if q.Token.Project == nil {
		return api.Fail(400, "Malformed request url")
	}
	raw, has := in["size"]
	if !has || string(raw) == "null" {
		return api.Fail(400, "The server could not comply with the request since it is either malformed or "+
			"otherwise incorrect.")
	}
	size, err := strconv.Atoi(api.Bare(raw))
	if err != nil {
		return api.Fail(400, "Invalid input for field/attribute size. Value: %s. %s does not match '^[0-9]+$'",
			api.Bare(raw), api.Python(raw))
	}
	if size < 1 {
		return api.Fail(400, "Invalid input for field/attribute size. Value: %d. %d is less than the minimum of 1",
			size, size)
	}
	v.Size = size
	if raw := in["name"]; raw != nil && len([]rune(api.Bare(raw))) > 255 {
		return api.Fail(400, "Invalid input received: name has %d characters, more than 255.", len([]rune(api.Bare(raw))))
	}
	for _, f := range []struct {
		name string
		to   *string
	}{{"name", &v.Name}, {"description", &v.Description}} {
		if *f.to, a = api.Text(in, f.name); a.Status != 0 {
			return a
		}
	}
	if v.Metadata, a = api.MetadataIn(in, "metadata"); a.Status != 0 {
		return a
	}
	v.Metadata = model.Clone(v.Metadata)
	if raw := in["volume_type"]; raw != nil && string(raw) != "null" &&
		api.Bare(raw) != model.VolumeTypeName && api.Bare(raw) != model.VolumeType {
		return api.Fail(404, "Volume type with name %s could not be found.", api.Bare(raw))
	}
	if v.Multiattach, a = api.Boolean(in, "multiattach"); a.Status != 0 {
		return a
	}
	v.Bootable = in["imageRef"] != nil && string(in["imageRef"]) != "null"
	if over := s.OverVolumes(v.Project, 1, v.Size); over != "" {
		return api.Fail(413, "%s", overLimitName(over))
	}
	v.ID = s.UUID()
	s.StartVolume(v, now, q.Who())
	return api.Answer{Status: 202, Body: map[string]any{"volume": volumeView(s, q, v, true)}}
}

// updateVolume is PUT /volumes/ID: it replaces the metadata, and tells of it.
func updateVolume(s *model.State, q *api.Request, now time.Time) api.Answer {
	in, a := q.BodyOf("volume", []string{"name", "description", "display_name", "display_description", "metadata"})
	if a.Status != 0 {
		return a
	}
	v := s.VolumeFor(q.Token, q.Args[0])
	if v == nil {
		return api.NoVolume(q.Args[0])
	}
	metadata, a := api.MetadataIn(in, "metadata")
	if a.Status != 0 {
		return a
	}
	s.NotifyVolume("update.start", v, now, q.Who())
	for k, to := range map[string]*string{"name": &v.Name, "description": &v.Description} {
		if _, given := in[k]; given {
			if *to, a = api.Text(in, k); a.Status != 0 {
				return a
			}
		}
	}
	if metadata != nil {
		v.Metadata = metadata
	}
	v.Updated = now
	s.NotifyVolume("update.end", v, now, q.Who())
	view := volumeView(s, q, v, false)
	view.Tenant, view.volumeAdminJSON = "", nil // this answer alone is not extended
	return api.OK(map[string]any{"volume": view})
}

const undeletable = "Invalid volume: Volume status must be available or error or error_restoring or " +
	"error_extending or error_managing and must not be migrating, attached, belong to a group, have snapshots, " +
	"awaiting a transfer, or be disassociated from snapshots after volume transfer."

// deleteVolume is DELETE /volumes/ID. Backups do not hinder it.
func deleteVolume(s *model.State, q *api.Request, now time.Time) api.Answer {
	v := s.VolumeFor(q.Token, q.Args[0])
	if v == nil {
		return api.NoVolume(q.Args[0])
	}
	if !slices.Contains([]string{"available", "error", "error_restoring", "error_extending", "error_managing"},
		v.Status) || len(v.Attached) > 0 {
		return api.Fail(400, "%s", undeletable)
	}
	v.Status, v.Updated = "deleting", now
	s.NotifyVolume("delete.start", v, now, q.Who())
	w := q.Who()
	s.At(now.Add(s.Options.SettleTime), func(at time.Time) { s.EndVolume(v, at, w) })
	return api.Done(202)
}

// volumeAction is POST /volumes/ID/action: os-extend and os-reset_status.
func volumeAction(s *model.State, q *api.Request, now time.Time) api.Answer {
	var in map[string]json.RawMessage
	if err := json.Unmarshal(q.Body, &in); err != nil || len(in) != 1 {
		return api.Fail(400, "Malformed request body")
	}
	v := s.VolumeFor(q.Token, q.Args[0])
	w := q.Who()
	switch {
	case in["os-extend"] != nil:
		var e struct {
			Size json.RawMessage `json:"new_size"`
		}
		if json.Unmarshal(in["os-extend"], &e) != nil {
			return api.Fail(400, "Malformed request body")
		}
		size, err := strconv.Atoi(api.Bare(e.Size))
		if err != nil {
			return api.Fail(400, "Invalid input for field/attribute new_size. Value: %s. %s does not match "+
				"'^[0-9]+$'", api.Bare(e.Size), api.Python(e.Size))
		}
		if v == nil {
			return api.NoVolume(q.Args[0])
		}
		if size <= v.Size {
			return api.Fail(400, "Invalid input received: New size for extend must be greater than current size. "+
				"(current: %d, extended: %d).", v.Size, size)
		}
		if v.Status != "available" && (v.Status != "in-use" || q.Version < 42) {
			return api.Fail(400, "Invalid volume: Volume %s status must be '{'status': 'available'}' to extend, "+
				"currently %s.", v.ID, v.Status)
		}
		if over := s.OverVolumes(v.Project, 0, size-v.Size); over != "" {
			return api.Fail(413, "%s", overLimitName(over))
		}
		before := v.Status
		v.Project.Gigabytes += size - v.Size // reserved
		v.Status, v.Updated = "extending", now
		s.NotifyVolume("resize.start", v, now, w)
		s.At(now.Add(s.Options.SettleTime), func(at time.Time) {
			if s.Volumes[v.ID] == v {
				v.Size, v.Status, v.Updated = size, before, at
				s.NotifyVolume("resize.end", v, at, w)
			}
		})
		return api.Done(202)
	case in["os-reset_status"] != nil:
		var e struct {
			Status string `json:"status"`
		}
		if json.Unmarshal(in["os-reset_status"], &e) != nil || e.Status == "" {
			return api.Fail(400, "Malformed request body")
		}
		if v == nil {
			return api.NoVolume(q.Args[0])
		}
		if !q.Token.Admin() {
			return api.Fail(403, "Policy doesn't allow volume_extension:volume_admin_actions:reset_status to be performed.")
		}
		s.NotifyVolume("reset_status.start", v, now, w)
		v.Status, v.Updated = strings.ToLower(e.Status), now
		s.NotifyVolume("reset_status.end", v, now, w)
		return api.Done(202)
	}
	return api.Fail(400, "There is no such action: %s", model.SortedKeys(in)[0])
}
