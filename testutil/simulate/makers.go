package simulate

import (
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"staffeln/functions/backup"
	"staffeln/testutil/simcloud"
)

// Who really made a backup is in the simulated cloud, whatever its metadata say and
// whomever Cinder shows it to. Every promise is counted by that.
//
// Where the service user sees the maker, nothing reads weaker for it. Where it does not,
// the ledger alone can vouch for a backup, and this is what reads weaker once Redis has
// lost something, or once somebody has copied the nonce of a request that had no answer
// yet:
//
//   - I1: the slot of such a backup may be made again.
//   - I5: such a backup whose nonce was copied may be in no digest.
//   - I6: such a backup stays, also when no policy keeps it any more.
//   - I7: the same is decided again only once an operator has adopted what the old ledger
//     vouched for.
//   - I8: a volume counts as one that has just come.
//
// Nothing else does. In particular nothing that nobody vouches for is ever removed.

// makers is what is known about who made what.
type makers struct {
	// copied is when a tenant first copied a nonce that was no more than that of a
	// request without an answer.
	copied map[string]time.Time
	// delayed is by how much requests were delayed that Cinder carried out at a moment: what
	// Redis loses meanwhile, it loses after the request was sent. Under mu.
	delayed map[int64]time.Duration
	// hostile is what a tenant does before every nth look, and turns how often it was
	// that tenant's turn.
	hostile *Act
	turns   int
	// shaken says that Redis or the process was once in trouble: the policy check
	// remembers that for a while, in real time, and refuses in doubt.
	shaken atomic.Bool
}

// made says whether the service made a backup.
func (p *play) made(b simcloud.Backup) bool { return b.Maker == p.Seeded.Users[p.history.User] }

// hidden says whether Cinder does not show the service user who made a backup.
func (p *play) hidden() bool { return p.history.User == "backup-min" && p.history.Makers != "shown" }

// marked says whether a backup's metadata say that the service made it.
func marked(b simcloud.Backup) bool {
	return strings.EqualFold(b.Metadata[backup.MetaAutomated], "true")
}

// lostSince says whether Redis has lost something since a moment.
func (t *truth) lostSince(at time.Time) bool {
	return slices.ContainsFunc(t.losses, func(loss time.Time) bool { return !loss.Before(at) })
}

// doubtful says whether by a moment the ledger may have had nothing that vouches for a
// backup of ours.
func (p *play) doubtful(b simcloud.Backup, by time.Time) bool {
	if !p.hidden() || !p.made(b) {
		return false
	}
	at, copied := p.copied[b.Metadata[backup.MetaNonce]]
	p.mu.Lock()
	sent := b.Created.Add(-p.delayed[b.Created.UnixNano()])
	p.mu.Unlock()
	return copied && !at.After(by) || slices.ContainsFunc(p.losses, func(loss time.Time) bool {
		return !loss.Before(sent) && !loss.After(by)
	})
}

// unverified says whether the service cannot know that it made a backup.
func (p *play) unverified(b simcloud.Backup) bool { return p.doubtful(b, p.Now()) && !p.proven(b) }

// proven says whether the ledger vouches for a backup.
func (p *play) proven(b simcloud.Backup) bool {
	records, err := p.ledger.RecordsOf(p.ctx, b.Project, b.Volume)
	p.must(err)
	return slices.ContainsFunc(records, func(r backup.Record) bool { return r.ID == b.ID && r.Proof != "" })
}

// origin is whose a backup is, as far as the service can know.
func (p *play) origin(b simcloud.Backup) backup.Origin {
	switch {
	case p.unverified(b):
		return backup.OriginUnverified
	case p.made(b):
		return backup.OriginService
	case !marked(b):
		return backup.OriginTenant
	case p.hidden():
		return backup.OriginUnverified
	}
	return backup.OriginForged
}

