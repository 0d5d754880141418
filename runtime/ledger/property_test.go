package ledger

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"staffeln/functions/backup"
)

// sane looks whether what must always hold of the shard of project p does.
func sane(t interface {
	Helper()
	Errorf(string, ...any)
	Fatal(...any)
}, w *world) {
	t.Helper()
	s := w.l.of("p")
	var due, open, watched, stamps, discards *redis.StringSliceCmd
	var runs, volumes, servers, watching, stamping, discarding, tracked, records, projects *redis.MapStringStringCmd
	_, err := w.rdb.TxPipelined(w.ctx, func(p redis.Pipeliner) error {
		all := func(key string) *redis.StringSliceCmd { return p.ZRange(w.ctx, key, 0, -1) }
		due, open, watched, stamps, discards = all(s.due()), all(s.open()), all(s.watched()), all(s.stamps()), all(s.discards())
		hash := func(key string) *redis.MapStringStringCmd { return p.HGetAll(w.ctx, key) }
		runs, volumes, servers, watching = hash(s.runs()), hash(s.volumes()), hash(s.servers()), hash(s.watching())
		stamping, discarding, tracked = hash(s.stamping()), hash(s.discarding()), hash(s.tracked())
		records, projects = hash(s.records()), hash(s.projects())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range due.Val() {
		if _, ok := runs.Val()[v]; ok {
			t.Errorf("volume %s is due and open", v)
		}
		if _, ok := volumes.Val()[v]; !ok {
			t.Errorf("volume %s is due and not protected", v)
		}
	}
	for _, pair := range []struct {
		set  *redis.StringSliceCmd
		rows *redis.MapStringStringCmd
		what string
	}{{open, runs, "open runs"}, {watched, watching, "watched runs"}, {stamps, stamping, "stamps"}, {discards, discarding, "discards"}} {
		if len(pair.set.Val()) != len(pair.rows.Val()) {
			t.Errorf("%s: %d have a time, %d a row", pair.what, len(pair.set.Val()), len(pair.rows.Val()))
		}
		for _, id := range pair.set.Val() {
			if _, ok := pair.rows.Val()[id]; !ok {
				t.Errorf("%s: %s has a time and no row", pair.what, id)
			}
		}
	}
	for id, where := range tracked.Val() {
		kind, what, _ := strings.Cut(where, " ")
		rows := runs
		if kind == "watched" {
			rows = watching
		}
		if row, ok := rows.Val()[what]; !ok || !strings.Contains(row, `"b":"`+id+`"`) {
			t.Errorf("backup %s is tracked as %s, which is not its run", id, where)
		}
	}

	// Servers and volumes say the same of one another.
	has := map[string]bool{}
	for id, row := range servers.Val() {
		e, _, err := readServer(id, row)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range e.Volumes {
			has[v+" "+id+" "+e.Project] = true
		}
	}
	counts := map[string]int{}
	for id, row := range volumes.Val() {
		v, of, err := readVolume(id, row)
		if err != nil {
			t.Fatal(err)
		}
		if len(of) == 0 {
			t.Errorf("volume %s is protected by nobody", id)
		}
		for _, server := range of {
			if !has[id+" "+server+" "+v.Project] {
				t.Errorf("volume %s says it is on server %s, which says otherwise", id, server)
			}
			counts[id+" "+server]++
		}
		if counts[id+" "+of[0]] != 1 {
			t.Errorf("volume %s names a server twice: %v", id, of)
		}
		ranked := w.rdb.ZScore(w.ctx, s.ranks(v.Project), id).Err() == nil
		if ranked == (v.Skip != "") {
			t.Errorf("volume %s counts for the limit: %v, skipped: %q", id, ranked, v.Skip)
		}
	}
	ranks := w.rdb.ZRange(w.ctx, s.ranks("p"), 0, -1).Val()
	for _, id := range ranks {
		if !strings.HasPrefix(volumes.Val()[id], "p ") {
			t.Errorf("volume %s counts for the limit and is not protected in the project", id)
		}
	}

	// The count of what a project has is right.
	want := map[string]int{}
	for _, rows := range []*redis.MapStringStringCmd{servers, runs, stamping, discarding} {
		for _, row := range rows.Val() {
			project, _, _ := strings.Cut(row, " ")
			want[project]++
		}
	}
	for _, row := range watching.Val() {
		r, err := readRun(row)
		if err != nil {
			t.Fatal(err)
		}
		want[r.Project]++
	}
	for project, n := range projects.Val() {
		if fmt.Sprint(want[project]) != n {
			t.Errorf("project %s is counted to have %s, and has %d", project, n, want[project])
		}
		delete(want, project)
	}
	for project, n := range want {
		t.Errorf("project %s has %d and is not counted", project, n)
	}

	// Every record is found through its volume.
	for id, row := range records.Val() {
		r, err := readRecord(id, row)
		if err != nil {
			t.Fatal(err)
		}
		of, err := w.l.RecordsOf(w.ctx, r.Project, r.Volume)
		if err != nil || !slices.ContainsFunc(of, func(o backup.Record) bool { return o.ID == id }) {
			t.Errorf("record %s is not found through volume %s: %v", id, r.Volume, err)
		}
	}
	for _, run := range runs.Val() {
		if r, err := readOpenRun(run); err != nil || r.Slot.IsZero() || r.Started.After(minute(1e7)) {
			t.Errorf("open run %+v: %v", r, err)
		}
	}
	_ = time.Time{}
	_ = testing.Short
}
