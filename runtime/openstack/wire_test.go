package openstack

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"staffeln/functions/backup"
)

// realCloud is the fake behind a real server, over real connections: the
// handler answers what it wants to, the fake the rest.
type realCloud struct {
	*fake
	server  *httptest.Server
	handler http.HandlerFunc // may be nil
	mu      sync.Mutex
}

func startReal(t *testing.T, start func(http.Handler) *httptest.Server) *realCloud {
	r := &realCloud{fake: newFake(t)}
	r.answer = func(q request) reply {
		if name, ok := probes[q.line]; ok {
			return load(t, name).reply()
		}
		return reply{status: 404}
	}
	r.server = start(r)
	t.Cleanup(r.server.Close)
	return r
}

func (r *realCloud) handle(h http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handler = h
}

func (r *realCloud) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	h := r.handler
	r.mu.Unlock()
	// The services share one address here: the path tells them apart.
	host := cinderHost
	switch {
	case strings.HasPrefix(req.URL.Path, "/v2.1"):
		host = novaHost
	case strings.HasPrefix(req.URL.Path, "/v3/auth"), strings.HasPrefix(req.URL.Path, "/v3/projects"):
		host = keystoneHost
	}
	if h != nil && host != keystoneHost {
		h(w, req)
		return
	}
	in, _ := http.NewRequestWithContext(req.Context(), req.Method, "http://"+host+req.URL.RequestURI(), req.Body)
	in.Header = req.Header
	resp, err := r.fake.RoundTrip(in)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	body, _ := io.ReadAll(resp.Body)
	for _, h := range []string{keystoneHost, novaHost, cinderHost} {
		body = bytes.ReplaceAll(body, []byte("http://"+h), []byte(r.server.URL))
	}
	resp.Header.Del("Content-Length") // of the recording
	for k := range resp.Header {
		w.Header().Set(k, resp.Header.Get(k))
	}
	w.WriteHeader(resp.StatusCode)
	w.Write(body)
}

func (r *realCloud) options() Options {
	o := r.fake.options(Admin)
	o.Transport = nil
	o.Auth.IdentityEndpoint = r.server.URL + "/v3"
	return o
}

func (r *realCloud) connect(o Options) *Cloud {
	r.t.Helper()
	c, err := Connect(r.t.Context(), o)
	if err != nil {
		r.t.Fatal(err)
	}
	// A token for the project, so that only the call itself meets the trouble.
	if _, err := c.sessions.get(r.t.Context(), alphaProject); err != nil {
		r.t.Fatal(err)
	}
	return c
}

func both(ctx context.Context, c *Cloud) (read, write error) {
	_, read = c.Volume(ctx, alphaProject, web1Data)
	_, write = c.CreateBackup(ctx, alphaProject, backup.Request{Volume: web1Data})
	return read, write
}

func wantBoth(t *testing.T, c *Cloud, read, write backup.Fault, says string) {
	t.Helper()
	r, w := both(t.Context(), c)
	for _, e := range []*backup.CloudError{wantFault(t, r, read), wantFault(t, w, write)} {
		if !strings.Contains(e.Message, says) {
			t.Errorf("said %q, want %q", e.Message, says)
		}
	}
}

