package cinder

import (
	"strconv"
	"strings"
	"time"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
)

// backupJSON is a backup as the API tells it. Source: cinder/api/views/backups.py
// and cinder/api/v3/backups.py.
type backupJSON struct {
	ID          string            `json:"id"`
	Status      string            `json:"status"`
	Size        int               `json:"size"`
	Objects     int               `json:"object_count"`
	Zone        *string           `json:"availability_zone"`
	Container   *string           `json:"container"`
	Created     *string           `json:"created_at"`
	Updated     *string           `json:"updated_at"`
	Name        *string           `json:"name"`
	Description *string           `json:"description"`
	FailReason  *string           `json:"fail_reason"`
	Volume      string            `json:"volume_id"`
	Links       []api.Link        `json:"links"`
	Incremental bool              `json:"is_incremental"`
	Dependents  bool              `json:"has_dependent_backups"`
	Snapshot    *string           `json:"snapshot_id"`
	Data        *string           `json:"data_timestamp"`
	Metadata    map[string]string `json:"metadata,omitzero"` // from 3.43
	Project     string            `json:"os-backup-project-attr:project_id,omitempty"`
	User        string            `json:"user_id,omitempty"`
}

func backupView(s *model.State, q *api.Request, b *model.BackupRow) *backupJSON {
	out := &backupJSON{ID: b.ID, Status: b.Status, Size: b.Size, Container: api.OrNull(b.Container),
		Created: api.CinderAt(b.Created), Updated: api.CinderAt(b.Updated), Name: api.OrNull(b.Name),
		Description: api.OrNull(b.Description),
		FailReason:  api.OrNull(b.FailReason), Volume: b.Volume, Links: links(s, q, "backups", b.ID),
		Incremental: b.Parent != nil, Dependents: b.Dependents > 0, Data: api.CinderAt(b.Created)}
	if q.Version >= 43 {
		out.Metadata = b.Metadata
	}
	if q.Makers {
		if q.Version >= 18 {
			out.Project = b.Project.ID
		}
		if q.Version >= 56 {
			out.User = b.User
		}
	}
	return out
}

// FindBackup finds a backup that whoever asks may see; nil if there is none.
func FindBackup(s *model.State, q *api.Request, id string) *model.BackupRow {
	b := s.Backups[id]
	if b == nil || b.Project != q.Token.Project && !q.Token.Admin() {
		return nil
	}
	return b
}

func noBackup(id string) api.Answer { return api.Fail(404, "Backup %s could not be found.", id) }

// listBackups is GET /backups and /backups/detail.
func listBackups(s *model.State, q *api.Request, _ time.Time) api.Answer {
	limit, a := pageLimit(q, s.Options.PageLimit)
	if a.Status != 0 {
		return a
	}
	filters, a := filters(q, []string{"name", "status", "volume_id"})
	if a.Status != 0 {
		return a
	}
	all, a := everywhere(q)
	if a.Status != 0 {
		return a
	}
	ascending, a := sorting(q)
	if a.Status != 0 {
		return a
	}
	var marker *model.BackupRow
	if id := q.Query.Get("marker"); id != "" {
		if marker = FindBackup(s, q, id); marker == nil {
			return noBackup(id)
		}
	}
	rows := &model.Order[*model.BackupRow]{}
	of := s.ByVolume[filters["volume_id"]]
	switch {
	case filters["volume_id"] != "" && of != nil:
		rows = of // whose projects are looked at below
	case filters["volume_id"] != "":
	case !all && q.Token.Project != nil:
		rows = &q.Token.Project.Backups
	case all && filters["project_id"] != "":
		if p := s.Tenants[filters["project_id"]]; p != nil {
			rows = &p.Backups
		}
	case all:
		rows = &s.AllBackups
	}
	detail := strings.HasSuffix(q.Route.Pattern, "detail")
	if detail {
		if a := askMakers(s, q); a.Status != 0 {
			return a
		}
	}
	l := api.Listing[*model.BackupRow]{Q: q, Limit: limit, Name: "backups", Path: cinderBase(s, q) + "/" + q.Route.Pattern,
		ID: func(b *model.BackupRow) string { return b.ID },
		Keep: func(b *model.BackupRow) bool {
			if !all && b.Project != q.Token.Project {
				return false
			}
			for k, want := range filters {
				var have string
				switch k {
				case "name":
					have = b.Name
				case "status":
					have = b.Status
				case "volume_id":
					have = b.Volume
				case "project_id":
					have = b.Project.ID
				case "id":
					have = b.ID
				case "user_id":
					have = b.User
				case "size":
					have = strconv.Itoa(b.Size)
				case "parent_id":
					if b.Parent != nil {
						have = b.Parent.ID
					}
				default: // metadata too: an admin's filter by it finds nothing
					return false
				}
				if have != want {
					return false
				}
			}
			return true
		},
		View: func(b *model.BackupRow) any {
			if detail {
				return backupView(s, q, b)
			}
			return summaryJSON{b.ID, api.OrNull(b.Name), links(s, q, "backups", b.ID)}
		}}
	p := l.Page(rows, marker, ascending)
	withCount(&l, p, rows)
	return api.Answer{Status: 200, Page: p}
}

func showBackup(s *model.State, q *api.Request, _ time.Time) api.Answer {
	b := FindBackup(s, q, q.Args[0])
	if b == nil {
		return noBackup(q.Args[0])
	}
	if a := askMakers(s, q); a.Status != 0 {
		return a
	}
	return api.OK(map[string]any{"backup": backupView(s, q, b)})
}

func backupSummary(s *model.State, q *api.Request, b *model.BackupRow) any {
	return map[string]any{"backup": summaryJSON{b.ID, api.OrNull(b.Name), links(s, q, "backups", b.ID)}}
}
