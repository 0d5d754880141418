package policy

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"staffeln/functions/backup"

	"github.com/google/go-cmp/cmp"
)

// What Cinder asked on the devcloud when alice deleted a backup: the target and the
// credentials, just as they came.
//
//go:embed testdata/oslo/request.json
var captured []byte

const (
	osloService = "27baad14275d44d3bb3d76e511ad5724" // the service's own user
	osloLedger  = "1f7d2a52-6e1b-4f67-9d0c-4f3d1b0f9c11"
)

type osloCloud struct{ Cloud }

func (osloCloud) Self() string { return osloService }

func (osloCloud) FindBackup(context.Context, string) (backup.CinderBackup, error) {
	return backup.CinderBackup{}, errors.New("Cinder is not there")
}

// An osloMemory is of one backup.
type osloMemory struct{ Ledger }

func (osloMemory) Find(_ context.Context, id string) (backup.Record, bool, error) {
	return backup.Record{ID: id}, id == osloLedger, nil
}

type osloLimiter struct{}

func (osloLimiter) Allow(context.Context, string, int) (bool, error) { return true, nil }

// osloFunction is the check as it runs beside a Cinder.
func osloFunction() *Function {
	return &Function{
		Ledger:   func() Ledger { return osloMemory{} },
		Cloud:    func() Cloud { return osloCloud{} },
		Limiter:  func() Limiter { return osloLimiter{} },
		Settings: Settings{Roles: []string{"admin", "service", "backup-operator"}, Rate: 50},
		Log:      slog.New(slog.DiscardHandler),
		Count:    func(string, float64, ...string) {},
		Now:      time.Now,
	}
}

// An osloQuestion is what Cinder asks oslo.policy.
type osloQuestion struct {
	Rule        string         `json:"rule"`
	Target      map[string]any `json:"target"`
	Credentials map[string]any `json:"credentials"`
}

// osloRequest is the captured one with other values in both parts.
func osloRequest(tb testing.TB, rule string, target, credentials map[string]any) osloQuestion {
	tb.Helper()
	q := osloQuestion{Rule: rule}
	if err := json.Unmarshal(captured, &q); err != nil {
		tb.Fatal(err)
	}
	maps.Copy(q.Target, target)
	maps.Copy(q.Credentials, credentials)
	return q
}

// An osloCinder is a folder like /etc/cinder, and a release that reads it.
type osloCinder struct {
	folder, release string
	options         map[string]any
}

// ask has the real library answer: yes, no, or the error that makes Cinder answer
// 500.
func (c osloCinder) ask(t *testing.T, questions ...osloQuestion) []string {
	t.Helper()
	if c.options == nil {
		c.options = map[string]any{}
	}
	task, err := json.Marshal(map[string]any{
		"folder": c.folder, "release": c.release, "options": c.options, "questions": questions,
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), osloPython(t), filepath.Join("testdata", "oslo", "enforce.py"))
	cmd.Stdin = bytes.NewReader(task)
	// Nothing of this process's proxies, virtual environments and certificates.
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "PYTHONWARNINGS=ignore", "PYTHONDONTWRITEBYTECODE=1"}
	var said, complained bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &complained
	if err := cmd.Run(); err != nil {
		t.Fatalf("enforce.py: %v\n%s", err, complained.String())
	}
	var answers []string
	if err := json.Unmarshal(said.Bytes(), &answers); err != nil || len(answers) != len(questions) {
		t.Fatalf("enforce.py: %d questions, answers %s: %v\n%s", len(questions), said.String(), err, complained.String())
	}
	return answers
}

// osloPython is a Python that has the library: Debian's, where it is Debian's.
func osloPython(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		python, err := exec.LookPath(name)
		if err == nil && exec.CommandContext(t.Context(), python, "-c", "import oslo_policy, requests").Run() == nil {
			return python
		}
	}
	t.Fatal("oslo.policy is not installed, and the policy files of infra/cinder cannot be tested without it: " +
		"sudo .ci/services installs Debian's python3-oslo.policy; elsewhere, pip install oslo.policy requests")
	return ""
}

// osloFiles are the policy files with what they are for.
var osloFiles = []struct {
	name     string
	releases []string
	// anyRole says that every role in a project will do, not only member.
	anyRole bool
}{
	{"staffeln.yaml", []string{"xena", "2026.2"}, false},
	{"staffeln-any-role.yaml", []string{"queens", "xena"}, true},
}

