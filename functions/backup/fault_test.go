package backup

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// The messages are those that Cinder, Nova and Keystone of Zed answer with; those
// marked "source" were read in cinder/backup, since they are hard to provoke.
func TestClassify(t *testing.T) {
	const read, write = false, true
	for _, c := range []struct {
		name    string
		status  int
		message string
		write   bool
		want    Fault
	}{
		{"over the quota of backups", 413, "BackupLimitExceeded: Maximum number of backups allowed (2) exceeded", write, Owner},
		{"over the quota of gigabytes", 413, "VolumeBackupSizeExceedsAvailableQuota: Requested backup exceeds allowed Backup gigabytes quota. Requested 1G, quota is 0G and 0G has been consumed.", write, Owner},
		{"over the quota of volumes", 413, "Maximum number of volumes allowed (4) exceeded for quota 'volumes'.", write, Owner},

		{"no full backup to build on", 400, "Invalid backup: No backups available to do an incremental backup.", write, NeedsFull},
		{"source: the parent is not available", 400, "Invalid backup: The parent backup must be available for incremental backup.", write, NeedsFull},
		{"source: the volume grew", 400, "Invalid backup: Volume size increased since the last backup. Do a full backup.", write, NeedsFull},
		{"source: the driver is set up in another way", 400, "Invalid backup: Hash block size has changed since the last backup. New hash block size: 32768. Old hash block size: 16384. Do a full backup.", write, NeedsFull},
		{"the same in lower case", 400, "volume size increased", write, NeedsFull},
		{"and the same", 400, "the hash block size has changed", write, NeedsFull},

		{"a volume in use without force", 400, "Invalid volume: Backing up an in-use volume must use the force flag.", write, Busy},
		{"a volume that is being backed up", 400, `Invalid volume: Volume to be backed up must be available or in-use, but the current status is "backing-up".`, write, Busy},
		{"a backup that is being made or restored", 400, "Invalid backup: Backup status must be available or error", write, Busy},
		{"the same without Cinder's wrapping", 400, "Backup status must be available or error", write, Busy},
		{"a backup with children", 400, "Invalid backup: Incremental backups exist for this backup.", write, Dependents},
		{"a server that is locked", 409, "Instance 4f3d is locked", write, Busy},
		{"a server that is shelved", 409, "Cannot 'update_instance_metadata' instance 4f3d while it is in vm_state shelved_offloaded", write, Busy},

		{"metadata below microversion 3.43", 400, "Invalid input for field/attribute backup. Value: {'volume_id': 'b5ab3645-43b3-48d3-8280-3c20c64e5623', 'name': 'x', 'force': True, 'metadata': {'a': 'b'}}. Additional properties are not allowed ('metadata' was unexpected)", write, Operator},
		{"a token of another project", 400, "Malformed request url", read, Operator},
		{"a microversion that is not there", 406, "Version 3.99 is not supported by the API. Minimum is 3.0 and maximum is 3.70.", read, Operator},
		{"a bad token", 401, "The request you have made requires authentication.", read, Operator},
		{"a policy against it", 403, "Policy doesn't allow volume_extension:quotas:show to be performed.", read, Operator},
		{"a policy against all tenants", 403, "Policy doesn't allow os_compute_api:servers:detail:get_all_tenants to be performed.", read, Operator},
		{"Keystone's policy", 403, "You are not authorized to perform the requested action: identity:list_users.", read, Operator},
		{"a redirect", 302, "", write, Operator},

		{"no such volume", 404, "Volume 00000000-0000-0000-0000-00000000dead could not be found.", write, Gone},
		{"no such backup", 404, "Backup 00000000-0000-0000-0000-00000000dead could not be found.", write, Gone},
		{"no such server", 404, "Instance 00000000-0000-0000-0000-00000000dead could not be found.", read, Gone},
		{"no such project", 404, "Could not find project: 00000000-0000-0000-0000-00000000dead.", read, Gone},
		{"no service, and the backup is still there", 404, "Service cinder-backup could not be found.", write, NoService},
		{"no words", 404, "", read, Gone},

		{"too much asked", 429, "This request was rate-limited.", write, Retry},
		{"a proxy without anything behind it", 503, "", write, Retry},
		{"a proxy that waited for the request", 408, "", write, Retry},
		{"an error of Cinder's, asked something", 500, "The server has either erred or is incapable of performing the requested operation.", read, Retry},
		{"an error of Cinder's, told to do something", 500, "The server has either erred or is incapable of performing the requested operation.", write, Doubt},
		{"a proxy that lost the answer", 502, "", write, Doubt},
		{"a proxy that lost the answer to a question", 502, "", read, Retry},
		{"a proxy that did not wait any longer", 504, "", write, Doubt},
		{"no answer", 0, "", write, Doubt},
		{"no answer to a question", 0, "", read, Retry},

		{"what a full backup would mend counts by its status, too", 500, "Volume size increased since the last backup. Do a full backup.", write, Doubt},
		{"so do children", 409, "Incremental backups exist for this backup.", write, Busy},
		{"and what is busy", 403, "Invalid volume: x", write, Operator},
		{"and services", 400, "Service cinder-backup could not be found.", write, Operator},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Classify(c.status, c.message, c.write); got != c.want {
				t.Errorf("%d %q: got %s, want %s", c.status, c.message, got, c.want)
			}
		})
	}
}

