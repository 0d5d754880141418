package backup

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

var theKeys = Keys{OptIn: "backup", Skip: "skip-volume-backup", Schedule: "backup-schedule", Retention: "backup-retention", Overrides: true}

var theClasses = Classes{
	Default:  policy("every=daily@02:30, zone=Europe/Berlin, keep=2w, depth=6"),
	"gold":   policy("class=gold, every=6h, zone=Europe/Berlin, keep=4w, depth=12, container=fast"),
	"silver": policy("class=silver, every=daily@02:30, zone=Europe/Berlin, keep=3w"),
}

// wishes reads "backup=yes #backup:gold": metadata, and tags by a #. A value in
// quotes may hold blanks.
func wishes(s string) (metadata map[string]string, tags []string) {
	metadata = map[string]string{}
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		if tag, ok := strings.CutPrefix(s, "#"); ok {
			tag, s, _ = strings.Cut(tag, " ")
			tags = append(tags, tag)
			continue
		}
		key, rest, _ := strings.Cut(s, "=")
		value := ""
		if quoted, ok := strings.CutPrefix(rest, "'"); ok {
			value, s, _ = strings.Cut(quoted, "'")
		} else {
			value, s, _ = strings.Cut(rest, " ")
		}
		metadata[key] = value
	}
	return metadata, tags
}

func TestReadWish(t *testing.T) {
	const unknown = " is neither yes nor a class (default, gold, silver): not protected"
	for _, c := range []struct{ name, server, want, problems string }{
		{"yes", "backup=yes", "default: metadata backup=yes", ""},
		{"true", "backup=true", "default: metadata backup=true", ""},
		{"on", "backup=on", "default: metadata backup=on", ""},
		{"1", "backup=1", "default: metadata backup=1", ""},
		{"in any case", "backup=YeS", "default: metadata backup=YeS", ""},
		{"True, as Python writes it", "backup=True", "default: metadata backup=True", ""},
		{"with blanks around", "backup='  on '", "default: metadata backup=  on ", ""},
		{"a class by its name", "backup=gold", "gold: metadata backup=gold", ""},
		{"a class in any case", "backup=Gold", "gold: metadata backup=Gold", ""},
		{"the default class by its name", "backup=default", "default: metadata backup=default", ""},

		{"no", "backup=no", "out: metadata backup=no", ""},
		{"false", "backup=False", "out: metadata backup=False", ""},
		{"off", "backup=OFF", "out: metadata backup=OFF", ""},
		{"0", "backup=0", "out: metadata backup=0", ""},
		{"nothing", "backup=", "out: metadata backup=", ""},
		{"blanks", "backup='  '", "out: metadata backup=  ", ""},
		{"anything else opts out, and its owner is told", "backup=platinum", "out: metadata backup=platinum", `backup="platinum"` + unknown},
		{"two words are no class", "backup='gold silver'", "out: metadata backup=gold silver", `backup="gold silver"` + unknown},
		{"a number is no yes", "backup=2", "out: metadata backup=2", `backup="2"` + unknown},
		{"no key at all", "color=red", "out: no backup metadata nor tag", ""},
		{"another key", "Backup=yes backups=yes", "out: no backup metadata nor tag", ""},

		{"the tag", "#backup", "default: tag backup", ""},
		{"the tag among others", "#web #backup #zoo", "default: tag backup", ""},
		{"the tag with a class", "#backup:gold", "gold: tag backup:gold", ""},
		{"the tag with a word", "#backup:yes", "default: tag backup:yes", ""},
		{"the tag with a class in any case", "#backup:GOLD", "gold: tag backup:GOLD", ""},
		{"the tag that opts out", "#backup:no", "out: tag backup:no", ""},
		{"the tag that says nothing behind the colon", "#backup:", "out: tag backup:", ""},
		{"the tag with an unknown class", "#backup:platinum", "out: tag backup:platinum", `backup="platinum"` + unknown},
		{"another tag that begins alike", "#backups #backup-me #backup=yes", "out: no backup metadata nor tag", ""},
		{"the tag in capitals is another", "#BACKUP", "out: no backup metadata nor tag", ""},
		{"two tags: the first of the alphabet", "#backup:silver #backup:gold", "gold: tag backup:gold", ""},
		{"two tags: the one that means something", "#backup:bronze #backup:silver", "silver: tag backup:silver", ""},

		{"metadata comes before tags", "backup=silver #backup:gold", "silver: metadata backup=silver", ""},
		{"what metadata opt out of no tag overrules", "backup=no #backup:gold #backup", "out: metadata backup=no", ""},
		{"nor what they say wrongly", "backup=platinum #backup", "out: metadata backup=platinum", `backup="platinum"` + unknown},

		{"a schedule of its own", "backup=gold backup-schedule=12h", "gold schedule=12h: metadata backup=gold", ""},
		{"a retention of its own", "backup=gold backup-retention=1y", "gold retention=1y: metadata backup=gold", ""},
		{"both, with a tag", "#backup backup-schedule='30 2 * * 1-5' backup-retention=3mon", "default schedule=30 2 * * 1-5 retention=3mon: tag backup", ""},
		{"a schedule that does not parse", "backup=gold backup-schedule=often", "gold: metadata backup=gold", `backup-schedule: "often" is not a schedule`},
		{"a retention that does not parse", "backup=gold backup-retention=9999y", "gold: metadata backup=gold", `backup-retention: "9999y" is longer than 100 years: class gold counts`},
		{"an empty retention", "backup=yes backup-retention=", "default: metadata backup=yes", `backup-retention: "" is no time at all`},
		{"an empty schedule", "backup=yes backup-schedule=", "default: metadata backup=yes", `backup-schedule: "" is not a schedule`},
		{"one bad, one good", "backup=yes backup-schedule=often backup-retention=1y", "default retention=1y: metadata backup=yes", `backup-schedule: "often" is not a schedule`},
		{"wishes without opting in", "backup-schedule=12h backup-retention=x", "out: no backup metadata nor tag", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			metadata, tags := wishes(c.server)
			w := ReadWish(metadata, tags, theKeys, theClasses)
			if got := showWish(w); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			got := strings.Join(w.Problems, " | ")
			if got != c.problems && (c.problems == "" || !strings.HasPrefix(got, c.problems) || len(w.Problems) != 1) {
				t.Errorf("problems: got %s, want %s", got, c.problems)
			}
			if strings.Contains(got, "schedule: ") && !strings.HasSuffix(got, "class "+w.Class+" counts") {
				t.Errorf("problems do not tell what counts: %s", got)
			}
			if w.In != (w.Class != "") {
				t.Errorf("in: %v, class: %q", w.In, w.Class)
			}
		})
	}
}

