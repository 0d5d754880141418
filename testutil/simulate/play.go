package simulate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"staffeln/functions"
	"staffeln/runtime/ledger"
	"staffeln/testutil/simcloud"
	"staffeln/testutil/world"
)

// Options are those of [History.Play].
type Options struct {
	// Tell, if set, gets what happens, a line each: every act, and the service's own
	// log from Level on.
	Tell  io.Writer
	Level slog.Level
	// Redis is the address of a database of a Redis that is for this history alone: it
	// is emptied. The embedded one if "".
	Redis string
}

// A Tally counts what happened in a history, or in many.
type Tally struct {
	// Ticks are how often every function was looked for.
	Ticks, Backups, Removals, Digests int
	// Forged are the backups of tenants that carried our metadata.
	Forged int
	// Years is how much simulated time went by, in years of 365 days. It is no
	// time.Duration, which overflows after 292 years.
	Years float64
	// Faults are how often each kind was done to somebody.
	Faults map[string]int
}

// Add adds another's counts.
func (t *Tally) Add(o Tally) {
	t.Ticks, t.Backups, t.Removals, t.Digests = t.Ticks+o.Ticks, t.Backups+o.Backups, t.Removals+o.Removals,
		t.Digests+o.Digests
	t.Forged += o.Forged
	t.Years += o.Years
	if t.Faults == nil {
		t.Faults = map[string]int{}
	}
	for kind, n := range o.Faults {
		t.Faults[kind] += n
	}
}

// Broken is the error of a promise that was not kept.
type Broken struct {
	// Promise is the invariant: "I1" to "I9", or "panic".
	Promise string
	// Act is the place among the acts, from 0, after which it was seen; as many as
	// there are, for the end.
	Act int
	At  time.Time
	Why string
}

func (b *Broken) Error() string {
	return fmt.Sprintf("%s is broken after act %d, at %s: %s", b.Promise, b.Act+1, b.At.Format(time.RFC3339), b.Why)
}

const owner = "owner@example.org"

// facts is the digest's text: what is told, so that it can be counted.
const facts = `{{range .Digest.Runs}}run {{.VolumeID}}@{{.Slot.UTC.Format "20060102T150405Z"}} ` +
	`{{if .OK}}ok{{else}}failed{{end}}
{{end}}{{range .Digest.Removed}}removed {{.Backup}}
{{end}}{{range .Digest.Overdue}}overdue {{.Volume}}
{{end}}`

// templates is a directory with that template in it.
var templates = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "staffeln-simulate")
	if err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "digest.txt"), []byte(facts), 0o600)
})

// A play is a history under way.
type play struct {
	history History
	ctx     context.Context
	o       Options
	*world.World
	twin  *world.World
	redis *ledger.Embed
	// side is a way to Redis that no fault is on; ledger the service's, over that.
	side   redis.UniversalClient
	ledger *ledger.Ledger
	box    *world.Mailbox
	front  *httptest.Server
	// wrap stands between the service and the cloud; a test's own.
	wrap func(functions.Cloud) functions.Cloud
	act  int // under way

	mu     sync.Mutex
	broken *Broken
	tally  Tally
	faults // what is on

	truth
}

// Play plays a history. The error is a [*Broken], or one of the simulator itself.
func (h History) Play(ctx context.Context, o Options) (Tally, error) {
	p := newPlay(ctx, h, o)
	err := p.run()
	return p.tally, err
}

func (p *play) run() (err error) {
	defer func() {
		if said := recover(); said != nil {
			err = p.fail("panic", "%v\n%s", said, debug.Stack())
		}
	}()
	defer p.close()
	if err := p.open(); err != nil {
		return err
	}
	for p.act = range p.history.Acts {
		a := p.history.Acts[p.act]
		p.say("%s  %s", p.Now().Format("2006-01-02 15:04:05"), a)
		acts[a.Do](p, a)
		if p.check(); p.broken != nil {
			return p.broken
		}
	}
	p.act = len(p.history.Acts)
	p.end()
	p.tally.Years = p.Now().Sub(p.history.Start).Hours() / 24 / 365
	if p.broken != nil {
		return p.broken
	}
	return p.ctx.Err()
}

func newPlay(ctx context.Context, h History, o Options) *play {
	return &play{history: h, ctx: ctx, o: o, box: &world.Mailbox{}, tally: Tally{Faults: map[string]int{}},
		wrap: func(c functions.Cloud) functions.Cloud { return c }}
}

