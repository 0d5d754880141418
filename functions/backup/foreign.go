package backup

import (
	"cmp"
	"slices"
)

// A DigestForeign is a backup that carries our metadata and does not count as ours, as
// the owner is told of it.
type DigestForeign struct {
	Backup string `json:"backup"`
	// Name is its name, or its id where it has none; Volume is its volume's, likewise.
	Name   string `json:"name"`
	Volume string `json:"volume"`
	// Origin is [OriginForged] or [OriginUnverified].
	Origin Origin `json:"origin"`
	// New says that no digest has told of it.
	New bool `json:"new,omitempty"`
}

// tellForeign tells of the backups that only look like ours: the new ones first.
func (d *Digest) tellForeign(in DigestInput) {
	names := map[string]string{}
	for _, v := range in.Volumes {
		names[v.Volume] = v.Name
	}
	for _, f := range in.Foreign {
		d.Foreign = append(d.Foreign, DigestForeign{Backup: f.Backup, Name: or(f.Name, f.Backup), Volume: or(names[f.Volume], f.Volume),
			Origin: f.Origin, New: !slices.Contains(in.ForeignTold, f.Backup)})
	}
	slices.SortFunc(d.Foreign, func(a, b DigestForeign) int {
		return cmp.Or(boolean(b.New)-boolean(a.New), cmp.Compare(a.Volume, b.Volume), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Backup, b.Backup))
	})
}

// ForeignIDs are the ids of the backups that the digest tells of as not ours: what the
// next one needs to know.
func (d Digest) ForeignIDs() (ids []string) {
	for _, f := range d.Foreign {
		ids = append(ids, f.Backup)
	}
	slices.Sort(ids)
	return ids
}
