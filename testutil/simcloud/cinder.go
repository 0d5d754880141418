package simcloud

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The volume type and the flavor that there are.
const (
	volumeType     = "8d024429-c5b3-4bac-8c57-92f2f25daaf4"
	volumeTypeName = "ceph"
	flavorName     = "m1.tiny"
	flavorID       = "f2070c51-d4cf-44d6-8e35-33b3b2d61fcc"
	imageID        = "623dde96-2fe8-4bae-ae94-19494203925b"
)

// host is the name of the machine everything is on.
func (o *Options) host() string { return "sim" }

// cinderStamp is how Cinder tells times: UTC, without saying so.
const cinderStamp = "2006-01-02T15:04:05.000000"

func cinderAt(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	v := t.UTC().Truncate(time.Second).Format(cinderStamp)
	return &v
}

// volumeRoutes are Cinder's.
var volumeRoutes = []route{
	{method: "GET", pattern: "volumes/detail", do: (*state).listVolumes},
	{method: "GET", pattern: "volumes", do: (*state).listVolumes},
	{method: "POST", pattern: "volumes", do: (*state).makeVolume},
	{method: "GET", pattern: "volumes/ID", do: (*state).showVolume},
	{method: "PUT", pattern: "volumes/ID", do: (*state).updateVolume},
	{method: "DELETE", pattern: "volumes/ID", do: (*state).deleteVolume},
	{method: "POST", pattern: "volumes/ID/action", do: (*state).volumeAction},
	{method: "GET", pattern: "volumes/ID/metadata", do: (*state).volumeMetadata},
	{method: "POST", pattern: "volumes/ID/metadata", do: (*state).volumeMetadata},
	{method: "PUT", pattern: "volumes/ID/metadata", do: (*state).volumeMetadata},
	{method: "GET", pattern: "volumes/ID/metadata/KEY", do: (*state).volumeMetadatum},
	{method: "PUT", pattern: "volumes/ID/metadata/KEY", do: (*state).volumeMetadatum},
	{method: "DELETE", pattern: "volumes/ID/metadata/KEY", do: (*state).volumeMetadatum},
	{method: "GET", pattern: "backups/detail", do: (*state).listBackups},
	{method: "GET", pattern: "backups", do: (*state).listBackups},
	{method: "POST", pattern: "backups", do: (*state).makeBackup},
	{method: "GET", pattern: "backups/ID", do: (*state).showBackup},
	{method: "PUT", pattern: "backups/ID", do: (*state).updateBackup},
	{method: "DELETE", pattern: "backups/ID", do: (*state).deleteBackup},
	{method: "POST", pattern: "backups/ID/restore", do: (*state).restoreBackup},
	{method: "POST", pattern: "backups/ID/action", do: (*state).backupAction},
	{method: "GET", pattern: "os-services", do: (*state).listServices},
	{method: "PUT", pattern: "os-services/KEY", do: (*state).switchService},
	{method: "GET", pattern: "os-quota-sets/ID", do: (*state).showQuota},
	{method: "GET", pattern: "os-quota-sets/ID/defaults", do: (*state).defaultQuota},
	{method: "PUT", pattern: "os-quota-sets/ID", do: (*state).updateQuota},
	{method: "DELETE", pattern: "os-quota-sets/ID", do: (*state).resetQuota},
	{method: "GET", pattern: "limits", do: (*state).cinderLimits},
	{method: "GET", pattern: "types", do: (*state).listTypes},
	{method: "GET", pattern: "os-volume-transfer", do: (*state).listTransfers},
	{method: "GET", pattern: "os-volume-transfer/detail", do: (*state).listTransfers},
	{method: "POST", pattern: "os-volume-transfer", do: (*state).makeTransfer},
	{method: "GET", pattern: "os-volume-transfer/ID", do: (*state).showTransfer},
	{method: "DELETE", pattern: "os-volume-transfer/ID", do: (*state).deleteTransfer},
	{method: "POST", pattern: "os-volume-transfer/ID/accept", do: (*state).acceptTransfer},
}

// cinderBase is Cinder's address in links: with the project of the URL.
func (s *state) cinderBase(q *request) string {
	if q.token.project == nil {
		return s.o.Base + volumePath
	}
	return s.o.Base + volumePath + "/" + q.token.project.id
}

func (s *state) links(q *request, kind, id string) []link {
	base := s.cinderBase(q)
	return []link{{"self", base + "/" + kind + "/" + id},
		{"bookmark", strings.Replace(base, volumePath, "/volume", 1) + "/" + kind + "/" + id}}
}

