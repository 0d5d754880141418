package simcloud

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// computeRoutes are Nova's.
var computeRoutes = []route{
	{method: "GET", pattern: "servers/detail", do: (*state).listServers},
	{method: "GET", pattern: "servers", do: (*state).listServers},
	{method: "POST", pattern: "servers", do: (*state).makeServer},
	{method: "GET", pattern: "servers/ID", do: (*state).showServer},
	{method: "PUT", pattern: "servers/ID", do: (*state).renameServer},
	{method: "DELETE", pattern: "servers/ID", do: (*state).deleteServer},
	{method: "POST", pattern: "servers/ID/action", do: (*state).serverAction},
	{method: "GET", pattern: "servers/ID/metadata", do: (*state).serverMetadata},
	{method: "POST", pattern: "servers/ID/metadata", do: (*state).serverMetadata},
	{method: "PUT", pattern: "servers/ID/metadata", do: (*state).serverMetadata},
	{method: "GET", pattern: "servers/ID/metadata/KEY", do: (*state).serverMetadatum},
	{method: "PUT", pattern: "servers/ID/metadata/KEY", do: (*state).serverMetadatum},
	{method: "DELETE", pattern: "servers/ID/metadata/KEY", do: (*state).serverMetadatum},
	{method: "GET", pattern: "servers/ID/tags", do: (*state).serverTags},
	{method: "PUT", pattern: "servers/ID/tags", do: (*state).serverTags},
	{method: "DELETE", pattern: "servers/ID/tags", do: (*state).serverTags},
	{method: "GET", pattern: "servers/ID/tags/KEY", do: (*state).serverTag},
	{method: "PUT", pattern: "servers/ID/tags/KEY", do: (*state).serverTag},
	{method: "DELETE", pattern: "servers/ID/tags/KEY", do: (*state).serverTag},
	{method: "GET", pattern: "servers/ID/os-volume_attachments", do: (*state).listAttachments},
	{method: "POST", pattern: "servers/ID/os-volume_attachments", do: (*state).attachVolume},
	{method: "GET", pattern: "servers/ID/os-volume_attachments/ID", do: (*state).showAttachment},
	{method: "DELETE", pattern: "servers/ID/os-volume_attachments/ID", do: (*state).detachVolume},
	{method: "GET", pattern: "flavors", do: (*state).listFlavors},
	{method: "GET", pattern: "flavors/detail", do: (*state).listFlavors},
}

// vmState is Nova's inner name of a status.
func (v *server) vmState() string {
	switch v.status {
	case "BUILD":
		return "building"
	case "SHUTOFF":
		return "stopped"
	}
	return strings.ToLower(v.status)
}

func (v *server) power() int {
	switch v.status {
	case "ACTIVE":
		return 1
	case "SHUTOFF", "SHELVED", "SHELVED_OFFLOADED":
		return 4
	}
	return 0
}

func (v *server) powerName() string {
	return map[int]string{0: "pending", 1: "running", 4: "shutdown"}[v.power()]
}

func (v *server) attachment(volume string) *attachment {
	for _, a := range v.attached {
		if a.volume.id == volume {
			return a
		}
	}
	return nil
}

// novaAt is how Nova tells times of its own.
func novaAt(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// novaBase is Nova's address in links. The token's project is part of it wherever
// it occurs in the URL, be it as a filter. Source: nova/api/openstack/common.py,
// _get_project_id.
func (s *state) novaBase(q *request) string {
	if p := q.token.project; p != nil && strings.Contains(q.raw, p.id) {
		return s.o.Base + computePath + "/" + p.id
	}
	return s.o.Base + computePath
}

func (s *state) serverLinks(q *request, id string) []link {
	base := s.novaBase(q)
	return []link{{"self", base + "/servers/" + id}, {"bookmark", strings.Replace(base, computePath, "/compute", 1) + "/servers/" + id}}
}

// serverJSON is a server as the API tells it. Source: nova/api/openstack/compute/
// views/servers.py. What is there only in some cases is a pointer, or kept apart.
type serverJSON struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Status     string            `json:"status"`
	Tenant     string            `json:"tenant_id"`
	User       string            `json:"user_id"`
	Metadata   map[string]string `json:"metadata"`
	HostID     string            `json:"hostId"`
	Image      any               `json:"image"`
	Flavor     any               `json:"flavor"`
	Created    string            `json:"created"`
	Updated    string            `json:"updated"`
	Addresses  struct{}          `json:"addresses"`
	IPv4       string            `json:"accessIPv4"`
	IPv6       string            `json:"accessIPv6"`
	Links      []link            `json:"links"`
	DiskConfig string            `json:"OS-DCF:diskConfig"`
	Progress   *int              `json:"progress,omitempty"`
	Fault      *faultJSON        `json:"fault,omitempty"`
	Zone       string            `json:"OS-EXT-AZ:availability_zone"`
	Drive      string            `json:"config_drive"`
	Key        *string           `json:"key_name"`
	Launched   *string           `json:"OS-SRV-USG:launched_at"`
	Terminated *string           `json:"OS-SRV-USG:terminated_at"`
	Task       *string           `json:"OS-EXT-STS:task_state"`
	State      string            `json:"OS-EXT-STS:vm_state"`
	Power      int               `json:"OS-EXT-STS:power_state"`
	Volumes    []volumeRef       `json:"os-extended-volumes:volumes_attached"`

	Locked   *bool            `json:"locked,omitempty"`                     // from 2.9
	Reason   *json.RawMessage `json:"locked_reason,omitempty"`              // 2.73
	About    *json.RawMessage `json:"description,omitempty"`                // 2.19
	Tags     *[]string        `json:"tags,omitempty"`                       // 2.26
	Trusted  *json.RawMessage `json:"trusted_image_certificates,omitempty"` // 2.63
	Groups   *[]string        `json:"server_groups,omitempty"`              // 2.71, of one server
	Hostname string           `json:"OS-EXT-SRV-ATTR:hostname,omitempty"`   // 2.90, for admins 2.3

	*serverAdminJSON
	*serverAdmin3JSON
	HostStatus *string `json:"host_status,omitempty"` // for admins, from 2.16
}

