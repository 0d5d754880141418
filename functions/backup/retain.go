package backup

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Holding is what is known about one volume's backups in one project, read fresh.
type Holding struct {
	Project, Volume string
	// Backups are all of the volume's in the project, in any order, ours and others'.
	Backups []CinderBackup
	// Policy is the volume's current one; nil where it is not protected now.
	Policy *Policy
	// Gone is since when the volume is confirmed not to exist any more; zero while it
	// lives, and where that is not known.
	Gone time.Time
	// Orphan is how long the newest complete restore point outlives its volume; zero
	// for as long as its frozen policy says.
	Orphan Age
	// Parents are those that notifications told of, by the child's id. It may be nil
	// or lack some: what it does not say is taken from the order of the backups.
	Parents map[string]string
	// Busy says that a run of the volume is open: nothing of it is removed meanwhile.
	Busy bool
}

// A Fate is what is decided about one backup.
type Fate struct {
	Backup CinderBackup
	// Keep says that it stays. One that is not ours always does.
	Keep bool
	// Broken says that it never became a restore point; only such have no restore
	// point to lose.
	Broken bool
	// Why is the reason in words: "younger than 30d", "daily 3 of 7", "incremental ID
	// builds on it", "hold", "the newest complete restore point".
	Why string
	// Until is when time alone may change the decision; zero where it cannot.
	Until time.Time
	// Newest says that the volume would have no complete restore point left without it.
	Newest bool
	// Hostage says that it would go but for a backup that is not ours and may build on
	// it: Cinder refuses to delete it for as long as that one is there.
	Hostage bool
	// Children are the ids of all backups that may build on it, ours and others'. It is
	// only to be read: fates share it.
	Children []string
	// Chain is the id of the full backup of its chain; its own for a full one.
	Chain string
}

// Retain decides which backups of one volume stay at now, oldest first. What it
// decides to remove may go in any number of steps, children first, without the
// decision about any other changing.
//
// What is not ours stays; what the policy frozen into it or the volume's current
// one keeps, by retention time or archive rule, each on its own, so that neither
// takes anything from the other; what is held; what a backup that stays may build
// on; the newest complete restore point, unless the volume has been gone for Orphan;
// what Cinder is busy with; and whatever is not understood: a status that is not
// known, metadata that cannot be read or that are missing.
//
// Archive rules count what there is, so that they would keep the last backups of a
// volume that gets no more for ever. Those of the current policy do, while the
// volume lives. Frozen ones that are not the current ones, too, keep a backup for
// the span that they are about, and no longer: with daily=7 monthly=12 it is twelve
// months from when the backup was made. Those with a last=n, which has no span, hold
// for as long as the volume lives.
func Retain(h Holding, now time.Time) []Fate {
	items := gather(h)
	h.Gone = goneSince(h.Gone, items)
	shift := h.byRules(items, now)
	findNewest(items)
	for _, it := range items {
		h.judge(it, now)
	}
	l := lineageOf(items, h.Parents)
	l.spread(false)
	l.spread(true)
	fates := make([]Fate, len(items))
	for i, it := range items {
		fates[i] = it.fate(h, shift)
		fates[i].Children, fates[i].Chain = l.children(i), it.chain
	}
	return fates
}

// An item is one backup while it is decided about.
type item struct {
	b        CinderBackup
	ours     bool
	complete bool // a restore point of ours
	// frozen is the policy frozen into it; unread is why that is not known.
	frozen frozen
	unread string
	// current is when the retention time of the current policy ends.
	current time.Time
	// own is what the rules of its own policy say of it, present those of the current
	// one; nil for what is no restore point or not understood, and where there are none.
	own, present *point
	// lapses says that its own rules are not those of the current policy, so that they
	// keep it for their span only.
	lapses bool

	newest bool
	// reasons to stay are its own, stay is for how long.
	reasons []string
	stay    stay
	// kept is that together with what builds on it; by is which of those it stays for
	// if it has no reason of its own.
	kept    stay
	by      *item
	hostage bool
	// group and chain are its place among the others.
	group int
	chain string
}

