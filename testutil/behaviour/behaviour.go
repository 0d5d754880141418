// Package behaviour holds the behavioural suite: what the service promises, from
// the opting in of a server to the restored bytes, whatever happens on the way.
//
// Each scenario is written once (scenarios_test.go and the files beside it) and
// run on every cloud there is: in `go test ./...` on the simulated one of package
// simcloud, over real HTTP, RabbitMQ and Redis; with the build tag e2e on a real
// OpenStack, that of testutil/devcloud. It is run as the service user with the
// role admin, and as the one with the least rights.
//
// What is tested is the program as an operator starts it, built from this
// checkout, as one process or several, killed where the scenario says so. The
// tenants are users of projects of the scenario's own and do what tenants do, over
// the API. What came of it is read from the API too, as the tenant sees it; only
// the bytes of a volume, and breaking things, go behind the cloud's back. Between
// the program and the cloud stands a front that notes every request, and that can
// cut a connection at a given one.
package behaviour
