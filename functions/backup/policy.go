package backup

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// A Policy is what a server's volumes are backed up and kept by: schedule and
// retention. Operators publish named ones, the classes.
type Policy struct {
	// Class is the name it is published under.
	Class    string
	Schedule Schedule
	// Spread is the window over which the starts of a slot are spread.
	Spread    time.Duration
	Retention Age
	// Depth is how many incrementals a full backup may carry; 0 makes every backup
	// a full one.
	Depth int
	// ChainAge is how old a chain may be before the next backup is a full one; zero
	// for any age.
	ChainAge Age
	// Rules keep restore points beyond the retention time.
	Rules Rules
	// Container is Cinder's backup container; "" for its default.
	Container string
	// Archive is where the first restore point of a month or year goes instead.
	Archive   Archive
	Blackouts Blackouts
	// Lock is how long after the service has seen it a change of a tenant's takes effect
	// that takes something away; zero for at once. See [Classes.Decide].
	Lock Age
	// OverrideKept is how many of their newest restore points the volumes of a server
	// keep that overrides schedule or retention.
	OverrideKept int
}

// Classes are the operator's policies by name. The one named [Default] is that
// of a server that opts in with a plain yes.
type Classes map[string]Policy

// Default is the name of the class that a plain yes means.
const Default = "default"

// Keys are the names that a tenant's wishes go by, all configurable.
type Keys struct {
	// OptIn is the server metadata key and the tag: "backup".
	OptIn string
	// Skip is the volume metadata key: "skip-volume-backup".
	Skip string
	// Schedule and Retention are the server metadata keys of the overrides.
	Schedule, Retention string
	// Overrides says whether the operator allows those at all, MinPeriod how frequent
	// a schedule may be that a tenant sets, MaxPeriod how rare, MinRetention how short
	// a retention; zero for as it likes.
	Overrides            bool
	MinPeriod, MaxPeriod time.Duration
	MinRetention         Age
}

var (
	yes = []string{"yes", "true", "on", "1"}
	no  = []string{"no", "false", "off", "0", ""}
)

// A Wish is what a server asks for, read from its metadata and tags.
type Wish struct {
	// In says whether it opts in.
	In bool
	// Class is the policy class chosen.
	Class string
	// Schedule and Retention are its own overrides that parse; "" for the class's.
	Schedule, Retention string
	// Problems are the values that were refused, in words for the owner.
	Problems []string
	// Why says what decided, in words.
	Why string
	// Silent says that neither metadata nor a tag spoke of it at all.
	Silent bool
	// Words are the values that it was all decided from.
	Words string
}

// ReadWish reads a server's metadata and tags. Metadata comes before tags, and a
// metadata value that opts out is not overruled by a tag.
func ReadWish(metadata map[string]string, tags []string, keys Keys, classes Classes) Wish {
	w := Wish{Words: words(metadata, tags, keys)}
	value, has := metadata[keys.OptIn]
	if has {
		w.In, w.Class, w.Why = classes.choose(value, fmt.Sprintf("metadata %s=%.40s", keys.OptIn, value))
	} else {
		w.Why = "no " + keys.OptIn + " metadata nor tag"
		for _, tag := range slices.Sorted(slices.Values(tags)) {
			choice, isOurs := "", false
			if tag == keys.OptIn {
				choice, isOurs = "yes", true
			} else if rest, ok := strings.CutPrefix(tag, keys.OptIn+":"); ok {
				choice, isOurs = rest, true
			}
			if !isOurs || w.In {
				continue
			}
			value, has = choice, true
			w.In, w.Class, w.Why = classes.choose(choice, "tag "+tag)
		}
		w.Silent = !has
	}
	if !w.In {
		if has && !slices.Contains(no, strings.ToLower(strings.TrimSpace(value))) {
			w.Problems = append(w.Problems, fmt.Sprintf("%s=%.40q is neither yes nor a class (%s): not protected", keys.OptIn, value, classes.names()))
		}
		return w
	}
	override := func(key string, parse func(string) error) string {
		v, has := metadata[key]
		if !has {
			return ""
		}
		if !keys.Overrides {
			w.Problems = append(w.Problems, fmt.Sprintf("%s is not allowed here: class %s counts", key, w.Class))
			return ""
		}
		if err := parse(v); err != nil {
			w.Problems = append(w.Problems, fmt.Sprintf("%s: %v: class %s counts", key, err, w.Class))
			return ""
		}
		return v
	}
	w.Schedule = override(keys.Schedule, keys.schedule)
	w.Retention = override(keys.Retention, keys.retention)
	return w
}

