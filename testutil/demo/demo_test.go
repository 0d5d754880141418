package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"staffeln/functions/backup"
	"staffeln/testutil/world"
)

// The demonstration ends with what the owners would read.
func TestTheDemonstrationsDigests(t *testing.T) {
	var box world.Mailbox
	dir := filepath.Join(t.TempDir(), "new", "digests")
	at := time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)
	for _, l := range []backup.Letter{
		{Key: "1/a", At: at, To: []backup.Person{{Address: "a@x"}}, Subject: "alpha: all well", HTML: "<p>one"},
		{Key: "1/b", At: at, To: []backup.Person{{Address: "b@x"}}, Subject: "alpha: all well", HTML: "<p>one"},
		{Key: "2/a", At: at.AddDate(0, 0, 1), To: []backup.Person{{Address: "a@x"}}, Subject: "alpha: all failed",
			HTML: "<p>two"},
	} {
		if err := box.Take(l, at); err != nil {
			t.Fatal(err)
		}
	}
	where, n, err := digests(&box, dir)
	if err != nil || where != dir || n != 2 {
		t.Errorf("%s %d %v", where, n, err)
	}
	if html, err := os.ReadFile(filepath.Join(dir, "alpha-2026-11-23.html")); err != nil || string(html) != "<p>two" {
		t.Errorf("%s %v", html, err)
	}
}
