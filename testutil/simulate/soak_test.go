package simulate

import (
	"strings"
	"testing"
	"time"
)

// A long soak simulates more years than a time.Duration can hold, which is 292.
func TestSummaryOfManyYears(t *testing.T) {
	var out strings.Builder
	s := Soak{Out: &out}
	for range 4 {
		s.tally.Add(Tally{Years: 100.25})
	}
	s.summary(time.Minute)
	if want := "0 histories in 1m0s: 401.0 years of clouds, "; !strings.HasPrefix(out.String(), want) {
		t.Errorf("%s\nwant it to begin with %q", out.String(), want)
	}
}
