package policy

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"staffeln/functions/backup"
)

// As captured on a real cloud.
const (
	serviceUser = "27baad14275d44d3bb3d76e511ad5724"
	alice       = "afc9ff6708a04854a2d8da6aebabea92"
	formBackup  = "8bd2b617-daa5-4aa3-b199-e5d6bad361fb"
	jsonBackup  = "48120cea-6e5c-4eed-810d-9d506cdc620c"
	otherBackup = "00000000-0000-4000-8000-000000000001"
	theVolume   = "b5ab3645-43b3-48d3-8280-3c20c64e5623"
	theProject  = "1176721179d74e6b9f16b23e2bb580a3"
)

// A memory is a ledger that knows some backups, or is down.
type memory struct {
	records map[string]backup.Record
	err     error
	hangs   atomic.Bool // until the caller gives up
	panics  bool

	mu    sync.Mutex
	asked int
}

func (m *memory) Find(ctx context.Context, id string) (backup.Record, bool, error) {
	m.mu.Lock()
	m.asked++
	m.mu.Unlock()
	if m.panics {
		panic("marked-secret")
	}
	if m.hangs.Load() {
		<-ctx.Done()
		return backup.Record{}, false, ctx.Err()
	}
	r, ok := m.records[id]
	return r, ok && m.err == nil, m.err
}

func (m *memory) questions() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked
}

// A cinder has some backups, or is down.
type cinder struct {
	backups []backup.CinderBackup
	err     error
	self    string

	mu    sync.Mutex
	asked int
}

func (c *cinder) FindBackup(_ context.Context, id string) (backup.CinderBackup, error) {
	c.mu.Lock()
	c.asked++
	c.mu.Unlock()
	if c.err != nil {
		return backup.CinderBackup{}, c.err
	}
	for _, b := range c.backups {
		if b.ID == id {
			return b, nil
		}
	}
	return backup.CinderBackup{}, &backup.CloudError{Fault: backup.Gone, Op: "show backup", Status: 404}
}

func (c *cinder) Self() string { return c.self }

func (c *cinder) questions() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

// A limit lets through so many.
type limit struct {
	left int
	err  error
}

func (l *limit) Allow(context.Context, string, int) (bool, error) {
	l.left--
	return l.left >= 0, l.err
}

// A bench has everything that policy is made of, some of it missing.
type bench struct {
	ledger  *memory
	cloud   *cinder
	limiter *limit
	now     time.Time
	log     bytes.Buffer
	counted []string
	handler http.Handler
	mu      sync.Mutex
}

