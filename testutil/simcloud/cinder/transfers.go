package cinder

import (
	"strings"
	"time"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
)

func transferView(s *model.State, q *api.Request, t *model.Transfer, key bool) map[string]any {
	out := map[string]any{"id": t.ID, "name": model.Null(t.Name), "volume_id": t.Volume.ID,
		"created_at": api.CinderAt(t.Created), "links": links(s, q, "os-volume-transfer", t.ID)}
	if key {
		out["auth_key"] = t.Key
	}
	if q.Version >= 57 {
		out["source_project_id"], out["destination_project_id"], out["accepted"] = t.Source.ID, nil, false
	}
	if q.Version >= 55 {
		out["no_snapshots"] = false
	}
	return out
}

func findTransfer(s *model.State, q *api.Request, anybody bool) *model.Transfer {
	t := s.Transfers[q.Args[0]]
	if t == nil || t.Source != q.Token.Project && !anybody && !q.Token.Admin() {
		return nil
	}
	return t
}

func noTransfer(id string) api.Answer { return api.Fail(404, "Transfer %s could not be found.", id) }

func listTransfers(s *model.State, q *api.Request, _ time.Time) api.Answer {
	out := []any{}
	for _, id := range model.SortedKeys(s.Transfers) {
		if t := s.Transfers[id]; t.Source == q.Token.Project {
			if strings.HasSuffix(q.Route.Pattern, "detail") {
				out = append(out, transferView(s, q, t, false))
			} else {
				out = append(out, map[string]any{"id": t.ID, "name": model.Null(t.Name), "volume_id": t.Volume.ID,
					"links": links(s, q, "os-volume-transfer", t.ID)})
			}
		}
	}
	return api.OK(map[string]any{"transfers": out})
}

func makeTransfer(s *model.State, q *api.Request, now time.Time) api.Answer {
	in, a := q.BodyOf("transfer", nil, "volume_id")
	if a.Status != 0 {
		return a
	}
	id, a := api.UUIDIn(in, "volume_id")
	if a.Status != 0 {
		return a
	}
	v := s.VolumeFor(q.Token, id)
	if v == nil {
		return api.NoVolume(id)
	}
	if v.Status != "available" {
		return api.Fail(400, "Invalid volume: status must be available")
	}
	name, a := api.Text(in, "name")
	if a.Status != 0 {
		return a
	}
	t := &model.Transfer{ID: s.UUID(), Name: name, Key: s.Hex()[8:24], Volume: v, Source: v.Project, Created: now}
	s.Transfers[t.ID] = t
	s.NotifyVolume("transfer.create.start", v, now, q.Who())
	v.Status, v.Updated = "awaiting-transfer", now
	s.NotifyVolume("transfer.create.end", v, now, q.Who())
	return api.Answer{Status: 202, Body: map[string]any{"transfer": transferView(s, q, t, true)}}
}

func showTransfer(s *model.State, q *api.Request, _ time.Time) api.Answer {
	t := findTransfer(s, q, false)
	if t == nil {
		return noTransfer(q.Args[0])
	}
	return api.OK(map[string]any{"transfer": transferView(s, q, t, false)})
}

func deleteTransfer(s *model.State, q *api.Request, now time.Time) api.Answer {
	t := findTransfer(s, q, false)
	if t == nil {
		return noTransfer(q.Args[0])
	}
	delete(s.Transfers, t.ID)
	t.Volume.Status, t.Volume.Updated = "available", now
	return api.Done(202)
}

// acceptTransfer gives a volume to another project. Its backups stay with the
// old one.
func acceptTransfer(s *model.State, q *api.Request, now time.Time) api.Answer {
	in, a := q.BodyOf("accept", nil, "auth_key")
	if a.Status != 0 {
		return a
	}
	t := findTransfer(s, q, true)
	if t == nil {
		return noTransfer(q.Args[0])
	}
	if api.Bare(in["auth_key"]) != t.Key {
		return api.Fail(400, "Invalid auth key: Attempt to transfer %s with invalid auth key.", t.ID)
	}
	if q.Token.Project == nil {
		return api.Fail(400, "Malformed request url")
	}
	v := t.Volume
	if over := s.OverVolumes(q.Token.Project, 1, v.Size); over != "" {
		return api.Fail(413, "%s", over)
	}
	s.NotifyVolume("transfer.accept.start", v, now, q.Who())
	v.Project.Volumes.Remove(v)
	v.Project.Gigabytes -= v.Size
	v.Project, v.User, v.Status, v.Updated = q.Token.Project, q.Token.User.ID, "available", now
	v.Project.Volumes.Add(v)
	v.Project.Gigabytes += v.Size
	delete(s.Transfers, t.ID)
	s.NotifyVolume("transfer.accept.end", v, now, q.Who())
	return api.Answer{Status: 202, Body: map[string]any{"transfer": map[string]any{"id": t.ID, "name": model.Null(t.Name),
		"volume_id": v.ID, "links": links(s, q, "os-volume-transfer", t.ID)}}}
}
