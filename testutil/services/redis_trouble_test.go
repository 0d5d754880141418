package services_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"staffeln/testutil/services"
)

func TestARedisInTrouble(t *testing.T) {
	ctx := context.Background()
	s := services.RedisServer(t)
	rdb := s.Client()
	set := func(value string) {
		t.Helper()
		if err := rdb.Set(ctx, "key", value, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	has := func(what, want string) {
		t.Helper()
		got, err := rdb.Get(ctx, "key").Result()
		if got != want {
			t.Errorf("%s it holds %q, want %q (%v)", what, got, want, err)
		}
	}
	set("old")
	old, err := s.Save()
	if err != nil {
		t.Fatal(err)
	}
	replica := s.Replica()
	set("new")
	replica.Detach()
	set("newest")

	s.Kill()
	s.StartFrom(old)
	has("started from a snapshot", "old")
	s.Stop()
	s.StartEmpty()
	has("started empty", "")

	set("again")
	if n := s.KillClients(); n == 0 {
		t.Error("no client was there to be killed")
	}
	has("after its clients were killed", "again")

	s.Limit(1)
	if err := rdb.Set(ctx, "key", "more", 0).Err(); err == nil || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("a server without memory says %v", err)
	}
	s.Limit(0)
	set("more")

	sha, err := rdb.ScriptLoad(ctx, "return 1").Result()
	if err != nil {
		t.Fatal(err)
	}
	s.FlushScripts()
	if err := rdb.EvalSha(ctx, sha, nil).Err(); err == nil || !strings.Contains(err.Error(), "NOSCRIPT") {
		t.Errorf("a script that was forgotten: %v", err)
	}

	// While it sleeps nobody is answered.
	awake := make(chan struct{})
	go func() { s.Sleep(time.Second); close(awake) }()
	impatient := redis.NewClient(&redis.Options{Addr: s.Addr(), ReadTimeout: 100 * time.Millisecond, MaxRetries: -1})
	defer impatient.Close()
	for err = nil; err == nil; {
		err = impatient.Ping(ctx).Err()
		select {
		case <-awake:
			if err == nil {
				t.Fatal("it answered all the time")
			}
		default:
		}
	}
	<-awake
	has("awake again", "more")

	rdb = replica.Client()
	if value, err := rdb.Get(ctx, "key").Result(); err != nil || value == "newest" || value == "" {
		t.Errorf("a replica that was detached holds %q, %v", value, err)
	}
	set("its own")
}
