package metrics

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// docs/metrics.md is the table, and every metric in the table is written somewhere.
func TestDocs(t *testing.T) {
	var want strings.Builder
	want.WriteString("# Metrics\n\nServed at `/metrics` on `STAFFELN_METRICS_LISTEN`, with those of the Go runtime.\n\n" +
		"| name | kind | labels | meaning |\n|---|---|---|---|\n")
	for _, m := range Table {
		fmt.Fprintf(&want, "| `%s%s` | %s | %s | %s |\n", Prefix, m.Name, m.Kind, strings.Join(m.Labels, ", "), m.Help)
	}
	got, err := os.ReadFile("../../docs/metrics.md")
	if err != nil || string(got) != want.String() {
		t.Errorf("docs/metrics.md (%v) is not in step; it should read:\n%s", err, want.String())
	}
}
