package openstack

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"staffeln/functions/backup"
)

// A shelf is a service's list of rows, newest first, given out in pages as Nova
// and Cinder do: after a marker, which must be there.
type shelf struct {
	key  string
	rows []map[string]any
	page int
	// before is called before each page is given out, with its marker.
	before func(s *shelf, marker string)
}

// volumeShelf has n volumes, vol-0 the newest.
func volumeShelf(t *testing.T, n, page int) *shelf {
	var body struct {
		Volumes []map[string]any `json:"volumes"`
	}
	if err := json.Unmarshal(load(t, "cinder-volumes-detail-page-1").Response.Body, &body); err != nil {
		t.Fatal(err)
	}
	s := &shelf{key: "volumes", page: page}
	for i := range n {
		row := map[string]any{}
		for k, v := range body.Volumes[0] {
			row[k] = v
		}
		row["id"] = fmt.Sprintf("vol-%d", i)
		s.rows = append(s.rows, row)
	}
	return s
}

func (s *shelf) index(id string) int {
	return slices.IndexFunc(s.rows, func(r map[string]any) bool { return r["id"] == id })
}

func (s *shelf) remove(ids ...string) {
	for _, id := range ids {
		if i := s.index(id); i >= 0 {
			s.rows = slices.Delete(s.rows, i, i+1)
		}
	}
}

func (s *shelf) answer(r request) reply {
	_, query, _ := strings.Cut(r.line, "?")
	q, _ := url.ParseQuery(query)
	marker := q.Get("marker")
	if s.before != nil {
		s.before(s, marker)
	}
	start := 0
	if marker != "" {
		i := s.index(marker)
		if i < 0 {
			return reply{status: 404, body: fmt.Sprintf(`{"itemNotFound": {"code": 404, "message": "Volume %s could not be found."}}`, marker)}
		}
		start = i + 1
	}
	end := min(start+s.page, len(s.rows))
	out := map[string]any{s.key: append([]map[string]any{}, s.rows[start:end]...)}
	if end-start == s.page {
		// Behind a proxy the link's scheme and host are often not the public ones.
		next := fmt.Sprintf("http://cinder-internal.example/%s/detail?marker=%s", s.key, s.rows[end-1]["id"])
		out[s.key+"_links"] = []map[string]string{{"rel": "next", "href": next}}
	}
	b, _ := json.Marshal(out)
	return ok(string(b))
}

func names(n int, without ...string) []string {
	var l []string
	for i := range n {
		if id := fmt.Sprintf("vol-%d", i); !slices.Contains(without, id) {
			l = append(l, id)
		}
	}
	return l
}

func listed(vs []backup.Volume) []string {
	var l []string
	for _, v := range vs {
		l = append(l, v.ID)
	}
	return l
}

