package cinder

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
)

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
	Links            []api.Link        `json:"links"`
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

func volumeView(s *model.State, q *api.Request, v *model.VolumeRow, fresh bool) *volumeJSON {
	admin := q.Token.Admin()
	out := &volumeJSON{ID: v.ID, Status: v.Status, Size: v.Size, Zone: "nova", Created: api.CinderAt(v.Created),
		Updated: api.CinderAt(v.Updated), Name: api.OrNull(v.Name), Description: api.OrNull(v.Description),
		Type:     model.VolumeTypeName,
		Metadata: v.Metadata, Links: links(s, q, "volumes", v.ID), User: v.User, Bootable: strconv.FormatBool(v.Bootable),
		Multiattach: v.Multiattach, Attachments: []attachmentJSON{}}
	if fresh { // the answer of a create is made before the row is read back
		out.Updated = nil
		precise := v.Created.UTC().Format(api.Stamp)
		out.Created = &precise
	}
	for _, a := range v.Attached {
		if !a.Done {
			continue
		}
		at := attachmentJSON{ID: v.ID, Attachment: a.ID, Volume: v.ID, Server: a.Server.ID, Device: a.Device,
			At: api.CinderAt(a.At)}
		if admin {
			at.Host = api.OrNull(s.Options.Host())
		}
		out.Attachments = append(out.Attachments, at)
	}
	if q.Version >= 13 {
		out.GroupID = &api.JSONNull
	}
	if q.Version >= 48 {
		out.SharedTargets = &fresh // unknown, and then taken for true, until it is made
		out.ServiceUUID = &api.JSONNull
	}
	if q.Version >= 63 {
		out.TypeID = model.VolumeType
	}
	if fresh {
		return out
	}
	out.Tenant = v.Project.ID
	if admin {
		out.volumeAdminJSON = &volumeAdminJSON{}
		if q.Version >= 21 {
			out.Provider = &api.JSONNull
		}
		if q.Version >= 61 {
			out.Cluster = &api.JSONNull
		}
		if v.Scheduled {
			out.Host = api.OrNull(s.Options.Host() + "@ceph#ceph")
		}
	}
	return out
}

// listVolumes is GET /volumes and /volumes/detail.
func listVolumes(s *model.State, q *api.Request, _ time.Time) api.Answer {
	all, a := everywhere(q)
	if a.Status != 0 {
		return a
	}
	limit, a := pageLimit(q, s.Options.PageLimit)
	if a.Status != 0 {
		return a
	}
	ascending, a := sorting(q)
	if a.Status != 0 {
		return a
	}
	filters, a := filters(q, []string{"name", "status", "metadata", "bootable", "migration_status",
		"availability_zone", "group_id", "size", "created_at", "updated_at", "consumes_quota"})
	if a.Status != 0 {
		return a
	}
	rows := &model.Order[*model.VolumeRow]{}
	switch {
	case !all && q.Token.Project != nil:
		rows = &q.Token.Project.Volumes
	case all && filters["project_id"] != "":
		if p := s.Tenants[filters["project_id"]]; p != nil {
			rows = &p.Volumes
		}
	case all:
		rows = &s.AllVolumes
	}
	var marker *model.VolumeRow
	if id := q.Query.Get("marker"); id != "" {
		if marker = s.VolumeFor(q.Token, id); marker == nil {
			return api.NoVolume(id)
		}
	}
	wanted := map[string]string{}
	if m := filters["metadata"]; m != "" {
		wanted = pythonDict(m)
	}
	detail := strings.HasSuffix(q.Route.Pattern, "detail")
	l := api.Listing[*model.VolumeRow]{Q: q, Limit: limit, Name: "volumes", Path: cinderBase(s, q) + "/" + q.Route.Pattern,
		ID: func(v *model.VolumeRow) string { return v.ID },
		Keep: func(v *model.VolumeRow) bool {
			for k, want := range filters {
				var have string
				switch k {
				case "name":
					have = v.Name
				case "status":
					have = v.Status
				case "project_id":
					have = v.Project.ID
				case "bootable":
					have, want = strconv.FormatBool(v.Bootable), strings.ToLower(want)
				case "size":
					have = strconv.Itoa(v.Size)
				case "id":
					have = v.ID
				case "availability_zone":
					have = "nova"
				case "user_id":
					have = v.User
				case "metadata":
					for k, x := range wanted {
						if v.Metadata[k] != x {
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
		View: func(v *model.VolumeRow) any {
			if detail {
				return volumeView(s, q, v, false)
			}
			return summaryJSON{v.ID, api.OrNull(v.Name), links(s, q, "volumes", v.ID)}
		}}
	p := l.Page(rows, marker, ascending)
	withCount(&l, p, rows)
	return api.Answer{Status: 200, Page: p}
}

func showVolume(s *model.State, q *api.Request, _ time.Time) api.Answer {
	v := s.VolumeFor(q.Token, q.Args[0])
	if v == nil {
		return api.NoVolume(q.Args[0])
	}
	return api.OK(map[string]any{"volume": volumeView(s, q, v, false)})
}
