package cinder

import (
	"encoding/json"
	"time"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
)

// listServices is GET /os-services, for admins only.
func listServices(s *model.State, q *api.Request, now time.Time) api.Answer {
	if !q.Token.Admin() {
		return api.Fail(403, "Policy doesn't allow volume_extension:services:index to be performed.")
	}
	out := []any{}
	for _, v := range s.Services {
		if !q.Asked("binary", v.Binary) || !q.Asked("host", v.Host) {
			continue
		}
		state, status := "up", "enabled"
		updated := now
		if !v.Up {
			updated = v.Down
		}
		if !believed(s, v, now) {
			state = "down"
		}
		if v.Disabled {
			status = "disabled"
		}
		row := map[string]any{"binary": v.Binary, "host": v.Host, "zone": "nova", "status": status, "state": state,
			"updated_at": api.CinderAt(updated), "disabled_reason": nil}
		if q.Version >= 7 {
			row["cluster"] = nil
		}
		out = append(out, row)
	}
	return api.OK(map[string]any{"services": out})
}

// switchService is PUT /os-services/enable and /disable.
func switchService(s *model.State, q *api.Request, _ time.Time) api.Answer {
	if !q.Token.Admin() {
		return api.Fail(403, "Policy doesn't allow volume_extension:services:update to be performed.")
	}
	var in struct{ Host, Binary string }
	if json.Unmarshal(q.Body, &in) != nil {
		return api.Fail(400, "Malformed request body")
	}
	for _, v := range s.Services {
		if v.Host == in.Host && v.Binary == in.Binary && (q.Args[0] == "enable" || q.Args[0] == "disable") {
			v.Disabled = q.Args[0] == "disable"
			return api.OK(map[string]any{"host": v.Host, "binary": v.Binary, "service": v.Binary,
				"disabled": v.Disabled, "status": q.Args[0] + "d"})
		}
	}
	return api.Fail(404, "Unknown action")
}

func listTypes(s *model.State, _ *api.Request, _ time.Time) api.Answer {
	return api.OK(map[string]any{"volume_types": []any{map[string]any{"id": model.VolumeType,
		"name": model.VolumeTypeName, "is_public": true,
		"description": nil, "extra_specs": map[string]string{}, "os-volume-type-access:is_public": true}}})
}
