package backup

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Of F1@3d I1@2d: a full backup three days old and an incremental on it.
func TestWhichKind(t *testing.T) {
	for _, c := range []struct{ name, policy, made, want string }{
		{"nothing to build on", "depth=6", "", "full: no earlier backup"},
		{"the first incremental", "depth=6", "F1@1d", "incremental: incremental 1 of 6 on full F1"},
		{"the last one", "depth=2", "F1@2d I1@1d", "incremental: incremental 2 of 2 on full F1"},
		{"one more than that", "depth=2", "F1@3d I1@2d I2@1d", "full: the chain has 2 of 2 incrementals"},
		{"a chain from when the depth was more", "depth=1", "F1@4d I1@3d I2@2d I3@1d", "full: the chain has 3 of 1 incrementals"},
		{"in whatever order Cinder lists them", "depth=2", "I1@2d F1@3d I2@1d", "full: the chain has 2 of 2 incrementals"},
		{"only the newest chain counts", "depth=2", "F1@9d I1@8d I2@7d F2@2d I3@1d", "incremental: incremental 2 of 2 on full F2"},
		{"depth 0 makes every backup a full one", "depth=0", "F1@1d", "full: every backup is a full one"},

		{"a failed first backup is nothing to build on", "depth=6", "F1@1d:error", "full: no earlier backup"},
		{"nor one that is being made", "depth=6", "F1@1h:creating", "full: no earlier backup"},
		{"nor one that is being deleted", "depth=6", "F1@1d:deleting", "full: no earlier backup"},
		{"nor one that is being restored: Cinder builds on available ones only", "depth=6", "F1@1d:restoring", "full: no earlier backup"},
		{"a failed incremental does not count", "depth=2", "F1@3d I1@2d I2@1d:error", "incremental: incremental 2 of 2 on full F1"},
		{"a driver that made a full one of an incremental begins a chain", "depth=2", "F1@4d I1@3d I2@2d F2@1d", "incremental: incremental 1 of 2 on full F2"},

		{"the newest is a tenant's own", "depth=6", "F1@2d f2@1d", "full: the newest backup f2 is not ours"},
		{"the newest is a tenant's own incremental on our chain", "depth=6", "F1@2d i2@1d", "full: the newest backup i2 is not ours"},
		{"a tenant's own that failed is no matter", "depth=6", "F1@2d f2@1d:error", "incremental: incremental 1 of 6 on full F1"},
		{"a tenant's own that is older is no matter", "depth=6", "f1@3d F2@2d", "incremental: incremental 1 of 6 on full F2"},
		{"of two made in one second Cinder may take either", "depth=6", "F1@1d f2@1d", "full: the newest backup f2 is not ours"},
		{"the other way round", "depth=6", "f2@1d F1@1d", "full: the newest backup f2 is not ours"},
		{"of two made in one second, both ours", "depth=6", "F1@1d F2@1d", "incremental: incremental 1 of 6 on full F1"},
		{"an incremental of ours on a tenant's full", "depth=6", "f1@2d I1@1d", "full: the chain's full backup f1 is not ours"},
		{"an incremental whose full has gone", "depth=6", "I1@1d", "full: the chain has no full backup"},

		{"the volume grew", "depth=6", "F1@1d=8", "full: the volume grew from 8 to 10 GiB"},
		{"the volume grew, and there is an incremental since", "depth=6", "F1@2d=8 I1@1d=10", "incremental: incremental 2 of 6 on full F1"},
		{"another container", "depth=6, container=archive", "F1@1d/backups", "full: the newest backup is in container backups, not archive"},
		{"the same container", "depth=6, container=archive", "F1@1d/archive", "incremental: incremental 1 of 6 on full F1"},
		{"Cinder's default container is not known by name", "depth=6", "F1@1d/volumes_backup", "incremental: incremental 1 of 6 on full F1"},

		{"a chain as old as it may be", "depth=99, chain=30d", "F1@30d I1@1d", "full: the chain is older than 30d"},
		{"a chain an hour younger", "depth=99, chain=30d", "F1@719h I1@1d", "incremental: incremental 2 of 99 on full F1"},
		{"any age", "depth=99", "F1@3000d I1@1d", "incremental: incremental 2 of 99 on full F1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := on("22T12:00")
			backups := made(c.made, time.Time{}, now)
			kind, why := WhichKind(policy(c.policy), Volume{ID: theVolume, Size: 10}, backups, now)
			if got := fmt.Sprintf("%s: %s", kind, why); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestWhichKindLooksAtItsOwnVolumeOnly(t *testing.T) {
	now := on("22T12:00")
	other := made("F1@1d", time.Time{}, now)
	other[0].Volume = "another"
	if kind, why := WhichKind(policy("depth=6"), Volume{ID: theVolume, Size: 10}, other, now); kind != Full {
		t.Errorf("%s: %s", kind, why)
	}
}

// Cinder's choice of a parent, and its refusals, as a model: an incremental is asked
// for only where the parent is ours, of the same size, and the chain is short enough.
func TestWhichKindNeverBuildsOnWhatIsNotOurs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := on("22T12:00")
		var words []string
		for i := range rapid.IntRange(0, 12).Draw(t, "backups") {
			words = append(words, fmt.Sprintf("%s%d@%dh=%d:%s", rapid.SampledFrom([]string{"F", "I", "I", "I", "f", "i"}).Draw(t, "kind"), i,
				rapid.IntRange(1, 8).Draw(t, "ago"), rapid.SampledFrom([]int{10, 10, 10, 8}).Draw(t, "size"),
				rapid.SampledFrom([]string{"available", "available", "available", "error", "creating"}).Draw(t, "status")))
		}
		p := policy(fmt.Sprintf("depth=%d", rapid.IntRange(0, 4).Draw(t, "depth")))
		backups := made(strings.Join(words, " "), time.Time{}, now)
		kind, why := WhichKind(p, Volume{ID: theVolume, Size: 10}, backups, now)
		if why == "" || kind != Full && kind != Incremental {
			t.Fatalf("%q: %q", kind, why)
		}
		usable := slices.DeleteFunc(slices.Clone(backups), func(b CinderBackup) bool { return b.Status != "available" })
		slices.SortStableFunc(usable, func(a, b CinderBackup) int { return b.Created.Compare(a.Created) })
		if kind == Full {
			return
		}
		for _, b := range usable {
			if !b.Created.Before(usable[0].Created) && !b.Ours() {
				t.Fatalf("%s: %s may be the parent", words, b.ID)
			}
		}
		full := slices.IndexFunc(usable, func(b CinderBackup) bool { return !b.Incremental })
		if len(usable) == 0 || usable[0].Size != 10 || full < 0 || full >= p.Depth || !usable[full].Ours() {
			t.Fatalf("%s: %s", words, why)
		}
	})
}

