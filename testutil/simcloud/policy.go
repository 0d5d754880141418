package simcloud

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// SetPolicy gives Cinder a policy file, as oslo.policy reads it: lines of YAML
// such as
//
//	"backup:delete": "role:admin or (rule:admin_or_owner and http://HOST/path?id=%(id)s)"
//
// An empty one is Cinder's defaults again. Only the rules backup:delete,
// backup:update and backup:backup_project_attribute are asked for here, and those
// they name. The checks understood
// are rule:, role:, http:, those of what credentials hold (user_id:, project_id:,
// is_admin:), @ and !, with and, or, not and parentheses. The error says what is
// not understood; then nothing has changed.
//
// Source: oslo_policy/_parser.py, _checks.py and _external.py of oslo.policy 4.0.
func (c *Cloud) SetPolicy(file string) error {
	rules := maps.Clone(defaultRules)
	for _, m := range policyLine.FindAllStringSubmatch(comment.ReplaceAllString(file, ""), -1) {
		if strings.TrimSpace(m[3]) != "" {
			return fmt.Errorf("policy file: not understood: %q", strings.TrimSpace(m[3]))
		}
		check, err := parseCheck(m[2])
		if err != nil {
			return fmt.Errorf("policy file: rule %s: %w", m[1], err)
		}
		rules[m[1]] = check
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.policy = rules
	return nil
}

var (
	comment    = regexp.MustCompile(`(?m)^\s*#.*$`)
	policyLine = regexp.MustCompile(`(?s)\s*"([^"]*)"\s*:\s*"([^"]*)"|(\S[^\n]*)`)
)

// makersRule is who is shown a backup's project and user.
const makersRule = "backup:backup_project_attribute"

// defaultRules are Cinder's. Source: cinder/policies/base.py and backups.py.
var defaultRules = map[string]check{
	"admin_or_owner": anyOf{generic{"is_admin", "True"}, generic{"project_id", "%(project_id)s"}},
	"admin_api":      generic{"is_admin", "True"},
	"backup:delete":  ruleCheck("admin_or_owner"),
	"backup:update":  ruleCheck("admin_or_owner"),
	makersRule:       ruleCheck("admin_api"),
}

// A check is a term of a rule. Its error is an exception in Cinder: 500.
type check interface {
	passes(e *enforcement) (bool, error)
}

// An enforcement is one question: may whoever has these credentials do this to
// that.
type enforcement struct {
	rules               map[string]check
	rule                string
	target, credentials map[string]any
	ask                 func(address string) (bool, error)
}

type (
	fixed     bool
	ruleCheck string
	roleCheck string
	httpCheck string // the address
	generic   struct{ kind, match string }
	negated   struct{ check }
	allOf     []check
	anyOf     []check
)

func (a fixed) passes(*enforcement) (bool, error) { return bool(a), nil }

func (r ruleCheck) passes(e *enforcement) (bool, error) {
	c := e.rules[string(r)]
	if c == nil { // denies, with a warning in Cinder's log
		return false, nil
	}
	return c.passes(e)
}

func (r roleCheck) passes(e *enforcement) (bool, error) {
	held, _ := e.credentials["roles"].([]string)
	return slices.Contains(held, strings.ToLower(string(r))), nil
}

func (h httpCheck) passes(e *enforcement) (bool, error) {
	address, ok := e.fill(string(h))
	if !ok {
		return false, fmt.Errorf("the target lacks a field of %s", h)
	}
	return e.ask(address)
}

func (g generic) passes(e *enforcement) (bool, error) {
	want, ok := e.fill(g.match)
	have, held := e.credentials[g.kind]
	return ok && held && word(have) == want, nil
}

func (n negated) passes(e *enforcement) (bool, error) {
	ok, err := n.check.passes(e)
	return !ok, err
}

func (a allOf) passes(e *enforcement) (bool, error) {
	for _, c := range a {
		if ok, err := c.passes(e); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (a anyOf) passes(e *enforcement) (bool, error) {
	for _, c := range a {
		if ok, err := c.passes(e); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

var field = regexp.MustCompile(`%\((\w+)\)s`)

// fill puts fields of the target into a text.
func (e *enforcement) fill(text string) (string, bool) {
	ok := true
	out := field.ReplaceAllStringFunc(text, func(m string) string {
		v, found := e.target[field.FindStringSubmatch(m)[1]]
		ok = ok && found
		return word(v)
	})
	return out, ok
}

// word is a value as Python's str writes it.
func word(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	}
	return fmt.Sprint(v)
}

// parseCheck reads a rule. Parentheses stand at the beginning or end of words, so
// that those of %(id)s are none.
func parseCheck(rule string) (check, error) {
	var words []string
	for _, w := range strings.Fields(rule) {
		for strings.HasPrefix(w, "(") {
			words, w = append(words, "("), w[1:]
		}
		bare := strings.TrimRight(w, ")")
		if bare != "" {
			words = append(words, bare)
		}
		for range len(w) - len(bare) {
			words = append(words, ")")
		}
	}
	if len(words) == 0 {
		return fixed(true), nil
	}
	p := &parser{words}
	c, err := p.or()
	if err == nil && len(p.words) > 0 {
		err = fmt.Errorf("not understood from %q on", p.words[0])
	}
	return c, err
}

type parser struct{ words []string }

func (p *parser) take(w string) bool {
	if len(p.words) == 0 || !strings.EqualFold(p.words[0], w) {
		return false
	}
	p.words = p.words[1:]
	return true
}

func (p *parser) or() (check, error) {
	var all anyOf
	for {
		c, err := p.and()
		if all = append(all, c); err != nil || !p.take("or") {
			return all, err
		}
	}
}

func (p *parser) and() (check, error) {
	var all allOf
	for {
		c, err := p.one()
		if all = append(all, c); err != nil || !p.take("and") {
			return all, err
		}
	}
}

func (p *parser) one() (check, error) {
	switch {
	case p.take("not"):
		c, err := p.one()
		return negated{c}, err
	case p.take("("):
		c, err := p.or()
		if err == nil && !p.take(")") {
			err = fmt.Errorf("a parenthesis is not closed")
		}
		return c, err
	case p.take("@"):
		return fixed(true), nil
	case p.take("!"):
		return fixed(false), nil
	case len(p.words) == 0:
		return nil, fmt.Errorf("it ends too early")
	}
	w := p.words[0]
	p.words = p.words[1:]
	kind, match, ok := strings.Cut(w, ":")
	switch {
	case !ok:
		return nil, fmt.Errorf("%q is no check", w)
	case kind == "rule":
		return ruleCheck(match), nil
	case kind == "role":
		return roleCheck(match), nil
	case kind == "http":
		return httpCheck(w), nil
	case kind == "user_id" || kind == "project_id" || kind == "is_admin":
		return generic{kind, match}, nil
	}
	return nil, fmt.Errorf("the check %q is not simulated", w)
}

// enforce asks the policy file about a request to delete or change a backup. The
// answer's status is 0 where it may go on, or where there is nothing to be asked
// about: what is wrong with the request otherwise is told later. Others' requests
// go on meanwhile.
func (c *Cloud) enforce(q *request) (a answer) {
	if q.route == nil || q.service != "volume" || q.route.pattern != "backups/ID" || q.method != http.MethodDelete && q.method != http.MethodPut {
		return a
	}
	e := enforcement{rule: "backup:delete"}
	if q.method == http.MethodPut {
		e.rule = "backup:update"
	}
	c.do(func(s *state, now time.Time) {
		// What is looked at before the policy is what dispatch looks at, and in an update
		// the body.
		at := *q
		at.token = s.authenticate(q.header.Get("X-Auth-Token"), now)
		if s.policy == nil || at.token == nil || at.negotiate().status != 0 || at.project != "" && (at.token.project == nil || at.token.project.id != at.project) {
			return
		}
		if at.method == http.MethodPut && s.badUpdate(&at) {
			return
		}
		if b := s.findBackup(&at, at.args[0]); b != nil {
			e.rules, e.target, e.credentials = s.policy, s.policyTarget(b), at.token.policyValues()
		}
	})
	if e.rules == nil {
		return a
	}
	e.ask = func(address string) (bool, error) { return c.askPolicy(address, &e) }
	passes, err := e.rules[e.rule].passes(&e)
	switch {
	case err != nil:
		a = fail(500, "The server has either erred or is incapable of performing the requested operation.")
	case !passes:
		a = fail(403, "Policy doesn't allow %s to be performed.", e.rule)
	default:
		return a
	}
	c.do(func(s *state, _ time.Time) { s.writeDown(q, a) })
	return a
}

// askMakers finds out for a request whether its answer tells who made a backup and
// whose it is. Once is enough for a list of any length: Cinder holds the rule against
// whoever asks, and not against each backup. Source: cinder/api/v3/backups.py, show and
// detail, and cinder/context.py, authorize without a target.
func (s *state) askMakers(q *request) answer {
	e := enforcement{rules: s.policy, rule: makersRule, credentials: q.token.policyValues()}
	if e.rules == nil {
		e.rules = defaultRules
	}
	e.target = map[string]any{"project_id": e.credentials["project_id"], "user_id": e.credentials["user_id"]}
	e.ask = func(address string) (bool, error) { return false, errors.New("nobody is asked at " + address) }
	var err error
	if q.makers, err = e.rules[makersRule].passes(&e); err != nil {
		return fail(501, "The simulated Cinder cannot ask %s: %s", makersRule, err.Error())
	}
	return answer{}
}

// badUpdate says whether the body of PUT /backups/ID is refused for itself.
func (s *state) badUpdate(q *request) bool {
	keys := []string{"name", "description"}
	if q.version >= 43 {
		keys = append(keys, "metadata")
	}
	in, a := q.bodyOf("backup", keys)
	if a.status == 0 {
		_, a = metadataIn(in, "metadata")
	}
	return q.version < 9 || a.status != 0
}

// policyTarget is the row of a backup as a policy check gets it. Source:
// cinder/context.py, authorize.
func (s *state) policyTarget(b *backup) map[string]any {
	at := func(t time.Time) any {
		if t.IsZero() {
			return nil
		}
		return t.UTC().Format("2006-01-02T15:04:05Z")
	}
	var parent, saved any
	if b.parent != nil {
		parent = b.parent.id
	}
	if b.serviceName {
		saved = `{"base": "volume-` + b.volume + `.backup.` + b.id + `"}`
	}
	return map[string]any{
		"project_id": b.project.id, "user_id": b.user, "id": b.id, "volume_id": b.volume, "host": null(b.host),
		"availability_zone": nil, "container": null(b.container), "parent_id": parent, "status": b.status,
		"fail_reason": null(b.failReason), "size": b.size, "display_name": null(b.name), "display_description": null(b.description),
		"service_metadata": saved, "service": "cinder.backup.drivers.ceph.CephBackupDriver", "object_count": 0,
		"temp_volume_id": nil, "temp_snapshot_id": nil, "num_dependent_backups": b.dependents, "snapshot_id": nil,
		"data_timestamp": at(b.created), "restore_volume_id": nil, "metadata": clone(b.metadata), "encryption_key_id": nil,
		"created_at": at(b.created), "updated_at": at(b.updated), "deleted_at": nil, "deleted": false,
	}
}

// policyValues are a token's credentials as a policy check gets them.
func (t *token) policyValues() map[string]any {
	var held []string
	for _, r := range roleNames {
		if t.roles()&r.bit != 0 {
			held = append(held, r.name)
		}
	}
	out := map[string]any{"is_admin": t.admin(), "user_id": t.user.id, "user_domain_id": t.user.domain.id, "system_scope": nil,
		"domain_id": nil, "project_id": nil, "project_domain_id": nil, "roles": held, "is_admin_project": true,
		"service_user_id": nil, "service_user_domain_id": nil, "service_project_id": nil, "service_project_domain_id": nil,
		"service_roles": []string{}}
	if t.project != nil {
		out["project_id"], out["project_domain_id"] = t.project.id, t.project.domain.id
	}
	if t.system {
		out["system_scope"] = "all"
	}
	return out
}

// askPolicy is one POST of oslo.policy's. Whatever the status, the body True
// passes, quotes around it or not. Redirects are followed.
func (c *Cloud) askPolicy(address string, e *enforcement) (bool, error) {
	body, contentType := []byte(nil), c.o.PolicyContentType
	if contentType == "application/json" {
		body = encode(map[string]any{"rule": e.rule, "target": e.target, "credentials": e.credentials})
	} else {
		contentType = "application/x-www-form-urlencoded"
		var form []string
		for _, f := range []struct {
			name  string
			value any
		}{{"rule", e.rule}, {"target", e.target}, {"credentials", e.credentials}} {
			form = append(form, f.name+"="+url.QueryEscape(string(encode(f.value))))
		}
		body = []byte(strings.Join(form, "&"))
	}
	r, err := http.NewRequest(http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	r.Header = http.Header{"User-Agent": {"python-requests/2.28.1"}, "Accept-Encoding": {"gzip, deflate"}, "Accept": {"*/*"}, "Content-Type": {contentType}}
	// This release's has no timeout: a listener that hangs, hangs Cinder.
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	return err == nil && strings.Trim(string(said), `"`) == "True", err
}

// forceDelete is the action os-force_delete, which the Ceph driver has not.
// Source: cinder/api/contrib/admin_actions.py.
func (s *state) forceDelete(q *request) answer {
	var in map[string]json.RawMessage
	switch b := s.findBackup(q, q.args[0]); {
	case json.Unmarshal(q.body, &in) != nil:
		return fail(400, "Malformed request body")
	case b == nil:
		return noBackup(q.args[0])
	case !q.token.admin():
		return fail(403, "Policy doesn't allow volume_extension:backup_admin_actions:force_delete to be performed.")
	}
	return fail(405, "Operation not supported: force delete.")
}
