package keep

import (
	"cmp"
	"maps"
	"slices"

	"staffeln/functions/backup"
)

// complete says that it is a restore point: an incremental could have been built on it at any
// time since.
func complete(b backup.CinderBackup) bool { return b.Status == "available" || b.Status == "restoring" }

// lineal says that a backup may build on it. Cinder builds only on available backups
// (cinder/backup/api.py, create), so never on one that failed or is still being made, unless Cinder
// itself says that something builds on it.
func lineal(b backup.CinderBackup) bool {
	return b.Dependents || b.Status != "error" && b.Status != "creating"
}

// A lineage says which backups of a volume may build on which. Cinder's API shows no parents, but a
// parent is always older than its child, and never older than the last full backup that existed
// before the child. All backups made in the same second form a group, in which the order is not known.
type lineage struct {
	items []*item // oldest first
	// groups are their first and last items. whole are the groups with a full backup: no backup builds
	// on anything before the last whole group that precedes its own.
	groups []struct{ from, to int }
	whole  []bool
	// ends is, for each group, the last group whose backups may build on it: the one with the next full
	// backup, since a backup of the same second may have been made before that full one.
	ends []int
	// told are the children and parents that notifications named and the order does not show.
	told [][2]*item
	// ids are the ids of all incrementals; before is, for each group, how many are in earlier groups.
	ids    []string
	before []int
}

func lineageOf(items []*item, parents map[string]string) *lineage {
	l := &lineage{items: items}
	byID := map[string]*item{}
	chain := ""
	for i, it := range items {
		if i == 0 || !it.b.Created.Equal(items[i-1].b.Created) {
			l.groups = append(l.groups, struct{ from, to int }{from: i})
			l.whole = append(l.whole, false)
			l.before = append(l.before, len(l.ids))
		}
		it.group = len(l.groups) - 1
		l.groups[it.group].to = i + 1
		if !it.b.Incremental {
			it.chain = it.b.ID
			if complete(it.b) {
				l.whole[it.group], chain = true, it.b.ID
			}
		} else {
			chain = cmp.Or(chain, it.b.ID) // its full backup is not there
			it.chain = chain
			l.ids = append(l.ids, it.b.ID)
		}
		if len(parents) > 0 {
			byID[it.b.ID] = it
		}
	}
	l.before = append(l.before, len(l.ids))
	l.ends = make([]int, len(l.groups))
	for g, end := len(l.groups)-1, len(l.groups)-1; g >= 0; g-- {
		l.ends[g] = end
		if l.whole[g] {
			end = g
		}
	}
	if len(parents) > 0 {
		for _, child := range items {
			parent := byID[parents[child.b.ID]]
			if parent == nil || parent == child {
				continue
			}
			if shown := child.b.Incremental && lineal(parent.b) && l.within(parent.group, child.group); !shown {
				l.told = append(l.told, [2]*item{child, parent})
			}
		}
	}
	return l
}

// within says that a backup of group child may build on one of group parent.
func (l *lineage) within(parent, child int) bool {
	return parent <= child && child <= l.ends[parent]
}

// A keeper is the backup that stays longest among those that may build on something.
type keeper struct {
	stay stay
	by   *item
}

func (k *keeper) add(it *item) {
	if !it.b.Incremental || !it.kept.yes || k.stay.outlasts(it.kept) {
		return
	}
	// Of two that stay equally long, name the one with a reason of its own.
	if it.kept.outlasts(k.stay) || it.stay.yes && !k.by.stay.yes {
		k.stay, k.by = it.kept, it
	}
}

func (s stay) outlasts(o stay) bool {
	return s.yes && (!o.yes || !o.always && (s.always || s.until.After(o.until)))
}

// spread keeps every backup that a kept backup may build on. It is called for ours first, and then for
// others': a backup that stays only because of others' is a hostage.
func (l *lineage) spread(theirs bool) {
	for _, it := range l.items {
		if it.ours != theirs && it.stay.outlasts(it.kept) {
			it.kept = it.stay
		}
	}
	pull := func(it *item, k keeper) bool {
		if !k.stay.outlasts(it.kept) || it.b.Status == "deleting" || it.b.Status == "deleted" {
			return false
		}
		if !it.kept.yes {
			it.hostage = theirs && it.ours
		}
		if !it.kept.yes || it.by != nil && !theirs {
			it.by = k.by
		}
		it.kept = k.stay
		return true
	}
	for again := true; again; {
		again = false
		var above keeper // of the later groups that may build on this one
		for g := len(l.groups) - 1; g >= 0; g-- {
			group := l.items[l.groups[g].from:l.groups[g].to]
			all := above
			for _, it := range group {
				all.add(it)
			}
			for _, it := range group {
				// The keeper of the group may be it itself; then it stays already.
				if lineal(it.b) {
					pull(it, all)
				}
			}
			if l.whole[g] {
				above = keeper{}
			}
			for _, it := range group {
				above.add(it)
			}
		}
		for _, t := range l.told {
			if child, parent := t[0], t[1]; child.kept.yes && pull(parent, keeper{child.kept, child}) {
				again = true
			}
		}
	}
}

