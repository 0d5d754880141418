package keystone

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
)

// inDomain names a thing inside a domain.
type inDomain struct {
	ID     string    `json:"id"`
	Name   string    `json:"name"`
	Domain *inDomain `json:"domain"`
}

func (d *inDomain) find(s *model.State) *model.Domain {
	if d == nil {
		return nil
	}
	if d.ID != "" {
		return s.Domains[d.ID]
	}
	for _, x := range s.Domains {
		if x.Name == d.Name {
			return x
		}
	}
	return nil
}

func (d *inDomain) project(s *model.State) *model.Project {
	if d.ID != "" {
		return s.Projects[d.ID]
	}
	in := d.Domain.find(s)
	for _, p := range s.ProjectOrder {
		if p.Name == d.Name && p.Domain == in {
			return p
		}
	}
	return nil
}

// makeToken is POST /v3/auth/tokens. Source: keystone/api/auth.py; it tells a
// stranger nothing about what was wrong.
func makeToken(s *model.State, q *api.Request, now time.Time) api.Answer {
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
	if err := json.Unmarshal(q.Body, &in); err != nil {
		return api.KeystoneFail(400, "The server could not comply with the request since it is either malformed or "+
			"otherwise incorrect. The client is assumed to be in error.")
	}
	if in.Auth == nil {
		return api.KeystoneFail(400, "Expecting to find auth in request body. The server could not comply with the "+
			"request since it is either malformed or otherwise incorrect. The client is assumed to be in error.")
	}
	if in.Auth.Identity == nil {
		return api.KeystoneFail(400, "'identity' is a required property")
	}
	t := &model.Token{Methods: in.Auth.Identity.Methods, Issued: now.Truncate(time.Second),
		Expires: now.Truncate(time.Second).Add(s.Options.TokenLife)}
	switch {
	case slices.Contains(t.Methods, "password"):
		who := in.Auth.Identity.Password.User
		for _, u := range s.UserOrder {
			if u.ID == who.ID || who.ID == "" && u.Name == who.Name && u.Domain == who.Domain.find(s) {
				t.User = u
			}
		}
		if t.User == nil || t.User.Password != who.Password || !t.User.Enabled {
			return api.NeedsToken(s)
		}
	case slices.Contains(t.Methods, "token"):
		old := s.Tokens[in.Auth.Identity.Token.ID]
		if old == nil {
			return api.KeystoneFail(404, "Could not recognize Fernet token")
		}
		if s.Authenticate(old.ID, now) == nil {
			return api.NeedsToken(s)
		}
		t.User, t.Expires = old.User, old.Expires
		t.Methods = append([]string{"token"}, old.Methods...)
	default:
		return api.NeedsToken(s)
	}
	if len(in.Auth.Scope) > 0 && string(in.Auth.Scope) != "null" && string(in.Auth.Scope) != `"unscoped"` {
		var scope struct {
			Project *inDomain       `json:"project"`
			Domain  *inDomain       `json:"domain"`
			System  map[string]bool `json:"system"`
		}
		if err := json.Unmarshal(in.Auth.Scope, &scope); err != nil {
			return api.KeystoneFail(400, "The server could not comply with the request since it is either "+
				"malformed or otherwise incorrect. The client is assumed to be in error.")
		}
		switch {
		case scope.Project != nil:
			t.Project = scope.Project.project(s)
		case scope.Domain != nil:
			t.Domain = scope.Domain.find(s)
		case scope.System["all"]:
			t.System = true
		}
		if !t.Scoped() || t.Roles() == 0 || t.Project != nil && !t.Project.Enabled {
			return api.NeedsToken(s)
		}
	} else if p := s.Projects[t.User.DefaultProject]; len(in.Auth.Scope) == 0 && p != nil && p.Enabled &&
		t.User.RolesOn(p) != 0 {
		t.Project = p // a user with a default project gets a token for it
	}
	var noise [16]byte
	for i := range noise {
		noise[i] = byte(s.Rand.Uint32())
	}
	t.Audit = base64.RawURLEncoding.EncodeToString(noise[:])
	t.ID = "gAAAAA" + s.Hex() + t.Audit
	s.Tokens[t.ID] = t
	if len(s.Tokens)%1024 == 0 {
		maps.DeleteFunc(s.Tokens, func(_ string, t *model.Token) bool { return !now.Before(t.Expires) })
	}
	return api.Answer{Status: 201, Header: map[string]string{"X-Subject-Token": t.ID, "Vary": "X-Auth-Token"},
		Body: tokenBody(s, t)}
}

