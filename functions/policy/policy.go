// Package policy answers Cinder's policy check (oslo.policy's http: rule): whether
// a backup may be deleted or changed by whoever asks Cinder for it.
//
// It needs nothing but the request: if the body holds the backup, the body is enough to decide,
// and the ledger can only add a refusal. Callers are not authenticated, so answers reveal
// nothing.
//
// Set off by: HTTP.
package policy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"staffeln/functions/backup"
)

// Ledger is the part of the ledger that policy uses.
type Ledger interface {
	// Find returns the record of an automated backup in any project.
	Find(ctx context.Context, backupID string) (backup.Record, bool, error)
}

// Cloud is the part of OpenStack that policy uses.
type Cloud interface {
	// FindBackup reads a backup of any project that the service user may see.
	FindBackup(ctx context.Context, id string) (backup.CinderBackup, error)
	// Self is the id of the service's own user, "" if it is not known yet.
	Self() string
}

// Limiter bounds the look-ups of all processes together. With an error, the look-up goes on.
type Limiter interface {
	Allow(ctx context.Context, what string, perSecond int) (bool, error)
}

// Settings are the operator's.
type Settings struct {
	// Roles may delete and change automated backups: "admin", "service".
	Roles []string
	// Users are the ids of users that may do so too, and whose backups are automated: the
	// service's own user, for as long as Keystone cannot be asked for it.
	Users []string
	// Rate is the most look-ups per second; 0 is no limit.
	Rate int
}

// Rules returns the rules of the check. self is the id of the service's own user, "" if it is
// not known yet.
func (s Settings) Rules(self string) backup.CheckRules {
	if self == "" {
		return backup.CheckRules{Users: s.Users, Roles: s.Roles}
	}
	return backup.CheckRules{Users: append(backup.Makers{self}, s.Users...), Roles: s.Roles, Complete: true}
}

// Function is policy, ready to serve. All but Settings, Log, Count and Now may be
// nil, and may return nil: nothing is there to be asked (yet).
type Function struct {
	Ledger   func() Ledger
	Cloud    func() Cloud
	Limiter  func() Limiter
	Settings Settings
	Log      *slog.Logger
	Count    func(name string, n float64, labels ...string)
	Now      func() time.Time
}

// Bounds of one check, and of all together.
const (
	// maxBody is the longest body, in bytes. Cinder's have 2 KiB, or 200 KiB with as much
	// metadata as Cinder allows.
	maxBody = 1 << 20
	// A longer body than usualBody takes one of largeBodies places, so that all bodies together
	// stay within 32 MiB.
	usualBody   = 32 << 10
	largeBodies = 16
	// ledgerAnswer is the timeout of a look-up in Redis, ledgerDown how long the circuit breaker
	// stays open after a failure, ledgerLookups how many look-ups run at once.
	ledgerAnswer  = 250 * time.Millisecond
	ledgerDown    = 5 * time.Second
	ledgerLookups = 64
	// The same for Cinder. Old releases of oslo.policy wait for our answer for ever, the others
	// for a minute.
	cinderAnswer  = 20 * time.Second
	cinderLookups = 8
)

// Path is the path of the check.
const Path = "/v1/backup"

// Handler serves POST /v1/backup?backup_id=ID.
//
// The answer is the four bytes True, or a reason with the status 401.
// oslo.policy looks at nothing but the body, follows redirects, and strips quotes
// (oslo_policy/_external.py, HttpCheck): so nothing here redirects, and no other
// answer reads as True.
func (f *Function) Handler() http.Handler { return newHandler(f) }

type handler struct {
	*Function
	// large, ledgerRoom and cinderRoom are semaphores.
	large, ledgerRoom, cinderRoom chan struct{}
	ledgerBreaker                 breaker
	current                       atomic.Pointer[current]
	warnings                      warnings
}

// current are the rules with the service's own user, self.
type current struct {
	self  string
	rules backup.CheckRules
}

func newHandler(f *Function) *handler {
	return &handler{
		Function:   f,
		large:      make(chan struct{}, largeBodies),
		ledgerRoom: make(chan struct{}, ledgerLookups),
		cinderRoom: make(chan struct{}, cinderLookups),
	}
}

// Only yes reads as True, whatever quotes and spaces are stripped.
var (
	yes       = []byte("True")
	plainText = []string{"text/plain"}
)

// ServeHTTP implements [http.Handler]. It takes paths as they are, because a mux would redirect
// to a cleaned path.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if v == http.ErrAbortHandler {
			panic(v)
		}
		// The log gets the stack, never the panic value, which may contain secrets.
		h.Log.ErrorContext(r.Context(), "policy check panicked", "stack", string(debug.Stack()))
		h.answer(w, r, backup.CheckRequest{}, refused{"panic", "internal error"}.decision())
	}()
	switch {
	case r.URL.Path != Path || r.URL.RawPath != "":
		NotFound(w, r)
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		say(w, http.StatusMethodNotAllowed, "this is for POST")
	default:
		h.check(w, r)
	}
}