// volumeJSON is a volume as the API tells it. Source: cinder/api/v2/views/
// volumes.py and the extensions that add attributes for admins.
type volumeJSON struct {
	ID               string            `json:"id"`
	Status           string            `json:"status"`
	Size             int               `json:"size"`
	Zone             string            `json:"availability_zone"`
	Created          *string           `json:"created_at"`
	Updated          *string           `json:"updated_at"`
	Name             *string           `json:"name"`
	Description      *string           `json:"description"`
	Type             string            `json:"volume_type"`
	Snapshot         *string           `json:"snapshot_id"`
	Source           *string           `json:"source_volid"`
	Metadata         map[string]string `json:"metadata"`
	Links            []link            `json:"links"`
	User             string            `json:"user_id"`
	Bootable         string            `json:"bootable"`
	Encrypted        bool              `json:"encrypted"`
	Replication      *string           `json:"replication_status"`
	Group            *string           `json:"consistencygroup_id"`
	Multiattach      bool              `json:"multiattach"`
	Attachments      []attachmentJSON  `json:"attachments"`
	*volumeAdminJSON                   // what only an admin sees
	GroupID          *json.RawMessage  `json:"group_id,omitempty"`
	SharedTargets    *bool             `json:"shared_targets,omitempty"`
	ServiceUUID      *json.RawMessage  `json:"service_uuid,omitempty"`
	TypeID           string            `json:"volume_type_id,omitempty"`
	Tenant           string            `json:"os-vol-tenant-attr:tenant_id,omitempty"`
}

type volumeAdminJSON struct {
	Migration *string `json:"migration_status"`
	MigStat   *string `json:"os-vol-mig-status-attr:migstat"`
	NameID    *string `json:"os-vol-mig-status-attr:name_id"`
	Host      *string `json:"os-vol-host-attr:host"`

	Cluster  *json.RawMessage `json:"cluster_name,omitempty"`
	Provider *json.RawMessage `json:"provider_id,omitempty"`
}

type attachmentJSON struct {
	ID         string  `json:"id"`
	Attachment string  `json:"attachment_id"`
	Volume     string  `json:"volume_id"`
	Server     string  `json:"server_id"`
	Host       *string `json:"host_name"`
	Device     string  `json:"device"`
	At         *string `json:"attached_at"`
}

