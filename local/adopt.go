package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"staffeln/functions/backup"
	"staffeln/functions/plan"
	"staffeln/functions/reconcile"
	"staffeln/runtime/ledger"
	"staffeln/runtime/openstack"
)

type adoptCommand struct {
	IDs       []string `arg:"" optional:"" name:"backup" help:"The backups' ids."`
	AllBefore string   `placeholder:"TIME" help:"All unverified backups that Cinder says were made before that time: RFC 3339, or a date (UTC). Name the time at which the ledger was lost, or an earlier one: what a tenant forged before it is adopted as well."`
	Project   string   `placeholder:"PROJECT" help:"Only of this project, by id or name."`
	Yes       bool     `help:"Do it. Without, it is only shown."`
	JSON      bool     `name:"json" help:"Print JSON; docs/operators.md says what is in it."`
}

// Run shows what would be adopted, and with --yes adopts it.
func (c adoptCommand) Run(ctx context.Context) error {
	return c.print(ctx, os.Environ(), time.Now(), os.Stdout)
}

// An adoption is what comes of the command, and the JSON that it prints: fields are
// added in later versions, and none is renamed or taken away.
type adoption struct {
	// Adopted says whether it was done; else this is what would be.
	Adopted bool `json:"adopted"`
	// Before is that of --all-before.
	Before time.Time `json:"before,omitzero"`
	// Backups are those to adopt, by project and age. Refused are the others that were
	// asked for, each with the reason.
	Backups []adoptable `json:"backups"`
	Refused []refusal   `json:"refused"`

	found []backup.CinderBackup // of Backups
	bad   int                   // how many of Refused are not as they should be
}

// adoptable is one backup; what its metadata say is for a person to judge by.
type adoptable struct {
	Backup      string    `json:"backup"`
	Name        string    `json:"name"`
	Project     string    `json:"project"`
	ProjectName string    `json:"project_name"`
	Volume      string    `json:"volume"`
	Status      string    `json:"status"`
	Size        int       `json:"size"`
	Created     time.Time `json:"created"`
	Slot        time.Time `json:"slot,omitzero"`
	Class       string    `json:"class"`
	ServerName  string    `json:"server_name"`
}

type refusal struct {
	Backup string `json:"backup"`
	Why    string `json:"why"`
}

func (c adoptCommand) print(ctx context.Context, environ []string, now time.Time, out io.Writer) error {
	before, err := c.check(now)
	if err != nil {
		return err
	}
	h, err := openLedger(ctx, environ)
	if err != nil {
		return err
	}
	defer h.Close()
	o := h.Settings.CloudOptions(warnings())
	o.Witness, o.Limiter = h.Ledger, ledger.NewLimiter(h.Redis, h.Settings.APIRate)
	cloud, err := openstack.Connect(ctx, o)
	if err != nil {
		return err
	}
	a := adopter{ctx: ctx, cloud: cloud, names: map[string]string{}}
	result := adoption{Before: before, Backups: []adoptable{}, Refused: []refusal{}}
	var unread error
	if len(c.IDs) > 0 {
		err = a.named(&result, c.IDs, c.Project)
	} else {
		unread, err = a.all(&result, before, c.Project)
	}
	if err != nil {
		return err
	}
	if c.Yes && len(result.found) > 0 {
		if err := adopt(ctx, h.Ledger, result.found, now); err != nil {
			return err
		}
		result.Adopted = true
	}
	if c.JSON {
		to := json.NewEncoder(out)
		to.SetIndent("", "  ")
		to.SetEscapeHTML(false)
		err = to.Encode(result)
	} else {
		err = result.table(out)
	}
	if err == nil && result.bad > 0 {
		err = fmt.Errorf("%d of the backups asked for cannot be adopted", result.bad)
	}
	return errors.Join(err, unread)
}

