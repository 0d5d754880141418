package behaviour

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"staffeln/runtime/ledger"
)

// program, container and showing build the programs, once for all scenarios, and return
// their paths: the one with all functions, the one that serves a single one, the demo.
var (
	program   = sync.OnceValues(func() (string, error) { return build("staffeln", "staffeln/local") })
	showing   = sync.OnceValues(func() (string, error) { return build("demo", "staffeln/testutil/demo") })
	container = sync.OnceValues(func() (string, error) { return build("function", "staffeln/runtime/cmd/function") })
	folder    = sync.OnceValues(func() (dir string, err error) {
		builtIn, err = os.MkdirTemp("", "staffeln-behaviour-")
		return builtIn, err
	})
)

func build(name, pkg string) (string, error) {
	dir, err := folder()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	args := []string{"build", "-o", path}
	if underRace {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, pkg)...)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
	}
	return path, nil
}

var builtIn string

func TestMain(m *testing.M) {
	code := m.Run()
	if builtIn != "" {
		_ = os.RemoveAll(builtIn)
	}
	os.Exit(code)
}

// A process is one `staffeln run`.
type process struct {
	t    *testing.T
	args []string
	env  map[string]string
	addr string // of its health
	cmd  *exec.Cmd
	log  *logFile
	done chan struct{} // closed when it has ended
	err  error         // how it ended, once done is closed
}

// A logFile is what a process and those before it in its place wrote.
type logFile struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logFile) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// lines are those that contain a text.
func (l *logFile) lines(text string) []string {
	var out []string
	for s := bufio.NewScanner(strings.NewReader(l.String())); s.Scan(); {
		if strings.Contains(s.Text(), text) {
			out = append(out, s.Text())
		}
	}
	return out
}

// settings are the environment of a scenario's processes: quick, and with all
// there is.
func (s *scene) settings(with map[string]string) map[string]string {
	env := map[string]string{
		"OS_AUTH_URL": s.front.auth, "OS_USER_DOMAIN_NAME": "Default", "OS_PASSWORD": password, "OS_REGION_NAME": "RegionOne",
		// One slot: the next one is most of a day away.
		"STAFFELN_BACKUP_PERIOD":    "daily@" + time.Now().UTC().Add(-2*time.Hour).Format("15:04"),
		"STAFFELN_SPREAD_WINDOW":    "0s",
		"STAFFELN_RECONCILE_PERIOD": "20s",
		"STAFFELN_BACKUPS_PERIOD":   "1m",
		"STAFFELN_API_TIMEOUT":      s.cloud.patience.String(),
		"STAFFELN_METRICS_LISTEN":   "off",
		"STAFFELN_LOG_LEVEL":        "debug",
		"STAFFELN_AMQP_URLS":        s.cloud.broker,
		"STAFFELN_AMQP_QUEUE":       s.id,
	}
	maps.Copy(env, s.rights.env)
	maps.Copy(env, with)
	return env
}

// only are the settings that keep the program to these projects.
func only(projects ...*project) string {
	var ids []string
	for _, p := range projects {
		ids = append(ids, p.id)
	}
	return strings.Join(ids, ",")
}

// start starts the program and waits until it says that it is ready, hears
// notifications if it is to, and has gone through the cloud once.
func (s *scene) start(env map[string]string, flags ...string) *process {
	s.t.Helper()
	p := s.prepare(env, append([]string{"run"}, flags...)...)
	p.launch()
	p.ready()
	if env["STAFFELN_REDIS_URL"] != "" {
		l := ledger.New(s.redis.Client(), ledger.Options{})
		until(s.t, s.cloud.poll, 2*time.Minute, "the program has gone through the cloud", func() string {
			_, ok, err := l.LastReconciled(s.t.Context())
			if err != nil {
				return err.Error()
			}
			if !ok {
				return "it has not"
			}
			return ""
		})
	}
	return p
}

// hears says "" if the program consumes from its queue.
func (p *process) hears() string {
	conn, err := amqp.Dial(p.env["STAFFELN_AMQP_URLS"])
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		return err.Error()
	}
	q, err := ch.QueueDeclarePassive(p.env["STAFFELN_AMQP_QUEUE"], true, false, false, false, nil)
	if err != nil {
		return err.Error()
	}
	if q.Consumers == 0 {
		return "it does not consume notifications"
	}
	return ""
}

