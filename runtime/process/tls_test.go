package process

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"staffeln/events"
	"staffeln/functions/backup"
	"staffeln/runtime/amqp"
	"staffeln/runtime/cloudevents"
	"staffeln/runtime/ledger"
	"staffeln/runtime/openstack"
	"staffeln/testutil/services"
	"staffeln/testutil/simcloud"
)

// A trial is one set of TLS settings, and what comes of connecting with them.
type trial struct {
	sentence string
	settings []string
	refused  string // part of the error, or of another by |; "" for none
}

// says is whether an error has one of the words, which are parted by |.
func says(err error, words string) bool {
	return err != nil && slices.ContainsFunc(strings.Split(words, "|"), func(w string) bool { return strings.Contains(err.Error(), w) })
}

// Who refuses our certificate says so and hangs up, and we may be writing: then all that is
// seen is that it hung up.
const (
	wantsOne   = "certificate required|connection reset|broken pipe|the broker hung up"
	knowsItNot = "unknown certificate authority|connection reset|broken pipe|the broker hung up"
)

// tried reads the settings and connects with them.
func tried(t *testing.T, all []trial, connect func(ctx context.Context, s Settings) error) {
	t.Helper()
	for _, tc := range all {
		t.Run(tc.sentence, func(t *testing.T) {
			s, err := Read(append(tc.settings, credentials...))
			if err == nil {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				err = connect(ctx, s)
			}
			switch {
			case tc.refused == "" && err != nil:
				t.Error(err)
			case tc.refused != "" && !says(err, tc.refused):
				t.Errorf("want %q, not %v", tc.refused, err)
			case err != nil && strings.Contains(err.Error(), "marked-secret"):
				t.Errorf("a secret is told: %v", err)
			}
		})
	}
}

// set are settings by their names without the prefix.
func set(pairs ...string) []string {
	var out []string
	for _, p := range pairs {
		out = append(out, "STAFFELN_"+p)
	}
	return out
}

func TestRedisOverTLS(t *testing.T) {
	a, other := services.NewAuthority(t, "ours"), services.NewAuthority(t, "another")
	cert, key := a.Client("staffeln")
	strange, strangeKey := other.Client("staffeln")
	open := services.RedisTLS(t, a, true)
	known := services.RedisTLS(t, a, false)
	_, port, _ := net.SplitHostPort(open)
	byName := "localhost:" + port // which is not in the certificate
	plain := services.RedisServer(t)
	expired, expiredKey := a.Expired("127.0.0.1")
	late := services.TLSBefore(t, plain.Addr(), expired, expiredKey, nil)
	fine, fineKey := a.Server("127.0.0.1")
	old := services.TLSBefore(t, plain.Addr(), fine, fineKey, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 })
	sentinel, master := services.RedisSentinelTLS(t, a)
	cluster := services.RedisClusterTLS(t, a)
	tried(t, []trial{
		{"with the authority that vouches for it", set("REDIS_URL=rediss://"+open, "REDIS_CA="+a.File), ""},
		{"by the system's authorities, which do not know it", set("REDIS_URL=rediss://:marked-secret@" + open), "unknown authority"},
		{"by another authority", set("REDIS_URL=rediss://"+open, "REDIS_CA="+other.File), "unknown authority"},
		{"unchecked", set("REDIS_URL=rediss://"+open, "REDIS_INSECURE=true"), ""},
		{"with a certificate for another host", set("REDIS_URL=rediss://"+byName, "REDIS_CA="+a.File), "localhost"},
		{"with a certificate whose time is over", set("REDIS_URL=rediss://"+late, "REDIS_CA="+a.File), "expired"},
		{"with TLS 1.1, unchecked even", set("REDIS_URL=rediss://"+old, "REDIS_INSECURE=true"), "protocol version"},
		{"with our certificate", set("REDIS_URL=rediss://"+known, "REDIS_CA="+a.File, "REDIS_CERT="+cert, "REDIS_KEY="+key), ""},
		{"without our certificate, which it wants", set("REDIS_URL=rediss://"+known, "REDIS_CA="+a.File), wantsOne},
		{"with a certificate of another authority", set("REDIS_URL=rediss://"+known, "REDIS_CA="+a.File, "REDIS_CERT="+strange, "REDIS_KEY="+strangeKey), knowsItNot},
		{"by a Sentinel", set("REDIS_URL=rediss+sentinel://"+master+"@"+sentinel, "REDIS_CA="+a.File, "REDIS_CERT="+cert, "REDIS_KEY="+key), ""},
		{"by a Sentinel of another authority", set("REDIS_URL=rediss+sentinel://"+master+"@"+sentinel, "REDIS_CA="+other.File, "REDIS_CERT="+cert, "REDIS_KEY="+key), "unknown authority"},
		{"as a cluster", set("REDIS_URL=rediss+cluster://"+cluster, "REDIS_CA="+a.File, "REDIS_CERT="+cert, "REDIS_KEY="+key), ""},
		{"as a cluster of another authority", set("REDIS_URL=rediss+cluster://"+cluster, "REDIS_CA="+other.File, "REDIS_CERT="+cert, "REDIS_KEY="+key), "unknown authority"},
	}, func(ctx context.Context, s Settings) error {
		secure, err := s.RedisTLS.Config()
		if err != nil {
			return err
		}
		rdb, err := ledger.Open(s.RedisURL.Reveal(), secure)
		if err != nil {
			return err
		}
		defer rdb.Close()
		return ledger.New(rdb, ledger.Options{Shards: s.Shards}).Check(ctx)
	})
}