func tokenBody(s *model.State, t *model.Token) any {
	const layout = "2006-01-02T15:04:05.000000Z"
	body := map[string]any{
		"methods": t.Methods, "audit_ids": []string{t.Audit},
		"user": map[string]any{"id": t.User.ID, "name": t.User.Name, "domain": domainRef(t.User.Domain),
			"password_expires_at": nil},
		"issued_at": t.Issued.UTC().Format(layout), "expires_at": t.Expires.UTC().Format(layout),
	}
	if t.Scoped() {
		held := []map[string]string{}
		for _, r := range model.RoleNames {
			if t.Roles()&r.Bit != 0 {
				held = append(held, map[string]string{"id": s.Roles[r.Name], "name": r.Name})
			}
		}
		body["roles"], body["catalog"] = held, catalog(s, t)
	}
	switch {
	case t.Project != nil:
		body["project"] = map[string]any{"id": t.Project.ID, "name": t.Project.Name, "domain": domainRef(t.Project.Domain)}
		body["is_domain"] = false
	case t.Domain != nil:
		body["domain"] = domainRef(t.Domain)
	case t.System:
		body["system"] = map[string]bool{"all": true}
	}
	return map[string]any{"token": body}
}

func domainRef(d *model.Domain) map[string]string {
	return map[string]string{"id": d.ID, "name": d.Name}
}

// catalog is where the services are. Cinder's address holds the project, so that
// a token without one sees Cinder without an endpoint.
func catalog(s *model.State, t *model.Token) []any {
	out := []any{}
	for i, service := range []struct{ kind, name, url string }{
		{"identity", "keystone", s.Options.Base + api.IdentityPath},
		{"compute", "nova", s.Options.Base + api.ComputePath},
		{"volumev3", "cinderv3", s.Options.Base + api.VolumePath + "/"},
	} {
		endpoints := []any{}
		url := service.url
		if service.kind == "volumev3" && t.Project != nil {
			url += t.Project.ID
		}
		if service.kind != "volumev3" || t.Project != nil {
			for k, face := range []string{"public", "internal", "admin"} {
				endpoints = append(endpoints, map[string]string{"id": strings.Repeat(string(rune('a'+i)), 31) + string(rune('0'+k)),
					"interface": face, "region_id": "RegionOne", "region": "RegionOne", "url": url})
			}
		}
		out = append(out, map[string]any{"id": strings.Repeat(string(rune('a'+i)), 32), "type": service.kind,
			"name":      service.name,
			"endpoints": endpoints})
	}
	return out
}

func showToken(s *model.State, q *api.Request, now time.Time) api.Answer {
	t := s.Authenticate(q.Header.Get("X-Subject-Token"), now)
	if t == nil {
		return api.KeystoneFail(404, "Could not recognize Fernet token")
	}
	a := api.OK(tokenBody(s, t))
	a.Header = map[string]string{"X-Subject-Token": t.ID}
	return a
}

func revokeToken(s *model.State, q *api.Request, now time.Time) api.Answer {
	id := q.Header.Get("X-Subject-Token")
	if s.Authenticate(id, now) == nil {
		return api.KeystoneFail(404, "Could not recognize Fernet token")
	}
	delete(s.Tokens, id)
	return api.Done(204)
}

func myProjects(s *model.State, q *api.Request, _ time.Time) api.Answer {
	out := []any{}
	for _, p := range s.ProjectOrder {
		if p.Enabled && q.Token.User.RolesOn(p) != 0 {
			out = append(out, projectBody(s, p))
		}
	}
	return collection(s, q, "projects", out)
}

func myDomains(s *model.State, q *api.Request, _ time.Time) api.Answer {
	out := []any{}
	for _, id := range model.SortedKeys(s.Domains) {
		if q.Token.User.RolesOnDomain(s.Domains[id]) != 0 {
			out = append(out, domainBody(s, s.Domains[id]))
		}
	}
	return collection(s, q, "domains", out)
}

func mySystem(s *model.State, q *api.Request, _ time.Time) api.Answer {
	out := []any{}
	if q.Token.User.RolesOnSystem() != 0 {
		out = append(out, map[string]bool{"all": true})
	}
	return api.OK(map[string]any{"system": out, "links": map[string]string{"self": s.Options.Base + q.Raw}})
}

func showCatalog(s *model.State, q *api.Request, _ time.Time) api.Answer {
	if q.Token.Project == nil && q.Token.Domain == nil {
		return forbiddenBy("")
	}
	return api.OK(map[string]any{"catalog": catalog(s, q.Token),
		"links": map[string]string{"self": s.Options.Base + q.Raw}})
}