// Facts in words: "in-use", then what there is of the volume's backups, its quota as
// backups/limit gigabytes/limit, its rank/limit/total.
func TestWhatToStart(t *testing.T) {
	slot, now := on("22T02:00"), on("22T03:00")
	const free, full = "0/-1 0/-1", "10/10 100/1000"
	for _, c := range []struct{ name, volume, state, made, quota, rank, want string }{
		{"a first backup", "in-use", "", "", free, "", "go 1 full: no earlier backup"},
		{"an available volume", "available", "", "", free, "", "go 1 full: no earlier backup"},
		{"an incremental", "in-use", "", "F1@1d", free, "", "go 1 incremental: incremental 1 of 6 on full F1"},
		{"a failed backup of an earlier run is none of this run", "in-use", "", "F1@1d##1:error", free, "", "go 1 full: no earlier backup"},
		{"one that is still being made is not, either", "in-use", "", "F1@1d##1:creating", free, "", "go 1 full: no earlier backup"},
		{"one that is complete is what to build on", "in-use", "", "F1@1d##1", free, "", "go 1 incremental: incremental 1 of 6 on full F1"},

		{"left out by its owner", "in-use skip", "", "", free, "", "skip, theirs: volume metadata skip-volume-backup=true"},
		{"left out, even where a backup is under way", "in-use skip", "", "F1@1h#1:creating", free, "", "skip, theirs: volume metadata skip-volume-backup=true"},

		{"asked for already, and under way", "backing-up", "", "F1@1h#1:creating", full, "", "adopt F1 1: backup F1 of this run is there already (creating)"},
		{"asked for already, and done", "in-use", "", "F1@1h#1", full, "9/1/10", "adopt F1 1: backup F1 of this run is there already (available)"},
		{"asked for already, done, and being restored", "in-use", "", "F1@1h#1:restoring", free, "", "adopt F1 1: backup F1 of this run is there already (restoring)"},
		{"asked for already, in a status that nobody knows", "in-use", "", "F1@1h#1:pondering", free, "", "adopt F1 1: backup F1 of this run is there already (pondering)"},
		{"the second attempt asked for already", "backing-up", "retry=22T02:00", "F1@1h#1:error F2@1h#2:creating", free, "", "adopt F2 2, broken F1: backup F2 of this run is there already (creating)"},
		{"the same in another order", "backing-up", "retry=22T02:00", "F2@1h#2:creating F1@1h#1:error", free, "", "adopt F2 2, broken F1: backup F2 of this run is there already (creating)"},
		{"of two, which should not be, the one that is done", "in-use", "", "F1@1h#1:creating F2@1h#2 F3@1h#1:creating", free, "", "adopt F2 2: backup F2 of this run is there already (available)"},
		{"a manual backup is not adopted, whatever it says", "in-use", "", "f1@1h#1:creating", free, "", "go 1 full: no earlier backup"},

		{"the first attempt has failed, as the ledger knows", "in-use", "retry=22T02:00 why=rbd", "", free, "", "go 2 full: second attempt, as full: rbd"},
		{"the first attempt has failed, as the ledger knows and Cinder shows", "in-use", "retry=22T02:00 why=rbd", "F0@1d F1@1h#1:error", free, "", "go 2 full, broken F1: second attempt, as full: rbd"},
		{"the first attempt has failed, as only Cinder shows", "in-use", "", "F0@1d F1@1h#1:error", free, "", "go 2 full, broken F1: second attempt, as full: cinder: no space"},
		{"it failed without a reason", "in-use", "", "F1@1h#1:error-silently", free, "", "go 2 full, broken F1: second attempt, as full: cinder: status error"},
		{"a retry of another slot is none of this one", "in-use", "retry=21T02:00 why=rbd", "F1@1d", free, "", "go 1 incremental: incremental 1 of 6 on full F1"},
		{"both attempts have failed", "in-use", "retry=22T02:00 why=rbd", "F1@1h#1:error F2@1h#2:error", free, "", "fail 2, broken F1 F2: cinder: no space"},
		{"both attempts have failed, as only Cinder shows, in another order", "in-use", "", "F2@1h#2:error F1@1h#1:error", free, "", "fail 2, broken F2 F1: cinder: no space"},
		{"an attempt that nobody can count is the second at most", "in-use", "", "F1@1h#9223372036854775807:error", free, "", "fail 2, broken F1: cinder: no space"},
		{"an attempt that nobody can read is the first", "in-use", "", "F1@1h#x:error", free, "", "go 2 full, broken F1: second attempt, as full: cinder: no space"},
		{"and is adopted", "in-use", "", "F1@1h#x:creating", free, "", "adopt F1 1: backup F1 of this run is there already (creating)"},
		{"no service took it: no attempt", "in-use", "", "F1@1h#1:error-unserved", free, "", "go 1 full, broken F1: no earlier backup"},
		{"no service took the second: the second again", "in-use", "retry=22T02:00 why=rbd", "F1@1h#1:error F2@1h#2:error-unserved", free, "", "go 2 full, broken F1 F2: second attempt, as full: rbd"},
		{"broken ones on their way out are no attempts", "in-use", "", "F1@1h#1:deleting F2@1h#1:error_deleting F3@1h#1:deleted", free, "", "go 1 full: no earlier backup"},
		{"broken ones go even if it has to wait", "attaching", "", "F1@1h#1:error", free, "", "wait, theirs, broken F1: volume is attaching"},

		{"the volume limit is not reached", "in-use", "", "", free, "9/10/12", "go 1 full: no earlier backup"},
		{"the volume limit is exceeded", "in-use", "", "", free, "10/10/12", "fail, theirs: volume limit exceeded: 12 of 10 volumes"},
		{"no volume limit", "in-use", "", "", free, "10/0/12", "go 1 full: no earlier backup"},

		{"a volume in error", "error", "", "", free, "", "wait, theirs: volume is error"},
		{"a volume that is backed up by hand just now", "backing-up", "", "", free, "", "wait, theirs: volume is backing-up"},
		{"a volume in a status that nobody knows", "pondering", "", "", free, "", "wait, theirs: volume is pondering"},
		{"a volume in no status", "", "", "", free, "", "wait, theirs: volume is in no known status"},
		{"over the volume limit and in error", "error", "", "", free, "10/10/12", "fail, theirs: volume limit exceeded: 12 of 10 volumes"},

		{"the last backup of the quota", "in-use", "", "", "9/10 90/1000", "", "go 1 full: no earlier backup"},
		{"no backup left of the quota", "in-use", "", "", "10/10 90/1000", "", "fail, theirs: quota exceeded: 10 of 10 backups"},
		{"the last gigabytes of the quota", "in-use", "", "", "9/10 990/1000", "", "go 1 full: no earlier backup"},
		{"a gigabyte too few", "in-use", "", "", "9/10 991/1000", "", "fail, theirs: quota exceeded: 991 of 1000 GiB of backups, 10 more needed"},
		{"an incremental is charged the whole size", "in-use", "", "F1@1d", "9/10 991/1000", "", "fail, theirs: quota exceeded: 991 of 1000 GiB of backups, 10 more needed"},
		{"a quota of nothing", "in-use", "", "", "0/0 0/0", "", "fail, theirs: quota exceeded: 0 of 0 backups"},
		{"a quota of no gigabytes", "in-use", "", "", "0/10 0/0", "", "fail, theirs: quota exceeded: 0 of 0 GiB of backups, 10 more needed"},
		{"a quota that has been lowered since", "in-use", "", "", "12/10 0/-1", "", "fail, theirs: quota exceeded: 12 of 10 backups"},
		{"no limit of backups, one of gigabytes", "in-use", "", "", "5000/-1 1000/1000", "", "fail, theirs: quota exceeded: 1000 of 1000 GiB of backups, 10 more needed"},
		{"no limits", "in-use", "", "", "5000/-1 50000/-1", "", "go 1 full: no earlier backup"},
		{"what the broken attempt takes up comes back", "in-use", "retry=22T02:00 why=rbd", "F1@1h#1:error", full, "", "wait, broken F1: until the broken backup of this run is removed: quota exceeded: 10 of 10 backups"},
		{"while it is being deleted, too", "in-use", "retry=22T02:00 why=rbd", "F1@1h#1:deleting", full, "", "wait: until the broken backup of this run is removed: quota exceeded: 10 of 10 backups"},
		{"the same of gigabytes", "in-use", "retry=22T02:00 why=rbd", "F1@1h#1:error", "2/10 1000/1000", "", "wait, broken F1: until the broken backup of this run is removed: quota exceeded: 1000 of 1000 GiB of backups, 10 more needed"},
		{"but it was not all of its own gigabytes", "in-use", "retry=22T02:00 why=rbd", "F1@1h=9#1:error", "2/10 1000/1000", "", "fail 2, theirs, broken F1: quota exceeded: 1000 of 1000 GiB of backups, 10 more needed"},
		{"but the quota is exceeded by more", "in-use", "retry=22T02:00 why=rbd", "F1@1h#1:error", "11/10 100/1000", "", "fail 2, theirs, broken F1: quota exceeded: 11 of 10 backups"},
		{"one that cannot be deleted comes back to nobody", "in-use", "retry=22T02:00 why=rbd", "F1@1h#1:error_deleting", full, "", "fail 2, theirs: quota exceeded: 10 of 10 backups"},
		{"an earlier run's broken backup is not waited for", "in-use", "", "F1@1d##1:error", full, "", "fail, theirs: quota exceeded: 10 of 10 backups"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := Facts{Volume: Volume{ID: theVolume, Size: 10, Metadata: map[string]string{}}}
			status, skip := strings.CutSuffix(c.volume, " skip")
			if f.Volume.Status = status; skip {
				f.Volume.Metadata[theKeys.Skip] = "true"
			}
			f.Backups = made(c.made, slot, now)
			for i, b := range f.Backups {
				switch b.Status {
				case "error":
					f.Backups[i].FailReason = "no space"
				case "error-unserved":
					f.Backups[i].Status, f.Backups[i].FailReason = "error", "Service not found for creating backup."
				case "error-silently":
					f.Backups[i].Status = "error"
				}
			}
			if _, err := fmt.Sscanf(c.quota, "%d/%d %d/%d", &f.Quota.Backups.Used, &f.Quota.Backups.Limit, &f.Quota.Gigabytes.Used, &f.Quota.Gigabytes.Limit); err != nil {
				t.Fatal(err)
			}
			if c.rank != "" {
				if _, err := fmt.Sscanf(c.rank, "%d/%d/%d", &f.Rank, &f.Limit, &f.Total); err != nil {
					t.Fatal(err)
				}
			}
			p := policy("every=daily@02:00, depth=6")
			turn := Turn{Now: true, Slot: slot, Ends: p.Schedule.Next(slot)}
			if got := showStart(WhatToStart(p, theKeys, state(c.state), turn, f, now)); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

func showStart(s Start) string {
	words := []string{"go", "adopt", "done", "skip", "wait", "fail"}[s.Do]
	if s.Do == Adopt {
		words += " " + s.Backup.ID
	}
	if s.Do == Go || s.Do == Adopt || s.Do == Fail && s.Attempt > 1 {
		words += fmt.Sprint(" ", s.Attempt)
	}
	if s.Kind != "" {
		words += " " + string(s.Kind)
	}
	if s.Archived != "" {
		words += ", archived " + string(s.Archived)
	}
	if s.Theirs {
		words += ", theirs"
	}
	for i, b := range s.Broken {
		if i == 0 {
			words += ", broken"
		}
		words += " " + b.ID
	}
	return words + ": " + s.Why
}

// archived reads backups as made does, and A1 as a full one that was the first of a
// month in container vault, Y1 of a year, U1 as one with a marker that older releases
// wrote. F1@2d##1 is of the slot before; a slot is that of the day it was made.
func archived(s string, slot, now time.Time) []CinderBackup {
	out := made(s, slot, now)
	for i, b := range out {
		m := b.Metadata
		switch b.ID[0] {
		case 'A':
			out[i].Container, m[MetaAutomated], m[MetaArchived] = "vault", "True", "month"
		case 'Y':
			out[i].Container, m[MetaAutomated], m[MetaArchived] = "vault", "True", "year"
		case 'U':
			m[MetaAutomated], m["__staffeln_unarchived"] = "True", "month"
		}
		if m[MetaRun] == "" && m[MetaAutomated] != "" {
			days := int(now.Sub(b.Created).Hours()+23) / 24
			m[MetaRun], m[MetaAttempt] = RunID(theVolume, slot.AddDate(0, 0, -days)), "1"
		}
		out[i] = judged(out[i])
	}
	return out
}

// It is Sunday, 22 November 2026, 03:00 UTC, unless told. The first slot of each month
// or year goes to container vault.
func TestWhatToArchive(t *testing.T) {
	const month, year, free = "every=daily@02:00, depth=6", "every=daily@02:00, depth=6, class=year", "0/-1 0/-1"
	const vault = "the first of 2026-11, archived in container vault"
	const inc = "go 1 incremental: incremental 1 of 6 on full F1"
	for _, c := range []struct{ name, policy, slot, now, state, made, quota, want string }{
		{"a volume's first backup is the first of its month", month, "", "", "", "", free, "go 1 full, archived month: " + vault},
		{"the month has others: they were first", month, "", "", "", "F1@2d I1@1d", free, "go 1 incremental: incremental 2 of 6 on full F1"},
		{"the month has one that is archived", month, "", "", "", "A1@2d F1@1d", free, inc},
		{"last month's is last month's", month, "", "", "", "A1@52d F1@22d", free, "go 1 full, archived month: " + vault},
		{"after an archived one comes a full one, which no chain hangs on", month, "", "", "", "F1@2d A1@1d", free, "go 1 full: the newest backup A1 is archived"},
		{"the year's own", year, "", "", "", "Y1@40d F1@1d", free, inc},
		{"a year ago is another year", year, "", "", "", "Y1@330d F1@327d", free, "go 1 full, archived year: the first of 2026, archived in container vault"},
		{"without an archive container nothing is", "every=daily@02:00, depth=6, class=none", "", "", "", "F1@22d", free, inc},
		{"nor built on what once was archived", "every=daily@02:00, depth=6, class=none", "", "", "", "A1@1d", free, "go 1 full: the newest backup A1 is archived"},
		{"what lies there without a mark is not built on with Cinder's default container", month, "", "", "", "F0@3d/vault", free, "go 1 full: the newest backup is in container vault, not the usual one"},
		{"what a tenant made is not the month's first", month, "", "", "", "f0@3d/vault F1@22d", free, "go 1 full, archived month: " + vault},

		{"the ledger alone knows that the month has had its first slot", month, "", "", "last=21T02:00 complete=20T02:00", "F1@22d", free, inc},
		{"that its last slot was last month's", month, "", "", "last=2026-10-31T02:00 complete=2026-10-31T02:00", "F1@22d", free, "go 1 full, archived month: " + vault},
		{"a slot that a wrong clock planned for this month last year", month, "", "", "last=2025-11-21T02:00", "F1@22d", free, "go 1 full, archived month: " + vault},

		{"the month's being made", month, "", "", "", "A1@1d:creating", free, "go 1 full: no earlier backup"},
		{"the month's being restored", month, "", "", "", "F1@2d A1@1d:restoring F2@20h", free, "go 1 incremental: incremental 1 of 6 on full F2"},
		{"the month's on its way out was the month's", month, "", "", "", "F1@2d A1@1d:deleting", free, inc},

		{"a month begins by the wall clock of the zone", "every=daily@00:00, zone=Asia/Tokyo, depth=6", "2026-10-31T15:00", "2026-10-31T15:00", "", "A1@30d F1@1d", free,
			"go 1 full, archived month: " + vault},
		{"and ends by it", "every=daily@00:00, zone=America/Los_Angeles, depth=6", "2026-10-31T07:00", "2026-11-01T05:00", "", "A1@30d F1@1d", free, inc},
		{"made late, it is of the month of its slot", month, "2026-10-31T02:00", "2026-11-01T00:30", "", "A1@30d F1@1d", free, inc},
		{"the first slot of a month, made when the month is nearly over", month, "2026-11-01T02:00", "2026-11-29T00:30", "", "A1@58d F1@40d", free, "go 1 full, archived month: " + vault},

		{"the second attempt goes to the usual one", month, "", "", "retry=22T02:00 why=rados", "F1@22d", free, "go 2 full: second attempt, as full: rados"},
		{"as Cinder shows it", month, "", "", "", "F1@22d A1@1h#1:error", free, "go 2 full, broken A1: second attempt, as full: cinder: no space"},
		{"the month's first that failed is not tried again", month, "", "", "", "F1@2d A1@1d:error", free, inc},
		{"in that status, too", month, "", "", "", "F1@2d A1@1d:error_deleting", free, inc},
		{"nor where it is gone and the ledger remembers its slot", month, "", "", "last=01T02:00", "F1@22d", free, inc},
		{"but last month's that failed and cannot be deleted does not hold this month's up", month, "", "", "", "A1@24d:error F1@23d", free, "go 1 full, archived month: " + vault},
		{"nor does the marker that an older release wrote", month, "", "", "", "U1@22d", free, "go 1 full, archived month: " + vault},

		{"the quota leaves room for one", month, "", "", "", "F1@22d", "9/10 90/1000", "go 1 full, archived month: " + vault},
		{"the quota leaves none", month, "", "", "", "F1@22d", "10/10 90/1000", "fail, theirs: quota exceeded: 10 of 10 backups"},

		{"asked for already: it is archived", month, "", "", "", "F1@22d A1@1h#1:creating", free, "adopt A1 1, archived month: backup A1 of this run is there already (creating)"},
		{"asked for already, of a year", month, "", "", "", "F1@22d Y1@1h#1", free, "adopt Y1 1, archived year: backup Y1 of this run is there already (available)"},
		{"asked for already: it is not", month, "", "", "", "F1@22d F2@1h#1", free, "adopt F2 1: backup F2 of this run is there already (available)"},
		{"of two, which should not be, the one that is done counts", month, "", "", "", "A1@1h#1:creating F2@1h#2", free, "adopt F2 2: backup F2 of this run is there already (available)"},
		{"no service took it: no attempt, and archived again", month, "", "", "", "F1@22d A1@1h#1:error-unserved", free,
			"go 1 full, archived month, broken A1: " + vault},
	} {
		t.Run(c.name, func(t *testing.T) {
			slot, now := on(or(c.slot, "22T02:00")), on(or(c.now, "22T03:00"))
			p := policy(c.policy)
			switch p.Class {
			case "year":
				p.Archive = Archive{Container: "vault", Every: Year}
			case "none":
			default:
				p.Archive = Archive{Container: "vault", Every: Month}
			}
			f := Facts{Volume: Volume{ID: theVolume, Size: 10, Status: "in-use", Metadata: map[string]string{}}, Backups: archived(c.made, slot, now)}
			for i, b := range f.Backups {
				switch b.Status {
				case "error":
					f.Backups[i].FailReason = "no space"
				case "error-unserved":
					f.Backups[i].Status, f.Backups[i].FailReason = "error", "Service not found for creating backup."
				}
			}
			if _, err := fmt.Sscanf(c.quota, "%d/%d %d/%d", &f.Quota.Backups.Used, &f.Quota.Backups.Limit, &f.Quota.Gigabytes.Used, &f.Quota.Gigabytes.Limit); err != nil {
				t.Fatal(err)
			}
			turn := Turn{Now: true, Slot: slot, Ends: p.Schedule.Next(slot)}
			if got := showStart(WhatToStart(p, theKeys, state(c.state), turn, f, now)); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

// Whatever there is, an archived backup is a full one of the first attempt, the only
// one of its month, and none is built on.
func TestWhatToArchiveHoldsNoChainHostage(t *testing.T) {
	slot, now := on("22T02:00"), on("22T03:00")
	rapid.Check(t, func(t *rapid.T) {
		var words []string
		for i := range rapid.IntRange(0, 8).Draw(t, "backups") {
			words = append(words, fmt.Sprintf("%s%d@%dh:%s", rapid.SampledFrom([]string{"F", "I", "f", "A", "Y", "U"}).Draw(t, "kind"), i,
				rapid.IntRange(1, 1000).Draw(t, "ago"), rapid.SampledFrom([]string{"available", "available", "available", "creating", "error"}).Draw(t, "status")))
		}
		p := policy("every=daily@02:00, depth=6")
		p.Archive = Archive{Container: "vault", Every: rapid.SampledFrom([]Span{Month, Year}).Draw(t, "every")}
		s := State{}
		if rapid.Bool().Draw(t, "retry") {
			s.Retry = slot
		}
		f := Facts{Volume: Volume{ID: theVolume, Size: 10, Status: "in-use"}, Backups: archived(strings.Join(words, " "), slot, now),
			Quota: Quota{Backups: Usage{Limit: -1}, Gigabytes: Usage{Limit: -1}}}
		start := WhatToStart(p, theKeys, s, Turn{Slot: slot}, f, now)
		if start.Do != Go {
			t.Fatalf("%s: %s", words, showStart(start))
		}
		var newest *CinderBackup
		for i, b := range f.Backups {
			if b.Status == "available" && (newest == nil || b.Created.After(newest.Created)) {
				newest = &f.Backups[i]
			}
			if start.Archived != "" && b.Status != "error" && b.Archived() != "" && p.Archive.Every.Key(b.Created) == p.Archive.Every.Key(now) {
				t.Fatalf("%s: %s, and there is %s", words, showStart(start), b.ID)
			}
		}
		switch {
		case start.Archived != "" && (start.Kind != Full || start.Attempt != 1):
			t.Fatalf("%s: %s", words, showStart(start))
		case start.Kind == Incremental && newest.Archived() != "":
			t.Fatalf("%s: %s on %s", words, showStart(start), newest.ID)
		}
	})
}

func TestQuotaReserved(t *testing.T) {
	q := Quota{Backups: Usage{Limit: 10, Used: 8, Reserved: 1}, Gigabytes: Usage{Limit: 100, Used: 50, Reserved: 40}}
	for _, c := range []struct {
		name string
		q    Quota
		size int
		want string
	}{
		{"what is reserved counts, and there is room", q, 10, ""},
		{"a backup charged takes one more", q.Charge(1), 1, "quota exceeded: 10 of 10 backups"},
		{"what is reserved counts in gigabytes", q, 11, "quota exceeded: 90 of 100 GiB of backups, 11 more needed"},
		{"a backup charged takes its size", Quota{Backups: Usage{Limit: -1}, Gigabytes: q.Gigabytes}.Charge(5), 6, "quota exceeded: 95 of 100 GiB of backups, 6 more needed"},
		{"a backup charged and gone again", q.Charge(7).Refund(7), 10, ""},
		{"no limit is no limit however much is used", Quota{Backups: Usage{Limit: -1, Used: 9}, Gigabytes: Usage{Limit: -1, Used: 9}}, 1 << 40, ""},
		{"a limit of 0 is nothing, even for a volume of no size", Quota{Gigabytes: Usage{Limit: -1}}, 0, "quota exceeded: 0 of 0 backups"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.q.lacks(c.size); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// One slot, at most one backup: whatever of this run Cinder shows that is not broken
// or on its way out is adopted, and nothing is asked for.
func TestWhatToStartNeverAsksTwice(t *testing.T) {
	slot, now := on("22T02:00"), on("22T03:00")
	rapid.Check(t, func(t *rapid.T) {
		var words []string
		for i := range rapid.IntRange(0, 6).Draw(t, "backups") {
			w := fmt.Sprintf("%s%d@%dh", rapid.SampledFrom([]string{"F", "I", "f"}).Draw(t, "kind"), i, rapid.IntRange(0, 48).Draw(t, "ago"))
			if rapid.Bool().Draw(t, "of this run") {
				w += "#" + rapid.SampledFrom([]string{"1", "2", "", "x", "-3"}).Draw(t, "attempt")
			}
			words = append(words, w+":"+rapid.SampledFrom([]string{"available", "creating", "error", "deleting", "restoring", "error_deleting", "new-in-Caracal"}).Draw(t, "status"))
		}
		s := State{}
		if rapid.Bool().Draw(t, "retry") {
			s.Retry = slot
		}
		f := Facts{
			Volume:  Volume{ID: theVolume, Size: 10, Status: rapid.SampledFrom([]string{"in-use", "backing-up"}).Draw(t, "volume")},
			Backups: made(strings.Join(words, " "), slot, now),
			Quota:   Quota{Backups: Usage{Limit: rapid.IntRange(-1, 3).Draw(t, "limit"), Used: 1}, Gigabytes: Usage{Limit: -1}},
		}
		start := WhatToStart(policy("depth=6"), theKeys, s, Turn{Slot: slot}, f, now)
		there, broken := false, 0
		for _, b := range f.Backups {
			if at, _, ok := b.Run(); !ok || !at.Equal(slot) {
				continue
			}
			switch b.Status {
			case "error":
				broken++
			case "deleting", "error_deleting":
			default:
				there = true
			}
		}
		if (start.Do == Adopt) != there || len(start.Broken) != broken || start.Why == "" || start.Attempt < 1 || start.Attempt > 2 {
			t.Fatalf("%s: %s", words, showStart(start))
		}
		if start.Do == Go && (start.Kind == Incremental && start.Attempt == 2 || start.Kind == "") {
			t.Fatalf("%s: %s", words, showStart(start))
		}
	})
}
