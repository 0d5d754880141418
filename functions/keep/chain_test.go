package keep

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

func ids(fates []Fate) string {
	var out []string
	for _, f := range fates {
		out = append(out, f.Backup.ID)
	}
	return strings.Join(out, " ")
}

func tellStep(s Step) string {
	var b strings.Builder
	if len(s.Delete) > 0 {
		fmt.Fprintf(&b, "delete %s\n", ids(s.Delete))
	}
	if len(s.Wait) > 0 {
		fmt.Fprintf(&b, "wait %s\n", ids(s.Wait))
	}
	for _, id := range slices.Sorted(maps.Keys(s.Stuck)) {
		fmt.Fprintf(&b, "stuck %s: %s\n", id, s.Stuck[id])
	}
	return b.String()
}

func TestNextStep(t *testing.T) {
	now := on(today)
	for _, c := range []struct{ name, backups, want string }{
		{"nothing to remove", "F1@1d F2@1h", ""},
		{"a backup without children goes at once", "F1@10d F2@9d F3@1h", `
			delete F1 F2`},
		{"a chain goes from its end", "F1@10d I1@9d I2@8d F2@1h", `
			delete I2
			wait I1 F1`},
		{"several chains at a time", "F1@10d I1@9d F2@8d I2@7d F3@1h", `
			delete I1 I2
			wait F2 F1`},
		{"a child that is on its way is waited for", "F1@10d I1@9d I2@8d:deleting F2@1h", `
			wait I2 I1 F1`},
		{"broken ones go like others", "F1@10d I1@9d:error F2@1h:error F3@1h", `
			delete I1 F2
			wait F1`},
		{"a tenant's child is reported with all that it keeps", "F1@10d I1@9d i2@8d F2@1h", `
			stuck F1: incremental i2, which is not ours, builds on it
			stuck I1: incremental i2, which is not ours, builds on it`},
		{"what is behind it goes", "F1@10d i1@9d I2@8d F2@1h", `
			delete I2
			stuck F1: incremental i1, which is not ours, builds on it`},
		{"a failed deletion is reported, and what it blocks", "F1@10d I1@9d:error_deleting I2@8d F2@1h", `
			delete I2
			stuck F1: incremental I1, which cannot be removed, builds on it
			stuck I1: Cinder failed to delete it (error_deleting): an admin has to reset its status`},
		{"one that Cinder says has children, of which there are none", "F1@10d{dependents} F2@1h", `
			stuck F1: Cinder says that backups build on it, and shows none (has_dependent_backups)`},
		{"of a chain all but the last have some", "F1@10d{dependents} I1@9d{dependents} I2@8d F2@1h", `
			delete I2
			wait I1 F1`},
		{"of those made in one second, first those on which nothing builds", "F1@10d{dependents} I1@9d{dependents} I2@9d F2@1h", `
			delete I2
			wait I1 F1`},
		{"if all of them say so, all of them", "F1@10d I1@9d I2@9d F2@1h", `
			delete I1 I2
			wait F1`},
		{"and if none of them does, none", "F1@10d{dependents} I1@9d{dependents} I2@9d{dependents} F2@1h", `
			stuck F1: incremental I1, which cannot be removed, builds on it
			stuck I1: incremental I2, which cannot be removed, builds on it
			stuck I2: incremental I1, which cannot be removed, builds on it`},
		{"what is deleted already is not asked for", "F1@10d:deleted F2@1h", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			same(t, tellStep(NextStep(Decide(held(t, c.backups, "keep=2d", now), now))), lines(c.want))
		})
	}
}

// Within one pass the next in a chain can be asked for as soon as those before it are
// gone, without reading anything again.
func TestNextStepAgain(t *testing.T) {
	now := on(today)
	fates := Decide(held(t, "F1@10d{dependents} I1@9d{dependents} I2@9d I3@9d{dependents} I4@8d F2@1h", "keep=2d", now), now)
	var got []string
	for _, gone := range []string{"", "I4", "I2", ""} {
		fates = slices.DeleteFunc(fates, func(f Fate) bool { return f.Backup.ID == gone })
		got = append(got, strings.ReplaceAll(strings.TrimSpace(tellStep(NextStep(fates))), "\n", ", "))
	}
	// Which of I1 and I3 is the other's parent only Cinder can tell now.
	same(t, got, []string{"delete I4, wait I3 I2 I1 F1", "delete I2, wait I3 I1 F1", "wait I3 I1 F1", "wait I3 I1 F1"})
}

// Whatever decisions it is given: nothing goes that one which stays may build on.
func TestNextStepNeverLeavesAChildBehind(t *testing.T) {
	now := on(today)
	fates := Decide(held(t, "F1@10d I1@9d I2@9d F2@1h", "keep=2d", now), now)
	fates[2].Keep = true
	same(t, tellStep(NextStep(fates)), lines(`
		stuck F1: incremental I1, which cannot be removed, builds on it
		stuck I1: incremental I2, which cannot be removed, builds on it`))
}
