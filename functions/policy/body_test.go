package policy

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"staffeln/functions/backup"
)

// Whatever comes: no panic, no answer that oslo.policy reads as True but an allow,
// and an allow only where another reader of the same body does not find a backup of
// the service's that a tenant asks for.
func FuzzBody(f *testing.F) {
	id := "backup_id=" + otherBackup
	for _, metadata := range []string{ours, theirs, "null",
		`{"__automated_backup": "True", "__automated_backup": "x"}`, "{}"} {
		q := question{rule, target(otherBackup, alice, metadata), credentials(alice, "member")}
		f.Add(formType, id, q.form())
		f.Add(jsonType, id, q.document())
		f.Add("", "", q.document())
	}
	for _, name := range []string{"form-alice", "form-backup-svc", "json-alice", "json-backup-svc"} {
		r := sent(f, name)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(r.Header.Get("Content-Type"), r.URL.RawQuery, string(body))
	}
	f.Add("text/plain", "True", "True")
	f.Add(formType, "backup_id=True", `target="True"&target=True`)
	function := newBench(nil).function()
	function.Log, function.Count = slog.New(slog.DiscardHandler), func(string, float64, ...string) {}
	h := function.Handler()
	f.Fuzz(func(t *testing.T, contentType, query, body string) {
		r := httptest.NewRequest("POST", Path, strings.NewReader(body))
		r.URL.RawQuery = query
		r.Header["Content-Type"] = []string{contentType}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		said := w.Body.String()
		if readsAsTrue(said) != (w.Code == 200 && said == "True") || w.Code != 200 && w.Code != 401 {
			t.Fatalf("%d %q", w.Code, said)
		}
		if w.Code == 200 && protectedFromAsker(contentType, body) {
			t.Fatalf("let through: %q", body)
		}
	})
}

// protectedFromAsker reads a body with the standard library, and says whether a
// tenant asks for a backup of the service's. What it cannot read it says no to.
func protectedFromAsker(contentType, body string) bool {
	parts := map[string]json.RawMessage{}
	if json.Unmarshal([]byte(body), &parts) != nil || !strings.Contains(contentType, "json") &&
		strings.Contains(contentType, "form") {
		values, err := url.ParseQuery(body)
		if err != nil {
			return false
		}
		parts = map[string]json.RawMessage{}
		for name := range values {
			parts[name] = json.RawMessage(values.Get(name))
		}
	}
	target, credentials := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if json.Unmarshal(parts["target"], &target) != nil || json.Unmarshal(parts["credentials"], &credentials) != nil {
		return false
	}
	var creator, user string
	var metadata map[string]string
	var roles []string
	for v, raw := range map[any]json.RawMessage{&creator: target["user_id"], &metadata: target["metadata"],
		&user: credentials["user_id"], &roles: credentials["roles"]} {
		if raw != nil && json.Unmarshal(raw, v) != nil {
			return false
		}
	}
	for _, role := range roles {
		if strings.EqualFold(role, "admin") || strings.EqualFold(role, "service") {
			return false
		}
	}
	b := backup.CinderBackup{Metadata: metadata}
	return user != serviceUser && (b.Ours() || creator == serviceUser)
}

// A form is read as the standard library reads it.
func FuzzUnescape(f *testing.F) {
	for _, s := range []string{"", "a+b", "%7B%22x%22%3A+%22%C3%A9%22%7D", "%", "%4", "%zz", "a;b", "%2B+", "\xff%ff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := unescape(nil, []byte(s))
		want, wrong := url.QueryUnescape(s)
		if strings.Contains(s, ";") {
			if err == nil {
				t.Fatalf("%q: a semicolon passes", s)
			}
			return
		}
		if (err != nil) != (wrong != nil) || err == nil && string(got) != want {
			t.Fatalf("%q: %q, %v, want %q, %v", s, got, err, want, wrong)
		}
	})
}

// A scratch that was used before leaves nothing behind.
func TestDecodeForgetsTheBodyBefore(t *testing.T) {
	automated := question{rule, target(otherBackup, serviceUser, ours), credentials(alice, "admin", "member")}.form()
	p, scratch, err := decode(formType, []byte(automated), nil)
	if err != nil || p.Mark != "True" {
		t.Fatalf("%+v, %v", p, err)
	}
	p, _, err = decode(formType, []byte("credentials=%7B%7D"), scratch)
	if err != nil || p.Mark != "" || p.User != "" || p.Roles != nil || p.Backup != "" || p.Shown {
		t.Errorf("%+v, %v", p, err)
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, name := range []string{"form-alice", "json-alice"} {
		b.Run(name, func(b *testing.B) {
			r := sent(b, name)
			body, err := io.ReadAll(r.Body)
			if err != nil {
				b.Fatal(err)
			}
			contentType := r.Header.Get("Content-Type")
			var scratch []byte
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, scratch, err = decode(contentType, body, scratch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
