// Package rule is small enough that all its mutants are known.
package rule

import "time"

// Old says whether what was made at created is to go, and why.
func Old(created, now time.Time, kept, least int) (bool, string) {
	if kept < least {
		return false, "one of the last"
	}
	return !now.Before(created.Add(48 * time.Hour)), "by its age"
}
