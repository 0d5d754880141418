package services

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// redisDatabases is how many tests of one process can use the shared Redis at
// the same time.
const redisDatabases = 512

// redisStart is how long a server may take to come up.
const redisStart = time.Minute

// sharedRedis is what the tests of this process share, started by whoever is first.
var sharedRedis struct {
	sync.Mutex
	server *RedisProcess
	free   []int

	cluster     []*RedisProcess
	clusterBusy sync.Mutex
}

// Redis is a client of a real Redis, in an empty database of the test's own. The
// server is started once in a test process and ends with it; the database is
// emptied after the test.
func Redis(tb testing.TB) *redis.Client {
	tb.Helper()
	sharedRedis.Lock()
	defer sharedRedis.Unlock()
	if sharedRedis.server == nil {
		// Nothing is ever written into the folder.
		p, err := startRedis(os.TempDir(), "--databases", strconv.Itoa(redisDatabases))
		if err != nil {
			tb.Fatal(err)
		}
		sharedRedis.server = p
		for n := redisDatabases - 1; n >= 0; n-- {
			sharedRedis.free = append(sharedRedis.free, n)
		}
	}
	if len(sharedRedis.free) == 0 {
		tb.Fatalf("all %d databases of the shared Redis are taken", redisDatabases)
	}
	last := len(sharedRedis.free) - 1
	db := sharedRedis.free[last]
	sharedRedis.free = sharedRedis.free[:last]

	rdb := redisClient(sharedRedis.server.addr, db)
	tb.Cleanup(func() {
		if err := rdb.FlushDB(context.Background()).Err(); err != nil {
			tb.Errorf("empty the database: %v", err)
		}
		rdb.Close()
		sharedRedis.Lock()
		defer sharedRedis.Unlock()
		sharedRedis.free = append(sharedRedis.free, db)
	})
	return rdb
}

// RedisURL is the address of such a database, in the form of STAFFELN_REDIS_URL.
func RedisURL(tb testing.TB) string {
	tb.Helper()
	o := Redis(tb).Options()
	return fmt.Sprintf("redis://%s/%d", o.Addr, o.DB)
}

// RedisCluster is a client of a real Redis Cluster of three masters, empty. It is
// started once in a test process; a cluster has no databases, so one test has it
// to itself, and the next one waits. A test must not ask for it twice.
func RedisCluster(tb testing.TB) *redis.ClusterClient {
	tb.Helper()
	sharedRedis.clusterBusy.Lock()
	tb.Cleanup(sharedRedis.clusterBusy.Unlock)
	if sharedRedis.cluster == nil {
		nodes, err := startRedisCluster()
		if err != nil {
			tb.Fatal(err)
		}
		sharedRedis.cluster = nodes
	}
	var addrs []string
	for _, n := range sharedRedis.cluster {
		addrs = append(addrs, n.addr)
	}
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, MaintNotificationsConfig: quietRedis()})
	tb.Cleanup(func() { rdb.Close() })
	err := rdb.ForEachMaster(context.Background(), func(ctx context.Context, node *redis.Client) error {
		return node.FlushAll(ctx).Err()
	})
	if err != nil {
		tb.Fatalf("empty the cluster: %v", err)
	}
	return rdb
}

// RedisServer starts a Redis for this test alone, to be stopped and started by
// it; it ends with the test.
func RedisServer(tb testing.TB) *RedisProcess {
	tb.Helper()
	p, err := startRedis(tb.TempDir(), "--enable-debug-command", "local")
	if err != nil {
		tb.Fatal(err)
	}
	p.tb = tb
	tb.Cleanup(p.kill)
	return p
}

// RedisSentinel starts a Redis and a Sentinel that watches it, for this test
// alone, and says under which address and name the Sentinel knows it.
func RedisSentinel(tb testing.TB) (sentinel, master string) {
	tb.Helper()
	redis := RedisServer(tb)
	free, err := ports(1)
	if err != nil {
		tb.Fatal(err)
	}
	// A Sentinel wants a file, which it also writes to.
	const name = "mymaster"
	host, port, _ := net.SplitHostPort(redis.addr)
	file := filepath.Join(tb.TempDir(), "sentinel.conf")
	conf := fmt.Sprintf("bind 127.0.0.1\nport %d\nsentinel monitor %s %s %s 1\n", free[0], name, host, port)
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		tb.Fatal(err)
	}
	p := &RedisProcess{tb: tb, addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(free[0])),
		args: []string{file, "--sentinel"}}
	if err := p.start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.kill)
	return p.addr, name
}

// A RedisProcess is a real redis-server on a free port of the loopback address.
type RedisProcess struct {
	tb   testing.TB
	addr string
	dir  string // where it saves
	args []string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
	log  *redisLog
}

// Addr is where it listens, host:port, the same after every Start.
func (p *RedisProcess) Addr() string { return p.addr }

// URL is redis://ADDR.
func (p *RedisProcess) URL() string { return "redis://" + p.addr }

// Client is a new client of it, closed with the test.
func (p *RedisProcess) Client() *redis.Client {
	rdb := redisClient(p.addr, 0)
	p.tb.Cleanup(func() { rdb.Close() })
	return rdb
}

// Stop ends the server in good order: what it held is there again after Start.
func (p *RedisProcess) Stop() {
	p.tb.Helper()
	rdb := redisClient(p.addr, 0)
	defer rdb.Close()
	// The answer to a SHUTDOWN that worked is a closed connection.
	_ = rdb.Do(context.Background(), "SHUTDOWN", "SAVE").Err()
	select {
	case <-p.ended():
	case <-time.After(redisStart):
		p.tb.Fatalf("redis-server does not stop:\n%s", p.log)
	}
}

