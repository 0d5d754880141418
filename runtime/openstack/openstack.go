// Package openstack is how the functions see the cloud: Keystone, Nova and
// Cinder over gophercloud, in the words of package backup.
//
// What it promises, whatever is at the other end:
//   - A list is complete or an error. What Nova or Cinder left out, cut off or
//     wrote in the wrong type is an error, never a shorter list.
//   - Every error is a [*backup.CloudError]. A write that may have been carried
//     out is [backup.Doubt]; gone means that OpenStack itself said so about the
//     thing asked for, not that some proxy had no such page.
//   - Everything about one project is asked with a token scoped to that project,
//     since a backup belongs to the project of the token (cinder/backup/api.py,
//     create), and so do its quota and its parent.
//   - Nothing is retried here but a 401, once, with a new token: when to ask again
//     is for the functions to decide.
package openstack

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"staffeln/functions/backup"
)

// Rights says how the service user sees the cloud.
type Rights string

// The rights.
const (
	// Auto finds out at [Connect]: [Admin] where that works, else [Projects].
	Auto Rights = "auto"
	// Admin: complete lists are all-tenant.
	Admin Rights = "admin"
	// Projects: least rights, the role member in every project; lists are taken
	// project by project.
	Projects Rights = "projects"
)

// A Limiter holds a call back until it may be made. Wait returns an error only
// where ctx ends first or the limit cannot be known; the call is then not made.
type Limiter interface {
	Wait(ctx context.Context) error
}

// Options say which cloud, as whom and how. [FromEnv] fills in Auth, Region,
// Interface and TLS.
type Options struct {
	// Auth is the service user with its password, and the scope of its own
	// session: a home project, the system, or none. Only [Admin] needs the home
	// project.
	Auth gophercloud.AuthOptions
	// Region picks the endpoints; "" takes the only one there is.
	Region string
	// Interface is public, internal or admin; "" is public.
	Interface string
	// TLS is nil for the system's certificate authorities.
	TLS *tls.Config

	// Rights is [Auto] where "".
	Rights Rights
	// IncludeProjects and IncludeDomains (ids or exact names) say which projects
	// are looked at; all of them where both are empty. A project that the
	// excluding lists name, or whose domain they name, is left out whatever the
	// including ones say.
	IncludeProjects, ExcludeProjects []string
	IncludeDomains, ExcludeDomains   []string

	// Makers are users besides the service user whose backups are ours, too: ids.
	Makers []string
	// Witness knows which backups are ours where Cinder does not show who made them;
	// nil for none.
	Witness Witness

	// Limiter is asked before each call, Keystone's included; nil for none.
	Limiter Limiter
	// Timeout bounds one call, waiting for the Limiter not counted; 0 is 60 s.
	Timeout time.Duration
	// Log is nil for none.
	Log *slog.Logger
	// Observe is told of each call: what was asked ("create backup", one of a
	// dozen words), the HTTP status (0 for no answer) and how long it took. It is
	// called from many goroutines. May be nil.
	Observe func(op string, status int, took time.Duration)
	// Now is the clock by which [Cloud.Services] remembers and [Cloud.Clock] goes on;
	// nil is the real one.
	Now func() time.Time
	// UserAgent is sent before gophercloud's own.
	UserAgent string
	// Transport is for tests; nil is a pool of connections with TLS and the
	// proxies of HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
	Transport http.RoundTripper
}

// The microversions spoken: the highest that the cloud and we know. Their
// answers are alike from the least to the most as far as they are read here.
var (
	// Cinder's backups have metadata from 3.43 on; 3.70 is Zed's.
	cinderLeast, cinderMost = version{3, 43}, version{3, 70}
	// Nova's servers show tags from 2.26 on; 2.93 is Zed's. From 2.69 on it tells
	// of servers whose cell does not answer, where it would leave them out before.
	novaLeast, novaMost = version{2, 26}, version{2, 93}
)

// A Cloud is one OpenStack region, seen as the service user. Its methods may be
// called from many goroutines.
type Cloud struct {
	opts     Options
	keystone string // ".../v3/"
	client   *http.Client
	log      *slog.Logger
	sessions *sessions
	projects *projects
	services *services
	users    users
	own      own

	// Settled by Connect.
	allTenants bool
	// adminRoles are those that make an admin of the service user.
	adminRoles []string
	// home is the project of the service user's own session; "" where it has none.
	home         string
	cinder, nova version
}

