package services

import (
	"testing"

	"github.com/redis/go-redis/v9"
)

// ClientOf is a client of the Redis at a URL, with the password in it, closed with the
// test.
func ClientOf(tb testing.TB, address string) *redis.Client {
	tb.Helper()
	o, err := redis.ParseURL(address)
	if err != nil {
		tb.Fatal("not the URL of a Redis") // which has a password
	}
	o.MaintNotificationsConfig = quietRedis()
	rdb := redis.NewClient(o)
	tb.Cleanup(func() { rdb.Close() })
	return rdb
}
