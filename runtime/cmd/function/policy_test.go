package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"staffeln/functions/backup"
	"staffeln/runtime/ledger"
	"staffeln/testutil/services"
	"staffeln/testutil/simcloud"
)

// A checker is the policy check in a process of its own, with Redis, RabbitMQ and
// Keystone all down.
type checker struct {
	t       *testing.T
	cmd     *exec.Cmd
	out     *safe
	address string
}

func startChecker(t *testing.T, environ ...string) *checker {
	t.Helper()
	c := &checker{t: t, cmd: exec.Command(os.Args[0]), out: &safe{}, address: free(t)}
	c.cmd.Env = append([]string{"RUN_MAIN=1", "STAFFELN_FUNCTION=policy", "STAFFELN_LISTEN=" + c.address, "STAFFELN_METRICS_LISTEN=off",
		"STAFFELN_REDIS_URL=redis://:marked-secret@127.0.0.1:1", "STAFFELN_AMQP_URLS=amqp://u:marked-secret@127.0.0.1:1/",
		"OS_AUTH_URL=http://127.0.0.1:1/v3", "OS_USERNAME=u", "OS_PASSWORD=marked-secret",
		"OS_PROJECT_NAME=p", "OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_DOMAIN_NAME=Default"}, environ...)
	c.cmd.Stdout, c.cmd.Stderr = c.out, c.out
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.cmd.Wait() }()
	t.Cleanup(func() {
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("told to stop: %v\n%s", err, c.out)
			}
		case <-time.After(time.Minute):
			_ = c.cmd.Process.Kill()
			t.Errorf("told to stop, it goes on\n%s", c.out)
		}
		if strings.Contains(c.out.String(), "marked-secret") {
			t.Errorf("a secret is in the log:\n%s", c.out)
		}
		if strings.Contains(c.out.String(), "pool.go") {
			t.Errorf("the Redis client writes lines of its own:\n%s", c.out)
		}
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", c.address)
		if err == nil {
			conn.Close()
			return c
		}
		if time.Now().After(deadline) {
			t.Fatalf("not served: %v\n%s", err, c.out)
		}
	}
}

const (
	checkedBackup = "8bd2b617-daa5-4aa3-b199-e5d6bad361fb"
	checkedUser   = "afc9ff6708a04854a2d8da6aebabea92"
	theirs        = `{"rule": "backup:delete", "target": {"id": "` + checkedBackup + `", "user_id": "` + checkedUser + `", "metadata": {}}, "credentials": {"user_id": "` + checkedUser + `", "roles": ["member"]}}`
)

var ours = strings.Replace(theirs, `"metadata": {}`, `"metadata": {"__automated_backup": "True"}`, 1)

// asks as oslo.policy does: each time on a connection of its own.
func (c *checker) ask(client *http.Client, scheme, body string) string {
	c.t.Helper()
	res, err := client.Post(scheme+"://"+c.address+"/v1/backup?backup_id="+checkedBackup, "application/json", strings.NewReader(body))
	if err != nil {
		c.t.Fatalf("%v\n%s", err, c.out)
	}
	defer res.Body.Close()
	said, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(said)
}

// verdicts wants the right answers.
func (c *checker) verdicts(client *http.Client, scheme string) {
	c.t.Helper()
	if got := c.ask(client, scheme, theirs); got != "True" {
		c.t.Errorf("a tenant's own: %q", got)
	}
	if got := c.ask(client, scheme, ours); !strings.Contains(got, "automated") {
		c.t.Errorf("an automated one: %q", got)
	}
}

func once() *http.Client {
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
}