// Connect authenticates, agrees with Nova and Cinder on microversions and finds
// out what the service user may do. What is wrong is named all at once, in one
// [*backup.CloudError]: [backup.Retry] only where waiting may help.
func Connect(ctx context.Context, o Options) (*Cloud, error) {
	if err := o.Check(); err != nil {
		return nil, &backup.CloudError{Fault: backup.Operator, Op: opConnect, Message: err.Error()}
	}
	o.Rights = cmp.Or(o.Rights, Auto)
	o.Interface = interfaceName(o.Interface)
	o.Timeout = cmp.Or(o.Timeout, 60*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &Cloud{
		opts:     o,
		keystone: keystoneURL(o.Auth.IdentityEndpoint),
		client:   newClient(o),
		log:      o.Log,
	}
	c.sessions = newSessions(maxSessions, c.authenticate)
	c.projects = newProjects()
	c.services = newServices()

	own, err := c.sessions.get(ctx, ownScope)
	if err != nil {
		return nil, err
	}
	c.home = own.project.ID

	// Versions and endpoints are looked up with a token for a project, since the
	// catalogue of any other token may lack Cinder.
	scope := ownScope
	mine, mineErr := c.myProjects(ctx)
	switch {
	case c.home != "":
	case mineErr != nil:
		return nil, mineErr
	case len(mine) == 0:
		return nil, &backup.CloudError{Fault: backup.Operator, Op: opConnect,
			Message: "the service user has no role in any project: give it the role member on each domain, inherited by its projects"}
	default:
		// Any will do but one that has just been deleted, of which others tell us late.
		var refused error
		for _, p := range mine[:min(len(mine), 20)] {
			if _, refused = c.sessions.get(ctx, p.ID); refused == nil {
				scope = p.ID
				break
			}
		}
		if refused != nil {
			return nil, refused
		}
	}

	var complaints []error
	c.cinder, err = c.agree(ctx, scope, cinderAPI, cinderLeast, cinderMost)
	complaints = append(complaints, err)
	c.nova, err = c.agree(ctx, scope, novaAPI, novaLeast, novaMost)
	complaints = append(complaints, err)

	why := "as configured"
	if o.Rights != Projects && errors.Join(complaints...) == nil {
		var lacks string
		lacks, err = c.lacksAdmin(ctx, own)
		complaints = append(complaints, err)
		switch {
		case err != nil:
		case lacks == "":
			c.allTenants = true
			c.adminRoles = own.roles
			if slices.Contains(own.roles, adminRole) {
				c.adminRoles = []string{adminRole}
			}
			why = "all-tenant lists work"
		case o.Rights == Admin:
			complaints = append(complaints, &backup.CloudError{Fault: backup.Operator, Op: opRights,
				Message: "rights are set to admin, but " + lacks})
		default:
			why = lacks
		}
	}
	if !c.allTenants {
		complaints = append(complaints, mineErr)
	}
	if err := together(complaints); err != nil {
		return nil, err
	}
	rights := Projects
	if c.allTenants {
		rights = Admin
	}
	c.log.Info("connected to OpenStack", "rights", string(rights), "why", why,
		"user", own.user, "project", c.home, "cinder", c.cinder.String(), "nova", c.nova.String())
	if c.allTenants && mineErr == nil && len(mine) < 2 {
		c.log.Warn("the service user has a role in no project but its own: backups of tenants need one in each, best inherited from the domain",
			"user", own.user)
	}
	return c, nil
}

// together makes one error of several: only where all of them may pass by
// themselves is it worth trying again.
func together(errs []error) error {
	var one *backup.CloudError
	var words []string
	for _, err := range errs {
		e, ok := errors.AsType[*backup.CloudError](err)
		if !ok {
			continue
		}
		if one == nil || one.Fault == backup.Retry && e.Fault != backup.Retry {
			one = e
		}
		if !slices.Contains(words, e.Error()) {
			words = append(words, e.Error())
		}
	}
	if one == nil {
		return nil
	}
	if len(words) == 1 {
		return one
	}
	return &backup.CloudError{Fault: one.Fault, Op: opConnect, Status: one.Status, After: one.After,
		Message: strings.Join(words, "; ")}
}

// AllTenants says whether complete lists are all-tenant ([Admin]).
func (c *Cloud) AllTenants() bool { return c.allTenants }

// lacksAdmin says what the own session lacks to be used as an admin's, "" for
// nothing. An error is only what may pass: a cloud in trouble must not turn an
// admin into a user with least rights.
//
// Nova answers 403 to those who may not list all tenants. Cinder ignores
// all_tenants for them and answers with their own project's rows, so it has to
// be seen by what it shows to admins alone: the host of a volume, the services. An
// admin is shown the project of a backup, but not only an admin.
func (c *Cloud) lacksAdmin(ctx context.Context, own *session) (string, error) {
	if own.project.ID == "" {
		return "the service user has no home project (OS_PROJECT_NAME), without which Nova and Cinder list nothing", nil
	}
	if c.opts.Rights == Auto && !slices.Contains(own.roles, adminRole) {
		return "its token has no role admin", nil
	}
	one := allTenantsQuery()
	one.Set("limit", "1")
	refused := func(err error) (string, error) {
		if e, ok := errors.AsType[*backup.CloudError](err); ok && e.Status == http.StatusForbidden {
			return e.Op + " of all tenants is refused: " + e.Message, nil
		}
		return "", err
	}

	seen := false // something that only admins are shown
	for _, l := range []struct {
		op            string
		api           api
		key           string
		owner, admins string
	}{
		{opListServers, novaAPI, "servers", "tenant_id", ""},
		{opListVolumes, cinderAPI, "volumes", volumeProjectKey, volumeHostKey},
		// Whose a backup is can be shown to others, too: infra/cinder does that.
		{opListBackups, cinderAPI, "backups", backupProjectKey, ""},
	} {
		a := ask{op: l.op, api: l.api, method: http.MethodGet, path: l.key + "/detail", query: one}
		b, err := c.do(ctx, ownScope, a)
		if err != nil {
			return refused(err)
		}
		rows, _, err := decodePage[map[string]any](b, l.key)
		if err != nil {
			return "", a.bad(b.status, err)
		}
		for _, r := range rows {
			if r[l.owner] == nil {
				return fmt.Sprintf("%s does not show %s: its policy does not take the service user for an admin", l.op, l.owner), nil
			}
			seen = seen || r[l.admins] != nil
		}
	}
	if seen {
		return "", nil
	}
	s, err := c.askServices(ctx)
	if err == nil && !s.Known {
		return "Cinder does not let it list services: its policy does not take the service user for an admin", nil
	}
	return "", err
}

// isAdmin says whether a token still has what made its user an admin at [Connect].
func (c *Cloud) isAdmin(s *session) bool {
	for _, r := range c.adminRoles {
		if !slices.Contains(s.roles, r) {
			return false
		}
	}
	return true
}

const adminRole = "admin"
