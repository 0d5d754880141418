package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
)

// A connection says how TLS is talked to a server: the settings STAFFELN_<THING>_CA,
// _CERT, _KEY and _INSECURE. Where all are zero, the system's authorities count.
type connection struct {
	// ca is a file with the certificates of the authorities to trust, "" for the system's.
	ca string
	// cert and key are files with what we show who asks for it; "" for nothing.
	cert, key string
	// insecure leaves the server's certificate unchecked.
	insecure bool
}

// tls is the connection as package tls knows it, of at least TLS 1.2; nil where all
// is as the system has it. The files of the own certificate are read again at each
// handshake, so that it can be renewed without a restart.
func (c connection) tls() (*tls.Config, error) {
	if c == (connection{}) {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.insecure}
	var err error
	if c.ca != "" {
		if t.RootCAs, err = authorities(c.ca); err != nil {
			return nil, about{"CA", err}
		}
	}
	if c.cert == "" && c.key == "" {
		return t, nil
	}
	pair, err := keyPair(c.cert, c.key)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		if newer, err := keyPair(c.cert, c.key); err == nil { // else only one of the two may be there yet
			pair = newer
		}
		return pair, nil
	}
	return t, nil
}

// A served says how an address is served with TLS: the settings _CERT, _KEY and
// _CLIENT_CA. It is served without where all are "".
type served struct {
	cert, key string
	// clientCA is a file with the authorities of those who may ask, "" for everybody.
	clientCA string
}

// tls is the same as package tls knows it; nil for without TLS.
func (s served) tls() (*tls.Config, error) {
	if s == (served{}) {
		return nil, nil
	}
	if s.cert == "" && s.key == "" {
		return nil, about{"CLIENT_CA", errors.New("_CERT and _KEY, too: without them there is no TLS")}
	}
	pair, err := keyPair(s.cert, s.key)
	if err != nil {
		return nil, err
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*pair}}
	if s.clientCA != "" {
		if t.ClientCAs, err = authorities(s.clientCA); err != nil {
			return nil, about{"CLIENT_CA", err}
		}
		t.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return t, nil
}

// about is an error of one of the settings of a thing, by the end of its name.
type about struct {
	key string
	err error
}

func (a about) Error() string { return a.err.Error() }
func (a about) Unwrap() error { return a.err }

// authorities reads certificates in PEM.
func authorities(path string) (*x509.CertPool, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("a file that can be read: %w", err)
	}
	pool := x509.NewCertPool()
	if pool.AppendCertsFromPEM(content) {
		return pool, nil
	}
	if block, _ := pem.Decode(content); block != nil && block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("a file of certificates in PEM: there is none in it, but a %.40s", strings.ToLower(block.Type))
	}
	return nil, errors.New("a file of certificates in PEM: there is none in it")
}

// keyPair reads a certificate, with those that vouch for it behind it, and its key.
func keyPair(cert, key string) (*tls.Certificate, error) {
	switch {
	case cert == "":
		return nil, about{"CERT", errors.New("the certificate of _KEY, too, or neither")}
	case key == "":
		return nil, about{"KEY", errors.New("the key of _CERT, too, or neither")}
	}
	content, err := os.ReadFile(cert)
	if err != nil {
		return nil, about{"CERT", fmt.Errorf("a file that can be read: %w", err)}
	}
	secret, err := os.ReadFile(key)
	if err != nil {
		return nil, about{"KEY", fmt.Errorf("a file that can be read: %w", err)}
	}
	if !holds(content, func(b string) bool { return b == "CERTIFICATE" }) {
		return nil, about{"CERT", errors.New("a certificate in PEM: there is none in the file")}
	}
	if !holds(secret, func(b string) bool { return strings.HasSuffix(b, "PRIVATE KEY") }) {
		return nil, about{"KEY", errors.New("a private key in PEM: there is none in the file")}
	}
	if holds(secret, func(b string) bool { return b == "ENCRYPTED PRIVATE KEY" }) {
		return nil, about{"KEY", errors.New("a private key without a passphrase: this one is encrypted")}
	}
	pair, err := tls.X509KeyPair(content, secret)
	if err != nil {
		// Of a key that does not fit, package tls says "private key does not match public key".
		return nil, about{"KEY", fmt.Errorf("the key of the certificate in _CERT: %w", err)}
	}
	return &pair, nil
}

// holds says whether there is a PEM block of such a type.
func holds(content []byte, fits func(blockType string) bool) bool {
	for {
		block, rest := pem.Decode(content)
		if block == nil {
			return false
		}
		if fits(block.Type) {
			return true
		}
		content = rest
	}
}

func (c Config) redis() connection {
	return connection{c.RedisCA, c.RedisCert, c.RedisKey, c.RedisInsecure}
}

func (c Config) amqp() connection {
	return connection{c.AMQPCA, c.AMQPCert, c.AMQPKey, c.AMQPInsecure}
}

func (c Config) smtp() connection {
	return connection{c.SMTPCA, c.SMTPCert, c.SMTPKey, c.SMTPInsecure}
}

