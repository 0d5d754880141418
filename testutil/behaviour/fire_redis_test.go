package behaviour

import (
	"context"
	"testing"
	"time"

	"staffeln/testutil/services"
)

// Redis fails in every way a Redis fails: nothing is started twice, nothing is
// forgotten, and it is told while it lasts.
func TestFireRedis(t *testing.T) {
	long(t)
	t.Parallel()
	alongside(t, map[string]func(*testing.T){
		"It is stopped and started again with what it held":                     redisStopped,
		"It is killed and started again with nothing, in the middle of backups": redisLost,
		"It answers nobody for a while, again and again":                        redisSleeps,
		"It closes all connections, again and again":                            redisCloses,
		"It is full and refuses every write":                                    redisFull,
		"It forgets all scripts, again and again":                               redisForgetsScripts,
		"It is an older copy of itself from one moment to the next":             redisOlder,
		"A replica that was behind takes its place":                             redisReplica,
	})
}

func redisStopped(t *testing.T) {
	b := ignite(t, nil)
	m := b.machines(4)
	run := b.burn(nil)
	b.optIn(m[:2]...)
	b.backedUp(m[0])
	b.redis.Stop()
	b.optIn(m[2]) // and nobody can note it
	b.until("it is told that Redis is down", run.says("redis", "down"))
	skipped := run.measure(`ticks_skipped_total{function="dispatch",why="unclaimed"}`)
	b.until("the metrics tell of ticks that are lost", func() string {
		if now := run.measure(`ticks_skipped_total{function="dispatch",why="unclaimed"}`); now <= skipped {
			return "they do not"
		}
		return ""
	})
	b.redis.Start()
	b.until("it is told that Redis is up", run.says("redis", "ok"))
	b.optIn(m[3])
	b.settled(m...)
	b.proven(m...)
	b.oneEach(m...)
}

func redisLost(t *testing.T) {
	b := ignite(t, nil)
	m := b.machines(5)
	b.burn(map[string]string{"STAFFELN_RECONCILE_PERIOD": "10s"})
	// One is complete, one under way, and Cinder is just being asked for one.
	b.optIn(m[0])
	b.settled(m[0])
	asked := make(chan struct{})
	b.front.once(func(r *request) bool { return r.create() && r.Volume == m[2].volume },
		act{After: func() { b.redis.Kill(); close(asked) }})
	b.optIn(m[1:3]...)
	b.awaits(asked, "Cinder is asked")
	b.optIn(m[3])
	b.redis.StartEmpty()
	b.settled(m[:4]...)
	b.redis.Kill()
	b.redis.StartEmpty()
	b.optIn(m[4])
	b.settled(m...)
	b.proven(m...)
	b.oneEach(m...)
}

func redisSleeps(t *testing.T) {
	b := ignite(t, nil)
	m := b.machines(6)
	run := b.burn(nil)
	// Longer than the program waits for an answer.
	for i, one := range m {
		b.optIn(one)
		if i%2 == 0 {
			b.redis.Sleep(4 * time.Second)
		}
	}
	b.until("it is told that Redis is up", run.says("redis", "ok"))
	b.settled(m...)
	b.proven(m...)
	b.oneEach(m...)
}

func redisCloses(t *testing.T) {
	b := ignite(t, nil)
	m := b.machines(8)
	run := b.burn(nil)
	stop, killed := b.again(50*time.Millisecond, func() int { return b.redis.KillClients() })
	for _, one := range m {
		b.optIn(one)
		b.backedUp(one)
	}
	stop()
	if killed() < 50 {
		t.Errorf("only %d connections were closed", killed())
	}
	b.until("it is told that Redis is up", run.says("redis", "ok"))
	b.settled(m...)
	b.proven(m...)
	b.oneEach(m...)
}

