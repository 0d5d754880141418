package openstack

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"staffeln/functions/backup"
)

// How long what Keystone said of projects is good, and how soon it is asked
// again for a project that was not there: a new one is known in time for its
// first backup, and a flood of others costs one call per this.
const (
	projectsFor = 5 * time.Minute
	projectsNew = 5 * time.Second
)

type projects struct {
	busy chan struct{} // of capacity 1: held while a list is taken

	mu      sync.Mutex
	mine    []backup.Project // those the service user has a role in, by id
	mineAt  time.Time
	allAt   time.Time // when all were last listed, for an admin
	byID    map[string]seen[backup.Project]
	domains map[string]seen[string] // names by id
}

type seen[T any] struct {
	value T
	at    time.Time
}

func (s seen[T]) good() bool { return !s.at.IsZero() && time.Since(s.at) < projectsFor }

func newProjects() *projects {
	return &projects{busy: make(chan struct{}, 1), byID: map[string]seen[backup.Project]{}, domains: map[string]seen[string]{}}
}

// hold takes a lock that a caller can stop waiting for.
func hold(ctx context.Context, busy chan struct{}, op string) error {
	select {
	case busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &backup.CloudError{Fault: backup.Retry, Op: op, Message: clean(ctx.Err().Error())}
	}
}

type keystoneProject struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Domain string `json:"domain_id"`
}

func (w keystoneProject) read() (string, backup.Project, error) {
	p := backup.Project{ID: w.ID, Name: w.Name, Domain: w.Domain}
	switch {
	case !validID(w.ID):
		return "", p, errors.New("a project without a valid id")
	case !validID(w.Domain):
		return "", p, errors.New("a project without a valid domain_id")
	case w.Name == "":
		return "", p, errors.New("a project without a name")
	}
	return p.ID, p, nil
}

// myProjects are those that the service user has a role in, by id, as of at most
// five minutes ago. Keystone leaves disabled ones out.
func (c *Cloud) myProjects(ctx context.Context) ([]backup.Project, error) {
	return c.myProjectsSince(ctx, projectsFor)
}

func (c *Cloud) myProjectsSince(ctx context.Context, age time.Duration) ([]backup.Project, error) {
	p := c.projects
	if err := hold(ctx, p.busy, opListProjects); err != nil {
		return nil, err
	}
	defer func() { <-p.busy }()
	p.mu.Lock()
	mine, at := p.mine, p.mineAt
	p.mu.Unlock()
	if !at.IsZero() && time.Since(at) < age {
		return mine, nil
	}
	mine, err := c.listProjects(ctx, "auth/projects")
	if err != nil {
		return nil, err
	}
	slices.SortFunc(mine, func(a, b backup.Project) int { return strings.Compare(a.ID, b.ID) })
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mine, p.mineAt = mine, time.Now()
	return mine, nil
}

func (c *Cloud) listProjects(ctx context.Context, path string) ([]backup.Project, error) {
	a := ask{op: opListProjects, api: keystoneAPI, method: http.MethodGet, path: path}
	return take(ctx, c, ownScope, listing[keystoneProject, backup.Project]{ask: a, key: "projects", read: keystoneProject.read})
}

// Scopes are what to ask [Cloud.Servers], [Cloud.Volumes] and [Cloud.Backups]
// for, one after the other, to have seen everything: one scope of all tenants,
// "", for an admin; with least rights the ids of the included projects in which
// the service user has a role, in their order.
func (c *Cloud) Scopes(ctx context.Context) ([]string, error) {
	if c.allTenants {
		return []string{allTenantsScope}, nil
	}
	mine, err := c.myProjects(ctx)
	if err != nil {
		return nil, err
	}
	scopes := []string{}
	for _, p := range mine {
		in, err := c.included(ctx, p)
		if err != nil {
			return nil, err
		}
		if in {
			scopes = append(scopes, p.ID)
		}
	}
	return scopes, nil
}

const allTenantsScope = ""

