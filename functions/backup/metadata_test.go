package backup

import (
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestMetadata(t *testing.T) {
	run := Run{Volume: theVolume, Project: "p1", Slot: on("22T01:30"), Attempt: 2, Kind: Full}
	p := policy("class=gold, every=daily@02:30, zone=Europe/Berlin, keep=3mon")
	p.Rules = Rules{Daily: 7, Yearly: -1}
	got := Metadata(run, p, Enrolment{Server: "s1", Name: "db-1"}, time.Date(2026, 11, 30, 1, 31, 7, 5000, time.UTC))
	same(t, got, map[string]string{
		"__automated_backup":       "True",
		"__staffeln_run":           theVolume + "@20261122T013000Z",
		"__staffeln_attempt":       "2",
		"__staffeln_server":        "s1",
		"__staffeln_server_name":   "db-1",
		"__staffeln_class":         "gold",
		"__staffeln_retention":     "3mon",
		"__staffeln_zone":          "Europe/Berlin",
		"__staffeln_keep_until":    "2027-02-28T01:31:07Z",
		"__staffeln_kind":          "full",
		"__staffeln_archive_rules": "daily=7 yearly=unlimited",
	})
	run.Archived = Month
	if got := Metadata(run, p, Enrolment{}, run.Slot)["__staffeln_archived"]; got != "month" {
		t.Errorf("the first of a month is marked %q", got)
	}
}

// What is archived is told by the mark of ours alone.
func TestArchived(t *testing.T) {
	for _, c := range []struct {
		automated, archived string
		want                Span
	}{
		{"True", "month", Month}, {"true", "year", Year}, {"True", "week", ""}, {"True", "", ""}, {"", "month", ""}, {"False", "year", ""},
	} {
		b := judged(CinderBackup{Metadata: map[string]string{MetaAutomated: c.automated, MetaArchived: c.archived}})
		if got := b.Archived(); got != c.want {
			t.Errorf("%+v is %q", c, got)
		}
	}
	if got := (CinderBackup{}).Archived(); got != "" {
		t.Errorf("no metadata is %q", got)
	}
}

// The end of a retention is counted by the calendar of the schedule's zone.
func TestMetadataKeepUntil(t *testing.T) {
	for _, c := range []struct{ name, policy, now, want string }{
		{"two weeks", "keep=2w", "22T02:00", "2026-12-06T02:00:00Z"},
		{"two weeks by the wall clock, over a change of it", "keep=2w, zone=Europe/Berlin", "2026-10-20T02:00", "2026-11-03T03:00:00Z"},
		{"a month from the 31st of the zone, which is the 30th in UTC", "keep=1mon, zone=Asia/Kathmandu", "2027-01-30T20:00", "2027-02-27T20:00:00Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Metadata(Run{}, policy(c.policy), Enrolment{}, on(c.now))[MetaKeepUntil]; got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// metadataKey is what Cinder takes as a key (cinder/api/validation,
// parameter_types.py: metadata_allows_null).
var metadataKey = regexp.MustCompile(`^[a-zA-Z0-9-_:. ]{1,255}$`)

func TestMetadataIsWhatCinderTakes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(rapid.String(), rapid.StringN(200, 400, -1)).Draw(t, "name")
		run := Run{Volume: theVolume, Slot: anyMoment(t).Truncate(time.Second), Attempt: rapid.IntRange(1, 2).Draw(t, "attempt"), Kind: Incremental}
		m := Metadata(run, somePolicy(t), Enrolment{Server: "s1", Name: name}, run.Slot)
		for k, v := range m {
			if !metadataKey.MatchString(k) || utf8.RuneCountInString(v) > 255 || !isPlain(v) {
				t.Fatalf("%s=%q", k, v)
			}
		}
		// Every backup can be told by its own metadata alone.
		b := judged(CinderBackup{ID: "b1", Volume: theVolume, Metadata: m})
		slot, attempt, ok := b.Run()
		if !ok || !b.Ours() || !slot.Equal(run.Slot) || attempt != run.Attempt {
			t.Fatalf("%v is read as %s, %d, %v", m, slot, attempt, ok)
		}
		if rules, err := ParseRules(m[MetaRules]); err != nil || rules.String() != m[MetaRules] {
			t.Fatalf("archive rules %q: %v", m[MetaRules], err)
		}
		if keep, err := ParseAge(RecordOf(b).Policy); err != nil || keep.IsZero() {
			t.Fatalf("retention %q: %v", m[MetaRetention], err)
		}
		if until, err := time.Parse(time.RFC3339, m[MetaKeepUntil]); err != nil || !until.After(run.Slot) {
			t.Fatalf("keep until %q: %v", m[MetaKeepUntil], err)
		}
	})
}

// isPlain says whether a database that knows only three bytes of UTF-8 and a
// terminal can take it.
func isPlain(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r > 0xFFFF || unicode.IsControl(r) })
}

