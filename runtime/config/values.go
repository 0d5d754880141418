package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/mail"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// A Zone is a time zone by its IANA name. The zero Zone is UTC.
type Zone struct{ location *time.Location }

// Location is the zone as package time knows it.
func (z Zone) Location() *time.Location {
	if z.location == nil {
		return time.UTC
	}
	return z.location
}

// String is the zone's name.
func (z Zone) String() string { return z.Location().String() }

// UnmarshalText reads an IANA name. The host's own zone ("Local") is refused: it
// would make the schedule depend on where the process runs.
func (z *Zone) UnmarshalText(text []byte) error {
	name := string(text)
	location, err := time.LoadLocation(name)
	if err != nil || name == "Local" || name == "" {
		return errors.New("want the name of a zone in the IANA database such as UTC or Europe/Berlin")
	}
	z.location = location
	return nil
}

// A URL may hold a password. It is written without it everywhere but by
// [URL.Reveal].
type URL string

// Reveal is the URL with its password.
func (u URL) Reveal() string { return string(u) }

// String is the URL with user, password and query masked: "redis://***@host:6379/0".
func (u URL) String() string {
	if u == "" {
		return ""
	}
	// {function} is not allowed in a host, and url.Parse's errors quote what they were given.
	p, err := url.Parse(strings.ReplaceAll(string(u), "{function}", "function-name"))
	if err != nil || p.Host == "" || p.Opaque != "" {
		return "***"
	}
	user, query := "", ""
	if p.User != nil {
		user = "***@"
	}
	if p.RawQuery != "" || p.Fragment != "" {
		query = "?***"
	}
	return strings.ReplaceAll(p.Scheme+"://"+user+p.Host+p.EscapedPath()+query, "function-name", "{function}")
}

// GoString is [URL.String], for %#v.
func (u URL) GoString() string { return strconv.Quote(u.String()) }

// LogValue is [URL.String], for slog.
func (u URL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// MarshalText is [URL.String], for JSON.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// A Secret is written as *** everywhere but by [Secret.Reveal].
type Secret string

// Reveal is the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String is "***"; "" where there is none.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// GoString is [Secret.String], for %#v.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// LogValue is [Secret.String], for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is [Secret.String], for JSON.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// URLs are several, by commas. A comma inside one is written %2C.
type URLs []URL

// UnmarshalText reads them; blanks around them and empty ones are passed over.
func (us *URLs) UnmarshalText(text []byte) error {
	*us = nil
	for _, s := range split(string(text)) {
		*us = append(*us, URL(s))
	}
	return atLeastOne(len(*us))
}

// A List is several words, by commas.
type List []string

// UnmarshalText reads them; blanks around them and empty ones are passed over.
func (l *List) UnmarshalText(text []byte) error {
	*l = split(string(text))
	return atLeastOne(len(*l))
}

// Addresses are e-mail addresses without names, by commas.
type Addresses []string

// UnmarshalText reads them. An address twice is one too many: it would be a slip.
func (as *Addresses) UnmarshalText(text []byte) error {
	*as = split(string(text))
	for i, a := range *as {
		if !isAddress(a) {
			return fmt.Errorf("%.80q is not an e-mail address: "+
				"want addresses such as backup@example.org, without names, by commas", a)
		}
		if slices.ContainsFunc((*as)[:i], func(b string) bool { return strings.EqualFold(a, b) }) {
			return fmt.Errorf("%.80q comes twice", a)
		}
	}
	return atLeastOne(len(*as))
}

// isAddress says whether s is one bare e-mail address.
func isAddress(s string) bool {
	if len(s) > 254 || strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) || unicode.IsSpace(r) || strings.ContainsRune(`<>()[],;:\"`, r)
	}) {
		return false
	}
	a, err := mail.ParseAddress(s)
	return err == nil && a.Address == s && a.Name == ""
}

// atLeastOne refuses a list of nothing but commas, which may be a template that
// was not filled in: an INCLUDE_PROJECTS of no project would mean all of them.
func atLeastOne(n int) error {
	if n == 0 {
		return errors.New("want at least one between the commas, or nothing at all")
	}
	return nil
}

// Limits are numbers by project id or name.
type Limits map[string]int

// UnmarshalText reads "PROJECT=NUMBER,...". The last = of each counts, for a
// project's name may hold one.
func (l *Limits) UnmarshalText(text []byte) error {
	const want = "want PROJECT=NUMBER,... with whole numbers from 0"
	*l = Limits{}
	for _, part := range split(string(text)) {
		i := strings.LastIndexByte(part, '=')
		if i < 0 {
			return fmt.Errorf("%.60q has no =: %s", part, want)
		}
		project, number := strings.TrimSpace(part[:i]), strings.TrimSpace(part[i+1:])
		n, err := strconv.ParseInt(number, 10, 32)
		if project == "" || err != nil || n < 0 {
			return fmt.Errorf("%.60q: %s", part, want)
		}
		if _, twice := (*l)[project]; twice {
			return fmt.Errorf("project %.60q comes twice", project)
		}
		(*l)[project] = int(n)
	}
	return atLeastOne(len(*l))
}

func split(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}
