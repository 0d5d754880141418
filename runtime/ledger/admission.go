package ledger

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"staffeln/functions/backup"
)

const (
	// MaxHalvings is how often the limits are halved at most.
	MaxHalvings = 4
	// strainKept is how long after the last sign of strain it is forgotten.
	strainKept = time.Minute
	// leaseKept is how long after its end a lease is cleared away.
	leaseKept = 24 * time.Hour
)

// InFlight counts the runs that hold a lease at that time, and says what holds
// new ones back.
func (l *Ledger) InFlight(ctx context.Context, now time.Time) (backup.InFlight, error) {
	var leases *redis.StringSliceCmd
	var holders *redis.MapStringStringCmd
	var strain, pause *redis.StringCmd
	_, err := l.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		leases = p.ZRangeByScore(ctx, l.keys.leases(), &redis.ZRangeBy{Min: "(" + micros(now), Max: "+inf"})
		holders = p.HGetAll(ctx, l.keys.holders())
		strain, pause = p.Get(ctx, l.keys.strain()), p.Get(ctx, l.keys.pause())
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return backup.InFlight{}, fmt.Errorf("ledger: in flight: %w", err)
	}
	f := backup.InFlight{ByProject: map[string]int{}, ByBackend: map[string]int{}}
	for _, run := range leases.Val() {
		project, backend, _ := strings.Cut(holders.Val()[run], " ")
		f.Total++
		f.ByProject[project]++
		if name, err := readWord(backend); err == nil && name != "" {
			f.ByBackend[name]++
		}
	}
	if n, last, ok := readPair(strain.Val()); ok && now.Sub(last).Abs() < strainKept {
		halvings, _ := strconv.Atoi(n)
		f.Halvings = min(max(halvings, 0), MaxHalvings)
	}
	if until, why, ok := readPause(pause.Val()); ok && until.After(now) {
		f.Paused, f.PausedWhy = until, why
	}
	return f, nil
}

// readPair reads "WORD TIME".
func readPair(s string) (word string, at time.Time, ok bool) {
	word, rest, _ := strings.Cut(s, " ")
	at, err := readMicros(rest)
	return word, at, err == nil
}

// readPause reads "UNTIL WHY".
func readPause(s string) (until time.Time, why string, ok bool) {
	first, why, _ := strings.Cut(s, " ")
	until, err := readMicros(first)
	return until, why, err == nil
}

// Admit gives a run a lease until then, if there is room in the whole cloud, in
// its project and on its volume's backend, counted at now, and nothing is paused.
// Otherwise why says which limit is reached: "project limit: 3 of 3 running". A
// run that holds a lease renews it, whatever the limits are by now. The limits
// count as given: it is for the caller to halve them.
func (l *Ledger) Admit(ctx context.Context, run backup.Run, lim backup.Limits, now, until time.Time) (ok bool, why string, err error) {
	if err := badRun(run); err != nil {
		return false, "", fmt.Errorf("ledger: admit: %w", err)
	}
	why, err = admitScript.Run(ctx, l.rdb, []string{l.keys.leases(), l.keys.holders(), l.keys.pause()},
		run.ID(), run.Project, word(run.Backend), micros(now), micros(until), micros(now.Add(-leaseKept)),
		lim.Cloud, lim.Project, lim.Backend).Text()
	if err != nil {
		return false, "", fmt.Errorf("ledger: admit %s: %w", run.ID(), err)
	}
	if rest, paused := strings.CutPrefix(why, "paused "); paused {
		until, reason, _ := readPause(rest)
		why = fmt.Sprintf("paused until %s: %s", until.Format(time.RFC3339), reason)
	}
	return why == "", why, nil
}

// Release ends a run's lease; without one it does nothing.
func (l *Ledger) Release(ctx context.Context, run backup.Run) error {
	if err := releaseScript.Run(ctx, l.rdb, []string{l.keys.leases(), l.keys.holders()}, run.ID()).Err(); err != nil {
		return fmt.Errorf("ledger: release %s: %w", run.ID(), err)
	}
	return nil
}

// Strain notes that Cinder is overloaded: the limits are halved once more, at most
// [MaxHalvings] times. After a minute without it all is forgotten.
func (l *Ledger) Strain(ctx context.Context, now time.Time) error {
	err := strainScript.Run(ctx, l.rdb, []string{l.keys.strain()}, micros(now), strainKept.Microseconds(), MaxHalvings).Err()
	if err != nil {
		return fmt.Errorf("ledger: strain: %w", err)
	}
	return nil
}

// Pause keeps everything from starting until then.
func (l *Ledger) Pause(ctx context.Context, until time.Time, why string) error {
	if err := l.rdb.Set(ctx, l.keys.pause(), micros(until)+" "+why, 0).Err(); err != nil {
		return fmt.Errorf("ledger: pause: %w", err)
	}
	return nil
}

// Resume ends a pause.
func (l *Ledger) Resume(ctx context.Context) error {
	if err := l.rdb.Del(ctx, l.keys.pause()).Err(); err != nil {
		return fmt.Errorf("ledger: resume: %w", err)
	}
	return nil
}

// KeepLeases makes these runs the ones that hold a lease, each until its deadline,
// and no others.
func (l *Ledger) KeepLeases(ctx context.Context, runs []backup.Run) error {
	var args []any
	for _, r := range runs {
		if err := badRun(r); err != nil {
			return fmt.Errorf("ledger: keep leases: %w", err)
		}
		args = append(args, r.ID(), micros(r.Deadline), r.Project+" "+word(r.Backend))
	}
	if err := keepLeasesScript.Run(ctx, l.rdb, []string{l.keys.leases(), l.keys.holders()}, args...).Err(); err != nil {
		return fmt.Errorf("ledger: keep leases: %w", err)
	}
	return nil
}
