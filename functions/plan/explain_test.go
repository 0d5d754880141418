package plan_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"staffeln/functions/backup"
	"staffeln/functions/plan"
)

// checkRules are those of a cloud whose service user is known.
var checkRules = backup.CheckRules{Users: backup.Makers{"svc"}, Roles: []string{"admin"}, Complete: true}

// The text says whether the owner and retention may remove a backup, and why, whatever the
// backup is and whatever could be asked.
func TestExplain(t *testing.T) {
	const (
		mayNot = "Its owner may not delete or change it: the backup is an automated one"
		mayDo  = "Its owner may delete or change it: the backup is not an automated one."
	)
	add := func(f *plan.Facts, b backup.CinderBackup) {
		b.Project, b.Volume, b.Status = "p", "vol", "available"
		f.Backups = append(f.Backups, b)
	}
	for _, tc := range []struct {
		name   string
		backup string
		change func(*plan.Facts)
		want   []string
	}{
		{"the newest", "new", nil, []string{mayNot, "Retention keeps it: younger than 1w, the newest complete restore point.",
			"No other backup depends on it."}},
		{"one that has outlived its policy", "old", nil, []string{mayNot, "Retention removes it: older than 1w."}},
		{"the same, while the ledger is not complete", "old", func(f *plan.Facts) { f.Memory.Ready["p"] = false },
			[]string{"Retention removes it: older than 1w.",
				"It is still there: the ledger is not complete: nothing is removed before the next reconcile."}},
		{"one on which another depends", "old", func(f *plan.Facts) {
			f.Backups[1].Incremental, f.Backups[1].Created = true, f.Backups[0].Created.Add(1)
		}, []string{"Retention keeps it: incremental new builds on it.", "Backup new depends on it."}},
		{"a tenant's own", "mine", func(f *plan.Facts) {
			add(f, backup.CinderBackup{ID: "mine", Maker: "alice", Created: night, Origin: backup.OriginTenant})
		}, []string{mayDo, "Retention never removes it: it is the project's own."}},
		{"one whose metadata were stripped, which the ledger knows", "mine", func(f *plan.Facts) {
			add(f, backup.CinderBackup{ID: "mine", Created: night, Origin: backup.OriginTenant})
			f.Memory.Records["p"] = []backup.Record{{ID: "mine", Volume: "vol"}}
		}, []string{mayNot}},
		{"one that a tenant has forged", "fake", func(f *plan.Facts) {
			add(f, backup.CinderBackup{ID: "fake", Maker: "alice", Created: night, Origin: backup.OriginForged,
				Metadata: map[string]string{backup.MetaAutomated: "True"}})
		}, []string{"Its owner may delete or change it: the backup service did not make the backup.",
			"Retention never removes it: it carries the metadata of an automated backup, and"}},
		{"without a ledger", "new", func(f *plan.Facts) { f.Memory, f.NoMemory = nil, "redis is down" },
			[]string{"No ledger was read (redis is down)", mayNot, "Retention keeps it"}},
		{"a name that holds commands to a terminal", "new", func(f *plan.Facts) { f.Backups[1].Name = "a\x1b[2Jb" },
			[]string{"Backup new (a\ufffd[2Jb) of volume vol in project p"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := factsOf()
			if tc.change != nil {
				tc.change(&f)
			}
			e, ok := plan.Explain(settingsOf(t, "STAFFELN_RETENTION_TIME=1w"), f, now, tc.backup, checkRules)
			if !ok {
				t.Fatal("it is not found")
			}
			var text bytes.Buffer
			if err := e.Text(&text); err != nil {
				t.Fatal(err)
			}
			got := strings.Join(strings.Fields(text.String()), " ")
			for _, want := range tc.want {
				if !strings.Contains(got, want) {
					t.Errorf("no word of %q in %s", want, got)
				}
			}
			js, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			var again plan.Explanation
			if err := json.Unmarshal(js, &again); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(e, again); diff != "" {
				t.Errorf("the JSON does not hold it all: %s", diff)
			}
		})
	}
	if _, ok := plan.Explain(settingsOf(t), factsOf(), now, "nowhere", checkRules); ok {
		t.Error("a backup that is not in the facts is explained")
	}
}
