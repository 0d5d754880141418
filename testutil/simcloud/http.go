package simcloud

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Where the services are under the base address.
const (
	identityPath = "/identity/v3"
	computePath  = "/compute/v2.1"
	volumePath   = "/volume/v3"
)

// maxBody bounds what is read of a request, in bytes.
const maxBody = 1 << 20

// A request is an HTTP request taken apart, so that it can be carried out later.
type request struct {
	method  string
	service string   // identity, compute, volume; "" for none
	path    []string // below the version and, for Cinder, the project
	root    bool     // the service's own address, or its version's
	project string   // in the URL, "" where there is none
	raw     string   // path and query as asked, for links
	query   url.Values
	header  http.Header
	body    []byte
	route   *route
	args    []string // what stands for ID and KEY in the route
	op      string

	token   *token
	version int
	makers  bool   // whether whoever asks is shown who made a backup; see askMakers
	note    string // what the log says of it, if not method, route and args
}

// An answer is what is sent back.
type answer struct {
	status int
	body   any // to be made JSON; nil for none
	page   *page
	raw    []byte
	header map[string]string
}

// A page is one page of a list.
type page struct {
	name  string
	items []any
	next  string // address of the next page
	count *int
}

type link struct {
	Rel  string `json:"rel"`
	Href string `json:"href"`
}

func (p *page) json() any {
	if p.items == nil {
		p.items = []any{}
	}
	out := map[string]any{p.name: p.items}
	if p.next != "" {
		out[p.name+"_links"] = []link{{"next", p.next}}
	}
	if p.count != nil {
		out["count"] = *p.count
	}
	return out
}

func ok(body any) answer { return answer{status: 200, body: body} }

func done(status int) answer { return answer{status: status} }

// fail is an answer of Nova's or Cinder's that says no.
func fail(status int, format string, args ...any) answer {
	message := format
	if len(args) > 0 {
		message = fmt.Sprintf(format, args...)
	}
	a := answer{status: status, raw: errorBody(status, message)}
	if status == 413 {
		a.header = map[string]string{"Retry-After": "0"}
	}
	return a
}

// errorBody is the JSON with which Nova and Cinder say no. Source: the Fault of
// nova/api/openstack/wsgi.py and cinder/api/openstack/wsgi.py.
func errorBody(status int, message string) []byte {
	name := "computeFault"
	switch status {
	case 400:
		name = "badRequest"
	case 401:
		name = "unauthorized"
	case 403:
		name = "forbidden"
	case 404:
		name = "itemNotFound"
	case 405:
		name = "badMethod"
	case 409:
		name = "conflictingRequest"
	case 413, 429:
		name = "overLimit"
	case 415:
		name = "badMediaType"
	case 501:
		name = "notImplemented"
	case 503:
		name = "serviceUnavailable"
	}
	inner := map[string]any{"code": status, "message": message}
	if status == 413 || status == 429 {
		inner["retryAfter"] = "0"
	}
	return encode(map[string]any{name: inner})
}

func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("simcloud: " + err.Error()) // all that is encoded here can be
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

// noRoute is what the routers of Nova and Cinder say to a path they do not know.
func noRoute() answer {
	return answer{status: 404, body: map[string]string{"message": "The resource could not be found.<br /><br />\n\n\n",
		"code": "404 Not Found", "title": "Not Found"}}
}

// needsToken is the 401 of all services.
func (s *state) needsToken() answer {
	return answer{status: 401,
		header: map[string]string{"WWW-Authenticate": `Keystone uri="` + s.o.Base + identityPath + `"`},
		body:   keystoneError(401, "The request you have made requires authentication.")}
}

func keystoneError(code int, message string) any {
	return map[string]any{"error": map[string]any{"code": code, "title": http.StatusText(code), "message": message}}
}

func keystoneFail(code int, format string, args ...any) answer {
	return answer{status: code, body: keystoneError(code, fmt.Sprintf(format, args...))}
}

