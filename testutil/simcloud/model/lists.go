package model

import (
	"maps"
	"slices"
	"sort"
	"time"
)

// VolumeFor finds a volume that the owner of a token may see; nil if there is none.
func (s *State) VolumeFor(t *Token, id string) *VolumeRow {
	v := s.Volumes[id]
	if v == nil || v.Project != t.Project && !t.Admin() {
		return nil
	}
	return v
}

// SortedKeys are the keys of a map in order.
func SortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// Keyed is a row of a list: sorted by age in whole seconds, then by id.
type Keyed interface {
	comparable
	Key() (created int64, id string)
}

func (s *ServerRow) Key() (int64, string) { return s.Created.Unix(), s.ID }

func (v *VolumeRow) Key() (int64, string) { return v.Created.Unix(), v.ID }

func (b *BackupRow) Key() (int64, string) { return b.Created.Unix(), b.ID }

// Order is a list of rows, oldest first. Lists are told newest first.
type Order[T Keyed] struct{ Rows []T }

// Find is where a row is or would be.
func (o *Order[T]) Find(row T) int {
	at, id := row.Key()
	return sort.Search(len(o.Rows), func(i int) bool {
		a, b := o.Rows[i].Key()
		return a > at || a == at && b >= id
	})
}

// Add puts a row in its place.
func (o *Order[T]) Add(row T) { o.Rows = slices.Insert(o.Rows, o.Find(row), row) }

// Remove takes a row out, if it is in.
func (o *Order[T]) Remove(row T) {
	if i := o.Find(row); i < len(o.Rows) && o.Rows[i] == row {
		o.Rows = slices.Delete(o.Rows, i, i+1)
	}
}

// AddVolume puts a new row into its lists.
func (s *State) AddVolume(v *VolumeRow) {
	s.Volumes[v.ID] = v
	s.AllVolumes.Add(v)
	v.Project.Volumes.Add(v)
	v.Project.Gigabytes += v.Size
}

func (s *State) dropVolume(v *VolumeRow) {
	delete(s.Volumes, v.ID)
	s.AllVolumes.Remove(v)
	v.Project.Volumes.Remove(v)
	v.Project.Gigabytes -= v.Size
}

// AddServer puts a new row into its lists.
func (s *State) AddServer(v *ServerRow) {
	s.Servers[v.ID] = v
	s.AllServers.Add(v)
	v.Project.Servers.Add(v)
}

func (s *State) dropServer(v *ServerRow) {
	delete(s.Servers, v.ID)
	s.AllServers.Remove(v)
	v.Project.Servers.Remove(v)
	s.DeletedServers = append(s.DeletedServers, v)
}

// AddBackup puts a new row into its lists and gives it its number.
func (s *State) AddBackup(b *BackupRow) {
	s.seq++
	b.seq = s.seq
	s.Backups[b.ID] = b
	s.AllBackups.Add(b)
	b.Project.Backups.Add(b)
	b.Project.BackupGB += b.Size
	of := s.ByVolume[b.Volume]
	if of == nil {
		of = &Order[*BackupRow]{}
		s.ByVolume[b.Volume] = of
	}
	of.Add(b)
	s.Ever = append(s.Ever, b)
}

// DropBackup takes a row out of its lists. It stays among those there ever were.
func (s *State) DropBackup(b *BackupRow, at time.Time) {
	delete(s.Backups, b.ID)
	s.AllBackups.Remove(b)
	b.Project.Backups.Remove(b)
	b.Project.BackupGB -= b.Size
	if of := s.ByVolume[b.Volume]; of != nil {
		of.Remove(b)
		if len(of.Rows) == 0 {
			delete(s.ByVolume, b.Volume)
		}
	}
	// One that failed was never counted in, and is counted out all the same: what is
	// told of the children drifts (cinder/backup/manager.py, delete_backup).
	if b.Parent != nil && b.Parent.Dependents > 0 {
		b.Parent.Dependents--
	}
	b.Status, b.deleted = "deleted", at
}
