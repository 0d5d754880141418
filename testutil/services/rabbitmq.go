package services

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A Broker is a real RabbitMQ of the test process's own. Tests share it and keep
// apart by vhost; one that stops or restarts it must not run beside others.
type Broker struct {
	dir, server, ctl, epmd   string
	port, epmdPort, distPort int
	mu                       sync.Mutex
	cmd                      *exec.Cmd
	exited                   chan struct{} // closed when cmd has ended
	spare                    []string      // vhosts that are made and not given out yet
	made                     int
	epmdCmd                  *exec.Cmd
}

var (
	brokerMu sync.Mutex
	broker   *Broker
)

// RabbitMQ returns the test process's broker. The first call starts it, which
// takes about 7 s. It listens on 127.0.0.1 alone, with a node name, a home, a
// cookie and an epmd of its own, so that it meets no other broker on the machine.
func RabbitMQ(tb testing.TB) *Broker {
	tb.Helper()
	brokerMu.Lock()
	defer brokerMu.Unlock()
	if broker == nil {
		broker = newBroker(tb)
	}
	return broker
}

// RabbitMQServer starts a broker for this test alone, to be stopped, started and
// troubled by it while others go on with theirs; it ends with the test.
func RabbitMQServer(tb testing.TB) *Broker {
	tb.Helper()
	b := newBroker(tb)
	tb.Cleanup(b.end)
	return b
}

func newBroker(tb testing.TB) *Broker {
	tb.Helper()
	b := &Broker{
		// Debian's /usr/sbin/rabbitmq-server changes to the user rabbitmq.
		server: binary(tb, "rabbitmq-server", "/usr/lib/rabbitmq/bin/rabbitmq-server"),
		ctl:    binary(tb, "rabbitmq-server", "/usr/lib/rabbitmq/bin/rabbitmqctl"),
		epmd:   binary(tb, "rabbitmq-server", "epmd"),
	}
	if err := b.prepare(); err != nil {
		tb.Fatalf("rabbitmq: %v", err)
	}
	if err := b.start(); err != nil {
		tb.Fatalf("rabbitmq: %v", err)
	}
	return b
}

const brokerUser = "staffeln-test"

// prepare makes the home and its files.
func (b *Broker) prepare() error {
	sweep()
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", homePrefix, os.Getpid()))
	if err != nil {
		return err
	}
	free, err := ports(3)
	if err != nil {
		return err
	}
	b.dir, b.port, b.epmdPort, b.distPort = dir, free[0], free[1], free[2]
	conf := fmt.Sprintf(`listeners.tcp.1 = 127.0.0.1:%d
default_user = %s
default_pass = %s
log.console = true
log.console.level = warning
log.file = false
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 50MB
`, b.port, brokerUser, brokerUser)
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "rabbitmq.conf"), []byte(conf), 0o600),
		os.WriteFile(filepath.Join(dir, "plugins"), []byte("[]."), 0o600),
	)
}

const homePrefix = "staffeln-rabbitmq-"

// sweep removes the homes of test processes that are no more: nobody can clean
// up after himself when he is killed.
func sweep() {
	old, _ := filepath.Glob(filepath.Join(os.TempDir(), homePrefix+"*"))
	for _, dir := range old {
		var pid int
		if _, err := fmt.Sscanf(filepath.Base(dir), homePrefix+"%d-", &pid); err != nil || pid <= 0 {
			continue
		}
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir)
		}
	}
}

func (b *Broker) env() []string {
	in := func(name string) string { return filepath.Join(b.dir, name) }
	loopback := "-kernel inet_dist_use_interface {127,0,0,1}"
	return []string{
		"PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8",
		"HOME=" + b.dir, // where Erlang keeps its cookie
		fmt.Sprintf("ERL_EPMD_PORT=%d", b.epmdPort), "ERL_EPMD_ADDRESS=127.0.0.1",
		fmt.Sprintf("RABBITMQ_NODENAME=test%d@localhost", b.port),
		fmt.Sprintf("RABBITMQ_DIST_PORT=%d", b.distPort),
		"RABBITMQ_CONF_ENV_FILE=/dev/null", "RABBITMQ_CONFIG_FILE=" + in("rabbitmq.conf"),
		"RABBITMQ_ADVANCED_CONFIG_FILE=" + in("none"), "RABBITMQ_ENABLED_PLUGINS_FILE=" + in("plugins"),
		"RABBITMQ_MNESIA_BASE=" + in("mnesia"), "RABBITMQ_LOG_BASE=" + in("log"), "RABBITMQ_LOGS=-",
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=" + loopback, "RABBITMQ_CTL_ERL_ARGS=" + loopback,
		// The script then becomes the Erlang machine instead of waiting for it, and
		// the kernel's signal at our end reaches it.
		"RUNNING_UNDER_SYSTEMD=1",
	}
}

// startWithin is how long a server may take to come up: Erlang takes seconds of a
// processor's time, which a busy machine gives it slowly.
const startWithin = 4 * time.Minute

