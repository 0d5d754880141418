package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"staffeln/functions/backup"
)

// Each story is what is known, what is seen, and the questions, repairs and warnings that
// follow, in the words of story and tell.
func TestWhatIsRepaired(t *testing.T) {
	const web = "server web v1,v2 backup=yes"
	for _, c := range []struct{ sentence, known, seen, want string }{
		{"a server that opted in and is not enrolled: enroll", "", web, "enroll web v1,v2: metadata backup=yes"},
		{"a server that is enrolled as it is", web, web, ""},
		{"a server that never opted in", "", "server web v1", ""},
		{"a server that opted out: withdraw", web, "server web v1,v2 backup=no", "withdraw web: metadata backup=no"},
		{"a server that lost its metadata: withdraw", web, "server web v1,v2",
			"withdraw web: no backup metadata nor tag"},
		{"a volume was attached", web, "server web v1,v2,v3 backup=yes",
			"enroll web v1,v2,v3, names only: metadata backup=yes"},
		{"a volume was renamed", web, web + "; volume v1 name=x", "enroll web v1,v2, names only: metadata backup=yes"},
		{"a server chose another class", web, "server web v1,v2 backup=gold", "enroll web v1,v2: metadata backup=gold"},
		{"a skip key was set", web, web + "; volume v1 skip=yes",
			"enroll web v1,v2, v1 skipped, names only: metadata backup=yes"},
		{"a list shows a server twice", "", web + ";" + web, "enroll web v1,v2: metadata backup=yes"},

		{"a server missing once: ask", web, "", "ask server web"},
		{"asked for and not there, for the first time: nothing yet", web, "asked web gone 1", ""},
		{"missing twice: withdraw", web, "asked web gone 2", "withdraw web: deleted"},
		{"nobody can say whether it is there", web, "asked web unsure", ""},
		{"a list that comes back short is no deletion", web, web + "; asked web found",
			"warn: the list of servers was short"},
		{"it is there and its project is excluded: withdraw", web, web + "; asked web found; excluded",
			"withdraw web: its project is excluded"},

		{"a volume of an opted-in server that no list shows: ask", "", web + "; volume v1 unlisted=yes", "ask volume v1"},
		{"a volume of another server is not asked for", "", "server web v1; volume v1 unlisted=yes", ""},
		{"a volume that is gone is left out", "", web + "; volume v1 unlisted=yes; asked v1 gone 1",
			"enroll web v2: metadata backup=yes; warn: volume not protected"},
		{"nobody can say whether a volume is there: its server is left as it is", "",
			web + "; volume v1 unlisted=yes; asked v1 unsure", ""},
		{"and loses no volume", web, web + "; volume v1 unlisted=yes; asked v1 unsure", ""},
		{"another server's trouble is its own",
			"", web + "; volume v1 unlisted=yes; asked v1 unsure; server db v3 backup=yes",
			"enroll db v3: metadata backup=yes"},
		{"a volume of another project is not protected", "", web + "; volume v1 project=q",
			"enroll web v2: metadata backup=yes; warn: volume not protected"},

		{"a server opts out of a locked class: it stays", "server web v1 backup=gold", "server web v1 backup=no",
			"enroll web v1, names only, attempt: metadata backup=no is not in force before 2026-11-29T12:00:00Z:" +
				" class gold is locked"},
		{"a locked volume is to be skipped: it stays", "server web v1 backup=gold",
			"server web v1 backup=gold; volume v1 skip=yes",
			"enroll web v1, names only, attempt on v1: metadata backup=gold"},
		{"a locked volume has another server too: it stays for both", "server a v1 backup=yes; server b v1 backup=gold",
			"server a v1 backup=yes; server b v1 backup=gold; volume v1 skip=yes",
			"enroll a v1, names only, attempt on v1: metadata backup=yes; enroll b v1, names only: metadata backup=gold"},
		{"a locked server that is deleted holds no volume of another", "server a v1 backup=yes; server b v1 backup=gold",
			"server a v1 backup=yes; volume v1 skip=yes; asked b gone 2",
			"withdraw b: deleted; enroll a v1, v1 skipped, names only: metadata backup=yes"},
		{"the ledger was emptied: the last backup tells that the class is locked", "emptied",
			"server web v1 backup=no; backup b1 v1 22T02:30 available server=web class=gold",
			"enroll web v1, attempt: metadata backup=no is not in force before 2026-11-29T12:00:00Z: class gold is locked;" +
				" raise v1 to slot 22T02:30, point 22T02:31; remember b1: found in Cinder; stamp web 22T02:31"},
		{"else nothing is read from backups", "",
			"server web v1 backup=no; backup b1 v1 22T02:30 available server=web class=gold",
			"remember b1: found in Cinder"},

		{"a restore point that the ledger does not know", "server web v1 backup=yes",
			"server web v1 backup=yes last-backup-time=2026-11-22T02:31:00Z; backup b1 v1 22T02:30 available",
			"raise v1 to slot 22T02:30, point 22T02:31; remember b1: found in Cinder"},
		{"one that it knows",
			"server web v1 backup=yes; volume v1 slot=22T02:30 point=22T02:31; record b1 v1 22T02:30 available",
			"server web v1 backup=yes last-backup-time=2026-11-22T02:31:00Z; backup b1 v1 22T02:30 available", ""},
		{"the newest of two counts", "server web v1 backup=yes",
			"server web v1 backup=yes; backup b1 v1 21T02:30 available; backup b2 v1 22T02:30 restoring",
			"raise v1 to slot 22T02:30, point 22T02:31; remember b2,b1: found in Cinder; stamp web 22T02:31"},
		{"a slot that a wrong clock planned does not count", "server web v1 backup=yes",
			"server web v1 backup=yes; backup b1 v1 23T02:30 available",
			"raise v1 to slot none, point 23T02:31; remember b1: found in Cinder; stamp web 23T02:31"},
		{"a volume that is not protected has no state", "", "backup b1 v1 22T02:30 available",
			"remember b1: found in Cinder"},
		{"a backup of an open run is left to track", "server web v1 backup=yes; run v1 22T02:30 b1",
			"server web v1 backup=yes; backup b1 v1 22T02:30 available", "remember b1: found in Cinder"},
		{"so is one whose run does not know it yet", "server web v1 backup=yes; run v1 22T02:30",
			"server web v1 backup=yes; backup b1 v1 22T02:30 error", "remember b1: found in Cinder"},
		{"a backup under way without a run: adopt", "server web v1 backup=yes",
			"server web v1 backup=yes; backup b1 v1 22T02:30 creating",
			"adopt b1 as v1@20261122T023000Z: found in Cinder; remember b1: found in Cinder"},
		{"one with a run", "server web v1 backup=yes; run v1 22T02:30 b1; record b1 v1 22T02:30 creating",
			"server web v1 backup=yes; backup b1 v1 22T02:30 creating", ""},
		{"a failed backup that no run waits for: discard", "record b1 v1 22T02:30 error", "backup b1 v1 22T02:30 error",
			"discard b1: it has failed, and no run is waiting for it"},
		{"a backup of the tenant's own", "", "backup b1 v1 22T02:30 error manual", ""},
		{"without the list of backups nothing is known of any", "record b1 v1 22T02:30 available", "unswept", ""},
		{"a status that changed", "record b1 v1 22T02:30 creating", "backup b1 v1 22T02:30 available",
			"remember b1: found in Cinder"},
		{"a project that retention does not look at", "record b1 v1 22T02:30 available; forgotten",
			"backup b1 v1 22T02:30 available",
			"remember b1: retention does not look at the project"},

		{"a backup missing once: ask", "record b1 v1 22T02:30 available", "", "ask backup b1"},
		{"asked for and not there: nothing yet", "record b1 v1 22T02:30 available", "asked b1 gone 1", ""},
		{"a list of backups that was short", "record b1 v1 22T02:30 available", "asked b1 found", ""},
		{"missing twice: forget, and tell of the loss", "record b1 v1 22T02:30 available", "asked b1 gone 2",
			"forget b1, lost 1"},
		{"a broken backup is no loss", "record b1 v1 22T02:30 error", "asked b1 gone 2", "forget b1, lost 0"},
		{"what retention was removing is no loss", "record b1 v1 22T02:30 available; removing b1", "asked b1 gone 2",
			"forget b1, lost 0"},
		{"nobody can say what retention does: not even asked", "record b1 v1 22T02:30 available; unread", "", ""},

		{"a forged backup is remembered, and counts for nothing", "server web v1 backup=yes",
			"server web v1 backup=yes; backup f1 v1 22T02:30 available foreign; backup f2 v1 22T02:30 creating foreign;" +
				" backup f3 v1 22T02:30 error foreign", "disown 3, new 3"},
		{"one that is known", "foreign f1", "backup f1 v1 22T02:30 available foreign", ""},
		{"another beside it", "foreign f1",
			"backup f2 v1 22T02:30 available foreign; backup f1 v1 22T02:30 available foreign", "disown 2, new 1"},
		{"they are gone", "foreign f1", "", "disown 0, new 0"},

		{"a server that does not show its newest backup", "server web v1 backup=yes; volume v1 point=22T02:31",
			"server web v1 backup=yes; unswept", "stamp web 22T02:31"},
		{"a server that shows an older one", "server web v1 backup=yes; volume v1 point=22T02:31",
			"server web v1 backup=yes last-backup-time=2026-11-21T02:31:00Z; unswept", "stamp web 22T02:31"},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			k, s := story(c.known, c.seen)
			var said []string
			for _, q := range Questions(k, s, set, noon) {
				said = append(said, fmt.Sprintf("ask %s %s", q.About, q.ID))
			}
			repairs, warnings := Repairs(k, s, set, noon)
			for _, r := range repairs {
				said = append(said, tell(r))
			}
			for _, w := range warnings {
				said = append(said, "warn: "+w.What)
			}
			if got := strings.Join(said, "; "); got != c.want {
				t.Errorf("known %s\nseen  %s\ngot   %s\nwant  %s", c.known, c.seen, got, c.want)
			}
		})
	}
}

