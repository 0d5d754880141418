package main

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// A script is a file of Lua, in tokens.
type script struct {
	file   string // from the module's root
	src    string
	tokens []luaToken
}

// A luaToken is a word of Lua's: a name, a number, a string with its quotes, or an
// operator.
type luaToken struct {
	text     string
	at       int // where in the source
	line     int
	function string
}

// luaTokens parts a source; comments and spaces are left out.
func luaTokens(src string) []luaToken {
	var all []luaToken
	line := 1
	for i := 0; i < len(src); {
		c := src[i]
		end := i + 1
		switch {
		case c == '\n':
			line++
			i++
			continue
		case c == ' ' || c == '\t':
			i++
			continue
		case strings.HasPrefix(src[i:], "--"):
			for i < len(src) && src[i] != '\n' {
				i++
			}
			continue
		case c == '\'' || c == '"':
			for src[end] != c {
				if src[end] == '\\' {
					end++
				}
				end++
			}
			end++
		case letter(c):
			for end < len(src) && (letter(src[end]) || digit(src[end])) {
				end++
			}
		case digit(c):
			for end < len(src) && (digit(src[end]) || src[end] == '.') {
				end++
			}
		default:
			for _, op := range []string{"...", "..", "==", "~=", "<=", ">="} {
				if strings.HasPrefix(src[i:], op) {
					end = i + len(op)
					break
				}
			}
		}
		all = append(all, luaToken{text: src[i:end], at: i, line: line})
		i = end
	}
	return all
}

