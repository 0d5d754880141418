//go:build !race

package behaviour

const underRace = false