// A list is complete, whatever happens between its pages.
func TestPaging(t *testing.T) {
	for _, tc := range []struct {
		name    string
		n, page int
		before  func(s *shelf, marker string)
		want    []string
	}{
		{"nothing there is a list of nothing", 0, 3, nil, nil},
		{"one page", 2, 3, nil, names(2)},
		{"the last page may be empty", 6, 3, nil, names(6)},
		{"many pages", 1000, 7, nil, names(1000)},
		{"the marker of the next page is deleted in between", 9, 3,
			func(s *shelf, marker string) {
				if marker == "vol-2" {
					s.remove("vol-2")
				}
			}, names(9)},
		{"the whole last page is deleted in between", 12, 3,
			func(s *shelf, marker string) {
				if marker == "vol-5" {
					s.remove("vol-3", "vol-4", "vol-5")
				}
			}, names(12)},
		{"all that was read is deleted in between", 12, 3,
			func(s *shelf, marker string) {
				if marker == "vol-5" {
					s.remove(names(6)...)
				}
			}, names(12)},
		{"a marker is deleted at every page", 40, 4,
			func(s *shelf, marker string) {
				if i := s.index(marker); i > 0 && i%2 == 1 {
					s.remove(marker)
				}
			}, names(40)},
		{"rows not yet read are deleted in between", 9, 3,
			func(s *shelf, marker string) {
				if marker == "vol-2" {
					s.remove("vol-4", "vol-8")
				}
			}, names(9, "vol-4", "vol-8")},
		{"new rows come in front while reading", 9, 3,
			func(s *shelf, marker string) {
				if marker != "" {
					row := map[string]any{}
					for k, v := range s.rows[0] {
						row[k] = v
					}
					row["id"] = "new-" + marker
					s.rows = append([]map[string]any{row}, s.rows...)
				}
			}, names(9)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			c := f.connect(f.options(Admin))
			s := volumeShelf(t, tc.n, tc.page)
			s.before = tc.before
			f.answer = s.answer
			got, err := c.Volumes(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			if got == nil {
				t.Error("nil for an empty list")
			}
			if !slices.Equal(listed(got), tc.want) {
				t.Errorf("%q, want %q", listed(got), tc.want)
			}
			for _, l := range f.lines() {
				if !strings.HasPrefix(l, "GET "+cinderHost+"/v3/"+serviceProject+"/volumes/detail?all_tenants=1") {
					t.Errorf("asked %s", l)
				}
			}
		})
	}
}

// What cannot be made complete is an error, and nothing of it is given out.
func TestPagingThatCannotEnd(t *testing.T) {
	link := func(marker string) string {
		return fmt.Sprintf(`{"volumes": [], "volumes_links": [{"rel": "next", "href": "http://x/?marker=%s"}]}`, marker)
	}
	for _, tc := range []struct {
		name   string
		answer func(page int, r request) reply
		want   backup.Fault
	}{
		{"a link to the same page", func(int, request) reply { return ok(link(web1Data)) }, backup.Retry},
		{"links in a circle", func(p int, _ request) reply { return ok(link(string("abc"[p%3]))) }, backup.Retry},
		{"markers that never end", func(p int, _ request) reply { return ok(link(fmt.Sprint("m", p))) }, backup.Retry},
		{"every marker is gone at once", func(p int, r request) reply {
			if _, m, found := strings.Cut(r.line, "marker="); found {
				return reply{status: 404, body: `{"itemNotFound": {"message": "Volume ` + m + ` could not be found."}}`}
			}
			return ok(link(fmt.Sprint("m", p)))
		}, backup.Retry},
		{"the second page breaks", func(p int, _ request) reply {
			if p == 1 {
				return reply{status: 503}
			}
			return ok(link(web1Data))
		}, backup.Retry},
		{"the second page is another answer", func(p int, _ request) reply {
			if p == 1 {
				return ok(`{}`)
			}
			return ok(link(web1Data))
		}, backup.Retry},
		{"the second page is refused for another reason", func(p int, _ request) reply {
			if p == 1 {
				return reply{status: 400, body: `{"badRequest": {"message": "Invalid limit"}}`}
			}
			return ok(link(web1Data))
		}, backup.Operator},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			c := f.connect(f.options(Admin))
			page := -1
			f.answer = func(r request) reply { page++; return tc.answer(page, r) }
			got, err := c.Volumes(t.Context(), "")
			if got != nil {
				t.Errorf("%d rows given out", len(got))
			}
			wantFault(t, err, tc.want)
		})
	}
}

func TestRecordedMarkersThatAreGone(t *testing.T) {
	for _, name := range []string{"cinder-volumes-detail-marker-gone-404", "backups-detail-marker-gone-404", "nova-servers-detail-marker-gone-400"} {
		f := newFake(t)
		c := f.connect(f.options(Admin))
		r := load(t, name).reply()
		f.answer = func(request) reply { return r }
		_, err := c.Volumes(t.Context(), "")
		if !markerGone(err, nothing) {
			t.Errorf("%s: not known from %v", name, err)
		}
		if markerGone(err, web1Data) {
			t.Errorf("%s: taken for another marker", name)
		}
	}
}

