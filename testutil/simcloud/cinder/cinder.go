// Package cinder answers as Cinder: volumes, backups, quotas, services and transfers,
// and does the work of cinder-backup.
package cinder

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
)

// Routes are Cinder's.
var Routes = []api.Route{
	{Method: "GET", Pattern: "volumes/detail", Do: listVolumes},
	{Method: "GET", Pattern: "volumes", Do: listVolumes},
	{Method: "POST", Pattern: "volumes", Do: makeVolume},
	{Method: "GET", Pattern: "volumes/ID", Do: showVolume},
	{Method: "PUT", Pattern: "volumes/ID", Do: updateVolume},
	{Method: "DELETE", Pattern: "volumes/ID", Do: deleteVolume},
	{Method: "POST", Pattern: "volumes/ID/action", Do: volumeAction},
	{Method: "GET", Pattern: "volumes/ID/metadata", Do: volumeMetadata},
	{Method: "POST", Pattern: "volumes/ID/metadata", Do: volumeMetadata},
	{Method: "PUT", Pattern: "volumes/ID/metadata", Do: volumeMetadata},
	{Method: "GET", Pattern: "volumes/ID/metadata/KEY", Do: volumeMetadatum},
	{Method: "PUT", Pattern: "volumes/ID/metadata/KEY", Do: volumeMetadatum},
	{Method: "DELETE", Pattern: "volumes/ID/metadata/KEY", Do: volumeMetadatum},
	{Method: "GET", Pattern: "backups/detail", Do: listBackups},
	{Method: "GET", Pattern: "backups", Do: listBackups},
	{Method: "POST", Pattern: "backups", Do: makeBackup},
	{Method: "GET", Pattern: "backups/ID", Do: showBackup},
	{Method: "PUT", Pattern: "backups/ID", Do: updateBackup},
	{Method: "DELETE", Pattern: "backups/ID", Do: deleteBackup},
	{Method: "POST", Pattern: "backups/ID/restore", Do: restoreBackup},
	{Method: "POST", Pattern: "backups/ID/action", Do: backupAction},
	{Method: "GET", Pattern: "os-services", Do: listServices},
	{Method: "PUT", Pattern: "os-services/KEY", Do: switchService},
	{Method: "GET", Pattern: "os-quota-sets/ID", Do: showQuota},
	{Method: "GET", Pattern: "os-quota-sets/ID/defaults", Do: defaultQuota},
	{Method: "PUT", Pattern: "os-quota-sets/ID", Do: updateQuota},
	{Method: "DELETE", Pattern: "os-quota-sets/ID", Do: resetQuota},
	{Method: "GET", Pattern: "limits", Do: cinderLimits},
	{Method: "GET", Pattern: "types", Do: listTypes},
	{Method: "GET", Pattern: "os-volume-transfer", Do: listTransfers},
	{Method: "GET", Pattern: "os-volume-transfer/detail", Do: listTransfers},
	{Method: "POST", Pattern: "os-volume-transfer", Do: makeTransfer},
	{Method: "GET", Pattern: "os-volume-transfer/ID", Do: showTransfer},
	{Method: "DELETE", Pattern: "os-volume-transfer/ID", Do: deleteTransfer},
	{Method: "POST", Pattern: "os-volume-transfer/ID/accept", Do: acceptTransfer},
}

// cinderBase is Cinder's address in links: with the project of the URL.
func cinderBase(s *model.State, q *api.Request) string {
	if q.Token.Project == nil {
		return s.Options.Base + api.VolumePath
	}
	return s.Options.Base + api.VolumePath + "/" + q.Token.Project.ID
}

func links(s *model.State, q *api.Request, kind, id string) []api.Link {
	base := cinderBase(s, q)
	return []api.Link{{Rel: "self", Href: base + "/" + kind + "/" + id},
		{Rel: "bookmark", Href: strings.Replace(base, api.VolumePath, "/volume", 1) + "/" + kind + "/" + id}}
}

type summaryJSON struct {
	ID    string     `json:"id"`
	Name  *string    `json:"name"`
	Links []api.Link `json:"links"`
}