// quick makes the program look every second for what is due, and wait for mail servers no
// longer than a test can.
var quick = []string{
	"--every-dispatch=1s", "--every-track=1s", "--every-retention=1s", "--every-report=1s",
	"--mail-timeout=" + mailTimeout.String(),
}

// impatient makes digests not wait for runs, where there are always some under way.
const impatient = "--patience=1ms"

// prepare is the program with a free address for its health; an empty value
// leaves a variable out.
func (s *scene) prepare(env map[string]string, args ...string) *process {
	s.t.Helper()
	if args[0] == "run" {
		args = slices.Insert(args, 1, quick...)
	}
	path, err := program()
	if err != nil {
		s.t.Fatal(err)
	}
	return s.prepareAt(path, env, args...)
}

func (s *scene) prepareAt(path string, env map[string]string, args ...string) *process {
	s.t.Helper()
	p := &process{t: s.t, args: append([]string{path}, args...), env: maps.Clone(env), log: &logFile{}}
	if p.env["STAFFELN_LISTEN"] == "" {
		p.env["STAFFELN_LISTEN"] = freeAddress(s.t)
	}
	p.addr = p.env["STAFFELN_LISTEN"]
	s.t.Cleanup(func() {
		p.kill()
		p.inspect()
	})
	return p
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (p *process) launch() {
	p.t.Helper()
	p.cmd = exec.Command(p.args[0], p.args[1:]...)
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Dir(p.args[0])}
	for _, name := range slices.Sorted(maps.Keys(p.env)) {
		if p.env[name] != "" {
			p.cmd.Env = append(p.cmd.Env, name+"="+p.env[name])
		}
	}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	// Should the test be killed, nothing of it goes on backing up.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	done := make(chan struct{})
	go func() {
		// The kernel counts the thread that started a process as its parent.
		runtime.LockOSThread()
		started <- p.cmd.Start()
		p.err = p.cmd.Wait()
		close(done)
	}()
	if err := <-started; err != nil {
		p.t.Fatal(err)
	}
	p.done = done
}

// ready waits until the process answers that it is ready.
func (p *process) ready() {
	p.t.Helper()
	until(p.t, 50*time.Millisecond, time.Minute, "the program is ready", func() string {
		select {
		case <-p.done:
			p.t.Fatalf("the program ended by itself: %v\n%s", p.err, p.tail())
		default:
		}
		resp, err := http.Get("http://" + p.addr + "/readyz")
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != 200 {
			return fmt.Sprintf("%d %s", resp.StatusCode, body)
		}
		if p.env["STAFFELN_AMQP_URLS"] != "" {
			return p.hears()
		}
		return ""
	})
}

// kill is kill -9. It returns when the process is gone.
func (p *process) kill() {
	if p.done != nil {
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// restart starts a killed process again in its place.
func (p *process) restart() {
	p.t.Helper()
	p.kill()
	p.launch()
	p.ready()
}

// terminate is kill -TERM, and waits for the end.
func (p *process) terminate(limit time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	return p.wait(limit)
}

func (p *process) wait(limit time.Duration) error {
	select {
	case <-p.done:
		return p.err
	case <-time.After(limit):
		return errNotEnded
	}
}

var errNotEnded = errors.New("it has not ended")

// inspect looks at what the process wrote: nothing that must not be there, and
// all of it where the test has failed.
func (p *process) inspect() {
	for _, bad := range []string{"panic:", "DATA RACE", "gAAAA", "X-Auth-Token", "openstack:" + password} {
		if lines := p.log.lines(bad); len(lines) > 0 {
			p.t.Errorf("the program wrote %q", lines[0])
		}
	}
	if p.t.Failed() {
		p.t.Logf("the program wrote:\n%s", p.tail())
	}
}

// tail is the end of what the program wrote, without the lines of the debug level
// that only say that there was nothing to do.
func (p *process) tail() string {
	lines := slices.DeleteFunc(strings.Split(p.log.String(), "\n"), func(line string) bool {
		return strings.Contains(line, "event done")
	})
	return strings.Join(lines[max(0, len(lines)-120):], "\n")
}
