package process

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

// A Server serves HTTP on one address. Anybody may connect, so it has limits: neither slow
// nor many clients keep others from being served.
type Server struct {
	// Address is HOST:PORT.
	Address string
	Handler http.Handler
	// Slow lifts the time limits: 10 s to read a request, and 30 s to answer it. Functions
	// may take longer.
	Slow bool
	// Leave is called when the context of Run ends. Requests are still answered until it
	// returns. May be nil.
	Leave func(context.Context)
	// Drain is how long Leave and the open requests may take together. Then the connections
	// are closed.
	Drain time.Duration
	Log   *slog.Logger
}

// Run serves until ctx ends, with TLS unless secure is nil. If secure verifies the
// certificates of callers, only health and readiness are answered without one.
func (v Server) Run(ctx context.Context, secure *tls.Config) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", v.Address)
	if err != nil {
		return err
	}
	listener = &bounded{Listener: listener, room: make(chan struct{}, mostConnections())}
	srv := &http.Server{
		Handler: v.Handler, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		Protocols: new(http.Protocols),
		// Mistakes of strangers are of no interest to the operator.
		ErrorLog: slog.NewLogLogger(v.Log.Handler(), slog.LevelDebug),
	}
	srv.Protocols.SetHTTP1(true) // HTTP/2 is not needed, and there are more attacks on it
	if v.Slow {
		srv.MaxHeaderBytes = 64 << 10
	} else {
		srv.ReadTimeout, srv.WriteTimeout = 10*time.Second, 30*time.Second
	}
	if secure != nil {
		listener = tls.NewListener(listener, secure)
		if secure.ClientAuth == tls.VerifyClientCertIfGiven {
			srv.Handler = requireCertificate(v.Handler)
		}
	}
	drained := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		defer close(drained)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), v.Drain)
		defer cancel()
		srv.SetKeepAlivesEnabled(false) // so that clients connect elsewhere
		if v.Leave != nil {
			v.Leave(last)
		}
		if srv.Shutdown(last) != nil {
			_ = srv.Close()
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

// mostConnections is how many connections an address accepts: half of the process's limit
// of open files, because the process needs the rest itself.
func mostConnections() int {
	const most, least = 10_000, 64
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return most / 10
	}
	return int(min(max(files.Cur/2, least), most))
}

// A bounded listener accepts no further connection while room is full. The server's
// timeouts close idle and slow ones.
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

// ServeTLS returns the TLS of STAFFELN_LISTEN; nil for none. The files are read again when
// they change, so that a certificate can be renewed without a restart. If the new files
// cannot be used, an error is logged and the old certificate stays.
func (s Settings) ServeTLS(log *slog.Logger) (*tls.Config, error) {
	return renewed(log, s.ListenTLS.Config, s.ListenTLS.Cert, s.ListenTLS.Key, s.ListenTLS.ClientCA)
}

// renewed reads a server's TLS from files, now and whenever they have changed.
func renewed(log *slog.Logger, read func() (*tls.Config, error), files ...string) (*tls.Config, error) {
	first, err := read()
	if first == nil || err != nil {
		return nil, err
	}
	first.NextProtos = []string{"http/1.1"}
	r := &renewal{read: read, files: files, log: log, now: first, looked: time.Now()}
	r.seen = r.stamp()
	served := first.Clone()
	served.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return r.config(time.Now()), nil }
	return served, nil
}

// A renewal has the TLS that was last read from the files.
type renewal struct {
	read  func() (*tls.Config, error)
	files []string
	log   *slog.Logger

	mu     sync.Mutex
	now    *tls.Config
	seen   string
	looked time.Time
}

// renewalLook is the shortest time between two looks at the files.
const renewalLook = 5 * time.Second

func (r *renewal) config(at time.Time) *tls.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at.Sub(r.looked) < renewalLook {
		return r.now
	}
	r.looked = at
	stamp := r.stamp()
	if stamp == r.seen {
		return r.now
	}
	c, err := r.read()
	r.seen = stamp
	if err != nil || c == nil {
		// Perhaps only one of the files has been replaced yet. Replacing the others changes
		// the stamp again.
		r.log.Error("the certificate cannot be renewed: the old one stays", "err", err)
		return r.now
	}
	c.NextProtos = r.now.NextProtos
	r.now = c
	r.log.Info("certificate renewed")
	return r.now
}

// stamp changes when one of the files does.
func (r *renewal) stamp() string {
	all := ""
	for _, path := range r.files {
		if info, err := os.Stat(path); err == nil {
			all += fmt.Sprint(info.Size(), info.ModTime().UnixNano(), " ")
		}
	}
	return all
}

// requireCertificate refuses callers without a client certificate, except at the paths of
// health and readiness: the platform that asks there has no certificate.
func requireCertificate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, probe := probes[r.URL.EscapedPath()]; !probe && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0) {
			http.Error(w, "a client certificate is needed", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// serve serves the front on LISTEN until ctx ends.
func (p *Process) serve(ctx context.Context) error {
	secure, err := p.Settings.ServeTLS(p.Log)
	if err != nil {
		return err
	}
	return Server{
		Address: p.Settings.Listen, Handler: p.Front, Slow: p.Front.slow, Drain: p.Settings.DrainTimeout, Log: p.Log,
		Leave: func(ctx context.Context) { p.Front.Leave(ctx, p.Settings.Grace()) },
	}.Run(ctx, secure)
}

// Grace is how long requests are still answered after readiness has become false, so that
// load balancers notice in time. If a policy check cannot connect, Cinder answers 500.
func (s Settings) Grace() time.Duration { return min(2*time.Second, s.DrainTimeout/4) }

// serveMetrics serves /metrics until ctx ends, unless that is turned off. Containers with one
// function may share an address, where only one of them can serve its metrics; so there a
// failure is only logged.
func (p *Process) serveMetrics(ctx context.Context) error {
	err := p.metrics(ctx)
	if err != nil && p.Settings.Function != "" {
		p.Log.ErrorContext(ctx, "metrics are not served", "err", err)
		return nil
	}
	return err
}

func (p *Process) metrics(ctx context.Context) error {
	if p.Settings.MetricsListen == "off" {
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", p.Metrics.Handler())
	s := p.Settings
	secure, err := renewed(p.Log, func() (*tls.Config, error) {
		t, err := s.MetricsTLS.Config()
		if t != nil && t.ClientCAs != nil {
			t.ClientAuth = tls.RequireAndVerifyClientCert // no path here is for everybody
		}
		return t, err
	}, s.MetricsTLS.Cert, s.MetricsTLS.Key, s.MetricsTLS.ClientCA)
	if err != nil {
		return err
	}
	return Server{Address: s.MetricsListen, Handler: mux, Drain: time.Second, Log: p.Log}.Run(ctx, secure)
}
