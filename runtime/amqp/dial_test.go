package amqp

import (
	"net"
	"strings"
	"testing"
)

// A broker that does not accept the certificate hangs up as this one does; when, and
// what amqp091 makes of it, differs from one time to the next.
func TestABrokerThatHangsUpIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if n%2 == 0 {
				_, _ = conn.Read(make([]byte, 8)) // "AMQP" and the version
			}
			conn.Close()
		}
	}()
	for range 400 {
		conn, err := dial(t.Context(), "amqp://"+l.Addr().String()+"/", nil, "test")
		if err == nil {
			conn.Close()
			t.Fatal("connected to nobody")
		}
		if strings.Contains(err.Error(), "channel/connection is not open") || strings.Contains(err.Error(), "closed network connection") {
			t.Fatalf("says nothing: %v", err)
		}
	}
}
