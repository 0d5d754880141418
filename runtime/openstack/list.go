package openstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"staffeln/functions/backup"
)

// maxPages bounds a list: ten million rows at 1000 a page.
const maxPages = 10_000

// maxDetours bounds how often one list works around a marker that is gone.
const maxDetours = 20

func allTenantsQuery() url.Values { return url.Values{"all_tenants": {"1"}} }

// A listing is a list to take: the call for its first page, the key of its rows,
// and how to read one.
type listing[W, V any] struct {
	ask  ask
	key  string
	read func(W) (id string, v V, err error)
	// enough may end the list early; nil takes all.
	enough func(page []V) bool
}

// take reads a list page by page, complete or not at all. Only the marker is
// taken from the link to the next page: behind a proxy the link's host and
// scheme are often not those that can be asked.
func take[W, V any](ctx context.Context, c *Cloud, scope string, l listing[W, V]) ([]V, error) {
	rows := []V{}
	var ids []string // of rows, in the order they came
	known := map[string]bool{}
	asked := map[string]bool{} // markers
	marker := ""
	detours := 0
	for range maxPages {
		a := l.ask
		a.query = maps.Clone(l.ask.query)
		if marker != "" {
			if a.query == nil {
				a.query = url.Values{}
			}
			a.query.Set("marker", marker)
		}
		got, err := c.do(ctx, scope, a)
		if marker != "" && markerGone(err, marker) {
			if detours == maxDetours {
				return nil, a.bad(http.StatusOK, errors.New("rows go faster than they can be listed"))
			}
			// The row was deleted since the last page. Go on from one before it, each
			// time from twice as far back, at last from the start: rows come again,
			// but none is left out.
			marker = ""
			if back := len(ids) - 1 - 1<<detours; back >= 0 {
				marker = ids[back]
			}
			detours++
			asked = map[string]bool{marker: true}
			continue
		}
		if err != nil {
			return nil, err
		}
		page, next, err := decodePage[W](got, l.key)
		if err != nil {
			return nil, a.bad(got.status, err)
		}
		values := make([]V, 0, len(page))
		for i, w := range page {
			id, v, err := l.read(w)
			if err != nil {
				return nil, a.bad(got.status, fmt.Errorf("%s[%d]: %w", l.key, i, err))
			}
			values = append(values, v)
			if !known[id] {
				known[id] = true
				ids = append(ids, id)
				rows = append(rows, v)
			}
		}
		if next == "" || l.enough != nil && l.enough(values) {
			return rows, nil
		}
		if asked[next] {
			return nil, a.bad(got.status, errors.New("the pages of the list go in circles"))
		}
		asked[next] = true
		marker = next
	}
	return nil, l.ask.bad(http.StatusOK, fmt.Errorf("the list does not end after %d pages", maxPages))
}

// markerGone knows how Nova (400) and Cinder (404) say that the row a page was
// to begin after is not there.
func markerGone(err error, marker string) bool {
	e, ok := errors.AsType[*backup.CloudError](err)
	return ok && (e.Status == http.StatusBadRequest || e.Status == http.StatusNotFound) && strings.Contains(e.Message, marker)
}

// decodePage reads the rows of one page and the marker of the next, "" for none.
func decodePage[W any](got answer, key string) (rows []W, next string, err error) {
	var fields map[string]json.RawMessage
	if err := decode(got, &fields); err != nil {
		return nil, "", err
	}
	if fields[key] == nil {
		return nil, "", fmt.Errorf("no %s in the answer", key)
	}
	if err := unmarshal(fields[key], &rows); err != nil {
		return nil, "", fmt.Errorf("%s: %w", key, err)
	}
	if rows == nil {
		return nil, "", fmt.Errorf("%s is null", key)
	}
	var href string
	if raw := fields[key+"_links"]; raw != nil {
		var links []struct {
			Rel  string `json:"rel"`
			Href string `json:"href"`
		}
		if json.Unmarshal(raw, &links) != nil {
			return nil, "", fmt.Errorf("%s_links cannot be read", key)
		}
		for _, l := range links {
			if l.Rel == "next" {
				href = l.Href
				if href == "" {
					return nil, "", errors.New("the link to the next page is empty")
				}
			}
		}
	}
	if raw := fields["links"]; raw != nil { // Keystone's way
		var links struct {
			Next *string `json:"next"`
		}
		if json.Unmarshal(raw, &links) != nil {
			return nil, "", errors.New("links cannot be read")
		}
		if links.Next != nil {
			href = *links.Next
		}
	}
	if href == "" {
		return rows, "", nil
	}
	u, err := url.Parse(href)
	if err != nil || !validID(u.Query().Get("marker")) {
		return nil, "", errors.New("the link to the next page has no marker")
	}
	return rows, u.Query().Get("marker"), nil
}
