package ledger

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"staffeln/functions/backup"
)

// badID says why an id is refused, nil if it is not. Ids are part of keys and of
// rows, and come from messages that anybody may have sent.
func badID(kind string, ids ...string) error {
	for _, id := range ids {
		if !goodID(id) {
			return fmt.Errorf("ledger: not the id of a %s: %.40q", kind, id)
		}
	}
	return nil
}

func goodID(id string) bool {
	if id == "" || len(id) > 255 || id == "-" {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', strings.IndexByte("._:@+-", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// micros is a time in a row or a score: microseconds since 1970, "0" for none.
// A float64 holds them exactly until 2255.
func micros(t time.Time) string {
	if t.IsZero() {
		return "0"
	}
	return strconv.FormatInt(max(t.UnixMicro(), 1), 10)
}

func readMicros(s string) (time.Time, error) {
	n, err := readNumber(s)
	if err != nil || n == 0 {
		return time.Time{}, err
	}
	return time.UnixMicro(n).UTC(), nil
}

// readNumber reads a whole number. strconv's own error would hold all of what is
// none, and anything may stand in a row that somebody has broken.
func readNumber(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("not a number: %.40q", s)
	}
	return n, nil
}

// maxCount is more than there is of anything, and low enough to be added up and
// multiplied.
const maxCount = 1 << 40

// readCount reads how many there are of something.
func readCount(s string) (int, error) {
	n, err := readNumber(s)
	if err == nil && (n < 0 || n > maxCount) {
		err = fmt.Errorf("not a count: %.40q", s)
	}
	return int(n), err
}

// fromJSON reads what [toJSON] has written. encoding/json quotes what it does not
// like, at any length.
func fromJSON(row string, into any) error {
	if err := json.Unmarshal([]byte(row), into); err != nil {
		return fmt.Errorf("not our JSON: %.200s", err)
	}
	return nil
}

// named is an id of Redis's for an error: a bad one in quotes, and cut.
func named(id string) string {
	if goodID(id) {
		return id
	}
	return fmt.Sprintf("%.40q", id)
}

// scoreTime reads a score, which Redis may print either way.
func scoreTime(f float64) time.Time {
	if f == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(f)).UTC()
}

// word makes any text one word of a row, "-" for none. Ids and the usual words
// stay as they are.
func word(s string) string {
	switch s {
	case "":
		return "-"
	case "-":
		return "%2D"
	}
	return url.QueryEscape(s)
}

func readWord(s string) (string, error) {
	if s == "-" {
		return "", nil
	}
	return url.QueryUnescape(s)
}

// stateRow is "LASTSLOT LASTCOMPLETE RETRY WAITING WAITS THEIRS WHY".
func stateRow(s backup.State) string {
	theirs := 0
	if s.Theirs {
		theirs = 1
	}
	return fmt.Sprintf("%s %s %s %s %d %d %s", micros(s.LastSlot), micros(s.LastComplete),
		micros(s.Retry), micros(s.Waiting), s.Waits, theirs, strings.ToValidUTF8(s.Why, "?"))
}

func readState(row string) (s backup.State, err error) {
	if row == "" {
		return s, nil
	}
	f := strings.SplitN(row, " ", 7)
	if len(f) != 7 {
		return s, fmt.Errorf("not a state: %.60q", row)
	}
	for i, t := range []*time.Time{&s.LastSlot, &s.LastComplete, &s.Retry, &s.Waiting} {
		if *t, err = readMicros(f[i]); err != nil {
			return s, err
		}
	}
	if s.Waits, err = readCount(f[4]); err != nil {
		return s, err
	}
	s.Theirs, s.Why = f[5] == "1", f[6]
	return s, nil
}

// factsRow is a volume's facts as JSON, without what the row says already.
func factsRow(v backup.Protected) string {
	v.Volume, v.Project, v.Created, v.Attempt.Since = "", "", utc(v.Created), utc(v.Attempt.Since)
	return slim(toJSON(v))
}

// readVolume reads "PROJECT TICKET AGAIN SERVERS\nFACTS\nSTATE".
func readVolume(id, row string) (v backup.Protected, servers []string, err error) {
	parts := strings.SplitN(row, "\n", 3)
	if len(parts) != 3 {
		return v, nil, fmt.Errorf("volume %s: not a row: %.60q", named(id), row)
	}
	head := strings.Split(parts[0], " ")
	if len(head) != 4 {
		return v, nil, fmt.Errorf("volume %s: not a row: %.60q", named(id), row)
	}
	if err := fromJSON(parts[1], &v); err != nil {
		return v, nil, fmt.Errorf("volume %s: %w", named(id), err)
	}
	v.Volume, v.Project = id, head[0]
	if v.State, err = readState(parts[2]); err != nil {
		return v, nil, fmt.Errorf("volume %s: %w", named(id), err)
	}
	return v, strings.FieldsFunc(head[3], func(r rune) bool { return r == ',' }), nil
}