// What the network does, over real connections: a write is in doubt where, and
// only where, it may have been carried out.
func TestTheNetwork(t *testing.T) {
	hijack := func(w http.ResponseWriter, say string) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		io.WriteString(conn, say)
		conn.Close()
	}
	for _, tc := range []struct {
		name        string
		handler     http.HandlerFunc
		read, write backup.Fault
		says        string
	}{
		{"the connection ends before an answer", func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			hijack(w, "")
		}, backup.Retry, backup.Doubt, "EOF"},
		{"an answer that is none", func(w http.ResponseWriter, r *http.Request) { hijack(w, "hello\r\n\r\n") },
			backup.Retry, backup.Doubt, "malformed HTTP"},
		{"an answer that is cut off", func(w http.ResponseWriter, r *http.Request) {
			hijack(w, "HTTP/1.1 202 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"backup\": ")
		}, backup.Retry, backup.Doubt, "the answer was cut off: unexpected EOF"},
		{"an error that is cut off is still that error", func(w http.ResponseWriter, r *http.Request) {
			hijack(w, "HTTP/1.1 503 No\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"x\": ")
		}, backup.Retry, backup.Retry, "not OpenStack's JSON"},
		{"an answer without end", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(202)
			block := bytes.Repeat([]byte(" "), 1<<20)
			for range maxAnswer>>20 + 2 {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}, backup.Retry, backup.Doubt, "an answer of more than 64 MiB"},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/elsewhere", http.StatusTemporaryRedirect)
		}, backup.Operator, backup.Operator, "redirected to http://127.0.0.1:1, not followed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := startReal(t, httptest.NewServer)
			c := r.connect(r.options())
			r.handle(tc.handler)
			wantBoth(t, c, tc.read, tc.write, tc.says)
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		r := startReal(t, httptest.NewServer)
		c := r.connect(r.options())
		r.server.Close()
		wantBoth(t, c, backup.Retry, backup.Retry, "connection refused")
	})
	t.Run("no answer in time", func(t *testing.T) {
		r := startReal(t, httptest.NewServer)
		o := r.options()
		c := r.connect(o)
		c.client.Transport.(*wire).timeout = time.Second
		free := make(chan struct{})
		r.handle(func(http.ResponseWriter, *http.Request) { <-free })
		defer close(free)
		wantBoth(t, c, backup.Retry, backup.Doubt, "no answer within 1s")
	})
	t.Run("the caller gives up", func(t *testing.T) {
		r := startReal(t, httptest.NewServer)
		c := r.connect(r.options())
		free, arrived := make(chan struct{}), make(chan struct{}, 2)
		r.handle(func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-free })
		defer close(free)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			_, err := c.CreateBackup(ctx, alphaProject, backup.Request{Volume: web1Data})
			done <- err
		}()
		<-arrived
		cancel()
		if e := wantFault(t, <-done, backup.Doubt); e.Message != "given up: context canceled" {
			t.Errorf("%q", e.Message)
		}
		_, write := both(ctx, c)
		wantFault(t, write, backup.Retry) // not even sent
	})
	t.Run("a name that is not known", func(t *testing.T) {
		err := &net.DNSError{Err: "no such host", Name: "cinder.example", IsNotFound: true}
		if !neverSent(&net.OpError{Op: "dial", Err: err}) || !neverSent(err) {
			t.Error("taken for one that may have been sent")
		}
		if neverSent(&net.OpError{Op: "read", Err: io.EOF}) {
			t.Error("a broken read is taken for one that was never sent")
		}
	})
}

func TestTLS(t *testing.T) {
	r := startReal(t, func(h http.Handler) *httptest.Server {
		s := httptest.NewUnstartedServer(h)
		s.Config.ErrorLog = log.New(io.Discard, "", 0) // of the refused handshakes
		s.StartTLS()
		return s
	})
	o := r.options()
	_, err := Connect(t.Context(), o)
	if e := wantFault(t, err, backup.Retry); !strings.Contains(e.Message, "certificate") || e.Status != 0 {
		t.Errorf("%q", e)
	}
	o.TLS = r.server.Client().Transport.(*http.Transport).TLSClientConfig
	c := r.connect(o)
	// The certificate is not the expected one any more: nothing is sent.
	other := newClient(Options{TLS: &tls.Config{}, Timeout: time.Minute})
	s, err := c.sessions.get(t.Context(), alphaProject)
	if err != nil {
		t.Fatal(err)
	}
	s.client.HTTPClient = *other
	wantBoth(t, c, backup.Retry, backup.Retry, "certificate")
	o.TLS = &tls.Config{InsecureSkipVerify: true}
	r.connect(o)
}

