package openstack

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gophercloud/gophercloud/v2"

	"staffeln/functions/backup"
)

// The projects and things of the recordings.
const (
	serviceProject = "8d3803edebf7457eaf4580b9682f132e"
	alphaProject   = "1176721179d74e6b9f16b23e2bb580a3"
	gammaProject   = "4511f3d1ab4e4a6591066e5a01157257"
	web1           = "c33a6844-d4ec-4bb1-84d3-67a9142cc6ce"
	web1Data       = "b5ab3645-43b3-48d3-8280-3c20c64e5623"
	nothing        = "00000000-0000-0000-0000-00000000dead"
	fullBackup     = "9988b961-d688-430e-b53d-e35d8682bf02"
)

const (
	keystoneHost = "127.0.0.1:5000"
	novaHost     = "127.0.0.1:8774"
	cinderHost   = "127.0.0.1:8776"
)

// A recording is one file of testdata/api: a request to a real OpenStack (Zed)
// and its answer.
type recording struct {
	Request struct {
		Line    string            `json:"line"`
		Host    string            `json:"host"`
		Headers map[string]string `json:"headers"`
		Body    json.RawMessage   `json:"body"`
	} `json:"request"`
	Response struct {
		Status  int               `json:"status"`
		Headers map[string]string `json:"headers"`
		Body    json.RawMessage   `json:"body"`
	} `json:"response"`
}

func load(t testing.TB, name string) recording {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "api", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var r recording
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return r
}

// asks is what was asked, in the form of [fake.asked].
func (r recording) asks() string {
	f := strings.Fields(r.Request.Line)
	return f[0] + " " + r.Request.Host + sortQuery(f[1])
}

// reply is the recorded answer.
func (r recording) reply() reply {
	body := []byte(r.Response.Body)
	var text string
	if json.Unmarshal(body, &text) == nil { // not JSON on the wire
		body = []byte(text)
	}
	return reply{status: r.Response.Status, header: r.Response.Headers, body: string(body)}
}

func sortQuery(uri string) string {
	path, query, ok := strings.Cut(uri, "?")
	if !ok {
		return uri
	}
	q, _ := url.ParseQuery(query)
	return path + "?" + q.Encode()
}

// A reply is what a fake answers.
type reply struct {
	status int
	header map[string]string
	body   string
	// err is instead of all that.
	err error
}

func (r reply) response(req *http.Request) (*http.Response, error) {
	if r.err != nil {
		return nil, r.err
	}
	h := http.Header{}
	for k, v := range r.header {
		h.Set(k, v)
	}
	return &http.Response{StatusCode: r.status, Header: h, Body: io.NopCloser(strings.NewReader(r.body)), Request: req}, nil
}

func ok(body string) reply {
	return reply{status: 200, header: map[string]string{"Content-Type": "application/json"}, body: body}
}

// A request is what a fake was asked.
type request struct {
	line   string // "GET 127.0.0.1:8776/v3/PROJECT/volumes/ID?a=b"
	header http.Header
	body   []byte
}

// A fake is an OpenStack that gives out tokens by itself, checks those it gets,
// and for the rest answers what the test says.
type fake struct {
	t testing.TB
	// answer is asked for everything but tokens and versions.
	answer func(r request) reply
	// authenticate, if set, is asked before a token is given out; a status of 0
	// lets the fake go on.
	authenticate func(scope string) reply
	// roles are those of tokens.
	roles []string
	// life is how long tokens last, 4 h where 0.
	life time.Duration
	// nova and cinder are the microversions; "" for those of the recordings.
	nova, cinder string

	mu      sync.Mutex
	asked   []request
	tokens  map[string]string // scope by token
	revoked map[string]bool
	given   int
}

func newFake(t testing.TB) *fake {
	return &fake{t: t, roles: []string{"admin", "member"}, tokens: map[string]string{}, revoked: map[string]bool{},
		answer: func(r request) reply {
			t.Errorf("asked %s", r.line)
			return reply{status: 500}
		}}
}

// on answers recordings, each to its own request.
func (f *fake) on(names ...string) *fake {
	next := f.answer
	byLine := map[string]reply{}
	for _, n := range names {
		r := load(f.t, n)
		byLine[r.asks()] = r.reply()
	}
	f.answer = func(r request) reply {
		if a, ok := byLine[r.line]; ok {
			return a
		}
		return next(r)
	}
	return f
}

func (f *fake) RoundTrip(req *http.Request) (*http.Response, error) {
	r := request{line: req.Method + " " + req.URL.Host + sortQuery(req.URL.RequestURI()), header: req.Header}
	if req.Body != nil {
		var err error
		if r.body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
		req.Body.Close()
	}
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.asked = append(f.asked, r)
	f.mu.Unlock()
	return f.route(r).response(req)
}

func (f *fake) route(r request) reply {
	if r.line == "POST "+keystoneHost+"/v3/auth/tokens" {
		return f.token(r)
	}
	token := r.header.Get("X-Auth-Token")
	f.mu.Lock()
	scope, known := f.tokens[token]
	known = known && !f.revoked[token]
	f.mu.Unlock()
	if !known {
		return load(f.t, "cinder-bad-token-401").reply()
	}
	switch r.line {
	case "GET " + cinderHost + "/v3/":
		return ok(strings.ReplaceAll(string(load(f.t, "cinder-version-root").Response.Body), "3.70", or(f.cinder, "3.64")))
	case "GET " + novaHost + "/v2.1/":
		return ok(strings.ReplaceAll(string(load(f.t, "nova-version-root").Response.Body), "2.93", or(f.nova, "2.90")))
	}
	if path, ok := strings.CutPrefix(strings.SplitN(r.line, " ", 2)[1], cinderHost+"/v3/"); ok && !strings.HasPrefix(path, scope+"/") {
		return load(f.t, "cinder-project-mismatch-400").reply()
	}
	return f.answer(r)
}

