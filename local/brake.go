package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"staffeln/functions/backup"
	"staffeln/functions/keep"
	"staffeln/runtime/openstack"
	"staffeln/runtime/process"
)

type brakeCommand struct {
	List    brakeList    `cmd:"" default:"1" help:"List what retention holds back, and why."`
	Release brakeRelease `cmd:"" help:"Lift the brake of a project, or of the whole cloud, for 24 hours and as many removals as are announced."`
}

// released is how long a release of the brake is good for.
const released = 24 * time.Hour

// patience is how long the brake's commands wait for Redis, and for OpenStack to
// tell names.
const patience = 5 * time.Second

type brakeList struct{}

// Run lists what retention holds back.
func (c brakeList) Run(ctx context.Context) error {
	return c.print(ctx, os.Environ(), time.Now(), os.Stdout)
}

func (brakeList) print(ctx context.Context, environ []string, now time.Time, out io.Writer) error {
	b, err := openBrake(ctx, environ)
	if err != nil {
		return err
	}
	defer b.Close()
	held, err := b.Ledger.Held(ctx)
	if err != nil {
		return err
	}
	outlook, err := b.Ledger.Outlook(ctx)
	if err != nil {
		return err
	}
	until, most, err := b.Ledger.CloudRelease(ctx)
	if err != nil {
		return err
	}
	if why := b.cloudHolds(outlook, held, now); why != "" {
		fmt.Fprintf(out, "cloud: %s\n  %s\n", why, amount(outlook))
		if now.Before(until) {
			fmt.Fprintf(out, "  released until %s for at most %d removals\n", when(until), most)
		} else {
			fmt.Fprintln(out, "  to let them go: staffeln brake release cloud")
		}
	} else if len(held) == 0 {
		fmt.Fprintln(out, "Nothing is held back.")
		return nil
	}
	names := b.names(ctx, held)
	for _, r := range held {
		fmt.Fprintf(out, "project %s: %s\n  %s", title(r.Project, names), r.Held, amount(r.Outlook))
		if !r.Looked.IsZero() {
			fmt.Fprintf(out, ", as of %s", when(r.Looked))
		}
		fmt.Fprintln(out)
		switch why, _ := b.project(r).Ask(r.Held, now); {
		case now.Before(r.Released):
			fmt.Fprintf(out, "  released until %s for at most %d removals\n", when(r.Released), r.Most)
		case why != "":
			fmt.Fprintf(out, "  to let them go: staffeln brake release %s\n", r.Project)
		}
	}
	return nil
}

type brakeRelease struct {
	What string `arg:"" name:"project" help:"The project's id or name, or the word cloud."`
}

// Run lifts a brake.
func (c brakeRelease) Run(ctx context.Context) error {
	return c.print(ctx, os.Environ(), time.Now(), os.Stdout)
}

func (c brakeRelease) print(ctx context.Context, environ []string, now time.Time, out io.Writer) error {
	b, err := openBrake(ctx, environ)
	if err != nil {
		return err
	}
	defer b.Close()
	if c.What == "cloud" {
		return b.releaseCloud(ctx, now, out)
	}
	return b.releaseProject(ctx, c.What, now, out)
}

// A brakes is what the commands work on.
type brakes struct{ *process.Process }

func openBrake(ctx context.Context, environ []string) (*brakes, error) {
	h, err := openLedger(ctx, environ)
	if err != nil {
		return nil, err
	}
	return &brakes{h}, nil
}

