package openstack

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/mail"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode"

	"staffeln/functions/backup"
)

// What is asked about people.
const (
	opListMembers = "list role assignments"
	opShowUser    = "show user"
)

// systemScope stands for a session on the system among the scopes; it cannot be a
// project's id.
const systemScope = ":system"

// users are those whom Keystone was asked about. What it said is good as long as
// with projects: whoever has a role in every project is asked for once for all
// digests of a morning, or nearly.
type users struct {
	mu   sync.Mutex
	byID map[string]seen[member]
}

// A member is a user with a role in a project. The zero member is nobody to tell.
type member struct{ person backup.Person }

// Members are the people with a role in a project: directly, by a group, or
// inherited from its domain or a project above it. Those who are disabled or
// have no valid e-mail address are left out, as is the service user itself; each
// address comes once, in the order in which Keystone names them. What is known of
// a user may be five minutes old.
//
// Keystone tells who has a role, and their addresses, to the role admin, and to
// the role reader on the system: an admin's own session is asked, with least rights
// one of the system. Where it refuses both, the error is a [backup.Operator] that
// names the role. A project that is not there is [backup.Gone].
//
// Source: keystone/common/policies/role_assignment.py and user.py.
func (c *Cloud) Members(ctx context.Context, project string) ([]backup.Person, error) {
	a := ask{op: opListMembers, api: keystoneAPI, method: http.MethodGet, path: "role_assignments", thing: true,
		query: url.Values{"scope.project.id": {project}, "effective": {"True"}}}
	if err := a.check(project); err != nil {
		return nil, err
	}
	var people []backup.Person
	var err error
	for _, scope := range c.peopleScopes() {
		if people, err = c.members(ctx, scope, a); !refuses(err, scope) {
			return people, err
		}
	}
	e, _ := errors.AsType[*backup.CloudError](err)
	return nil, &backup.CloudError{Fault: backup.Operator, Op: e.Op, Status: e.Status, Message: "the service user may not see who the members of projects are: " +
		"want the role admin, or the role reader on the system (openstack role add --system all --user USER reader), or recipients from the settings: " + e.Message}
}

// peopleScopes are the sessions to ask about people with, the likely one first.
func (c *Cloud) peopleScopes() []string {
	if c.allTenants {
		return []string{ownScope, systemScope}
	}
	return []string{systemScope}
}

// refuses says whether an error is that the session may not ask, or that the service
// user has no role on the system to get one for.
func refuses(err error, scope string) bool {
	e, ok := errors.AsType[*backup.CloudError](err)
	return ok && (e.Status == http.StatusForbidden || e.Status == http.StatusUnauthorized && e.Op == opAuthenticate && scope == systemScope)
}

func (c *Cloud) members(ctx context.Context, scope string, a ask) ([]backup.Person, error) {
	ids, err := take(ctx, c, scope, listing[keystoneAssignment, string]{ask: a, key: "role_assignments", read: keystoneAssignment.read})
	if err != nil {
		return nil, err
	}
	people := []backup.Person{}
	told := map[string]bool{}
	self := c.Self()
	for _, id := range ids {
		if id == self {
			continue
		}
		m, err := c.user(ctx, scope, id)
		if err != nil {
			return nil, err
		}
		address := strings.ToLower(m.person.Address)
		if address == "" || told[address] {
			continue
		}
		told[address] = true
		people = append(people, m.person)
	}
	return people, nil
}

// A keystoneAssignment is one role of one user: in effect, so that there are no
// groups.
type keystoneAssignment struct {
	User *struct {
		ID string `json:"id"`
	} `json:"user"`
}

// read tells the user's id. Who has several roles comes several times, as rows with
// one id.
func (w keystoneAssignment) read() (string, string, error) {
	if w.User == nil {
		return "", "", errors.New("a role of nobody")
	}
	if !validUser(w.User.ID) {
		return "", "", errors.New("a user without a valid id")
	}
	return w.User.ID, w.User.ID, nil
}

// validUser knows what the id of a user can be. With an LDAP of old it is a name
// from there (backward_compatible_ids); in a path it is escaped.
func validUser(id string) bool {
	return id != "" && len(id) <= 255 && id != "." && id != ".." && !strings.ContainsFunc(id, unicode.IsControl)
}

// user asks for a user, and remembers the answer.
func (c *Cloud) user(ctx context.Context, scope, id string) (member, error) {
	c.users.mu.Lock()
	known := c.users.byID[id]
	c.users.mu.Unlock()
	if known.good() {
		return known.value, nil
	}
	var w struct {
		User *keystoneUser `json:"user"`
	}
	a := ask{op: opShowUser, api: keystoneAPI, method: http.MethodGet, path: "users/" + url.PathEscape(id), thing: true}
	got, err := c.do(ctx, scope, a)
	var m member
	switch {
	case err != nil && backup.FaultOf(err) == backup.Gone: // removed since, or from its LDAP
	case err != nil:
		return member{}, err
	default:
		if err := decode(got, &w); err != nil {
			return member{}, a.bad(got.status, err)
		}
		if w.User == nil || w.User.ID != id {
			return member{}, a.bad(got.status, errors.New("the answer is about another user, or none"))
		}
		m = w.User.read()
	}
	c.users.remember(id, m)
	return m, nil
}

func (u *users) remember(id string, m member) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.byID == nil {
		u.byID = map[string]seen[member]{}
	}
	if len(u.byID) >= maxUsers { // so that those of projects long gone do not pile up
		for old, s := range u.byID {
			if !s.good() {
				delete(u.byID, old)
			}
		}
	}
	u.byID[id] = seen[member]{m, time.Now()}
}

// maxUsers is how many users are remembered before old ones are forgotten.
const maxUsers = 10_000

// A keystoneUser is what is read of one. Keystone keeps an e-mail address among the
// attributes it knows nothing of: it may be anything.
type keystoneUser struct {
	ID      string          `json:"id"`
	Name    string          `json:"name"`
	Enabled *bool           `json:"enabled"`
	Email   json.RawMessage `json:"email"`
}

func (w keystoneUser) read() member {
	var address string
	if w.Enabled != nil && !*w.Enabled || json.Unmarshal(w.Email, &address) != nil {
		return member{}
	}
	if address = strings.TrimSpace(address); !isAddress(address) {
		return member{}
	}
	p := backup.Person{Name: backup.Line(w.Name, 200), Address: address}
	if strings.EqualFold(p.Name, p.Address) {
		p.Name = ""
	}
	return member{p}
}

// isAddress says whether s is one bare e-mail address, as mail is sent to it.
func isAddress(s string) bool {
	if len(s) > 254 || strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || unicode.IsSpace(r) || strings.ContainsRune(`<>()[],;:\"`, r)
	}) {
		return false
	}
	a, err := mail.ParseAddress(s)
	return err == nil && a.Address == s && a.Name == ""
}