// serverAdminJSON and serverAdmin3JSON, from 2.3, are for admins.
type serverAdminJSON struct {
	Host       string `json:"OS-EXT-SRV-ATTR:host"`
	Hypervisor string `json:"OS-EXT-SRV-ATTR:hypervisor_hostname"`
	Instance   string `json:"OS-EXT-SRV-ATTR:instance_name"`
}

type serverAdmin3JSON struct {
	Reservation string  `json:"OS-EXT-SRV-ATTR:reservation_id"`
	LaunchIndex int     `json:"OS-EXT-SRV-ATTR:launch_index"`
	Kernel      string  `json:"OS-EXT-SRV-ATTR:kernel_id"`
	Ramdisk     string  `json:"OS-EXT-SRV-ATTR:ramdisk_id"`
	Root        string  `json:"OS-EXT-SRV-ATTR:root_device_name"`
	UserData    *string `json:"OS-EXT-SRV-ATTR:user_data"`
}

type faultJSON struct {
	Code    int    `json:"code"`
	Created string `json:"created"`
	Message string `json:"message"`
}

type volumeRef struct {
	ID          string `json:"id"`
	DeleteOnEnd *bool  `json:"delete_on_termination,omitempty"` // from 2.3
}

type linked struct {
	ID    string `json:"id"`
	Links []link `json:"links"`
}

// flavorJSON is the flavor inside a server, from 2.47.
type flavorJSON struct {
	VCPUs     int      `json:"vcpus"`
	RAM       int      `json:"ram"`
	Disk      int      `json:"disk"`
	Ephemeral int      `json:"ephemeral"`
	Swap      int      `json:"swap"`
	Name      string   `json:"original_name"`
	Extra     struct{} `json:"extra_specs"`
}

func rawOrNull(s string) *json.RawMessage {
	if s == "" {
		return &jsonNull
	}
	v := json.RawMessage(encode(s))
	return &v
}

func (s *state) serverView(q *request, v *server, show bool) any {
	admin := q.token.admin()
	bookmarks := strings.Replace(s.novaBase(q), computePath, "/compute", 1)
	out := &serverJSON{ID: v.id, Name: v.name, Status: v.status, Tenant: v.project.id, User: v.user, Metadata: v.metadata,
		HostID: "8800239c8457ee629aefd50c1503366561a91196b2bca5b16a7070ac", Image: "",
		Created: novaAt(v.created), Updated: novaAt(v.updated), Links: s.serverLinks(q, v.id), DiskConfig: "MANUAL", Zone: "nova",
		Launched: cinderAt(v.launched), Terminated: cinderAt(v.terminated), Task: orNull(v.task), State: v.vmState(), Power: v.power(),
		Volumes: make([]volumeRef, 0, len(v.attached))}
	if v.image != "" {
		out.Image = linked{v.image, []link{{"bookmark", bookmarks + "/images/" + v.image}}}
	}
	if v.status == "BUILD" || v.launched.IsZero() {
		out.Zone, out.HostID = "", ""
	}
	switch v.status {
	case "ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE", "MIGRATING", "PASSWORD":
		out.Progress = new(int)
	case "SHELVED_OFFLOADED":
		out.Zone = ""
	case "ERROR":
		out.Fault = &faultJSON{500, novaAt(v.updated), "No valid host was found. "}
	}
	out.Flavor = flavorJSON{VCPUs: 1, RAM: 64, Disk: 1, Name: flavorName}
	if q.version < 47 {
		out.Flavor = linked{v.flavor, []link{{"bookmark", bookmarks + "/flavors/" + v.flavor}}}
	}
	for _, a := range v.attached {
		ref := volumeRef{ID: a.volume.id}
		if q.version >= 3 {
			ends := a.deleteOnEnd
			ref.DeleteOnEnd = &ends
		}
		out.Volumes = append(out.Volumes, ref)
	}
	if q.version >= 9 {
		locked := v.lockedBy != ""
		out.Locked = &locked
	}
	if q.version >= 19 {
		out.About = &jsonNull
	}
	if q.version >= 26 {
		tags := tagsOf(v)
		out.Tags = &tags
	}
	if q.version >= 63 {
		out.Trusted = &jsonNull
	}
	if q.version >= 71 && show {
		out.Groups = &[]string{}
	}
	if q.version >= 73 {
		out.Reason = rawOrNull(v.lockedReason)
	}
	if q.version >= 90 || admin && q.version >= 3 {
		out.Hostname = v.hostname
	}
	if !admin {
		return out
	}
	out.serverAdminJSON = &serverAdminJSON{s.o.host(), s.o.host(), fmt.Sprintf("instance-%08x", v.seq)}
	if q.version >= 3 {
		out.serverAdmin3JSON = &serverAdmin3JSON{Reservation: v.reservation, Root: "/dev/sda"}
	}
	if q.version >= 16 {
		up := "UP"
		if v.status == "DELETED" {
			up = ""
		}
		out.HostStatus = &up
	}
	return out
}

func (s *state) findServer(q *request) *server {
	v := s.servers[q.args[0]]
	if v == nil || v.project != q.token.project && !q.token.admin() {
		return nil
	}
	return v
}

func noServer(id string) answer { return fail(404, "Instance %s could not be found.", id) }

var novaFilters = []string{"user_id", "project_id", "tenant_id", "launch_index", "image_ref", "image", "kernel_id", "ramdisk_id",
	"hostname", "key_name", "power_state", "vm_state", "task_state", "host", "node", "flavor", "reservation_id", "launched_at",
	"terminated_at", "availability_zone", "name", "display_name", "description", "display_description", "locked_by", "uuid",
	"root_device_name", "config_drive", "access_ip_v4", "access_ip_v6", "auto_disk_config", "progress", "sort_key", "sort_dir",
	"all_tenants", "soft_deleted", "deleted", "status", "changes-since", "changes-before", "ip", "ip6", "created_at", "limit",
	"marker", "tags", "tags-any", "not-tags", "not-tags-any", "locked"}