// enrolmentRow is an enrolment as JSON, without what the row says already.
func enrolmentRow(e backup.Enrolment) string {
	e.Server, e.Project, e.Attempt.Since = "", "", utc(e.Attempt.Since)
	return slim(toJSON(e))
}

// slim leaves out the ids that are empty: there are many of these rows.
func slim(row string) string {
	for _, empty := range []string{`"id":"",`, `"p":"",`} {
		row = strings.Replace(row, empty, "", 1)
	}
	return row
}

// readServer reads "PROJECT TICKET STAMP\nENROLMENT".
func readServer(id, row string) (e backup.Enrolment, stamp time.Time, err error) {
	head, body, _ := strings.Cut(row, "\n")
	f := strings.Split(head, " ")
	if len(f) != 3 {
		return e, stamp, fmt.Errorf("server %s: not a row: %.60q", named(id), row)
	}
	if err := fromJSON(body, &e); err != nil {
		return e, stamp, fmt.Errorf("server %s: %w", named(id), err)
	}
	e.Server, e.Project = id, f[0]
	stamp, err = readMicros(f[2])
	return e, stamp, err
}

// runRow is a run as JSON. The slot is in whole seconds, as its name is.
func runRow(r backup.Run) string {
	r.Slot = r.Slot.UTC().Truncate(time.Second)
	r.Started, r.Deadline, r.Ended = utc(r.Started), utc(r.Deadline), utc(r.Ended)
	return toJSON(r)
}

func readRun(row string) (r backup.Run, err error) {
	err = fromJSON(row, &r)
	return r, err
}

// isRun says why what was read under that name is no run that anything can be done
// about; nil if it is one. name is what it is to be called by.
func isRun(r backup.Run, name, called string) error {
	if err := badRun(r); err != nil {
		return err
	}
	if name != called {
		return fmt.Errorf("a run of %.80q under %.80q", called, name)
	}
	return nil
}

// readOpenRun reads "PROJECT SLOT ATTEMPT BACKUP NONCE\nRUN".
func readOpenRun(row string) (backup.Run, error) {
	_, body, _ := strings.Cut(row, "\n")
	return readRun(body)
}

// watchName names a run that is watched; both attempts at a slot can be.
func watchName(r backup.Run) string { return r.ID() + "#" + strconv.Itoa(r.Attempt) }

// recordFacts is the part "SLOT KIND STATUS CREATED SIZE" of a record's row.
func recordFacts(r backup.Record) string {
	return fmt.Sprintf("%s %s %s %s %d", micros(r.Slot), word(string(r.Kind)), word(r.Status), micros(r.Created), r.Size)
}

// readRecord reads "VOLUME PROJECT PARENT SLOT KIND STATUS CREATED SIZE PROOF\nPOLICY".
// Rows of older releases have no proof.
func readRecord(id, row string) (r backup.Record, err error) {
	head, policy, _ := strings.Cut(row, "\n")
	f := strings.Split(head, " ")
	if len(f) != 8 && len(f) != 9 {
		return r, fmt.Errorf("backup %s: not a row: %.60q", named(id), row)
	}
	r = backup.Record{ID: id, Volume: f[0], Project: f[1], Policy: policy}
	if len(f) == 9 {
		if r.Proof = proofs[f[8]]; r.Proof == "" {
			return r, fmt.Errorf("backup %s: not a proof: %.40q", named(id), f[8])
		}
	}
	var kind string
	for i, s := range map[int]*string{2: &r.Parent, 4: &kind, 5: &r.Status} {
		if *s, err = readWord(f[i]); err != nil {
			return r, fmt.Errorf("backup %s: %w", named(id), err)
		}
	}
	r.Kind = backup.Kind(kind)
	if r.Slot, err = readMicros(f[3]); err != nil {
		return r, fmt.Errorf("backup %s: %w", named(id), err)
	}
	if r.Created, err = readMicros(f[6]); err != nil {
		return r, fmt.Errorf("backup %s: %w", named(id), err)
	}
	if r.Size, err = readCount(f[7]); err != nil {
		return r, fmt.Errorf("backup %s: %w", named(id), err)
	}
	return r, nil
}

// proofs are the letters that stand for them in rows.
var proofs = map[string]backup.Proof{"m": backup.ByMaker, "r": backup.ByRun, "o": backup.ByOperator}

func proofLetter(p backup.Proof) string {
	if p == "" {
		return ""
	}
	return string(p[0])
}

// moment is a time to make something due at, with none for long ago: a score, with
// room below it.
func moment(t time.Time) string {
	if t.IsZero() {
		return "1000000"
	}
	return micros(t)
}

