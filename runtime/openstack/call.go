package openstack

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"staffeln/functions/backup"
)

// What is asked: the Op of errors and the label of metrics.
const (
	opConnect      = "connect"
	opAuthenticate = "authenticate"
	opVersions     = "show versions"
	opRights       = "check rights"
	opListProjects = "list projects"
	opShowProject  = "show project"
	opShowDomain   = "show domain"
	opListServers  = "list servers"
	opShowServer   = "show server"
	opSetMetadata  = "set server metadata"
	opListVolumes  = "list volumes"
	opShowVolume   = "show volume"
	opListBackups  = "list backups"
	opShowBackup   = "show backup"
	opCreateBackup = "create backup"
	opDeleteBackup = "delete backup"
	opShowQuota    = "show quota"
	opListServices = "list services"
)

// An api is one of the three services that are asked.
type api struct {
	// name is in complaints, kinds are its types in the catalogue, the first one
	// there wins, and root is its path where the catalogue has no version.
	name  string
	kinds []string
	root  string
}

var (
	keystoneAPI = api{name: "keystone"}
	novaAPI     = api{name: "compute", kinds: []string{"compute"}, root: "v2.1"}
	cinderAPI   = api{name: "volumev3", kinds: []string{"volumev3", "block-storage", "block-store", "volume"}, root: "v3"}
)

// maxAnswer bounds an answer's body, in bytes. A page of 1000 servers is 2 to 4 MB.
const maxAnswer = 64 << 20

// An ask is one call.
type ask struct {
	op     string
	api    api
	method string
	// url is the whole address where it is not path below the API's root.
	url   string
	path  string
	query url.Values
	body  any
	// ok are the statuses of success; 200 where empty.
	ok []int
	// thing says that the call is about one thing, named by an id, so that a 404
	// means that it is gone.
	thing bool
	// plain leaves the microversion out.
	plain bool
	// admin says that the answer is only complete for an admin.
	admin bool
	// left says that the call may be about what a deleted project has left; see
	// [Cloud.outlived].
	left bool
}

func (a ask) write() bool {
	return a.method != http.MethodGet && a.op != opAuthenticate
}

// An answer is what came back with a status that was hoped for.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// do makes a call in a scope. A refused token is replaced once: Keystone takes
// tokens back when a password, a role or a project changes.
func (c *Cloud) do(ctx context.Context, scope string, a ask) (answer, error) {
	for again := true; ; again = false {
		s, err := c.sessions.get(ctx, scope)
		if err != nil {
			return answer{}, err
		}
		if a.admin && !c.isAdmin(s) {
			// Cinder would answer with the home project's rows alone, as if complete.
			return answer{}, &backup.CloudError{Fault: backup.Operator, Op: a.op,
				Message: "the service user has lost the role " + strings.Join(c.adminRoles, " or ") + " since the start"}
		}
		got, err := c.send(ctx, s, a)
		e, ok := errors.AsType[*backup.CloudError](err)
		if !ok || e.Status != http.StatusUnauthorized {
			return got, err
		}
		c.sessions.drop(scope, s)
		if !again {
			return got, err
		}
		c.log.Debug("token refused", "project", scope, "why", e.Message)
	}
}

// send makes one call with a session's token.
func (c *Cloud) send(ctx context.Context, s *session, a ask) (answer, error) {
	address, version, err := c.address(s, a)
	if err != nil {
		return answer{}, &backup.CloudError{Fault: backup.Operator, Op: a.op, Message: err.Error()}
	}
	if a.ok == nil {
		a.ok = []int{http.StatusOK}
	}
	o := &gophercloud.RequestOpts{OkCodes: a.ok, KeepResponseBody: true, MoreHeaders: version}
	if a.body != nil {
		o.JSONBody = a.body
	}
	resp, err := s.client.Request(context.WithValue(ctx, opKey{}, a.op), a.method, address, o)
	if e, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err); ok {
		body := e.Body
		if s.client.TokenID != "" { // before it is shortened: part of a token is one too much
			body = bytes.ReplaceAll(body, []byte(s.client.TokenID), []byte("***"))
		}
		return answer{}, c.refusal(a, e.Actual, e.ResponseHeader, body)
	}
	if err != nil {
		return answer{}, c.noAnswer(a, err)
	}
	body, err := io.ReadAll(resp.Body) // in memory already, see wire
	if err != nil {
		return answer{}, c.noAnswer(a, err)
	}
	return answer{resp.StatusCode, resp.Header, body}, nil
}

