// Command gotest runs go test with its arguments, prints the output of what failed, one line
// for each package, and at the end what took longest and which servers were started.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"staffeln/testutil/services"
)

// slowest is how many tests and packages are named at the end.
const slowest = 10

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	started, err := os.CreateTemp("", "staffeln-started-")
	if err != nil {
		return err
	}
	defer os.Remove(started.Name())
	defer started.Close()
	begin := time.Now()
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Env = append(os.Environ(), services.StartedIn+"="+started.Name())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	r := report{output: map[string][]string{}}
	r.read(out, os.Stdout)
	failed := cmd.Wait()
	names, err := io.ReadAll(started)
	if err != nil {
		return err
	}
	r.summary(os.Stdout, string(names), time.Since(begin))
	return failed
}

// An event is a line of go test -json (go doc test2json).
type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

// A took is how long a test or a package took.
type took struct {
	name    string
	seconds float64
}

type report struct {
	output          map[string][]string // of what is not over yet, by package and test
	tests, packages []took
	failed, skipped []string
}

func (r *report) read(in io.Reader, out io.Writer) {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		var e event
		if json.Unmarshal(line, &e) == nil {
			r.take(e, out)
		} else if len(line) > 0 {
			fmt.Fprintf(out, "%s", line) // not test2json's
		}
		if err != nil {
			return
		}
	}
}

func (r *report) take(e event, out io.Writer) {
	id := e.Package + " " + e.Test
	name := strings.TrimPrefix(e.Package, "staffeln/")
	switch e.Action {
	case "output":
		r.output[id] = append(r.output[id], e.Output)
		return
	case "build-output":
		fmt.Fprint(out, e.Output)
		return
	case "pass", "skip", "fail":
	default:
		return
	}
	if e.Action == "fail" {
		fmt.Fprint(out, strings.Join(r.output[id], ""))
		r.failed = append(r.failed, strings.TrimSpace(name+" "+e.Test)+said(r.output[id]))
	}
	delete(r.output, id)
	if e.Action == "skip" && e.Test != "" {
		r.skipped = append(r.skipped, name+" "+e.Test)
	}
	switch {
	case e.Test == "":
		fmt.Fprintf(out, "%-4s %7.1fs  %s\n", e.Action, e.Elapsed, name)
		r.packages = append(r.packages, took{name, e.Elapsed})
	case !strings.Contains(e.Test, "/"): // a subtest is in its test's time
		r.tests = append(r.tests, took{name + " " + e.Test, e.Elapsed})
	}
}

// complaint is a line that a test wrote by Log or Error, panicked with, or was stopped by.
var complaint = regexp.MustCompile(`^\s+[\w/]+\.go:\d+: |^panic: |^WARNING: DATA RACE`)

// said are the last complaints in the output of a test that failed, each on a line of its own:
// whoever sees only the end of a long report finds there what was wrong.
func said(output []string) string {
	const most, width = 5, 400
	var all []string
	for _, line := range output {
		if complaint.MatchString(line) {
			line = strings.TrimSpace(line)
			all = append(all, "\n    "+line[:min(len(line), width)])
		}
	}
	return strings.Join(all[max(0, len(all)-most):], "")
}

func (r *report) summary(out io.Writer, started string, whole time.Duration) {
	longest := func(title string, all []took) {
		slices.SortFunc(all, func(a, b took) int { return cmp.Compare(b.seconds, a.seconds) })
		fmt.Fprintf(out, "\n%s:\n", title)
		for _, one := range all[:min(slowest, len(all))] {
			fmt.Fprintf(out, "  %7.1fs  %s\n", one.seconds, one.name)
		}
	}
	longest("the slowest packages", r.packages)
	longest("the slowest tests", r.tests)
	count := map[string]int{}
	var names []string
	for name := range strings.SplitSeq(strings.TrimSpace(started), "\n") {
		if name != "" && count[name] == 0 {
			names = append(names, name)
		}
		count[name]++
	}
	slices.Sort(names)
	for i, name := range names {
		names[i] = fmt.Sprintf("%d × %s", count[name], name)
	}
	fmt.Fprintf(out, "\nservers started: %s\n", cmp.Or(strings.Join(names, ", "), "none"))
	slices.Sort(r.skipped)
	for _, name := range r.skipped {
		fmt.Fprintln(out, "skipped:", name)
	}
	for _, name := range r.failed {
		fmt.Fprintln(out, "FAILED:", name)
	}
	fmt.Fprintf(out, "%d tests in %s\n", len(r.tests), whole.Round(time.Second))
}
