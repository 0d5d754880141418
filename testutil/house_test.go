package testutil

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Who may know whom. The first line whose folder matches counts. "std" is the
// standard library, "modules" are those of others; a folder ending in / means
// everything below it. Tests and testutil may import anything; nothing of the product,
// mains included, may import testutil.
var house = []struct{ dir, may, why string }{
	{"functions/backup", "cmp errors fmt hash/fnv maps slices strconv strings time unicode github.com/robfig/cron/v3",
		"rules are arithmetic: no clock, no network, no storage"},
	{"functions/keep", "cmp fmt maps slices strconv strings time functions/backup",
		"what stays is arithmetic on the vocabulary, which knows nothing of it"},
	{"events", "std", "everyone imports events, so it imports no one"},
	{"events/wire", "std", "what the decoders share is the form of a message, and none of its meaning"},
	{"events/", "std events events/wire", "decoders know the wire and nothing else"},
	{"functions", "std events events/ functions/ runtime", "the catalogue ties functions to what sets them off"},
	{"functions/report", "std events events/ functions/backup functions/keep functions/report/words",
		"the words of a digest are a part of it, kept apart from its facts and from the sending"},
	{"functions/plan", "std functions/backup functions/keep functions/dispatch",
		"a plan is the functions' own decisions about what it has read itself"},
	{"functions/", "std events events/ functions/backup functions/keep",
		"a function knows its event and the rules; all else is an interface it declares"},
	{"runtime", "std events", "the runtime carries events; it has never heard of backups"},
	{"runtime/ledger", "std functions/backup modules",
		"the ways out speak the vocabulary of the rules, and know no function"},
	{"runtime/openstack", "std functions/backup modules", "likewise"},
	{"runtime/mail", "std functions/backup modules", "likewise"},
	{"runtime/ceph", "std functions/backup modules", "likewise"},
	{"runtime/config", "std functions/backup modules",
		"settings are checked in the words of the rules, and know no function"},
	{"runtime/process", "std events events/ functions functions/ runtime runtime/ modules",
		"what the mains share ties settings, connections and functions together"},
	{"runtime/cmd/function", "std functions functions/backup runtime runtime/ modules", "a container serves one function"},
	{"local", "std events events/ functions functions/ runtime runtime/ modules",
		"the operator's binary knows the product, and nothing of tests"},
	{"runtime/", "std events events/oslo runtime modules", "the ways in carry events, as the runtime does"},
}

const module = "staffeln"

// Words that say nothing of what a package is for.
var empty = []string{"util", "utils", "common", "types", "models", "helpers", "misc", "internal"}

// A source is one Go file of the product: neither a test's nor testutil's.
type source struct {
	file string // from here
	dir  string // from the module's root
	*ast.File
}

// sources reads the files itself instead of asking the go command, so that the
// test cache notices when one changes.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && d.Name() != "..") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			return err
		}
		dir := path.Dir(strings.TrimPrefix(filepath.ToSlash(file), "../"))
		if dir == "testutil" || strings.HasPrefix(dir, "testutil/") {
			return nil
		}
		all = append(all, source{file, dir, parsed})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("only %d files found", len(all))
	}
	return all
}

func TestHouse(t *testing.T) {
	for _, src := range sources(t) {
		i := slices.IndexFunc(house, func(r struct{ dir, may, why string }) bool { return under(r.dir, src.dir) })
		if i < 0 {
			t.Errorf("%s: no rule says whom %s may know", src.file, src.dir)
			continue
		}
		for _, spec := range src.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if !allowed(house[i].may, imported) {
				t.Errorf("%s imports %s: %s", src.file, imported, house[i].why)
			}
		}
	}
}

// The simulated cloud is one state and three services, which know the state and not each
// other.
func TestHouseOfTheSimulatedCloud(t *testing.T) {
	const root = "testutil/simcloud"
	may := map[string]string{
		"oslopolicy": "std",
		"model":      "std " + root + "/oslopolicy",
		"api":        "std " + root + "/model",
		"keystone":   "std " + root + "/model " + root + "/api",
		"nova":       "std " + root + "/model " + root + "/api",
		"cinder":     "std " + root + "/model " + root + "/api " + root + "/oslopolicy",
	}
	for dir, imports := range may {
		files, err := filepath.Glob("simcloud/" + dir + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("no files in %s: %v", dir, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, spec := range parsed.Imports {
				imported, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					t.Fatal(err)
				}
				if !allowed(imports, imported) {
					t.Errorf("%s imports %s", file, imported)
				}
			}
		}
	}
}