// osloInstall puts a policy file of infra/cinder into a new folder and fills it in,
// as the operator would.
func osloInstall(t *testing.T, name, as, address string) (folder string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "infra", "cinder", name))
	if err != nil {
		t.Fatal(err)
	}
	const built = "http://127.0.0.1:8808/"
	if n := strings.Count(string(text), " "+built+"v1/backup?backup_id=%(id)s)\""); n != 2 {
		t.Fatalf("%s asks at %s in %d rules, want 2", name, built, n)
	}
	folder = t.TempDir()
	as = filepath.Join(folder, as)
	if err := os.MkdirAll(filepath.Dir(as), 0o700); err != nil {
		t.Fatal(err)
	}
	filled := strings.NewReplacer(built, address+"/", "user_id:STAFFELN_USER",
		"user_id:"+osloService).Replace(string(text))
	if err := os.WriteFile(as, []byte(filled), 0o600); err != nil {
		t.Fatal(err)
	}
	return folder
}

// Those who ask Cinder, and the backups they ask about.
var (
	osloAlice   = map[string]any{}
	osloAdmin   = map[string]any{"user_id": "a0", "is_admin": true, "roles": []string{"admin", "member", "reader"}}
	osloNova    = map[string]any{"user_id": "b0", "roles": []string{"service"}}
	osloLeast   = map[string]any{"user_id": osloService, "roles": []string{"member", "reader"}}
	osloHelper  = map[string]any{"user_id": "c0", "roles": []string{"member", "reader", "backup-operator"}}
	osloReader  = map[string]any{"user_id": "d0", "roles": []string{"reader"}}
	osloMallory = map[string]any{"user_id": "e0", "project_id": "721ba4484847490183af12ada9df2a1c"}

	osloManual    = map[string]any{}
	osloAutomated = map[string]any{
		"user_id": osloService, "display_name": "web-1-20261122T020000Z",
		"metadata": map[string]any{backup.MetaAutomated: "True", backup.MetaRetention: "30d"},
	}
	// Made by a user whom the check does not know for the service's.
	osloForged   = map[string]any{"metadata": osloAutomated["metadata"]}
	osloElder    = map[string]any{"id": osloLedger, "metadata": osloAutomated["metadata"]}
	osloRenamed  = map[string]any{"user_id": osloService, "display_name": "mine", "metadata": osloAutomated["metadata"]}
	osloStripped = map[string]any{"user_id": osloService, "metadata": map[string]any{}}
	osloBare     = map[string]any{"id": osloLedger, "metadata": map[string]any{}}
)

// TestOslo has the real oslo.policy read each file of infra/cinder and ask our own
// handler over HTTP, for what a tenant may try, in both encodings.
func TestOslo(t *testing.T) {
	questions := []struct {
		name                string
		target, credentials map[string]any
		want, wantAnyRole   string
		asked               bool // whether the check is waited for
	}{
		{"a tenant deletes or updates a manual backup", osloManual, osloAlice, "yes", "yes", true},
		{"a tenant deletes or updates an automated one", osloAutomated, osloAlice, "no", "no", true},
		{"a backup of the tenant's own, with our metadata copied", osloForged, osloAlice, "yes", "yes", true},
		{"that the service made with another user, as the ledger knows", osloElder, osloAlice, "no", "no", true},
		{"that has another name now", osloRenamed, osloAlice, "no", "no", true},
		{"that has lost its metadata", osloStripped, osloAlice, "no", "no", true},
		{"that has lost it, and only the ledger knows", osloBare, osloAlice, "no", "no", true},
		{"an admin, with an automated one", osloAutomated, osloAdmin, "yes", "yes", false},
		{"a user with the role service", osloAutomated, osloNova, "yes", "yes", false},
		{"the service itself with the least rights", osloAutomated, osloLeast, "yes", "yes", false},
		{"one of POLICY_ROLES", osloAutomated, osloHelper, "yes", "yes", true},
		{"a member of another project, with a manual one", osloManual, osloMallory, "no", "no", false},
		{"a reader, with a manual one", osloManual, osloReader, "no", "yes", false},
		{"a reader, with an automated one", osloAutomated, osloReader, "no", "no", false},
	}
	for _, file := range osloFiles {
		for _, release := range file.releases {
			for _, content := range []string{"application/x-www-form-urlencoded", "application/json"} {
				t.Run(file.name+" "+release+" "+content, func(t *testing.T) {
					var asked atomic.Int64
					handler := osloFunction().Handler()
					srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						asked.Add(1)
						if got := r.Header.Get("Content-Type"); got != content {
							t.Errorf("Content-Type is %q", got)
						}
						handler.ServeHTTP(w, r)
					}))
					defer srv.Close()

					var all []osloQuestion
					var want []string
					var names []string
					wantAsked := int64(0)
					for _, q := range questions {
						for _, rule := range []string{"backup:delete", "backup:update"} {
							names = append(names, rule+": "+q.name)
							all = append(all, osloRequest(t, rule, q.target, q.credentials))
							if file.anyRole {
								want = append(want, q.wantAnyRole)
							} else {
								want = append(want, q.want)
							}
							if q.asked || file.anyRole && strings.HasPrefix(q.name, "a reader") {
								wantAsked++
							}
						}
					}
					c := osloCinder{
						folder: osloInstall(t, file.name, "policy.yaml", srv.URL), release: release,
						options: map[string]any{"remote_content_type": content},
					}
					for i, got := range c.ask(t, all...) {
						if got != want[i] {
							t.Errorf("%s: %s, want %s", names[i], got, want[i])
						}
					}
					if asked.Load() != wantAsked {
						t.Errorf("the check was asked %d times, want %d: admin and service come first", asked.Load(), wantAsked)
					}
				})
			}
		}
	}
}

