// Package secrets marks secrets in tests, and finds the marks where no secret may be:
// in logs, metrics, answers, mails and the ledger, however they are written there.
package secrets

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Marks are secrets that can be found again. They may be used by several goroutines.
type Marks struct {
	mu  sync.Mutex
	all []mark
}

// A mark is one secret. What is looked for are parts of it that no encoding of text
// changes, so that it is found with anything around and between them.
type mark struct {
	what  string
	parts []string
}

// Special is between the two halves of a secret of [Marks.New]: what has to be escaped
// in a URL, in JSON, in HTML and in a shell.
const Special = `/+ %&"'<\@:?#=`

// New makes a secret that has every character which makes trouble.
func (m *Marks) New(what string) string { return m.make(what, Special) }

// Plain makes one of letters, digits and dashes, for where others are not allowed.
func (m *Marks) Plain(what string) string { return m.make(what, "-") }

func (m *Marks) make(what, between string) string {
	one, two := random(), random()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = append(m.all, mark{what, []string{one, two}})
	return one + between + two
}

// random is twenty letters and digits.
func random() string {
	b := make([]byte, 10)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

// Add marks a secret that was made by others, such as a token. Of a long one any piece
// of 24 bytes from its beginning, middle or end is looked for: logs shorten.
func (m *Marks) Add(what, secret string) {
	parts := []string{secret}
	if len(secret) > 64 {
		// Tokens of one key begin alike, with their version and time.
		parts = []string{secret[16:40], secret[len(secret)/2 : len(secret)/2+24], secret[len(secret)-28 : len(secret)-4]}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.ContainsFunc(m.all, func(k mark) bool { return slices.Equal(k.parts, parts) }) {
		m.all = append(m.all, mark{what, parts})
	}
}

// Count is how many secrets there are whose name begins so.
func (m *Marks) Count(what string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, k := range m.all {
		if strings.HasPrefix(k.what, what) {
			n++
		}
	}
	return n
}

// In says which secrets are in a text, with what is around them: as they are, escaped
// in any way, in base64 of either alphabet, in hexadecimal, and broken over lines as in
// a mail.
func (m *Marks) In(text string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []string
	texts := []string{text, strings.ReplaceAll(strings.ReplaceAll(text, "=\r\n", ""), "=\n", "")}
	texts = append(texts, strings.NewReplacer("\r", "", "\n", "").Replace(text))
	for _, k := range m.all {
		for _, written := range k.written() {
			for _, t := range texts {
				if i := strings.Index(t, written); i >= 0 {
					around := t[max(0, i-80):min(len(t), i+len(written)+40)]
					found = append(found, fmt.Sprintf("%s, as %q, in %q", k.what, written, around))
					break
				}
			}
		}
	}
	return found
}

// written are the ways in which the mark may be written.
func (k mark) written() []string {
	var out []string
	for _, part := range k.parts {
		out = append(out, part, hex.EncodeToString([]byte(part)), strings.ToUpper(part))
		// The end of base64 depends on what follows, its beginning on what goes before.
		for before := range 3 {
			encoded := base64.RawStdEncoding.EncodeToString(append(make([]byte, before), part...))
			skip := []int{0, 2, 3}[before]
			encoded = encoded[skip : len(encoded)-2]
			out = append(out, encoded, strings.NewReplacer("+", "-", "/", "_").Replace(encoded))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Nowhere fails the test where a secret is in the text.
func (m *Marks) Nowhere(t testing.TB, where, text string) {
	t.Helper()
	for _, leak := range m.In(text) {
		t.Errorf("%s: there is %s", where, leak)
	}
}

// Redis is everything in a Redis, keys and values of every type, a line each.
func Redis(t testing.TB, rdb redis.UniversalClient) string {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil && err != redis.Nil { // what is gone meanwhile is gone
			t.Fatal(err)
		}
	}
	var all strings.Builder
	say := func(key string, values ...any) { fmt.Fprintf(&all, "%s %v\n", key, values) }
	for cursor := uint64(0); ; {
		keys, next, err := rdb.Scan(ctx, cursor, "", 500).Result()
		must(err)
		for _, key := range keys {
			kind, err := rdb.Type(ctx, key).Result()
			must(err)
			switch kind {
			case "string":
				v, err := rdb.Get(ctx, key).Result()
				must(err)
				say(key, v)
			case "hash":
				v, err := rdb.HGetAll(ctx, key).Result()
				must(err)
				say(key, v)
			case "list":
				v, err := rdb.LRange(ctx, key, 0, -1).Result()
				must(err)
				say(key, v)
			case "set":
				v, err := rdb.SMembers(ctx, key).Result()
				must(err)
				say(key, v)
			case "zset":
				v, err := rdb.ZRangeWithScores(ctx, key, 0, -1).Result()
				must(err)
				say(key, v)
			case "stream":
				v, err := rdb.XRange(ctx, key, "-", "+").Result()
				must(err)
				say(key, v)
			case "none":
			default:
				t.Fatalf("Redis holds a %s, which nobody can look into here: %s", kind, key)
			}
		}
		if cursor = next; cursor == 0 {
			return all.String()
		}
	}
}
