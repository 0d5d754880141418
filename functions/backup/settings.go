package backup

import "time"

// Settings are what the operator has set, as far as functions decide by it. A process makes
// one value of them at its start, and no function changes it.
type Settings struct {
	Classes Classes
	Keys    Keys
	// Template is the name of backups: see [CheckTemplate].
	Template string
	// Limits are those that are set; zero ones are derived: see [Bounds]. PerService is how
	// many backups one cinder-backup service is given at a time.
	Limits     Limits
	PerService int
	// VolumeLimit is how many volumes of a project may be protected; VolumeLimits takes its
	// place, by project id or name. 0 is any number.
	VolumeLimit  int
	VolumeLimits map[string]int
	// Deadline is how long a backup may run.
	Deadline TimeLimit
	// Grace is how long a request may be under way to Cinder, longer than any client waits for
	// an answer: a request whose effect is not seen after that never arrived.
	Grace time.Duration
	// Orphan is how long the newest restore point of a volume that is gone is kept; zero is as
	// its own policy says.
	Orphan Age
	Brake  Brake
	// Period is how often servers and volumes are compared with the ledger. BackupsPeriod is how
	// often the list of backups, the longest of all, is read too.
	Period, BackupsPeriod time.Duration
}

// A Brake stops removals that look like a mistake. The zero Brake holds back every
// removal.
type Brake struct {
	// Percent of the chains is what may go at once; 100 is no brake.
	Percent int
	// From is how many backups have to be about to go at least for it to be asked.
	From int
}

// A TimeLimit grows with the size of a volume.
type TimeLimit struct{ Base, PerGiB time.Duration }

// Of returns the limit for a volume of so many GiB.
func (l TimeLimit) Of(sizeGiB int) time.Duration {
	return l.Base + time.Duration(sizeGiB)*l.PerGiB
}

// StampKey is the server metadata key for the time of the newest backup.
const StampKey = "last-backup-time"
