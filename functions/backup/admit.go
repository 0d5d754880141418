package backup

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Bounds are the limits in force: what the operator set, else what the
// cinder-backup services that are up can bear, halved while Cinder is under
// strain. A project may have half of the cloud's at most, so that there is always
// room for another. perService is how many backups one service is given at a time.
func Bounds(set Limits, s Services, perService, halvings int) Limits {
	l := set
	if l.Cloud == 0 {
		l.Cloud = perService
		if s.Known {
			l.Cloud = perService * s.Up
		}
	}
	for range halvings {
		l.Cloud = max(l.Cloud/2, min(l.Cloud, 1))
	}
	if l.Project == 0 {
		l.Project = (l.Cloud + 1) / 2
	}
	l.Project = min(l.Project, l.Cloud)
	return l
}

// Room is what limits leave room for. It counts the runs under way, and those that are
// added to them.
type Room struct {
	Limits  Limits
	total   int
	project map[string]int
	backend map[string]int
}

// NewRoom is the room beside the runs under way.
func NewRoom(l Limits, now InFlight) *Room {
	r := &Room{Limits: l, total: now.Total, project: map[string]int{}, backend: map[string]int{}}
	maps.Copy(r.project, now.ByProject)
	maps.Copy(r.backend, now.ByBackend)
	return r
}

// Full says which limit a run of the volume would exceed; "" where there is room.
func (r *Room) Full(v Protected) string {
	l, inProject, onBackend := r.Limits, r.project[v.Project], r.backend[v.Backend]
	switch {
	case r.total >= l.Cloud:
		return fmt.Sprintf("cloud limit: %d of %d running", r.total, l.Cloud)
	case l.Project > 0 && inProject >= l.Project:
		return fmt.Sprintf("project limit: %d of %d running", inProject, l.Project)
	case l.Backend > 0 && v.Backend != "" && onBackend >= l.Backend:
		return fmt.Sprintf("limit of backend %s: %d of %d running", v.Backend, onBackend, l.Backend)
	}
	return ""
}

// Take counts a run of the volume as under way.
func (r *Room) Take(v Protected) {
	r.total++
	r.project[v.Project]++
	r.backend[v.Backend]++
}

// Left is how many runs of a project the limits of cloud and project leave room for.
func (r *Room) Left(project string) int {
	left := r.Limits.Cloud - r.total
	if r.Limits.Project > 0 {
		left = min(left, r.Limits.Project-r.project[project])
	}
	return max(left, 0)
}

// InTurn puts due volumes, the longest due first, into the order in which they may start:
// one of each project in turn. The project with fewer runs under way comes first; among
// equals the one that waits longest.
func InTurn[T any](due []T, project func(T) string, now InFlight) []T {
	groups := ByProject(due, project)
	slices.SortStableFunc(groups, func(a, b []T) int {
		return cmp.Compare(now.ByProject[project(a[0])], now.ByProject[project(b[0])])
	})
	out := make([]T, 0, len(due))
	for round := 0; len(out) < len(due); round++ {
		for _, g := range groups {
			if round < len(g) {
				out = append(out, g[round])
			}
		}
	}
	return out
}

// VolumeLimit is how many volumes of a project may be protected, 0 for any number: what
// is set for its id, else for its name, else for all.
func VolumeLimit(all int, special map[string]int, p Project) int {
	for _, key := range []string{p.ID, p.Name} {
		if n, ok := special[key]; ok && key != "" {
			return n
		}
	}
	return all
}

// Ranks are the places, from 0, of a project's volumes among those that count for its
// volume limit: by when Cinder made them, the oldest first, then by id. Volumes that their
// owner wants left out do not count. The ledger keeps the same order in its index.
func Ranks(volumes []Protected) map[string]int {
	count := slices.DeleteFunc(slices.Clone(volumes), func(v Protected) bool { return v.Skip != "" })
	slices.SortFunc(count, func(a, b Protected) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Volume, b.Volume))
	})
	rank := map[string]int{}
	for i, v := range count {
		rank[v.Volume] = i
	}
	return rank
}

// ByProject parts a list by project, which is what one look at OpenStack is good
// for; the order stays.
func ByProject[T any](all []T, project func(T) string) [][]T {
	index := map[string]int{}
	var groups [][]T
	for _, v := range all {
		i, ok := index[project(v)]
		if !ok {
			i = len(groups)
			index[project(v)], groups = i, append(groups, nil)
		}
		groups[i] = append(groups[i], v)
	}
	return groups
}
