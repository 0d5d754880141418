// Package services runs real Redis and RabbitMQ servers for tests: Debian's own,
// as processes on free loopback ports, one of each for a test process. They need
// nothing but the binaries, as any user, and are gone when the test process is,
// however it ends.
//
// A missing binary fails the test with what to install; nothing is skipped.
package services

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
)

// process starts a command that the kernel kills when this process ends, even by
// SIGKILL (PR_SET_PDEATHSIG). The kernel means the thread that started the child,
// not the process, so all are started by one thread that never ends.
func process(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr.Setpgid = true // an interrupt from the terminal is for the tests alone
	starter.Do(func() {
		go func() {
			runtime.LockOSThread()
			for start := range starts {
				start.err <- start.cmd.Start()
			}
		}()
	})
	s := start{cmd, make(chan error, 1)}
	starts <- s
	err := <-s.err
	if err == nil {
		note(cmd.Path)
	}
	return err
}

// StartedIn names the file to which each server that is started adds a line with its name;
// nobody is told if it is not set. See testutil/gotest.
const StartedIn = "TEST_SERVERS_STARTED"

// note adds a program's name to the file of [StartedIn].
func note(program string) {
	f, err := os.OpenFile(os.Getenv(StartedIn), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return // not set
	}
	defer f.Close()
	fmt.Fprintln(f, filepath.Base(program)) // one write: lines of several processes do not mix
}

type start struct {
	cmd *exec.Cmd
	err chan error
}

var (
	starter sync.Once
	starts  = make(chan start)
)

// binary finds a server's program, or fails the test with what to install.
func binary(tb testing.TB, debianPackage string, paths ...string) string {
	tb.Helper()
	for _, path := range paths {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	tb.Fatalf("this test needs a real %s: apt-get install %s", paths[0], debianPackage)
	return ""
}

// given are the ports that this process has given out: a server that is stopped
// for a while finds its own free when it starts again.
var given struct {
	sync.Mutex
	ports map[int]bool
}

// ports returns n different loopback ports that were free a moment ago, below
// the range that outgoing connections are given theirs from, and none twice.
func ports(n int) ([]int, error) {
	given.Lock()
	defer given.Unlock()
	if given.ports == nil {
		given.ports = map[int]bool{}
	}
	var found []int
	for try := 0; len(found) < n; try++ {
		if try > 1400 {
			return nil, fmt.Errorf("no %d free ports on 127.0.0.1", n)
		}
		// Another test process looks at the same time: begin somewhere else.
		port := 20000 + (os.Getpid()*101+try*7)%10000
		if given.ports[port] {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		l.Close()
		given.ports[port] = true
		found = append(found, port)
	}
	return found, nil
}

// Address is host:port of the loopback interface that was free a moment ago, and
// that nobody else in this process is given: for a server that is to be killed and
// started again at the same place.
func Address(tb testing.TB) string {
	tb.Helper()
	found, err := ports(1)
	if err != nil {
		tb.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", found[0])
}
