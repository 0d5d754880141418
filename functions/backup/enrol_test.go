package backup

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestEnrol(t *testing.T) {
	server := Server{ID: "s1", Name: "db 🚀 " + strings.Repeat("x", 100), Project: "p1",
		Volumes: []string{"v2", "v1", "v2", "gone", "foreign"}}
	volumes := map[string]Volume{
		"v1": {ID: "v1", Name: strings.Repeat("y", 100), Project: "p1", Size: 3, Backend: "host@ceph",
			Created: on("01T00:00"), Metadata: map[string]string{theKeys.Skip: "true"}},
		"v2":      {ID: "v2", Name: "data\n", Size: 5, Created: on("02T00:00")}, // of a project that is not told
		"foreign": {ID: "foreign", Project: "p2"},
		"other":   {ID: "other", Project: "p1"},
	}
	w := Wish{In: true, Class: "gold", Schedule: "12h", Retention: "1y", Problems: []string{"x"}, Why: "tag backup",
		Words: "w"}
	e, protected, missing := Enrol(server, w, volumes, theKeys)
	same(t, e, Enrolment{
		Server: "s1", Name: "db \uFFFD " + strings.Repeat("x",
			59), Project: "p1", Class: "gold", Schedule: "12h", Retention: "1y",
		Problems: []string{"x"}, Words: "w", Volumes: []string{"v2", "v1"},
	})
	same(t, protected, []Protected{
		{Volume: "v2", Project: "p1", Name: "data\uFFFD", Size: 5, Created: on("02T00:00")},
		{Volume: "v1", Project: "p1", Name: strings.Repeat("y", 64), Size: 3, Backend: "host@ceph", Created: on("01T00:00"),
			Skip: "volume metadata skip-volume-backup=true"},
	})
	same(t, missing, []string{"gone", "foreign"})
}

func TestEnrolAServerWithoutVolumes(t *testing.T) {
	e, protected, missing := Enrol(Server{ID: "s1", Project: "p1"}, Wish{In: true, Class: Default}, nil, theKeys)
	if len(e.Volumes)+len(protected)+len(missing) != 0 || e.Server != "s1" {
		t.Errorf("got %+v, %v, %v", e, protected, missing)
	}
}

func TestSameAs(t *testing.T) {
	base := Enrolment{Server: "s1", Name: "n", Project: "p", Class: "c", Schedule: "s", Retention: "r",
		Problems: []string{"x", "y"}, Words: "w", Volumes: []string{"v1", "v2"}}
	for _, c := range []struct {
		name   string
		change func(*Enrolment)
		same   bool
	}{
		{"nothing", func(e *Enrolment) {}, true},
		{"the order of the volumes", func(e *Enrolment) { e.Volumes = []string{"v2", "v1"} }, true},
		{"the server", func(e *Enrolment) { e.Server += "x" }, false},
		{"its name", func(e *Enrolment) { e.Name += "x" }, false},
		{"its project", func(e *Enrolment) { e.Project += "x" }, false},
		{"its class", func(e *Enrolment) { e.Class += "x" }, false},
		{"its schedule", func(e *Enrolment) { e.Schedule = "" }, false},
		{"its retention", func(e *Enrolment) { e.Retention = "" }, false},
		{"its words", func(e *Enrolment) { e.Words = "" }, false},
		{"its problems", func(e *Enrolment) { e.Problems = []string{"x"} }, false},
		{"a volume came", func(e *Enrolment) { e.Volumes = []string{"v1", "v2", "v3"} }, false},
		{"a volume went", func(e *Enrolment) { e.Volumes = []string{"v1"} }, false},
		{"a volume took another's place", func(e *Enrolment) { e.Volumes = []string{"v1", "v3"} }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := base
			o.Volumes, o.Problems = slices.Clone(base.Volumes), slices.Clone(base.Problems)
			c.change(&o)
			if base.SameAs(o) != c.same || o.SameAs(base) != c.same {
				t.Errorf("want %v", c.same)
			}
			same(t, base.Volumes, []string{"v1", "v2"})
		})
	}
}

