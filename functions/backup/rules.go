package backup

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Rules are archive rules: how many restore points are kept whatever their age,
// with the meaning that restic gives them. -1 is all of them, 0 none by that rule.
type Rules struct {
	Last, Hourly, Daily, Weekly, Monthly, Yearly int
}

// The rules, in the order they are written in.
const (
	ruleLast = iota
	ruleHourly
	ruleDaily
	ruleWeekly
	ruleMonthly
	ruleYearly
	ruleCount
)

var ruleNames = [ruleCount]string{"last", "hourly", "daily", "weekly", "monthly", "yearly"}

// maxRule bounds a rule: beyond it a value is taken for a slip, and "unlimited" is
// the word for what was meant.
const maxRule = 100000

// Unlimited is the number of a rule that keeps all.
const Unlimited = "unlimited"

const rulesGrammar = `want none, or each of last hourly daily weekly monthly yearly at most once, such as "daily=7 monthly=12", with a number up to 100000 or unlimited`

// ParseRules reads "last=3 hourly=24 daily=7 weekly=4 monthly=12 yearly=3", in any
// order, any of them left out; "none" and "" are no rules at all. As with restic,
// "unlimited" or -1 keeps all of that sort, and 0 is the same as left out.
func ParseRules(s string) (Rules, error) {
	words := strings.Fields(s)
	if len(words) == 0 || len(words) == 1 && words[0] == "none" {
		return Rules{}, nil
	}
	var r Rules
	var seen [ruleCount]bool
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		rule := 0
		for rule < ruleCount && ruleNames[rule] != name {
			rule++
		}
		if rule == ruleCount {
			return Rules{}, fmt.Errorf("%.60q are no archive rules: %.40q is not one: %s", s, name, rulesGrammar)
		}
		if seen[rule] {
			return Rules{}, fmt.Errorf("%.60q are no archive rules: %s comes twice: %s", s, name, rulesGrammar)
		}
		seen[rule] = true
		n, err := strconv.Atoi(value)
		if value == Unlimited {
			n, err = -1, nil
		}
		if err != nil || n < -1 || n > maxRule || value[0] == '+' {
			return Rules{}, fmt.Errorf("%.60q are no archive rules: %s cannot be %.40q: %s", s, name, value, rulesGrammar)
		}
		*r.of(rule) = n
	}
	return r, nil
}

// of is the number of one rule.
func (r *Rules) of(rule int) *int {
	return [ruleCount]*int{&r.Last, &r.Hourly, &r.Daily, &r.Weekly, &r.Monthly, &r.Yearly}[rule]
}

// UnmarshalText reads what [ParseRules] reads.
func (r *Rules) UnmarshalText(text []byte) error {
	got, err := ParseRules(string(text))
	if err == nil {
		*r = got
	}
	return err
}

// IsZero says whether there are none.
func (r Rules) IsZero() bool { return r == Rules{} }

// String writes them as [ParseRules] reads them; "none" for none.
func (r Rules) String() string {
	var parts []string
	for rule, name := range ruleNames {
		if n := *r.of(rule); n != 0 {
			parts = append(parts, name+"="+ruleNumber(n))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, " ")
}

func ruleNumber(n int) string {
	if n < 0 {
		return Unlimited
	}
	return strconv.Itoa(n)
}

// An Archive is where the first restore point of every month or year goes, made as
// a full backup; zero for nowhere.
type Archive struct {
	// Container is Cinder's backup container.
	Container string
	// Every is [Month] or [Year].
	Every Span
}

// Span is a part of the calendar.
type Span string

// The spans of an [Archive].
const (
	Month Span = "month"
	Year  Span = "year"
)

// Key names the span that t lies in, by the clock of t's location: "2026-11" or
// "2026".
func (s Span) Key(t time.Time) string {
	if s == Year {
		return t.Format("2006")
	}
	return t.Format("2006-01")
}
