package backup

import (
	"math"
	"testing"
)

// The durations are those that track, retention, report and dispatch wait by.
func TestGrowing(t *testing.T) {
	for _, c := range []struct {
		name  string
		tries int
		first string
		most  string
		want  string
	}{
		{"soon at first", 0, "30s", "15m", "30s"},
		{"then twice as long", 1, "30s", "15m", "1m"},
		{"and twice as long again", 4, "30s", "15m", "8m"},
		{"but no longer than the most", 5, "30s", "15m", "15m"},
		{"up to an hour for a broken backup: the last below", 6, "30s", "1h", "32m"},
		{"and the first that is cut", 7, "30s", "1h", "1h"},
		{"up to 6 hours for a server's metadata: the last below", 9, "30s", "6h", "4h16m"},
		{"and the first that is cut", 10, "30s", "6h", "6h"},
		{"a minute at first for a removal and a letter", 0, "1m", "6h", "1m"},
		{"the last of those below 6 hours", 8, "1m", "6h", "4h16m"},
		{"and the first that is cut", 9, "1m", "6h", "6h"},
		{"exactly the most is not cut", 3, "1m", "8m", "8m"},
		{"a most that is less than the first", 0, "1h", "1m", "1m"},
		{"however often it was tried", math.MaxInt, "30s", "15m", "15m"},
		{"never over the edge of a duration", 30, "24h", "2562047h", "2562047h"},
		{"not even with the smallest step", math.MaxInt, "1ns", "2562047h", "1281023h53m38.427387904s"},
		{"less than no tries are none", -1, "1m", "6h", "1m"},
		{"however much less", math.MinInt, "1m", "6h", "1m"},
		{"nothing doubles to nothing", 5, "0s", "6h", "0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Growing(c.tries, span(c.first), span(c.most)); got != span(c.want) {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}