func TestRabbitMQOverTLS(t *testing.T) {
	a, other := services.NewAuthority(t, "ours"), services.NewAuthority(t, "another")
	cert, key := a.Client("staffeln")
	strange, strangeKey := other.Client("staffeln")
	url := services.RabbitMQTLS(t, a)
	ours := []string{"AMQP_CA=" + a.File, "AMQP_CERT=" + cert, "AMQP_KEY=" + key}
	with := func(u string, more ...string) []string { return set(append(more, "AMQP_URLS="+u)...) }
	tried(t, []trial{
		{"with the authority that vouches for it, and our certificate", with(url, ours...), ""},
		{"unchecked, with our certificate", with(url, "AMQP_INSECURE=true", ours[1], ours[2]), ""},
		{"without our certificate, which it wants", with(url, "AMQP_CA="+a.File), wantsOne},
		{"with a certificate of another authority", with(url, "AMQP_CA="+a.File, "AMQP_CERT="+strange, "AMQP_KEY="+strangeKey), knowsItNot},
		{"by the system's authorities, which do not know it", with(url, ours[1], ours[2]), "unknown authority"},
		{"by another authority", with(url, "AMQP_CA="+other.File, ours[1], ours[2]), "unknown authority"},
		{"with a certificate for another host", with(strings.Replace(url, "127.0.0.1", "localhost", 1), ours...), "localhost"},
		{"with a wrong password", with(strings.Replace(url, ":staffeln-test@", ":marked-secret@", 1), ours...), "refuses the user name or password"},
	}, func(ctx context.Context, s Settings) error {
		secure, err := s.AMQPTLS.Config()
		if err != nil {
			return err
		}
		p, err := amqp.NewPublisher(s.AMQPURLs[0].Reveal(), secure)
		if err != nil {
			return err
		}
		defer p.Close()
		return p.DeclareAsOslo(ctx, "nova", "notifications")
	})

	t.Run("notifications are consumed over it, and a renewed certificate is used", func(t *testing.T) {
		mine := t.TempDir()
		copied := func(from, name string) string {
			content, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(mine+name, content, 0o600); err != nil {
				t.Fatal(err)
			}
			return mine + name
		}
		s, err := Read(append(with(url, "AMQP_CA="+a.File, "AMQP_CERT="+copied(cert, ".crt"), "AMQP_KEY="+copied(key, ".key")), credentials...))
		if err != nil {
			t.Fatal(err)
		}
		secure, err := s.AMQPTLS.Config()
		if err != nil {
			t.Fatal(err)
		}
		for _, renew := range []func(){func() {}, func() {
			newer, newerKey := a.Client("renewed")
			copied(newer, ".crt")
			copied(newerKey, ".key")
		}, func() { copied(strange, ".crt") }} { // the last one does not fit: the one before stays
			renew()
			connected := make(chan bool, 1)
			consumer, err := amqp.New(amqp.Config{URLs: []string{url}, TLS: secure, Exchanges: []string{"nova"}, Queue: "tls"},
				func(context.Context, events.Event) error { return nil }, func(string) bool { return true }, slog.New(slog.DiscardHandler),
				amqp.Hooks{Connected: func() { connected <- true }})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- consumer.Run(ctx) }()
			select {
			case <-connected:
			case <-time.After(20 * time.Second):
				t.Errorf("not connected: %+v", consumer.Healthy())
			}
			stop()
			<-done
		}
	})
}

