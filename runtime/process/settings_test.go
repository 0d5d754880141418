package process

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"staffeln/functions/backup"
	"staffeln/runtime/config"
	"staffeln/runtime/mail"
)

var credentials = []string{"OS_AUTH_URL=http://127.0.0.1:5000/v3", "OS_USERNAME=backup", "OS_PASSWORD=marked-secret",
	"OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_NAME=service", "OS_PROJECT_DOMAIN_NAME=Default"}

func TestReadComplainsOfEverythingAtOnce(t *testing.T) {
	for _, tc := range []struct {
		name    string
		environ []string
		want    []string
	}{
		{"nothing at all is missing its credentials", nil, []string{"OS_AUTH_URL"}},
		{"ours and OpenStack's together", []string{"STAFFELN_BACKUP_PERIOD=often", "STAFFELN_SHARDS=0", "OS_PASSWORD=marked-secret"},
			[]string{"STAFFELN_BACKUP_PERIOD", "often", "STAFFELN_SHARDS", "OS_AUTH_URL"}},
		{"a name misspelt", append([]string{"STAFFELN_BACKUP_PEROID=1h"}, credentials...), []string{"STAFFELN_BACKUP_PEROID", "STAFFELN_BACKUP_PERIOD"}},
		{"a cluster without hosts", append([]string{"STAFFELN_REDIS_URL=redis+cluster://:marked-secret@"}, credentials...), []string{"STAFFELN_REDIS_URL"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Read(tc.environ)
			if err == nil {
				t.Fatal("no complaint")
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("no word of %s in:\n%v", w, err)
				}
			}
			if strings.Contains(err.Error(), "marked-secret") {
				t.Errorf("a secret is told:\n%v", err)
			}
		})
	}
}

func TestClassesInheritTheDefault(t *testing.T) {
	s, err := Read(append([]string{"STAFFELN_TIME_ZONE=Europe/Berlin", "STAFFELN_CLASS_GOLD_PERIOD=1h", "STAFFELN_RETENTION_TIME=2w",
		"STAFFELN_REDIS_URL=redis+sentinel://mymaster@one:26379,two:26379/0"}, credentials...))
	if err != nil {
		t.Fatal(err)
	}
	p := s.Policies()
	gold, plain := p["gold"], p[backup.Default]
	if gold.Schedule.String() != "1h" || gold.Retention.String() != "2w" || gold.Schedule.Zone().String() != "Europe/Berlin" || gold.Class != "gold" {
		t.Errorf("gold is %+v", gold)
	}
	if plain.Schedule.String() != "24h" || plain.Depth != 6 || plain.Class != backup.Default {
		t.Errorf("the default is %+v", plain)
	}
}

