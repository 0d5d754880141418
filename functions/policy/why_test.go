package policy

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"staffeln/functions/backup"
)

const (
	fullBackup  = "11111111-0000-4000-8000-000000000001"
	childBackup = "11111111-0000-4000-8000-000000000002"
	ownBackup   = "11111111-0000-4000-8000-000000000003"
)

// A chain of the service's and a backup of the tenant's own, on a cloud that knows
// them and a ledger that knows the service's.
func chained(b *bench) {
	made := func(id string, day int, incremental bool, metadata map[string]string) backup.CinderBackup {
		return backup.CinderBackup{ID: id, Project: theProject, Volume: theVolume, Status: "available", Size: 1, Incremental: incremental,
			Created: time.Date(2026, 11, day, 2, 0, 0, 0, time.UTC), Metadata: metadata, Origin: originOf(metadata)}
	}
	frozen := map[string]string{backup.MetaAutomated: "True", backup.MetaRetention: "5d", backup.MetaZone: "UTC", backup.MetaRules: "none"}
	all := []backup.CinderBackup{made(fullBackup, 16, false, frozen), made(childBackup, 20, true, frozen), made(ownBackup, 21, false, map[string]string{})}
	b.cloud = &cinder{backups: all}
	b.ledger = &memory{records: map[string]backup.Record{fullBackup: backup.RecordOf(all[0]), childBackup: backup.RecordOf(all[1])}}
}

// originOf is that of a backup of the service's if it carries the service's mark.
func originOf(metadata map[string]string) backup.Origin {
	one := []backup.CinderBackup{{Maker: "svc", Metadata: metadata}}
	backup.Makers{"svc"}.Judge(one, backup.Evidence{})
	return one[0].Origin
}

func (b *bench) why(id, accept string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, Path+"/"+id+"/why", nil)
	r.Header.Set("Authorization", "Bearer "+operatorKey)
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	return w
}

func TestWhy(t *testing.T) {
	down := errors.New("marked-secret is down")
	for _, tc := range []struct {
		name   string
		change func(*bench)
		id     string
		status int
		want   []string
	}{
		{"one that its policy keeps", nil, childBackup, 200, []string{
			"is an automated one, says the metadata and the ledger: nobody but the backup service and operators may delete or change it.",
			"Retention keeps it: younger than 5d, the newest complete restore point.", "No other backup builds on it."}},
		{"one whose time will come", func(b *bench) {
			newer := b.cloud.backups[0]
			newer.ID, newer.Created = otherBackup, b.now.Add(-time.Hour)
			b.cloud.backups = append(b.cloud.backups, newer)
		}, childBackup, 200, []string{"Retention keeps it: younger than 5d. Time alone may change that at 2026-11-25T02:00:00Z."}},
		{"one that a child keeps", nil, fullBackup, 200, []string{"Retention keeps it: incremental " + childBackup + " builds on it.", "One backup may build on it: " + childBackup}},
		{"a tenant's own", nil, ownBackup, 200, []string{"is its owner's own", "not ours"}},
		{"in capitals", nil, strings.ToUpper(ownBackup), 200, []string{"is its owner's own"}},
		{"one whose mark was stripped", func(b *bench) {
			b.cloud.backups[1].Metadata, b.cloud.backups[1].Origin = map[string]string{}, backup.OriginTenant
		}, childBackup, 200,
			[]string{"is an automated one, says the ledger:"}},
		{"one that has outlived its policy, and what holds it", func(b *bench) {
			b.now = b.now.AddDate(1, 0, 0)
			b.cloud.backups = append(b.cloud.backups, b.cloud.backups[1])
			last := &b.cloud.backups[3]
			last.ID, last.Incremental, last.Created = otherBackup, false, b.now.Add(-time.Hour)
			b.ledger.retention.Held = "the brake waits"
		}, childBackup, 200, []string{"Retention removes it: older than 5d", "It is still there: the brake waits."}},
		{"the ledger is down", func(b *bench) { b.ledger.err = down }, childBackup, 200,
			[]string{"says the metadata:", "younger than 5d", "But the ledger cannot be asked now"}},
		{"there is no ledger yet", func(b *bench) { b.ledger = nil }, childBackup, 200, []string{"But the ledger cannot be asked now"}},
		{"Cinder is down", func(b *bench) { b.cloud.err = down }, childBackup, 200,
			[]string{"is an automated one, says the ledger:", "But Cinder cannot be asked now"}},
		{"Cinder is down, and it is not in the ledger", func(b *bench) { b.cloud.err = down }, ownBackup, 503, []string{"neither Cinder nor the ledger"}},
		{"both are down", func(b *bench) { b.cloud.err, b.ledger.err = down, down }, childBackup, 503, []string{"neither Cinder nor the ledger"}},
		{"nothing is there yet", func(b *bench) { b.cloud, b.ledger = nil, nil }, childBackup, 503, nil},
		{"a list that lacks it", func(b *bench) { b.cloud.short = true }, childBackup, 200, []string{"But Cinder's list of the volume's backups cannot be had now"}},
		{"one that Cinder does not have", nil, otherBackup, 404, []string{"there is no backup " + otherBackup}},
		{"no id", nil, "True", 404, []string{"not the id of a backup"}},
		{"too many", func(b *bench) { b.limiter = &limit{} }, childBackup, 429, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(func(b *bench) {
				chained(b)
				if tc.change != nil {
					tc.change(b)
				}
			})
			w := b.why(tc.id, "")
			if w.Code != tc.status {
				t.Errorf("%d, want %d", w.Code, tc.status)
			}
			for _, want := range tc.want {
				if !strings.Contains(w.Body.String(), want) {
					t.Errorf("no word of %q in:\n%s", want, w.Body)
				}
			}
			if strings.Contains(w.Body.String(), "marked-secret") || readsAsTrue(w.Body.String()) {
				t.Errorf("it tells too much: %s", w.Body)
			}
		})
	}
}

