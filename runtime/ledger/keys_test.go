package ledger

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// documented is the table of keys in docs/redis.md: key as a pattern, and type.
func documented(t tester) map[string]string {
	t.Helper()
	doc, err := os.ReadFile("../../docs/redis.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (\\w+) \\| [^|]+ \\| [^|]+ \\| [^|]+ \\|$")
	types := map[string]string{}
	for _, m := range row.FindAllStringSubmatch(string(doc), -1) {
		if types[m[1]] != "" {
			t.Errorf("docs/redis.md lists %s twice", m[1])
		}
		types[m[1]] = m[2]
	}
	if len(types) == 0 {
		t.Fatal("docs/redis.md lists no key: want rows of key, type, lifetime, writer, what its loss means")
	}
	return types
}

// built is every key that keys.go can build, as the manual writes it.
func built() []string {
	k := keys{prefix: "staffeln", shards: 16}
	s := shard{"staffeln:{SHARD}:"}
	return []string{
		k.claim("NAME"), k.layout(), k.mark("NAME"), k.asked(), k.totals(), k.release(), "rate:" + pace(), "rate:" + limit("NAME"),
		k.leases(), k.holders(), k.strain(), k.pause(),
		s.ticket(), s.reconciled(), s.servers(), s.withdrawn(), s.volumes(), s.due(), s.runs(), s.open(),
		s.watching(), s.watched(), s.tracked(), s.stamping(), s.stamps(), s.discarding(), s.discards(),
		s.records(), s.foreign(), s.backups(), s.holding("PROJECT"), s.ranks("PROJECT"), s.finished("PROJECT"),
		s.retention(), s.outlook(), s.removals(), s.removed("PROJECT"),
		s.reports(), s.cut("PROJECT"), s.cutRemoved("PROJECT"), s.projects(), s.missing(),
	}
}

func TestTheManualListsEveryKey(t *testing.T) {
	doc := documented(t)
	keys := built()
	for _, key := range keys {
		if doc[key] == "" {
			t.Errorf("docs/redis.md does not list %s", key)
		}
	}
	for key := range doc {
		if !slices.Contains(keys, key) {
			t.Errorf("docs/redis.md lists %s, which is not built", key)
		}
	}
}

func TestEveryFunctionOfKeysIsListed(t *testing.T) {
	src, err := os.ReadFile("keys.go")
	if err != nil {
		t.Fatal(err)
	}
	n := len(regexp.MustCompile(`(?m)^func (\([ks] \w+\) )?\w+\(.*\) string {`).FindAllString(string(src), -1))
	const helpers = 1 // admission
	if n-helpers != len(built()) {
		t.Errorf("keys.go builds %d keys, this test knows %d", n-helpers, len(built()))
	}
}

// keysAreDocumented looks at what is really in Redis: every key is in the manual,
// with its type, and only those that may end by themselves do.
func keysAreDocumented(t tester, w *world) {
	t.Helper()
	doc := documented(t)
	var patterns []*regexp.Regexp
	var names []string
	for key := range doc {
		p := regexp.QuoteMeta(key)
		p = strings.ReplaceAll(p, `\{SHARD\}`, `\{\d\d\}`)
		for _, name := range []string{"NAME", "PROJECT"} {
			p = strings.ReplaceAll(p, name, `.+`)
		}
		patterns = append(patterns, regexp.MustCompile("^"+p+"$"))
		names = append(names, key)
	}
	look := func(ctx context.Context, rdb *redis.Client) error {
		all, err := rdb.Keys(ctx, "*").Result()
		if err != nil {
			return err
		}
		for _, key := range all {
			i := slices.IndexFunc(patterns, func(p *regexp.Regexp) bool { return p.MatchString(key) })
			if i < 0 {
				t.Errorf("Redis holds %s, which the manual does not list", key)
				continue
			}
			may := strings.Contains(key, ":claim:") || strings.HasPrefix(key, "rate:")
			typ := rdb.Type(ctx, key).Val()
			if may && typ == "none" { // its time was up between the two questions
				continue
			}
			if typ != doc[names[i]] {
				t.Errorf("%s is a %s, the manual says %s", key, typ, doc[names[i]])
			}
			if ends := rdb.PTTL(ctx, key).Val() >= 0; ends && !may {
				t.Errorf("%s ends by itself", key)
			}
		}
		return nil
	}
	var err error
	if c, ok := w.rdb.(*redis.ClusterClient); ok {
		err = c.ForEachMaster(w.ctx, look)
	} else {
		err = look(w.ctx, w.rdb.(*redis.Client))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A script that builds a key by itself would reach into another slot of a cluster.
func TestScriptsUseTheKeysTheyAreGiven(t *testing.T) {
	files, err := lua.ReadDir("lua")
	if err != nil {
		t.Fatal(err)
	}
	own := regexp.MustCompile(`redis\.p?call\('\w+', *['"].*|redis\.p?call\('\w+', *[^,)]*\.\..*`)
	for _, f := range files {
		src, err := lua.ReadFile("lua/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range own.FindAllString(string(src), -1) {
			t.Errorf("%s: %s", f.Name(), line)
		}
	}
}
