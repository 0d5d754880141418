package simcloud

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
)

// roles are a set of them.
type roles int

const (
	roleReader roles = 1 << iota
	roleMember
	roleAdmin
	roleService
)

var roleNames = []struct {
	bit  roles
	name string
}{{roleAdmin, "admin"}, {roleMember, "member"}, {roleReader, "reader"}, {roleService, "service"}}

// implied is a role with what it implies: admin, member, reader.
func implied(name string) roles {
	switch name {
	case "admin":
		return roleAdmin | roleMember | roleReader
	case "member":
		return roleMember | roleReader
	case "reader":
		return roleReader
	case "service":
		return roleService
	}
	return 0
}

// rolesOn are a user's roles on a project.
func (u *user) rolesOn(p *project) (out roles) {
	for _, g := range u.held() {
		if g.Project != "" && g.Project == p.id || g.Inherited && g.Domain == p.domain.id {
			out |= implied(g.Role)
		}
	}
	return out
}

func (u *user) rolesOnDomain(d *domain) (out roles) {
	for _, g := range u.held() {
		if g.Domain == d.id && !g.Inherited {
			out |= implied(g.Role)
		}
	}
	return out
}

func (u *user) rolesOnSystem() (out roles) {
	for _, g := range u.held() {
		if g.System {
			out |= implied(g.Role)
		}
	}
	return out
}

// scoped says whether a token is for anything.
func (t *token) scoped() bool { return t.project != nil || t.domain != nil || t.system }

// roles are those a token has now: Keystone looks them up each time.
func (t *token) roles() roles {
	switch {
	case t.project != nil:
		return t.user.rolesOn(t.project)
	case t.domain != nil:
		return t.user.rolesOnDomain(t.domain)
	case t.system:
		return t.user.rolesOnSystem()
	}
	return 0
}

// admin is what Nova and Cinder take for an administrator.
func (t *token) admin() bool { return t.roles()&roleAdmin != 0 }

// authenticate finds a token that is good; nil for none.
func (s *state) authenticate(id string, now time.Time) *token {
	t := s.tokens[id]
	if t == nil || !now.Before(t.expires) || !t.user.enabled || s.users[t.user.id] == nil {
		return nil
	}
	if t.project != nil && (!t.project.enabled || s.projects[t.project.id] == nil) {
		return nil
	}
	if t.scoped() && t.roles() == 0 {
		return nil
	}
	return t
}

// identityRoutes are Keystone's.
var identityRoutes = []route{
	{method: "POST", pattern: "auth/tokens", do: (*state).makeToken, open: true},
	{method: "GET", pattern: "auth/tokens", do: (*state).showToken},
	{method: "DELETE", pattern: "auth/tokens", do: (*state).revokeToken},
	{method: "GET", pattern: "auth/projects", do: (*state).myProjects},
	{method: "GET", pattern: "auth/domains", do: (*state).myDomains},
	{method: "GET", pattern: "auth/system", do: (*state).mySystem},
	{method: "GET", pattern: "auth/catalog", do: (*state).showCatalog},
	{method: "GET", pattern: "projects", do: (*state).listProjects},
	{method: "POST", pattern: "projects", do: (*state).makeProject},
	{method: "GET", pattern: "projects/ID", do: (*state).showProject},
	{method: "PATCH", pattern: "projects/ID", do: (*state).updateProject},
	{method: "DELETE", pattern: "projects/ID", do: (*state).removeProject},
	{method: "GET", pattern: "users", do: (*state).listUsers},
	{method: "POST", pattern: "users", do: (*state).makeUser},
	{method: "GET", pattern: "users/ID", do: (*state).showUser},
	{method: "PATCH", pattern: "users/ID", do: (*state).updateUser},
	{method: "DELETE", pattern: "users/ID", do: (*state).removeUser},
	{method: "GET", pattern: "roles", do: (*state).listRoles},
	{method: "GET", pattern: "domains", do: (*state).listDomains},
	{method: "GET", pattern: "domains/ID", do: (*state).showDomain},
	{method: "GET", pattern: "groups", do: (*state).listGroups},
	{method: "POST", pattern: "groups", do: (*state).makeGroup},
	{method: "GET", pattern: "groups/ID", do: (*state).showGroup},
	{method: "DELETE", pattern: "groups/ID", do: (*state).removeGroup},
	{method: "GET", pattern: "groups/ID/users", do: (*state).groupUsers},
	{method: "PUT", pattern: "groups/ID/users/ID", do: (*state).joinGroup},
	{method: "DELETE", pattern: "groups/ID/users/ID", do: (*state).leaveGroup},
	{method: "GET", pattern: "role_assignments", do: (*state).listAssignments},
	{method: "PUT", pattern: "projects/ID/users/ID/roles/ID", do: (*state).grantRole},
	{method: "DELETE", pattern: "projects/ID/users/ID/roles/ID", do: (*state).takeRole},
	{method: "PUT", pattern: "projects/ID/groups/ID/roles/ID", do: (*state).grantRole},
	{method: "DELETE", pattern: "projects/ID/groups/ID/roles/ID", do: (*state).takeRole},
}

