package ledger

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Check looks at start whether this Redis will do: it answers, is 6.2 or later,
// never evicts (maxmemory-policy noeviction), and holds no ledger laid out
// otherwise. All complaints are named at once. What a server does not let itself
// be asked (CONFIG is often refused, the embedded one has neither CONFIG nor a
// version) is no complaint.
func (l *Ledger) Check(ctx context.Context) error {
	if err := l.rdb.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("ledger: redis does not answer: %w", err)
	}
	var complaints []error
	if cluster, ok := l.rdb.(*redis.ClusterClient); ok {
		found := make(chan []error, 1)
		found <- nil
		err := cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			c := checkServer(ctx, node)
			for i := range c {
				c[i] = fmt.Errorf("node %s: %w", node.Options().Addr, c[i])
			}
			found <- append(<-found, c...)
			return nil
		})
		if complaints = <-found; err != nil {
			complaints = append(complaints, err)
		}
	} else {
		complaints = checkServer(ctx, l.rdb)
	}
	if err := l.checkLayout(ctx); err != nil {
		complaints = append(complaints, err)
	}
	if len(complaints) > 0 {
		return fmt.Errorf("ledger: redis will not do: %w", errors.Join(complaints...))
	}
	return nil
}

// checkLayout compares the number of shards with that of whoever was first. With
// another number most projects would be looked for in the wrong shard.
func (l *Ledger) checkLayout(ctx context.Context) error {
	want := fmt.Sprintf("shards=%d", l.Shards())
	if _, err := l.rdb.SetNX(ctx, l.keys.layout(), want, 0).Result(); err != nil {
		return fmt.Errorf("it takes no writes: %w", err)
	}
	has, err := l.rdb.Get(ctx, l.keys.layout()).Result()
	if err != nil {
		return fmt.Errorf("layout: %w", err)
	}
	if has != want {
		return fmt.Errorf("it holds a ledger with %s, and %s is configured: set it back, or empty this Redis (one reconcile rebuilds it)", has, want)
	}
	return nil
}

func checkServer(ctx context.Context, rdb redis.UniversalClient) (complaints []error) {
	info, err := ask(rdb.Info(ctx, "server").Result())
	if err != nil {
		return []error{err}
	}
	version := infoField(info, "redis_version")
	if version == "" {
		// It does not say; ZMSCORE came with 6.2.
		if err := rdb.Do(ctx, "ZMSCORE", "staffeln:none", "none").Err(); err != nil && !errors.Is(err, redis.Nil) {
			complaints = append(complaints, fmt.Errorf("it does not say its version, and lacks what came with 6.2: %w", err))
		}
	} else if !atLeast(version, 6, 2) {
		complaints = append(complaints, fmt.Errorf("version %s, and 6.2 or later is needed", version))
	}

	policy := ""
	config, err := rdb.ConfigGet(ctx, "maxmemory-policy").Result()
	if err == nil {
		policy = config["maxmemory-policy"]
	}
	if policy == "" {
		memory, err := ask(rdb.Info(ctx, "memory").Result())
		if err != nil {
			return append(complaints, err)
		}
		policy = infoField(memory, "maxmemory_policy")
	}
	if policy != "" && policy != "noeviction" {
		complaints = append(complaints, fmt.Errorf("maxmemory-policy is %s, and must be noeviction: a ledger that forgets at random is worse than none", policy))
	}
	return complaints
}

// ask turns a refusal into an empty answer; only a broken connection is an error.
func ask(answer string, err error) (string, error) {
	if refused, ok := errors.AsType[redis.Error](err); ok && refused != nil {
		return "", nil
	}
	return answer, err
}

// infoField reads one line of INFO.
func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func atLeast(version string, major, minor int) bool {
	f := strings.SplitN(version, ".", 3)
	if len(f) < 2 {
		return false
	}
	a, err := strconv.Atoi(f[0])
	b, err2 := strconv.Atoi(f[1])
	return err == nil && err2 == nil && (a > major || a == major && b >= minor)
}