// foreign counts the backups that carry our metadata and do not count as ours.
func (p *play) foreign() map[backup.Origin]int {
	count := map[backup.Origin]int{backup.OriginForged: 0, backup.OriginUnverified: 0}
	for _, b := range p.Cloud.Backups() {
		if o := p.origin(b); b.Status != "deleted" && (o == backup.OriginForged || o == backup.OriginUnverified) {
			count[o]++
		}
	}
	return count
}

// vouched are the backups that are there and that the ledger vouches for.
func (p *play) vouched() map[string]bool {
	all := map[string]bool{}
	for _, b := range p.backups(true) {
		all[b.ID] = p.proven(b)
	}
	return all
}

// adopt is what an operator does about those of a project's backups of ours that nobody
// can know the maker of. Operators know it: they choose only what the service made.
func (p *play) adopt(project string, which func(simcloud.Backup) bool) {
	var records []backup.Record
	for _, b := range p.backups(true) {
		if !p.hidden() || b.Project != project || !which(b) {
			continue
		}
		r := backup.RecordOf(backup.CinderBackup{ID: b.ID, Name: b.Name, Project: b.Project, Volume: b.Volume,
			Status: b.Status, Size: b.Size, Incremental: b.Parent != "", Created: b.Created, Metadata: b.Metadata,
			Origin: backup.OriginService})
		r.Proof = backup.ByOperator
		records = append(records, r)
		p.count("adopted")
	}
	if len(records) > 0 {
		p.must(p.ledger.PutRecords(p.ctx, project, records))
	}
}

// forgeries are what tenants write as the metadata of their own backups.
var forgeries = []string{
	"copy", // all of the newest one of ours, its nonce with it
	"part", // the mark and the run alone, of the slot before
	"next", // all, under the name of the run that is still to come
	"far",  // the same, to be kept for a hundred years
	"hold", // all, with hold=yes
	"mark", // the mark alone
}

// forged are such metadata for a volume. All else is a copy: so is "answer", which is made
// only of a backup whose answer the service has not received.
func (p *play) forged(what string, v simcloud.Volume) map[string]string {
	schedule := p.Policies()[backup.Default].Schedule
	slot := schedule.Slot(p.Now())
	m := map[string]string{backup.MetaAutomated: "True", backup.MetaRun: backup.RunID(v.ID, slot), backup.MetaAttempt: "1",
		backup.MetaRetention: "1h", backup.MetaKind: "full"}
	for _, b := range p.backups(true) {
		if b.Volume == v.ID {
			m = maps.Clone(b.Metadata)
		}
	}
	switch what {
	case "part":
		m = map[string]string{backup.MetaAutomated: "True", backup.MetaRun: backup.RunID(v.ID, schedule.Slot(slot.Add(-1)))}
	case "next", "far":
		m[backup.MetaRun] = backup.RunID(v.ID, schedule.Next(p.Now()))
		if what == "far" {
			m[backup.MetaRetention], m[backup.MetaKeepUntil] = "100y", p.Now().AddDate(100, 0, 0).Format(time.RFC3339)
		}
	case "hold":
		m[backup.MetaHold] = "yes"
	case "mark":
		m = map[string]string{backup.MetaAutomated: "True"}
	}
	return m
}

