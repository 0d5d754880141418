package keep

import (
	"testing"
	"time"

	"staffeln/functions/backup"
)

// What is known about a volume, and what follows for its backups.
func TestFill(t *testing.T) {
	now, settings := on(today), backup.Settings{Classes: backup.Classes{backup.Default: policy("keep=3d")}, Orphan: age("1y")}
	since := on("20T12:00")
	protected := &backup.Protected{Enrolments: []backup.Enrolment{{Class: backup.Default}}, State: backup.State{LastSlot: on("22T02:00")}}
	for _, c := range []struct {
		name   string
		v      *backup.Protected
		missed backup.Absence
		keep   string // retention time of the current policy; "" for not protected
		gone   bool
	}{
		{"a protected volume has a policy", protected, backup.Absence{}, "3d", false},
		{"and is there, however often it was missed before", protected, backup.Absence{Since: since, Times: 2}, "3d", false},
		{"one that is not protected has none", nil, backup.Absence{}, "", false},
		{"missed once, it may still be there", nil, Miss(backup.Absence{}, since), "", false},
		{"missed twice, it is gone since the first time", nil, Miss(Miss(backup.Absence{}, since), now), "", true},
		{"and so it stays", nil, Miss(Miss(Miss(backup.Absence{}, since), now), now), "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := Holding{Gone: now, Policy: &backup.Policy{}, LastSlot: now}
			h.Fill(settings, c.v, c.missed, true, now)
			if h.Orphan != settings.Orphan || !h.Busy || h.Gone.Equal(since) != c.gone || h.Gone.IsZero() == c.gone {
				t.Errorf("%+v", h)
			}
			if got := h.Policy; (got == nil) != (c.keep == "") || got != nil && got.Retention.String() != c.keep {
				t.Errorf("policy %+v", got)
			}
			if c.v != nil && !h.LastSlot.Equal(c.v.State.LastSlot) || c.v == nil && !h.LastSlot.IsZero() {
				t.Errorf("last slot %s", h.LastSlot)
			}
		})
	}
	same(t, []bool{Missing(backup.Absence{}), Missing(backup.Absence{Times: 1}), Missing(backup.Absence{Times: 2})}, []bool{false, true, false})
}

func TestHoldings(t *testing.T) {
	b := func(id, volume string, origin backup.Origin) backup.CinderBackup {
		return backup.CinderBackup{ID: id, Volume: volume, Origin: origin}
	}
	all := Holdings("p", []backup.CinderBackup{b("a", "v", backup.OriginTenant), b("b", "v", backup.OriginService),
		b("c", "w", backup.OriginTenant), b("d", "x", backup.OriginService)},
		[]backup.Record{{ID: "b", Volume: "v", Parent: "a"}, {ID: "d", Volume: "x"}, {ID: "c", Volume: "w", Parent: "z"}})
	got := map[string]int{}
	for id, h := range all {
		got[id] = len(h.Backups)
		if h.Project != "p" || h.Volume != id {
			t.Errorf("%+v", h)
		}
	}
	same(t, got, map[string]int{"v": 2, "x": 1})
	same(t, all["v"].Parents, map[string]string{"b": "a"})
	same(t, all["x"].Parents, nil)
}

// Whether a volume exists makes a difference only for what stays because it does.
func TestDependsOnVolume(t *testing.T) {
	for backups, want := range map[string]bool{"F1@1d": false, "F1@20d": true, "F1@20d F2@1d": false, "F1@20d{hold}": false} {
		h := held(t, backups, "keep=2w", on(today))
		if got := h.DependsOnVolume(on(today)); got != want {
			t.Errorf("%s: %v", backups, got)
		}
	}
}