func (c Config) function() connection {
	return connection{c.FunctionCA, c.FunctionCert, c.FunctionKey, c.FunctionInsecure}
}

func (c Config) listen() served  { return served{c.TLSCert, c.TLSKey, c.TLSClientCA} }
func (c Config) metrics() served { return served{c.MetricsCert, c.MetricsKey, c.MetricsClientCA} }

// RedisTLS is how TLS is talked to Redis and its Sentinels, for a rediss:// URL; nil
// for the system's way.
func (c Config) RedisTLS() (*tls.Config, error) { return c.redis().tls() }

// AMQPTLS is how TLS is talked to the brokers, for amqps:// URLs; nil for the
// system's way.
func (c Config) AMQPTLS() (*tls.Config, error) { return c.amqp().tls() }

// SMTPTLS is how TLS is talked to the mail server; nil for the system's way.
func (c Config) SMTPTLS() (*tls.Config, error) { return c.smtp().tls() }

// ResendTLS is how TLS is talked to Resend's API; nil for the system's way. It has no
// way to leave certificates unchecked: the key of the account would go to anybody.
func (c Config) ResendTLS() (*tls.Config, error) { return connection{ca: c.ResendCA}.tls() }

// FunctionTLS is how TLS is talked to FUNCTION_URL; nil for the system's way.
func (c Config) FunctionTLS() (*tls.Config, error) { return c.function().tls() }

// ListenTLS is what LISTEN is served with; nil for without TLS. With TLS_CLIENT_CA a
// certificate that is shown is verified; who shows none is for whoever serves to
// refuse, since health is for everybody.
func (c Config) ListenTLS() (*tls.Config, error) { return c.listen().tls() }

// MetricsTLS is what METRICS_LISTEN is served with; nil for without TLS. With
// METRICS_CLIENT_CA who shows no certificate is refused.
func (c Config) MetricsTLS() (*tls.Config, error) {
	t, err := c.metrics().tls()
	if t != nil && t.ClientCAs != nil {
		t.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return t, err
}

// checkTLS is about the files of TLS, and whether there is TLS at all where they are
// set.
func (l *loader) checkTLS(c Config) {
	for _, of := range []struct {
		thing   string
		with    connection
		address string // the setting that says whether there is TLS
		plain   bool   // it says that there is none
	}{
		{"REDIS", c.redis(), "REDIS_URL=rediss://...", plain([]URL{c.RedisURL}, "rediss")},
		{"AMQP", c.amqp(), "AMQP_URLS=amqps://...", plain(c.AMQPURLs, "amqps")},
		{"SMTP", c.smtp(), "SMTP_TLS=starttls or tls", c.SMTPSecurity == "none"},
		{"RESEND", connection{ca: c.ResendCA}, "RESEND_URL=https://...", plain([]URL{c.ResendURL}, "https")},
		{"FUNCTION", c.function(), "FUNCTION_URL=https://...", plain([]URL{c.FunctionURL}, "https")},
	} {
		_, err := of.with.tls()
		l.aboutFile(of.thing, err)
		if of.with.insecure && of.with.ca != "" {
			l.about(of.thing+"_INSECURE", "want "+Prefix+of.thing+"_CA or this one: nothing is held against the authorities if certificates go unchecked")
		}
		if !of.plain {
			continue
		}
		for key, given := range map[string]bool{"_CA": of.with.ca != "", "_CERT": of.with.cert != "", "_KEY": of.with.key != "", "_INSECURE": of.with.insecure} {
			if given && l.sound(of.thing+key) {
				l.about(of.thing+key, "want "+Prefix+of.address+", too: as it is, there is no TLS")
			}
		}
	}
	for thing, with := range map[string]served{"TLS": c.listen(), "METRICS": c.metrics()} {
		_, err := with.tls()
		l.aboutFile(thing, err)
	}
	if c.MetricsListen == Off && c.metrics() != (served{}) && l.sound("METRICS_CERT") {
		l.about("METRICS_CERT", "want "+Prefix+"METRICS_LISTEN, too: it is off")
	}
}

func (l *loader) aboutFile(thing string, err error) {
	if e, ok := errors.AsType[about](err); ok {
		// Names of other settings are short where they are made.
		words := strings.NewReplacer("_CERT", Prefix+thing+"_CERT", "_KEY", Prefix+thing+"_KEY").Replace(shortened(e.Error()))
		l.about(thing+"_"+e.key, "want "+words)
	}
}

// shortened bounds an error that may hold a path from the environment.
func shortened(s string) string { return fmt.Sprintf("%.300s", s) }

// plain says that addresses are set and none of them is TLS's.
func plain(urls []URL, secure string) bool {
	urls = slices.DeleteFunc(slices.Clone(urls), func(u URL) bool { return u == "" })
	return len(urls) > 0 && !slices.ContainsFunc(urls, func(u URL) bool {
		scheme, _, _ := strings.Cut(u.Reveal(), "://")
		if p, err := url.Parse(scheme + "://h"); err == nil {
			scheme = p.Scheme // in lower case
		}
		scheme, _, _ = strings.Cut(scheme, "+")
		return scheme == secure
	})
}
