package backup

import (
	"cmp"
	"fmt"
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

// A Pick is the decision whether a volume whose turn it is may start now.
type Pick struct {
	Volume Protected
	OK     bool
	Why    string
}

// Pick chooses who may start, from volumes in the order in which they became due:
// one of each project in turn, until a limit is reached.
func (l Limits) Pick(due []Protected, now InFlight) []Pick {
	turns := map[string][]Protected{}
	var projects []string
	for _, v := range due {
		if _, ok := turns[v.Project]; !ok {
			projects = append(projects, v.Project)
		}
		turns[v.Project] = append(turns[v.Project], v)
	}
	// A project with fewer under way comes first; among equals the one that waits longest.
	slices.SortStableFunc(projects, func(a, b string) int { return cmp.Compare(now.ByProject[a], now.ByProject[b]) })
	total := now.Total
	project, backend := map[string]int{}, map[string]int{}
	var out []Pick
	for len(projects) > 0 {
		var left []string
		for _, p := range projects {
			v := turns[p][0]
			turns[p] = turns[p][1:]
			if len(turns[p]) > 0 {
				left = append(left, p)
			}
			pick := Pick{Volume: v}
			inProject, onBackend := now.ByProject[p]+project[p], now.ByBackend[v.Backend]+backend[v.Backend]
			switch {
			case l.Cloud > 0 && total >= l.Cloud || l.Cloud == 0:
				pick.Why = fmt.Sprintf("cloud limit: %d of %d running", total, l.Cloud)
			case l.Project > 0 && inProject >= l.Project:
				pick.Why = fmt.Sprintf("project limit: %d of %d running", inProject, l.Project)
			case l.Backend > 0 && v.Backend != "" && onBackend >= l.Backend:
				pick.Why = fmt.Sprintf("limit of backend %s: %d of %d running", v.Backend, onBackend, l.Backend)
			default:
				pick.OK, pick.Why = true, "there is room"
				total++
				project[p]++
				backend[v.Backend]++
			}
			out = append(out, pick)
		}
		projects = left
	}
	return out
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
