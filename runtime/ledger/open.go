package ledger

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const urlForms = `redis://[user:password@]host[:port][/db], redis+cluster://[user:password@]host,host... or redis+sentinel://master[:password]@sentinel,sentinel...[/db], with rediss for TLS`

// Open makes a client of the Redis that the URL names. It connects to nothing yet.
//
//	redis://[user:password@]host[:port][/db]
//	redis+cluster://[user:password@]host[:port],host[:port]...
//	redis+sentinel://master[:password]@sentinel[:port],sentinel[:port]...[/db]
//
// With rediss, rediss+cluster, rediss+sentinel all connections use TLS, with tlsConfig
// where it is not nil (for a private CA or a client certificate); without it
// tlsConfig does not matter. The password of a sentinel URL is Redis's own; the
// sentinels' is the option sentinel_password. Options follow as a query: username,
// sentinel_username, sentinel_password (sentinel only) and those of go-redis's
// ParseURL, such as pool_size=20 or read_timeout=5s.
//
// Errors never hold the URL, nor any part of it that could be a password.
func Open(rawURL string, tlsConfig *tls.Config) (redis.UniversalClient, error) {
	a, err := splitURL(rawURL)
	if err != nil {
		return nil, fmt.Errorf("redis URL: %w", err)
	}
	withTLS := func(c **tls.Config) {
		switch {
		case !a.tls:
			*c = nil
		case tlsConfig != nil:
			skip := (*c).InsecureSkipVerify
			*c = tlsConfig.Clone()
			(*c).InsecureSkipVerify = tlsConfig.InsecureSkipVerify || skip
		default:
			// Several servers, several names: the one that is called counts.
			(*c).ServerName, (*c).MinVersion = "", tls.VersionTLS12
		}
	}
	quiet := &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	switch a.kind {
	case "cluster":
		o, err := redis.ParseClusterURL(a.plain())
		if err != nil {
			return nil, a.hide(err)
		}
		withTLS(&o.TLSConfig)
		o.MaintNotificationsConfig = quiet
		return redis.NewClusterClient(o), nil
	case "sentinel":
		o, err := redis.ParseFailoverURL(a.plain())
		if err != nil {
			return nil, a.hide(err)
		}
		withTLS(&o.TLSConfig)
		return redis.NewFailoverClient(o), nil
	default:
		o, err := redis.ParseURL(a.plain())
		if err != nil {
			return nil, a.hide(err)
		}
		withTLS(&o.TLSConfig)
		o.MaintNotificationsConfig = quiet
		return redis.NewClient(o), nil
	}
}

// An address is a Redis URL in its parts. It is taken apart by hand: net/url
// refuses lists of hosts, and quotes what it refuses.
type address struct {
	kind  string // "", "cluster" or "sentinel"
	tls   bool
	user  *url.Userinfo
	hosts []string // host:port
	path  string
	query url.Values
}

func splitURL(raw string) (a address, err error) {
	scheme, rest, ok := strings.Cut(strings.TrimSpace(raw), "://")
	first, kind, _ := strings.Cut(scheme, "+")
	if !ok || first != "redis" && first != "rediss" || kind == "" && strings.Contains(scheme, "+") ||
		kind != "" && kind != "cluster" && kind != "sentinel" {
		return a, errors.New("want " + urlForms)
	}
	a.kind, a.tls = kind, first == "rediss"

	rest, query, _ := strings.Cut(rest, "?")
	if strings.Contains(query, "@") {
		// Most likely a ? inside a password, whose rest must not be taken for the
		// name of an option, and told.
		return a, errors.New("an @ after the ?: write a ? inside a password as %3F, and an @ inside an option as %40")
	}
	if a.query, err = url.ParseQuery(query); err != nil {
		return a, errors.New("the options after ? cannot be read: write them as name=value&name=value, special characters as %XX")
	}
	authority, path, _ := strings.Cut(rest, "/")
	a.path = strings.Trim(path, "/")
	if kind == "cluster" && a.path != "" {
		return a, errors.New("a cluster has no databases: end the URL after the hosts (and write a / inside a password as %2F)")
	}
	if strings.Trim(a.path, "0123456789") != "" {
		return a, errors.New("the database after / is not a number (write a / inside a password as %2F)")
	}

	hosts := authority
	if i := strings.LastIndex(authority, "@"); i >= 0 {
		hosts = authority[i+1:]
		name, password, has := strings.Cut(authority[:i], ":")
		name, err1 := url.PathUnescape(name)
		password, err2 := url.PathUnescape(password)
		if err1 != nil || err2 != nil {
			return a, errors.New("user or password cannot be read: write special characters as %XX")
		}
		if a.user = url.User(name); has {
			a.user = url.UserPassword(name, password)
		}
	}
	port := "6379"
	if kind == "sentinel" {
		port = "26379"
	}
	for h := range strings.SplitSeq(hosts, ",") {
		if h = strings.TrimSpace(h); h == "" {
			return a, errors.New("it names no host, or an empty one")
		}
		if _, _, err := net.SplitHostPort(h); err != nil {
			h = net.JoinHostPort(strings.Trim(h, "[]"), port)
		}
		host, p, err := net.SplitHostPort(h)
		if err != nil || host == "" || p == "" || strings.Trim(p, "0123456789") != "" || strings.ContainsAny(host, "@#%?\\ \"'<>{}|^`") {
			return a, errors.New("a host is not host or host:port (write special characters inside a password as %XX)")
		}
		a.hosts = append(a.hosts, h)
	}
	if kind == "" && len(a.hosts) > 1 {
		return a, errors.New("several hosts: is it redis+cluster:// or redis+sentinel://?")
	}
	if kind == "sentinel" && (a.user == nil || a.user.Username() == "") {
		return a, errors.New("sentinel: name the master, as in redis+sentinel://mymaster@host1,host2")
	}
	return a, nil
}

// plain is the URL as go-redis's parsers read it.
func (a address) plain() string {
	u := url.URL{Scheme: "redis", User: a.user, Host: a.hosts[0], Path: "/" + a.path}
	if a.tls {
		u.Scheme = "rediss"
	}
	q := url.Values{}
	for k, v := range a.query {
		q[k] = v
	}
	if len(a.hosts) > 1 {
		q["addr"] = a.hosts[1:]
	}
	if a.kind == "sentinel" {
		q.Set("master_name", a.user.Username())
		if password, ok := a.user.Password(); ok {
			q.Set("password", password)
		}
		u.User = nil
		if name := q.Get("sentinel_username"); name != "" || q.Has("sentinel_password") {
			u.User = url.UserPassword(name, q.Get("sentinel_password"))
		}
		q.Del("sentinel_username")
		q.Del("sentinel_password")
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// hide keeps of go-redis's complaint what cannot be a secret: the name of the
// option it is about. splitURL has seen to it that a password ends before them.
func (a address) hide(err error) error {
	for name := range a.query {
		if name != "" && strings.Contains(err.Error(), name) {
			return fmt.Errorf("redis URL: option %.40q is not known, or its value is not allowed", name)
		}
	}
	return errors.New("redis URL: want " + urlForms)
}
