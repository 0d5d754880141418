package functions_test

import (
	"flag"
	"os"
	"testing"
)

// A history takes a second or two: a few of them here, thousands with
// "go test ./functions -run RandomHistories -rapid.checks=5000 -timeout 0".
func TestMain(m *testing.M) {
	flag.Parse()
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == "rapid.checks" })
	if !set {
		if err := flag.Set("rapid.checks", "10"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
