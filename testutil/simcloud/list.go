package simcloud

import (
	"net/url"
	"strconv"
	"strings"
)

// A listing is what a list is asked for.
type listing[T keyed] struct {
	q     *request
	limit int
	name  string
	path  string // for the address of the next page
	keep  func(T) bool
	view  func(T) any
	id    func(T) string
}

// page cuts a page out of rows that are sorted oldest first. after is the row of
// the marker; none begins at the newest.
func (l *listing[T]) page(rows *order[T], after T, ascending bool) *page {
	p := &page{name: l.name}
	var none, last T
	step, i := -1, len(rows.rows)-1
	if ascending {
		step, i = 1, 0
	}
	if after != none {
		i = rows.find(after)
		if !ascending {
			i-- // the newest of those that are older
		} else if i < len(rows.rows) && rows.rows[i] == after {
			i++
		}
	}
	for ; i >= 0 && i < len(rows.rows) && len(p.items) < l.limit; i += step {
		if l.keep(rows.rows[i]) {
			last = rows.rows[i]
			p.items = append(p.items, l.view(last))
		}
	}
	if len(p.items) > 0 && len(p.items) == l.limit {
		p.next = l.next(l.id(last))
	}
	return p
}

// count is how many there are on all pages.
func (l *listing[T]) count(rows *order[T]) int {
	n := 0
	for _, r := range rows.rows {
		if l.keep(r) {
			n++
		}
	}
	return n
}

// next is the address of the page after an id: the same question with a marker.
func (l *listing[T]) next(id string) string {
	_, query, _ := strings.Cut(l.q.raw, "?")
	var parts []string
	for _, part := range strings.Split(query, "&") {
		if part != "" && !strings.HasPrefix(part, "marker=") {
			parts = append(parts, part)
		}
	}
	return l.path + "?" + strings.Join(append(parts, "marker="+url.QueryEscape(id)), "&")
}

// pageLimit reads limit as Cinder does.
func (q *request) pageLimit(most int) (int, answer) {
	if !q.query.Has("limit") {
		return most, answer{}
	}
	n, err := strconv.Atoi(q.query.Get("limit"))
	switch {
	case err != nil:
		return 0, fail(400, "limit param must be an integer")
	case n < 0:
		return 0, fail(400, "limit param must be positive")
	}
	return min(n, most), answer{}
}