func redisFull(t *testing.T) {
	b := ignite(t, nil)
	m := b.machines(4)
	run := b.burn(nil)
	asked := make(chan struct{})
	b.front.once(func(r *request) bool { return r.create() && r.Volume == m[1].volume },
		act{After: func() { b.redis.Limit(1); close(asked) }})
	b.optIn(m[0])
	b.backedUp(m[0])
	b.optIn(m[1])
	b.awaits(asked, "Cinder is asked") // and its answer cannot be noted
	b.optIn(m[2])                      // nor this
	skipped := run.measure(`ticks_skipped_total{function="dispatch",why="unclaimed"}`)
	b.until("the metrics tell of ticks that are lost", func() string {
		if now := run.measure(`ticks_skipped_total{function="dispatch",why="unclaimed"}`); now <= skipped {
			return "they do not"
		}
		return ""
	})
	b.redis.Limit(0)
	b.optIn(m[3])
	b.settled(m...)
	b.proven(m...)
	b.oneEach(m...)
}

func redisForgetsScripts(t *testing.T) {
	b := ignite(t, nil)
	m := b.machines(8)
	b.burn(nil)
	stop, _ := b.again(20*time.Millisecond, func() int { b.redis.FlushScripts(); return 1 })
	for _, one := range m {
		b.optIn(one)
		b.backedUp(one)
	}
	stop()
	b.settled(m...)
	b.proven(m...)
	b.oneEach(m...)
}

// Everything that was noted since the copy is lost, and what was open then seems to
// be open still.
func redisOlder(t *testing.T) {
	b := ignite(t, nil)
	m := b.machines(5)
	b.burn(map[string]string{"STAFFELN_RECONCILE_PERIOD": "10s"})
	b.optIn(m[0])
	b.settled(m[0])
	// The copy is of the moment when one is under way, and Cinder is about to be asked
	// for another.
	var old services.Snapshot
	var err error
	saved := make(chan struct{})
	b.front.once(func(r *request) bool { return r.create() && r.Volume == m[2].volume },
		act{Before: func() { old, err = b.redis.Save(); close(saved) }})
	b.optIn(m[1:3]...)
	b.awaits(saved, "Cinder is about to be asked")
	if err != nil {
		t.Fatal(err)
	}
	b.optIn(m[3])
	b.settled(m[:4]...)
	for range 2 {
		b.redis.Kill()
		b.redis.StartFrom(old)
	}
	b.settled(m[:4]...)
	b.optIn(m[4])
	b.settled(m...)
	b.proven(m...)
	b.oneEach(m...)
}

// The same with a replica that heard nothing for a while, behind an address that is
// moved to it.
func redisReplica(t *testing.T) {
	b := ignite(t, nil)
	m := b.machines(4)
	b.ledger()
	door := openDoor(t, b.redis.Addr())
	b.burn(map[string]string{"STAFFELN_RECONCILE_PERIOD": "10s", "STAFFELN_REDIS_URL": "redis://" + door.addr})
	b.optIn(m[0])
	b.settled(m[0])
	replica := b.redis.Replica()
	asked, moved := make(chan struct{}), make(chan struct{})
	b.front.once(func(r *request) bool { return r.create() && r.Volume == m[2].volume },
		act{Before: replica.Detach, After: func() { close(asked); <-moved }})
	b.optIn(m[1:3]...)
	b.awaits(asked, "Cinder is asked")
	b.optIn(m[3])
	door.move(replica.Addr())
	b.redis.Kill()
	b.redis = replica
	close(moved)
	b.settled(m...)
	b.proven(m...)
	b.oneEach(m...)
}

// awaits waits for something that a hook does.
func (b *blaze) awaits(c <-chan struct{}, what string) {
	b.t.Helper()
	select {
	case <-c:
	case <-time.After(patient):
		b.t.Fatalf("not within %s: %s", patient, what)
	}
}

// again does something again and again until stop, which ends with the test at the
// latest; done adds up what it returned.
func (b *blaze) again(every time.Duration, do func() int) (stop func(), done func() int) {
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	sum := 0
	go func() {
		defer close(over)
		for ctx.Err() == nil {
			sum += do()
			select {
			case <-ctx.Done():
			case <-time.After(every):
			}
		}
	}()
	stop = func() { cancel(); <-over }
	b.t.Cleanup(stop)
	return stop, func() int { <-over; return sum }
}
