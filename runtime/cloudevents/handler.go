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
//	draining                503 with Retry-After
package cloudevents

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
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
	// MaxBody is the most bytes of a request's body; 0 is 4 MiB. It bounds events,
	// not the requests of a plain HTTP function.
	MaxBody int64
	// BodyTime is how long a body may take to arrive; 0 is 30 s.
	BodyTime time.Duration
	// Ready says why the function cannot work now; a nil error, and a nil func, is
	// ready. It is asked at each look at /readyz.
	Ready func(context.Context) error
	// Grace is how long, when draining, requests are still taken after readiness has
	// become false: the time a load balancer needs to notice.
	Grace time.Duration
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

// A Server serves one function. Make one with [Handler].
type Server struct {
	function runtime.Function
	invoker  runtime.Invoker
	o        Options
	mux      *http.ServeMux
	large    chan struct{} // a place for each large body

	mu       sync.Mutex
	unready  bool // as last answered, to log changes only
	leaving  bool // readiness is false
	closed   bool // requests are refused
	underWay int
	idle     chan struct{} // closed when closed and nothing is under way
}

// Handler serves one function:
//
//	GET  /healthz, /_/health   200 while the process lives
//	GET  /readyz, /_/ready     200 while it can work, else 503
//	POST /                     events, if the function takes any
//	     everything else       the function's own HTTP handler, if it has one
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
func Handler(f runtime.Function, o Options) *Server {
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
	s := &Server{function: f, o: o, mux: http.NewServeMux(), idle: make(chan struct{}), large: make(chan struct{}, largeBodies)}
	s.invoker = runtime.Wrap(runtime.NewInProcess(o.Log, []runtime.Function{f}), runtime.Observed(o.Observe), runtime.Timeout(o.Timeout))
	for _, path := range []string{"/healthz", "/_/health"} {
		s.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	}
	for _, path := range []string{"/readyz", "/_/ready"} {
		s.mux.HandleFunc("GET "+path, s.ready)
	}
	if len(f.On) > 0 {
		s.mux.Handle("POST /{$}", s.guarded(http.HandlerFunc(s.event)))
	}
	if f.HTTP != nil {
		s.mux.Handle("/", s.guarded(f.HTTP))
	}
	return s
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Drain makes readiness false, after Grace refuses new requests with 503, and
// returns when those under way are over, or with an error when ctx ends before.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	s.leaving = true
	s.mu.Unlock()
	if s.o.Grace > 0 {
		select {
		case <-time.After(s.o.Grace):
		case <-ctx.Done():
		}
	}
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		if s.underWay == 0 {
			close(s.idle)
		}
	}
	s.mu.Unlock()
	select {
	case <-s.idle:
		return nil
	case <-ctx.Done():
		select {
		case <-s.idle:
			return nil
		default:
			return ctx.Err()
		}
	}
}

func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	leaving := s.leaving
	s.mu.Unlock()
	if leaving {
		http.Error(w, "draining", http.StatusServiceUnavailable)
		return
	}
	var err error
	if s.o.Ready != nil {
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		err = s.o.Ready(ctx)
	}
	s.mu.Lock()
	changed := s.unready != (err != nil)
	s.unready = err != nil
	s.mu.Unlock()
	switch {
	case err != nil && changed: // the reason is for the log, not for whoever asks
		s.o.Log.WarnContext(r.Context(), "not ready", "function", s.function.Name, "err", err)
	case changed:
		s.o.Log.InfoContext(r.Context(), "ready again", "function", s.function.Name)
	}
	if err != nil {
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	io.WriteString(w, "ready\n")
}

// guarded counts what is under way, refuses when draining, and keeps a panic from
// being logged by net/http with what was panicked with.
func (s *Server) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		closed := s.closed
		if !closed {
			s.underWay++
		}
		s.mu.Unlock()
		if closed {
			w.Header().Set("Retry-After", "1")
			w.Header().Set("Connection", "close")
			http.Error(w, "draining", http.StatusServiceUnavailable)
			return
		}
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.underWay--
			if s.closed && s.underWay == 0 {
				close(s.idle)
			}
		}()
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(v)
			}
			s.o.Log.ErrorContext(r.Context(), "function panicked", "function", s.function.Name, "stack", string(debug.Stack()))
			http.Error(w, "internal error", http.StatusInternalServerError)
		}()
		next.ServeHTTP(w, r)
	})
}

func (s *Server) event(w http.ResponseWriter, r *http.Request) {
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
func (s *Server) invoke(ctx context.Context, got []events.Event) error {
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
	const most = 500
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = strings.TrimSpace(s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}