// inDomain names a thing inside a domain.
type inDomain struct {
	ID     string    `json:"id"`
	Name   string    `json:"name"`
	Domain *inDomain `json:"domain"`
}

func (d *inDomain) find(s *state) *domain {
	if d == nil {
		return nil
	}
	if d.ID != "" {
		return s.domains[d.ID]
	}
	for _, x := range s.domains {
		if x.name == d.Name {
			return x
		}
	}
	return nil
}

func (d *inDomain) project(s *state) *project {
	if d.ID != "" {
		return s.projects[d.ID]
	}
	in := d.Domain.find(s)
	for _, p := range s.projectOrder {
		if p.name == d.Name && p.domain == in {
			return p
		}
	}
	return nil
}

// makeToken is POST /v3/auth/tokens. Source: keystone/api/auth.py; it tells a
// stranger nothing about what was wrong.
func (s *state) makeToken(q *request, now time.Time) answer {
	var in struct {
		Auth *struct {
			Identity *struct {
				Methods  []string `json:"methods"`
				Password struct {
					User struct {
						inDomain
						Password string `json:"password"`
					} `json:"user"`
				} `json:"password"`
				Token struct {
					ID string `json:"id"`
				} `json:"token"`
			} `json:"identity"`
			Scope json.RawMessage `json:"scope"`
		} `json:"auth"`
	}
	if err := json.Unmarshal(q.body, &in); err != nil {
		return keystoneFail(400, "The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error.")
	}
	if in.Auth == nil {
		return keystoneFail(400, "Expecting to find auth in request body. The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error.")
	}
	if in.Auth.Identity == nil {
		return keystoneFail(400, "'identity' is a required property")
	}
	t := &token{methods: in.Auth.Identity.Methods, issued: now.Truncate(time.Second), expires: now.Truncate(time.Second).Add(s.o.TokenLife)}
	switch {
	case slices.Contains(t.methods, "password"):
		who := in.Auth.Identity.Password.User
		for _, u := range s.userOrder {
			if u.id == who.ID || who.ID == "" && u.name == who.Name && u.domain == who.Domain.find(s) {
				t.user = u
			}
		}
		if t.user == nil || t.user.password != who.Password || !t.user.enabled {
			return s.needsToken()
		}
	case slices.Contains(t.methods, "token"):
		old := s.tokens[in.Auth.Identity.Token.ID]
		if old == nil {
			return keystoneFail(404, "Could not recognize Fernet token")
		}
		if s.authenticate(old.id, now) == nil {
			return s.needsToken()
		}
		t.user, t.expires = old.user, old.expires
		t.methods = append([]string{"token"}, old.methods...)
	default:
		return s.needsToken()
	}
	if len(in.Auth.Scope) > 0 && string(in.Auth.Scope) != "null" && string(in.Auth.Scope) != `"unscoped"` {
		var scope struct {
			Project *inDomain       `json:"project"`
			Domain  *inDomain       `json:"domain"`
			System  map[string]bool `json:"system"`
		}
		if err := json.Unmarshal(in.Auth.Scope, &scope); err != nil {
			return keystoneFail(400, "The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error.")
		}
		switch {
		case scope.Project != nil:
			t.project = scope.Project.project(s)
		case scope.Domain != nil:
			t.domain = scope.Domain.find(s)
		case scope.System["all"]:
			t.system = true
		}
		if !t.scoped() || t.roles() == 0 || t.project != nil && !t.project.enabled {
			return s.needsToken()
		}
	} else if p := s.projects[t.user.defaultProject]; len(in.Auth.Scope) == 0 && p != nil && p.enabled && t.user.rolesOn(p) != 0 {
		t.project = p // a user with a default project gets a token for it
	}
	var noise [16]byte
	for i := range noise {
		noise[i] = byte(s.rng.Uint32())
	}
	t.audit = base64.RawURLEncoding.EncodeToString(noise[:])
	t.id = "gAAAAA" + s.hex() + t.audit
	s.tokens[t.id] = t
	if len(s.tokens)%1024 == 0 {
		maps.DeleteFunc(s.tokens, func(_ string, t *token) bool { return !now.Before(t.expires) })
	}
	return answer{status: 201, header: map[string]string{"X-Subject-Token": t.id, "Vary": "X-Auth-Token"}, body: s.tokenBody(t)}
}