func letter(c byte) bool { return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func digit(c byte) bool  { return c >= '0' && c <= '9' }

func readScript(file string) (script, error) {
	src, err := os.ReadFile(file)
	if err != nil {
		return script{}, err
	}
	s := script{file: filepath.ToSlash(file), src: string(src), tokens: luaTokens(string(src))}
	whole := strings.TrimSuffix(filepath.Base(file), ".lua")
	in, depth := whole, 0
	for i, t := range s.tokens {
		switch t.text {
		case "function":
			if depth == 0 && i+1 < len(s.tokens) {
				in = s.tokens[i+1].text
			}
			depth++
		case "if", "for", "while", "do":
			if t.text != "do" {
				depth++
			}
		}
		s.tokens[i].function = in
		if t.text == "end" {
			if depth--; depth == 0 {
				in = whole
			}
		}
	}
	return s, nil
}

// A luaMutant is a mutant with the whole source of its script.
type luaMutant struct {
	mutant
	src string
}

// mutants are all that this tool knows of a script.
func (s script) mutants() []luaMutant {
	var all []luaMutant
	change := func(from, to int, with, was, becomes string) {
		t := s.tokens[from]
		end := s.tokens[to]
		src := s.src[:t.at] + with + s.src[end.at+len(end.text):]
		all = append(all, luaMutant{mutant{File: s.file, Line: t.line, Function: t.function,
			Change: short(was) + " → " + short(becomes)}, src})
	}
	text := func(from, to int) string {
		return s.src[s.tokens[from].at : s.tokens[to].at+len(s.tokens[to].text)]
	}
	// one changes a single token; it is told with what stands around it in its line.
	one := func(i int, with string) {
		const around = 40
		t := s.tokens[i]
		end := t.at + len(t.text)
		before := s.src[strings.LastIndex(s.src[:t.at], "\n")+1 : t.at]
		after, _, _ := strings.Cut(s.src[end:], "\n")
		if r := []rune(before); len(r) > around {
			before = "…" + string(r[len(r)-around:])
		}
		if r := []rune(after); len(r) > around {
			after = string(r[:around]) + "…"
		}
		change(i, i, with, before+t.text+after, before+with+after)
	}
	for i, t := range s.tokens {
		switch {
		case t.text == "if" || t.text == "elseif" || t.text == "while":
			to := i + 1
			for s.tokens[to+1].text != "then" && s.tokens[to+1].text != "do" {
				to++
			}
			was := t.text + " " + text(i+1, to)
			if t.text != "while" {
				change(i+1, to, "true", was, t.text+" true")
			}
			change(i+1, to, "false", was, t.text+" false")
		case luaSwaps[t.text] != "":
			if (t.text == "==" || t.text == "~=") && s.isWholeCondition(i) {
				continue // as always and never
			}
			one(i, luaSwaps[t.text])
		case t.text == "+" || t.text == "-" && s.tokens[i+1].text == "0":
			if s.tokens[i+1].text != "0" { // which makes a number of a text
				one(i, "-")
			}
		case t.text == "-" && i > 0 && (s.tokens[i-1].text == ")" || letter(s.tokens[i-1].text[0])) &&
			s.tokens[i-1].text != "return":
			one(i, "+")
		case t.text == "not":
			if s.tokens[i-1].text == "if" && s.isWholeCondition(i) {
				continue
			}
			one(i, "")
		case t.text == "true":
			one(i, "false")
		case t.text == "false":
			one(i, "true")
		case digit(t.text[0]):
			if i > 1 && s.tokens[i-1].text == "[" && (s.tokens[i-2].text == "KEYS" || s.tokens[i-2].text == "ARGV") {
				continue // which is which is no rule
			}
			if i+2 < len(s.tokens) && s.tokens[i+1].text == "," && s.tokens[i+2].text == "true" {
				continue // string.find begins at the beginning from 0 as well as from 1
			}
			n, _ := strconv.Atoi(t.text)
			if n == 1 {
				one(i, "0")
			} else {
				one(i, strconv.Itoa(n+1))
			}
		case t.text[0] == '\'':
			if s.isCommand(i) || strings.ContainsAny(t.text, "%^") {
				continue // a command or a pattern that is wrong is an error at once
			}
			if n, err := strconv.Atoi(strings.Trim(t.text, "'")); err == nil {
				one(i, "'"+strconv.Itoa(n+1)+"'")
				continue
			}
			one(i, t.text[:len(t.text)-1]+"~'")
		}
		if i == 0 || s.tokens[i-1].line < t.line {
			if to, ok := s.statement(i); ok {
				change(i, to, "", text(i, to), "nothing")
			}
		}
	}
	return all
}

var luaSwaps = map[string]string{"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "~=", "~=": "==", "and": "or",
	"or": "and"}

// isWholeCondition says that the token stands in an if that asks nothing else.
func (s script) isWholeCondition(i int) bool {
	for j := i - 1; ; j-- {
		if t := s.tokens[j].text; t == "if" || t == "elseif" {
			break
		} else if j == 0 || s.tokens[j].line < s.tokens[i].line || t == "and" || t == "or" || t == "then" {
			return false
		}
	}
	for j := i + 1; j < len(s.tokens); j++ {
		switch s.tokens[j].text {
		case "then":
			return true
		case "and", "or":
			return false
		}
	}
	return false
}

// isCommand says that a string is the name of a Redis command.
func (s script) isCommand(i int) bool {
	return i > 1 && s.tokens[i-1].text == "(" && s.tokens[i-2].text == "call"
}

// statement finds the end of the simple statement that begins at a line's first
// token: a call, an assignment or a jump.
func (s script) statement(i int) (to int, ok bool) {
	switch s.tokens[i].text {
	case "local", "if", "elseif", "else", "end", "for", "while", "function", "or", "and", "{", "}", ")":
		return 0, false
	case "return", "break":
	default:
		if !letter(s.tokens[i].text[0]) || i > 0 && continues(s.tokens[i-1].text) {
			return 0, false
		}
	}
	depth := 0
	for to = i; to < len(s.tokens); to++ {
		switch s.tokens[to].text {
		case "(", "{", "[":
			depth++
		case ")", "}", "]":
			depth--
		case "then", "do", "function":
			return 0, false
		}
		if to+1 == len(s.tokens) {
			break
		}
		next := s.tokens[to+1]
		if depth == 0 && next.line > s.tokens[to].line && !continues(s.tokens[to].text) && !continues(next.text) {
			break
		}
	}
	if to == len(s.tokens) {
		to--
	}
	if s.tokens[i].text == "return" && to+1 == len(s.tokens) {
		return 0, false
	}
	return to, depth == 0
}

// continues says that a statement does not end here.
func continues(token string) bool {
	return slices.Contains([]string{"..", ",", "=", "+", "-", "and", "or", "(", "{", "not"}, token)
}

// understood leaves out the mutants that are no Lua.
func understood(ctx context.Context, all []luaMutant) ([]luaMutant, error) {
	server := miniredis.NewMiniRedis()
	if err := server.StartAddr("127.0.0.1:0"); err != nil {
		return nil, err
	}
	defer server.Close()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	var kept []luaMutant
	for _, m := range all {
		if err := rdb.ScriptLoad(ctx, m.src).Err(); err == nil {
			kept = append(kept, m)
		}
	}
	return kept, nil
}

// ledgerDir is the package of the scripts.
const ledgerDir = "runtime/ledger"

// home of the tests of the scripts: one kind of Redis is enough.
const home = "one_Redis"

// The file that is put beside script.go: where scripts are read from, and who tells
// of their use.
//
//go:embed folder.go.txt
var scriptFolder string

// scriptUsed stands in a line of output before the parts of a script that was used.
const scriptUsed = "STAFFELN-SCRIPT "

// scriptsFromFolder lays over the ledger's sources that scripts are read from the
// folder in STAFFELN_MUTANT_LUA instead of being built in.
func scriptsFromFolder(out string) (map[string]string, error) {
	const embedded = "//go:embed lua/*.lua\nvar lua embed.FS"
	names, err := filepath.Glob(ledgerDir + "/*.go")
	if err != nil {
		return nil, err
	}
	changed := map[string]string{ledgerDir + "/mutant_folder.go": scriptFolder}
	embeds := false
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		src := string(b)
		if strings.HasSuffix(name, "_test.go") || !strings.Contains(src, "*redis.Script") {
			continue
		}
		if strings.Contains(src, embedded) {
			embeds = true
			src = strings.Replace(src, embedded, `var lua = mutantFolder{os.Getenv("STAFFELN_MUTANT_LUA")}`, 1)
			src = strings.Replace(src, "\t\"embed\"\n", "\t\"os\"\n", 1)
			src = strings.ReplaceAll(src, "redis.NewScript(", "newMutantScript(name, shared, ")
		}
		changed[name] = strings.ReplaceAll(src, "*redis.Script", "*mutantScript") + "\nvar _ *redis.Script\n"
	}
	if !embeds {
		return nil, fmt.Errorf("%s does not embed its scripts as it did: this tool must learn how", ledgerDir)
	}
	overlay := map[string]string{}
	for name, src := range changed {
		whole, err := filepath.Abs(name)
		if err != nil {
			return nil, err
		}
		overlay[whole] = filepath.Join(out, "ledger_"+filepath.Base(name))
		if err := os.WriteFile(overlay[whole], []byte(src), 0o600); err != nil {
			return nil, err
		}
	}
	return overlay, nil
}

