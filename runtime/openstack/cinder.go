package openstack

import (
	"context"
	"errors"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/backups"

	"staffeln/functions/backup"
)

// What Cinder shows to some and not to others.
const (
	volumeProjectKey = "os-vol-tenant-attr:tenant_id"
	volumeHostKey    = "os-vol-host-attr:host"
	backupProjectKey = "os-backup-project-attr:project_id"
)

// maxNumber is the largest number in Cinder's database: sizes and quotas are its
// Integer.
const maxNumber = math.MaxInt32

// A cinderVolume is what is read of Cinder's volume. What must not be missing is
// nil where it is.
type cinderVolume struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"` // may be null
	Status      string            `json:"status"`
	Size        *int              `json:"size"`
	Metadata    map[string]string `json:"metadata"`
	Created     string            `json:"created_at"`
	Attachments []struct {
		Server string `json:"server_id"` // null where it is attached to a host
	} `json:"attachments"`
	Project string `json:"os-vol-tenant-attr:tenant_id"`
	Host    string `json:"os-vol-host-attr:host"`
}

// read makes a volume of it; project is whose token was used where Cinder does
// not show the owner.
func (w cinderVolume) read(project string) (string, backup.Volume, error) {
	v := backup.Volume{ID: w.ID, Name: w.Name, Project: or(w.Project, project), Status: w.Status, Metadata: w.Metadata}
	v.Backend, _, _ = strings.Cut(w.Host, "#")
	switch {
	case !validID(w.ID):
		return "", v, errors.New("a volume without a valid id")
	case !validID(v.Project):
		return "", v, errors.New("a volume without a valid " + volumeProjectKey)
	case w.Status == "":
		return "", v, errors.New("a volume without a status")
	case w.Size == nil || *w.Size < 0 || *w.Size > maxNumber:
		return "", v, errors.New("a volume without a size")
	case w.Metadata == nil:
		return "", v, errors.New("a volume without metadata")
	case w.Attachments == nil:
		return "", v, errors.New("a volume without attachments")
	}
	v.Size = *w.Size
	for _, a := range w.Attachments {
		if a.Server == "" || slices.Contains(v.Servers, a.Server) {
			continue
		}
		if !validID(a.Server) {
			return "", v, errors.New("a volume attached to a server that has no valid id")
		}
		v.Servers = append(v.Servers, a.Server)
	}
	var err error
	v.Created, err = readTime(w.Created)
	return v.ID, v, err
}

// A cinderBackup is what is read of Cinder's backup.
type cinderBackup struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Volume      string            `json:"volume_id"`
	Status      string            `json:"status"`
	FailReason  string            `json:"fail_reason"`
	Size        int               `json:"size"` // null while a record is imported
	Incremental bool              `json:"is_incremental"`
	Dependents  bool              `json:"has_dependent_backups"`
	Container   string            `json:"container"`
	Created     string            `json:"created_at"`
	Updated     string            `json:"updated_at"` // null before the first change
	Metadata    map[string]string `json:"metadata"`
	Project     string            `json:"os-backup-project-attr:project_id"`
	User        string            `json:"user_id"` // from 3.56, for those whom the policy lets
}

func (w cinderBackup) read(project string) (string, backup.CinderBackup, error) {
	b := backup.CinderBackup{ID: w.ID, Name: w.Name, Project: or(w.Project, project), Volume: w.Volume, Status: w.Status,
		FailReason: w.FailReason, Size: w.Size, Incremental: w.Incremental, Dependents: w.Dependents,
		Container: w.Container, Metadata: w.Metadata, Maker: w.User}
	switch {
	case !validID(w.ID):
		return "", b, errors.New("a backup without a valid id")
	case w.User != "" && !validID(w.User):
		return "", b, errors.New("a backup with a user_id that is none")
	case !validID(b.Project):
		return "", b, errors.New("a backup without a valid " + backupProjectKey)
	case !validID(w.Volume):
		return "", b, errors.New("a backup without a valid volume_id")
	case w.Status == "":
		return "", b, errors.New("a backup without a status")
	case w.Size < 0 || w.Size > maxNumber:
		return "", b, errors.New("a backup with a size that is none")
	case w.Metadata == nil:
		// Without it nothing tells ours from others'.
		return "", b, errors.New("a backup without metadata: the microversion was lost on the way")
	}
	var err error
	if b.Created, err = readTime(w.Created); err != nil {
		return "", b, err
	}
	b.Updated = b.Created
	if w.Updated != "" {
		b.Updated, err = readTime(w.Updated)
	}
	return b.ID, b, err
}

