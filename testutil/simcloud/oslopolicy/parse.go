package oslopolicy

import (
	"fmt"
	"maps"
	"regexp"
	"strings"
)

var (
	comment    = regexp.MustCompile(`(?m)^\s*#.*$`)
	policyLine = regexp.MustCompile(`(?s)\s*"([^"]*)"\s*:\s*"([^"]*)"|(\S[^\n]*)`)
)

// ParseFile reads a policy file, lines of "RULE": "CHECK", and returns its rules on
// top of [DefaultRules]. The error says what is not understood.
func ParseFile(file string) (map[string]Check, error) {
	rules := maps.Clone(DefaultRules)
	for _, m := range policyLine.FindAllStringSubmatch(comment.ReplaceAllString(file, ""), -1) {
		if strings.TrimSpace(m[3]) != "" {
			return nil, fmt.Errorf("policy file: not understood: %q", strings.TrimSpace(m[3]))
		}
		check, err := Parse(m[2])
		if err != nil {
			return nil, fmt.Errorf("policy file: rule %s: %w", m[1], err)
		}
		rules[m[1]] = check
	}
	return rules, nil
}

// Parse reads a rule. Parentheses stand at the beginning or end of words, so
// that those of %(id)s are none.
func Parse(rule string) (Check, error) {
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
		return Fixed(true), nil
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

func (p *parser) or() (Check, error) {
	var all anyOf
	for {
		c, err := p.and()
		if all = append(all, c); err != nil || !p.take("or") {
			return all, err
		}
	}
}

func (p *parser) and() (Check, error) {
	var all allOf
	for {
		c, err := p.one()
		if all = append(all, c); err != nil || !p.take("and") {
			return all, err
		}
	}
}

func (p *parser) one() (Check, error) {
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
		return Fixed(true), nil
	case p.take("!"):
		return Fixed(false), nil
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