// A stay is for how long something stays: not at all, until a time, or for longer
// than time alone can tell.
type stay struct {
	yes, always bool
	until       time.Time
}

func (s stay) or(o stay) stay {
	switch {
	case !s.yes:
		return o
	case !o.yes:
		return s
	case s.always || o.always:
		return stay{yes: true, always: true}
	case o.until.After(s.until):
		return o
	}
	return s
}

// keep adds a reason that does not pass with time.
func (it *item) keep(why string) {
	it.reasons = append(it.reasons, why)
	it.stay = it.stay.or(stay{yes: true, always: true})
}

// keepUntil adds one that does.
func (it *item) keepUntil(end time.Time, why string) {
	it.reasons = append(it.reasons, why)
	it.stay = it.stay.or(stay{yes: true, until: end})
}

// frozen is the policy that a backup was made under, as its metadata say.
type frozen struct {
	retention string
	rules     Rules
	zone      *time.Location
	// aged is when the retention time is over, dated when the metadata say it is; the
	// later counts.
	aged, dated time.Time
	// lapse is when the rules' own span is over; lasting says that it never is.
	lapse   time.Time
	lasting bool
}

func (f frozen) end() time.Time {
	if f.dated.After(f.aged) {
		return f.dated
	}
	return f.aged
}

// ruled says whether its rules may still keep the backup at now.
func (f frozen) ruled(now time.Time) bool { return f.lasting || now.Before(f.lapse) }

// spent is when neither its retention time nor its rules can keep the backup any
// more; zero for never.
func (f frozen) spent() time.Time {
	switch end := f.end(); {
	case f.lasting:
		return time.Time{}
	case f.lapse.After(end):
		return f.lapse
	default:
		return end
	}
}

// gather reads the backups, oldest first.
func gather(h Holding) []*item {
	backups := slices.Clone(h.Backups)
	slices.SortFunc(backups, func(a, b CinderBackup) int {
		incremental := func(b CinderBackup) int {
			if b.Incremental {
				return 1
			}
			return 0
		}
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(incremental(a), incremental(b)), cmp.Compare(a.ID, b.ID), b.Updated.Compare(a.Updated))
	})
	// Where lists were paged while they changed, one may come twice.
	backups = slices.CompactFunc(backups, func(a, b CinderBackup) bool { return a.ID == b.ID })
	zones := map[string]*time.Location{}
	if h.Policy != nil {
		// Mostly that is the one they were made in: reading it again costs more than all the rest.
		zones[h.Policy.Schedule.Zone().String()] = h.Policy.Schedule.Zone()
	}
	items := make([]*item, len(backups))
	for i, b := range backups {
		it := &item{b: b, ours: b.Ours()}
		items[i] = it
		if !it.ours {
			continue
		}
		it.complete = b.Status == "available" || b.Status == "restoring"
		it.frozen, it.unread = b.frozen(zones)
		if h.Policy != nil {
			it.current = h.Policy.Retention.After(b.Created.In(h.Policy.Schedule.Zone()))
		}
	}
	return items
}

// frozen reads the policy frozen into a backup of ours; unread says what of it
// cannot be.
func (b CinderBackup) frozen(zones map[string]*time.Location) (f frozen, unread string) {
	if b.Created.IsZero() {
		return f, "nobody knows when it was made"
	}
	for _, key := range []string{MetaRetention, MetaZone} {
		if b.Metadata[key] == "" {
			return f, "metadata " + key + " is missing"
		}
	}
	bad := func(key string) (frozen, string) {
		return frozen{}, fmt.Sprintf("metadata %s=%.40q cannot be read", key, b.Metadata[key])
	}
	name := b.Metadata[MetaZone]
	f.zone = zones[name]
	if f.zone == nil {
		zone, err := time.LoadLocation(name)
		if err != nil || name == "Local" { // that is this machine's, whichever that may be
			return bad(MetaZone)
		}
		zones[name], f.zone = zone, zone
	}
	retention, err := ParseAge(b.Metadata[MetaRetention])
	if err != nil {
		return bad(MetaRetention)
	}
	f.retention, f.aged = retention.String(), retention.After(b.Created.In(f.zone))
	if s, has := b.Metadata[MetaKeepUntil]; has {
		if f.dated, err = time.Parse(time.RFC3339, s); err != nil {
			return bad(MetaKeepUntil)
		}
	}
	// Those made before there were archive rules have none.
	if f.rules, err = ParseRules(b.Metadata[MetaRules]); err != nil {
		return bad(MetaRules)
	}
	f.lapse, f.lasting = f.rules.lapse(b.Created.In(f.zone))
	return f, ""
}

