package openstack

import (
	"context"
	"net/http"
	"net/url"

	"staffeln/functions/backup"
)

// backupUserKey is who made a backup. Cinder shows it, as the backup's project, to whom
// its policy backup:backup_project_attribute lets: admins, unless an operator says more.
const backupUserKey = "user_id"

// makersLeast is the first microversion of Cinder's that has it: Stein's.
var makersLeast = version{3, 56}

// makersLooks bounds the projects in which [Cloud.ShowsMakers] looks for a backup.
const makersLooks = 20

// TellsMakers says whether this Cinder can tell at all who made a backup, whatever its
// policy says.
func (c *Cloud) TellsMakers() bool { return !c.cinder.less(makersLeast) }

// ShowsMakers says whether Cinder shows the service user who made a backup. That is seen
// by one backup of anybody's. It is not known where there is none: with least rights, in
// the first twenty of [Cloud.Scopes].
func (c *Cloud) ShowsMakers(ctx context.Context) (shown, known bool, err error) {
	if !c.TellsMakers() {
		return false, true, nil
	}
	scopes, err := c.Scopes(ctx)
	if err != nil {
		return false, false, err
	}
	var failed []error
	for _, scope := range scopes[:min(len(scopes), makersLooks)] {
		row, err := c.oneBackup(ctx, scope)
		switch {
		case err != nil && backup.FaultOf(err) == backup.Retry:
			return false, false, err // the next project would have the same trouble
		case err != nil:
			failed = append(failed, err)
		case row != nil:
			_, shown = row[backupUserKey]
			return shown, true, nil
		}
	}
	return false, false, together(failed)
}

// oneBackup is some backup of a scope as Cinder shows it, nil where there is none.
func (c *Cloud) oneBackup(ctx context.Context, scope string) (map[string]any, error) {
	a := ask{op: opListBackups, api: cinderAPI, method: http.MethodGet, path: "backups/detail", query: url.Values{}}
	in := ownScope
	if scope == allTenantsScope {
		a.query, a.admin = allTenantsQuery(), true
	} else {
		in = c.scopeOf(scope)
	}
	a.query.Set("limit", "1")
	got, err := c.do(ctx, in, a)
	if err != nil {
		return nil, err
	}
	rows, _, err := decodePage[map[string]any](got, "backups")
	if err != nil {
		return nil, a.bad(got.status, err)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	return rows[0], nil
}