// Of more foreign backups than are remembered the same ones are, in whatever order.
func TestManyForeignBackups(t *testing.T) {
	var s Seen
	for i := range mostForeign + 50 {
		s.Backups = append(s.Backups, made([]string{fmt.Sprintf("f%03d", i), "v1", "22T02:30", "available", "foreign"}, nil))
	}
	first := disown(Known{}, s)[0].(Disown)
	slices.Reverse(s.Backups)
	if len(first.All) != mostForeign || disown(Known{Foreign: first.All}, s) != nil {
		t.Errorf("%d are remembered, and others next time", len(first.All))
	}
}

// Once all repairs are done there are none, and in whatever order the lists are, the
// repairs are the same.
func TestRepairsAreDoneOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k, s := drawStory(t)
		repairs, _ := Repairs(k, s, set, noon)
		shuffled := s
		shuffled.Servers = rapid.Permutation(s.Servers).Draw(t, "servers")
		shuffled.Backups = rapid.Permutation(s.Backups).Draw(t, "backups")
		again, _ := Repairs(k, shuffled, set, noon)
		if a, b := tellAll(repairs), tellAll(again); a != b {
			t.Fatalf("in another order:\n%s\n%s", a, b)
		}
		k, s = carryOut(k, shuffled, repairs)
		if left, _ := Repairs(k, s, set, noon); len(left) > 0 {
			t.Fatalf("after\n%s\nthere is left\n%s", tellAll(repairs), tellAll(left))
		}
	})
}

