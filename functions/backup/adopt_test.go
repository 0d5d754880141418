package backup

import (
	"strings"
	"testing"
)

func TestWhatAnOperatorMayAdopt(t *testing.T) {
	slot := on("22T02:00")
	b := CinderBackup{ID: "b", Volume: theVolume, Project: "p", Created: slot, Status: "available",
		Metadata: map[string]string{MetaAutomated: "True", MetaRun: RunID(theVolume, slot), MetaAttempt: "1", MetaRetention: "5d"}}
	for _, tc := range []struct {
		name   string
		origin Origin
		maker  string
		want   string // "" for yes
	}{
		{"nobody can say who made it", OriginUnverified, "", ""},
		{"it was not judged, which counts as that", "", "", ""},
		{"the ledger knows it, and Cinder names another user", OriginUnverified, "u1", "Cinder says that user u1 made it: if that user is the service's, add it to STAFFELN_POLICY_USERS"},
		{"it is forged", OriginForged, "u1", "Cinder says that user u1 made it"},
		{"it is ours", OriginService, "", "ours already"},
		{"it is the project's own", OriginTenant, "u1", "the project's own"},
	} {
		b.Origin, b.Maker = tc.origin, tc.maker
		ok, why := b.Adoptable()
		if ok != (tc.want == "") || !strings.Contains(why, tc.want) || ok && why != "" {
			t.Errorf("%s: %v, %q", tc.name, ok, why)
		}
	}
	b.Origin, b.Maker = OriginUnverified, ""
	r := Adopted(b)
	if r.Proof != ByOperator || !r.Slot.Equal(slot) || r.Policy != "5d" || r.ID != "b" || b.Origin != OriginUnverified {
		t.Errorf("%+v", r)
	}
}
