package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"staffeln/testutil/services"
	"staffeln/testutil/simcloud"
	"staffeln/testutil/world"
)

// aCloud is a world with a day behind it, whose ledger is in a Redis of its own, and
// the environment that leads there.
func aCloud(t *testing.T) (w *world.World, environ []string) {
	t.Helper()
	redis := services.RedisServer(t)
	w, err := world.New(t.Context(), world.Options{
		Start: time.Date(2026, 11, 22, 1, 0, 0, 0, time.UTC), Environ: []string{"STAFFELN_REDIS_URL=" + redis.URL()}, Mail: &world.Mailbox{},
		Cloud: simcloud.Options{BackupTime: func(simcloud.Volume, bool) time.Duration { return time.Minute }},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	if err := w.Pass(t.Context(), 4*time.Hour, 5*time.Minute); err != nil {
		t.Fatal(err)
	}
	return w, []string{"STAFFELN_REDIS_URL=" + redis.URL(), "STAFFELN_SHARDS=2", "OS_AUTH_URL=" + w.Cloud.AuthURL(), "OS_USERNAME=backup-svc", "OS_PASSWORD=devcloud",
		"OS_PROJECT_NAME=service", "OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_DOMAIN_NAME=Default"}
}

func TestPreview(t *testing.T) {
	w, environ := aCloud(t)
	smtp := services.SMTP(t)
	mailing := append(environ, "STAFFELN_MAIL_CHANNELS=smtp", "STAFFELN_MAIL_FROM=backups@example.org", "STAFFELN_SMTP_TLS=none",
		"STAFFELN_SMTP_HOST=127.0.0.1", fmt.Sprintf("STAFFELN_SMTP_PORT=%d", smtp.Port))
	preview := func(c previewCommand, environ []string) (string, error) {
		var out bytes.Buffer
		err := c.print(t.Context(), environ, w.Now(), &out)
		return out.String(), err
	}
	before := dump(t, w)
	for _, name := range []string{"gamma", w.Seeded.Projects["gamma"]} {
		text, err := preview(previewCommand{Project: name, Text: true}, environ)
		if err != nil || !strings.HasPrefix(text, "Subject: gamma: ") || !strings.Contains(text, "quota exceeded") {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
	file := filepath.Join(t.TempDir(), "digest.html")
	if out, err := preview(previewCommand{Project: "alpha", Out: file}, environ); err != nil || out != "" {
		t.Errorf("%q %v", out, err)
	}
	if html, err := os.ReadFile(file); err != nil || !bytes.Contains(html, []byte("web-1-data")) {
		t.Errorf("the file: %v\n%s", err, html)
	}
	for range 2 {
		w.Jump(w.Now().Add(time.Second))
		if out, err := preview(previewCommand{Project: "alpha", SendTo: "you@example.org"}, mailing); err != nil || out != "sent to you@example.org\n" {
			t.Errorf("%q %v", out, err)
		}
	}
	came := smtp.Taken(t, 2)
	if subject := came[0].Header("Subject"); subject != "[preview] alpha: 2 backups complete" {
		t.Errorf("subject %q", subject)
	}
	if a, b := came[0].Header("Message-ID"), came[1].Header("Message-ID"); a == b {
		t.Errorf("both are %s", a)
	}
	if after := dump(t, w); after != before {
		t.Errorf("the ledger was\n%s\nand is\n%s", before, after)
	}
	for what, c := range map[string]previewCommand{
		`nothing is known of a project "delta"`:       {Project: "delta"},
		`"you@example.org\r\nx" is no e-mail address`: {Project: "alpha", SendTo: "you@example.org\r\nx"},
	} {
		if out, err := preview(c, environ); out != "" || err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("want %q: %q %v", what, out, err)
		}
	}
	if _, err := preview(previewCommand{Project: "alpha"}, environ[1:]); err == nil || !strings.Contains(err.Error(), "STAFFELN_REDIS_URL is not set") {
		t.Errorf("without a ledger: %v", err)
	}
}

// dump is what the ledger says of digests, runs and removals.
func dump(t *testing.T, w *world.World) string {
	t.Helper()
	out := ""
	for _, pattern := range []string{"*reports*", "*finished*", "*removed*", "*cut*"} {
		keys, err := w.Home.Redis.Keys(t.Context(), pattern).Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			text, err := w.Home.Redis.Dump(t.Context(), k).Result()
			if err != nil {
				t.Fatal(err)
			}
			out += k + " " + text + "\n"
		}
	}
	return out
}