func showWish(w Wish) string {
	s := "out"
	if w.In {
		s = w.Class
	}
	if w.Schedule != "" {
		s += " schedule=" + w.Schedule
	}
	if w.Retention != "" {
		s += " retention=" + w.Retention
	}
	return s + ": " + w.Why
}

func TestReadWishWhereOverridesAreNotAllowed(t *testing.T) {
	keys := theKeys
	keys.Overrides = false
	metadata, tags := wishes("backup=gold backup-schedule=12h backup-retention=1y")
	w := ReadWish(metadata, tags, keys, theClasses)
	same(t, showWish(w), "gold: metadata backup=gold")
	same(t, w.Problems, []string{"backup-schedule is not allowed here: class gold counts", "backup-retention is not allowed here: class gold counts"})
}

func TestReadWishWithTheKeysOfAnotherCloud(t *testing.T) {
	keys := Keys{OptIn: "__staffeln_backup", Retention: "__staffeln_retention", Overrides: true}
	metadata, tags := wishes("__staffeln_backup=true __staffeln_retention=1y2mon backup=no #backup:no")
	same(t, showWish(ReadWish(metadata, tags, keys, theClasses)), "default retention=1y2mon: metadata __staffeln_backup=true")
}

// Words change with what decides, and with nothing else.
func TestWishWords(t *testing.T) {
	const base = "backup=gold backup-schedule=12h #backup:silver"
	for _, c := range []struct {
		name, server string
		same         bool
	}{
		{"the same", base, true},
		{"another key", base + " color=red last-backup-time=2026-11-22T02:00:00Z", true},
		{"another tag", base + " #web", true},
		{"another order", "#backup:silver backup-schedule=12h backup=gold", true},
		{"another class", "backup=silver backup-schedule=12h #backup:silver", false},
		{"another schedule", "backup=gold backup-schedule=13h #backup:silver", false},
		{"a retention", base + " backup-retention=1y", false},
		{"an empty retention", base + " backup-retention=", false},
		{"no schedule", "backup=gold #backup:silver", false},
		{"another tag of ours", "backup=gold backup-schedule=12h #backup:gold", false},
		{"one tag of ours more", base + " #backup", false},
		{"no tag of ours", "backup=gold backup-schedule=12h", false},
		{"a value that looks like what follows", `backup='gold" backup-schedule="12h' #backup:silver`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			words := func(s string) string {
				metadata, tags := wishes(s)
				return ReadWish(metadata, tags, theKeys, theClasses).Words
			}
			if (words(base) == words(c.server)) != c.same {
				t.Errorf("%q and %q, want the same: %v", words(base), words(c.server), c.same)
			}
		})
	}
}

