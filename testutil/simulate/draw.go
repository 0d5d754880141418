package simulate

import (
	"fmt"
	"math/rand/v2"
	"time"
)

const day = 24 * time.Hour

// An era is a measure of time for histories: what is an hour in one is a week in
// another.
type era struct {
	period, pace time.Duration
	settings     []string
	retentions   []string
	// acts are how many there are at most, and longest how many periods pass between
	// two.
	acts, longest int
}

var eras = []era{
	{2 * time.Hour, 10 * time.Minute, []string{"STAFFELN_BACKUP_PERIOD=2h", "STAFFELN_REPORT_PERIOD=8h",
		"STAFFELN_BACKUPS_PERIOD=2h"},
		[]string{"1h", "5h", "12h", "30d"}, 16, 3},
	{day, 2 * time.Hour, []string{"STAFFELN_BACKUP_PERIOD=daily@02:00", "STAFFELN_REPORT_PERIOD=daily@06:00",
		"STAFFELN_TIME_ZONE=Europe/Zurich"},
		[]string{"2d", "5d", "2w", "1mon"}, 16, 4},
	{7 * day, 12 * time.Hour, []string{"STAFFELN_BACKUP_PERIOD=7d", "STAFFELN_REPORT_PERIOD=7d",
		"STAFFELN_TIME_ZONE=America/New_York"},
		[]string{"2w", "2mon", "1y"}, 12, 8},
}

// starts are moments at which something in the calendar is near.
var starts = []time.Time{
	time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC),
	time.Date(2027, 3, 27, 20, 0, 0, 0, time.UTC), // the hour that is missing in Zurich
	time.Date(2026, 10, 31, 20, 0, 0, 0, time.UTC),
	time.Date(2028, 2, 28, 12, 0, 0, 0, time.UTC), // a leap day
	time.Date(2026, 12, 31, 18, 0, 0, 0, time.UTC),
}

// Draw makes the history of a number, always the same one.
func Draw(seed uint64) History {
	r := rand.New(rand.NewPCG(seed, 20261122))
	e := eras[pick(r, 6, 3, 1)]
	user, makers := "backup-svc", ""
	switch r.IntN(4) {
	case 0, 1:
		user = "backup-min"
	case 2:
		user, makers = "backup-min", "shown"
	}
	h := History{
		Start: of(r, starts...), User: user, Makers: makers, Servers: of(r, 2, 2, 3, 5), Pace: e.pace, Period: e.period,
		Backup:   of(r, 3*time.Minute, 3*time.Minute, 20*time.Minute, 40*time.Minute),
		Deletion: of(r, 0, 40*time.Second, 7*time.Minute),
		Settings: append([]string{
			"STAFFELN_SHARDS=" + of(r, "1", "1", "2"),
			"STAFFELN_RECONCILE_PERIOD=" + of(r, "10m", fmt.Sprint(min(3*e.pace, day)), fmt.Sprint(min(3*e.pace, day))),
			"STAFFELN_RETENTION_TIME=" + of(r, e.retentions...),
			"STAFFELN_CLASS_GOLD_RETENTION_TIME=" + of(r, e.retentions...),
			"STAFFELN_FULL_BACKUP_DEPTH=" + of(r, "0", "1", "2", "6"),
			"STAFFELN_ARCHIVE_RULES=" + of(r, "none", "none", "none", "none", "none", "none", "last=2 hourly=4",
				"daily=3 weekly=2"),
			"STAFFELN_ORPHAN_RETENTION=" + of(r, "0", "3h", "2d"),
			"STAFFELN_BRAKE_PERCENT=" + of(r, "30", "50", "100"),
		}, e.settings...),
	}
	if r.IntN(3) == 0 {
		h.Acts = append(h.Acts, Act{Do: "hostile", What: "on", Which: r.IntN(64), N: 1 + r.IntN(8)})
	}
	for range 5 + r.IntN(e.acts-4) {
		h.Acts = append(h.Acts, drawAct(r, e))
	}
	return h
}

