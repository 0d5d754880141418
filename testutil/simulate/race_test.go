//go:build race

package simulate_test

// histories is how many random ones make test plays under the race detector, which
// makes each take ten times as long.
const histories = 6
