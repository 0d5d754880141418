package nova

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
)

var novaFilters = []string{"user_id", "project_id", "tenant_id", "launch_index", "image_ref", "image", "kernel_id",
	"ramdisk_id",
	"hostname", "key_name", "power_state", "vm_state", "task_state", "host", "node", "flavor", "reservation_id",
	"launched_at",
	"terminated_at", "availability_zone", "name", "display_name", "description", "display_description", "locked_by",
	"uuid",
	"root_device_name", "config_drive", "access_ip_v4", "access_ip_v6", "auto_disk_config", "progress", "sort_key",
	"sort_dir",
	"all_tenants", "soft_deleted", "deleted", "status", "changes-since", "changes-before", "ip", "ip6", "created_at",
	"limit",
	"marker", "tags", "tags-any", "not-tags", "not-tags-any", "locked"}

var statuses = []string{"ACTIVE", "BUILD", "DELETED", "ERROR", "HARD_REBOOT", "MIGRATING", "PASSWORD", "PAUSED",
	"REBOOT",
	"REBUILD", "RESCUE", "RESIZE", "REVERT_RESIZE", "SHELVED", "SHELVED_OFFLOADED", "SHUTOFF", "SOFT_DELETED", "SUSPENDED",
	"UNKNOWN", "VERIFY_RESIZE"}

var digits = regexp.MustCompile(`^[0-9]*$`)