// Dispatch counts the attempts of a slot by the backups that are left of them.
func TestABrokenBackupStaysUntilItsSlotIsOver(t *testing.T) {
	const slot = "{__staffeln_run=" + theVolume + "@20261122T020000Z}"
	for _, c := range []struct{ name, last, current, want string }{
		{"its slot is not over", "21T02:00", "keep=2w", "+F1 its slot is not over"},
		{"it is", "22T02:00", "keep=2w", "-F1 it never became complete: cinder: status error without a reason"},
		{"a later one is", "22T08:00", "keep=2w", "-F1 it never became complete: cinder: status error without a reason"},
		{"a volume that is not protected has no slot", "21T02:00", "", "-F1 it never became complete: cinder: status error without a reason"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := held(t, "F1@10h:error"+slot, "keep=2w", on(today))
			h.Policy, h.LastSlot = current(c.current), on(c.last)
			same(t, tellFates(Decide(h, on(today))), c.want+"\n")
		})
	}
	t.Run("what it builds on stays with it", func(t *testing.T) {
		h := held(t, "F1@20d I2@10h:error"+slot+" F3@9h", "keep=2w", on(today))
		h.Policy, h.LastSlot = current("keep=2w"), on("21T02:00")
		same(t, kept(Decide(h, on(today))), "F1 I2 F3")
	})
}

// When the brakes hold, and which one.
func TestBraked(t *testing.T) {
	now := on(today)
	brake := backup.Brake{Percent: 50, From: 10}
	outlook := func(removals, of int) backup.Outlook {
		return backup.Outlook{Backups: of, Removals: removals, Chains: 1000 * of, Losses: 1000 * removals}
	}
	for _, c := range []struct {
		name           string
		project, cloud backup.Outlook
		released, most int // of the project: hours from now, removals
		cloudMost      int // of the cloud, for an hour
		held           string
		want           string
	}{
		{"little goes", outlook(2, 20), outlook(2, 100), 0, 0, 0, "", ""},
		{"most of a project", outlook(12, 20), outlook(12, 100), 0, 0, 0, "", ProjectBrake},
		{"nothing of the project", outlook(0, 20), outlook(80, 100), 0, 0, 0, "cloud brake: x", ""},
		{"little of the project and most of the cloud", outlook(2, 20), outlook(60, 100), 0, 0, 0, "", CloudBrake},
		{"for the cloud it takes twice as many", outlook(2, 20), outlook(19, 20), 0, 0, 0, "", ""},
		{"these many", outlook(2, 20), outlook(20, 21), 0, 0, 0, "", CloudBrake},
		{"released", outlook(12, 20), outlook(12, 100), 1, 12, 0, "", ""},
		{"released, and since then more has come up", outlook(13, 20), outlook(13, 100), 1, 12, 0, "", ProjectBrake},
		{"released, and that is over", outlook(12, 20), outlook(12, 100), 0, 12, 0, "", ProjectBrake},
		{"a project's release is not the cloud's", outlook(30, 40), outlook(30, 41), 1, 30, 0, "", CloudBrake},
		{"both are released", outlook(30, 40), outlook(30, 41), 1, 30, 30, "", ""},
		{"once it has held it goes on, though new backups have come", outlook(12, 100), outlook(12, 100), 0, 0, 0, "brake: before", ProjectBrake},
		{"until too little is left", outlook(9, 100), outlook(9, 100), 0, 0, 0, "brake: before", ""},
		{"or it is released", outlook(12, 100), outlook(12, 100), 1, 12, 0, "brake: before", ""},
		{"what another brake held does not count", outlook(12, 100), outlook(12, 100), 0, 0, 0, "cloud brake: before", ""},
		{"nor what was held for another reason", outlook(12, 100), outlook(12, 100), 0, 0, 0, "clock: before", ""},
		{"the cloud's goes on, too", outlook(12, 100), outlook(20, 100), 0, 0, 0, "cloud brake: before", CloudBrake},
		{"until it has too little left", outlook(12, 100), outlook(19, 100), 0, 0, 0, "cloud brake: before", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			project := OfProject(brake, backup.Retention{Released: now.Add(time.Duration(c.released) * time.Hour), Most: c.most}, c.project)
			cloud := OfCloud(brake, c.cloud, now.Add(time.Hour), c.cloudMost)
			name, said := Braked(project, cloud, c.held, now)
			if name != c.want || (said == "") != (name == "") {
				t.Errorf("%q: %q, want %q", name, said, c.want)
			}
			if c.held == c.want+": before" && said != "before" && project.Trips() == "" {
				t.Errorf("why: %q", said)
			}
		})
	}
}
