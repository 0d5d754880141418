package services

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func TestRabbitMQ(t *testing.T) {
	b := RabbitMQ(t)
	if RabbitMQ(t) != b {
		t.Error("a second broker was started")
	}
	one, two := b.Vhost(t), b.Vhost(t)
	dial := func(url string) *amqp.Channel {
		t.Helper()
		conn, err := amqp.Dial(url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		ch, err := conn.Channel()
		if err != nil {
			t.Fatal(err)
		}
		return ch
	}
	first := dial(one)
	if _, err := first.QueueDeclare("q", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(two).QueueDeclarePassive("q", true, false, false, false, nil); err == nil {
		t.Error("one vhost sees the queue of another")
	}

	closed := first.NotifyClose(make(chan *amqp.Error, 1))
	b.CloseConnections(t, one)
	waitFor(t, "the connection is closed", func() bool {
		select {
		case <-closed:
			return true
		default:
			return false
		}
	})

	b.Restart(t)
	if _, err := dial(one).QueueDeclarePassive("q", true, false, false, false, nil); err != nil {
		t.Errorf("a durable queue after a restart: %v", err)
	}
	if out := b.Ctl(t, "list_queues", "--vhost", strings.TrimPrefix(one[strings.LastIndex(one, "/"):], "/"),
		"name"); !strings.Contains(out, "q") {
		t.Errorf("rabbitmqctl list_queues says %q", out)
	}
}

// A test process that is killed leaves no broker behind.
func TestNothingIsLeftOfAKilledTestProcess(t *testing.T) {
	if os.Getenv("STAFFELN_TEST_CHILD") != "" {
		b := RabbitMQ(t)
		fmt.Printf("started %d %d\n", b.cmd.Process.Pid, b.epmdCmd.Process.Pid)
		select {} // until killed
	}
	child := exec.Command(os.Args[0], "-test.run=^TestNothingIsLeftOfAKilledTestProcess$")
	child.Env = append(os.Environ(), "STAFFELN_TEST_CHILD=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process(child); err != nil {
		t.Fatal(err)
	}
	var server, epmd int
	if _, err := fmt.Fscanf(out, "started %d %d\n", &server, &epmd); err != nil {
		_ = child.Process.Kill()
		t.Fatalf("the child did not start its broker: %v", err)
	}
	if !strings.Contains(commandLine(server), "beam") || !strings.Contains(commandLine(epmd), "epmd") {
		t.Errorf("server %q, epmd %q", commandLine(server), commandLine(epmd))
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	for _, pid := range []int{server, epmd} {
		waitFor(t, fmt.Sprintf("process %d is gone", pid), func() bool {
			return syscall.Kill(pid, 0) != nil || commandLine(pid) == "" // "" is a zombie
		})
	}
}

func commandLine(pid int) string {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return string(b)
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("not within 30 s: %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