// A folder holds the scripts as one mutant has them.
type folder struct {
	dir     string
	scripts []script
}

func newFolder(dir string, scripts []script) (folder, error) {
	f := folder{dir, scripts}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return f, err
	}
	for _, s := range scripts {
		if err := f.put(s.file, s.src); err != nil {
			return f, err
		}
	}
	return f, nil
}

func (f folder) put(file, src string) error {
	return os.WriteFile(filepath.Join(f.dir, filepath.Base(file)), []byte(src), 0o600)
}

// with does something while one script is another.
func (f folder) with(file, src string, do func()) error {
	i := slices.IndexFunc(f.scripts, func(s script) bool { return s.file == file })
	if err := f.put(file, src); err != nil {
		return err
	}
	do()
	return f.put(file, f.scripts[i].src)
}

// The tests of the scripts: the contract, and the properties where it notices nothing.
var (
	contract   = []string{"TestContract/" + home, "TestContractAtItsEdges/" + home}
	properties = []string{"TestWhateverHappens/" + home, "TestEveryRunIsToldOfOnce/" + home}
)

// users finds the parts of the contract that use each script.
func users(ctx context.Context, s *suite, f folder) (map[string][]string, error) {
	_, said, err := s.run(ctx, contract, time.Minute, []string{"-test.v"}, "STAFFELN_MUTANT_LUA="+f.dir,
		"STAFFELN_MUTANTS_REACHED=1")
	if err != nil {
		return nil, fmt.Errorf("the contract fails without any mutant: %w\n%s", err, said)
	}
	of := map[string][]string{}
	now := ""
	for line := range strings.Lines(said) {
		if name, ok := strings.CutPrefix(line, "=== RUN"); ok {
			now = strings.TrimSpace(name)
			continue
		}
		// Something else may stand before it in the line.
		if _, used, ok := strings.Cut(line, scriptUsed); ok {
			for part := range strings.FieldsSeq(used) {
				file := ledgerDir + "/lua/" + part + ".lua"
				if !slices.Contains(of[file], now) {
					of[file] = append(of[file], now)
				}
			}
		}
	}
	return of, nil
}

// noticesScript says by which test a mutant of a script is noticed.
func noticesScript(ctx context.Context, s *suite, f folder, users map[string][]string, m luaMutant) (by string,
	err error) {
	env := "STAFFELN_MUTANT_LUA=" + f.dir
	err = f.with(m.File, m.src, func() {
		// All of a long list of names is quicker said by the whole.
		names := users[m.File]
		if len(names) > 60 || len(names) == 0 {
			names = contract
		}
		if _, said, err := s.run(ctx, names, 10*time.Second, nil, env); err != nil {
			by = cmp.Or(lastFailure(said), "one, by its end")
			return
		}
		for _, name := range properties {
			if _, _, err := s.run(ctx, []string{name}, 30*time.Second, nil, env); err != nil {
				by = name
				return
			}
		}
	})
	return by, err
}
