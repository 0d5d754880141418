package ledger

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"

	"staffeln/functions/backup"
)

// tellable fails for an error that cannot be put into a log as it is.
func tellable(t *testing.T, err error) {
	t.Helper()
	if text := err.Error(); len(text) > 1000 || !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		t.Fatalf("an error of %d bytes: %.300q", len(text), text)
	}
}

// goodRows are rows as they are written, for the fuzzer to break.
func goodRows() []string {
	v := backup.Protected{Name: "data", Size: 5, Backend: "h@b", Created: t0, State: backup.State{LastSlot: t0, LastComplete: t0, Why: "quota exceeded"}}
	run := backup.Run{Volume: "v1", Project: "p", Slot: t0, Attempt: 1, Kind: backup.Full, State: backup.Running, Backup: "b1", Started: t0, Deadline: minute(60), Servers: []string{"s1"}}
	record := argOfRecord(backup.Record{ID: "b1", Slot: t0, Kind: backup.Full, Status: "available", Created: t0, Size: 5, Policy: "keep=2w"})
	gone := backup.Removal{Backup: "b1", Volume: "v1", Project: "p", Created: t0, Why: "older than 2w", Tries: 2, Again: minute(5)}
	row, doing := retentionRows(backup.Retention{Looked: t0, Outlook: backup.Outlook{Backups: 8, Removals: 2, Chains: 2000, Losses: 500}, Held: "the brake",
		Removals: map[string]backup.Removal{"b1": gone}, Gone: map[string]backup.Absence{"v1": {Since: t0, Times: 2}}})
	return []string{
		"p 7 0 s1,s2\n" + factsRow(v) + "\n" + stateRow(v.State),
		"p 7 0\n" + enrolmentRow(backup.Enrolment{Name: "web", Class: "gold", Words: "backup=gold", Volumes: []string{"v1"}}),
		"p " + micros(t0) + " 1 b1 NONCE\n" + runRow(run), runRow(run),
		"v1 p " + record.Parent + " " + record.Facts + "\n" + record.Policy,
		"3.abcd " + row, doing, removalRow(gone),
		"7.abcd pending\n" + reportingRow(backup.Reporting{Last: t0, Failing: map[string]time.Time{"v1": t0}, Pending: &backup.Pending{Digest: backup.Digest{ID: "p@20261122T060000Z", From: t0, To: t0}}}),
	}
}

