package testutil

import (
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const pitfalls = "../docs/pitfalls.md"

// numbers are those that the page must have, in order. D27 was never given.
func numbers() (all []string) {
	for i := 1; i <= 36; i++ {
		all = append(all, fmt.Sprint("P", i))
		if i == 2 || i == 18 {
			all = append(all, fmt.Sprintf("P%da", i))
		}
	}
	for i := 1; i <= 29; i++ {
		if i != 27 {
			all = append(all, fmt.Sprint("D", i))
		}
	}
	return all
}

var (
	factStarts = regexp.MustCompile(`(?m)^- \*\*([PD]\d+a?)\*\* `)
	anyQuoted  = regexp.MustCompile("`([^`]+)`( \\(e2e\\))?")
	testNamed  = regexp.MustCompile(`^([a-z0-9_/]+)\.((?:Test|Fuzz)\w+)(?:/(.+))?$`)
)

// A fact is one number of the page with the tests that it names.
type fact struct {
	number, text string
	tests        []named
}

// A named is a test as the page names it.
type named struct {
	dir, test, part string
	e2e             bool
}

func facts(page string) (all []fact) {
	starts := factStarts.FindAllStringSubmatchIndex(page, -1)
	for i, at := range starts {
		end := len(page)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		f := fact{number: page[at[2]:at[3]], text: page[at[1]:end]}
		for _, q := range anyQuoted.FindAllStringSubmatch(f.text, -1) {
			if m := testNamed.FindStringSubmatch(q[1]); m != nil {
				f.tests = append(f.tests, named{m[1], m[2], m[3], q[2] != ""})
			}
		}
		all = append(all, f)
	}
	return all
}

// A folder is what the test files of a package have.
type folder struct {
	tests map[string]bool // by name: whether it needs the build tag e2e
	words map[string]bool // every string that stands in them
}

// read parses the test files themselves, those with build tags included.
func read(t *testing.T, dir string) folder {
	t.Helper()
	f := folder{map[string]bool{}, map[string]bool{}}
	files, err := filepath.Glob(filepath.Join("..", dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Errorf("%s has no tests", dir)
		return f
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		e2e := tagged(parsed)
		for _, d := range parsed.Decls {
			if d, ok := d.(*ast.FuncDecl); ok && d.Recv == nil {
				f.tests[d.Name.Name] = e2e
			}
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
				if s, err := strconv.Unquote(l.Value); err == nil {
					f.words[s] = true
				}
			}
			return true
		})
	}
	return f
}

// tagged says whether a file is built with the tag e2e only.
func tagged(file *ast.File) bool {
	for _, g := range file.Comments {
		for _, c := range g.List {
			if c.Pos() > file.Package || !constraint.IsGoBuild(c.Text) {
				continue
			}
			if x, err := constraint.Parse(c.Text); err == nil {
				return x.Eval(func(tag string) bool { return tag == "e2e" }) && !x.Eval(func(string) bool { return false })
			}
		}
	}
	return false
}

// Every pitfall has its line, and every line has tests that there are.
func TestDocsPitfalls(t *testing.T) {
	page, err := os.ReadFile(pitfalls)
	if err != nil {
		t.Fatal(err)
	}
	folders := map[string]folder{}
	for _, problem := range problems(facts(string(page)), func(dir string) folder {
		if _, ok := folders[dir]; !ok {
			folders[dir] = read(t, dir)
		}
		return folders[dir]
	}) {
		t.Errorf("%s: %s", pitfalls, problem)
	}
}

func problems(all []fact, in func(dir string) folder) (problems []string) {
	say := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	var have []string
	for _, f := range all {
		have = append(have, f.number)
		if len(f.tests) == 0 {
			say("%s has no test", f.number)
		}
		if len(strings.Fields(anyQuoted.ReplaceAllString(f.text, ""))) < 4 {
			say("%s says nothing", f.number)
		}
		for _, n := range f.tests {
			folder := in(n.dir)
			e2e, ok := folder.tests[n.test]
			switch {
			case !ok:
				say("%s: %s has no %s", f.number, n.dir, n.test)
			case n.part != "" && !folder.words[n.part]:
				say("%s: the tests of %s have no %q", f.number, n.dir, n.part)
			case e2e != n.e2e:
				say("%s: %s.%s is marked (e2e): %v, and needs that tag: %v", f.number, n.dir, n.test, n.e2e, e2e)
			}
		}
	}
	if want := numbers(); !slices.Equal(have, want) {
		for _, n := range want {
			if !slices.Contains(have, n) {
				say("%s is missing", n)
			}
		}
		for _, n := range have {
			if !slices.Contains(want, n) {
				say("%s is no number", n)
			}
		}
		if slices.Equal(slices.Sorted(slices.Values(have)), slices.Sorted(slices.Values(want))) ||
			len(slices.Compact(slices.Sorted(slices.Values(have)))) != len(have) {
			say("the numbers are out of order, or come twice")
		}
	}
	return problems
}

