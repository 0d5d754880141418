// Package oslopolicy reads and applies rules as oslo.policy does, as far as Cinder's
// policy for backups needs. Source: oslo_policy/_parser.py, _checks.py and _external.py
// of oslo.policy 4.0.
package oslopolicy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A Check is a term of a rule. Its error is an exception in Cinder: 500.
type Check interface {
	// Passes says whether the check allows what e asks about.
	Passes(e *Enforcement) (bool, error)
}

// An Enforcement is one question: may whoever has these credentials do this to
// that.
type Enforcement struct {
	Rules               map[string]Check
	Rule                string
	Target, Credentials map[string]any
	Ask                 func(address string) (bool, error)
}

// The checks there are. Fixed is @ or !.
type (
	Fixed     bool
	ruleCheck string
	roleCheck string
	httpCheck string // the address
	generic   struct{ kind, match string }
	negated   struct{ Check }
	allOf     []Check
	anyOf     []Check
)

// Passes implements [Check].
func (a Fixed) Passes(*Enforcement) (bool, error) { return bool(a), nil }

// Passes implements [Check].
func (r ruleCheck) Passes(e *Enforcement) (bool, error) {
	c := e.Rules[string(r)]
	if c == nil { // denies, with a warning in Cinder's log
		return false, nil
	}
	return c.Passes(e)
}

// Passes implements [Check].
func (r roleCheck) Passes(e *Enforcement) (bool, error) {
	held, _ := e.Credentials["roles"].([]string)
	return slices.Contains(held, strings.ToLower(string(r))), nil
}

// Passes implements [Check].
func (h httpCheck) Passes(e *Enforcement) (bool, error) {
	address, ok := e.fill(string(h))
	if !ok {
		return false, fmt.Errorf("the target lacks a field of %s", h)
	}
	return e.Ask(address)
}

// Passes implements [Check].
func (g generic) Passes(e *Enforcement) (bool, error) {
	want, ok := e.fill(g.match)
	have, held := e.Credentials[g.kind]
	return ok && held && word(have) == want, nil
}

// Passes implements [Check].
func (n negated) Passes(e *Enforcement) (bool, error) {
	ok, err := n.Check.Passes(e)
	return !ok, err
}

// Passes implements [Check].
func (a allOf) Passes(e *Enforcement) (bool, error) {
	for _, c := range a {
		if ok, err := c.Passes(e); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// Passes implements [Check].
func (a anyOf) Passes(e *Enforcement) (bool, error) {
	for _, c := range a {
		if ok, err := c.Passes(e); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

var field = regexp.MustCompile(`%\((\w+)\)s`)

// fill puts fields of the target into a text.
func (e *Enforcement) fill(text string) (string, bool) {
	ok := true
	out := field.ReplaceAllStringFunc(text, func(m string) string {
		v, found := e.Target[field.FindStringSubmatch(m)[1]]
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
