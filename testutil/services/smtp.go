package services

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"io"
	"net/mail"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

//go:embed smtp.py
var smtpServer string

// SMTPServer is a real mail server (Debian's python3-aiosmtpd) on a free loopback
// port.
type SMTPServer struct {
	// Port is where it listens, at 127.0.0.1.
	Port int

	mutex sync.Mutex
	taken []Mail
	more  chan struct{}
}

// A Mail is a message that the server has taken.
type Mail struct {
	// From and To are the envelope's.
	From string   `json:"from"`
	To   []string `json:"to"`
	// TLS and Login say how it came.
	TLS   bool `json:"tls"`
	Login bool `json:"login"`
	// Data is the message as it was on the wire.
	Data string `json:"data"`
}

// Header reads one header of the message.
func (m Mail) Header(name string) string {
	parsed, err := mail.ReadMessage(strings.NewReader(m.Data))
	if err != nil {
		return "unreadable: " + err.Error()
	}
	return parsed.Header.Get(name)
}

// SMTP starts a mail server that ends with the test. The arguments say what it is
// like; see smtp.py: --user and --password, --tls with --cert and --key,
// --refuse, --greylist, --full, --hang, --cut, --keep.
func SMTP(tb testing.TB, arguments ...string) *SMTPServer {
	tb.Helper()
	python := python3(tb, "aiosmtpd", "python3-aiosmtpd")
	cmd := exec.Command(python, append([]string{"-c", smtpServer}, arguments...)...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	s := &SMTPServer{more: make(chan struct{}, 1)}
	lines := bufio.NewReader(out)
	first, _ := lines.ReadString('\n') // where it ends early, it is not ready
	port, ready := strings.CutPrefix(strings.TrimSpace(first), "ready ")
	if s.Port, err = strconv.Atoi(port); !ready || err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		tb.Fatalf("the mail server did not start: %q\n%s", first, &complaints)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			line, err := lines.ReadBytes('\n')
			var m Mail
			if json.Unmarshal(line, &m) == nil {
				s.mutex.Lock()
				s.taken = append(s.taken, m)
				s.mutex.Unlock()
				select {
				case s.more <- struct{}{}:
				default:
				}
			}
			if err == io.EOF || err != nil {
				return
			}
		}
	}()
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		_ = cmd.Wait() // killed
		if tb.Failed() && complaints.Len() > 0 {
			tb.Logf("the mail server said:\n%s", &complaints)
		}
	})
	return s
}

// Taken are the messages that have been taken so far, once there are n at least;
// it fails the test where they do not come.
func (s *SMTPServer) Taken(tb testing.TB, n int) []Mail {
	tb.Helper()
	deadline := time.After(20 * time.Second)
	for {
		s.mutex.Lock()
		taken := append([]Mail(nil), s.taken...)
		s.mutex.Unlock()
		if len(taken) >= n {
			return taken
		}
		select {
		case <-s.more:
		case <-deadline:
			tb.Fatalf("%d of %d mails came", len(taken), n)
		}
	}
}

// python3 finds a Python that has a module; Debian's before any other.
func python3(tb testing.TB, module, debian string) string {
	tb.Helper()
	for _, python := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(python, "-c", "import "+module).Run() == nil {
			return python
		}
	}
	tb.Fatalf("no Python with %s here: run .ci/services, or install Debian's %s", module, debian)
	return ""
}
