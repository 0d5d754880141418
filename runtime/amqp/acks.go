package amqp

import (
	"math/bits"
	"sync"
)

// acks acknowledges the deliveries of one channel, many with one frame where it
// can: an acknowledgement costs a write, which is most of the price of a message
// that nobody wants.
//
// The broker numbers deliveries from 1 without gaps, and "multiple" acknowledges
// everything up to a number. So it is said only of a number up to which every
// delivery is done, whether it has been looked at yet or not; what is done beyond
// an unfinished one is acknowledged singly.
type acks struct {
	send  func(tag uint64, multiple bool) error
	batch int // how many done deliveries are acknowledged at once
	most  int // how many may wait behind an unfinished one

	mu    sync.Mutex
	next  uint64   // the first delivery that is not done
	first uint64   // the number of the first bit in done, a multiple of 64
	done  []uint64 // a bit for each delivery from first on
	owed  []uint64 // done and not acknowledged
}

func newAcks(prefetch int, send func(tag uint64, multiple bool) error) *acks {
	return &acks{
		send:  send,
		batch: max(1, min(64, prefetch/16)),
		most:  max(1, prefetch/2),
		next:  1,
	}
}

// finish notes that a delivery is done. It must be called once for each.
func (a *acks) finish(tag uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	word := (tag - a.first) / 64
	for uint64(len(a.done)) <= word {
		a.done = append(a.done, 0)
	}
	a.done[word] |= 1 << (tag % 64)
	a.owed = append(a.owed, tag)
	if len(a.owed) < a.batch {
		return nil
	}
	return a.flush(len(a.owed) >= a.most)
}

// settle acknowledges all that is done, even where each takes a frame of its own.
func (a *acks) settle() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.owed) == 0 {
		return nil
	}
	return a.flush(true)
}

func (a *acks) flush(singly bool) error {
	for {
		word := (a.next - a.first) / 64
		if word >= uint64(len(a.done)) {
			break
		}
		rest := a.done[word] >> (a.next % 64)
		run := bits.TrailingZeros64(^rest)
		a.next += uint64(run)
		if a.next%64 != 0 || run == 0 {
			break
		}
	}
	if whole := (a.next - a.first) / 64; whole > 0 {
		a.done = a.done[whole:]
		a.first += 64 * whole
	}

	var last uint64 // the highest owed one before the first unfinished
	n := 0
	for _, tag := range a.owed {
		if tag < a.next {
			last = max(last, tag)
			n++
		}
	}
	if last > 0 {
		// A single one is not said with "multiple": the broker then need not look
		// for others.
		if err := a.send(last, n > 1); err != nil {
			return err
		}
	}
	beyond := a.owed[:0]
	for _, tag := range a.owed {
		switch {
		case tag < a.next: // just acknowledged
		case singly:
			if err := a.send(tag, false); err != nil {
				return err
			}
		default:
			beyond = append(beyond, tag)
		}
	}
	a.owed = beyond
	return nil
}