func TestWhyAsJSON(t *testing.T) {
	b := newBench(chained)
	w := b.why(fullBackup, "application/json")
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("it is %s", got)
	}
	var got Explanation
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	keep := true
	want := Explanation{Backup: fullBackup, Volume: theVolume, Project: theProject, Status: "available", Created: time.Date(2026, 11, 16, 2, 0, 0, 0, time.UTC),
		Protected: true, By: []string{"metadata", "ledger"}, Keep: &keep, Why: "incremental " + childBackup + " builds on it", Dependents: []string{childBackup}}
	got.Until = nil // retention's own tests say when
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for accept, json := range map[string]bool{"": false, "*/*": false, "text/plain, application/json": false, "application/json, */*": true,
		"text/html;q=0.9, Application/JSON;q=0.8": true, "image/png": false} {
		if wantsJSON(accept) != json {
			t.Errorf("%q: JSON %v", accept, !json)
		}
	}
}

// A backup with our metadata that does not count as ours is explained as what it is.
func TestWhyOfBackupsThatAreNotOurs(t *testing.T) {
	for _, tc := range []struct {
		name   string
		origin backup.Origin
		maker  string
		known  bool // to the ledger
		want   []string
	}{
		{"forged", backup.OriginForged, "mallory", false, []string{
			"may be deleted and changed by its owner: it carries the metadata of an automated backup, but user mallory made it",
			"Retention keeps it: not ours, though it carries our metadata."}},
		{"nobody can say who made it", backup.OriginUnverified, "", false, []string{
			"is protected by the metadata: nobody but the backup service and operators may delete or change it. It carries the metadata of an automated backup, but nobody can say who made it",
			"Retention keeps it: nobody knows who made it."}},
		{"the ledger knows it, and Cinder names another user", backup.OriginUnverified, "former", true, []string{
			"is protected by the metadata and the ledger:", "The ledger knows it as ours, but user former made it, who is not in POLICY_USERS"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(func(b *bench) {
				chained(b)
				b.cloud.backups[1].Origin, b.cloud.backups[1].Maker = tc.origin, tc.maker
				if !tc.known {
					delete(b.ledger.records, childBackup)
				}
			})
			text := b.why(childBackup, "").Body.String()
			for _, want := range tc.want {
				if !strings.Contains(text, want) {
					t.Errorf("no word of %q in:\n%s", want, text)
				}
			}
			var e Explanation
			if err := json.Unmarshal(b.why(childBackup, "application/json").Body.Bytes(), &e); err != nil {
				t.Fatal(err)
			}
			if e.Origin != tc.origin || e.Foreign == "" || e.Protected == (tc.origin == backup.OriginForged) {
				t.Errorf("%+v", e)
			}
		})
	}
}
