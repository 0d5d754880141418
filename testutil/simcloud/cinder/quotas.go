package cinder

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
)

// quotaJSON is a quota set; usage adds what is used.
func quotaJSON(s *model.State, p *model.Project, l model.Quota, usage bool) map[string]any {
	out := map[string]any{}
	used := map[string]int{}
	if p != nil {
		used = map[string]int{"volumes": len(p.Volumes.Rows), "gigabytes": p.Gigabytes, "backups": len(p.Backups.Rows),
			"backup_gigabytes": p.BackupGB, "volumes_ceph": len(p.Volumes.Rows), "gigabytes_ceph": p.Gigabytes}
	}
	for k, limit := range map[string]int{"volumes": l.Volumes, "gigabytes": l.Gigabytes, "backups": l.Backups,
		"backup_gigabytes": l.BackupGigabytes, "per_volume_gigabytes": -1, "snapshots": 10, "groups": 10,
		"volumes_ceph": -1, "gigabytes_ceph": -1, "snapshots_ceph": -1,
		"volumes___DEFAULT__": -1, "gigabytes___DEFAULT__": -1, "snapshots___DEFAULT__": -1} {
		if usage {
			out[k] = map[string]int{"limit": limit, "in_use": used[k], "reserved": 0}
		} else {
			out[k] = limit
		}
	}
	return out
}

// showQuota is GET /os-quota-sets/PROJECT. Cinder does not ask Keystone whether
// there is such a project.
func showQuota(s *model.State, q *api.Request, _ time.Time) api.Answer {
	if !q.Token.Admin() && (q.Token.Project == nil || q.Token.Project.ID != q.Args[0]) {
		return api.Fail(403, "Policy doesn't allow volume_extension:quotas:show to be performed.")
	}
	p := s.Tenants[q.Args[0]]
	l := *s.Options.Quota
	if p != nil {
		l = p.Limits(&s.Options)
	}
	usage := slices.Contains([]string{"true", "1", "yes", "on", "t", "y"}, strings.ToLower(q.Query.Get("usage")))
	out := quotaJSON(s, p, l, usage)
	out["id"] = q.Args[0]
	return api.OK(map[string]any{"quota_set": out})
}

func defaultQuota(s *model.State, q *api.Request, _ time.Time) api.Answer {
	if !q.Token.Admin() && (q.Token.Project == nil || q.Token.Project.ID != q.Args[0]) {
		return api.Fail(403, "Policy doesn't allow volume_extension:quotas:show to be performed.")
	}
	out := quotaJSON(s, nil, *s.Options.Quota, false)
	out["id"] = q.Args[0]
	return api.OK(map[string]any{"quota_set": out})
}

func updateQuota(s *model.State, q *api.Request, _ time.Time) api.Answer {
	in, a := q.BodyOf("quota_set", nil)
	if a.Status != 0 {
		return a
	}
	if !q.Token.Admin() {
		return api.Fail(403, "Policy doesn't allow volume_extension:quotas:update to be performed.")
	}
	p := s.Tenants[q.Args[0]]
	if p == nil {
		p = &model.Project{} // Cinder would keep a quota for a project that is not there
	}
	l := p.Limits(&s.Options)
	known := quotaJSON(s, nil, l, false)
	for _, k := range model.SortedKeys(in) {
		if _, ok := known[k]; !ok && k != "tenant_id" && k != "skip_validation" {
			return api.Fail(400, "Invalid input received: Bad key(s) in quota set: %s", k)
		}
	}
	for k, to := range map[string]*int{"volumes": &l.Volumes, "gigabytes": &l.Gigabytes, "backups": &l.Backups,
		"backup_gigabytes": &l.BackupGigabytes} {
		if raw := in[k]; raw != nil {
			n, err := strconv.Atoi(api.Bare(raw))
			if err != nil {
				return api.Fail(400, "%s must be an integer", k)
			}
			if n < -1 {
				return api.Fail(400, "%s must be >= -1", k)
			}
			*to = n
		}
	}
	p.Quota = &l
	return api.OK(map[string]any{"quota_set": quotaJSON(s, nil, l, false)})
}

func resetQuota(s *model.State, q *api.Request, _ time.Time) api.Answer {
	if !q.Token.Admin() {
		return api.Fail(403, "Policy doesn't allow volume_extension:quotas:delete to be performed.")
	}
	if p := s.Tenants[q.Args[0]]; p != nil {
		p.Quota = nil
	}
	return api.Done(200)
}

func cinderLimits(s *model.State, q *api.Request, _ time.Time) api.Answer {
	p := q.Token.Project
	if p == nil {
		p = &model.Project{}
	}
	l := p.Limits(&s.Options)
	return api.OK(map[string]any{"limits": map[string]any{"rate": []any{}, "absolute": map[string]int{
		"maxTotalVolumes": l.Volumes, "maxTotalSnapshots": 10, "maxTotalVolumeGigabytes": l.Gigabytes,
		"maxTotalBackups": l.Backups, "maxTotalBackupGigabytes": l.BackupGigabytes, "totalVolumesUsed": len(p.Volumes.Rows),
		"totalGigabytesUsed": p.Gigabytes, "totalSnapshotsUsed": 0, "totalBackupsUsed": len(p.Backups.Rows),
		"totalBackupGigabytesUsed": p.BackupGB}}})
}
