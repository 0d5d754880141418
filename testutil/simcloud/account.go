package simcloud

import (
	"maps"
	"time"

	"staffeln/testutil/simcloud/model"
)

// Calls counts the requests since the start or [Cloud.Reset], by normalised
// route: "GET /volume/backups/detail", "POST /compute/servers/ID/metadata",
// "POST /identity/auth/tokens". Refused and broken ones count.
func (c *Cloud) Calls() map[string]int {
	calls, _ := c.state.Record(false)
	return calls
}

// Log is what was asked to be changed, and the status it was answered with, in
// order: "POST backup vol=ID incremental=false -> 202", "DELETE /volume/backups/ID
// ID -> 202". Requests for tokens are not in it.
func (c *Cloud) Log() []string {
	_, log := c.state.Record(false)
	return log
}

// Reset forgets calls and log.
func (c *Cloud) Reset() { c.state.Record(true) }

// Backups are all backups ever created, in the order of creation.
func (c *Cloud) Backups() []Backup {
	var out []Backup
	c.do(func(s *model.State, _ time.Time) {
		out = make([]Backup, len(s.Ever))
		for i, b := range s.Ever {
			out[i] = b.Truth()
		}
	})
	return out
}

// Backup is the truth about a backup that is there, and about all that are there of
// its volume, oldest first; false where there is none.
func (c *Cloud) Backup(id string) (b Backup, same []Backup, ok bool) {
	c.do(func(s *model.State, _ time.Time) {
		row := s.Backups[id]
		if row == nil {
			return
		}
		b, ok = row.Truth(), true
		for _, x := range s.ByVolume[row.Volume].Rows {
			same = append(same, x.Truth())
		}
	})
	return b, same, ok
}

// Duplicates are the backups of one volume that have the same value of a metadata
// key, where there is more than one ever created, deleted and failed ones
// included; by "VOLUME VALUE".
func (c *Cloud) Duplicates(key string) map[string][]Backup {
	out := map[string][]Backup{}
	for _, b := range c.Backups() {
		if value, ok := b.Metadata[key]; ok {
			name := b.Volume + " " + value
			out[name] = append(out[name], b)
		}
	}
	maps.DeleteFunc(out, func(_ string, same []Backup) bool { return len(same) < 2 })
	return out
}

// Volumes are all volumes, oldest first.
func (c *Cloud) Volumes() []Volume {
	var out []Volume
	c.do(func(s *model.State, _ time.Time) {
		for _, v := range s.AllVolumes.Rows {
			out = append(out, v.Truth())
		}
	})
	return out
}

// Volume is the truth about one volume; false where there is none.
func (c *Cloud) Volume(id string) (v Volume, ok bool) {
	c.do(func(s *model.State, _ time.Time) {
		if row := s.Volumes[id]; row != nil {
			v, ok = row.Truth(), true
		}
	})
	return v, ok
}

// Servers are all servers that are not deleted, oldest first.
func (c *Cloud) Servers() []Server {
	var out []Server
	c.do(func(s *model.State, _ time.Time) {
		for _, v := range s.AllServers.Rows {
			out = append(out, v.Truth())
		}
	})
	return out
}

// Server is the truth about one server; false where there is none.
func (c *Cloud) Server(id string) (v Server, ok bool) {
	c.do(func(s *model.State, _ time.Time) {
		if row := s.Servers[id]; row != nil {
			v, ok = row.Truth(), true
		}
	})
	return v, ok
}

// Content is what a volume holds; "" at first, and for one that is not there.
func (c *Cloud) Content(volume string) (content string) {
	c.do(func(s *model.State, _ time.Time) {
		if v := s.Volumes[volume]; v != nil {
			content = v.Content
		}
	})
	return content
}

// Write changes what a volume holds.
func (c *Cloud) Write(volume, content string) {
	c.do(func(s *model.State, _ time.Time) {
		if v := s.Volumes[volume]; v != nil {
			v.Content = content
		}
	})
}