// With nobody at the address tenants get an error for every delete, of their own
// backups, too. Operators and the service go on.
func TestOsloCheckIsDown(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	for _, file := range osloFiles {
		c := osloCinder{folder: osloInstall(t, file.name, "policy.yaml", srv.URL), release: file.releases[0]}
		got := c.ask(t,
			osloRequest(t, "backup:delete", osloAutomated, osloAlice),
			osloRequest(t, "backup:delete", osloManual, osloAlice),
			osloRequest(t, "backup:delete", osloAutomated, osloAdmin),
			osloRequest(t, "backup:update", osloAutomated, osloAdmin),
			osloRequest(t, "backup:delete", osloAutomated, osloNova),
			osloRequest(t, "backup:delete", osloAutomated, osloLeast),
			osloRequest(t, "backup:delete", osloManual, osloMallory),
		)
		want := []string{"error: ConnectionError", "error: ConnectionError", "yes", "yes", "yes", "yes", "no"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file.name, diff)
		}
	}
}

// Queens before 12.0.4 does not say which backup it is about: the address cannot be
// made, and every delete of a tenant's fails. That is why the files are not for it.
func TestOsloBeforeQueensWasMended(t *testing.T) {
	srv := httptest.NewServer(osloFunction().Handler())
	defer srv.Close()
	q := osloRequest(t, "backup:delete", osloManual, osloAlice)
	q.Target = map[string]any{"project_id": q.Credentials["project_id"], "user_id": q.Credentials["user_id"]}
	c := osloCinder{folder: osloInstall(t, "staffeln-any-role.yaml", "policy.yaml", srv.URL), release: "queens"}
	if diff := cmp.Diff([]string{"error: KeyError"}, c.ask(t, q)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The library looks at nothing but the body, and takes "True" from anybody. This is
// what our answers are shaped by.
func TestOsloReadsTheBodyAlone(t *testing.T) {
	answers := []struct {
		status int
		body   string
		want   string
	}{
		{http.StatusOK, "True", "yes"},
		{http.StatusUnauthorized, "True", "yes"},
		{http.StatusInternalServerError, `"True"`, "yes"},
		{http.StatusOK, "true", "no"},
		{http.StatusOK, "True\n", "no"},
		{http.StatusOK, "", "no"},
		{http.StatusUnauthorized, "kept until 2026-12-22: True", "no"},
	}
	var asked atomic.Int64 // one question after the other
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		a := answers[asked.Add(1)-1]
		w.WriteHeader(a.status)
		_, _ = io.WriteString(w, a.body)
	}))
	defer srv.Close()
	var all []osloQuestion
	for range answers {
		all = append(all, osloRequest(t, "backup:delete", osloManual, osloAlice))
	}
	c := osloCinder{folder: osloInstall(t, "staffeln.yaml", "policy.yaml", srv.URL), release: "xena"}
	for i, got := range c.ask(t, all...) {
		if a := answers[i]; got != a.want {
			t.Errorf("%d %q: %s, want %s", a.status, a.body, got, a.want)
		}
	}
}

// The file works before anything is filled in but the address, too: then the service
// with the least rights has to wait for the check, and is let through by it.
func TestOsloWithoutTheUser(t *testing.T) {
	srv := httptest.NewServer(osloFunction().Handler())
	defer srv.Close()
	for _, file := range osloFiles {
		folder := osloInstall(t, file.name, "policy.yaml", srv.URL)
		installed := filepath.Join(folder, "policy.yaml")
		text, err := os.ReadFile(installed)
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.ReplaceAll(text, []byte("user_id:"+osloService), []byte("user_id:STAFFELN_USER"))
		if err := os.WriteFile(installed, text, 0o600); err != nil {
			t.Fatal(err)
		}
		got := osloCinder{folder: folder, release: file.releases[0]}.ask(t,
			osloRequest(t, "backup:delete", osloAutomated, osloLeast),
			osloRequest(t, "backup:delete", osloAutomated, osloAlice),
		)
		if diff := cmp.Diff([]string{"yes", "no"}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file.name, diff)
		}
	}
}

