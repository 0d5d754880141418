package cloudevents

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"staffeln/events"
	"staffeln/runtime"
)

// A Client invokes functions in containers, directly or through a FaaS gateway. It
// sends CloudEvents in binary mode and reads the status as [Handler] means it; any
// other status, and no answer at all, is a retry. How long to wait for an answer is
// the context's to say: see [runtime.Timeout].
type Client struct {
	// Base is the URL of a function, {function} standing for its name:
	// "http://gateway:8080/function/{function}", "http://{function}.staffeln.svc/".
	Base string
	// Source is the Ce-Source of what is sent; "" is "staffeln".
	Source string
	// HTTP makes the calls; nil is a client of the package's own. It must not follow
	// redirects: one that makes a GET of the POST would lose the event.
	HTTP *http.Client
}

var _ runtime.Invoker = (*Client)(nil)

var ownClient = sync.OnceValue(func() *http.Client { return HTTP(nil) })

// HTTP is an HTTP client as [Client] needs it, with its own connections; secure is nil
// for TLS as the system has it.
func HTTP(secure *tls.Config) *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 64 // one gateway is the host of all functions
	if secure != nil {
		t.TLSClientConfig = secure
	}
	return &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Invoke implements [runtime.Invoker]. Errors name the function and what was
// answered, never the URL, which may hold a password.
func (c *Client) Invoke(ctx context.Context, function string, e events.Event) error {
	target := strings.ReplaceAll(c.Base, "{function}", url.PathEscape(function))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(e.Data))
	if err != nil {
		return fmt.Errorf("invoke %s: the URL of functions is not one", function)
	}
	source := c.Source
	if source == "" {
		source = "staffeln"
	}
	req.Header["Ce-Specversion"] = []string{"1.0"}
	req.Header["Ce-Id"] = []string{encode(e.ID)}
	req.Header["Ce-Type"] = []string{encode(e.Type)}
	req.Header["Ce-Source"] = []string{encode(source)}
	req.Header["Ce-Time"] = []string{e.At.UTC().Format(time.RFC3339Nano)}
	if len(e.Data) > 0 {
		req.Header["Content-Type"] = []string{"application/json"}
	}

	client := c.HTTP
	if client == nil {
		client = ownClient()
	}
	res, err := client.Do(req)
	if err != nil {
		if outer, ok := errors.AsType[*url.Error](err); ok {
			err = outer.Err // the outer one quotes the URL
		}
		return fmt.Errorf("invoke %s: %w", function, err)
	}
	defer res.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(res.Body, 4<<10))
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10) // read to the end, the connection can be used again

	if res.StatusCode >= 200 && res.StatusCode < 300 {
		return nil
	}
	err = fmt.Errorf("invoke %s: %d: %s", function, res.StatusCode, oneLine(string(said)))
	switch res.StatusCode {
	case http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
		return events.Drop(err)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if wait := retryAfter(res.Header); wait > 0 {
			return events.Later(wait, err)
		}
	}
	return err
}

// retryAfter reads either form of the header; 0 where there is none or no sense in it.
func retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if v == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(v, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, maxWait)
	}
	if at, err := http.ParseTime(v); err == nil {
		return min(max(time.Until(at), 0), maxWait)
	}
	return 0
}
