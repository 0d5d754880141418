package backup

import (
	"maps"
	"slices"
	"strings"
)

// Enrol returns what the ledger stores of an opted-in server and its volumes. missing are the
// attached volumes that are not in the map or belong to another project; they are left out.
func Enrol(s Server, w Wish, volumes map[string]Volume, keys Keys) (e Enrolment, protected []Protected,
	missing []string) {
	e = Enrolment{
		Server: s.ID, Name: plain(s.Name, 64), Project: s.Project, Class: w.Class,
		Schedule: w.Schedule, Retention: w.Retention, Problems: w.Problems, Words: w.Words,
	}
	for _, id := range s.Volumes {
		v, ok := volumes[id]
		switch {
		case !ok || v.Project != "" && v.Project != s.Project:
			// Only an administrator can attach a volume of another project, and a token of the
			// server's project cannot back it up.
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

// SameAs says whether two enrolments are equal, whatever the order of their volumes.
func (e Enrolment) SameAs(o Enrolment) bool {
	sorted := func(ids []string) []string { return slices.Sorted(slices.Values(ids)) }
	return e.Server == o.Server && e.Name == o.Name && e.Project == o.Project && e.Class == o.Class &&
		e.Schedule == o.Schedule && e.Retention == o.Retention && e.Words == o.Words && e.Attempt.sameAs(o.Attempt) &&
		slices.Equal(e.Problems, o.Problems) && slices.Equal(sorted(e.Volumes), sorted(o.Volumes))
}

// SameFacts says whether the facts of two volumes are equal; their states do not count.
func (p Protected) SameFacts(o Protected) bool {
	return p.Volume == o.Volume && p.Project == o.Project && p.Name == o.Name && p.Size == o.Size &&
		p.Backend == o.Backend && p.Created.Equal(o.Created) && p.Skip == o.Skip && p.Attempt.sameAs(o.Attempt)
}

// A Glance is what a notification says of a server.
type Glance struct {
	Name string
	// Metadata counts if HasMetadata, Tags if HasTags.
	Metadata    map[string]string
	HasMetadata bool
	Tags        []string
	HasTags     bool
	// Deleted: it is gone. StateOnly: only its state changed. Opaque: nothing can be read.
	Deleted, StateOnly, Opaque bool
	// VolumeChange: a volume was attached or detached.
	VolumeChange bool
	// Stamp is the value of the metadata that the service itself writes.
	Stamp string
}

// WorthReading decides whether a notification is a reason to read its server from Nova. known is
// what the ledger has of the server, if enrolled. stamp is the last value that the service wrote
// to the server's metadata: a notification about that write is no reason.
func WorthReading(g Glance, known Enrolment, enrolled bool, stamp string, keys Keys) (bool, string) {
	switch {
	case g.Opaque:
		return true, "the notification cannot be read"
	case g.Deleted:
		return enrolled, "deleted"
	case g.VolumeChange:
		return enrolled, "its volumes changed"
	case !enrolled && g.HasMetadata && hasAny(g.Metadata, keys.OptIn):
		if slices.Contains(no, strings.ToLower(strings.TrimSpace(g.Metadata[keys.OptIn]))) {
			return false, "its metadata opt out, and tags cannot change that"
		}
		return true, "it may have opted in"
	case !enrolled && g.HasTags:
		return words(nil, g.Tags, keys) != "", "it may have opted in by a tag"
	case g.StateOnly:
		return false, "only its state changed"
	case !enrolled:
		// An older notification has no tags: they may be what changed.
		return g.HasMetadata, "the notification lacks its tags"
	case !g.HasMetadata:
		return true, "the notification lacks its metadata"
	case plain(g.Name, 64) != known.Name:
		return true, "renamed"
	}
	// Compare only what the notification contains: metadata always, tags in newer formats.
	now, before := words(g.Metadata, g.Tags, keys), known.Words
	if !g.HasTags {
		before = withoutTags(before)
	}
	switch {
	case now != before:
		return true, "its backup metadata or tags changed"
	case g.HasTags:
		return false, "nothing new"
	case g.Stamp != "" && g.Stamp == stamp:
		return false, "our own write, or nothing new"
	}
	// The metadata are the same and we wrote nothing. In an older format, tags may have changed.
	return withoutTags(known.Words) != known.Words || !hasAny(g.Metadata, keys.OptIn), "the notification lacks its tags"
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
