package process

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"staffeln/functions/policy"
)

// A Front answers for a process from its first moment on, whatever else is up:
//
//	GET /healthz, /_/health   200 while the process lives
//	GET /readyz, /_/ready     200 while it can work, else 503, with each check as JSON
//	everything else           the function's handler; 503 while there is none
//
// Anybody may ask for health and readiness, so the answers name no address and no error:
// those are in the log.
type Front struct {
	log  *slog.Logger
	slow bool

	mu      sync.Mutex
	next    http.Handler
	checks  []Check
	begun   bool
	leaving bool
	told    string // what the log was last told of failing checks
}

// A Check is one thing that readiness tells of.
type Check struct {
	Name string
	// Needed says that the process cannot do its work without it.
	Needed bool
	// Err returns nil where it is well.
	Err func(ctx context.Context) error
}

// Begin makes readiness what the checks say. Before it, the process is not ready.
func (f *Front) Begin(checks ...Check) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.begun, f.checks = true, checks
}

// Handle makes next answer everything but health and readiness; nil is 503 for now. slow
// says that its answers may take as long as they like; it has no effect once it is served.
func (f *Front) Handle(next http.Handler, slow bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next, f.slow = next, slow
}

// Leave makes readiness false, and returns when a load balancer had the time to notice: at
// once if the process was never ready.
func (f *Front) Leave(ctx context.Context, grace time.Duration) {
	f.mu.Lock()
	begun := f.begun
	f.leaving = true
	f.mu.Unlock()
	if !begun {
		return
	}
	select {
	case <-time.After(grace):
	case <-ctx.Done():
	}
}

// probes are the paths of health and readiness: those of Kubernetes's habit, and OpenFaaS's.
var probes = map[string]func(*Front, http.ResponseWriter, *http.Request){
	"/healthz": (*Front).health, "/_/health": (*Front).health,
	"/readyz": (*Front).ready, "/_/ready": (*Front).ready,
}

// ServeHTTP implements [http.Handler]. It uses no mux, because a mux redirects and
// oslo.policy would follow.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if probe, ok := probes[r.URL.Path]; ok {
		if r.URL.RawPath != "" || r.Method != http.MethodGet && r.Method != http.MethodHead {
			policy.NotFound(w, r)
			return
		}
		probe(f, w, r)
		return
	}
	f.mu.Lock()
	next := f.next
	f.mu.Unlock()
	if next == nil {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "starting", http.StatusServiceUnavailable)
		return
	}
	next.ServeHTTP(w, r)
}

func (f *Front) health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	fmt.Fprintln(w, "ok")
}

func (f *Front) ready(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	begun, leaving, checks := f.begun, f.leaving, f.checks
	f.mu.Unlock()
	status, told := http.StatusOK, map[string]string{}
	switch {
	case leaving:
		told["process"] = "draining"
	case !begun:
		told["process"] = "starting"
	}
	if len(told) > 0 {
		status = http.StatusServiceUnavailable
	}
	var failed []string
	for i, err := range ask(r.Context(), checks) {
		told[checks[i].Name] = "ok"
		if err != nil {
			told[checks[i].Name] = "down"
			failed = append(failed, checks[i].Name+": "+err.Error())
			if checks[i].Needed {
				status = http.StatusServiceUnavailable
			}
		}
	}
	f.tell(r.Context(), failed)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(told) // whoever asked may be gone
}

// tell logs which checks fail, when that changes.
func (f *Front) tell(ctx context.Context, failed []string) {
	names := ""
	for _, one := range failed {
		name, _, _ := strings.Cut(one, ":")
		names += name + " "
	}
	f.mu.Lock()
	changed := f.told != names
	f.told = names
	f.mu.Unlock()
	switch {
	case changed && len(failed) > 0:
		f.log.WarnContext(ctx, "checks of readiness fail", "why", strings.Join(failed, "; "))
	case changed:
		f.log.InfoContext(ctx, "all checks of readiness pass again")
	}
}

// checkAnswer is how long a check may take: an orchestrator waits one second for the whole
// answer, and takes the process out of service if it is later.
const checkAnswer = 500 * time.Millisecond

// ask makes the checks at once. A check that does not answer in time has failed, even if it
// ignores its context.
func ask(ctx context.Context, checks []Check) []error {
	ctx, cancel := context.WithTimeout(ctx, checkAnswer)
	defer cancel()
	answers := make([]chan error, len(checks))
	for i, c := range checks {
		answers[i] = make(chan error, 1)
		go func() { answers[i] <- c.Err(ctx) }()
	}
	all := make([]error, len(checks))
	for i := range checks {
		select {
		case all[i] = <-answers[i]:
		case <-ctx.Done():
			all[i] = ctx.Err()
		}
	}
	return all
}
