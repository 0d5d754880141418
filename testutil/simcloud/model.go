package simcloud

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"time"
)

// A domain, a project, a user: Keystone's rows.
type domain struct{ id, name string }

type project struct {
	id, name, description string
	domain                *domain
	enabled               bool

	servers order[*server]
	volumes order[*volume]
	backups order[*backup]

	quota     *Quota // nil is the default
	gigabytes int    // of volumes
	backupGB  int
}

type user struct {
	id, name, password, email string
	domain                    *domain
	enabled                   bool
	defaultProject            string
	grants                    []Grant
	groups                    []*group
}

// A token is good for one user and one scope, until it expires.
type token struct {
	id      string
	user    *user
	project *project
	domain  *domain
	system  bool
	methods []string
	audit   string
	issued  time.Time
	expires time.Time
}

type server struct {
	id, name, hostname, user string
	project                  *project
	status                   string // as the API tells it
	task                     string
	metadata                 map[string]string // never changed in place
	tags                     []string          // sorted, never changed in place
	attached                 []*attachment     // in order of attaching
	lockedBy                 string            // "", "owner", "admin"
	lockedReason             string
	image, flavor            string
	seq                      int // instance-%08x
	created, updated         time.Time
	launched, terminated     time.Time
	reservation              string
}

type attachment struct {
	id, bdm, device string
	server          *server
	volume          *volume
	deleteOnEnd     bool
	boot            bool
	at              time.Time
	done            bool // attached, not only reserved
}

type volume struct {
	id, name, description, user string
	project                     *project
	status, previous            string
	size                        int
	metadata                    map[string]string // never changed in place
	attached                    []*attachment
	bootable, multiattach       bool
	scheduled                   bool
	content                     string
	created, updated            time.Time
}

type backup struct {
	seq                     int
	id, name, description   string
	user                    string
	project                 *project
	volume                  string
	parent                  *backup
	status, failReason      string
	size                    int
	container               string
	metadata                map[string]string // never changed in place
	content                 string
	dependents              int
	created, updated, ended time.Time
	deleted                 time.Time
	host                    string // of the cinder-backup that has it
	serviceName             bool   // whether a driver has touched it
	restoring               *volume
	job                     int // what is under way is void once this has changed
	saved                   savedVolume
}

// savedVolume is what a backup keeps of its volume besides the data. Source:
// cinder/backup/driver.py, BackupMetadataAPI.
type savedVolume struct {
	name, description string
	metadata          map[string]string
}

type service struct {
	binary, host string
	up           bool
	disabled     bool
	down         time.Time // since when, while it is down
	updated      time.Time
	busy         int
	queue        []func(at time.Time)
}

type transfer struct {
	id, name, key string
	volume        *volume
	source        *project
	created       time.Time
}

// keyed is a row of a list: sorted by age in whole seconds, then by id.
type keyed interface {
	comparable
	key() (created int64, id string)
}

func (s *server) key() (int64, string) { return s.created.Unix(), s.id }
func (v *volume) key() (int64, string) { return v.created.Unix(), v.id }
func (b *backup) key() (int64, string) { return b.created.Unix(), b.id }

// order is a list of rows, oldest first. Lists are told newest first.
type order[T keyed] struct{ rows []T }

// find is where a row is or would be.
func (o *order[T]) find(row T) int {
	at, id := row.key()
	return sort.Search(len(o.rows), func(i int) bool {
		a, b := o.rows[i].key()
		return a > at || a == at && b >= id
	})
}

func (o *order[T]) add(row T) { o.rows = slices.Insert(o.rows, o.find(row), row) }

func (o *order[T]) remove(row T) {
	if i := o.find(row); i < len(o.rows) && o.rows[i] == row {
		o.rows = slices.Delete(o.rows, i, i+1)
	}
}

