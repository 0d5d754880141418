// Package policy answers Cinder's policy check (oslo.policy's http: rule): whether
// a backup may be deleted or changed by whoever asks Cinder for it.
//
// It needs nothing but the request: a body that holds the backup is decided on by
// itself, and what the ledger knows can only add a no. It guards the tenants'
// backups against the tenants, and Cinder against itself: it is asked without
// being told by whom, answers anybody, and tells nobody anything.
//
// Set off by: HTTP.
package policy

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"staffeln/events/wire"
	"staffeln/functions/backup"
)

// Ledger is what policy needs of our own memory.
type Ledger interface {
	// Find is what is remembered of an automated backup.
	Find(ctx context.Context, backupID string) (backup.Record, bool, error)
	// Volume is what is remembered of a protected volume; ok is false where it is not
	// protected. RecordsOf are those of its backups, Retention that of its project's
	// removals: all three for the "why" alone.
	Volume(ctx context.Context, project, volume string) (v backup.Protected, ok bool, err error)
	RecordsOf(ctx context.Context, project, volume string) ([]backup.Record, error)
	Retention(ctx context.Context, project string) (backup.Retention, error)
}

// Cloud is what policy needs of OpenStack.
type Cloud interface {
	// FindBackup shows a backup of any project, as far as the rights reach.
	FindBackup(ctx context.Context, id string) (backup.CinderBackup, error)
	// Self is the id of the service's own user, "" where it is not known yet.
	Self() string
	// BackupsOf with no since is the complete list of a volume's backups in a project.
	BackupsOf(ctx context.Context, project, volume string, since time.Time) ([]backup.CinderBackup, error)
}

// Limiter bounds the look-ups of all processes together. An error lets through.
type Limiter interface {
	Allow(ctx context.Context, what string, perSecond int) (bool, error)
}

// Settings are the operator's.
type Settings struct {
	// Roles may delete and change automated backups: "admin", "service".
	Roles []string
	// Users are ids of users that may, too, and whose backups are automated: the
	// service's own where Keystone cannot be asked for it.
	Users []string
	// Rate is how many look-ups a second there may be at most; 0 is no limit.
	Rate int
	// Token is the operator's, for the "why"; "" for no such thing.
	Token string
	// Classes and Orphan are the operator's for retention: the "why" says what
	// retention would decide.
	Classes backup.Classes
	Orphan  backup.Age
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
	// maxBody is the most bytes of a body. Cinder's are of 2 KiB, and of 200 with as
	// much metadata as fits.
	maxBody = 1 << 20
	// usualBody is what a body may have without anybody asking; longer ones share
	// largeBodies places, so that all of them together stay within 32 MiB.
	usualBody   = 32 << 10
	largeBodies = 16
	// ledgerAnswer is how long Redis may take, ledgerDown how long it is left alone
	// after it did not answer, ledgerLookups how many look-ups are under way at once.
	ledgerAnswer  = 250 * time.Millisecond
	ledgerDown    = 5 * time.Second
	ledgerLookups = 64
	// cinderAnswer is how long Cinder may take: old releases of oslo.policy wait for
	// ever, the others for a minute. cinderLookups is as with the ledger.
	cinderAnswer  = 20 * time.Second
	cinderLookups = 8
)

// Path is that of the check; the one of the "why" is below it.
const Path = "/v1/backup"

// Handler serves POST /v1/backup?backup_id=ID and, for those who show the
// operator's token, GET /v1/backup/{id}/why.
//
// The answer of the check is the four bytes True, or a reason with the status 401.
// oslo.policy looks at nothing but the body, follows redirects, and strips quotes
// (oslo_policy/_external.py, HttpCheck): so nothing here redirects, and no other
// answer reads as True.
func (f *Function) Handler() http.Handler { return newHandler(f) }

type handler struct {
	*Function
	token [sha256.Size]byte
	// large, ledgerRoom and cinderRoom have one place for each that is under way.
	large, ledgerRoom, cinderRoom chan struct{}
	ledgerRest                    rest
	guards                        atomic.Pointer[known]
	told                          told
}

// known is whose the automated backups are, the service's own user included.
type known struct {
	self   string
	guards backup.Guards
}

func newHandler(f *Function) *handler {
	return &handler{
		Function: f, token: sha256.Sum256([]byte(f.Settings.Token)),
		large:      make(chan struct{}, largeBodies),
		ledgerRoom: make(chan struct{}, ledgerLookups),
		cinderRoom: make(chan struct{}, cinderLookups),
	}
}

// Answers. None but yes reads as True, however it is stripped.
var (
	yes       = []byte("True")
	plainText = []string{"text/plain"}
)