// Every setting that functions decide by reaches them.
func TestRules(t *testing.T) {
	s, err := Read(append([]string{"STAFFELN_VOLUME_FILTER_TAG=in", "STAFFELN_VOLUME_SKIP_TAG=out",
		"STAFFELN_SCHEDULE_KEY=when", "STAFFELN_RETENTION_KEY=long", "STAFFELN_OVERRIDES=no", "STAFFELN_OVERRIDE_MIN_PERIOD=2h",
		"STAFFELN_OVERRIDE_MAX_PERIOD=48h", "STAFFELN_OVERRIDE_MIN_RETENTION=3d", "STAFFELN_NAME_TEMPLATE={VOLUME_ID}-{BACKUP_DATE}", "STAFFELN_MAX_RUNNING=9",
		"STAFFELN_MAX_RUNNING_PER_PROJECT=4", "STAFFELN_MAX_RUNNING_PER_BACKEND=3", "STAFFELN_VOLUME_LIMIT=8",
		"STAFFELN_VOLUME_LIMITS=alpha=5", "STAFFELN_DEADLINE_BASE=2h", "STAFFELN_DEADLINE_PER_GIB=3m",
		"STAFFELN_API_TIMEOUT=20s", "STAFFELN_ORPHAN_RETENTION=1w", "STAFFELN_BRAKE_PERCENT=40", "STAFFELN_BRAKE_FROM=6", "STAFFELN_RECONCILE_PERIOD=5m",
		"STAFFELN_BACKUPS_PERIOD=3h"}, credentials...))
	if err != nil {
		t.Fatal(err)
	}
	age := func(text string) backup.Age {
		a, err := backup.ParseAge(text)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	want := backup.Settings{
		Classes: s.Policies(),
		Keys: backup.Keys{OptIn: "in", Skip: "out", Schedule: "when", Retention: "long",
			MinPeriod: 2 * time.Hour, MaxPeriod: 48 * time.Hour, MinRetention: age("3d")},
		Template: "{VOLUME_ID}-{BACKUP_DATE}", Limits: backup.Limits{Cloud: 9, Project: 4, Backend: 3}, PerService: 10,
		VolumeLimit: 8, VolumeLimits: map[string]int{"alpha": 5},
		Deadline: backup.TimeLimit{Base: 2 * time.Hour, PerGiB: 3 * time.Minute},
		Grace:    50 * time.Second, Orphan: age("1w"), Brake: backup.Brake{Percent: 40, From: 6},
		Period: 5 * time.Minute, BackupsPeriod: 3 * time.Hour,
	}
	if got := s.Functions().Settings; !reflect.DeepEqual(got, want) {
		t.Errorf("\n got %+v\nwant %+v", got, want)
	}
	if got := want.Deadline.Of(100); got != 7*time.Hour {
		t.Errorf("100 GiB may take %s", got)
	}
	for f := range reflect.TypeFor[backup.Settings]().Fields() {
		if reflect.ValueOf(want).FieldByIndex(f.Index).IsZero() {
			t.Errorf("%s is not tried here", f.Name)
		}
	}
}

// Locks are inherited, and taken away; floors are everybody's.
func TestLocksAndFloors(t *testing.T) {
	s, err := Read(append([]string{"STAFFELN_LOCK=7d", "STAFFELN_CLASS_GOLD_LOCK=30d", "STAFFELN_CLASS_FREE_LOCK=0", "STAFFELN_CLASS_PLAIN_PERIOD=1h",
		"STAFFELN_OVERRIDE_MAX_PERIOD=168h", "STAFFELN_OVERRIDE_MIN_RETENTION=2w", "STAFFELN_OVERRIDE_MIN_KEPT=3", "STAFFELN_LOCK_MAIL=yes"}, credentials...))
	if err != nil {
		t.Fatal(err)
	}
	f := s.Functions()
	for class, want := range map[string]string{backup.Default: "7d", "gold": "30d", "free": "0", "plain": "7d"} {
		if p := f.Classes[class]; p.Lock.String() != want || p.OverrideKept != 3 {
			t.Errorf("class %s is locked for %s, want %s, and keeps %d", class, p.Lock, want, p.OverrideKept)
		}
	}
	if f.Keys.MaxPeriod != 168*time.Hour || f.Keys.MinRetention.String() != "2w" || !f.Report.LockMail {
		t.Errorf("got %+v", f.Keys)
	}
}

func TestLettersGoAsTheSettingsSay(t *testing.T) {
	s, err := Read(append([]string{
		"STAFFELN_MAIL_CHANNELS=smtp,resend,log", "STAFFELN_MAIL_FROM=Backups <backups@example.org>", "STAFFELN_MAIL_REPLY_TO=help@example.org",
		"STAFFELN_SMTP_HOST=mail.example.org", "STAFFELN_SMTP_TLS=tls", "STAFFELN_SMTP_PORT=465", "STAFFELN_SMTP_USER=u", "STAFFELN_SMTP_PASSWORD=w",
		"STAFFELN_RESEND_API_KEY=re_1", "STAFFELN_RESEND_URL=http://127.0.0.1:1/",
		"STAFFELN_REPORT_PERIOD=daily@07:15", "STAFFELN_TIME_ZONE=Europe/Berlin", "STAFFELN_REPORT_RECIPIENTS=a@example.org", "STAFFELN_REPORT_ADDRESSING=blind",
		"STAFFELN_REPORT_OPERATORS=ops@example.org", "STAFFELN_REPORT_DOMAIN=example.org"}, credentials...))
	if err != nil {
		t.Fatal(err)
	}
	from := mail.Sender{From: "Backups <backups@example.org>", ReplyTo: "help@example.org"}
	want := []mail.Channel{
		mail.SMTP{Sender: from, Host: "mail.example.org", Port: 465, Security: "tls", User: "u", Password: "w", Timeout: 30 * time.Second},
		mail.Resend{Sender: from, Key: "re_1", URL: "http://127.0.0.1:1/", Timeout: 30 * time.Second},
	}
	p := New(s, slog.New(slog.DiscardHandler)).Mailer()
	if diff := cmp.Diff(want, p.Channels[:2]); diff != "" || len(p.Channels) != 3 || p.Channels[2].Name() != mail.LogName {
		t.Errorf("channels (-want +got):\n%s", diff)
	}
	r := s.Functions().Report
	if r.Schedule.String() != "daily@07:15" || r.Schedule.Zone().String() != "Europe/Berlin" || r.Patience != 2*time.Hour || !r.Blind ||
		r.Recipients[0] != "a@example.org" || r.Operators[0] != "ops@example.org" || r.Domain != "example.org" {
		t.Errorf("report is set to %+v", r)
	}
}

// A digest does not wait longer than half of its period.
func TestPatience(t *testing.T) {
	for period, want := range map[string]time.Duration{
		"daily@06:00": 2 * time.Hour, "0 6 * * 1": 2 * time.Hour, "4h": 2 * time.Hour,
		"1h": 30 * time.Minute, "10s": 5 * time.Second,
	} {
		s, err := backup.ParseSchedule(period)
		if err != nil {
			t.Fatal(err)
		}
		if got := patience(s); got != want {
			t.Errorf("%s: %s, want %s", period, got, want)
		}
	}
}

// A template that cannot be used is told, loudly, and digests go on.
func TestABrokenTemplateIsTold(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "digest.html"), []byte("{{.NoSuchThing}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Read(append([]string{"STAFFELN_TEMPLATES=" + dir}, credentials...))
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	n := New(s, slog.New(slog.NewTextHandler(&said, nil))).Needs(nil)
	if !strings.Contains(said.String(), "level=ERROR") || !strings.Contains(said.String(), "digest.html") || n.Theme == nil {
		t.Errorf("said %q", said.String())
	}
}

// Names, reasons and answers come from tenants and from other services. Whatever is in
// them, a line of the log is one line, and a terminal takes nothing of it for a command.
func TestALineOfTheLogIsOneLine(t *testing.T) {
	const words = "name\nlevel=ERROR msg=forged why=\"x\r\n\x1b[2J\x1b]0;title\a\x00 end"
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			out, err := os.CreateTemp(t.TempDir(), "log")
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			log := Settings{Config: config.Config{LogFormat: format, LogLevel: "info"}}.Logger(out)
			log.Info("volume left out", "why", words, "err", errors.New(words), "problems", []string{words})
			got, err := os.ReadFile(out.Name())
			if err != nil {
				t.Fatal(err)
			}
			line, ended := strings.CutSuffix(string(got), "\n")
			if !ended || strings.ContainsFunc(line, unicode.IsControl) || strings.Count(line, "forged") != 3 {
				t.Errorf("%q", got)
			}
		})
	}
}
