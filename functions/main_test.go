package functions_test

import (
	"flag"
	"os"
	"testing"
)

// A history takes a second or two: a few of them here, the same every time; any
// number of others with
//
//	go test ./functions -run RandomHistories -rapid.checks=5000 -rapid.seed=0 -timeout 0
func TestMain(m *testing.M) {
	flag.Parse()
	given := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, value := range map[string]string{"rapid.checks": histories, "rapid.seed": "20261122"} {
		if given[name] {
			continue
		}
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