// The event's time is the time: a function that looks at the clock decides
// otherwise when the event comes again.
func TestNoClockInFunctions(t *testing.T) {
	for _, src := range sources(t) {
		if src.dir != "functions" && !strings.HasPrefix(src.dir, "functions/") {
			continue
		}
		ast.Inspect(src.File, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "Tick"},
				sel.Sel.Name) {
				t.Errorf("%s uses time.%s: a function takes the time from its event", src.file, sel.Sel.Name)
			}
			return true
		})
	}
}

// The mark of an automated backup is metadata, which any tenant can write. Who made a
// backup is decided in one place.
func TestHouseLooksAtTheMarkInOnePlace(t *testing.T) {
	may := map[string]string{
		"../functions/backup/metadata.go": "writes it",
		"../functions/backup/origin.go":   "decides whose a backup is",
		"../functions/backup/protect.go":  "rules on what Cinder's policy check shows, maker included",
		"../functions/policy/body.go":     "reads it from there",
	}
	seen := map[string]bool{}
	for _, src := range sources(t) {
		ast.Inspect(src.File, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && (id.Name == "MetaAutomated" || id.Name == "marked") {
				seen[filepath.ToSlash(src.file)] = true
			}
			return true
		})
	}
	for file := range seen {
		if may[file] == "" {
			t.Errorf("%s looks at the mark alone: ask CinderBackup.Ours", file)
		}
	}
	if len(seen) != len(may) {
		t.Errorf("it is looked at in %d files, want %d", len(seen), len(may))
	}
}

// The folders at the top are all there are: each has one meaning, and a new one needs a
// reason.
func TestHouseHasTheseRooms(t *testing.T) {
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"docs", "events", "functions", "infra", "local", "runtime", "testutil"}
	var got []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && e.Name() != "bin" { // bin is what make image builds
			got = append(got, e.Name())
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("folders at the top: %q, want %q", got, want)
	}
}

func TestPackageNames(t *testing.T) {
	for _, src := range sources(t) {
		for part := range strings.SplitSeq(src.dir, "/") {
			if slices.Contains(empty, part) {
				t.Errorf("%s: %q does not say what the package is for", src.file, part)
			}
		}
		if base := path.Base(src.dir); src.Name.Name != base && src.Name.Name != "main" {
			t.Errorf("%s: package %s in folder %s", src.file, src.Name.Name, base)
		}
	}
}

// The rules themselves say what they seem to.
func TestAllowed(t *testing.T) {
	for _, tc := range []struct {
		may, imported string
		want          bool
	}{
		{"std", "net/http", true},
		{"std", module + "/events", false}, // no dot in the name, and yet not the standard library's
		{"std", "github.com/x/y", false},
		{"modules", "github.com/x/y", true},
		{"modules", "net/http", false},
		{"events", module + "/events", true},
		{"events", module + "/events/oslo", false},
		{"events/", module + "/events/oslo", true},
		{"events/", module + "/events", false},
		{"fmt strings", "strings", true},
		{"fmt strings", "os", false},
		{"std modules runtime", module + "/testutil", false},
	} {
		if got := allowed(tc.may, tc.imported); got != tc.want {
			t.Errorf("%q may import %s: %v", tc.may, tc.imported, got)
		}
	}
}

func under(pattern, dir string) bool {
	if below, ok := strings.CutSuffix(pattern, "/"); ok {
		return strings.HasPrefix(dir, below+"/")
	}
	return dir == pattern
}

func allowed(may, imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	ours, isOurs := strings.CutPrefix(imported, module+"/")
	for pattern := range strings.FieldsSeq(may) {
		switch {
		case isOurs && under(pattern, ours),
			!isOurs && pattern == imported,
			!isOurs && pattern == "std" && !strings.Contains(first, "."),
			!isOurs && pattern == "modules" && strings.Contains(first, "."):
			return true
		}
	}
	return false
}