// retentionRows are the two rows of a project's retention: "LOOKED BACKUPS CHAINS
// REMOVALS LOSSES RELEASED MOST" without the zeros at the end, to follow the
// version, and the rest as JSON, "" where that says nothing.
func retentionRows(r backup.Retention) (row, doing string) {
	o := r.Outlook
	row = fmt.Sprintf("%s %d %d %d %d %s %d", micros(r.Looked), o.Backups, o.Chains, o.Removals, o.Losses, micros(r.Released), r.Most)
	for strings.HasSuffix(row, " 0") {
		row = strings.TrimSuffix(row, " 0")
	}
	r.Outlook, r.Looked, r.Released, r.Most = backup.Outlook{}, time.Time{}, time.Time{}, 0
	r.Announced = utc(r.Announced)
	removals, gone := r.Removals, r.Gone
	r.Removals, r.Gone = nil, nil
	for id, g := range removals {
		if r.Removals == nil {
			r.Removals = make(map[string]backup.Removal, len(removals))
		}
		r.Removals[id] = sound(g)
	}
	for id, a := range gone {
		if r.Gone == nil {
			r.Gone = make(map[string]backup.Absence, len(gone))
		}
		a.Since = utc(a.Since)
		r.Gone[id] = a
	}
	if doing = toJSON(r); doing == "{}" {
		doing = ""
	}
	return row, doing
}

// sound is a removal as JSON can hold it.
func sound(g backup.Removal) backup.Removal {
	g.Created, g.Asked, g.Ended, g.Again = utc(g.Created), utc(g.Asked), utc(g.Ended), utc(g.Again)
	return g
}

// readRetention reads "VERSION.NONCE LOOKED BACKUPS CHAINS REMOVALS LOSSES RELEASED MOST"
// and the JSON of what is being done.
func readRetention(project, row, doing string) (r backup.Retention, err error) {
	if doing != "" {
		if err := fromJSON(doing, &r); err != nil {
			return r, fmt.Errorf("project %s: %w", named(project), err)
		}
	}
	r.Project = project
	var n [8]int64
	f := strings.Fields(row)
	if len(f) > len(n) {
		return r, fmt.Errorf("project %s: not a row: %.60q", named(project), row)
	}
	for i, s := range f {
		if i == 0 {
			s, _, _ = strings.Cut(s, ".")
		}
		if n[i], err = readNumber(s); err != nil {
			return r, fmt.Errorf("project %s: %w", named(project), err)
		}
		// The brake adds these up: one that is below zero would lift it from others.
		if (i >= 2 && i <= 5 || i == 7) && (n[i] < 0 || n[i] > maxCount) {
			return r, fmt.Errorf("project %s: not a count: %.40q", named(project), s)
		}
	}
	at := func(n int64) time.Time { return scoreTime(float64(n)) }
	r.Version, r.Looked = n[0], at(n[1])
	r.Outlook = backup.Outlook{Backups: int(n[2]), Chains: int(n[3]), Removals: int(n[4]), Losses: int(n[5])}
	r.Released, r.Most = at(n[6]), int(n[7])
	return r, nil
}

// isRetention says why what was read of a project is none that anything can be
// removed by; nil if it is one.
func isRetention(r backup.Retention) error {
	for id, g := range r.Removals {
		if !goodID(id) || g.Backup != id {
			return fmt.Errorf("project %s: a removal of %.40q under %.40q", named(r.Project), g.Backup, id)
		}
	}
	for id := range r.Gone {
		if !goodID(id) {
			return fmt.Errorf("project %s: %.40q is missed, which is no volume", named(r.Project), id)
		}
	}
	return nil
}

// reportingRow is what is remembered of a project's digests as JSON, "{}" where that
// is nothing.
func reportingRow(r backup.Reporting) string {
	r.Last, r.Failing, r.Errors = utc(r.Last), soundTimes(r.Failing), soundRuns(r.Errors)
	r.Alarms = maps.Clone(r.Alarms)
	for id, a := range r.Alarms {
		a.Since, a.Done, a.Again = utc(a.Since), utc(a.Done), utc(a.Again)
		r.Alarms[id] = a
	}
	if r.Pending != nil {
		p := *r.Pending
		p.Digest, p.Failing, p.Again = soundDigest(p.Digest), soundTimes(p.Failing), utc(p.Again)
		r.Pending = &p
	}
	return toJSON(r)
}

func soundTimes(times map[string]time.Time) map[string]time.Time {
	out := maps.Clone(times)
	for id, t := range out {
		out[id] = utc(t)
	}
	return out
}

