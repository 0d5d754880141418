package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// From its first moment on, with Redis, RabbitMQ and Keystone all down, the process
// answers the policy check; it is not ready, and can be told to stop.
func TestRunAnswersBeforeAnythingIsUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	forget(t)
	for name, value := range map[string]string{
		"STAFFELN_LISTEN": address, "STAFFELN_METRICS_LISTEN": "off", "STAFFELN_LOG_LEVEL": "error",
		"STAFFELN_REDIS_URL": "redis://127.0.0.1:1", "STAFFELN_AMQP_URLS": "amqp://u:p@127.0.0.1:1/",
		"OS_AUTH_URL": "http://127.0.0.1:1/v3", "OS_USERNAME": "u", "OS_PASSWORD": "p",
		"OS_PROJECT_NAME": "p", "OS_USER_DOMAIN_NAME": "Default", "OS_PROJECT_DOMAIN_NAME": "Default",
	} {
		t.Setenv(name, value)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- runCommand{}.Run(ctx) }()

	const backup = "8bd2b617-daa5-4aa3-b199-e5d6bad361fb"
	ask := func(metadata string) (string, error) {
		body := fmt.Sprintf(`{"rule": "backup:delete", "target": {"id": %q, "user_id": "alice", "metadata": {%s}}, "credentials": {"user_id": "alice", "roles": []}}`, backup, metadata)
		res, err := http.Post("http://"+address+"/v1/backup?backup_id="+backup, "application/json", strings.NewReader(body))
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		said, err := io.ReadAll(res.Body)
		return string(said), err
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		got, err := ask("")
		if err == nil {
			if got != "True" {
				t.Errorf("a tenant's own: %q", got)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if got, err := ask(`"__automated_backup": "True"`); err != nil || !strings.Contains(got, "automated") {
		t.Errorf("an automated one: %q, %v", got, err)
	}
	res, err := http.Get("http://" + address + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), "starting") {
		t.Errorf("ready: %d %s", res.StatusCode, body)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("told to stop: %v", err)
	}
}

// What is wrong for good ends the process, with its reason.
func TestRunEndsWhenItCannotServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	forget(t)
	for name, value := range map[string]string{
		"STAFFELN_LISTEN": l.Addr().String(), "STAFFELN_METRICS_LISTEN": "off", "STAFFELN_LOG_LEVEL": "error", "STAFFELN_REDIS_URL": "redis://127.0.0.1:1",
		"OS_AUTH_URL": "http://127.0.0.1:1/v3", "OS_USERNAME": "u", "OS_PASSWORD": "p",
		"OS_PROJECT_NAME": "p", "OS_USER_DOMAIN_NAME": "Default", "OS_PROJECT_DOMAIN_NAME": "Default",
	} {
		t.Setenv(name, value)
	}
	if err := (runCommand{}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("%v", err)
	}
}

// forget takes away the settings of whoever runs the tests.
func forget(t *testing.T) {
	t.Helper()
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "STAFFELN_") && !strings.HasPrefix(name, "OS_") {
			continue
		}
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.Setenv(name, value); err != nil {
				t.Error(err)
			}
		})
	}
}

// A broker's URL is checked with the other settings, before anything is connected to.
func TestOptionsOfABrokersURLAreChecked(t *testing.T) {
	cloud := []string{"OS_AUTH_URL=http://127.0.0.1:1/v3", "OS_USERNAME=u", "OS_PASSWORD=p", "OS_PROJECT_NAME=p"}
	for _, c := range []struct{ url, says string }{
		{"amqp://u:hunter2@h:5672/?ssl=1", `unknown option "ssl": want auth_mechanism, channel_max, heartbeat`},
		{"amqps://u:hunter2@h:5671/?cacertfile=/ca.pem", "cacertfile has no effect beside the TLS settings"},
		{"amqps://u:hunter2@h:5671/?heartbeat=5", ""},
	} {
		_, err := settings(append(cloud, "STAFFELN_AMQP_INSECURE=yes", "STAFFELN_AMQP_URLS=amqps://h/,"+c.url))
		if c.says == "" {
			if err != nil {
				t.Errorf("%s: %v", c.url, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), "STAFFELN_AMQP_*: amqp: broker URL 2: ") ||
			!strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", c.url, err)
		}
	}
}
