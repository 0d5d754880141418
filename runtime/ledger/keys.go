package ledger

import "fmt"

// keys builds every key of the ledger. docs/redis.md lists them; a test keeps
// the two, and what is really in Redis, in step.
//
// The part in braces is what a Redis Cluster chooses the slot by: all keys of a
// shard are in one slot, and so are those of the admission.
type keys struct {
	prefix string
	shards int
}

// claim: string, ends by itself. A name somebody has taken ("dispatch/07@...").
func (k keys) claim(name string) string { return k.prefix + ":claim:" + name }

// layout: string. The number of shards the ledger was begun with.
func (k keys) layout() string { return k.prefix + ":layout" }

// mark: string. When something of the whole cloud was last done ("backups").
func (k keys) mark(what string) string { return k.prefix + ":mark:" + what }

// asked: string. Counts how often a reconcile was asked for.
func (k keys) asked() string { return k.prefix + ":asked" }

// totals: hash WHAT -> a number of the whole cloud, as last counted ("overdue").
func (k keys) totals() string { return k.prefix + ":totals" }

// release: string "UNTIL MOST". The operator's release of the brake on the cloud.
func (k keys) release() string { return k.prefix + ":release" }

// pace is the name given to redis_rate, which puts "rate:" in front of it:
// string, ends by itself. When the next API call may be made.
func pace() string { return "staffeln:pace" }

// limit is such a name, too. When something else may be done next.
func limit(what string) string { return "staffeln:limit:" + what }

func (k keys) admission(name string) string { return k.prefix + ":{admission}:" + name }

// leases: zset RUN -> until when it counts as under way.
func (k keys) leases() string { return k.admission("leases") }

// holders: hash RUN -> "PROJECT BACKEND".
func (k keys) holders() string { return k.admission("holders") }

// strain: string "HALVINGS LAST".
func (k keys) strain() string { return k.admission("strain") }

// pause: string "UNTIL WHY".
func (k keys) pause() string { return k.admission("pause") }

// A shard builds the keys of one shard.
type shard struct{ tag string }

func (k keys) shard(n int) shard { return shard{fmt.Sprintf("%s:{%02d}:", k.prefix, n)} }

// ticket: string. Counts the readings of the cloud.
func (s shard) ticket() string { return s.tag + "ticket" }

// reconciled: string. When the shard was last compared with the cloud; 0 if that
// is to be done anew.
func (s shard) reconciled() string { return s.tag + "reconciled" }

// servers: hash SERVER -> "PROJECT TICKET STAMP\nENROLMENT".
func (s shard) servers() string { return s.tag + "servers" }

// withdrawn: hash SERVER -> "TICKET AT", for a day or two.
func (s shard) withdrawn() string { return s.tag + "withdrawn" }

// volumes: hash VOLUME -> "PROJECT TICKET AGAIN SERVERS\nFACTS\nSTATE".
func (s shard) volumes() string { return s.tag + "volumes" }

// due: zset VOLUME -> when it is to be looked at next. Never one with an open run.
func (s shard) due() string { return s.tag + "due" }

// runs: hash VOLUME -> "PROJECT SLOT ATTEMPT BACKUP NONCE\nRUN": the open ones.
func (s shard) runs() string { return s.tag + "runs" }

// open: zset VOLUME -> when its open run is to be looked at.
func (s shard) open() string { return s.tag + "open" }

// watching: hash RUN#ATTEMPT -> RUN: those given up on that may end after all.
func (s shard) watching() string { return s.tag + "watching" }

// watched: zset RUN#ATTEMPT -> when it is to be looked at.
func (s shard) watched() string { return s.tag + "watched" }

// tracked: hash BACKUP -> "open VOLUME" or "watched RUN#ATTEMPT".
func (s shard) tracked() string { return s.tag + "tracked" }

// stamping: hash SERVER -> "PROJECT AT TRIES": last-backup-times to write.
func (s shard) stamping() string { return s.tag + "stamping" }

// stamps: zset SERVER -> when to try.
func (s shard) stamps() string { return s.tag + "stamps" }

// discarding: hash BACKUP -> "PROJECT TRIES": broken backups to remove.
func (s shard) discarding() string { return s.tag + "discarding" }

// discards: zset BACKUP -> when to try.
func (s shard) discards() string { return s.tag + "discards" }

// records: hash BACKUP -> "VOLUME PROJECT PARENT SLOT KIND STATUS CREATED SIZE
// PROOF\nPOLICY". PROOF is m, r or o: how the service is known to have made it; rows of
// older releases have none.
func (s shard) records() string { return s.tag + "records" }

// foreign: hash PROJECT -> the backups that carry our metadata and do not count as
// ours, as JSON.
func (s shard) foreign() string { return s.tag + "foreign" }

// backups: hash VOLUME -> "BACKUP BACKUP", those that have records.
func (s shard) backups() string { return s.tag + "backups" }

// holding: zset VOLUME -> 0, the volumes of one project that have records.
func (s shard) holding(project string) string { return s.tag + "holding:" + project }

// ranks: zset VOLUME -> when it was made, the volumes of one project that count
// for its volume limit.
func (s shard) ranks(project string) string { return s.tag + "ranks:" + project }

// finished: list of RUN, the newest last, at most [FinishedKept].
func (s shard) finished(project string) string { return s.tag + "finished:" + project }

// retention: zset PROJECT -> when its removals are to be looked at.
func (s shard) retention() string { return s.tag + "retention" }

// outlook: hash PROJECT -> "VERSION.NONCE LOOKED BACKUPS CHAINS REMOVALS LOSSES
// RELEASED MOST", without the zeros at the end.
func (s shard) outlook() string { return s.tag + "outlook" }

// removals: hash PROJECT -> what is being removed, and what holds it back, as JSON.
func (s shard) removals() string { return s.tag + "removals" }

// removed: list of REMOVAL, the newest last, at most [RemovedKept].
func (s shard) removed(project string) string { return s.tag + "removed:" + project }

// reports: hash PROJECT -> "VERSION.NONCE ASIDE\nREPORTING".
func (s shard) reports() string { return s.tag + "reports" }

// cut: list of RUN, those that the pending or the next digest is made of.
func (s shard) cut(project string) string { return s.tag + "cut:" + project }

// cutRemoved: list of REMOVAL, likewise.
func (s shard) cutRemoved(project string) string { return s.tag + "cutremoved:" + project }

// projects: hash PROJECT -> how many servers, open and watched runs, stamps and
// discards it has.
func (s shard) projects() string { return s.tag + "projects" }

// missing: hash "PROJECT WHAT" -> "TIMES AT", for a day or two.
func (s shard) missing() string { return s.tag + "missing" }