var statuses = []string{"ACTIVE", "BUILD", "DELETED", "ERROR", "HARD_REBOOT", "MIGRATING", "PASSWORD", "PAUSED", "REBOOT",
	"REBUILD", "RESCUE", "RESIZE", "REVERT_RESIZE", "SHELVED", "SHELVED_OFFLOADED", "SHUTOFF", "SOFT_DELETED", "SUSPENDED",
	"UNKNOWN", "VERIFY_RESIZE"}

var digits = regexp.MustCompile(`^[0-9]*$`)

// listServers is GET /servers and /servers/detail. Source: nova/api/openstack/
// compute/servers.py, _get_servers.
func (s *state) listServers(q *request, now time.Time) answer {
	detail := strings.HasSuffix(q.route.pattern, "detail")
	if q.version >= 75 {
		for _, k := range sortedKeys(q.query) {
			if !slices.Contains(novaFilters, k) && !strings.HasPrefix(k, "_") {
				return fail(400, "'%s' does not match any of the regexes: '^_'", k)
			}
		}
	}
	limit := s.o.PageLimit
	if q.query.Has("limit") {
		v := q.query.Get("limit")
		n := 0
		if !digits.MatchString(v) {
			return fail(400, "Invalid input for query parameters limit. Value: %s. '%s' does not match '^[0-9]*$'", v, v)
		}
		fmt.Sscan(v, &n) //nolint:errcheck // digits, or none
		limit = min(limit, n)
	}
	for _, want := range q.query["status"] {
		if !slices.Contains(statuses, strings.ToUpper(want)) {
			if q.version >= 38 {
				return fail(400, "Invalid status value")
			}
			return answer{status: 200, page: &page{name: "servers"}}
		}
	}
	var since time.Time
	if v := q.query.Get("changes-since"); v != "" {
		var err error
		if since, err = parseTime(v); err != nil {
			return fail(400, "Invalid input for query parameters changes-since. Value: %s. '%s' is not a 'date-time'", v, v)
		}
	}
	all := false
	if q.query.Has("all_tenants") {
		switch strings.ToLower(q.query.Get("all_tenants")) {
		case "", "1", "t", "true", "on", "y", "yes":
			all = true
		case "0", "f", "false", "off", "n", "no":
		default:
			return fail(400, "all_tenants must be a boolean, got '%s'.", q.query.Get("all_tenants"))
		}
	}
	if all && !q.token.admin() {
		kind := "index"
		if detail {
			kind = "detail"
		}
		return fail(403, "Policy doesn't allow os_compute_api:servers:%s:get_all_tenants to be performed.", kind)
	}
	rows := &s.allServers
	if !all && q.token.project != nil {
		rows = &q.token.project.servers
	}
	wantProject := q.query.Get("project_id")
	if wantProject == "" {
		wantProject = q.query.Get("tenant_id")
	}
	if all && wantProject != "" {
		rows = &order[*server]{}
		if p := s.tenants[wantProject]; p != nil {
			rows = &p.servers
		}
	}
	if !since.IsZero() || strings.EqualFold(q.query.Get("deleted"), "true") && q.token.admin() {
		with := &order[*server]{rows: slices.Clone(rows.rows)}
		for _, v := range s.deletedSrvs {
			if (all || v.project == q.token.project) && (!all || wantProject == "" || v.project.id == wantProject) {
				with.rows = append(with.rows, v)
			}
		}
		slices.SortFunc(with.rows, func(a, b *server) int {
			if c := a.created.Truncate(time.Second).Compare(b.created.Truncate(time.Second)); c != 0 {
				return c
			}
			return strings.Compare(a.id, b.id)
		})
		rows = with
	}
	var name *regexp.Regexp
	if v := q.query.Get("name"); v != "" {
		var err error
		if name, err = regexp.Compile(v); err != nil {
			return fail(400, "Invalid input for query parameters name. Value: %s. '%s' is not a 'regex'", v, v)
		}
	}
	var marker *server
	if id := q.query.Get("marker"); id != "" {
		marker = s.servers[id]
		for i := len(s.deletedSrvs) - 1; i >= 0 && marker == nil && !since.IsZero(); i-- {
			if s.deletedSrvs[i].id == id {
				marker = s.deletedSrvs[i]
			}
		}
		if marker == nil || marker.project != q.token.project && !q.token.admin() {
			return fail(400, "marker [%s] not found", id)
		}
	}
	split := func(key string) []string {
		if v := q.query.Get(key); v != "" && q.version >= 26 {
			return strings.Split(v, ",")
		}
		return nil
	}
	tags, anyTag, notTags, notAny := split("tags"), split("tags-any"), split("not-tags"), split("not-tags-any")
	has := func(v *server) func(string) bool { return func(t string) bool { return slices.Contains(v.tags, t) } }
	every := func(list []string, ok func(string) bool) bool {
		return !slices.ContainsFunc(list, func(t string) bool { return !ok(t) })
	}
	l := listing[*server]{q: q, limit: limit, name: "servers", path: s.novaBase(q) + "/" + q.route.pattern,
		id: func(v *server) string { return v.id },
		keep: func(v *server) bool {
			switch {
			case name != nil && !name.MatchString(v.name),
				len(q.query["status"]) > 0 && !slices.ContainsFunc(q.query["status"], func(w string) bool { return strings.EqualFold(w, v.status) }),
				!since.IsZero() && v.updated.Before(since),
				len(tags) > 0 && !every(tags, has(v)),
				len(anyTag) > 0 && !slices.ContainsFunc(anyTag, has(v)),
				len(notTags) > 0 && every(notTags, has(v)),
				len(notAny) > 0 && slices.ContainsFunc(notAny, has(v)):
				return false
			}
			if w := q.query.Get("uuid"); w != "" && q.token.admin() && w != v.id {
				return false
			}
			if w := q.query.Get("host"); w != "" && q.token.admin() && w != s.o.host() {
				return false
			}
			return true
		},
		view: func(v *server) any {
			switch {
			case q.token.project == nil && !all && detail:
				// A token without a project sees of every server that it is there: Nova
				// treats all of them as if their cell were down.
				return map[string]any{"id": v.id, "status": "UNKNOWN", "tenant_id": v.project.id, "created": novaAt(v.created), "links": s.serverLinks(q, v.id)}
			case q.token.project == nil && !all:
				return map[string]any{"id": v.id, "status": "UNKNOWN", "links": s.serverLinks(q, v.id)}
			case detail:
				return s.serverView(q, v, false)
			}
			return map[string]any{"id": v.id, "name": v.name, "links": s.serverLinks(q, v.id)}
		}}
	ascending := q.query.Get("sort_dir") == "asc"
	return answer{status: 200, page: l.page(rows, marker, ascending)}
}

