package services

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// ask is one command of an administrator's, on a connection of its own.
func (p *RedisProcess) ask(args ...any) error {
	rdb := redisClient(p.addr, 0)
	defer rdb.Close()
	return rdb.Do(context.Background(), args...).Err()
}

// must fails the test, and lets it go on: it may be called by any goroutine.
func (p *RedisProcess) must(what string, err error) {
	p.tb.Helper()
	if err != nil {
		p.tb.Errorf("redis: %s: %v", what, err)
	}
}

// Kill is kill -9: what was not saved is lost, which is everything but what
// [RedisProcess.Stop] and [RedisProcess.Save] wrote.
func (p *RedisProcess) Kill() { p.kill() }

// StartEmpty starts the stopped server without anything that it held before.
func (p *RedisProcess) StartEmpty() {
	p.tb.Helper()
	if err := os.Remove(p.dump()); err != nil && !os.IsNotExist(err) {
		p.tb.Fatal(err)
	}
	p.Start()
}

// A Snapshot is all that a Redis held at a moment.
type Snapshot []byte

// Save returns what the server holds, as a replica that hears nothing from then on.
func (p *RedisProcess) Save() (Snapshot, error) {
	if err := p.ask("SAVE"); err != nil {
		return nil, fmt.Errorf("redis: save: %w", err)
	}
	return os.ReadFile(p.dump())
}

// StartFrom starts the stopped server with what a snapshot holds, as after a
// failover to a replica that was behind. Keys whose time ended meanwhile are not
// there.
func (p *RedisProcess) StartFrom(s Snapshot) {
	p.tb.Helper()
	if err := os.WriteFile(p.dump(), s, 0o600); err != nil {
		p.tb.Fatal(err)
	}
	p.Start()
}

func (p *RedisProcess) dump() string { return filepath.Join(p.dir, "dump.rdb") }

// Sleep has the server answer nobody for so long (DEBUG SLEEP); it returns when
// that is over.
func (p *RedisProcess) Sleep(d time.Duration) {
	p.tb.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: p.addr, ReadTimeout: d + redisStart, MaxRetries: -1,
		MaintNotificationsConfig: quietRedis()})
	defer rdb.Close()
	p.must("sleep", rdb.Do(context.Background(), "DEBUG", "SLEEP", d.Seconds()).Err())
}

// KillClients closes the connections of all clients but replicas (CLIENT KILL TYPE
// normal), and says how many there were.
func (p *RedisProcess) KillClients() int {
	p.tb.Helper()
	rdb := redisClient(p.addr, 0)
	defer rdb.Close()
	n, err := rdb.Do(context.Background(), "CLIENT", "KILL", "TYPE", "normal").Int()
	p.must("kill clients", err)
	return n
}

// Limit bounds the server's memory, in bytes, with the policy noeviction: above it
// every write is refused ("OOM command not allowed"). 0 is no limit.
func (p *RedisProcess) Limit(bytes int) {
	p.tb.Helper()
	p.must("limit the memory", p.ask("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", bytes))
}

// FlushScripts has the server forget all scripts.
func (p *RedisProcess) FlushScripts() {
	p.tb.Helper()
	p.must("forget scripts", p.ask("SCRIPT", "FLUSH", "SYNC"))
}

// Replica starts another server, for this test alone, that copies this one until
// [RedisProcess.Detach], and waits until it has all there is now.
func (p *RedisProcess) Replica() *RedisProcess {
	p.tb.Helper()
	r := RedisServer(p.tb)
	p.must("allow quick replication", p.ask("CONFIG", "SET", "repl-diskless-sync-delay", "0"))
	host, port := "127.0.0.1", p.addr[len("127.0.0.1:"):]
	r.must("replicate", r.ask("REPLICAOF", host, port))
	rdb := redisClient(p.addr, 0)
	defer rdb.Close()
	deadline := time.Now().Add(redisStart)
	for {
		// WAIT says how many replicas have all that this connection wrote.
		n, err := rdb.Wait(context.Background(), 1, time.Second).Result()
		p.must("wait for the replica", err)
		info, err := rdb.Info(context.Background(), "replication").Result()
		p.must("replication", err)
		if n == 1 && strings.Contains(info, "state=online") {
			return r
		}
		if time.Now().After(deadline) {
			p.tb.Fatalf("redis: the replica does not follow:\n%s", info)
		}
	}
}

// Detach stops the replication: a replica hears nothing any more, and takes writes.
func (p *RedisProcess) Detach() {
	p.tb.Helper()
	p.must("detach", p.ask("REPLICAOF", "NO", "ONE"))
}
