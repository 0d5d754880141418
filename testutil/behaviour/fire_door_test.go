package behaviour

import (
	"io"
	"net"
	"sync"
	"testing"
)

// A door is an address that leads to one server, and can be moved to another: then
// every connection through it is cut, as when an address moves with a failover.
type door struct {
	addr string

	mu    sync.Mutex
	to    string
	conns map[net.Conn]bool
}

func openDoor(t *testing.T, to string) *door {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{addr: l.Addr().String(), to: to, conns: map[net.Conn]bool{}}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go d.pass(in)
		}
	}()
	t.Cleanup(func() { l.Close(); d.move("") })
	return d
}

func (d *door) pass(in net.Conn) {
	defer in.Close()
	d.mu.Lock()
	to := d.to
	d.conns[in] = true
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		delete(d.conns, in)
		d.mu.Unlock()
	}()
	out, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer out.Close()
	go func() { _, _ = io.Copy(out, in); out.Close() }()
	_, _ = io.Copy(in, out)
}

// move has the door lead to another server.
func (d *door) move(to string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.to = to
	for c := range d.conns {
		c.Close()
	}
}
