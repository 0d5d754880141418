package simulate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"staffeln/functions/backup"
	"staffeln/testutil/simcloud"
	"staffeln/testutil/world"
)

// requestFaults are what can become of a request to OpenStack. "unseen" is two faults in a
// row: Cinder makes a backup and its answer is lost, and from then on no list of backups
// works, so that the run stays open without an answer.
var requestFaults = []string{"lost", "unheard", "later", "truncated", "nothing", "hang", "hang-done",
	"400", "401", "403", "404", "409", "413", "429", "500", "500-done", "503", "html", "short", "empty", "unseen"}

// otherFaults are all the others.
var otherFaults = []string{
	"notifications lost", "notifications doubled", "notifications delayed", "notifications reordered",
	"mail unreachable", "mail unanswered", "mail refused",
	"redis refused", "redis slow", "redis twice", "redis emptied", "redis older",
	"killed", "killed deaf", "stalled", "cinder-backup restarted", "cinder-backup down", "backup failed",
	"clock jumped", "tokens revoked", "garbage message", "project disabled", "project role", "attack",
	"forged", "forged metadata", "forged removed", "nonce copied", "open nonce copied", "adopted"}

// faults are those that are on.
type faults struct {
	request, letters, mail, cache fault
	// tenant says that a request is a tenant's.
	tenant atomic.Bool
	held   [][]byte // notifications, under mu
	away   func([]byte)
}

// A fault is done every nth time.
type fault struct {
	on    atomic.Pointer[Act]
	times atomic.Int64
}

// next says whether this is the time, and what of.
func (f *fault) next() (a Act, now bool) {
	on := f.on.Load()
	if on == nil {
		return a, false
	}
	return *on, f.times.Add(1)%int64(max(on.N, 1)) == 0
}

// during has a fault on for a while.
func (p *play) during(a Act, f *fault) {
	f.times.Store(0)
	f.on.Store(&a)
	// The fault "unseen" needs a request for a backup first: a slot has to begin.
	for end := p.Now().Add(2 * p.history.Period); a.What == "unseen" && !p.lostOne(a) && p.Now().Before(end); {
		p.step(p.history.Pace)
	}
	for left, step := a.For, max(a.For/4, 10*time.Second); left > 0; left -= step {
		p.step(min(left, step))
	}
	f.on.Store(nil)
}

// inject breaks requests of the service to OpenStack.
func (p *play) inject(_ *http.Request, op string) *simcloud.Fault {
	if p.tenant.Load() || strings.Contains(op, "/identity/") {
		return nil
	}
	list := strings.HasPrefix(op, "GET ") && strings.HasSuffix(op, "/detail")
	on := p.request.on.Load()
	if on != nil && on.What == "unseen" {
		return p.unseen(op, *on)
	}
	if on == nil || on.Which == 1 && strings.HasPrefix(op, "GET ") || on.Which == 2 && !list {
		return nil
	}
	if (on.What == "short" || on.What == "empty") && (!list || p.lost() && op == "GET /volume/backups/detail") {
		return nil
	}
	a, now := p.request.next()
	if !now {
		return nil
	}
	p.count("request " + a.What)
	switch a.What {
	case "lost":
		return simcloud.Lost()
	case "unheard":
		return simcloud.Unheard()
	case "later":
		return p.delay(20 * time.Second)
	case "truncated":
		return simcloud.Truncated()
	case "nothing":
		return simcloud.Emptied()
	case "hang", "hang-done":
		p.Jump(p.Now().Add(30 * time.Second)) // when the client gives up
		if a.What == "hang" {
			return simcloud.Unheard()
		}
		return simcloud.Lost()
	case "429":
		return simcloud.TooMany(10 * time.Second)
	case "500-done":
		return &simcloud.Fault{Status: 500}
	case "503":
		return simcloud.Page(503)
	case "html":
		return simcloud.Page(200)
	case "short":
		return simcloud.Short(1 + int(p.request.times.Load())%3)
	case "empty":
		return simcloud.Short(1 << 20)
	}
	said := map[string]struct {
		status int
		words  string
	}{
		"400": {400, "Invalid input received."}, "401": {401, "The request you have made requires authentication."},
		"403": {403, "Policy doesn't allow it to be performed."}, "404": {404, "The resource could not be found."},
		"409": {409, "Conflict: it cannot be done now."}, "413": {413, "Request Entity Too Large"},
		"500": {500, "Unexpected API Error."},
	}[a.What]
	if said.status == 0 {
		panic(fmt.Sprintf("there is no fault %q", a.What))
	}
	return simcloud.Refused(said.status, said.words)
}

// delay lets Cinder carry out a request later, and notes when.
func (p *play) delay(by time.Duration) *simcloud.Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delayed[p.Now().Add(by).UnixNano()] = by
	return simcloud.Later(by)
}

// unseen loses every nth answer to a request for a backup, and refuses lists of backups
// once an answer was lost.
func (p *play) unseen(op string, a Act) *simcloud.Fault {
	switch op {
	case "POST /volume/backups":
		if _, now := p.request.next(); now {
			p.count("request unseen")
			return simcloud.Lost()
		}
	case "GET /volume/backups/detail":
		if p.lostOne(a) {
			return simcloud.Refused(500, "Unexpected API Error.")
		}
	}
	return nil
}

