package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The file that is put beside the mutated ones: what their switches do.
//
//go:embed switches.go.txt
var switches string

// A rewriter turns a package into one that carries all its mutants.
type rewriter struct {
	fset    *token.FileSet
	info    *types.Info
	pkg     *types.Package
	mutants []mutant

	// of the file that is being rewritten
	file     string // from the module's root
	src      []byte
	function string
	edits    []edit
}

// An edit puts text in place of what lies between two offsets; between equal ones
// it is put in.
type edit struct {
	from, to int
	text     string
	closes   bool
	n        int
}

// rewrite reads the package in dir and writes it anew into out, mutants and all.
// What it answers goes into a file for go test -overlay.
func rewrite(dir, out string) ([]mutant, map[string]string, error) {
	r := &rewriter{fset: token.NewFileSet(), info: &types.Info{
		Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}}
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, nil, err
	}
	var files []*ast.File
	var sources [][]byte
	names = slices.DeleteFunc(names, func(n string) bool { return strings.HasSuffix(n, "_test.go") })
	for _, name := range names {
		src, err := os.ReadFile(name)
		if err != nil {
			return nil, nil, err
		}
		f, err := parser.ParseFile(r.fset, name, src, parser.SkipObjectResolution)
		if err != nil {
			return nil, nil, err
		}
		files, sources = append(files, f), append(sources, src)
	}
	exports, err := exportsFor(dir)
	if err != nil {
		return nil, nil, err
	}
	conf := types.Config{Importer: importer.ForCompiler(r.fset, "gc", exports)}
	if r.pkg, err = conf.Check(dir, r.fset, files, r.info); err != nil {
		return nil, nil, err
	}
	overlay := map[string]string{}
	put := func(name string, text []byte) error {
		at := filepath.Join(out, filepath.Base(name))
		overlay[name] = at
		return os.WriteFile(at, text, 0o600)
	}
	for i, f := range files {
		r.file, r.src, r.edits = filepath.ToSlash(names[i]), sources[i], nil
		r.walkFile(f)
		whole, err := filepath.Abs(names[i])
		if err != nil {
			return nil, nil, err
		}
		if err := put(whole, r.apply()); err != nil {
			return nil, nil, err
		}
	}
	beside, err := filepath.Abs(filepath.Join(dir, "mutant_switches.go"))
	if err != nil {
		return nil, nil, err
	}
	numberRepeats(r.mutants)
	return r.mutants, overlay, put(beside, []byte(strings.Replace(switches, "PACKAGE", r.pkg.Name(), 1)))
}

// exportsFor asks the go command where the compiled packages are that dir imports.
func exportsFor(dir string) (importer.Lookup, error) {
	out, err := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Export", "./"+dir).Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	at := map[string]string{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct{ ImportPath, Export string }
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
		at[p.ImportPath] = p.Export
	}
	return func(path string) (io.ReadCloser, error) { return os.Open(at[path]) }, nil
}

func (r *rewriter) offset(p token.Pos) int { return r.fset.Position(p).Offset }

func (r *rewriter) text(n ast.Node) string { return string(r.src[r.offset(n.Pos()):r.offset(n.End())]) }

// mutant notes one and answers its number.
func (r *rewriter) mutant(at ast.Node, becomes string) int {
	return r.mutantOf(at, r.text(at), becomes)
}

func (r *rewriter) mutantOf(at ast.Node, was, becomes string) int {
	r.mutants = append(r.mutants, mutant{ID: len(r.mutants) + 1, File: r.file, Line: r.fset.Position(at.Pos()).Line,
		Function: r.function, Change: short(was) + " → " + short(becomes)})
	return len(r.mutants)
}

// wrap puts text before and after a node; of two around the same node the first
// is outside.
func (r *rewriter) wrap(n ast.Node, before, after string) {
	r.edits = append(r.edits,
		edit{from: r.offset(n.Pos()), to: r.offset(n.Pos()), text: before, n: len(r.edits)},
		edit{from: r.offset(n.End()), to: r.offset(n.End()), text: after, closes: true, n: len(r.edits)})
}

func (r *rewriter) replace(from, to token.Pos, text string) {
	r.edits = append(r.edits, edit{from: r.offset(from), to: r.offset(to), text: text, n: len(r.edits)})
}

