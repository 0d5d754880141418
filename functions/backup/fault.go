package backup

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Fault says what an error of the cloud's means for what was asked.
type Fault int

// The faults. Failures are for the project's owner, errors for the operator.
const (
	// Retry: an error that may pass by itself: 408, 429, 5xx, a refused connection.
	Retry Fault = iota
	// Doubt: the request may have been carried out: no answer, a cut-off one, or
	// 5xx after a write was sent. Look before asking again.
	Doubt
	// Operator: rights, credentials, versions, a request that Cinder finds
	// malformed: the operator must act; asking again soon cannot help.
	Operator
	// Owner: the project's owner must act (413 over quota).
	Owner
	// Gone: the thing asked for is not there (404 about the thing itself).
	Gone
	// Busy: the thing is in a status that does not allow it now (volume backing-up,
	// server locked or shelved, backup creating).
	Busy
	// NeedsFull: an incremental is refused; a full backup would do.
	NeedsFull
	// NoService: no cinder-backup service is up. Cinder says so with 404.
	NoService
	// Dependents: a backup cannot be deleted before those that build on it.
	Dependents
)

var faultNames = [...]string{"retry", "doubt", "operator", "owner", "gone", "busy", "needs full", "no service", "dependents"}

func (f Fault) String() string {
	if f < 0 || int(f) >= len(faultNames) {
		return fmt.Sprintf("fault %d", int(f))
	}
	return faultNames[f]
}

// A CloudError is an answer of OpenStack's that was not the one hoped for.
type CloudError struct {
	Fault Fault
	// Op is what was asked: "create backup", "show server".
	Op string
	// Status is the HTTP status, 0 where there was no answer.
	Status int
	// Message is what OpenStack said, in one line of bounded length; never a token
	// nor a whole body.
	Message string
	// After is how long OpenStack asked to wait (Retry-After); 0 where it did not.
	After time.Duration
}

func (e *CloudError) Error() string {
	if e.Status == 0 {
		return fmt.Sprintf("%s: %s", e.Op, e.Message)
	}
	return fmt.Sprintf("%s: %d: %s", e.Op, e.Status, e.Message)
}

// FaultOf reads the fault of an error; one that is not a [CloudError] is a [Retry].
func FaultOf(err error) Fault {
	if e, ok := errors.AsType[*CloudError](err); ok {
		return e.Fault
	}
	return Retry
}

// RetryAfter is how long OpenStack asked to be left alone, an hour at most: 0 where it
// did not ask.
func RetryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*CloudError](err); ok {
		return min(e.After, time.Hour)
	}
	return 0
}

// Said is what OpenStack itself said, for the reason of a run, without our own
// wrapping.
func Said(err error) string {
	if e, ok := errors.AsType[*CloudError](err); ok {
		return e.Message
	}
	return err.Error()
}

// Classify reads an OpenStack error answer. write says whether the request would
// have changed something. The messages are Cinder's and Nova's own, seen on Zed:
// their wording has been stable since Queens; a message that is not known is
// judged by its status alone.
func Classify(status int, message string, write bool) Fault {
	says := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(message, w) {
				return true
			}
		}
		return false
	}
	switch {
	case status == 0:
		if write {
			return Doubt
		}
		return Retry
	case status == 404:
		if says("Service cinder-backup could not be found") {
			return NoService
		}
		return Gone
	case status == 413:
		return Owner
	case status == 400 && needsFull(message):
		return NeedsFull
	case status == 400 && says("Incremental backups exist"):
		return Dependents
	case status == 400 && says("Invalid volume: ", "Backup status must be", "Invalid backup: "):
		return Busy
	case status == 409:
		return Busy
	case status == 408, status == 429, status == 503:
		return Retry // refused before anything was done
	case status >= 500:
		if write {
			return Doubt
		}
		return Retry
	default:
		return Operator
	}
}

// needsFull knows the words with which Cinder refuses an incremental, at once
// or later in fail_reason. Source: cinder/backup/api.py (create),
// cinder/backup/chunkeddriver.py (backup, _prepare_backup).
func needsFull(message string) bool {
	for _, words := range []string{
		"No backups available to do an incremental backup",
		"parent backup",
		"volume size increased", "Volume size increased",
		"hash block size", "Hash block size",
	} {
		if strings.Contains(message, words) {
			return true
		}
	}
	return false
}