func FuzzReadWish(f *testing.F) {
	f.Add("yes", true, "12h", "1y", "backup:gold", "web", true)
	f.Add("platinum", true, "often", "9999y", "backup", "backup:no", false)
	f.Add("", false, "", "", "backup:", "", true)
	f.Add("gold\n#\"backup\"", true, "* * 29 2 *", "２w", "backup:\xff", "backup:\n", true)
	f.Fuzz(func(t *testing.T, value string, has bool, sched, keep, tag1, tag2 string, allowed bool) {
		metadata := map[string]string{theKeys.Schedule: sched, theKeys.Retention: keep}
		if has {
			metadata[theKeys.OptIn] = value
		}
		keys := theKeys
		keys.Overrides = allowed
		w := ReadWish(metadata, []string{tag1, tag2}, keys, theClasses)
		same(t, ReadWish(metadata, []string{tag2, tag1}, keys, theClasses), w)
		if _, ok := theClasses[w.Class]; ok != w.In || w.Why == "" {
			t.Fatalf("%#v", w)
		}
		if !w.In && (w.Schedule != "" || w.Retention != "") || !allowed && (w.Schedule != "" || w.Retention != "") {
			t.Fatalf("overrides count that must not: %#v", w)
		}
		if _, err := ParseSchedule(w.Schedule); err != nil && w.Schedule != "" {
			t.Fatalf("an override that does not parse: %#v", w)
		}
		if _, err := ParseAge(w.Retention); err != nil && w.Retention != "" {
			t.Fatalf("an override that does not parse: %#v", w)
		}
		for _, p := range w.Problems {
			if len(p) > 1500 || !utf8.ValidString(p) || strings.ContainsAny(p, "\n\x00") {
				t.Fatalf("a problem that cannot be told: %q", p)
			}
		}
		p := theClasses.Of(Enrolment{Class: w.Class, Schedule: w.Schedule, Retention: w.Retention})
		if p.Schedule.IsZero() || p.Retention.IsZero() {
			t.Fatalf("no policy for %#v", w)
		}
	})
}

