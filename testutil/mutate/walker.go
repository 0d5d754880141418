package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
)

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
				w.wrap(e, opening("mutantNegative",
					w.mutantOf(s, s.Tok.String()+" "+w.text(e), becomes+" "+w.text(e)))+w.typeOf(e)+"(", "))")
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