func TestFaultNames(t *testing.T) {
	seen := map[string]bool{}
	for f := Retry; f <= Dependents; f++ {
		if s := f.String(); s == "" || seen[s] {
			t.Errorf("fault %d is called %q", int(f), s)
		}
		seen[f.String()] = true
	}
	for _, f := range []Fault{-1, Dependents + 1} {
		if got, want := f.String(), fmt.Sprintf("fault %d", int(f)); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if Dependents.String() != "dependents" || Retry.String() != "retry" || NeedsFull.String() != "needs full" {
		t.Error("the names are out of step")
	}
}

func TestCloudError(t *testing.T) {
	refused := &CloudError{Fault: Owner, Op: "create backup", Status: 413, Message: "BackupLimitExceeded: Maximum number of backups allowed (2) exceeded"}
	silent := &CloudError{Fault: Doubt, Op: "create backup", Message: "connection reset"}
	for _, c := range []struct {
		name       string
		err        error
		text, said string
		fault      Fault
	}{
		{"an answer", refused, "create backup: 413: " + refused.Message, refused.Message, Owner},
		{"no answer", silent, "create backup: connection reset", "connection reset", Doubt},
		{"an answer that was wrapped", fmt.Errorf("volume v1: %w", refused), "volume v1: " + refused.Error(), refused.Message, Owner},
		{"an answer among others", errors.Join(errors.New("x"), silent), "x\n" + silent.Error(), "connection reset", Doubt},
		{"another error", errors.New("x"), "x", "x", Retry},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.err.Error() != c.text || Said(c.err) != c.said || FaultOf(c.err) != c.fault {
				t.Errorf("got %q, %q, %s", c.err, Said(c.err), FaultOf(c.err))
			}
		})
	}
	if FaultOf(nil) != Retry {
		t.Error("no error has a fault")
	}
}

func TestRetryAfter(t *testing.T) {
	limited := func(after time.Duration) error {
		return &CloudError{Fault: Retry, Op: "list volumes", Status: 429, Message: "rate-limited", After: after}
	}
	for _, c := range []struct {
		name string
		err  error
		want time.Duration
	}{
		{"as long as OpenStack asks for", limited(40 * time.Second), 40 * time.Second},
		{"an hour, if that is what it asks for", limited(time.Hour), time.Hour},
		{"an hour, however long it asks for", limited(24 * time.Hour), time.Hour},
		{"it did not ask", limited(0), 0},
		{"an answer that was wrapped", fmt.Errorf("project p1: %w", limited(time.Minute)), time.Minute},
		{"an answer among others", errors.Join(errors.New("x"), limited(time.Minute)), time.Minute},
		{"another error", errors.New("x"), 0},
		{"no error", nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := RetryAfter(c.err); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func FuzzClassify(f *testing.F) {
	f.Add(400, "Invalid backup: No backups available to do an incremental backup.", true)
	f.Add(404, "Service cinder-backup could not be found.", true)
	f.Add(0, "", true)
	f.Add(-1, "\xff", false)
	f.Add(599, "Incremental backups exist", true)
	f.Fuzz(func(t *testing.T, status int, message string, write bool) {
		fault := Classify(status, message, write)
		switch {
		case fault < Retry || fault > Dependents:
			t.Fatalf("%d %q: %s", status, message, fault)
		case fault == Doubt && !write:
			t.Fatalf("%d %q: a question is never in doubt", status, message)
		case write && fault == Retry && status != 408 && status != 429 && status != 503:
			t.Fatalf("%d %q: asked again, though it may have been done", status, message)
		case fault == Gone && status != 404, fault == NoService && status != 404, fault == Owner && status != 413,
			(fault == NeedsFull || fault == Dependents) && status != 400:
			t.Fatalf("%d %q: %s", status, message, fault)
		}
	})
}
