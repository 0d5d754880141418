package services

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

// VhostOf is the name of the vhost in a URL from [Broker.Vhost], as rabbitmqctl
// wants it.
func VhostOf(tb testing.TB, vhostURL string) string {
	tb.Helper()
	u, err := url.Parse(vhostURL)
	if err != nil {
		tb.Fatal("not a URL of Vhost's")
	}
	return strings.TrimPrefix(u.Path, "/")
}

// CloseConnection has the server close one connection, by what its client says it
// is ("connection_name"), as an administrator would. It says how many there were of
// that name.
func (b *Broker) CloseConnection(tb testing.TB, vhostURL, name string) int {
	tb.Helper()
	vhost, n := VhostOf(tb, vhostURL), 0
	for line := range strings.Lines(b.Ctl(tb, "list_connections", "pid", "vhost", "client_properties")) {
		field := strings.SplitN(strings.TrimSpace(line), "\t", 3)
		if len(field) == 3 && field[1] == vhost && strings.Contains(field[2], `"`+name+`"`) {
			b.Ctl(tb, "close_connection", field[0], "closed by the test")
			n++
		}
	}
	return n
}

// DiskAlarm makes the server believe that its disk is full (or is not any more): it
// reads nothing more from connections that publish. It returns when that is so, and
// takes the alarm back when the test is over.
func (b *Broker) DiskAlarm(tb testing.TB, on bool) {
	tb.Helper()
	b.alarm(tb, on, "disk", []string{"set_disk_free_limit", "1000000000000000"}, []string{"set_disk_free_limit", "50MB"})
}

// MemoryAlarm is the same for the memory.
func (b *Broker) MemoryAlarm(tb testing.TB, on bool) {
	tb.Helper()
	b.alarm(tb, on, "memory", []string{"set_vm_memory_high_watermark", "absolute", "1MB"},
		[]string{"set_vm_memory_high_watermark", "absolute", "1GB"})
}

func (b *Broker) alarm(tb testing.TB, on bool, what string, set, clear []string) {
	tb.Helper()
	args := clear
	if on {
		args = set
		tb.Cleanup(func() { _, _ = b.run(clear...) })
	}
	b.Ctl(tb, args...)
	for deadline := time.Now().Add(startWithin); ; {
		out := b.Ctl(tb, "eval", "rabbit_alarm:get_alarms().")
		if strings.Contains(out, ","+what+",") == on {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("rabbitmq: the %s alarm does not become %t: %s", what, on, out)
		}
	}
}

// AckTimeout has the server close every channel whose consumer leaves a message
// unacknowledged for longer than that (consumer_timeout), and look for those once a
// second instead of once a minute. It counts for channels opened afterwards, and is
// taken back when the test is over.
func (b *Broker) AckTimeout(tb testing.TB, d time.Duration) {
	tb.Helper()
	set := func(timeout, tick time.Duration) string {
		return fmt.Sprintf("application:set_env(rabbit, consumer_timeout, %d), application:set_env(rabbit, "+
			"channel_tick_interval, %d).",
			timeout.Milliseconds(), tick.Milliseconds())
	}
	tb.Cleanup(func() { _, _ = b.run("eval", set(30*time.Minute, time.Minute)) })
	b.Ctl(tb, "eval", set(d, time.Second))
}
