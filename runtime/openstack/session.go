package openstack

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"staffeln/functions/backup"
)

// ownScope stands for the service user's own session among the scopes; all
// others are project ids but for [systemScope].
const ownScope = ""

// maxSessions bounds the tokens kept, about 1 KiB each. Beyond it the one unused
// for longest goes, at the price of another authentication.
const maxSessions = 8192

// tokenMargin is how long before its end a token is no longer used, so that it
// lasts through whatever a service does with it.
const tokenMargin = 5 * time.Minute

// A session is a token, what it is for and where it is good.
type session struct {
	client *gophercloud.ProviderClient
	// until is when to ask for another token.
	until time.Time
	// project is what the token is scoped to; all "" where it is not a project.
	project backup.Project
	// domain is the name of the project's domain.
	domain string
	roles  []string
	// user is the service user's name.
	user, userID string
	// issued is when the token was made, by Keystone's clock; zero where it did not say.
	issued time.Time
	// nova and cinder are the roots of the APIs; the errors are why there is none.
	nova, cinder       string
	novaErr, cinderErr error
}

// sessions keeps one session for each scope and opens missing ones, each once
// at a time.
type sessions struct {
	open func(ctx context.Context, scope string) (*session, error)
	max  int

	mu    sync.Mutex
	known map[string]*list.Element // of *entry
	used  *list.List               // of *entry, the last used first
}

type entry struct {
	scope   string
	session *session
	opening *opening
}

// An opening is one authentication that one or more callers wait for. It is
// given up only when all of them have.
type opening struct {
	cancel  context.CancelFunc
	waiting int
	done    chan struct{}
	session *session
	err     error
}

func newSessions(max int, open func(context.Context, string) (*session, error)) *sessions {
	return &sessions{open: open, max: max, known: map[string]*list.Element{}, used: list.New()}
}

