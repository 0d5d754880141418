// Package api is what the simulated services have in common of HTTP: requests,
// answers, refusals, lists in pages, and bodies that are checked as OpenStack's JSON
// schemas do.
package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"staffeln/testutil/simcloud/model"
)

// Stamp is how Cinder tells times: UTC, without saying so.
const Stamp = "2006-01-02T15:04:05.000000"

// CinderAt is a time as Cinder tells it, in whole seconds; nil for the zero time.
func CinderAt(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	v := t.UTC().Truncate(time.Second).Format(Stamp)
	return &v
}

// OrNull is nil for an empty string, which JSON writes as null.
func OrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// JSONNull is JSON's null, for fields that are left out where they are nil.
var JSONNull = json.RawMessage("null")

// NoVolume is the 404 for a volume, of Cinder and of Nova.
func NoVolume(id string) Answer { return Fail(404, "Volume %s could not be found.", id) }

// Where the services are under the base address.
const (
	IdentityPath = "/identity/v3"
	ComputePath  = "/compute/v2.1"
	VolumePath   = "/volume/v3"
)

// A Request is an HTTP request taken apart, so that it can be carried out later.
type Request struct {
	Method  string
	Service string   // identity, compute, volume; "" for none
	Path    []string // below the version and, for Cinder, the project
	Root    bool     // the service's own address, or its version's
	Project string   // in the URL, "" where there is none
	Raw     string   // path and query as asked, for links
	Query   url.Values
	Header  http.Header
	Body    []byte
	Route   *Route
	Args    []string // what stands for ID and KEY in the route
	Op      string

	Token   *model.Token
	Version int
	Makers  bool   // whether whoever asks is shown who made a backup; see cinder.askMakers
	Note    string // what the log says of it, if not method, route and args
}

// An Answer is what is sent back.
type Answer struct {
	Status int
	Body   any // to be made JSON; nil for none
	Page   *Page
	Raw    []byte
	Header map[string]string
}

// A Page is one page of a list.
type Page struct {
	Name  string
	Items []any
	Next  string // address of the next page
	Count *int
}

// A Link is one of the links of a body.
type Link struct {
	Rel  string `json:"rel"`
	Href string `json:"href"`
}

// JSON is the body of a list.
func (p *Page) JSON() any {
	if p.Items == nil {
		p.Items = []any{}
	}
	out := map[string]any{p.Name: p.Items}
	if p.Next != "" {
		out[p.Name+"_links"] = []Link{{"next", p.Next}}
	}
	if p.Count != nil {
		out["count"] = *p.Count
	}
	return out
}

// OK is 200 with a body that is to be made JSON.
func OK(body any) Answer { return Answer{Status: 200, Body: body} }

// Done is a status without a body.
func Done(status int) Answer { return Answer{Status: status} }

// Fail is an answer of Nova's or Cinder's that says no.
func Fail(status int, format string, args ...any) Answer {
	message := format
	if len(args) > 0 {
		message = fmt.Sprintf(format, args...)
	}
	a := Answer{Status: status, Raw: ErrorBody(status, message)}
	if status == 413 {
		a.Header = map[string]string{"Retry-After": "0"}
	}
	return a
}

// ErrorBody is the JSON with which Nova and Cinder say no. Source: the Fault of
// nova/api/openstack/wsgi.py and cinder/api/openstack/wsgi.py.
func ErrorBody(status int, message string) []byte {
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
	return Encode(map[string]any{name: inner})
}

// Encode is JSON without a newline at its end. It panics on values that are no JSON.
func Encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("simcloud: " + err.Error()) // all that is encoded here can be
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

// NeedsToken is the 401 of all services.
func NeedsToken(s *model.State) Answer {
	return Answer{Status: 401,
		Header: map[string]string{"WWW-Authenticate": `Keystone uri="` + s.Options.Base + IdentityPath + `"`},
		Body:   keystoneError(401, "The request you have made requires authentication.")}
}

func keystoneError(code int, message string) any {
	return map[string]any{"error": map[string]any{"code": code, "title": http.StatusText(code), "message": message}}
}

// KeystoneFail is an answer of Keystone's that says no.
func KeystoneFail(code int, format string, args ...any) Answer {
	return Answer{Status: code, Body: keystoneError(code, fmt.Sprintf(format, args...))}
}

// A Route is one thing that can be asked. Source of the paths: the routers of
// Keystone, Nova and Cinder.
type Route struct {
	Method, Service, Pattern string
	Segments                 []string
	Do                       func(s *model.State, q *Request, now time.Time) Answer
	Open                     bool // needs no token
}

// Asked says whether a list is filtered by an attribute to something else.
func (q *Request) Asked(name, value string) bool {
	want, ok := q.Query[name]
	return !ok || want[0] == value
}

// Who is the one on whose behalf a request is made.
func (q *Request) Who() model.Who {
	w := model.Who{User: q.Token.User.ID}
	if q.Token.Project != nil {
		w.Project = q.Token.Project.ID
	}
	return w
}