func parseTime(v string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04:05.000000", "2006-01-02 15:04:05", "2006-01-02"} {
		if t, err := time.Parse(layout, v); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("not a time: %q", v)
}

func (s *state) showServer(q *request, _ time.Time) answer {
	v := s.findServer(q)
	if v == nil {
		return noServer(q.args[0])
	}
	return ok(map[string]any{"server": s.serverView(q, v, true)})
}

func (s *state) newServer(p *project, user, name string, now time.Time) *server {
	s.seq2++
	return &server{id: s.uuid(), name: name, hostname: hostname(name), user: user, project: p, status: "BUILD", task: "scheduling",
		metadata: map[string]string{}, image: imageID, flavor: flavorID, seq: s.seq2, created: now, updated: now,
		reservation: fmt.Sprintf("r-%08x", s.rng.Uint32())}
}

// makeServer is POST /servers. A boot volume and further volumes come by
// block_device_mapping_v2. Networks are not looked at.
func (s *state) makeServer(q *request, now time.Time) answer {
	in, a := q.bodyOf("server", nil, "name", "flavorRef")
	if a.status != 0 {
		return a
	}
	name, a := text(in, "name")
	if a.status != 0 {
		return a
	}
	if q.token.project == nil {
		return fail(403, "Policy doesn't allow os_compute_api:servers:create to be performed.")
	}
	metadata, a := metadataIn(in, "metadata")
	if a.status != 0 {
		return a
	}
	if len(metadata) > 128 {
		return fail(403, "Maximum number of metadata items exceeds 128")
	}
	var tags []string
	if raw := in["tags"]; raw != nil && q.version >= 52 {
		if tags, a = readTags(raw); a.status != 0 {
			return a
		}
	}
	var devices []struct {
		UUID        string `json:"uuid"`
		Source      string `json:"source_type"`
		Destination string `json:"destination_type"`
		Size        int    `json:"volume_size"`
		BootIndex   *int   `json:"boot_index"`
		DeleteOnEnd bool   `json:"delete_on_termination"`
	}
	if raw := in["block_device_mapping_v2"]; raw != nil {
		if err := json.Unmarshal(raw, &devices); err != nil {
			return fail(400, "Invalid input for field/attribute block_device_mapping_v2. Value: %s.", python(raw))
		}
	}
	gb, n := 0, 0
	for _, d := range devices {
		switch {
		case d.Source == "volume":
			v := s.findVolume(q, d.UUID)
			if v == nil {
				return fail(400, "Block Device Mapping is Invalid: failed to get volume %s.", d.UUID)
			}
			if v.status != "available" {
				return fail(400, "Block Device Mapping is Invalid: failed to get volume %s.", d.UUID)
			}
		case d.Destination == "volume":
			n, gb = n+1, gb+max(1, d.Size)
		}
	}
	if s.overVolumes(q.token.project, n, gb) != "" && n > 0 {
		return fail(403, "Quota exceeded for resources: volumes")
	}
	v := s.newServer(q.token.project, q.token.user.id, name, now)
	v.metadata, v.tags = clone(metadata), tags
	if raw := in["imageRef"]; raw != nil && bare(raw) != "" {
		v.image = bare(raw)
	} else if len(devices) > 0 {
		v.image = ""
	}
	s.addServer(v)
	w := q.who()
	s.legacy("create.start", v, map[string]any{"image_name": "tiny"}, now, w)
	s.versioned("create.start", "InstanceCreatePayload", "1.12", v, createExtra(v), now, w)
	var roots []*attachment
	for _, d := range devices {
		var x *volume
		switch {
		case d.Source == "volume":
			x = s.volumes[d.UUID]
		case d.Destination == "volume":
			x = &volume{id: s.uuid(), project: v.project, user: v.user, status: "creating", size: max(1, d.Size), metadata: map[string]string{},
				bootable: true, scheduled: true, created: now, updated: now}
			s.addVolume(x)
			s.notifyVolume("create.start", x, now, w)
			x.status = "available"
			s.notifyVolume("create.end", x, now, w)
		default:
			continue
		}
		a := s.reserve(v, x, d.BootIndex != nil && *d.BootIndex == 0, now)
		a.deleteOnEnd = d.DeleteOnEnd
		roots = append(roots, a)
	}
	s.at(now.Add(s.o.SettleTime), func(at time.Time) {
		if s.servers[v.id] != v || v.status != "BUILD" {
			return
		}
		before := *v
		for _, a := range roots {
			s.notifyVolume("attach.start", a.volume, at, w)
			a.finish(at)
			s.notifyVolume("attach.end", a.volume, at, w)
		}
		v.status, v.task, v.launched, v.updated = "ACTIVE", "", at, at
		s.notifyServerUpdate(v, &before, at, w)
		s.legacy("create.end", v, map[string]any{"fixed_ips": []any{}, "message": "Success"}, at, w)
		s.versioned("create.end", "InstanceCreatePayload", "1.12", v, createExtra(v), at, w)
	})
	return answer{status: 202, header: map[string]string{"Location": s.o.Base + computePath + "/servers/" + v.id},
		body: map[string]any{"server": map[string]any{"id": v.id, "links": s.serverLinks(q, v.id), "OS-DCF:diskConfig": "MANUAL",
			"security_groups": []any{map[string]string{"name": "default"}}, "adminPass": fmt.Sprintf("%012x", s.rng.Uint64()&0xffffffffffff)}}}
}