// forge is what a tenant does in our name.
func (p *play) forge(a Act) {
	theirs := p.backups(false)
	slices.Reverse(theirs)
	var m map[string]string
	switch a.What {
	case "removed":
		if b, ok := one(slices.DeleteFunc(theirs, func(b simcloud.Backup) bool { return !marked(b) }), 0); ok {
			p.count("forged removed")
			status := p.ask(p.whose(b.Project), "DELETE", "backups/"+b.ID, nil, nil)
			// Owners may delete their own backups, except while the policy check cannot ask who made them.
			if status == 403 && a.Do == "forge" && !p.shaken.Load() && !p.lost() {
				p.fail("I2", "a tenant's delete of backup %s, which the service did not make, was answered %d", b.ID, status)
			}
		}
		return
	case "changed":
		b, ok := one(slices.DeleteFunc(theirs, marked), 0)
		v, there := p.Cloud.Volume(b.Volume)
		if !ok || !there {
			acts["manual"](p, Act{What: "full", Which: a.Which}) // for the next time
			return
		}
		m = p.forged(forgeries[a.Which%len(forgeries)], v)
		body := map[string]any{"backup": map[string]any{"metadata": m}}
		if p.ask(p.whose(b.Project), "PUT", "backups/"+b.ID, body, nil) == 200 {
			p.count("forged metadata")
			p.copying(m)
		}
		return
	}
	v, ok := one(p.volumes(), a.Which)
	if !ok {
		return
	}
	unanswered := p.unanswered()
	if a.What == "answer" {
		b, ok := one(unanswered, a.Which)
		if !ok {
			return
		}
		v, _ = p.Cloud.Volume(b.Volume) // Cinder refuses one that is gone
	}
	m = p.forged(a.What, v)
	if p.ask(p.whose(v.Project), "POST", "backups", map[string]any{"backup": map[string]any{
		"volume_id": v.ID, "name": v.Name + "-forged", "incremental": a.N == 1, "force": true, "metadata": m}}, nil) == 202 {
		p.count("forged")
		if slices.ContainsFunc(unanswered, func(b simcloud.Backup) bool { return sameRequest(b.Metadata, m) }) {
			p.count("open nonce copied")
		}
		p.copying(m)
	}
}

// sameRequest says whether two backups' metadata name the same request to Cinder.
func sameRequest(a, b map[string]string) bool {
	same := func(key string) bool { return a[key] == b[key] }
	return same(backup.MetaNonce) && same(backup.MetaRun) && same(backup.MetaAttempt)
}

// unanswered are the backups that the service made for open runs, without having received
// Cinder's answer: where the maker is hidden, only the nonce shows that they are ours.
// Those whose nonce was copied are left out.
func (p *play) unanswered() []simcloud.Backup {
	open := map[string]bool{} // by nonce
	ours := p.backups(true)
	for _, project := range p.tenants() {
		var all []backup.CinderBackup
		for _, b := range ours {
			if b.Project == project {
				all = append(all, backup.CinderBackup{ID: b.ID, Project: b.Project, Volume: b.Volume})
			}
		}
		evidence, err := p.ledger.Evidence(p.ctx, project, all)
		p.must(err)
		for _, run := range evidence.Asked {
			open[run.Nonce] = true
		}
	}
	return slices.DeleteFunc(ours, func(b simcloud.Backup) bool {
		nonce := b.Metadata[backup.MetaNonce]
		return !open[nonce] || !p.copied[nonce].IsZero()
	})
}

// copying notes that somebody has copied the nonce of a request without an answer: it
// proves nothing any more.
func (p *play) copying(m map[string]string) {
	nonce := m[backup.MetaNonce]
	if _, before := p.copied[nonce]; before || nonce == "" {
		return
	}
	for _, b := range p.backups(true) {
		if b.Metadata[backup.MetaNonce] == nonce && !p.proven(b) {
			p.copied[nonce] = p.Now()
			p.count("nonce copied")
		}
	}
}

// provoke lets a hostile tenant have a turn.
func (p *play) provoke() {
	h := p.hostile
	if h == nil {
		return
	}
	if p.turns++; p.turns%max(h.N, 1) != 0 {
		return
	}
	turn := h.Which + p.turns/max(h.N, 1)
	whats := append([]string{"changed", "removed", "changed"}, forgeries...)
	a := Act{Do: "hostile", What: whats[turn%len(whats)], Which: turn, N: turn / 3 % 2}
	there := 0
	for _, b := range p.backups(false) {
		if marked(b) {
			there++
		}
	}
	switch {
	case there >= 20:
		a.What = "removed"
	case len(p.unanswered()) > 0: // the time is short, but a tenant who watches for it does not miss it
		a.What = "answer"
	}
	p.forge(a)
}