// address is where a call goes and the headers that say in which microversion.
func (c *Cloud) address(s *session, a ask) (string, map[string]string, error) {
	var root string
	headers := map[string]string{}
	switch a.api.name {
	case keystoneAPI.name:
		root = c.keystone
	case novaAPI.name:
		if s.novaErr != nil {
			return "", nil, s.novaErr
		}
		root = s.nova
		headers["OpenStack-API-Version"] = "compute " + c.nova.String()
		// Nova knows the newer header from 2.27 on only.
		headers["X-OpenStack-Nova-API-Version"] = c.nova.String()
	case cinderAPI.name:
		if s.cinderErr != nil {
			return "", nil, s.cinderErr
		}
		root = s.cinder
		headers["OpenStack-API-Version"] = "volume " + c.cinder.String()
	}
	if a.plain {
		headers = nil
	}
	address := or(a.url, root+a.path)
	if len(a.query) > 0 {
		address += "?" + a.query.Encode()
	}
	return address, headers, nil
}

// newClient is the HTTP client all sessions share. It follows no redirect: the
// token would go where OpenStack's catalogue did not send it, and a write would
// become a GET.
func newClient(o Options) *http.Client {
	next := o.Transport
	if next == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.TLSClientConfig = o.TLS.Clone()
		t.MaxIdleConnsPerHost = 32
		t.MaxIdleConns = 128
		// Shorter than the keep-alive of the servers and proxies in front of
		// OpenStack: a connection they have closed would put a write in doubt.
		t.IdleConnTimeout = 20 * time.Second
		next = t
	}
	return &http.Client{
		Transport:     &wire{next: next, limiter: o.Limiter, observe: o.Observe, timeout: o.Timeout},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

type opKey struct{}

// wire is what every call goes through: it waits for leave, bounds the time and
// the size, reads the whole answer and tells what was seen.
type wire struct {
	next    http.RoundTripper
	limiter Limiter
	observe func(string, int, time.Duration)
	timeout time.Duration
}

// A wireError is a call without an answer, or with one that was cut off.
type wireError struct {
	// sent says that the request may have reached the other end.
	sent bool
	// status is 0 where there was no answer.
	status int
	words  string
}

func (e *wireError) Error() string { return e.words }

func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	op, _ := req.Context().Value(opKey{}).(string)
	if w.limiter != nil {
		if err := w.limiter.Wait(req.Context()); err != nil {
			if req.Body != nil {
				req.Body.Close()
			}
			return nil, &wireError{words: "not asked: " + err.Error()}
		}
	}
	ctx, cancel := context.WithTimeout(req.Context(), w.timeout)
	defer cancel()
	// Only our own transport is known to tell when it has a connection.
	_, known := w.next.(*http.Transport)
	var sent atomic.Bool
	sent.Store(!known)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent.Store(true) }})

	start := time.Now()
	status := 0
	if w.observe != nil {
		defer func() { w.observe(op, status, time.Since(start)) }()
	}
	resp, err := w.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return nil, &wireError{sent: sent.Load() && !neverSent(err), words: w.words(req.Context(), ctx, err)}
	}
	defer resp.Body.Close()
	status = resp.StatusCode
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case len(body) > maxAnswer:
		return nil, &wireError{sent: true, status: status, words: fmt.Sprintf("an answer of more than %d MiB", maxAnswer>>20)}
	case err != nil && status < 300:
		return nil, &wireError{sent: true, status: status, words: "the answer was cut off: " + w.words(req.Context(), ctx, err)}
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// neverSent knows the errors of the time before a request is written.
func neverSent(err error) bool {
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "dial" {
		return true
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return true
	}
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	return ok
}

// words says why there is no answer.
func (w *wire) words(caller, call context.Context, err error) string {
	switch {
	case caller.Err() != nil:
		return "given up: " + caller.Err().Error()
	case errors.Is(call.Err(), context.DeadlineExceeded):
		return fmt.Sprintf("no answer within %s", w.timeout)
	}
	return err.Error()
}

// noAnswer is the error of a call that got none.
func (c *Cloud) noAnswer(a ask, err error) error {
	e := &backup.CloudError{Fault: backup.Retry, Op: a.op, Message: c.say(err.Error())}
	w, ok := errors.AsType[*wireError](err)
	if !ok { // gophercloud could not even make the request
		return e
	}
	e.Message, e.Status = c.say(w.words), w.status
	if w.sent && a.write() {
		e.Fault = backup.Doubt
	}
	return e
}

// bad is the error of an answer that says success and cannot be read. What was
// asked for may have been done.
func (a ask) bad(status int, err error) error {
	e := &backup.CloudError{Fault: backup.Retry, Op: a.op, Status: status, Message: clean(err.Error())}
	if a.write() {
		e.Fault = backup.Doubt
	}
	return e
}

// issued knows the tokens of Keystone, Fernet's and JWS's, whosever they are.
var issued = regexp.MustCompile(`gAAAA[A-Za-z0-9_=-]{8,}|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_.-]*`)

// say makes one bounded line of words of others, without the password and without
// tokens: Keystone cites the values it finds malformed.
func (c *Cloud) say(words string) string {
	words = issued.ReplaceAllString(words, "***")
	if p := c.opts.Auth.Password; p != "" {
		words = strings.ReplaceAll(words, p, "***")
	}
	return clean(words)
}