func (s *state) init(o Options) {
	*s = state{
		o: o, rng: rand.New(rand.NewPCG(o.Seed, 0x5eed)), format: o.Notifications,
		domains: map[string]*domain{}, projects: map[string]*project{}, tenants: map[string]*project{}, users: map[string]*user{},
		roles: map[string]string{}, tokens: map[string]*token{},
		servers: map[string]*server{}, volumes: map[string]*volume{}, backups: map[string]*backup{},
		byVolume: map[string]*order[*backup]{}, transfers: map[string]*transfer{},
		pools:    map[string]Pool{"backups": Usable, "archive": Usable},
		failNext: map[string][]string{}, fullNext: map[string]int{}, calls: map[string]int{},
	}
}

func (p *project) limits(o *Options) Quota {
	if p.quota != nil {
		return *p.quota
	}
	return *o.Quota
}

func (v *volume) truth() Volume {
	out := Volume{ID: v.id, Name: v.name, Project: v.project.id, Status: v.status, Size: v.size,
		Metadata: maps.Clone(v.metadata), Bootable: v.bootable, Created: v.created}
	for _, a := range v.attached {
		out.Servers = append(out.Servers, a.server.id)
	}
	return out
}

func (s *server) truth() Server {
	out := Server{ID: s.id, Name: s.name, Project: s.project.id, Status: s.status, Metadata: maps.Clone(s.metadata),
		Tags: slices.Clone(s.tags), Locked: s.lockedBy != ""}
	for _, a := range s.attached {
		out.Volumes = append(out.Volumes, a.volume.id)
	}
	return out
}

func (b *backup) truth() Backup {
	out := Backup{Seq: b.seq, ID: b.id, Name: b.name, Project: b.project.id, Volume: b.volume, Maker: b.user, Status: b.status,
		FailReason: b.failReason, Size: b.size, Container: b.container, Metadata: maps.Clone(b.metadata),
		Content: b.content, Created: b.created, Ended: b.ended, Deleted: b.deleted}
	if b.parent != nil {
		out.Parent = b.parent.id
	}
	return out
}

// addVolume puts a new row into its lists.
func (s *state) addVolume(v *volume) {
	s.volumes[v.id] = v
	s.allVolumes.add(v)
	v.project.volumes.add(v)
	v.project.gigabytes += v.size
}

func (s *state) dropVolume(v *volume) {
	delete(s.volumes, v.id)
	s.allVolumes.remove(v)
	v.project.volumes.remove(v)
	v.project.gigabytes -= v.size
}

func (s *state) addServer(v *server) {
	s.servers[v.id] = v
	s.allServers.add(v)
	v.project.servers.add(v)
}

func (s *state) dropServer(v *server) {
	delete(s.servers, v.id)
	s.allServers.remove(v)
	v.project.servers.remove(v)
	s.deletedSrvs = append(s.deletedSrvs, v)
}

func (s *state) addBackup(b *backup) {
	s.seq++
	b.seq = s.seq
	s.backups[b.id] = b
	s.allBackups.add(b)
	b.project.backups.add(b)
	b.project.backupGB += b.size
	of := s.byVolume[b.volume]
	if of == nil {
		of = &order[*backup]{}
		s.byVolume[b.volume] = of
	}
	of.add(b)
	s.ever = append(s.ever, b)
}

func (s *state) dropBackup(b *backup, at time.Time) {
	delete(s.backups, b.id)
	s.allBackups.remove(b)
	b.project.backups.remove(b)
	b.project.backupGB -= b.size
	if of := s.byVolume[b.volume]; of != nil {
		of.remove(b)
		if len(of.rows) == 0 {
			delete(s.byVolume, b.volume)
		}
	}
	// One that failed was never counted in, and is counted out all the same: what is
	// told of the children drifts (cinder/backup/manager.py, delete_backup).
	if b.parent != nil && b.parent.dependents > 0 {
		b.parent.dependents--
	}
	b.status, b.deleted = "deleted", at
}

// hostname is a server's name as Nova makes a host name of it.
func hostname(name string) string {
	return strings.ToLower(strings.Map(func(r rune) rune {
		switch {
		case r == ' ' || r == '_':
			return '-'
		case r == '-' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z':
			return r
		}
		return -1
	}, name))
}