// listServers is GET /servers and /servers/detail. Source: nova/api/openstack/
// compute/servers.py, _get_servers.
func listServers(s *model.State, q *api.Request, now time.Time) api.Answer {
	detail := strings.HasSuffix(q.Route.Pattern, "detail")
	if q.Version >= 75 {
		for _, k := range model.SortedKeys(q.Query) {
			if !slices.Contains(novaFilters, k) && !strings.HasPrefix(k, "_") {
				return api.Fail(400, "'%s' does not match any of the regexes: '^_'", k)
			}
		}
	}
	limit := s.Options.PageLimit
	if q.Query.Has("limit") {
		v := q.Query.Get("limit")
		n := 0
		if !digits.MatchString(v) {
			return api.Fail(400, "Invalid input for query parameters limit. Value: %s. '%s' does not match '^[0-9]*$'", v, v)
		}
		fmt.Sscan(v, &n) //nolint:errcheck // digits, or none
		limit = min(limit, n)
	}
	for _, want := range q.Query["status"] {
		if !slices.Contains(statuses, strings.ToUpper(want)) {
			if q.Version >= 38 {
				return api.Fail(400, "Invalid status value")
			}
			return api.Answer{Status: 200, Page: &api.Page{Name: "servers"}}
		}
	}
	var since time.Time
	if v := q.Query.Get("changes-since"); v != "" {
		var err error
		if since, err = parseTime(v); err != nil {
			return api.Fail(400, "Invalid input for query parameters changes-since. Value: %s. '%s' is not a 'date-time'", v, v)
		}
	}
	all := false
	if q.Query.Has("all_tenants") {
		switch strings.ToLower(q.Query.Get("all_tenants")) {
		case "", "1", "t", "true", "on", "y", "yes":
			all = true
		case "0", "f", "false", "off", "n", "no":
		default:
			return api.Fail(400, "all_tenants must be a boolean, got '%s'.", q.Query.Get("all_tenants"))
		}
	}
	if all && !q.Token.Admin() {
		kind := "index"
		if detail {
			kind = "detail"
		}
		return api.Fail(403, "Policy doesn't allow os_compute_api:servers:%s:get_all_tenants to be performed.", kind)
	}
	rows := &s.AllServers
	if !all && q.Token.Project != nil {
		rows = &q.Token.Project.Servers
	}
	wantProject := q.Query.Get("project_id")
	if wantProject == "" {
		wantProject = q.Query.Get("tenant_id")
	}
	if all && wantProject != "" {
		rows = &model.Order[*model.ServerRow]{}
		if p := s.Tenants[wantProject]; p != nil {
			rows = &p.Servers
		}
	}
	if !since.IsZero() || strings.EqualFold(q.Query.Get("deleted"), "true") && q.Token.Admin() {
		with := &model.Order[*model.ServerRow]{Rows: slices.Clone(rows.Rows)}
		for _, v := range s.DeletedServers {
			if (all || v.Project == q.Token.Project) && (!all || wantProject == "" || v.Project.ID == wantProject) {
				with.Rows = append(with.Rows, v)
			}
		}
		slices.SortFunc(with.Rows, func(a, b *model.ServerRow) int {
			if c := a.Created.Truncate(time.Second).Compare(b.Created.Truncate(time.Second)); c != 0 {
				return c
			}
			return strings.Compare(a.ID, b.ID)
		})
		rows = with
	}
	var name *regexp.Regexp
	if v := q.Query.Get("name"); v != "" {
		var err error
		if name, err = regexp.Compile(v); err != nil {
			return api.Fail(400, "Invalid input for query parameters name. Value: %s. '%s' is not a 'regex'", v, v)
		}
	}
	var marker *model.ServerRow
	if id := q.Query.Get("marker"); id != "" {
		marker = s.Servers[id]
		for i := len(s.DeletedServers) - 1; i >= 0 && marker == nil && !since.IsZero(); i-- {
			if s.DeletedServers[i].ID == id {
				marker = s.DeletedServers[i]
			}
		}
		if marker == nil || marker.Project != q.Token.Project && !q.Token.Admin() {
			return api.Fail(400, "marker [%s] not found", id)
		}
	}
	split := func(key string) []string {
		if v := q.Query.Get(key); v != "" && q.Version >= 26 {
			return strings.Split(v, ",")
		}
		return nil
	}
	tags, anyTag, notTags, notAny := split("tags"), split("tags-any"), split("not-tags"), split("not-tags-any")
	has := func(v *model.ServerRow) func(string) bool {
		return func(t string) bool { return slices.Contains(v.Tags, t) }
	}
	every := func(list []string, ok func(string) bool) bool {
		return !slices.ContainsFunc(list, func(t string) bool { return !ok(t) })
	}
	l := api.Listing[*model.ServerRow]{Q: q, Limit: limit, Name: "servers", Path: novaBase(s, q) + "/" + q.Route.Pattern,
		ID: func(v *model.ServerRow) string { return v.ID },
		Keep: func(v *model.ServerRow) bool {
			switch {
			case name != nil && !name.MatchString(v.Name),
				len(q.Query["status"]) > 0 &&
					!slices.ContainsFunc(q.Query["status"], func(w string) bool { return strings.EqualFold(w, v.Status) }),
				!since.IsZero() && v.Updated.Before(since),
				len(tags) > 0 && !every(tags, has(v)),
				len(anyTag) > 0 && !slices.ContainsFunc(anyTag, has(v)),
				len(notTags) > 0 && every(notTags, has(v)),
				len(notAny) > 0 && slices.ContainsFunc(notAny, has(v)):
				return false
			}
			if w := q.Query.Get("uuid"); w != "" && q.Token.Admin() && w != v.ID {
				return false
			}
			if w := q.Query.Get("host"); w != "" && q.Token.Admin() && w != s.Options.Host() {
				return false
			}
			return true
		},
		View: func(v *model.ServerRow) any {
			switch {
			case q.Token.Project == nil && !all && detail:
				// A token without a project sees of every server that it is there: Nova
				// treats all of them as if their cell were down.
				return map[string]any{"id": v.ID, "status": "UNKNOWN", "tenant_id": v.Project.ID,
					"created": novaAt(v.Created), "links": serverLinks(s, q, v.ID)}
			case q.Token.Project == nil && !all:
				return map[string]any{"id": v.ID, "status": "UNKNOWN", "links": serverLinks(s, q, v.ID)}
			case detail:
				return serverView(s, q, v, false)
			}
			return map[string]any{"id": v.ID, "name": v.Name, "links": serverLinks(s, q, v.ID)}
		}}
	ascending := q.Query.Get("sort_dir") == "asc"
	return api.Answer{Status: 200, Page: l.Page(rows, marker, ascending)}
}

func parseTime(v string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04:05.000000",
		"2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, v); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("not a time: %q", v)
}
