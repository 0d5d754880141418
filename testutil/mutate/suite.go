package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A suite is the compiled tests of one package.
type suite struct {
	dir    string // the package's, where tests find their testdata
	binary string
	flags  []string
	tests  []*test
}

// A test is one that can be run alone.
type test struct {
	name  string          // as -test.run wants it, its parts parted by slashes
	took  time.Duration   // of a processor's time: the machine may have other things to do
	knows map[int]bool    // the mutants that it comes by
	files map[string]bool // and the files that they are in
}

const (
	// quick tests are run together, and before them those that take next to nothing.
	quick   = 150 * time.Millisecond
	instant = 15 * time.Millisecond
	// memory is what a test may have: a loop that does not end may collect for ever.
	memory = 12 << 30
)

// compile makes a suite of a package's tests, with other sources laid over it.
func compile(ctx context.Context, out, dir string, overlay map[string]string) (*suite, error) {
	s := &suite{dir: dir, binary: filepath.Join(out, strings.ReplaceAll(dir, "/", "_")+".test")}
	list := filepath.Join(out, "overlay.json")
	b, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(list, b, 0o600); err != nil {
		return nil, err
	}
	said, err := exec.CommandContext(ctx, "go", "test", "-vet=off", "-overlay", list, "-c", "-o", s.binary,
		"./"+dir).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("go test -c ./%s: %w\n%s", dir, err, said)
	}
	if s.binary, err = filepath.Abs(s.binary); err != nil {
		return nil, err
	}
	// Random histories: the same for every mutant, not too many, and not made
	// shorter when one of them fails.
	names, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		src, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if bytes.Contains(src, []byte(`"pgregory.net/rapid"`)) {
			s.flags = []string{"-rapid.checks=30", "-rapid.seed=20261122", "-rapid.shrinktime=1ms", "-rapid.nofailfile"}
		}
	}
	return s, nil
}

// names are the tests of the package.
func (s *suite) names(ctx context.Context) ([]string, error) {
	cmd := exec.CommandContext(ctx, s.binary, "-test.list", "^(Test|Fuzz|Example)")
	cmd.Dir = s.dir
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.dir, err)
	}
	return strings.Fields(string(out)), nil
}

// measure runs each test alone, sees how long it takes and which mutants it comes
// by, and leaves out those that take longer than longest.
func (s *suite) measure(ctx context.Context, longest time.Duration, mutants []mutant) error {
	of := map[int]mutant{}
	for _, m := range mutants {
		of[m.ID] = m
	}
	names, err := s.names(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		reached := s.binary + ".reached"
		if err := os.WriteFile(reached, nil, 0o600); err != nil {
			return err
		}
		took, said, end := s.run(ctx, []string{name}, longest, nil, "STAFFELN_MUTANTS_REACHED="+reached)
		if took > longest {
			fmt.Fprintf(os.Stderr, "%s takes too long to be asked\n", name)
			continue
		}
		if end != nil {
			return fmt.Errorf("%s: %s fails without any mutant: %w\n%s", s.dir, name, end, said)
		}
		t := &test{name: name, took: took, knows: map[int]bool{}, files: map[string]bool{}}
		b, err := os.ReadFile(reached)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(b)) {
			id, err := strconv.Atoi(strings.TrimSpace(line))
			if err != nil {
				return err
			}
			t.knows[id] = true
			if m := of[id]; !strings.HasPrefix(m.Function, "var ") {
				t.files[m.File] = true
			}
		}
		s.tests = append(s.tests, t)
	}
	slices.SortStableFunc(s.tests, func(a, b *test) int { return int(a.took - b.took) })
	return nil
}

// notices says by which of its tests the mutant is noticed; "" if by none. The
// tables of sentences are asked first, then the random histories, then one by one
// what takes long.
func (s *suite) notices(ctx context.Context, m mutant) string {
	env := "STAFFELN_MUTANT=" + strconv.Itoa(m.ID)
	var groups [][]*test
	was := time.Duration(0)
	for _, t := range s.tests {
		if !t.comesBy(m) {
			continue
		}
		last := len(groups) - 1
		if last < 0 || t.took >= quick || t.took > instant && was <= instant {
			groups = append(groups, nil)
			last++
		}
		groups[last], was = append(groups[last], t), t.took
	}
	for _, group := range groups {
		var names []string
		took := time.Duration(0)
		for _, t := range group {
			names, took = append(names, t.name), took+t.took
		}
		if _, said, err := s.run(ctx, names, 2*time.Second+5*took, nil, env); err != nil {
			return cmp.Or(lastFailure(said), "one of "+strconv.Itoa(len(names))+", by its end")
		}
	}
	return ""
}

// comesBy says whether the test comes by the mutant. All come by what is set up
// before any test begins: there it counts whether one comes by anything else in the
// file.
func (t *test) comesBy(m mutant) bool {
	if strings.HasPrefix(m.Function, "var ") {
		return t.files[m.File]
	}
	return t.knows[m.ID]
}

var failure = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// lastFailure is the test that failed: its parts come after it.
func lastFailure(said string) string {
	all := failure.FindAllStringSubmatch(said, -1)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1][1]
}

// run runs tests until the first that fails, for so much of a processor's time at
// most, and says how much they took and what they said.
func (s *suite) run(ctx context.Context, names []string, most time.Duration, more []string,
	env ...string) (took time.Duration, said string, failed error) {
	// What waits for what never comes takes no time of a processor.
	ctx, cancel := context.WithTimeout(ctx, time.Minute+10*most)
	defer cancel()
	limits := fmt.Sprintf(`ulimit -v %d; ulimit -t %d; exec "$0" "$@"`, memory>>10, int(most.Seconds())+1)
	args := append([]string{"-c", limits, s.binary, "-test.failfast", "-test.run", pattern(names)},
		slices.Concat(s.flags, more)...)
	cmd := exec.CommandContext(ctx, "sh", args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), env...)
	// What the tests started ends with them.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState != nil {
		took = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	return took, string(out), err
}

// pattern is what -test.run wants for these names.
func pattern(names []string) string {
	var all []string
	for _, name := range names {
		var parts []string
		for part := range strings.SplitSeq(name, "/") {
			parts = append(parts, "^"+regexp.QuoteMeta(part)+"$")
		}
		all = append(all, strings.Join(parts, "/"))
	}
	return strings.Join(all, "|")
}