// ServeHTTP implements [http.Handler]. It takes paths as they are: what a mux would
// clean up first, it would do by a redirect.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if v == http.ErrAbortHandler {
			panic(v)
		}
		// What was panicked with may hold anything; where it was does not.
		h.Log.ErrorContext(r.Context(), "policy check panicked", "stack", string(debug.Stack()))
		h.answer(w, r, backup.Plea{}, refused{"panic", "internal error"}.ruling())
	}()
	switch id, why := whyPath(r.URL); {
	case r.URL.Path == Path && r.URL.RawPath == "":
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			say(w, http.StatusMethodNotAllowed, "this is for POST")
			return
		}
		h.check(w, r)
	case why && r.Method == http.MethodGet && h.operator(r):
		h.why(w, r, id)
	default:
		NotFound(w, r)
	}
}

// NotFound answers for paths that are none.
func NotFound(w http.ResponseWriter, _ *http.Request) {
	say(w, http.StatusNotFound, "there is nothing here")
}

// say answers with a text, never with True.
func say(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h["Content-Type"] = plainText
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n") // whoever asked may be gone
}

// refused is a request that is not understood, or not taken on.
type refused struct{ because, why string }

func (e refused) Error() string { return e.why }

func (e refused) ruling() backup.Ruling {
	return backup.Ruling{Source: backup.FromNobody, Because: backup.Grounds(e.because), Why: e.why}
}

// check answers the policy check.
func (h *handler) check(w http.ResponseWriter, r *http.Request) {
	plea, err := h.read(r)
	if err != nil {
		var no refused
		if !errors.As(err, &no) {
			no = refused{"unreadable", err.Error()}
		}
		h.answer(w, r, plea, no.ruling())
		return
	}
	h.answer(w, r, plea, h.rule(r.Context(), plea))
}

// rule decides about a plea, and asks around as far as that takes.
func (h *handler) rule(ctx context.Context, plea backup.Plea) backup.Ruling {
	guards := h.guardsNow()
	var t backup.Testimonies
	for {
		ruling := guards.Protect(plea, t)
		switch {
		case ruling.Hear == "":
			return ruling
		case plea.Backup == "":
			return refused{"unreadable", "the request names no backup"}.ruling()
		}
		// One that shows the backup is not held back: its look-up is as cheap as asking
		// whether it may be made, and nobody else's flood may take it away.
		if t == (backup.Testimonies{}) && !plea.Shown && !h.mayLookUp(ctx) {
			return refused{"busy", "there are too many look-ups just now"}.ruling()
		}
		switch ruling.Hear {
		case backup.FromLedger:
			t.Ledger = h.askLedger(ctx, plea.Backup)
		default:
			t.Cinder = h.askCinder(ctx, plea.Backup)
		}
	}
}

// guardsNow are the guards with the service's own user, as soon as Keystone has
// told who that is.
func (h *handler) guardsNow() backup.Guards {
	self := ""
	if c := call(h.Cloud); c != nil {
		self = c.Self()
	}
	k := h.guards.Load()
	if k == nil || k.self != self {
		k = &known{self, backup.Guards{Users: h.Settings.Users, Roles: h.Settings.Roles, Whole: self != ""}}
		if self != "" {
			k.guards.Users = append(backup.Makers{self}, k.guards.Users...)
		}
		h.guards.Store(k)
	}
	return k.guards
}

func call[T any](f func() T) (t T) {
	if f != nil {
		t = f()
	}
	return t
}

// answer writes a ruling, counts it, and tells of those that somebody may have to
// look into.
func (h *handler) answer(w http.ResponseWriter, r *http.Request, p backup.Plea, ruling backup.Ruling) {
	if !ruling.Allow {
		h.Count("policy_verdicts_total", 1, "deny", string(ruling.Source), string(ruling.Because))
		h.tell(r.Context(), p, ruling)
		say(w, http.StatusUnauthorized, ruling.Why)
		return
	}
	h.Count("policy_verdicts_total", 1, "allow", string(ruling.Source), string(ruling.Because))
	w.Header()["Content-Type"] = plainText
	_, _ = w.Write(yes) // whoever asked may be gone: then nothing is deleted
}

