package wire

import (
	"strconv"
	"strings"
)

// A Value is one JSON value as it was written, without white space around it; nil
// where there is none.
type Value []byte

// IsNull says that there is no value, or that it is null.
func (v Value) IsNull() bool { return len(v) == 0 || v[0] == 'n' }

// Text is what a string means; false for anything else, null too.
func (v Value) Text() (string, bool) {
	if len(v) == 0 || v[0] != '"' {
		return "", false
	}
	raw := v[1 : len(v)-1]
	if plain(raw, true) == len(raw) {
		return string(raw), true
	}
	out, _ := unquoteInto(make([]byte, 0, len(raw)), raw, -1)
	return string(out), true
}

// Optional are the members of an object that may be left out or null, and read as
// the zero value then. So does one that is of another kind than was asked for, and
// makes the lot odd.
type Optional struct{ odd bool }

// Odd says that a value was of another kind.
func (o *Optional) Odd() bool { return o.odd }

// Text is a text, "" for none.
func (o *Optional) Text(v Value) string {
	s, ok := v.Text()
	o.odd = o.odd || !ok && !v.IsNull()
	return s
}

// Int is an integer, 0 for none.
func (o *Optional) Int(v Value) int {
	if v.IsNull() {
		return 0
	}
	n, err := strconv.Atoi(string(v))
	o.odd = o.odd || err != nil
	return n
}

// Bool is a truth, false for none.
func (o *Optional) Bool(v Value) bool {
	yes := len(v) > 0 && v[0] == 't'
	o.odd = o.odd || !yes && !v.IsNull() && v[0] != 'f'
	return yes
}

// Object says whether there is an object.
func (o *Optional) Object(v Value) bool {
	yes := len(v) > 0 && v[0] == '{'
	o.odd = o.odd || !yes && !v.IsNull()
	return yes
}

// List are the elements of a list; false where there is none.
func (o *Optional) List(v Value) ([]Value, bool) {
	if v.IsNull() {
		return nil, false
	}
	all := []Value{}
	s := Scan(v)
	for s.List(); s.Element(); {
		all = append(all, s.Value())
	}
	if s.End() != nil {
		o.odd = true
		return nil, false
	}
	return all, true
}

// Texts are the elements of a list of texts, "" for null; false where there is
// none. A list that is there is never nil.
func (o *Optional) Texts(v Value) ([]string, bool) {
	values, ok := o.List(v)
	if !ok {
		return nil, false
	}
	all := make([]string, len(values))
	for i, v := range values {
		all[i] = o.Text(v)
	}
	return all, true
}

// Metadata reads metadata as Nova and Cinder write them: an object, or a list of
// {"key":, "value":}, which Cinder does for volumes and old releases of Nova did.
// A value that is not text stands as its JSON. false means that there is none to
// be read (a snapshot's is a string), which is not the same as empty.
func Metadata(v Value) (map[string]string, bool) {
	s := Scan(v)
	m := map[string]string{}
	switch {
	case s.Is('{'):
		for s.Object(); s.Next(); {
			key := string(s.Key)
			m[key] = metadataText(s.Value())
		}
	case s.Is('['):
		for s.List(); s.Element(); {
			var key, value Value
			for s.Object(); s.Next(); {
				switch string(s.Key) {
				case "key":
					key = s.Value()
				case "value":
					value = s.Value()
				default:
					s.Skip()
				}
			}
			name, ok := key.Text()
			if !ok {
				return nil, false
			}
			m[name] = metadataText(value)
		}
	default:
		return nil, false
	}
	if s.End() != nil {
		return nil, false
	}
	return m, true
}

func metadataText(v Value) string {
	if s, ok := v.Text(); ok || v.IsNull() {
		return s
	}
	return string(v)
}

// ResourceID returns the first of ids that is there, in lower case, if it is a
// UUID with hyphens. Ids reach URLs and keys: nothing else passes.
func ResourceID(ids ...string) (string, bool) {
	for _, id := range ids {
		if id == "" {
			continue
		}
		if !isUUID(id) {
			return "", false
		}
		return strings.ToLower(id), true
	}
	return "", false
}

// ProjectID returns id in lower case if it is one that Keystone makes: the 32
// hexadecimal digits of a UUID, with hyphens where it came from elsewhere.
func ProjectID(id string) (string, bool) {
	if !(len(id) == 32 && isHex(id)) && !isUUID(id) {
		return "", false
	}
	return strings.ToLower(id), true
}

func isUUID(s string) bool {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return false
	}
	return isHex(s[:8]) && isHex(s[9:13]) && isHex(s[14:18]) && isHex(s[19:23]) && isHex(s[24:])
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i] | 0x20; !('0' <= s[i] && s[i] <= '9') && !('a' <= c && c <= 'f') {
			return false
		}
	}
	return true
}
