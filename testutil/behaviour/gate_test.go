package behaviour

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// A gate stands before a broker and can be shut: then every connection through it
// is cut and no new one is let in.
type gate struct {
	url string // the broker's address through this gate

	to    string
	mu    sync.Mutex
	shut  bool
	conns map[net.Conn]bool
}

// openGate makes an open gate before the broker at an AMQP URL.
func openGate(t *testing.T, broker string) *gate {
	t.Helper()
	u, err := url.Parse(broker)
	if err != nil {
		t.Fatal("the broker's address is no URL")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{to: u.Host, conns: map[net.Conn]bool{}}
	u.Host = l.Addr().String()
	g.url = u.String()
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go g.pass(in)
		}
	}()
	t.Cleanup(func() { l.Close(); g.close() })
	return g
}

func (g *gate) pass(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", g.to)
	if err != nil {
		return
	}
	defer out.Close()
	g.mu.Lock()
	if g.shut {
		g.mu.Unlock()
		return
	}
	g.conns[in], g.conns[out] = true, true
	g.mu.Unlock()
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
		both.Go(func() {
			_, _ = io.Copy(pair[0], pair[1])
			in.Close()
			out.Close()
		})
	}
	both.Wait()
	g.mu.Lock()
	delete(g.conns, in)
	delete(g.conns, out)
	g.mu.Unlock()
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
	for c := range g.conns {
		c.Close()
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = false
}