// call makes a node the last argument of a switch.
func (r *rewriter) call(n ast.Node, name string, ids ...int) {
	r.wrap(n, opening(name, ids...), ")")
}

// opening is the beginning of a call of a switch.
func opening(name string, ids ...int) string {
	var b strings.Builder
	b.WriteString(name + "(")
	for _, id := range ids {
		b.WriteString(strconv.Itoa(id) + ", ")
	}
	return b.String()
}

// apply carries out the edits. What ends somewhere ends before what begins there.
func (r *rewriter) apply() []byte {
	slices.SortStableFunc(r.edits, func(a, b edit) int {
		switch {
		case a.from != b.from:
			return a.from - b.from
		case a.closes && b.closes:
			return b.n - a.n
		case a.closes:
			return -1
		case b.closes:
			return 1
		}
		return a.n - b.n
	})
	var out []byte
	at := 0
	for _, e := range r.edits {
		out = append(append(out, r.src[at:e.from]...), e.text...)
		at = e.to
	}
	return append(out, r.src[at:]...)
}

func (r *rewriter) walkFile(f *ast.File) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			r.function = d.Name.Name
			if d.Recv != nil {
				of := d.Recv.List[0].Type
				if star, ok := of.(*ast.StarExpr); ok {
					of = star.X
				}
				r.function = r.text(of) + "." + r.function
			}
			if d.Body != nil {
				r.body(d.Type, d.Body)
			}
		case *ast.GenDecl:
			if d.Tok != token.VAR {
				continue
			}
			for _, s := range d.Specs {
				v := s.(*ast.ValueSpec)
				r.function = "var " + v.Names[0].Name
				for _, e := range v.Values {
					r.expr(e)
				}
			}
		}
	}
}

// body walks a function. One that has something to return, and whose last return is
// not carried out, panics: what the compiler wants to see is a last statement.
func (r *rewriter) body(t *ast.FuncType, b *ast.BlockStmt) {
	w := &walker{rewriter: r}
	if t.Results != nil {
		for _, field := range t.Results.List {
			for range max(len(field.Names), 1) {
				w.results = append(w.results, r.info.TypeOf(field.Type))
			}
		}
		r.replace(b.Rbrace, b.Rbrace, `; panic("a mutant has no result") `)
	}
	w.block(b.List, true)
}

// expr walks an expression that is in no function, or of which that does not matter.
func (r *rewriter) expr(e ast.Expr) { (&walker{rewriter: r}).expr(e, false) }

// A walker walks one function.
type walker struct {
	*rewriter
	results []types.Type
}

// block walks statements; last says that the function ends with them.
func (w *walker) block(list []ast.Stmt, last bool) {
	for i, s := range list {
		w.stmt(s, len(list) == 1, last && i == len(list)-1)
	}
}

// drop makes a statement one that can be left out.
func (w *walker) drop(s ast.Stmt) {
	id := w.mutant(s, "nothing")
	w.wrap(s, fmt.Sprintf("if !mutantIs(%d) { ", id), " }")
}

