package simcloud

import (
	"bytes"
	"io"
	"net/http"
	"time"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
)

// maxBody bounds what is read of a request, in bytes.
const maxBody = 1 << 20

// ServeHTTP answers as the cloud. Requests to no service of it get a bare 404.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q, err := parse(r)
	if err != nil {
		http.Error(w, "400 "+err.Error(), http.StatusBadRequest)
		return
	}
	c.state.Count(q.Op)

	c.injectMu.RLock()
	inject := c.inject
	c.injectMu.RUnlock()
	var f Fault
	if inject != nil {
		r.Body = io.NopCloser(bytes.NewReader(q.Body))
		if p := inject(r, q.Op); p != nil {
			f = *p
		}
	}
	if f.Wait > 0 {
		select {
		case <-time.After(f.Wait):
		case <-c.closed:
			panic(http.ErrAbortHandler)
		}
	}
	if f.Hang {
		select {
		case <-r.Context().Done():
		case <-c.closed:
		}
		panic(http.ErrAbortHandler)
	}
	var a api.Answer
	if !f.Refuse {
		a = c.enforce(q)
	}
	switch {
	case a.Status != 0: // the policy file says no
	case f.Late > 0:
		c.do(func(s *model.State, now time.Time) {
			s.At(now.Add(f.Late), func(at time.Time) { handle(s, q, at) })
		})
	case !f.Refuse:
		c.do(func(s *model.State, now time.Time) { a = handle(s, q, now) })
	}
	if f.Cut {
		panic(http.ErrAbortHandler)
	}
	writeAnswer(a, w, q, f)
}

// handle carries a request out.
func handle(s *model.State, q *api.Request, now time.Time) api.Answer {
	a := dispatch(s, q, now)
	writeDown(s, q, a)
	return a
}

func dispatch(s *model.State, q *api.Request, now time.Time) api.Answer {
	if q.Root {
		if a, done := versions(s, q); done {
			return a
		}
	}
	if q.Route == nil || !q.Route.Open {
		if q.Service == "" {
			return api.Done(404)
		}
		q.Token = s.Authenticate(q.Header.Get("X-Auth-Token"), now)
		if q.Token == nil {
			return api.NeedsToken(s)
		}
	}
	if q.Root && q.Service == "volume" {
		at := *q
		at.Path = nil
		a, _ := versions(s, &at)
		return api.Answer{Status: 200, Body: a.Body}
	}
	if q.Route == nil {
		if q.Service == "identity" {
			return api.Answer{Status: 404, Raw: []byte("<!doctype html>\n<html lang=en>\n<title>404 Not " +
				"Found</title>\n<h1>Not Found</h1>\n"),
				Header: map[string]string{"Content-Type": "text/html; charset=utf-8"}}
		}
		return noRoute()
	}
	if a := negotiate(q); a.Status != 0 {
		return a
	}
	if q.Project != "" && (q.Token.Project == nil || q.Token.Project.ID != q.Project) {
		if q.Service == "compute" {
			own := "None"
			if q.Token.Project != nil {
				own = q.Token.Project.ID
			}
			return api.Fail(400, "Malformed request URL: URL's project_id '%s' doesn't match Context's project_id "+
				"'%s'", q.Project, own)
		}
		return api.Fail(400, "Malformed request url")
	}
	return q.Route.Do(s, q, now)
}