// check reads what was asked for.
func (c adoptCommand) check(now time.Time) (before time.Time, err error) {
	switch {
	case (len(c.IDs) > 0) == (c.AllBefore != ""):
		return before, errors.New("name backups by their ids, or all before a time with --all-before, and not both")
	case c.AllBefore == "":
		return before, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if before, err = time.Parse(layout, c.AllBefore); err == nil {
			break
		}
	}
	switch {
	case err != nil:
		return before, fmt.Errorf("--all-before %.60q is not a time: want RFC 3339 as in 2026-11-23T02:30:00Z, or a date as in 2026-11-23", c.AllBefore)
	case before.After(now):
		return before, fmt.Errorf("--all-before %.60q is still to come, and until then anybody may forge more", c.AllBefore)
	}
	return before.UTC(), nil
}

// adopt writes down that an operator says that these are ours, and has reconcile look
// at once.
func adopt(ctx context.Context, l *ledger.Ledger, found []backup.CinderBackup, now time.Time) error {
	for _, group := range backup.ByProject(found, func(b backup.CinderBackup) string { return b.Project }) {
		var records []backup.Record
		for _, b := range group {
			records = append(records, backup.Adopted(b))
		}
		if err := l.PutRecords(ctx, group[0].Project, records); err != nil {
			return err
		}
		if err := l.LookRetention(ctx, group[0].Project, now); err != nil {
			return err
		}
	}
	return reconcile.AskBackups(ctx, l, now)
}

// adopter finds the backups.
type adopter struct {
	ctx   context.Context
	cloud *openstack.Cloud
	names map[string]string // of projects
}

// know asks for a project's name, and says whether the service is to work for it.
func (a *adopter) know(project string) (included bool, err error) {
	p, included, err := a.cloud.Project(a.ctx, project)
	a.names[project] = p.Name
	if backup.FaultOf(err) == backup.Gone {
		return true, nil // deleted, and its backups are there
	}
	return included, err
}

// is says whether a project has that id or name.
func (a *adopter) is(project, what string) bool {
	if _, asked := a.names[project]; !asked {
		_, _ = a.know(project) // without its name it goes by its id
	}
	return project == what || a.names[project] == what
}

// named looks at backups by their ids.
func (a *adopter) named(to *adoption, ids []string, project string) error {
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		b, err := a.cloud.FindBackup(a.ctx, id)
		included := true
		if err == nil {
			included, err = a.know(b.Project)
		}
		if a.ctx.Err() != nil {
			return a.ctx.Err()
		}
		ok, why := b.Adoptable()
		switch {
		case backup.FaultOf(err) == backup.Gone:
			ok, why = false, "there is none, or the service user has no role in its project"
		case err != nil:
			ok, why = false, err.Error()
		case !included:
			ok, why = false, "its project is excluded"
		case project != "" && !a.is(b.Project, project):
			ok, why = false, "it is of project "+title(b.Project, a.names)
		}
		if ok {
			to.add(b, a.names[b.Project])
			continue
		}
		to.Refused = append(to.Refused, refusal{id, why})
		if err != nil || b.Origin != backup.OriginService {
			to.bad++
		}
	}
	to.sort()
	return nil
}

// all looks at every backup of the cloud, or of one project. unread is what could not
// be looked at.
func (a *adopter) all(to *adoption, before time.Time, project string) (unread, err error) {
	scopes, err := a.cloud.Scopes(a.ctx)
	if err != nil {
		return nil, fmt.Errorf("which projects there are: %w", err)
	}
	matching := map[string]bool{}
	if project != "" && slices.Contains(scopes, project) {
		scopes = []string{project}
	}
	seen := map[string]bool{}
	var errs []error
	for _, scope := range scopes {
		if project != "" && scope != "" && !a.is(scope, project) {
			continue
		}
		found, err := a.cloud.Backups(a.ctx, scope)
		if a.ctx.Err() != nil {
			return nil, a.ctx.Err()
		}
		if err != nil {
			// One project's trouble is not another's.
			errs = append(errs, fmt.Errorf("not looked at: %s: %w", cmp.Or(scope, "the whole cloud"), err))
			continue
		}
		if scope != "" {
			matching[scope] = true
		}
		for _, b := range found {
			if seen[b.ID] || !a.is(b.Project, cmp.Or(project, b.Project)) {
				continue
			}
			seen[b.ID], matching[b.Project] = true, true
			if !b.Foreign() || !b.Created.Before(before) {
				continue
			}
			if ok, why := b.Adoptable(); ok {
				to.add(b, a.names[b.Project])
			} else {
				to.Refused = append(to.Refused, refusal{b.ID, why})
			}
		}
	}
	to.sort()
	switch {
	case project != "" && len(matching) == 0 && len(errs) == 0:
		return nil, fmt.Errorf("project %.100q: there is none, it is excluded, or it has no backups", project)
	case project != "" && len(matching) > 1:
		return nil, fmt.Errorf("several projects are named %.100q: name one by its id: %s", project, strings.Join(slices.Sorted(maps.Keys(matching)), ", "))
	}
	return errors.Join(errs...), nil
}

