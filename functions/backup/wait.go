package backup

import "time"

// Growing is how long to leave alone what did not go, by how often it has been tried
// before: first, then twice as long each time, and never more than most. Fewer than
// no tries count as none.
func Growing(tries int, first, most time.Duration) time.Duration {
	n := min(max(tries, 0), 62)
	if first > most>>n { // compared this way, it cannot overflow
		return most
	}
	return first << n
}