// Volumes lists the volumes of a scope, one of [Cloud.Scopes]: complete, or an
// error. Volumes of projects that are not included are left out.
func (c *Cloud) Volumes(ctx context.Context, scope string) ([]backup.Volume, error) {
	a := ask{op: opListVolumes, api: cinderAPI, method: http.MethodGet, path: "volumes/detail"}
	l := listing[cinderVolume, backup.Volume]{ask: a, key: "volumes",
		read: func(w cinderVolume) (string, backup.Volume, error) { return w.read(scope) }}
	return complete(ctx, c, scope, l, func(v backup.Volume) string { return v.Project })
}

// Backups lists the backups of a scope, one of [Cloud.Scopes], the tenants' own
// included: complete, or an error. Backups of projects that are not included are
// left out.
func (c *Cloud) Backups(ctx context.Context, scope string) ([]backup.CinderBackup, error) {
	a := ask{op: opListBackups, api: cinderAPI, method: http.MethodGet, path: "backups/detail"}
	l := listing[cinderBackup, backup.CinderBackup]{ask: a, key: "backups",
		read: func(w cinderBackup) (string, backup.CinderBackup, error) { return w.read(scope) }}
	all, err := complete(ctx, c, scope, l, func(b backup.CinderBackup) string { return b.Project })
	if err != nil {
		return nil, err
	}
	return all, c.judge(ctx, all)
}

// recentPage is the size of a page where the newest rows are enough.
const recentPage = "200"

// BackupsOf lists the backups of a project, newest first; those of one volume
// where volume is not "". With a since that is not zero it may stop after the
// first that is older, but may also return older ones; else it is complete.
func (c *Cloud) BackupsOf(ctx context.Context, project, volume string, since time.Time) ([]backup.CinderBackup, error) {
	q := url.Values{"sort": {"created_at:desc"}}
	ids := []string{project}
	if volume != "" {
		q.Set("volume_id", volume)
		ids = append(ids, volume)
	}
	a := ask{op: opListBackups, api: cinderAPI, method: http.MethodGet, path: "backups/detail", query: q}
	if err := a.check(ids...); err != nil {
		return nil, err
	}
	l := listing[cinderBackup, backup.CinderBackup]{ask: a, key: "backups",
		read: func(w cinderBackup) (string, backup.CinderBackup, error) { return w.read(project) }}
	if !since.IsZero() {
		q.Set("limit", recentPage)
		sorted := true // a Cinder that does not sort is read to the end
		var last time.Time
		l.enough = func(page []backup.CinderBackup) bool {
			for _, b := range page {
				sorted = sorted && (last.IsZero() || !b.Created.After(last))
				last = b.Created
			}
			return sorted && !last.IsZero() && last.Before(since)
		}
	}
	all, err := take(ctx, c, c.scopeOf(project), l)
	left := c.outlived(ctx, project, err)
	if left {
		q.Set("all_tenants", "1")
		q.Set("project_id", project)
		l.ask.admin = true
		all, err = take(ctx, c, ownScope, l)
	}
	if err != nil {
		return nil, err
	}
	// A filter that the operator took from resource_filters.json is not applied.
	all = slices.DeleteFunc(all, func(b backup.CinderBackup) bool {
		return volume != "" && b.Volume != volume || left && b.Project != project
	})
	slices.SortStableFunc(all, func(a, b backup.CinderBackup) int { return b.Created.Compare(a.Created) })
	return all, c.judge(ctx, all)
}

