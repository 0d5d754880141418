// Package cloudevents carries events over HTTP as CloudEvents 1.0: [Handler] is
// the side inside a function's container, [Client] the side that calls it.
//
// The status carries the answer, since gateways agree only on repeating 429, 502
// and 504:
//
//	done                    204
//	retry, no sooner than   429 with Retry-After in whole seconds, rounded up
//	retry                   502
//	dropped                 422, 413 for a body that is too large
package cloudevents

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"staffeln/events"
	"staffeln/runtime"
)

// Options set up a [Handler]; zero values are good.
type Options struct {
	// Log is nil for slog.Default.
	Log *slog.Logger
	// Observe is told of every invocation; may be nil. What the function does not
	// take is none.
	Observe runtime.Observe
	// Timeout bounds one invocation; 0 is none.
	Timeout time.Duration
	// Shards is how many ticks come of one that names no shard, as cron sources send
	// them; 0 is 1.
	Shards int
	// Parallel is how many of those are under way at once; 0 is 4.
	Parallel int
	// MaxBody is the most bytes of a request's body; 0 is 4 MiB.
	MaxBody int64
	// BodyTime is how long a body may take to arrive; 0 is 30 s.
	BodyTime time.Duration
	// Now is the time of an event that names none, and what the others' times are held
	// against; nil is the real clock.
	Now func() time.Time
	// Ahead and Late are how far a tick's time may be ahead of and behind Now; 0 is 5
	// minutes and 2 hours. Whoever reaches the address can write any time into a tick,
	// and rules take it for the present.
	Ahead, Late time.Duration
}

// Bounds of bodies: those of more than usualBody share largeBodies places, so that
// all of them together stay within 64 MiB.
const (
	usualBody   = 64 << 10
	largeBodies = 16
)

// A server serves one function.
type server struct {
	function runtime.Function
	invoker  runtime.Invoker
	o        Options
	large    chan struct{} // a place for each large body
}

// Handler serves the events of one function, at POST /.
//
// An event comes in binary mode (Ce- headers), in structured mode
// (application/cloudevents+json), or as a bare oslo envelope. These types are read
// in a way of their own, all others are handed to the function as they are:
//
//   - dev.knative.rabbitmq.event: the data is an oslo envelope, from which the event
//     comes with its id; Ce-Id is another on every delivery.
//   - dev.knative.sources.ping: the data is {"tick": "dispatch"}, with "shard": 3 for
//     one shard; without, each shard gets its tick, at the time of the ping.
//   - tick.NAME whose id is not that of a tick: likewise.
//
// An event of a type that the function does not take is answered with 204. One whose
// time is ahead counts as of now; a tick that is too far off is dropped.
func Handler(f runtime.Function, o Options) http.Handler {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Observe == nil {
		o.Observe = func(string, string, events.Outcome, time.Duration, error) {}
	}
	if o.Shards <= 0 {
		o.Shards = 1
	}
	if o.Parallel <= 0 {
		o.Parallel = 4
	}
	if o.MaxBody <= 0 {
		o.MaxBody = 4 << 20
	}
	if o.BodyTime <= 0 {
		o.BodyTime = 30 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Ahead <= 0 {
		o.Ahead = 5 * time.Minute
	}
	if o.Late <= 0 {
		// A timer's interval is an hour at most, and the next tick takes the place of one
		// that waits.
		o.Late = 2 * time.Hour
	}
	s := &server{function: f, o: o, large: make(chan struct{}, largeBodies)}
	s.invoker = runtime.Wrap(runtime.NewInProcess(o.Log, []runtime.Function{f}), runtime.Observed(o.Observe), runtime.Timeout(o.Timeout))
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{$}", s.event)
	return mux
}

func (s *server) event(w http.ResponseWriter, r *http.Request) {
	// The server has no limit for requests, since functions may take long; their bodies
	// may not. Writers that know no deadlines are tests'.
	deadline := http.NewResponseController(w)
	_ = deadline.SetReadDeadline(time.Now().Add(s.o.BodyTime))
	whole := http.MaxBytesReader(w, r.Body, s.o.MaxBody)
	body, err := io.ReadAll(io.LimitReader(whole, usualBody+1))
	if err == nil && len(body) > usualBody {
		select {
		case s.large <- struct{}{}:
			defer func() { <-s.large }()
		default:
			answer(w, events.Later(time.Second, errors.New("there are too many large bodies just now")))
			return
		}
		var rest []byte
		rest, err = io.ReadAll(whole)
		body = append(body, rest...)
	}
	if err == nil {
		_ = deadline.SetReadDeadline(time.Time{})
	} else {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			http.Error(w, "body of more than "+strconv.FormatInt(s.o.MaxBody, 10)+" bytes", http.StatusRequestEntityTooLarge)
			return
		}
		http.Error(w, "body cut off", http.StatusBadRequest)
		return
	}
	got, err := s.read(r.Header, body)
	if err != nil {
		s.o.Log.ErrorContext(r.Context(), "event refused", "function", s.function.Name, "err", err)
		answer(w, events.Drop(err))
		return
	}
	answer(w, s.invoke(r.Context(), got))
}

// invoke runs the function with every event it takes: one, or the ticks of all
// shards.
func (s *server) invoke(ctx context.Context, got []events.Event) error {
	answers := make([]error, len(got))
	var all sync.WaitGroup
	room := make(chan struct{}, s.o.Parallel)
	for i, e := range got {
		if !s.function.Takes(e.Type) {
			continue
		}
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			answers[i] = s.invoker.Invoke(ctx, s.function.Name, e)
		})
	}
	all.Wait()
	return runtime.Together(answers...)
}

// answer writes a function's answer as a status; see the package's comment.
func answer(w http.ResponseWriter, err error) {
	switch outcome, wait := events.Judge(err); {
	case outcome == events.Done:
		w.WriteHeader(http.StatusNoContent)
	case outcome == events.Dropped:
		http.Error(w, oneLine(err.Error()), http.StatusUnprocessableEntity)
	case wait > 0:
		seconds := (wait + time.Second - 1) / time.Second
		if wait > maxWait {
			seconds = maxWait / time.Second
		}
		w.Header().Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
		http.Error(w, oneLine(err.Error()), http.StatusTooManyRequests)
	default:
		http.Error(w, oneLine(err.Error()), http.StatusBadGateway)
	}
}

// maxWait bounds a Retry-After, sent or received.
const maxWait = 24 * time.Hour

// oneLine bounds a text that goes from one process to another's log.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	return fmt.Sprintf("%.500s", strings.TrimSpace(s))
}
