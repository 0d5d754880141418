package home

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"staffeln/functions/policy"
	"staffeln/runtime/ledger"
	"staffeln/runtime/openstack"
)

// A Front is what a process serves from its first moment on, whatever else is up:
// the policy check, and whether the process is well.
//
//	POST /v1/backup            the policy check, see functions/policy
//	GET  /healthz, /_/health   200 while the process lives
//	GET  /readyz, /_/ready     200 while it can work, else 503, with each check as JSON
//
// Neither health nor readiness says more to those who ask without being known.
type Front struct {
	policy http.Handler

	// What the policy check may ask, as soon as it is there.
	ledger  atomic.Pointer[ledger.Ledger]
	limiter atomic.Pointer[ledger.Limiter]
	cloud   atomic.Pointer[openstack.Cloud]

	mu      sync.Mutex
	checks  []Check
	begun   bool
	leaving bool
}

// A Check is one thing that readiness tells of.
type Check struct {
	Name string
	// Needed says that the process cannot do its work without.
	Needed bool
	// Err returns nil where it is well.
	Err func(ctx context.Context) error
}

// newFront makes the front of a home that is not connected to anything yet.
func newFront(h *Home) *Front {
	f, s := &Front{}, h.Settings
	check := &policy.Function{
		Ledger: func() policy.Ledger {
			if l := f.ledger.Load(); l != nil {
				return l
			}
			return nil
		},
		Limiter: func() policy.Limiter {
			if l := f.limiter.Load(); l != nil {
				return l
			}
			return nil
		},
		Cloud: func() policy.Cloud {
			if c := f.cloud.Load(); c != nil {
				return c
			}
			return nil
		},
		Settings: policy.Settings{
			Roles: s.PolicyRoles, Users: s.PolicyUsers, Rate: s.PolicyRate, Token: s.OperatorToken.Reveal(),
			Classes: s.Policies(), Orphan: s.OrphanRetention,
		},
		Log: h.Log.With("function", "policy"), Count: h.Metrics.Count, Now: time.Now,
	}
	f.policy = check.Handler()
	return f
}

// Know lets the policy check ask OpenStack, which also tells it who the service user is.
func (f *Front) Know(c *openstack.Cloud) { f.cloud.Store(c) }

// Begin makes readiness what the checks say. Until then the process is not ready.
func (f *Front) Begin(checks ...Check) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.begun, f.checks = true, checks
}

// Leave makes readiness false, and returns when a load balancer had the time to
// notice; at once where it never was true.
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

// ServeHTTP implements [http.Handler]. There is no mux, since it would redirect.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	health, ready := false, false
	switch r.URL.Path {
	case "/healthz", "/_/health":
		health = true
	case "/readyz", "/_/ready":
		ready = true
	default:
		f.policy.ServeHTTP(w, r)
		return
	}
	switch {
	case r.URL.RawPath != "" || r.Method != http.MethodGet && r.Method != http.MethodHead:
		policy.NotFound(w, r)
	case health:
		w.Header().Set("Content-Type", "text/plain")
		fmt.Fprintln(w, "ok")
	case ready:
		f.ready(w, r)
	}
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
	for i, err := range ask(r.Context(), checks) {
		told[checks[i].Name] = "ok"
		if err != nil {
			told[checks[i].Name] = "down"
			if checks[i].Needed {
				status = http.StatusServiceUnavailable
			}
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(told) // whoever asked may be gone
}

// checkAnswer is how long a check may take: an orchestrator gives the whole answer
// a second, and takes the process out if it is later.
const checkAnswer = 500 * time.Millisecond

// ask makes the checks at once. One that does not answer in time is not well, even if
// it does not mind its context.
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
