package policy

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"staffeln/events/wire"
	"staffeln/functions/backup"
	"staffeln/functions/keep"
)

// whyAnswer bounds the gathering for one "why".
const whyAnswer = 25 * time.Second

// whyPath reads the path /v1/backup/{id}/why; id is as written.
func whyPath(u *url.URL) (id string, ok bool) {
	rest, ok := strings.CutPrefix(u.Path, Path+"/")
	if !ok || u.RawPath != "" {
		return "", false
	}
	id, ok = strings.CutSuffix(rest, "/why")
	return id, ok && id != "" && !strings.Contains(id, "/")
}

// operator says whether the request shows the operator's token. It takes as long
// for a wrong one as for the right one.
func (h *handler) operator(r *http.Request) bool {
	shown, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	sum := sha256.Sum256([]byte(shown))
	return ok && h.Settings.Token != "" && subtle.ConstantTimeCompare(sum[:], h.token[:]) == 1
}

// An Explanation is the answer to "why", for people and as JSON.
type Explanation struct {
	Backup  string `json:"backup"`
	Name    string `json:"name,omitempty"`
	Volume  string `json:"volume"`
	Project string `json:"project"`
	// Status is Cinder's; that last seen where Cinder cannot be asked.
	Status  string    `json:"status"`
	Created time.Time `json:"created"`
	// Protected says that the policy check refuses its deletion, By who says so:
	// metadata, ledger.
	Protected bool     `json:"protected"`
	By        []string `json:"protected_by"`
	// Origin is "forged" or "unverified" for a backup that carries our metadata and does
	// not count as ours, and Foreign says what that means; else both are left out.
	Origin  backup.Origin `json:"origin,omitempty"`
	Foreign string        `json:"foreign,omitempty"`
	// Keep says that retention keeps it, Why for what reason, and Until is when time
	// alone may change that; they are left out where that cannot be told.
	Keep  *bool      `json:"keep,omitempty"`
	Why   string     `json:"why,omitempty"`
	Until *time.Time `json:"until,omitempty"`
	// Held is what stands in the way of a removal.
	Held string `json:"held,omitempty"`
	// Newest says that it is the volume's newest complete restore point.
	Newest bool `json:"newest"`
	// Dependents are the backups that may build on it.
	Dependents []string `json:"dependents"`
	// Lacks says what could not be asked, and what that means.
	Lacks []string `json:"lacks,omitempty"`
}

// why answers a person, in a sentence or in JSON.
func (h *handler) why(w http.ResponseWriter, r *http.Request, written string) {
	id, ok := wire.ResourceID(written)
	if !ok {
		say(w, http.StatusNotFound, "that is not the id of a backup")
		return
	}
	if !h.mayLookUp(r.Context()) {
		w.Header().Set("Retry-After", "1")
		say(w, http.StatusTooManyRequests, "there are too many look-ups just now")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), whyAnswer)
	defer cancel()
	e, err := h.explain(ctx, id)
	switch {
	case errors.Is(err, errMissing):
		say(w, http.StatusNotFound, "there is no backup "+id)
	case err != nil:
		h.Log.WarnContext(ctx, "why not answered", "backup", id, "err", err)
		say(w, http.StatusServiceUnavailable, "neither Cinder nor the ledger can be asked about backup "+id+" now; the log says why")
	case wantsJSON(r.Header.Get("Accept")):
		w.Header().Set("Content-Type", "application/json")
		out := json.NewEncoder(w)
		out.SetEscapeHTML(false)
		_ = out.Encode(e) // whoever asked may be gone
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintln(w, e)
	}
}

// wantsJSON says whether JSON is accepted, and no text before it.
func wantsJSON(accept string) bool {
	for part := range strings.SplitSeq(accept, ",") {
		media, _, _ := strings.Cut(part, ";")
		switch strings.ToLower(strings.TrimSpace(media)) {
		case "application/json":
			return true
		case "text/plain", "text/*", "*/*":
			return false
		}
	}
	return false
}

var errMissing = errors.New("no such backup")