// stmt walks a statement. alone says that it is the only one of its block: whether
// it is left out or the block is comes to the same, where the block is an if's or a
// loop's.
func (w *walker) stmt(s ast.Stmt, alone, last bool) {
	switch s := s.(type) {
	case nil:
	case *ast.BlockStmt:
		w.block(s.List, last)
	case *ast.ExprStmt:
		if !alone {
			w.drop(s)
		}
		w.expr(s.X, false)
	case *ast.IncDecStmt:
		if !alone {
			w.drop(s)
		}
		w.expr(s.X, false)
	case *ast.AssignStmt:
		if s.Tok != token.DEFINE && !alone && !blank(s.Lhs) {
			w.drop(s)
		}
		for _, e := range s.Lhs {
			if s.Tok != token.DEFINE {
				w.expr(e, false)
			}
		}
		for _, e := range s.Rhs {
			if (s.Tok == token.ADD_ASSIGN || s.Tok == token.SUB_ASSIGN) && w.isNumber(e) {
				becomes := "-="
				if s.Tok == token.SUB_ASSIGN {
					becomes = "+="
				}
				w.wrap(e, opening("mutantNegative", w.mutantOf(s, s.Tok.String()+" "+w.text(e), becomes+" "+w.text(e)))+w.typeOf(e)+"(", "))")
			}
			w.value(e)
		}
	case *ast.ReturnStmt:
		if !alone && !last {
			w.drop(s)
		}
		for i, e := range s.Results {
			if len(s.Results) == len(w.results) {
				w.result(e, w.results[i])
			}
			w.value(e)
		}
	case *ast.BranchStmt:
		if !alone && s.Tok != token.FALLTHROUGH && s.Tok != token.GOTO {
			w.drop(s)
		}
	case *ast.IfStmt:
		w.inner(s.Init)
		w.condition(s.Cond)
		w.within(s.Body)
		if s.Else != nil {
			if b, ok := s.Else.(*ast.BlockStmt); ok {
				// Here nothing else leaves the only statement out.
				w.branch(b.List)
			} else {
				w.stmt(s.Else, true, false)
			}
		}
	case *ast.ForStmt:
		w.inner(s.Init)
		if s.Cond != nil {
			w.call(s.Cond, "mutantBool", 0, w.mutantOf(s.Cond, "for "+w.text(s.Cond), "for false"))
			w.expr(s.Cond, true)
		}
		w.inner(s.Post)
		w.within(s.Body)
	case *ast.RangeStmt:
		if len(s.Body.List) > 1 {
			id := w.mutantOf(s, "for range "+w.text(s.X), "nothing")
			w.wrap(s, fmt.Sprintf("if !mutantIs(%d) { ", id), " }")
		}
		w.expr(s.X, false)
		w.within(s.Body)
	case *ast.SwitchStmt:
		w.inner(s.Init)
		if s.Tag != nil {
			w.expr(s.Tag, false)
		}
		for _, c := range s.Body.List {
			c := c.(*ast.CaseClause)
			for _, e := range c.List {
				w.clause(s, e)
			}
			w.cases(c.Body, last)
		}
	case *ast.TypeSwitchStmt:
		for _, c := range s.Body.List {
			w.cases(c.(*ast.CaseClause).Body, last)
		}
	case *ast.LabeledStmt:
		w.stmt(s.Stmt, true, last)
	case *ast.DeclStmt:
		if d := s.Decl.(*ast.GenDecl); d.Tok == token.VAR {
			for _, spec := range d.Specs {
				for _, e := range spec.(*ast.ValueSpec).Values {
					w.value(e)
				}
			}
		}
	case *ast.DeferStmt:
		w.expr(s.Call, false)
	default:
		panic(fmt.Sprintf("%s: no mutants are known for a %T", w.fset.Position(s.Pos()), s))
	}
}

// inner walks a statement that is a part of another.
func (w *walker) inner(s ast.Stmt) {
	switch s := s.(type) {
	case *ast.AssignStmt:
		for _, e := range s.Rhs {
			w.value(e)
		}
	case *ast.ExprStmt:
		w.expr(s.X, false)
	}
}

// within walks the body of an if or a loop.
func (w *walker) within(b *ast.BlockStmt) { w.block(b.List, false) }

// branch walks a block whose only statement can be left out, too.
func (w *walker) branch(list []ast.Stmt) {
	for _, s := range list {
		w.stmt(s, false, false)
	}
}

// cases is the body of a case. A return alone in it is left out by skipping the case.
func (w *walker) cases(list []ast.Stmt, last bool) {
	for i, s := range list {
		_, returns := s.(*ast.ReturnStmt)
		w.stmt(s, returns && len(list) == 1, last && i == len(list)-1)
	}
}

// clause is an expression of a case.
func (w *walker) clause(s *ast.SwitchStmt, e ast.Expr) {
	if s.Tag == nil {
		w.condition(e)
		return
	}
	tv := w.info.Types[e]
	if tv.Value == nil {
		w.expr(e, false)
		return
	}
	was, becomes := "case "+w.text(e), "no such case"
	switch {
	case isText(tv.Type):
		w.wrap(e, opening("mutantText", w.mutantOf(e, was, becomes))+w.typeName(tv.Type)+"(", "))")
	case isInt(tv.Type):
		w.wrap(e, opening("mutantOther", w.mutantOf(e, was, becomes))+w.typeName(tv.Type)+"(", "))")
	}
}