// With all else down the check starts, is ready and answers.
func TestPolicyNeedsNobody(t *testing.T) {
	for _, tc := range []struct {
		name    string
		environ []string
	}{
		{"everything is down", nil},
		{"without a Redis", []string{"STAFFELN_REDIS_URL="}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := startChecker(t, tc.environ...)
			c.verdicts(once(), "http")
			for _, path := range []string{"/healthz", "/readyz", "/_/ready"} {
				res, err := http.Get("http://" + c.address + path)
				if err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
				if res.StatusCode != 200 {
					t.Errorf("%s: %s", path, res.Status)
				}
			}
			if got := c.ask(once(), "http", `{}`); got == "True" || !strings.Contains(got, "neither the ledger nor Cinder") {
				t.Errorf("in doubt: %q", got)
			}
		})
	}
}

// With its ledger and cloud at hand, the check knows a backup whose mark was stripped
// and the service's own user; without them again, it goes on with what it has.
func TestPolicyWithLedgerAndCloud(t *testing.T) {
	cloud, err := simcloud.Start(simcloud.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	seeded := cloud.Seed()
	redis := services.RedisServer(t)
	redis.FlushAll()
	remembered := ledger.New(redis.Client(), ledger.Options{Shards: 4})
	err = remembered.PutRecords(t.Context(), seeded.Projects["alpha"], []backup.Record{{ID: checkedBackup, Volume: seeded.Volumes["web-1-data"],
		Kind: backup.Full, Status: "available", Created: time.Now()}})
	if err != nil {
		t.Fatal(err)
	}
	c := startChecker(t, "STAFFELN_REDIS_URL="+redis.URL(), "STAFFELN_SHARDS=4", "OS_AUTH_URL="+cloud.AuthURL(), "OS_USERNAME=backup-svc",
		"OS_PASSWORD=devcloud", "OS_PROJECT_NAME=service")
	service := strings.Replace(ours, `"credentials": {"user_id": "`+checkedUser, `"credentials": {"user_id": "`+seeded.Users["backup-svc"], 1)
	for deadline := time.Now().Add(time.Minute); c.ask(once(), "http", service) != "True"; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the service's own user is not known\n%s", c.out)
		}
	}
	if got := c.ask(once(), "http", theirs); !strings.Contains(got, "automated") {
		t.Errorf("one whose mark was stripped: %q", got)
	}
	if got := c.ask(once(), "http", "{}"); !strings.Contains(got, "automated") {
		t.Errorf("one that only the ledger knows: %q", got)
	}
	cloud.Close()
	redis.Stop()
	if got := c.ask(once(), "http", service); got != "True" {
		t.Errorf("the service, with all down: %q", got)
	}
	c.verdicts(once(), "http")
}

// A crowd of strangers, of whom some never end what they say, some send far too
// much and some send what is no HTTP at all, keeps nobody else from an answer.
func TestPolicyAmongStrangers(t *testing.T) {
	c := startChecker(t)
	head := "POST /v1/backup?backup_id=" + checkedBackup + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	strangers := []struct {
		name string
		n    int
		say  string
	}{
		{"say nothing", 2000, ""},
		{"never end their first line", 500, "POST /v1/back"},
		{"never end their header", 500, head + "X: "},
		{"announce more than they send", 500, head + "Content-Length: 1000000\r\n\r\n{"},
		{"announce far too much", 200, head + "Content-Length: 100000000000\r\n\r\n{"},
		{"send chunks without end", 500, head + "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n"},
		{"keep their connection", 500, head + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(theirs), theirs)},
		{"have a header that is too large", 100, head + "X: " + strings.Repeat("x", 1<<20)},
		{"speak no HTTP", 100, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03True"},
		{"send broken encodings", 100, head + "Transfer-Encoding: chunked, True\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\xff"},
	}
	var all []net.Conn
	defer func() {
		for _, conn := range all {
			conn.Close()
		}
	}()
	for _, s := range strangers {
		for range s.n {
			conn, err := net.Dial("tcp", c.address)
			if err != nil {
				t.Fatalf("strangers that %s: after %d: %v", s.name, len(all), err)
			}
			all = append(all, conn)
			if s.say != "" {
				_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
				_, _ = io.WriteString(conn, s.say) // refused half way is fine
			}
		}
		c.verdicts(once(), "http")
	}
	if len(all) != 5000 {
		t.Errorf("there are %d strangers", len(all))
	}
	// Some go on, a byte at a time, while others ask.
	stop := make(chan struct{})
	var slow sync.WaitGroup
	slow.Go(func() {
		for {
			for _, conn := range all[2000:4000] {
				_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
				_, _ = conn.Write([]byte(" "))
			}
			select {
			case <-stop:
				return
			case <-time.After(time.Second):
			}
		}
	})
	var others sync.WaitGroup
	for range 20 {
		others.Go(func() {
			client := once()
			for range 20 {
				if got := c.ask(client, "http", ours); got == "True" {
					t.Errorf("an automated one: %q", got)
				}
				if got := c.ask(client, "http", theirs); got != "True" {
					t.Errorf("a tenant's own: %q", got)
				}
			}
		})
	}
	others.Wait()
	close(stop)
	slow.Wait()
	if lines := strings.Count(c.out.String(), "\n"); lines > 50 {
		t.Errorf("the log has %d lines", lines)
	}
}

