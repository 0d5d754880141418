package backup

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestBounds(t *testing.T) {
	up := func(n int) Services { return Services{Known: true, Up: n} }
	unknown := Services{}
	for _, c := range []struct {
		name     string
		set      Limits
		services Services
		halvings int
		want     Limits
	}{
		{"by the services that are up; a project may have half", Limits{}, up(3), 0, Limits{Cloud: 30, Project: 15}},
		{"one service's worth where the rights do not allow asking", Limits{}, unknown, 0, Limits{Cloud: 10, Project: 5}},
		{"nothing where none is up", Limits{}, up(0), 0, Limits{}},
		{"nothing, however strained", Limits{}, up(0), 3, Limits{}},
		{"what the operator set, whatever is up", Limits{Cloud: 7}, up(3), 0, Limits{Cloud: 7, Project: 4}},
		{"a project's, as the operator set it", Limits{Cloud: 7, Project: 6}, up(3), 0, Limits{Cloud: 7, Project: 6}},
		{"a project's, but never more than the cloud's", Limits{Cloud: 7, Project: 60}, up(3), 0,
			Limits{Cloud: 7, Project: 7}},
		{"a backend's, as the operator set it", Limits{Backend: 2}, up(1), 0, Limits{Cloud: 10, Project: 5, Backend: 2}},
		{"one of the cloud is one of a project", Limits{Cloud: 1}, up(1), 0, Limits{Cloud: 1, Project: 1}},
		{"halved once", Limits{}, up(3), 1, Limits{Cloud: 15, Project: 8}},
		{"halved twice", Limits{}, up(3), 2, Limits{Cloud: 7, Project: 4}},
		{"never to nothing", Limits{}, up(3), 50, Limits{Cloud: 1, Project: 1}},
		{"what is set is halved, too", Limits{Cloud: 8, Project: 6}, up(3), 1, Limits{Cloud: 4, Project: 4}},
		{"a project's is cut only by the cloud's", Limits{Cloud: 8, Project: 2}, up(3), 1, Limits{Cloud: 4, Project: 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			same(t, Bounds(c.set, c.services, 10, c.halvings), c.want)
		})
	}
}

// A due volume is "a1" of project a, "a1/ceph" with its backend. Running: "a=2 b=1
// /ceph=1 all=5"; limits: "cloud=4 project=2 backend=1". why is that of the last.
func TestPick(t *testing.T) {
	for _, c := range []struct{ name, limits, running, due, want, why string }{
		{"nothing is due", "cloud=4", "", "", "", ""},
		{"room for all", "cloud=4", "", "a1 b1 a2", "+a1 +b1 +a2", ""},
		{"of each project in turn", "cloud=4", "", "a1 a2 a3 a4 b1 b2 c1", "+a1 +b1 +c1 +a2 -b2 -a3 -a4", ""},
		{"the project that waits longest first", "cloud=1", "", "b1 a1", "+b1 -a1", ""},
		{"the one with fewer under way before it", "cloud=4", "all=3 b=2 a=1", "b1 a1", "+a1 -b1", ""},
		{"none above the cloud's limit", "cloud=4", "all=4", "a1", "-a1", "cloud limit: 4 of 4 running"},
		{"nor where more than that are under way", "cloud=4", "all=9", "a1", "-a1", "cloud limit: 9 of 4 running"},
		{"none where nothing is up", "cloud=0", "", "a1", "-a1", "cloud limit: 0 of 0 running"},
		{"none above a project's limit", "cloud=9 project=2", "", "a1 a2 a3 b1", "+a1 +b1 +a2 -a3", ""},
		{"what is under way counts", "cloud=9 project=2", "all=1 a=1", "a1 a2", "+a1 -a2", "project limit: 2 of 2 running"},
		{"no limit of projects", "cloud=9 project=0", "all=5 a=5", "a1 a2", "+a1 +a2", ""},
		{"none above a backend's limit", "cloud=9 backend=1", "", "a1/ceph a2/lvm b1/ceph", "+a1 -b1 +a2", ""},
		{"what is under way on it counts", "cloud=9 backend=2", "all=1 /ceph=1", "a1/ceph b1/ceph", "+a1 -b1",
			"limit of backend ceph: 2 of 2 running"},
		{"a backend that is not told has no limit", "cloud=9 backend=1", "", "a1 b1 c1", "+a1 +b1 +c1", ""},
		{"a project that is held up by its backend does not hold up its others", "cloud=9 backend=1", "all=1 /ceph=1",
			"a1/ceph a2/lvm", "-a1 +a2", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, running := Limits{}, InFlight{ByProject: map[string]int{}, ByBackend: map[string]int{}}
			for part := range strings.FieldsSeq(c.limits) {
				key, n := number(part)
				*map[string]*int{"cloud": &l.Cloud, "project": &l.Project, "backend": &l.Backend}[key] = n
			}
			for part := range strings.FieldsSeq(c.running) {
				key, n := number(part)
				if backend, ok := strings.CutPrefix(key, "/"); ok {
					running.ByBackend[backend] = n
				} else if key == "all" {
					running.Total = n
				} else {
					running.ByProject[key] = n
				}
			}
			var due []Protected
			for word := range strings.FieldsSeq(c.due) {
				id, backend, _ := strings.Cut(word, "/")
				due = append(due, Protected{Volume: id, Project: id[:1], Backend: backend})
			}
			var got []string
			why := ""
			for _, p := range pick(l, due, running) {
				got, why = append(got, map[bool]string{true: "+", false: "-"}[p.full == ""]+p.Volume), p.full
			}
			if s := strings.Join(got, " "); s != c.want || c.why != "" && why != c.why {
				t.Errorf("got %s, the last because %s; want %s, %s", s, why, c.want, c.why)
			}
		})
	}
}