// A connection that the other end has closed while nobody used it may swallow a
// write: that is in doubt, and never sent twice.
func TestNoWriteIsRepeatedOnAStaleConnection(t *testing.T) {
	r := startReal(t, httptest.NewServer)
	c := r.connect(r.options())
	var n atomic.Int32
	r.handle(func(w http.ResponseWriter, _ *http.Request) {
		n.Add(1)
		w.WriteHeader(202)
		fmt.Fprintf(w, `{"backup": {"id": %q}}`, fullBackup)
	})
	for range 20 {
		r.server.CloseClientConnections()
		if _, err := c.CreateBackup(t.Context(), alphaProject, backup.Request{Volume: web1Data}); err != nil {
			wantFault(t, err, backup.Doubt)
		}
	}
	if n.Load() > 20 {
		t.Errorf("%d requests for 20 calls: a write was repeated", n.Load())
	}
}

func FuzzErrorBodies(f *testing.F) {
	for _, name := range []string{"nova-server-404", "keystone-token-401", "backup-create-quota-exceeded-413", "keystone-no-such-page-404", "cinder-no-such-page-404"} {
		f.Add("application/json", 404, "3", []byte(load(f, name).reply().body))
	}
	f.Add("text/html", 502, "Sun, 22 Nov 2026 12:00:20 GMT", []byte("<html><title>\x00\xff"))
	f.Add("", 413, "-1", []byte(`{"a": {"message": "`+strings.Repeat("字", 500)+`"}}`))
	c := &Cloud{opts: Options{}}
	f.Fuzz(func(t *testing.T, kind string, status int, after string, body []byte) {
		h := http.Header{"Content-Type": {kind}, "Retry-After": {after}, "Location": {after}}
		for _, a := range []ask{{op: "x", method: "GET"}, {op: "x", method: "POST", thing: true}} {
			e := c.refusal(a, status, h, body).(*backup.CloudError)
			if e.Message == "" && len(body) == 0 || utf8.RuneCountInString(e.Message) > maxWords || e.After < 0 || e.After > maxAfter {
				t.Errorf("%+v", e)
			}
			if backup.Line(e.Message, maxWords) != e.Message {
				t.Errorf("not one printable line: %q", e.Message)
			}
			if e.Fault == backup.Gone && (!a.thing || !json.Valid(bytes.TrimSpace(body))) {
				t.Errorf("gone by %q", body)
			}
		}
	})
}

// Whatever an answer is: read in full with valid ids, or an error.
func FuzzAnswers(f *testing.F) {
	for _, name := range []string{"nova-server", "cinder-volume", "backup-show-full", "nova-servers-detail-page-1", "cinder-volumes-detail-page-1",
		"backups-detail-page-1", "cinder-quota-usage-as-tenant", "keystone-auth-projects", "keystone-token-201", "cinder-version-root"} {
		f.Add([]byte(load(f, name).reply().body))
	}
	c := &Cloud{opts: Options{Interface: "public"}, client: &http.Client{}}
	f.Fuzz(func(t *testing.T, body []byte) {
		got := answer{status: 200, header: http.Header{"X-Subject-Token": {"t"}}, body: body}
		if rows, next, err := decodePage[novaServer](got, "servers"); err == nil {
			if next != "" && !validID(next) {
				t.Errorf("marker %q", next)
			}
			for _, w := range rows {
				if id, s, err := w.read(); err == nil && (!validID(id) || !validID(s.Project) || s.Metadata == nil || s.Status == "") {
					t.Errorf("%+v", s)
				}
			}
		}
		if rows, _, err := decodePage[cinderVolume](got, "volumes"); err == nil {
			for _, w := range rows {
				if id, v, err := w.read(""); err == nil && (!validID(id) || !validID(v.Project) || v.Metadata == nil || v.Size < 0) {
					t.Errorf("%+v", v)
				}
			}
		}
		if rows, _, err := decodePage[cinderBackup](got, "backups"); err == nil {
			for _, w := range rows {
				if id, b, err := w.read("p"); err == nil && (!validID(id) || !validID(b.Project) || !validID(b.Volume) || b.Metadata == nil) {
					t.Errorf("%+v", b)
				}
			}
		}
		if s, err := c.newSession(got); err == nil && (s.client.TokenID != "t" || s.project.ID != "" && !validID(s.project.ID)) {
			t.Errorf("%+v", s)
		}
	})
}