// condition is what an if or a case asks. That it holds always is noticed where one
// part of an && is left out, so that it is not tried twice; likewise never and ||.
func (w *walker) condition(e ast.Expr) {
	op := token.ILLEGAL
	if b, ok := ast.Unparen(e).(*ast.BinaryExpr); ok {
		op = b.Op
	}
	yes, no := 0, 0
	if op != token.LAND {
		yes = w.mutantOf(e, "if "+w.text(e), "if true")
	}
	if op != token.LOR {
		no = w.mutantOf(e, "if "+w.text(e), "if false")
	}
	w.call(e, "mutantBool", yes, no)
	w.expr(e, true)
}

// value is what is assigned, returned or handed on. asked says that a mutant
// answers for it already.
func (w *walker) value(e ast.Expr) {
	tv := w.info.Types[e]
	if isBool(tv.Type) && tv.Value == nil && !tv.IsType() {
		switch ast.Unparen(e).(type) {
		case *ast.BinaryExpr, *ast.UnaryExpr, *ast.CallExpr:
			w.call(e, "mutantBool", w.mutant(e, "true"), w.mutant(e, "false"))
			w.expr(e, true)
			return
		}
	}
	w.expr(e, false)
}

// result is a value that is returned as t.
func (w *walker) result(e ast.Expr, t types.Type) {
	tv := w.info.Types[e]
	if lit, ok := e.(*ast.CompositeLit); ok && len(lit.Elts) == 0 {
		return
	}
	switch {
	case tv.Value != nil, tv.IsNil(), isBool(tv.Type) && !isIdent(e):
	case isBool(tv.Type):
		w.call(e, "mutantBool", w.mutant(e, "true"), w.mutant(e, "false"))
	case t.String() == "error":
		w.call(e, "mutantNoError", w.mutantOf(e, "return "+w.text(e), "return nil"))
	case isTuple(tv.Type), types.IsInterface(t):
	default:
		w.call(e, "mutantZero", w.mutantOf(e, "return "+w.text(e), "return nothing"))
	}
}

// expr walks an expression. asked says that its being true or false is tried
// already.
func (w *walker) expr(e ast.Expr, asked bool) {
	if e == nil {
		return
	}
	tv, typed := w.info.Types[e]
	if typed && tv.IsType() {
		return
	}
	if typed && tv.Value != nil {
		w.constant(e, tv)
		return
	}
	switch e := e.(type) {
	case *ast.ParenExpr:
		w.expr(e.X, asked)
	case *ast.UnaryExpr:
		w.expr(e.X, asked)
	case *ast.StarExpr:
		w.expr(e.X, false)
	case *ast.BinaryExpr:
		w.binary(e, asked)
	case *ast.CallExpr:
		w.called(e)
	case *ast.SelectorExpr:
		w.expr(e.X, false)
	case *ast.IndexExpr:
		w.expr(e.X, false)
		w.expr(e.Index, false)
	case *ast.SliceExpr:
		w.expr(e.X, false)
		w.expr(e.Low, false)
		w.expr(e.High, false)
		w.expr(e.Max, false)
	case *ast.CompositeLit:
		_, isMap := tv.Type.Underlying().(*types.Map)
		for _, elt := range e.Elts {
			if kv, ok := elt.(*ast.KeyValueExpr); ok {
				if isMap {
					w.expr(kv.Key, false)
				}
				elt = kv.Value
			}
			w.value(elt)
		}
	case *ast.FuncLit:
		w.body(e.Type, e.Body)
	case *ast.TypeAssertExpr:
		w.expr(e.X, false)
	}
}

var comparisons = map[token.Token]struct{ name, becomes string }{
	token.LSS: {"mutantLess", "<="},
	token.LEQ: {"mutantLessEqual", "<"},
	token.GTR: {"mutantMore", ">="},
	token.GEQ: {"mutantMoreEqual", ">"},
}

var sums = map[token.Token]struct{ name, becomes string }{
	token.ADD: {"mutantSum", "-"},
	token.SUB: {"mutantDifference", "+"},
	token.MUL: {"mutantProduct", "/"},
	token.QUO: {"mutantQuotient", "*"},
	token.REM: {"mutantRemainder", "/"},
}