func createExtra(v *server) map[string]any {
	return map[string]any{"keypairs": []any{}, "tags": tagsOf(v), "trusted_image_certificates": nil,
		"instance_name": fmt.Sprintf("instance-%08x", v.seq)}
}

// renameServer is PUT /servers/ID, of the name only.
func (s *state) renameServer(q *request, now time.Time) answer {
	in, a := q.bodyOf("server", []string{"name", "description", "accessIPv4", "accessIPv6", "OS-DCF:diskConfig", "hostname"})
	if a.status != 0 {
		return a
	}
	name, a := text(in, "name")
	if a.status != 0 {
		return a
	}
	v := s.findServer(q)
	if v == nil {
		return noServer(q.args[0])
	}
	before := *v
	if name != "" {
		v.name, v.updated = name, now
	}
	s.notifyServerUpdate(v, &before, now, q.who())
	return ok(map[string]any{"server": s.serverView(q, v, true)})
}

// locked is the refusal of a locked server; its lock does not hold an admin.
func (v *server) lockedFor(q *request) answer {
	if v.lockedBy != "" && !q.token.admin() {
		return fail(409, "Instance %s is locked", v.id)
	}
	return answer{}
}

// must be in one of some states. Source: nova/compute/api.py,
// check_instance_state.
func (v *server) mustBe(action string, states ...string) answer {
	if !slices.Contains(states, v.vmState()) {
		return fail(409, "Cannot '%s' instance %s while it is in vm_state %s", action, v.id, v.vmState())
	}
	if v.task != "" {
		return fail(409, "Cannot '%s' instance %s while it is in task_state %s", action, v.id, v.task)
	}
	return answer{}
}

// deleteServer is DELETE /servers/ID.
func (s *state) deleteServer(q *request, now time.Time) answer {
	v := s.findServer(q)
	if v == nil {
		return noServer(q.args[0])
	}
	if a := v.lockedFor(q); a.status != 0 {
		return a
	}
	w := q.who()
	before := *v
	v.task, v.updated = "deleting", now
	s.notifyServerUpdate(v, &before, now, w)
	s.at(now.Add(s.o.SettleTime), func(at time.Time) { s.endServer(v, at, w) })
	return done(204)
}

func (s *state) endServer(v *server, at time.Time, w who) {
	if s.servers[v.id] != v {
		return
	}
	s.legacy("delete.start", v, nil, at, w)
	s.versioned("delete.start", "InstanceActionPayload", "1.8", v, nil, at, w)
	attached := v.attached
	v.terminated, v.status, v.task, v.updated = at, "DELETED", "", at
	s.legacy("delete.end", v, map[string]any{"metadata": map[string]string{}}, at, w)
	s.versioned("delete.end", "InstanceActionPayload", "1.8", v, map[string]any{"metadata": map[string]string{}}, at, w)
	for _, a := range slices.Clone(attached) {
		s.notifyVolume("detach.start", a.volume, at, w)
		a.undo(at)
		s.notifyVolume("detach.end", a.volume, at, w)
		if a.deleteOnEnd {
			a.volume.status = "deleting"
			s.notifyVolume("delete.start", a.volume, at, w)
			s.endVolume(a.volume, at, w)
		}
	}
	v.metadata, v.tags = map[string]string{}, nil
	s.dropServer(v)
}

