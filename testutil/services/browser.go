package services

import (
	"fmt"
	"os/exec"
	"testing"
)

// Browse shows a file in a real browser (Debian's Chromium, headless), by day or by
// night, and returns the page as it is once its scripts have run.
func Browse(tb testing.TB, file string, dark bool) string {
	tb.Helper()
	// A window is 500 pixels wide at least; narrower ones are frames in it.
	return chromium(tb, file, 1280, 900, dark, "--dump-dom")
}

// Picture is the same, and writes a PNG of that many pixels.
func Picture(tb testing.TB, file, png string, width, height int, dark bool) {
	tb.Helper()
	chromium(tb, file, width, height, dark, "--screenshot="+png)
}

func chromium(tb testing.TB, file string, width, height int, dark bool, what string) string {
	tb.Helper()
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		tb.Fatal("no Chromium here: run .ci/services, or install Debian's chromium")
	}
	scheme := "--blink-settings=preferredColorScheme=1"
	if dark {
		scheme = "--blink-settings=preferredColorScheme=0"
	}
	// Root has no sandbox, and nothing is to be looked up outside this machine.
	cmd := exec.CommandContext(tb.Context(), program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
		"--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
		"--hide-scrollbars",
		"--user-data-dir="+tb.TempDir(), scheme, fmt.Sprintf("--window-size=%d,%d", width, height), what, "file://"+file)
	out, err := cmd.Output()
	if err != nil {
		detail := ""
		if e, ok := err.(*exec.ExitError); ok {
			detail = string(e.Stderr)
		}
		tb.Fatalf("chromium: %v\n%.2000s", err, detail)
	}
	return string(out)
}
