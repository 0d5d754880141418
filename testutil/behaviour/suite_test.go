package behaviour

import (
	"crypto/rand"
	"encoding/hex"
	"sync"
	"testing"
	"time"

	"staffeln/testutil/services"
)

// A cloud is where the suite is run. What the API cannot do is done behind its
// back, each in the cloud's own way.
type cloud struct {
	auth    string   // Keystone's address
	origins []string // the addresses that its catalog names, for the fronts
	broker  string   // where its notifications are
	// flavor and image are what servers are made of.
	flavor, image string
	// poll is how often to look at it; patience is the program's API_TIMEOUT.
	poll, patience time.Duration
	// slot is a short backup period; period one that is long enough for a failed first
	// attempt and a second one.
	slot, period time.Duration
	// beat is a backup period as short as there can be a backup in each, life a
	// retention time that some of them fit in.
	beat, life time.Duration
	// archive is a second backup container. fetch does what there is to be done, outside
	// the API, before one in there can be restored, until it is undone.
	archive string
	fetch   func(t *testing.T, volume, backup string) (undo func())
	// shared: there is more on it than this scenario's.
	shared bool

	// write changes what a volume holds, and sum is a checksum of all it holds.
	write func(t *testing.T, volume, seed string)
	sum   func(t *testing.T, volume string) string
	// spoil makes every backup of a volume fail, without a notification; mend ends it.
	// reason is part of what Cinder then says.
	spoil, mend func(t *testing.T, volume string)
	reason      string
	// policy puts a file in place as Cinder's policy, until restore is called or the
	// test is over.
	policy func(t *testing.T, file string) (restore func())
	// bindings are those in the broker, a line "EXCHANGE QUEUE" each.
	bindings func(t *testing.T) string
	// restartBroker stops the broker, does what is to be done without it, and starts
	// it again.
	restartBroker func(t *testing.T, without func())
}

// rights are what the program may do in the cloud.
type rights struct {
	name string
	env  map[string]string
}

// The service users, as in testutil/devcloud and in the simulated cloud.
var (
	adminRights = rights{"the role admin", map[string]string{
		"OS_USERNAME": "backup-svc", "OS_PROJECT_NAME": "service", "OS_PROJECT_DOMAIN_NAME": "Default"}}
	leastRights = rights{"the least rights", map[string]string{
		"OS_USERNAME": "backup-min", "OS_SYSTEM_SCOPE": "all"}}
)

// A scene is one scenario being played.
type scene struct {
	t        *testing.T
	cloud    *cloud
	rights   rights
	id       string // unique: part of the names of all that is made
	admin    *session
	front    *front
	redis    *services.RedisProcess
	projects int
	// quiet: nothing else runs on the machine meanwhile, so that it can be told
	// whether a promise of seconds is kept.
	quiet bool
}

// ledger is the setting for a Redis of the scene's own, started when first asked
// for.
func (s *scene) ledger() string {
	if s.redis == nil {
		s.redis = services.RedisServer(s.t)
	}
	return s.redis.URL()
}

// A scenario is one promise.
type scenario struct {
	name string
	// alone: nothing else may run on the cloud meanwhile.
	alone bool
	play  func(s *scene)
}

// newScene opens a scene on a cloud.
func newScene(t *testing.T, c *cloud, r rights) *scene {
	s := &scene{t: t, cloud: c, rights: r, id: "behaviour-" + randomID(),
		admin: &session{auth: c.auth, user: "admin", password: password, project: "admin"}}
	s.front = s.openFront()
	return s
}

// randomID is part of names that nobody else has.
func randomID() string {
	b := make([]byte, 3)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

// run plays all scenarios, several at a time where they do not disturb one
// another: most of the time they wait for the cloud. atOnce bounds how many; 0 is
// for clouds that each scenario has one of its own of: then none disturbs another.
func run(t *testing.T, r rights, atOnce int, open func(t *testing.T) *cloud) {
	if _, err := program(); err != nil {
		t.Fatal(err)
	}
	var first, rest []scenario
	for _, sc := range scenarios {
		if sc.alone && atOnce > 0 {
			first = append(first, sc)
		} else {
			rest = append(rest, sc)
		}
	}
	one := func(sc scenario, quiet bool) {
		t.Run(sc.name, func(t *testing.T) {
			s := newScene(t, open(t), r)
			s.quiet = quiet
			start := time.Now()
			sc.play(s)
			t.Logf("played in %.0f s", time.Since(start).Seconds())
		})
	}
	for _, sc := range first {
		one(sc, true)
	}
	if atOnce == 0 {
		atOnce = len(rest)
	}
	slots := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for _, sc := range rest {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			one(sc, false)
		})
	}
	all.Wait()
}
