package cinder

import (
	"encoding/json"
	"maps"
	"time"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
)

// volumeMetadata is /volumes/ID/metadata, of which nobody is told.
func volumeMetadata(s *model.State, q *api.Request, _ time.Time) api.Answer {
	v := s.VolumeFor(q.Token, q.Args[0])
	if q.Method == "GET" {
		if v == nil {
			return api.NoVolume(q.Args[0])
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
	if v == nil {
		return api.NoVolume(q.Args[0])
	}
	all := map[string]string{}
	if q.Method == "POST" {
		maps.Copy(all, v.Metadata)
	}
	maps.Copy(all, metadata)
	v.Metadata = all
	return api.OK(map[string]any{"metadata": all})
}

func volumeMetadatum(s *model.State, q *api.Request, _ time.Time) api.Answer {
	v, key := s.VolumeFor(q.Token, q.Args[0]), q.Args[1]
	if v == nil {
		return api.NoVolume(q.Args[0])
	}
	value, has := v.Metadata[key]
	switch q.Method {
	case "GET":
		if has {
			return api.OK(map[string]any{"meta": map[string]string{key: value}})
		}
	case "DELETE":
		if has {
			v.Metadata = model.Clone(v.Metadata)
			delete(v.Metadata, key)
			return api.Done(200)
		}
	default:
		var in map[string]json.RawMessage
		if json.Unmarshal(q.Body, &in) != nil || in["meta"] == nil {
			return api.Fail(400, "'meta' is a required property")
		}
		meta, a := api.MetadataIn(in, "meta")
		if a.Status != 0 {
			return a
		}
		if _, same := meta[key]; !same {
			return api.Fail(400, "Request body and URI mismatch")
		}
		v.Metadata = model.Clone(v.Metadata)
		v.Metadata[key] = meta[key]
		return api.OK(map[string]any{"meta": meta})
	}
	return api.Fail(404, "Volume %s has no metadata with key %s.", v.ID, key)
}
