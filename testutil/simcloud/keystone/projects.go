package keystone

import (
	"encoding/json"
	"time"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
)

func projectBody(s *model.State, p *model.Project) any {
	return map[string]any{"id": p.ID, "name": p.Name, "domain_id": p.Domain.ID, "description": p.Description,
		"enabled": p.Enabled, "parent_id": p.Domain.ID, "is_domain": false, "tags": []string{}, "options": map[string]any{},
		"links": map[string]string{"self": s.Options.Base + api.IdentityPath + "/projects/" + p.ID}}
}

func listProjects(s *model.State, q *api.Request, _ time.Time) api.Answer {
	if !allowed(q.Token, false) {
		return forbiddenBy("list_projects")
	}
	out := []any{}
	for _, p := range s.ProjectOrder {
		if q.Asked("name", p.Name) && q.Asked("domain_id", p.Domain.ID) && askedBool(q, "enabled", p.Enabled) {
			out = append(out, projectBody(s, p))
		}
	}
	return collection(s, q, "projects", out)
}

func showProject(s *model.State, q *api.Request, _ time.Time) api.Answer {
	own := q.Token.Project != nil && q.Token.Project.ID == q.Args[0]
	if !allowed(q.Token, false) && !own {
		return forbiddenBy("get_project")
	}
	p := s.Projects[q.Args[0]]
	if p == nil {
		return api.KeystoneFail(404, "Could not find project: %s.", q.Args[0])
	}
	return api.OK(map[string]any{"project": projectBody(s, p)})
}

func makeProject(s *model.State, q *api.Request, _ time.Time) api.Answer {
	if !allowed(q.Token, true) {
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
	if err := json.Unmarshal(q.Body, &in); err != nil || in.Project.Name == "" {
		return api.KeystoneFail(400, "'name' is a required property")
	}
	if in.Project.Domain == "" {
		in.Project.Domain = model.DefaultDomain
	}
	if s.Domains[in.Project.Domain] == nil {
		return api.KeystoneFail(404, "Could not find domain: %s.", in.Project.Domain)
	}
	for _, p := range s.ProjectOrder {
		if p.Name == in.Project.Name && p.Domain.ID == in.Project.Domain {
			return api.KeystoneFail(409, "Conflict occurred attempting to store project - it is not permitted to "+
				"have two projects with either the same name or same id in the same domain: name is %s, project id "+
				"%s.", p.Name, s.Hex())
		}
	}
	p := s.NewProject(in.Project.Name, in.Project.Domain)
	p.Description = in.Project.Description
	if in.Project.Enabled != nil {
		p.Enabled = *in.Project.Enabled
	}
	return api.Answer{Status: 201, Body: map[string]any{"project": projectBody(s, p)}}
}

func updateProject(s *model.State, q *api.Request, _ time.Time) api.Answer {
	p := s.Projects[q.Args[0]]
	if !allowed(q.Token, true) {
		return forbiddenBy("update_project")
	}
	if p == nil {
		return api.KeystoneFail(404, "Could not find project: %s.", q.Args[0])
	}
	var in struct {
		Project struct {
			Name        *string `json:"name"`
			Description *string `json:"description"`
			Enabled     *bool   `json:"enabled"`
		} `json:"project"`
	}
	if err := json.Unmarshal(q.Body, &in); err != nil {
		return api.KeystoneFail(400, "malformed body")
	}
	set(&p.Name, in.Project.Name)
	set(&p.Description, in.Project.Description)
	set(&p.Enabled, in.Project.Enabled)
	return api.OK(map[string]any{"project": projectBody(s, p)})
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func removeProject(s *model.State, q *api.Request, _ time.Time) api.Answer {
	if !allowed(q.Token, true) {
		return forbiddenBy("delete_project")
	}
	p := s.Projects[q.Args[0]]
	if p == nil {
		return api.KeystoneFail(404, "Could not find project: %s.", q.Args[0])
	}
	s.DeleteProject(p)
	return api.Done(204)
}

func domainBody(s *model.State, d *model.Domain) any {
	about := ""
	if d.ID == model.DefaultDomain {
		about = "The default domain"
	}
	return map[string]any{"id": d.ID, "name": d.Name, "description": about, "enabled": true, "tags": []string{},
		"options": map[string]any{}, "links": map[string]string{"self": s.Options.Base + api.IdentityPath +
			"/domains/" + d.ID}}
}

func listDomains(s *model.State, q *api.Request, _ time.Time) api.Answer {
	if !allowed(q.Token, false) {
		return forbiddenBy("list_domains")
	}
	out := []any{}
	for _, id := range model.SortedKeys(s.Domains) {
		if q.Asked("name", s.Domains[id].Name) {
			out = append(out, domainBody(s, s.Domains[id]))
		}
	}
	return collection(s, q, "domains", out)
}

func showDomain(s *model.State, q *api.Request, _ time.Time) api.Answer {
	own := q.Token.Project != nil && q.Token.Project.Domain.ID == q.Args[0]
	if !allowed(q.Token, false) && !own {
		return forbiddenBy("get_domain")
	}
	d := s.Domains[q.Args[0]]
	if d == nil {
		return api.KeystoneFail(404, "Could not find domain: %s.", q.Args[0])
	}
	return api.OK(map[string]any{"domain": domainBody(s, d)})
}
