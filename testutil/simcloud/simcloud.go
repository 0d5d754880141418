// Package simcloud is a small OpenStack in memory: a Keystone, a Nova and a
// Cinder with its backup service, spoken to over HTTP as the real ones are.
//
// It refuses what they refuse, with the same statuses, JSON and messages as
// OpenStack Zed; package contract proves that, by running the same steps against
// both. Time in it is whatever [Options.Now] says, so that a year passes in a
// second. It sends the notifications the real ones send, and can be told to fail
// in the ways the real ones fail.
//
// It holds no more of OpenStack than a backup service can notice: no images, no
// networks, no snapshots.
package simcloud

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Options say how a [Cloud] behaves. The zero value is a cloud in real time that
// makes a backup in no time and tells nobody.
type Options struct {
	// Addr is what [Start] listens on, "127.0.0.1:0" if empty. Only loopback
	// addresses are accepted.
	Addr string
	// Base is the address under which the cloud describes itself in its catalog
	// and links, without a slash at the end. [Start] sets it; a cloud from [New] has
	// "http://cloud.invalid" if it is empty.
	Base string
	// Now decides every time the cloud tells, and when things end; nil is time.Now.
	// It must be safe for concurrent use and must not call the cloud.
	Now func() time.Time
	// Seed makes ids, tokens and passwords repeatable.
	Seed uint64

	// BackupTime is how long a backup of v takes; nil is no time at all: it is
	// available to the request after the one that made it. It must not call the
	// cloud.
	BackupTime func(v Volume, incremental bool) time.Duration
	// RestoreTime is how long a restore takes; nil is no time.
	RestoreTime func(b Backup) time.Duration
	// DeleteTime is how long the deletion of a backup takes.
	DeleteTime time.Duration
	// SettleTime is how long everything else takes that is not done at once: a
	// volume being made, deleted or extended, a server being made.
	SettleTime time.Duration
	// Workers is how many backups and restores one cinder-backup service does at a
	// time (backup_max_operations); 0 is Cinder's 15, -1 any number. BackupTime starts
	// when it is a backup's turn.
	Workers int
	// Chunked makes backups as Cinder's Swift, NFS and S3 drivers do instead of as
	// Ceph's: an incremental of a volume that has grown ends in error.
	Chunked bool
	// DownTime is how long a cinder-backup service that went down is still believed
	// to be up (Cinder's service_down_time); 0 is noticed at once.
	DownTime time.Duration

	// PageLimit is the most items a list of Nova's or Cinder's holds
	// (osapi_max_limit, max_limit); 0 is 1000.
	PageLimit int
	// TokenLife is how long a token is good for; 0 is 4 hours.
	TokenLife time.Duration
	// PolicyContentType is how Cinder's http: policy checks are sent
	// (remote_content_type): "application/json", or, if empty, form-encoded.
	PolicyContentType string
	// Quota is what a project without a quota of its own has; nil is Cinder's own
	// defaults: 10 volumes, 1000 GB, 10 backups, 1000 GB of backups.
	Quota *Quota

	// Notify gets every notification: the exchange and routing key it is published
	// with, and its body, oslo's envelope. Calls come one at a time and in order,
	// never while the cloud is locked: it may call the cloud.
	Notify func(exchange, routingKey string, body []byte)
	// Notifications choose the formats; the zero value is all of them.
	Notifications Format
	// Inject, if it returns a fault for a request, breaks it. op is the request's
	// normalised route, as in [Cloud.Calls]. It may be called by several requests at
	// once, and may call the cloud.
	Inject func(r *http.Request, op string) *Fault
}

// Format is which notifications are sent.
type Format int

// The formats. Nova has two, Cinder only the legacy one.
const (
	Both      Format = iota // legacy and versioned
	Legacy                  // Nova's default: notification_format=unversioned
	Versioned               // Nova's versioned ones, and Cinder's
	Silent                  // none at all, of either service
)

// A Quota is what a project may have. -1 is no limit.
type Quota struct {
	Volumes, Gigabytes, Backups, BackupGigabytes int
}

// DefaultQuota is Cinder's.
var DefaultQuota = Quota{Volumes: 10, Gigabytes: 1000, Backups: 10, BackupGigabytes: 1000}

// A Volume is the truth about a volume.
type Volume struct {
	ID, Name, Project string
	// Status is Cinder's: available, in-use, backing-up...
	Status string
	// Size is in GiB.
	Size     int
	Metadata map[string]string
	// Servers are the ids of those that have it attached.
	Servers  []string
	Bootable bool
	Created  time.Time
}

// A Server is the truth about a server.
type Server struct {
	ID, Name, Project string
	// Status is Nova's: ACTIVE, SHUTOFF, SHELVED_OFFLOADED, ERROR...
	Status   string
	Metadata map[string]string
	Tags     []string
	Volumes  []string
	Locked   bool
}

// A Backup is the truth about a backup, deleted ones included.
type Backup struct {
	// Seq is its place in the order of creation, from 1.
	Seq               int
	ID, Name, Project string
	Volume            string
	// Maker is the id of the user who made it, whomever the API shows it to.
	Maker string
	// Parent is the id of the backup it builds on, "" for a full one. The API never
	// tells it.
	Parent string
	// Status is Cinder's, or "deleted".
	Status     string
	FailReason string
	// Size is that of the volume, in GiB.
	Size      int
	Container string
	Metadata  map[string]string
	// Content is what the volume held.
	Content string
	// Created is when Cinder took the request; Ended when it became available or
	// error, zero before; Deleted when it was gone, zero before.
	Created, Ended, Deleted time.Time
}