// token gives out a token for the scope asked for: a project by its id, or
// "service" by its name, the system, or none.
func (f *fake) token(r request) reply {
	var in struct {
		Auth struct {
			Scope struct {
				Project struct{ ID, Name string }
				System  *struct{ All bool }
			}
		}
	}
	if err := json.Unmarshal(r.body, &in); err != nil {
		f.t.Errorf("authentication: %v", err)
	}
	scope := in.Auth.Scope.Project.ID
	if in.Auth.Scope.Project.Name == "service" {
		scope = serviceProject
	}
	if f.authenticate != nil {
		if a := f.authenticate(scope); a.status != 0 || a.err != nil {
			return a
		}
	}
	name := "keystone-token-201"
	switch {
	case in.Auth.Scope.System != nil:
		name = "keystone-token-system-201"
	case scope == "":
		name = "keystone-token-unscoped-201"
	}
	var doc map[string]map[string]any
	if err := json.Unmarshal([]byte(strings.ReplaceAll(string(load(f.t, name).Response.Body), serviceProject, scope)), &doc); err != nil {
		f.t.Fatal(err)
	}
	life := f.life
	if life == 0 {
		life = 4 * time.Hour
	}
	const form = "2006-01-02T15:04:05.000000Z"
	// Keystone's clock is not ours.
	issued := time.Now().UTC().Add(-7 * time.Minute)
	doc["token"]["issued_at"] = issued.Format(form)
	doc["token"]["expires_at"] = issued.Add(life).Format(form)
	if scope != "" {
		var roles []map[string]string
		f.mu.Lock()
		for _, n := range f.roles {
			roles = append(roles, map[string]string{"id": "r-" + n, "name": n})
		}
		f.mu.Unlock()
		doc["token"]["roles"] = roles
	}
	body, _ := json.Marshal(doc)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.given++
	token := fmt.Sprintf("token-%d", f.given)
	f.tokens[token] = scope
	return reply{status: 201, header: map[string]string{"Content-Type": "application/json", "X-Subject-Token": token}, body: string(body)}
}

// revoke takes back all tokens given out so far.
func (f *fake) revoke() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for t := range f.tokens {
		f.revoked[t] = true
	}
}

// lines are what was asked since the last call, tokens left out.
func (f *fake) lines() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var l []string
	for _, r := range f.asked {
		if !strings.HasSuffix(r.line, "/auth/tokens") {
			l = append(l, r.line)
		}
	}
	f.asked = nil
	return l
}

func (f *fake) tokensGiven() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.given
}

// options are those of the recorded service user.
func (f *fake) options(rights Rights) Options {
	return Options{
		Auth: gophercloud.AuthOptions{IdentityEndpoint: "http://" + keystoneHost + "/v3", Username: "backup-svc",
			Password: "hidden-secret", DomainID: "default",
			Scope: &gophercloud.AuthScope{ProjectName: "service", DomainID: "default"}},
		Region: "RegionOne", Interface: "public", Rights: rights, Transport: f,
	}
}

// probes are what Connect asks to see whether a user is an admin.
var probes = map[string]string{
	"GET " + novaHost + "/v2.1/servers/detail?all_tenants=1&limit=1":                        "nova-servers-detail-all-tenants",
	"GET " + cinderHost + "/v3/" + serviceProject + "/volumes/detail?all_tenants=1&limit=1": "cinder-volumes-detail-all-tenants",
	"GET " + cinderHost + "/v3/" + serviceProject + "/backups/detail?all_tenants=1&limit=1": "backups-detail-all-tenants",
	"GET " + cinderHost + "/v3/" + serviceProject + "/os-services?binary=cinder-backup":     "cinder-services-backup",
	"GET " + keystoneHost + "/v3/auth/projects":                                             "keystone-auth-projects",
}

// connect connects to a fake whose answers Connect itself gets are the recorded
// ones; the fake has then forgotten what it was asked.
func (f *fake) connect(o Options) *Cloud {
	f.t.Helper()
	rest := f.answer
	f.answer = func(r request) reply {
		if name, ok := probes[r.line]; ok {
			return load(f.t, name).reply()
		}
		return rest(r)
	}
	c, err := Connect(f.t.Context(), o)
	if err != nil {
		f.t.Fatal(err)
	}
	f.answer = rest
	f.lines()
	return c
}

// sameJSON compares two documents.
func sameJSON(t testing.TB, got, want []byte) {
	t.Helper()
	var g, w any
	if len(bytes.TrimSpace(got)) > 0 {
		if err := json.Unmarshal(got, &g); err != nil {
			t.Fatalf("body %q: %v", got, err)
		}
	}
	if len(bytes.TrimSpace(want)) > 0 {
		if err := json.Unmarshal(want, &w); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(w, g); d != "" {
		t.Errorf("body (-want +got):\n%s", d)
	}
}

// wantFault fails the test unless err is a CloudError of that fault.
func wantFault(t testing.TB, err error, want backup.Fault) *backup.CloudError {
	t.Helper()
	e, ok := errors.AsType[*backup.CloudError](err)
	if !ok {
		t.Fatalf("error %v (%T), want a CloudError", err, err)
	}
	if e.Fault != want {
		t.Fatalf("fault %q of %q, want %q", e.Fault, e, want)
	}
	if len(e.Message) > 4*maxWords || strings.ContainsAny(e.Message, "\n\r\x00\x1b") || strings.Contains(e.Message, "hidden-secret") {
		t.Errorf("message %q", e.Message)
	}
	return e
}

func wantLines(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("asked (-want +got):\n%s", cmp.Diff(want, got))
	}
}
