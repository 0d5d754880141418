package keystone

import (
	"encoding/json"
	"slices"
	"time"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
)

func userBody(s *model.State, u *model.User) map[string]any {
	out := map[string]any{"id": u.ID, "name": u.Name, "domain_id": u.Domain.ID, "enabled": u.Enabled,
		"password_expires_at": nil, "options": map[string]any{},
		"links": map[string]string{"self": s.Options.Base + api.IdentityPath + "/users/" + u.ID}}
	if u.Email != "" {
		out["email"] = u.Email
	}
	if u.DefaultProject != "" {
		out["default_project_id"] = u.DefaultProject
	}
	return out
}

func listUsers(s *model.State, q *api.Request, _ time.Time) api.Answer {
	if !allowed(q.Token, false) {
		return forbiddenBy("list_users")
	}
	out := []any{}
	for _, u := range s.UserOrder {
		if q.Asked("name", u.Name) && q.Asked("domain_id", u.Domain.ID) && askedBool(q, "enabled", u.Enabled) {
			out = append(out, userBody(s, u))
		}
	}
	return collection(s, q, "users", out)
}

func showUser(s *model.State, q *api.Request, _ time.Time) api.Answer {
	if !allowed(q.Token, false) && q.Token.User.ID != q.Args[0] {
		return forbiddenBy("get_user")
	}
	u := s.Users[q.Args[0]]
	if u == nil {
		return api.KeystoneFail(404, "Could not find user: %s.", q.Args[0])
	}
	return api.OK(map[string]any{"user": userBody(s, u)})
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

func (in *userIn) apply(u *model.User) {
	set(&u.Name, in.User.Name)
	set(&u.Password, in.User.Password)
	set(&u.Email, in.User.Email)
	set(&u.Enabled, in.User.Enabled)
	set(&u.DefaultProject, in.User.DefaultProject)
}

func makeUser(s *model.State, q *api.Request, _ time.Time) api.Answer {
	if !allowed(q.Token, true) {
		return forbiddenBy("create_user")
	}
	var in userIn
	if err := json.Unmarshal(q.Body, &in); err != nil || in.User.Name == nil {
		return api.KeystoneFail(400, "'name' is a required property")
	}
	for _, u := range s.UserOrder {
		if u.Name == *in.User.Name {
			return api.KeystoneFail(409, "Conflict occurred attempting to store user - Duplicate entry found with "+
				"name %s at domain ID %s.", u.Name, u.Domain.ID)
		}
	}
	u := s.NewUser("", "", nil)
	in.apply(u)
	return api.Answer{Status: 201, Body: map[string]any{"user": userBody(s, u)}}
}

func updateUser(s *model.State, q *api.Request, _ time.Time) api.Answer {
	if !allowed(q.Token, true) {
		return forbiddenBy("update_user")
	}
	u := s.Users[q.Args[0]]
	if u == nil {
		return api.KeystoneFail(404, "Could not find user: %s.", q.Args[0])
	}
	var in userIn
	if err := json.Unmarshal(q.Body, &in); err != nil {
		return api.KeystoneFail(400, "malformed body")
	}
	in.apply(u)
	// Only here Keystone tells what it knows nothing of apart, too.
	body, extra := userBody(s, u), map[string]any{}
	if u.Email != "" {
		extra["email"] = u.Email
	}
	body["extra"] = extra
	return api.OK(map[string]any{"user": body})
}

func removeUser(s *model.State, q *api.Request, _ time.Time) api.Answer {
	if !allowed(q.Token, true) {
		return forbiddenBy("delete_user")
	}
	u := s.Users[q.Args[0]]
	if u == nil {
		return api.KeystoneFail(404, "Could not find user: %s.", q.Args[0])
	}
	for _, g := range slices.Clone(u.Groups) {
		s.Leave(g, u)
	}
	delete(s.Users, u.ID)
	s.UserOrder = slices.DeleteFunc(s.UserOrder, func(x *model.User) bool { return x == u })
	return api.Done(204)
}
