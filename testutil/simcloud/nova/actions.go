package nova

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
)

// serverAction is POST /servers/ID/action: lock, unlock, shelve, shelveOffload,
// unshelve, os-stop, os-start, os-resetState.
func serverAction(s *model.State, q *api.Request, now time.Time) api.Answer {
	var in map[string]json.RawMessage
	if err := json.Unmarshal(q.Body, &in); err != nil || len(in) != 1 {
		return api.Fail(400, "Malformed request body")
	}
	action := model.SortedKeys(in)[0]
	known := []string{"lock", "unlock", "shelve", "shelveOffload", "unshelve", "os-stop", "os-start", "os-resetState"}
	if !slices.Contains(known, action) {
		return api.Fail(400, "There is no such action: %s", action)
	}
	v := findServer(s, q)
	if v == nil {
		return noServer(q.Args[0])
	}
	w := q.Who()
	switch action {
	case "lock":
		var l struct {
			Reason string `json:"locked_reason"`
		}
		json.Unmarshal(in["lock"], &l) //nolint:errcheck // null, or an object without a reason
		v.LockedBy, v.LockedReason = "owner", l.Reason
		if q.Token.User.ID != v.User && q.Token.Admin() && q.Token.Project != v.Project {
			v.LockedBy = "admin"
		}
		locked(s, "lock", v, now, w)
		return api.Done(202)
	case "unlock":
		if v.LockedBy == "admin" && !q.Token.Admin() {
			return api.Fail(403, "Policy doesn't allow os_compute_api:os-lock-server:unlock:unlock_override to be performed.")
		}
		v.LockedBy, v.LockedReason = "", ""
		locked(s, "unlock", v, now, w)
		return api.Done(202)
	case "os-resetState":
		if !q.Token.Admin() {
			return api.Fail(403, "Policy doesn't allow os_compute_api:os-admin-actions:reset_state to be performed.")
		}
		var r struct{ State string }
		if json.Unmarshal(in[action], &r) != nil || r.State != "active" && r.State != "error" {
			return api.Fail(400, "Invalid input for field/attribute state. Value: %s.", r.State)
		}
		become(s, v, strings.ToUpper(r.State), now, w)
		return api.Done(202)
	}
	if a := lockedFor(v, q); a.Status != 0 {
		return a
	}
	type move struct {
		verb   string
		from   []string
		to     string
		events string
	}
	m := map[string]move{
		"os-stop":       {"stop", []string{"active", "error"}, "SHUTOFF", "power_off"},
		"os-start":      {"start", []string{"stopped"}, "ACTIVE", "power_on"},
		"shelve":        {"shelve", []string{"active", "stopped", "paused", "suspended"}, "SHELVED_OFFLOADED", "shelve"},
		"shelveOffload": {"shelveOffload", []string{"shelved"}, "SHELVED_OFFLOADED", "shelve_offload"},
		"unshelve":      {"unshelve", []string{"shelved", "shelved_offloaded"}, "ACTIVE", "unshelve"},
	}[action]
	if a := mustBe(v, m.verb, m.from...); a.Status != 0 {
		return a
	}
	before := *v
	v.Task = map[string]string{"os-stop": "powering-off", "os-start": "powering-on", "shelve": "shelving",
		"shelveOffload": "shelving_offloading", "unshelve": "unshelving"}[action]
	v.Updated = now
	s.NotifyServerUpdate(v, &before, now, w)
	s.Legacy(m.events+".start", v, nil, now, w)
	s.Versioned(m.events+".start", "InstanceActionPayload", "1.8", v, nil, now, w)
	s.At(now.Add(s.Options.SettleTime), func(at time.Time) {
		if s.Servers[v.ID] == v && v.Task != "deleting" {
			become(s, v, m.to, at, w)
			s.Legacy(m.events+".end", v, nil, at, w)
			s.Versioned(m.events+".end", "InstanceActionPayload", "1.8", v, nil, at, w)
		}
	})
	return api.Done(202)
}

func become(s *model.State, v *model.ServerRow, status string, at time.Time, w model.Who) {
	before := *v
	v.Status, v.Task, v.Updated = status, "", at
	// A server without a host keeps its volumes only reserved: they cannot be backed
	// up until it is unshelved. Source: nova/compute/manager.py,
	// _terminate_volume_connections.
	for _, a := range v.Attached {
		switch {
		case status == "SHELVED_OFFLOADED" && a.Volume.Status == "in-use":
			a.Done, a.Volume.Status, a.Volume.Updated = false, "reserved", at
		case before.Status == "SHELVED_OFFLOADED" && a.Volume.Status == "reserved":
			a.Finish(at)
		}
	}
	s.NotifyServerUpdate(v, &before, at, w)
}

func locked(s *model.State, event string, v *model.ServerRow, at time.Time, w model.Who) {
	s.NotifyServerUpdate(v, v, at, w)
	s.Legacy(event, v, nil, at, w)
	s.Versioned(event, "InstanceActionPayload", "1.8", v, nil, at, w)
}
