package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"go/ast"
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