func (s *state) tokenBody(t *token) any {
	const layout = "2006-01-02T15:04:05.000000Z"
	body := map[string]any{
		"methods": t.methods, "audit_ids": []string{t.audit},
		"user":      map[string]any{"id": t.user.id, "name": t.user.name, "domain": domainRef(t.user.domain), "password_expires_at": nil},
		"issued_at": t.issued.UTC().Format(layout), "expires_at": t.expires.UTC().Format(layout),
	}
	if t.scoped() {
		held := []map[string]string{}
		for _, r := range roleNames {
			if t.roles()&r.bit != 0 {
				held = append(held, map[string]string{"id": s.roles[r.name], "name": r.name})
			}
		}
		body["roles"], body["catalog"] = held, s.catalog(t)
	}
	switch {
	case t.project != nil:
		body["project"] = map[string]any{"id": t.project.id, "name": t.project.name, "domain": domainRef(t.project.domain)}
		body["is_domain"] = false
	case t.domain != nil:
		body["domain"] = domainRef(t.domain)
	case t.system:
		body["system"] = map[string]bool{"all": true}
	}
	return map[string]any{"token": body}
}

func domainRef(d *domain) map[string]string { return map[string]string{"id": d.id, "name": d.name} }

// catalog is where the services are. Cinder's address holds the project, so that
// a token without one sees Cinder without an endpoint.
func (s *state) catalog(t *token) []any {
	out := []any{}
	for i, service := range []struct{ kind, name, url string }{
		{"identity", "keystone", s.o.Base + identityPath},
		{"compute", "nova", s.o.Base + computePath},
		{"volumev3", "cinderv3", s.o.Base + volumePath + "/"},
	} {
		endpoints := []any{}
		url := service.url
		if service.kind == "volumev3" && t.project != nil {
			url += t.project.id
		}
		if service.kind != "volumev3" || t.project != nil {
			for k, face := range []string{"public", "internal", "admin"} {
				endpoints = append(endpoints, map[string]string{"id": strings.Repeat(string(rune('a'+i)), 31) + string(rune('0'+k)),
					"interface": face, "region_id": "RegionOne", "region": "RegionOne", "url": url})
			}
		}
		out = append(out, map[string]any{"id": strings.Repeat(string(rune('a'+i)), 32), "type": service.kind, "name": service.name,
			"endpoints": endpoints})
	}
	return out
}

// allowed says whether Keystone's default policy lets a token read (or, with
// write, change) what is not its own. Source: keystone/common/policies/base.py.
func (t *token) allowed(write bool) bool {
	if t.admin() {
		return true
	}
	return !write && t.system && t.roles()&roleReader != 0
}

func forbiddenBy(rule string) answer {
	if rule == "" {
		return keystoneFail(403, "You are not authorized to perform the requested action.")
	}
	return keystoneFail(403, "You are not authorized to perform the requested action: identity:%s.", rule)
}

func (s *state) showToken(q *request, now time.Time) answer {
	t := s.authenticate(q.header.Get("X-Subject-Token"), now)
	if t == nil {
		return keystoneFail(404, "Could not recognize Fernet token")
	}
	a := ok(s.tokenBody(t))
	a.header = map[string]string{"X-Subject-Token": t.id}
	return a
}

func (s *state) revokeToken(q *request, now time.Time) answer {
	id := q.header.Get("X-Subject-Token")
	if s.authenticate(id, now) == nil {
		return keystoneFail(404, "Could not recognize Fernet token")
	}
	delete(s.tokens, id)
	return done(204)
}

// collection is a list of Keystone's: it is never cut.
func (s *state) collection(q *request, name string, items any) answer {
	return ok(map[string]any{name: items, "links": map[string]any{"next": nil, "previous": nil,
		"self": s.o.Base + q.raw}})
}