// children are the ids of all backups that may build on the ith.
func (l *lineage) children(i int) []string {
	it := l.items[i]
	var ids []string
	if lineal(it.b) {
		from, to := l.before[it.group], l.before[l.ends[it.group]+1]
		if it.b.Incremental && from < to && l.ids[from] == it.b.ID {
			from++
		}
		ids = l.ids[from:to:to]
		if at := slices.Index(ids[:max(l.before[it.group+1]-from, 0)], it.b.ID); at >= 0 {
			ids = slices.Delete(slices.Clone(ids), at, at+1)
		}
	}
	for _, t := range l.told {
		if t[1] == it {
			ids = append(ids[:len(ids):len(ids)], t[0].b.ID)
		}
	}
	return ids
}

// A Step is what to do next about the removals of a volume.
type Step struct {
	// Delete can be asked for now: nothing builds on them.
	Delete []Fate
	// Wait are being deleted, or wait for a child of ours that is.
	Wait []Fate
	// Stuck cannot be deleted until somebody acts: the reason in words, by id. It is a child that is not
	// ours, the status error_deleting, or dependents that Cinder counts wrongly.
	Stuck map[string]string
}

// NextStep orders the removals: children first. It may be called again in the same pass, without the
// backups that have gone, and with the status deleting for those that Cinder was asked to delete.
func NextStep(fates []Fate) Step {
	s := Step{Stuck: map[string]string{}}
	at := make(map[string]int, len(fates)) // by id, of those that are still there
	for i, f := range fates {
		if f.Backup.Status != "deleted" {
			at[f.Backup.ID] = i
		}
	}
	// moves are those that go soon, or will be asked for when others have gone.
	moves := make([]bool, len(fates))
	waits := map[int]waiting{}
	for i, f := range fates {
		switch id := f.Backup.ID; {
		case f.Backup.Status == "deleted" || at[id] != i:
		case f.Keep && f.Hostage:
			s.Stuck[id] = f.Why
		case f.Keep:
		case f.Backup.Status == "deleting":
			moves[i], s.Wait = true, append(s.Wait, f)
		case f.Backup.Status == "error_deleting":
			s.Stuck[id] = "Cinder failed to delete it (error_deleting): an admin has to reset its status"
		case f.Backup.Dependents && len(f.Children) == 0:
			s.Stuck[id] = "Cinder says that backups build on it, and shows none (has_dependent_backups)"
		default:
			if w := f.waitsFor(fates, at); len(w.children) == 0 && len(w.twins) == 0 {
				moves[i], s.Delete = true, append(s.Delete, f)
			} else {
				waits[i] = w
			}
		}
	}
	// A child is usually newer, so going backward once is nearly always enough.
	order := slices.SortedFunc(maps.Keys(waits), func(a, b int) int { return b - a })
	for again := true; again; {
		again = false
		for _, i := range order {
			if !moves[i] && waits[i].blocker(moves) < 0 {
				moves[i], again = true, true
			}
		}
	}
	for _, i := range order {
		if child := waits[i].blocker(moves); child < 0 {
			s.Wait = append(s.Wait, fates[i])
		} else {
			s.Stuck[fates[i].Backup.ID] = "incremental " + fates[child].Backup.ID +
				", which cannot be removed, builds on it"
		}
	}
	return s
}

// waiting is what has to go before a backup does.
type waiting struct {
	children []int
	// twins were made in the same second, so each may build on the other. They count only if Cinder
	// says that something builds on the backup.
	twins []int
	// gone says that others have gone which Cinder may have meant.
	gone bool
}

// blocker is a child that will not go; -1 if all go.
func (w waiting) blocker(moves []bool) int {
	meant := w.gone
	for _, child := range w.children {
		if !moves[child] {
			return child
		}
		meant = true
	}
	for _, twin := range w.twins {
		meant = meant || moves[twin]
	}
	if !meant {
		return w.twins[0]
	}
	return -1 // of the twins Cinder tells then which is whose parent
}

// waitsFor finds what has to go before f.
func (f Fate) waitsFor(fates []Fate, at map[string]int) (w waiting) {
	for _, id := range f.Children {
		i, there := at[id]
		if !there {
			w.gone = true
			continue
		}
		child := fates[i]
		twin := child.Backup.Created.Equal(f.Backup.Created) && slices.Contains(child.Children, f.Backup.ID)
		switch {
		case child.Keep || !twin:
			w.children = append(w.children, i)
		case f.Backup.Dependents:
			w.twins = append(w.twins, i)
		}
	}
	return w
}
