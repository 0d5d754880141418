package process

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// A Group is what runs side by side in a process. The first part that fails ends all of
// them: a supervisor restarts the process as a whole.
type Group struct {
	// Context ends when the process is to stop.
	Context context.Context

	stop context.CancelCauseFunc
	all  sync.WaitGroup
}

// Go runs one part. It is to return when its context ends.
func (g *Group) Go(name string, run func(context.Context) error) {
	g.all.Go(func() {
		if err := run(g.Context); err != nil && g.Context.Err() == nil {
			g.stop(fmt.Errorf("%s: %w", name, err))
		}
	})
}

// Run serves the front and metrics, lets work start everything else, and returns when ctx
// ends and all parts are drained, or with the error of the first part that failed. HTTP is
// served from the first moment: the policy check needs neither Redis nor OpenStack, and
// Cinder needs the policy check.
func (p *Process) Run(ctx context.Context, work func(*Group) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	g := &Group{Context: ctx, stop: stop}
	g.Go("http", p.serve)
	g.Go("metrics", p.serveMetrics)
	if err := work(g); err != nil && ctx.Err() == nil {
		stop(err)
	}
	<-ctx.Done()
	cause := context.Cause(ctx)
	if errors.Is(cause, context.Canceled) {
		cause = nil
		p.Log.Info("draining", "timeout", p.Settings.DrainTimeout.String())
	} else {
		p.Log.Error("stopping", "why", cause)
	}
	g.all.Wait()
	if cause == nil {
		p.Log.Info("stopped")
	}
	return cause
}
