package simcloud

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/cinder"
	"staffeln/testutil/simcloud/keystone"
	"staffeln/testutil/simcloud/model"
	"staffeln/testutil/simcloud/nova"
)

// noRoute is what the routers of Nova and Cinder say to a path they do not know.
func noRoute() api.Answer {
	return api.Answer{Status: 404, Body: map[string]string{"message": "The resource could not be found.<br /><br />\n\n\n",
		"code": "404 Not Found", "title": "Not Found"}}
}

// versionHeader is the microversion as the answer tells it.
func versionHeader(q *api.Request) string {
	switch q.Service {
	case "compute":
		return "compute 2." + strconv.Itoa(q.Version)
	case "volume":
		return "volume 3." + strconv.Itoa(q.Version)
	}
	return ""
}

// parse takes a request apart and finds its route.
func parse(r *http.Request) (*api.Request, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxBody {
		return nil, fmt.Errorf("a body of more than %d bytes", maxBody)
	}
	q := &api.Request{Method: r.Method, Query: r.URL.Query(), Header: r.Header.Clone(), Body: body,
		Raw: r.URL.RequestURI()}
	segments := strings.FieldsFunc(r.URL.EscapedPath(), func(c rune) bool { return c == '/' })
	for i, s := range segments {
		if segments[i], err = url.PathUnescape(s); err != nil {
			return nil, err
		}
	}
	versions := map[string]string{"identity": "v3", "compute": "v2.1", "volume": "v3"}
	if len(segments) > 0 && versions[segments[0]] != "" {
		q.Service = segments[0]
		switch {
		case len(segments) == 1:
			q.Root = true
		case segments[1] == versions[q.Service]:
			q.Path = segments[2:]
			q.Root = len(q.Path) == 0
		default:
			q.Path = segments[1:]
		}
	}
	q.Op = q.Method + " /" + q.Service
	if q.Root {
		if len(segments) > 1 {
			q.Op += "/" + segments[1]
		}
		q.Path = segments[1:]
		return q, nil
	}
	find(q, q.Path)
	if q.Route == nil && q.Service != "identity" && len(q.Path) > 0 { // a project stands before
		q.Project = q.Path[0]
		find(q, q.Path[1:])
	}
	if q.Route == nil {
		q.Op += "/other"
		return q, nil
	}
	q.Op += "/" + q.Route.Pattern
	return q, nil
}

// find sets route and args.
func find(q *api.Request, path []string) {
next:
	for i := range routes {
		r := &routes[i]
		if r.Service != q.Service || r.Method != q.Method || len(r.Segments) != len(path) {
			continue
		}
		var args []string
		for k, s := range r.Segments {
			switch {
			case s == "ID" || s == "KEY":
				args = append(args, path[k])
			case s != path[k]:
				continue next
			}
		}
		q.Route, q.Args, q.Path = r, args, path
		return
	}
}

var routes []api.Route

func init() {
	add := func(service string, list []api.Route) {
		for _, r := range list {
			r.Service, r.Segments = service, strings.Split(r.Pattern, "/")
			routes = append(routes, r)
		}
	}
	add("identity", keystone.Routes)
	add("compute", nova.Routes)
	add("volume", cinder.Routes)
}

// negotiate finds the microversion. Source: nova/api/openstack/wsgi.py and
// cinder/api/openstack/wsgi.py, set_api_version_request.
func negotiate(q *api.Request) api.Answer {
	var major, low, high int
	var name, word string
	switch q.Service {
	case "compute":
		major, low, high, name = 2, 1, 93, "compute"
		word = q.Header.Get("X-OpenStack-Nova-API-Version")
	case "volume":
		major, low, high, name = 3, 0, 70, "volume"
	default:
		return api.Answer{}
	}
	q.Version = low
	for _, part := range strings.Split(strings.Join(q.Header.Values("OpenStack-API-Version"), ","), ",") {
		if service, v, ok := strings.Cut(strings.TrimSpace(part), " "); ok && service == name {
			word = strings.TrimSpace(v)
		}
	}
	if word == "" {
		return api.Answer{}
	}
	if word == "latest" {
		q.Version = high
		return api.Answer{}
	}
	a, b, found := strings.Cut(word, ".")
	x, err := strconv.Atoi(a)
	y, err2 := strconv.Atoi(b)
	if !found || err != nil || err2 != nil || x < 0 || y < 0 {
		return api.Fail(400, "API Version String %s is of invalid format. Must be of format MajorNum.MinorNum.", word)
	}
	if x != major || y < low || y > high {
		return api.Fail(406, "Version %s is not supported by the API. Minimum is %d.%d and maximum is %d.%d.", word,
			major, low, major, high)
	}
	q.Version = y
	return api.Answer{}
}

// versions answers for the addresses of the services themselves.
func versions(s *model.State, q *api.Request) (api.Answer, bool) {
	at := len(q.Path) == 0 // the service's address, not the version's
	switch q.Service {
	case "identity":
		v := map[string]any{"id": "v3.14", "status": "stable", "updated": "2020-04-07T00:00:00Z",
			"links": []api.Link{{Rel: "self", Href: s.Options.Base + api.IdentityPath + "/"}},
			"media-types": []any{map[string]string{"base": "application/json",
				"type": "application/vnd.openstack.identity-v3+json"}}}
		if at {
			return api.Answer{Status: 300, Body: map[string]any{"versions": map[string]any{"values": []any{v}}}}, true
		}
		return api.OK(map[string]any{"version": v}), true
	case "compute":
		v := map[string]any{"id": "v2.1", "status": "CURRENT", "version": "2.93", "min_version": "2.1",
			"updated": "2013-07-23T11:33:21Z", "links": []api.Link{{Rel: "self", Href: s.Options.Base + api.ComputePath + "/"}}}
		if at {
			return api.OK(map[string]any{"versions": []any{v}}), true
		}
		return api.OK(map[string]any{"version": v}), true
	case "volume":
		if !at {
			break // needs a token
		}
		return api.Answer{Status: 300, Body: map[string]any{"versions": []any{map[string]any{"id": "v3.0",
			"status":  "CURRENT",
			"version": "3.70", "min_version": "3.0", "updated": "2022-08-31T00:00:00Z",
			"links": []api.Link{{Rel: "self", Href: s.Options.Base + api.VolumePath + "/"}},
			"media-types": []any{map[string]string{"base": "application/json",
				"type": "application/vnd.openstack.volume+json;version=3"}}}}}}, true
	}
	return api.Answer{}, false
}
