package simcloud

import (
	"maps"
	"slices"
	"time"
)

// Calls counts the requests since the start or [Cloud.Reset], by normalised
// route: "GET /volume/backups/detail", "POST /compute/servers/ID/metadata",
// "POST /identity/auth/tokens". Refused and broken ones count.
func (c *Cloud) Calls() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.state.calls)
}

// Log is what was asked to be changed, and the status it was answered with, in
// order: "POST backup vol=ID incremental=false -> 202", "DELETE /volume/backups/ID
// ID -> 202". Requests for tokens are not in it.
func (c *Cloud) Log() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.state.log)
}

// Reset forgets calls and log.
func (c *Cloud) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.state.calls)
	c.state.log = nil
}

// Backups are all backups ever created, in the order of creation.
func (c *Cloud) Backups() []Backup {
	var out []Backup
	c.do(func(s *state, _ time.Time) {
		out = make([]Backup, len(s.ever))
		for i, b := range s.ever {
			out[i] = b.truth()
		}
	})
	return out
}

// Backup is the truth about a backup that is there, and about all that are there of
// its volume, oldest first; false where there is none.
func (c *Cloud) Backup(id string) (b Backup, same []Backup, ok bool) {
	c.do(func(s *state, _ time.Time) {
		row := s.backups[id]
		if row == nil {
			return
		}
		b, ok = row.truth(), true
		for _, x := range s.byVolume[row.volume].rows {
			same = append(same, x.truth())
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
	c.do(func(s *state, _ time.Time) {
		for _, v := range s.allVolumes.rows {
			out = append(out, v.truth())
		}
	})
	return out
}

// Volume is the truth about one volume; false where there is none.
func (c *Cloud) Volume(id string) (v Volume, ok bool) {
	c.do(func(s *state, _ time.Time) {
		if row := s.volumes[id]; row != nil {
			v, ok = row.truth(), true
		}
	})
	return v, ok
}

// Servers are all servers that are not deleted, oldest first.
func (c *Cloud) Servers() []Server {
	var out []Server
	c.do(func(s *state, _ time.Time) {
		for _, v := range s.allServers.rows {
			out = append(out, v.truth())
		}
	})
	return out
}

// Server is the truth about one server; false where there is none.
func (c *Cloud) Server(id string) (v Server, ok bool) {
	c.do(func(s *state, _ time.Time) {
		if row := s.servers[id]; row != nil {
			v, ok = row.truth(), true
		}
	})
	return v, ok
}

// Content is what a volume holds; "" at first, and for one that is not there.
func (c *Cloud) Content(volume string) (content string) {
	c.do(func(s *state, _ time.Time) {
		if v := s.volumes[volume]; v != nil {
			content = v.content
		}
	})
	return content
}

// Write changes what a volume holds.
func (c *Cloud) Write(volume, content string) {
	c.do(func(s *state, _ time.Time) {
		if v := s.volumes[volume]; v != nil {
			v.content = content
		}
	})
}
