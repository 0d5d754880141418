package simcloud

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/cinder"
	"staffeln/testutil/simcloud/model"
	"staffeln/testutil/simcloud/oslopolicy"
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
	rules, err := oslopolicy.ParseFile(file)
	if err != nil {
		return err
	}
	c.state.SetPolicy(rules)
	return nil
}

// enforce asks the policy file about a request to delete or change a backup. The
// answer's status is 0 where it may go on, or where there is nothing to be asked
// about: what is wrong with the request otherwise is told later. Others' requests
// go on meanwhile.
func (c *Cloud) enforce(q *api.Request) (a api.Answer) {
	if q.Route == nil || q.Service != "volume" || q.Route.Pattern != "backups/ID" ||
		q.Method != http.MethodDelete && q.Method != http.MethodPut {
		return a
	}
	e := oslopolicy.Enforcement{Rule: "backup:delete"}
	if q.Method == http.MethodPut {
		e.Rule = "backup:update"
	}
	c.do(func(s *model.State, now time.Time) {
		// What is looked at before the policy is what dispatch looks at, and in an update
		// the body.
		at := *q
		at.Token = s.Authenticate(q.Header.Get("X-Auth-Token"), now)
		if s.Policy == nil || at.Token == nil ||
			negotiate(&at).Status != 0 || at.Project != "" && (at.Token.Project == nil || at.Token.Project.ID != at.Project) {
			return
		}
		if at.Method == http.MethodPut && cinder.BadUpdate(&at) {
			return
		}
		if b := cinder.FindBackup(s, &at, at.Args[0]); b != nil {
			e.Rules, e.Target, e.Credentials = s.Policy, cinder.PolicyTarget(b), cinder.PolicyValues(at.Token)
		}
	})
	if e.Rules == nil {
		return a
	}
	e.Ask = func(address string) (bool, error) { return c.askPolicy(address, &e) }
	passes, err := e.Rules[e.Rule].Passes(&e)
	switch {
	case err != nil:
		a = api.Fail(500, "The server has either erred or is incapable of performing the requested operation.")
	case !passes:
		a = api.Fail(403, "Policy doesn't allow %s to be performed.", e.Rule)
	default:
		return a
	}
	c.do(func(s *model.State, _ time.Time) { writeDown(s, q, a) })
	return a
}

// askPolicy is one POST of oslo.policy's. Whatever the status, the body True
// passes, quotes around it or not. Redirects are followed.
func (c *Cloud) askPolicy(address string, e *oslopolicy.Enforcement) (bool, error) {
	body, contentType := []byte(nil), c.state.Options.PolicyContentType
	if contentType == "application/json" {
		body = api.Encode(map[string]any{"rule": e.Rule, "target": e.Target, "credentials": e.Credentials})
	} else {
		contentType = "application/x-www-form-urlencoded"
		var form []string
		for _, f := range []struct {
			name  string
			value any
		}{{"rule", e.Rule}, {"target", e.Target}, {"credentials", e.Credentials}} {
			form = append(form, f.name+"="+url.QueryEscape(string(api.Encode(f.value))))
		}
		body = []byte(strings.Join(form, "&"))
	}
	r, err := http.NewRequest(http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	r.Header = http.Header{"User-Agent": {"python-requests/2.28.1"}, "Accept-Encoding": {"gzip, deflate"},
		"Accept": {"*/*"}, "Content-Type": {contentType}}
	// This release's has no timeout: a listener that hangs, hangs Cinder.
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	return err == nil && strings.Trim(string(said), `"`) == "True", err
}
