package simulate_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"staffeln/testutil/simulate"
)

// start is a Redis for the test's histories.
func start(t *testing.T, databases int) string {
	t.Helper()
	url, stop, err := simulate.Redis(t.Context(), databases)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return url
}

// The histories that once broke a promise, made short.
func TestHistoriesThatOnceBrokeAPromise(t *testing.T) {
	files, err := filepath.Glob("testdata/*.history")
	if err != nil || len(files) == 0 {
		t.Fatalf("no histories: %v", err)
	}
	url := start(t, 1)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".history"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			h, err := simulate.Parse(string(text))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := h.Play(t.Context(), simulate.Options{Redis: url}); err != nil {
				t.Error(err)
			}
		})
	}
}

// Whatever happens, in any order: every promise is kept. `make test-long` plays 200 histories,
// `make soak` as many as there is time for.
func TestRandomHistories(t *testing.T) {
	histories := 200
	if testing.Short() {
		histories = 6
	}
	var out strings.Builder
	s := &simulate.Soak{Seed: 1, Histories: histories, Workers: 2, Redis: start(t, 2), Out: &out}
	if err := s.Run(t.Context()); err != nil {
		t.Error(err)
	}
	t.Log(out.String())
}

// The embedded Redis does as well as a real one.
func TestAHistoryOnTheEmbeddedRedis(t *testing.T) {
	if _, err := simulate.Draw(1).Play(t.Context(), simulate.Options{}); err != nil {
		t.Error(err)
	}
}

func TestAHistoryIsText(t *testing.T) {
	for seed := range uint64(500) {
		h := simulate.Draw(seed)
		again, err := simulate.Parse(h.String())
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if diff := cmp.Diff(h, again); diff != "" {
			t.Fatalf("seed %d (-drawn +read):\n%s", seed, diff)
		}
	}
}

func TestWhatIsNoHistory(t *testing.T) {
	const head = "start 2026-11-22T10:00:00Z\nuser backup-svc\nservers 2\npace 10m\nperiod 2h\n"
	for text, want := range map[string]string{
		"":                                   "needs start, user, servers, pace and period",
		head + "dance":                       `line 6: "dance": there is no such act`,
		head + "fault 503 every=3":           `"every=3" is not which=, n= or for=`,
		head + "pass for=long":               "invalid duration",
		head + "kill n=many":                 "invalid syntax",
		strings.Replace(head, "2h", "0s", 1): "needs start",
	} {
		if _, err := simulate.Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(simulate.Draw(1).String())
	f.Add("start 2026-11-22T10:00:00Z # now\nwish yes which=3")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := simulate.Parse(text)
		if err != nil {
			return
		}
		again, err := simulate.Parse(h.String())
		if err != nil {
			t.Fatalf("%q: %v", h.String(), err)
		}
		if diff := cmp.Diff(h, again); diff != "" {
			t.Error(diff)
		}
	})
}

// A broken promise is reported with the history made short, so that it can be played
// again by itself.
func TestABrokenPromiseIsMadeShort(t *testing.T) {
	h := simulate.Draw(3)
	h.Settings = append(h.Settings, "STAFFELN_SHARDS=0") // no simulator can go on with that
	_, err := h.Play(t.Context(), simulate.Options{})
	if _, broken := errors.AsType[*simulate.Broken](err); err == nil || broken {
		t.Errorf("a history that cannot begin: %v", err)
	}
}
