package backup

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseRules(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"every rule, in order", "last=3 hourly=24 daily=7 weekly=4 monthly=12 yearly=3", "last=3 hourly=24 daily=7 weekly=4 monthly=12 yearly=3"},
		{"in any order", "yearly=3 last=3", "last=3 yearly=3"},
		{"one of them", "monthly=12", "monthly=12"},
		{"none", "none", "none"},
		{"nothing", "", "none"},
		{"blanks", " \t ", "none"},
		{"any blanks between", "  daily=7\tweekly=4\n", "daily=7 weekly=4"},
		{"unlimited keeps all of that sort", "yearly=unlimited", "yearly=unlimited"},
		{"and so does -1, as with restic", "yearly=-1", "yearly=unlimited"},
		{"0 is as good as left out, as with restic", "daily=0 weekly=4", "weekly=4"},
		{"nothing but 0 is none", "daily=0", "none"},
		{"leading zeros say nothing", "daily=007", "daily=7"},
		{"the most", "last=100000", "last=100000"},

		{"none and another", "none daily=7", `"none" is not one`},
		{"a rule comes once", "daily=7 weekly=4 daily=7", "daily comes twice"},
		{"also as 0", "daily=0 daily=7", "daily comes twice"},
		{"an unknown rule", "fortnightly=2", `"fortnightly" is not one`},
		{"restic's own options are not ours", "keep-daily=7", `"keep-daily" is not one`},
		{"rules are in lower case", "Daily=7", `"Daily" is not one`},
		{"a rule needs a number", "daily", `daily cannot be ""`},
		{"a number", "daily=", `daily cannot be ""`},
		{"no blanks around the =", "daily =7", `daily cannot be ""`},
		{"commas do not separate", "daily=7,weekly=4", `daily cannot be "7,weekly=4"`},
		{"no other negative number", "daily=-2", `daily cannot be "-2"`},
		{"no sign", "daily=+7", `daily cannot be "+7"`},
		{"no fraction", "daily=1.5", `daily cannot be "1.5"`},
		{"no time", "daily=7d", `daily cannot be "7d"`},
		{"more than anybody means", "last=100001", `last cannot be "100001"`},
		{"more than any machine holds", "last=99999999999999999999", `last cannot be "99999999999999999999"`},
		{"no other digits than ASCII's", "daily=٣", `daily cannot be "٣"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := ParseRules(c.in)
			got := r.String()
			if err != nil {
				if got = err.Error(); !r.IsZero() || !strings.Contains(got, rulesGrammar) {
					t.Errorf("%v, %s", r, got)
				}
			}
			if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
				t.Errorf("%q: got %s, want %s", c.in, got, c.want)
			}
		})
	}
}

func TestRulesUnmarshalText(t *testing.T) {
	r := Rules{Daily: 7}
	if err := r.UnmarshalText([]byte("nonsense")); err == nil || r != (Rules{Daily: 7}) {
		t.Errorf("an error changes what was there: %v, %v", r, err)
	}
	if err := r.UnmarshalText([]byte("none")); err != nil || !r.IsZero() {
		t.Errorf("got %v, %v", r, err)
	}
}

// anyRules draws rules, mostly small numbers of few.
func anyRules() *rapid.Generator[Rules] {
	return rapid.Custom(func(t *rapid.T) Rules {
		var r Rules
		for rule, name := range ruleNames {
			if rapid.IntRange(0, 2).Draw(t, "has "+name) == 0 {
				*r.of(rule) = rapid.IntRange(-1, 5).Draw(t, name)
			}
		}
		return r
	})
}

func TestRulesAreReadAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := anyRules().Draw(t, "rules")
		if back, err := ParseRules(r.String()); err != nil || back != r {
			t.Fatalf("%#v is written %s and read %#v, %v", r, r, back, err)
		}
	})
}

func FuzzParseRules(f *testing.F) {
	for _, s := range []string{"last=3 hourly=24 daily=7 weekly=4 monthly=12 yearly=3", "none", "", "daily=-1", "daily=unlimited", "daily==", "=", "daily=7 daily=7", "last=\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRules(s)
		if err != nil {
			if !r.IsZero() || len(err.Error()) > 800 || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%q: %v, %.900s", s, r, err)
			}
			return
		}
		if back, err := ParseRules(r.String()); err != nil || back != r {
			t.Fatalf("%q is written %s and read %v, %v", s, r, back, err)
		}
	})
}

func TestSpanKey(t *testing.T) {
	for _, c := range []struct {
		span           Span
		in, zone, want string
	}{
		{Month, "2026-11-30T23:30", "UTC", "2026-11"},
		{Month, "2026-11-30T23:30", "Europe/Berlin", "2026-12"},
		{Year, "2026-12-31T23:30", "UTC", "2026"},
		{Year, "2026-12-31T23:30", "Europe/Berlin", "2027"},
	} {
		if got := c.span.Key(on(c.in).In(zone(c.zone))); got != c.want {
			t.Errorf("%s of %s in %s: got %s, want %s", c.span, c.in, c.zone, got, c.want)
		}
	}
}