func (s *sessions) get(ctx context.Context, scope string) (*session, error) {
	s.mu.Lock()
	e := s.entry(scope)
	if e.session != nil && time.Now().Before(e.session.until) {
		defer s.mu.Unlock()
		return e.session, nil
	}
	p := e.opening
	if p == nil {
		octx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		p = &opening{cancel: cancel, done: make(chan struct{})}
		e.opening = p
		go s.run(octx, e, p)
	}
	p.waiting++
	s.mu.Unlock()

	select {
	case <-p.done:
		return p.session, p.err
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.waiting--; p.waiting == 0 {
		p.cancel()
		if e.opening == p {
			e.opening = nil
		}
	}
	return nil, &backup.CloudError{Fault: backup.Retry, Op: opAuthenticate, Message: clean(ctx.Err().Error())}
}

// entry finds or makes the entry of a scope; mu is held.
func (s *sessions) entry(scope string) *entry {
	if el, ok := s.known[scope]; ok {
		s.used.MoveToFront(el)
		return el.Value.(*entry)
	}
	for s.used.Len() >= s.max {
		oldest := s.used.Back()
		delete(s.known, oldest.Value.(*entry).scope)
		s.used.Remove(oldest)
	}
	e := &entry{scope: scope}
	s.known[scope] = s.used.PushFront(e)
	return e
}

func (s *sessions) run(ctx context.Context, e *entry, p *opening) {
	defer p.cancel()
	opened, err := s.open(ctx, e.scope)
	s.mu.Lock()
	defer s.mu.Unlock()
	p.session, p.err = opened, err
	if e.opening == p {
		e.opening = nil
		e.session = opened
	}
	if el, ok := s.known[e.scope]; ok && el.Value == e && e.session == nil && e.opening == nil {
		delete(s.known, e.scope)
		s.used.Remove(el)
	}
	close(p.done)
}

// drop forgets a session whose token was refused, unless there is a newer one
// already.
func (s *sessions) drop(scope string, refused *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if el, ok := s.known[scope]; ok {
		if e := el.Value.(*entry); e.session == refused {
			e.session = nil
		}
	}
}

// scopeOf is the scope to ask about a project with: the home project's token is
// the own session's.
func (c *Cloud) scopeOf(project string) string {
	if project == c.home {
		return ownScope
	}
	return project
}

// authenticate opens a session with the service user's password. It is what
// [sessions] calls.
func (c *Cloud) authenticate(ctx context.Context, scope string) (*session, error) {
	auth := c.opts.Auth
	auth.AllowReauth = false // a 401 is answered in Cloud.do
	if scope != ownScope {
		auth.TenantID, auth.TenantName = "", ""
		auth.Scope = &gophercloud.AuthScope{ProjectID: scope}
	}
	if scope == systemScope {
		auth.Scope = &gophercloud.AuthScope{System: true}
	}
	a := ask{op: opAuthenticate, api: keystoneAPI, method: http.MethodPost, path: "auth/tokens", ok: []int{http.StatusCreated}}
	scopeMap, err := auth.ToTokenV3ScopeMap()
	if err == nil {
		a.body, err = auth.ToTokenV3CreateMap(scopeMap)
	}
	if err != nil {
		return nil, &backup.CloudError{Fault: backup.Operator, Op: opAuthenticate, Message: c.say(err.Error())}
	}
	answer, err := c.send(ctx, &session{client: c.provider("")}, a)
	if e, ok := errors.AsType[*backup.CloudError](err); ok && e.Status == http.StatusUnauthorized {
		switch scope {
		case ownScope:
			e.Message = "user, password or home project is wrong, or one of them is disabled: " + e.Message
		case systemScope:
			e.Message = "the service user has no role on the system: " + e.Message
		default:
			e.Message = fmt.Sprintf("project %s is deleted or disabled, or the service user has no role in it: %s", scope, e.Message)
		}
	}
	if err != nil {
		return nil, err
	}
	s, err := c.newSession(answer)
	if err == nil && scope != ownScope && s.project.ID != strings.TrimPrefix(scope, systemScope) {
		err = fmt.Errorf("the token is for project %q", s.project.ID)
	}
	if err != nil {
		return nil, a.bad(answer.status, err)
	}
	c.own.saw(s.userID, s.issued, c.opts.Now())
	return s, nil
}

// provider is a gophercloud client with a token that does not change; "" for
// none. It neither authenticates anew nor retries.
func (c *Cloud) provider(token string) *gophercloud.ProviderClient {
	p := &gophercloud.ProviderClient{TokenID: token, HTTPClient: *c.client}
	if c.opts.UserAgent != "" {
		p.UserAgent.Prepend(c.opts.UserAgent)
	}
	return p
}

type tokenAnswer struct {
	Token *struct {
		ExpiresAt time.Time `json:"expires_at"`
		IssuedAt  time.Time `json:"issued_at"`
		User      struct {
			ID   string `json:"id"`
			Name string `json:"name"`
		} `json:"user"`
		Project *struct {
			ID     string `json:"id"`
			Name   string `json:"name"`
			Domain struct {
				ID   string `json:"id"`
				Name string `json:"name"`
			} `json:"domain"`
		} `json:"project"`
		Roles []struct {
			Name string `json:"name"`
		} `json:"roles"`
		Catalog []catalogEntry `json:"catalog"`
	} `json:"token"`
}

type catalogEntry struct {
	Type      string `json:"type"`
	Endpoints []struct {
		Interface string `json:"interface"`
		Region    string `json:"region"`
		RegionID  string `json:"region_id"`
		URL       string `json:"url"`
	} `json:"endpoints"`
}

func (c *Cloud) newSession(answer answer) (*session, error) {
	var t tokenAnswer
	if err := decode(answer, &t); err != nil {
		return nil, err
	}
	token := answer.header.Get("X-Subject-Token")
	switch {
	case t.Token == nil:
		return nil, errors.New("no token in the answer")
	case token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, errors.New("no X-Subject-Token in the answer's head")
	case t.Token.ExpiresAt.IsZero():
		return nil, errors.New("the token has no end")
	}
	// Our clock and Keystone's may differ: what counts is how long the token lasts.
	now := time.Now()
	issued := t.Token.IssuedAt
	if issued.IsZero() {
		issued = now
	}
	life := t.Token.ExpiresAt.Sub(issued)
	s := &session{
		client: c.provider(token),
		until:  now.Add(life - min(tokenMargin, life/5)),
		user:   t.Token.User.Name,
		userID: t.Token.User.ID,
		issued: t.Token.IssuedAt,
	}
	for _, r := range t.Token.Roles {
		s.roles = append(s.roles, r.Name)
	}
	if p := t.Token.Project; p != nil {
		if !validID(p.ID) {
			return nil, errors.New("the token's project has no valid id")
		}
		s.project = backup.Project{ID: p.ID, Name: p.Name, Domain: p.Domain.ID}
		s.domain = p.Domain.Name
	}
	s.nova, s.novaErr = c.endpoint(t.Token.Catalog, novaAPI)
	s.cinder, s.cinderErr = c.endpoint(t.Token.Catalog, cinderAPI)
	return s, nil
}

// versioned knows an endpoint's address by its version: ".../v3/PROJECT".
var versioned = regexp.MustCompile(`^(.*/v[0-9]+(?:\.[0-9]+)?)(?:/.*)?$`)

// endpoint finds an API in the catalogue of a token. The catalogue of a token
// without a project has no Cinder, whose address holds the project's id.
func (c *Cloud) endpoint(catalog []catalogEntry, a api) (string, error) {
	var found, others []string
	regions := map[string]bool{}
	for _, kind := range a.kinds {
		for _, e := range catalog {
			if e.Type != kind {
				continue
			}
			for _, p := range e.Endpoints {
				region := or(p.RegionID, p.Region)
				if p.Interface != c.opts.Interface || c.opts.Region != "" && p.Region != c.opts.Region && p.RegionID != c.opts.Region {
					others = append(others, p.Interface+" in "+region)
					continue
				}
				u, err := url.Parse(p.URL)
				if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
					return "", fmt.Errorf("the catalogue's address of %s in %s is not an address", kind, region)
				}
				address := strings.TrimRight(p.URL, "/")
				if !versioned.MatchString(u.Path) {
					address += "/" + a.root
				}
				if strings.Contains(u.Path+"/", "/v2/") && a.name == cinderAPI.name {
					continue // an entry of type volume may still be the API v2
				}
				found = append(found, address+"/")
				regions[region] = true
			}
		}
		if len(found) > 0 {
			break
		}
	}
	if len(regions) > 1 {
		names := make([]string, 0, len(regions))
		for r := range regions {
			names = append(names, r)
		}
		slices.Sort(names)
		return "", fmt.Errorf("OS_REGION_NAME: not set, want one of %s", strings.Join(names, ", "))
	}
	if len(found) == 0 {
		slices.Sort(others)
		has := "has none"
		if others = slices.Compact(others); len(others) > 0 {
			has = "has " + strings.Join(others, ", ")
		}
		return "", fmt.Errorf("no %s endpoint with interface %s in region %q: the catalogue %s",
			a.name, c.opts.Interface, c.opts.Region, has)
	}
	return found[0], nil
}