// held reads the hold: any value but no, false, off and 0, and so the empty one.
func (b CinderBackup) held() bool {
	v, has := b.Metadata[MetaHold]
	word := strings.ToLower(strings.TrimSpace(v))
	return has && (word == "" || !slices.Contains(no, word))
}

// archived reads the span whose first restore point it is.
func (b CinderBackup) archived() Span {
	if s := Span(b.Metadata[MetaArchived]); s == Month || s == Year {
		return s
	}
	return ""
}

// rules are those of the current policy; there are none for a volume that is gone,
// since nothing comes any more that could take a backup's place.
func (h Holding) rules() Rules {
	if h.Policy == nil || !h.Gone.IsZero() {
		return Rules{}
	}
	return h.Policy.Rules
}

// ruledBy says whether the frozen rules are the current ones as well.
func (h Holding) ruledBy(f frozen) bool {
	rules := h.rules()
	return !rules.IsZero() && rules == f.rules && h.Policy.Schedule.Zone().String() == f.zone.String()
}

// byRules applies the archive rules, those that were frozen and those of now, each
// on their own. What has outlived the span of its frozen rules, and its retention
// time, is not there for them: whether it is removed makes no difference to others.
// Where the rules are the current ones, it still is, but to backups of the same
// rules only. shift is when time alone may change what the frozen ones keep; zero
// for never.
func (h Holding) byRules(items []*item, now time.Time) (shift time.Time) {
	type terms struct {
		rules Rules
		zone  string
	}
	tallies := map[terms]*tally{}
	var own, present []*point
	var all []*tally
	var current *tally
	if rules := h.rules(); !rules.IsZero() {
		current = newTally(rules, h.Policy.Schedule.Zone())
	}
	for _, it := range slices.Backward(items) {
		if !it.complete || it.unread != "" {
			continue
		}
		if current != nil {
			it.present = &point{created: it.b.Created, archived: it.b.archived(), by: current}
			present = append(present, it.present)
		}
		stays := now.Before(it.frozen.end())
		spent := !stays && !it.frozen.ruled(now)
		// A last=n says how many, and not for how long: as long as the volume lives, nobody
		// can say that its time is over.
		it.lapses = !h.ruledBy(it.frozen) && (it.frozen.rules.Last == 0 || !h.Gone.IsZero())
		if spent && it.lapses {
			continue
		}
		it.own = &point{created: it.b.Created, archived: it.b.archived(), stays: stays, apart: spent}
		if !it.frozen.rules.IsZero() {
			key := terms{it.frozen.rules, it.frozen.zone.String()}
			if tallies[key] == nil {
				tallies[key] = newTally(it.frozen.rules, it.frozen.zone)
				all = append(all, tallies[key])
			}
			it.own.by = tallies[key]
		}
		own = append(own, it.own)
	}
	applyRules(own, all)
	if current != nil {
		applyRules(present, []*tally{current})
	}
	if shift = shiftOf(items, len(all) > 1); !shift.IsZero() && len(all) > 1 {
		for _, p := range own {
			if len(p.kept) > 0 {
				p.shifts = shift
			}
		}
	}
	return shift
}

