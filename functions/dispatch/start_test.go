package dispatch

import (
	"errors"
	"fmt"
	"testing"

	"staffeln/functions/backup"
)

// What Cinder refuses is asked for once more at once where the refusal is about what was
// special, and in no other case.
func TestPlainer(t *testing.T) {
	refused := func(f backup.Fault) error { return &backup.CloudError{Fault: f, Message: "no"} }
	inc := backup.Run{Kind: backup.Incremental, Why: "why"}
	full := backup.Run{Kind: backup.Full, Why: "why"}
	archived := backup.Run{Kind: backup.Full, Archived: backup.Month, Why: "why"}
	for _, c := range []struct {
		name string
		run  backup.Run
		err  error
		want string
	}{
		{"Cinder took it", inc, nil, ""},
		{"an incremental that has to be full", inc, refused(backup.NeedsFull),
			"full: full: Cinder refused an incremental: no"},
		{"a full one cannot be more so", full, refused(backup.NeedsFull), ""},
		{"an archive container that Cinder does not like", archived, refused(backup.Operator),
			"full: not archived: Cinder refused the archive container: no"},
		{"the usual container", full, refused(backup.Operator), ""},
		{"an archived one that is over quota", archived, refused(backup.Owner), ""},
		{"no clear answer: it may have been taken", archived, refused(backup.Doubt), ""},
		{"nor is any other error one", inc, errors.New("no"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			again, ok := plainer(c.run, c.err)
			if ok {
				got = fmt.Sprintf("%s: %s", again.Kind, again.Why)
			} else if again.Kind != c.run.Kind || again.Archived != c.run.Archived {
				t.Errorf("changed: %+v", again)
			}
			if got != c.want || again.Archived != "" && ok {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
