package ledger

import (
	"context"
	"embed"
	"strings"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/*.lua
var lua embed.FS

// script puts together a script from lua/lib.lua, the further shared parts it
// needs, and its own file. The comments stay behind: Redis would keep them.
func script(name string, shared ...string) *redis.Script {
	var b strings.Builder
	for _, part := range append(append([]string{"lib"}, shared...), name) {
		src, err := lua.ReadFile("lua/" + part + ".lua")
		if err != nil {
			panic(err) // a name misspelt below
		}
		for line := range strings.Lines(string(src)) {
			if !strings.HasPrefix(strings.TrimSpace(line), "--") {
				b.WriteString(line)
			}
		}
		b.WriteByte('\n')
	}
	return redis.NewScript(b.String())
}

var (
	admitScript         = script("admit")
	advanceScript       = script("advance")
	beginScript         = script("begin")
	cutDigestScript     = script("cut_digest", "report")
	discardScript       = script("discard")
	discardedScript     = script("discarded")
	dropRecordsScript   = script("drop_records", "drop")
	dueScript           = script("due")
	enrollScript        = script("enroll", "leave")
	finishLateScript    = script("finish_late", "settle")
	finishScript        = script("finish", "settle", "state")
	forgetProjectScript = script("forget_project", "report")
	keepLeasesScript    = script("keep_leases")
	lookAtScript        = script("look_at")
	lookRetentionScript = script("look_retention")
	lookScript          = script("look")
	missingScript       = script("missing")
	oweStampScript      = script("owe_stamp")
	postponeScript      = script("postpone", "state")
	putRecordsScript    = script("put_records")
	raiseScript         = script("raise")
	reconciledScript    = script("reconciled")
	releaseBrakeScript  = script("release_brake")
	releaseScript       = script("release")
	saveReportScript    = script("save_report", "report")
	saveRetentionScript = script("save_retention", "drop")
	setDueScript        = script("set_due")
	setParentScript     = script("set_parent")
	stampedScript       = script("stamped")
	strainScript        = script("strain")
	unwatchScript       = script("unwatch")
	watchScript         = script("watch")
	withdrawScript      = script("withdraw", "leave")
)

// yes runs a script that answers 1 or 0.
func (l *Ledger) yes(ctx context.Context, s *redis.Script, keys []string, args ...any) (bool, error) {
	n, err := s.Run(ctx, l.rdb, keys, args...).Int64()
	return n != 0, err
}

// A call is one run of a script among many.
type call struct {
	keys []string
	args []any
}

// many runs a script many times in one pipeline, and returns the number each of them
// answered. A server that does not know the script yet is told once, and asked
// again for what it refused.
func (l *Ledger) many(ctx context.Context, s *redis.Script, calls []call) ([]int64, error) {
	answers := make([]int64, len(calls))
	open := make([]int, len(calls)) // which have no answer yet
	for i := range calls {
		open[i] = i
	}
	for try := 0; len(open) > 0; try++ {
		cmds := make([]*redis.Cmd, len(open))
		_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, n := range open {
				cmds[i] = s.EvalSha(ctx, p, calls[n].keys, calls[n].args...)
			}
			return nil
		})
		var again []int
		for i, c := range cmds {
			n, e := c.Int64()
			switch {
			case e == nil:
				answers[open[i]] = n
			case redis.HasErrorPrefix(e, "NOSCRIPT") && try == 0:
				again = append(again, open[i])
			default:
				return nil, e
			}
		}
		if len(again) == 0 {
			return answers, err
		}
		if err := s.Load(ctx, l.rdb).Err(); err != nil {
			return nil, err
		}
		open = again
	}
	return answers, nil
}
