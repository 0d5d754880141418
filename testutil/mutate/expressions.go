package main

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"slices"
	"strings"
)

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
	if strings.HasPrefix(name, "strings.") &&
		isText(w.info.TypeOf(c)) && isText(w.info.TypeOf(c.Args[0])) && (len(c.Args) == 1 || len(c.Args) == 2) {
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
		if tv := w.info.Types[a]; i == 0 && name == "fmt.Sprintf" ||
			name == "fmt.Errorf" && tv.Value != nil && isText(tv.Type) {
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