func (s *state) projectBody(p *project) any {
	return map[string]any{"id": p.id, "name": p.name, "domain_id": p.domain.id, "description": p.description,
		"enabled": p.enabled, "parent_id": p.domain.id, "is_domain": false, "tags": []string{}, "options": map[string]any{},
		"links": map[string]string{"self": s.o.Base + identityPath + "/projects/" + p.id}}
}

func (s *state) myProjects(q *request, _ time.Time) answer {
	out := []any{}
	for _, p := range s.projectOrder {
		if p.enabled && q.token.user.rolesOn(p) != 0 {
			out = append(out, s.projectBody(p))
		}
	}
	return s.collection(q, "projects", out)
}

func (s *state) myDomains(q *request, _ time.Time) answer {
	out := []any{}
	for _, id := range sortedKeys(s.domains) {
		if q.token.user.rolesOnDomain(s.domains[id]) != 0 {
			out = append(out, s.domainBody(s.domains[id]))
		}
	}
	return s.collection(q, "domains", out)
}

func (s *state) mySystem(q *request, _ time.Time) answer {
	out := []any{}
	if q.token.user.rolesOnSystem() != 0 {
		out = append(out, map[string]bool{"all": true})
	}
	return ok(map[string]any{"system": out, "links": map[string]string{"self": s.o.Base + q.raw}})
}

func (s *state) showCatalog(q *request, _ time.Time) answer {
	if q.token.project == nil && q.token.domain == nil {
		return forbiddenBy("")
	}
	return ok(map[string]any{"catalog": s.catalog(q.token), "links": map[string]string{"self": s.o.Base + q.raw}})
}

// asked says whether a list is filtered by an attribute to something else.
func (q *request) asked(name, value string) bool {
	want, ok := q.query[name]
	return !ok || want[0] == value
}

func (q *request) askedBool(name string, value bool) bool {
	want, ok := q.query[name]
	return !ok || !slices.Contains([]string{"false", "0", "False", "no"}, want[0]) == value
}

func (s *state) listProjects(q *request, _ time.Time) answer {
	if !q.token.allowed(false) {
		return forbiddenBy("list_projects")
	}
	out := []any{}
	for _, p := range s.projectOrder {
		if q.asked("name", p.name) && q.asked("domain_id", p.domain.id) && q.askedBool("enabled", p.enabled) {
			out = append(out, s.projectBody(p))
		}
	}
	return s.collection(q, "projects", out)
}

func (s *state) showProject(q *request, _ time.Time) answer {
	own := q.token.project != nil && q.token.project.id == q.args[0]
	if !q.token.allowed(false) && !own {
		return forbiddenBy("get_project")
	}
	p := s.projects[q.args[0]]
	if p == nil {
		return keystoneFail(404, "Could not find project: %s.", q.args[0])
	}
	return ok(map[string]any{"project": s.projectBody(p)})
}

func (s *state) makeProject(q *request, _ time.Time) answer {
	if !q.token.allowed(true) {
		return forbiddenBy("create_project")
	}
	var in struct {
		Project struct {
			Name        string `json:"name"`
			Domain      string `json:"domain_id"`
			Description string `json:"description"`
			Enabled     *bool  `json:"enabled"`
		} `json:"project"`
	}
	if err := json.Unmarshal(q.body, &in); err != nil || in.Project.Name == "" {
		return keystoneFail(400, "'name' is a required property")
	}
	if in.Project.Domain == "" {
		in.Project.Domain = DefaultDomain
	}
	if s.domains[in.Project.Domain] == nil {
		return keystoneFail(404, "Could not find domain: %s.", in.Project.Domain)
	}
	for _, p := range s.projectOrder {
		if p.name == in.Project.Name && p.domain.id == in.Project.Domain {
			return keystoneFail(409, "Conflict occurred attempting to store project - it is not permitted to have two projects with either the same name or same id in the same domain: name is %s, project id %s.", p.name, s.hex())
		}
	}
	p := s.project(in.Project.Name, in.Project.Domain)
	p.description = in.Project.Description
	if in.Project.Enabled != nil {
		p.enabled = *in.Project.Enabled
	}
	return answer{status: 201, body: map[string]any{"project": s.projectBody(p)}}
}