// Volume shows a volume of the project. One of another project is [backup.Gone].
func (c *Cloud) Volume(ctx context.Context, project, id string) (backup.Volume, error) {
	var w struct {
		Volume *cinderVolume `json:"volume"`
	}
	a := ask{op: opShowVolume, api: cinderAPI, method: http.MethodGet, path: "volumes/" + id, thing: true, left: true}
	got, err := c.about(ctx, project, a, &w, id)
	if err != nil {
		return backup.Volume{}, err
	}
	if w.Volume == nil {
		return backup.Volume{}, a.bad(got.status, errors.New("no volume in the answer"))
	}
	_, v, err := w.Volume.read(project)
	if err == nil && v.ID != id {
		err = errors.New("the answer is about another volume")
	}
	if err != nil {
		return backup.Volume{}, a.bad(got.status, err)
	}
	return v, ofAnother(a.op, v.Project, project)
}

// ofAnother is the error for what belongs to another project than the one it was asked
// for in the name of. An admin's token shows it all the same; who asks has its id from a
// message or from the ledger, and acts in the project's name.
func ofAnother(op, has, asked string) error {
	if strings.EqualFold(has, asked) {
		return nil
	}
	return &backup.CloudError{Fault: backup.Gone, Op: op, Status: http.StatusNotFound, Message: "there is one of that id in another project"}
}

// Backup shows a backup of the project. One of another project is [backup.Gone].
func (c *Cloud) Backup(ctx context.Context, project, id string) (backup.CinderBackup, error) {
	a := ask{op: opShowBackup, api: cinderAPI, method: http.MethodGet, path: "backups/" + id, thing: true}
	if err := a.check(id, project); err != nil {
		return backup.CinderBackup{}, err
	}
	b, err := c.readBackup(ctx, c.scopeOf(project), project, a, id)
	if c.outlived(ctx, project, err) {
		a.admin = true
		b, err = c.readBackup(ctx, ownScope, "", a, id)
	}
	if err == nil {
		err = ofAnother(a.op, b.Project, project)
	}
	if err != nil {
		return backup.CinderBackup{}, err
	}
	one := []backup.CinderBackup{b}
	err = c.judge(ctx, one)
	return one[0], err
}

// readBackup asks for a backup in a scope. project is whose it is where Cinder
// does not say; with "" it has to.
func (c *Cloud) readBackup(ctx context.Context, scope, project string, a ask, id string) (backup.CinderBackup, error) {
	var w struct {
		Backup *cinderBackup `json:"backup"`
	}
	got, err := c.do(ctx, scope, a)
	if err != nil {
		return backup.CinderBackup{}, err
	}
	if err := decode(got, &w); err != nil {
		return backup.CinderBackup{}, a.bad(got.status, err)
	}
	if w.Backup == nil {
		return backup.CinderBackup{}, a.bad(got.status, errors.New("no backup in the answer"))
	}
	_, b, err := w.Backup.read(project)
	if err == nil && b.ID != id {
		err = errors.New("the answer is about another backup")
	}
	if err != nil {
		return backup.CinderBackup{}, a.bad(got.status, err)
	}
	return b, nil
}

// Quota is the project's quota of backups and what is used of it.
func (c *Cloud) Quota(ctx context.Context, project string) (backup.Quota, error) {
	type usage struct {
		Limit    *int `json:"limit"`
		Used     *int `json:"in_use"`
		Reserved *int `json:"reserved"`
	}
	var w struct {
		Set struct {
			Backups   usage `json:"backups"`
			Gigabytes usage `json:"backup_gigabytes"`
		} `json:"quota_set"`
	}
	a := ask{op: opShowQuota, api: cinderAPI, method: http.MethodGet, path: "os-quota-sets/" + project,
		query: url.Values{"usage": {"True"}}}
	got, err := c.about(ctx, project, a, &w)
	if err != nil {
		return backup.Quota{}, err
	}
	var bad error
	read := func(u usage) backup.Usage {
		if u.Limit == nil || u.Used == nil || u.Reserved == nil {
			bad = errors.New("a quota without limit, in_use or reserved")
			return backup.Usage{}
		}
		for _, n := range []int{*u.Limit, *u.Used, *u.Reserved} {
			if n < -maxNumber || n > maxNumber { // in_use can be below 0: Cinder miscounts now and then
				bad = errors.New("a quota with a number that Cinder cannot hold")
			}
		}
		return backup.Usage{Limit: *u.Limit, Used: *u.Used, Reserved: *u.Reserved}
	}
	q := backup.Quota{Backups: read(w.Set.Backups), Gigabytes: read(w.Set.Gigabytes)}
	if bad != nil {
		return backup.Quota{}, a.bad(got.status, bad)
	}
	return q, nil
}

