//go:build race

package functions_test

// stride is how many steps apart the process is killed: the race detector makes
// each of these histories five times as long. Without it every step has its turn,
// in the second half of make test.
const stride = 13