func (s *state) updateProject(q *request, _ time.Time) answer {
	p := s.projects[q.args[0]]
	if !q.token.allowed(true) {
		return forbiddenBy("update_project")
	}
	if p == nil {
		return keystoneFail(404, "Could not find project: %s.", q.args[0])
	}
	var in struct {
		Project struct {
			Name        *string `json:"name"`
			Description *string `json:"description"`
			Enabled     *bool   `json:"enabled"`
		} `json:"project"`
	}
	if err := json.Unmarshal(q.body, &in); err != nil {
		return keystoneFail(400, "malformed body")
	}
	set(&p.name, in.Project.Name)
	set(&p.description, in.Project.Description)
	set(&p.enabled, in.Project.Enabled)
	return ok(map[string]any{"project": s.projectBody(p)})
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func (s *state) removeProject(q *request, _ time.Time) answer {
	if !q.token.allowed(true) {
		return forbiddenBy("delete_project")
	}
	p := s.projects[q.args[0]]
	if p == nil {
		return keystoneFail(404, "Could not find project: %s.", q.args[0])
	}
	s.deleteProject(p)
	return done(204)
}

func (s *state) deleteProject(p *project) {
	delete(s.projects, p.id)
	s.projectOrder = slices.DeleteFunc(s.projectOrder, func(x *project) bool { return x == p })
	for _, u := range s.userOrder {
		u.grants = slices.DeleteFunc(u.grants, func(g Grant) bool { return g.Project == p.id })
	}
	for _, x := range s.groups {
		x.grants = slices.DeleteFunc(x.grants, func(g Grant) bool { return g.Project == p.id })
	}
}

func (s *state) userBody(u *user) map[string]any {
	out := map[string]any{"id": u.id, "name": u.name, "domain_id": u.domain.id, "enabled": u.enabled,
		"password_expires_at": nil, "options": map[string]any{},
		"links": map[string]string{"self": s.o.Base + identityPath + "/users/" + u.id}}
	if u.email != "" {
		out["email"] = u.email
	}
	if u.defaultProject != "" {
		out["default_project_id"] = u.defaultProject
	}
	return out
}

func (s *state) listUsers(q *request, _ time.Time) answer {
	if !q.token.allowed(false) {
		return forbiddenBy("list_users")
	}
	out := []any{}
	for _, u := range s.userOrder {
		if q.asked("name", u.name) && q.asked("domain_id", u.domain.id) && q.askedBool("enabled", u.enabled) {
			out = append(out, s.userBody(u))
		}
	}
	return s.collection(q, "users", out)
}

func (s *state) showUser(q *request, _ time.Time) answer {
	if !q.token.allowed(false) && q.token.user.id != q.args[0] {
		return forbiddenBy("get_user")
	}
	u := s.users[q.args[0]]
	if u == nil {
		return keystoneFail(404, "Could not find user: %s.", q.args[0])
	}
	return ok(map[string]any{"user": s.userBody(u)})
}

type userIn struct {
	User struct {
		Name           *string `json:"name"`
		Password       *string `json:"password"`
		Email          *string `json:"email"`
		Enabled        *bool   `json:"enabled"`
		DefaultProject *string `json:"default_project_id"`
	} `json:"user"`
}

func (in *userIn) apply(u *user) {
	set(&u.name, in.User.Name)
	set(&u.password, in.User.Password)
	set(&u.email, in.User.Email)
	set(&u.enabled, in.User.Enabled)
	set(&u.defaultProject, in.User.DefaultProject)
}

func (s *state) makeUser(q *request, _ time.Time) answer {
	if !q.token.allowed(true) {
		return forbiddenBy("create_user")
	}
	var in userIn
	if err := json.Unmarshal(q.body, &in); err != nil || in.User.Name == nil {
		return keystoneFail(400, "'name' is a required property")
	}
	for _, u := range s.userOrder {
		if u.name == *in.User.Name {
			return keystoneFail(409, "Conflict occurred attempting to store user - Duplicate entry found with name %s at domain ID %s.", u.name, u.domain.id)
		}
	}
	u := s.user("", "", nil)
	in.apply(u)
	return answer{status: 201, body: map[string]any{"user": s.userBody(u)}}
}

func (s *state) updateUser(q *request, _ time.Time) answer {
	if !q.token.allowed(true) {
		return forbiddenBy("update_user")
	}
	u := s.users[q.args[0]]
	if u == nil {
		return keystoneFail(404, "Could not find user: %s.", q.args[0])
	}
	var in userIn
	if err := json.Unmarshal(q.body, &in); err != nil {
		return keystoneFail(400, "malformed body")
	}
	in.apply(u)
	// Only here Keystone tells what it knows nothing of apart, too.
	body, extra := s.userBody(u), map[string]any{}
	if u.email != "" {
		extra["email"] = u.email
	}
	body["extra"] = extra
	return ok(map[string]any{"user": body})
}

func (s *state) removeUser(q *request, _ time.Time) answer {
	if !q.token.allowed(true) {
		return forbiddenBy("delete_user")
	}
	u := s.users[q.args[0]]
	if u == nil {
		return keystoneFail(404, "Could not find user: %s.", q.args[0])
	}
	for _, g := range slices.Clone(u.groups) {
		s.leave(g, u)
	}
	delete(s.users, u.id)
	s.userOrder = slices.DeleteFunc(s.userOrder, func(x *user) bool { return x == u })
	return done(204)
}

func (s *state) listRoles(q *request, _ time.Time) answer {
	if !q.token.allowed(false) {
		return forbiddenBy("list_roles")
	}
	out := []any{}
	for _, r := range roleNames {
		if q.asked("name", r.name) {
			out = append(out, map[string]any{"id": s.roles[r.name], "name": r.name, "domain_id": nil, "description": nil,
				"options": map[string]any{}, "links": map[string]string{"self": s.o.Base + identityPath + "/roles/" + s.roles[r.name]}})
		}
	}
	return s.collection(q, "roles", out)
}

func (s *state) domainBody(d *domain) any {
	about := ""
	if d.id == DefaultDomain {
		about = "The default domain"
	}
	return map[string]any{"id": d.id, "name": d.name, "description": about, "enabled": true, "tags": []string{},
		"options": map[string]any{}, "links": map[string]string{"self": s.o.Base + identityPath + "/domains/" + d.id}}
}

func (s *state) listDomains(q *request, _ time.Time) answer {
	if !q.token.allowed(false) {
		return forbiddenBy("list_domains")
	}
	out := []any{}
	for _, id := range sortedKeys(s.domains) {
		if q.asked("name", s.domains[id].name) {
			out = append(out, s.domainBody(s.domains[id]))
		}
	}
	return s.collection(q, "domains", out)
}

func (s *state) showDomain(q *request, _ time.Time) answer {
	own := q.token.project != nil && q.token.project.domain.id == q.args[0]
	if !q.token.allowed(false) && !own {
		return forbiddenBy("get_domain")
	}
	d := s.domains[q.args[0]]
	if d == nil {
		return keystoneFail(404, "Could not find domain: %s.", q.args[0])
	}
	return ok(map[string]any{"domain": s.domainBody(d)})
}

// assignment finds what PUT and DELETE /projects/P/users/U/roles/R are about, and
// /projects/P/groups/G/roles/R: the grants of the user or group, and the one named.
func (s *state) assignment(q *request, rule string) (held *[]Grant, g Grant, a answer) {
	if !q.token.allowed(true) {
		return nil, Grant{}, forbiddenBy(rule)
	}
	p := s.projects[q.args[0]]
	if p == nil {
		return nil, Grant{}, keystoneFail(404, "Could not find project: %s.", q.args[0])
	}
	if q.path[2] == "groups" {
		group := s.groups.find(q.args[1])
		if group == nil {
			return nil, Grant{}, keystoneFail(404, "Could not find group: %s.", q.args[1])
		}
		held = &group.grants
	} else {
		u := s.users[q.args[1]]
		if u == nil {
			return nil, Grant{}, keystoneFail(404, "Could not find user: %s.", q.args[1])
		}
		held = &u.grants
	}
	for name, id := range s.roles {
		if id == q.args[2] {
			return held, On(p.id, name), answer{}
		}
	}
	return nil, Grant{}, keystoneFail(404, "Could not find role: %s.", q.args[2])
}

func (s *state) grantRole(q *request, _ time.Time) answer {
	held, g, a := s.assignment(q, "create_grant")
	if held == nil {
		return a
	}
	if !slices.Contains(*held, g) {
		*held = append(*held, g)
	}
	return done(204)
}

func (s *state) takeRole(q *request, _ time.Time) answer {
	held, g, a := s.assignment(q, "revoke_grant")
	if held == nil {
		return a
	}
	i := slices.Index(*held, g)
	if i < 0 {
		return keystoneFail(404, "Could not find role assignment with role: %s, user or group: %s, project, domain, or system: %s.", q.args[2], q.args[1], q.args[0])
	}
	*held = slices.Delete(*held, i, i+1)
	return done(204)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
