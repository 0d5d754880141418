//go:build !race

package functions_test

// stride is how many steps apart the process is killed.
const stride = 1
