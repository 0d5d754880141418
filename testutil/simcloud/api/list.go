package api

import (
	"net/url"
	"strings"

	"staffeln/testutil/simcloud/model"
)

// A Listing is what a list is asked for.
type Listing[T model.Keyed] struct {
	Q     *Request
	Limit int
	Name  string
	Path  string // for the address of the next page
	Keep  func(T) bool
	View  func(T) any
	ID    func(T) string
}

// Page cuts a page out of rows that are sorted oldest first. after is the row of
// the marker; none begins at the newest.
func (l *Listing[T]) Page(rows *model.Order[T], after T, ascending bool) *Page {
	p := &Page{Name: l.Name}
	var none, last T
	step, i := -1, len(rows.Rows)-1
	if ascending {
		step, i = 1, 0
	}
	if after != none {
		i = rows.Find(after)
		if !ascending {
			i-- // the newest of those that are older
		} else if i < len(rows.Rows) && rows.Rows[i] == after {
			i++
		}
	}
	for ; i >= 0 && i < len(rows.Rows) && len(p.Items) < l.Limit; i += step {
		if l.Keep(rows.Rows[i]) {
			last = rows.Rows[i]
			p.Items = append(p.Items, l.View(last))
		}
	}
	if len(p.Items) > 0 && len(p.Items) == l.Limit {
		p.Next = l.Next(l.ID(last))
	}
	return p
}

// Count is how many there are on all pages.
func (l *Listing[T]) Count(rows *model.Order[T]) int {
	n := 0
	for _, r := range rows.Rows {
		if l.Keep(r) {
			n++
		}
	}
	return n
}

// Next is the address of the page after an id: the same question with a marker.
func (l *Listing[T]) Next(id string) string {
	_, query, _ := strings.Cut(l.Q.Raw, "?")
	var parts []string
	for _, part := range strings.Split(query, "&") {
		if part != "" && !strings.HasPrefix(part, "marker=") {
			parts = append(parts, part)
		}
	}
	return l.Path + "?" + strings.Join(append(parts, "marker="+url.QueryEscape(id)), "&")
}
