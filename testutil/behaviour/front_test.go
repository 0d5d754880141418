package behaviour

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A front stands between a program and the cloud: it passes everything on, puts
// its own address wherever the cloud tells one of the cloud's, and notes each
// request. What it passes on it passes on to the end, as a cloud carries on with
// what it has been asked, whatever becomes of whoever asked.
type front struct {
	auth string // where Keystone is, through this front

	mu   sync.Mutex
	seen []*request
	hook func(*request) act
}

// A request is one that went through.
type request struct {
	At           time.Time
	Method, Path string
	Query        string
	// Volume, Run, Attempt and Incremental are those of a POST of a backup.
	Volume, Run, Attempt string
	Incremental          bool
	// Status is the cloud's answer, 0 before there is one or if it was not asked.
	Status int
	// Delivered says that whoever asked got the answer.
	Delivered bool
}

// create says whether it asks for a backup.
func (r *request) create() bool { return r.Method == "POST" && strings.HasSuffix(r.Path, "/backups") }

func (r *request) String() string { return fmt.Sprintf("%s %s -> %d", r.Method, r.Path, r.Status) }

// An act is what a front does with a request beside passing it on; the zero act
// is nothing.
type act struct {
	// Before is done before the request is passed on, After when it was answered and
	// before the answer is delivered.
	Before, After func()
	// Drop cuts the connection instead of passing the request on, Cut instead of
	// delivering the answer.
	Drop, Cut bool
	// Status and Body, where Status is not 0, are answered: instead of passing the
	// request on, or, with Done, after the cloud has carried it out.
	Status int
	Body   string
	Done   bool
	// Edit changes the body of the answer.
	Edit func(body []byte) []byte
}

// front opens a front with an address for each of the cloud's.
func (s *scene) openFront() *front {
	s.t.Helper()
	f := &front{auth: s.cloud.auth}
	var pairs []string
	for _, origin := range s.cloud.origins {
		upstream, err := url.Parse(origin)
		if err != nil {
			s.t.Fatal(err)
		}
		// The replacer is made once all are listening.
		var rewrite *strings.Replacer
		var once sync.Once
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			once.Do(func() { rewrite = strings.NewReplacer(pairs...) })
			f.serve(w, r, upstream, rewrite)
		}))
		server.Start()
		s.t.Cleanup(server.Close)
		pairs = append(pairs, origin, server.URL)
	}
	f.auth = strings.NewReplacer(pairs...).Replace(s.cloud.auth)
	return f
}

// upstreams is how fronts ask the cloud. Keep-alive would hide from the cloud
// that a program was killed, and from us that a connection went stale.
var upstreams = &http.Transport{DisableKeepAlives: true, DisableCompression: true,
	DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext}

func (f *front) serve(w http.ResponseWriter, r *http.Request, upstream *url.URL, rewrite *strings.Replacer) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	req := &request{At: time.Now(), Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery}
	if req.create() {
		var in struct {
			Backup struct {
				VolumeID    string `json:"volume_id"`
				Incremental bool
				Metadata    map[string]string
			}
		}
		_ = json.Unmarshal(body, &in)
		b := in.Backup
		req.Volume, req.Incremental = b.VolumeID, b.Incremental
		req.Run, req.Attempt = b.Metadata["__staffeln_run"], b.Metadata["__staffeln_attempt"]
	}
	var a act
	f.mu.Lock()
	f.seen = append(f.seen, req)
	if f.hook != nil {
		a = f.hook(req)
	}
	f.mu.Unlock()
	if a.Before != nil {
		a.Before()
	}
	instead := func() {
		kind := "text/html"
		if json.Valid([]byte(a.Body)) {
			kind = "application/json"
		}
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(a.Status)
		_, _ = io.WriteString(w, a.Body)
	}
	switch {
	case a.Drop:
		panic(http.ErrAbortHandler)
	case a.Status != 0 && !a.Done:
		instead()
		return
	}
	out, err := http.NewRequestWithContext(context.WithoutCancel(r.Context()), r.Method,
		upstream.String()+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	out.Header, out.Host = r.Header.Clone(), r.Host
	out.Header.Del("Connection")
	resp, err := upstreams.RoundTrip(out)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	f.mu.Lock()
	req.Status = resp.StatusCode
	f.mu.Unlock()
	if strings.Contains(resp.Header.Get("Content-Type"), "json") {
		answer = []byte(rewrite.Replace(string(answer)))
	}
	if a.Edit != nil {
		answer = a.Edit(answer)
	}
	if a.After != nil {
		a.After()
	}
	if a.Cut {
		panic(http.ErrAbortHandler)
	}
	if a.Status != 0 {
		instead()
		return
	}
	for name, values := range resp.Header {
		if name != "Content-Length" && name != "Connection" {
			w.Header()[name] = values
		}
	}
	w.WriteHeader(resp.StatusCode)
	_, werr := w.Write(answer)
	f.mu.Lock()
	req.Delivered = werr == nil && r.Context().Err() == nil
	f.mu.Unlock()
}

// on has every request from now on go through hook; nil passes everything on. A
// hook is asked about one request at a time, under the front's lock: it must
// neither wait nor call the front.
func (f *front) on(hook func(*request) act) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

// once does something with the first request that matches, and passes on the
// others. match is under the same rules as a hook.
func (f *front) once(match func(*request) bool, a act) {
	done := false
	f.on(func(r *request) act {
		if done || !match(r) {
			return act{}
		}
		done = true
		return a
	})
}

// requests are copies of those seen so far that match, in the order of arrival.
func (f *front) requests(match func(*request) bool) []request {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []request
	for _, r := range f.seen {
		if match == nil || match(r) {
			out = append(out, *r)
		}
	}
	return out
}

// creates are the requests for a backup of these volumes, or of any.
func (f *front) creates(volumes ...string) []request {
	return f.requests(func(r *request) bool {
		return r.create() && (len(volumes) == 0 || slices.Contains(volumes, r.Volume))
	})
}

// checkOnce fails the test where Cinder accepted two backups for one attempt of a
// slot, or a second attempt without need.
func (f *front) checkOnce(t *testing.T, retries bool) {
	t.Helper()
	accepted := map[string]int{}
	for _, r := range f.creates() {
		if r.Run == "" {
			t.Errorf("a backup of volume %s was asked for without the name of its run", r.Volume)
		}
		if r.Status != 202 {
			continue
		}
		accepted[r.Run+" attempt "+r.Attempt]++
		if r.Attempt != "1" && !retries {
			t.Errorf("a second attempt of run %s", r.Run)
		}
	}
	for run, n := range accepted {
		if n > 1 {
			t.Errorf("Cinder accepted %d backups for run %s", n, run)
		}
	}
}