// shiftOf is when the place of one that counts becomes free, so that others that
// were to go may be kept instead; zero for never. several says that there are
// frozen rules of several wordings.
func shiftOf(items []*item, several bool) (shift time.Time) {
	// last is when the last of those that would come into it is past that, too.
	idle, last, lasting := false, time.Time{}, false
	for _, it := range items {
		if p := it.own; p != nil && p.by != nil && len(p.kept) == 0 && !p.stays {
			idle, lasting = true, lasting || it.frozen.lasting || !it.lapses
			if end := it.frozen.spent(); end.After(last) {
				last = end
			}
		}
	}
	if !idle {
		return time.Time{}
	}
	for _, it := range items {
		var end time.Time
		switch p := it.own; {
		case p == nil || p.apart:
		case len(p.kept) > 0 && (it.lapses || several):
			end = it.frozen.spent()
		case len(p.kept) > 0:
		case p.stays && (p.by == nil || several):
			end = it.frozen.end()
		}
		if !end.IsZero() && (lasting || end.Before(last)) && (shift.IsZero() || end.Before(shift)) {
			shift = end
		}
	}
	return shift
}

// goneSince is since when a volume is gone at most: it was there when its newest restore
// point was made, whatever the ledger says, which others may have written to.
func goneSince(said time.Time, items []*item) time.Time {
	if said.IsZero() {
		return said
	}
	for _, it := range items {
		if it.complete && it.b.Created.After(said) {
			said = it.b.Created
		}
	}
	return said
}

// findNewest finds the newest complete restore point.
func findNewest(items []*item) {
	for _, it := range slices.Backward(items) {
		if it.complete {
			it.newest = true
			return
		}
	}
}

// judge gives the reasons for a backup to stay that are its own.
func (h Holding) judge(it *item, now time.Time) {
	if !it.ours {
		it.keep(it.b.notOurs())
		return
	}
	switch it.b.Status {
	case "deleting", "deleted":
		return // on its way, whoever sent it there
	case "creating":
		it.keep("being made")
		return
	case "available", "error", "error_deleting":
	case "restoring":
		it.keep("being restored from")
	default:
		it.keep(fmt.Sprintf("status %.40q is not known", it.b.Status))
	}
	if it.b.held() {
		it.keep("hold")
	}
	if h.Busy {
		it.keep("a run of its volume is under way")
	}
	if it.b.Status == "error" {
		return // no restore point: there is nothing that a policy would keep
	}
	if it.unread != "" {
		it.keep(it.unread)
	}
	switch f := it.frozen; {
	case it.unread == "" && now.Before(f.aged):
		it.keepUntil(f.end(), "younger than "+f.retention)
	case it.unread == "" && now.Before(f.dated):
		it.keepUntil(f.end(), "kept until "+f.dated.UTC().Format(time.RFC3339))
	case now.Before(it.current):
		it.reasons = append(it.reasons, "younger than "+h.Policy.Retention.String()+" by the current policy")
	}
	if now.Before(it.current) {
		it.stay = it.stay.or(stay{yes: true, until: it.current})
	}
	frozen, present := it.own.keeps(), it.present.keeps()
	switch {
	case frozen != "" && (!it.lapses || it.frozen.ruled(now)):
		end := it.own.shifts
		if it.lapses && !it.frozen.lasting {
			if present == "" {
				frozen += " until " + it.frozen.lapse.Format(time.DateOnly)
			}
			if end.IsZero() || it.frozen.lapse.Before(end) {
				end = it.frozen.lapse
			}
		}
		it.reasons = append(it.reasons, frozen)
		it.stay = it.stay.or(stay{yes: true, always: end.IsZero(), until: end})
	case present != "":
		it.reasons = append(it.reasons, present+" by the current policy")
	}
	if present != "" {
		it.stay = it.stay.or(stay{yes: true, always: true})
	}
	if it.newest {
		const why = "the newest complete restore point"
		if h.Gone.IsZero() {
			it.keep(why)
		} else if end := h.Orphan.After(h.Gone); now.Before(end) {
			it.keepUntil(end, why+" of a volume gone since "+h.Gone.UTC().Format(time.RFC3339))
		}
	}
}