func TestSameFacts(t *testing.T) {
	base := Protected{Volume: "v", Project: "p", Name: "n", Size: 1, Backend: "b", Created: on("01T00:00"), Skip: ""}
	for _, c := range []struct {
		name   string
		change func(*Protected)
		same   bool
	}{
		{"nothing", func(p *Protected) {}, true},
		{"its state, which is no fact", func(p *Protected) { p.State.Waits = 3 }, true},
		{"its servers, which are written elsewhere", func(p *Protected) { p.Enrolments = []Enrolment{{}} }, true},
		{"the same moment in another zone", func(p *Protected) { p.Created = p.Created.In(zone("Asia/Kathmandu")) }, true},
		{"the volume", func(p *Protected) { p.Volume += "x" }, false},
		{"its project", func(p *Protected) { p.Project += "x" }, false},
		{"its name", func(p *Protected) { p.Name += "x" }, false},
		{"its size", func(p *Protected) { p.Size++ }, false},
		{"its backend", func(p *Protected) { p.Backend = "" }, false},
		{"when it was made", func(p *Protected) { p.Created = p.Created.Add(time.Second) }, false},
		{"its owner's wish", func(p *Protected) { p.Skip = "x" }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := base
			c.change(&o)
			if base.SameFacts(o) != c.same || o.SameFacts(base) != c.same {
				t.Errorf("want %v", c.same)
			}
		})
	}
}