// CreateBackup asks for a backup and returns its id. It is made later, if at all:
// Cinder answers before anything is done, even with no cinder-backup up. With
// [backup.Doubt] look for it by its metadata before asking again.
func (c *Cloud) CreateBackup(ctx context.Context, project string, r backup.Request) (id string, err error) {
	a := ask{op: opCreateBackup, api: cinderAPI, method: http.MethodPost, path: "backups", thing: true,
		ok: []int{http.StatusAccepted}}
	if err := a.check(project, r.Volume); err != nil {
		return "", err
	}
	a.body, err = backups.CreateOpts{VolumeID: r.Volume, Name: r.Name, Force: true, Incremental: r.Incremental,
		Container: r.Container, Metadata: r.Metadata}.ToBackupCreateMap()
	if err != nil {
		return "", &backup.CloudError{Fault: backup.Operator, Op: a.op, Message: clean(err.Error())}
	}
	var w struct {
		Backup struct {
			ID string `json:"id"`
		} `json:"backup"`
	}
	got, err := c.about(ctx, project, a, &w)
	if err != nil {
		return "", err
	}
	if !validID(w.Backup.ID) {
		return "", a.bad(got.status, errors.New("the backup is accepted, but has no valid id"))
	}
	return w.Backup.ID, nil
}

// DeleteBackup asks for a backup's removal, which comes later, when
// [Cloud.Backup] finds it [backup.Gone]. It is never forced.
func (c *Cloud) DeleteBackup(ctx context.Context, project, id string) error {
	a := ask{op: opDeleteBackup, api: cinderAPI, method: http.MethodDelete, path: "backups/" + id, thing: true, left: true,
		ok: []int{http.StatusAccepted, http.StatusNoContent}}
	_, err := c.about(ctx, project, a, nil, id)
	return err
}

// servicesFor is how long an answer of [Cloud.Services] is good.
const servicesFor = 15 * time.Second

type services struct {
	busy chan struct{} // of capacity 1: held while asking
	at   time.Time
	last backup.Services
}

func newServices() *services { return &services{busy: make(chan struct{}, 1)} }

// Services counts the cinder-backup services that are enabled and up, as of at
// most 15 s ago. Those with least rights may not ask: then it is not known.
func (c *Cloud) Services(ctx context.Context) (backup.Services, error) {
	if !c.allTenants {
		return backup.Services{}, nil // and no project's trouble becomes everybody's by asking with its token
	}
	s := c.services
	if err := hold(ctx, s.busy, opListServices); err != nil {
		return backup.Services{}, err
	}
	defer func() { <-s.busy }()
	now := c.opts.Now()
	if age := now.Sub(s.at); !s.at.IsZero() && age >= 0 && age < servicesFor {
		return s.last, nil
	}
	got, err := c.askServices(ctx)
	if err != nil {
		return backup.Services{}, err
	}
	s.last, s.at = got, now
	return got, nil
}

// askServices asks with the own session: whoever may ask has a home project.
func (c *Cloud) askServices(ctx context.Context) (backup.Services, error) {
	a := ask{op: opListServices, api: cinderAPI, method: http.MethodGet, path: "os-services",
		query: url.Values{"binary": {"cinder-backup"}}}
	got, err := c.do(ctx, ownScope, a)
	if e, ok := errors.AsType[*backup.CloudError](err); ok && e.Status == http.StatusForbidden {
		return backup.Services{}, nil
	}
	if err != nil {
		return backup.Services{}, err
	}
	type service struct {
		Status string `json:"status"`
		State  string `json:"state"`
	}
	rows, _, err := decodePage[service](got, "services")
	if err != nil {
		return backup.Services{}, a.bad(got.status, err)
	}
	s := backup.Services{Known: true}
	for _, r := range rows {
		if r.Status == "" || r.State == "" {
			return backup.Services{}, a.bad(got.status, errors.New("a service without status and state"))
		}
		if r.Status == "enabled" && r.State == "up" {
			s.Up++
		}
	}
	return s, nil
}
