//go:build race

package behaviour

// underRace has the program built with the race detector, too.
const underRace = true
