// Package model is the state of the simulated cloud: its projects, users, servers,
// volumes, backups, quotas and policy, the events that are still to come, and the
// notifications that they cause. All of it is behind the one lock of [State].
//
// The services, one package each, read and change it as they answer requests. It knows
// nothing of HTTP.
package model

import (
	"container/heap"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"staffeln/testutil/simcloud/oslopolicy"
)

// State is the whole cloud behind one lock, which [State.Do] holds while it runs a
// function. Its other methods, and its fields, are for such a function, unless they say
// that they take the lock themselves.
type State struct {
	mu  sync.Mutex
	out outbox

	Options   Options
	Rand      *rand.Rand
	ids       uint32
	seq       int // of backups
	ServerSeq int // of servers
	due       events
	dueSeq    int

	Domains      map[string]*Domain
	Projects     map[string]*Project // those Keystone has
	Tenants      map[string]*Project // those there ever were: Nova and Cinder forget none
	Users        map[string]*User
	Groups       Groups
	Roles        map[string]string // name to id
	Tokens       map[string]*Token
	ProjectOrder []*Project
	UserOrder    []*User

	Servers        map[string]*ServerRow
	DeletedServers []*ServerRow // newest last
	AllServers     Order[*ServerRow]
	Volumes        map[string]*VolumeRow
	AllVolumes     Order[*VolumeRow]
	Backups        map[string]*BackupRow // not the deleted ones
	AllBackups     Order[*BackupRow]
	ByVolume       map[string]*Order[*BackupRow] // backups of a volume, of any project
	Ever           []*BackupRow                  // in order of creation, the deleted ones too
	Transfers      map[string]*Transfer
	Copied         map[string]bool             // backups whose image lies in the default pool as well
	Policy         map[string]oslopolicy.Check // rules of Cinder's policy file; nil is its defaults

	Services   []*Service
	Pools      map[string]Pool // by container
	FailNext   map[string][]string
	FullNext   map[string]int
	FailBackup func(volume string) string
	Format     Format

	calls map[string]int
	log   []string
}

// New is a cloud with what every cloud has; see bootstrap. Options that are
// zero get their defaults.
func New(o Options) *State {
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
	s := &State{
		Options: o, Rand: rand.New(rand.NewPCG(o.Seed, 0x5eed)), Format: o.Notifications,
		Domains: map[string]*Domain{}, Projects: map[string]*Project{}, Tenants: map[string]*Project{},
		Users: map[string]*User{}, Roles: map[string]string{}, Tokens: map[string]*Token{},
		Servers: map[string]*ServerRow{}, Volumes: map[string]*VolumeRow{}, Backups: map[string]*BackupRow{},
		ByVolume: map[string]*Order[*BackupRow]{}, Transfers: map[string]*Transfer{},
		Pools:    map[string]Pool{"backups": Usable, "archive": Usable},
		FailNext: map[string][]string{}, FullNext: map[string]int{}, calls: map[string]int{},
	}
	s.bootstrap()
	return s
}

// bootstrap makes what every cloud has: the domain Default, the roles, the
// projects admin and service, the user admin and one cinder-backup service.
func (s *State) bootstrap() {
	s.Domains[DefaultDomain] = &Domain{DefaultDomain, "Default"}
	for _, role := range []string{"admin", "member", "reader", "service"} {
		s.Roles[role] = s.Hex()
	}
	now := s.now()
	for _, host := range []struct{ binary, host string }{
		{"cinder-backup", "sim"}, {"cinder-scheduler", "sim"}, {"cinder-volume", "sim@ceph"},
	} {
		s.Services = append(s.Services, &Service{Binary: host.binary, Host: host.host, Up: true, Updated: now})
	}
	admin := s.NewProject("admin", DefaultDomain)
	admin.Description = "Bootstrap project for initializing the cloud."
	s.NewProject("service", DefaultDomain)
	s.NewUser("admin", Password, []Grant{On(admin.ID, "admin"), System("admin")})
}

// Do takes the lock, carries out everything that is over by now, runs f, carries out
// what takes no time, and sends the notifications.
func (s *State) Do(f func(s *State, now time.Time)) {
	s.mu.Lock()
	now := s.now()
	s.settle(now)
	f(s, now)
	s.settle(now)
	s.mu.Unlock()
	s.out.send(s.Options.Notify)
}

// Advance takes the lock, carries out everything that is over by now, and sends the
// notifications. It returns the moment of the next thing to happen, zero if nothing is
// under way.
func (s *State) Advance() (next time.Time) {
	s.Do(func(s *State, _ time.Time) {
		if len(s.due) > 0 {
			next = s.due[0].at
		}
	})
	return next
}

// now is the cloud's time, in UTC.
func (s *State) now() time.Time { return s.Options.Now().UTC() }

// Count takes the lock and counts a request by its normalised route.
func (s *State) Count(op string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[op]++
}

// WriteLog appends a line to the log of what was asked to be changed.
func (s *State) WriteLog(line string) { s.log = append(s.log, line) }

// Record takes the lock and returns copies of the counts and of the log; with reset, it
// forgets both afterwards.
func (s *State) Record(reset bool) (calls map[string]int, log []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls, log = maps.Clone(s.calls), slices.Clone(s.log)
	if reset {
		clear(s.calls)
		s.log = nil
	}
	return calls, log
}

// SetPolicy takes the lock and replaces the rules of Cinder's policy file; nil is its
// defaults.
func (s *State) SetPolicy(rules map[string]oslopolicy.Check) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Policy = rules
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

func (e *events) Push(x any) { *e = append(*e, x.(event)) }

func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	old[len(old)-1] = event{}
	*e = old[:len(old)-1]
	return last
}

// At has f done at a moment.
func (s *State) At(at time.Time, f func(at time.Time)) {
	s.dueSeq++
	heap.Push(&s.due, event{at, s.dueSeq, f})
}

// settle does what is due.
func (s *State) settle(now time.Time) {
	for len(s.due) > 0 && !s.due[0].at.After(now) {
		e := heap.Pop(&s.due).(event)
		e.do(e.at)
	}
}

// UUID makes an id that is greater than all before, so that things made in the
// same second sort by age.
func (s *State) UUID() string {
	s.ids++
	a, b := s.Rand.Uint64(), s.Rand.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", s.ids, a&0xffff, a>>16&0xfff, 0x8000|a>>32&0x3fff, b&0xffffffffffff)
}

// Hex makes an id as Keystone's are.
func (s *State) Hex() string { return strings.ReplaceAll(s.UUID(), "-", "") }
