package ledger

import (
	"context"
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"staffeln/testutil/services"
)

func TestOpenReadsTheAddress(t *testing.T) {
	type seen struct {
		Addrs          []string
		Name, Password string
		DB, Pool       int
		TLS            bool
	}
	tests := []struct {
		name, url string
		want      seen
	}{
		{"a host alone", "redis://h", seen{Addrs: []string{"h:6379"}}},
		{"port and database", "redis://h:6380/2", seen{Addrs: []string{"h:6380"}, DB: 2}},
		{"a password without a user", "redis://:p@h", seen{Addrs: []string{"h:6379"}, Password: "p"}},
		{"user and password, with special characters", "redis://u:p%2F%40%3A@h/1", seen{Addrs: []string{"h:6379"}, Name: "u", Password: "p/@:", DB: 1}},
		{"an @ in a password, as it is", "redis://u:p@q@h", seen{Addrs: []string{"h:6379"}, Name: "u", Password: "p@q"}},
		{"an IPv6 address", "redis://[::1]:6380", seen{Addrs: []string{"[::1]:6380"}}},
		{"an option of the client", "redis://h?pool_size=7", seen{Addrs: []string{"h:6379"}, Pool: 7}},
		{"TLS", "rediss://h", seen{Addrs: []string{"h:6379"}, TLS: true}},
		{"a cluster", "redis+cluster://u:p@h1,h2:6380,h3?pool_size=7", seen{Addrs: []string{"h1:6379", "h2:6380", "h3:6379"}, Name: "u", Password: "p", Pool: 7}},
		{"a cluster over TLS", "rediss+cluster://h1", seen{Addrs: []string{"h1:6379"}, TLS: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rdb, err := Open(tt.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer rdb.Close()
			var got seen
			switch c := rdb.(type) {
			case *redis.ClusterClient:
				o := c.Options()
				got = seen{o.Addrs, o.Username, o.Password, 0, o.PoolSize, o.TLSConfig != nil}
			case *redis.Client:
				o := c.Options()
				got = seen{[]string{o.Addr}, o.Username, o.Password, o.DB, o.PoolSize, o.TLSConfig != nil}
			}
			if tt.want.Pool == 0 {
				got.Pool = 0
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestOpenReadsTheAddressOfSentinels(t *testing.T) {
	a, err := splitURL("rediss+sentinel://mymaster:p%40@s1,s2:26380/3?username=u&sentinel_password=sp")
	if err != nil {
		t.Fatal(err)
	}
	o, err := redis.ParseFailoverURL(a.plain())
	if err != nil {
		t.Fatal(err)
	}
	got := []any{o.MasterName, o.Username, o.Password, o.SentinelUsername, o.SentinelPassword, o.SentinelAddrs, o.DB, o.TLSConfig != nil}
	want := []any{"mymaster", "u", "p@", "", "sp", []string{"s1:26379", "s2:26380"}, 3, true}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestOpenSaysWhatIsWrongWithAnAddress(t *testing.T) {
	tests := []struct{ name, url, says string }{
		{"nothing", "", "want redis://"},
		{"no scheme", "host:6379", "want redis://"},
		{"another scheme", "http://secret@host", "want redis://"},
		{"another kind", "redis+magic://host", "want redis://"},
		{"no host", "redis://", "no host"},
		{"an empty host in a list", "redis+cluster://h1,,h2", "no host"},
		{"a port that is none", "redis://host:secret", "not host or host:port"},
		{"a / inside a password", "redis://u:secret/x@host", "%2F"},
		{"a # inside a password", "redis://u:secret#x", "%XX"},
		{"a ? inside a password", "redis://u:12?secret@host", "%3F"},
		{"a ? and a = inside a password", "redis://u:12?secret=@host", "%3F"},
		{"a % inside a password", "redis://u:secret%zz@host", "%XX"},
		{"a database that is none", "redis://host/secret", "not a number"},
		{"a database of a cluster", "redis+cluster://host/1", "no databases"},
		{"several hosts of one Redis", "redis://h1,h2", "redis+cluster"},
		{"sentinels without a master", "redis+sentinel://h1,h2", "name the master"},
		{"an option that is not known", "redis://u:secret@host?magic=1", "magic"},
		{"an option with a bad value", "redis://u:secret@host?pool_size=secret", "pool_size"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Open(tt.url, nil)
			if err == nil {
				t.Fatal("taken")
			}
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("says %q, want something of %q", err, tt.says)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("tells the secret: %q", err)
			}
		})
	}
}

// No address, however broken, makes Open panic or tell what stands where a
// password does, before an @.
func TestOpenNeverTellsASecret(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		junk := rapid.StringOfN(rapid.RuneFrom([]rune("@:/?#%[],&=ab1 ")), 0, 12, -1)
		url := rapid.SampledFrom([]string{"redis://", "rediss://", "redis+cluster://", "redis+sentinel://m:", "redis"}).Draw(t, "scheme") +
			junk.Draw(t, "before") + "hunter2" + junk.Draw(t, "after") + "@host" + junk.Draw(t, "end")
		rdb, err := Open(url, nil)
		if err == nil {
			rdb.Close()
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Fatalf("%q: %v", url, err)
		}
	})
}

func TestOpenUsesTheTLSItIsGiven(t *testing.T) {
	given := &tls.Config{ServerName: "redis.example", MinVersion: tls.VersionTLS13}
	rdb, err := Open("rediss://h", given)
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	c := rdb.(*redis.Client).Options().TLSConfig
	if c.ServerName != "redis.example" || c.MinVersion != tls.VersionTLS13 {
		t.Errorf("server name %q, version %x", c.ServerName, c.MinVersion)
	}
	plain, err := Open("redis://h", given)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if plain.(*redis.Client).Options().TLSConfig != nil {
		t.Error("redis:// uses TLS")
	}
}

func TestTheLedgerWorksBehindASentinel(t *testing.T) {
	addr, master := services.RedisSentinel(t)
	rdb, err := Open("redis+sentinel://"+master+"@"+addr+"/0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	w := newWorld(t, rdb)
	w.check(w.l.Check(w.ctx))
	w.enroll(0, "s1 v1")
	w.must(w.begin("v1@0#1/b1"))
	w.diff("ledger", w.see(), "v1 s1; open v1@0#1/b1; record b1 of v1 creating")
}

func TestCheckNamesAllThatIsWrong(t *testing.T) {
	ctx := t.Context()
	s := services.RedisServer(t)
	rdb := s.Client()
	l := New(rdb, Options{})
	if err := l.Check(ctx); err != nil {
		t.Fatalf("a good one: %v", err)
	}
	if err := rdb.ConfigSet(ctx, "maxmemory-policy", "allkeys-lru").Err(); err != nil {
		t.Fatal(err)
	}
	all := New(rdb, Options{Shards: 8}).Check(ctx)
	for _, want := range []string{"allkeys-lru", "noeviction", "shards=16", "shards=8"} {
		if all == nil || !strings.Contains(all.Error(), want) {
			t.Errorf("%v: nothing of %s", all, want)
		}
	}

	t.Run("a server that refuses CONFIG is asked otherwise", func(t *testing.T) {
		if err := rdb.Do(ctx, "ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all", "-config").Err(); err != nil {
			t.Fatal(err)
		}
		app := redis.NewClient(&redis.Options{Addr: s.Addr(), Username: "app", Password: "pw"})
		defer app.Close()
		if err := New(app, Options{}).Check(ctx); err == nil || !strings.Contains(err.Error(), "allkeys-lru") {
			t.Errorf("%v: nothing of the policy", err)
		}
	})
	t.Run("a server that is not there", func(t *testing.T) {
		s.Stop()
		if err := l.Check(ctx); err == nil || !strings.Contains(err.Error(), "does not answer") {
			t.Error(err)
		}
	})
}

func TestVersionsAreCompared(t *testing.T) {
	for version, want := range map[string]bool{
		"6.2.0": true, "6.2": true, "7.0.15": true, "10.0.0": true, "6.0.16": false, "5.9.9": false, "": false, "x.y": false, "7": false,
	} {
		if got := atLeast(version, 6, 2); got != want {
			t.Errorf("%q is 6.2 or later: %v", version, got)
		}
	}
}

func TestTheEmbeddedOne(t *testing.T) {
	e, err := Embedded()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if !strings.HasPrefix(e.Addr(), "127.0.0.1:") {
		t.Errorf("listens on %s", e.Addr())
	}
	rdb, err := Open(e.URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	if err := rdb.Set(t.Context(), "key", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	other := e.Client()
	defer other.Close()
	if v, err := other.Get(t.Context(), "key").Result(); v != "value" || err != nil {
		t.Errorf("two clients see two of them: %q, %v", v, err)
	}
}

func TestTheLimiterPacesAllProcessesTogether(t *testing.T) {
	rdb := services.Redis(t)
	one, other := NewLimiter(rdb, 50), NewLimiter(rdb, 50)
	// 50 go at once; whoever comes then is told to wait, in either process. On a slow
	// machine places become free in between, but not for ever.
	told := false
	for deadline := time.Now().Add(30 * time.Second); !told && time.Now().Before(deadline); {
		if err := one.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		wait, local := other.ask(t.Context())
		told = wait > 0 && !local
	}
	if !told {
		t.Error("nobody is told to wait")
	}
	if err := one.Wait(t.Context()); err != nil {
		t.Errorf("after a while: %v", err)
	}
}

func TestTheLimiterGoesOnWithoutRedis(t *testing.T) {
	s := services.RedisServer(t)
	l := NewLimiter(s.Client(), 1000)
	if err := l.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	for range 5 {
		if err := l.Wait(t.Context()); err != nil {
			t.Fatalf("without Redis: %v", err)
		}
	}
	if l.down.IsZero() {
		t.Error("Redis is asked every time, though it does not answer")
	}
	// The pace is the half of it, one after the other.
	l.local()
	a := l.next
	l.local()
	if d := l.next.Sub(a); d < 2*time.Millisecond {
		t.Errorf("local pace %v, want 2ms", d)
	}
}

func TestTheLimiterEndsWithItsCaller(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, perSecond := range map[string]int{"with a limit": 1, "without one": 0} {
		l := NewLimiter(services.Redis(t), perSecond)
		if err := l.Wait(ctx); err == nil {
			t.Errorf("%s: no error", name)
		}
		if l.isDown() {
			t.Errorf("%s: Redis is held to be down", name)
		}
	}
	if err := NewLimiter(services.Redis(t), 0).Wait(t.Context()); err != nil {
		t.Error(err)
	}
}
