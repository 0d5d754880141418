package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"staffeln/functions/backup"
	"staffeln/runtime/openstack"
	"staffeln/runtime/process"
	"staffeln/testutil/simcloud"
)

// cinder is a Cinder as [makersCloud] sees it.
type cinder struct {
	shown, known, tells bool
	err                 error
}

func (c cinder) ShowsMakers(context.Context) (bool, bool, error) { return c.shown, c.known, c.err }
func (c cinder) TellsMakers() bool                               { return c.tells }
func (c cinder) Self() string                                    { return "27baad14275d44d3bb3d76e511ad5724" }

// The check tells always, the log only where something is to be done.
func TestMakersAreTold(t *testing.T) {
	const line = `"backup:backup_project_attribute": "rule:admin_api or user_id:27baad14275d44d3bb3d76e511ad5724"`
	for _, tc := range []struct {
		name          string
		cinder        cinder
		says, logs    string // "" for no line
		withLine, bad bool
	}{
		{"they are shown", cinder{shown: true, known: true, tells: true}, "Cinder shows who made a backup\n", "", false, false},
		{"the policy hides them", cinder{known: true, tells: true}, "warning: Cinder does not show who made a backup, and so the service cannot tell its own backups from those of a tenant", "level=WARN msg=\"Cinder does not show who made a backup\"", true, false},
		{"Cinder is older than that", cinder{known: true}, "which takes microversion 3.56 (Stein)\n", "3.56", false, false},
		{"there is no backup yet", cinder{tells: true}, "not known yet whether Cinder shows who made a backup", "", false, false},
		{"lists fail", cinder{tells: true, err: errors.New("list backups: 503")}, "", "", false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out, log bytes.Buffer
			err := printMakers(t.Context(), tc.cinder, &out)
			if (err != nil) != tc.bad || tc.bad && !errors.Is(err, tc.cinder.err) {
				t.Errorf("error %v", err)
			}
			warnOfMakers(t.Context(), tc.cinder, slog.New(slog.NewTextHandler(&log, nil)))
			for _, told := range []struct{ got, want, line string }{
				{out.String(), tc.says, "    " + line + "\n"},
				{log.String(), tc.logs, "cinder_policy=" + `"` + strings.ReplaceAll(line, `"`, `\"`) + `"`},
			} {
				if !strings.Contains(told.got, told.want) || told.want == "" && told.got != "" {
					t.Errorf("told %q, want %q", told.got, told.want)
				}
				if strings.Contains(told.got, told.line) != tc.withLine {
					t.Errorf("told %q, with the policy's line: want %v", told.got, tc.withLine)
				}
			}
		})
	}
}

// least are the settings of a process with the least rights on a simulated cloud.
func least(cloud *simcloud.Cloud) []string {
	return []string{"STAFFELN_LISTEN=127.0.0.1:0", "STAFFELN_METRICS_LISTEN=off", "OS_AUTH_URL=" + cloud.AuthURL(), "OS_USERNAME=backup-min",
		"OS_PASSWORD=" + simcloud.Password, "OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_DOMAIN_NAME=Default"}
}

// backUp makes a backup in a project.
func backUp(t *testing.T, cloud *simcloud.Cloud, project string) {
	t.Helper()
	s, err := process.Read(least(cloud))
	if err != nil {
		t.Fatal(err)
	}
	service, err := openstack.Connect(t.Context(), cloudOptions(s))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := service.CreateBackup(t.Context(), project, backup.Request{Volume: cloud.AddVolume(project, "v", 1, nil), Name: "b"}); err != nil {
		t.Fatal(err)
	}
}

// The line that the check prints is the one that helps, and shows what it did.
func TestCheckPrintsTheLineThatHelps(t *testing.T) {
	cloud, err := simcloud.Start(simcloud.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer cloud.Close()
	seeded := cloud.Seed()
	check := func() string {
		t.Helper()
		var out bytes.Buffer
		if err := (checkCommand{}).print(t.Context(), least(cloud), &out); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(out.String(), "settings and connections are well\n") {
			t.Errorf("%s", out.String())
		}
		return out.String()
	}
	if out := check(); !strings.Contains(out, "not known yet whether Cinder shows who made a backup") {
		t.Errorf("before there is a backup: %s", out)
	}
	backUp(t, cloud, seeded.Projects["gamma"])
	out := check()
	_, line, found := strings.Cut(out, "\n    ")
	if !found || !strings.Contains(out, "warning: Cinder does not show who made a backup") {
		t.Fatalf("without the line: %s", out)
	}
	line, _, _ = strings.Cut(line, "\n")
	if err := cloud.SetPolicy(line); err != nil {
		t.Fatal(err)
	}
	if out := check(); !strings.Contains(out, "\nCinder shows who made a backup\n") {
		t.Errorf("with the line %s: %s", line, out)
	}
}

// A process that starts warns once.
func TestRunWarnsThatMakersAreHidden(t *testing.T) {
	cloud, err := simcloud.Start(simcloud.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer cloud.Close()
	backUp(t, cloud, cloud.Seed().Projects["gamma"])
	forget(t)
	for _, pair := range append(least(cloud), "STAFFELN_LOG_LEVEL=warn") {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
	path := filepath.Join(t.TempDir(), "log")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	stderr := os.Stderr
	os.Stderr = file
	defer func() { os.Stderr = stderr }()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- runCommand{}.Run(ctx) }()
	log := func() string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	const warning = `"Cinder does not show who made a backup"`
	for deadline := time.Now().Add(time.Minute); !strings.Contains(log(), warning); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no warning: %s", log())
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("told to stop: %v", err)
	}
	if n := strings.Count(log(), warning); n != 1 {
		t.Errorf("warned %d times: %s", n, log())
	}
}