// behindTLS serves a simulated cloud with a certificate, its catalogue included.
func behindTLS(t *testing.T, config *tls.Config) (auth string) {
	t.Helper()
	sim, err := simcloud.Start(simcloud.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	sim.Seed()
	inner, err := url.Parse(sim.AuthURL())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.TLS = config
	here := "https://" + server.Listener.Addr().String()
	server.Config.Handler = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: inner.Host}) },
		ModifyResponse: func(r *http.Response) error {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return err
			}
			body = bytes.ReplaceAll(body, []byte("http://"+inner.Host), []byte(here))
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			r.Header.Del("Content-Length")
			return nil
		},
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	return here + inner.Path
}

func TestOpenStackOverTLS(t *testing.T) {
	a, other := services.NewAuthority(t, "ours"), services.NewAuthority(t, "another")
	pair := func(cert, key string) []tls.Certificate {
		p, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{p}
	}
	fine := pair(a.Server("127.0.0.1"))
	open := behindTLS(t, &tls.Config{Certificates: fine})
	known := behindTLS(t, &tls.Config{Certificates: fine, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.Pool()})
	late := behindTLS(t, &tls.Config{Certificates: pair(a.Expired("127.0.0.1"))})
	old := behindTLS(t, &tls.Config{Certificates: fine, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	cert, key := a.Client("staffeln")
	_, otherKey := a.Client("staffeln")
	file := t.TempDir() + "/clouds.yaml"
	written := "clouds:\n  sim:\n    auth: {auth_url: '" + known + "', username: backup-svc, password: devcloud, project_name: service, user_domain_name: Default, project_domain_name: Default}\n" +
		"    region_name: RegionOne\n    cacert: " + a.File + "\n    cert: " + cert + "\n    key: " + key + "\n"
	if err := os.WriteFile(file, []byte(written), 0o600); err != nil {
		t.Fatal(err)
	}
	with := func(auth string, more ...string) []string {
		return append(more, "OS_AUTH_URL="+auth, "OS_USERNAME=backup-svc", "OS_PASSWORD=devcloud", "OS_USER_DOMAIN_NAME=Default",
			"OS_PROJECT_NAME=service", "OS_PROJECT_DOMAIN_NAME=Default", "OS_REGION_NAME=RegionOne")
	}
	for _, tc := range []trial{
		{"with the authority that vouches for it", with(open, "OS_CACERT="+a.File), ""},
		{"by the system's authorities, which do not know it", with(open), "unknown authority"},
		{"by another authority", with(open, "OS_CACERT="+other.File), "unknown authority"},
		{"unchecked", with(open, "OS_INSECURE=true"), ""},
		{"with a certificate for another host", with(strings.Replace(open, "127.0.0.1", "localhost", 1), "OS_CACERT="+a.File), "localhost"},
		{"with a certificate whose time is over", with(late, "OS_CACERT="+a.File), "expired"},
		{"with TLS 1.1, unchecked even", with(old, "OS_INSECURE=true"), "protocol version"},
		{"with our certificate", with(known, "OS_CACERT="+a.File, "OS_CERT="+cert, "OS_KEY="+key), ""},
		{"without our certificate, which it wants", with(known, "OS_CACERT="+a.File), wantsOne},
		{"with all of it in clouds.yaml", []string{"OS_CLOUD=sim", "OS_CLIENT_CONFIG_FILE=" + file}, ""},
		{"with a file that is not there", with(open, "OS_CACERT=/nowhere/ca.pem"), "OS_CACERT: open /nowhere/ca.pem: no such file"},
		{"with a file without a certificate", with(open, "OS_CACERT="+key), "OS_CACERT: no certificate in"},
		{"with a key that does not fit", with(open, "OS_CERT="+cert, "OS_KEY="+otherKey), "OS_CERT and OS_KEY: tls: private key does not match public key"},
		{"with a key alone", with(open, "OS_KEY="+key), "one is set without the other"},
	} {
		t.Run(tc.sentence, func(t *testing.T) {
			s, err := Read(tc.settings)
			if err == nil {
				o := New(s, slog.New(slog.DiscardHandler)).cloudOptions()
				o.Rights = openstack.Auto
				_, err = openstack.Connect(t.Context(), o)
			}
			if tc.refused == "" && err != nil || tc.refused != "" && !says(err, tc.refused) {
				t.Errorf("want %q, not %v", tc.refused, err)
			}
		})
	}
}

func TestResendAndGatewaysOverTLS(t *testing.T) {
	a, other := services.NewAuthority(t, "ours"), services.NewAuthority(t, "another")
	cert, key := a.Client("staffeln")
	fine, err := tls.LoadX509KeyPair(a.Server("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	serve := func(config *tls.Config) string {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"id": "1"}`)
		}))
		server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
		server.TLS = config
		server.StartTLS()
		t.Cleanup(server.Close)
		return server.URL
	}
	open := serve(&tls.Config{Certificates: []tls.Certificate{fine}})
	known := serve(&tls.Config{Certificates: []tls.Certificate{fine}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.Pool()})

	letter := set("MAIL_CHANNELS=resend", "MAIL_FROM=a@example.org", "RESEND_API_KEY=marked-secret", "RESEND_URL="+open)
	tried(t, []trial{
		{"Resend with the authority that vouches for it", append(set("RESEND_CA="+a.File), letter...), ""},
		{"Resend by the system's authorities", letter, "unknown authority"},
		{"Resend by another authority", append(set("RESEND_CA="+other.File), letter...), "unknown authority"},
	}, func(ctx context.Context, s Settings) error {
		return New(s, slog.New(slog.DiscardHandler)).Mailer().Send(ctx, backup.Letter{Key: "k", To: []backup.Person{{Address: "b@example.org"}}, Subject: "s", Text: "t"})
	})

	at := func(u string, more ...string) []string { return set(append(more, "FUNCTION_URL="+u+"/{function}")...) }
	tried(t, []trial{
		{"a gateway with the authority that vouches for it", at(open, "FUNCTION_CA="+a.File), ""},
		{"a gateway by the system's authorities", at(open), "unknown authority"},
		{"a gateway by another authority", at(open, "FUNCTION_CA="+other.File), "unknown authority"},
		{"a gateway unchecked", at(open, "FUNCTION_INSECURE=true"), ""},
		{"a gateway with our certificate", at(known, "FUNCTION_CA="+a.File, "FUNCTION_CERT="+cert, "FUNCTION_KEY="+key), ""},
		{"a gateway without our certificate, which it wants", at(known, "FUNCTION_CA="+a.File), wantsOne},
		{"a gateway for another host", at(strings.Replace(open, "127.0.0.1", "localhost", 1), "FUNCTION_CA="+a.File), "localhost"},
	}, func(ctx context.Context, s Settings) error {
		secure, err := s.FunctionTLS.Config()
		if err != nil {
			return err
		}
		client := &cloudevents.Client{Base: s.FunctionURL.Reveal(), HTTP: cloudevents.HTTP(secure)}
		return client.Invoke(ctx, "enroll", events.Event{ID: "1", Type: "tick.enroll", At: time.Now()})
	})
}

