package simulate

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Shrink leaves acts out of a history that breaks a promise for as long as the same
// promise is broken without them, and until ctx ends.
func Shrink(ctx context.Context, h History, promise string, o Options) History {
	still := func(acts []Act) bool {
		short := h
		short.Acts = acts
		limited, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		_, err := short.Play(limited, o)
		b, ok := errors.AsType[*Broken](err)
		return ok && b.Promise == promise
	}
	h.Acts = shorten(ctx, h.Acts, still)
	return h
}

// shorten leaves out what still does not need: halves first, then less and less.
func shorten(ctx context.Context, acts []Act, still func([]Act) bool) []Act {
	for size := max(len(acts)/2, 1); ctx.Err() == nil; {
		shorter := false
		for from := 0; from < len(acts) && ctx.Err() == nil; {
			without := slices.Delete(slices.Clone(acts), from, min(from+size, len(acts)))
			if still(without) {
				acts, shorter = without, true
			} else {
				from += size
			}
		}
		if size == 1 && !shorter {
			break
		}
		size = max(size/2, 1)
	}
	return acts
}