func number(s string) (key string, n int) {
	key, value, _ := strings.Cut(s, "=")
	if _, err := fmt.Sscan(value, &n); err != nil {
		panic(err)
	}
	return key, n
}

// A picked volume has had its turn; full says why there was no room for it.
type picked struct {
	Protected
	full string
}

// pick gives each volume its turn, and room to those that there is some for.
func pick(l Limits, due []Protected, now InFlight) (out []picked) {
	room := NewRoom(l, now)
	for _, v := range InTurn(due, func(v Protected) string { return v.Project }, now) {
		full := room.Full(v)
		if left := room.Left(v.Project); full == "" && left == 0 {
			panic("there is room, and none is left")
		}
		if full == "" {
			room.Take(v)
		}
		out = append(out, picked{v, full})
	}
	return out
}

func TestRoomLeft(t *testing.T) {
	now := InFlight{Total: 3, ByProject: map[string]int{"a": 2}}
	for _, c := range []struct {
		name    string
		limits  Limits
		project string
		want    int
	}{
		{"what the cloud's limit leaves", Limits{Cloud: 5}, "a", 2},
		{"what the project's leaves", Limits{Cloud: 9, Project: 3}, "a", 1},
		{"to another project", Limits{Cloud: 9, Project: 3}, "b", 3},
		{"no more than the cloud's", Limits{Cloud: 4, Project: 3}, "b", 1},
		{"nothing where a limit is exceeded", Limits{Cloud: 9, Project: 1}, "a", 0},
		{"nothing where none may run", Limits{}, "a", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			same(t, NewRoom(c.limits, now).Left(c.project), c.want)
		})
	}
}

func TestVolumeLimit(t *testing.T) {
	special := map[string]int{"alpha": 5, "id-of-beta": 7, "beta": 6, "none": 0, "": 9}
	for _, c := range []struct {
		name string
		of   Project
		want int
	}{
		{"the general one", Project{ID: "id-of-gamma", Name: "gamma"}, 3},
		{"its own, by name", Project{ID: "id-of-alpha", Name: "alpha"}, 5},
		{"by id, which goes before the name", Project{ID: "id-of-beta", Name: "beta"}, 7},
		{"its own of any number", Project{ID: "id-of-none", Name: "none"}, 0},
		{"a project whose name is not known", Project{ID: "id-of-alpha"}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			same(t, VolumeLimit(3, special, c.of), c.want)
		})
	}
}

func TestRanks(t *testing.T) {
	made := func(id string, day int, skip string) Protected {
		return Protected{Volume: id, Created: on("01T00:00").AddDate(0, 0, day), Skip: skip}
	}
	same(t, Ranks([]Protected{made("young", 9, ""), made("b", 2, ""),
		made("left out", 1, "skip"), made("a", 2, ""), made("old", 0, "")}),
		map[string]int{"old": 0, "a": 1, "b": 2, "young": 3})
}

