package policy

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"staffeln/events/wire"
	"staffeln/functions/backup"
)

// read reads the request from the body. The query counts only if the body names no backup.
func (h *handler) read(r *http.Request) (backup.CheckRequest, error) {
	asked, err := backupID(r.URL.RawQuery)
	if err != nil {
		return backup.CheckRequest{}, err
	}
	contentType := r.Header["Content-Type"]
	switch encoding := r.Header.Get("Content-Encoding"); {
	case encoding != "" && !strings.EqualFold(encoding, "identity"):
		return backup.CheckRequest{}, errors.New("compressed bodies are not read")
	case len(contentType) > 1:
		return backup.CheckRequest{}, errors.New("the body is said to be of several types")
	}
	b := buffers.Get().(*buffer)
	defer b.free()
	if err := h.readBody(r, b); err != nil {
		return backup.CheckRequest{}, err
	}
	request, err := b.decode(first(contentType))
	switch {
	case err != nil:
		return backup.CheckRequest{}, err
	case request.Backup == "":
		request.Backup = asked
	case asked != "" && asked != request.Backup:
		return backup.CheckRequest{}, refused{"mismatch", "the address names one backup, and the body another"}
	}
	return request, nil
}

func first(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return all[0]
}

// backupID reads the id in the query, in lower case; "" without one.
func backupID(query string) (string, error) {
	if query == "" {
		return "", nil
	}
	id, plain := strings.CutPrefix(query, "backup_id=")
	if !plain || len(id) != len("8bd2b617-daa5-4aa3-b199-e5d6bad361fb") {
		values, err := url.ParseQuery(query)
		if err != nil {
			return "", errors.New("the query of the address cannot be read")
		}
		all, there := values["backup_id"]
		switch {
		case !there:
			return "", nil
		case len(all) > 1:
			return "", errors.New("the address names several backups")
		}
		id = all[0]
	}
	clean, ok := wire.ResourceID(id)
	if !ok {
		return "", errors.New("backup_id is not an id")
	}
	return clean, nil
}

// A buffer holds one body while it is read and decoded.
type buffer struct{ body, scratch []byte }

var buffers = sync.Pool{New: func() any { return &buffer{body: make([]byte, 0, 4<<10)} }}

// free puts the buffer back into the pool if it has the usual size.
func (b *buffer) free() {
	if cap(b.body) <= usualBody && cap(b.scratch) <= usualBody {
		buffers.Put(b)
	}
}

func (b *buffer) decode(contentType string) (p backup.CheckRequest, err error) {
	p, b.scratch, err = decode(contentType, b.body, b.scratch)
	return p, err
}

// readBody reads the whole body. It takes memory only for what has arrived, whatever length was
// announced.
func (h *handler) readBody(r *http.Request, b *buffer) error {
	tooLarge := refused{"oversize", "the body is too large"}
	b.body = b.body[:0]
	if r.ContentLength > maxBody {
		return tooLarge
	}
	large := false
	defer func() {
		if large {
			<-h.large
		}
	}()
	for {
		if len(b.body) == cap(b.body) {
			switch {
			case len(b.body) > maxBody:
				return tooLarge
			case len(b.body) >= usualBody && !large:
				select {
				case h.large <- struct{}{}:
					large = true
				default:
					return refused{"busy", "there are too many large bodies just now"}
				}
			}
			b.body = append(make([]byte, 0, max(4<<10, min(2*cap(b.body), maxBody+1))), b.body...)
		}
		n, err := r.Body.Read(b.body[len(b.body):cap(b.body)])
		b.body = b.body[:len(b.body)+n]
		switch {
		case errors.Is(err, io.EOF) && len(b.body) > maxBody:
			return tooLarge
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return errors.New("the body was cut off") // too slow, or shorter than announced
		}
	}
}