func soundRuns(runs []backup.DigestRun) []backup.DigestRun {
	out := slices.Clone(runs)
	for i := range out {
		r := &out[i]
		r.Slot, r.Started, r.Ended, r.FailingSince = utc(r.Slot), utc(r.Started), utc(r.Ended), utc(r.FailingSince)
	}
	return out
}

// soundDigest is a digest as JSON can hold it.
func soundDigest(d backup.Digest) backup.Digest {
	d.From, d.To = utc(d.From), utc(d.To)
	d.Backups.Full, d.Gigabytes.Full = utc(d.Backups.Full), utc(d.Gigabytes.Full)
	d.Runs, d.Removed = soundRuns(d.Runs), slices.Clone(d.Removed)
	for i := range d.Removed {
		d.Removed[i] = sound(d.Removed[i])
	}
	return d
}

// readReporting reads "VERSION.NONCE ASIDE" and the JSON.
func readReporting(project, row string) (r backup.Reporting, err error) {
	head, body, _ := strings.Cut(row, "\n")
	version, _, _ := strings.Cut(head, " ")
	version, _, _ = strings.Cut(version, ".")
	if r.Version, err = readNumber(version); err == nil {
		err = fromJSON(body, &r)
	}
	if err != nil {
		return r, fmt.Errorf("project %s: %w", named(project), err)
	}
	r.Project = project
	return r, nil
}

func removalRow(g backup.Removal) string { return toJSON(sound(g)) }

func readRemoval(row string) (g backup.Removal, err error) {
	err = fromJSON(row, &g)
	return g, err
}

// What scripts read as JSON. All values are text, for Lua's numbers do not hold
// a time.

type runArg struct {
	Project string `json:"project"`
	Slot    string `json:"slot"`
	Attempt string `json:"attempt"`
	Backup  string `json:"backup"`
	Nonce   string `json:"nonce"`
}

func argOfRun(r backup.Run, nonce string) runArg {
	return runArg{Project: r.Project, Slot: slotOf(r), Attempt: strconv.Itoa(r.Attempt), Backup: word(r.Backup), Nonce: nonce}
}

func slotOf(r backup.Run) string { return micros(r.Slot.Truncate(time.Second)) }

type recordArg struct {
	ID      string `json:"id"`
	Volume  string `json:"volume"`
	Project string `json:"project"`
	Parent  string `json:"parent"`
	Facts   string `json:"facts"`
	Policy  string `json:"policy"`
	Proof   string `json:"proof"` // its letter, or ""
	Fresh   bool   `json:"fresh,omitempty"`
}

func argOfRecord(r backup.Record) recordArg {
	return recordArg{ID: r.ID, Volume: r.Volume, Project: r.Project, Parent: word(r.Parent),
		Facts: recordFacts(r), Policy: r.Policy, Proof: proofLetter(r.Proof)}
}

// recordOfRun is what is known of a backup as soon as Cinder has given it an id.
func recordOfRun(r backup.Run) recordArg {
	if r.Backup == "" {
		return recordArg{}
	}
	a := argOfRecord(backup.Record{ID: r.Backup, Volume: r.Volume, Project: r.Project, Slot: r.Slot,
		Kind: r.Kind, Status: "creating", Created: r.Started, Size: r.Size, Proof: backup.ByRun})
	a.Fresh = true
	return a
}

type watchArg struct {
	Name    string `json:"name"`
	JSON    string `json:"json"`
	At      string `json:"at"`
	Project string `json:"project"`
	Backup  string `json:"backup"`
}

func argOfWatch(r backup.Run, at time.Time) watchArg {
	return watchArg{Name: watchName(r), JSON: runRow(r), At: micros(at), Project: r.Project, Backup: word(r.Backup)}
}

type closingArg struct {
	runArg
	Volume   string     `json:"volume"`
	Name     string     `json:"name"`
	JSON     string     `json:"json"`
	State    string     `json:"state"`
	Due      string     `json:"due"`
	Ended    string     `json:"ended"`
	Now      string     `json:"now"` // of the retention's next look
	Final    bool       `json:"final,omitempty"`
	Complete bool       `json:"complete,omitempty"`
	Remove   bool       `json:"remove,omitempty"`
	Keep     string     `json:"keep"`
	Stamp    string     `json:"stamp,omitempty"`
	Servers  []string   `json:"servers,omitempty"`
	Watch    *watchArg  `json:"watch,omitempty"`
	Record   *recordArg `json:"record,omitempty"`
}

// utc is a time as JSON can hold it.
func utc(t time.Time) time.Time {
	switch {
	case t.IsZero():
		return time.Time{}
	case t.UTC().Year() < 1970 || t.UTC().Year() > 9999: // a clock gone mad
		return time.Unix(0, 0).UTC()
	}
	return t.UTC()
}

// toJSON is for our own plain structs, which always can be.
func toJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}