// fate is what came out.
func (it *item) fate(h Holding, shift time.Time) Fate {
	f := Fate{
		Backup: it.b, Keep: it.kept.yes, Until: it.kept.until, Hostage: it.hostage, Newest: it.newest,
		Broken: it.ours && it.b.Status == "error",
	}
	switch {
	case f.Keep && len(it.reasons) > 0:
		f.Why = strings.Join(it.reasons, ", ")
	case f.Keep:
		f.Why = "incremental " + it.by.b.ID + " builds on it"
		if !it.by.ours {
			f.Why = "incremental " + it.by.b.ID + ", which is not ours, builds on it"
		}
	case it.b.Status == "deleting" || it.b.Status == "deleted":
		f.Why = "Cinder is deleting it"
	case f.Broken:
		f.Why, f.Until = "it never became complete: cinder: "+or(Line(it.b.FailReason, 100), "status error without a reason"), shift
	default:
		f.Why, f.Until = it.past(h), shift
	}
	return f
}

// past says what it has outlived.
func (it *item) past(h Holding) string {
	f := it.frozen
	why := "older than " + f.retention
	switch {
	case it.current.After(f.end()):
		why = "older than " + h.Policy.Retention.String()
	case f.dated.After(f.aged):
		why = "to be kept until " + f.dated.UTC().Format(time.RFC3339)
	}
	current := h.rules()
	switch {
	case f.rules.IsZero():
	case it.lapses && f.lapse.IsZero() && !f.lasting:
		why += ", " + f.rules.String() + " no longer its volume's rule" // it has no span to be beyond
	default:
		why += ", beyond " + f.rules.String()
	}
	if current != f.rules && !current.IsZero() {
		why += ", beyond " + current.String()
	}
	if it.newest {
		why += ", its volume gone since " + h.Gone.UTC().Format(time.RFC3339)
	}
	return why
}

// A Removal is a backup that is on its way out.
type Removal struct {
	Backup  string `json:"b"`
	Volume  string `json:"v"`
	Project string `json:"p"`
	Name    string `json:"n,omitempty"`
	Kind    Kind   `json:"k"`
	Size    int    `json:"g"` // GiB
	// Created is when the backup was made.
	Created time.Time `json:"t"`
	// Why is the reason for its removal.
	Why string `json:"y"`
	// Asked is when Cinder was first asked to delete it, zero for not yet; Ended when
	// Cinder was seen to have done so.
	Asked time.Time `json:"ta,omitzero"`
	Ended time.Time `json:"te,omitzero"`
	// Tries counts the refusals so far, Again is when to try next, Trouble what stands
	// in the way: it was told once, when it came up.
	Tries   int       `json:"n#,omitempty"`
	Again   time.Time `json:"ag,omitzero"`
	Trouble string    `json:"x,omitempty"`
}

// A Retention is what the ledger remembers of the removals in one project.
type Retention struct {
	Project string `json:"-"`
	// Version counts the writings: one that was read before another's is not written.
	Version int64 `json:"-"`
	// Due is when the project is looked at next, as it was when this was read.
	Due time.Time `json:"-"`
	// Outlook is what the last look came to: what is still to be removed, of what.
	Outlook Outlook `json:"o,omitzero"`
	// Announced is since when removals are planned without a break; zero for none.
	// They begin with the next look, so that the brake sees the whole cloud's.
	Announced time.Time `json:"a,omitzero"`
	// Held is why nothing is removed: the brake, a clock that is wrong, a list that is
	// short; "" where nothing holds.
	Held string `json:"h,omitempty"`
	// Released is until when the operator has lifted the brake, for at most Most
	// removals.
	Released time.Time `json:"u,omitzero"`
	Most     int       `json:"m,omitempty"`
	// Removals are those under way or stuck, by the backup's id.
	Removals map[string]Removal `json:"r,omitempty"`
	// Gone is since when volumes are missed, by id.
	Gone map[string]Absence `json:"g,omitempty"`
	// Looked is when the project was last looked at.
	Looked time.Time `json:"l,omitzero"`
}

// An Absence is a volume that Cinder, asked directly, says does not exist.
type Absence struct {
	// Since is when that was first so, Times how often in a row, at different looks.
	Since time.Time `json:"s"`
	Times int       `json:"n"`
}
