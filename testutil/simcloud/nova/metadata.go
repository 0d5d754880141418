package nova

import (
	"encoding/json"
	"maps"
	"time"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
)

// serverMetadata is /servers/ID/metadata: POST adds, PUT replaces.
func serverMetadata(s *model.State, q *api.Request, now time.Time) api.Answer {
	if q.Method == "GET" {
		v := findServer(s, q)
		if v == nil {
			return noServer(q.Args[0])
		}
		return api.OK(map[string]any{"metadata": v.Metadata})
	}
	var in map[string]json.RawMessage
	if json.Unmarshal(q.Body, &in) != nil {
		return api.Fail(400, "Malformed request body")
	}
	if in["metadata"] == nil {
		return api.Fail(400, "'metadata' is a required property")
	}
	metadata, a := api.MetadataIn(in, "metadata")
	if a.Status != 0 {
		return a
	}
	v := findServer(s, q)
	if v == nil {
		return noServer(q.Args[0])
	}
	all := map[string]string{}
	if q.Method == "POST" {
		maps.Copy(all, v.Metadata)
	}
	maps.Copy(all, metadata)
	if a := changeable(v, q, "update metadata"); a.Status != 0 {
		return a
	}
	if len(all) > 128 {
		return api.Fail(403, "Maximum number of metadata items exceeds 128")
	}
	v.Metadata, v.Updated = all, now
	s.NotifyServerUpdate(v, v, now, q.Who())
	return api.OK(map[string]any{"metadata": all})
}

func serverMetadatum(s *model.State, q *api.Request, now time.Time) api.Answer {
	key := q.Args[1]
	var meta map[string]string
	if q.Method == "PUT" {
		var in map[string]json.RawMessage
		if json.Unmarshal(q.Body, &in) != nil || in["meta"] == nil {
			return api.Fail(400, "'meta' is a required property")
		}
		var a api.Answer
		if meta, a = api.MetadataIn(in, "meta"); a.Status != 0 {
			return a
		}
		if _, same := meta[key]; !same || len(meta) != 1 {
			return api.Fail(400, "Request body and URI mismatch")
		}
	}
	v := findServer(s, q)
	if v == nil {
		return noServer(q.Args[0])
	}
	value, has := v.Metadata[key]
	if q.Method != "PUT" && !has {
		return api.Fail(404, "Metadata item was not found")
	}
	switch q.Method {
	case "GET":
		return api.OK(map[string]any{"meta": map[string]string{key: value}})
	case "DELETE":
		if a := changeable(v, q, "delete metadata"); a.Status != 0 {
			return a
		}
		v.Metadata = model.Clone(v.Metadata)
		delete(v.Metadata, key)
		v.Updated = now
		s.NotifyServerUpdate(v, v, now, q.Who())
		return api.Done(204)
	}
	if a := changeable(v, q, "update metadata"); a.Status != 0 {
		return a
	}
	all := model.Clone(v.Metadata)
	all[key] = meta[key]
	if len(all) > 128 {
		return api.Fail(403, "Maximum number of metadata items exceeds 128")
	}
	v.Metadata, v.Updated = all, now
	s.NotifyServerUpdate(v, v, now, q.Who())
	return api.OK(map[string]any{"meta": meta})
}