type summaryJSON struct {
	ID    string  `json:"id"`
	Name  *string `json:"name"`
	Links []link  `json:"links"`
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

var jsonNull = json.RawMessage("null")

func (s *state) volumeView(q *request, v *volume, fresh bool) *volumeJSON {
	admin := q.token.admin()
	out := &volumeJSON{ID: v.id, Status: v.status, Size: v.size, Zone: "nova", Created: cinderAt(v.created),
		Updated: cinderAt(v.updated), Name: orNull(v.name), Description: orNull(v.description), Type: volumeTypeName,
		Metadata: v.metadata, Links: s.links(q, "volumes", v.id), User: v.user, Bootable: strconv.FormatBool(v.bootable),
		Multiattach: v.multiattach, Attachments: []attachmentJSON{}}
	if fresh { // the answer of a create is made before the row is read back
		out.Updated = nil
		precise := v.created.UTC().Format(cinderStamp)
		out.Created = &precise
	}
	for _, a := range v.attached {
		if !a.done {
			continue
		}
		at := attachmentJSON{ID: v.id, Attachment: a.id, Volume: v.id, Server: a.server.id, Device: a.device, At: cinderAt(a.at)}
		if admin {
			at.Host = orNull(s.o.host())
		}
		out.Attachments = append(out.Attachments, at)
	}
	if q.version >= 13 {
		out.GroupID = &jsonNull
	}
	if q.version >= 48 {
		out.SharedTargets = &fresh // unknown, and then taken for true, until it is made
		out.ServiceUUID = &jsonNull
	}
	if q.version >= 63 {
		out.TypeID = volumeType
	}
	if fresh {
		return out
	}
	out.Tenant = v.project.id
	if admin {
		out.volumeAdminJSON = &volumeAdminJSON{}
		if q.version >= 21 {
			out.Provider = &jsonNull
		}
		if q.version >= 61 {
			out.Cluster = &jsonNull
		}
		if v.scheduled {
			out.Host = orNull(s.o.host() + "@ceph#ceph")
		}
	}
	return out
}

// volume finds one that a token may see.
func (s *state) findVolume(q *request, id string) *volume {
	v := s.volumes[id]
	if v == nil || v.project != q.token.project && !q.token.admin() {
		return nil
	}
	return v
}

func noVolume(id string) answer { return fail(404, "Volume %s could not be found.", id) }

// paging are the words of a query that choose no rows.
var paging = []string{"limit", "marker", "offset", "sort", "sort_key", "sort_dir", "all_tenants", "with_count"}

// filters reads what a list of Cinder's is filtered by. A non-admin may use only
// some; an admin's unknown filter finds nothing. Source: cinder/api/common.py,
// reject_invalid_filters, and db/sqlalchemy/api.py, is_valid_model_filters.
func (q *request) filters(allowed []string) (map[string]string, answer) {
	out := map[string]string{}
	var bad []string
	for _, k := range sortedKeys(q.query) {
		if slices.Contains(paging, k) {
			continue
		}
		if !slices.Contains(allowed, k) && !q.token.admin() {
			bad = append(bad, k)
		}
		out[k] = q.query.Get(k)
	}
	if len(bad) > 0 {
		if q.version >= 31 {
			return nil, fail(400, "Invalid filters %s are found in query options.", strings.Join(bad, ","))
		}
		for _, k := range bad {
			delete(out, k)
		}
	}
	return out, answer{}
}

// everywhere says whether all tenants' rows are asked for by one who may.
func (q *request) everywhere() (bool, answer) {
	if !q.token.admin() || !q.query.Has("all_tenants") {
		return false, answer{}
	}
	switch strings.ToLower(q.query.Get("all_tenants")) {
	case "1", "t", "true", "on", "y", "yes":
		return true, answer{}
	case "0", "f", "false", "off", "n", "no":
		return false, answer{}
	}
	return false, fail(400, "all_tenants must be a boolean, got '%s'.", q.query.Get("all_tenants"))
}

// sorting reads sort, sort_key and sort_dir; only created_at and id are served,
// which are the same here.
func (q *request) sorting() (ascending bool, a answer) {
	key, dir := q.query.Get("sort_key"), q.query.Get("sort_dir")
	if v := q.query.Get("sort"); v != "" {
		first, _, _ := strings.Cut(v, ",")
		key, dir, _ = strings.Cut(first, ":")
	}
	if key != "" && key != "created_at" && key != "id" {
		return false, fail(400, "Invalid input received: Invalid sort key")
	}
	return dir == "asc", answer{}
}

// listVolumes is GET /volumes and /volumes/detail.
func (s *state) listVolumes(q *request, _ time.Time) answer {
	all, a := q.everywhere()
	if a.status != 0 {
		return a
	}
	limit, a := q.pageLimit(s.o.PageLimit)
	if a.status != 0 {
		return a
	}
	ascending, a := q.sorting()
	if a.status != 0 {
		return a
	}
	filters, a := q.filters([]string{"name", "status", "metadata", "bootable", "migration_status", "availability_zone", "group_id", "size", "created_at", "updated_at", "consumes_quota"})
	if a.status != 0 {
		return a
	}
	rows := &order[*volume]{}
	switch {
	case !all && q.token.project != nil:
		rows = &q.token.project.volumes
	case all && filters["project_id"] != "":
		if p := s.tenants[filters["project_id"]]; p != nil {
			rows = &p.volumes
		}
	case all:
		rows = &s.allVolumes
	}
	var marker *volume
	if id := q.query.Get("marker"); id != "" {
		if marker = s.findVolume(q, id); marker == nil {
			return noVolume(id)
		}
	}
	wanted := map[string]string{}
	if m := filters["metadata"]; m != "" {
		wanted = pythonDict(m)
	}
	detail := strings.HasSuffix(q.route.pattern, "detail")
	l := listing[*volume]{q: q, limit: limit, name: "volumes", path: s.cinderBase(q) + "/" + q.route.pattern,
		id: func(v *volume) string { return v.id },
		keep: func(v *volume) bool {
			for k, want := range filters {
				var have string
				switch k {
				case "name":
					have = v.name
				case "status":
					have = v.status
				case "project_id":
					have = v.project.id
				case "bootable":
					have, want = strconv.FormatBool(v.bootable), strings.ToLower(want)
				case "size":
					have = strconv.Itoa(v.size)
				case "id":
					have = v.id
				case "availability_zone":
					have = "nova"
				case "user_id":
					have = v.user
				case "metadata":
					for k, x := range wanted {
						if v.metadata[k] != x {
							return false
						}
					}
					continue
				default:
					return false
				}
				if have != want {
					return false
				}
			}
			return true
		},
		view: func(v *volume) any {
			if detail {
				return s.volumeView(q, v, false)
			}
			return summaryJSON{v.id, orNull(v.name), s.links(q, "volumes", v.id)}
		}}
	p := l.page(rows, marker, ascending)
	l.withCount(p, rows)
	return answer{status: 200, page: p}
}

// withCount answers with_count=true. Cinder then gives a next page whenever the
// whole list is at least a page long. Source: cinder/api/common.py,
// _get_collection_links.
func (l *listing[T]) withCount(p *page, rows *order[T]) {
	if l.q.version < 45 || !strings.EqualFold(l.q.query.Get("with_count"), "true") {
		return
	}
	n := l.count(rows)
	p.count = &n
	if len(p.items) > 0 && p.next == "" && l.limit <= n {
		switch v := p.items[len(p.items)-1].(type) {
		case summaryJSON:
			p.next = l.next(v.ID)
		case *volumeJSON:
			p.next = l.next(v.ID)
		case *backupJSON:
			p.next = l.next(v.ID)
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

func (s *state) showVolume(q *request, _ time.Time) answer {
	v := s.findVolume(q, q.args[0])
	if v == nil {
		return noVolume(q.args[0])
	}
	return ok(map[string]any{"volume": s.volumeView(q, v, false)})
}

// overVolumes says whether n more volumes of together gb GiB are too much.
// Source: cinder/quota_utils.py; gigabytes are found before volumes.
func (s *state) overVolumes(p *project, n, gb int) string {
	l := p.limits(&s.o)
	if l.Gigabytes >= 0 && p.gigabytes+gb > l.Gigabytes {
		return "Requested volume or snapshot exceeds allowed gigabytes quota. Requested " + strconv.Itoa(gb) + "G, quota is " +
			strconv.Itoa(l.Gigabytes) + "G and " + strconv.Itoa(p.gigabytes) + "G has been consumed."
	}
	if l.Volumes >= 0 && len(p.volumes.rows)+n > l.Volumes {
		return "Maximum number of volumes allowed (" + strconv.Itoa(l.Volumes) + ") exceeded for quota 'volumes'."
	}
	return ""
}

// overLimitName is the exception's name, with which Cinder begins most of its
// 413 messages.
func overLimitName(message string) string {
	if strings.HasPrefix(message, "Maximum") {
		return "VolumeLimitExceeded: " + message
	}
	return "VolumeSizeExceedsAvailableQuota: " + message
}

var volumeKeys = []string{"name", "description", "display_name", "display_description", "size", "metadata", "availability_zone",
	"volume_type", "source_volid", "snapshot_id", "consistencygroup_id", "imageRef", "image_id", "multiattach", "group_id",
	"backup_id", "scheduler_hints"}

// makeVolume is POST /volumes.
func (s *state) makeVolume(q *request, now time.Time) answer {
	in, a := q.bodyOf("volume", nil)
	if a.status != 0 {
		return a
	}
	if q.version >= 53 {
		if in, a = q.bodyOf("volume", volumeKeys); a.status != 0 {
			return a
		}
	}
	v := &volume{project: q.token.project, user: q.token.user.id, status: "creating", created: now, updated: now}
	if q.token.project == nil {
		return fail(400, "Malformed request url")
	}
	raw, has := in["size"]
	if !has || string(raw) == "null" {
		return fail(400, "The server could not comply with the request since it is either malformed or otherwise incorrect.")
	}
	size, err := strconv.Atoi(bare(raw))
	if err != nil {
		return fail(400, "Invalid input for field/attribute size. Value: %s. %s does not match '^[0-9]+$'", bare(raw), python(raw))
	}
	if size < 1 {
		return fail(400, "Invalid input for field/attribute size. Value: %d. %d is less than the minimum of 1", size, size)
	}
	v.size = size
	if raw := in["name"]; raw != nil && len([]rune(bare(raw))) > 255 {
		return fail(400, "Invalid input received: name has %d characters, more than 255.", len([]rune(bare(raw))))
	}
	for _, f := range []struct {
		name string
		to   *string
	}{{"name", &v.name}, {"description", &v.description}} {
		if *f.to, a = text(in, f.name); a.status != 0 {
			return a
		}
	}
	if v.metadata, a = metadataIn(in, "metadata"); a.status != 0 {
		return a
	}
	v.metadata = clone(v.metadata)
	if raw := in["volume_type"]; raw != nil && string(raw) != "null" && bare(raw) != volumeTypeName && bare(raw) != volumeType {
		return fail(404, "Volume type with name %s could not be found.", bare(raw))
	}
	if v.multiattach, a = boolean(in, "multiattach"); a.status != 0 {
		return a
	}
	v.bootable = in["imageRef"] != nil && string(in["imageRef"]) != "null"
	if over := s.overVolumes(v.project, 1, v.size); over != "" {
		return fail(413, "%s", overLimitName(over))
	}
	v.id = s.uuid()
	s.startVolume(v, now, q.who())
	return answer{status: 202, body: map[string]any{"volume": s.volumeView(q, v, true)}}
}

// startVolume has a volume made.
func (s *state) startVolume(v *volume, now time.Time, w who) {
	s.addVolume(v)
	s.notifyVolume("create.start", v, now, w)
	s.at(now.Add(s.o.SettleTime), func(at time.Time) {
		if v.status == "creating" {
			v.status, v.updated, v.scheduled = "available", at, true
			s.notifyVolume("create.end", v, at, w)
		}
	})
}

// updateVolume is PUT /volumes/ID: it replaces the metadata, and tells of it.
func (s *state) updateVolume(q *request, now time.Time) answer {
	in, a := q.bodyOf("volume", []string{"name", "description", "display_name", "display_description", "metadata"})
	if a.status != 0 {
		return a
	}
	v := s.findVolume(q, q.args[0])
	if v == nil {
		return noVolume(q.args[0])
	}
	metadata, a := metadataIn(in, "metadata")
	if a.status != 0 {
		return a
	}
	s.notifyVolume("update.start", v, now, q.who())
	for k, to := range map[string]*string{"name": &v.name, "description": &v.description} {
		if _, given := in[k]; given {
			if *to, a = text(in, k); a.status != 0 {
				return a
			}
		}
	}
	if metadata != nil {
		v.metadata = metadata
	}
	v.updated = now
	s.notifyVolume("update.end", v, now, q.who())
	view := s.volumeView(q, v, false)
	view.Tenant, view.volumeAdminJSON = "", nil // this answer alone is not extended
	return ok(map[string]any{"volume": view})
}

const undeletable = "Invalid volume: Volume status must be available or error or error_restoring or error_extending or error_managing and must not be migrating, attached, belong to a group, have snapshots, awaiting a transfer, or be disassociated from snapshots after volume transfer."

// deleteVolume is DELETE /volumes/ID. Backups do not hinder it.
func (s *state) deleteVolume(q *request, now time.Time) answer {
	v := s.findVolume(q, q.args[0])
	if v == nil {
		return noVolume(q.args[0])
	}
	if !slices.Contains([]string{"available", "error", "error_restoring", "error_extending", "error_managing"}, v.status) || len(v.attached) > 0 {
		return fail(400, "%s", undeletable)
	}
	v.status, v.updated = "deleting", now
	s.notifyVolume("delete.start", v, now, q.who())
	w := q.who()
	s.at(now.Add(s.o.SettleTime), func(at time.Time) { s.endVolume(v, at, w) })
	return done(202)
}

func (s *state) endVolume(v *volume, at time.Time, w who) {
	if s.volumes[v.id] != v {
		return
	}
	v.status = "deleting"
	s.dropVolume(v)
	s.notifyVolume("delete.end", v, at, w)
}

// volumeAction is POST /volumes/ID/action: os-extend and os-reset_status.
func (s *state) volumeAction(q *request, now time.Time) answer {
	var in map[string]json.RawMessage
	if err := json.Unmarshal(q.body, &in); err != nil || len(in) != 1 {
		return fail(400, "Malformed request body")
	}
	v := s.findVolume(q, q.args[0])
	w := q.who()
	switch {
	case in["os-extend"] != nil:
		var e struct {
			Size json.RawMessage `json:"new_size"`
		}
		if json.Unmarshal(in["os-extend"], &e) != nil {
			return fail(400, "Malformed request body")
		}
		size, err := strconv.Atoi(bare(e.Size))
		if err != nil {
			return fail(400, "Invalid input for field/attribute new_size. Value: %s. %s does not match '^[0-9]+$'", bare(e.Size), python(e.Size))
		}
		if v == nil {
			return noVolume(q.args[0])
		}
		if size <= v.size {
			return fail(400, "Invalid input received: New size for extend must be greater than current size. (current: %d, extended: %d).", v.size, size)
		}
		if v.status != "available" && (v.status != "in-use" || q.version < 42) {
			return fail(400, "Invalid volume: Volume %s status must be '{'status': 'available'}' to extend, currently %s.", v.id, v.status)
		}
		if over := s.overVolumes(v.project, 0, size-v.size); over != "" {
			return fail(413, "%s", overLimitName(over))
		}
		before := v.status
		v.project.gigabytes += size - v.size // reserved
		v.status, v.updated = "extending", now
		s.notifyVolume("resize.start", v, now, w)
		s.at(now.Add(s.o.SettleTime), func(at time.Time) {
			if s.volumes[v.id] == v {
				v.size, v.status, v.updated = size, before, at
				s.notifyVolume("resize.end", v, at, w)
			}
		})
		return done(202)
	case in["os-reset_status"] != nil:
		var e struct {
			Status string `json:"status"`
		}
		if json.Unmarshal(in["os-reset_status"], &e) != nil || e.Status == "" {
			return fail(400, "Malformed request body")
		}
		if v == nil {
			return noVolume(q.args[0])
		}
		if !q.token.admin() {
			return fail(403, "Policy doesn't allow volume_extension:volume_admin_actions:reset_status to be performed.")
		}
		s.notifyVolume("reset_status.start", v, now, w)
		v.status, v.updated = strings.ToLower(e.Status), now
		s.notifyVolume("reset_status.end", v, now, w)
		return done(202)
	}
	return fail(400, "There is no such action: %s", sortedKeys(in)[0])
}

// volumeMetadata is /volumes/ID/metadata, of which nobody is told.
func (s *state) volumeMetadata(q *request, _ time.Time) answer {
	v := s.findVolume(q, q.args[0])
	if q.method == "GET" {
		if v == nil {
			return noVolume(q.args[0])
		}
		return ok(map[string]any{"metadata": v.metadata})
	}
	var in map[string]json.RawMessage
	if json.Unmarshal(q.body, &in) != nil {
		return fail(400, "Malformed request body")
	}
	if in["metadata"] == nil {
		return fail(400, "'metadata' is a required property")
	}
	metadata, a := metadataIn(in, "metadata")
	if a.status != 0 {
		return a
	}
	if v == nil {
		return noVolume(q.args[0])
	}
	all := map[string]string{}
	if q.method == "POST" {
		maps.Copy(all, v.metadata)
	}
	maps.Copy(all, metadata)
	v.metadata = all
	return ok(map[string]any{"metadata": all})
}

func (s *state) volumeMetadatum(q *request, _ time.Time) answer {
	v, key := s.findVolume(q, q.args[0]), q.args[1]
	if v == nil {
		return noVolume(q.args[0])
	}
	value, has := v.metadata[key]
	switch q.method {
	case "GET":
		if has {
			return ok(map[string]any{"meta": map[string]string{key: value}})
		}
	case "DELETE":
		if has {
			v.metadata = clone(v.metadata)
			delete(v.metadata, key)
			return done(200)
		}
	default:
		var in map[string]json.RawMessage
		if json.Unmarshal(q.body, &in) != nil || in["meta"] == nil {
			return fail(400, "'meta' is a required property")
		}
		meta, a := metadataIn(in, "meta")
		if a.status != 0 {
			return a
		}
		if _, same := meta[key]; !same {
			return fail(400, "Request body and URI mismatch")
		}
		v.metadata = clone(v.metadata)
		v.metadata[key] = meta[key]
		return ok(map[string]any{"meta": meta})
	}
	return fail(404, "Volume %s has no metadata with key %s.", v.id, key)
}

// listServices is GET /os-services, for admins only.
func (s *state) listServices(q *request, now time.Time) answer {
	if !q.token.admin() {
		return fail(403, "Policy doesn't allow volume_extension:services:index to be performed.")
	}
	out := []any{}
	for _, v := range s.services {
		if !q.asked("binary", v.binary) || !q.asked("host", v.host) {
			continue
		}
		state, status := "up", "enabled"
		updated := now
		if !v.up {
			updated = v.down
		}
		if !s.believed(v, now) {
			state = "down"
		}
		if v.disabled {
			status = "disabled"
		}
		row := map[string]any{"binary": v.binary, "host": v.host, "zone": "nova", "status": status, "state": state,
			"updated_at": cinderAt(updated), "disabled_reason": nil}
		if q.version >= 7 {
			row["cluster"] = nil
		}
		out = append(out, row)
	}
	return ok(map[string]any{"services": out})
}

// switchService is PUT /os-services/enable and /disable.
func (s *state) switchService(q *request, _ time.Time) answer {
	if !q.token.admin() {
		return fail(403, "Policy doesn't allow volume_extension:services:update to be performed.")
	}
	var in struct{ Host, Binary string }
	if json.Unmarshal(q.body, &in) != nil {
		return fail(400, "Malformed request body")
	}
	for _, v := range s.services {
		if v.host == in.Host && v.binary == in.Binary && (q.args[0] == "enable" || q.args[0] == "disable") {
			v.disabled = q.args[0] == "disable"
			return ok(map[string]any{"host": v.host, "binary": v.binary, "service": v.binary, "disabled": v.disabled, "status": q.args[0] + "d"})
		}
	}
	return fail(404, "Unknown action")
}

// quotaJSON is a quota set; usage adds what is used.
func (s *state) quotaJSON(p *project, l Quota, usage bool) map[string]any {
	out := map[string]any{}
	used := map[string]int{}
	if p != nil {
		used = map[string]int{"volumes": len(p.volumes.rows), "gigabytes": p.gigabytes, "backups": len(p.backups.rows),
			"backup_gigabytes": p.backupGB, "volumes_ceph": len(p.volumes.rows), "gigabytes_ceph": p.gigabytes}
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
func (s *state) showQuota(q *request, _ time.Time) answer {
	if !q.token.admin() && (q.token.project == nil || q.token.project.id != q.args[0]) {
		return fail(403, "Policy doesn't allow volume_extension:quotas:show to be performed.")
	}
	p := s.tenants[q.args[0]]
	l := *s.o.Quota
	if p != nil {
		l = p.limits(&s.o)
	}
	usage := slices.Contains([]string{"true", "1", "yes", "on", "t", "y"}, strings.ToLower(q.query.Get("usage")))
	out := s.quotaJSON(p, l, usage)
	out["id"] = q.args[0]
	return ok(map[string]any{"quota_set": out})
}

func (s *state) defaultQuota(q *request, _ time.Time) answer {
	if !q.token.admin() && (q.token.project == nil || q.token.project.id != q.args[0]) {
		return fail(403, "Policy doesn't allow volume_extension:quotas:show to be performed.")
	}
	out := s.quotaJSON(nil, *s.o.Quota, false)
	out["id"] = q.args[0]
	return ok(map[string]any{"quota_set": out})
}

func (s *state) updateQuota(q *request, _ time.Time) answer {
	in, a := q.bodyOf("quota_set", nil)
	if a.status != 0 {
		return a
	}
	if !q.token.admin() {
		return fail(403, "Policy doesn't allow volume_extension:quotas:update to be performed.")
	}
	p := s.tenants[q.args[0]]
	if p == nil {
		p = &project{} // Cinder would keep a quota for a project that is not there
	}
	l := p.limits(&s.o)
	known := s.quotaJSON(nil, l, false)
	for _, k := range sortedKeys(in) {
		if _, ok := known[k]; !ok && k != "tenant_id" && k != "skip_validation" {
			return fail(400, "Invalid input received: Bad key(s) in quota set: %s", k)
		}
	}
	for k, to := range map[string]*int{"volumes": &l.Volumes, "gigabytes": &l.Gigabytes, "backups": &l.Backups, "backup_gigabytes": &l.BackupGigabytes} {
		if raw := in[k]; raw != nil {
			n, err := strconv.Atoi(bare(raw))
			if err != nil {
				return fail(400, "%s must be an integer", k)
			}
			if n < -1 {
				return fail(400, "%s must be >= -1", k)
			}
			*to = n
		}
	}
	p.quota = &l
	return ok(map[string]any{"quota_set": s.quotaJSON(nil, l, false)})
}

func (s *state) resetQuota(q *request, _ time.Time) answer {
	if !q.token.admin() {
		return fail(403, "Policy doesn't allow volume_extension:quotas:delete to be performed.")
	}
	if p := s.tenants[q.args[0]]; p != nil {
		p.quota = nil
	}
	return done(200)
}

func (s *state) cinderLimits(q *request, _ time.Time) answer {
	p := q.token.project
	if p == nil {
		p = &project{}
	}
	l := p.limits(&s.o)
	return ok(map[string]any{"limits": map[string]any{"rate": []any{}, "absolute": map[string]int{
		"maxTotalVolumes": l.Volumes, "maxTotalSnapshots": 10, "maxTotalVolumeGigabytes": l.Gigabytes,
		"maxTotalBackups": l.Backups, "maxTotalBackupGigabytes": l.BackupGigabytes, "totalVolumesUsed": len(p.volumes.rows),
		"totalGigabytesUsed": p.gigabytes, "totalSnapshotsUsed": 0, "totalBackupsUsed": len(p.backups.rows),
		"totalBackupGigabytesUsed": p.backupGB}}})
}

func (s *state) listTypes(*request, time.Time) answer {
	return ok(map[string]any{"volume_types": []any{map[string]any{"id": volumeType, "name": volumeTypeName, "is_public": true,
		"description": nil, "extra_specs": map[string]string{}, "os-volume-type-access:is_public": true}}})
}

func (s *state) transferView(q *request, t *transfer, key bool) map[string]any {
	out := map[string]any{"id": t.id, "name": null(t.name), "volume_id": t.volume.id,
		"created_at": cinderAt(t.created), "links": s.links(q, "os-volume-transfer", t.id)}
	if key {
		out["auth_key"] = t.key
	}
	if q.version >= 57 {
		out["source_project_id"], out["destination_project_id"], out["accepted"] = t.source.id, nil, false
	}
	if q.version >= 55 {
		out["no_snapshots"] = false
	}
	return out
}

func (s *state) findTransfer(q *request, anybody bool) *transfer {
	t := s.transfers[q.args[0]]
	if t == nil || t.source != q.token.project && !anybody && !q.token.admin() {
		return nil
	}
	return t
}

func noTransfer(id string) answer { return fail(404, "Transfer %s could not be found.", id) }

func (s *state) listTransfers(q *request, _ time.Time) answer {
	out := []any{}
	for _, id := range sortedKeys(s.transfers) {
		if t := s.transfers[id]; t.source == q.token.project {
			if strings.HasSuffix(q.route.pattern, "detail") {
				out = append(out, s.transferView(q, t, false))
			} else {
				out = append(out, map[string]any{"id": t.id, "name": null(t.name), "volume_id": t.volume.id,
					"links": s.links(q, "os-volume-transfer", t.id)})
			}
		}
	}
	return ok(map[string]any{"transfers": out})
}

func (s *state) makeTransfer(q *request, now time.Time) answer {
	in, a := q.bodyOf("transfer", nil, "volume_id")
	if a.status != 0 {
		return a
	}
	id, a := uuidIn(in, "volume_id")
	if a.status != 0 {
		return a
	}
	v := s.findVolume(q, id)
	if v == nil {
		return noVolume(id)
	}
	if v.status != "available" {
		return fail(400, "Invalid volume: status must be available")
	}
	name, a := text(in, "name")
	if a.status != 0 {
		return a
	}
	t := &transfer{id: s.uuid(), name: name, key: s.hex()[8:24], volume: v, source: v.project, created: now}
	s.transfers[t.id] = t
	s.notifyVolume("transfer.create.start", v, now, q.who())
	v.status, v.updated = "awaiting-transfer", now
	s.notifyVolume("transfer.create.end", v, now, q.who())
	return answer{status: 202, body: map[string]any{"transfer": s.transferView(q, t, true)}}
}

func (s *state) showTransfer(q *request, _ time.Time) answer {
	t := s.findTransfer(q, false)
	if t == nil {
		return noTransfer(q.args[0])
	}
	return ok(map[string]any{"transfer": s.transferView(q, t, false)})
}

func (s *state) deleteTransfer(q *request, now time.Time) answer {
	t := s.findTransfer(q, false)
	if t == nil {
		return noTransfer(q.args[0])
	}
	delete(s.transfers, t.id)
	t.volume.status, t.volume.updated = "available", now
	return done(202)
}

// acceptTransfer gives a volume to another project. Its backups stay with the
// old one.
func (s *state) acceptTransfer(q *request, now time.Time) answer {
	in, a := q.bodyOf("accept", nil, "auth_key")
	if a.status != 0 {
		return a
	}
	t := s.findTransfer(q, true)
	if t == nil {
		return noTransfer(q.args[0])
	}
	if bare(in["auth_key"]) != t.key {
		return fail(400, "Invalid auth key: Attempt to transfer %s with invalid auth key.", t.id)
	}
	if q.token.project == nil {
		return fail(400, "Malformed request url")
	}
	v := t.volume
	if over := s.overVolumes(q.token.project, 1, v.size); over != "" {
		return fail(413, "%s", over)
	}
	s.notifyVolume("transfer.accept.start", v, now, q.who())
	v.project.volumes.remove(v)
	v.project.gigabytes -= v.size
	v.project, v.user, v.status, v.updated = q.token.project, q.token.user.id, "available", now
	v.project.volumes.add(v)
	v.project.gigabytes += v.size
	delete(s.transfers, t.id)
	s.notifyVolume("transfer.accept.end", v, now, q.who())
	return answer{status: 202, body: map[string]any{"transfer": map[string]any{"id": t.id, "name": null(t.name),
		"volume_id": v.id, "links": s.links(q, "os-volume-transfer", t.id)}}}
}