func (p *play) open() (err error) {
	dir, err := templates()
	if err != nil {
		return err
	}
	address := p.o.Redis
	if address == "" {
		if p.redis, err = ledger.Embedded(); err != nil {
			return err
		}
		address = p.redis.URL()
	}
	if p.side, err = ledger.Open(address, nil); err != nil {
		return err
	}
	if err := p.side.FlushDB(p.ctx).Err(); err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	if p.o.Tell != nil {
		log = slog.New(slog.NewTextHandler(p.o.Tell,
			&slog.HandlerOptions{Level: p.o.Level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey && p.World != nil {
					a.Value = slog.StringValue(p.Now().Format("2006-01-02T15:04:05"))
				}
				return a
			}}))
	}
	h := p.history
	p.World, err = world.New(p.ctx, world.Options{
		Start: h.Start, User: h.User, Log: log, Mail: p.box, Post: p.post,
		Wrap: func(c functions.Cloud) functions.Cloud { return witness{p.wrap(c), p} },
		Environ: append([]string{
			"STAFFELN_REDIS_URL=" + address, "STAFFELN_TEMPLATES=" + dir, "STAFFELN_REPORT_RECIPIENTS=" + owner,
		}, h.Settings...),
		Cloud: simcloud.Options{
			BackupTime: func(simcloud.Volume, bool) time.Duration { return h.Backup },
			DeleteTime: h.Deletion,
			Quota:      &simcloud.Quota{Volumes: -1, Gigabytes: -1, Backups: -1, BackupGigabytes: -1},
		},
	})
	if err != nil {
		return err
	}
	p.Home.Redis.AddHook(redisFaults{p})
	p.ledger = ledger.New(p.side, ledger.Options{Shards: p.Home.Settings.Shards})
	p.box.SetTrouble(p.trouble)
	p.Cloud.SetInject(p.inject)
	p.Cloud.SetQuota(p.Seeded.Projects["gamma"],
		simcloud.Quota{Volumes: -1, Gigabytes: -1, Backups: -1, BackupGigabytes: -1})
	p.front = httptest.NewServer(p.Home.Front)
	user := p.Seeded.Users[h.User]
	makers := ""
	if h.Makers == "shown" {
		makers = fmt.Sprintf("\"backup:backup_project_attribute\": \"rule:admin_api or user_id:%s\"\n", user)
	}
	rule := fmt.Sprintf(`"rule:admin_api or user_id:%s or (project_id:%%(project_id)s and `+
		`%s/v1/backup?backup_id=%%(id)s)"`, user, p.front.URL)
	if err := p.Cloud.SetPolicy(fmt.Sprintf("\"backup:delete\": %s\n\"backup:update\": %s\n%s", rule, rule,
		makers)); err != nil {
		return err
	}
	for len(p.servers()) > max(h.Servers, 1) {
		all := p.servers()
		s := all[len(all)/2]
		for _, v := range s.Volumes {
			p.Cloud.DeleteVolume(v)
		}
		p.Cloud.DeleteServer(s.ID)
	}
	p.truth.init(p)
	return p.Tick(p.ctx)
}

func (p *play) close() {
	if p.front != nil {
		p.front.Close()
	}
	if p.twin != nil {
		p.twin.Close()
	}
	if p.World != nil {
		p.World.Close()
	}
	if p.side != nil {
		_ = p.side.Close() // nothing is left to be lost
	}
	if p.redis != nil {
		p.redis.Close()
	}
}

// fail notes the first promise that was broken.
func (p *play) fail(promise, format string, args ...any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken == nil {
		b := &Broken{Promise: promise, Act: p.act, Why: fmt.Sprintf(format, args...)}
		if p.World != nil {
			b.At = p.Now()
		}
		p.broken = b
		p.say("%s", b)
	}
	return p.broken
}

func (p *play) must(err error) {
	if err != nil && p.ctx.Err() == nil {
		panic(fmt.Errorf("the simulator itself: %w", err))
	}
}

func (p *play) say(format string, args ...any) {
	if p.o.Tell != nil {
		fmt.Fprintf(p.o.Tell, format+"\n", args...)
	}
}

// count counts a fault that was done.
func (p *play) count(kind string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tally.Faults[kind]++
}

// step lets time pass and everything be looked for.
func (p *play) step(d time.Duration) {
	p.provoke()
	p.must(p.Step(p.ctx, d))
	p.tally.Ticks++
}

// pass lets time pass at a pace.
func (p *play) pass(d, pace time.Duration) {
	for end := p.Now().Add(d); p.Now().Before(end) && p.broken == nil && p.ctx.Err() == nil; {
		p.step(min(pace, end.Sub(p.Now())))
	}
}

// soon lets the first minutes after an act pass, and looks closely.
func (p *play) soon() {
	p.step(10 * time.Second)
	p.step(4 * time.Minute)
}

// The things there are, in an order that does not change, for acts to choose from.

func (p *play) servers() []simcloud.Server {
	all := p.Cloud.Servers()
	slices.SortFunc(all, func(a, b simcloud.Server) int { return compare(a.ID, b.ID) })
	return all
}

func (p *play) volumes() []simcloud.Volume {
	all := p.Cloud.Volumes()
	slices.SortFunc(all, func(a, b simcloud.Volume) int { return compare(a.ID, b.ID) })
	return all
}

// backups are those that are there, oldest first: those that the service made, or those
// of the tenants, forged or not.
func (p *play) backups(ours bool) []simcloud.Backup {
	return slices.DeleteFunc(p.Cloud.Backups(), func(b simcloud.Backup) bool {
		return b.Status == "deleted" || p.made(b) != ours
	})
}

// tenants are the projects of the tenants, and whose they are.
func (p *play) tenants() []string {
	return []string{p.Seeded.Projects["alpha"], p.Seeded.Projects["beta"], p.Seeded.Projects["gamma"]}
}

// one chooses, if there is anything.
func one[T any](all []T, which int) (t T, ok bool) {
	if len(all) == 0 {
		return t, false
	}
	return all[which%len(all)], true
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Kinds are the names of everything that a fault can be, in order.
func Kinds() []string {
	all := map[string]bool{}
	for _, k := range requestFaults {
		all["request "+k] = true
	}
	for _, k := range otherFaults {
		all[k] = true
	}
	return slices.Sorted(maps.Keys(all))
}

var errTimeout = errors.New("i/o timeout")
