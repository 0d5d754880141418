package keystone

import (
	"encoding/json"
	"slices"
	"time"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
)

func groupBody(s *model.State, g *model.Group) any {
	return map[string]any{"id": g.ID, "name": g.Name, "domain_id": g.Domain.ID, "description": g.Description,
		"links": map[string]string{"self": s.Options.Base + api.IdentityPath + "/groups/" + g.ID}}
}

func listGroups(s *model.State, q *api.Request, _ time.Time) api.Answer {
	if !allowed(q.Token, false) {
		return forbiddenBy("list_groups")
	}
	out := []any{}
	for _, g := range s.Groups {
		if q.Asked("name", g.Name) && q.Asked("domain_id", g.Domain.ID) {
			out = append(out, groupBody(s, g))
		}
	}
	return collection(s, q, "groups", out)
}

// groupOf finds the group that a request is about; nil with an answer.
func groupOf(s *model.State, q *api.Request, write bool, rule, id string) (*model.Group, api.Answer) {
	if !allowed(q.Token, write) {
		return nil, forbiddenBy(rule)
	}
	g := s.Groups.Find(id)
	if g == nil {
		return nil, api.KeystoneFail(404, "Could not find group: %s.", id)
	}
	return g, api.Answer{}
}

func makeGroup(s *model.State, q *api.Request, _ time.Time) api.Answer {
	if !allowed(q.Token, true) {
		return forbiddenBy("create_group")
	}
	var in struct {
		Group struct {
			Name        string `json:"name"`
			Description string `json:"description"`
		} `json:"group"`
	}
	if err := json.Unmarshal(q.Body, &in); err != nil || in.Group.Name == "" {
		return api.KeystoneFail(400, "'name' is a required property")
	}
	for _, g := range s.Groups {
		if g.Name == in.Group.Name {
			return api.KeystoneFail(409, "Conflict occurred attempting to store group - Duplicate entry found with "+
				"name %s at domain ID %s.", g.Name, g.Domain.ID)
		}
	}
	g := s.NewGroup(in.Group.Name, nil)
	g.Description = in.Group.Description
	return api.Answer{Status: 201, Body: map[string]any{"group": groupBody(s, g)}}
}

func showGroup(s *model.State, q *api.Request, _ time.Time) api.Answer {
	g, a := groupOf(s, q, false, "get_group", q.Args[0])
	if g == nil {
		return a
	}
	return api.OK(map[string]any{"group": groupBody(s, g)})
}

func removeGroup(s *model.State, q *api.Request, _ time.Time) api.Answer {
	g, a := groupOf(s, q, true, "delete_group", q.Args[0])
	if g == nil {
		return a
	}
	for _, u := range slices.Clone(g.Users) {
		s.Leave(g, u)
	}
	s.Groups = slices.DeleteFunc(s.Groups, func(x *model.Group) bool { return x == g })
	return api.Done(204)
}

func groupUsers(s *model.State, q *api.Request, _ time.Time) api.Answer {
	g, a := groupOf(s, q, false, "list_users_in_group", q.Args[0])
	if g == nil {
		return a
	}
	out := []any{}
	for _, u := range g.Users {
		out = append(out, userBody(s, u))
	}
	return collection(s, q, "users", out)
}

func joinGroup(s *model.State, q *api.Request, _ time.Time) api.Answer {
	g, a := groupOf(s, q, true, "add_user_to_group", q.Args[0])
	if g == nil {
		return a
	}
	u := s.Users[q.Args[1]]
	if u == nil {
		return api.KeystoneFail(404, "Could not find user: %s.", q.Args[1])
	}
	s.Join(g, u)
	return api.Done(204)
}

func leaveGroup(s *model.State, q *api.Request, _ time.Time) api.Answer {
	g, a := groupOf(s, q, true, "remove_user_from_group", q.Args[0])
	if g == nil {
		return a
	}
	u := s.Users[q.Args[1]]
	if u == nil {
		return api.KeystoneFail(404, "Could not find user: %s.", q.Args[1])
	}
	if !s.Leave(g, u) {
		return api.KeystoneFail(404, "User '%s' not found in group '%s'", u.ID, g.ID)
	}
	return api.Done(204)
}
