package backup

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Keys of a backup's own metadata. Everything that has to be known about a
// backup later is written there when it is made: the ledger is only an index.
const (
	// MetaAutomated marks a backup as the service's: the value is "True". It proves
	// nothing by itself, see [Makers.Judge].
	MetaAutomated = "__automated_backup"
	// MetaRun is the run it was made for, see [RunID].
	MetaRun = "__staffeln_run"
	// MetaAttempt is "1", or "2" for the retry.
	MetaAttempt = "__staffeln_attempt"
	// MetaNonce is a random text that the ledger holds before the request is sent. It
	// tells the service's own backup where Cinder does not show who made it.
	MetaNonce = "__staffeln_nonce"
	// MetaServer and MetaServerName are the server the volume was attached to.
	MetaServer     = "__staffeln_server"
	MetaServerName = "__staffeln_server_name"
	// MetaClass is the policy class.
	MetaClass = "__staffeln_class"
	// MetaRetention is the retention time as it was then, in the grammar of
	// [ParseAge]; MetaZone the time zone it is counted in.
	MetaRetention = "__staffeln_retention"
	MetaZone      = "__staffeln_zone"
	// MetaKeepUntil is when that retention ends, RFC 3339 in UTC.
	MetaKeepUntil = "__staffeln_keep_until"
	// MetaRules are the archive rules as they were then, as [ParseRules] reads them.
	MetaRules = "__staffeln_archive_rules"
	// MetaArchived is "month" or "year" for the first restore point of one, which lies
	// in the archive container; not there for others.
	MetaArchived = "__staffeln_archived"
	// MetaHold keeps a backup for as long as it is there, with any value but no,
	// false, off and 0. Operators set it; a tenant's update of a protected backup is
	// refused by the policy check.
	MetaHold = "hold"
	// MetaKind is what was asked for: "full" or "incremental". A driver may make a
	// full one of an incremental; is_incremental tells.
	MetaKind = "__staffeln_kind"
)

// maxValue is Cinder's limit for a metadata value and a name, in characters.
const maxValue = 255

// Metadata is what a backup of the run is stamped with.
func Metadata(r Run, p Policy, server Enrolment, now time.Time) map[string]string {
	m := map[string]string{
		MetaAutomated:  "True",
		MetaRun:        r.ID(),
		MetaAttempt:    strconv.Itoa(r.Attempt),
		MetaServer:     server.Server,
		MetaServerName: plain(server.Name, maxValue),
		MetaClass:      p.Class,
		MetaRetention:  p.Retention.String(),
		MetaZone:       p.Schedule.Zone().String(),
		MetaKeepUntil:  p.Retention.After(now.In(p.Schedule.Zone())).UTC().Format(time.RFC3339),
		MetaKind:       string(r.Kind),
		MetaRules:      p.Rules.String(),
	}
	if r.Archived != "" {
		m[MetaArchived] = string(r.Archived)
	}
	if r.Nonce != "" {
		m[MetaNonce] = r.Nonce
	}
	return m
}

// plain makes a tenant's name fit for where it did not come from, in most
// characters: those outside Unicode's basic plane, which a three-byte database
// refuses with a 500, and control characters become U+FFFD.
func plain(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r > 0xFFFF || r < ' ' || r >= 0x7F && r < 0xA0 {
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return fmt.Sprintf("%.*s", most, s)
}

// Archived reads which span's first restore point a backup of ours is, in the
// archive container; "" for none.
func (b CinderBackup) Archived() Span {
	switch span := Span(b.Metadata[MetaArchived]); {
	case b.Ours() && (span == Month || span == Year):
		return span
	}
	return ""
}

// Held reads the hold: any value but no, false, off and 0, and so the empty one.
func (b CinderBackup) Held() bool {
	v, has := b.Metadata[MetaHold]
	word := strings.ToLower(strings.TrimSpace(v))
	return has && (word == "" || !slices.Contains(no, word))
}

// Run reads which run a backup of ours was made for. attempt is 1 or 2, and one
// that cannot be read counts as the first: the run is what must not be made twice.
func (b CinderBackup) Run() (slot time.Time, attempt int, ok bool) {
	if !b.Ours() {
		return time.Time{}, 0, false
	}
	return b.named()
}

// named reads the run that a backup's metadata name, whoever wrote them.
func (b CinderBackup) named() (slot time.Time, attempt int, ok bool) {
	volume, stamp, ok := strings.Cut(b.Metadata[MetaRun], "@")
	if !ok || volume != b.Volume {
		return time.Time{}, 0, false
	}
	slot, err := time.Parse(Stamp, stamp)
	if err != nil || slot.Format(Stamp) != stamp { // Parse takes fractions of a second, too
		return time.Time{}, 0, false
	}
	if attempt, err = strconv.Atoi(b.Metadata[MetaAttempt]); err != nil {
		attempt = 1
	}
	return slot, min(max(attempt, 1), 2), true
}

// RecordOf is what to remember of a backup of ours.
func RecordOf(b CinderBackup) Record {
	slot, _, _ := b.Run()
	kind := Full
	if b.Incremental {
		kind = Incremental
	}
	r := Record{
		ID: b.ID, Volume: b.Volume, Project: b.Project, Slot: slot, Kind: kind, Status: b.Status,
		Created: b.Created, Size: b.Size, Policy: b.Metadata[MetaRetention],
	}
	switch {
	case !b.Ours():
	case b.Maker != "":
		r.Proof = ByMaker
	default:
		r.Proof = ByRun
	}
	return r
}

// The words of a name template.
const (
	wordVolumeName = "{VOLUME_NAME}"
	wordVolumeID   = "{VOLUME_ID}"
	wordServerName = "{SERVER_NAME}"
	wordDate       = "{BACKUP_DATE}"
)

// CheckTemplate says what is wrong with a template of backup names: a word that is
// not one of {VOLUME_NAME} {VOLUME_ID} {SERVER_NAME} {BACKUP_DATE}, no word at all,
// or more than 100 characters of its own.
func CheckTemplate(t string) error {
	rest := strings.NewReplacer(wordVolumeName, "", wordVolumeID, "", wordServerName, "", wordDate, "").Replace(t)
	const allowed = "allowed are " + wordVolumeName + " " + wordVolumeID + " " + wordServerName + " " + wordDate
	switch {
	case strings.ContainsAny(rest, "{}"):
		return fmt.Errorf("%.60q has an unknown word: %s", t, allowed)
	case rest == t:
		return fmt.Errorf("%.60q would give every backup the same name: %s", t, allowed)
	case len([]rune(rest)) > 100:
		return fmt.Errorf("%.60q… is too long: at most 100 characters besides its words", t)
	}
	return nil
}

// Name makes a backup's name from the template: at most 255 characters, the names
// in it cut rather than the rest. A volume without a name goes by its id.
func Name(template string, v Volume, serverName string, at time.Time) string {
	volume := v.Name
	if strings.TrimSpace(volume) == "" {
		volume = v.ID
	}
	for most := maxValue; ; most -= 5 {
		name := strings.NewReplacer(
			wordVolumeName, plain(volume, most),
			wordVolumeID, v.ID,
			wordServerName, plain(serverName, most),
			wordDate, at.UTC().Format(Stamp),
		).Replace(template)
		if short := fmt.Sprintf("%.*s", maxValue, name); short == name || most <= 5 {
			return short
		}
	}
}