// Whatever stands in a row: what is read can be written and is then read the same
// again, and what cannot be read is told in a few words.
func FuzzRows(f *testing.F) {
	for _, row := range goodRows() {
		f.Add(row)
	}
	for _, row := range []string{"", "\n\n", "p 1 2 3", "p 7 0 s1\nnull\n0 0 0 0 99999999999999999999 0 ", `{"g":` + strings.Repeat("9", 2000) + "}",
		`{"s":"` + strings.Repeat("x", 2000) + `"}`, `p 1 0` + "\n" + `{"t":"9999-12-31T23:59:59-23:59"}`, "v p %zz 0 - - 0 0\n",
		"1.a 0 0 0 -9223372036854775808", `{"r":{"":{}}}`, "9223372036854775807.x 1 2 3 4 5 6 7"} {
		f.Add(row)
	}
	f.Fuzz(func(t *testing.T, row string) {
		// settled is what is left to compare of what was read: what was read of what was
		// written of it, once and twice.
		settled := func(read func(row string) (any, string, error)) {
			t.Helper()
			_, written, err := read(row)
			if err != nil {
				tellable(t, err)
				return
			}
			first, again, err := read(written)
			if err != nil {
				t.Fatalf("%q is written %q, which is not read: %v", row, written, err)
			}
			second, _, err := read(again)
			if d := cmp.Diff(first, second, cmpopts.EquateEmpty()); d != "" || err != nil {
				t.Fatalf("%q is written %q, and then %q: %v\n%s", row, written, again, err, d)
			}
		}
		settled(func(row string) (any, string, error) {
			v, servers, err := readVolume("v1", row)
			return []any{v, servers}, v.Project + " 7 0 " + strings.Join(servers, ",") + "\n" + factsRow(v) + "\n" + stateRow(v.State), err
		})
		settled(func(row string) (any, string, error) {
			e, stamp, err := readServer("s1", row)
			return []any{e, stamp}, e.Project + " 7 " + micros(stamp) + "\n" + enrolmentRow(e), err
		})
		settled(func(row string) (any, string, error) {
			r, err := readOpenRun(row)
			return r, "p 1 1 - N\n" + runRow(r), err
		})
		settled(func(row string) (any, string, error) {
			r, err := readRecord("b1", row)
			a := argOfRecord(r)
			return r, a.Volume + " " + a.Project + " " + a.Parent + " " + a.Facts + "\n" + a.Policy, err
		})
		settled(func(row string) (any, string, error) {
			g, err := readRemoval(row)
			return g, removalRow(g), err
		})
		settled(func(row string) (any, string, error) {
			r, err := readRetention("p", "7.a", row)
			_, doing := retentionRows(r)
			return r, doing, err
		})
		settled(func(row string) (any, string, error) {
			r, err := readRetention("p", row, "")
			o := r.Outlook
			for _, n := range []int{o.Backups, o.Removals, o.Chains, o.Losses, r.Most} {
				if err == nil && (n < 0 || n > math.MaxInt/1000) {
					t.Fatalf("%q counts %d", row, n)
				}
			}
			row, _ = retentionRows(r)
			return r, fmt.Sprintf("%d.a %s", r.Version, row), err
		})
		settled(func(row string) (any, string, error) {
			r, err := readReporting("p", row)
			return r, fmt.Sprintf("%d.a -\n%s", r.Version, reportingRow(r)), err
		})
	})
}