func (a *adoption) add(b backup.CinderBackup, project string) {
	r := backup.Adopted(b)
	a.found = append(a.found, b)
	a.Backups = append(a.Backups, adoptable{Backup: b.ID, Name: b.Name, Project: b.Project, ProjectName: project, Volume: b.Volume, Status: b.Status,
		Size: b.Size, Created: b.Created.UTC(), Slot: r.Slot, Class: b.Metadata[backup.MetaClass], ServerName: b.Metadata[backup.MetaServerName]})
}

func (a *adoption) sort() {
	slices.SortFunc(a.Backups, func(x, y adoptable) int {
		return cmp.Or(strings.Compare(x.ProjectName, y.ProjectName), strings.Compare(x.Project, y.Project), x.Created.Compare(y.Created), strings.Compare(x.Backup, y.Backup))
	})
	slices.SortFunc(a.Refused, func(x, y refusal) int { return strings.Compare(x.Backup, y.Backup) })
}

// table writes it for a person. Classes are tenants' input here: what a terminal would
// take for a command is replaced.
func (a *adoption) table(out io.Writer) error {
	var s strings.Builder
	last := ""
	for _, b := range a.Backups {
		if b.Project != last {
			fmt.Fprintf(&s, "project %s\n", plan.Printable(title(b.Project, map[string]string{b.Project: b.ProjectName})))
			fmt.Fprintf(&s, "  %-36s  %-16s  %-16s  %-10s  %8s  %s\n", "BACKUP", "MADE", "SLOT", "CLASS", "SIZE", "VOLUME")
		}
		last = b.Project
		slot := "unknown"
		if !b.Slot.IsZero() {
			slot = b.Slot.UTC().Format(backup.Stamp)
		}
		class := []rune(plan.Printable(cmp.Or(b.Class, "unknown")))
		fmt.Fprintf(&s, "  %-36s  %-16s  %-16s  %-10s  %8s  %s\n", b.Backup, b.Created.Format("2006-01-02 15:04"), slot,
			string(class[:min(len(class), 10)]), fmt.Sprintf("%d GiB", b.Size), b.Volume)
	}
	if len(a.Refused) > 0 {
		fmt.Fprintln(&s, "Not adopted:")
	}
	for _, r := range a.Refused {
		fmt.Fprintf(&s, "  %s: %s\n", plan.Printable(fmt.Sprintf("%.60s", r.Backup)), r.Why)
	}
	switch n := len(a.Backups); {
	case n == 0:
		fmt.Fprintln(&s, "There is nothing to adopt.")
	case a.Adopted:
		fmt.Fprintf(&s, "Adopted: %d. They count as the service's own from now on; reconcile reads all backups at once.\n", n)
	default:
		if !a.Before.IsZero() {
			fmt.Fprintf(&s, "What a tenant forged before %s is among them, if anything was: that time must not lie after the loss of the\n"+
				"ledger, which knows all that the service has made since, and should lie before it if you are not sure.\n", when(a.Before))
		}
		fmt.Fprintf(&s, "Nothing is changed: these %d would be adopted. Do it with --yes.\n", n)
	}
	_, err := io.WriteString(out, s.String())
	return err
}
