package testutil

import (
	"os/exec"
	"strings"
	"testing"
)

// A variable that make hands to everything it starts is a setting to the program,
// which complains of those it does not know.
func TestMakeAddsNoSettings(t *testing.T) {
	cmd := exec.Command("make", "-s", "-C", "..", "--eval", "settings: ; @env", "settings")
	for _, pair := range cmd.Environ() {
		if !strings.HasPrefix(pair, "STAFFELN_") && !strings.HasPrefix(pair, "MAKE") {
			cmd.Env = append(cmd.Env, pair)
		}
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "STAFFELN_") {
			t.Errorf("make run gets %s", line)
		}
	}
}