// schedule says what is wrong with a schedule that a tenant set.
func (k Keys) schedule(s string) error {
	sched, err := ParseSchedule(s)
	if err == nil && sched.Interval(time.Unix(0, 0)) < k.MinPeriod {
		err = fmt.Errorf("%.60q is more frequent than every %s", s, k.MinPeriod)
	}
	if err == nil && k.MaxPeriod > 0 && sched.Longest() > k.MaxPeriod {
		err = fmt.Errorf("%.60q is less frequent than every %s", s, k.MaxPeriod)
	}
	return err
}

// retention says what is wrong with a retention time that a tenant set.
func (k Keys) retention(s string) error {
	age, err := ParseAge(s)
	if err == nil && age.Compare(k.MinRetention) < 0 {
		err = fmt.Errorf("%.60q is shorter than %s", s, k.MinRetention)
	}
	return err
}

// words is everything a wish is decided from, so that two servers' readings can
// be compared without deciding again.
func words(metadata map[string]string, tags []string, keys Keys) string {
	var parts []string
	for _, key := range []string{keys.OptIn, keys.Schedule, keys.Retention} {
		if v, ok := metadata[key]; ok && key != "" {
			parts = append(parts, fmt.Sprintf("%s=%.255q", key, v))
		}
	}
	for _, tag := range slices.Sorted(slices.Values(tags)) {
		if tag == keys.OptIn || strings.HasPrefix(tag, keys.OptIn+":") {
			parts = append(parts, fmt.Sprintf("#%q", tag))
		}
	}
	return strings.Join(parts, "\n") // which no quoted value can hold
}

func (c Classes) choose(value, from string) (in bool, class, why string) {
	value = strings.ToLower(strings.TrimSpace(value))
	if slices.Contains(yes, value) {
		return true, Default, from
	}
	if _, ok := c[value]; ok {
		return true, value, from
	}
	return false, "", from
}

func (c Classes) names() string {
	return strings.Join(slices.Sorted(maps.Keys(c)), ", ")
}

// Skips reads a volume's wish to be left out: the key with any value but no,
// false, off and 0. why is "" where it is not left out.
func Skips(metadata map[string]string, keys Keys) (why string) {
	v, has := metadata[keys.Skip]
	word := strings.ToLower(strings.TrimSpace(v))
	if !has || word != "" && slices.Contains(no, word) {
		return ""
	}
	return fmt.Sprintf("volume metadata %s=%.40s", keys.Skip, v)
}

// Of is the policy of one enrolment: its class with its overrides. A class that
// the operator has since taken away counts as [Default].
func (c Classes) Of(e Enrolment) Policy {
	p, ok := c[e.Class]
	if !ok {
		p = c[Default]
	}
	overridden := false
	if s, err := ParseSchedule(e.Schedule); err == nil {
		p.Schedule, overridden = s.In(p.Schedule.Zone()), true
	}
	if a, err := ParseAge(e.Retention); err == nil {
		p.Retention, overridden = a, true
	}
	if overridden {
		p.Rules = p.Rules.most(Rules{Last: p.OverrideKept})
	}
	return p
}

// Strictest is the policy of a volume attached to several opted-in servers: the
// one with the most frequent slots at now, with the longest retention and lock and the
// most of every archive rule, archived where any is, and each month where any is so often.
func (c Classes) Strictest(enrolments []Enrolment, now time.Time) Policy {
	if len(enrolments) == 0 {
		return c[Default]
	}
	all := make([]Policy, len(enrolments))
	for i, e := range enrolments {
		all[i] = c.Of(e)
	}
	if len(all) == 1 {
		return all[0]
	}
	best := slices.MinFunc(all, func(a, b Policy) int {
		return cmp.Or(
			cmp.Compare(a.Schedule.Interval(now), b.Schedule.Interval(now)),
			b.Retention.Compare(a.Retention),
			cmp.Compare(a.Class, b.Class),
			// Whatever the order of the servers, the slots have to stay the same.
			cmp.Compare(a.Schedule.String(), b.Schedule.String()))
	})
	archive, own := best.Archive, best.Archive.Container != ""
	for _, p := range all {
		if p.Retention.Compare(best.Retention) > 0 {
			best.Retention = p.Retention
		}
		if p.Lock.Compare(best.Lock) > 0 {
			best.Lock = p.Lock
		}
		best.Rules = best.Rules.most(p.Rules)
		if p.Archive.Container == "" {
			continue
		}
		if archive.Container == "" || !own && p.Archive.Container < archive.Container { // in whatever order they come
			archive.Container = p.Archive.Container
		}
		if archive.Every == "" || p.Archive.Every == Month {
			archive.Every = p.Archive.Every
		}
	}
	best.Archive = archive
	return best
}

// most keeps what either keeps.
func (r Rules) most(other Rules) Rules {
	for rule := range ruleCount {
		if mine, n := r.of(rule), *other.of(rule); n < 0 || *mine >= 0 && n > *mine {
			*mine = n
		}
	}
	return r
}
