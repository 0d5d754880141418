package model

import (
	"net/http"
	"time"
)

// Options say how a cloud behaves. The zero value is a cloud in real time that
// makes a backup in no time and tells nobody.
type Options struct {
	// Addr is the address that a started cloud listens on, "127.0.0.1:0" if empty. Only loopback
	// addresses are accepted.
	Addr string
	// Base is the address under which the cloud describes itself in its catalog
	// and links, without a slash at the end. Starting a cloud sets it; one that does not
	// listen has "http://cloud.invalid" if it is empty.
	Base string
	// Now decides every time the cloud tells, and when things end; nil is time.Now.
	// It must be safe for concurrent use and must not call the cloud.
	Now func() time.Time
	// Seed makes ids, tokens and passwords repeatable.
	Seed uint64

	// BackupTime is how long a backup of v takes; nil is no time at all: it is
	// available to the request after the one that made it. It must not call the
	// cloud.
	BackupTime func(v Volume, incremental bool) time.Duration
	// RestoreTime is how long a restore takes; nil is no time.
	RestoreTime func(b Backup) time.Duration
	// DeleteTime is how long the deletion of a backup takes.
	DeleteTime time.Duration
	// SettleTime is how long everything else takes that is not done at once: a
	// volume being made, deleted or extended, a server being made.
	SettleTime time.Duration
	// Workers is how many backups and restores one cinder-backup service does at a
	// time (backup_max_operations); 0 is Cinder's 15, -1 any number. BackupTime starts
	// when it is a backup's turn.
	Workers int
	// Chunked makes backups as Cinder's Swift, NFS and S3 drivers do instead of as
	// Ceph's: an incremental of a volume that has grown ends in error.
	Chunked bool
	// DownTime is how long a cinder-backup service that went down is still believed
	// to be up (Cinder's service_down_time); 0 is noticed at once.
	DownTime time.Duration

	// PageLimit is the most items a list of Nova's or Cinder's holds
	// (osapi_max_limit, max_limit); 0 is 1000.
	PageLimit int
	// TokenLife is how long a token is good for; 0 is 4 hours.
	TokenLife time.Duration
	// PolicyContentType is how Cinder's http: policy checks are sent
	// (remote_content_type): "application/json", or, if empty, form-encoded.
	PolicyContentType string
	// Quota is what a project without a quota of its own has; nil is Cinder's own
	// defaults: 10 volumes, 1000 GB, 10 backups, 1000 GB of backups.
	Quota *Quota

	// Notify gets every notification: the exchange and routing key it is published
	// with, and its body, oslo's envelope. Calls come one at a time and in order,
	// never while the cloud is locked: it may call the cloud.
	Notify func(exchange, routingKey string, body []byte)
	// Notifications choose the formats; the zero value is all of them.
	Notifications Format
	// Inject, if it returns a fault for a request, breaks it. op is the request's
	// normalised route, as in Cloud.Calls. It may be called by several requests at
	// once, and may call the cloud.
	Inject func(r *http.Request, op string) *Fault
}

// Format is which notifications are sent.
type Format int

// The formats. Nova has two, Cinder only the legacy one.
const (
	Both      Format = iota // legacy and versioned
	Legacy                  // Nova's default: notification_format=unversioned
	Versioned               // Nova's versioned ones, and Cinder's
	Silent                  // none at all, of either service
)

// A Quota is what a project may have. -1 is no limit.
type Quota struct {
	Volumes, Gigabytes, Backups, BackupGigabytes int
}

// DefaultQuota is Cinder's.
var DefaultQuota = Quota{Volumes: 10, Gigabytes: 1000, Backups: 10, BackupGigabytes: 1000}
