package policy

import (
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"staffeln/events/wire"
	"staffeln/functions/backup"
)

// Whatever is asked by whichever method and path: nobody is told anything of a backup
// without the operator's token, and whoever has it gets an answer of a few words, or
// JSON that can be read.
func FuzzWhy(f *testing.F) {
	f.Add("GET", Path+"/"+otherBackup+"/why", "Bearer operators-own", "application/json")
	f.Add("GET", Path+"/"+strings.ToUpper(otherBackup)+"/why", "Bearer operators-own", "text/html;q=1, application/json")
	f.Add("GET", Path+"/"+otherBackup+"/why", "bearer operators-own", "*/*")
	f.Add("GET", Path+"/../"+otherBackup+"/why", "Bearer ", "")
	f.Add("POST", Path+"/"+otherBackup+"/why", "Bearer operators-own\x00", "application/json")
	f.Add("HEAD", Path+"//why", "Basic b3BlcmF0b3JzLW93bg==", ",;,")
	f.Add("GET", Path+"/%2e%2e/why", "", "")
	const token, name = "operators-own", "payroll-of-november"
	function := newBench(func(b *bench) {
		b.cloud = &cinder{backups: []backup.CinderBackup{{ID: otherBackup, Name: name, Volume: "v", Project: "p",
			Status: "available",
			Created: time.Date(2026, 11, 21, 2, 0, 0, 0,
				time.UTC), Origin: backup.OriginService, Metadata: map[string]string{backup.MetaAutomated: "True"}}}}
	}).function()
	function.Settings.Token = token
	h := function.Handler()
	f.Fuzz(func(t *testing.T, method, path, authorization, accept string) {
		u, err := url.ParseRequestURI(path)
		if err != nil || method == "" || strings.ContainsFunc(method, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return // net/http's to refuse
		}
		r := httptest.NewRequest("GET", "/", nil)
		r.Method, r.URL = method, u
		r.Header["Authorization"], r.Header["Accept"] = []string{authorization}, []string{accept}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		said := w.Body.String()
		if authorization != "Bearer "+token {
			if strings.Contains(said, name) || w.Code == 200 && said != "True" && strings.HasPrefix(path, Path) {
				t.Fatalf("%s %q tells anybody: %d %q", method, path, w.Code, said)
			}
			return
		}
		if len(said) > 4000 || strings.Contains(said, token) {
			t.Fatalf("%d bytes of answer: %.300q", len(said), said)
		}
		if strings.Contains(said, name) {
			id, ok := whyPath(u)
			if _, isID := wire.ResourceID(id); !ok || !isID {
				t.Fatalf("%q is answered with a backup", path)
			}
			if strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") {
				var e Explanation
				if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Backup != otherBackup {
					t.Fatalf("%v: %q", err, said)
				}
			}
		}
	})
}
