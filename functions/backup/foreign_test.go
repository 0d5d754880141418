package backup

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestADigestTellsOfBackupsThatAreNotOurs(t *testing.T) {
	in := DigestInput{Project: Project{ID: "p"}, From: digestFrom, To: digestTo, Volumes: nil, ForeignTold: []string{"b1", "gone"}, Foreign: []Foreign{
		{Backup: "b1", Volume: "v1", Name: "copy", Maker: "mallory", Origin: OriginForged},
		{Backup: "b3", Volume: "v1", Origin: OriginUnverified},
		{Backup: "b2", Volume: "v1", Name: "another", Maker: "mallory", Origin: OriginForged},
	}}
	d, _ := Summarise(in)
	want := []DigestForeign{
		{Backup: "b2", Name: "another", Volume: "v1", Origin: OriginForged, New: true},
		{Backup: "b3", Name: "b3", Volume: "v1", Origin: OriginUnverified, New: true},
		{Backup: "b1", Name: "copy", Volume: "v1", Origin: OriginForged},
	}
	if diff := cmp.Diff(want, d.Foreign); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"b1", "b2", "b3"}, d.ForeignIDs()); diff != "" {
		t.Error("the next one knows of", diff)
	}
	if d.Quiet() {
		t.Error("two are new, and nobody is told")
	}
	in.ForeignTold = d.ForeignIDs()
	if d, _ = Summarise(in); !d.Quiet() || len(d.Foreign) != 3 {
		t.Errorf("none is new: quiet %v, of %d", d.Quiet(), len(d.Foreign))
	}
	in.Volumes = []Protected{{Volume: "v1", Name: "data", Created: digestTo}}
	if d, _ = Summarise(in); d.Quiet() || d.Foreign[0].Volume != "data" {
		t.Errorf("a digest that comes anyway tells of them all: quiet %v, %+v", d.Quiet(), d.Foreign)
	}
	for i := range 1000 {
		in.Foreign = append(in.Foreign, Foreign{Backup: fmt.Sprint(i), Volume: "v1"})
	}
	if d, _ = Summarise(in); len(d.Trimmed().Foreign) != mostDigestRows {
		t.Errorf("%d are kept in one that is on its way", len(d.Trimmed().Foreign))
	}
}
