// Package simcloud is a small OpenStack in memory: a Keystone, a Nova and a
// Cinder with its backup service, spoken to over HTTP as the real ones are.
//
// It refuses what they refuse, with the same statuses, JSON and messages as
// OpenStack Zed; package contract proves that, by running the same steps against
// both. Time in it is whatever [Options.Now] says, so that a year passes in a
// second. It sends the notifications the real ones send, and can be told to fail
// in the ways the real ones fail.
//
// It holds no more of OpenStack than a backup service can notice: no images, no
// networks, no snapshots.
package simcloud

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
)

// A Cloud is a simulated OpenStack. All its methods are safe for concurrent use.
type Cloud struct {
	state  *model.State
	server *http.Server
	closed chan struct{}

	inject   func(r *http.Request, op string) *Fault
	injectMu sync.RWMutex
}

// New returns a cloud that is not listening: it is an [http.Handler], and
// [Cloud.Transport] reaches it without a network.
func New(o Options) *Cloud {
	return &Cloud{state: model.New(o), inject: o.Inject, closed: make(chan struct{})}
}

// Start returns a cloud that listens on a port of 127.0.0.1. [Cloud.AuthURL] says
// where.
func Start(o Options) (*Cloud, error) {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	host, _, err := net.SplitHostPort(o.Addr)
	if err != nil {
		return nil, fmt.Errorf("address of the simulated cloud: %w", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("address of the simulated cloud: %q is not of the loopback interface", host)
	}
	l, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("simulated cloud: %w", err)
	}
	o.Base = "http://" + l.Addr().String()
	c := New(o)
	c.server = &http.Server{Handler: c, ReadHeaderTimeout: 10 * time.Second}
	go c.server.Serve(l) //nolint:errcheck // always ErrServerClosed
	return c, nil
}

// Close stops listening and lets go of requests that hang.
func (c *Cloud) Close() {
	select {
	case <-c.closed:
		return
	default:
		close(c.closed)
	}
	if c.server != nil {
		c.server.Close() //nolint:errcheck // nothing is left to do about it
	}
}

// AuthURL is the address of Keystone: BASE/identity/v3.
func (c *Cloud) AuthURL() string { return c.state.Options.Base + api.IdentityPath }

// Advance carries out everything that is over by now, as requests do, and sends
// the notifications. It returns the moment of the next thing to happen, zero if
// nothing is under way.
func (c *Cloud) Advance() time.Time { return c.state.Advance() }

// do runs f on the settled state and sends what it caused.
func (c *Cloud) do(f func(s *model.State, now time.Time)) { c.state.Do(f) }