// Project is a project's name and domain, as of at most five minutes ago, and
// whether it is one to look at. With least rights, a project in which the
// service user has no role is not, and nothing but its id is known of it.
func (c *Cloud) Project(ctx context.Context, id string) (p backup.Project, included bool, err error) {
	if !validID(id) {
		return backup.Project{}, false, &backup.CloudError{Fault: backup.Operator, Op: opShowProject, Message: "not a project's id"}
	}
	if c.allTenants {
		p, err = c.showProject(ctx, id)
	} else {
		var mine bool
		p, mine, err = c.findMine(ctx, id)
		if err == nil && !mine {
			return backup.Project{ID: id}, false, nil
		}
	}
	if err != nil {
		return backup.Project{}, false, err
	}
	included, err = c.included(ctx, p)
	return p, included, err
}

func (c *Cloud) findMine(ctx context.Context, id string) (backup.Project, bool, error) {
	for _, age := range []time.Duration{projectsFor, projectsNew} {
		mine, err := c.myProjectsSince(ctx, age)
		if err != nil {
			return backup.Project{}, false, err
		}
		i, found := slices.BinarySearchFunc(mine, id, func(p backup.Project, id string) int { return strings.Compare(p.ID, id) })
		if found {
			return mine[i], true, nil
		}
	}
	return backup.Project{}, false, nil
}

func (c *Cloud) showProject(ctx context.Context, id string) (backup.Project, error) {
	c.projects.mu.Lock()
	known := c.projects.byID[id]
	c.projects.mu.Unlock()
	if known.good() {
		return known.value, nil
	}
	var w struct {
		Project *keystoneProject `json:"project"`
	}
	a := ask{op: opShowProject, api: keystoneAPI, method: http.MethodGet, path: "projects/" + id, thing: true}
	got, err := c.do(ctx, ownScope, a)
	if err != nil {
		return backup.Project{}, err
	}
	if err := decode(got, &w); err != nil {
		return backup.Project{}, a.bad(got.status, err)
	}
	if w.Project == nil {
		return backup.Project{}, a.bad(got.status, errors.New("no project in the answer"))
	}
	_, p, err := w.Project.read()
	if err == nil && p.ID != id {
		err = errors.New("the answer is about another project")
	}
	if err != nil {
		return backup.Project{}, a.bad(got.status, err)
	}
	c.remember([]backup.Project{p})
	return p, nil
}

func (c *Cloud) remember(ps []backup.Project) {
	c.projects.mu.Lock()
	defer c.projects.mu.Unlock()
	now := time.Now()
	for id, s := range c.projects.byID { // so that deleted ones do not pile up
		if len(c.projects.byID) > maxSessions && !s.good() {
			delete(c.projects.byID, id)
		}
	}
	for _, p := range ps {
		c.projects.byID[p.ID] = seen[backup.Project]{p, now}
	}
}

func (o Options) includesAll() bool {
	return len(o.IncludeProjects)+len(o.ExcludeProjects)+len(o.IncludeDomains)+len(o.ExcludeDomains) == 0
}

// included holds a project against the lists.
func (c *Cloud) included(ctx context.Context, p backup.Project) (bool, error) {
	o := c.opts
	if o.includesAll() {
		return true, nil
	}
	named := func(list []string, id, name string) bool {
		return slices.Contains(list, id) || name != "" && slices.Contains(list, name)
	}
	if named(o.ExcludeProjects, p.ID, p.Name) {
		return false, nil
	}
	domain := ""
	if len(o.IncludeDomains)+len(o.ExcludeDomains) > 0 && p.Domain != "" {
		var err error
		if domain, err = c.domainName(ctx, p); err != nil {
			return false, err
		}
	}
	if named(o.ExcludeDomains, p.Domain, domain) {
		return false, nil
	}
	return len(o.IncludeProjects)+len(o.IncludeDomains) == 0 ||
		named(o.IncludeProjects, p.ID, p.Name) || named(o.IncludeDomains, p.Domain, domain), nil
}

// domainName is the name of a project's domain. Who may not ask Keystone for a
// domain finds it in a token for the project.
func (c *Cloud) domainName(ctx context.Context, p backup.Project) (string, error) {
	c.projects.mu.Lock()
	known := c.projects.domains[p.Domain]
	c.projects.mu.Unlock()
	if known.good() {
		return known.value, nil
	}
	var w struct {
		Domain struct {
			Name string `json:"name"`
		} `json:"domain"`
	}
	a := ask{op: opShowDomain, api: keystoneAPI, method: http.MethodGet, path: "domains/" + p.Domain, thing: true}
	got, err := c.do(ctx, ownScope, a)
	switch {
	case err == nil:
		if err := decode(got, &w); err != nil {
			return "", a.bad(got.status, err)
		}
	case backup.FaultOf(err) == backup.Operator:
		s, err := c.sessions.get(ctx, c.scopeOf(p.ID))
		if err != nil {
			return "", err
		}
		w.Domain.Name = s.domain
	default:
		return "", err
	}
	if w.Domain.Name == "" {
		return "", a.bad(got.status, errors.New("a domain without a name"))
	}
	c.projects.mu.Lock()
	defer c.projects.mu.Unlock()
	c.projects.domains[p.Domain] = seen[string]{w.Domain.Name, time.Now()}
	return w.Domain.Name, nil
}