// openLedger connects to the service's ledger, and to nothing else.
func openLedger(ctx context.Context, environ []string) (*process.Process, error) {
	s, err := settings(environ)
	if err != nil {
		return nil, err
	}
	if s.RedisURL == "" {
		return nil, errNoLedger
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	quietRedis()
	return process.Opened(ctx, s, warnings())
}

// project is the brake of a project, and cloud that of the whole cloud.
func (b *brakes) project(r backup.Retention) keep.Braking {
	return keep.OfProject(b.Settings.Rules().Brake, r, r.Outlook)
}

func (b *brakes) cloud(o backup.Outlook) keep.Braking {
	return keep.OfCloud(b.Settings.Rules().Brake, o, time.Time{}, 0)
}

// cloudHolds says why the brake of the cloud holds back the removals of some project; "" if it
// does not.
func (b *brakes) cloudHolds(o backup.Outlook, held []backup.Retention, now time.Time) string {
	why := b.cloud(o).Trips()
	for _, r := range held {
		if why == "" {
			why, _ = b.cloud(o).Ask(r.Held, now)
		}
	}
	return why
}

func (b *brakes) releaseCloud(ctx context.Context, now time.Time, out io.Writer) error {
	outlook, err := b.Ledger.Outlook(ctx)
	if err != nil {
		return err
	}
	held, err := b.Ledger.Held(ctx)
	if err != nil {
		return err
	}
	why := b.cloudHolds(outlook, held, now)
	if why == "" {
		return fmt.Errorf("the brake of the cloud holds nothing back: %s", amount(outlook))
	}
	until := now.Add(released)
	if err := b.Ledger.ReleaseCloud(ctx, until, outlook.Removals); err != nil {
		return err
	}
	var errs []error
	for _, r := range held {
		errs = append(errs, b.Ledger.LookRetention(ctx, r.Project, now))
	}
	fmt.Fprintf(out, "The brake of the cloud is released until %s, for at most %d removals. It held, since: %s.\n"+
		"Retention looks again now. Brakes of single projects hold on (staffeln brake).\n", when(until), outlook.Removals, why)
	return errors.Join(errs...)
}

func (b *brakes) releaseProject(ctx context.Context, what string, now time.Time, out io.Writer) error {
	held, err := b.Ledger.Held(ctx)
	if err != nil {
		return err
	}
	r, name, err := b.find(ctx, what, held)
	if err != nil {
		return err
	}
	why, _ := b.project(r).Ask(r.Held, now)
	if why == "" {
		return fmt.Errorf("the brake of project %s holds nothing back (%s); its removals wait for another reason: %s", name, amount(r.Outlook), r.Held)
	}
	until := now.Add(released)
	if err := b.Ledger.ReleaseBrake(ctx, r.Project, until, r.Outlook.Removals); err != nil {
		return err
	}
	fmt.Fprintf(out, "The brake of project %s is released until %s, for at most %d removals. It held, since: %s.\nRetention looks again now.\n",
		name, when(until), r.Outlook.Removals, why)
	outlook, err := b.Ledger.Outlook(ctx)
	if err != nil {
		return err
	}
	if why := b.cloudHolds(outlook, held, now); why != "" {
		fmt.Fprintf(out, "The brake of the cloud holds, too (%s): staffeln brake release cloud\n", why)
	}
	return b.Ledger.LookRetention(ctx, r.Project, now)
}

// find is the held project of that id or name.
func (b *brakes) find(ctx context.Context, what string, held []backup.Retention) (backup.Retention, string, error) {
	for _, r := range held {
		if r.Project == what {
			return r, title(what, b.names(ctx, held)), nil
		}
	}
	var found []backup.Retention
	names := b.names(ctx, held)
	for _, r := range held {
		if names[r.Project] == what {
			found = append(found, r)
		}
	}
	switch len(found) {
	case 0:
		return backup.Retention{}, "", fmt.Errorf("nothing of a project %.100q is held back (staffeln brake lists what is)", what)
	case 1:
		return found[0], title(found[0].Project, names), nil
	}
	return backup.Retention{}, "", fmt.Errorf("several projects are named %.100q: name one by its id (staffeln brake lists them)", what)
}

// names asks OpenStack for the projects' names, as far as it answers.
func (b *brakes) names(ctx context.Context, held []backup.Retention) map[string]string {
	out := map[string]string{}
	if len(held) == 0 {
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cloud, err := openstack.Connect(ctx, b.Settings.CloudOptions(warnings()))
	if err != nil {
		warnings().WarnContext(ctx, "projects are named by their ids", "err", err)
		return out
	}
	for _, r := range held {
		if p, _, err := cloud.Project(ctx, r.Project); err == nil {
			out[r.Project] = p.Name
		}
	}
	return out
}

func title(id string, names map[string]string) string {
	if name := names[id]; name != "" {
		return fmt.Sprintf("%q (%s)", name, id)
	}
	return cmp.Or(id, "?")
}

func amount(o backup.Outlook) string {
	return fmt.Sprintf("%d of %d restore points are to be removed, %.1f of %.1f chains",
		o.Removals, o.Backups, float64(o.Losses)/1000, float64(o.Chains)/1000)
}

func when(t time.Time) string { return t.UTC().Format(time.RFC3339) }
