package simulate_test

import (
	"errors"
	"flag"
	"log/slog"
	"os"
	"testing"

	"staffeln/testutil/simulate"
)

var (
	seed      = flag.Uint64("seed", 0, "the first history's number")
	histories = flag.Int("histories", 20, "how many histories are played")
	shrink    = flag.Bool("shrink", false, "make short")
	file      = flag.String("history", "", "play this")
)

func TestHistories(t *testing.T) {
	var tally simulate.Tally
	url, stop, err := simulate.Redis(t.Context(), 4)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if *file != "" {
		text, _ := os.ReadFile(*file)
		h, err := simulate.Parse(string(text))
		if err != nil {
			t.Fatal(err)
		}
		_, err = h.Play(t.Context(), simulate.Options{Redis: url, Tell: os.Stdout, Level: slog.LevelInfo})
		t.Log(err)
		return
	}
	for n := range *histories {
		s := *seed + uint64(n)
		h := simulate.Draw(s)
		one, err := h.Play(t.Context(), simulate.Options{Redis: url})
		tally.Add(one)
		if b, ok := errors.AsType[*simulate.Broken](err); ok {
			t.Errorf("seed %d: %v", s, b)
			if *shrink {
				h = simulate.Shrink(t.Context(), h, b.Promise)
				t.Logf("short:\n%s", h)
			}
		} else if err != nil {
			t.Fatalf("seed %d: %v", s, err)
		}
	}
	t.Logf("%+v", tally)
}
