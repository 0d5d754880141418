package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
)

// A makersCloud says whether Cinder shows who made a backup. See openstack.Cloud.
type makersCloud interface {
	ShowsMakers(ctx context.Context) (shown, known bool, err error)
	TellsMakers() bool
	Self() string
}

// makersHidden is for the operator of a Cinder that does not show who made a backup: what
// that means, and the line of Cinder's policy that changes it, "" where none can.
func makersHidden(c makersCloud) (why, line string) {
	why = "the service cannot tell its own backups from those of a tenant who has copied their metadata"
	if !c.TellsMakers() {
		return why + ": this Cinder tells nobody, which takes microversion 3.56 (Stein)", ""
	}
	return why, fmt.Sprintf(`"backup:backup_project_attribute": "rule:admin_api or user_id:%s"`, c.Self())
}

// printMakers is for `staffeln check`. It is nothing that the service could not run with.
func printMakers(ctx context.Context, c makersCloud, out io.Writer) error {
	shown, known, err := c.ShowsMakers(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("whether Cinder shows who made a backup: %w", err)
	case !known:
		fmt.Fprintln(out, "not known yet whether Cinder shows who made a backup: no backup was found to see it by")
	case shown:
		fmt.Fprintln(out, "Cinder shows who made a backup")
	default:
		why, line := makersHidden(c)
		fmt.Fprintf(out, "warning: Cinder does not show who made a backup, and so %s\n", why)
		if line != "" {
			fmt.Fprintf(out, "Cinder's policy file needs this line (infra/cinder/README.md):\n    %s\n", line)
		}
	}
	return nil
}

// warnOfMakers is for the start of `staffeln run`: one line where there is something to be
// done, none else.
func warnOfMakers(ctx context.Context, c makersCloud, log *slog.Logger) {
	shown, known, err := c.ShowsMakers(ctx)
	switch {
	case err != nil:
		log.DebugContext(ctx, "not known whether Cinder shows who made a backup", "err", err)
	case known && !shown:
		why, line := makersHidden(c)
		if line == "" {
			log.WarnContext(ctx, "Cinder does not show who made a backup", "why", why)
			return
		}
		log.WarnContext(ctx, "Cinder does not show who made a backup", "why", why, "cinder_policy", line)
	}
}
