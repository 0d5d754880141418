package keep

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"staffeln/functions/backup"
)

// A Fate is the decision about one backup.
type Fate struct {
	Backup backup.CinderBackup
	// Keep says that it stays. A backup that is not ours always stays.
	Keep bool
	// Broken says that it is ours and never became a restore point, so that removing it loses none.
	Broken bool
	// Why is the reason in words: "younger than 30d", "daily 3 of 7", "incremental ID
	// builds on it", "hold", "the newest complete restore point".
	Why string
	// Until is when time alone may change the decision; zero if it cannot.
	Until time.Time
	// Newest says that the volume would have no complete restore point left without it.
	Newest bool
	// Hostage says that it stays only because a backup that is not ours may build on it: Cinder refuses
	// to delete it while that backup exists.
	Hostage bool
	// Children are the ids of all backups that may build on it, ours and others'. Fates share the
	// slice: do not change it.
	Children []string
	// Chain is the id of the full backup of its chain; its own id for a full backup.
	Chain string
}

// Decide decides which backups of one volume stay at now, oldest first. Everything that it
// decides to remove may go in any number of steps, children first, without changing the
// decision about any other.
//
// A restore point stays until its own retention time is over, or the volume's of today if that is
// longer. While a volume is protected, today's archive rules judge all its restore points together.
// Those made under other rules are judged once more by their own, among those made under the same
// rules only: each such rule keeps a backup for its own span from when it was made, and a last=n as
// long as the volume exists and has fewer than n newer restore points. Any one of these is enough.
//
// Besides, these stay: backups that are not ours; those that are held; those that a backup which
// stays may build on; the newest complete restore point, unless the volume has been gone for
// Orphan; those that Cinder is busy with; and any with an unknown status, or with metadata that
// cannot be read or are missing.
func Decide(h Holding, now time.Time) []Fate {
	items := gather(h)
	h.Gone = goneSince(h.Gone, items)
	h.applyRules(items, now)
	findNewest(items)
	var newer newer
	again := time.Time{}
	for _, it := range slices.Backward(items) {
		h.judge(it, newer, now)
		newer.add(it)
		if !it.stay.yes {
			again = earliest(again, it.again)
		}
	}
	l := lineageOf(items, h.Parents)
	l.spread(false)
	l.spread(true)
	fates := make([]Fate, len(items))
	for i, it := range items {
		fates[i] = it.fate(h, again)
		fates[i].Children, fates[i].Chain = l.children(i), it.chain
	}
	return fates
}

// An item is one backup while it is decided about.
type item struct {
	b        backup.CinderBackup
	ours     bool
	complete bool // a restore point of ours
	// frozen is the policy frozen into it; unread is why that is not known.
	frozen frozen
	unread string
	// current is when the retention time of the current policy ends.
	current time.Time
	// earlier says that it was made under other rules than today's, terms are the rules that keep
	// it. again is when time alone may make a rule keep it that does not; zero for never.
	earlier bool
	terms   []term
	again   time.Time

	newest bool
	// reasons to stay are its own, stay is for how long.
	reasons []string
	stay    stay
	// kept is stay extended by the backups that may build on it. by is the one it stays for if it has
	// no reason of its own.
	kept    stay
	by      *item
	hostage bool
	// group and chain are its place among the others.
	group int
	chain string
}

// A stay is how long a backup stays: not at all, until a time, or always, as far as time alone can
// tell.
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

// keepUntil adds a reason that passes at a time; zero for never.
func (it *item) keepUntil(end time.Time, why string) {
	it.reasons = append(it.reasons, why)
	it.stay = it.stay.or(stay{yes: true, always: end.IsZero(), until: end})
}

// frozen is the policy that a backup was made under, as its metadata say.
type frozen struct {
	retention string
	rules     backup.Rules
	zone      *time.Location
	// aged is the end of the retention time by its text, dated by its date; the later counts.
	aged, dated time.Time
}

func (f frozen) end() time.Time {
	if f.dated.After(f.aged) {
		return f.dated
	}
	return f.aged
}

// gather reads the backups, oldest first.
func gather(h Holding) []*item {
	backups := slices.Clone(h.Backups)
	slices.SortFunc(backups, func(a, b backup.CinderBackup) int {
		incremental := func(b backup.CinderBackup) int {
			if b.Incremental {
				return 1
			}
			return 0
		}
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(incremental(a), incremental(b)),
			cmp.Compare(a.ID, b.ID), b.Updated.Compare(a.Updated))
	})
	// A list that changes while it is paged can show a backup twice.
	backups = slices.CompactFunc(backups, func(a, b backup.CinderBackup) bool { return a.ID == b.ID })
	zones := map[string]*time.Location{}
	if h.Policy != nil {
		// Most backups were made in this zone, and loading a zone costs more than all the rest.
		zones[h.Policy.Schedule.Zone().String()] = h.Policy.Schedule.Zone()
	}
	items := make([]*item, len(backups))
	for i, b := range backups {
		it := &item{b: b, ours: b.Ours()}
		items[i] = it
		if !it.ours {
			continue
		}
		it.complete = complete(b)
		it.frozen, it.unread = frozenIn(b, zones)
		if h.Policy != nil {
			it.current = h.Policy.Retention.After(b.Created.In(h.Policy.Schedule.Zone()))
		}
	}
	return items
}