func (w *walker) binary(e *ast.BinaryExpr, asked bool) {
	swap := func(name, becomes string) {
		change := w.text(e.X) + " " + becomes + " " + w.text(e.Y)
		w.wrap(e, opening(name, w.mutant(e, change)), ")")
		w.replace(e.OpPos, e.OpPos+token.Pos(len(e.Op.String())), ",")
	}
	switch {
	case e.Op == token.LAND || e.Op == token.LOR:
		for i, part := range []ast.Expr{e.X, e.Y} {
			other := []ast.Expr{e.Y, e.X}[i]
			if b, ok := ast.Unparen(part).(*ast.BinaryExpr); !ok || b.Op != e.Op {
				id := w.mutant(e, w.text(other))
				if e.Op == token.LAND {
					w.call(part, "mutantBool", id, 0)
				} else {
					w.call(part, "mutantBool", 0, id)
				}
			}
			w.expr(part, true)
		}
		return
	case comparisons[e.Op].name != "":
		if !w.sameAsConstant(e, asked) {
			swap(comparisons[e.Op].name, comparisons[e.Op].becomes)
		}
	case sums[e.Op].name != "" && w.isNumber(e):
		swap(sums[e.Op].name, sums[e.Op].becomes)
	case e.Op == token.ADD && isText(w.info.TypeOf(e)):
		w.wrap(e, opening("mutantJoin", w.mutant(e, w.text(e.X))), ")")
		w.replace(e.OpPos, e.OpPos+1, ",")
	}
	w.expr(e.X, false)
	w.expr(e.Y, false)
}

// sameAsConstant says that moving the bound of a comparison is the same as changing
// the constant it compares with, or as one that always holds.
func (w *walker) sameAsConstant(e *ast.BinaryExpr, asked bool) bool {
	tv := w.info.Types[e.Y]
	if tv.Value == nil || !isInt(tv.Type) {
		return false
	}
	if n, _ := constant.Int64Val(constant.ToInt(tv.Value)); n != 0 {
		return true
	}
	if e.Op == token.LSS || e.Op == token.GEQ {
		return true // as with 1
	}
	call, ok := e.X.(*ast.CallExpr)
	return ok && asked && w.text(call.Fun) == "len"
}

// constant makes a constant another.
func (w *walker) constant(e ast.Expr, tv types.TypeAndValue) {
	cast := w.typeName(tv.Type) + "("
	was := w.text(e)
	switch {
	case isBool(tv.Type):
		w.wrap(e, opening("mutantFlip", w.mutantOf(e, was, "!"+was))+cast, "))")
	case isText(tv.Type):
		w.wrap(e, opening("mutantText", w.mutantOf(e, was, was+" + \"~\""))+cast, "))")
	case w.typeName(tv.Type) == "time.Duration" && constant.Sign(tv.Value) != 0:
		w.wrap(e, opening("mutantSpan", w.mutantOf(e, was, was+" + 25 %"), w.mutantOf(e, was, was+" - 25 %"))+cast, "))")
	case isInt(tv.Type):
		up := w.mutantOf(e, was, was+" + 1")
		down := 0
		if constant.Sign(tv.Value) > 0 {
			down = w.mutantOf(e, was, was+" - 1")
		}
		w.wrap(e, opening("mutantCount", up, down)+cast, "))")
	case w.isNumber(e):
		w.wrap(e, opening("mutantCount", w.mutantOf(e, was, was+" + 1"), 0)+cast, "))")
	}
}

// Methods of times, and what X.Method(Y) becomes.
var moments = map[string]struct{ name, becomes string }{
	"Before":   {"mutantBefore", "!X.After(Y)"},
	"After":    {"mutantAfter", "!X.Before(Y)"},
	"Add":      {"mutantAdd", "X"},
	"Sub":      {"mutantSub", "Y.Sub(X)"},
	"Truncate": {"mutantTruncate", "X"},
	"In":       {"mutantIn", "X"},
	"UTC":      {"mutantUTC", "X"},
}

