//go:build !race

package functions_test

// stride is how many steps apart the process is killed.
const stride = 1

// histories is how many random histories there are unless the flag says otherwise.
const histories = "10"