// Nothing that could not be seen for sure is withdrawn, forgotten, or loses a volume.
func TestWhatIsNotSeenStays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k, s := drawStory(t)
		for id, a := range s.Asked {
			s.Asked[id] = Answer{Found: a.Found, Gone: min(a.Gone, 1)}
		}
		seen := map[string]bool{}
		for _, server := range s.Servers {
			seen[server.ID] = true
		}
		repairs, _ := Repairs(k, s, set, noon)
		for _, r := range repairs {
			switch r := r.(type) {
			case Forget:
				t.Fatalf("%s, though asked but once", tell(r))
			case Withdraw:
				if !seen[r.Enrolment.Server] {
					t.Fatalf("%s, though not seen", tell(r))
				}
			case Enroll:
				if !seen[r.Enrolment.Server] {
					t.Fatalf("%s, though not seen", tell(r))
				}
			}
		}
	})
}

func tellAll(repairs []Repair) string {
	var said []string
	for _, r := range repairs {
		said = append(said, tell(r))
	}
	return strings.Join(said, "\n")
}

// drawStory draws a project of three servers and four volumes, of which the ledger and the
// lists know this and that.
func drawStory(t *rapid.T) (Known, Seen) {
	draw := func(what string, from ...string) string { return rapid.SampledFrom(from).Draw(t, what) }
	var known, seen []string
	volumes := []string{",", "v1", "v1,v2", "v2,v3", "v1,v2,v3,v4"}
	for _, server := range []string{"a", "b", "c"} {
		wishes := []string{"backup=yes", "backup=gold", "backup=no", "name=none"}
		if draw("is enrolled", "yes", "no") == "yes" {
			known = append(known, fmt.Sprintf("server %s %s %s", server, draw("of", volumes...), draw("as", wishes[:2]...)))
		}
		if draw("is there", "yes", "yes", "no") == "yes" {
			seen = append(seen, fmt.Sprintf("server %s %s %s", server, draw("has", volumes...), draw("wishes", wishes...)))
		} else {
			seen = append(seen, "asked "+server+" "+draw("asked", "unsure", "gone 1", "gone 2"))
		}
	}
	for _, v := range []string{"v1", "v2", "v3", "v4"} {
		switch draw("volume", "as it is", "as it is", "renamed", "skipped", "elsewhere", "unsure", "gone") {
		case "renamed":
			seen = append(seen, "volume "+v+" name=x")
		case "skipped":
			seen = append(seen, "volume "+v+" skip=yes")
		case "elsewhere":
			seen = append(seen, "volume "+v+" project=q")
		case "unsure":
			seen = append(seen, "volume "+v+" unlisted=yes; asked "+v+" unsure")
		case "gone":
			seen = append(seen, "volume "+v+" unlisted=yes; asked "+v+" gone 1")
		}
		if draw("runs", "yes", "no") == "yes" {
			known = append(known, fmt.Sprintf("run %s 22T02:30 %s", v, draw("of backup", "", "22"+v)))
		}
		for _, slot := range []string{"20", "21", "22", "23"} {
			b := fmt.Sprintf("%s%s %s %sT02:30 ", slot, v, v, slot)
			status := []string{"available", "restoring", "creating", "error", "deleting"}
			if draw("is remembered", "yes", "no") == "yes" {
				known = append(known, "record "+b+draw("as", status...))
			}
			if draw("is listed", "yes", "no") == "yes" {
				seen = append(seen, "backup "+b+draw("status", status...)+draw("of", "", "", " foreign", " manual")+
					" server="+draw("for", "a", "b")+" class="+draw("by", "gold", "default"))
			} else {
				seen = append(seen, "asked "+slot+v+" "+draw("asked", "unsure", "found", "gone 1", "gone 2"))
			}
		}
	}
	for _, more := range []string{"emptied", "forgotten", "foreign 22v1"} {
		if draw(more, "yes", "no", "no") == "yes" {
			known = append(known, more)
		}
	}
	k, s := story(strings.Join(known, ";"), strings.Join(seen, ";"))
	for id, v := range k.Volumes {
		if draw("has a state", "yes", "no") == "yes" {
			v.State = backup.State{LastSlot: day("21T02:30"), LastComplete: day("21T02:31").Add(time.Nanosecond)}
			k.Volumes[id] = v
		}
	}
	return k, s
}
