package secrets

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"mime/quotedprintable"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"staffeln/testutil/services"
)

// ways are how a secret gets into a text.
var ways = map[string]func(s string) string{
	"as it is": func(s string) string { return s },
	"in a URL": func(s string) string {
		return (&url.URL{Scheme: "amqp", User: url.UserPassword("u", s), Host: "h"}).String()
	},
	"as a query": func(s string) string { return url.Values{"q": {s}}.Encode() },
	"in a path":  url.PathEscape,
	"in JSON":    func(s string) string { b, _ := json.Marshal(s); return string(b) },
	"in JSON in JSON": func(s string) string {
		a, _ := json.Marshal(s)
		b, _ := json.Marshal(string(a))
		return string(b)
	},
	"in HTML":          html.EscapeString,
	"in quotes":        strconv.Quote,
	"in a Go value":    func(s string) string { return fmt.Sprintf("%#v", struct{ Password string }{s}) },
	"as bytes":         func(s string) string { return fmt.Sprintf("%x", s) },
	"in base64":        func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	"in base64, after": func(s string) string { return base64.StdEncoding.EncodeToString([]byte("u:" + s + "!")) },
	"in base64url":     func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte("x" + s)) },
	"half of it":       func(s string) string { return s[:22] },
	"the other half":   func(s string) string { return s[len(s)-22:] },
	"in a mail": func(s string) string {
		var b strings.Builder
		w := quotedprintable.NewWriter(&b)
		_, _ = w.Write([]byte(strings.Repeat("-", 50) + s + strings.Repeat("-", 50)))
		_ = w.Close()
		return b.String()
	},
	"in a mail in base64": func(s string) string {
		all := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("-", 40) + s))
		return all[:76] + "\r\n" + all[76:]
	},
}

func TestASecretIsFoundHoweverItIsWritten(t *testing.T) {
	var m Marks
	full, plain := m.New("password"), m.Plain("token")
	for say, way := range ways {
		for _, s := range []string{full, plain} {
			if found := m.In("line one\nlevel=INFO err=" + way(s) + "\nmore"); len(found) == 0 {
				t.Errorf("%s: not found: %s", say, way(s))
			}
		}
	}
	var other Marks
	for say, way := range ways {
		if found := m.In(way(other.New("another")) + hex.EncodeToString([]byte("nothing"))); len(found) > 0 {
			t.Errorf("%s: another secret is taken for it: %v", say, found)
		}
	}
	issued := "gAAAAABqE" + strings.Repeat("aB3-_xYz", 30) + "=="
	m.Add("a token", issued)
	m.Add("a token", issued)
	for _, piece := range []string{issued, issued[:60], issued[60:200], issued[len(issued)-60:]} {
		if len(m.In("X-Auth-Token: "+piece)) == 0 {
			t.Errorf("a piece of a token is not found: %s", piece)
		}
	}
	if m.Count("a token") != 1 {
		t.Errorf("%d tokens", m.Count("a token"))
	}
}

func TestEveryTypeInRedisIsRead(t *testing.T) {
	var m Marks
	rdb := services.Redis(t)
	ctx := t.Context()
	for i, s := range []func(string) error{
		func(s string) error { return rdb.Set(ctx, "string", s, 0).Err() },
		func(s string) error { return rdb.Set(ctx, "key:"+s, 1, 0).Err() },
		func(s string) error { return rdb.HSet(ctx, "hash", "f", s).Err() },
		func(s string) error { return rdb.HSet(ctx, "fields", s, 1).Err() },
		func(s string) error { return rdb.RPush(ctx, "list", "a", s).Err() },
		func(s string) error { return rdb.SAdd(ctx, "set", s).Err() },
		func(s string) error { return rdb.Do(ctx, "ZADD", "zset", 1, s).Err() },
		func(s string) error { return rdb.Do(ctx, "XADD", "stream", "*", "f", s).Err() },
	} {
		if err := s(m.New(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
	found := map[string]bool{}
	for _, leak := range m.In(Redis(t, rdb)) {
		found[leak[:1]] = true
	}
	if len(found) != 8 {
		t.Errorf("of 8 secrets in Redis these are found: %v", found)
	}
}
