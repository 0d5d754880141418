//go:build e2e

package contract

import (
	"bufio"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write down what the real cloud answers")

// The steps hold on a real OpenStack. STAFFELN_DEVCLOUD is its Keystone's
// address, http://127.0.0.1:5000/v3 for the devcloud.
func TestRealCloud(t *testing.T) {
	url := os.Getenv("STAFFELN_DEVCLOUD")
	if url == "" {
		t.Fatal("STAFFELN_DEVCLOUD is not set: the address of a seeded devcloud's Keystone")
	}
	seen := Run(t, Target{AuthURL: url, Password: "devcloud", Client: &http.Client{Timeout: time.Minute},
		Tick: func() { time.Sleep(200 * time.Millisecond) }, Host: "devcloud", MayBeLate: true, Policy: policy})
	if !*update || t.Failed() {
		return
	}
	// What came too late this time is kept as it was.
	if raw, err := os.ReadFile(record); err == nil {
		var before map[string]any
		if err := json.Unmarshal(raw, &before); err != nil {
			t.Fatal(err)
		}
		for _, st := range steps {
			if seen[st.say] == nil && before[st.say] != nil {
				seen[st.say] = before[st.say]
			}
		}
	}
	out, err := json.MarshalIndent(seen, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(record, append(out, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// policy puts a file in force as the devcloud's Cinder's until it is restored. The
// script does that when its standard input ends, however this process ends.
func policy(t *testing.T, file string) (restore func()) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(path, []byte(file+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join("..", "devcloud", "policy"), path)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	restore = func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("testutil/devcloud/policy: %v", err)
		}
	}
	if said, err := bufio.NewReader(out).ReadString('\n'); said != "in place\n" {
		restore()
		t.Fatalf("testutil/devcloud/policy said %q: %v", said, err)
	}
	return restore
}
