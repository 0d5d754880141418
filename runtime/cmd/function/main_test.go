package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"staffeln/functions"
	"staffeln/functions/backup"
	"staffeln/testutil/services"
	"staffeln/testutil/simcloud"
)

// TestMain is main itself in the processes that TestAFunctionThatIsNone starts.
func TestMain(m *testing.M) {
	if os.Getenv("RUN_MAIN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// safe is a buffer that a process writes to while the test reads it.
type safe struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safe) Write(p []byte) (int, error) { s.mu.Lock(); defer s.mu.Unlock(); return s.b.Write(p) }
func (s *safe) String() string              { s.mu.Lock(); defer s.mu.Unlock(); return s.b.String() }

// Every function in a process of its own behind a gateway, and the connector that
// sends them their ticks: a server that opts in gets its backup, and is told.
func TestContainersBehindAGateway(t *testing.T) {
	cloud, err := simcloud.Start(simcloud.Options{BackupTime: func(simcloud.Volume, bool) time.Duration { return time.Second }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	seeded := cloud.Seed()
	redis := services.RedisServer(t)
	redis.FlushAll()

	dir := t.TempDir()
	build := func(name, pkg string) string {
		path := filepath.Join(dir, name)
		if out, err := exec.Command("go", "build", "-o", path, pkg).CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", pkg, err, out)
		}
		return path
	}
	function, staffeln := build("function", "."), build("staffeln", "../../../local")
	start := func(path string, args []string, environ ...string) (*exec.Cmd, *safe) {
		cmd, out := exec.Command(path, args...), &safe{}
		cmd.Env = append(environ, "OS_AUTH_URL="+cloud.AuthURL(), "OS_USERNAME=backup-svc", "OS_PASSWORD=devcloud", "OS_PROJECT_NAME=service",
			"OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_DOMAIN_NAME=Default", "STAFFELN_REDIS_URL="+redis.URL(), "STAFFELN_METRICS_LISTEN=off",
			"STAFFELN_SHARDS=2", "STAFFELN_RECONCILE_PERIOD=10s", "STAFFELN_SPREAD_WINDOW=0s")
		cmd.Stdout, cmd.Stderr = out, out
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, out
	}
	eventually := func(what string, logs []*safe, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				for _, l := range logs {
					t.Log(l.String())
				}
				t.Fatalf("not within a minute: %s", what)
			}
		}
	}

	gateway := http.NewServeMux()
	var all []*exec.Cmd
	var logs []*safe
	for _, f := range functions.All(functions.Needs{Log: slog.New(slog.DiscardHandler)}) {
		address := free(t)
		cmd, out := start(function, nil, "STAFFELN_FUNCTION="+f.Name, "STAFFELN_LISTEN="+address)
		all, logs = append(all, cmd), append(logs, out)
		target := &url.URL{Scheme: "http", Host: address}
		gateway.Handle("/function/"+f.Name+"/", http.StripPrefix("/function/"+f.Name, httputil.NewSingleHostReverseProxy(target)))
		eventually(f.Name+" is ready", logs, func() bool {
			res, err := http.Get("http://" + address + "/readyz")
			if err != nil {
				return false
			}
			res.Body.Close()
			return res.StatusCode == http.StatusOK
		})
	}
	front := httptest.NewServer(gateway)
	t.Cleanup(front.Close)
	cmd, out := start(staffeln, []string{"run", "--every-dispatch=1s", "--every-track=1s"}, "STAFFELN_FUNCTION_URL="+front.URL+"/function/{function}/", "STAFFELN_LISTEN="+free(t))
	all, logs = append(all, cmd), append(logs, out)

	volume, server := seeded.Volumes["web-1-data"], seeded.Servers["web-1"]
	eventually("web-1 has a backup and is told", logs, func() bool {
		made := 0
		for _, b := range cloud.Backups() {
			if b.Volume == volume && b.Status == "available" && b.Project == seeded.Projects["alpha"] {
				made++
			}
		}
		s, _ := cloud.Server(server)
		return made == 1 && s.Metadata[backup.StampKey] != ""
	})
	if twice := cloud.Duplicates(backup.MetaRun); len(twice) > 0 {
		t.Errorf("made twice: %v", twice)
	}
	for _, cmd := range all {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
	}
	for i, cmd := range all {
		if err := cmd.Wait(); err != nil {
			t.Errorf("told to stop: %v\n%s", err, logs[i])
		}
		if strings.Contains(logs[i].String(), "devcloud") {
			t.Errorf("the password is in the log:\n%s", logs[i])
		}
	}
}

func TestAFunctionThatIsNone(t *testing.T) {
	for _, tc := range []struct{ name, environ, want string }{
		{"without a Redis of their own containers cannot meet", "STAFFELN_FUNCTION=track", "STAFFELN_REDIS_URL is not set"},
		{"wrong settings are all told", "STAFFELN_SHARDS=many", "STAFFELN_SHARDS"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = []string{tc.environ, "RUN_MAIN=1", "OS_AUTH_URL=http://127.0.0.1:1/v3", "OS_USERNAME=u", "OS_PASSWORD=p",
				"OS_PROJECT_NAME=p", "OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_DOMAIN_NAME=Default"}
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), tc.want) {
				t.Errorf("%v: %s, want %q", err, out, tc.want)
			}
		})
	}
}

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprint(l.Addr())
}
