package mail

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"staffeln/functions/backup"
	"staffeln/testutil/services"
)

func letter(to ...string) backup.Letter {
	l := backup.Letter{Key: "alpha@20261122T060000Z", At: time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC),
		Subject: "alpha: 2 of 3 backups failed", HTML: "<p>Grüße, 2 of 3</p>", Text: "Grüße, 2 of 3\n", List: "1176721179d74e6b9f16b23e2bb580a3"}
	for _, a := range to {
		l.To = append(l.To, backup.Person{Name: "Ada", Address: a})
	}
	return l
}

// certificate makes one for 127.0.0.1, in files.
func certificate(t *testing.T) (cert, key string, trust *tls.Config) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return cert, key, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

func channel(s *services.SMTPServer) SMTP {
	return SMTP{Sender: Sender{From: "Backups <backup@example.org>", ReplyTo: "help@example.org"}, Host: "127.0.0.1", Port: s.Port, Security: "none", Timeout: 20 * time.Second}
}

func post(c ...Channel) *Post {
	return &Post{Channels: c, Log: slog.New(slog.DiscardHandler), Count: func(string, float64, ...string) {}}
}

func TestWhatArrives(t *testing.T) {
	server := services.SMTP(t)
	l := letter("ada@example.org")
	if err := post(channel(server)).Send(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	m := server.Taken(t, 1)[0]
	if m.From != "backup@example.org" || !slices.Equal(m.To, []string{"ada@example.org"}) {
		t.Errorf("envelope %s -> %s", m.From, m.To)
	}
	for name, want := range map[string]string{
		"From": `"Backups" <backup@example.org>`, "To": `"Ada" <ada@example.org>`, "Reply-To": "<help@example.org>", "Subject": "alpha: 2 of 3 backups failed",
		"Date": "Sun, 22 Nov 2026 06:00:00 +0000", "Auto-Submitted": "auto-generated", "X-Auto-Response-Suppress": "All",
		"List-Id": "<1176721179d74e6b9f16b23e2bb580a3.backups.example.org>", "Mime-Version": "1.0",
		"Message-Id": "<" + fingerprint(l.Key) + "@example.org>",
	} {
		if got := m.Header(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if text, html := parts(t, m.Data); text != "Grüße, 2 of 3" || html != "<p>Grüße, 2 of 3</p>" {
		t.Errorf("text %q, html %q", text, html)
	}
	for line := range strings.SplitSeq(strings.ReplaceAll(m.Data, "\r\n", "\n"), "\n") {
		if len(line) > 998 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}

// parts are the two alternatives of a message.
func parts(t *testing.T, data string) (text, html string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	kind, parameters, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("%s: %v", kind, err)
	}
	for r := multipart.NewReader(m.Body, parameters["boundary"]); ; {
		p, err := r.NextRawPart()
		if err == io.EOF {
			return text, html
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(quotedprintable.NewReader(p))
		if err != nil {
			t.Fatal(err)
		}
		said := strings.TrimSpace(string(body))
		if strings.HasPrefix(p.Header.Get("Content-Type"), "text/html") {
			html = said
		} else {
			text = said
		}
	}
}

func TestEncryptionAndLogin(t *testing.T) {
	cert, key, trust := certificate(t)
	for _, security := range []string{"none", "starttls", "tls"} {
		for _, login := range []bool{false, true} {
			arguments := []string{"--tls", security}
			if security != "none" {
				arguments = append(arguments, "--cert", cert, "--key", key)
			}
			if login {
				arguments = append(arguments, "--user", "staffeln", "--password", "s3cret-word")
			}
			server := services.SMTP(t, arguments...)
			c := channel(server)
			c.Security, c.TLS = security, trust
			if login {
				c.User, c.Password = "staffeln", "s3cret-word"
			}
			if err := c.Send(t.Context(), letter("ada@example.org")); err != nil {
				t.Errorf("%s, login %t: %v", security, login, err)
				continue
			}
			if m := server.Taken(t, 1)[0]; m.TLS != (security != "none") || m.Login != login {
				t.Errorf("%s, login %t: came with TLS %t, login %t", security, login, m.TLS, m.Login)
			}
			if security == "none" && login {
				c.Password = "another-word"
				err := c.Send(t.Context(), letter("ada@example.org"))
				if err == nil || strings.Contains(err.Error(), "another-word") {
					t.Errorf("a wrong password: %v", err)
				}
			}
			if security != "none" && !login {
				c.TLS, c.Timeout = nil, time.Second // the server waits for a better handshake
				if err := c.Send(t.Context(), letter("ada@example.org")); err == nil || as(err).Permanent {
					t.Errorf("%s: a certificate that nobody vouches for: %v", security, err)
				}
			}
		}
	}
	// A server without STARTTLS is not told anything in the clear that was to be secret.
	c := channel(services.SMTP(t))
	c.Security = "starttls"
	if err := c.Send(t.Context(), letter("ada@example.org")); err == nil {
		t.Error("went out unencrypted")
	}
}

func TestOneOfTenIsRefused(t *testing.T) {
	var all []string
	for _, name := range strings.Fields("a b c d e f g h i j") {
		all = append(all, name+"@example.org")
	}
	server := services.SMTP(t, "--refuse", "d@example.org")
	err := post(channel(server)).Send(t.Context(), letter(all...))
	told := as(err)
	if err == nil || !told.Sent || told.Permanent || len(told.Told) != 9 || len(told.Refused) != 1 || !strings.Contains(told.Refused["d@example.org"], "no such user") {
		t.Fatalf("%+v", told)
	}
	got := map[string]int{}
	for _, m := range server.Taken(t, 9) {
		for _, a := range m.To {
			got[a]++
		}
		if m.Header("To") != "undisclosed-recipients:;" || strings.Contains(m.Data, "@example.org>, ") || m.Header("Bcc") != "" {
			t.Errorf("recipients see one another: %s", m.Data)
		}
		if m.Header("Message-Id") != "<"+fingerprint("alpha@20261122T060000Z")+"@example.org>" {
			t.Errorf("another message: %s", m.Header("Message-Id"))
		}
	}
	if len(got) != 9 || got["d@example.org"] != 0 {
		t.Errorf("%v", got)
	}
}

func TestBlindCopies(t *testing.T) {
	server := services.SMTP(t)
	if err := channel(server).Send(t.Context(), letter("a@example.org", "b@example.org")); err != nil {
		t.Fatal(err)
	}
	m := server.Taken(t, 1)
	if len(m) != 1 || !slices.Equal(m[0].To, []string{"a@example.org", "b@example.org"}) || strings.Contains(m[0].Data, "a@example.org") {
		t.Errorf("%+v", m)
	}
}

func TestTheTempersOfServers(t *testing.T) {
	for _, c := range []struct {
		sentence  string
		server    []string
		again     bool // tried again: goes
		permanent bool
		doubt     bool
		arrive    int
	}{
		{"Greylisted: put off at first, taken the second time", []string{"--greylist", "1"}, true, false, false, 1},
		{"A full mailbox is for good", []string{"--full"}, false, true, false, 0},
		{"A server that does not greet can be tried again: nothing was handed over", []string{"--hang", "connect"}, false, false, false, 0},
		{"One that does not answer to the message may have taken it", []string{"--hang", "answer"}, false, false, true, 0},
		{"Cut off before the answer, the message forgotten: it is sent again", []string{"--cut", "1"}, true, false, true, 1},
		{"Cut off before the answer, the message kept: it comes twice, by the same Message-ID", []string{"--cut", "1", "--keep"}, true, false, true, 2},
	} {
		server := services.SMTP(t, c.server...)
		ch := channel(server)
		if slices.Contains(c.server, "--hang") {
			ch.Timeout = 500 * time.Millisecond
		}
		l := letter("ada@example.org")
		first := as(post(ch).Send(t.Context(), l))
		if first.Err == nil || first.Permanent != c.permanent || first.Doubt != c.doubt || first.Sent {
			t.Errorf("%s: %+v", c.sentence, first)
		}
		if c.again {
			if err := post(ch).Send(t.Context(), l); err != nil {
				t.Errorf("%s: the second time: %v", c.sentence, err)
			}
		}
		ids := map[string]bool{}
		taken := server.Taken(t, c.arrive)
		for _, m := range taken {
			ids[m.Header("Message-Id")] = true
		}
		if len(taken) != c.arrive || c.arrive > 0 && len(ids) != 1 {
			t.Errorf("%s: %d came, %v", c.sentence, len(taken), ids)
		}
	}
	nobody := SMTP{Sender: Sender{From: "a@example.org"}, Host: "127.0.0.1", Port: closedPort(t), Security: "none", Timeout: time.Second}
	if err := as(nobody.Send(t.Context(), letter("ada@example.org"))); err.Err == nil || err.Permanent || err.Doubt {
		t.Errorf("no server at all: %+v", err)
	}
}

func closedPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Whatever a tenant calls things, a header stays one header and an address one
// address.
func TestNobodyWritesHeaders(t *testing.T) {
	server := services.SMTP(t)
	nasty := []string{
		"web\r\nBcc: eve@example.org", "web\nX-Evil: 1\n\nbody", "\u202egro.elpmaxe", strings.Repeat("ü", 255), "=?utf-8?q?evil?=", "a\x00b\x7fc", "\"; <script>",
	}
	for _, s := range nasty {
		l := letter("ada@example.org")
		l.Subject, l.To[0].Name, l.List = s, s, s
		if err := channel(server).Send(t.Context(), l); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for i, m := range server.Taken(t, len(nasty)) {
		if !slices.Equal(m.To, []string{"ada@example.org"}) || m.Header("X-Evil") != "" || m.Header("Bcc") != "" {
			t.Errorf("%q: %s", nasty[i], m.Data)
		}
		parsed, err := mail.ReadMessage(strings.NewReader(m.Data))
		if err != nil {
			t.Errorf("%q: %v", nasty[i], err)
			continue
		}
		if to, err := parsed.Header.AddressList("To"); err != nil || len(to) != 1 || to[0].Address != "ada@example.org" {
			t.Errorf("%q: To %v, %v", nasty[i], to, err)
		}
		subject, err := new(mime.WordDecoder).DecodeHeader(parsed.Header.Get("Subject"))
		if err != nil || strings.ContainsAny(subject, "\r\n\u202e\x00") {
			t.Errorf("%q: subject %q, %v", nasty[i], subject, err)
		}
	}
	for _, address := range []string{"", "ada", "ada@example.org\r\nBcc: eve@example.org", "Ada <ada@example.org>", "a@b, c@d", "a b@example.org", "ada@", "@example.org", strings.Repeat("a", 250) + "@example.org", "<ada@example.org>"} {
		l := letter(address)
		if err := post(channel(server)).Send(t.Context(), l); err == nil || !as(err).Permanent {
			t.Errorf("%q: %v", address, err)
		}
	}
	if n := len(server.Taken(t, len(nasty))); n != len(nasty) {
		t.Errorf("%d mails", n)
	}
}

type trial struct {
	name string
	err  error
	sent int
}

func (c *trial) Name() string { return c.name }

func (c *trial) Send(context.Context, backup.Letter) error { c.sent++; return c.err }

func TestWhichChannel(t *testing.T) {
	soon, never, maybe := &backup.MailError{Err: errors.New("later")}, &backup.MailError{Permanent: true, Err: errors.New("no")}, &backup.MailError{Doubt: true, Err: errors.New("?")}
	partly := &backup.MailError{Sent: true, Err: errors.New("partly")}
	for _, c := range []struct {
		sentence      string
		first, second error
		log           bool
		tries         int
		want          string // who was asked
		ok            bool
	}{
		{"The first that takes it", nil, nil, false, 0, "a", true},
		{"For good: the next one", never, nil, false, 0, "ab", true},
		{"For good, even if the next is only the log", never, nil, true, 0, "ab", true},
		{"It may pass: the same one again, later", soon, nil, false, 0, "a", false},
		{"It did not pass in an hour: the next one", soon, nil, false, 6, "ab", true},
		{"It did not pass, but the log is not the owner", soon, nil, true, 6, "a", false},
		{"It may have been taken: no other may send it too", maybe, nil, false, 6, "a", false},
		{"Some were told: the others by the same channel", partly, nil, false, 6, "a", false},
		{"None takes it", never, never, false, 0, "ab", false},
	} {
		a, b := &trial{name: "a", err: c.first}, &trial{name: "b", err: c.second}
		if c.log {
			b.name = LogName
		}
		l := letter("ada@example.org")
		l.Tries = c.tries
		err := post(a, b).Send(t.Context(), l)
		got := strings.Repeat("a", a.sent) + strings.Repeat("b", b.sent)
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%s: asked %s, %v", c.sentence, got, err)
		}
	}
}
