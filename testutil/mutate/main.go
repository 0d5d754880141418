// Mutate breaks the rules on purpose, each in one small way at a time, and sees
// whether a test notices. The rules are functions/backup, functions/keep and the scripts of
// runtime/ledger.
//
//	go run ./testutil/mutate                    # both, from the module's root
//	go run ./testutil/mutate -only 'age.go|ParseRules'
//	go run ./testutil/mutate -only age.go -tell # and who notices what
//
// What nobody notices is either a test that is missing, or changes nothing: the
// latter are explained in explained.txt. It fails if less than the share -least of
// either part is noticed.
//
// The Go package is compiled once with all mutants in it, each behind a switch, and
// what tests come by which switch is seen before; a script is read from a folder. So
// a mutant takes as long as the tests that could notice it, until the first does.
package main

import (
	"bufio"
	"cmp"
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// rulesDirs are the packages of the rules.
var rulesDirs = []string{"functions/backup", "functions/keep"}

// Other packages whose tests are asked about what those of the rules do not notice.
var dependants = []string{"functions/dispatch", "functions/plan", "functions/retention", "functions/report",
	"functions/report/words", "functions/policy"}

//go:embed explained.txt
var explainedText string

func main() {
	only := flag.String("only", "", "mutants whose name, file: function: change, matches this `regexp`")
	every := flag.Int("every", 1, "only every `n`th mutant: a sample")
	tell := flag.Bool("tell", false, "tell of every mutant who notices it")
	list := flag.Bool("list", false, "only list the mutants")
	least := flag.Float64("least", 90, "the share in `percent` to be noticed at least")
	part := flag.String("part", "", "`rules` or scripts; both if left out")
	longest := flag.Duration("longest", 20*time.Second,
		"how much of a processor's time a test may take to be asked at all")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r := run{only: regexp.MustCompile(*only), every: *every, tell: *tell, list: *list, longest: *longest, out: os.Stdout}
	if err := r.all(ctx, *part, *least); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

// A run is one run of this program.
type run struct {
	only       *regexp.Regexp
	every      int
	tell, list bool
	longest    time.Duration
	out        io.Writer
	dir        string // for what is only needed meanwhile
	explained  map[string]string
}

func (r *run) all(ctx context.Context, part string, least float64) (err error) {
	if r.explained, err = readExplained(explainedText); err != nil {
		return err
	}
	if r.dir, err = os.MkdirTemp("", "staffeln-mutants-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.dir)
	for _, p := range []struct {
		name string
		try  func(context.Context) ([]verdict, error)
	}{{"rules", r.rules}, {"scripts", r.scripts}} {
		if part != "" && part != p.name {
			continue
		}
		start := time.Now()
		verdicts, e := p.try(ctx)
		if e != nil {
			return errors.Join(err, e)
		}
		if r.list {
			continue
		}
		share := r.report(verdicts)
		fmt.Fprintf(r.out, "%d mutants in %s\n\n", len(verdicts), time.Since(start).Round(time.Second))
		if share < least {
			err = errors.Join(err, fmt.Errorf("%s: only %.1f %% are noticed, less than %g %%", p.name, share, least))
		}
	}
	if r.only.String() == "" && r.every == 1 && part == "" && !r.list {
		for name := range r.explained {
			err = errors.Join(err, fmt.Errorf("explained.txt: there is no mutant %s", name))
		}
	}
	return err
}

// A verdict is what became of a mutant.
type verdict struct {
	mutant
	by  string // who noticed it
	why string // why nobody can
}

// wants says whether the nth mutant is to be tried.
func (r *run) wants(m mutant, n int) bool { return n%r.every == 0 && r.only.MatchString(m.name()) }

// judge notes what became of a mutant.
func (r *run) judge(m mutant, by string) verdict {
	v := verdict{m, by, r.explained[m.name()]}
	delete(r.explained, m.name())
	switch {
	case by != "" && v.why != "":
		fmt.Fprintf(r.out, "%s:%d: %s: %s: explained.txt says that nobody can notice it, and %s does\n", m.File,
			m.Line, m.Function, m.Change, by)
		v.why = ""
	case r.tell:
		fmt.Fprintf(r.out, "%s:%d: %s: %s: %s\n", m.File, m.Line, m.Function, m.Change, cmp.Or(by, v.why, "NOT NOTICED"))
	}
	return v
}

// rules tries the mutants of the rules.
func (r *run) rules(ctx context.Context) (all []verdict, err error) {
	for i, dir := range rulesDirs {
		verdicts, err := r.rulesOf(ctx, dir, slices.Concat(rulesDirs[i+1:], dependants))
		if err != nil {
			return nil, err
		}
		all = append(all, verdicts...)
	}
	return all, nil
}

// rulesOf tries the mutants of one package. Packages that build on it are asked about what its own
// tests do not notice.
func (r *run) rulesOf(ctx context.Context, rulesDir string, dependants []string) ([]verdict, error) {
	out, err := os.MkdirTemp(r.dir, "rules-")
	if err != nil {
		return nil, err
	}
	mutants, overlay, err := rewrite(rulesDir, out)
	if err != nil {
		return nil, err
	}
	mutants = slices.DeleteFunc(mutants, func(m mutant) bool { return !r.wants(m, m.ID) })
	if r.list {
		return nil, r.names(mutants)
	}
	dirs := append([]string{rulesDir}, dependants...)
	var all []verdict
	left := mutants
	for i, dir := range dirs {
		if len(left) == 0 {
			break
		}
		s, err := compile(ctx, out, dir, overlay)
		if err != nil {
			return nil, err
		}
		if err := s.measure(ctx, r.longest, left); err != nil {
			return nil, err
		}
		var next []mutant
		for _, m := range left {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			by := s.notices(ctx, m)
			if by != "" && i > 0 {
				by = s.dir + "." + by
			}
			if by == "" && i < len(dirs)-1 && r.explained[m.name()] == "" {
				next = append(next, m)
				if r.tell && i == 0 {
					fmt.Fprintf(r.out, "%s:%d: %s: %s: not by the package's own tests\n", m.File, m.Line, m.Function, m.Change)
				}
				continue
			}
			all = append(all, r.judge(m, by))
		}
		left = next
	}
	slices.SortFunc(all, func(a, b verdict) int { return a.ID - b.ID })
	return all, nil
}

// scripts tries the mutants of the scripts.
func (r *run) scripts(ctx context.Context) ([]verdict, error) {
	files, err := filepath.Glob(ledgerDir + "/lua/*.lua")
	if err != nil {
		return nil, err
	}
	var scripts []script
	var mutants []luaMutant
	for _, file := range files {
		s, err := readScript(file)
		if err != nil {
			return nil, err
		}
		scripts = append(scripts, s)
		of := s.mutants()
		names := make([]mutant, len(of))
		for i, m := range of {
			names[i] = m.mutant
		}
		numberRepeats(names)
		for i := range of {
			of[i].mutant = names[i]
		}
		mutants = append(mutants, of...)
	}
	if mutants, err = understood(ctx, mutants); err != nil {
		return nil, err
	}
	for i := range mutants {
		mutants[i].ID = i + 1
	}
	mutants = slices.DeleteFunc(mutants, func(m luaMutant) bool { return !r.wants(m.mutant, m.ID) })
	if r.list {
		var names []mutant
		for _, m := range mutants {
			names = append(names, m.mutant)
		}
		return nil, r.names(names)
	}
	if len(mutants) == 0 {
		return nil, nil
	}
	overlay, err := scriptsFromFolder(r.dir)
	if err != nil {
		return nil, err
	}
	s, err := compile(ctx, r.dir, ledgerDir, overlay)
	if err != nil {
		return nil, err
	}
	f, err := newFolder(filepath.Join(r.dir, "lua"), scripts)
	if err != nil {
		return nil, err
	}
	of, err := users(ctx, s, f)
	if err != nil {
		return nil, err
	}
	var all []verdict
	for _, m := range mutants {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		by, err := noticesScript(ctx, s, f, of, m)
		if err != nil {
			return nil, err
		}
		all = append(all, r.judge(m.mutant, by))
	}
	return all, nil
}

func (r *run) names(mutants []mutant) error {
	w := bufio.NewWriter(r.out)
	for _, m := range mutants {
		fmt.Fprintf(w, "%s:%d: %s: %s\n", m.File, m.Line, m.Function, m.Change)
	}
	return w.Flush()
}

// report prints what became of them, and answers the share of those noticed among
// those that could be.
func (r *run) report(all []verdict) float64 {
	type row struct{ mutants, noticed, explained int }
	var files []string
	of := map[string]*row{}
	total := &row{}
	for _, v := range all {
		if of[v.File] == nil {
			files, of[v.File] = append(files, v.File), &row{}
		}
		for _, to := range []*row{of[v.File], total} {
			to.mutants++
			switch {
			case v.by != "":
				to.noticed++
			case v.why != "":
				to.explained++
			}
		}
	}
	share := func(t *row) float64 {
		if t.mutants == t.explained {
			return 100
		}
		return 100 * float64(t.noticed) / float64(t.mutants-t.explained)
	}
	for _, v := range all {
		if v.by == "" && v.why != "" {
			fmt.Fprintf(r.out, "changes nothing: %s:%d: %s: %s: %s\n", v.File, v.Line, v.Function, v.Change, v.why)
		}
	}
	for _, v := range all {
		if v.by == "" && v.why == "" {
			fmt.Fprintf(r.out, "not noticed: %s:%d: %s: %s\n", v.File, v.Line, v.Function, v.Change)
		}
	}
	w := tabwriter.NewWriter(r.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "mutants\tnoticed\tchange nothing\tsurvive\tshare\t  file\t")
	line := func(t *row, name string) {
		fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%.1f %%\t  %s\t\n", t.mutants, t.noticed, t.explained,
			t.mutants-t.noticed-t.explained, share(t), name)
	}
	for _, file := range files {
		line(of[file], file)
	}
	line(total, "all")
	w.Flush()
	return share(total)
}

// readExplained reads mutants by name, each followed by why it changes nothing in
// lines that begin with a tab. Lines with # are comments.
func readExplained(text string) (map[string]string, error) {
	all := map[string]string{}
	name := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \n")
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '\t' && name == "":
			return nil, fmt.Errorf("explained.txt: %q explains nothing", line)
		case line[0] == '\t':
			all[name] = strings.TrimSpace(all[name] + " " + line[1:])
		default:
			if all[name] == "" && name != "" {
				return nil, fmt.Errorf("explained.txt: %s has no reason", name)
			}
			if _, ok := all[line]; ok {
				return nil, fmt.Errorf("explained.txt: %s is explained twice", line)
			}
			name = line
			all[name] = ""
		}
	}
	if name != "" && all[name] == "" {
		return nil, fmt.Errorf("explained.txt: %s has no reason", name)
	}
	return all, nil
}
