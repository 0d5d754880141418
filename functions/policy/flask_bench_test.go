package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// flaskBackups is how many automated backups the table of the Flask app holds.
const flaskBackups = 10000

// What the policy check costs beside the same in Flask: a minimal app under uwsgi
// with two processes, which looks the backup up in a table of SQLite. Both get the
// same requests, captured from Cinder, in turns, eight at a time and each on a new
// connection, as oslo.policy sends them; half of them are about automated backups.
func BenchmarkBesideFlask(b *testing.B) {
	ours := httptest.NewServer(osloFunction().Handler())
	defer ours.Close()
	sides := []*side{
		{name: "ours", address: ours.Listener.Addr().String()},
		{name: "flask", address: flask(b)},
	}
	requests := make([][]byte, 500)
	for i := range requests {
		requests[i] = flaskRequest(b, i)
	}
	for b.Loop() {
		for _, s := range sides {
			s.load(b, requests)
		}
	}
	for _, s := range sides {
		slices.Sort(s.each)
		b.ReportMetric(s.rate(), s.name+"-verdicts/s")
		b.ReportMetric(float64(s.each[len(s.each)/2].Microseconds()), s.name+"-p50-µs")
		b.ReportMetric(float64(s.each[len(s.each)*99/100].Microseconds()), s.name+"-p99-µs")
	}
	b.ReportMetric(sides[0].rate()/sides[1].rate(), "times-flask")
	b.ReportMetric(0, "ns/op") // of both together: says nothing
}

// A side is one of the two that are compared.
type side struct {
	name, address string
	took          time.Duration
	each          []time.Duration
}

func (s *side) rate() float64 { return float64(len(s.each)) / s.took.Seconds() }

// load sends the requests, those with an even number about automated backups, and
// looks at every answer.
func (s *side) load(b *testing.B, requests [][]byte) {
	b.Helper()
	times := make([]time.Duration, len(requests))
	next := make(chan int, len(requests))
	for i := range requests {
		next <- i
	}
	close(next)
	began := time.Now()
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for i := range next {
				started := time.Now()
				answer, err := exchange(s.address, requests[i])
				times[i] = time.Since(started)
				if err != nil {
					b.Errorf("%s: %v", s.name, err)
					return
				}
				allowed := bytes.HasPrefix(answer, []byte("HTTP/1.1 200 ")) && bytes.HasSuffix(answer, []byte("\r\n\r\nTrue"))
				denied := bytes.HasPrefix(answer, []byte("HTTP/1.1 401 "))
				if want := i%2 == 1; allowed != want || denied == want {
					b.Errorf("%s: request %d was answered %q", s.name, i, answer)
					return
				}
			}
		})
	}
	workers.Wait()
	s.took += time.Since(began)
	s.each = append(s.each, times...)
	if b.Failed() {
		b.FailNow()
	}
}

// exchange is one request on a connection of its own.
func exchange(address string, request []byte) ([]byte, error) {
	conn, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := conn.Write(request); err != nil {
		return nil, err
	}
	return io.ReadAll(conn)
}

// flaskRequest is what Cinder sends when alice deletes a backup, an automated one
// for an even i. Flask's table has those.
func flaskRequest(b *testing.B, i int) []byte {
	id, target := fmt.Sprintf("00000000-0000-4000-8000-%012x", i), osloAutomated
	if i%2 == 1 {
		id, target = fmt.Sprintf("99999999-0000-4000-8000-%012x", i), osloManual
	}
	q := osloRequest(b, "backup:delete", target, map[string]any{})
	q.Target["id"] = id
	field := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			b.Fatal(err)
		}
		return string(text)
	}
	body := url.Values{"rule": {field(q.Rule)}, "target": {field(q.Target)},
		"credentials": {field(q.Credentials)}}.Encode()
	return fmt.Appendf(nil, "POST /v1/backup?backup_id=%s HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: python-requests/2.28.1\r\n"+
		"Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: close\r\nContent-Length: %d\r\n"+
		"Content-Type: application/x-www-form-urlencoded\r\n\r\n%s", id, len(body), body)
}

// flask starts the app and returns its address. Where Debian's packages for it are
// missing the comparison is left out, and said to be.
func flask(b *testing.B) string {
	b.Helper()
	const python = "/usr/bin/python3" // the one that uwsgi's plugin is for
	uwsgi, err := exec.LookPath("uwsgi")
	if err == nil {
		err = exec.Command(python, "-c", "import flask, sqlite3").Run()
	}
	if err == nil {
		err = exec.Command(uwsgi, "--plugin", "python3", "--version").Run()
	}
	if err != nil {
		b.Skip("not compared with Flask: it takes Debian's python3-flask, uwsgi-core and uwsgi-plugin-python3 (apt-get install)")
	}

	dir := b.TempDir()
	app, err := filepath.Abs(filepath.Join("testdata", "flask", "app.py"))
	if err != nil {
		b.Fatal(err)
	}
	env := []string{"PATH=/usr/bin:/bin", "HOME=" + dir, "LC_ALL=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1",
		"BACKUPS=" + filepath.Join(dir, "backups.sqlite")}
	fill := exec.Command(python, app, fmt.Sprint(flaskBackups))
	fill.Env = env
	if out, err := fill.CombinedOutput(); err != nil {
		b.Fatalf("%s: %v\n%s", app, err, out)
	}

	// The kernel chooses a port, and uwsgi is handed the socket itself.
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address := listener.Addr().String()
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		b.Fatal(err)
	}
	_ = listener.Close()
	var log bytes.Buffer
	cmd := exec.Command(uwsgi, "--plugin", "python3", "--http-socket", "fd://3", "--master", "--processes", "2",
		"--wsgi-file", app, "--callable", "app", "--lazy-apps", "--need-app", "--die-on-term",
		// The body is read, though nobody looks at it: or else the connection would be reset.
		"--post-buffering", "65536", "--disable-logging", "--no-orphans")
	cmd.Env, cmd.Dir, cmd.ExtraFiles, cmd.Stdout, cmd.Stderr = env, dir, []*os.File{socket}, &log, &log
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	_ = socket.Close()
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	b.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case <-exited:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-exited
		}
	})
	// The socket listens before the app is there: the first request waits for it.
	answer, err := exchange(address, flaskRequest(b, 0))
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 401 ") {
		_ = cmd.Process.Kill()
		<-exited
		b.Fatalf("uwsgi: %q: %v\n%s", answer, err, log.String())
	}
	return address
}
