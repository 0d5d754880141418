package openstack

import (
	"context"
	"fmt"

	"staffeln/functions/backup"
)

// A Witness knows which backups the service made, where Cinder does not show it. The
// ledger is one.
type Witness interface {
	// Evidence is what is known about who made these backups of a project.
	Evidence(ctx context.Context, project string, backups []backup.CinderBackup) (backup.Evidence, error)
}

// makers are the users whose backups are ours.
func (c *Cloud) makers() backup.Makers {
	return append(backup.Makers{c.Self()}, c.opts.Makers...)
}

// judge sets the origin of each backup. The witness is asked only about those that
// carry our metadata and that Cinder does not say we made.
func (c *Cloud) judge(ctx context.Context, all []backup.CinderBackup) error {
	makers := c.makers()
	makers.Judge(all, backup.Evidence{})
	if c.opts.Witness == nil {
		return nil
	}
	doubtful := map[string][]backup.CinderBackup{} // by project
	for _, b := range all {
		if b.Foreign() {
			doubtful[b.Project] = append(doubtful[b.Project], b)
		}
	}
	if len(doubtful) == 0 {
		return nil
	}
	whole := backup.Evidence{Made: map[string]bool{}, Asked: map[string]backup.Run{}}
	for project, backups := range doubtful {
		e, err := c.opts.Witness.Evidence(ctx, project, backups)
		if err != nil {
			return fmt.Errorf("who made the backups of project %s: %w", project, err)
		}
		for id, made := range e.Made {
			whole.Made[id] = made
		}
		for volume, run := range e.Asked {
			whole.Asked[volume] = run
		}
	}
	makers.Judge(all, whole)
	return nil
}