// NotFound answers for unknown paths.
func NotFound(w http.ResponseWriter, _ *http.Request) {
	say(w, http.StatusNotFound, "there is nothing here")
}

// say answers with a text, which is never True.
func say(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h["Content-Type"] = plainText
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n") // the caller may be gone
}

// refused is a request that cannot be read or is not handled.
type refused struct{ because, why string }

func (e refused) Error() string { return e.why }

func (e refused) decision() backup.CheckDecision {
	return backup.CheckDecision{Source: backup.FromNobody, Because: backup.Reason(e.because), Why: e.why}
}

// check answers the policy check.
func (h *handler) check(w http.ResponseWriter, r *http.Request) {
	request, err := h.read(r)
	if err != nil {
		var no refused
		if !errors.As(err, &no) {
			no = refused{"unreadable", err.Error()}
		}
		h.answer(w, r, request, no.decision())
		return
	}
	h.answer(w, r, request, h.decide(r.Context(), request))
}

// decide answers a request, with as many look-ups as that takes.
func (h *handler) decide(ctx context.Context, request backup.CheckRequest) backup.CheckDecision {
	rules := h.rules()
	var e backup.CheckEvidence
	for {
		decision := rules.Decide(request, e)
		switch {
		case decision.Ask == "":
			return decision
		case request.Backup == "":
			return refused{"unreadable", "the request names no backup"}.decision()
		}
		// The rate limit does not apply to a request that shows the backup: its look-up costs no
		// more than the limit, and a flood of other requests must not get it refused.
		if e == (backup.CheckEvidence{}) && !request.Shown && !h.mayLookUp(ctx) {
			return refused{"busy", "there are too many look-ups just now"}.decision()
		}
		switch decision.Ask {
		case backup.FromLedger:
			e.Ledger = h.askLedger(ctx, request.Backup)
		default:
			e.Cinder = h.askCinder(ctx, request.Backup)
		}
	}
}

// rules returns the rules, with the service's own user as soon as Keystone has told its id.
func (h *handler) rules() backup.CheckRules {
	self := ""
	if c := call(h.Cloud); c != nil {
		self = c.Self()
	}
	now := h.current.Load()
	if now == nil || now.self != self {
		now = &current{self, h.Settings.Rules(self)}
		h.current.Store(now)
	}
	return now.rules
}

func call[T any](f func() T) (t T) {
	if f != nil {
		t = f()
	}
	return t
}

// answer writes a decision and counts it.
func (h *handler) answer(w http.ResponseWriter, r *http.Request, q backup.CheckRequest, d backup.CheckDecision) {
	if !d.Allow {
		h.Count("policy_verdicts_total", 1, "deny", string(d.Source), string(d.Because))
		h.log(r.Context(), q, d)
		say(w, http.StatusUnauthorized, d.Why)
		return
	}
	h.Count("policy_verdicts_total", 1, "allow", string(d.Source), string(d.Because))
	w.Header()["Content-Type"] = plainText
	_, _ = w.Write(yes) // if the caller is gone, nothing is deleted
}

// log warns of refusals that were not meant: the request could not be read, or nobody could
// decide. To refuse automated backups is the purpose of the check; the metric counts that.
func (h *handler) log(ctx context.Context, q backup.CheckRequest, d backup.CheckDecision) {
	switch d.Because {
	case backup.BecauseMarked, backup.BecauseCreator, backup.BecauseKnown, backup.BecauseMissing:
		h.Log.DebugContext(ctx, "refused", "backup", q.Backup, "why", d.Why)
		return
	}
	if may, missed := h.warnings.may(h.Now(), d.Because); may {
		h.Log.WarnContext(ctx, "refused in doubt", "backup", q.Backup, "why", d.Why, "since_last", missed)
	}
}

// warnings keeps strangers from flooding the log: one line per reason and minute.
type warnings struct {
	mu   sync.Mutex
	last map[backup.Reason]warning
}

type warning struct {
	at     time.Time
	missed int
}

// may says whether a line may be logged, and how many were not since the last one.
func (w *warnings) may(now time.Time, about backup.Reason) (may bool, missed int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil {
		w.last = map[backup.Reason]warning{}
	}
	l, before := w.last[about]
	if since := now.Sub(l.at); before && since >= 0 && since < time.Minute {
		w.last[about] = warning{l.at, l.missed + 1}
		return false, 0
	}
	w.last[about] = warning{at: now}
	return true, l.missed
}