// What the ledger knows and what a notification tells are servers in the words of
// wishes: "backup=yes #web". A notification "without tags" is an older one; "only
// states" and so on are what Nova's decoder found. The stamp last written is
// 2026-11-22T02:10:00Z.
func TestWorthReading(t *testing.T) {
	const ours, others = " last-backup-time=2026-11-22T02:10:00Z", " last-backup-time=2026-11-21T02:10:00Z"
	for _, c := range []struct{ name, known, told, how, want string }{
		{"what cannot be read", "", "", "opaque", "read: the notification cannot be read"},
		{"what cannot be read, of a server we know", "backup=yes", "", "opaque deleted",
			"read: the notification cannot be read"},
		{"a server we know is deleted", "backup=yes", "backup=yes", "deleted", "read: deleted"},
		{"another is", "", "backup=yes", "deleted", "no: deleted"},
		{"a volume of a server we know", "backup=yes", "backup=yes", "volume", "read: its volumes changed"},
		{"a volume of another", "", "backup=yes", "volume", "no: its volumes changed"},

		{"a server opts in", "", "backup=yes", "", "read: it may have opted in"},
		{"a server opts in, as an older notification tells", "", "backup=yes", "without tags", "read: it may have opted in"},
		{"while its states change", "", "backup=yes", "only states", "read: it may have opted in"},
		{"by a class that may be there by now", "", "backup=platinum", "", "read: it may have opted in"},
		{"a server opts out that we do not know", "", "backup=No", "without tags",
			"no: its metadata opt out, and tags cannot change that"},
		{"even with a tag that says otherwise", "", "backup=off #backup", "",
			"no: its metadata opt out, and tags cannot change that"},
		{"a server opts in by a tag", "", "#backup", "", "read: it may have opted in by a tag"},
		{"by a tag with a class", "", "color=red #backup:gold", "", "read: it may have opted in by a tag"},
		{"by a tag while its states change", "", "#backup", "only states", "read: it may have opted in by a tag"},
		{"a server that wants nothing", "", "color=red #web", "", "no: it may have opted in by a tag"},
		{"the same, as an older notification tells: tags may be what changed", "", "color=red", "without tags",
			"read: the notification lacks its tags"},
		{"but not while its states change", "", "color=red", "without tags, only states", "no: only its state changed"},
		{"a server of which nothing is told", "", "", "without tags, without metadata", "no: the notification lacks its tags"},

		{"states of a server we know", "backup=yes", "backup=no", "only states", "no: only its state changed"},
		{"a server we know, of which no metadata are told", "backup=yes", "", "without metadata",
			"read: the notification lacks its metadata"},
		{"renamed", "backup=yes", "backup=yes", "renamed", "read: renamed"},
		{"the same as ever", "backup=yes", "backup=yes", "", "no: nothing new"},
		{"another key", "backup=yes", "backup=yes color=red", "", "no: nothing new"},
		{"another tag", "backup=yes #web", "backup=yes #zoo", "", "no: nothing new"},
		{"it opts out", "backup=yes", "", "", "read: its backup metadata or tags changed"},
		{"it says no", "backup=yes", "backup=no", "without tags", "read: its backup metadata or tags changed"},
		{"another class", "backup=gold", "backup=silver", "", "read: its backup metadata or tags changed"},
		{"another schedule", "backup=gold backup-schedule=12h", "backup=gold backup-schedule=13h", "",
			"read: its backup metadata or tags changed"},
		{"no retention of its own any more", "backup=gold backup-retention=1y", "backup=gold", "without tags",
			"read: its backup metadata or tags changed"},
		{"a tag went", "#backup", "", "", "read: its backup metadata or tags changed"},
		{"a tag came", "backup=yes", "backup=yes #backup:gold", "", "read: its backup metadata or tags changed"},
		{"a tag became another", "#backup:gold", "#backup:silver", "", "read: its backup metadata or tags changed"},
		{"the same tags in another order", "#backup:gold #backup:silver", "#backup:silver #backup:gold", "",
			"no: nothing new"},

		{"our own echo", "backup=yes" + others, "backup=yes" + ours, "", "no: nothing new"},
		{"our own echo, as an older notification tells", "backup=yes" + others, "backup=yes" + ours, "without tags",
			"no: our own write, or nothing new"},
		{"our own echo of a server with a tag", "#backup" + others, "#backup" + ours, "", "no: nothing new"},
		{"the same, as an older notification tells", "#backup" + others, "#backup" + ours, "without tags",
			"no: our own write, or nothing new"},
		{"our own echo, while it opts out", "backup=yes" + others, "backup=no" + ours, "without tags",
			"read: its backup metadata or tags changed"},
		{"a value in the stamp's place that is not ours", "backup=yes" + ours, "backup=yes" + others, "without tags",
			"no: the notification lacks its tags"},
		{"a server that opted in by metadata: its tags do not matter", "backup=yes", "backup=yes", "without tags",
			"no: the notification lacks its tags"},
		{"one that opted in by a tag, before its first backup", "#backup", "", "without tags", "read: the notification lacks its tags"},
		{"one with both, before its first backup", "backup=yes #backup:gold", "backup=yes", "without tags",
			"read: the notification lacks its tags"},
		{"a wish with blanks and a # in it is no tag", "backup=yes backup-schedule='0 2 * * #1'",
			"backup=yes backup-schedule='0 2 * * #1'", "without tags", "no: the notification lacks its tags"},
		{"a tag with blanks in it is one tag", "#backup:my_class", "", "without tags, tag with blanks",
			"read: the notification lacks its tags"},
	} {
		t.Run(c.name, func(t *testing.T) {
			metadata, tags := wishes(c.known)
			if strings.Contains(c.how, "tag with blanks") {
				tags = []string{"backup:gold class of ours"}
			}
			known := Enrolment{Server: "s1", Name: "db-1", Words: ReadWish(metadata, tags, theKeys, theClasses).Words}
			g := Glance{Name: "db-1", HasMetadata: !strings.Contains(c.how, "without metadata"),
				HasTags: !strings.Contains(c.how, "without tags"),
				Deleted: strings.Contains(c.how, "deleted"), StateOnly: strings.Contains(c.how, "only states"),
				Opaque: strings.Contains(c.how, "opaque"), VolumeChange: strings.Contains(c.how, "volume")}
			g.Metadata, g.Tags = wishes(c.told)
			if !g.HasTags {
				g.Tags = nil
			}
			if strings.Contains(c.how, "renamed") {
				g.Name = "db-2"
			}
			g.Stamp = g.Metadata["last-backup-time"]
			worth, why := WorthReading(g, known, c.known != "", "2026-11-22T02:10:00Z", theKeys)
			if got := fmt.Sprintf("%s: %s", map[bool]string{true: "read", false: "no"}[worth], why); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// A name that is cut or cleaned for the ledger is not renamed at every notification.
func TestWorthReadingAtALongName(t *testing.T) {
	name := "🚀" + strings.Repeat("x", 100)
	e, _, _ := Enrol(Server{ID: "s1", Name: name}, ReadWish(map[string]string{"backup": "yes"}, nil, theKeys, theClasses),
		nil, theKeys)
	g := Glance{Name: name, HasMetadata: true, HasTags: true, Metadata: map[string]string{"backup": "yes"}}
	if worth, why := WorthReading(g, e, true, "", theKeys); worth {
		t.Error(why)
	}
}

// After a look, the notification that caused it, and the echo of the stamp that
// follows a backup, cause none. A notification with tags misses no change of wishes.
func TestWorthReadingEndsAndMissesNothing(t *testing.T) {
	value := rapid.SampledFrom([]string{"", "yes", "no", "gold", "platinum", "30 2 * * 1-5", "2w", "#x", "a\n#\"backup\""})
	one := rapid.Custom(func(t *rapid.T) Server {
		s := Server{ID: "s1", Name: rapid.SampledFrom([]string{"a", "b", "🚀"}).Draw(t, "name"), Project: "p1",
			Metadata: map[string]string{}}
		for _, k := range []string{"backup", "backup-schedule", "backup-retention", "color"} {
			if rapid.Bool().Draw(t, "has "+k) {
				s.Metadata[k] = value.Draw(t, k)
			}
		}
		s.Tags = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"backup", "backup:gold", "backup:no", "backup:a b",
			"web"}), 0, 3, rapid.ID).Draw(t, "tags")
		return s
	})
	glance := func(s Server, tags bool) Glance {
		g := Glance{Name: s.Name, Metadata: s.Metadata, HasMetadata: true, HasTags: tags,
			Stamp: s.Metadata["last-backup-time"]}
		if tags {
			g.Tags = s.Tags
		}
		return g
	}
	rapid.Check(t, func(t *rapid.T) {
		before, after := one.Draw(t, "before"), one.Draw(t, "after")
		look := func(s Server) (Enrolment, bool) {
			w := ReadWish(s.Metadata, s.Tags, theKeys, theClasses)
			e, _, _ := Enrol(s, w, nil, theKeys)
			return e, w.In
		}
		known, enrolled := look(before)
		if !enrolled {
			known = Enrolment{}
		}
		then, in := look(after)
		worth, why := WorthReading(glance(after, true), known, enrolled, "", theKeys)
		if changed := in != enrolled || in && !then.SameAs(known); changed && !worth {
			t.Fatalf("missed (%s):\n%s", why, cmp.Diff(before, after))
		}
		// Older notifications tell no tags: what they can tell must not be missed.
		metadata := after
		metadata.Tags = before.Tags
		then, in = look(metadata)
		worth, why = WorthReading(glance(metadata, false), known, enrolled, "", theKeys)
		if changed := in != enrolled || in && !then.SameAs(known); changed && !worth {
			t.Fatalf("missed without tags (%s):\n%s", why, cmp.Diff(before, metadata))
		}
		// The echo: the same server with the stamp just written to it.
		if known, enrolled = look(after); !enrolled {
			return
		}
		after.Metadata["last-backup-time"] = "2026-11-22T02:10:00Z"
		for _, tags := range []bool{true, false} {
			if worth, why := WorthReading(glance(after, tags), known, true, "2026-11-22T02:10:00Z", theKeys); worth {
				t.Fatalf("our own echo (tags: %v) is looked at: %s", tags, why)
			}
		}
	})
}
