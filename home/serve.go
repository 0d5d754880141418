package home

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
)

// A Serving is one address that HTTP is served on. Its limits are for strangers:
// neither slow nor many of them keep others from being served.
type Serving struct {
	// Address is HOST:PORT.
	Address string
	Handler http.Handler
	// Slow says that answers may take as long as they like, as those of functions do;
	// else they have 30 s, and requests 10 s to be there.
	Slow bool
	// Leave is called when the context of Run ends, and is to return when nothing new
	// is to be expected; nil returns at once. Requests are answered meanwhile.
	Leave func(context.Context)
	// Drain is how long what is under way may go on, Leave included.
	Drain time.Duration
	Log   *slog.Logger
}

// Run serves, with TLS where the settings have a certificate, until ctx ends.
func (v Serving) Run(ctx context.Context, secure *tls.Config) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", v.Address)
	if err != nil {
		return err
	}
	listener = &bounded{Listener: listener, room: make(chan struct{}, mostConnections())}
	srv := &http.Server{
		Handler: v.Handler, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		Protocols: new(http.Protocols),
		// What strangers do wrong is no news.
		ErrorLog: slog.NewLogLogger(v.Log.Handler(), slog.LevelDebug),
	}
	srv.Protocols.SetHTTP1(true) // all that is needed here, and the one with the fewest ways to be abused
	if v.Slow {
		srv.MaxHeaderBytes = 64 << 10
	} else {
		srv.ReadTimeout, srv.WriteTimeout = 10*time.Second, 30*time.Second
	}
	if secure != nil {
		listener = tls.NewListener(listener, secure)
	}
	drained := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		defer close(drained)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), v.Drain)
		defer cancel()
		srv.SetKeepAlivesEnabled(false) // whoever has a connection looks for another
		if v.Leave != nil {
			v.Leave(last)
		}
		if srv.Shutdown(last) != nil {
			_ = srv.Close() // what is still there now is cut off
		}
	})
	if err := srv.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		if !unhook() {
			<-drained
		}
		return err
	}
	<-drained
	return nil
}

// mostConnections is how many there may be at an address: half of the files that
// the process may have open, since it has connections of its own to keep.
func mostConnections() int {
	const most, least = 10_000, 64
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return most / 10
	}
	return int(min(max(files.Cur/2, least), most))
}

// A bounded listener takes no more connections while there is no room. The
// server's timeouts make room.
type bounded struct {
	net.Listener
	room chan struct{}
}

func (b *bounded) Accept() (net.Conn, error) {
	b.room <- struct{}{}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.room
		return nil, err
	}
	return &roomy{Conn: c, leave: sync.OnceFunc(func() { <-b.room })}, nil
}

type roomy struct {
	net.Conn
	leave func()
}

func (r *roomy) Close() error {
	defer r.leave()
	return r.Conn.Close()
}

// ServeTLS is what LISTEN is served with; nil for without TLS. The files are read
// again when they change, so that a certificate can be renewed without a restart;
// one that cannot be used is told, and the old one stays.
func (s Settings) ServeTLS(log *slog.Logger) (*tls.Config, error) {
	c, err := s.ListenTLS()
	if c == nil || err != nil {
		return nil, err
	}
	r := &renewal{s: s, log: log, now: &c.Certificates[0], seen: s.stamp(), looked: time.Now()}
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return r.certificate(time.Now()), nil }}, nil
}

// A renewal has the certificate that is in the files.
type renewal struct {
	s   Settings
	log *slog.Logger

	mu     sync.Mutex
	now    *tls.Certificate
	seen   string
	looked time.Time
}

// renewalLook is how often the files are looked at, at most.
const renewalLook = 5 * time.Second

func (r *renewal) certificate(at time.Time) *tls.Certificate {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at.Sub(r.looked) < renewalLook {
		return r.now
	}
	r.looked = at
	stamp := r.s.stamp()
	if stamp == r.seen {
		return r.now
	}
	c, err := r.s.ListenTLS()
	if err != nil || c == nil {
		// Perhaps only one of the two files is there yet: the other changes the stamp.
		r.seen = stamp
		r.log.Error("the certificate cannot be renewed: the old one stays", "err", err)
		return r.now
	}
	r.now, r.seen = &c.Certificates[0], stamp
	r.log.Info("certificate renewed")
	return r.now
}

// stamp changes when one of the files does.
func (s Settings) stamp() string {
	all := ""
	for _, path := range []string{s.TLSCert, s.TLSKey} {
		if info, err := os.Stat(path); err == nil {
			all += fmt.Sprint(info.Size(), info.ModTime().UnixNano(), " ")
		}
	}
	return all
}

// Serve serves the front on LISTEN until ctx ends.
func (h *Home) Serve(ctx context.Context) error {
	secure, err := h.Settings.ServeTLS(h.Log)
	if err != nil {
		return err
	}
	return Serving{
		Address: h.Settings.Listen, Handler: h.Front, Drain: h.Settings.DrainTimeout, Log: h.Log,
		Leave: func(ctx context.Context) { h.Front.Leave(ctx, h.Settings.Grace()) },
	}.Run(ctx, secure)
}

// Grace is how long requests are still answered after readiness has become false:
// the time a load balancer needs to notice. A policy check that is refused a
// connection fails in Cinder with a 500.
func (s Settings) Grace() time.Duration { return min(2*time.Second, s.DrainTimeout/4) }

// ServeMetrics serves /metrics until ctx ends, unless that is turned off.
func (h *Home) ServeMetrics(ctx context.Context) error {
	if h.Settings.MetricsListen == "off" {
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", h.Metrics.Handler())
	return Serving{Address: h.Settings.MetricsListen, Handler: mux, Drain: time.Second, Log: h.Log}.Run(ctx, nil)
}