// drawAct draws one act; those of tenants are as likely as faults.
func drawAct(r *rand.Rand, e era) Act {
	which := r.IntN(64)
	some := func(most int) time.Duration { return time.Duration(1+r.IntN(most)) * e.pace }
	switch pick(r, 20, 25, 10, 45, 20) {
	case 0:
		return Act{Do: "pass", For: some(e.longest * int(e.period/e.pace))}
	case 1:
		return of(r,
			Act{Do: "wish", What: of(r, "yes", "yes", "yes", "gold", "no", "nothing", "maybe"), Which: which},
			Act{Do: "wish", What: of(r, "yes", "gold", "nothing"), Which: which},
			Act{Do: "tag", What: of(r, "backup", "backup:gold", "other"), Which: which},
			Act{Do: "skip", What: of(r, "true", "nothing"), Which: which},
			Act{Do: "attach", Which: which, N: r.IntN(64)},
			Act{Do: "attach", What: "new", Which: which},
			Act{Do: "detach", Which: which},
			Act{Do: "extend", Which: which},
			Act{Do: "server", What: of(r, "yes", "gold", "nothing"), Which: which, N: r.IntN(3)},
			Act{Do: "delete", What: of(r, "server", "volume", "both"), Which: which},
			Act{Do: "transfer", Which: which},
			Act{Do: "manual", What: of(r, "full", "incremental"), Which: which},
			Act{Do: "manual", What: "removed", Which: which},
			Act{Do: "attack", What: of(r, "delete", "strip", "rename", "reset", "force"), Which: which},
			Act{Do: "attack", What: of(r, "delete", "strip"), Which: which},
			Act{Do: "quota", What: of(r, "none", "used", "few", "unlimited"), Which: which},
			Act{Do: "lock", What: of(r, "on", "off"), Which: which},
			Act{Do: "hold", What: of(r, "yes", "no"), Which: which})
	case 2:
		return of(r,
			Act{Do: "reconfigure", What: "STAFFELN_RETENTION_TIME=" + of(r, e.retentions...)},
			Act{Do: "reconfigure", What: "STAFFELN_FULL_BACKUP_DEPTH=" + of(r, "0", "1", "3")},
			Act{Do: "project", What: "disabled", Which: which, For: some(12)},
			Act{Do: "project", What: "role", Which: which, For: some(12)},
			Act{Do: "drift", Which: which},
			Act{Do: "stuck", Which: which})
	case 4:
		return of(r,
			Act{Do: "forge", What: of(r, forgeries...), Which: which, N: r.IntN(2)},
			Act{Do: "forge", What: of(r, forgeries...), Which: which, N: r.IntN(2)},
			Act{Do: "forge", What: of(r, "changed", "removed", "answer"), Which: which},
			Act{Do: "hostile", What: of(r, "on", "on", "on", "off"), Which: which, N: 1 + r.IntN(6)},
			Act{Do: "adopt", Which: which})
	}
	every := 1 + r.IntN(4)
	for_ := some(6)
	switch pick(r, 11, 4, 3, 5, 3, 3, 3, 2, 2, 3, 6, 6) {
	case 0:
		return Act{Do: "fault", What: of(r, requestFaults...), Which: r.IntN(3), N: every, For: for_}
	case 1:
		return Act{Do: "notifications", What: of(r, "lost", "doubled", "delayed", "reordered"), N: 1 + r.IntN(3), For: for_}
	case 2:
		return Act{Do: "kill", What: of(r, "", "deaf"), N: r.IntN(60)}
	case 3:
		return Act{Do: "stall", What: of(r, "dispatch", "track", "retention", "report", "reconcile"), Which: which,
			N: of(r, r.IntN(5), r.IntN(20)), For: some(6)}
	case 4:
		return Act{Do: "redis", What: of(r, "refused", "slow", "twice"), N: every, For: for_}
	case 5:
		return Act{Do: "redis", What: of(r, "emptied", "older")}
	case 6:
		return of(r, Act{Do: "cinder-backup", What: "restarted"},
			Act{Do: "cinder-backup", What: "down", For: some(2 * int(e.period/e.pace))})
	case 7:
		return Act{Do: "fail", Which: which, N: 1 + r.IntN(2)}
	case 8:
		return Act{Do: "clock", What: of(r, fmt.Sprint(365*day), fmt.Sprint(-365*day), "4m", "-1h", "1h",
			fmt.Sprint(e.period)), For: some(4)}
	case 9:
		return of(r, Act{Do: "tokens"}, Act{Do: "garbage", Which: which, N: 1 + r.IntN(5)})
	case 10:
		return Act{Do: "fault", What: "unseen", N: 1 + r.IntN(2), For: for_}
	}
	return Act{Do: "mail", What: of(r, "unreachable", "unanswered", "refused"), N: 1 + r.IntN(3),
		For: some(2 * int(e.period/e.pace))}
}

// of is one of some.
func of[T any](r *rand.Rand, some ...T) T { return some[r.IntN(len(some))] }

// pick is one of the numbers from 0, by weight.
func pick(r *rand.Rand, weights ...int) int {
	all := 0
	for _, w := range weights {
		all += w
	}
	n := r.IntN(all)
	for i, w := range weights {
		if n -= w; n < 0 {
			return i
		}
	}
	return len(weights) - 1
}