func TestATokenThatEndsBetweenPages(t *testing.T) {
	f := newFake(t)
	c := f.connect(f.options(Admin))
	s := volumeShelf(t, 9, 3)
	f.answer = func(r request) reply {
		a := s.answer(r)
		f.revoke()
		return a
	}
	before := f.tokensGiven()
	got, err := c.Volumes(t.Context(), "")
	if err != nil || len(got) != 9 {
		t.Fatalf("%d rows, %v", len(got), err)
	}
	if n := f.tokensGiven() - before; n != 3 {
		t.Errorf("%d new tokens, want one for each of 3 further pages", n)
	}
}

// Without the role, Cinder would answer with the home project's rows as if they
// were all.
func TestAnAdminWhoIsOneNoLonger(t *testing.T) {
	f := newFake(t)
	c := f.connect(f.options(Auto))
	s := volumeShelf(t, 9, 3)
	f.answer = func(r request) reply {
		a := s.answer(r)
		f.roles = []string{"member"}
		f.revoke()
		return a
	}
	_, err := c.Volumes(t.Context(), "")
	if e := wantFault(t, err, backup.Operator); !strings.Contains(e.Message, "lost the role admin") {
		t.Error(e)
	}
}

func TestRecentBackups(t *testing.T) {
	page := func(ids ...string) string { // "ID@HOUR", newest first
		var rows []map[string]any
		for _, s := range ids {
			id, hour, _ := strings.Cut(s, "@")
			rows = append(rows, map[string]any{"id": id, "volume_id": web1Data, "status": "available", "size": 1,
				"created_at": "2026-11-22T" + hour + ":00:00.000000", "updated_at": nil, "metadata": map[string]string{}, "name": nil})
		}
		last, _, _ := strings.Cut(ids[len(ids)-1], "@")
		b, _ := json.Marshal(map[string]any{"backups": rows,
			"backups_links": []map[string]string{{"rel": "next", "href": "http://x/?marker=" + last}}})
		return string(b)
	}
	for _, tc := range []struct {
		name  string
		since string
		pages []string
		want  []string
	}{
		{"stops at the page with the first that is older", "2026-11-22T08:00:00Z",
			[]string{page("a@10", "b@09"), page("c@08", "d@07"), page("e@06")}, []string{"a", "b", "c", "d"}},
		{"one exactly as old is not older", "2026-11-22T08:00:00Z",
			[]string{page("a@10", "b@08"), page("c@07")}, []string{"a", "b", "c"}},
		{"a list that is not sorted is read to its end, and sorted", "2026-11-22T08:00:00Z",
			[]string{page("a@07", "b@09"), page("c@06", "d@10"), `{"backups": []}`}, []string{"d", "b", "a", "c"}},
		{"without a since it is complete", "",
			[]string{page("a@10", "b@01"), page("c@00"), `{"backups": []}`}, []string{"a", "b", "c"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			c := f.connect(f.options(Admin))
			n := -1
			f.answer = func(request) reply { n++; return ok(tc.pages[n]) }
			var since time.Time
			if tc.since != "" {
				since = at(tc.since)
			}
			got, err := c.BackupsOf(t.Context(), alphaProject, "", since)
			if err != nil {
				t.Fatal(err)
			}
			var l []string
			for _, b := range got {
				l = append(l, b.ID)
			}
			if !slices.Equal(l, tc.want) {
				t.Errorf("%q, want %q", l, tc.want)
			}
		})
	}
}

// An operator can take volume_id out of Cinder's resource_filters.json.
func TestAFilterThatIsNotApplied(t *testing.T) {
	f := newFake(t)
	c := f.connect(f.options(Admin))
	r := load(t, "backups-detail-all-tenants").reply()
	f.answer = func(request) reply { return r }
	got, err := c.BackupsOf(t.Context(), serviceProject, web1Data, time.Time{})
	if err != nil || len(got) != 2 {
		t.Errorf("%d backups of the volume, %v; want 2 of the 3 in the list", len(got), err)
	}
}