// ServeHTTP answers as the cloud. Requests to no service of it get a bare 404.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q, err := parse(r)
	if err != nil {
		http.Error(w, "400 "+err.Error(), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	c.state.calls[q.op]++
	c.mu.Unlock()

	c.injectMu.RLock()
	inject := c.inject
	c.injectMu.RUnlock()
	var f Fault
	if inject != nil {
		r.Body = io.NopCloser(bytes.NewReader(q.body))
		if p := inject(r, q.op); p != nil {
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
	var a answer
	if !f.Refuse {
		a = c.enforce(q)
	}
	switch {
	case a.status != 0: // the policy file says no
	case f.Late > 0:
		c.do(func(s *state, now time.Time) {
			s.at(now.Add(f.Late), func(at time.Time) { s.handle(q, at) })
		})
	case !f.Refuse:
		c.do(func(s *state, now time.Time) { a = s.handle(q, now) })
	}
	if f.Cut {
		panic(http.ErrAbortHandler)
	}
	a.write(w, q, f)
}

// write sends an answer, spoiled by a fault.
func (a answer) write(w http.ResponseWriter, q *request, f Fault) {
	h := w.Header()
	for k, v := range a.header {
		h.Set(k, v)
	}
	if a.status < 500 && q.service != "identity" && a.status != 401 {
		name := q.service
		if name == "compute" {
			h.Set("X-OpenStack-Nova-API-Version", q.header.Get("X-OpenStack-Nova-API-Version"))
		}
		if v := versionHeader(q); v != "" {
			h.Set("OpenStack-API-Version", v)
		}
		h.Set("Vary", "OpenStack-API-Version")
	}
	body := a.raw
	if a.page != nil {
		if f.Drop > 0 && a.status == 200 {
			a.page.items = a.page.items[:max(0, len(a.page.items)-f.Drop)]
			a.page.next = ""
		}
		a.body = a.page.json()
	}
	if a.body != nil {
		body = encode(a.body)
	}
	if body != nil {
		h.Set("Content-Type", "application/json")
	}
	status := a.status
	if f.Status != 0 {
		status = f.Status
	}
	if f.Body != "" {
		body = []byte(f.Body)
		h.Set("Content-Type", "application/json")
	}
	for k, v := range f.Header {
		h[http.CanonicalHeaderKey(k)] = v
	}
	if f.Truncate {
		body = body[:len(body)/2]
	}
	if f.Empty {
		body = nil
		h.Del("Content-Type")
	}
	if status == 0 {
		status = 200
	}
	if status != 204 && status != 304 {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	if status != 204 && status != 304 {
		w.Write(body) //nolint:errcheck // the client's loss
	}
}

// versionHeader is the microversion as the answer tells it.
func versionHeader(q *request) string {
	switch q.service {
	case "compute":
		return "compute 2." + strconv.Itoa(q.version)
	case "volume":
		return "volume 3." + strconv.Itoa(q.version)
	}
	return ""
}

// parse takes a request apart and finds its route.
func parse(r *http.Request) (*request, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxBody {
		return nil, fmt.Errorf("a body of more than %d bytes", maxBody)
	}
	q := &request{method: r.Method, query: r.URL.Query(), header: r.Header.Clone(), body: body, raw: r.URL.RequestURI()}
	segments := strings.FieldsFunc(r.URL.EscapedPath(), func(c rune) bool { return c == '/' })
	for i, s := range segments {
		if segments[i], err = url.PathUnescape(s); err != nil {
			return nil, err
		}
	}
	versions := map[string]string{"identity": "v3", "compute": "v2.1", "volume": "v3"}
	if len(segments) > 0 && versions[segments[0]] != "" {
		q.service = segments[0]
		switch {
		case len(segments) == 1:
			q.root = true
		case segments[1] == versions[q.service]:
			q.path = segments[2:]
			q.root = len(q.path) == 0
		default:
			q.path = segments[1:]
		}
	}
	q.op = q.method + " /" + q.service
	if q.root {
		if len(segments) > 1 {
			q.op += "/" + segments[1]
		}
		q.path = segments[1:]
		return q, nil
	}
	q.find(q.path)
	if q.route == nil && q.service != "identity" && len(q.path) > 0 { // a project stands before
		q.project = q.path[0]
		q.find(q.path[1:])
	}
	if q.route == nil {
		q.op += "/other"
		return q, nil
	}
	q.op += "/" + q.route.pattern
	return q, nil
}

// find sets route and args.
func (q *request) find(path []string) {
next:
	for i := range routes {
		r := &routes[i]
		if r.service != q.service || r.method != q.method || len(r.segments) != len(path) {
			continue
		}
		var args []string
		for k, s := range r.segments {
			switch {
			case s == "ID" || s == "KEY":
				args = append(args, path[k])
			case s != path[k]:
				continue next
			}
		}
		q.route, q.args, q.path = r, args, path
		return
	}
}

// A route is one thing that can be asked. Source of the paths: the routers of
// Keystone, Nova and Cinder.
type route struct {
	method, service, pattern string
	segments                 []string
	do                       func(s *state, q *request, now time.Time) answer
	open                     bool // needs no token
}

var routes []route

func init() {
	add := func(service string, list []route) {
		for _, r := range list {
			r.service, r.segments = service, strings.Split(r.pattern, "/")
			routes = append(routes, r)
		}
	}
	add("identity", identityRoutes)
	add("compute", computeRoutes)
	add("volume", volumeRoutes)
}

// handle carries a request out.
func (s *state) handle(q *request, now time.Time) answer {
	a := s.dispatch(q, now)
	s.writeDown(q, a)
	return a
}

// writeDown puts a request that was to change something into the log.
func (s *state) writeDown(q *request, a answer) {
	if q.method != http.MethodGet && q.method != http.MethodHead && !(q.route != nil && q.route.open) {
		note := q.note
		if note == "" {
			note = q.op
			if len(q.args) > 0 {
				note += " " + strings.Join(q.args, " ")
			}
		}
		s.log = append(s.log, note+" -> "+strconv.Itoa(a.status))
	}
}

func (s *state) dispatch(q *request, now time.Time) answer {
	if q.root {
		if a, done := s.versions(q); done {
			return a
		}
	}
	if q.route == nil || !q.route.open {
		if q.service == "" {
			return done(404)
		}
		q.token = s.authenticate(q.header.Get("X-Auth-Token"), now)
		if q.token == nil {
			return s.needsToken()
		}
	}
	if q.root && q.service == "volume" {
		at := *q
		at.path = nil
		a, _ := s.versions(&at)
		return answer{status: 200, body: a.body}
	}
	if q.route == nil {
		if q.service == "identity" {
			return answer{status: 404, raw: []byte("<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n"),
				header: map[string]string{"Content-Type": "text/html; charset=utf-8"}}
		}
		return noRoute()
	}
	if a := q.negotiate(); a.status != 0 {
		return a
	}
	if q.project != "" && (q.token.project == nil || q.token.project.id != q.project) {
		if q.service == "compute" {
			own := "None"
			if q.token.project != nil {
				own = q.token.project.id
			}
			return fail(400, "Malformed request URL: URL's project_id '%s' doesn't match Context's project_id '%s'", q.project, own)
		}
		return fail(400, "Malformed request url")
	}
	return q.route.do(s, q, now)
}

// negotiate finds the microversion. Source: nova/api/openstack/wsgi.py and
// cinder/api/openstack/wsgi.py, set_api_version_request.
func (q *request) negotiate() answer {
	var major, low, high int
	var name, word string
	switch q.service {
	case "compute":
		major, low, high, name = 2, 1, 93, "compute"
		word = q.header.Get("X-OpenStack-Nova-API-Version")
	case "volume":
		major, low, high, name = 3, 0, 70, "volume"
	default:
		return answer{}
	}
	q.version = low
	for _, part := range strings.Split(strings.Join(q.header.Values("OpenStack-API-Version"), ","), ",") {
		if service, v, ok := strings.Cut(strings.TrimSpace(part), " "); ok && service == name {
			word = strings.TrimSpace(v)
		}
	}
	if word == "" {
		return answer{}
	}
	if word == "latest" {
		q.version = high
		return answer{}
	}
	a, b, found := strings.Cut(word, ".")
	x, err := strconv.Atoi(a)
	y, err2 := strconv.Atoi(b)
	if !found || err != nil || err2 != nil || x < 0 || y < 0 {
		return fail(400, "API Version String %s is of invalid format. Must be of format MajorNum.MinorNum.", word)
	}
	if x != major || y < low || y > high {
		return fail(406, "Version %s is not supported by the API. Minimum is %d.%d and maximum is %d.%d.", word, major, low, major, high)
	}
	q.version = y
	return answer{}
}

// versions answers for the addresses of the services themselves.
func (s *state) versions(q *request) (answer, bool) {
	at := len(q.path) == 0 // the service's address, not the version's
	switch q.service {
	case "identity":
		v := map[string]any{"id": "v3.14", "status": "stable", "updated": "2020-04-07T00:00:00Z",
			"links":       []link{{"self", s.o.Base + identityPath + "/"}},
			"media-types": []any{map[string]string{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}}}
		if at {
			return answer{status: 300, body: map[string]any{"versions": map[string]any{"values": []any{v}}}}, true
		}
		return ok(map[string]any{"version": v}), true
	case "compute":
		v := map[string]any{"id": "v2.1", "status": "CURRENT", "version": "2.93", "min_version": "2.1",
			"updated": "2013-07-23T11:33:21Z", "links": []link{{"self", s.o.Base + computePath + "/"}}}
		if at {
			return ok(map[string]any{"versions": []any{v}}), true
		}
		return ok(map[string]any{"version": v}), true
	case "volume":
		if !at {
			break // needs a token
		}
		return answer{status: 300, body: map[string]any{"versions": []any{map[string]any{"id": "v3.0", "status": "CURRENT",
			"version": "3.70", "min_version": "3.0", "updated": "2022-08-31T00:00:00Z",
			"links":       []link{{"self", s.o.Base + volumePath + "/"}},
			"media-types": []any{map[string]string{"base": "application/json", "type": "application/vnd.openstack.volume+json;version=3"}}}}}}, true
	}
	return answer{}, false
}

// seconds is a duration in whole seconds, rounded up.
func seconds(d time.Duration) string { return strconv.Itoa(int(math.Ceil(d.Seconds()))) }

// Transport reaches the cloud without a network, for clouds from [New] and for
// speed. Whatever the host of a request's address, its path counts.
func (c *Cloud) Transport() http.RoundTripper { return memory{c} }

type memory struct{ c *Cloud }

// RoundTrip lets the cloud answer in a goroutine of its own, so that a client can
// give up.
func (m memory) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	if in.Body == nil {
		in.Body = http.NoBody
	}
	in.RequestURI = r.URL.RequestURI()
	type outcome struct {
		w   *recorder
		err error
	}
	over := make(chan outcome, 1)
	go func() {
		w := &recorder{header: http.Header{}}
		defer in.Body.Close()
		defer func() {
			if p := recover(); p != nil {
				if p != http.ErrAbortHandler {
					panic(p)
				}
				over <- outcome{nil, io.ErrUnexpectedEOF}
			}
		}()
		m.c.ServeHTTP(w, in)
		over <- outcome{w, nil}
	}()
	select {
	case o := <-over:
		if err := r.Context().Err(); o.err != nil && err != nil {
			return nil, err
		}
		if o.err != nil {
			return nil, o.err
		}
		return &http.Response{Status: strconv.Itoa(o.w.status) + " " + http.StatusText(o.w.status), StatusCode: o.w.status,
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: o.w.header, Request: r,
			ContentLength: int64(o.w.body.Len()), Body: io.NopCloser(&o.w.body)}, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// recorder keeps an answer.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) WriteHeader(status int)      { w.status = status }
func (w *recorder) Write(b []byte) (int, error) { return w.body.Write(b) }
