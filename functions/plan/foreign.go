package plan

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"staffeln/functions/backup"
)

// A Foreign is a backup that carries the metadata of an automated one and does not count
// as one: it is kept, and nothing goes by it.
type Foreign struct {
	Project     string `json:"project"`
	ProjectName string `json:"project_name"`
	Volume      string `json:"volume"`
	// VolumeName is "" where the volume is not there any more.
	VolumeName string    `json:"volume_name"`
	Backup     string    `json:"backup"`
	Name       string    `json:"name"`
	Created    time.Time `json:"created"`
	// Maker is the id of the user who made it, "" where Cinder does not show it.
	Maker string `json:"maker"`
	// Origin is "forged" or "unverified".
	Origin backup.Origin `json:"origin"`
	Why    string        `json:"why"`
}

// foreign are all such backups.
func (j *judge) foreign() []Foreign {
	out := []Foreign{}
	seen := map[string]bool{} // lists can show a backup twice
	for _, b := range j.Facts.Backups {
		if !b.Foreign() || seen[b.ID] {
			continue
		}
		seen[b.ID] = true
		f := backup.ForeignOf(b)
		row := Foreign{Project: b.Project, Volume: b.Volume, Backup: b.ID, Name: b.Name, Created: b.Created.UTC(),
			Maker: b.Maker, Origin: cmp.Or(b.Origin, backup.OriginUnverified), Why: f.Why()}
		if v, ok := j.protected.cinder[b.Volume]; ok && v.Project == b.Project {
			row.VolumeName = v.Name
		}
		out = append(out, row)
	}
	return out
}

func sortForeign(all []Foreign) {
	slices.SortFunc(all, func(a, b Foreign) int {
		return cmp.Or(strings.Compare(a.ProjectName, b.ProjectName), strings.Compare(a.Project, b.Project),
			strings.Compare(a.VolumeName, b.VolumeName), strings.Compare(a.Volume, b.Volume),
			a.Created.Compare(b.Created), strings.Compare(a.Backup, b.Backup))
	})
}

// believed is what to know of a plan without a ledger where Cinder does not show who
// made a backup; see [Witness].
func (j *judge) believed() []Warning {
	n := 0
	for _, b := range j.Facts.Backups {
		if b.Ours() && b.Maker == "" {
			n++
		}
	}
	if n == 0 || j.Memory != nil {
		return nil
	}
	return []Warning{{Why: fmt.Sprintf("Cinder does not show who made backups, and no ledger was asked, which knows it: %d count as automated here by their metadata alone, and the service may know better", n)}}
}

// A Witness tells a plan which backups the service made, where Cinder does not show it:
// the ledger's word, or, without a ledger that answers, that of the backups' metadata. A
// plan changes nothing, and most backups with our metadata are ours.
type Witness struct {
	// Ledger may be nil.
	Ledger interface {
		Evidence(ctx context.Context, project string, backups []backup.CinderBackup) (backup.Evidence, error)
	}

	mu   sync.Mutex
	lost error
}

// Evidence is what is known about who made these backups of a project.
func (w *Witness) Evidence(ctx context.Context, project string, backups []backup.CinderBackup) (backup.Evidence, error) {
	if w.Ledger != nil && w.Lost() == nil {
		e, err := w.Ledger.Evidence(ctx, project, backups)
		if err == nil || ctx.Err() != nil {
			return e, err
		}
		w.mu.Lock()
		w.lost = err // one that is down is not asked about every project
		w.mu.Unlock()
	}
	e := backup.Evidence{Made: map[string]bool{}}
	for _, b := range backups {
		e.Made[b.ID] = b.Maker == ""
	}
	return e, nil
}

// Lost is why the ledger did not tell; nil while it did, and where there is none.
func (w *Witness) Lost() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost
}
