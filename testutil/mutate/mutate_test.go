package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Every mutant of a rule of two lines, and which of them a test that forgets two
// things does not notice.
func TestARuleIsBrokenInEveryWay(t *testing.T) {
	const dir = "testdata/rule"
	out := t.TempDir()
	mutants, overlay, err := rewrite(dir, out)
	if err != nil {
		t.Fatal(err)
	}
	s, err := compile(t.Context(), out, dir, overlay)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.measure(t.Context(), time.Minute, mutants); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, m := range mutants {
		got[m.Change] = s.notices(t.Context(), m)
	}
	const noticed, not = "TestOld", ""
	want := map[string]string{
		"if kept < least → if true":                                                         noticed,
		"if kept < least → if false":                                                        noticed,
		"kept < least → kept <= least":                                                      noticed,
		"false → !false":                                                                    noticed,
		`"one of the last" → "one of the last" + "~"`:                                       not,
		"!now.Before(created.Add(48 * time.Hour)) → true":                                   noticed,
		"!now.Before(created.Add(48 * time.Hour)) → false":                                  noticed,
		"now.Before(created.Add(48 * time.Hour)) → !now.After(created.Add(48 * time.Hour))": not,
		"created.Add(48 * time.Hour) → created":                                             noticed,
		"48 * time.Hour → 48 * time.Hour + 25 %":                                            noticed,
		"48 * time.Hour → 48 * time.Hour - 25 %":                                            noticed,
		`"by its age" → "by its age" + "~"`:                                                 noticed,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestAScriptIsBrokenInEveryWay(t *testing.T) {
	for _, tc := range []struct {
		name, src string
		want      []string
	}{
		{"a condition holds always, never, and with its end elsewhere", "if a < 2 then\n  f(a)\nend\n", []string{
			"if a < 2 → if true", "if a < 2 → if false",
			"if a < 2 then → if a <= 2 then", "if a < 2 then → if a < 3 then", "f(a) → nothing"}},
		{"that two are not equal is the same as never", "if a == b then return end\n", []string{
			"if a == b → if true", "if a == b → if false"}},
		{"but not where it is a part", "return a == b and not c\n", []string{
			"return a == b and not c → return a ~= b and not c",
			"return a == b and not c → return a == b or not c",
			"return a == b and not c → return a == b and c"}},
		{"a call of Redis is left out, its words are others",
			"-- why\nredis.call('ZADD', KEYS[2], 'LT', ARGV[1], x)\n", []string{
				"redis.call('ZADD', KEYS[2], 'LT', ARGV[1], x) → redis.call('ZADD', KEYS[2], 'LT~', ARGV[1], x)",
				"redis.call('ZADD', KEYS[2], 'LT', ARGV[1], x) → nothing"}},
		{"a statement may have several lines", "x = a ..\n  b\n", []string{"x = a .. b → nothing"}},
		{"a pattern is left as it is, a number in quotes is a number", "return string.match(s, '^%S+') == '-1'\n", []string{
			"return string.match(s, '^%S+') == '-1' → return string.match(s, '^%S+') ~= '-1'",
			"return string.match(s, '^%S+') == '-1' → return string.match(s, '^%S+') == '0'"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "some.lua")
			if err := os.WriteFile(file, []byte(tc.src), 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := readScript(file)
			if err != nil {
				t.Fatal(err)
			}
			all, err := understood(t.Context(), s.mutants())
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range all {
				got = append(got, m.Change)
			}
			slices.Sort(tc.want)
			slices.Sort(got)
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestExplanationsAreRead(t *testing.T) {
	got, err := readExplained("# a comment\na.go: F: x < 1 → x <= 1\n\tnobody\n\tasks\n\nb.go: G: y → " +
		"nothing\n\tlikewise\n")
	want := map[string]string{"a.go: F: x < 1 → x <= 1": "nobody asks", "b.go: G: y → nothing": "likewise"}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	for name, text := range map[string]string{
		"no reason":                       "a\nb\n\twhy\n",
		"no reason at the end":            "a\n",
		"a reason of nothing":             "\twhy\n",
		"the same is there a second time": "a\n\twhy\na\n\twhy\n",
	} {
		if _, err := readExplained(text); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
