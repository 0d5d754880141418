// Package policy answers Cinder's policy check (oslo.policy's http: rule): whether
// a backup may be deleted or changed by whoever asks Cinder for it.
//
// Set off by: HTTP.
package policy

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"staffeln/functions/backup"
)

// Ledger is what policy needs of our own memory.
type Ledger interface {
	// Find is what is remembered of an automated backup.
	Find(ctx context.Context, backupID string) (backup.Record, bool, error)
}

// Cloud is what policy needs of OpenStack.
type Cloud interface {
	// FindBackup shows a backup of any project, as far as the rights reach.
	FindBackup(ctx context.Context, id string) (backup.CinderBackup, error)
	// Self is the id of the service's own user, "" where it is not known yet.
	Self() string
	// BackupsOf with no since is the complete list of a volume's backups in a project.
	BackupsOf(ctx context.Context, project, volume string, since time.Time) ([]backup.CinderBackup, error)
}

// Limiter bounds the look-ups of all processes together. An error lets through.
type Limiter interface {
	Allow(ctx context.Context, what string, perSecond int) (bool, error)
}

// Settings are the operator's.
type Settings struct {
	// Roles may delete and change automated backups: "admin", "service".
	Roles []string
	// Users are ids of users that may, too, and whose backups are automated: the
	// service's own where Keystone cannot be asked for it.
	Users []string
	// Rate is how many look-ups a second there may be at most.
	Rate int
	// Token is the operator's, for the "why"; "" for no such thing.
	Token string
}

// Function is policy, ready to serve.
type Function struct {
	// Ledger and Cloud return nil as long as there is none to ask: the check answers
	// without them.
	Ledger   func() Ledger
	Cloud    func() Cloud
	Limiter  func() Limiter
	Settings Settings
	Log      *slog.Logger
	Count    func(name string, n float64, labels ...string)
	Now      func() time.Time
}

// Handler serves POST /v1/backup and GET /v1/backup/{id}/why.
func (f *Function) Handler() http.Handler { return http.NotFoundHandler() }
