package keep

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"staffeln/functions/backup"
)

// The tiny language of retention.
//
// Backups are written as in the other tables, oldest first or not: "F1@96h I1@72h
// i2@1h:creating" are a full backup of ours that is four days old, an incremental
// on it, and a tenant's own incremental that is being made. Instead of the age there
// may be a moment, "F1@20T10:00" or "F1@2026-01-31T10:00". In braces comes what else
// is special about one: {keep=1mon rules=daily=3+weekly=2 zone=Europe/Berlin
// until=2026-12-31T00:00 archived=month hold hold=no dependents} and "-KEY" or
// "KEY=VALUE" for any other metadata.
//
// Fates are one a line: "+F1 younger than 2w until 24T10:00" stays until then,
// "-I1 older than 2w" goes.

// held reads what is known about theVolume: backups made under the frozen policy
// "keep=2w, rules=daily=7 weekly=4, zone=UTC" unless they say otherwise.
func held(t testing.TB, backups, frozen string, now time.Time) Holding {
	t.Helper()
	h := Holding{Project: "p1", Volume: theVolume}
	words := backups
	for words != "" {
		var word string
		words = strings.TrimSpace(words)
		if end := strings.IndexAny(words, " {\n\t"); end < 0 {
			word, words = words, ""
		} else {
			word, words = words[:end], words[end:]
		}
		b := backup.CinderBackup{Project: h.Project, Volume: theVolume, Status: "available", Size: 10, Container: "backups", Metadata: map[string]string{}}
		word, status, ok := strings.Cut(word, ":")
		if ok {
			if minute, rest, ok := strings.Cut(status, ":"); ok || len(minute) == 2 { // "20T10:00:error"
				word, status = word+":"+minute, rest
			}
			if status != "" {
				b.Status = status
			}
		}
		name, when, _ := strings.Cut(word, "@")
		if b.ID = name; strings.Contains(when, "T") {
			b.Created = on(when)
		} else {
			b.Created = now.Add(-span(when))
		}
		b.Updated = b.Created
		b.Incremental = strings.ContainsAny(name[:1], "Ii")
		if strings.ContainsAny(name[:1], "FI") {
			b.Metadata[backup.MetaAutomated] = "True"
			freeze(&b, strings.ReplaceAll(frozen, ", ", "\x00"), "\x00")
		}
		if strings.HasPrefix(words, "{") {
			inside, rest, ok := strings.Cut(words[1:], "}")
			if !ok {
				t.Fatalf("no } in %q", backups)
			}
			freeze(&b, inside, " ")
			words = rest
		}
		h.Backups = append(h.Backups, judged(b))
	}
	return h
}

func freeze(b *backup.CinderBackup, s, separator string) {
	for part := range strings.SplitSeq(s, separator) {
		key, value, has := strings.Cut(part, "=")
		switch {
		case key == "":
		case key == "keep":
			b.Metadata[backup.MetaRetention] = value
			if _, ok := b.Metadata[backup.MetaZone]; !ok {
				b.Metadata[backup.MetaZone] = "UTC"
			}
		case key == "rules":
			b.Metadata[backup.MetaRules] = strings.ReplaceAll(value, "+", " ")
		case key == "zone":
			b.Metadata[backup.MetaZone] = value
		case key == "until":
			b.Metadata[backup.MetaKeepUntil] = on(value).Format(time.RFC3339)
		case key == "archived":
			b.Metadata[backup.MetaArchived] = value
		case key == "dependents":
			b.Dependents = true
		case key == "failed":
			b.FailReason = value
		case strings.HasPrefix(key, "-"):
			delete(b.Metadata, key[1:])
		default:
			b.Metadata[key] = value
			_ = has
		}
	}
}

// current reads the current policy: "keep=2w, rules=daily=7, zone=Europe/Berlin"; ""
// for none.
func current(s string) *backup.Policy {
	if s == "" {
		return nil
	}
	p := policy("every=24h, " + s)
	return &p
}

func tellFates(fates []Fate) string {
	var b strings.Builder
	for _, f := range fates {
		sign := "-"
		if f.Keep {
			sign = "+"
		}
		fmt.Fprintf(&b, "%s%s %s", sign, f.Backup.ID, f.Why)
		if !f.Until.IsZero() {
			u := day(f.Until)
			if f.Until.UTC().Format("2006-01") != "2026-11" {
				u = f.Until.UTC().Format("2006-01-02T15:04")
			}
			fmt.Fprintf(&b, " until %s", u)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// kept names those that stay, oldest first.
func kept(fates []Fate) string {
	var ids []string
	for _, f := range fates {
		if f.Keep {
			ids = append(ids, f.Backup.ID)
		}
	}
	return strings.Join(ids, " ")
}

// lines takes the indentation out of a table's text.
func lines(s string) string {
	var out []string
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line+"\n")
		}
	}
	return strings.Join(out, "")
}
