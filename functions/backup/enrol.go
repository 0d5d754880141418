package backup

import (
	"maps"
	"slices"
	"strings"
)

// Enrol is what the ledger should remember of an opted-in server and its volumes.
// A volume that is missing from the map is left out of both; missing names them.
func Enrol(s Server, w Wish, volumes map[string]Volume, keys Keys) (e Enrolment, protected []Protected, missing []string) {
	e = Enrolment{
		Server: s.ID, Name: plain(s.Name, 64), Project: s.Project, Class: w.Class,
		Schedule: w.Schedule, Retention: w.Retention, Problems: w.Problems, Words: w.Words,
	}
	for _, id := range s.Volumes {
		v, ok := volumes[id]
		switch {
		case !ok || v.Project != "" && v.Project != s.Project:
			// Of another project: only an administrator can attach such a one, and a token
			// of the server's project cannot back it up.
			missing = append(missing, id)
		case !slices.Contains(e.Volumes, id):
			e.Volumes = append(e.Volumes, id)
			protected = append(protected, Protected{
				Volume: v.ID, Project: s.Project, Name: plain(v.Name, 64), Size: v.Size, Backend: v.Backend,
				Created: v.Created, Skip: Skips(v.Metadata, keys),
			})
		}
	}
	return e, protected, missing
}

// SameAs says whether two readings of a server come to the same.
func (e Enrolment) SameAs(o Enrolment) bool {
	sorted := func(ids []string) []string { return slices.Sorted(slices.Values(ids)) }
	return e.Server == o.Server && e.Name == o.Name && e.Project == o.Project && e.Class == o.Class &&
		e.Schedule == o.Schedule && e.Retention == o.Retention && e.Words == o.Words && e.Attempt.sameAs(o.Attempt) &&
		slices.Equal(e.Problems, o.Problems) && slices.Equal(sorted(e.Volumes), sorted(o.Volumes))
}

// SameFacts says whether two readings of a volume come to the same.
func (p Protected) SameFacts(o Protected) bool {
	return p.Volume == o.Volume && p.Project == o.Project && p.Name == o.Name && p.Size == o.Size &&
		p.Backend == o.Backend && p.Created.Equal(o.Created) && p.Skip == o.Skip && p.Attempt.sameAs(o.Attempt)
}

// A Glance is what a notification tells of a server without asking anybody.
type Glance struct {
	Name string
	// Metadata counts if HasMetadata, Tags if HasTags.
	Metadata    map[string]string
	HasMetadata bool
	Tags        []string
	HasTags     bool
	// Deleted: it is gone. StateOnly: only states moved. Opaque: nothing can be read.
	Deleted, StateOnly, Opaque bool
	// VolumeChange: a volume came or went.
	VolumeChange bool
	// Stamp is the value of the metadata that the service itself writes.
	Stamp string
}

// WorthLooking decides whether a notification about a server calls for reading the
// server. known is what the ledger remembers, if enrolled; stamp what was last
// written to it by the service, whose echo is no news.
func WorthLooking(g Glance, known Enrolment, enrolled bool, stamp string, keys Keys) (bool, string) {
	switch {
	case g.Opaque:
		return true, "the notification cannot be read"
	case g.Deleted:
		return enrolled, "deleted"
	case g.VolumeChange:
		return enrolled, "its volumes changed"
	case !enrolled && g.HasMetadata && hasAny(g.Metadata, keys.OptIn):
		if slices.Contains(no, strings.ToLower(strings.TrimSpace(g.Metadata[keys.OptIn]))) {
			return false, "its metadata opt out, which no tag overrules"
		}
		return true, "it may have opted in"
	case !enrolled && g.HasTags:
		return words(nil, g.Tags, keys) != "", "it may have opted in by a tag"
	case g.StateOnly:
		return false, "only its state changed"
	case !enrolled:
		// An older notification has no tags: they may be what changed.
		return g.HasMetadata, "its tags are not told"
	case !g.HasMetadata:
		return true, "its metadata are not told"
	case plain(g.Name, 64) != known.Name:
		return true, "renamed"
	}
	// Compare only what the notification tells of: metadata always, tags maybe.
	now, before := words(g.Metadata, g.Tags, keys), known.Words
	if !g.HasTags {
		before = withoutTags(before)
	}
	switch {
	case now != before:
		return true, "its wishes changed"
	case g.HasTags:
		return false, "nothing new"
	case g.Stamp != "" && g.Stamp == stamp:
		return false, "the echo of our own writing, or nothing new"
	}
	// Same metadata, nothing of ours: a change of tags, told by an older notification.
	return withoutTags(known.Words) != known.Words || !hasAny(g.Metadata, keys.OptIn), "its tags are not told"
}

func hasAny(m map[string]string, keys ...string) bool {
	for k := range maps.Keys(m) {
		if slices.Contains(keys, k) {
			return true
		}
	}
	return false
}

func withoutTags(words string) string {
	var kept []string
	for part := range strings.SplitSeq(words, "\n") {
		if !strings.HasPrefix(part, "#") {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, "\n")
}
