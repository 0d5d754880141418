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

// A TLSClient says how TLS is talked to a server. Where all is zero, the system's
// authorities count. The comments are for docs/settings.md.
type TLSClient struct {
	// A file with the authorities to trust, in place of the system's.
	CA string `env:"CA" unit:"path of a PEM file"`
	// The certificate to show to a server that asks for one. It is read again when it changes.
	Cert string `env:"CERT" unit:"path of a PEM file"`
	// The key of that certificate.
	Key string `env:"KEY" unit:"path of a PEM file"`
	// Whether the server's certificate is accepted unchecked.
	Insecure bool `env:"INSECURE" envDefault:"false" unit:"true or false"`
}

// Config returns it as package tls knows it, of at least TLS 1.2; nil where all
// is as the system has it. The files of the own certificate are read again at each
// handshake, so that it can be renewed without a restart.
func (c TLSClient) Config() (*tls.Config, error) {
	if c == (TLSClient{}) {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.Insecure}
	var err error
	if c.CA != "" {
		if t.RootCAs, err = authorities(c.CA); err != nil {
			return nil, about{"CA", err}
		}
	}
	if c.Cert == "" && c.Key == "" {
		return t, nil
	}
	pair, err := keyPair(c.Cert, c.Key)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		if newer, err := keyPair(c.Cert, c.Key); err == nil { // else only one of the two may be there yet
			pair = newer
		}
		return pair, nil
	}
	return t, nil
}

// A TLSServer says how an address is served with TLS; where all is zero, it is served
// without. The comments are for docs/settings.md.
type TLSServer struct {
	// The certificate to serve with, followed by its intermediate certificates. Empty is no
	// TLS. It is read again when it changes.
	Cert string `env:"CERT" unit:"path of a PEM file"`
	// The key of that certificate.
	Key string `env:"KEY" unit:"path of a PEM file"`
	// A file with the authorities of callers. A caller without a certificate of theirs is
	// refused; only health and readiness are answered to everybody.
	ClientCA string `env:"CLIENT_CA" unit:"path of a PEM file"`
}

// Config returns it as package tls knows it; nil is without TLS. With a ClientCA, a
// certificate that is shown is verified. A caller that shows none must be refused by
// whoever serves, because health and readiness are for everybody.
func (s TLSServer) Config() (*tls.Config, error) {
	if s == (TLSServer{}) {
		return nil, nil
	}
	if s.Cert == "" && s.Key == "" {
		return nil, about{"CLIENT_CA", errors.New("_CERT and _KEY, too: without them there is no TLS")}
	}
	pair, err := keyPair(s.Cert, s.Key)
	if err != nil {
		return nil, err
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*pair}}
	if s.ClientCA != "" {
		if t.ClientCAs, err = authorities(s.ClientCA); err != nil {
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

// ResendTLS is how TLS is talked to Resend. It cannot leave certificates unchecked: the key
// of the account would go to anybody.
func (c Config) ResendTLS() TLSClient { return TLSClient{CA: c.ResendCA} }

// checkTLS is about the files of TLS, and whether there is TLS at all where they are
// set.
func (l *loader) checkTLS(c Config) {
	for _, of := range []struct {
		thing   string
		with    TLSClient
		address string // the setting that says whether there is TLS
		plain   bool   // it says that there is none
	}{
		{"REDIS", c.RedisTLS, "REDIS_URL=rediss://...", plain([]URL{c.RedisURL}, "rediss")},
		{"AMQP", c.AMQPTLS, "AMQP_URLS=amqps://...", plain(c.AMQPURLs, "amqps")},
		{"SMTP", c.SMTPTLS, "SMTP_TLS=starttls or tls", c.SMTPSecurity == "none"},
		{"RESEND", c.ResendTLS(), "RESEND_URL=https://...", plain([]URL{c.ResendURL}, "https")},
		{"FUNCTION", c.FunctionTLS, "FUNCTION_URL=https://...", plain([]URL{c.FunctionURL}, "https")},
	} {
		_, err := of.with.Config()
		l.aboutFile(of.thing, err)
		if of.with.Insecure && of.with.CA != "" {
			l.about(of.thing+"_INSECURE", "want "+Prefix+of.thing+
				"_CA or this one: nothing is held against the authorities if certificates go unchecked")
		}
		if !of.plain {
			continue
		}
		for key, given := range map[string]bool{
			"_CA": of.with.CA != "", "_CERT": of.with.Cert != "", "_KEY": of.with.Key != "", "_INSECURE": of.with.Insecure,
		} {
			if given && l.sound(of.thing+key) {
				l.about(of.thing+key, "want "+Prefix+of.address+", too: as it is, there is no TLS")
			}
		}
	}
	for thing, with := range map[string]TLSServer{"TLS": c.ListenTLS, "METRICS": c.MetricsTLS} {
		_, err := with.Config()
		l.aboutFile(thing, err)
	}
	if c.MetricsListen == Off && c.MetricsTLS != (TLSServer{}) && l.sound("METRICS_CERT") {
		l.about("METRICS_CERT", "want "+Prefix+"METRICS_LISTEN, too: it is off")
	}
}

func (l *loader) aboutFile(thing string, err error) {
	if e, ok := errors.AsType[about](err); ok {
		// The error may hold a path from the environment. Names of other settings are short in it.
		words := strings.NewReplacer("_CERT", Prefix+thing+"_CERT", "_KEY", Prefix+thing+"_KEY").Replace(fmt.Sprintf("%.300s", e.Error()))
		l.about(thing+"_"+e.key, "want "+words)
	}
}

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
