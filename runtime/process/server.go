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

// A Server serves HTTP on one address. Its limits are there because anybody may connect:
// neither slow nor many clients keep others from being served.
type Server struct {
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

// Run serves until ctx ends, with TLS where secure is not nil. Where that verifies
// certificates of callers if they show one, only those who do are answered, but for
// health and readiness.
func (v Server) Run(ctx context.Context, secure *tls.Config) error {
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
		if secure.ClientAuth == tls.VerifyClientCertIfGiven {
			srv.Handler = known(v.Handler)
		}
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
	return renewed(log, s.ListenTLS.Config, s.ListenTLS.Cert, s.ListenTLS.Key, s.ListenTLS.ClientCA)
}

// renewed reads a server's TLS from files, now and whenever they have changed.
func renewed(log *slog.Logger, read func() (*tls.Config, error), files ...string) (*tls.Config, error) {
	first, err := read()
	if first == nil || err != nil {
		return nil, err
	}
	// What is wanted of callers is Server's to see, too.
	first.NextProtos = []string{"http/1.1"}
	r := &renewal{read: read, files: files, log: log, now: first, looked: time.Now()}
	r.seen = r.stamp()
	served := first.Clone()
	served.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return r.config(time.Now()), nil }
	return served, nil
}

// A renewal has what is in the files.
type renewal struct {
	read  func() (*tls.Config, error)
	files []string
	log   *slog.Logger

	mu     sync.Mutex
	now    *tls.Config
	seen   string
	looked time.Time
}

// renewalLook is how often the files are looked at, at most.
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
		// Perhaps only one of the files is there yet: the others change the stamp.
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

// known lets those through who have shown a certificate. Who asks for health or
// readiness is the platform, which has none.
func known(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.EscapedPath() {
		case "/healthz", "/_/health", "/readyz", "/_/ready":
		default:
			if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
				http.Error(w, "a client certificate is needed", http.StatusForbidden)
				return
			}
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

// Grace is how long requests are still answered after readiness has become false:
// the time a load balancer needs to notice. A policy check that is refused a
// connection fails in Cinder with a 500.
func (s Settings) Grace() time.Duration { return min(2*time.Second, s.DrainTimeout/4) }

// serveMetrics serves /metrics until ctx ends, unless that is turned off. Where containers
// share an address, only one of them can: that keeps no function from its work.
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
			t.ClientAuth = tls.RequireAndVerifyClientCert // there is nothing here for everybody
		}
		return t, err
	}, s.MetricsTLS.Cert, s.MetricsTLS.Key, s.MetricsTLS.ClientCA)
	if err != nil {
		return err
	}
	return Server{Address: s.MetricsListen, Handler: mux, Drain: time.Second, Log: p.Log}.Run(ctx, secure)
}