// A file in policy.d goes before the operator's own policy.yaml, whose other rules
// stay as they are.
func TestOsloPolicyDirectory(t *testing.T) {
	srv := httptest.NewServer(osloFunction().Handler())
	defer srv.Close()
	folder := osloInstall(t, "staffeln.yaml", "policy.d/staffeln.yaml", srv.URL)
	own := "\"backup:delete\": \"rule:admin_or_owner\"\n\"admin_api\": \"role:chief\"\n"
	if err := os.WriteFile(filepath.Join(folder, "policy.yaml"), []byte(own), 0o600); err != nil {
		t.Fatal(err)
	}
	got := osloCinder{folder: folder, release: "xena"}.ask(t,
		osloRequest(t, "backup:delete", osloAutomated, osloAlice),
		osloRequest(t, "backup:delete", osloManual, osloAlice),
		osloRequest(t, "backup:delete", osloAutomated, map[string]any{"roles": []string{"chief"}}),
	)
	if diff := cmp.Diff([]string{"no", "yes", "yes"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// With https: the server's certificate is looked at only where
// remote_ssl_verify_server_crt says so, which it does not by default.
func TestOsloOverTLS(t *testing.T) {
	srv := httptest.NewUnstartedServer(osloFunction().Handler())
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	srv.StartTLS()
	defer srv.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}),
		0o600); err != nil {
		t.Fatal(err)
	}
	folder := osloInstall(t, "staffeln.yaml", "policy.yaml", srv.URL)
	for _, tc := range []struct {
		name    string
		options map[string]any
		want    []string
	}{
		{"verified by its authority", map[string]any{"remote_ssl_verify_server_crt": true, "remote_ssl_ca_crt_file": ca},
			[]string{"no", "yes"}},
		{"of an authority unknown to the system", map[string]any{"remote_ssl_verify_server_crt": true},
			[]string{"error: SSLError", "error: SSLError"}},
		{"unverified", nil, []string{"no", "yes"}},
	} {
		got := osloCinder{folder: folder, release: "xena", options: tc.options}.ask(t,
			osloRequest(t, "backup:delete", osloAutomated, osloAlice),
			osloRequest(t, "backup:delete", osloManual, osloAlice),
		)
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

// Who made a backup is shown to admins and to the service's user, to no member, and the
// check is not asked about it. Cinder's target is whoever asks.
func TestOsloWhoMadeABackup(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	ownRole := map[string]any{"user_id": osloService, "roles": []string{"staffeln"}}
	questions := []struct {
		name        string
		credentials map[string]any
		// by whom it is shown: Cinder's defaults, a file with the user filled in, one
		// without, and one with role.yaml behind it
		byDefault, filled, unfilled, withRole string
	}{
		{"an admin", osloAdmin, "yes", "yes", "yes", "yes"},
		{"the service with the least rights", osloLeast, "no", "yes", "no", "no"},
		{"the service with a role of its own", ownRole, "no", "yes", "no", "yes"},
		{"another service", osloNova, "no", "no", "no", "no"},
		{"a member", osloAlice, "no", "no", "no", "no"},
		{"a member of another project", osloMallory, "no", "no", "no", "no"},
		{"a reader", osloReader, "no", "no", "no", "no"},
		{"one of POLICY_ROLES", osloHelper, "no", "no", "no", "no"},
	}
	role, err := os.ReadFile(filepath.Join("..", "..", "infra", "cinder", "role.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range osloFiles {
		for _, release := range file.releases {
			c := osloCinder{folder: osloInstall(t, file.name, "policy.yaml", srv.URL), release: release}
			installed := filepath.Join(c.folder, "policy.yaml")
			filled, err := os.ReadFile(installed)
			if err != nil {
				t.Fatal(err)
			}
			unfilled := bytes.ReplaceAll(filled, []byte("user_id:"+osloService), []byte("user_id:STAFFELN_USER"))
			for i, content := range [][]byte{{'#'}, filled, unfilled, slices.Concat(filled, role)} {
				if i == 3 && release == "queens" {
					continue // role.yaml is for Xena and later
				}
				if err := os.WriteFile(installed, content, 0o600); err != nil {
					t.Fatal(err)
				}
				var all []osloQuestion
				for _, q := range questions {
					ask := osloRequest(t, "backup:backup_project_attribute", nil, q.credentials)
					ask.Target = map[string]any{"project_id": ask.Credentials["project_id"], "user_id": ask.Credentials["user_id"]}
					all = append(all, ask)
				}
				for k, got := range c.ask(t, all...) {
					q := questions[k]
					if want := []string{q.byDefault, q.filled, q.unfilled, q.withRole}[i]; got != want {
						t.Errorf("%s, %s, %s: %s: %s, want %s", file.name, release,
							[]string{"Cinder's defaults", "filled in", "not filled in", "with role.yaml"}[i], q.name, got, want)
					}
				}
			}
		}
	}
}