func TestSkips(t *testing.T) {
	for _, c := range []struct{ name, volume, want string }{
		{"no key", "color=red", ""},
		{"true", "skip-volume-backup=true", "volume metadata skip-volume-backup=true"},
		{"any other word", "skip-volume-backup=scratch", "volume metadata skip-volume-backup=scratch"},
		{"nothing behind the key", "skip-volume-backup=", "volume metadata skip-volume-backup="},
		{"blanks behind the key", "skip-volume-backup='  '", "volume metadata skip-volume-backup=  "},
		{"no", "skip-volume-backup=no", ""},
		{"false, as Python writes it", "skip-volume-backup=False", ""},
		{"off in capitals", "skip-volume-backup=OFF", ""},
		{"0 with blanks", "skip-volume-backup=' 0 '", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			metadata, _ := wishes(c.volume)
			if got := Skips(metadata, theKeys); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func showPolicy(p Policy) string {
	return fmt.Sprintf("%s %s in %s, %s, depth %d", p.Class, p.Schedule, p.Schedule.Zone(), p.Retention, p.Depth)
}

func enrolment(s string) Enrolment {
	e := Enrolment{}
	for part := range strings.SplitSeq(s, ", ") {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "class":
			e.Class = value
		case "schedule":
			e.Schedule = value
		case "keep":
			e.Retention = value
		}
	}
	return e
}

func TestClassesOf(t *testing.T) {
	for _, c := range []struct{ name, enrolment, want string }{
		{"its class", "class=gold", "gold 6h in Europe/Berlin, 4w, depth 12"},
		{"its own schedule, in the class's zone", "class=gold, schedule=daily@04:00", "gold daily@04:00 in Europe/Berlin, 4w, depth 12"},
		{"its own retention", "class=gold, keep=1y", "gold 6h in Europe/Berlin, 1y, depth 12"},
		{"what does not parse does not count", "class=gold, schedule=often, keep=ever", "gold 6h in Europe/Berlin, 4w, depth 12"},
		{"a class that was taken away", "class=platinum", "default daily@02:30 in Europe/Berlin, 2w, depth 6"},
		{"a class that was taken away, with a retention of its own", "class=platinum, keep=1y", "default daily@02:30 in Europe/Berlin, 1y, depth 6"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := showPolicy(theClasses.Of(enrolment(c.enrolment))); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestStrictest(t *testing.T) {
	for _, c := range []struct{ name, enrolments, want string }{
		{"of none, the default", "", "default daily@02:30 in Europe/Berlin, 2w, depth 6"},
		{"of one, its own", "class=silver", "silver daily@02:30 in Europe/Berlin, 3w, depth 0"},
		{"the most frequent schedule, the longest retention", "class=gold; class=silver, keep=1y", "gold 6h in Europe/Berlin, 1y, depth 12"},
		{"the other way round", "class=silver, keep=1y; class=gold", "gold 6h in Europe/Berlin, 1y, depth 12"},
		{"its own retention where that is longest", "class=silver; class=gold", "gold 6h in Europe/Berlin, 4w, depth 12"},
		{"by their own schedules", "class=gold; class=silver, schedule=1h", "silver 1h in Europe/Berlin, 4w, depth 0"},
		{"of equal schedules the longer retention", "class=default; class=silver", "silver daily@02:30 in Europe/Berlin, 3w, depth 0"},
		{"of equal schedules and retentions the first name", "class=silver; class=default, keep=3w", "default daily@02:30 in Europe/Berlin, 3w, depth 6"},
		{"of one class the first schedule in words", "class=gold, schedule=daily@05:00; class=gold, schedule=daily@04:00", "gold daily@04:00 in Europe/Berlin, 4w, depth 12"},
		{"a day is a day even where it has 23 hours", "class=gold, schedule=24h; class=silver", "gold 24h in Europe/Berlin, 4w, depth 12"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var all []Enrolment
			for e := range strings.SplitSeq(c.enrolments, "; ") {
				if e != "" {
					all = append(all, enrolment(e))
				}
			}
			for range 2 {
				if got := showPolicy(theClasses.Strictest(all, on("2026-03-28T00:00"))); got != c.want {
					t.Errorf("got %s, want %s", got, c.want)
				}
				slices.Reverse(all)
			}
		})
	}
}

// What is kept by rules and archived is what any of the servers asks for.
func TestStrictestOfArchives(t *testing.T) {
	of := func(rules, container string, every Span) Policy {
		r, err := ParseRules(rules)
		if err != nil {
			t.Fatal(err)
		}
		p := policy("keep=2w")
		p.Rules, p.Archive = r, Archive{container, every}
		return p
	}
	classes := Classes{
		"daily": of("daily=7 monthly=3", "", ""), "yearly": of("monthly=12 yearly=unlimited", "vault", Year),
		"all": of("last=unlimited yearly=3", "attic", Month), "plain": of("none", "", ""),
	}
	for _, c := range []struct{ name, classes, want string }{
		{"one has none", "plain", "none"},
		{"none of none", "plain plain", "none"},
		{"the most of each rule", "daily yearly", "daily=7 monthly=12 yearly=unlimited, archived in vault each year"},
		{"of one that has none, too", "plain yearly", "monthly=12 yearly=unlimited, archived in vault each year"},
		{"unlimited is the most", "yearly all", "last=unlimited monthly=12 yearly=unlimited, archived in attic each month"},
		{"the first by name, and each month, whatever the order", "daily plain yearly all", "last=unlimited daily=7 monthly=12 yearly=unlimited, archived in attic each month"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, p := range classes {
				p.Class = name
				classes[name] = p
			}
			var all []Enrolment
			for class := range strings.FieldsSeq(c.classes) {
				all = append(all, Enrolment{Class: class})
			}
			for range 2 {
				p := classes.Strictest(all, on("22T00:00"))
				got := p.Rules.String()
				if a := p.Archive; a.Container != "" {
					got += fmt.Sprintf(", archived in %s each %s", a.Container, a.Every)
				}
				if got != c.want {
					t.Errorf("got %s, want %s", got, c.want)
				}
				slices.Reverse(all)
			}
		})
	}
}

func TestStrictestIsAsStrictAsEach(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one := rapid.Custom(func(t *rapid.T) Enrolment {
			return Enrolment{
				Class:     rapid.SampledFrom([]string{"default", "gold", "silver", "gone"}).Draw(t, "class"),
				Schedule:  rapid.SampledFrom([]string{"", "1h", "24h", "daily@04:00", "30 2 * * 1-5", "0 0 1 * *"}).Draw(t, "schedule"),
				Retention: rapid.SampledFrom([]string{"", "1d", "5w", "1y"}).Draw(t, "keep"),
			}
		})
		all, now := rapid.SliceOfN(one, 1, 5).Draw(t, "enrolments"), anyMoment(t)
		best := theClasses.Strictest(all, now)
		if shuffled := theClasses.Strictest(rapid.Permutation(all).Draw(t, "shuffled"), now); showPolicy(shuffled) != showPolicy(best) {
			t.Fatalf("it depends on the order: %s or %s", showPolicy(best), showPolicy(shuffled))
		}
		kept := false
		for _, e := range all {
			p := theClasses.Of(e)
			if best.Schedule.Interval(now) > p.Schedule.Interval(now) || best.Retention.Compare(p.Retention) < 0 {
				t.Fatalf("%s is less than %s", showPolicy(best), showPolicy(p))
			}
			kept = kept || p.Retention == best.Retention
		}
		if !kept {
			t.Fatalf("nobody asked for %s", best.Retention)
		}
	})
}
