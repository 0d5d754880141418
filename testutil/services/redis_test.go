package services_test

import (
	"context"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"staffeln/testutil/services"
)

func TestEveryTestHasARedisOfItsOwn(t *testing.T) {
	ctx := context.Background()
	one, other := services.Redis(t), services.Redis(t)
	if err := one.Set(ctx, "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := other.DBSize(ctx).Result(); err != nil || n != 0 {
		t.Errorf("the other test sees %d keys, %v", n, err)
	}
	if one.Options().Addr != other.Options().Addr {
		t.Errorf("two servers, %s and %s, where one would do", one.Options().Addr, other.Options().Addr)
	}
	if !strings.HasPrefix(one.Options().Addr, "127.0.0.1:") {
		t.Errorf("it listens on %s, not on the loopback address", one.Options().Addr)
	}
}

func TestADatabaseIsEmptyAgainForTheNextTest(t *testing.T) {
	ctx := context.Background()
	t.Run("one test leaves something behind", func(t *testing.T) {
		if err := services.Redis(t).Set(ctx, "key", "value", 0).Err(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("the next one does not find it", func(t *testing.T) {
		if n, err := services.Redis(t).DBSize(ctx).Result(); err != nil || n != 0 {
			t.Errorf("it finds %d keys, %v", n, err)
		}
	})
}

func TestAServerStopsStartsAndIsEmptied(t *testing.T) {
	ctx := context.Background()
	s := services.RedisServer(t)
	rdb := s.Client()
	if err := rdb.Set(ctx, "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	addr := s.Addr()

	s.Stop()
	if err := rdb.Ping(ctx).Err(); err == nil {
		t.Error("a stopped server answers")
	}
	s.Start()
	if s.Addr() != addr {
		t.Errorf("it has moved from %s to %s", addr, s.Addr())
	}
	if v, err := rdb.Get(ctx, "key").Result(); err != nil || v != "value" {
		t.Errorf("after a stop in good order it holds %q, %v", v, err)
	}
	s.FlushAll()
	if n, err := rdb.DBSize(ctx).Result(); err != nil || n != 0 {
		t.Errorf("emptied, it holds %d keys, %v", n, err)
	}
}

func TestTheClusterIsARealOneOfThree(t *testing.T) {
	ctx := context.Background()
	for _, name := range []string{"one test", "the next test"} {
		t.Run(name, func(t *testing.T) {
			rdb := services.RedisCluster(t)
			nodes, err := rdb.ClusterNodes(ctx).Result()
			if err != nil || strings.Count(nodes, "master") != 3 {
				t.Fatalf("nodes: %s, %v", nodes, err)
			}
			if n, err := rdb.DBSize(ctx).Result(); err != nil || n != 0 {
				t.Errorf("it is not empty: %d keys, %v", n, err)
			}
			for _, key := range strings.Fields("a b c d e f g h i j k l") { // on all three
				if err := rdb.Set(ctx, key, 1, 0).Err(); err != nil {
					t.Error(err)
				}
			}
			if err := rdb.MGet(ctx, "a", "b").Err(); err == nil {
				t.Error("it allows what a cluster does not: keys of two slots at once")
			}
		})
	}
}

func TestASentinelKnowsItsMaster(t *testing.T) {
	addr, name := services.RedisSentinel(t)
	rdb := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: name, SentinelAddrs: []string{addr}})
	defer rdb.Close()
	if err := rdb.Set(context.Background(), "key", "value", 0).Err(); err != nil {
		t.Error(err)
	}
}
