package cinder

import (
	"encoding/json"
	"errors"
	"time"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
	"staffeln/testutil/simcloud/oslopolicy"
)

// askMakers finds out for a request whether its answer tells who made a backup and
// whose it is. Once is enough for a list of any length: Cinder holds the rule against
// whoever asks, and not against each backup. Source: cinder/api/v3/backups.py, show and
// detail, and cinder/context.py, authorize without a target.
func askMakers(s *model.State, q *api.Request) api.Answer {
	e := oslopolicy.Enforcement{Rules: s.Policy, Rule: oslopolicy.MakersRule, Credentials: PolicyValues(q.Token)}
	if e.Rules == nil {
		e.Rules = oslopolicy.DefaultRules
	}
	e.Target = map[string]any{"project_id": e.Credentials["project_id"], "user_id": e.Credentials["user_id"]}
	e.Ask = func(address string) (bool, error) { return false, errors.New("nobody is asked at " + address) }
	var err error
	if q.Makers, err = e.Rules[oslopolicy.MakersRule].Passes(&e); err != nil {
		return api.Fail(501, "The simulated Cinder cannot ask %s: %s", oslopolicy.MakersRule, err.Error())
	}
	return api.Answer{}
}

// BadUpdate says whether the body of PUT /backups/ID is refused for itself.
func BadUpdate(q *api.Request) bool {
	keys := []string{"name", "description"}
	if q.Version >= 43 {
		keys = append(keys, "metadata")
	}
	in, a := q.BodyOf("backup", keys)
	if a.Status == 0 {
		_, a = api.MetadataIn(in, "metadata")
	}
	return q.Version < 9 || a.Status != 0
}

// PolicyTarget is the row of a backup as a policy check gets it. Source:
// cinder/context.py, authorize.
func PolicyTarget(b *model.BackupRow) map[string]any {
	at := func(t time.Time) any {
		if t.IsZero() {
			return nil
		}
		return t.UTC().Format("2006-01-02T15:04:05Z")
	}
	var parent, saved any
	if b.Parent != nil {
		parent = b.Parent.ID
	}
	if b.ServiceName {
		saved = `{"base": "volume-` + b.Volume + `.backup.` + b.ID + `"}`
	}
	return map[string]any{
		"project_id": b.Project.ID, "user_id": b.User, "id": b.ID, "volume_id": b.Volume, "host": model.Null(b.Host),
		"availability_zone": nil, "container": model.Null(b.Container), "parent_id": parent, "status": b.Status,
		"fail_reason": model.Null(b.FailReason), "size": b.Size, "display_name": model.Null(b.Name),
		"display_description": model.Null(b.Description),
		"service_metadata":    saved, "service": "cinder.backup.drivers.ceph.CephBackupDriver", "object_count": 0,
		"temp_volume_id": nil, "temp_snapshot_id": nil, "num_dependent_backups": b.Dependents, "snapshot_id": nil,
		"data_timestamp": at(b.Created), "restore_volume_id": nil, "metadata": model.Clone(b.Metadata),
		"encryption_key_id": nil,
		"created_at":        at(b.Created), "updated_at": at(b.Updated), "deleted_at": nil, "deleted": false,
	}
}

// PolicyValues are a token's credentials as a policy check gets them.
func PolicyValues(t *model.Token) map[string]any {
	var held []string
	for _, r := range model.RoleNames {
		if t.Roles()&r.Bit != 0 {
			held = append(held, r.Name)
		}
	}
	out := map[string]any{"is_admin": t.Admin(), "user_id": t.User.ID, "user_domain_id": t.User.Domain.ID,
		"system_scope": nil,
		"domain_id":    nil, "project_id": nil, "project_domain_id": nil, "roles": held, "is_admin_project": true,
		"service_user_id": nil, "service_user_domain_id": nil, "service_project_id": nil, "service_project_domain_id": nil,
		"service_roles": []string{}}
	if t.Project != nil {
		out["project_id"], out["project_domain_id"] = t.Project.ID, t.Project.Domain.ID
	}
	if t.System {
		out["system_scope"] = "all"
	}
	return out
}

// forceDelete is the action os-force_delete, which the Ceph driver has not.
// Source: cinder/api/contrib/admin_actions.py.
func forceDelete(s *model.State, q *api.Request) api.Answer {
	var in map[string]json.RawMessage
	switch b := FindBackup(s, q, q.Args[0]); {
	case json.Unmarshal(q.Body, &in) != nil:
		return api.Fail(400, "Malformed request body")
	case b == nil:
		return noBackup(q.Args[0])
	case !q.Token.Admin():
		return api.Fail(403, "Policy doesn't allow volume_extension:backup_admin_actions:force_delete to be performed.")
	}
	return api.Fail(405, "Operation not supported: force delete.")
}
