package amqp

import (
	"testing"

	"pgregory.net/rapid"
)

// A window of deliveries as the broker sees it.
type window struct {
	t           *rapid.T
	outstanding map[uint64]bool // true: handled
}

func (w *window) ack(tag uint64, multiple bool) error {
	if _, ok := w.outstanding[tag]; !ok {
		w.t.Fatalf("delivery %d is acknowledged and not outstanding: the broker closes the channel", tag)
	}
	for other, handled := range w.outstanding {
		if other == tag || (multiple && other < tag) {
			if !handled {
				w.t.Fatalf("delivery %d is acknowledged (%d, multiple %t) and not handled", other, tag, multiple)
			}
			delete(w.outstanding, other)
		}
	}
	return nil
}

// Whatever the order in which deliveries are done, each is acknowledged once,
// none before it was handled, and no unfinished one keeps the others from it.
func TestAcknowledgements(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefetch := rapid.IntRange(1, 400).Draw(t, "prefetch")
		w := &window{t: t, outstanding: map[uint64]bool{}}
		a := newAcks(prefetch, w.ack)
		var open []uint64
		last := uint64(0)
		slow := rapid.Bool().Draw(t, "the first takes long")
		for range rapid.IntRange(0, 2000).Draw(t, "steps") {
			if len(w.outstanding) < prefetch && rapid.IntRange(0, 2).Draw(t, "arrives") > 0 {
				last++
				w.outstanding[last] = false
				open = append(open, last)
				continue
			}
			if rapid.IntRange(0, 9).Draw(t, "idle") == 0 {
				if err := a.settle(); err != nil {
					t.Fatal(err)
				}
				continue
			}
			from := 0
			if slow {
				from = 1
			}
			if len(open) <= from {
				continue
			}
			i := rapid.IntRange(from, min(len(open)-1, from+20)).Draw(t, "done")
			w.outstanding[open[i]] = true
			if err := a.finish(open[i]); err != nil {
				t.Fatal(err)
			}
			open = append(open[:i], open[i+1:]...)
		}
		if err := a.settle(); err != nil {
			t.Fatal(err)
		}
		if len(w.outstanding) != len(open) {
			t.Fatalf("%d deliveries outstanding, %d not handled", len(w.outstanding), len(open))
		}
		for _, tag := range open {
			w.outstanding[tag] = true
			if err := a.finish(tag); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.settle(); err != nil {
			t.Fatal(err)
		}
		if len(w.outstanding) != 0 {
			t.Fatalf("all is handled and %d deliveries are outstanding", len(w.outstanding))
		}
		if len(a.done) > 1 {
			t.Fatalf("%d words are kept of what is over", len(a.done))
		}
	})
}

// Many deliveries in order take few frames.
func TestAcknowledgementsAreFew(t *testing.T) {
	frames := 0
	a := newAcks(300, func(uint64, bool) error { frames++; return nil })
	const n = 60_000
	for tag := range uint64(n) {
		if err := a.finish(tag + 1); err != nil {
			t.Fatal(err)
		}
	}
	if most := n / 16; frames > most {
		t.Errorf("%d frames for %d deliveries, want %d at most", frames, n, most)
	}
}