// serverAction is POST /servers/ID/action: lock, unlock, shelve, shelveOffload,
// unshelve, os-stop, os-start, os-resetState.
func (s *state) serverAction(q *request, now time.Time) answer {
	var in map[string]json.RawMessage
	if err := json.Unmarshal(q.body, &in); err != nil || len(in) != 1 {
		return fail(400, "Malformed request body")
	}
	action := sortedKeys(in)[0]
	known := []string{"lock", "unlock", "shelve", "shelveOffload", "unshelve", "os-stop", "os-start", "os-resetState"}
	if !slices.Contains(known, action) {
		return fail(400, "There is no such action: %s", action)
	}
	v := s.findServer(q)
	if v == nil {
		return noServer(q.args[0])
	}
	w := q.who()
	switch action {
	case "lock":
		var l struct {
			Reason string `json:"locked_reason"`
		}
		json.Unmarshal(in["lock"], &l) //nolint:errcheck // null, or an object without a reason
		v.lockedBy, v.lockedReason = "owner", l.Reason
		if q.token.user.id != v.user && q.token.admin() && q.token.project != v.project {
			v.lockedBy = "admin"
		}
		s.locked("lock", v, now, w)
		return done(202)
	case "unlock":
		if v.lockedBy == "admin" && !q.token.admin() {
			return fail(403, "Policy doesn't allow os_compute_api:os-lock-server:unlock:unlock_override to be performed.")
		}
		v.lockedBy, v.lockedReason = "", ""
		s.locked("unlock", v, now, w)
		return done(202)
	case "os-resetState":
		if !q.token.admin() {
			return fail(403, "Policy doesn't allow os_compute_api:os-admin-actions:reset_state to be performed.")
		}
		var r struct{ State string }
		if json.Unmarshal(in[action], &r) != nil || r.State != "active" && r.State != "error" {
			return fail(400, "Invalid input for field/attribute state. Value: %s.", r.State)
		}
		s.become(v, strings.ToUpper(r.State), now, w)
		return done(202)
	}
	if a := v.lockedFor(q); a.status != 0 {
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
	if a := v.mustBe(m.verb, m.from...); a.status != 0 {
		return a
	}
	before := *v
	v.task = map[string]string{"os-stop": "powering-off", "os-start": "powering-on", "shelve": "shelving", "shelveOffload": "shelving_offloading", "unshelve": "unshelving"}[action]
	v.updated = now
	s.notifyServerUpdate(v, &before, now, w)
	s.legacy(m.events+".start", v, nil, now, w)
	s.versioned(m.events+".start", "InstanceActionPayload", "1.8", v, nil, now, w)
	s.at(now.Add(s.o.SettleTime), func(at time.Time) {
		if s.servers[v.id] == v && v.task != "deleting" {
			s.become(v, m.to, at, w)
			s.legacy(m.events+".end", v, nil, at, w)
			s.versioned(m.events+".end", "InstanceActionPayload", "1.8", v, nil, at, w)
		}
	})
	return done(202)
}

func (s *state) become(v *server, status string, at time.Time, w who) {
	before := *v
	v.status, v.task, v.updated = status, "", at
	// A server without a host keeps its volumes only reserved: they cannot be backed
	// up until it is unshelved. Source: nova/compute/manager.py,
	// _terminate_volume_connections.
	for _, a := range v.attached {
		switch {
		case status == "SHELVED_OFFLOADED" && a.volume.status == "in-use":
			a.done, a.volume.status, a.volume.updated = false, "reserved", at
		case before.status == "SHELVED_OFFLOADED" && a.volume.status == "reserved":
			a.finish(at)
		}
	}
	s.notifyServerUpdate(v, &before, at, w)
}

func (s *state) locked(event string, v *server, at time.Time, w who) {
	s.notifyServerUpdate(v, v, at, w)
	s.legacy(event, v, nil, at, w)
	s.versioned(event, "InstanceActionPayload", "1.8", v, nil, at, w)
}

// changeable is the refusal to change metadata.
func (v *server) changeable(q *request, action string) answer {
	if a := v.lockedFor(q); a.status != 0 {
		return a
	}
	return v.mustBe(action, "active", "paused", "suspended", "stopped")
}

// serverMetadata is /servers/ID/metadata: POST adds, PUT replaces.
func (s *state) serverMetadata(q *request, now time.Time) answer {
	if q.method == "GET" {
		v := s.findServer(q)
		if v == nil {
			return noServer(q.args[0])
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
	v := s.findServer(q)
	if v == nil {
		return noServer(q.args[0])
	}
	all := map[string]string{}
	if q.method == "POST" {
		maps.Copy(all, v.metadata)
	}
	maps.Copy(all, metadata)
	if a := v.changeable(q, "update metadata"); a.status != 0 {
		return a
	}
	if len(all) > 128 {
		return fail(403, "Maximum number of metadata items exceeds 128")
	}
	v.metadata, v.updated = all, now
	s.notifyServerUpdate(v, v, now, q.who())
	return ok(map[string]any{"metadata": all})
}

func (s *state) serverMetadatum(q *request, now time.Time) answer {
	key := q.args[1]
	var meta map[string]string
	if q.method == "PUT" {
		var in map[string]json.RawMessage
		if json.Unmarshal(q.body, &in) != nil || in["meta"] == nil {
			return fail(400, "'meta' is a required property")
		}
		var a answer
		if meta, a = metadataIn(in, "meta"); a.status != 0 {
			return a
		}
		if _, same := meta[key]; !same || len(meta) != 1 {
			return fail(400, "Request body and URI mismatch")
		}
	}
	v := s.findServer(q)
	if v == nil {
		return noServer(q.args[0])
	}
	value, has := v.metadata[key]
	if q.method != "PUT" && !has {
		return fail(404, "Metadata item was not found")
	}
	switch q.method {
	case "GET":
		return ok(map[string]any{"meta": map[string]string{key: value}})
	case "DELETE":
		if a := v.changeable(q, "delete metadata"); a.status != 0 {
			return a
		}
		v.metadata = clone(v.metadata)
		delete(v.metadata, key)
		v.updated = now
		s.notifyServerUpdate(v, v, now, q.who())
		return done(204)
	}
	if a := v.changeable(q, "update metadata"); a.status != 0 {
		return a
	}
	all := clone(v.metadata)
	all[key] = meta[key]
	if len(all) > 128 {
		return fail(403, "Maximum number of metadata items exceeds 128")
	}
	v.metadata, v.updated = all, now
	s.notifyServerUpdate(v, v, now, q.who())
	return ok(map[string]any{"meta": meta})
}

var tagWord = regexp.MustCompile(`^[^,/]*$`)

func checkTag(i int, tag string) answer {
	switch {
	case !tagWord.MatchString(tag):
		return fail(400, "Invalid input for field/attribute %d. Value: %s. '%s' does not match '^[^,/]*$'", i, tag, tag)
	case len([]rune(tag)) > 60:
		return fail(400, "Invalid input for field/attribute %d. Value: %s. '%s' is too long", i, tag, tag)
	case tag == "":
		return fail(400, "Invalid input for field/attribute %d. Value: . '' is too short", i)
	}
	return answer{}
}

func readTags(raw json.RawMessage) ([]string, answer) {
	var tags []string
	if err := json.Unmarshal(raw, &tags); err != nil {
		return nil, fail(400, "Invalid input for field/attribute tags. Value: %s. %s is not of type 'array'", python(raw), python(raw))
	}
	for i, t := range tags {
		if a := checkTag(i, t); a.status != 0 {
			return nil, a
		}
	}
	if len(tags) > 50 {
		return nil, fail(400, "Invalid input for field/attribute tags. Value: %s. %s is too long", python(raw), python(raw))
	}
	return slices.Compact(slices.Sorted(slices.Values(tags))), answer{}
}

// taggable finds the server for /servers/ID/tags. A lock does not hold tags.
func (s *state) taggable(q *request) (*server, answer) {
	if q.version < 26 {
		return nil, fail(404, "The resource could not be found.")
	}
	v := s.findServer(q)
	if v == nil {
		return nil, fail(404, "Instance %s has no mapping to a cell.", q.args[0])
	}
	return v, answer{}
}

var taggableStates = []string{"active", "paused", "suspended", "stopped"}

func (v *server) retag(verb string) answer { return v.mustBeIn(verb, taggableStates...) }

// mustBeIn is mustBe, for what a task does not hinder.
func (v *server) mustBeIn(action string, states ...string) answer {
	if !slices.Contains(states, v.vmState()) {
		return fail(409, "Cannot '%s' instance %s while it is in vm_state %s", action, v.id, v.vmState())
	}
	return answer{}
}

// serverTags is /servers/ID/tags.
func (s *state) serverTags(q *request, now time.Time) answer {
	var tags []string
	if q.method == "PUT" {
		var in map[string]json.RawMessage
		if json.Unmarshal(q.body, &in) != nil || in["tags"] == nil {
			return fail(400, "'tags' is a required property")
		}
		var a answer
		if tags, a = readTags(in["tags"]); a.status != 0 {
			return a
		}
	}
	v, a := s.taggable(q)
	if v == nil {
		return a
	}
	switch q.method {
	case "GET":
		return ok(map[string]any{"tags": tagsOf(v)})
	case "DELETE":
		if a := v.retag("delete all tags"); a.status != 0 {
			return a
		}
		v.tags = nil
		s.notifyServerUpdate(v, v, now, q.who())
		return done(204)
	}
	if a := v.retag("update tags"); a.status != 0 {
		return a
	}
	v.tags = tags
	s.notifyServerUpdate(v, v, now, q.who())
	return ok(map[string]any{"tags": tagsOf(v)})
}

func (s *state) serverTag(q *request, now time.Time) answer {
	v, a := s.taggable(q)
	if v == nil {
		return a
	}
	tag := q.args[1]
	has := slices.Contains(v.tags, tag)
	switch q.method {
	case "GET":
		if !has {
			return fail(404, "Server %s has no tag '%s'", v.id, tag)
		}
		return done(204)
	case "DELETE":
		if a := v.retag("delete tag"); a.status != 0 {
			return a
		}
		if !has {
			return fail(404, "Instance %s has no tag '%s'", v.id, tag)
		}
		v.tags = slices.DeleteFunc(slices.Clone(v.tags), func(t string) bool { return t == tag })
		s.notifyServerUpdate(v, v, now, q.who())
		return done(204)
	}
	if a := checkTag(0, tag); a.status != 0 {
		return a
	}
	if a := v.retag("update tag"); a.status != 0 {
		return a
	}
	if has {
		return done(204)
	}
	v.tags = slices.Sorted(slices.Values(append(slices.Clone(v.tags), tag)))
	s.notifyServerUpdate(v, v, now, q.who())
	return answer{status: 201, header: map[string]string{"Location": s.o.Base + computePath + "/servers/" + v.id + "/tags/" + url.PathEscape(tag)}}
}

// attachmentView is one row of os-volume_attachments.
func attachmentView(q *request, a *attachment) map[string]any {
	out := map[string]any{"volumeId": a.volume.id, "serverId": a.server.id}
	if a.device != "" {
		out["device"] = a.device
	}
	if q.version >= 70 {
		out["tag"] = nil
	}
	if q.version >= 79 {
		out["delete_on_termination"] = a.deleteOnEnd
	}
	if q.version >= 89 {
		out["attachment_id"], out["bdm_uuid"] = a.id, a.bdm
	} else {
		out["id"] = a.volume.id
	}
	return out
}

func (s *state) listAttachments(q *request, _ time.Time) answer {
	v := s.findServer(q)
	if v == nil {
		return noServer(q.args[0])
	}
	out := []any{}
	for _, a := range v.attached {
		out = append(out, attachmentView(q, a))
	}
	return ok(map[string]any{"volumeAttachments": out})
}

func (s *state) showAttachment(q *request, _ time.Time) answer {
	v := s.findServer(q)
	if v == nil {
		return noServer(q.args[0])
	}
	a := v.attachment(q.args[1])
	if a == nil {
		return fail(404, "Instance %s is not attached to volume %s", v.id, q.args[1])
	}
	return ok(map[string]any{"volumeAttachment": attachmentView(q, a)})
}

// reserve begins an attachment; finish ends it.
func (s *state) reserve(v *server, x *volume, boot bool, now time.Time) *attachment {
	a := &attachment{id: s.uuid(), bdm: s.uuid(), server: v, volume: x, boot: boot, at: now}
	if v.status != "SHELVED_OFFLOADED" {
		letter := 'b' + rune(len(v.attached))
		if boot {
			letter = 'a'
		}
		a.device = "/dev/sd" + string(min(letter, 'z'))
	}
	v.attached = append(v.attached, a)
	x.attached = append(x.attached, a)
	x.status, x.updated = "reserved", now
	return a
}

func (a *attachment) finish(at time.Time) {
	a.done, a.at = true, at
	a.volume.status, a.volume.updated = "in-use", at
}

// undo ends an attachment the other way. A volume that is attached elsewhere too
// stays in use.
func (a *attachment) undo(at time.Time) {
	is := func(x *attachment) bool { return x == a }
	a.server.attached = slices.DeleteFunc(slices.Clone(a.server.attached), is)
	a.volume.attached = slices.DeleteFunc(slices.Clone(a.volume.attached), is)
	switch {
	case len(a.volume.attached) > 0:
		a.volume.status = "in-use"
	case a.volume.status == "backing-up":
		a.volume.previous = "available" // the server was deleted meanwhile
	default:
		a.volume.status = "available"
	}
	a.volume.updated = at
}

func (s *state) attach(v *server, x *volume, boot bool, now time.Time) {
	s.reserve(v, x, boot, now).finish(now)
}

func (s *state) attachNoisily(v *server, x *volume, boot bool, now time.Time, w who) {
	a := s.reserve(v, x, boot, now)
	s.versioned("volume_attach.start", "InstanceActionVolumePayload", "1.6", v, map[string]any{"volume_id": x.id}, now, w)
	s.finishNoisily(a, now, w)
}

func (s *state) finishNoisily(a *attachment, at time.Time, w who) {
	s.notifyVolume("attach.start", a.volume, at, w)
	a.finish(at)
	s.notifyVolume("attach.end", a.volume, at, w)
	s.legacy("volume.attach", a.server, map[string]any{"volume_id": a.volume.id}, at, w)
	s.versioned("volume_attach.end", "InstanceActionVolumePayload", "1.6", a.server, map[string]any{"volume_id": a.volume.id}, at, w)
}

func (s *state) detachNoisily(a *attachment, at time.Time, w who) {
	extra := map[string]any{"volume_id": a.volume.id}
	v := a.server
	s.versioned("volume_detach.start", "InstanceActionVolumePayload", "1.6", v, extra, at, w)
	s.notifyVolume("detach.start", a.volume, at, w)
	// Nova tells before it forgets: the devices of detach.end still list the volume.
	s.legacy("volume.detach", v, extra, at, w)
	s.versioned("volume_detach.end", "InstanceActionVolumePayload", "1.6", v, extra, at, w)
	a.undo(at)
	s.notifyVolume("detach.end", a.volume, at, w)
}

// attachVolume is POST /servers/ID/os-volume_attachments.
func (s *state) attachVolume(q *request, now time.Time) answer {
	in, a := q.bodyOf("volumeAttachment", nil, "volumeId")
	if a.status != 0 {
		return a
	}
	id, a := uuidIn(in, "volumeId")
	if a.status != 0 {
		return a
	}
	v := s.findServer(q)
	if v == nil {
		return noServer(q.args[0])
	}
	x := s.findVolume(q, id)
	if x == nil {
		return noVolume(id)
	}
	if a := v.lockedFor(q); a.status != 0 {
		return a
	}
	if a := v.mustBe("attach_volume", "active", "paused", "stopped", "resized", "soft-deleted", "shelved", "shelved_offloaded"); a.status != 0 {
		return a
	}
	if len(x.attached) > 0 && (!x.multiattach || v.attachment(x.id) != nil) {
		var on []string
		for _, y := range x.attached {
			on = append(on, y.server.id)
		}
		return fail(400, "Invalid volume: volume %s is already attached to instances: %s", x.id, strings.Join(on, ", "))
	}
	if x.status != "available" && !(x.multiattach && x.status == "in-use") {
		return fail(400, "Invalid input received: Invalid volume: Volume %s status must be available or downloading to reserve, but the current status is %s. (HTTP 400) (Request-ID: req-%s)", x.id, x.status, s.uuid())
	}
	w := q.who()
	made := s.reserve(v, x, false, now)
	s.versioned("volume_attach.start", "InstanceActionVolumePayload", "1.6", v, map[string]any{"volume_id": x.id}, now, w)
	s.at(now.Add(s.o.SettleTime), func(at time.Time) {
		if x.status == "reserved" && v.attachment(x.id) == made {
			s.finishNoisily(made, at, w)
		}
	})
	out := map[string]any{"id": x.id, "serverId": v.id, "volumeId": x.id, "device": null(made.device)}
	if q.version >= 70 {
		out["tag"] = nil
	}
	if q.version >= 79 {
		out["delete_on_termination"] = false
	}
	return ok(map[string]any{"volumeAttachment": out})
}

// detachVolume is DELETE /servers/ID/os-volume_attachments/VOLUME.
func (s *state) detachVolume(q *request, now time.Time) answer {
	v := s.findServer(q)
	if v == nil {
		return noServer(q.args[0])
	}
	a := v.attachment(q.args[1])
	switch {
	case a == nil && s.findVolume(q, q.args[1]) == nil:
		return noVolume(q.args[1])
	case a == nil:
		return fail(404, "Instance %s is not attached to volume %s", v.id, q.args[1])
	case a.boot:
		return fail(403, "Can't detach root device volume")
	}
	if x := v.lockedFor(q); x.status != 0 {
		return x
	}
	if a.volume.status != "in-use" {
		return fail(400, "Invalid volume: Invalid input received: Invalid volume: Unable to detach volume. Volume status must be 'in-use' and attach_status must be 'attached' to detach. (HTTP 400) (Request-ID: req-%s)", s.uuid())
	}
	w := q.who()
	a.volume.status, a.volume.updated = "detaching", now
	s.at(now.Add(s.o.SettleTime), func(at time.Time) {
		if v.attachment(a.volume.id) == a {
			s.detachNoisily(a, at, w)
		}
	})
	return done(202)
}

func (s *state) listFlavors(q *request, _ time.Time) answer {
	f := map[string]any{"id": flavorID, "name": flavorName, "description": nil,
		"links": []link{{"self", s.o.Base + computePath + "/flavors/" + flavorID}, {"bookmark", s.o.Base + "/compute/flavors/" + flavorID}}}
	if strings.HasSuffix(q.route.pattern, "detail") {
		maps.Copy(f, map[string]any{"ram": 64, "disk": 1, "swap": 0, "vcpus": 1, "OS-FLV-EXT-DATA:ephemeral": 0,
			"OS-FLV-DISABLED:disabled": false, "os-flavor-access:is_public": true, "rxtx_factor": 1.0, "extra_specs": map[string]string{}})
	}
	return answer{status: 200, page: &page{name: "flavors", items: []any{f}}}
}