// called walks a call.
func (w *walker) called(c *ast.CallExpr) {
	if w.info.Types[c.Fun].IsType() { // a conversion
		w.expr(c.Args[0], false)
		return
	}
	name := w.text(c.Fun)
	if sel, ok := c.Fun.(*ast.SelectorExpr); ok {
		if m, ok := moments[sel.Sel.Name]; ok && w.isTime(sel.X) {
			arg, comma := "", ""
			if len(c.Args) == 1 {
				arg, comma = w.text(c.Args[0]), ", "
			}
			becomes := strings.NewReplacer("X", w.text(sel.X), "Y", arg).Replace(m.becomes)
			w.wrap(c, opening(m.name, w.mutant(c, becomes)), "")
			w.replace(sel.X.End(), c.Lparen+1, comma)
			w.expr(sel.X, false)
			for _, a := range c.Args {
				w.expr(a, false)
			}
			return
		}
		if sel.Sel.Name == "Compare" && isInt(w.info.TypeOf(c)) {
			w.call(c, "mutantNegative", w.mutant(c, "-"+w.text(c)))
		}
	}
	if len(c.Args) == 2 && (name == "min" || name == "max") && w.isBuiltin(c.Fun) {
		to := map[string]string{"min": "mutantMin", "max": "mutantMax"}[name]
		before := opening(to, w.mutant(c, w.text(c.Args[0])), w.mutant(c, w.text(c.Args[1])))
		w.wrap(c, before, "")
		w.replace(c.Pos(), c.Lparen+1, "")
		w.expr(c.Args[0], false)
		w.expr(c.Args[1], false)
		return
	}
	if strings.HasPrefix(name, "strings.") && isText(w.info.TypeOf(c)) && isText(w.info.TypeOf(c.Args[0])) && (len(c.Args) == 1 || len(c.Args) == 2) {
		w.wrap(c, opening(fmt.Sprintf("mutantOf%d", len(c.Args)), w.mutant(c, w.text(c.Args[0]))), "")
		w.replace(c.Lparen, c.Lparen+1, ", ")
	}
	w.expr(c.Fun, false)
	switch name {
	case "make", "new":
		return // sizes that nobody sees
	case "errors.New", "panic":
		return // words
	}
	for i, a := range c.Args {
		// What is wrong with a word is told in words, too.
		if tv := w.info.Types[a]; i == 0 && name == "fmt.Sprintf" || name == "fmt.Errorf" && tv.Value != nil && isText(tv.Type) {
			continue
		}
		w.value(a)
	}
}

func (w *walker) isBuiltin(e ast.Expr) bool { return w.info.Types[e].IsBuiltin() }

func (w *walker) isTime(e ast.Expr) bool {
	t := w.info.TypeOf(e)
	return t != nil && !w.info.Types[e].IsType() && t.String() == "time.Time"
}

func (w *walker) isNumber(e ast.Expr) bool {
	b, ok := w.info.TypeOf(e).Underlying().(*types.Basic)
	return ok && b.Info()&(types.IsInteger|types.IsFloat) != 0
}

func (w *walker) typeOf(e ast.Expr) string { return w.typeName(w.info.TypeOf(e)) }

// typeName is how the package itself writes a type.
func (r *rewriter) typeName(t types.Type) string {
	if b, ok := t.(*types.Basic); ok && b.Info()&types.IsUntyped != 0 {
		t = types.Default(t)
	}
	return types.TypeString(t, func(p *types.Package) string {
		if p == r.pkg {
			return ""
		}
		return p.Name()
	})
}

func basic(t types.Type, info types.BasicInfo) bool {
	if t == nil {
		return false
	}
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&info != 0
}

func isBool(t types.Type) bool  { return basic(t, types.IsBoolean) }
func isText(t types.Type) bool  { return basic(t, types.IsString) }
func isInt(t types.Type) bool   { return basic(t, types.IsInteger) }
func isTuple(t types.Type) bool { _, ok := t.(*types.Tuple); return ok }

func isIdent(e ast.Expr) bool {
	switch ast.Unparen(e).(type) {
	case *ast.BinaryExpr, *ast.UnaryExpr, *ast.CallExpr:
		return false
	}
	return true
}

func blank(list []ast.Expr) bool {
	return !slices.ContainsFunc(list, func(e ast.Expr) bool {
		id, ok := e.(*ast.Ident)
		return !ok || id.Name != "_"
	})
}
