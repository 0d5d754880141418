package contract

import (
	"encoding/json"
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

var (
	ids   = regexp.MustCompile(`(req-)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b`)
	times = regexp.MustCompile(`\d{4}-\d\d-\d\d([T ])\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?`)
	noise = map[string]bool{"auth_key": true, "adminPass": true, "hostId": true, "audit_ids": true,
		"OS-EXT-SRV-ATTR:instance_name":  true,
		"OS-EXT-SRV-ATTR:reservation_id": true, "options": true, "service_uuid": true,
		// Told some time after the status they belong to:
		"OS-EXT-AZ:availability_zone": true, "shared_targets": true}
)

// normal takes out of an answer what differs from one run to the next: ids,
// times (but not their format), addresses, names that are the suite's own.
func (s *suite) normal(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, x := range v {
			if noise[k] {
				x = "<" + k + ">"
			}
			out[k] = s.normal(x)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = s.normal(x)
		}
		return out
	case string:
		for _, urls := range s.urls {
			for service, url := range urls {
				if service == "volume" {
					url = url[:strings.LastIndex(url, "/")]
					v = strings.ReplaceAll(v, url, "<volume>")
					v = strings.ReplaceAll(v, strings.TrimSuffix(url, "/v3"), "<volume bookmark>")
					continue
				}
				v = strings.ReplaceAll(v, url, "<"+service+">")
				if service == "compute" {
					v = strings.ReplaceAll(v, strings.TrimSuffix(url, "/v2.1"), "<compute bookmark>")
				}
			}
		}
		v = strings.ReplaceAll(v, s.tail, "<tail>")
		v = ids.ReplaceAllString(v, "<id>")
		v = times.ReplaceAllStringFunc(v, func(t string) string {
			m := times.FindStringSubmatch(t)
			return "<time" + m[1] + strings.Repeat("0", len(m[2])) + m[3] + ">"
		})
		if s.target.Host != "" {
			v = strings.ReplaceAll(v, s.target.Host, "<host>")
		}
		return v
	}
	return v
}

// dig follows keys and indexes; nil where there is nothing.
func dig(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

// steps2path reads "backups/0/id".
func steps2path(path string) []any {
	var out []any
	for _, p := range strings.Split(path, "/") {
		if n, err := strconv.Atoi(p); err == nil {
			out = append(out, n)
		} else {
			out = append(out, p)
		}
	}
	return out
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func encode(v any) []byte {
	out, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return out
}

func parse(v string) any {
	var out any
	if err := json.Unmarshal([]byte(v), &out); err != nil {
		panic(fmt.Sprintf("%v in %s", err, v))
	}
	return out
}

// statusOf is the status of the thing an answer shows.
func statusOf(v any) string {
	m, _ := v.(map[string]any)
	for _, x := range m {
		if s := text(dig(x, "status")); s != "" {
			return s
		}
	}
	return ""
}

// message is that of a refusal, of any service.
func message(v any) string {
	m, _ := v.(map[string]any)
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		if s := text(dig(m[k], "message")); s != "" {
			return s
		}
	}
	return text(dig(v, "message"))
}

// matches compares with a message in which … stands for anything.
func matches(want, got string) bool {
	var parts []string
	for _, p := range strings.Split(want, "…") {
		parts = append(parts, regexp.QuoteMeta(p))
	}
	return regexp.MustCompile("(?s)^" + strings.Join(parts, ".*") + "$").MatchString(got)
}

// within says what of want is not in got, "" for nothing.
func within(want, got any) string {
	switch want := want.(type) {
	case map[string]any:
		have, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s instead of an object", encode(got))
		}
		for k, v := range want {
			x, ok := have[k]
			if !ok {
				return "no " + k
			}
			if diff := within(v, x); diff != "" {
				return k + ": " + diff
			}
		}
	case []any:
		have, ok := got.([]any)
		if !ok || len(have) != len(want) {
			return fmt.Sprintf("%s, want %s", encode(got), encode(want))
		}
		for i := range want {
			if diff := within(want[i], have[i]); diff != "" {
				return fmt.Sprintf("[%d]: %s", i, diff)
			}
		}
	default:
		if want != got {
			return fmt.Sprintf("%s, want %s", encode(got), encode(want))
		}
	}
	return ""
}
