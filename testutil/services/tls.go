package services

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// An Authority vouches for the certificates of a test.
type Authority struct {
	// File has its own certificate, in PEM.
	File string

	tb   testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes one.
func NewAuthority(tb testing.TB, name string) *Authority {
	tb.Helper()
	a := &Authority{tb: tb}
	var der []byte
	a.cert, a.key, der = issue(tb, nil, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	})
	a.File = writePEM(tb, "ca.pem", "CERTIFICATE", der)
	return a
}

// Pool has the authority's certificate.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// Server makes a server's certificate for hosts, names and addresses, and its key, in files.
func (a *Authority) Server(hosts ...string) (cert, key string) {
	return a.leaf(time.Now().Add(24*time.Hour), x509.ExtKeyUsageServerAuth, hosts)
}

// Expired is [Authority.Server] with one whose time was over an hour ago.
func (a *Authority) Expired(hosts ...string) (cert, key string) {
	return a.leaf(time.Now().Add(-time.Hour), x509.ExtKeyUsageServerAuth, hosts)
}

// Client makes a client's certificate and its key, in files.
func (a *Authority) Client(name string) (cert, key string) {
	return a.leaf(time.Now().Add(24*time.Hour), x509.ExtKeyUsageClientAuth, []string{name})
}

func (a *Authority) leaf(end time.Time, usage x509.ExtKeyUsage, hosts []string) (cert, key string) {
	a.tb.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: hosts[0]}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: end,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	_, private, der := issue(a.tb, a, template)
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.tb.Fatal(err)
	}
	return writePEM(a.tb, "cert.pem", "CERTIFICATE", der), writePEM(a.tb, "key.pem", "PRIVATE KEY", encoded)
}

// issue makes a key and a certificate for it, by the authority or by itself.
func issue(tb testing.TB, by *Authority, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey, []byte) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		tb.Fatal(err)
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert, key, der
}

func writePEM(tb testing.TB, name, kind string, der []byte) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// RedisTLS starts a Redis for this test alone that also speaks TLS, with a certificate
// for 127.0.0.1 of the authority's, and returns HOST:PORT of that. Callers have to show
// a certificate of the authority's, which is Redis' own default, unless open.
func RedisTLS(tb testing.TB, a *Authority, open bool) (address string) {
	tb.Helper()
	_, address = redisTLS(tb, a, open)
	return address
}

func redisTLS(tb testing.TB, a *Authority, open bool, more ...string) (p *RedisProcess, address string) {
	tb.Helper()
	cert, key := a.Server("127.0.0.1")
	free, err := ports(1)
	if err != nil {
		tb.Fatal(err)
	}
	clients := "yes"
	if open {
		clients = "no"
	}
	p, err = startRedis(tb.TempDir(), append(
		[]string{"--tls-port", strconv.Itoa(free[0]), "--tls-cert-file", cert, "--tls-key-file", key,
			"--tls-ca-cert-file", a.File, "--tls-auth-clients", clients}, more...)...)
	if err != nil {
		tb.Fatal(err)
	}
	p.tb = tb
	tb.Cleanup(p.kill)
	return p, net.JoinHostPort("127.0.0.1", strconv.Itoa(free[0]))
}

// RedisSentinelTLS starts a Redis and a Sentinel that watches it, for this test alone,
// both with TLS as [RedisTLS] and with callers' certificates, and says under which
// address and name the Sentinel knows it.
func RedisSentinelTLS(tb testing.TB, a *Authority) (sentinel, master string) {
	tb.Helper()
	cert, key := a.Server("127.0.0.1")
	files := []string{"tls-cert-file " + cert, "tls-key-file " + key, "tls-ca-cert-file " + a.File, "tls-replication yes"}
	_, redis := redisTLS(tb, a, false, "--tls-replication", "yes")
	free, err := ports(2)
	if err != nil {
		tb.Fatal(err)
	}
	const name = "mymaster"
	host, port, _ := net.SplitHostPort(redis)
	// A Sentinel asks with its own certificate, and Redis looks at what it is for.
	client, clientKey := a.Client("sentinel")
	conf := fmt.Sprintf("bind 127.0.0.1\nport %d\ntls-port %d\n%s\ntls-client-cert-file %s\ntls-client-key-file "+
		"%s\nsentinel monitor %s %s %s 1\n",
		free[0], free[1], strings.Join(files, "\n"), client, clientKey, name, host, port)
	file := filepath.Join(tb.TempDir(), "sentinel.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		tb.Fatal(err)
	}
	p := &RedisProcess{tb: tb, addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(free[0])),
		args: []string{file, "--sentinel"}}
	if err := p.start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.kill)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(free[1])), name
}