// explain gathers what there is to know of the backup, and asks retention's rule.
func (h *handler) explain(ctx context.Context, id string) (Explanation, error) {
	l, c := call(h.Ledger), call(h.Cloud)
	ledgerErr, cloudErr := errors.New("not connected to Redis yet"), errors.New("not connected to OpenStack yet")
	var record backup.Record
	recorded := false
	if l != nil {
		mine, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		type found struct {
			r  backup.Record
			ok bool
		}
		var f found
		f, ledgerErr = within(mine, h.ledgerRoom, func(ctx context.Context) (f found, err error) {
			f.r, f.ok, err = l.Find(ctx, id)
			return f, err
		})
		record, recorded = f.r, f.ok
	}
	var b backup.CinderBackup
	if c != nil {
		b, cloudErr = within(ctx, h.cinderRoom, func(ctx context.Context) (backup.CinderBackup, error) { return c.FindBackup(ctx, id) })
	}
	switch {
	case cloudErr == nil:
	case backup.FaultOf(cloudErr) == backup.Gone:
		return Explanation{}, errMissing
	case !recorded:
		return Explanation{}, fmt.Errorf("ledger: %v; cinder: %w", or(ledgerErr, "no such record"), cloudErr)
	}

	e := Explanation{Backup: id, By: []string{}, Dependents: []string{}}
	if cloudErr != nil {
		h.Log.WarnContext(ctx, "why answered without Cinder", "backup", id, "err", cloudErr)
		e.Volume, e.Project, e.Status, e.Created = record.Volume, record.Project, record.Status, record.Created
		e.Protected, e.By = true, []string{"ledger"}
		e.Lacks = []string{"Cinder cannot be asked now: whether retention keeps it is not known"}
		return e, nil
	}
	e.Name, e.Volume, e.Project, e.Status, e.Created = b.Name, b.Volume, b.Project, b.Status, b.Created
	if b.Ours() || b.Origin == backup.OriginUnverified {
		e.By = append(e.By, "metadata")
	}
	if recorded {
		e.By = append(e.By, "ledger")
	}
	e.Protected = len(e.By) > 0
	if b.Foreign() {
		f := backup.ForeignOf(b)
		e.Origin, e.Foreign = f.Origin, f.Why()
	}

	holding := keep.Holding{Project: b.Project, Volume: b.Volume, Orphan: h.Settings.Orphan}
	var known gathered
	if ledgerErr == nil {
		known, ledgerErr = h.remembered(ctx, l, &holding)
	}
	if ledgerErr != nil {
		h.Log.WarnContext(ctx, "why answered without the ledger", "backup", id, "err", ledgerErr)
		e.Lacks = append(e.Lacks, "the ledger cannot be asked now: the server's current policy, which may keep it longer, is not counted")
	}
	var err error
	holding.Backups, err = within(ctx, h.cinderRoom, func(ctx context.Context) ([]backup.CinderBackup, error) {
		return c.BackupsOf(ctx, b.Project, b.Volume, time.Time{})
	})
	if err == nil && !slices.ContainsFunc(holding.Backups, func(o backup.CinderBackup) bool { return o.ID == id }) {
		err = errors.New("the volume's list lacks it")
	}
	if err != nil {
		h.Log.WarnContext(ctx, "why answered without the volume's other backups", "backup", id, "err", err)
		e.Lacks = append(e.Lacks, "Cinder's list of the volume's backups cannot be had now: whether retention keeps it is not known")
		return e, nil
	}
	for _, f := range keep.Decide(holding, h.Now()) {
		if f.Backup.ID != id {
			continue
		}
		keep := f.Keep
		e.Keep, e.Why, e.Newest = &keep, f.Why, f.Newest
		if !f.Until.IsZero() {
			until := f.Until.UTC()
			e.Until = &until
		}
		e.Dependents = append(e.Dependents, f.Children...)
		if !keep {
			e.Held = cmp.Or(known.removals[id].Trouble, known.held)
		}
	}
	return e, nil
}

func or(err error, otherwise string) error { return cmp.Or(err, errors.New(otherwise)) }

// remembered adds to the holding what the ledger knows of the volume.
func (h *handler) remembered(ctx context.Context, l Ledger, to *keep.Holding) (gathered, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	got, err := within(ctx, h.ledgerRoom, func(ctx context.Context) (gathered, error) {
		var g gathered
		v, protected, err1 := l.Volume(ctx, to.Project, to.Volume)
		if protected {
			p := h.Settings.Classes.Strictest(v.Enrolments, h.Now())
			g.Policy, g.LastSlot = &p, v.State.LastSlot
		}
		records, err2 := l.RecordsOf(ctx, to.Project, to.Volume)
		g.Parents = map[string]string{}
		for _, r := range records {
			if r.Parent != "" {
				g.Parents[r.ID] = r.Parent
			}
		}
		retention, err3 := l.Retention(ctx, to.Project)
		if a, gone := retention.Gone[to.Volume]; gone && a.Times >= 2 && !protected {
			g.Gone = a.Since
		}
		g.held, g.removals = retention.Held, retention.Removals
		return g, errors.Join(err1, err2, err3)
	})
	to.Policy, to.LastSlot, to.Parents, to.Gone = got.Policy, got.LastSlot, got.Parents, got.Gone
	return got, err
}

// gathered is what the ledger knows of a volume, and of the removals in its project.
type gathered struct {
	keep.Holding
	held     string
	removals map[string]backup.Removal
}

// String is the explanation in sentences.
func (e Explanation) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "Backup %s of volume %s in project %s, %s, made at %s, ", e.Backup, e.Volume, e.Project, e.Status, e.Created.UTC().Format(time.RFC3339))
	switch {
	case e.Protected && e.Foreign != "":
		fmt.Fprintf(&s, "is protected by the %s: nobody but the backup service and operators may delete or change it. %s%s.",
			strings.Join(e.By, " and the "), strings.ToUpper(e.Foreign[:1]), e.Foreign[1:])
	case e.Foreign != "":
		fmt.Fprintf(&s, "may be deleted and changed by its owner: %s.", e.Foreign)
	case e.Protected:
		fmt.Fprintf(&s, "is an automated one, says the %s: nobody but the backup service and operators may delete or change it.", strings.Join(e.By, " and the "))
	default:
		s.WriteString("is its owner's own, to delete and change at will.")
	}
	if e.Keep != nil {
		verb := " Retention removes it: "
		if *e.Keep {
			verb = " Retention keeps it: "
		}
		s.WriteString(verb + e.Why + ".")
		if e.Newest && !strings.Contains(e.Why, "newest complete restore point") {
			s.WriteString(" It is the volume's newest complete restore point.")
		}
		if e.Until != nil {
			fmt.Fprintf(&s, " Time alone may change that at %s.", e.Until.Format(time.RFC3339))
		}
		if e.Held != "" {
			s.WriteString(" It is still there: " + e.Held + ".")
		}
	}
	switch n := len(e.Dependents); {
	case n == 1:
		fmt.Fprintf(&s, " One backup may build on it: %s.", e.Dependents[0])
	case n > 1:
		fmt.Fprintf(&s, " %d backups may build on it: %s.", n, strings.Join(e.Dependents, ", "))
	case e.Keep != nil:
		s.WriteString(" No other backup builds on it.")
	}
	for _, lack := range e.Lacks {
		fmt.Fprintf(&s, " But %s.", lack)
	}
	return s.String()
}
