package openstack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"staffeln/functions/backup"
)

// What one [Cloud.FindBackup] may cost with least rights: so many projects are
// asked, and so many of them at a time.
const (
	maxFind  = 100
	findOnce = 4
)

// FindBackup shows a backup whose project is not known, as far as the rights
// reach: an admin's own session sees all of them. With least rights the projects
// are asked one by one, those with a token at hand first and 100 at most; gone
// means that every project in which the service user has a role said so.
func (c *Cloud) FindBackup(ctx context.Context, id string) (backup.CinderBackup, error) {
	b, err := c.findBackup(ctx, id)
	if err != nil {
		return backup.CinderBackup{}, err
	}
	one := []backup.CinderBackup{b}
	err = c.judge(ctx, one)
	return one[0], err
}

func (c *Cloud) findBackup(ctx context.Context, id string) (backup.CinderBackup, error) {
	a := ask{op: opShowBackup, api: cinderAPI, method: http.MethodGet, path: "backups/" + id, thing: true}
	if err := a.check(id); err != nil {
		return backup.CinderBackup{}, err
	}
	if c.allTenants {
		// To whoever is no admin any more Cinder says of others' that there is none.
		a.admin = true
		return c.readBackup(ctx, ownScope, "", a, id)
	}
	var ids []string
	for age := projectsFor; ; age = projectsNew {
		mine, err := c.myProjectsSince(ctx, age)
		if err != nil {
			return backup.CinderBackup{}, err
		}
		ids = ids[:0]
		for _, p := range mine {
			ids = append(ids, p.ID)
		}
		ids = c.sessions.openFirst(ids, c.scopeOf)
		found, failed := c.askAll(ctx, ids[:min(len(ids), maxFind)], a, id)
		e, refused := errors.AsType[*backup.CloudError](failed)
		switch {
		case found != nil:
			return *found, nil
		case refused && e.Status == http.StatusUnauthorized && age == projectsFor:
			continue // a project deleted since they were listed
		case failed != nil:
			return backup.CinderBackup{}, failed
		}
		break
	}
	switch {
	case ctx.Err() != nil:
		return backup.CinderBackup{}, &backup.CloudError{Fault: backup.Retry, Op: a.op, Message: "given up: " + clean(ctx.Err().Error())}
	case len(ids) > maxFind:
		return backup.CinderBackup{}, &backup.CloudError{Fault: backup.Retry, Op: a.op,
			Message: fmt.Sprintf("in none of %d projects, and %d more were not asked", maxFind, len(ids)-maxFind)}
	}
	return backup.CinderBackup{}, &backup.CloudError{Fault: backup.Gone, Op: a.op, Status: http.StatusNotFound,
		Message: fmt.Sprintf("in none of %d projects", len(ids))}
}

// askAll asks projects for a backup until one has it. failed is an answer other
// than that there is none.
func (c *Cloud) askAll(ctx context.Context, projects []string, a ask, id string) (found *backup.CinderBackup, failed error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	next := make(chan string)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range min(findOnce, len(projects)) {
		wg.Go(func() {
			for p := range next {
				b, err := c.readBackup(ctx, c.scopeOf(p), p, a, id)
				mu.Lock()
				switch {
				case err == nil:
					found = &b
					stop()
				case failed == nil && backup.FaultOf(err) != backup.Gone:
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	for _, p := range projects {
		if ctx.Err() != nil {
			break
		}
		next <- p
	}
	close(next)
	wg.Wait()
	return found, failed
}

// openFirst orders projects: those with a session that is good come first, the
// last used first; the others stay as they are.
func (s *sessions) openFirst(projects []string, scopeOf func(string) string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	rank := make(map[string]int, s.used.Len())
	for el := s.used.Front(); el != nil; el = el.Next() {
		if e := el.Value.(*entry); e.session != nil {
			rank[e.scope] = s.used.Len() - len(rank)
		}
	}
	ordered := slices.Clone(projects)
	slices.SortStableFunc(ordered, func(a, b string) int { return rank[scopeOf(b)] - rank[scopeOf(a)] })
	return ordered
}