// complete takes a whole list in a scope and leaves out what is not included.
func complete[W, V any](ctx context.Context, c *Cloud, scope string, l listing[W, V], project func(V) string) ([]V, error) {
	if scope != allTenantsScope {
		if err := l.ask.check(scope); err != nil {
			return nil, err
		}
		return take(ctx, c, c.scopeOf(scope), l)
	}
	if !c.allTenants {
		return nil, &backup.CloudError{Fault: backup.Operator, Op: l.ask.op, Message: "all tenants are not to be seen with least rights"}
	}
	l.ask.query = allTenantsQuery()
	l.ask.admin = true
	all, err := take(ctx, c, ownScope, l)
	if err != nil || c.opts.includesAll() {
		return all, err
	}
	if err := c.listAllProjects(ctx); err != nil {
		return nil, err
	}
	in := map[string]bool{}
	kept := all[:0]
	for _, v := range all {
		id := project(v)
		if _, known := in[id]; !known {
			p, err := c.showProject(ctx, id)
			if backup.FaultOf(err) == backup.Gone {
				p, err = backup.Project{ID: id}, nil // deleted; only its id can be named
			}
			if err == nil {
				in[id], err = c.included(ctx, p)
			}
			if err != nil {
				return nil, err
			}
		}
		if in[id] {
			kept = append(kept, v)
		}
	}
	return kept, nil
}

// listAllProjects saves asking for each project alone. Those that a Keystone with
// a list_limit leaves out are asked for alone.
func (c *Cloud) listAllProjects(ctx context.Context) error {
	p := c.projects
	if err := hold(ctx, p.busy, opListProjects); err != nil {
		return err
	}
	defer func() { <-p.busy }()
	p.mu.Lock()
	fresh := !p.allAt.IsZero() && time.Since(p.allAt) < projectsFor
	p.mu.Unlock()
	if fresh {
		return nil
	}
	all, err := c.listProjects(ctx, "projects")
	if err != nil && backup.FaultOf(err) != backup.Operator {
		return err
	}
	c.remember(all)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allAt = time.Now()
	return nil
}

// about makes a call about a project with its token and reads the answer into
// into, unless that is nil. The ids stand in the path.
func (c *Cloud) about(ctx context.Context, project string, a ask, into any, ids ...string) (answer, error) {
	if err := a.check(append(ids, project)...); err != nil {
		return answer{}, err
	}
	got, err := c.do(ctx, c.scopeOf(project), a)
	if a.left && c.outlived(ctx, project, err) {
		a.admin = true
		got, err = c.do(ctx, ownScope, a)
	}
	if err != nil || into == nil {
		return got, err
	}
	if err := decode(got, into); err != nil {
		return got, a.bad(got.status, err)
	}
	return got, nil
}

// outlived says whether a call failed because its project has been deleted, which
// leaves its backups behind: no token is to be had for it any more, but an admin's
// own sees and removes them. Nothing is ever made that way: it would be the home
// project's.
func (c *Cloud) outlived(ctx context.Context, project string, err error) bool {
	e, ok := errors.AsType[*backup.CloudError](err)
	if !ok || e.Op != opAuthenticate || e.Status != http.StatusUnauthorized && e.Status != http.StatusNotFound || !c.allTenants || project == c.home {
		return false
	}
	_, err = c.showProject(ctx, project)
	return err != nil && backup.FaultOf(err) == backup.Gone
}

// check refuses ids that cannot be OpenStack's, before they get into a path:
// they come from notifications, which anyone on the broker may write.
func (a ask) check(ids ...string) error {
	for _, id := range ids {
		if !validID(id) {
			return &backup.CloudError{Fault: backup.Operator, Op: a.op, Message: "not an id"}
		}
	}
	return nil
}