// Start starts the stopped server again, at the same address.
func (p *RedisProcess) Start() {
	p.tb.Helper()
	if err := p.start(); err != nil {
		p.tb.Fatal(err)
	}
}

// FlushAll empties it.
func (p *RedisProcess) FlushAll() {
	p.tb.Helper()
	rdb := redisClient(p.addr, 0)
	defer rdb.Close()
	if err := rdb.FlushAll(context.Background()).Err(); err != nil {
		p.tb.Fatalf("empty redis: %v", err)
	}
}

func (p *RedisProcess) ended() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

func (p *RedisProcess) kill() {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.mu.Unlock()
	_ = cmd.Process.Kill()
	<-done
}

// quietRedis spares the handshake for a managed service's maintenance messages.
func quietRedis() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

func redisClient(addr string, db int) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: addr, DB: db, MaintNotificationsConfig: quietRedis()})
}

// startRedis starts a server that keeps nothing by itself. Another process can
// take the free port first: then another one is tried.
func startRedis(dir string, args ...string) (*RedisProcess, error) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, fmt.Errorf("tests need a real Redis: apt-get install redis-server (%w)", err)
	}
	var err error
	for range 3 {
		var free []int
		if free, err = ports(1); err != nil {
			return nil, err
		}
		p := newRedis(dir, free[0], args...)
		if err = p.start(); err == nil {
			return p, nil
		}
	}
	return nil, err
}

func newRedis(dir string, port int, args ...string) *RedisProcess {
	return &RedisProcess{
		addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), dir: dir,
		args: append([]string{"--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", dir,
			"--save", "", "--appendonly", "no", "--daemonize", "no"}, args...),
	}
}

// start runs the server and waits until it answers.
func (p *RedisProcess) start() error {
	p.mu.Lock()
	p.log = &redisLog{}
	p.cmd = exec.Command("redis-server", p.args...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	cmd, done := p.cmd, make(chan struct{})
	p.done = done
	p.mu.Unlock()
	if err := process(cmd); err != nil {
		close(done)
		return fmt.Errorf("redis-server: %w", err)
	}
	go func() {
		_ = cmd.Wait()
		close(done)
	}()

	rdb := redisClient(p.addr, 0)
	defer rdb.Close()
	ctx, cancel := context.WithTimeout(context.Background(), redisStart)
	defer cancel()
	pid := fmt.Sprintf("process_id:%d\r", cmd.Process.Pid)
	for {
		// Not only any Redis at this port, but this one, and done loading.
		info, err := rdb.Info(ctx, "server").Result()
		if err == nil && strings.Contains(info, pid) && rdb.Ping(ctx).Err() == nil {
			return nil
		}
		select {
		case <-done:
			return fmt.Errorf("redis-server has ended:\n%s", p.log)
		case <-ctx.Done():
			p.kill()
			return fmt.Errorf("redis-server does not answer:\n%s", p.log)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// startRedisCluster starts three masters that share the slots. Their folders hold
// the cluster's own notes and carry the process's id; those of processes that are
// gone are removed here, since nothing runs when a test process ends.
func startRedisCluster() ([]*RedisProcess, error) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, fmt.Errorf("tests need a real Redis: apt-get install redis-server (%w)", err)
	}
	const name = "staffeln-redis-"
	old, _ := filepath.Glob(filepath.Join(os.TempDir(), name+"*"))
	for _, dir := range old {
		digits, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), name), "-")
		if pid, err := strconv.Atoi(digits); err == nil && syscall.Kill(pid, 0) == syscall.ESRCH {
			os.RemoveAll(dir)
		}
	}

	free, err := ports(6)
	if err != nil {
		return nil, err
	}
	var nodes []*RedisProcess
	for i := range 3 {
		dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", name, os.Getpid()))
		if err != nil {
			return nil, err
		}
		n := newRedis(dir, free[i], "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(free[3+i]),
			"--cluster-node-timeout", "5000")
		if err := n.start(); err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}

	ctx, cancel := context.WithTimeout(context.Background(), redisStart)
	defer cancel()
	const slots = 16384
	for i, n := range nodes {
		rdb := redisClient(n.addr, 0)
		defer rdb.Close()
		if err := rdb.ClusterAddSlotsRange(ctx, i*slots/3, (i+1)*slots/3-1).Err(); err != nil {
			return nil, fmt.Errorf("cluster: %w", err)
		}
		if i == 0 {
			continue
		}
		// Epochs that differ from the start spare the nodes settling them.
		if err := rdb.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
			return nil, fmt.Errorf("cluster: %w", err)
		}
		if err := rdb.Do(ctx, "CLUSTER", "MEET", "127.0.0.1", free[0], free[3]).Err(); err != nil {
			return nil, fmt.Errorf("cluster: %w", err)
		}
	}
	for _, n := range nodes {
		rdb := redisClient(n.addr, 0)
		defer rdb.Close()
		for {
			info, err := rdb.ClusterInfo(ctx).Result()
			if err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3") {
				break
			}
			select {
			case <-ctx.Done():
				return nil, fmt.Errorf("the cluster does not come up: %s", info)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nodes, nil
}

// A redisLog keeps the end of what a server says.
type redisLog struct {
	mu sync.Mutex
	b  []byte
}

func (t *redisLog) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	t.b = t.b[max(0, len(t.b)-4096):]
	return len(b), nil
}

func (t *redisLog) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
