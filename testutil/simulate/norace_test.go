//go:build !race

package simulate_test

// histories is how many random ones make test plays.
const histories = 200
