package simcloud

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
)

// Transport reaches the cloud without a network, for clouds from [New] and for
// speed. Whatever the host of a request's address, its path counts.
func (c *Cloud) Transport() http.RoundTripper { return memory{c} }

type memory struct{ c *Cloud }

// RoundTrip lets the cloud answer in a goroutine of its own, so that a client can
// give up.
func (m memory) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	if in.Body == nil {
		in.Body = http.NoBody
	}
	in.RequestURI = r.URL.RequestURI()
	type outcome struct {
		w   *recorder
		err error
	}
	over := make(chan outcome, 1)
	go func() {
		w := &recorder{header: http.Header{}}
		defer in.Body.Close()
		defer func() {
			if p := recover(); p != nil {
				if p != http.ErrAbortHandler {
					panic(p)
				}
				over <- outcome{nil, io.ErrUnexpectedEOF}
			}
		}()
		m.c.ServeHTTP(w, in)
		over <- outcome{w, nil}
	}()
	select {
	case o := <-over:
		if err := r.Context().Err(); o.err != nil && err != nil {
			return nil, err
		}
		if o.err != nil {
			return nil, o.err
		}
		return &http.Response{Status: strconv.Itoa(o.w.status) + " " + http.StatusText(o.w.status), StatusCode: o.w.status,
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: o.w.header, Request: r,
			ContentLength: int64(o.w.body.Len()), Body: io.NopCloser(&o.w.body)}, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// recorder keeps an answer.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) { w.status = status }

func (w *recorder) Write(b []byte) (int, error) { return w.body.Write(b) }