// Whatever somebody has put into Redis: nothing panics, every error tells in a few
// words what is wrong, and nothing is handed out to act on but what has a name that
// Cinder and Nova could have given it.
func FuzzRedis(f *testing.F) {
	// places are the keys that rows are read from, each with how the row gets there.
	s := New(nil, Options{}).of("p")
	put := func(key string) func(ctx context.Context, rdb redis.UniversalClient, field, row string) error {
		return func(ctx context.Context, rdb redis.UniversalClient, field, row string) error {
			return rdb.HSet(ctx, key, field, row).Err()
		}
	}
	push := func(key string) func(ctx context.Context, rdb redis.UniversalClient, field, row string) error {
		return func(ctx context.Context, rdb redis.UniversalClient, _, row string) error {
			return rdb.RPush(ctx, key, row).Err()
		}
	}
	set := func(key string) func(ctx context.Context, rdb redis.UniversalClient, field, row string) error {
		return func(ctx context.Context, rdb redis.UniversalClient, _, row string) error {
			return rdb.Set(ctx, key, row, 0).Err()
		}
	}
	k := New(nil, Options{}).keys
	places := []func(ctx context.Context, rdb redis.UniversalClient, field, row string) error{
		put(s.volumes()), put(s.servers()), put(s.runs()), put(s.watching()), put(s.records()), put(s.outlook()), put(s.removals()),
		push(s.removed("p")), put(s.reports()), push(s.finished("p")), put(s.stamping()), put(s.discarding()), put(s.tracked()),
		put(s.backups()), put(s.projects()), put(s.missing()), push(s.cut("p")), push(s.cutRemoved("p")), put(s.withdrawn()),
		set(k.release()), set(k.strain()), set(k.pause()), put(k.holders()), put(k.totals()), set(k.mark("backups")), set(s.reconciled()), set(k.layout()), set(s.ticket()),
	}
	queues := []string{s.due(), s.open(), s.watched(), s.stamps(), s.discards(), s.retention(), s.holding("p"), s.ranks("p"), k.leases()}
	rows := goodRows()
	for i := range places {
		row := rows[min(i, len(rows)-1)]
		field := []string{"v1", "s1", "v1", "v1@20261122T020000Z#1", "b1", "p", "p", "", "p"}[min(i, 8)]
		f.Add(uint8(i), field, row)
		f.Add(uint8(i), field, row[:len(row)/2])
		f.Add(uint8(i), "v1", "p 1 -1\x00")
	}
	f.Add(uint8(0), "v1", "")
	f.Add(uint8(11), "../../x", "p 1")
	f.Add(uint8(20), "", "-9 "+micros(t0))

	e, err := Embedded()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(e.Close)
	rdb := e.Client()
	f.Cleanup(func() { rdb.Close() })
	f.Fuzz(func(t *testing.T, place uint8, field, row string) {
		ctx := t.Context()
		if err := rdb.FlushAll(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, rdb)
		w.enroll(0, "s1 v1 v2")
		w.check(w.l.PutRecords(ctx, "p", []backup.Record{{ID: "b1", Volume: "v1", Created: t0, Status: "available"}}))
		w.check(places[int(place)%len(places)](ctx, rdb, field, row))
		for _, queue := range queues {
			w.check(rdb.ZAdd(ctx, queue, redis.Z{Score: 5, Member: field}).Err())
		}
		l, now := w.l, minute(1)
		told := func(_ any, err error) {
			if err != nil && !errors.Is(err, redis.Nil) {
				tellable(t, err)
			}
		}
		id := func(what string, ids ...string) {
			t.Helper()
			for _, id := range ids {
				if !goodID(id) {
					t.Fatalf("%s %q is handed out", what, id)
				}
			}
		}
		run := func(r backup.Run) {
			t.Helper()
			id("the run of", r.Volume, r.Project)
			if r.Slot.IsZero() || r.Backup != "" && !goodID(r.Backup) {
				t.Fatalf("a run is handed out that is none: %+v", r)
			}
		}
		shard := l.Shard("p")

		// What decides about removals first, as it is before anything mends it.
		outlook, err := l.Outlook(ctx)
		told(nil, err)
		if outlook.Backups < 0 || outlook.Removals < 0 || outlook.Chains < 0 || outlook.Losses < 0 {
			t.Fatalf("%+v", outlook)
		}
		r, err := l.Retention(ctx, "p")
		told(nil, err)
		for backup, g := range r.Removals {
			id("the removal of", backup, g.Backup)
		}
		discards, err := l.Discards(ctx, shard, now, 10)
		told(nil, err)
		for _, d := range discards {
			id("the discard of", d.Backup, d.Project)
		}
		records, err := l.Records(ctx, "p")
		told(nil, err)
		for _, r := range records {
			if r.Project != "p" {
				t.Fatalf("a record of %q", r.Project)
			}
		}
		open, err := l.Open(ctx, shard, now, 10)
		told(nil, err)
		watched, err := l.Watched(ctx, shard, now, 10)
		told(nil, err)
		all, err := l.Runs(ctx, shard)
		told(nil, err)
		for _, r := range slices.Concat(open, watched, all) {
			run(r)
		}
		stamps, err := l.Stamps(ctx, shard, now, 10)
		told(nil, err)
		for _, d := range stamps {
			id("the stamp of", d.Server, d.Project)
		}
		flight, err := l.InFlight(ctx, now)
		told(nil, err)
		if flight.Halvings < 0 || flight.Halvings > MaxHalvings {
			t.Fatalf("%d halvings", flight.Halvings)
		}
		due, err := l.Due(ctx, shard, now, 10)
		told(nil, err)
		v2 := func(v backup.Protected) bool { return v.Volume == "v2" }
		if field != "v2" && field != "s1" && !slices.ContainsFunc(due, v2) {
			t.Fatalf("one row that is none keeps volume v2 from its backup: %v, %v", due, err)
		}

		told(l.Retentions(ctx, shard))
		told(l.Held(ctx))
		told(l.Reports(ctx, shard))
		told(l.Volumes(ctx, shard))
		told(l.Enrolments(ctx, shard))
		told(l.ServersOf(ctx, "p", "v1"))
		told(l.VolumesOf(ctx, "p", []string{"v1", "v2"}))
		told(l.Finished(ctx, "p", 10))
		told(l.Removals(ctx, "p", 10))
		told(l.Totals(ctx))
		told(l.Count(ctx, shard, now))
		told(l.Missing(ctx, "p", field, now))
		told(l.RetentionDue(ctx, shard, now, 10))
		told(l.Look(ctx, "p", "b1", now))
		_, _, err = l.Ranks(ctx, "p", []string{"v1"})
		told(nil, err)
		_, _, err = l.Find(ctx, "b1")
		told(nil, err)
		_, _, _, err = l.Enrolment(ctx, "p", "s1")
		told(nil, err)
		_, _, err = l.Marked(ctx, "backups")
		told(nil, err)
		_, _, err = l.LastReconciled(ctx)
		told(nil, err)
		_, _, err = l.CloudRelease(ctx)
		told(nil, err)
		_, _, err = l.CutDigest(ctx, "p")
		told(nil, err)
		told(l.Projects(ctx, shard))
		told(nil, l.Strain(ctx, now))

		told(l.Postpone(ctx, "p", "v1", backup.State{LastSlot: t0, Due: minute(5)}))
		one := backup.Run{Volume: "v2", Project: "p", Slot: t0, Attempt: 1, State: backup.Requested, Started: now, Deadline: minute(9)}
		ok, err := l.Begin(ctx, one, now)
		told(nil, err)
		if ok {
			told(l.Advance(ctx, one, now))
			one.State, one.Backup, one.Ended = backup.Complete, "b2", minute(2)
			told(l.Finish(ctx, backup.Closing{Run: one, Final: true, State: backup.State{LastSlot: t0, LastComplete: t0, Due: minute(60)}}))
			if left, _ := rdb.HExists(ctx, s.runs(), "v2").Result(); left {
				t.Fatal("a run was begun that cannot be ended")
			}
		}
		// A reading of the cloud mends the rows it knows: those of servers and volumes.
		ticket, err := l.Ticket(ctx, "p")
		if err != nil {
			tellable(t, err)
			return
		}
		if _, err := l.Enroll(ctx, ticket, backup.Enrolment{Server: "s1", Project: "p", Class: "gold", Volumes: []string{"v1", "v2"}},
			[]backup.Protected{{Volume: "v1", Project: "p"}, {Volume: "v2", Project: "p"}}, minute(3)); err != nil {
			tellable(t, err)
		}
	})
}

