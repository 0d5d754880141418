package simulate

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Shrink leaves acts out of a history that breaks a promise for as long as the same
// promise is broken without them, and until ctx ends.
func Shrink(ctx context.Context, h History, promise string) History {
	still := func(acts []Act) bool {
		short := h
		short.Acts = acts
		limited, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		_, err := short.Play(limited, Options{})
		b, ok := errors.AsType[*Broken](err)
		return ok && b.Promise == promise
	}
	for size := max(len(h.Acts)/2, 1); size > 0 && ctx.Err() == nil; {
		shorter := false
		for from := 0; from < len(h.Acts) && ctx.Err() == nil; {
			without := slices.Delete(slices.Clone(h.Acts), from, min(from+size, len(h.Acts)))
			if still(without) {
				h.Acts, shorter = without, true
			} else {
				from += size
			}
		}
		if size == 1 && !shorter {
			break
		}
		size = max(size/2, 1)
	}
	return h
}
