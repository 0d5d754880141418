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
	discardScript       = script("discard")
	discardedScript     = script("discarded")
	dropRecordsScript   = script("drop_records")
	dueScript           = script("due")
	enrollScript        = script("enroll", "leave")
	finishLateScript    = script("finish_late", "settle")
	finishScript        = script("finish", "settle", "state")
	forgetProjectScript = script("forget_project")
	keepLeasesScript    = script("keep_leases")
	lookAtScript        = script("look_at")
	lookScript          = script("look")
	missingScript       = script("missing")
	oweStampScript      = script("owe_stamp")
	postponeScript      = script("postpone", "state")
	putRecordsScript    = script("put_records")
	raiseScript         = script("raise")
	reconciledScript    = script("reconciled")
	releaseScript       = script("release")
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

// many runs a script many times in one pipeline. A server that does not know the
// script yet is told once, and asked again for what it refused.
func (l *Ledger) many(ctx context.Context, s *redis.Script, calls []call) error {
	for try := 0; len(calls) > 0; try++ {
		cmds, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, c := range calls {
				s.EvalSha(ctx, p, c.keys, c.args...)
			}
			return nil
		})
		if err == nil {
			return nil
		}
		var again []call
		for i, c := range cmds {
			switch e := c.Err(); {
			case e == nil:
			case redis.HasErrorPrefix(e, "NOSCRIPT") && try == 0:
				again = append(again, calls[i])
			default:
				return e
			}
		}
		if len(again) == 0 {
			return err
		}
		if err := s.Load(ctx, l.rdb).Err(); err != nil {
			return err
		}
		calls = again
	}
	return nil
}
