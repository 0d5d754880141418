package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

var usual = map[string]string{"volume": "volume 3.64", "root": "volume 3.64", "compute": "compute 2.90"}

// try does one step and compares.
func (s *suite) try(i int, st step) bool {
	if st.policy != "" {
		s.govern(s.fill(st.policy))
	}
	words := strings.SplitN(s.fill(st.ask), " ", 3)
	method, service, path := words[0], words[1], words[2]
	version := usual[service]
	if st.version != "" {
		version = strings.TrimPrefix(map[string]string{"volume": "volume ", "root": "volume ",
			"compute": "compute "}[service]+st.version, " ")
		if st.version == "-" {
			version = ""
		}
	}
	var body any
	if st.body != "" {
		body = json.RawMessage(s.fill(st.body))
	}
	failed := func(format string, args ...any) bool {
		s.t.Errorf("step %d: %s\n  %s asks %s\n  %s", i, st.say, st.as, s.fill(st.ask), fmt.Sprintf(format, args...))
		return false
	}
	var status int
	var answer any
	for end := time.Now().Add(2 * time.Minute); ; {
		status, _, answer = s.send(st.as, method, s.url(st.as, service)+path, version, body)
		if st.until == "" || st.until == "gone" && status == 404 {
			break
		}
		if status == 200 && st.until != "gone" && within(parse(s.fill(st.until)), answer) == "" {
			break
		}
		if on := statusOf(answer); status != 200 && st.until != "gone" ||
			st.via != "" && !slices.Contains(strings.Fields(st.via), on) {
			return failed("on the way to %s: %d, status %q, not one of %q", st.until, status, on, st.via)
		}
		if time.Now().After(end) {
			return failed("still not %s: %d %s", st.until, status, encode(answer))
		}
		s.target.Tick()
	}
	wrong := status != st.want || st.has != "" && within(parse(s.fill(st.has)), answer) != ""
	if wrong && s.target.MayBeLate && !s.lasts(st) {
		s.t.Logf("not tried, since it was over meanwhile: %s", st.say)
		return true
	}
	seen := map[string]any{"status": status}
	if st.loose == "" {
		seen["body"] = s.normal(answer)
	}
	s.seen[st.say] = seen
	if status != st.want {
		return failed("status %d, want %d: %s", status, st.want, encode(answer))
	}
	good := true
	if st.says != "" {
		if got := message(answer); !matches(s.fill(st.says), got) {
			good = failed("says %q\n  want %q", got, s.fill(st.says))
		}
	}
	if st.has != "" {
		if diff := within(parse(s.fill(st.has)), answer); diff != "" {
			good = failed("%s\n  in %s", diff, encode(answer))
		}
	}
	for _, p := range st.lacks {
		if dig(answer, steps2path(p)...) != nil {
			good = failed("%s is in %s", p, encode(answer))
		}
	}
	for _, k := range strings.Fields(st.keep) {
		name, path, _ := strings.Cut(k, "=")
		v := text(dig(answer, steps2path(path)...))
		if v == "" {
			return failed("nothing at %s in %s", path, encode(answer))
		}
		s.names[name] = v
	}
	return good
}

// send makes a request. The body of an answer that is no JSON is a string.
func (s *suite) send(as, method, url, version string, body any) (int, http.Header, any) {
	s.t.Helper()
	var in io.Reader
	if body != nil {
		in = bytes.NewReader(encode(body))
	}
	r, err := http.NewRequest(method, url, in)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Accept", "application/json")
	if token := s.tokens[as]; token != "" {
		r.Header.Set("X-Auth-Token", token)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if version != "" {
		r.Header.Set("OpenStack-API-Version", version)
	}
	a, err := s.target.Client.Do(r)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, url, err)
	}
	defer a.Body.Close()
	raw, err := io.ReadAll(a.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, url, err)
	}
	var out any
	if json.Unmarshal(raw, &out) != nil && len(raw) > 0 {
		out = string(raw)
	}
	return a.StatusCode, a.Header, out
}

// fill puts what was kept in the place of {names}.
func (s *suite) fill(v string) string {
	return regexp.MustCompile(`\{[a-z0-9-]+\}`).ReplaceAllStringFunc(v, func(name string) string {
		if v, ok := s.names[name[1:len(name)-1]]; ok {
			return v
		}
		s.t.Fatalf("nothing was kept as %s", name)
		return ""
	})
}