// Both addresses are served with TLS. Where callers need a certificate, health alone is
// told to those without: an orchestrator has none.
func TestServedOverTLS(t *testing.T) {
	a, other := services.NewAuthority(t, "ours"), services.NewAuthority(t, "another")
	cert, key := a.Server("127.0.0.1")
	client := func(by *services.Authority) []tls.Certificate {
		p, err := tls.LoadX509KeyPair(by.Client("cinder"))
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{p}
	}
	listen, metrics := services.Address(t), services.Address(t)
	s, err := Read(append(set("LISTEN="+listen, "TLS_CERT="+cert, "TLS_KEY="+key, "TLS_CLIENT_CA="+a.File,
		"METRICS_LISTEN="+metrics, "METRICS_CERT="+cert, "METRICS_KEY="+key, "METRICS_CLIENT_CA="+a.File, "DRAIN_TIMEOUT=1s"), credentials...))
	if err != nil {
		t.Fatal(err)
	}
	h := New(s, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- h.serve(ctx) }()
	go func() { ended <- h.serveMetrics(ctx) }()
	defer func() {
		stop()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}()
	get := func(address string, config *tls.Config) (int, string) {
		transport := &http.Transport{TLSClientConfig: config}
		defer transport.CloseIdleConnections()
		for {
			res, err := (&http.Client{Transport: transport}).Get("https://" + address)
			if err != nil && strings.Contains(err.Error(), "connection refused") {
				continue // it is only coming up
			}
			if err != nil {
				return 0, err.Error()
			}
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			return res.StatusCode, string(body)
		}
	}
	pool := a.Pool()
	for _, tc := range []struct {
		sentence, address string
		config            *tls.Config
		status            int
		said              string
	}{
		{"health, without a certificate", listen + "/healthz", &tls.Config{RootCAs: pool}, 200, "ok"},
		{"readiness, without a certificate", listen + "/readyz", &tls.Config{RootCAs: pool}, 503, "starting"},
		{"the policy check, without a certificate", listen + "/v1/backup", &tls.Config{RootCAs: pool}, 403, "a client certificate is needed"},
		{"nor is a way to health around it", listen + "/healthz/../v1/backup", &tls.Config{RootCAs: pool}, 403, "certificate"},
		{"the policy check, with one", listen + "/v1/backup", &tls.Config{RootCAs: pool, Certificates: client(a)}, 405, ""},
		{"the policy check, with one of another authority, which is not even sent", listen + "/v1/backup", &tls.Config{RootCAs: pool, Certificates: client(other)}, 403, "certificate"},
		{"nor health, if it is sent", listen + "/healthz", &tls.Config{RootCAs: pool, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &client(other)[0], nil
		}}, 0, knowsItNot},
		{"health, with TLS 1.1", listen + "/healthz", &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, 0, "protocol version"},
		{"metrics, with a certificate", metrics + "/metrics", &tls.Config{RootCAs: pool, Certificates: client(a)}, 200, "staffeln_"},
		{"metrics, without one", metrics + "/metrics", &tls.Config{RootCAs: pool}, 0, wantsOne},
	} {
		status, said := get(tc.address, tc.config)
		if status != tc.status || !says(errors.New(said), tc.said) {
			t.Errorf("%s: %d %q, want %d %q", tc.sentence, status, said, tc.status, tc.said)
		}
	}
	res, err := http.Get("http://" + listen + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 400 {
		t.Errorf("without TLS: %d", res.StatusCode)
	}
}

