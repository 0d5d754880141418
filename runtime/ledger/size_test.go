package ledger

import (
	"context"
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"staffeln/functions/backup"
	"staffeln/testutil/services"
)

// What the manual promises an operator, in bytes of Redis's memory with all that
// belongs to it.
const (
	perVolume = 1024
	perBackup = 512
)

// shapes are clouds that cost Redis differently: it holds small sets far more
// compactly than those of more than 128 members.
var shapes = []struct {
	name                             string
	volumes, ofProject, backupsOfOne int
}{
	{"projects of 20 volumes, 1 backup each", 1000, 20, 1},
	{"projects of 20 volumes, 3 backups each", 1000, 20, 3},
	{"projects of 20 volumes, 10 backups each", 1000, 20, 10},
	{"projects of 20 volumes, 30 backups each", 500, 20, 30},
	{"projects of 20 volumes, 200 backups each", 200, 20, 200},
	{"projects of 1 volume, 1 backup each", 1000, 1, 1},
	{"2500 projects of 1 volume, 2 backups each", 2500, 1, 2},
	{"one project of 1000 volumes, 1 backup each", 1000, 1000, 1},
	{"one project of 1000 volumes, 10 backups each", 1000, 1000, 10},
}

// TestTheLedgerIsAsSmallAsPromised fills a ledger the dear way: every volume has a
// server of its own, and ids, names and policies are as long as in life. What a
// volume with its first backup adds for both is shared between the two.
func TestTheLedgerIsAsSmallAsPromised(t *testing.T) {
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			volume, record := size(t, services.Redis(t), s.volumes, s.ofProject, s.backupsOfOne)
			all, promised := volume+record*s.backupsOfOne, perVolume+perBackup*s.backupsOfOne
			t.Logf("%d bytes for a volume, %d for a backup: %d of %d promised for both", volume, record, all, promised)
			if volume > perVolume {
				t.Errorf("a volume takes %d bytes, promised are %d", volume, perVolume)
			}
			if all > promised {
				t.Errorf("a volume with its backups takes %d bytes, promised are %d", all, promised)
			}
		})
	}
}

func BenchmarkSize(b *testing.B) {
	for _, s := range shapes {
		b.Run(s.name, func(b *testing.B) {
			var volume, record int
			for b.Loop() {
				volume, record = size(b, services.Redis(b), s.volumes, s.ofProject, s.backupsOfOne)
			}
			b.ReportMetric(float64(volume), "B/volume")
			b.ReportMetric(float64(record), "B/backup")
		})
	}
}

// size is the bytes for a volume with its server, state, due, ranks and run before
// last, and those for a backup with all its indexes, among them the volume's index
// of its backups, and what is remembered of the project's removals.
func size(tb testing.TB, rdb *redis.Client, volumes, ofProject, kept int) (perVolume, perBackup int) {
	tb.Helper()
	ctx := context.Background()
	check := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	l := New(rdb, Options{})
	hex := func() string {
		var b [16]byte
		_, _ = rand.Read(b[:])
		return fmt.Sprintf("%x", b)
	}
	id := func() string { // as long as a UUID
		h := hex()
		return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
	}
	var project string
	type held struct{ project, volume string }
	var all []held
	check(rdb.FlushDB(ctx).Err())
	before := memory(tb, rdb)
	for i := range volumes {
		if i%ofProject == 0 {
			project = hex()
		}
		v := id()
		all = append(all, held{project, v})
		n, err := l.Ticket(ctx, project)
		check(err)
		_, err = l.Enroll(ctx, n, backup.Enrolment{Server: id(), Name: fmt.Sprintf("web-frontend-%04d", i), Project: project,
			Class: "standard", Words: "backup=standard", Volumes: []string{v}},
			[]backup.Protected{{Volume: v, Project: project, Name: fmt.Sprintf("web-frontend-%04d-data", i), Size: 100,
				Backend: "storage-07@ceph-ssd", Created: minute(-i)}}, minute(0))
		check(err)
		_, err = l.Postpone(ctx, project, v, backup.State{LastSlot: minute(i), LastComplete: minute(i), Due: minute(i + 1440)})
		check(err)
	}
	withVolumes := memory(tb, rdb)
	for _, h := range all {
		var records []backup.Record
		parent := ""
		for j := range kept {
			r := backup.Record{ID: id(), Volume: h.volume, Slot: minute(1440 * j), Kind: backup.Incremental, Parent: parent,
				Status: "available", Created: minute(1440*j + 1).Add(123456 * time.Microsecond), Size: 100, Policy: frozenPolicy}
			if parent == "" {
				r.Kind = backup.Full
			}
			parent = r.ID
			records = append(records, r)
		}
		check(l.PutRecords(ctx, h.project, records))
	}
	// Every project has been looked at, and nothing is removed just now.
	for i := 0; i < len(all); i += ofProject {
		r, err := l.Retention(ctx, all[i].project)
		check(err)
		r.Outlook, r.Looked = backup.Outlook{Backups: ofProject * kept, Chains: ofProject * 1000}, minute(1440*kept).Add(123456*time.Microsecond)
		ok, err := l.SaveRetention(ctx, r, nil, minute(1440*kept+1440))
		if check(err); !ok {
			tb.Fatal("not looked at")
		}
	}
	withBackups := memory(tb, rdb)
	check(rdb.FlushDB(ctx).Err())
	return (withVolumes - before) / volumes, (withBackups - withVolumes) / (volumes * kept)
}

// frozenPolicy is as long as a retention time gets; most are as short as
// "2w3d".
const frozenPolicy = "1y11mon3w6d23h59min"

// memory adds up MEMORY USAGE of all keys, every element looked at.
func memory(tb testing.TB, rdb *redis.Client) int {
	tb.Helper()
	ctx := context.Background()
	sum := 0
	it := rdb.Scan(ctx, 0, "*", 1000).Iterator()
	for it.Next(ctx) {
		n, err := rdb.MemoryUsage(ctx, it.Val(), 0).Result()
		if err != nil {
			tb.Fatal(err)
		}
		sum += int(n)
	}
	if err := it.Err(); err != nil {
		tb.Fatal(err)
	}
	return sum
}