// paging are the words of a query that choose no rows.
var paging = []string{"limit", "marker", "offset", "sort", "sort_key", "sort_dir", "all_tenants", "with_count"}

// filters reads what a list of Cinder's is filtered by. A non-admin may use only
// some; an admin's unknown filter finds nothing. Source: cinder/api/common.py,
// reject_invalid_filters, and db/sqlalchemy/api.py, is_valid_model_filters.
func filters(q *api.Request, allowed []string) (map[string]string, api.Answer) {
	out := map[string]string{}
	var bad []string
	for _, k := range model.SortedKeys(q.Query) {
		if slices.Contains(paging, k) {
			continue
		}
		if !slices.Contains(allowed, k) && !q.Token.Admin() {
			bad = append(bad, k)
		}
		out[k] = q.Query.Get(k)
	}
	if len(bad) > 0 {
		if q.Version >= 31 {
			return nil, api.Fail(400, "Invalid filters %s are found in query options.", strings.Join(bad, ","))
		}
		for _, k := range bad {
			delete(out, k)
		}
	}
	return out, api.Answer{}
}

// everywhere says whether all tenants' rows are asked for by one who may.
func everywhere(q *api.Request) (bool, api.Answer) {
	if !q.Token.Admin() || !q.Query.Has("all_tenants") {
		return false, api.Answer{}
	}
	switch strings.ToLower(q.Query.Get("all_tenants")) {
	case "1", "t", "true", "on", "y", "yes":
		return true, api.Answer{}
	case "0", "f", "false", "off", "n", "no":
		return false, api.Answer{}
	}
	return false, api.Fail(400, "all_tenants must be a boolean, got '%s'.", q.Query.Get("all_tenants"))
}

// sorting reads sort, sort_key and sort_dir; only created_at and id are served,
// which are the same here.
func sorting(q *api.Request) (ascending bool, a api.Answer) {
	key, dir := q.Query.Get("sort_key"), q.Query.Get("sort_dir")
	if v := q.Query.Get("sort"); v != "" {
		first, _, _ := strings.Cut(v, ",")
		key, dir, _ = strings.Cut(first, ":")
	}
	if key != "" && key != "created_at" && key != "id" {
		return false, api.Fail(400, "Invalid input received: Invalid sort key")
	}
	return dir == "asc", api.Answer{}
}

// withCount answers with_count=true. Cinder then gives a next page whenever the
// whole list is at least a page long. Source: cinder/api/common.py,
// _get_collection_links.
func withCount[T model.Keyed](l *api.Listing[T], p *api.Page, rows *model.Order[T]) {
	if l.Q.Version < 45 || !strings.EqualFold(l.Q.Query.Get("with_count"), "true") {
		return
	}
	n := l.Count(rows)
	p.Count = &n
	if len(p.Items) > 0 && p.Next == "" && l.Limit <= n {
		switch v := p.Items[len(p.Items)-1].(type) {
		case summaryJSON:
			p.Next = l.Next(v.ID)
		case *volumeJSON:
			p.Next = l.Next(v.ID)
		case *backupJSON:
			p.Next = l.Next(v.ID)
		}
	}
}

var dictPair = regexp.MustCompile(`u?['"]([^'"]*)['"]\s*:\s*u?['"]([^'"]*)['"]`)

// pythonDict reads {'a': 'b'}, which is how clients write a metadata filter.
func pythonDict(v string) map[string]string {
	out := map[string]string{}
	for _, m := range dictPair.FindAllStringSubmatch(v, -1) {
		out[m[1]] = m[2]
	}
	return out
}

// pageLimit reads limit as Cinder does.
func pageLimit(q *api.Request, most int) (int, api.Answer) {
	if !q.Query.Has("limit") {
		return most, api.Answer{}
	}
	n, err := strconv.Atoi(q.Query.Get("limit"))
	switch {
	case err != nil:
		return 0, api.Fail(400, "limit param must be an integer")
	case n < 0:
		return 0, api.Fail(400, "limit param must be positive")
	}
	return min(n, most), api.Answer{}
}