// A URL of Redis is read or refused in a few words, none of which is its password.
func FuzzOpen(f *testing.F) {
	f.Add("redis", "u", "pa55word", "h:6379", "/1", "")
	f.Add("rediss+cluster", "", "pa55?@word", "a,b:1", "", "pool_size=x")
	f.Add("redis+sentinel", "master", "pa/55word", "[::1]:1,b", "/x", "sentinel_password=pa55word")
	f.Add("redis", "", "pa55word%zz", "h", "", "&%zz")
	f.Add("http", "\x00", "pa55word", "", "/", "a@b")
	f.Fuzz(func(t *testing.T, scheme, user, password, host, path, query string) {
		const secret = "k3yring"
		if strings.Contains(scheme+user+host+path+query, secret) {
			t.Skip("the secret stands elsewhere, too")
		}
		for _, raw := range []string{
			scheme + "://" + user + ":" + secret + password + "@" + host + path + "?" + query,
			scheme + "://" + user + ":" + password + secret + "@" + host + path + "?" + query,
			scheme + "://" + url.UserPassword(user, secret+password).String() + "@" + host + path,
		} {
			c, err := Open(raw, nil)
			if err == nil {
				if c == nil || reflect.ValueOf(c).IsNil() {
					t.Fatalf("%q opens nothing", raw)
				}
				c.Close()
				continue
			}
			tellable(t, err)
			if strings.Contains(err.Error(), secret) {
				t.Fatalf("%q: the error holds the password: %v", raw, err)
			}
		}
	})
}