// frozenIn reads the policy frozen into a backup of ours; unread says what cannot be read.
func frozenIn(b backup.CinderBackup, zones map[string]*time.Location) (f frozen, unread string) {
	if b.Created.IsZero() {
		return f, "nobody knows when it was made"
	}
	for _, key := range []string{backup.MetaRetention, backup.MetaZone} {
		if b.Metadata[key] == "" {
			return f, "metadata " + key + " is missing"
		}
	}
	bad := func(key string) (frozen, string) {
		return frozen{}, fmt.Sprintf("metadata %s=%.40q cannot be read", key, b.Metadata[key])
	}
	name := b.Metadata[backup.MetaZone]
	f.zone = zones[name]
	if f.zone == nil {
		zone, err := time.LoadLocation(name)
		if err != nil || name == "Local" { // that is this machine's, whichever that may be
			return bad(backup.MetaZone)
		}
		zones[name], f.zone = zone, zone
	}
	retention, err := backup.ParseAge(b.Metadata[backup.MetaRetention])
	if err != nil {
		return bad(backup.MetaRetention)
	}
	f.retention, f.aged = retention.String(), retention.After(b.Created.In(f.zone))
	if s, has := b.Metadata[backup.MetaKeepUntil]; has {
		if f.dated, err = time.Parse(time.RFC3339, s); err != nil {
			return bad(backup.MetaKeepUntil)
		}
	}
	// Backups that are older than archive rules have none.
	if f.rules, err = backup.ParseRules(b.Metadata[backup.MetaRules]); err != nil {
		return bad(backup.MetaRules)
	}
	return f, ""
}

// rules are those of the current policy; a volume that is gone has none.
func (h Holding) rules() backup.Rules {
	if h.Policy == nil || !h.Gone.IsZero() {
		return backup.Rules{}
	}
	return h.Policy.Rules
}

// ruledBy says whether the frozen rules are the current ones as well.
func (h Holding) ruledBy(f frozen) bool {
	rules := h.rules()
	return !rules.IsZero() && rules == f.rules && h.Policy.Schedule.Zone().String() == f.zone.String()
}

// newer is what counts for a last=n: the restore points that are newer than one and have a reason of
// their own to stay. As only these count, it makes no difference to the others when one is removed.
type newer struct {
	count int
	// less is when time alone may make them fewer, more when it may make them more; zero for never.
	less, more time.Time
}

func (n *newer) add(it *item) {
	switch {
	case !it.complete || it.unread != "":
	case it.stay.yes:
		n.count++
		n.less = earliest(n.less, it.stay.until)
	default:
		n.more = earliest(n.more, it.again)
	}
}

// goneSince is the earliest moment at which the volume can have gone: it was there when its newest
// restore point was made. The ledger may say otherwise, because others may have written to it.
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
func (h Holding) judge(it *item, newer newer, now time.Time) {
	if !it.ours {
		it.keep(it.b.NotOurs())
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
	if it.b.Held() {
		it.keep("hold")
	}
	if h.Busy {
		it.keep("a run of its volume is under way")
	}
	if it.b.Status == "error" {
		// Dispatch counts a slot's attempts by the backups that are left of them in Cinder.
		if slot, _, ok := it.b.Run(); ok && h.Policy != nil && slot.After(h.LastSlot) {
			it.keep("its slot is not over")
		}
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
	for _, t := range it.terms {
		it.keepUntil(t.end, t.why)
	}
	if n := it.frozen.rules.Last; it.earlier && n != 0 && h.Gone.IsZero() {
		if n < 0 || newer.count < n {
			it.keepUntil(newer.more, fmt.Sprintf("last %d of %s", newer.count+1, number(n)))
		} else {
			it.again = earliest(it.again, newer.less)
		}
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

// fate sums up what was decided about the item.
func (it *item) fate(h Holding, again time.Time) Fate {
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
		f.Why = fmt.Sprintf("it never became complete: cinder: %.100s",
			cmp.Or(it.b.FailReason, "status error without a reason"))
		f.Until = again
	default:
		f.Why, f.Until = it.past(h), again
	}
	return f
}

// past says in words why nothing keeps it any more.
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
	if !f.rules.IsZero() {
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