// A Cloud is a simulated OpenStack. All its methods are safe for concurrent use.
type Cloud struct {
	o      Options
	server *http.Server
	closed chan struct{}

	inject   func(r *http.Request, op string) *Fault
	injectMu sync.RWMutex

	mu    sync.Mutex // guards everything below
	state state

	outMu   sync.Mutex
	out     []message // notifications to be sent, oldest first
	sending bool
}

// New returns a cloud that is not listening: it is an [http.Handler], and
// [Cloud.Transport] reaches it without a network.
func New(o Options) *Cloud {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Base == "" {
		o.Base = "http://cloud.invalid"
	}
	if o.PageLimit <= 0 {
		o.PageLimit = 1000
	}
	if o.TokenLife <= 0 {
		o.TokenLife = 4 * time.Hour
	}
	if o.Workers == 0 {
		o.Workers = 15
	}
	if o.Quota == nil {
		q := DefaultQuota
		o.Quota = &q
	}
	c := &Cloud{o: o, inject: o.Inject, closed: make(chan struct{})}
	c.state.init(o)
	c.bootstrap()
	return c
}

// Start returns a cloud that listens on a port of 127.0.0.1. [Cloud.AuthURL] says
// where.
func Start(o Options) (*Cloud, error) {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	host, _, err := net.SplitHostPort(o.Addr)
	if err != nil {
		return nil, fmt.Errorf("address of the simulated cloud: %w", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("address of the simulated cloud: %q is not of the loopback interface", host)
	}
	l, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("simulated cloud: %w", err)
	}
	o.Base = "http://" + l.Addr().String()
	c := New(o)
	c.server = &http.Server{Handler: c, ReadHeaderTimeout: 10 * time.Second}
	go c.server.Serve(l) //nolint:errcheck // always ErrServerClosed
	return c, nil
}

// Close stops listening and lets go of requests that hang.
func (c *Cloud) Close() {
	select {
	case <-c.closed:
		return
	default:
		close(c.closed)
	}
	if c.server != nil {
		c.server.Close() //nolint:errcheck // nothing is left to do about it
	}
}

// AuthURL is the address of Keystone: BASE/identity/v3.
func (c *Cloud) AuthURL() string { return c.o.Base + identityPath }

// Advance carries out everything that is over by now, as requests do, and sends
// the notifications. It returns the moment of the next thing to happen, zero if
// nothing is under way.
func (c *Cloud) Advance() time.Time {
	c.mu.Lock()
	c.state.settle(c.now())
	next := time.Time{}
	if len(c.state.due) > 0 {
		next = c.state.due[0].at
	}
	c.mu.Unlock()
	c.send()
	return next
}

func (c *Cloud) now() time.Time { return c.o.Now().UTC() }

// do runs f on the settled state and sends what it caused.
func (c *Cloud) do(f func(s *state, now time.Time)) {
	c.mu.Lock()
	now := c.now()
	c.state.settle(now)
	f(&c.state, now)
	c.state.settle(now) // what takes no time
	c.mu.Unlock()
	c.send()
}

// state is the whole cloud. Whoever holds it holds the cloud's lock.
type state struct {
	o      Options
	rng    *rand.Rand
	ids    uint32
	seq    int // of backups
	seq2   int // of servers
	due    events
	dueSeq int

	domains      map[string]*domain
	projects     map[string]*project // those Keystone has
	tenants      map[string]*project // those there ever were: Nova and Cinder forget none
	users        map[string]*user
	groups       groups
	roles        map[string]string // name to id
	tokens       map[string]*token
	projectOrder []*project
	userOrder    []*user

	servers     map[string]*server
	deletedSrvs []*server // newest last
	allServers  order[*server]
	volumes     map[string]*volume
	allVolumes  order[*volume]
	backups     map[string]*backup // not the deleted ones
	allBackups  order[*backup]
	byVolume    map[string]*order[*backup] // backups of a volume, of any project
	ever        []*backup                  // in order of creation, the deleted ones too
	transfers   map[string]*transfer
	copied      map[string]bool  // backups whose image lies in the default pool as well
	policy      map[string]check // rules of Cinder's policy file; nil is its defaults

	services   []*service
	pools      map[string]Pool // by container
	failNext   map[string][]string
	fullNext   map[string]int
	failBackup func(volume string) string
	format     Format
	sendFn     func(message)

	calls map[string]int
	log   []string
}

// An event is something that will be over at a moment.
type event struct {
	at  time.Time
	seq int // first come, first served
	do  func(at time.Time)
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	if !e[i].at.Equal(e[j].at) {
		return e[i].at.Before(e[j].at)
	}
	return e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	old[len(old)-1] = event{}
	*e = old[:len(old)-1]
	return last
}

// at has f done at a moment.
func (s *state) at(at time.Time, f func(at time.Time)) {
	s.dueSeq++
	heap.Push(&s.due, event{at, s.dueSeq, f})
}

// settle does what is due.
func (s *state) settle(now time.Time) {
	for len(s.due) > 0 && !s.due[0].at.After(now) {
		e := heap.Pop(&s.due).(event)
		e.do(e.at)
	}
}

// uuid makes an id that is greater than all before, so that things made in the
// same second sort by age.
func (s *state) uuid() string {
	s.ids++
	a, b := s.rng.Uint64(), s.rng.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", s.ids, a&0xffff, a>>16&0xfff, 0x8000|a>>32&0x3fff, b&0xffffffffffff)
}

// hex makes an id as Keystone's are.
func (s *state) hex() string { return strings.ReplaceAll(s.uuid(), "-", "") }
