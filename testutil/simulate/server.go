package simulate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"time"

	"staffeln/runtime/ledger"
)

// Redis starts a redis-server on a free port of the loopback address, with the given
// number of databases, one for each history that is played at once: it is several
// times as fast as the embedded one. "" and no error where none is installed.
func Redis(ctx context.Context, databases int) (url string, stop func(), err error) {
	path, err := exec.LookPath("redis-server")
	if errors.Is(err, exec.ErrNotFound) {
		return "", func() {}, nil
	}
	if err != nil {
		return "", nil, err
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	port := free.Addr().(*net.TCPAddr).Port
	free.Close() //nolint:errcheck // it was only to find the port
	dir, err := os.MkdirTemp("", "staffeln-simulate")
	if err != nil {
		return "", nil, err
	}
	cmd := exec.Command(path, "--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
		"--databases", fmt.Sprint(databases), "--dir", dir, "--loglevel", "warning")
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("redis-server: %w", err)
	}
	stop = func() {
		_ = cmd.Process.Kill() // it has nothing to lose
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	}
	url = fmt.Sprintf("redis://127.0.0.1:%d", port)
	client, err := ledger.Open(url, nil)
	if err != nil {
		stop()
		return "", nil, err
	}
	defer client.Close() //nolint:errcheck // nothing is left to be lost
	for wait := 5 * time.Millisecond; ; wait *= 2 {
		if err = client.Ping(ctx).Err(); err == nil {
			return url, stop, nil
		}
		if wait > 2*time.Second || ctx.Err() != nil {
			stop()
			return "", nil, fmt.Errorf("redis-server: %w", err)
		}
		time.Sleep(wait)
	}
}