// RedisClusterTLS starts a Redis Cluster of one master, for this test alone, that speaks
// TLS as [RedisTLS] does, and tells callers its TLS port.
func RedisClusterTLS(tb testing.TB, a *Authority) (address string) {
	tb.Helper()
	free, err := ports(1)
	if err != nil {
		tb.Fatal(err)
	}
	cert, key := a.Client("node")
	p, address := redisTLS(tb, a, false, "--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1",
		"--cluster-port", strconv.Itoa(free[0]), "--tls-cluster", "yes",
		"--tls-client-cert-file", cert, "--tls-client-key-file", key)
	rdb := p.Client()
	ctx, cancel := context.WithTimeout(tb.Context(), redisStart)
	defer cancel()
	if err := rdb.ClusterAddSlotsRange(ctx, 0, 16383).Err(); err != nil {
		tb.Fatal(err)
	}
	for {
		info, err := rdb.ClusterInfo(ctx).Result()
		if err == nil && strings.Contains(info, "cluster_state:ok") {
			return address
		}
		select {
		case <-ctx.Done():
			tb.Fatalf("the cluster does not come up: %s", info)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// RabbitMQTLS starts a broker for this test alone that also speaks TLS, with a
// certificate for 127.0.0.1 of the authority's, to those who show one of its, and returns
// an amqps URL. It takes about 7 s.
func RabbitMQTLS(tb testing.TB, a *Authority) (url string) {
	tb.Helper()
	b := &Broker{
		server: binary(tb, "rabbitmq-server", "/usr/lib/rabbitmq/bin/rabbitmq-server"),
		ctl:    binary(tb, "rabbitmq-server", "/usr/lib/rabbitmq/bin/rabbitmqctl"),
		epmd:   binary(tb, "rabbitmq-server", "epmd"),
	}
	if err := b.prepare(); err != nil {
		tb.Fatalf("rabbitmq: %v", err)
	}
	cert, key := a.Server("127.0.0.1")
	free, err := ports(1)
	if err != nil {
		tb.Fatal(err)
	}
	conf, err := os.OpenFile(filepath.Join(b.dir, "rabbitmq.conf"), os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	_, err = fmt.Fprintf(conf, "listeners.ssl.1 = 127.0.0.1:%d\nssl_options.cacertfile = %s\nssl_options.certfile "+
		"= %s\nssl_options.keyfile = %s\n"+
		"ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n", free[0], a.File, cert, key)
	if cerr := conf.Close(); err != nil || cerr != nil {
		tb.Fatal(err, cerr)
	}
	if err := b.start(); err != nil {
		tb.Fatalf("rabbitmq: %v", err)
	}
	tb.Cleanup(func() {
		b.stop()
		_ = b.epmdCmd.Process.Kill()
		_ = os.RemoveAll(b.dir)
	})
	return fmt.Sprintf("amqps://%s:%s@127.0.0.1:%d/", brokerUser, brokerUser, free[0])
}

// TLSBefore answers at an address of 127.0.0.1 with TLS and passes on what comes to
// another one, which is without; change may say how.
func TLSBefore(tb testing.TB, to string, cert, key string, change func(*tls.Config)) (address string) {
	tb.Helper()
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		tb.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}}
	if change != nil {
		change(config)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				if in.(*tls.Conn).Handshake() != nil {
					return
				}
				out, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer out.Close()
				var both sync.WaitGroup
				for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
					both.Go(func() {
						_, _ = io.Copy(pair[0], pair[1])
						in.Close()
						out.Close()
					})
				}
				both.Wait()
			}()
		}
	}()
	return l.Addr().String()
}
