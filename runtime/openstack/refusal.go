package openstack

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"staffeln/functions/backup"
)

// maxWords bounds a message, in characters.
const maxWords = 300

// maxAfter bounds how long a Retry-After is believed.
const maxAfter = time.Hour

// refusal reads an answer whose status was not hoped for.
func (c *Cloud) refusal(a ask, status int, header http.Header, body []byte) error {
	said, openstack := readError(header.Get("Content-Type"), body)
	e := &backup.CloudError{Op: a.op, Status: status, Message: c.say(said), After: retryAfter(header.Get("Retry-After"), time.Now())}
	e.Fault = backup.Classify(status, e.Message, a.write())
	switch {
	case status < 300:
		// A success of another sort: a proxy's page, an answer cut out of a cache.
		e.Message = c.say("an unexpected success: " + said)
		e.Fault = backup.Retry
		if a.write() {
			e.Fault = backup.Doubt
		}
	case status < 400:
		e.Message = "redirected to " + host(header.Get("Location")) + ", not followed: OS_AUTH_URL or the catalogue's address is not the right one"
		e.Fault = backup.Operator
	case e.Fault == backup.Gone && !(a.thing && openstack):
		// A proxy without such a page, or a list's address: nothing is known to be gone.
		e.Fault = backup.Operator
	case e.Fault == backup.Owner && !openstack:
		// A proxy that finds the request too large, not a quota.
		e.Fault = backup.Operator
	case status == http.StatusRequestTimeout:
		e.Fault = backup.Retry // a proxy that has not got the whole request
	}
	return e
}

// noSuchPage is what the web framework below Nova and Cinder says of an address
// that it does not know (webob.exc.HTTPNotFound).
const noSuchPage = "The resource could not be found."

// readError finds OpenStack's own words in an error's body: {"itemNotFound":
// {"message"}} of Nova and Cinder, {"error": {"message"}} of Keystone, {"errors":
// [{"detail"}]} and {"message"} of other pieces. openstack says whether they
// speak of what was asked for; else the words are ours.
func readError(contentType string, body []byte) (said string, openstack bool) {
	kind, _, _ := mime.ParseMediaType(contentType)
	trimmed := bytes.TrimSpace(body)
	if len(trimmed) == 0 {
		return "an empty answer", false
	}
	if kind == "text/html" || bytes.HasPrefix(trimmed, []byte("<")) {
		if t := title.FindSubmatch(trimmed[:min(len(trimmed), 4096)]); t != nil {
			return fmt.Sprintf("an HTML page %q instead of OpenStack's JSON", backup.Line(string(t[1]), 80)), false
		}
		return "an HTML page instead of OpenStack's JSON", false
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(trimmed, &fields); err != nil {
		return fmt.Sprintf("an answer of %d bytes that is not OpenStack's JSON", len(body)), false
	}
	type words struct {
		Message     string `json:"message"`
		Detail      string `json:"detail"`
		FaultString string `json:"faultstring"`
	}
	for _, key := range sortedKeys(fields) {
		var w words
		if json.Unmarshal(fields[key], &w) == nil && w.Message != "" {
			return w.Message, !strings.HasPrefix(w.Message, noSuchPage)
		}
	}
	var list struct {
		Errors []words `json:"errors"`
	}
	if json.Unmarshal(trimmed, &list) == nil && len(list.Errors) > 0 && list.Errors[0].Detail != "" {
		return list.Errors[0].Detail, false
	}
	var flat words
	if json.Unmarshal(trimmed, &flat) == nil {
		if s := or(flat.Message, flat.FaultString); s != "" {
			return s, false
		}
	}
	return "OpenStack's JSON without a message", false
}

var title = regexp.MustCompile(`(?is)<title[^>]*>\s*(.*?)\s*</title>`)

var tags = regexp.MustCompile(`<[a-zA-Z/][^<>]*>`)

// clean makes one printable line of at most [maxWords] characters, without HTML tags.
func clean(s string) string {
	return backup.Line(tags.ReplaceAllString(s[:min(len(s), 16*maxWords)], " "), maxWords)
}

func host(location string) string {
	u, err := url.Parse(location)
	if err != nil || u.Host == "" {
		return "another page"
	}
	return backup.Line(u.Scheme+"://"+u.Host, 120)
}

// retryAfter reads the header in both its forms, seconds and a date; 0 where
// there is none or it makes no sense.
func retryAfter(s string, now time.Time) time.Duration {
	s = strings.TrimSpace(s)
	if n, err := strconv.ParseFloat(s, 64); err == nil {
		if n > maxAfter.Seconds() {
			return maxAfter
		}
		if n > 0 {
			return time.Duration(n * float64(time.Second))
		}
		return 0
	}
	at, err := http.ParseTime(s)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxAfter)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
