package functions_test

import "testing"

// stride is how many steps apart the process is killed. `make test` tries a sample of the
// steps, `make test-long` every one.
func stride() int {
	if testing.Short() {
		return 13
	}
	return 1
}