func TestPlain(t *testing.T) {
	for _, c := range []struct {
		name, in string
		most     int
		want     string
	}{
		{"letters of any script", "Ärger-数据-данные", 99, "Ärger-数据-данные"},
		{"an emoji", "db 🚀 1", 99, "db \uFFFD 1"},
		{"the last character of the basic plane", "\uFFEE", 99, "\uFFEE"},
		{"the first beyond it", "\U00010000", 99, "\uFFFD"},
		{"a line break", "a\r\nb", 99, "a\uFFFD\uFFFDb"},
		{"a blank is no control character", "a b~c\u00a0d", 99, "a b~c\u00a0d"},
		{"delete", "a\x7fb", 99, "a\uFFFDb"},
		{"the upper control characters", "a\u0080\u0085\u009fb", 99, "a\uFFFD\uFFFD\uFFFDb"},
		{"nil", "a\x00b", 99, "a\uFFFDb"},
		{"from right to left", "\u202egnp.exe", 99, "\u202egnp.exe"},
		{"no UTF-8", "a\xff\xfeb", 99, "a\uFFFDb"},
		{"as long as it may be", "abcde", 5, "abcde"},
		{"longer, by a character", "abcdef", 5, "abcde"},
		{"longer, in characters and not in bytes", "äöüßé!", 5, "äöüßé"},
		{"an emoji is one character", "🚀🚀🚀", 2, "\uFFFD\uFFFD"},
		{"nothing", "", 5, ""},
		{"nothing allowed", "abc", 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := plain(c.in, c.most); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestRunOfABackup(t *testing.T) {
	const slot = "20261122T020000Z"
	for _, c := range []struct {
		name, automated, run, attempt string
		want                          int // attempt, 0 for none of ours
	}{
		{"the first attempt", "True", theVolume + "@" + slot, "1", 1},
		{"the second", "True", theVolume + "@" + slot, "2", 2},
		{"marked in lower case", "true", theVolume + "@" + slot, "1", 1},
		{"without an attempt", "True", theVolume + "@" + slot, "", 1},
		{"an attempt that is no number", "True", theVolume + "@" + slot, "one", 1},
		{"an attempt below the first", "True", theVolume + "@" + slot, "-5", 1},
		{"an attempt above the second", "True", theVolume + "@" + slot, "17", 2},

		{"not marked", "", theVolume + "@" + slot, "1", 0},
		{"marked as not ours", "False", theVolume + "@" + slot, "1", 0},
		{"marked by another word", "yes", theVolume + "@" + slot, "1", 0},
		{"no run", "True", "", "1", 0},
		{"no slot", "True", theVolume, "1", 0},
		{"an empty slot", "True", theVolume + "@", "1", 0},
		{"a run of another volume", "True", "another@" + slot, "1", 0},
		{"a slot in another format", "True", theVolume + "@2026-11-22T02:00:00Z", "1", 0},
		{"a slot with a part of a second", "True", theVolume + "@20261122T020000.5Z", "1", 0},
		{"a slot with more behind it", "True", theVolume + "@" + slot + " ", "1", 0},
		{"two slots", "True", theVolume + "@" + slot + "@" + slot, "1", 0},
		{"no such day", "True", theVolume + "@20261131T020000Z", "1", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := judged(CinderBackup{Volume: theVolume, Metadata: map[string]string{MetaAutomated: c.automated, MetaRun: c.run, MetaAttempt: c.attempt}})
			at, attempt, ok := b.Run()
			if ok != (c.want > 0) || attempt != c.want || ok != at.Equal(on("22T02:00")) {
				t.Errorf("got %s, %d, %v", at, attempt, ok)
			}
		})
	}
	t.Run("below microversion 3.43 nothing is known to be ours", func(t *testing.T) {
		b := judged(CinderBackup{Volume: theVolume})
		if _, _, ok := b.Run(); ok || b.Ours() {
			t.Error("it is")
		}
	})
}

func TestRunID(t *testing.T) {
	for _, slot := range []time.Time{on("22T02:00"), on("22T02:00").In(zone("Asia/Kathmandu")), on("22T02:00").Add(time.Millisecond)} {
		if got := (Run{Volume: "v1", Slot: slot}).ID(); got != "v1@20261122T020000Z" {
			t.Errorf("%s: got %s", slot, got)
		}
	}
}

func TestRecordOf(t *testing.T) {
	now := on("22T03:00")
	b := made("I1@1h=7#2:creating", on("22T02:00"), now)[0]
	b.Project, b.Metadata[MetaRetention] = "p1", "2w"
	want := Record{ID: "I1", Volume: theVolume, Project: "p1", Slot: on("22T02:00"), Kind: Incremental, Status: "creating", Created: on("22T02:00"), Size: 7, Policy: "2w", Proof: ByMaker}
	same(t, RecordOf(b), want)
	b.Incremental = false
	want.Kind = Full
	same(t, RecordOf(b), want)
	delete(b.Metadata, MetaRun)
	want.Slot = time.Time{}
	same(t, RecordOf(b), want)
}

func TestCheckTemplate(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"what the manual says", "{VOLUME_NAME}-{BACKUP_DATE}", ""},
		{"every word", "{VOLUME_NAME} {VOLUME_ID} {SERVER_NAME} {BACKUP_DATE}", ""},
		{"one word alone", "{BACKUP_DATE}", ""},
		{"a hundred characters of its own", strings.Repeat("ä", 100) + "{BACKUP_DATE}", ""},
		{"one more than that", strings.Repeat("ä", 101) + "{BACKUP_DATE}", "is too long"},
		{"no word", "backup", "same name"},
		{"nothing", "", "same name"},
		{"an unknown word", "{VOLUME}-{BACKUP_DATE}", "unknown word"},
		{"a word in lower case", "{volume_name}-{BACKUP_DATE}", "unknown word"},
		{"a brace that is not closed", "{VOLUME_NAME}-{BACKUP_DATE", "unknown word"},
		{"a brace that is not opened", "VOLUME_NAME}-{BACKUP_DATE}", "unknown word"},
		{"a word in a word", "{VOLUME_{BACKUP_DATE}NAME}", "unknown word"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := CheckTemplate(c.in)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestName(t *testing.T) {
	long, at := strings.Repeat("ä", 255), time.Date(2026, 11, 22, 3, 0, 0, 999, zone("Europe/Berlin"))
	for _, c := range []struct{ name, template, volume, server, want string }{
		{"what the manual says", "{VOLUME_NAME}-{BACKUP_DATE}", "data", "db-1", "data-20261122T020000Z"},
		{"a volume without a name goes by its id", "{VOLUME_NAME}-{BACKUP_DATE}", "", "db-1", theVolume + "-20261122T020000Z"},
		{"a name of blanks is none", "{VOLUME_NAME}-{BACKUP_DATE}", " \t ", "db-1", theVolume + "-20261122T020000Z"},
		{"every word", "{SERVER_NAME}/{VOLUME_ID}/{VOLUME_NAME}", "data", "db-1", "db-1/" + theVolume + "/data"},
		{"a word twice", "{VOLUME_NAME}{VOLUME_NAME}", "ab", "", "abab"},
		{"a volume that is called like a word", "{VOLUME_NAME}-{BACKUP_DATE}", "{BACKUP_DATE}", "", "{BACKUP_DATE}-20261122T020000Z"},
		{"an emoji and a line break", "{VOLUME_NAME} {SERVER_NAME}", "🚀", "a\nb", "\uFFFD a\uFFFDb"},
		{"from right to left", "{VOLUME_NAME}-{BACKUP_DATE}", "\u202eata", "", "\u202eata-20261122T020000Z"},
		{"a long name is cut, the date is not", "{VOLUME_NAME}-{BACKUP_DATE}", long, "", strings.Repeat("ä", 235) + "-20261122T020000Z"},
		{"two long names are cut alike", "{VOLUME_NAME}-{SERVER_NAME}-{BACKUP_DATE}", long, long, strings.Repeat("ä", 115) + "-" + strings.Repeat("ä", 115) + "-20261122T020000Z"},
		{"a name that just fits is not cut", "{VOLUME_NAME}", long, "", long},
		{"what does not fit in any way is cut at its end", strings.Repeat("{BACKUP_DATE}", 20), "", "", strings.Repeat("20261122T020000Z", 15) + "20261122T020000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Name(c.template, Volume{ID: theVolume, Name: c.volume}, c.server, at); got != c.want {
				t.Errorf("\n got %q\nwant %q", got, c.want)
			}
		})
	}
}

func FuzzName(f *testing.F) {
	f.Add("{VOLUME_NAME}-{BACKUP_DATE}", "data", "db-1")
	f.Add("{VOLUME_{BACKUP_DATE}NAME}", "{BACKUP_DATE}", "🚀\x00")
	f.Add("{SERVER_NAME}{SERVER_NAME}{SERVER_NAME}{VOLUME_ID}", strings.Repeat("ä", 300), "\xff")
	f.Add("", " ", "")
	f.Fuzz(func(t *testing.T, template, volume, server string) {
		if err := CheckTemplate(template); err != nil {
			if len(err.Error()) > 600 {
				t.Fatalf("%d characters of error", len(err.Error()))
			}
			return
		}
		at := on("22T02:00")
		name := Name(template, Volume{ID: theVolume, Name: volume}, server, at)
		if utf8.RuneCountInString(name) > 255 {
			t.Fatalf("%q makes %q", template, name)
		}
		if isPlain(template) && !isPlain(name) {
			t.Fatalf("%q makes %q of %q and %q", template, name, volume, server)
		}
		if strings.Count(template, wordDate) == 1 && strings.Count(template, "{") < 4 && !strings.Contains(name, "20261122T020000Z") {
			t.Fatalf("%q makes %q, without its date", template, name)
		}
	})
}

func FuzzRunOfABackup(f *testing.F) {
	f.Add(theVolume, "True", theVolume+"@20261122T020000Z", "1")
	f.Add("", "true", "@20261122T020000Z", "")
	f.Add("v", "True", "v@20261122T020000.5Z", "9223372036854775807")
	f.Add("v@20261122T020000Z", "TRUE", "v@20261122T020000Z@20261122T020000Z", "-1")
	f.Fuzz(func(t *testing.T, volume, automated, run, attempt string) {
		b := judged(CinderBackup{Volume: volume, Metadata: map[string]string{MetaAutomated: automated, MetaRun: run, MetaAttempt: attempt}})
		slot, n, ok := b.Run()
		switch {
		case !ok:
			if !slot.IsZero() || n != 0 {
				t.Fatalf("%q: none, yet %s %d", run, slot, n)
			}
		case !b.Ours() || n < 1 || n > 2 || RunID(volume, slot) != run:
			t.Fatalf("%q of %q: %s, %d", run, volume, slot, n)
		}
	})
}