// lostOne says whether the fault "unseen" has lost an answer yet.
func (p *play) lostOne(a Act) bool { return p.request.times.Load() >= int64(max(a.N, 1)) }

// post is the way of a notification to the broker.
func (p *play) post(publish func([]byte), body []byte) {
	a, now := p.letters.next()
	p.mu.Lock()
	p.away = publish
	p.mu.Unlock()
	if !now {
		publish(body)
		return
	}
	p.count("notifications " + a.What)
	switch a.What {
	case "doubled":
		publish(body)
		publish(body)
	case "delayed", "reordered":
		p.mu.Lock()
		p.held = append(p.held, body)
		p.mu.Unlock()
	}
}

// bring brings the notifications that are late, the last first.
func (p *play) bring() {
	p.mu.Lock()
	held, publish := p.held, p.away
	p.held = nil
	p.mu.Unlock()
	slices.Reverse(held)
	for _, body := range held {
		publish(body)
	}
	p.soon()
}

// trouble is what becomes of a letter.
func (p *play) trouble(l backup.Letter) world.Trouble {
	p.told(l)
	a, now := p.mail.next()
	if !now {
		return world.Trouble{}
	}
	p.count("mail " + a.What)
	switch a.What {
	case "unanswered":
		return world.Trouble{Arrives: true, Err: &backup.MailError{Doubt: true, Err: errors.New("EOF")}}
	case "refused":
		return world.Trouble{Err: &backup.MailError{Err: errors.New("451 try again later")}}
	}
	return world.Trouble{Err: &backup.MailError{Err: errors.New("connection refused")}}
}

// redisFaults break calls to Redis.
type redisFaults struct{ p *play }

func (r redisFaults) DialHook(next redis.DialHook) redis.DialHook { return next }

func (r redisFaults) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := r.p.break_(func() error { return next(ctx, cmd) })
		if err != nil && cmd.Err() == nil {
			cmd.SetErr(err)
		}
		return err
	}
}

func (r redisFaults) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := r.p.break_(func() error { return next(ctx, cmds) })
		if err != nil {
			for _, c := range cmds {
				if c.Err() == nil {
					c.SetErr(err)
				}
			}
		}
		return err
	}
}

// break_ does a call to Redis, or breaks it.
func (p *play) break_(call func() error) error {
	a, now := p.cache.next()
	if !now {
		return call()
	}
	p.count("redis " + a.What)
	p.shaken.Store(true)
	switch a.What {
	case "slow": // carried out, and not heard of
		_ = call()
		return errTimeout
	case "twice": // as go-redis does it where the first answer is lost
		_ = call()
		return call()
	}
	return errors.New("connection refused")
}

// redisAct breaks Redis for a while, or its contents.
func redisAct(p *play, a Act) {
	switch a.What {
	case "emptied":
		p.count("redis emptied")
		p.forget()
		p.mu.Lock()
		p.gone = true
		p.mu.Unlock()
		p.must(p.side.FlushDB(p.ctx).Err())
		p.soon()
	case "older": // as where a replica that lags takes over
		copied := p.snapshot()
		p.soon()
		p.pass(min(2*p.history.Pace, 30*time.Minute), 5*time.Minute)
		p.count("redis older")
		p.forget()
		p.restore(copied)
		p.soon()
	default:
		p.during(a, &p.cache)
	}
}

// kill lets the process die after n more calls, of which the last has no answer
// where the act says so, and another start a minute later.
func kill(p *play, a Act) {
	if a.What == "deaf" {
		p.count("killed deaf")
	} else {
		p.count("killed")
	}
	p.shaken.Store(true)
	p.Kill(a.N, a.What == "deaf")
	p.step(30 * time.Second)
	p.step(30 * time.Second)
	p.Restart()
	p.must(p.Reconnect(p.ctx))
	p.soon()
}

// stall stops the process in the middle of a function, while a second one goes on.
func stall(p *play, a Act) {
	if p.twin == nil {
		twin, err := p.Twin(p.ctx)
		p.must(err)
		twin.Home.Redis.AddHook(redisFaults{p})
		p.twin = twin
	}
	for _, e := range p.Ticks() {
		if e.Type != "tick."+a.What {
			continue
		}
		long := a.For
		if a.What == "dispatch" {
			// Between its last look and its request nothing can stop a process from making a
			// second backup, but that the other one waits for a minute before it tries.
			long = min(long, 20*time.Second)
		}
		stopped := p.Stall(p.ctx, e, a.N, p.twin, func() {
			p.unclaim()
			p.stalling = true
			for left := long; left > 0; left -= p.history.Pace {
				p.provoke()
				p.must(p.twin.Step(p.ctx, min(left, p.history.Pace)))
				p.tally.Ticks++
			}
		})
		p.stalling = false
		if stopped {
			p.count("stalled")
		}
	}
	p.soon()
}