func (b *Broker) start() error {
	if b.epmdCmd == nil {
		b.epmdCmd = exec.Command(b.epmd, "-port", fmt.Sprint(b.epmdPort))
		b.epmdCmd.Env = b.env()
		if err := process(b.epmdCmd); err != nil {
			return fmt.Errorf("start epmd: %w", err)
		}
		go func() { _ = b.epmdCmd.Wait() }()
	}
	log, err := os.OpenFile(filepath.Join(b.dir, "output"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(b.server)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = b.dir, b.env(), log, log
	if err := process(cmd); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	b.cmd, b.exited = cmd, exited

	deadline := time.After(startWithin)
	for {
		conn, err := net.DialTimeout("tcp", b.addr(), time.Second)
		if err == nil {
			conn.Close()
			break
		}
		select {
		case <-exited:
			return fmt.Errorf("it ended by itself:\n%s", b.output())
		case <-deadline:
			return fmt.Errorf("not up after %s:\n%s", startWithin, b.output())
		case <-time.After(50 * time.Millisecond):
		}
	}
	// The port is open before the boot is over.
	_, err = b.run("await_startup", "--timeout", fmt.Sprint(int(startWithin.Seconds())))
	return err
}

func (b *Broker) stop() {
	if b.cmd == nil {
		return
	}
	_ = b.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-b.exited:
	case <-time.After(30 * time.Second):
		_ = b.cmd.Process.Kill()
		<-b.exited
	}
	b.cmd = nil
}

func (b *Broker) addr() string { return fmt.Sprintf("127.0.0.1:%d", b.port) }

// output is the end of what the server wrote.
func (b *Broker) output() string {
	all, _ := os.ReadFile(filepath.Join(b.dir, "output"))
	return string(all[max(0, len(all)-4000):])
}

// run runs rabbitmqctl.
func (b *Broker) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*startWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, b.ctl, append([]string{"--quiet"}, args...)...)
	cmd.Dir, cmd.Env = b.dir, b.env()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := process(cmd); err != nil {
		return "", fmt.Errorf("rabbitmqctl: %w", err)
	}
	if err := cmd.Wait(); err != nil {
		return "", fmt.Errorf("rabbitmqctl %s: %w: %s", args[0], err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}

// Vhost makes an empty vhost for this test and returns its URL. What is in it is
// gone with the test process.
func (b *Broker) Vhost(tb testing.TB) string {
	tb.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.spare) == 0 {
		// rabbitmqctl takes half a second, whether it makes one vhost or eight.
		const batch = 8
		for range batch {
			b.made++
			b.spare = append(b.spare, fmt.Sprintf("test-%d", b.made))
		}
		_, err := b.run("eval", fmt.Sprintf(`
			[begin
				Vhost = iolist_to_binary(["test-", integer_to_binary(I)]),
				ok = rabbit_vhost:add(Vhost, <<"test">>),
				ok = rabbit_auth_backend_internal:set_permissions(<<"%s">>, Vhost, <<".*">>, <<".*">>, <<".*">>, <<"test">>)
			end || I <- lists:seq(%d, %d)].`, brokerUser, b.made-batch+1, b.made))
		if err != nil {
			tb.Fatal(err)
		}
	}
	vhost := b.spare[0]
	b.spare = b.spare[1:]
	u := url.URL{Scheme: "amqp", User: url.UserPassword(brokerUser, brokerUser), Host: b.addr(), Path: "/" + vhost}
	return u.String()
}

// Stop stops the server in an orderly way. A test that does so must Start it again.
func (b *Broker) Stop(tb testing.TB) {
	tb.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stop()
}

// Start starts the server again after [Broker.Stop]. Durable things are still
// there, others are not.
func (b *Broker) Start(tb testing.TB) {
	tb.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cmd != nil {
		return
	}
	if err := b.start(); err != nil {
		tb.Fatalf("rabbitmq: %v", err)
	}
}

// Restart is Stop and Start.
func (b *Broker) Restart(tb testing.TB) {
	tb.Helper()
	b.Stop(tb)
	b.Start(tb)
}

// CloseConnections has the server close every connection into the vhost of a URL
// from [Broker.Vhost], as an administrator would.
func (b *Broker) CloseConnections(tb testing.TB, vhostURL string) {
	tb.Helper()
	u, err := url.Parse(vhostURL)
	if err != nil {
		tb.Fatal("not a URL of Vhost's")
	}
	b.Ctl(tb, "close_all_connections", "--vhost", strings.TrimPrefix(u.Path, "/"), "closed by the test")
}

// Ctl runs rabbitmqctl and returns what it prints.
func (b *Broker) Ctl(tb testing.TB, args ...string) string {
	tb.Helper()
	out, err := b.run(args...)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// StopRabbitMQ ends the server of this process, if there is one, and removes its files. A package with
// many tests calls it at the end of TestMain; without it the kernel ends them
// with the process, and the next test process removes the files.
func StopRabbitMQ() {
	brokerMu.Lock()
	defer brokerMu.Unlock()
	if broker == nil {
		return
	}
	broker.end()
	broker = nil
}

// end ends the server at once, and removes its files.
func (b *Broker) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cmd != nil {
		_ = b.cmd.Process.Kill() // nothing of it is needed any more
		<-b.exited
	}
	_ = b.epmdCmd.Process.Kill()
	_ = os.RemoveAll(b.dir)
}
