package simcloud

import (
	"net/http"
	"strconv"
	"strings"

	"staffeln/testutil/simcloud/api"
	"staffeln/testutil/simcloud/model"
)

// writeAnswer sends an answer, spoiled by a fault.
func writeAnswer(a api.Answer, w http.ResponseWriter, q *api.Request, f Fault) {
	h := w.Header()
	for k, v := range a.Header {
		h.Set(k, v)
	}
	if a.Status < 500 && q.Service != "identity" && a.Status != 401 {
		name := q.Service
		if name == "compute" {
			h.Set("X-OpenStack-Nova-API-Version", q.Header.Get("X-OpenStack-Nova-API-Version"))
		}
		if v := versionHeader(q); v != "" {
			h.Set("OpenStack-API-Version", v)
		}
		h.Set("Vary", "OpenStack-API-Version")
	}
	body := a.Raw
	if a.Page != nil {
		if f.Drop > 0 && a.Status == 200 {
			a.Page.Items = a.Page.Items[:max(0, len(a.Page.Items)-f.Drop)]
			a.Page.Next = ""
		}
		a.Body = a.Page.JSON()
	}
	if a.Body != nil {
		body = api.Encode(a.Body)
	}
	if body != nil {
		h.Set("Content-Type", "application/json")
	}
	status := a.Status
	if f.Status != 0 {
		status = f.Status
	}
	if f.Body != "" {
		body = []byte(f.Body)
		h.Set("Content-Type", "application/json")
	}
	for k, v := range f.Header {
		h[http.CanonicalHeaderKey(k)] = v
	}
	if f.Truncate {
		body = body[:len(body)/2]
	}
	if f.Empty {
		body = nil
		h.Del("Content-Type")
	}
	if status == 0 {
		status = 200
	}
	if status != 204 && status != 304 {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	if status != 204 && status != 304 {
		w.Write(body) //nolint:errcheck // the client's loss
	}
}

// writeDown puts a request that was to change something into the log.
func writeDown(s *model.State, q *api.Request, a api.Answer) {
	if q.Method != http.MethodGet && q.Method != http.MethodHead && !(q.Route != nil && q.Route.Open) {
		note := q.Note
		if note == "" {
			note = q.Op
			if len(q.Args) > 0 {
				note += " " + strings.Join(q.Args, " ")
			}
		}
		s.WriteLog(note + " -> " + strconv.Itoa(a.Status))
	}
}