// The comparison finds what it is there to find.
func TestDocsPitfallsAreCompared(t *testing.T) {
	tests := folder{map[string]bool{"TestOne": false, "TestReal": true}, map[string]bool{"a case": true}}
	page := func(change func(n string) string) string {
		var b strings.Builder
		for _, n := range numbers() {
			line := fmt.Sprintf("- **%s** It has bitten people in `notifications.info`.\n  `a/b.TestOne/a case`\n", n)
			if c := change(n); c != "" {
				line = c
			}
			b.WriteString(strings.TrimPrefix(line, "none"))
		}
		return b.String()
	}
	for _, tc := range []struct{ name, number, line, want string }{
		{"all is well", "", "", ""},
		{"a number is missing", "P18a", "none", "P18a is missing"},
		{"the last is missing", "D29", "none", "D29 is missing"},
		{"a number that is none", "P36", "- **P37** It has bitten people. `a/b.TestOne`\n",
			"P36 is missing; P37 is no number"},
		{"a number that comes twice", "D3", "- **D2** It has bitten people. `a/b.TestOne`\n",
			"D3 is missing; the numbers are out of order, or come twice"},
		{"no test", "D3", "- **D3** It has bitten people in `notifications.info`.\n", "D3 has no test"},
		{"a test that there is not", "D3", "- **D3** It has bitten people. `a/b.TestTwo`\n", "D3: a/b has no TestTwo"},
		{"a case that there is not", "D3", "- **D3** It has bitten people. `a/b.TestOne/another case`\n",
			`D3: the tests of a/b have no "another case"`},
		{"a test that is not marked", "D3", "- **D3** It has bitten people. `a/b.TestReal`\n",
			"D3: a/b.TestReal is marked (e2e): false, and needs that tag: true"},
		{"one that is", "D3", "- **D3** It has bitten people. `a/b.TestReal` (e2e)\n", ""},
		{"one that is and need not be", "D3", "- **D3** It has bitten people. `a/b.TestOne` (e2e)\n",
			"D3: a/b.TestOne is marked (e2e): true, and needs that tag: false"},
		{"nothing but a name", "D3", "- **D3** `a/b.TestOne`\n", "D3 says nothing"},
	} {
		got := strings.Join(problems(facts(page(func(n string) string {
			if n == tc.number {
				return tc.line
			}
			return ""
		})), func(string) folder { return tests }), "; ")
		if got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// Horizon's copies of the policy files are left alone: there is none of them among
// what operators are given, and they are told so.
func TestDocsNothingIsForHorizon(t *testing.T) {
	cinders := 0
	err := filepath.WalkDir("../infra", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		path := strings.ToLower(filepath.ToSlash(file))
		rule := strings.Contains(string(text), "/v1/backup?backup_id=") && strings.HasSuffix(path, ".yaml")
		switch {
		case strings.Contains(path, "horizon"):
			t.Errorf("%s is for Horizon", file)
		case rule && !strings.HasPrefix(path, "../infra/cinder/"):
			t.Errorf("%s asks the check, and is not Cinder's", file)
		case rule:
			cinders++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if cinders == 0 {
		t.Error("no policy file of Cinder's was found: nothing was looked at")
	}
	told, err := os.ReadFile("../infra/cinder/README.md")
	if err != nil || !strings.Contains(string(told), "## Not in Horizon's files") {
		t.Errorf("operators are not told to leave Horizon's files alone: %v", err)
	}
}

// The tests that these pages name exist.
func TestDocsReliability(t *testing.T) { docsNameTests(t, "reliability.md", 8) }
func TestDocsSecurity(t *testing.T)    { docsNameTests(t, "security.md", 40) }

func docsNameTests(t *testing.T, name string, least int) {
	t.Helper()
	page, err := os.ReadFile("../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	n, folders := 0, map[string]folder{}
	for _, quoted := range anyQuoted.FindAllStringSubmatch(string(page), -1) {
		named := testNamed.FindStringSubmatch(quoted[1])
		if named == nil {
			continue
		}
		n++
		if _, ok := folders[named[1]]; !ok {
			folders[named[1]] = read(t, named[1])
		}
		if _, ok := folders[named[1]].tests[named[2]]; !ok {
			t.Errorf("%s has no %s", named[1], named[2])
		}
	}
	if n < least {
		t.Errorf("%d tests are named, want more: is the page read rightly?", n)
	}
}