// A certificate is renewed by writing its files; what cannot be used is told, and the
// old one stays.
func TestAServedCertificateIsRenewed(t *testing.T) {
	a := services.NewAuthority(t, "ours")
	cert, key := a.Server("127.0.0.1")
	s, err := Read(append(set("TLS_CERT="+cert, "TLS_KEY="+key), credentials...))
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	first, err := s.ListenTLS.Config()
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	r := &renewal{read: s.ListenTLS.Config, files: []string{cert, key}, log: slog.New(slog.NewTextHandler(&said, nil)), now: first, looked: at}
	r.seen = r.stamp()
	leaf := func(c *tls.Config) string {
		parsed, err := x509.ParseCertificate(c.Certificates[0].Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return parsed.SerialNumber.String()
	}
	before := leaf(first)
	newer, newerKey := a.Server("127.0.0.1")
	move := func(from, to string) {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	move(newer, cert) // without its key yet
	if at = at.Add(renewalLook); leaf(r.config(at)) != before || !strings.Contains(said.String(), "the old one stays") {
		t.Errorf("half of it is there: %s", said.String())
	}
	move(newerKey, key)
	if got := leaf(r.config(at.Add(renewalLook - 1))); got != before {
		t.Error("the files are looked at too often")
	}
	if at = at.Add(renewalLook); leaf(r.config(at)) == before || !strings.Contains(said.String(), "certificate renewed") {
		t.Errorf("it was not renewed: %s", said.String())
	}
}