// Five thousand ask at once, each on a connection of its own, and all get the right
// answer.
func TestPolicyAskedByThousandsAtOnce(t *testing.T) {
	c := startChecker(t)
	const many = 5000
	request := func(body string) string {
		return fmt.Sprintf("POST /v1/backup?backup_id=%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			checkedBackup, len(body), body)
	}
	var all sync.WaitGroup
	answers := make([]string, many)
	start := make(chan struct{})
	for i := range answers {
		all.Go(func() {
			<-start
			conn, err := net.Dial("tcp", c.address)
			if err != nil {
				answers[i] = err.Error()
				return
			}
			defer conn.Close()
			body := theirs
			if i%2 == 0 {
				body = ours
			}
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			if _, err := io.WriteString(conn, request(body)); err != nil {
				answers[i] = err.Error()
				return
			}
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				answers[i] = err.Error()
				return
			}
			said, _ := io.ReadAll(res.Body)
			res.Body.Close()
			answers[i] = string(said)
		})
	}
	close(start)
	all.Wait()
	wrong := map[string]int{}
	for i, got := range answers {
		if i%2 == 1 && got != "True" || i%2 == 0 && !strings.Contains(got, "automated") {
			wrong[got]++
		}
	}
	if len(wrong) > 0 {
		t.Errorf("%v\n%s", wrong, c.out)
	}
}

// With a certificate, the check is served by TLS alone; a renewed one counts
// without a restart.
func TestPolicyByTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	first := certify(t, cert, key)
	c := startChecker(t, "STAFFELN_TLS_CERT="+cert, "STAFFELN_TLS_KEY="+key)
	trusting := func(pool *x509.CertPool) *http.Client {
		client := once()
		client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: pool}
		return client
	}
	c.verdicts(trusting(first), "https")
	if got := c.ask(once(), "http", theirs); got == "True" || !strings.Contains(got, "HTTPS") {
		t.Errorf("without TLS: %q", got)
	}

	second := certify(t, cert, key)
	renewed := trusting(second)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		res, err := renewed.Get("https://" + c.address + "/healthz")
		if err == nil {
			res.Body.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the new certificate is not used: %v\n%s", err, c.out)
		}
	}
	c.verdicts(renewed, "https")
	if err := os.WriteFile(key, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); !strings.Contains(c.out.String(), "the old one stays"); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("a broken key is not told\n%s", c.out)
		}
		c.verdicts(renewed, "https")
	}
	c.verdicts(renewed, "https")
}

// certify writes a new certificate for 127.0.0.1 and its key, and trusts it.
func certify(t *testing.T, cert, key string) *x509.CertPool {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "staffeln"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		var b bytes.Buffer
		if err := pem.Encode(&b, block); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return pool
}
