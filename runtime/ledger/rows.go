package ledger

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"staffeln/functions/backup"
)

// badID says why an id is refused; nil if it is valid. Ids are part of keys and rows, and come
// from messages that anybody may have sent.
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

// readNumber reads a whole number. The error is bounded: strconv's own would contain the whole
// text, and a broken row may contain anything.
func readNumber(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("not a number: %.40q", s)
	}
	return n, nil
}

// maxCount is more than any real count, and low enough that sums and products do not overflow.
const maxCount = 1 << 40

// readCount reads a number from 0 to maxCount.
func readCount(s string) (int, error) {
	n, err := readNumber(s)
	if err == nil && (n < 0 || n > maxCount) {
		err = fmt.Errorf("not a count: %.40q", s)
	}
	return int(n), err
}

// fromJSON reads what [toJSON] has written. The error is bounded, since encoding/json quotes
// invalid text at any length.
func fromJSON(row string, into any) error {
	if err := json.Unmarshal([]byte(row), into); err != nil {
		return fmt.Errorf("not our JSON: %.200s", err)
	}
	return nil
}

// named returns an id from Redis for an error; an invalid one is quoted and cut.
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

// word encodes any text as one word of a row, "-" for "". Ids and ordinary words stay as they are.
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

// factsRow is a volume's facts as JSON, without the fields that are elsewhere in the row.
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

// enrolmentRow is an enrolment as JSON, without the fields that are elsewhere in the row.
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

// isRun says why a run that was read cannot be used; nil if it can. name is the name of its row,
// called the name that the row should have.
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

// proofs are the letters of proofs in rows.
var proofs = map[string]backup.Proof{"m": backup.ByMaker, "r": backup.ByRun, "o": backup.ByOperator}

func proofLetter(p backup.Proof) string {
	if p == "" {
		return ""
	}
	return string(p[0])
}

// utc is a time as JSON can hold it: in UTC, and 1970 if the year has more than four digits.
func utc(t time.Time) time.Time {
	switch {
	case t.IsZero():
		return time.Time{}
	case t.UTC().Year() < 1970 || t.UTC().Year() > 9999: // a clock gone mad
		return time.Unix(0, 0).UTC()
	}
	return t.UTC()
}

// toJSON encodes our own plain structs, which cannot fail.
func toJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}