func TestPickKeepsTheLimitsAndIsFair(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Limits{Cloud: rapid.IntRange(0, 12).Draw(t, "cloud"), Project: rapid.IntRange(0, 5).Draw(t, "project"),
			Backend: rapid.IntRange(0, 5).Draw(t, "backend")}
		running := InFlight{ByProject: map[string]int{}, ByBackend: map[string]int{}}
		for _, p := range []string{"a", "b", "c", "d"} {
			running.ByProject[p] = rapid.IntRange(0, 3).Draw(t, "running of "+p)
			running.Total += running.ByProject[p]
			running.ByBackend[rapid.SampledFrom([]string{"ceph", "lvm", ""}).Draw(t, "on")] += running.ByProject[p]
		}
		var due []Protected
		for i := range rapid.IntRange(0, 25).Draw(t, "due") {
			due = append(due, Protected{Volume: fmt.Sprint(i),
				Project: rapid.SampledFrom([]string{"a", "a", "a", "b", "c", "d"}).Draw(t, "of"),
				Backend: rapid.SampledFrom([]string{"ceph", "lvm", ""}).Draw(t, "backend")})
		}
		total, project, backend := running.Total, map[string]int{}, map[string]int{}
		left, chosen, last := map[string]int{}, map[string]int{}, map[string]int{}
		seen := map[string]bool{}
		picks := pick(l, due, running)
		for _, p := range picks {
			v := p.Protected
			n, before := 0, last[v.Project]
			if _, err := fmt.Sscan(v.Volume, &n); err != nil || seen[v.Volume] || n < before {
				t.Fatalf("%s comes twice, or out of turn in its project (%d after %d)", v.Volume, n, before)
			}
			seen[v.Volume], last[v.Project] = true, n
			if p.full != "" {
				left[v.Project]++
				inProject, onBackend := running.ByProject[v.Project]+project[v.Project],
					running.ByBackend[v.Backend]+backend[v.Backend]
				if total < l.Cloud && (l.Project == 0 || inProject < l.Project) &&
					(l.Backend == 0 || v.Backend == "" || onBackend < l.Backend) {
					t.Fatalf("%s is kept out of the room there is: %s", v.Volume, p.full)
				}
				continue
			}
			total++
			chosen[v.Project]++
			project[v.Project]++
			backend[v.Backend]++
			if total > l.Cloud || l.Project > 0 && running.ByProject[v.Project]+project[v.Project] > l.Project ||
				l.Backend > 0 && v.Backend != "" && running.ByBackend[v.Backend]+backend[v.Backend] > l.Backend {
				t.Fatalf("%s is one too many: %d in all, %v, %v", v.Volume, total, project, backend)
			}
		}
		if len(picks) != len(due) {
			t.Fatalf("%d picks of %d volumes", len(picks), len(due))
		}
		if l.Backend > 0 || l.Project > 0 {
			return
		}
		for _, p := range []string{"a", "b", "c", "d"} {
			for _, q := range []string{"a", "b", "c", "d"} {
				if left[p] > 0 && chosen[q] > chosen[p]+1 {
					t.Fatalf("%s gets %d and %s %d while one of its waits", q, chosen[q], p, chosen[p])
				}
			}
		}
	})
}

func TestBoundsAreNeverMoreThanIsSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := func(name string, most int) int { return rapid.IntRange(0, most).Draw(t, name) }
		set := Limits{Cloud: n("cloud", 50), Project: n("project", 50), Backend: n("backend", 50)}
		s := Services{Known: rapid.Bool().Draw(t, "known"), Up: n("up", 5)}
		h := n("halvings", 10)
		l := Bounds(set, s, 10, h)
		if set.Cloud > 0 && l.Cloud > set.Cloud || set.Project > 0 && l.Project > set.Project ||
			l.Project > l.Cloud || l.Backend != set.Backend {
			t.Fatalf("%+v of %+v", l, set)
		}
		if less := Bounds(set, s, 10, h+1); less.Cloud > l.Cloud || less.Project > l.Project ||
			l.Cloud > 1 && less.Cloud >= l.Cloud || (less.Cloud == 0) != (l.Cloud == 0) {
			t.Fatalf("halved, %+v becomes %+v", l, less)
		}
		if nothing := set.Cloud == 0 && s.Known && s.Up == 0; nothing != (l.Cloud == 0) || nothing != (l.Project == 0) {
			t.Fatalf("%+v of %+v with %+v", l, set, s)
		}
	})
}
