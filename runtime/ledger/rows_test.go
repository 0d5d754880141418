package ledger

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"staffeln/functions/backup"
)

// anyOf fills every field of a struct, those to come as well: a field that a row
// forgets is found by whoever adds it.
func anyOf[T any](t *rapid.T) T {
	var v T
	fill(t, reflect.ValueOf(&v).Elem())
	return v
}

func fill(t *rapid.T, v reflect.Value) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		at := time.Time{}
		if rapid.Bool().Draw(t, "set") {
			at = time.UnixMicro(rapid.Int64Range(1, 4e15).Draw(t, "time")).UTC()
		}
		v.Set(reflect.ValueOf(at))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.Slice:
		n := rapid.IntRange(0, 3).Draw(t, "len")
		if n == 0 {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(t, v.Index(i))
		}
	case reflect.Pointer:
		if rapid.Bool().Draw(t, "there") {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem())
		}
	case reflect.Map:
		n := rapid.IntRange(0, 3).Draw(t, "len")
		if n == 0 {
			return
		}
		v.Set(reflect.MakeMap(v.Type()))
		for range n {
			one := reflect.New(v.Type().Elem()).Elem()
			fill(t, one)
			v.SetMapIndex(reflect.ValueOf(rapid.StringMatching("[a-z0-9-]{1,36}").Draw(t, "key")), one)
		}
	case reflect.String:
		v.SetString(rapid.String().Draw(t, "text"))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(rapid.IntRange(0, 1<<40).Draw(t, "number")))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	default:
		t.Fatalf("a field of kind %s: teach this test, and the rows", v.Kind())
	}
}

func TestRowsForgetNothing(t *testing.T) {
	same := func(t *rapid.T, got, want any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("(-want +got):\n%s", d)
		}
	}
	t.Run("run", rapid.MakeCheck(func(t *rapid.T) {
		r := anyOf[backup.Run](t)
		r.Slot = r.Slot.Truncate(time.Second)
		got, err := readRun(runRow(r))
		same(t, got, r, err)
	}))
	t.Run("enrolment", rapid.MakeCheck(func(t *rapid.T) {
		e := anyOf[backup.Enrolment](t)
		e.Server, e.Project = "s1", "p"
		got, _, err := readServer("s1", "p 7 0\n"+enrolmentRow(e))
		same(t, got, e, err)
	}))
	t.Run("volume", rapid.MakeCheck(func(t *rapid.T) {
		v := anyOf[backup.Protected](t)
		v.Volume, v.Project, v.Enrolments, v.State.Due = "v1", "p", nil, time.Time{}
		got, servers, err := readVolume("v1", "p 7 0 s1,s2\n"+factsRow(v)+"\n"+stateRow(v.State))
		same(t, got, v, err)
		same(t, servers, []string{"s1", "s2"}, nil)
	}))
	t.Run("retention", rapid.MakeCheck(func(t *rapid.T) {
		r := anyOf[backup.Retention](t)
		r.Project, r.Version, r.Due = "p", 7, time.Time{}
		row, doing := retentionRows(r)
		got, err := readRetention("p", "7.abcd "+row, doing)
		same(t, got, r, err)
	}))
	t.Run("removal", rapid.MakeCheck(func(t *rapid.T) {
		g := anyOf[backup.Removal](t)
		got, err := readRemoval(removalRow(g))
		same(t, got, g, err)
	}))
	t.Run("reporting", rapid.MakeCheck(func(t *rapid.T) {
		r := anyOf[backup.Reporting](t)
		r.Project, r.Version = "p", 7
		got, err := readReporting("p", "7.abcd pending\n"+reportingRow(r))
		same(t, got, r, err)
	}))
	t.Run("record", rapid.MakeCheck(func(t *rapid.T) {
		r := anyOf[backup.Record](t)
		r.ID, r.Volume, r.Project = "b1", "v1", "p"
		r.Proof = rapid.SampledFrom([]backup.Proof{"", backup.ByMaker, backup.ByRun, backup.ByOperator}).Draw(t, "proof")
		a := argOfRecord(r)
		got, err := readRecord("b1", strings.TrimSuffix("v1 p "+a.Parent+" "+a.Facts+" "+a.Proof, " ")+"\n"+a.Policy)
		same(t, got, r, err)
	}))
}

func TestARowThatIsNoneIsAnError(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		row := rapid.StringOf(rapid.RuneFrom([]rune("ab01 \n{}\"-"))).Draw(t, "row")
		// Whatever is read, nothing panics.
		_, _, _ = readVolume("v", row)
		_, _, _ = readServer("s", row)
		_, _ = readRecord("b", row)
		_, _ = readOpenRun(row)
		_, _ = readState(row)
		_, _ = readRetention("p", row, row)
		_, _ = readRemoval(row)
		_, _ = readReporting("p", row)
	})
	for what, err := range map[string]error{
		"volume": second(readVolume("v", "x")),
		"server": second(readServer("s", "x")),
	} {
		if err == nil || !strings.Contains(err.Error(), "not a row") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func second[A, B any](_ A, _ B, err error) error { return err }

func TestATimeGoneMadIsStillATime(t *testing.T) {
	for _, at := range []time.Time{time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC)} {
		if _, err := readRun(runRow(backup.Run{Volume: "v", Slot: t0, Started: at, Deadline: at, Ended: at})); err != nil {
			t.Errorf("%v: %v", at, err)
		}
		g := backup.Removal{Created: at, Asked: at, Ended: at, Again: at}
		row, doing := retentionRows(backup.Retention{Announced: at, Released: at, Looked: at,
			Removals: map[string]backup.Removal{"b1": g}, Gone: map[string]backup.Absence{"v1": {Since: at}}})
		if _, err := readRetention("p", "1 "+row, doing); err != nil {
			t.Errorf("%v: %v", at, err)
		}
		if _, err := readRemoval(removalRow(g)); err != nil {
			t.Errorf("%v: %v", at, err)
		}
		times := map[string]time.Time{"v1": at}
		report := reportingRow(backup.Reporting{Last: at, Failing: times, Errors: []backup.DigestRun{{Slot: at}}, Pending: &backup.Pending{Failing: times, Again: at,
			Digest: backup.Digest{From: at, To: at, Runs: []backup.DigestRun{{Slot: at, Started: at, Ended: at, FailingSince: at}},
				Removed: []backup.Removal{g}, Backups: backup.QuotaFact{Full: at}, Gigabytes: backup.QuotaFact{Full: at}}}})
		if _, err := readReporting("p", "1.a -\n"+report); err != nil {
			t.Errorf("%v: %v", at, err)
		}
	}
}
