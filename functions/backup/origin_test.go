package backup

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A volume's run of slot 22T02:00 was asked for at 02:00:05, with nonce N1, and Cinder has
// not clearly answered. Backups are one of "maker hidden", "maker service", "maker other",
// "maker tenant" with the mark of ours, and so on.
func TestJudge(t *testing.T) {
	slot := on("22T02:00")
	makers := Makers{theService, "11112222333344445555666677778888"}
	asked := map[string]Run{theVolume: {Volume: theVolume, Project: "p1", Slot: slot, Attempt: 1, Nonce: "N1", Started: slot.Add(5 * time.Second)}}
	ours := func(id, maker, nonce string) CinderBackup {
		m := map[string]string{MetaAutomated: "True", MetaRun: RunID(theVolume, slot), MetaAttempt: "1"}
		if nonce != "" {
			m[MetaNonce] = nonce
		}
		return CinderBackup{ID: id, Volume: theVolume, Project: "p1", Created: slot.Add(7 * time.Second), Maker: maker, Metadata: m}
	}
	change := func(b CinderBackup, f func(*CinderBackup)) CinderBackup { f(&b); return b }
	for _, c := range []struct {
		name     string
		backups  []CinderBackup
		evidence Evidence
		want     []Origin
	}{
		{"our user made it and it carries our mark", []CinderBackup{ours("a", theService, "")}, Evidence{}, []Origin{OriginService}},
		{"another user of ours made it", []CinderBackup{ours("a", makers[1], "")}, Evidence{}, []Origin{OriginService}},
		{"our user made it, and the mark is gone", []CinderBackup{change(ours("a", theService, ""), func(b *CinderBackup) { delete(b.Metadata, MetaAutomated) })}, Evidence{}, []Origin{OriginTenant}},
		{"a tenant made it and copied all of our metadata", []CinderBackup{ours("a", aTenant, "N1")}, Evidence{Asked: asked}, []Origin{OriginForged}},
		{"a tenant's own", []CinderBackup{{ID: "a", Maker: aTenant}}, Evidence{}, []Origin{OriginTenant}},
		{"the ledger saw us make it, and Cinder names another user", []CinderBackup{ours("a", aTenant, "")}, Evidence{Made: map[string]bool{"a": true}}, []Origin{OriginUnverified}},

		{"the maker is hidden, and nobody knows it", []CinderBackup{ours("a", "", "")}, Evidence{}, []Origin{OriginUnverified}},
		{"the maker is hidden, and the ledger saw us make it", []CinderBackup{ours("a", "", "")}, Evidence{Made: map[string]bool{"a": true}}, []Origin{OriginService}},
		{"the maker is hidden, and another backup was seen made", []CinderBackup{ours("a", "", "")}, Evidence{Made: map[string]bool{"b": true}}, []Origin{OriginUnverified}},
		{"the maker is hidden, and there is no mark", []CinderBackup{{ID: "a"}}, Evidence{Made: map[string]bool{"a": true}}, []Origin{OriginTenant}},

		{"it carries the nonce of the open request", []CinderBackup{ours("a", "", "N1")}, Evidence{Asked: asked}, []Origin{OriginService}},
		{"it carries another nonce", []CinderBackup{ours("a", "", "N2")}, Evidence{Asked: asked}, []Origin{OriginUnverified}},
		{"it carries none", []CinderBackup{ours("a", "", "")}, Evidence{Asked: asked}, []Origin{OriginUnverified}},
		{"two carry it: one of them is a copy", []CinderBackup{ours("a", "", "N1"), ours("b", "", "N1")}, Evidence{Asked: asked}, []Origin{OriginUnverified, OriginUnverified}},
		{"three carry it", []CinderBackup{ours("a", "", "N1"), ours("b", "", "N1"), ours("c", "", "N1")}, Evidence{Asked: asked}, []Origin{OriginUnverified, OriginUnverified, OriginUnverified}},
		{"a list that was paged while it changed shows it twice", []CinderBackup{ours("a", "", "N1"), ours("a", "", "N1")}, Evidence{Asked: asked}, []Origin{OriginService, OriginService}},
		{"an old backup was given the nonce later", []CinderBackup{change(ours("a", "", "N1"), func(b *CinderBackup) { b.Created = slot.Add(-time.Hour) }), ours("b", "", "N1")},
			Evidence{Asked: asked}, []Origin{OriginUnverified, OriginService}},
		{"the nonce under another slot", []CinderBackup{change(ours("a", "", "N1"), func(b *CinderBackup) { b.Metadata[MetaRun] = RunID(theVolume, slot.Add(time.Hour)) })}, Evidence{Asked: asked}, []Origin{OriginUnverified}},
		{"the nonce of another attempt", []CinderBackup{change(ours("a", "", "N1"), func(b *CinderBackup) { b.Metadata[MetaAttempt] = "2" })}, Evidence{Asked: asked}, []Origin{OriginUnverified}},
		{"the nonce in another project", []CinderBackup{change(ours("a", "", "N1"), func(b *CinderBackup) { b.Project = "p2" })}, Evidence{Asked: asked}, []Origin{OriginUnverified}},
		{"a run without a nonce is answered by nothing", []CinderBackup{ours("a", "", "")}, Evidence{Asked: map[string]Run{theVolume: {Volume: theVolume, Project: "p1", Slot: slot, Attempt: 1}}}, []Origin{OriginUnverified}},
	} {
		t.Run(c.name, func(t *testing.T) {
			makers.Judge(c.backups, c.evidence)
			var got []Origin
			for _, b := range c.backups {
				got = append(got, b.Origin)
				if b.Ours() != (b.Origin == OriginService) || b.Foreign() != (b.Origin == OriginForged || b.Origin == OriginUnverified) {
					t.Errorf("origin %s: ours %v, foreign %v", b.Origin, b.Ours(), b.Foreign())
				}
			}
			same(t, got, c.want)
		})
	}
	t.Run("a backup that nobody judged counts for nothing", func(t *testing.T) {
		if b := ours("a", theService, ""); b.Ours() || !b.Foreign() {
			t.Error("it counts")
		}
	})
}

// Whatever tenants write, and however the list looks: what Cinder says somebody else made
// is never ours.
func TestWhatSomebodyElseMadeIsNeverOurs(t *testing.T) {
	slot := on("22T02:00")
	rapid.Check(t, func(t *rapid.T) {
		var all []CinderBackup
		e := Evidence{Made: map[string]bool{}, Asked: map[string]Run{theVolume: {Volume: theVolume, Project: "p1", Slot: slot, Attempt: 1, Nonce: "N1", Started: slot}}}
		for _, id := range rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 1, 6).Draw(t, "ids") {
			e.Made[id] = rapid.Bool().Draw(t, "made")
			all = append(all, CinderBackup{ID: id, Volume: theVolume, Project: "p1", Created: slot, Maker: rapid.SampledFrom([]string{"", aTenant, theService}).Draw(t, "maker"),
				Metadata: map[string]string{MetaAutomated: rapid.SampledFrom([]string{"True", ""}).Draw(t, "mark"), MetaRun: RunID(theVolume, slot), MetaAttempt: "1",
					MetaNonce: rapid.SampledFrom([]string{"N1", "N2"}).Draw(t, "nonce")}})
		}
		Makers{theService}.Judge(all, e)
		for _, b := range all {
			if b.Ours() && (b.Maker == aTenant || b.Metadata[MetaAutomated] == "") {
				t.Fatalf("%+v is ours", b)
			}
		}
	})
}