func newBench(change func(*bench)) *bench {
	b := &bench{now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	if change != nil {
		change(b)
	}
	b.handler = b.function().Handler()
	return b
}

func (b *bench) function() *Function {
	return &Function{
		Ledger: func() Ledger {
			if b.ledger == nil {
				return nil
			}
			return b.ledger
		},
		Cloud: func() Cloud {
			if b.cloud == nil {
				return nil
			}
			return b.cloud
		},
		Limiter: func() Limiter {
			if b.limiter == nil {
				return nil
			}
			return b.limiter
		},
		Settings: Settings{Roles: []string{"admin", "service"}, Users: []string{serviceUser}, Rate: 50},
		Log:      slog.New(slog.NewTextHandler(&b.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Count: func(name string, n float64, labels ...string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.counted = append(b.counted, strings.Join(labels, " "))
		},
		Now: func() time.Time { return b.now },
	}
}

// ask sends a request and reads the answer as oslo.policy does.
func (b *bench) ask(t *testing.T, r *http.Request) (allowed bool, status int, body, counted string) {
	t.Helper()
	before := len(b.counted)
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	body = w.Body.String()
	switch {
	case readsAsTrue(body) && (body != "True" || w.Code != http.StatusOK):
		t.Errorf("%d %q reads as an allow", w.Code, body)
	case w.Code >= 300 && w.Code < 400:
		t.Errorf("redirected to %s", w.Header().Get("Location"))
	case !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain"):
		t.Errorf("it is %s", w.Header().Get("Content-Type"))
	}
	if len(b.counted) > before {
		counted = b.counted[before]
	}
	return body == "True", w.Code, body, counted
}

// readsAsTrue is oslo.policy's reading, and anybody's who would trim more than it
// does: r.text.lstrip('"').rstrip('"') == 'True'.
func readsAsTrue(body string) bool {
	return strings.EqualFold(strings.Trim(body, "\"' \t\r\n\v\f\x00\ufeff.,;:!()[]{}"), "true")
}

// sent is a request as Cinder sent it, at our path.
func sent(tb testing.TB, name string) *http.Request {
	tb.Helper()
	raw, err := os.ReadFile("testdata/http-check-" + name + ".txt")
	if err != nil {
		tb.Fatal(err)
	}
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		tb.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return post(r.Header.Get("Content-Type"), "backup_id="+r.URL.Query().Get("id"), string(body))
}

func post(contentType, query, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, Path+"?"+query, strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return r
}

// A question is what Cinder asks, before it is written as a form or as a document.
type question struct {
	rule, target, credentials string
}

func (q question) form() string {
	return url.Values{"rule": {q.rule}, "target": {q.target}, "credentials": {q.credentials}}.Encode()
}

func (q question) document() string {
	return fmt.Sprintf(`{"rule": %s, "target": %s, "credentials": %s}`, q.rule, q.target, q.credentials)
}

// both asks in both ways, and wants the same answer.
func (b *bench) both(t *testing.T, query string, q question) (string, string) {
	t.Helper()
	said := func(allowed bool, status int, _, counted string) string {
		if want := map[bool]int{true: 200, false: 401}[allowed]; status != want {
			t.Errorf("allowed %v with %d", allowed, status)
		}
		return counted
	}
	return said(b.ask(t, post(formType, query, q.form()))), said(b.ask(t, post(jsonType, query, q.document())))
}

func target(id, user, metadata string) string {
	return fmt.Sprintf(`{"project_id": %q, "user_id": %q, "id": %q, "volume_id": %q, "display_name": "\"}, \"metadata\": {}", "size": 1, "metadata": %s, "deleted": false}`,
		theProject, user, id, theVolume, metadata)
}

func credentials(user string, roles ...string) string {
	b, _ := json.Marshal(map[string]any{"is_admin": false, "user_id": user, "roles": append([]string{}, roles...),
		"service_roles": []string{}})
	return string(b)
}

const (
	ours   = `{"__automated_backup": "True", "__staffeln_run": "x"}`
	theirs = `{"backup-service": "managed", "retention": "1w"}`
	rule   = `"backup:delete"`
)

// What Cinder really sent.
func TestCaptured(t *testing.T) {
	for _, tc := range []struct {
		name, file string
		change     func(*bench)
		mark       bool // as if it were one of ours
		want       string
	}{
		{"a tenant's own, by form", "form-alice", nil, false, "allow body manual"},
		{"a tenant's own, by JSON", "json-alice", nil, false, "allow body manual"},
		{"a tenant's own that the ledger does not know", "json-alice", func(b *bench) { b.ledger = &memory{} }, false,
			"allow ledger manual"},
		{"the service, by form", "form-backup-svc", nil, true, "allow body service"},
		{"the service, by JSON", "json-backup-svc", nil, true, "allow body service"},
		{"an automated one and a tenant, by form", "form-alice", nil, true, "deny body marked"},
		{"an automated one and a tenant, by JSON", "json-alice", nil, true, "deny body marked"},
		{"an automated one whose mark was stripped, by form", "form-alice",
			func(b *bench) { b.ledger = &memory{records: map[string]backup.Record{formBackup: {}}} }, false, "deny ledger known"},
		{"an automated one whose mark was stripped, by JSON", "json-alice",
			func(b *bench) { b.ledger = &memory{records: map[string]backup.Record{jsonBackup: {}}} }, false, "deny ledger known"},
		{"a tenant who turns out to be the service's user", "json-alice", func(b *bench) { b.cloud = &cinder{self: alice} },
			true, "allow body service"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, r := newBench(tc.change), sent(t, tc.file)
			if tc.mark {
				body, _ := io.ReadAll(r.Body)
				marked := strings.NewReplacer("backup-service%22%3A+%22managed", "__automated_backup%22%3A+%22True",
					`"backup-service": "managed"`, `"__automated_backup": "True"`).Replace(string(body))
				if marked == string(body) {
					t.Fatal("not marked")
				}
				r = post(r.Header.Get("Content-Type"), r.URL.RawQuery, marked)
			}
			if _, _, body, got := b.ask(t, r); got != tc.want {
				t.Errorf("%s (%s), want %s", got, body, tc.want)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	knows := func(id string) func(*bench) {
		return func(b *bench) { b.ledger = &memory{records: map[string]backup.Record{id: {}}} }
	}
	cinderHas := func(metadata map[string]string) func(*bench) {
		return func(b *bench) {
			b.cloud = &cinder{backups: []backup.CinderBackup{{ID: otherBackup, Metadata: metadata, Origin: originOf(metadata)}}}
		}
	}
	automated := question{rule, target(otherBackup, serviceUser, ours), credentials(alice, "member")}
	manual := question{rule, target(otherBackup, alice, theirs), credentials(alice, "member")}
	unshown := question{rule, `{"project_id": "p"}`, credentials(alice, "member")}
	id := "backup_id=" + otherBackup
	for _, tc := range []struct {
		name   string
		change func(*bench)
		query  string
		q      question
		want   string
	}{
		{"an automated one", nil, id, automated, "deny body marked"},
		{"without the query the body is enough", nil, "", automated, "deny body marked"},
		{"what else is in the query does not matter", nil, "who=cinder&" + id, automated, "deny body marked"},
		{"an id in capitals is the same id", knows(otherBackup), "backup_id=" + strings.ToUpper(otherBackup), manual,
			"deny ledger known"},
		{"metadata that say no", nil, id, question{rule, target(otherBackup, alice, `{"__automated_backup": "False"}`),
			credentials(alice)}, "allow body manual"},
		{"the mark with its letters escaped", nil, id, question{rule, target(otherBackup, alice,
			`{"\u005f_automated_backup": "\u0054rue"}`), credentials(alice)}, "deny body marked"},
		{"the mark in a name is none", nil, id, question{rule, target(otherBackup, alice, `{"x": "__automated_backup"}`),
			credentials(alice)}, "allow body manual"},
		{"the mark deeper down is none", nil, id, question{rule, target(otherBackup, alice,
			`{"x": {"__automated_backup": "True"}}`), credentials(alice)}, "allow body manual"},
		{"no metadata at all", nil, id, question{rule, target(otherBackup, serviceUser, `{}`), credentials(alice)},
			"deny body creator"},
		{"metadata were not loaded", nil, id, question{rule, target(otherBackup, alice, `null`), credentials(alice)},
			"deny none doubt"},
		{"metadata were not loaded, but the service made it", nil, id,
			question{rule, target(otherBackup, serviceUser, `null`), credentials(alice)}, "deny body creator"},
		{"no target, known to the ledger", knows(otherBackup), id, unshown, "deny ledger known"},
		{"no target, Cinder says automated", cinderHas(map[string]string{"__automated_backup": "True"}), id, unshown,
			"deny cinder known"},
		{"no target, Cinder says not", cinderHas(map[string]string{}), id, unshown, "allow cinder manual"},
		{"no target, Cinder does not show metadata", cinderHas(nil), id, unshown, "deny none doubt"},
		{"no target, Cinder has none", func(b *bench) { b.cloud = &cinder{} }, id, unshown, "deny cinder missing"},
		{"no target, Cinder is down", func(b *bench) { b.cloud = &cinder{err: errors.New("down")} }, id, unshown,
			"deny none doubt"},
		{"a target that is null", nil, id, question{rule, `null`, credentials(alice)}, "deny none doubt"},
		{"a look-up too many", func(b *bench) { b.limiter = &limit{}; cinderHas(map[string]string{})(b) }, id, unshown,
			"deny none busy"},
		{"a limiter that is down lets through",
			func(b *bench) { b.limiter = &limit{err: errors.New("down")}; cinderHas(map[string]string{})(b) }, id, unshown, "allow cinder manual"},
		{"no look-up is needed", func(b *bench) { b.limiter = &limit{} }, id, automated, "deny body marked"},
		{"a look-up of what is shown is not held back", func(b *bench) { b.limiter = &limit{}; knows(otherBackup)(b) }, id,
			manual, "deny ledger known"},
		{"the ledger panics", func(b *bench) { b.ledger = &memory{panics: true} }, id, manual, "allow body manual"},
		{"the service's user", nil, id, question{rule, target(otherBackup, serviceUser, ours), credentials(serviceUser)},
			"allow body service"},
		{"the service's user, as Keystone says", func(b *bench) { b.cloud = &cinder{self: "somebody"} }, id,
			question{rule, target(otherBackup, alice, ours), credentials("somebody")}, "allow body service"},
		{"an operator's role in capitals", nil, id, question{rule, target(otherBackup, alice, ours), credentials("bob",
			"member", "ADMIN")}, "allow body operator"},
		{"a role that only looks like one", nil, id, question{rule, target(otherBackup, alice, ours), credentials("bob",
			"adminn", "admin ")}, "deny body marked"},
		{"credentials that are null", nil, id, question{rule, target(otherBackup, alice, ours), `null`}, "deny body marked"},
		{"a rule that is null", nil, id, question{`null`, target(otherBackup, alice, theirs), credentials(alice)},
			"allow body manual"},
		{"an update", nil, id, question{`"backup:update"`, target(otherBackup, alice, ours), credentials(alice)},
			"deny body marked"},
		{"another rule", nil, id, question{`"backup:get"`, target(otherBackup, alice, theirs), credentials(alice)},
			"deny body rule"},

		{"the address names another one", nil, "backup_id=" + formBackup, manual, "deny none mismatch"},
		{"the address names another one, and an admin asks", nil, "backup_id=" + formBackup,
			question{rule, target(otherBackup, alice, ours), credentials("root", "admin")}, "deny none mismatch"},
		{"the address names two", nil, id + "&" + id, manual, "deny none unreadable"},
		{"the address names none", nil, "backup_id=", manual, "deny none unreadable"},
		{"the address names nothing that could be one", nil, "backup_id=..%2f..%2fadmin", manual, "deny none unreadable"},
		{"the address has a broken escape", nil, "backup_id=%zz", manual, "deny none unreadable"},
		{"the address was not filled in", nil, "backup_id=%25(id)s", manual, "deny none unreadable"},
		{"nothing is named at all", nil, "", unshown, "deny none unreadable"},

		{"an id that is none", nil, id, question{rule, target("1 OR 1=1", alice, theirs), credentials(alice)},
			"deny none unreadable"},
		{"an id that is a number", nil, id, question{rule, `{"id": 7, "metadata": {}}`, credentials(alice)},
			"deny none unreadable"},
		{"an id with a number of a thousand digits", nil, id, question{rule, `{"id": ` + strings.Repeat("9",
			1000) + `, "metadata": {}}`, credentials(alice)}, "deny none unreadable"},
		{"a size with a number of a thousand digits", nil, id, question{rule,
			`{"id": "` + otherBackup + `", "size": ` + strings.Repeat("9",
				1000) + `, "metadata": {}}`, credentials(alice)}, "allow body manual"},
		{"two ids", nil, id, question{rule, `{"id": "` + otherBackup + `", "id": "` + otherBackup + `", "metadata": {}}`,
			credentials(alice)}, "deny none unreadable"},
		{"metadata twice, first ours", nil, id, question{rule,
			`{"id": "` + otherBackup + `", "metadata": ` + ours + `, "metadata": {}}`, credentials(alice)}, "deny none unreadable"},
		{"metadata twice, last ours", nil, id, question{rule,
			`{"id": "` + otherBackup + `", "metadata": {}, "metadata": ` + ours + `}`, credentials(alice)}, "deny none unreadable"},
		{"two marks", nil, id, question{rule, target(otherBackup, alice,
			`{"__automated_backup": "True", "__automated_backup": "False"}`), credentials(alice)}, "deny none unreadable"},
		{"two users", nil, id, question{rule, target(otherBackup, alice, ours),
			`{"user_id": "x", "user_id": "` + serviceUser + `"}`}, "deny none unreadable"},
		{"a mark that is no text", nil, id, question{rule, target(otherBackup, alice, `{"__automated_backup": true}`),
			credentials(alice)}, "deny none unreadable"},
		{"metadata that are a list", nil, id, question{rule, target(otherBackup, alice, `[]`), credentials(alice)},
			"deny none unreadable"},
		{"metadata that are text", nil, id, question{rule, target(otherBackup, alice, `"{}"`), credentials(alice)},
			"deny none unreadable"},
		{"a target that is text", nil, id, question{rule, `"{}"`, credentials(alice)}, "deny none unreadable"},
		{"a target that is a list", nil, id, question{rule, `[]`, credentials(alice)}, "deny none unreadable"},
		{"a target that ends too early", nil, id, question{rule, `{"id": "` + otherBackup + `", "metadata": {}`,
			credentials(alice)}, "deny none unreadable"},
		{"a target with something behind it", nil, id, question{rule, target(otherBackup, alice, theirs) + "{}",
			credentials(alice)}, "deny none unreadable"},
		{"Python's numbers that JSON has not", nil, id, question{rule,
			`{"id": "` + otherBackup + `", "size": NaN, "metadata": {}}`, credentials(alice)}, "deny none unreadable"},
		{"roles that are text", nil, id, question{rule, target(otherBackup, alice, ours), `{"roles": "admin"}`},
			"deny none unreadable"},
		{"roles of numbers", nil, id, question{rule, target(otherBackup, alice, ours), `{"roles": [1]}`},
			"deny none unreadable"},
		{"a rule that is a number", nil, id, question{`1`, target(otherBackup, alice, theirs), credentials(alice)},
			"deny none unreadable"},
		{"bytes that are not UTF-8", nil, id, question{rule, target(otherBackup, alice, "{\"x\": \"\xff\"}"),
			credentials(alice)}, "deny none unreadable"},
		{"a lone surrogate", nil, id, question{rule, target(otherBackup, alice, `{"x": "\ud800"}`), credentials(alice)},
			"allow body manual"},
		{"ten thousand deep", nil, id, question{rule, target(otherBackup, alice, strings.Repeat("[", 10001)),
			credentials(alice)}, "deny none unreadable"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(tc.change)
			if form, doc := b.both(t, tc.query, tc.q); form != tc.want || doc != tc.want {
				t.Errorf("%s by form, %s by JSON, want %s", form, doc, tc.want)
			}
			if strings.Contains(b.log.String(), "marked-secret") || strings.Contains(b.log.String(), "display_name") {
				t.Errorf("the log tells too much: %s", &b.log)
			}
		})
	}
}

// Requests that are not as oslo.policy writes them.
func TestOddRequests(t *testing.T) {
	id := "backup_id=" + otherBackup
	manual := question{rule, target(otherBackup, alice, theirs), credentials(alice, "member")}
	with := func(r *http.Request, change func(*http.Request)) *http.Request { change(r); return r }
	for _, tc := range []struct {
		name string
		r    *http.Request
		want string
	}{
		{"JSON of UTF-8", post("application/json; charset=utf-8", id, manual.document()), "allow body manual"},
		{"a form of UTF-8", post("Application/X-WWW-Form-Urlencoded;charset=UTF-8", id, manual.form()), "allow body manual"},
		{"no type, and JSON", post("", id, " "+manual.document()), "allow body manual"},
		{"no type, and a form", post("", id, manual.form()), "allow body manual"},
		{"nothing at all", post("", id, ""), "deny none doubt"},
		{"blanks", post(jsonType, id, "\r\n"), "deny none doubt"},
		{"a form with fields of others", post(formType, id, manual.form()+"&&x=1&y"), "allow body manual"},
		{"a form without a target", post(formType, id, "rule=%22backup%3Adelete%22"), "deny none doubt"},
		{"a form with a target twice", post(formType, id, manual.form()+"&target=null"), "deny none unreadable"},
		{"a form with a target twice, once under an escaped name", post(formType, id, manual.form()+"&%74arget=null"),
			"deny none unreadable"},
		{"a form with an empty target", post(formType, id, "target="), "deny none unreadable"},
		{"a form with a broken escape", post(formType, id, "target=%7"), "deny none unreadable"},
		{"a form with a semicolon", post(formType, id, "x=1;target=null"), "allow or deny"},
		{"a form in the place of JSON", post(jsonType, id, manual.form()), "deny none unreadable"},
		{"JSON in the place of a form", post(formType, id, manual.document()), "deny none doubt"},
		{"another type", post("multipart/form-data; boundary=x", id, manual.form()), "deny none unreadable"},
		{"a type that is none", post(";;", id, manual.form()), "deny none unreadable"},
		{"another character set", post("application/json; charset=utf-16", id, manual.document()), "deny none unreadable"},
		{"two types", with(post(jsonType, id, manual.document()), func(r *http.Request) {
			r.Header.Add("Content-Type",
				formType)
		}), "deny none unreadable"},
		{"compressed", with(post(jsonType, id, zipped(manual.document())),
			func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }), "deny none unreadable"},
		{"of the largest size", post(jsonType, id, manual.document()+strings.Repeat(" ", maxBody-len(manual.document()))),
			"allow body manual"},
		{"one byte more", post(jsonType, id, manual.document()+strings.Repeat(" ", maxBody+1-len(manual.document()))),
			"deny none oversize"},
		{"one byte more, of a length not told", with(post(jsonType, id, ""), func(r *http.Request) {
			r.ContentLength, r.Body = -1, io.NopCloser(strings.NewReader(manual.document()+strings.Repeat(" ",
				maxBody+1-len(manual.document()))))
		}), "deny none oversize"},
		{"cut off", with(post(jsonType, id, ""), func(r *http.Request) {
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader(manual.document()), broken{}))
		}), "deny none unreadable"},
		{"a body that panics", with(post(jsonType, id, ""), func(r *http.Request) { r.Body = io.NopCloser(panicking{}) }),
			"deny none panic"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(nil)
			allowed, status, body, got := b.ask(t, tc.r)
			if got != tc.want && tc.want != "allow or deny" {
				t.Errorf("%s (%s), want %s", got, body, tc.want)
			}
			if want := map[bool]int{true: 200, false: 401}[allowed]; status != want {
				t.Errorf("allowed %v with %d", allowed, status)
			}
			if strings.Contains(b.log.String(), "marked-secret") {
				t.Errorf("the log tells what was panicked with: %s", &b.log)
			}
		})
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic("marked-secret") }

func zipped(s string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(s))
	_ = z.Close()
	return b.String()
}

// Nothing but the check is ever answered with True, and nothing is redirected:
// oslo.policy would follow.
func TestPathsAreTakenAsTheyAre(t *testing.T) {
	own := question{rule, target(otherBackup, alice, theirs), credentials(alice, "member")}
	for _, tc := range []struct {
		method, target string
		status         int
	}{
		{"POST", "/v1/backup?backup_id=" + otherBackup, 200},
		{"GET", "/v1/backup?backup_id=" + otherBackup, 405},
		{"PUT", "/v1/backup", 405},
		{"HEAD", "/v1/backup", 405},
		{"POST", "/v1/backup/?backup_id=" + otherBackup, 404},
		{"POST", "//v1/backup?backup_id=" + otherBackup, 404},
		{"POST", "/v1//backup", 404},
		{"POST", "/v1/../v1/backup", 404},
		{"POST", "/v1%2Fbackup", 404},
		{"POST", "/", 404},
		{"POST", "/v1/True", 404},
		{"GET", "/v1/backup/" + otherBackup + "/why", 404},
		{"POST", "/v1/backup/" + otherBackup + "/why", 404},
	} {
		t.Run(tc.method+" "+tc.target, func(t *testing.T) {
			r := httptest.NewRequest(tc.method, tc.target, strings.NewReader(own.document()))
			r.Header.Set("Content-Type", jsonType)
			allowed, status, body, _ := newBench(nil).ask(t, r)
			if status != tc.status || allowed != (tc.status == 200) {
				t.Errorf("%d %q, want %d", status, body, tc.status)
			}
		})
	}
}

// A ledger that does not answer is not waited for twice in a row, and Cinder is not
// asked about what the body shows.
func TestALedgerThatIsDownIsLeftAlone(t *testing.T) {
	b := newBench(func(b *bench) { b.ledger, b.cloud = &memory{}, &cinder{}; b.ledger.hangs.Store(true) })
	ask := func(want string) {
		t.Helper()
		if _, _, body, got := b.ask(t, sent(t, "json-alice")); got != want {
			t.Errorf("%s (%s), want %s", got, body, want)
		}
	}
	for range 20 {
		ask("allow body manual")
	}
	if n := b.ledger.questions(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	b.now = b.now.Add(ledgerDown)
	b.ledger.hangs.Store(false)
	ask("allow ledger manual")
	ask("allow ledger manual")
	if n := b.ledger.questions(); n != 3 {
		t.Errorf("asked %d times after it was back", n)
	}
	if n := b.cloud.questions(); n != 0 {
		t.Errorf("Cinder was asked %d times", n)
	}
	if n := strings.Count(b.log.String(), "without the ledger"); n != 1 {
		t.Errorf("told %d times:\n%s", n, &b.log)
	}
}

// The log stays small, whatever strangers send.
func TestAFloodIsToldOnce(t *testing.T) {
	b := newBench(nil)
	for range 1000 {
		b.ask(t, post(jsonType, "", "{"))
	}
	b.now = b.now.Add(time.Minute)
	b.ask(t, post(jsonType, "", "{"))
	if lines := strings.Count(b.log.String(), "\n"); lines != 2 || !strings.Contains(b.log.String(), "since_last=999") {
		t.Errorf("%d lines:\n%.2000s", lines, &b.log)
	}
}

// What a body holds is decided alike, whoever else is there and whatever they say,
// but that the ledger may add a no.
func TestTheBodyIsEnough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		user := rapid.SampledFrom([]string{alice, serviceUser, "bob"})
		q := question{
			rapid.SampledFrom([]string{`"backup:delete"`, `"backup:update"`, `null`, `"volume:delete"`}).Draw(t, "rule"),
			target(otherBackup, user.Draw(t, "creator"), rapid.SampledFrom([]string{ours, theirs, `{}`}).Draw(t, "metadata")),
			credentials(user.Draw(t, "user"), rapid.SliceOf(rapid.SampledFrom([]string{"member", "admin"})).Draw(t, "roles")...),
		}
		r := func() *http.Request {
			if rapid.Bool().Draw(t, "form") {
				return post(formType, "backup_id="+otherBackup, q.form())
			}
			return post(jsonType, "backup_id="+otherBackup, q.document())
		}
		serve := func(b *bench) string {
			w := httptest.NewRecorder()
			b.handler.ServeHTTP(w, r())
			return w.Body.String()
		}
		alone := serve(newBench(nil))
		fault := errors.New("down")
		for name, change := range map[string]func(*bench){
			"all is up": func(b *bench) { b.ledger, b.cloud, b.limiter = &memory{}, &cinder{}, &limit{left: 1} },
			"all is down": func(b *bench) {
				b.ledger, b.cloud, b.limiter = &memory{err: fault}, &cinder{err: fault}, &limit{err: fault}
			},
			"Cinder says other": func(b *bench) {
				b.cloud = &cinder{backups: []backup.CinderBackup{{ID: otherBackup, Metadata: map[string]string{}}}}
			},
			"the limit is spent": func(b *bench) { b.ledger, b.limiter = &memory{}, &limit{} },
		} {
			if got := serve(newBench(change)); got != alone {
				t.Fatalf("%q alone, %q where %s", alone, got, name)
			}
		}
		if got := serve(newBench(func(b *bench) { b.ledger = &memory{records: map[string]backup.Record{otherBackup: {}}} })); got == "True" && alone != "True" {
			t.Fatalf("the ledger makes a yes of %q", alone)
		}
	})
}

// originOf is that of a backup of the service's if it carries the service's mark.
func originOf(metadata map[string]string) backup.Origin {
	one := []backup.CinderBackup{{Maker: "svc", Metadata: metadata}}
	backup.Makers{"svc"}.Judge(one, backup.Evidence{})
	return one[0].Origin
}