// read reads the request. The plea is that of the body, and where the body names no
// backup, of the query.
func (h *handler) read(r *http.Request) (backup.Plea, error) {
	asked, err := backupID(r.URL.RawQuery)
	if err != nil {
		return backup.Plea{}, err
	}
	contentType := r.Header["Content-Type"]
	switch encoding := r.Header.Get("Content-Encoding"); {
	case encoding != "" && !strings.EqualFold(encoding, "identity"):
		return backup.Plea{}, errors.New("compressed bodies are not read")
	case len(contentType) > 1:
		return backup.Plea{}, errors.New("the body is said to be of several types")
	}
	b := buffers.Get().(*buffer)
	defer b.free()
	if err := h.readBody(r, b); err != nil {
		return backup.Plea{}, err
	}
	plea, err := b.decode(first(contentType))
	switch {
	case err != nil:
		return backup.Plea{}, err
	case plea.Backup == "":
		plea.Backup = asked
	case asked != "" && asked != plea.Backup:
		return backup.Plea{}, refused{"mismatch", "the address names one backup, and the body another"}
	}
	return plea, nil
}

func first(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return all[0]
}

// backupID reads the id in the query, in lower case; "" where there is none at all.
func backupID(query string) (string, error) {
	if query == "" {
		return "", nil
	}
	id, plain := strings.CutPrefix(query, "backup_id=")
	if !plain || len(id) != len("8bd2b617-daa5-4aa3-b199-e5d6bad361fb") {
		values, err := url.ParseQuery(query)
		if err != nil {
			return "", errors.New("the address has a query that is none")
		}
		all, there := values["backup_id"]
		switch {
		case !there:
			return "", nil
		case len(all) > 1:
			return "", errors.New("the address names several backups")
		}
		id = all[0]
	}
	clean, ok := wire.ResourceID(id)
	if !ok {
		return "", errors.New("backup_id is not an id")
	}
	return clean, nil
}

// A buffer is where one body is read and taken apart.
type buffer struct{ body, scratch []byte }

var buffers = sync.Pool{New: func() any { return &buffer{body: make([]byte, 0, 4<<10)} }}

// free gives back what is of the usual size.
func (b *buffer) free() {
	if cap(b.body) <= usualBody && cap(b.scratch) <= usualBody {
		buffers.Put(b)
	}
}

func (b *buffer) decode(contentType string) (p backup.Plea, err error) {
	p, b.scratch, err = decode(contentType, b.body, b.scratch)
	return p, err
}

// readBody reads the whole body. It takes no more memory than what has come: a
// length that is only announced costs nothing.
func (h *handler) readBody(r *http.Request, b *buffer) error {
	tooLarge := refused{"oversize", "the body is too large"}
	b.body = b.body[:0]
	if r.ContentLength > maxBody {
		return tooLarge
	}
	large := false
	defer func() {
		if large {
			<-h.large
		}
	}()
	for {
		if len(b.body) == cap(b.body) {
			switch {
			case len(b.body) > maxBody:
				return tooLarge
			case len(b.body) >= usualBody && !large:
				select {
				case h.large <- struct{}{}:
					large = true
				default:
					return refused{"busy", "there are too many large bodies just now"}
				}
			}
			b.body = append(make([]byte, 0, max(4<<10, min(2*cap(b.body), maxBody+1))), b.body...)
		}
		n, err := r.Body.Read(b.body[len(b.body):cap(b.body)])
		b.body = b.body[:len(b.body)+n]
		switch {
		case errors.Is(err, io.EOF) && len(b.body) > maxBody:
			return tooLarge
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return errors.New("the body was cut off") // too slow, or of another length than announced
		}
	}
}

// told keeps lines from becoming a flood: strangers write as many requests as they
// like.
type told struct {
	mu   sync.Mutex
	last map[backup.Grounds]line
}

type line struct {
	at     time.Time
	missed int
}

// may says whether there may be a line about it, and how many there were not since
// the last.
func (t *told) may(now time.Time, about backup.Grounds) (may bool, missed int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last == nil {
		t.last = map[backup.Grounds]line{}
	}
	l, before := t.last[about]
	if since := now.Sub(l.at); before && since >= 0 && since < time.Minute {
		t.last[about] = line{l.at, l.missed + 1}
		return false, 0
	}
	t.last[about] = line{at: now}
	return true, l.missed
}

// tell tells the operator of refusals that are nobody's wish: a request that cannot
// be read, or that nobody can decide about. That automated backups are refused is
// what the check is for; the metric counts it.
func (h *handler) tell(ctx context.Context, p backup.Plea, ruling backup.Ruling) {
	switch ruling.Because {
	case backup.BecauseMarked, backup.BecauseCreator, backup.BecauseKnown, backup.BecauseMissing:
		h.Log.DebugContext(ctx, "refused", "backup", p.Backup, "why", ruling.Why)
		return
	}
	if may, missed := h.told.may(h.Now(), ruling.Because); may {
		h.Log.WarnContext(ctx, "refused in doubt", "backup", p.Backup, "why", ruling.Why, "since_last", missed)
	}
}
